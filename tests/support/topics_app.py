"""Topics over Redis, for the command: ``tests.support.topics_app:router``.

A follower of ``/relayed/{topic}`` or ``/iterated/{topic}`` gets ``position data`` for
each item and ``gap cause`` for each gap; ``?since=`` is where it was.
"""

import os

from tako import Request, Router, TakoWs, WebSocket
from tako.topics import Feed, Gap, History, Item, Topics
from tako.topics.redis import RedisEngine


BOUND = 32
KEPT = History(messages=5_000, size=64 << 20)

router = Router()
topics = Topics(RedisEngine(os.environ["TOPICS_URL"], history=KEPT, timeout=1.0))


def told(item: Item) -> str:
    """Return what a follower is sent for an item."""
    return f"{item.position} {item.data!s}"


def gap(missing: Gap) -> str:
    """Return what it is sent for a gap."""
    return f"gap {missing.cause.name}"


def _feed(request: Request, topic: str) -> Feed:
    since = request.query_params.get("since")
    return topics.subscribe(topic, since=since, bound=BOUND)


async def relayed(request: Request, topic: str) -> TakoWs:
    """Send what comes, without a task for each message."""

    async def session(ws: WebSocket) -> None:
        async with _feed(request, topic) as feed:
            await ws.relay(feed, encode=told, on_gap=gap)

    return TakoWs(request, session)


async def iterated(request: Request, topic: str) -> TakoWs:
    """Send what comes, in a loop of the handler's own."""

    async def session(ws: WebSocket) -> None:
        async with _feed(request, topic) as feed:
            async for item in feed:
                await ws.send(gap(item) if isinstance(item, Gap) else told(item))

    return TakoWs(request, session)


router.get("/relayed/{topic}", relayed)
router.get("/iterated/{topic}", iterated)
