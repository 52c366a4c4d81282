"""Ports for servers that are processes of their own, and have to be told one."""

import itertools
import socket


def hold(port: int) -> socket.socket:
    """Keep ``port`` (0: any) free for a server of ours, until the socket is closed.

    Raises:
        OSError: another process has it.
    """
    holder = socket.socket()
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", port))
    except OSError:
        holder.close()
        raise
    return holder


def _hold() -> int:
    holder = hold(0)
    port: int = holder.getsockname()[1]
    holder.detach()  # it is held until this process ends
    return port


HELD = 256
_ports = itertools.cycle([_hold() for _ in range(HELD)])


def free_port() -> int:
    """Return a TCP port that no other process gets; each of 256 in turn.

    A socket that is bound and does not listen holds it: a server may bind it all the
    same, since it sets SO_REUSEADDR, as all do. To a process that asks for any port it
    is taken, so that a server of another run of the tests cannot get it while the
    process that it is meant for starts.
    """
    return next(_ports)
