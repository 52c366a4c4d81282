"""``tako.Client`` for ``playing``: many WebSockets, over HTTP/2 on one connection."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import tako


@asynccontextmanager
async def connecting(target: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    options: dict[str, Any] = {
        "ssl": target.context,
        "compression": None,
        "http_versions": ["2" if target.wire == "h2" else "1.1"],
    }
    async with tako.Client(**options) as client:

        async def connect() -> Any:
            return await client.connect(target.url)

        yield connect


async def pump(ws: Any, message: str, depth: int, tally: Any) -> None:
    for _ in range(depth):
        await ws.send(message)
    async for answer in ws:
        if len(answer) != len(message) or tally.over:
            assert tally.over
            return
        tally.count += 1
        await ws.send(message)
