"""``HostedWebSocket``: what a session is given where another server has the wire.

It is a ``WebSocket`` in everything that ASGI can express. What it cannot: control
frames are the host's, so a session sees no Ping and sends none; ``latency`` is unknown;
the limits of frames and of time that a route sets for the wire are the host's to set.
"""

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, cast

from tako import runtime
from tako.asgi.hosted.relay import HostedRelay
from tako.asgi.protocol import Event, Receive, Send
from tako.errors import ConnectionClosed, MessageTooBig, WsError, consists_of
from tako.http.request import Request
from tako.ws.conversation import Sendable
from tako.ws.message import AnyMessage, Message, received_close
from tako.ws.options import WsOptions
from tako.ws.relay import Encoded, GapT, ItemT, Relayed
from tako.ws.upgrade import SessionFunction
from tako.ws.websocket import WebSocket


_logger = logging.getLogger("tako.ws")


class HostedWebSocket(WebSocket):
    """One WebSocket conversation over ASGI events."""

    __slots__ = ("_closing", "_code", "_end", "_reason", "_receive", "_send_event")

    def __init__(
        self, request: Request, options: WsOptions, receive: Receive, send: Send
    ) -> None:
        self.request = request
        self._options = options
        self._receive = receive
        self._send_event = send
        self._reading = False
        self._end: WsError | None = None
        self._closing = False
        self._code: int | None = None
        self._reason = ""

    @property
    def closed(self) -> bool:
        """The conversation is over."""
        return self._end is not None

    @property
    def close_code(self) -> int | None:
        """How it ended; see ``WebSocket``."""
        return self._code

    @property
    def close_reason(self) -> str:
        """The peer's reason."""
        return self._reason

    @property
    def error(self) -> WsError | None:
        """The failure that ended the conversation, if there was one."""
        return None if isinstance(self._end, ConnectionClosed) else self._end

    @property
    def max_lifetime(self) -> float | None:
        """How long the session may last, in seconds."""
        return self._options.max_lifetime

    @property
    def latency(self) -> float | None:
        """Unknown: Pings are the host's."""
        return None

    async def __anext__(self) -> AnyMessage:
        try:
            return await self.read()
        except WsError:
            raise StopAsyncIteration from None

    async def read(self, timeout: float | None = None) -> AnyMessage:
        """Return the next message; see ``WebSocket.read``.

        Cancel safety: that of the host's ``receive``.
        """
        if self._reading:
            msg = "another task is already reading"
            raise RuntimeError(msg)
        if self._end is not None:
            raise self._fresh()
        self._reading = True
        try:
            event = await self._next_event(timeout)
        finally:
            self._reading = False
        if event["type"] == "websocket.receive":
            return await self._checked(event)
        return self._closed_by(event)

    async def send(self, message: Sendable) -> None:
        """Send a message; see ``WebSocket.send``. Pings and Pongs are not sent.

        Cancel safety: that of the host's ``send``.
        """
        if isinstance(message, Message.Close):
            await self._send_close(message.code, message.reason)
            return
        if self._closing or self._end is not None:
            raise self._fresh()
        if isinstance(message, str):
            await self._deliver({"type": "websocket.send", "text": message})
        elif isinstance(message, (bytes, bytearray, memoryview)):
            await self._deliver({"type": "websocket.send", "bytes": bytes(message)})
        elif type(message) not in {Message.Ping, Message.Pong}:
            msg = f"ws.send takes str, bytes or a Message, not {type(message).__name__}"
            raise TypeError(msg)

    def relay(
        self,
        feed: Relayed[ItemT, GapT],
        *,
        encode: Callable[[ItemT], Encoded] | None = None,
        on_gap: Callable[[GapT], Encoded | None] | None = None,
    ) -> HostedRelay[ItemT, GapT]:
        """Send what comes of a feed, by a task; see ``WebSocket.relay``.

        Cancel safety: that of the host's ``receive``.
        """
        return HostedRelay(self, feed, encode, on_gap)

    async def flush(self) -> None:
        """Do nothing: the host writes. Cancel safety: safe."""

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close the conversation; the host waits for the peer's Close.

        Cancel safety: that of the host's ``send``.
        """
        frame = Message.Close(code, reason)
        await self._send_close(frame.code, frame.reason)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or consists_of(error, WsError):
            await self.close(1000)
        elif isinstance(error, Exception):
            await self.close(1011)

    async def _next_event(self, timeout: float | None) -> Event:
        if timeout is None:
            return await self._receive()
        event = await run_within(timeout, self._receive)
        if event is None:
            msg = f"no message within {timeout} s"
            raise TimeoutError(msg)
        return cast("Event", event)

    async def _checked(self, event: Event) -> AnyMessage:
        """Return the message of an event unless it is too big."""
        data: str | bytes | None = event.get("bytes")
        if data is None:
            data = cast("str", event["text"])
        most = self._options.max_message_size
        size = len(data)
        if isinstance(data, str) and size * 4 > most:
            size = len(data.encode())
        if size > most:
            self._code = MessageTooBig.close_code
            await self._send_close(1009, "")
            self._end = MessageTooBig(f"a message of {size} bytes, at most {most}")
            raise self._fresh()
        return data

    def _closed_by(self, event: Event) -> AnyMessage:
        code = event.get("code") or 1005
        self._code, self._reason = code, event.get("reason") or ""
        self._end = ConnectionClosed(code, self._reason)
        if code == 1006 or self._closing:
            raise self._fresh()
        return received_close(None if code == 1005 else code, self._reason)

    async def _send_close(self, code: int | None, reason: str) -> None:
        if self._closing or self._end is not None:
            return
        self._closing = True
        if self._code is None:
            self._code = 1005 if code is None else code
        event: Event = {"type": "websocket.close", "code": code or 1000}
        if reason:
            event["reason"] = reason
        try:
            await self._send_event(event)
        except (OSError, RuntimeError) as error:  # RuntimeError: closed just before
            _logger.debug("the host has closed already: %r", error)

    async def _deliver(self, event: Event) -> None:
        try:
            await self._send_event(event)
        except OSError:
            self._code = self._code or 1006
            self._end = ConnectionClosed(self._code, self._reason)
            raise self._fresh() from None

    def _fresh(self) -> WsError:
        if isinstance(self._end, MessageTooBig):
            return MessageTooBig(*self._end.args)
        return ConnectionClosed(self._code or 1006, self._reason)


async def run_session(session: SessionFunction, ws: HostedWebSocket) -> None:
    """Run a session and close with the code that its outcome calls for.

    Cancel safety: the session is cancelled; the host closes.
    """
    failure: Exception | None = None

    async def run() -> bool:
        nonlocal failure
        try:
            await session(ws)
        except Exception as error:  # the isolation boundary of a session
            failure = error
        return True

    lifetime = ws.max_lifetime
    if lifetime is None:
        await run()
    elif await run_within(lifetime, run) is None:
        _logger.debug("session of %s: max lifetime exceeded", ws.request.path)
        await ws.close(1001, "max lifetime exceeded")
        return
    if failure is None or consists_of(failure, WsError):
        await ws.close(1000)
        return
    _logger.error("session of %s failed", ws.request.path, exc_info=failure)
    await ws.close(1011)


async def run_within(seconds: float, function: Any, *args: object) -> object | None:
    """Return ``await function(*args)``, ``None`` if it takes longer than ``seconds``.

    Cancel safety: as ``function``.
    """
    async with runtime.current().open_runtime() as own:
        try:
            result: object = await own.run_within(seconds, function, *args)
        except TimeoutError:
            return None
    return result
