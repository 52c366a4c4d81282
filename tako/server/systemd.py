"""Sockets that systemd (or another supervisor) opened for us: ``sd_listen_fds(3)``."""

import os
import socket
from collections.abc import MutableMapping
from typing import Self

from tako.errors import ConfigError
from tako.server.listener import Listener


_FIRST = 3  # SD_LISTEN_FDS_START: the first one after stdin, stdout and stderr
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


class ListenFds:
    """The file descriptors that this process was started with.

    Each can be taken once, as what it is.

    Attributes:
        names: what the supervisor calls them (``FileDescriptorName=``), in order; empty
            if it does not say.
    """

    __slots__ = ("_fds", "names")

    def __init__(self, count: int = 0, names: tuple[str, ...] = ()) -> None:
        """Not for applications: use ``from_env``."""
        self._fds: list[int | None] = list(range(_FIRST, _FIRST + count))
        self.names: tuple[str, ...] = names

    @classmethod
    def from_env(cls, environ: MutableMapping[str, str] | None = None) -> Self:
        """Return what ``LISTEN_FDS`` announces, if ``LISTEN_PID`` is our process.

        The variables are removed, so that no child takes them for its own, and the
        descriptors are closed in children.

        Args:
            environ: where to look in place of ``os.environ``.

        Raises:
            ConfigError: the variables make no sense.
        """
        environ = os.environ if environ is None else environ
        pid, count, names = (environ.pop(name, "") for name in _VARIABLES)
        if not pid or not count or _number("LISTEN_PID", pid) != os.getpid():
            return cls()
        found = cls(
            _number("LISTEN_FDS", count), tuple(names.split(":")) if names else ()
        )
        for fd in range(_FIRST, _FIRST + len(found)):
            try:
                os.set_inheritable(fd, False)
            except OSError as error:
                msg = f"LISTEN_FDS={count}, but {fd} is not open: {error.strerror}"
                raise ConfigError(msg) from None
        return found

    def __len__(self) -> int:
        """Return how many there were, taken or not."""
        return len(self._fds)

    def is_empty(self) -> bool:
        """Tell whether there were none."""
        return not self._fds

    def tcp_listener(self, index: int) -> Listener | None:
        """Take a listening TCP socket; ``None`` if ``index`` is none, or taken."""
        return self._take(index, {socket.AF_INET, socket.AF_INET6})

    def unix_listener(self, index: int) -> Listener | None:
        """Take a listening Unix socket; ``None`` if ``index`` is none, or taken.

        Its file belongs to the supervisor and stays.
        """
        return self._take(index, {socket.AF_UNIX})

    def _take(self, index: int, families: set[int]) -> Listener | None:
        fd = self._fds[index] if 0 <= index < len(self._fds) else None
        if fd is None:
            return None
        try:
            sock = socket.socket(fileno=fd)
        except OSError:  # a pipe, a file, or nothing
            return None
        if (
            sock.family not in families
            or sock.type != socket.SOCK_STREAM
            or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        ):
            sock.detach()  # still there for who asks for what it is
            return None
        self._fds[index] = None
        return Listener([sock])


def _number(name: str, text: str) -> int:
    # Linux has no larger process id, and no process has that many descriptors.
    if not text.isascii() or not text.isdigit() or int(text) > 1 << 22:
        msg = f"{name}={text!r} is no number that can be"
        raise ConfigError(msg)
    return int(text)
