"""``run``: a program from its first line to its last, and its end by a signal.

``run`` makes the loop, tunes the collector and the allocator for a server, and lets
servers inside take SIGINT and SIGTERM (``managed``). ``ctrl_c`` waits for them by hand.
"""

import contextlib
import contextvars
import gc
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tako.core.loop import AsyncFunction
from tako.runtime import signals
from tako.runtime.backend import backend, current


_YOUNG_OBJECTS = 10_000  # new ones between two runs of the collector
_LARGE_BLOCK = 8 << 20  # bytes
_managed: contextvars.ContextVar[bool] = contextvars.ContextVar(
    "tako_run", default=False
)


def run(
    main: AsyncFunction,
    *args: object,
    runtime: str = "asyncio",
    loop: str = "auto",
) -> Any:
    """Run ``main(*args)`` on a new event loop and return what it returns.

    A server that is started inside without ``shutdown=`` drains on SIGINT and SIGTERM;
    a second signal ends the process at once, whatever it is doing, by the signal's
    default action (a shell sees 128 and its number). The signals are taken before the
    server says that it listens, and given back when ``run`` returns; several servers
    drain together. While it runs, the garbage collector looks for cycles less often
    (``gc.set_threshold``), unless you have set it so already; glibc's ``malloc`` keeps
    up to 16 MiB that are free, also afterwards.

    Args:
        main: an async function.
        args: its arguments.
        runtime: ``"asyncio"`` or ``"trio"`` (extra ``tako-server[trio]``).
        loop: for asyncio: ``"auto"`` takes uvloop where it is installed, ``"uvloop"``
            insists on it, ``"asyncio"`` takes the standard loop.

    Raises:
        RuntimeError: the runtime or the loop asked for is not installed.
        ValueError: there is no such runtime or loop.

    Example::

        async def main() -> None:
            await tako.serve("127.0.0.1:8080", router)

        tako.run(main)
    """
    if loop not in {"auto", "asyncio", "uvloop"}:
        msg = f'loop is "auto", "asyncio" or "uvloop", not {loop!r}'
        raise ValueError(msg)
    chosen = backend(runtime)
    thresholds = gc.get_threshold()
    _tune_collector(thresholds)
    _tune_allocator()
    token = _managed.set(True)
    try:
        with signals.given_back():
            return chosen.run(main, args, loop)
    finally:
        _managed.reset(token)
        gc.set_threshold(*thresholds)


def managed() -> bool:
    """Tell whether this is the main thread inside ``run``: tako may take signals."""
    # the variable is inherited by threads
    return _managed.get() and threading.current_thread() is threading.main_thread()


def signalled() -> bool:
    """Tell whether a signal was received: the next one ends the process."""
    return signals.come()


def ctrl_c() -> Coroutine[Any, Any, None]:
    """Wait for SIGINT (Ctrl-C) or SIGTERM; made for ``shutdown=tako.ctrl_c()``.

    The signals are taken from the call on, not only while it is awaited, so a program
    can call it before it announces that it listens. The next signal after the first
    ends the process at once, unless it is waited for again. ``tako.run`` gives the
    signals back when it returns; on a loop that was started otherwise they stay taken.

    Raises, when it is awaited:
        RuntimeError: neither asyncio nor trio is running here.
        ValueError: this is not the main thread.

    Cancel safety: safe.
    """
    if threading.current_thread() is not threading.main_thread():
        return _interrupted()  # which raises
    try:
        interrupts = current().interrupts()
    except RuntimeError:
        return _interrupted()  # the loop is still to come
    stack = contextlib.ExitStack()
    waiting = _wait(stack, stack.enter_context(interrupts))
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


def _tune_collector(thresholds: tuple[int, int, int]) -> None:
    """Let the collector cost a server less (figures: tests/benchmarks/RESULTS.md)."""
    # What was imported stays: without it a full collection takes a third of the time,
    # and that is how long every socket waits for it (40 to 70 ms before).
    gc.collect()
    gc.freeze()
    # A connection is a few hundred objects: most are gone before the next look.
    if 0 < thresholds[0] < _YOUNG_OBJECTS:
        gc.set_threshold(_YOUNG_OBJECTS, *thresholds[1:])


def _tune_allocator() -> None:
    """Let large messages cost no page faults (tests/benchmarks/RESULTS.md)."""
    # glibc gives the top of the heap back to the kernel beyond a threshold, 128 KiB at
    # first, and asks for it again for the next message. It raises the threshold to
    # twice the size of the largest mapped block that was freed (mallopt(3),
    # M_MMAP_THRESHOLD). No byte of this one is touched; elsewhere nothing happens.
    bytes(_LARGE_BLOCK)
