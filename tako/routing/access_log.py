"""``access_log``: middleware that writes a line for each request and each WebSocket.

Theory of operation. The middleware notes the time and registers a callback for the end
of the answer (``Request.on_end``), which is after every error handler and after the
last byte. An accepted WebSocket ends with its session; its messages are counted by the
object that the session gets (``CountedWebSocket``), so a WebSocket of a route without
an access log counts nothing.

Invariant: a request that came over a connection gets exactly one line, however it ends
and however many access logs are around its route.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from tako.core.exchange_of import exchange_of
from tako.core.log_lines import one_word
from tako.core.seams import Exchange
from tako.core.upgrade import upgrade_of
from tako.errors import WsError
from tako.http.conn_info import IpPeer
from tako.http.date import http_date
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.access_format import AccessFormat
from tako.routing.middleware import Middleware, Next
from tako.routing.request_id import RequestId
from tako.ws.conversation import Conversation, Sendable
from tako.ws.message import AnyMessage, Message
from tako.ws.options import WsOptions
from tako.ws.upgrade import WebSocketUpgrade
from tako.ws.websocket import WebSocket


_log = logging.getLogger("tako.access")


@dataclass(slots=True)
class WebSocketCounts:
    """The data messages that a session sent and read, and the bytes of their payload.

    Attributes:
        close_code: the client's close code, ours if the client had not answered.
        messages_in: messages that the session read.
        bytes_in: their size.
        messages_out: messages that the session sent.
        bytes_out: their size, before compression.
        closed_by: whose Close came first; ``None``: the client left without one.
    """

    close_code: int = 1006
    messages_in: int = 0
    bytes_in: int = 0
    messages_out: int = 0
    bytes_out: int = 0
    closed_by: Literal["client", "server"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessEntry:
    """A request as an access log sees it; ``str`` makes its usual line.

    It is the ``access`` attribute of the log record, for formatters of your own. Its
    fields are as the client sent them, with quotes and control characters; ``str``
    escapes them.

    Attributes:
        peer: the client's address and port.
        method: the request method.
        target: the path, with the query if that is logged.
        http_version: ``"1.0"``, ``"1.1"`` or ``"2"``.
        status: the status that was answered, 499 if the client left before.
        bytes_sent: bytes of the response's body.
        complete: whether all of the answer was sent.
        seconds: from the request's head to the end of the answer or session.
        request_id: the id that ``request_id`` gave it.
        websocket: the messages, if it became a WebSocket.
        address: the client's address without the port.
        began: when its head had come, in seconds since the epoch.
        query: the query with its question mark, if the format names it; else ``""``.
        headers: the fields of the request that the format names, in lower case; those
            that were sent more than once with commas.
    """

    peer: str
    method: str
    target: str
    http_version: str
    status: int
    bytes_sent: int
    complete: bool
    seconds: float
    request_id: str | None = None
    websocket: WebSocketCounts | None = None
    address: str = ""
    began: float = 0.0
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        words = [
            one_word(self.peer),
            one_word(self.method),
            one_word(self.target),
            f"HTTP/{self.http_version}",
            f"status={self.status}",
        ]
        if self.websocket is None:
            words.append(f"bytes={self.bytes_sent}")
        else:
            counts = self.websocket
            words += [
                f"websocket={counts.close_code}",
                f"in={counts.messages_in}/{counts.bytes_in}",
                f"out={counts.messages_out}/{counts.bytes_out}",
            ]
        words.append(f"seconds={self.seconds:.6f}")
        if not self.complete:
            words.append("cut=yes")
        if self.request_id is not None:
            words.append(f"id={one_word(self.request_id)}")
        return " ".join(words)


class CountedWebSocket(WebSocket):
    """A ``WebSocket`` that counts the data messages that pass through it."""

    __slots__ = ("_counts",)

    def __init__(
        self,
        counts: WebSocketCounts,
        request: Request,
        conversation: Conversation,
        options: WsOptions,
    ) -> None:
        super().__init__(request, conversation, options)
        self._counts = counts

    async def __anext__(self) -> AnyMessage:
        try:
            return await self.read()
        except WsError:
            raise StopAsyncIteration from None

    async def read(self, timeout: float | None = None) -> AnyMessage:
        """Return the next message; see ``WebSocket.read``.

        Cancel safety: safe; no message is lost or returned twice.
        """
        message = await super().read(timeout)
        if isinstance(message, (str, bytes)):
            self._counts.messages_in += 1
            self._counts.bytes_in += _size(message)
        return message

    async def send(self, message: Sendable) -> None:
        """Send a message; see ``WebSocket.send``.

        Cancel safety: the message is sent whole even if the wait is cancelled.
        """
        sent = True
        try:
            await super().send(message)
        except Exception:
            sent = False
            raise
        finally:
            if sent and not isinstance(
                message, (Message.Ping, Message.Pong, Message.Close)
            ):
                self._counts.messages_out += 1
                self._counts.bytes_out += _size(message)


class _Watch:
    """Logs one request at its end; kept in its extensions."""

    __slots__ = (
        "_counts",
        "_exchange",
        "_format",
        "_level",
        "_query",
        "_request",
        "_started",
        "_upgrade",
    )

    def __init__(
        self,
        request: Request,
        exchange: Exchange,
        level: int,
        query: bool,
        shown: AccessFormat | None,
    ) -> None:
        self._request = request
        self._exchange = exchange
        self._level = level
        self._query = query
        self._format = shown
        self._started = exchange.connection.time()
        self._upgrade: WebSocketUpgrade | None = None
        self._counts: WebSocketCounts | None = None

    def answered(self, response: Response) -> None:
        """Count the messages of the WebSocket, if the answer is one."""
        upgrade = upgrade_of(response)
        if isinstance(upgrade, WebSocketUpgrade):
            self._upgrade = upgrade
            self._counts = WebSocketCounts()
            self._upgrade.make_socket = partial(CountedWebSocket, self._counts)

    def ended(self, status: int, complete: bool) -> None:
        """Log the request, now that its answer has ended."""
        request, counts = self._request, self._counts
        upgrade, shown = self._upgrade, self._format
        code = None if upgrade is None else upgrade.close_code
        if upgrade is None or counts is None or code is None:
            counts = None  # the handshake was refused by a middleware around this one
        else:
            counts.close_code, counts.closed_by = code, upgrade.closed_by
        connection = self._exchange.connection
        peer = (request.conn_info or connection.conn_info).peer
        seconds = connection.time() - self._started
        entry = AccessEntry(
            peer=str(peer),
            method=request.method,
            target=request.target if self._query else request.path,
            http_version=request.http_version,
            status=status,
            bytes_sent=self._exchange.bytes_sent,
            complete=complete,
            seconds=seconds,
            request_id=request.extensions.get(RequestId),
            websocket=counts,
            address=peer.host if isinstance(peer, IpPeer) else str(peer),
            began=http_date.now() - seconds,
            query=_query(request) if shown is not None and shown.query else "",
            headers={} if shown is None else _fields(request, shown.headers),
        )
        line = entry if shown is None else shown.line(entry)
        _log.log(self._level, "%s", line, extra={"access": entry})


def access_log(
    *,
    level: int = logging.INFO,
    query: bool = False,
    format: str | None = None,  # noqa: A002 - what it is called everywhere
) -> Middleware:
    """Return a middleware that logs each request, and each WebSocket at its end.

    The lines go to the logger ``tako.access``; ``record.access`` is the
    ``AccessEntry``. Register it first: then it sees the answers of all others.

    Args:
        level: the level to log at.
        query: log the query as well; that is where browsers put the tokens of
            WebSockets, so it is left out by default.
        format: what a line looks like: ``"{peer} {method} {target} {status}"``, say,
            ``"common"`` or ``"combined"``; docs/how-to/logs.md names the fields.
            ``None``: as ``str(entry)``.

    Raises:
        ConfigError: ``format`` has an unknown field, or cannot show one like that.

    Example::

        router.middleware(tako.access_log(format="{peer} {method} {target} {status}"))
    """
    shown = None if format is None else AccessFormat(format)

    async def watch(request: Request, call_next: Next) -> Response:
        exchange = exchange_of(request)
        if (
            exchange is None  # in a test: without a connection there is no end
            or not _log.isEnabledFor(level)
            or _Watch in request.extensions
        ):
            return await call_next(request)
        watch = _Watch(request, exchange, level, query, shown)
        request.extensions.insert(watch)
        request.on_end(watch.ended)
        response = await call_next(request)
        watch.answered(response)
        return response

    return watch


def _query(request: Request) -> str:
    return f"?{request.query}" if request.query else ""


def _fields(request: Request, names: tuple[str, ...]) -> dict[str, str]:
    """Return the fields of ``request`` that have these names."""
    found = {name: ", ".join(request.headers.get_all(name)) for name in names}
    if "host" in found:  # RFC 9113 §8.3.1: HTTP/2 has it as ``:authority``
        found["host"] = request.host or ""
    return {name: value for name, value in found.items() if value}


def _size(message: str | bytes | bytearray | memoryview) -> int:
    if isinstance(message, str):
        return len(message) if message.isascii() else len(message.encode())
    return message.nbytes if isinstance(message, memoryview) else len(message)
