"""Builds ``tako.native.speedups`` where it can; the rest is in pyproject.toml.

The extension is a faster twin of ``tako/native/pure.py``. No Cython, no compiler, a
compile error or ``TAKO_PURE=1`` all mean the same: the install succeeds without it.
"""

import os
from pathlib import Path

from setuptools import Extension, setup


PYX = Path("tako/native/speedups.pyx")


def extensions() -> list[Extension]:
    """Return the extension to build, or nothing."""
    if os.environ.get("TAKO_PURE") == "1" or not PYX.exists():
        return []
    try:
        from Cython.Build import cythonize  # noqa: PLC0415 - may be missing
        from Cython.Compiler.Errors import CompileError  # noqa: PLC0415
    except ImportError:
        print("tako: Cython is not installed; using the pure Python byte loops")
        return []
    extension = Extension("tako.native.speedups", [PYX.as_posix()])
    try:
        built: list[Extension] = cythonize([extension], language_level=3)
    except CompileError as error:
        print(f"tako: using the pure Python byte loops; {PYX} is broken: {error}")
        return []
    for extension in built:  # set here: cythonize() does not keep it
        extension.optional = True
        if os.name == "posix":  # unmasking takes half as long again where it is unlucky
            extension.extra_compile_args = ["-falign-loops=32"]
    return built


setup(ext_modules=extensions())
