"""What an editor shows: ``help(tako)`` is a page, and examples use what there is."""

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import tako
from tako import asgi, proxy, testing, tls, topics


MODULES = (tako, asgi, proxy, testing, tls, topics)
_EXAMPLE = re.compile(r"^Example::\n\n((?:    .*\n?|\n)+)", re.MULTILINE)
MOST_USED = re.findall(
    r"\w+",
    """Client Headers HttpError Message Redirect Request Response Router Server
    ServerConfig Sse TakoWs WebSocket WsKeepAlive access_log bind connect run serve
    serve_tls""",
)
KINDS: dict[str, tuple[Any, ...]] = {
    "headers": (tako.Headers,),
    "request": (tako.Request,),
    "router": (tako.Router,),
    "server": (tako.Server, testing.RunningServer),
    "ws": (tako.WebSocket, testing.PeerWebSocket, testing.ClientWebSocket),
}
"""What variables of examples are called; those of tests have kinds of their own."""


def documented() -> Iterator[tuple[str, str]]:
    """Yield the name and the docstring of each public name, and of their members."""
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            yield f"{module.__name__}.{name}", inspect.getdoc(value) or ""
            if inspect.isclass(value):
                for inner, member in vars(value).items():
                    text = getattr(member, "__doc__", None)
                    if not inner.startswith("_") and isinstance(text, str):
                        yield f"{name}.{inner}", inspect.cleandoc(text)


def examples() -> list[tuple[str, str]]:
    return [
        (name, textwrap.dedent(found[1]).strip())
        for name, text in documented()
        for found in _EXAMPLE.finditer(text)
    ]


@pytest.mark.parametrize("name", MOST_USED)
def test_the_names_that_are_used_most_have_an_example(name: str) -> None:
    assert name in tako.__all__
    assert "Example::\n" in (inspect.getdoc(getattr(tako, name)) or "")


@pytest.mark.parametrize(("name", "example"), examples())
def test_an_example_uses_what_there_is(name: str, example: str) -> None:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | ast.PyCF_ONLY_AST
    inside = "async def example():\n" + "\n".join(
        f"    {line}" for line in example.splitlines()
    )
    tree = compile(inside, name, "exec", flags)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            whole = ast.unparse(node)
            first, *rest = whole.split(".")
            if first == "tako":
                found: Any = tako
                for attribute in rest:
                    found = getattr(found, attribute)
            elif isinstance(node.value, ast.Name) and node.value.id in KINDS:
                has_it(KINDS[node.value.id], node.attr)


def has_it(kinds: tuple[Any, ...], attribute: str) -> None:
    """Fail unless one has a member of that name, or says so in its docstring."""
    for kind in kinds:
        said = f"\n    {attribute}: " in (inspect.getdoc(kind) or "")
        if said or hasattr(kind, attribute):
            return
    pytest.fail(attribute)


def test_what_help_lists_is_there() -> None:
    text = tako.__doc__ or ""
    table = text.partition("Where to look")[2].partition("``tako serve")[0]
    rows = [re.split(r"\s{3,}", line.strip()) for line in table.splitlines()[1:]]
    listed = [row for row in rows if len(row) == 2]
    assert len(listed) > 10
    for what, names in listed:
        if what.startswith("tako."):
            assert isinstance(getattr(tako, what.partition(".")[2]), ModuleType)
        else:
            assert set(names.split(", ")) <= {*tako.__all__}


def test_the_program_that_help_shows_is_one() -> None:
    text = (tako.__doc__ or "").partition("on trio:\n\n")[2].partition("\nWhere to")[0]
    scope: dict[str, Any] = {"__name__": "page"}
    exec(compile(textwrap.dedent(text), "help", "exec"), scope)
    (route,) = scope["router"].routes
    assert (route.method, route.path) == ("GET", "/chat")


def test_what_can_be_awaited_says_what_a_cancellation_leaves() -> None:
    silent = []
    for module in MODULES:
        for name in module.__all__:
            value = getattr(module, name)
            found = {name: value}
            if inspect.isclass(value) and not getattr(value, "_is_protocol", False):
                found |= {
                    key: each for key, each in vars(value).items() if key[0] != "_"
                }
            for key, each in found.items():
                function = getattr(each, "__func__", each)
                if inspect.iscoroutinefunction(function):
                    text = inspect.getdoc(function) or ""
                    silent += [f"{name}.{key}"] if "Cancel safety" not in text else []
    assert silent == []
