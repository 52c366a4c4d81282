"""Which redirects of a handshake are followed, and what goes along."""

import ssl
from typing import Any

import pytest

import tako
from tako.client.redirect import MAX_REDIRECTS, redirected
from tako.client.settings import Settings, default_context
from tako.errors import HandshakeRejected
from tako.http.headers import Headers


def settings_of(url: str = "wss://a.test/chat", **options: Any) -> Settings:
    return tako.connect(url, **{"proxy": None, **options})._settings


def answer(status: int = 302, *locations: str, raw: bytes | None = None) -> Any:
    values = [each.encode() for each in locations] if raw is None else [raw]
    error = HandshakeRejected("no", step="handshake", origin="wss://a.test", wire="2")
    error.status, error.body = status, b"body"
    error.headers = Headers.from_raw([(b"location", value) for value in values])
    return error


def follow(settings: Settings, location: str, followed: int = 0) -> Settings:
    return redirected(settings, answer(302, location), followed)


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
def test_every_redirect_with_a_location_is_followed(status: int) -> None:
    new = redirected(settings_of(), answer(status, "/other"), 0)
    assert (new.target.origin, new.target.path) == ("wss://a.test", b"/other")


@pytest.mark.parametrize(
    ("location", "origin", "path"),
    [
        ("/other?a=b", "wss://a.test", b"/other?a=b"),
        ("next", "wss://a.test", b"/next"),
        ("?a", "wss://a.test", b"/chat?a"),
        ("//b.test/x", "wss://b.test", b"/x"),
        ("wss://b.test:99/x#there", "wss://b.test:99", b"/x"),
        ("https://b.test", "wss://b.test", b"/"),
        ("HTTPS://B.test:443/", "wss://b.test", b"/"),
        ("wss://[::1]/é", "wss://[::1]", b"/%C3%A9"),
    ],
)
def test_a_location_is_seen_from_the_url(
    location: str, origin: str, path: bytes
) -> None:
    target = follow(settings_of(), location).target
    assert (target.origin, target.path) == (origin, path)


def test_tls_may_be_taken_up() -> None:
    for location in ("wss://a.test/", "https://a.test/"):
        new = follow(settings_of("ws://a.test/"), location)
        assert new.target.origin == "wss://a.test"
        assert new.context is default_context()
        assert new.server_hostname == "a.test"
    for location in ("ws://b.test/", "http://b.test/"):
        new = follow(settings_of("ws://a.test/"), location)
        assert (new.target.origin, new.context) == ("ws://b.test", None)


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("ws://a.test/", "it would give up TLS"),
        ("http://a.test/", "it would give up TLS"),
        ("ftp://a.test/", "no URL of a WebSocket"),
        ("javascript:alert(1)", "no URL of a WebSocket"),
        ("ws+unix:/run/app.sock", "no URL of a WebSocket"),
        ("wss://user:secret@b.test/", "it names a user"),
        ("wss://user@a.test/", "it names a user"),
        ("wss:///x", "no host"),
        ("wss://b.test:port/", "Port could not be cast"),
        ("wss://[::1/", "Invalid IPv6"),
    ],
)
def test_what_cannot_be_followed_is_told(location: str, why: str) -> None:
    with pytest.raises(HandshakeRejected, match=why) as caught:
        follow(settings_of(), location)
    error = caught.value
    assert (error.status, error.body, error.wire) == (302, b"body", "2")
    assert (error.origin, error.step) == ("wss://a.test", "handshake")
    assert error.headers["location"]
    assert isinstance(error.__cause__, HandshakeRejected)


@pytest.mark.parametrize(
    "rejected",
    [answer(302), answer(302, "/a", "/b"), answer(304, "/"), answer(403, "/")],
)
def test_what_is_no_redirect_is_raised_as_it_is(rejected: HandshakeRejected) -> None:
    with pytest.raises(HandshakeRejected) as caught:
        redirected(settings_of(), rejected, 0)
    assert caught.value is rejected


def test_redirects_have_a_limit() -> None:
    follow(settings_of(), "/other", MAX_REDIRECTS - 1)
    with pytest.raises(HandshakeRejected, match="there were 10 redirects already"):
        follow(settings_of(), "/other", MAX_REDIRECTS)


def test_a_long_location_is_cut_in_a_message() -> None:
    with pytest.raises(HandshakeRejected) as caught:
        follow(settings_of(), "ftp://" + "a" * 10_000)
    assert len(str(caught.value)) < 400


def test_a_location_may_be_any_bytes() -> None:
    new = redirected(settings_of(), answer(302, raw=b"/\xff\xc3\xa9"), 0)
    assert new.target.path == b"/%EF%BF%BD%C3%A9"


SECRET = {"authorization": "Bearer x", "cookie": "a=b", "proxy-authorization": "c"}


def names(settings: Settings) -> set[bytes]:
    return {name for name, _ in settings.fields}


@pytest.mark.parametrize(
    ("location", "same"),
    [
        ("/other", True),
        ("wss://a.test:443/other", True),
        ("https://A.TEST/other", True),
        ("wss://b.test/", False),
        ("wss://a.test:8443/", False),
        ("wss://a.test.evil.test/", False),
    ],
)
def test_credentials_go_to_the_same_origin_only(location: str, same: bool) -> None:
    for settings in (
        settings_of(additional_headers={**SECRET, "x-other": "y"}),
        settings_of("wss://user:pass@a.test/", additional_headers={"x-other": "y"}),
    ):
        new = follow(settings, location)
        secret = {name.encode() for name in SECRET} & names(settings)
        assert secret
        assert names(new) == names(settings) - (set() if same else secret)
        assert b"x-other" in names(new)
        assert new.target.credentials is None


def test_credentials_do_not_follow_tls_that_is_taken_up() -> None:
    old = settings_of("ws://a.test/", additional_headers=SECRET)
    assert not names(follow(old, "wss://a.test/")) & {b"authorization", b"cookie"}


def test_credentials_do_not_come_back() -> None:
    there = follow(settings_of(additional_headers=SECRET), "wss://b.test/")
    assert b"cookie" not in names(follow(there, "wss://a.test/"))


def test_another_name_of_the_host_is_not_that_of_another_host() -> None:
    settings = settings_of(server_hostname="pinned.test")
    assert follow(settings, "/other").server_hostname == "pinned.test"
    assert follow(settings, "wss://a.test:99/").server_hostname == "pinned.test"
    assert follow(settings, "wss://b.test/").server_hostname == "b.test"


def test_the_rest_is_kept() -> None:
    context = ssl.create_default_context()
    old = settings_of(ssl=context, http_versions=("2",), subprotocols=["chat"])
    new = follow(old, "wss://b.test/")
    assert new.context is context
    assert (new.versions, new.options) == (old.versions, old.options)
    assert new.open_timeout == old.open_timeout


def test_a_unix_socket_is_not_left() -> None:
    settings = settings_of("ws+unix:/run/app.sock:/chat")
    for location in ("/other", "ws://localhost/other", "http://localhost:80/other"):
        target = follow(settings, location).target
        assert (target.unix, target.path) == ("/run/app.sock", b"/other")
    for location in ("ws://a.test/", "ws://localhost:99/", "wss://localhost/"):
        with pytest.raises(HandshakeRejected, match="leads away from a Unix socket"):
            follow(settings, location)


def test_each_target_has_its_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://p.test")
    monkeypatch.setenv("no_proxy", "b.test")
    settings = settings_of(proxy=True)
    assert settings.proxy is not None
    assert follow(settings, "/other").proxy == settings.proxy
    there = follow(settings, "wss://b.test/")
    assert there.proxy is None
    assert follow(there, "wss://a.test/").proxy == settings.proxy
    given = settings_of(proxy="http://q.test")
    assert follow(given, "wss://b.test/").proxy == given.proxy


def test_a_target_that_its_proxy_cannot_have_is_told() -> None:
    settings = settings_of(proxy="socks5h://p.test")
    with pytest.raises(HandshakeRejected, match="too long"):
        follow(settings, f"wss://{'a.' * 130}test/")
