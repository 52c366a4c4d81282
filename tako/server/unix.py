"""Unix sockets as listeners."""

import contextlib
import errno
import os
import socket
import stat
import sys

from tako.server.listener import Listener


class UnixListener(Listener):
    """A listening Unix socket; its file is removed when it is closed."""

    __slots__ = ("_file", "_path")

    def __init__(self, sock: socket.socket, path: str | None) -> None:
        """Wrap ``sock``; ``path`` is that of its file, if it has one."""
        super().__init__([sock])
        self._path = path
        self._file = None if path is None else _identity(path)

    def close(self) -> None:
        """Stop listening and remove the file, unless another one has its name now."""
        super().close()
        path, self._path = self._path, None
        if path is None or self._file is None or _identity(path) != self._file:
            return
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def bind_unix(name: str, *, backlog: int, mode: int | None = None) -> Listener:
    """Bind a Unix socket and listen.

    Args:
        name: a path, or ``"@name"``; see ``bind``.
        backlog: connections that the kernel keeps for the server to accept.
        mode: the permissions of the file; ``None``: what the umask leaves.

    Raises:
        ValueError: ``name`` is empty.
        OSError: another server listens there, there is a file that is no socket, or it
            cannot be bound.
    """
    if not name:
        msg = "unix: takes a path, as in unix:/run/app.sock, or unix:@name"
        raise ValueError(msg)
    if name.startswith("@"):
        if sys.platform != "linux":
            msg = f"cannot listen on {name}: abstract Unix sockets are Linux's"
            raise OSError(errno.EOPNOTSUPP, msg)
        return UnixListener(_listen(name, "\0" + name[1:], backlog, None), None)
    _make_room(name)
    return UnixListener(_listen(name, name, backlog, mode), name)


def _listen(name: str, address: str, backlog: int, mode: int | None) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(address)
        if mode is not None:  # until it listens it cannot be connected to
            os.chmod(address, mode)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        text = f"cannot listen on {name}: {error.strerror or error}"
        raise OSError(error.errno or errno.EINVAL, text) from None
    return sock


def _make_room(path: str) -> None:
    """Remove the socket of a server that is gone.

    Raises:
        OSError: there is something else, or a server that is not gone.
    """
    try:
        mode = os.lstat(path).st_mode  # a link to a socket is not ours to remove either
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        text = f"{path} exists but is not a unix socket; refusing to remove"
        raise FileExistsError(errno.EEXIST, text)
    if _is_alive(path):
        raise OSError(errno.EADDRINUSE, f"Unix socket {path} is already in use")
    with contextlib.suppress(FileNotFoundError):  # another server was faster
        os.unlink(path)


def _is_alive(path: str) -> bool:
    """Tell whether a server listens on the socket at ``path``; does not block."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # its backlog is full: a server listens
            return True
    return True


def _identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file at ``path`` from a later one of that name."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
