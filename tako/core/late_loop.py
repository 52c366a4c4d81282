"""``PatientTimer`` and ``LoopWatch``: for an event loop that runs late.

Theory of operation. A handler that blocks stops the whole event loop. When the loop
goes on, deadlines are overdue although the peer may have met them: its bytes wait
unread in the socket, or it waits for our output. So a ``PatientTimer`` that runs late
does not call yet: it first gives the peer as much time as it was late itself, a second
at most, and calls then, however late that is. ``LoopWatch`` tells the operator.

Invariant: a timer is put off once for each time that it is set.
"""

import logging
from collections.abc import Callable
from typing import Final

from tako.core.callbacks import nothing
from tako.core.loop import Runtime, Timer, Timing


_logger: Final = logging.getLogger("tako.server")

_LATE: Final = 0.1  # seconds that a loop under load may be late by
_MOST_PATIENCE: Final = 1.0  # seconds: a few round trips
_WATCH_EVERY: Final = 0.5  # seconds
BLOCKED: Final = 1.0
"""Seconds without a turn of the loop after which a warning is logged."""


class PatientTimer:
    """One pending call, which lets a peer catch up when the loop was late."""

    __slots__ = ("_callback", "_second", "_timer", "_timing", "_when")

    def __init__(self, timing: Timing, callback: Callable[[], None]) -> None:
        """Make a timer that is not set; it calls ``callback``."""
        self._timing = timing
        self._callback = callback
        self._timer: Timer | None = None
        self._when = 0.0
        self._second = False  # the pending call has been put off

    def set(self, when: float) -> None:
        """Call at ``when``; a call that is pending for an earlier time stays."""
        if self._timer is not None:
            if self._when <= when:
                return
            self._timer.cancel()
        self._second = False
        self._at(max(when, self._timing.time()))  # the past is not the loop's fault

    def cancel(self) -> None:
        """Drop the pending call, if there is one."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Cancel, and release the function: it is not called any more."""
        self.cancel()
        self._callback = nothing

    def _at(self, when: float) -> None:
        self._when = when
        self._timer = self._timing.call_at(when, self._due)

    def _due(self) -> None:
        self._timer = None
        now = self._timing.time()
        late = now - self._when
        if late > _LATE and not self._second:
            self._second = True
            self._at(now + min(late, _MOST_PATIENCE))
        else:
            self._callback()


class LoopWatch:
    """Looks every half a second how late the event loop is.

    Each time that it was blocked for a second or more a warning is logged.
    """

    __slots__ = ("_late", "_looked", "_runtime", "_timer", "_when")

    def __init__(self, runtime: Runtime, looked: Callable[[float], None]) -> None:
        """Begin to watch, until ``stop``.

        Args:
            runtime: the loop.
            looked: called at each look, with the seconds that the loop is late.
        """
        self._runtime = runtime
        self._looked = looked
        self._late = 0.0  # seconds, at the last look
        self._next()

    @property
    def lag(self) -> float:
        """Seconds that the loop is late by now, or was at the last look.

        So what waited while it stood still sees that, whether its turn comes before the
        look (asyncio: input goes before timers) or after it (uvloop; trio by chance).
        """
        return max(self._late, self._runtime.time() - self._when)

    def stop(self) -> None:
        """Cancel the pending look; nothing is logged any more."""
        self._timer.cancel()

    def _next(self) -> None:
        self._when = self._runtime.time() + _WATCH_EVERY
        self._timer = self._runtime.call_at(self._when, self._look)

    def _look(self) -> None:
        self._late = late = self._runtime.time() - self._when
        self._looked(late)
        if late >= BLOCKED:
            _logger.warning(
                "the event loop was blocked for %.1f s: a handler runs code that "
                "blocks; run that in a thread (asyncio.to_thread, "
                "trio.to_thread.run_sync)",
                late,
            )
        self._next()
