"""``HalfClosed``: bounds the answers to a peer that has sent FIN.

Theory of operation. A peer that half-closes and reads on (RFC 9112 §9.6 lets it) and
one that went away look the same until something is written to them: then the first
acknowledges, and the kernel of the other resets. So an answer that moves, and arrives,
goes on; the connection is dropped as soon as the kernel knows of a reset, or when
nothing was acknowledged for ``send_timeout``. While answers are silent the engine sends
a few bytes that mean nothing, if its protocol allows them at that point. An answer that
stays silent, or does not begin, is given up after ``half_closed_timeout``, each by
itself. A handler that still reads what came before the FIN is not silent. An answer
that waits for room to write is left to the limits on slow readers.
"""

from collections.abc import Callable, Iterable
from typing import Final, Generic, TypeAlias, TypeVar

from tako.core.seams import Exchange, ServerConnection


# Seconds between looks: few, then more
_FIRST: Final = 0.2
_GROWTH: Final = 1.5
_TICK: Final = 1.0
_NEVER: Final = float("inf")

Progress: TypeAlias = tuple[bool, int, int]
"""Whether the answer has begun, and the bytes of both bodies that moved so far."""


AnyExchange = TypeVar("AnyExchange", bound=Exchange)


class HalfClosed(Generic[AnyExchange]):
    """The watch over one connection, from the peer's FIN to the last answer."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_exchanges",
        "_give_up",
        "_limit",
        "_pause",
        "_probe",
        "_seen",
        "_taken",
        "_taken_at",
        "_timeout",
    )

    def __init__(
        self,
        connection: ServerConnection,
        exchanges: Callable[[], Iterable[AnyExchange]],
        give_up: Callable[[AnyExchange], None],
        probe: Callable[[], None],
    ) -> None:
        """Watch nothing yet.

        Args:
            connection: the connection.
            exchanges: returns those that are not answered in full.
            give_up: ends one as if its peer had reset it.
            probe: queues bytes that mean nothing, if there are any.
        """
        config = connection.config
        self._connection = connection
        self._exchanges = exchanges
        self._give_up = give_up
        self._probe = probe
        self._pause = _FIRST
        self._limit = config.half_closed_timeout or _NEVER
        self._timeout = config.send_timeout or _NEVER
        self._seen: dict[AnyExchange, tuple[Progress, float]] = {}  # and since when
        self._taken = -1  # bytes that the peer has acknowledged
        self._taken_at = 0.0
        self._deadline = connection.deadlines.new(self._look)

    def start(self) -> None:
        """Begin to watch: the FIN is here, or a request sent before it begins now."""
        if self._deadline.when is None:
            self._taken_at = self._connection.time()
            self._pause = _FIRST
            self._see()

    def close(self) -> None:
        """Watch no longer: the connection is lost."""
        self._deadline.close()

    def _look(self) -> None:
        if not any(True for _ in self._exchanges()):
            return  # the rest is written and closed in order
        delivery = self._connection.delivery()
        if delivery is None or self._stuck(*delivery):
            self._connection.abort()
        else:
            if self._see():
                self._probe()
            self._connection.flush()

    def _stuck(self, taken: int, lacking: int) -> bool:
        """Tell whether the peer has acknowledged nothing for ``send_timeout``."""
        now = self._connection.time()
        if not lacking or taken != self._taken:
            self._taken, self._taken_at = taken, now
        return now - self._taken_at >= self._timeout

    def _see(self) -> bool:
        """Give up answers that stood still for too long; look again if any is left.

        Return whether an answer is silent although it could move.
        """
        now, silent = self._connection.time(), False
        before, self._seen = self._seen, {}
        for exchange in list(self._exchanges()):
            moved = exchange.bytes_sent, exchange.body.taken
            progress = exchange.head_sent, *moved
            seen, since = before.get(exchange, (progress, now))
            if progress != seen or not exchange.writable:
                since = now
            else:
                silent = True
            if now - since >= self._limit:
                self._give_up(exchange)
            else:
                self._seen[exchange] = progress, since
        if self._seen:
            self._deadline.set(now + min(self._pause, self._limit))
            self._pause = min(self._pause * _GROWTH, _TICK)
        return silent
