"""What a request is called in OpenTelemetry's conventions."""

from typing import Any

import pytest

from tako import Headers, Request
from tako.http.conn_info import IpPeer, UnixPeer
from tako.otel.conventions import Fields, described, name_of


@pytest.mark.parametrize(
    ("host", "address", "port"),
    [
        ("example.com", "example.com", None),
        ("example.com:8443", "example.com", 8443),
        ("[::1]:8443", "::1", 8443),
        ("[::1]", "::1", None),
        ("example.com:", "example.com:", None),
        ("example.com:99999999", "example.com:99999999", None),
    ],
)
def test_the_server_is_what_the_client_asked_for(
    host: str, address: str, port: int | None
) -> None:
    request = Request.build(headers={"host": host})
    found = described(request, IpPeer("192.0.2.7", 1), query=False)
    assert found.get("server.address") == address
    assert found.get("server.port") == port
    assert found["client.address"] == "192.0.2.7"


def test_what_is_not_known_is_left_out() -> None:
    found = described(Request.build(path="/a?b=c"), UnixPeer(), query=False)
    assert found == {
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/a",
        "network.protocol.version": "1.1",
    }


@pytest.mark.parametrize(
    ("method", "route", "name"),
    [("GET", "/{x}", "GET /{x}"), ("PUT", None, "PUT"), ("BREW", "/", "HTTP /")],
)
def test_a_span_is_called_by_method_and_route(
    method: str, route: str | None, name: str
) -> None:
    assert name_of(Request.build(method), route) == name


def test_fields_of_several_lines_are_one_value() -> None:
    lines: list[Any] = [("tracestate", "a=1"), ("x", "y"), ("tracestate", b"b=\xff")]
    headers = Headers(lines)
    fields = Fields()
    assert fields.get(headers, "tracestate") == ["a=1,b=\xff"]
    assert fields.get(headers, "baggage") is None
    assert fields.keys(headers) == ["tracestate", "x", "tracestate"]
