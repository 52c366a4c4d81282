"""``Renewal``: when a certificate is ordered, and when not. No I/O, no clock.

Theory of operation. Truth is in files, which several processes share: the certificate
(``Held``) and what was tried for it (``Memory``). ``look`` compares both with the time
that it is given, and enters one of three states: ``GOOD`` and ``RESTING`` wait for
``wait`` seconds, ``ASKING`` and ``DUE`` have something done. That needs the lock of the
authority's folder, so the owner takes it, reads the files again, looks again, and only
then calls ``begin``. What came of it goes to ``advised``, ``ordered`` or ``failed``,
each of which changes ``memory``; the owner writes it before it lets go of the lock.

When is it due? At two thirds of its life; or at the time that the authority has named
(RFC 9773), which is asked for at intervals that it chooses. At once, if there is none,
or not for all names.

The clock of this machine may be wrong. A new certificate then looks expired, or not
valid yet. So after an order that succeeded there is a pause, too: a third of the new
certificate's life, whatever the clock says, and a day if it is the authority that wants
another one. A pause that began far in the future is none: the clock was set back.
"""

import enum
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from tako.core.states import CHECKED, check_transition


_logger = logging.getLogger("tako.acme")

LOOK = 60.0
"""Seconds between looks at the files, at most: another process may change them."""

BUSY = 5.0
"""Seconds until the lock is tried again that another process has."""

_REFUSED_FIRST = 15 * 60.0  # Let's Encrypt allows five failed validations an hour
_REFUSED_MOST = 24 * 3600.0
_DOWN_FIRST = 60.0
_DOWN_MOST = 3600.0
_FACTOR = 2.0
_JITTER = 0.25  # of a pause, at most: so much longer it may be
_LONGEST = 7 * 24 * 3600.0  # the longest of Let's Encrypt's limits
_ADVISED = 24 * 3600.0  # between two orders that the authority has asked for
_SET_BACK = 3600.0  # what a clock may be set back without a word
_NEW = timedelta(minutes=1)  # so long a new certificate may be not valid yet
_ASK_LEAST, _ASK_MOST = 60.0, 24 * 3600.0  # RFC 9773 §4.3.1
_ASK_USUAL = 6 * 3600.0  # RFC 9773 §4.3.1: where the server does not say


class RenewalState(enum.IntEnum):
    """What is to be done for a certificate."""

    GOOD = 0
    """Nothing: it serves, and is not due."""
    ASKING = 1
    """The authority is asked when to renew it."""
    DUE = 2
    """It has to be ordered, by the process that has the lock."""
    ORDERING = 3
    """This process has the lock, and orders it."""
    RESTING = 4
    """It is due, but an order was a short time ago, and failed: a pause."""


_NEXT: dict[RenewalState, frozenset[RenewalState]] = {
    RenewalState.GOOD: frozenset(
        {RenewalState.ASKING, RenewalState.DUE, RenewalState.RESTING}
    ),
    RenewalState.ASKING: frozenset(
        {RenewalState.GOOD, RenewalState.DUE, RenewalState.RESTING}
    ),
    RenewalState.DUE: frozenset(
        {
            RenewalState.GOOD,
            RenewalState.ASKING,
            RenewalState.ORDERING,
            RenewalState.RESTING,
        }
    ),
    RenewalState.ORDERING: frozenset({RenewalState.GOOD, RenewalState.RESTING}),
    RenewalState.RESTING: frozenset(
        {RenewalState.GOOD, RenewalState.ASKING, RenewalState.DUE}
    ),
}


@dataclass(frozen=True, slots=True)
class Held:
    """What matters of a certificate that is there.

    Attributes:
        names: what it is for, in lower case.
        begins: when it becomes valid.
        expires: when it no longer is.
        serial: its number, which tells it from others of the authority.
    """

    names: frozenset[str]
    begins: datetime
    expires: datetime
    serial: int

    @property
    def life(self) -> timedelta:
        """How long it is valid, from beginning to end."""
        return self.expires - self.begins


@dataclass(frozen=True, slots=True)
class Memory:
    """What was tried so far; a file has it for all processes, also after a restart.

    Attributes:
        failures: orders that failed, in a row.
        since: when the last order ended.
        pause: seconds from then in which there is no other.
        order: the URL of an order that has not ended.
        asked_for: the serial number that the following two are about.
        renew_at: when the authority wants the certificate to be renewed.
        ask_at: when to ask it again.
    """

    failures: int = 0
    since: datetime | None = None
    pause: float = 0.0
    order: str | None = None
    asked_for: int | None = None
    renew_at: datetime | None = None
    ask_at: datetime | None = None


def wanted_now(serial: int | None, now: datetime) -> Memory:
    """Return what to remember for a certificate to be renewed at once.

    Args:
        serial: its serial number; ``None``: there is no certificate.
        now: the time.
    """
    return Memory(asked_for=serial, renew_at=now, ask_at=now)


@dataclass(frozen=True, slots=True)
class Advice:
    """What an authority says of a renewal (RFC 9773 §4.2).

    Attributes:
        start: of the window in which to renew.
        end: of that window.
        retry_after: seconds until to ask again; ``None``: it does not say.
    """

    start: datetime
    end: datetime
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an order failed.

    Attributes:
        text: for the log, on one line.
        refused: the authority has said no; else it was not reached, or not understood.
        retry_after: seconds that the authority wants to be left alone; ``None``: it
            does not say.
    """

    text: str
    refused: bool
    retry_after: float | None = None


class Renewal:
    """What is to be done for one certificate.

    Attributes:
        state: what is to be done now.
        memory: what was tried; to be written where a method says so.
        wait: seconds until the next ``look``, in ``GOOD`` and ``RESTING``.
    """

    __slots__ = ("_draw", "_held", "_names", "memory", "state", "wait")

    def __init__(self, names: Sequence[str], draw: Callable[[], float]) -> None:
        """Make one that has not looked yet.

        Args:
            names: what the certificate has to be for.
            draw: returns a random number from 0 to 1.
        """
        self._names = frozenset(names)
        self._draw = draw
        self._held: Held | None = None
        self.state: RenewalState = RenewalState.GOOD
        self.memory: Memory = Memory()
        self.wait: float = LOOK

    def _enter(self, state: RenewalState) -> None:
        if state is self.state:
            return
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state = state
        _logger.debug("%#x: state is %s", id(self), state.name)

    def look(self, now: datetime, held: Held | None, memory: Memory) -> None:
        """Find out what is to be done; not while ordering.

        Args:
            now: the time.
            held: the certificate that is there; ``None``: there is none.
            memory: what was tried for it.
        """
        self._held, self.memory = held, memory
        due = self._due_at(held)
        rest = self._rest(now)
        if (due is None or due <= now) and rest <= 0:
            self._enter(RenewalState.DUE)
        elif self._to_ask(now):
            self._enter(RenewalState.ASKING)
        else:
            left = rest if due is None else max(rest, (due - now).total_seconds())
            self.wait = min(left, LOOK)
            tired = memory.failures and rest > 0
            self._enter(RenewalState.RESTING if tired else RenewalState.GOOD)

    def _due_at(self, held: Held | None) -> datetime | None:
        """Return when a certificate is to be replaced; ``None``: at once."""
        if held is None or not self._names <= held.names:
            return None
        renew_at = self.memory.renew_at if self._is_advised(held) else None
        return held.begins + held.life * 2 / 3 if renew_at is None else renew_at

    def _is_advised(self, held: Held) -> bool:
        memory = self.memory
        return memory.renew_at is not None and memory.asked_for == held.serial

    def _rest(self, now: datetime) -> float:
        """Return the seconds in which there must be no order."""
        memory, held = self.memory, self._held
        if memory.since is None:
            return 0.0
        pause = memory.pause
        if not memory.failures:
            if held is None or not self._names <= held.names:
                return 0.0  # what had been ordered is gone, or other names are wanted
            if self._is_advised(held):
                pause = min(pause, _ADVISED)
        gone = (now - memory.since).total_seconds()
        return 0.0 if gone < -_SET_BACK else pause - gone

    def _to_ask(self, now: datetime) -> bool:
        memory, held = self.memory, self._held
        if held is None or held.expires <= now:
            return False
        if memory.asked_for != held.serial or memory.ask_at is None:
            return True
        # further away than we ever plan: the clock was set back
        far = (memory.ask_at - now).total_seconds() > _ASK_MOST
        return memory.ask_at <= now or far

    def begin(self) -> None:
        """Note that the order begins: this process has the lock."""
        self._enter(RenewalState.ORDERING)

    def opened(self, order: str) -> None:
        """Note the URL of the order; write ``memory``."""
        self.memory = replace(self.memory, order=order)

    def advised(self, now: datetime, advice: Advice | None) -> None:
        """Note what the authority said, ``None`` for nothing; write ``memory``.

        A time is drawn from a window once, so that not all ask for the same one.
        """
        held, memory = self._held, self.memory
        serial = None if held is None else held.serial
        renew_at = memory.renew_at if memory.asked_for == serial else None
        pause = _ASK_USUAL
        if advice is not None:
            # RFC 9773 §4.2: a uniform random time within the window
            inside = renew_at is not None and advice.start <= renew_at <= advice.end
            if not inside:
                span = max(advice.end - advice.start, timedelta())
                renew_at = advice.start + span * self._draw()
            if advice.retry_after is not None:
                pause = min(max(advice.retry_after, _ASK_LEAST), _ASK_MOST)
        self.memory = replace(
            memory,
            asked_for=serial,
            renew_at=renew_at,
            ask_at=now + timedelta(seconds=pause),
        )
        self._enter(RenewalState.GOOD)
        self.wait = 0.0

    def ordered(self, now: datetime, held: Held) -> None:
        """Note that the certificate is there; write ``memory``."""
        self.memory = Memory(since=now, pause=held.life.total_seconds() / 3)
        self._held = held
        self._enter(RenewalState.GOOD)
        self.wait = 0.0

    def failed(self, now: datetime, failure: Failure) -> None:
        """Note that the order failed; write ``memory``."""
        failures = self.memory.failures + 1
        first, most = (
            (_REFUSED_FIRST, _REFUSED_MOST)
            if failure.refused
            else (_DOWN_FIRST, _DOWN_MOST)
        )
        pause = most
        if failures <= math.log2(most / first) + 1:  # no power that is too large
            pause = min(first * _FACTOR ** (failures - 1), most)
        pause *= 1 + _JITTER * self._draw()
        if failure.retry_after is not None:  # RFC 8555 §6.6
            pause = max(pause, min(failure.retry_after, _LONGEST))
        order = None if failure.refused else self.memory.order
        self.memory = replace(
            self.memory, failures=failures, since=now, pause=pause, order=order
        )
        self.wait = min(pause, LOOK)
        self._enter(RenewalState.RESTING)

    def clock_is_wrong(self, now: datetime) -> bool:
        """Tell whether a new certificate is already due, or not valid yet."""
        held = self._held
        if held is None:
            return False
        return not held.begins - _NEW <= now < held.begins + held.life * 2 / 3
