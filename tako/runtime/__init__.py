"""The I/O edge: which runtime is calling, and what tako needs of it.

Only this package imports asyncio, trio or a socket's event loop. A backend module has

* ``open_runtime(nursery)``: an async context manager that yields a ``ServerRuntime``,
  and says so where tasks do not end when they are cancelled;
* ``beside(function)``: an async context manager that runs a function beside its block;
* ``interrupts()``: a context manager that yields what waits for SIGINT or SIGTERM;
* ``to_thread(function, *args)``, ``sleep(seconds)``, ``run(...)``.
"""

import contextlib
import contextvars
import gc
import socket
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Protocol

from tako.core.loop import AsyncFunction, Receiver, Runtime, Signal
from tako.runtime import signals as _signals


_YOUNG_OBJECTS = 10_000  # that the collector lets come together before it looks
_LARGE_BLOCK = 4 << 20  # bytes
_managed: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "tako_run", default=False
)


class ServerRuntime(Runtime, Protocol):
    """A ``Runtime`` that can also serve sockets; owns the tasks that it starts."""

    async def accept(self, listener: socket.socket) -> socket.socket:
        """Accept one connection; raises ``OSError``."""
        ...

    async def attach(self, sock: socket.socket, connection: Receiver) -> None:
        """Serve ``sock`` with ``connection``; returns at once."""
        ...

    async def finished(self) -> None:
        """Wait until every task that was started has ended."""
        ...

    @property
    def busy(self) -> int:
        """How many tasks have not ended."""
        ...

    def cancel_tasks(self) -> None:
        """Cancel every task that was started."""
        ...

    async def shielded(self, function: AsyncFunction) -> None:
        """Await ``function()`` even where the caller is being cancelled."""
        ...

    async def run_within(
        self, timeout: float, function: AsyncFunction, *args: object
    ) -> Any:
        """Return ``await function(*args)``, or raise ``TimeoutError``."""
        ...


class Backend(Protocol):
    """A module of this package, seen as an object."""

    def open_runtime(
        self, nursery: Any = None, /
    ) -> AbstractAsyncContextManager[ServerRuntime]:
        """Provide a runtime; at its end the tasks are cancelled and have ended."""
        ...

    def beside(
        self, function: AsyncFunction, /
    ) -> AbstractAsyncContextManager[Callable[[], None]]:
        """Run ``function()``, which does not fail, beside the block.

        Yields what cancels the block from outside: it then ends without an exception.
        ``function`` begins in any case; when the block ends it is cancelled, and has
        ended when the block is left.
        """
        ...

    def signal(self) -> Signal:
        """Return a new signal."""
        ...

    def interrupts(self) -> AbstractContextManager[Callable[[], Awaitable[None]]]:
        """Take SIGINT and SIGTERM; provide what waits for the first of them."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Sleep."""
        ...

    async def to_thread(self, function: Callable[[], Any]) -> Any:
        """Return what ``function`` returns in a thread."""
        ...

    def run(self, main: AsyncFunction, args: tuple[object, ...], loop: str) -> Any:
        """Run ``main(*args)`` to its end."""
        ...


def current() -> Backend:
    """Return the backend of the runtime that is calling.

    Raises:
        RuntimeError: neither asyncio nor trio is running here.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return _backend("trio")
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return _backend("asyncio")
    msg = "tako must be awaited from asyncio or trio: start with tako.run(main)"
    raise RuntimeError(msg)


def _backend(name: str) -> Backend:
    if name == "asyncio":
        from tako.runtime import asyncio_loop

        return asyncio_loop
    if name == "trio":
        try:
            from tako.runtime import trio_loop
        except ImportError:
            msg = "trio is not installed: pip install 'tako-server[trio]'"
            raise RuntimeError(msg) from None
        return trio_loop
    msg = f'runtime is "asyncio" or "trio", not {name!r}'
    raise ValueError(msg)


def managed() -> bool:
    """Tell whether ``run`` started us, in the main thread: signals are ours to take."""
    # the variable is inherited by threads
    return _managed.get() and threading.current_thread() is threading.main_thread()


def run(
    main: AsyncFunction,
    *args: object,
    runtime: str = "asyncio",
    loop: str = "auto",
) -> Any:
    """Run ``main(*args)`` on a new event loop and return what it returns.

    A server that is started inside without ``shutdown=`` drains on SIGINT and SIGTERM;
    a second signal ends the process at once, whatever it is doing, as a signal ends one
    that takes no care of it (a shell sees 128 and its number). The signals are taken
    before the server says that it listens, and given back when ``run`` returns; several
    servers drain together. While it runs, the garbage
    collector looks for cycles less often (``gc.set_threshold``), unless you have set
    it so already; glibc's ``malloc`` keeps up to 8 MiB that are free, also afterwards.

    Args:
        main: an async function.
        args: its arguments.
        runtime: ``"asyncio"`` or ``"trio"`` (extra ``tako-server[trio]``).
        loop: for asyncio: ``"auto"`` takes uvloop where it is installed, ``"uvloop"``
            insists on it, ``"asyncio"`` takes the standard loop.

    Raises:
        RuntimeError: the runtime or the loop asked for is not installed.
        ValueError: there is no such runtime or loop.
    """
    if loop not in {"auto", "asyncio", "uvloop"}:
        msg = f'loop is "auto", "asyncio" or "uvloop", not {loop!r}'
        raise ValueError(msg)
    backend = _backend(runtime)
    thresholds = gc.get_threshold()
    _tune_collector(thresholds)
    _tune_allocator()
    token = _managed.set(True)
    try:
        with _signals.given_back():
            return backend.run(main, args, loop)
    finally:
        _managed.reset(token)
        gc.set_threshold(*thresholds)


def _tune_collector(thresholds: tuple[int, int, int]) -> None:
    """Let the collector of cycles cost a server less (DESIGN.md has the figures)."""
    # What was imported stays: without it a full collection takes a third of the time,
    # and that is how long every socket waits for it (40 to 70 ms before).
    gc.collect()
    gc.freeze()
    # A connection is a few hundred objects: most are gone before the next look.
    if 0 < thresholds[0] < _YOUNG_OBJECTS:
        gc.set_threshold(_YOUNG_OBJECTS, *thresholds[1:])


def _tune_allocator() -> None:
    """Let large messages cost no page faults (DESIGN.md has the figures)."""
    # glibc gives the top of the heap back to the kernel beyond a threshold, 128 KiB at
    # first, and asks for it again for the next message. It raises the threshold to
    # twice the size of the largest mapped block that was freed (mallopt(3),
    # M_MMAP_THRESHOLD). No byte of this one is touched; elsewhere nothing happens.
    bytes(_LARGE_BLOCK)


def signalled() -> bool:
    """Tell whether a signal that somebody waited for came: the next is deadly."""
    return _signals.come()


async def sleep(seconds: float) -> None:
    """Sleep for ``seconds`` on the runtime that is calling.

    Cancel safety: safe.
    """
    await current().sleep(seconds)


def ctrl_c() -> Coroutine[Any, Any, None]:
    """Wait for SIGINT (Ctrl-C) or SIGTERM; made for ``shutdown=tako.ctrl_c()``.

    The signals are taken from the call on, not only while it is awaited, so a program
    can call it before it tells anybody that it listens. The next signal after the first
    ends the process at once, unless somebody waits for it again, until ``tako.run``
    returns; on a loop that somebody else runs, for good.

    Cancel safety: safe.
    """
    if threading.current_thread() is not threading.main_thread():
        return _interrupted()  # which raises
    try:
        backend = current()
    except RuntimeError:
        return _interrupted()  # the loop is still to come
    stack = contextlib.ExitStack()
    waiting = _wait(stack, stack.enter_context(backend.interrupts()))
    weakref.finalize(waiting, stack.close)  # it may never be awaited
    return waiting


async def _interrupted() -> None:
    with current().interrupts() as wait:
        await wait()


async def _wait(
    stack: contextlib.ExitStack, wait: Callable[[], Awaitable[None]]
) -> None:
    with stack:
        await wait()
