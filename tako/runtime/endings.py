"""What ends with the servers of an event loop, without belonging to one of them.

Theory of operation. A *guest* joins the loop that runs: open feeds of topics, for
example, which handlers wait for. When all servers of the loop have told their sessions
to end, so are the guests; when the last server has ended they get a second to finish.
A loop without servers ends no guest.
"""

import contextlib
from collections.abc import AsyncGenerator
from time import monotonic
from typing import Any, Protocol, cast

from tako.runtime.backend import current


_PATIENCE = 1.0  # seconds for all guests together


class Guest(Protocol):
    """What ends with the servers of a loop."""

    def sessions_end(self) -> None:
        """Hear that sessions of all servers were told to end."""

    async def servers_ended(self, patience: float) -> None:
        """End; what is still to be done may take ``patience`` seconds."""


class _Home:
    """An event loop with servers, or guests."""

    def __init__(self) -> None:
        self.servers = 0
        self.ending = 0  # servers that have told their sessions to end
        self.guests: dict[Guest, None] = {}


_homes: dict[object, _Home] = {}


class Stay:
    """A server on its loop."""

    def __init__(self, home: _Home) -> None:
        """Count a server."""
        self._home = home
        self._ending = False
        home.servers += 1

    def sessions_end(self) -> None:
        """Note that this server has told its sessions to end; once counts."""
        home = self._home
        if not self._ending:
            self._ending = True
            home.ending += 1
            if home.ending == home.servers:
                for guest in list(home.guests):
                    guest.sessions_end()

    def over(self) -> None:
        """Count a server less."""
        self._home.servers -= 1
        self._home.ending -= self._ending


@contextlib.asynccontextmanager
async def server() -> AsyncGenerator[Stay, None]:
    """Be a server on the running loop; the last one ends the guests."""
    key = current().caller()
    home = _homes.setdefault(key, _Home())
    stay = Stay(home)
    patience = 0.0
    try:
        yield stay
        patience = _PATIENCE
    except Exception:
        patience = _PATIENCE
        raise
    finally:
        stay.over()
        if not home.servers:
            _homes.pop(key, None)
            until = monotonic() + patience
            async with contextlib.AsyncExitStack() as stack:  # each, whatever happens
                for guest in home.guests:
                    stack.push_async_callback(_end, guest, until)


async def _end(guest: Guest, until: float) -> None:
    await guest.servers_ended(max(0.0, until - monotonic()))


def join(guest: Guest) -> None:
    """Have ``guest`` end with the servers of the running loop."""
    _homes.setdefault(current().caller(), _Home()).guests[guest] = None


def leave(guest: Guest) -> None:
    """Take ``guest`` back; repeats are no-ops."""
    for key, home in list(_homes.items()):
        if home.guests.pop(guest, guest) is None and not (home.guests or home.servers):
            del _homes[key]


def alive(caller: object) -> bool:
    """Tell whether the loop of a ``Backend.caller()`` has not ended."""
    try:
        cast("Any", caller)(_nothing)
    except RuntimeError:
        return False
    return True


def _nothing() -> None:
    pass
