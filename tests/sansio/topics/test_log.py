"""A log: what is kept has no hole; what is behind an offset is found by counting."""

from hypothesis import given, strategies as st

from tako.topics.log import Log


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=30),
    st.integers(0, 6),
    st.integers(0, 30),
    st.none() | st.integers(0, 6),
    st.integers(-1, 40),
)
def test_what_is_kept_is_the_last_that_fit(
    messages: list[tuple[int, int]],
    most: int,
    size: int,
    age: int | None,
    offset: int,
) -> None:
    log: Log[tuple[int, int]] = Log()
    kept: list[tuple[int, int]] = []
    now = 0
    for pause, weight in messages:
        now += pause
        log.last += 1
        log.add((now, weight))
        kept.append((now, weight))
        log.trim(most, size, None if age is None else now - age)
        while len(kept) > most or (sum(w for _, w in kept) > size and len(kept) > 1):
            del kept[0]
        while age is not None and kept and kept[0][0] <= now - age:
            del kept[0]
        assert (len(log), log.size) == (len(kept), sum(w for _, w in kept))
    first = len(messages) - len(kept)
    expected = list(enumerate(kept, first + 1))
    assert list(log.behind(None)) == expected
    assert log.knows(offset) is (first <= offset <= len(messages))
    if log.knows(offset):
        assert list(log.behind(offset)) == [it for it in expected if it[0] > offset]


def test_what_is_not_kept_counts() -> None:
    log: Log[tuple[int, int]] = Log()
    log.last = 5
    assert log.knows(5)
    assert not log.knows(4)
    assert list(log.behind(5)) == list(log.behind(None)) == []
