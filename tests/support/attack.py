"""Raw clients that say anything and keep all that comes back.

``Attacker`` moves bytes both ways without ever blocking in one direction, so that a
peer that stops reading can be told from one that answers. ``RawH2`` puts just enough
HTTP/2 on top to cut frames and to respect flow control where a test wants that.
"""

import contextlib
import select
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, Self, TypeAlias

import hpack

from tako.testing.peer import Wire
from tako.testing.peer.frames import Frame, raw_frame
from tako.testing.peer.io import Address
from tako.testing.peer.websocket import WsFrame, decode_frames, encode_frame
from tests.support.patience import TIMEOUT


Ending: TypeAlias = Literal["eof", "ragged", "reset"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = raw_frame(4, 0, 0)
SETTINGS_ACK = raw_frame(4, 1, 0)
HELLO = PREFACE + SETTINGS + SETTINGS_ACK
_READ = 1 << 16


def client_context(alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """Return a client context that trusts any server and offers exactly ``alpn``."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


CONTEXTS = {
    "h1s": client_context(["http/1.1"]),
    "h2": client_context(["h2"]),
    "no-alpn": client_context(),
}
"""For the wires that are encrypted, and for a client that does not know ALPN."""


class Link(Protocol):
    """What carries an attacker's bytes: a socket that never blocks, and its clock."""

    def send(self, data: bytes, /) -> int:
        """Send what is taken now.

        Raises:
            BlockingIOError: nothing is.
            OSError: the server has gone.
        """
        ...

    def recv(self, size: int, /) -> bytes:
        """Return what is there, ``b""`` behind the end; errors as those of ``send``."""
        ...

    def close(self) -> None: ...

    def time(self) -> float: ...

    def wait(self, timeout: float, *, reading: bool, writing: bool) -> bool:
        """Wait until one of them may succeed; ``False``: not within ``timeout``."""
        ...


class SocketLink:
    """``Link`` on a socket."""

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None,
        *,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        server_name: str | None = None,
    ) -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            for option, size in (
                (socket.SO_RCVBUF, receive_buffer),
                (socket.SO_SNDBUF, send_buffer),
            ):
                if size is not None:
                    raw.setsockopt(socket.SOL_SOCKET, option, size)
            raw.settimeout(TIMEOUT)
            raw.connect(address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.socket: socket.socket = raw
            if tls is not None:
                self.socket = tls.wrap_socket(
                    raw, server_hostname=server_name, suppress_ragged_eofs=False
                )
        except BaseException:
            raw.close()
            raise
        self.socket.setblocking(False)
        self.send = self.socket.send
        self.recv = self.socket.recv
        self.close = self.socket.close
        self.time = time.monotonic

    def wait(self, timeout: float, *, reading: bool, writing: bool) -> bool:
        ready = select.select(
            [self.socket] * reading, [self.socket] * writing, [], timeout
        )
        return bool(ready[0] or ready[1])


class Attacker:
    """One connection over which a test sends any bytes."""

    def __init__(
        self,
        address: Address | Link,
        tls: ssl.SSLContext | None = None,
        *,
        receive_buffer: int | None = None,
        send_buffer: int | None = None,
        server_name: str | None = "localhost",
    ) -> None:
        self._link: Link = (
            SocketLink(
                address,
                tls,
                receive_buffer=receive_buffer,
                send_buffer=send_buffer,
                server_name=server_name,
            )
            if isinstance(address, tuple)
            else address
        )
        self.unsent = bytearray()
        self.received = bytearray()
        self.bytes_in = 0
        self.bytes_out = 0
        self.ending: Ending | None = None
        self.deaf = False
        """Do not read."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def socket(self) -> socket.socket:
        """The socket, of an attacker that has one."""
        assert isinstance(self._link, SocketLink)
        return self._link.socket

    def close(self) -> None:
        """Close the socket at once."""
        self._link.close()

    def send(self, data: bytes) -> None:
        """Queue ``data`` and send what the socket takes now."""
        self.unsent += data
        self._write()

    def pump(self, until: Callable[[], bool], timeout: float = TIMEOUT) -> bool:
        """Send and receive until ``until()``; ``False``: the end or the timeout."""
        end = self._link.time() + timeout
        while not until():
            if self.ending is not None:
                return False
            moved = self._write()
            moved = (not self.deaf and self._read()) or moved
            if not moved and not self._wait(end - self._link.time()):
                return until()
        return True

    def flush(self, timeout: float = TIMEOUT) -> None:
        """Send everything; the server may also have closed instead."""
        self.pump(lambda: not self.unsent, timeout)

    def read_to_end(self, timeout: float = TIMEOUT) -> Ending:
        """Receive until the server has closed."""
        self.pump(lambda: False, timeout)
        assert self.ending is not None, f"still open after {timeout} s"
        return self.ending

    def abort(self) -> None:
        """Vanish with a TCP RST."""
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()

    def half_close(self) -> None:
        """Send FIN (over TLS without a close_notify) and go on reading."""
        self.flush()
        socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def _wait(self, timeout: float) -> bool:
        if timeout <= 0:
            return False
        return self._link.wait(
            timeout, reading=not self.deaf, writing=bool(self.unsent)
        )

    def _write(self) -> bool:
        moved = False
        while self.unsent and self.ending is None:
            try:
                sent = self._link.send(memoryview(self.unsent)[:_READ].tobytes())
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                break
            except OSError:  # what the server sent before it closed still counts
                self.unsent.clear()
                break
            self.bytes_out += sent
            del self.unsent[:sent]
            moved = True
        return moved

    def _read(self) -> bool:
        moved = False
        while self.ending is None:
            try:
                data = self._link.recv(_READ)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except ssl.SSLEOFError:
                self.ending = "ragged"
                break
            except (OSError, ssl.SSLError):
                self.ending = "reset"
                break
            moved = True
            if not data:
                self.ending = "eof"
                break
            self.bytes_in += len(data)
            self.received += data
            self.take(data)
        return moved

    def take(self, data: bytes) -> None:
        """Called with everything that is received; for subclasses."""


# HTTP/1.1 -----------------------------------------------------------------------------


@dataclass(slots=True)
class Answer:
    """One HTTP/1.1 response as it was on the wire."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key == name]

    @property
    def closes(self) -> bool:
        return "close" in ",".join(self.all("connection")).lower()


@dataclass(slots=True)
class Answers:
    """What a server sent in HTTP/1.1, and what it sent after a 101."""

    complete: list[Answer] = field(default_factory=list)
    rest: bytes = b""
    upgraded: bool = False

    @property
    def final(self) -> list[Answer]:
        return [answer for answer in self.complete if answer.status >= 200]


def parse_answers(data: bytes) -> Answers:
    """Cut ``data`` into responses, stopping at the first incomplete one or at a 101."""
    found = Answers()
    while data.startswith(b"HTTP/1."):
        head, blank, rest = data.partition(b"\r\n\r\n")
        if not blank:
            break
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        fields = [(name.lower(), value.strip()) for name, _, value in pairs]
        answer = Answer(int(first.split()[1]), fields, b"")
        if answer.status == 101:
            found.complete.append(answer)
            found.upgraded = True
            data = rest
            break
        if answer.all("transfer-encoding"):
            end = rest.find(b"0\r\n\r\n")
            if end < 0:
                break
            answer.body, rest = rest[:end], rest[end + 5 :]
        else:
            size = int((answer.all("content-length") or ["0"])[0])
            if len(rest) < size:
                break
            answer.body, rest = rest[:size], rest[size:]
        found.complete.append(answer)
        data = rest
    found.rest = bytes(data)
    return found


# HTTP/2 -------------------------------------------------------------------------------

_HEAD = struct.Struct(">BHBBL")


def split_frames(data: bytes) -> tuple[list[Frame], bytes]:
    """Return the whole frames in ``data`` and what is left."""
    frames, position = [], 0
    while len(data) - position >= 9:
        high, low, kind, flags, stream_id = _HEAD.unpack_from(data, position)
        end = position + 9 + (high << 16 | low)
        if end > len(data):
            break
        payload = data[position + 9 : end]
        frames.append(Frame(kind, flags, stream_id & 0x7FFFFFFF, payload, 0.0))
        position = end
    return frames, data[position:]


class RawH2(Attacker):
    """An HTTP/2 client without opinions."""

    def __init__(
        self,
        address: Address | Link,
        tls: ssl.SSLContext | None = None,
        *,
        receive_buffer: int | None = None,
    ) -> None:
        super().__init__(address, tls, receive_buffer=receive_buffer)
        self.frames: list[Frame] = []
        self.statuses: dict[int, list[int]] = {}
        self.fields: dict[int, list[tuple[str, str]]] = {}
        self.data: dict[int, bytearray] = {}
        self.ended: set[int] = set()
        self.resets: dict[int, int] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pongs = 0
        self.initial_window = 65_535
        self.connection_window = 65_535
        self.credit: dict[int, int] = {}
        self._rest = b""
        self._decoder = hpack.Decoder()

    def take(self, data: bytes) -> None:
        frames, self._rest = split_frames(self._rest + data)
        for frame in frames:
            self.frames.append(frame)
            self._take(frame)

    def settled(self, timeout: float = TIMEOUT) -> bool:
        """Wait until the server has read everything; ``False``: it has closed."""
        wanted = self.pongs + 1
        self.send(raw_frame(6, 0, 0, b"settled?"))
        return self.pump(lambda: self.pongs >= wanted, timeout)

    def send_stream(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send DATA as flow control allows; stops silently where the stream is gone."""
        view = memoryview(data)
        while view:
            if not self.pump(
                lambda: self.room(stream_id) > 0 or stream_id in self.resets
            ):
                return
            size = min(self.room(stream_id), 16_384, len(view))
            if stream_id in self.resets:
                return
            last = 1 if end and size == len(view) else 0
            self.send(raw_frame(0, last, stream_id, bytes(view[:size])))
            self.connection_window -= size
            self.credit[stream_id] = self.credit.get(stream_id, 0) - size
            view = view[size:]
        if end and not data:
            self.send(raw_frame(0, 1, stream_id))

    def gone(self, stream_id: int) -> bool:
        """Whether the server has ended or reset the stream."""
        return stream_id in self.ended or stream_id in self.resets

    def room(self, stream_id: int) -> int:
        """Return how many bytes of DATA the server's windows leave for the stream."""
        stream = self.initial_window + self.credit.get(stream_id, 0)
        return min(stream, self.connection_window)

    def _take(self, frame: Frame) -> None:
        stream_id, payload = frame.stream_id, frame.payload
        match frame.type:
            case 0:
                self.data.setdefault(stream_id, bytearray()).extend(payload)
            case 1:
                self._take_headers(stream_id, payload)
            case 3:
                self.resets[stream_id] = int.from_bytes(payload, "big")
            case 4 if not frame.flags & 1:
                self._take_settings(payload)
            case 6 if frame.flags & 1:
                self.pongs += payload == b"settled?"
            case 6:
                self.send(raw_frame(6, 1, 0, payload))
            case 7:
                last = int.from_bytes(payload[:4], "big")
                self.goaways.append((last, frame.code))
            case 8:
                self._take_credit(stream_id, int.from_bytes(payload, "big"))
        if frame.ends_stream:
            self.ended.add(stream_id)

    def _take_headers(self, stream_id: int, block: bytes) -> None:
        fields = [(str(n), str(v)) for n, v in self._decoder.decode(block)]
        self.fields.setdefault(stream_id, []).extend(fields)
        status = dict(fields).get(":status")
        if status is not None:
            self.statuses.setdefault(stream_id, []).append(int(status))

    def _take_settings(self, payload: bytes) -> None:
        for at in range(0, len(payload), 6):
            if payload[at : at + 2] == b"\0\4":
                self.initial_window = int.from_bytes(payload[at + 2 : at + 6], "big")

    def _take_credit(self, stream_id: int, increment: int) -> None:
        if stream_id:
            self.credit[stream_id] = self.credit.get(stream_id, 0) + increment
        else:
            self.connection_window += increment


def attacker_of(
    address: Address, wire: Wire, *, receive_buffer: int | None = None
) -> Attacker | RawH2:
    """Connect over ``wire`` and send nothing yet."""
    kind = RawH2 if wire in {"h2", "h2c"} else Attacker
    return kind(address, CONTEXTS.get(wire), receive_buffer=receive_buffer)


def literal_block(fields: Sequence[tuple[str | bytes, str | bytes]]) -> bytes:
    """Encode ``fields`` as literals that touch no table (RFC 7541 section 6.2.2)."""
    return b"".join(b"\0" + _string(name) + _string(value) for name, value in fields)


def _string(text: str | bytes) -> bytes:
    data = text.encode("latin-1") if isinstance(text, str) else text
    size = len(data)
    if size < 127:
        return bytes((size,)) + data
    out, size = bytearray(b"\x7f"), size - 127
    while size >= 128:
        out.append(size & 127 | 128)
        size >>= 7
    out.append(size)
    return bytes(out) + data


def connect_block(
    path: str = "/ws", *extra: tuple[str, str], scheme: str = "https"
) -> bytes:
    """Return the header block of an extended CONNECT (RFC 8441)."""
    return literal_block(
        [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", scheme),
            (":authority", "localhost"),
            (":path", path),
            ("sec-websocket-version", "13"),
            *extra,
        ]
    )


def shifted(data: bytes, by: int) -> bytes:
    """Return the frames in ``data`` with every stream id ``by`` higher."""
    frames, rest = split_frames(data)
    out = bytearray()
    for frame in frames:
        stream_id, payload = frame.stream_id, frame.payload
        if stream_id:
            stream_id += by
        priority = frame.type == 2 or (frame.type == 1 and frame.flags & 0x28 == 0x20)
        if priority and len(payload) >= 4 and payload[:4] != bytes(4):
            depends_on = int.from_bytes(payload[:4], "big") + by
            payload = depends_on.to_bytes(4, "big") + payload[4:]
        out += raw_frame(frame.type, frame.flags, stream_id, payload)
    if len(rest) >= 9:
        high, low, kind, flags, stream_id = _HEAD.unpack_from(rest)
        rest = _HEAD.pack(high, low, kind, flags, stream_id + by) + rest[9:]
    return bytes(out) + rest


def ws_text(text: bytes) -> bytes:
    """Return a masked text frame."""
    return encode_frame(1, text)


def ws_frames(data: bytes) -> list[WsFrame]:
    """Return the whole WebSocket frames at the front of ``data``."""
    return decode_frames(data)


def close_codes(frames: Sequence[WsFrame]) -> Iterator[int | None]:
    """Yield the code of each Close among ``frames``."""
    for frame in frames:
        if frame.opcode == 8:
            payload = frame.payload
            yield int.from_bytes(payload[:2], "big") if payload else None
