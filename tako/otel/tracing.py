"""``tracing``: middleware that makes a span of each request and each WebSocket.

Theory of operation. The span begins in the middleware and ends with the answer
(``Request.on_end``), which is after every error handler and after the last byte; a
WebSocket's ends with its session. It is made current in the context of the exchange's
task, and is never reset: the body and the session run in that task afterwards.

Invariant: a request that came over a connection has one span, however it ends and
however many of these middlewares are around its route.
"""

from opentelemetry import context, propagate, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider

from tako.core.exchange_of import exchange_of
from tako.core.on_fault import OnFault
from tako.core.seams import Exchange
from tako.core.upgrade import upgrade_of
from tako.http.request import Request
from tako.http.response import Response
from tako.otel.conventions import (
    ERROR,
    ROUTE,
    SCOPE,
    STATUS,
    VERSION,
    Fields,
    described,
    measured,
    name_of,
)
from tako.otel.meters import Meters
from tako.routing.middleware import Middleware, Next
from tako.ws.upgrade import WebSocketUpgrade


_FIELDS = Fields()


class _Faults:
    """What was raised for one request; it refers to nothing of the request."""

    __slots__ = ("_span", "kind")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.kind: str | None = None
        """The type of the first exception; ``None``: there was none."""

    def failed(self, error: BaseException) -> None:
        """Record an exception; those that follow from it are not."""
        if self.kind is None:
            self.kind = type(error).__qualname__
            if self._span.is_recording():  # an app may go on after its answer
                self._span.record_exception(error)


class _Watch:
    """Ends the span of one request; held by its exchange until then."""

    __slots__ = (
        "_active",
        "_exchange",
        "_faults",
        "_measured",
        "_meters",
        "_named",
        "_request",
        "_span",
        "_started",
        "_upgrade",
    )

    def __init__(
        self,
        request: Request,
        exchange: Exchange,
        span: Span,
        faults: _Faults,
        meters: Meters,
    ) -> None:
        self._request = request
        self._exchange = exchange
        self._span = span
        self._faults = faults
        self._meters = meters
        self._measured = measured(request)
        self._named = request.matched_path is not None
        self._started = exchange.connection.time()
        self._upgrade: WebSocketUpgrade | None = None
        self._active = True
        meters.active.add(1, self._measured)

    def answered(self, response: Response) -> None:
        """Take note of the WebSocket, if the answer is one: that is no request."""
        upgrade = upgrade_of(response)
        if isinstance(upgrade, WebSocketUpgrade):
            self._upgrade = upgrade
            self._rest()

    def ended(self, status: int, complete: bool) -> None:
        """End the span, now that the answer has ended."""
        self._rest()
        request, span, upgrade = self._request, self._span, self._upgrade
        route, kind = request.matched_path, self._faults.kind
        failed = status >= 500 or kind is not None
        if kind is None and failed:
            kind = str(status)
        elif kind is None and not complete:
            kind = "incomplete"  # most often the client has left
        outcome: dict[str, str | int] = {STATUS: status}
        if route is not None:
            outcome[ROUTE] = route
        if kind is not None:
            outcome[ERROR] = kind
        code = None if upgrade is None else upgrade.close_code
        if upgrade is None or code is None:  # or another middleware refused it
            seconds = self._exchange.connection.time() - self._started
            self._meters.duration.record(
                seconds, {**self._measured, **outcome, VERSION: request.http_version}
            )
        if span.is_recording():
            if route is not None and not self._named:
                span.update_name(name_of(request, route))
            span.set_attributes(outcome)
            if upgrade is not None and code is not None:
                span.set_attributes(_session(upgrade, code))
            if failed:
                span.set_status(StatusCode.ERROR)
        span.end()

    def _rest(self) -> None:
        if self._active:
            self._active = False
            self._meters.active.add(-1, self._measured)


def _session(upgrade: WebSocketUpgrade, code: int) -> dict[str, str | int]:
    """Return how the session of a WebSocket was."""
    received, sent = upgrade.messages
    found: dict[str, str | int] = {
        "tako.websocket.close_code": code,
        "tako.websocket.messages_received": received,
        "tako.websocket.messages_sent": sent,
    }
    if upgrade.closed_by is not None:
        found["tako.websocket.closed_by"] = upgrade.closed_by
    return found


def tracing(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    propagator: TextMapPropagator | None = None,
    *,
    query: bool = False,
) -> Middleware:
    """Return a middleware with a span for each request, and each WebSocket.

    The span is current in the handler, in the session, in the body of the answer, and
    in tasks that they start. Its parent is what the client's ``traceparent`` names.
    Register it first: then it sees the answers of all others. In a router that another
    server hosts it does nothing: the requests are the host's.

    Args:
        tracer_provider: what makes the spans; ``None``: the global one.
        meter_provider: what makes the meters: ``http.server.request.duration``,
            ``http.server.active_requests``, and what the servers of the process count;
            ``None``: the global one.
        propagator: what reads the parent, and baggage, from the request's fields;
            ``None``: the global one, W3C Trace Context and Baggage by default.
        query: have ``url.query``; that is where browsers put the tokens of WebSockets,
            so it is left out by default.

    Example::

        router.middleware(tako.otel.tracing())
    """
    tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
    meters = Meters(meter_provider)

    async def follow(request: Request, call_next: Next) -> Response:
        exchange = exchange_of(request)
        if exchange is None or _Faults in request.extensions:
            return await call_next(request)
        chosen = propagate.get_global_textmap() if propagator is None else propagator
        # An empty context: what the server was started in is no parent
        parent = chosen.extract(request.headers, context.Context(), _FIELDS)
        peer = (request.conn_info or exchange.connection.conn_info).peer
        attributes = described(request, peer, query=query)
        route = request.matched_path
        if route is not None:
            attributes[ROUTE] = route
        span = tracer.start_span(
            name_of(request, route), parent, SpanKind.SERVER, attributes
        )
        faults = _Faults(span)
        request.extensions.insert(faults)
        request.extensions.insert(OnFault(faults.failed))
        watch = _Watch(request, exchange, span, faults, meters)
        request.on_end(watch.ended)
        context.attach(trace.set_span_in_context(span, parent))
        response = await call_next(request)
        watch.answered(response)
        return response

    return follow
