"""What must not depend on the wire: limits, methods, HEAD, what an app may not send."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import pytest

import tako
from tako import Request, Response, Router, ServerConfig
from tako.asgi import AsgiApp
from tako.testing import Serve
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.websocket import HandshakeRefusedError
from tests.support.apps import hello
from tests.support.asgi_apps import Receive, Scope, Send, lifespan_only
from tests.support.peers import h1_of


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
LENGTH = "content-length"

Fields = list[tuple[bytes, bytes]]


def app_of(status: int, fields: Fields, *chunks: bytes) -> Router:
    """Return an ASGI app, served in place of a router."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_only(scope, receive, send)
            return
        start = {"type": "http.response.start", "status": status, "headers": fields}
        if scope["path"] == "/method":
            start["headers"] = [(b"x-method", scope["method"].encode())]
        await send(start)
        for chunk in chunks:
            event = {"type": "http.response.body", "body": chunk, "more_body": True}
            await send(event)
        await send({"type": "http.response.body", "body": b""})

    return cast("Router", AsgiApp(app))


class TestRequests:
    def test_one_request_does_not_poison_the_next(self, tako_serve: Serve) -> None:
        router = Router()
        router.fallback(lambda request: request.path)
        poisons = [
            ("Keep-Alive", "close"),
            ("Proxy-Connection", "close"),
            ("Proxy-Connection", "Keep-Alive, Close"),
        ]
        with tako_serve(router).connection() as connection:
            for number, field in enumerate(poisons):
                fields = [field] if isinstance(connection, H1Connection) else []
                first = connection.request("GET", f"/{number}", fields)
                assert (first.status, first.body) == (200, b"/%d" % number)
                assert connection.request("GET", "/next").body == b"/next"

    def test_any_token_is_a_method(self, tako_serve: Serve) -> None:
        router = Router()
        router.route("BREW", "/pot", lambda request: request.method)
        router.get("/", hello)
        with tako_serve(router).connection() as connection:
            assert connection.request("BREW", "/pot").body == b"BREW"
            response = connection.request("BREW", "/")
            assert (response.status, response.header("allow")) == (405, "GET, HEAD")
            assert connection.request("BREW", "/nothing").status == 404
            for method in ("get", "brew", "PURGE!", "X" * 64):
                assert connection.request(method, "/").status == 405
                assert connection.request(method, "/nothing").status == 501
            assert connection.request("GET", "/").status == 200
        with tako_serve(app_of(200, [])).connection() as connection:
            response = connection.request("M-SEARCH~", "/method")
            assert response.header("x-method") == "M-SEARCH~"

    def test_limits_of_a_head_mean_the_same(self, tako_serve: Serve, wire: str) -> None:
        router = Router()
        router.fallback(lambda request: str(len(request.cookies)))
        server = tako_serve(router)
        pairs = [f"c{n}=v{n}" for n in range(180)]
        with server.connection() as connection:
            crumbs: list[tuple[str, str]] = [("cookie", "; ".join(pairs))]
            if isinstance(connection, H2Connection):
                crumbs = [("cookie", pair) for pair in pairs]
            assert connection.request("GET", "/", crumbs).body == b"180"
        large = [(f"x-{n}", "v" * 6000) for n in range(10)]
        with server.connection() as connection:
            assert connection.request("GET", "/", large).status == 200
            assert connection.request("GET", "/", [*large, *large[:1]]).status == 431
            if isinstance(connection, H2Connection):
                assert connection.request("GET", "/").status == 200
        many = [(f"x-{n}", "v") for n in range(101)]
        with server.connection() as connection:
            assert connection.request("GET", "/", many[:98]).status == 200
            assert connection.request("GET", "/", many).status == 431

    def test_an_unknown_expectation_is_417(self, tako_serve: Serve) -> None:
        router = Router()
        router.post("/", hello)
        with tako_serve(router).connection() as connection:
            fields = [("expect", "101-Continue")]
            assert connection.request("POST", "/", fields).status == 417


def _streamed() -> Iterator[bytes]:
    yield b"x" * 500


async def _streamed_async() -> AsyncIterator[bytes]:
    yield b"x" * 500


class TestHead:
    """RFC 9110 §8.6, §9.3.2."""

    @pytest.mark.parametrize(
        ("response", "length"),
        [
            (lambda: Response(200, {LENGTH: "500"}), "500"),
            (lambda: Response(200, {"etag": '"v1"'}), None),
            (lambda: None, None),
            (lambda: "text", "4"),
            (lambda: Response(404, {LENGTH: "7"}), "7"),
            (lambda: Response(204, {LENGTH: "7"}), None),
            (lambda: Response(205, {LENGTH: "7"}), None),
            (lambda: Response(304, {LENGTH: "7"}), "7"),
            (lambda: Response(304), None),
            (lambda: Response(200, {LENGTH: "500"}, _streamed()), "500"),
            (lambda: Response(200, (), _streamed_async()), None),
        ],
    )
    def test_a_handler_of_its_own_says_the_length(
        self, tako_serve: Serve, response: Any, length: str | None
    ) -> None:
        router = Router()
        router.get("/", lambda: b"x" * 500)
        router.head("/", response)
        with tako_serve(router).connection() as connection:
            for _ in range(2):
                answer = connection.request("HEAD", "/")
                assert (answer.header(LENGTH), answer.body) == (length, b"")
                assert connection.request("GET", "/").header(LENGTH) == "500"

    @pytest.mark.parametrize("length", [None, b"500"])
    @pytest.mark.parametrize("chunks", [(), (b"x" * 500,)])
    def test_an_app_says_the_length(
        self, tako_serve: Serve, length: bytes | None, chunks: tuple[bytes, ...]
    ) -> None:
        fields = [] if length is None else [(LENGTH.encode(), length)]
        with tako_serve(app_of(200, fields, *chunks)).connection() as connection:
            for _ in range(2):
                answer = connection.request("HEAD", "/")
                expected = None if length is None else length.decode()
                assert (answer.status, answer.header(LENGTH)) == (200, expected)
                assert answer.body == b""

    @H1_ONLY
    def test_on_http_1_0(self, tako_serve: Serve) -> None:
        router = Router()
        router.head("/", lambda: Response(200, {LENGTH: "500"}))
        router.head("/none", lambda: None)
        with h1_of(tako_serve(router)) as connection:
            for path, length in (("/", "500"), ("/none", None)):
                line = f"HEAD {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                connection.send_raw(line.encode())
                answer = connection.read_response(body=False)
                assert (answer.status, answer.header(LENGTH)) == (200, length)


SAID = (tako.LocalProtocolError, ValueError)

WRONG: list[Fields] = [
    [(b"content-length", b"1, 1")],
    [(b"content-length", b"+5")],
    [(b"content-length", b"0"), (b"content-length", b"0")],
    [(b"x", b"a\x01b")],
    [(b"x", b"a\x7f")],
    [(b"x", b"a\r\nset-cookie: b=c")],
    [(b"x y", b"a")],
    [(b":status", b"200")],
]


class TestResponses:
    @pytest.mark.parametrize("fields", WRONG)
    @pytest.mark.parametrize("streamed", [False, True])
    def test_what_a_handler_may_not_send_is_500(
        self, tako_serve: Serve, fields: Fields, *, streamed: bool
    ) -> None:
        def handler() -> Response:
            response = Response(body=_streamed() if streamed else b"")
            response.headers.raw += fields
            return response

        router = Router()
        router.get("/", handler)
        server = tako_serve(router)
        with server.connection() as connection:
            for _ in range(2):
                answer = connection.request("GET", "/")
                assert answer.status == 500
                assert answer.body == b"Internal Server Error"
                assert answer.header("x") is None
                assert isinstance(server.expect_error(Exception), SAID)

    @pytest.mark.parametrize("fields", WRONG)
    @pytest.mark.parametrize("chunks", [(), (b"x",)])
    def test_what_an_app_may_not_send_is_500(
        self, tako_serve: Serve, fields: Fields, chunks: tuple[bytes, ...]
    ) -> None:
        server = tako_serve(app_of(200, fields, *chunks))
        with server.connection() as connection:
            answer = connection.request("GET", "/")
            assert answer.status == 500
            assert answer.header("x") is None
            assert isinstance(server.expect_error(Exception), SAID)

    def test_a_reset_content_is_no_error(self, tako_serve: Serve) -> None:
        router = Router()
        router.get("/", lambda: Response(205, {LENGTH: "3"}, b"abc"))
        with tako_serve(router).connection() as connection:
            for _ in range(2):
                answer = connection.request("GET", "/")
                assert (answer.status, answer.body) == (205, b"")
                assert answer.header(LENGTH) in {None, "0"}


class TestBodies:
    def test_what_collects_a_body_has_a_limit(self, tako_serve: Serve) -> None:
        router = Router()

        async def size(request: Request) -> str:
            return str(len(await request.body()))

        async def any_size(request: Request) -> str:
            return str(len(await request.body(limit=None)))

        async def streamed(request: Request) -> str:
            return str(sum([len(chunk) async for chunk in request.stream()]))

        async def parsed(request: Request) -> str:
            return json.dumps(await request.json())

        async def form(request: Request) -> str:
            return json.dumps(await request.form())

        for handler in (size, any_size, streamed, parsed, form):
            router.post(f"/{handler.__name__}", handler)
        with tako_serve(
            router, config=ServerConfig(max_body_size=1000)
        ).connection() as connection:
            ask = connection.request
            for body in (b"x" * 1001, [b"x" * 500, b"y" * 501]):
                assert ask("POST", "/size", body=body).status == 413
                assert ask("POST", "/any_size", body=body).body == b"1001"
                assert ask("POST", "/streamed", body=body).body == b"1001"
            assert ask("POST", "/size", body=b"x" * 1000).body == b"1000"
            text = b'"%b"' % (b"x" * 999)
            for kind, path in (
                ("application/json", "/parsed"),
                ("application/x-www-form-urlencoded", "/form"),
            ):
                headers = [("content-type", kind)]
                assert ask("POST", path, headers, body=text).status == 413

    def test_the_default_is_16_mib_and_none_switches_it_off(
        self, tako_serve: Serve
    ) -> None:
        router = Router()

        async def size(request: Request) -> str:
            return str(len(await request.body()))

        router.post("/", size)
        large = b"x" * (16 * 1024 * 1024 + 1)
        with tako_serve(
            router, config=ServerConfig(max_body_size=None)
        ).connection() as connection:
            expected = str(len(large)).encode()
            assert connection.request("POST", "/", body=large).body == expected
        assert ServerConfig().max_body_size == len(large) - 1

    def test_too_large_a_body_is_not_asked_for(self, tako_serve: Serve) -> None:
        router = Router()

        async def read(request: Request) -> bytes:
            return await request.body()

        router.post("/", read)
        router.get("/", hello)
        with tako_serve(router).connection() as connection:
            headers = [("expect", "100-continue"), (LENGTH, str(1 << 30))]
            if isinstance(connection, H2Connection):
                fields = connection.pseudo_headers("POST", "/")
                stream = connection.open([*fields, *headers])
                assert stream.read_response().status == 413
                assert stream.interim == []
                assert connection.request("GET", "/").status == 200
            else:
                connection.send_raw(connection.head("POST", "/", headers))
                assert connection.read_response().status == 413
                connection.expect_closed()


def test_a_part_that_is_read_whole_has_a_limit(tako_serve: Serve) -> None:
    router = Router()

    async def upload(request: Request) -> str:
        async for part in await request.multipart():
            data = await part.read(**({"limit": None} if request.query else {}))
            return str(len(data))
        return "none"

    router.post("/", upload)
    body = (
        b'--b\r\nContent-Disposition: form-data; name="f"\r\n\r\n'
        + b"x" * 1001
        + b"\r\n--b--\r\n"
    )
    headers = [("content-type", "Multipart/Form-Data; BOUNDARY=b")]
    with tako_serve(
        router, config=ServerConfig(max_body_size=1000)
    ).connection() as connection:
        assert connection.request("POST", "/", headers, body=body).status == 413
        assert connection.request("POST", "/?all", headers, body=body).body == b"1001"


@pytest.mark.parametrize("offer", ["", "chat,", "chat, chat", '"chat"', "a b"])
def test_an_offer_that_is_no_list_of_tokens_is_400(
    tako_serve: Serve, offer: str
) -> None:
    async def session(ws: tako.WebSocket) -> None:
        await ws.send("never")

    router = Router()
    router.get("/ws", lambda request: tako.TakoWs(request, session))
    fields = [("sec-websocket-protocol", offer)]
    for target in (router, app_of(200, [])):
        with tako_serve(target).connection() as connection:
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/ws", headers=fields)
            assert refused.value.response.status == 400
