"""What the benchmarks need of the machine: a compiler, cores, clocks, certificates."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import trustme


SERVER_CORE, LOAD_CORE = 0, 1
LOAD_SOURCE = Path(__file__).with_name("load.c")


class UnavailableError(Exception):
    """Something that is not installed; the text says what to install."""


class Certificate(NamedTuple):
    """Paths of PEM files."""

    ca: Path
    chain: Path
    key: Path


def build_load(directory: Path, *flags: str) -> Path:
    """Compile the load generator into ``directory``, with more ``flags`` if need be.

    Raises:
        UnavailableError: no Linux, no compiler or no OpenSSL headers.
    """
    if not sys.platform.startswith("linux"):
        msg = "the load generator needs Linux (epoll, /proc, process clocks)"
        raise UnavailableError(msg)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        msg = "no C compiler: install gcc (Debian: gcc libc6-dev libssl-dev)"
        raise UnavailableError(msg)
    _require_openssl(compiler)
    program = directory / "load"
    words = [compiler, "-O2", *flags, "-o", str(program), str(LOAD_SOURCE)]
    subprocess.run([*words, "-lssl", "-lcrypto"], check=True)
    return program


def _require_openssl(compiler: str) -> None:
    """See whether the headers are there; what fails after that is an error of ours."""
    probe = subprocess.run(
        [compiler, "-E", "-x", "c", "-o", os.devnull, "-"],
        input="#include <openssl/ssl.h>\n",
        text=True,
        capture_output=True,
        check=False,
    )
    if probe.returncode:
        msg = "no OpenSSL headers: install libssl-dev (Fedora: openssl-devel)"
        raise UnavailableError(msg)


def make_certificate(directory: Path) -> Certificate:
    """Write a certificate for localhost, and its authority's, into ``directory``."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    files = Certificate(*(directory / f"{name}.pem" for name in Certificate._fields))
    authority.cert_pem.write_to_path(files.ca)
    leaf.private_key_pem.write_to_path(files.key)
    for position, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(files.chain, append=position > 0)
    return files


def cores() -> str:
    """Say which cores the two sides run on."""
    usable = os.sched_getaffinity(0)
    if {SERVER_CORE, LOAD_CORE} <= usable:
        return f"server on core {SERVER_CORE}, load on core {LOAD_CORE}"
    return f"server and load share {len(usable)} core(s)"


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """Run on ``core``, as do the processes begun here, if this process may choose."""
    before = os.sched_getaffinity(0)
    if {SERVER_CORE, LOAD_CORE} <= before:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def family(process: int) -> list[int]:
    """Return the ids of ``process`` and of all its descendants."""
    found = [process]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found
