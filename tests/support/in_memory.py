"""A server's connection in memory, on any runtime: what a client sends, and gets."""

from functools import partial
from typing import Any, Literal, TypeAlias

import hpack

from tako.asgi import AsgiApp
from tako.config import ServerConfig
from tako.core.loop import Runtime
from tako.h2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tako.http.conn_info import IpPeer
from tako.routing.router import Router
from tako.server.connection import TcpConnection
from tako.server.engines import ENGINES
from tako.server.pipeline import run_exchange
from tests.support.h2wire import data
from tests.support.peer_ws import encode_frame
from tests.support.wire import FakeTransport


MemoryWire: TypeAlias = Literal["http/1.1", "h2"]

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\n"
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_CONNECT = (
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/ws"),
    ("sec-websocket-version", "13"),
)


class MemoryClient:
    """A client of a ``TcpConnection`` that has no socket."""

    def __init__(
        self,
        runtime: Runtime,
        app: Router | AsgiApp,
        wire: MemoryWire,
        config: ServerConfig | None = None,
    ) -> None:
        self.wire = wire
        self.transport = FakeTransport()
        timer: Any = runtime
        dispatch = partial(app.dispatch, timer=timer)
        self.connection = TcpConnection(
            runtime,
            config or ServerConfig(),
            partial(run_exchange, dispatch),
            engines=ENGINES,
            protocol=wire,
            tls=None,
            peer=IpPeer("127.0.0.1", 50000),
            local=IpPeer("127.0.0.1", 80),
            on_lost=_forget,
        )
        self.connection.connection_made(self.transport)
        self._encoder = hpack.Encoder()
        self._next_stream = 1
        if wire == "h2":
            greeting = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)
            self.connection.data_received(greeting)

    def request(self, path: str = "/", method: str = "GET", *, body: int = 0) -> None:
        """Send a request; ``send_body`` sends the body, if it has ``body`` bytes."""
        if self.wire == "http/1.1":
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
            if body:
                head += f"content-length: {body}\r\n"
            self.connection.data_received(head.encode() + b"\r\n")
            return
        fields = [
            (":method", method),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", path),
        ]
        if body:
            fields.append(("content-length", str(body)))
        self._open_stream(fields, end=not body)

    def send_body(self, octets: bytes) -> None:
        """Send the whole body of the last request."""
        if self.wire == "h2":
            octets = data(self._next_stream - 2, octets, end=True)
        self.connection.data_received(octets)

    def open_websocket(self) -> None:
        """Ask for a WebSocket."""
        if self.wire == "http/1.1":
            self.connection.data_received(_UPGRADE)
        else:
            self._open_stream(_CONNECT, end=False)

    def send_frame(self, opcode: int, payload: bytes, *, end: bool = False) -> None:
        """Send a frame on the WebSocket that was opened last."""
        octets = encode_frame(opcode, payload)
        if self.wire == "h2":
            octets = data(self._next_stream - 2, octets, end=end)
        self.connection.data_received(octets)

    def widen(self, size: int) -> None:
        """Let the server send ``size`` more bytes: on HTTP/2, it has to wait for us."""
        if self.wire == "h2":
            for stream_id in (0, self._next_stream - 2):
                update = frame(WINDOW_UPDATE, 0, stream_id, size.to_bytes(4))
                self.connection.data_received(update)
        else:
            self.connection.resume_writing()

    def _open_stream(self, fields: Any, *, end: bool) -> None:
        flags = END_HEADERS | (END_STREAM if end else 0)
        block = self._encoder.encode(fields)
        self.connection.data_received(frame(HEADERS, flags, self._next_stream, block))
        self._next_stream += 2

    def take(self) -> bytes:
        """Return what the server has sent since the last call."""
        return self.transport.take()

    def lose(self) -> None:
        """Lose the connection."""
        self.connection.connection_lost(None)


def _forget(connection: TcpConnection) -> None:
    """Take no note of the loss of a connection."""
