"""The HTTP/1.1 half of the peer: a few lines of RFC 9112, by hand."""

import base64
import hashlib
from collections.abc import Iterable
from typing import Self, Unpack

from tako.testing.patience import Deadline
from tako.testing.peer.io import (
    Connection,
    EndOfStreamError,
    HeaderList,
    PeerError,
    PeerResponse,
    Socket,
    StreamResetError,
    WireError,
    require,
)
from tako.testing.peer.websocket import (
    HandshakeRefusedError,
    PeerWebSocket,
    WsOpening,
    offer_header,
)


GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def accept_key(key: str = KEY) -> str:
    """Return the answer to ``key`` (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def handshake_headers(key: str | None = KEY) -> list[tuple[str, str | bytes]]:
    """Return the headers that RFC 6455 §4.1 asks a client for."""
    headers: list[tuple[str, str | bytes]] = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
    ]
    return headers if key is None else [*headers, ("Sec-WebSocket-Key", key)]


_ACCEPTED = {  # RFC 6455 §4.1, RFC 9110 §8.6
    "upgrade": "websocket",
    "connection": "upgrade",
    "sec-websocket-accept": accept_key(),
    "content-length": None,
    "transfer-encoding": None,
}


class H1Connection(Connection):
    """One HTTP/1.1 connection: requests one after the other, at most one tunnel.

    Attributes:
        buffer: what was received and has not been interpreted.
    """

    _version = "1"

    def __init__(self, sock: Socket, authority: str) -> None:
        super().__init__(sock, authority)
        self.buffer: bytearray = bytearray()

    # -- HTTP ------------------------------------------------------------------

    def head(self, method: str, path: str, headers: HeaderList = ()) -> bytes:
        """Return a request head; ``Host`` is added unless ``headers`` has one."""
        fields = list(headers)
        if not any(name.lower() == "host" for name, _ in fields):
            fields.insert(0, ("Host", self.authority))
        lines = [f"{method} {path} HTTP/1.1".encode()]
        for name, value in fields:
            text = value.encode("latin-1") if isinstance(value, str) else value
            lines.append(name.encode("latin-1") + b": " + text)
        return b"\r\n".join([*lines, b"", b""])

    def send_request(
        self,
        method: str,
        path: str,
        headers: HeaderList = (),
        body: bytes | Iterable[bytes] = b"",
        trailers: HeaderList = (),
    ) -> Self:
        """Send a request and return where its response comes from.

        A body that is not ``bytes`` goes out chunk by chunk.
        """
        fields = list(headers)
        if not isinstance(body, bytes):
            fields.append(("Transfer-Encoding", "chunked"))
        elif body:
            fields.append(("Content-Length", str(len(body))))
        head = self.head(method, path, fields)
        if isinstance(body, bytes):
            self.socket.send(head + body)
            return self
        self.socket.send(head)
        for chunk in body:
            self.socket.send(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        tail = b"".join(f"{name}: {value!s}\r\n".encode() for name, value in trailers)
        self.socket.send(b"0\r\n" + tail + b"\r\n")
        return self

    def read_response(
        self,
        timeout: float | None = None,
        *,
        method: str = "GET",
        body: bool = True,
    ) -> PeerResponse:
        """Read the next response; interim ones are noted in ``interim``."""
        deadline = Deadline(timeout)
        interim: list[int] = []
        while True:
            response = self._read_head(deadline)
            if response.status == 101 or response.status >= 200:
                break
            interim.append(response.status)
        response.interim = interim
        if body and method != "HEAD" and response.status not in {101, 204, 304}:
            self._read_body(response, deadline)
        return response

    def request(
        self,
        method: str,
        path: str,
        headers: HeaderList = (),
        body: bytes | Iterable[bytes] = b"",
        trailers: HeaderList = (),
    ) -> PeerResponse:
        """Send a request and read its response."""
        self.send_request(method, path, headers, body, trailers)
        return self.read_response(method=method)

    def read_exactly(self, size: int, timeout: float | None = None) -> bytes:
        """Return the next ``size`` bytes."""
        deadline = Deadline(timeout)
        while len(self.buffer) < size:
            self._fill(deadline)
        return self._take(size)

    def read_chunk(self, timeout: float | None = None) -> bytes:
        """Return the next chunk of a chunked body, ``b""`` for the last one."""
        deadline = Deadline(timeout)
        size = int(self._read_line(deadline).partition(b";")[0], 16)
        if size == 0:
            return b""
        data = self.read_exactly(size, deadline.left())
        require(self._read_line(deadline) == b"", "a chunk is longer than its size")
        return data

    def expect_closed(self, timeout: float | None = None) -> None:
        """Wait for the end of the connection; no further byte may come before it."""
        try:
            data = bytes(self.buffer) or self.socket.receive(timeout)
        except StreamResetError:
            return
        if data:
            msg = f"{data[:200]!r} came where the connection had to close"
            raise PeerError(msg)

    # -- WebSocket -------------------------------------------------------------

    def handshake(
        self,
        path: str,
        *,
        timeout: float | None = None,
        **opening: Unpack[WsOpening],
    ) -> PeerResponse:
        """Ask for a WebSocket and return the answer, whatever it is."""
        fields = [
            *handshake_headers(),
            *offer_header(opening.get("extensions", ())),
            *opening.get("headers", ()),
        ]
        if subprotocols := opening.get("subprotocols"):
            fields.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
        early_data = opening.get("early_data", b"")
        self.socket.send(self.head("GET", path, fields) + early_data)
        if meanwhile := opening.get("meanwhile"):
            meanwhile()
        return self.read_response(timeout=timeout)

    def websocket(self, path: str, **opening: Unpack[WsOpening]) -> PeerWebSocket:
        """Open a WebSocket.

        Raises:
            HandshakeRefusedError: the answer was not 101.
        """
        response = self.handshake(path, **opening)
        if response.status != 101:
            raise HandshakeRefusedError(response)
        for name, wanted in _ACCEPTED.items():
            value = response.header(name)
            if value is not None and name in {"upgrade", "connection"}:
                value = value.lower()
            complaint = f"{name} of the answer is {value!r}, not {wanted!r}"
            require(value == wanted, complaint)
        extensions = opening.get("extensions", ())
        return PeerWebSocket(H1Pipe(self), response, extensions)

    # -- reading ---------------------------------------------------------------

    def take_buffered(self) -> bytes:
        """Return and forget what has been received and not been interpreted."""
        return self._take(len(self.buffer))

    def _fill(self, deadline: Deadline) -> None:
        data = self.socket.receive(deadline.left())
        if not data:
            msg = f"the server closed the connection behind {bytes(self.buffer)!r}"
            raise EndOfStreamError(msg)
        self.buffer += data

    def _take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def _read_line(self, deadline: Deadline) -> bytes:
        while (end := self.buffer.find(b"\r\n")) < 0:
            self._fill(deadline)
        line = self._take(end + 2)
        return line[:-2]

    def _read_fields(self, deadline: Deadline) -> list[tuple[str, str]]:
        fields: list[tuple[str, str]] = []
        while line := self._read_line(deadline):
            name, colon, value = line.decode("latin-1").partition(":")
            require(colon and name == name.strip(), f"not a header: {line!r}")
            fields.append((name.lower(), value.strip()))
        return fields

    def _read_head(self, deadline: Deadline) -> PeerResponse:
        line = self._read_line(deadline).decode("latin-1")
        version, _, rest = line.partition(" ")
        complaint = f"not a status line (RFC 9112 §4): {line!r}"
        require(version in {"HTTP/1.1", "HTTP/1.0"}, complaint)
        require(rest[:3].isdecimal() and rest[3:4] == " ", complaint)
        status = int(rest[:3])
        return PeerResponse(status, self._read_fields(deadline), version=version[5:])

    def _read_body(self, response: PeerResponse, deadline: Deadline) -> None:
        length = response.header("content-length")
        if response.header("transfer-encoding") == "chunked":
            complaint = "both Content-Length and Transfer-Encoding (RFC 9112 §6.2)"
            require(length is None, complaint)
            chunks = iter(lambda: self.read_chunk(deadline.left()), b"")
            response.body = b"".join(chunks)
            response.trailers = self._read_fields(deadline)
        elif length is not None:
            response.body = self.read_exactly(int(length), deadline.left())
        else:
            response.body = self._read_to_end(deadline)

    def _read_to_end(self, deadline: Deadline) -> bytes:
        while data := self.socket.receive(deadline.left()):
            self.buffer += data
        return self.take_buffered()


class H1Pipe:
    """The tunnel that an HTTP/1.1 connection becomes after 101."""

    def __init__(self, connection: H1Connection) -> None:
        self.connection: H1Connection = connection
        self._stalled = False

    def send(
        self, data: bytes, *, end: bool = False, timeout: float | None = None
    ) -> None:
        """Send ``data``; ``end``: FIN after it."""
        if data:
            self.connection.socket.send(data, timeout)
        if end:
            self.connection.socket.half_close()

    def receive(self, timeout: float | None = None) -> bytes:
        """Return what came, ``b""`` at FIN.

        Raises:
            WireError: the reads are stalled.
        """
        if self._stalled:
            msg = "HTTP/1.1: the connection is not read any more (stall_reads)"
            raise WireError(msg)
        buffered = self.connection.take_buffered()
        return buffered or self.connection.socket.receive(timeout)

    def reset(self) -> None:
        """Send a TCP RST."""
        self.connection.abort()

    def reset_stream(self, code: int) -> None:
        """Refuse: there are no streams.

        Raises:
            WireError: always.
        """
        msg = (
            f"RST_STREAM({code}) is a frame of HTTP/2: {self.connection.wire} has "
            "none; `abort` ends the connection with a TCP RST"
        )
        raise WireError(msg)

    def stall(self) -> None:
        """Read nothing more."""
        self._stalled = True

    def expect_gone(self, timeout: float | None = None) -> int | None:
        """Wait for the end of the connection."""
        deadline = Deadline(timeout)
        try:
            while self.receive(deadline.left()):
                pass
        except StreamResetError:
            pass
        return None
