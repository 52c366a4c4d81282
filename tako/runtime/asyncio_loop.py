"""asyncio (and uvloop) as a ``loop.Runtime``.

``TcpConnection`` has the shape of ``asyncio.Protocol``, so the loop calls it directly;
this module adds only tasks, signals, timers and accepting.
"""

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
)
from contextvars import copy_context
from functools import partial
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any, cast

from tako.core.loop import AsyncFunction, Receiver, Task, Timer, Transport
from tako.runtime import kernel, signals
from tako.runtime.asyncio_flushes import AsyncioFlushes
from tako.runtime.asyncio_signal import AsyncioSignal
from tako.runtime.backend import Address


_logger = logging.getLogger("tako.server")

_PATIENCE = 3  # seconds, and times, that tasks are cancelled at the end
_WRITE_HIGH = 64 * 1024  # bytes unsent before writers wait


class _Task(asyncio.Task[object]):
    """A task that begins even if it is cancelled at once.

    asyncio drops a coroutine that it has not begun, so that what the coroutine would
    release at its end stays held. On trio the first step is always taken.
    """

    __slots__ = ()

    def cancel(self, msg: object = None) -> bool:
        coroutine = cast("Coroutine[Any, Any, object]", self.get_coro())
        if getcoroutinestate(coroutine) == CORO_CREATED:
            self.get_loop().call_soon(super().cancel, msg)  # behind the first step
            return True
        return super().cancel(msg)


class AsyncioRuntime:
    """``loop.Runtime`` on the running loop; owns the tasks that it starts."""

    cancelled: type[BaseException] = asyncio.CancelledError
    checkpoint: Callable[[], Awaitable[None]] | None = None

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._context = copy_context()  # of what is begun
        self._tasks: set[asyncio.Task[object]] = set()
        self.time: Callable[[], float] = self._loop.time
        # asyncio's own ``writelines`` joins before 3.12, and before 3.12.9 and 3.13.2
        # it does not tell of a full buffer (CVE-2024-12254)
        self._gathers = type(self._loop).__module__.startswith("uvloop")
        self.call_soon: Callable[[Callable[[], object]], object] = self._loop.call_soon
        self.flush_soon: Callable[[Callable[[], object]], None] = AsyncioFlushes(
            self._loop, self._context
        ).soon

    @staticmethod
    def signal() -> AsyncioSignal:
        """Return a new signal, for tasks of the loop that runs."""
        return AsyncioSignal()

    @staticmethod
    async def sleep(delay: float, /) -> None:
        """Sleep for ``delay`` seconds. Cancel safety: safe."""
        await asyncio.sleep(delay)

    def cancelling(self) -> bool:
        """Tell whether the running task was cancelled, and is to end."""
        task = asyncio.current_task(self._loop)
        return task is not None and task.cancelling() > 0

    def spawn(self, function: AsyncFunction, *args: object) -> Task:
        """Run ``function(*args)`` in a task of its own."""
        task = _Task(_coroutine(function(*args)), loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return cast("Task", task)

    if sys.version_info >= (3, 12):

        def begin(self, function: AsyncFunction, *args: object) -> Task:
            """Run ``function(*args)`` as ``spawn`` does, its first step at once."""
            coroutine = function(*args)
            if not isinstance(coroutine, CoroutineType):
                coroutine = _awaited(coroutine)
            # ``Any``, for what ``cast`` says is said at each request
            # It has begun, however early it is cancelled: no need for a ``_Task``
            task: Any = asyncio.Task(
                coroutine,
                loop=self._loop,
                context=self._context.copy(),
                eager_start=True,
            )
            if not task.done():
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return task  # type: ignore[no-any-return]

    else:

        def begin(self, function: AsyncFunction, *args: object) -> Task:
            """Run ``function(*args)`` as ``spawn`` does, but for its context."""
            return self._context.copy().run(self.spawn, function, *args)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Call ``callback`` at ``when``, in seconds of ``time``."""
        return self._loop.call_at(when, callback)

    def write_all(self, transport: Transport, pieces: list[bytes]) -> None:
        """Send ``pieces``; uvloop does so in one system call."""
        if self._gathers:
            cast("asyncio.Transport", transport).writelines(pieces)
        else:
            transport.write(b"".join(pieces))

    def descriptor(self, transport: Transport) -> int:
        """Return the descriptor of the socket of ``transport``."""
        return _fileno(transport) if os.name == "posix" else -1

    def send_file(self, transport: Transport, file: int, offset: int, size: int) -> int:
        """Send bytes of a file, those that the socket takes at once without a copy."""
        fd = _fileno(transport)
        return kernel.send_file(transport, fd, file, offset, size)

    def unacknowledged(self, transport: Transport) -> int:
        """Return how many bytes the kernel holds for the peer of ``transport``."""
        return kernel.unacknowledged(_fileno(transport))

    def unanswered(self, transport: Transport) -> float:
        """Return since when the peer of ``transport`` acknowledges nothing."""
        return kernel.unanswered(_fileno(transport))

    def round_trip(self, transport: Transport) -> float | None:
        """Return the seconds of a round trip to the peer of ``transport``."""
        return kernel.round_trip(_fileno(transport))

    def hung_up(self, transport: Transport) -> bool:
        """Tell whether the peer of ``transport`` takes no more output."""
        return kernel.hung_up(_fileno(transport))

    def peer_ended(self, transport: Transport) -> bool:
        """Tell whether the FIN of the peer of ``transport`` is here."""
        return kernel.peer_ended(_fileno(transport))

    async def accept(self, listener: socket.socket) -> tuple[socket.socket, object]:
        """Accept one connection. Cancel safety: safe."""
        while True:
            try:
                return listener.accept()
            except (BlockingIOError, InterruptedError):
                pass
            ready: asyncio.Future[None] = self._loop.create_future()
            self._loop.add_reader(listener.fileno(), _ready, ready)
            try:
                await ready
            finally:
                self._loop.remove_reader(listener.fileno())

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host. Cancel safety: safe."""
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(int(family), address) for family, _, _, _, address in found]

    async def dial(self, address: Address) -> socket.socket:
        """Return a socket that is connected. Cancel safety: safe."""
        sock = kernel.new_socket(address[0])
        try:
            await self._loop.sock_connect(sock, address[1])
        except OSError as error:
            sock.close()
            if error.errno is None:
                raise
            # asyncio's own text does not say what is wrong; this is trio's
            text = f"Error connecting to {address[1]!r}: {os.strerror(error.errno)}"
            raise OSError(error.errno, text) from None
        except BaseException:
            sock.close()
            raise
        return sock

    def keep(self) -> None:
        """Do nothing: tasks belong to the loop."""

    def give_back(self) -> None:
        """Do nothing: tasks belong to the loop."""

    async def attach(self, sock: socket.socket, connection: Receiver) -> None:
        """Let the loop serve ``sock`` with ``connection``."""
        transport, _ = await self._loop.connect_accepted_socket(
            lambda: cast("asyncio.Protocol", connection), sock
        )
        if not transport.is_closing():  # the peer may be gone before we get here
            transport.set_write_buffer_limits(high=_WRITE_HIGH)

    async def finished(self) -> None:
        """Wait until every task that was started has ended. Cancel safety: safe."""
        while others := self._others():
            await asyncio.wait(others)

    @property
    def busy(self) -> int:
        """How many tasks have not ended."""
        return len(self._others())

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
        """Await ``function()`` to its end; a cancellation is raised afterwards."""
        task = self._loop.create_task(_coroutine(function()))
        await _ended(task)
        task.result()

    async def end_tasks(self) -> None:
        """Cancel every task, a few times, and leave behind those that go on."""
        for _ in range(_PATIENCE):
            if others := self._others():
                self.cancel_tasks()
                await asyncio.wait(others, timeout=1)
        if others := self._others():
            import ctypes  # takes milliseconds, and is hardly ever needed

            _logger.error(
                "%d task(s) go on though cancelled for %d s: left behind",
                len(others),
                _PATIENCE,
            )
            for task in others:
                # Or the end of the loop would wait for it, see asyncio.Runner.close.
                asyncio._unregister_task(task)
                # A task that ignores its cancellation may ignore its destruction and
                # spin, even at the end of the process: keep a reference for good.
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(task))

    def _others(self) -> set[asyncio.Task[object]]:
        return {task for task in self._tasks if task is not asyncio.current_task()}


signal: Callable[[], AsyncioSignal] = AsyncioRuntime.signal


async def sleep(delay: float, /) -> None:
    """Sleep for ``delay`` seconds. Cancel safety: safe."""
    await AsyncioRuntime.sleep(delay)


def _coroutine(awaitable: Awaitable[object]) -> Coroutine[Any, Any, object]:
    """Return what an async function returned, as a coroutine that tells its state.

    One that a compiler made (mypyc, Cython) does not tell whether it has begun.
    """
    if isinstance(awaitable, CoroutineType):
        return cast("CoroutineType[Any, Any, object]", awaitable)
    return _awaited(awaitable)


async def _awaited(awaitable: Awaitable[object]) -> object:
    return await awaitable


def _fileno(transport: Transport) -> int:
    sock = cast("asyncio.Transport", transport).get_extra_info("socket")
    return -1 if sock is None else cast("int", sock.fileno())


def _ready(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def borrow() -> AsyncioRuntime:
    """Provide a runtime whose tasks belong to the loop."""
    return AsyncioRuntime()


@contextlib.asynccontextmanager
async def open_runtime() -> AsyncGenerator[AsyncioRuntime, None]:
    """Provide a runtime; when the block ends its tasks are cancelled and have ended."""
    runtime = AsyncioRuntime()
    try:
        yield runtime
    finally:
        if runtime.busy:
            await runtime.shielded(runtime.end_tasks)


@contextlib.asynccontextmanager
async def beside(function: AsyncFunction) -> AsyncGenerator[Callable[[], None], None]:
    """Run ``function()`` beside the block; yield what cancels the block."""
    loop = asyncio.get_running_loop()
    block = cast("asyncio.Task[object]", asyncio.current_task())
    before = block.cancelling()
    asked = False

    def end_block() -> None:
        nonlocal asked
        if not asked:
            asked = True
            block.cancel()

    task = _Task(_coroutine(function()), loop=loop)
    try:
        yield end_block
    except BaseException as error:
        by_others = asked and await _withdrawn(block) > before
        if not asked or by_others or not isinstance(error, asyncio.CancelledError):
            raise
    else:
        if asked and await _withdrawn(block) > before:
            raise asyncio.CancelledError
    finally:
        asked = True  # the block is at its end
        task.cancel()
        await _ended(task)


async def _withdrawn(task: asyncio.Task[object]) -> int:
    """Take back a cancellation of the running ``task``; return how many are left."""
    # One that is still to come would come after the block: until Python 3.13
    # ``uncancel`` does not stop it.
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(0)
    return task.uncancel()


async def _ended(task: asyncio.Task[Any]) -> None:
    """Wait until ``task`` has ended; a cancellation is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


async def to_thread(function: Callable[[], object]) -> object:
    """Return what ``function`` returns in a thread. Cancel safety: it goes on."""
    return await asyncio.to_thread(function)


@contextlib.contextmanager
def interrupts() -> Generator[Callable[[], Awaitable[None]], None, None]:
    """Take SIGINT and SIGTERM; yield a function that waits for the first."""
    loop = asyncio.get_running_loop()
    come = asyncio.Event()

    async def wait() -> None:
        await come.wait()

    with signals.waiting(loop, come.set, loop.call_soon_threadsafe):
        yield wait


def caller() -> Callable[[Callable[[], object]], object]:
    """Return what has this loop call a function soon, from any thread."""
    return asyncio.get_running_loop().call_soon_threadsafe


def tasks() -> dict[object, Any]:
    """Return every task of this loop with its coroutine."""
    return {task: task.get_coro() for task in asyncio.all_tasks()}


class _FastLoop(asyncio.SelectorEventLoop):
    """asyncio's loop with a clock that is some seconds fast."""

    def __init__(self, ahead: Callable[[], float]) -> None:
        self._ahead = ahead
        super().__init__()

    def time(self) -> float:
        return super().time() + self._ahead()


def run(
    main: AsyncFunction,
    args: tuple[object, ...],
    loop: str,
    ahead: Callable[[], float] | None = None,
) -> object:
    """Run ``main(*args)`` on a new loop: ``auto``, ``asyncio`` or ``uvloop``."""
    factory: Callable[[], asyncio.AbstractEventLoop] | None = None
    if ahead is not None:
        if loop != "asyncio":
            msg = f"the clock of loop={loop!r} cannot be moved, that of 'asyncio' can"
            raise ValueError(msg)
        factory = partial(_FastLoop, ahead)
    elif loop != "asyncio":
        try:
            import uvloop
        except ImportError:
            if loop == "uvloop":
                msg = "uvloop is not installed: pip install 'tako-server[uvloop]'"
                raise RuntimeError(msg) from None
        else:
            factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(cast("Coroutine[Any, Any, object]", main(*args)))
