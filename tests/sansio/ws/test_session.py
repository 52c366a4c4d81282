"""``WebSocket`` and ``WebSocketUpgrade``: reading, sending, outcomes, lifetimes.

Spec sections 3.8 and 3.9.
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, cast

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.errors import ConnectionClosed, Disconnected, InvalidUtf8, WsError
from tako.ws.message import Message
from tako.ws.options import WsOptions
from tako.ws.websocket import WebSocket, WebSocketUpgrade
from tests.support.fake_exchange import FakeExchange
from tests.support.wire import Cancelled, FakeRuntime, FakeTask


TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A
CLOSE_TIMEOUT = 7.0

Session = Callable[[WebSocket], Awaitable[None]]


def masked(first: int, payload: bytes = b"") -> bytes:
    """Return a client's frame of less than 126 bytes; the mask is zero."""
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


def plain(first: int, payload: bytes = b"") -> bytes:
    return bytes([first, len(payload)]) + payload


def close(code: int, reason: bytes = b"") -> bytes:
    return code.to_bytes(2, "big") + reason


@pytest.fixture(autouse=True)
def _unwound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """End the tasks that a test leaves waiting, there and not in some later test."""
    runtimes: list[FakeRuntime] = []
    create = FakeRuntime.__init__

    def created(runtime: FakeRuntime) -> None:
        create(runtime)
        runtimes.append(runtime)

    monkeypatch.setattr(FakeRuntime, "__init__", created)
    yield
    for runtime in runtimes:
        runtime.close()


class Running:
    """A session that runs on a fake exchange."""

    def __init__(self, session: Session, **options: object) -> None:
        self.exchange = FakeExchange(ServerConfig(ws_close_timeout=CLOSE_TIMEOUT))
        self.runtime = self.exchange.connection.runtime
        self.sockets: list[WebSocket] = []

        async def watched(ws: WebSocket) -> None:
            self.sockets.append(ws)
            await session(ws)

        self.start(watched if session.__name__ != "raw" else session, options)

    def start(self, session: Session, options: dict[str, Any]) -> None:
        exchange = self.exchange
        upgrade = WebSocketUpgrade(exchange.request, session, WsOptions(**options))
        upgrade.attach(exchange.open_tunnel(101, []))
        self.task = self.runtime.spawn(upgrade.run)
        exchange.task = self.task
        self.runtime.run_ready()

    @property
    def ws(self) -> WebSocket:
        return self.sockets[0]

    def deliver(self, *frames: bytes) -> None:
        self.exchange.sink.deliver(b"".join(frames))
        self.runtime.run_ready()

    def sent(self) -> bytes:
        return self.exchange.take()

    def spawn(self, function: Callable[..., Any], *args: object) -> FakeTask:
        task = self.runtime.spawn(function, *args)
        self.runtime.run_ready()
        return task


async def idle(ws: WebSocket) -> None:
    """Wait for the end of the conversation without reading."""
    while True:
        await ws._conversation.writable.signal.wait()


def quiet(**options: object) -> Running:
    return Running(idle, **options)


class TestRead:
    def test_each_kind_of_message_is_returned(self) -> None:
        run = quiet()
        run.deliver(
            masked(TEXT, "grüß".encode()),
            masked(BINARY, b"\0"),
            masked(PING, b"1"),
            masked(PONG, b"2"),
            masked(CLOSE, close(1000, b"bye")),
        )
        read = [run.runtime.run(run.ws.read) for _ in range(5)]
        assert read == [
            "grüß",
            b"\0",
            Message.Ping(b"1"),
            Message.Pong(b"2"),
            Message.Close(1000, "bye"),
        ]

    def test_after_the_close_it_raises_each_time_anew(self) -> None:
        run = quiet()
        run.deliver(masked(CLOSE, close(4000, b"why")))
        run.runtime.run(run.ws.read)
        raised = []
        for _ in range(2):
            with pytest.raises(ConnectionClosed) as caught:
                run.runtime.run(run.ws.read)
            raised.append(caught.value)
        assert (raised[0].code, raised[0].reason) == (4000, "why")
        assert raised[0] is not raised[1]

    def test_a_failure_is_raised_as_what_it_is(self) -> None:
        run = quiet()
        run.deliver(masked(TEXT, b"\xff"))
        with pytest.raises(InvalidUtf8):
            run.runtime.run(run.ws.read)
        assert isinstance(run.ws.error, InvalidUtf8)
        assert run.ws.close_code == 1007

    def test_a_waiting_reader_is_woken_by_a_lost_connection(self) -> None:
        run = quiet()
        task = run.spawn(run.ws.read)
        run.exchange.gone = True
        run.exchange.sink.deliver_eof(Disconnected())
        run.runtime.run_ready()
        assert isinstance(task.error, ConnectionClosed)
        assert run.ws.closed
        assert run.ws.close_code == 1006

    def test_a_timeout_loses_nothing(self) -> None:
        run = quiet()
        task = run.spawn(run.ws.read, 2.5)
        run.runtime.advance(2.4)
        assert not task.done
        run.runtime.advance(0.2)
        assert isinstance(task.error, TimeoutError)
        run.deliver(masked(TEXT, b"later"))
        assert run.runtime.run(run.ws.read) == "later"

    def test_a_message_within_the_timeout_is_returned(self) -> None:
        run = quiet()
        task = run.spawn(run.ws.read, 2.5)
        run.deliver(masked(TEXT, b"in time"))
        assert task.result == "in time"
        run.runtime.advance(10)
        assert task.error is None

    def test_a_second_reader_is_refused_and_the_first_goes_on(self) -> None:
        run = quiet()
        first = run.spawn(run.ws.read)
        with pytest.raises(RuntimeError, match="another task is already reading"):
            run.runtime.run(run.ws.read)
        with pytest.raises(RuntimeError, match="another task is already reading"):
            run.runtime.run(run.ws.__anext__)
        run.deliver(masked(TEXT, b"x"))
        assert first.result == "x"

    def test_a_thousand_cancelled_reads_lose_and_repeat_nothing(self) -> None:
        run = quiet()
        read: list[object] = []
        for number in range(1000):
            task = run.spawn(run.ws.read)
            if number % 3 == 0:  # cancelled while it waits
                task.cancel()
                run.runtime.run_ready()
            run.exchange.sink.deliver(masked(TEXT, b"%d" % number))
            if number % 3 == 1:  # cancelled when it is about to be woken
                task.cancel()
            run.runtime.run_ready()
            if not task.cancelled:
                read.append(task.result)
            if number % 100 == 99:
                while run.ws._waiting:
                    read.append(run.runtime.run(run.ws.read))
        assert sorted(read, key=lambda text: int(str(text))) == [
            str(number) for number in range(1000)
        ]
        inbox = run.ws._conversation.inbox
        assert inbox.held <= inbox.least

    def test_a_flood_is_decoded_in_portions_and_others_run_between(self) -> None:
        run = quiet()
        run.exchange.sink.deliver(masked(TEXT, b"x") * 2500)
        turns: list[int] = []
        read: list[object] = []

        async def reader() -> None:
            for _ in range(2500):
                read.append(await run.ws.read())
                if not len(read) % 500:
                    run.runtime.call_soon(lambda: turns.append(len(read)))

        run.spawn(reader)
        run.runtime.advance(0)
        assert len(read) == 2500
        assert turns[0] < 2500, "nothing else ran before the flood was over"


class TestIteration:
    def test_it_yields_the_close_and_stops(self) -> None:
        seen: list[object] = []

        async def session(ws: WebSocket) -> None:
            seen.extend([message async for message in ws])

        run = Running(session)
        run.deliver(masked(TEXT, b"a"), masked(CLOSE, close(1000)))
        assert seen == ["a", Message.Close(1000)]
        assert run.task.done
        assert run.sent() == plain(CLOSE, close(1000))

    @pytest.mark.parametrize("end", ["eof", "reset", "violation", "close"])
    def test_it_stops_without_raising_on_any_other_end(self, end: str) -> None:
        async def session(ws: WebSocket) -> None:
            async for _ in ws:
                pass

        run = Running(session)
        if end == "eof":
            run.exchange.sink.deliver_eof()
        elif end == "reset":
            run.exchange.gone = True
            run.exchange.sink.deliver_eof(Disconnected())
        elif end == "violation":
            run.deliver(masked(0x83))
        else:
            run.spawn(run.ws.close)
            run.runtime.advance(CLOSE_TIMEOUT)
        run.runtime.run_ready()
        assert run.task.done
        assert run.ws.close_code == (1002 if end == "violation" else 1006)
        assert isinstance(run.ws.error, WsError)


class TestSend:
    @pytest.mark.parametrize(
        ("message", "frame"),
        [
            ("text", plain(TEXT, b"text")),
            (b"bytes", plain(BINARY, b"bytes")),
            (bytearray(b"array"), plain(BINARY, b"array")),
            (memoryview(b"view"), plain(BINARY, b"view")),
            (memoryview(b"abcd")[::2], plain(BINARY, b"ac")),
            (Message.Ping(b"p"), plain(PING, b"p")),
            (Message.Pong(b"p"), plain(PONG, b"p")),
            (Message.Close(1000, "r"), plain(CLOSE, close(1000, b"r"))),
            (Message.Close(), plain(CLOSE)),
        ],
    )
    def test_each_type_has_its_frame(self, message: Any, frame: bytes) -> None:
        run = quiet()
        run.runtime.run(run.ws.send, message)
        assert run.sent() == frame

    @pytest.mark.parametrize("message", [{"a": 1}, 1, None, ["x"]])
    def test_other_types_are_a_type_error_that_names_them(self, message: Any) -> None:
        run = quiet()
        with pytest.raises(TypeError, match=type(message).__name__):
            run.runtime.run(run.ws.send, message)
        assert run.sent() == b""

    def test_subclasses_are_what_they_derive_from(self) -> None:
        class Name(str):
            __slots__ = ()

        run = quiet()
        run.runtime.run(run.ws.send, Name("n"))
        assert run.sent() == plain(TEXT, b"n")

    def test_it_waits_while_the_peer_does_not_read(self) -> None:
        run = quiet()
        run.exchange.writable = False
        task = run.spawn(run.ws.send, "x")
        assert not task.done
        assert run.sent() == plain(TEXT, b"x")
        run.exchange.writable = True
        run.exchange.sink.wake_writer()
        run.runtime.run_ready()
        assert task.done
        assert task.error is None

    def test_a_cancelled_send_has_sent_the_whole_frame(self) -> None:
        run = quiet()
        run.exchange.writable = False
        task = run.spawn(run.ws.send, "whole")
        task.cancel()
        run.runtime.run_ready()
        assert task.cancelled
        assert run.sent() == plain(TEXT, b"whole")

    def test_a_blocked_send_learns_that_the_peer_is_gone(self) -> None:
        run = quiet()
        run.exchange.writable = False
        task = run.spawn(run.ws.send, "x")
        run.exchange.gone = True
        run.exchange.sink.deliver_eof(Disconnected())
        run.runtime.run_ready()
        assert isinstance(task.error, ConnectionClosed)
        assert task.error.code == 1006

    def test_concurrent_senders_do_not_interleave(self) -> None:
        run = quiet()
        run.exchange.writable = False
        for text in ("one", "two", "three"):
            run.spawn(run.ws.send, text)
        frames = [plain(TEXT, text) for text in (b"one", b"two", b"three")]
        assert run.sent() == b"".join(frames)

    @pytest.mark.parametrize("who", ["peer", "we"])
    def test_after_closing_has_begun_it_raises(self, who: str) -> None:
        run = quiet()
        if who == "peer":
            run.deliver(masked(CLOSE, close(4000)))
        else:
            run.runtime.run(run.ws.send, Message.Close(4000))
        run.sent()
        for message in ("x", b"x", Message.Ping(), Message.Pong()):
            with pytest.raises(ConnectionClosed) as caught:
                run.runtime.run(run.ws.send, message)
            assert caught.value.code == 4000
        assert run.sent() == b""

    @pytest.mark.parametrize("state", ["closed", "lost", "lost and blocked"])
    def test_closing_then_is_a_no_op_that_never_raises(self, state: str) -> None:
        run = quiet()
        if state == "closed":
            run.deliver(masked(CLOSE, close(1000)))
        else:
            run.exchange.gone = True
            run.exchange.writable = state == "lost"
            run.exchange.sink.deliver_eof(Disconnected())
        run.sent()
        run.runtime.run(run.ws.send, Message.Close(1000))
        run.runtime.run(run.ws.close)
        run.runtime.run(run.ws.close, 4000, "again")
        assert run.sent() == b""

    def test_replies_to_one_read_are_flushed_together(self) -> None:
        run = quiet()
        run.deliver(masked(TEXT, b"a"), masked(TEXT, b"b"))
        run.exchange.flushes.clear()
        run.runtime.run(run.ws.read)
        run.runtime.run(run.ws.send, "a")
        run.runtime.run(run.ws.read)
        run.runtime.run(run.ws.send, "b")
        assert run.exchange.flushes == [True, False], "soon, while more input waits"

    def test_an_endless_sender_lets_the_loop_run(self) -> None:
        async def session(ws: WebSocket) -> None:
            while True:
                await ws.send("x")

        run = Running(session)
        assert run.exchange.pieces.count(plain(TEXT, b"x")) == 256
        run.exchange.gone = True
        run.exchange.sink.deliver_eof(Disconnected())
        run.runtime.advance(0)
        assert run.task.done
        assert run.task.error is None

    def test_flush_waits_for_room(self) -> None:
        run = quiet()
        run.exchange.writable = False
        task = run.spawn(run.ws.flush)
        assert run.exchange.flushes == [False]
        assert not task.done
        run.exchange.writable = True
        run.exchange.sink.wake_writer()
        run.runtime.run_ready()
        assert task.done

    def test_ping_measures_the_round_trip(self) -> None:
        run = quiet()
        run.runtime.run(run.ws.ping, b"1")
        assert run.sent() == plain(PING, b"1")
        run.runtime.advance(0.125)
        run.deliver(masked(PONG, b"1"))
        assert run.ws.latency == pytest.approx(0.125)


class TestClose:
    def test_it_waits_for_the_answer_and_discards_what_comes(self) -> None:
        run = quiet()
        run.deliver(masked(TEXT, b"unread"))
        task = run.spawn(run.ws.close, 1001, "bye")
        assert run.sent() == plain(CLOSE, close(1001, b"bye"))
        run.deliver(masked(TEXT, b"more"))
        assert not task.done
        run.deliver(masked(CLOSE, close(1001)))
        assert task.done
        assert run.exchange.credit == len(masked(TEXT, b"unread" + b"more")) + 6 + 8
        assert run.ws.closed

    def test_it_gives_up_after_the_close_timeout(self) -> None:
        run = quiet()
        task = run.spawn(run.ws.close)
        run.runtime.advance(CLOSE_TIMEOUT - 0.01)
        assert not task.done
        run.runtime.advance(0.02)
        assert task.done
        assert task.error is None
        assert run.ws.close_code == 1006

    def test_closing_twice_waits_for_the_same_answer(self) -> None:
        run = quiet()
        tasks = [run.spawn(run.ws.close), run.spawn(run.ws.close, 4000)]
        assert run.sent() == plain(CLOSE, close(1000))
        run.deliver(masked(CLOSE, close(1000)))
        assert all(task.done and task.error is None for task in tasks)

    @pytest.mark.parametrize(
        ("code", "reason"), [(1005, ""), (999, ""), (1000, "x" * 124), (None, "why")]
    )
    def test_what_must_not_be_sent_is_a_value_error(
        self, code: int | None, reason: str
    ) -> None:
        run = quiet()
        with pytest.raises(ValueError):  # noqa: PT011 - what it says is Message's test
            run.runtime.run(run.ws.close, code, reason)
        assert run.sent() == b""

    def test_it_wakes_a_task_that_reads(self) -> None:
        run = quiet()
        reader = run.spawn(run.ws.read)
        run.spawn(run.ws.close)
        run.deliver(masked(CLOSE, close(1000)))
        assert isinstance(reader.error, ConnectionClosed)

    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (None, 1000),
            (ValueError("secret"), 1011),
            (ConnectionClosed(1006), 1000),
            (ExceptionGroup("", [ConnectionClosed(1006)]), 1000),
            (ExceptionGroup("", [ConnectionClosed(1006), KeyError()]), 1011),
        ],
    )
    def test_the_context_manager_closes(
        self, error: Exception | None, code: int
    ) -> None:
        run = quiet()

        async def use() -> None:
            async with run.ws:
                if error is not None:
                    raise error

        task = run.spawn(use)
        assert run.sent() == plain(CLOSE, close(code))
        assert not task.done
        run.deliver(masked(CLOSE, close(code)))
        assert task.error is error

    def test_the_context_manager_of_a_cancelled_task_does_not_wait(self) -> None:
        run = quiet()

        async def use() -> None:
            async with run.ws:
                await run.ws.read()

        task = run.spawn(use)
        task.cancel()
        run.runtime.run_ready()
        assert task.cancelled
        assert run.sent() == plain(CLOSE, close(1001, b"server shutting down"))


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
        assert [record.levelno for record in caplog.records] == [logging.DEBUG]

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
        with caplog.at_level(logging.INFO):
            run.task.cancel()
            run.runtime.run_ready()
        assert run.task.done
        assert [record.levelno for record in caplog.records] == [logging.INFO]
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
