"""``dial``: a connected socket to a host, whichever of its addresses works first.

Theory of operation (RFC 8305). The addresses are sorted so that the families take
turns, the system's first choice leading. One attempt begins after the other, each when
the one before it has failed or has had ``_DELAY`` seconds; the first that connects
wins, and the others are cancelled.
"""

import itertools
import socket
from typing import TYPE_CHECKING

from tako.runtime.backend import Address, ClientRuntime


if TYPE_CHECKING:
    from tako.core.loop import Task

_DELAY = 0.25  # seconds; RFC 8305 §5


def unix_address(path: str) -> Address:
    """Return where the Unix socket at ``path`` is."""
    return int(socket.AF_UNIX), path


def interleaved(addresses: list[Address]) -> list[Address]:
    """Return ``addresses`` with the families taking turns (RFC 8305 §4)."""
    families = list(dict.fromkeys(family for family, _ in addresses))
    rows = [[each for each in addresses if each[0] == family] for family in families]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*rows))
    return [each for each in turns if each is not None]


class _Race:
    """Attempts to connect, of which one wins."""

    def __init__(self, runtime: ClientRuntime) -> None:
        self._runtime = runtime
        self.changed = runtime.signal()
        self.winner: socket.socket | None = None
        self.errors: list[OSError] = []
        self.running = 0
        self.over = False

    async def attempt(self, address: Address) -> None:
        """Connect to ``address``; what comes of it is noted here, nothing is raised."""
        try:
            sock = await self._runtime.dial(address)
        except OSError as error:
            self.errors.append(error)
        else:
            if self.over or self.winner is not None:
                sock.close()
            else:
                self.winner = sock
        finally:
            self.running -= 1
            self.changed.set()


async def dial(runtime: ClientRuntime, addresses: list[Address]) -> socket.socket:
    """Return a socket that is connected to one of ``addresses``.

    Raises:
        ExceptionGroup: of an ``OSError`` for each address: none can be connected to.

    Cancel safety: safe; no attempt goes on.
    """
    race = _Race(runtime)
    tasks: list[Task] = []
    try:
        for address in interleaved(addresses):
            failed = len(race.errors)
            race.running += 1
            tasks.append(runtime.spawn(race.attempt, address))
            until = runtime.time() + _DELAY
            while race.winner is None and len(race.errors) == failed:
                left = until - runtime.time()
                if left <= 0 or not await race.changed.wait(left):
                    break
            if race.winner is not None:
                break
        while race.winner is None and race.running:
            await race.changed.wait()
    except BaseException:
        if race.winner is not None:
            race.winner.close()
        raise
    finally:
        race.over = True
        for task in tasks:
            task.cancel()
    if race.winner is None:
        msg = "no address can be connected to"
        raise ExceptionGroup(msg, race.errors)
    return race.winner
