"""State machines: an enum, a table of what may follow what, and a check between them.

A class with states has one method for each of its machines that enters a state::

    class Phase(enum.IntEnum):
        HEAD = 0  # with a docstring below it, which the README repeats
        CLOSED = 1

    _NEXT_PHASE: dict[Phase, frozenset[Phase]] = {
        Phase.HEAD: frozenset({Phase.CLOSED}),
        Phase.CLOSED: frozenset(),
    }

    def _enter_phase(self, phase: Phase) -> None:
        if CHECKED:
            check_transition(_NEXT_PHASE, self.phase, phase)
        self.phase = phase
        _logger.debug("%#x: phase is %s", id(self), phase.name)

That method alone writes the attribute and the flags that follow from it. The README of
the folder shows every table named ``_NEXT*``: ``python -m tests.project.states`` writes
them there, and a test compares.
"""

import enum
from collections.abc import Mapping
from typing import Final, TypeVar


State = TypeVar("State", bound=enum.Enum)
Number = TypeVar("Number", bound=enum.IntEnum)

CHECKED: Final = __debug__
"""Transitions are checked: Python runs without ``-O``. Compiled code would look up the
name ``__debug__`` each time."""


def bits_of(following: Mapping[Number, frozenset[Number]]) -> tuple[int, ...]:
    """Return the table of states that count from 0 as bits: by number, no look-up.

    ``bits_of(following)[old] >> new & 1`` tells whether ``new`` may follow ``old``.
    """
    rows = [0] * len(following)
    for old, allowed in following.items():
        rows[old] = sum([1 << new for new in allowed])
    return tuple(rows)


def check_transition(
    following: Mapping[State, frozenset[State]], old: State, new: State
) -> None:
    """Check that ``new`` may follow ``old``; for ``if CHECKED:``.

    Raises:
        AssertionError: it may not: tako has a bug, whatever the peer did.
    """
    if new not in following[old]:
        kind = type(new).__name__
        msg = f"{kind}.{new.name} must not follow {kind}.{old.name}"
        raise AssertionError(msg)
