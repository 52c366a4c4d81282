"""Topics with an engine: subscribing, replaying, publishing in batches, the end."""

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, strategies as st

from tako.errors import TopicsUnavailable
from tako.topics import Cause, Data, Gap, Position, Replay
from tako.topics.replays import Replays
from tests.support.topics import Bench, MemoryEngine
from tests.support.wire import FakeRuntime


class TestSubscribing:
    def test_a_topic_is_asked_for_once(self, remote: Bench) -> None:
        feeds = [remote.subscribe("a"), remote.subscribe("a", "b")]
        assert remote.engine.asked == [["a"], ["b"]]
        remote.leave(feeds[0])
        assert remote.engine.dropped == []
        remote.leave(feeds[1])
        assert remote.engine.dropped == [["a", "b"]]

    def test_it_waits_until_the_engine_is_certain(self, remote: Bench) -> None:
        remote.engine.confirming = False
        entering = [remote.entering(remote.feed("a")) for _ in range(3)]
        assert not any(task.done for task in entering)
        assert remote.engine.asked == [["a"]]
        remote.engine.confirming = True
        remote.engine.go_on()
        remote.runtime.run_ready()
        assert all(task.done for task in entering)

    def test_if_the_first_gives_up_the_next_asks(self, remote: Bench) -> None:
        remote.engine.confirming = False
        first, second = (remote.entering(remote.feed("a")) for _ in range(2))
        first.cancel()
        remote.runtime.run_ready()
        assert remote.engine.asked == [["a"], ["a"]]
        assert remote.engine.dropped == [["a"]]
        remote.engine.confirming = True
        remote.engine.go_on()
        remote.runtime.run_ready()
        assert second.done
        assert remote.engine.subscribed == {"a"}
        assert remote.tally.feeds == 1

    def test_if_all_give_up_nothing_is_left(self, remote: Bench) -> None:
        remote.engine.confirming = False
        task = remote.entering(remote.feed("a"))
        task.cancel()
        remote.runtime.run_ready()
        assert remote.engine.subscribed == set()
        assert not remote.session.knows("a")
        assert remote.tally.feeds == 0

    def test_a_message_comes_back_to_its_publisher(self, remote: Bench) -> None:
        feed = remote.subscribe("a")
        assert remote.publish("a", "1").result == Position("e" * 16, 1)
        assert remote.read(feed) == []
        remote.engine.deliver()
        assert remote.read(feed) == ["1"]


class Scheduled(MemoryEngine):
    """One on which things happen while its history is asked."""

    def __init__(self, runtime: FakeRuntime, schedule: list[str]) -> None:
        super().__init__(runtime)
        self.schedule = schedule

    def do(self, step: str) -> None:
        if step == "keep":
            self.keep("a", str(len(self.kept.get("a", ())) + 1))
        elif step == "deliver" and self.on_wire:
            self.deliver()

    async def history(self, topic: str, since: Position) -> Replay:
        asked = "history" in self.schedule and self.schedule.index("history")
        for step in self.schedule[:asked]:
            self.do(step)
        replay = await super().history(topic, since)
        for step in self.schedule[asked:]:
            self.do(step)
        return replay


@given(
    before=st.integers(0, 6),
    lost=st.integers(0, 6),
    since=st.integers(0, 8),
    schedule=st.lists(st.sampled_from(["keep", "deliver", "history"]), max_size=20),
)
def test_a_replay_and_what_comes_live_are_one_record(
    before: int, lost: int, since: int, schedule: list[str]
) -> None:
    # whatever is published and delivered between subscription and replay
    bench = Bench(engine=True)
    engine = bench.engine = Scheduled(bench.runtime, schedule)
    bench.session._engine = engine
    bench.session._replays = Replays(engine, bench.runtime.signal)
    for number in range(before):
        engine.keep("a", str(number + 1))
    engine.lost = min(lost, before)
    engine.receiver = bench.session
    feed = bench.subscribe("a", since={"a": Position("e" * 16, since)})
    engine.do("keep")
    engine.do("keep")
    while engine.on_wire:
        engine.deliver()
    entries = bench.read(feed)
    bench.runtime.close()
    numbers = [int(each) for each in entries if isinstance(each, str)]
    gaps = [each for each in entries if isinstance(each, Gap)]
    last = len(engine.kept["a"])
    first = numbers[0]
    assert numbers == list(range(first, last + 1))
    if gaps:
        assert entries[0] is gaps[0]
        assert (len(gaps), gaps[0].cause) == (1, Cause.HISTORY)
        assert first == engine.lost + 1
    else:
        assert first == since + 1


class TestPublishing:
    def test_what_waits_goes_as_one_batch(self, remote: Bench) -> None:
        remote.engine.taking = False
        tasks = [remote.publish("a", str(number)) for number in range(5)]
        assert [len(batch) for batch in remote.engine.batches] == [1]
        remote.engine.taking = True
        remote.engine.go_on()
        remote.runtime.run_ready()
        assert [len(batch) for batch in remote.engine.batches] == [1, 4]
        offsets = [task.result.offset for task in tasks]
        assert offsets == [1, 2, 3, 4, 5]
        assert remote.tally.published == 5

    def test_a_batch_is_bounded(self, remote: Bench) -> None:
        remote.engine.taking = False
        remote.publish("a", "first")
        for _ in range(300):
            remote.publish("a", "small")
        for _ in range(3):
            remote.publish("a", bytes(600_000))
        remote.engine.taking = True
        remote.engine.go_on()
        remote.runtime.run_ready()
        assert [len(each) for each in remote.engine.batches] == [1, 256, 45, 1, 1]

    def test_while_it_is_down_messages_wait(self, remote: Bench) -> None:
        remote.engine.go_on(up=False)
        tasks = [remote.publish("a", str(number)) for number in range(3)]
        remote.runtime.advance(5)
        assert not any(task.done for task in tasks)
        assert remote.tally.queued_bytes == 3
        remote.engine.go_on(up=True)
        remote.runtime.run_ready()
        assert [task.result.offset for task in tasks] == [1, 2, 3]
        assert remote.tally.queued_bytes == 0

    @pytest.mark.parametrize(("size", "most"), [(1, 1_000), (1 << 20, 4)])
    def test_too_many_are_refused(self, remote: Bench, size: int, most: int) -> None:
        remote.engine.go_on(up=False)
        tasks = [remote.publish("a", bytes(size)) for _ in range(most + 2)]
        refused = [task for task in tasks if task.done]
        assert len(refused) == 2
        assert all(isinstance(task.error, TopicsUnavailable) for task in refused)
        assert remote.tally.refused == 2
        remote.engine.go_on(up=True)
        remote.runtime.run_ready()
        assert remote.tally.published == most

    def test_a_message_that_waits_is_withdrawn(self, remote: Bench) -> None:
        remote.engine.go_on(up=False)
        tasks = [remote.publish("a", data) for data in "123"]
        tasks[1].cancel()
        remote.runtime.run_ready()
        remote.engine.go_on(up=True)
        remote.runtime.run_ready()
        assert [item.data for item in remote.engine.kept["a"]] == ["1", "3"]

    def test_an_engine_that_fails_says_so_to_its_publishers(
        self, remote: Bench
    ) -> None:
        async def fails(_: object) -> object:
            msg = "no such command"
            raise ValueError(msg)

        works, remote.engine.publish = remote.engine.publish, fails  # type: ignore[method-assign, assignment]
        error = remote.publish("a", "1").error
        assert isinstance(error, TopicsUnavailable)
        assert "no such command" in str(error)
        assert isinstance(error.__cause__, ValueError)
        remote.engine.publish = works  # type: ignore[method-assign]
        assert remote.publish("a", "2").result is not None

    def test_one_message_that_is_refused_fails_alone(self, remote: Bench) -> None:
        takes = remote.engine.publish

        async def publish(
            batch: Sequence[tuple[str, Data]],
        ) -> Sequence[Position | Exception | None]:
            taken = iter(await takes([each for each in batch if each[0] != "closed"]))
            refusal = ValueError("you may not")
            return [refusal if name == "closed" else next(taken) for name, _ in batch]

        remote.engine.publish = publish  # type: ignore[method-assign, assignment]
        remote.engine.taking = False
        names = ["a", "a", "closed", "a"]
        tasks = [remote.publish(name, str(turn)) for turn, name in enumerate(names)]
        remote.engine.taking = True
        remote.engine.go_on()
        remote.runtime.run_ready()
        one, two, refused, three = tasks
        assert [task.result.offset for task in (one, two, three)] == [1, 2, 3]
        assert isinstance(refused.error, TopicsUnavailable)
        assert "you may not" in str(refused.error)
        assert (remote.tally.published, remote.tally.refused) == (3, 1)

    def test_what_is_reached_again_is_counted(self, remote: Bench) -> None:
        for up in (True, False, True, False, True):
            remote.engine.go_on(up=up)
        assert remote.tally.reconnects == 2


class TestTheEnd:
    def test_feeds_end_first_and_handlers_still_publish(self, remote: Bench) -> None:
        feed = remote.subscribe("a")
        remote.session.sessions_end()
        assert feed.ended
        assert remote.publish("a", "left").result is not None
        assert remote.subscribe("a").ended

    def test_what_waits_has_a_second(self, remote: Bench) -> None:
        remote.engine.taking = False
        task = remote.publish("a", "1")
        end = remote.runtime.spawn(remote.session.servers_ended, 1.0)
        remote.runtime.advance(0.5)
        assert not end.done
        remote.engine.taking = True
        remote.engine.go_on()
        remote.runtime.run_ready()
        assert task.result == Position("e" * 16, 1)
        assert end.done
        assert remote.engine.ended
        assert remote.backend.lent == 0

    def test_then_it_is_refused(self, remote: Bench) -> None:
        remote.engine.go_on(up=False)
        tasks = [remote.publish("a", "1")]
        end = remote.runtime.spawn(remote.session.servers_ended, 1.0)
        remote.runtime.advance(1.1)
        assert end.done
        tasks.append(remote.publish("a", "2"))
        assert all(isinstance(task.error, TopicsUnavailable) for task in tasks)
        assert remote.tally.queued_bytes == 0
        assert remote.engine.ended

    def test_an_engine_that_fails_ends_everything(
        self, remote: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        feed = remote.subscribe("a")
        remote.engine.fail(ValueError("a bug"))
        remote.runtime.run_ready()
        assert feed.ended
        assert isinstance(remote.publish("a", "1").error, TopicsUnavailable)
        assert remote.subscribe("a").ended
        assert "a bug" in caplog.text
        remote.runtime.run(remote.session.servers_ended, 1.0)
        assert remote.backend.lent == 0

    def test_it_ends_once(self, make: Callable[..., Bench]) -> None:
        for bench in (make(), make(engine=True)):
            for _ in range(2):
                bench.runtime.run(bench.session.servers_ended, 1.0)
            assert bench.backend.lent == 0
            bench.session.sessions_end()
            begun = bench.runtime.spawn(bench.session.begun)
            bench.runtime.run_ready()
            assert isinstance(begun.error, TopicsUnavailable)

    def test_without_an_engine_it_says_how_far_it_reaches(
        self, make: Callable[..., Bench], caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level("INFO", logger="tako.topics")
        make()
        assert caplog.messages == ["topics reach this process only"]
