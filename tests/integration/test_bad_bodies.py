"""Bodies that are not what they should be: an error, and the connection goes on."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tako import Request, Router
from tako.testing import Serve
from tako.testing.peer import PeerConnection


LIMIT = 1000
FRONTIER = "multipart/form-data; boundary=frontier"
FIELD = b'--frontier\r\nContent-Disposition: form-data; name="a"\r\n\r\n1'
FORM = FIELD + b"\r\n--frontier--\r\n"
URLENCODED = "application/x-www-form-urlencoded"


def _router() -> Router:
    router = Router().use_problem_json()

    async def as_json(request: Request) -> dict[str, Any]:
        return {"read": await request.json(limit=LIMIT)}

    async def as_text(request: Request) -> dict[str, Any]:
        return {"read": await request.text(limit=LIMIT)}

    async def as_form(request: Request) -> dict[str, Any]:
        return {"read": await request.form(limit=LIMIT)}

    async def as_multipart(request: Request) -> dict[str, Any]:
        parts = await request.multipart(limit=LIMIT, part_limit=500, max_parts=3)
        return {"read": {part.name: await part.text() async for part in parts}}

    router.post("/json", as_json)
    router.post("/text", as_text)
    router.post("/form", as_form)
    router.post("/multipart", as_multipart)
    return router


GOOD = [
    ("/json", "application/json", b'{"a": "1"}', {"a": "1"}),
    ("/text", "text/plain; charset=iso-8859-1", b"\xe9", "\u00e9"),
    ("/form", URLENCODED, b"a=1", {"a": "1"}),
    ("/multipart", FRONTIER, FORM, {"a": "1"}),
]
BAD = [
    pytest.param("/json", "application/json", b'{"a": ', 400, id="truncated JSON"),
    pytest.param("/json", "application/json", b"", 400, id="no JSON"),
    pytest.param("/json", "application/json", b"[NaN]", 400, id="JSON with NaN"),
    pytest.param("/json", "application/json", b"\xff", 400, id="JSON not in UTF-8"),
    pytest.param("/json", "application/json", b"[" * 900, 400, id="deep JSON"),
    pytest.param("/json", "text/plain", b"{}", 400, id="JSON of another type"),
    pytest.param("/json", "application/json", b"1" * 1001, 413, id="large JSON"),
    pytest.param("/text", "text/plain", b"\xff", 400, id="text not in UTF-8"),
    pytest.param("/text", "text/plain; charset=zip", b"", 400, id="unknown charset"),
    pytest.param("/text", "text/plain", b"x" * 1001, 413, id="large text"),
    pytest.param("/form", "text/plain", b"a=1", 400, id="form of another type"),
    pytest.param("/form", URLENCODED, b"a=%ff", 400, id="form not in UTF-8"),
    pytest.param("/form", URLENCODED, b"a&" * 501, 413, id="large form"),
    pytest.param("/multipart", "text/plain", FORM, 415, id="multipart of another type"),
    pytest.param("/multipart", "multipart/form-data", FORM, 400, id="no boundary"),
    pytest.param("/multipart", FRONTIER, FIELD, 400, id="truncated multipart"),
    pytest.param("/multipart", FRONTIER, b"", 400, id="no multipart"),
    pytest.param("/multipart", FRONTIER, b"nonsense", 400, id="malformed multipart"),
    pytest.param(
        "/multipart",
        FRONTIER,
        FORM.replace(b"form-data", b"attachment"),
        400,
        id="part of no form",
    ),
    pytest.param("/multipart", FRONTIER, FORM * 20, 413, id="large multipart"),
    pytest.param(
        "/multipart", FRONTIER, FIELD + b"1" * 500 + FORM[-15:], 413, id="large part"
    ),
    pytest.param(
        "/multipart", FRONTIER, (FIELD + b"\r\n") * 4 + FORM, 413, id="many parts"
    ),
]


def _good_requests_still_work(connection: PeerConnection) -> None:
    for path, kind, body, read in GOOD:
        response = connection.request("POST", path, [("Content-Type", kind)], body)
        assert response.status == 200, path
        assert json.loads(response.body) == {"read": read}


def _chunks(body: bytes) -> Iterator[bytes]:
    for at in range(0, len(body), 300):
        yield body[at : at + 300]


@pytest.mark.parametrize("streamed", [False, True], ids=["length", "chunks"])
@pytest.mark.parametrize(("path", "kind", "body", "status"), BAD)
def test_a_bad_body_has_its_problem_and_the_connection_goes_on(
    tako_serve: Serve, path: str, kind: str, body: bytes, status: int, *, streamed: bool
) -> None:
    pytest.importorskip("multipart")
    with tako_serve(_router()).connection() as connection:
        sent = _chunks(body) if streamed else body
        response = connection.request("POST", path, [("Content-Type", kind)], sent)
        assert response.status == status
        assert response.header("content-type") == "application/problem+json"
        problem = json.loads(response.body)
        assert problem["status"] == status
        assert set(problem) == {"status", "title"}
        _good_requests_still_work(connection)
