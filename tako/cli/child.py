"""``Child``: one worker process, as its supervisor sees it."""

import enum
import logging
import os
import signal
import socket
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from tako.cli import link
from tako.core.states import CHECKED, check_transition


if TYPE_CHECKING:
    import subprocess


_logger = logging.getLogger("tako.cli")

SETTLED = 5.0
"""Seconds after which a process is taken to be well."""
FIRST_PAUSE = 0.1
"""Seconds before another takes the place of one that was not; then they double."""
LONGEST_PAUSE = 10.0

_LAST_WORDS = 1.0  # seconds that a worker has to print where it hangs
_LAST_PIECES = 8  # what it forked may write on and on


class ChildState(enum.IntEnum):
    """How far a worker has come."""

    STARTING = 0
    """It was started, and has not said that it serves."""
    READY = 1
    """It serves."""
    STOPPING = 2
    """It was told to drain."""
    HUNG = 3
    """It did not answer; SIGABRT has it print where it hangs, and ends it."""
    KILLED = 4
    """It was sent SIGKILL."""
    GONE = 5
    """The process has ended."""


_LAST = frozenset({ChildState.KILLED, ChildState.GONE})

_NEXT: dict[ChildState, frozenset[ChildState]] = {
    ChildState.STARTING: frozenset({ChildState.READY, ChildState.STOPPING}) | _LAST,
    ChildState.READY: frozenset({ChildState.STOPPING, ChildState.HUNG}) | _LAST,
    ChildState.STOPPING: _LAST,
    ChildState.HUNG: _LAST,
    ChildState.KILLED: frozenset({ChildState.GONE}),
    ChildState.GONE: frozenset(),
}


class Child:
    """One worker process.

    Attributes:
        door: the worker's way to the hub, see ``hub.py``.
        place: of those that workers have, from 1 on.
        slot: of the pulse.
        started: when the process was.
        since: when it entered its state.
        ready_at: when it said that it serves; ``None``: it has not.
        replaces: the worker that this one is the successor of, until it is ready.
        failure: why it could not start; ``""``: it has not said.
        wish: why it is to have a successor; ``""``: it need not.
        heavy: it had more memory than it should when it began to serve.
    """

    __slots__ = (
        "_lines",
        "door",
        "failure",
        "heavy",
        "link",
        "place",
        "process",
        "ready_at",
        "replaces",
        "since",
        "slot",
        "started",
        "state",
        "wish",
    )

    def __init__(
        self,
        place: int,
        slot: int,
        process: "subprocess.Popen[bytes]",
        own_link: socket.socket,
        now: float,
        replaces: "Child | None" = None,
        *,
        door: socket.socket,
    ) -> None:
        self.place: int = place
        self.slot: int = slot
        self.process: subprocess.Popen[bytes] = process
        self.link: socket.socket = own_link
        self.door: socket.socket = door
        self.started: float = now
        self.since: float = now
        self.ready_at: float | None = None
        self.state: ChildState = ChildState.STARTING
        self.replaces: Child | None = replaces
        self.failure: str = ""
        self.wish: str = ""
        self.heavy: bool = False
        self._lines = link.Lines()

    def __str__(self) -> str:
        return f"worker {self.place} (pid {self.process.pid})"

    @property
    def serves(self) -> bool:
        """Whether it has said that it serves, and was not told to end."""
        return self.state is ChildState.READY

    @property
    def holds_its_place(self) -> bool:
        """Whether its place needs no other worker."""
        return self.state in {ChildState.STARTING, ChildState.READY}

    def overdue_at(self, stop_limit: float) -> float | None:
        """Return when it has to be killed unless it ends; ``None``: it may live."""
        if self.state is ChildState.STOPPING:
            return self.since + stop_limit
        return self.since + _LAST_WORDS if self.state is ChildState.HUNG else None

    # What it says --------------------------------------------------------------------

    def hear(self) -> list[tuple[bytes, str]] | None:
        """Return the lines that have come; ``None`` at the end of the link."""
        data = self._received()
        return None if data == b"" else self._lines.feed(data or b"")

    def last_words(self) -> list[tuple[bytes, str]]:
        """Return the lines that were left when it ended, and close the link."""
        pieces = iter(self._received, None)
        data = b"".join(takewhile(bool, islice(pieces, _LAST_PIECES)))
        self.link.close()
        return self._lines.feed(data)

    def _received(self) -> bytes | None:
        """Return what has come: ``b""`` at the end, ``None`` if nothing has."""
        try:
            return self.link.recv(link.PIECE)
        except BlockingIOError:
            return None
        except OSError:  # it was gone before it had read what we said
            return b""

    def resident(self) -> int:
        """Return the bytes of memory that it has; 0 where that cannot be known."""
        try:
            fields = Path(f"/proc/{self.process.pid}/statm").read_bytes().split()
        except OSError:
            return 0
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE")

    # What it is told -----------------------------------------------------------------

    def become_ready(self, now: float) -> None:
        """Take note that it serves."""
        self._enter(ChildState.READY, now)
        self.ready_at = now

    def replace(self, now: float) -> None:
        """Tell it that its successor is ready."""
        self._enter(ChildState.STOPPING, now)
        try:
            self.link.send(link.line(link.REPLACED))
        except OSError:  # it has no link any more
            self.process.send_signal(signal.SIGTERM)

    def stop(self, now: float) -> None:
        """Tell it to drain."""
        self._enter(ChildState.STOPPING, now)
        self.process.send_signal(signal.SIGTERM)

    def abort(self, now: float) -> None:
        """Have it print where it hangs, and end."""
        self._enter(ChildState.HUNG, now)
        self.process.send_signal(signal.SIGABRT)

    def kill(self, now: float) -> None:
        """End it by force; a no-op if that was done."""
        if self.state is not ChildState.KILLED:
            self._enter(ChildState.KILLED, now)
        self.process.kill()

    def ended(self, now: float) -> None:
        """Take note that the process is gone."""
        self._enter(ChildState.GONE, now)

    def _enter(self, state: ChildState, now: float) -> None:
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state, self.since = state, now
        _logger.debug("%s is %s", self, state.name)


def longer(pause: float) -> float:
    """Return the pause behind ``pause``, in seconds."""
    return min(max(pause * 2, FIRST_PAUSE), LONGEST_PAUSE)


def how_it_ended(code: int) -> str:
    """Say how a process ended, from its ``returncode``."""
    if code >= 0:
        return f"ended with code {code}"
    return f"was killed by {signal.Signals(-code).name}"
