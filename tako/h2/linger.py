"""``Linger``: time for a peer to finish a body that nobody wants any more.

A server that has answered may reset the stream with NO_ERROR (RFC 9113 §8.1), and the
client must not take that for a failure. Some do, where they were about to send the rest
of a small body: curl 7.88 fails one POST in six. So the stream first stays open for a
moment, its body is dropped, and only a peer that goes on sending is reset.

Invariant: only streams that are not closed are waited for.
"""

from typing import TYPE_CHECKING

from tako.core.error_code import ErrorCode
from tako.core.seams import Connection


if TYPE_CHECKING:
    from tako.h2.exchange import H2Exchange

_LINGER = 0.5  # seconds


class Linger:
    """The streams of one connection that are answered, and still receive."""

    __slots__ = ("_connection", "_deadline", "_waiting")

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._waiting: dict[H2Exchange, float] = {}  # until when, the first is next
        self._deadline = connection.deadlines.new(self._due)

    def add(self, exchange: "H2Exchange") -> None:
        """Reset ``exchange`` in a moment, unless its peer has ended it by then."""
        when = self._connection.time() + _LINGER
        self._waiting[exchange] = when
        if self._deadline.when is None:
            self._deadline.set(when)

    def remove(self, exchange: "H2Exchange") -> None:
        """Forget ``exchange``, which is closed; others are a no-op."""
        self._waiting.pop(exchange, None)

    def end(self) -> None:
        """Wait for nobody any more."""
        self._deadline.set(None)
        self._reset_until(float("inf"))

    def _due(self) -> None:
        self._reset_until(self._connection.time())
        if self._waiting:
            self._deadline.set(next(iter(self._waiting.values())))
        self._connection.flush()

    def _reset_until(self, last: float) -> None:
        due = [each for each, when in self._waiting.items() if when <= last]
        for exchange in due:
            exchange.reset(ErrorCode.NO_ERROR)
