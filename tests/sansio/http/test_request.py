"""``Request``: what a handler reads."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from tako.errors import Disconnected, HttpError
from tako.http.conn_info import Carrier, ConnInfo, IpPeer
from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.request_facts import matched
from tests.support.wire import FakeRuntime


T = TypeVar("T")

PEER = IpPeer("192.0.2.1", 5000)
INFO = ConnInfo(PEER, IpPeer("192.0.2.2", 443), Carrier.HTTP2)
JSON = {"content-type": "application/json"}
FORM = {"content-type": "application/x-www-form-urlencoded"}


class Chunks:
    """A body reader that counts how often it was asked."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks = list(chunks)
        self.error = error
        self.reads = 0

    async def next_chunk(self) -> bytes:
        self.reads += 1
        if self.chunks:
            return self.chunks.pop(0)
        if self.error is not None:
            raise self.error
        return b""


def run(function: Callable[..., Awaitable[Any]], *args: Any) -> Any:
    async def main() -> Any:
        return await function(*args)

    return FakeRuntime().run(main)


def failure(function: Callable[..., Awaitable[Any]], *args: Any) -> tuple[int, str]:
    with pytest.raises(HttpError) as caught:
        run(function, *args)
    return caught.value.status, caught.value.detail


async def collect(request: Request) -> list[bytes]:
    return [chunk async for chunk in request.stream()]


def posted(*chunks: bytes, headers: Any = ()) -> Request:
    return Request("POST", "/", Headers(headers), body_reader=Chunks(*chunks))


# The head


@pytest.mark.parametrize(
    ("target", "path", "query"),
    [
        ("/", "/", ""),
        ("/a%2Fb//c/", "/a%2Fb//c/", ""),
        ("/a?b=c?d", "/a", "b=c?d"),
        ("/a?", "/a", ""),
    ],
)
def test_path_and_query_are_kept_as_received(
    target: str, path: str, query: str
) -> None:
    request = Request("GET", target, Headers())
    assert (request.path, request.query) == (path, query)
    assert request.target == target


def test_the_constructor_keeps_what_the_engine_says() -> None:
    request = Request(
        "GET",
        "/x",
        Headers(),
        http_version="2",
        scheme="https",
        authority="a.example",
        protocol="websocket",
        conn_info=INFO,
    )
    assert (request.http_version, request.scheme) == ("2", "https")
    assert request.is_websocket
    assert request.conn_info is INFO
    assert repr(request) == "<Request GET /x HTTP/2>"


@pytest.mark.parametrize(
    ("raw", "text"),
    [(b" 42 ", "42"), ("ä".encode(), "ä"), (b"\xff", None), (b"", None)],
)
def test_the_last_event_id_is_text_or_absent(raw: bytes, text: str | None) -> None:
    request = Request.build(headers=[("Last-Event-ID", raw)])
    assert request.last_event_id == text
    assert request.headers.get_raw(b"last-event-id") == raw.strip()
    assert Request.build().last_event_id is None


def test_defaults_are_those_of_a_plain_http_1_1_request() -> None:
    request = Request.build()
    assert (request.method, request.path) == ("GET", "/")
    assert (request.http_version, request.scheme) == ("1.1", "http")
    assert not request.is_websocket
    assert request.host is None
    assert request.conn_info is None
    assert request.matched_path is None
    assert dict(request.path_params) == dict(request.raw_path_params) == {}


def test_host_is_the_authority_before_the_host_field() -> None:
    headers = Headers({"Host": "field.example:81"})
    assert Request("GET", "/", headers).host == "field.example:81"
    request = Request("GET", "/", headers, authority="target.example")
    assert request.host == "target.example"  # RFC 9112 §3.2.2


def test_query_parameters_are_decoded() -> None:
    request = Request.build(path="/?a=1&b=x%20y+z&a=2&empty=&flag&%C3%A4=%F0%9F%90%99")
    assert request.query_multi == {
        "a": ["1", "2"],
        "b": ["x y z"],
        "empty": [""],
        "flag": [""],
        "ä": ["🐙"],
    }
    assert request.query_params["a"] == "1"
    assert request.query_multi is request.query_multi


def test_cookies_of_several_fields_are_joined_and_the_first_of_a_name_wins() -> None:
    request = Request.build(
        headers=[
            ("cookie", 'a=1; b="quoted"; junk;c=x=y'),
            ("cookie", 'a=2; d=; e="'),
        ]
    )
    assert request.cookies == {
        "a": "1",
        "b": "quoted",
        "c": "x=y",
        "d": "",
        "e": '"',
    }


def test_path_parameters_are_percent_decoded_and_kept_raw_as_well() -> None:
    request = Request.build()
    matched(request, "/{a}/{b}", {"a": "x%2Fy%20z", "b": "%C3%A4+"}, ())
    assert dict(request.path_params) == {"a": "x/y z", "b": "ä+"}
    assert request.raw_path_params["a"] == "x%2Fy%20z"
    assert request.matched_path == "/{a}/{b}"


@pytest.mark.parametrize("raw", ["%FF", "%C3", "a%80b", "%ED%A0%80", "\xff", "☃"])
def test_a_path_parameter_that_is_not_utf_8_is_a_400(raw: str) -> None:
    request = Request.build()
    matched(request, "/{a}", {"a": raw}, ())
    with pytest.raises(HttpError) as caught:
        _ = request.path_params
    assert caught.value.status == 400
    assert caught.value.detail == "invalid path parameter encoding"
    assert request.raw_path_params["a"] == raw


@pytest.mark.parametrize(("raw", "text"), [("100%", "100%"), ("%zz", "%zz")])
def test_a_percent_sign_without_two_digits_stands_for_itself(
    raw: str, text: str
) -> None:
    request = Request.build()
    matched(request, "/{a}", {"a": raw}, ())
    assert request.path_params["a"] == text


def test_path_parameters_are_decoded_once() -> None:
    request = Request.build()
    matched(request, "/{a}", {"a": "%20"}, ())
    assert request.path_params is request.path_params


def test_a_second_match_forgets_the_first() -> None:
    request = Request.build()
    matched(request, "/{a}", {"a": "1"}, ())
    assert request.path_params["a"] == "1"
    matched(request, "/{b}", {"b": "2"}, ())
    assert dict(request.path_params) == {"b": "2"}


def test_extensions_begin_with_what_the_connection_knows() -> None:
    request = Request("GET", "/", Headers(), conn_info=INFO)
    assert request.extensions[ConnInfo] is INFO
    assert request.extensions[IpPeer] is PEER
    request.extensions.insert("mark")
    assert request.extensions.get(str) == "mark"
    assert len(Request.build().extensions) == 0


def test_build_makes_a_complete_request() -> None:
    request = Request.build(
        "POST", "/a?b=1", {"X": "y"}, "bödy", [INFO, 7], http_version="2"
    )
    assert (request.method, request.path, request.query) == ("POST", "/a", "b=1")
    assert request.headers["x"] == "y"
    assert request.conn_info is INFO
    assert request.extensions[int] == 7
    assert request.http_version == "2"
    assert run(request.body) == "bödy".encode()


def test_requests_have_no_dict() -> None:
    assert not hasattr(Request.build(), "__dict__")


# The body


def test_the_body_is_read_once_and_kept() -> None:
    request = posted(b"one", b"two")
    assert run(request.body) == b"onetwo"
    assert run(request.body) == b"onetwo"
    assert run(request.text) == "onetwo"


def test_a_request_without_a_reader_has_an_empty_body() -> None:
    request = Request("GET", "/", Headers())
    assert run(request.body) == b""
    assert run(collect, Request("GET", "/", Headers())) == []


def test_the_stream_yields_chunks_as_they_come() -> None:
    assert run(collect, posted(b"a", b"b")) == [b"a", b"b"]


def test_a_second_stream_is_refused() -> None:
    request = posted(b"a", b"b")
    run(collect, request)
    with pytest.raises(RuntimeError, match="read before"):
        run(collect, request)
    with pytest.raises(RuntimeError, match="read before"):
        run(request.body)


def test_a_stream_after_body_yields_what_was_kept() -> None:
    request = posted(b"a", b"b")
    run(request.body)
    assert run(collect, request) == [b"ab"]
    assert run(collect, request) == [b"ab"]
    empty = posted()
    run(empty.body)
    assert run(collect, empty) == []


def test_an_error_of_the_reader_reaches_the_handler() -> None:
    reader = Chunks(b"part", error=Disconnected())
    request = Request("POST", "/", Headers(), body_reader=reader)
    with pytest.raises(Disconnected):
        run(request.body)


def test_a_body_of_exactly_the_limit_is_accepted() -> None:
    assert run(posted(b"12", b"34").body, 4) == b"1234"


def test_a_body_over_the_limit_is_a_413_and_is_not_read_to_its_end() -> None:
    reader = Chunks(b"12", b"345", b"6")
    request = Request("POST", "/", Headers(), body_reader=reader)
    assert failure(request.body, 4) == (413, "")
    assert reader.reads == 2


def test_an_announced_length_over_the_limit_is_a_413_without_reading() -> None:
    reader = Chunks(b"12345")
    request = Request("POST", "/", Headers({"content-length": "5"}), body_reader=reader)
    assert failure(request.body, 4) == (413, "")
    assert reader.reads == 0
    assert run(request.body, 5) == b"12345"


def test_the_limit_holds_for_a_kept_body_too() -> None:
    request = posted(b"12345")
    run(request.body)
    assert failure(request.body, 4) == (413, "")
    assert failure(request.text, 4) == (413, "")


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("", "ä".encode()),
        ("text/plain", "ä".encode()),
        ('text/plain; charset="ISO-8859-1"', b"\xe4"),
        ("text/plain;charset=UTF-16LE; x=y", b"\xe4\x00"),
    ],
)
def test_text_is_decoded_by_its_charset(content_type: str, data: bytes) -> None:
    request = posted(data, headers={"content-type": content_type})
    assert run(request.text) == "ä"


@pytest.mark.parametrize("charset", ["nonsense", "idna", "unicode_escape", "zip"])
def test_text_in_an_unknown_charset_is_a_400(charset: str) -> None:
    request = posted(b"x", headers={"content-type": f"text/plain; charset={charset}"})
    assert failure(request.text) == (400, "Failed to decode text: unknown charset")


def test_text_that_breaks_its_charset_is_a_400() -> None:
    assert failure(posted(b"\xff").text) == (400, "Failed to decode text")


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "Application/JSON; charset=utf-8", "application/ld+json"],
)
def test_json_is_read(content_type: str) -> None:
    request = posted(
        b'{"a": [1, ', b'"\xc3\xa4"]}', headers={"content-type": content_type}
    )
    assert run(request.json) == {"a": [1, "ä"]}


@pytest.mark.parametrize("headers", [(), {"content-type": "text/plain"}])
def test_json_of_another_content_type_is_a_400(headers: Any) -> None:
    detail = "Invalid content type; expected application/json"
    assert failure(posted(b"{}", headers=headers).json) == (400, detail)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"{", "Expecting property name"),
        (b"NaN", "NaN is not JSON"),
        (b"[-Infinity]", "-Infinity is not JSON"),
        (b'"\xff"', "'utf-8' codec"),
        (b"[" * 100_000, "maximum recursion depth"),
        (b"1" * 5000, "Exceeds the limit"),
    ],
)
def test_what_is_not_json_is_a_400(data: bytes, message: str) -> None:
    status, detail = failure(posted(data, headers=JSON).json)
    assert status == 400
    assert detail.startswith(f"Failed to deserialize JSON: {message}")


def test_json_has_a_limit() -> None:
    assert failure(posted(b"[1,2,3]", headers=JSON).json, 3) == (413, "")


def test_a_form_is_read() -> None:
    request = posted(b"a=1&b=x+y%C3%A4&a=2&c=", headers=FORM)
    assert run(request.form) == {"a": "1", "b": "x yä", "c": ""}
    assert run(request.form_multi)["a"] == ["1", "2"]


def test_a_form_of_another_content_type_is_a_400() -> None:
    detail = "Invalid content type; expected application/x-www-form-urlencoded"
    assert failure(posted(b"a=1", headers=JSON).form) == (400, detail)


@pytest.mark.parametrize("data", [b"a=%FF", b"\xff=1", b"a=1&" * 1001])
def test_what_is_no_form_is_a_400(data: bytes) -> None:
    assert failure(posted(data, headers=FORM).form) == (
        400,
        "Failed to deserialize form",
    )


def test_a_request_without_a_connection_is_never_disconnected() -> None:
    request = Request.build()
    assert not request.disconnected
    with pytest.raises(RuntimeError, match="no connection"):
        FakeRuntime().run(request.wait_disconnected)
