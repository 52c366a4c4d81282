"""``HubKeeper``: the hub of topics, as the supervisor sees it.

Each worker has a *door*, a pair of sockets: it sends connections to the hub through its
end, as descriptors. The other end is kept here, and a copy of it is sent to the hub
over a control socket. So what workers say to the hub is never read here, and a hub that
takes the place of another has the same doors. Once a worker is gone its door is shut,
whatever it may have forked.

The hub is started when a door first has something in it. One that ends is replaced: at
once if it ran for a while, else after a pause that doubles. It ends with the control
socket, and so with this process.
"""

import contextlib
import enum
import logging
import selectors
import socket
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tako.cli.child import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    SETTLED,
    how_it_ended,
    longer,
)
from tako.cli.console import say
from tako.core.states import CHECKED, check_transition
from tako.topics import hub


_logger = logging.getLogger("tako.cli")

_PROGRAM = Path(hub.__file__).with_name("__main__.py")
_LAST_WORDS = 1.0  # seconds that the hub has to end


class HubState(enum.IntEnum):
    """What there is of the hub."""

    WAITING = 0
    """There is none: no worker has asked for it."""
    RUNNING = 1
    """It runs."""
    PAUSING = 2
    """It ended, or could not be started; after a pause it may be asked for again."""
    CLOSED = 3
    """The supervisor ends: there will be none."""


_NEXT: dict[HubState, frozenset[HubState]] = {
    HubState.WAITING: frozenset({HubState.RUNNING, HubState.PAUSING, HubState.CLOSED}),
    HubState.RUNNING: frozenset({HubState.PAUSING, HubState.CLOSED}),
    HubState.PAUSING: frozenset({HubState.WAITING, HubState.CLOSED}),
    HubState.CLOSED: frozenset(),
}


class _Running(NamedTuple):
    """A hub."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    started: float

    def hand_over(self, doors: Iterable[socket.socket]) -> None:
        """Give it doors; end one that takes none."""
        try:
            for door in doors:
                socket.send_fds(self.control, [b"\0"], [door.fileno()])
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has ended: the next one gets all
        except OSError:  # hundreds wait for it
            self.process.kill()

    def __str__(self) -> str:
        return f"hub of topics (pid {self.process.pid})"


class HubKeeper:
    """Starts the hub when it is wanted, and starts it anew.

    Attributes:
        state: what there is of it.
        due: when a pause is over; ``None``: there is none.
    """

    __slots__ = (
        "_doors",
        "_pause",
        "_running",
        "_selector",
        "_unanswered",
        "_verbose",
        "due",
        "state",
    )

    def __init__(self, selector: selectors.BaseSelector, *, verbose: bool) -> None:
        """Make one that has ``selector`` watch doors, with itself as their data."""
        self._selector = selector
        self._verbose = verbose
        self._doors: set[socket.socket] = set()
        self._running: _Running | None = None
        self._pause = 0.0  # the next one, at the least
        self._unanswered: float | None = None  # since when a door is full
        self.due: float | None = None
        self.state: HubState = HubState.WAITING

    def add(self, door: socket.socket) -> None:
        """Keep the door of a worker that was started."""
        self._doors.add(door)
        if self.state is HubState.WAITING:
            self._selector.register(door, selectors.EVENT_READ, self)
        elif self._running is not None:
            self._running.hand_over([door])

    def remove(self, door: socket.socket) -> None:
        """Shut the door of a worker that is gone."""
        if door in self._doors:
            self._doors.discard(door)
            self._ignore([door])
            with contextlib.suppress(OSError):  # it was shut from the other side
                door.shutdown(socket.SHUT_RDWR)
            door.close()

    def knocked(self, door: socket.socket, now: float) -> None:
        """Start the hub, since something is in ``door`` that may be for it."""
        if self.state is not HubState.WAITING:
            return  # it was started for another door of the same turn
        if _has_something(door):
            self._start(now)
        else:  # the worker has ended
            self._ignore([door])

    def look(self, now: float) -> None:
        """Note that the hub has ended, or that a pause is over."""
        if self._running is not None and self._running.process.poll() is not None:
            self._ended(self._running, now)
        if self.due is not None and self.due <= now:
            self.due = None
            self._enter(HubState.WAITING)
            for door in self._doors:
                self._selector.register(door, selectors.EVENT_READ, self)

    def look_at_doors(self, now: float, limit: float, awake_since: float) -> None:
        """End a hub that takes nothing out of a door for ``limit`` seconds.

        Args:
            now: the time.
            limit: seconds.
            awake_since: time before that does not count: all may have stood still.
        """
        if self._running is None or not any(map(_has_something, self._doors)):
            self._unanswered = None
        elif self._unanswered is None:
            self._unanswered = now
        elif now - max(self._unanswered, awake_since) > limit:
            self._unanswered = None
            late = f"has not answered for {limit:g} s"
            say(f"{self._running} {late}: killed", logging.ERROR)
            self._running.process.kill()

    def close(self) -> None:
        """End the hub; the workers are gone."""
        self._enter(HubState.CLOSED)
        self.due = None
        for door in list(self._doors):
            self.remove(door)
        if self._running is not None:
            self._running.control.close()
            process, self._running = self._running.process, None
            try:
                process.wait(_LAST_WORDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _start(self, now: float) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                process = self._spawn(theirs)
        except OSError as error:  # no memory, or no descriptor, or no process is left
            ours.close()
            reason = error.strerror or str(error)
            say(f"the hub of topics cannot be started: {reason}", logging.ERROR)
            self._rest(LONGEST_PAUSE, now)
            return
        self._running = _Running(process, ours, now)
        self._enter(HubState.RUNNING)
        if self._verbose or self._pause:
            say(f"{self._running} started")
        self._ignore(self._doors)
        self._running.hand_over(self._doors)

    def _spawn(self, control: socket.socket) -> subprocess.Popen[bytes]:
        number = control.fileno()
        return subprocess.Popen(  # noqa: S603 - our own program, no shell
            [sys.executable, "-I", "-S", _PROGRAM, str(number)],
            stdin=subprocess.DEVNULL,
            pass_fds=(number,),
            process_group=0,  # a terminal's Ctrl-C is for us to pass on
        )

    def _ended(self, ended: _Running, now: float) -> None:
        ended.control.close()
        self._running = self._unanswered = None
        pause = 0.0 if now - ended.started > SETTLED else max(self._pause, FIRST_PAUSE)
        self._pause = longer(pause)
        then = f"another in {pause:g} s" if pause else "another is started"
        how = how_it_ended(ended.process.returncode)
        say(f"{ended} {how}; {then}, once it is needed", logging.WARNING)
        self._rest(pause, now)

    def _rest(self, pause: float, now: float) -> None:
        self._enter(HubState.PAUSING)
        self.due = now + pause
        self._ignore(self._doors)

    def _ignore(self, doors: Iterable[socket.socket]) -> None:
        watched = self._selector.get_map()
        for door in doors:
            if door in watched:
                self._selector.unregister(door)

    def _enter(self, state: HubState) -> None:
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state = state
        _logger.debug("the hub is %s", state.name)


def _has_something(door: socket.socket) -> bool:
    """Tell whether something is in a door, and no end; nothing is taken."""
    try:
        return bool(door.recv(1, socket.MSG_PEEK))
    except OSError:  # nothing, or it was reset
        return False
