"""Middleware: order, short circuits, and exceptions that become answers."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tako.core.on_fault import OnFault
from tako.errors import Disconnected, HttpError, RemoteProtocolError
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.middleware import Innermost, Middleware, Next, as_middleware, chain
from tests.support.wire import Cancelled, FakeRuntime


def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async def main() -> Any:
        return await function(*args)

    return FakeRuntime().run(main)


SECRET = "secret"


class Trace:
    """Middlewares that write down when they are entered and left."""

    def __init__(self) -> None:
        self.steps: list[str] = []

    def __call__(self, name: str) -> Middleware:
        async def mw(request: Request, call_next: Next) -> Response:
            self.steps.append(f"{name}>")
            response = await call_next(request)
            self.steps.append(f"<{name}")
            return response

        return mw

    def handler(self, _: Request) -> str:
        self.steps.append("handler")
        return "ok"


def test_middlewares_run_outside_in() -> None:
    trace = Trace()
    response = run(chain([trace("a"), trace("b")], trace.handler), Request.build())
    assert trace.steps == ["a>", "b>", "handler", "<b", "<a"]
    assert response.body == b"ok"


def test_what_an_outer_one_attaches_is_visible_inside() -> None:
    async def outer(request: Request, call_next: Next) -> Response:
        request.extensions.insert("mark")
        return await call_next.run(request)

    assert run(chain([outer], lambda r: r.extensions[str]), Request.build()).body == (
        b"mark"
    )


def test_not_calling_next_is_an_answer_of_any_form() -> None:
    async def closed(request: Request, call_next: Next) -> tuple[int, str]:
        return 503, "closed"

    trace = Trace()
    response = run(chain([trace("a"), closed], trace.handler), Request.build())
    assert (response.status, response.body) == (503, b"closed")
    assert trace.steps == ["a>", "<a"]


def test_next_may_be_called_again_with_another_request() -> None:
    async def twice(request: Request, call_next: Next) -> list[str]:
        first = await call_next(request)
        second = await call_next(Request.build(path="/other"))
        return [str(first.body), str(second.body)]

    response = run(chain([twice], lambda r: r.path), Request.build(path="/one"))
    assert response.body == b"""["b'/one'","b'/other'"]"""


def test_an_object_can_make_its_middleware() -> None:
    class Stamp:
        def into_middleware(self) -> Middleware:
            async def stamp(request: Request, call_next: Next) -> Response:
                response = await call_next(request)
                response.headers.set("x-stamp", "1")
                return response

            return stamp

    stamp = as_middleware(Stamp())
    response = run(chain([stamp], lambda _: "x"), Request.build())
    assert response.headers["x-stamp"] == "1"


@pytest.mark.parametrize("value", [None, "x", 5])
def test_what_is_no_middleware_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="is not a middleware"):
        as_middleware(value)


def test_a_middleware_sees_the_answer_to_an_exception_of_the_handler() -> None:
    def handler(_: Request) -> str:
        raise HttpError(403, "no")

    seen: list[int] = []

    async def outer(request: Request, call_next: Next) -> Response:
        response = await call_next(request)
        seen.append(response.status)
        return response

    assert run(chain([outer], handler), Request.build()).status == 403
    assert seen == [403]


def test_an_exception_of_a_middleware_is_a_500_for_those_around_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def broken(request: Request, call_next: Next) -> Response:
        await call_next(request)
        raise LookupError(SECRET)

    trace = Trace()
    response = run(chain([trace("a"), broken], trace.handler), Request.build())
    assert trace.steps == ["a>", "handler", "<a"]
    assert (response.status, response.body) == (500, b"Internal Server Error")
    assert "secret" in caplog.text


def test_a_middleware_that_is_not_async_is_a_500() -> None:
    def forgotten(request: Request, call_next: Next) -> Any:
        return Response()

    assert run(chain([forgotten], lambda _: None), Request.build()).status == 500


# The boundary around a handler


def failing(error: BaseException) -> Innermost:
    async def handler(_: Request) -> None:
        raise error

    return Innermost(handler)


def test_an_unexpected_exception_is_logged_and_not_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    response = run(failing(KeyError("secret")), Request.build("POST", "/x"))
    assert (response.status, response.body) == (500, b"Internal Server Error")
    assert b"secret" not in repr(response.headers).encode()
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tako.router", logging.ERROR)
    assert record.getMessage() == "POST /x: handler failed"
    assert record.exc_info is not None
    assert record.exc_info[0] is KeyError


def test_who_asked_is_told_of_what_was_not_expected() -> None:
    told: list[BaseException] = []
    error = LookupError(SECRET)
    for each in (error, HttpError(503), Disconnected()):
        run(failing(each), Request.build(extensions=[OnFault(told.append)]))
    assert told == [error]


def test_an_http_error_is_its_own_answer_and_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    error = HttpError(429, "slow down", (("retry-after", "5"),))
    response = run(failing(error), Request.build())
    assert (response.status, response.body) == (429, b"slow down")
    assert response.headers["retry-after"] == "5"
    assert not caplog.records


def test_an_exception_may_know_its_response() -> None:
    class QuotaError(Exception):
        def into_response(self) -> Response:
            return Response(402, body="pay")

    assert run(failing(QuotaError()), Request.build()).status == 402


def test_an_exception_whose_response_fails_is_a_500(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class BrokenError(Exception):
        def into_response(self) -> Response:
            raise ZeroDivisionError

    response = run(failing(BrokenError()), Request.build())
    assert (response.status, response.body) == (500, b"Internal Server Error")
    assert "ZeroDivisionError" in caplog.text
    assert "BrokenError" in caplog.text


def test_an_http_error_with_a_header_that_cannot_be_sent_is_a_500() -> None:
    error = HttpError(400, "x", (("x", "a\r\nb: c"),))
    assert run(failing(error), Request.build()).status == 500


def test_a_client_that_is_gone_is_no_error_of_ours(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    assert run(failing(Disconnected()), Request.build()).status == 499
    assert not caplog.records


def test_a_body_that_breaks_its_framing_is_a_400() -> None:
    response = run(failing(RemoteProtocolError("chunk size")), Request.build())
    assert (response.status, response.body) == (400, b"Bad Request")


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), SystemExit()])
def test_what_is_no_exception_passes_through(error: BaseException) -> None:
    endpoint = failing(error)

    async def mw(request: Request, call_next: Next) -> Response:
        return await call_next(request)

    async def main() -> str:
        with pytest.raises(type(error)) as caught:
            await chain([mw], endpoint)(Request.build())
        return "passed" if caught.value is error else "another one"

    assert FakeRuntime().run(main) == "passed"


def test_a_value_that_is_no_answer_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    assert run(Innermost(lambda _: object()), Request.build()).status == 500
    assert "a handler cannot return object" in caplog.text


def test_any_awaitable_is_awaited() -> None:
    class Later:
        def __await__(self) -> Any:
            return "later"
            yield

    assert run(Innermost(lambda _: Later()), Request.build()).body == b"later"
