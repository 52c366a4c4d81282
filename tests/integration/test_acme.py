"""Certificates from a real ACME server, Pebble; skipped where it is not installed."""

import contextlib
import logging
import os
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

import tako
from tako.acme import keeper, renewal
from tako.acme.authority import Ordering
from tako.acme.store import Store
from tako.server import certificate_watch
from tako.tls import Acme
from tako.tls.acme import AcmeFiles
from tests.support.children import Child
from tests.support.patience import TIMEOUT
from tests.support.pebble import Pebble, needs_pebble
from tests.support.ports import free_port
from tests.support.server import RuntimeName


pytestmark = needs_pebble

ROOT = Path(__file__).parents[2]
REQUEST = b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def pebble(
    ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pebble]:
    with Pebble(tmp_path_factory.mktemp("pebble"), ca) as running:
        yield running


@pytest.fixture(autouse=True)
def _quick_and_trusting(pebble: Pebble, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(pebble.ca_file))
    monkeypatch.setattr(renewal, "LOOK", 0.05)
    monkeypatch.setattr(keeper, "BUSY", 0.05)
    monkeypatch.setattr(certificate_watch, "_EVERY", 0.05)


class Clock:
    """A clock that stands still, and counts how often it was read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._start = keeper.utc_now()
        self.ahead = timedelta()
        self.reads = 0
        monkeypatch.setattr(keeper, "keep", partial(keeper.keep, clock=self))

    def __call__(self) -> datetime:
        self.reads += 1
        return self._start + self.ahead

    def wait_for_reads(self, count: int) -> None:
        until = self.reads + count
        wait_for(lambda: self.reads >= until)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Served:
    """A server in a thread, and clients that trust what the authority issues."""

    def __init__(self, pebble: Pebble, acme: Acme, port: int) -> None:
        self.pebble = pebble
        self.acme = acme
        self.port = port
        self.requests = 0

    @property
    def store(self) -> Store:
        return Store(self.acme.certificate.parent)

    def app(self) -> tako.Router:
        router = tako.Router()

        @router.get("/")
        async def answer() -> str:
            self.requests += 1
            return "here"

        return router

    def connect(self, *alpn: str, name: str | None = None) -> ssl.SSLSocket:
        context = ssl.create_default_context()
        if alpn:
            context.set_alpn_protocols(alpn)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        else:
            context.load_verify_locations(cadata=self.pebble.root().decode())
        sock = socket.create_connection(("127.0.0.1", self.port), TIMEOUT)
        try:
            host = self.acme.names[0] if name is None else name
            return context.wrap_socket(sock, server_hostname=host)
        except BaseException:
            sock.close()
            raise

    def serves(self) -> bool:
        try:
            self.connect().close()
        except ssl.SSLError:
            return False
        return True

    def settle(self) -> None:
        """Wait until nothing more is asked of the authority.

        What anyio connects while it is cancelled, is closed by the garbage collector.
        """
        wait_for(lambda: self.store.memory().ask_at)

    def serial(self) -> Any:
        with self.connect() as sock:
            certificate: Any = sock.getpeercert()
        return certificate["serialNumber"]

    def get(self) -> bytes:
        with self.connect() as sock:
            sock.sendall(REQUEST)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    data = b""
    while piece := sock.recv(65_536):
        data += piece
    return data


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)  # files and a server in other threads have no event for us


@contextlib.contextmanager
def serving(
    pebble: Pebble,
    acme: Acme,
    runtime: RuntimeName = "asyncio",
    port: int | None = None,
) -> Iterator[Served]:
    """Serve at the port that the authority looks at, or at another one."""
    served = Served(pebble, acme, pebble.tls_port if port is None else port)
    ready, end, failures = threading.Event(), threading.Event(), list[Exception]()

    async def main() -> None:
        async def ended() -> None:
            while not end.is_set():
                await tako.sleep(0.02)

        address = f"127.0.0.1:{served.port}"
        running = tako.serve_tls(address, served.app(), tls=acme, shutdown=ended)
        async with running as server:
            ready.set()
            await server.wait_closed()

    def run() -> None:
        try:
            if runtime == "trio":
                tako.run(main, runtime="trio")
            else:
                tako.run(main, loop=runtime)
        except Exception as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(TIMEOUT)
    assert not failures
    try:
        yield served
    finally:
        end.set()
        thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert not failures


def made(pebble: Pebble, folder: Path, *names: str) -> Acme:
    return Acme(
        *(names or ("a.test", "b.test")),
        directory=pebble.directory,
        email="admin@a.test",
        folder=folder / "acme",
    )


def lines(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    found = [it.getMessage() for it in list(caplog.records) if it.name == "tako.acme"]
    return [each for each in found if text in each]


def hang(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str) -> threading.Event:
    """Have a method never return; tell when it is called."""
    called = threading.Event()

    async def never(*_: object) -> None:
        called.set()
        while True:
            await tako.sleep(3600)

    monkeypatch.setattr(owner, name, never)
    return called


# --------------------------------------------------------------------------------------


def test_a_certificate_is_ordered_and_served(
    pebble: Pebble,
    tmp_path: Path,
    runtime: RuntimeName,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tako.acme")
    with serving(pebble, made(pebble, tmp_path), runtime) as served:
        wait_for(served.serves)
        for name in served.acme.names:
            served.connect(name=name).close()
        assert served.get().endswith(b"here")
        # the authority was here, too, and the app has not seen it
        assert served.requests == 1
        served.settle()
        assert not list(served.acme.certificate.parent.glob("challenge-*"))
    assert len(lines(caplog, "ordering a certificate for a.test, b.test")) == 1
    assert len(lines(caplog, "certificate for a.test, b.test issued")) == 1
    with serving(pebble, made(pebble, tmp_path), runtime) as served:
        assert served.serves()  # at once: it is on disk
    assert len(lines(caplog, "ordering")) == 1


def test_it_is_renewed_under_load_without_a_lost_connection(
    pebble: Pebble, tmp_path: Path, clock: Clock
) -> None:
    with serving(pebble, made(pebble, tmp_path)) as served:
        wait_for(served.serves)
        first = served.serial()
        long = served.connect()
        over, problems, answers = threading.Event(), list[object](), list[bytes]()
        root = pebble.root().decode()

        def load() -> None:
            context = ssl.create_default_context(cadata=root)
            while not over.is_set():
                try:
                    with (
                        socket.create_connection(
                            ("127.0.0.1", served.port), TIMEOUT
                        ) as sock,
                        context.wrap_socket(sock, server_hostname="a.test") as tls,
                    ):
                        tls.sendall(REQUEST)
                        answers.append(read_all(tls))
                except OSError as error:
                    problems.append(error)

        threads = [threading.Thread(target=load, daemon=True) for _ in range(2)]
        for each in threads:
            each.start()
        try:
            wait_for(lambda: len(answers) > 2)
            clock.ahead = timedelta(days=365 * 4)  # of five years
            wait_for(lambda: served.serial() != first)
            count = len(answers)
            wait_for(lambda: len(answers) > count + 2)
        finally:
            over.set()
            for each in threads:
                each.join(TIMEOUT)
        assert problems == []
        assert all(each.endswith(b"here") for each in answers)
        with long:  # its handshake was with the old certificate
            long.sendall(REQUEST)
            assert read_all(long).endswith(b"here")
        served.settle()


def test_an_authority_that_is_down_is_tried_again(
    ca: trustme.CA,
    tmp_path: Path,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pebble(tmp_path, ca) as pebble:
        pebble.stop()
        with serving(pebble, made(pebble, tmp_path)) as served:
            wait_for(lambda: lines(caplog, "could not be used"))
            with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
                served.connect("h2")
            clock.wait_for_reads(3)  # it looks, and leaves the authority alone
            (line,) = lines(caplog, "no certificate for a.test, b.test")
            assert line.endswith("the next try is in 1 min")
            assert served.store.memory().failures == 1
            pebble.start()
            clock.ahead = timedelta(minutes=2)
            wait_for(served.serves)
            served.settle()
            assert served.store.memory().failures == 0


def test_an_authority_that_refuses_is_left_alone_for_long(
    pebble: Pebble, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()  # it finds nothing where it looks
    with serving(pebble, made(pebble, tmp_path, "c.test"), port=port) as served:
        wait_for(lambda: served.store.memory().failures)
        clock.wait_for_reads(5)
        (line,) = lines(caplog, "no certificate for c.test")
        assert "refuses: c.test: " in line
        assert "the next try is in 1" in line
        memory = served.store.memory()
        assert (memory.failures, memory.order) == (1, None)
        assert 900 <= memory.pause <= 1125
    clock.ahead = timedelta(minutes=14)
    with serving(pebble, made(pebble, tmp_path, "c.test")) as served:
        clock.wait_for_reads(5)  # a restart does not shorten the pause
        assert served.store.memory() == memory
        clock.ahead = timedelta(minutes=20)
        wait_for(served.serves)
        served.settle()


def test_with_a_clock_ahead_one_certificate_is_ordered(
    pebble: Pebble, tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tako.acme")
    clock.ahead = timedelta(days=365 * 10)
    with serving(pebble, made(pebble, tmp_path)) as served:
        wait_for(served.serves)
        wait_for(lambda: lines(caplog, "clock seems to be wrong"))
        clock.wait_for_reads(10)
        assert len(lines(caplog, "issued by")) == 1
        assert served.get().endswith(b"here")


@pytest.mark.parametrize("where", ["answer_challenge", "get_certificate"])
def test_an_order_goes_on_after_a_restart_in_its_middle(
    pebble: Pebble,
    tmp_path: Path,
    where: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    import aioacme

    caplog.set_level(logging.DEBUG, "tako.acme")
    with pytest.MonkeyPatch.context() as patch:
        called = hang(patch, aioacme.Client, where)
        with serving(pebble, made(pebble, tmp_path)) as served:
            assert called.wait(TIMEOUT)
            left = served.store.memory().order
            assert left is not None
    with serving(pebble, made(pebble, tmp_path)) as served:
        wait_for(served.serves)
        assert len(lines(caplog, f"the order {left} goes on")) == 1
        served.settle()
        assert served.store.memory().order is None
        assert not served.store.has_order_key()


def test_an_order_that_the_authority_has_forgotten_begins_anew(
    pebble: Pebble, tmp_path: Path
) -> None:
    acme = made(pebble, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        called = hang(patch, Ordering, "_completed")
        with serving(pebble, acme) as served:
            assert called.wait(TIMEOUT)
            served.store.remember(
                renewal.Memory(order=f"{pebble.directory[:-4]}/my-order/gone")
            )
    with serving(pebble, acme) as served:
        wait_for(served.serves)
        served.settle()


def test_a_challenge_ends_with_its_handshake_and_never_reaches_the_app(
    pebble: Pebble,
    tmp_path: Path,
    runtime: RuntimeName,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import aioacme

    called = hang(monkeypatch, aioacme.Client, "answer_challenge")
    acme = made(pebble, tmp_path, "a.test")
    with serving(pebble, acme, runtime) as served:
        assert called.wait(TIMEOUT)
        with served.connect("acme-tls/1") as sock:
            assert sock.selected_alpn_protocol() == "acme-tls/1"
            with contextlib.suppress(OSError):  # it may be closed already
                sock.sendall(REQUEST)
            with contextlib.suppress(ConnectionResetError):
                assert sock.recv(1) == b""
        for name in ("b.test", "x" * 60):
            with pytest.raises(ssl.SSLError, match=r"(?i)no.application.protocol"):
                served.connect("acme-tls/1", name=name)
        assert served.requests == 0
    assert not list(acme.certificate.parent.glob("challenge-*"))


def test_one_of_two_workers_orders_and_both_load(
    pebble: Pebble, tmp_path: Path
) -> None:
    (tmp_path / "app.py").write_text(
        "import os, tako\n"
        "router = tako.Router()\n"
        "@router.get('/')\n"
        "async def answer() -> str: return 'here'\n"
    )
    acme = made(pebble, tmp_path)
    words = [
        *("serve", "app:router", "--workers", "2", "--acme", "a.test"),
        *("--acme", "b.test", "--acme-directory", pebble.directory),
        *("--acme-dir", str(acme.folder), "--acme-email", "admin@a.test"),
        *("--bind", f"127.0.0.1:{pebble.tls_port}", "--log-level", "debug"),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    AcmeFiles(acme).ready(("h2",), None)
    with contextlib.ExitStack() as stack:
        with Store(
            acme.certificate.parent
        ).locked() as ours:  # until both are there to want it
            assert ours
            child = stack.enter_context(
                Child(
                    [sys.executable, "-m", "tako", *words],
                    limit=3 * TIMEOUT,
                    cwd=tmp_path,
                    env=environment,
                )
            )
            wait_for(lambda: child.error_text.count("state is DUE") == 2)
        wait_for(lambda: child.error_text.count("certificate reloaded") == 2)
        assert child.error_text.count("issued by") == 1
        assert child.error_text.count("ordering a certificate") == 1
        assert Served(pebble, acme, pebble.tls_port).get().endswith(b"here")
        child.terminate()
        assert child.wait(TIMEOUT) == 0
