"""Several processes on one port: crashes, rolling, certificates, draining."""

import contextlib
import os
import re
import shutil
import signal
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import pytest
import trustme

from tests.integration.test_cli import APPS, serving
from tests.support.hosts import Host
from tests.support.peer import connect
from tests.support.peer_io import TIMEOUT, EndOfStreamError, Socket, StreamResetError
from tests.support.server import Credentials


PIDS = """
import os
router.get("/pid", lambda: str(os.getpid()))

async def slow(ws):
    async for message in ws:
        await ws.send(str(os.getpid()))

async def ws_pid(request: Request):
    return TakoWs(request, slow)

router.get("/ws-pid", ws_pid)
"""


@pytest.fixture
def folder(tmp_path: Path, credentials: Credentials) -> Path:
    """A folder with an app and a certificate that may be replaced."""
    (tmp_path / "apps.py").write_text(APPS + PIDS)
    shutil.copy(credentials.cert, tmp_path / "cert.pem")
    shutil.copy(credentials.key, tmp_path / "key.pem")
    return tmp_path


@pytest.fixture
def workers(folder: Path, credentials: Credentials) -> Iterator[Host]:
    """Two workers behind one port, both ready."""
    files = ("--cert", "cert.pem", "--key", "key.pem", "--workers", "2")
    with serving(folder, credentials, "apps:router", *files) as host:
        serving_pids(host, credentials, 2)
        yield host


def ask(host: Host, credentials: Credentials, path: str) -> str:
    """Return a body, over a connection of its own."""
    with connect(host.address, "h1s", credentials.client) as connection:
        return connection.request("GET", path).body.decode()


def serving_pids(
    host: Host, credentials: Credentials, count: int, without: set[int] | None = None
) -> set[int]:
    """Wait until ``count`` processes answer, none of them in ``without``."""
    found = set[int]()
    end = time.monotonic() + TIMEOUT
    while len(found) < count:
        assert time.monotonic() < end, (found, host.output())
        found.add(int(ask(host, credentials, "/pid")))
        found -= without or set()
    return found


def wait_until(condition: Callable[[], bool], host: Host) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, host.output()
        time.sleep(0.02)


def serial(host: Host, client: ssl.SSLContext) -> str:
    """Return the serial number of the certificate that the server shows."""
    sock = Socket(host.address, client)
    try:
        assert sock.tls is not None
        facts = sock.tls.getpeercert()
        assert facts is not None
        return str(facts["serialNumber"])
    finally:
        sock.close()


def replace_certificate(folder: Path, ca: trustme.CA) -> None:
    leaf = ca.issue_cert("localhost", "127.0.0.1")
    (folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    (folder / "cert.pem").write_bytes(chain)


class Load:
    """Clients that connect anew for every request, and count what happens."""

    def __init__(self, host: Host, client: ssl.SSLContext, threads: int = 3) -> None:
        self.results: Counter[str] = Counter()
        self._host = host
        self._client = client
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def wait(self, count: int) -> None:
        """Wait for that many more good answers."""
        wanted = self.results["good"] + count
        end = time.monotonic() + TIMEOUT
        while self.results["good"] < wanted:
            assert time.monotonic() < end, self.results
            time.sleep(0.01)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                with connect(self._host.address, "h1s", self._client) as connection:
                    good = connection.request("GET", "/").body == b"Hello"
                    self.results["good" if good else "bad"] += 1
            except ConnectionRefusedError:
                self.results["refused"] += 1
            except (EndOfStreamError, StreamResetError, OSError) as error:
                self.results[type(error).__name__] += 1


def test_kill_9_costs_one_worker_for_a_moment(
    workers: Host, credentials: Credentials
) -> None:
    before = serving_pids(workers, credentials, 2)
    with Load(workers, credentials.client) as load:
        load.wait(20)
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        load.wait(20)  # the others keep serving
        after = serving_pids(workers, credentials, 2, without={victim})
        load.wait(20)
    assert len(after - before) == 1
    assert load.results["refused"] == load.results["bad"] == 0
    assert sum(load.results.values()) - load.results["good"] <= 3  # what it had in hand
    assert "was killed by SIGKILL; starting another" in workers.output()


def test_sigusr1_loads_certificates_and_drops_nothing(
    workers: Host, credentials: Credentials, folder: Path, ca: trustme.CA
) -> None:
    before = serving_pids(workers, credentials, 2)
    old = serial(workers, credentials.client)
    with workers.connect("h2") as connection, Load(workers, credentials.client) as load:
        ws = connection.websocket("/ws")
        ws.echo("before")
        load.wait(5)
        replace_certificate(folder, ca)
        os.kill(workers.pid, signal.SIGUSR1)
        workers.wait_output("certificate reloaded", times=2)
        for _ in range(6):
            assert serial(workers, credentials.client) != old
        load.wait(5)
        ws.echo("after")
    assert set(load.results) == {"good"}
    assert serving_pids(workers, credentials, 2) == before


def test_sighup_rolls_the_workers_without_refusing_anybody(
    workers: Host, credentials: Credentials, folder: Path, ca: trustme.CA
) -> None:
    before = serving_pids(workers, credentials, 2)
    old = serial(workers, credentials.client)
    with workers.connect("h2") as connection, Load(workers, credentials.client) as load:
        ws = connection.websocket("/ws")
        ws.echo("before")
        load.wait(5)
        replace_certificate(folder, ca)
        os.kill(workers.pid, signal.SIGHUP)
        after = serving_pids(workers, credentials, 2, without=before)
        assert ws.expect_close() == (1001, "server shutting down")
        ws.end()
        wait_until(lambda: not any(map(psutil.pid_exists, before)), workers)
        load.wait(5)
        assert serial(workers, credentials.client) != old
    assert load.results["refused"] == load.results["bad"] == 0
    assert not before & after


def test_a_roll_that_cannot_start_leaves_the_old_workers(
    workers: Host, credentials: Credentials, folder: Path
) -> None:
    before = serving_pids(workers, credentials, 2)
    (folder / "apps.py").write_text("raise RuntimeError('new code, new bug')\n")
    os.kill(workers.pid, signal.SIGHUP)
    workers.wait_output("the old one stays")
    assert serving_pids(workers, credentials, 2) == before
    assert "new code, new bug" in workers.output()


def test_sigterm_drains_all_workers(workers: Host, credentials: Credentials) -> None:
    process = workers.process
    assert process is not None
    with workers.connect("h2") as one, workers.connect("h1s") as two:
        sockets = [one.websocket("/ws"), two.websocket("/ws")]
        for ws in sockets:
            ws.echo("open")
        process.send_signal(signal.SIGTERM)
        for ws in sockets:
            assert ws.expect_close() == (1001, "server shutting down")
    assert process.wait(TIMEOUT) == 0


def test_a_second_sigterm_ends(workers: Host, credentials: Credentials) -> None:
    process = workers.process
    assert process is not None
    pids = serving_pids(workers, credentials, 2)
    with workers.connect("h1s") as connection:
        ws = connection.websocket("/ws")
        ws.answer_close = False
        ws.echo("open")
        process.send_signal(signal.SIGTERM)
        assert ws.expect_close()[0] == 1001
        process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT) == 128 + signal.SIGTERM
    assert not any(map(psutil.pid_exists, pids))


def test_workers_do_not_outlive_their_supervisor(
    workers: Host, credentials: Credentials
) -> None:
    pids = serving_pids(workers, credentials, 2)
    os.kill(workers.pid, signal.SIGKILL)
    assert workers.process is not None
    workers.process.wait(TIMEOUT)
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), workers)


def test_a_worker_that_keeps_dying_is_started_ever_more_slowly(
    folder: Path, credentials: Credentials
) -> None:
    (folder / "apps.py").write_text(
        APPS + PIDS + "router.get('/die', lambda: os._exit(3))"
    )
    options = ("apps:router", "--plain", "--workers", "2")
    with serving(folder, credentials, *options) as host:
        for times in (1, 2, 3, 4):
            lost = contextlib.suppress(EndOfStreamError, StreamResetError)
            with host.connect("h1") as connection, lost:
                connection.request("GET", "/die")
            host.wait_output("ended with code 3", times=times)
        assert re.search(r"ended with code 3; another in 0\.\d s", host.output())
        with host.connect("h1") as connection:
            assert connection.request("GET", "/").body == b"Hello"


def test_a_changed_file_starts_again(folder: Path, credentials: Credentials) -> None:
    pytest.importorskip("watchfiles")
    options = ("apps:router", "--plain", "--reload")
    with serving(folder, credentials, *options) as host:

        def noticed() -> bool:  # it may begin to watch later than it begins to serve
            (folder / "apps.py").write_text(APPS.replace('"Hello"', '"Changed"'))
            return "apps.py changed, starting again" in host.output()

        wait_until(noticed, host)

        def changed() -> bool:
            with host.connect("h1") as connection:
                return connection.request("GET", "/").body == b"Changed"

        wait_until(changed, host)


def test_one_process_loads_its_certificate_at_sighup(
    folder: Path, credentials: Credentials, ca: trustme.CA
) -> None:
    files = ("--cert", "cert.pem", "--key", "key.pem")
    with serving(folder, credentials, "apps:router", *files) as host:
        old = serial(host, credentials.client)
        with host.connect("h2") as connection, Load(host, credentials.client) as load:
            ws = connection.websocket("/ws")
            load.wait(5)
            replace_certificate(folder, ca)
            os.kill(host.pid, signal.SIGHUP)
            host.wait_output("certificate reloaded")
            assert serial(host, credentials.client) != old
            load.wait(5)
            ws.echo("still here")
        assert set(load.results) == {"good"}
        (folder / "key.pem").write_text("no key")
        os.kill(host.pid, signal.SIGHUP)
        host.wait_output("keeping the old certificate: ")
        assert serial(host, credentials.client) != old
