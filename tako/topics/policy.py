"""What becomes of items that a subscriber does not take in time.

Theory of operation. ``Waiting`` is the queue of one feed, bounded in items and in
bytes; its subclasses differ in what they do when it is full, and a ``Policy`` is a
value that makes one of them. A gap stands in the queue where something is missing:

* what is dropped first (``drop_oldest``) leaves a gap in front of everything that
  waits, one for each topic;
* what is not taken (``drop_newest``), or was lost by the engine, leaves one at the end;
  as long as no item of its topic has come behind it, what is lost next is added to it.

Invariants: a gap is in front of every item that came after what it tells of; a topic
has at most one gap in front, and one at the end that is still open; a single item is
always taken, however large it is.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Hashable
from typing import Final, TypeAlias

from tako.errors import ConfigError
from tako.topics.counts import Tally
from tako.topics.history import weight
from tako.topics.item import Cause, Gap, Item
from tako.ws.message import is_sendable


class Loss:
    """A gap that may still grow."""

    __slots__ = ("cause", "missed", "recoverable", "topic")

    def __init__(
        self, topic: str, cause: Cause, missed: int | None, *, recoverable: bool
    ) -> None:
        self.topic: Final = topic
        self.cause: Final = cause
        self.missed: int | None = missed
        self.recoverable: bool = recoverable

    def add(self, other: "Loss") -> None:
        """Add what was lost next."""
        if self.missed is not None:
            more = other.missed
            self.missed = None if more is None else self.missed + more
        self.recoverable = self.recoverable and other.recoverable

    def gap(self) -> Gap:
        """Return what the subscriber is told."""
        return Gap(
            self.topic, self.cause, missed=self.missed, recoverable=self.recoverable
        )


Entry: TypeAlias = Item | Loss


class Waiting:
    """What waits for one subscriber; the oldest item goes when it is full."""

    __slots__ = (
        "_back",
        "_bound",
        "_front",
        "_size",
        "_tally",
        "items",
        "policy",
        "size",
    )

    def __init__(self, policy: "Policy", bound: int, size: int, tally: Tally) -> None:
        """Begin with nothing.

        Args:
            policy: what has made it.
            bound: how many items may wait.
            size: how many bytes.
            tally: counts what is dropped, and what waits.
        """
        self.policy: Final = policy
        self._bound = bound
        self._size = size
        self._tally = tally
        self._front: dict[str, Loss] = {}
        self._back: dict[str, Loss] = {}
        self.items: int = 0
        """How many items wait."""
        self.size: int = 0
        """How many bytes they have."""

    @property
    def empty(self) -> bool:
        """Neither an item nor a gap waits."""
        raise NotImplementedError

    def put(self, item: Item) -> bool:
        """Take an item; ``False``: the subscriber is to be closed."""
        raise NotImplementedError

    def _append_loss(self, loss: Loss) -> None:
        raise NotImplementedError

    def _first(self) -> Entry | None:
        """Remove and return the first that waits."""
        raise NotImplementedError

    def lose(self, loss: Loss) -> None:
        """Note that items are missing behind everything that waits."""
        last = self._back.get(loss.topic)
        if last is not None:
            last.add(loss)
        else:
            self._tally.gap(loss.cause)
            self._back[loss.topic] = loss
            self._append_loss(loss)

    def pop(self) -> Item | Gap | None:
        """Remove and return what comes first."""
        if self._front:
            topic = next(iter(self._front))
            return self._front.pop(topic).gap()
        entry = self._first()
        if entry is None:
            return None
        if isinstance(entry, Item):
            self._leave(entry)
            return entry
        if self._back.get(entry.topic) is entry:
            del self._back[entry.topic]
        return entry.gap()

    def clear(self) -> None:
        """Forget everything."""
        while self.pop() is not None:
            pass

    def _full(self, item: Item) -> bool:
        if not self.items:
            return False
        more = self.size + weight(item.data)
        return self.items >= self._bound or more > self._size

    def _count(self, item: Item) -> None:
        """Note an item that is about to be appended; there is room."""
        size = weight(item.data)
        self.items += 1
        self.size += size
        self._tally.queued_bytes += size
        if self._back:
            self._back.pop(item.topic, None)

    def _leave(self, item: Item) -> None:
        size = weight(item.data)
        self.items -= 1
        self.size -= size
        self._tally.queued_bytes -= size

    def _lost(self, item: Item) -> Loss:
        """Return the loss of one item, which is counted as dropped."""
        self._tally.drop(self.policy.name)
        kept = item.position is not None
        return Loss(item.topic, Cause.SLOW, 1, recoverable=kept)

    def _drop_oldest(self) -> None:
        """Make room: the oldest item becomes a part of the gap in front."""
        while (entry := self._first()) is not None:
            if isinstance(entry, Item):
                self._leave(entry)
                loss = self._lost(entry)
            else:
                loss = entry
                if self._back.get(entry.topic) is entry:
                    del self._back[entry.topic]
            front = self._front.get(loss.topic)
            if front is None:
                self._front[loss.topic] = loss
                if loss is not entry:
                    self._tally.gap(Cause.SLOW)
            else:
                front.add(loss)
            if loss is not entry:
                return


class _Fifo(Waiting):
    """In the order in which they came."""

    __slots__ = ("_entries",)

    def __init__(self, policy: "Policy", bound: int, size: int, tally: Tally) -> None:
        super().__init__(policy, bound, size, tally)
        self._entries: deque[Entry] = deque()

    @property
    def empty(self) -> bool:
        return not (self._entries or self._front)

    def _append(self, item: Item) -> None:
        self._count(item)
        self._entries.append(item)

    def _append_loss(self, loss: Loss) -> None:
        self._entries.append(loss)

    def _first(self) -> Entry | None:
        return self._entries.popleft() if self._entries else None


class _DropOldest(_Fifo):
    __slots__ = ()

    def put(self, item: Item) -> bool:
        while self._full(item):
            self._drop_oldest()
        self._append(item)
        return True


class _DropNewest(_Fifo):
    __slots__ = ()

    def put(self, item: Item) -> bool:
        if self._full(item):
            self.lose(self._lost(item))
        else:
            self._append(item)
        return True


class _Close(_Fifo):
    __slots__ = ()

    def put(self, item: Item) -> bool:
        if self._full(item):
            self._tally.drop(self.policy.name)
            return False
        self._append(item)
        return True


class _Latest(Waiting):
    """One item for each key: a newer one takes its own place at the end."""

    __slots__ = ("_entries", "_key")

    def __init__(
        self,
        key: "Key",
        policy: "Policy",
        bound: int,
        size: int,
        tally: Tally,
    ) -> None:
        super().__init__(policy, bound, size, tally)
        self._key = key
        self._entries: OrderedDict[object, Entry] = OrderedDict()

    @property
    def empty(self) -> bool:
        return not (self._entries or self._front)

    def put(self, item: Item) -> bool:
        place = item.topic, self._key(item)
        old = self._entries.pop(place, None)
        if isinstance(old, Item):
            self._leave(old)
            self._tally.replaced += 1
        while self._full(item):
            self._drop_oldest()
        self._count(item)
        self._entries[place] = item
        return True

    def _append_loss(self, loss: Loss) -> None:
        self._entries[loss] = loss

    def _first(self) -> Entry | None:
        return self._entries.popitem(last=False)[1] if self._entries else None


Key: TypeAlias = Callable[[Item], Hashable]
"""What is the same for items of which only the latest matters; fast, and pure."""


class Policy:
    """What becomes of items that a subscriber does not take in time.

    Attributes:
        name: under which ``Counts`` counts what it drops.
        code: the code of the Close that it calls for; ``None``: it calls for none.
    """

    __slots__ = ("_make", "code", "name")

    def __init__(
        self,
        name: str,
        make: Callable[["Policy", int, int, Tally], Waiting],
        code: int | None = None,
    ) -> None:
        self.name: Final = name
        self.code: Final = code
        self._make = make

    def __repr__(self) -> str:
        return f"<policy {self.name}>"

    def queue(self, bound: int, size: int, tally: Tally) -> Waiting:
        """Return the queue of a feed, for so many items and bytes."""
        return self._make(self, bound, size, tally)


drop_oldest: Final = Policy("drop_oldest", _DropOldest)
"""The oldest item goes; a gap stands in its place."""

drop_newest: Final = Policy("drop_newest", _DropNewest)
"""The newest item is not taken; a gap stands at the end."""


def latest(key: Key) -> Policy:
    """Keep only the latest item for each ``key(item)``; then as ``drop_oldest``.

    An item that a newer one replaces is counted, and leaves no gap.

    Example::

        prices = tako.topics.latest(lambda item: json.loads(item.data)["symbol"])
        async with topics.subscribe("prices", policy=prices) as feed: ...
    """

    def make(policy: Policy, bound: int, size: int, tally: Tally) -> Waiting:
        return _Latest(key, policy, bound, size, tally)

    return Policy("latest", make)


def close(code: int = 1013) -> Policy:
    """End the feed; a WebSocket that relays it is closed with ``code``.

    Raises:
        ConfigError: a Close must not have that code (RFC 6455 §7.4).
    """
    if not is_sendable(code):
        msg = f"{code} is not a close code that may be sent"
        raise ConfigError(msg)
    return Policy(f"close({code})", _Close, code)
