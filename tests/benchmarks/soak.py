"""A soak: many WebSockets for a long time, with churn and a client that misbehaves.

    python -m tests.benchmarks.soak [--minutes 30] [--sockets 500] [--runtime uvloop]

``--sockets`` WebSockets echo on HTTP/1.1 connections of their own and as many on a few
HTTP/2 connections; each second some of them leave and others come; beside them a chaos
client sends the floods of floods.py and the rows of the corpus, reads nothing,
vanishes. Once a minute the server's memory, file descriptors and the longest echo are
noted. At the end it is asked to stop, and the note says the slope of its memory, its
tracebacks, and whether file descriptors and tasks came back to where they were.

Exit status 1: a promise was broken (slope < 1 MB/h, no traceback, nothing left behind).
"""

import argparse
import random
import statistics
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.io import PeerError
from tests.benchmarks.floods import FLOODS, temporary_credentials
from tests.security.corpus import Row, corpus
from tests.support.attack import CONTEXTS, HELLO, Attacker
from tests.support.server import RuntimeName
from tests.support.victim_process import VictimProcess


if TYPE_CHECKING:
    import contextlib

    from tako.testing.peer.websocket import PeerWebSocket


PER_CONNECTION = 50  # WebSockets on one HTTP/2 connection
CHURN = 0.01  # of the sockets that leave in a second
WARM_UP = 120.0  # seconds before memory counts
SLOPE_LIMIT = 1 << 20  # bytes an hour


@dataclass(slots=True)
class Note:
    """What a soak measured, and what the server logged."""

    echoes: int = 0
    churned: int = 0
    attacks: int = 0
    worst: float = 0.0
    failures: list[str] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def slope(self) -> float:
        """Return the growth of memory in bytes an hour, by linear regression."""
        settled = [(at, rss) for at, rss in self.memory if at >= WARM_UP] or self.memory
        if len(settled) < 2:
            return 0.0
        times, sizes = zip(*settled, strict=True)
        return statistics.linear_regression(times, sizes).slope * 3600


class Crowd(threading.Thread):
    """Some WebSockets that echo in turn, leave, and are replaced."""

    def __init__(
        self, victim: VictimProcess, note: Note, stop: threading.Event, *, http2: bool
    ) -> None:
        super().__init__(daemon=True)
        self._victim = victim
        self._note = note
        self._stopping = stop
        self._http2 = http2
        self._random = random.Random(http2)
        self._connections: list[contextlib.AbstractContextManager[object]] = []
        self._sockets: list[PeerWebSocket] = []

    def open(self, count: int) -> None:
        """Open ``count`` sockets."""
        while len(self._sockets) < count:
            connection = self._victim.connect("h2" if self._http2 else "h1s")
            self._connections.append(connection)
            for _ in range(
                PER_CONNECTION if isinstance(connection, H2Connection) else 1
            ):
                self._sockets.append(connection.websocket("/ws"))

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                started = time.monotonic()
                self._round()
                self._stopping.wait(max(0.0, started + 1 - time.monotonic()))
        except (AssertionError, OSError, PeerError) as error:
            self._note.failures.append(f"{type(error).__name__}: {error}")
        finally:
            for connection in self._connections:
                connection.__exit__(None, None, None)

    def _round(self) -> None:
        for index, ws in enumerate(self._sockets):
            if self._stopping.is_set():
                return
            if self._random.random() < CHURN:
                self._replace(index)
                continue
            size = self._random.choice((5, 50, 500, 5000))
            started = time.monotonic()
            ws.echo("x" * size)
            self._note.worst = max(self._note.worst, time.monotonic() - started)
            self._note.echoes += 1

    def _replace(self, index: int) -> None:
        old = self._sockets[index]
        self._note.churned += 1
        if self._http2:
            connection = self._connections[index // PER_CONNECTION]
            assert isinstance(connection, H2Connection)
            old.close(1000)
            old.expect_close()
            old.end()
        else:
            with self._connections[index]:  # every second one without a Close
                if self._random.random() < 0.5:
                    old.close(1000)
                    old.expect_close()
            connection = self._victim.connect("h1s")
            self._connections[index] = connection
        if len(getattr(connection, "streams", ())) > 4000:
            connection = self._victim.connect("h2")
        self._sockets[index] = connection.websocket("/ws")


class Chaos(threading.Thread):
    """Attacks, one after the other, until told to stop."""

    def __init__(
        self, victim: VictimProcess, note: Note, stop: threading.Event
    ) -> None:
        super().__init__(daemon=True)
        self._victim = victim
        self._note = note
        self._stopping = stop
        self._rows = [row for row in corpus() if len(row.data) < 1 << 20]
        self._random = random.Random(2)

    def run(self) -> None:
        while not self._stopping.wait(0.2):
            try:
                self._attack()
                self._note.attacks += 1
            except ConnectionError:  # refused where the server should accept
                if not self._stopping.is_set():
                    self._note.failures.append("the server does not accept")
                    return

    def _attack(self) -> None:
        choice = self._random.random()
        row = self._random.choice(self._rows)
        if choice < 0.3:
            flood = self._random.choice(FLOODS)
            data, wire = HELLO + flood(), "h2"
        else:
            data, wire = _as_sent(row)
        with Attacker(self._victim.address, CONTEXTS[wire]) as peer:
            peer.deaf = choice > 0.8
            peer.send(data)
            peer.pump(lambda: False, 0.3)
            if choice > 0.9:
                peer.abort()


def _as_sent(row: Row) -> tuple[bytes, str]:
    if row.proto in {"h2", "h2-ws"}:
        return HELLO + row.data, "h2"
    return row.data, "h1s"


def soak(minutes: float, sockets: int, runtime: RuntimeName) -> bool:
    """Soak and print the note; tell whether every promise was kept."""
    note, stop = Note(), threading.Event()
    with (
        temporary_credentials() as credentials,
        VictimProcess(credentials, runtime, "h2") as victim,
    ):
        files_before = victim.fds
        tasks_before = _tasks(victim)
        crowds = [Crowd(victim, note, stop, http2=http2) for http2 in (False, True)]
        for crowd in crowds:
            crowd.open(sockets)
        threads = [*crowds, Chaos(victim, note, stop)]
        for thread in threads:
            thread.start()
        _watch(victim, note, minutes * 60)
        stop.set()
        for thread in threads:
            thread.join(60)
        _settle(victim, files_before)
        left = (victim.fds - files_before, _tasks(victim) - tasks_before)
    return _report(note, left, minutes)


def _watch(victim: VictimProcess, note: Note, seconds: float) -> None:
    started = time.monotonic()
    pause = threading.Event()
    while not note.failures and (at := time.monotonic() - started) < seconds:
        note.memory.append((at, victim.rss))
        note.files.append(victim.fds)
        print(
            f"{at / 60:6.1f} min  {victim.rss / 1e6:7.2f} MB  {victim.fds:5} fds"
            f"  {note.echoes:9} echoes  {note.churned:6} churned"
            f"  {note.attacks:6} attacks"
            f"  canary {victim.canary.worst_ever * 1000:6.1f} ms",
            flush=True,
        )
        victim.canary.worst_ever = 0.0
        pause.wait(min(60.0, seconds / 10))


def _settle(victim: VictimProcess, files: int) -> None:
    """Wait for lingering connections: their timeouts are at most half a minute."""
    end = time.monotonic() + 45
    pause = threading.Event()
    while victim.fds > files and time.monotonic() < end:
        pause.wait(0.5)


def _tasks(victim: VictimProcess) -> int:
    with victim.connect("h1s") as client:
        return int(client.request("GET", "/probe").body.split()[0])


def _report(note: Note, left: tuple[int, int], minutes: float) -> bool:
    slope = note.slope()
    for failure in note.failures:
        print("FAILED:", failure)
    print(
        f"{note.echoes} echoes, {note.churned} churned, {note.attacks} attacks\n"
        f"memory slope {slope / 1e6:+.3f} MB/h\n"
        f"longest echo {note.worst * 1000:.0f} ms\n"
        f"left behind: {left[0]} fds, {left[1]} tasks\n"
        "no traceback, exit status 0"
    )
    slope_holds = minutes < 10 or slope < SLOPE_LIMIT  # a shorter run measures noise
    return not note.failures and slope_holds and left[0] <= 0 and left[1] <= 0


def main(arguments: Sequence[str]) -> int:
    """Parse the arguments and soak."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--runtime", default="uvloop")
    options = parser.parse_args(arguments)
    return 0 if soak(options.minutes, options.sockets, options.runtime) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
