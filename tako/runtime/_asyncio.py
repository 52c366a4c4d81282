"""asyncio (and uvloop) as a ``seams.Runtime``.

``Connection`` has the shape of ``asyncio.Protocol``, so the loop calls it directly; what
is here is only the vocabulary: tasks, signals, timers, accepting.
"""

import asyncio
import contextlib
import signal as signals
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import cast

from tako.connection import Connection
from tako.seams import AsyncFunction, Task, Timer


_WRITE_HIGH = 64 * 1024  # bytes unsent before writers wait


class AsyncioSignal:
    """``seams.Signal`` on futures."""

    __slots__ = ("_loop", "_waiters")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiters: list[asyncio.Future[bool]] = []

    def set(self) -> None:
        """Wake every task that waits now."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(True)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next ``set``. Cancel safety: safe."""
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        if timeout is None:
            return await waiter
        timer = self._loop.call_later(timeout, _expire, waiter)
        try:
            return await waiter
        finally:
            timer.cancel()


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)


class AsyncioRuntime:
    """``seams.Runtime`` on the running loop; owns the tasks that it starts."""

    cancelled: type[BaseException] = asyncio.CancelledError
    checkpoint: Callable[[], Awaitable[None]] | None = None
    sleep = staticmethod(asyncio.sleep)

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[object]] = set()
        self.time = self._loop.time
        self.call_soon = cast(
            "Callable[[Callable[[], None]], None]", self._loop.call_soon
        )

    def spawn(self, function: AsyncFunction, *args: object) -> Task:
        """Run ``function(*args)`` in a task of its own."""
        task = self._loop.create_task(function(*args))  # type: ignore[arg-type]  # a coroutine
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` at ``when``."""
        return self._loop.call_at(when, callback)

    def signal(self) -> AsyncioSignal:
        """Return a new signal."""
        return AsyncioSignal(self._loop)

    async def accept(self, listener: socket.socket) -> socket.socket:
        """Accept one connection. Cancel safety: safe."""
        while True:
            try:
                return listener.accept()[0]
            except BlockingIOError:
                pass
            ready = self._loop.create_future()
            self._loop.add_reader(listener.fileno(), _ready, ready)
            try:
                await ready
            finally:
                self._loop.remove_reader(listener.fileno())

    async def attach(self, sock: socket.socket, connection: Connection) -> None:
        """Let the loop serve ``sock`` with ``connection``."""
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: cast("asyncio.Protocol", connection), sock
        )
        transport.set_write_buffer_limits(high=_WRITE_HIGH)

    async def finished(self) -> None:
        """Wait until every task that was started has ended. Cancel safety: safe."""
        while others := self._tasks - {asyncio.current_task()}:
            await asyncio.wait(others)

    def cancel_tasks(self) -> None:
        """Cancel every task that was started."""
        for task in list(self._tasks):
            task.cancel()

    async def run_within(
        self, timeout: float, function: AsyncFunction, *args: object
    ) -> object:
        """Return ``await function(*args)``.

        Raises:
            TimeoutError: it took longer than ``timeout`` seconds and was cancelled.

        Cancel safety: as ``function``.
        """
        async with asyncio.timeout(timeout):
            return await function(*args)

    async def shielded(self, function: AsyncFunction) -> None:
        """Await ``function()``; on asyncio a cancelled task may still await."""
        await function()


def _ready(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


@contextlib.asynccontextmanager
async def open_runtime(_nursery: object = None) -> AsyncIterator[AsyncioRuntime]:
    """Provide a runtime; when the block ends its tasks are cancelled and have ended."""
    runtime = AsyncioRuntime()
    try:
        yield runtime
    finally:
        while runtime._tasks - {asyncio.current_task()}:
            runtime.cancel_tasks()
            await asyncio.wait(runtime._tasks, timeout=1)


@contextlib.asynccontextmanager
async def open_group() -> AsyncIterator[None]:
    """Provide what ``start`` takes: nothing, a loop has one place for all tasks."""
    yield None


_background: set[asyncio.Task[object]] = set()


def start(nursery: object, function: AsyncFunction, *args: object) -> None:
    """Run ``function(*args)`` in a task of its own."""
    if nursery is not None:
        msg = "nursery= is for trio; on asyncio leave it out"
        raise TypeError(msg)
    task = asyncio.get_running_loop().create_task(function(*args))  # type: ignore[arg-type]
    _background.add(task)
    task.add_done_callback(_background.discard)


def signal() -> AsyncioSignal:
    """Return a new signal."""
    return AsyncioSignal(asyncio.get_running_loop())


async def sleep(seconds: float) -> None:
    """Sleep. Cancel safety: safe."""
    await asyncio.sleep(seconds)


async def to_thread(function: Callable[[], object]) -> object:
    """Return what ``function`` returns in a thread. Cancel safety: it goes on alone."""
    return await asyncio.to_thread(function)


async def interrupted() -> None:
    """Wait for SIGINT or SIGTERM; the next one then has its default effect.

    Cancel safety: safe; the handlers are taken back.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()
    numbers = (signals.SIGINT, signals.SIGTERM)
    for number in numbers:
        loop.add_signal_handler(number, _ready, future)
    try:
        await future
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def run(main: AsyncFunction, args: tuple[object, ...], loop: str) -> object:
    """Run ``main(*args)`` to its end on a new loop: ``auto``, ``asyncio``, ``uvloop``."""
    factory = None
    if loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            if loop == "uvloop":
                msg = "uvloop is not installed: pip install 'tako[uvloop]'"
                raise RuntimeError(msg) from None
        else:
            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main(*args))  # type: ignore[arg-type]  # a coroutine
