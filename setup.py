"""Builds what is faster in C where it can; the rest is in pyproject.toml.

``tako.native.speedups`` is a faster twin of ``tako/native/pure.py``. No Cython, no
compiler, a compile error or ``TAKO_PURE=1`` all mean the same: the install succeeds
without it.

With ``TAKO_COMPILE=1`` mypyc compiles the modules below from their own source, as one
group: all of them, or, after any error, none. An editable install never does: a shared
object wins over the source beside it, edited or not.
"""

import os
from pathlib import Path

from setuptools import Distribution, Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError


PYX = Path("tako/native/speedups.pyx")

PURE = os.environ.get("TAKO_PURE") == "1"
COMPILE = os.environ.get("TAKO_COMPILE") == "1" and not PURE

MYPY = "mypy==2.4.1"  # pinned: what a newer one objects to would end the build
GROUP = "tako"  # the library of all is tako__mypyc; beside each module lies a shim
MODULES = [
    f"tako/{folder}/{name}.py"
    for folder, names in {
        "asgi": "fields scope",
        "asgi/apps": "app_facts response_steps",
        "client": "connection proxy_pipe",
        "core": "counters deadlines error_code exchange_of half_closed late_loop loop "
        "min_rate request_body response_state role seams shared_frame states turn "
        "views",
        "h1": "backpressure client endpoint engine exchange head_parser request_body "
        "request_head response_head tunnel",
        "h2": "client closed_streams endpoint engine exchange fields flow_control "
        "frames hpack lifecycle preface reader request_head response_head rules "
        "settings slow_streams stream",
        "http": "date grammar media_type pieces request_facts request_head request_of "
        "response_facts response_fields",
        "routing": "path_table route_facts router_facts",
        "runtime": "asyncio_flushes asyncio_signal",
        "server": "engines heartbeat undecided whole",
        "tcp": "connection linger",
        "tls": "client_hello client_pipe pipe server_pipe tap",
        "topics": "fan_out feed item policy",
        "ws": "assembly codec conversation handshake keep_alive origin shared",
    }.items()
    for name in names.split()
]


def extensions() -> list[Extension]:
    """Return the extension to build, or nothing."""
    if PURE or not PYX.exists():
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


def translated() -> list[Extension]:
    """Return the modules in C: a library and its shims, or nothing."""
    try:
        from mypyc.build import mypycify  # noqa: PLC0415 - may be missing
    except ImportError:
        print(f"tako: WARNING: nothing is compiled: {MYPY} is not installed")
        return []
    options = [
        "--config-file=",  # types are checked elsewhere, with all that tako can use
        "--python-version=3.11",
        "--ignore-missing-imports",
    ]
    try:
        return list(
            mypycify(
                [*options, *MODULES], opt_level="2", multi_file=True, group_name=GROUP
            )
        )
    except SystemExit as error:  # it has said why
        print(f"tako: WARNING: nothing is compiled: mypyc gave up ({error})")
        return []


class BuildExt(build_ext):
    """Builds the compiled modules, too: all or none."""

    def run(self) -> None:
        """Build both: first what may fail alone."""
        super().run()
        if not (self.inplace or self.editable_mode):
            self._leave_none()  # of an earlier build
            if COMPILE and (group := translated()):
                self._build_all(group)

    def _build_all(self, group: list[Extension]) -> None:
        command = build_ext(Distribution({"ext_modules": group}))
        command.build_lib, command.build_temp = self.build_lib, self.build_temp
        command.ensure_finalized()
        try:
            command.run()
        except (BaseError, CCompilerError) as error:
            print(f"tako: WARNING: nothing is compiled: {error}")
            self._leave_none()

    def _leave_none(self) -> None:
        """Remove the group: an old shim, or one without its library, breaks tako."""
        built = Path(self.build_lib)
        suffix = self.get_ext_filename("")
        for source in built.glob("tako/**/*.py"):
            source.with_suffix(suffix).unlink(missing_ok=True)
        (built / f"{GROUP}__mypyc{suffix}").unlink(missing_ok=True)


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildExt},
    setup_requires=[MYPY] if COMPILE else [],  # pip installs it for the build alone
)
