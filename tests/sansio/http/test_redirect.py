"""Redirects, and the router that sends everybody to HTTPS."""

from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Any

import pytest

from tako.errors import ConfigError
from tako.http.headers import Headers
from tako.http.redirect import (
    Redirect,
    found,
    permanent,
    permanent_moved,
    see_other,
    temporary,
)
from tako.http.request import Request
from tako.http.response import Response, into_response
from tako.routing.https_redirect import (
    http_to_https_router,
    http_to_https_router_with_allowed_hosts,
)
from tako.routing.router import Router
from tests.support.wire import FakeRuntime


def answer(router: Router, target: str, host: str | None, **kwargs: Any) -> Response:
    headers = Headers() if host is None else Headers([("host", host)])
    request = Request(kwargs.pop("method", "GET"), target, headers, **kwargs)
    response = FakeRuntime().run(router.dispatch, request)
    assert isinstance(response, Response)
    return response


@pytest.mark.parametrize(
    ("make", "status"),
    [
        (found, 302),
        (see_other, 303),
        (temporary, 307),
        (permanent_moved, 301),
        (permanent, 308),
    ],
)
def test_each_redirect_has_its_status(
    make: Callable[[str], Redirect], status: int
) -> None:
    response = into_response(make("/new?x=1"))
    assert (response.status, response.body) == (status, b"")
    assert response.headers.items() == [("location", "/new?x=1")]
    assert repr(make("/x")) == f"Redirect({status}, '/x')"


@pytest.mark.parametrize(
    "make", [found, see_other, temporary, permanent_moved, permanent]
)
def test_a_redirect_takes_headers_and_cookies(make: Callable[..., Redirect]) -> None:
    many = [("X-A", "1"), ("x-a", "2"), ("Location", "/other")]
    response = make("/new", headers=many, cookies={"id": "a=b", "q": '"c"'})
    again = make("/new", headers=Headers(many), cookies={"id": "a=b", "q": '"c"'})
    for each in (response, again):
        assert into_response(each).headers.items() == [
            ("location", "/new"),
            ("x-a", "1"),
            ("x-a", "2"),
            ("set-cookie", "id=a=b"),
            ("set-cookie", 'q="c"'),
        ]


def test_a_cookie_has_the_attributes_that_its_morsel_has() -> None:
    cookies: SimpleCookie = SimpleCookie()
    cookies["id"] = "7"
    cookies["id"]["path"] = "/"
    cookies["id"]["httponly"] = True
    cookies["id"]["samesite"] = "Lax"
    response = see_other("/", headers={"cache-control": "no-store"}, cookies=cookies)
    assert into_response(response).headers.items() == [
        ("location", "/"),
        ("cache-control", "no-store"),
        ("set-cookie", "id=7; HttpOnly; Path=/; SameSite=Lax"),
    ]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", "a; Path=/"),
        ("id", "a b"),
        ("id", "a\r\nx: y"),
        ("id", "ä"),
        ("i d", "a"),
    ],
)
def test_what_is_no_cookie_is_refused(name: str, value: str) -> None:
    with pytest.raises(ValueError, match="is no cookie"):
        see_other("/", cookies={name: value})


def test_a_header_that_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="CR, LF or NUL"):
        see_other("/", headers={"x": "a\r\nb: c"})


@pytest.mark.parametrize("status", [200, 300, 304, 305, 400])
def test_other_statuses_are_no_redirects(status: int) -> None:
    with pytest.raises(ValueError, match="is no redirect"):
        Redirect(status, "/")


@pytest.mark.parametrize(
    "location", ["/a\r\nset-cookie: x=1", "/a\nb", "/\0", "/ä", "/\x7f", " /x", "/x\t"]
)
def test_a_location_that_no_header_can_hold_is_a_500(location: str) -> None:
    response = found(location).into_response()
    assert response.status == 500
    assert response.body == b"redirect location contains invalid header characters"
    assert "location" not in response.headers


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
    response = answer(http_to_https_router(), target, host, method="POST")
    assert (response.status, response.body) == (308, b"")
    assert response.headers.items() == [("location", location)]


def test_a_port_other_than_443_is_named() -> None:
    response = answer(http_to_https_router(8443), "/x", "[::1]")
    assert response.headers["location"] == "https://[::1]:8443/x"


def test_the_authority_of_http_2_is_the_host() -> None:
    response = answer(
        http_to_https_router(), "/x", None, authority="a.example:80", http_version="2"
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
    response = answer(http_to_https_router(), "/", host)
    assert (response.status, response.body) == (400, b"invalid Host header")


@pytest.mark.parametrize("authority", ["a\r\nb", "a\nb", "a\0"])
def test_a_host_with_control_characters_is_a_400(authority: str) -> None:
    response = answer(http_to_https_router(), "/", None, authority=authority)
    assert (response.status, response.body) == (400, b"invalid Host header")


ALLOWED = ["example.com", "WWW.example.com:80", "[::1]"]


@pytest.mark.parametrize(
    "host", ["example.com", "EXAMPLE.com:8080", "www.example.com", "[::1]:1"]
)
def test_an_allowed_host_is_redirected(host: str) -> None:
    router = http_to_https_router_with_allowed_hosts(443, ALLOWED)
    assert answer(router, "/", host).status == 308


@pytest.mark.parametrize(
    "host",
    ["evil.example", "example.com.evil.example", "sub.example.com", "example.com."],
)
def test_another_host_is_a_421(host: str) -> None:
    router = http_to_https_router_with_allowed_hosts(443, ALLOWED)
    response = answer(router, "/", host)
    assert (response.status, response.body) == (421, b"host not allowed")
    assert "location" not in response.headers


def test_a_bad_host_is_a_400_before_it_is_a_421() -> None:
    router = http_to_https_router_with_allowed_hosts(443, ALLOWED)
    assert answer(router, "/", "a b").status == 400
    assert answer(
        http_to_https_router_with_allowed_hosts(443, []), "/", "a"
    ).status == (421)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_out_of_range_is_refused(port: int) -> None:
    with pytest.raises(ConfigError, match="port must be from 1 to 65535"):
        http_to_https_router(port)


def test_allowed_hosts_are_checked() -> None:
    with pytest.raises(ConfigError, match="is no host"):
        http_to_https_router_with_allowed_hosts(443, ["https://example.com"])
    with pytest.raises(ConfigError, match="takes several hosts"):
        http_to_https_router_with_allowed_hosts(443, "example.com")
