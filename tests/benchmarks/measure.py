"""One measurement: one row, one server, one round."""

import json
import subprocess
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.rows import Row
from tests.benchmarks.servers import Running, Server, ServerError, running
from tests.benchmarks.tools import (
    LOAD_CORE,
    Certificate,
    build_load,
    family,
    make_certificate,
    pinned,
)


SETTLE = 0.5  # seconds
OPEN_LIMIT = 60.0  # the load generator's own, for all sockets to open
PATIENCE = 60.0  # more seconds before a load generator is taken to hang


@dataclass(frozen=True, slots=True)
class Figures:
    """What came out; ``None`` where a row has no such figure.

    Attributes:
        per_cpu_second: units per second of the server's CPU time.
        per_second: units per second on the clock.
        p50_us: median latency.
        p99_us: 99th percentile of the latency.
        kib_per_socket: growth of the server's resident memory.
    """

    per_cpu_second: float | None = None
    per_second: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    kib_per_socket: float | None = None

    @property
    def main(self) -> float:
        """The figure that servers are compared by."""
        figure = self.per_cpu_second or self.kib_per_socket
        assert figure is not None, "a round without a figure"
        return figure


class MeasurementError(Exception):
    """A server that failed under load: why."""


class Bench:
    """Measures with the programs and certificates that it has put into a directory.

    Args:
        directory: where to put them.
        seconds: of one measurement.
        settle: seconds under load before anything is counted.

    Raises:
        UnavailableError: the load generator cannot be built here.
    """

    def __init__(self, directory: Path, seconds: float, settle: float = SETTLE) -> None:
        self._directory = directory
        self.seconds = seconds
        self._settle = settle
        self.load = build_load(directory)
        self._certificate: Certificate = make_certificate(directory)

    def measure(self, row: Row, server: Server) -> Figures:
        """Return the figures of one round.

        Raises:
            MeasurementError: the server failed.
        """
        try:
            with self.serving(row, server) as target:
                return self.loaded(row, target)
        except (ServerError, OSError) as error:
            raise MeasurementError(str(error)) from error

    def serving(self, row: Row, server: Server) -> AbstractContextManager[Running]:
        """Run ``server`` as ``row`` wants it.

        Raises:
            ServerError: it ended, or did not answer in time.
        """
        files, where = self._certificate, self._directory
        return running(server, files, where, tls=row.tls, app=row.app)

    def loaded(self, row: Row, target: Running) -> Figures:
        """Return the figures of one round on a server that runs.

        Raises:
            MeasurementError: the server failed.
        """
        words = [
            *row.words.split(),
            f"--seconds={0 if '--idle' in row.words else self.seconds}",
            f"--warm-up={self._settle}",
            f"--processes={','.join(map(str, family(target.process)))}",
        ]
        words += ["--tls", str(self._certificate.ca)] if row.tls else []
        words += ["--h2"] if row.h2 else []
        output = self._run([str(self.load), *words, str(target.port)], OPEN_LIMIT)
        found = json.loads(output)
        if "error" in found:
            msg = f"{found['error']} (server: {target.complaint()})"
            raise MeasurementError(msg)
        return _figures(row.group, found)

    def _run(self, words: list[str], more: float = 0.0) -> str:
        limit = self.seconds + self._settle + more + PATIENCE
        with pinned(LOAD_CORE):
            try:
                done = subprocess.run(
                    words, capture_output=True, text=True, timeout=limit, check=False
                )
            except subprocess.TimeoutExpired:
                msg = f"no result within {limit:.0f} s"
                raise MeasurementError(msg) from None
        if not done.stdout:
            msg = f"{words[0]}: exit code {done.returncode} {done.stderr[-200:]}"
            raise MeasurementError(msg)
        return done.stdout


def _figures(group: str, found: dict[str, float]) -> Figures:
    if group == "idle":
        grown = found["rss_kib"] - found["rss_kib_before"]
        return Figures(kib_per_socket=grown / found["sockets"])
    if group == "open":
        return Figures(
            found["sockets"] / found["open_cpu_seconds"],
            found["sockets"] / found["open_seconds"],
            found["open_p50_us"],
            found["open_p99_us"],
        )
    if not found["messages"]:
        msg = "nothing came back while it was measured"
        raise MeasurementError(msg)
    return Figures(
        found["messages"] / found["cpu_seconds"],
        found["messages"] / found["seconds"],
        found["p50_us"],
        found["p99_us"],
    )
