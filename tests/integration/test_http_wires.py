"""HTTP as only one of the wires has it: RFC 9112, RFC 9113, and what TLS adds."""

import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

import tako
from tako import Request, Response, Router, ServerConfig
from tako.testing import Serve
from tako.testing.peer.frames import END_STREAM, FrameType
from tako.testing.peer.io import EndOfStreamError, StreamResetError
from tests.support.apps import echo_router, hello, returning
from tests.support.peers import h1_of, h2_of
from tests.support.server import Reports


if TYPE_CHECKING:
    from tako.testing.peer import Wire


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)


@H1_ONLY
class TestHttp1:
    def test_keep_alive_is_the_default(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            for _ in range(20):
                assert connection.request("GET", "/").body == b"Hello, World!"

    def test_pipelined_requests_are_answered_in_order(self, tako_serve: Serve) -> None:
        router, running = Router(), Reports()
        active = 0

        async def numbered(request: Request) -> str:
            nonlocal active
            active += 1
            running.put(active)
            await tako.sleep(0.001)
            active -= 1
            return request.path

        router.get("/{number}", numbered)
        with h1_of(tako_serve(router)) as connection:
            heads = [connection.head("GET", f"/{number}") for number in range(200)]
            connection.send_raw(b"".join(heads))
            for number in range(200):
                assert connection.read_response().body.decode() == f"/{number}"
            assert {running.get() for _ in range(200)} == {1}

    def test_connection_close_is_obeyed(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            response = connection.request("GET", "/", [("Connection", "close")])
            assert response.header("connection") == "close"
            connection.expect_closed()

    def test_keep_alive_can_be_switched_off(self, tako_serve: Serve) -> None:
        config = ServerConfig(keep_alive=False)
        with h1_of(tako_serve(echo_router(), config=config)) as connection:
            assert connection.request("GET", "/").header("connection") == "close"
            connection.expect_closed()

    def test_http_1_0_gets_a_body_that_ends_with_the_connection(
        self, tako_serve: Serve
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        with h1_of(tako_serve(returning(Response(body=body())))) as connection:
            connection.send_raw(b"GET / HTTP/1.0\r\n\r\n")
            response = connection.read_response()
            assert response.body == b"one two"
            assert response.header("transfer-encoding") is None

    def test_http_1_0_keeps_alive_when_asked(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            for _ in range(2):
                connection.send_raw(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
                response = connection.read_response()
                assert response.header("connection") == "keep-alive"
                assert response.body == b"Hello, World!"

    @pytest.mark.parametrize(
        ("head", "status"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: 1\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
            (b"GET / HTTP/1.1\nHost: a\n\n", 400),
            (
                (
                    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                ),
                400,
            ),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
            (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", 431),
            (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 200 + b"\r\n", 431),
            (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505),
            (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 501),
        ],
    )
    def test_a_head_that_cannot_be_accepted(
        self, tako_serve: Serve, head: bytes, status: int
    ) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            connection.send_raw(head)
            response = connection.read_response()
            assert response.status == status
            assert response.header("connection") == "close"
            connection.expect_closed()

    def test_a_slow_head_is_408(self, tako_serve: Serve) -> None:
        config = ServerConfig(header_read_timeout=0.3)
        with h1_of(tako_serve(echo_router(), config=config)) as connection:
            connection.send_raw(b"GET / HTTP/1.1\r\nHost:")
            assert connection.read_response().status == 408
            connection.expect_closed()

    def test_an_idle_connection_is_closed_without_a_word(
        self, tako_serve: Serve
    ) -> None:
        config = ServerConfig(keep_alive_timeout=0.3)
        with h1_of(tako_serve(echo_router(), config=config)) as connection:
            connection.request("GET", "/")
            connection.expect_closed()

    def test_a_request_before_fin_is_answered(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            connection.send_request("GET", "/")
            connection.socket.half_close()
            assert connection.read_response().body == b"Hello, World!"

    def test_a_failing_body_ends_without_the_last_chunk(
        self, tako_serve: Serve
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            msg = "on purpose"
            raise LookupError(msg)

        server = tako_serve(returning(Response(body=body())))
        with h1_of(server) as connection:
            connection.send_request("GET", "/")
            with pytest.raises((EndOfStreamError, StreamResetError)):
                connection.read_response()
        server.expect_error(LookupError)


@H2_ONLY
class TestHttp2:
    def test_many_requests_at_once(self, tako_serve: Serve) -> None:
        router = Router()

        async def slow(request: Request) -> str:
            await tako.sleep(0.01)
            return request.path

        router.get("/{number}", slow)
        with h2_of(tako_serve(router)) as connection:
            streams = [connection.send_request("GET", f"/{n}") for n in range(90)]
            for number, stream in enumerate(streams):
                assert stream.read_response().body.decode() == f"/{number}"

    def test_a_response_without_a_body_ends_with_its_head(
        self, tako_serve: Serve
    ) -> None:
        with h2_of(tako_serve(returning(204))) as connection:
            assert connection.request("GET", "/").status == 204
            (head,) = connection.streams[1].frames
            assert head.type == FrameType.HEADERS
            assert head.flags & END_STREAM

    def test_headers_above_the_limit_are_431_on_the_stream(
        self, tako_serve: Serve
    ) -> None:
        with h2_of(tako_serve(echo_router())) as connection:
            sibling = connection.websocket("/ws")
            big = [(f"x-{n}", "v" * 9000) for n in range(8)]
            assert connection.request("GET", "/", big).status == 431
            sibling.echo("alive")

    def test_streams_above_the_limit_are_refused(self, tako_serve: Serve) -> None:
        config = ServerConfig(h2_max_concurrent_streams=2)
        with h2_of(tako_serve(echo_router(), config=config)) as connection:
            one, two = connection.websocket("/ws"), connection.websocket("/ws")
            fields = connection.connect_headers("/ws")
            refused = connection.open_beyond_limits(fields)
            assert refused.expect_reset() == 0x7  # REFUSED_STREAM
            one.echo("alive")
            two.echo("alive")

    def test_a_reset_cancels_the_handler(self, tako_serve: Serve) -> None:
        reports, router = Reports(), Router()

        async def endless(request: Request) -> str:
            reports.put("started")
            try:
                await tako.sleep(60)
            finally:
                reports.put("cancelled")
            return "never"

        router.get("/", endless)
        router.get("/hello", hello)
        with h2_of(tako_serve(router)) as connection:
            stream = connection.send_request("GET", "/")
            assert reports.get() == "started"
            stream.reset()
            assert reports.get() == "cancelled"
            assert connection.request("GET", "/hello").status == 200

    def test_a_failing_body_resets_its_stream(self, tako_serve: Serve) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            msg = "on purpose"
            raise LookupError(msg)

        server = tako_serve(returning(Response(body=body())))
        with h2_of(server) as connection:
            stream = connection.send_request("GET", "/")
            assert stream.expect_reset() == 0x2  # INTERNAL_ERROR
        server.expect_error(LookupError)

    def test_a_response_before_the_end_of_the_body_is_followed_by_no_error(
        self, tako_serve: Serve
    ) -> None:
        router = Router()
        router.post("/", hello)
        with h2_of(tako_serve(router)) as connection:
            stream = connection.open(connection.pseudo_headers("POST", "/"))
            assert stream.read_response().body == b"Hello, World!"
            assert stream.expect_reset() == 0x0  # RFC 9113 section 8.1


class TestOtherWires:
    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_an_http_2_preface_on_serve_is_refused(self, tako_serve: Serve) -> None:
        with h1_of(tako_serve(echo_router())) as connection:
            connection.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert connection.read_response().status == 505
            connection.expect_closed()

    @pytest.mark.parametrize("wire", ["h2c"], indirect=True)
    def test_http_1_on_a_port_for_http_2_is_refused(self, tako_serve: Serve) -> None:
        server = tako_serve(echo_router())
        with server.connection(wire="h1") as connection:
            connection.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = connection.socket.receive()
            assert not received.startswith(b"HTTP/1.1 200")
        with h2_of(server) as connection:
            assert connection.request("GET", "/").status == 200

    @pytest.mark.parametrize("wire", ["h1s"], indirect=True)
    def test_tls_facts_are_on_the_request(self, tako_serve: Serve) -> None:
        router = Router()

        async def show(request: Request) -> dict[str, object]:
            info = request.conn_info
            assert info is not None
            assert info.tls is not None
            return {
                "alpn": info.tls.alpn,
                "sni": info.tls.sni,
                "version": info.tls.version,
                "transport": info.transport.value,
                "scheme": request.scheme,
            }

        router.get("/", show)
        server = tako_serve(router)
        expected: dict[Wire, tuple[str, str]] = {
            "h1s": ("http/1.1", "http1"),
            "h2": ("h2", "http2"),
        }
        for wire, (alpn, transport) in expected.items():
            with server.connection(wire=wire) as connection:
                assert json.loads(connection.request("GET", "/").body) == {
                    "alpn": alpn,
                    "sni": "localhost",
                    "version": "TLSv1.3",
                    "transport": transport,
                    "scheme": "https",
                }
