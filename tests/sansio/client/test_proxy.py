"""Which proxy leads to a server: URLs, and the environment as ``websockets`` has it."""

import itertools
import sys

import pytest
from websockets.proxy import get_proxy
from websockets.uri import parse_uri

from tako.client.http_connect import HttpConnect
from tako.client.proxy import Proxy, choose_proxy, parse_proxy
from tako.client.socks import SocksConnect
from tako.client.url import Target, parse_url
from tako.errors import ConfigError


WS, WSS = parse_url("ws://a.test/"), parse_url("wss://a.test/")
NAMES = ("ws", "wss", "http", "https", "socks", "all", "no")


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://p.test", Proxy("http", "p.test", 80, None)),
        ("http://p.test:3128/", Proxy("http", "p.test", 3128, None)),
        ("p.test:3128", Proxy("http", "p.test", 3128, None)),
        ("https://[::1]", Proxy("https", "::1", 443, None)),
        ("HTTP://P.test", Proxy("http", "p.test", 80, None)),
        ("socks5://p.test", Proxy("socks5", "p.test", 1080, None)),
        ("socks5h://p.test:9", Proxy("socks5h", "p.test", 9, None)),
        ("http://bücher.test", Proxy("http", "xn--bcher-kva.test", 80, None)),
        (
            "http://u:p%40%C3%A9@p.test",
            Proxy("http", "p.test", 80, (b"u", b"p@\xc3\xa9")),
        ),
        ("http://token@p.test", Proxy("http", "p.test", 80, (b"token", b""))),
    ],
)
def test_a_url_says_what_a_proxy_is(url: str, proxy: Proxy) -> None:
    assert parse_proxy(url) == proxy


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://p.test",
        "socks4://p.test",
        "http://",
        "http://:3128",
        "http://p.test/path",
        "http://p.test?query",
        "http://p.test#fragment",
        "http://p.test:port",
        "http://p.test:99999",
        "http://[::1",
    ],
)
def test_what_is_no_proxy_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="the proxy"):
        parse_proxy(url)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://user:secret@p.test",
        "http://user:secret@p.test/path",
        "user:secret@p.test:port",
        "http://us@er:secret@p.test:port",
        "socks5://:secret@p.test",
        "http://us%3Aer:secret@p.test",
    ],
)
def test_an_error_does_not_tell_the_password(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        choose_proxy(url, WS)
    assert "secret" not in str(caught.value)
    assert "p.test" in str(caught.value)


@pytest.mark.parametrize(
    "credentials", ["user@", "user:@", ":x@", f"{'u' * 256}:p@", f"u:{'p' * 256}@"]
)
def test_socks_takes_a_user_and_a_password_of_255_bytes(credentials: str) -> None:
    with pytest.raises(ConfigError, match="user and a password"):
        choose_proxy(f"socks5://{credentials}p.test", WS)


def test_socks_takes_names_of_255_bytes() -> None:
    host = f"{'a' * 63}." * 4
    with pytest.raises(ConfigError, match="too long"):
        choose_proxy("socks5h://p.test", parse_url(f"ws://{host}test/"))


def test_socks_without_its_library_names_the_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'tako-server\[socks\]'"):
        choose_proxy("socks5://p.test", WS)
    assert choose_proxy("http://p.test", WS) is not None


def test_a_proxy_is_chosen_by_its_argument() -> None:
    assert choose_proxy(None, WS) is None
    assert choose_proxy(True, WS) is None
    assert choose_proxy("http://p.test", WS) == Proxy("http", "p.test", 80, None)
    unix = parse_url("ws+unix:/run/app.sock:/")
    assert choose_proxy("http://p.test", unix) is None


def test_a_unix_socket_needs_no_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("http_proxy", "http://p.test")
    assert choose_proxy(True, parse_url("ws+unix:/run/app.sock:/")) is None


def ours(target: Target) -> str | None:
    proxy = choose_proxy(True, target)
    return None if proxy is None else proxy.shown


@pytest.mark.skipif(sys.platform != "linux", reason="the system may have proxies")
@pytest.mark.parametrize("url", ["ws://a.test/", "wss://a.test/", "ws://a.test:99/"])
def test_the_environment_is_read_as_websockets_reads_it(
    monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    for size in range(1, len(NAMES) + 1):
        for names in itertools.combinations(NAMES, size):
            with monkeypatch.context() as environment:
                for name in names:
                    value = "a.test:99" if name == "no" else f"http://{name}.test:1"
                    environment.setenv(f"{name}_proxy", value)
                assert ours(parse_url(url)) == get_proxy(parse_uri(url)), names


def test_the_environment_may_name_any_kind_of_proxy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "socks5h://p.test")
    assert ours(WSS) == "socks5h://p.test:1080"
    monkeypatch.setenv("HTTPS_PROXY", "http://other.test")
    monkeypatch.delenv("https_proxy")
    assert ours(WSS) == "http://other.test:80"
    monkeypatch.setenv("WSS_PROXY", "")
    assert ours(WSS) == "http://other.test:80"


@pytest.mark.parametrize("value", ["*", "a.test", ".test", "b.test, a.test"])
def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("https_proxy", "http://p.test")
    monkeypatch.setenv("no_proxy", value)
    assert ours(WSS) is None


def test_what_is_wrong_in_the_environment_says_where_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("https_proxy", "gopher://p.test")
    with pytest.raises(ConfigError, match="environment"):
        choose_proxy(True, WSS)


def test_each_kind_of_proxy_has_its_step() -> None:
    for url, kind in (
        ("http://p.test", HttpConnect),
        ("https://p.test", HttpConnect),
        ("socks5://p.test", SocksConnect),
        ("socks5h://p.test", SocksConnect),
    ):
        proxy = parse_proxy(url)
        assert isinstance(proxy.step("a.test", 80, None), kind)
        assert proxy.tls is (proxy.scheme == "https")
        assert proxy.takes_addresses is (proxy.scheme == "socks5")


def test_credentials_reach_an_http_proxy_as_basic() -> None:
    step = parse_proxy("http://user:pass@p.test").step("a.test", 443, b"tako")
    assert step.data_to_send() == (
        b"CONNECT a.test:443 HTTP/1.1\r\nhost: a.test:443\r\nuser-agent: tako\r\n"
        b"proxy-authorization: Basic dXNlcjpwYXNz\r\n\r\n"
    )
