"""Bytes to bytes: the loops that are worth compiling, each with its twin in Python.

``TAKO_PURE=1`` in the environment makes tako run from its Python source, whatever was
compiled: this package is imported before the rest of tako, and sees to it.
"""

import os
import sys
from collections.abc import Sequence
from importlib.machinery import (
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    PathFinder,
    SourceFileLoader,
)


__all__ = ["status"]


class SourceFinder:
    """Finds the source of a module of tako where a shared object would win."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        """Return where the source of ``name`` is, ``None`` outside of tako.

        Raises:
            ModuleNotFoundError: there is a shared object only.
        """
        if not name.startswith("tako."):
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None or not isinstance(spec.loader, ExtensionFileLoader):
            return spec
        folder = os.path.dirname(spec.loader.path)
        source = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name)
        if source is None:
            msg = f"{name} has no Python source, which TAKO_PURE=1 asks for"
            raise ModuleNotFoundError(msg, name=name)
        return source


if os.environ.get("TAKO_PURE") == "1":
    sys.meta_path.insert(0, SourceFinder)


def status() -> str:
    """Tell what runs: ``"native byte loops, compiled modules"``, or less of that."""
    loops = "native" if "tako.native.speedups" in sys.modules else "Python"
    modules = "compiled" if "tako__mypyc" in sys.modules else "interpreted"
    return f"{loops} byte loops, {modules} modules"
