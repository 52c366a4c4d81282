"""A client that leaves in order before its answer: what hears of it, and when.

The client has read all that it got, so that it sends FIN, not RST, when it goes.
"""

from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

import tako
from tako import Request, Response, Router, ServerConfig, TakoWs, WebSocket
from tako.asgi import AsgiApp
from tako.testing import RunningServer, Serve
from tako.testing.peer import PeerConnection
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.io import EndOfStreamError, PeerError, StreamResetError
from tests.support.asgi_apps import App, Receive, Scope, Send, lifespan_only, respond
from tests.support.peers import h1_of
from tests.support.server import Gate, Reports


WAYS = ["close", "fin", "close_notify"]

every_way = pytest.mark.parametrize("way", WAYS)


def leave(connection: PeerConnection, way: str) -> None:
    """End the client's direction of the connection, or all of it."""
    if way == "close":
        connection.close()
    elif way == "close_notify" and connection.socket.tls is not None:
        connection.socket.close_notify()
    else:
        connection.socket.half_close()


def asked(server: RunningServer, path: str = "/") -> PeerConnection:
    """Connect, have an answer, then ask for ``path``."""
    connection = server.connection()
    assert connection.request("GET", "/warm").status == 200
    connection.send_request("GET", path)
    return connection


def native(handler: Any) -> Router:
    router = Router()
    router.get("/warm", lambda: "warm")
    router.get("/", handler)
    return router


def hosted(app: App) -> Router:
    """Return an app in place of a router; it answers ``/warm`` by itself."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_only(scope, receive, send)
        elif scope["path"] == "/warm":
            await respond(send, b"warm")
        else:
            await app(scope, receive, send)

    return cast("Router", AsgiApp(wrapped))


class TestTheEvent:
    @every_way
    def test_a_handler_can_wait_for_it(self, tako_serve: Serve, way: str) -> None:
        reports = Reports()

        async def handler(request: Request) -> str:
            reports.put(request.disconnected)
            await request.wait_disconnected()
            reports.put(request.disconnected)
            return "for a client that still reads"

        with asked(tako_serve(native(handler))) as connection:
            assert reports.get() is False
            leave(connection, way)
            assert reports.get() is True

    @every_way
    def test_an_app_is_told(self, tako_serve: Serve, way: str) -> None:
        reports = Reports()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            reports.put(await receive())
            reports.put(await receive())

        with asked(tako_serve(hosted(app))) as connection:
            event = reports.get()
            assert (event["type"], event["more_body"]) == ("http.request", False)
            leave(connection, way)
            assert reports.get() == {"type": "http.disconnect"}

    def test_an_app_is_told_during_its_answer(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200})
            event = {"type": "http.response.body", "body": b"part"}
            await send({**event, "more_body": True})
            reports.put("begun")
            reports.put(await receive())
            await send(event)

        with asked(tako_serve(hosted(app))) as connection:
            assert reports.get() == "begun"
            leave(connection, "fin")
            assert reports.get() == {"type": "http.disconnect"}
            if not isinstance(connection, H2Connection):
                assert connection.read_response().body == b"partpart"

    def test_an_app_without_an_answer_is_no_error(self, tako_serve: Serve) -> None:
        """It ends in the middle of its answer, which no client waits for."""
        reports = Reports()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send({"type": "http.response.start", "status": 200})
            event = {"type": "http.response.body", "body": b"x", "more_body": True}
            await send(event)
            reports.put("begun")
            reports.put((await receive())["type"])

        with asked(tako_serve(hosted(app))) as connection:
            assert reports.get() == "begun"
            leave(connection, "fin")
            assert reports.get() == "http.disconnect"
            if not isinstance(connection, H2Connection):
                with pytest.raises((EndOfStreamError, StreamResetError)):
                    connection.read_response()

    @every_way
    def test_a_websocket_before_it_is_accepted(
        self, tako_serve: Serve, way: str
    ) -> None:
        reports = Reports()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            reports.put(await receive())
            reports.put(await receive())

        server = tako_serve(hosted(app))
        connection = server.connection()
        assert connection.request("GET", "/warm").status == 200

        def ask_and_leave() -> None:
            assert reports.get()["type"] == "websocket.connect"
            leave(connection, way)

        with connection, pytest.raises((PeerError, OSError)):
            connection.handshake("/chat", meanwhile=ask_and_leave)
        assert reports.get() == {
            "type": "websocket.disconnect",
            "code": 1006,
            "reason": "",
        }

    @pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
    def test_a_session_of_a_client_that_left_before_ends_with_1006(
        self, tako_serve: Serve
    ) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            async for message in ws:
                reports.put(message)
            reports.put((ws.close_code, ws.request.disconnected))

        async def handler(request: Request) -> TakoWs:
            reports.put("asked")
            await request.wait_disconnected()
            return TakoWs(request, session)

        server = tako_serve(native(handler))
        with h1_of(server) as connection:

            def leave_once_asked() -> None:
                reports.get()
                leave(connection, "fin")

            response = connection.handshake("/", meanwhile=leave_once_asked)
            assert response.status == 101
            assert reports.get() == (1006, True)


class TestBehindInputThatIsNotRead:
    """Reading is paused, so the FIN is not read either; a second later it is known."""

    @pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
    @pytest.mark.parametrize("what", ["requests", "body"])
    @pytest.mark.parametrize("way", ["close", "abort"])
    def test_the_handler_is_told(self, tako_serve: Serve, what: str, way: str) -> None:
        reports = Reports()

        async def handler(request: Request) -> str:
            reports.put("asked")
            try:
                await request.wait_disconnected()
            finally:
                reports.put(request.disconnected)
            return "late"

        router = native(handler)
        router.post("/", handler)
        server = tako_serve(router)
        with h1_of(server) as connection:
            assert connection.request("GET", "/warm").status == 200
            if what == "body":
                connection.send_request("POST", "/", body=bytes(90_000))
            else:
                get = connection.head("GET", "/")
                connection.send_raw(get * (90_000 // len(get)))
            assert reports.get() == "asked"
            if way == "abort":
                connection.abort()
        assert reports.get() is True


class TestClientsThatStillRead:
    @pytest.mark.parametrize("wire", ["h1", "h1s", "h2c", "h2"], indirect=True)
    def test_a_slow_answer_arrives_whole(self, tako_serve: Serve) -> None:
        gates, reports = [Gate() for _ in range(3)], Reports()

        async def body() -> AsyncIterator[bytes]:
            for gate in gates:
                yield b"part"
                await gate.wait()
                await tako.sleep(0.6)  # longer than once was let pass

        async def handler(request: Request) -> Response:
            reports.put("asked")
            return Response(body=body())

        with asked(tako_serve(native(handler))) as connection:
            reports.get()
            leave(connection, "fin")
            for gate in gates:
                gate.open()
            # The client's frames are not looked at: it could not acknowledge them
            received = b"".join(iter(connection.socket.receive, b""))
            assert received.count(b"part") == 3
            assert connection.socket.clean_eof

    @pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
    def test_requests_behind_are_answered(self, tako_serve: Serve) -> None:
        reports = Reports()

        async def handler(request: Request) -> str:
            await request.wait_disconnected()
            reports.put(request.query)
            return request.query

        server = tako_serve(native(handler))
        with h1_of(server) as connection:
            for number in range(3):
                connection.send_request("GET", f"/?{number}")
            leave(connection, "fin")
            for number in range(3):
                assert connection.read_response().body == b"%d" % number
            connection.expect_closed()


class TestPlaces:
    @pytest.mark.parametrize("kind", ["native", "app"])
    def test_a_client_that_left_does_not_hold_a_place(
        self, tako_serve: Serve, kind: str
    ) -> None:
        reports = Reports()

        async def handler(request: Request) -> str:
            reports.put("asked")
            await Gate().wait()
            return "never"

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            reports.put("asked")
            while (await receive())["type"] != "http.disconnect":
                pass

        config = ServerConfig(max_connections=1, half_closed_timeout=0.2)
        server = tako_serve(
            native(handler) if kind == "native" else hosted(app), config=config
        )
        for _ in range(3):
            with asked(server):
                assert reports.get() == "asked"
        with server.connection() as connection:
            assert connection.request("GET", "/warm").body == b"warm"

    def test_a_silent_stream_of_a_client_that_left_is_found_out_by_what_it_sends(
        self, tako_serve: Serve
    ) -> None:
        """One part is sent in vain; the kernel then knows, and nothing else is sent."""
        reports, gate = Reports(), Gate()

        async def body() -> AsyncIterator[bytes]:
            try:
                yield b"begun"
                reports.put("begun")
                await gate.wait()
                yield b"in vain"
                await Gate().wait()
            finally:
                reports.put("ended")

        server = tako_serve(
            native(lambda: Response(body=body())),
            config=ServerConfig(half_closed_timeout=None),
        )
        with asked(server):
            assert reports.get() == "begun"
        gate.open()
        assert reports.get() == "ended"


class TestFrameworks:
    @pytest.mark.parametrize("name", ["starlette", "fastapi"])
    def test_is_disconnected_becomes_true(self, tako_serve: Serve, name: str) -> None:
        reports = Reports()
        starlette = pytest.importorskip("starlette.requests")

        async def endpoint(request: Any) -> Any:
            reports.put("asked")
            while not await request.is_disconnected():
                await tako.sleep(0.01)
            reports.put("left")
            return pytest.importorskip("starlette.responses").PlainTextResponse("late")

        endpoint.__annotations__["request"] = starlette.Request
        if name == "fastapi":
            fastapi: Any = pytest.importorskip("fastapi")
            app = fastapi.FastAPI()
            app.get("/")(endpoint)
        else:
            pytest.importorskip("starlette")
            from starlette.applications import Starlette
            from starlette.routing import Route

            app = Starlette(routes=[Route("/", endpoint)])
        with asked(tako_serve(hosted(cast("App", app)))) as connection:
            assert reports.get() == "asked"
            leave(connection, "close")
            assert reports.get() == "left"

    def test_a_streaming_response_stops(self, tako_serve: Serve) -> None:
        pytest.importorskip("starlette")
        from starlette.applications import Starlette
        from starlette.requests import Request as StarletteRequest
        from starlette.responses import StreamingResponse
        from starlette.routing import Route

        reports = Reports()

        class Tokens:
            def __aiter__(self) -> "Tokens":
                return self

            async def __anext__(self) -> bytes:
                await tako.sleep(0.01)
                return b"token "

        async def endpoint(request: StarletteRequest) -> StreamingResponse:
            reports.put("begun")
            return StreamingResponse(Tokens())

        starlette = Starlette(routes=[Route("/", endpoint)])

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await starlette(scope, receive, send)
            finally:
                reports.put("stopped")

        with asked(tako_serve(hosted(app))) as connection:
            assert reports.get() == "begun"
            leave(connection, "close")
            assert reports.get() == "stopped"

    def test_quart_cancels_its_handler(self, tako_serve: Serve) -> None:
        quart: Any = pytest.importorskip("quart")
        reports = Reports()
        app = quart.Quart(__name__)

        async def endpoint() -> str:
            reports.put("asked")
            try:
                await Gate().wait()
            finally:
                reports.put("cancelled")
            return "never"

        app.route("/")(endpoint)
        server = tako_serve(hosted(cast("App", app)))
        if server.runtime == "trio":
            pytest.skip("quart is for asyncio")
        with asked(server) as connection:
            assert reports.get() == "asked"
            leave(connection, "close")
            assert reports.get() == "cancelled"
