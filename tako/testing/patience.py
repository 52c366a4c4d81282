"""How long the kit waits, where a call does not say so."""

import os
import time


def default_timeout() -> float:
    """Return the seconds that a wait may take: ``TAKO_TEST_TIMEOUT``, or 10."""
    return float(os.environ.get("TAKO_TEST_TIMEOUT", "10"))


class Deadline:
    """A point in time after which waiting is an error."""

    def __init__(self, timeout: float | None = None) -> None:
        """Begin; ``timeout`` is in seconds, ``None`` means ``default_timeout()``."""
        self.timeout: float = default_timeout() if timeout is None else timeout
        self._end = time.monotonic() + self.timeout

    @property
    def remaining(self) -> float:
        """The seconds left; negative once it is over."""
        return self._end - time.monotonic()

    def left(self) -> float:
        """Return the seconds left.

        Raises:
            TimeoutError: there are none.
        """
        left = self.remaining
        if left <= 0:
            msg = f"nothing happened for {self.timeout:g} s"
            raise TimeoutError(msg)
        return left
