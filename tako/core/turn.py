"""``Turn``: how much of one turn of the event loop one connection may take.

Theory of operation. Code that works on received bytes in a loop charges its work here,
in units of about a microsecond, and stops when ``spend`` says so. Units only decide how
often the clock is looked at; the clock decides that a turn is over. Nothing is charged
for what is cheap by its nature (a whole TLS record, a large frame), and the beginning
of a turn is not announced: the clock starts when the first ``_UNITS`` are used up, and
the next turn of the loop begins anew. So a usual read costs nothing here; and all that
a loop does for one connection in one turn counts together, be it several reads or the
tasks of many streams.

Code that stops keeps the bytes that it has not looked at. A sink is called again only
if it asks: it gives ``later`` a function. After ``put_off`` the connection is called in
the next turn; it lets the sinks go on, then the engine, then TLS, so that bytes stay in
order, and reads again once nothing is left.

Invariant: while ``over`` or something is put off, a call of ``_next`` is pending.
"""

from collections.abc import Callable
from typing import Final

from tako.core.callbacks import nothing


_UNITS: Final = 256  # until the clock starts: a third of a millisecond at most
_STEP: Final = 64  # between looks at the clock
DEFAULT_LENGTH: Final = 0.001
"""Seconds from the first look at the clock to the end of a turn, by default."""


class Turn:
    """The budget of one connection.

    Attributes:
        over: stop; what is left is for the next turn.
    """

    __slots__ = (
        "_call_soon",
        "_closed",
        "_due",
        "_go_on",
        "_left",
        "_length",
        "_pending",
        "_sinks",
        "_stop",
        "_time",
        "_until",
        "over",
    )

    def __init__(
        self,
        time: Callable[[], float],
        call_soon: Callable[[Callable[[], None]], object],
        go_on: Callable[[], None],
        length: float = DEFAULT_LENGTH,
        stop: Callable[[], None] | None = None,
    ) -> None:
        """Begin with a whole turn.

        Args:
            time: the clock.
            call_soon: calls a function in the next turn of the loop.
            go_on: called in the turn after one in which something was put off.
            length: seconds from the first look at the clock to the end of a turn.
            stop: called when the turn is over: no more input is welcome in it.
        """
        self._time = time
        self._call_soon = call_soon
        self._go_on = go_on
        self._length = length
        self._stop = stop or nothing
        self._left = _UNITS
        self._until = 0.0
        self._pending = False  # the loop will call ``_next``
        self._due = False  # and that is to call ``_go_on``
        self._sinks: dict[Callable[[], None], None] = {}  # an ordered set
        self._closed = False
        self.over: bool = False

    def close(self) -> None:
        """Let go of the connection, which is lost, and of the sinks that wait."""
        self._closed = True
        self._go_on = self._stop = nothing
        self._sinks.clear()

    @property
    def waiting(self) -> bool:
        """There are sinks that have to go on."""
        return bool(self._sinks)

    def spend(self, units: int) -> bool:
        """Charge work that was or is about to be done; tell whether to go on."""
        self._left -= units
        return self._left > 0 or self._look()

    def later(self, sink: Callable[[], None]) -> None:
        """Call ``sink`` in the next turn that has time for it; twice is once."""
        if self._closed:
            return
        self._sinks[sink] = None
        self.put_off()

    def put_off(self) -> None:
        """Call ``go_on`` in the next turn."""
        self._due = True
        self._schedule()

    def serve_sinks(self) -> bool:
        """Let the sinks that wait go on; tell whether there is time for more."""
        sinks = self._sinks
        while sinks and not self.over:
            sink = next(iter(sinks))
            del sinks[sink]
            sink()
        return not (sinks or self.over)

    def _look(self) -> bool:
        if self.over:
            return False
        now = self._time()
        if not self._until:
            self._until = now + self._length
            self._schedule()
        elif now >= self._until:
            self.over = True
            self._stop()
            return False
        self._left = _STEP
        return True

    def _schedule(self) -> None:
        if not self._pending:
            self._pending = True
            self._call_soon(self._next)

    def _next(self) -> None:
        """Begin a new turn."""
        self._left, self._until = _UNITS, 0.0
        self.over = self._pending = False
        if self._due:
            self._due = False
            self._go_on()


def endless() -> Turn:
    """Return a turn that is never over, for work that is bounded otherwise."""
    return Turn(float, nothing, nothing)  # no next one, and no connection to call
