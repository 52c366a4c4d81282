"""``TcpConnection``: TLS, flushing, reading, closing and deadlines, without a socket.

Security list TL-10 to TL-15; RFC 8446 §6.1, RFC 9112 §9.6 and §9.8.
"""

import logging
import os
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import pytest

from tako.config import ServerConfig
from tako.core.exchange_of import exchange_of
from tako.core.seams import Exchange, Pause, Sink, Tunnel
from tako.h1.engine import H1Engine
from tako.h1.exchange import H1Exchange
from tako.http.conn_info import Carrier, IpPeer, PeerAddr, UnixPeer
from tako.http.request import Request
from tako.http.response import Response
from tako.server.engines import ENGINES
from tako.server.pipeline import run_exchange
from tako.tcp.connection import ConnectionState, TcpConnection
from tako.tcp.protocol import Protocol
from tako.tls.certificates import TlsCert, TlsSettings
from tests.support.contained import contained
from tests.support.interpreted import interpreted
from tests.support.server import Credentials
from tests.support.wire import Cancelled, FakeRuntime, FakeTransport


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0"
SETTINGS_ACK = b"\0\0\0\4\1\0\0\0\0"
GET = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
LAST_GET = b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\n"
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
CONFIG = ServerConfig(
    tls_handshake_timeout=10,
    tls_shutdown_timeout=3,
    send_timeout=30,
    header_read_timeout=60,
    drain_timeout=20,
)
LOCAL = IpPeer("127.0.0.1", 443)
MIB = 1 << 20

Handler = Callable[[Exchange], Awaitable[None]]


async def hello(exchange: Exchange) -> None:
    exchange.send_headers(200, [(b"content-length", b"5")])
    exchange.send_data(b"hello", end=True)
    exchange.flush(soon=True)


def piped(handler: Handler) -> Handler:
    """Return what a server would make of ``handler``."""

    async def dispatch(request: Request) -> Response:
        exchange = exchange_of(request)
        assert exchange is not None
        await handler(exchange)
        return Response()

    return partial(run_exchange, dispatch)


class Open:
    """A connection on a fake transport."""

    def __init__(
        self,
        handler: Handler = hello,
        *,
        protocol: Protocol = "http/1.1",
        tls: TlsSettings | None = None,
        local: IpPeer | UnixPeer = LOCAL,
        config: ServerConfig = CONFIG,
        pipeline: bool = False,
    ) -> None:
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.lost: list[TcpConnection] = []
        self.complaints: list[tuple[str, PeerAddr]] = []
        self.connection = TcpConnection(
            self.runtime,
            config,
            piped(handler) if pipeline else contained(handler),
            engines=ENGINES,
            protocol=protocol,
            tls=tls,
            peer=IpPeer("127.0.0.1", 50000),
            local=local,
            on_lost=self.lost.append,
            complain=lambda text, peer: self.complaints.append((text, peer)),
        )
        self.connection.connection_made(self.transport)

    @property
    def state(self) -> str:
        return self.connection.state.name

    def receive(self, data: bytes) -> None:
        self.connection.data_received(data)
        self.runtime.run_ready()

    def take(self) -> bytes:
        return self.transport.take()

    def lose(self) -> None:
        self.connection.connection_lost(None)
        self.runtime.run_ready()


class TlsClient:
    """The client's side of a TLS connection, between two memory BIOs."""

    def __init__(self, open_: Open, context: ssl.SSLContext) -> None:
        self.open = open_
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname="localhost")

    def exchange(self) -> None:
        """Carry what is queued in both directions."""
        data = self._out.read()
        if data:
            self.open.receive(data)
        answer = self.open.take()
        if answer:
            self._in.write(answer)

    def shake_hands(self) -> None:
        for _ in range(6):
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self.exchange()
            else:
                self.exchange()
                return
        pytest.fail("the handshake did not end")

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.exchange()

    def read(self) -> bytes:
        """Return what the server sent; its close_notify is ``b''`` at the end."""
        data = b""
        try:
            while True:
                chunk = self.tls.read()
                data += chunk
                if not chunk:
                    break
        except ssl.SSLWantReadError:
            pass
        return data

    def decrypt(self, data: bytes) -> bytes:
        """Return what the server says in ``data``."""
        self._in.write(data)
        return self.read()

    def sees_close_notify(self) -> bool:
        """Whether the server's data has ended in order."""
        try:
            return self.tls.read() == b""
        except ssl.SSLWantReadError:
            return False

    def say_close_notify(self) -> None:
        with pytest.raises(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.exchange()


class Socket(Open):
    """A connection whose transport has a socket; what it takes does not come there."""

    def __init__(self, tls: TlsSettings | None, context: ssl.SSLContext) -> None:
        super().__init__(protocol="http/1.1" if tls is None else "tls", tls=tls)
        self._sock, self.peer = socket.socketpair()
        self._sock.setblocking(False)
        self.peer.setblocking(False)
        self.runtime.socket = self._sock.fileno()
        self._client = None if tls is None else TlsClient(self, context)
        self._begins = True
        if self._client is not None:
            self._client.shake_hands()
            assert self._client.read() == b""  # nothing but session tickets
        self._begins = False

    def take(self) -> bytes:
        """Return what was given to the transport; of the handshake, all there is."""
        data = super().take()
        return self.arrived() + data if self._begins else data

    def arrived(self) -> bytes:
        """Return what came to the other end of the socket, in one read."""
        try:
            return self.peer.recv(1 << 20)
        except BlockingIOError:
            return b""

    def plain(self, data: bytes) -> bytes:
        """Return what ``data`` says, which is behind that of the last call."""
        return data if self._client is None else self._client.decrypt(data)

    def close(self) -> None:
        self._sock.close()
        self.peer.close()


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def to_socket(
    request: pytest.FixtureRequest,
    settings: TlsSettings,
    client_context: ssl.SSLContext,
) -> Iterator[Socket]:
    open_ = Socket(settings if request.param else None, client_context)
    yield open_
    open_.close()


@pytest.fixture(scope="module")
def settings(credentials: Credentials) -> TlsSettings:
    cert, key = Path(credentials.cert), Path(credentials.key)
    return TlsSettings(TlsCert.pem_paths(cert, key), ("h2", "http/1.1"))


@pytest.fixture
def client_context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@pytest.fixture
def secured(settings: TlsSettings) -> Open:
    return Open(protocol="tls", tls=settings)


class TestProtocols:
    def test_plain_http_1_needs_no_handshake(self) -> None:
        open_ = Open()
        assert not open_.connection.handshaking
        open_.receive(GET)
        assert open_.take().startswith(b"HTTP/1.1 200 OK\r\n")
        assert open_.connection.conn_info.transport is Carrier.HTTP1

    def test_prior_knowledge_sends_settings_at_once(self) -> None:
        open_ = Open(protocol="h2")
        assert open_.take()[3:5] == b"\4\0", "SETTINGS come first (RFC 9113 §3.4)"
        assert open_.connection.conn_info.transport is Carrier.HTTP2

    def test_a_unix_socket_is_said_to_be_one(self) -> None:
        open_ = Open(local=UnixPeer("/run/tako.sock"))
        assert open_.connection.conn_info.transport is Carrier.UNIX

    @pytest.mark.parametrize(
        ("offered", "wire"),
        [
            (["h2", "http/1.1"], Carrier.HTTP2),
            (["http/1.1"], Carrier.HTTP1),
            ([], Carrier.HTTP1),
        ],
    )
    def test_alpn_chooses_over_tls(
        self,
        secured: Open,
        client_context: ssl.SSLContext,
        offered: list[str],
        wire: Carrier,
    ) -> None:
        if offered:
            client_context.set_alpn_protocols(offered)
        client = TlsClient(secured, client_context)
        client.shake_hands()
        info = secured.connection.conn_info
        assert info.transport is wire
        assert info.tls is not None
        assert info.tls.alpn == (offered[0] if offered else None)
        assert info.peer == IpPeer("127.0.0.1", 50000)

    def test_a_request_over_tls_is_answered(
        self, secured: Open, client_context: ssl.SSLContext
    ) -> None:
        client = TlsClient(secured, client_context)
        client.shake_hands()
        client.send(GET)
        assert client.read().endswith(b"\r\n\r\nhello")

    def test_a_request_in_the_last_flight_of_the_handshake_is_answered(
        self, secured: Open, client_context: ssl.SSLContext
    ) -> None:
        client = TlsClient(secured, client_context)
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        client.exchange()
        client.tls.do_handshake()
        secured.transport.writes = 0
        client.send(GET)  # together with the Finished
        assert client.read().endswith(b"hello")
        assert secured.transport.writes == 1  # session tickets included


class TestHandshake:
    def test_it_has_ten_seconds(self, secured: Open) -> None:
        secured.runtime.advance(9.9)
        assert not secured.transport.aborted
        secured.runtime.advance(0.2)
        assert secured.transport.aborted

    def test_trickling_bytes_do_not_extend_it(
        self, secured: Open, client_context: ssl.SSLContext
    ) -> None:
        client = TlsClient(secured, client_context)
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        hello_ = client._out.read()
        for byte in hello_[:9]:
            secured.receive(bytes([byte]))
            secured.runtime.advance(1)
        assert not secured.transport.aborted
        secured.runtime.advance(1)
        assert secured.transport.aborted

    def test_a_complete_one_switches_the_deadline_off(
        self, secured: Open, client_context: ssl.SSLContext
    ) -> None:
        TlsClient(secured, client_context).shake_hands()
        assert not secured.connection.handshaking
        secured.runtime.advance(20)
        assert not secured.transport.aborted

    def test_plain_http_is_answered_with_a_400_and_closed(self, secured: Open) -> None:
        secured.receive(GET)
        assert secured.take().startswith(b"HTTP/1.1 400 ")
        assert secured.transport.eof
        assert [each for each, _ in secured.complaints] == [
            "plain HTTP on a port for TLS, answered with 400"
        ]

    def test_other_bytes_are_closed_quietly(
        self, secured: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.INFO):
            secured.receive(b"\0" * 20)
        assert secured.take() == b""
        assert secured.transport.eof
        assert not caplog.records
        assert not secured.complaints

    def test_a_client_that_refuses_us_is_let_go(
        self, secured: Open, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = TlsClient(secured, ssl.create_default_context())
        with pytest.raises(ssl.SSLWantReadError):
            client.tls.do_handshake()
        client.exchange()
        with pytest.raises(ssl.SSLCertVerificationError):
            client.tls.do_handshake()
        client.exchange()  # its alert
        assert secured.transport.eof or secured.transport.closed
        assert not [each for each in caplog.records if each.levelno >= logging.ERROR]

    def test_a_fin_in_the_middle_of_it_ends_the_connection(self, secured: Open) -> None:
        secured.receive(b"\x16\x03\x01")
        assert secured.connection.eof_received() is False
        assert secured.transport.aborted

    def test_a_drain_in_the_middle_of_it_ends_the_connection(
        self, secured: Open
    ) -> None:
        secured.connection.shut_down()
        assert secured.transport.aborted


class TestComplaints:
    """What an operator hears of peers that speak another protocol."""

    @pytest.mark.parametrize(
        ("protocol", "data", "complaint"),
        [
            ("http/1.1", b"\x16\x03\x01\x02\0\x01", "TLS on a port for plain HTTP/1.1"),
            ("h2", b"\x16\x03\x01", "TLS on a port for HTTP/2 in the clear"),
            ("h2", GET, "HTTP/1.1 on a port for HTTP/2 with prior knowledge"),
            (
                "h2",
                b"\0\0\0",
                "something else than HTTP/2 on a port for HTTP/2 with prior knowledge",
            ),
        ],
    )
    def test_another_protocol_is_told_of_once(
        self, protocol: Protocol, data: bytes, complaint: str
    ) -> None:
        open_ = Open(protocol=protocol)
        open_.receive(data)
        open_.receive(data)
        assert open_.transport.eof
        assert open_.complaints == [(complaint, IpPeer("127.0.0.1", 50000))]

    def test_http_1_after_agreeing_on_h2_is_told_of(
        self, secured: Open, client_context: ssl.SSLContext
    ) -> None:
        client_context.set_alpn_protocols(["h2"])
        client = TlsClient(secured, client_context)
        client.shake_hands()
        client.send(GET)
        assert [each for each, _ in secured.complaints] == [
            "HTTP/1.1 from a client that agreed on h2 by ALPN"
        ]

    @pytest.mark.parametrize(
        ("protocol", "data"),
        [
            ("http/1.1", b""),
            ("http/1.1", GET),
            ("http/1.1", b"GET\r\n\r\n"),
            ("http/1.1", PREFACE),
            ("h2", b""),
            ("h2", PREFACE),
            ("h2", PREFACE + b"x" * 99),
        ],
    )
    def test_other_mistakes_are_not(self, protocol: Protocol, data: bytes) -> None:
        open_ = Open(protocol=protocol)
        open_.receive(data)
        open_.connection.eof_received()
        assert not open_.complaints


class TestFlush:
    def test_what_one_read_causes_leaves_in_one_write(self) -> None:
        open_ = Open(protocol="h2")
        open_.take()
        open_.transport.writes = 0
        ping = b"\0\0\10\6\0\0\0\0\0"
        open_.receive(PREFACE + ping + b"11111111" + ping + b"22222222")
        assert open_.transport.writes == 1
        data = open_.take()
        assert b"11111111" in data
        assert b"22222222" in data

    def test_soon_writes_once_after_what_is_due(self) -> None:
        async def handler(exchange: Exchange) -> None:
            exchange.send_headers(200, [(b"content-length", b"2")])
            exchange.flush(soon=True)
            exchange.send_data(b"a")
            exchange.flush(soon=True)
            exchange.send_data(b"b", end=True)

        open_ = Open(handler)
        open_.receive(GET)
        assert open_.transport.writes == 1
        assert open_.take().endswith(b"\r\n\r\nab")

    def test_now_writes_now(self) -> None:
        written: list[int] = []

        async def handler(exchange: Exchange) -> None:
            exchange.send_headers(200, [(b"content-length", b"1")])
            exchange.flush()
            written.append(open_.transport.writes)
            exchange.send_data(b"a", end=True)

        open_ = Open(handler)
        open_.receive(GET)
        assert written == [1]

    def test_past_the_engine_it_keeps_the_rule(self) -> None:
        told: list[bool] = []

        async def handler(exchange: Exchange) -> None:
            connection = open_.connection
            connection.flush()  # else what the read led to is due
            told.append(connection.write(b"at once, ", False))
            exchange.send_headers(200, [(b"content-length", b"0")], end=True)
            exchange.flush(soon=True)
            told.append(connection.write(b"never: the head is due", False))

        open_ = Open(handler)
        open_.receive(GET)
        assert told == [True, False]
        assert open_.take().startswith(b"at once, HTTP/1.1 200 ")
        open_.connection.pause_writing()
        assert not open_.connection.write(b"never: the transport is full", False)
        assert open_.take() == b""
        open_.connection.resume_writing()
        open_.connection.close()
        assert not open_.connection.write(b"never: closed", False)
        assert open_.take() == b""

    def test_what_a_read_causes_is_not_written_past_the_engine(self) -> None:
        class Echo:
            def deliver(self, data: bytes) -> None:
                tunnels[0].send_data(b"first, ")
                assert not open_.connection.write(b"never: the read goes on", False)
                assert tunnels[0].send_frame(0x81, data.decode(), soon=False)

            def __getattr__(self, name: str) -> object:
                return lambda *_: None

        tunnels: list[Tunnel] = []

        async def handler(exchange: Exchange) -> None:
            tunnels.append(exchange.open_tunnel(101, []))
            tunnels[0].receive_into(cast("Sink", Echo()))

        open_ = Open(handler)
        open_.receive(UPGRADE)
        open_.take()
        open_.transport.writes = 0
        open_.receive(b"then")
        assert open_.take() == b"first, \x81\x04then"
        assert open_.transport.writes == 1

    def test_the_first_of_a_turn_goes_to_the_socket(self, to_socket: Socket) -> None:
        open_ = to_socket
        connection, plain = open_.connection, open_.plain
        assert connection.write(b"first", True)
        assert plain(open_.arrived()) == b"first"
        assert connection.write(b"second, ", False)  # what the loop can join
        assert connection.write(b"third", False)
        assert open_.arrived() == b""
        assert plain(open_.take()) == b"second, third"
        assert connection.write(b"fourth", True)
        assert plain(open_.arrived()) == b"fourth"

    def test_nothing_overtakes_what_the_transport_holds(
        self, to_socket: Socket
    ) -> None:
        connection, transport = to_socket.connection, to_socket.transport
        assert connection.write(b"first", True)
        assert to_socket.plain(to_socket.arrived()) == b"first"
        assert connection.write(b"left to the loop", False)
        transport.unsent = 1
        for _ in range(2):
            assert connection.write(b", behind it", True)
            assert to_socket.arrived() == b""
        transport.unsent = 0
        held = b"left to the loop, behind it, behind it"
        assert to_socket.plain(to_socket.take()) == held
        assert connection.write(b"empty", True)
        assert to_socket.plain(to_socket.arrived()) == b"empty"

    def test_what_the_socket_has_no_room_for_is_behind_what_it_took(
        self, to_socket: Socket
    ) -> None:
        open_ = to_socket
        data, count, before = os.urandom(20_000), 0, open_.connection.written
        while not open_.transport.written:
            assert open_.connection.write(data, True)
            count += 1
        raw = b""
        while part := open_.arrived():
            raw += part
        assert raw
        raw += open_.take()
        assert open_.connection.written - before == len(raw)
        assert open_.plain(raw) == data * count

    def test_a_broken_socket_is_the_transports_business(
        self, to_socket: Socket
    ) -> None:
        to_socket.peer.close()
        assert to_socket.connection.write(b"to nobody", True)
        assert to_socket.plain(to_socket.take()) == b"to nobody"
        assert to_socket.state == "OPEN"  # until the transport has said so
        to_socket.connection.connection_lost(ConnectionResetError())
        assert not to_socket.connection.write(b"never", True)

    def test_a_transport_may_have_no_socket(self) -> None:
        open_ = Open()
        assert open_.connection.write(b"to the transport", True)
        assert open_.connection.write(b", and again", True)
        assert open_.take() == b"to the transport, and again"

    def test_nothing_is_written_when_nothing_is_queued(self) -> None:
        open_ = Open()
        open_.connection.flush()
        open_.connection.flush(soon=True)
        open_.runtime.run_ready()
        assert open_.transport.writes == 0


class TestReading:
    def test_it_pauses_while_any_reason_holds(self) -> None:
        open_ = Open()
        connection, transport = open_.connection, open_.transport
        connection.pause_reading(Pause.BODY)
        connection.pause_reading(Pause.PIPELINE)
        assert not transport.reading
        connection.resume_reading(Pause.BODY)
        assert not transport.reading
        connection.resume_reading(Pause.BODY)  # not given: a no-op
        assert not transport.reading
        connection.resume_reading(Pause.PIPELINE)
        assert transport.reading

    def test_it_pauses_while_our_output_is_not_taken(self) -> None:
        open_ = Open()
        open_.connection.pause_writing()
        assert not open_.connection.writable
        assert not open_.transport.reading
        open_.connection.resume_writing()
        assert open_.connection.writable
        assert open_.transport.reading

    @interpreted
    def test_a_backlog_is_worked_off_in_turns(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[object] = []

        def put_off_twice(engine: H1Engine, data: bytes) -> Sequence[H1Exchange]:
            order.append(data)
            engine.backlog = len(order) < 5
            return ()

        monkeypatch.setattr(H1Engine, "receive_data", put_off_twice)
        open_ = Open()

        def other() -> None:
            order.append(open_.transport.reading)
            if not open_.transport.reading:
                open_.runtime.call_soon(other)

        open_.connection.data_received(b"input")
        open_.runtime.call_soon(other)
        open_.runtime.run_ready()
        assert order == [b"input", b"", False, b"", False, b"", True]


class TestTurns:
    def test_large_reads_end_even_if_all_of_them_is_consumed_at_once(self) -> None:
        class Hungry:
            def deliver(self, data: bytes) -> None:
                open_.runtime.now += 0.0002
                exchanges[0].consumed(len(data))

            def __getattr__(self, name: str) -> object:
                return lambda *_: None

        exchanges: list[Exchange] = []

        async def handler(exchange: Exchange) -> None:
            exchanges.append(exchange)
            exchange.open_tunnel(101, []).receive_into(cast("Sink", Hungry()))

        open_ = Open(handler)
        open_.receive(UPGRADE)
        reads = 0
        while open_.transport.reading:
            open_.connection.data_received(bytes(256 * 1024))
            reads += 1
        assert 1 < reads < 16
        open_.runtime.run_ready()
        assert open_.transport.reading, "it goes on in the next turn"

    def test_a_turn_that_is_used_up_stops_reading_for_the_rest_of_it(self) -> None:
        open_ = Open()
        while open_.connection.turn.spend(64):
            assert open_.transport.reading
            open_.runtime.now += 0.0002
        assert not open_.transport.reading
        open_.runtime.run_ready()
        assert open_.transport.reading


class TestClosing:
    """RFC 9112 §9.6: say everything, half-close, and let the peer end."""

    def test_the_response_is_written_then_fin_and_the_socket_stays(self) -> None:
        open_ = Open()
        open_.receive(LAST_GET)
        assert open_.take().endswith(b"hello")
        assert open_.transport.eof
        assert not open_.transport.closed
        assert not open_.transport.aborted

    def test_the_peers_fin_frees_it(self) -> None:
        open_ = Open()
        open_.receive(LAST_GET)
        assert open_.connection.eof_received() is False, "the transport then closes"
        assert not open_.transport.aborted

    def test_a_peer_that_was_first_is_not_waited_for(self) -> None:
        open_ = Open()
        open_.connection.data_received(LAST_GET)
        assert open_.connection.eof_received() is True, "the answer is still to come"
        open_.runtime.run_ready()
        assert open_.take().endswith(b"hello")
        assert open_.transport.closed
        assert not open_.transport.aborted

    def test_without_the_peers_fin_it_lasts_three_seconds(self) -> None:
        open_ = Open()
        open_.receive(LAST_GET)
        open_.runtime.advance(2.9)
        assert not open_.transport.aborted
        open_.runtime.advance(0.2)
        assert open_.transport.aborted

    def test_what_the_peer_still_sends_is_dropped(self) -> None:
        open_ = Open()
        open_.receive(LAST_GET)
        open_.take()
        open_.receive(GET * 100)
        assert open_.take() == b""
        assert open_.transport.reading

    def test_but_not_more_than_16_mib_of_it(self) -> None:
        open_ = Open()
        open_.receive(LAST_GET)
        for _ in range(16):
            open_.receive(bytes(MIB))
        assert not open_.transport.aborted
        open_.receive(b"x")
        assert open_.transport.aborted

    def test_reading_goes_on_even_if_it_was_paused(self) -> None:
        open_ = Open()
        open_.connection.pause_reading(Pause.BODY)
        open_.connection.close()
        assert open_.transport.reading
        open_.connection.pause_reading(Pause.BODY)
        open_.connection.pause_writing()
        assert open_.transport.reading

    def test_a_slow_reader_is_not_cut_off_while_it_makes_progress(self) -> None:
        open_ = Open()
        open_.transport.unsent = 60_000
        open_.receive(LAST_GET)
        for _ in range(20):
            open_.runtime.advance(10)
            open_.transport.unsent -= 3000
        assert open_.transport.unsent == 0
        assert not open_.transport.aborted
        open_.runtime.advance(6.1)
        assert open_.transport.aborted

    def test_a_reader_without_progress_has_the_send_timeout(self) -> None:
        open_ = Open()
        open_.transport.unsent = 60_000
        open_.receive(LAST_GET)
        open_.runtime.advance(29)
        assert not open_.transport.aborted
        open_.runtime.advance(3)
        assert open_.transport.aborted

    def test_a_reader_that_trickles_is_cut_off(self) -> None:
        open_ = Open()
        open_.transport.unsent = 60_000
        open_.receive(LAST_GET)
        for _ in range(10):
            open_.runtime.advance(1)
            open_.transport.unsent -= 10
        assert open_.transport.aborted

    def test_a_reset_that_the_loop_has_not_reported_is_no_crash(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        open_ = Open()

        def write_eof() -> None:
            raise OSError(107, "Transport endpoint is not connected")

        open_.transport.write_eof = write_eof  # type: ignore[method-assign]
        open_.receive(LAST_GET)
        assert open_.transport.aborted
        assert not caplog.records

    def test_closing_twice_is_closing_once(self) -> None:
        open_ = Open()
        open_.connection.close()
        open_.connection.close()
        open_.lose()
        open_.connection.close()
        open_.connection.abort()
        assert open_.lost == [open_.connection]


class TestTlsClosing:
    @pytest.fixture
    def client(self, secured: Open, client_context: ssl.SSLContext) -> TlsClient:
        client = TlsClient(secured, client_context)
        client.shake_hands()
        return client

    def test_close_notify_and_fin_follow_the_last_response(
        self, secured: Open, client: TlsClient
    ) -> None:
        client.send(LAST_GET)
        assert client.read().endswith(b"hello")
        assert client.sees_close_notify()
        assert secured.transport.eof

    def test_it_follows_a_bad_request_too(self, client: TlsClient) -> None:
        client.send(b"\x00\x01\x02 nonsense\r\n\r\n")
        assert client.read().startswith(b"HTTP/1.1 400 ")
        assert client.sees_close_notify()

    def test_it_follows_a_drain_too(self, secured: Open, client: TlsClient) -> None:
        secured.connection.shut_down()
        secured.runtime.advance(1.1)  # for the first request
        client.exchange()
        assert client.sees_close_notify()

    def test_a_peer_that_never_answers_it_is_dropped_after_three_seconds(
        self, secured: Open, client: TlsClient
    ) -> None:
        client.send(LAST_GET)
        secured.runtime.advance(3.1)
        assert secured.transport.aborted

    def test_a_close_notify_behind_a_request_gets_the_response(
        self, secured: Open, client: TlsClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        client.tls.write(GET)
        client.say_close_notify()
        assert secured.transport.eof
        assert not caplog.records

    def test_fin_without_close_notify_in_a_body_reaches_the_handler(
        self, settings: TlsSettings, client_context: ssl.SSLContext
    ) -> None:
        raised: list[str] = []

        async def handler(exchange: Exchange) -> None:
            try:
                await exchange.request.body()
            except Exception as error:
                raised.append(type(error).__name__)
                raise

        secured = Open(handler, protocol="tls", tls=settings)
        client = TlsClient(secured, client_context)
        client.shake_hands()
        client.send(
            b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nhalf"
        )
        secured.connection.eof_received()
        secured.runtime.run_ready()
        assert raised == ["RemoteProtocolError"]

    def test_a_broken_record_ends_the_connection_with_an_alert(
        self, secured: Open, client: TlsClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        secured.take()
        secured.receive(b"\x17\x03\x03\x00\x20" + bytes(32))
        assert secured.take()[:1] in {b"\x15", b"\x17"}, "an alert, encrypted or not"
        assert secured.transport.closed
        assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


class TestState:
    def test_a_plain_connection_is_open_at_once(self) -> None:
        assert Open().state == "OPEN"

    def test_with_tls_the_handshake_comes_first(
        self, secured: Open, client_context: ssl.SSLContext
    ) -> None:
        assert secured.state == "HANDSHAKING"
        TlsClient(secured, client_context).shake_hands()
        assert secured.state == "OPEN"

    def test_a_handshake_that_failed_lingers_for_its_alert(self, secured: Open) -> None:
        secured.receive(GET)
        assert secured.state == "LINGERING"

    def test_it_lingers_after_our_fin_and_is_lost_with_the_socket(self) -> None:
        open_ = Open()
        open_.connection.close()
        assert open_.state == "LINGERING"
        open_.lose()
        assert open_.state == "LOST"

    def test_one_that_is_aborted_is_lost_before_the_loop_says_so(self) -> None:
        open_ = Open()
        open_.connection.abort()
        assert open_.state == "LOST"
        assert open_.lost == []
        open_.connection.data_received(GET)
        open_.lose()
        assert open_.lost == [open_.connection]
        assert open_.take() == b""

    def test_a_reset_that_meets_our_fin_leaves_nothing_to_linger_for(self) -> None:
        open_ = Open()

        def write_eof() -> None:
            raise OSError(107, "Transport endpoint is not connected")

        open_.transport.write_eof = write_eof  # type: ignore[method-assign]
        open_.connection.close()
        assert open_.state == "LOST"

    def test_each_state_is_logged_with_the_peer(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, logger="tako.server"):
            open_ = Open()
            open_.connection.close()
            open_.lose()
        assert [each.getMessage() for each in caplog.records] == [
            f"connection from 127.0.0.1:50000 is {state}"
            for state in ("OPEN", "LINGERING", "LOST")
        ]

    @pytest.mark.skipif(not __debug__, reason="python -O does not check")
    def test_a_connection_that_is_lost_never_opens_again(self) -> None:
        connection = Open().connection
        connection.abort()
        enter = connection._enter  # pyright: ignore[reportPrivateUsage]
        with pytest.raises(AssertionError, match=r"OPEN must not follow .*LOST"):
            enter(ConnectionState.OPEN)


class TestIsolation:
    def test_a_handler_that_raises_costs_its_exchange(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def handler(_: Exchange) -> None:
            msg = "secret"
            raise ValueError(msg)

        open_ = Open(handler)
        open_.receive(GET)
        assert b"secret" not in open_.take()
        assert "handler of / failed" in caplog.text
        assert open_.runtime.tasks[0].error is None

    @pytest.mark.parametrize("pipeline", [False, True])
    @pytest.mark.parametrize("wrapped", [False, True])
    def test_a_cancelled_handler_is_reset_without_a_word(
        self, caplog: pytest.LogCaptureFixture, wrapped: bool, pipeline: bool
    ) -> None:
        async def handler(exchange: Exchange) -> None:
            try:
                await exchange.connection.runtime.sleep(1000)
            except Cancelled as error:
                if wrapped:
                    msg = "nursery"
                    raise BaseExceptionGroup(msg, [error]) from None
                raise

        open_ = Open(handler, pipeline=pipeline)
        open_.receive(GET)
        open_.runtime.tasks[0].cancel()
        open_.runtime.run_ready()
        assert open_.transport.aborted or open_.transport.eof
        assert not caplog.records

    @pytest.mark.parametrize("pipeline", [False, True])
    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
    def test_the_end_of_the_process_propagates(
        self, error: type[BaseException], pipeline: bool
    ) -> None:
        async def handler(_: Exchange) -> None:
            raise error

        open_ = Open(handler, pipeline=pipeline)
        open_.receive(GET)
        assert isinstance(open_.runtime.tasks[0].error, error)

    def test_a_bug_behind_the_answer_costs_its_exchange(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        def broken(_status: int, _complete: bool) -> None:
            msg = "bug"
            raise RuntimeError(msg)

        async def handler(exchange: Exchange) -> None:
            exchange.request.on_end(broken)

        open_ = Open(handler, pipeline=True)
        open_.receive(GET)
        assert "handler of / failed" in caplog.text
        assert open_.runtime.tasks[0].error is None
        assert open_.connection.counters.http1.active == 0

    @interpreted
    def test_a_bug_in_the_engine_costs_this_connection(
        self, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def crash(_self: H1Engine, _data: bytes) -> None:
            msg = "bug"
            raise RuntimeError(msg)

        open_ = Open()
        monkeypatch.setattr(H1Engine, "receive_data", crash)
        open_.receive(GET)
        assert open_.transport.aborted
        assert "RuntimeError: bug" in caplog.text

    def test_a_lost_connection_cancels_the_handler_and_tells_the_server(self) -> None:
        async def handler(exchange: Exchange) -> None:
            await exchange.connection.runtime.sleep(1000)

        open_ = Open(handler)
        open_.receive(GET)
        open_.lose()
        assert open_.runtime.tasks[0].cancelled
        assert open_.lost == [open_.connection]

    @pytest.mark.parametrize("lost", [False, True])
    def test_a_handler_can_be_cancelled_later(self, lost: bool) -> None:
        exchanges: list[Exchange] = []
        cancelled: list[str] = []

        async def handler(exchange: Exchange) -> None:
            exchanges.append(exchange)
            exchange.task = None  # as an ASGI app's, which no reset cancels
            try:
                await open_.runtime.signal().wait()
            except BaseException:
                cancelled.append("handler")
                raise

        open_ = Open(handler)
        open_.receive(GET)
        open_.connection.cancel_at(open_.runtime.now + 5, exchanges[0])
        if lost:
            open_.lose()
        open_.runtime.advance(4.9)
        assert not cancelled
        open_.runtime.advance(0.2)
        assert cancelled == ["handler"]

    def test_one_that_has_ended_by_then_is_not(self) -> None:
        exchanges: list[Exchange] = []

        async def handler(exchange: Exchange) -> None:
            exchanges.append(exchange)
            await hello(exchange)

        open_ = Open(handler)
        open_.receive(GET)
        open_.connection.cancel_at(open_.runtime.now + 5, exchanges[0])
        open_.runtime.advance(10)
        assert not open_.runtime.tasks[0].cancelled

    def test_after_the_loss_nothing_touches_the_transport(self) -> None:
        open_ = Open()
        open_.receive(GET)
        open_.take()
        open_.lose()
        open_.connection.flush()
        open_.connection.pause_reading(Pause.BODY)
        open_.connection.resume_reading(Pause.BODY)
        open_.connection.resume_writing()
        open_.connection.shut_down()
        open_.runtime.advance(1000)
        assert open_.take() == b""
        assert open_.transport.reading
        assert not open_.transport.aborted


class TestBlockedOutput:
    """``send_timeout`` without any progress; ``min_rate`` where there is some."""

    @pytest.fixture(params=["http/1.1", "h2"])
    def blocked(self, request: pytest.FixtureRequest) -> Open:
        config = ServerConfig(keep_alive_timeout=3600)
        return self.block(Open(protocol=request.param, config=config))

    @staticmethod
    def block(open_: Open) -> Open:
        http1 = open_.connection.conn_info.transport is Carrier.HTTP1
        open_.receive(GET if http1 else PREFACE + SETTINGS_ACK)
        open_.transport.unsent = 100_000
        open_.connection.pause_writing()
        return open_

    def test_a_reader_that_takes_nothing_is_dropped(self, blocked: Open) -> None:
        blocked.runtime.advance(29)
        assert not blocked.transport.aborted
        blocked.runtime.advance(2)
        assert blocked.transport.aborted

    def test_a_slow_reader_is_served_however_long_that_takes(
        self, blocked: Open
    ) -> None:
        for _ in range(300):
            blocked.runtime.advance(1)
            blocked.transport.unsent -= 300
        assert not blocked.transport.aborted

    def test_one_that_takes_much_now_and_then_is_served_too(
        self, blocked: Open
    ) -> None:
        for _ in range(5):
            blocked.runtime.advance(25)
            blocked.transport.unsent -= 10_000
        assert not blocked.transport.aborted
        blocked.runtime.advance(33)
        assert blocked.transport.aborted

    def test_one_that_trickles_is_dropped(self, blocked: Open) -> None:
        for _ in range(10):
            blocked.runtime.advance(1)
            blocked.transport.unsent -= 100
        assert blocked.transport.aborted

    def test_what_is_written_meanwhile_is_no_progress(self) -> None:
        async def talks(exchange: Exchange) -> None:
            exchange.send_headers(200, [])
            for _ in range(100):
                exchange.send_data(bytes(1000))
                exchange.flush()
                open_.transport.unsent += 1000 + len(b"3e8\r\n\r\n")
                await exchange.connection.runtime.sleep(1)

        open_ = Open(talks)
        open_.connection.pause_writing()
        open_.receive(GET)
        open_.runtime.advance(33)
        assert open_.transport.aborted
        open_.lose()

    def test_output_that_was_taken_in_time_is_forgotten(self, blocked: Open) -> None:
        blocked.runtime.advance(29)
        blocked.transport.unsent = 0
        blocked.connection.resume_writing()
        blocked.runtime.advance(5)
        assert not blocked.transport.aborted
        blocked.transport.unsent = 100_000
        blocked.connection.pause_writing()
        blocked.runtime.advance(29)
        assert not blocked.transport.aborted
        blocked.runtime.advance(2)
        assert blocked.transport.aborted

    def test_both_can_be_off(self) -> None:
        open_ = self.block(
            Open(
                config=ServerConfig(
                    send_timeout=None, min_rate=0, header_read_timeout=None
                )
            )
        )
        for _ in range(100):
            open_.runtime.advance(100)
            open_.transport.unsent -= 1
        assert not open_.transport.aborted

    def test_a_handler_that_waits_is_told_of_the_end(self) -> None:
        ended: list[bool] = []

        async def streams(exchange: Exchange) -> None:
            exchange.send_headers(200, [])
            exchange.send_data(b"x")
            exchange.flush()
            assert isinstance(exchange, H1Exchange)
            try:
                await exchange.body.writable_again()
            finally:
                ended.append(exchange.over)

        open_ = Open(streams)
        open_.transport.unsent = 100_000
        open_.connection.pause_writing()
        open_.receive(GET)
        open_.runtime.advance(31)
        assert open_.transport.aborted
        open_.lose()
        assert ended == [True]


class Full(FakeTransport):
    """A transport to a peer that takes nothing: it pauses its connection."""

    def __init__(self, open_: Open, high: int = 64 * 1024) -> None:
        super().__init__()
        self._connection = open_.connection
        self._default = self._high = high
        self._paused = False

    def write(self, data: bytes | memoryview) -> None:
        super().write(data)
        self.unsent += len(data)
        self._look()

    def set_write_buffer_limits(self, high: int | None = None, /) -> None:
        super().set_write_buffer_limits(high)
        self._high = self._default if high is None else high
        self._look()

    def _look(self) -> None:
        if self.unsent > self._high and not self._paused:
            self._paused = True
            self._connection.pause_writing()

    def empty(self) -> bytes:
        """Let the peer take everything; return it."""
        data, self.unsent = self.take(), 0
        if self._paused:
            self._paused = False
            self._connection.resume_writing()
        return data


async def page(exchange: Exchange) -> None:
    exchange.send_headers(200, [(b"content-length", b"60000")])
    exchange.send_data(bytes(60_000), end=True)


async def many_fields(exchange: Exchange) -> None:
    exchange.send_headers(200, [(b"x", b"v" * 3000)], end=True)


class TestWaitingRequests:
    """What was read already is not answered into a transport that is full."""

    COUNT = 400
    H2_GET = b"\0\0\6\1\5\0\0%b\x82\x87\x84\x01\x01a"

    @pytest.fixture(params=["h1", "h1s", "h2"])
    def flood(
        self,
        request: pytest.FixtureRequest,
        settings: TlsSettings,
        client_context: ssl.SSLContext,
    ) -> tuple[Open, Full]:
        """A connection that was sent many requests, and takes no answer."""
        if request.param == "h1s":
            open_ = Open(page, protocol="tls", tls=settings)
            client = TlsClient(open_, client_context)
            client.shake_hands()
            client.tls.write(GET * self.COUNT)
            data = client._out.read()
        elif request.param == "h1":
            open_ = Open(page)
            data = GET * self.COUNT
        else:
            # each turn takes few frames, however fast the machine is
            open_ = Open(many_fields, protocol="h2")
            open_.connection.turn._length = -1.0
            ids = range(1, 2 * self.COUNT, 2)
            gets = [self.H2_GET % each.to_bytes(2, "big") for each in ids]
            data = PREFACE + SETTINGS_ACK + b"".join(gets)
        transport = Full(open_)
        open_.connection._transport = transport
        open_.receive(data)
        return open_, transport

    def test_they_wait_until_there_is_room(self, flood: tuple[Open, Full]) -> None:
        open_, transport = flood
        begun = len(open_.runtime.tasks)
        assert begun < self.COUNT / 4
        assert transport.unsent < 600_000
        assert not transport.reading
        open_.connection.flush()
        open_.runtime.run_ready()
        assert len(open_.runtime.tasks) == begun
        transport.empty()
        open_.runtime.run_ready()
        assert begun < len(open_.runtime.tasks) < self.COUNT

    def test_each_is_answered_in_the_end(self, flood: tuple[Open, Full]) -> None:
        open_, transport = flood
        for _ in range(self.COUNT):
            assert transport.unsent < 600_000
            transport.empty()
            open_.runtime.run_ready()
        assert len(open_.runtime.tasks) == self.COUNT
        assert transport.reading
        assert not transport.aborted

    def test_their_time_does_not_run_while_they_wait(self) -> None:
        open_ = Open(page)
        transport = Full(open_)
        open_.connection._transport = transport
        open_.receive(GET * 9)
        assert len(open_.runtime.tasks) == 2
        for _ in range(200):  # longer than a head may take; the reader is slow
            open_.runtime.advance(1)
            transport.unsent -= 300
        assert len(open_.runtime.tasks) == 2
        assert not transport.eof
        transport.empty()
        open_.runtime.run_ready()
        assert len(open_.runtime.tasks) == 4

    def test_a_drain_ends_a_connection_whose_requests_wait(self) -> None:
        open_ = Open(page)
        transport = Full(open_)
        open_.connection._transport = transport
        open_.receive(GET * 3)
        open_.connection.shut_down()
        open_.runtime.advance(2)
        assert transport.eof
        assert len(open_.runtime.tasks) == 2
        assert b" 408 " not in transport.take()

    def test_half_a_request_behind_them_keeps_its_time(self) -> None:
        open_ = Open(page)
        transport = Full(open_)
        open_.connection._transport = transport
        open_.receive(GET * 2 + b"GET / HT")
        assert transport.unsent > 100_000
        open_.runtime.advance(1)
        transport.empty()
        open_.runtime.advance(200)
        assert transport.empty().startswith(b"HTTP/1.1 408 ")


class TestSmallWrites:
    def test_those_that_wait_are_counted_for_what_they_cost(self) -> None:
        async def talks(exchange: Exchange) -> None:
            exchange.send_headers(200, [])
            while exchange.writable:
                exchange.send_data(b"x")
                exchange.flush()

        open_ = Open(talks)
        transport = Full(open_)
        open_.connection._transport = transport
        open_.receive(GET)
        assert transport.writes < 1000
        assert not open_.connection.writable
        transport.empty()
        assert open_.connection.writable
        assert transport.limits == [0, None]

    def test_those_that_leave_cost_nothing(self) -> None:
        async def talks(exchange: Exchange) -> None:
            exchange.send_headers(200, [])
            for _ in range(1000):
                exchange.send_data(b"x")
                exchange.flush()

        open_ = Open(talks)
        open_.receive(GET)
        assert open_.transport.writes >= 1000
        assert open_.transport.limits == []


class TestDeadlines:
    def test_one_timer_is_armed_for_the_earliest(self) -> None:
        open_ = Open()
        connection, runtime = open_.connection, open_.runtime
        fired: list[float] = []
        for delay in (5.0, 2.0, 8.0):
            connection.deadlines.new(lambda: fired.append(runtime.now)).set(
                runtime.now + delay
            )
        start = runtime.now
        live = [timer for timer in runtime.timers if timer.callback is not None]
        assert len(live) == 1
        runtime.advance(10)
        assert fired == [start + 2, start + 5, start + 8]

    def test_what_a_deadline_queues_is_flushed(self) -> None:
        open_ = Open()
        open_.receive(b"GET / HT")
        open_.runtime.advance(60.1)
        assert open_.take().startswith(b"HTTP/1.1 408 ")

    @pytest.fixture
    def late(self) -> Open:
        """A connection in the middle of a head, its deadline two seconds overdue."""
        open_ = Open()
        open_.receive(b"GET / HT")
        open_.runtime.now += 62
        return open_

    def test_on_a_late_loop_input_comes_first(self, late: Open) -> None:
        late.runtime.advance(0)
        late.receive(GET.removeprefix(b"GET / HT"))  # it had waited in the socket
        late.runtime.advance(10)
        assert late.take().endswith(b"hello")

    def test_a_late_loop_does_not_save_a_slow_client(self, late: Open) -> None:
        late.runtime.advance(0.9)
        assert not late.take()
        late.runtime.advance(0.2)
        assert late.take().startswith(b"HTTP/1.1 408 ")

    def test_none_fires_after_the_loss(self) -> None:
        open_ = Open()
        fired: list[None] = []
        deadline = open_.connection.deadlines.new(lambda: fired.append(None))
        deadline.set(open_.runtime.now + 1)
        open_.lose()
        open_.runtime.advance(10)
        assert not fired


class TestFiles:
    """``send_file``: bytes that go past the engine, from a file to the socket."""

    @pytest.fixture
    def file(self, tmp_path: Path) -> Iterator[int]:
        path = tmp_path / "file"
        path.write_bytes(b"x" * 100)
        fd = os.open(path, os.O_RDONLY)
        yield fd
        os.close(fd)

    def test_they_come_behind_what_is_queued_and_are_counted(self, file: int) -> None:
        sent: list[int] = []

        async def handler(exchange: Exchange) -> None:
            exchange.send_headers(200, [(b"content-length", b"50")])
            sent.extend(exchange.send_file(file, 0, 30) for _ in range(3))
            exchange.send_data(b"", end=True)

        open_ = Open(handler)
        open_.receive(GET)
        head, _, body = open_.transport.take().partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert (body, sent) == (b"x" * 50, [30, 20, 0])  # not more than was promised
        assert open_.connection.written == len(head) + 4 + 50

    def test_the_transport_pauses_us_wherever_it_has_to_wait(self, file: int) -> None:
        async def handler(exchange: Exchange) -> None:
            exchange.send_headers(200, [(b"content-length", b"100")])
            for start in range(0, 100, 25):
                exchange.send_file(file, start, 25)
            exchange.send_data(b"", end=True)

        open_ = Open(handler)
        open_.receive(GET)
        assert open_.transport.limits == [0]
        open_.connection.pause_writing()
        open_.connection.resume_writing()
        assert open_.transport.limits == [0, None]
        open_.receive(GET)
        assert open_.transport.limits == [0, None, 0]

    @pytest.mark.parametrize(
        "fields", [[], [(b"content-length", b"0")], [(b"transfer-encoding", b"x")]]
    )
    def test_chunks_are_not_for_the_kernel(
        self, file: int, fields: list[tuple[bytes, bytes]]
    ) -> None:
        sent: list[int] = []

        async def handler(exchange: Exchange) -> None:
            sent.append(exchange.send_file(file, 0, 30))  # before the head
            exchange.send_headers(200, fields)
            sent.append(exchange.send_file(file, 0, 30))
            exchange.send_data(b"", end=True)
            sent.append(exchange.send_file(file, 0, 30))  # behind the end

        Open(handler).receive(GET)
        assert sent == [0, 0, 0]

    def test_tls_and_a_connection_that_is_lost_take_none(
        self, file: int, settings: TlsSettings
    ) -> None:
        open_ = Open(tls=settings)
        assert open_.connection.send_file(file, 0, 30) == 0
        open_ = Open()
        open_.lose()
        assert open_.connection.send_file(file, 0, 30) == 0
        assert not open_.take()
