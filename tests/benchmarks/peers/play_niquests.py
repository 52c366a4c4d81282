"""``niquests`` for ``playing``, over HTTP/1.1 and RFC 8441."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import niquests


@asynccontextmanager
async def connecting(target: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    url = target.url
    if target.wire == "h2":
        url = url.replace("wss://", "wss+rfc8441://")
    async with niquests.AsyncSession() as session:

        async def connect() -> Any:
            response = await session.get(url, verify=target.ca or True)
            assert response.http_version == (20 if target.wire == "h2" else 11)
            assert response.extension is not None
            return response.extension

        yield connect


async def pump(ws: Any, message: str, depth: int, tally: Any) -> None:
    for _ in range(depth):
        await ws.send_payload(message)
    while True:
        answer = await ws.next_payload()
        if len(answer) != len(message) or tally.over:
            assert tally.over
            return
        tally.count += 1
        await ws.send_payload(message)
