"""Request bodies: RFC 9112 §6.2 and §7.1."""

import pytest
from hypothesis import given, strategies as st

from tako.config import ServerConfig
from tako.errors import HttpError
from tako.h1.request_body import (
    MAX_CHUNK_LINE,
    MAX_EXTENSIONS,
    MAX_TRAILERS,
    ChunkedBody,
    LengthBody,
)


CONFIG = ServerConfig()


def read(data: bytes, size: int | None = None) -> tuple[bytes, ChunkedBody]:
    body = ChunkedBody(CONFIG)
    payload = b""
    size = size or max(1, len(data))
    for at in range(0, len(data), size):
        if body.complete:
            body.rest += data[at : at + size]
        else:
            payload += body.receive(data[at : at + size])
    return payload, body


def status_of(data: bytes, size: int | None = None) -> int:
    with pytest.raises(HttpError) as caught:
        read(data, size)
    return caught.value.status


# RFC 9112 §6.2: Content-Length


def test_length_body_ends_where_it_was_announced_to() -> None:
    body = LengthBody(5)
    assert body.receive(b"ab") == b"ab"
    assert not body.complete
    assert body.receive(b"cdeGET") == b"cde"
    assert body.complete
    assert body.rest == b"GET"


def test_length_body_hands_a_chunk_on_without_copying_it() -> None:
    data = b"x" * 1000
    assert LengthBody(2000).receive(data) is data


# RFC 9112 §7.1: chunked


@pytest.mark.parametrize("size", [None, 1, 2, 3, 5])
@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", b"abcde"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n00\r\n\r\n", b"0123456789"),
        (b"0000000000000003\r\nabc\r\n0\r\n\r\n", b"abc"),
        (b'3;a=b;c="d e"\r\nabc\r\n0;x\r\n\r\n', b"abc"),
        (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    ],
)
def test_chunked_body_is_read(data: bytes, payload: bytes, size: int | None) -> None:
    got, body = read(data + b"GET", size)
    assert got == payload
    assert body.complete
    assert body.rest == b"GET"


@pytest.mark.parametrize("size", [None, 1, 2, 7])
@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"+1\r\n",
        b"0x3\r\n",
        b" 3\r\n",
        b"3 \r\n",
        b"3 ;a\r\n",
        b"3\n",
        b"3\rabc\r\n",
        b"3;a\n",
        b"3;a\rb\r\n",
        b"3;a\x00\r\n",
        b"3;a\x7f\r\n",
        b"00000000000000003\r\n",
        b"3\r\nabcX",
        b"3\r\nabc\n",
        b"3\r\nabc\rX",
        b"3\r\nabc\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"0\r\nX\r\n\r\n",
        b"0\r\nX : a\r\n\r\n",
        b"0\r\n X: a\r\n\r\n",
        b"0\r\nX: a\n\r\n",
        b"0\r\nX: a\rb\r\n\r\n",
        b"0\r\nX: a\x00\r\n\r\n",
        b"0\r\nX: a\r\n b\r\n\r\n",
        b"0\r\n\n",
        b"0\r\n\rX\r\n",
    ],
)
def test_malformed_chunk_is_refused(data: bytes, size: int | None) -> None:
    assert status_of(data, size) == 400


@pytest.mark.parametrize("size", [None, 1])
def test_chunk_line_is_bounded_before_it_ends(size: int | None) -> None:
    fits = b"0;" + b"a" * (MAX_CHUNK_LINE - 4) + b"\r\n\r\n"
    assert read(fits, size)[1].complete
    assert status_of(fits.replace(b";", b";a"), size) == 400
    assert status_of(b"0;" + b"a" * MAX_CHUNK_LINE, size) == 400


def test_extensions_are_bounded_per_body() -> None:
    chunk = b"1;" + b"a" * 199 + b"\r\nx\r\n"
    allowed = MAX_EXTENSIONS // 200
    assert read(chunk * allowed)[0] == b"x" * allowed
    assert status_of(chunk * (allowed + 1)) == 400


# RFC 9112 §7.1.2: trailers


@pytest.mark.parametrize("size", [None, 1, 4])
def test_trailers_are_kept_apart(size: int | None) -> None:
    payload, body = read(b"1\r\na\r\n0\r\nX-A:  b \r\nX-B:\r\n\r\nGET", size)
    assert payload == b"a"
    assert body.trailers == [(b"x-a", b"b"), (b"x-b", b"")]
    assert body.rest == b"GET"


def test_fields_that_do_not_belong_into_trailers_are_dropped() -> None:
    data = b"0\r\nContent-Length: 5\r\nHost: b\r\nTransfer-Encoding: x\r\nX: y\r\n\r\n"
    assert read(data)[1].trailers == [(b"x", b"y")]


@pytest.mark.parametrize("size", [None, 1])
def test_trailers_are_bounded(size: int | None) -> None:
    assert status_of(b"0\r\n" + b"X: y\r\n" * 101, size) == 431
    assert status_of(b"0\r\nX: " + b"y" * MAX_TRAILERS, size) == 431


@given(
    st.lists(st.binary(min_size=1, max_size=30), max_size=8),
    st.lists(st.integers(1, 20), min_size=1),
)
def test_chunks_do_not_depend_on_how_bytes_arrive(
    chunks: list[bytes], sizes: list[int]
) -> None:
    data = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n\r\n"
    body = ChunkedBody(CONFIG)
    payload = b""
    at = turn = 0
    while at < len(data):
        size = sizes[turn % len(sizes)]
        payload += body.receive(data[at : at + size])
        at += size
        turn += 1
    assert payload == b"".join(chunks)
    assert body.complete


class TestTinyChunks:
    def test_a_flood_of_them_is_refused(self) -> None:
        body = ChunkedBody(ServerConfig())
        with pytest.raises(HttpError, match="small chunks"):
            body.receive(b"1" + b"\r\nx\r\n1" * 70_000)

    def test_one_in_each_read_is_a_client_at_its_leisure(self) -> None:
        body = ChunkedBody(ServerConfig())
        assert body.receive(b"1\r\nx") == b"x"
        for _ in range(70_000):
            body.receive(b"\r\n1\r\nx")
        body.receive(b"\r\n0\r\n\r\n")
        assert body.complete
