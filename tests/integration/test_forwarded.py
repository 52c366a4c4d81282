"""Behind a proxy that writes fields: who is believed, and what then sees the client."""

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

import tako
from tako import ServerConfig
from tako.proxy import ProxyPolicy
from tako.testing.peer import ALPN, PeerConnection, Wire
from tako.testing.peer.io import HeaderList
from tako.tls import TlsCert
from tests.conftest import Serve
from tests.support.listeners import ListeningServer, connect_to
from tests.support.reporting import reporting_router
from tests.support.server import Credentials, Reports, RuntimeName


OFF = ServerConfig(forwarded_allow_ips=None)
HOST = ServerConfig(forwarded_host=True)
ELSEWHERE = ServerConfig(forwarded_allow_ips=["10.0.0.0/8"], forwarded_host=True)

FIELDS = [
    ("x-forwarded-for", "9.9.9.9, 192.0.2.1"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "public.test"),
    ("x-forwarded-port", "8443"),
    ("x-forwarded-prefix", "/app"),
]
STANDARD = [("forwarded", 'for="[2001:db8::1]:99";proto=https;host="public.test:1"')]
SPOOFED = [
    *FIELDS,
    *STANDARD,
    ("x-real-ip", "9.9.9.9"),
    ("x_forwarded_for", "9.9.9.9"),
    ("true-client-ip", "9.9.9.9"),
]


def asked(
    connection: PeerConnection, path: str, fields: HeaderList = ()
) -> dict[str, Any]:
    response = connection.request("GET", path, fields)
    assert response.status == 200, response
    answer: dict[str, Any] = json.loads(response.body)
    return answer


def told(
    connection: PeerConnection, path: str, fields: HeaderList = ()
) -> dict[str, Any]:
    """Return the report of a WebSocket."""
    ws = connection.websocket(path, headers=fields)
    text = ws.receive()
    assert isinstance(text, str)
    ws.close(1000)
    ws.expect_close()
    answer: dict[str, Any] = json.loads(text)
    return answer


Ask = Callable[[PeerConnection, HeaderList], dict[str, Any]]


@pytest.fixture(params=["native", "native/ws", "asgi/", "asgi/ws"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Ask for a report, by a request or over a WebSocket."""
    path: str = request.param
    how = told if path.endswith("ws") else asked

    def ask(connection: PeerConnection, fields: HeaderList) -> dict[str, Any]:
        answer = how(connection, f"/{path}", fields)
        if path == "asgi/ws":
            schemes = {"ws": "http", "wss": "https"}
            answer["scheme"] = schemes[answer["scheme"]]
        if path.startswith("asgi") and answer["prefix"] == "/configured":
            answer["prefix"] = ""
        return answer

    return ask


class TestWhoIsBelieved:
    def test_a_local_proxy_names_client_and_scheme(
        self, serve: Serve, wire: Wire, ask: Ask
    ) -> None:
        server = serve(reporting_router())
        with server.connect() as connection:
            host = ask(connection, ())["host"]
        for fields, clients in (
            (FIELDS, {"192.0.2.1:0"}),
            (STANDARD, {"[2001:db8::1]:99", "2001:db8::1:99"}),
        ):
            with server.connect() as connection:
                answer = ask(connection, fields)
            assert answer["client"] in clients
            assert answer["scheme"] == "https"
            assert (answer["host"], answer["prefix"]) == (host, "")
            assert answer["tls"] == (wire in ALPN)  # our connection's

    def test_each_request_is_for_a_client_of_its_own(self, serve: Serve) -> None:
        with serve(reporting_router()).connect() as connection:
            own = asked(connection, "/native")
            for path in ("/native", "/asgi/"):
                for last in ("1", "1", "2"):
                    fields = [("x-forwarded-for", f"192.0.2.{last}")]
                    client = asked(connection, path, fields)["client"]
                    assert client == f"192.0.2.{last}:0"
            assert asked(connection, "/native") == own

    def test_host_and_prefix_if_asked_for(
        self, serve: Serve, wire: Wire, ask: Ask
    ) -> None:
        with serve(reporting_router(), HOST).connect() as connection:
            answer = ask(connection, FIELDS)
        assert answer["client"] == "192.0.2.1:0"
        assert answer["host"] == "public.test:8443"
        assert answer["prefix"] == "/app"
        if "path" in answer:
            assert answer["path"].startswith("/app/asgi/")

    @pytest.mark.parametrize("config", [OFF, ELSEWHERE], ids=["off", "elsewhere"])
    def test_another_peer_is_not_believed(
        self, serve: Serve, wire: Wire, ask: Ask, config: ServerConfig
    ) -> None:
        with serve(reporting_router(), config).connect() as connection:
            authority = connection.authority
            answer = ask(connection, SPOOFED)
        assert answer["client"].startswith("127.0.0.1:")
        assert answer["scheme"] == ("https" if wire in ALPN else "http")
        assert (answer["host"], answer["prefix"]) == (authority, "")
        if "for" in answer:  # the field is left alone
            assert answer["for"] == "9.9.9.9, 192.0.2.1"

    def test_what_is_malformed_is_an_answer_without_a_client(
        self, serve: Serve, wire: Wire, ask: Ask
    ) -> None:
        fields = [
            (
                "x-forwarded-for",
                '"',
            ),
            ("x-forwarded-proto", "https"),
        ]
        with serve(reporting_router(), HOST).connect() as connection:
            answer = ask(connection, fields)
        assert answer["client"] == (None if "path" in answer else "unknown")
        assert answer["scheme"] == ("https" if wire in ALPN else "http")


class TestWhatSeesTheClient:
    def test_the_access_log(self, serve: Serve) -> None:
        class Lines(logging.Handler):
            entries = Reports()

            def emit(self, record: logging.LogRecord) -> None:
                self.entries.put(record.getMessage())

        handler, logger = Lines(), logging.getLogger("tako.access")
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        router = reporting_router()
        router.middleware(tako.access_log())
        try:
            with serve(router).connect() as connection:
                asked(connection, "/native", FIELDS)
                assert str(handler.entries.get()).startswith("192.0.2.1:0 GET /native ")
                asked(connection, "/native", [("forwarded", "for=_hidden")])
                assert str(handler.entries.get()).startswith("_hidden GET /native ")
                told(connection, "/native/ws", FIELDS)
                line = str(handler.entries.get())
                assert line.startswith("192.0.2.1:0 GET /native/ws ")
                assert "websocket=1000" in line
        finally:
            logger.removeHandler(handler)
            logger.setLevel(logging.NOTSET)

    @pytest.mark.parametrize("origin", ["https://page.test", "https://evil.test"])
    def test_an_origin_is_compared_with_the_list_and_no_field(
        self, serve: Serve, origin: str
    ) -> None:
        fields = [("origin", origin), ("x-forwarded-host", "evil.test")]
        with serve(reporting_router(), HOST).connect() as connection:
            if origin == "https://page.test":
                told(connection, "/native/same", fields)
                return
            status = connection.handshake("/native/same", headers=fields).status
            assert status == 403

    def test_the_redirect_of_a_slash(self, serve: Serve) -> None:
        for config, location in ((HOST, "/app/asgi/"), (ServerConfig(), "/asgi/")):
            with serve(reporting_router(), config).connect() as connection:
                response = connection.request("GET", "/asgi?a=b", FIELDS)
            assert response.status == 308
            assert response.header("location") == f"{location}?a=b"


Start = Callable[..., ListeningServer]


@pytest.fixture
def start(runtime: RuntimeName, credentials: Credentials) -> Iterator[Start]:
    """Start servers on listeners of their own, one at a time; stop and check each."""
    servers: list[ListeningServer] = []

    def start(
        *, config: ServerConfig | None = None, path: str | None = None, **how: Any
    ) -> ListeningServer:
        while servers:
            servers.pop().stop()
        server = ListeningServer(
            reporting_router(),
            partial(tako.serve, **how),
            runtime=runtime,
            credentials=credentials,
            config=config,
            bind=None if path is None else lambda: tako.bind(f"unix:{path}"),
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


class TestUnixSockets:
    @pytest.mark.parametrize("wire", ["h1", "h1s", "h2", "h2c"])
    def test_what_connects_to_one_is_trusted_by_name(
        self,
        start: Start,
        wire: Wire,
        ask: Ask,
        credentials: Credentials,
        tmp_path: Path,
    ) -> None:
        networks = ServerConfig(forwarded_allow_ips=["0.0.0.0/0"])
        tls = TlsCert.pem_paths(credentials.cert, credentials.key)
        for config in (None, networks):
            path = str(tmp_path / f"{config is None}.sock")
            how: dict[str, Any] = {"tls": tls} if wire in ALPN else {}
            if wire == "h2c":
                how["protocol"] = "h2"
            start(config=config, path=path, **how)
            with connect_to(path, wire, credentials.client) as connection:
                answer = ask(connection, FIELDS)
            own = None if "path" in answer else "unix"
            assert answer["client"] == (own if config else "192.0.2.1:0")
            trusted = config is None or wire in ALPN
            assert answer["scheme"] == ("https" if trusted else "http")


class TestProxyHeaders:
    """A PROXY header names the peer that the fields are believed of, or not."""

    CONFIG = ServerConfig(forwarded_allow_ips=["10.0.0.0/8"])

    @pytest.mark.parametrize("wire", ["h1", "h1s", "h2"])
    @pytest.mark.parametrize(
        ("source", "client"),
        [
            ("PROXY TCP4 10.0.0.7 10.0.0.1 5 6\r\n", "192.0.2.1:0"),
            ("PROXY TCP4 203.0.113.7 10.0.0.1 5 6\r\n", "203.0.113.7:5"),
            ("PROXY UNKNOWN\r\n", "127.0.0.1"),
        ],
    )
    def test_both(
        self,
        start: Start,
        wire: Wire,
        ask: Ask,
        credentials: Credentials,
        source: str,
        client: str,
    ) -> None:
        cert = TlsCert.pem_paths(credentials.cert, credentials.key)
        tls = cert if wire in ALPN else None
        for config in (self.CONFIG, None):
            server = start(tls=tls, proxy=ProxyPolicy(["127.0.0.1"]), config=config)
            first = source.encode()
            with connect_to(
                server.address, wire, credentials.client, first=first
            ) as connection:
                answer = ask(connection, FIELDS)
            found = answer["client"]
            if config is None and client.startswith("192"):
                client = "10.0.0.7:5"  # loopback is trusted, and it is not the peer
            assert found == client or (
                client == "127.0.0.1" and found.startswith("127.0.0.1:")
            )
            believed = found.startswith("192.0.2.1")
            trusted = believed or wire in ALPN
            assert answer["scheme"] == ("https" if trusted else "http")
            if "for" in answer:
                assert (answer["for"] is None) is not believed

    def test_one_listener_for_everything(
        self, start: Start, credentials: Credentials
    ) -> None:
        cert = TlsCert.pem_paths(credentials.cert, credentials.key)
        server = start(tls=cert, protocol="any")
        for wire in ("h1", "h2c", "h1s", "h2"):
            with connect_to(server.address, wire, credentials.client) as connection:
                assert asked(connection, "/native", FIELDS)["client"] == "192.0.2.1:0"
        elsewhere = ProxyPolicy(["10.0.0.0/8"])
        server = start(tls=cert, protocol="any", proxy=elsewhere)
        with connect_to(server.address, "h1") as connection:
            answer = asked(connection, "/native", FIELDS)
            assert answer["client"].startswith("127.0.0.1:")
            assert answer["for"] is None


class TestRedirectToHttps:
    @pytest.mark.parametrize(
        ("wire", "proto", "redirected"),
        [
            ("h1", None, True),
            ("h1", "http", True),
            ("h1", "https", False),
            ("h1s", None, False),
            ("h1s", "http", True),
            ("h1s", "https", False),
        ],
    )
    def test_it_is_the_client_that_is_to_use_it(
        self,
        start: Start,
        credentials: Credentials,
        wire: Wire,
        proto: str | None,
        redirected: bool,
    ) -> None:
        cert = TlsCert.pem_paths(credentials.cert, credentials.key)
        how = {"tls": cert, "protocol": "any", "https_redirect": 443}
        fields = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-host", "public.test")]
        fields += [("x-forwarded-prefix", "/app")]
        fields += [] if proto is None else [("x-forwarded-proto", proto)]
        for config, place in ((HOST, "public.test/app"), (None, "localhost")):
            server = start(config=config, **how)
            with connect_to(server.address, wire, credentials.client) as connection:
                response = connection.request("GET", "/native", fields)
            assert response.status == (308 if redirected else 200)
            if redirected:
                assert response.header("location") == f"https://{place}/native"

    def test_another_peer_gets_no_further(
        self, start: Start, credentials: Credentials
    ) -> None:
        cert = TlsCert.pem_paths(credentials.cert, credentials.key)
        how = {"tls": cert, "protocol": "any", "https_redirect": 443}
        server = start(config=ELSEWHERE, **how)
        with connect_to(server.address, "h1") as connection:
            assert connection.request("GET", "/native", FIELDS).status == 308


class TestCertificatesByName:
    """RFC 9110 §15.5.20: the connection says which hosts may be asked for."""

    @pytest.fixture
    def certs(self, ca: trustme.CA, credentials: Credentials) -> TlsCert:
        """Return certificates of ``localhost`` and ``secret.test``."""
        own = (credentials.cert, credentials.key)
        return TlsCert.sni(
            {"localhost": own, "secret.test": ca.issue_cert("secret.test")}, own
        )

    @pytest.mark.parametrize("wire", ["h1s", "h2", "h1"])
    @pytest.mark.parametrize(
        ("host", "status"),
        [("localhost", 200), ("localhost:8443", 200), ("secret.test", 421)],
    )
    def test_no_field_leads_to_the_host_of_another(
        self,
        start: Start,
        certs: TlsCert,
        credentials: Credentials,
        wire: Wire,
        host: str,
        status: int,
    ) -> None:
        server = start(tls=certs, protocol="any", config=HOST)
        fields = [("x-forwarded-host", host)]
        with connect_to(server.address, wire, credentials.client) as connection:
            assert connection.request("GET", "/native", fields).status == status

    def test_nor_does_a_field_hide_what_the_request_asks_for(
        self, start: Start, certs: TlsCert, credentials: Credentials
    ) -> None:
        server = start(tls=certs, config=HOST)
        with connect_to(server.address, "h1s", credentials.client) as connection:
            connection.authority = "secret.test"
            fields = [("x-forwarded-host", "localhost")]
            assert connection.request("GET", "/native", fields).status == 421
