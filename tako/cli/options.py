"""Every field of ``ServerConfig`` as an option of the command line."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, TypeVar, cast

import click

from tako.cli.console import CliError
from tako.config import AcceptBackoff, ServerConfig
from tako.errors import ConfigError


F = TypeVar("F", bound=Callable[..., Any])

_OFF = "none"
_COUNTS_OR_NONE = {"h2_max_header_list_size", "max_body_size", "max_connections"}
_LINKED = ("header_read_timeout", "min_rate", "min_rate_grace")  # by descriptions


class Decorator(Protocol):
    """Adds an option to a command."""

    def __call__(self, command: F, /) -> F:
        """Return ``command`` with the option."""
        ...


def envvar(option: str) -> str:
    """Return the environment variable of an option: ``--drain-timeout``, say."""
    return "TAKO_" + option.lstrip("-").replace("-", "_").upper()


def config_options(command: F) -> F:
    """Add an option for each field of ``ServerConfig``."""
    helps = dict(_descriptions())
    for field in reversed(dataclasses.fields(ServerConfig)):
        text = _as_option(helps.get(field.name, ""), _LINKED)
        command = _option(field.name, text)(command)
    return command


def make_config(values: dict[str, Any]) -> ServerConfig:
    """Return the configuration that the options ask for; takes its fields out.

    Raises:
        CliError: a value cannot work.
    """
    fields = {field.name for field in dataclasses.fields(ServerConfig)}
    given = {name: values.pop(name) for name in fields if name in values}
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return ServerConfig(
            **{name: _parsed(name, value) for name, value in chosen.items()}
        )
    except ConfigError as error:
        raise CliError(_as_option(str(error), chosen)) from error


def _option(name: str, text: str) -> Decorator:
    flag = "--" + name.replace("_", "-")
    default: Any = getattr(ServerConfig(), name)
    if isinstance(default, bool):
        return click.option(
            f"{flag}/--no-{flag[2:]}",
            name,
            default=None,
            envvar=envvar(flag),
            help=f"{text} [default: {'on' if default else 'off'}]",
        )
    return click.option(
        flag,
        name,
        metavar=_metavar(name, default),
        default=None,
        envvar=envvar(flag),
        help=f"{text} [default: {_shown(default)}]",
    )


def _metavar(name: str, default: object) -> str:
    if isinstance(default, int) or name in _COUNTS_OR_NONE:
        return "NUMBER"
    if isinstance(default, AcceptBackoff):
        return "INITIAL:MAX"
    return "LIST" if isinstance(default, tuple) else "SECONDS"


def _shown(default: object) -> str:
    if isinstance(default, AcceptBackoff):
        return f"{default.initial:g}:{default.max:g}"
    if isinstance(default, tuple):
        return ",".join(map(str, cast("tuple[object, ...]", default)))
    return _OFF if default is None else f"{default:g}"


def _parsed(name: str, value: Any) -> Any:
    """Return an option's text as the field takes it."""
    if not isinstance(value, str):
        return value
    default: Any = getattr(ServerConfig(), name)
    flag, metavar = "--" + name.replace("_", "-"), _metavar(name, default)
    try:
        if isinstance(default, AcceptBackoff):
            initial, _, most = value.partition(":")
            return AcceptBackoff(initial=float(initial), max=float(most))
        if isinstance(default, tuple):
            return tuple(part.strip() for part in value.split(","))
        if value.lower() == _OFF:
            return None
        return int(value) if metavar == "NUMBER" else float(value)
    except ConfigError:
        raise
    except ValueError as error:
        msg = f"{flag} takes {metavar}, not {value!r}"
        raise CliError(msg) from error


def _as_option(text: str, names: Iterable[str]) -> str:
    """Name options in an error as they are written at the command line."""
    for name in names:
        text = re.sub(rf"\b{name}\b", "--" + name.replace("_", "-"), text)
    return text


def _descriptions() -> Iterator[tuple[str, str]]:
    """Yield each field's description, from the docstring of ``ServerConfig``."""
    text = (inspect.getdoc(ServerConfig) or "").partition("Attributes:")[2]
    for match in re.finditer(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", text, re.MULTILINE):
        words = " ".join(match[2].split()).replace("``", "").replace("None", _OFF)
        yield match[1], words[:1].upper() + words[1:]
