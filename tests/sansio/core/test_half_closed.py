"""A peer that ends its direction before its answer: what is told, what may go on."""

import pytest

from tako.config import ServerConfig
from tako.h1 import H1Exchange
from tako.h2.exchange import H2Exchange
from tako.h2.frames import DATA, HEADERS, PING, PREFACE, RST_STREAM
from tests.support.h1_peer import H1Peer, Handler
from tests.support.h2wire import GET, Peer, RecordingTask, answer, settings


CANCEL = 0x8
REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf"
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
)
LIMIT = ServerConfig(half_closed_timeout=30, send_timeout=10)


async def wait_for_ever(exchange: H1Exchange) -> None:
    await exchange.connection.runtime.sleep(1e9)


def parts(pauses: list[float]) -> Handler:
    """Return a handler that sends a part before and after each pause."""

    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        for pause in pauses:
            exchange.send_data(b"part")
            exchange.bytes_sent += 4
            exchange.flush()
            await exchange.connection.runtime.sleep(pause)
        exchange.send_data(b"part", end=True)

    return handler


def h1(handler: Handler, config: ServerConfig = LIMIT) -> H1Peer:
    return H1Peer(handler, config)


class TestHttp1:
    def test_a_handler_can_see_it_and_wait_for_it(self) -> None:
        seen: list[bool] = []

        async def handler(exchange: H1Exchange) -> None:
            seen.append(exchange.request.disconnected)
            await exchange.request.wait_disconnected()
            seen.append(exchange.request.disconnected)
            exchange.send_headers(204, [], end=True)

        peer = h1(handler)
        peer.send(REQUEST)
        assert seen == [False]
        peer.engine.receive_eof()
        peer.go_on()
        assert seen == [False, True]
        assert [a.status for a in peer.answers()] == [204], "it may still read"
        assert peer.closed

    def test_a_lost_connection_is_seen_in_the_same_way(self) -> None:
        peer = h1(wait_for_ever)
        peer.send(REQUEST)
        peer.engine.connection_lost()
        assert peer.exchanges[0].request.disconnected

    def test_what_has_not_begun_to_answer_is_cancelled_in_the_end(self) -> None:
        peer = h1(wait_for_ever)
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.runtime.advance(29)
        assert not peer.connection.aborted
        assert not peer.runtime.tasks[0].done
        peer.runtime.advance(2)
        assert peer.connection.aborted
        assert peer.runtime.tasks[0].cancelled

    def test_without_a_limit_it_waits_for_ever(self) -> None:
        peer = h1(wait_for_ever, ServerConfig(half_closed_timeout=None))
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.runtime.advance(500)
        assert not peer.connection.aborted

    def test_an_answer_in_slow_parts_is_sent_whole(self) -> None:
        peer = h1(parts([20, 25, 20, 25]))
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.runtime.advance(100)
        (whole,) = peer.answers()
        assert whole.body == b"part" * 5
        assert not peer.connection.aborted

    @pytest.mark.parametrize("before", [False, True])
    def test_an_answer_that_stands_still_is_given_up(self, *, before: bool) -> None:
        peer = h1(parts([5, 1e6]))
        peer.send(REQUEST)
        if before:
            peer.runtime.advance(10)
        peer.engine.receive_eof()
        peer.runtime.advance(29)
        assert not peer.connection.aborted
        peer.runtime.advance(10)
        assert peer.connection.aborted
        assert peer.runtime.tasks[0].cancelled

    def test_a_peer_that_is_known_to_be_gone_is_dropped_soon(self) -> None:
        peer = h1(parts([1e6]))
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.connection.delivered = None
        peer.runtime.advance(1)
        assert peer.connection.aborted

    @pytest.mark.parametrize("moves", [False, True])
    def test_output_on_its_way_must_arrive(self, *, moves: bool) -> None:
        peer = h1(parts([2] * 30))
        peer.send(REQUEST)
        peer.engine.receive_eof()
        for second in range(30):
            peer.connection.delivered = (second if moves else 7, 100)
            peer.runtime.advance(1)
        assert peer.connection.aborted is not moves

    def test_a_silent_stream_is_probed_once_in_each_gap(self) -> None:
        """RFC 9112 section 7.1: zeros in front of a size mean nothing."""
        peer = h1(parts([0.3, 5, 5]))
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.runtime.advance(20)
        body = peer.take().partition(b"\r\n\r\n")[2]
        part = b"4\r\npart\r\n"
        assert body == part + b"0" + part + b"0" + part + b"0" + part + b"0\r\n\r\n"

    def test_the_end_behind_a_probe_is_the_end(self) -> None:
        async def handler(exchange: H1Exchange) -> None:
            exchange.send_headers(200, [])
            await exchange.connection.runtime.sleep(5)
            exchange.send_data(b"", end=True)

        peer = h1(handler)
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.runtime.advance(6)
        assert peer.take().endswith(b"\r\n\r\n00\r\n\r\n")

    def test_what_has_a_length_or_no_head_is_not_probed(self) -> None:
        async def handler(exchange: H1Exchange) -> None:
            await exchange.connection.runtime.sleep(5)
            exchange.send_headers(200, [(b"content-length", b"2")])
            exchange.send_data(b"a")
            await exchange.connection.runtime.sleep(5)
            exchange.send_data(b"b", end=True)

        peer = h1(handler)
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.runtime.advance(11)
        (whole,) = peer.answers()
        assert whole.body == b"ab"

    def test_what_has_no_room_to_move_is_not_silent(self) -> None:
        peer = h1(parts([1e6]))
        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.connection.writable = False
        peer.runtime.advance(500)
        assert not peer.connection.aborted

    def test_requests_behind_are_told_and_have_the_whole_time(self) -> None:
        peer = h1(parts([20]))
        peer.send(REQUEST * 3)
        peer.engine.receive_eof()
        for count in (1, 2, 3):
            assert len(peer.exchanges) == count
            assert peer.exchanges[-1].request.disconnected
            peer.runtime.advance(21)
            peer.go_on()
        assert len(peer.answers()) == 3
        assert peer.closed
        assert not peer.connection.aborted

    def test_the_last_of_them_is_bounded_too(self) -> None:
        peer = h1(wait_for_ever)
        peer.send(REQUEST)

        async def begin_next() -> None:
            peer.exchanges[0].send_headers(204, [], end=True)

        peer.send(REQUEST)
        peer.engine.receive_eof()
        peer.runtime.run(begin_next)
        peer.exchanges[0].ended()
        peer.go_on()
        assert len(peer.exchanges) == 2
        peer.runtime.advance(31)
        assert peer.connection.aborted

    def test_an_early_answer_to_half_a_body_is_watched(self) -> None:
        peer = h1(parts([1e6]))
        peer.send(POST)
        peer.engine.receive_eof()
        assert peer.exchanges[0].request.disconnected
        peer.runtime.advance(40)
        assert peer.connection.aborted

    def test_half_a_body_is_400_and_its_handler_is_told(self) -> None:
        peer = h1(wait_for_ever)
        peer.send(POST)
        peer.engine.receive_eof()
        assert [a.status for a in peer.answers()] == [400]
        assert peer.exchanges[0].request.disconnected
        assert peer.closed

    def test_half_a_body_behind_another_request_is_400_too(self) -> None:
        peer = h1(parts([5]))
        peer.send(REQUEST + POST)
        peer.engine.receive_eof()
        peer.runtime.advance(6)
        peer.go_on()
        assert [a.status for a in peer.answers()] == [200, 400]
        assert len(peer.exchanges) == 1, "no handler waits for the rest"
        assert peer.closed

    def test_a_connection_is_not_kept_for_what_runs_after_the_answer(self) -> None:
        async def busy(exchange: H1Exchange) -> None:
            exchange.send_headers(204, [], end=True)
            exchange.flush()
            await exchange.connection.runtime.sleep(1e9)

        peer = h1(busy)
        peer.send(REQUEST)
        assert not peer.closed
        peer.engine.receive_eof()
        assert peer.closed
        peer.engine.connection_lost()
        peer.runtime.run_ready()
        assert not peer.runtime.tasks[0].done, "it was answered: it may end its work"

    def test_a_websocket_that_is_not_accepted_is_bounded(self) -> None:
        peer = h1(wait_for_ever)
        peer.send(UPGRADE)
        peer.engine.receive_eof()
        assert peer.exchanges[0].request.disconnected
        peer.runtime.advance(31)
        assert peer.connection.aborted


class TestBehindAShutGate:
    """Input waits unread, so that the FIN behind it is not delivered."""

    @pytest.fixture(params=["pipeline", "body"])
    def peer(self, request: pytest.FixtureRequest) -> H1Peer:
        peer = h1(wait_for_ever)
        if request.param == "pipeline":
            peer.send(REQUEST + REQUEST * 3000)
        else:
            peer.send(POST.replace(b": 9", b": 99999") + bytes(70_000), size=40_000)
        assert peer.connection.pauses
        return peer

    def test_it_is_seen_within_a_second_and_bounded(self, peer: H1Peer) -> None:
        peer.runtime.advance(100)
        assert not peer.exchanges[0].request.disconnected
        peer.connection.fin_waits = True
        peer.runtime.advance(1)
        assert peer.exchanges[0].request.disconnected
        assert not peer.connection.aborted
        peer.runtime.advance(31)
        assert peer.connection.aborted
        assert peer.runtime.tasks[0].cancelled

    def test_a_reset_is_seen_within_a_second(self, peer: H1Peer) -> None:
        peer.runtime.advance(100)
        peer.connection.delivered = None
        peer.runtime.advance(1)
        assert peer.connection.aborted

    def test_a_handler_that_reads_on_is_not_silent(self) -> None:
        async def slow_reader(exchange: H1Exchange) -> None:
            while await exchange.body.next_chunk():
                await exchange.connection.runtime.sleep(20)
            exchange.send_headers(204, [], end=True)

        peer = h1(slow_reader)
        head = POST.replace(b": 9", b": 300004")
        peer.send(head)
        peer.send(bytes(300_000), size=60_000)
        peer.connection.fin_waits = True
        for _ in range(20):
            peer.runtime.advance(10)
            peer.go_on()
        peer.engine.receive_eof()
        assert [a.status for a in peer.answers()] == [204]
        assert not peer.connection.aborted


class TestHttp2:
    def test_each_stream_is_judged_by_itself(self) -> None:
        peer = Peer(config=LIMIT)
        silent, begun, moving = (peer.request(number) for number in (1, 3, 5))
        for exchange in (begun, moving):
            exchange.send_headers(200, [])
        peer.engine.receive_eof()
        assert all(each.request.disconnected for each in peer.exchanges)
        for _ in range(4):
            peer.advance(10)
            moving.send_data(b"x")
            moving.bytes_sent += 1
        resets = [f for f in peer.frames() if f.kind == RST_STREAM]
        assert [(f.stream_id, f.number) for f in resets] == [(1, CANCEL), (3, CANCEL)]
        for exchange in (silent, begun):
            assert isinstance(exchange.task, RecordingTask)
            assert exchange.task.cancels == 1
        assert not peer.engine.closing
        moving.send_data(b"", end=True)
        moving.ended()
        assert peer.engine.closing

    def test_a_peer_is_probed_before_its_answer_begins(self) -> None:
        peer = Peer(config=LIMIT)
        peer.request()
        peer.engine.receive_eof()
        assert peer.frames() == []
        peer.advance(0.3)
        assert [(f.kind, f.flags) for f in peer.frames()] == [(PING, 0)]
        peer.connection.delivered = None
        peer.advance(0.5)
        assert peer.connection.aborted

    def test_a_slow_answer_needs_no_acknowledgements_of_frames(self) -> None:
        """A peer that has sent FIN acknowledges neither SETTINGS nor a PING."""
        peer = Peer(
            config=ServerConfig(
                settings_timeout=1, h2_keep_alive_interval=1, half_closed_timeout=None
            ),
            greet=False,
        )
        peer.send(PREFACE + settings())
        exchange = peer.request()
        peer.engine.receive_eof()
        peer.advance(500)
        answer(exchange)
        assert [f.kind for f in peer.frames()][-2:] == [HEADERS, DATA]

    def test_requests_that_wait_their_turn_are_answered(self) -> None:
        peer = Peer(config=LIMIT)
        blocks = b"".join(peer.headers(number, GET) for number in range(1, 160, 2))
        found = list(peer.engine.receive_data(blocks))
        peer.engine.receive_eof()
        peer.engine.receive_eof()
        while peer.engine.backlog:
            found += peer.engine.receive_data(b"")
        assert len(found) == 80
        for exchange in found:
            assert isinstance(exchange, H2Exchange)
            assert exchange.request.disconnected
            answer(exchange)
        heads = [f for f in peer.frames() if f.kind == HEADERS]
        assert len(heads) == 80
        assert peer.engine.closing

    def test_a_reset_stream_is_seen_in_the_same_way(self) -> None:
        peer = Peer()
        one, other = peer.request(1), peer.request(3)
        peer.send(b"\0\0\4\3\0\0\0\0\1\0\0\0\x08")  # RST_STREAM(CANCEL)
        assert one.request.disconnected
        assert not other.request.disconnected
