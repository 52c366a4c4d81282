"""``--bind``: addresses into listening sockets, for this process or for workers."""

import os
import socket
import stat
from pathlib import Path

from tako import runtime
from tako.cli.saying import CliError
from tako.conn_info import UnixPeer
from tako.listener import Listener, address_of, bind


BACKLOG = 1024


def bind_all(addresses: tuple[str, ...]) -> Listener:
    """Bind every address; all of them or none.

    Args:
        addresses: ``host:port``, ``unix:/path`` or ``fd://number``.

    Raises:
        CliError: an address has another form, or cannot be bound.
    """
    sockets: list[socket.socket] = []
    try:
        for address in addresses:
            sockets += _bind(address)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return Listener(sockets)


def adopt(descriptors: list[int]) -> Listener:
    """Take over listening sockets that another process has bound."""
    return Listener([socket.socket(fileno=number) for number in descriptors])


def remove_paths(listener: Listener) -> None:
    """Remove the files of Unix sockets; for the process that bound them, at its end."""
    for path in unix_paths(listener):
        path.unlink(missing_ok=True)


def unix_paths(listener: Listener) -> list[Path]:
    """Return the files of the Unix sockets in ``listener``."""
    found: list[Path] = []
    for sock in listener.sockets:
        address = address_of(sock.family, sock.getsockname())
        if isinstance(address, UnixPeer) and address.path is not None:
            found.append(Path(address.path))
    return found


def _bind(address: str) -> list[socket.socket]:
    if address.startswith("unix:"):
        return [_bind_unix(address.removeprefix("unix:"))]
    if address.startswith("fd://"):
        return [_inherited(address)]
    try:
        listener: Listener = runtime.run(bind, address, loop="asyncio")
    except ValueError as error:
        msg = f"--bind {address}: {error}, or unix:/path, or fd://number"
        raise CliError(msg) from error
    except OSError as error:
        msg = f"{error.strerror}; choose another --bind, or stop what has this one"
        raise CliError(msg) from error
    return listener.sockets


def _bind_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        msg = f"cannot listen on unix:{path}: {error.strerror or error}"
        raise CliError(msg) from error
    return sock


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)


def _inherited(address: str) -> socket.socket:
    number = address.removeprefix("fd://")
    if not (number.isascii() and number.isdigit()):
        msg = f"--bind {address}: write the number of a file descriptor, as in fd://3"
        raise CliError(msg)
    try:
        sock = socket.socket(fileno=int(number))
    except OSError as error:
        msg = f"--bind {address}: descriptor {number} is no open socket"
        raise CliError(msg) from error
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.detach()
        msg = f"--bind {address}: the socket does not listen"
        raise CliError(msg)
    return sock
