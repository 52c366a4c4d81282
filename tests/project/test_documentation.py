"""Every module and every public name says what it is for."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
TAKO = ROOT / "tako"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in TAKO.rglob("*.py"))

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def definitions(
    tree: ast.AST, prefix: str = "", public: bool = True
) -> Iterator[tuple[str, Definition]]:
    """Yield the public definitions; what is inside a function is never public."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            visible = public and not node.name.startswith("_")
            if visible:
                yield prefix + node.name, node
            inside = visible and isinstance(node, ast.ClassDef)
            yield from definitions(node, f"{prefix}{node.name}.", inside)
        else:
            yield from definitions(node, prefix, public)


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Yield the public names without a docstring; stubs of an overload need none."""
    for name, node in definitions(tree):
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        exempt = "overload" in decorators or any(
            decorator.endswith((".setter", "override")) for decorator in decorators
        )
        if not exempt and not ast.get_docstring(node):
            yield name


@pytest.mark.parametrize("module", MODULES)
def test_module_and_its_public_names_are_documented(module: str) -> None:
    tree = ast.parse((ROOT / module).read_bytes(), module)
    assert ast.get_docstring(tree), "the module has no docstring"
    private = Path(module).stem.startswith("_") and not module.endswith("__init__.py")
    assert private or list(undocumented(tree)) == []


def test_what_is_undocumented_is_seen() -> None:
    tree = ast.parse(
        "class A:\n"
        "    def __init__(self, a): ...\n"
        "    def f(self):\n"
        '        """Say what it does."""\n'
        "        def inner(): ...\n"
        "    @property\n"
        "    def _hidden(self): ...\n"
        "    def h(self): ...\n"
        "def g(): ...\n"
    )
    assert list(undocumented(tree)) == ["A", "A.h", "g"]
