"""``Relay``: has a feed send to a WebSocket; one of tako's own needs no task for that.

Theory of operation. A feed that is attached calls ``send`` of its ``Outlet`` with each
message; that frames nothing, waits for nothing, and says whether the message has left.
Where the peer does not keep up the message stays with the feed, which bounds what it
keeps; ``Conversation.wake_writer`` has the feed drained once there is room again.

What a feed is stands here as a protocol: its items and gaps are its own business.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeAlias, TypeVar

from tako.ws.conversation import Conversation
from tako.ws.shared import Shared


if TYPE_CHECKING:
    from tako.ws.websocket import WebSocket


ItemT_co = TypeVar("ItemT_co", covariant=True)
GapT_co = TypeVar("GapT_co", covariant=True)
ItemT = TypeVar("ItemT")
GapT = TypeVar("GapT")

Encoded: TypeAlias = str | bytes
Send: TypeAlias = Callable[[Shared, bool], bool]


class Outlet(Protocol):
    """A WebSocket, as a feed sees it. No call raises or waits."""

    @property
    def send(self) -> Send:
        """What sends a message, at once or ``soon``; ``False``: nothing was sent.

        Not to be called once the feed has heard of ``closing``.
        """
        ...

    @property
    def open(self) -> bool:
        """Whether messages may still be sent at some time."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Begin to close the WebSocket."""

    def ended(self) -> None:
        """Hear that nothing more will come of the feed."""


class Relayed(Protocol[ItemT_co, GapT_co]):
    """A feed, as a WebSocket sees it. No call raises or waits but ``attach``."""

    def attach(
        self,
        outlet: Outlet,
        encode: Callable[[ItemT_co], Encoded] | None,
        on_gap: Callable[[GapT_co], Encoded | None] | None,
    ) -> None:
        """Give ``outlet`` what waits and what comes.

        Raises:
            RuntimeError: the feed has an outlet.
        """

    def detach(self) -> None:
        """Give the outlet no more."""

    def drain(self) -> None:
        """Give the outlet what waits: it has room again."""

    def closing(self) -> None:
        """Call ``send`` no more: it would send behind a Close."""


class Relay(ABC, Generic[ItemT, GapT]):
    """A feed that is sent to a WebSocket: await it, or ``async with`` it.

    See ``WebSocket.relay``, which makes it. The subclass is the feed's ``Outlet``.
    """

    __slots__ = ("_encode", "_feed", "_on_gap", "_over")

    def __init__(
        self,
        feed: Relayed[ItemT, GapT],
        encode: Callable[[ItemT], Encoded] | None,
        on_gap: Callable[[GapT], Encoded | None] | None,
    ) -> None:
        self._feed = feed
        self._encode = encode
        self._on_gap = on_gap
        self._over = False  # the feed is

    def __await__(self) -> Generator[Any, None, None]:
        """Relay until the feed or the WebSocket ends; drop what the peer sends."""
        return self._run().__await__()

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Begin to relay, beside the block."""

    @abstractmethod
    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Relay no more."""

    @abstractmethod
    async def _run(self) -> None:
        """Relay to the end."""


class ConversationRelay(Relay[ItemT, GapT]):
    """A feed that is sent to a WebSocket of tako's own, on either wire."""

    __slots__ = ("_conversation", "_draining", "_ws")

    def __init__(
        self,
        ws: "WebSocket",
        conversation: Conversation,
        feed: Relayed[ItemT, GapT],
        encode: Callable[[ItemT], Encoded] | None,
        on_gap: Callable[[GapT], Encoded | None] | None,
    ) -> None:
        super().__init__(feed, encode, on_gap)
        self._ws = ws
        self._conversation = conversation
        self._draining = False

    async def __aenter__(self) -> Self:
        checkpoint = self._conversation.tunnel.connection.runtime.checkpoint
        if checkpoint is not None:
            await checkpoint()
        self._attach()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._detach()

    # Called by the feed ------------------------------------------------------------

    @property
    def send(self) -> Send:
        """What sends a message: the tunnel itself where that does all that is needed.

        A delivery then touches one object less: where there are thousands, each costs a
        miss of the cache. (h1-fan-out)
        """
        conversation = self._conversation
        if conversation.direct:
            return conversation.tunnel.send_shared
        return conversation.send_shared

    @property
    def open(self) -> bool:
        """Whether messages may still be sent at some time."""
        conversation = self._conversation
        return conversation.can_send and not conversation.tunnel.over

    def close(self, code: int, reason: str) -> None:
        """Begin to close the WebSocket."""
        self._conversation.send_close(code, reason)

    def ended(self) -> None:
        """Hear that nothing more will come of the feed."""
        self._over = True
        self._conversation.readable.set()

    # Called by the conversation ----------------------------------------------------

    def wake(self) -> None:
        """Have the feed drained, behind what the engine is about to send."""
        if not self._draining:
            self._draining = True
            self._conversation.tunnel.connection.runtime.call_soon(self._drain)

    def closing(self) -> None:
        """Have the feed send nothing behind the Close that follows."""
        self._feed.closing()

    # Inside --------------------------------------------------------------------------

    def _attach(self) -> None:
        conversation = self._conversation
        self._feed.attach(self, self._encode, self._on_gap)
        conversation.relays = (*conversation.relays, self)
        self._feed.drain()

    def _detach(self) -> None:
        conversation = self._conversation
        conversation.relays = tuple(
            each for each in conversation.relays if each is not self
        )
        self._feed.detach()

    def _drain(self) -> None:
        self._draining = False
        if self in self._conversation.relays:
            self._feed.drain()

    async def _run(self) -> None:
        self._attach()
        try:
            await self._ws.skip(self._has_ended)
        finally:
            self._detach()

    def _has_ended(self) -> bool:
        return self._over
