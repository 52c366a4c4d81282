"""Deadlines of one connection, kept without a clock.

Theory of operation. Time is an input: nobody below ``runtime/`` reads a clock except
through ``Host.time()``, and nobody arms a timer. A state machine that may have to act
later makes a ``Deadline`` with the function to call, and moves it with ``set``. The
connection keeps the deadlines in a heap, asks for ``next()`` and arms one timer, and
calls ``reached(now)`` when that fires.

Deadlines move far more often than they fire, and nearly always to a later time. So
``set`` only writes an attribute when a heap entry at or before the new time exists; an
entry that comes up early is put back at its true time. Invariant: a set deadline has at
least one heap entry that is not later than it.
"""

import heapq
from collections.abc import Callable
from itertools import count


class Deadline:
    """A moment at which a function is to be called; made by ``Deadlines.new``."""

    __slots__ = ("_callback", "_entry", "_owner", "when")

    def __init__(self, owner: "Deadlines", callback: Callable[[], None]) -> None:
        self._owner = owner
        self._callback = callback
        self._entry: float | None = None  # earliest time of ours in the heap
        self.when: float | None = None

    def set(self, when: float | None) -> None:
        """Move the deadline to ``when``, on the ``Host.time`` clock; ``None``: off."""
        self.when = when
        if when is not None and (self._entry is None or when < self._entry):
            self._entry = when
            self._owner.push(when, self)

    def close(self) -> None:
        """Never fire again, and let go of the function.

        An entry stays in the heap until its time; what it would call need not.
        """
        self.when = None
        self._callback = _never

    def fire(self) -> None:
        """Call the function, once."""
        self.when = None
        self._callback()

    def popped(self, when: float, now: float) -> bool:
        """Take note that the heap entry at ``when`` is gone; tell whether to fire."""
        if self._entry == when:
            self._entry = None
        if self.when is None:
            return False
        if self.when <= now:
            return True
        self.set(self.when)
        return False


def _never() -> None:
    """Stand in for the function of a closed deadline."""


class Deadlines:
    """All deadlines of one connection."""

    __slots__ = ("_changed", "_heap", "_order")

    def __init__(self, changed: Callable[[], None]) -> None:
        """Make an empty set; ``changed`` is called when an earlier deadline came in."""
        self._changed = changed
        self._heap: list[tuple[float, int, Deadline]] = []
        self._order = count()

    def new(self, callback: Callable[[], None]) -> Deadline:
        """Return a deadline, not set yet, that will call ``callback``."""
        return Deadline(self, callback)

    def push(self, when: float, deadline: Deadline) -> None:
        """Add a heap entry; for ``Deadline.set``."""
        earlier = not self._heap or when < self._heap[0][0]
        heapq.heappush(self._heap, (when, next(self._order), deadline))
        if earlier:
            self._changed()

    def next(self) -> float | None:
        """Return when ``reached`` should be called, or ``None``."""
        return self._heap[0][0] if self._heap else None

    def reached(self, now: float) -> None:
        """Fire, in order, every deadline that is not after ``now``."""
        while self._heap and self._heap[0][0] <= now:
            when, _, deadline = heapq.heappop(self._heap)
            if deadline.popped(when, now):
                deadline.fire()

    def clear(self) -> None:
        """Forget all deadlines: the connection is over."""
        self._heap.clear()
