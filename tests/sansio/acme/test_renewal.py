"""When a certificate is ordered, and when not: ``Renewal`` with a clock of its own."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from tako.acme.renewal import (
    LOOK,
    Advice,
    Failure,
    Held,
    Memory,
    Renewal,
    RenewalState,
)


NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
LIFE = timedelta(days=90)
NAMES = ("a.test", "b.test")
GOOD, ASKING, DUE, ORDERING, RESTING = RenewalState
DOWN = Failure("no route", refused=False)
REFUSED = Failure("no such name", refused=True)


def held(age: timedelta = timedelta(), *names: str, serial: int = 1) -> Held:
    begins = NOW - age
    return Held(frozenset(names or NAMES), begins, begins + LIFE, serial)


def asked(serial: int = 1, *, renew_at: datetime | None = None) -> Memory:
    """Return what is remembered once the authority was asked."""
    at = NOW + timedelta(hours=1)
    return Memory(asked_for=serial, renew_at=renew_at, ask_at=at)


def looked(there: Held | None, memory: Memory, now: datetime = NOW) -> Renewal:
    renewal = Renewal(NAMES, lambda: 0.0)
    renewal.look(now, there, memory)
    return renewal


def tried(memory: Memory, failure: Failure, draw: float = 0.0) -> Memory:
    renewal = Renewal(NAMES, lambda: draw)
    renewal.look(NOW, None, replace(memory, since=None))
    renewal.begin()
    renewal.failed(NOW, failure)
    assert renewal.state is RESTING
    return renewal.memory


def test_without_a_certificate_one_is_ordered_at_once() -> None:
    assert looked(None, Memory()).state is DUE


def test_one_that_is_not_for_all_names_is_replaced_at_once() -> None:
    assert looked(held(timedelta(), "a.test"), asked()).state is DUE
    assert looked(held(timedelta(), *NAMES, "more.test"), asked()).state is GOOD


@pytest.mark.parametrize(("days", "state"), [(0, GOOD), (59.9, GOOD), (60.1, DUE)])
def test_it_is_renewed_at_two_thirds_of_its_life(
    days: float, state: RenewalState
) -> None:
    assert looked(held(timedelta(days=days)), asked()).state is state


def test_one_that_has_expired_is_renewed_without_asking() -> None:
    assert looked(held(timedelta(days=91)), Memory()).state is DUE


def test_the_files_are_looked_at_again_however_far_away_the_time_is() -> None:
    assert looked(held(), asked()).wait == LOOK
    soon = held(timedelta(days=60) - timedelta(seconds=7))
    assert looked(soon, asked()).wait == 7.0


# -- the authority's advice (RFC 9773) -------------------------------------------------


def test_the_authority_is_asked_about_each_certificate_and_again_in_time() -> None:
    assert looked(held(), Memory()).state is ASKING
    assert looked(held(), asked(serial=2)).state is ASKING
    assert looked(held(), asked()).state is GOOD
    later = NOW + timedelta(hours=1)
    assert looked(held(), asked(), later).state is ASKING


def test_without_advice_it_is_asked_again_in_six_hours() -> None:
    renewal = looked(held(), Memory())
    renewal.advised(NOW, None)
    assert renewal.state is GOOD
    assert renewal.memory.ask_at == NOW + timedelta(hours=6)
    assert renewal.memory.renew_at is None


@pytest.mark.parametrize(
    ("said", "seconds"), [(None, 21600), (0, 60), (600, 600), (10**9, 86400)]
)
def test_it_says_when_to_be_asked_again_within_bounds(
    said: float | None, seconds: float
) -> None:
    renewal = looked(held(), Memory())
    renewal.advised(NOW, Advice(NOW, NOW, said))
    assert renewal.memory.ask_at == NOW + timedelta(seconds=seconds)


def test_a_time_is_drawn_from_the_window_once() -> None:
    start = NOW + timedelta(days=10)
    window = Advice(start, start + timedelta(days=2))
    renewal = Renewal(NAMES, lambda: 0.25)
    renewal.look(NOW, held(), Memory())
    renewal.advised(NOW, window)
    drawn = start + timedelta(days=0.5)
    assert renewal.memory.renew_at == drawn
    other = Renewal(NAMES, lambda: 1.0)
    other.look(NOW + timedelta(days=1), held(), renewal.memory)
    assert other.state is ASKING
    other.advised(NOW + timedelta(days=1), window)
    assert other.memory.renew_at == drawn
    other.advised(NOW, Advice(NOW, NOW + timedelta(days=1)))  # it wants it sooner
    assert other.memory.renew_at == NOW + timedelta(days=1)


def test_advice_counts_instead_of_two_thirds_of_the_life() -> None:
    past, future = NOW - timedelta(seconds=1), NOW + timedelta(days=1)
    assert looked(held(), asked(renew_at=past)).state is DUE
    assert looked(held(timedelta(days=80)), asked(renew_at=future)).state is GOOD
    # and only for the certificate that it was about
    assert looked(held(serial=2), asked(renew_at=past)).state is ASKING


def test_an_authority_that_wants_another_at_once_gets_one_a_day() -> None:
    memory = replace(
        asked(renew_at=NOW - timedelta(days=1)),
        since=NOW - timedelta(hours=23),
        pause=LIFE.total_seconds() / 3,
    )
    assert looked(held(), memory).state is GOOD
    a_day_ago = replace(memory, since=NOW - timedelta(hours=25))
    assert looked(held(), a_day_ago).state is DUE


# -- failures --------------------------------------------------------------------------


def pauses(failure: Failure, count: int = 12) -> list[float]:
    memory, found = Memory(), list[float]()
    for _ in range(count):
        memory = tried(memory, failure)
        found.append(memory.pause)
    return found


def test_refusals_are_rare() -> None:
    minutes = [pause / 60 for pause in pauses(REFUSED)]
    assert minutes[:7] == [15, 30, 60, 120, 240, 480, 960]
    assert set(minutes[7:]) == {24 * 60}


def test_an_authority_that_is_down_is_tried_within_the_hour() -> None:
    minutes = [pause / 60 for pause in pauses(DOWN)]
    assert minutes[:6] == [1, 2, 4, 8, 16, 32]
    assert set(minutes[6:]) == {60}


def test_pauses_differ() -> None:
    assert tried(Memory(), REFUSED, 1.0).pause == 1.25 * 15 * 60


def test_a_failure_however_many_there_were_has_a_pause() -> None:
    assert tried(Memory(failures=10**9), DOWN).pause == 3600


def test_what_the_authority_wants_is_respected() -> None:
    week = 7 * 86400
    for says, pause in ((3600.0, 3600.0), (1.0, 900.0), (-5.0, 900.0), (1e12, week)):
        assert tried(Memory(), replace(REFUSED, retry_after=says)).pause == pause


def test_nothing_is_ordered_in_a_pause() -> None:
    memory = tried(Memory(), REFUSED)
    renewal = looked(None, memory, NOW + timedelta(minutes=14))
    assert renewal.state is RESTING
    assert renewal.wait == LOOK
    assert looked(None, memory, NOW + timedelta(minutes=15)).state is DUE


def test_a_failure_leaves_what_is_known_of_the_certificate() -> None:
    memory = tried(asked(renew_at=NOW), DOWN)
    assert (memory.asked_for, memory.renew_at) == (1, NOW)


def test_an_order_that_was_not_refused_goes_on() -> None:
    renewal = looked(None, Memory())
    renewal.begin()
    renewal.opened("https://ca.test/order/1")
    renewal.failed(NOW, DOWN)
    assert renewal.memory.order == "https://ca.test/order/1"
    assert tried(renewal.memory, REFUSED).order is None


# -- success, and a clock that is wrong ------------------------------------------------


def ordered(new: Held, now: datetime) -> Renewal:
    renewal = looked(None, Memory(failures=3), now)
    renewal.begin()
    renewal.ordered(now, new)
    return renewal


def test_success_ends_failures() -> None:
    renewal = ordered(held(), NOW)
    assert renewal.state is GOOD
    assert renewal.memory == Memory(since=NOW, pause=LIFE.total_seconds() / 3)
    assert not renewal.clock_is_wrong(NOW)


@pytest.mark.parametrize("ahead", [timedelta(days=70), timedelta(days=4000)])
def test_with_a_clock_ahead_there_is_no_order_after_order(ahead: timedelta) -> None:
    now = NOW + ahead
    renewal = ordered(held(), now)
    assert renewal.clock_is_wrong(now)
    orders = 0
    for hours in range(0, 24 * 365, 6):
        then = now + timedelta(hours=hours)
        renewal.look(then, held(), replace(renewal.memory, asked_for=1, ask_at=then))
        if renewal.state is DUE:
            orders += 1
            renewal.begin()
            renewal.ordered(then, held())
        elif renewal.state is ASKING:
            renewal.advised(then, None)
    assert orders == 12  # one in thirty days


def test_a_clock_behind_is_told_and_orders_nothing_more() -> None:
    now = NOW - timedelta(days=500)
    renewal = ordered(held(), now)
    assert renewal.clock_is_wrong(now)
    renewal.look(now, held(), renewal.memory)
    assert renewal.state is ASKING
    renewal.advised(now, None)
    renewal.look(now, held(), renewal.memory)
    assert renewal.state is GOOD
    assert not ordered(held(), NOW - timedelta(seconds=30)).clock_is_wrong(NOW)


def test_a_pause_that_begins_far_in_the_future_is_none() -> None:
    memory = replace(tried(Memory(), REFUSED), since=NOW + timedelta(days=400))
    assert looked(None, memory).state is DUE
    slightly = replace(memory, since=NOW + timedelta(seconds=5))
    assert looked(None, slightly).state is RESTING


def test_a_question_that_is_far_in_the_future_is_asked_now() -> None:
    far = replace(asked(), ask_at=NOW + timedelta(days=400))
    assert looked(held(), far).state is ASKING


def test_what_was_ordered_and_is_gone_is_ordered_again() -> None:
    memory = ordered(held(), NOW).memory
    assert looked(None, memory).state is DUE
    assert looked(held(timedelta(), "a.test"), memory).state is DUE


def test_what_another_process_has_done_is_seen() -> None:
    renewal = looked(None, Memory())
    renewal.look(NOW, held(), Memory())
    assert renewal.state is ASKING
    renewal.look(NOW, held(), asked())
    assert renewal.state is GOOD
    renewal.look(NOW, None, tried(Memory(), REFUSED))
    assert renewal.state is RESTING


def test_an_impossible_transition_says_from_and_to() -> None:
    with pytest.raises(AssertionError, match=r"ORDERING must not follow .*GOOD"):
        looked(held(), asked()).begin()


# -- whatever happens ------------------------------------------------------------------

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["ok", "refused", "down", "advice", "nothing"]),
        st.floats(-1e8, 1e8),  # seconds that the clock moves
        st.floats(0, 1),
    ),
    max_size=40,
)


@given(STEPS)
def test_it_always_says_what_to_do_and_never_waits_for_long(
    steps: list[tuple[str, float, float]],
) -> None:
    now, there, memory = NOW, None, Memory()
    renewal = Renewal(NAMES, lambda: 0.5)
    for what, moved, part in steps:
        renewal.look(now, there, memory)
        if renewal.state is DUE:
            renewal.begin()
            if what == "ok":
                there = Held(frozenset(NAMES), NOW, NOW + LIFE, int(part * 100))
                renewal.ordered(now, there)
            else:
                renewal.failed(now, REFUSED if what == "refused" else DOWN)
        elif renewal.state is ASKING:
            start = now + timedelta(days=part)
            renewal.advised(now, Advice(start, start) if what == "advice" else None)
        else:
            assert 0 < renewal.wait <= LOOK
        memory = renewal.memory
        now += timedelta(seconds=moved if abs(moved) < 1e8 else 0)
        now = min(max(now, datetime(2000, 1, 1, tzinfo=UTC)), NOW + 50 * LIFE)
