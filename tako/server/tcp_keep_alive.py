"""``keep_alive``: has the kernel find hosts that are gone (RFC 9293 §3.8.4)."""

import socket

from tako.config import ServerConfig


_TCP_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})
_IDLE = ("TCP_KEEPIDLE", "TCP_KEEPALIVE")  # Linux and the BSDs; macOS


def keep_alive(
    sock: socket.socket,
    family: int,
    config: ServerConfig,
    *,
    accepted: bool = False,
) -> None:
    """Switch TCP keepalive on for a socket, and for what it accepts.

    What the platform does not have is left at its default.

    Args:
        sock: the socket.
        family: its address family; one of another kind is left alone.
        config: the figures.
        accepted: a listening socket has accepted it, so it has inherited the options,
            unless it was connected before that had them. A look is cheaper.

    Raises:
        OSError: the socket is closed.
    """
    idle = config.tcp_keep_alive_idle
    if idle is None or family not in _TCP_FAMILIES:
        return
    if accepted and sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    interval, count = config.tcp_keep_alive_interval, config.tcp_keep_alive_count
    for names, value in (
        (_IDLE, idle),
        (("TCP_KEEPINTVL",), interval),
        (("TCP_KEEPCNT",), count),
    ):
        option = next((name for name in names if hasattr(socket, name)), None)
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
