"""How conversations end: codes, outcomes, and the order of frames on the wire.

Spec sections 3.4, 3.8 and 3.10; T-WS-11 to 14.
"""

import pytest

import tako
from tako import Message, ServerConfig, WebSocket
from tests.conftest import Serve
from tests.support.apps import (
    echo_session,
    giving_up_after,
    reporting,
    together,
    ws_router,
)
from tests.support.peer_h2 import Frame, FrameType, H2Connection
from tests.support.peer_io import EndOfStreamError
from tests.support.peer_ws import (
    Close,
    Opcode,
    PeerWebSocket,
    WsFrame,
    close_payload,
    decode_frames,
)
from tests.support.server import Gate, Reports

H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
NO_ERROR, CANCEL = 0x0, 0x8
QUICK = ServerConfig(ws_close_timeout=0.4)
SHORT = 0.4

LEGAL_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013]
FORBIDDEN_CODES = [0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 5000, 65535]


class TestPeerFirst:
    @pytest.mark.parametrize("code", [*LEGAL_CODES, 3000, 4999])
    def test_the_code_is_echoed(self, serve: Serve, code: int) -> None:
        reports = Reports()
        with serve(ws_router(reporting(echo_session, reports))).connect() as connection:
            ws = connection.websocket("/ws")
            ws.close(code, "because")
            assert ws.expect_close() == (code, "")
            ws.expect_end()
            assert reports.get() == (code, "because")

    def test_an_empty_close_is_answered_with_an_empty_one(self, serve: Serve) -> None:
        reports = Reports()
        with serve(ws_router(reporting(echo_session, reports))).connect() as connection:
            ws = connection.websocket("/ws")
            ws.close(None)
            assert ws.expect_close() == (None, "")
            assert ws.frames[-1] == WsFrame(True, 0, Opcode.CLOSE, b"")
            assert reports.get() == (1005, "")

    @pytest.mark.parametrize("code", FORBIDDEN_CODES)
    def test_a_forbidden_code_is_1002(self, serve: Serve, code: int) -> None:
        reports = Reports()
        session = reporting(echo_session, reports)
        with serve(ws_router(session), QUICK).connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            ws.send_frame(Opcode.CLOSE, close_payload(code))
            assert ws.expect_close()[0] == 1002
            ws.expect_end()
            assert reports.get()[0] == 1002

    def test_the_session_sees_the_close_once(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            reports.put([message async for message in ws])
            with pytest.raises(tako.ConnectionClosed) as closed:
                await ws.read()
            reports.put((closed.value.code, closed.value.reason))

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.send("last words")
            ws.close(4000, "enough")
            assert ws.expect_close() == (4000, "")
        assert reports.get() == ["last words", Message.Close(4000, "enough")]
        assert reports.get() == (4000, "enough")

    def test_data_behind_the_close_is_ignored(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            reports.put([message async for message in ws])

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.close(1000)
            ws.send_frame(Opcode.TEXT, b"too late")
            assert ws.expect_close() == (1000, "")
        assert reports.get() == [Message.Close(1000, "")]

    def test_closing_again_is_a_no_op_and_sending_is_not(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            async for _ in ws:
                pass
            await ws.close(1001)
            await ws.send(Message.Close(1001))
            for message in ("text", b"bytes", Message.Ping(b""), Message.Pong(b"")):
                with pytest.raises(tako.ConnectionClosed):
                    await ws.send(message)
            reports.put("done")

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
            assert reports.get() == "done"
            ws.expect_end()

    def test_an_answer_does_not_wait_for_a_session_that_never_reads(
        self, serve: Serve
    ) -> None:
        gate = Gate()

        async def session(ws: WebSocket) -> None:
            await gate.wait()

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.send("unread")
            ws.close(1000, "bye")
            assert ws.expect_close() == (1000, "")
            gate.open()
            ws.expect_end()


class TestServerFirst:
    def test_close_waits_for_the_answer(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            await ws.close(4001, "done")
            reports.put((ws.close_code, ws.close_reason, ws.closed))

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert ws.expect_close() == (4001, "done")
            assert reports.empty
            ws.close(4001, "done")
            ws.expect_end()
            assert reports.get() == (4001, "done", True)

    def test_close_gives_up_after_the_close_timeout(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            await ws.close(4001, "done")
            reports.put(ws.close_code)

        with serve(ws_router(session), QUICK).connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert ws.expect_close() == (4001, "done")
            assert reports.get() == 1006
            ws.expect_end()

    def test_messages_still_arrive_until_the_answer(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            await ws.send(Message.Close(4002, "no more from me"))
            reports.put([message async for message in ws])

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert ws.expect_close() == (4002, "no more from me")
            ws.send_frame(Opcode.TEXT, b"on its way")
            ws.close(4002)
            assert reports.get() == ["on its way", Message.Close(4002, "")]

    def test_close_none_is_an_empty_frame(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(None)

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            assert ws.expect_close() == (None, "")
            ws.expect_end()

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1014, 1015, 2999, 5000])
    def test_a_code_that_must_not_be_sent_is_a_value_error(
        self, serve: Serve, code: int
    ) -> None:
        async def session(ws: WebSocket) -> None:
            with pytest.raises(ValueError, match=str(code)):
                await ws.close(code)
            with pytest.raises(ValueError, match="123"):
                await ws.close(1000, "ä" * 62)
            await ws.close(1000, "ä" * 61)

        with serve(ws_router(session)).connect() as connection:
            assert connection.websocket("/ws").expect_close() == (1000, "ä" * 61)

    def test_both_at_once(self, serve: Serve) -> None:
        gate, reports = Gate(), Reports()

        async def session(ws: WebSocket) -> None:
            await gate.wait()
            await ws.close(4001, "mine")

        router = ws_router(reporting(session, reports))
        with serve(router).connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            gate.open()
            ws.close(4002, "yours")
            code, _ = ws.expect_close()
            assert code in {4001, 4002}  # whose frame was first is a race
            ws.expect_end()
            reported = reports.get()[0]
            assert reported == 4002

    def test_what_was_sent_before_the_close_arrives_before_it(
        self, serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            for number in range(50):
                await ws.send(f"{number}".encode() * 10_000)
            await ws.close(1000)

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.expect(*[f"{number}".encode() * 10_000 for number in range(50)])
            ws.expect(Close(1000, ""))
            ws.expect_end()


class TestWithoutAClose:
    """T-WS-11: the end of the stream, a reset, a vanished peer: 1006."""

    def test_the_end_of_the_stream_is_1006(self, serve: Serve) -> None:
        reports = Reports()
        with serve(ws_router(reporting(echo_session, reports))).connect() as connection:
            ws = connection.websocket("/ws")
            ws.echo("hello")
            ws.end()
            assert reports.get() == (1006, "")
            ws.pipe.expect_gone()

    @H2_ONLY
    def test_the_server_ends_its_side_too(self, serve: Serve) -> None:
        with serve(ws_router(echo_session)).connect_h2() as connection:
            ws = connection.websocket("/ws")
            ws.end()
            with pytest.raises(EndOfStreamError):
                ws.receive()
            connection.ping()
            assert connection.streams[1].reset_code is None

    def test_a_reset_is_1006_and_wakes_a_blocked_reader(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            try:
                await ws.read()
            except tako.ConnectionClosed as closed:
                reports.put((closed.code, ws.close_code, type(ws.error)))

        with serve(ws_router(session)).connect() as connection:
            connection.websocket("/ws").pipe.reset()
            assert reports.get() == (1006, 1006, tako.ConnectionClosed)

    def test_a_message_cut_short_is_1006(self, serve: Serve) -> None:
        reports = Reports()
        with serve(ws_router(reporting(echo_session, reports))).connect() as connection:
            ws = connection.websocket("/ws")
            ws.send_frame(Opcode.TEXT, b"the beginning", fin=False)
            ws.end()
            assert reports.get() == (1006, "")

    def test_iteration_ends_silently(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            reports.put([message async for message in ws])
            reports.put(type(ws.error))

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.send("one")
            ws.end()
        assert reports.get() == ["one"]
        assert reports.get() is tako.ConnectionClosed

    def test_a_sender_learns_that_the_peer_is_gone(self, serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            try:
                while True:
                    await ws.send(b"x" * 65_536)
            except tako.ConnectionClosed as closed:
                reports.put(closed.code)

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.receive()
            ws.pipe.reset()
            assert reports.get() == 1006


class TestOutcomes:
    """T-WS-12: what a session does decides the code (table of section 3.8)."""

    def test_returning_is_1000(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send("that was it")

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.expect("that was it", Close(1000, ""))
            ws.expect_end()

    def test_raising_is_1011_without_the_text(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            msg = "a secret"
            raise LookupError(msg)

        server = serve(ws_router(session))
        with server.connect() as connection:
            ws = connection.websocket("/ws")
            assert ws.expect_close() == (1011, "")
            ws.expect_end()
        record = server.wait_error()
        assert record.name == "tako.ws"
        assert record.exc_info is not None
        assert record.exc_info[0] is LookupError

    def test_raising_before_the_first_await_is_the_same(self, serve: Serve) -> None:
        def session(ws: WebSocket) -> None:
            msg = "not even a coroutine"
            raise LookupError(msg)

        server = serve(ws_router(session))  # type: ignore[arg-type]
        with server.connect() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        assert server.wait_error().exc_info

    def test_returning_no_awaitable_is_the_same(self, serve: Serve) -> None:
        def session(ws: WebSocket) -> None:
            """A plain function where an async one is wanted."""

        server = serve(ws_router(session))  # type: ignore[arg-type]
        with server.connect() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        assert server.wait_error().exc_info

    def test_an_exception_group_is_the_same(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            async def fail() -> None:
                msg = "in a child"
                raise LookupError(msg)

            await together(fail)

        server = serve(ws_router(session))
        with server.connect() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        assert server.wait_error().exc_info

    def test_connection_closed_may_escape(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            while True:
                await ws.send(str(await ws.read()))

        with serve(ws_router(session)).connect() as connection:
            ws = connection.websocket("/ws")
            ws.close(4003, "leaving")
            assert ws.expect_close() == (4003, "")
            ws.expect_end()

    def test_an_exception_in_the_context_manager_is_1011(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            async with ws:
                msg = "inside"
                raise LookupError(msg)

        server = serve(ws_router(session))
        with server.connect() as connection:
            assert connection.websocket("/ws").expect_close() == (1011, "")
        assert server.wait_error().exc_info

    def test_after_a_close_handshake_nothing_more_is_sent(self, serve: Serve) -> None:
        with serve(ws_router(echo_session)).connect() as connection:
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
        self, serve: Serve, session: object
    ) -> None:
        inner = {s.__name__: s for s in (echo_session, _sleeping, _sending)}
        chosen = inner[getattr(session, "__name__", "")]
        finished = Reports()

        async def watched(ws: WebSocket) -> None:
            try:
                await chosen(ws)
            finally:
                finished.put("finally")

        router = ws_router(watched, max_lifetime=0.3)
        with serve(router, QUICK).connect() as connection:
            ws = connection.websocket("/ws")
            assert finished.get() == "finally"
            assert ws.expect_close() == (1001, "max lifetime exceeded")
            ws.expect_end()

    def test_a_session_that_ends_earlier_is_not_affected(self, serve: Serve) -> None:
        router = ws_router(echo_session, max_lifetime=60)
        with serve(router).connect() as connection:
            ws = connection.websocket("/ws")
            ws.echo("short")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")

    def test_swallowing_the_cancellation_does_not_help(self, serve: Serve) -> None:
        swallowed, gate = Reports(), Gate()

        async def stubborn(ws: WebSocket) -> None:
            try:
                await gate.wait()
            except BaseException as error:  # noqa: BLE001 - the point of the test
                swallowed.put(type(error).__name__)
            async with giving_up_after(30):
                await gate.wait()

        router = ws_router(stubborn, max_lifetime=0.2)
        with serve(router, QUICK).connect() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert swallowed.get() in {"CancelledError", "Cancelled"}
            ws.pipe.expect_gone()
            gate.open()

    def test_upgrade_timeout_does_not_limit_the_conversation(
        self, serve: Serve
    ) -> None:
        """T-WS-14; its expiry is an engine test (it needs a stalled transport)."""

        async def session(ws: WebSocket) -> None:
            await tako.sleep(0.3)
            await ws.send("later than the timeout")
            await echo_session(ws)

        router = ws_router(session, upgrade_timeout=0.1)
        with serve(router).connect() as connection:
            ws = connection.websocket("/ws")
            ws.expect("later than the timeout")
            ws.echo("and still here")


@H1_ONLY
class TestHttp1Choreography:
    def test_the_server_closes_first(self, serve: Serve, wire: str) -> None:
        with serve(ws_router(echo_session)).connect_h1() as connection:
            ws = connection.websocket("/ws")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
            ws.expect_end()
            if wire == "h1s":  # RFC 9112 section 9.8: close_notify before FIN
                assert connection.socket.clean_eof is True

    def test_a_peer_that_never_closes_is_dropped(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(4001)

        with serve(ws_router(session), QUICK).connect_h1() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert ws.expect_close()[0] == 4001
            ws.expect_end()


def _story(connection: H2Connection) -> list[tuple[str, int | None]]:
    """Return what stream 1 saw after its head: Close, END_STREAM, RST, in order."""
    story: list[tuple[str, int | None]] = []
    for frame in connection.streams[1].frames[1:]:
        if frame.type == FrameType.RST_STREAM:
            story.append(("RST_STREAM", frame.code))
            continue
        for inner in decode_frames(frame.payload):
            code = int.from_bytes(inner.payload[:2], "big") if inner.payload else None
            name = "Close" if inner.opcode == Opcode.CLOSE else "message"
            story.append((name, code if name == "Close" else None))
        if frame.ends_stream:
            story.append(("END_STREAM", None))
    return story


def _gap(connection: H2Connection) -> float:
    """Return the seconds between END_STREAM and RST_STREAM on stream 1."""
    frames = connection.streams[1].frames
    ended = next(frame for frame in frames if frame.ends_stream)
    return frames[-1].at - ended.at


def _glued(frames: list[Frame]) -> bool:
    """Whether a frame carries both the end of the stream and some data."""
    return any(frame.ends_stream and frame.payload for frame in frames)


def _open(connection: H2Connection) -> PeerWebSocket:
    ws = connection.websocket("/ws")
    ws.answer_close = False
    return ws


@H2_ONLY
class TestHttp2Choreography:
    """Close, END_STREAM, wait, RST_STREAM: what browsers need, in this order."""

    def test_peer_first_and_the_peer_ends_its_side(self, serve: Serve) -> None:
        with serve(ws_router(echo_session)).connect_h2() as connection:
            ws = _open(connection)
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
            ws.expect_end()
            ws.end()
            connection.ping()
            assert _story(connection) == [("Close", 1000), ("END_STREAM", None)]

    def test_peer_first_and_the_peer_never_ends_its_side(self, serve: Serve) -> None:
        with serve(ws_router(echo_session), QUICK).connect_h2() as connection:
            ws = _open(connection)
            ws.close(1000)
            assert connection.streams[1].expect_reset() == NO_ERROR
            assert _story(connection) == [
                ("Close", 1000),
                ("END_STREAM", None),
                ("RST_STREAM", NO_ERROR),
            ]
            assert _gap(connection) >= SHORT * 0.8

    def test_server_first(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send("goodbye")
            await ws.close(4001, "done")

        with serve(ws_router(session)).connect_h2() as connection:
            ws = _open(connection)
            ws.expect("goodbye", Close(4001, "done"))
            connection.ping()
            assert _story(connection) == [("message", None), ("Close", 4001)]
            ws.close(4001)
            ws.expect_end()
            ws.end()
            connection.ping()
            assert _story(connection)[2:] == [("END_STREAM", None)]
            assert not _glued(connection.streams[1].frames)

    def test_server_first_and_the_peer_says_nothing(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(4001)

        with serve(ws_router(session), QUICK).connect_h2() as connection:
            _open(connection)
            connection.streams[1].expect_reset()
            names = [name for name, _ in _story(connection)]
            assert names == ["Close", "END_STREAM", "RST_STREAM"]
            assert not _glued(connection.streams[1].frames)
            assert _story(connection)[-1][1] in {NO_ERROR, CANCEL}

    def test_server_first_and_the_peer_answers_but_never_ends(
        self, serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(4001)

        with serve(ws_router(session), QUICK).connect_h2() as connection:
            ws = _open(connection)
            ws.expect(Close(4001, ""))
            ws.close(4001)
            assert connection.streams[1].expect_reset() == NO_ERROR
            names = [name for name, _ in _story(connection)]
            assert names == ["Close", "END_STREAM", "RST_STREAM"]
            assert _gap(connection) >= SHORT * 0.8

    def test_a_returning_session_closes_in_the_same_order(self, serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send("done")

        with serve(ws_router(session)).connect_h2() as connection:
            ws = _open(connection)
            ws.expect("done", Close(1000, ""))
            connection.ping()
            assert _story(connection)[-1] == ("Close", 1000)
            ws.close(1000)
            ws.expect_end()
            assert not _glued(connection.streams[1].frames)

    def test_a_violation_ends_in_a_reset_if_the_peer_stays(self, serve: Serve) -> None:
        with serve(ws_router(echo_session), QUICK).connect_h2() as connection:
            ws = _open(connection)
            ws.send_frame(Opcode.TEXT, b"\xff")
            connection.streams[1].expect_reset()
            names = [name for name, _ in _story(connection)]
            assert names == ["Close", "END_STREAM", "RST_STREAM"]

    def test_late_frames_on_a_finished_stream_harm_nobody(self, serve: Serve) -> None:
        with serve(ws_router(echo_session)).connect_h2() as connection:
            ws, sibling = connection.websocket("/ws"), connection.websocket("/ws")
            ws.answer_close = False
            ws.close(1000)
            ws.expect_close()
            ws.expect_end()
            ws.send_frame(Opcode.TEXT, b"late")
            ws.pipe.reset()
            sibling.echo("alive")
            assert not connection.goaways

    def test_a_reset_of_one_stream_leaves_its_siblings(self, serve: Serve) -> None:
        reports = Reports()
        router = ws_router(reporting(echo_session, reports))
        with serve(router).connect_h2() as connection:
            ws, sibling = connection.websocket("/ws"), connection.websocket("/echo")
            ws.echo("before")
            ws.pipe.reset()
            assert reports.get() == (1006, "")
            sibling.echo("alive")
