"""How conversations end: codes, outcomes, and the order of frames on the wire.

Spec sections 3.4, 3.8 and 3.10; T-WS-11 to 14.
"""

import pytest

import tako
from tako import Message, ServerConfig, WebSocket
from tako.testing import Serve
from tako.testing.peer.io import EndOfStreamError
from tako.testing.peer.websocket import Close, Opcode, WsFrame, close_payload
from tests.support.apps import (
    echo_session,
    reporting,
    ws_router,
)
from tests.support.patience import PATIENCE
from tests.support.peers import h2_of
from tests.support.server import Gate, Reports


H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
NO_ERROR, CANCEL = 0x0, 0x8
QUICK = ServerConfig(ws_close_timeout=0.4 * PATIENCE)
SHORT = 0.4

LEGAL_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013]
FORBIDDEN_CODES = [0, 1, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 5000, 65535]


class TestPeerFirst:
    @pytest.mark.parametrize("code", [*LEGAL_CODES, 3000, 4999])
    def test_the_code_is_echoed(self, tako_serve: Serve, code: int) -> None:
        reports = Reports()
        with tako_serve(
            ws_router(reporting(echo_session, reports))
        ).connection() as connection:
            ws = connection.websocket("/ws")
            ws.close(code, "because")
            assert ws.expect_close() == (code, "")
            ws.expect_end()
            assert reports.get() == (code, "because")

    def test_an_empty_close_is_answered_with_an_empty_one(
        self, tako_serve: Serve
    ) -> None:
        reports = Reports()
        with tako_serve(
            ws_router(reporting(echo_session, reports))
        ).connection() as connection:
            ws = connection.websocket("/ws")
            ws.close(None)
            assert ws.expect_close() == (None, "")
            assert ws.frames[-1] == WsFrame(True, 0, Opcode.CLOSE, b"")
            assert reports.get() == (1005, "")

    @pytest.mark.parametrize("code", FORBIDDEN_CODES)
    def test_a_forbidden_code_is_1002(self, tako_serve: Serve, code: int) -> None:
        reports = Reports()
        session = reporting(echo_session, reports)
        with tako_serve(ws_router(session), config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            ws.send_frame(Opcode.CLOSE, close_payload(code))
            assert ws.expect_close()[0] == 1002
            ws.expect_end()
            assert reports.get()[0] == 1002

    def test_the_session_sees_the_close_once(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            reports.put([message async for message in ws])
            with pytest.raises(tako.ConnectionClosed) as closed:
                await ws.read()
            reports.put((closed.value.code, closed.value.reason))

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send("last words")
            ws.close(4000, "enough")
            assert ws.expect_close() == (4000, "")
        assert reports.get() == ["last words", Message.Close(4000, "enough")]
        assert reports.get() == (4000, "enough")

    def test_data_behind_the_close_is_ignored(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            reports.put([message async for message in ws])

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.close(1000)
            ws.send_frame(Opcode.TEXT, b"too late")
            assert ws.expect_close() == (1000, "")
        assert reports.get() == [Message.Close(1000, "")]

    def test_closing_again_is_a_no_op_and_sending_is_not(
        self, tako_serve: Serve
    ) -> None:
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

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
            assert reports.get() == "done"
            ws.expect_end()

    def test_an_answer_does_not_wait_for_a_session_that_never_reads(
        self, tako_serve: Serve
    ) -> None:
        gate = Gate()

        async def session(ws: WebSocket) -> None:
            await gate.wait()

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send("unread")
            ws.close(1000, "bye")
            assert ws.expect_close() == (1000, "")
            gate.open()
            ws.expect_end()


class TestServerFirst:
    def test_close_waits_for_the_answer(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            await ws.close(4001, "done")
            reports.put((ws.close_code, ws.close_reason, ws.closed))

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert ws.expect_close() == (4001, "done")
            assert reports.empty
            ws.close(4001, "done")
            ws.expect_end()
            assert reports.get() == (4001, "done", True)

    def test_close_gives_up_after_the_close_timeout(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            await ws.close(4001, "done")
            reports.put(ws.close_code)

        with tako_serve(ws_router(session), config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert ws.expect_close() == (4001, "done")
            assert reports.get() == 1006
            ws.expect_end()

    def test_messages_still_arrive_until_the_answer(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            await ws.send(Message.Close(4002, "no more from me"))
            reports.put([message async for message in ws])

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            assert ws.expect_close() == (4002, "no more from me")
            ws.send_frame(Opcode.TEXT, b"on its way")
            ws.close(4002)
            assert reports.get() == ["on its way", Message.Close(4002, "")]

    def test_close_none_is_an_empty_frame(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(None)

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            assert ws.expect_close() == (None, "")
            ws.expect_end()

    @pytest.mark.parametrize("code", [0, 999, 1004, 1005, 1006, 1014, 1015, 2999, 5000])
    def test_a_code_that_must_not_be_sent_is_a_value_error(
        self, tako_serve: Serve, code: int
    ) -> None:
        async def session(ws: WebSocket) -> None:
            with pytest.raises(ValueError, match=str(code)):
                await ws.close(code)
            with pytest.raises(ValueError, match="123"):
                await ws.close(1000, "ä" * 62)
            await ws.close(1000, "ä" * 61)

        with tako_serve(ws_router(session)).connection() as connection:
            assert connection.websocket("/ws").expect_close() == (1000, "ä" * 61)

    def test_both_at_once(self, tako_serve: Serve) -> None:
        gate, reports = Gate(), Reports()

        async def session(ws: WebSocket) -> None:
            await gate.wait()
            await ws.close(4001, "mine")

        router = ws_router(reporting(session, reports))
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.answer_close = False
            gate.open()
            ws.close(4002, "yours")
            code, _ = ws.expect_close()
            assert code in {4001, 4002}  # which frame was first is a race
            ws.expect_end()
            reported = reports.get()[0]
            assert reported == 4002

    def test_what_was_sent_before_the_close_arrives_before_it(
        self, tako_serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            for number in range(50):
                await ws.send(f"{number}".encode() * 10_000)
            await ws.close(1000)

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.expect(*[f"{number}".encode() * 10_000 for number in range(50)])
            ws.expect(Close(1000, ""))
            ws.expect_end()


class TestWithoutAClose:
    """T-WS-11: the end of the stream, a reset, a vanished peer: 1006."""

    def test_the_end_of_the_stream_is_1006(self, tako_serve: Serve) -> None:
        reports = Reports()
        with tako_serve(
            ws_router(reporting(echo_session, reports))
        ).connection() as connection:
            ws = connection.websocket("/ws")
            ws.echo("hello")
            ws.end()
            assert reports.get() == (1006, "")
            ws.pipe.expect_gone()

    @H2_ONLY
    def test_the_server_ends_its_side_too(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(ws_router(echo_session))) as connection:
            ws = connection.websocket("/ws")
            ws.end()
            with pytest.raises(EndOfStreamError):
                ws.receive()
            connection.ping()
            assert connection.streams[1].reset_code is None

    def test_a_reset_is_1006_and_wakes_a_blocked_reader(
        self, tako_serve: Serve
    ) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            try:
                await ws.read()
            except tako.ConnectionClosed as closed:
                reports.put((closed.code, ws.close_code, type(ws.error)))

        with tako_serve(ws_router(session)).connection() as connection:
            connection.websocket("/ws").pipe.reset()
            assert reports.get() == (1006, 1006, tako.ConnectionClosed)

    def test_a_message_cut_short_is_1006(self, tako_serve: Serve) -> None:
        reports = Reports()
        with tako_serve(
            ws_router(reporting(echo_session, reports))
        ).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_frame(Opcode.TEXT, b"the beginning", fin=False)
            ws.end()
            assert reports.get() == (1006, "")

    def test_iteration_ends_silently(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            reports.put([message async for message in ws])
            reports.put(type(ws.error))

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send("one")
            ws.end()
        assert reports.get() == ["one"]
        assert reports.get() is tako.ConnectionClosed

    def test_a_sender_learns_that_the_peer_is_gone(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            try:
                while True:
                    await ws.send(b"x" * 65_536)
            except tako.ConnectionClosed as closed:
                reports.put(closed.code)

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            ws.receive()
            ws.pipe.reset()
            assert reports.get() == 1006
