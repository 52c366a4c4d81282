"""A lost connection: what still calls it has no effect, and nothing keeps it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest
from hypothesis import given, strategies as st

from tako import Request, Router, ServerConfig
from tako.core.exchange_of import exchange_of
from tako.core.seams import Exchange, Tunnel
from tako.http.conn_info import IpPeer
from tako.server.detect import ProtocolDetector
from tako.server.undecided import SharedTransport, Undecided
from tests.support.after_loss import (
    DeafSink,
    calls_of_connection,
    calls_of_engine,
    calls_of_exchange,
    calls_of_tunnel,
)
from tests.support.garbage import garbage
from tests.support.in_memory import MemoryClient, MemoryWire
from tests.support.wire import Cancelled, FakeRuntime, FakeTransport


if TYPE_CHECKING:
    from tako.core.loop import Runtime


WIRES: list[MemoryWire] = ["http/1.1", "h2"]


class Handled:
    """A connection with a handler that ends when it is told to, cancelled or not."""

    def __init__(self, wire: MemoryWire, *, tunnel: bool, begun: bool) -> None:
        self.runtime = FakeRuntime()
        self.exchange: Exchange
        self.tunnel: Tunnel | None = None
        self._go = self.runtime.signal()
        self._begun = begun
        router = Router()
        router.get("/ws", self._handle)
        router.post("/", self._handle)
        self.client = MemoryClient(cast("Runtime", self.runtime), router, wire)
        self.engine = self.client.connection._engine
        self.sink = DeafSink()
        if tunnel:
            self.client.open_websocket()
        else:
            self.client.request("/", "POST", body=9)
            self.client.send_body(b"part", end=False)
        self.runtime.run_ready()

    async def _handle(self, request: Request) -> str:
        exchange = exchange_of(request)
        assert exchange is not None
        self.exchange = exchange
        if self._begun:
            self._begin(exchange)
        try:
            await self._go.wait()
        except Cancelled:
            await self._go.wait()
        return "unheard"

    def _begin(self, exchange: Exchange) -> None:
        if exchange.request.path == "/":
            exchange.send_headers(200, ())
            exchange.send_data(b"some")
            return
        status = 101 if self.client.wire == "http/1.1" else 200
        self.tunnel = exchange.open_tunnel(status, ())
        self.tunnel.receive_into(self.sink)

    def calls(self) -> list[Callable[[], object]]:
        """Return all that may be called once the connection is lost."""
        connection = self.client.connection
        calls = calls_of_exchange(self.exchange) + calls_of_connection(connection)
        if self.tunnel is not None:
            calls += calls_of_tunnel(self.tunnel)
        return [
            *calls,
            connection.shut_down,
            connection.pause_writing,
            connection.resume_writing,
            connection.eof_received,
            lambda: connection.data_received(b"GET / HTTP/1.1\r\n\r\n"),
            lambda: connection.connection_lost(None),
            lambda: connection.handshaking,
        ]

    def let_go(self) -> None:
        """Keep only what a server keeps: the runtime and the router."""
        del self.client, self.engine, self.exchange
        self.tunnel = None
        self.runtime.tasks.clear()

    def end(self) -> None:
        """Let the handler end, and time pass."""
        self._go.set()
        self.runtime.run_ready()
        self.runtime.advance(1000)


@given(
    wire=st.sampled_from(WIRES),
    tunnel=st.booleans(),
    begun=st.booleans(),
    order=st.randoms(use_true_random=False),
    times=st.integers(1, 2),
)
def test_what_is_called_after_the_loss_has_no_effect(
    *, wire: MemoryWire, tunnel: bool, begun: bool, order: Any, times: int
) -> None:
    handled = Handled(wire, tunnel=tunnel, begun=begun)
    transport = handled.client.transport
    handled.client.lose()
    transport.take()
    calls = handled.calls() * times
    order.shuffle(calls)
    for call in calls:
        call()
        assert handled.exchange.over
    handled.runtime.run_ready()
    handled.runtime.advance(1000)
    handled.end()
    assert not transport.written
    assert not transport.eof
    assert handled.client.connection.deadlines.next() is None


@pytest.mark.parametrize("wire", WIRES)
def test_an_engine_of_a_lost_connection_does_nothing(wire: MemoryWire) -> None:
    handled = Handled(wire, tunnel=False, begun=True)
    engine = handled.engine
    assert engine is not None
    handled.client.lose()
    for call in calls_of_engine(engine) * 2:
        assert not call()
    assert engine.closing
    assert not engine.backlog


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("tunnel", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_nothing_keeps_it_when_the_handler_has_ended(
    *, wire: MemoryWire, tunnel: bool, begun: bool
) -> None:
    with garbage() as left:
        handled = Handled(wire, tunnel=tunnel, begun=begun)
        handled.client.lose()
        for call in handled.calls():
            call()
        handled.end()
        handled.let_go()
        del call
    kinds = {"TcpConnection", "H1Engine", "H2Engine", "H1Exchange", "H2Exchange"}
    assert not left.types & kinds


class Waiting:
    """A connection whose protocol is not known yet."""

    def __init__(self) -> None:
        decided: list[str] = []
        self.decided = decided
        self.transport = FakeTransport()
        detector = ProtocolDetector(ServerConfig(), "any", tls=False, policy=None)
        self.undecided = Undecided(
            cast("Runtime", FakeRuntime()),
            detector,
            IpPeer("127.0.0.1", 50000),
            on_decided=lambda _, __, protocol: decided.append(protocol),
            on_lost=_forget,
        )
        self.undecided.connection_made(cast("SharedTransport", self.transport))


def _forget(_: object) -> None:
    """Take no note."""


@pytest.mark.parametrize("end", ["lost", "aborted", "drained", "decided", "late"])
def test_nothing_keeps_one_whose_protocol_was_not_known(end: str) -> None:
    with garbage() as left:
        waiting = Waiting()
        undecided = waiting.undecided
        if end == "aborted":
            undecided.abort()
        elif end == "drained":
            undecided.shut_down()
        elif end == "decided":
            undecided.data_received(b"GET / HTTP/1.1\r\n")
            assert waiting.decided
        elif end == "late":
            undecided._late()
        if end != "decided":
            undecided.connection_lost(None)
        del waiting, undecided
    assert not left.types & {"Undecided", "PatientTimer"}
