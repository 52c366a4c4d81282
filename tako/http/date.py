"""The ``Date`` of a response (RFC 9110 §6.6.1), formatted once a second.

The one module of the core that reads the wall clock; engines have no other use for it.
"""

import time
from collections.abc import Callable
from email.utils import formatdate


class HttpDate:
    """Formats the current time as an IMF-fixdate (RFC 9110 §5.6.7).

    Args:
        clock: returns seconds since the epoch.
    """

    __slots__ = ("_clock", "_end", "_from", "_last_line", "_line", "_text")

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._from = self._end = 0.0  # the second that is formatted, ``_end`` is not in
        self._text = self._line = self._last_line = b""

    def text(self) -> bytes:
        """Return the date, such as ``b"Sun, 06 Nov 1994 08:49:37 GMT"``.

        It is the same object until it is another date.
        """
        now = self._clock()
        if not self._from <= now < self._end:
            self._format(int(now))
        return self._text

    def now(self) -> float:
        """Return the time in seconds since the epoch."""
        return self._clock()

    def line(self) -> bytes:
        """Return the whole field line of HTTP/1.1."""
        self.text()
        return self._line

    def last_line(self) -> bytes:
        """Return the same as the last line of a head, with the empty one behind it."""
        self.text()
        return self._last_line

    def _format(self, second: int) -> None:
        self._from, self._end = float(second), second + 1.0
        self._text = formatdate(second, usegmt=True).encode("ascii")
        self._line = b"date: %b\r\n" % self._text
        self._last_line = self._line + b"\r\n"


http_date: HttpDate = HttpDate()
"""The date that both engines put into their responses."""
