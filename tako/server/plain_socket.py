"""``PlainSocket``: a socket whose family and type are numbers.

``socket.socket`` makes a member of an enum of them whenever they are read, for some
5,000 instructions (CPython 3.13). uvloop reads them four times for each connection.
"""

import socket


class PlainSocket(socket.socket):
    """What an accepted socket becomes (``__class__``); nothing else differs."""

    __slots__ = ()

    family: int = socket.SocketType.family  # type: ignore[assignment]
    type: int = socket.SocketType.type  # type: ignore[assignment]
