"""What the supervisor does for the hub at which moment, with a process that is none."""

import selectors
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest


pytest.importorskip("click")

from tako.cli.child import FIRST_PAUSE, LONGEST_PAUSE, SETTLED
from tako.cli.hub import HubKeeper, HubState


class Process:
    """A hub that takes what it is given when the test says so."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid = pid
        self.control = control.dup()
        self.returncode: int | None = None
        self.killed = self.stubborn = False

    def poll(self) -> int | None:
        return self.returncode

    def kill(self) -> None:
        self.killed = True

    def wait(self, timeout: float | None = None) -> int:
        if self.stubborn and not self.killed:
            raise subprocess.TimeoutExpired([], timeout or 0.0)
        return 0

    def doors(self) -> int:
        """Take the doors that were handed over; return how many."""
        count = 0
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.control, 1, 1)
            except BlockingIOError:
                return count
            if not data:
                return count
            count += 1
            for each in descriptors:
                socket.close(each)

    def end(self, code: int) -> None:
        self.returncode = code
        self.control.close()


class Keeper(HubKeeper):
    """One whose processes are made by the test."""

    spawn: Any

    def _spawn(self, control: socket.socket) -> Any:
        return self.spawn(control)


class Bench:
    def __init__(self) -> None:
        self.now = 1000.0
        self.selector = selectors.DefaultSelector()
        self.keeper = Keeper(self.selector, verbose=False)
        self.keeper.spawn = self.spawn
        self.hubs: list[Process] = []
        self.no_more = False
        self.workers: list[socket.socket] = []
        self.doors: list[socket.socket] = []

    def spawn(self, control: socket.socket) -> Process:
        if self.no_more:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        control.setblocking(False)
        self.hubs.append(Process(100 + len(self.hubs), control))
        return self.hubs[-1]

    def worker(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        self.keeper.add(ours)
        self.doors.append(ours)
        self.workers.append(theirs)
        return theirs

    def turn(self, later: float = 0.0) -> None:
        self.now += later
        for key, _ in self.selector.select(0):
            assert key.data is self.keeper
            door: Any = key.fileobj
            self.keeper.knocked(door, self.now)
        self.keeper.look(self.now)

    def state(self) -> HubState:
        return self.keeper.state

    def close(self) -> None:
        if self.state() is not HubState.CLOSED:
            self.keeper.close()
        self.selector.close()
        for each in (*self.workers, *(hub.control for hub in self.hubs)):
            each.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.close()


def test_it_is_started_by_the_first_worker_that_asks_and_gets_all_doors(
    bench: Bench,
) -> None:
    one, _ = bench.worker(), bench.worker()
    bench.turn()
    assert not bench.hubs
    one.send(b"\0")
    bench.turn()
    assert bench.state() is HubState.RUNNING
    assert len(bench.hubs) == 1
    assert bench.hubs[0].doors() == 2
    bench.worker().send(b"\0")
    bench.turn()
    assert len(bench.hubs) == 1
    assert bench.hubs[0].doors() == 1
    assert one.fileno() >= 0
    assert bench.doors[0].recv(1) == b"\0"  # nothing was taken out


def test_two_that_ask_in_one_turn_have_one_started(bench: Bench) -> None:
    for each in (bench.worker(), bench.worker()):
        each.send(b"\0")
    bench.turn()
    assert len(bench.hubs) == 1


def test_the_end_of_a_worker_starts_none(bench: Bench) -> None:
    bench.worker().close()
    bench.turn()
    assert bench.state() is HubState.WAITING
    assert not bench.selector.select(0)  # and does not wake again and again
    bench.keeper.remove(bench.doors[0])
    bench.keeper.remove(bench.doors[0])  # a no-op


def test_one_that_dies_is_replaced_once_it_is_needed(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    one = bench.worker()
    one.send(b"\0")
    bench.turn()
    bench.hubs[0].doors()
    bench.doors[0].recv(1)
    bench.hubs[0].end(-9)
    bench.turn(SETTLED + 1)  # it was well
    assert bench.state() is HubState.WAITING
    assert "was killed by SIGKILL; another is started, once it is needed" in caplog.text
    bench.turn(1000.0)
    assert len(bench.hubs) == 1
    one.send(b"\0")
    bench.turn()
    assert bench.state() is HubState.RUNNING
    assert bench.hubs[1].doors() == 1


def test_pauses_double_until_one_lasts(bench: Bench) -> None:
    bench.worker().send(b"\0")
    bench.turn()
    pauses = list[float]()
    for _ in range(10):
        bench.hubs[-1].end(1)
        bench.turn()
        assert bench.state() is HubState.PAUSING
        assert bench.keeper.due is not None
        pauses.append(round(bench.keeper.due - bench.now, 3))
        assert not bench.selector.select(0)
        bench.turn(pauses[-1])
        bench.turn()
        assert bench.state() is HubState.RUNNING
    wanted = [min(FIRST_PAUSE * 2**turn, LONGEST_PAUSE) for turn in range(10)]
    assert pauses == wanted
    bench.hubs[-1].end(1)
    bench.turn(SETTLED + 1)
    bench.turn()
    assert bench.state() is HubState.RUNNING
    bench.hubs[-1].end(1)
    bench.turn()
    assert bench.keeper.due == bench.now + FIRST_PAUSE


def test_one_that_cannot_be_started_is_tried_again(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.worker().send(b"\0")
    bench.no_more = True
    bench.turn()
    assert bench.keeper.due == bench.now + LONGEST_PAUSE
    assert "cannot be started: Resource temporarily unavailable" in caplog.text
    bench.no_more = False
    bench.turn(LONGEST_PAUSE)
    bench.turn()
    assert bench.state() is HubState.RUNNING


def test_workers_that_come_and_go_in_a_pause(bench: Bench) -> None:
    bench.worker().send(b"\0")
    bench.turn()
    bench.hubs[0].end(1)
    bench.turn()
    bench.worker().send(b"\0")
    bench.keeper.remove(bench.doors[0])
    bench.turn(FIRST_PAUSE)
    bench.turn()
    assert bench.hubs[1].doors() == 1


def test_one_that_takes_no_doors_is_ended(bench: Bench) -> None:
    bench.worker().send(b"\0")
    bench.turn()
    while not bench.hubs[0].killed:
        door = bench.worker()
        assert len(bench.workers) < 2000
        bench.keeper.remove(bench.doors[-1])
        door.close()
        bench.workers.pop()


def test_one_whose_end_is_not_known_yet_is_not_killed(bench: Bench) -> None:
    bench.worker().send(b"\0")
    bench.turn()
    bench.hubs[0].control.close()
    bench.worker()
    assert not bench.hubs[0].killed


def test_one_that_hangs_is_ended_but_for_time_in_which_all_stood_still(
    bench: Bench,
) -> None:
    look = bench.keeper.look_at_doors
    bench.worker().send(b"\0")
    bench.turn()
    look(bench.now, 4.0, 0.0)
    bench.doors[0].recv(1)
    look(bench.now + 3, 4.0, 0.0)
    bench.workers[0].send(b"\0")
    look(bench.now + 6, 4.0, 0.0)
    look(bench.now + 9, 4.0, 0.0)
    look(bench.now + 20, 4.0, bench.now + 19)
    assert not bench.hubs[0].killed
    look(bench.now + 24, 4.0, bench.now + 19)
    assert bench.hubs[0].killed


@pytest.mark.parametrize("stubborn", [False, True])
def test_the_end_closes_everything(bench: Bench, stubborn: bool) -> None:
    bench.worker().send(b"\0")
    bench.worker()
    bench.turn()
    bench.hubs[0].stubborn = stubborn
    bench.keeper.close()
    assert bench.hubs[0].killed == stubborn
    assert all(door.fileno() == -1 for door in bench.doors)
    assert bench.hubs[0].doors() == 2
    assert bench.hubs[0].control.recv(1) == b""
    assert bench.workers[1].recv(1) == b""


def test_a_state_that_must_not_follow_is_an_error(bench: Bench) -> None:
    bench.keeper._enter(HubState.PAUSING)
    with pytest.raises(AssertionError, match="PAUSING must not follow"):
        bench.keeper._enter(HubState.PAUSING)
