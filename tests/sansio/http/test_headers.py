"""``Headers``: RFC 9110 §5."""

import pytest

from tako.http.headers import Headers


def test_names_are_kept_in_lower_case_and_looked_up_in_any() -> None:
    headers = Headers([("Content-Type", "text/plain")])
    assert headers.raw == [(b"content-type", b"text/plain")]
    assert headers.get("CONTENT-type") == "text/plain"
    assert headers["Content-Type"] == "text/plain"
    assert "content-TYPE" in headers


def test_fields_keep_their_order_and_repetitions() -> None:
    fields = [("set-cookie", "a=1"), ("x", "1"), ("set-cookie", "b=2")]
    headers = Headers(fields)
    assert headers.items() == fields
    assert headers.get("Set-Cookie") == "a=1"
    assert headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert headers.get_all_raw(b"set-cookie") == [b"a=1", b"b=2"]
    assert list(headers) == ["set-cookie", "x", "set-cookie"]
    assert len(headers) == 3


def test_a_missing_field_is_none_or_the_default() -> None:
    headers = Headers()
    assert headers.get("x") is None
    assert headers.get("x", "y") == "y"
    assert headers.get_raw(b"x") is None
    assert headers.get_all("x") == []
    assert "x" not in headers
    assert 1 not in headers
    with pytest.raises(KeyError, match="x"):
        headers["x"]
    with pytest.raises(KeyError, match="x"):
        del headers["x"]


def test_set_replaces_all_and_add_appends() -> None:
    headers = Headers([("a", "1"), ("b", "2"), ("A", "3")])
    headers.set("a", "4")
    assert headers.items() == [("b", "2"), ("a", "4")]
    headers["B"] = "5"
    headers.add("b", "6")
    assert headers.items() == [("a", "4"), ("b", "5"), ("b", "6")]
    headers.set_default("a", "7")
    headers.set_default("c", "8")
    assert headers.items()[-1] == ("c", "8")
    assert headers["a"] == "4"


def test_remove_takes_every_field_of_the_name() -> None:
    headers = Headers([("a", "1"), ("b", "2"), ("a", "3")])
    headers.remove("A")
    headers.remove("nothing")
    assert headers.items() == [("b", "2")]
    del headers["b"]
    assert not headers


@pytest.mark.parametrize("fields", [{"A": "1"}, [("A", b"1")], [(b"A", "1")]])
def test_fields_come_from_mappings_and_pairs_of_text_or_bytes(fields: object) -> None:
    assert Headers(fields).raw == [(b"a", b"1")]  # type: ignore[arg-type]


def test_a_copy_is_independent_and_from_raw_is_not() -> None:
    original = Headers({"a": "1"})
    copy = Headers(original)
    copy.add("b", "2")
    assert original.items() == [("a", "1")]
    shared = Headers.from_raw(original.raw)
    shared.add("c", "3")
    assert "c" in original


def test_every_byte_of_a_value_survives_as_latin_1() -> None:
    value = bytes([*range(1, 10), 0x0B, 0x0C, *range(0x0E, 0x100)])
    headers = Headers([("x", b"<" + value + b">")])
    assert headers["x"].encode("latin-1") == b"<" + value + b">"
    assert Headers([("x", headers["x"])]) == headers


def test_white_space_around_a_value_is_not_part_of_it() -> None:
    assert Headers({"x": " \t a b\t "})["x"] == "a b"  # RFC 9110 §5.5


@pytest.mark.parametrize("value", ["a\rb", "a\nb", "a\0b", b"\r\n", "\n", "a\r\nx: 1"])
def test_a_value_with_cr_lf_or_nul_is_refused(value: str | bytes) -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        Headers([("x", value)])
    headers = Headers({"x": "kept"})
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        headers.set("x", value)
    assert headers["x"] == "kept"


@pytest.mark.parametrize(
    "name", ["", "a b", "a:", "a\n", "a\r\nb", b"a\0", "ä", ":path"]
)
def test_a_name_that_is_no_token_is_refused(name: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"RFC 9110 §5\.6\.2"):
        Headers([(name, "1")])


def test_text_beyond_latin_1_is_refused() -> None:
    with pytest.raises(ValueError, match="latin-1"):
        Headers({"x": "\N{SNOWMAN}"})


def test_equality_is_that_of_the_fields_in_order() -> None:
    assert Headers({"A": "1"}) == Headers([("a", "1")])
    assert Headers([("a", "1"), ("b", "2")]) != Headers([("b", "2"), ("a", "1")])
    assert Headers() != []
    with pytest.raises(TypeError, match="unhashable"):
        hash(Headers())


def test_repr_shows_the_fields() -> None:
    assert repr(Headers({"A": "1"})) == "Headers([('a', '1')])"
