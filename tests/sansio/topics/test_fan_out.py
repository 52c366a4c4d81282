"""Handing out: turns of the loop, order, and what comes faster than it can be."""

import pytest

from tako.topics import Cause, Feed, Gap, Item
from tests.support.topics import Bench, FakeOutlet


def relayed(bench: Bench, count: int, topic: str = "a") -> list[FakeOutlet]:
    outlets = [FakeOutlet() for _ in range(count)]
    for outlet in outlets:
        feed = bench.subscribe(topic)
        feed.attach(outlet, None, lambda gap: f"missed {gap.missed}")
        feed.drain()
    return outlets


def one_turn(bench: Bench) -> None:
    """Run what is due now, but not what that makes due."""
    for _ in range(len(bench.runtime.ready)):
        bench.runtime.ready.popleft()()


def test_many_subscribers_are_served_over_several_turns(local: Bench) -> None:
    outlets = relayed(local, 5_000)
    task = local.runtime.spawn(local.session.publish, "a", "1")
    served: list[int] = []
    while not served or served[-1] < 5_000:
        one_turn(local)
        served.append(sum(bool(each.sent) for each in outlets))
    assert served == [2_000, 4_000, 5_000]
    assert all(each.sent == ["1"] for each in outlets)
    # the first of a turn does not wait for its end
    assert all(each.soon == [False] for each in outlets)
    local.runtime.run_ready()
    assert task.done
    assert local.tally.delivered == 5_000


def test_what_follows_in_the_same_turn_leaves_together(local: Bench) -> None:
    outlets = relayed(local, 2_001)
    for data in "123":
        local.runtime.spawn(local.session.publish, "a", data)
    local.runtime.run_ready()
    assert all(each.sent == ["1", "2", "3"] for each in outlets)
    assert outlets[0].soon == [False, True, True]
    assert outlets[-1].soon == [False, False, False]


def test_a_loop_that_is_closed_sends_nothing(
    local: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sockets may be closed as well, and their descriptors be those of others."""

    def call_soon(_: object) -> None:
        raise RuntimeError

    outlets = relayed(local, 2)
    monkeypatch.setattr(local.runtime, "call_soon", call_soon)
    task = local.runtime.spawn(local.session.publish, "a", "1")
    local.runtime.run_ready()
    assert isinstance(task.error, RuntimeError)
    assert all(each.sent == [] for each in outlets)


def test_what_is_published_meanwhile_comes_behind(local: Bench) -> None:
    outlets = relayed(local, 3_000)
    few = relayed(local, 1, "b")
    both = FakeOutlet()
    feed = local.subscribe("a", "b")
    feed.attach(both, None, None)
    feed.drain()
    tasks = [
        local.runtime.spawn(local.session.publish, topic, data)
        for topic, data in (("a", "1"), ("b", "2"), ("a", "3"))
    ]
    local.runtime.run_ready()
    assert all(task.done for task in tasks)
    assert all(each.sent == ["1", "3"] for each in outlets)
    assert few[0].sent == ["2"]
    assert both.sent == ["1", "2", "3"]


def test_feeds_may_come_and_go_while_a_message_is_handed_out(local: Bench) -> None:
    feeds: list[Feed] = []
    late: list[Feed] = []

    class Leaver(FakeOutlet):
        def close(self, code: int, reason: str) -> None:
            super().close(code, reason)
            feeds[2].end()

    def fails(_: Item) -> str:
        late.append(local.feed("a"))
        msg = "ends its feed, and that of another"
        raise ValueError(msg)

    outlets = [FakeOutlet(), Leaver(), FakeOutlet(), FakeOutlet()]
    for outlet in outlets:
        feeds.append(local.subscribe("a"))
        feeds[-1].attach(outlet, fails if isinstance(outlet, Leaver) else None, None)
        feeds[-1].drain()
    local.publish("a", "1")
    local.publish("a", "2")
    assert [each.sent for each in outlets] == [["1", "2"], [], [], ["1", "2"]]
    assert local.tally.feeds == 2


def test_a_loss_keeps_its_place_in_the_backlog(remote: Bench) -> None:
    outlets = relayed(remote, 2_500)
    receiver = remote.engine.receiver
    receiver.message("a", "1", None)
    receiver.gap("a", Cause.ENGINE, 3)
    receiver.gap("a", Cause.ENGINE, 4)
    receiver.message("a", "2", None)
    remote.runtime.run_ready()
    assert all(each.sent == ["1", "missed 7", "2"] for each in outlets)


def test_what_an_engine_delivers_too_fast_becomes_a_gap(remote: Bench) -> None:
    outlets = relayed(remote, 2_500)
    receiver = remote.engine.receiver
    for number in range(1_300):
        receiver.message("a", str(number), None)
    behind = remote.session._fan_out._backlog
    assert len(behind) <= 1_001
    remote.runtime.run_ready()
    receiver.message("a", "last", None)
    remote.runtime.run_ready()
    whole = outlets[0].sent
    assert all(each.sent == whole for each in outlets)
    *numbers, gap, last = whole
    assert numbers == [str(number) for number in range(len(numbers))]
    assert gap == f"missed {1_300 - len(numbers)}"
    assert last == "last"


def test_large_messages_count_by_their_size(remote: Bench) -> None:
    relayed(remote, 2_500)
    for _ in range(10):
        remote.engine.receiver.message("a", "x" * (1 << 20), None)
    assert len(remote.session._fan_out._backlog) <= 5
    assert remote.tally.dropped == {"backlog": 6 * 2_500}
    remote.runtime.run_ready()
    assert not remote.session._fan_out.behind


def test_a_loss_of_everything_reaches_each_topic_of_a_feed(remote: Bench) -> None:
    feed = remote.subscribe("a", "b")
    remote.engine.receiver.gap(None, Cause.HUB, None)
    gaps = remote.read(feed)
    assert {(gap.topic, gap.cause) for gap in gaps if isinstance(gap, Gap)} == {
        ("a", Cause.HUB),
        ("b", Cause.HUB),
    }


def test_a_loss_of_a_topic_without_feeds_is_nothing(remote: Bench) -> None:
    remote.engine.receiver.gap("a", Cause.ENGINE, 1)
    remote.engine.receiver.message("a", "1", None)
    assert remote.tally.gaps == {}
    assert remote.tally.delivered == 0


def test_a_publisher_that_never_waits_lets_readers_read(local: Bench) -> None:
    feed = local.subscribe("a", bound=100)
    found: list[object] = []

    async def read() -> None:
        while True:
            found.append(await anext(feed))

    async def flood() -> None:
        for number in range(1_000):
            await local.session.publish("a", str(number))

    local.runtime.spawn(read)
    task = local.runtime.spawn(flood)
    local.runtime.advance(0)  # sleep(0) of the double is a timer
    assert task.done
    local.runtime.run_ready()
    assert len(found) == 1_000
    assert not any(isinstance(each, Gap) for each in found)
