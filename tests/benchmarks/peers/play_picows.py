"""``picows`` for ``playing``: its callbacks put messages into a queue.

So a task reads them one after the other, which is what the others offer.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect


class Listener(WSListener):
    def __init__(self) -> None:
        self.messages: asyncio.Queue[str] = asyncio.Queue()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self.messages.put_nowait(frame.get_payload_as_utf8_text())


@asynccontextmanager
async def connecting(target: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async def connect() -> Any:
        return await ws_connect(Listener, target.url, ssl_context=target.context)

    yield connect


async def pump(ws: Any, message: str, depth: int, tally: Any) -> None:
    transport, listener = ws
    data = message.encode()
    for _ in range(depth):
        transport.send(WSMsgType.TEXT, data)
    while True:
        answer = await listener.messages.get()
        if len(answer) != len(message) or tally.over:
            assert tally.over
            return
        tally.count += 1
        transport.send(WSMsgType.TEXT, message.encode())
