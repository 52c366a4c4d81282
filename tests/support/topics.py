"""Doubles for topics: an engine in memory, a WebSocket, topics without a loop."""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from tako.errors import TopicsUnavailable
from tako.topics import (
    Data,
    Engine,
    Feed,
    History,
    Item,
    Policy,
    Position,
    Receiver,
    Replay,
    drop_oldest,
)
from tako.topics.counts import Tally
from tako.topics.feed import Since
from tako.topics.session import Session
from tako.ws.relay import Send
from tako.ws.shared import Shared
from tests.support.wire import FakeRuntime, FakeTask


if TYPE_CHECKING:
    from tako.runtime import Backend


class MemoryEngine:
    """An engine whose network is the test: nothing arrives before it says so.

    ``publish`` numbers messages; ``deliver`` hands on the next of those that were
    published while their topic was subscribed to.
    """

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self._changed = runtime.signal()
        self.receiver: Receiver
        self.up = True
        self.confirming = True  # subscribe returns at once
        self.batches: list[list[tuple[str, Data]]] = []
        self.taking = True  # publish returns at once
        self.error: Exception | None = None
        self.subscribed: set[str] = set()
        self.asked: list[list[str]] = []
        self.dropped: list[list[str]] = []
        self.kept: dict[str, list[Item]] = {}
        self.lost = 0  # of the oldest items that were kept
        self.on_wire: deque[Item] = deque()
        self.epoch = "e" * 16
        self.ended = False

    async def run(self, receiver: Receiver) -> None:
        self.receiver = receiver
        try:
            while self.error is None:
                await self._changed.wait()
            raise self.error
        finally:
            self.ended = True

    def fail(self, error: Exception) -> None:
        self.error = error
        self._changed.set()

    def go_on(self, *, up: bool | None = None) -> None:
        """Let everything that waits look again."""
        if up is not None:
            self.up = up
            self.receiver.state(up=up)
        self._changed.set()

    async def publish(
        self, batch: Sequence[tuple[str, Data]]
    ) -> Sequence[Position | None]:
        if not self.up:
            msg = "the engine is down"
            raise TopicsUnavailable(msg)
        self.batches.append(list(batch))
        while not self.taking:
            await self._changed.wait()
        return [self.keep(topic, data) for topic, data in batch]

    def keep(self, topic: str, data: Data) -> Position:
        """Take a message; it is on its way if its topic is subscribed to."""
        kept = self.kept.setdefault(topic, [])
        position = Position(self.epoch, len(kept) + 1)
        kept.append(Item(topic, data, position))
        if topic in self.subscribed:
            self.on_wire.append(kept[-1])
        return position

    def deliver(self) -> None:
        """Hand on the next message that is on its way."""
        item = self.on_wire.popleft()
        if item.topic in self.subscribed:
            self.receiver.message(item.topic, item.data, item.position)

    async def subscribe(self, topics: Sequence[str]) -> None:
        self.asked.append(list(topics))
        self.subscribed.update(topics)
        while not self.confirming:
            await self._changed.wait()

    def unsubscribe(self, topics: Sequence[str]) -> None:
        self.dropped.append(list(topics))
        self.subscribed.difference_update(topics)

    async def history(self, topic: str, since: Position) -> Replay:
        kept = self.kept.get(topic, [])
        known = since.epoch == self.epoch and self.lost <= since.offset <= len(kept)
        items = kept[max(self.lost, since.offset) :] if known else kept[self.lost :]
        return Replay(items, Position(self.epoch, len(kept)))


class FakeOutlet:
    """A WebSocket, as a feed sees it, that has room for as many messages."""

    def __init__(self, room: int = 1_000_000) -> None:
        self.room = room
        self.open = True
        self._payloads: list[bytes] = []
        self.frames: list[int] = []  # ids of what was sent
        self.soon: list[bool] = []
        self.closes: list[tuple[int, str]] = []
        self.over = False

    @property
    def sent(self) -> list[str]:
        return [payload.decode() for payload in self._payloads]

    @property
    def send(self) -> Send:
        return self.take

    def take(self, message: Shared, soon: bool) -> bool:
        if self.room <= 0 or not self.open:
            return False
        self.room -= 1
        self._payloads.append(message.payload)
        self.frames.append(id(message))
        self.soon.append(soon)
        return True

    def close(self, code: int, reason: str) -> None:
        self.closes.append((code, reason))
        self.open = False

    def ended(self) -> None:
        self.over = True


class FakeBackend:
    """A backend that lends one ``FakeRuntime``."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self._runtime = runtime
        self.lent = 0

    def signal(self) -> Any:
        return self._runtime.signal()

    async def borrow(self) -> Any:
        self.lent += 1
        self._runtime.give_back = self._take_back  # type: ignore[attr-defined]
        return self._runtime

    def _take_back(self) -> None:
        self.lent -= 1


class Bench:
    """Topics on a ``FakeRuntime``, and what a test does with them."""

    def __init__(self, *, engine: bool = False, history: History | None = None) -> None:
        self.runtime = FakeRuntime()
        self.backend = FakeBackend(self.runtime)
        self.engine = MemoryEngine(self.runtime)
        self.tally = Tally()
        carrier: Engine | None = self.engine if engine else None
        backend = cast("Backend", self.backend)
        self.session = Session(backend, carrier, history, self.tally)
        self.begun = self.runtime.spawn(self.session.begun)
        self.runtime.run_ready()

    def publish(self, topic: str, data: str | bytes) -> FakeTask:
        task = self.runtime.spawn(self.session.publish, topic, data)
        self.runtime.run_ready()
        return task

    def feed(
        self,
        *topics: str,
        since: dict[str, Since] | None = None,
        bound: int = 256,
        policy: Policy = drop_oldest,
    ) -> Feed:
        """Return a feed that is not entered."""

        async def owner() -> Session:
            return self.session

        return Feed(owner, topics, since or {}, bound, 1 << 20, policy)

    def entering(self, feed: Feed) -> FakeTask:
        task = self.runtime.spawn(feed.__aenter__)
        self.runtime.run_ready()
        return task

    def subscribe(self, *topics: str, **options: Any) -> Feed:
        """Return a feed that is entered."""
        feed = self.feed(*topics, **options)
        assert self.entering(feed).done
        return feed

    def leave(self, feed: Feed) -> None:
        self.runtime.run(feed.__aexit__, None, None, None)

    def read(self, feed: Feed) -> list[Any]:
        """Return what waits: the data of items, and gaps."""
        found: list[Any] = []

        async def reader() -> None:
            while True:
                entry = await anext(feed)
                found.append(getattr(entry, "data", entry))

        task = self.runtime.spawn(reader)
        self.runtime.run_ready()
        task.cancel()
        self.runtime.run_ready()
        return found
