"""Feeds: iterated over, relayed, ended; and what a bug of a user's function may do."""

from collections.abc import Callable

import pytest

from tako.topics import (
    OLDEST,
    Cause,
    Gap,
    History,
    Item,
    Position,
    close,
    drop_newest,
    latest,
)
from tests.support.topics import Bench, FakeOutlet


def causes(entries: list[object]) -> list[object]:
    return [each.cause if isinstance(each, Gap) else each for each in entries]


class TestIteration:
    def test_what_is_published_arrives_in_order(self, local: Bench) -> None:
        feed = local.subscribe("a", "b")
        for topic, data in (("a", "1"), ("b", b"2"), ("c", "no"), ("a", "3")):
            local.publish(topic, data)
        assert local.read(feed) == ["1", b"2", "3"]

    def test_a_cancelled_wait_loses_nothing(self, local: Bench) -> None:
        feed = local.subscribe("a")
        assert local.read(feed) == []
        local.publish("a", "1")
        assert local.read(feed) == ["1"]

    def test_the_end_comes_behind_what_waits(self, local: Bench) -> None:
        feed = local.subscribe("a")
        local.publish("a", "1")
        local.session.sessions_end()
        local.publish("a", "2")
        reader = local.runtime.spawn(feed.__anext__)
        local.runtime.run_ready()
        assert reader.result.data == "1"
        ending = local.runtime.spawn(feed.__anext__)
        local.runtime.run_ready()
        assert isinstance(ending.error, StopAsyncIteration)
        assert (feed.ended, feed.close_code) == (True, None)

    def test_a_policy_ends_it_with_its_code(self, local: Bench) -> None:
        feed = local.subscribe("a", bound=2, policy=close(1013))
        for data in "123":
            local.publish("a", data)
        assert local.read(feed) == ["1", "2"]
        assert (feed.ended, feed.close_code) == (True, 1013)
        assert local.tally.feeds == 0

    def test_a_feed_is_entered_once(self, local: Bench) -> None:
        feed = local.subscribe("a")
        again = local.entering(feed)
        assert isinstance(again.error, RuntimeError)

    def test_a_feed_that_was_not_entered_says_how(self, local: Bench) -> None:
        feed = local.feed("a")
        reading = local.runtime.spawn(feed.__anext__)
        local.runtime.run_ready()
        assert "async with topics.subscribe" in str(reading.error)
        with pytest.raises(RuntimeError, match=r"async with topics\.subscribe"):
            feed.attach(FakeOutlet(), None, None)

    def test_leaving_frees_what_waits(self, local: Bench) -> None:
        feed = local.subscribe("a")
        local.publish("a", "12345")
        assert local.tally.queued_bytes == 5
        local.leave(feed)
        local.publish("a", "6")
        assert local.tally.queued_bytes == 0
        assert local.tally.counts().feeds == 0


class TestRelaying:
    def test_what_waits_and_what_comes_is_sent(self, local: Bench) -> None:
        feed, outlet = local.subscribe("a"), FakeOutlet()
        local.publish("a", "1")
        feed.attach(outlet, None, None)
        feed.drain()
        local.publish("a", "2")
        assert outlet.sent == ["1", "2"]

    def test_all_sockets_get_one_frame(self, local: Bench) -> None:
        outlets = [FakeOutlet() for _ in range(3)]
        for outlet in outlets:
            feed = local.subscribe("a")
            feed.attach(outlet, None, None)
            feed.drain()
        local.publish("a", "1")
        assert len({each.frames[0] for each in outlets}) == 1

    def test_a_message_is_encoded_once_for_each_function(self, local: Bench) -> None:
        calls: list[str] = []

        def encode(item: Item) -> str:
            calls.append(str(item.data))
            return f"<{item.data!s}>"

        outlets = [FakeOutlet() for _ in range(3)]
        for outlet in outlets:
            feed = local.subscribe("a")
            feed.attach(outlet, encode, None)
            feed.drain()
        local.publish("a", "1")
        assert calls == ["1"]
        assert [each.sent for each in outlets] == [["<1>"]] * 3

    def test_the_first_message_of_a_turn_is_not_delayed(self, local: Bench) -> None:
        feed, outlet = local.subscribe("a"), FakeOutlet()
        feed.attach(outlet, None, None)
        feed.drain()

        async def burst() -> None:
            for _ in range(3):
                await local.session.publish("a", "x")

        for _ in range(2):
            local.runtime.run(burst)
        assert outlet.soon == [False, True, True] * 2

    def test_what_has_no_room_waits_and_is_not_overtaken(self, local: Bench) -> None:
        feed, outlet = local.subscribe("a"), FakeOutlet(room=1)
        feed.attach(outlet, None, None)
        feed.drain()
        for data in "123":
            local.publish("a", data)
        assert outlet.sent == ["1"]
        outlet.room = 1
        local.publish("a", "4")
        assert outlet.sent == ["1", "2"]
        outlet.room = 10
        feed.drain()
        local.publish("a", "5")
        assert outlet.sent == list("12345")
        assert local.tally.queued_bytes == 0

    def test_a_gap_closes_the_socket_with_what_it_means(self, remote: Bench) -> None:
        slow, lost = FakeOutlet(room=0), FakeOutlet()
        feed = remote.subscribe("a", bound=1)
        feed.attach(slow, None, None)
        feed.drain()
        other = remote.subscribe("b")
        other.attach(lost, None, None)
        other.drain()
        for data in "123":
            remote.engine.receiver.message("a", data, None)
        remote.engine.receiver.gap("b", Cause.ENGINE, None)
        remote.engine.receiver.message("b", "later", None)
        slow.room = 10
        feed.drain()
        assert slow.closes == [(1013, "too slow")]
        assert lost.closes == [(1012, "messages may be missing")]
        assert lost.sent == []

    def test_a_gap_can_be_a_message_at_its_place(self, local: Bench) -> None:
        gaps: list[Gap] = []

        def on_gap(gap: Gap) -> str:
            gaps.append(gap)
            return f"missed {gap.missed}"

        feed, outlet = local.subscribe("a", bound=2), FakeOutlet(room=0)
        feed.attach(outlet, None, on_gap)
        feed.drain()
        for data in "12345":
            local.publish("a", data)
        outlet.room = 1
        feed.drain()  # 1 was on its way
        assert outlet.sent == ["1"]
        feed.drain()
        outlet.room = 10
        feed.drain()
        assert outlet.sent == ["1", "missed 2", "4", "5"]
        assert len(gaps) == 1

    def test_a_gap_can_be_left_out(self, remote: Bench) -> None:
        feed, outlet = remote.subscribe("a"), FakeOutlet()
        feed.attach(outlet, None, lambda _: None)
        feed.drain()
        remote.engine.receiver.gap(None, Cause.ENGINE, None)
        remote.engine.receiver.message("a", "1", None)
        assert outlet.sent == ["1"]
        assert outlet.closes == []

    def test_a_policy_closes_the_socket(self, local: Bench) -> None:
        feed = local.subscribe("a", bound=1, policy=close(4000))
        outlet = FakeOutlet(room=0)
        feed.attach(outlet, None, None)
        feed.drain()
        for data in "123":
            local.publish("a", data)
        assert outlet.closes == [(4000, "too slow")]
        assert outlet.over

    def test_the_newest_can_go_instead(self, local: Bench) -> None:
        feed = local.subscribe("a", bound=2, policy=drop_newest)
        for data in "1234":
            local.publish("a", data)
        assert causes(local.read(feed)) == ["1", "2", Cause.SLOW]

    def test_a_closing_socket_keeps_nothing(self, local: Bench) -> None:
        feed, outlet = local.subscribe("a"), FakeOutlet()
        feed.attach(outlet, None, None)
        feed.drain()
        outlet.open = False
        local.publish("a", "1")
        assert local.tally.queued_bytes == 0

    def test_one_socket_relays_a_feed(self, local: Bench) -> None:
        feed = local.subscribe("a")
        feed.attach(FakeOutlet(), None, None)
        with pytest.raises(RuntimeError, match="subscribe once for each"):
            feed.attach(FakeOutlet(), None, None)
        reading = local.runtime.spawn(feed.__anext__)
        local.runtime.run_ready()
        assert "a WebSocket relays this feed" in str(reading.error)

    def test_after_it_what_comes_waits_again(self, local: Bench) -> None:
        feed, outlet = local.subscribe("a"), FakeOutlet()
        feed.attach(outlet, None, None)
        feed.drain()
        feed.detach()
        local.publish("a", "1")
        assert outlet.sent == []
        assert local.read(feed) == ["1"]

    def test_an_ended_feed_ends_the_relay(self, local: Bench) -> None:
        feed, outlet = local.subscribe("a"), FakeOutlet()
        local.session.sessions_end()
        feed.attach(outlet, None, None)
        assert outlet.over


class TestBugs:
    def fails(self, _: Item) -> str:
        msg = "a bug"
        raise ValueError(msg)

    def test_an_encoding_that_fails_ends_its_feed_alone(
        self, local: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        outlets = [FakeOutlet(), FakeOutlet()]
        for outlet, encode in zip(outlets, (self.fails, None), strict=True):
            feed = local.subscribe("a")
            feed.attach(outlet, encode, None)
            feed.drain()
        assert local.publish("a", "1").done
        assert [each.sent for each in outlets] == [[], ["1"]]
        assert [code for code, _ in outlets[0].closes] == [1011]
        assert "a bug" in caplog.text

    def test_a_key_that_fails_ends_its_feed(
        self, local: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        feed = local.subscribe("a", policy=latest(self.fails))
        assert local.publish("a", "1").done
        assert feed.close_code == 1011
        assert "a bug" in caplog.text

    def test_an_on_gap_that_fails_ends_its_feed(
        self, remote: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        def on_gap(gap: Gap) -> str:
            raise ValueError(repr(gap))

        feed, outlet = remote.subscribe("a"), FakeOutlet()
        feed.attach(outlet, None, on_gap)
        remote.engine.receiver.gap("a", Cause.HUB, 3)
        assert [code for code, _ in outlet.closes] == [1011]
        assert "Gap('a', HUB, missed=3)" in caplog.text


class TestSince:
    def test_without_a_history_there_is_a_gap(self, local: Bench) -> None:
        since = Position("0123456789abcdef", 1)
        feed = local.subscribe("a", since={"a": since})
        local.publish("a", "1")
        assert causes(local.read(feed)) == [Cause.HISTORY, "1"]

    def test_the_oldest_is_no_gap(self, make: Callable[..., Bench]) -> None:
        bench = make(history=History(messages=2))
        for data in "123":
            bench.publish("a", data)
        feed = bench.subscribe("a", since={"a": OLDEST})
        bench.publish("a", "4")
        assert bench.read(feed) == ["2", "3", "4"]

    @pytest.mark.parametrize("text", ["", "rubbish", "f" * 16 + ".1", "x" * 5000])
    def test_any_text_is_a_gap_or_a_position(
        self, make: Callable[..., Bench], text: str
    ) -> None:
        bench = make(history=History())
        bench.publish("a", "1")
        feed = bench.subscribe("a", since={"a": text})
        assert causes(bench.read(feed)) == [Cause.HISTORY, "1"]

    def test_text_that_is_a_position_resumes(self, make: Callable[..., Bench]) -> None:
        bench = make(history=History())
        position = bench.publish("a", "1").result
        bench.publish("a", "2")
        feed = bench.subscribe("a", "b", since={"a": str(position)})
        bench.publish("b", "3")
        assert bench.read(feed) == ["2", "3"]

    def test_a_replay_is_not_bound(self, make: Callable[..., Bench]) -> None:
        bench = make(history=History(messages=10))
        for number in range(10):
            bench.publish("a", str(number))
        feed = bench.subscribe("a", since={"a": OLDEST}, bound=2)
        outlet = FakeOutlet(room=0)
        feed.attach(outlet, None, None)
        feed.drain()
        bench.publish("a", "10")
        outlet.room = 20
        feed.drain()
        assert outlet.sent == [str(number) for number in range(11)]

    def test_what_the_history_keeps_holds_no_frames(
        self, make: Callable[..., Bench]
    ) -> None:
        bench = make(history=History())
        feed = bench.subscribe("a")
        feed.attach(FakeOutlet(), None, None)
        feed.drain()
        bench.publish("a", "1")
        (item,) = bench.session._histories.since("a", OLDEST).items  # type: ignore[union-attr]
        assert item.plain is None
