"""``Seldom``: once per cause and minute."""

from tako.server.seldom import Seldom


def test_a_cause_is_told_of_once_in_a_minute() -> None:
    seldom = Seldom()
    assert [now for now in range(0, 200, 7) if seldom.allows("a", now)] == [
        0,
        63,
        126,
        189,
    ]


def test_causes_do_not_hide_each_other() -> None:
    seldom = Seldom()
    assert seldom.allows("a", 5.0)
    assert seldom.allows("b", 5.0)
    assert not seldom.allows("a", 64.9)
    assert seldom.allows("b", 65.0)


def test_it_forgets_the_oldest_of_too_many() -> None:
    seldom = Seldom()
    for number in range(1000):
        assert seldom.allows(str(number), float(number % 3))
    assert len(seldom._told) == 64
