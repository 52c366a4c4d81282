"""Which peers' PROXY headers are trusted, and what they change in a request."""

from collections.abc import Iterable

from tako.errors import ConfigError
from tako.http.conn_info import IpPeer, PeerAddr
from tako.http.headers import Headers
from tako.http.request import Request
from tako.proxy.header import ProxyHeader
from tako.proxy.trust import Network, TrustedPeers


_FORWARDED = frozenset([b"forwarded", b"x-real-ip"])
_X_FORWARDED = b"x-forwarded-"


class ProxyPolicy:
    """Names the peers that are trusted to send PROXY headers.

    A peer in ``trusted`` must begin each connection with a header. From any other peer
    none is expected, and the bytes of one are a bad request.

    Args:
        trusted: networks (``"10.0.0.0/8"``) and addresses of the proxies; ``"unix"``
            stands for every process that can connect to a Unix socket, ``"*"`` for
            every peer.
        required: ``False`` also serves trusted peers that send no header, such as a
            load balancer's health check. Only safe if the proxies always put a header
            in front of what a client sends: else the client can send one of its own.

    Raises:
        ConfigError: ``trusted`` is empty, or has something in it that is no network.
    """

    __slots__ = ("_trusted", "required")

    def __init__(self, trusted: Iterable[Network], *, required: bool = True) -> None:
        if isinstance(trusted, str):
            msg = f'trusted takes several networks: write ["{trusted}"]'
            raise ConfigError(msg)
        names = list(trusted)
        if not names:
            msg = "trusted is empty: name the networks of the proxies"
            raise ConfigError(msg)
        self._trusted = TrustedPeers(names)
        self.required: bool = required

    @classmethod
    def everybody(cls) -> "ProxyPolicy":
        """Return a policy that trusts all peers: for a port that only proxies reach."""
        return cls(["*"])

    def trusts(self, peer: PeerAddr) -> bool:
        """Tell whether a header from ``peer`` is trusted."""
        return self._trusted.trusts(peer)


def adopt_header(request: Request, header: ProxyHeader | None) -> None:
    """Give ``request`` the client address and the scheme that the proxy names.

    The fields that other proxies use for that (``Forwarded``, ``X-Forwarded-*``,
    ``X-Real-IP``) are removed, as a client could have sent them, and so are their names
    with ``_`` in place of ``-``, which CGI and WSGI cannot tell apart. ``Forwarded``
    (RFC 7239 §4) is there if, and only if, the PROXY header named the client.

    If that client is itself a trusted proxy (``ConnInfo.believe``), its fields stay,
    and what they say counts.

    Args:
        request: to be changed.
        header: what the proxy said; ``None`` if the connection came without one.
    """
    info = request.conn_info
    forwarded = None if info is None else info.forwarded
    encrypted = header is not None and header.tls is not None and header.tls.encrypted
    if encrypted and (forwarded is None or forwarded.scheme is None):
        request.scheme = "https"
    if forwarded is None:
        fields = [field for field in request.headers.raw if not _is_forwarded(field[0])]
        if header is not None and isinstance(header.source, IpPeer):
            # RFC 7239 §6: an IPv6 address is in brackets, and so a port needs quotes
            fields.append((b"forwarded", b'for="%b"' % str(header.source).encode()))
        request.headers = Headers.from_raw(fields)
    if header is not None:
        request.extensions.insert(header)


def _is_forwarded(name: bytes) -> bool:
    plain = name.replace(b"_", b"-")
    return plain in _FORWARDED or plain.startswith(_X_FORWARDED)
