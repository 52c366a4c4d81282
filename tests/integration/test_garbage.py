"""What a request, a WebSocket and a connection leave to the garbage collector.

Reference counts are to free a request at its end: what is left in a cycle costs memory
until the collector runs, and time when it does. Counted on the real runtimes, with the
connection in memory, so that no byte of a socket or a client is in the numbers.
"""

import gc
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

import pytest

import tako
from tako import Request, Response, Router, TakoWs, WebSocket
from tako.asgi import AsgiApp
from tako.config import ServerConfig
from tako.core.exchange_of import exchange_of
from tako.core.seams import Exchange
from tako.h1.engine import H1Engine
from tako.h2.engine import H2Engine
from tako.runtime import current
from tako.server.undecided import Undecided
from tako.tcp.connection import ConnectionState, TcpConnection
from tako.testing.peer.websocket import encode_frame
from tako.tls.pipe import TlsPipe
from tests.conftest import Serve
from tests.support.after_loss import calls_of_exchange
from tests.support.asgi_apps import Receive, Scope, Send, respond
from tests.support.garbage import garbage
from tests.support.h2wire import data
from tests.support.in_memory import MemoryClient, MemoryTls, MemoryWire
from tests.support.loops import run_on
from tests.support.server import Credentials, RuntimeName


TEXT, CLOSE = 1, 8
CYCLES = 10
TURNS = 40
"""Turns of the loop after which whatever was asked for has happened."""

BODY = "http.response.body"


async def hello(request: Request) -> str:
    return "hello"


async def numbers(request: Request) -> Response:
    async def body() -> AsyncIterator[bytes]:
        for number in range(3):
            yield b"%d" % number

    return Response(body=body())


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        await ws.send(message)
        if message == "last":
            return


def open_socket(request: Request) -> TakoWs:
    return TakoWs(request, echo)


async def waits(request: Request) -> str:
    return str(len(await request.body()))


async def stays(request: Request) -> str:
    """Make use of all there is once the client has left."""
    exchange = exchange_of(request)
    assert exchange is not None
    try:
        while not _is_lost(exchange):
            await tako.sleep(0)
    finally:
        if _is_lost(exchange):  # else the stream alone is over
            for call in calls_of_exchange(exchange):
                call()
    await exchange.writable_again()
    return "unheard"


def _is_lost(exchange: Exchange) -> bool:
    return exchange.connection.delivery() is None


async def large(request: Request) -> Response:
    return Response(body=bytes(1 << 20))


async def passing(request: Request, call_next: Any) -> Any:
    return await call_next(request)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] != "/early":
        await receive()
    if scope["type"] == "websocket":
        await _echo(receive, send)
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200})
        for _ in range(3):
            await send({"type": BODY, "body": b"x", "more_body": True})
        await send({"type": BODY})
    elif scope["path"] == "/large":
        await respond(send, bytes(1 << 20))
    elif scope["path"] in {"/waits", "/stays"}:
        while (await receive())["type"] != "http.disconnect":
            pass
        await respond(send, b"unheard")
    elif scope["path"] == "/fails":
        msg = "an app's error"
        raise ValueError(msg)
    else:
        await respond(send, b"hello")


async def _echo(receive: Receive, send: Send) -> None:
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
        if event["text"] == "last":
            return


def served(kind: str) -> Router | AsgiApp:
    """Return what answers: a router's handlers, or an app somewhere."""
    asgi, router = AsgiApp(app, lifespan="off"), Router()
    if kind == "an app":
        return asgi
    if kind == "handlers":
        router.get("/", hello)
        router.get("/stream", numbers)
        router.get("/ws", open_socket)
        router.post("/early", hello)
        router.post("/waits", waits)
        router.post("/stays", stays)
        router.get("/large", large)
        return router
    if kind == "an app behind a middleware":
        router.middleware(passing)
    router.get("/{*rest}", asgi)
    router.post("/{*rest}", asgi)
    return router


KINDS = ["handlers", "an app", "an app as a route", "an app behind a middleware"]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(params=["http/1.1", "h2"])
def memory_wire(request: pytest.FixtureRequest) -> MemoryWire:
    name: MemoryWire = request.param
    return name


async def settled(client: MemoryClient) -> bytes:
    """Let everything happen that is due; return what was sent."""
    for _ in range(TURNS):
        await tako.sleep(0)
    return client.take()


async def request(client: MemoryClient, path: str) -> None:
    client.request(path)
    sent = await settled(client)
    assert sent


async def conversation(client: MemoryClient) -> None:
    """Open a WebSocket, have a message echoed, close it."""
    await _echoed(client, b"to and fro")


async def conversation_ended_by_the_server(client: MemoryClient) -> None:
    """Open a WebSocket, have a message echoed, answer the server's Close."""
    await _echoed(client, b"last")


async def _echoed(client: MemoryClient, text: bytes) -> None:
    client.open_websocket()
    assert await settled(client)
    client.send_frame(TEXT, text)
    assert text in await settled(client)
    client.send_frame(CLOSE, (1000).to_bytes(2), end=True)
    await settled(client)


async def left_by(
    step: Callable[[], Awaitable[None]], cycles: int = CYCLES
) -> tuple[int, set[str]]:
    """Return how many objects ``cycles`` of ``step`` leave, and of which types."""
    for _ in range(3):  # what is made when it is first needed
        await step()
    with garbage() as left:
        for _ in range(cycles):
            await step()
    return left.count, left.types


CONFIG = ServerConfig(max_turn=1e-6)
NOTHING: tuple[int, set[str]] = (0, set())


@every_kind
@pytest.mark.parametrize("path", ["/", "/stream", "/fails"])
def test_a_request_leaves_nothing(
    runtime: RuntimeName, memory_wire: MemoryWire, kind: str, path: str
) -> None:
    async def main() -> None:
        async with current().open_runtime() as own:
            client = MemoryClient(own, served(kind), memory_wire)
            assert await left_by(lambda: request(client, path)) == NOTHING
            client.lose()

    run_on(runtime, main)


@every_kind
def test_a_request_whose_body_comes_after_its_answer_leaves_nothing(
    runtime: RuntimeName, kind: str
) -> None:
    async def step(client: MemoryClient) -> None:
        client.request("/early", "POST", body=4)
        assert await settled(client)
        client.send_body(b"late")
        await settled(client)

    async def main() -> None:
        async with current().open_runtime() as own:
            client = MemoryClient(own, served(kind), "h2")
            assert await left_by(lambda: step(client)) == NOTHING
            client.lose()

    run_on(runtime, main)


async def reset_at_once(client: MemoryClient) -> None:
    client.reset_at_once()
    await settled(client)


async def refused(client: MemoryClient) -> None:
    client.ask_in_vain()
    assert await settled(client)


async def refused_with_a_body(client: MemoryClient) -> None:
    client.ask_in_vain(body=4)
    assert await settled(client)


@pytest.mark.parametrize("ask", [reset_at_once, refused, refused_with_a_body])
def test_a_request_that_no_handler_sees_leaves_nothing(
    runtime: RuntimeName, ask: Callable[[MemoryClient], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with current().open_runtime() as own:
            client = MemoryClient(own, served("handlers"), "h2")
            assert await left_by(lambda: ask(client)) == NOTHING
            assert client.connection.state is ConnectionState.OPEN
            client.lose()

    run_on(runtime, main)


@every_kind
@pytest.mark.parametrize("have", [conversation, conversation_ended_by_the_server])
def test_a_websocket_on_a_connection_that_goes_on_leaves_nothing(
    runtime: RuntimeName, kind: str, have: Callable[[MemoryClient], Awaitable[None]]
) -> None:
    async def main() -> None:
        async with current().open_runtime() as own:
            client = MemoryClient(own, served(kind), "h2")
            assert await left_by(lambda: have(client)) == NOTHING
            client.lose()

    run_on(runtime, main)


class Lost:
    """A connection that is about to end, with what it carries."""

    def __init__(self, client: MemoryClient) -> None:
        self.client, self.connection = client, client.connection

    async def nothing(self) -> None:
        """It carries nothing."""

    async def answered(self) -> None:
        await request(self.client, "/")

    async def several(self) -> None:
        for _ in range(3):
            self.client.request("/")
        await settled(self.client)

    async def not_begun(self) -> None:
        """The task of the handler has not taken its first step."""
        self.client.request("/")

    async def refused(self) -> None:
        self.client.request("/", "GE(T")
        await settled(self.client)

    async def waiting(self) -> None:
        self.client.request("/waits", "POST", body=4)
        await settled(self.client)

    async def going_on(self) -> None:
        """The handler outlives the connection, and makes use of all it has."""
        self.client.request("/stays", "POST", body=4)
        await settled(self.client)

    async def unread(self) -> None:
        """More of a body than we hold is here."""
        self.client.request("/stays", "POST", body=200_000)
        await settled(self.client)
        for _ in range(8):
            self.client.send_body(bytes(10_000), end=False)

    async def answered_early(self) -> None:
        self.client.request("/early", "POST", body=4)
        await settled(self.client)

    async def unsent(self) -> None:
        """Our output waits: for the windows of HTTP/2, then for the transport."""
        self.client.request("/large")
        await settled(self.client)
        self.client.transport.unsent = 1 << 20
        self.connection.pause_writing()
        self.client.request("/large")
        await settled(self.client)

    async def conversing(self) -> None:
        self.client.open_websocket()
        await settled(self.client)
        self.client.send_frame(TEXT, b"to and fro")

    async def conversed(self) -> None:
        await conversation(self.client)

    async def ended_by_the_server(self) -> None:
        await conversation_ended_by_the_server(self.client)

    async def put_off(self) -> None:
        """More has come than one turn of the loop has time for."""
        self.client.open_websocket()
        await settled(self.client)
        octets = encode_frame(TEXT, b"") * 2000
        if self.client.wire == "h2":
            octets = data(1, octets)
        self.client.send(octets)


LOADS = [each for each in vars(Lost).values() if iscoroutinefunction(each)]


async def gone(lost: Lost) -> None:
    """The client is gone, without a word."""


async def the_client_closes(lost: Lost) -> None:
    lost.connection.eof_received()
    await settled(lost.client)


async def the_client_closes_behind_a_shut_gate(lost: Lost) -> None:
    lost.connection.pause_writing()
    lost.connection.eof_received()


async def nonsense(lost: Lost) -> None:
    lost.connection.data_received(b"\0" * 100)
    await settled(lost.client)


async def closed(lost: Lost) -> None:
    lost.connection.close()
    await settled(lost.client)


async def aborted(lost: Lost) -> None:
    lost.connection.abort()


async def drained(lost: Lost) -> None:
    lost.connection.shut_down()
    await settled(lost.client)


ENDS = [
    gone,
    the_client_closes,
    the_client_closes_behind_a_shut_gate,
    nonsense,
    closed,
    aborted,
    drained,
]


SERVERS = {
    "TcpConnection",
    "H1Engine",
    "H2Engine",
    "FrameReader",
    "Lifecycle",
    "Deadline",
    "Deadlines",
    "Turn",
    "PatientTimer",
    "ServerTlsPipe",
    "TrioTransport",
}


def alive() -> Counter[str]:
    """Count what there is of connections, garbage or not."""
    kinds = (TcpConnection, Undecided, H1Engine, H2Engine, TlsPipe)
    live = (each for each in gc.get_objects() if isinstance(each, kinds))
    return Counter(type(each).__name__ for each in live)


@pytest.fixture(params=["plain", "tls"])
def tls(
    request: pytest.FixtureRequest, credentials: Credentials, memory_wire: MemoryWire
) -> MemoryTls | None:
    return MemoryTls(credentials, memory_wire) if request.param == "tls" else None


@pytest.mark.parametrize("kind", ["handlers", "an app"])
@pytest.mark.parametrize("end", ENDS)
def test_a_connection_that_is_lost_leaves_nothing(
    runtime: RuntimeName,
    memory_wire: MemoryWire,
    tls: MemoryTls | None,
    kind: str,
    end: Callable[[Lost], Awaitable[None]],
) -> None:
    app = served(kind)

    async def main() -> None:
        async with current().open_runtime() as own:

            async def connection(load: Callable[[Lost], Awaitable[None]]) -> None:
                lost = Lost(MemoryClient(own, app, memory_wire, CONFIG, tls=tls))
                await load(lost)
                await end(lost)
                lost.client.lose()
                await settled(lost.client)

            left: dict[str, object] = {}
            for load in LOADS:
                before = alive()
                found = await left_by(partial(connection, load), 3)
                kept = alive() - before
                # trio's helpers keep what they called last, and a Close that was sent
                # by us has a timer (``Connection.cancel_at``) that keeps its exchange
                if found != NOTHING or (kept.total() > 3 and end is not drained):
                    left[load.__name__] = found, kept
            assert left == {}

    run_on(runtime, main)


async def says_nothing(client: MemoryClient) -> None:
    """The TCP connection is all there is."""


async def says_hello(client: MemoryClient) -> None:
    client.shake_hands()


async def says_half_of_it(client: MemoryClient) -> None:
    client.connection.data_received(b"\x16\x03\x01\x02\0\x01")


async def speaks_plain_http(client: MemoryClient) -> None:
    client.connection.data_received(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")


async def talks_nonsense(client: MemoryClient) -> None:
    client.connection.data_received(bytes(100))


async def breaks_it_off(client: MemoryClient) -> None:
    client.shake_hands()
    client.connection.data_received(bytes(100))


@pytest.mark.parametrize("end", [gone, the_client_closes, closed, aborted, drained])
def test_a_handshake_that_does_not_end_leaves_nothing(
    runtime: RuntimeName,
    credentials: Credentials,
    end: Callable[[Lost], Awaitable[None]],
) -> None:
    app, tls = served("handlers"), MemoryTls(credentials, "h2")

    async def main() -> None:
        async with current().open_runtime() as own:

            async def connection(step: Callable[[MemoryClient], Any]) -> None:
                client = MemoryClient(own, app, "h2", tls=tls, greet=False)
                await step(client)
                await end(Lost(client))
                client.lose()
                await settled(client)

            steps = [says_nothing, says_hello, says_half_of_it]
            steps += [speaks_plain_http, talks_nonsense, breaks_it_off]
            left = {each: await left_by(partial(connection, each), 3) for each in steps}
            assert {each: left[each] for each in steps if left[each] != NOTHING} == {}

    run_on(runtime, main)


def test_connections_over_sockets_leave_nothing_of_the_server(serve: Serve) -> None:
    """As above; what the client and the loop itself leave is theirs."""
    app = served("handlers")
    assert isinstance(app, Router)
    with garbage() as left:
        server = serve(app)
        for _ in range(3):
            with server.connect() as connection:
                assert connection.request("GET", "/").status == 200
            with server.connect() as connection:
                ws = connection.websocket("/ws")
                ws.send(b"to and fro")
                assert ws.receive()
            with socket.create_connection(server.address) as sock:
                sock.sendall(bytes(100))  # nonsense, on every wire
        server.shut_down()
        server.join()
        del server
    assert not left.types & SERVERS
