"""Streams that are too slow, or that still receive a body after their answer.

Theory of operation. ``Watch`` holds bodies and responses to a minimum rate (the
slow-read and slow-write attacks). While any stream has a request body to come, or
output that waits for its window, it looks at all of them once a second, and ends those
that are too slow. A body must come at ``min_rate`` while its window is open; if it is
our own application that holds credit back, time does not count. Output may stand still
for ``send_timeout``, but when it trickles it must do so at ``min_rate``. Both have
``min_rate_grace`` seconds to begin with. While the transport takes no output no stream
is charged: then nothing is read, either, and ``OutputWatch`` decides for all.

``LateBodies`` gives a peer time to finish a body that the application does not want any
more. A server that has answered may reset the stream with NO_ERROR (RFC 9113 §8.1), and
the client must not take that for a failure. Some do, where they were about to send the
rest of a small body: curl 7.88 fails one POST in six. So the stream first stays open
for a moment, its body is dropped, and only a peer that goes on sending is reset.

What ``Watch`` knows of a stream is in a ``_Watched`` of its own. Those are made at a
look, so a stream that is over within a second never has one.

Invariant: ``LateBodies`` waits only for streams that are not closed.
"""

from collections.abc import Callable, Mapping
from typing import Final

from tako.core.callbacks import nothing
from tako.core.error_code import ErrorCode
from tako.core.min_rate import TICK, MinRate, countable, min_rate_of
from tako.core.seams import ServerConnection
from tako.h2.exchange import H2Exchange
from tako.h2.stream import H2Stream


_NEVER: Final = float("inf")
_LATE_BODY: Final = 0.5  # seconds for the rest of a body, after the answer


class _Watched:
    """What was seen of one stream at the last look."""

    __slots__ = ("received", "receiving", "sending", "sent")

    def __init__(self) -> None:
        self.received = 0
        """Bytes of the request body."""
        self.receiving: MinRate | None = None
        self.sent = 0
        """Bytes of output that the windows had room for."""
        self.sending: MinRate | None = None
        """``None`` where no output was waiting."""


class Watch:
    """The slow streams of one connection."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_exchanges",
        "_expired",
        "_looked",
        "_rate",
        "_timeout",
        "_watched",
    )

    def __init__(
        self,
        connection: ServerConnection,
        exchanges: Mapping[int, H2Exchange],
        expired: Callable[[H2Exchange], None],
    ) -> None:
        """Watch ``exchanges``; ``expired`` is called with each that is too slow."""
        config = connection.config
        self._connection = connection
        self._exchanges = exchanges
        self._expired = expired
        self._rate = 0 if config.min_rate_grace is None else config.min_rate
        self._timeout = _NEVER if config.send_timeout is None else config.send_timeout
        self._looked = 0.0
        self._watched: dict[H2Exchange, _Watched] = {}
        self._deadline = connection.deadlines.new(self._look)

    def start(self) -> None:
        """There may be something to watch."""
        if self._deadline.when is None:
            self._looked = self._connection.time()
            self._deadline.set(self._looked + TICK)

    def close(self) -> None:
        """Watch no longer, and let go of the engine: the connection is lost."""
        self._deadline.close()
        self._expired = nothing
        self._watched.clear()

    def _look(self) -> None:
        now = self._connection.time()
        elapsed, self._looked = countable(now - self._looked), now
        if self._connection.writable:
            self._look_at_streams(elapsed)
            watched = bool(self._watched)
        else:
            watched = True  # later
        if watched:
            self._deadline.set(now + TICK)
        self._connection.flush()

    def _look_at_streams(self, elapsed: float) -> None:
        before, self._watched = self._watched, {}
        for exchange in list(self._exchanges.values()):
            receiving = not (exchange.peer_ended or exchange.tunnel)
            sending = bool(exchange.outbox.size)
            if not (receiving or sending):
                continue
            seen = before.get(exchange) or _Watched()
            if (receiving and not self._receives(exchange, seen, elapsed)) or (
                sending and not self._sends(exchange, seen, elapsed)
            ):
                self._expired(exchange)
                continue
            if not sending:
                seen.sending = None
            self._watched[exchange] = seen

    def _receives(self, exchange: H2Exchange, seen: _Watched, elapsed: float) -> bool:
        """Tell whether the request body comes fast enough."""
        if not self._rate or exchange.awaits_handler:
            return True
        if seen.receiving is None:
            seen.receiving = min_rate_of(self._connection.config)
        moved = exchange.received - seen.received
        seen.received = exchange.received
        if exchange.window <= 0 and not moved:
            return True  # the application holds credit back
        return seen.receiving.elapsed(elapsed, moved)

    def _sends(self, exchange: H2Exchange, seen: _Watched, elapsed: float) -> bool:
        """Tell whether the client takes output fast enough."""
        moved = exchange.outbox.taken - seen.sent
        seen.sent = exchange.outbox.taken
        if seen.sending is None:
            seen.sending = min_rate_of(self._connection.config)
            return True
        return seen.sending.elapsed_or_stalled(elapsed, moved, self._timeout)


class LateBodies:
    """The streams of one connection that are answered, and still receive."""

    __slots__ = ("_connection", "_deadline", "_waiting")

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._waiting: dict[H2Stream, float] = {}  # until when, the first is next
        self._deadline = connection.deadlines.new(self._due)

    def add(self, exchange: H2Exchange) -> None:
        """Reset ``exchange`` in a moment, unless its peer has ended it by then."""
        when = self._connection.time() + _LATE_BODY
        self._waiting[exchange] = when
        if self._deadline.when is None:
            self._deadline.set(when)

    def remove(self, exchange: H2Stream) -> None:
        """Forget ``exchange``, which is closed; others are a no-op."""
        if self._waiting:
            self._waiting.pop(exchange, None)

    def end(self) -> None:
        """Reset all of them now."""
        self._deadline.set(None)
        self._reset_until(float("inf"))

    def close(self) -> None:
        """Reset none of them: the connection is lost."""
        self._deadline.close()

    def _due(self) -> None:
        self._reset_until(self._connection.time())
        if self._waiting:
            self._deadline.set(next(iter(self._waiting.values())))
        self._connection.flush()

    def _reset_until(self, last: float) -> None:
        due = [each for each, when in self._waiting.items() if when <= last]
        for exchange in due:
            exchange.reset(ErrorCode.NO_ERROR)
