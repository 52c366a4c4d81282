"""The access log: one line for each request and each WebSocket, whatever its end."""

import logging
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

import tako
from tako import AccessEntry, HttpError, Message, Request, Response, Router, WebSocket
from tako.asgi import AsgiApp
from tako.testing import Serve
from tako.testing.peer.stream import H2Stream
from tests.support.apps import echo_session, hello, ws_router
from tests.support.asgi_apps import Receive, Scope, Send
from tests.support.server import Gate, Reports


MIB = 1 << 20


class Lines(logging.Handler):
    """What the access log wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = Reports()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        entry = vars(record)["access"]
        self.texts.append(record.getMessage())
        self.entries.put(entry)

    def get(self) -> AccessEntry:
        entry: AccessEntry = self.entries.get()
        return entry


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, logger = Lines(), logging.getLogger("tako.access")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(logging.NOTSET)


def logged(router: Router, **options: Any) -> Router:
    router.middleware(tako.access_log(**options))
    router.middleware(tako.request_id(trust=True))
    return router


def version(wire: str) -> str:
    return "2" if wire in {"h2", "h2c"} else "1.1"


class TestRequests:
    def test_a_request_is_a_line(
        self, tako_serve: Serve, wire: str, lines: Lines
    ) -> None:
        router = logged(Router())
        router.post("/a%20b/{x}", lambda: (201, "made"))
        with tako_serve(router).connection() as connection:
            headers = [("X-Request-Id", "abc")]
            response = connection.request("POST", "/a%20b/1?token=secret", headers)
            assert response.header("x-request-id") == "abc"
        entry = lines.get()
        assert entry.peer.startswith("127.0.0.1:")
        assert 0 <= entry.seconds < 10
        assert lines.texts == [str(entry)]
        assert str(entry) == (
            f"{entry.peer} POST /a%20b/1 HTTP/{version(wire)} status=201 bytes=4"
            f" seconds={entry.seconds:.6f} id=abc"
        )
        assert lines.entries.empty

    def test_the_query_is_there_if_asked_for(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        router = logged(ws_router(echo_session), query=True)
        with tako_serve(router).connection() as connection:
            connection.request("GET", '/?a="b"')
        entry = lines.get()
        assert entry.target == '/?a="b"'
        assert r' GET "/?a=\"b\"" HTTP/' in str(entry)

    def test_a_line_is_what_its_format_says(
        self, tako_serve: Serve, wire: str, lines: Lines
    ) -> None:
        text = "{address} {target}{query} {status} {header[x-a]} {header[host]}"
        router = logged(ws_router(echo_session), format=text)
        with tako_serve(router).connection() as connection:
            several = [("X-A", 'a"b'), ("X-A", "c"), ("X-B", "not named")]
            connection.request("GET", "/?token=secret", several)
            connection.request("GET", "/")
        entry, other = lines.get(), lines.get()
        host = entry.headers["host"]
        assert host
        assert lines.texts == [
            rf"127.0.0.1 /?token=secret 200 a\"b, c {host}",
            f"127.0.0.1 / 200 - {host}",
        ]
        assert entry.headers == {"x-a": 'a"b, c', "host": host}
        assert (entry.target, entry.query, other.query) == ("/", "?token=secret", "")
        assert version(wire) == entry.http_version

    def test_the_time_is_when_the_request_came(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        before = time.time()
        with tako_serve(logged(ws_router(echo_session))).connection() as connection:
            connection.request("GET", "/")
        entry = lines.get()
        assert before - 0.1 <= entry.began <= time.time() - entry.seconds + 0.1

    def test_head_has_no_bytes(self, tako_serve: Serve, lines: Lines) -> None:
        with tako_serve(logged(ws_router(echo_session))).connection() as connection:
            connection.request("HEAD", "/")
        assert (lines.get().status, lines.entries.empty) == (200, True)

    @pytest.mark.parametrize("size", [1000, 3 * MIB])
    def test_the_line_of_a_large_body_comes_at_its_end(
        self, tako_serve: Serve, lines: Lines, size: int
    ) -> None:
        gate, router = Gate(), logged(Router())

        async def body() -> AsyncIterator[bytes]:
            yield b"x" * size
            await gate.wait()
            yield b"x"

        router.get("/stream", lambda: Response(body=body()))
        router.get("/bytes", lambda: b"x" * size)
        with tako_serve(router).connection() as connection:
            pending = connection.send_request("GET", "/stream")
            connection_or_stream = pending
            if isinstance(connection_or_stream, H2Stream):
                connection_or_stream.head()
            else:
                connection_or_stream.read_response(body=False)
            assert lines.entries.empty
            gate.open()
        assert lines.get().target == "/stream"
        with tako_serve(router).connection() as connection:
            connection.request("GET", "/bytes")
        entry = lines.get()
        assert (entry.bytes_sent, entry.complete) == (size, True)

    @pytest.mark.parametrize("size", [10, MIB])
    def test_the_bytes_of_a_file_count(
        self, tako_serve: Serve, lines: Lines, tmp_path: Path, size: int
    ) -> None:
        (tmp_path / "file").write_bytes(b"x" * size)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200})
            path = str(tmp_path / "file")
            await send({"type": "http.response.pathsend", "path": path})

        router = Router()
        router.get("/", AsgiApp(app, lifespan="off"))
        with tako_serve(logged(router)).connection() as connection:
            assert len(connection.request("GET", "/").body) == size
        entry = lines.get()
        assert (entry.bytes_sent, entry.complete) == (size, True)

    def test_the_status_is_what_was_sent_in_the_end(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        async def broken(request: Request) -> str:
            raise HttpError(int(request.path_params["status"]), "no")

        router = logged(Router())
        router.get("/{status}", broken)
        router.client_error_handler(lambda _: Response(418, body="teapot"))
        with tako_serve(router).connection() as connection:
            for status in (403, 503):
                connection.request("GET", f"/{status}")
            assert (lines.get().status, lines.get().status) == (418, 503)

    def test_two_logs_around_a_route_write_one_line(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        child = logged(Router())
        child.get("/x", hello)
        router = logged(Router()).nest("/child", child)
        with tako_serve(router).connection() as connection:
            connection.request("GET", "/child/x")
            connection.request("GET", "/none")
        assert [lines.get().status for _ in range(2)] == [200, 404]
        assert lines.entries.empty

    def test_a_client_that_leaves_before_the_answer_is_499(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        started, router = Reports(), logged(Router())

        async def slow(request: Request) -> str:
            started.put("started")
            await Gate().wait()
            return "never"

        router.get("/", slow)
        with tako_serve(router).connection() as connection:
            connection.send_request("GET", "/")
            started.get()
            connection.abort()
            entry = lines.get()
        assert (entry.status, entry.complete) == (499, False)
        assert "status=499 bytes=0" in str(entry)
        assert " cut=yes" in str(entry)

    def test_a_body_that_fails_was_cut_short(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"12345"
            msg = "on purpose"
            raise LookupError(msg)

        router = logged(Router())
        router.get("/", lambda: Response(body=body()))
        server = tako_serve(router)
        with server.connection() as connection:
            connection.send_request("GET", "/")
            entry = lines.get()
        assert (entry.status, entry.bytes_sent, entry.complete) == (200, 5, False)
        server.expect_error(LookupError)


class TestWebSockets:
    def test_a_websocket_is_a_line_at_its_end(
        self, tako_serve: Serve, wire: str, lines: Lines
    ) -> None:
        with tako_serve(logged(ws_router(echo_session))).connection() as connection:
            ws = connection.websocket("/ws?token=secret")
            for message in ("hi", "\u00e9", b"\x00" * 1000, ""):
                ws.echo(message)
            ws.ping(b"not counted")
            assert lines.entries.empty
            ws.close(4000, "bye")
            ws.expect_close()
            entry = lines.get()
        status = 101 if version(wire) == "1.1" else 200
        assert str(entry) == (
            f"{entry.peer} GET /ws HTTP/{version(wire)} status={status} websocket=4000"
            f" in=4/1004 out=4/1004 seconds={entry.seconds:.6f} id={entry.request_id}"
        )
        assert lines.texts == [str(entry)]
        assert entry.websocket is not None
        assert entry.websocket.closed_by == "client"
        assert lines.entries.empty

    def test_messages_read_one_by_one_are_counted_too(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.read()
            await ws.send(bytearray(b"123"))
            await ws.send(memoryview(b"4567"))
            await ws.send(Message.Ping(b""))
            await ws.close(4001)

        with tako_serve(logged(ws_router(session))).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send("12")
            ws.expect(b"123")
            ws.expect(b"4567")
            ws.expect_close()
            entry = lines.get()
        assert "websocket=4001 in=1/2 out=2/7 " in str(entry)
        assert entry.websocket is not None
        assert entry.websocket.closed_by == "server"

    def test_a_session_that_returns_is_1000_and_one_that_fails_1011(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        async def session(ws: WebSocket) -> None:
            if await ws.read() == "fail":
                msg = "on purpose"
                raise LookupError(msg)

        server = tako_serve(logged(ws_router(session)))
        with server.connection() as connection:
            connection.websocket("/ws").send("fail")
            assert "websocket=1011 in=1/4 out=0/0 " in str(lines.get())
        server.expect_error(LookupError)
        with server.connection() as connection:
            connection.websocket("/ws").send("end")
            assert "websocket=1000 in=1/3 out=0/0 " in str(lines.get())

    def test_a_lost_client_is_1006(self, tako_serve: Serve, lines: Lines) -> None:
        with tako_serve(logged(ws_router(echo_session))).connection() as connection:
            connection.websocket("/ws").echo("alive")
            connection.abort()
            entry = lines.get()
        assert "websocket=1006 in=1/5 out=1/5 " in str(entry)
        assert entry.websocket is not None
        assert entry.websocket.closed_by is None

    def test_a_refused_handshake_is_a_request(
        self, tako_serve: Serve, lines: Lines
    ) -> None:
        router = ws_router(echo_session, allowed_origins=["https://example.com"])
        with tako_serve(logged(router)).connection() as connection:
            assert connection.handshake("/ws").status == 403
            entry = lines.get()
        assert (entry.status, entry.websocket) == (403, None)


async def talking(scope: Any, receive: Any, send: Any) -> None:
    """Accept, and do what the messages of the client say."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        if event.get("text") == "close":
            await send({"type": "websocket.close", "code": 4009})
        else:
            await send({"type": "websocket.send", "bytes": b"four"})
            await send({"type": "websocket.send", "text": "\u00e9"})


class TestWebSocketsOfAsgiApps:
    """The same lines as those of routes, on both wires."""

    @pytest.mark.parametrize("by", ["client", "server", "nobody"])
    def test_it_is_a_line_at_its_end(
        self, tako_serve: Serve, wire: str, lines: Lines, by: str
    ) -> None:
        router = logged(Router())
        router.get("/ws", AsgiApp(talking))
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.send("12")
            ws.expect(b"four")
            ws.expect("\u00e9")
            assert lines.entries.empty
            if by == "client":
                ws.close(4008)
                ws.expect_close()
            elif by == "server":
                ws.send("close")
                assert ws.expect_close()[0] == 4009
            else:
                connection.abort()
            entry = lines.get()
        counts = entry.websocket
        assert counts is not None
        code = {"client": 4008, "server": 4009, "nobody": 1006}[by]
        assert counts.close_code == code
        assert counts.closed_by == (None if by == "nobody" else by)
        read = (2, 7) if by == "server" else (1, 2)
        assert (counts.messages_in, counts.bytes_in) == read
        assert (counts.messages_out, counts.bytes_out) == (2, 6)
        assert entry.status == (101 if version(wire) == "1.1" else 200)
        assert lines.entries.empty
