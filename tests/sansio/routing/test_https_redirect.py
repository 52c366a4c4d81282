"""``https_redirect``: the router that sends every client to HTTPS."""

from typing import Any

import pytest

from tako.errors import ConfigError
from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.https_redirect import https_redirect
from tako.routing.router import Router
from tests.support.wire import FakeRuntime


def answer(router: Router, target: str, host: str | None, **kwargs: Any) -> Response:
    headers = Headers() if host is None else Headers([("host", host)])
    request = Request(kwargs.pop("method", "GET"), target, headers, **kwargs)
    response = FakeRuntime().run(router.dispatch, request)
    assert isinstance(response, Response)
    return response


@pytest.mark.parametrize(
    ("host", "target", "location"),
    [
        ("example.com", "/", "https://example.com/"),
        ("example.com:8080", "/a%20b?c=d&e", "https://example.com/a%20b?c=d&e"),
        ("Example.COM", "//x//?", "https://Example.COM//x//?"),
        ("[::1]:8080", "/x", "https://[::1]/x"),
        ("127.0.0.1:80", "/x", "https://127.0.0.1/x"),
        ("example.com:", "/x", "https://example.com/x"),
        ("example.com", "*", "https://example.com/"),
    ],
)
def test_every_request_goes_to_https(host: str, target: str, location: str) -> None:
    response = answer(https_redirect(), target, host, method="POST")
    assert (response.status, response.body) == (308, b"")
    assert response.headers.items() == [("location", location)]


def test_a_port_other_than_443_is_named() -> None:
    response = answer(https_redirect(8443), "/x", "[::1]")
    assert response.headers["location"] == "https://[::1]:8443/x"


def test_the_authority_of_http_2_is_the_host() -> None:
    response = answer(
        https_redirect(), "/x", None, authority="a.example:80", http_version="2"
    )
    assert response.headers["location"] == "https://a.example/x"


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        " ",
        "a b",
        "user@example.com",
        "example.com/path",
        "example.com\\x",
        "example.com:99999",
        "example.com:x",
        "[::1",
        "[::1]x",
        "ex\xe4mple.com",
        "a,b/",
    ],
)
def test_a_host_that_is_none_is_a_400(host: str | None) -> None:
    response = answer(https_redirect(), "/", host)
    assert (response.status, response.body) == (400, b"invalid Host header")


@pytest.mark.parametrize("authority", ["a\r\nb", "a\nb", "a\0"])
def test_a_host_with_control_characters_is_a_400(authority: str) -> None:
    response = answer(https_redirect(), "/", None, authority=authority)
    assert (response.status, response.body) == (400, b"invalid Host header")


ALLOWED = ["example.com", "WWW.example.com:80", "[::1]"]


@pytest.mark.parametrize(
    "host", ["example.com", "EXAMPLE.com:8080", "www.example.com", "[::1]:1"]
)
def test_an_allowed_host_is_redirected(host: str) -> None:
    router = https_redirect(443, ALLOWED)
    assert answer(router, "/", host).status == 308


@pytest.mark.parametrize(
    "host",
    ["evil.example", "example.com.evil.example", "sub.example.com", "example.com."],
)
def test_another_host_is_a_421(host: str) -> None:
    router = https_redirect(443, ALLOWED)
    response = answer(router, "/", host)
    assert (response.status, response.body) == (421, b"host not allowed")
    assert "location" not in response.headers


def test_a_bad_host_is_a_400_before_it_is_a_421() -> None:
    router = https_redirect(443, ALLOWED)
    assert answer(router, "/", "a b").status == 400
    assert answer(https_redirect(443, []), "/", "a").status == (421)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="port must be from 1 to 65535"):
        https_redirect(port)


def test_allowed_hosts_are_checked() -> None:
    with pytest.raises(ConfigError, match="is not a host"):
        https_redirect(allowed_hosts=["https://example.com"])
    with pytest.raises(ConfigError, match="takes several hosts"):
        https_redirect(allowed_hosts="example.com")
