"""What both wires of the peer share: a socket with deadlines and faults, a response."""

import contextlib
import ctypes
import fcntl
import socket
import ssl
import struct
import sys
import termios
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, TypeAlias

from tako.testing.patience import Deadline, default_timeout


READ_SIZE = 65_536
_SO_ATTACH_FILTER = 26  # socket(7); Python has no name for it

Address: TypeAlias = tuple[str, int]
HeaderList: TypeAlias = Iterable[tuple[str, str | bytes]]


class PeerError(AssertionError):
    """The server did something that the peer did not expect."""


class WireError(Exception):
    """The fault that was asked for does not exist on this wire, or on this system."""


class EndOfStreamError(PeerError):
    """The server ended its direction where the client wanted more."""


class StreamResetError(PeerError):
    """RST_STREAM from the server, or a TCP reset.

    Attributes:
        code: the error code of RST_STREAM; ``None``: it was a TCP reset.
    """

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


@dataclass(slots=True)
class PeerResponse:
    """A complete HTTP response, or its head; the same for both wires.

    Attributes:
        status: the final status.
        headers: in order; the names are in lower case.
        body: all of it, where the whole response was read.
        trailers: in order.
        interim: the statuses of the 1xx responses before it.
        version: ``"1.1"``, ``"1.0"`` or ``"2"``.
    """

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    interim: list[int] = field(default_factory=list[int])
    version: str = "1.1"

    def header(self, name: str) -> str | None:
        """Return the value of the only header ``name``, ``None`` without one.

        Raises:
            PeerError: there are several.
        """
        values = self.all(name)
        require(len(values) < 2, f"{name} was sent {len(values)} times: {values}")
        return values[0] if values else None

    def all(self, name: str) -> list[str]:
        """Return every value of header ``name``, in order."""
        return [value for key, value in self.headers if key.lower() == name.lower()]


class Socket:
    """A connected TCP or TLS socket; each of its operations has a deadline.

    Attributes:
        bytes_sent: how many bytes the kernel, or TLS, has taken.
        clean_eof: how the server's direction ended: ``True`` with a close_notify (or
            without TLS), ``False`` without one; ``None``: it has not.
        piece: most bytes of one send; ``None``: as many as there are.
        pause: seconds between two pieces.
    """

    bytes_sent: int = 0
    clean_eof: bool | None = None
    piece: int | None = None
    pause: float = 0.0

    def __init__(
        self,
        address: Address,
        tls: ssl.SSLContext | None = None,
        *,
        alpn: str | None = None,
        server_name: str = "localhost",
        receive_buffer: int | None = None,
    ) -> None:
        """Connect, and negotiate TLS if there is a context.

        Args:
            address: host (IPv4) and port.
            tls: the client's context.
            alpn: the protocol that ``tls`` offers from now on.
            server_name: what the certificate is for.
            receive_buffer: bytes that the kernel holds unread.
        """
        raw = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if receive_buffer is not None:
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            raw.settimeout(default_timeout())
            raw.connect(address)
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket = raw
            if tls is not None:
                self._socket = shake_hands(raw, tls, alpn=alpn, server_name=server_name)
        except BaseException:
            raw.close()
            raise

    @property
    def tls(self) -> ssl.SSLSocket | None:
        """The TLS layer, for a look at what was negotiated."""
        return self._socket if isinstance(self._socket, ssl.SSLSocket) else None

    def send(self, data: bytes | memoryview, timeout: float | None = None) -> None:
        """Send all of ``data``; ``bytes_sent`` counts also what precedes a timeout."""
        view = memoryview(data)
        deadline = Deadline(timeout)
        while view:
            self._socket.settimeout(deadline.left())
            try:
                sent = self._socket.send(view[: self.piece])
            except (ConnectionError, ssl.SSLEOFError) as error:
                raise StreamResetError from error
            self.bytes_sent += sent
            view = view[sent:]
            if view and self.pause:
                time.sleep(self.pause)

    def receive(self, timeout: float | None = None) -> bytes:
        """Return what the server sent, ``b""`` at its FIN (or close_notify)."""
        deadline = Deadline(timeout)
        self._socket.settimeout(deadline.left())
        try:
            data = self._socket.recv(READ_SIZE)
        except TimeoutError:
            msg = f"the server sent nothing for {deadline.timeout:g} s"
            raise TimeoutError(msg) from None
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
        tls = self.tls
        if tls is None:
            msg = "close_notify is of TLS, and this connection is without"
            raise WireError(msg)
        tls.settimeout(0)
        with contextlib.suppress(ssl.SSLError):  # sent; what it reads then is no answer
            tls.unwrap()

    def vanish(self) -> None:
        """Have the kernel drop what arrives, as if this host were gone (Linux).

        What was sent is acknowledged first, or it would be sent again and again.

        Raises:
            WireError: this is not Linux.
        """
        if sys.platform != "linux":
            msg = "only Linux lets a process drop what arrives (SO_ATTACH_FILTER)"
            raise WireError(msg)
        deadline = Deadline()
        while _unacknowledged(self._socket.fileno()):
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
    """What the connections of both versions have in common.

    It is a context manager, which closes the connection.

    Attributes:
        socket: what carries it.
        authority: the host and port of its requests.
        wire: ``h1``, ``h1s``, ``h2`` or ``h2c``.
        answer_pings: HTTP/2: answer the server's PINGs.
    """

    _version: str = ""
    answer_pings: bool = True

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

    @property
    def wire(self) -> str:
        """Which of the four wires this is."""
        encrypted = self.socket.tls is not None
        names = {"1": ("h1", "h1s"), "2": ("h2c", "h2")}
        return names[self._version][encrypted]

    def close(self) -> None:
        """Close the TCP connection; a no-op the second time."""
        self.socket.close()

    # -- faults ----------------------------------------------------------------

    def abort(self) -> None:
        """Close with a TCP RST (all wires)."""
        self.socket.abort()

    def half_close(self) -> None:
        """Send FIN, without a close_notify, and stay able to read (all wires)."""
        self.socket.half_close()

    def vanish(self) -> None:
        """Be gone without a FIN, as a host without power (all wires; Linux).

        From now on the kernel drops what the server sends, and acknowledges nothing.

        Raises:
            WireError: this is not Linux.
        """
        self.socket.vanish()

    def split_sends(self, size: int = 1, *, pause: float = 0.0) -> None:
        """Send in pieces of ``size`` bytes, ``pause`` seconds apart (all wires).

        Each piece is a segment of TCP, and a record of TLS, of its own.
        """
        self.socket.piece = size
        self.socket.pause = pause

    def send_goaway(self, code: int = 0) -> None:
        """Send GOAWAY with an error code, and go on (``h2``, ``h2c``).

        Raises:
            WireError: this is HTTP/1.1.
        """
        msg = f"GOAWAY is a frame of HTTP/2: {self.wire} has none"
        raise WireError(msg)

    def send_raw(self, data: bytes) -> None:
        """Send bytes exactly as given."""
        self.socket.send(data)


def require(condition: object, complaint: str) -> None:
    """Raise unless the server kept to the protocol.

    Raises:
        PeerError: ``condition`` is not true.
    """
    if not condition:
        raise PeerError(complaint)


def _unacknowledged(fd: int) -> int:
    """Return how many bytes the kernel holds for the server (SIOCOUTQ, tcp(7))."""
    size: int = struct.unpack("i", fcntl.ioctl(fd, termios.TIOCOUTQ, bytes(4)))[0]
    return size
