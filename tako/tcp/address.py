"""Addresses of sockets."""

import socket
from typing import Any, cast

from tako.http.conn_info import IpPeer, OtherPeer, PeerAddr, UnixPeer


_IP = frozenset({socket.AF_INET, socket.AF_INET6})


def address_of(family: int, address: object) -> PeerAddr:
    """Return a socket address as a ``PeerAddr``."""
    if family in _IP and isinstance(address, tuple):
        parts = cast("Any", address)
        return IpPeer(str(parts[0]), int(parts[1]))
    if family == socket.AF_UNIX:
        if isinstance(address, bytes):  # Linux: a name in the abstract namespace
            name = address.removeprefix(b"\0").decode(errors="backslashreplace")
            return UnixPeer(f"@{name}")
        return UnixPeer(str(address) or None)
    return OtherPeer(str(address))
