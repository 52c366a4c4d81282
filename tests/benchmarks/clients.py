"""Clients beside each other, against one and the same server: tako's.

    python -m tests.benchmarks.clients [--rounds 5] [--rows h2-small,h2-16k]

Figures are of the client's process: messages, or WebSockets opened, per second of its
CPU time, and its memory. A round measures every client in every row, and every second
round goes the other way: ratios are taken within a round, so a busy minute of the
machine hits both sides of one.
"""

import argparse
import json
import os
import platform
import ssl
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tako.native.loops import NATIVE
from tests.benchmarks.servers import (
    PEERS,
    ROOT,
    SERVERS,
    Running,
    ServerError,
    missing,
    running,
    versions,
)
from tests.benchmarks.tools import (
    LOAD_CORE,
    Certificate,
    cores,
    make_certificate,
    pinned,
)


PATIENCE = 120.0  # seconds, besides those that are measured


class Client(NamedTuple):
    """A client of the table.

    Attributes:
        name: what the table calls it.
        module: the module of ``peers`` that plays it.
        package: what must be installed.
        wires: those that it has.
        rows: those that it is measured in; empty: all of its wires.
    """

    name: str
    module: str
    package: str
    wires: frozenset[str]
    rows: frozenset[str] = frozenset()


class Row(NamedTuple):
    """One measurement.

    Attributes:
        name: what the table calls it.
        what: echo, open or idle.
        wire: what carries it.
        tls: whether over TLS.
        sockets: how many WebSockets.
        depth: messages in flight on each.
        size: bytes of a message.
    """

    name: str
    what: str
    wire: str
    tls: bool
    sockets: int
    depth: int = 1
    size: int = 32

    @property
    def unit(self) -> str:
        """What is counted."""
        return {
            "echo": "messages per CPU second",
            "open": "WebSockets opened per CPU second",
            "idle": "KiB per WebSocket",
        }[self.what]


class Asked(NamedTuple):
    """How tako shall compare, and with what."""

    row: str
    rival: str
    rival_row: str
    ratio: float


_H1 = frozenset({"h1"})
_BOTH = frozenset({"h1", "h2"})
CLIENTS = (
    Client("tako", "play_tako", "tako", _BOTH),
    Client("tako alone", "play_tako_alone", "tako", frozenset({"h2"})),
    Client("websockets", "play_websockets", "websockets", _H1),
    Client("aiohttp", "play_aiohttp", "aiohttp", _H1),
    Client("picows", "play_picows", "picows", _H1),
    Client("picows bare", "play_picows_bare", "picows", _H1),
    # over HTTP/1.1 it opens one WebSocket after the other, and hangs with sixteen
    Client(
        "niquests",
        "play_niquests",
        "niquests",
        _BOTH,
        frozenset({"h1-lone", "h2-lone", "h2-small"}),
    ),
)


def _on_all_wires(name: str, what: str, **more: int) -> tuple[Row, ...]:
    sockets, depth, size = (
        more.get(key, usual)
        for key, usual in (("sockets", 1), ("depth", 1), ("size", 32))
    )
    return (
        Row(f"h1-{name}", what, "h1", False, sockets, depth, size),
        Row(f"h1s-{name}", what, "h1", True, sockets, depth, size),
        Row(f"h2-{name}", what, "h2", True, sockets, depth, size),
    )


ROWS = (
    *_on_all_wires("small", "echo", sockets=16, depth=8),
    *_on_all_wires("lone", "echo", depth=8),
    *_on_all_wires("one", "echo"),
    *_on_all_wires("many", "echo", sockets=400),
    *_on_all_wires("16k", "echo", sockets=4, depth=2, size=16_384),
    *_on_all_wires("open", "open", sockets=500),
    *_on_all_wires("idle", "idle", sockets=500),
)
ASKED = (
    Asked("h1-small", "websockets", "h1-small", 3.0),
    Asked("h1-small", "aiohttp", "h1-small", 1.3),
    Asked("h1-small", "picows", "h1-small", 0.85),
    Asked("h2-small", "niquests", "h2-small", 8.0),
    Asked("h2-16k", "aiohttp", "h1s-16k", 1.0),
)
"""The project's own targets."""

Key = tuple[str, str]
"""A row and a client."""


@dataclass
class Results:
    """The figures of each round, by row and client; ``None``: it failed."""

    rounds: dict[Key, list[float | None]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, row: Row, client: Client, figure: float | None) -> None:
        """Keep the figure of a round."""
        self.rounds.setdefault((row.name, client.name), []).append(figure)

    def median(self, key: Key) -> float | None:
        """Return the median of the rounds that there are."""
        found = [each for each in self.rounds.get(key, ()) if each is not None]
        return statistics.median(found) if found else None

    def ratios(self, mine: Key, its: Key) -> list[float]:
        """Return one figure over another, round by round."""
        pairs = zip(self.rounds.get(mine, ()), self.rounds.get(its, ()), strict=False)
        return [a / b for a, b in pairs if a is not None and b is not None]


class Bench:
    """Measures against servers that run meanwhile, one without TLS and one with."""

    def __init__(self, directory: Path, seconds: float) -> None:
        self.seconds = seconds
        self._certificate: Certificate = make_certificate(directory)
        self._directory = directory
        self._servers: dict[bool, Running] = {}

    def serve(self, stack: ExitStack, *, tls: bool) -> None:
        """Have a server run until ``stack`` ends.

        Raises:
            ServerError: it does not.
        """
        (server,) = (each for each in SERVERS if each.name == "tako")
        folder = self._directory / ("tls" if tls else "plain")
        folder.mkdir()
        found = running(server, self._certificate, folder, tls=tls)
        self._servers[tls] = stack.enter_context(found)

    def measure(self, row: Row, client: Client) -> float:
        """Return the figure of one round.

        Raises:
            ValueError: the client failed.
        """
        words = [
            *(sys.executable, "-m", f"{PEERS}.playing", client.module, row.what),
            str(self._servers[row.tls].port),
            *("--wire", row.wire, "--sockets", str(row.sockets)),
            *("--depth", str(row.depth), "--size", str(row.size)),
            *("--seconds", str(self.seconds)),
        ]
        words += ["--ca", str(self._certificate.ca)] if row.tls else []
        with pinned(LOAD_CORE):
            try:
                done = subprocess.run(
                    words,
                    cwd=ROOT,
                    capture_output=True,
                    text=True,
                    timeout=self.seconds + PATIENCE,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                msg = "no result in time"
                raise ValueError(msg) from None
        if done.returncode or not done.stdout:
            msg = (done.stderr.strip().splitlines() or ["it said nothing"])[-1][:200]
            raise ValueError(msg)
        found = json.loads(done.stdout)
        if row.what == "idle":
            return float(found["kib_per_socket"])
        if not found["count"]:
            msg = "nothing came back while it was measured"
            raise ValueError(msg)
        return float(found["count"] / found["cpu"])


def fitting(row: Row, clients: Sequence[Client]) -> list[Client]:
    """Return the clients that a row is for."""
    return [
        each
        for each in clients
        if row.wire in each.wires and (not each.rows or row.name in each.rows)
    ]


def table(
    rows: Sequence[Row], clients: Sequence[Client], results: Results
) -> list[str]:
    """Return the medians as Markdown: a row for each row, a column for each client.

    In brackets: tako's figure over this one, the median of the rounds' ratios; of
    memory, this one over tako's. So above 1 tako is ahead.
    """
    lines = [
        f"| | {' | '.join(each.name for each in clients)} |",
        f"|---|{'--:|' * len(clients)}",
    ]
    for row in rows:
        cells = []
        for client in clients:
            mine, its = (row.name, "tako"), (row.name, client.name)
            median = results.median(its)
            if median is None:
                cells.append("–")
                continue
            memory = row.what == "idle"
            text = f"{median:.1f} KiB" if memory else f"{median:,.0f}"
            ratios = results.ratios(*((its, mine) if memory else (mine, its)))
            if ratios and client.name != "tako":
                text += f" ({statistics.median(ratios):.2f})"
            cells.append(text)
        lines.append(f"| {row.name} | {' | '.join(cells)} |")
    return lines


def targets(results: Results) -> list[str]:
    """Return what was asked, and what came out, for the rows that were measured."""
    lines = []
    for row, rival, rival_row, wanted in ASKED:
        ratios = results.ratios((row, "tako"), (rival_row, rival))
        if not ratios:
            continue
        median = statistics.median(ratios)
        lines.append(
            f"{row} over {rival} on {rival_row}: {median:.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f}), asked {wanted:.2f}: "
            f"{'reached' if median >= wanted else 'MISSED'}"
        )
    return lines


def circumstances(options: argparse.Namespace, load: float) -> str:
    """Say when and on what this was measured."""
    packages = [
        "uvloop",
        *(each.package for each in CLIENTS if each.name[:4] != "tako"),
    ]
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.system()} "
        f"{platform.release()}, {cores()}, load average {load:.1f} before and "
        f"{os.getloadavg()[0]:.1f} after; Python {platform.python_version()}, "
        f"{ssl.OPENSSL_VERSION}, tako with {'compiled' if NATIVE else 'Python'} byte "
        f"loops, {versions(packages)}; medians of {options.rounds} round(s) of "
        f"{options.seconds} s"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; return an exit code, which is 1 if a client failed."""
    options = _parser().parse_args(arguments)
    rows = [row for row in ROWS if _wanted(row.name, options.rows)]
    clients = [each for each in CLIENTS if _wanted(each.name, options.only)]
    results = Results()
    for each in list(clients):
        if missing([each.package]):
            results.problems.append(f"{each.name} is skipped: it is not installed")
            clients.remove(each)
    load = os.getloadavg()[0]
    with (
        tempfile.TemporaryDirectory(prefix="tako-bench-") as name,
        ExitStack() as stack,
    ):
        bench = Bench(Path(name), options.seconds)
        for tls in sorted({row.tls for row in rows}):
            try:
                bench.serve(stack, tls=tls)
            except ServerError as error:
                sys.stdout.write(f"the server failed: {error}\n")
                return 1
        failed = _measure(bench, rows, clients, options.rounds, results)
    lines = [f"# {circumstances(options, load)}", "", *table(rows, clients, results)]
    lines += ["", *targets(results), *results.problems]
    sys.stdout.write("\n".join(lines) + "\n")
    if options.json is not None:
        found = {
            f"{row} {client}": each for (row, client), each in results.rounds.items()
        }
        Path(options.json).write_text(json.dumps(found, indent=1) + "\n")
    return 1 if failed else 0


def _measure(
    bench: Bench,
    rows: Sequence[Row],
    clients: Sequence[Client],
    rounds: int,
    results: Results,
) -> bool:
    """Measure everything, round by round; tell whether a client failed."""
    pairs = [(row, client) for row in rows for client in fitting(row, clients)]
    dropped: set[Key] = set()
    for number in range(rounds):
        for row, client in reversed(pairs) if number % 2 else pairs:
            if (row.name, client.name) in dropped:
                continue
            if sys.stderr.isatty():
                sys.stderr.write(f"\r\x1b[K{number + 1}: {row.name} {client.name}\r")
            try:
                results.add(row, client, bench.measure(row, client))
            except ValueError as error:
                results.add(row, client, None)
                dropped.add((row.name, client.name))
                results.problems.append(f"{row.name} {client.name}: FAILED: {error}")
    return bool(dropped)


def _wanted(name: str, chosen: str | None) -> bool:
    return chosen is None or name in chosen.split(",")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.clients",
        description="Measure tako.connect beside other clients, against tako's server. "
        f"Rows: {', '.join(row.name for row in ROWS)}.",
    )
    parser.add_argument("--only", metavar="CLIENT,CLIENT", help="these clients only")
    parser.add_argument("--rows", metavar="ROW,ROW", help="these rows only")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3, help="to take medians of")
    parser.add_argument("--json", metavar="FILE", help="write each round's figure, too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
