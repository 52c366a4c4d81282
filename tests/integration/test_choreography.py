"""The order of frames at the end of a conversation (spec 3.4, 3.10).

Real clients need exactly Close, END_STREAM, a pause, RST_STREAM; a browser that sees a
Close and END_STREAM in one frame reports 1006.
"""

import time

import pytest

from tako import ServerConfig, WebSocket
from tako.testing import Serve
from tako.testing.peer.frames import Frame, FrameType
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.websocket import Close, Opcode, PeerWebSocket, decode_frames
from tests.support.apps import echo_session, reporting, ws_router
from tests.support.pace import Pace, keeping_pace
from tests.support.peers import h1_of, h2_of
from tests.support.server import Reports


H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
NO_ERROR, CANCEL = 0x0, 0x8
SHORT = 0.2
QUICK = ServerConfig(ws_close_timeout=SHORT)


@H1_ONLY
class TestHttp1Choreography:
    def test_the_server_closes_first(self, tako_serve: Serve, wire: str) -> None:
        with h1_of(tako_serve(ws_router(echo_session))) as connection:
            ws = connection.websocket("/ws")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
            ws.expect_end()
            if wire == "h1s":  # RFC 9112 section 9.8: close_notify before FIN
                assert connection.socket.clean_eof is True

    def test_a_peer_that_never_closes_is_dropped(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(4001)

        with h1_of(tako_serve(ws_router(session), config=QUICK)) as connection:
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


def _since(moment: float, connection: H2Connection) -> float:
    """Return the seconds to the reset from ``moment``, before the wait began."""
    return connection.streams[1].frames[-1].at - moment


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

    def test_peer_first_and_the_peer_ends_its_side(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(ws_router(echo_session))) as connection:
            ws = _open(connection)
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
            ws.expect_end()
            ws.end()
            connection.ping()
            assert _story(connection) == [("Close", 1000), ("END_STREAM", None)]

    def test_peer_first_and_the_peer_never_ends_its_side(
        self, tako_serve: Serve
    ) -> None:
        with h2_of(tako_serve(ws_router(echo_session), config=QUICK)) as connection:
            ws = _open(connection)
            before = time.monotonic()
            ws.close(1000)
            assert connection.streams[1].expect_reset() == NO_ERROR
            assert _story(connection) == [
                ("Close", 1000),
                ("END_STREAM", None),
                ("RST_STREAM", NO_ERROR),
            ]
            assert _since(before, connection) >= SHORT * 0.8

    def test_server_first(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send("goodbye")
            await ws.close(4001, "done")

        with h2_of(tako_serve(ws_router(session))) as connection:
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

    def test_server_first_and_the_peer_says_nothing(self, tako_serve: Serve) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(4001)

        with h2_of(tako_serve(ws_router(session), config=QUICK)) as connection:
            _open(connection)
            connection.streams[1].expect_reset()
            names = [name for name, _ in _story(connection)]
            assert names == ["Close", "END_STREAM", "RST_STREAM"]
            assert not _glued(connection.streams[1].frames)
            assert _story(connection)[-1][1] in {NO_ERROR, CANCEL}

    def test_server_first_and_the_peer_answers_but_never_ends(
        self, tako_serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(4001)

        def converse(limit: float, pace: Pace) -> None:
            config = ServerConfig(ws_close_timeout=limit)
            with h2_of(tako_serve(ws_router(session), config=config)) as connection:
                ws = _open(connection)
                pace.act()
                ws.expect(Close(4001, ""))
                before = time.monotonic()
                ws.close(4001)
                pace.act()
                assert connection.streams[1].expect_reset() == NO_ERROR
                names = [name for name, _ in _story(connection)]
                assert names == ["Close", "END_STREAM", "RST_STREAM"]
                assert _since(before, connection) >= limit * 0.8

        keeping_pace(converse, (SHORT, 1, 5))

    def test_a_returning_session_closes_in_the_same_order(
        self, tako_serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send("done")

        with h2_of(tako_serve(ws_router(session))) as connection:
            ws = _open(connection)
            ws.expect("done", Close(1000, ""))
            connection.ping()
            assert _story(connection)[-1] == ("Close", 1000)
            ws.close(1000)
            ws.expect_end()
            assert not _glued(connection.streams[1].frames)

    def test_a_violation_ends_in_a_reset_if_the_peer_stays(
        self, tako_serve: Serve
    ) -> None:
        with h2_of(tako_serve(ws_router(echo_session), config=QUICK)) as connection:
            ws = _open(connection)
            ws.send_frame(Opcode.TEXT, b"\xff")
            connection.streams[1].expect_reset()
            names = [name for name, _ in _story(connection)]
            assert names == ["Close", "END_STREAM", "RST_STREAM"]

    def test_late_frames_on_a_finished_stream_harm_no_other(
        self, tako_serve: Serve
    ) -> None:
        with h2_of(tako_serve(ws_router(echo_session))) as connection:
            ws, sibling = connection.websocket("/ws"), connection.websocket("/ws")
            ws.answer_close = False
            ws.close(1000)
            ws.expect_close()
            ws.expect_end()
            ws.send_frame(Opcode.TEXT, b"late")
            ws.pipe.reset()
            sibling.echo("alive")
            assert not connection.goaways

    def test_a_reset_of_one_stream_leaves_its_siblings(self, tako_serve: Serve) -> None:
        reports = Reports()
        router = ws_router(reporting(echo_session, reports))
        with h2_of(tako_serve(router)) as connection:
            ws, sibling = connection.websocket("/ws"), connection.websocket("/echo")
            ws.echo("before")
            ws.pipe.reset()
            assert reports.get() == (1006, "")
            sibling.echo("alive")
