"""``Turn``: when the clock starts, when a turn is over, what goes on in the next."""

from typing import TYPE_CHECKING

import pytest

from tako.core.turn import Turn, endless


if TYPE_CHECKING:
    from collections.abc import Callable


class Loop:
    def __init__(self) -> None:
        self.now = 0.0
        self.looks = self.stops = 0
        self.soon: list[Callable[[], None]] = []
        self.said: list[str] = []
        self.turn = Turn(self.time, self.soon.append, self.go_on, stop=self.stop)

    def time(self) -> float:
        self.looks += 1
        return self.now

    def stop(self) -> None:
        self.stops += 1

    def go_on(self) -> None:
        self.said.append("connection")
        self.turn.serve_sinks()

    def next(self) -> None:
        soon, self.soon[:] = list(self.soon), []
        for callback in soon:
            callback()

    def use_up(self) -> None:
        while self.turn.spend(1):
            self.now += 0.0001


@pytest.fixture
def loop() -> Loop:
    return Loop()


def test_little_work_costs_no_look_at_the_clock(loop: Loop) -> None:
    assert all(loop.turn.spend(1) for _ in range(200))
    assert loop.looks == 0
    assert not loop.soon


def test_the_clock_ends_a_turn_and_the_next_one_begins_afresh(loop: Loop) -> None:
    assert loop.turn.spend(1)
    assert loop.stops == 0
    loop.use_up()
    assert loop.turn.over
    assert not loop.turn.spend(1)
    assert loop.stops == 1, "reading stops once"
    loop.next()
    assert not loop.turn.over
    assert loop.turn.spend(1)
    assert loop.said == [], "nothing was put off"


def test_units_alone_end_no_turn(loop: Loop) -> None:
    assert all(loop.turn.spend(10) for _ in range(10_000))


def test_who_was_put_off_is_called_in_the_next_turn_once(loop: Loop) -> None:
    loop.use_up()
    loop.turn.put_off()
    loop.turn.put_off()
    assert len(loop.soon) == 1
    loop.next()
    loop.next()
    assert loop.said == ["connection"]


def test_sinks_go_on_in_order_as_far_as_the_turn_goes(loop: Loop) -> None:
    def first() -> None:
        loop.said.append("first")
        loop.use_up()

    def second() -> None:
        loop.said.append("second")

    loop.turn.later(first)
    loop.turn.later(second)
    loop.turn.later(first)
    loop.next()
    assert loop.said == ["connection", "first"]
    assert loop.turn.waiting
    loop.turn.put_off()
    loop.next()
    assert loop.said == ["connection", "first", "connection", "second"]
    assert not loop.turn.waiting


def test_an_endless_turn_is_never_over() -> None:
    turn = endless()
    assert all(turn.spend(1000) for _ in range(1000))
