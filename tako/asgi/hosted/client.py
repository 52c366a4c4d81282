"""``HostedClient``: the events of one client of another server, and when it leaves.

Theory of operation. A host tells that a client has left by an event, behind all others.
Until the router asks whether it has left, events are taken from the host when they are
wanted. From then on a task takes them, at most one ahead.

Invariant: one task at a time awaits the host's ``receive``.
"""

from typing import TYPE_CHECKING

from tako import runtime
from tako.asgi.protocol import Event, Receive
from tako.runtime import ServerRuntime


if TYPE_CHECKING:
    from tako.core.loop import Signal


class HostedClient:
    """The client of a router on another server; implements ``request.Client``."""

    __slots__ = (
        "_changed",
        "_event",
        "_host_receive",
        "_left",
        "_reading",
        "_runtime",
        "_watching",
    )

    def __init__(self, receive: Receive, own: ServerRuntime) -> None:
        """Begin with nothing received.

        Args:
            receive: the host's.
            own: runs tasks that end with the request.
        """
        self._host_receive = receive
        self._runtime = own
        self._changed: Signal = runtime.current().signal()
        self._event: Event | None = None  # received ahead, or the last of all
        self._left = False
        self._reading = False
        self._watching = False

    @property
    def left(self) -> bool:
        """The host has said so; from now on its events are watched."""
        self._watch()
        return self._left

    async def until_left(self) -> None:
        """Wait until ``left``. Cancel safety: safe."""
        self._watch()
        while not self._left:
            await self._changed.wait()

    async def receive(self) -> Event:
        """Return the next event; the last one, a disconnect, again and again.

        Cancel safety: that of the host's ``receive``.
        """
        if not (self._watching or self._left):
            return await self._from_host()
        while self._event is None:
            await self._changed.wait()
        event = self._event
        if not self._left:
            self._event = None
            self._changed.set()
        return event

    def _watch(self) -> None:
        if not self._watching:
            self._watching = True
            self._runtime.spawn(self._read_ahead)

    async def _read_ahead(self) -> None:
        while not self._left:
            if self._reading or self._event is not None:
                await self._changed.wait()
            else:
                self._event = await self._from_host()
                self._changed.set()

    async def _from_host(self) -> Event:
        self._reading = True
        try:
            event = await self._host_receive()
        finally:
            self._reading = False
            self._changed.set()
        if event["type"] in {"http.disconnect", "websocket.disconnect"}:
            self._left = True
            self._event = event
        return event
