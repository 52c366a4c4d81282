"""Server-sent events: encoding, headers, keep-alive."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tako.core.seams import Exchange
from tako.errors import ConfigError
from tako.http.request import Request
from tako.http.response import Response, into_response
from tako.http.sse import EventStream, Heartbeat, Sse, SseEvent
from tako.server.heartbeat import HeartbeatTimer
from tests.support.wire import FakeConnection, FakeRuntime


async def drain(response: Response) -> list[bytes]:
    body = response.body
    assert isinstance(body, EventStream)
    return [chunk async for chunk in body]


def sent(sse: Sse) -> list[bytes]:
    chunks = FakeRuntime().run(drain, into_response(sse))
    assert isinstance(chunks, list)
    return chunks


# Encoding


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (SseEvent("hello"), b"data: hello\n\n"),
        (SseEvent(""), b"data: \n\n"),
        (SseEvent("line1\nline2"), b"data: line1\ndata: line2\n\n"),
        (SseEvent("a\r\nb\rc"), b"data: a\ndata: bc\n\n"),
        (SseEvent("a\n"), b"data: a\ndata: \n\n"),
        (SseEvent("ä🐙"), "data: ä🐙\n\n".encode()),
        (SseEvent(comment="hi"), b": hi\n\n"),
        (SseEvent(comment="a\nb\r"), b": a\n: b\n\n"),
        (SseEvent(retry=5), b"retry: 5000\n\n"),
        (SseEvent(retry=timedelta(milliseconds=1500)), b"retry: 1500\n\n"),
        (SseEvent(retry=0.0004), b"retry: 0\n\n"),
        (
            SseEvent("x", event="legit\nid: hostile"),
            b"event: legit id: hostile\ndata: x\n\n",
        ),
        (SseEvent("x", id="a\r\nb"), b"id: a  b\ndata: x\n\n"),
        (SseEvent("x", id="a\0b"), b"data: x\n\n"),
        (SseEvent("x", id=""), b"id: \ndata: x\n\n"),
        (SseEvent(event="ping"), b"event: ping\n\n"),
        (SseEvent(), b"\n\n"),
    ],
)
def test_event_is_encoded(event: SseEvent, wire: bytes) -> None:
    assert event.encode() == wire


def test_fields_come_in_their_order_whatever_the_order_of_keywords() -> None:
    event = SseEvent(data="d", retry=1, id="i", event="e", comment="c")
    assert event.encode() == b": c\nevent: e\nid: i\nretry: 1000\ndata: d\n\n"


def test_an_event_is_a_value() -> None:
    event = SseEvent("a", id="1")
    assert event == SseEvent(data="a", id="1")
    assert event != SseEvent("a")
    assert replace(event, data="b").encode() == b"id: 1\ndata: b\n\n"


@pytest.mark.parametrize("value", [0, -1, float("nan"), "5"])
def test_retry_takes_a_positive_time(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"^retry"):
        SseEvent(retry=value)


@pytest.mark.parametrize("hostile", ["\n\ndata: x", "\r\rdata: x", "\r\n\r\ndata: x"])
@pytest.mark.parametrize("field", ["data", "comment", "event", "id"])
def test_no_value_can_begin_another_event(field: str, hostile: str) -> None:
    values: dict[str, Any] = {field: f"a{hostile}"}
    wire = SseEvent(**values).encode()
    assert wire.endswith(b"\n\n")
    assert b"\n\n" not in wire[:-2]
    assert b"\r" not in wire


# The response


def test_the_response_is_an_event_stream_that_proxies_do_not_buffer() -> None:
    response = into_response(Sse([]))
    assert response.status == 200
    assert response.headers.items() == [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("connection", "keep-alive"),
        ("x-accel-buffering", "no"),
    ]


def test_headers_of_one_response_are_not_those_of_the_next() -> None:
    into_response(Sse([])).headers.add("x", "1")
    assert "x" not in into_response(Sse([])).headers


async def numbers() -> AsyncIterator[SseEvent]:
    for number in range(3):
        yield SseEvent(f"tick: {number}")


def test_events_are_encoded_one_by_one() -> None:
    expected = [b"data: tick: 0\n\n", b"data: tick: 1\n\n", b"data: tick: 2\n\n"]
    assert sent(Sse.events(numbers())) == expected
    assert sent(Sse.events([SseEvent("x")])) == [b"data: x\n\n"]


def test_raw_items_are_framed_as_they_are() -> None:
    expected = [b"data: a\n\n", b"data: b\n\n", b"data: c\nid: 1\n\n"]
    assert sent(Sse(["a", b"b", "c\nid: 1"])) == expected


def test_closing_the_body_closes_the_source() -> None:
    ended: list[str] = []

    async def source() -> AsyncIterator[str]:
        try:
            yield "one"
            yield "two"
        finally:
            ended.append("finally")

    async def main() -> bytes:
        body = into_response(Sse(source())).body
        assert isinstance(body, EventStream)
        first = await anext(body)
        assert not ended
        await body.aclose()
        return first

    assert FakeRuntime().run(main) == b"data: one\n\n"
    assert ended == ["finally"]


def test_closing_works_for_sources_that_have_nothing_to_close() -> None:
    class Source:
        def __aiter__(self) -> "Source":
            return self

        async def __anext__(self) -> str:
            return "x"

    async def main() -> bytes:
        body = into_response(Sse(Source())).body
        assert isinstance(body, EventStream)
        first = await anext(body)
        await body.aclose()
        return first

    assert FakeRuntime().run(main) == b"data: x\n\n"


def test_an_error_of_the_source_reaches_the_sender() -> None:
    async def source() -> AsyncIterator[str]:
        yield "one"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sent(Sse(source()))


# Keep-alive


class FakeExchange(Exchange):
    """As much of an exchange as a heartbeat needs."""

    connection: FakeConnection  # type: ignore[mutable-override]
    writable: bool = True

    def __init__(self) -> None:
        self.connection = FakeConnection()
        self.request = Request.build()
        self.over = False
        self.bytes_sent = 0
        self.log: list[tuple[float, bytes]] = []
        self.flushed = 0

    def send_data(self, data: bytes | memoryview, *, end: bool = False) -> None:
        assert not end
        self.log.append((self.connection.runtime.now - 1000, bytes(data)))

    def flush(self, *, soon: bool = False) -> None:
        self.flushed += 1


def beating(period: float) -> tuple[FakeExchange, HeartbeatTimer]:
    exchange = FakeExchange()
    heartbeat = Heartbeat(period, b":keepalive\n\n")
    return exchange, HeartbeatTimer(exchange, heartbeat)


def test_keep_alive_is_announced_on_the_body() -> None:
    body = into_response(Sse([], keep_alive=timedelta(seconds=15))).body
    assert isinstance(body, EventStream)
    assert body.heartbeat == Heartbeat(15.0, b":keepalive\n\n")
    without = into_response(Sse([])).body
    assert isinstance(without, EventStream)
    assert without.heartbeat is None


def test_keep_alive_takes_a_positive_period() -> None:
    with pytest.raises(ConfigError, match=r"^keep_alive"):
        Sse([], keep_alive=0)
    with pytest.raises(ConfigError, match=r"^keep_alive"):
        Sse.events([], keep_alive=-1)


def test_a_comment_is_sent_after_each_period_of_silence() -> None:
    exchange, _ = beating(10)
    exchange.connection.runtime.advance(9.9)
    assert exchange.log == []
    exchange.connection.runtime.advance(20.2)
    beats = [(10.0, b":keepalive\n\n"), (20.0, b":keepalive\n\n")]
    assert exchange.log == [*beats, (30.0, b":keepalive\n\n")]
    assert exchange.flushed == 3


def test_each_event_starts_the_period_again() -> None:
    exchange, timer = beating(10)
    for _ in range(5):
        exchange.connection.runtime.advance(9)
        timer.restart()
    assert exchange.log == []
    exchange.connection.runtime.advance(10)
    assert [when for when, _ in exchange.log] == [55.0]


def test_nothing_is_sent_after_the_end() -> None:
    exchange, timer = beating(10)
    timer.stop()
    exchange.connection.runtime.advance(100)
    assert exchange.log == []


def test_nothing_is_sent_to_a_client_that_is_gone() -> None:
    exchange, _ = beating(10)
    exchange.over = True
    exchange.connection.runtime.advance(100)
    assert exchange.log == []


def test_a_client_that_does_not_read_gets_no_comments_on_top() -> None:
    exchange, _ = beating(10)
    exchange.writable = False
    exchange.connection.runtime.advance(25)
    assert exchange.log == []
    exchange.writable = True
    exchange.connection.runtime.advance(10)
    assert [when for when, _ in exchange.log] == [30.0]
