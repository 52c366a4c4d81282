"""A victim in a process of its own: its memory is only the server's.

    python -m tests.support.victim_process RUNTIME WIRE CERT KEY

prints the port and serves until SIGTERM.
"""

import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import tako
from tako.testing.peer import Wire, connect
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import H2Connection
from tests.support import lane
from tests.support.attack import Attacker, RawH2, attacker_of
from tests.support.children import Child
from tests.support.patience import NEVER, TIMEOUT
from tests.support.server import (
    UNHURRIED,
    Credentials,
    RuntimeName,
    narrow,
    serving,
)
from tests.support.victim import Canary, Ledger, attacked_router, process_clock


ROOT = Path(__file__).parents[2]
_PAGE = os.sysconf("SC_PAGE_SIZE")


class VictimProcess:
    """The server, its canary and its figures, seen from outside."""

    ledger: Ledger
    """Stays empty: what handlers see they do not tell. For ``runner.deliver``."""

    def __init__(
        self,
        credentials: Credentials,
        runtime: RuntimeName,
        wire: Wire,
        *,
        python: Sequence[str] = (sys.executable,),
        environment: dict[str, str] | None = None,
    ) -> None:
        self.wire = wire
        self.ledger = Ledger()
        self._credentials = credentials
        self._command = [
            *python,
            "-m",
            "tests.support.victim_process",
            runtime,
            wire,
            str(credentials.cert),
            str(credentials.key),
        ]
        self._environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            **(environment or {}),
        }

    def __enter__(self) -> Self:
        self.process = Child(self._command, cwd=ROOT, env=self._environment)
        assert self.process.stdout is not None
        port = self.process.stdout.readline().strip()
        assert port, self.process.error_text
        self.process.allow(NEVER)  # for as long as the test's clients wait
        self.address = ("127.0.0.1", int(port))
        self._bird = self.connect()
        self.canary = Canary(self._bird, process_clock(self.process.pid))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release_canary()
        with self.process:
            self.process.allow(TIMEOUT)
            self.process.send_signal(signal.SIGTERM)
            code = self.process.wait()
            errors = self.process.error_text
        if kind is None:
            assert code == 0, errors
            assert "Traceback" not in errors, errors
            assert "never retrieved" not in errors, errors
        elif value is not None:
            value.add_note(errors)

    def release_canary(self) -> None:
        """Stop the canary and drop its connection, which a drain would wait for."""
        self.canary.stop()
        self._bird.close()

    def connect(self, wire: Wire | None = None) -> H1Connection | H2Connection:
        """Connect a well-behaved client."""
        quiet: Wire = "h1s" if self.wire == "h2" else self.wire
        return connect(self.address, wire or quiet, self._credentials.client)

    def attacker(
        self, wire: Wire, *, receive_buffer: int | None = None
    ) -> Attacker | RawH2:
        """Connect over ``wire`` and send nothing yet."""
        return attacker_of(self.address, wire, receive_buffer=receive_buffer)

    @property
    def rss(self) -> int:
        """Resident memory of the server, in bytes."""
        text = Path(f"/proc/{self.process.pid}/statm").read_text()
        return int(text.split()[1]) * _PAGE

    @property
    def fds(self) -> int:
        """Open file descriptors of the server."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    @property
    def cpu(self) -> float:
        """CPU seconds of the server so far."""
        return (self._stat(14) + self._stat(15)) / os.sysconf("SC_CLK_TCK")

    @property
    def page_faults(self) -> int:
        """Pages that the kernel has had to give the server so far."""
        return self._stat(10)

    def _stat(self, field: int) -> int:
        """Return a field of proc_pid_stat(5), by its number there."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return int(stat.rpartition(")")[2].split()[field - 3])


async def _serve(wire: Wire, cert: str, key: str) -> None:
    listener = await tako.bind("127.0.0.1:0")
    router = attacked_router(Ledger(limit=100))
    send_buffer = os.environ.get("VICTIM_SNDBUF")
    narrow(listener, None if send_buffer is None else int(send_buffer))
    shutdown = tako.ctrl_c()
    config = UNHURRIED if os.environ.get("VICTIM_UNHURRIED") else None
    print(str(listener.local_addr).rpartition(":")[2], flush=True)
    await serving(wire, listener, router, (cert, key), shutdown=shutdown, config=config)


def _limit_files() -> None:
    """Obey ``VICTIM_NOFILE``: how many files the process may have open."""
    limit = os.environ.get("VICTIM_NOFILE")
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))


def main(arguments: Sequence[str]) -> None:
    """Serve."""
    runtime, *rest = arguments
    lane.obey()
    _limit_files()
    if runtime == "trio":
        tako.run(_serve, *rest, runtime="trio")
    else:
        tako.run(_serve, *rest, runtime="asyncio", loop=runtime)


if __name__ == "__main__":
    main(sys.argv[1:])
