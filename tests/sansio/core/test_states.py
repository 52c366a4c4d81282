"""``tako.core.states``: what is no transition is found at once."""

import enum

import pytest

from tako.core.states import check_transition


class Phase(enum.IntEnum):
    HEAD = 0
    CLOSED = 1


FOLLOWING: dict[Phase, frozenset[Phase]] = {
    Phase.HEAD: frozenset({Phase.CLOSED}),
    Phase.CLOSED: frozenset(),
}


def test_a_transition_of_the_table_passes() -> None:
    check_transition(FOLLOWING, Phase.HEAD, Phase.CLOSED)


@pytest.mark.parametrize("old", list(Phase))
def test_any_other_is_an_error_that_says_from_and_to(old: Phase) -> None:
    with pytest.raises(AssertionError) as caught:
        check_transition(FOLLOWING, old, Phase.HEAD)
    assert str(caught.value) == f"Phase.HEAD must not follow Phase.{old.name}"
