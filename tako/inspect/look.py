"""``Look``: what a server is doing now, as values for a page.

Theory of operation. ``refresh`` walks over all connections of a service. It keeps of
each what the next walk needs for rates, and a sample of the whole for the plots of the
last minutes. ``view`` makes of that what one page shows: the first rows by what it
sorts by, of those that it filters for. So a page gets as much of a server with many
connections as of one with few.

What has ended is noted as it ends, always: a page that is opened because of it comes
too late to see it otherwise.

Invariants: nothing is kept of a connection that is lost, but how it ended; a view has
``_MOST`` rows of a kind.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from tako.core.exchange_of import exchange_of
from tako.core.loop import Clock
from tako.core.seams import Exchange
from tako.http.conn_info import Carrier, ConnInfo, PeerAddr
from tako.http.request import Request
from tako.inspect.following import Following
from tako.server.service import ServerStatistics
from tako.tcp.connection import ConnectionState, TcpConnection
from tako.ws.conversation import Conversation


Row: TypeAlias = dict[str, object]

SAMPLES: Final = 300
"""Walks of which a sample is kept: minutes."""

_CLOSED: Final = 100  # ends that are remembered
_MOST: Final = 100  # rows
_STREAMS: Final = 200  # of the one connection that is shown in full
_FRESH: Final = 0.5  # seconds in which one walk serves all pages
_NEW: Final = 0.3  # what the last walk counts for in a rate that is smoothed
_COUNTED: Final = 100  # connections whose messages are counted
_SORTS: Final = ("rate", "latency", "backlog", "age")


class Served(Protocol):
    """A ``Service``, as an inspector sees it."""

    @property
    def statistics(self) -> ServerStatistics:
        """What it is doing, in numbers."""
        ...

    @property
    def connections(self) -> list[TcpConnection]:
        """Its connections."""
        ...

    @property
    def exchanges(self) -> list[Exchange]:
        """Requests and WebSockets whose handlers run."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a page asks to see.

    Attributes:
        find: what a row must have in its peer, wire or path; ``""``: any.
        sort: what comes first: ``_SORTS``.
        limit: rows of a kind.
        skip: rows before them.
        connection: the number of the connection to be shown in full; 0: none.
    """

    find: str = ""
    sort: str = "rate"
    limit: int = 25
    skip: int = 0
    connection: int = 0

    @classmethod
    def read(cls, told: dict[str, Any]) -> "Query":
        """Return what a page has asked; what makes no sense is as it is by default."""
        find, sort = told.get("find"), told.get("sort")
        return cls(
            find=find.lower()[:100] if isinstance(find, str) else "",
            sort=sort if isinstance(sort, str) and sort in _SORTS else "rate",
            limit=_number(told.get("limit"), 25, _MOST),
            skip=_number(told.get("skip"), 0, 1 << 30),
            connection=_number(told.get("connection"), 0, 1 << 53),
        )


def _number(told: object, default: int, most: int) -> int:
    if isinstance(told, bool) or not isinstance(told, int):
        return default
    return min(max(told, 0), most)


@dataclass(slots=True)
class _Seen:
    """A connection, as walks have met it."""

    number: int
    at: float | None = None  # when that was; ``None``: nobody has looked since
    written: int = 0
    received: int = 0
    sending: float = 0.0  # bytes a second
    receiving: float = 0.0
    round_trip: float | None = None
    rate: float = 0.0  # bytes a second each way, smoothed: rows are not to jump
    sockets: int = 0

    def meet(self, connection: TcpConnection, now: float) -> None:
        """Take note of what has gone over it since it was met last."""
        self.round_trip = connection.round_trip()
        self.sending = self.receiving = 0.0
        if self.at is not None and now > self.at:
            seconds = now - self.at
            self.sending = (connection.written - self.written) / seconds
            self.receiving = (connection.received - self.received) / seconds
            self.rate += (self.sending + self.receiving - self.rate) * _NEW
        self.at, self.written = now, connection.written
        self.received = connection.received
        self.sockets = 0


class Look:
    """What a service is doing now; implements ``Observer``."""

    def __init__(self, service: Served, following: Following, clock: Clock) -> None:
        """Look at nothing yet.

        Args:
            service: the service.
            following: counts messages.
            clock: that of the connections.
        """
        self._service = service
        self._following = following
        self._clock = clock
        self._numbers = 0
        self._seen: dict[TcpConnection, _Seen] = {}
        self._sockets: list[tuple[Exchange, Conversation]] = []
        self._walked = float("-inf")
        self._accepted = 0
        self._closed: deque[Row] = deque(maxlen=_CLOSED)
        self.samples: deque[Row] = deque(maxlen=SAMPLES)
        """What the walks have found, the oldest first."""

    # service.Observer --------------------------------------------------------------

    def connection_ended(self, connection: object) -> None:
        """Note how a connection has ended."""
        if not isinstance(connection, TcpConnection):
            return
        self._seen.pop(connection, None)
        info = connection.describe().info
        self._note(
            what="connection",
            peer=str(connection.peer),
            wire=_wire(info),
            why=connection.end,
            age=self._clock() - connection.since,
        )

    def websocket_asked(self, request: Request) -> None:
        """Note how a WebSocket has ended, once it has."""
        request.on_end(partial(self._websocket_ended, request))

    def _websocket_ended(self, request: Request, status: int, _: bool) -> None:
        exchange = exchange_of(request)
        info = request.conn_info
        peer = "" if info is None else str(info.peer)
        path = request.matched_path or request.path
        sink = None if exchange is None else exchange.sink
        if not isinstance(sink, Conversation):
            why = f"refused with {status}"
            self._note(
                what="handshake", peer=peer, wire=_wire(info), path=path, why=why
            )
            return
        view = sink.describe()
        by = f"by the {view.by}" if view.by else "without a Close"
        self._note(
            what="websocket",
            peer=peer,
            wire=_wire(info),
            path=path,
            code=view.code,
            why=f"{by}: {view.reason}" if view.reason else by,
            age=self._clock() - view.since,
        )

    def _note(self, **facts: object) -> None:
        self._closed.append({"at": self._clock(), **facts})

    # The walk ------------------------------------------------------------------------

    def refresh(self, lag: float = 0.0) -> bool:
        """Walk over all connections, unless that was just done; tell whether it was.

        Args:
            lag: seconds by which the event loop was late for this.
        """
        now = self._clock()
        if now - self._walked < _FRESH:
            return False
        since, self._walked = now - self._walked, now
        seen = self._seen
        for connection in self._service.connections:
            last = seen.get(connection)
            if last is None:
                self._numbers += 1
                last = seen[connection] = _Seen(self._numbers)
            last.meet(connection, now)
        self._sockets = []
        for exchange in self._service.exchanges:
            sink = exchange.sink
            if exchange.tunnel and isinstance(sink, Conversation):
                self._sockets.append((exchange, sink))
                if (owner := seen.get(_connection(exchange))) is not None:
                    owner.sockets += 1
        self._sample(now, since, lag)
        return True

    def _sample(self, now: float, since: float, lag: float) -> None:
        statistics = self._service.statistics
        known = sorted(
            it.round_trip for it in self._seen.values() if it.round_trip is not None
        )
        accepted, self._accepted = self._accepted, statistics.accepted
        self.samples.append(
            {
                "at": round(now, 3),
                "connections": len(self._seen),
                "handshakes": statistics.handshakes,
                "sockets": len(self._sockets),
                "requests": statistics.exchanges - len(self._sockets),
                "accepting": round(max(0, self._accepted - accepted) / since, 2),
                "receiving": round(sum(it.receiving for it in self._seen.values())),
                "sending": round(sum(it.sending for it in self._seen.values())),
                "median": known[len(known) // 2] if known else None,
                "slowest": known[len(known) * 19 // 20] if known else None,
                "lag": round(lag, 4),
            }
        )

    def forget(self) -> None:
        """Keep no more than the numbers of connections: nobody looks."""
        self._following.count(())
        self._sockets = []
        for each in self._seen.values():
            each.at = None
        self._walked = float("-inf")
        self.samples.clear()

    # What a page gets ----------------------------------------------------------------

    def connection(self, number: int) -> TcpConnection | None:
        """Return the connection of a number; ``None``: it is gone."""
        for connection, seen in self._seen.items():
            if seen.number == number and connection.state < ConnectionState.LINGERING:
                return connection
        return None

    def view(self, query: Query) -> Row:
        """Return what a page shows, of the last walk."""
        connections = self._first(
            query, self._seen.items(), _connection_words, self._connection_key(query)
        )
        sockets = self._first(
            query, self._sockets, _socket_words, self._socket_key(query)
        )
        shown: Row = {
            "now": round(self._clock(), 3),
            "total": len(self._seen),
            "connections": [self._connection_row(*each) for each in connections[0]],
            "found": connections[1],
            "sockets": [self._socket_row(*each) for each in sockets[0]],
            "sockets_found": sockets[1],
            "closed": list(self._closed),
        }
        if query.connection:
            shown["shown"] = self._in_full(query.connection)
        counted = dict.fromkeys(_connection(exchange) for exchange, _ in sockets[0])
        self._following.count(list(counted)[:_COUNTED])
        return shown

    def _first(
        self,
        query: Query,
        all_of_it: Iterable[Any],
        words: Callable[[Any], str],
        key: Callable[[Any], float],
    ) -> tuple[list[Any], int]:
        """Return the rows that a query is for, and how many there are like these."""
        rows = list(all_of_it)
        if query.find:
            rows = [each for each in rows if query.find in words(each).lower()]
        most = query.skip + query.limit
        return heapq.nlargest(most, rows, key)[query.skip :], len(rows)

    def _connection_key(
        self, query: Query
    ) -> Callable[[tuple[TcpConnection, _Seen]], float]:
        keys: dict[str, Callable[[tuple[TcpConnection, _Seen]], float]] = {
            "rate": lambda each: each[1].rate,
            "latency": lambda each: each[1].round_trip or 0.0,
            "backlog": lambda each: each[0].describe().unsent,
            "age": lambda each: -each[0].since,
        }
        return keys[query.sort]

    def _socket_key(
        self, query: Query
    ) -> Callable[[tuple[Exchange, Conversation]], float]:
        keys: dict[str, Callable[[tuple[Exchange, Conversation]], float]] = {
            "rate": self._socket_rate,
            "latency": self._socket_latency,
            "backlog": lambda each: each[1].inbox.weight + each[0].describe().queued,
            "age": lambda each: -each[1].since,
        }
        return keys[query.sort]

    def _socket_rate(self, socket: tuple[Exchange, Conversation]) -> float:
        """Return the share of a WebSocket in the bytes of its connection."""
        seen = self._seen.get(_connection(socket[0]))
        return 0.0 if seen is None else seen.rate / max(seen.sockets, 1)

    def _socket_latency(self, socket: tuple[Exchange, Conversation]) -> float:
        """Return that of the last Ping, or what the kernel says."""
        seen = self._seen.get(_connection(socket[0]))
        round_trip = None if seen is None else seen.round_trip
        return socket[1].latency or round_trip or 0.0

    def _connection_row(self, connection: TcpConnection, seen: _Seen) -> Row:
        view = connection.describe()
        info = view.info
        tls = None if info is None else info.tls
        rates = self._following.rates(connection).values()
        return {
            "number": seen.number,
            "peer": str(connection.peer),
            "wire": _wire(info),
            "tls": None if tls is None else tls.version,
            "cipher": None if tls is None else tls.cipher,
            "name": None if tls is None else tls.sni,
            "state": view.state if view.engine is None else view.engine.phase,
            "age": round(self._clock() - connection.since, 1),
            "sockets": seen.sockets,
            "streams": None if view.engine is None else view.engine.streams,
            "receiving": round(seen.receiving),
            "sending": round(seen.sending),
            "messages_in": round(sum(each[0] for each in rates), 1),
            "messages_out": round(sum(each[1] for each in rates), 1),
            "unsent": view.unsent,
            "reading": view.reading,
            "round_trip": seen.round_trip,
        }

    def _socket_row(self, exchange: Exchange, socket: Conversation) -> Row:
        connection = _connection(exchange)
        seen = self._seen.get(connection)
        view, stream = socket.describe(), exchange.describe()
        rates: tuple[float | None, float | None] = (None, None)
        if self._following.counted(connection):
            rates = self._following.rates(connection).get(stream.stream, (0.0, 0.0))
        info, request = exchange.request.conn_info, exchange.request
        return {
            "connection": 0 if seen is None else seen.number,
            "stream": stream.stream,
            "route": request.matched_path or request.path,
            "path": request.path,
            "peer": str(_peer(info, connection)),
            "wire": _wire(info),
            "age": round(self._clock() - view.since, 1),
            "messages_in": None if rates[0] is None else round(rates[0], 1),
            "messages_out": None if rates[1] is None else round(rates[1], 1),
            "rate": round(self._socket_rate((exchange, socket))),
            "latency": view.latency,
            "round_trip": None if seen is None else seen.round_trip,
            "waiting": view.waiting,
            "weight": view.weight,
            "queued": stream.queued,
            "compressed": view.compressed,
            "state": "open" if view.code is None else f"closing ({view.code})",
        }

    def _in_full(self, number: int) -> Row | None:
        """Return a connection with its streams; ``None``: it is gone."""
        connection = self.connection(number)
        if connection is None:
            return None
        engine = connection.describe().engine
        own = [it for it in self._service.exchanges if it.connection is connection]
        return {
            **self._connection_row(connection, self._seen[connection]),
            "send_window": None if engine is None else engine.send_window,
            "receive_window": None if engine is None else engine.receive_window,
            "running": len(own),
            "exchanges": [_stream_row(each) for each in own[:_STREAMS]],
        }


def _stream_row(exchange: Exchange) -> Row:
    view, request = exchange.describe(), exchange.request
    return {
        "stream": view.stream,
        "method": "WebSocket" if exchange.tunnel else request.method,
        "path": request.path,
        "state": view.state,
        "queued": view.queued,
        "send_window": view.send_window,
        "receive_window": view.receive_window,
    }


def _connection(exchange: Exchange) -> TcpConnection:
    """Return the connection of an exchange, which is a server's."""
    connection: Any = exchange.connection
    return connection  # type: ignore[no-any-return] # of a service there is no other


def _peer(info: ConnInfo | None, connection: TcpConnection) -> PeerAddr:
    return connection.peer if info is None else info.peer


def _wire(info: ConnInfo | None) -> str:
    if info is None:
        return ""
    if info.transport is Carrier.UNIX:
        return "Unix"
    return "HTTP/2" if info.transport is Carrier.HTTP2 else "HTTP/1.1"


def _connection_words(row: tuple[TcpConnection, _Seen]) -> str:
    connection = row[0]
    return f"{connection.peer} {_wire(connection.describe().info)}"


def _socket_words(row: tuple[Exchange, Conversation]) -> str:
    request = row[0].request
    info = request.conn_info
    peer = "" if info is None else info.peer
    return f"{peer} {_wire(info)} {request.path} {request.matched_path}"
