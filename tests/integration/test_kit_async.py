"""``server.async_connect``: what an async test expects of a server."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import pytest

from tako import HandshakeRejected, Message, Request, Router, TakoWs, WebSocket
from tako.testing import (
    ClientWebSocket,
    EndOfStreamError,
    PeerError,
    RunningServer,
    serve,
)
from tako.testing.peer import Wire
from tests.support.loops import run_on
from tests.support.server import Reports


Loop = Literal["asyncio", "trio"]


def router(ended: Reports | None = None) -> Router:
    async def echo(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            try:
                async for message in ws:
                    if isinstance(message, str | bytes):
                        await ws.send(message)
            finally:
                if ended is not None:
                    ended.put(ws.close_code)

        return TakoWs(request, session).protocols(["v1", "v2"])

    async def close(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            await ws.send("bye")
            await ws.close(int(request.query_params.get("code", "4001")), "enough")

        return TakoWs(request, session)

    made = Router()
    made.get("/echo", echo)
    made.get("/close", close)
    return made


@pytest.fixture(params=["asyncio", "trio"])
def loop(request: pytest.FixtureRequest) -> Loop:
    """The loop of the test."""
    name: Loop = request.param
    return name


@pytest.fixture
def run(wire: Wire, loop: Loop) -> Callable[..., Any]:
    """Run an async test, given a server."""

    def run(
        test: Callable[[RunningServer], Awaitable[object]], app: Router | None = None
    ) -> Any:
        async def main() -> object:
            async with serve(app or router(), wire=wire) as server:
                return await test(server)

        return run_on(loop, main)

    return run


def test_it_is_the_socket_of_a_handler_on_the_wire(
    run: Callable[..., Any], wire: Wire
) -> None:
    async def test(server: RunningServer) -> None:
        async with server.async_connect("/echo", subprotocols=["v2", "v3"]) as ws:
            assert isinstance(ws, WebSocket)
            assert ws.http_version == ("2" if wire in {"h2", "h2c"} else "1.1")
            assert ws.subprotocol == "v2"
            assert ws.response is not None
            await ws.send("one")
            await ws.send(b"two")
            await ws.expect("one", b"two")
            await ws.echo("three")
            await ws.ping(b"now")
            await ws.expect(Message.Pong(b"now"))
        assert ws.close_code == 1000
        await ws.expect_close(1000)

    run(test)


def test_a_message_that_does_not_come_is_missed_by_name(
    run: Callable[..., Any],
) -> None:
    async def test(server: RunningServer) -> None:
        async with server.async_connect("/echo") as ws:
            await ws.echo("one")
            await ws.echo(b"two")
            with pytest.raises(TimeoutError) as missed:
                await ws.expect("three", timeout=0.01)
            said = "nothing within 0.01 s; before that came: 'one', b'two'"
            assert str(missed.value) == said
            assert missed.value.__notes__ == ["expected: 'three'"]
            with pytest.raises(TimeoutError, match=said):
                await ws.read(0.01)
            await ws.send("one")
            with pytest.raises(PeerError, match="'one' instead of 'two'"):
                await ws.expect("two")

    run(test)


def test_a_close_has_a_code_and_a_reason(run: Callable[..., Any]) -> None:
    async def test(server: RunningServer) -> None:
        async with server.async_connect("/close") as ws:
            assert await ws.expect_close(4001) == Message.Close(4001, "enough")
            assert await ws.expect_close() == Message.Close(4001, "enough")
        async with server.async_connect("/close") as ws:
            with pytest.raises(PeerError, match="4001 'enough' instead of 1000"):
                await ws.expect_close(1000)
        async with server.async_connect("/close") as ws:
            assert [each async for each in ws] == ["bye", Message.Close(4001, "enough")]
        async with server.async_connect("/echo") as ws:
            await ws.close(None)
            assert await ws.expect_close() == Message.Close(None)

    run(test)


def test_an_end_without_a_close_is_not_one(run: Callable[..., Any]) -> None:
    async def test(server: RunningServer) -> None:
        proxy = server.proxy()
        async with server.async_connect("/echo", through=proxy) as ws:
            await ws.echo("one")
            proxy.drop()
            with pytest.raises(EndOfStreamError, match=r"ended .* came: 'one'") as end:
                await ws.expect("two")
            assert end.value.__notes__ == ["expected: 'two'"]
            with pytest.raises(PeerError, match="ended the conversation"):
                await ws.expect_close()

    run(test)


def test_a_refused_handshake_has_its_status(run: Callable[..., Any]) -> None:
    async def test(server: RunningServer) -> None:
        with pytest.raises(HandshakeRejected) as refused:
            async with server.async_connect("/nowhere"):
                pytest.fail("the block must not begin")
        assert refused.value.status == 404

    run(test)


def test_a_proxy_of_the_environment_is_not_asked(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "ws_proxy", "wss_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)

    async def test(server: RunningServer) -> None:
        async with server.async_connect("/echo") as ws:
            await ws.echo("hello")

    run(test)


def test_a_test_that_fails_is_not_waited_for(run: Callable[..., Any]) -> None:
    ended = Reports()

    async def test(server: RunningServer) -> None:
        with pytest.raises(ZeroDivisionError):
            async with server.async_connect("/echo"):
                _ = 1 / 0
        assert ended.get() == 1011

    run(test, router(ended))


def test_several_sockets_of_a_test_talk_at_once(run: Callable[..., Any]) -> None:
    async def test(server: RunningServer) -> None:
        async with (
            server.async_connect("/echo") as one,
            server.async_connect("/echo") as other,
        ):
            for ws in (one, other, one):
                await ws.echo("hello")

    run(test)


def test_a_notebook_keeps_a_server_over_many_cells() -> None:
    # a notebook runs each cell as a part of one loop that goes on in between
    cells: dict[str, Any] = {}

    async def first_cell() -> None:
        cells["server"] = serve(router(), wire="h2").__enter__()

    async def second_cell() -> None:
        server: RunningServer = cells["server"]
        with server.connect("/echo") as ws:
            ws.echo("blocking")
        async with server.async_connect("/echo") as other:
            await other.echo("async")

    async def last_cell() -> None:
        cells["server"].__exit__(None, None, None)

    with asyncio.Runner() as kernel:
        for cell in (first_cell, second_cell, second_cell, last_cell):
            kernel.run(cell())


def test_what_async_connect_gives_is_public() -> None:
    assert ClientWebSocket.__module__ == "tako.testing"
