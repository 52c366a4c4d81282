"""RFC 9113 §5.2 and §6.9: flow control in both directions, and who is sent to when."""

import h2.config
import h2.connection
import h2.events
import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.h2.frames import DATA, GOAWAY, HEADERS, PADDED, PREFACE, WINDOW_UPDATE, frame
from tako.testing.peer.websocket import encode_frame
from tako.ws.conversation import Conversation
from tako.ws.options import WsOptions
from tests.support.h2wire import (
    CONNECT,
    POST,
    SETTINGS_ACK,
    Make,
    Peer,
    RecordingSink,
    answer,
    data,
    settings,
    window_update,
)


def sent(peer: Peer, stream_id: int = 1) -> int:
    frames = peer.frames()
    return sum(
        len(f.payload) for f in frames if (f.kind, f.stream_id) == (DATA, stream_id)
    )


class TestInbound:
    SMALL = ServerConfig(h2_initial_window_size=1000)

    @pytest.mark.parametrize("carrier", ["body", "tunnel"])
    def test_a_stream_is_credited_on_consumption(
        self, make: Make, carrier: str
    ) -> None:
        peer = make(config=self.SMALL)
        if carrier == "tunnel":
            exchange, _ = peer.tunnel(greedy=False)
        else:
            exchange = peer.request(1, POST, end=False)
        peer.send(data(1, bytes(900)))
        assert peer.frames() == []
        exchange.consumed(499)
        assert peer.frames() == []
        exchange.consumed(1)
        assert [(f.stream_id, f.number) for f in peer.frames()] == [(1, 500)]
        peer.send(data(1, bytes(600)))
        assert peer.rst_codes() == []

    @pytest.mark.parametrize("carrier", ["body", "tunnel"])
    def test_data_beyond_the_streams_window(self, make: Make, carrier: str) -> None:
        peer = make(config=self.SMALL)
        if carrier == "tunnel":
            exchange, _ = peer.tunnel(greedy=False)
        else:
            exchange = peer.request(1, POST, end=False)
        peer.send(data(1, bytes(1000)))
        assert not exchange.closed
        peer.send(data(1, b"x"))
        assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
        assert exchange.closed
        answer(peer.request(3))
        assert DATA in [f.kind for f in peer.frames()]

    @pytest.mark.parametrize("carrier", ["body", "early", "tunnel", "websocket"])
    def test_the_first_flight_may_use_the_default_window(  # RFC 9113 §6.9.3
        self, make: Make, carrier: str
    ) -> None:
        peer = make(config=self.SMALL, greet=False)
        peer.send(PREFACE + settings())
        head = POST if carrier == "body" else CONNECT
        exchange = peer.request(1, head, end=False)
        patient = RecordingSink(exchange, greedy=False)
        ws = Conversation(exchange, WsOptions())
        if carrier == "tunnel":
            exchange.open_tunnel(200, []).receive_into(patient)
        elif carrier == "websocket":
            exchange.open_tunnel(200, []).receive_into(ws)
        piece = encode_frame(2, bytes(13_099))
        assert len(piece) * 5 == 65_535
        peer.send(*[data(1, piece)] * 5)
        peer.send(SETTINGS_ACK)
        assert exchange.window == 1000 - 65_535
        peer.frames()
        if carrier == "early":
            exchange.open_tunnel(200, [(b"date", b"x")]).receive_into(patient)
        for _ in range(5):
            if carrier == "body":
                peer.connection.runtime.run(exchange.body.next_chunk)
            elif carrier == "websocket":
                assert ws.take() == bytes(13_099)
            else:
                exchange.consumed(len(piece))
        credited = [f.number for f in peer.frames() if f.kind == WINDOW_UPDATE]
        assert sum(credited) == 65_535
        assert exchange.window == 1000
        peer.send(data(1, bytes(1001)))
        assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]

    @pytest.mark.parametrize("size", [1, 1000, 65_534, 65_535, 65_536, 1 << 20])
    def test_the_window_is_ours_once_the_peer_has_acknowledged(
        self, make: Make, size: int
    ) -> None:
        config = ServerConfig(h2_initial_window_size=size)
        peer = make(config=config, greet=False)
        peer.send(PREFACE + settings())
        early = peer.request(1, POST, end=False)
        peer.send(SETTINGS_ACK, SETTINGS_ACK)  # one of them acknowledges nothing
        late = peer.request(3, POST, end=False)
        assert (early.window, late.window) == (size, size)

    def test_beyond_the_default_window_before_that(self, make: Make) -> None:
        peer = make(config=self.SMALL, greet=False)
        peer.send(PREFACE + settings())
        peer.request(1, POST, end=False)
        peer.send(*[data(1, bytes(13_107))] * 5, data(1, b""))
        assert peer.rst_codes() == []
        peer.send(data(1, b"x"))
        assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]

    def test_an_end_needs_no_window(self, make: Make) -> None:
        peer = make(config=self.SMALL, greet=False)
        peer.send(PREFACE + settings())
        exchange = peer.request(1, POST, end=False)
        peer.send(data(1, bytes(10_000)), SETTINGS_ACK, data(1, b"", end=True))
        assert exchange.peer_ended
        assert peer.rst_codes() == []

    def test_a_window_below_zero_takes_no_padding(self, make: Make) -> None:
        peer = make(config=self.SMALL, greet=False)
        peer.send(PREFACE + settings())
        peer.request(1, POST, end=False)
        padded = frame(DATA, PADDED, 1, b"\0")
        peer.send(data(1, bytes(10_000)), SETTINGS_ACK, padded)
        assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]

    def test_padding_counts(self, make: Make) -> None:
        peer = make(config=self.SMALL)
        peer.tunnel(greedy=False)
        peer.send(data(1, bytes(745)))
        peer.send(frame(DATA, 0x8, 1, b"\xfe" + bytes(255)))
        assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]

    def test_the_connection_is_credited_on_receipt(self, peer: Peer) -> None:
        # Stream 1 is never read: the others have as much room as ever
        peer.tunnel(1, greedy=False)
        peer.send(*[data(1, bytes(16_384))] * 16)
        for stream_id in range(3, 21, 2):
            peer.tunnel(stream_id, greedy=False)
            peer.send(*[data(stream_id, bytes(16_384))] * 16)
        assert peer.goaway_codes() == []
        assert not peer.engine.closing

    def test_data_beyond_the_connections_window(self, peer: Peer) -> None:
        for stream_id in range(1, 11, 2):
            peer.tunnel(stream_id, greedy=False)
        peer.frames()
        # In one read, so that no credit can be given in between
        burst = b"".join(data(s, bytes(16_384)) * 16 for s in range(1, 11, 2))
        peer.engine.receive_data(burst)
        assert peer.goaway_codes() == [ErrorCode.FLOW_CONTROL_ERROR]

    def test_data_of_closed_streams_is_credited_too(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        exchange.reset()
        peer.frames()
        peer.send(*[data(1, bytes(16_384))] * 40)
        updates = [f for f in peer.frames() if f.kind == WINDOW_UPDATE]
        assert [(f.stream_id, f.number) for f in updates] == [(0, 40 * 16_384)]


class TestOutbound:
    def test_nothing_beyond_the_streams_window(self, peer: Peer) -> None:
        peer.send(settings((4, 5)))
        answer(peer.request(1), b"0123456789")
        assert sent(peer) == 5
        peer.send(window_update(1, 3))
        assert sent(peer) == 3
        peer.send(window_update(1, 100))
        frames = peer.frames()
        assert [(f.payload, f.ends) for f in frames] == [(b"89", True)]

    def test_nothing_beyond_the_connections_window(self, peer: Peer) -> None:
        peer.send(settings((4, 1 << 20)))
        answer(peer.request(1), bytes(100_000))
        assert sent(peer) == 65_535
        peer.send(window_update(0, 100_000))
        assert sent(peer) == 100_000 - 65_535

    def test_empty_ends_need_no_window(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        exchange = peer.request(1)
        exchange.send_headers(200, [])
        exchange.send_data(b"", end=True)
        assert [f.ends for f in peer.frames()] == [False, False, True]

    def test_trailers_wait_for_the_body(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        exchange = peer.request(1)
        exchange.send_headers(200, [])
        exchange.send_data(b"x")
        exchange.send_trailers([(b"a", b"b")])
        peer.frames()
        peer.send(window_update(1, 1))
        assert [(f.kind, f.ends) for f in peer.frames()] == [
            (DATA, False),
            (HEADERS, True),
        ]

    def test_a_smaller_initial_window_applies_to_open_streams(
        self, peer: Peer
    ) -> None:  # RFC 9113 §6.9.2
        exchange, _ = peer.tunnel()
        exchange.send_data(bytes(60_000))
        assert sent(peer) == 60_000
        peer.send(settings((4, 1000)))  # the window is 5535 - 64535 now
        exchange.send_data(b"x")
        peer.send(window_update(1, 58_999))
        assert sent(peer) == 0
        peer.send(window_update(1, 2))
        assert sent(peer) == 1

    def test_a_larger_initial_window_applies_to_open_streams(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        answer(peer.request(1))
        assert sent(peer) == 0
        peer.send(settings((4, 2)))
        assert sent(peer) == 2

    @pytest.mark.parametrize("stream_id", [0, 1])
    def test_an_increment_of_zero(self, peer: Peer, stream_id: int) -> None:
        peer.request(1)
        peer.send(window_update(stream_id, 0))
        if stream_id:
            assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        else:
            assert peer.goaway_codes() == [ErrorCode.PROTOCOL_ERROR]

    def test_a_wrong_length(self, peer: Peer) -> None:
        peer.send(frame(WINDOW_UPDATE, 0, 0, bytes(3)))
        assert peer.goaway_codes() == [ErrorCode.FRAME_SIZE_ERROR]

    def test_a_streams_window_that_overflows(self, peer: Peer) -> None:
        exchange = peer.request(1)
        peer.send(window_update(1, 2**31 - 1))
        assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
        assert exchange.closed
        answer(peer.request(3))
        assert DATA in [f.kind for f in peer.frames()]

    @pytest.mark.parametrize("stream_id", [0, 1])
    def test_the_reserved_bit_of_an_increment_is_ignored(
        self, peer: Peer, stream_id: int
    ) -> None:
        exchange, _ = peer.tunnel()
        window_of = exchange if stream_id else peer.engine._output
        peer.send(frame(WINDOW_UPDATE, 0, stream_id, b"\x80\0\0\x05"))
        assert peer.frames() == []
        assert window_of.send_window == 65_540

    def test_the_connections_window_that_overflows(self, peer: Peer) -> None:
        peer.send(window_update(0, 2**31 - 1))
        assert peer.goaway_codes() == [ErrorCode.FLOW_CONTROL_ERROR]

    def test_settings_that_make_a_window_overflow(self, peer: Peer) -> None:
        peer.request(1)
        peer.send(window_update(1, 2**30), settings((4, 2**31 - 1)))
        assert GOAWAY in [f.kind for f in peer.frames()]

    def test_streams_take_turns(self, peer: Peer) -> None:
        peer.send(settings((4, 1 << 20)))
        for stream_id in (1, 3, 5):
            answer(peer.request(stream_id), bytes(60_000))
        peer.frames()
        peer.send(window_update(0, 3 * 16_384))
        assert [f.stream_id for f in peer.frames()] == [3, 5, 3]

    def test_a_stream_with_a_shut_window_holds_nobody_up(self, peer: Peer) -> None:
        blocked, _ = peer.tunnel(1)
        blocked.send_data(bytes(65_535))
        blocked.send_data(b"waits")
        peer.frames()
        answer(peer.request(3))
        assert sent(peer, 3) == 0  # the connection's window is shut as well
        peer.send(window_update(0, 1000))
        assert sent(peer, 3) == 5

    def test_writers_wait_above_the_mark(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        exchange.send_data(bytes(65_535))
        assert exchange.writable
        exchange.send_data(bytes(65_536))
        assert not exchange.writable
        peer.send(window_update(0, 65_536))
        assert sink.wakes == 0
        peer.send(window_update(1, 1))
        assert exchange.writable
        assert sink.wakes == 1

    def test_nothing_is_framed_while_the_transport_is_full(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        peer.connection.writable = False
        assert not exchange.writable
        exchange.send_data(b"one")
        exchange.send_data(b"two")
        assert peer.frames() == []
        peer.connection.writable = True
        peer.engine.wake_writers()
        assert [f.payload for f in peer.frames()] == [b"onetwo"]
        assert sink.wakes == 1

    def test_a_message_larger_than_every_window(self, peer: Peer) -> None:
        exchange, _ = peer.tunnel()
        message = bytes(range(256)) * 1024
        exchange.send_data(message)
        got = b""
        while len(got) < len(message):
            pieces = [f.payload for f in peer.frames() if f.kind == DATA]
            assert pieces
            got += b"".join(pieces)
            for stream_id in (0, 1):
                peer.send(window_update(stream_id, 50_000))
        assert got == message


class TestAgainstTheLibrarysClient:
    """The real ``h2`` client keeps its own account of both windows."""

    def test_an_echo_of_a_megabyte(self, make: Make) -> None:
        peer = make(greet=False)
        client = h2.connection.H2Connection(h2.config.H2Configuration())
        client.initiate_connection()
        peer.send(client.data_to_send())
        client.receive_data(peer.connection.take())
        fields = [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "http"),
            (":authority", "a"),
            (":path", "/"),
        ]
        client.send_headers(1, fields)
        (exchange,) = peer.send(client.data_to_send())
        echo = Echo(exchange)
        exchange.open_tunnel(200, []).receive_into(echo)
        client.receive_data(peer.connection.take())
        left, back = 1 << 20, 0
        while back < 1 << 20:
            room = min(client.local_flow_control_window(1), 16_384, left)
            if room:
                client.send_data(1, bytes(room))
                left -= room
            peer.send(client.data_to_send())
            for event in client.receive_data(peer.connection.take()):
                if isinstance(event, h2.events.DataReceived):
                    back += len(event.data)
                    client.acknowledge_received_data(len(event.data), 1)
        assert exchange.outbox.size == 0
        client.end_stream(1)
        peer.send(client.data_to_send())
        exchange.send_data(b"", end=True)
        events = client.receive_data(peer.connection.take())
        assert any(isinstance(e, h2.events.StreamEnded) for e in events)
        assert not peer.engine.exchanges


class Echo:
    """Sends back what it gets, and gives credit for it."""

    def __init__(self, exchange: object) -> None:
        self.exchange = exchange

    def deliver(self, data: bytes) -> None:
        self.exchange.send_data(data)  # type: ignore[attr-defined]
        self.exchange.consumed(len(data))  # type: ignore[attr-defined]

    def deliver_eof(self, error: Exception | None = None) -> None:
        assert error is None

    def wake_writer(self) -> None:
        pass

    def shut_down(self) -> None:
        pass
