"""Counters in the formats of Prometheus, judged by its own parsers and by promtool."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as text

from tako import Request
from tako.core.counters import Counters, hit
from tako.core.seams import Exchange
from tako.metrics import TakoCollector, exposition, respond
from tako.metrics.families import FAMILIES, Family, Labels, Value
from tako.metrics.snapshot import Snapshot, add
from tako.topics.counts import Tally
from tako.topics.item import Cause
from tests.support.patience import TIMEOUT


ROOT = Path(__file__).parents[3]


class Answered(Exchange):
    """An exchange, as ``Counters.answered`` sees it."""

    def __init__(self, method: str, route: str | None, status: int) -> None:
        self.request = Request.build(method)
        self.request.matched_path = route
        self.status = status


def busy() -> Counters:
    """Return counters of a server that has seen everything."""
    counters = Counters()
    for route, seconds in (("/a/{b}", 0.004), ("/a/{b}", 3.0), (None, 99.0)):
        exchange = Answered("GET", route, 200)
        counters.answered(exchange, "2", seconds)
    counters.closed(1000, "client")
    counters.looked(0.25)
    counters.pings.observe(0.002)
    counters.accepted, counters.accept_errors = 7, 1
    counters.socket_waits.count, counters.socket_waits.seconds = 2, 1.5
    for table in (counters.stream_resets, counters.faults, counters.limits):
        hit(table, "x")
    hit(counters.refused, 400)
    hit(counters.handshakes, ("complete", "TLSv1.3"))
    counters.expiry = lambda: 2e9
    return counters


def shown() -> Snapshot:
    """Return a snapshot in which every metric has a sample."""
    counters, tally = busy(), Tally()
    tally.drop("drop_oldest")
    tally.gap(Cause.SLOW)
    found: Snapshot = {}
    for family in FAMILIES:
        samples: tuple[tuple[Labels, Value], ...]
        if family.server is not None:
            samples = tuple(family.server(counters))
        elif family.topics is not None:
            samples = tuple(family.topics(tally))
        else:
            samples = (((("x",) * len(family.labels)), 1.0),)
        found[family.name] = dict(samples)
    return found


def exposed_name(family: Family) -> str:
    return family.name + "_total" * (family.kind == "counter")


def test_every_metric_is_exposed_with_its_kind_and_help() -> None:
    body, kind = exposition(source=shown)
    assert kind.startswith("text/plain; version=0.0.4")
    found = {each.name: each for each in text(body.decode())}
    assert list(found) == [family.name for family in FAMILIES]
    for family in FAMILIES:
        metric = found[family.name]
        assert (metric.type, metric.documentation) == (family.kind, family.help)
        labels = {name for sample in metric.samples for name in sample.labels}
        assert labels - {"le"} == set(family.labels)


def test_openmetrics_is_what_its_accept_field_asks_for() -> None:
    accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"
    body, kind = exposition(accept, shown)
    assert kind.startswith("application/openmetrics-text")
    parse: Any = openmetrics  # which has no types
    found = [each.name for each in parse(body.decode())]
    assert found == [family.name for family in FAMILIES]


def test_a_histogram_is_cumulative() -> None:
    body, _ = exposition(source=shown)
    found = {each.name: each for each in text(body.decode())}
    samples = [
        sample
        for sample in found["http_server_request_duration_seconds"].samples
        if sample.labels["http_route"] == "/a/{b}"
    ]
    values = {
        sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value
        for sample in samples
    }
    assert (values["0.005"], values["2.5"], values["5.0"]) == (1, 1, 2)
    assert (values["+Inf"], values["count"], values["sum"]) == (2, 2, 3.004)


def test_what_is_about_a_process_is_labelled_where_there_are_several() -> None:
    def of_two() -> Snapshot:
        total: Snapshot = {}
        for worker in ("1", "2"):
            add(total, shown(), worker)
        return total

    found = {each.name: each for each in text(exposition(source=of_two)[0].decode())}
    samples = found["tako_event_loop_lag_seconds"].samples
    assert [sample.labels for sample in samples] == [{"worker": "1"}, {"worker": "2"}]
    (accepted,) = found["tako_connections_accepted"].samples
    assert (accepted.labels, accepted.value) == ({}, 14)


def test_a_registry_can_have_it_beside_others() -> None:
    registry = CollectorRegistry()
    registry.register(TakoCollector())
    assert b"tako_connections_accepted_total" in generate_latest(registry)


def test_a_handler_answers_with_what_this_process_has_counted() -> None:
    response = respond(Request.build("GET", "/metrics"))
    assert response.status == 200
    assert response.headers["content-type"].startswith("text/plain")
    assert b"tako_connections_accepted_total" in cast("bytes", response.body)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="needs promtool")
def test_promtool_finds_nothing_to_say() -> None:
    body, _ = exposition(source=shown)
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=body,
        capture_output=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_names_have_units_and_a_prefix() -> None:
    for family in FAMILIES:
        assert re.fullmatch(r"(tako|http_server)_[a-z0-9_]+", family.name)
        assert not family.name.endswith("_total")
        if family.kind in {"histogram", "summary"}:
            assert family.name.endswith("_seconds")


def test_the_reference_page_lists_each_metric_as_it_is() -> None:
    page = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    rows = re.findall(r"^\| `([^`]+)` \| (\w+) \| ([^|]*) \|", page, re.MULTILINE)
    listed = {
        name: (kind, tuple(re.findall(r"`([^`]+)`", labels)))
        for name, kind, labels in rows
    }
    expected = {
        exposed_name(it): (
            it.kind,
            it.labels + (("worker",) if it.scope == "worker" else ()),
        )
        for it in FAMILIES
    }
    assert listed == expected


def test_the_dashboard_asks_for_metrics_that_there_are() -> None:
    dashboard = (ROOT / "examples" / "grafana.json").read_text()
    suffixes = {
        "histogram": ("_bucket", "_count", "_sum"),
        "summary": ("_count", "_sum"),
    }
    known = {
        exposed_name(family) + suffix
        for family in FAMILIES
        for suffix in suffixes.get(family.kind, ("",))
    }
    asked = set(re.findall(r"\b(?:tako|http_server)_[a-z0-9_]+", dashboard))
    assert len(asked) > 15
    assert asked <= known
