"""``Replays``: what an engine keeps of a topic, read once for many feeds.

Theory of operation. When a worker is gone, a thousand sockets come back at once, and
each says where it was. Of one topic one read is under way at a time. Feeds that come
meanwhile are a *wave*: what is being read may have ended before they were subscribed,
so they wait for the next one, which is for all of them. It begins at the earliest of
their positions, and each takes what is behind its own; items are shared.

Positions that the first read of a wave does not know, those of other epochs, may be
behind by any number: a second one, of everything that is kept, is for all of these. So
a wave is two reads at most, whatever clients say.
"""

from collections.abc import Callable, Sequence
from typing import Final

from tako.core.loop import Signal
from tako.topics.engine import Engine, Replay
from tako.topics.item import OLDEST, Item, Position


class _Wave:
    """Feeds that take part in the same reads.

    Attributes:
        wanted: their positions.
        some: what is behind the earliest of the epoch of the first.
        everything: what is kept, once a position is not known.
    """

    __slots__ = ("everything", "some", "wanted")

    def __init__(self) -> None:
        self.wanted: list[Position] = []
        self.some: Replay | None = None
        self.everything: Replay | None = None

    def earliest(self) -> Position:
        """Return where the first read begins."""
        epoch = self.wanted[0].epoch
        return min(
            (each for each in self.wanted if each.epoch == epoch),
            key=lambda each: each.offset,
        )

    def behind(self, since: Position) -> tuple[Sequence[Item], bool] | None:
        """Return what is behind a position; ``None``: a read is needed."""
        if self.some is not None:
            found = self.some.behind(since)
            if found[1]:
                return found
        return None if self.everything is None else self.everything.behind(since)


class _Topic:
    """The reads of one topic.

    Attributes:
        users: how many take part.
        reading: one of them reads.
        next: the wave that has not begun.
        changed: a read has ended.
    """

    __slots__ = ("changed", "next", "reading", "users")

    def __init__(self, changed: Signal) -> None:
        self.users = 0
        self.reading = False
        self.next: _Wave | None = None
        self.changed: Final = changed


class Replays:
    """Reads what an engine keeps."""

    __slots__ = ("_engine", "_signal", "_topics")

    def __init__(self, engine: Engine, signal: Callable[[], Signal]) -> None:
        """Begin with nothing; ``signal`` makes one."""
        self._engine = engine
        self._signal = signal
        self._topics: dict[str, _Topic] = {}

    async def behind(self, name: str, since: Position) -> tuple[Sequence[Item], bool]:
        """Return what is kept behind a position, and whether none of it is missing.

        It was read after the call.

        Cancel safety: safe; if it was the one that reads, another one does.
        """
        topic = self._topics.get(name)
        if topic is None:
            topic = self._topics[name] = _Topic(self._signal())
        wave = topic.next
        if wave is None:
            wave = topic.next = _Wave()
        wave.wanted.append(since)
        topic.users += 1
        try:
            while (found := wave.behind(since)) is None:
                if topic.reading:
                    await topic.changed.wait()
                else:
                    await self._read(name, topic, wave)
        finally:
            topic.users -= 1
            if not topic.users:
                del self._topics[name]
        return found

    async def _read(self, name: str, topic: _Topic, wave: _Wave) -> None:
        topic.reading = True
        if topic.next is wave:
            topic.next = None
        try:
            if wave.some is None:
                at = wave.earliest()
                wave.some = replay = await self._engine.history(name, at)
                if not replay.behind(at)[1]:
                    wave.everything = replay
            else:
                wave.everything = await self._engine.history(name, OLDEST)
        finally:
            topic.reading = False
            topic.changed.set()
