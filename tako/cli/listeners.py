"""``--bind``: addresses into listening sockets, for this process or for workers."""

import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial

from tako import runtime
from tako.cli.console import CliError
from tako.errors import ConfigError
from tako.server.bind import bind
from tako.server.listener import Listener, Several, split_address
from tako.server.systemd import descriptors


def bind_all(
    addresses: tuple[str, ...], backlog: int, unix_mode: int | None
) -> Listener:
    """Bind every address; all of them or none.

    Args:
        addresses: as for ``tako.bind``.
        backlog: connections that the kernel keeps, at each of them.
        unix_mode: the permissions of the files of Unix sockets; ``None``: the umask's.

    Raises:
        CliError: an address has another form, or cannot be bound.
    """
    with contextlib.ExitStack() as undo:
        how = partial(bind, backlog=backlog, unix_mode=unix_mode)
        listeners = [undo.enter_context(_bind(each, how)) for each in addresses]
        undo.pop_all()
    return Several(listeners)


def check(addresses: tuple[str, ...]) -> None:
    """See that TCP addresses have their form; nothing is bound.

    Raises:
        CliError: one of them has another form.
    """
    for address in addresses:
        if not address.startswith(("unix:", "fd://")):
            try:
                split_address(address)
            except ValueError as error:
                msg = f"--bind {address}: {error}"
                raise CliError(msg) from error


def keep_from_children(addresses: tuple[str, ...]) -> None:
    """Keep sockets of ``fd://`` from programs that the app starts, even on import."""
    for address in addresses:
        if address.startswith("fd://"):
            # bind_all raises where an address cannot be used
            with contextlib.suppress(OSError, ValueError, ConfigError):
                for number in descriptors(address.removeprefix("fd://")):
                    os.set_inheritable(number, False)


def adopt(numbers: list[int]) -> Listener:
    """Take over listening sockets that another process has bound."""
    return Listener([socket.socket(fileno=number) for number in numbers])


def _bind(address: str, how: Callable[[str], Awaitable[Listener]]) -> Listener:
    try:
        listener: Listener = runtime.run(how, address, loop="asyncio")
    except (ValueError, ConfigError) as error:
        msg = f"--bind {address}: {error}"
        raise CliError(msg) from error
    except OSError as error:
        msg = f"{error.strerror}; choose another --bind"
        if error.errno == errno.EADDRINUSE:
            msg += ", or stop what has this one"
        raise CliError(msg) from error
    return listener
