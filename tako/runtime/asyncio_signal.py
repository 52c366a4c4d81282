"""``AsyncioSignal``: wakes tasks of asyncio; a module of its own, to be compiled.

Each message of a WebSocket that is waited for is one ``set`` and one ``wait``.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from tako.runtime.asyncio_timeout import wait_at_most


# Of the running loop. Without arguments that is half of what ``create_future`` costs
_new_future: Final[Callable[[], asyncio.Future[bool]]] = asyncio.Future


class AsyncioSignal:
    """``loop.Signal`` on futures; nearly always one task waits, or none."""

    __slots__ = ("_loop", "_others", "_waiter")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiter: asyncio.Future[bool] | None = None
        self._others: set[asyncio.Future[bool]] | None = None  # made when first needed

    def set(self) -> None:
        """Wake every task that waits now."""
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(True)
        if self._others:
            for other in list(self._others):
                if not other.done():
                    other.set_result(True)

    def wait(self, timeout: float | None = None) -> Awaitable[bool]:
        """Wait for the next ``set``. Cancel safety: safe."""
        waiter = _new_future()
        if self._waiter is None or self._waiter.done():
            self._waiter = waiter
        else:
            if self._others is None:
                self._others = set()
            self._others.add(waiter)
            waiter.add_done_callback(self._others.discard)
        return waiter if timeout is None else wait_at_most(self._loop, waiter, timeout)
