"""``WebSocket``: what a session is given.

The object has two reading styles, iteration and ``read``, over one ``Conversation``.
All of its methods encode and queue synchronously before they wait, so none of them can
leave half a frame on the wire when it is cancelled.
"""

from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Literal, Self

from tako.errors import ConnectionClosed, WsError, consists_of
from tako.http.answer import HandshakeResponse
from tako.http.request import Request
from tako.ws.conversation import Conversation, Sendable
from tako.ws.message import AnyMessage, Message
from tako.ws.options import NO_KEEP_ALIVE, WsKeepAlive, WsOptions
from tako.ws.relay import (
    ConversationRelay,
    Encoded,
    GapT,
    ItemT,
    Relay,
    Relayed,
)


class WebSocket:
    """One WebSocket conversation, the same over HTTP/1.1 and HTTP/2.

    Iterate over it for messages until the conversation is over, or ``read`` each. One
    task may read at a time; any number may send.

    Example::

        async def session(ws: WebSocket) -> None:
            async for message in ws:
                if isinstance(message, str):
                    await ws.send(message.upper())
            print(ws.close_code, ws.close_reason)
    """

    __slots__ = (
        "_checkpoint",
        "_conversation",
        "_inbox",
        "_options",
        "_readable",
        "_reading",
        "_tunnel",
        "_waiting",
        "request",
        "response",
    )

    def __init__(
        self,
        request: Request,
        conversation: Conversation,
        options: WsOptions,
        response: HandshakeResponse | None = None,
    ) -> None:
        self.request: Request = request
        """What a client has sent."""
        self.response: HandshakeResponse | None = response
        """What came from the server; ``None`` on a server."""
        self._conversation = conversation
        self._tunnel = conversation.tunnel
        # For each message: to ask a compiled ``Conversation`` costs far more
        self._inbox = conversation.inbox
        self._waiting = conversation.inbox.messages
        self._readable = conversation.readable
        self._options = options
        self._reading = False
        self._checkpoint = conversation.tunnel.connection.runtime.checkpoint

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that was chosen, if any (RFC 6455 §1.9)."""
        return self._options.subprotocol

    @property
    def keep_alive(self) -> WsKeepAlive:
        """The route's ``WsKeepAlive``; without one its fields are ``None``."""
        return self._options.keep_alive or NO_KEEP_ALIVE

    @property
    def http_version(self) -> Literal["1.1", "2"]:
        """The version of HTTP that carries this WebSocket."""
        return "2" if self.request.http_version == "2" else "1.1"

    @property
    def closed(self) -> bool:
        """The conversation is over: nothing can be sent, nothing more will come."""
        conversation = self._conversation
        return conversation.end is not None and (
            not conversation.can_send or self._tunnel.over
        )

    @property
    def close_code(self) -> int | None:
        """How it ended: the peer's code, 1005 if it gave none, 1006 without a Close."""
        return self._conversation.close_code

    @property
    def close_reason(self) -> str:
        """The peer's reason, ``""`` where there is none."""
        return self._conversation.close_reason

    @property
    def error(self) -> WsError | None:
        """The failure that ended the conversation, ``None`` if there was none."""
        return self._conversation.error

    @property
    def latency(self) -> float | None:
        """The last round trip of a Ping, in seconds."""
        return self._conversation.latency

    @property
    def messages_received(self) -> int:
        """Data messages that were read, or wait to be."""
        return self._conversation.messages_received

    @property
    def messages_sent(self) -> int:
        """Data messages that were sent by ``send``."""
        return self._conversation.messages_sent

    def __aiter__(self) -> AsyncIterator[AnyMessage]:
        return self

    async def __anext__(self) -> AnyMessage:
        if self._checkpoint is None and not self._reading:
            inbox, waiting = self._inbox, self._waiting
            # What read() does when nothing is out of the ordinary, without its
            # coroutine: a third of the time of an iteration (h2-small).
            if not waiting and inbox.plain:
                self._reading = True
                try:
                    await self._readable.wait()
                finally:
                    self._reading = False
            if waiting:
                message: AnyMessage = inbox.pop()
                if type(message) is not bytes and type(message) is not str:
                    self._conversation.control_taken(message)
                return message
        try:
            return await self.read()
        except WsError:
            raise StopAsyncIteration from None

    async def read(self, timeout: float | None = None) -> AnyMessage:
        """Return the next message: ``str``, ``bytes``, or a ``Message.*``.

        The peer's Close is returned once, as ``Message.Close``; then
        ``ConnectionClosed`` is raised.

        Args:
            timeout: seconds to wait for it.

        Raises:
            ConnectionClosed: the conversation is over.
            WsError: it failed; the subclass says how.
            TimeoutError: nothing came within ``timeout``.
            RuntimeError: another task is reading.

        Cancel safety: safe; no message is lost or returned twice.
        """
        if self._reading:
            msg = "another task is already reading"
            raise RuntimeError(msg)
        waiting, conversation = self._waiting, self._conversation
        if self._checkpoint is not None and waiting:
            self._reading = True
            try:
                await self._checkpoint()
            finally:
                self._reading = False
        while not waiting:
            self._reading = True
            try:
                if conversation.resume():
                    # A flood is decoded in portions: other tasks run in between.
                    await self._tunnel.connection.runtime.sleep(0)
                elif conversation.end is not None:
                    raise _fresh(conversation.end)
                elif not await conversation.readable.wait(timeout) and not waiting:
                    msg = f"no message within {timeout} s"
                    raise TimeoutError(msg)
            finally:
                self._reading = False
        return conversation.take()

    async def send(self, message: Sendable) -> None:
        """Send a message: ``str`` as text, bytes-like as binary, or a ``Message.*``.

        Returns when the bytes were handed to the transport and the peer's window has
        room for more.

        Raises:
            ConnectionClosed: closing has begun or the connection is lost. A
                ``Message.Close`` is then a no-op instead.
            TypeError: ``message`` is of another type.
            UnicodeEncodeError: ``message`` is text with a surrogate in it.

        Cancel safety: the message is sent whole even if the wait is cancelled.
        """
        if not self._conversation.send(message):
            await self._let_others_run(message)

    def relay(
        self,
        feed: Relayed[ItemT, GapT],
        *,
        encode: Callable[[ItemT], Encoded] | None = None,
        on_gap: Callable[[GapT], Encoded | None] | None = None,
    ) -> Relay[ItemT, GapT]:
        """Send what comes of a feed of topics, at no cost of a task for each message.

        Awaited, it returns when the feed or the WebSocket has ended; what the client
        sends meanwhile is read and dropped. ``async with`` relays beside a block, which
        reads. A socket can relay several feeds.

        A socket that does not keep up waits for no one: what it has no room for stays
        with the feed, whose bound and policy say what becomes of it.

        Args:
            feed: what ``topics.subscribe`` yields.
            encode: returns what to send for an item; by default its ``data``. It is
                called once for each message and not for each socket if all of them are
                given the same function.
            on_gap: is given each ``Gap`` at its place; what it returns is sent there,
                unless that is ``None``. By default the socket is closed: 1013 if it was
                too slow, 1012 where messages were lost otherwise.

        Raises, when it is awaited or entered:
            RuntimeError: the feed was not entered, another socket relays it, or, when
                it is awaited, another task is reading.

        Cancel safety: safe; the feed goes on.

        Example::

            async with topics.subscribe("prices") as feed:
                await ws.relay(feed)

            async with topics.subscribe("room/7") as feed, ws.relay(feed):
                async for message in ws:
                    if isinstance(message, str):
                        await topics.publish("room/7", message)
        """
        return ConversationRelay(self, self._conversation, feed, encode, on_gap)

    async def skip(self, over: Callable[[], bool]) -> None:
        """Read and drop what comes until the conversation is ``over()``, or has ended.

        For ``ConversationRelay``, which sets ``readable`` when it is over.

        Raises:
            RuntimeError: another task is reading.

        Cancel safety: safe.
        """
        if self._reading:
            msg = "another task is already reading: write async with ws.relay(feed)"
            raise RuntimeError(msg)
        conversation = self._conversation
        runtime = self._tunnel.connection.runtime
        self._reading = True
        try:
            while not over():
                while self._waiting:
                    conversation.take()
                if conversation.resume():
                    await runtime.sleep(0)
                elif conversation.end is not None:
                    return
                else:
                    await conversation.readable.wait()
        finally:
            self._reading = False

    async def ping(self, data: bytes = b"") -> None:
        """Send a Ping of at most 125 bytes; its Pong updates ``latency``.

        Raises:
            ConnectionClosed: closing has begun or the connection is lost.
            ValueError: ``data`` is too long.

        Cancel safety: as ``send``.
        """
        await self.send(Message.Ping(data))

    async def flush(self) -> None:
        """Write what was sent, and wait until the peer has room for more.

        Raises:
            ConnectionClosed: the connection was lost before.

        Cancel safety: safe.
        """
        self._tunnel.flush()
        await self._drained()

    async def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Close the conversation and wait for the peer's Close.

        Messages that still arrive are discarded. Waits ``ws_close_timeout`` seconds at
        most. Closing again only waits. Never raises because of the peer.

        Args:
            code: the close code; ``None`` sends an empty Close frame.
            reason: at most 123 bytes of UTF-8.

        Raises:
            ValueError: a code that must not be sent, or a reason that is too long.

        Cancel safety: the Close is sent whole; the wait can be cancelled.
        """
        frame = Message.Close(code, reason)
        conversation = self._conversation
        conversation.send_close(frame.code, frame.reason)
        conversation.discard()
        waited = False
        while conversation.end is None:
            waited = True
            await conversation.readable.wait()
        if not waited and self._checkpoint is not None:
            await self._checkpoint()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or consists_of(error, WsError):
            await self.close(1000)
        elif isinstance(error, Exception):
            # RFC 6455 §7.4.1: 1011 says that this end met an unexpected condition
            await self.close(1011)
        else:
            self._conversation.go_away()  # cancelled: there is no time to wait

    async def _let_others_run(self, sent: Sendable) -> None:
        """Wait as ``Conversation.send`` asks for; a Close needs no room."""
        if not (self._tunnel.writable or isinstance(sent, Message.Close)):
            await self._drained()
        elif self._checkpoint is not None:
            await self._checkpoint()
        else:
            await self._tunnel.connection.runtime.sleep(0)

    async def _drained(self) -> None:
        tunnel, conversation = self._tunnel, self._conversation
        if tunnel.writable or not tunnel.over:
            await conversation.writable.wait()
        if tunnel.over and not tunnel.writable:
            raise ConnectionClosed(conversation.close_code or 1006)


def _fresh(error: WsError) -> WsError:
    """Return a copy to raise: one instance raised twice would grow its traceback."""
    if isinstance(error, ConnectionClosed):
        return ConnectionClosed(error.code, error.reason)
    copy = type(error)(*error.args)
    copy.close_code = error.close_code
    return copy
