"""The WebSocket half of the peer: wsproto over any byte pipe."""

import enum
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple, Protocol, Self, TypeAlias, TypedDict

import wsproto.events as ws_events
from wsproto.connection import Connection, ConnectionType
from wsproto.extensions import Extension

from tako.testing.patience import Deadline
from tako.testing.peer.io import (
    Connection as PeerConnection,
    EndOfStreamError,
    HeaderList,
    PeerError,
    PeerResponse,
    StreamResetError,
    require,
)
from tako.testing.story import Story, short


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
    """The types of frames (RFC 6455 §11.8)."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Ping:
    """A Ping of the server; it has been answered."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """A Pong of the server."""

    data: bytes


class Close(NamedTuple):
    """A Close of the server; ``code`` is ``None`` where the frame had no payload."""

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

    @property
    def connection(self) -> PeerConnection:
        """The connection that carries it."""
        ...

    def send(
        self, data: bytes, *, end: bool = False, timeout: float | None = None
    ) -> None:
        """Send ``data``; ``end`` sends FIN or END_STREAM with or after it."""
        ...

    def receive(self, timeout: float | None = None) -> bytes:
        """Return what came, ``b""`` at FIN or END_STREAM."""
        ...

    def reset(self) -> None:
        """RST_STREAM(CANCEL), or a TCP RST."""
        ...

    def reset_stream(self, code: int) -> None:
        """RST_STREAM, or ``WireError``."""
        ...

    def stall(self) -> None:
        """Give the server no more credit, or read nothing more."""
        ...

    def expect_gone(self, timeout: float | None = None) -> int | None:
        """Wait until the server let go of the pipe; return the code of its reset."""
        ...


class HandshakeRefusedError(PeerError):
    """The answer to the handshake was not 101 or 200.

    Attributes:
        response: the answer.
    """

    def __init__(self, response: PeerResponse) -> None:
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
    frames: list[WsFrame] = []
    at = 0
    while len(data) - at >= 2:
        first, second = data[at], data[at + 1]
        require(not second & 0x80, "a server must not mask (RFC 6455 §5.1)")
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
    """A WebSocket seen from the client, blocking; made by ``connect``.

    Pings are answered, a Close is answered. It is a context manager: a block that ends
    well sends a Close with 1000, unless there was one, and waits for the answer; then
    the connection is closed, if it is the socket's own. Iteration ends at the server's
    Close.

    Attributes:
        pipe: what carries its frames.
        response: the answer to the handshake.
        raw: every byte that was received.
        answer_close: answer the server's Close; ``ignore_close`` turns it off.
        answer_pings: answer the server's Pings; ``ignore_pings`` turns it off.
        owns_connection: the connection carries nothing else, and ends with it.
    """

    def __init__(
        self, pipe: Pipe, response: PeerResponse, offered: Sequence[Extension] = ()
    ) -> None:
        """Not for tests: use ``connect``, or a connection's ``websocket``."""
        self.pipe = pipe
        self.response = response
        self.raw: bytearray = bytearray()
        self.answer_close: bool = True
        self.answer_pings: bool = True
        self.owns_connection: bool = False
        self._proto = Connection(ConnectionType.CLIENT, _accepted(response, offered))
        self._inbox: deque[Received] = deque()
        self._story = Story()
        self._parts: list[str] | list[bytes] = []
        self._ended = False
        self._over = False  # its Close came, or a fault made it pointless to wait

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None and not (self._over or self._ended):
                self._finish()
        finally:
            if self.owns_connection:
                self.connection.close()

    def __iter__(self) -> Iterator[str | bytes]:
        """Yield messages until the server's Close.

        Raises:
            Exception: as ``receive``.
        """
        while not isinstance(got := self.receive(), Close):
            if isinstance(got, (str, bytes)):
                yield got

    @property
    def connection(self) -> PeerConnection:
        """What carries it: an ``H1Connection`` or an ``H2Connection``."""
        return self.pipe.connection

    @property
    def subprotocol(self) -> str | None:
        """The subprotocol that the server chose."""
        return self.response.header("sec-websocket-protocol")

    @property
    def frames(self) -> list[WsFrame]:
        """Every complete frame that has been received so far."""
        return decode_frames(bytes(self.raw))

    def send(self, message: str | bytes) -> None:
        """Send a text or a binary message; waits while the server does not read.

        Raises:
            StreamResetError: RST_STREAM or a TCP reset.
            TimeoutError: the server took too little for too long.
        """
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
        """Send a Ping; its Pong is received as any message."""
        self._send(ws_events.Ping(payload=data))

    def pong(self, data: bytes = b"") -> None:
        """Send a Pong that was not asked for."""
        self._send(ws_events.Pong(payload=data))

    def close(self, code: int | None = 1000, reason: str = "") -> None:
        """Send a Close frame (an empty one for ``None``); ``expect_close`` may follow.

        The server's own Close is not answered then.
        """
        payload = b"" if code is None else close_payload(code, reason)
        self.answer_close = False
        self.pipe.send(encode_frame(Opcode.CLOSE, payload))

    def receive(self, timeout: float | None = None) -> Received:
        """Return the next message, Ping, Pong or Close.

        Raises:
            EndOfStreamError: FIN or END_STREAM without a Close before it.
            StreamResetError: RST_STREAM or a TCP reset.
            TimeoutError: nothing came; its text says what came before.
        """
        deadline = Deadline(timeout)
        while not self._inbox:
            if self._ended:
                msg = f"the server ended the stream; {self._told()}"
                raise EndOfStreamError(msg)
            try:
                data = self.pipe.receive(deadline.left())
            except TimeoutError:
                msg = f"nothing within {deadline.timeout:g} s; {self._told()}"
                raise TimeoutError(msg) from None
            self._feed(data)
        return self._inbox.popleft()

    def expect(self, *messages: Received, timeout: float | None = None) -> None:
        """Receive exactly ``messages``, in this order.

        Raises:
            PeerError: something else came.
            Exception: as ``receive``.
        """
        for wanted in messages:
            try:
                got = self.receive(timeout)
            except (TimeoutError, EndOfStreamError) as error:
                error.add_note(f"expected: {short(wanted)}")
                raise
            require(got == wanted, f"{short(got)} instead of {short(wanted)}")

    def echo(self, message: str | bytes) -> None:
        """Send ``message`` to an echoing handler and get it back."""
        self.send(message)
        self.expect(message)

    def expect_close(
        self, code: int | None = None, *, timeout: float | None = None
    ) -> Close:
        """Return code and reason of the server's Close, passing over messages.

        Args:
            code: what the code must be; ``None``: any.
            timeout: seconds.

        Raises:
            PeerError: it has another code.
            Exception: as ``receive``.
        """
        deadline = Deadline(timeout)
        while True:
            got = self.receive(deadline.left())
            if isinstance(got, Close):
                complaint = f"the server closed with {got.code} {got.reason!r}"
                require(code in {None, got.code}, f"{complaint} instead of {code}")
                return got

    def expect_end(self, timeout: float | None = None) -> None:
        """Wait for FIN or END_STREAM; nothing else may come before it.

        Raises:
            PeerError: something came.
        """
        try:
            got = self.receive(timeout)
        except EndOfStreamError:
            return
        msg = f"{short(got)} came where the stream had to end"
        raise PeerError(msg)

    # -- faults ----------------------------------------------------------------

    def end(self) -> None:
        """Send FIN or END_STREAM without a Close, and stay able to read (all wires)."""
        self._over = True
        self.pipe.send(b"", end=True)

    def abort(self) -> None:
        """Cut the connection with a TCP RST (all wires)."""
        self._over = True
        self.connection.abort()

    def vanish(self) -> None:
        """Be gone without a FIN, as a host without power (all wires; Linux).

        Raises:
            WireError: this is not Linux.
        """
        self._over = True
        self.connection.vanish()

    def reset_stream(self, code: int = 0x8) -> None:
        """Send RST_STREAM with an error code: CANCEL (``h2``, ``h2c``).

        Raises:
            WireError: this is HTTP/1.1.
        """
        self.pipe.reset_stream(code)
        self._over = True

    def stall_reads(self) -> None:
        """Let the server's window run dry (all wires).

        HTTP/2: what arrives is read and can be received, but earns no credit.
        HTTP/1.1: nothing is read any more; the kernel of both sides holds some. Connect
        with ``receive_buffer`` and ``stream_window`` to have it run dry soon.
        """
        self._over = True
        self.pipe.stall()

    def split_sends(self, size: int = 1, *, pause: float = 0.0) -> None:
        """Send in pieces of ``size`` bytes, ``pause`` seconds apart (all wires)."""
        self.connection.split_sends(size, pause=pause)

    def ignore_pings(self) -> None:
        """Answer no Ping from now on, on HTTP/2 no PING either (all wires)."""
        self.answer_pings = False
        self.connection.answer_pings = False

    def ignore_close(self) -> None:
        """Do not answer the server's Close (all wires)."""
        self._over = True
        self.answer_close = False

    # -- inside ----------------------------------------------------------------

    def _finish(self) -> None:
        """Close with 1000 and wait for the answer."""
        try:
            if self.answer_close:
                self.close()
            self.expect_close()
        except (EndOfStreamError, StreamResetError):
            return  # the server has ended it in another way

    def _told(self) -> str:
        """Return what has come so far, in words."""
        parts = f" and {len(self._parts)} parts of a message" if self._parts else ""
        return self._story.told() + parts

    def _got(self, received: Received) -> None:
        self._inbox.append(received)
        self._story.add(received)

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
                    self._got(empty.join(self._parts))  # type: ignore[arg-type]
                    self._parts = []
            case ws_events.Ping(payload=data):
                self._got(Ping(bytes(data)))
                if self.answer_pings:
                    self._send(event.response())
            case ws_events.Pong(payload=data):
                self._got(Pong(bytes(data)))
            case ws_events.CloseConnection():
                self._take_close(event)
            case _:
                pass  # a client makes no other

    def _take_close(self, event: ws_events.CloseConnection) -> None:
        frames = [frame for frame in self.frames if frame.opcode == Opcode.CLOSE]
        if not frames:  # wsproto reports what it cannot parse as a Close, too
            msg = f"the server sent no valid WebSocket data: {event.reason}"
            raise PeerError(msg)
        payload = frames[-1].payload
        code = int.from_bytes(payload[:2], "big") if payload else None
        self._over = True
        self._got(Close(code, payload[2:].decode()))
        if self.answer_close:
            self.answer_close = False
            self.pipe.send(encode_frame(Opcode.CLOSE, payload))


def offer_header(extensions: Sequence[Extension]) -> list[tuple[str, str | bytes]]:
    """Return the header that offers ``extensions``."""
    offers: list[str] = []
    for extension in extensions:
        parameters = extension.offer()
        name = extension.name
        offers.append(f"{name}; {parameters}" if isinstance(parameters, str) else name)
    return [("sec-websocket-extensions", ", ".join(offers))] if offers else []


def _accepted(response: PeerResponse, offered: Sequence[Extension]) -> list[Extension]:
    accepted = response.header("sec-websocket-extensions")
    if accepted is None:
        return []
    name = accepted.partition(";")[0].strip()
    chosen = [extension for extension in offered if extension.name == name]
    complaint = f"the server accepts {accepted!r}, which was not offered"
    require(chosen, complaint)
    chosen[0].finalize(accepted)
    return [chosen[0]]


def _data_event(message: str | bytes, *, finished: bool) -> ws_events.Event:
    if isinstance(message, str):
        return ws_events.TextMessage(data=message, message_finished=finished)
    return ws_events.BytesMessage(data=message, message_finished=finished)
