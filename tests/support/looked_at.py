"""A service without a socket, with WebSockets open on it, for what looks on."""

from functools import partial

import hpack

from tako.config import ServerConfig
from tako.core.seams import Exchange
from tako.h2.frames import END_HEADERS, HEADERS, frame
from tako.http.conn_info import IpPeer
from tako.http.request import Request
from tako.http.response import Response
from tako.native.loops import encode_masked_frame
from tako.routing.router import Router
from tako.server.engines import ENGINES
from tako.server.pipeline import run_exchange
from tako.server.service import Observer, ServerStatistics
from tako.tcp.connection import TcpConnection
from tako.tcp.protocol import Protocol
from tako.ws.responder import TakoWs
from tako.ws.websocket import WebSocket
from tests.support import h2wire
from tests.support.wire import FakeRuntime, FakeTransport


UPGRADE = (
    b"GET /ws/%d HTTP/1.1\r\nhost: localhost\r\n"
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"


async def echo(request: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        async for message in ws:
            if isinstance(message, (str, bytes)):
                await ws.send(message)

    return TakoWs(request, session)


def text(message: str) -> bytes:
    """Return a message as a client sends it."""
    return encode_masked_frame(0x81, message)


class LookedAt:
    """Connections in memory; a ``Served``, and a server of ``echo``."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.connections: list[TcpConnection] = []
        self.running: dict[Exchange, object] = {}
        self.accepted = 0
        self.observer: Observer | None = None
        self.router = Router()
        self.router.get("/ws/{room}", echo)
        self.router.get("/", lambda: "hello")

    @property
    def statistics(self) -> ServerStatistics:
        return ServerStatistics(
            connections=len(self.connections),
            exchanges=len(self.running),
            accepted=self.accepted,
        )

    @property
    def exchanges(self) -> list[Exchange]:
        return list(self.running)

    async def _dispatch(self, request: Request) -> Response:
        if request.is_websocket and self.observer is not None:
            self.observer.websocket_asked(request)
        return await self.router.dispatch(request)

    def _lost(self, connection: TcpConnection) -> None:
        self.connections.remove(connection)
        if self.observer is not None:
            self.observer.connection_ended(connection)

    def connect(self, protocol: Protocol = "http/1.1") -> TcpConnection:
        """Accept a connection."""
        self.accepted += 1
        running: dict[Exchange, object] = self.running
        connection = TcpConnection(
            self.runtime,
            ServerConfig(),
            partial(run_exchange, self._dispatch),
            engines=ENGINES,
            protocol=protocol,
            tls=None,
            peer=IpPeer("127.0.0.1", 50_000 + self.accepted),
            local=IpPeer("127.0.0.1", 8000),
            on_lost=self._lost,
            running=running,  # type: ignore[arg-type] # what is in it is not called
        )
        self.connections.append(connection)
        connection.connection_made(FakeTransport())
        return connection

    def receive(self, connection: TcpConnection, data: bytes) -> bytes:
        """Have a connection receive bytes; return what it answers."""
        connection.data_received(data)
        self.runtime.advance(0.0)
        transport = connection._transport
        assert isinstance(transport, FakeTransport)
        return transport.take()

    def websocket(self, room: int = 1) -> TcpConnection:
        """Open a WebSocket over HTTP/1.1."""
        connection = self.connect()
        assert b" 101 " in self.receive(connection, UPGRADE % room)
        return connection

    def websockets(self, *streams: int) -> TcpConnection:
        """Open WebSockets over HTTP/2, a stream for each."""
        connection = self.connect("h2")
        self.receive(connection, PREFACE)
        encoder = hpack.Encoder()
        for stream in streams:
            fields = {**dict(h2wire.CONNECT), ":path": f"/ws/{stream}"}
            block: bytes = encoder.encode(fields.items())
            self.receive(connection, frame(HEADERS, END_HEADERS, stream, block))
        return connection

    def close(self) -> None:
        """Lose what is open."""
        for connection in list(self.connections):
            connection.connection_lost(None)
        self.runtime.run_ready()
        self.runtime.close()
