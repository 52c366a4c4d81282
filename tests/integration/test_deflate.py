"""permessage-deflate end to end, the same over 101 and extended CONNECT (spec 3.12).

The client compresses with wsproto where it plays by the rules and with zlib where not.
"""

import random
import zlib
from typing import Any

import psutil
import pytest
from wsproto.extensions import PerMessageDeflate

from tako import Deflate, Router, ServerConfig
from tako.testing import Serve
from tako.testing.peer.io import HeaderList
from tako.testing.peer.websocket import Opcode, PeerWebSocket, Pong, encode_frame
from tests.support.apps import echo_session, reporting, ws_router
from tests.support.patience import PATIENCE
from tests.support.server import Reports


RSV1 = 4
MIB = 1 << 20
QUICK = ServerConfig(ws_close_timeout=0.5 * PATIENCE)


def _router(deflate: Deflate | None = None, **options: Any) -> Router:
    return ws_router(echo_session, compression=deflate or Deflate(), **options)


def _compressed(data: bytes, *, wbits: int = -15) -> bytes:
    """Return a message's payload as RFC 7692 section 7.2.1 makes it."""
    encoder = zlib.compressobj(wbits=wbits)
    out = encoder.compress(data) + encoder.flush(zlib.Z_SYNC_FLUSH)
    assert out.endswith(b"\x00\x00\xff\xff")
    return out[:-4]


def _offer(value: str) -> HeaderList:
    return [("Sec-WebSocket-Extensions", value)]


def _accepted(ws: PeerWebSocket) -> str | None:
    return ws.response.header("sec-websocket-extensions")


class TestAgreement:
    @pytest.mark.parametrize(
        ("offer", "accepted"),
        [
            ("permessage-deflate; client_max_window_bits=8", False),
            ("permessage-deflate; server_max_window_bits=8", False),
            ("permessage-deflate; server_max_window_bits=16", False),
            ("permessage-deflate; unknown", False),
            ("permessage-deflate; server_no_context_takeover=1", False),
            (
                "permessage-deflate; client_max_window_bits; client_max_window_bits",
                False,
            ),
            ("x-webkit-deflate-frame", False),
            ("permessage-deflate; unknown, permessage-deflate", True),
            ("permessage-deflate; server_no_context_takeover", True),
            ('permessage-deflate; client_max_window_bits="12"', True),
        ],
    )
    def test_an_offer_is_answered_or_declined_but_never_an_error(
        self, tako_serve: Serve, offer: str, accepted: bool
    ) -> None:
        with tako_serve(_router()).connection() as connection:
            response = connection.handshake("/ws", headers=_offer(offer))
            assert response.status in {101, 200}
            answer = response.header("sec-websocket-extensions")
            assert (answer is not None) == accepted
            assert answer is None or answer.startswith("permessage-deflate")

    def test_the_servers_window_is_in_the_answer(self, tako_serve: Serve) -> None:
        deflate = Deflate(server_window_bits=10)
        with tako_serve(_router(deflate)).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            assert "server_max_window_bits=10" in (_accepted(ws) or "")
            ws.echo("small window " * 1000)

    def test_the_clients_window_is_answered_only_if_offered(
        self, tako_serve: Serve
    ) -> None:
        with tako_serve(_router()).connection() as connection:
            response = connection.handshake("/ws", headers=_offer("permessage-deflate"))
            answer = response.header("sec-websocket-extensions") or ""
            assert "client_max_window_bits" not in answer

    def test_without_an_offer_nothing_is_compressed(self, tako_serve: Serve) -> None:
        with tako_serve(_router()).connection() as connection:
            ws = connection.websocket("/ws")
            assert _accepted(ws) is None
            ws.echo("plain " * 1000)
            assert all(frame.rsv == 0 for frame in ws.frames)


class TestMessages:
    @pytest.mark.parametrize("takeover", [True, False])
    def test_messages_come_back(self, tako_serve: Serve, takeover: bool) -> None:
        deflate = Deflate(no_context_takeover=not takeover)
        with tako_serve(_router(deflate)).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            for _ in range(3):
                ws.echo("the same again " * 100)
                ws.echo("")
                ws.echo(b"")
                ws.echo(random.Random(1).randbytes(100_000))
                ws.echo(b"\0" * MIB)
            assert len(ws.raw) < 2 * MIB

    def test_short_messages_go_uncompressed(self, tako_serve: Serve) -> None:
        with tako_serve(_router(Deflate(threshold=64))).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            ws.echo("x" * 63)
            ws.echo("x" * 64)
            assert [frame.rsv for frame in ws.frames] == [0, RSV1]

    def test_fragments_and_a_ping_between_them(self, tako_serve: Serve) -> None:
        text = "compressed in pieces " * 50
        payload = _compressed(text.encode())
        with tako_serve(_router()).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            first = encode_frame(Opcode.TEXT, payload[:10], fin=False, rsv=RSV1)
            ws.pipe.send(first)
            ws.ping(b"between")
            ws.expect(Pong(b"between"))
            ws.send_frame(Opcode.CONTINUATION, payload[10:])
            ws.expect(text)

    def test_an_uncompressed_message_in_between(self, tako_serve: Serve) -> None:
        with tako_serve(_router()).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            ws.echo("compressed " * 20)
            ws.send_frame(Opcode.TEXT, b"plain")
            ws.expect("plain")
            ws.echo("compressed " * 20)


class TestViolations:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (encode_frame(Opcode.TEXT, b"not deflate at all", rsv=RSV1), 1007),
            (encode_frame(Opcode.TEXT, _compressed(b"\xff" * 100), rsv=RSV1), 1007),
            (encode_frame(Opcode.PING, b"x", rsv=RSV1), 1002),
            (encode_frame(Opcode.CONTINUATION, b"x", rsv=RSV1), 1002),
        ],
    )
    def test_they_fail_the_conversation_only(
        self, tako_serve: Serve, data: bytes, code: int
    ) -> None:
        with tako_serve(_router(), config=QUICK).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            ws.pipe.send(data)
            assert ws.expect_close()[0] == code
            ws.expect_end()

    def test_exactly_the_cap_passes_and_one_more_is_1009(
        self, tako_serve: Serve
    ) -> None:
        router = _router(max_message_size=MIB)
        with tako_serve(router, config=QUICK).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            ws.echo(b"\0" * MIB)
            ws.send(b"\0" * (MIB + 1))
            assert ws.expect_close()[0] == 1009

    def test_a_bomb_is_1009_and_costs_next_to_nothing(self, tako_serve: Serve) -> None:
        bomb = encode_frame(Opcode.BINARY, _compressed(bytes(64 * MIB)), rsv=RSV1)
        assert len(bomb) < 70_000
        reports = Reports()
        router = ws_router(
            reporting(echo_session, reports),
            compression=Deflate(),
            max_message_size=MIB,
        )
        with tako_serve(router, config=QUICK).connection() as connection:
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            process = psutil.Process()
            before = process.memory_info().rss
            ws.pipe.send(bomb)
            assert ws.expect_close()[0] == 1009
            grown = process.memory_info().rss - before
            assert reports.get()[0] == 1009
        assert grown < 4 * MIB  # what it costs in time: tests/sansio/ws/test_deflate.py
