"""One exchange from dispatch to its last byte, without a connection."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tako.errors import LocalProtocolError
from tako.http.request import Request
from tako.http.response import Response
from tako.server.pipeline import run_exchange
from tests.support.fake_exchange import FakeExchange


def run(exchange: FakeExchange, response: Response) -> None:
    async def dispatch(request: Request) -> Response:
        return response

    runtime = exchange.connection.runtime
    task = runtime.spawn(run_exchange, dispatch, exchange)
    runtime.advance(0)  # a large body lets others run in between
    assert task.done
    assert task.error is None


class Body:
    """A body that says whether it was closed."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for chunk in self._chunks:
            return chunk
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed += 1


class PlainBody:
    """The same with a plain iterator."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = iter(chunks)
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        self.closed += 1


BODIES = pytest.mark.parametrize("kind", [Body, PlainBody])


@BODIES
def test_a_stream_is_closed_once_it_is_sent(kind: type[Body]) -> None:
    body, exchange = kind(b"a", b"", b"bc"), FakeExchange()
    run(exchange, Response(body=body))
    assert (exchange.take(), body.closed) == (b"abc", 1)
    assert exchange.bytes_sent == 3


@BODIES
def test_a_stream_that_is_not_sent_is_closed_as_well(kind: type[Body]) -> None:
    body, exchange = kind(b"a"), FakeExchange(method="HEAD")
    run(exchange, Response(body=body))
    assert (exchange.take(), body.closed) == (b"", 1)


@BODIES
def test_a_stream_for_a_client_that_is_gone_is_closed(kind: type[Body]) -> None:
    body, exchange = kind(b"a", b"b"), FakeExchange()
    exchange.gone = True
    ends: list[tuple[int, bool]] = []
    exchange.request.on_end(lambda *end: ends.append(end))
    run(exchange, Response(body=body))
    assert (body.closed, ends) == (1, [(200, False)])


@BODIES
def test_a_stream_whose_head_cannot_be_sent_is_closed(kind: type[Body]) -> None:
    class Strict(FakeExchange):
        def send_headers(self, status: int, headers: Any, *, end: bool = False) -> None:
            if status == 299:
                msg = "no such head"
                raise LocalProtocolError(msg)
            super().send_headers(status, headers, end=end)

    body, exchange = kind(b"a"), Strict()
    ends: list[tuple[int, bool]] = []
    exchange.request.on_end(lambda *end: ends.append(end))
    run(exchange, Response(299, body=body))
    assert (exchange.status, exchange.take()) == (500, b"Internal Server Error")
    assert (body.closed, ends) == (1, [(500, True)])


def test_all_that_asked_are_told_of_the_end_in_order() -> None:
    exchange, ends = FakeExchange(), list[str]()
    exchange.request.on_end(lambda status, _: ends.append(f"first {status}"))
    exchange.request.on_end(lambda status, _: ends.append(f"second {status}"))
    run(exchange, Response(204))
    assert ends == ["first 204", "second 204"]


def test_bytes_sent_of_a_large_body_are_counted_in_pieces() -> None:
    exchange = FakeExchange()
    run(exchange, Response(body=b"x" * 200_000))
    assert exchange.bytes_sent == len(exchange.take()) == 200_000
    assert max(map(len, exchange.pieces)) == 64 * 1024


def test_a_stream_that_never_waits_is_written_while_it_is_made() -> None:
    exchange = FakeExchange()
    written: list[int] = []

    def body() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x" * 64 * 1024
            written.append(exchange.flushes.count(False))

    run(exchange, Response(body=body()))
    assert written == [1, 2, 3, 4]


@BODIES
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("status", [100, 101, 103, 199])
def test_an_interim_status_is_no_answer(
    kind: type[Body], method: str, status: int
) -> None:
    body, exchange = kind(b"a"), FakeExchange(method=method)
    run(exchange, Response(status, body=body))
    assert (exchange.status, body.closed) == (500, 1)


@BODIES
def test_a_body_that_head_does_not_need_is_closed_if_the_head_fails(
    kind: type[Body],
) -> None:
    class Refusing(FakeExchange):
        def send_headers(self, status: int, headers: Any, *, end: bool = False) -> None:
            if status == 200:
                msg = "no such head"
                raise LocalProtocolError(msg)
            super().send_headers(status, headers, end=end)

    body, exchange = kind(b"a"), Refusing(method="HEAD")
    run(exchange, Response(200, body=body))
    assert (exchange.status, body.closed) == (500, 1)
