"""What a peer may not do on a WebSocket: too much, and against the rules.

Spec sections 3.2, 3.11; T-WS-08 and 09.
"""

import pytest

import tako
from tako import ServerConfig, WebSocket
from tako.testing import Serve
from tako.testing.peer.websocket import Opcode, close_payload, encode_frame
from tests.support.apps import echo_router, echo_session, reporting, ws_router
from tests.support.patience import PATIENCE
from tests.support.server import Reports


QUICK = ServerConfig(ws_close_timeout=0.5 * PATIENCE)


class TestLimits:
    """T-WS-08; the boundary is exact and counts payload bytes."""

    def test_a_frame_of_exactly_the_cap_passes(self, tako_serve: Serve) -> None:
        router = ws_router(echo_session, max_frame_size=1000)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.echo(b"x" * 1000)
            ws.echo("é" * 500)

    @pytest.mark.parametrize("message", [b"x" * 1001, "é" * 500 + "x"])
    def test_a_frame_above_the_cap_is_1009(
        self, tako_serve: Serve, message: str | bytes
    ) -> None:
        reports = Reports()
        session = reporting(echo_session, reports)
        router = ws_router(session, max_frame_size=1000)
        with tako_serve(router, config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send(message)
            assert ws.expect_close()[0] == 1009
            assert reports.get()[0] == 1009

    def test_a_message_of_exactly_the_cap_passes(self, tako_serve: Serve) -> None:
        router = ws_router(echo_session, max_message_size=1000)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_fragments([b"x" * 400, b"y" * 600])
            ws.expect(b"x" * 400 + b"y" * 600)

    def test_fragments_above_the_cap_are_1009_before_the_last_one(
        self, tako_serve: Serve
    ) -> None:
        router = ws_router(echo_session, max_message_size=1000)
        with tako_serve(router, config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_frame(Opcode.BINARY, b"x" * 600, fin=False)
            ws.send_frame(Opcode.CONTINUATION, b"x" * 401, fin=False)
            assert ws.expect_close()[0] == 1009

    @pytest.mark.parametrize("announced", [(16 << 20) + 1, (1 << 63) - 1])
    def test_the_announced_length_is_enough_to_refuse(
        self, tako_serve: Serve, announced: int
    ) -> None:
        with tako_serve(echo_router(), config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.pipe.send(encode_frame(Opcode.BINARY, b"", announce=announced))
            assert ws.expect_close()[0] == 1009

    def test_setting_one_cap_leaves_the_other_at_its_default(
        self, tako_serve: Serve
    ) -> None:
        router = ws_router(echo_session, max_frame_size=100_000)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_fragments([b"x" * 100_000] * 20)
            ws.expect(b"x" * 2_000_000)


def _bad(name: str, data: bytes, code: int) -> object:
    return pytest.param(data, code, id=name)


VIOLATIONS = [
    _bad("unmasked", encode_frame(Opcode.TEXT, b"a", masked=False), 1002),
    _bad("rsv1", encode_frame(Opcode.TEXT, b"a", rsv=4), 1002),
    _bad("rsv2", encode_frame(Opcode.TEXT, b"a", rsv=2), 1002),
    _bad("rsv3 on a ping", encode_frame(Opcode.PING, b"a", rsv=1), 1002),
    _bad("opcode 3", encode_frame(3), 1002),
    _bad("opcode 15", encode_frame(15), 1002),
    _bad("fragmented ping", encode_frame(Opcode.PING, b"a", fin=False), 1002),
    _bad("ping of 126 bytes", encode_frame(Opcode.PING, b"a" * 126), 1002),
    _bad("continuation of nothing", encode_frame(Opcode.CONTINUATION, b"a"), 1002),
    _bad(
        "text inside a message",
        encode_frame(Opcode.TEXT, b"a", fin=False) + encode_frame(Opcode.TEXT, b"b"),
        1002,
    ),
    _bad("length with its top bit set", b"\x82\xff\x80" + bytes(7) + b"mask", 1002),
    _bad("length longer than needed", b"\x82\xfe\x00\x05mask12345", 1002),
    _bad("close of one byte", encode_frame(Opcode.CLOSE, b"\x03"), 1002),
    _bad("not UTF-8", encode_frame(Opcode.TEXT, b"\xff"), 1007),
    _bad("surrogate", encode_frame(Opcode.TEXT, b"\xed\xa0\x80"), 1007),
    _bad("overlong", encode_frame(Opcode.TEXT, b"\xc0\xaf"), 1007),
    _bad("not UTF-8, mid-message", encode_frame(1, b"ab\xff", fin=False), 1007),
    _bad("cut short", encode_frame(Opcode.TEXT, b"\xf0\x9f\x90"), 1007),
    _bad("reason", encode_frame(Opcode.CLOSE, close_payload(1000, b"\xff")), 1007),
]


class TestViolations:
    """T-WS-09."""

    @pytest.mark.parametrize(("data", "code"), VIOLATIONS)
    def test_a_violation_fails_the_conversation(
        self, tako_serve: Serve, data: bytes, code: int
    ) -> None:
        reports = Reports()
        session = reporting(echo_session, reports)
        with tako_serve(ws_router(session), config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.echo("before")
            ws.answer_close = False
            ws.pipe.send(data)
            assert ws.expect_close()[0] == code
            ws.expect_end()
            assert reports.get()[0] == code

    def test_what_follows_a_violation_is_not_read(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            async for message in ws:
                reports.put(message)

        with tako_serve(ws_router(session), config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            bad = encode_frame(Opcode.TEXT, b"\xff")
            ws.pipe.send(bad + encode_frame(Opcode.TEXT, b"later"))
            assert ws.expect_close()[0] == 1007
            ws.expect_end()
        assert reports.empty

    def test_read_raises_what_happened(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            try:
                await ws.read()
            except tako.WsError as error:
                reports.put((type(error), error.close_code, type(ws.error)))

        with tako_serve(ws_router(session), config=QUICK).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send_frame(Opcode.TEXT, b"\xff")
            assert ws.expect_close()[0] == 1007
        assert reports.get() == (tako.InvalidUtf8, 1007, tako.InvalidUtf8)
