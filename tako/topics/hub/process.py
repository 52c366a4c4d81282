"""The process of the hub: sockets around ``core.Hub``, on one thread.

The supervisor's *control* socket gives it a *door* for each worker: a byte, and a
descriptor with it. A door in turn gives it connections of that worker, in the same way.
A door never is in the midst of anything, so another hub can go on with it.

The end of a door is that of all connections that came through it. The end of the
control socket is that of this process, whatever else there is.
"""

import os
import selectors
import socket
import time
from functools import partial
from typing import Final

from tako.topics.hub.core import Hub, Member


OUTDATED: Final = 3
"""The exit code of a hub that is too old for a worker."""

_PIECE = 1 << 16  # bytes that are read at a time
_MOST_LINES = 64  # connections that come through one door

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class _Door:
    """A worker's way to connect."""

    __slots__ = ("lines", "sock")

    def __init__(self, sock: socket.socket) -> None:
        self.sock: socket.socket = sock
        self.lines: set[_Line] = set()


class _Line:
    """A connection of a worker."""

    __slots__ = ("door", "events", "member", "sock")

    def __init__(self, sock: socket.socket, door: _Door) -> None:
        self.sock: socket.socket = sock
        self.door: _Door = door
        self.member: Member = Member()
        self.events: int = _READ


class Process:
    """The hub with its sockets."""

    def __init__(self, control: socket.socket) -> None:
        """Make one that lives as long as the other end of ``control``."""
        self._hub = Hub(time.monotonic, partial(os.urandom, 8))
        self._selector = selectors.DefaultSelector()
        self._control = control
        self._lines: dict[Member, _Line] = {}
        self._code: int | None = None
        control.setblocking(False)
        self._selector.register(control, _READ, self._on_control)

    def run(self) -> int:
        """Run until the control socket ends; return the exit code."""
        while self._code is None:
            for key, events in self._selector.select():
                if key.fileobj.fileno() >= 0:  # type: ignore[union-attr]
                    key.data(events)
            while touched := self._hub.take_touched():
                for member in touched:
                    self._send(self._lines[member])
        return self._code

    def _on_control(self, _: int) -> None:
        sock, ended = _handed(self._control)
        if ended:
            self._code = self._code or 0
        elif sock is not None:
            door = _Door(sock)
            self._selector.register(sock, _READ, partial(self._on_door, door))

    def _on_door(self, door: _Door, _: int) -> None:
        sock, ended = _handed(door.sock)
        if ended:
            for line in list(door.lines):
                self._drop(line)
            self._selector.unregister(door.sock)
            door.sock.close()
        elif sock is not None:
            if len(door.lines) == _MOST_LINES:
                sock.close()
                return
            line = _Line(sock, door)
            door.lines.add(line)
            self._lines[line.member] = line
            self._selector.register(sock, _READ, partial(self._on_line, line))

    def _on_line(self, line: _Line, events: int) -> None:
        if events & _WRITE:
            self._send(line)
        if events & _READ and line.sock.fileno() >= 0:
            try:
                data = line.sock.recv(_PIECE)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:  # it was gone before it had read what we sent
                data = b""
            if data:
                self._hub.receive(line.member, data)
            else:
                self._drop(line)

    def _send(self, line: _Line) -> None:
        """Send what the socket takes; wait for the rest."""
        member = line.member
        output = member.output
        if output:
            try:
                count = line.sock.send(output)
            except (BlockingIOError, InterruptedError):
                count = 0
            except OSError:
                self._drop(line)
                return
            if count:
                del output[:count]
                self._hub.sent(member)
        if member.fault:
            if member.newer:
                self._code = OUTDATED
            self._drop(line)
            return
        events = _WRITE if output else 0
        if not self._hub.is_full(member):
            events |= _READ
        if events != line.events:
            line.events = events
            key = self._selector.get_key(line.sock)
            self._selector.modify(line.sock, events, key.data)

    def _drop(self, line: _Line) -> None:
        self._hub.leave(line.member)
        line.door.lines.discard(line)
        del self._lines[line.member]
        self._selector.unregister(line.sock)
        line.sock.close()


def _handed(sock: socket.socket) -> tuple[socket.socket | None, bool]:
    """Return the socket that came over ``sock``, and whether that has ended."""
    try:
        data, descriptors, _, _ = socket.recv_fds(sock, 1, 1)
    except (BlockingIOError, InterruptedError):
        return None, False
    except OSError:
        return None, True
    if not descriptors:  # there was no descriptor left: the worker sees an end
        return None, not data
    handed = socket.socket(fileno=descriptors[0])
    handed.setblocking(False)
    return handed, False
