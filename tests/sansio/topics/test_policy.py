"""What waits for a subscriber: bounds, order, and a gap where something is missing."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from tako.errors import ConfigError
from tako.topics import (
    Cause,
    Gap,
    Item,
    Policy,
    close,
    drop_newest,
    drop_oldest,
    latest,
)
from tako.topics.counts import Tally
from tako.topics.policy import Loss, Waiting


@dataclass
class Put:
    """An item arrives."""

    topic: str
    size: int
    key: int


@dataclass
class Lose:
    """The engine has lost as many, before the next item."""

    topic: str
    missed: int


@dataclass
class Pop:
    """The subscriber takes one."""


TOPICS = st.sampled_from("ab")
STEPS = st.lists(
    st.one_of(
        st.builds(Put, TOPICS, st.integers(0, 30), st.integers(0, 3)),
        st.builds(Put, TOPICS, st.integers(0, 30), st.integers(0, 3)),
        st.builds(Lose, TOPICS, st.integers(1, 3)),
        st.builds(Pop),
    ),
    max_size=60,
)
Key = Callable[[Item], int]


class Run:
    """A queue under ``steps``; items are numbered for each topic, lost ones, too."""

    def __init__(self, policy: Policy, bound: int, size: int) -> None:
        self.tally = Tally()
        self.queue: Waiting = policy.queue(bound, size, self.tally)
        self.bound, self.size = bound, size
        self.sent = {"a": 0, "b": 0}
        self.got: list[Item | Gap] = []
        self.taken: list[bool] = []

    def step(self, step: Put | Lose | Pop) -> None:
        if isinstance(step, Put):
            number = self.sent[step.topic] = self.sent[step.topic] + 1
            data = b"%d.%d:" % (number, step.key) + bytes(step.size)
            self.taken.append(self.queue.put(Item(step.topic, data, None)))
        elif isinstance(step, Lose):
            self.sent[step.topic] += step.missed
            loss = Loss(step.topic, Cause.ENGINE, step.missed, recoverable=False)
            self.queue.lose(loss)
        else:
            self.pop()
        assert self.queue.items <= self.bound
        assert self.queue.size <= self.size or self.queue.items == 1
        assert self.tally.queued_bytes == self.queue.size

    def pop(self) -> bool:
        entry = self.queue.pop()
        if entry is not None:
            self.got.append(entry)
        return entry is not None

    def end(self) -> None:
        while self.pop():
            pass
        assert self.queue.empty
        assert self.tally.queued_bytes == 0


def number_of(item: Item) -> int:
    assert isinstance(item.data, bytes)
    return int(item.data.partition(b".")[0])


def key_of(item: Item) -> int:
    assert isinstance(item.data, bytes)
    return int(item.data.partition(b":")[0].partition(b".")[2])


def record(got: list[Item | Gap], topic: str) -> tuple[list[int], int]:
    """Return the numbers that arrived, and where the record is complete to.

    Checks that there is a gap exactly where numbers are missing, of the right size.
    """
    numbers: list[int] = []
    last = 0
    for entry in got:
        if entry.topic != topic:
            continue
        if isinstance(entry, Gap):
            assert entry.missed is not None
            last += entry.missed
        else:
            number = number_of(entry)
            assert number == last + 1
            numbers.append(number)
            last = number
    return numbers, last


@given(
    st.sampled_from([drop_oldest, drop_newest]),
    st.integers(1, 5),
    st.integers(1, 100),
    STEPS,
)
def test_a_gap_stands_exactly_where_items_are_missing(
    policy: Policy, bound: int, size: int, steps: list[Put | Lose | Pop]
) -> None:
    run = Run(policy, bound, size)
    for step in steps:
        run.step(step)
    run.end()
    arrived = 0
    for topic, sent in run.sent.items():
        numbers, last = record(run.got, topic)
        assert last == sent
        arrived += len(numbers)
    puts = sum(isinstance(step, Put) for step in steps)
    assert run.tally.dropped.get(policy.name, 0) == puts - arrived


@given(st.integers(1, 5), st.integers(1, 100), STEPS)
def test_of_each_key_the_latest_arrives_unless_a_gap_tells(
    bound: int, size: int, steps: list[Put | Lose | Pop]
) -> None:
    policy = latest(key_of)
    run = Run(policy, bound, size)
    for step in steps:
        run.step(step)
    run.end()
    told = 0
    for topic in run.sent:
        entries = [each for each in run.got if each.topic == topic]
        numbers = [number_of(each) for each in entries if isinstance(each, Item)]
        assert numbers == sorted(set(numbers))
        told += sum(each.missed or 0 for each in entries if isinstance(each, Gap))
    puts = sum(isinstance(step, Put) for step in steps)
    lost = sum(step.missed for step in steps if isinstance(step, Lose))
    arrived = sum(isinstance(each, Item) for each in run.got)
    dropped = run.tally.dropped.get("latest", 0)
    assert puts == arrived + dropped + run.tally.replaced
    assert told == dropped + lost


def test_what_is_dropped_first_leaves_one_gap_in_front() -> None:
    run = Run(drop_oldest, 2, 1000)
    for _ in range(5):
        run.step(Put("a", 0, 0))
    run.end()
    gap, *items = run.got
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.missed) == (Cause.SLOW, 3)
    assert [number_of(each) for each in items if isinstance(each, Item)] == [4, 5]
    assert run.tally.gaps == {Cause.SLOW: 1}


def test_what_is_not_taken_leaves_one_gap_at_the_end() -> None:
    run = Run(drop_newest, 2, 1000)
    for _ in range(5):
        run.step(Put("a", 0, 0))
    run.end()
    *items, gap = run.got
    assert isinstance(gap, Gap)
    assert (gap.cause, gap.missed) == (Cause.SLOW, 3)
    assert len(items) == 2


def test_an_unknown_number_stays_unknown() -> None:
    queue = drop_newest.queue(1, 1000, Tally())
    queue.put(Item("a", b"", None))
    queue.put(Item("a", b"", None))
    queue.lose(Loss("a", Cause.ENGINE, None, recoverable=True))
    assert isinstance(queue.pop(), Item)
    gap = queue.pop()
    assert isinstance(gap, Gap)
    assert gap.missed is None
    assert not gap.recoverable


def test_close_takes_no_more_than_the_bound() -> None:
    run = Run(close(1013), 2, 1000)
    for _ in range(3):
        run.step(Put("a", 0, 0))
    assert run.taken == [True, True, False]
    assert run.tally.dropped == {"close(1013)": 1}


def test_one_item_always_has_room() -> None:
    run = Run(close(), 5, 10)
    run.step(Put("a", 1000, 0))
    assert run.taken == [True]


def test_a_wide_text_counts_what_it_may_cost() -> None:
    queue = drop_oldest.queue(10, 100, Tally())
    queue.put(Item("a", "\u20ac" * 20, None))
    assert queue.size == 80
    queue.put(Item("a", "x" * 20, None))
    assert queue.size == 100


def test_policies_have_names() -> None:
    assert [repr(each) for each in (drop_oldest, latest(key_of), close(4000))] == [
        "<policy drop_oldest>",
        "<policy latest>",
        "<policy close(4000)>",
    ]


def test_a_code_that_must_not_be_sent_is_refused() -> None:
    with pytest.raises(ConfigError, match="1006"):
        close(1006)
