"""``Pulse``: when each worker's event loop last turned, in memory that all share.

One slot of eight bytes for each process: the time of its last beat, 0 while it does not
beat. A worker writes its own slot, the supervisor clears it, and both read any; one is
read and written as a word, so that there is nothing to lock. ``time.monotonic`` is one
clock for all processes of a machine.
"""

import mmap
import time

from tako.runtime.shared_memory import shared_memory


EVERY = 0.25
"""Seconds between two beats of a worker."""

UNWATCHED = 0
"""The slot of processes for which no other is left; their beats are not looked at."""

_SLOTS = 2048  # old processes, which drain, have theirs, too
_SIZE = _SLOTS * 8


class Pulse:
    """The beats of all workers."""

    __slots__ = ("_beats", "_free", "_memory")

    def __init__(self, descriptor: int) -> None:
        """Use the memory that ``descriptor`` is, which need not stay open."""
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._beats = memoryview(self._memory).cast("d")
        self._free = list(range(_SLOTS - 1, UNWATCHED, -1))

    def close(self) -> None:
        """Release the memory."""
        self._beats.release()
        self._memory.close()

    def take(self) -> int:
        """Return a slot for a new process."""
        return self._free.pop() if self._free else UNWATCHED

    def give_back(self, slot: int) -> None:
        """Take note that the process of a slot has ended."""
        self.clear(slot)
        if slot != UNWATCHED:
            self._free.append(slot)

    def beat(self, slot: int) -> None:
        """Note that the event loop of a slot's worker turns."""
        self._beats[slot] = time.monotonic()

    def clear(self, slot: int) -> None:
        """Note that it need not turn any more."""
        self._beats[slot] = 0.0

    def last(self, slot: int) -> float:
        """Return when a slot's worker beat last; 0 if it does not."""
        return self._beats[slot]

    def lag(self) -> float:
        """Return how many seconds ago that worker beat that is furthest behind."""
        beats = self._beats.tolist()[UNWATCHED + 1 :]
        now = time.monotonic()
        return now - min(filter(None, beats), default=now)


def new_memory() -> int:
    """Return a descriptor of memory for a ``Pulse``, all of it 0."""
    return shared_memory("tako-pulse", _SIZE)
