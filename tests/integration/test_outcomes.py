"""What a session does, or how long it lasts, decides how its conversation ends.

Spec section 3.8; T-WS-12 to 14.
"""

import pytest

import tako
from tako import ServerConfig, WebSocket
from tako.testing import Serve
from tako.testing.peer.websocket import Close, Opcode
from tests.support.apps import (
    Session,
    echo_session,
    giving_up_after,
    together,
    ws_router,
)
from tests.support.patience import PATIENCE
from tests.support.server import Gate, Reports


QUICK = ServerConfig(ws_close_timeout=0.4 * PATIENCE)


class TestOutcomes:
    """T-WS-12: what a session does decides the code (table of section 3.8)."""

    def test_returning_is_1000(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send("that was it")

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect("that was it", Close(1000, ""))
            ws.expect_end()

    def test_raising_is_1011_without_the_text(
        self, tako_serve: Serve, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def session(ws: WebSocket) -> None:
            msg = "a secret"
            raise LookupError(msg)

        server = tako_serve(ws_router(session))
        with server.connection() as connection:
            ws = connection.websocket("/ws")
            assert ws.expect_close() == (1011, "")
            ws.expect_end()
        error = server.expect_error(LookupError, "a secret")
        (record,) = [each for each in caplog.records if each.levelname == "ERROR"]
        assert record.name == "tako.ws"
        assert record.exc_info is not None
        assert record.exc_info[1] is error

    def test_raising_before_the_first_await_is_the_same(
        self, tako_serve: Serve
    ) -> None:
        def session(ws: WebSocket) -> None:
            msg = "not even a coroutine"
            raise LookupError(msg)

        server = tako_serve(ws_router(session))  # type: ignore[arg-type]
        with server.connection() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        server.expect_error(LookupError, "not even")

    def test_returning_no_awaitable_is_the_same(self, tako_serve: Serve) -> None:
        def session(ws: WebSocket) -> None:
            """A plain function where an async one is wanted."""

        server = tako_serve(ws_router(session))  # type: ignore[arg-type]
        with server.connection() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        server.expect_error(TypeError)

    def test_an_exception_group_is_the_same(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            async def fail() -> None:
                msg = "in a child"
                raise LookupError(msg)

            await together(fail)

        server = tako_serve(ws_router(session))
        with server.connection() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        server.expect_error(LookupError, "in a child")

    def test_connection_closed_may_escape(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            while True:
                await ws.send(str(await ws.read()))

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.close(4003, "leaving")
            assert ws.expect_close() == (4003, "")
            ws.expect_end()

    def test_an_exception_in_the_context_manager_is_1011(
        self, tako_serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            async with ws:
                msg = "inside"
                raise LookupError(msg)

        server = tako_serve(ws_router(session))
        with server.connection() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        server.expect_error(LookupError, "inside")

    def test_after_a_close_handshake_nothing_more_is_sent(
        self, tako_serve: Serve
    ) -> None:
        with tako_serve(ws_router(echo_session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.close(1000)
            ws.expect_close()
            ws.expect_end()
            assert [frame.opcode for frame in ws.frames] == [Opcode.CLOSE]


async def _sleeping(ws: WebSocket) -> None:
    await tako.sleep(60)


async def _sending(ws: WebSocket) -> None:
    while True:
        await ws.send(b"x" * 65_536)


class TestMaxLifetime:
    """T-WS-13."""

    @pytest.mark.parametrize("session", [echo_session, _sleeping, _sending])
    def test_it_ends_a_session_wherever_it_waits(
        self, tako_serve: Serve, session: Session
    ) -> None:
        finished = Reports()

        async def watched(ws: WebSocket) -> None:
            try:
                await session(ws)
            finally:
                finished.put("finally")

        router = ws_router(watched, max_lifetime=0.3)
        with tako_serve(router, config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            assert finished.get() == "finally"
            assert ws.expect_close() == (1001, "max lifetime exceeded")
            ws.expect_end()

    def test_a_session_that_ends_earlier_is_not_affected(
        self, tako_serve: Serve
    ) -> None:
        router = ws_router(echo_session, max_lifetime=60)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.echo("short")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")

    def test_swallowing_the_cancellation_does_not_help(self, tako_serve: Serve) -> None:
        swallowed, gate = Reports(), Gate()

        async def stubborn(ws: WebSocket) -> None:
            try:
                await gate.wait()
            except BaseException as error:
                swallowed.put(type(error).__name__)
            async with giving_up_after(30):
                await gate.wait()

        router = ws_router(stubborn, max_lifetime=0.2)
        with tako_serve(router, config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert swallowed.get() in {"CancelledError", "Cancelled"}
            ws.pipe.expect_gone()
            gate.open()

    def test_upgrade_timeout_does_not_limit_the_conversation(
        self, tako_serve: Serve
    ) -> None:
        """T-WS-14; its expiry is an engine test (it needs a stalled transport)."""

        async def session(ws: WebSocket) -> None:
            await tako.sleep(0.3)
            await ws.send("later than the timeout")
            await echo_session(ws)

        router = ws_router(session, upgrade_timeout=0.1)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect("later than the timeout")
            ws.echo("and still here")
