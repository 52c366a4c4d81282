"""Server-sent events (the HTML standard, §9.2): ``Sse`` and ``SseEvent``.

Theory of operation. The body is an async iterable like any other, encoded item by item.
Its keep-alive is no task and no race against the source: ``EventStream.heartbeat``
says what to send after which silence, and whoever sends the body keeps a
``HeartbeatTimer``, which puts the comment between two chunks. The handler's iterator is
never interrupted, so no event can be lost.

Invariant: each chunk is whole events, so a comment may stand between any two.
"""

from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Iterable,
)
from typing import Any, Final, Generic, NamedTuple, Self, TypeVar

from tako.config import Duration, seconds
from tako.http.headers import Headers
from tako.http.response import Response


A = TypeVar("A")

_KEEP_ALIVE: Final = b":keepalive\n\n"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-store, must-revalidate"),
    (b"connection", b"keep-alive"),  # dropped by HTTP/2 (RFC 9113 §8.2.2)
    (b"x-accel-buffering", b"no"),
)


class _Field(Generic[A]):
    """A method that makes an event when called on the class, and else changes one."""

    def __init__(self, change: "Callable[[SseEvent, A], None]") -> None:
        self._change = change
        self.__doc__ = change.__doc__

    def __get__(
        self, event: "SseEvent | None", owner: "type[SseEvent]"
    ) -> "Callable[[A], SseEvent]":
        target = owner() if event is None else event

        def changed(value: A, /) -> SseEvent:
            self._change(target, value)
            return target

        return changed


class SseEvent:
    """One event: ``SseEvent.data("hello").event("greeting").id("1")``.

    Each method sets one field and returns the event; on the class, a new one. Nothing
    that a value contains can begin another field or another event.
    """

    __slots__ = ("_comment", "_data", "_event", "_id", "_retry")

    def __init__(self) -> None:
        self._comment: str | None = None
        self._data: str | None = None
        self._event: str | None = None
        self._id: str | None = None
        self._retry: float | None = None

    @_Field
    def data(self, text: str) -> None:
        """Set the event's data; it may have several lines."""
        self._data = text

    @_Field
    def comment(self, text: str) -> None:
        """Set a comment, which clients ignore."""
        self._comment = text

    @_Field
    def event(self, name: str) -> None:
        """Set the event's type; clients take it as ``message`` without one."""
        self._event = name

    @_Field
    def id(self, value: str) -> None:
        """Set the id that a client which reconnects sends as ``Last-Event-ID``."""
        self._id = value

    @_Field
    def retry(self, duration: Duration) -> None:
        """Set the time after which a client reconnects."""
        self._retry = seconds(duration, "retry")

    def encode(self) -> bytes:
        """Return the event as it is sent."""
        lines: list[str] = []
        if self._comment is not None:
            lines += [f": {line}" for line in _lines(self._comment)]
        if self._event is not None:
            lines.append(f"event: {_one_line(self._event)}")
        if self._id is not None and "\0" not in self._id:  # clients ignore such an id
            lines.append(f"id: {_one_line(self._id)}")
        if self._retry is not None:
            lines.append(f"retry: {round(self._retry * 1000)}")
        if self._data is not None:
            lines += [f"data: {line}" for line in _lines(self._data)]
        return ("\n".join(lines) + "\n\n").encode()


class Heartbeat(NamedTuple):
    """What to send after ``period`` seconds of silence."""

    period: float
    data: bytes


class EventStream:
    """The body of an ``Sse`` response: an async iterator of encoded events.

    ``heartbeat`` is for whoever sends it; see ``HeartbeatTimer``.
    """

    __slots__ = ("_encode", "_source", "heartbeat")

    def __init__(
        self,
        source: AsyncIterator[Any],
        encode: Callable[[Any], bytes],
        heartbeat: Heartbeat | None,
    ) -> None:
        self._source = source
        self._encode = encode
        self.heartbeat: Heartbeat | None = heartbeat

    def __aiter__(self) -> Self:
        """Return itself: the events can be had once."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next event, encoded.

        Cancel safety: that of the source.
        """
        return self._encode(await anext(self._source))

    async def aclose(self) -> None:
        """Close the source, so that its ``finally`` runs.

        Cancel safety: that of the source.
        """
        close = getattr(self._source, "aclose", None)
        if close is not None:
            await close()


async def _items(source: Iterable[Any]) -> AsyncGenerator[Any, None]:
    for item in source:
        yield item


class Sse:
    """A stream of server-sent events; a handler returns it.

    ``Sse(stream)`` sends each item, bytes or text, as ``data: <item>`` just as it is:
    an item with a line break in it can forge fields and events. Items that hold input
    from others belong into ``Sse.events``, which encodes each ``SseEvent``.

    The stream is closed, and its ``finally`` runs, when the client is gone.
    """

    __slots__ = ("_encode", "_heartbeat", "_stream")

    def __init__(
        self,
        stream: AsyncIterable[bytes] | AsyncIterable[str] | Iterable[bytes | str],
    ) -> None:
        self._stream: AsyncIterable[Any] | Iterable[Any] = stream
        self._encode: Callable[[Any], bytes] = _raw
        self._heartbeat: Heartbeat | None = None

    @classmethod
    def events(cls, stream: AsyncIterable[SseEvent] | Iterable[SseEvent]) -> Self:
        """Return a stream of events, each of them encoded safely."""
        sse = cls(())
        sse._stream = stream
        sse._encode = SseEvent.encode
        return sse

    def keep_alive(self, period: Duration) -> Self:
        """Send a comment after each ``period`` without an event.

        Raises:
            ConfigError: ``period`` is not positive.
        """
        self._heartbeat = Heartbeat(seconds(period, "period"), _KEEP_ALIVE)
        return self

    def into_response(self) -> Response:
        """Return the response."""
        stream = self._stream
        source = aiter(stream) if isinstance(stream, AsyncIterable) else _items(stream)
        body = EventStream(source, self._encode, self._heartbeat)
        return Response(200, Headers.from_raw(list(_HEADERS)), body)


def last_event_id(headers: Headers) -> str | None:
    """Return the ``Last-Event-ID`` of a client that reconnects.

    ``None`` if there is none, or it is not UTF-8; see ``last_event_id_bytes``.
    """
    value = last_event_id_bytes(headers)
    try:
        return None if value is None else value.decode()
    except UnicodeDecodeError:
        return None


def last_event_id_bytes(headers: Headers) -> bytes | None:
    """Return the ``Last-Event-ID`` as bytes, trimmed, or ``None`` if there is none."""
    value = headers.get_raw(b"last-event-id")
    return None if value is None else value.strip() or None


def _lines(text: str) -> list[str]:
    return text.replace("\r", "").split("\n")


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def _raw(item: bytes | str) -> bytes:
    data = item.encode() if isinstance(item, str) else item
    return b"data: " + data + b"\n\n"
