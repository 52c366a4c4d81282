"""A server's connection in memory, on any runtime: what a client sends, and gets."""

import contextlib
import ssl
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import hpack

from tako.asgi import AsgiApp
from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
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
    rst_stream,
)
from tako.http.conn_info import IpPeer
from tako.routing.router import Router
from tako.server.engines import ENGINES
from tako.server.pipeline import run_exchange
from tako.tcp.connection import TcpConnection
from tako.testing.peer.websocket import encode_frame
from tako.tls.certificates import TlsCert, TlsSettings
from tests.support.h2wire import data
from tests.support.server import Credentials
from tests.support.wire import FakeTransport


MemoryWire: TypeAlias = Literal["http/1.1", "h2"]

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\n"
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_GET = (
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/"),
)
_CONNECT = (
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "localhost"),
    (":path", "/ws"),
    ("sec-websocket-version", "13"),
)


class MemoryTransport(FakeTransport):
    """Has no socket that a real runtime could ask the kernel about."""

    def get_extra_info(self, name: str) -> None:
        """Return what an asyncio transport without ``name`` does."""

    def fileno(self) -> int:
        """Return the descriptor of a socket that is closed."""
        return -1


class MemoryTls:
    """Both sides' settings of TLS, for connections of one wire."""

    def __init__(self, credentials: Credentials, wire: MemoryWire) -> None:
        cert, key = Path(credentials.cert), Path(credentials.key)
        self.server = TlsSettings(TlsCert.pem_paths(cert, key), ("h2", "http/1.1"))
        self.client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.client.check_hostname = False
        self.client.verify_mode = ssl.CERT_NONE
        self.client.set_alpn_protocols([wire])


class MemoryClient:
    """A client of a ``TcpConnection`` that has no socket."""

    def __init__(
        self,
        runtime: Runtime,
        app: Router | AsgiApp,
        wire: MemoryWire,
        config: ServerConfig | None = None,
        *,
        tls: MemoryTls | None = None,
        greet: bool = True,
    ) -> None:
        """Connect; ``greet``: shake hands, and send what a client sends first."""
        self.wire = wire
        self.transport = MemoryTransport()
        timer: Any = runtime
        dispatch = partial(app.dispatch, timer=timer)
        self.connection = TcpConnection(
            runtime,
            config or ServerConfig(),
            partial(run_exchange, dispatch),
            engines=ENGINES,
            protocol=wire if tls is None else "tls",
            tls=None if tls is None else tls.server,
            peer=IpPeer("127.0.0.1", 50000),
            local=IpPeer("127.0.0.1", 80),
            on_lost=_forget,
        )
        self.connection.connection_made(self.transport)
        self._encoder = hpack.Encoder()
        self._next_stream = 1
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl: ssl.SSLObject | None = None
        if tls is not None:
            self._ssl = tls.client.wrap_bio(
                self._incoming, self._outgoing, server_hostname="localhost"
            )
        if greet:
            while not self.shake_hands():
                pass
            if wire == "h2":
                self.send(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))

    def shake_hands(self) -> bool:
        """Take a step of the TLS handshake; tell whether it was the last."""
        if self._ssl is None:
            return True
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            ended = False
        else:
            ended = True
        self.connection.data_received(self._outgoing.read())
        self._incoming.write(self.transport.take())
        return ended

    def send(self, octets: bytes) -> None:
        """Send ``octets``, encrypted where there is TLS."""
        if self._ssl is not None:
            self._ssl.write(octets)
            octets = self._outgoing.read()
        self.connection.data_received(octets)

    def request(self, path: str = "/", method: str = "GET", *, body: int = 0) -> None:
        """Send a request; ``send_body`` sends the body, if it has ``body`` bytes."""
        if self.wire == "http/1.1":
            head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n"
            if body:
                head += f"content-length: {body}\r\n"
            self.send(head.encode() + b"\r\n")
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

    def send_body(self, octets: bytes, *, end: bool = True) -> None:
        """Send the body of the last request, or with ``end=False`` a part of it."""
        if self.wire == "h2":
            octets = data(self._next_stream - 2, octets, end=end)
        self.send(octets)

    def open_websocket(self) -> None:
        """Ask for a WebSocket."""
        if self.wire == "http/1.1":
            self.send(_UPGRADE)
        else:
            self._open_stream(_CONNECT, end=False)

    def send_frame(self, opcode: int, payload: bytes, *, end: bool = False) -> None:
        """Send a frame on the WebSocket that was opened last."""
        octets = encode_frame(opcode, payload)
        if self.wire == "h2":
            octets = data(self._next_stream - 2, octets, end=end)
        self.send(octets)

    def widen(self, size: int) -> None:
        """Let the server send ``size`` more bytes: on HTTP/2, it has to wait for us."""
        if self.wire == "h2":
            for stream_id in (0, self._next_stream - 2):
                update = frame(WINDOW_UPDATE, 0, stream_id, size.to_bytes(4))
                self.send(update)
        else:
            self.connection.resume_writing()

    def reset_at_once(self) -> None:
        """Send a request of HTTP/2 and its RST_STREAM in one read."""
        stream_id, block = self._next_stream, self._encoder.encode(_GET)
        request = frame(HEADERS, END_HEADERS | END_STREAM, stream_id, block)
        self.send(request + rst_stream(stream_id, ErrorCode.CANCEL))
        self._next_stream += 2

    def ask_in_vain(self, *, body: int = 0) -> None:
        """Send a request of HTTP/2 that the engine itself refuses with 417."""
        self._open_stream([*_GET, ("expect", "the unexpected")], end=not body)

    def _open_stream(self, fields: Any, *, end: bool) -> None:
        flags = END_HEADERS | (END_STREAM if end else 0)
        block = self._encoder.encode(fields)
        self.send(frame(HEADERS, flags, self._next_stream, block))
        self._next_stream += 2

    def take(self) -> bytes:
        """Return what the server has sent since the last call."""
        octets = self.transport.take()
        if self._ssl is None:
            return octets
        self._incoming.write(octets)
        plaintext = b""
        with contextlib.suppress(ssl.SSLError):  # no more is here, or an alert
            while piece := self._ssl.read():
                plaintext += piece
        return plaintext

    def lose(self) -> None:
        """Lose the connection."""
        self.connection.connection_lost(None)


def _forget(connection: TcpConnection) -> None:
    """Take no note of the loss of a connection."""
