"""What a ``Topics`` has done so far, in numbers."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tako.topics.item import Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a ``Topics`` has done since it was made, in numbers.

    Attributes:
        published: messages that the engine has taken, or that were handed out here.
        refused: messages that were not: ``TopicsUnavailable``.
        delivered: items handed to feeds; a policy may drop some of them later.
        dropped: items that subscribers missed, by the name of the policy; "backlog":
            those that an engine delivered faster than they could be handed out.
        replaced: items that ``latest`` replaced by newer ones.
        gaps: gaps by cause; those that were merged into one count once.
        reconnects: how often the engine was reached again.
        feeds: feeds that are open.
        queued_bytes: what waits in feeds and for the engine, at the moment.
    """

    published: int = 0
    refused: int = 0
    delivered: int = 0
    dropped: Mapping[str, int]
    replaced: int = 0
    gaps: Mapping[Cause, int]
    reconnects: int = 0
    feeds: int = 0
    queued_bytes: int = 0


class Tally:
    """The same while it is counted."""

    __slots__ = (
        "delivered",
        "dropped",
        "feeds",
        "gaps",
        "published",
        "queued_bytes",
        "reconnects",
        "refused",
        "replaced",
    )

    def __init__(self) -> None:
        self.published: int = 0
        self.refused: int = 0
        self.delivered: int = 0
        self.replaced: int = 0
        self.reconnects: int = 0
        self.feeds: int = 0
        self.queued_bytes: int = 0
        self.dropped: dict[str, int] = {}
        self.gaps: dict[Cause, int] = {}

    def counts(self) -> Counts:
        """Return what was counted so far."""
        return Counts(
            published=self.published,
            refused=self.refused,
            delivered=self.delivered,
            dropped=dict(self.dropped),
            replaced=self.replaced,
            gaps=dict(self.gaps),
            reconnects=self.reconnects,
            feeds=self.feeds,
            queued_bytes=self.queued_bytes,
        )

    def add(self, other: "Tally") -> None:
        """Count all of another, of whose feeds none is open any more."""
        self.published += other.published
        self.refused += other.refused
        self.delivered += other.delivered
        self.replaced += other.replaced
        self.reconnects += other.reconnects
        for policy, count in other.dropped.items():
            self.drop(policy, count)
        for cause, count in other.gaps.items():
            self.gaps[cause] = self.gaps.get(cause, 0) + count

    def drop(self, policy: str, count: int = 1) -> None:
        """Count an item that subscribers miss."""
        self.dropped[policy] = self.dropped.get(policy, 0) + count

    def gap(self, cause: Cause) -> None:
        """Count a gap."""
        self.gaps[cause] = self.gaps.get(cause, 0) + 1


class Tallies:
    """The tallies of all ``Topics`` of a process, of those that are gone, too."""

    __slots__ = ("_gone", "_live")

    def __init__(self) -> None:
        self._gone = Tally()
        self._live: list[Tally] = []

    def __iter__(self) -> Iterator[Tally]:
        """Iterate over them, one for all that are gone."""
        return iter((self._gone, *self._live))

    def begin(self, tally: Tally) -> None:
        """Take note of one that begins."""
        self._live.append(tally)

    def end(self, tally: Tally) -> None:
        """Take note that nothing counts there any more."""
        self._live.remove(tally)
        self._gone.add(tally)


PROCESS = Tallies()
"""Those of this process."""
