"""``Type=notify``: what the command tells systemd, with one worker and with two."""

import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.test_cli import serving
from tests.support.hosts import Host
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials


APP = """
import os
from tako import Router

router = Router()
names = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
seen = [name for name in names if name in os.environ]
router.get("/seen", lambda: repr(seen))
"""

WAYS = [
    ("asyncio", ()),
    ("trio", ()),
    ("asyncio", ("--workers", "2")),
]


class Systemd:
    """What reads the datagrams."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(str(path))
        self.heard: list[str] = []

    def hear(self, wanted: Callable[[str], bool]) -> str:
        """Return the next datagram that is wanted."""
        end = time.monotonic() + TIMEOUT
        while True:
            self.sock.settimeout(max(0.001, end - time.monotonic()))
            self.heard.append(self.sock.recv(1000).decode())
            if wanted(self.heard[-1]):
                return self.heard[-1]

    def hear_line(self, line: str) -> str:
        return self.hear(lambda said: line in said.split("\n"))


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    made = Systemd(tmp_path / "notify")
    with made.sock:
        yield made


@pytest.mark.parametrize(("runtime", "options"), WAYS)
def test_from_start_to_end(
    tmp_path: Path,
    credentials: Credentials,
    systemd: Systemd,
    runtime: str,
    options: tuple[str, ...],
) -> None:
    pytest.importorskip(runtime)
    (tmp_path / "apps.py").write_text(APP)
    arguments = ("apps:router", "--plain", "--runtime", runtime, *options)
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "200000"}
    with serving(tmp_path, credentials, *arguments, **env) as host:
        assert "STATUS=" in systemd.hear_line("READY=1")
        assert answer(host) == b"[]"  # no worker and no child hears of it
        if options:
            systemd.hear_line("STATUS=2 of 2 workers serve")
        for _ in range(3):
            systemd.hear_line("WATCHDOG=1")
        before = len(systemd.heard)
        host.process.send_signal(signal.SIGHUP)  # type: ignore[union-attr]
        said = systemd.hear_line("RELOADING=1")
        assert int(said.partition("MONOTONIC_USEC=")[2]) > 0
        systemd.hear_line("READY=1")
        assert "READY=1" not in "".join(systemd.heard[before:-1])
        host.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
        systemd.hear_line("STOPPING=1")
        assert host.process.wait(TIMEOUT) == 0  # type: ignore[union-attr]


def test_an_app_that_cannot_start_is_never_ready(
    tmp_path: Path, credentials: Credentials, systemd: Systemd
) -> None:
    (tmp_path / "apps.py").write_text("import os, time\ntime.sleep(0.2)\nos._exit(3)")
    arguments = ("apps:router", "--plain", "--workers", "2")
    env = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
    with serving(tmp_path, credentials, *arguments, **env) as host:
        assert host.process is not None
        assert host.process.wait(TIMEOUT) == 3
    systemd.sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        systemd.sock.recv(1000)


def answer(host: Host) -> bytes:
    with host.connect("h1") as connection:
        return connection.request("GET", "/seen").body
