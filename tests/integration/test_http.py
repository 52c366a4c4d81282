"""HTTP semantics that both wires share, and what only one of them has.

Spec sections 4.3, 5.3, 7.5, 7.6.
"""

import email.utils
import json
from collections.abc import AsyncIterator, Iterator

import pytest

import tako
from tako import HttpError, Request, Response, Router, ServerConfig
from tests.conftest import Serve
from tests.support.apps import echo_router, hello
from tests.support.peer_h2 import END_STREAM, FrameType, H2Connection
from tests.support.peer_io import EndOfStreamError, StreamResetError
from tests.support.server import Reports

H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
MIB = 1 << 20


def _returning(value: object) -> Router:
    router = Router()

    async def handler(request: Request) -> object:
        return value

    router.get("/", handler)
    return router


async def _upload(request: Request) -> Response:
    body = await request.body()
    return Response(headers=[("x-length", str(len(body)))], body=body)


def _upload_router() -> Router:
    router = echo_router()
    router.post("/upload", _upload)
    return router


class TestResponses:
    @pytest.mark.parametrize(
        ("value", "status", "kind", "body"),
        [
            ("text", 200, "text/plain; charset=utf-8", b"text"),
            (b"bytes", 200, None, b"bytes"),
            ({"a": 1}, 200, "application/json", b'{"a":1}'),
            ([1, 2], 200, "application/json", b"[1,2]"),
            (204, 204, None, b""),
            (None, 200, None, b""),
            ((201, "made"), 201, "text/plain; charset=utf-8", b"made"),
            (tako.NOT_FOUND, 404, "text/plain; charset=utf-8", b"Not Found"),
        ],
    )
    def test_what_a_handler_returns_is_what_is_sent(
        self,
        serve: Serve,
        value: object,
        status: int,
        kind: str | None,
        body: bytes,
    ) -> None:
        with serve(_returning(value)).connect() as connection:
            response = connection.request("GET", "/")
            assert (response.status, response.body) == (status, body)
            assert response.header("content-type") == kind

    def test_the_length_and_the_date_are_added(self, serve: Serve) -> None:
        with serve(echo_router()).connect() as connection:
            response = connection.request("GET", "/")
            assert response.header("content-length") == "13"
            date = response.header("date")
            assert date is not None
            assert email.utils.parsedate_to_datetime(date).utcoffset() is not None

    def test_fields_of_the_other_wire_are_dropped(
        self, serve: Serve, wire: str
    ) -> None:
        headers = [("Connection", "keep-alive"), ("Keep-Alive", "5"), ("X-Kept", "1")]
        with serve(_returning(Response(headers=headers))).connect() as connection:
            response = connection.request("GET", "/")
            assert response.header("x-kept") == "1"
            if wire in {"h2", "h2c"}:
                assert response.header("connection") is None
                assert response.header("keep-alive") is None

    def test_head_is_a_get_without_the_body(self, serve: Serve) -> None:
        with serve(echo_router()).connect() as connection:
            response = connection.request("HEAD", "/")
            assert (response.status, response.body) == (200, b"")
            assert response.header("content-length") == "13"
            assert connection.request("GET", "/").body == b"Hello, World!"

    def test_a_large_body_arrives_whole(self, serve: Serve) -> None:
        body = bytes(range(256)) * (5 * MIB // 256)
        with serve(_returning(Response(body=body))).connect() as connection:
            assert connection.request("GET", "/").body == body

    def test_a_streamed_body_arrives_as_it_is_made(self, serve: Serve) -> None:
        async def numbers() -> AsyncIterator[bytes]:
            for number in range(100):
                yield f"{number},".encode()

        def plain() -> Iterator[bytes]:
            yield b"plain "
            yield b"iterator"

        router = Router()
        router.get("/async", lambda: Response(body=numbers()))
        router.get("/plain", lambda: Response(body=plain()))
        with serve(router).connect() as connection:
            expected = ",".join(map(str, range(100))) + ","
            assert connection.request("GET", "/async").body.decode() == expected
            response = connection.request("GET", "/plain")
            assert response.body == b"plain iterator"
            assert response.header("content-length") is None

    def test_the_first_chunk_does_not_wait_for_the_second(self, serve: Serve) -> None:
        asked = Reports()

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            asked.put("more")
            await tako.sleep(60)

        with serve(_returning(Response(body=body()))).connect() as connection:
            pending = connection.send_request("GET", "/")
            if isinstance(connection, H2Connection):
                assert connection.streams[1].receive() == b"first"
            else:
                pending.read_response(body=False)  # type: ignore[call-arg]
                assert connection.read_chunk() == b"first"
            assert asked.get() == "more"

    def test_trailers_follow_the_body(self, serve: Serve) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"checked"

        def handler() -> Response:
            response = Response(body=body())
            response.trailers = tako.Headers([("x-checksum", "42")])
            return response

        router = Router()
        router.get("/", handler)
        with serve(router).connect() as connection:
            response = connection.request("GET", "/", [("TE", "trailers")])
            assert response.body == b"checked"
            assert response.trailers == [("x-checksum", "42")]

    def test_a_header_with_a_line_break_never_reaches_the_wire(
        self, serve: Serve
    ) -> None:
        router = Router()
        bad = "a\r\nx-injected: 1"
        router.get("/", lambda: Response(headers=[("x-bad", bad)]))
        server = serve(router)
        with server.connect() as connection:
            response = connection.request("GET", "/")
            assert response.status == 500
            assert response.header("x-injected") is None
        assert server.wait_error().exc_info

    def test_http_error_is_an_answer(self, serve: Serve) -> None:
        router = Router()

        async def teapot(request: Request) -> str:
            raise HttpError(418, "short and stout", (("x-handle", "yes"),))

        router.get("/", teapot)
        with serve(router).connect() as connection:
            response = connection.request("GET", "/")
            assert (response.status, response.body) == (418, b"short and stout")
            assert response.header("x-handle") == "yes"


class TestRouting:
    def test_parameters_are_decoded(self, serve: Serve) -> None:
        router = Router()

        async def show(request: Request) -> dict[str, object]:
            return {
                "params": dict(request.path_params),
                "query": dict(request.query_params),
                "matched": request.matched_path,
            }

        router.get("/users/{name}/{*rest}", show)
        with serve(router).connect() as connection:
            response = connection.request("GET", "/users/j%C3%B6rg/a/b%2Fc?x=1&x=2")
            assert json.loads(response.body) == {
                "params": {"name": "jörg", "rest": "a/b/c"},
                "query": {"x": "1"},
                "matched": "/users/{name}/{*rest}",
            }

    def test_404_and_405(self, serve: Serve) -> None:
        router = Router()
        router.post("/only-post", hello)
        router.get("/only-get", hello)
        with serve(router).connect() as connection:
            missing = connection.request("GET", "/missing")
            assert (missing.status, missing.body) == (404, b"")
            refused = connection.request("GET", "/only-post")
            assert (refused.status, refused.header("allow")) == (405, "POST")
            refused = connection.request("DELETE", "/only-get")
            assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")

    def test_cookies_are_one_field(self, serve: Serve) -> None:
        router = Router()
        router.get("/", lambda request: request.headers.get("cookie"))
        crumbs = [("Cookie", "a=1"), ("Cookie", "b=2")]
        with serve(router).connect() as connection:
            if isinstance(connection, H2Connection):  # RFC 9113 section 8.2.3
                assert connection.request("GET", "/", crumbs).body == b"a=1; b=2"
            else:
                cookie = [("Cookie", "a=1; b=2")]
                assert connection.request("GET", "/", cookie).body == b"a=1; b=2"


class TestRequestBodies:
    @pytest.mark.parametrize("size", [0, 1, 65_536, 3 * MIB])
    def test_a_body_with_a_length(self, serve: Serve, size: int) -> None:
        body = b"x" * size
        with serve(_upload_router()).connect() as connection:
            response = connection.request("POST", "/upload", body=body)
            assert response.body == body

    def test_a_body_in_chunks_with_trailers(self, serve: Serve) -> None:
        chunks = [b"a", b"bc" * 1000, b"d" * 70_000]
        with serve(_upload_router()).connect() as connection:
            for trailers in ([], [("X-Checksum", "1")]):
                response = connection.request(
                    "POST", "/upload", body=chunks, trailers=trailers
                )
                assert response.body == b"".join(chunks)

    def test_a_body_nobody_reads_does_not_disturb_the_next_request(
        self, serve: Serve
    ) -> None:
        router = echo_router()
        router.post("/", hello)
        with serve(router).connect() as connection:
            body = b"GET /smuggled HTTP/1.1\r\n\r\n" * 10
            assert connection.request("POST", "/", body=body).status == 200
            assert connection.request("GET", "/").body == b"Hello, World!"

    def test_a_limit_is_413(self, serve: Serve) -> None:
        router = Router()

        async def small(request: Request) -> bytes:
            return await request.body(limit=10)

        router.post("/", small)
        with serve(router).connect() as connection:
            assert connection.request("POST", "/", body=b"x" * 10).status == 200
            assert connection.request("POST", "/", body=b"x" * 11).status == 413

    def test_100_continue_is_sent_when_the_body_is_wanted(self, serve: Serve) -> None:
        with serve(_upload_router()).connect() as connection:
            headers = [("Expect", "100-continue"), ("Content-Length", "5")]
            if isinstance(connection, H2Connection):
                fields = connection.pseudo_headers("POST", "/upload")
                lower = [(name.lower(), value) for name, value in headers]
                stream = connection.open([*fields, *lower])
                while not stream.interim:
                    connection.pump()
                assert stream.interim == [100]
                stream.send(b"hello", end=True)
                assert stream.read_response().body == b"hello"
            else:
                connection.send_raw(connection.head("POST", "/upload", headers))
                assert connection.read_exactly(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
                connection.send_raw(b"hello")
                assert connection.read_response().body == b"hello"


@H1_ONLY
class TestHttp1:
    def test_keep_alive_is_the_default(self, serve: Serve) -> None:
        with serve(echo_router()).connect_h1() as connection:
            for _ in range(20):
                assert connection.request("GET", "/").body == b"Hello, World!"

    def test_pipelined_requests_are_answered_in_order(self, serve: Serve) -> None:
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
        with serve(router).connect_h1() as connection:
            heads = [connection.head("GET", f"/{number}") for number in range(200)]
            connection.send_raw(b"".join(heads))
            for number in range(200):
                assert connection.read_response().body.decode() == f"/{number}"
            assert {running.get() for _ in range(200)} == {1}

    def test_connection_close_is_obeyed(self, serve: Serve) -> None:
        with serve(echo_router()).connect_h1() as connection:
            response = connection.request("GET", "/", [("Connection", "close")])
            assert response.header("connection") == "close"
            connection.expect_closed()

    def test_keep_alive_can_be_switched_off(self, serve: Serve) -> None:
        config = ServerConfig(keep_alive=False)
        with serve(echo_router(), config).connect_h1() as connection:
            assert connection.request("GET", "/").header("connection") == "close"
            connection.expect_closed()

    def test_http_1_0_gets_a_body_that_ends_with_the_connection(
        self, serve: Serve
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"one "
            yield b"two"

        with serve(_returning(Response(body=body()))).connect_h1() as connection:
            connection.send_raw(b"GET / HTTP/1.0\r\n\r\n")
            response = connection.read_response()
            assert response.body == b"one two"
            assert response.header("transfer-encoding") is None

    def test_http_1_0_keeps_alive_when_asked(self, serve: Serve) -> None:
        with serve(echo_router()).connect_h1() as connection:
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
                b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
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
        self, serve: Serve, head: bytes, status: int
    ) -> None:
        with serve(echo_router()).connect_h1() as connection:
            connection.send_raw(head)
            response = connection.read_response()
            assert response.status == status
            assert response.header("connection") == "close"
            connection.expect_closed()

    def test_a_slow_head_is_408(self, serve: Serve) -> None:
        config = ServerConfig(header_read_timeout=0.3)
        with serve(echo_router(), config).connect_h1() as connection:
            connection.send_raw(b"GET / HTTP/1.1\r\nHost:")
            assert connection.read_response().status == 408
            connection.expect_closed()

    def test_an_idle_connection_is_closed_without_a_word(self, serve: Serve) -> None:
        config = ServerConfig(keep_alive_timeout=0.3)
        with serve(echo_router(), config).connect_h1() as connection:
            connection.request("GET", "/")
            connection.expect_closed()

    def test_a_request_before_fin_is_answered(self, serve: Serve) -> None:
        with serve(echo_router()).connect_h1() as connection:
            connection.send_request("GET", "/")
            connection.socket.half_close()
            assert connection.read_response().body == b"Hello, World!"

    def test_a_failing_body_ends_without_the_last_chunk(self, serve: Serve) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            msg = "on purpose"
            raise LookupError(msg)

        server = serve(_returning(Response(body=body())))
        with server.connect_h1() as connection:
            connection.send_request("GET", "/")
            with pytest.raises((EndOfStreamError, StreamResetError)):
                connection.read_response()
        assert server.wait_error().exc_info


@H2_ONLY
class TestHttp2:
    def test_many_requests_at_once(self, serve: Serve) -> None:
        router = Router()

        async def slow(request: Request) -> str:
            await tako.sleep(0.01)
            return request.path

        router.get("/{number}", slow)
        with serve(router).connect_h2() as connection:
            streams = [connection.send_request("GET", f"/{n}") for n in range(90)]
            for number, stream in enumerate(streams):
                assert stream.read_response().body.decode() == f"/{number}"

    def test_a_response_without_a_body_ends_with_its_head(self, serve: Serve) -> None:
        with serve(_returning(204)).connect_h2() as connection:
            assert connection.request("GET", "/").status == 204
            (head,) = connection.streams[1].frames
            assert head.type == FrameType.HEADERS
            assert head.flags & END_STREAM

    def test_headers_above_the_limit_are_431_on_the_stream(self, serve: Serve) -> None:
        with serve(echo_router()).connect_h2() as connection:
            sibling = connection.websocket("/ws")
            big = [(f"x-{n}", "v" * 3000) for n in range(8)]
            assert connection.request("GET", "/", big).status == 431
            sibling.echo("alive")

    def test_streams_above_the_limit_are_refused(self, serve: Serve) -> None:
        config = ServerConfig(h2_max_concurrent_streams=2)
        with serve(echo_router(), config).connect_h2() as connection:
            one, two = connection.websocket("/ws"), connection.websocket("/ws")
            fields = connection.connect_headers("/ws")
            connection.h2.remote_settings.max_concurrent_streams = 100
            assert connection.open(fields).expect_reset() == 0x7  # REFUSED_STREAM
            one.echo("alive")
            two.echo("alive")

    def test_a_reset_cancels_the_handler(self, serve: Serve) -> None:
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
        with serve(router).connect_h2() as connection:
            stream = connection.send_request("GET", "/")
            assert reports.get() == "started"
            stream.reset()
            assert reports.get() == "cancelled"
            assert connection.request("GET", "/hello").status == 200

    def test_a_failing_body_resets_its_stream(self, serve: Serve) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            msg = "on purpose"
            raise LookupError(msg)

        server = serve(_returning(Response(body=body())))
        with server.connect_h2() as connection:
            stream = connection.send_request("GET", "/")
            assert stream.expect_reset() == 0x2  # INTERNAL_ERROR
        assert server.wait_error().exc_info

    def test_a_response_before_the_end_of_the_body_is_followed_by_no_error(
        self, serve: Serve
    ) -> None:
        router = Router()
        router.post("/", hello)
        with serve(router).connect_h2() as connection:
            stream = connection.open(connection.pseudo_headers("POST", "/"))
            assert stream.read_response().body == b"Hello, World!"
            assert stream.expect_reset() == 0x0  # RFC 9113 section 8.1


class TestOtherWires:
    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_an_http_2_preface_on_serve_is_refused(self, serve: Serve) -> None:
        with serve(echo_router()).connect_h1() as connection:
            connection.send_raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            assert connection.read_response().status == 505
            connection.expect_closed()

    @pytest.mark.parametrize("wire", ["h2c"], indirect=True)
    def test_http_1_on_serve_h2c_is_refused(self, serve: Serve) -> None:
        server = serve(echo_router())
        with server.connect("h1") as connection:
            connection.send_raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            received = connection.socket.receive()
            assert not received.startswith(b"HTTP/1.1 200")
        with server.connect_h2() as connection:
            assert connection.request("GET", "/").status == 200

    @pytest.mark.parametrize("wire", ["h1s"], indirect=True)
    def test_tls_facts_are_on_the_request(self, serve: Serve) -> None:
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
        server = serve(router)
        for wire, alpn, transport in (
            ("h1s", "http/1.1", "http1"),
            ("h2", "h2", "http2"),
        ):
            with server.connect(wire) as connection:
                assert json.loads(connection.request("GET", "/").body) == {
                    "alpn": alpn,
                    "sni": "localhost",
                    "version": "TLSv1.3",
                    "transport": transport,
                    "scheme": "https",
                }
