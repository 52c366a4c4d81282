"""``ReadGate``: when HTTP/1.1 stops reading, and when it goes on.

HTTP/1.1 has no windows: the one way to slow a peer down is to let TCP's fill up. Bytes
that were delivered and not consumed close the gate above ``read_buffer`` and open it
again below a quarter of that, so that it does not flap with every chunk. Input that
waits behind a request closes it by its size alone.

Behind a shut gate a FIN or a reset would not be noticed. So the kernel is asked once a
second; it knows, unless the peer could not send that far.

Invariant: ``unread`` is what was delivered to the current sink and not consumed.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tako.core.seams import Connection, Pause
from tako.h1.body_rate import BodyRate


if TYPE_CHECKING:
    from tako.core.deadlines import Deadline


MAX_WAITING = 64 * 1024  # bytes behind a request that is being answered
_TICK = 1.0  # seconds between looks


class ReadGate:
    """Decides for one connection whether it reads."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_left",
        "_rate",
        "body_shut",
        "limit",
        "queue_shut",
        "unread",
    )

    def __init__(
        self, connection: Connection, rate: BodyRate, left: Callable[[], None]
    ) -> None:
        """Make an open gate.

        Args:
            connection: what is told to pause and resume.
            rate: the watch on a body's rate; it does not run while the gate is shut.
            left: called when the peer's FIN waits behind the gate; perhaps repeatedly.
        """
        self._left = left
        self._deadline: Deadline | None = None  # made when first needed
        self._connection = connection
        self._rate = rate
        self.body_shut: bool = False
        self.queue_shut: bool = False
        self.limit: int = connection.config.read_buffer
        self.unread: int = 0

    def settle(self) -> None:
        """Shut or open the gate as ``unread`` demands."""
        if self.unread > self.limit:
            self.shut_body()
        elif self.body_shut and self.unread * 4 < self.limit:
            self.body_shut = False
            self._connection.resume_reading(Pause.BODY)
            self._rate.resume()

    def shut_body(self) -> None:
        """Stop reading until the sink has caught up."""
        if not self.body_shut:
            self.body_shut = True
            self._connection.pause_reading(Pause.BODY)
            self._watch()
            self._rate.pause()

    def forget(self) -> None:
        """Nothing that was delivered will be consumed any more."""
        self.unread = 0
        self.settle()

    def queue(self, waiting: int) -> None:
        """Take note that ``waiting`` bytes stand behind the current request."""
        if waiting > MAX_WAITING:
            if not self.queue_shut:
                self.queue_shut = True
                self._connection.pause_reading(Pause.PIPELINE)
                self._watch()
        elif self.queue_shut:
            self.queue_shut = False
            self._connection.resume_reading(Pause.PIPELINE)

    def stop(self) -> None:
        """The connection closes: what comes is of no interest any more."""
        if self._deadline is not None:
            self._deadline.set(None)

    def _watch(self) -> None:
        if self._deadline is None:
            self._deadline = self._connection.deadlines.new(self._look)
        if self._deadline.when is None:
            self._deadline.set(self._connection.time() + _TICK)

    def _look(self) -> None:
        connection = self._connection
        if not (self.body_shut or self.queue_shut):
            return
        if connection.delivery() is None:
            connection.abort()
            return
        if connection.peer_ended():
            self._left()
        self._watch()
