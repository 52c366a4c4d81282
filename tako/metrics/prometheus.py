"""Snapshots in the formats of Prometheus, through ``prometheus_client``."""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import cast

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector, CollectorRegistry

from tako.metrics.families import FAMILIES, Family, Labels, Value
from tako.metrics.snapshot import Snapshot, taken


class TakoCollector(Collector):
    """tako's metrics, for a registry of ``prometheus_client``.

    Example::

        prometheus_client.REGISTRY.register(tako.metrics.TakoCollector())
    """

    def __init__(self, source: Callable[[], Snapshot] = taken) -> None:
        """Make one; ``source`` returns what is shown: by default, this process."""
        self._source = source

    def collect(self) -> Iterator[Metric]:
        """Yield each metric that there is something of."""
        snapshot = self._source()
        for family in FAMILIES:
            samples = snapshot.get(family.name)
            if samples:
                yield _metric(family, samples)


def exposition(
    accept: str = "", source: Callable[[], Snapshot] = taken
) -> tuple[bytes, str]:
    """Return the metrics, and the type of their format.

    Args:
        accept: the field of a request: Prometheus' text, or OpenMetrics.
        source: see ``TakoCollector``.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(TakoCollector(source))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def _metric(family: Family, samples: dict[Labels, Value]) -> Metric:
    names: Sequence[str] = family.labels
    if family.scope == "worker" and any(len(it) > len(names) for it in samples):
        names = (*names, "worker")
    if family.kind == "histogram":
        return _histogram(family, names, samples)
    if family.kind == "summary":
        summary = SummaryMetricFamily(family.name, family.help, labels=names)
        for labels, value in samples.items():
            count, total = cast("list[float]", value)
            summary.add_metric(labels, int(count), total)
        return summary
    kind = CounterMetricFamily if family.kind == "counter" else GaugeMetricFamily
    simple = kind(family.name, family.help, labels=names)
    for labels, value in samples.items():
        simple.add_metric(labels, cast("float", value))
    return simple


def _histogram(
    family: Family, names: Sequence[str], samples: dict[Labels, Value]
) -> Metric:
    histogram = HistogramMetricFamily(family.name, family.help, labels=names)
    bounds = [*map(str, family.bounds), "+Inf"]
    for labels, value in samples.items():
        *counts, total = cast("list[float]", value)
        buckets = list(zip(bounds, accumulate(counts), strict=True))
        histogram.add_metric(labels, buckets, total)
    return histogram
