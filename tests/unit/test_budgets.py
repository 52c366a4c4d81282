"""Size budgets that keep the code readable, counted from the syntax trees."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest


MODULE_LINES = 450
FUNCTION_LINES = 60
LONG_FUNCTION_LINES = 40
LONG_FUNCTIONS_SHARE = 0.03
PARAMETERS = 6
MORE_PARAMETERS = {  # documented so: cert and key, or tls, and the options
    "serve_tls": 7,
    "serve_any": 9,
}
EXAMPLE_LINES = 60
RFC_CITES_PER_KLOC = 15

ROOT = Path(__file__).parents[2]
TAKO = ROOT / "tako"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in TAKO.rglob("*.py"))
EXAMPLES = sorted(path.name for path in (ROOT / "examples").glob("*.py"))

Function = ast.FunctionDef | ast.AsyncFunctionDef
Definition = Function | ast.ClassDef


class Named(NamedTuple):
    """A definition, with its path through classes and functions."""

    name: str
    node: Definition
    public: bool


def definitions(
    tree: ast.AST, prefix: str = "", public: bool = True
) -> Iterator[Named]:
    """Yield all definitions; what is inside a function is never public."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, Definition):
            visible = public and not node.name.startswith("_")
            yield Named(prefix + node.name, node, visible)
            inside = visible and isinstance(node, ast.ClassDef)
            yield from definitions(node, f"{prefix}{node.name}.", inside)
        else:
            yield from definitions(node, prefix, public)


def functions(tree: ast.AST) -> Iterator[tuple[str, Function]]:
    for name, node, _ in definitions(tree):
        if isinstance(node, Function):
            yield name, node


def length(function: Function) -> int:
    """Return the lines of ``function`` without its docstring."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def parameters(function: Function) -> int:
    """Count parameters; keyword-only ones of a constructor are named options."""
    args = function.args
    positional = [*args.posonlyargs, *args.args]
    if positional and positional[0].arg in {"self", "cls"}:
        del positional[0]
    constructor = function.name == "__init__" or any(
        isinstance(decorator, ast.Name) and decorator.id == "classmethod"
        for decorator in function.decorator_list
    )
    return len(positional) + (0 if constructor else len(args.kwonlyargs))


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Yield the public names without a docstring; stubs of an overload need none."""
    for name, node, public in definitions(tree):
        decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
        exempt = "overload" in decorators or any(
            decorator.endswith((".setter", "override")) for decorator in decorators
        )
        if public and not exempt and not ast.get_docstring(node):
            yield name


def parse(module: str) -> ast.Module:
    return ast.parse((ROOT / module).read_bytes(), module)


@pytest.mark.parametrize("module", MODULES)
def test_module_is_short_enough_to_read(module: str) -> None:
    assert len((ROOT / module).read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("module", MODULES)
def test_functions_are_short_enough_to_read(module: str) -> None:
    sizes = {name: length(function) for name, function in functions(parse(module))}
    assert {n: size for n, size in sizes.items() if size > FUNCTION_LINES} == {}


def test_long_functions_are_rare() -> None:
    sizes = {
        f"{module}:{name}": length(function)
        for module in MODULES
        for name, function in functions(parse(module))
    }
    assert sizes
    long = {name for name, size in sizes.items() if size > LONG_FUNCTION_LINES}
    assert len(long) <= LONG_FUNCTIONS_SHARE * len(sizes), long


@pytest.mark.parametrize("module", MODULES)
def test_functions_take_few_parameters(module: str) -> None:
    counts = {name: parameters(function) for name, function in functions(parse(module))}
    allowed = {name: MORE_PARAMETERS.get(name, PARAMETERS) for name in counts}
    assert {n: count for n, count in counts.items() if count > allowed[n]} == {}


@pytest.mark.parametrize("module", MODULES)
def test_module_and_its_public_names_are_documented(module: str) -> None:
    tree = parse(module)
    assert ast.get_docstring(tree), "the module has no docstring"
    private = Path(module).stem.startswith("_") and not module.endswith("__init__.py")
    assert private or list(undocumented(tree)) == []


@pytest.mark.parametrize("part", ["h1", "h2", "ws"])
def test_protocol_decisions_cite_their_rfc(part: str) -> None:
    text = "\n".join(path.read_text() for path in (TAKO / part).glob("*.py"))
    assert text.count("RFC ") * 1000 >= RFC_CITES_PER_KLOC * text.count("\n")


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_fits_on_a_page(example: str) -> None:
    source = (ROOT / "examples" / example).read_text()
    size = len(source.splitlines())
    if example == "websocket_http2.py":  # what it repeats is the point of it
        original = ast.parse((ROOT / "examples" / "websocket.py").read_text())
        shared = {"ws_echo", "ws_tick"}
        repeated = [f for name, f in functions(original) if name in shared]
        assert len(repeated) == len(shared)
        size -= sum(map(length, repeated))
    assert size <= EXAMPLE_LINES


def test_counting_is_right() -> None:
    tree = ast.parse(
        "class A:\n"
        "    def __init__(self, a, *, b, c, d, e, f, g, h): ...\n"
        "    def f(self, a, b, *, c):\n"
        '        """Two\n        lines."""\n'
        "        def inner(): ...\n"
        "        return 1\n"
        "    @property\n"
        "    def _hidden(self): ...\n"
        "def g(): ...\n"
    )
    found = dict(functions(tree))
    assert list(found) == ["A.__init__", "A.f", "A.f.inner", "A._hidden", "g"]
    assert length(found["A.f"]) == 3
    assert [parameters(found["A.__init__"]), parameters(found["A.f"])] == [1, 3]
    assert list(undocumented(tree)) == ["A", "g"]
