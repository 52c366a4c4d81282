"""``keep_alive``: has the kernel find hosts that are gone (RFC 9293 §3.8.4)."""

import socket

from tako.config import ServerConfig


_TCP_FAMILIES = frozenset({socket.AF_INET, socket.AF_INET6})
_IDLE = ("TCP_KEEPIDLE", "TCP_KEEPALIVE")  # Linux and the BSDs; macOS


def keep_alive(listener: socket.socket, config: ServerConfig) -> None:
    """Switch TCP keepalive on for what a listening socket accepts.

    Accepted sockets inherit these options (Linux, BSD, macOS), so this costs nothing
    for each. What the platform does not have is left at its default.

    Raises:
        OSError: the socket is closed.
    """
    idle = config.tcp_keep_alive_idle
    if idle is None or listener.family not in _TCP_FAMILIES:
        return
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    interval, count = config.tcp_keep_alive_interval, config.tcp_keep_alive_count
    for names, value in (
        (_IDLE, idle),
        (("TCP_KEEPINTVL",), interval),
        (("TCP_KEEPCNT",), count),
    ):
        option = next((name for name in names if hasattr(socket, name)), None)
        if option is not None:
            listener.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
