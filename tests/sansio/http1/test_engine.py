"""The connection's life: RFC 9112 §8, §9, RFC 9110 §10.1.1, in the order of the RFC."""

import logging
import re

import pytest
from hypothesis import given, settings, strategies as st

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.seams import Pause
from tako.errors import Disconnected, RemoteProtocolError
from tako.h1 import H1Exchange
from tako.h1.backpressure import MAX_WAITING
from tako.h1.engine import MAX_DRAINED, H1Phase
from tests.support.h1_peer import H1Peer, Handler, echo, read_body
from tests.support.wire import FakeTask


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def get(path: str, *fields: str) -> bytes:
    lines = (f"GET {path} HTTP/1.1", "Host: a", *fields, "", "")
    return "\r\n".join(lines).encode()


def post(length: int, *fields: str, body: bytes = b"") -> bytes:
    lines = ("POST / HTTP/1.1", "Host: a", f"Content-Length: {length}", *fields, "", "")
    return "\r\n".join(lines).encode() + body


async def ok(exchange: H1Exchange) -> None:
    """Answer without a look at the body."""
    exchange.send_headers(200, [], end=True)


async def wait_for_ever(exchange: H1Exchange) -> None:
    await exchange.connection.runtime.sleep(1e9)


# RFC 9110 §6, §7: what a request becomes


def test_request_carries_the_facts() -> None:
    peer = H1Peer(tls=True)
    peer.send(get("/p/q?x=1", "X-A: \xff"))
    request = peer.exchanges[0].request
    assert (request.method, request.path, request.query) == ("GET", "/p/q", "x=1")
    assert (request.scheme, request.authority) == ("https", "a")
    assert request.http_version == "1.1"
    assert request.protocol is None
    assert request.headers.get("x-a") == "Ã¿"
    assert request.conn_info is peer.connection.conn_info
    assert request.body_reader is peer.exchanges[0].body


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize("named", ["http", "HTTPS", None])
def test_the_scheme_of_a_target_is_believed_where_configured(
    named: str | None, *, trusted: bool, tls: bool
) -> None:
    peer = H1Peer(config=ServerConfig(trust_scheme=trusted), tls=tls)
    peer.send(get("/" if named is None else f"{named}://a/"))
    connection = "https" if tls else "http"
    expected = named.lower() if named is not None and trusted else connection
    assert peer.exchanges[0].request.scheme == expected


def test_websocket_request_carries_its_protocol() -> None:
    peer = H1Peer(ok)
    peer.send(get("/", "Connection: upgrade", "Upgrade: websocket"))
    assert peer.exchanges[0].request.is_websocket
    assert not peer.closed


def test_other_upgrade_with_a_body_is_an_ordinary_request() -> None:
    peer = H1Peer()
    peer.send(
        post(3, "Connection: upgrade", "Upgrade: foo", body=b"abc") + get("/next")
    )
    assert [answer.body for answer in peer.answers()] == [b"/ abc", b"/next "]


# RFC 9112 §6.3: bodies


@pytest.mark.parametrize("size", [None, 1, 10])
def test_body_of_a_length_is_streamed(size: int | None) -> None:
    peer = H1Peer()
    peer.send(post(5, body=b"abcde") + get("/next"), size=size)
    assert [answer.body for answer in peer.answers()] == [b"/ abcde", b"/next "]


@pytest.mark.parametrize("size", [None, 1, 10])
def test_chunked_body_is_streamed(size: int | None) -> None:
    peer = H1Peer()
    peer.send(CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n" + get("/next"), size=size)
    assert [answer.body for answer in peer.answers()] == [b"/ abcde", b"/next "]


def test_handler_may_answer_while_the_body_arrives() -> None:
    async def mirror(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        while chunk := await exchange.body.next_chunk():
            exchange.send_data(chunk)
            exchange.flush()
        exchange.send_data(b"", end=True)

    peer = H1Peer(mirror)
    peer.send(post(4, body=b"ab"))
    assert peer.take().endswith(b"\r\n\r\n2\r\nab\r\n")
    peer.send(b"cd" + GET)
    assert peer.take().startswith(b"2\r\ncd\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n")


def test_handler_may_read_on_after_its_answer() -> None:
    bodies = []

    async def late(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [], end=True)
        bodies.append(await read_body(exchange))

    peer = H1Peer(late)
    peer.send(post(4, body=b"ab"))
    peer.send(b"cd" + GET)
    assert [answer.status for answer in peer.answers()] == [200, 200]
    assert bodies == [b"abcd", b""]


# RFC 9112 §7.1, §8: bodies that break


def test_broken_body_is_400_and_raises_in_the_handler() -> None:
    peer = H1Peer()
    peer.send(CHUNKED + b"3\r\nabc\r\n")
    assert len(peer.exchanges) == 1
    peer.send(b"zz\r\n" + GET)
    (answer,) = peer.answers()
    assert answer.status == 400
    assert answer.has("connection: close")
    assert [type(error) for error in peer.errors] == [RemoteProtocolError]
    assert peer.closed
    assert peer.exchanges[0].over


def test_broken_body_that_came_with_the_head_is_refused_without_a_handler() -> None:
    peer = H1Peer()
    peer.send(CHUNKED + b"zz\r\n")
    assert [answer.status for answer in peer.answers()] == [400]
    assert not peer.exchanges


def test_answer_that_has_begun_is_finished_though_the_body_breaks() -> None:
    async def stream(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        with pytest.raises(RemoteProtocolError):
            await read_body(exchange)
        exchange.send_data(b"sorry", end=True)

    peer = H1Peer(stream)
    peer.send(CHUNKED)
    peer.send(b"zz\r\n" + GET)
    (answer,) = peer.answers()
    assert (answer.status, answer.body) == (200, b"sorry")
    assert peer.closed
    assert not peer.errors


def test_end_of_input_inside_a_body_is_an_error() -> None:
    peer = H1Peer()
    peer.send(post(5, body=b"ab"))
    peer.engine.receive_eof()
    peer.go_on()
    assert [answer.status for answer in peer.answers()] == [400]
    assert [type(error) for error in peer.errors] == [RemoteProtocolError]
    assert peer.closed


# RFC 9112 §9.3: persistence


def test_connection_is_kept_alive() -> None:
    peer = H1Peer()
    for path in ("/1", "/2", "/3"):
        peer.send(get(path))
        (answer,) = peer.answers()
        assert answer.body == f"{path} ".encode()
        assert b"connection" not in answer.head
    assert not peer.closed


def test_close_is_honoured_and_what_follows_is_dropped() -> None:
    peer = H1Peer()
    peer.send(get("/1", "Connection: close") + get("/2"))
    (answer,) = peer.answers()
    assert answer.has("connection: close")
    assert peer.closed
    peer.send(get("/3"))
    assert peer.take() == b""


def test_what_follows_a_last_request_does_not_pile_up() -> None:
    peer = H1Peer(wait_for_ever)
    peer.send(get("/1", "Connection: close") + b"x" * MAX_WAITING)
    peer.send(b"x" * MAX_WAITING)
    assert not peer.connection.pauses
    assert not peer.engine.has_input


def test_keep_alive_can_be_switched_off() -> None:
    peer = H1Peer(config=ServerConfig(keep_alive=False))
    peer.send(GET + GET)
    (answer,) = peer.answers()
    assert answer.has("connection: close")
    assert peer.closed


@pytest.mark.parametrize("size", [1, 1000])
def test_unread_body_is_drained_up_to_a_limit(size: int) -> None:
    peer = H1Peer(ok)
    peer.send(post(MAX_DRAINED))
    peer.send(b"x" * MAX_DRAINED, size=size)
    peer.send(GET)
    assert [answer.status for answer in peer.answers()] == [200, 200]
    assert not peer.closed


def test_unread_body_beyond_the_limit_closes() -> None:
    peer = H1Peer(ok)
    peer.send(post(10 * MAX_DRAINED))
    peer.send(b"x" * MAX_DRAINED, size=8192)
    assert not peer.closed
    peer.send(b"x")
    assert peer.closed
    assert [answer.status for answer in peer.answers()] == [200]


def test_unread_chunked_body_is_drained() -> None:
    peer = H1Peer(ok)
    peer.send(CHUNKED + b"3\r\nabc\r\n")
    peer.send(b"0\r\n\r\n" + GET)
    assert [answer.status for answer in peer.answers()] == [200, 200]


def test_unread_body_does_not_stop_the_draining() -> None:
    peer = H1Peer(ok, ServerConfig(read_buffer=1024))
    peer.send(post(40_000))
    peer.send(b"x" * 40_000, size=4096)
    assert peer.unsent == 0
    peer.send(GET)
    assert len(peer.answers()) == 2


# RFC 9112 §9.3.2: pipelining


def test_a_thousand_pipelined_requests_are_answered_in_order() -> None:
    peer = H1Peer()
    peer.send(b"".join(get(f"/{number}") for number in range(1000)))
    bodies = [answer.body for answer in peer.answers()]
    assert bodies == [b"/%d " % number for number in range(1000)]
    assert peer.most_running == 1
    assert not peer.connection.pauses


def test_next_request_waits_for_the_end_of_the_handler() -> None:
    async def slow(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [], end=True)
        await exchange.connection.runtime.sleep(1)

    peer = H1Peer(slow)
    peer.send(GET + GET)
    assert len(peer.exchanges) == 1
    assert len(peer.answers()) == 1
    assert not peer.engine.backlog
    peer.runtime.advance(1)
    assert peer.engine.backlog
    peer.go_on()
    assert len(peer.exchanges) == 2
    assert not peer.engine.backlog


def test_next_request_is_not_judged_before_its_turn() -> None:
    gate = False

    async def wait(exchange: H1Exchange) -> None:
        while not gate:
            await exchange.connection.runtime.sleep(1)
        await ok(exchange)

    peer = H1Peer(wait)
    peer.send(GET + b"nonsense\r\n\r\n")
    assert peer.take() == b""
    gate = True
    peer.runtime.advance(1)
    peer.go_on()
    assert [answer.status for answer in peer.answers()] == [200, 400]


def test_reading_pauses_while_too_much_is_queued() -> None:
    gate = False

    async def wait(exchange: H1Exchange) -> None:
        while not gate:
            await exchange.connection.runtime.sleep(1)
        await ok(exchange)

    peer = H1Peer(wait)
    total = 4 * MAX_WAITING // len(GET)
    peer.send(GET * total, size=16 * 1024)
    assert peer.connection.pauses == Pause.PIPELINE
    assert peer.unsent > 2 * MAX_WAITING
    gate = True
    peer.runtime.advance(1)
    peer.go_on()
    assert not peer.connection.pauses
    assert len(peer.answers()) == total
    assert peer.most_running == 1


# RFC 9110 §10.1.1: Expect


def test_100_is_sent_when_the_body_is_first_read() -> None:
    peer = H1Peer()
    peer.send(post(3, "Expect: 100-continue"))
    assert peer.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.send(b"abc" + GET)
    assert [answer.body for answer in peer.answers()] == [b"/ abc", b"/ "]


def test_100_is_not_sent_when_the_body_is_there() -> None:
    peer = H1Peer()
    peer.send(post(3, "Expect: 100-continue", body=b"a"))
    assert peer.take() == b""
    peer.send(b"bc")
    assert [answer.status for answer in peer.answers()] == [200]
    assert not peer.closed


def test_answer_without_100_closes() -> None:
    peer = H1Peer(ok)
    peer.send(post(3, "Expect: 100-continue"))
    (answer,) = peer.answers()
    assert answer.status == 200
    assert answer.has("connection: close")
    assert peer.closed


def test_100_is_sent_once_and_by_hand_if_the_handler_likes() -> None:
    async def asks(exchange: H1Exchange) -> None:
        exchange.send_headers(100, [])
        exchange.send_headers(100, [])
        await echo(exchange)

    peer = H1Peer(asks)
    peer.send(post(3, "Expect: 100-continue"))
    assert peer.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    peer.send(b"abc")
    assert [answer.body for answer in peer.answers()] == [b"/ abc"]
    assert not peer.closed


def test_http_1_0_never_sees_100() -> None:
    peer = H1Peer()
    head = b"POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    peer.send(head)
    assert peer.take() == b""
    peer.send(b"abc")
    assert [answer.body for answer in peer.answers()] == [b"/ abc"]
    assert peer.closed


# Backpressure


def test_unread_body_pauses_reading() -> None:
    chunks: list[bytes] = []
    allowed = 0

    async def slow(exchange: H1Exchange) -> None:
        while True:
            while allowed <= len(chunks):
                await exchange.connection.runtime.sleep(1)
            chunk = await exchange.body.next_chunk()
            if not chunk:
                return await ok(exchange)
            chunks.append(chunk)

    peer = H1Peer(slow, ServerConfig(read_buffer=4096))
    peer.send(post(16 * 1024) + b"x" * (16 * 1024), size=1024)
    assert peer.connection.pauses == Pause.BODY
    arrived = 16 * 1024 - peer.unsent
    assert 4096 < arrived <= 4096 + 2 * 1024
    allowed = 3
    peer.runtime.advance(10)
    assert len(chunks) == 3
    assert peer.connection.pauses == Pause.BODY
    allowed = 5  # less than a quarter is left: reading goes on
    peer.runtime.advance(10)
    assert not peer.connection.pauses
    allowed = 1000
    while peer.unsent:
        peer.runtime.advance(1)
        peer.go_on()
    assert sum(map(len, chunks)) == 16 * 1024
    assert [answer.status for answer in peer.answers()] == [200]
    assert not peer.connection.pauses


def test_writable_is_what_the_transport_says() -> None:
    peer = H1Peer(wait_for_ever)
    peer.send(GET)
    (exchange,) = peer.exchanges
    assert exchange.writable
    peer.connection.writable = False
    assert not exchange.writable


def test_wake_writers_wakes_the_handler_that_waits() -> None:
    async def stream(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        exchange.send_data(b"a")
        await exchange.writable_again()
        exchange.send_data(b"b", end=True)

    peer = H1Peer(stream)
    peer.engine.wake_writers()
    peer.connection.writable = False
    peer.send(GET)
    assert not peer.exchanges[0].over
    peer.connection.writable = True
    peer.engine.wake_writers()
    peer.go_on()
    assert [answer.body for answer in peer.answers()] == [b"ab"]


# RFC 9112 §9.6: the peer's end


def test_half_closing_client_gets_its_answers() -> None:
    async def slow(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(1)
        await ok(exchange)

    peer = H1Peer(slow)
    peer.send(GET + GET)
    peer.engine.receive_eof()
    peer.engine.receive_eof()
    for _ in range(2):
        assert not peer.closed
        peer.runtime.advance(1)
        peer.go_on()
    assert len(peer.answers()) == 2
    assert peer.closed


@pytest.mark.parametrize("data", [b"", b"GET / HT", GET + b"GET"])
def test_end_of_input_between_requests_closes(data: bytes) -> None:
    peer = H1Peer()
    if data:
        peer.send(data)
    peer.engine.receive_eof()
    assert peer.closed


def test_incomplete_request_behind_a_half_close_is_no_request() -> None:
    async def slow(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(1)
        await ok(exchange)

    peer = H1Peer(slow)
    peer.send(GET + b"GET / HT")
    peer.engine.receive_eof()
    peer.runtime.advance(1)
    peer.go_on()
    assert len(peer.answers()) == 1
    assert peer.closed


TINY_CHUNKS = b"1\r\nx\r\n" * 500


def ending(handler: Handler) -> H1Peer:
    """Return a peer; its input ends at its first request, in the middle of a turn.

    ``TINY_CHUNKS`` take more than one.
    """

    async def end_input(exchange: H1Exchange) -> None:
        peer.engine.receive_eof()
        await handler(exchange)

    peer = H1Peer(end_input)
    peer.connection.turn._left, peer.connection.turn._length = 1, -1.0
    return peer


@pytest.mark.parametrize("before", [b"", GET])
def test_end_of_input_waits_for_a_body_that_is_put_off(before: bytes) -> None:
    peer = ending(echo)
    peer.send(before + CHUNKED + TINY_CHUNKS + b"0\r\n\r\n" + GET)
    bodies = [answer.body for answer in peer.answers()]
    assert bodies == [b"/ "] * bool(before) + [b"/ " + b"x" * 500, b"/ "]
    assert not peer.errors
    assert peer.closed


@pytest.mark.parametrize("before", [b"", GET])
def test_end_of_input_leaves_what_is_behind_an_unwanted_body(before: bytes) -> None:
    peer = ending(ok)
    peer.send(before + CHUNKED + TINY_CHUNKS + b"0\r\n\r\n" + GET)
    assert len(peer.answers()) == (3 if before else 2)
    assert peer.closed


@pytest.mark.parametrize("before", [b"", GET])
def test_end_of_input_behind_what_is_put_off_cuts_a_body_short(before: bytes) -> None:
    peer = ending(echo)
    peer.send(before + CHUNKED + TINY_CHUNKS + b"0\r\n")
    statuses = [answer.status for answer in peer.answers()]
    assert statuses == [200] * bool(before) + [400]
    assert [type(error) for error in peer.errors] == [RemoteProtocolError]
    assert peer.closed


def test_nothing_is_put_off_once_a_body_is_given_up() -> None:
    async def answer_late(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        assert peer.engine.backlog
        peer.engine._body_too_slow()
        assert not peer.engine.backlog
        exchange.send_data(b"sorry", end=True)

    peer = ending(answer_late)
    peer.send(CHUNKED + TINY_CHUNKS)
    assert [answer.body for answer in peer.answers()] == [b"sorry"]
    assert peer.closed


# Connection lost


def task_of(exchange: H1Exchange) -> FakeTask:
    task = exchange.task
    assert isinstance(task, FakeTask)
    return task


def test_lost_connection_cancels_the_handler() -> None:
    peer = H1Peer(wait_for_ever)
    peer.send(GET)
    (exchange,) = peer.exchanges
    peer.engine.connection_lost()
    peer.runtime.run_ready()
    assert task_of(exchange).cancelled
    assert exchange.over
    exchange.send_headers(200, [])
    exchange.send_data(b"a", end=True)
    exchange.send_trailers([])
    exchange.consumed(1)
    exchange.reset()
    assert peer.take() == b""
    assert not peer.connection.aborted


def test_lost_connection_raises_where_the_body_is_read() -> None:
    seen: list[Exception] = []

    async def reads(exchange: H1Exchange) -> None:
        exchange.task = None  # a handler that shields itself
        try:
            await read_body(exchange)
        except Disconnected as error:
            seen.append(error)

    peer = H1Peer(reads)
    peer.send(post(3))
    peer.engine.connection_lost()
    peer.runtime.run_ready()
    assert len(seen) == 1


def test_lost_connection_leaves_a_handler_alone_that_has_answered() -> None:
    async def lingers(exchange: H1Exchange) -> None:
        await ok(exchange)
        await exchange.connection.runtime.sleep(1)

    peer = H1Peer(lingers)
    peer.send(GET)
    peer.engine.connection_lost()
    peer.runtime.advance(1)
    assert not task_of(peer.exchanges[0]).cancelled
    assert peer.exchanges[0].handler_ended


def test_lost_connection_without_an_exchange_is_quiet() -> None:
    peer = H1Peer()
    peer.send(GET)
    peer.take()
    peer.engine.connection_lost()
    assert peer.engine.receive_data(GET) == ()
    assert peer.take() == b""
    peer.runtime.advance(1000)
    assert peer.take() == b""


def test_reset_in_order_closes_after_what_is_queued() -> None:
    async def half(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        exchange.reset(ErrorCode.NO_ERROR)
        exchange.reset(ErrorCode.CANCEL)

    peer = H1Peer(half)
    peer.send(GET)
    assert peer.connection.closed
    assert not peer.connection.aborted
    assert peer.take().startswith(b"HTTP/1.1 200")


# Draining


def test_shut_down_closes_an_idle_connection() -> None:
    peer = H1Peer()
    peer.send(GET)
    assert len(peer.answers()) == 1
    peer.engine.shut_down()
    assert peer.closed
    assert peer.take() == b""


@pytest.mark.parametrize("before", [0, 1, len(GET) - 1])
def test_shut_down_answers_a_first_request_that_is_on_its_way(before: int) -> None:
    peer = H1Peer()
    peer.send(GET[:before])
    peer.engine.shut_down()
    peer.runtime.advance(0.9)
    assert not peer.closed
    peer.send(GET[before:])
    (answer,) = peer.answers()
    assert answer.has("connection: close")
    assert peer.closed


def test_shut_down_answers_a_further_request_that_has_begun() -> None:
    peer = H1Peer()
    peer.send(GET + GET[:5])
    assert len(peer.answers()) == 1
    peer.engine.shut_down()
    assert not peer.closed
    peer.send(GET[5:] + GET)
    (answer,) = peer.answers()
    assert answer.has("connection: close")
    assert peer.closed
    assert len(peer.exchanges) == 2


@pytest.mark.parametrize(
    ("begun", "answer"), [(b"", b""), (b"GET / HT", b"HTTP/1.1 408 ")]
)
def test_shut_down_waits_a_second_for_a_first_request(
    begun: bytes, answer: bytes
) -> None:
    peer = H1Peer()
    peer.engine.shut_down()
    peer.runtime.advance(0.9)
    peer.send(begun)
    peer.runtime.advance(0.2)
    assert peer.closed
    assert peer.take()[:13] == answer


def test_shut_down_gives_a_slow_head_no_more_time_than_it_had() -> None:
    peer = H1Peer(config=ServerConfig(header_read_timeout=0.5))
    peer.engine.shut_down()
    peer.runtime.advance(0.6)
    assert peer.closed


def test_shut_down_after_a_refusal_is_a_no_op() -> None:
    peer = H1Peer()
    peer.send(b"nonsense\r\n\r\n")
    assert peer.take().startswith(b"HTTP/1.1 400 ")
    peer.engine.shut_down()
    peer.runtime.advance(2)
    assert peer.take() == b""


def test_shut_down_finishes_the_answer_and_begins_no_other() -> None:
    async def slow(exchange: H1Exchange) -> None:
        await exchange.connection.runtime.sleep(1)
        await ok(exchange)

    peer = H1Peer(slow)
    peer.send(GET + GET)
    peer.engine.shut_down()
    assert not peer.closed
    peer.runtime.advance(1)
    peer.go_on()
    (answer,) = peer.answers()
    assert answer.has("connection: close")
    assert peer.closed
    assert len(peer.exchanges) == 1


def test_shut_down_in_the_middle_of_an_answer_closes_behind_it() -> None:
    async def slow(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        await exchange.connection.runtime.sleep(1)
        exchange.send_data(b"a", end=True)

    peer = H1Peer(slow)
    peer.send(GET)
    peer.engine.shut_down()
    assert not peer.closed
    peer.runtime.advance(1)
    assert [answer.body for answer in peer.answers()] == [b"a"]
    assert peer.closed


def test_shut_down_lets_an_upload_finish() -> None:
    peer = H1Peer()
    peer.send(post(4, body=b"ab"))
    peer.engine.shut_down()
    peer.send(b"cd")
    (answer,) = peer.answers()
    assert answer.body == b"/ abcd"
    assert answer.has("connection: close")
    assert peer.closed


# Never raises


@settings(max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=20),
            st.sampled_from(
                [
                    GET,
                    CHUNKED,
                    b"3\r\nabc\r\n",
                    b"0\r\n\r\n",
                    post(5),
                    b"abcde",
                    get("/", "Connection: upgrade", "Upgrade: websocket"),
                    get("/", "Connection: close"),
                    b"\x81\x85",
                ]
            ),
        ),
        max_size=12,
    ).map(b"".join),
    st.integers(1, 30),
)
def test_no_input_makes_the_engine_raise(data: bytes, size: int) -> None:
    whole, pieces = H1Peer(), H1Peer()
    whole.send(data)
    pieces.send(data, size=size)
    pieces.engine.receive_eof()
    pieces.go_on()
    statuses = re.findall(
        rb"HTTP/1\.1 (\d+) ", pieces.connection.sent
    )  # a HEAD has no body
    assert {int(status) for status in statuses} <= {200, 400, 501, 505}
    pieces.engine.connection_lost()
    whole.engine.connection_lost()
    assert pieces.most_running <= 1


# The phases


def test_phases_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tako.h1")
    peer = H1Peer(ok)
    peer.send(GET + post(3, body=b"abc") + get("/", "Connection: close"))
    lines = [record.getMessage().split(" ", 2)[1:] for record in caplog.records]
    assert [step for what, step in lines if what == "phase"] == [
        "FIRST_HEAD -> BUSY",
        "BUSY -> HEAD",
        "HEAD -> BODY",
        "BODY -> BUSY",
        "BUSY -> HEAD",
        "HEAD -> BUSY",
        "BUSY -> CLOSING",
    ]
    assert [step for what, step in lines if what == "response"] == [
        *("NO_HEAD -> BODY", "BODY -> ENDED", "ENDED -> CUT_OFF") * 2,
        *("NO_HEAD -> BODY", "BODY -> ENDED"),
    ]


def test_phases_are_not_logged_unless_debugging(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tako.h1")
    H1Peer(ok).send(GET)
    assert not caplog.records


def test_a_phase_that_must_not_follow_is_an_error() -> None:
    peer = H1Peer(wait_for_ever)
    with pytest.raises(AssertionError, match=r"HALF_CLOSED must not .*FIRST_HEAD"):
        peer.engine.tunnel_ended()
    assert peer.engine.phase is H1Phase.FIRST_HEAD


def test_what_the_connection_reads_follows_from_the_phase() -> None:
    peer = H1Peer(ok)
    peer.send(get("/", "Connection: close"))
    assert peer.engine.phase is H1Phase.CLOSING
    assert peer.engine.closing
    assert not peer.engine.half_closed
    assert not peer.engine.backlog
