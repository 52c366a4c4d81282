"""RFC 9113 §8: requests, bodies, trailers and responses."""

import gc
import weakref

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.errors import (
    Disconnected,
    HttpError,
    LocalProtocolError,
    RemoteProtocolError,
)
from tako.h1.head_parser import HeadBuffer
from tako.h2 import H2Exchange
from tako.h2.frames import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    RST_STREAM,
    WINDOW_UPDATE,
)
from tako.http.conn_info import Carrier
from tests.support.h2wire import (
    GET,
    POST,
    Fields,
    Make,
    Peer,
    RecordingTask,
    answer,
    data,
    rst,
    settings,
    window_update,
)


def without(name: str, fields: Fields = GET) -> Fields:
    return [field for field in fields if field[0] != name]


def with_(name: str, value: str, fields: Fields = GET) -> Fields:
    return [(n, value if n == name else v) for n, v in fields]


def body_of(peer: Peer, exchange: H2Exchange) -> bytes:
    """Read a body that has arrived in full."""
    out = b""
    while chunk := peer.connection.runtime.run(exchange.body.next_chunk):
        out += chunk
    return out


def test_a_stream_is_forgotten_as_soon_as_both_sides_have_ended(peer: Peer) -> None:
    gone = []
    for stream_id in range(1, 200, 2):
        exchange = peer.request(stream_id, POST, end=False)
        answer(exchange)  # early: the peer has a moment to end its body
        gone.append(weakref.ref(exchange.task))
        peer.send(data(stream_id, end=True) if stream_id % 4 == 1 else rst(stream_id))
        peer.exchanges.clear()
    peer.connection.runtime.run_ready()
    del exchange
    gc.collect()
    assert sum(each() is not None for each in gone) <= 1


def malformed(peer: Peer, fields: Fields, *, end: bool = True) -> None:
    """A head of ``fields`` is reset; the connection serves on."""
    victim = peer.request(1, POST, end=False)
    assert peer.send(peer.headers(3, fields, end=end)) == []
    assert peer.rst_codes() == [(3, ErrorCode.PROTOCOL_ERROR)]
    assert not victim.closed
    answer(peer.request(5))
    assert DATA in [f.kind for f in peer.frames()]


class TestHead:  # RFC 9113 §8.3.1
    def test_a_request_as_the_handler_sees_it(self, peer: Peer) -> None:
        request = peer.request(
            1, with_(":path", "/a%20b?c=d&e"), extra=[("accept", "*/*")]
        ).request
        assert (request.method, request.path, request.query) == (
            "GET",
            "/a%20b",
            "c=d&e",
        )
        assert (request.scheme, request.authority) == ("http", "example.org")
        assert (request.http_version, request.protocol) == ("2", None)
        assert not request.is_websocket
        assert request.headers.raw == [(b"host", b"example.org"), (b"accept", b"*/*")]
        assert request.conn_info is not None
        assert request.conn_info.transport is Carrier.HTTP2

    def test_bytes_above_0x7f_reach_the_handler(self, peer: Peer) -> None:
        block = peer.encoder.encode([*GET, (b"x", b"a\xff\x80")])
        (exchange,) = peer.send(peer.blocks(1, [block]))
        assert exchange.request.headers["x"] == "a\xff\x80"

    def test_options_asterisk(self, peer: Peer) -> None:
        fields = with_(":method", "OPTIONS", with_(":path", "*"))
        assert peer.request(1, fields).request.path == "*"

    def test_host_instead_of_authority(self, peer: Peer) -> None:
        request = peer.request(
            1, without(":authority"), extra=[("host", "a:80")]
        ).request
        assert request.authority == "a:80"
        assert request.headers.raw == [(b"host", b"a:80")]

    @pytest.mark.parametrize("host", ["example.org", "EXAMPLE.org", "example.org:80"])
    def test_host_beside_the_same_authority(self, peer: Peer, host: str) -> None:
        request = peer.request(1, extra=[("host", host)]).request
        # RFC 9113 §8.3.1: one name, however the two are spelt
        assert request.headers.raw == [(b"host", b"example.org")]

    def test_the_authority_takes_the_place_of_a_host(self, peer: Peer) -> None:
        extra = [("a", "1"), ("host", "EXAMPLE.ORG:80"), ("b", "2")]
        request = peer.request(1, extra=extra).request
        assert request.headers.raw == [
            (b"a", b"1"),
            (b"host", b"example.org"),
            (b"b", b"2"),
        ]

    def test_cookie_crumbs_are_joined(self, peer: Peer) -> None:  # RFC 9113 §8.2.3
        request = peer.request(
            1, extra=[("cookie", "a=b"), ("x", "y"), ("cookie", "c=d")]
        ).request
        assert request.headers.raw[1:] == [(b"cookie", b"a=b; c=d"), (b"x", b"y")]

    def test_te_trailers(self, peer: Peer) -> None:
        assert peer.request(1, extra=[("te", "trailers")]).request.headers["te"]

    @pytest.mark.parametrize(
        "fields",
        [
            *[without(name) for name in (":method", ":scheme", ":path", ":authority")],
            *[[*GET[:i], GET[i], *GET[i:]] for i in range(4)],  # each twice
            [*GET, (":status", "200")],
            [(":status", "100"), *GET],
            [(":unknown", "x"), *GET],
            [("accept", "*/*"), *GET],  # §8.3: pseudo-fields come first
            [*GET[:3], ("accept", "*/*"), GET[3]],
            [],
            [*GET, (":protocol", "websocket")],
        ],
    )
    def test_pseudo_fields_that_do_not_add_up(self, peer: Peer, fields: Fields) -> None:
        malformed(peer, fields)

    @pytest.mark.parametrize("method", ["", "G T", "GE\x00T", "G\xe9T", "GET\r\n"])
    def test_methods_are_tokens(self, peer: Peer, method: str) -> None:
        malformed(peer, with_(":method", method))

    @pytest.mark.parametrize("scheme", ["", "ftp", "HTTP", "http ", "ht\x01tp"])
    def test_schemes_are_http_and_https(self, peer: Peer, scheme: str) -> None:
        malformed(peer, with_(":scheme", scheme))

    @pytest.mark.parametrize(
        "path",
        ["", "foo", "*", "/a b", "/a b HTTP/1.1", "/\x7f", "/\xff", "/#x", "http://a/"],
    )
    def test_paths_are_absolute(self, peer: Peer, path: str) -> None:
        malformed(peer, with_(":path", path))

    @pytest.mark.parametrize(
        "authority", ["", "u@a", "a/b", "a b", "a:99999", "a:x", "[::1", "\xff"]
    )
    def test_authorities_are_host_and_port(self, peer: Peer, authority: str) -> None:
        malformed(peer, with_(":authority", authority))

    @pytest.mark.parametrize("host", ["other.org", "example.org:81", "u@example.org"])
    def test_host_beside_another_authority(self, peer: Peer, host: str) -> None:
        malformed(peer, [*GET, ("host", host)])

    def test_host_twice(self, peer: Peer) -> None:
        malformed(peer, [*GET, ("host", "example.org"), ("host", "example.org")])

    @pytest.mark.parametrize(
        "name", ["Bad", "a b", "", "a:b", "a\x00", "(", "\xe9", '"']
    )
    def test_names_are_lower_case_tokens(self, peer: Peer, name: str) -> None:
        malformed(peer, [*GET, (name, "x")])  # RFC 9113 §8.2.1

    @pytest.mark.parametrize(
        "value",
        ["a\r\nb: c", "a\nb", "a\x00b", "\x01", "a\x7f", " a", "a\t", "a\0b\0c"],
    )
    def test_values_are_text(self, peer: Peer, value: str) -> None:
        malformed(peer, [*GET, ("x", value)])  # RFC 9113 §8.2.1

    @pytest.mark.parametrize(
        "field",
        [
            ("connection", "keep-alive"),
            ("keep-alive", "x"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("te", "gzip"),
            ("te", "trailers, gzip"),
        ],
    )
    def test_connection_specific_fields(
        self, peer: Peer, field: tuple[str, str]
    ) -> None:
        malformed(peer, [*GET, field])  # RFC 9113 §8.2.2


class TestRefusals:
    def status(self, peer: Peer, fields: Fields) -> str:
        assert peer.send(peer.headers(1, fields)) == []
        (head,) = peer.frames()
        assert head.ends
        status = peer.decode(head)[":status"]
        answer(peer.request(3))
        assert DATA in [f.kind for f in peer.frames()]
        return status

    def test_a_header_list_that_is_too_large(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_max_header_list_size=16_384))
        # RFC 9113 §6.5.2: 32 bytes for each field, beside name and value
        base = sum(len(n) + len(v) + 32 for n, v in GET)
        fits = [("x", "y" * (16_384 - base - 33))]
        assert peer.request(11, extra=fits).request.headers["x"]
        peer.exchanges[0].reset()
        peer.frames()
        assert peer.send(peer.headers(13, extra=[("x", fits[0][1] + "y")])) == []
        (head,) = peer.frames()
        assert peer.decode(head)[":status"] == "431"

    def test_too_many_fields(self, peer: Peer) -> None:
        most = [(f"x{i}", "") for i in range(100)]  # pseudo-fields are not among them
        assert self.status(peer, [*GET, *most, ("y", "")]) == "431"
        answer(peer.request(5, extra=most))

    @pytest.mark.parametrize(
        ("crumbs", "cookie"),
        [
            (["a=b ", " c=d"], "a=b ;  c=d"),
            (["", "c=d"], "; c=d"),
            ([""], ""),
            ([" a=b"], None),
            (["a=b", ""], None),
            (["a=b", "c=d\t"], None),
            (["a\x00b", "c=d"], None),
        ],
    )
    def test_white_space_is_within_a_cookie_only(
        self, peer: Peer, crumbs: list[str], cookie: str | None
    ) -> None:
        fields = [*GET, *[("cookie", crumb) for crumb in crumbs]]  # RFC 9113 §8.2.1
        if cookie is None:
            malformed(peer, fields)
        else:
            request = peer.request(1, fields).request
            assert request.headers.get_all("cookie") == [cookie]

    def test_crumbs_of_a_cookie_are_one_field(self, peer: Peer) -> None:
        crumbs = [("cookie", f"c{i}=v") for i in range(180)]  # RFC 9113 §8.2.3
        others = [(f"x{i}", "") for i in range(99)]
        cookie = "; ".join(crumb for _, crumb in crumbs)
        request = peer.request(1, extra=[*crumbs[:9], *others, *crumbs[9:]]).request
        assert request.headers.get_all("cookie") == [cookie]
        assert len(request.cookies) == 180
        peer.exchanges[0].reset()
        peer.frames()
        assert peer.send(peer.headers(3, extra=[*crumbs, *others, ("y", "")])) == []
        assert peer.decode(peer.frames()[0])[":status"] == "431"

    @pytest.mark.parametrize("count", [1, 8, 99])
    @pytest.mark.parametrize("over", [0, 1])
    def test_a_head_as_large_as_http_1_takes_it(
        self, peer: Peer, count: int, over: int
    ) -> None:
        line, host = "GET / HTTP/1.1\r\n", "host: example.org\r\n"
        room = 65_536 - len(line) - len(host) - 2 - count * len("xNN: \r\n") + over
        values = [(room + i) // count * "v" for i in range(count)]
        fields = [(f"x{i:02}", value) for i, value in enumerate(values)]
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
        buffer = HeadBuffer(ServerConfig())
        buffer.data += f"{line}{host}{lines}\r\n".encode()
        assert len(buffer.data) == 65_536 + over
        block = peer.encoder.encode([*GET, *fields], huffman=False)
        pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
        exchanges = peer.send(peer.blocks(1, pieces))
        if over:
            with pytest.raises(HttpError, match="too large"):
                buffer.take()
            assert peer.decode(peer.frames()[0])[":status"] == "431"
        else:
            assert buffer.take() is not None
            headers = exchanges[0].request.headers
            assert headers.items() == [("host", "example.org"), *fields]

    def test_a_target_that_is_too_long(self, peer: Peer) -> None:
        assert self.status(peer, with_(":path", "/" + "x" * 8192)) == "414"

    def test_plaintext_scheme_from_a_proxy_that_encrypts(self, make: Make) -> None:
        request = make(tls=True).request(1, with_(":scheme", "http")).request
        assert request.scheme == "https"

    def test_an_encrypted_scheme_in_the_clear_is_a_claim(self, peer: Peer) -> None:
        assert peer.request(1, with_(":scheme", "https")).request.scheme == "http"

    @pytest.mark.parametrize("tls", [False, True])
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_the_scheme_of_a_proxy_is_believed_where_configured(
        self, make: Make, scheme: str, *, tls: bool
    ) -> None:
        peer = make(tls=tls, config=ServerConfig(trust_scheme=True))
        assert peer.request(1, with_(":scheme", scheme)).request.scheme == scheme

    def test_a_refusal_does_not_wait_for_the_body(self, peer: Peer) -> None:
        peer.send(peer.headers(1, with_(":path", "/" + "x" * 8192), end=False))
        head, reset = peer.frames()
        assert (head.kind, reset.kind, reset.number) == (HEADERS, RST_STREAM, 0)
        assert not peer.engine.exchanges

    @pytest.mark.parametrize("size", [32_000, 33_000, 60_000, 66_000, 130_000])
    def test_a_large_head_costs_no_more_than_its_stream(
        self, peer: Peer, size: int
    ) -> None:
        block = peer.encoder.encode([*GET, ("x", "y" * size)], huffman=False)
        pieces = [block[at : at + 16_384] for at in range(0, len(block), 16_384)]
        exchanges = peer.send(peer.blocks(1, pieces))
        assert len(exchanges) == (size < 65_000)
        answer(peer.request(3))
        assert peer.goaway_codes() == []

    def test_a_header_list_beyond_reason_ends_the_connection(self, peer: Peer) -> None:
        block = peer.encode([*GET, ("x", "y" * 4000)])
        bomb = b"\xbe" * 35  # the same entry, over and over
        peer.send(peer.blocks(1, [block + bomb]))
        assert peer.goaway_codes() == [ErrorCode.ENHANCE_YOUR_CALM]


class TestBody:  # RFC 9113 §8.1
    def test_it_is_read_as_it_comes(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        peer.send(data(1, b"one"))
        assert peer.connection.runtime.run(exchange.body.next_chunk) == b"one"
        peer.send(data(1, b"two"), data(1, b"three", end=True))
        assert body_of(peer, exchange) == b"twothree"
        answer(exchange)
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]

    def test_trailers(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        peer.send(data(1, b"x"), peer.headers(1, [("checksum", "abc")]))
        assert body_of(peer, exchange) == b"x"
        assert exchange.body.trailers == [(b"checksum", b"abc")]

    @pytest.mark.parametrize("name", ["cookie", "content-type", "authorization"])
    def test_what_must_not_be_in_trailers_is_ignored(
        self, peer: Peer, name: str
    ) -> None:  # RFC 9110 §6.5.1, as on HTTP/1.1
        exchange = peer.request(1, POST, end=False)
        peer.send(data(1, b"x"), peer.headers(1, [("a", "b"), (name, "9")]))
        assert body_of(peer, exchange) == b"x"
        assert exchange.body.trailers == [(b"a", b"b")]

    @pytest.mark.parametrize(
        ("fields", "end"),
        [
            ([("checksum", "abc")], False),  # §8.1: trailers end the stream
            ([(":path", "/")], True),
            ([("Bad", "x")], True),
            ([("connection", "close")], True),
            ([("host", "a")], True),
            ([("content-length", "1")], True),
            ([("te", "trailers")], True),
        ],
    )
    def test_bad_trailers(self, peer: Peer, fields: Fields, end: bool) -> None:
        exchange = peer.request(1, POST, end=False)
        peer.send(data(1, b"x"), peer.headers(1, fields, end=end))
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        with pytest.raises(RemoteProtocolError):
            body_of(peer, exchange)
        answer(peer.request(3))
        assert DATA in [f.kind for f in peer.frames()]

    @pytest.mark.parametrize("length", ["x", "-1", "+5", "1,1", "", "5 5", "1e3"])
    def test_content_length_is_a_number(self, peer: Peer, length: str) -> None:
        malformed(peer, [*POST, ("content-length", length)], end=False)

    def test_content_length_comes_once(self, peer: Peer) -> None:
        twice = [("content-length", "5"), ("content-length", "5")]
        malformed(peer, [*POST, *twice], end=False)

    def test_content_length_without_a_body(self, peer: Peer) -> None:
        malformed(peer, [*POST, ("content-length", "5")])
        exchange = peer.request(7, extra=[("content-length", "0")])
        assert exchange.body.complete

    @pytest.mark.parametrize(
        "rest",
        [
            [data(1, b"123456")],
            [data(1, b"123"), data(1, b"456")],
            [data(1, b"1234", end=True)],
            [data(1, b"123"), data(1, end=True)],
            [data(1, b"123"), b"trailers"],
        ],
    )
    def test_content_length_is_kept(self, peer: Peer, rest: list[bytes]) -> None:
        exchange = peer.request(1, POST, end=False, extra=[("content-length", "5")])
        trailers = peer.headers(1, [("a", "b")]) if rest[-1] == b"trailers" else b""
        peer.send(*rest[:-1], trailers or rest[-1])
        assert peer.rst_codes() == [(1, ErrorCode.PROTOCOL_ERROR)]
        with pytest.raises(RemoteProtocolError):
            body_of(peer, exchange)
        answer(peer.request(3))
        assert DATA in [f.kind for f in peer.frames()]

    def test_content_length_that_is_right(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False, extra=[("content-length", "5")])
        peer.send(data(1, b"123"), data(1, b"45", end=True))
        assert body_of(peer, exchange) == b"12345"

    def test_a_reset_wakes_the_reader(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        runtime = peer.connection.runtime
        task = runtime.spawn(exchange.body.next_chunk)
        runtime.run_ready()
        peer.send(rst(1))
        runtime.run_ready()
        assert isinstance(task.error, Disconnected)

    def test_expect_continue(self, peer: Peer) -> None:  # RFC 9110 §10.1.1
        exchange = peer.request(1, POST, end=False, extra=[("expect", "100-continue")])
        assert peer.frames() == []
        runtime = peer.connection.runtime
        task = runtime.spawn(exchange.body.next_chunk)
        runtime.run_ready()
        (interim,) = peer.frames()
        assert peer.decode(interim) == {":status": "100"}
        assert not interim.ends
        peer.send(data(1, b"x", end=True))
        runtime.run_ready()
        assert task.result == b"x"
        answer(exchange)
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]

    @pytest.mark.parametrize(
        "value", ["100-Continue", "100-CONTINUE", "100-continue, 100-Continue"]
    )
    def test_expectations_have_no_case(self, peer: Peer, value: str) -> None:
        exchange = peer.request(1, POST, end=False, extra=[("expect", value)])
        peer.connection.runtime.spawn(exchange.body.next_chunk)
        peer.connection.runtime.run_ready()
        assert peer.decode(peer.frames()[0])[":status"] == "100"

    @pytest.mark.parametrize(
        "value", ["else", "100-continue, else", "", "100-continue;q"]
    )
    def test_another_expectation_is_417(self, peer: Peer, value: str) -> None:
        assert (
            peer.send(peer.headers(1, POST, end=False, extra=[("expect", value)])) == []
        )
        assert peer.decode(peer.frames()[0])[":status"] == "417"
        answer(peer.request(3))
        assert peer.goaway_codes() == []

    def test_another_expectation_of_head_is_417_without_content(
        self, peer: Peer
    ) -> None:
        head = ((":method", "HEAD"), *GET[1:])
        assert peer.send(peer.headers(1, head, extra=[("expect", "else")])) == []
        (frame,) = peer.frames()
        assert (peer.decode(frame)[":status"], frame.ends) == ("417", True)

    def test_expect_continue_when_the_body_is_there_already(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False, extra=[("expect", "100-continue")])
        peer.send(data(1, b"x"))
        assert peer.connection.runtime.run(exchange.body.next_chunk) == b"x"
        peer.connection.runtime.spawn(exchange.body.next_chunk)
        peer.connection.runtime.run_ready()
        assert peer.frames() == []


class TestResponse:  # RFC 9113 §8.1, §8.3.2
    def test_head_and_body(self, peer: Peer) -> None:
        exchange = peer.request(1)
        assert not exchange.head_sent
        exchange.send_headers(200, [(b"content-type", b"text/plain")])
        assert exchange.head_sent
        exchange.send_data(b"hello ")
        exchange.send_data(b"world", end=True)
        assert exchange.over
        head, first, last = peer.frames()
        fields = peer.decode(head)
        assert list(fields) == [":status", "date", "content-type"]
        assert fields["date"].endswith("GMT")
        assert (first.payload, first.ends) == (b"hello ", False)
        assert (last.payload, last.ends) == (b"world", True)

    def test_a_head_larger_than_a_frame(self, peer: Peer) -> None:
        value = bytes(range(0x21, 0x7F)) * 500
        peer.request(1).send_headers(200, [(b"x", value)], end=True)
        first, *others = peer.frames()
        assert first.ends
        assert [f.kind for f in others] == [CONTINUATION] * len(others)
        assert len(others) > 1
        assert [f.flags & END_HEADERS for f in (first, *others)] == [0] * len(
            others
        ) + [END_HEADERS]
        whole = b"".join(f.payload for f in (first, *others))
        peer.decoder.max_header_list_size = 1 << 20
        fields = {str(name): str(text) for name, text in peer.decoder.decode(whole)}
        assert fields["x"] == value.decode()

    def test_end_with_the_head(self, peer: Peer) -> None:
        peer.request(1).send_headers(404, [], end=True)
        (head,) = peer.frames()
        assert head.ends

    def test_the_handlers_own_date_is_kept(self, peer: Peer) -> None:
        peer.request(1).send_headers(200, [(b"date", b"today")], end=True)
        assert peer.decode(peer.frames()[0])["date"] == "today"

    def test_connection_specific_fields_are_dropped(self, peer: Peer) -> None:
        peer.request(1).send_headers(
            200,
            [
                (b"connection", b"keep-alive"),
                (b"keep-alive", b"timeout=5"),
                (b"proxy-connection", b"x"),
                (b"transfer-encoding", b"chunked"),
                (b"upgrade", b"h2c"),
                (b"x", b"y"),
            ],
            end=True,
        )
        assert list(peer.decode(peer.frames()[0])) == [":status", "date", "x"]

    def test_interim_heads(self, peer: Peer) -> None:
        exchange = peer.request(1)
        exchange.send_headers(103, [(b"link", b"</a>")])
        assert not exchange.head_sent
        exchange.send_headers(200, [], end=True)
        first, second = peer.frames()
        assert peer.decode(first) == {":status": "103", "link": "</a>"}
        assert peer.decode(second)[":status"] == "200"

    def test_there_is_no_101(self, peer: Peer) -> None:  # RFC 9113 §8.6
        with pytest.raises(LocalProtocolError):
            peer.request(1).send_headers(101, [])

    def test_trailers(self, peer: Peer) -> None:
        exchange = peer.request(1)
        exchange.send_headers(200, [])
        exchange.send_data(b"x")
        exchange.send_trailers([(b"grpc-status", b"0"), (b"connection", b"x")])
        head, body, trailers = peer.frames()
        peer.decode(head)
        assert not body.ends
        assert trailers.ends
        assert peer.decode(trailers) == {"grpc-status": "0"}

    def test_no_trailers_after_all(self, peer: Peer) -> None:
        exchange = peer.request(1)
        exchange.send_headers(200, [])
        exchange.send_trailers([])
        assert [f.kind for f in peer.frames()] == [HEADERS, DATA]

    @pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 304)])
    def test_no_body_where_there_is_none(
        self, peer: Peer, method: str, status: int
    ) -> None:
        exchange = peer.request(1, with_(":method", method))
        exchange.send_headers(status, [(b"content-length", b"5")])
        exchange.send_data(b"hello", end=True)
        (head,) = peer.frames()
        assert head.ends
        assert peer.decode(head)["content-length"] == "5"

    def test_204_has_no_content_length(self, peer: Peer) -> None:  # RFC 9110 §8.6
        exchange = peer.request(1)
        exchange.send_headers(204, [(b"content-length", b"0")])
        exchange.send_data(b"", end=True)
        (head,) = peer.frames()
        assert "content-length" not in peer.decode(head)

    def test_an_answer_before_the_end_of_the_request(self, peer: Peer) -> None:
        exchange = peer.request(1, POST, end=False)
        exchange.send_headers(200, [])
        exchange.send_data(b"enough", end=True)
        assert [(f.kind, f.ends) for f in peer.frames()] == [
            (HEADERS, False),
            (DATA, True),
        ]
        exchange.ended()
        peer.send(data(1, b"more"), data(1, b"", end=True))
        assert peer.frames() == []
        assert not peer.engine.exchanges
        peer.advance(1)
        assert peer.frames() == [], "the peer has ended the stream: no reset"

    def test_a_body_that_is_too_short_for_nobody_resets_nothing(
        self, peer: Peer
    ) -> None:
        exchange = peer.request(1, POST, end=False, extra=[("content-length", "9")])
        answer(exchange)
        peer.frames()
        peer.send(data(1, b"short", end=True))
        assert peer.frames() == []
        assert exchange.closed

    def test_a_peer_that_sends_on_after_the_answer_is_reset(self, peer: Peer) -> None:
        for stream_id in (1, 3):
            answer(peer.request(stream_id, POST, end=False))
            peer.advance(0.3)
        assert peer.rst_codes() == [(1, ErrorCode.NO_ERROR)]
        peer.advance(0.1)
        assert peer.rst_codes() == []
        peer.advance(0.4)
        assert peer.rst_codes() == [(3, ErrorCode.NO_ERROR)]
        peer.send(data(1, b"more"), data(3, b"", end=True))
        assert not peer.engine.exchanges
        answer(peer.request(5))
        assert DATA in [f.kind for f in peer.frames()]

    def test_a_drain_does_not_wait_for_it(self, peer: Peer) -> None:
        answer(peer.request(1, POST, end=False))
        peer.frames()
        peer.engine.shut_down()
        assert (1, ErrorCode.NO_ERROR) in peer.rst_codes()
        answer(peer.request(3, POST, end=False))
        assert (3, ErrorCode.NO_ERROR) in peer.rst_codes()

    def test_answered_streams_that_still_receive_count_as_open(
        self, make: Make
    ) -> None:
        peer = make(config=ServerConfig(h2_max_concurrent_streams=2))
        answer(peer.request(1, POST, end=False))
        answer(peer.request(3, POST, end=False))
        peer.frames()
        assert peer.send(peer.headers(5)) == []
        assert peer.rst_codes() == [(5, ErrorCode.REFUSED_STREAM)]

    @pytest.mark.parametrize(
        ("length", "end", "due"),
        [(5, False, True), (5, True, False), (1 << 30, False, False)],
    )
    def test_a_body_is_due_that_fits_into_the_window(
        self, peer: Peer, length: int, end: bool, due: bool
    ) -> None:
        exchange = peer.request(
            1, POST, end=False, extra=[("content-length", str(length))]
        )
        if end:
            peer.send(data(1, bytes(length), end=True))
        assert (exchange.error_delay > 0) is due

    def test_mistakes_of_the_handler(self, peer: Peer) -> None:
        exchange = peer.request(1)
        with pytest.raises(LocalProtocolError):
            exchange.send_data(b"x")
        exchange.send_headers(200, [])
        with pytest.raises(LocalProtocolError):
            exchange.send_headers(200, [])
        with pytest.raises(LocalProtocolError):
            exchange.open_tunnel(200, []).receive_into(exchange.body)
        peer.send(settings((4, 0)))
        exchange.send_data(b"x", end=True)
        with pytest.raises(LocalProtocolError):
            exchange.send_data(b"x")
        with pytest.raises(LocalProtocolError):
            exchange.send_trailers([])

    def test_a_content_length_that_lies(self, peer: Peer) -> None:
        exchange = peer.request(1)
        with pytest.raises(LocalProtocolError):
            exchange.send_headers(200, [(b"content-length", b"5")], end=True)
        exchange.send_headers(200, [(b"content-length", b"5")])
        exchange.send_data(b"123")
        with pytest.raises(LocalProtocolError):
            exchange.send_data(b"456")
        shorter = peer.request(3)
        shorter.send_headers(200, [(b"content-length", b"5")])
        with pytest.raises(LocalProtocolError):
            shorter.send_trailers([])
        with pytest.raises(LocalProtocolError):
            shorter.send_data(b"123", end=True)

    def test_a_handler_that_never_answers(self, peer: Peer) -> None:
        exchange = peer.request(1)
        exchange.ended()
        assert peer.rst_codes() == [(1, ErrorCode.INTERNAL_ERROR)]

    def test_a_handler_that_stops_half_way(self, peer: Peer) -> None:
        exchange = peer.request(1)
        exchange.send_headers(200, [])
        exchange.ended()
        assert peer.rst_codes() == [(1, ErrorCode.INTERNAL_ERROR)]

    def test_a_handler_that_ends_before_the_peer_has_read(self, peer: Peer) -> None:
        peer.send(settings((4, 2)))
        answer(peer.request(1))
        assert peer.engine.exchanges
        peer.send(window_update(1, 10))
        assert b"".join(f.payload for f in peer.frames() if f.kind == DATA) == b"hello"
        assert not peer.engine.exchanges

    def test_a_reset_wakes_the_writer(self, peer: Peer) -> None:
        peer.send(settings((4, 0)))
        exchange = peer.request(1)
        exchange.send_headers(200, [])
        exchange.send_data(bytes(65_536))
        assert not exchange.writable
        runtime = peer.connection.runtime
        task = runtime.spawn(exchange.writable_again)
        runtime.run_ready()
        assert not task.done
        peer.send(rst(1))
        runtime.run_ready()
        assert task.done
        assert exchange.over


class TestIsolation:
    def test_a_malformed_request_leaves_the_others_alone(self, peer: Peer) -> None:
        bad = [*GET, ("Bad", "x")]
        first, third = peer.send(peer.headers(1), peer.headers(3, bad), peer.headers(5))
        answer(first)
        answer(third)
        frames = peer.frames()
        assert [f.stream_id for f in frames if f.kind == DATA] == [1, 5]
        assert [f.stream_id for f in frames if f.kind == RST_STREAM] == [3]
        assert GOAWAY not in [f.kind for f in frames]

    def test_a_reset_leaves_the_others_alone(self, peer: Peer) -> None:
        first, second = peer.send(peer.headers(1), peer.headers(3))
        peer.send(rst(1))
        answer(second)
        assert isinstance(second.task, RecordingTask)
        assert second.task.cancels == 0
        assert [f.stream_id for f in peer.frames()] == [3, 3]
        assert first.over

    def test_bodies_are_credited_even_when_nobody_reads(self, make: Make) -> None:
        peer = make(config=ServerConfig(h2_initial_window_size=1000))
        exchange = peer.request(1, POST, end=False)
        exchange.body.discard()
        peer.send(data(1, bytes(600)))
        updates = [f for f in peer.frames() if f.kind == WINDOW_UPDATE]
        assert [(f.stream_id, f.number) for f in updates] == [(1, 600)]
