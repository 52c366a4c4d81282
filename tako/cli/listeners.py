"""``--bind`` and its like: addresses into listening sockets.

For this process, or for workers.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING

from tako import runtime
from tako.cli.console import CliError
from tako.errors import ConfigError
from tako.server.bind import bind
from tako.server.listener import Listener, Several, split_address
from tako.server.systemd import descriptors


if TYPE_CHECKING:
    from tako.cli.plan import Plan


class Bound(Several):
    """What ``tako serve`` listens on.

    Attributes:
        main: what ``--bind`` names.
        plain: what ``--bind-plain`` names; ``None``: nothing.
        metrics: what ``--metrics-bind`` names; ``None``: nothing.
        inspect: what ``--inspect-bind`` names; ``None``: nothing.
    """

    __slots__ = ("inspect", "main", "metrics", "plain")

    def __init__(
        self,
        main: Listener,
        plain: Listener | None,
        metrics: Listener | None = None,
        inspect: Listener | None = None,
    ) -> None:
        those = (main, plain, metrics, inspect)
        super().__init__([each for each in those if each is not None])
        self.main: Listener = main
        self.plain: Listener | None = plain
        self.metrics: Listener | None = metrics
        self.inspect: Listener | None = inspect


def bind_all(
    addresses: tuple[str, ...],
    plain: tuple[str, ...],
    backlog: int,
    unix_mode: int | None,
    metrics: tuple[str, ...] = (),
    inspect: tuple[str, ...] = (),
) -> Bound:
    """Bind every address; all of them or none.

    Args:
        addresses: as for ``tako.bind``.
        plain: those without TLS beside them.
        backlog: connections that the kernel keeps, at each of them.
        unix_mode: the permissions of the files of Unix sockets; ``None``: the umask's.
        metrics: those for metrics.
        inspect: that of the inspector.

    Raises:
        CliError: an address has another form, or cannot be bound.
    """
    with contextlib.ExitStack() as undo:
        how = partial(bind, backlog=backlog, unix_mode=unix_mode)
        main, *rest = (
            [undo.enter_context(_bind(option, each, how)) for each in those]
            for option, those in (
                ("--bind", addresses),
                ("--bind-plain", plain),
                ("--metrics-bind", metrics),
                ("--inspect-bind", inspect),
            )
        )
        undo.pop_all()
    others = (Several(those) if those else None for those in rest)
    return Bound(Several(main), *others)


def bind_plan(plan: "Plan") -> Bound:
    """Bind what a plan names; raises as ``bind_all`` does."""
    return bind_all(
        plan.binds,
        plan.plain_binds,
        plan.backlog,
        plan.unix_mode,
        plan.metrics_binds,
        plan.inspect_binds,
    )


def check(option: str, addresses: tuple[str, ...]) -> None:
    """See that the TCP addresses of an option have their form; nothing is bound.

    Raises:
        CliError: one of them has another form.
    """
    for address in addresses:
        if not address.startswith(("unix:", "fd://")):
            try:
                split_address(address)
            except ValueError as error:
                msg = f"{option} {address}: {error}"
                raise CliError(msg) from error


def keep_from_children(addresses: tuple[str, ...]) -> None:
    """Keep sockets of ``fd://`` from programs that the app starts, even on import."""
    for address in addresses:
        if address.startswith("fd://"):
            # bind_all raises where an address cannot be used
            with contextlib.suppress(OSError, ValueError, ConfigError):
                for number in descriptors(address.removeprefix("fd://")):
                    os.set_inheritable(number, False)


def adopt(main: list[int], *others: list[int]) -> Bound:
    """Take over listening sockets of another process, in the order of ``Bound``."""
    first, *rest = (
        Listener([socket.socket(fileno=number) for number in numbers])
        for numbers in (main, *others)
    )
    return Bound(first, *(those if those.sockets else None for those in rest))


def _bind(
    option: str, address: str, how: Callable[[str], Awaitable[Listener]]
) -> Listener:
    try:
        listener: Listener = runtime.run(how, address, loop="asyncio")
    except (ValueError, ConfigError) as error:
        msg = f"{option} {address}: {error}"
        raise CliError(msg) from error
    except OSError as error:
        msg = f"{error.strerror}; choose another {option}"
        if error.errno == errno.EADDRINUSE:
            msg += ", or stop what has this one"
        raise CliError(msg) from error
    return listener
