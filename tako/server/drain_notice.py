"""``DrainNotice``: logs from time to time what a shutdown waits for."""

import logging
from collections.abc import Callable

from tako.runtime import ServerRuntime, signalled


_logger = logging.getLogger("tako.server")

_FIRST = 1.0  # seconds after which a shutdown says what it waits for
_EVERY = 10.0  # seconds


class DrainNotice:
    """Logs what a shutdown waits for, until it is stopped."""

    __slots__ = ("_awaited", "_runtime", "_timer")

    def __init__(self, runtime: ServerRuntime, awaited: Callable[[], str]) -> None:
        """Begin; the first line is logged after a second.

        Args:
            runtime: the event loop.
            awaited: returns what is waited for and for how long, in words.
        """
        self._runtime = runtime
        self._awaited = awaited
        self._next(_FIRST)

    def stop(self) -> None:
        """Log nothing more."""
        self._timer.cancel()

    def _next(self, pause: float) -> None:
        self._timer = self._runtime.call_at(self._runtime.time() + pause, self._tell)

    def _tell(self) -> None:
        _logger.warning("%s%s", self._awaited(), how_to_hurry())
        self._next(_EVERY)


def how_to_hurry() -> str:
    """Return the end of a log line about a wait: ``""``, or how to end it now."""
    return "; a second signal ends the process at once" if signalled() else ""
