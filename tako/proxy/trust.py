"""``TrustedPeers``: proxies, named by address, and how an address reads."""

import functools
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


Network: TypeAlias = str | IPv4Network | IPv6Network

_REMEMBERED = 256  # addresses for which the answer is kept


class TrustedPeers:
    """Peers that are trusted: networks, what connects to a Unix socket, or all.

    Args:
        names: networks (``"10.0.0.0/8"``) and addresses; ``"unix"`` stands for every
            process that can connect to a Unix socket, ``"*"`` for every peer.

    Raises:
        ConfigError: one of them is no network.
    """

    __slots__ = ("_has", "_networks", "_unix", "everybody")

    def __init__(self, names: Iterable[Network]) -> None:
        given = list(names)
        self.everybody: bool = "*" in given
        self._unix = "unix" in given
        self._networks = [_network(it) for it in given if it not in {"unix", "*"}]
        # A proxy connects again and again; reading an address takes two microseconds.
        self._has = functools.lru_cache(_REMEMBERED)(self._look_up)

    def trusts(self, peer: PeerAddr) -> bool:
        """Tell whether what ``peer`` itself says is trusted."""
        return self.everybody or self.names(peer)

    def names(self, peer: PeerAddr) -> bool:
        """Tell whether ``peer`` is one of those that are named; ``"*"`` names none."""
        if isinstance(peer, UnixPeer):
            return self._unix
        return isinstance(peer, IpPeer) and self._has(peer.host)

    def _look_up(self, host: str) -> bool:
        address: IPv4Address | IPv6Address = ip_address(host.partition("%")[0])
        if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped  # an IPv4 peer of a dual-stack socket
        return any(address in network for network in self._networks)


def _network(name: Network) -> IPv4Network | IPv6Network:
    try:
        return ip_network(name)
    except ValueError as error:
        msg = f"{name!r} is no network: {error}"
        raise ConfigError(msg) from None


def ipv6_text(address: IPv6Address) -> str:
    """Return the text of RFC 5952 §4 and §5, which spells mapped addresses mixed."""
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"
