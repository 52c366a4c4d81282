"""``server.clock.advance``: what waits for the time of the server is due, honestly."""

import logging

import pytest

import tako
from tako import Request, Router, ServerConfig, TakoWs, WebSocket
from tako.testing import H1Connection, H2Connection, Ping, serve
from tako.testing.peer import Wire
from tako.testing.peer.frames import FrameType
from tests.support.server import Reports, RuntimeName


pytestmark = pytest.mark.parametrize("runtime", ["asyncio", "trio"])


def reporting(ended: Reports) -> Router:
    async def echo(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            try:
                async for message in ws:
                    if isinstance(message, str):
                        await ws.send(message)
            except tako.ConnectionClosed:
                pass
            finally:
                ended.put(ws.close_code)

        return TakoWs(request, session)

    async def slow(_: Request) -> str:
        await tako.sleep(600)
        return "at last"

    router = Router()
    router.get("/ws", echo)
    router.get("/slow", slow)
    return router


def test_a_peer_is_given_up_without_waiting(wire: Wire, runtime: RuntimeName) -> None:
    ended = Reports()
    with (
        serve(reporting(ended), wire=wire, runtime=runtime) as server,
        server.connect("/ws") as ws,
    ):
        ws.echo("hello")
        ws.ignore_pings()
        server.clock.advance(45)  # 20 s until it is asked, 20 s for an answer
        assert ended.get() == 1006
        ws.abort()
    assert server.clock.ahead == pytest.approx(45)


def test_a_peer_is_asked_in_time(wire: Wire, runtime: RuntimeName) -> None:
    with (
        serve(reporting(Reports()), wire=wire, runtime=runtime) as server,
        server.connect("/ws") as ws,
    ):
        ws.echo("hello")
        server.clock.advance(23)
        if isinstance(ws.connection, H2Connection):
            while FrameType.PING not in [each.type for each in ws.connection.frames]:
                ws.connection.pump()
        else:
            assert isinstance(ws.receive(), Ping)
        ws.echo("still here")
        server.clock.advance(10)  # it was answered
        ws.echo("still here")


def test_an_idle_connection_ends(runtime: RuntimeName) -> None:
    config = ServerConfig(keep_alive_timeout=300)
    app = reporting(Reports())
    with (
        serve(app, wire="h1", runtime=runtime, config=config) as server,
        server.connection() as connection,
    ):
        assert isinstance(connection, H1Connection)
        assert connection.request("GET", "/nowhere").status == 404
        server.clock.advance(290)
        assert connection.request("GET", "/nowhere").status == 404
        server.clock.advance(305)
        connection.expect_closed()


def test_the_app_sleeps_by_the_same_clock(wire: Wire, runtime: RuntimeName) -> None:
    with (
        serve(reporting(Reports()), wire=wire, runtime=runtime) as server,
        server.connection() as connection,
    ):
        assert connection.request("GET", "/nowhere").status == 404
        request = connection.send_request("GET", "/slow")
        while not server.statistics.exchanges:
            server.clock.advance(0.05)
        server.clock.advance(600)
        assert request.read_response().body == b"at last"


def test_the_loop_does_not_seem_blocked(
    runtime: RuntimeName, caplog: pytest.LogCaptureFixture
) -> None:
    with serve(reporting(Reports()), runtime=runtime) as server:
        server.clock.advance(30)
    assert "blocked" not in caplog.text
    assert caplog.records == [
        record for record in caplog.records if record.levelno < logging.WARNING
    ]


def test_a_server_that_does_not_run_has_no_clock(runtime: RuntimeName) -> None:
    server = serve(reporting(Reports()), runtime=runtime)
    with pytest.raises(RuntimeError, match="a server that runs"):
        server.clock.advance(1)
    with server:
        server.clock.advance(0)
    with pytest.raises(RuntimeError):
        server.clock.advance(1)


def test_uvloop_says_that_it_has_none(runtime: RuntimeName) -> None:
    del runtime
    with (
        serve(reporting(Reports()), runtime="uvloop") as server,
        pytest.raises(RuntimeError, match="on asyncio or on trio"),
    ):
        server.clock.advance(1)
