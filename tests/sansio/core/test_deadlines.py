"""``Deadlines``: what fires, when, how often, and what the heap costs."""

import gc
import weakref
from collections import Counter

import pytest
from hypothesis import given, strategies as st

from tako.core.deadlines import Deadline, Deadlines


class Log:
    """Deadlines that note their names when they fire."""

    def __init__(self) -> None:
        self.fired: list[str] = []
        self.changes = 0
        self.deadlines = Deadlines(self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def new(self, name: str) -> Deadline:
        return self.deadlines.new(lambda: self.fired.append(name))


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_new_deadline_is_off(log: Log) -> None:
    log.new("a")
    assert log.deadlines.next() is None
    log.deadlines.reached(1e9)
    assert log.fired == []


def test_it_fires_at_its_time_and_not_before(log: Log) -> None:
    deadline = log.new("a")
    deadline.set(10.0)
    log.deadlines.reached(9.999)
    assert log.fired == []
    assert deadline.when == 10.0
    log.deadlines.reached(10.0)
    assert log.fired == ["a"]
    assert deadline.when is None


def test_it_fires_once(log: Log) -> None:
    log.new("a").set(10.0)
    log.deadlines.reached(10.0)
    log.deadlines.reached(20.0)
    assert log.fired == ["a"]


def test_several_fire_in_the_order_of_their_times(log: Log) -> None:
    for name, when in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("d", 9.0)):
        log.new(name).set(when)
    log.deadlines.reached(5.0)
    assert log.fired == ["a", "b", "c"]
    assert log.deadlines.next() == 9.0


def test_equal_times_fire_in_the_order_of_setting(log: Log) -> None:
    for name in "abc":
        log.new(name).set(1.0)
    log.deadlines.reached(1.0)
    assert log.fired == ["a", "b", "c"]


def test_a_deadline_moved_later_fires_later(log: Log) -> None:
    deadline = log.new("a")
    deadline.set(1.0)
    deadline.set(5.0)
    log.deadlines.reached(1.0)
    assert log.fired == []
    assert log.deadlines.next() == 5.0
    log.deadlines.reached(5.0)
    assert log.fired == ["a"]


def test_a_deadline_moved_earlier_fires_earlier_and_only_then(log: Log) -> None:
    deadline = log.new("a")
    deadline.set(5.0)
    deadline.set(1.0)
    log.deadlines.reached(1.0)
    assert log.fired == ["a"]
    log.deadlines.reached(5.0)
    assert log.fired == ["a"]


def test_a_deadline_switched_off_does_not_fire(log: Log) -> None:
    deadline = log.new("a")
    deadline.set(1.0)
    deadline.set(None)
    log.deadlines.reached(2.0)
    assert log.fired == []
    assert log.deadlines.next() is None


def test_off_and_on_again_fires_at_the_new_time(log: Log) -> None:
    deadline = log.new("a")
    deadline.set(1.0)
    deadline.set(None)
    deadline.set(3.0)
    log.deadlines.reached(1.0)
    log.deadlines.reached(2.0)
    assert log.fired == []
    log.deadlines.reached(3.0)
    assert log.fired == ["a"]


def test_a_callback_may_set_its_deadline_again() -> None:
    times: list[float] = []
    deadlines = Deadlines(lambda: None)
    now = 0.0

    def fire() -> None:
        times.append(now)
        deadline.set(now + 2.0)

    deadline = deadlines.new(fire)
    deadline.set(1.0)
    for now in (1.0, 2.0, 3.0, 4.0, 5.0):
        deadlines.reached(now)
    assert times == [1.0, 3.0, 5.0]


def test_a_callback_may_switch_another_off() -> None:
    fired: list[str] = []
    deadlines = Deadlines(lambda: None)
    second = deadlines.new(lambda: fired.append("second"))

    def fire() -> None:
        fired.append("first")
        second.set(None)

    deadlines.new(fire).set(1.0)
    second.set(1.0)
    deadlines.reached(1.0)
    assert fired == ["first"]


def test_only_an_earlier_deadline_asks_for_another_timer(log: Log) -> None:
    log.new("a").set(5.0)
    log.new("b").set(6.0)
    assert log.changes == 1
    log.new("c").set(4.0)
    assert log.changes == 2


def test_moving_a_deadline_later_does_not_touch_the_heap(log: Log) -> None:
    deadline = log.new("a")
    for moment in range(10_000):
        deadline.set(30.0 + moment)
    assert log.changes == 1
    assert log.deadlines.next() == 30.0  # the one entry there is
    log.deadlines.reached(30.0)
    assert log.deadlines.next() == 30.0 + 9_999


def test_clear_forgets_everything(log: Log) -> None:
    log.new("a").set(1.0)
    log.deadlines.clear()
    assert log.deadlines.next() is None
    log.deadlines.reached(2.0)
    assert log.fired == []


def test_a_closed_deadline_never_fires_and_lets_go_of_its_function() -> None:
    class Owner:
        def fire(self) -> None:
            raise AssertionError

    owner = Owner()
    gone = weakref.ref(owner)
    deadlines = Deadlines(lambda: None)
    deadline = deadlines.new(owner.fire)
    deadline.set(1.0)
    deadline.close()
    del owner
    gc.collect()
    assert gone() is None
    deadlines.reached(2.0)
    assert deadlines.next() is None


def test_closed_deadlines_leave_the_heap_long_before_their_time(log: Log) -> None:
    kept = [log.new("kept") for _ in range(20)]
    for deadline in kept:
        deadline.set(1e6)
    for moment in range(2_000):  # sockets of one connection: made, moved, closed
        deadline = log.new("closed")
        deadline.set(1e6 + moment)
        deadline.set(1e3 + moment)
        deadline.close()
        assert len(log.deadlines._heap) <= 50
    log.deadlines.reached(1e5)
    assert log.fired == []
    log.deadlines.reached(1e6)
    assert log.fired == ["kept"] * 20


def test_moving_one_deadline_to_and_fro_does_not_grow_the_heap(log: Log) -> None:
    deadline = log.new("a")
    for moment in range(2_000, 0, -1):
        deadline.set(float(moment))
        assert len(log.deadlines._heap) <= 20
    log.deadlines.reached(5_000.0)
    assert log.fired == ["a"]
    assert log.deadlines.next() is None


def test_a_closed_deadline_is_not_set_again(log: Log) -> None:
    deadline = log.new("a")
    deadline.close()
    deadline.close()
    deadline.set(1.0)
    assert log.deadlines.next() is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5),
            st.one_of(
                st.integers(1, 9).map(float),
                st.sampled_from([None, "close", "advance"]),
            ),
        ),
        max_size=200,
    )
)
def test_whatever_is_closed_what_is_set_fires_once_and_in_time(
    steps: list[tuple[int, float | str | None]],
) -> None:
    log = Log()
    deadlines = [log.new(str(index)) for index in range(6)]
    expected: dict[int, float | None] = {}
    closed: set[int] = set()
    now = 0.0
    for index, step in steps:
        if step == "advance":
            now += 3
            due = [i for i, at in expected.items() if at is not None and at <= now]
            log.fired.clear()
            log.deadlines.reached(now)
            assert sorted(log.fired) == sorted(map(str, due))
            expected = {i: at for i, at in expected.items() if i not in due}
        elif step == "close":
            deadlines[index].close()
            closed.add(index)
            expected.pop(index, None)
        elif index not in closed:
            assert step is None or isinstance(step, float)
            expected[index] = when = None if step is None else now + step
            deadlines[index].set(when)
        times = [at for at in expected.values() if at is not None]
        earliest = log.deadlines.next()
        assert not times or (earliest is not None and earliest <= min(times))
        owners = Counter(id(entry[2]) for entry in log.deadlines._heap)
        spare = sum(owners.values()) - len(owners)
        assert spare <= max(16, len(log.deadlines._heap) / 2)
