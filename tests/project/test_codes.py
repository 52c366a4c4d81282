"""docs/reference/codes.md has the statuses and codes of the code, and no others."""

import ast
import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from tako import Message, Router, ServerConfig, TakoWs, tls
from tako.core.error_code import ErrorCode


ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "codes.md").read_text()
SERVER = [
    path
    for path in sorted((ROOT / "tako").rglob("*.py"))
    if path.parent.name not in {"client", "cli", "testing"}
    and path.relative_to(ROOT / "tako").as_posix() != "h2/client.py"
]
ANSWERS = {"HttpError", "Response", "Refusal", "_refuse", "answer", "send_headers"}
"""What is called with a status."""


def table(heading: str) -> list[list[str]]:
    """Return the rows of a section, by cell."""
    section = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def numbers(heading: str) -> set[int]:
    firsts = (cells[0] for cells in table(heading) if " to " not in cells[0])
    return {int(number) for first in firsts for number in re.findall(r"\d+", first)}


def nodes(paths: list[Path]) -> Iterator[ast.AST]:
    for path in paths:
        yield from ast.walk(ast.parse(path.read_bytes()))


def called(node: ast.Call) -> str:
    function = node.func
    return (
        function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
    )


def test_the_statuses_are_those_that_are_sent() -> None:
    sent = {
        constant.value
        for node in nodes(SERVER)
        if isinstance(node, ast.Call) and called(node) in ANSWERS and node.args
        for constant in ast.walk(node.args[0])
        if isinstance(constant, ast.Constant)
        if type(constant.value) is int and constant.value >= 100
    }
    shown = numbers("Statuses")
    assert len(sent) > 15
    assert sent <= shown
    assert shown - sent <= {100, 101, 200}  # by other ways: interim, and upgrades


def test_the_close_codes_are_those_of_the_code() -> None:
    where = {"ws", "topics"}
    paths = [path for path in SERVER if path.parent.name in where]
    known = {
        node.value
        for node in nodes([*paths, ROOT / "tako" / "errors.py"])
        if isinstance(node, ast.Constant)
        if type(node.value) is int and 1000 < node.value < 1016
    }
    assert numbers("Close codes of WebSockets") == known | {1000}


def test_what_a_session_may_send_is_the_range_of_the_table() -> None:
    (first,) = (
        cells[0] for cells in table("Close codes of WebSockets") if " to " in cells[0]
    )
    ends = [int(number) for number in re.findall(r"\d+", first)]
    for code in ends:
        assert Message.Close(code).code == code


def test_the_errors_of_http2_are_those_that_are_sent() -> None:
    sent = {
        node.attr
        for node in nodes(SERVER)
        if isinstance(node, ast.Attribute)
        if isinstance(node.value, ast.Name) and node.value.id == "ErrorCode"
    }
    rows = table("Errors of HTTP/2 streams and connections")
    shown = {name for cells in rows for name in re.findall(r"`(\w+)`", cells[0])}
    assert shown == sent
    assert shown < {*ErrorCode.__members__}


def test_what_sets_a_status_exists() -> None:
    fields = {each.name for each in dataclasses.fields(ServerConfig)}
    spaces = {"Router": Router, "TakoWs": TakoWs, "TlsCert": tls.TlsCert}
    rows = [*table("Statuses"), *table("Errors of HTTP/2 streams and connections")]
    named = {name for cells in rows for name in re.findall(r"`([\w.]+)`", cells[-1])}
    named |= set(re.findall(r"`(h2_\w+|\w+_timeout)`", PAGE))
    asked = {name for name in named if "_" in name and "." not in name}
    assert asked - {"https_redirect"} <= fields, asked - fields
    for name in named:
        space, dot, attribute = name.partition(".")
        assert not dot or hasattr(spaces[space], attribute), name
