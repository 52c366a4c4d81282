"""Minimum rates: the defence against slow readers and slow senders.

Theory of operation. The transport tells when it takes output again only once nearly all
that it holds is gone, and the kernel takes more in steps of a megabyte; a slow but
steady reader may need minutes for either. So while the transport takes no output,
``OutputWatch`` looks once a second at what the peer has acknowledged. Output may stand
still for ``send_timeout`` seconds; when it trickles it must do so at ``min_rate`` bytes
a second, after ``min_rate_grace`` seconds to begin with.

Invariant: the watch's deadline is set while output waits, and then for one look more.
"""

from typing import Final, Protocol

from tako.config import ServerConfig
from tako.core.counters import Counters, hit
from tako.core.deadlines import Deadlines
from tako.core.loop import Clock, Runtime, Transport


TICK: Final = 1.0  # seconds between looks
_NEVER: Final = float("inf")


class MinRate:
    """Checks that a transfer moves at ``rate`` bytes a second.

    A bucket that drains with time and fills with progress. It starts full, so nothing
    is too slow within the first ``grace`` seconds, and it never holds more, so that a
    fast start does not pay for a slow rest.
    """

    __slots__ = ("_credit", "_grace", "_rate", "_stalled")

    def __init__(self, rate: float, grace: float) -> None:
        self._rate = rate
        self._grace = rate * grace
        self._credit = self._grace
        self._stalled = 0.0

    def elapsed(self, seconds: float, moved: int) -> bool:
        """Account for ``moved`` bytes in ``seconds``; tell if that is fast enough."""
        self._credit = min(self._grace, self._credit + moved - self._rate * seconds)
        return self._credit >= 0

    def elapsed_or_stalled(self, seconds: float, moved: int, timeout: float) -> bool:
        """As ``elapsed``, but a standstill may last ``timeout`` seconds.

        The time of a standstill is charged with the next bytes, so that a trickle is
        not mistaken for patience.
        """
        self._stalled += seconds
        if not moved:
            return self._stalled < timeout
        stalled, self._stalled = self._stalled, 0.0
        return self.elapsed(stalled, moved)


class Watched(Protocol):
    """The connection whose output is watched."""

    counters: Counters
    deadlines: Deadlines
    runtime: Runtime
    time: Clock

    written: int
    """Bytes that were handed to the transport."""

    @property
    def config(self) -> ServerConfig:
        """Limits, windows and timeouts."""
        ...

    def abort(self) -> None:
        """Drop the connection now."""
        ...


class OutputWatch:
    """Aborts a connection whose peer does not take our output."""

    __slots__ = (
        "_connection",
        "_deadline",
        "_looked",
        "_rate",
        "_taken",
        "_timeout",
        "_transport",
        "_waited",
    )

    def __init__(self, connection: Watched, transport: Transport) -> None:
        """Watch nothing yet."""
        config = connection.config
        self._connection = connection
        self._transport = transport
        self._timeout = _NEVER if config.send_timeout is None else config.send_timeout
        self._deadline = connection.deadlines.new(self._look)
        self._waited = False

    def start(self) -> None:
        """Begin to watch: the transport's buffer is above its limit."""
        connection = self._connection
        self._waited = True
        if self._deadline.when is not None:
            return
        self._rate = min_rate_of(connection.config)
        self._taken = self._acknowledged()
        self._looked = connection.time()
        self._deadline.set(self._looked + TICK)

    def stop(self) -> None:
        """Note that the transport takes output again.

        The next look, not this, ends the watch: large messages fill and empty the
        transport thousands of times a second.
        """
        self._waited = False

    def close(self) -> None:
        """Watch no longer: the connection is lost."""
        self._deadline.close()

    def emptied(self) -> bool:
        """Tell whether no output waits now, and none did at the call before."""
        before, self._waited = self._waited, self._unsent() > 0
        return not (before or self._waited)

    def _unsent(self) -> int:
        return self._transport.get_write_buffer_size()

    def _acknowledged(self) -> int:
        """Return how much the peer has got, as far as the kernel tells."""
        held = self._connection.runtime.unacknowledged(self._transport)
        return self._connection.written - self._unsent() - held

    def _look(self) -> None:
        connection, before = self._connection, self._taken
        if not self._waited or not self._unsent():
            return
        now = connection.time()
        elapsed, self._looked = countable(now - self._looked), now
        self._taken = self._acknowledged()
        moved = self._taken - before
        if self._rate.elapsed_or_stalled(elapsed, moved, self._timeout):
            self._deadline.set(now + TICK)
        else:
            hit(connection.counters.limits, "output_rate")
            connection.abort()


def min_rate_of(config: ServerConfig) -> MinRate:
    """Return a new check of the rate that ``config`` asks for."""
    grace = config.min_rate_grace
    return MinRate(0, 0) if grace is None else MinRate(config.min_rate, grace)


def countable(elapsed: float) -> float:
    """Return how many seconds between two looks count: two ticks at most.

    For longer than that the event loop was blocked: nothing could move.
    """
    return min(elapsed, 2 * TICK)
