"""``Publisher``: what waits for the engine, and the task that gives it on.

Theory of operation. ``publish`` puts a message into a bounded buffer and waits until
the engine has taken it. One task takes what waits as one batch, so order holds and an
engine pays its round trip once for many. While the engine is not reached the batch
stays; the next try is when it is reached, or after ``_RETRY`` seconds.

Invariants: a message is in the buffer, or in the batch that is being given on, or
settled; one that was withdrawn in the buffer was never given on.
"""

import logging
from collections import deque
from typing import Final

from tako.core.loop import Runtime, Signal
from tako.errors import TopicsUnavailable
from tako.topics.counts import Tally
from tako.topics.engine import Engine
from tako.topics.history import weight
from tako.topics.item import Data, Position


_logger = logging.getLogger("tako.topics")

_MESSAGES = 1_000  # that wait for the engine
_SIZE = 4 << 20  # bytes
_BATCH = 256  # messages
_BATCH_SIZE = 1 << 20  # bytes
_RETRY = 0.5  # seconds


class _Message:
    """A message on its way to the engine."""

    __slots__ = ("data", "error", "position", "settled", "signal", "size", "topic")

    def __init__(self, topic: str, data: Data, signal: Signal) -> None:
        self.topic: Final = topic
        self.data: Final = data
        self.size: Final = weight(data)
        self.signal: Final = signal
        self.settled = False
        self.position: Position | None = None
        self.error: Exception | None = None

    def settle(self, position: Position | None, error: Exception | None) -> None:
        self.settled, self.position, self.error = True, position, error
        self.signal.set()


class Publisher:
    """Gives an engine what is published, in batches."""

    def __init__(self, engine: Engine, runtime: Runtime, tally: Tally) -> None:
        self._engine = engine
        self._runtime = runtime
        self._tally = tally
        self._waiting: deque[_Message] = deque()
        self._size = 0
        self._giving = False
        self._changed = runtime.signal()
        self._closed: TopicsUnavailable | None = None

    @property
    def idle(self) -> bool:
        """Nothing waits, and nothing is being given on."""
        return not (self._waiting or self._giving)

    async def publish(self, topic: str, data: Data) -> Position | None:
        """Return when the engine has taken a message.

        Raises:
            TopicsUnavailable: the buffer is full, or the engine has ended or failed.

        Cancel safety: a message that waits is withdrawn; one that is being given on may
        reach the engine.
        """
        message = _Message(topic, data, self._runtime.signal())
        full = len(self._waiting) >= _MESSAGES or self._size + message.size > _SIZE
        if self._closed is not None or (full and self._waiting):
            self._tally.refused += 1
            raise TopicsUnavailable(
                "the engine is not reached, and too many messages wait for it"
                if self._closed is None
                else str(self._closed)
            )
        self._put(message)
        try:
            while not message.settled:
                await message.signal.wait()
        except BaseException:
            self._withdraw(message)
            raise
        if message.error is not None:
            self._tally.refused += 1
            text = f"the engine may not have taken the message: {message.error}"
            if isinstance(message.error, TopicsUnavailable):
                text = str(message.error)
            raise TopicsUnavailable(text) from message.error
        self._tally.published += 1
        return message.position

    def reached(self) -> None:
        """Try at once: the engine is reached."""
        self._changed.set()

    def close(self, why: str) -> None:
        """Refuse what waits and what comes."""
        self._closed = error = TopicsUnavailable(why)
        while self._waiting:
            message = self._waiting.popleft()
            self._forget(message)
            message.settle(None, error)
        self._changed.set()

    async def flushed(self, timeout: float) -> None:
        """Wait until nothing waits, for ``timeout`` seconds at most."""
        until = self._runtime.time() + timeout
        while not self.idle and (left := until - self._runtime.time()) > 0:
            await self._changed.wait(left)

    async def run(self) -> None:
        """Give on what waits, until cancelled or closed."""
        while self._closed is None:
            if not self._waiting:
                await self._changed.wait()
                continue
            batch = self._take()
            self._giving = True
            try:
                await self._give(batch)
            finally:
                self._giving = False
                for message in batch:
                    if not message.settled:
                        text = "topics were closed: the message may be published"
                        message.settle(None, TopicsUnavailable(text))
                self._changed.set()

    async def _give(self, batch: list[_Message]) -> None:
        """Give on a batch; one that the engine cannot take now goes back."""
        try:
            results = await self._engine.publish(
                [(message.topic, message.data) for message in batch]
            )
        except TopicsUnavailable:
            if self._closed is not None:
                return
            for message in reversed(batch):
                self._put(message, first=True)
            batch.clear()
            await self._changed.wait(_RETRY)
        except Exception as error:
            _logger.warning("the engine failed to publish: %s", error)
            for message in batch:
                message.settle(None, error)
        else:
            for message, result in zip(batch, results, strict=True):
                if isinstance(result, Exception):
                    message.settle(None, result)
                else:
                    message.settle(result, None)

    def _take(self) -> list[_Message]:
        batch: list[_Message] = []
        size = 0
        while self._waiting and len(batch) < _BATCH:
            size += self._waiting[0].size
            if batch and size > _BATCH_SIZE:
                break
            message = self._waiting.popleft()
            self._forget(message)
            batch.append(message)
        return batch

    def _put(self, message: _Message, *, first: bool = False) -> None:
        self._size += message.size
        self._tally.queued_bytes += message.size
        if first:
            self._waiting.appendleft(message)
        else:
            self._waiting.append(message)
            if len(self._waiting) == 1:
                self._changed.set()

    def _forget(self, message: _Message) -> None:
        self._size -= message.size
        self._tally.queued_bytes -= message.size

    def _withdraw(self, message: _Message) -> None:
        if message in self._waiting:
            self._waiting.remove(message)
            self._forget(message)
