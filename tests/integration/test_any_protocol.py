"""One port for everything: issue 7 point 5."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tako
import tako.runtime
from tako import ConfigError, TlsConfigError
from tako.proxy import ProxyPolicy
from tako.testing.peer import ALPN, PeerConnection, Wire
from tako.testing.peer.io import Address, PeerResponse as Response
from tako.tls import TlsCert
from tests.conftest import WIRES
from tests.integration.test_proxy import FORWARDED, asked, exchange, received, router
from tests.sansio.proxy.test_header import IPV4, V1, tlv, v2
from tests.support.listeners import ListeningServer, Serve, connect_to
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials, RuntimeName


LOCALHOST = ProxyPolicy(["127.0.0.0/8"])
OPTIONAL = ProxyPolicy(["127.0.0.0/8"], required=False)
ELSEWHERE = ProxyPolicy(["10.0.0.0/8"])
OVER_TLS = v2(IPV4 + tlv(0x20, b"\x01" + bytes(4)))

Start = Callable[..., ListeningServer]


@pytest.fixture
def start(runtime: RuntimeName, credentials: Credentials) -> Iterator[Start]:
    """Start servers for everything; stop and check them afterwards."""
    servers = []

    def start(
        *, tls: bool = True, config: tako.ServerConfig | None = None, **options: Any
    ) -> ListeningServer:
        if tls:
            options["tls"] = (credentials.cert, credentials.key)
        serve: Serve = partial(tako.serve, protocol="any", **options)
        server = ListeningServer(
            router(), serve, runtime=runtime, credentials=credentials, config=config
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


class TestEveryWire:
    @pytest.mark.parametrize("wire", WIRES)
    def test_requests_and_websockets_on_one_port(
        self, start: Start, wire: Wire, credentials: Credentials
    ) -> None:
        server = start()
        with connect_to(server.address, wire, credentials.client) as connection:
            answer = asked(connection)
            assert answer["tls"] == (wire in ALPN)
            assert answer["transport"] == ("http2" if "h2" in wire else "http1")
            assert answer["source"] is None
            assert len(answer["forwarded"]) == len(FORWARDED)  # type: ignore[arg-type]
            ws = connection.websocket("/ws")
            ws.echo("any")
            ws.close(1000)
            assert ws.expect_close() == (1000, "")

    def test_all_of_them_at_the_same_time(
        self, start: Start, credentials: Credentials
    ) -> None:
        server = start()
        connections = [
            connect_to(server.address, wire, credentials.client) for wire in WIRES
        ]
        try:
            sockets = [connection.websocket("/ws") for connection in connections]
            for number, ws in enumerate(sockets):
                ws.echo(f"{number}")
            server.shut_down()
            for ws in sockets:
                assert ws.expect_close() == (1001, "server shutting down")
        finally:
            for connection in connections:
                connection.close()
        server.join()

    def test_without_a_certificate_there_is_no_tls(self, start: Start) -> None:
        server = start(tls=False)
        for wire in ("h1", "h2c"):
            with connect_to(server.address, wire) as connection:
                assert asked(connection)["tls"] is False
        assert exchange(server, b"\x16\x03\x01\x00\x05hello") == b""

    def test_first_bytes_in_pieces(self, start: Start) -> None:
        with connect_to(start().address, "h1") as connection:
            connection.send_raw(b"P")
            connection.send_raw(b"R")
            connection.send_raw(b"OPFIND / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.read_response().status == 405  # type: ignore[union-attr]


class TestProxyHeaders:
    @pytest.mark.parametrize("wire", WIRES)
    @pytest.mark.parametrize("proxy", [LOCALHOST, OPTIONAL])
    def test_in_front_of_every_wire(
        self, start: Start, wire: Wire, credentials: Credentials, proxy: ProxyPolicy
    ) -> None:
        server = start(proxy=proxy)
        client = credentials.client
        with connect_to(server.address, wire, client, first=V1) as connection:
            answer = asked(connection)
            assert answer["peer"] == "192.168.1.100:56324"
            assert answer["forwarded"] == ['forwarded: for="192.168.1.100:56324"']
            assert answer["tls"] == (wire in ALPN)
            ws = connection.websocket("/ws")
            ws.echo("behind a proxy")

    def test_a_trusted_peer_must_send_one(
        self, start: Start, caplog: pytest.LogCaptureFixture
    ) -> None:
        request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
        server = start(proxy=LOCALHOST)
        assert exchange(server, request) == b""
        server.shut_down()
        server.join()  # it has said what it says
        assert [r.levelno for r in caplog.records if "PROXY" in r.message] == [
            logging.WARNING
        ]

    def test_a_trusted_peer_may_send_none_where_it_is_optional(
        self, start: Start
    ) -> None:
        with connect_to(start(proxy=OPTIONAL).address, "h1") as connection:
            answer = asked(connection)
            assert str(answer["peer"]).startswith("127.0.0.1:")
            assert answer["forwarded"] == []

    def test_another_peer_cannot_pretend(self, start: Start) -> None:
        server = start(proxy=ELSEWHERE)
        assert exchange(server, V1 + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        with connect_to(server.address, "h1") as connection:
            answer = asked(connection)
            assert str(answer["peer"]).startswith("127.0.0.1:")
            assert answer["forwarded"] == []

    def test_without_a_policy_no_peer_can(self, start: Start) -> None:
        assert exchange(start(), V1 + b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")


class TestRedirect:
    @pytest.mark.parametrize("wire", ["h1", "h2c"])
    def test_what_comes_in_the_clear_goes_to_https_on_this_port(
        self, start: Start, wire: Wire
    ) -> None:
        server = start(https_redirect=True)
        with connect_to(server.address, wire) as connection:
            response = connection.request("GET", "/report?a=b")
            assert response.status == 308
            port = server.address[1]
            assert response.header("location") == f"https://localhost:{port}/report?a=b"

    @pytest.mark.parametrize(
        ("port", "where"), [(443, "https://localhost/"), (1, "https://localhost:1/")]
    )
    def test_or_on_the_port_that_is_named(
        self, start: Start, port: int, where: str
    ) -> None:
        with connect_to(start(https_redirect=port).address, "h1") as connection:
            assert connection.request("GET", "/").header("location") == where

    @pytest.mark.parametrize("wire", ["h1s", "h2"])
    def test_what_comes_over_tls_is_served(
        self, start: Start, wire: Wire, credentials: Credentials
    ) -> None:
        server = start(https_redirect=True)
        with connect_to(server.address, wire, credentials.client) as connection:
            assert asked(connection)["tls"]

    def test_what_came_to_the_proxy_over_tls_is_served(self, start: Start) -> None:
        server = start(https_redirect=True, proxy=LOCALHOST)
        with connect_to(server.address, "h1", first=OVER_TLS) as connection:
            assert asked(connection)["peer"] == "192.0.2.1:1234"
        with connect_to(server.address, "h1", first=V1) as connection:
            assert connection.request("GET", "/").status == 308

    def test_no_websocket_opens_in_the_clear(self, start: Start) -> None:
        server = start(https_redirect=True)
        with connect_to(server.address, "h1") as connection:
            assert connection.handshake("/ws").status == 308


class Both:
    """A server with an address for TLS and a plain one."""

    def __init__(self, server: tako.Server, client: Any) -> None:
        self._tls, self._plain = server.addresses
        self._client = client

    def connect(
        self, wire: Wire, **options: Any
    ) -> AbstractContextManager[PeerConnection]:
        """Connect to the address of that wire."""
        where = self._plain if wire == "h1" else self._tls
        assert isinstance(where, tako.IpPeer)
        return connect_to(("127.0.0.1", where.port), wire, self._client, **options)

    def ask(self, wire: Wire, path: str) -> Response:
        """Return what the address of that wire answers."""
        with self.connect(wire) as connection:
            return connection.request("GET", path)

    @property
    def https_port(self) -> int:
        """The port for TLS."""
        assert isinstance(self._tls, tako.IpPeer)
        return self._tls.port


class TestPlainBesideTls:
    def serve(
        self,
        runtime: RuntimeName,
        credentials: Credentials,
        use: Callable[[Both], None],
        **options: Any,
    ) -> None:
        pair = (credentials.cert, credentials.key)

        async def main() -> None:
            local = "127.0.0.1:0"
            async with tako.serve_tls(
                local, router(), *pair, plain=local, **options
            ) as server:
                both = Both(server, credentials.client)
                await tako.runtime.current().to_thread(partial(use, both))

        run_on(runtime, main)

    def test_each_address_speaks_its_own(
        self,
        runtime: RuntimeName,
        credentials: Credentials,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def use(both: Both) -> None:
            for wire in WIRES:
                if wire != "h2c":
                    with both.connect(wire) as connection:
                        assert bool(asked(connection)["tls"]) is (wire != "h1")

        with caplog.at_level(logging.INFO, "tako.server"):
            self.serve(runtime, credentials, use)
        lines = [each for each in caplog.messages if "listening" in each]
        assert len(lines) == 2
        assert lines[0].startswith("Tako TLS listening on 127.0.0.1:")
        assert lines[1].startswith("Tako listening on 127.0.0.1:")

    def test_the_plain_one_may_only_redirect(
        self, runtime: RuntimeName, credentials: Credentials
    ) -> None:
        def use(both: Both) -> None:
            response = both.ask("h1", "/report?a=b")
            port = both.https_port
            assert response.status == 308
            assert response.header("location") == f"https://localhost:{port}/report?a=b"
            with both.connect("h2") as connection:
                assert asked(connection)["tls"]

        self.serve(runtime, credentials, use, https_redirect=True)

    def test_headers_of_proxies_are_read_on_both(
        self, runtime: RuntimeName, credentials: Credentials
    ) -> None:
        def use(both: Both) -> None:
            for wire in ("h1", "h2"):
                with both.connect(wire, first=V1) as connection:
                    assert asked(connection)["peer"] == "192.168.1.100:56324"

        self.serve(runtime, credentials, use, proxy=LOCALHOST)

    def test_a_drain_closes_both(
        self, runtime: RuntimeName, credentials: Credentials
    ) -> None:
        found: list[Both] = []
        self.serve(runtime, credentials, found.append)
        for wire in ("h1", "h1s"):
            with pytest.raises(ConnectionRefusedError):
                found[0].ask(wire, "/")


class TestTime:
    def test_silence_ends_the_connection(self, start: Start) -> None:
        server = start(config=tako.ServerConfig(tls_handshake_timeout=0.2))
        for first in (b"", b"PRI * "):
            with socket.create_connection(server.address, timeout=TIMEOUT) as sock:
                sock.sendall(first)
                assert received(sock) == b""

    def test_a_drain_does_not_wait_for_it(self, start: Start) -> None:
        server = start()
        with socket.create_connection(server.address, timeout=TIMEOUT) as sock:
            with connect_to(server.address, "h1") as connection:
                asked(connection)  # so the silent one was accepted, too
            server.shut_down()
            server.join()
            assert received(sock) == b""

    def test_silent_connections_are_bounded(self, start: Start) -> None:
        server = start(config=tako.ServerConfig(max_tls_handshakes=1))
        with socket.create_connection(server.address, timeout=TIMEOUT) as sock:
            with connect_to(server.address, "h1") as connection:
                asked(connection)
            assert received(sock) == b""

    def test_a_permit_is_kept_from_the_first_byte_on(self, start: Start) -> None:
        server = start(config=tako.ServerConfig(max_connections=1))
        for _ in range(3):  # each has to give its permit back
            with connect_to(server.address, "h1") as connection:
                asked(connection)


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "error", "why"),
        [
            ({"https_redirect": True}, ConfigError, "needs a certificate"),
            ({"tls": "a.pem"}, TlsConfigError, "the key is missing"),
            ({"proxy": "10.0.0.0/8"}, ConfigError, "proxy takes a ProxyPolicy"),
            ({"protocol": "tls"}, TlsConfigError, "call serve_tls"),
            ({"protocol": "h3"}, ConfigError, "protocol is one of"),
        ],
    )
    def test_what_cannot_work_is_refused_before_serving(
        self, options: dict[str, Any], error: type[Exception], why: str
    ) -> None:
        async def main() -> None:
            listener = await tako.bind("127.0.0.1:0")
            with listener, pytest.raises(error, match=why):
                await tako.serve(listener, router(), **{"protocol": "any"} | options)

        tako.run(main)

    @pytest.mark.parametrize("port", [0, 70000])
    def test_there_is_no_such_port(self, credentials: Credentials, port: int) -> None:
        tls = TlsCert.pem_paths(credentials.cert, credentials.key)

        async def main() -> None:
            with pytest.raises(ConfigError, match="https_redirect must be from"):
                await tako.serve_tls(
                    "127.0.0.1:0",
                    router(),
                    tls=tls,
                    protocol="any",
                    https_redirect=port,
                )

        tako.run(main)

    def test_a_unix_socket_has_no_port_to_redirect_to(
        self, credentials: Credentials, tmp_path: Any
    ) -> None:
        tls = TlsCert.pem_paths(credentials.cert, credentials.key)

        async def main() -> None:
            address = f"unix:{tmp_path / 'a.sock'}"
            with pytest.raises(ConfigError, match="needs the number of a port"):
                await tako.serve_tls(
                    address, router(), tls=tls, protocol="any", https_redirect=True
                )

        tako.run(main)
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize("protocol", ["http/1.1", "h2"])
    def test_certificates_need_a_protocol_that_uses_them(
        self, credentials: Credentials, protocol: Any
    ) -> None:
        pair = (credentials.cert, credentials.key)

        async def main() -> None:
            with pytest.raises(ConfigError, match="is without TLS"):
                await tako.serve_tls("127.0.0.1:0", router(), *pair, protocol=protocol)

        tako.run(main)

    def test_what_is_all_encrypted_redirects_nothing(
        self, credentials: Credentials
    ) -> None:
        pair = (credentials.cert, credentials.key)

        async def main() -> None:
            with pytest.raises(ConfigError, match="is for protocol='any' and plain="):
                await tako.serve_tls("127.0.0.1:0", router(), *pair, https_redirect=443)

        tako.run(main)

    def test_what_is_not_encrypted_anyway_has_no_plain_address(self) -> None:
        async def main() -> None:
            with pytest.raises(ConfigError, match="plain needs a certificate"):
                await tako.serve("127.0.0.1:0", router(), plain="127.0.0.1:0")

        tako.run(main)

    def test_an_address_that_is_taken_leaves_no_other_one_bound(
        self, credentials: Credentials, tmp_path: Path
    ) -> None:
        pair = (credentials.cert, credentials.key)
        path = tmp_path / "a.sock"

        async def main() -> None:
            with await tako.bind("127.0.0.1:0") as taken:
                with pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1"):
                    await tako.serve_tls(
                        f"unix:{path}",
                        router(),
                        *pair,
                        plain=f"127.0.0.1:{taken.port}",
                    )
                assert not path.exists()

        tako.run(main)


def test_a_redirect_goes_to_the_first_port_of_several_addresses(
    runtime: RuntimeName, credentials: Credentials, tmp_path: Any
) -> None:
    path = str(tmp_path / "a.sock")

    def ask(where: Address | str) -> str | None:
        with connect_to(where, "h1") as client:
            return client.request("GET", "/").header("location")

    async def main() -> None:
        in_thread = tako.runtime.current().to_thread
        async with tako.serve_tls(
            [f"unix:{path}", "127.0.0.1:0"],
            router(),
            credentials.cert,
            credentials.key,
            protocol="any",
            https_redirect=True,
        ) as server:
            _, tcp = server.addresses
            assert isinstance(tcp, tako.IpPeer)
            for where in (path, ("127.0.0.1", tcp.port)):
                location = await in_thread(partial(ask, where))
                assert location == f"https://localhost:{tcp.port}/"

    run_on(runtime, main)


def test_headers_of_every_peer_and_of_some_beside_a_block(
    runtime: RuntimeName, credentials: Credentials
) -> None:
    cert = TlsCert.pem_paths(credentials.cert, credentials.key)

    def ask(server: tako.Server, wire: Wire) -> object:
        (local,) = server.addresses
        assert isinstance(local, tako.IpPeer)
        address = ("127.0.0.1", local.port)
        with connect_to(address, wire, credentials.client, first=V1) as client:
            return asked(client)["peer"]

    async def main() -> None:
        in_thread = tako.runtime.current().to_thread
        local = "127.0.0.1:0"
        async with (
            tako.serve(
                local, router(), tls=cert, protocol="any", proxy=OPTIONAL
            ) as any_,
            tako.serve(local, router(), tls=cert, proxy=True) as proxied,
        ):
            pairs: list[tuple[tako.Server, Wire]]
            pairs = [(any_, "h1"), (any_, "h2"), (proxied, "h2")]
            for server, wire in pairs:
                peer = await in_thread(partial(ask, server, wire))
                assert peer == "192.168.1.100:56324"

    run_on(runtime, main)
