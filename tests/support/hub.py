"""A hub of topics in a process of its own, with a supervisor that is a thread."""

import contextlib
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Self

from tako.cli.hub import HubKeeper, HubState
from tako.topics.hub.engine import HubEngine
from tako.topics.item import Cause, Data, Position
from tests.support.patience import TIMEOUT


class Machine:
    """Starts a hub as the supervisor does; ``door`` is the end that a worker gets."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.keeper = HubKeeper(self.selector, verbose=False)
        self._stopped: int | None = None  # the hub that was
        self._doors: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT)
        with contextlib.suppress(AssertionError, ProcessLookupError):
            os.kill(self.pid, signal.SIGCONT)
        self.keeper.close()
        self.selector.close()
        for pair in self._doors:
            pair[1].close()

    def door(self) -> socket.socket:
        """Return the door of one more worker."""
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self._doors.append((ours, theirs))
        with self._lock:
            self.keeper.add(ours)
        return theirs

    def shut(self, door: socket.socket) -> None:
        """Do what follows the end of the worker that had ``door``."""
        (pair,) = (each for each in self._doors if each[1] is door)
        self._doors.remove(pair)
        with self._lock:
            self.keeper.remove(pair[0])
        door.close()

    @property
    def pid(self) -> int:
        """The number of the hub's process."""
        running = self.keeper._running
        assert running is not None
        return running.process.pid

    def stop(self) -> None:
        """Have the hub hang, and soon be replaced; no other one is in a hurry."""
        os.kill(self.pid, signal.SIGSTOP)
        self._stopped = self.pid

    def wait_for(self, state: HubState) -> None:
        """Wait until there is a hub, or none."""
        end = time.monotonic() + TIMEOUT
        while self.keeper.state is not state:
            assert time.monotonic() < end, self.keeper.state
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stop.is_set():
            found = self.selector.select(0.02)
            with self._lock:
                now = time.monotonic()
                for key, _ in found:
                    door: Any = key.fileobj
                    self.keeper.knocked(door, now)
                self.keeper.look(now)
                running = self.keeper._running
                if running is not None and running.process.pid == self._stopped:
                    self.keeper.look_at_doors(now, 0.2, 0.0)


class Heard:
    """What an engine has told: an ``engine.Receiver``."""

    def __init__(self) -> None:
        self.items: list[tuple[str, Data, Position | None]] = []
        self.events: list[object] = []
        """The data of messages, gaps as (topic, cause, missed), "up" and "down"."""

    def message(self, topic: str, data: Data, position: Position | None) -> None:
        self.items.append((topic, data, position))
        self.events.append(data)

    def gap(self, topic: str | None, cause: Cause, missed: int | None) -> None:
        self.events.append((topic, cause, missed))

    def state(self, *, up: bool) -> None:
        self.events.append("up" if up else "down")

    def count(self, event: object) -> int:
        return self.events.count(event)


async def publish(engine: HubEngine, topic: str, *messages: Data) -> Sequence[Position]:
    """Publish messages to one topic."""
    return await engine.publish([(topic, each) for each in messages])


def descriptors(pid: int) -> int:
    """Return how many descriptors a process has."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def resident(pid: int) -> int:
    """Return the bytes of memory that a process has."""
    with open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def pieces(count: int, size: int) -> Iterator[bytes]:
    """Yield ``count`` messages of ``size`` bytes that differ."""
    for number in range(count):
        yield b"%d:" % number + b"x" * size
