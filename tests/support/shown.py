"""Programs that documents show, run as a reader would: in a folder, by name."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import trustme

from tests.support.children import Child, run_child
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.pytest_runs import ROOT


PORT = ":8443"  # of the servers that documents show


def run_shown(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run ``python *command`` in ``folder``."""
    return run_child([sys.executable, *command], cwd=folder, env=_environment(folder))


@contextlib.contextmanager
def served(folder: Path, programs: dict[str, str], server: str) -> Iterator[None]:
    """Write ``programs`` into ``folder``, with certificates, and have one run.

    Wherever they say 8443, they say the port of ``server`` instead.
    """
    certs = folder / "certs"
    certs.mkdir()
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(certs / "ca.pem")
    leaf.cert_chain_pems[0].write_to_path(certs / "cert.pem")
    leaf.private_key_pem.write_to_path(certs / "key.pem")
    port = free_port()
    for name, text in programs.items():
        (folder / name).write_text(text.replace(PORT, f":{port}"))
    command = [sys.executable, server]
    with Child(command, cwd=folder, env=_environment(folder)) as child:
        _wait_until_it_listens(child, port)
        yield


def _environment(folder: Path) -> dict[str, str]:
    ca = folder / "certs" / "ca.pem"
    return {**os.environ, "PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(ca)}


def _wait_until_it_listens(child: Child, port: int) -> None:
    end = time.monotonic() + TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
        except ConnectionRefusedError:
            assert child.poll() is None, child.error_text
            assert time.monotonic() < end, "it does not listen"
            time.sleep(0.05)
        else:
            return
