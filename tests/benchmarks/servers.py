"""The servers to compare: how to start each, and which wires it serves."""

import importlib.metadata
import importlib.util
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.tools import SERVER_CORE, Certificate, pinned
from tests.support.ports import free_port


ROOT = Path(__file__).parents[2]
PEERS = "tests.benchmarks.peers"
ASGI_APP = "asgi_app"  # the module of PEERS that most rows serve
READY_LIMIT = 20.0  # seconds for a server to answer its first request

WS_H1, WS_H2, HTTP_H1, HTTP_H2 = "ws-h1", "ws-h2", "http-h1", "http-h2"


class Server(NamedTuple):
    """One server.

    Attributes:
        name: what the table calls it.
        modules: what has to be installed.
        words: the ``python -m`` command, with ``{port}``; of ASGI servers, ``{app}``.
        tls: what is added to it for TLS, with ``{chain}`` and ``{key}``.
        wires: what it can serve.
        groups: the groups of rows it appears in; empty: all.
        plain: what is added to ``words`` without TLS.
        fails: rows that it is known to fail, and why.
    """

    name: str
    modules: tuple[str, ...]
    words: str
    tls: str
    wires: frozenset[str]
    groups: frozenset[str] = frozenset()
    plain: str = ""
    fails: tuple[frozenset[str], str] = (frozenset(), "")

    @property
    def native(self) -> bool:
        """Whether it serves handlers of its own kind, and not the ASGI app."""
        return "{app}" not in self.words


_FILES = "{chain} {key}"
_PEM = "--certfile {chain} --keyfile {key}"
_SSL = "--ssl-certfile {chain} --ssl-keyfile {key}"
_UVICORN = (
    "uvicorn --loop uvloop --ws websockets-sansio --ws-per-message-deflate false"
    " --no-access-log --log-level error --port {port}"
)
_ALL = frozenset({WS_H1, WS_H2, HTTP_H1, HTTP_H2})
_TAKO = f"{PEERS}.serve_tako {{port}}"
_ASGI = f"{PEERS}.{{app}}:app"
_MANY = 2**30  # requests on a connection, where a server closes it after some

SERVERS = (
    Server("tako", ("tako",), _TAKO, _FILES, _ALL),
    Server(
        "tako-asgi",
        ("tako", "click"),
        f"tako.cli serve {_ASGI} --bind 127.0.0.1:{{port}} --h2-max-requests {_MANY}",
        "--cert {chain} --key {key}",
        _ALL,
        plain="--plain",
    ),
    Server(
        "tako-trio",
        ("tako", "trio"),
        _TAKO + " --trio",
        _FILES,
        _ALL,
        frozenset({"echo", "http"}),
    ),
    Server(
        "tako-options",
        ("tako",),
        _TAKO + " --all-options",
        _FILES,
        _ALL,
        frozenset({"idle"}),
    ),
    Server(
        "h2corn",
        ("h2corn",),
        f"h2corn --loop uvloop --no-access-log --bind 127.0.0.1:{{port}} {_ASGI}",
        _PEM,
        _ALL,
    ),
    Server(
        "granian",
        ("granian",),
        "granian --interface asgi --loop uvloop --workers 1 --no-access-log"
        f" --log-level error --port {{port}} {_ASGI}",
        "--ssl-certificate {chain} --ssl-keyfile {key}",
        frozenset({WS_H1, HTTP_H1, HTTP_H2}),
    ),
    Server(
        "uvicorn",
        ("uvicorn", "httptools", "websockets"),
        f"{_UVICORN} --http httptools {_ASGI}",
        _SSL,
        frozenset({WS_H1, HTTP_H1}),
    ),
    Server(
        "uvicorn-zttp",
        ("uvicorn", "zttp", "websockets"),
        f"{_UVICORN} --http zttp --http2 {_ASGI}",
        _SSL,
        frozenset({HTTP_H1, HTTP_H2}),
        # zttp ends a request without a body in one event since 0.0.22, and what
        # uvicorn 0.54 has for HTTP/2 waits for a second
        fails=(
            frozenset({"http-h2", "http-h2-var", "download-h2", "page-h2"}),
            "over HTTP/2 an app that reads the body of a GET waits for ever",
        ),
    ),
    Server(
        "hypercorn",
        ("hypercorn",),
        f"hypercorn -k uvloop -c {Path(__file__).parent}/peers/hypercorn.toml"
        f" -b 127.0.0.1:{{port}} {_ASGI}",
        _PEM,
        _ALL,
    ),
    Server(
        "websockets",
        ("websockets",),
        f"{PEERS}.serve_websockets {{port}}",
        _FILES,
        frozenset({WS_H1}),
    ),
    Server(
        "aiohttp",
        ("aiohttp",),
        f"{PEERS}.serve_aiohttp {{port}}",
        _FILES,
        frozenset({WS_H1, HTTP_H1}),
    ),
    Server(
        "picows",
        ("picows",),
        f"{PEERS}.serve_picows {{port}}",
        _FILES,
        frozenset({WS_H1}),
    ),
)


def missing(modules: Iterable[str]) -> list[str]:
    """Return which of ``modules`` this interpreter does not have."""
    return [name for name in modules if importlib.util.find_spec(name) is None]


def versions(names: Iterable[str]) -> str:
    """Name the versions of the packages that are installed, each once."""
    found = dict.fromkeys(name for name in names if not missing([name]))
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in found)


class ServerError(Exception):
    """A server that did not start, with the end of what it wrote to stderr."""


class Running(NamedTuple):
    """A server that answers requests."""

    process: int
    port: int
    stderr: Path

    def complaint(self) -> str:
        """Return the last line that the server wrote to stderr."""
        return _last_line(self.stderr)


@contextmanager
def running(
    server: Server,
    certificate: Certificate,
    directory: Path,
    *,
    tls: bool,
    app: str = ASGI_APP,
) -> Iterator[Running]:
    """Run ``server`` on its core, in a session of its own, until the block ends.

    An ASGI server serves ``app``, a module of ``peers``.

    Raises:
        ServerError: it ended, or did not answer in time.
    """
    port, stderr = free_port(), directory / f"{server.name}.stderr"
    text = f"{server.words} {server.tls if tls else server.plain}"
    words = text.format(port=port, app=app, **certificate._asdict()).split()
    with pinned(SERVER_CORE), stderr.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
    try:
        _await_answer(process, port, certificate if tls else None, stderr)
        yield Running(process.pid, port, stderr)
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # not reaped yet: its id is still ours
        process.wait()


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Tell whether ``process`` has ended, without reaping it."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, process.pid, flags) is not None


def _await_answer(
    process: subprocess.Popen[bytes],
    port: int,
    certificate: Certificate | None,
    stderr: Path,
) -> None:
    limit = time.monotonic() + READY_LIMIT
    while not _answers(port, certificate):
        if _ended(process):
            msg = f"ended before it served: {_last_line(stderr)}"
            raise ServerError(msg)
        if time.monotonic() > limit:
            msg = f"no answer within {READY_LIMIT:.0f} s: {_last_line(stderr)}"
            raise ServerError(msg)
        time.sleep(0.05)


def _answers(port: int, certificate: Certificate | None) -> bool:
    """Tell whether a request is answered, be it by a refusal or the end."""
    try:
        with socket.create_connection(("127.0.0.1", port), 5) as transport:
            connection: socket.socket = transport
            if certificate is not None:
                context = ssl.create_default_context(cafile=str(certificate.ca))
                context.set_alpn_protocols(["http/1.1"])
                connection = context.wrap_socket(transport, server_hostname="localhost")
            with connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                connection.recv(1)
    except OSError:
        return False
    return True


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines()
    return json.dumps(lines[-1][:200]) if lines else "it said nothing"
