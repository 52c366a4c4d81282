"""Problem documents: RFC 9457."""

import json
from http import HTTPStatus
from typing import Any

import pytest

from tako.http.problem import PROBLEM_JSON, Problem, default_problem_responder
from tako.http.response import Response, into_response


def document(response: Response) -> Any:
    assert isinstance(response.body, bytes)
    return json.loads(response.body)


def test_members_that_are_not_set_are_absent() -> None:
    response = into_response(Problem.from_status(404))
    assert response.status == 404
    assert response.headers.items() == [("content-type", PROBLEM_JSON)]
    assert response.body == b'{"title":"Not Found","status":404}'


def test_all_members_and_extensions() -> None:
    problem = Problem(
        HTTPStatus.FORBIDDEN,
        "You do not have enough credit.",
        type="https://example.com/out-of-credit",
        detail="Your balance is 30.",
        instance="/account/12345",
        extensions={"balance": 30},
    )
    assert document(problem.into_response()) == {
        "type": "https://example.com/out-of-credit",
        "title": "You do not have enough credit.",
        "status": 403,
        "detail": "Your balance is 30.",
        "instance": "/account/12345",
        "balance": 30,
    }


def test_a_problem_of_a_status_takes_what_belongs_to_the_occurrence() -> None:
    problem = Problem.from_status(
        403, detail="no", instance="/x", extensions={"balance": 30}
    )
    assert document(problem.into_response()) == {
        "title": "Forbidden",
        "status": 403,
        "detail": "no",
        "instance": "/x",
        "balance": 30,
    }


def test_extensions_of_one_problem_are_not_those_of_the_next() -> None:
    Problem(400).extensions["x"] = 1
    assert Problem(400).extensions == {}


def test_a_status_without_a_phrase_has_no_title() -> None:
    assert document(Problem.from_status(499).into_response()) == {"status": 499}


@pytest.mark.parametrize("name", ["type", "title", "status", "detail", "instance"])
def test_an_extension_cannot_replace_a_member(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is not an extension"):
        Problem(400, extensions={name: "x"})


@pytest.mark.parametrize("status", [100, 200, 204, 304, 308, 399, 600, 999])
def test_what_is_no_error_is_untouched(status: int) -> None:
    response = Response(status, body="text")
    assert default_problem_responder(response) is response
    assert response.body == b"text"


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/problem+json",
        "Application/JSON; charset=utf-8",
        " application/json ;x=y",
    ],
)
def test_json_passes(content_type: str) -> None:
    response = Response(400, {"content-type": content_type}, b"{}")
    assert default_problem_responder(response) is response


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/jsonp", "text/json", "x; application/json"],
)
def test_other_bodies_are_replaced(content_type: str) -> None:
    response = Response(500, {"content-type": content_type}, b"trace")
    made = default_problem_responder(response)
    assert document(made) == {"title": "Internal Server Error", "status": 500}
    assert made.headers.get_all("content-type") == [PROBLEM_JSON]


def test_an_empty_body_is_replaced_and_other_headers_are_kept() -> None:
    response = Response(
        405,
        [
            ("allow", "GET"),
            ("content-length", "9"),
            ("content-encoding", "gzip"),
            ("x", "1"),
            ("x", "2"),
        ],
    )
    made = default_problem_responder(response)
    assert made.status == 405
    assert made.headers.items() == [
        ("content-type", PROBLEM_JSON),
        ("allow", "GET"),
        ("x", "1"),
        ("x", "2"),
    ]
