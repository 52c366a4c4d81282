"""``serve``, awaited and as a block, and ``Server``: life and end on every runtime."""

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trustme

import tako
from tako import (
    ConfigError,
    Request,
    Router,
    Server,
    ServerConfig,
    ServerStatistics,
    WebSocket,
    runtime as runtimes,
)
from tako.http.conn_info import IpPeer, UnixPeer
from tako.runtime import Backend
from tako.server import service
from tako.server.lifetime import Lifetime
from tako.server.serve import Serving
from tako.server.service import Endpoint, Service
from tako.testing.peer import PeerConnection, Wire, connect
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.io import EndOfStreamError, StreamResetError
from tests.conftest import WIRES, Serve
from tests.support.apps import echo_router, giving_up_after, together, ws_router
from tests.support.listeners import connect_to
from tests.support.loops import run_on
from tests.support.patience import NEVER, TIMEOUT
from tests.support.server import (
    UNHURRIED,
    Credentials,
    Gate,
    Reports,
    RuntimeName,
    cancelled_by,
    open_sockets,
    serving,
)


Pair: TypeAlias = tuple[Path, Path]

LOCAL = "127.0.0.1:0"
ONE = ServerConfig(max_connections=1)


async def in_thread(function: Callable[[], Any]) -> Any:
    return await runtimes.current().to_thread(function)


def ask(connection: PeerConnection) -> Any:
    return connection.request("GET", "/")


def asked(where: IpPeer) -> int:
    with connect((where.host, where.port), "h1") as connection:
        return connection.request("GET", "/").status


def status(server: Server, wire: Wire = "h1", tls: Any = None) -> int:
    """Return what a client in another thread gets for ``GET /``."""
    with client(server, wire, tls) as connection:
        return connection.request("GET", "/").status


def client(server: Server, wire: Wire = "h1", tls: Any = None) -> PeerConnection:
    address = server.addresses[0]
    assert isinstance(address, IpPeer)
    return connect(("127.0.0.1", address.port), wire, tls)


def refused(server: Server) -> bool:
    try:
        client(server).close()
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
def pair(credentials: Credentials) -> Pair:
    return credentials.cert, credentials.key


@pytest.fixture(autouse=True)
def _nothing_left_open() -> Any:
    before = open_sockets()
    yield
    leaked = open_sockets() - before
    assert not leaked, f"sockets left open: {leaked}"


class TestBlock:
    """``async with serve(...) as server``."""

    @pytest.mark.parametrize("wire", WIRES)
    def test_it_serves_when_it_begins_and_has_ended_at_its_end(
        self, runtime: RuntimeName, wire: Wire, pair: Pair, credentials: Credentials
    ) -> None:
        async def main() -> None:
            async with serving(wire, LOCAL, echo_router(), pair) as server:
                got = await in_thread(lambda: status(server, wire, credentials.client))
                assert got == 200
            assert refused(server)

        run_on(runtime, main)

    def test_several_addresses_are_one_server(
        self, runtime: RuntimeName, tmp_path: Path
    ) -> None:
        path = str(tmp_path / "a.sock")

        async def main() -> None:
            bound = await tako.bind(LOCAL)
            sock = socket.create_server(("127.0.0.1", 0))
            where: Any = [
                LOCAL,
                ("localhost", 0),
                f"unix:{path}",
                bound,
                sock,
            ]
            async with tako.serve(where, echo_router(), config=ONE) as server:
                assert UnixPeer(path) in server.addresses
                assert bound.local_addr in server.addresses
                ports = [each for each in server.addresses if isinstance(each, IpPeer)]
                assert len(ports) >= 4
                assert all(each.port for each in ports)
                for each in ports:
                    if each.host == "127.0.0.1":
                        assert await in_thread(lambda: asked(each)) == 200  # noqa: B023
                with await in_thread(lambda: connect_to(path, "h1")) as first:
                    assert (await in_thread(partial(ask, first))).status == 200
                    # the limit is of all of them together
                    with await in_thread(lambda: client(server)) as second:
                        pending = second.send_request("GET", "/")
                        await tako.sleep(0.05)
                        assert server.statistics.connections == 1
                        first.close()
                        got = await in_thread(pending.read_response)
                        assert got.status == 200
            assert refused(server)

        run_on(runtime, main)
        assert not Path(path).exists()

    def test_if_one_address_fails_none_is_left_bound(
        self, runtime: RuntimeName, tmp_path: Path
    ) -> None:
        path = tmp_path / "a.sock"

        async def main() -> None:
            with socket.create_server(("127.0.0.1", 0)) as taken:
                where = [f"unix:{path}", ("127.0.0.1", taken.getsockname()[1])]
                with pytest.raises(OSError, match="cannot listen"):
                    await tako.serve(where, echo_router())
            assert not path.exists()
            with pytest.raises(ValueError, match="no address in the list"):
                await tako.serve([], echo_router())

        run_on(runtime, main)

    def test_an_exception_leaves_it_as_it_is_after_the_drain(
        self, runtime: RuntimeName
    ) -> None:
        gate, entered = Gate(), Reports()
        servers: list[Server] = []
        error = KeyError("mine")

        def use(server: Server) -> bytes:
            with client(server) as connection:
                return connection.request("GET", "/slow").body

        async def fail(pool: ThreadPoolExecutor) -> None:
            async with tako.serve(LOCAL, gated(gate, entered)) as server:
                servers.append(server)
                answers.append(pool.submit(use, server))
                assert await in_thread(entered.get) == "entered"
                gate.open()
                raise error

        answers: list[Future[bytes]] = []

        async def main() -> None:
            with ThreadPoolExecutor() as pool:
                with pytest.raises(KeyError, match="mine") as caught:
                    await fail(pool)
                assert caught.value is error
                assert answers[0].result(TIMEOUT) == b"done"
            assert refused(servers[0])

        run_on(runtime, main)

    def test_cancelling_it_aborts_the_server(self, runtime: RuntimeName) -> None:
        gate, entered = Gate(), Reports()
        running = Gate()
        servers: list[Server] = []

        async def block() -> None:
            router = gated(gate, entered)
            async with tako.serve(LOCAL, router, config=UNHURRIED) as server:
                servers.append(server)
                with await in_thread(lambda: client(server)) as connection:
                    connection.send_request("GET", "/slow")
                    assert await in_thread(entered.get) == "entered"
                    running.open()
                    await tako.sleep(NEVER)

        async def main() -> None:
            await within(lambda: cancelled_by(running, block))
            assert entered.get() == "left"
            await servers[0].wait_closed()
            assert refused(servers[0])

        run_on(runtime, main)

    def test_a_server_that_fails_ends_the_block_with_its_error(
        self, runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = Gate()
        seen: list[str] = []
        servers: list[Server] = []

        async def broken(_self: Service, _listener: socket.socket) -> None:
            await gate.wait()
            msg = "accepting is broken"
            raise RuntimeError(msg)

        monkeypatch.setattr(Service, "_accept_from", broken)

        async def block() -> None:
            async with tako.serve(LOCAL, echo_router()) as server:
                servers.append(server)
                gate.open()
                try:
                    await tako.sleep(NEVER)
                finally:
                    seen.append("cancelled")
                seen.append("not reached")

        async def main() -> None:
            with pytest.raises(RuntimeError, match="accepting is broken"):
                await within(block)
            assert seen == ["cancelled"]
            assert refused(servers[0])
            with pytest.raises(RuntimeError, match="accepting is broken"):
                await servers[0].wait_closed()
            await tako.sleep(0)  # the task itself is not cancelled

        run_on(runtime, main)

    def test_what_it_raises_while_the_server_fails_is_the_errors_context(
        self, runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = Gate()

        async def broken(_self: Service, _listener: socket.socket) -> None:
            await gate.wait()
            msg = "accepting is broken"
            raise RuntimeError(msg)

        monkeypatch.setattr(Service, "_accept_from", broken)

        async def block() -> None:
            async with tako.serve(LOCAL, echo_router()):
                gate.open()
                try:
                    await tako.sleep(NEVER)
                finally:
                    msg = "while it was left"
                    raise KeyError(msg)

        async def main() -> None:
            with pytest.raises(RuntimeError, match="accepting is broken") as caught:
                await within(block)
            assert isinstance(caught.value.__context__, KeyError)
            await tako.sleep(0)

        run_on(runtime, main)

    def test_a_server_that_is_told_to_end_ends_the_block(
        self, runtime: RuntimeName
    ) -> None:
        seen: list[str] = []

        async def block() -> None:
            told = Gate()
            async with tako.serve(LOCAL, echo_router(), shutdown=told.wait):
                told.open()
                await tako.sleep(NEVER)
                seen.append("not reached")
            seen.append("behind it")
            await tako.sleep(0)

        run_on(runtime, lambda: within(block))
        assert seen == ["behind it"]

    def test_one_that_a_handler_stops_ends_the_block(
        self, runtime: RuntimeName
    ) -> None:
        router = echo_router()

        async def stop(request: Request) -> str:
            servers[0].stop()
            return "stopping"

        servers: list[Server] = []
        router.post("/stop", stop)

        def post(server: Server) -> bytes:
            with client(server) as connection:
                return connection.request("POST", "/stop").body

        async def block() -> None:
            async with tako.serve(LOCAL, router) as server:
                servers.append(server)
                assert await in_thread(lambda: post(server)) == b"stopping"
                await tako.sleep(NEVER)

        run_on(runtime, lambda: within(block))

    def test_a_block_that_waits_for_the_end_goes_on_behind_it(
        self, runtime: RuntimeName
    ) -> None:
        seen: list[str] = []

        async def block() -> None:
            told = Gate()
            async with tako.serve(LOCAL, echo_router(), shutdown=told.wait) as server:
                told.open()
                await server.wait_closed()
                await tako.sleep(0)
                seen.append("reached")

        run_on(runtime, lambda: within(block))
        assert seen == ["reached"]

    def test_a_start_that_is_stopped_cancels_the_block(
        self, runtime: RuntimeName
    ) -> None:
        seen: list[str] = []

        async def block(*, waits: bool) -> None:
            async with tako.serve(LOCAL, Starting(), shutdown=tako.sleep(0)) as server:
                assert refused(server)
                if waits:
                    await tako.sleep(NEVER)
                    seen.append("not reached")
            seen.append("behind it")
            await tako.sleep(0)

        run_on(runtime, lambda: within(partial(block, waits=True)))
        run_on(runtime, lambda: within(partial(block, waits=False)))
        assert seen == ["behind it"] * 2

    def test_a_start_that_fails_begins_no_block(self, runtime: RuntimeName) -> None:
        class Failing(Router):
            @contextlib.asynccontextmanager
            async def lifespan(self) -> AsyncGenerator[None]:
                await tako.sleep(0)
                msg = "no database"
                raise LookupError(msg)
                yield

        async def main() -> None:
            with pytest.raises(LookupError, match="no database"):
                async with tako.serve(LOCAL, Failing()):
                    pytest.fail("the block began")

        run_on(runtime, main)

    def test_a_cancellation_from_outside_is_not_the_servers(
        self, runtime: RuntimeName
    ) -> None:
        """Also if the server ends at the same time."""
        running = Gate()
        seen: list[str] = []

        async def block() -> None:
            async with tako.serve(LOCAL, echo_router()) as server:
                server.stop()
                running.open()
                await tako.sleep(NEVER)
            await tako.sleep(NEVER)  # the cancellation arrives, here at the latest
            seen.append("not reached")

        async def main() -> None:
            await within(lambda: cancelled_by(running, block))

        run_on(runtime, main)
        assert not seen

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
        tls: Any = {"context": context, "leaf": leaf, "pair": pair}[form]

        async def main() -> None:
            for serve in (tako.serve, tako.serve_tls):
                async with serve(LOCAL, echo_router(), tls=tls) as server:
                    got = await in_thread(
                        lambda: status(server, "h2", credentials.client)
                    )
                    assert got == 200

        run_on(runtime, main)


class Starting(Router):
    """A router with a start that does not end."""

    @contextlib.asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None]:
        await tako.sleep(NEVER)
        yield


class TestServing:
    """What ``serve`` returns."""

    @pytest.mark.parametrize("name", ["serve", "serve_tls"])
    def test_one_that_is_not_used_warns(self, name: str) -> None:
        with pytest.warns(RuntimeWarning, match=f"{name}.*never awaited or entered"):
            getattr(tako, name)(LOCAL, echo_router())

    @pytest.mark.parametrize("first", ["awaited", "entered", "closed"])
    def test_it_is_used_once(self, runtime: RuntimeName, first: str) -> None:
        async def main() -> None:
            made = tako.serve(LOCAL, echo_router(), shutdown=lambda: tako.sleep(0))
            if first == "awaited":
                await made
            elif first == "entered":
                async with made as server:
                    await server.drain()
            else:
                made.close()
            with pytest.raises(RuntimeError, match="call it again"):
                await made
            with pytest.raises(RuntimeError, match="call it again"):
                async with made:
                    pytest.fail("the block began")

        run_on(runtime, main)

    def test_it_is_a_coroutine_for_functions_that_take_one(
        self, runtime: RuntimeName
    ) -> None:
        def served(told: Gate) -> Serving:
            return tako.serve(LOCAL, echo_router(), shutdown=told.wait)

        async def main() -> None:
            told = Gate()
            told.open()
            if runtime == "trio":
                import trio

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(served, told)
            else:
                await asyncio.create_task(served(told))

        run_on(runtime, lambda: within(main))
        told = Gate()
        told.open()
        run_on(runtime, served, told)

    def test_a_task_of_it_can_be_cancelled(self, runtime: RuntimeName) -> None:
        if runtime == "trio":
            pytest.skip("create_task is asyncio's")

        async def main() -> None:
            task = asyncio.create_task(tako.serve(LOCAL, echo_router()))
            await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        run_on(runtime, lambda: within(main))

    def test_errors_of_the_setup_are_raised_when_it_is_used(
        self, runtime: RuntimeName
    ) -> None:
        async def main() -> None:
            for wrong, error, why in (
                ({"app": object()}, TypeError, "serve takes a Router, not object"),
                ({"config": {}}, TypeError, "ServerConfig"),
                ({"listener": 7}, TypeError, "not int"),
                ({"listener": "nonsense"}, ValueError, "an address is"),
            ):
                arguments: Any = {"listener": LOCAL, "app": echo_router()} | wrong
                with pytest.raises(error, match=why):
                    await tako.serve(**arguments)
                with pytest.raises(error, match=why):
                    async with tako.serve(**arguments):
                        pytest.fail("the block began")
            with (
                socket.create_server(("127.0.0.1", 0)) as taken,
                pytest.raises(OSError, match="cannot listen"),
            ):
                await tako.serve(("127.0.0.1", taken.getsockname()[1]), echo_router())

        run_on(runtime, main)


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


class TestHandle:
    def test_draining_again_returns_at_once(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            async with tako.serve(LOCAL, echo_router()) as server:
                server.stop()
                for _ in range(3):
                    await within(server.wait_closed)
                server.stop()
                await within(server.drain)
                await within(server.close)
                assert refused(server)

        run_on(runtime, main)

    def test_a_stop_before_the_service_runs_is_not_lost(
        self, runtime: RuntimeName
    ) -> None:
        async def main() -> None:
            with await tako.bind(LOCAL) as listener:
                made = Lifetime(listener, echo_router(), Endpoint(), ServerConfig())
                made.stop()
                await within(made.run)

        run_on(runtime, main)

    def test_all_that_wait_are_told(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            async with tako.serve(LOCAL, echo_router()) as server:

                async def stop() -> None:
                    server.stop()

                wait = server.wait_closed
                await within(lambda: together(wait, wait, server.drain, stop))
                assert not server._waiting

        run_on(runtime, main)

    def test_a_cancelled_wait_leaves_the_server_alone(
        self, runtime: RuntimeName
    ) -> None:
        async def main() -> None:
            async with tako.serve(LOCAL, echo_router()) as server:
                async with giving_up_after(0.05):
                    await server.wait_closed()
                assert not server._waiting
                assert await in_thread(lambda: status(server)) == 200

        run_on(runtime, main)

    def test_a_cancelled_drain_goes_on(self, runtime: RuntimeName) -> None:
        gate, entered = Gate(), Reports()

        async def main() -> None:
            async with tako.serve(LOCAL, gated(gate, entered)) as server:
                with await in_thread(lambda: client(server)) as connection:
                    pending = connection.send_request("GET", "/slow")
                    assert await in_thread(entered.get) == "entered"
                    async with giving_up_after(0.05):
                        await server.drain()
                    assert refused(server)
                    gate.open()
                    response = await in_thread(pending.read_response)
                    assert response.body == b"done"
                    await within(server.wait_closed)

        run_on(runtime, main)

    @pytest.mark.parametrize("draining", [False, True])
    @pytest.mark.parametrize("how", ["drain", "close"])
    def test_a_timeout_shortens_the_drain(
        self, runtime: RuntimeName, draining: bool, how: str
    ) -> None:
        gate, entered = Gate(), Reports()

        async def main() -> None:
            config = ServerConfig(drain_timeout=600)
            async with tako.serve(LOCAL, gated(gate, entered), config=config) as server:
                with await in_thread(lambda: client(server)) as connection:
                    connection.send_request("GET", "/slow")
                    assert await in_thread(entered.get) == "entered"
                    if draining:
                        server.stop()
                        await tako.sleep(0)
                    end = server.close if how == "close" else partial(server.drain, 0.2)
                    await within(end)
                    assert entered.get() == "left"

        run_on(runtime, main)

    def test_its_delay_is_left_out_when_it_is_to_end_now(
        self, runtime: RuntimeName
    ) -> None:
        config = ServerConfig(drain_timeout=600, drain_delay=600)

        async def main() -> None:
            for early in (False, True):
                async with tako.serve(LOCAL, echo_router(), config=config) as server:
                    with await in_thread(lambda: client(server)) as connection:
                        got = await in_thread(partial(ask, connection))
                        assert got.status == 200
                        if not early:
                            server.stop()
                            await tako.sleep(0.05)
                        await within(server.close)

        run_on(runtime, main)

    @pytest.mark.parametrize("wire", WIRES)
    def test_during_its_delay_it_serves_as_before(
        self, runtime: RuntimeName, wire: Wire, pair: Pair, credentials: Credentials
    ) -> None:
        config = replace(UNHURRIED, drain_delay=NEVER)
        tls = credentials.client

        def new_client(server: Server) -> None:
            with client(server, wire, tls) as connection:
                for _ in range(2):
                    response = connection.request("GET", "/")
                    assert response.status == 200
                    assert response.header("connection") is None
                connection.websocket("/ws").echo("opened in the delay")
                if isinstance(connection, H2Connection):
                    connection.ping()  # what was sent before has been read
                    assert not connection.goaways

        async def main() -> None:
            app = echo_router()
            async with serving(wire, LOCAL, app, pair, config=config) as server:
                with await in_thread(lambda: client(server, wire, tls)) as connection:
                    ws = await in_thread(lambda: connection.websocket("/ws"))
                    server.stop()
                    server.stop()
                    await in_thread(lambda: new_client(server))
                    await in_thread(lambda: ws.echo("goes on"))
                    await within(server.close)

        run_on(runtime, main)

    def test_a_handover_serves_what_was_accepted_and_ends_by_itself(
        self, runtime: RuntimeName
    ) -> None:
        config = replace(UNHURRIED, drain_delay=NEVER)

        async def main() -> None:
            for early in (False, True):
                async with tako.serve(LOCAL, echo_router(), config=config) as server:
                    with await in_thread(lambda: client(server)) as connection:
                        got = await in_thread(partial(ask, connection))
                        assert got.status == 200
                        if not early:
                            server.stop()
                        server.hand_over()
                        server.hand_over()
                        await in_thread(connection.expect_closed)
                    await within(server.wait_closed)
                    server.hand_over()

        run_on(runtime, main)

    def test_a_timeout_is_a_positive_time(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            async with tako.serve(LOCAL, echo_router()) as server:
                with pytest.raises(ConfigError, match="timeout"):
                    await server.drain(timeout=-1)
                assert await in_thread(lambda: status(server)) == 200

        run_on(runtime, main)

    def test_a_request_in_progress_is_finished(self, runtime: RuntimeName) -> None:
        gate, entered = Gate(), Reports()

        async def main() -> None:
            async with tako.serve(LOCAL, gated(gate, entered)) as server:
                with await in_thread(lambda: client(server)) as connection:
                    pending = connection.send_request("GET", "/slow")
                    assert await in_thread(entered.get) == "entered"
                    server.stop()
                    gate.open()
                    response = await in_thread(pending.read_response)
                    assert response.body == b"done"
                await within(server.wait_closed)

        run_on(runtime, main)

    def test_its_statistics_are_what_there_is(
        self, runtime: RuntimeName, pair: Pair, credentials: Credentials
    ) -> None:
        gate, entered = Gate(), Reports()

        async def main() -> None:
            router = gated(gate, entered)
            async with tako.serve_tls(LOCAL, router, *pair) as server:
                assert server.statistics == ServerStatistics()
                local = server.addresses[0]
                assert isinstance(local, IpPeer)
                silent = socket.create_connection(("127.0.0.1", local.port), TIMEOUT)
                busy = await in_thread(lambda: client(server, "h2", credentials.client))
                with silent, busy:
                    busy.send_request("GET", "/slow")
                    assert await in_thread(entered.get) == "entered"
                    assert server.statistics == ServerStatistics(
                        connections=2, handshakes=1, exchanges=1, accepted=2
                    )
                    gate.open()
                await within(server.drain)
                assert server.statistics == ServerStatistics(accepted=2)

        run_on(runtime, main)

    def test_reload_loads_what_has_changed(
        self, runtime: RuntimeName, ca: trustme.CA, tmp_path: Path
    ) -> None:
        cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

        def write() -> bytes:
            leaf = ca.issue_cert("localhost", "127.0.0.1")
            leaf.private_key_pem.write_to_path(key)
            leaf.cert_chain_pems[0].write_to_path(cert)
            return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

        def shown(server: Server) -> bytes | None:
            local = server.addresses[0]
            assert isinstance(local, IpPeer)
            context = ssl.create_default_context()
            ca.configure_trust(context)
            with (
                socket.create_connection(("127.0.0.1", local.port), TIMEOUT) as raw,
                context.wrap_socket(raw, server_hostname="localhost") as sock,
            ):
                return sock.getpeercert(binary_form=True)

        async def main() -> None:
            first = write()
            async with tako.serve_tls(LOCAL, echo_router(), cert, key) as server:
                assert await in_thread(lambda: shown(server)) == first
                second = write()
                server.reload()
                assert await in_thread(lambda: shown(server)) == second
                cert.write_text("no certificate")
                with pytest.raises(tako.TlsConfigError):
                    server.reload()
                assert await in_thread(lambda: shown(server)) == second
            async with tako.serve(LOCAL, echo_router()) as server:
                server.reload()

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
    def test_before_a_handover_a_client_that_waits_for_a_permit_is_served(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "HANDOVER", NEVER)
        server = serve(echo_router(), replace(UNHURRIED, max_connections=1))
        with server.connect() as connection, server.connect() as parked:
            for _ in range(3):  # meanwhile the other one is accepted
                assert connection.request("GET", "/").status == 200
            server.hand_over()
            assert parked.request("GET", "/").status == 200
            assert connection.request("GET", "/").status == 200
        server.join()


HEALTH = replace(UNHURRIED, health_path="/up", health_lag=0.5)


def probe(connection: PeerConnection, method: str = "GET") -> tuple[int, bytes]:
    response = connection.request(method, "/up")
    assert response.header("cache-control") == "no-store"
    return response.status, response.body


class TestHealth:
    @pytest.mark.parametrize("wire", WIRES)
    def test_on_each_wire_and_in_each_phase(
        self, runtime: RuntimeName, wire: Wire, pair: Pair, credentials: Credentials
    ) -> None:
        well = [True]
        config = replace(HEALTH, health_lag=None, drain_delay=NEVER)

        async def main() -> None:
            async with serving(
                wire,
                *(LOCAL, echo_router(), pair),
                config=config,
                healthy=lambda: well[0],
            ) as server:
                with await in_thread(
                    lambda: client(server, wire, credentials.client)
                ) as connection:
                    ask = partial(in_thread, lambda: probe(connection))
                    assert await ask() == (200, b"ok\n")
                    head = await in_thread(lambda: probe(connection, "HEAD"))
                    assert head == (200, b"")
                    post = await in_thread(lambda: probe(connection, "POST"))
                    assert post[0] == 405
                    well[0] = False
                    assert await ask() == (503, b"not healthy\n")
                    well[0] = True
                    assert await ask() == (200, b"ok\n")
                    server.stop()
                    assert await ask() == (503, b"shutting down\n")
                    await within(server.close)

        run_on(runtime, main)

    def test_whatever_the_host_and_the_scheme(
        self,
        runtime: RuntimeName,
        pair: Pair,
        credentials: Credentials,
        ca: trustme.CA,
    ) -> None:
        other = ca.issue_cert("two.test")
        tls = tako.tls.TlsCert.sni({"localhost": pair, "two.test": other})

        def misdirected(server: Server) -> list[int]:
            """Return what is answered to a name of another certificate."""
            host = [("host", "two.test")]
            with client(server, "h1s", credentials.client) as connection:
                paths = ("/up", "/")
                return [connection.request("GET", each, host).status for each in paths]

        async def main() -> None:
            async with tako.serve(
                LOCAL,
                echo_router(),
                tls=tls,
                protocol="any",
                https_redirect=True,
                config=HEALTH,
            ) as server:
                with await in_thread(lambda: client(server)) as plain:
                    assert (await in_thread(lambda: probe(plain)))[0] == 200
                    assert (await in_thread(lambda: ask(plain))).status == 308
                assert await in_thread(lambda: misdirected(server)) == [200, 421]

        run_on(runtime, main)

    def test_a_probe_that_waited_while_the_loop_stood_still(
        self, runtime: RuntimeName
    ) -> None:
        entered = Reports()
        router = Router()

        def block(_: Request) -> str:
            entered.put("blocks")
            assert sent.acquire(timeout=TIMEOUT)
            time.sleep(2)  # longer than health_lag and the time between two looks
            return "done"

        router.get("/block", block)
        sent = threading.Semaphore(0)

        def rounds(server: Server) -> None:
            with client(server) as blocked, client(server) as prober:
                _until_well(prober)
                blocked.send_request("GET", "/block")
                assert entered.get() == "blocks"
                assert isinstance(prober, H1Connection)
                prober.send_request("GET", "/up")
                sent.release()
                response = prober.read_response()
                assert response.status == 503
                assert response.body == b"the event loop stands still\n"
                _until_well(prober)

        async def main() -> None:
            async with tako.serve(LOCAL, router, config=HEALTH) as server:
                for _ in range(3):
                    await in_thread(lambda: rounds(server))

        run_on(runtime, main)

    def test_a_check_is_a_plain_function(self, runtime: RuntimeName) -> None:
        async def check() -> bool:
            return True

        async def main() -> None:
            for wrong in (check, True):
                with pytest.raises(TypeError, match="healthy takes a plain function"):
                    await tako.serve(
                        LOCAL,
                        echo_router(),
                        healthy=wrong,  # type: ignore[arg-type]
                    )

        run_on(runtime, main)


def _until_well(connection: PeerConnection) -> None:
    end = time.monotonic() + TIMEOUT
    while probe(connection)[0] != 200:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_backend_has_all_that_is_promised(runtime: RuntimeName) -> None:
    async def main() -> Backend:
        return runtimes.current()

    backend = run_on(runtime, main)
    promised = {name for name in vars(Backend) if not name.startswith("_")}
    assert promised <= set(dir(backend))
