"""A loop that runs late: timers that wait for the peer, and what is logged."""

import logging

import pytest

from tako.core.counters import Counters
from tako.core.late_loop import LoopWatch, PatientTimer
from tests.support.wire import FakeRuntime


class Timed:
    """A timer and the times at which it called, since the start."""

    def __init__(self) -> None:
        self.runtime = FakeRuntime()
        self.start = self.runtime.now
        self.calls: list[float] = []
        self.timer = PatientTimer(self.runtime, self._called)

    def _called(self) -> None:
        self.calls.append(round(self.runtime.now - self.start, 3))

    def set(self, seconds: float) -> None:
        self.timer.set(self.start + seconds)

    def block(self, seconds: float) -> None:
        """Let time pass without a turn of the loop, then give it one."""
        self.runtime.now += seconds
        self.runtime.advance(0)


@pytest.fixture
def timed() -> Timed:
    return Timed()


class TestPatientTimer:
    def test_it_calls_in_time_and_once(self, timed: Timed) -> None:
        timed.set(2)
        timed.runtime.advance(60)
        assert timed.calls == [2]

    def test_an_earlier_time_replaces_a_later_one_only(self, timed: Timed) -> None:
        timed.set(5)
        timed.set(2)
        timed.set(9)
        timed.runtime.advance(60)
        assert timed.calls == [2]

    def test_it_can_be_set_again(self, timed: Timed) -> None:
        timed.set(1)
        timed.runtime.advance(1)
        timed.set(3)
        timed.runtime.advance(60)
        assert timed.calls == [1, 3]

    def test_cancelled_it_does_not_call(self, timed: Timed) -> None:
        timed.timer.cancel()
        timed.set(1)
        timed.timer.cancel()
        timed.runtime.advance(60)
        assert timed.calls == []

    def test_a_little_late_is_in_time(self, timed: Timed) -> None:
        timed.set(1)
        timed.block(1.09)
        assert timed.calls == [1.09]

    @pytest.mark.parametrize(("late", "waits"), [(0.25, 0.25), (0.8, 0.8), (30, 1)])
    def test_late_it_waits_as_long_again_but_a_second_at_most(
        self, timed: Timed, late: float, waits: float
    ) -> None:
        timed.set(1)
        timed.block(1 + late)
        assert timed.calls == []
        timed.runtime.advance(waits - 0.01)
        assert timed.calls == []
        timed.runtime.advance(0.01)
        assert timed.calls == [round(1 + late + waits, 3)]

    def test_it_is_put_off_once_however_late_the_loop_stays(self, timed: Timed) -> None:
        timed.set(1)
        timed.block(5)
        assert timed.calls == []
        timed.block(5)
        assert timed.calls == [10]
        timed.set(11)
        timed.block(5)
        assert timed.calls == [10], "another time is another matter"

    def test_put_off_it_can_be_cancelled(self, timed: Timed) -> None:
        timed.set(1)
        timed.block(3)
        timed.timer.cancel()
        timed.runtime.advance(60)
        assert timed.calls == []

    def test_a_time_in_the_past_is_not_put_off(self, timed: Timed) -> None:
        timed.set(-10)
        timed.runtime.advance(0)
        assert timed.calls == [0]


class TestLoopWatch:
    @pytest.fixture(autouse=True)
    def log(self, caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
        caplog.set_level(logging.DEBUG, "tako.server")
        return caplog

    def test_a_loop_that_turns_is_not_mentioned(
        self, log: pytest.LogCaptureFixture
    ) -> None:
        runtime = FakeRuntime()
        LoopWatch(runtime, Counters().looked)
        for _ in range(20):
            runtime.now += 0.9
            runtime.advance(0)
        runtime.advance(100)
        assert not log.records

    def test_each_standstill_is_logged_with_its_length(
        self, log: pytest.LogCaptureFixture
    ) -> None:
        runtime = FakeRuntime()
        LoopWatch(runtime, Counters().looked)
        for seconds in (2.5, 7.5):
            runtime.now += seconds
            runtime.advance(10)
        first, second = log.records
        assert (first.name, first.levelname) == ("tako.server", "WARNING")
        assert first.message.startswith("the event loop was blocked for 2.0 s: ")
        assert second.message.startswith("the event loop was blocked for 7.0 s: ")
        assert "asyncio.to_thread" in first.message

    def test_its_lag_lasts_from_the_standstill_to_the_look_after_it(self) -> None:
        runtime = FakeRuntime()
        watch = LoopWatch(runtime, Counters().looked)
        runtime.advance(10.25)  # the next look is due in a quarter of a second
        assert watch.lag <= 0
        runtime.now += 4.25
        assert watch.lag == 4
        runtime.advance(0)
        assert watch.lag == 4
        runtime.advance(0.25)
        assert watch.lag == 4
        runtime.advance(0.25)
        assert watch.lag <= 0

    def test_stopped_it_leaves_no_timer(self) -> None:
        runtime = FakeRuntime()
        watch = LoopWatch(runtime, Counters().looked)
        runtime.advance(3)
        watch.stop()
        assert not [timer for timer in runtime.timers if timer.callback is not None]
