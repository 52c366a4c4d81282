"""Several processes on one port: crashes, rolling, certificates, draining."""

import contextlib
import os
import re
import shutil
import signal
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psutil
import pytest
import trustme

from tako.testing.peer import PeerConnection, Wire, connect
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.io import EndOfStreamError, Socket, StreamResetError
from tests.integration.test_cli import APPS, serving
from tests.support.hosts import Host
from tests.support.listeners import connect_to
from tests.support.patience import PATIENCE, TIMEOUT
from tests.support.server import Credentials, RuntimeName


LOST = (EndOfStreamError, StreamResetError)
HANDSHAKE_LIMIT = 0.8  # seconds; a worker that is rolled has 1 s for those in progress


class SlowHandshakeError(Exception):
    """The machine took so long over a handshake that the server need not wait."""


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


def wait_until(
    condition: Callable[[], bool], host: Host, timeout: float = TIMEOUT
) -> None:
    end = time.monotonic() + timeout
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
    """Clients that ask again and again, and count what happens.

    Args:
        host: the server.
        client: what the clients trust.
        wire: what they speak.
        pauses: one client each: seconds before it asks on a connection.
        keep_alive: ask on one connection as long as it lasts; a request that was not
            answered there is sent once more (RFC 9110 section 9.2.2).
    """

    def __init__(
        self,
        host: Host,
        client: ssl.SSLContext,
        *,
        wire: Wire = "h1s",
        pauses: tuple[float, ...] = (0, 0.01, 0.01),
        keep_alive: bool = False,
    ) -> None:
        self.results: Counter[str] = Counter()
        self.first_answers: dict[int, float] = {}
        """When each process was heard of first."""
        self._host = host
        self._client = client
        self._wire: Wire = wire
        self._keep_alive = keep_alive
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(pause,), daemon=True)
            for pause in pauses
        ]

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

    def _run(self, pause: float) -> None:
        while not self._stop.is_set():
            try:
                if self._keep_alive:
                    self._ask_on(pause)
                else:
                    with self._connect() as connection:
                        time.sleep(pause)
                        self._ask(connection)
            except ConnectionRefusedError:
                self.results["refused"] += 1
            except SlowHandshakeError:
                continue
            except (*LOST, OSError) as error:
                self.results[type(error).__name__] += 1

    def _ask_on(self, pause: float) -> None:
        """Ask until the server ends the connection; ask that once more on another."""
        with self._connect() as connection, contextlib.suppress(*LOST):
            while not self._stop.is_set():
                self._ask(connection)
                time.sleep(pause)
        if not self._stop.is_set():
            with self._connect() as connection:
                self._ask(connection)
                self.results["again"] += 1

    def _connect(self) -> PeerConnection:
        began = time.monotonic()
        try:
            return connect(self._host.address, self._wire, self._client)
        except ssl.SSLError as error:
            # a handshake that a busy machine draws out is cut when the drain begins
            if time.monotonic() - began > HANDSHAKE_LIMIT:
                raise SlowHandshakeError from error
            raise

    def _ask(self, connection: PeerConnection) -> None:
        response = connection.request("GET", "/pid")
        if response.status == 200:
            self.results["good"] += 1
            self.first_answers.setdefault(int(response.body), time.monotonic())
        else:
            self.results["bad"] += 1


def workers_of(host: Host) -> set[int]:
    return {child.pid for child in psutil.Process(host.pid).children()}


def roll(host: Host) -> None:
    """Let every worker be replaced, and wait until the old ones are gone."""
    wait_until(lambda: len(workers_of(host)) == 2, host)
    before = workers_of(host)
    os.kill(host.pid, signal.SIGHUP)
    wait_until(
        lambda: len(workers_of(host)) == 2 and not workers_of(host) & before,
        host,
        TIMEOUT * 2,
    )


def test_kill_9_costs_one_worker_for_a_moment(
    workers: Host, credentials: Credentials
) -> None:
    clients = 5
    with Load(workers, credentials.client, pauses=(0.02,) * clients) as load:
        answered = load.first_answers
        wait_until(lambda: set(answered) == workers_of(workers), workers)

        for victim in sorted(answered):
            known = workers_of(workers)
            os.kill(victim, signal.SIGKILL)
            load.wait(20)  # the others keep serving
            wait_until(lambda: bool(workers_of(workers) - known), workers)  # noqa: B023
            (new,) = workers_of(workers) - known
            wait_until(lambda: new in answered, workers)  # noqa: B023
        load.wait(20)
    assert load.results["refused"] == load.results["bad"] == 0
    lost = sum(load.results.values()) - load.results["good"]
    assert lost <= 2 * clients  # what the two had in hand
    assert workers.output().count("was killed by SIGKILL; starting another") == 2


def test_sigusr1_loads_certificates_and_drops_nothing(
    workers: Host, credentials: Credentials, folder: Path, ca: trustme.CA
) -> None:
    before = serving_pids(workers, credentials, 2)
    old = serial(workers, credentials.client)
    with (
        workers.connect("h2") as one,
        workers.connect("h1s") as two,
        Load(workers, credentials.client) as load,
    ):
        sockets = [one.websocket("/ws"), two.websocket("/ws")]
        for ws in sockets:
            ws.echo("before")
        load.wait(5)
        replace_certificate(folder, ca)
        os.kill(workers.pid, signal.SIGUSR1)
        workers.wait_output("certificate reloaded", times=2)
        for _ in range(6):
            assert serial(workers, credentials.client) != old
        load.wait(5)
        for ws in sockets:
            ws.echo("after")
    assert set(load.results) == {"good"}
    assert serving_pids(workers, credentials, 2) == before


def test_sighup_rolls_the_workers_without_refusing_a_client(
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
    assert set(load.results) == {"good"}
    assert not before & after


CELLS: list[tuple[RuntimeName, Wire]] = [
    ("asyncio", "h1"),
    ("asyncio", "h1s"),
    ("trio", "h1s"),
]


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_rolling_again_and_again_loses_no_connection(
    folder: Path, credentials: Credentials, cell: tuple[RuntimeName, Wire]
) -> None:
    """No request of a client that asks at once is lost, and none of a slow one."""
    runtime, wire = cell
    pytest.importorskip(runtime)
    options = ["apps:router", "--workers", "2", "--runtime", runtime]
    options += ["--plain"] if wire == "h1" else []
    pauses = (0, 0.01, 0.01, 0.1, 0.3, 0.6, 0.6, 0.9, 1.4, 1.4)
    with serving(folder, credentials, *options) as host:
        wait_until(lambda: len(workers_of(host)) == 2, host)
        with Load(host, credentials.client, wire=wire, pauses=pauses) as load:
            load.wait(20)
            for _ in range(3):
                roll(host)
            load.wait(20)
    assert set(load.results) == {"good"}


def test_rolling_waits_for_handshakes_that_begin_late(
    workers: Host, credentials: Credentials
) -> None:
    """A worker has accepted them, and no other can."""
    rolled = threading.Event()

    def ask_once() -> bool:
        with socket.create_connection(workers.address, TIMEOUT) as raw:
            time.sleep(0.5)
            with credentials.client.wrap_socket(
                raw, server_hostname="localhost"
            ) as tls:
                tls.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert tls.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
        return True

    def ask_late(_: int) -> int:
        """Ask after half a second of silence, again and again; count the answers."""
        answered = 0
        while not rolled.is_set():
            began = time.monotonic()
            try:
                answered += ask_once()
            except OSError:  # the server need not wait for a machine that is so slow
                if time.monotonic() - began < HANDSHAKE_LIMIT:
                    raise
        return answered

    with ThreadPoolExecutor(10) as pool:
        asking = pool.map(ask_late, range(10))
        try:
            roll(workers)
        finally:
            rolled.set()
        assert min(asking) > 0


def test_rolling_costs_a_keep_alive_client_one_more_try_at_most(
    workers: Host, credentials: Credentials
) -> None:
    """It may be closed on while its next request is on its way: RFC 9112 9.3.1."""
    pauses = (0.001, 0.002, 0.005)
    with Load(workers, credentials.client, pauses=pauses, keep_alive=True) as load:
        load.wait(20)
        for _ in range(3):
            roll(workers)
        load.wait(20)
    assert set(load.results) == {"good", "again"}
    assert load.results["again"] >= 3  # its worker is gone each time


def test_a_roll_that_cannot_start_leaves_the_old_workers(
    workers: Host, credentials: Credentials, folder: Path
) -> None:
    before = serving_pids(workers, credentials, 2)
    (folder / "apps.py").write_text("raise RuntimeError('new code, new bug')\n")
    os.kill(workers.pid, signal.SIGHUP)
    workers.wait_output("the old one stays")
    assert serving_pids(workers, credentials, 2) == before
    failure = "tako: importing 'apps' failed: RuntimeError: new code, new bug"
    assert workers.output().count(failure) == 1
    os.kill(workers.pid, signal.SIGHUP)  # a second SIGHUP is answered again
    workers.wait_output("the old one stays", times=2)
    assert workers.output().count(failure) == 2


def test_what_keeps_workers_from_starting_is_said_once(
    workers: Host, credentials: Credentials, folder: Path
) -> None:
    (folder / "apps.py").write_text("raise RuntimeError('new code, new bug')\n")
    os.kill(max(serving_pids(workers, credentials, 2)), signal.SIGKILL)
    workers.wait_output("ended with code 2; another in", times=3)
    printed = workers.output()
    assert printed.count("Traceback") == printed.count("new code, new bug") / 3 == 1
    (folder / "apps.py").write_text("raise RuntimeError('another bug')\n")
    workers.wait_output("tako: importing 'apps' failed: RuntimeError: another bug")
    (folder / "apps.py").write_text(APPS + PIDS)
    serving_pids(workers, credentials, 2)


def test_a_roll_waits_for_a_worker_that_is_just_starting(
    workers: Host, credentials: Credentials, folder: Path
) -> None:
    """What it has loaded so far may be what is to be replaced."""
    old = APPS + PIDS
    waits = "import os, time\nwhile os.path.exists('hold'): time.sleep(0.01)\n"
    (folder / "hold").touch()
    (folder / "apps.py").write_text("open('begun', 'w').close()\n" + waits + old)
    victim = max(serving_pids(workers, credentials, 2))
    os.kill(victim, signal.SIGKILL)
    wait_until((folder / "begun").exists, workers)
    before = workers_of(workers)
    (folder / "apps.py").write_text(old + "router.get('/new', lambda: 'new')\n")
    os.kill(workers.pid, signal.SIGHUP)
    workers.wait_output("certificate reloaded")  # by the one that serves
    (folder / "hold").unlink()
    wait_until(
        lambda: len(workers_of(workers)) == 2 and not workers_of(workers) & before,
        workers,
    )
    for _ in range(10):
        assert ask(workers, credentials, "/new") == "new"


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


def test_workers_on_a_unix_socket_leave_no_file(
    folder: Path, credentials: Credentials
) -> None:
    path = folder / "sock"
    options = ("apps:router", "--plain", "--workers", "2", "--bind", f"unix:{path}")
    with serving(folder, credentials, *options) as host:
        host.wait_output(f"listening on unix:{path}: HTTP/1.1")
        roll(host)
        with connect_to(str(path), "h1") as connection:
            assert connection.request("GET", "/").body == b"Hello"
            ws = connection.websocket("/ws")
            assert host.process is not None
            host.process.send_signal(signal.SIGTERM)
            assert ws.expect_close() == (1001, "server shutting down")
            assert not path.exists()  # a new client is refused, not kept waiting
        assert host.process.wait(TIMEOUT) == 0


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
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), workers)


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
    dies = "import os\nif os.path.exists('dying'): os._exit(3)\n"
    (folder / "apps.py").write_text(
        dies + APPS + PIDS + "router.get('/die', lambda: os._exit(3))"
    )
    options = ("apps:router", "--plain", "--workers", "2")
    with serving(folder, credentials, *options) as host:
        wait_until(lambda: len(workers_of(host)) == 2, host)
        (folder / "dying").touch()
        with host.connect("h1") as connection, contextlib.suppress(*LOST):
            connection.request("GET", "/die")
        for pause in (0.1, 0.2, 0.4):
            host.wait_output(f"ended with code 3; another in {pause} s")
        (folder / "dying").unlink()
        wait_until(lambda: len(workers_of(host)) == 2, host)
        with host.connect("h1") as connection:
            assert connection.request("GET", "/").body == b"Hello"


def test_a_changed_file_starts_again(folder: Path, credentials: Credentials) -> None:
    pytest.importorskip("watchfiles")
    patterns = ("--reload-include", "*.html", "--reload-exclude", "generated/*")
    options = ("apps:router", "--plain", "--reload", *patterns)
    (folder / "generated").mkdir()
    with serving(folder, credentials, *options) as host:

        def noticed() -> bool:  # it may begin to watch later than it begins to serve
            (folder / "apps.py").write_text(APPS.replace('"Hello"', '"Changed"'))
            return "apps.py changed, starting again" in host.output()

        wait_until(noticed, host)

        def changed() -> bool:
            with host.connect("h1") as connection:
                return connection.request("GET", "/").body == b"Changed"

        wait_until(changed, host)
        (folder / "generated" / "new.py").touch()  # in the same batch, or before
        (folder / "page.html").touch()
        host.wait_output("page.html changed, starting again")
        assert "new.py" not in host.output()


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_one_process_loads_its_certificate_at_a_signal(
    folder: Path, credentials: Credentials, ca: trustme.CA, number: signal.Signals
) -> None:
    files = ("--cert", "cert.pem", "--key", "key.pem")
    with serving(folder, credentials, "apps:router", *files) as host:
        old = serial(host, credentials.client)
        with host.connect("h2") as connection, Load(host, credentials.client) as load:
            ws = connection.websocket("/ws")
            load.wait(5)
            replace_certificate(folder, ca)
            os.kill(host.pid, number)
            host.wait_output("certificate reloaded")
            assert serial(host, credentials.client) != old
            load.wait(5)
            ws.echo("still here")
        assert set(load.results) == {"good"}
        (folder / "key.pem").write_text("no key")
        os.kill(host.pid, number)
        host.wait_output("keeping the old certificate: ")
        assert serial(host, credentials.client) != old


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU])
def test_one_process_stays_one(
    folder: Path, credentials: Credentials, number: signal.Signals
) -> None:
    with serving(folder, credentials, "apps:router", "--plain") as host:
        os.kill(host.pid, number)
        host.wait_output("there is one process")
        with host.connect("h1") as connection:
            assert connection.request("GET", "/").body == b"Hello"


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_without_a_certificate_those_signals_do_nothing(
    folder: Path, credentials: Credentials, number: signal.Signals
) -> None:
    with serving(folder, credentials, "apps:router", "--plain") as host:
        with host.connect("h1") as connection:
            os.kill(host.pid, number)
            assert connection.request("GET", "/").body == b"Hello"
        assert host.process is not None
        assert host.process.poll() is None


# Workers that are replaced ----------------------------------------------------------

WEARING_OUT = """
import time

def block():
    open("blocked", "w").close()
    time.sleep(600)

router.get("/block", block)

eaten = []

def eat():
    eaten.append(b"x" * (200 << 20))
    return str(os.getpid())

router.get("/eat", eat)
"""

RUNTIMES_AND_WORKERS: list[tuple[RuntimeName, int]] = [
    ("asyncio", 1),
    ("asyncio", 2),
    ("trio", 1),
    ("trio", 2),
]


@pytest.mark.parametrize(("runtime", "count"), RUNTIMES_AND_WORKERS)
def test_max_requests_replaces_workers_and_loses_no_request(
    folder: Path, credentials: Credentials, runtime: RuntimeName, count: int
) -> None:
    pytest.importorskip(runtime)
    options = ("--max-requests", "40", "--max-requests-jitter", "10")
    more = ("--workers", str(count), "--runtime", runtime)
    with serving(folder, credentials, "apps:router", *options, *more) as host:
        host.wait_output("listening on")
        pauses = (0, 0.01, 0.01, 0.1, 0.3)
        with Load(host, credentials.client, pauses=pauses) as load:
            wait_until(lambda: len(load.first_answers) >= count + 3, host, TIMEOUT * 4)
            load.wait(20)
        printed = host.output()
    assert set(load.results) == {"good"}
    assert re.search(
        r"worker \d \(pid \d+\) is to be replaced: (4\d|50) requests", printed
    )


def test_a_websocket_counts_as_one_request_and_its_worker_serves_on(
    folder: Path, credentials: Credentials
) -> None:
    options = ("apps:router", "--max-requests", "3")
    with (
        serving(folder, credentials, *options) as host,
        host.connect("h2") as connection,
    ):
        sockets = [connection.websocket("/ws") for _ in range(3)]
        host.wait_output("is to be replaced: 3 requests")
        for ws in sockets:
            ws.echo("until the successor is ready, and told then")
        for ws in sockets:
            assert ws.expect_close() == (1001, "server shutting down")


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_a_worker_that_blocks_is_replaced_and_says_where(
    folder: Path, credentials: Credentials, runtime: RuntimeName
) -> None:
    pytest.importorskip(runtime)
    (folder / "apps.py").write_text(APPS + PIDS + WEARING_OUT)
    limit = f"{PATIENCE:g}"
    options = ("--workers", "2", "--runtime", runtime, "--worker-timeout", limit)
    with serving(folder, credentials, "apps:router", *options) as host:
        serving_pids(host, credentials, 2)
        with host.connect("h1s") as connection:
            assert isinstance(connection, H1Connection)
            blocked = int(connection.request("GET", "/pid").body)
            connection.send_raw(b"GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until((folder / "blocked").exists, host)
            host.wait_output(f"(pid {blocked}) has not answered for {limit} s: it is")
            serving_pids(host, credentials, 1, without={blocked})
            host.wait_output("did not answer; starting another")
            # what the supervisor says may stand in the middle of that line, and a line
            # comes in pieces
            host.wait_output("Fatal Python error: ")
            host.wait_output('apps.py", line ')
            host.wait_output(" in block\n")
            with pytest.raises(LOST):
                connection.read_exactly(1)
        serving_pids(host, credentials, 2, without={blocked})


@pytest.mark.parametrize("runtime", ["asyncio", "trio"])
def test_any_worker_says_that_another_one_stands_still(
    folder: Path, credentials: Credentials, runtime: RuntimeName
) -> None:
    pytest.importorskip(runtime)
    (folder / "apps.py").write_text(APPS + PIDS + WEARING_OUT)
    health = ("--health-path", "/healthz", "--health-lag", "0.5")
    limit = str(10 * PATIENCE)  # so long there is something to see
    options = ("--workers", "2", "--runtime", runtime, "--worker-timeout", limit)
    with serving(folder, credentials, "apps:router", *options, *health) as host:
        serving_pids(host, credentials, 2)

        def status() -> int:
            with host.connect("h1s") as connection:
                return connection.request("GET", "/healthz").status

        wait_until(lambda: status() == 200, host)
        with host.connect("h1s") as connection:
            assert isinstance(connection, H1Connection)
            connection.send_raw(b"GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n")
            wait_until((folder / "blocked").exists, host)  # it accepts no more
            wait_until(lambda: status() == 503, host)
            host.wait_output("did not answer; starting another")
        wait_until(lambda: status() == 200, host)


def test_a_worker_that_grows_too_large_is_replaced(
    folder: Path, credentials: Credentials
) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("Linux has it")
    (folder / "apps.py").write_text(APPS + PIDS + WEARING_OUT)
    options = ("apps:router", "--max-worker-rss", "200")
    with serving(folder, credentials, *options) as host:
        large = int(ask(host, credentials, "/eat"))
        with Load(host, credentials.client) as load:
            host.wait_output("MiB of memory, --max-worker-rss is 200")
            wait_until(lambda: not psutil.pid_exists(large), host, TIMEOUT * 2)
            load.wait(5)
        assert set(load.results) == {"good"}
        assert host.output().count("is to be replaced") == 1


def test_ttin_and_ttou_change_the_number(
    workers: Host, credentials: Credentials
) -> None:
    with Load(workers, credentials.client) as load:
        os.kill(workers.pid, signal.SIGTTIN)
        workers.wait_output("tako: one worker more: 3")
        serving_pids(workers, credentials, 3)
        for left in (2, 1):
            os.kill(workers.pid, signal.SIGTTOU)
            workers.wait_output(f"tako: one worker less: {left}")
        wait_until(lambda: len(workers_of(workers)) == 1, workers)
        os.kill(workers.pid, signal.SIGTTOU)
        workers.wait_output("tako: there is one worker, and can be no less")
        load.wait(5)
    assert set(load.results) == {"good"}
    assert len(workers_of(workers)) == 1


SLOW = """
import tako

async def slow():
    open("slow", "w").close()
    while not os.path.exists("go"):
        await tako.sleep(0.01)
    return "answered"

router.get("/slow", slow)
"""
HOLDS = "import os, time\nwhile os.path.exists('hold'): time.sleep(0.01)\n"
BEGINS = "open('begun', 'w').close()\n"


class TestOneSignalIsEnough:
    """A first SIGTERM or SIGINT ends everything with code 0, whatever is going on."""

    @staticmethod
    def hold(folder: Path) -> None:
        """Have workers that start from now on wait at their start."""
        (folder / "hold").touch()
        (folder / "apps.py").write_text(BEGINS + HOLDS + APPS + PIDS)

    @staticmethod
    def tell(pids: Iterable[int]) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):  # it had nothing to drain
                os.kill(pid, signal.SIGTERM)

    def starting(self, host: Host, folder: Path) -> None:
        wait_until((folder / "begun").exists, host)

    def rolling(self, host: Host, folder: Path) -> None:
        self.hold(folder)
        os.kill(host.pid, signal.SIGHUP)
        wait_until((folder / "begun").exists, host)

    def growing(self, host: Host, folder: Path) -> None:
        self.hold(folder)
        os.kill(host.pid, signal.SIGTTIN)
        wait_until((folder / "begun").exists, host)

    def pausing(self, host: Host, folder: Path) -> None:
        (folder / "apps.py").write_text("import os\nos._exit(3)\n")
        os.kill(max(workers_of(host)), signal.SIGKILL)
        host.wait_output("ended with code 3; another in 0.4 s")

    def dying(self, host: Host, folder: Path) -> None:
        for pid in workers_of(host):
            os.kill(pid, signal.SIGKILL)

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    @pytest.mark.parametrize(
        "state", ["starting", "rolling", "growing", "pausing", "dying"]
    )
    def test_in_every_state(
        self,
        folder: Path,
        credentials: Credentials,
        state: str,
        number: signal.Signals,
    ) -> None:
        if state == "starting":
            self.hold(folder)
        options = ("apps:router", "--plain", "--workers", "2")
        with serving(folder, credentials, *options) as host:
            if state != "starting":
                wait_until(lambda: len(workers_of(host)) == 2, host)
                with host.connect("h1") as connection:
                    assert connection.request("GET", "/").status == 200
            getattr(self, state)(host, folder)
            pids = workers_of(host)
            assert host.process is not None
            host.process.send_signal(number)
            assert host.process.wait(TIMEOUT) == 0, host.output()
            assert not any(map(psutil.pid_exists, pids))

    @pytest.mark.parametrize("runtime", ["asyncio", "trio"])
    @pytest.mark.parametrize("first", ["supervisor", "workers"])
    def test_systemd_signals_the_workers_as_well(
        self,
        folder: Path,
        credentials: Credentials,
        runtime: RuntimeName,
        first: str,
    ) -> None:
        """``KillMode=control-group``, the default, tells every process of the unit."""
        pytest.importorskip(runtime)
        (folder / "apps.py").write_text(APPS + PIDS + SLOW)
        options = ("apps:router", "--plain", "--workers", "2", "--runtime", runtime)
        with (
            serving(folder, credentials, *options) as host,
            host.connect("h1") as told,
            host.connect("h1") as connection,
        ):
            wait_until(lambda: len(workers_of(host)) == 2, host)
            ws = told.websocket("/ws")
            ws.echo("open")
            assert isinstance(connection, H1Connection)
            connection.send_request("GET", "/slow")
            wait_until((folder / "slow").exists, host)
            pids = workers_of(host)
            order = [host.pid, *pids] if first == "supervisor" else [*pids, host.pid]
            self.tell(order)
            assert ws.expect_close() == (1001, "server shutting down")
            self.tell(pids)  # and once more, while they drain
            (folder / "go").touch()
            assert connection.read_response().body == b"answered"
            assert host.process is not None
            assert host.process.wait(TIMEOUT) == 0
