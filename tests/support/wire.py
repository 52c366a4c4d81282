"""In-memory doubles of what lives below the core: a runtime, a transport, a connection.

``FakeRuntime`` runs async functions without an event loop: tasks run when
``run_ready`` is called, time moves when ``advance`` is called. So a test of a timeout
states a number, and a test of an interleaving states the order.
"""

import os
import types
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any, cast

from tako.config import ServerConfig
from tako.core.counters import Counters
from tako.core.deadlines import Deadlines
from tako.core.loop import AsyncFunction, Transport
from tako.core.seams import Engine, Pause, ServerConnection
from tako.core.turn import Turn
from tako.http.conn_info import Carrier, ConnInfo, IpPeer, TlsInfo


class Cancelled(BaseException):
    """What a cancelled ``FakeTask`` is unwound with."""


@types.coroutine
def _park(place: "list[FakeTask]") -> Generator["list[FakeTask]", object, object]:
    return (yield place)


class FakeTask:
    """A coroutine that ``FakeRuntime`` steps."""

    def __init__(self, runtime: "FakeRuntime", coro: Coroutine[Any, Any, Any]) -> None:
        self._runtime = runtime
        self._coro = coro
        self._parked: list[FakeTask] | None = None
        self._value: object = None
        self._cancelling = False
        self.asked = False  # to end
        self.done = False
        self.cancelled = False
        self.result: Any = None
        self.error: BaseException | None = None

    def cancel(self) -> None:
        if not self.done and not self._cancelling:
            self._cancelling = self.asked = True
            self.wake(None)

    def close(self) -> None:
        if not self.done:
            self.done = True
            self._coro.close()

    def wake(self, value: object) -> None:
        if self._parked is not None and self in self._parked:
            self._parked.remove(self)
        self._parked = None
        self._value = value
        self._runtime.ready.append(self.step)

    def step(self) -> None:
        if self.done:
            return
        try:
            if self._cancelling:
                self._cancelling = False
                place = self._coro.throw(Cancelled())
            else:
                place = self._coro.send(self._value)
        except StopIteration as stop:
            self.done, self.result = True, stop.value
        except Cancelled:
            self.done = self.cancelled = True
        except BaseException as error:
            self.done, self.error = True, error
        else:
            self._parked = place
            place.append(self)


class FakeSignal:
    """``loop.Signal`` on ``FakeRuntime``."""

    def __init__(self, runtime: "FakeRuntime") -> None:
        self._runtime = runtime
        self._waiting: list[FakeTask] = []

    def set(self) -> None:
        for task in list(self._waiting):
            task.wake(True)

    async def wait(self, timeout: float | None = None) -> bool:
        timer = None
        if timeout is not None:
            waiting = self._waiting
            me: list[FakeTask] = []

            def expire() -> None:
                for task in me:
                    if task in waiting:
                        task.wake(False)

            me.append(self._runtime.current)
            timer = self._runtime.call_at(self._runtime.now + timeout, expire)
        try:
            return bool(await _park(self._waiting))
        finally:
            if timer is not None:
                timer.cancel()


class FakeTimer:
    def __init__(self, when: float, callback: Callable[[], object]) -> None:
        self.when = when
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class FakeRuntime:
    """``loop.Runtime`` without a loop."""

    cancelled: type[BaseException] = Cancelled
    checkpoint: Callable[[], Awaitable[None]] | None = None

    def __init__(self) -> None:
        self.now = 1000.0
        self.ready: deque[Callable[[], object]] = deque()
        self.timers: list[FakeTimer] = []
        self.tasks: list[FakeTask] = []
        self.current: FakeTask
        self.held = 0  # bytes that the kernel holds for the peer
        self.takes = 1 << 20  # bytes of a file, in one call
        self.took: float | None = None  # a round trip, in seconds
        self.unanswered_for = 0.0  # seconds
        self.peer_hung_up = False
        self.fin_waits = False
        self.socket = -1  # the descriptor of every transport's

    def time(self) -> float:
        return self.now

    def spawn(self, function: AsyncFunction, *args: object) -> FakeTask:
        task = FakeTask(self, cast("Coroutine[Any, Any, Any]", function(*args)))
        self.tasks.append(task)
        self.ready.append(task.step)
        return task

    begin = spawn

    def call_soon(self, callback: Callable[[], object]) -> None:
        self.ready.append(callback)

    flush_soon = call_soon

    def call_at(self, when: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(when, callback)
        self.timers.append(timer)
        return timer

    def write_all(self, transport: Transport, pieces: list[bytes]) -> None:
        transport.write(b"".join(pieces))

    def send_file(self, transport: Transport, file: int, offset: int, size: int) -> int:
        data = os.pread(file, min(size, self.takes), offset)
        transport.write(data)
        return len(data)

    def descriptor(self, transport: object) -> int:
        return self.socket

    def unacknowledged(self, transport: object) -> int:
        return self.held

    def unanswered(self, transport: object) -> float:
        return self.unanswered_for

    def round_trip(self, transport: object) -> float | None:
        return self.took

    def hung_up(self, transport: object) -> bool:
        return self.peer_hung_up

    def peer_ended(self, transport: object) -> bool:
        return self.fin_waits

    def signal(self) -> FakeSignal:
        return FakeSignal(self)

    def cancelling(self) -> bool:
        return self.current.asked

    async def sleep(self, delay: float) -> None:
        await self.signal().wait(delay)

    def run_ready(self) -> None:
        """Run everything that is due, in order, until nothing is."""
        while self.ready:
            callback = self.ready.popleft()
            owner = getattr(callback, "__self__", None)
            if isinstance(owner, FakeTask):
                self.current = owner
            callback()

    def run(self, function: AsyncFunction, *args: object) -> Any:
        """Run ``function`` to its end; it must not need time or input."""
        task = self.spawn(function, *args)
        self.run_ready()
        assert task.done, "the function waits for something that has not happened"
        if task.error is not None:
            raise task.error
        return task.result

    def close(self) -> None:
        """Unwind the tasks that still wait; the runtime is of no use afterwards."""
        for task in self.tasks:
            task.close()

    def advance(self, seconds: float) -> None:
        """Move the clock, firing timers in order, and run what becomes due."""
        end = self.now + seconds
        self.run_ready()
        while due := [t for t in self.timers if t.callback and t.when <= end]:
            timer = min(due, key=lambda t: t.when)
            self.timers.remove(timer)
            self.now = max(self.now, timer.when)
            callback, timer.callback = timer.callback, None
            assert callback is not None
            callback()
            self.run_ready()
        self.now = end


def conn_info(*, tls: bool = False, http2: bool = False) -> ConnInfo:
    """Return facts about a connection that does not exist."""
    return ConnInfo(
        peer=IpPeer("127.0.0.1", 50000),
        local=IpPeer("127.0.0.1", 8443),
        transport=Carrier.HTTP2 if http2 else Carrier.HTTP1,
        tls=TlsInfo("TLSv1.3", "TLS_AES_128_GCM_SHA256") if tls else None,
    )


class FakeConnection(ServerConnection):
    """A ``ServerConnection`` for an engine under test: keeps output and pauses.

    Give it an engine with ``connection.engine = engine``; ``sent`` then grows with each
    flush, and ``take()`` returns and forgets it.
    """

    runtime: FakeRuntime  # type: ignore[mutable-override]

    def __init__(
        self,
        config: ServerConfig | None = None,
        info: ConnInfo | None = None,
    ) -> None:
        super().__init__(FakeRuntime(), Counters())
        self._config = config or ServerConfig()
        self.conn_info = info or conn_info()
        self.deadlines = Deadlines(self._arm)
        clock = lambda: self.time()  # noqa: E731, PLW0108 - tests replace it
        self.turn = Turn(clock, self.runtime.call_soon, self._go_on)
        self.engine: Engine | None = None
        self.pauses = 0
        self.sent = bytearray()
        self.closed = False
        self.aborted = False
        self.delivered: tuple[int, int] | None = (0, 0)  # got, lacking
        self.fin_waits = False
        self._timer: FakeTimer | None = None
        self.to_cancel: list[tuple[float, object]] = []

    def cancel_at(self, when: float, exchange: object) -> None:
        self.to_cancel.append((when, exchange))

    def answered(self, exchange: object) -> None:
        """Nothing to do: the tests say when a handler ends."""

    def failed(self, exchange: object, error: BaseException) -> bool:
        """Have the test see what a handler raises."""
        return True

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        when = self.deadlines.next()
        self._timer = (
            None if when is None else self.runtime.call_at(when, self._deadline)
        )

    def _deadline(self) -> None:
        self.deadlines.reached(self.runtime.now)
        self._arm()
        self.flush()

    def _go_on(self) -> None:
        self.turn.serve_sinks()

    @property
    def config(self) -> ServerConfig:
        return self._config

    @config.setter
    def config(self, config: ServerConfig) -> None:
        self._config = config

    def flush(self, *, soon: bool = False) -> None:
        if soon:
            self.runtime.call_soon(self.flush)
        elif self.engine is not None:
            self.sent += self.engine.data_to_send()
            while self.engine.unsent:
                self.sent += self.engine.data_to_send()

    @property
    def reading(self) -> bool:
        return not self.pauses

    def delivery(self) -> tuple[int, int] | None:
        return self.delivered

    def peer_ended(self) -> bool:
        return self.fin_waits

    def write(self, data: bytes, first: bool) -> bool:
        if self.writable:
            self.sent += data
        return self.writable

    def send_file(self, file: int, offset: int, size: int) -> int:
        if self.conn_info.tls is not None:
            return 0
        self.flush()
        data = os.pread(file, min(size, self.runtime.takes), offset)
        self.sent += data
        return len(data)

    def take(self) -> bytes:
        """Return what was sent since the last call, flushing first."""
        self.flush()
        data = bytes(self.sent)
        self.sent.clear()
        return data

    def pause_reading(self, reason: Pause) -> None:
        self.pauses |= reason

    def resume_reading(self, reason: Pause) -> None:
        self.pauses &= ~reason

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


class FakeTransport:
    """``loop.Transport`` that keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.writes = 0
        self.eof = False
        self.reading = True
        self.closed = False
        self.aborted = False
        self.unsent = 0
        self.limits: list[int | None] = []

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_write_buffer_limits(self, high: int | None = None, /) -> None:
        self.limits.append(high)

    def write(self, data: bytes | memoryview) -> None:
        self.written += data
        self.writes += 1

    def writelines(self, pieces: list[bytes]) -> None:
        """Take pieces as one write, as uvloop's transports do."""
        self.write(b"".join(pieces))

    def take(self) -> bytes:
        data = bytes(self.written)
        self.written.clear()
        return data

    def write_eof(self) -> None:
        self.eof = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True
