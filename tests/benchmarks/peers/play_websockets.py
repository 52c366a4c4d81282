"""``websockets`` for ``playing``."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from websockets.asyncio.client import connect as open_websocket


@asynccontextmanager
async def connecting(target: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async def connect() -> Any:
        return await open_websocket(
            target.url, ssl=target.context, compression=None, proxy=None
        )

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
