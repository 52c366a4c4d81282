"""``Running``: a WebSocket session that runs on a fake exchange."""

from collections.abc import Awaitable, Callable
from typing import Any

from tako.config import ServerConfig
from tako.ws.options import WsOptions
from tako.ws.upgrade import WebSocketUpgrade
from tako.ws.websocket import WebSocket
from tests.support.fake_exchange import FakeExchange
from tests.support.wire import FakeTask


TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
CLOSE_TIMEOUT = 7.0

Session = Callable[[WebSocket], Awaitable[None]]


def masked(first: int, payload: bytes = b"") -> bytes:
    """Return a client's frame of less than 126 bytes; the mask is zero."""
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def plain(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, len(payload)]) + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


class Running:
    """A session that runs on a fake exchange."""

    def __init__(self, session: Session, **options: object) -> None:
        self.exchange = FakeExchange(ServerConfig(ws_close_timeout=CLOSE_TIMEOUT))
        self.runtime = self.exchange.connection.runtime
        self.sockets: list[WebSocket] = []

        async def watched(ws: WebSocket) -> None:
            self.sockets.append(ws)
            await session(ws)

        self.start(watched if session.__name__ != "raw" else session, options)

    def start(self, session: Session, options: dict[str, Any]) -> None:
        exchange = self.exchange
        upgrade = WebSocketUpgrade(exchange.request, session, WsOptions(**options))
        upgrade.attach(exchange.open_tunnel(101, []))
        self.task = self.runtime.spawn(upgrade.run)
        exchange.task = self.task
        self.runtime.run_ready()

    @property
    def ws(self) -> WebSocket:
        return self.sockets[0]

    def deliver(self, *frames: bytes) -> None:
        self.exchange.sink.deliver(b"".join(frames))
        self.runtime.run_ready()

    def sent(self) -> bytes:
        return self.exchange.take()

    def spawn(self, function: Callable[..., Any], *args: object) -> FakeTask:
        task = self.runtime.spawn(function, *args)
        self.runtime.run_ready()
        return task


async def idle(ws: WebSocket) -> None:
    """Wait for the end of the conversation without reading."""
    while True:
        await ws._conversation.writable.signal.wait()


def quiet(**options: object) -> Running:
    return Running(idle, **options)
