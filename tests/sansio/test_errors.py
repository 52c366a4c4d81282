"""The tree of exceptions."""

import pytest

from tako import errors
from tako.errors import ConnectionClosed, HttpError, TakoError, WsError


def test_everything_is_a_tako_error() -> None:
    classes = [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert len(classes) > 10
    assert all(issubclass(each, TakoError) for each in classes)


@pytest.mark.parametrize(
    ("name", "parent"),
    [
        ("RouteConflictError", "ConfigError"),
        ("TlsConfigError", "ConfigError"),
        ("LocalProtocolError", "ProtocolError"),
        ("RemoteProtocolError", "ProtocolError"),
        ("ProxyProtocolError", "RemoteProtocolError"),
        ("ConnectionClosed", "WsError"),
        ("ProtocolViolation", "WsError"),
        ("InvalidUtf8", "ProtocolViolation"),
        ("FrameTooBig", "WsError"),
        ("MessageTooBig", "WsError"),
    ],
)
def test_the_tree_has_the_drawn_shape(name: str, parent: str) -> None:
    assert getattr(errors, name).__bases__ == (getattr(errors, parent),)


@pytest.mark.parametrize(
    "name",
    [
        "DialError",
        "TlsError",
        "HandshakeRejected",
        "HandshakeInvalid",
        "Http2Unavailable",
        "ConnectTimeout",
    ],
)
def test_a_connect_error_says_what_and_where(name: str) -> None:
    error = getattr(errors, name)("no", step="TLS", origin="wss://a", wire="2")
    assert isinstance(error, errors.ConnectError)
    assert (error.step, error.origin, error.wire) == ("TLS", "wss://a", "2")
    assert str(error) == "wss://a: no"
    assert isinstance(error, OSError) is (name in {"DialError", "ConnectTimeout"})


def test_a_config_error_is_a_value_error() -> None:
    assert issubclass(errors.ConfigError, ValueError)
    assert issubclass(errors.RouteConflictError, ValueError)


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("WsError", 1006),
        ("ProtocolViolation", 1002),
        ("InvalidUtf8", 1007),
        ("FrameTooBig", 1009),
        ("MessageTooBig", 1009),
    ],
)
def test_a_websocket_error_has_its_close_code(name: str, code: int) -> None:
    assert getattr(errors, name)().close_code == code


def test_connection_closed_carries_code_and_reason() -> None:
    error = ConnectionClosed(4000, "bye")
    assert (error.code, error.close_code, error.reason) == (4000, 4000, "bye")
    assert str(error) == "4000 bye"
    assert str(ConnectionClosed()) == "1006"
    assert WsError.close_code == 1006


def test_http_error_carries_status_detail_and_headers() -> None:
    error = HttpError(404, "no such user", (("x", "1"),))
    assert (error.status, error.detail) == (404, "no such user")
    assert error.headers == (("x", "1"),)
    assert str(error) == "no such user"
    assert str(HttpError(503)) == "HTTP status 503"


@pytest.mark.parametrize("status", [0, 200, 302, 399, 600])
def test_http_error_takes_error_statuses_only(status: int) -> None:
    with pytest.raises(ValueError, match="from 400 to 599"):
        HttpError(status)
