"""``Snapshot``: all metrics of a process at a moment, to be added up and passed on."""

import json
from typing import TypeAlias

from tako.core.counters import PROCESS
from tako.metrics.families import FAMILIES, Family, Labels, Samples, Value
from tako.topics.counts import PROCESS as TOPICS


Snapshot: TypeAlias = dict[str, dict[Labels, Value]]
"""By the names of metrics, and the values of their labels."""

_BY_NAME = {family.name: family for family in FAMILIES}


def taken() -> Snapshot:
    """Return what all servers and topics of this process have counted."""
    found: Snapshot = {}
    for family in FAMILIES:
        samples: list[Samples] = []
        if family.server is not None:
            samples += map(family.server, PROCESS)
        if family.topics is not None:
            samples += map(family.topics, TOPICS)
        for each in samples:
            _put(found, family, each)
    return found


def add(total: Snapshot, other: Snapshot, worker: str = "") -> None:
    """Add another process to ``total``; ``worker`` labels what is for each of them."""
    for name, samples in other.items():
        family = _BY_NAME[name]
        extra = (worker,) if family.scope == "worker" else ()
        _put(total, family, [(labels + extra, it) for labels, it in samples.items()])


def without_gauges(snapshot: Snapshot) -> Snapshot:
    """Return what stays of a process that has ended: nothing of it is open any more."""
    return {
        name: samples
        for name, samples in snapshot.items()
        if _BY_NAME[name].kind != "gauge"
    }


def encoded(snapshot: Snapshot) -> bytes:
    """Return a snapshot as bytes."""
    rows = [[name, list(samples.items())] for name, samples in snapshot.items()]
    return json.dumps(rows, separators=(",", ":")).encode()


def decoded(data: bytes) -> Snapshot:
    """Return the snapshot that ``encoded`` was given."""
    return {
        name: {tuple(labels): value for labels, value in samples}
        for name, samples in json.loads(data)
    }


def _put(total: Snapshot, family: Family, samples: Samples) -> None:
    known = total.setdefault(family.name, {})
    for labels, value in samples:
        old = known.get(labels)
        if old is None:
            known[labels] = value
        elif isinstance(old, list) and isinstance(value, list):
            known[labels] = [a + b for a, b in zip(old, value, strict=True)]
        elif not isinstance(old, list) and not isinstance(value, list):
            if family.scope == "least":
                known[labels] = min(old, value)
            elif family.scope == "worker":  # one that drains, and its successor
                known[labels] = max(old, value)
            else:
                known[labels] = old + value
