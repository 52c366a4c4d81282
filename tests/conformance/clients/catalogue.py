"""Every WebSocket client that tako is shown to work with, and how each is started.

A client is a command that plays one scenario and prints one line of JSON (``player.py``
for Python libraries, ``tests/clients/node`` for Node and Chromium). HAProxy and nghttpx
stand between ``websockets`` and tako and speak HTTP/2 to it.
"""

import contextlib
import functools
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tako.testing.peer import Wire
from tako.testing.peer.io import Address
from tests.support.children import Child, run_child
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port


ROOT = Path(__file__).parents[3]
NODE_SCRIPTS = ROOT / "tests" / "clients" / "node"
SCENARIOS = ("echo", "deflate", "bye", "abort")
PATIENCE = 60
"""Seconds for a client's process; what it measured itself is in its outcome."""


def node_modules() -> Path:
    """Return where npm put the clients: ``$TAKO_NODE_MODULES``, else beside them."""
    chosen = os.environ.get("TAKO_NODE_MODULES")
    return Path(chosen) if chosen else NODE_SCRIPTS / "node_modules"


@dataclass(frozen=True, slots=True)
class Place:
    """A server to connect to."""

    address: Address
    ca: Path

    def url(self, scheme: str) -> str:
        return f"{scheme}://localhost:{self.address[1]}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a client said at the end of its scenario."""

    code: int | None = None
    reason: str | None = None
    seconds: float | None = None
    clean: bool | None = None
    extensions: str | None = None
    aborted: bool = False
    protocol: str | None = None


@dataclass(frozen=True)
class Client:
    """A client and the wires it speaks; ``missing`` says why it cannot be run here."""

    name: str
    wires: tuple[Wire, ...]
    command: Callable[[str, str, Place], list[str]]
    missing: Callable[[], str | None]
    front: Callable[[Place, Path], contextlib.AbstractContextManager[Place]] | None = (
        None
    )
    scenarios: tuple[str, ...] = field(default=SCENARIOS)
    shows_code: bool = True

    def play(self, wire: str, scenario: str, place: Place) -> Outcome:
        """Run ``scenario``; raise ``AssertionError`` with its output if it fails."""
        done = run_child(self.command(wire, scenario, place), cwd=ROOT)
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            msg = f"{self.name} failed:\n{done.stdout}\n{done.stderr}"
            raise AssertionError(msg)
        said: dict[str, Any] = json.loads(lines[-1])
        return Outcome(**said)


def _scheme(wire: str) -> str:
    return "ws" if wire == "h1" else "wss"


def _python(name: str, wire: str, scenario: str, place: Place) -> list[str]:
    module = "tests.conformance.clients.player"
    url = place.url(_scheme(wire))
    return [sys.executable, "-m", module, name, wire, scenario, url, str(place.ca)]


def _node(name: str, wire: str, scenario: str, place: Place) -> list[str]:
    script = str(NODE_SCRIPTS / "websocket.mjs")
    url = place.url(_scheme(wire))
    return ["node", script, name, wire, scenario, url, str(place.ca)]


def _chromium(wire: str, scenario: str, place: Place) -> list[str]:
    script = str(NODE_SCRIPTS / "browser.mjs")
    program = shutil.which("chromium") or "chromium"
    page, base = place.url("https") + "/", place.url("wss")
    return ["node", script, program, page, scenario, base]


def _behind_proxy(wire: str, scenario: str, place: Place) -> list[str]:
    return _python("websockets", "h1", scenario, place)


def no_module(name: str) -> str | None:
    """Say that a Python package is missing, if it is."""
    found = importlib.util.find_spec(name) is not None
    return None if found else f"{name} is not installed (pip install {name})"


def no_program(name: str) -> str | None:
    """Say that a program is missing, if it is."""
    return None if shutil.which(name) else f"{name} is not installed"


def no_node(package: str | None = None) -> str | None:
    """Say that Node or an npm package is missing, if it is."""
    if missing := no_program("node"):
        return missing
    if package is None or (node_modules() / package).is_dir():
        return None
    return f"{package} is not installed (npm install --prefix {NODE_SCRIPTS})"


def no_chromium() -> str | None:
    """Say what the browser is missing, if anything."""
    return no_program("chromium") or no_node("playwright-core")


def wait_for_port(port: int, process: subprocess.Popen[Any]) -> None:
    """Wait until ``process`` listens on ``port``."""
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert process.poll() is None, f"{process.args!r} ended"
            assert time.monotonic() < deadline, f"{process.args!r} does not listen"
            time.sleep(0.02)  # it offers no other sign that it is ready
        else:
            return


@contextlib.contextmanager
def _proxy(command: list[str], port: int, ca: Path) -> Iterator[Place]:
    with Child(command, limit=3 * TIMEOUT, stdout=subprocess.DEVNULL) as process:
        wait_for_port(port, process)
        yield Place(("127.0.0.1", port), ca)


@contextlib.contextmanager
def haproxy(behind: Place, folder: Path) -> Iterator[Place]:
    """HAProxy: HTTP/1.1 in front, HTTP/2 over TLS to ``behind``."""
    port = free_port()
    config = folder / "haproxy.cfg"
    config.write_text(
        f"""\
global
    maxconn 100
defaults
    mode http
    timeout connect 10s
    timeout client 30s
    timeout server 30s
    timeout tunnel 30s
frontend front
    bind 127.0.0.1:{port}
    default_backend back
backend back
    server tako 127.0.0.1:{behind.address[1]} proto h2 ws h2 ssl verify required \
ca-file {behind.ca} verifyhost localhost sni str(localhost) alpn h2
"""
    )
    with _proxy(["haproxy", "-db", "-f", str(config)], port, behind.ca) as place:
        yield place


@contextlib.contextmanager
def nghttpx(behind: Place, folder: Path) -> Iterator[Place]:
    """nghttpx: HTTP/1.1 in front, HTTP/2 over TLS to ``behind``."""
    port = free_port()
    command = [
        "nghttpx",
        f"-f127.0.0.1,{port};no-tls",
        f"-b127.0.0.1,{behind.address[1]};;proto=h2;tls;sni=localhost",
        f"--cacert={behind.ca}",
        "--workers=1",
        "--no-ocsp",
        "--conf=/dev/null",
        f"--errorlog-file={folder / 'nghttpx.log'}",
        "--accesslog-file=/dev/null",
    ]
    with _proxy(command, port, behind.ca) as place:
        yield place


BOTH: tuple[Wire, ...] = ("h1", "h1s", "h2")
CLIENTS = (
    Client(
        "websockets",
        ("h1", "h1s"),
        functools.partial(_python, "websockets"),
        functools.partial(no_module, "websockets"),
    ),
    Client(
        "niquests",
        BOTH,
        functools.partial(_python, "niquests"),
        functools.partial(no_module, "niquests"),
        shows_code=False,
    ),
    Client(
        "wreq",
        BOTH,
        functools.partial(_python, "wreq"),
        functools.partial(no_module, "wreq"),
    ),
    Client(
        "undici",
        BOTH,
        functools.partial(_node, "undici"),
        functools.partial(no_node, "undici"),
    ),
    Client(
        "ws",
        ("h1", "h1s"),
        functools.partial(_node, "ws"),
        functools.partial(no_node, "ws"),
    ),
    Client(
        "node:http2",
        ("h2",),
        functools.partial(_node, "http2"),
        no_node,
        scenarios=("echo", "bye", "abort"),
    ),
    Client("Chromium", ("h2",), _chromium, no_chromium),
    Client(
        "HAProxy",
        ("h2",),
        _behind_proxy,
        functools.partial(no_program, "haproxy"),
        front=haproxy,
    ),
    Client(
        "nghttpx",
        ("h2",),
        _behind_proxy,
        functools.partial(no_program, "nghttpx"),
        front=nghttpx,
    ),
)
