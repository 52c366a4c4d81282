"""``Service`` on a fake runtime: accepting, backoff, permits, handshakes, drain."""

import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tako.config import AcceptBackoff, ServerConfig
from tako.http.conn_info import UnixPeer
from tako.http.request import Request
from tako.http.response import Response
from tako.server.listener import Listener
from tako.server.service import Endpoint, Service, ServicePhase
from tako.tcp.connection import TcpConnection
from tako.tls.certificates import TlsCert, TlsSettings
from tako.ws.responder import TakoWs
from tako.ws.websocket import WebSocket
from tests.support.server import Credentials
from tests.support.wire import (
    Cancelled,
    FakeRuntime,
    FakeSignal,
    FakeTask,
    FakeTransport,
)


GOING_AWAY = (1001).to_bytes(2) + b"server shutting down"


class ServerRuntime(FakeRuntime):
    """A ``ServerRuntime`` that gets the connections that the test makes."""

    def __init__(self) -> None:
        super().__init__()
        self.incoming: list[socket.socket | Exception] = []
        self.arrived = self.signal()
        self.slept: list[float] = []
        self.attached: list[TcpConnection] = []
        self.transports: list[FakeTransport] = []
        self.attach_error: Exception | None = None
        self.attach_gate: FakeSignal | None = None

    async def accept(self, _: socket.socket) -> tuple[socket.socket, object]:
        while not self.incoming:
            await self.arrived.wait()
        what = self.incoming.pop(0)
        if isinstance(what, Exception):
            raise what
        return what, ""

    async def attach(self, sock: socket.socket, connection: TcpConnection) -> None:
        if self.attach_gate is not None:
            await self.attach_gate.wait()
        if self.attach_error is not None:
            raise self.attach_error
        sock.close()
        self.attached.append(connection)
        transport = FakeTransport()
        self.transports.append(transport)
        connection.connection_made(transport)
        abort = transport.abort

        def aborted() -> None:
            abort()
            self.call_soon(lambda: connection.connection_lost(None))

        transport.abort = aborted  # type: ignore[method-assign]

    async def sleep(self, delay: float) -> None:
        if delay:
            self.slept.append(delay)
            await super().sleep(delay)

    @property
    def busy(self) -> int:
        return sum(not task.done for task in self.tasks if task is not self.main)

    async def finished(self) -> None:
        while self.busy:
            await self.signal().wait(0.01)

    def cancel_tasks(self) -> None:
        for task in list(self.tasks):
            if task is not self.main:
                task.cancel()

    async def shielded(self, function: Callable[[], Awaitable[Any]]) -> None:
        await function()

    async def run_within(
        self, timeout: float, function: Callable[[], Awaitable[Any]]
    ) -> Any:
        late: list[bool] = []
        task = self.spawn(function)
        self.tasks.remove(task)

        def expire() -> None:
            late.append(True)
            task.cancel()

        timer = self.call_at(self.now + timeout, expire)
        while not task.done:
            await self.signal().wait(0.01)
        timer.cancel()
        if late:
            raise TimeoutError
        return task.result

    main: FakeTask


class Router:
    """Answers after ``gate`` was set."""

    def __init__(self, runtime: FakeRuntime) -> None:
        self.gate = runtime.signal()
        self.paths: list[str] = []
        self.unwound: list[str] = []

    async def _session(self, _: WebSocket) -> None:
        try:
            await self.gate.wait()
        except Cancelled:
            self.unwound.append("session")
            raise

    async def dispatch(self, request: Request, *, timer: Any = None) -> Response:
        self.paths.append(request.path)
        if request.is_websocket:
            return TakoWs(request, self._session).into_response()
        if request.path != "/":
            try:
                await self.gate.wait()
            except Cancelled:
                self.unwound.append(request.path)
                raise
        return Response(200, body=b"done")


class Running:
    """A service and what came of it."""

    def __init__(
        self,
        config: ServerConfig | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        self.runtime = ServerRuntime()
        self.router = Router(self.runtime)
        self.socket = socket.socket(socket.AF_UNIX)  # as the pairs are
        self.listener = Listener([self.socket])
        self.service = Service(
            self.runtime,  # type: ignore[arg-type]
            self.listener,
            self.router,
            endpoint or Endpoint(),
            config or ServerConfig(),
        )
        self.peers: list[socket.socket] = []
        self.runtime.main = self.runtime.spawn(self.service.run)
        self.runtime.run_ready()

    @property
    def main(self) -> FakeTask:
        return self.runtime.main

    def connect(self) -> None:
        ours, theirs = socket.socketpair()
        self.peers.append(theirs)
        self.arrive(ours)

    def arrive(self, what: socket.socket | Exception) -> None:
        self.runtime.incoming.append(what)
        self.runtime.arrived.set()
        self.runtime.run_ready()

    def request(self, number: int, path: str) -> None:
        self.runtime.attached[number].data_received(
            b"GET %s HTTP/1.1\r\nhost: localhost\r\n\r\n" % path.encode()
        )
        self.runtime.run_ready()

    def websocket(self) -> int:
        """Connect and open a WebSocket; return its number."""
        self.connect()
        self.runtime.attached[-1].data_received(
            b"GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\n"
            b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
            b"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        self.runtime.run_ready()
        assert b" 101 " in self.runtime.transports[-1].take()
        return len(self.runtime.transports) - 1

    def told(self, number: int) -> bool:
        """Tell whether the last that a WebSocket was sent is Close 1001."""
        sent: bytes = self.runtime.transports[number].take()
        return GOING_AWAY in sent

    def lose(self, number: int) -> None:
        self.runtime.attached[number].connection_lost(None)
        self.runtime.run_ready()

    def close(self) -> None:
        self.main.cancel()
        self.runtime.advance(1)
        assert self.main.done
        self.runtime.close()
        self.listener.close()
        for sock in [*self.peers, *self.runtime.incoming]:
            if isinstance(sock, socket.socket):
                sock.close()


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Running] = []

    def begin(*args: Any, **options: Any) -> Running:
        running.append(Running(*args, **options))
        return running[-1]

    yield begin
    for each in running:
        each.close()


class TestAccepting:
    def test_the_backoff_doubles_up_to_its_maximum(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start()
        for _ in range(10):
            service.arrive(OSError(24, "Too many open files"))
            service.runtime.advance(2)
        milliseconds = [round(pause * 1000) for pause in service.runtime.slept]
        assert milliseconds == [5, 10, 20, 40, 80, 160, 320, 640, 1000, 1000]
        texts = {record.message for record in caplog.records}
        assert texts == {"accept failed: [Errno 24] Too many open files; backing off"}
        assert {record.levelno for record in caplog.records} == {logging.WARNING}
        assert not service.main.done, "an error of accept is never fatal"

    def test_a_connection_resets_it(self, start: Start) -> None:
        backoff = AcceptBackoff(initial=0.1, max=0.3)
        service = start(ServerConfig(accept_backoff=backoff))
        for _ in range(3):
            service.arrive(OSError("no"))
            service.runtime.advance(1)
        service.connect()
        service.arrive(OSError("no"))
        assert service.runtime.slept == [0.1, 0.2, 0.3, 0.1]

    def test_shutdown_does_not_wait_for_it(self, start: Start) -> None:
        service = start()
        service.arrive(OSError("no"))
        service.service.stop()
        service.runtime.run_ready()
        service.runtime.advance(0)
        assert service.socket.fileno() == -1

    def test_a_bug_ends_the_service_and_is_raised(self, start: Start) -> None:
        service = start()
        service.arrive(RuntimeError("bug"))
        service.runtime.advance(0.1)
        assert isinstance(service.main.error, RuntimeError)
        assert service.socket.fileno() == -1

    def test_a_peer_that_is_gone_already_is_no_error(self, start: Start) -> None:
        service = start()
        sock, peer = socket.socketpair()
        sock.close()
        peer.close()
        service.arrive(sock)
        service.connect()
        assert len(service.runtime.attached) == 1

    @pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("closed")])
    def test_one_that_cannot_be_attached_gives_its_permit_back(
        self, start: Start, error: Exception
    ) -> None:
        service = start(ServerConfig(max_connections=1))
        service.runtime.attach_error = error
        service.connect()
        service.runtime.attach_error = None
        service.connect()
        assert len(service.runtime.attached) == 1


class TestBlockedLoop:
    def test_a_loop_that_stands_still_is_logged(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start()
        service.runtime.advance(5)
        assert not caplog.records
        service.runtime.now += 2.5
        service.runtime.advance(5)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert record.message.startswith("the event loop was blocked for 2.")

    @pytest.mark.parametrize("end", ["drained", "cancelled"])
    def test_the_watch_ends_with_the_service(self, start: Start, end: str) -> None:
        service = start()
        if end == "drained":
            service.service.stop()
        else:
            service.main.cancel()
        service.runtime.advance(1)
        assert service.main.done
        assert not [each for each in service.runtime.timers if each.callback]


class TestPermits:
    def test_the_next_one_waits_until_one_is_free(self, start: Start) -> None:
        service = start(ServerConfig(max_connections=2))
        for _ in range(4):
            service.connect()
        assert len(service.runtime.attached) == 2
        assert len(service.runtime.incoming) == 1, "one more is accepted and parked"
        service.lose(0)
        assert len(service.runtime.attached) == 3

    def test_one_that_is_being_attached_is_served_by_the_drain(
        self, start: Start
    ) -> None:
        service = start()
        gate = service.runtime.attach_gate = service.runtime.signal()
        service.connect()
        service.service.stop()
        service.runtime.run_ready()
        gate.set()
        service.runtime.run_ready()
        assert len(service.runtime.attached) == 1
        assert service.socket.fileno() == -1

    def test_shutdown_does_not_wait_for_one(self, start: Start) -> None:
        service = start(ServerConfig(max_connections=1))
        service.connect()
        service.connect()
        service.service.stop()
        service.runtime.advance(1)
        service.lose(0)
        service.runtime.advance(1)
        assert service.main.done
        assert service.peers[1].recv(1) == b"", "the parked one is closed"


class TestHandshakes:
    @pytest.fixture
    def endpoint(self, credentials: Credentials) -> Endpoint:
        cert = TlsCert.pem_paths(credentials.cert, credentials.key)
        return Endpoint(protocol="tls", tls=TlsSettings(cert))

    def test_the_oldest_unfinished_one_makes_room(
        self, start: Start, endpoint: Endpoint
    ) -> None:
        service = start(ServerConfig(max_tls_handshakes=3), endpoint)
        for _ in range(5):
            service.connect()
        aborted = [each.aborted for each in service.runtime.transports]
        assert aborted == [True, True, False, False, False]

    def test_lost_ones_do_not_count(self, start: Start, endpoint: Endpoint) -> None:
        service = start(ServerConfig(max_tls_handshakes=3), endpoint)
        for _ in range(3):
            service.connect()
        service.lose(1)
        service.connect()
        assert not any(each.aborted for each in service.runtime.transports)

    def test_lost_ones_are_not_remembered(
        self, start: Start, endpoint: Endpoint
    ) -> None:
        service = start(None, endpoint)
        for number in range(50):
            service.connect()
            service.lose(number)
        assert not service.service._handshakes._queue
        assert not service.service._connections


class TestCertificates:
    def test_files_that_change_are_loaded_and_broken_ones_told_of_once(
        self,
        start: Start,
        ca: trustme.CA,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        leaves = {name: ca.issue_cert(name) for name in ("a.test", "b.test")}
        certs = {name: _write(tmp_path / name, leaves[name]) for name in leaves}
        tls = TlsSettings(TlsCert.sni({"*.test": TlsCert.sni(certs)}))
        service = start(None, Endpoint(protocol="tls", tls=tls))
        before = {name: tls.answer(name) for name in certs}
        with caplog.at_level(logging.INFO, "tako.server"):
            service.runtime.advance(5)
            assert not caplog.records
            _write(tmp_path / "a.test", ca.issue_cert("a.test"))
            (tmp_path / "b.test" / "cert.pem").write_bytes(b"half")
            service.runtime.advance(5)
        levels = sorted((each.levelname, each.getMessage()) for each in caplog.records)
        assert [level for level, _ in levels] == ["ERROR", "INFO"]
        assert levels[0][1].startswith("keeping the old certificate: failed to parse")
        assert levels[1][1] == "certificate reloaded"
        assert tls.answer("a.test") != before["a.test"]
        assert tls.answer("b.test") == before["b.test"]


def _write(folder: Path, leaf: trustme.LeafCert) -> tuple[Path, Path]:
    folder.mkdir(exist_ok=True)
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    return cert, key


class TestComplaints:
    def test_each_cause_is_told_of_once_a_minute_with_its_peer(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start()
        with caplog.at_level(logging.INFO, "tako.server"):
            for _ in range(20):
                service.connect()
                service.runtime.attached[-1].data_received(b"\x16\x03\x01\x02\0\x01")
                service.runtime.run_ready()
            assert len(caplog.records) == 1
            service.runtime.advance(61)
            service.connect()
            service.runtime.attached[-1].data_received(b"\x16\x03\x01\x02\0\x01")
            service.runtime.run_ready()
        assert [each.levelname for each in caplog.records] == ["INFO", "INFO"]
        assert caplog.records[0].getMessage() == (
            "TLS on a port for plain HTTP/1.1 (from unix; told once a minute)"
        )

    def test_a_peer_cannot_forge_a_line_with_its_name(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO, "tako.server"):
            start().service._complain("what it did", UnixPeer("a\nERROR forged\x1b["))
        assert "from a\\nERROR forged\\x1b[;" in caplog.text


class TestPhases:
    def test_a_stop_drains_and_a_drain_that_is_complete_is_done(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, "tako.server"):
            service = start()
            service.service.stop()
            service.service.stop()
            service.runtime.advance(1)
        assert _phases(caplog) == ["STOPPING", "DRAINING", "CUTTING", "DONE"]

    def test_a_bug_cuts_at_once(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, "tako.server"):
            service = start()
            service.arrive(ValueError("a bug"))
            service.runtime.advance(0.1)
        assert _phases(caplog) == ["CUTTING", "DONE"]

    def test_with_a_delay_it_leaves_first(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, "tako.server"):
            service = start(ServerConfig(drain_delay=5))
            service.service.stop()
            service.service.stop()
            service.runtime.advance(6)
        assert _phases(caplog) == [
            *("LEAVING", "STOPPING", "DRAINING", "CUTTING", "DONE"),
        ]

    @pytest.mark.skipif(not __debug__, reason="python -O does not check")
    def test_a_service_that_accepts_is_not_done(self, start: Start) -> None:
        with pytest.raises(AssertionError, match=r"DONE must not follow .*ACCEPTING"):
            start().service._enter(ServicePhase.DONE)


def _phases(caplog: pytest.LogCaptureFixture) -> list[str]:
    messages = [each.getMessage() for each in caplog.records]
    return [
        text.rpartition(" ")[2] for text in messages if text.startswith("service 0x")
    ]


class TestDelay:
    def test_all_goes_on_until_it_is_over(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start(ServerConfig(drain_delay=20, drain_timeout=30))
        service.connect()
        service.service.stop()
        service.runtime.advance(12)
        service.request(0, "/")
        service.connect()
        service.request(1, "/slow")
        assert b"connection" not in service.runtime.transports[0].take().lower()
        service.runtime.advance(7)
        assert service.socket.fileno() != -1
        service.runtime.advance(2)
        assert service.socket.fileno() == -1
        assert service.service.drain_left == 29
        service.router.gate.set()
        service.runtime.advance(5)
        assert service.main.done
        assert b"connection: close" in service.runtime.transports[1].take().lower()
        texts = [each.message for each in caplog.records]
        assert texts == [
            "still accepting for 19 s, then draining",
            "still accepting for 9 s, then draining",
            "draining: waiting for 2 connections, 1 request, 29 s at most",
        ]

    def test_permits_are_waited_for_as_before(self, start: Start) -> None:
        service = start(ServerConfig(drain_delay=10, max_connections=1))
        service.connect()
        service.service.stop()
        service.connect()
        assert len(service.runtime.attached) == 1
        service.lose(0)
        assert len(service.runtime.attached) == 2

    @pytest.mark.parametrize("when", ["before", "at its beginning", "later"])
    def test_it_is_shortened_as_the_drain_is(self, start: Start, when: str) -> None:
        """10 s and 30 s become 5 s and 15 s; 20 s from now, whatever was before."""
        early = 10 if when == "later" else 0
        service = start(ServerConfig(drain_delay=10 + early, drain_timeout=30))
        service.connect()
        service.request(0, "/slow")
        if when == "before":
            service.service.shorten_drain(20)
        service.service.stop()
        service.runtime.advance(early)
        service.service.shorten_drain(20 if when != "before" else 1000)
        service.runtime.advance(4.5)
        assert service.socket.fileno() != -1
        service.runtime.advance(1)
        assert service.socket.fileno() == -1
        service.runtime.advance(14)
        assert not service.router.unwound
        service.runtime.advance(1)
        assert service.router.unwound == ["/slow"]
        assert service.main.done

    def test_it_is_left_out_where_nothing_is_to_be_waited_for(
        self, start: Start
    ) -> None:
        for late in (False, True):
            service = start(ServerConfig(drain_delay=1000))
            service.connect()
            service.request(0, "/slow")
            if late:
                service.service.stop()
                service.runtime.advance(10)
            service.service.shorten_drain(0)
            service.service.shorten_drain(0)
            service.service.stop()
            service.runtime.advance(0.1)
            assert service.main.done

    @pytest.mark.parametrize("late", [False, True])
    def test_it_can_be_left_out(self, start: Start, late: bool) -> None:
        service = start(ServerConfig(drain_delay=1000, drain_timeout=20))
        service.connect()
        service.request(0, "/slow")
        if late:
            service.service.stop()
        service.service.stop(delay=False)
        service.service.shorten_drain(50)  # which it need not be
        service.runtime.advance(1)
        assert service.socket.fileno() == -1
        service.runtime.advance(18)
        assert not service.main.done
        service.runtime.advance(2)
        assert service.main.done

    def test_a_bug_ends_it(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, "tako.server"):
            service = start(ServerConfig(drain_delay=1000))
            service.service.stop()
            service.arrive(RuntimeError("bug"))
            service.runtime.advance(0.1)
        assert isinstance(service.main.error, RuntimeError)
        assert _phases(caplog) == ["LEAVING", "CUTTING", "DONE"]
        assert not [each for each in service.runtime.timers if each.callback]


class TestHandover:
    def test_what_was_accepted_has_a_second_for_a_request(self, start: Start) -> None:
        service = start(ServerConfig(drain_delay=1000, max_connections=1))
        service.connect()
        service.connect()
        assert len(service.runtime.attached) == 1
        service.service.hand_over()
        service.runtime.advance(0.5)
        assert service.socket.fileno() == -1
        assert len(service.runtime.attached) == 2, "no permit is needed any more"
        service.request(1, "/")
        assert b"connection" not in service.runtime.transports[1].take().lower()
        service.request(0, "/slow")
        service.runtime.advance(1)
        service.router.gate.set()
        service.runtime.run_ready()
        assert b"connection: close" in service.runtime.transports[0].take().lower()

    def test_it_ends_when_no_connection_is_left(self, start: Start) -> None:
        service = start()
        service.connect()
        service.service.hand_over()
        service.runtime.run_ready()
        service.lose(0)
        service.runtime.advance(0.1)
        assert service.main.done

    def test_it_ends_a_delay_and_has_no_longer_than_that(self, start: Start) -> None:
        service = start(ServerConfig(drain_delay=10))
        service.connect()
        service.service.stop()
        service.runtime.advance(9.5)
        service.service.hand_over()
        service.runtime.advance(0.1)
        assert service.socket.fileno() == -1
        assert not service.main.done
        service.runtime.advance(0.5)
        assert service.service._phase is ServicePhase.DRAINING

    def test_after_a_stop_it_is_a_no_op(self, start: Start) -> None:
        service = start()
        service.connect()
        service.service.stop()
        service.service.hand_over()
        service.runtime.advance(0.1)
        assert service.service._phase is ServicePhase.DRAINING


class TestSessions:
    """``drain_websockets="end"``."""

    @pytest.mark.parametrize(
        ("timeout", "closing", "rest"), [(300, 10, 10), (30, 10, 3), (100, 4, 4)]
    )
    def test_they_are_told_in_time_before_the_end(
        self, start: Start, timeout: int, closing: int, rest: int
    ) -> None:
        service = start(
            ServerConfig(
                drain_websockets="end",
                drain_timeout=timeout,
                ws_close_timeout=closing,
                ws_ping_interval=None,
            )
        )
        number = service.websocket()
        service.service.stop()
        service.runtime.advance(timeout - rest - 0.5)
        assert not service.told(number)
        service.runtime.advance(1)
        assert service.told(number)
        service.runtime.advance(rest - 1)
        assert not service.main.done
        service.runtime.advance(2)
        assert service.main.done
        assert service.router.unwound == ["session"]

    def test_by_default_they_are_told_at_once(self, start: Start) -> None:
        service = start()
        number = service.websocket()
        service.service.stop()
        service.runtime.run_ready()
        assert service.told(number)

    def test_they_are_told_earlier_if_the_drain_becomes_shorter(
        self, start: Start
    ) -> None:
        config = ServerConfig(
            drain_websockets="end", drain_timeout=1000, ws_ping_interval=None
        )
        service = start(config)
        number = service.websocket()
        service.service.stop()
        service.runtime.advance(20)
        service.service.shorten_drain(80)  # 100 s in all: 10 for closing
        service.service.shorten_drain(900)
        service.runtime.advance(69.5)
        assert not service.told(number)
        service.runtime.advance(1)
        assert service.told(number)
        service.runtime.advance(10)
        assert service.main.done

    def test_the_last_one_that_ends_by_itself_ends_the_drain(
        self, start: Start
    ) -> None:
        service = start(ServerConfig(drain_websockets="end", drain_timeout=1000))
        number = service.websocket()
        service.service.stop()
        service.runtime.advance(10)
        service.router.gate.set()
        service.runtime.run_ready()
        assert not service.told(number), "the session has ended it with 1000"
        service.runtime.attached[number].data_received(
            b"\x88\x82\0\0\0\0" + (1000).to_bytes(2)
        )
        service.runtime.advance(5)
        assert service.main.done
        assert not [each for each in service.runtime.timers if each.callback]

    def test_one_without_a_connection_is_told_as_well(self, start: Start) -> None:
        config = ServerConfig(
            drain_websockets="end", drain_timeout=100, ws_close_timeout=5
        )
        service = start(config)
        service.lose(service.websocket())
        service.service.stop()
        service.runtime.advance(94.5)
        assert not service.router.unwound
        service.runtime.advance(5)
        assert not service.main.done
        service.runtime.advance(1.5)  # with the end of the drain, at the latest
        assert service.router.unwound == ["session"]
        assert service.main.done

    def test_requests_do_not_wait_for_that(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start(ServerConfig(drain_websockets="end", drain_timeout=300))
        for path in ("/", "/slow"):
            service.connect()
            service.request(-1, path)
            service.runtime.transports[-1].take()
        service.websocket()
        service.service.stop()
        service.runtime.advance(1.5)
        (record,) = caplog.records
        assert record.message == (
            "draining: waiting for 3 connections, 1 request, 1 session "
            "(told to end in 289 s), 299 s at most"
        )
        assert service.runtime.transports[0].eof, "it was idle"
        service.router.gate.set()
        service.runtime.run_ready()
        answer = service.runtime.transports[1].take().lower()
        assert b"connection: close" in answer


class TestShutdown:
    def test_the_listener_is_closed_before_the_drain_ends(self, start: Start) -> None:
        service = start()
        service.connect()
        service.request(0, "/slow")
        service.service.stop()
        service.runtime.advance(1)
        assert service.socket.fileno() == -1
        assert not service.main.done

    def test_a_handler_is_waited_for(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start()
        service.connect()
        service.request(0, "/slow")
        service.service.stop()
        service.service.stop()
        service.runtime.advance(20)
        assert not service.main.done
        service.router.gate.set()
        service.runtime.advance(5)  # the peer never ends: tls_shutdown_timeout
        assert service.main.done
        assert b"connection: close" in service.runtime.transports[0].take().lower()
        assert not service.router.unwound
        assert "exceeded" not in caplog.text

    def test_the_drain_timeout_cuts(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start(ServerConfig(drain_timeout=7))
        service.connect()
        service.request(0, "/slow")
        service.service.stop()
        service.runtime.advance(6.5)
        assert not service.router.unwound
        service.runtime.advance(1)
        assert service.router.unwound == ["/slow"]
        assert service.main.done
        assert [record.message for record in caplog.records] == [
            "draining: waiting for 1 connection, 1 request, 6 s at most",
            "Drain timeout (7.0 s) exceeded, aborting 1 connection, 1 request",
        ]

    def test_it_says_again_and_again_what_it_waits_for(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        service = start(ServerConfig(drain_timeout=100))
        for number in range(2):
            service.connect()
            service.request(number, "/slow")
        service.service.stop()
        service.runtime.advance(0.9)
        assert not caplog.records
        service.runtime.advance(10.2)
        service.lose(0)
        service.runtime.advance(10)
        assert [record.message for record in caplog.records] == [
            "draining: waiting for 2 connections, 2 requests, 99 s at most",
            "draining: waiting for 2 connections, 2 requests, 89 s at most",
            "draining: waiting for 1 connection, 1 request, 79 s at most",
        ]
        service.router.gate.set()
        service.runtime.advance(20)
        assert service.main.done
        assert len(caplog.records) == 3

    @pytest.mark.parametrize("when", ["before", "during"])
    def test_it_can_be_shortened(
        self, start: Start, caplog: pytest.LogCaptureFixture, when: str
    ) -> None:
        service = start(ServerConfig(drain_timeout=1000))
        service.connect()
        service.request(0, "/slow")
        if when == "before":
            service.service.shorten_drain(5)
        service.service.stop()
        service.runtime.advance(0.1)
        if when == "during":
            service.service.shorten_drain(5)
        service.runtime.advance(4.5)
        assert not service.main.done
        service.runtime.advance(1)
        assert service.main.done
        assert service.router.unwound == ["/slow"]
        assert "Drain timeout (5" in caplog.text
        assert "aborting 1 connection" in caplog.text

    def test_it_cannot_be_lengthened(self, start: Start) -> None:
        service = start(ServerConfig(drain_timeout=5))
        service.connect()
        service.request(0, "/slow")
        service.service.shorten_drain(1000)
        service.service.stop()
        service.runtime.advance(6)
        assert service.main.done

    def test_cancelling_cuts_at_once_and_waits_for_the_end(self, start: Start) -> None:
        service = start()
        service.connect()
        service.request(0, "/slow")
        service.main.cancel()
        service.runtime.run_ready()
        assert service.main.cancelled
        assert service.router.unwound == ["/slow"]
        assert service.runtime.transports[0].aborted
        assert service.socket.fileno() == -1
        assert not service.service._connections
