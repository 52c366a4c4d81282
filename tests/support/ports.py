"""Ports for servers that are processes of their own, and have to be told one."""

import os
import socket
from collections import deque


_HELD = 64
_held: deque[int] = deque()  # file descriptors


def free_port() -> int:
    """Return a TCP port that nobody has and nobody else is given for a while.

    A socket that is bound and does not listen holds it, until 64 more were asked for: a
    server may bind it all the same, since it sets SO_REUSEADDR, as all do. To whoever
    asks for any port it is taken, so that a server of another run of the tests cannot
    get it while the process that it is meant for starts.
    """
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    port: int = holder.getsockname()[1]
    _held.append(holder.detach())
    if len(_held) > _HELD:
        os.close(_held.popleft())
    return port
