"""trio as a ``loop.Runtime``, from its public parts only.

Theory of operation. Everything lives in one nursery: the handlers that the core spawns,
one reader per connection, a writer while a socket does not take our output, and two
helpers: *soon* runs what ``call_soon`` was given, *timers* what ``call_at`` was given.
The nursery is cancelled when the runtime is left, so no task survives it. The helpers
are shielded until then: a server that is being cancelled still has to be told that its
connections are gone.

trio runs tasks in batches and in random order within one. ``call_soon`` promises "after
what is due now"; so *soon* wakes with the tasks that are due and lets one more batch
pass.
"""

import contextlib
import heapq
import logging
import math
import socket
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextvars import copy_context
from itertools import count
from typing import Any, cast

import trio

from tako.core.loop import AsyncFunction, Receiver, Transport
from tako.runtime import kernel, signals
from tako.runtime.backend import Address
from tako.runtime.trio_transport import TrioTransport


_logger = logging.getLogger("tako.server")

_PATIENCE = 3  # seconds for tasks to end once they are cancelled


class TrioSignal:
    """``loop.Signal`` on parked tasks."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[trio.lowlevel.Task] = []

    def set(self) -> None:
        """Wake every task that waits now."""
        if self._waiters:
            waiters, self._waiters = self._waiters, []
            for task in waiters:
                trio.lowlevel.reschedule(task)

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next ``set``. Cancel safety: safe."""
        if timeout is None:
            await self._park()
            return True
        with trio.move_on_after(timeout):
            await self._park()
            return True
        # What arrived before a timeout is read before it: on a late loop, too
        await trio.lowlevel.checkpoint()
        return False

    async def _park(self) -> None:
        task = trio.lowlevel.current_task()
        self._waiters.append(task)

        def abort(_: object) -> trio.lowlevel.Abort:
            self._waiters.remove(task)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)


class TrioTimer:
    """A call that ``_run_timers`` will make, unless it is cancelled."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        """Do not make the call."""
        self.callback = None


class TrioRuntime:
    """``loop.Runtime`` in a nursery of its own."""

    cancelled: type[BaseException] = trio.Cancelled
    checkpoint: Callable[[], Awaitable[None]] | None = staticmethod(
        trio.lowlevel.checkpoint
    )

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._context = copy_context()  # of what is begun, and of the helpers
        self._scopes: set[trio.CancelScope] = set()
        self._ended = TrioSignal()
        self._soon: list[Callable[[], object]] = []
        self._soon_due = TrioSignal()
        self._timers: list[tuple[float, int, TrioTimer]] = []
        self._order = count()
        self._earlier = TrioSignal()
        self._helpers = trio.CancelScope(shield=True)
        self._helping = False
        self.home: _Home | None = None

    def spawn(self, function: AsyncFunction, *args: object) -> trio.CancelScope:
        """Run ``function(*args)`` in a task and a cancel scope of its own."""
        scope = trio.CancelScope()
        self._scopes.add(scope)
        self._nursery.start_soon(self._run_task, scope, function, args)
        return scope

    def begin(self, function: AsyncFunction, *args: object) -> trio.CancelScope:
        """Run ``function(*args)`` as ``spawn`` does, but for its context.

        trio takes no step of a task before the next turn.
        """
        return self._context.run(self.spawn, function, *args)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` once the tasks that are due have run."""
        self._soon.append(callback)
        self._soon_due.set()
        self._need_help()

    flush_soon = call_soon  # one call of the loop for all

    @staticmethod
    def signal() -> TrioSignal:
        """Return a new signal."""
        return TrioSignal()

    @staticmethod
    async def sleep(delay: float, /) -> None:
        """Sleep for ``delay`` seconds. Cancel safety: safe."""
        await trio.sleep(delay)

    @staticmethod
    def cancelling() -> bool:
        """Tell whether the running task is in a scope that was cancelled."""
        return trio.current_effective_deadline() == -math.inf

    def time(self) -> float:
        """Return trio's clock, in seconds."""
        return trio.current_time()

    def call_at(self, when: float, callback: Callable[[], object]) -> TrioTimer:
        """Call ``callback`` at ``when``, in seconds of ``time``."""
        timer = TrioTimer(callback)
        if not self._timers or when < self._timers[0][0]:
            self._earlier.set()
        heapq.heappush(self._timers, (when, next(self._order), timer))
        self._need_help()
        return timer

    def write_all(self, transport: Transport, pieces: list[bytes]) -> None:
        """Send ``pieces``, joined."""
        transport.write(b"".join(pieces))

    def descriptor(self, transport: Transport) -> int:
        """Return -1: ``TrioTransport.write`` sends at once."""
        return -1

    def send_file(self, transport: Transport, file: int, offset: int, size: int) -> int:
        """Send bytes of a file, those that the socket takes at once without a copy."""
        fd = cast("TrioTransport", transport).fileno()
        return kernel.send_file(transport, fd, file, offset, size)

    def unacknowledged(self, transport: Transport) -> int:
        """Return how many bytes the kernel holds for the peer of ``transport``."""
        return kernel.unacknowledged(cast("TrioTransport", transport).fileno())

    def unanswered(self, transport: Transport) -> float:
        """Return since when the peer of ``transport`` acknowledges nothing."""
        return kernel.unanswered(cast("TrioTransport", transport).fileno())

    def round_trip(self, transport: Transport) -> float | None:
        """Return the seconds of a round trip to the peer of ``transport``."""
        return kernel.round_trip(cast("TrioTransport", transport).fileno())

    def hung_up(self, transport: Transport) -> bool:
        """Tell whether the peer of ``transport`` takes no more output."""
        return kernel.hung_up(cast("TrioTransport", transport).fileno())

    def peer_ended(self, transport: Transport) -> bool:
        """Tell whether the FIN of the peer of ``transport`` is here."""
        return kernel.peer_ended(cast("TrioTransport", transport).fileno())

    async def accept(self, listener: socket.socket) -> tuple[socket.socket, object]:
        """Accept one connection. Cancel safety: safe."""
        while True:
            await trio.lowlevel.wait_readable(listener)
            try:
                return listener.accept()
            except BlockingIOError:  # another process was faster
                continue

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host. Cancel safety: safe."""
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        return [(int(family), address) for family, _, _, _, address in found]

    async def dial(self, address: Address) -> socket.socket:
        """Return a socket that is connected. Cancel safety: safe."""
        sock = kernel.new_socket(address[0])
        try:
            await trio.socket.from_stdlib_socket(sock).connect(address[1])
        except BaseException:
            sock.close()
            raise
        return sock

    def keep(self) -> None:
        """Need the runtime once more; see ``borrow``."""
        if self.home is not None:
            self.home.users += 1

    def give_back(self) -> None:
        """Need the runtime no longer; see ``borrow``."""
        if self.home is not None:
            self.home.left()

    async def attach(self, sock: socket.socket, connection: Receiver) -> None:
        """Serve ``sock`` with ``connection``."""
        sock.setblocking(False)
        transport = TrioTransport(self, self._nursery, sock, connection)
        connection.connection_made(transport)
        self._nursery.start_soon(transport.read)
        await trio.lowlevel.checkpoint()

    async def finished(self) -> None:
        """Wait until every task that was spawned has ended. Cancel safety: safe."""
        while self._scopes:
            await self._ended.wait()

    @property
    def busy(self) -> int:
        """How many tasks have not ended."""
        return len(self._scopes)

    def cancel_tasks(self) -> None:
        """Cancel every task that was spawned."""
        for scope in self._scopes:
            scope.cancel()

    async def stop(self) -> None:
        """End everything, the helpers included; log an error if a task goes on."""
        self._helpers.cancel()
        self._nursery.cancel_scope.cancel()
        with trio.move_on_after(_PATIENCE, shield=True):
            await self.finished()
        if self._scopes:
            _logger.error(
                "%d task(s) go on though cancelled for %d s: waiting for them",
                len(self._scopes),
                _PATIENCE,
            )

    async def run_within(
        self, timeout: float, function: AsyncFunction, *args: object
    ) -> object:
        """Return ``await function(*args)``.

        Raises:
            TimeoutError: it took longer than ``timeout`` seconds and was cancelled.

        Cancel safety: as ``function``.
        """
        with trio.move_on_after(timeout):
            return await function(*args)
        raise TimeoutError

    async def shielded(self, function: AsyncFunction) -> None:
        """Await ``function()`` even where we are being cancelled."""
        with trio.CancelScope(shield=True):
            await function()

    async def _run_task(
        self, scope: trio.CancelScope, function: AsyncFunction, args: tuple[object, ...]
    ) -> None:
        try:
            with scope:
                await function(*args)
        finally:
            self._scopes.discard(scope)
            self._ended.set()

    def _need_help(self) -> None:
        """Start the helpers; a runtime for one request seldom needs any."""
        if not self._helping:
            self._helping = True
            self._context.run(self._nursery.start_soon, self._help)

    async def _help(self) -> None:
        with self._helpers:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._run_soon)
                nursery.start_soon(self._run_timers)

    async def _run_soon(self) -> None:
        while True:
            if not self._soon:
                await self._soon_due.wait()
            await trio.lowlevel.checkpoint()
            due, self._soon = self._soon, []
            for callback in due:
                _call(callback)

    async def _run_timers(self) -> None:
        timers = self._timers
        while True:
            now = trio.current_time()
            if timers and timers[0][0] <= now:
                await trio.lowlevel.checkpoint()  # as in TrioSignal.wait
            while timers and timers[0][0] <= now:
                callback = heapq.heappop(timers)[2].callback
                if callback is not None:
                    _call(callback)
            wait = timers[0][0] - now if timers else None
            await self._earlier.wait(wait)


signal: Callable[[], TrioSignal] = TrioRuntime.signal


async def sleep(delay: float, /) -> None:
    """Sleep for ``delay`` seconds. Cancel safety: safe."""
    await TrioRuntime.sleep(delay)


def _call(callback: Callable[[], object]) -> None:
    """Call ``callback``: a bug in it must not end the helper of the others."""
    try:
        callback()
    except Exception:
        _logger.exception("a callback failed")


class _Home:
    """The runtime that the clients of a run of trio borrow, in a system task.

    A nursery of the caller's would be neater, but cannot be left before what was
    opened in it: an iteration that is broken off would break it.
    """

    def __init__(self) -> None:
        self.runtime: TrioRuntime | None = None
        self.users: int = 0
        self._begun = trio.Event()
        self._unused = trio.Event()

    async def enter(self) -> TrioRuntime:
        """Count a user."""
        self.users += 1
        try:
            while self.runtime is None:
                await self._begun.wait()
        except BaseException:
            self.left()
            raise
        return self.runtime

    def left(self) -> None:
        """Count a user less; the last one ends the runtime."""
        self.users -= 1
        if not self.users:
            if _home.get() is self:
                _home.set(None)
            self._unused.set()

    async def run(self) -> None:
        """Be the runtime until it is unused; let no exception end the program."""
        try:
            async with _open_nursery() as nursery:
                self.runtime = TrioRuntime(nursery)
                self.runtime.home = self
                self._begun.set()
                try:
                    await self._unused.wait()
                finally:
                    await self.runtime.stop()
        except Exception:
            _logger.exception("a task of a client failed")


_home: trio.lowlevel.RunVar[_Home | None] = trio.lowlevel.RunVar("tako.home", None)


async def borrow() -> TrioRuntime:
    """Provide the runtime of this run's clients; it ends with the last of them."""
    home = _home.get()
    if home is None:
        home = _Home()
        _home.set(home)
        trio.lowlevel.spawn_system_task(home.run)
    return await home.enter()


@contextlib.asynccontextmanager
async def open_runtime() -> AsyncGenerator[TrioRuntime, None]:
    """Provide a runtime; when the block ends its tasks are cancelled and have ended."""
    async with _open_nursery() as nursery:
        runtime = TrioRuntime(nursery)
        try:
            yield runtime
        finally:
            await runtime.stop()


@contextlib.asynccontextmanager
async def beside(function: AsyncFunction) -> AsyncGenerator[Callable[[], None], None]:
    """Run ``function()`` beside the block; yield what cancels the block."""
    async with _open_nursery() as nursery:
        nursery.start_soon(function)
        try:
            with trio.CancelScope() as block:
                yield block.cancel
        finally:
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def _open_nursery() -> AsyncGenerator[trio.Nursery, None]:
    """Provide a nursery.

    A single exception leaves it as it is, not in a group, as on asyncio.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        error = _alone(group)
        if error is group:
            raise
        context = error.__context__
        try:
            raise error
        finally:
            error.__context__ = context  # and not the group


def _alone(error: BaseException) -> BaseException:
    """Return ``error``, or what is in it if it is a group of one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    group = cast("BaseExceptionGroup[BaseException]", error)
    return _alone(group.exceptions[0]) if len(group.exceptions) == 1 else group


async def to_thread(function: Callable[[], object]) -> object:
    """Return what ``function`` returns in a thread. Cancel safety: waits for it."""
    return await trio.to_thread.run_sync(function)


@contextlib.contextmanager
def interrupts() -> Generator[Callable[[], Awaitable[None]], None, None]:
    """Take SIGINT and SIGTERM; yield a function that waits for the first."""
    token = trio.lowlevel.current_trio_token()
    come = trio.Event()

    with signals.waiting(token, come.set, token.run_sync_soon):
        yield come.wait


def caller() -> Callable[[Callable[[], object]], object]:
    """Return what has this loop call a function soon, from any thread."""
    return trio.lowlevel.current_trio_token().run_sync_soon


def tasks() -> dict[object, Any]:
    """Return every task of this loop with its coroutine, trio's own ones, too."""
    found: dict[object, Any] = {}
    unseen = [trio.lowlevel.current_root_task()]
    while unseen:
        task = unseen.pop()
        if task is not None:
            found[task] = task.coro
            for nursery in task.child_nurseries:
                unseen += nursery.child_tasks
    return found


class _FastClock(trio.abc.Clock):
    """A clock that is some seconds fast."""

    def __init__(self, ahead: Callable[[], float]) -> None:
        self._ahead = ahead

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return time.monotonic() + self._ahead()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return deadline - self.current_time()


def run(
    main: AsyncFunction,
    args: tuple[object, ...],
    loop: str,
    ahead: Callable[[], float] | None = None,
) -> object:
    """Run ``main(*args)`` to its end; trio has one loop, ``loop`` must be ``auto``."""
    if loop != "auto":
        msg = f"loop={loop!r} is for asyncio; trio brings its own"
        raise ValueError(msg)
    clock = None if ahead is None else _FastClock(ahead)
    return trio.run(main, *args, clock=clock)
