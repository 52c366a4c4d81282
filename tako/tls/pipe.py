"""``TlsPipe``: one side of a TLS connection, without I/O.

Theory of operation. ``begin`` gives the pipe an ``SSLContext`` and a role; a client's
first flight is queued then. Two phases follow.

1. *Handshake*, between the two memory BIOs, until ``established``.
2. *Data*. ``receive_data`` decrypts, ``data_to_send`` encrypts. To OpenSSL a record
   that is not complete is an error, which costs as much as decrypting 8 KiB. So
   ``_missing`` keeps track of where records end, and OpenSSL is asked once for each
   complete one.

A server looks at the client's hello before it begins: ``ServerTlsPipe``.

A record without data (empty, KeyUpdate, an attempt to renegotiate) costs as much as a
full one. So they are counted, and ``receive_data`` stops in the middle of its input
when the connection's ``turn`` is over: ``backlog``.

Invariants: ``receive_data`` never raises because of input; once ``error`` is set
nothing is read or written any more, but what ``data_to_send`` still returns (an alert,
perhaps) should be sent. Of data ``_incoming`` never holds more than one record, and
``_outgoing`` not more than two ``_SLICE``: a memory BIO keeps its largest size for
ever.
"""

import ssl
from collections.abc import Callable
from typing import Final, NoReturn, Protocol, TypeAlias

from tako.core.turn import Turn, endless
from tako.errors import LocalProtocolError
from tako.http.conn_info import TlsInfo


_Read: TypeAlias = Callable[[int], bytes]
_Write: TypeAlias = Callable[[bytes | memoryview], int]


class _Crypt(Protocol):
    """What encrypts and decrypts."""

    def read(self, size: int, /) -> bytes:
        """Return what is next of the data, at most ``size`` bytes."""
        ...

    def write(self, data: bytes | memoryview, /) -> int:
        """Encrypt; return how many bytes of ``data``."""
        ...


_RECORD: Final = 16 * 1024  # RFC 8446 §5.1: no record carries more plaintext than this
_SLICE: Final = 32 * 1024
_HEAD: Final = 5  # bytes of a record before its content: type, version, length
_CONTENT_TYPES: Final = range(20, 24)  # RFC 8446 §5.1
_EXPANSION: Final = 2048  # RFC 5246 §6.2.3; RFC 8446 §5.2 allows 256
MAX_IDLE: Final = 32
"""The most records without data, less those with data since, by default."""

# Units of ``Turn``
_BATCH: Final = 16  # records in between
_BATCH_COST: Final = 128
_IDLE_COST: Final = 32  # an exception, and for a KeyUpdate new keys
_HANDSHAKE_COST: Final = 64


class TlsPipe:
    """Turns ciphertext into plaintext and back.

    Attributes:
        established: the handshake is complete, ``info`` is set.
        alpn: the protocol agreed on; ``None`` before, and if the client offered none.
        info: what the handshake settled.
        backlog: there is input that this turn had no time for; call
            ``receive_data(b"")`` in the next one.
        error: why the connection failed, for the log; ``None`` unless it has.
        cause: the exception behind ``error``, if there was one.
        complaint: the same for the operator, where it is of use to one; it quotes
            nothing of the peer.
        peer_closed: the peer ended its data with close_notify; we may still send.
        ended: ``failed`` or ``peer_closed``: nothing more can be received.
        truncated: the peer ended its data without close_notify, so that the end cannot
            be told from an attack.
    """

    __slots__ = (
        "_answered_by",
        "_close_sent",
        "_head",
        "_idle",
        "_incoming",
        "_max_idle",
        "_missing",
        "_outgoing",
        "_peer",
        "_queued",
        "_read",
        "_reading",
        "_sni",
        "_ssl",
        "_turn",
        "_write",
        "alpn",
        "backlog",
        "cause",
        "complaint",
        "ended",
        "error",
        "established",
        "info",
        "peer_closed",
        "truncated",
    )

    def __init__(self, turn: Turn | None = None, *, max_idle: int = MAX_IDLE) -> None:
        """Make a pipe that is still to ``begin``.

        Args:
            turn: the connection's budget; ``None``: all is decrypted at once.
            max_idle: records without data before the connection is closed.
        """
        self._turn = turn or endless()
        self._max_idle = max_idle
        self._idle = 0  # records without data, less those with data since
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._queued: list[bytes] = []  # taken out of _outgoing early to keep it small
        self._ssl: ssl.SSLObject | None = None
        self._read: _Read = _not_established
        self._write: _Write = _not_established
        self._reading = False  # established, and the data has not ended
        self._missing = 0  # bytes of the record that ``_incoming`` holds the start of
        self._head: bytes = b""  # input not looked at: part of a head, or put off
        self._peer = "peer"  # what the other side is called
        self._sni: str | None = None
        self._answered_by: object = None
        self._close_sent = False
        self.established: bool = False
        self.alpn: str | None = None
        self.info: TlsInfo | None = None
        self.error: str | None = None
        self.cause: Exception | None = None
        self.complaint: str | None = None
        self.peer_closed: bool = False
        self.truncated: bool = False
        self.ended: bool = False
        self.backlog: bool = False

    def begin(
        self,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        sni: str | None,
        answered_by: object = None,
    ) -> None:
        """Take a role, once; ``data_to_send`` then returns a client's first flight.

        Args:
            context: certificates, protocols, and trusted authorities.
            server_side: whether we are the server.
            sni: the server name that the client asks for.
            answered_by: see ``TlsInfo``.

        Raises:
            ssl.SSLError: the context is not one for this role.
            ValueError: ``sni`` cannot be a server name.
        """
        self._ssl = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else sni,
        )
        self._peer = "client" if server_side else "server"
        self._sni = sni
        self._answered_by = answered_by
        if not server_side:
            self._handshake(b"")

    def _show_end(self, pipe: "TlsPipe") -> None:
        """Have the end of ``pipe`` be that of this one, which goes through it."""
        self.error = self.error or pipe.error
        self.cause = self.cause or pipe.cause
        self.peer_closed = self.peer_closed or pipe.peer_closed

    def _show(
        self,
        error: str | None,
        alpn: str | None,
        info: TlsInfo | None,
        *,
        backlog: bool,
        established: bool,
        truncated: bool,
    ) -> None:
        """Say what holds of the pipes that this one goes through."""
        self.error = self.error or error
        self.alpn, self.info = alpn, info
        self.ended = self.failed or self.peer_closed
        self.backlog = backlog and not self.failed
        self.established = established and not self.failed
        self.truncated = truncated

    @property
    def failed(self) -> bool:
        """The connection cannot go on: send what is queued, then close it."""
        return self.error is not None

    def receive_data(self, ciphertext: bytes) -> bytes:
        """Take bytes from the peer; return the plaintext they complete. Never raises.

        ``b""`` while the handshake goes on, after a failure, and after close_notify.
        """
        # The usual read is one whole record.
        size = len(ciphertext)
        if (
            self._missing
            or self._head
            or not self._reading
            or size < _HEAD
            or size != _HEAD + (ciphertext[3] << 8 | ciphertext[4])
        ):
            return self._receive_unusual(ciphertext)
        self._incoming.write(ciphertext)
        try:
            plaintext = self._read(size)  # room for more would be allocated, and kept
        except ssl.SSLError as error:
            self._note(error)
            self._count_idle()
            return b""
        if self._idle:
            self._idle -= 1
        return plaintext or self._end_of_data()

    def receive_eof(self) -> None:
        """Note that the peer will send nothing more. Repeats are no-ops."""
        if self.error is not None or self.peer_closed:
            return
        if self.established:
            self.truncated = True  # RFC 8446 §6.1: close_notify is the only orderly end
        else:
            self._fail("connection closed during the TLS handshake")

    def data_to_send(self, plaintext: bytes | memoryview = b"") -> bytes:
        """Return the ciphertext that is queued for the peer, and forget it.

        Args:
            plaintext: to encrypt behind what is queued; dropped after a failure and
                after ``close_notify``.

        Raises:
            LocalProtocolError: there is plaintext, and the handshake is not complete.
        """
        if plaintext and not self._close_sent and self.error is None:
            try:
                if len(plaintext) <= _RECORD:
                    self._write(plaintext)
                else:
                    self._send_slices(memoryview(plaintext))
            except ssl.SSLError as error:
                self._note(error)
        if not self._queued:
            return self._outgoing.read()
        return b"".join(self._take())

    def pieces_to_send(self, plaintext: bytes | memoryview) -> list[bytes]:
        """Return what ``data_to_send`` would join: for much data, which it would copy.

        Raises:
            LocalProtocolError: the handshake is not complete.
        """
        if not self._close_sent and self.error is None:
            try:
                self._send_slices(memoryview(plaintext))
            except ssl.SSLError as error:
                self._note(error)
        return self._take()

    def close_notify(self) -> None:
        """Queue our close_notify (RFC 8446 §6.1). Repeats are no-ops.

        The peer may go on sending. Does nothing before the handshake is complete, and
        after a failure.
        """
        if self._ssl is None or not self.established or self._close_sent or self.failed:
            return
        self._close_sent = True
        try:
            self._ssl.unwrap()
        except ssl.SSLError as error:  # WantRead: the peer has not sent its own yet
            self._note(error)

    def _receive_unusual(self, ciphertext: bytes) -> bytes:
        """Take bytes before, after and beyond the usual course of ``receive_data``."""
        if self._reading:
            return self._receive_records(ciphertext)
        if self.error is not None or self.peer_closed:
            return b""  # RFC 8446 §6.1: data after a closure alert MUST be ignored
        return self._receive_early(ciphertext)

    def _receive_early(self, ciphertext: bytes) -> bytes:
        """Take bytes before the handshake is complete."""
        return self._handshake(ciphertext)

    def _handshake(self, ciphertext: bytes) -> bytes:
        """Feed the handshake; what follows it in the same bytes is data already."""
        ssl_object = self._ssl
        if ssl_object is None:
            return b""
        if self._head:
            ciphertext, self._head = self._head + ciphertext, b""
        self.backlog = False
        for start in range(0, len(ciphertext) or 1, _SLICE):
            if start and not self._turn.spend(_HANDSHAKE_COST):
                self._head = ciphertext[start:]
                self.backlog = True
                return b""
            self._incoming.write(memoryview(ciphertext)[start : start + _SLICE])
            try:
                ssl_object.do_handshake()
            except ssl.SSLError as error:
                self._note(error)
                if self.error is not None:
                    return b""
            else:
                self._establish(ssl_object)
                rest = self._incoming.read() + ciphertext[start + _SLICE :]
                return self._receive_records(rest)
        return b""

    def _establish(self, ssl_object: ssl.SSLObject) -> None:
        cipher = ssl_object.cipher()
        self.alpn = ssl_object.selected_alpn_protocol()
        self.info = TlsInfo(  # by position: a dataclass takes names slowly
            ssl_object.version() or "",
            cipher[0] if cipher else "",
            self.alpn,
            self._sni,
            ssl_object.getpeercert(binary_form=True),
            self._answered_by,
        )
        # What these methods of an ``SSLObject`` call: a frame less for each record
        direct: _Crypt = getattr(ssl_object, "_sslobj", ssl_object)
        self._read = direct.read
        self._write = direct.write
        self.established = self._reading = True

    def _receive_records(self, ciphertext: bytes) -> bytes:
        """Decrypt the records that are complete; the BIO keeps the next one's start."""
        if self._head:
            ciphertext, self._head = self._head + ciphertext, b""
        self.backlog = False
        view, size = memoryview(ciphertext), len(ciphertext)
        feed, read, spend = self._incoming.write, self._read, self._turn.spend
        chunks: list[bytes] = []
        start, end, records = 0, self._missing, 0
        while self._reading:
            if start == end:
                if size - start < _HEAD:
                    self._head = ciphertext[start:]
                    break
                if records >= _BATCH and not spend(_BATCH_COST):
                    self._head = ciphertext[start:]
                    self.backlog = True
                    break
                records = records + 1 if records < _BATCH else 1
                end = _end_of_record(ciphertext, start)
            feed(view[start:end])
            if end > size:
                break
            start = end
            try:
                chunk = read(_RECORD)
            except ssl.SSLError as error:
                self._note(error)
                self._count_idle()
                spend(_IDLE_COST)
            else:
                if self._idle:
                    self._idle -= 1
                chunks.append(chunk or self._end_of_data())
        self._missing = max(end - size, 0)
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _count_idle(self) -> None:
        """Count a record without data; too many of them end the connection.

        RFC 8446 §5.1 allows empty records, §4.6.3 any number of KeyUpdates. Go ends a
        connection after 16 such records in a row, BoringSSL after 32.
        """
        if not self._reading:
            return
        self._idle += 1
        if self._idle > self._max_idle:
            # The only alert that Python lets us send once there are keys
            self.close_notify()
            self._fail("too many records without data")

    def _end_of_data(self) -> bytes:
        """Take note of the peer's close_notify (a read that returned nothing)."""
        self.peer_closed = self.ended = True
        self._reading = False
        return b""

    def _send_slices(self, plaintext: memoryview) -> None:
        """Encrypt much data piecemeal, so that the BIO stays small."""
        outgoing, write = self._outgoing, self._write
        start = 0
        while start < len(plaintext):
            start += write(plaintext[start : start + _SLICE])
            if outgoing.pending >= _SLICE:
                self._queued.append(outgoing.read())

    def _take(self) -> list[bytes]:
        """Return the pieces of ciphertext that are queued, and forget them."""
        pieces, self._queued = self._queued, []
        if self._outgoing.pending:
            pieces.append(self._outgoing.read())
        return pieces

    def _note(self, error: ssl.SSLError) -> None:
        """Note why a call raised: it needs input, the data ended, or it failed."""
        if isinstance(error, ssl.SSLWantReadError):
            return
        if isinstance(error, ssl.SSLZeroReturnError):
            self._end_of_data()  # reported this way after our own close_notify
            return
        reason = (error.reason or str(error)).replace("_", " ").lower()
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = error.verify_message
        elif error.reason != "PEER_DID_NOT_RETURN_A_CERTIFICATE":
            self._fail(reason, error)
            return
        self._fail(f"{self._peer} certificate refused: {reason}", error)
        self._complain(self.error)

    def _complain(self, text: str | None) -> None:
        """Have the operator told ``text``."""
        self.complaint = text

    def _fail(self, text: str, cause: Exception | None = None) -> None:
        self.error = text
        # without its traceback, which refers to us
        self.cause = None if cause is None else cause.with_traceback(None)
        self.ended = True
        self._reading = False
        self._ssl = None
        self._read = self._write = _not_established
        self._incoming = ssl.MemoryBIO()  # drops what was not read


def _not_established(_: object) -> NoReturn:
    msg = "the TLS handshake is not complete"
    raise LocalProtocolError(msg)


def _end_of_record(data: bytes, start: int) -> int:
    """Return where the record ends whose header is at ``start`` (RFC 8446 §5.1).

    What is not a record goes to OpenSSL in full, which refuses it.
    """
    length = data[start + 3] << 8 | data[start + 4]
    if data[start] not in _CONTENT_TYPES or length > _RECORD + _EXPANSION:
        return len(data)
    return start + _HEAD + length
