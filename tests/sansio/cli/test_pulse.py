"""The beats of workers, in memory that processes share."""

import os
from collections.abc import Iterator

import pytest

from tako.cli import pulse
from tako.cli.pulse import UNWATCHED, Pulse, new_memory


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = new_memory()
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def shared(memory: int) -> Iterator[Pulse]:
    made = Pulse(memory)
    yield made
    made.close()


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pulse, "time", made)
    return made


def test_a_beat_is_seen_in_another_mapping(shared: Pulse, memory: int) -> None:
    other = Pulse(memory)
    slot = shared.take()
    assert shared.last(slot) == 0
    other.beat(slot)
    assert 0 < shared.last(slot) == other.last(slot)
    other.clear(slot)
    assert shared.last(slot) == 0
    other.close()


def test_the_lag_is_that_of_the_one_furthest_behind(
    shared: Pulse, clock: Clock
) -> None:
    assert shared.lag() == 0  # of none
    first, second = shared.take(), shared.take()
    shared.beat(first)
    clock.now += 2
    shared.beat(second)
    clock.now += 1
    assert shared.lag() == 3
    shared.clear(first)
    assert shared.lag() == 1


def test_a_slot_has_one_process_and_can_have_another(shared: Pulse) -> None:
    slots = [shared.take() for _ in range(1000)]
    assert len({*slots}) == 1000
    shared.beat(slots[5])
    shared.give_back(slots[5])
    assert shared.last(slots[5]) == 0
    assert shared.take() == slots[5]


def test_those_for_which_none_is_left_are_not_looked_at(
    shared: Pulse, clock: Clock
) -> None:
    while shared.take() != UNWATCHED:
        pass
    assert shared.take() == UNWATCHED
    shared.beat(UNWATCHED)
    clock.now += 100
    assert shared.lag() == 0
    shared.give_back(UNWATCHED)
    assert shared.take() == UNWATCHED


def test_without_memfd_it_is_a_file_that_has_no_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    memory = new_memory()
    made = Pulse(memory)
    made.beat(3)
    assert made.last(3) > 0
    assert os.fstat(memory).st_nlink == 0
    made.close()
    os.close(memory)
