"""What a request, a WebSocket and a connection leave to the garbage collector.

Reference counts are to free a request at its end: what is left in a cycle costs memory
until the collector runs, and time when it does. Counted on the real runtimes, with the
connection in memory, so that no byte of a socket or a client is in the numbers.
"""

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import tako
from tako import Request, Response, Router, TakoWs, WebSocket
from tako.asgi import AsgiApp
from tako.runtime import current
from tests.support.asgi_apps import Receive, Scope, Send, respond
from tests.support.in_memory import MemoryClient, MemoryWire
from tests.support.loops import run_on
from tests.support.server import RuntimeName


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


def socket(request: Request) -> TakoWs:
    return TakoWs(request, echo)


async def passing(request: Request, call_next: Any) -> Any:
    return await call_next(request)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] != "/early":
        await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})
            if event["text"] == "last":
                return
    elif scope["path"] == "/stream":
        await send({"type": "http.response.start", "status": 200})
        for _ in range(3):
            await send({"type": BODY, "body": b"x", "more_body": True})
        await send({"type": BODY})
    elif scope["path"] == "/fails":
        msg = "an app's error"
        raise ValueError(msg)
    else:
        await respond(send, b"hello")


def served(kind: str) -> Router | AsgiApp:
    """Return what answers: a router's handlers, or an app somewhere."""
    asgi, router = AsgiApp(app, lifespan="off"), Router()
    if kind == "an app":
        return asgi
    if kind == "handlers":
        router.get("/", hello)
        router.get("/stream", numbers)
        router.get("/ws", socket)
        router.post("/early", hello)
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
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(cycles):
            await step()
        gc.collect()
        return len(gc.garbage), {type(each).__name__ for each in gc.garbage}
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


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


@every_kind
def test_a_connection_leaves_itself_but_none_of_what_it_carried(
    runtime: RuntimeName, memory_wire: MemoryWire, kind: str
) -> None:
    """Connection, engine and deadlines refer to each other: once for a connection."""
    app = served(kind)

    async def main() -> None:
        async with current().open_runtime() as own:

            async def connection(requests: int, sockets: int) -> None:
                client = MemoryClient(own, app, memory_wire)
                for _ in range(requests):
                    await request(client, "/")
                for _ in range(sockets):
                    await conversation(client)
                client.lose()
                await settled(client)

            few, _ = await left_by(lambda: connection(1, 0))
            many, _ = await left_by(lambda: connection(5, 0))
            assert many <= few
            _, types = await left_by(lambda: connection(1, 1))
            assert not types & {
                "Request",
                "BodySink",
                "H1Exchange",
                "H2Exchange",
                "WebSocket",
            }

    run_on(runtime, main)
