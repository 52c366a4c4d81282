"""``WebSocket``: reading, sending, closing (spec section 3.8)."""

from typing import Any

import pytest

from tako.errors import ConnectionClosed, Disconnected, InvalidUtf8, WsError
from tako.ws.message import Message
from tako.ws.websocket import WebSocket
from tests.support.running import (
    BINARY,
    CLOSE,
    CLOSE_TIMEOUT,
    PING,
    PONG,
    TEXT,
    Running,
    close,
    masked,
    plain,
    quiet,
)


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
            (memoryview(bytes(8)).cast("I"), plain(BINARY, bytes(8))),
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
