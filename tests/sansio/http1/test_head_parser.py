"""Request heads: RFC 9112 §2, §3, §5, §6, and what tako refuses beyond them."""

import httptools
import pytest
from hypothesis import given, strategies as st

from tako.config import ServerConfig
from tako.errors import HttpError
from tako.h1 import request_head
from tako.h1.head_parser import HeadBuffer
from tako.h1.request_head import check_head, usual_head
from tako.http import grammar
from tako.http.headers import RawHeader
from tako.http.request_head import FORWARDED, RequestHead
from tako.native import pure
from tako.native.loops import split_head
from tests.support.h1_peer import H1Peer


def take(data: bytes, config: ServerConfig | None = None) -> RequestHead | None:
    buffer = HeadBuffer(config or ServerConfig())
    buffer.data += data
    return buffer.take()


def accepted(data: bytes) -> RequestHead:
    head = take(data)
    assert head is not None
    return head


def status_of(data: bytes, config: ServerConfig | None = None) -> int:
    with pytest.raises(HttpError) as caught:
        take(data, config)
    return caught.value.status


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1") -> bytes:
    return b"".join(part + b"\r\n" for part in (line, *fields)) + b"\r\n"


HOST = b"Host: a"


# RFC 9112 §2: message parsing


def test_plain_head_is_read() -> None:
    head = accepted(
        request(
            b"Host: example.org:8443",
            b"X-A: 1",
            b"x-a:  2 \t",
            line=b"GET /p?q=1 HTTP/1.1",
        )
    )
    assert head.method == "GET"
    assert head.target == "/p?q=1"
    assert head.version == "1.1"
    assert head.authority == "example.org:8443"
    assert head.fields == [
        (b"host", b"example.org:8443"),
        (b"x-a", b"1"),
        (b"x-a", b"2"),
    ]
    assert head.length == 0
    assert not head.has_body
    assert head.persistent
    assert not head.websocket


def test_empty_lines_before_a_request_are_ignored() -> None:
    assert accepted(b"\r\n\r\n\r\n" + request(HOST)).target == "/"


def test_empty_lines_count_towards_the_size_of_the_head() -> None:
    config = ServerConfig(max_header_bytes=256)
    assert status_of(b"\r\n" * 129, config) == 431
    assert status_of(b"\r\n" * 120 + request(HOST), config) == 431


def test_incomplete_head_waits() -> None:
    whole = request(HOST, b"X: y")
    for cut in range(len(whole)):
        assert take(whole[:cut]) is None


def test_buffer_keeps_what_is_behind_the_head() -> None:
    buffer = HeadBuffer(ServerConfig())
    buffer.data += request(HOST) + b"more"
    assert buffer.take() is not None
    assert buffer.data == b"more"


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"GET / HTTP/1.1\rHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n",
        b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_bare_cr_and_bare_lf_are_refused(data: bytes) -> None:
    assert status_of(data) == 400


@pytest.mark.parametrize("octet", [*range(9), 11, 12, *range(14, 32), 127])
def test_control_character_is_refused_as_soon_as_it_is_there(octet: int) -> None:
    assert status_of(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + bytes([octet])) == 400


# RFC 9112 §2.3, §3: versions and the request line


@pytest.mark.parametrize(
    ("version", "status"),
    [
        (b"HTTP/2.0", 505),
        (b"HTTP/1.2", 505),
        (b"HTTP/0.9", 505),
        (b"HTTP/3.0", 505),
        (b"HTTP/1.10", 400),
        (b"HTTP/11.1", 400),
        (b"HTTP/1", 400),
        (b"http/1.1", 400),
        (b"HTTPS/1.1", 400),
        (b"HTTP/1.1 ", 400),
        (b"", 400),
    ],
)
def test_other_versions_are_refused(version: bytes, status: int) -> None:
    line = b"GET / " + version
    assert status_of(request(HOST, line=line)) == status
    assert status_of(line + b"\r\n") == status  # the client may wait for an answer


@pytest.mark.parametrize(
    "line",
    [
        b"GET  / HTTP/1.1",
        b" GET / HTTP/1.1",
        b"GET\t/ HTTP/1.1",
        b"GET /  HTTP/1.1",
        b"GET /a b HTTP/1.1",
        b"G@T / HTTP/1.1",
        b"GET: / HTTP/1.1",
        b"/ HTTP/1.1",
        b"GET HTTP/1.1",
        b"GET",
        b"A" * 65 + b" / HTTP/1.1",
        b"A" * 70 + b" / HTTP/1.1",
    ],
)
def test_malformed_request_line_is_refused(line: bytes) -> None:
    assert status_of(request(HOST, line=line)) == 400


@pytest.mark.parametrize(
    "method", [b"FROBNICATE", b"get", b"PRI", b"SOURCE", b"!#$%&'*+-.^_`|~09aZ"]
)
def test_any_token_is_a_method(method: bytes) -> None:  # RFC 9110 §9.1
    fields = (HOST, b"Content-Length: 3")
    head = accepted(request(*fields, line=method + b" /x?y HTTP/1.1"))
    assert (head.method, head.target, head.length) == (method.decode(), "/x?y", 3)


def test_the_preface_of_http_2_is_no_request() -> None:
    assert status_of(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 505
    assert status_of(request(HOST, line=b"PRI * HTTP/1.1")) == 400


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "PROPFIND", "QUERY", "TRACE"])
def test_known_methods_are_accepted(method: str) -> None:
    head = accepted(request(HOST, line=f"{method} / HTTP/1.1".encode()))
    assert head.method == method


# RFC 9112 §3.2: the request target


@pytest.mark.parametrize(
    ("line", "target", "authority"),
    [
        (b"GET /a/%C3%A9?x=/?#"[:-1] + b" HTTP/1.1", "/a/%C3%A9?x=/?", "a"),
        (b"GET //b HTTP/1.1", "//b", "a"),
        (b"OPTIONS * HTTP/1.1", "*", "a"),
        (b"OPTIONS http://b HTTP/1.1", "*", "b"),
        (b"GET http://b HTTP/1.1", "/", "b"),
        (b"GET HTTPS://b:443/x?y HTTP/1.1", "/x?y", "b:443"),
        (b"GET http://b?y HTTP/1.1", "/?y", "b"),
        (b"GET http://[::1]:80/ HTTP/1.1", "/", "[::1]:80"),
        (b"GET http://A/ HTTP/1.1", "/", "A"),
        (b"GET http://b:/ HTTP/1.1", "/", "b:"),
    ],
)
def test_target_forms(line: bytes, target: str, authority: str) -> None:
    head = accepted(request(b"X: 1", HOST, b"Y: 2", line=line))
    assert (head.target, head.authority) == (target, authority)
    # RFC 9112 §3.2.2: the field has the same name, in the same place
    assert head.fields == [
        (b"x", b"1"),
        (b"host", authority.encode()),
        (b"y", b"2"),
    ]


def test_a_target_in_absolute_form_brings_the_host_that_http_1_0_lacks() -> None:
    head = accepted(request(b"X: 1", line=b"GET http://b:81/ HTTP/1.0"))
    assert head.authority == "b:81"
    assert head.fields == [(b"host", b"b:81"), (b"x", b"1")]


def test_an_upgrade_in_absolute_form_is_for_the_host_of_the_target() -> None:
    fields = (HOST, b"Connection: Upgrade", b"Upgrade: websocket")
    head = accepted(request(*fields, line=b"GET http://b/ws HTTP/1.1"))
    assert head.websocket
    assert head.fields[0] == (b"host", b"b")


def test_a_head_that_is_repeated_keeps_the_host_of_its_target() -> None:
    buffer = HeadBuffer(ServerConfig())
    for _ in range(2):
        buffer.data += request(HOST, line=b"GET http://b/ HTTP/1.1")
        head = buffer.take()
        assert head is not None
        assert head.fields == [(b"host", b"b")]


@pytest.mark.parametrize(
    "target",
    [
        b"*",
        b"a",
        b"a:443",
        b"?x",
        b"/#f",
        b"/\x80",
        b"/\xc3\xa9",
        b"ftp://b/",
        b"http:///x",
        b"http://u@b/",
        b"http://u:p@b/",
        b"http://b:port/",
        b"http://b:65536/",
        b"http://b/#f",
        b"http://b#f",
        b"http:/b",
    ],
)
def test_other_targets_are_refused(target: bytes) -> None:
    assert status_of(request(HOST, line=b"GET " + target + b" HTTP/1.1")) == 400


def test_connect_is_not_implemented() -> None:
    assert status_of(request(b"Host: b:443", line=b"CONNECT b:443 HTTP/1.1")) == 501


@pytest.mark.parametrize(
    "fields",
    [
        (),
        (b"Host: a", b"Host: a"),
        (b"Host: a", b"Host: b"),
        (b"Host:",),
        (b"Host: a b",),
        (b"Host: u@a",),
        (b"Host: a/b",),
        (b"Host: a:b",),
        (b"Host: a:99999",),
        (b"Host: \xff",),
        (b"Host: http://a",),
        (b"Host: [::1",),
    ],
)
def test_anything_but_one_valid_host_is_refused(fields: tuple[bytes, ...]) -> None:
    assert status_of(request(*fields)) == 400
    # RFC 9112 §3.2.2: the same where the target would replace it
    assert status_of(request(*fields, line=b"GET http://b/ HTTP/1.1")) == 400


def test_http_1_0_may_come_without_host() -> None:
    assert accepted(request(line=b"GET / HTTP/1.0")).authority is None
    assert status_of(request(HOST, HOST, line=b"GET / HTTP/1.0")) == 400


# RFC 9112 §5: fields


@pytest.mark.parametrize(
    "field",
    [
        b"X : a",
        b"X\t: a",
        b" X: a",
        b"\tX: a",
        b": a",
        b"X",
        b"X(: a",
        b'"X": a',
        b"X\x80: a",
        b"X Y: a",
    ],
)
def test_malformed_field_is_refused(field: bytes) -> None:
    assert status_of(request(HOST, field)) == 400
    assert status_of(request(field, HOST)) == 400


def test_any_text_is_a_value() -> None:
    text = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
    head = accepted(request(HOST, b"X: a" + text, b"Y:", b"Z:  "))
    assert head.fields[1:] == [
        (b"x", (b"a" + text).strip(b" \t")),
        (b"y", b""),
        (b"z", b""),
    ]


def test_too_many_fields_are_431_before_the_head_is_complete() -> None:
    config = ServerConfig(max_headers=3)
    fields = [HOST, b"A: 1", b"B: 2"]
    assert take(request(*fields), config) is not None
    assert status_of(request(*fields, b"C: 3"), config) == 431
    assert status_of(request(*fields, b"C: 3")[:-2], config) == 431


def test_too_large_a_head_is_431_before_it_is_complete() -> None:
    config = ServerConfig(max_header_bytes=256)
    fits = request(HOST, b"X: " + b"a" * (256 - len(request(HOST, b"X: "))))
    assert len(fits) == 256
    assert take(fits, config) is not None
    assert status_of(fits.replace(b"X: ", b"X: a"), config) == 431
    assert status_of(b"GET / HTTP/1.1\r\nX: " + b"a" * 250, config) == 431


def test_too_long_a_target_is_414_before_it_is_complete() -> None:
    config = ServerConfig(max_target_bytes=20)
    assert take(request(HOST, line=b"GET /" + b"a" * 19 + b" HTTP/1.1"), config)
    assert (
        status_of(request(HOST, line=b"GET /" + b"a" * 20 + b" HTTP/1.1"), config)
        == 414
    )
    assert status_of(b"GET /" + b"a" * 20, config) == 414


# RFC 9112 §6: what announces a body


@pytest.mark.parametrize("value", [b"0", b"3", b" 3 ", b"0003", b"9223372036854775807"])
def test_content_length_is_a_number(value: bytes) -> None:
    head = accepted(request(HOST, b"Content-Length: " + value))
    assert head.length == int(value)
    assert head.has_body == bool(int(value))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"-1",
        b"+3",
        b"3.0",
        b"1e3",
        b"0x3",
        b"3 3",
        b"3, 3",
        b"3;",
        b"\xb2",
        b"9" * 20,
    ],
)
def test_other_content_length_is_refused(value: bytes) -> None:
    assert status_of(request(HOST, b"Content-Length: " + value)) == 400


def test_content_length_twice_is_refused() -> None:
    assert status_of(request(HOST, b"Content-Length: 3", b"Content-Length: 3")) == 400


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" CHUNKED "])
def test_chunked_has_no_length(value: bytes) -> None:
    head = accepted(request(HOST, b"Transfer-Encoding:" + value))
    assert head.length is None
    assert head.has_body


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([b"gzip"], 400),
        ([b"identity"], 400),
        ([b""], 400),
        ([b"chunked, gzip"], 400),
        ([b"chunked, chunked"], 400),
        ([b"chunked", b"chunked"], 400),
        ([b", chunked"], 400),
        ([b"chunked,"], 400),
        ([b"xchunked"], 400),
        ([b"chunked;q=1"], 400),
        ([b'"chunked"'], 400),
        ([b"chunked x"], 400),
        ([b"gzip, chunked"], 501),
        ([b"gzip", b"chunked"], 501),
    ],
)
def test_other_transfer_encoding_is_refused(values: list[bytes], status: int) -> None:
    fields = [b"Transfer-Encoding: " + value for value in values]
    assert status_of(request(HOST, *fields)) == status


@pytest.mark.parametrize("order", [1, -1])
def test_transfer_encoding_with_content_length_is_refused(order: int) -> None:
    fields = [b"Transfer-Encoding: chunked", b"Content-Length: 0"][::order]
    assert status_of(request(HOST, *fields)) == 400


@pytest.mark.parametrize(
    "fields",
    [
        [(b"content-length", b"3"), (b"content-length", b"3")],
        [(b"transfer-encoding", b"chunked"), (b"content-length", b"3")],
        [(b"content-length", b"3"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"3_0")],
    ],
)
def test_checks_do_not_rely_on_the_parser(fields: list[RawHeader]) -> None:
    with pytest.raises(HttpError) as caught:
        check_head(b"POST", b"/", "1.1", [(b"host", b"a"), *fields])
    assert caught.value.status == 400


@pytest.mark.parametrize("space", [b"\t", b" \t", b"\t "])
def test_coding_with_a_tab_behind_it_is_refused(space: bytes) -> None:
    assert accepted(request(HOST, b"Transfer-Encoding:\tchunked ")).length is None
    for field in (b"Transfer-Encoding: chunked", b"transfer-encoding:CHUNKED"):
        assert status_of(request(field + space, HOST)) == 400


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    field = b"Transfer-Encoding: chunked"
    assert status_of(request(HOST, field, line=b"POST / HTTP/1.0")) == 400


# RFC 9112 §9.3: persistence


@pytest.mark.parametrize(
    ("version", "connection", "persistent"),
    [
        (b"1.1", [], True),
        (b"1.1", [b"close"], False),
        (b"1.1", [b"x, Close"], False),
        (b"1.1", [b"keep-alive", b"close"], False),
        (b"1.1", [b"closed"], True),
        (b"1.0", [], False),
        (b"1.0", [b"Keep-Alive"], True),
        (b"1.0", [b"keep-alive, close"], False),
    ],
)
def test_persistence(
    version: bytes, connection: list[bytes], *, persistent: bool
) -> None:
    fields = [b"Connection: " + value for value in connection]
    line = b"GET / HTTP/" + version
    assert accepted(request(HOST, *fields, line=line)).persistent is persistent


# What one head says is forgotten when the next one comes


def test_proxy_connection_does_not_decide_about_the_next_head() -> None:
    buffer = HeadBuffer(ServerConfig())
    buffer.data += request(HOST, b"Proxy-Connection: close")
    buffer.data += request(HOST, line=b"GET /next HTTP/1.1")
    first, second = buffer.take(), buffer.take()
    assert first is not None
    assert first.persistent
    assert second is not None
    assert second.target == "/next"


cases = st.sampled_from([bytes.lower, bytes.upper, bytes.title])


def cased(*values: bytes) -> st.SearchStrategy[bytes]:
    return st.builds(lambda value, case: case(value), st.sampled_from(values), cases)


fields_of_any_meaning = st.one_of(
    st.builds(
        lambda name, value: name + b": " + value,
        cased(b"connection", b"proxy-connection"),
        cased(b"close", b"keep-alive", b"upgrade", b"close, upgrade", b"x", b""),
    ),
    st.builds(
        lambda name, value: name + b":" + value,
        cased(b"content-length", b"transfer-encoding"),
        cased(b"0", b"7", b"-1", b"chunked", b"gzip, chunked", b"identity", b""),
    ),
    st.builds(
        lambda name, value: name + b": " + value + b" ",
        cased(b"upgrade", b"expect", b"keep-alive", b"te", b"http2-settings", b"x"),
        cased(b"websocket", b"h2c", b"100-continue", b"timeout=5", b"trailers", b"?"),
    ),
    st.sampled_from([b"Host: b", b"X: a\tb", b"X : 1", b" folded", b"X", b"X: \x01"]),
)
heads_of_any_meaning = st.builds(
    lambda method, target, version, fields: request(
        HOST, *fields, line=b" ".join((method, target, version))
    ),
    st.sampled_from([b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"PRI", b"x"]),
    st.sampled_from([b"/", b"/a?b", b"*", b"http://a/", b"a:1", b"x"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.2", b"HTTP"]),
    st.lists(fields_of_any_meaning, max_size=4),
)


def reading(buffer: HeadBuffer, head: bytes) -> RequestHead | tuple[int, str] | None:
    buffer.data += head
    try:
        return buffer.take()
    except HttpError as fault:
        buffer.take_all()
        return fault.status, str(fault)


@given(st.lists(heads_of_any_meaning, min_size=2, max_size=5))
def test_every_head_is_judged_as_if_it_was_the_first(heads: list[bytes]) -> None:
    used = HeadBuffer(ServerConfig())
    for head in heads:
        assert reading(used, head) == reading(HeadBuffer(ServerConfig()), head)


octets = st.sampled_from(
    [b"\t", b" ", b"\r", b"\n", b"\r\n", b":", b"\0", b"\x7f", b"\x80", b",", b"9", b""]
)
changes = st.lists(
    st.tuples(st.integers(0, 120), st.integers(0, 2), octets), max_size=3
)


def changed(head: bytes, changes: list[tuple[int, int, bytes]], start: int) -> bytes:
    for place, size, octet in changes:
        at = min(start + place, len(head) - 4)
        head = head[:at] + octet + head[at + size :]
    return head


@given(heads_of_any_meaning, changes)
def test_a_usual_head_means_what_the_rules_say(
    head: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    found = split_head(changed(head, changes, 0), 100)
    if found is None:
        return
    method, target, version, fields, usual = found
    if usual is not None:
        expected = check_head(method.encode(), target.encode(), version, fields)
        assert usual_head(method, target, fields, usual) == expected


def test_the_rules_and_the_byte_loops_name_the_same_fields() -> None:
    assert pure._RULED == request_head._RELEVANT
    assert pure._FORWARDED == FORWARDED


@pytest.mark.parametrize("octet", range(256))
def test_the_rules_and_the_byte_loops_allow_the_same_octets(octet: int) -> None:
    one = bytes([octet])
    assert (octet in pure._PATH) == grammar.is_path(b"/" + one)
    assert (octet in pure._REG_NAME) == grammar.is_authority(one)


# llhttp, which many servers parse with, as a second reader


class Fields(list[RawHeader]):
    """The fields of a head as llhttp splits them."""

    def on_header(self, name: bytes, value: bytes) -> None:
        self.append((name.lower(), value.strip(b" \t")))


@given(heads_of_any_meaning, changes)
def test_a_head_that_is_a_whole_read_means_what_it_means_in_the_buffer(
    head: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    head = changed(head, changes, 0)
    straight, buffered = HeadBuffer(CONFIG), HeadBuffer(CONFIG)
    found = straight.take_whole(head)
    assert not straight.data
    if found is not None:
        assert found == reading(buffered, head)
        assert not buffered.data
    assert straight.take_whole(head) == found


@given(st.lists(st.tuples(heads_of_any_meaning, changes), min_size=2, max_size=4))
def test_a_head_means_the_same_whatever_was_read_before(
    heads: list[tuple[bytes, list[tuple[int, int, bytes]]]],
) -> None:
    buffer = HeadBuffer(CONFIG)
    for head, some in heads:
        other = changed(head, some, 0)
        for data in (head, other):
            alone = HeadBuffer(CONFIG).take_whole(data)
            assert buffer.take_whole(data) == alone


def test_what_is_done_to_the_fields_of_a_request_is_not_in_the_next() -> None:
    buffer = HeadBuffer(ServerConfig())
    first = buffer.take_whole(request(HOST, b"X: 1", b"Y: 1"))
    second = buffer.take_whole(request(HOST, b"X: 1", b"Y: 2"))
    assert first is not None
    assert second is not None
    assert first.fields is not second.fields
    assert first.fields[1] == second.fields[1]
    assert first.fields[2] != second.fields[2]


def test_a_usual_head_is_taken_whole() -> None:
    buffer = HeadBuffer(ServerConfig())
    head = request(HOST, b"X: 1")
    found = buffer.take_whole(head)
    assert found == accepted(head)
    assert buffer.take_whole(head) is found


@pytest.mark.parametrize("waits", [b"G", b"\r\n"])
def test_a_head_behind_other_bytes_is_not_taken_whole(waits: bytes) -> None:
    buffer = HeadBuffer(ServerConfig())
    head = request(HOST)
    assert buffer.take_whole(head) is not None
    buffer.data += waits
    assert buffer.take() is None
    assert buffer.take_whole(head) is None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        request(HOST)[:-1],
        request(HOST) + b"G",
        b"\r\n" + request(HOST),
        request(HOST, b"X: " + b"b" * 300),
        request(HOST, *[b"X: 1"] * 4),
        request(HOST, line=b"GET /" + b"a" * 41 + b" HTTP/1.1"),
        request(HOST, line=b"G" * 65 + b" / HTTP/1.1"),
        request(HOST, line=b"GET / HTTP/1.0"),
        request(HOST, b"Upgrade: websocket"),
    ],
)
def test_what_is_no_usual_head_is_not_taken_whole(data: bytes) -> None:
    buffer = HeadBuffer(CONFIG)
    assert buffer.take_whole(data) is None
    assert not buffer.data


def second_reading(head: bytes) -> Fields | None:
    """Return the fields of ``head``; ``None``: llhttp refuses it."""
    fields = Fields()
    try:  # llhttp has a list of methods; the request line is not what is compared
        line_end = head.index(b"\r\n")
        httptools.HttpRequestParser(fields).feed_data(
            b"GET / HTTP/1.1" + head[line_end:]
        )
    except httptools.HttpParserUpgrade:
        pass
    except (httptools.HttpParserError, ValueError):
        return None
    return fields


@given(heads_of_any_meaning, changes)
def test_a_head_is_never_read_differently_than_llhttp_reads_it(
    head: bytes, changes: list[tuple[int, int, bytes]]
) -> None:
    head = changed(head, changes, head.index(b"\r\n"))
    found = reading(HeadBuffer(ServerConfig()), head)
    if isinstance(found, RequestHead) and not head.startswith(b"\r\n"):
        whole = head[: head.index(b"\r\n\r\n") + 4]
        fields = second_reading(whole)
        if b"http://" in whole.partition(b"\r\n")[0]:  # RFC 9112 §3.2.2
            found.fields = [field for field in found.fields if field[0] != b"host"]
            fields = fields and Fields(each for each in fields if each[0] != b"host")
        assert found.fields == fields


# RFC 9110 §7.8, §10.1.1: upgrade and expectations

UPGRADE = (HOST, b"Connection: keep-alive, Upgrade", b"Upgrade: h2c, WebSocket")


def test_upgrade_to_websocket_is_recognised() -> None:
    assert accepted(request(*UPGRADE)).websocket
    split = (HOST, b"Connection: x", b"Connection: upgrade", b"Upgrade: websocket")
    assert accepted(request(*split)).websocket


@pytest.mark.parametrize(
    "head",
    [
        request(*UPGRADE, line=b"GET / HTTP/1.0"),
        request(*UPGRADE, line=b"POST / HTTP/1.1"),
        request(HOST, b"Connection: keep-alive", b"Upgrade: websocket"),
        request(HOST, b"Upgrade: websocket"),
        request(HOST, b"Connection: Upgrade", b"Upgrade: h2c"),
        request(HOST, b"Connection: Upgrade", b"Upgrade: websocket2"),
        request(HOST, b"Connection: Upgrade"),
    ],
)
def test_other_upgrades_are_ignored(head: bytes) -> None:
    assert not accepted(head).websocket


def test_expectations() -> None:
    assert accepted(request(HOST, b"Expect: 100-Continue")).expects_continue
    line = b"POST / HTTP/1.0"
    assert not accepted(
        request(HOST, b"Expect: 100-continue", line=line)
    ).expects_continue
    assert not accepted(request(HOST, b"Expect: else", line=line)).expects_continue
    assert status_of(request(HOST, b"Expect: else")) == 417
    assert status_of(request(HOST, b"Expect: 100-continue, else")) == 417


# The wire


@pytest.mark.parametrize("hello", [b"\x16\x03\x01\x02\x00\x01", b"\x16"])
def test_tls_on_a_plain_port_is_closed_without_a_word(hello: bytes) -> None:
    peer = H1Peer()
    peer.send(hello)
    assert peer.closed
    assert peer.take() == b""


def test_refusal_says_why_and_closes() -> None:
    peer = H1Peer()
    peer.send(b"GET / HTTP/1.1\r\n\r\n" + request(HOST))
    (answer,) = peer.answers()
    assert answer.head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.has("content-type: text/plain; charset=utf-8")
    assert answer.has("connection: close")
    assert b"\r\ndate: " in answer.head
    assert answer.body == b"Missing Host"
    assert peer.closed
    assert not peer.exchanges


def test_refusal_of_a_head_request_has_no_body() -> None:
    peer = H1Peer()
    peer.send(b"HEAD / HTTP/1.1\r\n\r\n")
    head, _, body = peer.take().partition(b"\r\n\r\n")
    assert b"\r\ncontent-length: 12\r\n" in head
    assert body == b""


def verdict(data: bytes, sizes: list[int]) -> tuple[object, ...]:
    """Feed ``data`` in pieces and say what became of it."""
    buffer = HeadBuffer(CONFIG)
    at = 0
    try:
        while at < len(data):
            size = sizes[at % len(sizes)]
            buffer.data += data[at : at + size]
            at += size
            head = buffer.take()
            if head is not None:
                return (head.method, head.target, head.fields)
    except HttpError as fault:
        return (fault.status,)
    return ("incomplete",)


CONFIG = ServerConfig(max_header_bytes=256, max_headers=4, max_target_bytes=40)
PIECES = st.sampled_from(
    [
        *(bytes([octet]) for octet in b"\x00\x16 \t\r\n:/a\x80\xff"),
        b"\r\n",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"GET /" + b"a" * 41,
        b"PRI * HTTP/2.0\r\n\r\n",
        b" HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"X: " + b"b" * 100,
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: x\r\n",
    ]
)


@given(
    st.lists(PIECES, max_size=12).map(b"".join),
    st.lists(st.integers(1, 40), min_size=1),
)
def test_verdict_does_not_depend_on_how_bytes_arrive(
    data: bytes, sizes: list[int]
) -> None:
    whole = verdict(data, [max(1, len(data))])
    assert verdict(data, sizes) == whole
    assert verdict(data, [1]) == whole
