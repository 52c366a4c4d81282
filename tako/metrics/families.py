"""The metrics: what each is called, what it says, and where it is counted.

Names and units follow Prometheus, and OpenTelemetry's conventions where those have the
metric; what they do not have begins with ``tako_``. docs/reference/metrics.md shows
this table, and a test compares.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from tako.core.counters import DURATIONS, LATENCIES, Counters, Histogram
from tako.topics.counts import Tally


Labels: TypeAlias = tuple[str, ...]
"""The values of labels, in the order of ``Family.labels``."""
Value: TypeAlias = float | list[float]
"""A number; of a histogram the counts of its buckets, then the sum in seconds; of a
summary the count, then the sum."""
Samples: TypeAlias = Iterable[tuple[Labels, Value]]
Kind: TypeAlias = Literal["counter", "gauge", "histogram", "summary"]
Scope: TypeAlias = Literal["sum", "least", "worker", "supervisor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A metric.

    Attributes:
        name: as Prometheus has it; the samples of a counter end with ``_total``.
        kind: what it is.
        help: what it says.
        labels: what tells its samples apart.
        bounds: of the buckets of a histogram.
        scope: what several workers make of it: the sum, the least, or a sample for each
            (``worker`` is a label then); or the supervisor counts it.
        server: reads it from the counters of a server.
        topics: reads it from the counts of topics.
    """

    name: str
    kind: Kind
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()
    scope: Scope = "sum"
    server: Callable[[Counters], Samples] | None = field(default=None, repr=False)
    topics: Callable[[Tally], Samples] | None = field(default=None, repr=False)


_VERSION: Final = "network_protocol_version"
_DIRECTION: Final = "network_io_direction"
_BOTH: Final = ("receive", "transmit")  # OpenTelemetry: network.io.direction


def _histogram(found: Histogram) -> Value:
    return [*found.counts, found.sum]


def _requests(counters: Counters) -> Iterator[tuple[Labels, Value]]:
    for (method, route, status, version), slot in tuple(counters.requests.items()):
        yield (method, route or "", str(status), version), _histogram(slot)


def _active(counters: Counters) -> Iterator[tuple[Labels, Value]]:
    for wire in counters.wires():
        yield (wire.version,), wire.active - len(wire.sockets)


def _bytes(counters: Counters) -> Iterator[tuple[Labels, Value]]:
    for wire in counters.wires():
        for direction, count in zip(_BOTH, wire.bytes(), strict=True):
            yield (wire.version, direction), count


def _messages(counters: Counters) -> Iterator[tuple[Labels, Value]]:
    for wire in counters.wires():
        for direction, count in zip(_BOTH, wire.messages(), strict=True):
            yield (wire.version, direction), count


def _waits(counters: Counters) -> Iterator[tuple[Labels, Value]]:
    for kind, waits in (
        ("websocket", counters.socket_waits),
        ("response", counters.response_waits),
    ):
        yield (kind,), [waits.count, waits.seconds]


def _handshakes(counters: Counters) -> Iterator[tuple[Labels, Value]]:
    for (result, version), count in tuple(counters.handshakes.items()):
        yield (result, version.removeprefix("TLSv")), count


def _expiry(counters: Counters) -> Iterator[tuple[Labels, Value]]:
    expiry = counters.expiry()
    if expiry is not None:
        yield (), expiry


def _by_name(table: dict[str, int]) -> Samples:
    return [((name,), count) for name, count in tuple(table.items())]


FAMILIES: Final[tuple[Family, ...]] = (
    Family(
        name="http_server_request_duration_seconds",
        kind="histogram",
        help="Duration of HTTP requests, from the head to the end of the answer; "
        "499: the client left before.",
        labels=(
            "http_request_method",
            "http_route",
            "http_response_status_code",
            _VERSION,
        ),
        bounds=DURATIONS,
        server=_requests,
    ),
    Family(
        name="http_server_active_requests",
        kind="gauge",
        help="HTTP requests whose handlers run, without WebSockets.",
        labels=(_VERSION,),
        server=_active,
    ),
    Family(
        name="tako_http_refused_requests",
        kind="counter",
        help="Requests that were answered without a handler: malformed or too slow.",
        labels=("http_response_status_code",),
        server=lambda it: [
            ((str(status),), count) for status, count in tuple(it.refused.items())
        ],
    ),
    Family(
        name="tako_response_write_wait_seconds",
        kind="summary",
        help="Waits of writers for a client that does not take more.",
        labels=("kind",),
        server=_waits,
    ),
    Family(
        name="tako_connections_accepted",
        kind="counter",
        help="Connections that were accepted.",
        server=lambda it: [((), it.accepted)],
    ),
    Family(
        name="tako_accept_errors",
        kind="counter",
        help="Connections that could not be accepted.",
        server=lambda it: [((), it.accept_errors)],
    ),
    Family(
        name="tako_connections_opened",
        kind="counter",
        help="Connections whose protocol was known: behind the TLS handshake.",
        labels=(_VERSION,),
        server=lambda it: [((w.version,), w.connections_opened) for w in it.wires()],
    ),
    Family(
        name="tako_connections_active",
        kind="gauge",
        help="Those of them that are open.",
        labels=(_VERSION,),
        server=lambda it: [((w.version,), len(w.connections)) for w in it.wires()],
    ),
    Family(
        name="tako_network_io_bytes",
        kind="counter",
        help="Bytes of connections, TLS included.",
        labels=(_VERSION, _DIRECTION),
        server=_bytes,
    ),
    Family(
        name="tako_http2_streams",
        kind="counter",
        help="Streams that clients have opened over HTTP/2.",
        server=lambda it: [((), it.http2.streams)],
    ),
    Family(
        name="tako_http2_stream_resets",
        kind="counter",
        help="HTTP/2 streams that did not end in order, by cause.",
        labels=("cause",),
        server=lambda it: _by_name(it.stream_resets),
    ),
    Family(
        name="tako_http2_connection_errors",
        kind="counter",
        help="HTTP/2 connections that were ended with an error (RFC 9113 section 7).",
        labels=("error",),
        server=lambda it: _by_name(it.faults),
    ),
    Family(
        name="tako_limits_hit",
        kind="counter",
        help="Limits of time, rate or number that a client has hit.",
        labels=("limit",),
        server=lambda it: _by_name(it.limits),
    ),
    Family(
        name="tako_websockets_opened",
        kind="counter",
        help="WebSockets whose sessions have begun.",
        labels=(_VERSION,),
        server=lambda it: [((w.version,), w.sockets_opened) for w in it.wires()],
    ),
    Family(
        name="tako_websockets_active",
        kind="gauge",
        help="Those of them whose sessions run.",
        labels=(_VERSION,),
        server=lambda it: [((w.version,), len(w.sockets)) for w in it.wires()],
    ),
    Family(
        name="tako_websockets_closed",
        kind="counter",
        help="WebSockets that have ended, by close code and by whose Close came first.",
        labels=("code", "closed_by"),
        server=lambda it: list(it.closes.items()),
    ),
    Family(
        name="tako_websocket_messages",
        kind="counter",
        help="Data messages of WebSockets; not those that are relayed from topics.",
        labels=(_VERSION, _DIRECTION),
        server=_messages,
    ),
    Family(
        name="tako_websocket_ping_duration_seconds",
        kind="histogram",
        help="Time from a Ping of the server to its Pong.",
        bounds=LATENCIES,
        server=lambda it: [((), _histogram(it.pings))],
    ),
    Family(
        name="tako_tls_handshakes",
        kind="counter",
        help="TLS handshakes: complete, failed, timeout, or abandoned by the client.",
        labels=("result", "tls_protocol_version"),
        server=_handshakes,
    ),
    Family(
        name="tako_tls_certificate_expiry_timestamp_seconds",
        kind="gauge",
        help="When the first of the certificates expires, in seconds since 1970.",
        scope="least",
        server=_expiry,
    ),
    Family(
        name="tako_event_loop_delay_seconds",
        kind="histogram",
        help="How late the event loop was, at looks twice a second.",
        bounds=LATENCIES,
        server=lambda it: [((), _histogram(it.loop_lag))],
    ),
    Family(
        name="tako_event_loop_lag_seconds",
        kind="gauge",
        help="How late the event loop was at the last look.",
        scope="worker",
        server=lambda it: [((), it.lag)],
    ),
    Family(
        name="tako_workers",
        kind="gauge",
        help="Worker processes that serve.",
        scope="supervisor",
    ),
    Family(
        name="tako_worker_exits",
        kind="counter",
        help="Worker processes that have ended: as they were told, or by themselves.",
        labels=("reason",),
        scope="supervisor",
    ),
    Family(
        name="tako_topics_published",
        kind="counter",
        help="Messages to topics that were published.",
        topics=lambda it: [((), it.published)],
    ),
    Family(
        name="tako_topics_refused",
        kind="counter",
        help="Messages to topics that were not: the engine cannot take them.",
        topics=lambda it: [((), it.refused)],
    ),
    Family(
        name="tako_topics_delivered",
        kind="counter",
        help="Items that were handed to feeds.",
        topics=lambda it: [((), it.delivered)],
    ),
    Family(
        name="tako_topics_dropped",
        kind="counter",
        help="Items that subscribers have missed, by policy.",
        labels=("policy",),
        topics=lambda it: _by_name(it.dropped),
    ),
    Family(
        name="tako_topics_gaps",
        kind="counter",
        help="Gaps that feeds have got, by cause.",
        labels=("cause",),
        topics=lambda it: [((k.name.lower(),), n) for k, n in tuple(it.gaps.items())],
    ),
    Family(
        name="tako_topics_reconnects",
        kind="counter",
        help="How often the engine of topics was reached again.",
        topics=lambda it: [((), it.reconnects)],
    ),
    Family(
        name="tako_topics_feeds",
        kind="gauge",
        help="Feeds that are open.",
        topics=lambda it: [((), it.feeds)],
    ),
    Family(
        name="tako_topics_queued_bytes",
        kind="gauge",
        help="What waits in feeds and for the engine.",
        topics=lambda it: [((), it.queued_bytes)],
    ),
)
"""All metrics, in the order in which they are shown."""
