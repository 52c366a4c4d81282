"""Files that an ASGI app names instead of reading them: pathsend and zerocopysend."""

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeAlias

import pytest

from tako import Request, Response, Router, ServerConfig
from tako.asgi import AsgiApp
from tako.asgi.protocol import EventError
from tako.errors import LocalProtocolError
from tako.testing import Serve
from tako.testing.peer import PeerConnection
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.io import EndOfStreamError, StreamResetError
from tests.integration.test_asgi import host, with_lifespan
from tests.integration.test_backpressure import H1_ONLY, H2_ONLY
from tests.support.asgi_apps import App, Receive, Scope, Send, respond
from tests.support.server import Gate, Reports, cancelled_by


KIB, MIB = 1 << 10, 1 << 20
LARGE = 10 * MIB  # more than the buffers on the way of a small reader take
PATHSEND, ZEROCOPYSEND = "http.response.pathsend", "http.response.zerocopysend"
START: dict[str, Any] = {"type": "http.response.start", "status": 200}

Place: TypeAlias = Literal["whole", "route", "behind a middleware"]
PLACES: tuple[Place, ...] = ("whole", "route", "behind a middleware")
Event: TypeAlias = dict[str, Any]


def content_of(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def written(path: Path, size: int) -> Path:
    path.write_bytes(content_of(size))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    return written(tmp_path / "large", LARGE)


@pytest.fixture(autouse=True)
def _no_descriptor_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not opened_below(tmp_path)


def opened_below(folder: Path) -> list[str]:
    """Return the files in ``folder`` that this process has open."""
    links = [Path("/proc/self/fd") / fd for fd in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if os.path.lexists(link)]
    return [target for target in targets if target.startswith(str(folder))]


def sending(*events: Event, headers: Any = (), reports: Reports | None = None) -> App:
    """Return an app that answers with ``events``, and reports what that raises.

    An event with a ``Path`` as its file gets a descriptor, which is closed afterwards.
    """

    @with_lifespan
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/":
            await respond(send, b"still here")
            return
        files = {e["file"] for e in events if isinstance(e.get("file"), Path)}
        fds = {file: os.open(file, os.O_RDONLY) for file in files}
        try:
            await send({**START, "headers": headers})
            for event in events:
                if event.get("file") in fds:
                    event = {**event, "file": fds[event["file"]]}  # noqa: PLW2901
                await send(event)
        except BaseException as error:
            if reports is not None:
                reports.put(error)
            raise
        finally:
            for fd in fds.values():
                os.close(fd)
        if reports is not None:
            reports.put(None)

    return app


def placed(tako_serve: Serve, app: App, place: Place) -> Any:
    if place == "whole":
        return host(tako_serve, app)
    router = Router()
    for method in (router.get, router.head):
        method("/{*rest}", AsgiApp(app))
        method("/", AsgiApp(app))
    if place == "behind a middleware":

        @router.middleware
        async def stamp(request: Request, call_next: Any) -> Response:
            response: Response = await call_next(request)
            response.headers.set("x-seen", "yes")
            return response

    return tako_serve(router)


def pathsend(path: Path | str) -> Event:
    return {"type": PATHSEND, "path": str(path)}


def zerocopysend(path: Path, **more: Any) -> Event:
    return {"type": ZEROCOPYSEND, "file": path, **more}


def begin(connection: PeerConnection) -> Callable[[], bytes]:
    """Ask for ``/``; return a function that returns some of the body, once it comes."""
    if isinstance(connection, H2Connection):
        stream = connection.send_request("GET", "/")
        stream.head()
        return stream.receive
    connection.send_request("GET", "/")
    connection.read_response(body=False)
    return lambda: connection.take_buffered() or connection.socket.receive()


def read(receive: Callable[[], bytes], size: int) -> bytes:
    """Return the next ``size`` bytes, or some more."""
    got = bytearray()
    while len(got) < size:
        got += receive()
    return bytes(got)


def read_to_end(receive: Callable[[], bytes]) -> None:
    """Drop what comes; an end in order is an error, too."""
    while receive():
        pass
    raise EndOfStreamError


SIZES = [0, 1, 64 * KIB, 64 * KIB + 1, LARGE]


class TestContent:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("size", SIZES)
    def test_a_path_is_sent_to_the_last_byte(
        self, tako_serve: Serve, tmp_path: Path, size: int, place: Place
    ) -> None:
        path = written(tmp_path / "file", size)
        with placed(
            tako_serve, sending(pathsend(path)), place
        ).connection() as connection:
            for _ in range(2):
                response = connection.request("GET", "/")
                assert response.status == 200
                assert response.header("content-length") == str(size)
                assert response.body == content_of(size)

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("size", SIZES)
    def test_a_descriptor_is_sent_to_the_last_byte(
        self, tako_serve: Serve, tmp_path: Path, size: int, place: Place
    ) -> None:
        path = written(tmp_path / "file", size)
        with placed(
            tako_serve, sending(zerocopysend(path)), place
        ).connection() as connection:
            for _ in range(2):
                assert connection.request("GET", "/").body == content_of(size)

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("length", [True, False])
    def test_parts_of_files_and_content_make_one_body(
        self, tako_serve: Serve, large: Path, length: bool, place: Place
    ) -> None:
        content = content_of(LARGE)
        expected = b"a" + content[7:] + b"b" + content[: 2 * MIB] + content[9:12]
        events = [
            {"type": "http.response.body", "body": b"a", "more_body": True},
            zerocopysend(large, offset=7, more_body=True),
            {"type": "http.response.body", "body": b"b", "more_body": True},
            zerocopysend(large, offset=0, count=2 * MIB, more_body=True),
            zerocopysend(large, offset=LARGE, more_body=True),
            zerocopysend(large, offset=9, count=3),
        ]
        headers = [(b"content-length", b"%d" % len(expected))] if length else []
        app = sending(*events, headers=headers)
        with placed(tako_serve, app, place).connection() as connection:
            for _ in range(2):
                response = connection.request("GET", "/")
                said = response.header("content-length")
                assert said == (str(len(expected)) if length else None)
                assert response.body == expected

    def test_a_position_is_moved_only_where_it_is_used(
        self, tako_serve: Serve, large: Path
    ) -> None:
        positions = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            with large.open("rb", buffering=0) as file:
                await send(START)
                for more in (
                    {"count": 10},
                    {"offset": 5, "count": 200 * KIB},
                    {"count": 300 * KIB},
                ):
                    event = {"type": ZEROCOPYSEND, "file": file, "more_body": True}
                    await send({**event, **more})
                    positions.put(file.tell())
                await send({"type": ZEROCOPYSEND, "file": file.fileno()})
                positions.put(file.tell())

        with host(tako_serve, app).connection() as connection:
            content = content_of(LARGE)
            body = connection.request("GET", "/").body
            assert body == content[:10] + content[5 : 5 + 200 * KIB] + content[10:]
        assert [positions.get() for _ in range(4)] == [
            10,
            10,
            10 + 300 * KIB,
            LARGE,
        ]

    def test_trailers_may_follow(self, tako_serve: Serve, large: Path) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "trailers": True})
            await send(pathsend(large))
            trailers = [(b"x-sum", b"1")]
            await send({"type": "http.response.trailers", "headers": trailers})

        with host(tako_serve, app).connection() as connection:
            response = connection.request("GET", "/", [("TE", "trailers")])
            assert response.body == content_of(LARGE)
            assert response.trailers == [("x-sum", "1")]

    def test_extensions_are_announced(self, tako_serve: Serve) -> None:
        found = Reports()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            found.put({PATHSEND, ZEROCOPYSEND} <= scope["extensions"].keys())
            await respond(send)

        with host(tako_serve, app).connection() as connection:
            connection.request("GET", "/")
        assert found.get()

    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_the_kernel_sends_what_needs_no_change(
        self, tako_serve: Serve, large: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        sent: list[int] = []
        sendfile = os.sendfile

        def counting(out: int, file: int, offset: int, size: int) -> int:
            sent.append(sendfile(out, file, offset, size))
            return sent[-1]

        monkeypatch.setattr(os, "sendfile", counting)
        with host(tako_serve, sending(pathsend(large))).connection() as connection:
            assert connection.request("GET", "/").body == content_of(LARGE)
        assert sum(sent) > LARGE // 2
        assert max(sent) <= 256 * KIB  # in one turn of the loop

    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_a_kernel_that_cannot_is_no_hindrance(
        self, tako_serve: Serve, large: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refusing(out: int, file: int, offset: int, size: int) -> int:
            raise OSError(22, "Invalid argument")

        monkeypatch.setattr(os, "sendfile", refusing)
        with host(tako_serve, sending(pathsend(large))).connection() as connection:
            assert connection.request("GET", "/").body == content_of(LARGE)


class TestWithoutContent:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("event", [pathsend("/not/there"), {"type": ZEROCOPYSEND}])
    def test_head_and_304_open_nothing(
        self, tako_serve: Serve, event: Event, place: Place
    ) -> None:
        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            status = 200 if scope["method"] == "HEAD" else 304
            headers = [(b"content-length", b"99999999"), (b"etag", b'"1"')]
            await send({**START, "status": status, "headers": headers})
            await send(event)

        with placed(tako_serve, app, place).connection() as connection:
            for method, status in (("HEAD", 200), ("GET", 304), ("HEAD", 200)):
                response = connection.request(method, "/")
                assert (response.status, response.body) == (status, b"")
                assert response.header("content-length") == "99999999"


class TestMistakes:
    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize(
        ("event", "message"),
        [
            (pathsend("{}/missing"), "No such file"),
            (pathsend("{}"), "not a regular file"),
            (pathsend("{}/fifo"), "not a regular file"),
            (pathsend("/dev/zero"), "not a regular file"),
            (pathsend("{}/nul\0"), "null"),
            ({"type": PATHSEND, "path": b"/etc/passwd"}, "'path' of an event is str"),
            ({"type": ZEROCOPYSEND, "file": -1}, "Bad file descriptor"),
            ({"type": ZEROCOPYSEND, "file": 1 << 20}, "Bad file descriptor"),
            ({"type": ZEROCOPYSEND, "file": 1 << 80}, "too large"),
            ({"type": ZEROCOPYSEND, "file": "x"}, "'file' of an event is int"),
            ({"type": ZEROCOPYSEND, "file": True}, "'file' of an event is int"),
            (zerocopysend(Path("{}/file"), offset=-1), "of 10 bytes"),
            (zerocopysend(Path("{}/file"), offset=11), "of 10 bytes"),
            (zerocopysend(Path("{}/file"), offset=4, count=7), "not 7 from 4 on"),
            (zerocopysend(Path("{}/file"), count=11), "not 11 from 0 on"),
            (zerocopysend(Path("{}/file"), count=-1), "of 10 bytes"),
            (zerocopysend(Path("{}/file"), offset="1"), "'offset' of an event is int"),
            (zerocopysend(Path("{}/file"), count=1.0), "'count' of an event is int"),
        ],
    )
    def test_what_cannot_be_sent_is_an_error_of_the_app(
        self,
        tako_serve: Serve,
        tmp_path: Path,
        event: Event,
        message: str,
        place: Place,
    ) -> None:
        os.mkfifo(tmp_path / "fifo")
        written(tmp_path / "file", 10)
        for key, value in event.items():
            if "{}" in str(value):
                event = {**event, key: type(value)(str(value).format(tmp_path))}
        raised = Reports()
        server = placed(tako_serve, sending(event, reports=raised), place)
        with server.connection() as connection:
            assert connection.request("GET", "/").status == 500
            error = raised.get()
            assert isinstance(error, RuntimeError)
            assert not isinstance(error, OSError)  # that is for clients that leave
            assert message in str(error)
            assert connection.request("GET", "/other").body == b"still here"
        server.expect_error(EventError)

    def test_a_descriptor_that_is_not_for_reading(
        self, tako_serve: Serve, tmp_path: Path
    ) -> None:
        path, raised = written(tmp_path / "file", 10), Reports()
        with path.open("ab") as file:
            event = {"type": ZEROCOPYSEND, "file": file}
            server = host(tako_serve, sending(event, reports=raised))
            with server.connection() as connection:
                assert connection.request("GET", "/").status == 500
            assert "Bad file descriptor" in str(raised.get())
            server.expect_error(EventError)

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("size", [10, LARGE])
    def test_a_file_that_is_shorter_than_its_content_length(
        self, tako_serve: Serve, tmp_path: Path, size: int, place: Place
    ) -> None:
        path = written(tmp_path / "file", size)
        headers = [(b"content-length", b"%d" % (size + 1))]
        server = placed(tako_serve, sending(pathsend(path), headers=headers), place)
        with server.connection() as connection:
            assert connection.request("GET", "/").status == 500
        server.expect_error(LocalProtocolError, "content-length")

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("length", [10, LARGE - 9])
    def test_of_a_file_that_has_grown_only_what_was_promised(
        self, tako_serve: Serve, large: Path, length: int, place: Place
    ) -> None:
        headers = [(b"content-length", b"%d" % length)]
        app = sending(pathsend(large), headers=headers)
        with placed(tako_serve, app, place).connection() as connection:
            for _ in range(2):
                assert connection.request("GET", "/").body == content_of(LARGE)[:length]

    @pytest.mark.parametrize("event", [PATHSEND, ZEROCOPYSEND])
    def test_nothing_comes_behind_the_end(
        self, tako_serve: Serve, large: Path, event: str
    ) -> None:
        raised = Reports()
        file = pathsend(large) if event == PATHSEND else zerocopysend(large)
        server = host(tako_serve, sending(file, file, reports=raised))
        with server.connection() as connection:
            assert connection.request("GET", "/").body == content_of(LARGE)
            assert "nothing more" in str(raised.get())
        server.expect_error(EventError)

    def test_a_path_stands_beside_no_other_content(
        self, tako_serve: Serve, large: Path
    ) -> None:
        raised = Reports()
        body = {"type": "http.response.body", "body": b"a", "more_body": True}
        server = host(tako_serve, sending(body, pathsend(large), reports=raised))
        with server.connection() as connection:
            with pytest.raises((EndOfStreamError, StreamResetError)):
                connection.request("GET", "/")
            assert PATHSEND in str(raised.get())
        server.expect_error(EventError)

    @pytest.mark.parametrize("place", PLACES)
    def test_a_file_that_is_cut_meanwhile_cuts_the_response(
        self, tako_serve: Serve, large: Path, place: Place
    ) -> None:
        raised = Reports()
        server = placed(tako_serve, sending(pathsend(large), reports=raised), place)
        with server.connection(receive_buffer=64 * KIB) as connection:
            receive = begin(connection)
            os.truncate(large, MIB)
            with pytest.raises((EndOfStreamError, StreamResetError)):
                read_to_end(receive)
            server.expect_error(LocalProtocolError, "it was cut")
        if place != "behind a middleware":
            assert "it was cut" in str(raised.get())


class TestClients:
    def test_a_slow_one_gets_every_byte_and_holds_up_no_other(
        self, tako_serve: Serve, large: Path
    ) -> None:
        server = host(tako_serve, sending(pathsend(large)))
        with (
            server.connection(receive_buffer=64 * KIB) as slow,
            server.connection(receive_buffer=64 * KIB) as slower,
            server.connection() as quick,
        ):
            receive, later = begin(slow), begin(slower)
            got = read(receive, LARGE // 2)
            for _ in range(10):
                assert quick.request("GET", "/canary").body == b"still here"
            assert got + read(receive, LARGE - len(got)) == content_of(LARGE)
            assert read(later, LARGE) == content_of(LARGE)

    @pytest.mark.parametrize("place", PLACES)
    @pytest.mark.parametrize("kind", [PATHSEND, ZEROCOPYSEND])
    def test_one_that_leaves_is_told_to_the_app(
        self, tako_serve: Serve, large: Path, kind: str, place: Place
    ) -> None:
        raised = Reports()
        event = pathsend(large) if kind == PATHSEND else zerocopysend(large)
        server = placed(tako_serve, sending(event, reports=raised), place)
        with server.connection(receive_buffer=64 * KIB) as connection:
            begin(connection)()
            connection.abort()
            error = raised.get()
            if place == "behind a middleware" and kind == PATHSEND:
                assert error is None  # the app was done once it had said which file
            else:
                assert isinstance(error, OSError)

    def test_one_that_does_not_read_is_cut(
        self, tako_serve: Serve, large: Path
    ) -> None:
        raised = Reports()
        config = ServerConfig(send_timeout=1.5, min_rate=0)
        server = host(tako_serve, sending(pathsend(large), reports=raised), config)
        with server.connection(receive_buffer=64 * KIB) as connection:
            begin(connection)
            assert isinstance(raised.get(), OSError)

    def test_a_drain_lets_it_end(self, tako_serve: Serve, large: Path) -> None:
        server = host(tako_serve, sending(pathsend(large)))
        with server.connection(receive_buffer=64 * KIB) as connection:
            receive = begin(connection)
            server.stop()
            assert read(receive, LARGE) == content_of(LARGE)

    def test_a_cancelled_send_cuts_it(self, tako_serve: Serve, large: Path) -> None:
        gate = Gate()

        @with_lifespan
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await cancelled_by(gate, lambda: send(pathsend(large)))
            msg = "the app has given up"
            raise LookupError(msg)

        server = host(tako_serve, app)
        with server.connection(receive_buffer=64 * KIB) as connection:
            receive = begin(connection)
            gate.open()
            with pytest.raises((EndOfStreamError, StreamResetError)):
                read_to_end(receive)
        server.expect_error(LookupError, "given up")

    @H1_ONLY
    def test_a_half_closed_one_gets_it_all(
        self, tako_serve: Serve, large: Path
    ) -> None:
        with host(tako_serve, sending(pathsend(large))).connection() as connection:
            assert isinstance(connection, H1Connection)
            connection.send_request("GET", "/")
            connection.socket.half_close()
            assert connection.read_response().body == content_of(LARGE)

    @H2_ONLY
    def test_two_streams_share_a_connection(
        self, tako_serve: Serve, large: Path
    ) -> None:
        with host(tako_serve, sending(pathsend(large))).connection() as connection:
            assert isinstance(connection, H2Connection)
            streams = [connection.send_request("GET", "/") for _ in range(2)]
            small = connection.request("GET", "/canary")
            assert small.body == b"still here"
            for stream in streams:
                assert stream.read_response().body == content_of(LARGE)


class TestFrameworks:
    """``FileResponse`` names its file by the path that its user wrote."""

    @pytest.mark.parametrize("name", ["starlette", "fastapi"])
    @pytest.mark.parametrize("size", SIZES)
    def test_a_file_response(
        self,
        tako_serve: Serve,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        size: int,
    ) -> None:
        written(tmp_path / "file.bin", size)
        monkeypatch.chdir(tmp_path)
        with host(tako_serve, files_app(name, tmp_path)).connection() as connection:
            for path in ("/relative", "/absolute", "/static/file.bin"):
                response = connection.request("GET", path)
                assert response.status == 200
                assert response.header("content-length") == str(size)
                assert response.body == content_of(size)
                head = connection.request("HEAD", path)
                assert head.header("content-length") == str(size)
                assert head.body == b""
            etag = response.header("etag") or ""
            again = connection.request("GET", path, [("If-None-Match", etag)])
            assert (again.status, again.body) == (304, b"")

    @pytest.mark.parametrize("name", ["starlette", "fastapi"])
    def test_ranges_and_what_is_missing(
        self, tako_serve: Serve, large: Path, name: str
    ) -> None:
        content = content_of(LARGE)
        app = files_app(name, large.parent)
        with host(tako_serve, app).connection() as connection:
            for asked, start, end in (
                ("0-0", 0, 1),
                ("5-1048580", 5, 1048581),
                ("-7", LARGE - 7, LARGE),
            ):
                fields = [("Range", f"bytes={asked}")]
                response = connection.request("GET", "/static/large", fields)
                assert response.status == 206
                said = f"bytes {start}-{end - 1}/{LARGE}"
                assert response.header("content-range") == said
                assert response.body == content[start:end]
            fields = [("Range", f"bytes={LARGE}-")]
            assert connection.request("GET", "/static/large", fields).status == 416
            fields = [("Range", "bytes=0-1,5-6")]
            parts = connection.request("GET", "/static/large", fields)
            assert parts.status == 206
            assert parts.body.count(b"content-range") in {0, 2}
            assert connection.request("GET", "/static/missing").status == 404

    def test_a_middleware_of_the_framework_passes_it_on(
        self, tako_serve: Serve, large: Path
    ) -> None:
        pytest.importorskip("starlette")
        from starlette.middleware.base import BaseHTTPMiddleware
        from starlette.middleware.gzip import GZipMiddleware

        async def dispatch(request: Any, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-stamp"] = "stamped"
            return response

        app: Any = files_app("starlette", large.parent)
        app = GZipMiddleware(BaseHTTPMiddleware(app, dispatch))
        with host(tako_serve, app).connection() as connection:
            fields = [("Accept-Encoding", "gzip")]
            response = connection.request("GET", "/static/large", fields)
            assert response.header("x-stamp") == "stamped"
            assert response.body == content_of(LARGE)


def files_app(name: str, folder: Path) -> App:
    """Return an app of a framework that serves ``file.bin``, and ``folder``."""
    staticfiles: Any = pytest.importorskip("starlette.staticfiles")
    responses: Any = pytest.importorskip("starlette.responses")

    async def relative(request: Any) -> Any:
        return responses.FileResponse("file.bin")

    async def absolute(request: Any) -> Any:
        return responses.FileResponse(folder / "file.bin")

    app: Any
    if name == "fastapi":
        app = pytest.importorskip("fastapi").FastAPI()
    else:
        app = pytest.importorskip("starlette.applications").Starlette()
    for path, endpoint in (("/relative", relative), ("/absolute", absolute)):
        app.add_route(path, endpoint, methods=["GET", "HEAD"])
    app.mount("/static", staticfiles.StaticFiles(directory=folder))
    made: App = app
    return made
