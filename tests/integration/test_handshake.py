"""Opening a WebSocket: the tables of spec sections 3.3 to 3.6, row by row.

T-WS-03 to 07 and T-WS-19. A refusal is an ordinary response: the connection goes on.
"""

import base64
from collections.abc import Sequence

import pytest

from tako import Request, Router, ServerConfig
from tako.testing import Serve
from tako.testing.peer.frames import END_STREAM, FrameType
from tako.testing.peer.h1 import KEY, accept_key, handshake_headers
from tako.testing.peer.io import HeaderList
from tako.testing.peer.websocket import HandshakeRefusedError
from tests.support.apps import echo, echo_router, echo_session, hello, ws_router
from tests.support.peers import h1_of, h2_of
from tests.support.server import Reports


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
PROTOCOL_ERROR = 0x1


def _without(*names: str) -> list[tuple[str, str | bytes]]:
    return [field for field in handshake_headers() if field[0] not in names]


def _with(**changed: str) -> list[tuple[str, str | bytes]]:
    named = {name.replace("_", "-").lower(): value for name, value in changed.items()}
    fields = [(k, v) for k, v in handshake_headers() if k.lower() not in named]
    return [*fields, *named.items()]


def _key(size: int) -> str:
    return base64.b64encode(bytes(size)).decode()


UPGRADE = ("upgrade", "websocket")
CONNECTION = ("connection", "upgrade")
VERSION = ("sec-websocket-version", "13")
EXPECTED = "Expected Upgrade: websocket"

H1_TABLE: list[tuple[str, str, HeaderList, int, Sequence[tuple[str, str]], str]] = [
    (
        "2",
        "POST",
        handshake_headers(),
        405,
        [("allow", "GET")],
        "WebSocket upgrade requires GET",
    ),
    ("4 no upgrade", "GET", _without("Upgrade"), 426, [UPGRADE, CONNECTION], EXPECTED),
    ("4 h2c", "GET", _with(Upgrade="h2c"), 426, [UPGRADE, CONNECTION], EXPECTED),
    ("4 plain GET", "GET", [], 426, [UPGRADE, CONNECTION], EXPECTED),
    (
        "4 connection",
        "GET",
        _with(Connection="keep-alive"),
        426,
        [UPGRADE, CONNECTION],
        EXPECTED,
    ),
    (
        "5",
        "GET",
        _without("Sec-WebSocket-Key"),
        400,
        [],
        "Missing Sec-WebSocket-Key",
    ),
    (
        "6a",
        "GET",
        _without("Sec-WebSocket-Version"),
        400,
        [VERSION],
        "Missing Sec-WebSocket-Version",
    ),
    (
        "6b",
        "GET",
        _with(Sec_WebSocket_Version="8"),
        426,
        [VERSION, UPGRADE, CONNECTION],
        "Unsupported Sec-WebSocket-Version",
    ),
    (
        "7 short",
        "GET",
        _with(Sec_WebSocket_Key=_key(15)),
        400,
        [],
        "Invalid Sec-WebSocket-Key",
    ),
    (
        "7 long",
        "GET",
        _with(Sec_WebSocket_Key=_key(17)),
        400,
        [],
        "Invalid Sec-WebSocket-Key",
    ),
    (
        "7 not base64",
        "GET",
        _with(Sec_WebSocket_Key="!" * 24),
        400,
        [],
        "Invalid Sec-WebSocket-Key",
    ),
    (
        "7 twice",
        "GET",
        [*handshake_headers(), ("Sec-WebSocket-Key", KEY)],
        400,
        [],
        "Invalid Sec-WebSocket-Key",
    ),
    (
        "8",
        "GET",
        [*handshake_headers(), ("Content-Length", "5")],
        400,
        [("connection", "close")],
        "WebSocket upgrade request must not have a body",
    ),
]


def _any_method_router() -> Router:
    """A route that also takes POST, so that the responder is the one to refuse it."""
    router = ws_router(echo_session)
    router.post("/ws", echo)
    return router


@H1_ONLY
class TestHttp1:
    """T-WS-03."""

    @pytest.mark.parametrize(
        ("method", "headers", "status", "expected", "body"),
        [row[1:] for row in H1_TABLE],
        ids=[row[0] for row in H1_TABLE],
    )
    def test_each_row(
        self,
        tako_serve: Serve,
        method: str,
        headers: HeaderList,
        status: int,
        expected: Sequence[tuple[str, str]],
        body: str,
    ) -> None:
        with h1_of(tako_serve(_any_method_router())) as connection:
            response = connection.request(method, "/ws", headers)
            assert response.status == status
            for name, value in expected:
                assert (response.header(name) or "").lower() == value.lower()
            assert response.body.decode() == body
            assert response.header("content-type") == "text/plain; charset=utf-8"

    def test_an_upgrade_in_http_1_0_is_refused(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            head = connection.head("GET", "/ws", handshake_headers())
            connection.send_raw(head.replace(b"HTTP/1.1", b"HTTP/1.0"))
            response = connection.read_response()
            assert response.status == 400
            assert response.body == b"WebSocket upgrade requires HTTP/1.1"

    def test_a_browser_that_opens_the_url_can_go_on(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            assert connection.request("GET", "/ws").status == 426
            assert connection.request("GET", "/").body == b"Hello, World!"
            connection.websocket("/ws").echo("and still upgrade")

    def test_the_origin_is_checked_first(self, tako_serve: Serve) -> None:
        router = ws_router(echo_session, allowed_origins=["https://a.example"])
        with h1_of(tako_serve(router)) as connection:
            bad = [("Origin", "https://b.example")]
            response = connection.request("GET", "/ws", bad)
            assert (response.status, response.body) == (403, b"origin not allowed")

    @pytest.mark.parametrize(
        "fields",
        [
            _with(Upgrade="WebSocket"),
            _with(Upgrade="h2c, WEBSOCKET"),
            _with(Connection="keep-alive, uPgRaDe"),
            [*_without("Connection"), *[("Connection", v) for v in ("a", "upgrade")]],
        ],
    )
    def test_tokens_are_case_insensitive_and_in_lists(
        self, tako_serve: Serve, fields: HeaderList
    ) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            assert connection.request("GET", "/ws", fields).status == 101

    def test_the_vector_of_the_rfc(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            response = connection.request("GET", "/ws", handshake_headers())
            accept = response.header("sec-websocket-accept")
            assert accept == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
            assert response.header("sec-websocket-protocol") is None
            assert response.header("sec-websocket-extensions") is None
            assert response.header("date")

    def test_bytes_behind_a_refused_upgrade_are_never_a_request(
        self, tako_serve: Serve
    ) -> None:
        entered = Reports()
        router = ws_router(echo_session, allowed_origins=[])

        async def secret(request: Request) -> str:
            entered.put(request.path)
            return "secret"

        router.get("/secret", secret)
        with h1_of(tako_serve(router)) as connection:
            smuggled = b"GET /secret HTTP/1.1\r\nHost: localhost\r\n\r\n"
            response = connection.handshake("/ws", early_data=smuggled)
            assert response.status == 403
            connection.expect_closed()
        assert entered.empty


@H2_ONLY
class TestHttp2:
    """T-WS-04."""

    def test_the_first_settings_frame_enables_it(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            assert connection.wait_settings()[0x8] == 1

    def test_switched_off_it_is_not_advertised_and_a_stream_error(
        self, tako_serve: Serve
    ) -> None:
        config = ServerConfig(h2_enable_connect_protocol=False)
        with h2_of(tako_serve(echo_router(), config=config)) as connection:
            assert connection.wait_settings().get(0x8, 0) == 0
            stream = connection.open(connection.connect_headers("/ws"))
            assert stream.expect_reset() == PROTOCOL_ERROR
            assert connection.request("GET", "/").status == 200

    def test_200_without_the_fields_of_http_1(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            ws = connection.websocket("/ws")
            names = {name for name, _ in ws.response.headers}
            assert not names & {"upgrade", "connection", "content-length"}
            assert not any(name.startswith("sec-websocket-") for name in names)
            first = connection.streams[1].frames[0]
            assert first.type == FrameType.HEADERS
            assert not first.flags & END_STREAM
            ws.echo("open")

    def test_a_well_formed_key_is_answered(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            ws = connection.websocket("/ws", headers=[("sec-websocket-key", KEY)])
            assert ws.response.header("sec-websocket-accept") == accept_key()

    @pytest.mark.parametrize("keys", [[_key(15)], ["junk"], [KEY, KEY]])
    def test_any_other_key_is_ignored(self, tako_serve: Serve, keys: list[str]) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            headers = [("sec-websocket-key", key) for key in keys]
            ws = connection.websocket("/ws", headers=headers)
            assert ws.response.header("sec-websocket-accept") is None

    @pytest.mark.parametrize(
        ("version", "body"),
        [
            (None, b"Missing Sec-WebSocket-Version"),
            ("8", b"Unsupported Sec-WebSocket-Version"),
        ],
    )
    def test_the_version_has_to_be_13(
        self, tako_serve: Serve, version: str | None, body: bytes
    ) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            headers = connection.connect_headers("/ws", version=version)
            response = connection.open(headers).read_response()
            assert (response.status, response.body) == (400, body)
            assert response.header("sec-websocket-version") == "13"
            connection.websocket("/ws").echo("the connection goes on")

    def test_a_get_is_no_websocket(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            response = connection.request("GET", "/ws")
            assert response.status == 400
            assert response.body == b"Expected extended CONNECT (RFC 8441)"

    def test_a_stream_that_has_ended_is_none_either(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            stream = connection.open(connection.connect_headers("/ws"), end=True)
            response = stream.read_response()
            assert response.status == 400
            assert response.body == b"WebSocket stream already closed"

    def test_the_origin_is_checked_first(self, tako_serve: Serve) -> None:
        router = ws_router(echo_session, allowed_origins=["https://a.example"])
        with h2_of(tako_serve(router)) as connection:
            headers = connection.connect_headers(
                "/ws", headers=[("origin", "https://b.example")], version=None
            )
            response = connection.open(headers).read_response()
            assert (response.status, response.body) == (403, b"origin not allowed")

    def test_another_protocol_is_501(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            headers = connection.connect_headers("/ws")
            changed = [(k, "tcp" if k == ":protocol" else v) for k, v in headers]
            response = connection.open(changed).read_response()
            assert (response.status, response.body) == (501, b"Unsupported :protocol")

    def test_connect_to_somewhere_else_is_501(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            plain = [(":method", "CONNECT"), (":authority", "example.com:443")]
            assert connection.open(plain).read_response().status == 501
            assert connection.request("GET", "/").status == 200

    def test_a_handler_without_websocket_is_501(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/")
            response = refused.value.response
            assert response.status == 501
            assert response.body == b"Resource does not support WebSocket"

    def test_routing_is_that_of_a_get(self, tako_serve: Serve) -> None:
        router = echo_router()
        router.post("/post", hello)
        with h2_of(tako_serve(router)) as connection:
            response = connection.handshake("/post")
            assert (response.status, response.header("allow")) == (405, "POST")
            assert connection.handshake("/nowhere").status == 404

    @pytest.mark.parametrize("missing", [":scheme", ":path", ":authority"])
    def test_a_missing_pseudo_header_costs_the_stream_only(
        self, tako_serve: Serve, missing: str
    ) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            sibling = connection.websocket("/ws")
            headers = connection.connect_headers("/ws")
            stream = connection.open([h for h in headers if h[0] != missing])
            assert stream.expect_reset() == PROTOCOL_ERROR
            sibling.echo("alive")

    def test_protocol_on_a_get_costs_the_stream_only(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            sibling = connection.websocket("/ws")
            headers = connection.connect_headers("/ws")
            changed = [(k, "GET" if k == ":method" else v) for k, v in headers]
            assert connection.open(changed).expect_reset() == PROTOCOL_ERROR
            sibling.echo("alive")

    def test_trailers_inside_a_tunnel_cost_the_stream_only(
        self, tako_serve: Serve
    ) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            sibling = connection.websocket("/ws")
            stream = connection.open(connection.connect_headers("/ws"))
            assert stream.head().status == 200
            stream.send_trailers([("x-late", "1")])
            stream.expect_gone()
            sibling.echo("alive")


class TestOneListener:
    @pytest.mark.parametrize("wire", ["h2"], indirect=True)
    def test_101_and_extended_connect_side_by_side(self, tako_serve: Serve) -> None:
        server = tako_serve(echo_router())
        with server.connection(wire="h1s") as one, server.connection(wire="h2") as two:
            old, new = one.websocket("/ws"), two.websocket("/ws")
            old.echo("HTTP/1.1")
            new.echo("HTTP/2")
            old.echo("and again")

    def test_a_missing_route_is_404_on_both_wires(self, tako_serve: Serve) -> None:
        with tako_serve(echo_router()).connection() as connection:
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/nowhere")
            assert refused.value.response.status == 404
