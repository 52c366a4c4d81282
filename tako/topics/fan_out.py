"""``FanOut``: hands each message to the feeds of its topic, without a task.

Theory of operation. A topic that feeds subscribe to has a ``Route``. The feeds of one
are copied when they have changed since the last message, so a feed may come or go while
a message is handed out.

Calls into feeds are spread over turns of the loop: after ``_PER_TURN`` of them the rest
becomes backlog, and everything that comes meanwhile goes behind it, so that the order
holds. A publisher in this process waits while there is a backlog. What an engine
delivers cannot be held up here; where it comes faster than it can be handed out, the
backlog is bounded, and what has no place becomes a gap.

The first message of a turn is sent at once, so that a single one is not delayed; those
that follow in the same turn leave together.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from tako.core.loop import Runtime, Signal
from tako.topics.counts import Tally
from tako.topics.history import weight
from tako.topics.item import Cause, Item
from tako.topics.policy import Loss


if TYPE_CHECKING:
    from tako.topics.feed import Feed


_PER_TURN: Final = 2_000  # calls into feeds before other tasks have a turn
_MESSAGES_PER_TURN: Final = 64  # of one publisher: less than the bound of a feed
_BACKLOG: Final = 1_000  # messages
_BACKLOG_SIZE: Final = 4 << 20  # bytes


class Route:
    """The feeds of one topic."""

    __slots__ = ("_copy", "_feeds", "confirmed", "confirming", "topic")

    def __init__(self, topic: str) -> None:
        self.topic: Final = topic
        self._feeds: dict[Feed, None] = {}
        self._copy: tuple[Feed, ...] | None = None
        self.confirming: bool = False
        """The engine is being asked for the topic."""
        self.confirmed: bool = False
        """The engine delivers it."""

    def add(self, feed: "Feed") -> None:
        """Add a feed, behind all others."""
        self._feeds[feed] = None
        self._copy = None

    def remove(self, feed: "Feed") -> bool:
        """Remove a feed; tell whether others are left."""
        self._feeds.pop(feed, None)
        self._copy = None
        return bool(self._feeds)

    def feeds(self) -> "tuple[Feed, ...]":
        """Return the feeds as they are now."""
        if self._copy is None:
            self._copy = tuple(self._feeds)
        return self._copy


class _Due:
    """A message, or what was lost, that not all feeds have been given."""

    __slots__ = ("at", "feeds", "item", "loss")

    def __init__(
        self, feeds: "tuple[Feed, ...]", item: Item | None, loss: Loss | None
    ) -> None:
        self.feeds: Final = feeds
        self.item: Final = item
        self.loss: Final = loss
        self.at = 0

    def give(self, feeds: "tuple[Feed, ...]", soon: bool) -> None:
        """Give it to some of the feeds; ``soon``: they may have had one this turn."""
        if self.item is not None:
            for feed in feeds:
                feed.take(self.item, soon)
        elif self.loss is not None:
            for feed in feeds:
                feed.lose(self.loss)


class FanOut:
    """Hands messages and gaps to the feeds of their topics."""

    __slots__ = (
        "_backlog",
        "_in_turn",
        "_messages",
        "_open_losses",
        "_recoverable",
        "_routes",
        "_runtime",
        "_size",
        "_spent",
        "_tally",
        "caught_up",
    )

    def __init__(self, runtime: Runtime, tally: Tally, *, recoverable: bool) -> None:
        """Begin without feeds.

        Args:
            runtime: the loop.
            tally: counts what is handed out.
            recoverable: there is a history: what is lost may be there.
        """
        self._runtime = runtime
        self._tally = tally
        self._recoverable = recoverable
        self._routes: dict[str, Route] = {}
        self._backlog: deque[_Due] = deque()
        self._size = 0  # of the backlog, in bytes
        self._open_losses: dict[str, Loss] = {}  # last in the backlog for their topic
        self._in_turn = False  # something was handed out in this turn
        self._spent = 0  # calls into feeds in it
        self._messages = 0
        self.caught_up: Signal = runtime.signal()
        """Set when there is no backlog any more."""

    @property
    def behind(self) -> bool:
        """Whether there is a backlog."""
        return bool(self._backlog)

    @property
    def busy(self) -> bool:
        """Whether so much was handed out in this turn that readers need one."""
        return self._messages >= _MESSAGES_PER_TURN

    def add(self, topic: str, feed: "Feed") -> Route:
        """Have a feed get the messages of a topic; return its route."""
        route = self._routes.get(topic)
        if route is None:
            route = self._routes[topic] = Route(topic)
        route.add(feed)
        return route

    def remove(self, topic: str, feed: "Feed") -> Route | None:
        """Have a feed get no more of a topic; return the route if it was the last."""
        route = self._routes.get(topic)
        if route is None or route.remove(feed):
            return None
        return self._routes.pop(topic)

    def knows(self, topic: str) -> bool:
        """Tell whether a feed subscribes to a topic, so that its name is one."""
        return topic in self._routes

    def hand_out(self, item: Item) -> None:
        """Give an item to the feeds of its topic."""
        route = self._routes.get(item.topic)
        if route is None:
            return
        feeds = route.feeds()
        if self._backlog or self._spent + len(feeds) > _PER_TURN:
            self._put_off(_Due(feeds, item, None))
            return
        soon = self._in_turn
        if not soon:
            self._in_turn = True
            self._runtime.call_soon(self._next_turn)
        count = len(feeds)
        self._spent += count
        self._messages += 1
        self._tally.delivered += count
        for feed in feeds:
            feed.take(item, soon)

    def lose(self, topic: str | None, cause: Cause, missed: int | None) -> None:
        """Tell the feeds of a topic, or of all, that messages may be missing here."""
        if topic is None:
            for each in list(self._routes):
                self.lose(each, cause, missed)
            return
        route = self._routes.get(topic)
        if route is None:
            return
        recoverable = self._recoverable and cause is not Cause.HUB
        loss = Loss(topic, cause, missed, recoverable=recoverable)
        if self._backlog:
            self._put_off(_Due(route.feeds(), None, loss))
            return
        for feed in route.feeds():
            feed.lose(loss)

    # Over several turns ------------------------------------------------------------

    def _put_off(self, due: _Due) -> None:
        item, loss = due.item, due.loss
        if item is not None:
            full = (
                len(self._backlog) >= _BACKLOG
                or self._size + weight(item.data) > _BACKLOG_SIZE
            )
            if full and self._backlog:
                loss = Loss(
                    item.topic, Cause.SLOW, 1, recoverable=item.position is not None
                )
                self._tally.drop("backlog", len(due.feeds))
                due = _Due(due.feeds, None, loss)
            else:
                self._size += weight(item.data)
                self._open_losses.pop(item.topic, None)
        if loss is not None:
            last = self._open_losses.get(loss.topic)
            if last is not None:
                last.add(loss)
                return
            self._open_losses[loss.topic] = loss
        self._backlog.append(due)
        if not self._in_turn:
            self._next_turn()

    def _next_turn(self) -> None:
        """Begin a turn: go on with the backlog, if there is one."""
        self._in_turn = False
        self._spent = self._messages = 0
        if not self._backlog:
            return
        self._in_turn = True
        self._runtime.call_soon(self._next_turn)
        self._work()

    def _work(self) -> None:
        room, soon = _PER_TURN, False
        while self._backlog and room > 0:
            due = self._backlog[0]
            if due.loss is not None and not due.at:  # it must not grow any more
                self._open_losses.pop(due.loss.topic, None)
            part = due.feeds[due.at : due.at + room]
            due.at += len(part)
            room -= len(part)
            if due.at >= len(due.feeds):
                self._backlog.popleft()
                if due.item is not None:
                    self._size -= weight(due.item.data)
            due.give(part, soon)
            soon = True
            if due.item is not None:
                self._tally.delivered += len(part)
        self._spent = _PER_TURN - room
        if not self._backlog:
            self.caught_up.set()
