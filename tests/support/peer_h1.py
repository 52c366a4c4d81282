"""The HTTP/1.1 half of the test client: a few lines of RFC 9112, by hand."""

import base64
import hashlib
from collections.abc import Iterable
from typing import Self, Unpack

from tests.support.peer_io import (
    TIMEOUT,
    Connection,
    Deadline,
    EndOfStreamError,
    HeaderList,
    PeerError,
    Response,
    Socket,
    StreamResetError,
)
from tests.support.peer_ws import (
    HandshakeRefusedError,
    PeerWebSocket,
    WsOpening,
    offer_header,
)


GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="


def accept_key(key: str = KEY) -> str:
    """Return the answer to ``key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode() + GUID, usedforsecurity=False).digest()
    return base64.b64encode(digest).decode()


def handshake_headers(key: str | None = KEY) -> list[tuple[str, str | bytes]]:
    """Return the headers that RFC 6455 section 4.1 asks a client for."""
    headers: list[tuple[str, str | bytes]] = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
    ]
    return headers if key is None else [*headers, ("Sec-WebSocket-Key", key)]


class H1Connection(Connection):
    """One HTTP/1.1 connection: requests one after the other, at most one tunnel."""

    def __init__(self, sock: Socket, authority: str) -> None:
        super().__init__(sock, authority)
        self.buffer = bytearray()

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
        self, timeout: float = TIMEOUT, *, method: str = "GET", body: bool = True
    ) -> Response:
        """Read the next response; interim ones are noted in ``interim``."""
        deadline = Deadline(timeout)
        interim = []
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
    ) -> Response:
        """Send a request and read its response."""
        self.send_request(method, path, headers, body, trailers)
        return self.read_response(method=method)

    def read_exactly(self, size: int, timeout: float = TIMEOUT) -> bytes:
        """Return the next ``size`` bytes."""
        deadline = Deadline(timeout)
        while len(self.buffer) < size:
            self._fill(deadline)
        return self._take(size)

    def read_chunk(self, timeout: float = TIMEOUT) -> bytes:
        """Return the next chunk of a chunked body, ``b""`` for the last one."""
        deadline = Deadline(timeout)
        size = int(self._read_line(deadline).partition(b";")[0], 16)
        if size == 0:
            return b""
        data = self.read_exactly(size, deadline.left())
        assert self._read_line(deadline) == b""
        return data

    def expect_closed(self, timeout: float = TIMEOUT) -> None:
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
        self, path: str, *, timeout: float = TIMEOUT, **opening: Unpack[WsOpening]
    ) -> Response:
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
        assert (response.header("upgrade") or "").lower() == "websocket"
        assert (response.header("connection") or "").lower() == "upgrade"
        assert response.header("sec-websocket-accept") == accept_key()
        assert response.header("content-length") is None
        assert response.header("transfer-encoding") is None
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
        fields = []
        while line := self._read_line(deadline):
            name, colon, value = line.decode("latin-1").partition(":")
            assert colon, f"not a header: {line!r}"
            assert name == name.strip(), f"not a header: {line!r}"
            fields.append((name.lower(), value.strip()))
        return fields

    def _read_head(self, deadline: Deadline) -> Response:
        line = self._read_line(deadline).decode("latin-1")
        version, _, rest = line.partition(" ")
        assert version in {"HTTP/1.1", "HTTP/1.0"}, f"not a status line: {line!r}"
        status = int(rest[:3])
        assert rest[3:4] == " ", f"not a status line (RFC 9112 section 4): {line!r}"
        return Response(status, self._read_fields(deadline), version=version[5:])

    def _read_body(self, response: Response, deadline: Deadline) -> None:
        length = response.header("content-length")
        if response.header("transfer-encoding") == "chunked":
            assert length is None, "RFC 9112 section 6.2"
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
        self._connection = connection

    def send(self, data: bytes, *, end: bool = False, timeout: float = TIMEOUT) -> None:
        if data:
            self._connection.socket.send(data, timeout)
        if end:
            self._connection.socket.half_close()

    def receive(self, timeout: float = TIMEOUT) -> bytes:
        buffered = self._connection.take_buffered()
        return buffered or self._connection.socket.receive(timeout)

    def reset(self) -> None:
        self._connection.abort()

    def expect_gone(self, timeout: float = TIMEOUT) -> int | None:
        deadline = Deadline(timeout)
        try:
            while self.receive(deadline.left()):
                pass
        except StreamResetError:
            pass
        return None
