"""``BodyRate``: notices a request body that arrives too slowly.

Theory of operation. The clock runs only while the connection really reads: it stops
when backpressure stops the reading. The deadline is the moment at which the average
falls below the rate if nothing more arrives; when it comes up and bytes did arrive, it
moves on to the next such moment. So an arriving chunk costs one addition.

States: *off* -> *running* <-> *paused* -> *off*. Invariant: the deadline is set exactly
while *running*.
"""

from collections.abc import Callable

from tako.core.seams import ServerConnection


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
        self._deadline = connection.deadlines.new(self._due)
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
        """Stop the clock: it is we who do not read."""
        if self._since is not None:
            self._spent += self._connection.time() - self._since
            self.stop()
            self._paused = True

    def resume(self) -> None:
        """Let the clock go on, if it was paused."""
        if self._paused:
            self._run()

    def stop(self) -> None:
        """The body is over."""
        self._paused = False
        self._since = None
        self._deadline.set(None)

    def _run(self) -> None:
        self._paused = False
        if self._rate == 0 or self._grace is None:
            return
        now = self._connection.time()
        self._since = now
        # after a pause the peer gets a moment to fill the window that just opened
        self._deadline.set(max(self._falls_below(now, self._grace), now + 1.0))

    def _falls_below(self, since: float, grace: float) -> float:
        """Return when the average falls below the rate if nothing more arrives."""
        return since + max(grace, self._moved / self._rate) - self._spent

    def _due(self) -> None:
        since, grace = self._since, self._grace
        if since is None or grace is None:
            return
        now = self._connection.time()
        if not self._connection.writable:  # then the connection does not read, either
            self._deadline.set(now + grace)
            return
        due = self._falls_below(since, grace)
        if due > now:
            self._deadline.set(due)
            return
        self.stop()
        self._too_slow()
