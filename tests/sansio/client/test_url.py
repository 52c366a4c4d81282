"""What a URL says about where a WebSocket is."""

import pytest

from tako.client.url import join, parse_url
from tako.errors import ConfigError


@pytest.mark.parametrize(
    ("url", "origin", "authority", "path"),
    [
        ("ws://a.test", "ws://a.test", b"a.test", b"/"),
        ("WSS://A.test:443/x?y=z", "wss://a.test", b"a.test", b"/x?y=z"),
        ("ws://a.test:8000/x y", "ws://a.test:8000", b"a.test:8000", b"/x%20y"),
        ("wss://[::1]:80?q", "wss://[::1]:80", b"[::1]:80", b"/?q"),
        ("ws://bücher.test/ü", "ws://xn--bcher-kva.test", b"xn--bcher-kva.test",
         b"/%C3%BC"),
        ("ws://a.test/%20", "ws://a.test", b"a.test", b"/%20"),
    ],
)  # fmt: skip
def test_a_target(url: str, origin: str, authority: bytes, path: bytes) -> None:
    target = parse_url(url)
    assert (target.origin, target.authority, target.path) == (origin, authority, path)
    assert target.tls is url.lower().startswith("wss")
    assert target.unix is None


def test_the_user_info_is_for_the_server() -> None:
    target = parse_url("ws://user:p%40ss@a.test/")
    assert target.credentials == b"Basic dXNlcjpwQHNz"
    assert target.authority == b"a.test"
    assert parse_url("ws://a.test").credentials is None


@pytest.mark.parametrize(
    ("url", "path"),
    [("ws+unix:/run/a.sock:/x?y", b"/x?y"), ("ws+unix:/run/a.sock", b"/")],
)
def test_a_unix_socket(url: str, path: bytes) -> None:
    target = parse_url(url)
    assert (target.unix, target.path) == ("/run/a.sock", path)
    assert target.authority == b"localhost"
    assert target.origin == "ws+unix:/run/a.sock"
    assert parse_url(url.replace("ws", "wss", 1)).tls


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.test",
        "http://a.test",
        "ws://",
        "ws:///path",
        "ws://a.test/#x",
        "ws://a.test:99999",
        "ws://[::1",
        "ws://" + "ü" * 70 + ".test",
        "ws+unix:",
    ],
)
def test_what_is_no_url_of_a_websocket(url: str) -> None:
    with pytest.raises(ConfigError):
        parse_url(url)


@pytest.mark.parametrize(
    ("base", "path", "joined"),
    [
        ("wss://a.test", "/ws", "wss://a.test/ws"),
        ("wss://a.test", "ws", "wss://a.test/ws"),
        ("wss://a.test/", "/ws", "wss://a.test/ws"),
        ("wss://a.test/v1/", "chat?x=1", "wss://a.test/v1/chat?x=1"),
        ("wss://a.test/v1", "//chat", "wss://a.test/v1/chat"),
        ("wss://a.test/v1", "?x=1", "wss://a.test/v1?x=1"),
        ("wss://a.test/v1", "", "wss://a.test/v1"),
        ("wss://a.test", "ws://b.test/", "ws://b.test/"),
        (None, "WS://b.test/", "WS://b.test/"),
        ("ws+unix:/run/app.sock", "/ws", "ws+unix:/run/app.sock:/ws"),
        ("ws+unix:/run/app.sock:/v1", "ws", "ws+unix:/run/app.sock:/v1/ws"),
        ("wss://a.test", "ws+unix:/b.sock:/", "ws+unix:/b.sock:/"),
    ],
)
def test_a_path_is_below_the_base(base: str | None, path: str, joined: str) -> None:
    assert join(base, path) == joined


@pytest.mark.parametrize(
    ("base", "path", "text"),
    [
        (None, "/ws", "has no base_url"),
        ("wss://a.test/?x=1", "/ws", "has a query"),
        ("wss://a.test/#x", "/ws", "has a query or a fragment"),
    ],
)
def test_a_path_needs_a_base_that_it_can_be_below(
    base: str | None, path: str, text: str
) -> None:
    with pytest.raises(ConfigError, match=text):
        join(base, path)
