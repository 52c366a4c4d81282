"""``DrainNotice``: logs from time to time what a drain waits for."""

import logging
from collections.abc import Callable

from tako.runtime import ServerRuntime, signalled


_logger = logging.getLogger("tako.server")

_FIRST = 1.0  # seconds after which a drain says what it waits for
_EVERY = 10.0  # seconds


class DrainNotice:
    """Logs what a drain waits for, until it is stopped."""

    __slots__ = ("_left", "_remaining", "_runtime", "_timer")

    def __init__(
        self,
        runtime: ServerRuntime,
        remaining: Callable[[], str],
        left: Callable[[], float],
    ) -> None:
        """Begin; the first line is logged after a second.

        Args:
            runtime: the event loop.
            remaining: returns what is waited for, in words.
            left: returns how many seconds the drain has left.
        """
        self._runtime = runtime
        self._remaining = remaining
        self._left = left
        self._next(_FIRST)

    def stop(self) -> None:
        """Log nothing more."""
        self._timer.cancel()

    def _next(self, pause: float) -> None:
        self._timer = self._runtime.call_at(self._runtime.time() + pause, self._tell)

    def _tell(self) -> None:
        _logger.warning(
            "draining: waiting for %s, %.0f s at most%s",
            self._remaining() or "the end",
            self._left(),
            how_to_hurry(),
        )
        self._next(_EVERY)


def how_to_hurry() -> str:
    """Return the end of a log line about a wait: ``""``, or how to end it now."""
    return "; a second signal ends the process at once" if signalled() else ""
