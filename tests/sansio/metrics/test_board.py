"""The board that workers share: nothing goes backwards, whatever ends when."""

import os
from collections.abc import Iterator

import pytest

from tako.metrics.board import Board, _at, new_memory
from tako.metrics.snapshot import Snapshot, decoded, encoded


COUNTER, GAUGE = "tako_connections_accepted", "tako_connections_active"
LAG, EXPIRY = (
    "tako_event_loop_lag_seconds",
    "tako_tls_certificate_expiry_timestamp_seconds",
)
DURATION = "http_server_request_duration_seconds"


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = new_memory()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def supervisor(memory: int) -> Iterator[Board]:
    board = Board(memory)
    yield board
    board.close()


@pytest.fixture
def worker(memory: int) -> Iterator[Board]:
    board = Board(memory)
    yield board
    board.close()


def counted(count: int, active: int = 0, lag: float = 0.0) -> Snapshot:
    return {
        COUNTER: {(): count},
        GAUGE: {("2",): active},
        LAG: {(): lag},
        EXPIRY: {(): 1e9 + count},
        DURATION: {("GET", "/", "200", "2"): [count, 0, 0.5]},
    }


def test_a_snapshot_survives_being_passed_on() -> None:
    snapshot = counted(3, 2, 0.25)
    assert decoded(encoded(snapshot)) == snapshot


def test_a_board_that_nobody_has_written_to_is_empty(worker: Board) -> None:
    assert worker.total() == {}


def test_workers_add_up_and_are_told_apart_where_it_is_about_them(
    supervisor: Board, worker: Board
) -> None:
    for slot, place in ((5, 1), (9, 2)):
        supervisor.begin(slot, place)
        worker.write(slot, counted(slot, 1, slot / 10))
    assert worker.total() == {
        COUNTER: {(): 14},
        GAUGE: {("2",): 2},
        LAG: {("1",): 0.5, ("2",): 0.9},
        EXPIRY: {(): 1e9 + 5},
        DURATION: {("GET", "/", "200", "2"): [14, 0, 1.0]},
    }


def test_of_a_worker_that_is_gone_all_stays_but_the_gauges(
    supervisor: Board, worker: Board
) -> None:
    supervisor.begin(5, 1)
    worker.write(5, counted(5, 1))
    supervisor.end(5)
    assert worker.total() == {
        COUNTER: {(): 5},
        DURATION: {("GET", "/", "200", "2"): [5, 0, 0.5]},
    }


def test_a_region_is_used_again_and_begins_empty(
    supervisor: Board, worker: Board
) -> None:
    supervisor.begin(5, 1)
    worker.write(5, counted(5))
    supervisor.end(5)
    supervisor.begin(5, 1)
    assert worker.total()[COUNTER] == {(): 5}
    worker.write(5, counted(2))
    assert worker.total()[COUNTER] == {(): 7}


def test_a_worker_that_is_killed_while_it_writes_has_changed_nothing(
    supervisor: Board, worker: Board
) -> None:
    supervisor.begin(5, 1)
    for count in (5, 6):
        worker.write(5, counted(count))

    class Killed(BaseException):
        pass

    class Numbers:
        """Counts no write."""

        def __getitem__(self, at: int) -> int:
            return supervisor._numbers[at]

        def __setitem__(self, at: int, number: int) -> None:
            raise Killed

        def release(self) -> None:
            """Release nothing."""

    numbers, worker._numbers = worker._numbers, Numbers()  # type: ignore[assignment]
    with pytest.raises(Killed):
        worker.write(5, counted(7))
    worker._numbers = numbers
    assert worker.total()[COUNTER] == {(): 6}
    supervisor.end(5)
    assert worker.total()[COUNTER] == {(): 6}


def test_a_reader_begins_again_when_a_worker_ends_meanwhile(
    supervisor: Board, worker: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor.begin(5, 1)
    worker.write(5, counted(5))
    read, ended = Board.read, list[int]()

    def ends_meanwhile(board: Board, slot: int) -> Snapshot:
        if board is worker and not ended:
            ended.append(slot)
            supervisor.end(5)
        return read(board, slot)

    monkeypatch.setattr(Board, "read", ends_meanwhile)
    assert worker.total()[COUNTER] == {(): 5}
    assert ended == [5]


def test_memory_that_was_written_over_is_an_error_and_no_number(
    supervisor: Board, worker: Board
) -> None:
    supervisor.begin(5, 1)
    worker.write(5, counted(5))
    for number in (0, 1):
        at = _at(5, number)
        worker._view[at : at + 64] = b"x" * 64
    with pytest.raises(RuntimeError, match="cannot be read"):
        worker.total()


def test_what_is_too_large_is_refused_and_the_last_one_stays(
    supervisor: Board, worker: Board
) -> None:
    supervisor.begin(5, 1)
    worker.write(5, counted(5))
    noise = os.urandom(200_000).hex()
    large: Snapshot = {COUNTER: {(noise,): 1}}
    with pytest.raises(ValueError, match="too large"):
        worker.write(5, large)
    assert worker.total()[COUNTER] == {(): 5}


def test_a_worker_without_a_region_writes_nothing(
    supervisor: Board, worker: Board
) -> None:
    supervisor.begin(0, 1)
    worker.write(0, counted(5))
    supervisor.end(0)
    assert COUNTER not in worker.total()


def test_what_the_supervisor_counts_is_among_it(
    supervisor: Board, worker: Board
) -> None:
    supervisor.note("tako_workers", (), 3)
    supervisor.begin(5, 1)
    worker.write(5, counted(5))
    assert worker.total()["tako_workers"] == {(): 3}
