"""``ServerConfig`` and its parts."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from tako.config import (
    AcceptBackoff,
    Range,
    ServerConfig,
    WireConfig,
    choices_of,
    positive,
    range_of,
    seconds,
)
from tako.errors import ConfigError


def test_defaults_are_the_documented_ones() -> None:
    config = ServerConfig()
    assert config.drain_timeout == 30.0
    assert config.header_read_timeout == 30.0
    assert config.keep_alive is True
    assert config.keep_alive_timeout is None
    assert config.h2_max_concurrent_streams == 100
    assert config.h2_enable_connect_protocol is True
    assert config.alpn == ("h2", "http/1.1")
    assert config.max_connections is None
    assert config.tls_handshake_timeout == 10.0
    assert config.max_proxy_header == 4096
    assert config.accept_backoff == AcceptBackoff(initial=0.005, max=1.0)
    assert config.ws_ping_interval == config.ws_ping_timeout == 20.0
    assert config.tcp_keep_alive_idle == 60
    assert config.tcp_keep_alive_interval == 10
    assert config.tcp_keep_alive_count == 6


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1, 1.0), (0.25, 0.25), (timedelta(milliseconds=1500), 1.5)],
)
def test_durations_are_seconds_or_timedeltas(value: Any, expected: float) -> None:
    assert seconds(value, "x") == expected
    assert ServerConfig(drain_timeout=value).drain_timeout == expected
    assert ServerConfig(send_timeout=value).send_timeout == expected


@pytest.mark.parametrize(
    "value", [0, -1, float("nan"), float("inf"), timedelta(0), timedelta(seconds=-1)]
)
def test_a_duration_is_positive_and_finite(value: Any) -> None:
    with pytest.raises(ConfigError, match="must be a positive number of seconds"):
        seconds(value, "drain_timeout")
    with pytest.raises(ConfigError, match=r"^drain_timeout must be"):
        ServerConfig(drain_timeout=value)
    with pytest.raises(ValueError, match=r"^send_timeout must be"):
        ServerConfig(send_timeout=value)


@pytest.mark.parametrize("value", ["1", True, b"", []])
def test_a_duration_of_another_type_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="takes seconds or a timedelta"):
        ServerConfig(drain_timeout=value)


def test_only_optional_durations_can_be_switched_off() -> None:
    assert ServerConfig(header_read_timeout=None).header_read_timeout is None
    with pytest.raises(ConfigError, match="not NoneType"):
        ServerConfig(drain_timeout=None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("h2_max_concurrent_streams", 0),
        ("h2_max_concurrent_streams", 10_001),
        ("h2_initial_window_size", 2**31),
        ("h2_max_header_list_size", 1023),
        ("max_connections", 0),
        ("min_rate", -1),
        ("max_tls_handshakes", 0),
    ],
)
def test_a_count_out_of_range_is_refused_by_name(name: str, bad: int) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be from"):
        ServerConfig(**{name: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.0, "1", True, None])
def test_a_count_is_an_integer(value: Any) -> None:
    with pytest.raises(ConfigError, match="takes an integer"):
        positive(value, "n")


def test_positive_returns_what_is_in_range() -> None:
    assert positive(3, "n", least=3, most=3) == 3
    assert ServerConfig(min_rate=0).min_rate == 0


@pytest.mark.parametrize(
    "protocols", [(), ("h3",), ("h2", "h2"), ("h2", "http/1.1", "http/1.0")]
)
def test_alpn_is_a_choice_of_the_two_protocols(protocols: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="alpn takes"):
        ServerConfig(alpn=protocols)


def test_alpn_keeps_the_order_of_preference_in_a_tuple() -> None:
    assert ServerConfig(alpn=["http/1.1", "h2"]).alpn == ("http/1.1", "h2")
    with pytest.raises(ConfigError, match=r'write \("h2",\)'):
        ServerConfig(alpn="h2")


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ("127.0.0.1", r'takes a sequence .*write \("127.0.0.1",\)'),
        (["10.0.0.1/8"], "takes addresses, networks .*host bits set"),
        (["localhost"], "takes addresses, networks .*'localhost'"),
        ([""], "takes addresses, networks"),
        (["unix:"], "takes addresses, networks"),
    ],
)
def test_what_is_no_proxy_is_refused(names: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^forwarded_allow_ips {why}"):
        ServerConfig(forwarded_allow_ips=names)


def test_proxies_are_kept_in_a_tuple() -> None:
    assert ServerConfig().forwarded_allow_ips == ("127.0.0.0/8", "::1", "unix")
    assert ServerConfig().forwarded_host is False
    names = ["10.0.0.0/8", "2001:db8::1", "unix", "*"]
    assert ServerConfig(forwarded_allow_ips=names).forwarded_allow_ips == tuple(names)
    for nothing in (None, ()):
        assert ServerConfig(forwarded_allow_ips=nothing).forwarded_allow_ips == ()


def test_a_keylog_is_the_name_of_a_file() -> None:
    assert ServerConfig(keylog="secrets").keylog == "secrets"
    with pytest.raises(
        ConfigError, match=r"^keylog takes the name of a file, not int$"
    ):
        ServerConfig(keylog=1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path", ["/", "/healthz", "/a/b.c", "/a%2Fb", "/~user/(x)!$&'*+,;=:@-_", None]
)
def test_a_health_path_is_what_a_client_can_ask_for(path: str | None) -> None:
    assert ServerConfig(health_path=path).health_path == path
    assert ServerConfig().health_path is None
    assert ServerConfig().health_lag == 5


@pytest.mark.parametrize(
    "path", ["", "healthz", "/a?b", "/a#b", "/a b", "/é", "/a%2", "/a\n", "http://x/"]
)
def test_what_is_no_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match=r'^health_path begins with "/" .*"/healthz"'):
        ServerConfig(health_path=path)
    with pytest.raises(ConfigError, match=r"^health_path takes a path, not b"):
        ServerConfig(health_path=b"/healthz")  # type: ignore[arg-type]


def test_a_choice_is_one_of_the_texts_of_its_field() -> None:
    fields = {field.name: field for field in dataclasses.fields(ServerConfig)}
    assert choices_of(fields["drain_websockets"]) == ("now", "end")
    assert choices_of(fields["health_path"]) == ()
    assert ServerConfig().drain_websockets == "now"
    assert ServerConfig(drain_websockets="end").drain_websockets == "end"
    for wrong in ("later", None, 1):
        with pytest.raises(ConfigError, match=r"^drain_websockets is 'now' or 'end',"):
            ServerConfig(drain_websockets=wrong)  # type: ignore[arg-type]


def test_a_config_is_frozen_and_keyword_only() -> None:
    config = ServerConfig()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.keep_alive = False
    with pytest.raises(TypeError):
        ServerConfig(("h2",))  # type: ignore[call-arg]


def test_a_server_takes_every_option_of_a_wire() -> None:
    config: WireConfig = ServerConfig(max_headers=7, send_timeout=timedelta(seconds=1))
    assert (config.max_headers, config.send_timeout) == (7, 1.0)
    assert not hasattr(WireConfig(), "drain_timeout")
    with pytest.raises(ConfigError, match=r"^max_headers must be from 1 to 10000"):
        WireConfig(max_headers=0)


def test_a_range_is_that_of_the_field() -> None:
    fields = {field.name: field for field in dataclasses.fields(ServerConfig)}
    assert range_of(fields["h2_max_concurrent_streams"]) == Range(1, 10_000, none=False)
    assert range_of(fields["h2_max_header_list_size"]) == Range(
        1024, 1 << 24, none=True
    )
    assert range_of(fields["drain_timeout"]) is None
    for number in (1, 10_000):
        config = ServerConfig(h2_max_concurrent_streams=number)
        assert config.h2_max_concurrent_streams == number


@pytest.mark.parametrize("name", ["h2_max_header_list_size", "max_body_size"])
def test_only_optional_counts_can_be_switched_off(name: str) -> None:
    assert getattr(ServerConfig(**{name: None}), name) is None  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^max_headers takes an integer"):
        ServerConfig(max_headers=None)  # type: ignore[arg-type]


def test_a_config_can_be_replaced_in_part() -> None:
    config = dataclasses.replace(ServerConfig(max_headers=7), drain_timeout=1)
    assert (config.max_headers, config.drain_timeout) == (7, 1.0)


def test_accept_backoff_does_not_shrink() -> None:
    with pytest.raises(ConfigError, match="must not be below initial"):
        AcceptBackoff(initial=2.0, max=1.0)
    backoff = AcceptBackoff(initial=timedelta(milliseconds=1), max=1)
    assert (backoff.initial, backoff.max) == (0.001, 1.0)
