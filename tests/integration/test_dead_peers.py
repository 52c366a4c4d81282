"""Peers that are gone without a FIN: found by default, by routes and by ASGI apps."""

import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

import tako
from tako import (
    Request,
    Router,
    ServerConfig,
    Sse,
    SseEvent,
    WsKeepAlive,
)
from tako.asgi import AsgiApp
from tako.runtime import kernel
from tako.testing.patience import Deadline
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.io import PeerError, Socket
from tako.testing.peer.websocket import (
    Opcode,
    PeerWebSocket,
    Ping,
    close_payload,
    decode_frames,
)
from tests.conftest import Serve
from tests.support.apps import echo_session, reporting, ws_router
from tests.support.asgi_apps import Receive, Scope, Send, lifespan_only
from tests.support.children import Child
from tests.support.patience import NEVER, PATIENCE, TIMEOUT
from tests.support.server import Gate, Reports


QUICK = ServerConfig(ws_ping_interval=0.1, ws_ping_timeout=0.1)
PATIENT = ServerConfig(ws_ping_interval=0.05, ws_ping_timeout=NEVER)

CLIENT = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(
    b"GET /ws HTTP/1.1\\r\\nhost: localhost\\r\\n"
    b"connection: upgrade\\r\\nupgrade: websocket\\r\\nsec-websocket-version: 13\\r\\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n"
)
while data := sock.recv(65_536):
    if data[0] == 0x89:
        sock.sendall(bytes([0x8A, 0x80 | data[1], 0, 0, 0, 0]) + data[2:2 + data[1]])
        print("answered", flush=True)
"""


class EchoApp:
    """An ASGI app that echoes, and reports how it is told of the end."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_only(scope, receive, send)
            return
        await receive()
        await send({"type": "websocket.accept"})
        event: Any
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})
        assert event["type"] == "websocket.disconnect"
        self._reports.put((event["code"], event["reason"]))


def served(
    kind: str, reports: Reports, keep_alive: WsKeepAlive | None = None
) -> Router:
    """Return what echoes at ``/ws``, as a tako route or as an ASGI app."""
    if kind == "route":
        session = reporting(echo_session, reports)
        return ws_router(session, keep_alive=keep_alive)
    return cast("Router", AsgiApp(EchoApp(reports), keep_alive=keep_alive))


def last_close(ws: PeerWebSocket) -> bytes:
    """Read on to the end; return the payload of the last Close."""
    data = bytes(ws.raw)
    with contextlib.suppress(PeerError, OSError):
        while piece := ws.pipe.receive():
            data += piece
    return [f for f in decode_frames(data) if f.opcode == Opcode.CLOSE][-1].payload


@pytest.mark.parametrize("kind", ["route", "asgi"])
class TestByDefault:
    def test_a_client_that_does_nothing_any_more_is_lost(
        self, serve: Serve, kind: str
    ) -> None:
        reports = Reports()
        with serve(served(kind, reports), QUICK).connect() as connection:
            ws = connection.websocket("/ws")  # and never reads, so never answers
            assert reports.get() == (1006, "keepalive timeout")
            assert last_close(ws) == close_payload(1011, "keepalive timeout")

    def test_a_client_that_answers_lives_on(self, serve: Serve, kind: str) -> None:
        reports = Reports()
        with serve(served(kind, reports), PATIENT).connect() as connection:
            ws = connection.websocket("/ws")
            asked = 0
            while asked < 5:
                if isinstance(connection, H2Connection):
                    connection.pump()
                    pings = [f for f in connection.frames if f.type == 6]
                    asked = len(pings)
                else:
                    assert isinstance(ws.receive(), Ping)  # this answers it
                    asked += 1
            ws.send("alive")
            while isinstance(got := ws.receive(), Ping):
                pass
            assert got == "alive"
            assert reports.empty
            ws.close(1000)
            assert reports.get()[0] == 1000


@pytest.mark.parametrize("kind", ["route", "asgi"])
def test_what_a_route_says_takes_the_place_of_the_default(
    serve: Serve, kind: str
) -> None:
    reports = Reports()
    own = WsKeepAlive(0.05, 0.1, auto=True)
    with serve(served(kind, reports, own), ServerConfig()).connect() as connection:
        ws = connection.websocket("/ws")
        assert reports.get() == (1006, "keepalive timeout")
        assert ws.receive() == Ping(b"tako 1")  # also over HTTP/2: end to end


@pytest.mark.parametrize("wire", ["h2", "h2c"])
def test_all_sockets_of_a_connection_are_lost_at_once(serve: Serve) -> None:
    reports = Reports()
    with serve(served("route", reports), QUICK).connect() as connection:
        assert isinstance(connection, H2Connection)
        sockets = [connection.websocket("/ws") for _ in range(5)]
        for _ in sockets:
            assert reports.get()[0] == 1006
        with contextlib.suppress(OSError):  # its answer to the PING is late
            connection.expect_closed()
        pings = [frame for frame in connection.frames if frame.type == 6]
        assert len(pings) == 1


@pytest.mark.parametrize("wire", ["h1"])
def test_a_process_that_is_stopped_is_lost(serve: Serve) -> None:
    reports = Reports()
    config = ServerConfig(ws_ping_interval=0.1, ws_ping_timeout=2 * PATIENCE)
    server = serve(served("route", reports), config)
    port = str(server.address[1])
    with Child([sys.executable, "-c", CLIENT, port]) as client:
        client.wait_line("answered")
        client.send_signal(signal.SIGSTOP)
        assert reports.get()[0] == 1006


@pytest.mark.skipif(sys.platform != "linux", reason="a socket filter of Linux")
class TestVanishedHosts:
    """A client behind a filter that drops everything: no FIN, no RST, no ACK."""

    CONFIG = ServerConfig(
        tcp_keep_alive_idle=1,
        tcp_keep_alive_interval=1,
        tcp_keep_alive_count=1,
        ws_ping_interval=0.5,
        ws_ping_timeout=0.5,
        send_timeout=NEVER,
    )

    def test_of_a_long_answer_that_has_not_begun(self, serve: Serve) -> None:
        reports, gate = Reports(), Gate()

        async def handler(request: Request) -> str:
            reports.put("begun")
            try:
                await gate.wait()
            finally:
                reports.put("cancelled")
            return ""

        router = Router()
        router.get("/", handler)
        with serve(router, self.CONFIG).connect() as connection:
            connection.send_request("GET", "/")
            assert reports.get() == "begun"
            connection.socket.vanish()
            assert reports.get() == "cancelled"

    def test_of_an_event_stream(self, serve: Serve) -> None:
        reports = Reports()

        async def events() -> AsyncIterator[SseEvent]:
            try:
                while True:
                    yield SseEvent(data="now")
                    reports.put("sent")
                    await tako.runtime.sleep(0.1)
            finally:
                reports.put("ended")

        router = Router()
        router.get("/", lambda: Sse.events(events()))
        with serve(router, self.CONFIG).connect() as connection:
            connection.send_request("GET", "/")
            assert reports.get() == "sent"
            connection.socket.receive()
            connection.socket.vanish()
            while reports.get() == "sent":
                pass

    @pytest.mark.parametrize("kind", ["route", "asgi"])
    def test_of_a_websocket(self, serve: Serve, kind: str) -> None:
        reports = Reports()
        with serve(served(kind, reports), self.CONFIG).connect() as connection:
            connection.websocket("/ws").echo("here")
            connection.socket.vanish()
            assert reports.get()[0] == 1006


@pytest.mark.skipif(sys.platform != "linux", reason="figures of Linux")
class TestWhatTheKernelKnows:
    @pytest.fixture
    def pair(self) -> Iterator[tuple[Socket, socket.socket]]:
        """A client, and the server's end of its connection."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = Socket(listener.getsockname(), receive_buffer=4096)
            sock, _ = listener.accept()
            with contextlib.closing(client), sock:
                yield client, sock

    def test_a_host_that_is_gone_acknowledges_nothing(
        self, pair: tuple[Socket, socket.socket]
    ) -> None:
        client, sock = pair
        assert kernel.unanswered(sock.fileno()) == 0
        client.vanish()
        sock.send(b"x")
        deadline = Deadline(TIMEOUT)
        while kernel.unanswered(sock.fileno()) < 0.5:
            time.sleep(min(0.01, deadline.left()))

    def test_a_host_that_has_no_room_acknowledges_probes(
        self, pair: tuple[Socket, socket.socket]
    ) -> None:
        _, sock = pair
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while sock.send(bytes(65_536)):
                pass
        deadline = Deadline(TIMEOUT)
        while _probes(sock) < 2:
            time.sleep(min(0.01, deadline.left()))
        assert kernel.unanswered(sock.fileno()) == 0

    def test_of_other_sockets_it_says_nothing(self) -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            assert kernel.unanswered(sock.fileno()) == 0
            assert sock.fileno() >= 0


def _probes(sock: socket.socket) -> int:
    """Return how often a window was probed in a row: tcpi_backoff of linux/tcp.h."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 8)[4]


@pytest.mark.skipif(sys.platform != "linux", reason="figures of Linux")
def test_the_kernel_looks_after_the_other_connections(serve: Serve) -> None:
    config = ServerConfig(tcp_keep_alive_idle=33)
    server = serve(ws_router(echo_session), config)
    with server.connect() as connection:
        connection.request("GET", "/")
        (listener,) = server.services[0]._listener.sockets
        option = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        assert option == 33
