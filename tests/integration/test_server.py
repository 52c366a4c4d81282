"""``Server``, ``ServerHandle``, ``serve``: life and end on every runtime (spec 7)."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any, Literal

import pytest
import trustme

import tako
from tako import (
    Request,
    Router,
    Server,
    ServerConfig,
    ServerHandle,
    TlsCert,
    WebSocket,
    runtime as runtimes,
)
from tako.http.conn_info import IpPeer
from tako.runtime import Backend
from tako.server.service import Service
from tests.conftest import Serve
from tests.support.apps import echo_router, giving_up_after, together, ws_router
from tests.support.loops import run_on
from tests.support.peer import PeerConnection, Wire, connect
from tests.support.peer_io import NEVER, TIMEOUT, EndOfStreamError, StreamResetError
from tests.support.server import (
    UNHURRIED,
    Credentials,
    Gate,
    Reports,
    RuntimeName,
    cancelled_by,
    open_sockets,
)


"""Seconds for a shutdown that waits for nobody."""

Kind = Literal["http", "h2c", "tls"]
WIRE_OF: dict[Kind, Wire] = {"http": "h1", "h2c": "h2c", "tls": "h2"}
LOCAL = "127.0.0.1:0"


@contextlib.asynccontextmanager
async def beside() -> AsyncIterator[Any]:
    """Provide what ``nursery=`` takes here: a nursery on trio, nothing on asyncio."""
    async with runtimes.current().open_group() as group:
        yield group


async def in_thread(function: Callable[[], Any]) -> Any:
    return await runtimes.current().to_thread(function)


def status(handle: ServerHandle, wire: Wire = "h1", tls: Any = None) -> int:
    """Return what a client in another thread gets for ``GET /``."""
    with client(handle, wire, tls) as connection:
        return connection.request("GET", "/").status


def client(handle: ServerHandle, wire: Wire = "h1", tls: Any = None) -> PeerConnection:
    assert isinstance(handle.local_addr, IpPeer)
    return connect(("127.0.0.1", handle.local_addr.port), wire, tls)


def refused(handle: ServerHandle) -> bool:
    try:
        client(handle).close()
    except ConnectionRefusedError:
        return True
    return False


async def within(wait: Callable[[], Awaitable[object]]) -> None:
    """Await ``wait()``, which has the time that a hang takes."""
    ended = False
    async with giving_up_after(TIMEOUT):
        await wait()
        ended = True
    assert ended, f"it took longer than {TIMEOUT} s"


@pytest.fixture
def cert(credentials: Credentials) -> TlsCert:
    return TlsCert.pem_paths(credentials.cert, credentials.key)


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Any:
    before = open_sockets()
    yield
    leaked = open_sockets() - before
    assert not leaked, f"sockets left open: {leaked}"


class TestSpawn:
    @pytest.mark.parametrize("kind", ["http", "h2c", "tls"])
    def test_it_serves_when_it_returns_and_ends_at_shutdown(
        self, runtime: RuntimeName, kind: Kind, cert: TlsCert, credentials: Credentials
    ) -> None:
        async def main() -> None:
            server = Server(tls=cert)
            spawn = {
                "http": server.spawn_http,
                "h2c": server.spawn_h2c,
                "tls": server.spawn_tls,
            }[kind]
            async with beside() as nursery:
                handle = await spawn(LOCAL, echo_router(), nursery=nursery)
                got = await in_thread(
                    lambda: status(handle, WIRE_OF[kind], credentials.client)
                )
                assert got == 200
                await within(handle.shutdown)
                assert refused(handle)

        run_on(runtime, main)

    def test_joining_again_returns_at_once(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            async with beside() as nursery:
                handle = await Server().spawn_http(
                    LOCAL, echo_router(), nursery=nursery
                )
                handle.trigger()
                for _ in range(3):
                    await within(handle.join)
                handle.trigger()
                await within(handle.shutdown)

        run_on(runtime, main)

    def test_a_trigger_before_the_task_has_started_is_not_lost(
        self, runtime: RuntimeName
    ) -> None:
        async def main() -> None:
            async with beside() as nursery:
                handle = await Server().spawn_http(
                    LOCAL, echo_router(), nursery=nursery
                )
                assert handle._lifetime._service is None, "the test comes too late"
                handle.trigger()
                await within(handle.join)

        run_on(runtime, main)

    def test_all_who_join_are_told(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            async with beside() as nursery:
                handle = await Server().spawn_http(
                    LOCAL, echo_router(), nursery=nursery
                )

                async def trigger() -> None:
                    handle.trigger()

                await within(lambda: together(handle.join, handle.join, trigger))
                assert not handle._waiters

        run_on(runtime, main)

    def test_a_cancelled_join_leaves_the_server_alone(
        self, runtime: RuntimeName
    ) -> None:
        async def main() -> None:
            async with beside() as nursery:
                handle = await Server().spawn_http(
                    LOCAL, echo_router(), nursery=nursery
                )
                async with giving_up_after(0.05):
                    await handle.join()
                assert not handle._waiters
                assert await in_thread(lambda: status(handle)) == 200
                await handle.shutdown()

        run_on(runtime, main)

    def test_one_server_has_several_listeners(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            server = Server()
            async with beside() as nursery:
                handles = [
                    await server.spawn_http(LOCAL, echo_router(), nursery=nursery)
                    for _ in range(3)
                ]
                assert len({handle.local_addr for handle in handles}) == 3
                await handles[0].shutdown()
                assert await in_thread(lambda: status(handles[1])) == 200
                for handle in handles[1:]:
                    await handle.shutdown()

        run_on(runtime, main)

    def test_join_raises_what_ended_the_server(
        self, runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(_self: Service, _listener: socket.socket) -> None:
            msg = "accepting is broken"
            raise RuntimeError(msg)

        monkeypatch.setattr(Service, "_accept_from", broken)

        async def main() -> None:
            async with beside() as nursery:
                handle = await Server().spawn_http(
                    LOCAL, echo_router(), nursery=nursery
                )
                for _ in range(2):
                    with pytest.raises(RuntimeError, match="accepting is broken"):
                        await handle.join()
                assert refused(handle)

        run_on(runtime, main)

    def test_a_nursery_belongs_to_trio(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            wrong = None if runtime == "trio" else object()
            with pytest.raises(TypeError, match="nursery="):
                await Server().spawn_http(LOCAL, echo_router(), nursery=wrong)

        run_on(runtime, main)

    def test_tls_needs_a_certificate(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            with pytest.raises(
                tako.TlsConfigError, match="spawn_tls requires a TlsCert"
            ):
                await Server().spawn_tls(LOCAL, echo_router())

        run_on(runtime, main)

    def test_errors_of_the_setup_are_raised(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            with (
                socket.create_server(("127.0.0.1", 0)) as taken,
                pytest.raises(OSError, match="cannot listen"),
            ):
                await Server().spawn_http(
                    ("127.0.0.1", taken.getsockname()[1]), echo_router()
                )
            with pytest.raises(TypeError, match="Router"):
                await Server().spawn_http(LOCAL, object())  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="ServerConfig"):
                Server(config={})  # type: ignore[arg-type]

        run_on(runtime, main)

    @pytest.mark.parametrize("form", ["context", "leaf", "pair"])
    def test_whatever_stands_for_a_certificate_is_taken(
        self,
        runtime: RuntimeName,
        ca: trustme.CA,
        credentials: Credentials,
        form: str,
    ) -> None:
        leaf = ca.issue_cert("localhost", "127.0.0.1")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        pair = (credentials.cert, credentials.key)
        tls = {"context": context, "leaf": leaf, "pair": pair}[form]

        async def main() -> None:
            async with beside() as nursery:
                handle = await Server(tls=tls).spawn_tls(  # type: ignore[arg-type]
                    LOCAL, echo_router(), nursery=nursery
                )
                got = await in_thread(lambda: status(handle, "h2", credentials.client))
                assert got == 200
                await within(handle.shutdown)

        run_on(runtime, main)

    def test_the_builder_builds_the_same(self, cert: TlsCert) -> None:
        config = ServerConfig(drain_timeout=7)
        server = Server.builder().config(config).tls(cert).build()
        assert server.config is config
        assert server._settings().alpn == ("h2", "http/1.1")


def gated(gate: Gate, entered: Reports, router: Router | None = None) -> Router:
    """Add a ``/slow`` that waits for ``gate``."""
    router = router or echo_router()

    async def slow(request: Request) -> str:
        entered.put("entered")
        try:
            await gate.wait()
        finally:
            entered.put("left")
        return "done"

    router.get("/slow", slow)
    return router


class TestShutdown:
    @pytest.mark.parametrize("draining", [False, True])
    def test_its_timeout_shortens_the_drain(
        self, runtime: RuntimeName, draining: bool
    ) -> None:
        gate, entered = Gate(), Reports()

        async def main() -> None:
            async with beside() as nursery:
                handle = await Server(
                    config=ServerConfig(drain_timeout=600)
                ).spawn_http(LOCAL, gated(gate, entered), nursery=nursery)
                assert handle.drain_timeout == 600
                with await in_thread(lambda: client(handle)) as connection:
                    connection.send_request("GET", "/slow")
                    assert await in_thread(entered.get) == "entered"
                    if draining:
                        handle.trigger()
                        await tako.sleep(0)
                    await within(lambda: handle.shutdown(0.2))
                    assert entered.get() == "left"

        run_on(runtime, main)

    def test_a_request_in_progress_is_finished(self, runtime: RuntimeName) -> None:
        gate, entered = Gate(), Reports()

        async def main() -> None:
            async with beside() as nursery:
                handle = await Server().spawn_http(
                    LOCAL, gated(gate, entered), nursery=nursery
                )
                with await in_thread(lambda: client(handle)) as connection:
                    pending = connection.send_request("GET", "/slow")
                    assert await in_thread(entered.get) == "entered"
                    handle.trigger()
                    gate.open()
                    response = await in_thread(pending.read_response)
                    assert response.body == b"done"
                await within(handle.join)

        run_on(runtime, main)


class TestRunning:
    @pytest.mark.parametrize("kind", ["http", "h2c", "tls"])
    def test_it_serves_for_the_length_of_the_block(
        self, runtime: RuntimeName, kind: Kind, cert: TlsCert, credentials: Credentials
    ) -> None:
        async def main() -> None:
            server = Server(tls=cert)
            running = {
                "http": server.running_http,
                "h2c": server.running_h2c,
                "tls": server.running_tls,
            }[kind]
            async with running(LOCAL, echo_router()) as handle:
                got = await in_thread(
                    lambda: status(handle, WIRE_OF[kind], credentials.client)
                )
                assert got == 200
            assert refused(handle)

        run_on(runtime, main)

    def test_an_exception_leaves_the_block_as_it_is(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            handles: list[ServerHandle] = []

            async def fail() -> None:
                async with Server().running_http(LOCAL, echo_router()) as handle:
                    handles.append(handle)
                    msg = "mine"
                    raise KeyError(msg)

            with pytest.raises(KeyError, match="mine"):
                await fail()
            assert refused(handles[0])

        run_on(runtime, main)

    def test_cancelling_the_block_ends_the_server(self, runtime: RuntimeName) -> None:
        handles: list[ServerHandle] = []
        running = Gate()

        async def serving() -> None:
            async with Server().running_http(LOCAL, echo_router()) as handle:
                handles.append(handle)
                running.open()
                await tako.sleep(NEVER)

        async def main() -> None:
            await cancelled_by(running, serving)
            await handles[0].join()
            assert refused(handles[0])

        run_on(runtime, main)


class TestCancellingServe:
    def test_it_leaves_nothing_behind(self, runtime: RuntimeName) -> None:
        """Handlers and sessions are unwound, sockets are closed, before it returns."""
        gate, entered = Gate(), Reports()

        async def session(ws: WebSocket) -> None:
            entered.put("session")
            try:
                await ws.read()
            finally:
                entered.put("session left")

        async def main() -> set[str]:
            router = gated(gate, entered, ws_router(session))
            listener = await tako.bind(LOCAL)
            address = ("127.0.0.1", listener.port)
            left: set[str] = set()

            def use() -> list[PeerConnection]:
                slow, idle, ws = (connect(address, "h1") for _ in range(3))
                slow.send_request("GET", "/slow")
                assert entered.get() == "entered"
                assert idle.request("GET", "/").status == 200
                ws.websocket("/ws")
                assert entered.get() == "session"
                return [slow, idle, ws]

            connections: list[PeerConnection] = []
            ready = Gate()

            async def clients() -> None:
                connections.extend(await in_thread(use))
                ready.open()

            async def serving() -> None:
                await cancelled_when(ready, lambda: tako.serve(listener, router))
                while not entered.empty:
                    left.add(entered.get())

            await within(lambda: together(serving, clients))
            for connection in connections:
                connection.close()
            with pytest.raises(ConnectionRefusedError):
                connect(address, "h1")
            if runtime != "trio":
                assert asyncio.all_tasks() == {asyncio.current_task()}
            return left

        assert run_on(runtime, main) == {"left", "session left"}

    def test_it_does_not_wait_for_a_drain(self, runtime: RuntimeName) -> None:
        gate, entered = Gate(), Reports()

        async def main() -> None:
            listener = await tako.bind(LOCAL)
            draining = Gate()

            async def shutdown() -> None:
                await in_thread(entered.get)
                draining.open()

            with connect(("127.0.0.1", listener.port), "h1") as connection:
                connection.send_request("GET", "/slow")
                await within(
                    lambda: cancelled_when(
                        draining,
                        lambda: tako.serve(
                            listener, gated(gate, entered), shutdown=shutdown
                        ),
                    ),
                )
                with pytest.raises((EndOfStreamError, StreamResetError)):
                    connection.read_response()  # type: ignore[union-attr]

        run_on(runtime, main)


async def cancelled_when(gate: Gate, function: Callable[[], Awaitable[object]]) -> None:
    """Await ``function()`` and cancel it once ``gate`` is open."""
    if isinstance(_loop(), asyncio.AbstractEventLoop):
        task = asyncio.ensure_future(function())
        await gate.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return
    import trio

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await function()

        nursery.start_soon(run)
        await gate.wait()
        nursery.cancel_scope.cancel()


def _loop() -> object:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class TestMaxConnections:
    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_the_next_client_waits_until_one_leaves(self, serve: Serve) -> None:
        server = serve(echo_router(), ServerConfig(max_connections=1))
        with server.connect_h1() as first:
            assert first.request("GET", "/").status == 200
            with server.connect_h1() as second:
                second.send_request("GET", "/")
                with pytest.raises(TimeoutError):
                    second.socket.receive(timeout=0.3)
                first.close()
                assert second.read_response().status == 200

    def test_a_session_keeps_its_permit(self, serve: Serve) -> None:
        server = serve(echo_router(), ServerConfig(max_connections=1))
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            ws.echo("one")
            with socket.create_connection(server.address, timeout=TIMEOUT) as waiting:
                waiting.settimeout(0.3)
                waiting.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                with pytest.raises(TimeoutError):
                    waiting.recv(1)
                ws.echo("two")

    def test_shutdown_does_not_wait_for_a_permit(self, serve: Serve) -> None:
        server = serve(echo_router(), replace(UNHURRIED, max_connections=1))
        with server.connect() as connection:
            assert connection.request("GET", "/").status == 200
            with socket.create_connection(server.address, timeout=TIMEOUT) as parked:
                server.shut_down()
                connection.expect_closed()
                connection.close()
                server.join()
                with contextlib.suppress(ConnectionResetError):
                    while parked.recv(1000):
                        pass

    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_before_a_handover_who_waits_for_a_permit_is_served(
        self, serve: Serve
    ) -> None:
        config = replace(UNHURRIED, max_connections=1, drain_delay=NEVER)
        server = serve(echo_router(), config)
        with server.connect() as connection, server.connect() as parked:
            for _ in range(3):  # meanwhile the other one is accepted
                assert connection.request("GET", "/").status == 200
            server.shut_down()
            assert parked.request("GET", "/").status == 200
            assert connection.request("GET", "/").status == 200
        server.join()


def test_a_backend_has_all_that_is_promised(runtime: RuntimeName) -> None:
    async def main() -> Backend:
        return runtimes.current()

    backend = run_on(runtime, main)
    promised = {name for name in vars(Backend) if not name.startswith("_")}
    assert promised <= set(dir(backend))
