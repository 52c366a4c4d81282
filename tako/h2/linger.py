"""``Linger``: time for a peer to finish a body that nobody wants any more.

A server that has answered may reset the stream with NO_ERROR (RFC 9113 §8.1), and the
client must not take that for a failure. Some do, where they were about to send the rest
of a small body: curl 7.88 fails one POST in six. So the stream first stays open for a
moment, its body is dropped, and only a peer that goes on sending is reset.
"""

from collections import deque
from typing import TYPE_CHECKING

from tako.seams import Host, ResetCode


if TYPE_CHECKING:
    from tako.h2.exchange import H2Exchange

_LINGER = 0.5  # seconds


class Linger:
    """The streams of one connection that are answered, and still receive."""

    __slots__ = ("_deadline", "_host", "_waiting")

    def __init__(self, host: Host) -> None:
        self._host = host
        self._waiting: deque[tuple[float, H2Exchange]] = deque()
        self._deadline = host.deadlines.new(self._due)

    def add(self, exchange: "H2Exchange") -> None:
        """Reset ``exchange`` in a moment, unless its peer has ended it by then."""
        when = self._host.time() + _LINGER
        self._waiting.append((when, exchange))
        if self._deadline.when is None:
            self._deadline.set(when)

    def end(self) -> None:
        """Wait for nobody any more."""
        self._deadline.set(None)
        while self._waiting:
            self._waiting.popleft()[1].reset(ResetCode.NO_ERROR)

    def _due(self) -> None:
        now = self._host.time()
        while self._waiting and self._waiting[0][0] <= now:
            self._waiting.popleft()[1].reset(ResetCode.NO_ERROR)
        if self._waiting:
            self._deadline.set(self._waiting[0][0])
        self._host.flush()
