"""HTTP semantics that both wires share, and what only one of them has.

Spec sections 4.3, 5.3, 7.5, 7.6.
"""

import email.utils
import json
from collections.abc import AsyncIterator, Iterator

import pytest

import tako
from tako import HttpError, Request, Response, Router
from tako.testing import Serve
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import H2Connection
from tests.support.apps import echo_router, hello, returning
from tests.support.server import Gate, Reports


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
MIB = 1 << 20


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
            ((404, "Not Found"), 404, "text/plain; charset=utf-8", b"Not Found"),
        ],
    )
    def test_what_a_handler_returns_is_what_is_sent(
        self,
        tako_serve: Serve,
        value: object,
        status: int,
        kind: str | None,
        body: bytes,
    ) -> None:
        with tako_serve(returning(value)).connection() as connection:
            response = connection.request("GET", "/")
            assert (response.status, response.body) == (status, body)
            assert response.header("content-type") == kind

    def test_the_length_and_the_date_are_added(self, tako_serve: Serve) -> None:
        with tako_serve(echo_router()).connection() as connection:
            response = connection.request("GET", "/")
            assert response.header("content-length") == "13"
            date = response.header("date")
            assert date is not None
            assert email.utils.parsedate_to_datetime(date).utcoffset() is not None

    def test_fields_of_the_other_wire_are_dropped(
        self, tako_serve: Serve, wire: str
    ) -> None:
        headers = [("Connection", "keep-alive"), ("Keep-Alive", "5"), ("X-Kept", "1")]
        with tako_serve(
            returning(Response(headers=headers))
        ).connection() as connection:
            response = connection.request("GET", "/")
            assert response.header("x-kept") == "1"
            if wire in {"h2", "h2c"}:
                assert response.header("connection") is None
                assert response.header("keep-alive") is None

    def test_head_is_a_get_without_the_body(self, tako_serve: Serve) -> None:
        with tako_serve(echo_router()).connection() as connection:
            response = connection.request("HEAD", "/")
            assert (response.status, response.body) == (200, b"")
            assert response.header("content-length") == "13"
            assert connection.request("GET", "/").body == b"Hello, World!"

    def test_a_large_body_arrives_whole(self, tako_serve: Serve) -> None:
        body = bytes(range(256)) * (5 * MIB // 256)
        with tako_serve(returning(Response(body=body))).connection() as connection:
            assert connection.request("GET", "/").body == body

    def test_a_streamed_body_arrives_as_it_is_made(self, tako_serve: Serve) -> None:
        async def numbers() -> AsyncIterator[bytes]:
            for number in range(100):
                yield f"{number},".encode()

        def plain() -> Iterator[bytes]:
            yield b"plain "
            yield b"iterator"

        router = Router()
        router.get("/async", lambda: Response(body=numbers()))
        router.get("/plain", lambda: Response(body=plain()))
        with tako_serve(router).connection() as connection:
            expected = ",".join(map(str, range(100))) + ","
            assert connection.request("GET", "/async").body.decode() == expected
            response = connection.request("GET", "/plain")
            assert response.body == b"plain iterator"
            assert response.header("content-length") is None

    def test_the_first_chunk_does_not_wait_for_the_second(
        self, tako_serve: Serve
    ) -> None:
        asked, gate = Reports(), Gate()

        async def body() -> AsyncIterator[bytes]:
            yield b"first"
            asked.put("more")
            await gate.wait()

        with tako_serve(returning(Response(body=body()))).connection() as connection:
            pending = connection.send_request("GET", "/")
            if isinstance(pending, H1Connection):
                pending.read_response(body=False)
                assert pending.read_chunk() == b"first"
            else:
                assert pending.receive() == b"first"
            assert asked.get() == "more"
            gate.open()

    def test_trailers_follow_the_body(self, tako_serve: Serve) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"checked"

        def handler() -> Response:
            response = Response(body=body())
            response.trailers = tako.Headers([("x-checksum", "42")])
            return response

        router = Router()
        router.get("/", handler)
        with tako_serve(router).connection() as connection:
            response = connection.request("GET", "/", [("TE", "trailers")])
            assert response.body == b"checked"
            assert response.trailers == [("x-checksum", "42")]

    def test_a_header_with_a_line_break_never_reaches_the_wire(
        self, tako_serve: Serve
    ) -> None:
        router = Router()
        bad = "a\r\nx-injected: 1"
        router.get("/", lambda: Response(headers=[("x-bad", bad)]))
        server = tako_serve(router)
        with server.connection() as connection:
            response = connection.request("GET", "/")
            assert response.status == 500
            assert response.header("x-injected") is None
        server.expect_error(ValueError, "contains CR, LF or NUL")

    def test_http_error_is_an_answer(self, tako_serve: Serve) -> None:
        router = Router()

        async def teapot(request: Request) -> str:
            raise HttpError(418, "short and stout", (("x-handle", "yes"),))

        router.get("/", teapot)
        with tako_serve(router).connection() as connection:
            response = connection.request("GET", "/")
            assert (response.status, response.body) == (418, b"short and stout")
            assert response.header("x-handle") == "yes"


class TestRouting:
    def test_parameters_are_decoded(self, tako_serve: Serve) -> None:
        router = Router()

        async def show(request: Request) -> dict[str, object]:
            return {
                "params": dict(request.path_params),
                "query": dict(request.query_params),
                "matched": request.matched_path,
            }

        router.get("/users/{name}/{*rest}", show)
        with tako_serve(router).connection() as connection:
            response = connection.request("GET", "/users/j%C3%B6rg/a/b%2Fc?x=1&x=2")
            assert json.loads(response.body) == {
                "params": {"name": "jörg", "rest": "a/b/c"},
                "query": {"x": "1"},
                "matched": "/users/{name}/{*rest}",
            }

    def test_404_and_405(self, tako_serve: Serve) -> None:
        router = Router()
        router.post("/only-post", hello)
        router.get("/only-get", hello)
        with tako_serve(router).connection() as connection:
            missing = connection.request("GET", "/missing")
            assert (missing.status, missing.body) == (404, b"")
            refused = connection.request("GET", "/only-post")
            assert (refused.status, refused.header("allow")) == (405, "POST")
            refused = connection.request("DELETE", "/only-get")
            assert (refused.status, refused.header("allow")) == (405, "GET, HEAD")

    def test_cookies_are_one_field(self, tako_serve: Serve) -> None:
        router = Router()
        router.get("/", lambda request: request.headers.get("cookie"))
        crumbs = [("Cookie", "a=1"), ("Cookie", "b=2")]
        with tako_serve(router).connection() as connection:
            if isinstance(connection, H2Connection):  # RFC 9113 section 8.2.3
                assert connection.request("GET", "/", crumbs).body == b"a=1; b=2"
            else:
                cookie = [("Cookie", "a=1; b=2")]
                assert connection.request("GET", "/", cookie).body == b"a=1; b=2"


class TestRequestBodies:
    @pytest.mark.parametrize("size", [0, 1, 65_536, 3 * MIB])
    def test_a_body_with_a_length(self, tako_serve: Serve, size: int) -> None:
        body = b"x" * size
        with tako_serve(_upload_router()).connection() as connection:
            response = connection.request("POST", "/upload", body=body)
            assert response.body == body

    def test_a_body_in_chunks_with_trailers(self, tako_serve: Serve) -> None:
        chunks = [b"a", b"bc" * 1000, b"d" * 70_000]
        with tako_serve(_upload_router()).connection() as connection:
            for trailers in ([], [("X-Checksum", "1")]):
                response = connection.request(
                    "POST", "/upload", body=chunks, trailers=trailers
                )
                assert response.body == b"".join(chunks)

    def test_an_unread_body_does_not_disturb_the_next_request(
        self, tako_serve: Serve
    ) -> None:
        router = echo_router()
        router.post("/", hello)
        with tako_serve(router).connection() as connection:
            body = b"GET /smuggled HTTP/1.1\r\n\r\n" * 10
            assert connection.request("POST", "/", body=body).status == 200
            assert connection.request("GET", "/").body == b"Hello, World!"

    def test_a_limit_is_413(self, tako_serve: Serve) -> None:
        router = Router()

        async def small(request: Request) -> bytes:
            return await request.body(limit=10)

        router.post("/", small)
        with tako_serve(router).connection() as connection:
            assert connection.request("POST", "/", body=b"x" * 10).status == 200
            assert connection.request("POST", "/", body=b"x" * 11).status == 413

    def test_100_continue_is_sent_when_the_body_is_wanted(
        self, tako_serve: Serve
    ) -> None:
        with tako_serve(_upload_router()).connection() as connection:
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
