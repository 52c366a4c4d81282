"""Multipart forms: RFC 7578, read as they arrive."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tako.errors import ConfigError, HttpError
from tako.http.headers import Headers
from tako.http.multipart import Part
from tako.http.request import Request
from tests.support.wire import FakeRuntime


pytest.importorskip("multipart")

BOUNDARY = "----b0undary"
KIND = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
FIELD = ('Content-Disposition: form-data; name="a"', b"1")
FILE = (
    (
        'Content-Disposition: form-data; name="f"; filename="\u00e9.txt"\r\n'
        "Content-Type: text/plain; charset=iso-8859-1"
    ),
    b"\xe9\r\n--not the boundary\r\n",
)


def form(*parts: tuple[str, bytes]) -> bytes:
    """Return the body of a form."""
    delimiter = b"--" + BOUNDARY.encode()
    body = b"".join(
        delimiter + b"\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"
        for head, data in parts
    )
    return body + delimiter + b"--\r\n"


class Chunks:
    """A body that counts how much of it was asked for."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)

    async def next_chunk(self) -> bytes:
        return self.chunks.pop(0) if self.chunks else b""


def posted(*chunks: bytes, headers: Any = KIND) -> Request:
    return Request("POST", "/", Headers(headers), body_reader=Chunks(*chunks))


def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async def main() -> Any:
        return await function(*args)

    return FakeRuntime().run(main)


async def read(request: Request, **limits: Any) -> list[tuple[Part, bytes]]:
    parts = await request.multipart(**limits)
    return [(part, await part.read()) async for part in parts]


def failure(request: Request, **limits: Any) -> tuple[int, str]:
    async def main() -> None:
        await read(request, **limits)

    with pytest.raises(HttpError) as caught:
        run(main)
    return caught.value.status, caught.value.detail


MALFORMED = (400, "Malformed multipart form")


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_parts_are_the_same_however_the_body_is_cut(size: int) -> None:
    body = form(FIELD, FILE)
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    (field, value), (file, data) = run(read, posted(*pieces))
    assert (field.name, field.filename, field.content_type) == ("a", None, "text/plain")
    assert value == b"1"
    assert (file.name, file.filename) == ("f", "\u00e9.txt")
    assert file.content_type == "text/plain; charset=iso-8859-1"
    assert data == FILE[1]


def test_the_text_of_a_part_has_its_own_charset() -> None:
    async def main() -> list[str]:
        parts = await posted(form(FIELD, FILE)).multipart()
        return [await part.text() async for part in parts]

    assert run(main) == ["1", "\u00e9\r\n--not the boundary\r\n"]


def test_a_part_that_is_no_text_is_400() -> None:
    async def main() -> None:
        async for part in await posted(form((FIELD[0], b"\xff"))).multipart():
            await part.text()

    with pytest.raises(HttpError, match="Failed to decode text") as caught:
        run(main)
    assert caught.value.status == 400


def test_a_form_without_parts_is_a_form() -> None:
    assert run(read, posted(form())) == []


def test_data_is_had_before_the_rest_of_the_body_has_come() -> None:
    body = Chunks(form((FIELD[0], b"x" * 100))[:-60], b"never asked for")
    request = Request("POST", "/", Headers(KIND), body_reader=body)

    async def main() -> bytes:
        part = await anext(await request.multipart())
        return await anext(part)

    data = run(main)
    assert data
    assert set(data) == {ord("x")}
    assert body.chunks == [b"never asked for"]


def test_what_is_not_read_of_a_part_is_skipped() -> None:
    async def main() -> list[str]:
        parts = await posted(form(FILE, FIELD, FILE)).multipart()
        return [part.name async for part in parts]

    assert run(main) == ["f", "a", "f"]


def test_a_part_that_was_passed_cannot_be_read_any_more() -> None:
    async def main() -> None:
        parts = [part async for part in await posted(form(FIELD, FILE)).multipart()]
        await parts[0].read()

    with pytest.raises(RuntimeError, match="was passed"):
        run(main)


def test_a_part_that_was_read_is_empty_afterwards() -> None:
    async def main() -> list[bytes]:
        parts = await posted(form(FIELD, FILE)).multipart()
        part = await anext(parts)
        data = [await part.read(), await part.read()]
        await anext(parts)
        return [*data, await part.read()]

    assert run(main) == [b"1", b"", b""]


def test_a_body_that_was_kept_is_a_form_as_well() -> None:
    async def main() -> list[str]:
        request = posted(form(FIELD))
        await request.body()
        return [part.name async for part in await request.multipart()]

    assert run(main) == ["a"]


def test_the_body_can_be_taken_once() -> None:
    async def main() -> None:
        request = posted(form(FIELD))
        await request.multipart()
        await request.body()

    with pytest.raises(RuntimeError, match="was read before"):
        run(main)


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "multipart/mixed; boundary=x", "application/json"]
)
def test_another_content_type_is_415(kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    detail = "Invalid content type; expected multipart/form-data"
    assert failure(posted(b"", headers=headers)) == (415, detail)


@pytest.mark.parametrize("boundary", ["", "; boundary=", f"; boundary={'x' * 71}"])
def test_a_boundary_that_rfc_2046_does_not_allow_is_400(boundary: str) -> None:
    headers = {"content-type": "multipart/form-data" + boundary}
    assert failure(posted(form(FIELD), headers=headers)) == MALFORMED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--",
        b"not multipart at all",
        form(FIELD)[:-4],  # without the dashes of the end
        form(FIELD)[:-40],
        form(FIELD).replace(b"\r\n", b"\n"),
        form(("X-Nothing: 1", b"")),
        form(("Content-Disposition: attachment; name=a", b"")),
        form(("no colon", b"")),
        form(('Content-Disposition: form-data; name="a"\r\nX: \x00', b"")),
        form(('Content-Disposition: form-data; name="a"\r\nContent-Length: 9', b"1")),
        form(FIELD).replace(b'name="a"', b'name="\xff"'),
    ],
)
def test_what_is_no_form_is_400(body: bytes) -> None:
    assert failure(posted(body)) == MALFORMED


def test_a_declared_length_above_the_limit_is_413_before_anything_is_read() -> None:
    body = Chunks(form(FIELD))
    headers = KIND | {"content-length": "1000"}
    request = Request("POST", "/", Headers(headers), body_reader=body)
    assert failure(request, limit=999)[0] == 413
    assert len(body.chunks) == 1


@pytest.mark.parametrize(
    "limits",
    [{"limit": 100}, {"part_limit": 9}, {"max_parts": 1}],
    ids=["body", "part", "parts"],
)
def test_more_than_a_limit_is_413(limits: dict[str, int]) -> None:
    body = form(FIELD, (FIELD[0], b"1234567890"))
    assert failure(posted(body), **limits)[0] == 413


def test_exactly_the_limits_is_accepted() -> None:
    body = form(FIELD, (FIELD[0], b"1234567890"))
    request = posted(body)

    async def main() -> int:
        limits = {"limit": len(body), "part_limit": 10, "max_parts": 2}
        return len(await read(request, **limits))

    assert run(main) == 2


def test_the_limit_of_a_single_read_is_413() -> None:
    async def main() -> None:
        async for part in await posted(form((FIELD[0], b"123"))).multipart():
            await part.read(limit=2)

    with pytest.raises(HttpError) as caught:
        run(main)
    assert caught.value.status == 413


@pytest.mark.parametrize(
    "head", ["X: " + "y" * 9000, "\r\n".join(f"X-{n}: 1" for n in range(20))]
)
def test_headers_of_a_part_are_limited(head: str) -> None:
    assert failure(posted(form((f"{FIELD[0]}\r\n{head}", b""))))[0] == 413


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "multipart", None)
    with pytest.raises(ConfigError, match=r"tako-server\[multipart\]"):
        run(posted(form(FIELD)).multipart)
