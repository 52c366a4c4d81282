"""``SilenceWatch``: finds the peers that are gone without a FIN.

Theory of operation. One timer for all connections of a service. At each *look* it
visits every connection: one that has not received a byte since the last look counts
that. After as many looks in vain as ``ws_ping_interval`` is long the connection has its
peer asked, if it carries a tunnel that is to be watched; after as many more as
``ws_ping_timeout`` is long, it gives the peer up. Where there is no such tunnel it asks
the kernel whether output on its way is still acknowledged: to a host that is gone it
sends the same again for a quarter of an hour, and TCP keepalive waits for that. So a
socket costs a flag and a small number, and a read sets the flag.

Ten looks are the shorter of the two times, so each is up to a tenth of that late. Looks
are counted, not seconds: a loop that was blocked for a minute makes one of them, and
reads what has come in the meantime before the next. A look at many connections is made
in slices, between which others have a turn.

Invariant: until ``stop`` either a timer is pending, or a slice.
"""

import math
from collections.abc import Iterable
from typing import Protocol

from tako.config import ServerConfig
from tako.core.loop import Runtime, Timer


_LOOKS = 10  # in the shorter of the two times
_UNASKED = 20.0  # seconds of silence before the kernel is asked, where no peer is
_SLICE = 200  # connections: some milliseconds if each is sent something


class Watched(Protocol):
    """A connection, or what is to become one."""

    def look(self, silent_at: int, dead_at: int) -> None:
        """Count a look without a byte; see ``TcpConnection.look``."""


class SilenceWatch:
    """Looks at all connections of a service, until ``stop``."""

    __slots__ = (
        "_connections",
        "_dead_at",
        "_left",
        "_runtime",
        "_silent_at",
        "_step",
        "_stopped",
        "_timer",
    )

    def __init__(
        self,
        runtime: Runtime,
        config: ServerConfig,
        connections: Iterable[Watched],
    ) -> None:
        """Begin to look at ``connections``, those of them that are there by then."""
        interval, timeout = config.ws_ping_interval or _UNASKED, config.ws_ping_timeout
        self._runtime = runtime
        self._connections = connections
        self._left: list[Watched] = []
        self._stopped = False
        self._step = min(interval, timeout or interval) / _LOOKS
        self._silent_at = self._looks_in(interval)
        self._dead_at = 0
        if timeout is not None:
            self._dead_at = self._silent_at + self._looks_in(timeout)
        self._wait()

    def stop(self) -> None:
        """Look no more."""
        self._stopped = True
        self._left.clear()
        self._timer.cancel()

    def _looks_in(self, seconds: float) -> int:
        return math.ceil(seconds / self._step - 1e-6)

    def _wait(self) -> None:
        when = self._runtime.time() + self._step
        self._timer: Timer = self._runtime.call_at(when, self._look)

    def _look(self) -> None:
        self._left = list(self._connections)
        self._go_on()

    def _go_on(self) -> None:
        if self._stopped:
            return
        left = self._left
        for connection in left[-_SLICE:]:
            connection.look(self._silent_at, self._dead_at)
        del left[-_SLICE:]
        if left:
            self._runtime.call_soon(self._go_on)
        else:
            self._wait()
