"""The hub without sockets: order, ranges of what was left out, history, bounds."""

from itertools import count

import pytest
from hypothesis import given, strategies as st

from tako.topics.hub import wire
from tako.topics.hub.core import Hub, Member


DAY = 86_400.0


class Bench:
    """A hub on a clock of its own."""

    def __init__(self, **limits: int) -> None:
        self.now = 1000.0
        epochs = count(1)
        self.hub = Hub(lambda: self.now, lambda: next(epochs).to_bytes(8), **limits)

    def join(self, messages: int = 0, seconds: float = 0.0, **more: int) -> "Worker":
        worker = Worker(self.hub)
        size, topics = more.get("size", 1 << 20), more.get("topics", 0)
        greeting = wire.GREETING.pack(wire.VERSION, size, topics)
        milliseconds = int(seconds * 1000)
        worker.say(wire.HELLO, greeting, number=messages, offset=milliseconds)
        assert worker.take() == [(wire.HELLO, 0, 0, 0, bytes([wire.VERSION]))]
        return worker


class Worker:
    """A member, and what it has read."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.member = Member()
        self.frames = wire.Frames()

    def say(
        self, kind: int, payload: bytes = b"", number: int = 0, offset: int = 0
    ) -> None:
        data = wire.frame(kind, payload, number=number, offset=offset)
        self.hub.receive(self.member, data)

    def subscribe(self, name: str, number: int = 0) -> tuple[bytes, int]:
        """Subscribe; return the epoch and the offset from which messages come."""
        self.say(wire.SUB, name.encode(), number)
        *_, (kind, _, told, offset, epoch) = self.take()
        assert (kind, told) == (wire.SUB, number)
        return epoch, offset

    def publish(self, name: str, *messages: bytes, flags: int = 0) -> None:
        topic = name.encode()
        data = b"".join(
            wire.frame(wire.PUB, topic + each, flags=flags, number=len(topic))
            for each in messages
        )
        self.hub.receive(self.member, data)

    def past(
        self, name: str, epoch: bytes, since: int
    ) -> tuple[list[tuple[int, bytes]], int, bytes]:
        """Return what is kept, the flags of the answer, and its epoch."""
        self.say(wire.PAST, epoch + name.encode(), 77, since)
        *found, (kind, flags, number, last, told) = self.take()
        assert (kind, number) == (wire.DONE, 77)
        if found and not flags & wire.MORE:
            assert found[-1][3] == last
        assert {frame[0] for frame in found} <= {wire.PAST}
        return [(frame[3], frame[4]) for frame in found], flags, told

    def take(self, most: int | None = None) -> list[wire.Frame]:
        """Read ``most`` bytes, or everything, and go on until nothing comes."""
        found = list[wire.Frame]()
        output = self.member.output
        while output:
            piece = bytes(output[:most])
            del output[: len(piece)]
            self.frames.feed(piece)
            while (frame := self.frames.next()) is not None:
                found.append(frame)
            self.hub.sent(self.member)
            if most is not None:
                break
        return found

    def messages(self) -> list[tuple[int, int, bytes]]:
        """Return number, offset and data of the messages that have come."""
        return [(it[2], it[3], it[4]) for it in self.take() if it[0] == wire.MSG]


def test_all_get_what_is_published_in_one_order_and_so_does_the_publisher() -> None:
    bench = Bench()
    one, two, other = bench.join(), bench.join(), bench.join()
    assert one.subscribe("room", 4) == two.subscribe("room", 9)
    other.subscribe("elsewhere")
    one.publish("room", b"a")
    two.publish("room", b"b")
    one.publish("room", b"c", b"")
    assert one.messages() == [(4, 1, b"a"), (4, 2, b"b"), (4, 3, b"c"), (4, 4, b"")]
    assert two.messages() == [(9, 1, b"a"), (9, 2, b"b"), (9, 3, b"c"), (9, 4, b"")]
    assert other.messages() == []


def test_a_publisher_is_told_the_places_of_its_messages() -> None:
    bench = Bench()
    one, two = bench.join(), bench.join()
    two.publish("b", b"1")
    one.publish("a", b"1", b"2")
    one.publish("b", b"2")
    places = [wire.PLACE.iter_unpack(it[4]) for it in one.take() if it[0] == wire.ACK]
    first, second = [list(each) for each in places]
    assert [offset for _, offset in first] == [1, 2]
    assert [offset for _, offset in second] == [2]
    assert first[0][0] == first[1][0] != second[0][0]


def test_text_stays_text() -> None:
    bench = Bench()
    one = bench.join(messages=2)
    one.subscribe("t")
    one.publish("t", b"a", flags=wire.TEXT)
    one.publish("t", b"b")
    assert [it[1] for it in one.take() if it[0] == wire.MSG] == [wire.TEXT, 0]
    one.say(wire.PAST, bytes(8) + b"t")
    assert [it[1] for it in one.take() if it[0] == wire.PAST] == [wire.TEXT, 0]


def test_nothing_comes_after_unsubscribing_and_the_number_is_free() -> None:
    bench = Bench()
    one = bench.join()
    one.subscribe("a", 1)
    one.publish("a", b"1")
    one.say(wire.UNSUB, number=1)
    one.publish("a", b"2")
    kinds = [frame[0] for frame in one.take()]
    assert kinds == [wire.MSG, wire.ACK, wire.UNSUB, wire.ACK]
    one.subscribe("b", 1)
    one.publish("b", b"3")
    assert one.messages() == [(1, 1, b"3")]


def test_a_subscriber_is_told_where_it_begins() -> None:
    bench = Bench()
    one, two = bench.join(), bench.join()
    one.publish("a", b"1", b"2")
    epoch, offset = two.subscribe("a")
    assert offset == 2
    assert epoch == bytes(7) + b"\1"


class TestSlow:
    """What a worker does not take is told as a range, in its place."""

    def test_exactly_what_was_left_out(self) -> None:
        bench = Bench(most_output=200)
        fast, slow = bench.join(), bench.join()
        fast.subscribe("a")
        slow.subscribe("a", 5)
        for number in range(40):
            fast.publish("a", b"%d" % number)
            fast.take()
        frames = slow.take(most=20)
        while slow.member.output:
            frames += slow.take(most=20)
        fast.publish("a", b"after")
        frames += slow.take()
        *before, gap, last = frames
        assert [frame[3] for frame in before] == list(range(1, len(before) + 1))
        assert {frame[0] for frame in before} == {wire.MSG}
        assert gap[0] == wire.GAP
        assert gap[2] == 5
        (first,) = wire.OFFSET.unpack(gap[4])
        assert first == len(before) + 1
        assert gap[3] == 40
        assert last[3:] == (41, b"after")

    def test_no_message_passes_a_gap_that_is_not_told_yet(self) -> None:
        bench = Bench(most_output=100)
        one, slow = bench.join(), bench.join()
        slow.subscribe("a", 1)
        slow.subscribe("b", 2)
        for name, data in (
            ("a", b"x" * 50),
            ("a", b"x" * 50),  # is left out
            ("a", b""),  # would fit
            ("b", b""),  # another topic does
        ):
            one.publish(name, data)
            one.take()
        kinds = [(frame[0], frame[2], frame[3]) for frame in slow.take()]
        assert kinds == [
            (wire.MSG, 1, 1),
            (wire.MSG, 2, 1),
            (wire.GAP, 1, 3),
        ]

    def test_a_message_beyond_the_bound_comes_if_nothing_waits(self) -> None:
        bench = Bench(most_output=100)
        one, slow = bench.join(), bench.join()
        slow.subscribe("a")
        one.publish("a", b"x" * 1000)
        assert slow.messages() == [(0, 1, b"x" * 1000)]

    def test_unsubscribing_forgets_a_gap(self) -> None:
        bench = Bench(most_output=100)
        one, slow = bench.join(), bench.join()
        slow.subscribe("a")
        one.publish("a", b"x" * 60, b"x" * 60)
        slow.say(wire.UNSUB)
        assert [frame[0] for frame in slow.take()] == [wire.MSG, wire.UNSUB]

    def test_a_worker_that_reads_no_answers_is_not_worked_for(self) -> None:
        bench = Bench(most_output=100)
        one, eager = bench.join(messages=10), bench.join()
        one.publish("a", *[b"x" * 50] * 10)
        asking = wire.frame(wire.PAST, bytes(8) + b"a") * 1000
        bench.hub.receive(eager.member, asking)
        assert bench.hub.is_full(eager.member)
        assert len(eager.member.output) < 1000  # one answer
        answers = 0
        while eager.member.output:
            answers += [frame[0] for frame in eager.take(most=500)].count(wire.DONE)
        assert answers == 1000
        assert not bench.hub.is_full(eager.member)

    @given(
        sizes=st.lists(st.integers(0, 60), max_size=60),
        reads=st.lists(st.integers(0, 80), max_size=60),
        topics=st.integers(1, 3),
    )
    def test_messages_and_gaps_are_the_whole_record(
        self, sizes: list[int], reads: list[int], topics: int
    ) -> None:
        bench = Bench(most_output=150)
        one, slow = bench.join(), bench.join()
        for topic in range(topics):
            slow.subscribe(str(topic), topic)
        frames = list[wire.Frame]()
        published = [0] * topics
        for turn, size in enumerate(sizes):
            topic = turn % topics
            one.publish(str(topic), b"x" * size)
            one.take()
            published[topic] += 1
            if turn < len(reads) and reads[turn]:
                frames += slow.take(most=reads[turn])
            assert len(slow.member.output) <= 150 + 26 * topics
        frames += slow.take()
        seen = [0] * topics
        for kind, _, topic, offset, payload in frames:
            if kind == wire.MSG:
                assert offset == seen[topic] + 1
            else:
                assert kind == wire.GAP
                assert wire.OFFSET.unpack(payload) == (seen[topic] + 1,)
                assert offset > seen[topic]
            seen[topic] = offset
        assert seen == published


class TestHistory:
    """What is kept, and what is told of what is not."""

    def test_what_is_behind_a_place_and_that_it_is_all(self) -> None:
        bench = Bench()
        one = bench.join(messages=3)
        epoch, _ = one.subscribe("a")
        one.publish("a", b"1", b"2", b"3", b"4")
        one.take()
        kept = [(2, b"2"), (3, b"3"), (4, b"4")]
        assert one.past("a", epoch, 4) == ([], wire.COMPLETE, epoch)
        assert one.past("a", epoch, 3) == (kept[2:], wire.COMPLETE, epoch)
        assert one.past("a", epoch, 1) == (kept, wire.COMPLETE, epoch)
        assert one.past("a", epoch, 0) == (kept, 0, epoch)

    @pytest.mark.parametrize("since", [5, 2**63, 2**64 - 1])
    def test_a_place_beyond_the_end_is_none(self, since: int) -> None:
        one = Bench().join(messages=3)
        epoch, _ = one.subscribe("a")
        one.publish("a", b"1", b"2", b"3", b"4")
        one.take()
        found, flags, told = one.past("a", epoch, since)
        assert ([offset for offset, _ in found], flags, told) == ([2, 3, 4], 0, epoch)

    def test_another_epoch_is_no_place(self) -> None:
        one = Bench().join(messages=3)
        one.publish("a", b"1")
        one.take()
        found, flags, epoch = one.past("a", b"whatever", 0)
        assert (found, flags) == ([(1, b"1")], 0)
        assert epoch != b"whatever"

    def test_a_topic_that_is_not_known_has_none(self) -> None:
        one = Bench().join(messages=3)
        assert one.past("a", b"whatever", 0) == ([], 0, bytes(8))

    def test_it_outlives_the_worker(self) -> None:
        bench = Bench()
        one = bench.join(messages=3)
        epoch, _ = one.subscribe("a")
        one.publish("a", b"1")
        bench.hub.leave(one.member)
        two = bench.join()
        assert two.past("a", epoch, 0) == ([(1, b"1")], wire.COMPLETE, epoch)
        assert two.subscribe("a") == (epoch, 1)

    def test_time_ends_it(self) -> None:
        bench = Bench()
        one = bench.join(messages=9, seconds=10.0)
        epoch, _ = one.subscribe("a")
        one.publish("a", b"1")
        bench.now += 6
        one.publish("a", b"2")
        bench.now += 6
        one.take()
        assert one.past("a", epoch, 0) == ([(2, b"2")], 0, epoch)
        bench.now += DAY
        assert one.past("a", epoch, 1) == ([], 0, epoch)
        assert one.past("a", epoch, 2) == ([], wire.COMPLETE, epoch)

    def test_size_ends_it_but_for_one_message(self) -> None:
        one = Bench().join(messages=9, size=100)
        epoch, _ = one.subscribe("a")
        one.publish("a", b"x" * 60, b"y" * 60)
        one.take()
        assert one.past("a", epoch, 1)[:2] == ([(2, b"y" * 60)], wire.COMPLETE)
        one.publish("a", b"z" * 200)
        one.take()
        assert one.past("a", epoch, 2)[:2] == ([(3, b"z" * 200)], wire.COMPLETE)

    def test_the_publisher_says_how_much(self) -> None:
        bench = Bench()
        keeps, keeps_none = bench.join(messages=5), bench.join()
        epoch, _ = keeps_none.subscribe("a")
        keeps_none.publish("a", b"1")
        keeps.publish("a", b"2")
        keeps_none.publish("a", b"3")  # it is kept, too: there is no hole
        keeps_none.take()
        found, flags, _ = keeps_none.past("a", epoch, 1)
        assert (found, flags) == ([(2, b"2"), (3, b"3")], wire.COMPLETE)
        assert keeps_none.past("a", epoch, 0)[1] == 0

    def test_all_of_it_together_is_bounded_and_the_oldest_goes(self) -> None:
        bench = Bench(most_kept=1000)
        one = bench.join(messages=9)
        epochs = {}
        for name in "abc":
            epochs[name], _ = one.subscribe(name, ord(name))
            one.publish(name, b"x" * 200)
        one.take()
        assert one.past("a", epochs["a"], 0)[:2] == ([], 0)
        assert one.past("b", epochs["b"], 0)[1] == wire.COMPLETE
        one.publish("b", b"x" * 900)
        one.take()
        assert one.past("b", epochs["b"], 0)[:2] == ([], 0)
        assert one.past("c", epochs["c"], 0)[:2] == ([], 0)
        assert bench.hub._kept == 0

    def test_a_long_one_comes_in_pages(self) -> None:
        one = Bench().join(messages=20)
        epoch, _ = one.subscribe("a")
        one.publish("a", *[b"x" * 100_000] * 7)
        one.take()
        since, sizes = 0, []
        while True:
            found, flags, _ = one.past("a", epoch, since)
            sizes.append(len(found))
            since = found[-1][0]
            if not flags & wire.MORE:
                break
        assert sizes == [3, 3, 1]
        assert since == 7

    @given(
        published=st.integers(0, 30),
        messages=st.integers(1, 10),
        since=st.integers(0, 40),
    )
    def test_complete_means_complete(
        self, published: int, messages: int, since: int
    ) -> None:
        one = Bench().join(messages=messages)
        epoch, _ = one.subscribe("a")
        one.publish("a", *[b"x"] * published)
        one.take()
        found, flags, _ = one.past("a", epoch, since)
        wanted = list(range(since + 1, published + 1))
        kept = list(range(max(0, published - messages) + 1, published + 1))
        complete = since <= published and set(wanted) <= set(kept)
        assert flags == (wire.COMPLETE if complete else 0)
        assert [offset for offset, _ in found] == (wanted if complete else kept)


class TestBounds:
    """Nothing that workers do makes the hub grow without end."""

    def test_the_topic_without_a_subscriber_that_was_used_last_stays(self) -> None:
        bench = Bench(most_idle=2)
        one = bench.join(messages=5)
        one.publish("a", b"1")
        one.publish("b", b"1")
        one.publish("a", b"2")
        one.publish("c", b"1")  # b goes
        one.take()
        assert len(one.past("a", bytes(8), 0)[0]) == 2
        assert one.past("b", bytes(8), 0) == ([], 0, bytes(8))
        epoch = one.past("c", bytes(8), 0)[2]
        for number in range(50):
            one.publish(str(number), b"1")
        one.take()
        assert one.subscribe("c")[0] != epoch  # it begins anew
        assert len(bench.hub._topics) == 2
        assert bench.hub._kept == 1 + 150  # all of the others is gone

    def test_a_topic_with_a_subscriber_stays(self) -> None:
        bench = Bench(most_idle=1)
        one = bench.join()
        place = one.subscribe("a", 1)
        for number in range(9):
            one.publish(str(number), b"")
        one.say(wire.UNSUB, number=1)
        one.take()
        assert one.subscribe("a", 1) == place

    def test_a_worker_may_want_more_topics(self) -> None:
        bench = Bench(most_idle=1)
        one = bench.join(messages=1, topics=4)
        for number in range(9):
            one.publish(str(number), b"")
        assert len(bench.hub._topics) == 4

    def test_nothing_is_left_of_one_that_leaves(self) -> None:
        bench = Bench(most_output=50)
        one, two = bench.join(), bench.join()
        one.subscribe("a")
        bench.hub.take_touched()
        two.publish("a", *[b"x" * 20] * 4)
        assert one.member.gaps
        bench.hub.leave(one.member)
        assert bench.hub.take_touched() == [two.member]
        two.take()
        two.publish("a", b"")
        assert bench.hub.take_touched() == [two.member]
        assert not one.member.interests
        assert not one.member.gaps


class TestFaults:
    """A worker that breaks the rules has to go; no input raises."""

    @pytest.mark.parametrize(
        ("kind", "payload", "number"),
        [
            (wire.HELLO, wire.GREETING.pack(wire.VERSION, 0, 0), 0),
            (wire.SUB, b"", 0),
            (wire.SUB, b"x" * 256, 0),
            (wire.SUB, b"\xff", 0),
            (wire.SUB, b"again", 1),
            (wire.UNSUB, b"", 2),
            (wire.PUB, b"name", 0),
            (wire.PUB, b"\xff", 1),
            (wire.PUB, b"x" * 256, 256),
            (wire.PUB, b"t" + b"x" * (wire.MOST_DATA + 1), 1),
            (wire.MSG, b"", 0),
            (wire.ACK, b"", 0),
            (wire.DONE, b"", 0),
        ],
    )
    def test_it_is_told_and_nothing_more_is_done(
        self, kind: int, payload: bytes, number: int
    ) -> None:
        bench = Bench()
        one = bench.join()
        one.subscribe("t", 1)
        bench.hub.take_touched()
        one.say(kind, payload, number)
        assert one.member.fault
        assert bench.hub.take_touched() == [one.member]
        one.publish("t", b"late")
        assert one.messages() == []

    def test_topics_are_bounded(self) -> None:
        bench = Bench(most_interests=3)
        one = bench.join()
        for number in range(3):
            one.subscribe(str(number), number)
        one.say(wire.UNSUB, number=1)
        one.subscribe("3", 3)
        one.say(wire.SUB, b"4", 4)
        assert "too many" in one.member.fault

    def test_what_is_no_frame(self) -> None:
        bench = Bench()
        one = bench.join()
        bench.hub.receive(one.member, b"\xff" * 18)
        assert one.member.fault
        assert bench.hub.take_touched() == [one.member]

    @pytest.mark.parametrize("kind", [wire.SUB, wire.PUB, wire.PAST, wire.UNSUB])
    def test_hello_comes_first(self, kind: int) -> None:
        bench = Bench()
        one = Worker(bench.hub)
        one.say(kind, b"t", 1)
        assert "HELLO" in one.member.fault

    @pytest.mark.parametrize(
        ("version", "newer"), [(0, False), (wire.VERSION + 1, True), (255, True)]
    )
    def test_another_version_is_refused_and_a_newer_one_noted(
        self, version: int, newer: bool
    ) -> None:
        bench = Bench()
        one = Worker(bench.hub)
        one.say(wire.HELLO, bytes([version, 1, 2, 3]))
        assert str(version) in one.member.fault
        assert one.member.newer == newer

    @given(data=st.binary(max_size=300), cut=st.integers(0, 300))
    def test_no_input_raises(self, data: bytes, cut: int) -> None:
        bench = Bench()
        one = bench.join()
        bench.hub.receive(one.member, data[:cut])
        bench.hub.receive(one.member, data[cut:])

    @given(
        frames=st.lists(
            st.tuples(
                st.integers(wire.HELLO, wire.DONE),
                st.integers(0, 3),
                st.integers(0, 5),
                st.binary(max_size=12),
            )
        )
    )
    def test_no_frame_raises(self, frames: list[tuple[int, int, int, bytes]]) -> None:
        bench = Bench(most_output=60, most_idle=2, most_kept=500)
        one = bench.join(messages=2)
        for kind, number, offset, payload in frames:
            one.say(kind, payload, number, offset)
