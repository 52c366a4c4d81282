"""The clients of ``tako.testing``: what they expect, what they say, what they break."""

import sys
from collections.abc import Iterator

import pytest

import tako
from tako import Request, Response, Router, ServerConfig, TakoWs, WebSocket
from tako.testing import (
    Close,
    FrameType,
    H1Connection,
    H2Connection,
    HandshakeRefusedError,
    PeerError,
    Ping,
    RunningServer,
    WireError,
    serve,
)
from tako.testing.peer import Wire
from tests.support.patience import NEVER
from tests.support.server import Reports


MIB = 1 << 20


class Handlers:
    """A router whose sessions report how they ended."""

    def __init__(self) -> None:
        self.ended = Reports()
        self.sent = Reports()
        self.router = Router()
        self.router.get("/echo", self.echo)
        self.router.get("/pour", self.pour)
        self.router.get("/close", self.close)
        self.router.get("/", self.whole)

    def sent_so_far(self) -> list[int]:
        """Return what ``pour`` has reported."""
        counts = []
        while not self.sent.empty:
            counts.append(self.sent.get())
        return counts

    async def whole(self, _: Request) -> Response:
        return Response(200, body=b"x" * 1000)

    async def echo(self, request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            try:
                async for message in ws:
                    if isinstance(message, (str, bytes)):
                        await ws.send(message)
            except tako.ConnectionClosed:
                pass
            finally:
                self.ended.put(ws.close_code)

        return TakoWs(request, session).protocols(["v1", "v2"])

    async def pour(self, request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            try:
                for count in range(64):
                    await ws.send(bytes(MIB))
                    self.sent.put(count)
            except tako.ConnectionClosed:
                pass
            finally:
                self.ended.put(ws.close_code)

        return TakoWs(request, session)

    async def close(self, request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            await ws.send("bye")
            await ws.close(4001, "enough")
            self.ended.put(ws.close_code)

        return TakoWs(request, session)


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def server(handlers: Handlers, wire: Wire) -> Iterator[RunningServer]:
    with serve(handlers.router, wire=wire) as running:
        yield running


# -- what they expect ----------------------------------------------------------------


def test_a_message_that_does_not_come_is_missed_by_name(server: RunningServer) -> None:
    with server.connect("/echo") as ws:
        ws.echo("one")
        ws.echo(b"two")
        with pytest.raises(TimeoutError) as missed:
            ws.expect("three", timeout=0.01)
    assert str(missed.value) == "nothing within 0.01 s; before that came: 'one', b'two'"
    assert missed.value.__notes__ == ["expected: 'three'"]


def test_only_the_last_messages_are_told(server: RunningServer) -> None:
    with server.connect("/echo") as ws:
        for number in range(20):
            ws.echo(str(number))
        with pytest.raises(TimeoutError, match=r"came: \.\.\. '12', .* '19'$"):
            ws.receive(timeout=0.01)


def test_another_message_is_no_match(server: RunningServer) -> None:
    with server.connect("/echo") as ws:
        ws.send("one")
        with pytest.raises(PeerError, match="'one' instead of 'two'"):
            ws.expect("two")


def test_a_close_has_a_code_and_a_reason(server: RunningServer) -> None:
    with server.connect("/close") as ws:
        assert ws.expect_close(4001) == Close(4001, "enough")
    with (
        server.connect("/close") as ws,
        pytest.raises(PeerError, match="4001 'enough' instead of 1000"),
    ):
        ws.expect_close(1000)


def test_iteration_ends_at_the_close(server: RunningServer) -> None:
    with server.connect("/close") as ws:
        assert [*ws] == ["bye"]


def test_a_block_ends_with_a_close_and_its_answer(
    server: RunningServer, handlers: Handlers
) -> None:
    with server.connect("/echo"):
        pass
    assert handlers.ended.get() == 1000


def test_a_block_that_fails_does_not_wait(
    server: RunningServer, handlers: Handlers
) -> None:
    with pytest.raises(ZeroDivisionError), server.connect("/echo"):
        _ = 1 / 0
    assert handlers.ended.get() == 1006


def test_the_subprotocol_is_agreed(server: RunningServer) -> None:
    with server.connect("/echo", subprotocols=["v2", "v3"]) as ws:
        assert ws.subprotocol == "v2"


def test_a_refused_handshake_has_its_response(server: RunningServer) -> None:
    with pytest.raises(HandshakeRefusedError) as refused:
        server.connect("/nowhere")
    assert refused.value.response.status == 404


def test_several_sockets_share_a_connection_of_http_2() -> None:
    with (
        serve(Handlers().router, wire="h2") as server,
        server.connection() as connection,
    ):
        sockets = [connection.websocket("/echo") for _ in range(3)]
        for ws in sockets:
            ws.send("hello")
        for ws in reversed(sockets):
            ws.expect("hello")
            ws.close()
            ws.expect_close(1000)


def test_the_end_of_one_socket_is_not_that_of_its_siblings() -> None:
    with (
        serve(Handlers().router, wire="h2") as server,
        server.connection() as connection,
        connection.websocket("/echo") as one,
    ):
        with connection.websocket("/echo") as other:
            other.echo("hello")
        one.echo("still here")


def test_a_connection_knows_its_wire(server: RunningServer, wire: Wire) -> None:
    with server.connection() as connection:
        assert connection.wire == wire
        second = wire in {"h2", "h2c"}
        assert isinstance(connection, H2Connection if second else H1Connection)
        assert connection.request("GET", "/").body == b"x" * 1000


# -- what they break -----------------------------------------------------------------


def test_a_reset_stream(server: RunningServer, handlers: Handlers, wire: Wire) -> None:
    with server.connect("/echo") as ws:
        ws.echo("hello")
        if wire in {"h1", "h1s"}:
            with pytest.raises(WireError, match=f"{wire} has none; `abort`"):
                ws.reset_stream()
        else:
            ws.reset_stream()
            assert handlers.ended.get() == 1006


def test_a_half_closed_socket(server: RunningServer, handlers: Handlers) -> None:
    with server.connect("/echo") as ws:
        ws.echo("hello")
        ws.end()
        assert handlers.ended.get() == 1006


def test_a_connection_that_is_cut(server: RunningServer, handlers: Handlers) -> None:
    with server.connect("/echo") as ws:
        ws.echo("hello")
        ws.abort()
        assert handlers.ended.get() == 1006


@pytest.mark.skipif(sys.platform != "linux", reason="Linux only")
def test_a_peer_that_vanishes(server: RunningServer, handlers: Handlers) -> None:
    with server.connect("/echo") as ws:
        ws.echo("hello")
        ws.vanish()
        server.clock.advance(45)  # it is asked after 20 s, and has 20 s to answer
        assert handlers.ended.get() == 1006


def test_a_ping_that_is_not_answered(server: RunningServer, handlers: Handlers) -> None:
    with server.connect("/echo") as ws:
        ws.echo("hello")
        ws.ignore_pings()
        server.clock.advance(23)
        if isinstance(ws.connection, H2Connection):
            wait_for_ping(ws.connection)
        else:
            assert isinstance(ws.receive(), Ping)
        server.clock.advance(22)
        assert handlers.ended.get() == 1006
        ws.abort()


def wait_for_ping(connection: H2Connection) -> None:
    while FrameType.PING not in [each.type for each in connection.frames]:
        connection.pump()


def test_pings_are_answered_else(handlers: Handlers, wire: Wire) -> None:
    config = ServerConfig(ws_ping_interval=0.05, ws_ping_timeout=NEVER)
    with (
        serve(handlers.router, wire=wire, config=config) as server,
        server.connect("/echo") as ws,
    ):
        connection = ws.connection
        if isinstance(connection, H2Connection):
            wait_for_ping(connection)
        else:
            assert isinstance(ws.receive(), Ping)
        ws.echo("hello")


def test_a_close_that_is_not_answered(handlers: Handlers, wire: Wire) -> None:
    config = ServerConfig(ws_close_timeout=0.1)
    with (
        serve(handlers.router, wire=wire, config=config) as server,
        server.connect("/close") as ws,
    ):
        ws.ignore_close()
        ws.expect_close(4001)
        assert handlers.ended.get() == 1006


def test_reads_that_stall(handlers: Handlers, wire: Wire) -> None:
    config = ServerConfig(send_timeout=0.2)
    with (
        serve(handlers.router, wire=wire, config=config) as server,
        server.connect("/pour", receive_buffer=4096, stream_window=65_535) as ws,
    ):
        ws.stall_reads()
        assert handlers.ended.get() == 1006
        assert len(handlers.sent_so_far()) < 64


def test_a_stalled_socket_of_http_1_is_not_read() -> None:
    with (
        serve(Handlers().router, wire="h1") as server,
        server.connect("/echo") as ws,
    ):
        ws.stall_reads()
        with pytest.raises(WireError, match="not read any more"):
            ws.receive()


def test_on_http_2_the_sibling_of_a_stalled_socket_is_read(handlers: Handlers) -> None:
    with (
        serve(handlers.router, wire="h2") as server,
        server.connection(stream_window=65_535) as connection,
    ):
        stalled, other = connection.websocket("/pour"), connection.websocket("/echo")
        stalled.stall_reads()
        other.echo("hello")
        other.close()
        other.expect_close(1000)
        assert handlers.ended.get() == 1000
        assert handlers.sent.empty
        stalled.abort()


@pytest.mark.parametrize("size", [1, 7])
def test_sends_in_pieces(server: RunningServer, size: int) -> None:
    with server.connect("/echo") as ws:
        ws.split_sends(size)
        ws.echo("hello " * 40)


def test_sends_that_are_slow(server: RunningServer) -> None:
    with server.connect("/echo") as ws:
        ws.split_sends(4, pause=0.001)
        ws.echo("hello")


def test_a_goaway(server: RunningServer, wire: Wire) -> None:
    with server.connection() as connection:
        if wire in {"h1", "h1s"}:
            with pytest.raises(WireError, match=f"of HTTP/2: {wire} has none"):
                connection.send_goaway()
        else:
            ws = connection.websocket("/echo")
            connection.send_goaway()
            ws.echo("what has begun goes on")
            ws.close()
            ws.expect_close(1000)
            connection.expect_closed()


def test_where_nothing_can_be_dropped_it_says_so(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with server.connection() as connection, monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "darwin")
        with pytest.raises(WireError, match="Linux"):
            connection.vanish()


def test_close_notify_is_of_tls() -> None:
    with serve(Handlers().router, wire="h1") as server:
        connection = server.connection()
        with pytest.raises(WireError, match="without"):
            connection.socket.close_notify()


def test_the_wire_that_a_server_does_not_choose_is_refused() -> None:
    config = ServerConfig(alpn=["http/1.1"])
    with (
        serve(Handlers().router, wire="h2", config=config) as server,
        pytest.raises((PeerError, OSError)),
    ):
        server.connection()
