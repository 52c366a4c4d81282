"""``Meters``: the requests of a middleware, and what the servers of a process count.

Requests are measured where their attributes are known. All else is read from the
counters of ``core.counters`` when a reader asks.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, TypeAlias

from opentelemetry.metrics import (
    CallbackOptions,
    Histogram,
    Meter,
    MeterProvider,
    Observation,
    UpDownCounter,
    get_meter,
)

from tako.core.counters import DURATIONS, PROCESS, Wire
from tako.otel.conventions import SCOPE, VERSION


Read: TypeAlias = Callable[[Wire], Sequence[int]]
"""Returns one number, or what was received and what was sent."""

_DIRECTIONS: Final = ("receive", "transmit")

_COUNTED: Final[tuple[tuple[str, str, str, Read], ...]] = (
    (
        "tako.connections.opened",
        "{connection}",
        "Connections whose protocol was known.",
        lambda wire: [wire.connections_opened],
    ),
    (
        "tako.websockets.opened",
        "{websocket}",
        "WebSockets whose sessions have begun.",
        lambda wire: [wire.sockets_opened],
    ),
    (
        "tako.websocket.messages",
        "{message}",
        "Data messages of WebSockets; not those that are relayed from topics.",
        Wire.messages,
    ),
    ("tako.network.io", "By", "Bytes of connections, TLS included.", Wire.bytes),
)

_OPEN: Final[tuple[tuple[str, str, str, Read], ...]] = (
    (
        "tako.connections.active",
        "{connection}",
        "Connections that are open.",
        lambda wire: [len(wire.connections)],
    ),
    (
        "tako.websockets.active",
        "{websocket}",
        "WebSockets whose sessions run.",
        lambda wire: [len(wire.sockets)],
    ),
)


class Meters:
    """The meters of a provider.

    Attributes:
        duration: how long requests took, in seconds.
        active: requests that are not answered in full.
    """

    __slots__ = ("active", "duration")

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = get_meter(SCOPE, meter_provider=provider)
        self.duration: Histogram = meter.create_histogram(
            "http.server.request.duration",
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=DURATIONS,
        )
        self.active: UpDownCounter = meter.create_up_down_counter(
            "http.server.active_requests",
            unit="{request}",
            description="Number of active HTTP server requests.",
        )
        _observe(meter)


def _observe(meter: Meter) -> None:
    """Have ``meter`` read the counters; a provider keeps the first of equal ones."""
    for name, unit, text, read in _COUNTED:
        meter.create_observable_counter(name, [_reading(read)], unit, text)
    for name, unit, text, read in _OPEN:
        meter.create_observable_up_down_counter(name, [_reading(read)], unit, text)


def _reading(read: Read) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def look(_: CallbackOptions) -> Iterator[Observation]:
        totals: dict[str, list[int]] = {}
        for counters in PROCESS:
            for wire in counters.wires():
                values = read(wire)
                before = totals.get(wire.version, [0] * len(values))
                totals[wire.version] = [
                    a + b for a, b in zip(before, values, strict=True)
                ]
        for version, numbers in totals.items():
            if len(numbers) == 1:
                yield Observation(numbers[0], {VERSION: version})
                continue
            for direction, number in zip(_DIRECTIONS, numbers, strict=True):
                labels = {VERSION: version, "network.io.direction": direction}
                yield Observation(number, labels)

    return look
