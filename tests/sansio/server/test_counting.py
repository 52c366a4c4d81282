"""What a connection counts, on either wire, of routers and of ASGI apps."""

from typing import TYPE_CHECKING, Any, cast

import pytest

from tako import Request, Router, ServerConfig, TakoWs, WebSocket
from tako.asgi import AsgiApp
from tako.core.counters import Counters, Wire
from tests.support.in_memory import MemoryClient, MemoryTls, MemoryWire
from tests.support.server import Credentials
from tests.support.wire import FakeRuntime


if TYPE_CHECKING:
    from tako.core.loop import Runtime


WIRES: list[MemoryWire] = ["http/1.1", "h2"]

TEXT, CLOSE, PONG = 0x1, 0x8, 0xA


class Counted:
    """A client of a server, and what that counts."""

    def __init__(
        self,
        wire: MemoryWire,
        app: Router | AsgiApp,
        tls: MemoryTls | None = None,
        config: ServerConfig | None = None,
        *,
        greet: bool = True,
    ) -> None:
        self.runtime = FakeRuntime()
        runtime = cast("Runtime", self.runtime)
        self.client = MemoryClient(runtime, app, wire, config, tls=tls, greet=greet)
        self.client.connection.counters.timed = True
        self.version = "2" if wire == "h2" else "1.1"

    @property
    def counters(self) -> Counters:
        return self.client.connection.counters

    @property
    def wire(self) -> Wire:
        return self.counters.wire(self.version)

    def request(self, path: str, method: str = "GET") -> None:
        self.client.request(path, method)
        self.runtime.run_ready()

    def requests(self) -> dict[tuple[str, str | None, int], int]:
        found = self.counters.requests.items()
        assert {key[3] for key, _ in found} <= {self.version}
        return {key[:3]: sum(slot.counts) for key, slot in found}


def routes() -> Router:
    router = Router()

    @router.get("/hello/{name}")
    async def hello(name: str) -> str:
        return f"Hello, {name}!"

    @router.post("/fails")
    async def fails() -> str:
        raise RuntimeError

    @router.get("/ws")
    async def websocket(request: Request) -> TakoWs:
        return TakoWs(request, echo)

    return router


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        if isinstance(message, str):
            await ws.send(message)
            await ws.send(message)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with 201, in two pieces."""
    await send({"type": "http.response.start", "status": 201, "headers": []})
    await send({"type": "http.response.body", "body": b"a", "more_body": True})
    await send({"type": "http.response.body", "body": b"b"})


@pytest.mark.parametrize("wire", WIRES)
def test_requests_are_counted_by_route_not_by_path(wire: MemoryWire) -> None:
    counted = Counted(wire, routes())
    for name in ("ann", "bob", "cy"):
        counted.request(f"/hello/{name}")
    counted.request("/none")
    counted.request("/hello/x", "MADEUP")
    assert counted.requests() == {
        ("GET", "/hello/{name}", 200): 3,
        ("GET", None, 404): 1,
        ("_OTHER", None, 405): 1,
    }
    assert counted.wire.active == 0
    assert counted.wire.connections_opened == len(counted.wire.connections) == 1
    assert counted.wire.streams == (5 if wire == "h2" else 0)


@pytest.mark.parametrize("wire", WIRES)
def test_an_error_of_a_handler_is_a_500(wire: MemoryWire) -> None:
    counted = Counted(wire, routes())
    counted.request("/fails", "POST")
    assert counted.requests() == {("POST", "/fails", 500): 1}


@pytest.mark.parametrize("wire", WIRES)
def test_an_asgi_app_is_counted_by_its_mount(wire: MemoryWire) -> None:
    router = Router()
    router.get("/api/{*rest}", AsgiApp(app))
    counted = Counted(wire, router)
    counted.request("/api/a")
    counted.request("/api/b")
    assert counted.requests() == {("GET", "/api/{*rest}", 201): 2}


@pytest.mark.parametrize("wire", WIRES)
def test_an_asgi_app_in_place_of_a_router_has_no_route(wire: MemoryWire) -> None:
    counted = Counted(wire, AsgiApp(app))
    counted.request("/api/a")
    assert counted.requests() == {("GET", None, 201): 1}
    assert counted.wire.active == 0


@pytest.mark.parametrize("wire", WIRES)
def test_a_duration_is_from_the_head_to_the_end_of_the_answer(
    wire: MemoryWire,
) -> None:
    router = Router()
    counted = Counted(wire, router)
    go = counted.runtime.signal()

    @router.get("/")
    async def slow() -> str:
        await go.wait()
        return "done"

    counted.request("/")
    assert counted.wire.active == 1
    assert not counted.counters.requests
    counted.runtime.advance(3)
    go.set()
    counted.runtime.run_ready()
    (slot,) = counted.counters.requests.values()
    assert slot.sum == pytest.approx(3)
    assert counted.wire.active == 0


@pytest.mark.parametrize("wire", WIRES)
def test_a_client_that_leaves_before_the_answer_is_a_499(wire: MemoryWire) -> None:
    router = Router()
    counted = Counted(wire, router)
    go = counted.runtime.signal()

    @router.get("/")
    async def waits() -> None:
        await go.wait()

    counted.request("/")
    counted.client.lose()
    counted.runtime.run_ready()
    assert counted.requests() == {("GET", "/", 499): 1}
    assert counted.wire.active == 0
    assert not counted.wire.connections
    resets = {"lost": 1} if wire == "h2" else {}
    assert counted.counters.stream_resets == resets


@pytest.mark.parametrize("wire", WIRES)
def test_a_websocket_is_counted_with_its_messages_and_not_as_a_request(
    wire: MemoryWire,
) -> None:
    counted = Counted(wire, routes())
    counted.client.open_websocket()
    counted.runtime.run_ready()
    for _ in range(3):
        counted.client.send_frame(TEXT, b"hello")
        counted.runtime.run_ready()
    counted.client.send_frame(PONG, b"is no data message")
    counted.runtime.run_ready()
    found = counted.wire
    assert (found.active, len(found.sockets), found.sockets_opened) == (1, 1, 1)
    assert found.messages() == (3, 6)
    counted.client.send_frame(CLOSE, (4001).to_bytes(2))
    counted.runtime.run_ready()
    assert (found.active, len(found.sockets), found.sockets_opened) == (0, 0, 1)
    assert found.messages() == (3, 6)
    assert counted.counters.closes == {("4001", "client"): 1}
    assert not counted.counters.requests


@pytest.mark.parametrize("wire", WIRES)
def test_a_websocket_that_the_server_closes_is_told_apart(wire: MemoryWire) -> None:
    router = Router()

    @router.get("/ws")
    async def websocket(request: Request) -> TakoWs:
        return TakoWs(request, leave)

    async def leave(ws: WebSocket) -> None:
        await ws.send("bye")

    counted = Counted(wire, router)
    counted.client.open_websocket()
    counted.runtime.run_ready()
    assert counted.counters.closes == {("1000", "server"): 1}
    assert counted.wire.messages() == (0, 1)


@pytest.mark.parametrize("wire", WIRES)
def test_the_time_until_the_answer_to_a_ping_is_counted(wire: MemoryWire) -> None:
    router = Router()
    counted = Counted(wire, router)

    @router.get("/ws")
    async def websocket(request: Request) -> TakoWs:
        return TakoWs(request, ask)

    async def ask(ws: WebSocket) -> None:
        await ws.ping(b"there?")
        async for _ in ws:
            pass

    counted.client.open_websocket()
    counted.runtime.run_ready()
    counted.runtime.advance(0.2)
    counted.client.send_frame(PONG, b"there?")
    counted.runtime.run_ready()
    assert counted.counters.pings.sum == pytest.approx(0.2)


@pytest.mark.parametrize("wire", WIRES)
def test_the_time_that_an_answer_waits_for_its_client_is_counted(
    wire: MemoryWire,
) -> None:
    router = Router()
    counted = Counted(wire, router)

    @router.get("/")
    async def large() -> bytes:
        return b"x" * 200_000

    if wire == "http/1.1":
        counted.client.connection.pause_writing()
    counted.request("/")
    counted.runtime.advance(2)
    for _ in range(4):
        counted.client.widen(100_000)
        counted.runtime.run_ready()
    waits = counted.counters.response_waits
    assert waits.count > 0
    assert waits.seconds >= 2
    assert counted.counters.socket_waits.count == 0


@pytest.mark.parametrize("wire", WIRES)
def test_bytes_are_those_of_the_transport(wire: MemoryWire) -> None:
    counted = Counted(wire, routes())
    counted.client.take()
    received, sent = counted.wire.bytes()
    if wire == "http/1.1":
        counted.client.send(b"GET /hello/ann HTTP/1.1\r\nhost: a\r\n\r\n")
    else:
        counted.request("/hello/ann")
    counted.runtime.run_ready()
    answer = counted.client.take()
    assert counted.wire.bytes()[1] - sent == len(answer)
    assert counted.wire.bytes()[0] > received
    counted.client.lose()
    assert counted.wire.bytes()[1] - sent == len(answer)


def test_requests_that_no_handler_sees_are_counted_by_status() -> None:
    counted = Counted("http/1.1", routes())
    counted.client.send(b"GET / HTTP/1.1\r\nhost: a\r\nbad field: x\r\n\r\n")
    assert counted.counters.refused == {400: 1}
    assert not counted.counters.requests
    counted = Counted("h2", routes())
    counted.client.ask_in_vain()
    assert counted.counters.refused == {417: 1}
    assert not counted.counters.requests


def test_a_head_that_is_too_slow_is_a_limit_hit() -> None:
    counted = Counted("http/1.1", routes())
    counted.client.send(b"GET / HTTP/1.1\r\n")
    counted.runtime.advance(3600)
    assert counted.counters.limits == {"head_time": 1}
    assert counted.counters.refused == {408: 1}


def test_streams_that_the_client_resets_are_counted() -> None:
    router = Router()
    counted = Counted("h2", router)
    go = counted.runtime.signal()

    @router.get("/")
    async def waits(request: Request) -> None:
        await go.wait()

    counted.client.reset_at_once()
    counted.runtime.run_ready()
    assert counted.counters.stream_resets == {"reset_by_peer": 1}


def test_a_flood_of_resets_is_a_limit_hit_and_a_fault() -> None:
    config = ServerConfig(h2_max_pending_accept_reset_streams=5)
    counted = Counted("h2", routes(), config=config)
    for _ in range(6):
        counted.client.reset_at_once()
    assert counted.counters.limits == {"stream_resets": 1}
    assert counted.counters.faults == {"ENHANCE_YOUR_CALM": 1}
    assert counted.counters.stream_resets == {"reset_by_peer": 6}


@pytest.mark.parametrize("wire", WIRES)
def test_handshakes_are_counted_by_result_and_version(
    wire: MemoryWire, credentials: Credentials
) -> None:
    tls = MemoryTls(credentials, wire)
    counted = Counted(wire, routes(), tls)
    assert counted.counters.handshakes == {("complete", "TLSv1.3"): 1}
    expiry = tls.server.expiry()
    assert expiry is not None
    assert expiry > 1.7e9


def test_handshakes_that_fail_end_or_take_too_long_are_told_apart(
    credentials: Credentials,
) -> None:
    tls = MemoryTls(credentials, "h2")

    failed, abandoned, late = (
        Counted("h2", routes(), tls, greet=False) for _ in range(3)
    )
    failed.client.connection.data_received(b"this is neither TLS nor HTTP")
    abandoned.client.lose()
    late.runtime.advance(3600)
    results = {
        result
        for each in (failed, abandoned, late)
        for result in each.counters.handshakes
    }
    assert results == {("failed", ""), ("abandoned", ""), ("timeout", "")}
