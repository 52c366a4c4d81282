"""What hostile servers say to a client: the corpus turned round.

A row is what a server sends, where in a conversation, and what the client makes of it:
an error with a name, or nothing at all. ``tests/sansio/client/test_hostile_servers.py``
plays the rows to engines in memory, ``test_hostile_servers.py`` to ``tako.connect``.
"""

import zlib
from typing import Literal, NamedTuple, TypeAlias

import hpack

from tako.errors import (
    ConnectionClosed,
    FrameTooBig,
    HandshakeInvalid,
    HandshakeRejected,
    Http2Unavailable,
    InvalidUtf8,
    MessageTooBig,
    ProtocolViolation,
    TakoError,
    WsError,
)
from tako.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    frame,
    goaway,
    rst_stream,
    window_update,
)
from tests.support.h2wire import SETTINGS_ACK, data, settings


Wire: TypeAlias = Literal["h1", "h2"]
Where: TypeAlias = Literal["greeting", "answer", "open"]

MAX_SIZE = 1 << 16
"""``max_size`` of the client: bytes of the largest message."""
ACCEPT = b"%ACCEPT%"
"""Stands for the proof that goes with the client's key."""
STILL_HERE = "still here"
"""The text that a server sends behind a row that is harmless."""
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
    b"connection: Upgrade\r\nsec-websocket-accept: " + ACCEPT + b"\r\n"
)
GREETING = settings((8, 1)) + SETTINGS_ACK
DEFLATE = "permessage-deflate"


class Row(NamedTuple):
    """One thing that a server may do.

    Attributes:
        name: what it is, in words.
        wire: what carries it; ``"ws"``: frames of RFC 6455 on both.
        where: instead of the server's first SETTINGS, of its answer, or behind that.
        sent: the bytes.
        error: what the client raises; ``None``: nothing.
        text: a part of what the error says.
        fin: the server ends its direction behind the bytes.
        deflate: permessage-deflate is agreed on.
    """

    name: str
    wire: Literal["h1", "h2", "ws"]
    where: Where
    sent: bytes
    error: type[TakoError] | None
    text: str = ""
    fin: bool = False
    deflate: bool = False

    @property
    def wires(self) -> tuple[Wire, ...]:
        """What the row can be played on."""
        return ("h1", "h2") if self.wire == "ws" else (self.wire,)


def head(
    *fields: tuple[str, str],
    stream_id: int = 1,
    end: bool = False,
    huffman: bool = True,
) -> bytes:
    """Return a HEADERS frame that a new encoder makes."""
    flags = END_HEADERS | (END_STREAM if end else 0)
    block = hpack.Encoder().encode(fields, huffman=huffman)
    return frame(HEADERS, flags, stream_id, block)


def ws(first: int, payload: bytes = b"", *, size: int | None = None) -> bytes:
    """Return a frame of a server; ``size``: what it says that its payload has."""
    length = len(payload) if size is None else size
    if length < 126:
        return bytes([first, length]) + payload
    if length < 1 << 16:
        return bytes([first, 126]) + length.to_bytes(2) + payload
    return bytes([first, 127]) + length.to_bytes(8) + payload


def deflated(payload: bytes) -> bytes:
    """Return a compressed message (RFC 7692 §7.2.1)."""
    engine = zlib.compressobj(9, wbits=-15)
    return (engine.compress(payload) + engine.flush(zlib.Z_SYNC_FLUSH))[:-4]


# -- HTTP/1.1, before the WebSocket ----------------------------------------------------


def _instead_of_101(name: str, sent: bytes, text: str, *, fin: bool = False) -> Row:
    return Row(name, "h1", "answer", sent, HandshakeInvalid, text, fin)


def _switched(name: str, old: bytes, new: bytes, text: str) -> Row:
    assert old in SWITCH
    return _instead_of_101(name, SWITCH.replace(old, new) + b"\r\n", text)


def _answering(name: str, fields: bytes, text: str = "") -> Row:
    error = HandshakeInvalid if text else None
    return Row(name, "h1", "answer", SWITCH + fields + b"\r\n", error, text)


def _refusal(name: str, sent: bytes, *, fin: bool = False) -> Row:
    text = f"the server answers the handshake with {sent[9:12].decode()}"
    return Row(name, "h1", "answer", sent, HandshakeRejected, text, fin)


_NOT_HTTP = "the answer is not HTTP/1.1"
_MALFORMED = "the fields of the answer are malformed"
_TOO_LARGE = "the head of the answer is too large"
_ACCEPT_LINE = b"sec-websocket-accept: " + ACCEPT + b"\r\n"
_PROOF = "Sec-WebSocket-Accept is not that of our key"
_HINT = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"

_H1 = [
    _instead_of_101("nothing, and the end", b"", "closed the connection", fin=True),
    _instead_of_101("half a head", SWITCH[:40], "closed the connection", fin=True),
    _instead_of_101("another protocol", b"220 mail.example ESMTP\r\n", _NOT_HTTP),
    _instead_of_101("a TLS alert", b"\x15\x03\x01\0\2\2\x28", _NOT_HTTP),
    _instead_of_101("HTTP/2", GREETING, _NOT_HTTP),
    _instead_of_101("a WebSocket frame", ws(0x81, b"hello"), _NOT_HTTP),
    _instead_of_101("HTTP/0.9", b"<html>hello</html>", _NOT_HTTP),
    _instead_of_101("HTTP/3.0", b"HTTP/3.0 101 x\r\n\r\n", _NOT_HTTP),
    _instead_of_101("no status", b"HTTP/1.1\r\n\r\n", _NOT_HTTP),
    _instead_of_101("status 1000", b"HTTP/1.1 1000 x\r\n\r\n", _NOT_HTTP),
    _instead_of_101("status -1", b"HTTP/1.1 -1 x\r\n\r\n", _NOT_HTTP),
    _instead_of_101("lines that end with LF", SWITCH.replace(b"\r", b""), _NOT_HTTP),
    _instead_of_101("NUL in the reason", b"HTTP/1.1 101 \0\r\n\r\n", _NOT_HTTP),
    _switched("101 in HTTP/1.0", b"HTTP/1.1", b"HTTP/1.0", "101 comes in HTTP/1.0"),
    _switched("no upgrade", b"upgrade: websocket\r\n", b"", "does not upgrade"),
    _switched("another upgrade", b"websocket\r", b"h2c\r", "does not upgrade"),
    _switched("no connection", b"connection: Upgrade\r\n", b"", "Connection: Upgrade"),
    _switched("keep-alive", b": Upgrade", b": keep-alive", "Connection: Upgrade"),
    _switched("no proof", _ACCEPT_LINE, b"", _PROOF),
    _switched("the proof of another", ACCEPT, b"HSmrc0sMlYUkAGmm5OPpG2HaGWk=", _PROOF),
    _switched("the proof twice", _ACCEPT_LINE, _ACCEPT_LINE * 2, _PROOF),
    _switched("the proof in a list", ACCEPT, ACCEPT + b", x", _PROOF),
    _answering("another subprotocol", b"sec-websocket-protocol: x\r\n", "asked for"),
    _answering("two", b"sec-websocket-protocol: chat, x\r\n", "asked for"),
    _answering("twice", b"sec-websocket-protocol: chat\r\n" * 2, "asked for"),
    _answering(
        "x-webkit", b"sec-websocket-extensions: x-webkit\r\n", "what was offered"
    ),
    *[
        _answering(
            f"deflate {params}", line, "permessage-deflate" if text is None else text
        )
        for params, text in {
            "; x": None,
            "; server_max_window_bits=7": None,
            "; server_max_window_bits=16": None,
            "; server_max_window_bits": None,
            "; client_max_window_bits": None,
            "; client_max_window_bits=abc": None,
            "; server_no_context_takeover=1": None,
            "; server_no_context_takeover; server_no_context_takeover": None,
            ", permessage-deflate": "what was offered",
        }.items()
        for line in [f"sec-websocket-extensions: {DEFLATE}{params}\r\n".encode()]
    ],
    _answering("a length of 101", b"content-length: 10\r\n"),
    _answering("fields of no meaning", b"set-cookie: a=b\r\n" * 50),
    _answering("folded", b"x: y\r\n z\r\n", _MALFORMED),
    _answering("NUL in a field", b"x: \0\r\n", _MALFORMED),
    _answering("CR in a field", b"x: a\rb\r\n", _MALFORMED),
    _answering("no colon", b"hello\r\n", _MALFORMED),
    _answering("a space before the colon", b"x : y\r\n", _MALFORMED),
    _answering("a thousand fields", b"x: y\r\n" * 1000, _MALFORMED),
    _answering("a large field", b"x: " + b"y" * 100_000 + b"\r\n", _TOO_LARGE),
    _answering("a flood of fields", b"x: y\r\n" * 100_000, _TOO_LARGE),
    _instead_of_101("endless 1xx", _HINT * 50_000, "too many interim answers"),
    _instead_of_101(
        "1xx of any size",
        (_HINT[:-2] + b"x: " + b"y" * 9000 + b"\r\n\r\n") * 100,
        _TOO_LARGE,
    ),
    Row("1xx before 101", "h1", "answer", _HINT * 10 + SWITCH + b"\r\n", None),
    _refusal("200", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"),
    _refusal(
        "a redirection to nowhere", b"HTTP/1.1 301 x\r\ncontent-length: 0\r\n\r\n"
    ),
    _refusal("no content", b"HTTP/1.1 204 x\r\n\r\nHTTP/1.1 101"),
    _refusal("no end", b"HTTP/1.1 401 x\r\n\r\n" + b"x" * 4_000_000),
    _refusal(
        "a length and no end", b"HTTP/1.1 500 x\r\ncontent-length: 9\r\n\r\n", fin=True
    ),
    _refusal(
        "a length that is none",
        b"HTTP/1.1 500 x\r\ncontent-length: -1\r\n\r\n",
        fin=True,
    ),
    _refusal(
        "lengths",
        b"HTTP/1.1 500 x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n"
        + b"x" * 5000,
    ),
    _refusal(
        "a chunk of any size",
        b"HTTP/1.1 500 x\r\ntransfer-encoding: chunked\r\n\r\n" + b"F" * 16 + b"\r\n",
        fin=True,
    ),
    _refusal(
        "a chunk extension without end",
        b"HTTP/1.1 500 x\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 4_000_000,
    ),
    _refusal(
        "chunks of a byte",
        b"HTTP/1.1 500 x\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 100_000,
    ),
]


# -- HTTP/2, before the WebSocket ------------------------------------------------------


def _greeting(name: str, sent: bytes, text: str) -> Row:
    return Row(name, "h2", "greeting", sent, HandshakeInvalid, text)


def _instead_of_200(name: str, sent: bytes, text: str, *, fin: bool = False) -> Row:
    return Row(name, "h2", "answer", sent, HandshakeInvalid, text, fin)


def _opening(name: str, sent: bytes) -> Row:
    return Row(name, "h2", "answer", sent, None)


_OK = (":status", "200")
_PROTOCOL, _FLOW, _SIZE = "PROTOCOL_ERROR", "FLOW_CONTROL_ERROR", "FRAME_SIZE_ERROR"
_CALM, _COMPRESSION = "ENHANCE_YOUR_CALM", "COMPRESSION_ERROR"
_UNKNOWN = 0x42

# RFC 7541: 4 KB in the dynamic table, then one byte for each time it is repeated
_BOMB = b"\x88" + b"\x40\x01x\x7f\x81\x1e" + b"y" * 4000 + b"\xbe" * 12_000

_BREAKS = [
    (
        "PUSH_PROMISE",
        frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4) + b"\x82"),
        _PROTOCOL,
    ),
    ("HEADERS on an even stream", head(_OK, stream_id=2), _PROTOCOL),
    ("HEADERS on an idle stream", head(_OK, stream_id=3), _PROTOCOL),
    ("DATA on an idle stream", data(3, b"x"), _PROTOCOL),
    ("DATA on no stream", data(0, b"x"), _PROTOCOL),
    ("RST_STREAM on an idle stream", rst_stream(3, 0), _PROTOCOL),
    ("RST_STREAM on no stream", rst_stream(0, 0), _PROTOCOL),
    ("RST_STREAM of 3 bytes", frame(RST_STREAM, 0, 1, bytes(3)), _SIZE),
    ("GOAWAY on a stream", frame(GOAWAY, 0, 1, bytes(8)), _PROTOCOL),
    ("GOAWAY of 4 bytes", frame(GOAWAY, 0, 0, bytes(4)), _SIZE),
    ("PING of 7 bytes", frame(PING, 0, 0, bytes(7)), _SIZE),
    ("PING on a stream", frame(PING, 0, 1, bytes(8)), _PROTOCOL),
    ("a huge frame", b"\xff\xff\xff\0\0\0\0\0\1", _SIZE),
    ("a huge PING", b"\xff\xff\xff\6\0\0\0\0\0", _SIZE),
    ("padding that is too long", frame(DATA, PADDED, 1, b"\5abc"), _PROTOCOL),
    ("CONTINUATION of nothing", frame(CONTINUATION, 0, 1, b"x"), _PROTOCOL),
    (
        "PING within a block",
        frame(HEADERS, 0, 1) + frame(PING, 0, 0, bytes(8)),
        _PROTOCOL,
    ),
    ("SETTINGS of 5 bytes", frame(SETTINGS, 0, 0, bytes(5)), _SIZE),
    ("SETTINGS on a stream", frame(SETTINGS, 0, 1), _PROTOCOL),
    ("an ACK that says something", frame(SETTINGS, ACK, 0, bytes(6)), _SIZE),
    ("push switched on", settings((2, 1)), _PROTOCOL),
    ("CONNECT_PROTOCOL 2", settings((8, 2)), _PROTOCOL),
    ("frames of 1 byte", settings((5, 1)), _PROTOCOL),
    ("a window of 2 GiB", settings((4, 1 << 31)), _FLOW),
    ("many settings", settings(*[(0x99, 1)] * 33), _CALM),
    ("an increment of nothing", window_update(0, 0), _PROTOCOL),
    ("a window that overflows", window_update(0, (1 << 31) - 1), _FLOW),
    (
        "an index that is none",
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\x0f"),
        _COMPRESSION,
    ),
    (
        "Huffman code that is none",
        frame(HEADERS, END_HEADERS, 1, b"\0\x81\xff\x81\xff"),
        _COMPRESSION,
    ),
    ("half a literal", frame(HEADERS, END_HEADERS, 1, b"\0\x05ab"), _COMPRESSION),
    (
        "a table of any size",
        frame(HEADERS, END_HEADERS, 1, b"\x3f\xe1\xff\x7f\x88"),
        _COMPRESSION,
    ),
    (
        "size updates",
        frame(HEADERS, END_HEADERS, 1, b"\x20" * 9 + b"\x88"),
        _COMPRESSION,
    ),
    ("a bomb of fields", frame(HEADERS, END_HEADERS, 1, _BOMB), _CALM),
    (
        "an ever longer block",
        frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, b"x") * 50_000,
        _CALM,
    ),
    (
        "a block without end",
        frame(HEADERS, 0, 1, bytes(16_384))
        + frame(CONTINUATION, 0, 1, bytes(16_384)) * 50,
        _CALM,
    ),
    ("a flood of SETTINGS", settings((4, 65_535)) * 20_000, _CALM),
    ("a flood of ACKs", SETTINGS_ACK * 20_000, _CALM),
    ("a flood of PINGs", frame(PING, 0, 0, bytes(8)) * 20_000, _CALM),
    ("a flood of answers to none", frame(PING, ACK, 0, bytes(8)) * 20_000, _CALM),
    ("a flood of PRIORITY", frame(PRIORITY, 0, 1, b"\0\0\0\3\1") * 20_000, _CALM),
    ("a flood of credit", window_update(1, 1) * 20_000, _CALM),
    ("a flood of unknown frames", frame(_UNKNOWN, 0, 0) * 20_000, _CALM),
]
"""What ends the connection, and with which code, before the answer or behind it."""

_H2 = [
    _greeting("HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n", "broke HTTP/2"),
    _greeting("a WebSocket frame", ws(0x81, b"x" * 30), "broke HTTP/2"),
    _greeting("PING before SETTINGS", frame(PING, 0, 0, bytes(8)), _PROTOCOL),
    _greeting("an ACK before SETTINGS", SETTINGS_ACK, _PROTOCOL),
    _greeting("GOAWAY before SETTINGS", goaway(0, 0), _PROTOCOL),
    _greeting("a flood at once", settings((8, 1)) * 20_000, _CALM),
    Row("no tunnels", "h2", "greeting", settings(), Http2Unavailable, "no WebSockets"),
    _instead_of_200("no status", head(("x", "y")), "malformed"),
    _instead_of_200("no fields", frame(HEADERS, END_HEADERS, 1), "malformed"),
    _instead_of_200("two statuses", head(_OK, _OK), "malformed"),
    _instead_of_200("a late status", head(("x", "y"), _OK), "malformed"),
    _instead_of_200("status 2000", head((":status", "2000")), "malformed"),
    _instead_of_200("101", head((":status", "101")), "malformed"),
    _instead_of_200("a pseudo-field", head(_OK, (":path", "/")), "malformed"),
    _instead_of_200("upper case", head(_OK, ("Upper", "x")), "malformed"),
    _instead_of_200("connection", head(_OK, ("connection", "close")), "malformed"),
    _instead_of_200(
        "transfer-encoding", head(_OK, ("transfer-encoding", "x")), "malformed"
    ),
    _instead_of_200("a value with LF", head(_OK, ("x", "a\nb")), "malformed"),
    _instead_of_200("1xx that ends", head((":status", "103"), end=True), "malformed"),
    _instead_of_200("200 that ends", head(_OK, end=True), "ended with the answer"),
    _instead_of_200("DATA before the answer", data(1, b"x"), "DATA comes before"),
    _instead_of_200("an end without answer", data(1, end=True), "without an answer"),
    _instead_of_200("a thousand fields", head(_OK, *[("x", "y")] * 1000), "malformed"),
    _instead_of_200(
        "endless 1xx", head((":status", "103")) * 20_000, "interim answers"
    ),
    _instead_of_200("nothing, and the end", b"", "closed the connection", fin=True),
    _instead_of_200("a flood of empty DATA", data(1) * 20_000, _CALM),
    _instead_of_200("reset", rst_stream(1, 1), f"reset the stream ({_PROTOCOL})"),
    _instead_of_200("an increment of 0", window_update(1, 0), _PROTOCOL),
    _instead_of_200("self-dependence", frame(PRIORITY, 0, 1, b"\0\0\0\1\1"), _PROTOCOL),
    _instead_of_200(
        "x-webkit",
        head(_OK, ("sec-websocket-extensions", "x-webkit")),
        "what was offered",
    ),
    _instead_of_200(
        "another subprotocol", head(_OK, ("sec-websocket-protocol", "x")), "asked for"
    ),
    *[_instead_of_200(name, sent, code) for name, sent, code in _BREAKS],
    Row(
        "404 without end",
        "h2",
        "answer",
        head((":status", "404")) + data(1, bytes(9000)),
        HandshakeRejected,
        "with 404",
    ),
    Row(
        "405",
        "h2",
        "answer",
        head((":status", "405"), end=True),
        HandshakeRejected,
        "405",
    ),
    _opening("200", head(_OK)),
    _opening("202", head((":status", "202"))),
    _opening(
        "a proof", head(_OK, ("sec-websocket-accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    ),
    _opening("1xx before 200", head((":status", "103")) * 10 + head(_OK)),
    _opening("a new frame", frame(_UNKNOWN, 255, 1, b"x" * 99) + head(_OK)),
    _opening("a new setting", settings((0x99, 1)) + head(_OK)),
    _opening("tunnels taken back", settings((8, 0)) + head(_OK)),
    _opening(
        "padding", frame(HEADERS, END_HEADERS | PADDED, 1, b"\x03\x88" + bytes(3))
    ),
]


# -- HTTP/2, around the WebSocket ------------------------------------------------------


def _beside(
    name: str, sent: bytes, error: type[TakoError] | None, text: str = ""
) -> Row:
    return Row(name, "h2", "open", sent, error, text)


_TUNNEL = [
    *[
        _beside(name, sent, ConnectionClosed, f"1006 the server broke HTTP/2 ({code})")
        for name, sent, code in _BREAKS
    ],
    _beside(
        "reset",
        rst_stream(1, 8),
        ConnectionClosed,
        "1006 the server reset the stream (CANCEL)",
    ),
    _beside("a code that is none", rst_stream(1, 0xBAD), ConnectionClosed, "(0xbad)"),
    _beside("trailers", head(("x", "y"), end=True), ConnectionClosed, _PROTOCOL),
    _beside("another answer", head(_OK), ConnectionClosed, _PROTOCOL),
    _beside(
        "a window that overflows, of a stream",
        window_update(1, (1 << 31) - 1),
        ConnectionClosed,
        _FLOW,
    ),
    _beside(
        "windows that overflow at once",
        window_update(1, 1 << 20) + settings((4, (1 << 31) - 1)),
        ConnectionClosed,
        _FLOW,
    ),
    _beside("a flood of empty DATA", data(1) * 20_000, ConnectionClosed, _CALM),
    _beside(
        "a flood of padding",
        frame(DATA, PADDED, 1, b"\xff" + bytes(255)) * 20_000,
        ConnectionClosed,
        _CALM,
    ),
    _beside("a flood of GOAWAY", goaway(1, 0) * 20_000, ConnectionClosed, _CALM),
    _beside("the end", data(1, end=True), ConnectionClosed, "1006"),
    _beside(
        "GOAWAY that leaves us out",
        goaway(0, 0),
        ConnectionClosed,
        "1006 the server ends the connection (NO_ERROR)",
    ),
    _beside("GOAWAY", goaway(1, 0), None),
    _beside("GOAWAY, twice", goaway((1 << 31) - 1, 0) + goaway(1, 0), None),
    _beside(
        "GOAWAY that says a lot",
        frame(GOAWAY, 0, 0, b"\0\0\0\1" + bytes(4) + b"x" * 9000),
        None,
    ),
    _beside(
        "an end behind Close",
        data(1, ws(0x88, b"\x03\xe8"), end=True),
        ConnectionClosed,
        "1000",
    ),
    _beside(
        "RST_STREAM behind the end",
        data(1, ws(0x88, b"\x03\xe8"), end=True) + rst_stream(1, 0),
        ConnectionClosed,
        "1000",
    ),
    _beside(
        "RST_STREAM behind Close",
        data(1, ws(0x88, b"\x03\xe8")) + rst_stream(1, 0),
        ConnectionClosed,
        "1000",
    ),
    _beside("some PINGs", frame(PING, 0, 0, bytes(8)) * 100, None),
    _beside("PRIORITY", frame(PRIORITY, 0, 1, b"\0\0\0\3\1"), None),
    _beside("a window of 0", settings((4, 0)), None),
    _beside("SETTINGS again", settings((3, 0)) + settings((8, 1)), None),
]


# -- Frames of RFC 6455 ----------------------------------------------------------------


def _frames(
    name: str,
    sent: bytes,
    error: type[TakoError] | None,
    text: str = "",
    *,
    deflate: bool = False,
) -> Row:
    return Row(name, "ws", "open", sent, error, text, deflate=deflate)


def _violates(name: str, sent: bytes, text: str = "") -> Row:
    return _frames(name, sent, ProtocolViolation, text)


_ONE = ws(0x01, b"a")

_WS = [
    _violates(
        "a masked frame", b"\x81\x82\0\0\0\0hi", "a frame of the server is masked"
    ),
    _violates("RSV1", ws(0xC1, b"x")),
    _violates("RSV2", ws(0xA1, b"x")),
    _violates("RSV3", ws(0x91, b"x")),
    *[_violates(f"opcode {code:x}", ws(0x80 | code)) for code in (3, 7, 11, 15)],
    _violates("a Ping in fragments", ws(0x09, b"x")),
    _violates("a Ping of 126 bytes", ws(0x89, bytes(126))),
    _violates("a continuation of nothing", ws(0x80, b"x")),
    _violates("a message within another", _ONE + ws(0x81, b"b")),
    _violates("a length of 2^63", b"\x82\x7f\x80" + bytes(7)),
    _violates("a length that is too long", b"\x82\x7e\0\5hello"),
    _violates("Close of one byte", ws(0x88, b"x")),
    *[
        _violates(f"Close {code}", ws(0x88, code.to_bytes(2)))
        for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535)
    ],
    _violates("DEFLATE that nobody agreed on", ws(0xC1, deflated(b"hello"))),
    _frames("a text that is none", ws(0x81, b"\xff"), InvalidUtf8),
    _frames("half a character", ws(0x81, b"\xe2\x82"), InvalidUtf8),
    _frames("a surrogate", ws(0x81, b"\xed\xa0\x80"), InvalidUtf8),
    _frames("a reason that is none", ws(0x88, b"\x03\xe8\xff"), InvalidUtf8),
    _frames("a frame of 2^62 bytes", ws(0x82, b"", size=1 << 62), FrameTooBig),
    _frames(
        "a frame of a byte too many", ws(0x82, b"", size=MAX_SIZE + 1), FrameTooBig
    ),
    _frames("a text of 2^62 bytes", ws(0x81, b"x" * 9000, size=1 << 62), FrameTooBig),
    _frames(
        "a message in endless fragments",
        _ONE + ws(0x00, b"a" * 100) * 1500,
        MessageTooBig,
    ),
    _frames("a bomb", ws(0xC2, deflated(bytes(1 << 26))), MessageTooBig, deflate=True),
    _frames(
        "a bomb in fragments",
        ws(0x42, deflated(bytes(1 << 24))) + ws(0x80, b""),
        MessageTooBig,
        deflate=True,
    ),
    _frames("DEFLATE that is none", ws(0xC2, b"\xff" * 50), WsError, deflate=True),
    _frames("an end of nothing", ws(0x88), ConnectionClosed, "1005"),
    _frames("Close 4000", ws(0x88, b"\x0f\xa0bye"), ConnectionClosed, "4000 bye"),
    _frames(
        "frames behind Close",
        ws(0x88, b"\x03\xe8") + ws(0x81, b"x") * 100,
        ConnectionClosed,
        "1000",
    ),
    _frames(
        "empty fragments", ws(0x01) + ws(0x00) * 60_000, WsError, "1024 empty fragments"
    ),
    _frames(
        "fragments of a byte", _ONE + ws(0x00, b"a") * 60_000, WsError, "fragments"
    ),
    _frames("empty messages", ws(0x82) * 60_000, None),
    _frames("Pings", ws(0x89, b"x") * 60_000, None),
    _frames("Pongs to nothing", ws(0x8A, b"x") * 60_000, None),
    _frames(
        "messages that inflate",
        ws(0xC2, deflated(bytes(MAX_SIZE))) * 500,
        None,
        deflate=True,
    ),
]

ROWS = [*_H1, *_H2, *_TUNNEL, *_WS]


def named(row: Row) -> str:
    """Return the name of a test of ``row``."""
    return f"{row.wire}-{row.where}-{row.name}".replace(" ", "_")
