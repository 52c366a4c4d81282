"""``Listener``: listening sockets, and their addresses."""

import socket
from typing import Any, Self, cast

from tako.http.conn_info import IpPeer, OtherPeer, PeerAddr, UnixPeer


_MAX_PORT = 65535


class Listener:
    """One or more bound, listening sockets that are served together; see ``bind``.

    As a context manager it is closed at the end of the block.

    Args:
        sockets: they must listen already; they are made non-blocking.
    """

    __slots__ = ("sockets",)

    def __init__(self, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            sock.setblocking(False)
        self.sockets: list[socket.socket] = sockets

    @property
    def addresses(self) -> list[PeerAddr]:
        """The address of each socket, with the port chosen where 0 was asked for."""
        return [address_of(sock.family, sock.getsockname()) for sock in self.sockets]

    @property
    def local_addr(self) -> PeerAddr:
        """The address of the first socket."""
        return address_of(self.sockets[0].family, self.sockets[0].getsockname())

    @property
    def port(self) -> int:
        """The TCP port of the first socket.

        Raises:
            ValueError: this is not a TCP listener.
        """
        address = self.local_addr
        if not isinstance(address, IpPeer):
            msg = f"{address} has no port"
            raise ValueError(msg)  # noqa: TRY004 - what we are, not what we were given
        return address.port

    def close(self) -> None:
        """Stop listening; closing again is a no-op."""
        for sock in self.sockets:
            sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Several(Listener):
    """Several listeners as one."""

    __slots__ = ("_listeners",)

    def __init__(self, listeners: list[Listener]) -> None:
        super().__init__([sock for each in listeners for sock in each.sockets])
        self._listeners = listeners

    def close(self) -> None:
        """Stop listening, and remove the files of Unix sockets."""
        for each in self._listeners:
            each.close()


def address_of(family: int, address: object) -> PeerAddr:
    """Return a socket address as a ``PeerAddr``."""
    if family in {socket.AF_INET, socket.AF_INET6} and isinstance(address, tuple):
        parts = cast("Any", address)
        return IpPeer(str(parts[0]), int(parts[1]))
    if family == socket.AF_UNIX:
        if isinstance(address, bytes):  # Linux: a name in the abstract namespace
            name = address.removeprefix(b"\0").decode(errors="backslashreplace")
            return UnixPeer(f"@{name}")
        return UnixPeer(str(address) or None)
    return OtherPeer(str(address))


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``host:port`` or ``[ipv6]:port``.

    Raises:
        ValueError: ``address`` has another form.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
        msg = (
            'an address is "host:port", "[ipv6]:port", "unix:/path" or "fd://number", '
            f"not {address!r}"
        )
        raise ValueError(msg)
    return host, int(port)
