"""Links and attempts over a runtime without I/O: the clock moves when the test says."""

import socket
from collections.abc import Callable, Coroutine
from typing import Any

import hpack
import pytest

from tako.client.attempt import Attempt, Failure
from tako.client.link import Link, LinkState
from tako.client.origins import Advice
from tako.client.pool import Pool
from tako.client.settings import ConnectKeywords, make_config, make_settings
from tako.core.error_code import ErrorCode
from tako.errors import (
    ConnectionClosed,
    DialError,
    HandshakeInvalid,
    HandshakeRejected,
    Http2Unavailable,
)
from tako.h2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    RST_STREAM,
    frame,
    goaway,
    rst_stream,
)
from tako.native.loops import encode_frame
from tako.ws.handshake import accept_key
from tako.ws.message import Message
from tako.ws.websocket import WebSocket
from tests.support.h2wire import SETTINGS_ACK, Frame, data, parse, settings
from tests.support.wire import FakeRuntime, FakeTask, FakeTransport


H2: tuple[str, ...] = ("2",)
H1: tuple[str, ...] = ("1.1",)


class FakeSocket:
    family = socket.AF_INET

    def __init__(self) -> None:
        self.closed = False

    def getpeername(self) -> tuple[str, int]:
        return ("127.0.0.1", 80)

    getsockname = getpeername

    def close(self) -> None:
        self.closed = True


class Transport(FakeTransport):
    """Tells its connection once it is closed, as a loop does."""

    def __init__(self, runtime: FakeRuntime, connection: Any) -> None:
        super().__init__()
        self._lose: Callable[[], None] | None = lambda: connection.connection_lost(None)
        self._runtime = runtime
        self.over = False

    def close(self) -> None:
        super().close()
        self.end()

    def abort(self) -> None:
        super().abort()
        self.end()

    def end(self) -> None:
        self.over = True
        lose, self._lose = self._lose, None
        if lose is not None:
            self._runtime.call_soon(lose)


class Peer:
    """A server, at the other end of a connection."""

    def __init__(self, runtime: FakeRuntime, connection: Any) -> None:
        self.runtime = runtime
        self.connection = connection
        self.transport = Transport(runtime, connection)
        self.encoder = hpack.Encoder()
        self.begun = False

    def send(self, *pieces: bytes) -> None:
        self.connection.data_received(b"".join(pieces))
        self.runtime.run_ready()

    def frames(self) -> list[Frame]:
        wire = self.transport.take()
        if not self.begun:
            self.begun = True
            assert wire.startswith(PREFACE)
            wire = wire[len(PREFACE) :]
        return parse(wire)

    def of(self, kind: int) -> list[Frame]:
        return [each for each in self.frames() if each.kind == kind]

    def greet(self, *entries: tuple[int, int]) -> list[Frame]:
        """Send SETTINGS; return the CONNECTs that follow."""
        self.send(settings((8, 1), *entries), SETTINGS_ACK)
        return self.of(HEADERS)

    def answer(self, stream_id: int, status: int = 200) -> None:
        block = self.encoder.encode([(":status", str(status))])
        self.send(frame(HEADERS, END_HEADERS, stream_id, block))

    def lose(self) -> None:
        self.transport.end()
        self.runtime.run_ready()


class ClientRuntime(FakeRuntime):
    """Dials in memory; ``refuses`` what the next dials fail with."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: list[Peer] = []
        self.refuses: OSError | None = None
        self.slow = False
        self.users = 0
        self.sockets: list[FakeSocket] = []

    def keep(self) -> None:
        self.users += 1

    def give_back(self) -> None:
        self.users -= 1

    async def resolve(self, host: str, port: int) -> list[Any]:
        return [(int(socket.AF_INET), (host, port))]

    async def dial(self, address: Any) -> FakeSocket:
        if self.slow:
            await self.signal().wait()
        if self.refuses is not None:
            raise self.refuses
        self.sockets.append(FakeSocket())
        return self.sockets[-1]

    async def attach(self, sock: Any, connection: Any) -> None:
        peer = Peer(self, connection)
        self.peers.append(peer)
        connection.connection_made(peer.transport)


class World:
    """A client without I/O."""

    def __init__(
        self, *, shares: bool = True, max_streams: int = 100, **options: Any
    ) -> None:
        self.runtime = ClientRuntime()
        self.options: ConnectKeywords = options  # type: ignore[assignment]
        self.pool = Pool(
            make_config(self.options, max_streams=max_streams),
            shares=shares,
            max_connections=2,
            idle_timeout=30.0,
        )

    def open(
        self, versions: tuple[str, ...] = H2, until: float | None = None, **given: Any
    ) -> tuple[Attempt, FakeTask]:
        made = make_settings("ws://a.test/ws", given, self.options)  # type: ignore[arg-type]
        runtime: Any = self.runtime
        attempt = Attempt(made, versions, runtime, self.pool, until)
        task = self.runtime.spawn(attempt.run)
        self.runtime.run_ready()
        return attempt, task

    def opened(self, count: int = 1, **given: Any) -> list[WebSocket]:
        """Open WebSockets on the newest connection."""
        tasks = [self.open(**given)[1] for _ in range(count)]
        peer = self.peer
        asked = peer.frames() if peer.begun else peer.greet()
        for each in asked:
            peer.answer(each.stream_id)
        assert all(task.done for task in tasks)
        return [task.result for task in tasks]

    @property
    def peer(self) -> Peer:
        return self.runtime.peers[-1]

    @property
    def link(self) -> Link:
        (link,) = self.pool.links
        return link

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def run() -> Any:
            return await coroutine

        return self.runtime.run(run)

    def check_nothing_is_left(self) -> None:
        assert self.pool.links == []
        assert self.runtime.users == 0
        assert all(peer.transport.over for peer in self.runtime.peers)
        assert all(task.done for task in self.runtime.tasks)
        assert self.pool.watch._watch is None


def switch(key: bytes) -> bytes:
    """Return the answer of a server over HTTP/1.1."""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n"
        b"connection: upgrade\r\nsec-websocket-accept: " + accept_key(key) + b"\r\n\r\n"
    )


@pytest.fixture
def world() -> World:
    return World()


def test_many_share_a_connection(world: World) -> None:
    first, second = world.opened(2)
    assert len(world.runtime.peers) == 1
    assert world.link.state is LinkState.OPEN
    world.peer.send(data(3, encode_frame(0x81, "second")))
    assert world.run(second.read()) == "second"
    (third,) = world.opened()
    assert first.http_version == third.http_version == "2"
    assert len(world.runtime.peers) == 1


def test_the_limit_of_the_server_opens_another_connection(world: World) -> None:
    for _ in range(3):
        world.open()
    asked = world.peer.greet((3, 2))
    assert [each.stream_id for each in asked] == [1, 3]
    assert len(world.runtime.peers) == 2
    assert [each.stream_id for each in world.peer.greet((3, 2))] == [1]


def test_an_empty_connection_ends_when_its_time_is_over() -> None:
    world = World(ping_interval=None)
    (ws,) = world.opened()
    world.runtime.advance(100)
    assert world.link.state is LinkState.OPEN
    ws._tunnel.reset()
    world.runtime.advance(29)
    (again,) = world.opened()
    world.runtime.advance(100)
    again._tunnel.reset()
    world.peer.frames()
    world.runtime.advance(29.9)
    assert world.link.state is LinkState.OPEN
    world.peer.send(settings((4, 70_000)))  # which does not prolong it
    world.runtime.advance(0.2)
    (last,) = world.peer.of(GOAWAY)
    assert last.payload == bytes(8)
    world.peer.lose()
    world.check_nothing_is_left()


def test_goaway_lets_open_ones_go_on_and_asks_elsewhere(world: World) -> None:
    (ws,) = world.opened()
    old = world.peer
    _, task = world.open()
    old.send(goaway(1, 0))
    assert world.link.state is LinkState.LEAVING
    assert isinstance(task.result, Failure)
    assert task.result.advice is Advice.AGAIN
    _, task = world.open()
    assert len(world.runtime.peers) == 2
    world.peer.answer(world.peer.greet()[0].stream_id)
    assert isinstance(task.result, WebSocket)
    old.send(data(1, encode_frame(0x81, "on")))
    assert world.run(ws.read()) == "on"
    old.frames()
    ws._tunnel.reset()
    world.runtime.run_ready()
    assert [each.payload for each in old.of(GOAWAY)] == [bytes(8)]
    old.lose()
    assert len(world.pool.links) == 1


def test_a_refused_stream_is_asked_for_elsewhere(world: World) -> None:
    world.opened()
    _, task = world.open()
    world.peer.send(rst_stream(3, ErrorCode.REFUSED_STREAM))
    assert task.result.advice is Advice.AGAIN
    world.open()
    assert len(world.runtime.peers) == 2
    assert len(world.peer.greet()) == 1


def test_an_idle_connection_that_is_lost_as_it_is_used_is_no_answer(
    world: World,
) -> None:
    (ws,) = world.opened()
    ws._tunnel.reset()
    _, task = world.open()
    world.peer.lose()
    assert task.result.advice is Advice.AGAIN
    assert task.result.kind is HandshakeInvalid
    assert task.result.temporary
    _, task = world.open()
    world.peer.greet()
    world.peer.lose()
    assert task.result.advice is Advice.TRY_H1
    world.check_nothing_is_left()


@pytest.mark.parametrize(
    ("seconds", "others", "closes", "shared"),
    [
        (0.5, True, True, False),
        (1.5, True, True, True),
        (0.5, False, True, True),
        (0.5, True, False, True),
    ],
)
def test_a_connection_that_is_lost_to_an_answered_close_is_the_last_that_is_shared(
    world: World, seconds: float, others: bool, closes: bool, shared: bool
) -> None:
    world.opened(2 if others else 1)
    reply = encode_frame(0x88, (1000).to_bytes(2)) if closes else b"\x81\0"
    world.peer.send(data(1, reply, end=closes))
    world.runtime.advance(seconds)
    world.peer.lose()
    world.open()
    world.open()
    assert len(world.runtime.peers) == (2 if shared else 3)


def test_a_cancelled_opening_resets_its_stream_and_no_other(world: World) -> None:
    (ws,) = world.opened()
    attempt, task = world.open()
    task.cancel()
    world.runtime.run_ready()
    assert task.cancelled
    assert attempt.step == "handshake"
    (reset,) = world.peer.of(RST_STREAM)
    assert (reset.stream_id, reset.number) == (3, ErrorCode.CANCEL)
    world.peer.answer(3)  # on its way
    world.peer.send(data(1, encode_frame(0x81, "on")))
    assert world.run(ws.read()) == "on"
    ws._tunnel.reset()
    world.runtime.advance(31)
    world.peer.lose()
    world.check_nothing_is_left()


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize("slow", [True, False])
@pytest.mark.parametrize("versions", [H1, H2])
def test_an_opening_that_is_cancelled_while_it_is_dialed_for_leaves_nothing(
    shares: bool, slow: bool, versions: tuple[str, ...]
) -> None:
    world = World(shares=shares)
    world.runtime.slow = slow
    attempt, task = world.open(versions)
    task.cancel()
    world.runtime.run_ready()
    assert task.cancelled
    if slow:
        assert attempt.step == "dialing"
    else:
        assert attempt.step == (
            "handshake" if versions == H1 else "waiting for SETTINGS"
        )
    world.check_nothing_is_left()


def test_others_who_wait_for_a_dial_lose_nothing_when_the_first_gives_up(
    world: World,
) -> None:
    _, first = world.open()
    _, second = world.open()
    first.cancel()
    world.runtime.run_ready()
    (asked,) = world.peer.greet()
    world.peer.answer(asked.stream_id)
    assert isinstance(second.result, WebSocket)
    assert len(world.runtime.peers) == 1


def test_a_refused_dial_is_an_error_for_all_that_wait(world: World) -> None:
    world.runtime.refuses = OSError(111, "Connection refused")
    tasks = [world.open()[1] for _ in range(2)]
    for task in tasks:
        error = task.result.error("ws://a.test")
        assert isinstance(error, DialError)
        assert error.__cause__ is world.runtime.refuses
        assert error.step == "dialing"
    world.check_nothing_is_left()


def test_a_bug_in_dialing_is_logged_and_fails_the_opening(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async def resolve(host: str, port: int) -> list[Any]:
        raise KeyError(host)

    world.runtime.resolve = resolve  # type: ignore[method-assign]
    _, task = world.open()
    assert task.result.kind is DialError
    assert "dialing" in caplog.text
    world.check_nothing_is_left()


@pytest.mark.parametrize(("until", "seconds"), [(None, 5.0), (8.0, 4.0), (100.0, 5.0)])
def test_a_server_without_settings_is_left_in_time(
    world: World, until: float | None, seconds: float
) -> None:
    at = None if until is None else world.runtime.now + until
    attempt, task = world.open(until=at)
    world.runtime.advance(seconds - 0.1)
    assert not task.done
    assert attempt.step == "waiting for SETTINGS"
    world.runtime.advance(0.2)
    assert task.result.advice is Advice.USE_H1_FOR_NOW
    assert task.result.temporary
    world.check_nothing_is_left()


def test_a_server_without_tunnels_is_left(world: World) -> None:
    _, task = world.open()
    world.peer.send(settings())
    assert task.result.kind is Http2Unavailable
    assert task.result.advice is Advice.USE_H1
    assert world.peer.of(GOAWAY)[0].payload == bytes(8)
    world.check_nothing_is_left()


def test_a_server_that_leaves_before_it_began_is_tried_again(world: World) -> None:
    _, task = world.open()
    world.peer.send(settings((8, 1)), goaway(0, 0))
    assert task.result.advice is Advice.AGAIN
    world.check_nothing_is_left()


def test_a_refusal_leaves_a_shared_connection_open(world: World) -> None:
    _, task = world.open()
    world.peer.greet()
    world.peer.send(
        frame(
            HEADERS, END_HEADERS | 1, 1, world.peer.encoder.encode([(":status", "403")])
        )
    )
    assert task.result.kind is HandshakeRejected
    assert world.link.state is LinkState.OPEN
    world.opened()
    assert len(world.runtime.peers) == 1


def test_one_ping_asks_for_all_and_tells_the_latency(world: World) -> None:
    first, second = world.opened(2)
    world.peer.frames()
    assert first.latency is None
    world.runtime.advance(22.1)
    (ping,) = world.peer.of(PING)  # sent 0.1 s ago
    world.runtime.advance(0.3)
    world.peer.send(frame(PING, ACK, 0, ping.payload))
    assert first.latency == second.latency == pytest.approx(0.4)
    world.run(first.ping(b"now"))
    world.runtime.advance(0.1)
    world.peer.send(data(1, encode_frame(0x8A, b"now")))
    assert first.latency == pytest.approx(0.1)
    world.runtime.advance(22.1)
    (ping,) = world.peer.of(PING)
    world.peer.send(frame(PING, ACK, 0, ping.payload))
    assert first.latency == pytest.approx(0.1), "a Ping says more"
    assert second.latency != pytest.approx(0.4)


def test_silence_ends_all_that_share_a_connection(world: World) -> None:
    sockets = world.opened(3)
    world.runtime.advance(43)
    assert len(world.peer.of(PING)) == 1
    for ws in sockets:
        assert ws.close_code == 1006
        with pytest.raises(ConnectionClosed):
            world.run(ws.read())
    world.runtime.advance(10)
    world.check_nothing_is_left()


def test_an_interval_that_is_given_is_that_of_pings_of_the_websocket(
    world: World,
) -> None:
    plain, asking = (world.opened(**given)[0] for given in ({}, {"ping_interval": 5}))
    world.peer.frames()
    world.runtime.advance(5.1)
    (sent,) = world.peer.frames()
    assert (sent.kind, sent.stream_id) == (DATA, 3)
    assert sent.payload[0] == 0x89
    for _ in range(5):  # the connection lives, what is behind it does not
        world.runtime.advance(5)
        world.peer.send(data(1, encode_frame(0x81, "busy")))
    assert asking.close_code == 1006
    assert plain.close_code is None
    assert world.link.state is LinkState.OPEN


def test_over_http1_the_watch_of_the_connection_pings_already() -> None:
    world = World(shares=False, ping_interval=5)
    attempt, task = world.open(H1, ping_interval=5)
    wire = world.peer.transport.take()
    key = wire.split(b"sec-websocket-key: ")[1].split(b"\r\n")[0]
    world.peer.send(switch(key))
    ws: WebSocket = task.result
    assert ws.keep_alive.ping_interval is None
    world.runtime.advance(5.6)
    assert world.peer.transport.take()[0] == 0x89
    assert attempt.wire == "1.1"


@pytest.mark.parametrize("answers", [True, False])
def test_a_connection_that_answers_nothing_takes_no_more(
    world: World, answers: bool
) -> None:
    (ws,) = world.opened()
    _, task = world.open()
    task.cancel()  # its time is over
    world.runtime.run_ready()
    (ping,) = world.peer.of(PING)
    if answers:
        world.peer.send(frame(PING, ACK, 0, ping.payload))
    world.runtime.advance(2.1)
    assert ws.close_code is None
    world.open()
    assert len(world.runtime.peers) == (1 if answers else 2)


@pytest.mark.parametrize("versions", [H1, H2])
def test_a_pool_that_closes_ends_openings(versions: tuple[str, ...]) -> None:
    world = World()
    _, asking = world.open(versions)
    if versions == H2:
        world.peer.greet()
    world.pool.close()
    world.runtime.run_ready()
    assert asking.result.kind is HandshakeInvalid
    assert asking.result.temporary
    if versions == H2:
        assert [each.number for each in world.peer.of(RST_STREAM)] == [ErrorCode.CANCEL]
        world.peer.lose()
    world.check_nothing_is_left()


def test_a_pool_that_closes_says_so_to_each(world: World) -> None:
    (ws,) = world.opened()
    world.peer.frames()
    world.pool.close()
    world.runtime.run_ready()
    (close,) = world.peer.frames()
    assert (close.stream_id, close.payload[0]) == (1, 0x88)
    reply = encode_frame(0x88, (1001).to_bytes(2))
    world.peer.send(data(1, reply), data(1, b"", end=True))
    assert world.run(ws.read()) == Message.Close(1001, "")
    assert [each.kind for each in world.peer.frames()] == [DATA, GOAWAY]
    assert world.peer.transport.eof
    world.peer.lose()
    world.check_nothing_is_left()


def test_a_close_that_is_not_answered_has_the_time_that_is_given() -> None:
    world = World(close_timeout=3)
    (ws,) = world.opened(close_timeout=1)
    (other,) = world.opened()
    world.pool.close()
    world.runtime.advance(1.5)
    assert ws.close_code == 1006
    assert other.close_code is None
    world.runtime.advance(2)
    assert other.close_code == 1006
    assert [each.kind for each in world.peer.frames()][-1] == GOAWAY
    world.runtime.advance(10)
    world.check_nothing_is_left()
