"""``aiohttp`` for ``playing``."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp


@asynccontextmanager
async def connecting(target: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    connector = aiohttp.TCPConnector(limit=0, ssl=target.context or False)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def connect() -> Any:
            return await session.ws_connect(target.url, compress=0)

        yield connect


async def pump(ws: Any, message: str, depth: int, tally: Any) -> None:
    for _ in range(depth):
        await ws.send_str(message)
    async for answer in ws:
        if len(answer.data) != len(message) or tally.over:
            assert tally.over
            return
        tally.count += 1
        await ws.send_str(message)
