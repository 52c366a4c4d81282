"""Deadlines of one connection, kept without a clock.

Theory of operation. Time is an input: code below ``runtime/`` reads the clock through
``Connection.time()`` only, and arms no timer. A state machine that may have to act
later makes a ``Deadline`` with the function to call, and moves it with ``set``. The
connection keeps the deadlines in a heap, asks for ``next()`` and arms one timer, and
calls ``reached(now)`` when that fires.

Deadlines move far more often than they fire, and nearly always to a later time. So
``set`` only writes an attribute when a heap entry at or before the new time exists; an
entry that comes up early is put back at its true time.

Stale entries, of closed deadlines and behind an earlier one, are counted; when they are
more than half of the heap it is built again without them.

A deadline and what it calls refer to each other, and the connection and its deadlines
do. ``Deadline.close`` cuts the one, ``clear`` the other; what is set or made after
``clear`` never fires.

Invariants: a set deadline has at least one heap entry that is not later than it; a heap
of more than ``_FEW`` entries has at most two for each deadline that is not closed.
"""

import heapq
from collections.abc import Callable
from typing import Final

from tako.core.callbacks import nothing


_FEW: Final = 16  # entries that are not worth a new heap
_CLOSED: Final = float(
    "-inf"
)  # stands for the entry of a closed deadline: none is earlier


class Deadline:
    """A moment at which a function is to be called; made by ``Deadlines.new``."""

    __slots__ = ("_callback", "_entry", "_owner", "when")

    def __init__(self, owner: "Deadlines", callback: Callable[[], None]) -> None:
        self._owner = owner
        self._callback = callback
        self._entry: float | None = None  # the earliest in the heap that is ours
        self.when: float | None = None

    def set(self, when: float | None) -> None:
        """Move the deadline to ``when`` on ``Connection.time``; ``None``: off."""
        self.when = when
        if when is not None and (self._entry is None or when < self._entry):
            before, self._entry = self._entry, when
            if before is not None:
                self._owner.outlived(1)
            self._owner.push(when, self)

    def close(self) -> None:
        """Never fire again, and release the function.

        An entry may stay in the heap for a while; the function need not.
        """
        self.when = None
        self._callback = nothing
        before, self._entry = self._entry, _CLOSED
        if before not in {None, _CLOSED}:
            self._owner.outlived(1)

    def owns(self, when: float) -> bool:
        """Tell whether the heap entry at ``when`` is the one that counts."""
        return self._entry == when

    def fire(self) -> None:
        """Call the function, once."""
        self.when = None
        self._callback()

    def popped(self, when: float, now: float) -> bool:
        """Take note that the heap entry at ``when`` is gone; tell whether to fire."""
        if self._entry == when:
            self._entry = None
        else:
            self._owner.outlived(-1)
        if self.when is None:
            return False
        if self.when <= now:
            return True
        self.set(self.when)
        return False


class Deadlines:
    """All deadlines of one connection."""

    __slots__ = ("_changed", "_cleared", "_heap", "_order", "_outlived")

    def __init__(self, changed: Callable[[], None]) -> None:
        """Make an empty set; ``changed`` is called when an earlier deadline came in."""
        self._changed = changed
        self._heap: list[tuple[float, int, Deadline]] = []
        self._order = 0  # entries so far
        self._outlived = 0  # stale entries: no deadline owns them
        self._cleared = False

    def new(self, callback: Callable[[], None]) -> Deadline:
        """Return a deadline, not set yet, that will call ``callback``."""
        return Deadline(self, nothing if self._cleared else callback)

    def push(self, when: float, deadline: Deadline) -> None:
        """Add a heap entry; for ``Deadline.set``."""
        if self._cleared:
            return
        earlier = not self._heap or when < self._heap[0][0]
        self._order += 1  # of two for the same time the first
        heapq.heappush(self._heap, (when, self._order, deadline))
        if earlier:
            self._changed()

    def outlived(self, entries: int) -> None:
        """Count stale entries; for ``Deadline``."""
        self._outlived += entries
        if 2 * self._outlived > len(self._heap) > _FEW:
            # by their owners: one may have two entries for the same time
            owned = {each[2]: each for each in self._heap if each[2].owns(each[0])}
            self._heap = list(owned.values())
            heapq.heapify(self._heap)
            self._outlived = 0

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
        """Forget all deadlines, and whom to tell: the connection is over."""
        self._cleared = True
        self._changed = nothing
        self._heap.clear()
        self._outlived = 0
