"""Exact figures of rows of the corpus, against one engine or one codec.

The verdicts of ``tests/security`` hold for a server on a socket, too, where the kernel
buffers and time passes. What only an engine alone shows is here: how much it has read,
what it has credited, how many streams it has refused, and when.
"""

import pytest

from tako.core.error_code import ErrorCode
from tako.core.seams import Pause
from tako.errors import RemoteProtocolError
from tako.h1 import H1Exchange
from tako.h2.frames import DATA, GOAWAY, RST_STREAM, WINDOW_UPDATE
from tako.ws.codec import Codec
from tako.ws.deflate import Inflater
from tako.ws.message import AnyMessage, Message
from tako.ws.options import DeflateParams
from tests.security.corpus import corpus
from tests.support.codec import held
from tests.support.h1_peer import H1Peer
from tests.support.h2wire import Peer, answer, data, parse


_DATA = {row.id: row.data for row in corpus()}
_UNLIMITED = 1 << 30
_COMPRESSED = {row.id for row in corpus() if row.proto == "ws-pmd"}

lanes = pytest.mark.parametrize("lane", [True, False], ids=["lane", "h2"])


# HTTP/1.1 -----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [None, 1, 2, 3, 7, 64])
def test_h1_58_a_trailer_is_beside_the_body_and_not_among_the_fields(
    size: int | None,
) -> None:
    peer = H1Peer()
    peer.send(_DATA["H1-58"], size=size)
    assert [answer.body for answer in peer.answers()] == [b"/ abc", b"/smug "]
    first = peer.exchanges[0]
    assert "x-evil" not in first.request.headers
    assert first.body.trailers == [(b"x-evil", b"1")]


class _Sink:
    """A tunnel's end that keeps what it gets and credits it at once."""

    def __init__(self, exchange: H1Exchange) -> None:
        self.exchange = exchange
        self.data = bytearray()

    def deliver(self, data: bytes) -> None:
        self.data += data
        self.exchange.consumed(len(data))

    def deliver_eof(self, error: Exception | None = None) -> None:
        pass

    def wake_writer(self) -> None:
        pass

    def shut_down(self) -> None:
        pass


def test_wh_23_of_an_early_flood_no_more_is_read_than_64_kib_and_one_read() -> None:
    head, end, frames = _DATA["WH-23"].partition(b"\r\n\r\n")
    sinks: list[_Sink] = []
    accept = False

    async def slow(exchange: H1Exchange) -> None:
        while not accept:
            await exchange.connection.runtime.sleep(1)
        sinks.append(_Sink(exchange))
        fields = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
        exchange.open_tunnel(101, fields).receive_into(sinks[-1])
        exchange.flush()
        await exchange.connection.runtime.sleep(1e9)

    peer = H1Peer(slow)
    peer.send(head + end)
    peer.send(frames, size=16 * 1024)
    assert peer.connection.pauses == Pause.BODY
    assert len(frames) - peer.unsent <= 64 * 1024 + 16 * 1024
    accept = True
    peer.runtime.advance(1)
    peer.go_on()
    assert not peer.connection.pauses
    (sink,) = sinks
    assert sink.data == frames


# HTTP/2 -------------------------------------------------------------------------------


def _lives(peer: Peer) -> bool:
    """Tell whether a further request is answered."""
    answer(peer.request(1_000_001))
    kinds = [frame.kind for frame in peer.frames()]
    return DATA in kinds and GOAWAY not in kinds and not peer.engine.closing


@lanes
@pytest.mark.parametrize("size", [1, _UNLIMITED])
def test_h2_38_padding_takes_of_the_window_and_is_credited_with_what_is_read(
    lane: bool, size: int
) -> None:
    peer = Peer(lane=lane, tls=True)
    row = _DATA["H2-38"]
    for at in range(0, len(row), size):
        peer.send(row[at : at + size])
    padding = 200 * 256
    (exchange,) = peer.exchanges
    assert exchange.window == 262_144 - padding
    peer.frames()
    exchange.consumed(131_072 - padding)  # credit is given once it is half a window
    (update,) = [frame for frame in peer.frames() if frame.stream_id == 1]
    assert (update.kind, update.number) == (WINDOW_UPDATE, 131_072)
    assert _lives(peer)


@lanes
def test_h2_41_data_within_our_window_is_taken_and_not_a_byte_beyond(
    lane: bool,
) -> None:
    peer = Peer(lane=lane, tls=True)
    peer.send(_DATA["H2-41"])
    (exchange,) = peer.exchanges
    sent = exchange.received
    assert sent == len(_DATA["H2-41"]) - (9 + 6) - 5 * 9 > 65_535  # less their heads
    while left := 262_144 - sent:
        size = min(left, 16_384)
        peer.send(data(1, bytes(size)))
        sent += size
    assert peer.rst_codes() == []
    assert not peer.engine.closing
    peer.send(data(1, b"x"))
    assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
    assert _lives(peer)


@lanes
def test_h2_44_credit_a_byte_at_a_time_in_one_read_is_a_flood(lane: bool) -> None:
    peer = Peer(lane=lane, tls=True)
    for exchange in peer.send(_DATA["H2-44"]):
        answer(exchange, bytes(200_000))
    frames = peer.frames()
    (goaway,) = [frame for frame in frames if frame.kind == GOAWAY]
    assert goaway.number == ErrorCode.ENHANCE_YOUR_CALM
    sent = [frame.payload for frame in frames if frame.kind == DATA]
    assert sent == [bytes(7)]  # five updates are free, and two for each stream
    assert peer.engine.closing or peer.engine.exchanges


@lanes
def test_h2_45_a_hundred_streams_that_are_not_read_end_after_30_seconds(
    lane: bool,
) -> None:
    peer = Peer(lane=lane, tls=True)
    for exchange in peer.send(_DATA["H2-45"]):
        answer(exchange, bytes(200_000))
    assert len(peer.exchanges) == 100
    assert DATA not in [frame.kind for frame in peer.frames()]
    peer.advance(29)
    assert peer.frames() == []
    peer.advance(5)
    ends = peer.rst_codes()
    assert sorted(ends) == [(i, ErrorCode.CANCEL) for i in range(1, 201, 2)]
    assert not peer.engine.exchanges


@lanes
@pytest.mark.parametrize("row", ["H2-63", "H2-64"])
@pytest.mark.parametrize("size", [1, _UNLIMITED])
def test_a_body_is_read_up_to_where_it_breaks_its_content_length(
    lane: bool, row: str, size: int
) -> None:
    peer = Peer(lane=lane, tls=True)
    for at in range(0, len(_DATA[row]), size):
        peer.send(_DATA[row][at : at + size])
    assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
    (exchange,) = peer.exchanges
    run = peer.connection.runtime.run
    assert exchange.received == {"H2-63": 2, "H2-64": 9}[row]
    if row == "H2-63":  # what was within the length is read first
        assert run(exchange.body.next_chunk) == b"ab"
    with pytest.raises(RemoteProtocolError):
        run(exchange.body.next_chunk)
    assert _lives(peer)


@lanes
def test_h2_74_of_4000_requests_in_one_read_100_run_and_3900_are_refused(
    lane: bool,
) -> None:
    peer = Peer(lane=lane, tls=True)
    found = peer.send(_DATA["H2-74"])
    assert [exchange.request.path for exchange in found] == ["/"] * 100
    frames = parse(peer.connection.take())
    refused = {f.stream_id: f.number for f in frames if f.kind == RST_STREAM}
    assert refused == dict.fromkeys(range(201, 8001, 2), ErrorCode.REFUSED_STREAM)
    assert GOAWAY not in [frame.kind for frame in frames]


# WebSocket frames ---------------------------------------------------------------------


def _receive(row: str, step: int) -> tuple[Codec, list[AnyMessage]]:
    """Return the codec and the messages of a row that comes in reads of ``step``."""
    codec = Codec(
        max_frame_size=1 << 24,
        max_message_size=1 << 20,
        inflater=Inflater(DeflateParams()) if row in _COMPRESSED else None,
    )
    messages: list[AnyMessage] = []
    for at in range(0, len(_DATA[row]), step):
        messages += codec.receive(_DATA[row][at : at + step])
        while codec.pending:
            messages += codec.receive(b"")
    return codec, messages


@pytest.mark.parametrize(
    ("row", "count"),
    [("WS-32", 5000), ("WS-34", 100_000), ("WS-35", 1), ("WS-38", 1), ("WS-43", 1)],
)
def test_as_many_messages_come_out_of_a_row_as_are_in_it(row: str, count: int) -> None:
    codec, messages = _receive(row, 16_384)
    assert codec.error is None
    assert len(messages) == count


@pytest.mark.parametrize("step", [1, _UNLIMITED])
@pytest.mark.parametrize(
    ("row", "code"),
    [
        *((f"WS-{row:02}", 1002) for row in (1, 3, 4, 5, 8, 9, 12, 16, 26, 27)),
        *((f"WS-{row:02}", 1007) for row in (18, 20, 21, 23, 28, 42)),
        *((f"WS-{row:02}", 1009) for row in (13, 14, 15, 36)),
    ],
    ids=str,
)
def test_a_row_that_fails_has_its_code_and_leaves_nothing(
    row: str, code: int, step: int
) -> None:
    codec, _ = _receive(row, max(step, len(_DATA[row]) // 50_000))
    assert codec.error is not None
    assert codec.error.close_code == code
    assert held(codec) == 0


def test_ws_31_what_follows_a_close_comes_out_of_no_read() -> None:
    codec, messages = _receive("WS-31", 7)
    assert messages == [Message.Close(1000)]
    assert codec.error is None


@pytest.mark.parametrize("step", [1, _UNLIMITED])
def test_ws_44_an_empty_compressed_message_is_empty(step: int) -> None:
    assert _receive("WS-44", step)[1] == [""]
