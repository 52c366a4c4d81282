"""Histories in memory: what is kept, positions, and what a subscriber can resume."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given, strategies as st

from tako.errors import ConfigError
from tako.topics import OLDEST, History, Item, Position
from tako.topics.history import Histories


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


def positions(items: "list[Item]") -> list[int]:
    return [each.position.offset for each in items if each.position is not None]


@dataclass
class Model:
    """Everything that was published to one topic, with its time."""

    times: list[float] = field(default_factory=list)


@given(
    st.integers(1, 5),
    st.one_of(st.none(), st.integers(1, 10)),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4)), max_size=40),
    st.integers(0, 45),
)
def test_behind_a_position_comes_what_was_published_after_it(
    messages: int,
    seconds: int | None,
    published: list[tuple[str, int]],
    offset: int,
) -> None:
    clock = Clock()
    kept = Histories(History(messages=messages, seconds=seconds), clock)
    models = {"a": Model(), "b": Model()}
    epochs: dict[str, str] = {}
    for topic, pause in published:
        clock.now += pause
        model = models[topic]
        model.times.append(clock.now)
        item = kept.add(topic, f"{len(model.times)}")
        assert item.position is not None
        assert item.position.offset == len(model.times)
        assert epochs.setdefault(topic, item.position.epoch) == item.position.epoch
    for topic, epoch in epochs.items():
        times = models[topic].times
        first = max(1, len(times) - messages + 1)
        while (
            first <= len(times)
            and seconds is not None
            and times[first - 1] <= clock.now - seconds
        ):
            first += 1
        known = offset <= len(times) and offset + 1 >= first
        since = Position(epoch, offset)
        items, complete = kept.since(topic, since).behind(since)
        assert complete == known
        behind = max(first, offset + 1) if known else first
        assert positions(list(items)) == list(range(behind, len(times) + 1))


def test_another_epoch_is_not_known() -> None:
    kept = Histories(History(), Clock())
    item = kept.add("a", "x")
    for since in (Position("f" * 16, 1), OLDEST):
        assert kept.since("a", since).behind(since) == ((item,), False)


def test_a_topic_that_is_not_known_has_nothing() -> None:
    replay = Histories(History(), Clock()).since("a", OLDEST)
    assert replay.behind(OLDEST) == ((), False)


def test_bytes_are_bounded_but_for_a_single_item() -> None:
    kept = Histories(History(size=100), Clock())
    for _ in range(3):
        kept.add("a", bytes(40))
    assert len(kept.since("a", OLDEST).items) == 2
    kept.add("a", bytes(1000))
    assert len(kept.since("a", OLDEST).items) == 1


def test_the_topic_used_least_recently_begins_anew() -> None:
    kept = Histories(History(topics=2), Clock())
    first = kept.add("a", "1").position
    kept.add("b", "1")
    kept.add("a", "2")
    kept.add("c", "1")
    assert first is not None
    assert kept.since("a", first).behind(first)[1]
    assert not kept.since("b", OLDEST).items
    again = kept.add("b", "1").position
    assert again is not None
    assert (again.offset, again.epoch == first.epoch) == (1, False)


def test_what_is_too_old_goes_though_its_topic_is_silent() -> None:
    clock = Clock()
    kept = Histories(History(seconds=10), clock)
    item = kept.add("silent", bytes(1000))
    clock.now += 11
    for _ in range(3):
        kept.add("loud", "x")
    assert list(kept._kept) == ["loud"]
    assert item.position is not None
    replay = kept.since("silent", item.position)  # its subscriber has missed nothing
    assert replay.behind(item.position) == ((), True)
    assert kept.add("silent", "y").position == Position(item.position.epoch, 2)


def test_topics_without_items_go_before_those_with_some() -> None:
    clock = Clock()
    kept = Histories(History(seconds=10, topics=2), clock)
    kept.add("old", "x")
    clock.now += 11
    kept.add("a", "x")
    kept.add("b", "x")
    assert kept.since("a", OLDEST).items
    assert kept.since("b", OLDEST).items
    assert not kept._idle


@pytest.mark.parametrize("name", ["messages", "seconds", "size", "topics"])
def test_a_limit_is_positive(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        History(**{name: 0})


@given(st.text(max_size=80))
def test_any_text_is_a_position_or_none(text: str) -> None:
    position = Position.parse(text)
    assert position is None or str(position) == text


@given(st.integers(0, 10**18))
def test_a_position_survives_its_text(offset: int) -> None:
    position = Position("0123456789abcdef", offset)
    assert Position.parse(str(position)) == position
    assert len({position, Position.parse(str(position))}) == 1


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0123456789abcdef.01",
        "0123456789ABCDEF.1",
        "0123456789abcdef.1 ",
        "0123456789abcdef.-1",
        "0123456789abcdef." + "9" * 60,
        "0123456789abcdef.\u0661",
    ],
)
def test_what_is_no_position_is_none(text: str) -> None:
    assert Position.parse(text) is None
