"""``server.proxy``: a proxy that passes on bytes, and drops connections."""

import contextlib
import ssl
from typing import Literal

import pytest

import tako
from tako import Request, Router, TakoWs, WebSocket
from tako.testing import EndOfStreamError, PeerError, StreamResetError, TcpProxy, serve
from tako.testing.peer import Wire
from tako.testing.peer.websocket import encode_frame
from tests.support.apps import echo_session
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import Reports


MIB = 1 << 20


def router(ended: Reports | None = None) -> Router:
    async def echo(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            try:
                await echo_session(ws)
            finally:
                if ended is not None:
                    ended.put(ws.close_code)

        return TakoWs(request, session)

    made = Router()
    made.get("/echo", echo)
    return made


def test_a_proxy_passes_on_what_comes_and_what_ends(wire: Wire) -> None:
    ended = Reports()
    with serve(router(ended), wire=wire) as server:
        proxy = server.proxy()
        with server.connect("/echo", through=proxy) as ws:
            ws.echo("hello")
            ws.echo(bytes(MIB))
        assert ended.get() == 1000
        with server.connection(through=proxy) as connection:
            connection.websocket("/echo").echo("hello")
            connection.half_close()
            connection.expect_closed()
        assert ended.get() == 1006
        ws = server.connect("/echo", through=proxy)
        ws.echo("hello")
        ws.abort()
        assert ended.get() == 1006


def test_a_dropped_connection_is_lost_at_both_ends(wire: Wire) -> None:
    ended = Reports()
    with serve(router(ended), wire=wire) as server:
        proxy = server.proxy()
        with server.connect("/echo", through=proxy) as ws:
            ws.echo("hello")
            proxy.drop()
            assert ended.get() == 1006
            with pytest.raises((StreamResetError, EndOfStreamError)):
                ws.receive()
        with server.connect("/echo", through=proxy) as ws:
            ws.echo("the next one is passed on")


def test_a_proxy_does_not_read_what_it_cannot_pass_on() -> None:
    with serve(router(), wire="h1") as server:
        proxy = server.proxy()
        ws = server.connect("/echo", through=proxy, receive_buffer=4096)
        message = encode_frame(2, bytes(MIB))
        with contextlib.suppress(TimeoutError):  # the server waits for us to read
            for _ in range(1000):
                ws.pipe.send(message, timeout=0.5)
        assert ws.connection.socket.bytes_sent < 100 * MIB
        ws.abort()


def test_other_clients_reach_a_proxy_by_its_urls(wire: Wire) -> None:
    with serve(router(), wire=wire) as server:
        proxy = server.proxy()
        response = server.client(base_url=proxy.url).get("/nowhere")
        assert response.status_code == 404
        assert proxy.ws_url == proxy.url.replace("http", "ws")
        assert proxy.address != server.address


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_client_that_reconnects_survives_a_proxy_that_drops(
    loop: Literal["asyncio", "trio"],
) -> None:
    async def client(proxy: TcpProxy, context: ssl.SSLContext | None) -> int:
        sockets = 0
        connect = tako.connect(f"{proxy.ws_url}/echo", ssl=context)
        async for ws in connect:
            sockets += 1
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"
            if sockets == 3:
                break
            proxy.drop()
        await connect.__aexit__(None, None, None)  # wait until nothing is left
        return sockets

    with serve(router(), wire="h2") as server:
        assert run_on(loop, client, server.proxy(), server.ssl) == 3


def test_behind_a_proxy_whose_server_is_gone_is_nothing() -> None:
    with serve(router(), wire="h1") as server:
        gone = server.address
    proxy = TcpProxy("h1", gone)
    try:
        with pytest.raises((PeerError, OSError)), serve(router(), wire="h1") as server:
            server.connect("/echo", through=proxy)
    finally:
        proxy.close()
    proxy.close()  # a no-op
