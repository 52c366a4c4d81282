"""The access log: one line for each request and each WebSocket, whatever its end."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import tako
from tako import AccessEntry, HttpError, Message, Request, Response, Router, WebSocket
from tests.conftest import Serve
from tests.support.apps import echo_session, hello, ws_router
from tests.support.peer_h2 import H2Stream
from tests.support.server import Gate, Reports


MIB = 1 << 20


class Lines(logging.Handler):
    """What the access log wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = Reports()

    def emit(self, record: logging.LogRecord) -> None:
        entry = vars(record)["access"]
        assert record.getMessage() == str(entry)
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
    def test_a_request_is_a_line(self, serve: Serve, wire: str, lines: Lines) -> None:
        router = logged(Router())
        router.post("/a%20b/{x}", lambda: (201, "made"))
        with serve(router).connect() as connection:
            headers = [("X-Request-Id", "abc")]
            response = connection.request("POST", "/a%20b/1?token=secret", headers)
            assert response.header("x-request-id") == "abc"
        entry = lines.get()
        assert entry.peer.startswith("127.0.0.1:")
        assert 0 <= entry.seconds < 10
        assert str(entry) == (
            f"{entry.peer} POST /a%20b/1 HTTP/{version(wire)} status=201 bytes=4"
            f" seconds={entry.seconds:.6f} id=abc"
        )
        assert lines.entries.empty

    def test_the_query_is_there_if_asked_for(self, serve: Serve, lines: Lines) -> None:
        router = logged(ws_router(echo_session), query=True)
        with serve(router).connect() as connection:
            connection.request("GET", '/?a="b"')
        entry = lines.get()
        assert entry.target == '/?a="b"'
        assert r' GET "/?a=\"b\"" HTTP/' in str(entry)

    def test_head_has_no_bytes(self, serve: Serve, lines: Lines) -> None:
        with serve(logged(ws_router(echo_session))).connect() as connection:
            connection.request("HEAD", "/")
        assert (lines.get().status, lines.entries.empty) == (200, True)

    @pytest.mark.parametrize("size", [1000, 3 * MIB])
    def test_the_line_of_a_large_body_comes_at_its_end(
        self, serve: Serve, lines: Lines, size: int
    ) -> None:
        gate, router = Gate(), logged(Router())

        async def body() -> AsyncIterator[bytes]:
            yield b"x" * size
            await gate.wait()
            yield b"x"

        router.get("/stream", lambda: Response(body=body()))
        router.get("/bytes", lambda: b"x" * size)
        with serve(router).connect() as connection:
            pending = connection.send_request("GET", "/stream")
            connection_or_stream = pending
            if isinstance(connection_or_stream, H2Stream):
                connection_or_stream.head()
            else:
                connection_or_stream.read_response(body=False)
            assert lines.entries.empty
            gate.open()
        assert lines.get().target == "/stream"
        with serve(router).connect() as connection:
            connection.request("GET", "/bytes")
        entry = lines.get()
        assert (entry.bytes_sent, entry.complete) == (size, True)

    def test_the_status_is_what_was_sent_in_the_end(
        self, serve: Serve, lines: Lines
    ) -> None:
        async def broken(request: Request) -> str:
            raise HttpError(int(request.path_params["status"]), "no")

        router = logged(Router())
        router.get("/{status}", broken)
        router.client_error_handler(lambda _: Response(418, body="teapot"))
        with serve(router).connect() as connection:
            for status in (403, 503):
                connection.request("GET", f"/{status}")
            assert (lines.get().status, lines.get().status) == (418, 503)

    def test_two_logs_around_a_route_write_one_line(
        self, serve: Serve, lines: Lines
    ) -> None:
        child = logged(Router())
        child.get("/x", hello)
        router = logged(Router()).nest("/child", child)
        with serve(router).connect() as connection:
            connection.request("GET", "/child/x")
            connection.request("GET", "/none")
        assert [lines.get().status for _ in range(2)] == [200, 404]
        assert lines.entries.empty

    def test_a_client_that_leaves_before_the_answer_is_499(
        self, serve: Serve, lines: Lines
    ) -> None:
        started, router = Reports(), logged(Router())

        async def slow(request: Request) -> str:
            started.put("started")
            await Gate().wait()
            return "never"

        router.get("/", slow)
        with serve(router).connect() as connection:
            connection.send_request("GET", "/")
            started.get()
            connection.abort()
            entry = lines.get()
        assert (entry.status, entry.complete) == (499, False)
        assert "status=499 bytes=0" in str(entry)
        assert " cut=yes" in str(entry)

    def test_a_body_that_fails_was_cut_short(self, serve: Serve, lines: Lines) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield b"12345"
            msg = "on purpose"
            raise LookupError(msg)

        router = logged(Router())
        router.get("/", lambda: Response(body=body()))
        server = serve(router)
        with server.connect() as connection:
            connection.send_request("GET", "/")
            entry = lines.get()
        assert (entry.status, entry.bytes_sent, entry.complete) == (200, 5, False)
        assert server.wait_error().exc_info


class TestWebSockets:
    def test_a_websocket_is_a_line_at_its_end(
        self, serve: Serve, wire: str, lines: Lines
    ) -> None:
        with serve(logged(ws_router(echo_session))).connect() as connection:
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
        assert lines.entries.empty

    def test_messages_read_one_by_one_are_counted_too(
        self, serve: Serve, lines: Lines
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.read()
            await ws.send(bytearray(b"123"))
            await ws.send(memoryview(b"4567"))
            await ws.send(Message.Ping(b""))
            await ws.close(4001)

        with serve(logged(ws_router(session))).connect() as connection:
            ws = connection.websocket("/ws")
            ws.send("12")
            ws.expect(b"123")
            ws.expect(b"4567")
            ws.expect_close()
            entry = lines.get()
        assert "websocket=4001 in=1/2 out=2/7 " in str(entry)

    def test_a_session_that_returns_is_1000_and_one_that_fails_1011(
        self, serve: Serve, lines: Lines
    ) -> None:
        async def session(ws: WebSocket) -> None:
            if await ws.read() == "fail":
                msg = "on purpose"
                raise LookupError(msg)

        server = serve(logged(ws_router(session)))
        with server.connect() as connection:
            connection.websocket("/ws").send("fail")
            assert "websocket=1011 in=1/4 out=0/0 " in str(lines.get())
        assert server.wait_error().exc_info
        with server.connect() as connection:
            connection.websocket("/ws").send("end")
            assert "websocket=1000 in=1/3 out=0/0 " in str(lines.get())

    def test_a_lost_client_is_1006(self, serve: Serve, lines: Lines) -> None:
        with serve(logged(ws_router(echo_session))).connect() as connection:
            connection.websocket("/ws").echo("alive")
            connection.abort()
            assert "websocket=1006 in=1/5 out=1/5 " in str(lines.get())

    def test_a_refused_handshake_is_a_request(self, serve: Serve, lines: Lines) -> None:
        router = ws_router(echo_session, allowed_origins=["https://example.com"])
        with serve(logged(router)).connect() as connection:
            assert connection.handshake("/ws").status == 403
            entry = lines.get()
        assert (entry.status, entry.websocket) == (403, None)
