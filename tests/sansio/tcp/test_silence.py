"""``SilenceWatch``: peers that are gone without a FIN, on both wires; a fake clock."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tako import Request, Response, Router, ServerConfig, TakoWs, WebSocket, WsKeepAlive
from tako.core.error_code import ErrorCode
from tako.h2.frames import ACK, DATA, GOAWAY, PING, WINDOW_UPDATE, frame
from tako.tcp.silence import SilenceWatch
from tako.testing.peer.websocket import Opcode
from tests.support.h2wire import parse
from tests.support.in_memory import MemoryClient, MemoryTls, MemoryWire
from tests.support.server import Credentials
from tests.support.wire import FakeRuntime, FakeSignal


if TYPE_CHECKING:
    from tako.tcp.connection import TcpConnection


LONG = 3600.0
CONFIG = ServerConfig(header_read_timeout=None, keep_alive_timeout=LONG * 10)
CLOSE_1011 = b"\x03\xf3keepalive timeout"


class Served:
    """A server in memory with one client, and what its sessions saw."""

    def __init__(
        self,
        wire: MemoryWire,
        config: ServerConfig = CONFIG,
        *,
        reads: bool = True,
        tls: MemoryTls | None = None,
        **options: Any,
    ) -> None:
        self.runtime = FakeRuntime()
        self.wire = wire
        self.reads = reads
        self.options = options
        self.seen: list[object] = []
        self.codes: list[int | None] = []
        self.sockets: list[WebSocket] = []
        self.accept: FakeSignal | None = None
        router = Router()
        router.get("/ws", self._websocket)
        router.get("/", self._wait)
        self.client = MemoryClient(self.runtime, router, wire, config, tls=tls)
        self.watch = SilenceWatch(self.runtime, config, {self.client.connection})
        self.runtime.run_ready()
        self.client.take()

    async def _wait(self, request: Request) -> Response:
        await self.runtime.signal().wait()
        return Response(200)

    async def _websocket(self, request: Request) -> TakoWs:
        if self.accept is not None:
            await self.accept.wait()
        return TakoWs(request, self._session, **self.options)

    async def _session(self, ws: WebSocket) -> None:
        self.sockets.append(ws)
        try:
            while not (self.reads or ws.closed):
                await ws._conversation.writable.signal.wait()
            async for message in ws:
                self.seen.append(message)
        finally:
            self.codes.append(ws.close_code)

    def open(self) -> None:
        self.client.open_websocket()
        self.runtime.run_ready()
        self.client.take()

    def said(self) -> list[str | bytes]:
        """Return what the server has sent: "ask", "goaway", and Close frames."""
        octets = self.client.take()
        said: list[str | bytes] = []
        if self.wire == "h2":
            frames = parse(octets)
            said += ["ask" for each in frames if each.kind == PING]
            said += ["goaway" for each in frames if each.kind == GOAWAY]
            octets = b"".join(each.payload for each in frames if each.kind == DATA)
        while octets:
            size = octets[1]
            payload, kind = octets[2 : 2 + size], octets[0] & 0xF
            said.append("ask" if kind == Opcode.PING else payload)
            octets = octets[2 + size :]
        return said

    def answer(self) -> None:
        if self.wire == "h2":
            self.client.send(frame(PING, ACK, 0, b"alive?\0\0"))
        else:
            self.client.send_frame(Opcode.PONG, b"tako: alive?")
        self.runtime.run_ready()

    def pass_time(self, seconds: float) -> list[str | bytes]:
        self.runtime.advance(seconds)
        return self.said()


@pytest.fixture(params=["http/1.1", "h2"])
def wire(request: pytest.FixtureRequest) -> MemoryWire:
    """The wire of the test."""
    name: MemoryWire = request.param
    return name


@pytest.fixture
def served(wire: MemoryWire) -> Iterator[Served]:
    """A server with the defaults, and one WebSocket."""
    served = Served(wire)
    served.open()
    yield served
    served.runtime.close()


class TestTheRule:
    def test_silence_is_asked_and_then_given_up(self, served: Served) -> None:
        assert served.pass_time(20) == []
        assert served.pass_time(2) == ["ask"]
        assert served.pass_time(19.9) == []
        assert served.codes == []
        ends = [CLOSE_1011] if served.wire == "http/1.1" else ["goaway", CLOSE_1011]
        assert served.pass_time(0.2) == ends
        assert served.codes == [1006]
        served.runtime.advance(5)
        assert served.client.transport.eof or served.client.transport.aborted
        served.runtime.advance(LONG)
        assert served.client.transport.aborted

    def test_an_answer_is_enough_for_as_long_as_it_comes(self, served: Served) -> None:
        for _ in range(50):
            assert served.pass_time(22) == ["ask"]
            assert served.pass_time(17) == []
            served.answer()
        assert served.codes == []

    def test_the_session_sees_nothing_of_that(self, served: Served) -> None:
        served.pass_time(22)
        served.answer()
        served.client.send_frame(Opcode.TEXT, b"hello")
        served.runtime.run_ready()
        assert served.seen == ["hello"]

    def test_any_bytes_put_the_question_off(self, served: Served) -> None:
        for _ in range(20):
            assert served.pass_time(19) == []
            served.client.send_frame(Opcode.TEXT, b"x")
        assert served.codes == []

    def test_a_message_that_trickles_is_a_sign_of_life(self, served: Served) -> None:
        served.client.send_frame(Opcode.BINARY, b"")
        octets = bytes([0x82, 0xFE, 0x40, 0, 0, 0, 0, 0])
        for index in range(8):
            piece = octets[index : index + 1]
            served.client.send(
                frame(DATA, 0, 1, piece) if served.wire == "h2" else piece
            )
            assert served.pass_time(19) == []
        assert served.codes == []

    def test_a_loop_that_was_blocked_counts_as_one_look(self, served: Served) -> None:
        served.runtime.advance(18)
        served.runtime.now += LONG
        served.runtime.advance(0)
        assert served.said() == []
        assert served.pass_time(2) == ["ask"]
        served.runtime.now += LONG
        served.runtime.advance(0)
        assert served.codes == []

    @pytest.mark.parametrize(
        ("interval", "timeout", "asked", "lost"),
        [(30, 3, 30.3, 3), (3, 30, 3.3, 30), (7, 7, 7.7, 7), (0.7, 0.2, 0.72, 0.2)],
    )
    def test_both_times_are_kept_to_a_tenth_of_the_shorter(
        self,
        wire: MemoryWire,
        interval: float,
        timeout: float,
        asked: float,
        lost: float,
    ) -> None:
        served = Served(
            wire, ServerConfig(ws_ping_interval=interval, ws_ping_timeout=timeout)
        )
        served.open()
        assert served.pass_time(interval) == []
        assert served.pass_time(asked - interval + 0.001) == ["ask"]
        assert served.pass_time(lost - 0.01) == []
        served.runtime.advance(0.011)
        assert served.codes == [1006]
        served.runtime.close()

    def test_without_a_timeout_the_peer_is_asked_and_never_given_up(
        self, wire: MemoryWire
    ) -> None:
        served = Served(wire, ServerConfig(ws_ping_timeout=None))
        served.open()
        for first in (2, *[0] * 50):
            assert served.pass_time(20 + first) == ["ask"]
        assert served.codes == []
        served.runtime.close()

    def test_switched_off_nothing_is_asked(self, wire: MemoryWire) -> None:
        served = Served(wire, ServerConfig(ws_ping_interval=None))
        served.open()
        assert served.pass_time(LONG) == []
        assert served.codes == []
        served.runtime.close()


class TestWhatIsNotHeldAgainstAPeer:
    def test_bytes_that_wait_unread(self) -> None:
        served = Served("http/1.1", ServerConfig(read_buffer=1024), reads=False)
        served.open()
        for _ in range(2):  # one read alone never shuts the gate
            served.client.send_frame(Opcode.BINARY, bytes(1000))
        assert not served.client.transport.reading
        assert served.pass_time(LONG) == []
        assert served.codes == []
        served.runtime.close()

    def test_output_that_it_does_not_take(self, served: Served) -> None:
        served.client.connection.pause_writing()
        assert served.pass_time(LONG) == []
        assert served.codes == []
        served.client.connection.resume_writing()
        assert served.pass_time(22) == ["ask"]

    def test_a_session_that_does_not_read(self, wire: MemoryWire) -> None:
        served = Served(wire, reads=False)
        served.open()
        served.client.send_frame(Opcode.TEXT, b"unread")
        for _ in range(100):
            assert served.pass_time(22) == ["ask"]
            served.answer()
        assert served.codes == []
        assert len(served.sockets[0]._conversation.inbox.messages) == 1
        served.runtime.close()

    def test_a_handshake_that_takes_long(self, wire: MemoryWire) -> None:
        served = Served(wire)
        served.accept = served.runtime.signal()
        served.open()
        assert served.pass_time(39) == []
        served.accept.set()
        served.runtime.run_ready()
        served.client.take()
        assert served.pass_time(5) == ["ask"]
        assert served.pass_time(15) == []
        assert served.codes == []
        served.runtime.close()

    def test_a_connection_without_websockets(self, wire: MemoryWire) -> None:
        served = Served(wire)
        served.client.request()
        served.runtime.run_ready()
        assert served.pass_time(LONG) == []
        assert not served.client.transport.eof
        served.runtime.close()

    def test_a_closing_handshake_keeps_its_own_time(self, wire: MemoryWire) -> None:
        config = ServerConfig(ws_close_timeout=100, h2_keep_alive_interval=None)
        served = Served(wire, config)
        served.open()
        served.sockets[0]._conversation.send_close(1000)
        served.runtime.run_ready()
        assert served.said() == [b"\x03\xe8"]
        served.runtime.advance(41)
        assert not served.client.transport.eof
        served.runtime.close()


class TestRoutes:
    """A ``WsKeepAlive`` takes the place of the server's default."""

    @pytest.mark.parametrize("hint", [WsKeepAlive(), WsKeepAlive(5, 5)])
    def test_with_a_hint_the_pings_are_the_sessions(
        self, wire: MemoryWire, hint: WsKeepAlive
    ) -> None:
        served = Served(wire, keep_alive=hint)
        served.open()
        assert served.pass_time(LONG) == []
        assert served.sockets[0].keep_alive is hint
        served.runtime.close()

    def test_an_automatic_one_asks_end_to_end(self, wire: MemoryWire) -> None:
        served = Served(wire, keep_alive=WsKeepAlive(50, 7, auto=True))
        served.open()
        assert served.pass_time(49.9) == []
        served.runtime.advance(0.1)
        octets = served.client.take()
        assert octets.endswith(b"\x89\x06tako 1")
        assert served.pass_time(7.1) == [CLOSE_1011]
        assert served.codes == [1006]
        served.runtime.close()

    def test_without_one_the_session_sees_no_hint(self, served: Served) -> None:
        assert served.sockets[0].keep_alive == WsKeepAlive()


class TestHttp1:
    def test_the_round_trip_is_measured(self) -> None:
        served = Served("http/1.1")
        served.open()
        served.pass_time(22)
        served.runtime.advance(0.5)
        served.answer()
        assert served.sockets[0].latency == pytest.approx(0.5)
        served.runtime.close()

    def test_an_answered_ping_leaves_nothing_behind(self) -> None:
        served = Served("http/1.1")
        served.open()
        served.pass_time(22)
        served.answer()
        sent = served.sockets[0]._conversation._pings_sent
        assert sent.__sizeof__() == {}.__sizeof__()
        served.runtime.close()

    def test_half_a_tls_record_is_a_sign_of_life(
        self, credentials: Credentials
    ) -> None:
        served = Served("http/1.1", tls=MemoryTls(credentials, "http/1.1"))
        served.open()
        assert served.pass_time(22) == ["ask"]
        served.client.connection.data_received(b"\x17\x03\x03\x00\x40")
        assert served.pass_time(20) == []
        assert served.codes == []
        served.runtime.close()


class TestHttp2:
    def test_many_tunnels_are_asked_once_and_all_are_lost(self) -> None:
        served = Served("h2")
        for _ in range(20):
            served.open()
        served.client.request()
        served.runtime.run_ready()
        served.client.take()
        assert served.pass_time(22) == ["ask"]
        said = served.pass_time(20.1)
        assert said == ["goaway", *[CLOSE_1011] * 20]
        assert served.codes == [1006] * 20
        assert served.client.transport.eof
        assert all(task.done for task in served.runtime.tasks)
        served.runtime.close()

    def test_the_end_is_no_error_of_the_peer(self) -> None:
        served = Served("h2")
        served.open()
        served.pass_time(22)
        served.runtime.advance(20.1)
        (goaway,) = [f for f in parse(served.client.take()) if f.kind == GOAWAY]
        assert goaway.number == ErrorCode.NO_ERROR
        served.runtime.close()

    @pytest.mark.parametrize("sign", ["window", "other stream"])
    def test_whatever_comes_on_the_connection_is_an_answer(self, sign: str) -> None:
        served = Served("h2")
        served.open()
        for _ in range(5):
            assert served.pass_time(22) == ["ask"]
            if sign == "window":
                served.client.send(frame(WINDOW_UPDATE, 0, 0, (1).to_bytes(4)))
            else:
                served.client.request()
        assert served.pass_time(19) == []
        assert served.codes == []
        served.runtime.close()

    def test_a_route_with_its_own_shares_the_fate_of_the_connection(self) -> None:
        served = Served("h2", keep_alive=WsKeepAlive())
        served.open()
        served.options = {}
        served.open()
        assert served.pass_time(22) == ["ask"]
        assert served.pass_time(20.1) == ["goaway", CLOSE_1011]
        assert served.codes == [1006, 1006]
        served.runtime.close()

    def test_once_no_tunnel_is_left_there_is_no_question(self) -> None:
        served = Served("h2")
        served.open()
        served.client.send_frame(Opcode.CLOSE, b"\x03\xe8", end=True)
        served.runtime.run_ready()
        served.client.take()
        assert served.pass_time(LONG) == []
        served.runtime.close()


class _Counting:
    """As much of a connection as is looked at; the first look calls something soon."""

    def __init__(
        self, runtime: FakeRuntime, log: list[str], first: Callable[[], None]
    ) -> None:
        self._runtime = runtime
        self._log = log
        self._first = first

    def look(self, silent_at: int, dead_at: int) -> None:
        if not self._log:
            self._runtime.call_soon(self._first)
        self._log.append("look")


def watch_over(connection: _Counting, runtime: FakeRuntime) -> SilenceWatch:
    """Watch over ``connection``, a thousand times."""
    same = cast("TcpConnection", connection)
    return SilenceWatch(runtime, ServerConfig(), [same] * 1000)


class TestOutputOnItsWay:
    """TCP keepalive asks nothing meanwhile; the kernel tells what is acknowledged."""

    @pytest.mark.parametrize(
        ("config", "limit"),
        [
            (CONFIG, 120),
            (replace(CONFIG, ws_ping_interval=None), 120),
            (replace(CONFIG, tcp_keep_alive_idle=7, tcp_keep_alive_count=1), 17),
        ],
    )
    def test_what_is_not_acknowledged_in_time_is_lost(
        self, wire: MemoryWire, config: ServerConfig, limit: float
    ) -> None:
        served = Served(wire, config)
        served.client.request()
        served.runtime.run_ready()
        served.runtime.unanswered_for = limit - 0.1
        served.runtime.advance(LONG)
        assert not served.client.transport.aborted
        served.runtime.unanswered_for = limit
        served.runtime.advance(22)
        assert served.client.transport.aborted
        served.runtime.close()

    def test_it_goes_with_tcp_keepalive(self, wire: MemoryWire) -> None:
        served = Served(wire, replace(CONFIG, tcp_keep_alive_idle=None))
        served.client.request()
        served.runtime.unanswered_for = LONG
        served.runtime.advance(LONG)
        assert not served.client.transport.aborted
        served.runtime.close()

    def test_a_watched_tunnel_is_asked_instead(self, served: Served) -> None:
        served.runtime.unanswered_for = LONG
        assert served.pass_time(22) == ["ask"]
        assert not served.client.transport.aborted


class TestManyConnections:
    def test_a_look_at_many_lets_others_have_turns(self) -> None:
        runtime, log = FakeRuntime(), list[str]()

        def other() -> None:
            log.append("other")
            if log.count("look") < 1000:
                runtime.call_soon(other)

        watch = watch_over(_Counting(runtime, log, other), runtime)
        for _ in range(3):
            log.clear()
            runtime.advance(2)
            assert log.count("look") == 1000
            runs = " ".join(log).split("other")
            assert max(len(run.split()) for run in runs) <= 200
        watch.stop()

    def test_stopped_between_two_slices_it_stays_stopped(self) -> None:
        runtime, log = FakeRuntime(), list[str]()

        def stop() -> None:
            watch.stop()

        watch = watch_over(_Counting(runtime, log, stop), runtime)
        runtime.advance(LONG)
        assert log.count("look") == 200
