"""``picows`` for ``playing``: in its callbacks alone, with bytes and no task."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_connect


class Listener(WSListener):
    tally: Any = None
    data = b""

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        answer = frame.get_payload_as_bytes()
        tally = self.tally
        if len(answer) != len(self.data) or tally.over:
            assert tally.over
            return
        tally.count += 1
        transport.send(WSMsgType.TEXT, self.data)


@asynccontextmanager
async def connecting(target: Any) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    async def connect() -> Any:
        return await ws_connect(Listener, target.url, ssl_context=target.context)

    yield connect


async def pump(ws: Any, message: str, depth: int, tally: Any) -> None:
    transport, listener = ws
    listener.tally, listener.data = tally, message.encode()
    for _ in range(depth):
        transport.send(WSMsgType.TEXT, listener.data)
    await tally.ended.wait()
