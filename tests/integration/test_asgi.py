"""ASGI apps on tako: the same app on every wire and runtime, and the frameworks."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

import pytest

import tako
from tako import Request, Response, Router, ServerConfig
from tako.asgi import AsgiApp
from tako.asgi.protocol import EventError
from tako.testing import RunningServer, Serve
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.io import EndOfStreamError, StreamResetError
from tako.testing.peer.websocket import HandshakeRefusedError, Pong, encode_frame
from tests.support.apps import giving_up_after, together
from tests.support.asgi_apps import (
    TEXT,
    App,
    Receive,
    Scope,
    Send,
    fastapi_app,
    lifespan_only,
    quart_app,
    respond,
    starlette_app,
)
from tests.support.children import run_child
from tests.support.framework_checks import RESPONSES, WEBSOCKETS
from tests.support.hosts import ROOT
from tests.support.server import Gate, Reports, RuntimeName


MIB = 1 << 20


def host(
    tako_serve: Serve, app: App, config: ServerConfig | None = None
) -> RunningServer:
    """Serve ``app`` in place of a router."""
    return tako_serve(AsgiApp(app), config=config)


def with_lifespan(app: App) -> App:
    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_only(scope, receive, send)
        else:
            await app(scope, receive, send)

    return wrapped


class TestMounted:
    """``router.get("/api/{*rest}", AsgiApp(app))`` with the frameworks' own routing."""

    @pytest.mark.parametrize("name", ["starlette", "fastapi"])
    def test_an_index_and_what_is_below(self, tako_serve: Serve, name: str) -> None:
        async def facts(request: Any) -> Any:
            scope = request.scope
            text = f"{scope['root_path']} {scope['path']} {scope['raw_path'].decode()}"
            return responses.PlainTextResponse(text)

        responses: Any = pytest.importorskip("starlette.responses")
        requests: Any = pytest.importorskip("starlette.requests")
        facts.__annotations__["request"] = requests.Request
        app: Any
        if name == "fastapi":
            app = pytest.importorskip("fastapi").FastAPI()
            app.get("/")(facts)
            app.get("/x")(facts)
        else:
            from starlette.applications import Starlette
            from starlette.routing import Route

            app = Starlette(routes=[Route("/", facts), Route("/x", facts)])
        router = Router()
        router.get("/t/{tenant}/{*rest}", AsgiApp(app))
        with tako_serve(router).connection() as connection:
            for path in ("/t/a%20b/", "/t/a%20b/x"):
                response = connection.request("GET", path)
                decoded = path.replace("%20", " ")
                expected = f"/t/a b {decoded} {path}".encode()
                assert (response.status, response.body) == (200, expected)
            response = connection.request("GET", "/t/a%20b")
            assert (response.status, response.header("location")) == (308, "/t/a%20b/")

    def test_a_websocket_at_the_index(self, tako_serve: Serve) -> None:
        scopes = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.put((scope["type"], scope["root_path"], scope["path"]))
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})

        router, child, mounted = Router(), Router(), AsgiApp(app)
        child.get("/", mounted)
        child.get("/{*rest}", mounted)
        router.nest("/api", child)
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/api/")
            ws.expect_close()
            assert scopes.get() == ("websocket", "/api", "/api/")


class TestHttp:
    def test_a_response_comes_as_the_app_sent_it(self, tako_serve: Serve) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"hello", 201, [*TEXT, (b"X-Mixed-Case", b"yes")])

        with host(tako_serve, app).connection() as connection:
            for _ in range(3):
                response = connection.request("GET", "/")
                assert (response.status, response.body) == (201, b"hello")
                assert response.header("x-mixed-case") == "yes"
                assert response.header("content-length") == "5"

    def test_a_body_comes_in_pieces_and_ends(self, tako_serve: Serve) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            size, events = 0, 0
            while True:
                event = await receive()
                assert event["type"] == "http.request"
                size += len(event["body"])
                events += 1
                if not event["more_body"]:
                    break
            await respond(send, b"%d bytes, several: %d" % (size, events > 1))

        with host(tako_serve, app).connection() as connection:
            chunks = [b"x" * 10_000] * 100
            response = connection.request("POST", "/", body=chunks)
            assert response.body == b"1000000 bytes, several: 1"
            assert connection.request("GET", "/").body == b"0 bytes, several: 0"

    def test_a_streamed_body_is_sent_chunk_by_chunk(self, tako_serve: Serve) -> None:
        gate = Gate()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            body = "http.response.body"
            await send({"type": body, "body": b"first", "more_body": True})
            await gate.wait()
            await send({"type": body, "body": b"second", "more_body": True})
            await send({"type": body})

        server = host(tako_serve, app)
        with server.connection() as connection:
            pending = connection.send_request("GET", "/")
            if isinstance(connection, H2Connection):
                assert connection.streams[1].receive() == b"first"
                gate.open()
                assert pending.read_response().body == b"second"
            else:
                connection.read_response(body=False)
                assert connection.read_chunk() == b"first"
                gate.open()
                assert connection.read_chunk() == b"second"
                assert connection.read_chunk() == b""

    def test_send_waits_for_a_client_that_does_not_read(
        self, tako_serve: Serve
    ) -> None:
        reports, sent = Reports(), 0

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal sent
            if scope["path"] == "/ping":
                await respond(send, b"pong")
                return
            await send({"type": "http.response.start", "status": 200})
            event = {
                "type": "http.response.body",
                "body": bytes(MIB),
                "more_body": True,
            }
            try:
                while sent < 200:
                    await send(event)
                    sent += 1
            except OSError as error:
                reports.put(error)
                raise

        server = host(tako_serve, app)
        with server.connection(
            receive_buffer=65_536, stream_window=65_535
        ) as connection:
            connection.send_request("GET", "/")
            with server.connection() as other:
                for _ in range(20):
                    assert other.request("GET", "/ping").body == b"pong"
            assert sent < 100
            connection.abort()
        assert isinstance(reports.get(), OSError)

    def test_a_client_that_leaves_is_reported_not_cancelled(
        self, tako_serve: Serve
    ) -> None:
        reports, there = Reports(), Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            first = await receive()
            there.put(first["more_body"])
            reports.put((await receive())["type"])
            with pytest.raises(OSError, match="gone"):
                await respond(send, b"too late")
            reports.put("went on")

        server = host(tako_serve, app)
        connection = server.connection()
        connection.send_request("GET", "/")
        assert there.get() is False
        connection.abort()
        assert reports.get() == "http.disconnect"
        assert reports.get() == "went on"

    def test_head_has_no_body_and_a_stream_is_run_to_its_end(
        self, tako_serve: Serve
    ) -> None:
        reports = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": TEXT})
            for _ in range(3):
                event = {"type": "http.response.body", "body": b"x", "more_body": True}
                await send(event)
            await send({"type": "http.response.body"})
            reports.put("done")

        with host(tako_serve, app).connection() as connection:
            response = connection.request("HEAD", "/")
            assert (response.status, response.body) == (200, b"")
            assert reports.get() == "done"
            assert connection.request("GET", "/").body == b"xxx"

    @pytest.mark.parametrize("te", ["trailers", "gzip, Trailers", None])
    def test_trailers_follow_the_body_if_the_client_takes_them(
        self, tako_serve: Serve, te: str | None
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert "http.response.trailers" in scope["extensions"]
            await send({"type": "http.response.start", "status": 200, "trailers": True})
            await send({"type": "http.response.body", "body": b"data"})
            trailers = [(b"x-sum", b"42")]
            await send({"type": "http.response.trailers", "headers": trailers})

        with host(tako_serve, app).connection() as connection:
            over_h2 = isinstance(connection, H2Connection)
            if over_h2 and te is not None:
                te = "trailers"  # RFC 9113 §8.2.2: nothing else there
            fields = [] if te is None else [("TE", te)]
            response = connection.request("GET", "/", fields)
            assert response.body == b"data"
            assert response.trailers == ([] if te is None else [("x-sum", "42")])

    def test_early_hints_come_before_the_response(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def hint(send: Send, *links: bytes) -> None:
            await send({"type": "http.response.early_hint", "links": links})

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert "http.response.early_hint" in scope["extensions"]
            await hint(send, b"</a.css>; rel=preload", b"</b.css>; rel=preload")
            await send({"type": "http.response.start", "status": 200, "headers": TEXT})
            await hint(send)
            with pytest.raises(ValueError, match="CR, LF or NUL"):
                await hint(send, b"</c.css>\r\nx: y")
            part = {"type": "http.response.body", "body": b"x", "more_body": True}
            await send(part)
            await hint(send, b"</late.css>")
            await send({"type": "http.response.body", "body": b"y"})
            with pytest.raises(RuntimeError, match="early_hint"):
                await hint(send, b"</later.css>")
            reports.put("done")

        with host(tako_serve, app).connection() as connection:
            response = connection.request("GET", "/")
            assert (response.status, response.body) == (200, b"xy")
            assert response.interim == [103, 103]
            assert reports.get() == "done"
            assert connection.request("GET", "/").body == b"xy"

    def test_background_work_does_not_hold_the_answer_back(
        self, tako_serve: Serve
    ) -> None:
        gate, reports = Gate(), Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"at once")
            if scope["path"] == "/background":
                await gate.wait()
                reports.put((await receive())["type"])

        with host(tako_serve, app).connection() as connection:
            assert connection.request("GET", "/background").body == b"at once"
            assert connection.request("GET", "/").body == b"at once"
            gate.open()
            assert reports.get() == "http.disconnect"

    def test_nothing_is_sent_before_the_first_part_of_the_body(
        self, tako_serve: Serve
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": TEXT})
            msg = "a second thought"
            raise ValueError(msg)

        server = host(tako_serve, app)
        with server.connection() as connection:
            assert connection.request("GET", "/").status == 500
            server.expect_error(ValueError, "second thought")

    def test_the_framing_is_the_servers(self, tako_serve: Serve) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            headers = [(b"transfer-encoding", b"chunked"), (b"connection", b"x-a")]
            await respond(send, b"framed", headers=[*headers, (b"x-a", b"1")])

        with host(tako_serve, app).connection() as connection:
            for _ in range(2):
                response = connection.request("GET", "/")
                assert (response.body, response.header("x-a")) == (b"framed", "1")
                assert response.header("transfer-encoding") is None

    def test_receive_after_the_answer_is_a_disconnect(self, tako_serve: Serve) -> None:
        events = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert (await receive())["type"] == "http.request"
            await respond(send)
            events.put(await receive())
            events.put(await receive())

        with host(tako_serve, app).connection() as connection:
            assert connection.request("GET", "/").status == 200
            assert events.get() == events.get() == {"type": "http.disconnect"}
            assert connection.request("GET", "/").status == 200

    def test_an_app_that_fails_early_is_a_500(self, tako_serve: Serve) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/":
                msg = "a secret"
                raise KeyError(msg)

        server = host(tako_serve, app)
        with server.connection() as connection:
            response = connection.request("GET", "/")
            assert (response.status, response.body) == (500, b"Internal Server Error")
            server.expect_error(KeyError)
            assert connection.request("GET", "/nothing").status == 500
            server.expect_error(RuntimeError, "without answering")

    def test_what_an_app_opens_around_send_is_its_own(self, tako_serve: Serve) -> None:
        """A timeout finds the ``send`` that waits, and other tasks may send as well."""
        reports, gate = Reports(), Gate()
        body = "http.response.body"

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def part() -> None:
                await send({"type": body, "body": b"part", "more_body": True})

            async def whole() -> None:
                async with giving_up_after(0.2):
                    large = {"type": body, "body": bytes(16 * MIB), "more_body": True}
                    await send(large)
                    reports.put("not waited")
                reports.put("gave up")
                await gate.wait()
                await together(part, part)

            await send({"type": "http.response.start", "status": 200})
            await together(whole)
            await send({"type": body})
            reports.put((await receive())["type"])

        server = host(tako_serve, app)
        with server.connection(
            receive_buffer=65_536, stream_window=65_535
        ) as connection:
            pending = connection.send_request("GET", "/")
            assert reports.get() == "gave up"
            gate.open()
            received = pending.read_response().body
            assert len(received) == 16 * MIB + 8
            assert received.endswith(b"partpart")
            assert reports.get() == "http.disconnect"
            connection.abort()

    @pytest.mark.parametrize("runtime", ["asyncio", "uvloop"], indirect=True)
    @pytest.mark.parametrize("begun", [True, False])
    def test_an_app_that_waits_for_what_was_cancelled_has_failed(
        self, tako_serve: Serve, begun: bool
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if begun:
                await send({"type": "http.response.start", "status": 200})
                event = {"type": "http.response.body", "body": b"x", "more_body": True}
                await send(event)
            future = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        server = host(tako_serve, app)
        with server.connection() as connection:
            pending = connection.send_request("GET", "/")
            if begun:
                with pytest.raises((StreamResetError, EndOfStreamError)):
                    pending.read_response()
            else:
                assert pending.read_response().status == 500
        server.expect_error(RuntimeError)

    @pytest.mark.parametrize("status", [100, 101, 103, 199, 0, 1000, "200", True])
    def test_a_status_that_is_no_answers_is_an_error_of_the_app(
        self, tako_serve: Serve, status: object
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": status})
            await send({"type": "http.response.body", "body": b"x"})

        server = host(tako_serve, app)
        with server.connection() as connection:
            response = connection.request("GET", "/")
            assert (response.status, response.interim) == (500, [])
            server.expect_error(EventError, "no status of a response")
            assert connection.request("GET", "/").status == 500
            server.expect_error(EventError)

    @pytest.mark.parametrize("fail", [True, False])
    def test_an_app_that_ends_midway_ends_the_stream_badly(
        self, tako_serve: Serve, fail: bool
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            event = {"type": "http.response.body", "body": b"half", "more_body": True}
            await send(event)
            if fail:
                msg = "in the middle"
                raise ValueError(msg)

        server = host(tako_serve, app)
        with server.connection() as connection:
            pending = connection.send_request("GET", "/")
            with pytest.raises((StreamResetError, EndOfStreamError)):
                pending.read_response()
        server.expect_error(Exception)

    @pytest.mark.parametrize(
        "events",
        [
            [{"type": "http.response.body", "body": b"no head"}],
            [{"type": "http.response.start", "status": 200}] * 2,
            [{"type": "websocket.accept"}],
            [{"type": "http.response.unheard-of"}],
            [{"status": 200}],
            [{"type": "http.response.start"}],
            [{"type": "http.response.start", "status": "200"}],
            [{"type": "http.response.start", "status": 200, "headers": [("a", "b")]}],
            [
                {"type": "http.response.start", "status": 200},
                {"type": "http.response.body", "body": "text"},
            ],
            [
                {
                    "type": "http.response.start",
                    "status": 200,
                    "headers": [(b"a b", b"")],
                }
            ],
        ],
    )
    def test_events_out_of_order_are_the_apps_mistake(
        self, tako_serve: Serve, events: list[dict[str, Any]]
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            for event in events:
                await send(event)

        server = host(tako_serve, app)
        with server.connection() as connection:
            assert connection.request("GET", "/").status == 500
        server.expect_error(Exception)


class TestScope:
    def test_the_request_is_described(self, tako_serve: Serve) -> None:
        scopes = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.put(scope)
            await respond(send)

        server = host(tako_serve, app)
        with server.connection() as connection:
            path = "/caf%C3%A9/a%2Fb?x=1&y=%20"
            connection.request("GET", path, [("X-Test", "1"), ("Cookie", "a=b")])
        scope = scopes.get()
        tls = server.wire in {"h1s", "h2"}
        assert scope["type"] == "http"
        assert scope["asgi"] == {"version": "3.0", "spec_version": "2.5"}
        assert scope["http_version"] == ("2" if server.wire in {"h2", "h2c"} else "1.1")
        assert scope["method"] == "GET"
        assert scope["scheme"] == ("https" if tls else "http")
        assert scope["path"] == "/café/a/b"
        assert scope["raw_path"] == b"/caf%C3%A9/a%2Fb"
        assert scope["query_string"] == b"x=1&y=%20"
        assert scope["root_path"] == ""
        assert scope["client"][0] == "127.0.0.1"
        assert scope["server"] == server.address
        assert scope["state"] == {}
        assert (b"x-test", b"1") in scope["headers"]
        assert (b"cookie", b"a=b") in scope["headers"]
        assert dict(scope["headers"])[b"host"].startswith(b"localhost:")
        assert ("tls" in scope["extensions"]) is tls
        if tls:
            facts = scope["extensions"]["tls"]
            assert facts["tls_version"] == 0x0304
            assert facts["cipher_suite"] in {0x1301, 0x1302, 0x1303}
            assert facts["client_cert_name"] is None

    def test_fields_keep_their_order_and_are_repeated(self, tako_serve: Serve) -> None:
        fields, served = Reports(), [("x-a", "1"), ("x-b", "2"), ("x-a", "3")]

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            fields.put(scope["headers"])
            own = [(name.encode(), value.encode()) for name, value in served]
            cookies = [(b"set-cookie", b"c=1"), (b"set-cookie", b"d=2")]
            await respond(send, headers=[*own, *cookies])

        with host(tako_serve, app).connection() as connection:
            response = connection.request("GET", "/", [*served, ("x-a", "1")])
            sent = [field for field in response.headers if field[0].startswith("x-")]
            assert sent == served
            assert response.all("set-cookie") == ["c=1", "d=2"]
        got = fields.get()
        assert got[0][0] == b"host"
        assert not [name for name, _ in got if name.startswith(b":")]
        assert [value for name, value in got if name == b"x-a"] == [b"1", b"3", b"1"]

    @pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
    def test_http_1_0_is_named(self, tako_serve: Serve) -> None:
        versions = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            versions.put(scope["http_version"])
            await respond(send)

        with host(tako_serve, app).connection() as connection:
            connection.send_raw(b"GET / HTTP/1.0\r\n\r\n")
            assert versions.get() == "1.0"

    def test_host_is_the_authority_whatever_else_the_client_says(
        self, tako_serve: Serve
    ) -> None:
        hosts = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            hosts.put([value for name, value in scope["headers"] if name == b"host"])
            if scope["type"] == "websocket":
                await send({"type": "websocket.close"})
            else:
                await respond(send)

        server = host(tako_serve, app)
        with server.connection() as connection:
            if isinstance(connection, H2Connection):
                path, authority = "/x", connection.authority
                other = authority.upper()  # RFC 9113 §8.3.1: the same, spelt otherwise
            else:
                path, authority = "http://a.test:81/x", "a.test:81"
                other = "b.test"
            connection.request("GET", path, [("host", other)])
            assert hosts.get() == [authority.encode()]
            connection.handshake(path, headers=[("host", other)])
            assert hosts.get() == [authority.encode()]

    def test_lifespan_state_is_given_to_every_request(self, tako_serve: Serve) -> None:
        seen = Reports()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "lifespan":
                scope["state"]["database"] = "connected"
                await lifespan_only(scope, receive, send)
                seen.put("stopped")
                return
            seen.put(dict(scope["state"]))
            scope["state"]["mine"] = True
            await respond(send)

        server = host(tako_serve, app)
        with server.connection() as connection:
            for _ in range(2):
                connection.request("GET", "/")
                assert seen.get() == {"database": "connected"}
        server.stop()
        assert seen.get() == "stopped"

    def test_a_mounted_app_knows_where_it_is(self, tako_serve: Serve) -> None:
        scopes, router = Reports(), Router()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.put(scope)
            await respond(send, b"mounted", 404)

        async def stamp(request: Request, next: tako.Next) -> Response:  # noqa: A002
            response = await next(request)
            response.headers.set("x-stamp", str(response.status))
            return response

        router.middleware(stamp)
        router.get("/api/{*rest}", AsgiApp(app))
        router.get("/exact", AsgiApp(app, root_path="/behind"))
        with tako_serve(router).connection() as connection:
            response = connection.request("GET", "/api/users/7")
            assert (response.status, response.header("x-stamp")) == (404, "404")
            scope = scopes.get()
            assert (scope["root_path"], scope["path"]) == ("/api", "/api/users/7")
            connection.request("GET", "/exact")
            scope = scopes.get()
            assert (scope["root_path"], scope["path"]) == ("/behind", "/behind/exact")

    def test_a_middleware_may_answer_in_its_place(self, tako_serve: Serve) -> None:
        reports, router = Reports(), Router()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 404})
            for _ in range(3):
                event = {"type": "http.response.body", "body": b"x", "more_body": True}
                await send(event)
            await send({"type": "http.response.body"})
            reports.put("done")

        router.use_problem_json()
        router.get("/{*rest}", AsgiApp(app))
        with tako_serve(router).connection() as connection:
            response = connection.request("GET", "/x")
            assert response.header("content-type") == "application/problem+json"
        assert reports.get() == "done"


class TestWebSocket:
    def test_the_scope_is_the_same_on_both_wires(self, tako_serve: Serve) -> None:
        scopes = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            scopes.put(scope)
            await send({"type": "websocket.close"})

        server = host(tako_serve, app)
        with server.connection() as connection:
            response = connection.handshake(
                "/chat?room=1",
                headers=[("X-Test", "1"), ("Origin", "https://a.test")],
                subprotocols=["one", "two"],
            )
            assert response.status == 403
        scope = scopes.get()
        tls = server.wire in {"h1s", "h2"}
        names = sorted(name for name, _ in scope.pop("headers"))
        assert names == [
            b"host",
            b"origin",
            b"sec-websocket-protocol",
            b"sec-websocket-version",
            b"x-test",
        ]
        assert scope.pop("http_version") in {"1.1", "2"}
        assert scope.pop("client")[0] == "127.0.0.1"
        assert scope.pop("server") == server.address
        assert ("tls" in scope.pop("extensions")) is tls
        assert scope == {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.5"},
            "scheme": "wss" if tls else "ws",
            "path": "/chat",
            "raw_path": b"/chat",
            "root_path": "",
            "query_string": b"room=1",
            "subprotocols": ["one", "two"],
            "state": {},
        }

    @pytest.mark.parametrize("name", [b"upgrade", b"connection", b"Upgrade"])
    def test_fields_of_the_connection_are_not_the_apps(
        self, tako_serve: Serve, name: bytes
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            headers = [(name, b"close"), (b"x-own", b"yes")]
            await send({"type": "websocket.accept", "headers": headers})
            while (await receive())["type"] != "websocket.disconnect":
                pass

        with host(tako_serve, app).connection() as connection:
            ws = connection.websocket("/")  # checks our fields
            assert ws.response.header("x-own") == "yes"
            ws.close(1000)
            ws.expect_close()

    @pytest.mark.parametrize(
        "name",
        [
            b"sec-websocket-accept",
            b"sec-websocket-extensions",
            b"Sec-WebSocket-Protocol",
        ],
    )
    def test_fields_of_the_handshake_are_an_error_of_the_app(
        self, tako_serve: Serve, name: bytes
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept", "headers": [(name, b"x")]})

        server = host(tako_serve, app)
        with server.connection() as connection:
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/")
            assert refused.value.response.status == 500
            server.expect_error(EventError, "not the app's")

    def test_messages_close_code_and_reason(self, tako_serve: Serve) -> None:
        events = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            events.put(await receive())
            accept = {"subprotocol": "two", "headers": [(b"X-Accepted", b"yes")]}
            await send({"type": "websocket.accept", **accept})
            while True:
                event = await receive()
                events.put(event)
                if event["type"] == "websocket.disconnect":
                    break
                await send({**event, "type": "websocket.send"})

        with host(tako_serve, app).connection() as connection:
            ws = connection.websocket("/", subprotocols=["one", "two"])
            assert ws.subprotocol == "two"
            assert ws.response.header("x-accepted") == "yes"
            ws.echo("text")
            ws.echo(b"bytes")
            ws.ping(b"p")
            ws.expect(Pong(b"p"))
            ws.echo("")
            ws.close(4000, "bye")
            assert ws.expect_close() == (4000, "")
        assert events.get() == {"type": "websocket.connect"}
        assert events.get() == {"type": "websocket.receive", "text": "text"}
        assert events.get() == {"type": "websocket.receive", "bytes": b"bytes"}
        assert events.get() == {"type": "websocket.receive", "text": ""}
        disconnect = {"type": "websocket.disconnect", "code": 4000, "reason": "bye"}
        assert events.get() == disconnect

    def test_the_app_closes_with_code_and_reason(self, tako_serve: Serve) -> None:
        events = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
            with pytest.raises(OSError, match="4001"):
                await send({"type": "websocket.send", "text": "late"})
            events.put(await receive())

        with host(tako_serve, app).connection() as connection:
            ws = connection.websocket("/")
            assert ws.expect_close() == (4001, "enough")
            ws.expect_end()
        assert events.get()["code"] == 4001

    def test_a_close_frame_without_a_code_is_1005(self, tako_serve: Serve) -> None:
        events = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            events.put(await receive())
            for event in (
                {"type": "websocket.send", "text": "late"},
                {"type": "websocket.close"},
            ):
                with pytest.raises(OSError, match=r"1005|gone"):
                    await send(event)
            events.put("done")

        with host(tako_serve, app).connection() as connection:
            ws = connection.websocket("/")
            ws.close(None)
            ws.expect_close()
        event = {"type": "websocket.disconnect", "code": 1005, "reason": ""}
        assert events.get() == event
        assert events.get() == "done"

    def test_a_lost_connection_is_1006(self, tako_serve: Serve) -> None:
        events = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "open"})
            events.put(await receive())

        connection = host(tako_serve, app).connection()
        ws = connection.websocket("/")
        ws.expect("open")
        connection.abort()
        event = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        assert events.get() == event

    def test_a_client_that_leaves_before_the_decision(self, tako_serve: Serve) -> None:
        events, gate = Reports(), Gate()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            events.put(await receive())
            events.put(await receive())
            with pytest.raises(OSError, match="gone"):
                await send({"type": "websocket.accept"})
            gate.open()
            events.put("end")

        connection = host(tako_serve, app).connection()
        connection_gone = pytest.raises((StreamResetError, OSError))
        with connection_gone:
            connection.handshake(
                "/", meanwhile=lambda: (events.get(), connection.abort())
            )
        assert events.get()["type"] == "websocket.disconnect"
        assert events.get() == "end"

    def test_denied_with_a_response_of_the_apps_own(self, tako_serve: Serve) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            assert "websocket.http.response" in scope["extensions"]
            await receive()
            kind = "websocket.http.response"
            headers = [(b"www-authenticate", b"Basic")]
            await send({"type": f"{kind}.start", "status": 401, "headers": headers})
            await send({"type": f"{kind}.body", "body": b"no ", "more_body": True})
            await send({"type": f"{kind}.body", "body": b"entry"})

        with host(tako_serve, app).connection() as connection:
            response = connection.handshake("/")
            assert (response.status, response.body) == (401, b"no entry")
            assert response.header("www-authenticate") == "Basic"

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "websocket.accept", "subprotocol": "not-offered"},
            {"type": "websocket.accept", "headers": [(b"Sec-WebSocket-Accept", b"x")]},
            {"type": "websocket.send", "text": "too early"},
            {"type": "http.response.start", "status": 200},
        ],
    )
    def test_mistakes_before_the_handshake_are_a_500(
        self, tako_serve: Serve, event: dict[str, Any]
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(event)

        server = host(tako_serve, app)
        with server.connection() as connection:
            with pytest.raises(HandshakeRefusedError) as refused:
                connection.websocket("/")
            assert refused.value.response.status == 500
        server.expect_error(EventError)

    @pytest.mark.parametrize(("fail", "code"), [(True, 1011), (False, 1000)])
    def test_an_app_that_ends_closes(
        self, tako_serve: Serve, fail: bool, code: int
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            if fail:
                msg = "in the session"
                raise ValueError(msg)

        server = host(tako_serve, app)
        with server.connection() as connection:
            assert connection.websocket("/").expect_close() == (code, "")
        if fail:
            server.expect_error(ValueError)

    @pytest.mark.parametrize(
        "event",
        [
            {"type": "websocket.send"},
            {"type": "websocket.send", "text": None, "bytes": None},
            {"type": "websocket.accept"},
            {"type": "http.response.body"},
        ],
    )
    def test_mistakes_in_a_websocket_are_1011(
        self, tako_serve: Serve, event: dict[str, Any]
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            await send(event)

        server = host(tako_serve, app)
        with server.connection() as connection:
            assert connection.websocket("/").expect_close() == (1011, "")
        server.expect_error(Exception)

    def test_an_invalid_handshake_is_not_shown_to_the_app(
        self, tako_serve: Serve
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, scope["type"].encode())

        server = host(tako_serve, app)
        with server.connection() as connection:
            if isinstance(connection, H2Connection):
                fields = connection.connect_headers("/", version="12")
                assert connection.open(fields).read_response().status == 400
            else:
                upgrade = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
                assert connection.request("GET", "/", upgrade).status == 400

    def test_an_app_that_does_not_receive_stalls_only_its_stream(
        self, tako_serve: Serve
    ) -> None:
        gate = Gate()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "websocket.accept"})
            if scope["path"] == "/deaf":
                await gate.wait()
            while (event := await receive())["type"] == "websocket.receive":
                await send({**event, "type": "websocket.send"})

        server = host(tako_serve, app)
        with server.connection() as connection:
            deaf = connection.websocket("/deaf")
            flood = encode_frame(2, bytes(65_536)) * 200
            with pytest.raises(TimeoutError):
                deaf.pipe.send(flood, timeout=1)
            if isinstance(connection, H2Connection):
                connection.websocket("/").echo("not stalled")
            else:
                with server.connection() as other:
                    other.websocket("/").echo("not stalled")
            gate.open()

    def test_send_waits_for_the_peers_window(self, tako_serve: Serve) -> None:
        sent, reports = 0, Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            nonlocal sent
            await send({"type": "websocket.accept"})
            if scope["path"] == "/quick":
                await send({"type": "websocket.send", "text": "quick"})
                return
            try:
                while sent < 200:
                    await send({"type": "websocket.send", "bytes": bytes(MIB)})
                    sent += 1
            except OSError:
                reports.put("told")

        server = host(tako_serve, app)
        with server.connection(
            receive_buffer=65_536, stream_window=65_535
        ) as connection:
            connection.websocket("/")
            with server.connection() as other:
                other.websocket("/quick").expect("quick")
            assert sent < 100
            connection.abort()
        assert reports.get() == "told"

    def test_messages_go_both_ways_at_once(self, tako_serve: Serve) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            got = 0

            async def read() -> None:
                nonlocal got
                for _ in range(50):
                    await receive()
                    got += 1

            async def write() -> None:
                for number in range(50):
                    await send({"type": "websocket.send", "text": str(number)})

            await together(read, write)
            await send({"type": "websocket.send", "text": f"got {got}"})

        with host(tako_serve, app).connection() as connection:
            ws = connection.websocket("/")
            for number in range(50):
                ws.send(str(number))
            ws.expect(*map(str, range(50)), "got 50")

    def test_a_drain_tells_the_app(self, tako_serve: Serve) -> None:
        events = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": "open"})
            events.put((await receive())["code"])

        server = host(tako_serve, app)
        with server.connection() as connection:
            ws = connection.websocket("/")
            ws.expect("open")
            server.stop()
            assert ws.expect_close() == (1001, "server shutting down")
            assert events.get() == 1001
            connection.close()

    def test_an_app_without_websockets_gets_a_request(self, tako_serve: Serve) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, scope["type"].encode())

        config = ServerConfig(h2_enable_connect_protocol=False)
        plain = AsgiApp(app, websockets=False, lifespan="off")
        server = tako_serve(cast("Router", plain), config=config)
        with server.connection() as connection:
            if isinstance(connection, H2Connection):
                assert 8 not in connection.wait_settings()
            else:
                assert connection.handshake("/").body == b"http"


FRAMEWORKS: dict[str, Callable[[], App]] = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "quart": quart_app,
}


@pytest.fixture(params=list(FRAMEWORKS))
def framework(request: pytest.FixtureRequest, runtime: RuntimeName) -> tuple[str, App]:
    """The name of a framework, and its examples."""
    name: str = request.param
    if name == "quart":
        return name, quart_app(on_trio=runtime == "trio")
    return name, FRAMEWORKS[name]()


class TestFrameworks:
    """The documentation's examples, unchanged."""

    def test_plain_and_streamed_responses(
        self, tako_serve: Serve, framework: tuple[str, App]
    ) -> None:
        name, app = framework
        RESPONSES[name](host(tako_serve, app).connection)

    def test_websocket_examples(
        self, tako_serve: Serve, framework: tuple[str, App]
    ) -> None:
        name, app = framework
        WEBSOCKETS[name](host(tako_serve, app).connection)


def test_import_tako_needs_no_extra() -> None:
    program = (
        "import sys, tako; extras = {'click', 'watchfiles', 'trustme', 'tako.cli'}; "
        "sys.exit(bool(extras & set(sys.modules)))"
    )
    done = run_child([sys.executable, "-c", program], cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
