"""For tests in which the client has to act before a limit of the server is over."""

import time
from collections.abc import Callable


class Pace:
    """The longest time between two acts of the client."""

    def __init__(self) -> None:
        self._last = time.monotonic()
        self.longest = 0.0

    def act(self) -> None:
        """The client has done what it was to do."""
        now = time.monotonic()
        self.longest = max(self.longest, now - self._last)
        self._last = now


def keeping_pace(
    attempt: Callable[[float, Pace], None], limits: tuple[float, ...]
) -> None:
    """Call ``attempt(limit, pace)``; its failure counts if the client was in time.

    A machine that did not let it act twice within half of the limit has shown nothing:
    the next limit is tried.
    """
    for limit in limits:
        pace = Pace()
        try:
            attempt(limit, pace)
        except Exception:
            if pace.longest < limit / 2 or limit == limits[-1]:
                raise
        else:
            return
