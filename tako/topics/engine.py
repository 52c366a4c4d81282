"""What carries messages beyond the process: the protocol of engines."""

from collections.abc import Sequence
from typing import Protocol

from tako.topics.item import Cause, Data, Item, Position


class Receiver(Protocol):
    """What an engine calls, on the loop it runs on. No call raises or blocks."""

    def message(self, topic: str, data: Data, position: Position | None) -> None:
        """Take a message of a topic that is subscribed to, in the engine's order."""

    def gap(self, topic: str | None, cause: Cause, missed: int | None) -> None:
        """Hear that messages of a topic may be lost here; ``None``: of every topic."""

    def state(self, *, up: bool) -> None:
        """Hear that the engine is reached, or is not any more."""


class Replay:
    """What a history holds behind a position.

    Attributes:
        items: in order, without a hole, up to the end. Behind a position that is not
            known: everything that is kept.
        end: the position of the latest message of the topic, kept or not; ``None``: no
            position is known.
    """

    __slots__ = ("end", "items")

    def __init__(self, items: Sequence[Item], end: Position | None) -> None:
        self.items: Sequence[Item] = items
        self.end: Position | None = end

    def behind(self, since: Position) -> tuple[Sequence[Item], bool]:
        """Return the items behind a position, and whether none of them is missing.

        Where one may be, that is all the items.
        """
        items, end = self.items, self.end
        if end is None or since.epoch != end.epoch or since.offset > end.offset:
            return items, False
        skipped = since.offset - (end.offset - len(items))
        return (items[skipped:], True) if skipped >= 0 else (items, False)


class Engine(Protocol):
    """Carries messages between processes.

    It promises: messages of a topic come in one order; none comes before ``subscribe``
    has returned and none is lost after it without a ``gap``; its buffers are bounded;
    ``run`` ends within a second of being cancelled. It reconnects by itself, with
    back-off.
    """

    async def run(self, receiver: Receiver) -> None:
        """Connect and receive until cancelled; called once, before everything else."""
        ...

    async def publish(
        self, batch: Sequence[tuple[str, Data]]
    ) -> Sequence[Position | Exception | None]:
        """Hand on messages, all in one step; return when the engine has taken them.

        For each that is its position, if it has one; or why it was refused, or may not
        have been taken, while others were. Cancelled, or with an error other than
        ``TopicsUnavailable``: it may have taken some.

        Raises:
            TopicsUnavailable: it is not reached; nothing was taken.
        """
        ...

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Receive messages of topics from now on; return when that is certain.

        A topic is subscribed to once, however many feeds there are. While the engine is
        not reached it waits. If it is cancelled, ``unsubscribe`` follows.
        """
        ...

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Receive no more messages of topics; some may come all the same."""
        ...

    async def history(self, topic: str, since: Position) -> Replay:
        """Return what is kept behind a position; its offset may be any number.

        A topic is asked for once at a time, however many feeds begin with a position.
        """
        ...
