"""What a reader of a ``Feed`` waits for: coroutines, which are not compiled.

``Feed`` says what each does, and is where they are called.
"""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar


if TYPE_CHECKING:
    from tako.core.loop import Runtime, Signal
    from tako.topics.feed import Feed, FindOwner
    from tako.topics.item import Gap, Item

    FeedT = TypeVar("FeedT", bound=Feed)

Checkpoint: TypeAlias = Callable[[], Awaitable[None]]


async def entered(
    feed: "FeedT",
    find_owner: "Callable[[], FindOwner]",
    begin: "Callable[[Runtime], None]",
) -> "FeedT":
    """See ``Feed.__aenter__``."""
    find = find_owner()
    owner = await find()
    begin(await owner.enter(feed))
    return feed


async def next_entry(
    begin: "Callable[[], Checkpoint | None]",
    pop: "Callable[[], Item | Gap | None]",
    arrival: "Callable[[], Signal]",
) -> "Item | Gap":
    """See ``Feed.__anext__``."""
    checkpoint = begin()
    if checkpoint is not None:
        await checkpoint()
    while (entry := pop()) is None:
        await arrival().wait()
    return entry


async def left(leave: "Callable[[], None]") -> None:
    """See ``Feed.__aexit__``."""
    leave()
