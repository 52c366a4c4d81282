"""RFC 9113 §3 to §6: the preface, frames, streams and their states, frame by frame."""

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.errors import Disconnected
from tako.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tests.support.h2wire import (
    CONNECT,
    GET,
    POST,
    SETTINGS_ACK,
    Frame,
    Make,
    Peer,
    RecordingSink,
    answer,
    data,
    rst,
    settings,
    window_update,
)


PING_8 = b"12345678"


def fails(peer: Peer, code: ErrorCode, *pieces: bytes) -> None:
    """``pieces`` are a connection error of that code."""
    peer.send(*pieces)
    goaways = [f for f in peer.frames() if f.kind == GOAWAY]
    assert [f.number for f in goaways] == [code]
    peer.advance(10)
    assert peer.engine.closing
    assert peer.send(frame(PING, 0, 0, PING_8)) == []
    assert peer.frames() == []


def pings(peer: Peer) -> bool:
    """Tell whether the connection is alive."""
    peer.send(frame(PING, 0, 0, PING_8))
    return Frame(PING, ACK, 0, PING_8) in peer.frames()


def serves(peer: Peer, stream_id: int = 101) -> bool:
    answer(peer.request(stream_id))
    return any(f.kind == DATA and f.payload == b"hello" for f in peer.frames())


class TestPreface:  # RFC 9113 §3.4
    def test_the_first_frame_of_the_server_is_settings(self) -> None:
        frames = Peer(greet=False).frames()
        assert frames[0].kind == SETTINGS
        entries = frames[0].payload
        values = {
            int.from_bytes(entries[i : i + 2]): int.from_bytes(entries[i + 2 : i + 6])
            for i in range(0, len(entries), 6)
        }
        assert values == {1: 4096, 3: 100, 4: 262_144, 5: 16_384, 6: 68_992, 8: 1}

    def test_connect_protocol_is_left_out_when_disabled(self) -> None:
        config = ServerConfig(h2_enable_connect_protocol=False)
        frames = Peer(greet=False, config=config).frames()
        entries = frames[0].payload
        assert 8 not in [entries[i + 1] for i in range(0, len(entries), 6)]

    def test_the_connection_window_is_opened_at_once(self) -> None:
        frames = Peer(greet=False).frames()
        assert frames[1:] == [
            Frame(WINDOW_UPDATE, 0, 0, ((1 << 20) - 65_535).to_bytes(4))
        ]

    @pytest.mark.parametrize("wrong", [b"GET / HTTP/1.1\r\n", PREFACE[:-1] + b"x"])
    def test_another_preface_is_refused(self, make: Make, wrong: bytes) -> None:
        fails(make(greet=False), ErrorCode.PROTOCOL_ERROR, wrong)

    def test_the_preface_may_come_byte_by_byte(self, make: Make) -> None:
        peer = make(greet=False)
        for byte in PREFACE + settings():
            peer.send(bytes([byte]))
        assert pings(peer)

    @pytest.mark.parametrize(
        "first", [frame(PING, 0, 0, PING_8), SETTINGS_ACK, window_update(0, 1)]
    )
    def test_the_first_frame_must_be_settings(self, make: Make, first: bytes) -> None:
        fails(make(greet=False), ErrorCode.PROTOCOL_ERROR, PREFACE, first)


class TestFrameFormat:  # RFC 9113 §4.1
    def test_unknown_types_are_ignored(self, peer: Peer) -> None:
        peer.send(frame(0x16, 0, 0, b"12345678"), frame(0x10, 0, 0, b"x"))
        assert pings(peer)

    def test_undefined_flags_are_ignored(self, peer: Peer) -> None:
        peer.send(frame(PING, 0x16, 0, PING_8))
        assert Frame(PING, ACK, 0, PING_8) in peer.frames()

    def test_undefined_flags_on_data_of_a_tunnel_are_ignored(self, peer: Peer) -> None:
        _, sink = peer.tunnel()
        peer.send(frame(DATA, 0xF6, 1, b"abc"))
        assert sink.data == b"abc"

    def test_the_reserved_bit_is_ignored(self, peer: Peer) -> None:
        peer.send(frame(PING, 0, 0x80000000, PING_8))
        assert Frame(PING, ACK, 0, PING_8) in peer.frames()
        _, sink = peer.tunnel()
        peer.send(frame(DATA, 0, 0x80000001, b"abc"))
        assert sink.data == b"abc"


class TestFrameSize:  # RFC 9113 §4.2
    def test_a_frame_of_16384_bytes_is_taken(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        peer.send(data(1, bytes(16_384)))
        assert exchange.received == 16_384

    @pytest.mark.parametrize("kind", [DATA, HEADERS, SETTINGS, 0x77])
    def test_a_larger_one_fails_before_its_payload_comes(
        self, peer: Peer, kind: int
    ) -> None:
        peer.request(1, POST, end=False)
        stream_id = 0 if kind == SETTINGS else 1
        fails(
            peer,
            ErrorCode.FRAME_SIZE_ERROR,
            frame(kind, 0, stream_id, bytes(16385))[:9],
        )


class TestHeaderCompression:  # RFC 9113 §4.3, RFC 7541
    @pytest.mark.parametrize(
        "block",
        [
            b"\xc6",  # index 70 of an empty dynamic table
            b"\x80",  # §6.1: index 0
            b"\x7f\x00\x01a",  # literal with a name that does not exist
            b"\x82\x20",  # §4.2: size update at the end of the block
            b"\x3f\xe2\x1f",  # §6.3: 4097, more than was allowed
            b"\x20\x20\x20",  # three updates where two suffice
            b"\x82\x87\x84\x41\x83\xff\xff\xff",  # §5.2: EOS in a Huffman string
            b"\x82\x87\x84\x41\x82\x1f\xff",  # §5.2: padding of more than 7 bits
            b"\x82\x87\x84\x41\x81\x18",  # §5.2: padding that is not EOS
            b"\x82\x87\x84\x41\x7f\xff\xff\xff\xff\xff\xff\x0f",  # an endless integer
            b"\x82\x87\x84\x41\x05abc",  # cut off
        ],
    )
    def test_a_block_that_does_not_decode(self, peer: Peer, block: bytes) -> None:
        fails(
            peer,
            ErrorCode.COMPRESSION_ERROR,
            frame(HEADERS, END_HEADERS | END_STREAM, 1, block),
        )

    def test_two_size_updates_are_fine(self, peer: Peer) -> None:
        block = b"\x20\x3f\xe1\x1f" + peer.encode(GET)
        (exchange,) = peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
        assert exchange.request.path == "/"

    @pytest.mark.parametrize(
        "field",
        [
            b"\x44\x02/i",  # incremental, indexed name
            b"\x40\x05:path\x02/i",  # incremental, new name
            b"\x04\x02/i",  # without indexing, indexed name
            b"\x00\x05:path\x02/i",  # without indexing, new name
            b"\x14\x02/i",  # never indexed
            b"\x10\x05:path\x02/i",
            b"\x44\x82\x60\xdf",  # Huffman
        ],
    )
    def test_every_representation_is_understood(self, peer: Peer, field: bytes) -> None:
        block = b"\x82\x86\x01\x01a" + field
        (exchange,) = peer.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, block))
        assert exchange.request.path.startswith("/")
        assert exchange.request.authority == "a"

    def test_refused_streams_keep_the_compression_state_true(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_concurrent_streams=1))
        peer.request(1)
        peer.send(peer.headers(3, extra=[("x-new", "value")]))
        assert peer.rst_codes() == [(3, ErrorCode.REFUSED_STREAM)]
        answer(peer.exchanges[0])
        exchange = peer.request(5, extra=[("x-new", "value")])
        assert exchange.request.headers["x-new"] == "value"

    def test_late_headers_keep_the_compression_state_true(self, peer: Peer) -> None:
        peer.request(1, POST, end=False)
        peer.send(rst(1), peer.headers(1, [("x-late", "value")]))
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]
        exchange = peer.request(3, extra=[("x-late", "value")])
        assert exchange.request.headers["x-late"] == "value"

    def test_late_headers_that_do_not_decode(self, peer: Peer) -> None:
        peer.request(1, POST, end=False)
        late = frame(HEADERS, END_HEADERS, 1, b"\x80")
        fails(peer, ErrorCode.COMPRESSION_ERROR, rst(1), late)

    def test_late_headers_that_are_too_large(self, peer: Peer) -> None:
        peer.request(1, POST, end=False)
        peer.request(3, extra=[("x", "y" * 4000)])  # in the table from now on
        late = frame(HEADERS, END_HEADERS, 1, b"\xbe" * 40)
        fails(peer, ErrorCode.ENHANCE_YOUR_CALM, rst(1), late)

    @pytest.mark.parametrize(
        "between",
        [
            frame(PRIORITY, 0, 1, bytes(4) + b"\x01"),
            frame(HEADERS, END_HEADERS, 3, b"\x82"),
            frame(0x16, 0, 0, b"x"),
            data(1, b"x"),
            frame(CONTINUATION, END_HEADERS, 3, b"\x82"),
        ],
    )
    def test_nothing_comes_between_the_parts_of_a_block(
        self, peer: Peer, between: bytes
    ) -> None:
        part = frame(HEADERS, END_STREAM, 1, b"\x82")
        fails(peer, ErrorCode.PROTOCOL_ERROR, part, between)

    def test_tunnel_data_comes_between_the_parts_of_a_block(self, peer: Peer) -> None:
        _, sink = peer.tunnel()
        part = frame(HEADERS, END_STREAM, 3, b"\x82")
        fails(peer, ErrorCode.PROTOCOL_ERROR, part, data(1, b"x"))
        assert not sink.data


class TestStreamStates:  # RFC 9113 §5.1
    @pytest.mark.parametrize(
        "first", [data(1, b"x"), rst(1), window_update(1, 1), data(1, b"x", end=True)]
    )
    def test_idle(self, peer: Peer, first: bytes) -> None:
        fails(peer, ErrorCode.PROTOCOL_ERROR, first)

    @pytest.mark.parametrize("first", [data(5, b"x"), rst(5), window_update(5, 1)])
    def test_idle_behind_an_open_one(self, peer: Peer, first: bytes) -> None:
        peer.request(1)
        fails(peer, ErrorCode.PROTOCOL_ERROR, first)

    def test_idle_continuation(self, peer: Peer) -> None:
        fails(
            peer, ErrorCode.PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 1, b"\x82")
        )

    def test_half_closed_remote_data(self, peer: Peer) -> None:
        exchange = peer.request(1)
        peer.send(data(1, b"x"))
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]
        assert exchange.closed
        assert exchange.task is not None
        assert serves(peer)

    def test_half_closed_remote_headers(self, peer: Peer) -> None:
        exchange = peer.request(1)
        peer.send(peer.headers(1))
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]
        assert exchange.closed
        assert serves(peer)

    @pytest.mark.parametrize(
        "fine", [window_update(1, 10), frame(PRIORITY, 0, 1, bytes(4) + b"\x01")]
    )
    def test_half_closed_remote_takes_control_frames(
        self, peer: Peer, fine: bytes
    ) -> None:
        exchange = peer.request(1)
        peer.send(fine)
        answer(exchange)
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]

    def test_closed_by_rst_stream(self, peer: Peer) -> None:
        peer.request(1, POST, end=False)
        peer.send(rst(1), data(1, b"x"))
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]
        peer.send(data(1, b"x"), data(1, b"x"), peer.headers(1))
        assert peer.rst_codes() == []  # answered once
        assert serves(peer)

    def test_closed_by_both_data(self, peer: Peer) -> None:
        answer(peer.request(1))
        peer.frames()
        peer.send(data(1, b"x"), data(1, b"y"))
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]
        assert serves(peer)

    def test_closed_by_both_headers(self, peer: Peer) -> None:
        answer(peer.request(1))
        peer.frames()
        fails(peer, ErrorCode.STREAM_CLOSED, peer.headers(1))

    @pytest.mark.parametrize(
        "fine",
        [window_update(1, 10), rst(1), frame(PRIORITY, 0, 1, bytes(4) + b"\x01")],
    )
    def test_closed_takes_stragglers(self, peer: Peer, fine: bytes) -> None:
        answer(peer.request(1))
        peer.frames()
        peer.send(fine)
        assert peer.frames() == []
        assert serves(peer)

    def test_frames_after_our_reset_are_dropped_silently(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        exchange.reset()
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
        peer.send(data(1, b"x"), peer.headers(1, [("a", "b")]), window_update(1, 9))
        peer.send(rst(1))
        assert peer.frames() == []
        assert serves(peer)

    def test_what_was_under_way_at_our_reset_exhausts_no_budget(
        self, peer: Peer
    ) -> None:
        exchange, _ = peer.tunnel()
        exchange.reset()
        peer.send(data(1, b"x") * 3000)
        assert peer.goaway_codes() == []
        assert serves(peer)


class TestForgottenStreams:  # RFC 9113 §5.1, §5.4
    """What is remembered of closed streams is bounded; none of it is needed."""

    def flood(self, peer: Peer, first: int, count: int) -> None:
        """Close more streams than are remembered: by DATA on such as were skipped."""
        for stream_id in range(first, first + 2 * count, 2):
            peer.send(data(stream_id, b"x"))
            peer.advance(0.02)  # within the budget of control frames
        peer.frames()

    def depends_on_itself(self, peer: Peer, stream_id: int) -> bytes:
        flags = END_HEADERS | END_STREAM | HAS_PRIORITY
        priority = stream_id.to_bytes(4) + b"\0"
        return frame(HEADERS, flags, stream_id, priority + peer.encode(GET))

    @pytest.fixture(params=["reset", "reset by us", "answered", "refused", "skipped"])
    def forgotten(self, request: pytest.FixtureRequest, make: Make) -> Peer:
        """Return a connection on which stream 1 is closed, and forgotten."""
        peer = make(config=ServerConfig(h2_max_concurrent_streams=2))
        match request.param:
            case "reset":
                peer.send(peer.headers(1), rst(1))
            case "reset by us":
                peer.request(1).reset()
            case "answered":
                answer(peer.request(1))
            case "refused":
                peer.request(3)
                peer.request(5)
                peer.send(peer.headers(7), data(1, b"x"))
        for stream_id in range(9, 89, 2):
            peer.send(peer.headers(stream_id), rst(stream_id))
        peer.send(peer.headers(100_001))
        self.flood(peer, 1001, 1100)
        return peer

    def test_headers(self, forgotten: Peer) -> None:
        forgotten.send(forgotten.headers(1))
        assert forgotten.goaway_codes() in ([1], [5])

    def test_headers_that_depend_on_themselves(self, forgotten: Peer) -> None:
        forgotten.send(self.depends_on_itself(forgotten, 1))
        assert forgotten.goaway_codes() in ([1], [5])

    @pytest.mark.parametrize(
        ("late", "codes"),
        [
            (data(1, b"x"), [(1, ErrorCode.STREAM_CLOSED)]),
            (data(1, b"", end=True), [(1, ErrorCode.STREAM_CLOSED)]),
            (frame(PRIORITY, 0, 1, bytes(4)), [(1, ErrorCode.FRAME_SIZE_ERROR)]),
            (frame(PRIORITY, 0, 1, b"\0\0\0\1\0"), [(1, ErrorCode.PROTOCOL_ERROR)]),
            (frame(PRIORITY, 0, 1, bytes(5)), []),
            (rst(1), []),
            (window_update(1, 1), []),
            (window_update(1, 0), []),
            (window_update(1, 2**31 - 1), []),
        ],
    )
    def test_other_frames(
        self, forgotten: Peer, late: bytes, codes: list[tuple[int, int]]
    ) -> None:
        forgotten.send(late, late)
        assert forgotten.rst_codes() == codes
        assert pings(forgotten)

    def test_those_that_ended_do_not_displace_those_that_were_reset(
        self, peer: Peer
    ) -> None:
        peer.request(1, POST, end=False).reset()
        for stream_id in range(3, 3003, 2):
            answer(peer.request(stream_id))
        peer.frames()
        peer.send(peer.headers(1, [("a", "b")]))  # trailers that were under way
        assert peer.frames() == []

    def test_the_engine_knows_open_streams_only(self, peer: Peer) -> None:
        known = peer.engine.exchanges
        open_ones = [peer.request(i, POST, end=False) for i in (1, 3, 5, 7)]
        answer(peer.request(9))
        peer.send(peer.headers(11, extra=[("Bad", "x")]))
        assert set(known) == {1, 3, 5, 7}
        peer.send(rst(1), window_update(3, 2**31 - 1))
        open_ones[2].reset()
        peer.engine.connection_lost()
        assert not known


class TestStreamIdentifiers:  # RFC 9113 §5.1.1
    def test_even_ones_are_the_servers(self, peer: Peer) -> None:
        fails(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(2))

    def test_they_only_grow(self, peer: Peer) -> None:
        peer.request(5)
        fails(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(3))

    def test_the_last_one_is_served(self, peer: Peer) -> None:
        exchange = peer.request(2**31 - 1)
        assert [f.number for f in peer.frames() if f.kind == GOAWAY] == [0]
        answer(exchange)
        assert DATA in [f.kind for f in peer.frames()]

    @pytest.mark.parametrize("name", ["Bad", "good"])
    def test_behind_the_last_one_the_connection_drains(
        self, make: Make, name: str
    ) -> None:
        peer = make(config=ServerConfig(h2_max_concurrent_streams=1))
        other = peer.request(1)
        peer.send(peer.headers(2**31 - 1, extra=[(name, "refused or malformed")]))
        assert peer.goaway_codes() == [0]
        answer(other)
        peer.advance(1)
        assert peer.engine.closing


class TestConcurrency:  # RFC 9113 §5.1.2
    def test_streams_above_the_limit_are_refused(self, peer: Peer) -> None:
        requests = [peer.headers(i, POST, end=False) for i in range(1, 203, 2)]
        assert len(peer.send(*requests)) == 100
        assert peer.rst_codes() == [(201, ErrorCode.REFUSED_STREAM)]
        answer(peer.exchanges[0])
        peer.send(data(1, b"", end=True))
        peer.frames()
        assert peer.request(203).request.method == "GET"

    def test_a_slot_is_held_until_the_handler_has_ended(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_concurrent_streams=1))
        exchange = peer.request(1)
        peer.send(rst(1))
        peer.send(peer.headers(3))
        assert peer.rst_codes() == [(3, ErrorCode.REFUSED_STREAM)]
        exchange.ended()
        assert not peer.request(5).over


class TestPriority:  # RFC 9113 §5.3.2, §6.3
    def test_it_is_ignored_on_any_stream(self, peer: Peer) -> None:
        for stream_id in (1, 2, 77):
            peer.send(frame(PRIORITY, 0, stream_id, bytes(4) + b"\xff"))
        assert peer.frames() == []
        assert serves(peer, 1)

    def test_on_stream_zero(self, peer: Peer) -> None:
        fails(peer, ErrorCode.PROTOCOL_ERROR, frame(PRIORITY, 0, 0, bytes(5)))

    def test_wrong_length_on_an_open_stream(self, peer: Peer) -> None:
        peer.request(1)
        peer.send(frame(PRIORITY, 0, 1, bytes(4)))
        assert peer.rst_codes() == [(1, ErrorCode.FRAME_SIZE_ERROR)]
        assert serves(peer)

    def test_wrong_length_on_a_closed_stream(self, peer: Peer) -> None:
        answer(peer.request(1))
        peer.frames()
        peer.send(frame(PRIORITY, 0, 1, bytes(4)))
        assert peer.rst_codes() == [(1, ErrorCode.FRAME_SIZE_ERROR)]

    def test_wrong_length_on_an_idle_stream(self, peer: Peer) -> None:
        fails(peer, ErrorCode.FRAME_SIZE_ERROR, frame(PRIORITY, 0, 1, bytes(4)))

    def test_self_dependency(self, peer: Peer) -> None:
        peer.request(3)
        peer.send(frame(PRIORITY, 0, 3, b"\x80\0\0\x03\x00"))
        assert peer.rst_codes() == [(3, ErrorCode.PROTOCOL_ERROR)]
        fails(peer, ErrorCode.PROTOCOL_ERROR, frame(PRIORITY, 0, 8, b"\0\0\0\x08\x00"))

    def test_headers_with_priority(self, peer: Peer) -> None:
        flags = END_HEADERS | END_STREAM | HAS_PRIORITY
        block = peer.encode(GET)
        (exchange,) = peer.send(frame(HEADERS, flags, 3, b"\x80\0\0\x01\xff" + block))
        assert exchange.request.path == "/"

    def test_headers_that_depend_on_themselves(self, peer: Peer) -> None:
        flags = END_HEADERS | END_STREAM | HAS_PRIORITY
        block = peer.encode(GET)
        assert peer.send(frame(HEADERS, flags, 3, b"\0\0\0\x03\xff" + block)) == []
        assert peer.rst_codes() == [(3, ErrorCode.PROTOCOL_ERROR)]
        assert serves(peer)

    def test_trailers_that_depend_on_themselves(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        flags = END_HEADERS | END_STREAM | HAS_PRIORITY
        block = peer.encode([("a", "b")])
        peer.send(frame(HEADERS, flags, 1, b"\0\0\0\x01\xff" + block))
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        assert exchange.closed

    def test_headers_too_short_for_their_priority(self, peer: Peer) -> None:
        flags = END_HEADERS | END_STREAM | HAS_PRIORITY
        fails(peer, ErrorCode.FRAME_SIZE_ERROR, frame(HEADERS, flags, 1, b"\0\0\0\0"))


class TestErrors:  # RFC 9113 §5.4.1
    def test_goaway_names_the_last_stream_and_the_connection_ends(
        self, peer: Peer
    ) -> None:
        answer(peer.request(7))
        peer.frames()
        peer.send(frame(PING, 0, 0, b"short"))
        assert peer.frames() == [Frame(GOAWAY, 0, 0, b"\0\0\0\x07\0\0\0\x06")]
        assert peer.engine.closing

    def test_what_came_before_the_error_is_answered(self, peer: Peer) -> None:
        good = [peer.headers(i) for i in (1, 3)]
        first, second = peer.send(*good, frame(PING, 0, 0, b"short"))
        assert peer.goaway_codes() == [ErrorCode.FRAME_SIZE_ERROR]
        assert not peer.engine.closing
        answer(first)
        answer(second)
        assert [f.stream_id for f in peer.frames() if f.kind == DATA] == [1, 3]
        assert peer.engine.closing

    def test_incomplete_requests_do_not_outlive_the_error(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        _, sink = peer.tunnel(3)
        fails(peer, ErrorCode.FRAME_SIZE_ERROR, frame(PING, 0, 0, b"short"))
        assert exchange.over
        assert exchange.task.cancels == 1  # type: ignore[union-attr]
        assert [type(e) for e in sink.ends] == [Disconnected]

    def test_a_handler_that_takes_too_long_after_the_error(self, peer: Peer) -> None:
        exchange = peer.request(1)
        peer.send(frame(PING, 0, 0, b"short"))
        assert not peer.engine.closing
        peer.advance(1)
        assert peer.engine.closing
        assert exchange.task.cancels == 1


class TestData:  # RFC 9113 §6.1
    def test_on_stream_zero(self, peer: Peer) -> None:
        fails(peer, ErrorCode.PROTOCOL_ERROR, data(0, b"x"))

    @pytest.mark.parametrize(
        ("payload", "code"),
        [
            (b"\x06hello", ErrorCode.PROTOCOL_ERROR),
            (b"\xffhello", ErrorCode.PROTOCOL_ERROR),
            (b"", ErrorCode.FRAME_SIZE_ERROR),
        ],
    )
    def test_padding_that_does_not_fit(
        self, peer: Peer, payload: bytes, code: ErrorCode
    ) -> None:
        peer.request(1, POST, end=False)
        fails(peer, code, frame(DATA, PADDED, 1, payload))

    def test_padding_is_no_data(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        peer.send(frame(DATA, PADDED, 1, b"\x03abc\0\0\0"))
        peer.send(frame(DATA, PADDED | END_STREAM, 1, b"\x05\0\0\0\0\0"))
        assert peer.connection.runtime.run(exchange.body.next_chunk) == b"abc"
        assert peer.connection.runtime.run(exchange.body.next_chunk) == b""


class TestHeaders:  # RFC 9113 §6.2
    def test_on_stream_zero(self, peer: Peer) -> None:
        fails(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(0))

    def test_padding_is_stripped(self, peer: Peer) -> None:
        flags = END_HEADERS | END_STREAM | PADDED | HAS_PRIORITY
        payload = b"\x04" + b"\0\0\0\0\x10" + peer.encode(GET) + bytes(4)
        (exchange,) = peer.send(frame(HEADERS, flags, 1, payload))
        assert exchange.request.path == "/"

    def test_padding_that_does_not_fit(self, peer: Peer) -> None:
        flags = END_HEADERS | END_STREAM | PADDED
        fails(peer, ErrorCode.PROTOCOL_ERROR, frame(HEADERS, flags, 1, b"\x05\x82\x87"))


class TestRstStream:  # RFC 9113 §6.4
    def test_on_stream_zero(self, peer: Peer) -> None:
        fails(peer, ErrorCode.PROTOCOL_ERROR, rst(0))

    def test_wrong_length(self, peer: Peer) -> None:
        peer.request(1)
        fails(peer, ErrorCode.FRAME_SIZE_ERROR, frame(RST_STREAM, 0, 1, bytes(3)))

    def test_it_ends_the_exchange_and_its_handler(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        peer.send(rst(1, 0xFF))  # §7: unknown codes are fine
        assert exchange.over
        assert exchange.task.cancels == 1  # type: ignore[union-attr]
        exchange.send_headers(200, [])
        exchange.send_data(b"x", end=True)
        exchange.consumed(1 << 20)
        exchange.reset()
        exchange.ended()
        assert peer.frames() == []

    def test_a_request_reset_in_the_same_read_is_never_dispatched(
        self, peer: Peer
    ) -> None:
        assert peer.send(peer.headers(1), rst(1)) == []
        assert serves(peer)


class TestSettings:  # RFC 9113 §6.5
    def test_they_are_acknowledged(self, peer: Peer) -> None:
        peer.send(settings((3, 100), (6, 4096)))
        assert peer.frames() == [Frame(SETTINGS, ACK, 0, b"")]

    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (frame(SETTINGS, ACK, 0, bytes(6)), ErrorCode.FRAME_SIZE_ERROR),
            (frame(SETTINGS, 0, 1, b""), ErrorCode.PROTOCOL_ERROR),
            (frame(SETTINGS, 0, 0, bytes(5)), ErrorCode.FRAME_SIZE_ERROR),
            (settings((2, 2)), ErrorCode.PROTOCOL_ERROR),
            (settings((4, 2**31)), ErrorCode.FLOW_CONTROL_ERROR),
            (settings((5, 16_383)), ErrorCode.PROTOCOL_ERROR),
            (settings((5, 2**24)), ErrorCode.PROTOCOL_ERROR),
            (settings((8, 2)), ErrorCode.PROTOCOL_ERROR),
        ],
    )
    def test_bad_ones(self, peer: Peer, bad: bytes, code: ErrorCode) -> None:
        fails(peer, code, bad)

    @pytest.mark.parametrize(
        ("entries", "code"),
        [
            ([(2, 2), (2, 0)], ErrorCode.PROTOCOL_ERROR),
            ([(4, 2**31), (4, 65_535)], ErrorCode.FLOW_CONTROL_ERROR),
            ([(4, 2**32 - 1), (3, 1), (4, 0)], ErrorCode.FLOW_CONTROL_ERROR),
            ([(5, 1), (5, 16_384)], ErrorCode.PROTOCOL_ERROR),
            ([(5, 2**24), (5, 16_384)], ErrorCode.PROTOCOL_ERROR),
            ([(5, 16_384), (5, 1), (5, 16_384)], ErrorCode.PROTOCOL_ERROR),
            ([(8, 2), (8, 1)], ErrorCode.PROTOCOL_ERROR),
            ([(8, 1), (8, 2), (8, 1)], ErrorCode.PROTOCOL_ERROR),
            ([(5, 1), (4, 2**31)], ErrorCode.PROTOCOL_ERROR),  # the first one decides
            ([(4, 2**31), (5, 1)], ErrorCode.FLOW_CONTROL_ERROR),
        ],
    )
    def test_a_good_value_makes_up_for_no_bad_one(  # RFC 9113 §6.5.3
        self, peer: Peer, entries: list[tuple[int, int]], code: ErrorCode
    ) -> None:
        fails(peer, code, settings(*entries))

    def test_a_window_must_not_overflow_for_a_moment(self, peer: Peer) -> None:
        peer.request(1)
        peer.send(settings((4, 2**31 - 1), (4, 65_535)))  # exactly the largest
        assert pings(peer)
        peer.send(window_update(1, 1))
        fails(
            peer,
            ErrorCode.FLOW_CONTROL_ERROR,
            settings((4, 2**31 - 1), (4, 65_535)),
        )

    def test_windows_of_closed_streams_do_not_overflow(self, peer: Peer) -> None:
        peer.send(peer.headers(1), window_update(1, 2**31 - 1 - 65_535), rst(1))
        peer.send(settings((4, 70_000)))
        assert pings(peer)

    def test_unknown_ones_are_ignored(self, peer: Peer) -> None:
        peer.send(settings((0x7, 1), (0x9, 1), (0xF000, 1)))
        assert peer.frames() == [Frame(SETTINGS, ACK, 0, b"")]

    def test_the_last_of_several_values_counts(self, peer: Peer) -> None:
        peer.send(settings((4, 100), (4, 1)))
        exchange = peer.request(1)
        answer(exchange)
        assert [f.payload for f in peer.frames() if f.kind == DATA] == [b"h"]

    @pytest.mark.parametrize("size", [0, 100, 4096, 2**32 - 1])
    def test_whatever_the_header_table_may_be_we_use_none(
        self, peer: Peer, size: int
    ) -> None:
        peer.send(settings((1, size)), settings((1, size)))
        peer.frames()
        answer(peer.request(1))
        assert peer.frames()[0].payload.startswith(b"\x20\x88")  # RFC 7541 §6.3: 0
        answer(peer.request(3))
        assert peer.frames()[0].payload.startswith(b"\x88")  # once is enough

    def test_frames_grow_with_max_frame_size(self, peer: Peer) -> None:
        peer.send(settings((5, 2**24 - 1), (4, 1 << 20)), window_update(0, 1 << 20))
        answer(peer.request(1), bytes(100_000))
        sizes = [len(f.payload) for f in peer.frames() if f.kind == DATA]
        assert sizes == [65_550, 34_450]

    def test_a_message_of_64_kib_is_one_frame_where_the_peer_takes_it(
        self, peer: Peer
    ) -> None:
        peer.send(settings((5, 65_550), (4, 1 << 20)), window_update(0, 1 << 20))
        exchange, _ = peer.tunnel()
        exchange.send_frame(0x82, bytes(65_536), soon=False)
        sizes = [len(f.payload) for f in peer.frames() if f.kind == DATA]
        assert sizes == [10 + 65_536]  # RFC 6455 §5.2: the head is 10 bytes

    def test_no_acknowledgement_in_time(self, make: Make) -> None:
        peer = make(greet=False)
        peer.send(PREFACE + settings())
        peer.request(1)
        peer.frames()
        peer.advance(10)
        assert peer.goaway_codes() == [ErrorCode.SETTINGS_TIMEOUT]
        assert peer.engine.closing


class TestPushPromise:  # RFC 9113 §8.4
    def test_clients_do_not_push(self, peer: Peer) -> None:
        peer.request(1, POST, end=False)
        payload = b"\0\0\0\x02" + peer.encode(GET)
        fails(
            peer,
            ErrorCode.PROTOCOL_ERROR,
            frame(PUSH_PROMISE, END_HEADERS, 1, payload)[:9],
        )


class TestPing:  # RFC 9113 §6.7
    def test_it_is_answered(self, peer: Peer) -> None:
        assert pings(peer)

    def test_an_answer_is_not(self, peer: Peer) -> None:
        peer.send(frame(PING, ACK, 0, b"invalid!"))
        assert peer.frames() == []

    @pytest.mark.parametrize(
        ("bad", "code"),
        [
            (frame(PING, 0, 1, PING_8), ErrorCode.PROTOCOL_ERROR),
            (frame(PING, 0, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR),
        ],
    )
    def test_bad_ones(self, peer: Peer, bad: bytes, code: ErrorCode) -> None:
        fails(peer, code, bad)


class TestGoaway:  # RFC 9113 §6.8
    def test_on_a_stream(self, peer: Peer) -> None:
        fails(peer, ErrorCode.PROTOCOL_ERROR, frame(GOAWAY, 0, 1, bytes(8)))

    def test_too_short(self, peer: Peer) -> None:
        fails(peer, ErrorCode.FRAME_SIZE_ERROR, frame(GOAWAY, 0, 0, bytes(7)))

    @pytest.mark.parametrize("code", [0, 2, 0xFF])
    def test_an_idle_connection_ends(self, peer: Peer, code: int) -> None:
        peer.send(frame(GOAWAY, 0, 0, bytes(4) + code.to_bytes(4) + b"debug"))
        assert peer.engine.closing

    def test_open_streams_are_finished_first(self, peer: Peer) -> None:
        exchange = peer.request(1)
        tunnel, sink = peer.tunnel(3)
        peer.send(frame(GOAWAY, 0, 0, bytes(8)))
        answer(exchange)
        assert DATA in [f.kind for f in peer.frames()]
        peer.send(data(3, b"still here"))
        assert sink.data == b"still here"
        assert not peer.engine.closing
        tunnel.reset()
        assert peer.engine.closing


class TestContinuation:  # RFC 9113 §6.10
    def test_blocks_may_come_in_pieces(self, peer: Peer) -> None:
        block = peer.encode(GET)
        parts = [block[:1], b"", block[1:5], block[5:]]
        (exchange,) = peer.send(peer.blocks(1, parts))
        assert exchange.request.path == "/"

    def test_on_stream_zero(self, peer: Peer) -> None:
        part = frame(HEADERS, END_STREAM, 1, b"\x82")
        fails(
            peer,
            ErrorCode.PROTOCOL_ERROR,
            part,
            frame(CONTINUATION, END_HEADERS, 0, b"\x87"),
        )

    def test_after_the_end_of_a_block(self, peer: Peer) -> None:
        late = frame(CONTINUATION, END_HEADERS, 1, b"\x82")
        fails(peer, ErrorCode.PROTOCOL_ERROR, peer.headers(1), late)

    def test_after_data(self, peer: Peer) -> None:
        peer.request(1, POST, end=False)
        late = frame(CONTINUATION, END_HEADERS, 1, b"\x82")
        fails(peer, ErrorCode.PROTOCOL_ERROR, data(1, b"x"), late)


class TestSplitReads:
    def test_every_split_of_a_conversation_gives_the_same_result(
        self, make: Make
    ) -> None:
        def talk(size: int) -> tuple[bytes, bytes]:
            peer = make(greet=False)
            connect = peer.headers(1, CONNECT, end=False)
            stream = PREFACE + settings((4, 5)) + SETTINGS_ACK + connect
            (exchange,) = [
                found
                for i in range(0, len(stream), size)
                for found in peer.send(stream[i : i + size])
            ]
            sink = RecordingSink(exchange)
            exchange.open_tunnel(200, [(b"date", b"x")]).receive_into(sink)
            stream = data(1, b"abc") + frame(PING, 0, 0, PING_8)
            stream += frame(DATA, PADDED, 1, b"\x02de\0\0") + data(1, b"", end=True)
            for i in range(0, len(stream), size):
                peer.send(stream[i : i + size])
            assert sink.ends == [None]
            return bytes(sink.data), peer.connection.take()

        whole = talk(10_000)
        assert whole[0] == b"abcde"
        for size in range(1, 40):
            assert talk(size) == whole
