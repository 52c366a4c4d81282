"""The Origin allow-list (RFC 6455 §10.2, RFC 6454)."""

import re

import pytest

from tako.http.headers import Headers
from tako.ws.origin import normalize_allowed, normalize_origin, origin_allowed


NORMALISED = [
    ("HTTPS://Example.COM", "https://example.com"),
    ("http://example.com:80", "http://example.com"),
    ("ws://example.com:80", "ws://example.com"),
    ("https://example.com:443", "https://example.com"),
    ("wss://example.com:443", "wss://example.com"),
    ("http://example.com:443", "http://example.com:443"),
    ("https://example.com:80", "https://example.com:80"),
    ("https://example.com:8443", "https://example.com:8443"),
    ("https://example.com:08443", "https://example.com:8443"),
    ("https://example.com:0000000443", "https://example.com"),
    ("https://example.com:0", "https://example.com:0"),
    ("https://example.com:65535", "https://example.com:65535"),
    ("https://example.com/path?x=1", "https://example.com"),
    ("https://example.com?x=1", "https://example.com"),
    ("https://example.com#top", "https://example.com"),
    ("https://example.com/@user", "https://example.com"),
    (" https://example.com ", "https://example.com"),
    ("\thttps://example.com\t", "https://example.com"),
    ("https://example.com:", "https://example.com"),
    ("https://[::1]:8443", "https://[::1]:8443"),
    ("https://[::1]", "https://[::1]"),
    ("https://[::0001]", "https://[::1]"),
    ("https://[2001:DB8:0:0:0:0:0:1]:443", "https://[2001:db8::1]"),
    ("https://[::ffff:192.0.2.1]", "https://[::ffff:c000:201]"),
    ("https://[::ffff:c000:201]", "https://[::ffff:c000:201]"),
    ("chrome-extension://AbC", "chrome-extension://abc"),
    ("https://example.com.", "https://example.com."),
    ("http://127.1", "http://127.1"),
    ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
    ("https://a_b.example", "https://a_b.example"),
]

NO_ORIGIN = [
    "",
    " ",
    "null",
    "NULL",
    "not-an-origin",
    "*",
    "app.example.com",
    "https://user@example.com",
    "https://u:p@h",
    "https://good.example@evil.example",
    "https://example.com:99999",
    "https://example.com:65536",
    "https://example.com:100000000000000000000",
    "https://example.com:1e3",
    "https://example.com:+443",
    "https://example.com:\u0664\u0664\u0663",
    "https://example.com:80:80",
    "file:///etc/x",
    "data:x",
    "https:example.com",
    "https:\\\\example.com",
    "https://example.com\\@evil.example",
    "https://example.com/\\x",
    "https://",
    "https:///path",
    "https://:443",
    "://example.com",
    "1https://example.com",
    "https://exa mple.com",
    "https://example.com https://evil.example",
    "https://example.com/a b",
    "https://example.com\n",
    "https://exam\x00ple.com",
    "https://example.com\x7f",
    "https://ex%61mple.com",
    "https://[fe80::1%25eth0]",
    "https://[::1",
    "https://::1",
    "https://[::g]",
    "https://[1::2::3]",
    "https://[1.2.3.4]",
    "https://[]",
    "https://b\u00fccher.example",
    "https://example.com/\u00fc",
    "https://\u212aexample.com",
]


@pytest.mark.parametrize(("raw", "normal"), NORMALISED)
def test_an_origin_has_one_normal_form(raw: str, normal: str) -> None:
    assert normalize_origin(raw) == normal


@pytest.mark.parametrize(("raw", "normal"), NORMALISED)
def test_a_normal_form_is_its_own_normal_form(raw: str, normal: str) -> None:
    assert normalize_origin(normal) == normal


@pytest.mark.parametrize("raw", NO_ORIGIN)
def test_what_is_no_origin_has_no_normal_form(raw: str) -> None:
    assert normalize_origin(raw) is None


def test_a_hostile_origin_costs_linear_time() -> None:
    for part in ("a", "a.", ":", "[", "0", "/", "@"):
        assert normalize_origin("https://" + part * 60_000 + "\x00") is None


@pytest.mark.parametrize(
    ("entry", "normal"),
    [
        ("HTTPS://App.Example.COM:443/", "https://app.example.com"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example:8443/x", "https://xn--bcher-kva.example:8443"),
        ("https://\u4f8b\u3048.jp", "https://xn--r8jz45g.jp"),
        (" https://example.com", "https://example.com"),
    ],
)
def test_an_allowed_origin_is_normalised_and_may_be_in_unicode(
    entry: str, normal: str
) -> None:
    assert normalize_allowed(entry) == normal


@pytest.mark.parametrize(
    ("entry", "fix"),
    [
        ("*", "do not set allowed_origins"),
        ("null", "cannot be allowed"),
        ("app.example.com", "write scheme://host"),
        ("", "write scheme://host"),
        ("https://user@example.com", "without user or password"),
        ("https://*.example.com", "list every origin"),
        ("https://stra\u00dfe.example", "xn--"),
        ("https://a\u200db.example", "xn--"),
        ("https://" + "\u00fc" * 64 + ".example", "xn--"),
        ("https://\u00fc..example", "xn--"),
        ("https://b\u00fccher@example.com", "without user or password"),
    ],
)
def test_a_useless_allowed_origin_is_refused_with_the_fix(entry: str, fix: str) -> None:
    with pytest.raises(ValueError, match=re.escape(fix)) as caught:
        normalize_allowed(entry)
    assert str(caught.value).startswith(repr(entry))


ALLOWED = frozenset({"https://app.example.com", "https://[::1]:8443"})


@pytest.mark.parametrize(
    "line",
    [
        b"https://app.example.com",
        b"HTTPS://APP.EXAMPLE.COM",
        b"https://app.example.com:443",
        b"https://[::0001]:8443",
    ],
)
def test_a_listed_origin_is_let_in(line: bytes) -> None:
    assert origin_allowed(Headers.from_raw([(b"origin", line)]), ALLOWED)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"null",
        b"https://evil.example",
        b"http://app.example.com",
        b"wss://app.example.com",
        b"https://app.example.com:8443",
        b"https://app.example.com.",
        b"https://app.example.com.evil.example",
        b"https://xapp.example.com",
        b"https://evil@app.example.com",
        b"https://app.example.com\xff",
        b"https://\xffapp.example.com",
        b"https://[::1]",
        b"https://[::1",
        b"https://app.example.com https://evil.example",
    ],
)
def test_any_other_origin_is_not(line: bytes) -> None:
    assert not origin_allowed(Headers.from_raw([(b"origin", line)]), ALLOWED)


def test_a_request_without_an_origin_is_not_let_in() -> None:
    assert not origin_allowed(Headers(), ALLOWED)


def test_two_origin_lines_are_not_let_in() -> None:
    line = (b"origin", b"https://app.example.com")
    assert not origin_allowed(Headers.from_raw([line, line]), ALLOWED)


def test_an_empty_allow_list_lets_no_origin_in() -> None:
    headers = Headers({"origin": "https://app.example.com"})
    assert not origin_allowed(headers, frozenset())
    assert not origin_allowed(Headers({"origin": "null"}), frozenset())
