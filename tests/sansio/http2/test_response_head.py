"""Heads of responses (RFC 9113 §8.3.2): what is kept says what a fresh one would."""

from collections.abc import Callable
from typing import TypeAlias

import pytest
from hypothesis import given, strategies as st

from tako.errors import LocalProtocolError
from tako.h2 import response_head as module
from tako.h2.hpack import encode
from tako.h2.response_head import encoded_head, response_head, tunnel_head
from tako.http.date import HttpDate
from tako.http.headers import RawHeader
from tako.http.response_fields import read_fields


NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT
NAMES = [b"content-type", b"etag", b"x-tako", b"set-cookie", b"date", b"connection"]


def fields() -> st.SearchStrategy[list[RawHeader]]:
    values = st.sampled_from([b"", b"text/plain", b"close", b"x" * 600, b"no\nvalue"])
    others = st.tuples(st.sampled_from([*NAMES, b"content-length", b"Bad"]), values)
    length = st.tuples(st.just(b"content-length"), st.sampled_from([b"0", b"12", b"x"]))
    return st.lists(others | length, max_size=4)


Outcome: TypeAlias = tuple[bytes, int | None] | str


def fresh(status: int, headers: list[RawHeader]) -> tuple[bytes, int | None]:
    said = read_fields(status, headers)
    return encode(response_head(status, said)), said.length


def outcome(
    head: Callable[[int, list[RawHeader]], tuple[bytes, int | None]],
    status: int,
    headers: list[RawHeader],
) -> Outcome:
    try:
        return head(status, headers)
    except LocalProtocolError as error:
        return str(error)


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "http_date", HttpDate(lambda: NOW))


@given(st.lists(st.tuples(st.sampled_from([200, 204, 205, 304, 404]), fields())))
def test_a_kept_block_is_equal_to_a_fresh_one(
    several: list[tuple[int, list[RawHeader]]],
) -> None:
    for status, headers in [*several, *several]:
        found = outcome(encoded_head, status, list(headers))
        assert found == outcome(fresh, status, headers)


def test_the_date_is_that_of_the_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = encoded_head(200, [(b"x-tako", b"1")])
    monkeypatch.setattr(module, "http_date", HttpDate(lambda: NOW + 1))
    second, _ = encoded_head(200, [(b"x-tako", b"1")])
    assert b"08:49:37" in first
    assert second == first.replace(b"08:49:37", b"08:49:38")


@pytest.mark.parametrize(
    "field",
    [
        (b"set-cookie", b"secret"),
        (b"www-authenticate", b"Negotiate secret"),
        (b"x-large", b"x" * 600),
        (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
    ],
)
def test_what_is_secret_or_large_is_not_kept(field: RawHeader) -> None:
    module._kept.clear()
    encoded_head(200, [(b"x-tako", b"1"), field])
    assert not module._kept.heads


def test_what_is_kept_is_bounded() -> None:
    for number in range(1000):
        encoded_head(200, [(b"etag", b"%d" % number)])
        assert len(module._kept.heads) <= 256


@pytest.mark.parametrize("status", [101, 200, 204])
def test_a_tunnel_without_fields_begins_with_a_kept_block(status: int) -> None:
    wire_status = 200 if status == 101 else status  # RFC 9113 §8.6: there is no 101
    for _ in range(2):
        assert tunnel_head(status, []) == fresh(wire_status, [])[0]
