"""Slow peers, vanishing peers, failing handlers, full tables: FX-01 to FX-26.

Timeouts are configured short; nothing here sleeps to let something happen.
"""

import asyncio
import contextlib
import signal
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tako import Request, Response, Router, ServerConfig, TakoWs, WebSocket, WsKeepAlive
from tako.testing.peer import Wire
from tako.testing.peer.frames import raw_frame
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.websocket import PeerWebSocket, encode_frame
from tests.support.attack import (
    CONTEXTS,
    HELLO,
    Attacker,
    RawH2,
    connect_block,
    literal_block,
    parse_answers,
    ws_frames,
)
from tests.support.pace import Pace, keeping_pace
from tests.support.patience import TIMEOUT
from tests.support.server import UNHURRIED, Credentials, Gate, RuntimeName
from tests.support.victim import Ledger, Victim, eventually
from tests.support.victim_process import VictimProcess


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
ONE_EACH = pytest.mark.parametrize("wire", ["h1", "h2"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
INTERNAL_ERROR = 0x2
REFUSED_STREAM = 0x7
CANCEL = 0x8
MB = 1 << 20
UNHURRIED_PROCESS = {"VICTIM_UNHURRIED": "1"}

Routes = Callable[[Router, Ledger], None]


class Attack:
    """Makes victims on one runtime and wire."""

    def __init__(
        self, credentials: Credentials, runtime: RuntimeName, wire: Wire
    ) -> None:
        self._make = (credentials, runtime, wire)
        self.victims: list[Victim] = []

    def __call__(
        self, config: ServerConfig | None = None, routes: Routes | None = None
    ) -> Victim:
        victim = Victim(*self._make, config, routes=routes)
        self.victims.append(victim.__enter__())
        return victim


@pytest.fixture
def attack(
    credentials: Credentials, runtime: RuntimeName, wire: Wire
) -> Iterator[Attack]:
    """Start victims and check them at the end."""
    found = Attack(credentials, runtime, wire)
    yield found
    for victim in found.victims:
        victim.__exit__(None, None, None)


def _peer(
    victim: Victim,
    *,
    receive_buffer: int | None = None,
    send_buffer: int | None = None,
) -> Attacker:
    return Attacker(
        victim.address,
        CONTEXTS.get(victim.wire),
        receive_buffer=receive_buffer,
        send_buffer=send_buffer,
    )


def _get(path: str = "/x", fields: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode()


def _head(path: str = "/x", *, method: str = "GET") -> bytes:
    return literal_block(
        [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ]
    )


def _hello(initial_window: int) -> bytes:
    settings = b"\0\4" + initial_window.to_bytes(4, "big")
    return HELLO + raw_frame(4, 0, 0, settings)


class TestSlowPeers:
    @H1_ONLY
    def test_fx_01_slow_heads_are_closed_in_time(self, attack: Attack) -> None:
        config = ServerConfig(header_read_timeout=1, keep_alive_timeout=30)
        victim = attack(config)
        peers = []
        for _ in range(200):
            peers.append(_peer(victim))
            peers[-1].send(b"GET / HTTP/1.1\r\nX: ")
        end = time.monotonic() + TIMEOUT
        while peers[0].ending is None:
            assert time.monotonic() < end, "a byte now and then buys time"
            peers[0].send(b"y")
            peers[0].pump(lambda: False, 0.05)
        peers[0].socket.close()
        for peer in peers[1:]:
            with peer:
                assert peer.read_to_end() == "eof"
                statuses = {
                    a.status for a in parse_answers(bytes(peer.received)).complete
                }
                assert statuses == {408}
        victim.settle()

    def test_fx_02_a_slow_body_is_ended_and_raises(self, attack: Attack) -> None:
        victim = attack(ServerConfig(min_rate=10_000, min_rate_grace=0.5))
        with _peer(victim) as peer:
            if victim.wire in {"h1", "h1s"}:
                head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\n"
                drop = b"x"
            else:
                head = HELLO + raw_frame(1, 4, 1, _head(method="POST"))
                drop = raw_frame(0, 0, 1, b"x")
            peer.send(head)
            eventually(lambda: bool(victim.ledger.entries), "the handler is entered")
            (entry,) = victim.ledger.of("handler")
            for _ in range(100):
                if entry.ended:
                    break
                peer.send(drop)
                peer.pump(lambda: entry.ended, 0.05)
                if peer.ending is not None:
                    break
            eventually(lambda: entry.ended, "the handler ends")
            assert entry.error is not None
        victim.settle()

    def test_fx_03_a_response_that_is_not_read_is_held_back_and_ended(
        self, attack: Attack
    ) -> None:
        produced = 0
        ended = threading.Event()

        async def body() -> AsyncIterator[bytes]:
            nonlocal produced
            try:
                for _ in range(160):
                    produced += 65_536
                    yield bytes(65_536)
            finally:
                ended.set()

        def routes(router: Router, ledger: Ledger) -> None:
            async def large(request: Request) -> Response:
                return Response(body=body())

            router.get("/large", large)

        config = ServerConfig(
            send_timeout=0.4, min_rate_grace=0.2, tls_shutdown_timeout=0.2
        )
        victim = attack(config, routes)
        with _peer(victim, receive_buffer=4096) as peer:
            peer.deaf = True
            if victim.wire in {"h1", "h1s"}:
                peer.send(_get("/large"))
            else:
                peer.send(_hello(2**31 - 1) + raw_frame(8, 0, 0, b"\x7f\xfe\x00\x00"))
                peer.send(raw_frame(1, 5, 1, _head("/large")))
            assert ended.wait(TIMEOUT), "the writer waits for ever"
            # what the kernel's buffers took, and what tako holds
            assert produced < 8 * MB
        victim.settle()

    def test_fx_03_a_slow_reader_that_goes_on_is_served_to_the_end(
        self, attack: Attack
    ) -> None:
        size = 16 * MB  # more than the kernel takes: tako holds the rest all the time

        def routes(router: Router, ledger: Ledger) -> None:
            router.get("/large", lambda: bytes(size))

        def read(limit: float, pace: Pace) -> None:
            config = ServerConfig(
                send_timeout=limit, min_rate_grace=limit / 2, min_rate=10_000
            )
            victim = attack(config, routes)
            with _peer(victim, receive_buffer=65_536) as peer:
                if victim.wire in {"h1", "h1s"}:
                    peer.send(_get("/large"))
                else:
                    peer.send(_hello(2**31 - 1))
                    peer.send(raw_frame(8, 0, 0, b"\x7f\xfe\x00\x00"))
                    peer.send(raw_frame(1, 5, 1, _head("/large")))
                end = time.monotonic() + 3 * limit
                while time.monotonic() < end:
                    victim.canary.echo()
                    with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
                        peer.bytes_in += len(peer.socket.recv(16_384))
                    threading.Event().wait(0.02 * limit)  # that is how slow it is
                    pace.act()
                assert peer.bytes_in < size // 2
                peer.pump(lambda: peer.bytes_in >= size)
                assert peer.bytes_in >= size
            victim.settle()

        keeping_pace(read, (1, 5, 20))

    def test_fx_04_an_idle_connection_is_closed_without_a_response(
        self, attack: Attack
    ) -> None:
        config = ServerConfig(keep_alive_timeout=0.3)
        victim = attack(config)
        with _peer(victim) as peer:
            http1 = victim.wire in {"h1", "h1s"}
            peer.send(_get() if http1 else HELLO + raw_frame(1, 5, 1, _head()))
            assert peer.read_to_end() == "eof"
            if http1:
                assert len(parse_answers(bytes(peer.received)).complete) == 1
        victim.canary.check()

    @H1_ONLY
    def test_fx_05_a_thousand_pipelined_requests_are_answered_in_order(
        self, attack: Attack
    ) -> None:
        victim = attack()
        with _peer(victim) as peer:
            peer.send(b"".join(_get(f"/{number}") for number in range(1000)))
            last = b"/999 0"
            assert peer.pump(lambda: peer.received.endswith(last))
            bodies = [a.body for a in parse_answers(bytes(peer.received)).complete]
            assert bodies == [b"/%d 0" % number for number in range(1000)]
            assert victim.ledger.most_alive == 1
        victim.settle()


class _Waiting:
    """Handlers that wait for their peer in each of the ways there are."""

    def __init__(self) -> None:
        self.entered, self.ended = threading.Event(), threading.Event()

    def add_to(self, router: Router, ledger: Ledger) -> None:
        """Add the routes."""
        router.get("/send", self._send)
        router.post("/receive", self._receive)
        router.get("/session", self._websocket)

    async def _send(self, request: Request) -> Response:
        return Response(body=self._body())

    async def _body(self) -> AsyncIterator[bytes]:
        try:
            while True:
                self.entered.set()
                yield bytes(65_536)
        finally:
            self.ended.set()

    async def _receive(self, request: Request) -> str:
        self.entered.set()
        try:
            await request.body()
        finally:
            self.ended.set()
        return "complete"

    async def _websocket(self, request: Request) -> TakoWs:
        return TakoWs(request, self._session)

    async def _session(self, ws: WebSocket) -> None:
        self.entered.set()
        try:
            async for _ in ws:
                pass
        finally:
            self.ended.set()


class TestVanishingPeers:
    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_fx_06_a_half_closed_client_gets_its_response(self, attack: Attack) -> None:
        victim = attack()
        with _peer(victim) as peer:
            peer.send(_get())
            peer.half_close()
            assert peer.read_to_end() == "eof"
            (answer,) = parse_answers(bytes(peer.received)).complete
            assert answer.body == b"/x 0"
        victim.settle()

    @pytest.mark.parametrize("moment", ["receive", "send", "session"])
    def test_fx_07_a_reset_ends_what_waits_for_the_peer(
        self, attack: Attack, moment: str
    ) -> None:
        waiting = _Waiting()
        entered, ended = waiting.entered, waiting.ended
        victim = attack(UNHURRIED, waiting.add_to)
        with victim.server.connect(victim.wire) as client:
            if moment == "session":
                client.websocket("/session")
            elif isinstance(client, H2Connection):
                method = "POST" if moment == "receive" else "GET"
                client.open(client.pseudo_headers(method, f"/{moment}"))
            else:
                length = "Content-Length: 10\r\n" if moment == "receive" else ""
                method = "POST" if moment == "receive" else "GET"
                head = f"{method} /{moment} HTTP/1.1\r\nHost: a\r\n{length}\r\n"
                client.send_raw(head.encode())
            assert entered.wait(TIMEOUT)
            client.abort()
        assert ended.wait(TIMEOUT), "it did not notice"
        victim.settle()

    @pytest.mark.parametrize("wire", ["h1", "h1s", "h2", "h2c"], indirect=True)
    def test_fx_18_a_websocket_whose_peer_is_gone_ends_with_1006(
        self, attack: Attack
    ) -> None:
        codes: list[int | None] = []
        ended = threading.Event()

        def routes(router: Router, ledger: Ledger) -> None:
            async def session(ws: WebSocket) -> None:
                try:
                    async for _ in ws:
                        pass
                finally:
                    codes.append(ws.close_code)
                    ended.set()

            async def websocket(request: Request) -> TakoWs:
                alive = WsKeepAlive(ping_interval=0.2, pong_timeout=0.2, auto=True)
                return TakoWs(request, session, keep_alive=alive)

            router.get("/watched", websocket)

        victim = attack(ServerConfig(ws_close_timeout=0.3), routes)
        with victim.server.connect(victim.wire) as client:
            client.websocket("/watched")  # and reads nothing any more
            assert ended.wait(TIMEOUT)
        assert codes == [1006]
        victim.settle()


class TestFailingHandlers:
    def test_fx_08_an_exception_before_the_response_is_a_500(
        self, attack: Attack
    ) -> None:
        def routes(router: Router, ledger: Ledger) -> None:
            async def fail(request: Request) -> str:
                raise ValueError("secret")  # noqa: EM101 - what users do

            router.get("/fail", fail)

        victim = attack(None, routes)
        with victim.server.connect(victim.wire) as client:
            answer = client.request("GET", "/fail")
            assert answer.status == 500
            assert b"secret" not in answer.body
            assert client.handshake("/fail").status == 500
            assert client.request("GET", "/x").status == 200
        victim.server.wait_error()
        victim.server.wait_error()
        victim.settle(log=False)

    def test_fx_09_an_exception_behind_the_head_cuts_the_exchange(
        self, attack: Attack
    ) -> None:
        def routes(router: Router, ledger: Ledger) -> None:
            async def body() -> AsyncIterator[bytes]:
                yield b"begun"
                raise ValueError("too late")  # noqa: EM101, TRY003 - what users do

            async def fail(request: Request) -> Response:
                return Response(body=body())

            router.get("/fail", fail)

        victim = attack(None, routes)
        with victim.server.connect(victim.wire) as client:
            if isinstance(client, H2Connection):
                sibling = client.websocket("/ws")
                stream = client.send_request("GET", "/fail")
                assert stream.expect_reset() == INTERNAL_ERROR
                sibling.echo("still here")
            else:
                client.send_raw(_get("/fail"))
                received = b""
                while piece := client.socket.receive():
                    received += piece
                assert b"begun" in received
                assert not received.endswith(b"0\r\n\r\n")
        victim.server.wait_error()
        victim.settle(log=False)

    def test_fx_10_an_exception_in_a_session_is_1011(self, attack: Attack) -> None:
        def routes(router: Router, ledger: Ledger) -> None:
            async def session(ws: WebSocket) -> None:
                raise ValueError("secret")  # noqa: EM101 - what users do

            async def websocket(request: Request) -> TakoWs:
                return TakoWs(request, session)

            router.get("/fail", websocket)

        victim = attack(None, routes)
        with victim.server.connect(victim.wire) as client:
            if isinstance(client, H2Connection):
                sibling = client.websocket("/ws")
            code, reason = client.websocket("/fail").expect_close()
            assert code == 1011
            assert "secret" not in reason
            if isinstance(client, H2Connection):
                sibling.echo("still here")
        victim.server.wait_error()
        victim.settle(log=False)

    def test_fx_11_a_session_that_returns_closes_with_1000(
        self, attack: Attack
    ) -> None:
        def routes(router: Router, ledger: Ledger) -> None:
            async def session(ws: WebSocket) -> None:
                pass

            async def websocket(request: Request) -> TakoWs:
                return TakoWs(request, session)

            async def nothing(request: Request) -> None:
                pass

            router.get("/returns", websocket)
            router.get("/nothing", nothing)

        victim = attack(None, routes)
        with victim.server.connect(victim.wire) as client:
            answer = client.request("GET", "/nothing")
            assert (answer.status, answer.body) == (200, b"")
            assert client.websocket("/returns").expect_close()[0] == 1000
        victim.settle()

    @H2_ONLY
    def test_fx_12_handlers_that_ignore_cancellation_hold_their_slots(
        self, attack: Attack
    ) -> None:
        gate = Gate()
        running = most = 0

        def routes(router: Router, ledger: Ledger) -> None:
            async def stubborn(request: Request) -> str:
                nonlocal running, most
                running += 1
                most = max(most, running)
                try:
                    await _through_cancellation(gate)
                finally:
                    running -= 1
                return "done"

            router.get("/stubborn", stubborn)

        victim = attack(ServerConfig(h2_max_concurrent_streams=20), routes)
        with victim.h2() as peer:
            assert isinstance(peer, RawH2)
            peer.send(HELLO)
            for number in range(200):
                stream = 2 * number + 1
                peer.send(raw_frame(1, 5, stream, _head("/stubborn")))
                assert peer.settled()
                peer.send(raw_frame(3, 0, stream, CANCEL.to_bytes(4, "big")))
            assert peer.settled()
            assert (running, most) == (20, 20)
            peer.send(raw_frame(1, 5, 1001, _head("/x")))
            assert peer.pump(lambda: peer.gone(1001))
            assert peer.resets[1001] == REFUSED_STREAM
            gate.open()
            eventually(lambda: running == 0, "the handlers end", 5)
            peer.send(raw_frame(1, 5, 1003, _head("/x")))
            assert peer.pump(lambda: peer.gone(1003))
            assert peer.statuses[1003] == [200]
        victim.settle()

    @ONE_EACH
    @pytest.mark.parametrize(
        "error",
        [
            BaseException("base"),
            BaseExceptionGroup("group", [ValueError("in it"), BaseException("base")]),
            ExceptionGroup("group", [ValueError("in it")]),
            GeneratorExit(),
            StopAsyncIteration(),
            asyncio.CancelledError(),
            MemoryError(),
        ],
        ids=lambda error: type(error).__name__,
    )
    def test_fx_14_whatever_a_handler_raises_ends_its_exchange_only(
        self, attack: Attack, error: BaseException
    ) -> None:
        def routes(router: Router, ledger: Ledger) -> None:
            async def fail(request: Request) -> str:
                raise error

            router.get("/fail", fail)

        victim = attack(None, routes)
        with _peer(victim) as peer:
            if victim.wire in {"h1", "h1s"}:
                peer.send(_get("/fail"))
                peer.pump(lambda: bool(peer.received))
            else:
                peer.send(HELLO + raw_frame(1, 5, 1, _head("/fail")))
                peer.pump(lambda: len(peer.received) > 60)
        with victim.server.connect(victim.wire) as client:
            assert client.request("GET", "/x").status == 200
        while not victim.server.error_log.records.empty:
            victim.server.wait_error()
        victim.settle(log=False)

    @ONE_EACH
    @pytest.mark.parametrize(
        "bad",
        [
            {"headers": {"x": "a\r\nY: z"}},
            {"headers": {"x": "a\nb"}},
            {"headers": {"x": "a\0b"}},
            {"headers": {"x y": "z"}},
            {"headers": {"": "z"}},
            {"headers": {"x": "\u20ac"}},
            {"headers": {"content-length": "3"}, "body": b"four"},
            {"headers": {"content-length": "x"}, "body": b"four"},
            {"status": 99},
            {"status": 1000},
            {"status": 101},
        ],
        ids=str,
    )
    def test_fx_15_nothing_malformed_reaches_the_wire(
        self, attack: Attack, bad: dict[str, Any]
    ) -> None:
        def routes(router: Router, ledger: Ledger) -> None:
            async def fail(request: Request) -> Response:
                status = bad.get("status", 200)
                return Response(status, bad.get("headers", {}), bad.get("body", b"x"))

            router.get("/fail", fail)

        victim = attack(None, routes)
        with victim.server.connect(victim.wire) as client:
            answer = client.request("GET", "/fail")
            assert answer.status == 500
            assert client.request("GET", "/x").status == 200
        victim.server.wait_error()
        victim.settle(log=False)


async def _through_cancellation(gate: Gate) -> None:
    """Wait for ``gate`` and ignore cancellations."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        trio = sys.modules["trio"]
        with trio.CancelScope(shield=True):
            await gate.wait()
        return
    task = asyncio.ensure_future(gate.wait())
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            continue


class TestFlowControl:
    @H2_ONLY
    def test_fx_16_a_writer_waits_while_the_window_is_shut(
        self, attack: Attack
    ) -> None:
        produced = 0

        async def body() -> AsyncIterator[bytes]:
            nonlocal produced
            for _ in range(6400):
                produced += 16_384
                yield bytes(16_384)

        def routes(router: Router, ledger: Ledger) -> None:
            async def large(request: Request) -> Response:
                return Response(body=body())

            router.get("/large", large)

        victim = attack(None, routes)
        with victim.h2() as peer:
            assert isinstance(peer, RawH2)
            peer.send(_hello(0) + raw_frame(1, 5, 1, _head("/large")))
            assert peer.settled()
            assert peer.settled()
            assert produced <= 64 * 1024 + 16_384
            assert not peer.data
            peer.abort()
        victim.settle()

    def test_fx_17_a_session_that_does_not_read_stops_its_peer(
        self, attack: Attack
    ) -> None:
        gate = Gate()

        def routes(router: Router, ledger: Ledger) -> None:
            async def session(ws: WebSocket) -> None:
                await gate.wait()

            async def websocket(request: Request) -> TakoWs:
                return TakoWs(request, session)

            router.get("/deaf", websocket)

        victim = attack(None, routes)
        message = encode_frame(2, bytes(60_000))
        with _peer(victim, send_buffer=65_536) as peer:
            if victim.wire in {"h1", "h1s"}:
                upgrade = (
                    "Connection: Upgrade\r\nUpgrade: websocket\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                    "Sec-WebSocket-Version: 13\r\n"
                )
                peer.send(_get("/deaf", upgrade))
                peer.send(message * 400)
                while peer.unsent:
                    left = len(peer.unsent)
                    peer.pump(lambda left=left: len(peer.unsent) < left, 0.5)  # type: ignore[misc]
                    if len(peer.unsent) == left:
                        break
                assert peer.unsent, "24 MB were read in vain"
        if victim.wire in {"h2", "h2c"}:
            with victim.h2() as h2:
                assert isinstance(h2, RawH2)
                h2.send(HELLO + raw_frame(1, 4, 1, connect_block("/deaf")))
                h2.settled()
                window = h2.initial_window
                h2.send_stream(1, (message * 10)[:window])
                assert h2.settled()
                assert h2.room(1) <= 0
        gate.open()
        victim.settle()


class TestProcess:
    @pytest.mark.parametrize("wire", ["h2"], indirect=True)
    def test_fx_19_without_file_descriptors_accepting_backs_off(
        self, credentials: Credentials, runtime: RuntimeName, wire: Wire
    ) -> None:
        environment = {"VICTIM_NOFILE": "64"}
        with VictimProcess(
            credentials, runtime, wire, environment=environment
        ) as victim:
            peers = [Attacker(victim.address) for _ in range(100)]
            victim.canary.echo()
            cpu, began = victim.cpu, time.monotonic()
            peers[0].pump(lambda: False, 1)
            # a busy loop would take all that the machine gives to a program that is
            pause = time.monotonic() - began
            assert victim.cpu - cpu < 0.5 * pause, "a busy loop"
            for peer in peers:
                peer.socket.close()
            with victim.connect("h2") as client:
                assert client.request("GET", "/x").status == 200

    @pytest.mark.parametrize("wire", ["h2"], indirect=True)
    def test_fx_20_a_drain_under_load_loses_nothing(
        self, credentials: Credentials, runtime: RuntimeName, wire: Wire
    ) -> None:
        with VictimProcess(
            credentials, runtime, wire, environment=UNHURRIED_PROCESS
        ) as victim:
            sockets: list[PeerWebSocket] = []
            h2 = victim.connect("h2")
            assert isinstance(h2, H2Connection)
            clients = [h2]
            sockets += [h2.websocket("/ws") for _ in range(50)]
            for _ in range(50):
                h1 = victim.connect("h1s")
                clients.append(h1)  # type: ignore[arg-type]
                sockets.append(h1.websocket("/ws"))
            uploads = [_Upload(victim, number) for number in range(20)]
            victim.release_canary()
            victim.process.send_signal(signal.SIGTERM)
            for socket in sockets:
                assert socket.expect_close()[0] == 1001
                socket.end()
            codes = [goaway.code for goaway in h2.goaways]
            assert all(code == 0 for code in codes)
            for upload in uploads:
                assert upload.finish() == b"/x 100"
            for client in clients:
                client.close()
            victim.process.allow(TIMEOUT)
            assert victim.process.wait() == 0

    @pytest.mark.parametrize("wire", ["h2"], indirect=True)
    def test_fx_22_a_second_sigterm_ends_at_once(
        self, credentials: Credentials, runtime: RuntimeName, wire: Wire
    ) -> None:
        victim = VictimProcess(
            credentials, runtime, wire, environment=UNHURRIED_PROCESS
        )
        victim.__enter__()
        with victim.process:
            upload = _Upload(victim, 0)
            victim.release_canary()
            victim.process.send_signal(signal.SIGTERM)
            eventually(lambda: _refuses(victim), "the first signal is taken")
            victim.process.allow(TIMEOUT)
            victim.process.send_signal(signal.SIGTERM)
            assert victim.process.wait() != 0  # a drain would end with 0
            upload.peer.socket.close()

    @H2_ONLY
    def test_fx_21_a_request_behind_the_first_goaway_is_not_dropped(
        self, attack: Attack
    ) -> None:
        victim = attack()
        with victim.h2() as peer:
            assert isinstance(peer, RawH2)
            peer.send(HELLO + raw_frame(1, 4, 1, _head(method="POST")))
            assert peer.settled()
            victim.canary.stop()
            victim.server.shut_down()
            assert peer.pump(lambda: bool(peer.goaways))
            assert peer.goaways[0] == (2**31 - 1, 0)
            peer.send(raw_frame(1, 5, 3, _head()))
            assert peer.pump(lambda: peer.gone(3))
            assert peer.resets.get(3, REFUSED_STREAM) == REFUSED_STREAM
            assert peer.statuses.get(3, [200]) == [200]
            peer.send(raw_frame(0, 1, 1, b"the end"))
            assert peer.pump(lambda: peer.gone(1))
            assert peer.statuses[1] == [200]
            assert peer.read_to_end() == "eof"

    @pytest.mark.parametrize("wire", ["h2"], indirect=True)
    @pytest.mark.parametrize(
        "count", [300, pytest.param(10_000, marks=pytest.mark.slow)]
    )
    def test_fx_23_websockets_come_and_go_on_one_connection(
        self, credentials: Credentials, runtime: RuntimeName, wire: Wire, count: int
    ) -> None:
        with (
            VictimProcess(credentials, runtime, wire) as victim,
            RawH2(victim.address, CONTEXTS["h2"]) as peer,
        ):
            assert isinstance(peer, RawH2)
            peer.send(HELLO)
            warm = 1 + count  # what the collector has not come to yet is no growth
            _open_and_close(peer, range(1, warm, 2))
            before = victim.rss
            _open_and_close(peer, range(warm, warm + 2 * count, 2))
            assert victim.rss - before < 2 * MB
            assert not peer.goaways

    @H2_ONLY
    def test_fx_24_the_last_stream_id_is_served_and_then_goaway(
        self, attack: Attack
    ) -> None:
        victim = attack()
        with victim.h2() as peer:
            assert isinstance(peer, RawH2)
            last = 2**31 - 1
            peer.send(HELLO + raw_frame(1, 5, last, _head()))
            assert peer.pump(lambda: peer.gone(last))
            assert peer.statuses[last] == [200]
            assert peer.read_to_end() == "eof"
            assert peer.goaways[-1] == (last, 0)
        victim.settle()


def _open_and_close(peer: RawH2, streams: range) -> None:
    block = connect_block("/ws")
    close = encode_frame(8, b"\x03\xe8")
    for stream in streams:
        peer.send(raw_frame(1, 4, stream, block))
        peer.send(raw_frame(0, 1, stream, close))
        assert peer.pump(lambda stream=stream: peer.gone(stream))  # type: ignore[misc]
        frames = ws_frames(bytes(peer.data.pop(stream, b"")))
        seen = (stream, peer.statuses.get(stream), peer.resets.get(stream))
        assert [frame.opcode for frame in frames] == [8], seen


def _refuses(victim: VictimProcess) -> bool:
    try:
        Attacker(victim.address).socket.close()
    except ConnectionRefusedError:
        return True
    return False


class _Upload:
    """A request with half of its body sent."""

    def __init__(self, victim: VictimProcess, number: int) -> None:
        self.http2 = bool(number % 2)
        self.peer: Attacker
        if self.http2:
            self.peer = RawH2(victim.address, CONTEXTS["h2"])
            head = HELLO + raw_frame(1, 4, 1, _head(method="POST"))
            self.peer.send(head + raw_frame(0, 0, 1, bytes(50)))
            assert isinstance(self.peer, RawH2)
            assert self.peer.settled()
        else:
            self.peer = Attacker(victim.address, CONTEXTS["h1s"])
            self.peer.send(
                b"POST /x HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                b"Content-Length: 100\r\n\r\n"
            )
            assert self.peer.pump(lambda: b"100 Continue" in self.peer.received)
            self.peer.send(bytes(50))

    def finish(self) -> bytes:
        """Send the rest and return the response's body."""
        with self.peer:
            self.peer.send(raw_frame(0, 1, 1, bytes(50)) if self.http2 else bytes(50))
            assert self.peer.read_to_end() == "eof"
            if isinstance(self.peer, RawH2):
                return bytes(self.peer.data[1])
            return parse_answers(bytes(self.peer.received)).final[0].body
