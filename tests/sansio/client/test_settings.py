"""What a client holds, and what a WebSocket says otherwise."""

import ssl
from datetime import timedelta
from typing import Any

import pytest

import tako
from tako.client.settings import make_config, make_settings
from tako.errors import ConfigError


def test_defaults_are_those_of_websockets() -> None:
    made = make_settings("wss://a.test/ws", {})
    config = make_config({})
    assert made.versions == ("2", "1.1")
    assert (made.open_timeout, made.close_timeout) == (10, 10)
    assert made.options.max_message_size == 1 << 20
    assert (config.ws_ping_interval, config.ws_ping_timeout) == (20, 20)
    assert made.watched
    assert made.keep_alive is None
    assert (b"user-agent", b"tako") in made.fields


def test_what_connect_says_goes_before_what_the_client_says() -> None:
    client: Any = {
        "open_timeout": 1,
        "close_timeout": timedelta(seconds=2),
        "max_size": 3,
        "subprotocols": ["a"],
        "http_versions": ("2",),
        "origin": "https://a.test",
        "user_agent_header": None,
    }
    made = make_settings("ws://a.test/", {"max_size": None, "open_timeout": 9}, client)
    assert (made.open_timeout, made.close_timeout) == (9, 2)
    assert made.options.max_message_size > 1 << 40
    assert made.options.protocols == ("a",)
    assert made.versions == ("2",)
    assert made.fields[0][0] == b"origin"
    assert b"user-agent" not in dict(made.fields)


def test_fields_are_added_or_take_the_place_of_those_of_the_same_name() -> None:
    client: Any = {"additional_headers": [("A", "1"), ("b", "2"), ("b", "3")]}
    options: Any = {"additional_headers": [("B", "4"), ("origin", "o")], "origin": "p"}
    made = make_settings("ws://a.test/", options, client)
    assert made.fields[:3] == ((b"a", b"1"), (b"b", b"4"), (b"origin", b"o"))
    assert [name for name, _ in made.fields].count(b"origin") == 1


def test_the_tls_of_a_client_is_for_those_that_have_tls() -> None:
    context = ssl.create_default_context()
    assert make_settings("wss://a.test/", {}, {"ssl": context}).context is context
    assert make_settings("ws://a.test/", {}, {"ssl": context}).context is None
    with pytest.raises(ConfigError, match="is for wss"):
        make_settings("ws://a.test/", {"ssl": context})


def test_an_interval_that_connect_is_given_is_that_of_the_websocket() -> None:
    made = make_settings("ws://a.test/", {"ping_interval": 5}, {"ping_timeout": 7})
    assert made.keep_alive == tako.WsKeepAlive(
        ping_interval=5, pong_timeout=7, auto=True
    )
    assert make_settings("ws://a.test/", {}, {"ping_interval": 5}).keep_alive is None
    off = make_settings("ws://a.test/", {"ping_interval": None})
    assert not off.watched
    assert off.keep_alive is None


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("wss://a.test/x", "wss://a.test:443/y?z"),
        ("ws+unix:/a:/x", "ws+unix:/a:/y"),
    ],
)
def test_connections_are_shared_by_origin(first: str, second: str) -> None:
    one, two = make_settings(first, {}), make_settings(second, {"max_size": 5})
    assert one.where == two.where


def test_connections_are_not_shared_where_they_differ() -> None:
    urls = [
        "wss://a.test/",
        "wss://b.test/",
        "wss://a.test:444/",
        "ws://a.test:443/",
        "wss+unix:/a:/",
        "wss+unix:/b:/",
    ]
    places = [make_settings(url, {}).where for url in urls]
    places += [
        make_settings(urls[0], {"server_hostname": "b.test"}).where,
        make_settings(urls[0], {"ssl": ssl.create_default_context()}).where,
    ]
    assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"ping_intervall": 1}, TypeError, "ping_intervall is no option of connect"),
        ({"open_timeout": 0}, ConfigError, "open_timeout"),
        ({"additional_headers": {"host": "b"}}, ConfigError, "host cannot be given"),
        ({"max_connections": 0}, ConfigError, "max_connections"),
        ({"max_streams": 0}, ConfigError, "max_streams"),
        ({"idle_timeout": -1}, ConfigError, "idle_timeout"),
        ({"base_url": "https://a.test"}, ConfigError, "no URL of a WebSocket"),
        ({"base_url": "wss://a.test/?q"}, ConfigError, "has a query"),
    ],
)
def test_a_client_says_at_once_what_cannot_work(
    options: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        tako.Client(**options)
