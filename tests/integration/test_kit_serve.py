"""``tako.testing.serve``: what a test is given, and what it is told at the end."""

import asyncio
import logging
import os
import socket
import ssl
import subprocess
import sys
import unittest
from collections.abc import Callable
from typing import Any

import pytest
import trustme

import tako
from tako import Request, Router, ServerConfig, TakoWs, WebSocket
from tako.asgi import LifespanError
from tako.testing import ReportedError, RunningServer, serve
from tako.testing.leaks import ends_of
from tako.testing.peer import Wire
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import RuntimeName, open_sockets


BRIEF = ServerConfig(drain_timeout=0.2)


class BrokenError(Exception):
    pass


async def hello(_: Request) -> str:
    return "hello"


async def broken(_: Request) -> str:
    msg = "out of order"
    raise BrokenError(msg)


async def echo(request: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        async for message in ws:
            if message == "break":
                msg = "in the session"
                raise BrokenError(msg)
            if isinstance(message, (str, bytes)):
                await ws.send(message)

    return TakoWs(request, session)


def router() -> Router:
    made = Router()
    made.get("/", hello)
    made.get("/broken", broken)
    made.get("/ws", echo)
    return made


def failing(app: Any, use: Callable[[RunningServer], object], **options: Any) -> str:
    """Return what the end of a block complains of."""
    server = serve(app, wire="h1", **options)
    server.__enter__()
    use(server)
    with pytest.raises(AssertionError) as complaint:
        server.__exit__(None, None, None)
    return str(complaint.value)


# -- what a test is given ----------------------------------------------------------


def test_it_serves_and_ends(wire: Wire, runtime: RuntimeName) -> None:
    with serve(router(), wire=wire, runtime=runtime) as server:
        response = server.client().get("/")
        assert (response.status_code, response.text) == (200, "hello")
        version = "HTTP/2" if wire in {"h2", "h2c"} else "HTTP/1.1"
        assert response.http_version == version
        with server.connect("/ws") as ws:
            ws.send("hello")
            ws.expect("hello")
        address = server.address
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, TIMEOUT)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_it_serves_beside_a_running_loop(
    runtime: RuntimeName, loop: RuntimeName
) -> None:
    async def use() -> str:
        async with (
            serve(router(), wire="h2", runtime=runtime) as server,
            server.async_client() as client,
        ):
            response = await client.get("/")
            assert response.http_version == "HTTP/2"
            return response.text

    assert run_on(loop, use) == "hello"


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_sync_block_serves_within_a_running_loop_too(loop: RuntimeName) -> None:
    async def use() -> str:
        with serve(router(), wire="h2c") as server:
            return server.client().get("/").text

    assert run_on(loop, use) == "hello"


def test_any_asgi_app_is_served_with_its_lifespan(runtime: RuntimeName) -> None:
    events: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for answer in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{answer}"
                events.append(answer)
                await send({"type": f"lifespan.{answer}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})

    with serve(app, wire="h1s", runtime=runtime) as server:
        assert events == ["startup"]
        assert server.client().get("/").text == "https"
    assert events == ["startup", "shutdown"]


def test_urls_name_the_wire(wire: Wire) -> None:
    with serve(router(), wire=wire) as server:
        host, port = server.address
        secure = "s" if wire in {"h1s", "h2"} else ""
        assert server.url == f"http{secure}://{host}:{port}"
        assert server.ws_url == f"ws{secure}://{host}:{port}"


def test_it_tells_what_the_server_is_doing() -> None:
    with serve(router(), wire="h2") as server:
        assert server.statistics.accepted == 0
        with server.connect("/ws") as ws:
            ws.echo("hello")
            assert server.statistics.exchanges == 1


def test_each_context_is_new_and_trusts_the_server() -> None:
    with serve(router(), wire="h2") as server:
        one, other = server.ssl, server.ssl
        assert one is not None
        assert one is not other
        for context in (one, ssl.create_default_context(cadata=server.ca_pem.decode())):
            raw = socket.create_connection(server.address, TIMEOUT)
            with context.wrap_socket(raw, server_hostname="localhost") as sock:
                assert sock.version() == "TLSv1.3"


def test_without_tls_there_is_no_context() -> None:
    with serve(router(), wire="h2c") as server:
        assert server.ssl is None


def test_the_authority_can_be_given() -> None:
    ca = trustme.CA()
    with serve(router(), wire="h1s", ca=ca) as server:
        assert server.ca is ca
        assert server.client().get("/").text == "hello"


def test_the_config_is_the_servers() -> None:
    with serve(router(), wire="h1", config=ServerConfig(max_target_bytes=64)) as server:
        assert server.client().get("/" + 64 * "a").status_code == 414


def test_unittest_enters_it_as_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TAKO_TEST_")]:
        monkeypatch.delenv(name)  # those of its users are not set

    class Case(unittest.TestCase):
        def test_hello(self) -> None:
            server = self.enterContext(serve(router(), wire="h2"))
            self.assertEqual(server.client().get("/").text, "hello")  # noqa: PT009

    class AsyncCase(unittest.IsolatedAsyncioTestCase):
        async def test_hello(self) -> None:
            server = await self.enterAsyncContext(serve(router(), wire="h2"))
            async with server.async_connect("/ws") as ws:
                await ws.echo("hello")

    class Failing(unittest.TestCase):
        def test_hello(self) -> None:
            server = self.enterContext(serve(router(), wire="h2"))
            server.client().get("/broken")

    for case, said in ((Case, None), (AsyncCase, None), (Failing, "BrokenError")):
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(case).run(result)
        texts = [text for _, text in [*result.failures, *result.errors]]
        assert (result.testsRun, len(texts)) == (1, 0 if said is None else 1)
        assert all(said in text for text in texts if said is not None)


# -- what it says no to ------------------------------------------------------------


def test_it_is_entered_once() -> None:
    with serve(router()) as server, pytest.raises(RuntimeError, match="already"):
        server.__enter__()


def test_before_its_block_it_is_nowhere() -> None:
    with pytest.raises(RuntimeError, match="runs inside of"):
        _ = serve(router()).url


@pytest.mark.parametrize(
    "options", [{"wire": "h3"}, {"runtime": "twisted"}], ids=["wire", "runtime"]
)
def test_what_does_not_exist_is_named(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(options))} is "):
        serve(router(), **options)


def test_what_is_no_app_is_refused() -> None:
    app: Any = 1
    with pytest.raises(TypeError):
        serve(app)


def test_a_start_that_fails_is_raised(runtime: RuntimeName) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    with (
        pytest.raises(LifespanError, match="no database"),
        serve(app, runtime=runtime),
    ):
        pytest.fail("the block must not begin")


# -- errors ------------------------------------------------------------------------


def test_an_error_of_a_handler_fails_the_test_with_its_traceback(
    wire: Wire, runtime: RuntimeName
) -> None:
    with (
        pytest.raises(AssertionError) as complaint,
        serve(router(), wire=wire, runtime=runtime) as server,
    ):
        assert server.client().get("/broken").status_code == 500
    assert "BrokenError: out of order" in str(complaint.value)
    assert "in broken" in str(complaint.value)
    assert isinstance(complaint.value.__cause__, BrokenError)


def test_an_error_that_is_expected_does_not(wire: Wire, runtime: RuntimeName) -> None:
    with serve(router(), wire=wire, runtime=runtime) as server:
        assert server.client().get("/broken").status_code == 500
        assert [type(error) for error in server.errors] == [BrokenError]
        error = server.expect_error(BrokenError, "out of")
        assert str(error) == "out of order"
        assert server.errors == []


def test_an_error_of_a_session_is_one_too(wire: Wire, runtime: RuntimeName) -> None:
    with (
        serve(router(), wire=wire, runtime=runtime) as server,
        server.connect("/ws") as ws,
    ):
        ws.send("break")
        ws.expect_close(1011)
        server.expect_error(BrokenError, "in the session")


def test_an_error_that_does_not_come_is_missed() -> None:
    with serve(router()) as server:
        with pytest.raises(AssertionError, match=r"no KeyError within .* nothing"):
            server.expect_error(KeyError, timeout=0.01)
        server.client().get("/broken")
        with pytest.raises(AssertionError, match=r"BrokenError\('out of order'\)"):
            server.expect_error(BrokenError, "another", timeout=0.01)
        server.expect_error(BrokenError)


def test_a_test_that_has_failed_gets_a_note() -> None:
    def fail() -> None:
        with serve(router()) as server:
            server.client().get("/broken")
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError) as failure:
        fail()
    (note,) = failure.value.__notes__
    assert "BrokenError: out of order" in note


def test_each_server_has_its_own_errors() -> None:
    with serve(router()) as one, serve(router()) as other:
        one.client().get("/broken")
        one.expect_error(BrokenError)
        assert other.errors == []


def test_an_app_that_fails_is_found(runtime: RuntimeName) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body"})
            msg = "in the background"
            raise BrokenError(msg)

    with serve(app, wire="h1", runtime=runtime) as server:
        assert server.client().get("/").status_code == 200
        server.expect_error(BrokenError, "in the background")


def test_an_error_in_words_counts(runtime: RuntimeName) -> None:
    async def handler(_: Request) -> str:
        logging.getLogger("tako.server").error("the %s is full", "disk")
        return ""

    made = Router()
    made.get("/", handler)
    with serve(made, runtime=runtime) as server:
        server.client().get("/")
        server.expect_error(ReportedError, "the disk is full")


def test_where_logging_is_off_it_warns() -> None:
    def use() -> None:
        with serve(router(), wire="h1") as server:
            server.client().get("/broken")

    logging.disable(logging.CRITICAL)
    try:
        with pytest.warns(RuntimeWarning, match="logging is off"):
            use()
    finally:
        logging.disable(logging.NOTSET)


# -- what is left behind -----------------------------------------------------------


def test_a_task_that_goes_on_fails_the_test() -> None:
    kept: list[object] = []

    async def for_ever() -> None:
        await asyncio.sleep(1000)

    async def handler(_: Request) -> str:
        kept.append(asyncio.create_task(for_ever()))
        return ""

    made = Router()
    made.get("/", handler)
    said = failing(made, lambda server: server.client().get("/"))
    assert "left behind a task" in said
    assert "for_ever" in said
    assert "test_kit_serve.py" in said


def test_a_socket_that_stays_open_fails_the_test(runtime: RuntimeName) -> None:
    kept: list[socket.socket] = []

    async def handler(_: Request) -> str:
        kept.append(socket.create_server(("127.0.0.1", 0)))
        return ""

    made = Router()
    made.get("/", handler)
    said = failing(made, lambda server: server.client().get("/"), runtime=runtime)
    port = kept[0].getsockname()[1]
    kept[0].close()
    assert f"left behind a socket: 127.0.0.1:{port}" in said


def test_sockets_need_not_be_checked() -> None:
    with serve(router(), check_sockets=False):
        kept = socket.create_server(("127.0.0.1", 0))
    kept.close()


def test_the_ends_of_a_socket_are_named() -> None:
    here, there = socket.socketpair()
    with here, there:
        assert ends_of(here.fileno()) == ["unnamed", "unnamed"]
    assert ends_of(here.fileno()) == []


@pytest.mark.parametrize("wire", ["h1", "h2"])
def test_a_handler_that_outlives_the_drain_fails_the_test(
    wire: Wire, runtime: RuntimeName
) -> None:
    async def handler(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            await ws.send("begun")
            await tako.sleep(1000)

        return TakoWs(request, session)

    made = Router()
    made.get("/", handler)
    with (
        pytest.raises(AssertionError) as complaint,
        serve(made, wire=wire, runtime=runtime, config=BRIEF) as server,
    ):
        server.connect("/").expect("begun")
    assert "the drain had to cut off, after 0.2 s" in str(complaint.value)
    assert "in test_a_handler_that_outlives_the_drain_fails_the_test" in str(
        complaint.value
    )


def test_the_clients_that_it_made_are_closed_first() -> None:
    with serve(router()) as server:
        server.connect("/ws").echo("hello")
        server.connection().request("GET", "/")
        server.client().get("/")
    assert server.errors == []


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
def test_a_cancelled_block_leaves_no_server(loop: RuntimeName) -> None:
    before = open_sockets()
    addresses = []

    async def use(cancel: Callable[[], object]) -> None:
        async with serve(router()) as server:
            addresses.append(server.address)
            cancel()
            await tako.sleep(1000)

    async def on_asyncio() -> None:
        def cancel() -> None:
            task.cancel()

        task = asyncio.create_task(use(cancel))
        await asyncio.wait({task})
        assert task.cancelled()

    async def on_trio() -> None:
        import trio

        with trio.CancelScope() as scope:
            await use(scope.cancel)
        assert scope.cancelled_caught

    run_on(loop, on_trio if loop == "trio" else on_asyncio)
    assert open_sockets() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(addresses[0], TIMEOUT)


# -- its imports -------------------------------------------------------------------


def said_by(source: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", source],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    return done.stdout.strip()


def test_tako_does_not_import_it() -> None:
    listed = "print(*(m for m in sys.modules if m.startswith(('tako.testing', 'h2'))))"
    assert said_by(f"import sys, tako; {listed}") == ""


@pytest.mark.parametrize("package", ["h2", "wsproto"])
def test_a_package_that_is_missing_is_named_with_the_extra(package: str) -> None:
    source = f"""
import sys
sys.modules["{package}"] = None
try:
    import tako.testing
except ImportError as error:
    print(error)
"""
    said = said_by(source)
    assert package in said
    assert said.endswith("pip install 'tako-server[testing]'")
