"""Metrics of real servers: what clients have counted, over restarts and kills, too."""

import contextlib
import json
import os
import re
import shutil
import signal
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tako.testing.peer import Wire, connect
from tako.testing.peer.io import EndOfStreamError, StreamResetError
from tests.integration.test_cli import APPS, serving
from tests.support.children import Child
from tests.support.hosts import Host
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.server import Credentials


WIRES: tuple[Wire, ...] = ("h1s", "h2")
COUNTER = re.compile("_(total|count|bucket)$")
LOST = (EndOfStreamError, StreamResetError, OSError)
VERSIONS = {"h1s": "1.1", "h2": "2"}

Totals = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Metrics:
    """What is exposed at an address."""

    def __init__(self, port: int) -> None:
        self.port = port

    def scrape(self) -> Totals:
        url = f"http://127.0.0.1:{self.port}/metrics"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            text = answer.read().decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def sum(self, name: str, **labels: str) -> float:
        return sum(
            value
            for (found, pairs), value in self.scrape().items()
            if found == name and labels.items() <= dict(pairs).items()
        )


def wait_until(condition: Callable[[], bool], told: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(APPS)
    return tmp_path


@contextlib.contextmanager
def measured(
    folder: Path, credentials: Credentials, *arguments: str
) -> Iterator[tuple[Host, Metrics]]:
    port = free_port()
    bind = ("--metrics-bind", f"127.0.0.1:{port}")
    with serving(folder, credentials, *arguments, *bind) as host:
        yield host, Metrics(port)


def get(host: Host, credentials: Credentials, wire: Wire) -> int:
    with connect(host.address, wire, credentials.client) as connection:
        return connection.request("GET", "/").status


def chat(host: Host, credentials: Credentials, wire: Wire, messages: int) -> None:
    with (
        connect(host.address, wire, credentials.client) as connection,
        connection.websocket("/ws") as ws,
    ):
        for number in range(messages):
            ws.echo(str(number))
        ws.close(1000)
        ws.expect_close(1000)


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
@pytest.mark.parametrize(("target", "route"), [("apps:router", "/"), ("apps:app", "")])
def test_one_process_counts_what_its_clients_do(
    folder: Path, credentials: Credentials, runtime: str, target: str, route: str
) -> None:
    options = (target, "--runtime", runtime, "--access-log")
    with measured(folder, credentials, *options) as (host, metrics):
        for wire in WIRES:
            for _ in range(3):
                assert get(host, credentials, wire) == 200
        for wire in WIRES:
            counted = metrics.sum(
                "http_server_request_duration_seconds_count",
                http_request_method="GET",
                http_route=route,
                http_response_status_code="200",
                network_protocol_version=VERSIONS[wire],
            )
            assert counted == 3
        assert metrics.sum("tako_tls_handshakes_total", result="complete") == 6
        assert metrics.sum("tako_http2_streams_total") == 3
        expiry = metrics.sum("tako_tls_certificate_expiry_timestamp_seconds")
        assert expiry > time.time()
        assert "/metrics HTTP" not in host.output()


class Clients:
    """Clients that ask again and again, each time on a connection of its own."""

    def __init__(self, host: Host, credentials: Credentials) -> None:
        self.answered: Counter[str] = Counter()
        self._host, self._credentials = host, credentials
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(wire,), daemon=True)
            for wire in WIRES
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()

    def _run(self, wire: Wire) -> None:
        while not self._over.is_set():
            # one that a rolled worker did not wait for was not answered, so not counted
            with contextlib.suppress(*LOST):
                if get(self._host, self._credentials, wire) == 200:
                    self.answered[wire] += 1
            self._over.wait(0.01)


class Prometheus:
    """A real one, that scrapes one address."""

    def __init__(self, folder: Path, port: int) -> None:
        self._port = free_port()
        config = folder / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
                    "scrape_configs": [
                        {
                            "job_name": "tako",
                            "static_configs": [{"targets": [f"127.0.0.1:{port}"]}],
                        }
                    ],
                }
            )
        )
        self.command = [
            "prometheus",
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self._port}",
        ]

    def query(self, expression: str) -> list[float]:
        """Return the values of an expression; ``[]`` while it does not answer."""
        query = urllib.parse.urlencode({"query": expression})
        url = f"http://127.0.0.1:{self._port}/api/v1/query?{query}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                found: Any = json.load(answer)
        except OSError:
            return []
        return [float(each["value"][1]) for each in found["data"]["result"]]


def worker_pids(host: Host) -> set[int]:
    assert host.process is not None
    return {each.pid for each in psutil.Process(host.process.pid).children()}


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
def test_prometheus_sees_no_counter_go_backwards_and_all_that_clients_counted(
    folder: Path, credentials: Credentials
) -> None:
    requests = 'http_server_request_duration_seconds_count{http_route="/"}'
    options = ("apps:router", "--workers", "3")
    with measured(folder, credentials, *options) as (host, metrics):
        wait_until(lambda: metrics.sum("tako_workers") == 3, host.output)
        prometheus = Prometheus(folder, metrics.port)
        with Child(prometheus.command, limit=4 * TIMEOUT) as process:

            def seen(expression: str) -> float:
                return sum(prometheus.query(expression))

            def told() -> object:
                return metrics.scrape(), host.output(), process.poll()

            for wire in WIRES:
                chat(host, credentials, wire, 5)
            before = worker_pids(host)
            with Clients(host, credentials) as clients:
                wait_until(lambda: seen(f"sum({requests})") > 0, told)
                os.kill(host.process.pid, signal.SIGHUP)  # type: ignore[union-attr]
                wait_until(
                    lambda: (
                        metrics.sum("tako_worker_exits_total", reason="stopped") == 3
                    ),
                    told,
                )
                assert not before & worker_pids(host)
                served = sum(clients.answered.values())
                wait_until(lambda: sum(clients.answered.values()) > served + 5, told)

            def all_counted() -> bool:
                found = {
                    wire: metrics.sum(
                        "http_server_request_duration_seconds_count",
                        http_route="/",
                        http_response_status_code="200",
                        network_protocol_version=VERSIONS[wire],
                    )
                    for wire in WIRES
                }
                return found == clients.answered

            wait_until(all_counted, lambda: (clients.answered, told()))
            os.kill(min(worker_pids(host)), signal.SIGKILL)
            wait_until(
                lambda: metrics.sum("tako_worker_exits_total", reason="died") == 1, told
            )
            assert all_counted(), (clients.answered, told())
            for wire in WIRES:
                for direction in ("receive", "transmit"):
                    counted = metrics.sum(
                        "tako_websocket_messages_total",
                        network_protocol_version=VERSIONS[wire],
                        network_io_direction=direction,
                    )
                    assert counted == 5
            assert metrics.sum("tako_websockets_closed_total", code="1000") == 2
            total = sum(clients.answered.values())
            wait_until(lambda: seen(f"sum({requests})") == total, told)
            wait_until(
                lambda: seen('sum(tako_worker_exits_total{reason="died"})') == 1, told
            )
            counters = {name for name, _ in metrics.scrape() if COUNTER.search(name)}
            assert len(counters) > 20
            for name in sorted(counters):
                assert prometheus.query(f"max(resets({name}[1h]))") == [0], name
