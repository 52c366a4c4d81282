"""``ProtocolDetector``: protocol detection, before a connection has an engine.

Theory of operation. *PROXY header*, from a trusted proxy -> *first bytes*, on a port
for everything: a TLS record, the preface of HTTP/2, or else HTTP/1.1 -> decided. Then
``rest`` holds the bytes for the engine, and the detector has done its work.

The PROXY protocol forbids guessing whether a header is there (its specification, §2):
a peer that may send one may claim any address. So the peer's network decides it. A peer
that ``ProxyPolicy`` trusts has to send a header; from others none is looked for.

Invariants: nothing but ``ProxyProtocolError`` is raised because of input; bytes behind
the header come out in ``rest``, in order and untouched; before a decision fewer than 24
bytes are kept.
"""

from typing import Literal, TypeAlias

from tako.config import ServerConfig
from tako.proxy.header import ProxyHeader, ProxyReader
from tako.proxy.policy import ProxyPolicy
from tako.tcp.protocol import Protocol


ListenerProtocol: TypeAlias = Literal["http/1.1", "h2", "tls", "any"]
"""What a listener speaks; with ``"any"`` the first bytes of each connection decide."""

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113 §3.4
_HANDSHAKE_RECORD = 0x16  # RFC 8446 §5.1


class ProtocolDetector:
    """Looks at the first bytes of one connection.

    Attributes:
        header: the PROXY header, once it is complete.
        rest: the bytes for the engine or TLS, once the protocol is decided.
    """

    __slots__ = (
        "_buffer",
        "_config",
        "_optional",
        "_protocol",
        "_reader",
        "_tls",
        "header",
        "rest",
    )

    def __init__(
        self,
        config: ServerConfig,
        protocol: ListenerProtocol,
        *,
        tls: bool,
        policy: ProxyPolicy | None,
    ) -> None:
        """Make a detector.

        Args:
            config: timeouts and limits.
            protocol: what the listener speaks.
            tls: the listener has a certificate.
            policy: trusts the peer; ``None``: the peer sends no PROXY header.
        """
        self._config = config
        self._protocol: ListenerProtocol = protocol
        self._tls = tls
        self._reader = None if policy is None else ProxyReader(config.max_proxy_header)
        self._optional = policy is not None and not policy.required
        self._buffer = b""
        self.header: ProxyHeader | None = None
        self.rest: bytes = b""

    @property
    def awaited(self) -> str:
        """What the connection waits for, in words."""
        return "first bytes" if self._reader is None else "PROXY header"

    @property
    def begun(self) -> bool:
        """A PROXY header has begun and is not complete."""
        reader = self._reader
        return reader is not None and (reader.begun or bool(self._buffer))

    @property
    def timeout(self) -> float:
        """Seconds for what is awaited; the TLS handshake has to fit in as well."""
        if self._reader is None:
            return self._config.tls_handshake_timeout
        return self._config.proxy_read_timeout

    def receive_data(self, data: bytes) -> Protocol | None:
        """Take bytes; return what the connection speaks once that is known.

        Raises:
            ProxyProtocolError: the PROXY header is missing or malformed.
        """
        reader = self._reader
        if reader is None:
            return self._sniff(data)
        if self._optional:
            data = self._buffer + data
            likely = _may_be_header(data)
            self._buffer = data if likely is None else b""
            if likely is None:
                return None
            self._optional = False
            if not likely:
                self._reader = None
                return self._sniff(data)
        self.header = reader.receive_data(data)
        if self.header is None:
            return None
        self._reader = None
        return self._sniff(reader.rest)

    def _sniff(self, data: bytes) -> Protocol | None:
        self._buffer += data
        self.rest = self._buffer
        if self._protocol != "any":
            return self._protocol
        if not self._buffer:
            return None
        if self._tls and self._buffer[0] == _HANDSHAKE_RECORD:
            return "tls"
        if self._buffer.startswith(_PREFACE):
            return "h2"
        # RFC 9113 §3.4: the preface was chosen to be no request of HTTP/1.1
        return None if _PREFACE.startswith(self._buffer) else "http/1.1"


def _may_be_header(data: bytes) -> bool | None:
    """Tell whether ``data`` begins as a PROXY header does; ``None``: not yet known."""
    # Enough to tell it from PROPFIND, the preface, and empty lines before a request.
    for beginning in (b"PROXY", b"\r\n\r\n\0"):
        if data.startswith(beginning):
            return True
        if beginning.startswith(data):
            return None
    return False
