"""``allowed_hosts``: requests for known hosts only."""

from typing import Any

import pytest

from tako.errors import ConfigError
from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.allowed_hosts import allowed_hosts
from tako.routing.router import Router
from tests.support.wire import FakeRuntime


HOSTS = ["example.com", "[::1]", "*.Below.test", "127.0.0.1:8443"]


def status(host: str | None, **how: Any) -> int:
    router = Router().middleware(allowed_hosts(HOSTS))
    router.get("/", lambda: "served")
    headers = Headers() if host is None else Headers([("host", host)])
    request = Request("GET", "/", headers, **how)
    response = FakeRuntime().run(router.dispatch, request)
    assert isinstance(response, Response)
    return response.status


@pytest.mark.parametrize(
    "host",
    [
        "example.com",
        "EXAMPLE.com:8080",
        "[::1]:443",
        "127.0.0.1",
        "a.below.test",
        "A.b.BELOW.test:1",
    ],
)
def test_known_hosts_are_served(host: str) -> None:
    assert status(host) == 200


@pytest.mark.parametrize(
    "host",
    [
        None,
        "",
        "example.com.",
        "notexample.com",
        "a.example.com",
        "below.test",
        "xbelow.test",
        ".below.test.evil",
        "[::2]",
        "user@example.com",
        "example.com:80:80",
        "evil.test#example.com",
    ],
)
def test_others_are_misdirected(host: str | None) -> None:
    assert status(host) == 421


def test_the_authority_of_the_request_goes_before_the_field() -> None:
    assert status("evil.test", authority="example.com") == 200
    assert status("example.com", authority="evil.test") == 421


@pytest.mark.parametrize(
    "names", ["example.com", ["a b"], ["https://a.test"], ["*"], ["*.*.test"], ["a.*"]]
)
def test_what_is_no_host_is_an_error(names: Any) -> None:
    with pytest.raises(ConfigError, match="allowed_hosts"):
        allowed_hosts(names)
