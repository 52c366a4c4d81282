"""``request_id``: each request has one, and its response says it."""

import contextvars
import re
from typing import Any

import pytest

from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.request_id import RequestId, current_request_id, request_id
from tako.routing.router import Router
from tests.support.wire import FakeRuntime


def answer(request: Request, **options: Any) -> Response:
    router = Router().middleware(request_id(**options))
    router.get("/", lambda r: r.extensions[RequestId])

    async def main() -> Response:
        return await router.dispatch(request)

    response: Response = FakeRuntime().run(main)
    return response


def test_handler_and_client_see_the_same_id() -> None:
    response = answer(Request.build())
    assert isinstance(response.body, bytes)
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])
    assert response.body.decode() == response.headers["x-request-id"]


def test_an_app_sees_it_as_the_field_of_its_request() -> None:
    sent = Headers([("X-Request-Id", "a"), ("x-request-id", "b")])
    for trust in (False, True):
        request = Request.build(headers=sent)
        response = answer(request, trust=trust)
        own = response.headers["x-request-id"]
        assert request.headers.get_all("x-request-id") == [own]
        assert (own == "a") is trust


def test_what_a_request_calls_can_ask_for_its_id() -> None:
    seen = list[str | None]()

    def note() -> str:
        seen.append(current_request_id())
        return "noted"

    router = Router().middleware(request_id())
    router.get("/", note)

    async def main() -> Response:
        return await router.dispatch(Request.build())

    contexts = [contextvars.Context() for _ in range(2)]
    answers = [each.run(FakeRuntime().run, main) for each in contexts]
    assert seen == [each.headers["x-request-id"] for each in answers]
    assert [each.run(current_request_id) for each in contexts] == seen
    assert contextvars.Context().run(current_request_id) is None


def test_every_request_has_another() -> None:
    seen = {answer(Request.build()).headers["x-request-id"] for _ in range(100)}
    assert len(seen) == 100


def test_an_error_has_one_as_well() -> None:
    response = answer(Request.build(path="/missing"))
    assert response.status == 404
    assert "x-request-id" in response.headers


def test_what_the_client_says_is_not_believed_by_default() -> None:
    sent = Request.build(headers={"x-request-id": "mine"})
    assert answer(sent).headers["x-request-id"] != "mine"


def test_a_trusted_id_is_taken_over() -> None:
    sent = Request.build(headers={"trace": "a-B_1.2/3"})
    response = answer(sent, header="trace", trust=True)
    assert response.headers.get_all("trace") == ["a-B_1.2/3"]


@pytest.mark.parametrize("sent", ["", "a b", 'a"b', "é", "x" * 129, "a;b"])
def test_an_id_that_could_confuse_a_log_is_replaced(sent: str) -> None:
    response = answer(Request.build(headers={"x-request-id": sent}), trust=True)
    assert re.fullmatch("[0-9a-f]{32}", response.headers["x-request-id"])


def test_a_header_that_cannot_be_sent_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="not a header name"):
        request_id("x request id")
