"""``--bind``: addresses into listening sockets, for this process or for workers."""

import contextlib
import os
import socket
from functools import partial

from tako import runtime
from tako.cli.console import CliError
from tako.server.listener import Listener, bind
from tako.server.unix import bind_unix


class Bound(Listener):
    """Several listeners as one."""

    __slots__ = ("_listeners",)

    def __init__(self, listeners: list[Listener]) -> None:
        super().__init__([sock for each in listeners for sock in each.sockets])
        self._listeners = listeners

    def close(self) -> None:
        """Stop listening; the files of Unix sockets go."""
        for each in self._listeners:
            each.close()


def bind_all(addresses: tuple[str, ...]) -> Listener:
    """Bind every address; all of them or none.

    Args:
        addresses: ``host:port``, ``unix:/path`` or ``fd://number``.

    Raises:
        CliError: an address has another form, or cannot be bound.
    """
    with contextlib.ExitStack() as undo:
        listeners = [undo.enter_context(_bind(address)) for address in addresses]
        undo.pop_all()
    return Bound(listeners)


def keep_from_children(addresses: tuple[str, ...]) -> None:
    """Let no program that the app starts, at its import even, inherit our sockets."""
    for address in addresses:
        number = address.removeprefix("fd://")
        if address.startswith("fd://") and number.isascii() and number.isdigit():
            with contextlib.suppress(OSError):  # it is not open: bind_all says so
                os.set_inheritable(int(number), False)


def adopt(descriptors: list[int]) -> Listener:
    """Take over listening sockets that another process has bound."""
    return Listener([socket.socket(fileno=number) for number in descriptors])


def _bind(address: str) -> Listener:
    if address.startswith("fd://"):
        return Listener([_inherited(address)])
    how = partial(bind, address)
    if address.startswith("unix:"):
        how = partial(bind_unix, address.removeprefix("unix:"))
    try:
        listener: Listener = runtime.run(how, loop="asyncio")
    except ValueError as error:
        msg = f"--bind {address}: {error}, or unix:/path, or fd://number"
        raise CliError(msg) from error
    except OSError as error:
        msg = f"{error.strerror}; choose another --bind, or stop what has this one"
        raise CliError(msg) from error
    return listener


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
