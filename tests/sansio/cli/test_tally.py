"""What the supervisor keeps and counts for metrics."""

from collections.abc import Iterator

import pytest

from tako.cli.child import ChildState
from tako.cli.tally import Tally
from tako.metrics.board import Board


ACCEPTED = "tako_connections_accepted"


@pytest.fixture
def tally() -> Iterator[Tally]:
    tally = Tally()
    yield tally
    tally.close()


@pytest.fixture
def worker(tally: Tally) -> Iterator[Board]:
    board = Board(tally.memory)
    yield board
    board.close()


def test_every_way_to_end_is_there_before_a_worker_has(worker: Board) -> None:
    total = worker.total()
    assert total["tako_workers"] == {(): 0}
    reasons = ("died", "stopped", "hung", "killed")
    assert total["tako_worker_exits"] == {(reason,): 0 for reason in reasons}


def test_workers_are_counted_as_they_come_and_go(tally: Tally, worker: Board) -> None:
    tally.begin(1, 1)
    tally.serving(1)
    worker.write(1, {ACCEPTED: {(): 5}})
    tally.exited(ChildState.READY)
    tally.end(1)
    tally.serving(0)
    total = worker.total()
    assert total[ACCEPTED] == {(): 5}
    assert total["tako_workers"] == {(): 0}
    assert total["tako_worker_exits"]["died",] == 1


@pytest.mark.parametrize("state", [it for it in ChildState if it.name != "GONE"])
def test_each_state_before_the_end_is_a_reason(tally: Tally, state: ChildState) -> None:
    tally.exited(state)
