"""Which event loop is running, and what it offers beside a connection's ``Runtime``.

A backend is a *module* of this package, ``asyncio_loop`` or ``trio_loop``, seen as an
object of type ``Backend``; ``current()`` finds it. It opens runtimes, and has what a
program needs before it opens one. A runtime has three layers: ``loop.Runtime`` is what
connections see, ``OpenRuntime`` what its owner needs in either role, and
``ServerRuntime`` accepts; ``ClientRuntime`` dials. A client's is borrowed: it lives for
as long as a connection does, whatever becomes of the task that has opened that.
"""

import socket
import sys
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from time import monotonic
from typing import Any, Protocol, TypeAlias

from tako.core.loop import AsyncFunction, Receiver, Runtime, Signal


class OpenRuntime(Runtime, Protocol):
    """A ``Runtime`` as its owner sees it. It owns the tasks that it starts."""

    async def attach(self, sock: socket.socket, connection: Receiver) -> None:
        """Let ``connection`` talk over ``sock``; returns at once.

        ``sock`` need not be non-blocking; it is then.
        """
        ...

    async def finished(self) -> None:
        """Wait until every task that was started has ended. Cancel safety: safe."""
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
        """Return ``await function(*args)``. Cancel safety: as ``function``.

        Raises:
            TimeoutError: it took longer than ``timeout`` seconds and was cancelled.
        """
        ...


class ServerRuntime(OpenRuntime, Protocol):
    """A runtime that can also serve listening sockets."""

    async def accept(self, listener: socket.socket) -> tuple[socket.socket, object]:
        """Accept one connection; return it with its peer's address, as ``socket`` does.

        Cancel safety: safe.

        Raises:
            OSError: the kernel cannot, for now or for ever.
        """
        ...


Socket: TypeAlias = socket.socket
"""A socket, for code that only hands it on."""

Address: TypeAlias = tuple[int, Any]
"""Where to connect to: a family, and an address as ``socket`` has it."""


class ClientRuntime(OpenRuntime, Protocol):
    """A runtime that can also dial; made by ``Backend.borrow``."""

    async def resolve(self, host: str, port: int) -> list[Address]:
        """Return the addresses of a host, in the order of the system.

        Cancel safety: safe.

        Raises:
            OSError: it has none.
        """
        ...

    async def dial(self, address: Address) -> socket.socket:
        """Return a socket that is connected to ``address``.

        Cancel safety: safe; the socket is closed.

        Raises:
            OSError: it cannot be.
        """
        ...

    def keep(self) -> None:
        """Need the runtime once more, as if it was borrowed again."""
        ...

    def give_back(self) -> None:
        """Need the runtime no longer; called once for each ``borrow`` and ``keep``."""
        ...


class Backend(Protocol):
    """A module of this package, seen as an object."""

    def open_runtime(self) -> AbstractAsyncContextManager[ServerRuntime]:
        """Provide a runtime; at its end the tasks are cancelled and have ended.

        Tasks that go on although they are cancelled are logged as an error.
        """
        ...

    async def borrow(self) -> ClientRuntime:
        """Provide a runtime until ``give_back``, in whichever task that is called.

        Its tasks must let no exception escape: they run in no scope of the caller's.
        """
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
        """Take SIGINT and SIGTERM; provide a function that waits for the first."""
        ...

    async def sleep(self, delay: float, /) -> None:
        """Sleep for ``delay`` seconds. Cancel safety: safe."""
        ...

    async def to_thread(self, function: Callable[[], Any]) -> Any:
        """Return what ``function`` returns in a thread.

        Cancel safety: on asyncio the thread goes on alone, on trio it is waited for.
        """
        ...

    def caller(self) -> Callable[[Callable[[], object]], object]:
        """Return what has this loop call a function soon, from any thread.

        It raises ``RuntimeError`` once the loop has ended.
        """
        ...

    def tasks(self) -> dict[object, Any]:
        """Return every task of this loop with its coroutine; the caller's, too."""
        ...

    def run(
        self,
        main: AsyncFunction,
        args: tuple[object, ...],
        loop: str,
        ahead: Callable[[], float] | None = None,
    ) -> Any:
        """Run ``main(*args)`` to its end; the loop's clock is ``ahead()`` s fast.

        Raises:
            ValueError: there is no such loop, or its clock cannot be moved.
        """
        ...


__all__ = [
    "Address",
    "Backend",
    "ClientRuntime",
    "OpenRuntime",
    "ServerRuntime",
    "Socket",
    "backend",
    "current",
    "monotonic",
    "sleep",
]


def current() -> Backend:
    """Return the backend of the event loop that is running here.

    Raises:
        RuntimeError: neither asyncio nor trio is running here.
    """
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_task():
        return backend("trio")
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return backend("asyncio")
    msg = "tako must be awaited from asyncio or trio: start with tako.run(main)"
    raise RuntimeError(msg)


def backend(name: str) -> Backend:
    """Return the backend of a name.

    Raises:
        RuntimeError: it is not installed.
        ValueError: there is none of that name.
    """
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


async def sleep(seconds: float) -> None:
    """Sleep for ``seconds`` on the event loop that is running, asyncio or trio.

    Raises:
        RuntimeError: neither is running here.

    Cancel safety: safe.
    """
    await current().sleep(seconds)
