"""Drain: what each kind of connection gets, and how long it may take (spec 7.3)."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

import tako
from tako import ConnectionClosed, Request, Router, ServerConfig, WebSocket
from tako.asgi import AsgiApp
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.io import EndOfStreamError, StreamResetError
from tako.testing.peer.websocket import Close, PeerWebSocket
from tests.conftest import Serve
from tests.support.apps import echo_router, echo_session, reporting, ws_router
from tests.support.patience import NEVER, TIMEOUT
from tests.support.server import UNHURRIED, Gate, Reports


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
REFUSED_STREAM = 0x7


class TestWithoutRequests:
    def test_without_connections_it_returns_at_once(self, serve: Serve) -> None:
        server = serve(echo_router(), UNHURRIED)
        server.shut_down()
        server.join()

    def test_an_idle_connection_is_closed(self, serve: Serve) -> None:
        server = serve(echo_router(), UNHURRIED)
        with server.connect() as connection:
            assert connection.request("GET", "/").status == 200
            server.shut_down()
            connection.expect_closed()
            if isinstance(connection, H2Connection):
                assert connection.goaways[-1].code == 0
        server.join()

    def test_a_connection_that_never_said_anything_is_closed(
        self, serve: Serve
    ) -> None:
        server = serve(echo_router(), UNHURRIED)
        with socket.create_connection(server.address, timeout=TIMEOUT) as raw:
            with server.connect() as connection:
                connection.request("GET", "/")  # the silent one was accepted before
            server.shut_down()
            while raw.recv(1000):
                pass
        server.join()

    def test_new_connections_are_refused(self, serve: Serve) -> None:
        gate = Gate()

        async def session(ws: WebSocket) -> None:
            await gate.wait()

        server = serve(ws_router(session))
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            server.shut_down()
            assert ws.expect_close()[0] == 1001
            server.wait_refusing()
            gate.open()

    def test_connections_that_arrive_while_it_begins_do_not_hold_it(
        self, serve: Serve
    ) -> None:
        for _ in range(10):
            server = serve(echo_router(), UNHURRIED)
            with server.connect() as connection:
                assert connection.request("GET", "/").status == 200
            server.shut_down()
            server.wait_refusing()  # connects again and again until it is refused
            server.join()

    def test_a_second_shutdown_is_a_no_op(self, serve: Serve) -> None:
        server = serve(echo_router(), UNHURRIED)
        server.shut_down()
        server.shut_down()
        server.join()


def _gated_router(gate: Gate, entered: Reports) -> Router:
    router = echo_router()

    async def slow(request: Request) -> str:
        entered.put(request.path)
        await gate.wait()
        return "finished"

    router.get("/slow", slow)
    return router


class TestRequestsInProgress:
    @H1_ONLY
    def test_http_1_finishes_the_response_and_says_close(self, serve: Serve) -> None:
        gate, entered = Gate(), Reports()
        server = serve(_gated_router(gate, entered))
        with server.connect_h1() as connection:
            connection.send_request("GET", "/slow")
            assert entered.get() == "/slow"
            server.shut_down()
            server.wait_refusing()
            gate.open()
            response = connection.read_response()
            assert response.body == b"finished"
            assert response.header("connection") == "close"
            connection.expect_closed()
        server.join()

    @H1_ONLY
    def test_a_first_request_that_was_on_its_way_is_answered(
        self, serve: Serve
    ) -> None:
        server = serve(echo_router(), UNHURRIED)
        with server.connect_h1() as connection:
            with server.connect() as other:
                other.request("GET", "/")  # the first one was accepted before
            server.shut_down()
            server.wait_refusing()
            response = connection.request("GET", "/")
            assert response.status == 200
            assert response.header("connection") == "close"
            connection.expect_closed()
        server.join()

    @H2_ONLY
    def test_http_2_finishes_open_streams_and_refuses_new_ones(
        self, serve: Serve
    ) -> None:
        gate, entered = Gate(), Reports()
        server = serve(_gated_router(gate, entered))
        with server.connect_h2() as connection:
            stream = connection.send_request("GET", "/slow")
            assert entered.get() == "/slow"
            server.shut_down()
            assert connection.expect_goaway().code == 0
            connection.ping()  # RFC 9113 section 6.8: the last stream is now known
            late = connection.send_request("GET", "/")
            assert late.expect_reset() == REFUSED_STREAM
            gate.open()
            assert stream.read_response().body == b"finished"
            connection.expect_closed()
            assert connection.goaways[-1].last_stream_id <= late.id
        server.join()

    def test_the_drain_timeout_cuts_what_does_not_end(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        entered, ended = Reports(), Reports()
        router = Router()

        async def endless(request: Request) -> str:
            entered.put("entered")
            try:
                await tako.sleep(NEVER)
            finally:
                ended.put("finally")
            return "never"

        router.get("/", endless)
        server = serve(router, ServerConfig(drain_timeout=0.3))
        with server.connect() as connection:
            pending = connection.send_request("GET", "/")
            assert entered.get() == "entered"
            server.shut_down()
            with pytest.raises((EndOfStreamError, StreamResetError)):
                pending.read_response()
            assert ended.get() == "finally"
        server.join()
        assert any("Drain timeout" in record.message for record in caplog.records)

    def test_what_goes_on_behind_an_answer_is_named(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        ended = Reports()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"soon"})
            try:
                await tako.sleep(600)
            finally:
                ended.put("finally")

        router = Router()
        router.get("/", AsgiApp(app))
        server = serve(router, ServerConfig(drain_timeout=0.3))
        with server.connect() as connection:
            assert connection.request("GET", "/").body == b"soon"
        server.shut_down()
        assert ended.get() == "finally"
        server.join()
        (text,) = [r.message for r in caplog.records if "Drain timeout" in r.message]
        assert text.endswith("1 background task")
        assert "request" not in text


CLOSING_IS_SHORT = ServerConfig(drain_timeout=600, ws_close_timeout=0.3)


def sleeper(
    reports: Reports, entered: Reports | None = None
) -> Callable[[WebSocket], Awaitable[None]]:
    """Return a session that does not read its socket."""

    async def session(ws: WebSocket) -> None:
        if entered is not None:
            entered.put("entered")
        try:
            await tako.sleep(600)
        finally:
            reports.put("finally")

    return session


def _until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestWebSockets:
    def test_they_get_1001(self, serve: Serve) -> None:
        reports = Reports()
        server = serve(ws_router(reporting(echo_session, reports)), UNHURRIED)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            ws.echo("open")
            server.shut_down()
            assert ws.expect_close() == (1001, "server shutting down")
            ws.expect_end()
            assert reports.get()[0] == 1001
        server.join()

    def test_the_session_runs_on_until_it_returns(self, serve: Serve) -> None:
        gate, reports = Gate(), Reports()

        async def session(ws: WebSocket) -> None:
            async for _ in ws:
                pass
            await gate.wait()
            reports.put("cleaned up")

        server = serve(ws_router(session), UNHURRIED)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            server.shut_down()
            assert ws.expect_close()[0] == 1001
            assert reports.empty
            gate.open()
            assert reports.get() == "cleaned up"
        server.join()

    def test_a_session_that_only_sleeps_is_cancelled_after_the_closing(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        reports = Reports()
        server = serve(ws_router(sleeper(reports)), CLOSING_IS_SHORT)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            server.shut_down()
            assert ws.expect_close() == (1001, "server shutting down")
            assert reports.get() == "finally"
        server.join()
        assert "Drain timeout" not in caplog.text
        assert "waiting for" in caplog.text
        assert "1 session" in caplog.text

    @pytest.mark.parametrize("how", ["close", "vanish"])
    def test_so_is_one_whose_client_has_left(
        self, serve: Serve, caplog: pytest.LogCaptureFixture, how: str
    ) -> None:
        reports, entered = Reports(), Reports()
        server = serve(ws_router(sleeper(reports, entered)), CLOSING_IS_SHORT)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            entered.get()
            if how == "close":
                ws.close(1000)
        _until(lambda: not server.connections or how == "close")
        assert reports.empty, "leaving does not cancel a session, draining does"
        server.shut_down()
        assert reports.get() == "finally"
        server.join()
        assert "Drain timeout" not in caplog.text

    def test_so_is_an_asgi_app(
        self, serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        reports, entered = Reports(), Reports()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            entered.put("accepted")
            try:
                await tako.sleep(600)
            finally:
                reports.put("finally")

        router = Router()
        router.get("/ws", AsgiApp(app))
        server = serve(router, CLOSING_IS_SHORT)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            entered.get()
            server.shut_down()
            assert ws.expect_close()[0] == 1001
            assert reports.get() == "finally"
        server.join()
        assert "Drain timeout" not in caplog.text

    def test_one_that_reads_is_told_and_may_finish(self, serve: Serve) -> None:
        """The peer's Close does not come: the reader is told, and not cancelled."""
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            try:
                await ws.read()
            except ConnectionClosed as closed:
                await tako.sleep(0.1)
                reports.put(closed.code)

        server = serve(ws_router(session), CLOSING_IS_SHORT)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            server.shut_down()
            assert ws.expect_close()[0] == 1001
            assert reports.get() == 1006
        server.join()

    @pytest.mark.parametrize("runtime", ["asyncio", "uvloop"], indirect=True)
    def test_one_that_ignores_its_cancellation_is_left_behind(
        self, serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await tako.sleep(600)

        config = ServerConfig(drain_timeout=0.3, ws_close_timeout=0.1)
        server = serve(ws_router(session), config)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            server.shut_down()
            assert ws.expect_close()[0] == 1001
        server.join()
        assert "go on though cancelled" in server.wait_error().getMessage()

    def test_a_session_that_does_not_end_is_cancelled(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            try:
                await tako.sleep(NEVER)
            finally:
                reports.put("finally")

        server = serve(ws_router(session), ServerConfig(drain_timeout=0.3))
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            server.shut_down()
            assert ws.expect_close()[0] == 1001
            assert reports.get() == "finally"
        server.join()

    @H2_ONLY
    def test_the_close_comes_before_or_with_the_goaway(self, serve: Serve) -> None:
        server = serve(ws_router(echo_session))
        with server.connect_h2() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            server.shut_down()
            assert ws.expect_close()[0] == 1001
            assert connection.expect_goaway().code == 0
            ws.close(1001)
            ws.expect_end()
            ws.end()
            connection.expect_closed()
        server.join()


RUN_ON = replace(UNHURRIED, drain_websockets="end")


class TestWebSocketsThatRunOn:
    """``drain_websockets="end"``."""

    @pytest.mark.parametrize("kind", ["native", "asgi"])
    def test_the_last_one_that_ends_by_itself_ends_the_drain(
        self, serve: Serve, kind: str
    ) -> None:
        router = echo_router() if kind == "native" else Router()
        if kind == "asgi":
            router.get("/ws", AsgiApp(asgi_echo))
        server = serve(router, RUN_ON)
        with server.connect() as connection, server.connect() as other:
            sockets = [each.websocket("/ws") for each in (connection, other)]
            server.shut_down()
            server.wait_refusing()
            if isinstance(connection, H2Connection):
                assert connection.expect_goaway().code == 0
                connection.ping()  # the last stream is now known
                late = connection.send_request("GET", "/")
                assert late.expect_reset() == REFUSED_STREAM
            for ws in sockets:
                ws.echo("goes on")
                ws.close(1000)
                assert ws.expect_close()[0] == 1000
                ws.expect_end()
        server.join()

    def test_they_are_told_before_its_end(self, serve: Serve) -> None:
        reports = Reports()
        config = ServerConfig(drain_timeout=5, drain_websockets="end")
        server = serve(ws_router(reporting(echo_session, reports)), config)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            server.shut_down()
            server.wait_refusing()
            ws.echo("goes on")
            assert reports.empty
            assert ws.expect_close() == (1001, "server shutting down")
        assert reports.get()[0] in {1001, 1006}  # a busy client may be too late
        server.join()

    def test_what_is_left_at_its_end_is_cut(self, serve: Serve) -> None:
        reports = Reports()
        config = ServerConfig(drain_timeout=0.3, drain_websockets="end")
        server = serve(ws_router(sleeper(reports)), config)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            server.shut_down()
            assert reports.get() == "finally"
        server.join()


async def asgi_echo(scope: Any, receive: Any, send: Any) -> None:
    """Echo the text messages of a WebSocket."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


class TestCancellation:
    def test_it_aborts_at_once_and_leaves_no_task(self, serve: Serve) -> None:
        """Spec 7.1: cancelling ``serve`` is an abort, not a drain."""
        server = serve(echo_router(), UNHURRIED)
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            ws.echo("open")
            server.cancel()
            _expect_the_end(ws)
        server.join()


def _expect_the_end(ws: PeerWebSocket) -> None:
    """The connection ends; a session that is cancelled may still say 1001."""
    try:
        while True:
            goodbye = ws.receive()
            assert isinstance(goodbye, Close)
            assert goodbye.code == 1001
    except (EndOfStreamError, StreamResetError):
        return


class TestShutdownArgument:
    @pytest.mark.parametrize("kind", ["event", "awaitable", "function", "raises"])
    def test_every_form_of_it_starts_the_drain(self, kind: str) -> None:
        async def main() -> None:
            event = asyncio.Event()

            async def fail() -> None:
                await event.wait()
                msg = "also a reason to stop"
                raise LookupError(msg)

            forms = {
                "event": event,
                "awaitable": event.wait(),
                "function": event.wait,
                "raises": fail,
            }
            chosen = forms[kind]
            if kind != "awaitable":
                forms["awaitable"].close()  # type: ignore[attr-defined]
            listener = await tako.bind("127.0.0.1:0")
            async with asyncio.timeout(TIMEOUT), asyncio.TaskGroup() as group:
                serving = tako.serve(listener, echo_router(), shutdown=chosen)
                group.create_task(serving)
                await asyncio.sleep(0)
                event.set()

        tako.run(main, loop="asyncio")
