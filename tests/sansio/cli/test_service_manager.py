"""What systemd is told, and that it hears nothing else."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tako.cli.service_manager import ServiceManager


class Systemd:
    """The other end."""

    def __init__(self, name: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(name.replace("@", "\0", 1))
        self.sock.setblocking(False)

    def heard(self) -> list[str]:
        found: list[str] = []
        while True:
            try:
                found.append(self.sock.recv(1000).decode())
            except BlockingIOError:
                return found


@pytest.fixture(params=["path", "abstract"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "path":
        return str(tmp_path / "notify")
    if not Path("/proc").exists():
        pytest.skip("Linux has abstract names")
    return f"@tako-test-{os.getpid()}"


@pytest.fixture
def systemd(name: str) -> Iterator[Systemd]:
    made = Systemd(name)
    with made.sock:
        yield made


def from_environment(
    monkeypatch: pytest.MonkeyPatch, **variables: str
) -> ServiceManager:
    for each in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(each, raising=False)
    for each, value in variables.items():
        monkeypatch.setenv(each, value)
    made = ServiceManager.from_environment()
    left = {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(os.environ)
    assert not left  # they are not for children
    return made


def test_a_service_from_its_start_to_its_end(
    systemd: Systemd, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = from_environment(monkeypatch, NOTIFY_SOCKET=name)
    assert manager.watchdog is None
    manager.ready("serving")
    assert systemd.heard() == ["READY=1\nSTATUS=serving"]
    manager.status("serving")
    manager.status("2 of 2 workers serve")
    assert systemd.heard() == ["STATUS=2 of 2 workers serve"]
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    manager.reloading()
    (said,) = systemd.heard()
    first, _, when = said.partition("\nMONOTONIC_USEC=")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    assert first == "RELOADING=1"
    assert before <= int(when) <= after
    manager.reloaded()
    manager.alive()
    manager.stopping()
    assert systemd.heard() == ["READY=1", "WATCHDOG=1", "STOPPING=1\nSTATUS=draining"]


def test_what_does_not_serve_does_not_reload(systemd: Systemd, name: str) -> None:
    manager = ServiceManager(name)
    manager.reloading()
    manager.reloaded()
    assert systemd.heard() == []
    manager.ready("serving")
    manager.stopping()
    systemd.heard()
    manager.reloading()
    manager.reloaded()
    assert systemd.heard() == []


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [
        ("3000000", None, 1.5),
        ("3000000", str(os.getpid()), 1.5),
        ("3000000", "1", None),
        ("0", None, None),
        ("-5", None, None),
        ("soon", None, None),
        ("9" * 5000, None, None),
        (None, None, None),
    ],
)
def test_the_watchdog_wants_a_sign_every_half_of_its_time(
    monkeypatch: pytest.MonkeyPatch,
    usec: str | None,
    pid: str | None,
    seconds: float | None,
) -> None:
    given = {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    found = {key: value for key, value in given.items() if value is not None}
    assert from_environment(monkeypatch, **found).watchdog == seconds


def test_without_a_socket_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = from_environment(monkeypatch, WATCHDOG_USEC="3000000")
    assert manager.watchdog is None
    manager.ready("serving")
    manager.alive()


@pytest.mark.parametrize("name", ["/no/such/socket", "vsock:2:1", "/" + "x" * 500])
def test_what_cannot_be_told_is_logged_and_no_more(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "tako.cli")
    manager = ServiceManager(name)
    manager.ready("serving")
    (record,) = caplog.records
    assert record.levelname == "DEBUG"
    assert "could not be told" in record.getMessage()


def test_one_that_does_not_listen_is_not_waited_for(
    systemd: Systemd, name: str
) -> None:
    manager = ServiceManager(name, 1.0)
    for _ in range(2000):  # more than its queue holds
        manager.alive()
    assert 0 < len(systemd.heard()) < 2000
