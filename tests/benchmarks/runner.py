"""The command line that the benchmarks share.

Servers take turns within a round, and every second round goes the other way: a busy
minute of the machine hits all of them, so they are compared round by round. To measure
on another Python, or another OpenSSL, start this there: servers run on the same one.
"""

import argparse
import json
import os
import platform
import signal
import ssl
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from tako.native.loops import NATIVE
from tests.benchmarks import report
from tests.benchmarks.measure import Bench, Figures, MeasurementError
from tests.benchmarks.report import Cell
from tests.benchmarks.rows import ROWS, Row
from tests.benchmarks.servers import SERVERS, Server, missing, versions
from tests.benchmarks.tools import UnavailableError, cores


def main(group: str | None = None, arguments: Sequence[str] | None = None) -> int:
    """Measure the rows of ``group``, or all, and print them; return an exit code.

    0: every figure was taken. 1: a server failed. 77: nothing can be measured here.
    """
    options = _parser(group).parse_args(arguments)
    # so that a server is stopped with us, however we are stopped
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        return _main(group, options)
    finally:
        signal.signal(signal.SIGTERM, before)


def _main(group: str | None, options: argparse.Namespace) -> int:
    rows = [row for row in ROWS if group in {None, row.group}]
    rows = _chosen(rows, options.rows, "row")
    servers = _chosen(SERVERS, options.only, "server")
    with tempfile.TemporaryDirectory(prefix="tako-bench-") as name:
        try:
            bench = Bench(Path(name), options.seconds)
        except UnavailableError as error:
            _say(f"skipped: {error}")
            return 77
        run = _Run(bench, options)
        servers = [server for server in servers if run.has(server.name, server.modules)]
        for row in rows:
            run.row(row, servers)
    run.finish()
    return 1 if run.failed else 0


Named = TypeVar("Named", Row, Server)


class _Run:
    """Measures row after row and prints each when it is done."""

    def __init__(self, bench: Bench, options: argparse.Namespace) -> None:
        self._bench = bench
        self._rounds: int = options.rounds
        self._reference: str = options.reference
        self._json: str | None = options.json
        self._markdown: bool = options.markdown
        self._circumstances = (
            f"{_circumstances()}; medians of {options.rounds} round(s) "
            f"of {options.seconds} s"
        )
        self._cells: list[Cell] = []
        self._problems: list[str] = []
        self.failed = False
        if self._json != "-":
            _say(f"# {self._circumstances}")
            if not self._markdown:
                _say(report.heading())

    def has(self, name: str, modules: Sequence[str]) -> bool:
        """Tell whether ``modules`` are installed, and note if ``name`` is skipped."""
        absent = missing(modules)
        if absent:
            self._problems.append(
                f"{name}: skipped: not installed: {', '.join(absent)}"
            )
        return not absent

    def _fails(self, row: Row, server: Server) -> bool:
        names, why = server.fails
        if row.name in names:
            self._problems.append(f"{row.name} {server.name}: skipped: {why}")
        return row.name in names

    def row(self, row: Row, servers: Sequence[Server]) -> None:
        if row.framework and not self.has(row.name, [row.framework]):
            return
        fitting = [
            server
            for server in servers
            if row.wire in server.wires
            and (not server.groups or row.group in server.groups)
            and not (row.framework and server.native)
            and not self._fails(row, server)
        ]
        found: dict[str, list[Figures]] = {server.name: [] for server in fitting}
        for number in range(self._rounds):
            for server in reversed(fitting) if number % 2 else fitting:
                if len(found[server.name]) == number:  # has not failed before
                    self._round(row, server, found[server.name])
        cells = [
            Cell(row, server.name, found[server.name], server.native)
            for server in fitting
            if len(found[server.name]) == self._rounds
        ]
        self._cells += cells
        if cells and self._json != "-" and not self._markdown:
            _say(report.row_lines(cells, self._reference))

    def finish(self) -> None:
        """Print and write what needs all rows."""
        document = {
            "circumstances": self._circumstances,
            "cells": report.as_json(self._cells, self._reference),
            "not_first": report.not_first(self._cells),
            "problems": self._problems,
        }
        if self._json == "-":
            _say(json.dumps(document, indent=1))
            return
        if self._json is not None:
            Path(self._json).write_text(f"{json.dumps(document, indent=1)}\n")
        if self._cells and self._markdown:
            _say(report.markdown_tables(self._cells))
        for line in (*report.not_first(self._cells), *self._problems):
            _say(line)

    def _round(self, row: Row, server: Server, figures: list[Figures]) -> None:
        _progress(f"{row.name} {server.name}")
        try:
            figures.append(self._bench.measure(row, server))
        except MeasurementError as error:
            self._problems.append(f"{row.name} {server.name}: FAILED: {error}")
            self.failed = True


def _chosen(known: Sequence[Named], names: str | None, what: str) -> list[Named]:
    if names is None:
        return list(known)
    wanted = names.split(",")
    unknown = set(wanted) - {item.name for item in known}
    if unknown:
        sys.exit(
            f"no {what} {', '.join(sorted(unknown))}; "
            f"there are {', '.join(item.name for item in known)}"
        )
    return [item for item in known if item.name in wanted]


def _circumstances() -> str:
    packages = [name for server in SERVERS for name in server.modules if name != "tako"]
    packages += ["uvloop", *(row.framework for row in ROWS if row.framework)]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {_processor()}, {os.cpu_count()} cores, "
        f"{platform.system()} {platform.release()}, one process, {cores()}, "
        f"load average {os.getloadavg()[0]:.1f}; Python {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION}, tako with {'compiled' if NATIVE else 'Python'} byte "
        f"loops, {versions(packages)}"
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _parser(group: str | None) -> argparse.ArgumentParser:
    names = ", ".join(row.name for row in ROWS if group in {None, row.group})
    parser = argparse.ArgumentParser(
        prog=f"python -m tests.benchmarks{f'.{group}' if group else ''}",
        description="Measure tako beside the servers that are installed. "
        f"Rows: {names}. Servers: {', '.join(server.name for server in SERVERS)}.",
    )
    parser.add_argument("--only", metavar="SERVER,SERVER", help="these servers only")
    parser.add_argument("--rows", metavar="ROW,ROW", help="these rows only")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3, help="to take medians of")
    parser.add_argument(
        "--reference",
        metavar="SERVER",
        default="tako",
        help="what ratios are to; the first of a row without it [default: tako]",
    )
    parser.add_argument("--json", metavar="FILE", help="write JSON, too; -: only that")
    parser.add_argument("--markdown", action="store_true", help="print Markdown")
    return parser


_started = time.monotonic()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        passed = time.monotonic() - _started
        sys.stderr.write(f"\r\x1b[K[{passed:4.0f} s] {text}\r")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
