"""``HostedRelay``: has a feed send to a WebSocket of another server.

Theory of operation. A host's ``send`` is awaited, so a task sends, one message at a
time; while it does, the feed is told that there is no room, and keeps what comes.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tako import runtime
from tako.errors import WsError
from tako.ws.relay import Encoded, GapT, ItemT, Relay, Relayed, Send


if TYPE_CHECKING:
    from tako.asgi.hosted.websocket import HostedWebSocket
    from tako.core.loop import Signal
    from tako.runtime import OpenRuntime
    from tako.ws.shared import Shared


_TEXT = 0x81  # RFC 6455 §5.2: FIN and opcode 1


class HostedRelay(Relay[ItemT, GapT]):
    """A feed that is sent to a hosted WebSocket; see ``WebSocket.relay``."""

    __slots__ = ("_changed", "_close", "_gone", "_next", "_socket", "_stack")

    def __init__(
        self,
        ws: "HostedWebSocket",
        feed: Relayed[ItemT, GapT],
        encode: Callable[[ItemT], Encoded] | None,
        on_gap: Callable[[GapT], Encoded | None] | None,
    ) -> None:
        super().__init__(feed, encode, on_gap)
        self._socket = ws
        self._gone = False  # the socket is
        self._next: Shared | None = None
        self._close: tuple[int, str] | None = None
        self._changed: Signal
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._begin()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._stack.__aexit__(kind, error, traceback)

    @property
    def send(self) -> Send:
        """What has a message sent, if none is being sent."""
        return self._put

    @property
    def open(self) -> bool:
        """Whether messages may still be sent at some time."""
        return not (self._gone or self._close is not None or self._socket.closed)

    def close(self, code: int, reason: str) -> None:
        """Begin to close the WebSocket."""
        self._close = self._close or (code, reason)
        self._changed.set()

    def ended(self) -> None:
        """Hear that nothing more will come of the feed."""
        self._over = True
        self._changed.set()

    def _put(self, message: "Shared", soon: bool) -> bool:
        if self._next is not None or not self.open:
            return False
        self._next = message
        self._changed.set()
        return True

    async def _begin(self) -> "OpenRuntime":
        here = runtime.current()
        self._changed = here.signal()
        self._feed.attach(self, self._encode, self._on_gap)
        self._stack.callback(self._feed.detach)
        own = await self._stack.enter_async_context(here.open_runtime())
        own.spawn(self._send_on)
        self._feed.drain()
        return own

    async def _run(self) -> None:
        own = await self._begin()
        try:
            own.spawn(self._skip)
            while not (self._over or self._gone):
                await self._changed.wait()
        finally:
            await self.__aexit__(None, None, None)

    async def _send_on(self) -> None:
        """Send what the feed gives, then the Close that it asks for."""
        ws = self._socket
        try:
            while True:
                message = self._next
                if message is not None:
                    payload, text = message.payload, message.first_byte == _TEXT
                    await ws.send(payload.decode() if text else payload)
                    self._next = None
                    self._feed.drain()
                elif self._close is not None:
                    await ws.close(*self._close)
                    return
                else:
                    await self._changed.wait()
        except (WsError, RuntimeError):  # RuntimeError: the host has closed just before
            self._gone = True
            self._changed.set()

    async def _skip(self) -> None:
        """Read and drop what comes, to the end."""
        try:
            async for _ in self._socket:
                pass
        finally:
            self._gone = True
            self._changed.set()
