"""``Counters``: what a server has done, in plain numbers.

Theory of operation. One value for each server, incremented where the event happens: no
lock, no label on the hot path, no clock of its own. ``Wire`` has what is counted for
each version of HTTP; what lives (connections, WebSockets) is held in a set as long, and
adds what it has counted itself at its end. ``tako.metrics`` says what the numbers are
called outside.

``PROCESS`` knows the counters of all servers of the process. What has ended is added up
in one value, so that nothing goes backwards.

Only the loop of a server writes its counters. Other threads may read them: each number
is right, if not all at the same moment.

Invariants: labels are bounded whatever peers send: routes are patterns, methods and
close codes beyond what is usual are folded into ``OTHER``.
"""

from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias, TypeVar

from tako.http.method import Method


if TYPE_CHECKING:
    from tako.core.seams import Exchange

K = TypeVar("K")

RequestKey: TypeAlias = tuple[str, str | None, int, str]
"""Method, route, status and version of HTTP."""

OTHER: Final = "_OTHER"
"""Stands for methods that are not known, as in OpenTelemetry's conventions."""

DURATIONS: Final[tuple[float, ...]] = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
)
"""Bounds of buckets, in seconds: those that OpenTelemetry recommends for requests."""

LATENCIES: Final[tuple[float, ...]] = (0.001, 0.0025, *DURATIONS)
"""The same for what is often shorter."""

_MOST_REQUESTS: Final = 2000  # slots of requests; routes beyond share one
_MOST_CLOSES: Final = 100  # pairs of code and side
METHODS: Final = frozenset(map(str, Method))
"""Those that are known; any other counts as ``OTHER``."""


class Histogram:
    """How often something took how long, in seconds.

    Attributes:
        bounds: the upper bounds of all buckets but the last, which has none.
        counts: how many are in each bucket, not cumulative.
        sum: seconds.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds: tuple[float, ...] = bounds
        self.counts: list[int] = [0] * (len(bounds) + 1)
        self.sum: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.sum += seconds
        self.counts[bisect_left(self.bounds, seconds)] += 1

    def add(self, other: "Histogram") -> None:
        """Count all of another with the same bounds."""
        self.sum += other.sum
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]


class Waits:
    """How often a writer had to wait, and for how many seconds altogether."""

    __slots__ = ("count", "seconds")

    def __init__(self) -> None:
        self.count: int = 0
        self.seconds: float = 0.0


class Carrier(Protocol):
    """A connection, which counts its bytes itself."""

    received: int
    """Bytes that came from the peer."""
    written: int
    """Bytes that were handed to the transport."""


class Socket(Protocol):
    """A WebSocket, which counts its messages itself."""

    @property
    def messages_received(self) -> int:
        """Data messages that the session was given, or that wait for it."""
        ...

    @property
    def messages_sent(self) -> int:
        """Data messages that the session has sent."""
        ...


class Wire:
    """What was counted of one version of HTTP.

    Attributes:
        version: ``"1.1"`` or ``"2"``; 1.0 counts as 1.1.
        connections: those that are open.
        connections_opened: how many there were.
        active: requests, and WebSockets, whose handlers run.
        sockets: WebSockets that are open.
        sockets_opened: how many there were.
        streams: streams that clients have opened; HTTP/2 only.
    """

    __slots__ = (
        "_messages_received",
        "_messages_sent",
        "_received",
        "_sent",
        "active",
        "connections",
        "connections_opened",
        "sockets",
        "sockets_opened",
        "streams",
        "version",
    )

    def __init__(self, version: str) -> None:
        self.version: str = version
        self.connections: set[Carrier] = set()
        self.connections_opened: int = 0
        self.active: int = 0
        self.sockets: set[Socket] = set()
        self.sockets_opened: int = 0
        self.streams: int = 0
        # of those that are closed
        self._received = self._sent = 0
        self._messages_received = self._messages_sent = 0

    def opened(self, connection: Carrier) -> None:
        """Count a connection whose protocol is known now."""
        self.connections_opened += 1
        self.connections.add(connection)

    def lost(self, connection: Carrier) -> None:
        """Take note that a connection is gone; repeats are no-ops."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._received += connection.received
            self._sent += connection.written

    def socket_opened(self, socket: Socket) -> None:
        """Count a WebSocket whose session begins."""
        self.sockets_opened += 1
        self.sockets.add(socket)

    def socket_closed(self, socket: Socket) -> None:
        """Take note that the session of a WebSocket has ended."""
        self.sockets.remove(socket)
        self._messages_received += socket.messages_received
        self._messages_sent += socket.messages_sent

    def bytes(self) -> tuple[int, int]:
        """Return what all connections have received and sent, TLS included."""
        received, sent = self._received, self._sent
        for each in tuple(self.connections):
            received += each.received
            sent += each.written
        return received, sent

    def messages(self) -> tuple[int, int]:
        """Return how many data messages all WebSockets have received and sent."""
        received, sent = self._messages_received, self._messages_sent
        for each in tuple(self.sockets):
            received += each.messages_received
            sent += each.messages_sent
        return received, sent

    def add(self, other: "Wire") -> None:
        """Count all of another, of which nothing is open any more."""
        self.connections_opened += other.connections_opened
        self.sockets_opened += other.sockets_opened
        self.streams += other.streams
        received, sent = other.bytes()
        self._received += received
        self._sent += sent
        received, sent = other.messages()
        self._messages_received += received
        self._messages_sent += sent


class Counters:
    """What one server has done so far.

    Attributes:
        http1: of HTTP/1.1.
        http2: of HTTP/2.
        accepted: connections that were accepted.
        accept_errors: accepts that failed.
        handshakes: TLS handshakes, by result and version (``"TLSv1.3"``; ``""`` where
            there is none).
        requests: how long requests took, by method, route, status and version. The
            route is a pattern, ``None`` where no route was found; a request that ended
            without an answer has the status 499.
        refused: requests that no handler has seen, by status: malformed or too slow.
        closes: WebSockets that have ended, by code and by whose Close came first
            (``"client"``, ``"server"``, ``""``).
        pings: how long Pongs took.
        socket_waits: of ``send``, until the client's window had room.
        response_waits: of bodies of responses, likewise.
        stream_resets: HTTP/2 streams that did not end in order, by cause.
        faults: HTTP/2 connections that were ended with an error, by its name.
        limits: limits of time, rate or number that a peer has hit, by name.
        loop_lag: how late the event loop was, at looks twice a second.
        lag: the same at the last look, in seconds.
        timed: requests are counted; see ``Process.time_requests``.
        expiry: returns when the first of the certificates expires, in seconds since the
            epoch; ``None``: there is none, or nothing is known of them.
    """

    __slots__ = (
        "accept_errors",
        "accepted",
        "closes",
        "expiry",
        "faults",
        "handshakes",
        "http1",
        "http2",
        "lag",
        "limits",
        "loop_lag",
        "pings",
        "refused",
        "requests",
        "response_waits",
        "socket_waits",
        "stream_resets",
        "timed",
    )

    def __init__(self) -> None:
        self.http1: Wire = Wire("1.1")
        self.http2: Wire = Wire("2")
        self.accepted: int = 0
        self.accept_errors: int = 0
        self.handshakes: dict[tuple[str, str], int] = {}
        self.requests: dict[RequestKey, Histogram] = {}
        self.refused: dict[int, int] = {}
        self.closes: dict[tuple[str, str], int] = {}
        self.pings: Histogram = Histogram(LATENCIES)
        self.socket_waits: Waits = Waits()
        self.response_waits: Waits = Waits()
        self.stream_resets: dict[str, int] = {}
        self.faults: dict[str, int] = {}
        self.limits: dict[str, int] = {}
        self.loop_lag: Histogram = Histogram(LATENCIES)
        self.lag: float = 0.0
        self.timed: bool = False
        self.expiry: Callable[[], float | None] = _never

    def wires(self) -> tuple[Wire, Wire]:
        """Return what was counted of each version of HTTP."""
        return self.http1, self.http2

    def wire(self, version: str) -> Wire:
        """Return what is counted of a version of HTTP."""
        return self.http2 if version == "2" else self.http1

    def answered(self, exchange: "Exchange", version: str, seconds: float) -> None:
        """Count a request whose answer has ended.

        Args:
            exchange: the request, and the status of its answer.
            version: ``"1.1"`` or ``"2"``.
            seconds: how long it took.
        """
        request = exchange.request
        key = (request.method, request.matched_path, exchange.status, version)
        slot = self.requests.get(key)
        if slot is None:
            slot = self._slot(key)
        slot.sum += seconds
        slot.counts[bisect_left(DURATIONS, seconds)] += 1

    def _slot(self, key: RequestKey) -> Histogram:
        """Return where a request is counted that is none of the usual."""
        method, route, status, version = key
        if method not in METHODS:
            key = (OTHER, route, status, version)
        if key not in self.requests and len(self.requests) >= _MOST_REQUESTS:
            key = (OTHER, OTHER, status, version)  # statuses are few
        return self.requests.setdefault(key, Histogram(DURATIONS))

    def closed(self, code: int, side: str) -> None:
        """Count a WebSocket that has ended."""
        key = (str(code), side)
        if key not in self.closes and len(self.closes) >= _MOST_CLOSES:
            key = (OTHER, side)
        hit(self.closes, key)

    def looked(self, lag: float) -> None:
        """Take note how late the event loop was, in seconds."""
        self.lag = max(lag, 0.0)
        self.loop_lag.observe(self.lag)

    def add(self, other: "Counters") -> None:
        """Count all that another has counted, of which nothing is open any more."""
        for mine, its in zip(self.wires(), other.wires(), strict=True):
            mine.add(its)
        self.accepted += other.accepted
        self.accept_errors += other.accept_errors
        for key, slot in other.requests.items():
            self._slot(key).add(slot)
        _add(self.handshakes, other.handshakes)
        _add(self.refused, other.refused)
        _add(self.closes, other.closes)
        _add(self.stream_resets, other.stream_resets)
        _add(self.faults, other.faults)
        _add(self.limits, other.limits)
        self.pings.add(other.pings)
        self.loop_lag.add(other.loop_lag)
        for waits, others in (
            (self.socket_waits, other.socket_waits),
            (self.response_waits, other.response_waits),
        ):
            waits.count += others.count
            waits.seconds += others.seconds


def _never() -> None:
    """Return when nothing expires."""


def hit(table: dict[K, int], key: K) -> None:
    """Count one more of ``key``: of what is seldom."""
    table[key] = table.get(key, 0) + 1


def _add(table: dict[K, int], other: dict[K, int]) -> None:
    for key, count in tuple(other.items()):
        table[key] = table.get(key, 0) + count


class Process:
    """The counters of all servers of a process, of those that have ended, too."""

    __slots__ = ("_ended", "_live", "_lock", "_timed")

    def __init__(self) -> None:
        self._lock = Lock()  # servers begin and end in several threads
        self._ended = Counters()
        self._live: list[Counters] = []
        self._timed = False

    def __iter__(self) -> Iterator[Counters]:
        """Iterate over the counters, one value for all servers that have ended."""
        with self._lock:
            found: Iterable[Counters] = (self._ended, *self._live)
        return iter(found)

    def time_requests(self) -> None:
        """Have all servers count ``requests`` from now on.

        That is two looks at the clock, and some additions, for each; a server of which
        nothing is asked for goes without.
        """
        with self._lock:
            self._timed = True
            for each in self._live:
                each.timed = True

    @contextmanager
    def serving(self, counters: Counters) -> Generator[None, None, None]:
        """Have a server among them; at the end of the block nothing of it is open."""
        with self._lock:
            self._live.append(counters)
            counters.timed = self._timed
        try:
            yield
        finally:
            with self._lock:
                self._live.remove(counters)
                self._ended.add(counters)


PROCESS: Final = Process()
"""The servers of this process."""
