"""``ClientHelloReader``: the first message of a TLS connection, read before OpenSSL.

Theory of operation. The server name decides which certificate answers, and the ALPN
list decides whether there is a protocol in common; both are known before any key is
made. The reader collects bytes until the ClientHello is complete: it may be cut over
many records (RFC 8446 §5.1) and the records over any number of reads. ``raw``
keeps the bytes as they came, so that OpenSSL can be fed with them afterwards.

Invariants: everything that announces more than ``LIMIT`` bytes is refused when the
announcement is read, so at most ``LIMIT`` bytes plus one read are ever held; each byte
is looked at a fixed number of times, however small the pieces are.
"""

from enum import IntEnum
from typing import Final, NamedTuple


LIMIT: Final = 64 * 1024
"""The most bytes, records included, that a ClientHello may take (usual: 2 KiB)."""

_MAX_RECORDS: Final = 1024  # that a ClientHello may be cut into; a large one takes two
_RECORD_HEADER: Final = 5
_HANDSHAKE_HEADER: Final = 4
_MAX_FRAGMENT: Final = (
    1 << 14
)  # RFC 8446 §5.1: TLSPlaintext.length MUST NOT exceed 2^14
_HANDSHAKE: Final = 22  # RFC 8446 §5.1: ContentType.handshake
_CLIENT_HELLO: Final = 1  # RFC 8446 §4: HandshakeType.client_hello
_SERVER_NAME: Final = 0  # RFC 6066 §3: ExtensionType, and NameType.host_name
_ALPN: Final = 16  # RFC 7301 §3.1: ExtensionType


class Alert(IntEnum):
    """The fatal alerts that tako sends itself (RFC 8446 §6.2, RFC 7301 §3.2)."""

    UNEXPECTED_MESSAGE = 10
    RECORD_OVERFLOW = 22
    ILLEGAL_PARAMETER = 47
    DECODE_ERROR = 50
    INTERNAL_ERROR = 80
    UNRECOGNIZED_NAME = 112
    NO_APPLICATION_PROTOCOL = 120

    @property
    def record(self) -> bytes:
        """The alert as a plaintext record: valid before there are keys."""
        # RFC 8446 §5.1 legacy_record_version 0x0303; §6: level fatal (2), description
        return bytes((21, 3, 3, 0, 2, 2, self))


class ClientHelloError(Exception):
    """The peer did not begin with a ClientHello that can be served.

    Args:
        alert: what to tell the peer; ``None`` if it does not speak TLS at all.
        text: what is wrong, for the log.

    Attributes:
        plain_http: the peer speaks HTTP where TLS is spoken.
    """

    def __init__(
        self, alert: Alert | None, text: str, *, plain_http: bool = False
    ) -> None:
        super().__init__(text)
        self.alert = alert
        self.plain_http = plain_http


class ClientHello(NamedTuple):
    """What tako reads from a ClientHello.

    Attributes:
        sni: the host name asked for, in lower case; ``None`` if there is none.
        alpn: the protocols offered, in the client's order; ``None`` if it offered none.
    """

    sni: str | None
    alpn: tuple[bytes, ...] | None


class ClientHelloReader:
    """Collects bytes until the ClientHello is complete."""

    __slots__ = ("_message", "_read", "_records", "raw")

    def __init__(self) -> None:
        self.raw: bytearray = bytearray()
        self._message = bytearray()
        self._records = 0
        self._read = 0  # start of the first record in raw that is not in _message

    def receive_data(self, data: bytes) -> ClientHello | None:
        """Take bytes from the peer; return the ClientHello once it is complete.

        Raises:
            ClientHelloError: the bytes cannot become one; do not use the reader again.
        """
        self.raw += data
        self._check_start()
        while (fragment := self._next_fragment()) is not None:
            self._message += fragment
            self._records += 1
            if self._records > _MAX_RECORDS:  # each takes a microsecond, in one turn
                raise ClientHelloError(Alert.UNEXPECTED_MESSAGE, "too many records")
            size = self._message_size()
            if size is not None and len(self._message) >= size:
                return parse_client_hello(bytes(self._message[_HANDSHAKE_HEADER:size]))
        if len(self.raw) > LIMIT:
            raise ClientHelloError(Alert.DECODE_ERROR, "ClientHello too long")
        return None

    def _check_start(self) -> None:
        """Refuse other protocols than TLS by their first byte."""
        if self._read == 0 and self.raw and self.raw[0] != _HANDSHAKE:
            if self.raw[0] == 21:  # RFC 8446 §5.1: ContentType.alert
                raise ClientHelloError(None, "an alert instead of a ClientHello")
            # RFC 9110 §9.1: a method is a token; those that exist begin with a letter
            plain_http = self.raw[:1].isalpha()
            kind = "plain HTTP" if plain_http else "unknown bytes"
            text = f"{kind} instead of a TLS ClientHello"
            raise ClientHelloError(None, text, plain_http=plain_http)

    def _next_fragment(self) -> bytearray | None:
        """Return what the next complete record carries, ``None`` if none is there."""
        start = self._read + _RECORD_HEADER
        if len(self.raw) < start:
            return None
        kind, major, _, high, low = self.raw[self._read : start]
        size = high << 8 | low
        if kind != _HANDSHAKE or major != 3:
            raise ClientHelloError(Alert.UNEXPECTED_MESSAGE, "not a handshake record")
        if size > _MAX_FRAGMENT:
            # RFC 8446 §5.1: a longer record MUST end with record_overflow
            raise ClientHelloError(Alert.RECORD_OVERFLOW, "record too long")
        if size == 0:
            # RFC 8446 §5.1: no zero-length fragments of handshake types
            raise ClientHelloError(Alert.UNEXPECTED_MESSAGE, "empty record")
        self._check_announcement(start, size)
        if len(self.raw) < start + size:
            return None
        self._read = start + size
        return self.raw[start : self._read]

    def _check_announcement(self, start: int, size: int) -> None:
        """Refuse a message that is too long before the rest of its record is there."""
        if not self._message:
            end = start + min(size, _HANDSHAKE_HEADER)
            self._check_header(self.raw[start:end])

    def _check_header(self, header: bytearray) -> int | None:
        """Return the size of the message with its header, ``None`` if not known yet."""
        if header and header[0] != _CLIENT_HELLO:
            raise ClientHelloError(Alert.UNEXPECTED_MESSAGE, "not a ClientHello")
        if len(header) < _HANDSHAKE_HEADER:
            return None
        size = _HANDSHAKE_HEADER + (header[1] << 16 | header[2] << 8 | header[3])
        if size > LIMIT:
            raise ClientHelloError(Alert.DECODE_ERROR, "ClientHello too long")
        return size

    def _message_size(self) -> int | None:
        return self._check_header(self._message[:_HANDSHAKE_HEADER])


def parse_client_hello(body: bytes) -> ClientHello:
    """Read the body of a ClientHello message (RFC 8446 §4.1.2).

    Raises:
        ClientHelloError: it is malformed.
    """
    at = _end(body, 2 + 32, 1)  # legacy_version, random; legacy_session_id
    at = _end(body, at, 2)  # cipher_suites
    at = _end(body, at, 1)  # legacy_compression_methods
    if at == len(body):  # RFC 5246 §7.4.1.2: a ClientHello may end without extensions
        return ClientHello(None, None)
    if _end(body, at, 2) != len(body):
        raise ClientHelloError(Alert.DECODE_ERROR, "bytes after the ClientHello")
    names = protocols = None
    seen: set[int] = set()
    at += 2
    while at < len(body):
        end = _end(body, at + 2, 2)
        kind = body[at] << 8 | body[at + 1]
        if kind in seen:
            # RFC 8446 §4.2: there MUST NOT be more than one extension of the same type
            raise ClientHelloError(Alert.ILLEGAL_PARAMETER, "repeated extension")
        seen.add(kind)
        if kind == _SERVER_NAME:
            names = body[at + 4 : end]
        elif kind == _ALPN:
            protocols = body[at + 4 : end]
        at = end
    return ClientHello(
        None if names is None else _host_name(names),
        None if protocols is None else _protocols(protocols),
    )


def _end(data: bytes, at: int, width: int) -> int:
    """Return where the vector ends whose length is the ``width`` bytes at ``at``."""
    end = at + width
    if end <= len(data):
        end += data[at] if width == 1 else data[at] << 8 | data[at + 1]
        if end <= len(data):
            return end
    raise ClientHelloError(Alert.DECODE_ERROR, "ClientHello cut short")


def _vector(data: bytes, at: int, width: int) -> tuple[bytes, int]:
    """Return the vector whose length is the ``width`` bytes at ``at``, and its end."""
    end = _end(data, at, width)
    return data[at + width : end], end


def _host_name(value: bytes) -> str:
    """Return the name in a server_name extension (RFC 6066 §3), in lower case."""
    names, end = _vector(value, 0, 2)
    if end != len(value) or names[:1] != bytes((_SERVER_NAME,)):
        raise ClientHelloError(Alert.DECODE_ERROR, "malformed server_name")
    host, end = _vector(names, 1, 2)
    # RFC 6066 §3: one name of a type at most, and host_name is the only type there is
    if end != len(names) or not host:
        raise ClientHelloError(Alert.DECODE_ERROR, "malformed server_name")
    text = host.decode("latin-1")
    if not text.isascii() or not text.isprintable() or " " in text:
        # RFC 6066 §3: a byte string in ASCII; anything else must not reach a log
        raise ClientHelloError(Alert.ILLEGAL_PARAMETER, "malformed server_name")
    return text.lower()


def _protocols(value: bytes) -> tuple[bytes, ...]:
    """Return the names in an ALPN extension (RFC 7301 §3.1)."""
    names, end = _vector(value, 0, 2)
    found: list[bytes] = []
    at = 0
    while at < len(names):
        name, at = _vector(names, at, 1)
        found.append(name)
    if end != len(value) or not found or not all(found):
        # RFC 7301 §3.1: at least one protocol, none of them empty
        raise ClientHelloError(Alert.DECODE_ERROR, "malformed ALPN")
    return tuple(found)
