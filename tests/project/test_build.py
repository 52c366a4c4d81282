"""``TAKO_COMPILE=1``: what is compiled, and that it is all or nothing."""

import ast
import importlib
import inspect
import os
import pkgutil
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

import tako
from tests.support.patience import TIMEOUT


setuptools = pytest.importorskip("setuptools")

ROOT = Path(__file__).parents[2]
SUFFIX = "*.so"
COMPILE = {"TAKO_COMPILE": "1"}
COMPILER = """
from setuptools import Extension

def mypycify(arguments, **options):
    if "{gives_up}":
        raise SystemExit(1)
    return [Extension("tako.turn", ["shim.c"]), Extension("tako__mypyc", ["whole.c"])]
"""


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    """The modules that are compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TAKO_PURE", "1")
        patch.setattr(setuptools, "setup", lambda **_: None)
        listed: list[str] = runpy.run_path(str(ROOT / "setup.py"))["MODULES"]
    return {path: ast.parse((ROOT / path).read_bytes()) for path in listed}


def classes(tree: ast.Module) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def annotated(one: ast.ClassDef) -> Iterator[str]:
    """Yield the attributes that a class annotates, in its body or in its methods."""
    for node in ast.walk(one):
        if isinstance(node, ast.AnnAssign):
            target = ast.unparse(node.target)
            if node in one.body or target.startswith("self."):
                yield target.removeprefix("self.")


def test_no_coroutine_is_compiled(modules: dict[str, ast.Module]) -> None:
    # mypyc throws exceptions into what they await in a way that Python 3.12 deprecates,
    # forgets to restore the exception that is handled, and hides whether they began
    for path, tree in modules.items():
        for node in ast.walk(tree):
            where = f"{path}:{getattr(node, 'lineno', 0)}"
            assert not isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith), where


def test_no_subclass_annotates_an_attribute_again(
    modules: dict[str, ast.Module],
) -> None:
    # mypyc would have the garbage collector visit it twice, and free no cycle with it
    own: dict[str, tuple[set[str], list[str]]] = {}
    for tree in modules.values():
        for one in classes(tree):
            bases = [ast.unparse(base) for base in one.bases]
            if "Protocol" in bases:
                continue
            own[one.name] = set(annotated(one)), bases
    for name, (names, bases) in own.items():
        for base in bases:
            if base in own:
                assert not names & own[base][0], f"{name} and its base {base}"


def test_no_subclass_names_a_slot_again() -> None:
    """Whoever reads it, in the base and in the subclass, would mean something else."""
    again = set[str]()
    for found in pkgutil.walk_packages(tako.__path__, "tako."):
        module = importlib.import_module(found.name)
        for _, cls in inspect.getmembers(module, inspect.isclass):
            if cls.__module__ == found.name:
                own = cls.__dict__.get("__slots__", ())
                bases = [base.__dict__.get("__slots__", ()) for base in cls.__mro__[1:]]
                again |= {
                    f"{cls.__name__}.{n}" for slots in bases for n in slots if n in own
                }
    assert not again


def test_constants_of_compiled_modules_are_final(
    modules: dict[str, ast.Module],
) -> None:
    # mypyc looks any other up in the module's dictionary, at each use
    for path, tree in modules.items():
        for node in tree.body:
            if isinstance(node, ast.Assign):
                names = [ast.unparse(target) for target in node.targets]
                typing = "TypeVar(" in ast.unparse(node.value)
                assert typing or not any(map(str.isupper, names)), f"{path}: {names}"
            elif isinstance(node, ast.AnnAssign) and ast.unparse(node.target).isupper():
                kind = ast.unparse(node.annotation)
                assert kind.startswith("Final"), f"{path}:{node.lineno}"


def built(
    folder: Path, whole: str, env: dict[str, str], *, gives_up: bool = False
) -> str:
    """Build a package of one module whose library is ``whole``, in C."""
    shutil.copy(ROOT / "setup.py", folder)
    (folder / "tako").mkdir()
    (folder / "shim.c").write_text("int shim;\n")
    (folder / "whole.c").write_text(whole)
    (folder / "mypyc").mkdir()
    (folder / "mypyc" / "__init__.py").touch()
    said = COMPILER.format(gives_up="yes" if gives_up else "")
    (folder / "mypyc" / "build.py").write_text(said)
    source = (ROOT / "setup.py").read_text()
    pinned = re.search(r'^MYPY = "mypy==(.+?)"', source, re.MULTILINE)
    assert pinned is not None
    installed = folder / f"mypy-{pinned[1]}.dist-info"  # so that none is fetched
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: mypy\nVersion: {pinned[1]}\n"
    )
    old = folder / "lib" / "tako"  # what an earlier build may have left
    old.mkdir(parents=True)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    for module in ("turn", "gone"):
        (old / f"{module}.py").touch()
        (old / f"{module}{suffix}").touch()
    result = subprocess.run(
        [
            sys.executable,
            "setup.py",
            "build_ext",
            "--build-lib=lib",
            "--build-temp=temp",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "TAKO_PURE": "", **env},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return result.stdout


def shared(folder: Path) -> set[str]:
    return {path.name.partition(".")[0] for path in (folder / "lib").rglob(SUFFIX)}


needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


@needs_compiler
def test_all_is_compiled_where_it_is_asked_for(tmp_path: Path) -> None:
    said = built(tmp_path, "int whole;\n", COMPILE)
    assert "WARNING" not in said
    assert shared(tmp_path) == {"tako__mypyc", "turn"}


@needs_compiler
def test_a_library_that_does_not_compile_leaves_no_shim(tmp_path: Path) -> None:
    said = built(tmp_path, "#error half way\n", COMPILE)
    assert "WARNING: nothing is compiled" in said
    assert shared(tmp_path) == set()


def test_without_a_compiler_the_package_is_pure(tmp_path: Path) -> None:
    said = built(tmp_path, "int whole;\n", {**COMPILE, "CC": "false"})
    assert "WARNING: nothing is compiled" in said
    assert shared(tmp_path) == set()


def test_what_mypyc_refuses_leaves_the_package_pure(tmp_path: Path) -> None:
    said = built(tmp_path, "int whole;\n", COMPILE, gives_up=True)
    assert "WARNING: nothing is compiled" in said
    assert shared(tmp_path) == set()


@pytest.mark.parametrize(
    "env", [{}, {"TAKO_COMPILE": "0"}, {"TAKO_COMPILE": "1", "TAKO_PURE": "1"}]
)
def test_nothing_is_compiled_unless_it_is_asked_for(
    tmp_path: Path, env: dict[str, str]
) -> None:
    said = built(tmp_path, "int whole;\n", {"TAKO_COMPILE": "", **env})
    assert "WARNING" not in said
    assert shared(tmp_path) == set()
