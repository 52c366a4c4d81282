"""Which peers' PROXY headers are trusted, and what they change in a request."""

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import TypeAlias

from tako.errors import ConfigError
from tako.http.conn_info import IpPeer, PeerAddr, UnixPeer
from tako.http.headers import Headers
from tako.http.request import Request
from tako.proxy.header import ProxyHeader


Network: TypeAlias = str | IPv4Network | IPv6Network

_FORWARDED = frozenset([b"forwarded", b"x-real-ip"])
_X_FORWARDED = b"x-forwarded-"


class ProxyPolicy:
    """Names the peers that are trusted to send PROXY headers.

    A peer in ``trusted`` must begin each connection with a header. From any other peer
    none is expected, and the bytes of one are a bad request.

    Args:
        trusted: networks (``"10.0.0.0/8"``) and addresses of the proxies; ``"unix"``
            stands for every process that can connect to a Unix socket.
        required: ``False`` also serves trusted peers that send no header, such as a
            load balancer's health check. Only safe if the proxies always put a header
            in front of what a client sends: else the client can send one of its own.

    Raises:
        ConfigError: ``trusted`` is empty, or has something in it that is no network.
    """

    __slots__ = ("_networks", "_unix", "required")

    def __init__(self, trusted: Iterable[Network], *, required: bool = True) -> None:
        if isinstance(trusted, str):
            msg = f'trusted takes several networks: write ["{trusted}"]'
            raise ConfigError(msg)
        names = list(trusted)
        if not names:
            msg = "trusted is empty: name the networks of the proxies"
            raise ConfigError(msg)
        self._unix = "unix" in names
        self._networks = [_network(name) for name in names if name != "unix"]
        self.required: bool = required

    @classmethod
    def everybody(cls) -> "ProxyPolicy":
        """Return a policy that trusts all peers: for a port that only proxies reach."""
        return cls(["0.0.0.0/0", "::/0", "unix"])

    def trusts(self, peer: PeerAddr) -> bool:
        """Tell whether a header from ``peer`` is trusted."""
        if isinstance(peer, UnixPeer):
            return self._unix
        if not isinstance(peer, IpPeer):
            return False
        address: IPv4Address | IPv6Address = ip_address(peer.host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # an IPv4 peer of a dual-stack socket
        return any(address in network for network in self._networks)


def _network(name: Network) -> IPv4Network | IPv6Network:
    try:
        return ip_network(name)
    except ValueError as error:
        msg = f"{name!r} is no network: {error}"
        raise ConfigError(msg) from None


def adopt_header(request: Request, header: ProxyHeader | None) -> None:
    """Give ``request`` the client address and the scheme that the proxy names.

    The fields that other proxies use for that (``Forwarded``, ``X-Forwarded-*``,
    ``X-Real-IP``) are removed, as a client could have sent them, and so are their names
    with ``_`` in place of ``-``, which CGI and WSGI cannot tell apart. ``Forwarded``
    (RFC 7239 §4) is there if, and only if, the PROXY header named the client.

    Args:
        request: to be changed.
        header: what the proxy said; ``None`` if the connection came without one.
    """
    fields = [field for field in request.headers.raw if not _is_forwarded(field[0])]
    if header is not None:
        if isinstance(header.source, IpPeer):
            # RFC 7239 §6: an IPv6 address is in brackets, and so a port needs quotes
            fields.append((b"forwarded", b'for="%b"' % str(header.source).encode()))
        if header.tls is not None and header.tls.encrypted:
            request.scheme = "https"
        request.extensions.insert(header)
    request.headers = Headers.from_raw(fields)


def _is_forwarded(name: bytes) -> bool:
    plain = name.replace(b"_", b"-")
    return plain in _FORWARDED or plain.startswith(_X_FORWARDED)
