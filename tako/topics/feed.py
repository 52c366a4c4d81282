"""``Feed``: what one subscriber gets of its topics, in order, with gaps.

Theory of operation. A feed is called by the fan-out (``take``, ``lose``), and read in
one of two ways:

* *iterated*: what comes waits in a bounded queue, and a signal wakes the reader;
* *attached* to a WebSocket (``ws.relay``): what comes is sent within the call. What the
  socket does not take waits in the same queue; the socket says when it has room.

In front of the queue stands what was replayed from the history, which no bound drops. A
message that was replayed may come once more, live: ``_seen`` has the last position of
each topic that was replayed, until a message behind it has come.

``_direct`` is true while an attached feed has nothing that waits and nothing to skip:
then ``take`` is two calls. (tests/benchmarks/growth.py, topic)

Invariants: no call by the fan-out raises; a feed that has ended takes nothing; while
something waits nothing is sent past it.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias

from tako.topics import feed_waits
from tako.topics.counts import Tally
from tako.topics.item import OLDEST, Cause, Data, Encode, Gap, Item, Position
from tako.topics.policy import Loss, Policy, Waiting
from tako.ws.relay import Outlet, Send
from tako.ws.shared import Shared


if TYPE_CHECKING:
    from tako.core.loop import Runtime, Signal

    FindOwner: TypeAlias = Callable[[], Awaitable["Owner"]]
    OnGap: TypeAlias = Callable[[Gap], Data | None]


_logger: Final = logging.getLogger("tako.topics")

Since: TypeAlias = Position | str
"""Where a subscriber has been; text is what ``str(position)`` was."""

_NOT_ENTERED: Final = Tally()
_UNKNOWN: Final = Position("0" * 16, 0)  # of no epoch


class Owner(Protocol):
    """What a feed belongs to: topics on the running loop."""

    def enter(self, feed: "Feed") -> "Awaitable[Runtime]":
        """Have the feed get its topics from now on; ``since`` was replayed."""
        ...

    def leave(self, feed: "Feed") -> None:
        """Have it get nothing more; repeats are no-ops."""
        ...


class Feed:
    """The messages of some topics: ``async with`` it, then iterate over it.

    Made by ``Topics.subscribe``. It yields ``Item``, and ``Gap`` where items may be
    missing. One task reads it; or ``ws.relay`` does.
    """

    __slots__ = (
        "_bound",
        "_direct",
        "_encode",
        "_find_owner",
        "_made",
        "_on_gap",
        "_outlet",
        "_owner",
        "_policy",
        "_replay",
        "_runtime",
        "_seen",
        "_send",
        "_signal",
        "_size",
        "_tally",
        "_waiting",
        "close_code",
        "ended",
        "since",
        "topics",
    )

    # What each delivery touches, together: of many feeds it is in no cache
    _direct: bool
    _encode: Encode | None
    _send: Send

    def __init__(
        self,
        find_owner: "FindOwner",
        topics: tuple[str, ...],
        since: Mapping[str, Since],
        bound: int,
        size: int,
        policy: Policy,
    ) -> None:
        """For ``Topics.subscribe``."""
        self._find_owner: FindOwner | None = find_owner
        self._owner: Owner | None = None
        self.topics: Final = topics
        """The names of its topics."""
        self.since: Mapping[str, Since] = since
        self._bound = bound
        self._size = size
        self._policy = policy
        self._runtime: Runtime | None = None
        self._tally = _NOT_ENTERED
        self.ended: bool = False
        """Nothing more comes: the block was left, the policy closed it, or the server
        drains. What waits can still be read."""
        self.close_code: int | None = None
        """The code of the policy that has ended it."""
        self._waiting: Waiting | None = None  # made when first needed
        self._replay: deque[Item | Gap] | None = None
        self._seen: dict[str, Position] | None = None
        self._signal: Signal | None = None
        self._outlet: Outlet | None = None
        self._send = _unattached
        self._encode = None
        self._on_gap: OnGap | None = None
        self._made: Shared | None = None  # what stands in for a gap, and waits
        self._direct = False

    def __repr__(self) -> str:
        return f"<feed of {', '.join(self.topics)}>"

    # No coroutine is in here, so that this can be compiled: ``feed_waits`` has them.

    def __aenter__(self) -> Coroutine[Any, Any, Self]:
        return feed_waits.entered(self, self._take_owner, self._entered)

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Coroutine[Any, Any, None]:
        return feed_waits.left(self._left)

    def _take_owner(self) -> "FindOwner":
        if self._find_owner is None:
            msg = "a feed is entered once: subscribe again"
            raise RuntimeError(msg)
        find_owner, self._find_owner = self._find_owner, None
        return find_owner

    def _entered(self, runtime: "Runtime") -> None:
        self._runtime = runtime

    def _left(self) -> None:
        self.end()
        if self._waiting is not None:
            self._waiting.clear()
        self._replay = None

    # Reading -------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Item | Gap]:
        """Return what comes next. Cancel safety: nothing is lost."""
        return feed_waits.next_entry(self._begin_reading, self._pop, self._arrival)

    def _begin_reading(self) -> "feed_waits.Checkpoint | None":
        """Return what a reader calls before it takes what waits, if anything."""
        runtime = self._runtime
        if runtime is None:
            msg = "write: async with topics.subscribe(...) as feed"
            raise RuntimeError(msg)
        if self._outlet is not None:
            msg = "a WebSocket relays this feed: subscribe again to iterate"
            raise RuntimeError(msg)
        return None if self._empty else runtime.checkpoint

    def _arrival(self) -> "Signal":
        """Return what is set when something has come.

        Raises:
            StopAsyncIteration: nothing will.
        """
        if self.ended or self._runtime is None:
            raise StopAsyncIteration
        if self._signal is None:
            self._signal = self._runtime.signal()
        return self._signal

    @property
    def _empty(self) -> bool:
        waiting = self._waiting
        return not self._replay and (waiting is None or waiting.empty)

    def _pop(self) -> Item | Gap | None:
        if self._replay:
            return self._replay.popleft()
        return None if self._waiting is None else self._waiting.pop()

    # Called by the fan-out -----------------------------------------------------------

    def take(self, item: Item, soon: bool) -> None:
        """Take an item; ``soon``: others of this turn were sent before it."""
        try:
            if self._direct:
                encode = self._encode
                if encode is None:
                    shared = item.plain or item.shared()
                else:
                    shared = item.shared(encode)
                if self._send(shared, soon):
                    return
            self._take(item)
        except Exception as error:
            self._failed(error)

    def lose(self, loss: Loss) -> None:
        """Note that items of a topic may be missing here."""
        if self.ended:
            return
        try:
            copy = Loss(
                loss.topic, loss.cause, loss.missed, recoverable=loss.recoverable
            )
            self._queue().lose(copy)
            self._changed()
        except Exception as error:
            self._failed(error)

    def end(self, code: int | None = None) -> None:
        """End the feed; ``code``: the policy says so. Repeats are no-ops."""
        if self.ended:
            return
        self.ended = True
        self.close_code = code
        self._direct = False
        if self._owner is not None:
            self._owner.leave(self)
        if self._outlet is not None:
            if code is not None:
                self._outlet.close(code, _TOO_SLOW)
            self._outlet.ended()
        if self._signal is not None:
            self._signal.set()

    def _take(self, item: Item) -> None:
        if self.ended or (self._seen is not None and self._was_replayed(item)):
            return
        outlet = self._outlet
        if outlet is not None and not outlet.open:
            return  # the socket is closing: its session will leave
        if not self._queue().put(item):
            self.end(self._policy.code)
            return
        self._changed()

    def _changed(self) -> None:
        """Something waits that may be the first."""
        if self._outlet is not None:
            self._direct = False
            self.drain()
        elif self._signal is not None:
            self._signal.set()

    def _was_replayed(self, item: Item) -> bool:
        seen, position = self._seen or {}, item.position
        last = seen.get(item.topic)
        if last is None or position is None:
            return False
        if position.epoch == last.epoch and position.offset <= last.offset:
            return True
        del seen[item.topic]  # order: nothing that was replayed comes any more
        if not seen:
            self._seen = None
        return False

    def _queue(self) -> Waiting:
        if self._waiting is None:
            self._waiting = self._policy.queue(self._bound, self._size, self._tally)
        return self._waiting

    def _failed(self, error: Exception) -> None:
        """Log a bug of a key, an encoding or a gap's handler, and end the feed."""
        _logger.error("%r failed: it is ended", self, exc_info=error)
        self.end(1011)  # RFC 6455 §7.4.1: an unexpected condition

    # Subscribing ---------------------------------------------------------------------

    def begin(self, owner: Owner, tally: Tally) -> None:
        """Note that items may come from now on."""
        self._owner = owner
        self._tally = tally

    def replay(self, topic: str, items: Iterable[Item], *, gap: bool) -> None:
        """Put what the history has of a topic in front of what came live.

        Args:
            topic: the topic.
            items: in order.
            gap: something may be missing before them.
        """
        if self._replay is None:
            self._replay = deque()
        if gap:
            self._tally.gap(Cause.HISTORY)
            self._replay.append(Gap(topic, Cause.HISTORY))
        self._replay.extend(items)

    def skip_to(self, topic: str, position: Position) -> None:
        """Drop the items of a topic up to ``position``: they were replayed."""
        if self._seen is None:
            self._seen = {}
        self._seen[topic] = position

    def skip_replayed(self) -> None:
        """Drop what was replayed of what came live in the meantime."""
        early, self._waiting = self._waiting, None
        while early is not None and (entry := early.pop()) is not None:
            if isinstance(entry, Item):
                self._take(entry)
            else:
                self._queue().lose(
                    Loss(
                        entry.topic,
                        entry.cause,
                        entry.missed,
                        recoverable=entry.recoverable,
                    )
                )

    # Relaying: ``tako.ws.relay.Relayed`` ---------------------------------------------

    def attach(
        self, outlet: Outlet, encode: Encode | None, on_gap: "OnGap | None"
    ) -> None:
        """Send to a WebSocket what waits and what comes; see ``WebSocket.relay``.

        Raises:
            RuntimeError: a WebSocket relays it, or it was not entered.
        """
        if self._runtime is None:
            msg = (
                "write: async with topics.subscribe(...) as feed: await ws.relay(feed)"
            )
            raise RuntimeError(msg)
        if self._outlet is not None:
            msg = "a WebSocket relays this feed already: subscribe once for each"
            raise RuntimeError(msg)
        self._outlet = outlet
        self._encode = encode
        self._on_gap = on_gap
        self._send = outlet.send
        if self.ended:
            outlet.ended()

    def detach(self) -> None:
        """Send nothing more; what comes waits."""
        self._outlet = None
        self._send = _unattached
        self._encode = self._on_gap = self._made = None
        self._direct = False

    def drain(self) -> None:
        """Send what waits, as far as the WebSocket takes it."""
        try:
            self._direct = self._drained()
        except Exception as error:
            self._failed(error)

    def closing(self) -> None:
        """Send nothing more; what comes is dropped."""
        self._send = _unattached
        self._direct = False

    def _drained(self) -> bool:
        """Send what waits; tell whether nothing is in the way of what comes."""
        while True:
            if self._made is None:
                entry = self._pop()
                if entry is None:
                    return not (self._seen or self.ended or self._outlet is None)
                if isinstance(entry, Item):
                    self._made = entry.shared(self._encode)
                elif not self._tell(entry):
                    return False
            if self._made is not None:
                if not self._send(self._made, True):
                    return False
                self._made = None

    def _tell(self, gap: Gap) -> bool:
        """Do about a gap what was asked for; ``False``: the WebSocket closes."""
        if self._on_gap is not None:
            data = self._on_gap(gap)
            self._made = None if data is None else Shared(data)
            return True
        if self._outlet is not None:
            slow = gap.cause is Cause.SLOW
            # IANA: 1012 is Service Restart, 1013 Try Again Later
            self._outlet.close(1013 if slow else 1012, _TOO_SLOW if slow else _MISSED)
        return False


_TOO_SLOW: Final = "too slow"
_MISSED: Final = "messages may be missing"


def _unattached(_: Shared, __: bool) -> bool:
    return False


def parse_since(since: Since) -> tuple[Position, bool]:
    """Return a position, and whether it calls for a gap where it is not known."""
    if since is OLDEST:
        return OLDEST, False
    if isinstance(since, str):
        return Position.parse(since) or _UNKNOWN, True
    return since, True
