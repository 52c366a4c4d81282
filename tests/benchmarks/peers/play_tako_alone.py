"""``tako.connect`` for ``playing``: a connection for each WebSocket, on either wire."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from play_tako import pump

import tako


__all__ = ["connecting", "pump"]


@asynccontextmanager
async def connecting(target: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async def connect() -> tako.WebSocket:
        return await tako.connect(
            target.url,
            ssl=target.context,
            compression=None,
            http_versions=["2" if target.wire == "h2" else "1.1"],
        )

    yield connect
