"""``Response`` and ``into_response``: the table of what a handler may return."""

from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus
from typing import Any

import pytest

from tako.errors import HttpError
from tako.http.headers import Headers
from tako.http.method import Method
from tako.http.response import (
    Responder,
    Response,
    error_response,
    into_response,
    reason_phrase,
)
from tako.http.response_facts import fields_of


TEXT = [("content-type", "text/plain; charset=utf-8")]
JSON = [("content-type", "application/json")]


async def chunks() -> AsyncIterator[bytes]:
    yield b"x"


class Teapot:
    def into_response(self) -> Response:
        return Response(418, body="short and stout")


class TeapotError(Teapot, Exception):
    pass


class Nonsense:
    def into_response(self) -> int:
        return 200


def summary(value: object) -> tuple[int, list[tuple[str, str]], Any]:
    response = into_response(value)
    return response.status, response.headers.items(), response.body


# Response


def test_the_default_response_is_an_empty_200() -> None:
    response = Response()
    assert (response.status, response.headers.items()) == (200, [])
    assert response.body == b""
    assert response.trailers is None


def test_text_gets_a_content_type_unless_there_is_one() -> None:
    assert Response(body="ä").headers.items() == TEXT
    assert Response(body="ä").body == "ä".encode()
    response = Response(200, {"Content-Type": "text/html"}, "<p>")
    assert response.headers.items() == [("content-type", "text/html")]


@pytest.mark.parametrize("body", [b"x", bytearray(b"x"), memoryview(b"x")])
def test_bytes_are_sent_without_a_content_type(body: Any) -> None:
    response = Response(body=body)
    assert response.body == b"x"
    assert type(response.body) is bytes
    assert not response.headers


def test_iterables_are_kept_for_streaming() -> None:
    stream = chunks()
    assert Response(body=stream).body is stream
    pieces = [b"a", b"b"]
    assert Response(body=pieces).body is pieces


@pytest.mark.parametrize("body", [{"a": 1}, 5, None, 1.5])
def test_a_body_of_another_type_is_refused(body: Any) -> None:
    with pytest.raises(TypeError, match="is not a response body"):
        Response(body=body)


@pytest.mark.parametrize("status", [0, 99, 1000, -200, True])
def test_a_status_has_three_digits(status: int) -> None:
    with pytest.raises(ValueError, match="three digits"):
        Response(status)


def test_a_status_may_be_an_http_status_and_reads_as_an_int() -> None:
    response = Response(HTTPStatus.CREATED)
    assert response.status == 201
    assert type(response.status) is int


@pytest.mark.parametrize("value", ["a\r\nset-cookie: x=1", "a\0", "\n"])
def test_a_header_that_would_split_the_response_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Response(200, {"x": value})


def test_headers_are_copied() -> None:
    headers = Headers({"a": "1"})
    Response(200, headers).headers.add("b", "2")
    assert headers.items() == [("a", "1")]
    empty = Headers()
    Response(200, empty).headers.add("b", "2")
    assert not empty


def test_json_is_compact_utf_8() -> None:
    response = Response.json({"a": ["ä", None]}, 201, {"x": "1"})
    assert response.body == '{"a":["ä",null]}'.encode()
    assert response.status == 201
    assert response.headers.items() == [("x", "1"), *JSON]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "not JSON compliant"),
        (float("inf"), "not JSON compliant"),
        ("\ud800", "surrogates not allowed"),
    ],
)
def test_json_that_no_client_could_read_is_a_value_error(
    value: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Response.json([value])


def test_repr_shows_status_and_headers() -> None:
    assert repr(Response(404, {"a": "b"})) == "Response(404, [('a', 'b')])"


def test_responses_have_no_dict() -> None:
    assert not hasattr(Response(), "__dict__")


# into_response


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, (200, [], b"")),
        ("hi", (200, TEXT, b"hi")),
        (Method.GET, (200, TEXT, b"GET")),
        (b"hi", (200, [], b"hi")),
        (bytearray(b"hi"), (200, [], b"hi")),
        (memoryview(b"hi"), (200, [], b"hi")),
        ({"a": 1}, (200, JSON, b'{"a":1}')),
        ([1, 2], (200, JSON, b"[1,2]")),
        (204, (204, [], b"")),
        (HTTPStatus.GONE, (410, [], b"")),
        (Headers({"a": "b"}), (200, [("a", "b")], b"")),
        ((201, "hi"), (201, TEXT, b"hi")),
        ((201, {"a": 1}), (201, JSON, b'{"a":1}')),
        ((201, None), (201, [], b"")),
        ((HTTPStatus.CREATED, b"x"), (201, [], b"x")),
        ((201, Headers({"a": "b"})), (201, [("a", "b")], b"")),
        ((201, {"a": "b"}, "hi"), (201, [*TEXT, ("a", "b")], b"hi")),
        ((201, [("a", "1"), ("a", "2")], b""), (201, [("a", "1"), ("a", "2")], b"")),
        (
            (201, {"Content-Type": "text/html"}, "hi"),
            (201, [("content-type", "text/html")], b"hi"),
        ),
        ((404, "Not Found"), (404, TEXT, b"Not Found")),
        (Teapot(), (418, TEXT, b"short and stout")),
        (TeapotError(), (418, TEXT, b"short and stout")),
        ((200, Teapot()), (200, TEXT, b"short and stout")),
        (HttpError(403, "no"), (403, TEXT, b"no")),
        (ValueError("secret"), (500, TEXT, b"Internal Server Error")),
    ],
)
def test_what_a_handler_returns_becomes(value: object, expected: object) -> None:
    assert summary(value) == expected


def test_a_response_is_itself() -> None:
    response = Response()
    assert into_response(response) is response
    assert response.into_response() is response

    class Special(Response):
        pass

    special = Special()
    assert into_response(special) is special


def test_iterators_are_streamed() -> None:
    stream = chunks()
    assert into_response(stream).body is stream

    def generator() -> Iterator[bytes]:
        yield b"x"

    plain = generator()
    assert into_response(plain).body is plain
    assert into_response((206, stream)).status == 206


@pytest.mark.parametrize(
    "value",
    [
        True,
        1.5,
        object(),
        {1, 2},
        (),
        (200,),
        ("200", "x"),
        (200, {}, "x", "y"),
        (200, object()),
        Nonsense(),
        Teapot,
    ],
)
def test_anything_else_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        into_response(value)


@pytest.mark.parametrize("status", [99, True])
def test_a_status_out_of_range_is_a_value_error(status: int) -> None:
    with pytest.raises(ValueError, match="three digits"):
        into_response((status, "x"))


def test_an_object_that_json_has_no_form_for_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        into_response({"a": object()})


def test_every_way_to_answer_is_a_responder() -> None:
    assert isinstance(Teapot(), Responder)
    assert isinstance(Response(), Responder)
    assert not isinstance("x", Responder)


# Errors


def test_an_http_error_is_answered_with_its_status_detail_and_headers() -> None:
    response = error_response(HttpError(401, "who?", (("www-authenticate", "Basic"),)))
    assert (response.status, response.body) == (401, b"who?")
    assert response.headers["www-authenticate"] == "Basic"


def test_an_http_error_without_detail_says_its_reason_phrase() -> None:
    assert error_response(HttpError(418)).body == b"I'm a Teapot"
    assert error_response(HttpError(499)).body == b""


def test_the_text_of_another_exception_is_not_sent() -> None:
    response = error_response(KeyError("secret"))
    assert (response.status, response.body) == (500, b"Internal Server Error")


def test_reason_phrases() -> None:
    assert reason_phrase(404) == "Not Found"
    assert reason_phrase(499) == ""


def test_the_fields_of_a_response_are_those_of_its_headers() -> None:
    for response in (Response(), Response(200, (), "text"), Response(200, {"a": "b"})):
        fields = fields_of(response)
        assert response.headers.raw is fields
        response.headers.add("x", "1")
        assert fields_of(response) is fields
        assert fields[-1] == (b"x", b"1")


def test_headers_can_be_replaced() -> None:
    response = Response(200, (), "text")
    response.headers = headers = Headers({"x": "1"})
    assert response.headers is headers
    assert fields_of(response) is headers.raw
