"""Spans and meters, with OpenTelemetry's SDK: the same on every wire and runtime."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from fastapi import FastAPI, WebSocket as FastApiWebSocket
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import Link, SpanKind, StatusCode

import tako
from tako import HttpError, Response, Router, TakoWs, WebSocket
from tako.asgi import AsgiApp
from tako.otel import tracing
from tako.testing import Serve
from tests.support.apps import echo_session, ws_router
from tests.support.server import Reports


TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = ("traceparent", f"00-{TRACE}-{SPAN}-01")


class InMemory(SpanExporter):
    """Keeps spans as they end, for a test that waits for them."""

    def __init__(self) -> None:
        self.ended = Reports()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        for span in spans:
            self.ended.put(span)
        return SpanExportResult.SUCCESS


class Telemetry:
    """An SDK of its own for a test."""

    def __init__(self) -> None:
        self.exporter = InMemory()
        self.tracers = TracerProvider(shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader], shutdown_on_exit=False)
        self.tracer = self.tracers.get_tracer("test")

    def router(self, router: Router | None = None, **options: Any) -> Router:
        router = Router() if router is None else router
        return router.middleware(tracing(self.tracers, self.meters, **options))

    def get(self) -> ReadableSpan:
        span: ReadableSpan = self.exporter.ended.get()
        return span

    def points(self, name: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in ([] if data is None else data.resource_metrics)
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        ]


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


def version(wire: str) -> str:
    return "2" if wire in {"h2", "h2c"} else "1.1"


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


def test_a_request_is_a_span_below_that_of_its_client(
    tako_serve: Serve, wire: str, telemetry: Telemetry
) -> None:
    seen: list[object] = []

    async def handler() -> tuple[int, str]:
        seen.append(baggage.get_baggage("user"))
        with telemetry.tracer.start_as_current_span("inner"):
            return 201, "made"

    router = telemetry.router()
    router.post("/a/{x}", handler)
    fields = [PARENT, ("tracestate", "a=1"), ("tracestate", "b=2")]
    fields += [("baggage", "x=y"), ("baggage", "user=7"), ("user-agent", "it")]
    with tako_serve(router).connection() as connection:
        connection.request("POST", "/a/1?token=secret", fields)
        inner, span = telemetry.get(), telemetry.get()
    assert (span.name, span.kind) == ("POST /a/{x}", SpanKind.SERVER)
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == SPAN
    assert dict(span.parent.trace_state) == {"a": "1", "b": "2"}
    assert seen == ["7"]
    assert inner.parent is not None
    assert inner.parent.span_id == ids(span)[1]
    found = attributes(span)
    assert isinstance(found.pop("server.port"), int)
    assert found.pop("server.address") in {"127.0.0.1", "localhost"}
    assert found == {
        "http.request.method": "POST",
        "http.route": "/a/{x}",
        "http.response.status_code": 201,
        "url.path": "/a/1",
        "url.scheme": "https" if wire in {"h1s", "h2"} else "http",
        "client.address": "127.0.0.1",
        "network.protocol.version": version(wire),
        "user_agent.original": "it",
    }
    assert span.status.status_code is StatusCode.UNSET


def test_without_a_parent_each_request_has_a_trace_of_its_own(
    tako_serve: Serve, telemetry: Telemetry
) -> None:
    router = telemetry.router(query=True)
    router.get("/", lambda: "hi")
    twice = [PARENT, PARENT]  # W3C Trace Context §3.2: that is none
    with tako_serve(router).connection() as connection:
        connection.request("GET", "/?a=b", twice)
        connection.request("GET", "/none")
        connection.request("BREW", "/")
        spans = [telemetry.get() for _ in range(3)]
    assert [span.parent for span in spans] == [None, None, None]
    assert len({ids(span)[0] for span in spans}) == 3
    assert [span.name for span in spans] == ["GET /", "GET", "HTTP"]
    first, _, other = map(attributes, spans)
    assert first["url.query"] == "a=b"
    assert other["http.request.method"] == "_OTHER"
    assert other["http.request.method_original"] == "BREW"


@pytest.mark.parametrize("wire", ["h1", "h1s"])
def test_a_pipelined_request_is_no_child_of_the_one_before(
    tako_serve: Serve, telemetry: Telemetry
) -> None:
    router = telemetry.router()
    router.get("/", lambda: "hi")
    with tako_serve(router).connection() as connection:
        head = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n"
        connection.socket.send(head * 3)
        spans = [telemetry.get() for _ in range(3)]
    assert [span.parent for span in spans] == [None, None, None]


def test_the_span_ends_with_the_body_and_is_current_in_it(
    tako_serve: Serve, telemetry: Telemetry
) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        with telemetry.tracer.start_as_current_span("in the body"):
            yield b"b"

    router = telemetry.router()
    router.get("/", lambda: Response(200, body=body()))
    with tako_serve(router).connection() as connection:
        assert connection.request("GET", "/").body == b"ab"
        inner, span = telemetry.get(), telemetry.get()
    assert inner.parent is not None
    assert inner.parent.span_id == ids(span)[1]


def test_what_fails_is_recorded(tako_serve: Serve, telemetry: Telemetry) -> None:
    async def raises() -> None:
        msg = "on purpose"
        raise LookupError(msg)

    async def refuses(status: int) -> None:
        raise HttpError(status)

    async def body() -> AsyncIterator[bytes]:
        yield b"a"
        await raises()

    router = telemetry.router()
    router.get("/raises", raises)
    router.get("/503", lambda: refuses(503))
    router.get("/404", lambda: refuses(404))
    router.get("/body", lambda: Response(200, body=body()))
    server = tako_serve(router)
    found = {}
    for path in ("/raises", "/503", "/404", "/body"):
        with server.connection() as connection:
            connection.send_request("GET", path)
            span = telemetry.get()
        found[path] = (
            attributes(span)["http.response.status_code"],
            attributes(span).get("error.type"),
            span.status.status_code.name,
            [(event.attributes or {})["exception.type"] for event in span.events],
        )
    server.expect_error(LookupError)
    server.expect_error(LookupError)
    assert found == {
        "/raises": (500, "LookupError", "ERROR", ["LookupError"]),
        "/503": (503, "503", "ERROR", []),
        "/404": (404, None, "UNSET", []),
        "/body": (200, "LookupError", "ERROR", ["LookupError"]),
    }


def test_two_of_them_around_a_route_make_one_span(
    tako_serve: Serve, telemetry: Telemetry
) -> None:
    child = telemetry.router()
    child.get("/x", lambda: "hi")
    router = telemetry.router().nest("/child", child)
    router.get("/last", lambda: "hi")
    with tako_serve(router).connection() as connection:
        connection.request("GET", "/child/x")
        connection.request("GET", "/last")
        assert telemetry.get().name == "GET /child/x"
        assert telemetry.get().name == "GET /last"


class TestWebSockets:
    def test_a_websocket_is_a_span_at_its_end(
        self, tako_serve: Serve, wire: str, telemetry: Telemetry
    ) -> None:
        router = telemetry.router(ws_router(echo_session))
        router.middleware(tako.access_log())  # has a socket of its own kind
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws?token=secret", headers=[PARENT])
            for message in ("hi", b"\x00" * 1000):
                ws.echo(message)
            assert telemetry.exporter.ended.empty
            ws.close(4000, "bye")
            ws.expect_close()
            span = telemetry.get()
        assert (span.name, span.kind) == ("GET /ws", SpanKind.SERVER)
        assert span.parent is not None
        assert f"{span.parent.trace_id:032x}" == TRACE
        found = attributes(span)
        status = 101 if version(wire) == "1.1" else 200
        assert found["http.response.status_code"] == status
        assert found["network.protocol.version"] == version(wire)
        assert "url.query" not in found
        assert {
            name.removeprefix("tako.websocket."): value
            for name, value in found.items()
            if name.startswith("tako.websocket.")
        } == {
            "close_code": 4000,
            "closed_by": "client",
            "messages_received": 2,
            "messages_sent": 2,
        }
        assert span.status.status_code is StatusCode.UNSET

    def test_a_session_that_fails_is_an_error(
        self, tako_serve: Serve, telemetry: Telemetry
    ) -> None:
        async def session(ws: WebSocket) -> None:
            msg = "on purpose"
            raise LookupError(msg)

        router = telemetry.router(ws_router(session))
        server = tako_serve(router)
        with server.connection() as connection:
            assert connection.websocket("/ws").expect_close()[0] == 1011
            span = telemetry.get()
        server.expect_error(LookupError)
        assert span.status.status_code is StatusCode.ERROR
        assert attributes(span)["error.type"] == "LookupError"
        assert attributes(span)["tako.websocket.close_code"] == 1011
        assert attributes(span)["tako.websocket.closed_by"] == "server"
        assert [event.name for event in span.events] == ["exception"]

    def test_a_span_of_a_message_links_to_that_of_its_websocket(
        self, tako_serve: Serve, telemetry: Telemetry
    ) -> None:
        async def session(ws: WebSocket) -> None:
            links = [Link(trace.get_current_span().get_span_context())]
            for _ in range(2):
                message = await ws.read()
                with telemetry.tracer.start_as_current_span(
                    "message", Context(), links=links
                ):
                    await ws.send(str(message))

        router = telemetry.router(ws_router(session))
        with tako_serve(router).connection() as connection:
            ws = connection.websocket("/ws")
            ws.echo("a")
            ws.echo("b")
            messages = [telemetry.get(), telemetry.get()]
            whole = telemetry.get()
            ws.expect_close()
        for message in messages:
            assert message.parent is None
            (link,) = message.links
            assert (link.context.trace_id, link.context.span_id) == ids(whole)


def test_meters_have_the_requests_and_no_websockets(
    tako_serve: Serve, wire: str, telemetry: Telemetry
) -> None:
    active: list[Any] = []

    async def session(ws: WebSocket) -> None:
        await ws.read()
        active.extend(telemetry.points("http.server.active_requests"))
        await ws.send("looked")

    async def look() -> str:
        active.extend(telemetry.points("http.server.active_requests"))
        return "looked"

    router = telemetry.router()
    router.get("/ws", lambda request: TakoWs(request, session))
    router.get("/{x}", look)
    server = tako_serve(router)
    with server.connection() as connection:
        connection.request("GET", "/1")
    telemetry.get()
    with server.connection() as connection:
        ws = connection.websocket("/ws")
        ws.send("look")
        ws.expect("looked")
        ws.close(1000)
        ws.expect_close()
    telemetry.get()
    assert [point.value for point in active] == [1, 0]
    (point,) = telemetry.points("http.server.request.duration")
    scheme = "https" if wire in {"h1s", "h2"} else "http"
    assert dict(active[0].attributes) == {
        "http.request.method": "GET",
        "url.scheme": scheme,
    }
    assert (point.count, dict(point.attributes)) == (
        1,
        {
            "http.request.method": "GET",
            "url.scheme": scheme,
            "http.response.status_code": 200,
            "http.route": "/{x}",
            "network.protocol.version": version(wire),
        },
    )
    assert len(point.explicit_bounds) == 14


def test_meters_have_what_the_servers_of_the_process_count(
    tako_serve: Serve, wire: str, telemetry: Telemetry
) -> None:
    names = ("tako.connections.opened", "tako.websockets.opened")
    both = ("tako.websocket.messages", "tako.network.io")
    open_ones = ("tako.connections.active", "tako.websockets.active")

    def counted() -> dict[str, int]:
        return {
            f"{name} {point.attributes.get('network.io.direction', '')}": point.value
            for name in names + both + open_ones
            for point in telemetry.points(name)
            if point.attributes["network.protocol.version"] == version(wire)
        }

    looks: list[dict[str, int]] = []

    async def session(ws: WebSocket) -> None:
        await ws.read()
        await ws.send("a")
        await ws.send("b")
        looks.append(counted())

    router = telemetry.router(telemetry.router(ws_router(session)))  # one meter
    before = counted()
    with tako_serve(router).connection() as connection:
        ws = connection.websocket("/ws")
        ws.send("go")
        ws.expect("a")
        ws.expect("b")
        ws.expect_close()
        telemetry.get()
    (after,) = looks
    more = {name: value - before[name] for name, value in after.items()}
    assert more.pop("tako.network.io receive") > 0
    assert more.pop("tako.network.io transmit") > 0
    assert more == {
        "tako.connections.opened ": 1,
        "tako.websockets.opened ": 1,
        "tako.websocket.messages receive": 1,
        "tako.websocket.messages transmit": 2,
        "tako.connections.active ": 1,
        "tako.websockets.active ": 1,
    }


def test_an_instrumented_fastapi_app_makes_no_second_span_of_a_server(
    tako_serve: Serve, telemetry: Telemetry
) -> None:
    app = FastAPI()

    @app.get("/items/{item}")
    async def read(item: str) -> str:
        with telemetry.tracer.start_as_current_span("inner"):
            return item

    @app.websocket("/ws")
    async def echo(ws: FastApiWebSocket) -> None:
        await ws.accept()
        await ws.send_text(await ws.receive_text())
        await ws.close(4002)

    FastAPIInstrumentor.instrument_app(
        app,
        tracer_provider=telemetry.tracers,
        meter_provider=MeterProvider(shutdown_on_exit=False),
        exclude_spans=["receive", "send"],
    )
    router = telemetry.router()
    router.get("/{*rest}", AsgiApp(app, lifespan="off"))
    server = tako_serve(router)
    with server.connection() as connection:
        connection.request("GET", "/items/7", [PARENT])
        found = [telemetry.get() for _ in range(3)]
    with server.connection() as connection:
        ws = connection.websocket("/ws")
        ws.echo("hi")
        assert ws.expect_close()[0] == 4002
        both = [telemetry.get(), telemetry.get()]
    spans = {(span.name, span.kind): span for span in found}
    outer = spans["GET /{*rest}", SpanKind.SERVER]
    apps = spans["GET /items/{item}", SpanKind.INTERNAL]
    inner = spans["inner", SpanKind.INTERNAL]
    assert {ids(span)[0] for span in (outer, apps, inner)} == {int(TRACE, 16)}
    assert apps.parent is not None
    assert apps.parent.span_id == ids(outer)[1]
    assert inner.parent is not None
    assert inner.parent.span_id == ids(apps)[1]
    assert sorted(span.kind.name for span in both) == ["INTERNAL", "SERVER"]
    (socket,) = (span for span in both if span.kind is SpanKind.SERVER)
    assert attributes(socket)["tako.websocket.close_code"] == 4002
