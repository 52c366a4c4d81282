"""An app's answer on its way to the wire: in the exchange's task, or beside it."""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tako import Request, Response, Router
from tako.asgi import AsgiApp, fields as app_fields
from tako.asgi.fields import checked_fields
from tako.core.error_code import ErrorCode
from tako.errors import LocalProtocolError
from tako.h2.frames import DATA, RST_STREAM
from tests.support.asgi_apps import App, Receive, Scope, Send, respond
from tests.support.h2wire import parse
from tests.support.in_memory import MemoryClient, MemoryWire
from tests.support.wire import Cancelled, FakeRuntime


KIB = 1 << 10
BODY = "http.response.body"
START: dict[str, Any] = {"type": "http.response.start", "status": 200}


class Served:
    """An app in place of a router, or as a route, and its client."""

    def __init__(
        self,
        wire: MemoryWire,
        app: App,
        place: str = "whole",
        on_end: Callable[[int, bool], None] | None = None,
    ) -> None:
        self.wire = wire
        self.runtime = FakeRuntime()
        self.client = MemoryClient(self.runtime, _placed(app, place, on_end), wire)

    def ask(self, path: str = "/", method: str = "GET", *, body: int = 0) -> None:
        self.client.request(path, method, body=body)
        self.runtime.run_ready()
        if method != "HEAD":
            self.runtime.advance(0)

    def body(self) -> bytes:
        """Return the body bytes that were sent since the last call."""
        sent = self.client.take()
        if self.wire == "h2":
            return b"".join(f.payload for f in parse(sent) if f.kind == DATA)
        head, _, rest = sent.partition(b"\r\n\r\n")
        if b"transfer-encoding: chunked" not in head:
            return rest
        out = b""
        while rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            out, rest = out + rest[:length], rest[length + 2 :]
        return out

    def stall(self) -> None:
        """Take no more output on HTTP/1.1; on HTTP/2 the window ends it by itself."""
        if self.wire == "http/1.1":
            self.client.connection.pause_writing()

    def go_on(self) -> None:
        """Take output again."""
        self.client.widen(1 << 20)
        self.runtime.advance(0)

    @property
    def tasks(self) -> int:
        return len(self.runtime.tasks)


class _Observed:
    """A router that another one delegates to, and that asks for the end."""

    def __init__(self, app: AsgiApp, on_end: Callable[[int, bool], None]) -> None:
        self._app = app
        self._on_end = on_end

    def dispatch(self, request: Request, *, timer: Any = None) -> Awaitable[Response]:
        request.on_end(self._on_end)
        return self._app.dispatch(request, timer=timer)


def _placed(app: App, place: str, on_end: Callable[[int, bool], None] | None) -> Any:
    asgi = AsgiApp(app, lifespan="off")
    if on_end is not None:
        return _Observed(asgi, on_end)
    if place == "whole":
        return asgi
    router = Router()
    route = router.get("/{*rest}", asgi)
    router.post("/{*rest}", asgi)
    if place == "behind a middleware":
        router.middleware(_passing)
    elif place == "with an error handler":
        router.client_error_handler(_amended)
    elif place == "with a timeout":
        route.timeout(1000)
    return router


async def _passing(request: Request, call_next: Any) -> Response:
    response: Response = await call_next(request)
    response.headers.set("x-seen", "yes")
    return response


def _amended(response: Response) -> Response:
    response.headers.set("x-amended", "yes")
    return response


@pytest.fixture(params=["http/1.1", "h2"])
def wire(request: pytest.FixtureRequest) -> MemoryWire:
    name: MemoryWire = request.param
    return name


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await respond(send, b"hello")


class TestTasks:
    @pytest.mark.parametrize(
        ("place", "tasks"),
        [
            ("whole", 1),
            ("a route", 1),
            ("behind a middleware", 2),
            ("with an error handler", 2),
        ],
    )
    def test_an_app_has_a_task_of_its_own_only_if_its_answer_is_looked_at(
        self, wire: MemoryWire, place: str, tasks: int
    ) -> None:
        served = Served(wire, hello, place)
        for number in range(1, 4):
            served.ask()
            assert served.body() == b"hello"
            assert served.tasks == number * tasks

    def test_what_a_caller_dispatches_is_for_the_caller_to_send(
        self, wire: MemoryWire
    ) -> None:
        asgi, router = AsgiApp(hello, lifespan="off"), Router()
        router.get("/", asgi)
        for inner in (asgi, router):
            outer = Router()

            async def delegate(request: Request, inner: Any = inner) -> Response:
                response: Response = await inner.dispatch(request)
                response.body = b"changed"
                return response

            outer.get("/", delegate)
            runtime = FakeRuntime()
            client = MemoryClient(runtime, outer, wire)
            client.request()
            runtime.run_ready()
            assert b"changed" in client.take()

    def test_an_error_handler_amends_what_an_app_answers(
        self, wire: MemoryWire
    ) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"none", 404)

        served = Served("http/1.1", app, "with an error handler")
        served.ask()
        assert b"x-amended: yes" in served.client.take()

    def test_a_stream_behind_a_middleware(self, wire: MemoryWire) -> None:
        served = Served(wire, streaming(b"one ", b"two"), "behind a middleware")
        served.ask()
        assert served.body() == b"one two"


def streaming(*chunks: bytes) -> App:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(START)
        for chunk in chunks:
            await send({"type": BODY, "body": chunk, "more_body": True})
        await send({"type": BODY})

    return app


class TestBehindTheAnswer:
    def test_the_exchange_ends_with_the_last_event(self, wire: MemoryWire) -> None:
        served: Served
        ends: list[tuple[int, bool]] = []
        app_ended: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"hello", 201)
            assert (await receive())["type"] == "http.disconnect"
            await served.runtime.sleep(60)
            app_ended.append(scope["path"])

        served = Served(wire, app, on_end=lambda *end: ends.append(end))
        served.ask("/1")
        assert served.body() == b"hello"
        assert ends == [(201, True)]
        served.ask("/2")
        assert served.body() == b"hello"
        assert app_ended == []
        served.runtime.advance(61)
        assert app_ended == ["/1", "/2"]
        assert ends == [(201, True)] * 2

    def test_a_failure_is_logged_and_touches_nothing(
        self, wire: MemoryWire, caplog: pytest.LogCaptureFixture
    ) -> None:
        served: Served

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"hello")
            await served.runtime.sleep(1)
            msg = "too late to matter"
            raise ValueError(msg)

        served = Served(wire, app)
        served.ask("/1")
        served.ask("/2", body=5)  # its body never comes
        assert served.body().count(b"hello") == 2
        served.runtime.advance(2)
        (first, _) = [r for r in caplog.records if r.levelno == logging.ERROR]
        assert first.getMessage() == "app failed after answering /1"
        if wire == "h2":
            resets = [f for f in parse(served.client.take()) if f.kind == RST_STREAM]
            assert all(f.number == ErrorCode.NO_ERROR for f in resets)

    def test_cancelled_it_resets_nothing(self, wire: MemoryWire) -> None:
        served: Served

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await respond(send, b"hello")
            await served.runtime.sleep(60)

        served = Served(wire, app)
        served.ask("/", body=5)  # its body never comes
        assert served.body() == b"hello"
        served.runtime.tasks[0].cancel()
        served.runtime.advance(0)
        assert served.runtime.tasks[0].cancelled
        assert served.client.take() == b""
        assert not served.client.transport.aborted


class TestWhatIsNotCompleted:
    @pytest.mark.parametrize("fails", [True, False])
    def test_it_is_cut_off(
        self, wire: MemoryWire, fails: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        ends: list[tuple[int, bool]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send({"type": BODY, "body": b"half", "more_body": True})
            if fails:
                msg = "in the middle"
                raise ValueError(msg)

        served = Served(wire, app, on_end=lambda *end: ends.append(end))
        served.ask()
        assert ends == [(200, False)]
        assert [r.levelname for r in caplog.records if r.exc_info] == ["ERROR"]
        sent = served.client.take()
        if wire == "h2":
            (reset,) = [f for f in parse(sent) if f.kind == RST_STREAM]
            assert reset.number == ErrorCode.INTERNAL_ERROR
        else:
            assert sent.endswith(b"4\r\nhalf\r\n")
            assert served.client.transport.eof

    def test_an_answer_that_contradicts_itself_is_the_apps_error(
        self, wire: MemoryWire
    ) -> None:
        errors: list[Exception] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send({**START, "headers": [(b"content-length", b"3")]})
            try:
                await send({"type": BODY, "body": b"four"})
            except LocalProtocolError as error:
                errors.append(error)
                raise

        served = Served(wire, app)
        served.ask()
        assert len(errors) == 1
        assert served.body() == b"Internal Server Error"

    def test_a_cancelled_app_resets(self, wire: MemoryWire) -> None:
        ends: list[tuple[int, bool]] = []
        served: Served

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send({"type": BODY, "body": b"half", "more_body": True})
            await served.runtime.sleep(60)

        served = Served(wire, app, on_end=lambda *end: ends.append(end))
        served.ask()
        served.runtime.tasks[0].cancel()
        served.runtime.advance(0)
        assert ends == [(200, False)]
        if wire == "h2":
            (reset,) = [f for f in parse(served.client.take()) if f.kind == RST_STREAM]
            assert reset.number == ErrorCode.CANCEL
        else:
            assert served.client.transport.aborted


class TestRoom:
    @pytest.mark.parametrize("place", ["whole", "behind a middleware"])
    def test_a_chunk_is_sent_whole_even_if_its_send_is_cancelled(
        self, wire: MemoryWire, place: str
    ) -> None:
        chunk, seen = b"a" * 200 * KIB, list[str]()

        served: Served

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            await send({"type": BODY, "body": b"-", "more_body": True})
            served.stall()
            try:
                await send({"type": BODY, "body": chunk, "more_body": True})
            except Cancelled:
                seen.append("cancelled")
            await send({"type": BODY, "body": b"b", "more_body": True})
            await send({"type": BODY})
            seen.append("sent")

        served = Served(wire, app, place)
        served.ask()
        assert seen == []
        served.runtime.tasks[-1].cancel()
        served.runtime.advance(0)
        assert seen == ["cancelled"]
        served.go_on()
        assert seen == ["cancelled", "sent"]
        assert served.body() == b"-" + chunk + b"b"

    def test_an_answer_is_sent_whole_even_if_its_send_is_cancelled(
        self, wire: MemoryWire
    ) -> None:
        body, ends = b"a" * 200 * KIB, list[tuple[int, bool]]()
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await respond(send, body)
            except Cancelled:
                seen.append("cancelled")

        served = Served(wire, app, on_end=lambda *end: ends.append(end))
        served.stall()
        served.ask()
        assert ends == []
        served.runtime.tasks[0].cancel()
        served.runtime.advance(0)
        assert (seen, ends) == (["cancelled"], [(200, True)])
        served.go_on()
        assert served.body() == body
        served.ask()  # the connection goes on
        served.go_on()
        assert served.body() == body

    @pytest.mark.parametrize("pieces", [1, 2])
    def test_a_cancellation_after_any_piece_leaves_nothing_out(
        self,
        wire: MemoryWire,
        pieces: int,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        body, left = b"a" * 1040 * KIB, pieces

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            with contextlib.suppress(Cancelled):
                await respond(send, body)

        async def sleep(delay: float) -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Cancelled

        served = Served(wire, app)
        monkeypatch.setattr(served.runtime, "sleep", sleep)
        served.ask()
        served.go_on()
        assert left <= 0
        assert served.body() == body
        assert caplog.records == []

    @pytest.mark.parametrize("place", ["whole", "behind a middleware"])
    def test_chunks_of_two_tasks_do_not_mix(self, wire: MemoryWire, place: str) -> None:
        served: Served
        left = 2

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            async def write(letter: bytes) -> None:
                nonlocal left
                body = letter * 150 * KIB
                await send({"type": BODY, "body": body, "more_body": True})
                left -= 1

            await send(START)
            served.runtime.spawn(write, b"a")
            served.runtime.spawn(write, b"b")
            while left:
                await served.runtime.sleep(1)
            await send({"type": BODY})

        served = Served(wire, app, place)
        served.stall()
        served.ask()
        served.go_on()
        served.runtime.advance(2)
        assert served.body() == b"a" * 150 * KIB + b"b" * 150 * KIB

    @pytest.mark.parametrize("place", ["whole", "behind a middleware"])
    def test_a_client_that_is_gone_is_an_error_of_send(
        self, wire: MemoryWire, place: str
    ) -> None:
        seen: list[object] = []

        served: Served

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await send(START)
            await send({"type": BODY, "body": b"-", "more_body": True})
            served.stall()
            for _ in range(2):
                try:
                    event = {"type": BODY, "body": bytes(200 * KIB), "more_body": True}
                    await send(event)
                except OSError as error:
                    seen.append(str(error))
            seen.append((await receive())["type"])

        served = Served(wire, app, place)
        served.ask()
        assert seen == []
        served.client.lose()
        served.runtime.advance(0)
        assert seen == ["the client is gone"] * 2 + ["http.disconnect"]
        assert not any(task.cancelled for task in served.runtime.tasks)

    @pytest.mark.parametrize("place", ["whole", "behind a middleware"])
    def test_an_endless_answer_to_head_lets_others_run_and_ends_with_the_client(
        self, place: str
    ) -> None:
        seen: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await send(START)
            try:
                while True:
                    await send({"type": BODY, "body": b"x", "more_body": True})
            except OSError as error:
                seen.append(str(error))

        served = Served("http/1.1", app, place)
        served.ask(method="HEAD")
        head = served.client.take()
        assert head.startswith(b"HTTP/1.1 200 ")
        assert head.endswith(b"\r\n\r\n")
        served.client.lose()
        served.runtime.advance(1)
        assert seen == ["the client is gone"]


class TestFields:
    def test_an_apps_list_stays_its_own(self) -> None:
        fields = [(b"X-A", b" 1 ")]
        for _ in range(2):
            checked = checked_fields(fields)
            assert checked == ((b"x-a", b"1"),)
        fields.append((b"x-c", b"3"))
        assert checked_fields(fields) == ((b"x-a", b"1"), (b"x-c", b"3"))

    @pytest.mark.parametrize(
        "fields",
        [
            [[b"x-a", b"1"]],
            [(b"x-a", bytearray(b"1"))],
            iter([(bytearray(b"X-A"), b"1")]),
        ],
    )
    def test_pairs_of_other_types(self, fields: Any) -> None:
        assert checked_fields(fields) == ((b"x-a", b"1"),)

    @pytest.mark.parametrize("name", [b"Set-Cookie", b"WWW-Authenticate"])
    def test_secrets_are_not_kept(self, name: bytes) -> None:
        checked_fields([(name, b"a secret")])
        assert b"a secret" not in repr(app_fields._known).encode()

    def test_what_is_kept_is_bounded(self) -> None:
        for number in range(3000):
            checked_fields([(b"x-number", b"%d" % number)])
        checked_fields([(b"x-large", bytes(b"x" * 100_000))])
        assert len(app_fields._known) <= 256
        assert all(len(repr(key)) < 4000 for key in app_fields._known)

    def test_a_field_that_cannot_be_sent_is_an_error_every_time(self) -> None:
        for _ in range(2):
            with pytest.raises(ValueError, match="CR, LF or NUL"):
                checked_fields([(b"x", b"a\r\nb")])
