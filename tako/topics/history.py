"""``History``: how much of a topic is kept; ``Histories``: what is, in memory.

Theory of operation. Each topic has a record: an epoch, and a log of the items that are
kept. A record without items keeps its epoch and offset, so that a subscriber
who has missed nothing can tell. Records are bounded as well: the one that was used
least recently goes, and the topic begins again with a new epoch.

Two orders, each by last use: records with items and records without. Each ``add`` looks
at the first of those with items, so that what is too old goes although its topic is
silent, at no cost that grows.
"""

import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from tako.errors import ConfigError
from tako.topics.engine import Replay
from tako.topics.item import Data, Item, Position
from tako.topics.log import Log


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How much of each topic is kept, so that a subscriber can resume.

    Args:
        messages: the most items of a topic.
        seconds: how long an item is kept; ``None``: until others take its place.
        size: the most bytes of a topic.
        topics: the most topics; the one that was used least recently is forgotten.

    Raises:
        ConfigError: one of them is not positive.
    """

    messages: int = 100
    seconds: float | None = None
    size: int = 1 << 20
    topics: int = 10_000

    def __post_init__(self) -> None:
        for name in ("messages", "seconds", "size", "topics"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                msg = f"History({name}={value!r}): it must be positive"
                raise ConfigError(msg)


_Kept: TypeAlias = tuple[float, int, Item]  # when, how large, what


class _Record:
    """What is kept of one topic."""

    __slots__ = ("epoch", "log")

    def __init__(self) -> None:
        self.epoch = secrets.token_hex(8)
        self.log: Log[_Kept] = Log()


class Histories:
    """The histories of all topics, in memory."""

    __slots__ = ("_idle", "_kept", "_limits", "_time")

    def __init__(self, limits: History, time: Callable[[], float]) -> None:
        """Begin with nothing; ``time`` is a clock in seconds."""
        self._limits = limits
        self._time = time
        self._kept: OrderedDict[str, _Record] = OrderedDict()
        self._idle: OrderedDict[str, _Record] = OrderedDict()

    def add(self, topic: str, data: Data) -> Item:
        """Keep a message, and return it with its position."""
        now = self._time()
        record = self._kept.get(topic)
        if record is None:
            record = self._idle.pop(topic, None) or self._new()
            self._kept[topic] = record
        else:
            self._kept.move_to_end(topic)
        log = record.log
        log.last += 1
        item = Item(topic, data, Position(record.epoch, log.last))
        log.add((now, weight(data), item))
        self._trim(log, now)
        self._look(now)
        return item

    def since(self, topic: str, position: Position) -> Replay:
        """Return what is kept behind ``position``."""
        record = self._kept.get(topic) or self._idle.get(topic)
        if record is None:
            return Replay((), None)
        log = record.log
        self._trim(log, self._time())
        known = position.epoch == record.epoch and log.knows(position.offset)
        found = log.behind(position.offset if known else None)
        items = tuple(item for _, (_, _, item) in found)
        return Replay(items, Position(record.epoch, log.last))

    def _new(self) -> _Record:
        if len(self._kept) + len(self._idle) >= self._limits.topics:
            (self._idle or self._kept).popitem(last=False)
        return _Record()

    def _trim(self, log: Log[_Kept], now: float) -> None:
        limits = self._limits
        before = None if limits.seconds is None else now - limits.seconds
        log.trim(limits.messages, limits.size, before)

    def _look(self, now: float) -> None:
        """Forget what is too old of the topic that was used least recently."""
        if self._limits.seconds is None:
            return
        for topic, record in self._kept.items():
            self._trim(record.log, now)
            if not record.log:
                del self._kept[topic]
                self._idle[topic] = record
            return


def weight(data: Data) -> int:
    """Return about how many bytes of memory ``data`` takes."""
    if isinstance(data, bytes) or data.isascii():
        return len(data)
    return 4 * len(data)  # what a str takes at most (PEP 393)
