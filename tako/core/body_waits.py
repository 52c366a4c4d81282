"""What a handler waits for at a ``BodySink``: coroutines, which are not compiled.

``BodySink`` says what each does, and is where they are called.
"""

from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from tako.core.request_body import BodySink


async def next_chunk(body: "BodySink") -> bytes:
    """See ``BodySink.next_chunk``."""
    checkpoint = body.runtime.checkpoint
    if checkpoint is not None and body.waits:
        await checkpoint()
    while (chunk := body.take()) is None:
        await body.wanted().wait()
    return chunk


async def arrived(body: "BodySink", timeout: float) -> None:
    """See ``BodySink.arrived``."""
    while not body.settled:
        if not await body.arrival().wait(timeout):
            return


async def until_left(body: "BodySink") -> None:
    """See ``BodySink.until_left``."""
    checkpoint = body.runtime.checkpoint
    if checkpoint is not None and body.left:
        await checkpoint()
    while not body.left:
        await body.departure().wait()


async def writable_again(body: "BodySink") -> None:
    """See ``BodySink.writable_again``."""
    room = body.room()
    if room is not None:
        await room.wait()
