"""The fields of ``ServerConfig`` as options of the command."""

import dataclasses
from typing import Any

import click
import pytest


pytest.importorskip("click")

from tako.cli.commands import _serve
from tako.cli.console import CliError
from tako.cli.options import (
    GroupedCommand,
    Lines,
    config_options,
    group,
    group_of,
    make_config,
    seconds_of,
)
from tako.config import AcceptBackoff, ServerConfig


NAMES = [field.name for field in dataclasses.fields(ServerConfig)]


@pytest.fixture(scope="module")
def options() -> dict[str, click.Option]:
    """Return the options by the names of their fields."""

    @click.command()
    @config_options
    def command(**_: Any) -> None: ...

    return {each.name or "": each for each in command.params}  # type: ignore[misc]


def test_every_field_is_an_option_in_order(options: dict[str, click.Option]) -> None:
    assert list(options) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_an_option_says_what_the_field_says(
    options: dict[str, click.Option], name: str
) -> None:
    option = options[name]
    text = option.help or ""
    assert text[0].isupper()
    assert ". [default: " in text
    assert "``" not in text
    assert option.envvar == f"TAKO_{name.upper()}"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_headers", "Number of header fields. [default: 100; 1 to 10000]"),
        ("max_connections", "none: no limit. [default: none]"),
        ("keep_alive_timeout", "none: --header-read-timeout. [default: none]"),
        ("min_rate", "after --min-rate-grace seconds; 0 switches it off."),
        ("accept_backoff", "[default: 0.005:1]"),
        ("alpn", "[default: h2,http/1.1]"),
        ("forwarded_allow_ips", "[default: 127.0.0.0/8,::1,unix]"),
        ("forwarded_host", "[default: off]"),
        ("health_path", "none: there is none. [default: none]"),
        ("drain_websockets", "--ws-close-timeout. [default: now]"),
        ("keep_alive", "[default: on]"),
    ],
)
def test_an_option_shows_default_and_range(
    options: dict[str, click.Option], name: str, text: str
) -> None:
    assert text in (options[name].help or "")


def test_what_is_given_becomes_a_config() -> None:
    values: dict[str, Any] = dict.fromkeys(NAMES)
    values |= {
        "max_headers": "7",
        "max_connections": "none",
        "drain_timeout": "1.5",
        "accept_backoff": "0.1:2",
        "ws_ping_interval": "none",
        "ws_ping_timeout": "2.5",
        "tcp_keep_alive_idle": "None",
        "alpn": "http/1.1, h2",
        "drain_websockets": "end",
        "health_path": "/healthz",
        "health_lag": "none",
        "keep_alive": False,
        "target": "a:b",
    }
    assert make_config(values) == ServerConfig(
        max_headers=7,
        drain_timeout=1.5,
        accept_backoff=AcceptBackoff(initial=0.1, max=2),
        ws_ping_interval=None,
        ws_ping_timeout=2.5,
        tcp_keep_alive_idle=None,
        alpn=("http/1.1", "h2"),
        drain_websockets="end",
        health_path="/healthz",
        health_lag=None,
        keep_alive=False,
    )
    assert values == {"target": "a:b"}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("10.0.0.0/8, 192.0.2.1,unix", ("10.0.0.0/8", "192.0.2.1", "unix")),
        ("*", ("*",)),
        ("none", ()),
        ("", ()),
        (",", ()),
    ],
)
def test_an_empty_list_is_off(text: str, names: tuple[str, ...]) -> None:
    config = make_config({"forwarded_allow_ips": text})
    assert config.forwarded_allow_ips == names


def test_a_text_may_be_none() -> None:
    assert make_config({"health_path": "none"}).health_path is None


@pytest.mark.parametrize(("text", "value"), [("1.5", 1.5), ("None", None)])
def test_seconds_may_be_none(text: str, value: float | None) -> None:
    assert seconds_of("--worker-timeout", text) == value


@pytest.mark.parametrize("text", ["", "x", "nan", "-1", "0"])
def test_other_seconds_are_an_error(text: str) -> None:
    with pytest.raises(CliError, match="--worker-timeout"):
        seconds_of("--worker-timeout", text)


def test_an_empty_variable_is_an_empty_list(
    options: dict[str, click.Option], monkeypatch: pytest.MonkeyPatch
) -> None:
    option = options["forwarded_allow_ips"]
    context = click.Context(click.Command("serve"))
    assert option.resolve_envvar_value(context) is None
    for text in ("", "none", "10.0.0.1"):
        monkeypatch.setenv("TAKO_FORWARDED_ALLOW_IPS", text)
        assert option.resolve_envvar_value(context) == text


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("max_headers", "0", "--max-headers must be from 1 to 10000, not 0"),
        ("max_headers", "x", "--max-headers takes NUMBER, not 'x'"),
        ("max_headers", "none", "--max-headers takes an integer, not NoneType"),
        ("drain_timeout", "x", "--drain-timeout takes SECONDS, not 'x'"),
        ("drain_timeout", "0", "--drain-timeout must be a positive number"),
        ("accept_backoff", "1", "--accept-backoff takes INITIAL:MAX, not '1'"),
        ("health_path", "up", '--health-path begins with "/" and has neither'),
        ("health_lag", "0", "--health-lag must be a positive number of seconds"),
        ("health_lag", "x", "--health-lag takes SECONDS, not 'x'"),
        ("alpn", "h3", '--alpn takes "h2" and "http/1.1"'),
        ("alpn", "none", '--alpn takes "h2" and "http/1.1"'),
        ("forwarded_allow_ips", "x", "--forwarded-allow-ips takes addresses, networks"),
    ],
)
def test_what_cannot_work_is_said_in_options(name: str, value: str, error: str) -> None:
    with pytest.raises(CliError) as caught:
        make_config({name: value})
    assert caught.value.message.startswith(error)


GROUPS = [
    "Addresses and certificates",
    "Processes",
    "Inspector",
    "ASGI",
    "Behind a proxy",
    "Requests and responses",
    "Logging",
    "Configuration",
    "Timeouts and limits",
    "HTTP/2",
    "WebSockets",
    "Other",
]


def test_every_option_of_the_command_has_a_group() -> None:
    context = click.Context(_serve, info_name="serve")
    options = [
        each for each in _serve.get_params(context) if isinstance(each, click.Option)
    ]
    others = [each.opts for each in options if group_of(each) == "Other"]
    assert ["--help" in each for each in others] == [True]
    assert {group_of(each) for each in options} == set(GROUPS)
    text = _serve.get_help(context)
    places = [text.index(f"\n{title}:\n") for title in GROUPS]
    assert places == sorted(places)
    assert "\nOptions:" not in text
    for each in options:
        first = text.index(f"\n{group_of(each)}:\n")
        assert max(each.opts, key=len) in text[first:]


@pytest.mark.parametrize(
    ("name", "title"),
    [
        ("h2_max_requests", "HTTP/2"),
        ("settings_timeout", "HTTP/2"),
        ("ws_ping_interval", "WebSockets"),
        ("drain_timeout", "Processes"),
        ("forwarded_allow_ips", "Behind a proxy"),
        ("max_proxy_header", "Behind a proxy"),
        ("alpn", "Addresses and certificates"),
        ("max_headers", "Timeouts and limits"),
    ],
)
def test_a_field_is_where_it_is_looked_for(
    options: dict[str, click.Option], name: str, title: str
) -> None:
    assert group_of(options[name]) == title


def test_options_belong_to_the_group_above_them() -> None:
    @click.command(cls=GroupedCommand)
    @click.argument("target")
    @group("First")
    @click.option("--one")
    @click.option("--two")
    @group("Second")
    @click.option("--three")
    def command(**_: Any) -> None: ...

    found = {each.name: group_of(each) for each in command.params}
    first, second = "First", "Second"
    assert found == {"target": "Other", "one": first, "two": first, "three": second}


def test_a_variable_has_several_texts_on_lines_of_their_own() -> None:
    assert Lines().split_envvar_value("x-a: 1 2\nx-b: 3") == ["x-a: 1 2", "x-b: 3"]
