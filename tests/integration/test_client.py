"""``tako.Client``: many WebSockets on few connections, on every wire and runtime."""

import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import tako
from tako import WebSocket
from tako.client import reconnect
from tako.client.attempt import Attempt
from tako.client.connection import ClientConnection
from tako.client.link import Link
from tako.h1.client import H1Client
from tako.h2.client import H2Client
from tako.runtime import current
from tako.testing.peer import Wire
from tako.ws.conversation import Conversation
from tests.conftest import Serve
from tests.integration.test_connect import options_of, url_of
from tests.support.apps import echo_router, ws_router
from tests.support.h2_server import ScriptedServer
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import (
    Credentials,
    Gate,
    Reports,
    RunningServer,
    RuntimeName,
    open_sockets,
    serving,
)


AsyncFunction = Callable[[], Awaitable[object]]
MakeClient = Callable[..., tako.Client]

shared = pytest.mark.parametrize("wire", ["h2", "h2c"])


async def together(*functions: AsyncFunction) -> None:
    """Run all at once, until each has ended."""
    if "trio" in current().__name__:  # type: ignore[attr-defined]
        import trio

        async with trio.open_nursery() as nursery:
            for each in functions:
                nursery.start_soon(each)
    else:
        import asyncio

        await asyncio.gather(*(each() for each in functions))


async def until(condition: Callable[[], object], seconds: float = TIMEOUT) -> None:
    """Wait until ``condition`` holds."""
    here = current()
    for _ in range(int(TIMEOUT / 0.002)):
        if condition():
            return
        await here.sleep(0.002)
    msg = "it never was so"
    raise AssertionError(msg)


async def cancelled_when(condition: Callable[[], object], run: AsyncFunction) -> None:
    """Cancel ``run`` once ``condition`` holds."""
    if "trio" in current().__name__:  # type: ignore[attr-defined]
        import trio

        async with trio.open_nursery() as nursery:
            nursery.start_soon(run)
            await until(condition)
            nursery.cancel_scope.cancel()
    else:
        import asyncio

        task = asyncio.ensure_future(run())
        await until(condition)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def echoes(ws: WebSocket, *messages: str) -> None:
    for each in messages:
        await ws.send(each)
        assert await ws.read(TIMEOUT) == each


async def without_leaks(run: AsyncFunction) -> None:
    """Run, and see that no task is left, and that all sockets are closed."""
    here, sockets = current(), open_sockets()
    tasks = here.tasks().keys()
    await run()
    await until(lambda: here.tasks().keys() <= tasks)
    await until(lambda: open_sockets() <= sockets)


def held() -> int:
    """Return how many objects of clients there are, without the collector's help."""
    kinds = (Attempt, Link, ClientConnection, Conversation, H1Client, H2Client)
    return sum(type(each) in kinds for each in gc.get_objects())


def links(client: tako.Client) -> list[Any]:
    assert client._pool is not None
    return client._pool.links


@pytest.fixture
def make_client(wire: Wire, credentials: Credentials) -> MakeClient:
    def make(server: RunningServer, **options: Any) -> tako.Client:
        given = {**options_of(wire, credentials), **options}
        return tako.Client(url_of(server, ""), **given)

    return make


def test_sockets_of_every_wire(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    server = serve(echo_router())

    async def main() -> None:
        async def use() -> None:
            async with make_client(server) as client:
                async with client.connect("/ws") as first:
                    second = await client.connect(url_of(server))
                    await together(
                        lambda: echoes(first, "a", "b"),
                        lambda: echoes(second, "x" * 70_000),
                    )
                    one = wire in {"h2", "h2c"}
                    assert len(server.connections) == (1 if one else 2)
                    assert first.http_version == ("2" if one else "1.1")
                assert first.close_code == 1000
                await echoes(second, "still open")
            assert second.close_code == 1001

        await without_leaks(use)

    run_on(runtime, main)


@shared
def test_250_sockets_take_three_connections(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    server = serve(echo_router())
    versions: list[str] = []

    async def main() -> None:
        async def use() -> None:
            async with make_client(server, max_streams=1000) as client:
                opened: list[WebSocket] = []

                async def one() -> None:
                    async with client.connect("/ws") as ws:
                        opened.append(ws)
                        versions.append(ws.http_version)
                        await echoes(ws, "one", "two")
                        await until(lambda: len(opened) == 250)
                        await echoes(ws, "three")

                await together(*[one] * 250)
                assert len(links(client)) == len(server.connections) == 3
                await until(lambda: not any(x._engine.exchanges for x in links(client)))
                assert all(x.room == 100 for x in links(client))

        await without_leaks(use)

    run_on(runtime, main)
    assert versions == ["2"] * 250


@shared
def test_connections_that_the_server_ends_in_the_middle_of_traffic(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    server = serve(echo_router(), tako.ServerConfig(h2_max_requests=7))

    async def main() -> None:
        async def use() -> None:
            async with make_client(server) as client:

                async def talk() -> None:
                    async with client.connect("/ws") as ws:
                        for number in range(30):
                            await echoes(ws, str(number))

                for _ in range(4):
                    await together(*[talk] * 10)

        await without_leaks(use)

    run_on(runtime, main)


@shared
def test_reconnecting_sockets_share_the_connection_to_a_server_that_restarts(
    runtime: RuntimeName,
    wire: Wire,
    credentials: Credentials,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconnect, "_FIRST_DELAY", 0.05)
    monkeypatch.setattr(reconnect, "_LEAST_DELAY", 0.05)
    monkeypatch.setattr(reconnect, "_DELAY_FACTOR", 1.0)
    greeted: list[int] = []
    dialed: list[int] = []
    files = (credentials.cert, credentials.key)

    def life(number: int) -> tako.Router:
        async def session(ws: WebSocket) -> None:
            greeted.append(number)
            async for _ in ws:
                pass

        return ws_router(session)

    async def main() -> None:
        listener = await tako.bind("127.0.0.1:0")
        port = int(str(listener.local_addr).rpartition(":")[2])

        scheme = "ws" if wire == "h2c" else "wss"
        options = options_of(wire, credentials)
        async with tako.Client(f"{scheme}://localhost:{port}", **options) as client:

            async def stay() -> None:
                async for ws in client.connect("/ws"):
                    async for _ in ws:
                        pass
                    if len(greeted) >= 80:
                        break

            async def restart() -> None:
                async with serving(wire, listener, life(1), files):
                    await until(lambda: greeted.count(1) == 40)
                    dialed.append(len(links(client)))
                async with serving(wire, f"127.0.0.1:{port}", life(2), files):
                    await until(lambda: greeted.count(2) == 40)
                    dialed.append(len([x for x in links(client) if x.room]))

            await together(restart, *[stay] * 40)

    run_on(runtime, main)
    assert dialed == [1, 1]


class TestLimitsThatMove:
    """A server says how many it takes, and says it again."""

    def test_0_lets_open_ones_go_on_and_the_next_wait(
        self, runtime: RuntimeName
    ) -> None:
        async def main(server: ScriptedServer) -> None:
            options: Any = {"http_versions": ("2",), "max_connections": 1}
            async with tako.Client(server.url, **options) as client:
                first = await client.connect()
                (connection,) = server.connections
                connection.allow(0)
                await until(lambda: links(client)[0].room < 0)
                opened: list[WebSocket] = []

                async def second() -> None:
                    opened.append(await client.connect())

                async def move() -> None:
                    await echoes(first, "it goes on")
                    assert not opened
                    connection.allow(1)
                    await echoes(first, "and on")
                    assert not opened
                    connection.allow(2)
                    await until(lambda: opened)

                await together(second, move)
                await together(
                    lambda: echoes(first, "a"), lambda: echoes(opened[0], "b")
                )

        with ScriptedServer(2) as server:
            run_on(runtime, main, server)
            assert len(server.connections) == 1

    def test_the_queue_is_served_in_order(self, runtime: RuntimeName) -> None:
        order: list[int] = []

        async def main(server: ScriptedServer) -> None:
            options: Any = {"http_versions": ("2",), "max_connections": 1}
            async with tako.Client(server.url, **options) as client:
                first = await client.connect()

                async def queue(number: int) -> None:
                    async with client.connect() as ws:
                        order.append(number)
                        await echoes(ws, "hello")

                async def start(number: int) -> None:
                    assert client._pool is not None
                    (place,) = client._pool._places.values()
                    await until(lambda: len(place.waiting) == number)
                    await queue(number)

                async def release() -> None:
                    assert client._pool is not None
                    (place,) = client._pool._places.values()
                    await until(lambda: len(place.waiting) == 5)
                    await first.close()

                starts = [lambda number=number: start(number) for number in range(5)]
                await together(release, *starts)

        with ScriptedServer(1) as server:
            run_on(runtime, main, server)
            assert len(server.connections) == 1
        assert order == list(range(5))

    def test_who_waits_too_long_is_told_so(self, runtime: RuntimeName) -> None:
        async def main(server: ScriptedServer) -> None:
            options: Any = {"http_versions": ("2",), "max_connections": 2}
            async with tako.Client(server.url, **options) as client:
                first, second = await client.connect(), await client.connect()
                with pytest.raises(tako.PoolTimeout, match="are full") as caught:
                    await client.connect(open_timeout=0.05)
                assert caught.value.step == "queue"
                assert isinstance(caught.value, TimeoutError)
                await first.close()
                third = await client.connect()
                await together(lambda: echoes(second, "a"), lambda: echoes(third, "b"))

        with ScriptedServer(1) as server:
            run_on(runtime, main, server)
            assert [each.asked for each in server.connections] in ([2, 1], [1, 2])

    def test_who_is_cancelled_in_the_queue_takes_no_turn(
        self, runtime: RuntimeName
    ) -> None:
        async def main(server: ScriptedServer) -> None:
            options: Any = {"http_versions": ("2",), "max_connections": 1}
            async with tako.Client(server.url, **options) as client:
                first = await client.connect()
                assert client._pool is not None
                (place,) = client._pool._places.values()

                async def never() -> None:
                    await client.connect()

                await cancelled_when(lambda: place.waiting, never)
                assert not place.waiting
                await first.close()
                async with client.connect() as ws:
                    await echoes(ws, "mine")

        with ScriptedServer(1) as server:
            run_on(runtime, main, server)
            assert [each.asked for each in server.connections] == [2]

    def test_goaway_lets_open_ones_go_on(self, runtime: RuntimeName) -> None:
        async def main(server: ScriptedServer) -> None:
            async with tako.Client(server.url, http_versions=("2",)) as client:
                first = await client.connect()
                server.connections[0].goaway()
                await until(lambda: not links(client)[0].room)
                second = await client.connect()
                await together(lambda: echoes(first, "a"), lambda: echoes(second, "b"))
                assert len(links(client)) == 2
                await first.close()
                await until(lambda: len(links(client)) == 1)
                await echoes(second, "c")

        with ScriptedServer(100) as server:
            run_on(runtime, main, server)
            assert [each.asked for each in server.connections] == [1, 1]


def test_what_is_closed_is_forgotten_at_once(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    server = serve(echo_router())

    async def main() -> None:
        async def use() -> None:
            async with make_client(server) as client:
                for _ in range(3):
                    async with client.connect("/ws") as ws:
                        await echoes(ws, "hello")
                with pytest.raises(tako.HandshakeRejected):
                    await client.connect("/nowhere")

        await use()  # what Python itself keeps
        gc.collect()
        gc.disable()
        try:
            before = held()
            await use()
            await until(lambda: held() <= before)
        finally:
            gc.enable()

    run_on(runtime, main)


@shared
def test_an_idle_connection_is_closed(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    server = serve(echo_router())

    async def main() -> None:
        async with make_client(server, idle_timeout=0.1) as client:
            for _ in range(2):
                async with client.connect("/ws") as ws:
                    await echoes(ws, "hello")
                await until(lambda: not links(client))
                await until(lambda: not server.connections)

    run_on(runtime, main)


@shared
def test_a_cancelled_opening_resets_its_stream(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    gate, reports = Gate(), Reports()
    begun = threading.Event()
    router = echo_router()

    async def slow(request: tako.Request) -> tako.Response:
        begun.set()
        try:
            await gate.wait()
        except BaseException as error:
            reports.put(type(error).__name__)
            raise
        return tako.Response(204)

    router.get("/slow", slow)
    server = serve(router)

    async def main() -> None:
        async def use() -> None:
            async with make_client(server) as client:
                ws = await client.connect("/ws")
                (link,) = links(client)

                async def never() -> None:
                    await client.connect("/slow")

                for _ in range(3):
                    begun.clear()
                    await cancelled_when(begun.is_set, never)
                    assert len(link._engine.exchanges) == 1
                    await until(lambda: not reports.empty)
                    assert "Cancelled" in reports.get()
                with pytest.raises(tako.ConnectTimeout) as caught:
                    await client.connect("/slow", open_timeout=0.05)
                assert caught.value.step == "handshake"
                assert not isinstance(caught.value, tako.PoolTimeout)
                await echoes(ws, "still open")
                assert links(client) == [link]

        await without_leaks(use)

    run_on(runtime, main)


def test_a_client_that_is_left_closes_all(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    codes = Reports()

    async def session(ws: WebSocket) -> None:
        await ws.send("open")
        async for _ in ws:
            pass
        codes.put(ws.close_code)

    server = serve(ws_router(session))

    async def main() -> None:
        async def use() -> None:
            async with make_client(server) as client:
                for _ in range(3):
                    ws = await client.connect("/ws")
                    assert await ws.read(TIMEOUT) == "open"
                raise KeyError

        async def run() -> None:
            with pytest.raises(KeyError):
                await use()

        await without_leaks(run)

    run_on(runtime, main)
    assert [codes.get() for _ in range(3)] == [1001] * 3


def test_a_client_that_is_cancelled_closes_all(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    codes = Reports()

    async def session(ws: WebSocket) -> None:
        async for _ in ws:
            pass
        codes.put(ws.close_code)

    server = serve(ws_router(session))

    async def main() -> None:
        opened: list[WebSocket] = []

        async def use() -> None:
            async with make_client(server) as client:
                opened.extend(
                    [await client.connect("/ws"), await client.connect("/ws")]
                )
                await opened[0].read()

        async def run() -> None:
            await cancelled_when(lambda: len(opened) == 2, use)
            await until(lambda: not server.connections)

        await without_leaks(run)

    run_on(runtime, main)
    assert [codes.get() for _ in range(2)] == [1001] * 2


@shared
def test_a_server_that_vanishes_is_found_for_all_at_once(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    blocked = threading.Event()

    async def session(ws: WebSocket) -> None:
        async for message in ws:
            if message == "vanish":
                blocked.wait(TIMEOUT)  # the loop: nothing is answered any more

    server = serve(ws_router(session))

    async def main() -> None:
        options = {"ping_interval": 0.1, "ping_timeout": 0.1, "close_timeout": 0.1}
        async with make_client(server, **options) as client:
            sockets = [await client.connect("/ws") for _ in range(3)]
            await sockets[0].send("vanish")
            try:
                for ws in sockets:
                    with pytest.raises(tako.ConnectionClosed) as caught:
                        await ws.read(TIMEOUT / 2)
                    assert caught.value.code == 1006
            finally:
                blocked.set()

    run_on(runtime, main)


@pytest.mark.parametrize("wire", ["h1"])
def test_what_differs_is_said_at_connect(
    serve: Serve, wire: Wire, runtime: RuntimeName, make_client: MakeClient
) -> None:
    async def session(ws: WebSocket) -> None:
        fields = ws.request.headers
        await ws.send(
            " ".join(f"{n}={fields.get(n)}" for n in ("a", "b", "user-agent"))
        )

    server = serve(ws_router(session))

    async def main() -> None:
        fields = {"a": "1", "b": "2"}
        async with make_client(server, additional_headers=fields) as client:
            async with client.connect("ws") as ws:
                assert await ws.read(TIMEOUT) == "a=1 b=2 user-agent=tako"
            own: Any = {"additional_headers": {"b": "3"}, "user_agent_header": "me"}
            async with client.connect("/ws?x=1", **own) as ws:
                assert await ws.read(TIMEOUT) == "a=1 b=3 user-agent=me"

    run_on(runtime, main)


def test_a_client_connects_within_its_block(runtime: RuntimeName) -> None:
    async def main() -> None:
        client = tako.Client("ws://127.0.0.1:9")
        with pytest.raises(RuntimeError, match="within the block"):
            client.connect("/ws")
        async with client:
            with pytest.raises(tako.DialError):
                await client.connect("/ws", open_timeout=TIMEOUT)
            with pytest.raises(RuntimeError, match="begun already"):
                await client.__aenter__()
            late = client.connect("/ws")
        with pytest.raises(RuntimeError, match="within the block"):
            client.connect("/ws")
        with pytest.raises(tako.ConnectError, match="the client is closed"):
            await late
        async with client:  # another one
            with pytest.raises(tako.DialError):
                await client.connect("/ws", open_timeout=TIMEOUT)

    run_on(runtime, main)
