"""What one peer or one handler does wrong costs the others nothing.

Each test keeps two canaries: a WebSocket on a connection of its own and, on HTTP/2,
one on the same connection as the trouble. Both have to echo before, during and after
it.
"""

import contextlib
import socket
import ssl
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import tako
from tako import Request, Response, Router, WebSocket
from tako.asgi import AsgiApp
from tako.routing.signature import Handler
from tako.testing import RunningServer, Serve
from tako.testing.peer.frames import END_HEADERS, FrameType, raw_frame
from tako.testing.peer.h2 import PREFACE, H2Connection
from tako.testing.peer.io import EndOfStreamError, HeaderList, StreamResetError
from tako.testing.peer.stream import H2Stream
from tako.testing.peer.websocket import PeerWebSocket
from tests.support.apps import echo_session, ws_router
from tests.support.asgi_apps import Receive, Scope, Send
from tests.support.patience import TIMEOUT
from tests.support.peers import h1_of, h2_of
from tests.support.server import Reports


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
TLS_ONLY = pytest.mark.parametrize("wire", ["h1s"], indirect=True)
PROTOCOL_ERROR, COMPRESSION_ERROR = 0x1, 0x9


@contextlib.contextmanager
def canary(server: RunningServer) -> Iterator[PeerWebSocket]:
    """A WebSocket on its own connection that echoes before and after the body."""
    with server.connection() as connection:
        ws = connection.websocket("/echo")
        ws.echo("before")
        yield ws
        ws.echo("after")
        ws.close(1000)
        assert ws.expect_close() == (1000, "")


def _failing_router() -> Router:
    router = ws_router(echo_session)

    async def fail(request: Request) -> Response:
        msg = "a secret"
        raise LookupError(msg)

    async def fail_in_the_body(request: Request) -> Response:
        async def body() -> object:
            yield b"first"
            msg = "a secret"
            raise LookupError(msg)

        return Response(body=body())  # type: ignore[arg-type]

    class UnusualError(BaseException):
        pass

    async def fail_unusually(request: Request) -> Response:
        msg = "a secret"
        raise UnusualError(msg)

    async def fail_in_a_group(request: Request) -> Response:
        msg = "a secret"
        raise ExceptionGroup(msg, [LookupError(msg)])

    router.get("/fail", fail)
    router.get("/body", fail_in_the_body)
    router.get("/unusual", fail_unusually)
    router.get("/group", fail_in_a_group)
    return router


_whose: ContextVar[str] = ContextVar("whose", default="nobody's")


async def _what_it_sees(path: str) -> bytes:
    """Return the variable's value, and set it, as a handler that waits."""
    seen = _whose.get()
    _whose.set(path)
    await tako.sleep(0)
    assert _whose.get() == path
    return seen.encode()


async def _handler(request: Request) -> bytes:
    return await _what_it_sees(request.path)


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    body = await _what_it_sees(scope["path"])
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": body})


@pytest.mark.parametrize("app", [_handler, AsgiApp(_app)], ids=["native", "asgi"])
class TestContextVariables:
    """A request does not see what the handler of another has set (``contextvars``)."""

    @pytest.fixture
    def server(self, tako_serve: Serve, app: Handler) -> RunningServer:
        router = Router()
        router.get("/{number}", app)
        return tako_serve(router)

    @H1_ONLY
    def test_of_a_pipelined_request(self, server: RunningServer) -> None:
        with h1_of(server) as connection:
            heads = [connection.head("GET", f"/{number}") for number in range(10)]
            connection.send_raw(b"".join(heads))
            for _ in range(10):
                assert connection.read_response().body == b"nobody's"

    @H2_ONLY
    def test_of_requests_in_one_read(self, server: RunningServer) -> None:
        with h2_of(server) as connection:
            pending = [connection.send_request("GET", f"/{n}") for n in range(50)]
            for request in pending:
                assert request.read_response().body == b"nobody's"


class TestHandlersThatRaise:
    @pytest.mark.parametrize("path", ["/fail", "/group"])
    def test_it_is_a_500_and_the_connection_goes_on(
        self, tako_serve: Serve, path: str
    ) -> None:
        server = tako_serve(_failing_router())
        with canary(server) as ws, server.connection() as connection:
            response = connection.request("GET", path)
            assert (response.status, response.body) == (500, b"Internal Server Error")
            assert "secret" not in str(response)
            assert connection.request("GET", "/").status == 200
            ws.echo("during")
        server.expect_error(LookupError)

    def test_an_upgrade_request_gets_the_500_too(self, tako_serve: Serve) -> None:
        server = tako_serve(_failing_router())
        with canary(server), server.connection() as connection:
            response = connection.handshake("/fail")
            assert (response.status, response.body) == (500, b"Internal Server Error")
        server.expect_error(LookupError)

    def test_in_the_middle_of_a_body_it_cuts_the_response(
        self, tako_serve: Serve, wire: str
    ) -> None:
        server = tako_serve(_failing_router())
        with canary(server) as ws, server.connection() as connection:
            sibling = None
            if isinstance(connection, H2Connection):
                sibling = connection.websocket("/echo")
            pending = connection.send_request("GET", "/body")
            expected = StreamResetError if sibling else EndOfStreamError
            with pytest.raises((expected, StreamResetError)):
                pending.read_response()
            if sibling is not None:
                sibling.echo("on the same connection")
            ws.echo("during")
        server.expect_error(LookupError)

    def test_a_base_exception_stays_inside(self, tako_serve: Serve) -> None:
        server = tako_serve(_failing_router())
        with canary(server) as ws, server.connection() as connection:
            connection.send_request("GET", "/unusual")
            ws.echo("during")
        server.expect_error(BaseException, "a secret")

    @H2_ONLY
    def test_a_session_that_raises_leaves_the_other_streams(
        self, tako_serve: Serve
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.read()
            msg = "a secret"
            raise LookupError(msg)

        server = tako_serve(ws_router(session))
        with canary(server), h2_of(server) as connection:
            failing, sibling = (
                connection.websocket("/ws"),
                connection.websocket("/echo"),
            )
            failing.send("now")
            assert failing.expect_close() == (1011, "")
            sibling.echo("alive")
        server.expect_error(LookupError)


FIELDS: list[HeaderList] = [
    [("X-Odd", b"\xff\xfe")],
    [("Origin", b"https://\xff.example")],
    [("Sec-WebSocket-Extensions", b"permessage-deflate; client_max_window_bits=\xff")],
    [("Cookie", b"\xff=\xff")],
]


class TestOddBytes:
    @pytest.mark.parametrize("headers", FIELDS)
    def test_0xff_in_a_header_is_just_a_byte(
        self, tako_serve: Serve, headers: HeaderList
    ) -> None:
        options: dict[str, Any] = {"protocols": ["chat"], "compression": tako.Deflate()}
        server = tako_serve(ws_router(echo_session, **options))
        with canary(server), server.connection() as connection:
            ws = connection.websocket("/ws", headers=headers)
            ws.echo("works")

    def test_0xff_in_a_header_of_a_request(self, tako_serve: Serve) -> None:
        reports, router = Reports(), ws_router(echo_session)

        async def show(request: Request) -> str:
            reports.put(request.headers.get("x-odd"))
            return "shown"

        router.get("/show", show)
        server = tako_serve(router)
        with canary(server), server.connection() as connection:
            headers = [("X-Odd", b"a\xffb")]
            assert connection.request("GET", "/show", headers).body == b"shown"
            assert reports.get() == "a\xffb"

    @pytest.mark.parametrize("path", [b"/\xff", b"/a b", b"/%zz", b"/a\x7f"])
    def test_0xff_in_the_target(self, tako_serve: Serve, path: bytes) -> None:
        server = tako_serve(ws_router(echo_session))
        with canary(server) as ws, server.connection() as connection:
            if isinstance(connection, H2Connection):
                sibling = connection.websocket("/echo")
                fields = dict(connection.pseudo_headers("GET", "/")) | {":path": path}
                stream = connection.open(list(fields.items()), end=True)
                _expect_refusal(stream)
                sibling.echo("alive")
            else:
                connection.send_raw(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.read_response().status in {400, 404}
            ws.echo("during")


def _expect_refusal(stream: H2Stream) -> None:
    """A malformed request is reset or answered with a 4xx."""
    if stream.expect_gone() is None:
        assert 400 <= stream.read_response().status < 500
    else:
        assert stream.reset_code == PROTOCOL_ERROR


MALFORMED: list[tuple[str, list[tuple[str, str | bytes]], list[str]]] = [
    ("upper case", [("X-Upper", "1")], []),
    ("connection", [("connection", "close")], []),
    ("transfer-encoding", [("transfer-encoding", "chunked")], []),
    ("te", [("te", "gzip")], []),
    ("CR in a value", [("x-cr", "a\rb")], []),
    ("NUL in a value", [("x-nul", "a\0b")], []),
    ("space in a name", [("x y", "1")], []),
    ("empty name", [("", "1")], []),
    ("unknown pseudo-header", [(":path2", "/")], []),
    ("late pseudo-header", [("a", "b"), (":path", "/")], [":path"]),
    ("response pseudo-header", [(":status", "200")], []),
    ("no method", [], [":method"]),
    ("no path", [], [":path"]),
    ("no scheme", [], [":scheme"]),
    ("two paths", [(":path", "/")], []),
    ("method with a space", [(":method", "GE T")], [":method"]),
    ("two content-lengths", [("content-length", "1"), ("content-length", "2")], []),
]


@H2_ONLY
class TestMalformedHttp2:
    @pytest.mark.parametrize(
        ("added", "removed"), [m[1:] for m in MALFORMED], ids=[m[0] for m in MALFORMED]
    )
    def test_a_malformed_request_costs_its_own_stream(
        self,
        tako_serve: Serve,
        added: list[tuple[str, str | bytes]],
        removed: list[str],
    ) -> None:
        server = tako_serve(ws_router(echo_session))
        with canary(server) as ws, h2_of(server) as connection:
            sibling = connection.websocket("/echo")
            pseudo = connection.pseudo_headers("GET", "/")
            pseudo = [field for field in pseudo if field[0] not in removed]
            stream = connection.open([*pseudo, *added], end=True)
            _expect_refusal(stream)
            sibling.echo("on the same connection")
            ws.echo("during")
            assert connection.request("GET", "/").status == 200
            assert not connection.goaways

    def test_the_same_on_an_extended_connect(self, tako_serve: Serve) -> None:
        server = tako_serve(ws_router(echo_session))
        with canary(server), h2_of(server) as connection:
            sibling = connection.websocket("/echo")
            headers = [*connection.connect_headers("/ws"), ("Upgrade", "websocket")]
            _expect_refusal(connection.open(headers))
            sibling.echo("alive")

    @pytest.mark.parametrize(
        ("name", "frame", "code"),
        [
            ("DATA on stream 0", raw_frame(FrameType.DATA, 0, 0, b"x"), PROTOCOL_ERROR),
            (
                "bad HPACK",
                raw_frame(
                    FrameType.HEADERS, END_HEADERS, 1001, b"\xff\xff\xff\xff\xff"
                ),
                COMPRESSION_ERROR,
            ),
            ("PING of 7 bytes", raw_frame(FrameType.PING, 0, 0, b"1234567"), 0x6),
            ("a frame that is too large", raw_frame(0, 0, 1, b"x" * 16_385), 0x6),
            (
                "WINDOW_UPDATE of 0",
                raw_frame(FrameType.WINDOW_UPDATE, 0, 0, bytes(4)),
                PROTOCOL_ERROR,
            ),
        ],
    )
    def test_a_connection_error_costs_that_connection(
        self, tako_serve: Serve, name: str, frame: bytes, code: int
    ) -> None:
        server = tako_serve(ws_router(echo_session))
        with canary(server) as ws, h2_of(server) as connection:
            connection.websocket("/echo").echo(name)
            connection.send_raw(frame)
            assert connection.expect_goaway().code == code
            connection.expect_closed()
            ws.echo("during")


class TestVanishingClients:
    @pytest.mark.parametrize("how", ["reset", "close"])
    def test_with_a_socket_open(self, tako_serve: Serve, how: str) -> None:
        reports = Reports()

        async def session(ws: WebSocket) -> None:
            await echo_session(ws)
            reports.put(ws.close_code)

        server = tako_serve(ws_router(session))
        with canary(server) as ws:
            connection = server.connection()
            connection.websocket("/ws").echo("here")
            connection.abort() if how == "reset" else connection.close()
            assert reports.get() == 1006
            ws.echo("during")

    def test_in_the_middle_of_a_handshake(self, tako_serve: Serve) -> None:
        server = tako_serve(ws_router(echo_session))
        with canary(server) as ws:
            for size in (1, 5, 40):
                connection = server.connection()
                connection.send_raw((b"GET /ws HTTP/1.1\r\nHost: localhost\r\n")[:size])
                connection.abort()
            ws.echo("during")

    def test_while_its_handler_runs(self, tako_serve: Serve) -> None:
        reports, router = Reports(), ws_router(echo_session)

        async def slow(request: Request) -> str:
            reports.put("started")
            await tako.sleep(0.1)
            return "too late"

        router.get("/slow", slow)
        server = tako_serve(router)
        with canary(server) as ws:
            connection = server.connection()
            connection.send_request("GET", "/slow")
            assert reports.get() == "started"
            connection.abort()
            ws.echo("during")

    def test_in_the_middle_of_a_request_body(self, tako_serve: Serve) -> None:
        reports, router = Reports(), ws_router(echo_session)

        async def upload(request: Request) -> str:
            reports.put("started")
            try:
                await request.body()
            except tako.TakoError as error:
                reports.put(type(error).__name__)
                raise
            return "never"

        router.post("/upload", upload)
        server = tako_serve(router)
        with canary(server) as ws:
            connection = server.connection()
            if isinstance(connection, H2Connection):
                stream = connection.open(connection.pseudo_headers("POST", "/upload"))
                stream.send(b"the beginning")
            else:
                length = [("Content-Length", "1000")]
                head = connection.head("POST", "/upload", length)
                connection.send_raw(head + b"the beginning")
            assert reports.get() == "started"
            connection.abort()
            ws.echo("during")


class TestNoise:
    @pytest.mark.parametrize(
        "noise",
        [
            b"\0" * 100,
            b"\xff" * 1000,
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
            PREFACE + bytes(9),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
            b"\r\n\r\n\r\n",
            b"GET / HTTP/3.0\r\n\r\n",
        ],
    )
    def test_bytes_that_are_no_request_close_the_connection(
        self, tako_serve: Serve, noise: bytes
    ) -> None:
        server = tako_serve(ws_router(echo_session))
        with canary(server) as ws:
            with socket.create_connection(server.address, timeout=TIMEOUT) as raw:
                raw.sendall(noise)
                raw.shutdown(socket.SHUT_WR)
                with contextlib.suppress(ConnectionError):
                    while raw.recv(65_536):
                        pass
            ws.echo("during")

    @TLS_ONLY
    def test_a_client_that_distrusts_us_costs_nothing(self, tako_serve: Serve) -> None:
        server = tako_serve(ws_router(echo_session))
        with canary(server) as ws:
            context = ssl.create_default_context()
            raw = socket.create_connection(server.address, timeout=TIMEOUT)
            with raw, pytest.raises(ssl.SSLError):
                context.wrap_socket(raw, server_hostname="localhost")
            ws.echo("during")
