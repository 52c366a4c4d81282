"""When HTTP/1.1 stops reading: ``ReadGate``; and when a body is too slow: ``BodyRate``.

HTTP/1.1 has no windows: the one way to slow a peer down is to let TCP's window fill
up. Bytes that were delivered and not consumed close the gate above ``read_buffer`` and
open it again below a quarter of that, so that it does not flap with every chunk. One
read alone never closes it, however large: its reader takes it in the same turn of the
loop, as a rule, and each pause costs two changes of what the loop polls. Input that
waits behind a request closes the gate by its size alone.

Behind a shut gate a FIN or a reset would not be noticed. So the kernel is asked once a
second; it knows, unless TCP's window is full and nothing can arrive.

A body must keep a minimal average rate while the connection reads: the clock of
``BodyRate`` stops with the gate. Its deadline is the moment at which the average falls
below the rate if nothing more arrives; when it comes up and bytes did arrive, it moves
on to the next such moment. So an arriving chunk costs one addition. The clock is *off*
-> *running* <-> *paused* -> *off*.

Invariants: ``unread`` is what was delivered to the current sink and not consumed; the
deadline of the rate is set exactly while it is *running*.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tako.core.callbacks import nothing
from tako.core.seams import Connection, Pause, ServerConnection


if TYPE_CHECKING:
    from tako.core.deadlines import Deadline


MAX_WAITING: Final = 64 * 1024  # bytes behind a request that is being answered
_TICK: Final = 1.0  # seconds between questions to the kernel


class BodyRate:
    """Watches one request body after the other on a connection.

    Args:
        connection: gives the time, the deadlines and the limits.
        too_slow: called, once per body, when the rate was missed.
    """

    __slots__ = (
        "_connection",
        "_deadline",
        "_grace",
        "_moved",
        "_paused",
        "_rate",
        "_since",
        "_spent",
        "_too_slow",
    )

    def __init__(
        self, connection: ServerConnection, too_slow: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._too_slow = too_slow
        self._rate = connection.config.min_rate
        self._grace = connection.config.min_rate_grace
        self._deadline: Deadline | None = None  # made when first needed
        self._moved = 0
        self._paused = False
        self._spent = 0.0  # seconds of reading before _since
        self._since: float | None = None  # running since when

    def start(self) -> None:
        """Watch a new body from now on."""
        self._moved = 0
        self._spent = 0.0
        self._run()

    def moved(self, size: int) -> None:
        """Take note that ``size`` bytes of the body have arrived."""
        self._moved += size

    def pause(self) -> None:
        """Stop the clock: the connection does not read."""
        if self._since is not None:
            self._spent += self._connection.time() - self._since
            self.stop()
            self._paused = True

    def resume(self) -> None:
        """Let the clock go on, if it was paused."""
        if self._paused:
            self._run()

    def stop(self) -> None:
        """Stop watching: the body is over."""
        self._paused = False
        self._since = None
        if self._deadline is not None:
            self._deadline.set(None)

    def close(self) -> None:
        """Watch no body any more, and let go of the engine: the connection is lost."""
        if self._deadline is not None:
            self._deadline.close()
        self._too_slow = nothing

    def _run(self) -> None:
        self._paused = False
        if self._rate == 0 or self._grace is None:
            return
        now = self._connection.time()
        self._since = now
        # after a pause the peer gets a moment to fill the window that just opened
        self._set_deadline(max(self._falls_below(now, self._grace), now + 1.0))

    def _set_deadline(self, when: float) -> None:
        if self._deadline is None:
            self._deadline = self._connection.deadlines.new(self._due)
        self._deadline.set(when)

    def _falls_below(self, since: float, grace: float) -> float:
        """Return when the average falls below the rate if nothing more arrives."""
        return since + max(grace, self._moved / self._rate) - self._spent

    def _due(self) -> None:
        since, grace = self._since, self._grace
        if since is None or grace is None:
            return
        now = self._connection.time()
        if not self._connection.writable:  # then the connection does not read, either
            self._set_deadline(now + grace)
            return
        due = self._falls_below(since, grace)
        if due > now:
            self._set_deadline(due)
            return
        self.stop()
        self._too_slow()


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

    def received(self, size: int) -> None:
        """Shut the gate if ``unread`` demands it after a read of ``size`` bytes."""
        if self.limit < self.unread > size:
            self.shut_body()

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
        """Count nothing as unread: what was delivered will not be consumed."""
        self.unread = 0
        if self.body_shut:
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
        """Stop asking the kernel: the connection closes."""
        if self._deadline is not None:
            self._deadline.set(None)

    def close(self) -> None:
        """Ask no more, and let go of the engine: the connection is lost."""
        if self._deadline is not None:
            self._deadline.close()
        self._left = nothing

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
