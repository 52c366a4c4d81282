"""Run the Autobahn test suite against tako, over HTTP/1.1 and over HTTP/2.

    python -m tests.conformance.autobahn [--wire h1] [--cases 1.* 7.*] [--runtime trio]
    python -m tests.conformance.autobahn --role client

The role is that of tako. Over HTTP/1.1 ``wstest`` connects to the server itself, or the
client to ``wstest``. Over HTTP/2 (TLS, ALPN h2) ``bridge.py`` or ``client_bridge.py``
stands between them. Both grades of a case count, ``behavior`` and
``behaviorClose``, and only OK and INFORMATIONAL pass: NON-STRICT and UNCLEAN are
failures here.
"""

import argparse
import collections
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.conformance.echo_client import AGENT
from tests.support.ports import free_port


PASSED = {"OK", "INFORMATIONAL"}
ALL_CASES = 517
START_LIMIT = 60.0  # seconds
SECTIONS = {
    "1": "Framing",
    "2": "Pings/Pongs",
    "3": "Reserved Bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8 Handling",
    "7": "Close Handling",
    "9": "Limits/Performance",
    "10": "Misc",
    "12": "Compression",
    "13": "Compression Parameters",
}
SHARES = (
    [
        "1.*",
        "2.*",
        "3.*",
        "4.*",
        "5.*",
        "6.*",
        "7.*",
        "9.*",
        "10.*",
        "12.1.*",
        "12.2.*",
    ],
    ["12.3.*", "12.4.*", "12.5.*", "13.*"],
)
"""The whole suite in two parts of about the same length, for two processors."""

HOW_TO_INSTALL = """\
wstest, the Autobahn test suite, was not found. It needs CPython 2.7 or PyPy 2.7:

    virtualenv -p python2.7 wstest && wstest/bin/pip install autobahntestsuite
    export WSTEST=$PWD/wstest/bin/wstest

or any other way that puts wstest on the PATH."""


@dataclass(frozen=True, slots=True)
class Grade:
    """What Autobahn says about one case."""

    case: str
    behavior: str
    close: str

    @property
    def passed(self) -> bool:
        return self.behavior in PASSED and self.close in PASSED

    @property
    def section(self) -> str:
        return self.case.partition(".")[0]

    @property
    def order(self) -> list[int]:
        return [int(part) for part in self.case.split(".")]


def find_wstest() -> str | None:
    """Return the path of ``wstest``: ``$WSTEST``, else from the PATH."""
    return os.environ.get("WSTEST") or shutil.which("wstest")


@contextlib.contextmanager
def child(*arguments: str) -> Iterator[int]:
    """Run ``python -m arguments``, which prints its port first; yield the port."""
    process = subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.strip().isdigit():
            msg = f"{arguments[0]} did not start: {line!r}"
            raise RuntimeError(msg)
        yield int(line)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _how(runtime: str) -> list[str]:
    """Return the options of a program of ours that choose ``runtime``."""
    return ["--runtime", "trio"] if runtime == "trio" else ["--loop", runtime]


def _certificates(folder: Path) -> tuple[str, str, str]:
    """Write PEM files for localhost; return the authority, certificate and key."""
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost", "127.0.0.1")
    ca_file, cert, key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    ca.cert_pem.write_to_path(ca_file)
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    return str(ca_file), str(cert), str(key)


@contextlib.contextmanager
def server(wire: str, runtime: str, folder: Path) -> Iterator[int]:
    """Start the server, and for ``h2`` the bridge; yield the port to connect to."""
    how = _how(runtime)
    module = "tests.conformance.echo_server"
    if wire == "h1":
        with child(module, *how) as port:
            yield port
        return
    ca, *pair = _certificates(folder)
    with (
        child(module, *how, "--tls", *pair) as port,
        child(
            "tests.conformance.bridge", "--upstream", f"localhost:{port}", "--ca", ca
        ) as front,
    ):
        yield front


def run(wstest: str, port: int, shares: list[list[str]], folder: Path) -> list[Grade]:
    """Run each share of the cases in a process of its own; return all grades."""
    running = []
    for number, cases in enumerate(shares):
        target = {"agent": AGENT, "url": f"ws://127.0.0.1:{port}/"}
        running.append(
            _start(
                wstest, "fuzzingclient", cases, folder, number, {"servers": [target]}
            )
        )
    for process, _ in running:
        process.wait()
    return _grades([reports for _, reports in running])


def run_client(
    wstest: str, wire: str, runtime: str, shares: list[list[str]], folder: Path
) -> list[Grade]:
    """Have a client play each share of the cases; return all grades."""
    everything = contextlib.ExitStack()
    clients, found = [], []
    with everything:
        pem = _certificates(folder)
        for number, cases in enumerate(shares):
            port = free_port()
            process, reports = _start(
                wstest,
                "fuzzingserver",
                cases,
                folder,
                number,
                {"url": f"ws://127.0.0.1:{port}"},
            )
            everything.callback(_stop, process)
            _until_listening(port, process)
            words = [*_how(runtime), "--wire", wire, f"ws://127.0.0.1:{port}"]
            if wire == "h2":
                upstream = ["--upstream", f"127.0.0.1:{port}"]
                front = everything.enter_context(
                    child(
                        "tests.conformance.client_bridge", *upstream, "--tls", *pem[1:]
                    )
                )
                words[-1:] = ["--ca", pem[0], f"wss://localhost:{front}"]
            words = [sys.executable, "-m", "tests.conformance.echo_client", *words]
            client = subprocess.Popen(words)
            everything.callback(_stop, client)
            clients.append(client)
            found.append(reports)
        for client in clients:
            client.wait()
    return _grades(found)


def _start(
    wstest: str,
    mode: str,
    cases: list[str],
    folder: Path,
    number: int,
    more: dict[str, object],
) -> tuple[subprocess.Popen[bytes], Path]:
    """Start ``wstest``; return its process, and where its reports will be."""
    spec, reports = folder / f"share-{number}.json", folder / f"reports-{number}"
    common = {
        "outdir": str(reports),
        "cases": cases,
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    spec.write_text(json.dumps({**common, **more}))
    command = [wstest, "-m", mode, "-s", str(spec), "--webport", "0"]
    with (folder / f"log-{number}.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    return process, reports


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


def _until_listening(port: int, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + START_LIMIT
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), START_LIMIT).close()
            return
        time.sleep(0.05)  # there is nothing to wait on in another's process
    msg = "wstest does not listen"
    raise RuntimeError(msg)


def _grades(found: list[Path]) -> list[Grade]:
    """Return what reports say."""
    grades = []
    for reports in found:
        index = reports / "index.json"
        if index.exists():
            results = json.loads(index.read_text())[AGENT]
            grades += [
                Grade(case, result["behavior"], result["behaviorClose"])
                for case, result in results.items()
            ]
    return sorted(grades, key=lambda grade: grade.order)


def table(columns: dict[str, list[Grade]]) -> str:
    """Return the results as a Markdown table, one column for each wire."""
    lines = [
        "| section | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for section, title in SECTIONS.items():
        cells = [
            _cell([grade for grade in grades if grade.section == section])
            for grades in columns.values()
        ]
        if any(cells):
            lines.append(f"| {section} {title} | " + " | ".join(cells) + " |")
    totals = [_cell(grades) for grades in columns.values()]
    lines.append("| **all** | " + " | ".join(totals) + " |")
    return "\n".join(lines)


def _cell(grades: list[Grade]) -> str:
    if not grades:
        return ""
    passed = [grade for grade in grades if grade.passed]
    kinds = collections.Counter(grade.behavior for grade in passed)
    text = f"{len(passed)}/{len(grades)}"
    informational = kinds["INFORMATIONAL"]
    return f"{text} ({informational} informational)" if informational else text


def conform(
    wstest: str,
    wire: str,
    runtime: str,
    shares: list[list[str]],
    role: str = "server",
) -> list[Grade]:
    """Run ``shares`` over ``wire`` and return the grades; the reports are kept."""
    folder = Path(tempfile.mkdtemp(prefix=f"autobahn-{role}-{wire}-{runtime}-"))
    if role == "client":
        grades = run_client(wstest, wire, runtime, shares, folder)
    else:
        with server(wire, runtime, folder) as port:
            grades = run(wstest, port, shares, folder)
    sys.stderr.write(f"reports: {folder}\n")
    return grades


def main() -> int:
    """Run what the command line asks for; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--role", choices=["server", "client"], action="append")
    parser.add_argument("--wire", choices=["h1", "h2"], action="append")
    parser.add_argument(
        "--runtime", choices=["auto", "asyncio", "uvloop", "trio"], default="auto"
    )
    parser.add_argument("--cases", nargs="+", help="patterns such as 7.*; default: all")
    options = parser.parse_args()
    wstest = find_wstest()
    if wstest is None:
        sys.stderr.write(HOW_TO_INSTALL + "\n")
        return 2
    shares = [options.cases] if options.cases else list(SHARES)
    columns = {
        f"{role}, {wire} on {options.runtime}": conform(
            wstest, wire, options.runtime, shares, role
        )
        for role in options.role or ["server", "client"]
        for wire in options.wire or ["h1", "h2"]
    }
    sys.stdout.write(table(columns) + "\n")
    complete = options.cases or all(len(g) == ALL_CASES for g in columns.values())
    failed = [
        f"{name}: {grade.case} is {grade.behavior}, its close {grade.close}"
        for name, grades in columns.items()
        for grade in grades
        if not grade.passed
    ]
    sys.stdout.write("\n".join([*failed, ""]))
    if not complete:
        sys.stdout.write(f"not all of the {ALL_CASES} cases were run\n")
    return 0 if complete and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
