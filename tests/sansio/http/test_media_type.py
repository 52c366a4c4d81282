"""Media types, and bodies that are read by them."""

import pytest

from tako.errors import HttpError
from tako.http.headers import Headers
from tako.http.media_type import decode_text, essence, parse_fields


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("Text/HTML", "text/html"),
        ("application/json; charset=utf-8", "application/json"),
        (" a/b ;c", "a/b"),
        ("", ""),
    ],
)
def test_the_essence_has_no_parameters_and_no_case(
    content_type: str, expected: str
) -> None:
    assert essence(Headers({"content-type": content_type})) == expected
    assert essence(Headers()) == ""


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("", "ä".encode()),
        ("text/plain; charset=latin1", b"\xe4"),
        ('text/plain;CHARSET="Windows-1252"; x=y', b"\xe4"),
    ],
)
def test_text_is_decoded_by_the_charset_that_is_declared(
    content_type: str, data: bytes
) -> None:
    assert decode_text(data, content_type) == "ä"


def test_text_in_another_charset_is_a_400() -> None:
    with pytest.raises(HttpError, match="unknown charset") as unknown:
        decode_text(b"x", "text/plain; charset=idna")
    with pytest.raises(HttpError, match="Failed to decode text") as broken:
        decode_text(b"\xff", "")
    assert unknown.value.status == broken.value.status == 400


def test_a_form_keeps_empty_and_repeated_fields() -> None:
    assert parse_fields(b"a=1&b=%C3%A4+x&a=2&c=") == {
        "a": ["1", "2"],
        "b": ["ä x"],
        "c": [""],
    }


@pytest.mark.parametrize("data", [b"\xff", b"a=%ff", b"&".join([b"a=1"] * 1001)])
def test_what_is_no_form_is_a_400(data: bytes) -> None:
    with pytest.raises(HttpError, match="Failed to deserialize form") as caught:
        parse_fields(data)
    assert caught.value.status == 400
