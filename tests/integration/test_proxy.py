"""Behind a proxy, over sockets: spec section 10, T-PX-01."""

import json
import logging
import socket
from collections.abc import Callable, Iterator
from functools import partial

import pytest

import tako
from tako import ConnInfo, IpPeer, Request, Router
from tako.proxy import ProxyHeader, ProxyPolicy
from tako.testing.peer import ALPN, PeerConnection, Wire
from tests.sansio.proxy.test_header import IPV4, UNIX, V1, tlv, v2
from tests.support.apps import echo_router
from tests.support.listeners import ListeningServer, Serve, connect_to
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials, RuntimeName
from tests.support.victim import eventually


WIRES: tuple[Wire, ...] = ("h1", "h1s", "h2")  # h2c: see test_any_protocol
FORWARDED = [
    ("forwarded", "for=9.9.9.9"),
    ("x-forwarded-for", "9.9.9.9"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "evil.test"),
    ("x-forwarded-port", "1"),
    ("x-real-ip", "9.9.9.9"),
    ("x_forwarded_for", "9.9.9.9"),
    ("x-forwarded_for", "9.9.9.9"),
    ("x_real-ip", "9.9.9.9"),
    ("x_real_ip", "9.9.9.9"),
]

Start = Callable[..., ListeningServer]


async def report(request: Request) -> dict[str, object]:
    info = request.conn_info
    assert info is not None
    assert request.extensions[ConnInfo] is info
    header = request.extensions.get(ProxyHeader)
    return {
        "peer": str(info.peer),
        "extension": str(request.extensions.get(IpPeer)),
        "tls": info.tls is not None,
        "transport": info.transport.value,
        "source": header and str(header.source),
        "authority": header and header.authority,
        "forwarded": [
            f"{name}: {value}"
            for name, value in request.headers.items()
            if "forwarded" in name or "real" in name
        ],
    }


def router() -> Router:
    made = echo_router()
    made.get("/report", report)
    return made


def asked(connection: PeerConnection) -> dict[str, object]:
    response = connection.request("GET", "/report", FORWARDED)
    assert response.status == 200
    answer: dict[str, object] = json.loads(response.body)
    return answer


@pytest.fixture
def start(runtime: RuntimeName, credentials: Credentials) -> Iterator[Start]:
    """Start servers behind a proxy; stop and check them afterwards."""
    servers = []

    def start(
        *,
        tls: bool = False,
        proxy: ProxyPolicy | None = None,
        config: tako.ServerConfig | None = None,
    ) -> ListeningServer:
        cert = tako.tls.TlsCert.pem_paths(credentials.cert, credentials.key)
        serve: Serve = partial(
            tako.serve, tls=cert if tls else None, proxy=proxy or True
        )
        server = ListeningServer(
            router(), serve, runtime=runtime, credentials=credentials, config=config
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    name: Wire = request.param
    return name


Connect = Callable[[bytes], PeerConnection]


@pytest.fixture
def connect(start: Start, wire: Wire, credentials: Credentials) -> Connect:
    """Connect over the test's wire, with these bytes in front."""
    server = start(tls=wire in ALPN)

    def connect(first: bytes) -> PeerConnection:
        return connect_to(server.address, wire, credentials.client, first=first)

    return connect


class TestTheClientIsWhoTheProxyNames:
    def test_version_1(self, connect: Connect, wire: Wire) -> None:
        with connect(V1) as connection:
            for _ in range(2):  # every request of the connection
                answer = asked(connection)
                assert answer["peer"] == "192.168.1.100:56324"
                assert answer["extension"] == answer["source"] == answer["peer"]
                assert answer["forwarded"] == ['forwarded: for="192.168.1.100:56324"']
                assert answer["tls"] == (wire in ALPN)
                assert answer["transport"] == ("http2" if wire == "h2" else "http1")

    def test_version_2(self, connect: Connect) -> None:
        with connect(v2(IPV4 + tlv(2, b"a.test"))) as connection:
            answer = asked(connection)
            assert (answer["peer"], answer["authority"]) == ("192.0.2.1:1234", "a.test")
            assert answer["forwarded"] == ['forwarded: for="192.0.2.1:1234"']

    @pytest.mark.parametrize(
        ("first", "source"),
        [
            (b"PROXY UNKNOWN\r\n", "None"),
            (v2(IPV4, command=0x20), "None"),
            (v2(UNIX, family=0x31), "/run/a"),
        ],
    )
    def test_without_a_source_it_is_the_proxy(
        self, connect: Connect, first: bytes, source: str
    ) -> None:
        with connect(first) as connection:
            answer = asked(connection)
            assert str(answer["peer"]).startswith("127.0.0.1:")
            assert answer["source"] == source
            assert answer["forwarded"] == []

    def test_websocket(self, connect: Connect) -> None:
        with connect(V1) as connection:
            ws = connection.websocket("/ws")
            ws.echo("through a proxy")
            ws.echo(b"x" * 100_000)
            ws.close(1000)
            assert ws.expect_close() == (1000, "")


class TestRefusals:
    @pytest.mark.parametrize(
        "first", [b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 x\r\n", v2(size=5000)]
    )
    def test_no_header_no_answer(
        self, start: Start, first: bytes, caplog: pytest.LogCaptureFixture
    ) -> None:
        assert exchange(start(), first) == b""
        assert warned(caplog, "PROXY")

    def test_a_late_header_is_not_waited_for(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = start(config=tako.ServerConfig(proxy_read_timeout=0.2))
        assert exchange(server, V1[:-1]) == b""
        assert warned(caplog, "PROXY header timeout after 0.2 s")

    def test_who_is_not_trusted_is_refused(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        server = start(proxy=ProxyPolicy(["10.0.0.0/8"]))
        assert exchange(server, V1 + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == b""
        assert warned(caplog, "is no trusted proxy, connection refused")

    def test_who_is_trusted_is_served(self, start: Start) -> None:
        server = start(proxy=ProxyPolicy(["127.0.0.0/8"]))
        with connect_to(server.address, "h1", first=V1) as connection:
            assert asked(connection)["peer"] == "192.168.1.100:56324"

    def test_one_bad_header_does_not_harm_others(self, start: Start) -> None:
        server = start()
        with connect_to(server.address, "h1", first=V1) as connection:
            exchange(server, b"nonsense\r\n")
            assert asked(connection)["peer"] == "192.168.1.100:56324"


class TestOneRead:
    def test_header_and_request_in_one_segment(self, start: Start) -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        answer = exchange(start(), V1 + request)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"Hello, World!")

    def test_header_byte_by_byte(self, start: Start) -> None:
        with connect_to(start().address, "h1") as connection:
            for at in range(len(V1)):
                connection.send_raw(V1[at : at + 1])
            assert asked(connection)["peer"] == "192.168.1.100:56324"


class TestDrain:
    def test_a_header_that_has_not_come_is_not_waited_for(self, start: Start) -> None:
        server = start()
        with connect_to(server.address, "h1", first=V1[:9]) as silent:
            with connect_to(server.address, "h1", first=V1) as connection:
                asked(connection)
            server.shut_down()
            server.join()
            assert exchange_end(silent) == b""


def exchange(server: ListeningServer, data: bytes) -> bytes:
    """Send ``data`` and return all that comes back."""
    with socket.create_connection(server.address, timeout=TIMEOUT) as sock:
        sock.sendall(data)
        return received(sock)


def received(sock: socket.socket) -> bytes:
    data = b""
    try:
        while chunk := sock.recv(65536):
            data += chunk
    except ConnectionResetError:
        pass
    return data


def exchange_end(connection: PeerConnection) -> bytes:
    return received(connection.socket._socket)


def warned(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    """Wait for the warning; the server's thread may close before it says why."""

    def said() -> bool:
        return any(
            text in record.getMessage() and record.levelno == logging.WARNING
            for record in list(caplog.records)
        )

    eventually(said, f"a warning with {text!r}")
    return True
