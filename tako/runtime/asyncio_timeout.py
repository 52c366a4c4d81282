"""``wait_at_most``: beside ``AsyncioSignal``, because no coroutine may be compiled."""

import asyncio
from functools import partial

from tako.core.late_loop import PatientTimer


async def wait_at_most(
    loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[bool], timeout: float
) -> bool:
    """Wait for a future; ``False``: it took longer than ``timeout`` seconds.

    Cancel safety: safe.
    """
    # A late loop may have what was waited for unread: uvloop looks at timers first
    timer = PatientTimer(loop, partial(_expire, waiter))
    timer.set(loop.time() + timeout)
    try:
        return await waiter
    finally:
        timer.cancel()


def _expire(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
