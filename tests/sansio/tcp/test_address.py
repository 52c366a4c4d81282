"""``address_of``: what the loops and the kernel call an address."""

import socket

from tako.http.conn_info import IpPeer, OtherPeer, UnixPeer
from tako.tcp.address import address_of


def test_each_family() -> None:
    assert address_of(socket.AF_INET, ("1.2.3.4", 5)) == IpPeer("1.2.3.4", 5)
    assert address_of(socket.AF_INET6, ("::1", 5, 0, 0)) == IpPeer("::1", 5)
    assert address_of(socket.AF_UNIX, "/run/s") == UnixPeer("/run/s")
    assert address_of(socket.AF_UNIX, "") == UnixPeer(None)
    assert address_of(-1, 7) == OtherPeer("7")
