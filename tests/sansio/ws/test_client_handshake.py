"""What a client asks for, and which answers it takes (RFC 6455 §4.1, RFC 8441 §5)."""

from collections.abc import Callable

import pytest

from tako.http.answer import HandshakeResponse
from tako.http.headers import Headers
from tako.ws.client_handshake import (
    check_response,
    h1_head,
    h2_fields,
    new_key,
    offer_fields,
)
from tako.ws.options import Deflate, WsOptions


KEY = b"dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 §1.3
SWITCH = {
    "upgrade": "WebSocket",
    "connection": "keep-alive, Upgrade",
    "sec-websocket-accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
}
OPTIONS = WsOptions(protocols=("chat", "v2"), compression=Deflate(15, 15))


def h1(**fields: str) -> HandshakeResponse:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return HandshakeResponse(101, Headers({**SWITCH, **named}), "1.1")


def h2(**fields: str) -> HandshakeResponse:
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return HandshakeResponse(200, Headers(named), "2")


def test_each_request_has_a_key_of_its_own() -> None:
    assert len({new_key() for _ in range(100)}) == 100
    assert all(len(new_key()) == 24 for _ in range(9))


def test_what_is_sent() -> None:
    fields = offer_fields(OPTIONS)
    assert fields == [
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"chat, v2"),
        (
            b"sec-websocket-extensions",
            b"permessage-deflate; client_max_window_bits",
        ),
    ]
    assert offer_fields(WsOptions()) == fields[:1]
    head = h1_head(b"/x", b"a.test", KEY, fields[:1])
    assert head.split(b"\r\n") == [
        b"GET /x HTTP/1.1",
        b"host: a.test",
        b"upgrade: websocket",
        b"connection: Upgrade",
        b"sec-websocket-key: " + KEY,
        b"sec-websocket-version: 13",
        b"",
        b"",
    ]
    assert h2_fields(b"/x", b"a.test", b"https", fields[:1]) == [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", b"https"),
        (b":authority", b"a.test"),
        (b":path", b"/x"),
        (b"sec-websocket-version", b"13"),
    ]


@pytest.mark.parametrize("response", [h1(), h2(), h2(sec_websocket_accept="wrong")])
def test_nothing_needs_to_be_agreed_on(response: HandshakeResponse) -> None:
    assert check_response(response, OPTIONS, KEY) == (None, None)


@pytest.mark.parametrize("make", [h1, h2])
def test_what_is_agreed_on(make: Callable[..., HandshakeResponse]) -> None:
    response = make(
        sec_websocket_protocol="v2", sec_websocket_extensions="permessage-deflate"
    )
    subprotocol, deflate = check_response(response, OPTIONS, KEY)
    assert subprotocol == "v2"
    assert deflate is not None


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"upgrade": "h2c"}, "does not upgrade"),
        ({"connection": "close"}, "no Connection: Upgrade"),
        ({"sec_websocket_accept": "x"}, "Sec-WebSocket-Accept"),
        ({"sec_websocket_protocol": "other"}, "subprotocol 'other'"),
        ({"sec_websocket_protocol": "chat, v2"}, "subprotocol"),
        ({"sec_websocket_extensions": "x-mux"}, "extensions 'x-mux'"),
        ({"sec_websocket_extensions": "permessage-deflate, x"}, "extensions"),
        ({"sec_websocket_extensions": "permessage-deflate; x"}, "permessage-deflate"),
        ({"sec_websocket_extensions": '"'}, "extensions"),
    ],
)
def test_what_nobody_asked_for_fails(fields: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_response(h1(**fields), OPTIONS, KEY)


def test_an_extension_that_was_not_offered_fails_on_http2_as_well() -> None:
    response = h2(sec_websocket_extensions="permessage-deflate")
    with pytest.raises(ValueError, match="not what was offered"):
        check_response(response, WsOptions(), KEY)


def test_an_accept_that_comes_twice_is_none() -> None:
    headers = Headers([*SWITCH.items(), ("sec-websocket-accept", "x")])
    with pytest.raises(ValueError, match="Accept"):
        check_response(HandshakeResponse(101, headers, "1.1"), OPTIONS, KEY)
