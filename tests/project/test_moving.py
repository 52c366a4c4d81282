"""docs/how-to/moving.md, from websockets and from aiohttp: both sides have the names.

The tables of options are tests/integration/test_switching.py's.
"""

import importlib
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import websockets.asyncio.server

import tako
from tako.testing import serve
from tests.project.test_how_to import HOW_TOS, programs


MOVING = HOW_TOS / "moving.md"
NAMESPACES: tuple[Any, ...] = (
    tako,
    tako.Request,
    tako.Response,
    tako.Redirect,
    tako.Router,
    tako.ServerConfig,
    tako.TakoWs,
    tako.WebSocket,
    tako.Message,
)


def rows(left: str) -> list[tuple[str, str]]:
    """Return the rows of the table whose first column is headed ``left``."""
    table = MOVING.read_text().partition(f"\n| {left} | ")[2].partition("\n\n")[0]
    pairs = (line.strip("| ").split(" | ") for line in table.splitlines()[2:])
    return [(one, other) for one, other in pairs]


def names(cells: Iterable[str]) -> set[str]:
    """Return the names in what is written as code: ``ws.send(text)``: ``send``."""
    code = " ".join(re.findall(r"`([^`]+)`", " ".join(cells)))
    return set(re.findall(r"(?<![\w.\"/])(?:\w+\.)*(\w+)(?=[\s,(=]|$)", code))


def test_every_parameter_of_websockets_has_a_row() -> None:
    parameters = {*inspect.signature(websockets.asyncio.server.serve).parameters}
    left = names(one for one, _ in rows("`websockets.serve`"))
    assert left == parameters - {"kwargs"}


def test_what_connections_of_websockets_have_exists() -> None:
    connection = websockets.asyncio.server.ServerConnection
    left = names(one for one, _ in rows("`ServerConnection`"))
    there = {*dir(connection), *dir(websockets), "broadcast", "request"}
    said = left - {"message", "code", "reason", "connections"}
    assert len(said) > 8
    assert said <= there


def test_what_aiohttp_has_exists() -> None:
    web = pytest.importorskip("aiohttp.web")
    import aiohttp

    spaces = [web, web.Application, web.Request, web.WebSocketResponse]
    there = {name for each in [*spaces, web.UrlDispatcher] for name in dir(each)}
    for each in (web.WebSocketResponse, web.Application, web.run_app):
        there |= {*inspect.signature(each).parameters}
    there |= {*dir(aiohttp.ClientSession)}
    left = names(one for one, _ in rows("aiohttp"))
    said = left - {"prefix", "sub", "app", "key", "data", "url", "text", "True"}
    assert len(said) > 25
    assert said - {"await", "raise"} <= there


@pytest.mark.parametrize(
    "left", ["`websockets.serve`", "`ServerConnection`", "aiohttp"]
)
def test_what_takes_their_place_exists(left: str) -> None:
    cells = " ".join(other for _, other in rows(left))
    code = re.findall(r"`([^`]+)`", cells)
    asked = {name for each in code for name in re.findall(r"\.(\w+)\(", each)}
    asked |= {name for each in code for name in re.findall(r"^([a-z_]+)(?:\(|$)", each)}
    asked |= {name for each in code for name in re.findall(r"\b(ws_\w+)=", each)}
    there = {name for each in NAMESPACES for name in dir(each)}
    there |= {*inspect.signature(tako.ServerConfig).parameters}
    elsewhere = {"getLogger", "dumps"}  # of the standard library
    assert asked
    assert asked - elsewhere - {"str", "bytes", "name"} <= there


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: Any) -> Any:
    """A program of the page, imported."""
    name: str = request.param
    (tmp_path / f"{name}.py").write_text(programs(MOVING)[f"{name}.py"])
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


@pytest.mark.parametrize(
    ("module", "path"),
    [("from_websockets", "/"), ("from_aiohttp", "/ws")],
    indirect=["module"],
)
def test_what_was_moved_answers_on_both_wires(module: Any, path: str) -> None:
    for wire in ("h1s", "h2"):
        with serve(module.router, wire=wire) as server:
            with server.connect(path) as ws:
                ws.send("hello")
                ws.expect("hello")
            if path == "/ws":
                answer = server.client().get("/hello/ada")
                assert answer.json() == {"hello": "ada"}
