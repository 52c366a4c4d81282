"""Facts about a connection that a handler may ask for."""

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias


if TYPE_CHECKING:
    from collections.abc import Callable

    from tako.http.request import Request


class Carrier(enum.Enum):
    """What carries the requests of a connection."""

    HTTP1 = "http1"
    HTTP2 = "http2"
    UNIX = "unix"


@dataclass(frozen=True, slots=True)
class IpPeer:
    """An endpoint of a TCP connection; prints as ``host:port``."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixPeer:
    """An endpoint of a Unix socket; ``path`` is ``None`` for an unnamed one."""

    path: str | None = None

    def __str__(self) -> str:
        return self.path or "unix"


@dataclass(frozen=True, slots=True)
class OtherPeer:
    """An endpoint of any other kind, as its address prints."""

    address: str

    def __str__(self) -> str:
        return self.address


PeerAddr: TypeAlias = IpPeer | UnixPeer | OtherPeer


@dataclass(frozen=True, slots=True)
class TlsInfo:
    """What the TLS handshake negotiated.

    Attributes:
        version: ``"TLSv1.3"`` or ``"TLSv1.2"``.
        cipher: the cipher suite's OpenSSL name.
        alpn: ``"h2"``, ``"http/1.1"`` or ``None`` (the client offered none).
        sni: the server name that the client asked for, in lower case.
        peer_cert: the client's certificate in DER, if it presented one.
        answered_by: for tako itself: equal where two handshakes had one certificate.
    """

    version: str
    cipher: str
    alpn: str | None = None
    sni: str | None = None
    peer_cert: bytes | None = None
    answered_by: object = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class Forwarded:
    """What trusted proxies say about a request; ``ConnInfo.peer`` is then the client.

    Attributes:
        proxy: the address of the proxy that sent us the request.
        scheme: ``"http"`` or ``"https"``, as the client used it; ``None``: not said.
        authority: host and port that the request itself named, where the proxies'
            took their place; ``None`` elsewhere.
        prefix: the beginning of the path that the proxies have removed, as in a URL;
            ``""``: none.
    """

    proxy: PeerAddr
    scheme: str | None = None
    authority: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class ConnInfo:
    """The two ends of a connection, and what it runs over.

    Attributes:
        peer: the client's address: that of the connection, or what a trusted proxy
            says. Its port is 0 where that does not say it, and it is an ``OtherPeer``
            where the proxy hides it (``"_name"``) or it is not known (``"unknown"``).
        local: our own address.
        transport: the wire, ``UNIX`` for both wires on a Unix socket; h2c is ``HTTP2``
            with ``tls`` unset.
        tls: what the handshake with us negotiated, ``None`` on a plain connection.
        forwarded: what trusted proxies say about this request.
        believe: for tako itself: adopts what the peer, a trusted proxy, has written
            into the fields of a request; ``None``: the peer is not trusted.
        kept: for tako itself: what was made of these facts, to be used again.
    """

    peer: PeerAddr
    local: PeerAddr
    transport: Carrier
    tls: TlsInfo | None = None
    forwarded: Forwarded | None = None
    believe: "Callable[[Request], None] | None" = field(
        default=None, repr=False, compare=False
    )
    kept: object = field(default=None, init=False, repr=False, compare=False)


def scheme_of(info: ConnInfo) -> str:
    """Return the scheme of a request by its connection, not by what the request names.

    RFC 9113 §8.3.1: a proxy names the scheme that its own client used, but any client
    could claim ``https``. So the name in a request counts with ``trust_scheme`` only.
    """
    return "http" if info.tls is None else "https"


def prefix_of(info: ConnInfo | None) -> str:
    """Return the beginning of the path that proxies say to have removed, or ``""``."""
    return "" if info is None or info.forwarded is None else info.forwarded.prefix
