"""Sockets that this process was started with: ``fd://``, and ``sd_listen_fds(3)``."""

import errno
import os
import socket

from tako.errors import ConfigError
from tako.server.listener import Listener


_FIRST = 3  # SD_LISTEN_FDS_START: the first one after stdin, stdout and stderr
_FAMILIES = {socket.AF_INET, socket.AF_INET6, socket.AF_UNIX}


def inherited(which: str) -> Listener:
    """Take over listening sockets; no child of this process inherits them.

    The file of a Unix socket belongs to the supervisor, and stays.

    Args:
        which: as for ``descriptors``.

    Raises:
        ValueError: ``which`` is empty.
        ConfigError: systemd's environment variables are malformed.
        OSError: a descriptor is no listening socket.
    """
    sockets: list[socket.socket] = []
    try:
        for number in descriptors(which):
            sockets.append(_listening(number))
            sockets[-1].set_inheritable(False)
    except OSError as error:
        for sock in sockets:
            sock.detach()  # still there, as it was
        text = f"cannot listen on fd://{which}: {error.strerror}"
        raise OSError(error.errno, text) from None
    return Listener(sockets)


def descriptors(which: str) -> list[int]:
    """Return the numbers of the descriptors that ``fd://`` with ``which`` means.

    Args:
        which: a number, or the name that systemd has given to one or more of them.

    Raises:
        ValueError: ``which`` is empty.
        ConfigError: systemd's environment variables are malformed.
        OSError: no descriptor has this name.
    """
    if not which:
        msg = "fd:// takes the number of a descriptor, as in fd://3, or its name"
        raise ValueError(msg)
    if which.isascii() and which.isdigit():
        return [_number("fd://", which)]
    names = _names()
    found = [number for number, name in enumerate(names, _FIRST) if name == which]
    if not found:
        text = f"systemd has passed {', '.join(names) or 'nothing'}"
        raise OSError(errno.ENOENT, text)
    return found


def _names() -> list[str]:
    """Return what systemd calls the descriptors that it has passed to this process."""
    pid, count, names = map(
        os.environ.get, ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    # children inherit the variables, which are not meant for them
    if not pid or not count or _number("LISTEN_PID=", pid) != os.getpid():
        return []
    found = names.split(":") if names else []
    return found[: _number("LISTEN_FDS=", count)]


def _listening(number: int) -> socket.socket:
    """Return the socket that descriptor ``number`` is.

    Raises:
        OSError: it is none that listens for streams; it stays as it is.
    """
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:  # a pipe, a file, or nothing
        raise OSError(error.errno, f"{number} is no open socket") from None
    if (
        sock.family not in _FAMILIES
        or sock.type != socket.SOCK_STREAM
        or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    ):
        sock.detach()
        raise OSError(errno.EINVAL, f"{number} is no socket that listens for streams")
    return sock


def _number(name: str, text: str) -> int:
    # Linux has no larger process id, and no process has that many descriptors.
    if not text.isascii() or not text.isdigit() or int(text) > 1 << 22:
        msg = f"{name}{text} is no number that can be"
        raise ConfigError(msg)
    return int(text)
