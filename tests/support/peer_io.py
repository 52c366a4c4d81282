"""What both wires of the test client share: a socket with deadlines, a response."""

import contextlib
import ctypes
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

from tako.runtime import kernel


PATIENCE = float(os.environ.get("TAKO_TEST_PATIENCE", "1"))
"""Every limit of the tests is multiplied with it."""

TIMEOUT = 60.0 * PATIENCE
"""Seconds that a test waits for what must happen at once: only a hang takes longer."""

NEVER = 100 * TIMEOUT
"""A limit of the server that a test must not wait for: its own is over before."""

READ_SIZE = 65_536
_SO_ATTACH_FILTER = 26  # socket(7); Python has no name for it

Address: TypeAlias = tuple[str, int]
HeaderList: TypeAlias = Iterable[tuple[str, str | bytes]]


class PeerError(Exception):
    """The server did something that the client did not expect."""


class EndOfStreamError(PeerError):
    """The server ended its direction where the client wanted more."""


class StreamResetError(PeerError):
    """RST_STREAM from the server, or a TCP reset (``code`` is then ``None``)."""

    def __init__(self, code: int | None = None) -> None:
        super().__init__("TCP reset" if code is None else f"RST_STREAM({code})")
        self.code = code


_making = threading.Lock()


def shake_hands(
    raw: socket.socket,
    tls: ssl.SSLContext,
    *,
    alpn: str | None = None,
    server_name: str = "localhost",
) -> ssl.SSLSocket:
    """Return ``raw`` encrypted; it is closed if that fails.

    ``alpn`` is what ``tls`` offers from now on. OpenSSL copies that list without the
    GIL when a connection is made, so threads that share a context make one at a time:
    else one of them sends what another has just freed.
    """
    with _making:
        if alpn is not None:
            tls.set_alpn_protocols([alpn])
        wrapped = tls.wrap_socket(
            raw,
            server_hostname=server_name,
            suppress_ragged_eofs=False,
            do_handshake_on_connect=False,
        )
    try:
        wrapped.do_handshake()
    except BaseException:
        wrapped.close()
        raise
    return wrapped


class Deadline:
    """A point in time after which waiting is an error."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._end = time.monotonic() + timeout

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: there are none.
        """
        left = self._end - time.monotonic()
        if left <= 0:
            msg = f"nothing happened for {self._timeout} s"
            raise TimeoutError(msg)
        return left


@dataclass(slots=True)
class Response:
    """A complete HTTP response, or its head; the same for both wires."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    interim: list[int] = field(default_factory=list)
    version: str = "1.1"

    def header(self, name: str) -> str | None:
        """Return the value of the only header ``name``, ``None`` without one."""
        values = self.all(name)
        assert len(values) < 2, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return every value of header ``name``, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Socket:
    """A connected TCP or TLS socket; each of its operations has a deadline."""

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None = None,
        *,
        alpn: str | None = None,
        server_name: str = "localhost",
        receive_buffer: int | None = None,
    ) -> None:
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.settimeout(TIMEOUT)
            raw.connect(address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = raw
            if tls is not None:
                self._socket = shake_hands(raw, tls, alpn=alpn, server_name=server_name)
        except BaseException:
            raw.close()
            raise
        self.bytes_sent = 0
        self.clean_eof: bool | None = None

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS layer, for a look at what was negotiated."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    def send(self, data: bytes | memoryview, timeout: float = TIMEOUT) -> None:
        """Send all of ``data``; ``bytes_sent`` counts also what precedes a timeout."""
        view = memoryview(data)
        deadline = Deadline(timeout)
        while view:
            self._socket.settimeout(deadline.left())
            try:
                sent = self._socket.send(view)
            except (ConnectionError, ssl.SSLEOFError) as error:
                raise StreamResetError from error
            self.bytes_sent += sent
            view = view[sent:]

    def receive(self, timeout: float = TIMEOUT) -> bytes:
        """Return what the server sent, ``b""`` at its FIN (or close_notify)."""
        self._socket.settimeout(timeout)
        try:
            data = self._socket.recv(READ_SIZE)
        except ssl.SSLEOFError:
            self.clean_eof = False
            return b""
        except (ConnectionError, ssl.SSLZeroReturnError) as error:
            raise StreamResetError from error
        if not data:
            self.clean_eof = True
        return data

    def half_close(self) -> None:
        """Send FIN and stay able to read; over TLS without a close_notify before it."""
        socket.socket.shutdown(self._socket, socket.SHUT_WR)

    def close_notify(self) -> None:
        """Send TLS's close_notify, no FIN, and stay able to read."""
        assert self.tls is not None
        self.tls.settimeout(0)
        with contextlib.suppress(ssl.SSLError):  # sent; what it reads then is no answer
            self.tls.unwrap()

    def vanish(self) -> None:
        """Have the kernel drop what arrives, as if this host were gone (Linux).

        What was sent is acknowledged first, or it would be sent again and again.
        """
        deadline = Deadline(TIMEOUT)
        while kernel.unacknowledged(self._socket.fileno()):
            time.sleep(min(0.01, deadline.left()))  # the kernel does not wake anybody
        drop_all = ctypes.create_string_buffer(struct.pack("HBBI", 6, 0, 0, 0))
        program = struct.pack("@HP", 1, ctypes.addressof(drop_all))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def abort(self) -> None:
        """Close with a TCP RST."""
        linger = struct.pack("ii", 1, 0)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._socket.close()

    def close(self) -> None:
        """Close the socket; a no-op the second time."""
        self._socket.close()


class Connection:
    """What H1 and H2 connections have in common: being a context manager."""

    def __init__(self, sock: Socket, authority: str) -> None:
        self.socket = sock
        self.authority = authority

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the TCP connection."""
        self.socket.close()

    def abort(self) -> None:
        """Vanish with a TCP RST."""
        self.socket.abort()

    def send_raw(self, data: bytes) -> None:
        """Send bytes exactly as given."""
        self.socket.send(data)
