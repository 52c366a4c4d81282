"""Histories of an engine: read once for many feeds, and right for each of them."""

import pytest
from hypothesis import given, strategies as st

from tako.topics import OLDEST, Position, Replay
from tako.topics.replays import Replays
from tests.support.topics import MemoryEngine
from tests.support.wire import FakeRuntime, FakeTask


EPOCH = "e" * 16


class Slow(MemoryEngine):
    """One whose answers come when the test says so; it reads when it is asked."""

    def __init__(self, runtime: FakeRuntime) -> None:
        super().__init__(runtime)
        self.reads: list[Position] = []
        self.answers = 0
        self.error: Exception | None = None

    async def history(self, topic: str, since: Position) -> Replay:
        self.reads.append(since)
        number, found = len(self.reads), await super().history(topic, since)
        while self.answers < number:
            await self._changed.wait()
        if self.error is not None:
            raise self.error
        return found

    def answer(self) -> None:
        self.answers = len(self.reads)
        self._changed.set()
        self._runtime.run_ready()


class Bench:
    def __init__(self, kept: int = 0, lost: int = 0) -> None:
        self.runtime = FakeRuntime()
        self.engine = Slow(self.runtime)
        self.engine.lost = lost
        for _ in range(kept):
            self.keep()
        self.replays = Replays(self.engine, self.runtime.signal)

    def keep(self) -> None:
        self.engine.keep("a", str(len(self.engine.kept.get("a", ())) + 1))

    def ask(self, offset: int, epoch: str = EPOCH) -> FakeTask:
        task = self.runtime.spawn(self.replays.behind, "a", Position(epoch, offset))
        self.runtime.run_ready()
        return task


def told(task: FakeTask) -> tuple[list[object], bool]:
    assert task.done
    items, complete = task.result
    return [item.data for item in items], complete


def test_those_who_come_while_one_reads_share_the_next_read() -> None:
    bench = Bench(kept=4)
    first = bench.ask(3)
    bench.keep()  # and its read does not know of it
    others = [bench.ask(offset) for offset in (4, 2, 5, 2)]
    assert bench.engine.reads == [Position(EPOCH, 3)]
    bench.engine.answer()
    assert told(first) == (["4"], True)
    assert bench.engine.reads[1:] == [Position(EPOCH, 2)]
    bench.engine.answer()
    found = [["5"], ["3", "4", "5"], [], ["3", "4", "5"]]
    assert list(map(told, others)) == [(each, True) for each in found]
    assert others[1].result[0][0] is others[3].result[0][0]
    assert not bench.replays._topics


def test_positions_that_are_not_known_take_one_read_more_together() -> None:
    bench = Bench(kept=5, lost=2)
    first = bench.ask(4)
    known, others = bench.ask(3), [bench.ask(1, f"{n:016x}") for n in range(9)]
    ahead = bench.ask(9)
    bench.engine.answer()
    bench.engine.answer()
    assert told(first) == (["5"], True)
    assert told(known) == (["4", "5"], True)
    assert bench.engine.reads == [Position(EPOCH, 4), Position(EPOCH, 3), OLDEST]
    bench.engine.answer()
    assert {str(told(each)) for each in [*others, ahead]} == {
        str((["3", "4", "5"], False))
    }


def test_if_the_first_is_not_known_that_read_is_for_all() -> None:
    bench = Bench(kept=5, lost=2)
    bench.ask(5)
    old, known, foreign = bench.ask(1), bench.ask(4), bench.ask(7, "f" * 16)
    bench.engine.answer()
    bench.engine.answer()
    assert len(bench.engine.reads) == 2
    assert told(old) == told(foreign) == (["3", "4", "5"], False)
    assert told(known) == (["5"], True)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_one_that_gives_up_holds_up_no_other(which: int) -> None:
    bench = Bench(kept=3)
    tasks = [bench.ask(offset) for offset in (0, 1, 2)]
    tasks[which].cancel()
    for _ in range(3):
        bench.runtime.run_ready()
        bench.engine.answer()
    found = [["1", "2", "3"], ["2", "3"], ["3"]]
    for number, task in enumerate(tasks):
        if number != which:
            assert told(task) == (found[number], True)
    assert not bench.replays._topics


def test_an_error_is_told_to_each() -> None:
    bench = Bench(kept=3)
    bench.engine.error = ValueError("no")
    tasks = [bench.ask(offset) for offset in (0, 1, 2)]
    for _ in tasks:
        bench.engine.answer()
    assert [str(task.error) for task in tasks] == ["no"] * 3
    assert not bench.replays._topics


def test_topics_do_not_wait_for_each_other() -> None:
    bench = Bench()
    names = "abc"
    tasks = [bench.runtime.spawn(bench.replays.behind, name, OLDEST) for name in names]
    bench.runtime.run_ready()
    assert len(bench.engine.reads) == 3
    bench.engine.answer()
    assert [told(task) for task in tasks] == [([], False)] * 3


@given(
    st.lists(
        st.one_of(
            st.just("keep"),
            st.just("answer"),
            st.just("lose"),
            st.tuples(st.sampled_from([EPOCH, "0" * 16, "f" * 16]), st.integers(0, 9)),
        ),
        max_size=25,
    )
)
def test_each_has_what_was_kept_at_a_time_after_it_has_asked(
    steps: list[str | tuple[str, int]],
) -> None:
    bench = Bench(kept=2)
    engine = bench.engine
    asked: list[tuple[FakeTask, str, int, int]] = []
    for step in steps:
        if step == "keep":
            bench.keep()
        elif step == "lose":
            engine.lost = min(engine.lost + 1, len(engine.kept["a"]))
        elif step == "answer":
            engine.answer()
        elif not isinstance(step, str):
            epoch, offset = step
            asked.append(
                (bench.ask(offset, epoch), epoch, offset, len(engine.kept["a"]))
            )
    for _ in range(5):
        engine.answer()
    most = len(engine.kept["a"])
    for task, epoch, offset, least in asked:
        found, complete = told(task)
        numbers = [int(str(each)) for each in found]
        end = numbers[-1] if numbers else most
        assert numbers == list(range(end - len(numbers) + 1, end + 1))
        if complete:
            assert epoch == EPOCH
            assert numbers[:1] in ([], [offset + 1])
        if numbers:
            assert least <= end <= most
    assert not bench.replays._topics
