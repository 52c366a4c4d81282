"""Bytes of a connection, as they went over it, into frames for people to read.

Theory of operation. A ``Decoder`` is fed what a connection receives and sends, without
TLS, from any moment on: a ``Place`` says where that is in the midst of. It looks at
heads of frames and keeps a bounded part of payloads. It judges nothing (the engines do
that), so what it cannot read makes it say less and never fail: a header block that it
cannot decode is shown without its fields, and so are all behind it.

HTTP/2 is read frame by frame, and the DATA of a WebSocket as that, too. HTTP/1.1 is
shown as it comes, by reads and writes, until a 101.

Invariant: of each direction and stream no more is held than a head of a frame, a
header block of ``_BLOCK`` bytes, and the beginning of one payload.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from hpack import Decoder as HpackDecoder, HPACKError

from tako.core.views import Place


SHOWN: Final = 200
"""Bytes of a payload that are kept to be shown."""

_BLOCK: Final = 1 << 16  # bytes of a header block, and of a frame that is read whole
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4

# RFC 9113 §6
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x7
_WINDOW_UPDATE, _CONTINUATION = 0x8, 0x9
_KINDS: Final = {
    _DATA: "DATA",
    _HEADERS: "HEADERS",
    0x2: "PRIORITY",
    _RST_STREAM: "RST_STREAM",
    _SETTINGS: "SETTINGS",
    0x5: "PUSH_PROMISE",
    0x6: "PING",
    _GOAWAY: "GOAWAY",
    _WINDOW_UPDATE: "WINDOW_UPDATE",
    _CONTINUATION: "CONTINUATION",
}
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_CODES: Final = (  # RFC 9113 §7
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR"),
    *("SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM"),
    *("CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
    *("INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)
_SETTING_NAMES: Final = {  # RFC 9113 §6.5.2, RFC 8441 §3
    1: "HEADER_TABLE_SIZE",
    2: "ENABLE_PUSH",
    3: "MAX_CONCURRENT_STREAMS",
    4: "INITIAL_WINDOW_SIZE",
    5: "MAX_FRAME_SIZE",
    6: "MAX_HEADER_LIST_SIZE",
    8: "ENABLE_CONNECT_PROTOCOL",
}
_OPCODES: Final = {  # RFC 6455 §5.2
    0x0: "continuation",
    0x1: "text",
    0x2: "binary",
    0x8: "Close",
    0x9: "Ping",
    0xA: "Pong",
}
_REQUEST: Final = re.compile(rb"([A-Z]+) ([^ ?\r\n]*)[^ \r\n]* HTTP/1\.[01]\r\n")
_STATUS: Final = re.compile(rb"HTTP/1\.1 ([0-9]{3})[^\r\n]*\r\n")


@dataclass(slots=True)
class Frame:
    """A frame that went over a connection, or a piece of HTTP/1.1.

    Attributes:
        received: the peer has sent it.
        kind: what it is called.
        size: bytes of its payload.
        stream: that of HTTP/2; 0: the connection.
        note: what else there is to say, of which nothing is the user's secret.
        payload: the beginning of what it carries: ``SHOWN`` bytes at most.
        message: a message of a WebSocket ends with it.
    """

    received: bool
    kind: str
    size: int
    stream: int = 0
    note: str = ""
    payload: bytes = b""
    message: bool = False


SocketPlace: TypeAlias = Callable[[int], Place | None]


class Decoder(Protocol):
    """Reads both directions of one connection."""

    def feed(self, received: bool, data: bytes) -> list[Frame]:
        """Return the frames that end in ``data``; never raises."""
        ...


class WebSocketReader:
    """One direction of a WebSocket (RFC 6455 §5.2).

    Args:
        received: whether it is the peer's.
        stream: that of HTTP/2; 0: there is none.
        place: where it stands.
    """

    __slots__ = ("_frame", "_held", "_left", "_mask", "_received", "_stream")

    def __init__(
        self, received: bool, stream: int = 0, place: Place | None = None
    ) -> None:
        self._received = received
        self._stream = stream
        self._held = b""
        self._left = 0 if place is None else place.left
        self._mask = b""
        self._frame: Frame | None = None  # the one in progress, if its head was seen
        if place is not None:
            self.feed(place.held)  # these were there before

    def feed(self, data: bytes) -> list[Frame]:
        """Return the frames that end in ``data``."""
        found: list[Frame] = []
        if self._held:
            data, self._held = self._held + data, b""
        at, end = 0, len(data)
        while True:
            if self._left:
                taken = min(self._left, end - at)
                self._take(data, at, at + taken)
                at += taken
                self._left -= taken
            if self._left:
                return found
            if self._frame is not None:
                found.append(self._ended(self._frame))
                self._frame = None
            start = self._head(data, at)
            if start == at:
                self._held = data[at:]
                return found
            at = start

    def _head(self, data: bytes, at: int) -> int:
        """Read the head at ``at``; return where it ends, or ``at``: it is not here."""
        if len(data) - at < 2:
            return at
        first, second = data[at], data[at + 1]
        size, start = second & 0x7F, at + 2
        if size > 125:
            start += 2 if size == 126 else 8
            size = int.from_bytes(data[at + 2 : start])
        masked = second & 0x80
        if masked:
            start += 4
        if len(data) < start:
            return at
        self._mask = data[start - 4 : start] if masked else b""
        opcode = first & 0x0F
        whole = bool(first & 0x80)
        notes = ["compressed"] * bool(first & 0x40) + ["not the last"] * (not whole)
        self._frame = Frame(
            self._received,
            _OPCODES.get(opcode, f"opcode {opcode}"),
            size,
            self._stream,
            ", ".join(notes),
            message=whole and opcode < 0x8,
        )
        self._left = size
        return start

    def _take(self, data: bytes, start: int, stop: int) -> None:
        frame = self._frame
        if frame is not None and (room := SHOWN - len(frame.payload)) > 0:
            frame.payload += data[start : min(stop, start + room)]

    def _ended(self, frame: Frame) -> Frame:
        if self._mask:
            mask = self._mask * (len(frame.payload) // 4 + 1)
            pairs = zip(frame.payload, mask, strict=False)
            frame.payload = bytes(one ^ other for one, other in pairs)
        if frame.kind == "Close" and len(frame.payload) > 1:
            frame.note = str(int.from_bytes(frame.payload[:2]))
            frame.payload = frame.payload[2:]
        return frame


class H1Decoder:
    """A connection of HTTP/1.1.

    Args:
        place: where what is received stands; only HTTP/2 has more than one.
        socket: returns where the peer's bytes stand in a WebSocket; ``None``: it is
            not one.
    """

    __slots__ = ("_readers",)

    def __init__(self, place: Place, socket: SocketPlace) -> None:
        self._readers: tuple[WebSocketReader, WebSocketReader] | None = None
        tunnel = socket(place.stream)
        if tunnel is not None:
            self._switch(tunnel)

    def _switch(self, place: Place | None = None) -> None:
        self._readers = WebSocketReader(False), WebSocketReader(True, 0, place)

    def feed(self, received: bool, data: bytes) -> list[Frame]:
        """Return what ``data`` is."""
        if self._readers is not None:
            return self._readers[received].feed(data)
        pattern = _REQUEST if received else _STATUS
        match = pattern.match(data)
        if match is None:
            return [Frame(received, "bytes", len(data), payload=data[:SHOWN])]
        words = b" ".join(match.groups()).decode("latin-1")
        kind = "request" if received else "response"
        head, _, rest = data.partition(b"\r\n\r\n")
        frame = Frame(received, kind, len(data), note=words, payload=head[:SHOWN])
        if words != "101":
            return [frame]
        self._switch()
        return [frame, *self.feed(received, rest)]


@dataclass(slots=True)
class _Direction:
    """One direction of a connection of HTTP/2."""

    received: bool
    decoder: HpackDecoder | None
    held: bytes = b""
    left: int = 0  # bytes to come of the payload of a DATA frame
    stream: int = 0  # which that is for
    ends: bool = False  # the direction of that stream with it
    block: bytes = b""  # a header block in progress
    readers: dict[int, WebSocketReader] = field(
        default_factory=dict[int, WebSocketReader]
    )


class H2Decoder:
    """A connection of HTTP/2.

    Args:
        place: where what is received stands.
        socket: as for ``H1Decoder``, of a stream, before it is told of new bytes.
    """

    __slots__ = ("_in", "_out", "_queued", "_socket")

    def __init__(self, place: Place, socket: SocketPlace) -> None:
        decoder = HpackDecoder()
        for name, value in reversed(place.fields):
            decoder.header_table.add(name, value)
        self._in = _Direction(True, decoder, left=place.left, stream=place.stream)
        self._out = _Direction(False, HpackDecoder())
        self._socket = socket
        self._queued = dict(place.queued)
        if place.held:
            self.feed(True, place.held)

    def _reader(self, way: _Direction, stream: int) -> WebSocketReader | None:
        """Return what reads a direction of a WebSocket; ``None``: it is not one."""
        found = way.readers.get(stream)
        if found is None and (place := self._socket(stream)) is not None:
            if not way.received:  # the rest of frames that had begun
                place = Place(left=self._queued.pop(stream, 0))
            found = way.readers[stream] = WebSocketReader(way.received, stream, place)
        return found

    def feed(self, received: bool, data: bytes) -> list[Frame]:
        """Return the frames that end in ``data``."""
        way = self._in if received else self._out
        found: list[Frame] = []
        if way.held:
            data, way.held = way.held + data, b""
        at, end = 0, len(data)
        while at < end:
            if way.left:
                part = data[at : at + way.left]
                at += len(part)
                way.left -= len(part)
                self._data(way, part, found)
                continue
            if end - at < 9:
                break
            if received and data.startswith(_PREFACE, at):
                at += len(_PREFACE)
                continue
            size, kind, flags = (
                int.from_bytes(data[at : at + 3]),
                *data[at + 3 : at + 5],
            )
            stream = int.from_bytes(data[at + 5 : at + 9]) & 0x7FFFFFFF
            start = at + 9
            if kind == _DATA:
                self._begin_data(way, flags, stream, size, found)
                at = start
                continue
            if end - start < min(size, _BLOCK):
                break
            at = start + size
            self._frame(way, kind, flags, stream, data[start:at], found)
        way.held = data[at:]
        return found

    def _begin_data(
        self, way: _Direction, flags: int, stream: int, size: int, found: list[Frame]
    ) -> None:
        way.left, way.stream = size, stream
        way.ends = bool(flags & _END_STREAM)
        reads = self._reader(way, stream) is not None
        if flags & _PADDED:  # no WebSocket is known to do that
            way.readers.pop(stream, None)
        if not reads or way.ends:
            note = "END_STREAM" if way.ends else ""
            found.append(Frame(way.received, "DATA", size, stream, note))
        if way.ends and not size:
            way.readers.pop(stream, None)

    def _data(self, way: _Direction, part: bytes, found: list[Frame]) -> None:
        """Take a part of a DATA frame."""
        reader = self._reader(way, way.stream)
        if reader is not None:
            found += reader.feed(part)
        elif found and found[-1].kind == "DATA" and found[-1].stream == way.stream:
            found[-1].payload += part[: SHOWN - len(found[-1].payload)]
        if way.ends and not way.left:
            way.readers.pop(way.stream, None)

    def _frame(
        self,
        way: _Direction,
        kind: int,
        flags: int,
        stream: int,
        payload: bytes,
        found: list[Frame],
    ) -> None:
        """Take a frame that is not DATA, whole."""
        name = _KINDS.get(kind, f"type {kind:#x}")
        frame = Frame(way.received, name, len(payload), stream)
        found.append(frame)
        if kind in (_HEADERS, _CONTINUATION):
            if kind == _HEADERS:
                payload = _unpadded(flags, payload)
            way.block = (way.block + payload)[:_BLOCK]
            if flags & _END_HEADERS:
                block, way.block = way.block, b""
                self._head(way, frame, block)
            if kind == _HEADERS and flags & _END_STREAM:
                frame.note = f"{frame.note} END_STREAM".strip()
        elif kind == _SETTINGS:
            frame.note = "ACK" if flags & _ACK else _settings(payload)
        elif kind == _RST_STREAM:
            frame.note = _code(payload)
            self._forget(stream)
        elif kind == _GOAWAY:
            last = int.from_bytes(payload[:4]) & 0x7FFFFFFF
            frame.note = f"{_code(payload[4:])}, last stream {last}"
            frame.payload = payload[8 : 8 + SHOWN]
        elif kind == _WINDOW_UPDATE:
            frame.note = f"+{int.from_bytes(payload[:4])}"
        elif flags & _ACK:
            frame.note = "ACK"

    def _head(self, way: _Direction, frame: Frame, block: bytes) -> None:
        """Say of a header block what is nobody's secret."""
        if way.decoder is None:
            return
        try:
            fields = dict(way.decoder.decode(block, raw=True))
        except HPACKError:
            way.decoder = None  # its table is of no use any more
            return
        frame.payload = b"\n".join(b": ".join(each) for each in fields.items())[:SHOWN]
        status = fields.get(b":status")
        if status is not None:
            frame.note = status.decode("latin-1")
            return
        path = fields.get(b":path", b"").partition(b"?")[0]
        words = [fields.get(b":method", b""), path, fields.get(b":protocol", b"")]
        frame.note = b" ".join(filter(None, words)).decode("latin-1")

    def _forget(self, stream: int) -> None:
        for way in (self._in, self._out):
            way.readers.pop(stream, None)


def _unpadded(flags: int, payload: bytes) -> bytes:
    """Return a header block without padding and priority (RFC 9113 §6.2)."""
    if flags & _PADDED and payload:
        payload = payload[1 : len(payload) - payload[0]]
    return payload[5:] if flags & _PRIORITY else payload


def _settings(payload: bytes) -> str:
    words: list[str] = []
    for at in range(0, min(len(payload), 6 * 32), 6):
        number = int.from_bytes(payload[at : at + 2])
        value = int.from_bytes(payload[at + 2 : at + 6])
        words.append(f"{_SETTING_NAMES.get(number, number)}={value}")
    return " ".join(words)


def _code(payload: bytes) -> str:
    number = int.from_bytes(payload[:4])
    return _CODES[number] if number < len(_CODES) else f"code {number}"
