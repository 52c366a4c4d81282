"""RFC 8441: WebSockets over extended CONNECT, as far as the engine is concerned."""

import tracemalloc
from collections.abc import Callable

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.seams import Pause
from tako.errors import Disconnected, LocalProtocolError
from tako.h2.frames import DATA, HEADERS, RST_STREAM, WINDOW_UPDATE
from tako.native.loops import encode_frame as native_frame
from tako.testing.peer.websocket import encode_frame
from tako.ws.conversation import Conversation
from tako.ws.options import WsOptions
from tests.support.h2wire import (
    CONNECT,
    GET,
    POST,
    Fields,
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


def without(*names: str) -> Fields:
    return [field for field in CONNECT if field[0] not in names]


def with_(name: str, value: str) -> Fields:
    return [(n, value if n == name else v) for n, v in CONNECT]


def serves(peer: Peer, stream_id: int = 101) -> bool:
    answer(peer.request(stream_id))
    return DATA in [f.kind for f in peer.frames()]


class TestTinyPieces:
    """What waits costs about what it counts for flow control, in pieces of any size."""

    def test_early_bytes(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_initial_window_size=40_000))
        exchange = peer.request(1, CONNECT, end=False)
        grown = _traced(lambda: [peer.send(data(1, b"ab") * 100) for _ in range(100)])
        assert grown < 2 * 20_000  # as objects they are 370 KB
        sink = RecordingSink(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        assert sink.data == b"ab" * 10_000
        assert WINDOW_UPDATE in [frame.kind for frame in peer.frames()]

    def test_a_body(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        grown = _traced(lambda: [peer.send(data(1, b"ab") * 100) for _ in range(100)])
        assert grown < 2 * 20_000
        read = peer.connection.runtime.run(exchange.request.stream().__anext__)
        assert read.startswith(b"ab")

    def test_output_behind_a_shut_window(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))  # SETTINGS_INITIAL_WINDOW_SIZE
        exchange, _ = peer.tunnel()

        def talk() -> None:
            while exchange.writable:
                exchange.send_data(b"ab")

        assert _traced(talk) < 3 * 65_536
        peer.frames()
        peer.send(window_update(1, 7), window_update(0, 1 << 20))
        peer.send(window_update(1, 1 << 20))
        sent = b"".join(frame.payload for frame in peer.frames())
        assert sent == b"ab" * 32_768


def _traced(work: Callable[[], object]) -> int:
    """Return the bytes of memory that ``work`` leaves behind."""
    tracemalloc.start()
    try:
        kept = work()
        del kept
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


class TestHandshake:  # RFC 8441 §4
    def test_it_is_presented_as_the_get_it_replaces(self, peer: Peer) -> None:
        request = peer.request(1, CONNECT, end=False).request
        assert (request.method, request.path) == ("GET", "/ws")
        assert (request.protocol, request.is_websocket) == ("websocket", True)
        assert (request.http_version, request.authority) == ("2", "example.org")
        assert request.headers.raw == [
            (b"host", b"example.org"),
            (b"sec-websocket-version", b"13"),
        ]

    def test_accepting(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        fields = [(b"sec-websocket-protocol", b"chat"), (b"content-length", b"0")]
        exchange.open_tunnel(200, fields).receive_into(RecordingSink(exchange))
        (head,) = peer.frames()
        assert not head.ends
        answered = peer.decode(head)
        assert list(answered) == [":status", "date", "sec-websocket-protocol"]
        assert answered[":status"] == "200"

    def test_101_becomes_200(self, peer: Peer) -> None:  # RFC 9113 §8.6
        exchange = peer.request(1, CONNECT, end=False)
        exchange.open_tunnel(101, [(b"upgrade", b"websocket")]).receive_into(
            RecordingSink(exchange)
        )
        fields = peer.decode(peer.frames()[0])
        assert list(fields) == [":status", "date"]
        assert fields[":status"] == "200"

    @pytest.mark.parametrize(
        "fields",
        [
            without(":scheme"),
            without(":path"),
            without(":authority"),
            with_(":path", ""),
            with_(":path", "ws"),
            with_(":path", "*"),
            with_(":scheme", "ftp"),
            with_(":authority", "a/b"),
            with_(":method", "GET"),
            [*CONNECT, ("connection", "upgrade")],
            [*CONNECT, ("upgrade", "websocket")],
            without(":protocol"),  # §8.5 of RFC 9113: then no :scheme and no :path
            without(":protocol", ":scheme"),
            without(":protocol", ":path"),
            without(":protocol", ":path", ":scheme", ":authority"),
        ],
    )
    def test_malformed(self, peer: Peer, fields: Fields) -> None:
        assert peer.send(peer.headers(1, fields, end=False)) == []
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        assert serves(peer)

    def test_when_it_was_not_announced(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_enable_connect_protocol=False))
        assert peer.send(peer.headers(1, CONNECT, end=False)) == []
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        assert serves(peer)

    @pytest.mark.parametrize(
        ("fields", "status", "body"),
        [
            (with_(":protocol", "connect-udp"), "501", b"Unsupported :protocol"),
            (with_(":protocol", ""), "501", b"Unsupported :protocol"),
            ([(":method", "CONNECT"), (":authority", "a:443")], "501", b""),
            ([*CONNECT, ("content-length", "0")], "400", b""),
        ],
    )
    @pytest.mark.parametrize("end", [False, True])
    def test_never_dispatched(
        self, peer: Peer, fields: Fields, status: str, body: bytes, end: bool
    ) -> None:
        assert peer.send(peer.headers(1, fields, end=end)) == []
        frames = peer.frames()
        assert peer.decode(frames[0])[":status"] == status
        assert b"".join(f.payload for f in frames if f.kind == DATA) == body
        assert [f.ends for f in frames].count(True) == 1
        # A client that has not ended its side is told not to bother
        last = Frame(RST_STREAM, 0, 1, bytes(4))
        assert (frames[-1] == last) is not end
        assert not peer.engine.exchanges
        assert serves(peer)

    def test_the_refusal_waits_for_the_window(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        peer.send(peer.headers(1, with_(":protocol", "x"), end=False))
        assert RST_STREAM not in [f.kind for f in peer.frames()]
        peer.send(window_update(1, 100))
        assert [f.kind for f in peer.frames()] == [DATA, RST_STREAM]

    def test_end_stream_on_the_request_is_for_the_handler_to_refuse(
        self, peer: Peer
    ) -> None:
        exchange = peer.request(1, CONNECT, end=True)
        assert exchange.body.complete
        exchange.send_headers(400, [], end=True)
        assert [f.ends for f in peer.frames()] == [True]
        assert not peer.engine.exchanges

    @pytest.mark.parametrize("status", [100, 200, 204])
    def test_a_handler_that_is_no_websocket(self, peer: Peer, status: int) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        exchange.send_headers(status, [(b"content-length", b"5")])
        exchange.send_data(b"hello", end=True)
        exchange.ended()
        head, body, reset = peer.frames()
        assert peer.decode(head)[":status"] == "501"
        assert body.payload == b"Resource does not support WebSocket"
        assert body.ends
        assert (reset.kind, reset.number) == (RST_STREAM, 0)

    def test_the_same_with_a_shut_window(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        exchange = peer.request(1, CONNECT, end=False)
        exchange.send_headers(200, [])
        exchange.send_data(b"hello")
        exchange.send_trailers([])
        exchange.ended()
        peer.frames()
        peer.send(window_update(1, 1000))
        assert peer.frames()[0].payload == b"Resource does not support WebSocket"
        assert not peer.engine.exchanges

    @pytest.mark.parametrize("status", [308, 403, 500])
    def test_other_answers_pass(self, peer: Peer, status: int) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        exchange.send_headers(status, [])
        exchange.send_data(b"no", end=True)
        head, body, reset = peer.frames()
        assert peer.decode(head)[":status"] == str(status)
        assert (body.payload, reset.kind) == (b"no", RST_STREAM)


class TestEarlyData:
    def test_it_is_delivered_on_acceptance(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        peer.send(data(1, b"ear"), data(1, b"ly"))
        sink = RecordingSink(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        assert sink.data == b"early"
        peer.send(data(1, b"!"))
        assert sink.data == b"early!"

    def test_with_the_end_behind_it(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        peer.send(data(1, b"early", end=True))
        assert (
            not exchange.body.exhausted
        )  # not a stream that was closed from the start
        sink = RecordingSink(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        assert (bytes(sink.data), sink.ends) == (b"early", [None])
        exchange.send_data(b"", end=True)
        assert not peer.engine.exchanges

    def test_a_window_of_it_is_kept(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        size = peer.connection.config.h2_initial_window_size
        peer.send(*[data(1, bytes(16_384))] * (size // 16_384))
        updates = [f for f in peer.frames() if f.kind == WINDOW_UPDATE and f.stream_id]
        assert updates == []  # it was not consumed: no more can come
        sink = RecordingSink(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        assert sink.data == bytes(size)

    def test_more_than_the_window_is_refused(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        size = peer.connection.config.h2_initial_window_size
        peer.send(*[data(1, bytes(16_384))] * (size // 16_384), data(1, b"x"))
        assert peer.rst_codes() == [(1, ErrorCode.FLOW_CONTROL_ERROR)]
        sink = RecordingSink(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        assert [type(e) for e in sink.ends] == [Disconnected]
        assert peer.frames() == []

    def test_a_sink_that_resets_at_once(self, peer: Peer) -> None:
        class Picky(RecordingSink):
            def deliver(self, data: bytes) -> None:
                self.exchange.reset()

        exchange = peer.request(1, CONNECT, end=False)
        peer.send(data(1, b"a"), data(1, b"b"))
        exchange.open_tunnel(200, []).receive_into(Picky(exchange))
        peer.send(data(1, b"c"))
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
        assert serves(peer)


class TestTunnel:  # RFC 8441 §5, RFC 9113 §8.5
    def test_bytes_both_ways(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        peer.send(data(1, b"one"), data(1, b"two"))
        assert sink.data == b"onetwo"
        exchange.send_data(b"three")
        exchange.send_data(b"")
        assert peer.frames() == [Frame(DATA, 0, 1, b"three")]

    @pytest.mark.parametrize("size", [4096, 16_372, 16_380, 16_381, 65_535, 70_000])
    @pytest.mark.parametrize("window", [1 << 20, 50_000])
    def test_large_frames_are_sent_as_bytes_would_be(
        self, make: Make, size: int, window: int
    ) -> None:
        def sent(*, as_frame: bool) -> tuple[object, ...]:
            peer = make()
            peer.send(settings((4, window)), window_update(0, 1 << 20))
            exchange, _ = peer.tunnel()
            texts = "x" * size, "\u20ac" * (size // 2)  # three bytes each
            for payload in (bytes(size), b"x" * size, *texts, b"small"):
                if as_frame:
                    assert exchange.send_frame(0x82, payload, soon=True) == (
                        exchange.writable
                    )
                else:
                    exchange.send_data(native_frame(0x82, payload))
            output = exchange._output
            windows = exchange.send_window, output.send_window, output.data_frames
            return peer.frames(), windows, exchange.outbox.size

        assert sent(as_frame=True) == sent(as_frame=False)

    def test_it_listens_while_it_is_read_and_its_window_is_open(
        self, make: Make
    ) -> None:
        peer = make(config=ServerConfig(h2_initial_window_size=10))
        exchange = peer.request(1, CONNECT, end=False)
        sink = RecordingSink(exchange, greedy=False)
        tunnel = exchange.open_tunnel(200, [])
        tunnel.receive_into(sink)
        assert tunnel.listening
        peer.connection.pauses = Pause.UNSENT
        assert not tunnel.listening
        peer.connection.pauses = 0
        peer.send(data(1, b"x" * 9))
        assert tunnel.listening
        peer.send(data(1, b"x"))
        assert not tunnel.listening
        tunnel.consumed(10)
        assert tunnel.listening

    def test_tunnels_do_not_mix(self, peer: Peer) -> None:
        sinks = [peer.tunnel(i)[1] for i in (1, 3, 5)]
        peer.send(*[data(i, b"%d" % i) for i in (5, 1, 3, 5)])
        assert [bytes(s.data) for s in sinks] == [b"1", b"3", b"55"]

    def test_the_peer_ends_first(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        peer.send(data(1, b"last", end=True))
        assert (bytes(sink.data), sink.ends) == (b"last", [None])
        assert not exchange.over
        exchange.send_data(b"bye")
        exchange.send_data(b"", end=True)
        assert [(f.payload, f.ends) for f in peer.frames()] == [
            (b"bye", False),
            (b"", True),
        ]
        assert exchange.closed
        assert not peer.engine.exchanges

    def test_data_after_the_peers_end(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        peer.send(data(1, b"last", end=True), data(1, b"more"))
        assert sink.data == b"last"
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]
        assert exchange.closed

    def test_we_end_first(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        exchange.send_data(b"bye", end=True)
        assert [(f.payload, f.ends) for f in peer.frames()] == [(b"bye", True)]
        assert exchange.over
        assert not exchange.closed
        peer.send(data(1, b"and "), data(1, b"you", end=True))
        assert (bytes(sink.data), sink.ends) == (b"and you", [None])
        assert peer.frames() == []
        assert not peer.engine.exchanges

    def test_the_windows_stay_true_through_the_end(self, peer: Peer) -> None:
        exchange, _ = peer.tunnel()
        exchange.send_data(bytes(10_000))
        exchange.send_data(bytes(1000), end=True)
        assert peer.engine._output.send_window == 65_535 - 11_000
        assert exchange.send_window == 65_535 - 11_000

    @pytest.mark.parametrize("end", [True, False])
    def test_headers_are_no_part_of_a_tunnel(self, peer: Peer, end: bool) -> None:
        _, sink = peer.tunnel()
        other, _ = peer.tunnel(3)
        peer.send(peer.headers(1, [("a", "b")], end=end))
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        assert [type(e) for e in sink.ends] == [Disconnected]
        assert not other.closed

    @pytest.mark.parametrize("end", [True, False])
    def test_headers_on_a_websocket_are_an_abnormal_end(
        self, peer: Peer, end: bool
    ) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        ws = Conversation(exchange, WsOptions())
        exchange.open_tunnel(200, []).receive_into(ws)
        peer.send(data(1, encode_frame(1, b"before")))
        peer.frames()
        peer.send(peer.headers(1, [("a", "b")], end=end))
        assert [(f.kind, f.number) for f in peer.frames()] == [(RST_STREAM, 1)]
        assert ws.take() == "before"
        assert ws.close_code == 1006

    @pytest.mark.parametrize("end", [True, False])
    def test_headers_before_acceptance_neither(self, peer: Peer, end: bool) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        peer.send(data(1, b"early"), peer.headers(1, [("a", "b")], end=end))
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        assert exchange.task is not None
        assert exchange.task.cancels == 1  # type: ignore[attr-defined]
        sink = RecordingSink(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        assert [type(e) for e in sink.ends] == [Disconnected]
        assert not sink.data
        exchange.ended()
        assert peer.frames() == []

    def test_headers_after_the_peers_end(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        peer.send(data(1, b"", end=True))
        assert sink.ends == [None]
        peer.send(peer.headers(1, [("a", "b")]))  # RFC 9113 §5.1
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]
        assert [type(e) for e in sink.ends] == [type(None), Disconnected]
        assert exchange.over

    @pytest.mark.parametrize("end", [True, False])
    def test_headers_after_our_end(self, peer: Peer, end: bool) -> None:
        exchange, sink = peer.tunnel()
        exchange.send_data(b"", end=True)
        peer.frames()
        peer.send(peer.headers(1, [("a", "b")], end=end))
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        assert [type(e) for e in sink.ends] == [Disconnected]

    @pytest.mark.parametrize("accepted", [True, False])
    def test_headers_on_a_tunnel_count_as_a_reset(
        self, make: Make, accepted: bool
    ) -> None:
        config = ServerConfig(h2_max_pending_accept_reset_streams=3)
        peer = make(config=config)
        for stream_id in (1, 3, 5, 7):
            assert peer.goaway_codes() == []
            if accepted:
                peer.tunnel(stream_id)
            else:
                peer.request(stream_id, CONNECT, end=False)
            peer.send(peer.headers(stream_id, [("a", "b")]))
        assert peer.goaway_codes() == [ErrorCode.ENHANCE_YOUR_CALM]

    def test_the_peer_resets(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        peer.send(data(1, b"x"), rst(1))
        assert sink.data == b"x"
        assert [type(e) for e in sink.ends] == [Disconnected]
        assert exchange.over
        assert exchange.task.cancels == 0  # type: ignore[union-attr]
        exchange.send_data(b"x")
        assert peer.frames() == []

    def test_we_reset(self, peer: Peer) -> None:
        exchange, sink = peer.tunnel()
        exchange.reset(ErrorCode.CANCEL)
        exchange.reset(ErrorCode.CANCEL)
        exchange.ended()
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
        assert [type(e) for e in sink.ends] == [Disconnected]

    def test_a_reset_without_error_waits_for_what_is_queued(self, peer: Peer) -> None:
        peer.send(settings((4, 2)))
        exchange, _ = peer.tunnel()
        exchange.send_data(b"close", end=True)
        exchange.reset(ErrorCode.NO_ERROR)
        assert [f.kind for f in peer.frames()] == [DATA]
        peer.send(window_update(1, 10))
        assert [(f.kind, f.payload) for f in peer.frames()] == [
            (DATA, b"ose"),
            (RST_STREAM, bytes(4)),
        ]

    def test_there_is_no_reset_once_both_sides_have_ended(self, peer: Peer) -> None:
        exchange = peer.request(1, CONNECT, end=False)
        ws = Conversation(exchange, WsOptions())
        exchange.open_tunnel(200, []).receive_into(ws)
        peer.send(data(1, encode_frame(8, b"\x03\xe8")))
        assert [f.ends for f in peer.frames() if f.kind == DATA] == [False, True]
        peer.send(data(1, b"", end=True))
        exchange.ended()
        assert peer.frames() == []
        assert exchange.closed
        peer.send(data(1, b"x"))
        assert peer.rst_codes() == [(1, ErrorCode.STREAM_CLOSED)]

    def test_the_sink_may_outlive_the_handler(self, peer: Peer) -> None:
        # After its Close frame a session waits for the peer without a task
        exchange, sink = peer.tunnel()
        exchange.ended()
        assert peer.frames() == []
        peer.send(data(1, b"bye"))
        exchange.send_data(b"", end=True)
        peer.send(data(1, b"", end=True))
        assert (bytes(sink.data), sink.ends) == (b"bye", [None])
        assert not peer.engine.exchanges

    def test_nothing_is_sent_after_the_end(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        exchange, _ = peer.tunnel()
        exchange.send_data(b"x", end=True)
        with pytest.raises(LocalProtocolError):
            exchange.send_data(b"y")

    def test_a_reset_that_crosses_data_in_one_read(self, peer: Peer) -> None:
        class Picky(RecordingSink):
            def deliver(self, data: bytes) -> None:
                super().deliver(data)
                self.exchange.reset()

        exchange = peer.request(1, CONNECT, end=False)
        sink = Picky(exchange)
        exchange.open_tunnel(200, []).receive_into(sink)
        peer.frames()
        peer.send(data(1, b"a"), data(1, b"b"), data(1, b"c", end=True))
        assert sink.data == b"a"
        assert [f.kind for f in peer.frames()] == [RST_STREAM]

    def test_a_get_with_websocket_fields_is_a_get(self, peer: Peer) -> None:
        exchange = peer.request(1, GET, extra=[("sec-websocket-version", "13")])
        assert not exchange.request.is_websocket
        exchange.send_headers(400, [], end=True)
        assert [f.kind for f in peer.frames()] == [HEADERS]
