"""``Watch``: bodies and responses must move (the slow-read and slow-write attacks).

Theory of operation. While any stream has a request body to come, or output that waits
for its window, the watch looks at all of them once a second, and ends those that are
too slow. A body must come at ``min_rate`` while its window is open; if it is our own
application that holds credit back, time does not count. Output may stand still for
``send_timeout``, but when it trickles it must do so at ``min_rate``. Both have
``min_rate_grace`` seconds to begin with. While the transport takes no output no stream
is charged: then nothing is read, either, and ``OutputWatch`` decides for all.
"""

from collections.abc import Callable, Mapping

from tako.core.min_rate import TICK, countable, min_rate_of
from tako.core.seams import ServerConnection
from tako.h2.exchange import H2Exchange


_NEVER = float("inf")


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
        self._deadline = connection.deadlines.new(self._look)

    def start(self) -> None:
        """There may be something to watch."""
        if self._deadline.when is None:
            self._looked = self._connection.time()
            self._deadline.set(self._looked + TICK)

    def stop(self) -> None:
        """The connection is over."""
        self._deadline.set(None)

    def _look(self) -> None:
        now = self._connection.time()
        elapsed, self._looked = countable(now - self._looked), now
        watched = not self._connection.writable
        for exchange in [] if watched else list(self._exchanges.values()):
            receiving = not (exchange.peer_ended or exchange.tunnel)
            sending = bool(exchange.outbox.size)
            if (receiving and not self._comes(exchange, elapsed)) or (
                sending and not self._leaves(exchange, elapsed)
            ):
                self._expired(exchange)
                continue
            if not sending:
                exchange.send_pace = None
            watched = watched or receiving or sending
        if watched:
            self._deadline.set(now + TICK)
        self._connection.flush()

    def _comes(self, exchange: H2Exchange, elapsed: float) -> bool:
        if not self._rate or exchange.awaits_handler:
            return True
        if exchange.pace is None:
            exchange.pace = min_rate_of(self._connection.config)
        moved = exchange.received - exchange.moved
        exchange.moved = exchange.received
        if exchange.window <= 0 and not moved:
            return True  # the application holds credit back
        return exchange.pace.elapsed(elapsed, moved)

    def _leaves(self, exchange: H2Exchange, elapsed: float) -> bool:
        pace = exchange.send_pace
        if pace is None:
            exchange.send_pace = min_rate_of(self._connection.config)
            exchange.sent = 0
            return True
        moved, exchange.sent = exchange.sent, 0
        return pace.elapsed_or_stalled(elapsed, moved, self._timeout)
