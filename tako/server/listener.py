"""``Listener``: listening sockets, and their addresses."""

import socket
from typing import Self

from tako.http.conn_info import IpPeer, PeerAddr
from tako.tcp.address import address_of


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
