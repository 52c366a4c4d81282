"""Upgrades to WebSocket and the pipe behind them: RFC 9110 §7.8, RFC 6455, RFC 9931."""

import gc

import pytest
from hypothesis import given, strategies as st

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.seams import PIECE, Pause
from tako.errors import Disconnected, LocalProtocolError
from tako.h1 import H1Exchange, H1Tunnel
from tako.native.loops import encode_frame
from tests.support.h1_peer import H1Peer, Handler, read_body
from tests.support.wire import FakeTask


SWITCH = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def upgrade(*fields: bytes) -> bytes:
    lines = (b"GET /ws HTTP/1.1", b"Host: a", b"Connection: upgrade")
    return b"\r\n".join((*lines, b"Upgrade: websocket", *fields, b"", b""))


class Sink:
    """The sink of an accepted upgrade: notes what it is told."""

    def __init__(self, *, hungry: bool = True) -> None:
        self.hungry = hungry
        self.tunnel: H1Tunnel
        self.data = bytearray()
        self.eof: list[Exception | None] = []
        self.wakes = 0
        self.shut = 0

    def deliver(self, data: bytes) -> None:
        self.data += data
        if self.hungry:
            self.tunnel.consumed(len(data))

    def deliver_eof(self, error: Exception | None = None) -> None:
        self.eof.append(error)

    def wake_writer(self) -> None:
        self.wakes += 1

    def shut_down(self) -> None:
        self.shut += 1


def open_with(sink: Sink) -> Handler:
    """Return a handler that accepts, and then has a conversation without end."""

    async def handler(exchange: H1Exchange) -> None:
        sink.tunnel = exchange.open_tunnel(101, SWITCH)
        sink.tunnel.receive_into(sink)
        exchange.flush()
        await exchange.connection.runtime.sleep(1e9)

    return handler


def opened(sink: Sink, config: ServerConfig | None = None) -> H1Peer:
    peer = H1Peer(open_with(sink), config)
    peer.send(upgrade())
    assert peer.take().startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    return peer


def test_it_listens_while_it_is_read() -> None:
    sink = Sink(hungry=False)
    peer = opened(sink, ServerConfig(read_buffer=1024))
    assert sink.tunnel.listening
    peer.send(bytes(1000))
    peer.send(bytes(1000))
    assert not sink.tunnel.listening
    sink.tunnel.consumed(2000)
    assert sink.tunnel.listening


# RFC 9110 §7.8: the switch


def test_101_has_what_was_given_and_a_date() -> None:
    async def handler(exchange: H1Exchange) -> None:
        sink = Sink()
        fields = [
            *SWITCH,
            (b"sec-websocket-accept", b"x"),
            (b"content-length", b"0"),
            (b"transfer-encoding", b"chunked"),
            (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
        ]
        exchange.open_tunnel(101, fields).receive_into(sink)
        assert exchange.head_sent
        assert not exchange.over
        await exchange.connection.runtime.sleep(1)

    peer = H1Peer(handler)
    peer.send(upgrade())
    assert peer.take() == (
        b"HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: x\r\n"
        b"upgrade: websocket\r\nconnection: Upgrade\r\n"
        b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n\r\n"
    )


def test_100_is_sent_before_101() -> None:
    peer = H1Peer(open_with(Sink()))
    peer.send(upgrade(b"Expect: 100-continue"))
    assert peer.take().startswith(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 Switching Protocols\r\n"
    )


@pytest.mark.parametrize("size", [None, 1])
def test_early_bytes_are_delivered_not_parsed(size: int | None) -> None:
    sink = Sink()
    peer = H1Peer(open_with(sink))
    peer.send(upgrade() + GET, size=size)
    assert sink.data == GET
    assert len(peer.exchanges) == 1


def test_early_bytes_are_delivered_behind_101() -> None:
    class Answering(Sink):
        def deliver(self, data: bytes) -> None:
            self.tunnel.send_data(b"pong")

    peer = H1Peer(open_with(Answering()))
    peer.send(upgrade() + b"ping")
    assert peer.take().endswith(b"\r\n\r\npong")


def test_early_bytes_may_end_the_tunnel() -> None:
    class Ending(Sink):
        def deliver(self, data: bytes) -> None:
            self.tunnel.send_data(b"bye", end=True)

    sink = Ending()
    peer = H1Peer(open_with(sink))
    peer.send(upgrade() + b"close")
    peer.send(b"more")
    assert peer.engine.half_closed
    assert not sink.data


def test_early_bytes_pause_reading_above_64_kib() -> None:
    accept = False
    sink = Sink(hungry=False)

    async def slow(exchange: H1Exchange) -> None:
        while not accept:
            await exchange.connection.runtime.sleep(1)
        await open_with(sink)(exchange)

    peer = H1Peer(slow)
    peer.send(upgrade() + b"x" * 100_000, size=1000)
    assert peer.connection.pauses == Pause.BODY
    assert peer.unsent > 30_000
    accept = True
    peer.runtime.advance(1)
    peer.go_on()
    assert len(sink.data) > 64 * 1024
    assert peer.connection.pauses == Pause.BODY  # still unread, only elsewhere
    sink.hungry = True
    sink.tunnel.consumed(len(sink.data))
    peer.go_on()
    assert not peer.connection.pauses
    assert len(sink.data) == 100_000


def test_early_bytes_behind_a_pipelined_request_are_delivered() -> None:
    sink = Sink()
    accept = open_with(sink)

    async def handler(exchange: H1Exchange) -> None:
        if exchange.request.is_websocket:
            await accept(exchange)
        else:
            await exchange.connection.runtime.sleep(1)
            exchange.send_headers(204, [], end=True)

    peer = H1Peer(handler)
    frames = bytes(100_000)
    peer.send(GET + upgrade() + frames)
    assert peer.connection.pauses == Pause.PIPELINE
    peer.runtime.advance(1)
    peer.go_on()
    assert sink.data == frames
    assert not peer.connection.pauses


def test_end_of_input_before_the_switch_reaches_the_tunnel() -> None:
    accept = False
    sink = Sink()

    async def slow(exchange: H1Exchange) -> None:
        while not accept:
            await exchange.connection.runtime.sleep(1)
        await open_with(sink)(exchange)

    peer = H1Peer(slow)
    peer.send(upgrade() + b"early")
    peer.engine.receive_eof()
    accept = True
    peer.runtime.advance(1)
    assert sink.data == b"early"
    assert sink.eof == [None]


# Upgrades that are refused


async def refuse(exchange: H1Exchange) -> None:
    exchange.send_headers(403, [], end=True)


def test_refused_upgrade_leaves_the_connection_usable() -> None:
    peer = H1Peer(refuse)
    peer.send(upgrade())
    (answer,) = peer.answers()
    assert b"connection" not in answer.head
    peer.send(GET)
    assert [answer.status for answer in peer.answers()] == [403]
    assert not peer.closed


def test_refused_upgrade_with_early_bytes_closes() -> None:
    peer = H1Peer(refuse)
    peer.send(upgrade() + GET)
    (answer,) = peer.answers()
    assert answer.has("connection: close")
    assert peer.closed
    assert len(peer.exchanges) == 1


def test_bytes_that_come_during_the_refusal_close() -> None:
    async def stream(exchange: H1Exchange) -> None:
        exchange.send_headers(403, [])
        await exchange.connection.runtime.sleep(1)
        exchange.send_data(b"no", end=True)

    peer = H1Peer(stream)
    peer.send(upgrade())
    peer.send(GET)
    peer.runtime.advance(1)
    assert [answer.body for answer in peer.answers()] == [b"no"]
    assert peer.closed
    assert len(peer.exchanges) == 1


@pytest.mark.parametrize("first", [b"\x81", b"\x82", b"\x01", b"\x00", b"\x88"])
def test_frame_behind_a_refusal_closes_without_a_word(first: bytes) -> None:
    peer = H1Peer(refuse)
    peer.send(upgrade())
    peer.take()
    peer.send(first + b"\x85GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert peer.take() == b""
    assert peer.closed
    assert len(peer.exchanges) == 1


@pytest.mark.parametrize(
    "fields",
    [(b"Content-Length: 3",), (b"Transfer-Encoding: chunked",)],
    ids=["length", "chunked"],
)
def test_upgrade_with_a_body_can_only_be_refused(fields: tuple[bytes, ...]) -> None:
    async def handler(exchange: H1Exchange) -> None:
        assert exchange.request.is_websocket
        with pytest.raises(LocalProtocolError):
            exchange.open_tunnel(101, SWITCH)
        exchange.send_headers(400, [], end=True)

    peer = H1Peer(handler)
    peer.send(upgrade(*fields) + b"abc" + GET)
    statuses = [answer.status for answer in peer.answers()]
    assert statuses == [400]
    assert peer.closed
    assert len(peer.exchanges) <= 1


def test_body_of_an_upgrade_request_is_framed() -> None:
    bodies = []

    async def handler(exchange: H1Exchange) -> None:
        bodies.append(await read_body(exchange))
        await refuse(exchange)

    peer = H1Peer(handler)
    peer.send(upgrade(b"Content-Length: 3") + b"abc" + GET)
    assert bodies == [b"abc"]
    (answer,) = peer.answers()
    assert answer.has("connection: close")
    assert peer.closed


def test_empty_body_does_not_prevent_the_switch() -> None:
    sink = Sink()
    peer = H1Peer(open_with(sink))
    peer.send(upgrade(b"Content-Length: 0") + b"early")
    assert sink.data == b"early"


async def open_twice(exchange: H1Exchange) -> None:
    exchange.open_tunnel(101, SWITCH).receive_into(Sink())
    exchange.open_tunnel(101, SWITCH)


async def open_late(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [])
    exchange.open_tunnel(101, SWITCH)


async def head_in_tunnel(exchange: H1Exchange) -> None:
    exchange.open_tunnel(101, SWITCH).receive_into(Sink())
    exchange.send_headers(200, [])


async def body_in_tunnel(exchange: H1Exchange) -> None:
    exchange.open_tunnel(101, SWITCH).receive_into(Sink())
    exchange.send_data(b"a")


async def data_after_end(exchange: H1Exchange) -> None:
    tunnel = exchange.open_tunnel(101, SWITCH)
    tunnel.receive_into(Sink())
    tunnel.send_data(b"a", end=True)
    tunnel.send_data(b"b")


async def frame_after_end(exchange: H1Exchange) -> None:
    tunnel = exchange.open_tunnel(101, SWITCH)
    tunnel.receive_into(Sink())
    tunnel.send_data(b"a", end=True)
    tunnel.send_frame(0x81, "b", soon=False)


@pytest.mark.parametrize(
    "handler",
    [
        open_twice,
        open_late,
        head_in_tunnel,
        body_in_tunnel,
        data_after_end,
        frame_after_end,
    ],
)
def test_mistake_of_the_handler_raises(handler: Handler) -> None:
    peer = H1Peer(handler)
    peer.send(upgrade())
    assert [type(error) for error in peer.errors] == [LocalProtocolError]


def test_ordinary_request_cannot_become_a_tunnel() -> None:
    peer = H1Peer(open_twice)
    peer.send(GET)
    assert [type(error) for error in peer.errors] == [LocalProtocolError]
    assert peer.take() == b""


# The pipe


def test_bytes_pass_unchanged_both_ways() -> None:
    sink = Sink()
    peer = opened(sink)
    peer.send(b"\x00GET / HTTP/1.1\r\n\r\n", size=3)
    assert sink.data == b"\x00GET / HTTP/1.1\r\n\r\n"
    sink.tunnel.send_data(b"a")
    sink.tunnel.send_data(b"\r\nb")
    assert peer.take() == b"a\r\nb"


@given(
    st.lists(st.sampled_from([0, 1, 10, 9_000, 20_000, PIECE, PIECE + 1, 3 * PIECE]))
)
def test_large_pieces_leave_uncopied_and_in_order(sizes: list[int]) -> None:
    sink = Sink()
    peer = opened(sink)
    tunnel = sink.tunnel
    pieces = [bytes([65 + at]) * size for at, size in enumerate(sizes)]
    for piece in pieces:
        tunnel.send_data(piece)
    engine, parts = peer.engine, []
    while (part := engine.data_to_send()) or engine.unsent:
        parts.append(part)
    assert b"".join(parts) == b"".join(pieces)
    assert not engine.unsent
    shared = [part.obj if isinstance(part, memoryview) else part for part in parts]
    for piece in pieces:
        if len(piece) > 2 * PIECE:  # of a smaller one what is left may be joined
            assert any(piece is one for one in shared)


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("size", [PIECE, PIECE + 1, 1 << 20])
def test_a_large_frame_is_what_a_small_one_is(size: int, text: bool) -> None:
    sink = Sink()
    peer = opened(sink)
    payload: str | bytes = "\u00e4" * size if text else bytes(size)
    for _ in range(2):
        assert sink.tunnel.send_frame(0x82 - text, payload, soon=True)
    assert peer.take() == encode_frame(0x82 - text, payload) * 2


def test_no_time_limit_of_requests_applies_in_a_tunnel() -> None:
    peer = opened(Sink())
    peer.runtime.advance(1e5)
    assert not peer.closed


def test_unread_tunnel_bytes_pause_reading() -> None:
    sink = Sink(hungry=False)
    peer = opened(sink, ServerConfig(read_buffer=1024))
    peer.send(b"x" * 4096, size=512)
    assert peer.connection.pauses == Pause.BODY
    assert len(sink.data) == 1536
    sink.tunnel.consumed(1000)
    assert peer.connection.pauses == Pause.BODY
    sink.tunnel.consumed(300)
    assert not peer.connection.pauses


def test_one_read_of_a_tunnel_does_not_pause_but_the_next_one_does() -> None:
    sink = Sink(hungry=False)
    peer = opened(sink, ServerConfig(read_buffer=1024))
    peer.send(b"x" * 50_000)
    assert peer.connection.pauses == 0
    peer.send(b"x")
    assert peer.connection.pauses == Pause.BODY


def test_wake_writers_reaches_the_tunnel() -> None:
    sink = Sink()
    peer = opened(sink)
    peer.engine.wake_writers()
    assert sink.wakes == 1


# RFC 6455 §7.1.1: the end


def test_our_end_half_closes_and_what_comes_is_dropped() -> None:
    sink = Sink()
    peer = opened(sink)
    sink.tunnel.send_data(b"bye", end=True)
    assert peer.take() == b"bye"
    assert peer.engine.half_closed
    assert sink.tunnel.over
    assert peer.exchanges[0].over
    assert not peer.closed
    peer.send(b"late")
    assert not sink.data
    peer.engine.receive_eof()
    assert sink.eof == [None]
    assert peer.closed


def test_our_end_reads_on_though_much_is_unread() -> None:
    sink = Sink(hungry=False)
    peer = opened(sink, ServerConfig(read_buffer=1024))
    peer.send(b"x" * 2048, size=1024)
    assert peer.connection.pauses
    sink.tunnel.send_data(b"bye", end=True)
    assert not peer.connection.pauses


def test_peers_end_reaches_the_tunnel_which_may_still_send() -> None:
    sink = Sink()
    peer = opened(sink)
    peer.engine.receive_eof()
    assert sink.eof == [None]
    assert not peer.closed
    sink.tunnel.send_data(b"bye", end=True)
    assert peer.take() == b"bye"
    assert peer.closed


@pytest.mark.parametrize("code", [ErrorCode.CANCEL, ErrorCode.INTERNAL_ERROR])
def test_reset_aborts(code: ErrorCode) -> None:
    sink = Sink()
    peer = opened(sink)
    sink.tunnel.reset(code)
    assert peer.connection.aborted
    assert sink.tunnel.over


def test_reset_without_error_closes_in_order() -> None:
    sink = Sink()
    peer = opened(sink)
    sink.tunnel.send_data(b"bye", end=True)
    sink.tunnel.reset(ErrorCode.NO_ERROR)
    assert peer.connection.closed
    assert not peer.connection.aborted
    assert peer.take() == b"bye"


def test_lost_connection_tells_the_tunnel_and_cancels_nothing() -> None:
    sink = Sink()
    peer = opened(sink)
    task = peer.exchanges[0].task
    peer.engine.connection_lost()
    peer.runtime.run_ready()
    assert [type(error) for error in sink.eof] == [Disconnected]
    assert isinstance(task, FakeTask)
    assert not task.cancelled
    sink.tunnel.send_data(b"a")
    sink.tunnel.send_frame(0x81, "a", soon=False)
    sink.tunnel.reset()
    assert sink.tunnel.over
    assert peer.take() == b""
    assert not peer.connection.aborted


def test_tunnel_opened_on_a_lost_connection_is_told() -> None:
    sink = Sink()
    late: list[H1Exchange] = []

    async def handler(exchange: H1Exchange) -> None:
        exchange.task = None
        late.append(exchange)
        await exchange.connection.runtime.sleep(1)

    peer = H1Peer(handler)
    peer.send(upgrade())
    peer.engine.connection_lost()
    late[0].open_tunnel(101, SWITCH).receive_into(sink)
    assert [type(error) for error in sink.eof] == [Disconnected]
    assert peer.take() == b""


def test_closing_handshake_may_outlive_the_handler() -> None:
    sink = Sink()

    async def brief(exchange: H1Exchange) -> None:
        sink.tunnel = exchange.open_tunnel(101, SWITCH)
        sink.tunnel.receive_into(sink)
        sink.tunnel.send_data(b"close")

    peer = H1Peer(brief)
    peer.send(upgrade())
    assert peer.exchanges[0].handler_ended
    assert not peer.closed
    peer.send(b"closed")
    assert sink.data == b"closed"
    sink.tunnel.reset(ErrorCode.NO_ERROR)
    assert peer.closed


def test_shut_down_is_passed_to_the_tunnel() -> None:
    sink = Sink()
    peer = opened(sink)
    peer.engine.shut_down()
    assert sink.shut == 1
    assert not peer.closed


def test_tunnels_may_run_on_while_the_server_drains_until_it_says_so() -> None:
    sink = Sink()
    peer = opened(sink)
    for _ in range(2):
        peer.engine.shut_down(tunnels=False)
    peer.send(b"goes on")
    assert sink.data == b"goes on"
    assert sink.shut == 0
    assert not peer.closed
    peer.engine.shut_down()
    assert sink.shut == 1
    sink.tunnel.send_data(b"", end=True)
    peer.engine.receive_eof()
    assert peer.closed


def test_so_may_one_that_opens_meanwhile() -> None:
    accept = False
    sink = Sink()

    async def slow(exchange: H1Exchange) -> None:
        while not accept:
            await exchange.connection.runtime.sleep(1)
        await open_with(sink)(exchange)

    peer = H1Peer(slow)
    peer.send(upgrade())
    peer.engine.shut_down(tunnels=False)
    accept = True
    peer.runtime.advance(1)
    assert sink.shut == 0
    peer.engine.shut_down()
    assert sink.shut == 1


def test_tunnel_that_opens_while_the_server_drains_is_told() -> None:
    accept = False
    sink = Sink()

    async def slow(exchange: H1Exchange) -> None:
        while not accept:
            await exchange.connection.runtime.sleep(1)
        await open_with(sink)(exchange)

    peer = H1Peer(slow)
    peer.send(upgrade())
    peer.engine.shut_down()
    assert not peer.closed
    accept = True
    peer.runtime.advance(1)
    assert sink.shut == 1


# What is left behind


def alive() -> int:
    kinds = H1Exchange, H1Tunnel, Sink
    return sum(isinstance(each, kinds) for each in gc.get_objects())


async def accept(exchange: H1Exchange) -> None:
    sink = Sink()
    sink.tunnel = exchange.open_tunnel(101, SWITCH)
    sink.tunnel.receive_into(sink)
    sink.tunnel.send_data(b"bye", end=True)


async def answer(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [(b"connection", b"close")], end=True)


@pytest.mark.parametrize("handler", [accept, answer])
@pytest.mark.parametrize("lost_first", [False, True])
def test_nothing_waits_for_the_garbage_collector(
    handler: Handler, lost_first: bool
) -> None:
    async def ending(exchange: H1Exchange) -> None:
        await handler(exchange)
        if lost_first:
            exchange.connection.runtime.call_soon(peer.engine.connection_lost)
            await exchange.connection.runtime.sleep(0)

    gc.collect()
    before = alive()
    peer = H1Peer(ending)
    gc.disable()
    try:
        peer.send(upgrade())
        peer.runtime.advance(1)
        peer.engine.connection_lost()
        peer.exchanges.clear()
        peer.runtime.tasks.clear()
        assert alive() == before
    finally:
        gc.enable()
