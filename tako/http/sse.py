"""Server-sent events (the HTML standard, §9.2): ``Sse`` and ``SseEvent``.

Theory of operation. The body is an async iterable like any other, encoded item by item.
Its keep-alive is neither a task nor a race against the source:
``EventStream.heartbeat`` says what to send after how long a silence; the server keeps a
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
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from tako.config import Duration, seconds
from tako.http.headers import Headers
from tako.http.response import Response


_KEEP_ALIVE: Final = b":keepalive\n\n"
_HEADERS: Final = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-store, must-revalidate"),
    (b"connection", b"keep-alive"),  # dropped by HTTP/2 (RFC 9113 §8.2.2)
    (b"x-accel-buffering", b"no"),
)


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One event: ``SseEvent("hello", event="greeting", id="1")``.

    Nothing that a value contains can begin another field or another event.

    Attributes:
        data: the event's data; it may have several lines.
        event: its type; without one clients take it as ``message``.
        id: what a client sends as ``Last-Event-ID`` when it reconnects.
        retry: seconds, or a ``timedelta``, after which a client reconnects.
        comment: text that clients ignore.

    Raises:
        ConfigError: ``retry`` is not positive.
    """

    data: str | None = None
    event: str | None = None
    id: str | None = None
    retry: Duration | None = None
    comment: str | None = None

    def __post_init__(self) -> None:
        if self.retry is not None:
            seconds(self.retry, "retry")

    def encode(self) -> bytes:
        """Return the event as bytes of the stream, in UTF-8."""
        lines: list[str] = []
        if self.comment is not None:
            lines += [f": {line}" for line in _lines(self.comment)]
        if self.event is not None:
            lines.append(f"event: {_one_line(self.event)}")
        if self.id is not None and "\0" not in self.id:  # clients ignore such an id
            lines.append(f"id: {_one_line(self.id)}")
        if self.retry is not None:
            lines.append(f"retry: {round(seconds(self.retry, 'retry') * 1000)}")
        if self.data is not None:
            lines += [f"data: {line}" for line in _lines(self.data)]
        return ("\n".join(lines) + "\n\n").encode()


class Heartbeat(NamedTuple):
    """What to send after ``period`` seconds of silence."""

    period: float
    data: bytes


class EventStream:
    """The body of an ``Sse`` response: an async iterator of encoded events.

    ``heartbeat`` is for the server, which sends it; see ``HeartbeatTimer``.
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
        """Return itself: the events can be read once."""
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
    from others belong in ``Sse.events``, which encodes each ``SseEvent``.

    The stream is closed, and its ``finally`` runs, when the client is gone.

    Args:
        stream: a plain or async iterable.
        keep_alive: seconds, or a ``timedelta``, without an event before a comment is
            sent; ``None``: no comments.

    Raises:
        ConfigError: ``keep_alive`` is not positive.

    Example::

        async def ticks(request: Request) -> Sse:
            async def events() -> AsyncIterator[SseEvent]:
                for number in range(10):
                    yield SseEvent(str(number), id=str(number))
                    await tako.sleep(1)

            return Sse.events(events(), keep_alive=15)
    """

    __slots__ = ("_encode", "_heartbeat", "_stream")

    def __init__(
        self,
        stream: AsyncIterable[bytes] | AsyncIterable[str] | Iterable[bytes | str],
        *,
        keep_alive: Duration | None = None,
    ) -> None:
        self._stream: AsyncIterable[Any] | Iterable[Any] = stream
        self._encode: Callable[[Any], bytes] = _raw
        self._heartbeat: Heartbeat | None = None
        if keep_alive is not None:
            period = seconds(keep_alive, "keep_alive")
            self._heartbeat = Heartbeat(period, _KEEP_ALIVE)

    @classmethod
    def events(
        cls,
        stream: AsyncIterable[SseEvent] | Iterable[SseEvent],
        *,
        keep_alive: Duration | None = None,
    ) -> Self:
        """Return a stream of events, each of them encoded safely.

        Raises:
            ConfigError: ``keep_alive`` is not positive.
        """
        sse = cls((), keep_alive=keep_alive)
        sse._stream = stream
        sse._encode = SseEvent.encode
        return sse

    def into_response(self) -> Response:
        """Return the response; its body is an ``EventStream``."""
        stream = self._stream
        source = aiter(stream) if isinstance(stream, AsyncIterable) else _items(stream)
        body = EventStream(source, self._encode, self._heartbeat)
        return Response(200, Headers.from_raw(list(_HEADERS)), body)


def _lines(text: str) -> list[str]:
    return text.replace("\r", "").split("\n")


def _one_line(text: str) -> str:
    return text.replace("\r", " ").replace("\n", " ")


def _raw(item: bytes | str) -> bytes:
    data = item.encode() if isinstance(item, str) else item
    return b"data: " + data + b"\n\n"
