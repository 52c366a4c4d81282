"""What users write with both ends of the wire is typed, as their checkers see it."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.children import run_child
from tests.support.patience import TIMEOUT
from tests.support.pytest_runs import ROOT


PROGRAM = '''
"""A user's program, and its tests."""

import ssl
from collections.abc import Iterator
from typing import assert_type

import httpx
import pytest
import trustme

import tako
from tako.testing import (
    ClientWebSocket,
    Close,
    H2Connection,
    PeerConnection,
    PeerWebSocket,
    RunningServer,
    RuntimeName,
    Serve,
    TcpProxy,
    Wire,
    serve,
)


async def echo(request: tako.Request) -> tako.TakoWs:
    async def session(ws: tako.WebSocket) -> None:
        async for message in ws:
            match message:
                case str() | bytes():
                    await ws.send(message)
                case tako.Message.Ping(data):
                    assert_type(data, bytes)
                case _:
                    assert_type(message, tako.Message.Pong | tako.Message.Close)

    return tako.TakoWs(request, session).protocols(["v1"])


router = tako.Router()
router.get("/echo", echo)


async def client(url: str, context: ssl.SSLContext | None) -> str:
    async with tako.connect(
        url, ssl=context, subprotocols=["v1"], additional_headers={"x": "y"}
    ) as ws:
        assert_type(ws, tako.WebSocket)
        assert_type(ws.subprotocol, str | None)
        assert_type(ws.latency, float | None)
        await ws.send(b"hello")
        assert_type(await ws.read(timeout=5), tako.AnyMessage)
    other = await tako.connect(url, open_timeout=None)
    assert_type(other, tako.WebSocket)
    try:
        async for each in tako.connect(url, http_versions=("2",)):
            assert_type(each, tako.WebSocket)
            return each.http_version
    except tako.HandshakeRejected as error:
        assert_type(error.status, int)
    except tako.ConnectError as error:
        assert_type(error.step, str)
    return ""


def test_blocking(
    tako_serve: Serve, tako_wire: Wire, tako_runtime: RuntimeName, tako_ca: trustme.CA
) -> None:
    server = tako_serve(router, config=tako.ServerConfig(ws_close_timeout=1))
    assert_type(server, RunningServer)
    assert_type(server.ssl, ssl.SSLContext | None)
    with server.connect("/echo", headers=[("x", "y")], wire=tako_wire) as ws:
        assert_type(ws, PeerWebSocket)
        ws.send("hello")
        ws.expect("hello", timeout=1)
        for message in ws:
            assert_type(message, str | bytes)
        assert_type(ws.expect_close(1000), Close)
    with server.connection() as connection:
        if isinstance(connection, H2Connection):
            connection.send_goaway()
            connection.websocket("/echo").reset_stream()
    assert_type(server.client(), httpx.Client)
    assert_type(server.expect_error(ValueError, "text"), ValueError)
    proxy = server.proxy()
    assert_type(proxy, TcpProxy)
    proxy.drop()
    server.clock.advance(20)
    with serve(router, wire=tako_wire, runtime=tako_runtime, ca=tako_ca) as other:
        assert_type(other.ws_url, str)


async def test_async() -> None:
    async with (
        serve(router, wire="h2c") as server,
        server.async_connect("/echo", subprotocols=["v1"]) as ws,
        server.async_client() as http,
    ):
        assert_type(ws, ClientWebSocket)
        await ws.expect("hello", tako.Message.Pong(b""), timeout=1)
        assert_type(await ws.expect_close(1000), tako.Message.Close)
        assert_type((await http.get("/")).status_code, int)


@pytest.fixture
def connection(tako_serve: Serve) -> Iterator[PeerConnection]:
    with tako_serve(router).connection() as connection:
        yield connection
'''

WRONG = """
import tako
from tako.testing import Serve, serve


async def main(ws: tako.WebSocket) -> None:
    await ws.send(1)
    tako.connect("ws://localhost/", open_timeout="soon")
    tako.connect("ws://localhost/", http_version=("2",))


def test_it(tako_serve: Serve) -> None:
    tako_serve(1)
    serve(tako.Router(), wire="h3")
    with tako_serve(tako.Router()).connect("/") as ws:
        ws.expect(1)
        ws.nothing()
"""
FOUND = {
    ("wrong.py", number)
    for number, line in enumerate(WRONG.splitlines(), 1)
    if re.match(r" +(?!with)\S", line)
}

Found = set[tuple[str, int]]


def mypy(folder: Path) -> tuple[Found, str]:
    """Return in which lines mypy --strict finds something, and what it says."""
    done = run_child(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull),
            *("--follow-imports=silent", "--cache-dir", str(folder / "cache")),
            *("right.py", "wrong.py"),
        ],
        cwd=folder,
        env={**os.environ, "MYPYPATH": str(ROOT)},
        limit=4 * TIMEOUT,
    )
    errors = re.findall(r"^(\w+\.py):(\d+): error", done.stdout, re.MULTILINE)
    found = {(name, int(line)) for name, line in errors}
    return found, done.stdout + done.stderr


def pyright(folder: Path) -> tuple[Found, str]:
    """Return in which lines pyright finds something when strict, and what it says."""
    options = {"typeCheckingMode": "strict", "extraPaths": [str(ROOT)]}
    (folder / "pyrightconfig.json").write_text(json.dumps(options))
    done = run_child(
        [
            *(sys.executable, "-m", "pyright", "--outputjson"),
            *("--pythonpath", sys.executable, "--project", str(folder)),
        ],
        cwd=folder,
        env=dict(os.environ),
        limit=4 * TIMEOUT,
    )
    found = {
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in json.loads(done.stdout)["generalDiagnostics"]
    }
    return found, done.stdout + done.stderr


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_a_type_checker_finds_what_is_wrong_and_nothing_else(
    checker: Callable[[Path], tuple[Found, str]], tmp_path: Path
) -> None:
    pytest.importorskip(checker.__name__)
    (tmp_path / "right.py").write_text(PROGRAM)
    (tmp_path / "wrong.py").write_text(WRONG)
    found, said = checker(tmp_path)
    assert found == FOUND, said
