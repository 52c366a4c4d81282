"""What a peer may cost: budgets, bounded handlers, bounded time, bounded turns."""

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.min_rate import MinRate
from tako.errors import Disconnected
from tako.h2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    PING,
    PRIORITY,
    SETTINGS,
    frame,
)
from tako.h2.rules import TokenBucket, WindowUpdateBudget, decoded_size
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
    parse,
    rst,
    settings,
    window_update,
)


CALM = [ErrorCode.ENHANCE_YOUR_CALM]


class TestBudgets:
    def test_a_bucket_refills_with_time(self) -> None:
        bucket = TokenBucket(2, 1, now=0)
        assert [bucket.spend(1, 0), bucket.spend(1, 0), bucket.spend(1, 0)] == [
            True,
            True,
            False,
        ]
        assert bucket.spend(1, 1)
        assert not bucket.spend(3, 100)

    def test_window_updates_in_proportion(self) -> None:
        budget = WindowUpdateBudget()
        assert [budget.spend(0, 0) for _ in range(6)] == [True] * 5 + [False]
        assert [budget.spend(1, 1) for _ in range(22)] == [True] * 21 + [False]

    def test_a_pace_that_is_kept(self) -> None:
        pace = MinRate(100, 5)
        assert all(pace.elapsed(1, 100) for _ in range(100))
        assert [pace.elapsed(1, 0) for _ in range(6)] == [True] * 5 + [False]

    def test_a_fast_start_buys_no_slow_rest(self) -> None:
        pace = MinRate(100, 5)
        assert pace.elapsed(1, 10**9)
        assert not pace.elapsed(6, 0)

    def test_a_standstill_is_borne_but_no_trickle(self) -> None:
        pace = MinRate(100, 5)
        assert all(pace.elapsed_or_stalled(1, 0, 30) for _ in range(29))
        assert not pace.elapsed_or_stalled(1, 1, 30)
        pace = MinRate(100, 5)
        assert [pace.elapsed_or_stalled(10, 0, 30) for _ in range(3)] == [
            True,
            True,
            False,
        ]


class TestControlFrames:
    @pytest.mark.parametrize(
        ("piece", "allowed"),
        [
            (frame(PING, 0, 0, bytes(8)), 997),
            (frame(PING, 1, 0, bytes(8)), 997),
            (frame(PRIORITY, 0, 9, bytes(5)), 997),
            (frame(0xBE, 0, 0, b"x"), 997),
            (SETTINGS_ACK, 997),
            (settings(), 98),
            (settings((4, 0), (4, 65_535)), 98),
        ],
    )
    def test_a_flood(self, peer: Peer, piece: bytes, allowed: int) -> None:
        # The greeting has cost eleven tokens: SETTINGS and its acknowledgement
        count = allowed if allowed < 900 else 989
        peer.send(piece * count)
        assert peer.goaway_codes() == []
        peer.send(piece * 12)
        assert peer.goaway_codes() == CALM
        assert peer.engine.closing

    def test_what_is_spread_over_time_is_fine(self, peer: Peer) -> None:
        for _ in range(50):
            peer.send(frame(PING, 0, 0, bytes(8)) * 100)
            peer.advance(1)
        # idle for fifty seconds: a graceful GOAWAY, no complaint
        assert CALM[0] not in peer.goaway_codes()

    def test_empty_data(self, peer: Peer) -> None:
        peer.tunnel()
        peer.send(data(1) * 989)
        assert not peer.engine.closing
        peer.send(data(1) * 2)
        assert peer.goaway_codes() == CALM

    def test_padding_alone_is_empty_too(self, peer: Peer) -> None:
        peer.tunnel()
        peer.send(frame(DATA, 0x8, 1, b"\0") * 991)
        assert peer.goaway_codes() == CALM

    def test_small_messages_are_no_flood(self, peer: Peer) -> None:
        _, sink = peer.tunnel()
        peer.send(data(1, b"x") * 20_000)
        assert len(sink.data) == 20_000
        assert peer.goaway_codes() == []

    def test_window_updates_for_nothing(self, peer: Peer) -> None:
        peer.send(window_update(0, 1) * 5)
        assert peer.goaway_codes() == []
        peer.send(window_update(0, 1))
        assert peer.goaway_codes() == CALM

    def test_window_updates_of_a_fast_reader(self, peer: Peer) -> None:
        exchange, _ = peer.tunnel()
        for _ in range(1000):
            exchange.send_data(bytes(10))
            peer.send(window_update(0, 10), window_update(1, 10))
        assert peer.goaway_codes() == []

    def test_settings_with_too_many_entries(self, peer: Peer) -> None:
        peer.send(settings(*[(3, 1)] * 32))
        assert peer.goaway_codes() == []
        peer.send(settings(*[(3, 1)] * 33))
        assert peer.goaway_codes() == CALM


class TestHeaderBlocks:
    def test_too_many_bytes(self, peer: Peer) -> None:
        size = decoded_size(ServerConfig())
        pieces = [bytes(16_384)] * (size // 16_384) + [bytes(size % 16_384)]
        peer.send(frame(HEADERS, 0, 1, pieces[0]))
        peer.send(*[frame(CONTINUATION, 0, 1, piece) for piece in pieces[1:]])
        assert peer.goaway_codes() == []
        peer.send(frame(CONTINUATION, 0, 1, b"x")[:9])  # the header alone decides
        assert peer.goaway_codes() == CALM

    def test_as_many_pieces_as_a_large_block_takes(self, make: Make) -> None:
        config = ServerConfig(max_header_bytes=1 << 20)
        peer = make(config=config)
        value = "x" * 1_000_000
        block = peer.encoder.encode([*GET, ("x", value)], huffman=False)
        pieces = [block[i : i + 16_384] for i in range(0, len(block), 16_384)]
        (exchange,) = peer.send(peer.blocks(1, pieces))
        assert exchange.request.headers["x"] == value

    def test_too_many_pieces(self, peer: Peer) -> None:
        block = peer.encode(GET)
        (exchange,) = peer.send(peer.blocks(1, [b""] * 8 + [block]))
        assert exchange.request.path == "/"
        assert peer.send(peer.blocks(3, [b""] * 9 + [block])) == []
        assert peer.goaway_codes() == CALM

    @pytest.mark.parametrize(
        "start",
        [
            frame(HEADERS, END_STREAM, 1, b"\x82"),
            frame(HEADERS, 0x5, 1, b"\x82\x86\x84")[:10],
            frame(HEADERS, 0x5, 1, b"\x82\x86\x84")[:9],
        ],
    )
    def test_one_that_never_ends(self, peer: Peer, start: bytes) -> None:
        other = peer.request(101)
        peer.send(start.replace(b"\0\0\0\x01", b"\0\0\0\x67"))
        peer.advance(9.9)
        assert peer.goaway_codes() == []
        peer.advance(0.1)
        assert peer.goaway_codes() == CALM
        assert other.task is not None

    def test_one_that_ends_late(self, peer: Peer) -> None:
        block = peer.headers(1)
        peer.send(block[:12])
        peer.advance(9)
        (exchange,) = peer.send(block[12:])
        peer.advance(20)
        answer(exchange)
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]


class TestResets:
    def reset_requests(self, peer: Peer, first: int, count: int) -> None:
        for stream_id in range(first, first + 2 * count, 2):
            peer.send(peer.headers(stream_id), rst(stream_id))

    def test_the_bucket(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=30))
        self.reset_requests(peer, 1, 30)
        assert peer.goaway_codes() == []
        self.reset_requests(peer, 101, 1)
        assert peer.goaway_codes() == CALM

    def test_it_refills(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=30))
        self.reset_requests(peer, 1, 30)
        peer.advance(5)
        self.reset_requests(peer, 101, 5)
        assert peer.goaway_codes() == []
        self.reset_requests(peer, 201, 1)
        assert peer.goaway_codes() == CALM

    def test_answered_streams_do_not_count(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=1))
        for stream_id in range(1, 41, 2):
            exchange, _ = peer.tunnel(stream_id)
            exchange.send_data(b"", end=True)
            peer.send(rst(stream_id))
            exchange.ended()
        assert peer.goaway_codes() == []

    @pytest.mark.parametrize(
        "provocation", ["overflow", "data", "headers", "malformed"]
    )
    def test_resets_that_the_peer_provokes_count(
        self, make: Make, provocation: str
    ) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=20))
        for stream_id in range(1, 43, 2):
            extra = [("Bad", "x")] if provocation == "malformed" else []
            head = peer.headers(stream_id, extra=extra)
            more = {
                "overflow": window_update(stream_id, 2**31 - 1),
                "data": data(stream_id, b"x"),
                "headers": b"",
                "malformed": b"",
            }[provocation]
            if provocation == "headers":
                more = peer.headers(stream_id)
            peer.send(head, more)
        assert peer.goaway_codes() == CALM

    def test_live_streams_get_time_to_finish(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=1))
        exchange = peer.request(1)
        self.reset_requests(peer, 3, 2)
        peer.advance(4.9)
        answer(exchange)
        assert [f.kind for f in peer.frames()][-2:] == [HEADERS, DATA]
        assert peer.engine.closing

    @pytest.mark.parametrize("by", ["the peer", "us"])
    def test_what_is_open_goes_on(self, make: Make, by: str) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=30))
        tunnel, sink = peer.tunnel(1)
        upload = peer.request(3, POST, end=False)
        opening = peer.request(5, CONNECT, end=False)
        for stream_id in range(7, 69, 2):
            assert peer.goaway_codes() == []
            provocation = rst(stream_id) if by == "the peer" else data(stream_id, b"x")
            peer.send(peer.headers(stream_id), provocation)
        goaways = [f for f in peer.frames() if f.kind == GOAWAY]
        assert goaways == [Frame(GOAWAY, 0, 0, b"\0\0\0\x43\0\0\0\x0b")]
        assert not peer.engine.closing
        peer.send(data(1, b"x"), data(3, b"body", end=True))
        assert sink.data == b"x"
        tunnel.send_data(b"y")
        answer(upload)
        late = RecordingSink(opening)
        opening.open_tunnel(200, [(b"date", b"x")]).receive_into(late)
        kinds = [(f.kind, f.stream_id) for f in peer.frames()]
        assert kinds == [(DATA, 1), (HEADERS, 3), (DATA, 3), (HEADERS, 5)]
        assert peer.send(peer.headers(101)) == []
        assert peer.rst_codes() == [(101, ErrorCode.REFUSED_STREAM)]
        peer.advance(4.9)
        assert sink.ends == []
        tunnel.reset()
        opening.reset()
        assert peer.engine.closing

    @pytest.mark.parametrize("limit", [5.0, 2.0])
    def test_but_only_for_some_seconds(self, make: Make, limit: float) -> None:
        config = ServerConfig(
            h2_max_pending_accept_reset_streams=1, h2_reset_drain_timeout=limit
        )
        peer = make(config=config)
        _, sink = peer.tunnel(1)
        slow = peer.request(3)
        self.reset_requests(peer, 5, 2)
        peer.advance(limit - 0.1)
        peer.send(data(1, b"x"))
        assert not peer.engine.closing
        peer.advance(0.1)
        assert peer.engine.closing
        assert sink.shut_downs == 1  # before it is cut
        assert [type(e) for e in sink.ends] == [Disconnected]
        assert slow.over

    @pytest.mark.parametrize("what", ["refused", "provoked", "unknown"])
    def test_as_many_again_end_it_at_once(self, make: Make, what: str) -> None:
        config = ServerConfig(h2_max_pending_accept_reset_streams=20)
        peer = make(config=config)
        _, sink = peer.tunnel(1)
        open_ones = [peer.request(i) for i in range(3, 45, 2)]
        self.reset_requests(peer, 101, 21)
        assert peer.goaway_codes() == CALM
        for count, exchange in enumerate(open_ones):
            assert (count, sink.ends) == (count, [])
            if what == "refused":
                peer.send(peer.headers(201 + 2 * count))
            elif what == "provoked":
                peer.send(data(exchange.stream_id, b"x"))
            else:
                flags = END_HEADERS | HAS_PRIORITY
                stream_id = 201 + 2 * count
                block = stream_id.to_bytes(4) + b"\0" + peer.encode(GET)
                peer.send(frame(HEADERS, flags, stream_id, block))
        assert [type(e) for e in sink.ends] == [Disconnected]
        goaways = [f.payload for f in peer.frames() if f.kind == GOAWAY]
        assert goaways == [b"\0\0\0\x8d\0\0\0\x0b"]
        assert peer.engine.closing
        assert [e.over for e in open_ones] == [True] * len(open_ones)

    def test_a_shutdown_while_it_drains_says_goodbye(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=1))
        _, sink = peer.tunnel(1)
        self.reset_requests(peer, 3, 2)
        peer.frames()
        peer.engine.shut_down()
        assert sink.shut_downs == 1
        assert peer.frames() == []
        peer.advance(5)
        assert peer.engine.closing

    def test_a_drain_that_was_in_order_becomes_one(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_pending_accept_reset_streams=1))
        peer.tunnel(1)
        open_ones = [peer.request(i) for i in (3, 5)]
        peer.engine.shut_down()
        peer.advance(1)
        assert peer.goaway_codes() == [0, 0]
        for exchange in open_ones:
            peer.send(rst(exchange.stream_id))
        assert peer.goaway_codes() == CALM
        assert not peer.engine.closing
        peer.advance(5)
        assert peer.engine.closing

    def test_handlers_never_outnumber_the_limit(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_concurrent_streams=3))
        running = 0
        for stream_id in range(1, 101, 2):
            running += len(peer.send(peer.headers(stream_id)))
            peer.send(rst(stream_id))
        assert running == 3


class TestTime:
    def test_a_body_that_trickles(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        for _ in range(5):
            peer.send(data(1, b"0123456789"))
            peer.advance(1)
        assert not exchange.closed
        peer.send(data(1, b"0123456789"))
        peer.advance(2)
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
        assert exchange.task.cancels == 1  # type: ignore[union-attr]
        for _ in range(6):
            assert len(peer.connection.runtime.run(exchange.body.next_chunk)) == 10
        with pytest.raises(Disconnected):
            peer.connection.runtime.run(exchange.body.next_chunk)

    def test_a_body_at_its_pace(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        for _ in range(60):
            peer.send(data(1, bytes(250)))
            peer.advance(1)
        assert not exchange.closed

    def test_a_body_that_our_application_holds_up(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_initial_window_size=1000))
        exchange = peer.request(1, POST, end=False)
        peer.send(data(1, bytes(1000)))
        peer.advance(60)
        assert not exchange.closed
        assert len(peer.connection.runtime.run(exchange.body.next_chunk)) == 1000
        peer.advance(7)
        assert exchange.closed  # now it is the peer's turn

    def test_a_body_that_waits_for_100(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False, extra=[("expect", "100-continue")])
        peer.advance(60)
        assert not exchange.closed

    def test_a_websocket_may_be_silent(self, peer: Peer) -> None:
        exchange, _ = peer.tunnel()
        peer.advance(3600)
        assert not exchange.closed

    def test_no_minimum(self, make: Make) -> None:
        peer = make(config=ServerConfig(min_rate=0))
        exchange = peer.request(1, POST, end=False)
        peer.advance(3600)
        assert not exchange.closed

    @pytest.mark.parametrize("carrier", ["response", "tunnel"])
    def test_output_that_nobody_takes(self, peer: Peer, carrier: str) -> None:
        peer.send(settings((4, 0)))
        if carrier == "tunnel":
            exchange, sink = peer.tunnel()
        else:
            exchange = peer.request(1)
            exchange.send_headers(200, [])
        exchange.send_data(bytes(1000))
        peer.frames()
        peer.advance(29)
        assert peer.frames() == []
        peer.advance(3)
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
        assert exchange.over
        if carrier == "tunnel":
            assert [type(e) for e in sink.ends] == [Disconnected]

    def test_output_that_trickles(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        answer(peer.request(1), bytes(100_000))
        peer.frames()
        for _ in range(10):
            peer.send(window_update(1, 10))
            peer.advance(1)
        frames = peer.frames()
        assert 20 <= sum(len(f.payload) for f in frames if f.kind == DATA) <= 100
        assert not peer.engine.exchanges

    def test_output_that_pauses_and_goes_on(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        answer(peer.request(1), bytes(50_000))
        for _ in range(3):
            peer.advance(20)
            peer.send(window_update(1, 16_000))
        peer.advance(20)
        assert peer.rst_codes() == []
        peer.send(window_update(1, 2_000))
        assert not peer.engine.exchanges

    def test_a_loop_that_stood_still_is_not_the_peers_fault(self, make: Make) -> None:
        peer = make(config=ServerConfig(send_timeout=5))
        peer.send(settings((4, 0)))
        exchange = peer.request(1)
        answer(exchange, bytes(50_000))
        peer.advance(2)
        for _ in range(5):
            peer.connection.runtime.now += 60
            peer.advance(0)
            peer.send(window_update(1, 1_000))
            peer.advance(1)
        assert peer.rst_codes() == []
        peer.advance(6)
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]

    def test_while_the_transport_takes_nothing_no_stream_is_charged(
        self, make: Make
    ) -> None:
        peer = make(config=ServerConfig(send_timeout=5))
        upload = peer.request(1, POST, end=False)
        download = peer.request(3)
        download.send_headers(200, [])
        peer.connection.writable = (
            False  # its TCP window is shut; nothing is read, either
        )
        download.send_data(bytes(1000))
        peer.advance(60)
        assert peer.rst_codes() == []
        peer.connection.writable = True
        peer.engine.wake_writers()
        peer.advance(4)
        assert peer.rst_codes() == []
        peer.advance(4)
        assert peer.rst_codes() == [(1, ErrorCode.CANCEL)]
        assert upload.over

    def test_no_send_timeout(self, make: Make) -> None:
        peer = make(config=ServerConfig(send_timeout=None))
        peer.send(settings((4, 0)))
        exchange, _ = peer.tunnel()
        exchange.send_data(b"x")
        peer.advance(3600)
        assert not exchange.closed


class TestTurns:
    def test_work_is_cut_into_turns(self, peer: Peer) -> None:
        clock = peer.connection.runtime
        steps = 0

        def tick() -> float:
            nonlocal steps
            steps += 1
            clock.now += 0.0015
            return clock.now

        peer.connection.time = tick
        requests = b"".join(peer.headers(i) for i in range(1, 161, 2))
        found = list(peer.engine.receive_data(requests))
        assert peer.engine.backlog
        assert 0 < len(found) < 80
        turns = 1
        while peer.engine.backlog:
            clock.run_ready()
            found += peer.engine.receive_data(b"")
            turns += 1
        assert len(found) == 80
        assert turns > 1

    def test_input_that_comes_while_there_is_a_backlog(self, peer: Peer) -> None:
        _, sink = peer.tunnel()
        clock = peer.connection.runtime

        def tick() -> float:
            clock.now += 0.0015
            return clock.now

        peer.connection.time = tick
        messages = [b"%03d" % i for i in range(800)]
        stream = b"".join(data(1, m) for m in messages)
        peer.engine.receive_data(stream[:6001])
        assert peer.engine.backlog
        peer.engine.receive_data(stream[6001:])
        while peer.engine.backlog:
            clock.run_ready()
            peer.engine.receive_data(b"")
        assert sink.data == b"".join(messages)

    def test_memory_of_an_incomplete_frame(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        whole = data(1, bytes(16_384))
        for i in range(0, len(whole), 7):
            peer.send(whole[i : i + 7])
        assert exchange.received == 16_384
        assert not peer.engine._reader._rest

    def test_closed_streams_are_forgotten(self, peer: Peer) -> None:
        for stream_id in range(1, 5001, 2):
            answer(peer.request(stream_id))
            if stream_id % 200 == 1:
                peer.frames()
        assert not peer.engine.exchanges
        assert len(peer.engine._reader._closed_streams._ended) <= 1024
        for stream_id in range(5001, 9001, 2):
            peer.request(stream_id).reset()
            peer.exchanges[-1].ended()
        assert len(peer.engine._reader._closed_streams._reset) <= 1024

    def test_nothing_is_said_twice(self, peer: Peer) -> None:
        kinds = [f.kind for f in parse(peer.connection.take())]
        assert GOAWAY not in kinds
        assert SETTINGS not in kinds


class TestRefusals:
    def test_requests_that_end_in_a_refusal_do_not_go_on_for_ever(self) -> None:
        config = ServerConfig(
            h2_max_header_list_size=16 * 1024, h2_max_pending_accept_reset_streams=20
        )
        peer = Peer(config=config)
        value = "x" * 17_000
        for stream_id in range(1, 101, 2):
            peer.send(peer.headers(stream_id, extra=[("x-large", value)]))
            if codes := peer.goaway_codes():
                assert codes == CALM
                return
        pytest.fail("they go on for ever")
