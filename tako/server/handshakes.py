"""``Handshakes``: the connections of a listener that are not open yet, bounded."""

from collections.abc import Iterator
from typing import Protocol


class Handshaking(Protocol):
    """A connection, or one whose protocol is not known yet."""

    @property
    def handshaking(self) -> bool:
        """Its handshake, or its first bytes, are not complete."""
        ...

    def abort(self) -> None:
        """Drop it; the peer is told nothing."""
        ...


class Handshakes:
    """An ordered set: if there are too many, the oldest unfinished one is aborted.

    A connection does not tell when its handshake is complete. So some that are complete
    stay here until it is worth looking; ``_most`` bounds those that are not.
    """

    __slots__ = ("_most", "_queue")

    def __init__(self, most: int) -> None:
        self._most = most
        self._queue: dict[Handshaking, None] = {}  # in the order of their arrival

    def __iter__(self) -> Iterator[Handshaking]:
        """Iterate over the unfinished, the oldest first."""
        return (each for each in self._queue if each.handshaking)

    def add(self, connection: Handshaking) -> bool:
        """Add one that begins; tell whether the oldest was aborted for it."""
        queue = self._queue
        queue[connection] = None
        while not (oldest := next(iter(queue))).handshaking:
            del queue[oldest]
        if len(queue) > self._most:
            self._queue = dict.fromkeys(self)
            if len(self._queue) > self._most:
                next(iter(self._queue)).abort()
                return True
        return False

    def discard(self, connection: Handshaking) -> None:
        """Forget one that is lost or was replaced."""
        self._queue.pop(connection, None)
