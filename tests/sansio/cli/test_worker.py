"""A worker's end of its link."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest


pytest.importorskip("click")

from tako.cli.inspecting import Inspection
from tako.cli.listeners import Bound
from tako.cli.pulse import Pulse, new_memory
from tako.cli.worker import Worker, describe
from tako.server.listener import Listener


SLOT = 1


class Pair:
    """A worker, and the supervisor's end of its link."""

    def __init__(self, kills: list[int]) -> None:
        memory = new_memory()
        self.pulse = Pulse(memory)
        os.close(memory)
        self.end, theirs = socket.socketpair()
        self.end.settimeout(10)
        self.theirs = theirs
        self.worker = Worker(Bound(Listener([]), None), theirs, self.pulse, SLOT)
        self.kills = kills
        self.thread = threading.Thread(target=self.worker.listen)

    def listened(self) -> list[int]:
        """Return the signals that the worker has sent itself, once it has heard."""
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.kills


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    kills: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: kills.append(number))
    made = Pair(kills)
    yield made
    made.end.close()
    made.theirs.close()
    made.pulse.close()


def test_replaced_is_noted_before_the_signal(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        os, "kill", lambda _, number: seen.append((number, pair.worker.replaced))
    )
    pair.thread.start()
    pair.end.sendall(b"\xffwhat\nreplaced? no\nrepla")
    pair.end.sendall(b"ced\n")
    pair.listened()
    assert seen == [(signal.SIGTERM, True)]


def test_the_end_of_the_supervisor_is_a_signal(pair: Pair) -> None:
    pair.thread.start()
    pair.end.close()
    assert pair.listened() == [signal.SIGTERM]
    assert not pair.worker.replaced


def test_a_reset_is_the_end_too(pair: Pair) -> None:
    pair.theirs.sendall(b"ready, which is never read\n")
    pair.end.close()
    pair.thread.start()
    assert pair.listened() == [signal.SIGTERM]


def test_it_beats_from_its_readiness_to_its_drain(pair: Pair) -> None:
    worker, pulse = pair.worker, pair.pulse
    worker.beat()
    assert pulse.last(SLOT) == 0
    worker.tell_ready("tako router")
    first = pulse.last(SLOT)
    assert first > 0
    worker.beat()
    assert pulse.last(SLOT) > first
    worker.rest()
    assert pulse.last(SLOT) == 0
    worker.beat()
    assert pulse.last(SLOT) == 0
    assert pair.end.recv(100) == b"ready tako router\n"


def test_siblings_are_well_while_none_stands_still(pair: Pair) -> None:
    worker, pulse = pair.worker, pair.pulse
    assert worker.siblings_are_well(1.0)
    pulse.beat(SLOT + 1)
    assert worker.siblings_are_well(60.0)
    pulse._beats[SLOT + 1] -= 61.0
    assert not worker.siblings_are_well(60.0)
    pulse.clear(SLOT + 1)  # it is gone
    assert worker.siblings_are_well(60.0)


def test_it_says_once_why_it_cannot_start(pair: Pair) -> None:
    assert pair.worker.tell_failure("Traceback:\n  x\ntako: no database")
    assert not pair.worker.tell_failure("again")
    said = pair.end.recv(1000)
    assert said == b'failed "Traceback:\\n  x\\ntako: no database"\n'


def test_what_fails_later_is_no_failed_start(pair: Pair) -> None:
    pair.worker.tell_ready("ASGI app")
    assert not pair.worker.tell_failure("later")


def test_with_no_supervisor_it_says_nothing(pair: Pair) -> None:
    pair.end.close()
    pair.worker.tell_ready("ASGI app")
    pair.worker.ask_for_successor("1000 requests")


def test_what_a_supervisor_says_of_the_inspectors_is_understood(tmp_path: Path) -> None:
    shared = Inspection("token", tmp_path / "a;b:c")
    assert Inspection.read(shared.written(3)) == replace(shared, place=3)
    assert Inspection.read("") is None


def test_the_listening_sockets_are_told_apart() -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    main, page = (Listener(list(pair)) for pair in pairs)
    numbers = [",".join(str(it.fileno()) for it in pair) for pair in pairs]
    value = describe(4, (5, 6, 7), Bound(main, None, None, page), "1:token:/a;b")
    assert value == f"4,5,6,7;{numbers[0]};;;{numbers[1]};1:token:/a;b"
    main.close()
    page.close()
