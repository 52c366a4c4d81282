"""``Log``: the latest messages of a topic, kept within bounds.

Theory of operation. Offsets count the messages of a topic, and what is kept has no
hole: it is the last so many of them. So an entry needs no offset of its own, and what
is behind one is found by counting. The process of the hub uses this, too
(``hub/core.py``): it imports nothing.
"""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Generic, TypeVar


Entry = TypeVar("Entry", bound=tuple[Any, ...])
"""What is kept of a message: its time, its size in bytes, and whatever else."""


class Log(Generic[Entry]):
    """The latest messages of a topic.

    Attributes:
        last: the offset of the latest message, kept or not; its owner counts.
        size: of the entries together.
    """

    __slots__ = ("_entries", "last", "size")

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque()
        self.last: int = 0
        self.size: int = 0

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, entry: Entry) -> None:
        """Keep the message whose offset is ``last``."""
        self._entries.append(entry)
        self.size += entry[1]

    def trim(self, messages: int, size: int, before: float | None) -> None:
        """Forget what is beyond the bounds, the oldest first.

        Args:
            messages: so many are kept.
            size: so many bytes, and one message in any case.
            before: those of then or earlier go; ``None``: for no time.
        """
        entries = self._entries
        while len(entries) > messages or (self.size > size and len(entries) > 1):
            self.size -= entries.popleft()[1]
        if before is not None:
            while entries and entries[0][0] <= before:
                self.size -= entries.popleft()[1]

    def knows(self, offset: int) -> bool:
        """Tell whether everything behind an offset is kept."""
        return self.last - len(self._entries) <= offset <= self.last

    def behind(self, offset: int | None) -> Iterator[tuple[int, Entry]]:
        """Yield offsets and entries behind an offset that it knows; ``None``: all."""
        first = self.last - len(self._entries)
        skipped = 0 if offset is None else offset - first
        return enumerate(islice(self._entries, skipped, None), first + skipped + 1)
