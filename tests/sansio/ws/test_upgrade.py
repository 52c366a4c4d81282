"""``WebSocketUpgrade``: outcomes, lifetimes, timeouts (spec section 3.9)."""

import logging
from collections.abc import Awaitable
from typing import cast

import pytest

from tako.core.error_code import ErrorCode
from tako.errors import ConnectionClosed, Disconnected
from tako.ws.message import Message
from tako.ws.options import WsOptions
from tako.ws.upgrade import WebSocketUpgrade
from tako.ws.websocket import WebSocket
from tests.support.fake_exchange import FakeExchange
from tests.support.running import (
    CLOSE,
    CLOSE_TIMEOUT,
    TEXT,
    Running,
    Session,
    close,
    idle,
    masked,
    plain,
)
from tests.support.wire import Cancelled


class TestOutcomes:
    """The table of spec section 3.8."""

    def test_returning_is_1000(self, caplog: pytest.LogCaptureFixture) -> None:
        async def session(_: WebSocket) -> None:
            pass

        with caplog.at_level(logging.INFO):
            run = Running(session)
        assert run.sent() == plain(CLOSE, close(1000))
        assert not caplog.records
        run.deliver(masked(CLOSE, close(1000)))
        assert run.exchange.output_ended

    def test_returning_after_the_close_handshake_sends_nothing_more(self) -> None:
        async def session(ws: WebSocket) -> None:
            assert await ws.read() == Message.Close(1000)

        run = Running(session)
        run.deliver(masked(CLOSE, close(1000)))
        assert run.task.done
        assert run.sent() == plain(CLOSE, close(1000))

    @pytest.mark.parametrize(
        "error",
        [ConnectionClosed(1006), ExceptionGroup("tasks", [ConnectionClosed(1001)])],
    )
    def test_a_ws_error_may_escape(
        self, caplog: pytest.LogCaptureFixture, error: Exception
    ) -> None:
        async def session(_: WebSocket) -> None:
            raise error

        with caplog.at_level(logging.DEBUG):
            run = Running(session)
        assert run.sent() == plain(CLOSE, close(1000))
        assert {record.levelno for record in caplog.records} == {logging.DEBUG}
        assert caplog.messages[0] == f"session ended: {error}"

    def test_an_exception_is_1011_logged_and_kept_from_the_peer(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def session(_: WebSocket) -> None:
            msg = "secret"
            raise ValueError(msg)

        run = Running(session)
        assert run.sent() == plain(CLOSE, close(1011))
        (record,) = caplog.records
        assert (record.name, record.levelno) == ("tako.ws", logging.ERROR)
        assert "secret" in caplog.text
        assert "Traceback" in caplog.text
        assert run.task.error is None

    def test_raising_synchronously_is_the_same(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def raw(_: WebSocket) -> Awaitable[None]:
            msg = "not even a coroutine"
            raise ValueError(msg)

        assert Running(raw).sent() == plain(CLOSE, close(1011))
        assert "not even a coroutine" in caplog.text

    def test_returning_no_awaitable_is_the_same(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def raw(_: WebSocket) -> None:
            return None

        assert Running(cast("Session", raw)).sent() == plain(CLOSE, close(1011))
        assert "TypeError" in caplog.text

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_cancellation_is_1001_and_the_close_is_waited_for(
        self, caplog: pytest.LogCaptureFixture, wrapped: bool
    ) -> None:
        async def session(ws: WebSocket) -> None:
            try:
                await ws.read()
            except Cancelled as error:
                if wrapped:
                    msg = "from a nursery"
                    raise BaseExceptionGroup(msg, [error]) from None
                raise

        run = Running(session)
        with caplog.at_level(logging.DEBUG):
            run.task.cancel()
            run.runtime.run_ready()
        assert run.task.done
        # a shutdown cancels all there are: none is worth a line by default
        assert {record.levelno for record in caplog.records} == {logging.DEBUG}
        assert caplog.text.count("was cancelled") == 1
        assert run.sent() == plain(CLOSE, close(1001, b"server shutting down"))
        assert not run.exchange.resets, "the closing handshake goes on"
        run.deliver(masked(CLOSE, close(1001)))
        assert run.exchange.output_ended

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_the_end_of_the_process_propagates(
        self, error: type[BaseException]
    ) -> None:
        async def session(_: WebSocket) -> None:
            raise error

        run = Running(session)
        assert isinstance(run.task.error, error)

    def test_what_the_session_left_unread_is_credited(self) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.read()

        run = Running(session)
        run.deliver(masked(TEXT, b"a"), masked(TEXT, b"b"), masked(TEXT, b"c"))
        assert run.exchange.credit == 21
        run.deliver(masked(TEXT, b"d"))
        assert run.exchange.credit == 28


class TestMaxLifetime:
    @pytest.mark.parametrize("where", ["read", "send", "own code"])
    def test_it_closes_with_1001_and_cancels_wherever_the_session_waits(
        self, where: str
    ) -> None:
        cleaned: list[bool] = []

        async def session(ws: WebSocket) -> None:
            try:
                if where == "read":
                    await ws.read()
                elif where == "send":
                    ws._tunnel.writable = False  # type: ignore[misc]
                    await ws.send("x")
                else:
                    await ws._tunnel.connection.runtime.sleep(10_000)
            finally:
                cleaned.append(True)

        run = Running(session, max_lifetime=30.0)
        run.runtime.advance(29.9)
        run.sent()
        assert not cleaned
        run.runtime.advance(0.2)
        assert cleaned
        assert run.task.done
        assert run.sent() == plain(CLOSE, close(1001, b"max lifetime exceeded"))
        assert not run.exchange.over
        run.deliver(masked(CLOSE, close(1001)))
        assert run.exchange.output_ended
        assert run.ws.close_code == 1001

    def test_a_session_that_swallows_the_cancellation_is_cut_off(self) -> None:
        swallowed: list[float] = []

        async def session(ws: WebSocket) -> None:
            runtime = ws._tunnel.connection.runtime
            for _ in range(2):
                try:
                    await runtime.sleep(10_000)
                except Cancelled:
                    swallowed.append(runtime.time())

        run = Running(session, max_lifetime=30.0)
        start = run.runtime.now
        run.runtime.advance(30)
        assert len(swallowed) == 1
        assert not run.exchange.resets
        run.runtime.advance(CLOSE_TIMEOUT + 0.1)
        assert run.exchange.resets == [ErrorCode.CANCEL]
        assert swallowed == [start + 30, start + 30 + CLOSE_TIMEOUT]

    def test_a_session_that_ends_earlier_is_not_affected(self) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.read()

        run = Running(session, max_lifetime=30.0)
        run.deliver(masked(TEXT, b"x"), masked(CLOSE))
        run.sent()
        run.runtime.advance(100)
        assert run.sent() == b""


class TestUpgradeTimeout:
    def test_a_response_that_is_not_written_in_time_is_given_up(self) -> None:
        called: list[WebSocket] = []

        async def session(ws: WebSocket) -> None:
            called.append(ws)

        exchange = FakeExchange()
        exchange.connection.writable = False
        upgrade = WebSocketUpgrade(
            exchange.request, session, WsOptions(upgrade_timeout=3.0)
        )
        upgrade.attach(exchange.open_tunnel(101, []))
        runtime = exchange.connection.runtime
        task = runtime.spawn(upgrade.run)
        runtime.advance(2.9)
        assert not exchange.resets
        exchange.connection.runtime.advance(0.2)
        exchange.connection.deadlines.reached(runtime.now)
        runtime.run_ready()
        assert exchange.resets == [ErrorCode.CANCEL]
        assert task.done
        assert not called

    def test_a_response_that_is_written_in_time_starts_the_session(self) -> None:
        called: list[WebSocket] = []

        async def session(ws: WebSocket) -> None:
            called.append(ws)

        exchange = FakeExchange()
        exchange.connection.writable = False
        upgrade = WebSocketUpgrade(
            exchange.request, session, WsOptions(upgrade_timeout=3.0)
        )
        upgrade.attach(exchange.open_tunnel(101, []))
        runtime = exchange.connection.runtime
        runtime.spawn(upgrade.run)
        runtime.advance(1)
        assert not called
        exchange.connection.writable = True
        exchange.sink.wake_writer()
        runtime.run_ready()
        assert called
        exchange.sink.deliver(masked(CLOSE))
        runtime.advance(0.5)
        assert ErrorCode.CANCEL not in exchange.resets

    def test_a_lost_connection_ends_the_wait(self) -> None:
        called: list[WebSocket] = []

        async def session(ws: WebSocket) -> None:
            called.append(ws)

        exchange = FakeExchange()
        exchange.connection.writable = False
        upgrade = WebSocketUpgrade(
            exchange.request, session, WsOptions(upgrade_timeout=3.0)
        )
        upgrade.attach(exchange.open_tunnel(101, []))
        runtime = exchange.connection.runtime
        task = runtime.spawn(upgrade.run)
        runtime.run_ready()
        exchange.gone = True
        exchange.sink.deliver_eof(Disconnected())
        runtime.run_ready()
        assert task.done
        assert not called

    def test_running_comes_after_attaching(self) -> None:
        exchange = FakeExchange()
        upgrade = WebSocketUpgrade(exchange.request, idle, WsOptions())
        with pytest.raises(RuntimeError, match="attach"):
            exchange.connection.runtime.run(upgrade.run)
