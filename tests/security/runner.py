"""Runs rows of the corpus against a server and keeps what comes back.

The bytes of a row are sent to a server, on a socket (``Victim``) or in memory
(``MemoryVictim``), in one of five ways: *whole*; *beside* other traffic in the same
segment (a request before it on HTTP/1.1, a message before it on a WebSocket, a second
WebSocket on the same HTTP/2 connection, with frames around it); *cut* in two, the
second part once the server has read the first; in *pieces* of a few bytes, each of them
read before the next is sent; *unread*, by a client that does not read before the server
has done all it can (FX-26). ``verdicts.py`` judges the outcome.
"""

from collections.abc import Callable
from typing import Protocol

from tako import ServerConfig
from tako.testing.peer import Wire
from tako.testing.peer.frames import raw_frame
from tako.testing.peer.websocket import WsFrame
from tests.security.corpus import Delivery, Pieces, Row
from tests.support.attack import (
    HELLO,
    PREFACE,
    Answer,
    Attacker,
    RawH2,
    connect_block,
    parse_answers,
    shifted,
    ws_frames,
    ws_text,
)
from tests.support.patience import TIMEOUT
from tests.support.server import Gate
from tests.support.victim import Entry, Ledger


PROMPT = TIMEOUT
"""Seconds for a verdict; a second is asked for, the rest is for busy machines (I6)."""

_BEFORE = b"GET /before HTTP/1.1\r\nHost: a\r\n\r\n"
_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
)
_DEFLATE = ("sec-websocket-extensions", "permessage-deflate")
_HTTP1_ONLY = {b"host", b"connection", b"upgrade", b"sec-websocket-key"}
_GET = b"\x82\x87\x84\x01\x01a"
_LARGE = b"x" * 200_000
_CANARY_STREAM = 1
_LATE_STREAM = 1_000_001
_NARROW = 16_384  # bytes that the kernel of a client takes that does not read
_WIDE = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + raw_frame(4, 0, 0, b"\0\4" + (2**31 - 1).to_bytes(4, "big"))
    + raw_frame(4, 1, 0)
    + raw_frame(8, 0, 0, (2**31 - 1 - 65_535).to_bytes(4, "big"))
)
"""A client's preface that lets the server send as much as it likes."""


class Canary(Protocol):
    """Another client of the same server."""

    def echo(self) -> float:
        """Echo now; whatever was sent before is then read."""
        ...


class Target(Protocol):
    """The server that is attacked: ``Victim`` or ``MemoryVictim``."""

    ledger: Ledger
    config: ServerConfig

    @property
    def canary(self) -> Canary: ...

    def attacker(
        self, wire: Wire, *, receive_buffer: int | None = None
    ) -> Attacker | RawH2:
        """Connect over ``wire`` and send nothing yet."""
        ...

    def gate(self) -> Gate:
        """Return what a handler can wait for."""
        ...

    def settle(self) -> None:
        """Assert the invariants that hold after every attack."""
        ...


class Outcome:
    """One delivery of a row: the connection, and what the handlers saw."""

    def __init__(
        self, row: Row, victim: Target, wire: Wire, peer: Attacker, delivery: Delivery
    ) -> None:
        self.row = row
        self.victim = victim
        self.wire = wire
        self.peer = peer
        self.cut = isinstance(delivery, int | Pieces)
        self.beside = delivery == "beside"
        self.http2 = isinstance(peer, RawH2)
        in_tunnel = row.proto in {"ws", "ws-pmd"}
        self.shift = 2 if self.beside and self.http2 and not in_tunnel else 0

    # -- what came back ----------------------------------------------------------------

    @property
    def h2(self) -> RawH2:
        assert isinstance(self.peer, RawH2)
        return self.peer

    @property
    def stream(self) -> int:
        """The stream that the row's first request or its WebSocket is on."""
        return 1 + self.shift

    def answers(self) -> list[Answer]:
        """HTTP/1.1: the final responses to the row's own requests."""
        found = parse_answers(bytes(self.peer.received)).final
        if self.beside and found:
            assert (found[0].status, found[0].body) == (200, b"/before 0")
        return found[self.beside :]

    def handshake(self) -> tuple[int, dict[str, str]] | None:
        """Return status and header of the answer to an opening handshake."""
        if self.http2:
            fields = self.h2.fields.get(self.stream)
            if fields is None:
                return None
            return self.h2.statuses[self.stream][-1], dict(fields)
        found = parse_answers(bytes(self.peer.received)).complete
        found = found[1:] if self.beside and self.row.proto == "ws-hs" else found
        return (found[0].status, dict(found[0].fields)) if found else None

    def tunnel(self) -> bytes:
        """Return what came through the WebSocket's byte pipe."""
        if self.http2:
            return bytes(self.h2.data.get(self.stream, b""))
        return parse_answers(bytes(self.peer.received)).rest

    def frames(self) -> list[WsFrame]:
        """Return the WebSocket frames, without the answer to the one sent before."""
        found = ws_frames(self.tunnel())
        if self.beside and self.row.proto in {"ws", "ws-pmd"}:
            echoes = [frame for frame in found if frame.payload == b"before"]
            found = [frame for frame in found if frame not in echoes]
        return found

    def tunnel_over(self) -> bool:
        if self.http2:
            return self.h2.gone(self.stream) or self.peer.ending is not None
        return self.peer.ending is not None

    def handlers(self) -> list[Entry]:
        """Return the handlers that the row's own requests entered."""
        return [
            entry
            for entry in self.victim.ledger.of("handler")
            if entry.request.path != "/before"
        ]

    def sessions(self) -> list[Entry]:
        """Return the sessions that the row's own handshakes started."""
        return self.victim.ledger.of("session")

    # -- waiting -----------------------------------------------------------------------

    def wait(self, condition: Callable[[], bool], timeout: float = PROMPT) -> None:
        """Wait for ``condition()``; the end of the connection also ends the wait."""
        self.peer.pump(condition, timeout)

    def send_tunnel(self, data: bytes) -> None:
        """Send bytes through the WebSocket's pipe."""
        if self.http2:
            self.h2.send_stream(self.stream, data)
        else:
            self.peer.send(data)

    def settled(self) -> None:
        """Wait until the server has read everything and answered what it answers."""
        if self.http2:
            self.h2.settled(PROMPT)
        else:
            self.peer.flush()
            self.victim.canary.echo()

    def settled_or_blocked(self) -> None:
        """Wait until the server has read everything, or has stopped reading."""
        if self.http2:
            self.h2.settled(PROMPT)
            return
        while self.peer.unsent:
            left = len(self.peer.unsent)
            self.peer.pump(lambda left=left: len(self.peer.unsent) < left, 0.2)  # type: ignore[misc]
            if len(self.peer.unsent) == left:
                return

    def same_connection_lives(self) -> None:
        """I2: the WebSocket beside the row echoes, and a new one can be opened."""
        peer = self.h2
        stream = _LATE_STREAM
        if not self.victim.config.h2_enable_connect_protocol:
            peer.send(raw_frame(1, 5, stream, _GET))
            peer.pump(lambda: peer.gone(stream), PROMPT)
            assert peer.statuses.get(stream) == [200], peer.goaways
            return
        if self.shift:
            stream = _CANARY_STREAM
        else:
            peer.send(raw_frame(1, 4, stream, connect_block("/canary")))
        text = b"still here?"
        peer.send(raw_frame(0, 0, stream, ws_text(text)))
        peer.pump(lambda: text in _texts(peer, stream), PROMPT)
        assert peer.ending is None, peer.goaways
        assert not peer.goaways, peer.goaways
        assert _texts(peer, stream)[-1] == text


def _texts(peer: RawH2, stream: int) -> list[bytes]:
    frames = ws_frames(bytes(peer.data.get(stream, b"")))
    return [frame.payload for frame in frames]


# Delivery -----------------------------------------------------------------------------


def deliver(row: Row, victim: Target, wire: Wire, delivery: Delivery) -> Outcome:
    """Send a row; the caller judges and closes ``Outcome.peer``."""
    ledger = victim.ledger
    ledger.clear()
    ledger.reply = _LARGE if row.id in {"H2-44", "H2-45"} else None
    ledger.gate = victim.gate() if row.id == "WH-23" else None
    ledger.body_gate = victim.gate() if row.id == "H2-41" else None
    unread = delivery == "unread"
    peer = victim.attacker(wire, receive_buffer=_NARROW if unread else None)
    out = Outcome(row, victim, wire, peer, delivery)
    try:
        before, data, after = _segments(row, out)
        if row.proto in {"ws", "ws-pmd"}:
            _open_websocket(row, out)
        if isinstance(delivery, int | Pieces):
            send = out.send_tunnel if row.proto in {"ws", "ws-pmd"} else peer.send
            first, *others = _divided(before + data, delivery)
            send(first)
            for piece in others:
                peer.flush()
                victim.canary.echo()
                send(piece)
        elif row.proto in {"ws", "ws-pmd"}:
            for piece in _pieces(row, before + data):
                out.send_tunnel(piece)
        else:
            peer.send(before + data + after)
        if unread:
            leave_unread(out)
    except BaseException:
        peer.close()
        raise
    return out


def _divided(data: bytes, delivery: int | Pieces) -> list[bytes]:
    if isinstance(delivery, int):
        return [data[:delivery], data[delivery:]]
    size = delivery.size
    return [data[at : at + size] for at in range(0, len(data), size)] or [b""]


def leave_unread(out: Outcome) -> None:
    """Let the server do what it can while the client reads no answer."""
    peer = out.peer
    peer.deaf = True
    while (left := len(peer.unsent)) and peer.ending is None:
        peer.pump(lambda left=left: len(peer.unsent) < left, 0.05)  # type: ignore[misc]
        if len(peer.unsent) == left:
            break  # the server has stopped reading
    for _ in range(2):  # what it has read it has answered, as far as it goes
        out.victim.canary.echo()
    peer.deaf = False


def _segments(row: Row, out: Outcome) -> tuple[bytes, bytes, bytes]:
    """Return what precedes the row, the row, and what follows, for this wire."""
    data = row.data
    if row.proto in {"ws", "ws-pmd"}:
        return (ws_text(b"before") if out.beside else b""), data, b""
    if not out.http2:
        return (_BEFORE if out.beside else b""), data, b""
    if row.proto == "ws-hs":
        head, _, early = data.partition(b"\r\n\r\n")
        data = raw_frame(1, 4, 1, connect_block("/ws", *_extra_fields(head)))
        if early and row.id != "WH-23":  # its verdict sends the flood
            data += raw_frame(0, 0, 1, early)
    return _hello(row, out), shifted(data, out.shift), _after(out)


def _hello(row: Row, out: Outcome) -> bytes:
    if row.id in {"H2-01", "H2-02"}:
        return PREFACE if row.id == "H2-02" else b""
    if row.id == "H2-34":
        return PREFACE + raw_frame(4, 0, 0)
    hello = _WIDE if row.proto == "ws-hs" else HELLO
    if not out.shift:
        return hello
    return (
        hello
        + raw_frame(1, 4, _CANARY_STREAM, connect_block("/canary"))
        + raw_frame(0, 0, _CANARY_STREAM, ws_text(b"before"))
    )


def _after(out: Outcome) -> bytes:
    return raw_frame(0, 0, _CANARY_STREAM, ws_text(b"after")) if out.shift else b""


def _pieces(row: Row, data: bytes) -> list[bytes]:
    if row.id == "WS-35":  # the row that is about its delivery
        return [data[at : at + 1] for at in range(len(data))]
    return [data]


def _extra_fields(head: bytes) -> list[tuple[str, str]]:
    fields = []
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in _HTTP1_ONLY and name != b"sec-websocket-version":
            fields.append((name.decode(), value.strip().decode()))
    return fields


def _open_websocket(row: Row, out: Outcome) -> None:
    compressed = row.proto == "ws-pmd"
    peer = out.peer
    if isinstance(peer, RawH2):
        extra = [_DEFLATE] if compressed else []
        peer.send(_WIDE + raw_frame(1, 4, out.stream, connect_block("/ws", *extra)))
    else:
        offer = f"{_DEFLATE[0]}: {_DEFLATE[1]}\r\n".encode() if compressed else b""
        peer.send(_UPGRADE + offer + b"\r\n")
    peer.pump(lambda: out.handshake() is not None)
    answer = out.handshake()
    assert answer is not None
    assert answer[0] == (200 if out.http2 else 101)
    assert ("sec-websocket-extensions" in answer[1]) == compressed
