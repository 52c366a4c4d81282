"""The opening handshake: RFC 6455 §4.2 on HTTP/1.1, RFC 8441 §5 on HTTP/2."""

import base64
import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias, cast

import pytest
from hypothesis import given, settings, strategies as st

from tako.core.request_body import BodySink
from tako.core.seams import Exchange
from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.request_facts import BodyReader
from tako.http.request_head import HttpVersion
from tako.ws.handshake import (
    Acceptance,
    Rejection,
    accept_key,
    choose_subprotocol,
    shake_hands,
)
from tako.ws.options import Deflate, WsOptions
from tests.support.wire import FakeConnection


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
TEXT = (b"content-type", b"text/plain; charset=utf-8")
VERSION = (b"sec-websocket-version", b"13")
UPGRADE = ((b"upgrade", b"websocket"), (b"connection", b"Upgrade"))
CLOSE = (b"connection", b"close")

H1_FIELDS = {
    b"host": b"a",
    b"connection": b"Upgrade",
    b"upgrade": b"websocket",
    b"sec-websocket-key": KEY,
    b"sec-websocket-version": b"13",
}
H2_FIELDS = {b"sec-websocket-version": b"13"}

Change: TypeAlias = bytes | list[bytes] | None
Make: TypeAlias = Callable[..., Request]


def fields(base: dict[bytes, bytes], changes: dict[str, Change]) -> Headers:
    """Return ``base`` with fields replaced (``_`` for ``-``), repeated or left out."""
    merged: dict[bytes, Change] = dict(base)
    for name, value in changes.items():
        merged[name.replace("_", "-").encode()] = value
    raw: list[tuple[bytes, bytes]] = []
    for key, value in merged.items():
        values = value if isinstance(value, list) else [value]
        raw += [(key, one) for one in values if one is not None]
    return Headers.from_raw(raw)


def h1(method: str = "GET", version: HttpVersion = "1.1", **changes: Change) -> Request:
    return Request(method, "/ws", fields(H1_FIELDS, changes), http_version=version)


def h2(
    protocol: str | None = "websocket",
    body: BodyReader | None = None,
    **changes: Change,
) -> Request:
    return Request(
        "GET",
        "/ws",
        fields(H2_FIELDS, changes),
        http_version="2",
        protocol=protocol,
        body_reader=body,
        exchange=_carrier(cast("BodySink", body)) if body else None,
    )


def accepted(request: Request, options: WsOptions | None = None) -> Acceptance:
    answer = shake_hands(request, options or WsOptions())
    assert isinstance(answer, Acceptance), answer
    return answer


def refused(request: Request, options: WsOptions | None = None) -> Rejection:
    answer = shake_hands(request, options or WsOptions())
    assert isinstance(answer, Rejection), answer
    return answer


def header(answer: Acceptance, name: bytes) -> bytes | None:
    return dict(answer.headers).get(name)


class _NoCredit(Exchange):
    """An exchange as far as ``BodySink`` needs one."""

    def __init__(self) -> None:
        super().__init__(FakeConnection())

    def consumed(self, size: int) -> None:
        """Take note of nothing."""


def _carrier(body: BodySink) -> Exchange:
    exchange = _NoCredit()
    exchange.body = body
    return exchange


def body_sink(*chunks: bytes, ended: bool) -> BodySink:
    sink = BodySink(_NoCredit())
    for chunk in chunks:
        sink.deliver(chunk)
    if ended:
        sink.deliver_eof()
    return sink


class TestHttp1:
    """RFC 6455 §4.2.1 and §4.2.2."""

    def test_a_proper_handshake_is_accepted_with_the_proof_that_it_was_read(
        self,
    ) -> None:
        assert shake_hands(h1(), WsOptions()) == Acceptance(
            101, (*UPGRADE, (b"sec-websocket-accept", ACCEPT)), None, None
        )

    def test_the_accept_key_is_the_one_of_the_rfc(self) -> None:
        assert accept_key(KEY) == ACCEPT

    @pytest.mark.parametrize(
        "changes",
        [
            {"upgrade": b"WebSocket", "connection": b"UPGRADE"},
            {"connection": b"keep-alive, Upgrade"},
            {"connection": [b"keep-alive", b"upgrade"]},
            {"upgrade": b"h2c, websocket"},
            {"upgrade": [b"h2c", b"websocket"]},
            {"connection": b"\xff, upgrade"},
            {"content_length": b"0"},
            {"content_length": [b"0", b"0"]},
            {"sec_websocket_key": b"AAAAAAAAAAAAAAAAAAAAAA=="},
            {"origin": b"https://anywhere.example"},
            {"origin": b"\xff"},
            {"sec_websocket_extensions": b"\xff"},
        ],
    )
    def test_variations_that_mean_the_same_are_accepted(
        self, changes: dict[str, Any]
    ) -> None:
        assert accepted(h1(**changes)).status == 101

    @pytest.mark.parametrize(
        ("request_", "expected"),
        [
            (
                h1("POST"),
                Rejection(
                    405, (TEXT, (b"allow", b"GET")), b"WebSocket upgrade requires GET"
                ),
            ),
            (
                h1(version="1.0"),
                Rejection(400, (TEXT,), b"WebSocket upgrade requires HTTP/1.1"),
            ),
            (
                h1(sec_websocket_key=None),
                Rejection(400, (TEXT,), b"Missing Sec-WebSocket-Key"),
            ),
            (
                h1(sec_websocket_version=None),
                Rejection(400, (TEXT, VERSION), b"Missing Sec-WebSocket-Version"),
            ),
        ],
        ids=["method", "http-version", "no-key", "no-version"],
    )
    def test_a_request_that_is_no_handshake_is_told_why(
        self, request_: Request, expected: Rejection
    ) -> None:
        assert shake_hands(request_, WsOptions()) == expected

    @pytest.mark.parametrize(
        "changes",
        [
            {"upgrade": None, "connection": None},
            {"upgrade": None},
            {"connection": None},
            {"connection": b"keep-alive"},
            {"upgrade": b"h2c"},
            {"upgrade": b"websocket2"},
            {"connection": b"xupgrade"},
        ],
    )
    def test_a_plain_get_is_told_to_upgrade(self, changes: dict[str, Any]) -> None:
        # RFC 9110 §15.5.22
        assert shake_hands(h1(**changes), WsOptions()) == Rejection(
            426, (TEXT, *UPGRADE), b"Expected Upgrade: websocket"
        )

    @pytest.mark.parametrize("version", [b"12", b"", b"013", b"13, 13", [b"13", b"13"]])
    def test_another_version_is_told_ours(self, version: Change) -> None:
        # RFC 6455 §4.2.2 and §4.4
        assert shake_hands(h1(sec_websocket_version=version), WsOptions()) == Rejection(
            426, (TEXT, VERSION, *UPGRADE), b"Unsupported Sec-WebSocket-Version"
        )

    @pytest.mark.parametrize(
        "key",
        [
            b"",
            b"AAAAAAAAAAAAAAAAAAAA",  # 15 bytes
            b"AAAAAAAAAAAAAAAAAAAAAAAA",  # 18 bytes
            b"AAAAAAAAAAAAAAAAAAAAAAA=",  # 17 bytes
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ==\n",
            b"dGhlIHNhbXBsZSBub25j*Q==",
            b"\xff" * 22 + b"==",
            [KEY, b"AAAAAAAAAAAAAAAAAAAAAA=="],
            [KEY, KEY],
        ],
    )
    def test_the_key_is_one_and_sixteen_bytes(self, key: Change) -> None:
        assert shake_hands(h1(sec_websocket_key=key), WsOptions()) == Rejection(
            400, (TEXT,), b"Invalid Sec-WebSocket-Key"
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"content_length": b"3"},
            {"content_length": [b"0", b"3"]},
            {"content_length": b"x"},
            {"transfer_encoding": b"chunked"},
            {"transfer_encoding": b"chunked", "content_length": b"0"},
        ],
    )
    def test_a_request_with_a_body_ends_the_connection(
        self, changes: dict[str, Any]
    ) -> None:
        assert shake_hands(h1(**changes), WsOptions()) == Rejection(
            400, (TEXT, CLOSE), b"WebSocket upgrade request must not have a body"
        )

    def test_of_many_faults_the_first_of_the_order_is_named(self) -> None:
        changes: dict[str, Any] = {
            "origin": b"https://evil.example",
            "upgrade": None,
            "sec_websocket_key": None,
            "sec_websocket_version": None,
            "content_length": b"3",
        }
        options = WsOptions(allowed_origins=frozenset({"https://good.example"}))
        method, version = "POST", "1.0"

        def body() -> bytes:
            request = h1(method, cast("HttpVersion", version), **changes)
            return refused(request, options).body

        bodies = [body()]
        changes["origin"] = b"https://good.example"
        bodies.append(body())
        method = "GET"
        bodies.append(body())
        version = "1.1"
        bodies.append(body())
        changes["upgrade"] = b"websocket"
        bodies.append(body())
        changes["sec_websocket_key"] = b"bad"
        bodies.append(body())
        changes["sec_websocket_version"] = b"12"
        bodies.append(body())
        changes["sec_websocket_version"] = b"13"
        bodies.append(body())
        changes["sec_websocket_key"] = KEY
        bodies.append(body())
        assert bodies == [
            b"origin not allowed",
            b"WebSocket upgrade requires GET",
            b"WebSocket upgrade requires HTTP/1.1",
            b"Expected Upgrade: websocket",
            b"Missing Sec-WebSocket-Key",
            b"Missing Sec-WebSocket-Version",
            b"Unsupported Sec-WebSocket-Version",
            b"Invalid Sec-WebSocket-Key",
            b"WebSocket upgrade request must not have a body",
        ]


class TestHttp2:
    """RFC 8441 §5."""

    def test_an_extended_connect_is_accepted_with_200_and_nothing_else(self) -> None:
        assert shake_hands(h2(), WsOptions()) == Acceptance(200, (), None, None)

    def test_a_well_formed_key_is_answered_for_clients_that_insist(self) -> None:
        assert accepted(h2(sec_websocket_key=KEY)).headers == (
            (b"sec-websocket-accept", ACCEPT),
        )

    @pytest.mark.parametrize("key", [b"x", b"", b"\xff", [KEY, KEY]])
    def test_any_other_key_is_ignored(self, key: Change) -> None:
        assert accepted(h2(sec_websocket_key=key)).headers == ()

    @pytest.mark.parametrize("protocol", [None, "connect-udp"])
    def test_an_ordinary_get_is_told_to_connect_and_never_to_upgrade(
        self, protocol: str | None
    ) -> None:
        assert shake_hands(
            h2(protocol, sec_websocket_key=b"x"), WsOptions()
        ) == Rejection(400, (TEXT,), b"Expected extended CONNECT (RFC 8441)")

    def test_a_missing_version_is_told_ours(self) -> None:
        assert shake_hands(h2(sec_websocket_version=None), WsOptions()) == Rejection(
            400, (TEXT, VERSION), b"Missing Sec-WebSocket-Version"
        )

    @pytest.mark.parametrize("version", [b"12", b"", [b"13", b"13"]])
    def test_another_version_is_told_ours_without_426(self, version: Change) -> None:
        assert shake_hands(h2(sec_websocket_version=version), WsOptions()) == Rejection(
            400, (TEXT, VERSION), b"Unsupported Sec-WebSocket-Version"
        )

    def test_a_stream_that_has_ended_is_refused(self) -> None:
        assert shake_hands(h2(body=body_sink(ended=True)), WsOptions()) == Rejection(
            400, (TEXT,), b"WebSocket stream already closed"
        )

    def test_a_stream_with_early_frames_is_not_closed_yet(self) -> None:
        assert accepted(h2(body=body_sink(ended=False))).status == 200
        early = body_sink(b"\x81\x82\x00\x00\x00\x00hi", ended=True)
        assert accepted(h2(body=early)).status == 200

    @pytest.mark.parametrize("length", [b"0", b"3"])
    def test_a_content_length_is_refused(self, length: bytes) -> None:
        assert shake_hands(h2(content_length=length), WsOptions()) == Rejection(
            400, (TEXT,), b"WebSocket upgrade request must not have a body"
        )

    def test_of_many_faults_the_first_of_the_order_is_named(self) -> None:
        options = WsOptions(allowed_origins=frozenset({"https://good.example"}))
        ended = body_sink(ended=True)
        bodies = [
            refused(
                h2(None, ended, sec_websocket_version=None, content_length=b"1"),
                options,
            ).body,
            refused(
                h2(None, ended, sec_websocket_version=None, content_length=b"1")
            ).body,
            refused(
                h2(body=ended, sec_websocket_version=None, content_length=b"1")
            ).body,
            refused(h2(body=ended, content_length=b"1")).body,
            refused(h2(content_length=b"1")).body,
        ]
        assert bodies == [
            b"origin not allowed",
            b"Expected extended CONNECT (RFC 8441)",
            b"Missing Sec-WebSocket-Version",
            b"WebSocket stream already closed",
            b"WebSocket upgrade request must not have a body",
        ]


@pytest.mark.parametrize("make", [h1, h2])
class TestBothWires:
    """What does not depend on the wire."""

    def test_a_foreign_origin_is_refused(self, make: Make) -> None:
        options = WsOptions(allowed_origins=frozenset({"https://good.example"}))
        refusal = Rejection(403, (TEXT,), b"origin not allowed")
        foreign: Change
        for foreign in (
            b"https://evil.example",
            b"null",
            None,
            [b"https://good.example"] * 2,
        ):
            assert shake_hands(make(origin=foreign), options) == refusal
        request = make(origin=b"HTTPS://Good.Example:443")
        assert isinstance(shake_hands(request, options), Acceptance)

    def test_an_empty_allow_list_refuses_every_origin(self, make: Make) -> None:
        request = make(origin=b"https://good.example")
        assert refused(request, WsOptions(allowed_origins=frozenset())).status == 403

    def test_the_chosen_subprotocol_is_announced(self, make: Make) -> None:
        options = WsOptions(protocols=("chat", "superchat"))
        answer = accepted(make(sec_websocket_protocol=b"superchat, chat"), options)
        assert answer.subprotocol == "chat"
        assert header(answer, b"sec-websocket-protocol") == b"chat"

    def test_no_common_subprotocol_is_no_fault(self, make: Make) -> None:
        options = WsOptions(protocols=("chat",))
        for offer in (b"SUPERCHAT", b"Chat", [b"a", b" b\t, c"], None):
            answer = accepted(make(sec_websocket_protocol=offer), options)
            assert answer.subprotocol is None
            assert header(answer, b"sec-websocket-protocol") is None

    @pytest.mark.parametrize(
        "offer",
        [
            b"",
            b"chat,",
            b"chat,,superchat",
            [b"chat", b""],
            b"chat, chat",
            [b"chat", b"chat"],
            b'"chat"',
            b"chat superchat",
            b"chat; q=1",
            b"chat/1",
            b"chat, \xff",
        ],
    )
    def test_an_offer_that_is_no_list_of_tokens_is_400(
        self, make: Make, offer: Change
    ) -> None:
        for options in (
            WsOptions(),
            WsOptions(protocols=("chat",)),
        ):  # RFC 6455 §4.1, §11.3.4
            refusal = refused(make(sec_websocket_protocol=offer), options)
            assert refusal.status == 400
            assert refusal.body == b"Invalid Sec-WebSocket-Protocol"

    def test_compression_is_never_agreed_on_unless_the_route_allows_it(
        self, make: Make
    ) -> None:
        request = make(sec_websocket_extensions=b"permessage-deflate")
        answer = accepted(request)
        assert answer.deflate is None
        assert header(answer, b"sec-websocket-extensions") is None

    def test_compression_is_agreed_on_where_both_want_it(self, make: Make) -> None:
        options = WsOptions(compression=Deflate())
        offer = b"permessage-deflate; client_max_window_bits"
        answer = accepted(make(sec_websocket_extensions=offer), options)
        words = b"permessage-deflate; client_max_window_bits=12"
        assert header(answer, b"sec-websocket-extensions") == words
        assert answer.deflate is not None
        assert answer.deflate.their_window_bits == 12

    @pytest.mark.parametrize(
        "lines",
        [
            [b"foo", b"permessage-deflate; x=1, permessage-deflate"],
            [b'foo; a="x, y", permessage-deflate'],
        ],
    )
    def test_an_acceptable_offer_is_found_in_any_field(
        self, make: Make, lines: list[bytes]
    ) -> None:
        request = make(sec_websocket_extensions=lines)
        answer = accepted(request, WsOptions(compression=Deflate()))
        assert header(answer, b"sec-websocket-extensions") == b"permessage-deflate"

    def test_an_offer_that_is_declined_does_not_fail_the_handshake(
        self, make: Make
    ) -> None:
        request = make(sec_websocket_extensions=b"permessage-deflate; foo=1")
        answer = accepted(request, WsOptions(compression=Deflate()))
        assert answer.deflate is None
        assert header(answer, b"sec-websocket-extensions") is None


class TestSubprotocol:
    """RFC 6455 §4.2.2, and §11.3.4."""

    @pytest.mark.parametrize(
        ("lines", "chosen"),
        [
            ([b"superchat, chat"], "chat"),
            ([b"superchat"], "superchat"),
            ([b"other", b"superchat"], "superchat"),
            ([b"superchat", b"chat"], "chat"),
            ([b" \t superchat\t ,other"], "superchat"),
            ([b",,chat,"], "chat"),
            ([b"SUPERCHAT"], None),
            ([b"chat2 chat"], None),
            ([b"chat\xff"], None),
            ([b"chat, \xff"], None),
            ([b"chat\x00"], None),
            ([b""], None),
            ([], None),
        ],
    )
    def test_the_first_of_ours_that_the_client_offers_is_chosen(
        self, lines: list[bytes], chosen: str | None
    ) -> None:
        assert choose_subprotocol(lines, ("chat", "superchat")) == chosen

    def test_without_a_list_nothing_is_chosen(self) -> None:
        assert choose_subprotocol([b"chat"], ()) is None

    def test_a_long_offer_costs_linear_time(self) -> None:
        offer = b",".join(b"p%d" % number for number in range(10_000))

        def cost(count: int) -> float:
            supported = tuple(f"q{number}" for number in range(count))
            began = time.thread_time()
            assert choose_subprotocol([offer], supported) is None
            return time.thread_time() - began

        few, many = (min(cost(count) for _ in range(5)) for count in (10, 1000))
        assert many < 10 * few  # a hundred times, if each were looked for


@settings(deadline=None)
@given(st.binary(min_size=16, max_size=16))
def test_every_key_of_sixteen_bytes_is_accepted(nonce: bytes) -> None:
    key = base64.b64encode(nonce)
    answer = accepted(h1(sec_websocket_key=key))
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    assert header(answer, b"sec-websocket-accept") == base64.b64encode(digest)


FIELD_NAMES = st.sampled_from(
    [
        b"origin",
        b"upgrade",
        b"connection",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"sec-websocket-protocol",
        b"sec-websocket-extensions",
        b"content-length",
        b"transfer-encoding",
    ]
)


@settings(deadline=None)
@given(st.lists(st.tuples(FIELD_NAMES, st.binary(max_size=30)), max_size=6))
def test_no_request_raises(extra: list[tuple[bytes, bytes]]) -> None:
    options = WsOptions(
        protocols=("chat",),
        allowed_origins=frozenset({"https://good.example"}),
        compression=Deflate(),
    )
    for request in (h1(), h2()):
        request.headers.raw.extend(extra)
        for one in (options, replace(options, allowed_origins=None)):
            answer = shake_hands(request, one)
            assert answer.status in {101, 200, 400, 403, 426}
