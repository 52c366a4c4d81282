"""The WebSocket half of the test client: wsproto over any byte pipe."""

import enum
import struct
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypedDict

import wsproto.events as ws_events
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import Extension, PerMessageDeflate

from tests.support.peer_io import (
    TIMEOUT,
    Deadline,
    EndOfStreamError,
    HeaderList,
    PeerError,
    Response,
)


MASK = b"\x37\xfa\x21\x3d"


class WsOffer(TypedDict, total=False):
    """What the opening of a WebSocket may carry."""

    headers: HeaderList
    subprotocols: Sequence[str]
    extensions: Sequence[Extension]


class WsOpening(WsOffer, total=False):
    """What is sent with it, and what is called before its answer is waited for."""

    early_data: bytes
    meanwhile: Callable[[], object] | None


class Opcode(enum.IntEnum):
    """RFC 6455 section 11.8."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Ping:
    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    data: bytes


@dataclass(frozen=True, slots=True)
class Close:
    """``code`` is ``None`` where the frame had no payload."""

    code: int | None
    reason: str


Received: TypeAlias = str | bytes | Ping | Pong | Close


@dataclass(frozen=True, slots=True)
class WsFrame:
    """One frame from the server, as it was on the wire."""

    fin: bool
    rsv: int
    opcode: int
    payload: bytes


class Pipe(Protocol):
    """An open tunnel: a TCP connection after 101, an HTTP/2 stream after 200."""

    def send(self, data: bytes, *, end: bool = False, timeout: float = TIMEOUT) -> None:
        """Send ``data``; ``end`` sends FIN or END_STREAM with or after it."""
        ...

    def receive(self, timeout: float = TIMEOUT) -> bytes:
        """Return what came, ``b""`` at FIN or END_STREAM."""
        ...

    def reset(self) -> None:
        """RST_STREAM(CANCEL), or a TCP RST."""
        ...

    def expect_gone(self, timeout: float = TIMEOUT) -> int | None:
        """Wait until the server let go of the pipe; return the code of its reset."""
        ...


class HandshakeRefusedError(PeerError):
    """The answer to the handshake was not 101 or 200; ``response`` has it."""

    def __init__(self, response: Response) -> None:
        super().__init__(f"{response.status} {response.body!r}")
        self.response = response


def encode_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    announce: int | None = None,
) -> bytes:
    """Return a client frame; ``announce`` puts another length into its header."""
    size = len(payload) if announce is None else announce
    head = bytearray([(fin << 7) | (rsv << 4) | opcode])
    if size < 126:
        head.append((masked << 7) | size)
    elif size < 65_536:
        head += struct.pack("!BH", (masked << 7) | 126, size)
    else:
        head += struct.pack("!BQ", (masked << 7) | 127, size)
    if not masked:
        return bytes(head) + payload
    key = int.from_bytes(MASK * (len(payload) // 4 + 1), "big")
    pad = payload + bytes(4 - len(payload) % 4)
    masked_payload = (int.from_bytes(pad, "big") ^ key).to_bytes(len(pad), "big")
    return bytes(head) + MASK + masked_payload[: len(payload)]


def close_payload(code: int, reason: bytes | str = b"") -> bytes:
    """Return the payload of a Close frame."""
    text = reason.encode() if isinstance(reason, str) else reason
    return struct.pack("!H", code) + text


def decode_frames(data: bytes) -> list[WsFrame]:
    """Return the complete frames in what a server sent (never masked)."""
    frames = []
    at = 0
    while len(data) - at >= 2:
        first, second = data[at], data[at + 1]
        assert not second & 0x80, "a server must not mask (RFC 6455 section 5.1)"
        size, head = second, 2
        if size == 126:
            size, head = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif size == 127:
            size, head = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        end = at + head + size
        if len(data) < end:
            break
        rsv, opcode = (first >> 4) & 7, first & 15
        frames.append(WsFrame(first >= 128, rsv, opcode, data[at + head : end]))
        at = end
    return frames


class PeerWebSocket:
    """A WebSocket seen from the client. Pings are answered, a Close is answered."""

    def __init__(
        self, pipe: Pipe, response: Response, offered: Sequence[Extension] = ()
    ) -> None:
        self.pipe = pipe
        self.response = response
        self.raw = bytearray()
        self.answer_close = True
        self._proto = Connection(ConnectionType.CLIENT, _accepted(response, offered))
        self._inbox: deque[Received] = deque()
        self._parts: list[str] | list[bytes] = []
        self._ended = False

    @property
    def subprotocol(self) -> str | None:
        return self.response.header("sec-websocket-protocol")

    @property
    def frames(self) -> list[WsFrame]:
        """Every complete frame that has been received so far."""
        return decode_frames(bytes(self.raw))

    def send(self, message: str | bytes) -> None:
        self._send(_data_event(message, finished=True))

    def send_fragments(self, parts: Sequence[str | bytes]) -> None:
        """Send one message, one frame for each of ``parts``."""
        for index, part in enumerate(parts, 1):
            self._send(_data_event(part, finished=index == len(parts)))

    def send_frame(
        self, opcode: int, payload: bytes = b"", *, fin: bool = True
    ) -> None:
        """Send one frame as given; the client's own state does not see it."""
        self.pipe.send(encode_frame(opcode, payload, fin=fin))

    def ping(self, data: bytes = b"") -> None:
        self._send(ws_events.Ping(payload=data))

    def pong(self, data: bytes = b"") -> None:
        self._send(ws_events.Pong(payload=data))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame (an empty one for ``None``) and nothing else."""
        payload = b"" if code is None else close_payload(code, reason)
        self.answer_close = False
        self.pipe.send(encode_frame(Opcode.CLOSE, payload))

    def end(self) -> None:
        """Send FIN or END_STREAM without a Close."""
        self.pipe.send(b"", end=True)

    def receive(self, timeout: float = TIMEOUT) -> Received:
        """Return the next message, Ping, Pong or Close.

        Raises:
            EndOfStreamError: FIN or END_STREAM without a Close before it.
            StreamResetError: RST_STREAM or a TCP reset.
            TimeoutError: nothing came.
        """
        deadline = Deadline(timeout)
        while not self._inbox:
            if self._ended:
                msg = "the server ended the stream"
                raise EndOfStreamError(msg)
            self._feed(self.pipe.receive(deadline.left()))
        return self._inbox.popleft()

    def expect(self, *messages: Received) -> None:
        """Receive exactly ``messages``, in this order."""
        for wanted in messages:
            got = self.receive()
            assert got == wanted, f"{_short(got)} instead of {_short(wanted)}"

    def echo(self, message: str | bytes) -> None:
        """Send ``message`` to an echoing handler and get it back."""
        self.send(message)
        self.expect(message)

    def expect_close(self, timeout: float = TIMEOUT) -> tuple[int | None, str]:
        """Return code and reason of the server's Close, passing over messages."""
        deadline = Deadline(timeout)
        while True:
            got = self.receive(deadline.left())
            if isinstance(got, Close):
                return got.code, got.reason

    def expect_end(self, timeout: float = TIMEOUT) -> None:
        """Wait for FIN or END_STREAM; nothing else may come before it."""
        try:
            got = self.receive(timeout)
        except EndOfStreamError:
            return
        msg = f"{_short(got)} came where the stream had to end"
        raise PeerError(msg)

    def _send(self, event: ws_events.Event) -> None:
        self.pipe.send(self._proto.send(event))

    def _feed(self, data: bytes) -> None:
        if not data:
            self._ended = True
            return
        self.raw += data
        self._proto.receive_data(data)
        for event in self._proto.events():
            self._take(event)

    def _take(self, event: ws_events.Event) -> None:
        match event:
            case ws_events.TextMessage() | ws_events.BytesMessage():
                self._parts.append(event.data)  # type: ignore[arg-type]
                if event.message_finished:
                    empty = "" if isinstance(event, ws_events.TextMessage) else b""
                    self._inbox.append(empty.join(self._parts))  # type: ignore[arg-type]
                    self._parts = []
            case ws_events.Ping(payload=data):
                self._inbox.append(Ping(bytes(data)))
                self._send(event.response())
            case ws_events.Pong(payload=data):
                self._inbox.append(Pong(bytes(data)))
            case ws_events.CloseConnection():
                self._take_close(event)

    def _take_close(self, event: ws_events.CloseConnection) -> None:
        frames = [frame for frame in self.frames if frame.opcode == Opcode.CLOSE]
        if not frames:  # wsproto reports what it cannot parse as a Close, too
            msg = f"the server sent no valid WebSocket data: {event.reason}"
            raise PeerError(msg)
        payload = frames[-1].payload
        code = int.from_bytes(payload[:2], "big") if payload else None
        self._inbox.append(Close(code, payload[2:].decode()))
        if self.answer_close:
            self.answer_close = False
            self.pipe.send(encode_frame(Opcode.CLOSE, payload))


def offer_header(extensions: Sequence[Extension]) -> list[tuple[str, str | bytes]]:
    """Return the header that offers ``extensions``."""
    offers = []
    for extension in extensions:
        parameters = extension.offer()
        name = extension.name
        offers.append(f"{name}; {parameters}" if isinstance(parameters, str) else name)
    return [("sec-websocket-extensions", ", ".join(offers))] if offers else []


def _accepted(response: Response, offered: Sequence[Extension]) -> list[Extension]:
    accepted = response.header("sec-websocket-extensions")
    if accepted is None:
        return []
    name = accepted.partition(";")[0].strip()
    chosen = [extension for extension in offered if extension.name == name]
    assert chosen, f"the server accepts {accepted!r}, which the client did not offer"
    chosen[0].finalize(accepted)
    assert isinstance(chosen[0], PerMessageDeflate)
    return [chosen[0]]


def _data_event(message: str | bytes, *, finished: bool) -> ws_events.Event:
    if isinstance(message, str):
        return ws_events.TextMessage(data=message, message_finished=finished)
    return ws_events.BytesMessage(data=message, message_finished=finished)


def _short(value: Received) -> str:
    text = repr(value)
    return text if len(text) < 100 else f"{text[:60]}... ({len(text)} characters)"
