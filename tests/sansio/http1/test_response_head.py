"""Responses: RFC 9112 §4, §6, §7, RFC 9110 §6.6.1, §15; what a handler may not do."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given, strategies as st

from tako.core.error_code import ErrorCode
from tako.errors import LocalProtocolError
from tako.h1 import H1Exchange, response_head as module
from tako.h1.response_head import Framing, final_head, framing_line
from tako.http.date import HttpDate
from tako.http.headers import RawHeader
from tests.support.h1_peer import H1Peer, Handler


GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
_DATE = re.compile(
    rb"date: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n"
)


def answer(
    status: int, fields: list[RawHeader], *chunks: bytes, request: bytes = GET
) -> bytes:
    """Return what a handler's answer looks like on the wire, without its date."""

    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(status, fields, end=not chunks)
        for number, chunk in enumerate(chunks, 1):
            exchange.send_data(chunk, end=number == len(chunks))

    peer = H1Peer(handler)
    peer.send(request)
    assert not peer.errors
    data, dates = _DATE.subn(b"", peer.take())
    assert dates == 1
    assert (re.search(rb"\r\nconnection: (Upgrade, )?close\r\n", data) is not None) == (
        peer.closed
    )
    return data


def request(line: bytes, *fields: bytes) -> bytes:
    return b"\r\n".join((line, b"Host: a", *fields, b"", b""))


# RFC 9112 §4: the status line


def test_status_line_has_the_standard_phrase() -> None:
    assert answer(404, []) == b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"


def test_status_line_of_an_unknown_status_has_an_empty_phrase() -> None:
    assert answer(599, []).startswith(b"HTTP/1.1 599 \r\n")


@pytest.mark.parametrize("status", [0, 99, 1000, -200])
def test_status_must_have_three_digits(status: int) -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(status, [])

    peer = H1Peer(handler)
    peer.send(GET)
    assert [type(error) for error in peer.errors] == [LocalProtocolError]
    assert peer.take() == b""


# RFC 9112 §6: framing


def test_known_length_is_announced_and_kept() -> None:
    got = answer(200, [(b"x-a", b"b"), (b"content-length", b"5")], b"ab", b"", b"cde")
    assert got == b"HTTP/1.1 200 OK\r\nx-a: b\r\ncontent-length: 5\r\n\r\nabcde"


def test_unknown_length_is_chunked() -> None:
    assert answer(200, [], b"abc", b"", b"0123456789abcdef", b"") == (
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n"
    )


def test_unknown_length_is_close_delimited_for_http_1_0() -> None:
    line = b"GET / HTTP/1.0"
    got = answer(200, [], b"ab", b"c", request=request(line, b"Connection: keep-alive"))
    assert got == b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nabc"


def test_http_1_0_is_kept_alive_when_asked_to() -> None:
    line = b"GET / HTTP/1.0"
    fields = [(b"content-length", b"1")]
    got = answer(200, fields, b"a", request=request(line, b"Connection: keep-alive"))
    assert b"\r\nconnection: keep-alive\r\n" in got
    assert b"\r\nconnection: close\r\n" in answer(
        200, fields, b"a", request=request(line)
    )


def test_head_gets_the_fields_of_get_and_no_body() -> None:
    head = request(b"HEAD / HTTP/1.1")
    got = answer(200, [(b"content-length", b"5")], b"abcde", request=head)
    assert got == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    got = answer(200, [(b"content-length", b"5")], request=head)
    assert got == b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert answer(200, [], b"abc", b"", request=head) == b"HTTP/1.1 200 OK\r\n\r\n"


def test_204_has_neither_body_nor_length() -> None:
    got = answer(204, [(b"content-length", b"3")], b"abc")
    assert got == b"HTTP/1.1 204 No Content\r\n\r\n"
    assert answer(204, []) == b"HTTP/1.1 204 No Content\r\n\r\n"


def test_205_has_an_empty_body() -> None:
    got = answer(205, [(b"content-length", b"3")])
    assert got == b"HTTP/1.1 205 Reset Content\r\ncontent-length: 0\r\n\r\n"


def test_304_may_say_a_length_and_has_no_body() -> None:
    got = answer(304, [(b"content-length", b"3"), (b"etag", b'"x"')])
    assert got == b'HTTP/1.1 304 Not Modified\r\netag: "x"\r\ncontent-length: 3\r\n\r\n'


def test_trailers_follow_the_last_chunk() -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [(b"trailer", b"x-sum")])
        exchange.send_data(b"abc")
        exchange.send_trailers([(b"x-sum", b"1"), (b"content-length", b"3")])

    peer = H1Peer(handler)
    peer.send(GET)
    assert peer.take().endswith(b"\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n")
    assert not peer.closed


def test_trailers_are_dropped_where_the_body_is_not_chunked() -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [(b"content-length", b"3")])
        exchange.send_data(b"abc")
        exchange.send_trailers([(b"x-sum", b"1")])

    peer = H1Peer(handler)
    peer.send(GET)
    assert peer.take().endswith(b"\r\n\r\nabc")


# RFC 9110 §7.6.1: what is the connection's business


def test_hop_by_hop_fields_of_the_handler_are_dropped() -> None:
    fields = [
        (b"connection", b"x"),
        (b"keep-alive", b"timeout=5"),
        (b"proxy-connection", b"keep-alive"),
        (b"transfer-encoding", b"gzip"),
        (b"upgrade", b"h2c"),
        (b"x", b"y"),
    ]
    assert answer(200, fields) == (
        b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 0\r\n\r\n"
    )


def test_handler_may_say_that_the_connection_stays() -> None:
    got = answer(200, [(b"connection", b"Keep-Alive")])
    assert got == (
        b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n"
    )


def test_handler_may_close() -> None:
    got = answer(200, [(b"connection", b"Close")])
    assert got == b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


def test_426_says_what_to_upgrade_to() -> None:
    fields = [(b"upgrade", b"websocket"), (b"connection", b"Upgrade")]
    got = answer(426, fields)
    assert got.endswith(b"\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\n")
    closing = request(b"GET / HTTP/1.1", b"Connection: close")
    got = answer(426, [*fields, (b"x", b"y")], request=closing)
    assert got.endswith(b"\r\nconnection: Upgrade, close\r\n\r\n")


# RFC 9110 §6.6.1: Date


def test_handlers_date_is_kept() -> None:
    fields = [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")]

    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(200, fields, end=True)

    peer = H1Peer(handler)
    peer.send(GET)
    assert peer.take().count(b"date: ") == 1


def test_lengths_are_written_as_they_are_however_many_there_are() -> None:
    for length in (*range(2000), 2**40, *range(3)):
        line = framing_line(Framing.LENGTH, length)
        assert line == f"content-length: {length}\r\n".encode()


def test_date_is_formatted_once_a_second() -> None:
    now = 784111777.0
    date = HttpDate(lambda: now)
    first = date.text()
    assert first == b"Sun, 06 Nov 1994 08:49:37 GMT"
    now += 0.9
    assert date.text() is first
    now += 0.1
    assert date.text() == b"Sun, 06 Nov 1994 08:49:38 GMT"


# RFC 9110 §15.2: interim responses


def test_interim_response_precedes_the_final_one() -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(103, [(b"link", b"</a>"), (b"content-length", b"3")])
        assert not exchange.head_sent
        exchange.send_headers(204, [], end=True)

    peer = H1Peer(handler)
    peer.send(GET)
    assert peer.take().startswith(
        b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\n"
    )


def test_interim_response_is_never_sent_to_http_1_0() -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(103, [])
        exchange.send_headers(204, [], end=True)

    peer = H1Peer(handler)
    peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert peer.take().startswith(b"HTTP/1.1 204")


# What a handler may not do: nothing malformed gets on the wire


async def two_heads(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [])
    exchange.send_headers(200, [])


async def data_first(exchange: H1Exchange) -> None:
    exchange.send_data(b"a")


async def trailers_first(exchange: H1Exchange) -> None:
    exchange.send_trailers([])


async def data_after_end(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [])
    exchange.send_data(b"", end=True)
    exchange.send_data(b"a")


async def trailers_after_end(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [])
    exchange.send_trailers([])
    exchange.send_trailers([])


async def longer_than_announced(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [(b"content-length", b"3")])
    exchange.send_data(b"ab")
    exchange.send_data(b"cd")


async def shorter_than_announced(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [(b"content-length", b"3")])
    exchange.send_data(b"ab", end=True)


async def nothing_of_what_was_announced(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [(b"content-length", b"3")], end=True)


async def two_lengths(exchange: H1Exchange) -> None:
    fields = [(b"content-length", b"3"), (b"content-length", b"4")]
    exchange.send_headers(200, fields)


async def no_length(exchange: H1Exchange) -> None:
    exchange.send_headers(200, [(b"content-length", b"many")])


async def switch_by_hand(exchange: H1Exchange) -> None:
    exchange.send_headers(101, [])


@pytest.mark.parametrize(
    ("handler", "sent"),
    [
        (two_heads, b"transfer-encoding: chunked\r\n\r\n"),
        (data_first, b""),
        (trailers_first, b""),
        (data_after_end, b"\r\n\r\n0\r\n\r\n"),
        (trailers_after_end, b"\r\n\r\n0\r\n\r\n"),
        (longer_than_announced, b"\r\n\r\nab"),
        (shorter_than_announced, b"\r\n\r\n"),
        (nothing_of_what_was_announced, b""),
        (two_lengths, b""),
        (no_length, b""),
        (switch_by_hand, b""),
    ],
)
def test_mistake_of_the_handler_raises_before_it_is_sent(
    handler: Handler, sent: bytes
) -> None:
    peer = H1Peer(handler)
    peer.send(GET)
    assert [type(error) for error in peer.errors] == [LocalProtocolError]
    got = _DATE.sub(b"", peer.take())
    assert got.endswith(sent)
    assert got.count(b"HTTP/1.1") == bool(sent)


# RFC 9112 §8: incomplete messages


def test_failure_after_the_head_closes_without_the_last_chunk() -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        exchange.send_data(b"abc")
        exchange.reset(ErrorCode.INTERNAL_ERROR)
        exchange.send_data(b"more", end=True)  # a no-op by now

    peer = H1Peer(handler)
    peer.send(GET)
    assert peer.take().endswith(b"\r\n\r\n3\r\nabc\r\n")
    assert peer.connection.closed
    assert not peer.connection.aborted
    assert not peer.errors


def test_failure_in_a_close_delimited_body_aborts() -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.send_headers(200, [])
        exchange.send_data(b"abc")
        exchange.reset(ErrorCode.INTERNAL_ERROR)

    peer = H1Peer(handler)
    peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert peer.connection.aborted


def test_reset_before_the_head_aborts() -> None:
    async def handler(exchange: H1Exchange) -> None:
        exchange.reset(ErrorCode.INTERNAL_ERROR)

    peer = H1Peer(handler)
    peer.send(GET)
    assert peer.connection.aborted
    assert peer.take() == b""


def test_handler_that_ends_without_an_answer_costs_the_connection() -> None:
    async def handler(exchange: H1Exchange) -> None:
        pass

    peer = H1Peer(handler)
    peer.send(GET + GET)
    assert peer.connection.aborted
    assert len(peer.exchanges) == 1


# A whole response, in one go


def outcome(request: bytes, send: Callable[[H1Exchange], None]) -> tuple[bytes, int]:
    """Return what the client gets of a handler, and how many errors it raised."""

    async def handler(exchange: H1Exchange) -> None:
        send(exchange)

    peer = H1Peer(handler)
    peer.send(request)
    return _DATE.sub(b"", peer.take()), len(peer.errors)


@pytest.mark.parametrize("body", [b"", b"hello", b"x" * 20_000])
@pytest.mark.parametrize("status", [200, 204, 205, 304, 404])
@pytest.mark.parametrize(
    "head",
    [
        GET,
        b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    ],
    ids=["GET", "HEAD", "1.0", "close", "POST"],
)
@pytest.mark.parametrize(
    "fields",
    [
        [],
        [(b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"), (b"x-a", b"1")],
        [(b"connection", b"close"), (b"set-cookie", b"a=b")],
    ],
    ids=["none", "date", "close"],
)
def test_a_whole_response_is_what_its_pieces_are(
    fields: list[RawHeader], head: bytes, status: int, body: bytes
) -> None:
    length = (b"content-length", b"%d" % len(body))

    def in_pieces(exchange: H1Exchange) -> None:
        empty = not body or head[:4] == b"HEAD" or status in {204, 205, 304}
        exchange.send_headers(status, [*fields, length], end=empty)
        if not empty:
            exchange.send_data(body, end=True)

    wanted = outcome(head, in_pieces)
    assert wanted[1] == 0
    assert wanted == outcome(
        head, lambda exchange: exchange.send_response(status, [*fields, length], body)
    )
    if head[:4] != b"HEAD" and status != 304:  # whose length is the application's
        assert wanted == outcome(
            head, lambda exchange: exchange.send_response(status, fields, body)
        )


@pytest.mark.parametrize(
    ("status", "fields", "body"),
    [
        (101, [], b""),
        (103, [], b""),
        (1000, [], b""),
        (200, [(b"content-length", b"4")], b"hello"),
        (200, [(b"content-length", b"0")], b"hello"),
        (200, [(b"content-length", b"5")], b""),
        (200, [(b"x a", b"1")], b""),
    ],
)
def test_a_whole_response_that_contradicts_itself_sends_nothing(
    status: int, fields: list[RawHeader], body: bytes
) -> None:
    def send(exchange: H1Exchange) -> None:
        with pytest.raises(LocalProtocolError):
            exchange.send_response(status, fields, body)
        exchange.send_response(500, [], b"")

    wire, errors = outcome(GET, send)
    assert errors == 0
    assert wire.startswith(b"HTTP/1.1 500 ")


def test_a_whole_response_is_the_only_one() -> None:
    def send(exchange: H1Exchange) -> None:
        exchange.send_response(200, [], b"hello")
        with pytest.raises(LocalProtocolError, match="sent already"):
            exchange.send_response(200, [], b"hello")

    wire, errors = outcome(GET, send)
    assert (wire.count(b"HTTP/1.1"), errors) == (1, 0)


def test_a_whole_response_of_an_exchange_that_is_cut_off_is_dropped() -> None:
    def send(exchange: H1Exchange) -> None:
        exchange.reset(ErrorCode.CANCEL)
        exchange.send_response(200, [], b"hello")

    assert outcome(GET, send) == (b"", 0)


# A head that is kept


@given(
    status=st.sampled_from([200, 204, 404]),
    fields=st.lists(
        st.sampled_from(
            [
                (b"x-a", b"1"),
                (b"x-a", b"2"),
                (b"set-cookie", b"secret=1"),
                (b"connection", b"close"),
                (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            ]
        ),
        max_size=3,
    ),
)
def test_a_head_that_is_known_is_what_a_new_one_is(
    status: int, fields: list[RawHeader]
) -> None:
    module._kept.clear()

    def send(exchange: H1Exchange) -> None:
        exchange.send_response(status, fields, b"hello")

    first = outcome(GET, send)
    assert outcome(GET, send) == first
    assert not any(b"secret" in head.begin for head in module._kept.heads.values())


def test_as_many_heads_are_kept_as_are_of_use() -> None:
    for number in range(1000):
        final_head(200, [(b"etag", b"%d" % number)])
        assert len(module._kept.heads) <= 256
    final_head(200, [(b"x-large", b"x" * 600)])
    assert not any(len(head.begin) > 512 for head in module._kept.heads.values())
