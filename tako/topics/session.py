"""``Session``: topics on one event loop, from their first use to their end.

Theory of operation. Without an engine a message goes from ``publish`` straight into the
fan-out, in one call. With one it goes through the ``Publisher``, and comes back through
``message`` to those who subscribe; the engine runs in a task of the runtime that was
borrowed, which no handler's end can take away.

A feed is added to the fan-out first, then the engine is asked for its topics, then for
what it has behind ``since`` (``Replays``: for many feeds at once); what came live in
the meantime and was replayed is skipped.

The end has two steps: once sessions are told to end, so are feeds; handlers can still
publish. When the last server of the loop has ended, what waits for the engine has a
second, and the engine's task ends.
"""

import enum
import logging
from typing import Final

from tako.core.loop import AsyncFunction, Runtime, Task
from tako.core.states import CHECKED, check_transition
from tako.errors import TopicsUnavailable
from tako.runtime import Backend, ClientRuntime
from tako.topics.counts import Tally
from tako.topics.engine import Engine
from tako.topics.fan_out import FanOut, Route
from tako.topics.feed import Feed, parse_since
from tako.topics.history import Histories, History
from tako.topics.item import Cause, Data, Item, Position
from tako.topics.publisher import Publisher
from tako.topics.replays import Replays


_logger = logging.getLogger("tako.topics")

_PATIENCE = 1.0  # seconds for an engine to end once it is cancelled


class Phase(enum.IntEnum):
    """How far a session has come."""

    NEW = 0
    """Nothing runs yet: the first use begins it."""
    OPEN = 1
    """Messages are published and received."""
    ENDING = 2
    """Feeds have ended, new ones end at once; messages are published."""
    CLOSED = 3
    """Nothing is published or received any more."""


_NEXT: dict[Phase, frozenset[Phase]] = {
    Phase.NEW: frozenset({Phase.OPEN, Phase.CLOSED}),
    Phase.OPEN: frozenset({Phase.ENDING, Phase.CLOSED}),
    Phase.ENDING: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


class Session:
    """Topics on one loop; implements ``engine.Receiver`` and ``feed.Owner``."""

    runtime: ClientRuntime
    _fan_out: FanOut

    def __init__(
        self,
        backend: Backend,
        engine: Engine | None,
        history: History | None,
        tally: Tally,
    ) -> None:
        """Begin with nothing.

        Args:
            backend: of the running loop.
            engine: what carries messages; ``None``: they stay in this process.
            history: what is kept of each topic.
            tally: counts.
        """
        self._backend = backend
        self._engine = engine
        self._history = history
        self._histories: Histories | None = None
        self._tally: Final = tally
        self._publisher: Publisher | None = None
        self._replays: Replays | None = None
        self._tasks: list[Task] = []
        self._running = 0  # of those
        self._feeds: set[Feed] = set()
        self._beginning = False
        self._engine_begun = False
        self._was_up = False
        self._changed = backend.signal()
        self.phase: Phase = Phase.NEW

    def _enter(self, phase: Phase) -> None:
        if CHECKED:
            check_transition(_NEXT, self.phase, phase)
        self.phase = phase
        self._changed.set()
        _logger.debug("topics %#x are %s", id(self), phase.name)

    @property
    def closed(self) -> bool:
        """It is over."""
        return self.phase is Phase.CLOSED

    async def begun(self) -> None:
        """Wait until the session is open; the first caller opens it.

        Raises:
            TopicsUnavailable: it was closed.

        Cancel safety: safe; the next caller goes on.
        """
        while self.phase is Phase.NEW:
            if self._beginning:
                await self._changed.wait()
                continue
            self._beginning = True
            try:
                await self._begin()
            finally:
                self._beginning = False
                self._changed.set()
        if self.phase is Phase.CLOSED:
            msg = "topics were closed"
            raise TopicsUnavailable(msg)

    async def _begin(self) -> None:
        runtime = await self._backend.borrow()
        if self.phase is not Phase.NEW:  # closed meanwhile
            runtime.give_back()
            return
        self.runtime = runtime
        self._fan_out = FanOut(
            runtime, self._tally, recoverable=self._history is not None
        )
        engine = self._engine
        if engine is None:
            if self._history is not None:
                self._histories = Histories(self._history, runtime.time)
            _logger.info("topics reach this process only")
        else:
            self._publisher = Publisher(engine, runtime, self._tally)
            self._replays = Replays(engine, self._backend.signal)
            self._tasks.append(runtime.spawn(self._run_engine, engine))
            self._tasks.append(runtime.spawn(self._run, self._publisher.run))
            self._running = 2
        self._enter(Phase.OPEN)
        while engine is not None and not self._engine_begun:
            await self._changed.wait()

    # Publishing ----------------------------------------------------------------------

    def knows(self, topic: str) -> bool:
        """Tell whether a feed subscribes to a topic."""
        return self._fan_out.knows(topic)

    async def publish(self, topic: str, data: Data) -> Position | None:
        """Publish a message; see ``Topics.publish``."""
        if self._publisher is not None:
            return await self._publisher.publish(topic, data)
        if self._histories is None:
            item = Item(topic, data, None)
        else:
            item = self._histories.add(topic, data)
        self._tally.published += 1
        fan_out = self._fan_out
        fan_out.hand_out(item)
        if fan_out.behind:
            while fan_out.behind:
                await fan_out.caught_up.wait()
        elif fan_out.busy or self.runtime.checkpoint is not None:
            await self.runtime.sleep(0)
        if self._histories is not None:
            item.forget()
        return item.position

    # Subscribing: ``feed.Owner`` -----------------------------------------------------

    async def enter(self, feed: Feed) -> Runtime:
        """Have a feed get its topics from now on; see ``feed.Owner``.

        Cancel safety: safe; the feed gets nothing.
        """
        self._feeds.add(feed)
        self._tally.feeds += 1
        feed.begin(self, self._tally)
        try:
            if self.phase is not Phase.OPEN:
                feed.end()
                return self.runtime
            routes = [self._fan_out.add(topic, feed) for topic in feed.topics]
            if self._engine is not None:
                await self._confirm(self._engine, routes)
            elif self.runtime.checkpoint is not None:
                await self.runtime.checkpoint()
            for topic, since in feed.since.items():
                await self._replay(feed, topic, *parse_since(since))
            if feed.since:
                feed.skip_replayed()
        except BaseException:
            feed.end()
            raise
        return self.runtime

    def leave(self, feed: Feed) -> None:
        """Have a feed get nothing more; see ``feed.Owner``."""
        if feed not in self._feeds:
            return
        self._feeds.remove(feed)
        self._tally.feeds -= 1
        unused: list[str] = []
        for topic in feed.topics:
            route = self._fan_out.remove(topic, feed)
            if route is not None and route.confirmed:
                unused.append(topic)
        if unused and self._engine is not None and self.phase is not Phase.CLOSED:
            self._engine.unsubscribe(unused)

    async def _confirm(self, engine: Engine, routes: list[Route]) -> None:
        """Wait until the engine delivers the topics of ``routes``.

        A topic is asked for once. If that is cancelled the next feed asks.
        """
        while True:
            asked = [
                route for route in routes if not (route.confirmed or route.confirming)
            ]
            if asked:
                await self._subscribe(engine, asked)
            elif any(route.confirming for route in routes):
                await self._changed.wait()
            else:
                return

    async def _subscribe(self, engine: Engine, routes: list[Route]) -> None:
        names = [route.topic for route in routes]
        for route in routes:
            route.confirming = True
        confirmed = False
        try:
            await engine.subscribe(names)
            confirmed = True
        finally:
            for route in routes:
                route.confirming = False
                route.confirmed = confirmed
            if not confirmed and self.phase is not Phase.CLOSED:
                engine.unsubscribe(names)
            self._changed.set()

    async def _replay(
        self,
        feed: Feed,
        topic: str,
        since: Position,
        gap: bool,
    ) -> None:
        if self._replays is not None:
            items, complete = await self._replays.behind(topic, since)
        elif self._histories is not None:
            items, complete = self._histories.since(topic, since).behind(since)
        else:
            feed.replay(topic, (), gap=gap)
            return
        feed.replay(topic, items, gap=gap and not complete)
        last = items[-1].position if items else None
        if last is None and complete:
            last = since
        if last is not None:
            feed.skip_to(topic, last)

    # Called by the engine: ``engine.Receiver`` ---------------------------------------

    def message(self, topic: str, data: Data, position: Position | None) -> None:
        """Take a message of a topic; see ``engine.Receiver``."""
        self._fan_out.hand_out(Item(topic, data, position))

    def gap(self, topic: str | None, cause: Cause, missed: int | None) -> None:
        """Hear that messages may be lost here; see ``engine.Receiver``."""
        self._fan_out.lose(topic, cause, missed)

    def state(self, *, up: bool) -> None:
        """Hear that the engine is reached, or is not; see ``engine.Receiver``."""
        if up:
            self._tally.reconnects += self._was_up
            self._was_up = True
            if self._publisher is not None:
                self._publisher.reached()
        _logger.info("the engine of topics is %s", "reached" if up else "not reached")

    async def _run_engine(self, engine: Engine) -> None:
        async def run() -> None:
            self._engine_begun = True
            self._changed.set()
            await engine.run(self)

        await self._run(run)

    async def _run(self, function: AsyncFunction) -> None:
        """Run a task of the session; if it fails, the session is over."""
        try:
            await function()
        except Exception:
            _logger.exception("the engine of topics failed")
        finally:
            self._running -= 1
            self._engine_begun = True
            if self._publisher is not None and not self.closed:
                self._publisher.close("the engine of topics has ended")
                self.sessions_end()
            self._changed.set()

    # The end: ``runtime.endings.Guest`` ----------------------------------------------

    def sessions_end(self) -> None:
        """End all feeds: sessions of the server were told to end."""
        if self.phase is Phase.OPEN:
            self._enter(Phase.ENDING)
            self._end_feeds()

    async def servers_ended(self, patience: float) -> None:
        """Give the engine ``patience`` seconds to take what waits, and end.

        Cancel safety: it ends at once.
        """
        if self.closed:
            return
        publisher, opened = self._publisher, self.phase is not Phase.NEW
        try:
            if publisher is not None and patience > 0:
                await publisher.flushed(patience)
        finally:
            if not self.closed:
                self._enter(Phase.CLOSED)
                self._end_feeds()
                if publisher is not None:
                    publisher.close("topics were closed")
                for task in self._tasks:
                    task.cancel()
                if opened:
                    await self._left()

    async def _left(self) -> None:
        """Wait until the tasks have ended, and give the runtime back."""
        runtime = self.runtime
        until = runtime.time() + _PATIENCE
        try:
            while self._running and (left := until - runtime.time()) > 0:
                await self._changed.wait(left)
            if self._running:
                _logger.error("the engine of topics has not ended in %g s", _PATIENCE)
        finally:
            runtime.give_back()

    def _end_feeds(self) -> None:
        for feed in list(self._feeds):
            feed.end()
