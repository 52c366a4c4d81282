"""Every field of ``ServerConfig`` as an option of the command line."""

import ast
import dataclasses
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, Protocol, TypeAlias, TypeVar, cast

import click

from tako import config
from tako.cli.console import CliError
from tako.config import AcceptBackoff, Range, ServerConfig, range_of
from tako.errors import ConfigError


F = TypeVar("F", bound=Callable[..., Any])
Field: TypeAlias = dataclasses.Field[Any]

_OFF = "none"
_FIELDS: dict[str, Field] = {it.name: it for it in dataclasses.fields(ServerConfig)}
_DEFAULTS = ServerConfig()


class Decorator(Protocol):
    """Adds an option to a command."""

    def __call__(self, command: F, /) -> F:
        """Return ``command`` with the option."""
        ...


def envvar(option: str) -> str:
    """Return the environment variable of an option: ``--drain-timeout``, say."""
    return "TAKO_" + option.lstrip("-").replace("-", "_").upper()


class ListOption(click.Option):
    """An option for which an empty variable means an empty list, not the default."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what the option's variable says, ``None`` if it is not set."""
        return os.environ.get(str(self.envvar))


def listed(value: str) -> tuple[str, ...]:
    """Return the members of a list with commas; ``none`` is an empty one."""
    members = tuple(part.strip() for part in value.split(",") if part.strip())
    return () if members == (_OFF,) else members


def config_options(command: F) -> F:
    """Add an option for each field of ``ServerConfig``."""
    helps = dict(_descriptions())
    for field in reversed(_FIELDS.values()):
        command = _option(field, helps.get(field.name, ""))(command)
    return command


def is_config_option(parameter: click.Parameter) -> bool:
    """Tell whether a parameter is a field of ``ServerConfig``."""
    return parameter.name in _FIELDS


def shown_default(name: str, other: Any) -> Any:
    """Return the default of a field as it reads in a file; ``other`` for no field."""
    if name not in _FIELDS:
        return other
    default = getattr(_DEFAULTS, name)
    return default if isinstance(default, bool) else _shown(default)


def make_config(values: dict[str, Any]) -> ServerConfig:
    """Return the configuration that ``values`` ask for, and remove its fields there.

    Raises:
        CliError: a value cannot work.
    """
    given = {name: values.pop(name) for name in _FIELDS if name in values}
    chosen = {name: value for name, value in given.items() if value is not None}
    try:
        return ServerConfig(
            **{name: _parsed(name, value) for name, value in chosen.items()}
        )
    except ConfigError as error:
        raise CliError(as_option(str(error), chosen)) from error


def _option(field: Field, text: str) -> Decorator:
    name, flag = field.name, _flag(field.name)
    default: Any = _default(field)
    if isinstance(default, bool):
        return click.option(
            f"{flag}/--no-{flag[2:]}",
            name,
            default=None,
            envvar=envvar(flag),
            help=f"{text} [default: {'on' if default else 'off'}]",
        )
    allowed = range_of(field)
    limits = ""
    if allowed is not None and allowed.bounded:
        limits = f"; {allowed.least} to {allowed.most}"
    return click.option(
        flag,
        name,
        cls=_class(default),
        metavar=_metavar(allowed, default),
        default=None,
        envvar=envvar(flag),
        help=f"{text} [default: {_shown(default)}{limits}]",
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _default(field: Field) -> Any:
    """Return a field's default as it reads in a configuration: ``alpn`` is a tuple."""
    return getattr(_DEFAULTS, field.name)


def _class(default: object) -> type[click.Option]:
    return ListOption if isinstance(default, tuple) else click.Option


def _metavar(allowed: Range | None, default: Any) -> str:
    if allowed is not None:
        return "NUMBER"
    if isinstance(default, AcceptBackoff):
        return "INITIAL:MAX"
    return "LIST" if isinstance(default, tuple) else "SECONDS"


def _shown(default: object) -> str:
    if isinstance(default, AcceptBackoff):
        return f"{default.initial:g}:{default.max:g}"
    if isinstance(default, tuple):
        return ",".join(cast("tuple[str, ...]", default))
    if isinstance(default, float):
        return f"{default:g}"
    return _OFF if default is None else str(default)


def _parsed(name: str, value: Any) -> Any:
    """Return an option's text as a value of the field."""
    if not isinstance(value, str):
        return value
    field = _FIELDS[name]
    allowed = range_of(field)
    default: Any = _default(field)
    metavar = _metavar(allowed, default)
    try:
        if isinstance(default, AcceptBackoff):
            initial, _, most = value.partition(":")
            return AcceptBackoff(initial=float(initial), max=float(most))
        if isinstance(default, tuple):
            return listed(value)
        if value.lower() == _OFF:
            return None
        return float(value) if allowed is None else int(value)
    except ConfigError:
        raise
    except ValueError as error:
        msg = f"{_flag(name)} takes {metavar}, not {value!r}"
        raise CliError(msg) from error


def as_option(text: str, names: Iterable[str]) -> str:
    """Name options in an error as they are written at the command line."""
    for name in names:
        text = re.sub(rf"\b{name}\b", _flag(name), text)
    return text


def _descriptions() -> Iterator[tuple[str, str]]:
    """Yield each option's description: the string below its field, which has no other.

    Python keeps no docstrings of fields, so it is read from the source. Without source
    (a frozen program, say) options have no description.
    """
    try:
        tree = ast.parse(inspect.getsource(config))
    except OSError:
        return
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            for field, below in pairwise(node.body):
                match field, below:
                    case (
                        ast.AnnAssign(target=ast.Name(id=name)),
                        ast.Expr(value=ast.Constant(value=str(text))),
                    ):
                        yield name, _worded(text)
                    case _:
                        pass


def _worded(text: str) -> str:
    """Return a description as it is shown: in one line, with names of options."""
    line = " ".join(text.split())
    return re.sub(r"``(.+?)``", lambda match: _name(match[1]), line)


def _name(code: str) -> str:
    if code in _FIELDS:
        return _flag(code)
    return _OFF if code == "None" else code
