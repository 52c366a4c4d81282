"""The fields of ``ServerConfig`` as options of the command."""

import dataclasses
from typing import Any

import click
import pytest


pytest.importorskip("click")

from tako.cli.console import CliError
from tako.cli.options import config_options, make_config
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
        ("alpn", "h3", '--alpn takes "h2" and "http/1.1"'),
        ("alpn", "none", '--alpn takes "h2" and "http/1.1"'),
        ("forwarded_allow_ips", "x", "--forwarded-allow-ips takes addresses, networks"),
    ],
)
def test_what_cannot_work_is_said_in_options(name: str, value: str, error: str) -> None:
    with pytest.raises(CliError) as caught:
        make_config({name: value})
    assert caught.value.message.startswith(error)
