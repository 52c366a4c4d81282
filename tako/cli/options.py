"""Every field of ``ServerConfig`` as an option of the command line."""

import ast
import dataclasses
import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise
from typing import Any, ClassVar, Protocol, TypeAlias, TypeVar, cast

import click

from tako import config
from tako.cli.console import CliError
from tako.config import (
    AcceptBackoff,
    ServerConfig,
    choices_of,
    range_of,
    seconds,
)
from tako.errors import ConfigError


F = TypeVar("F", bound=Callable[..., Any])
Field: TypeAlias = dataclasses.Field[Any]

_FIELDS: dict[str, Field] = {it.name: it for it in dataclasses.fields(ServerConfig)}
_DEFAULTS = ServerConfig()

NONE = "none"
"""What switches an option off that takes a value."""


_groups: dict[click.Parameter, str] = {}
_OTHER_FIELDS = "Timeouts and limits"
_GROUP_OF_WORD = {
    "alpn": "Addresses and certificates",
    "drain": "Processes",
    "forwarded": "Behind a proxy",
    "h2": "HTTP/2",
    "keylog": "Addresses and certificates",
    "proxy": "Behind a proxy",
    "settings": "HTTP/2",
    "trust": "Behind a proxy",
    "ws": "WebSockets",
}
"""The group of a field of ``ServerConfig`` that has the word in its name."""


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


class SecondsOption(click.Option):
    """An option that takes seconds, or ``none``."""


def seconds_of(flag: str, value: str) -> float | None:
    """Return what a ``SecondsOption`` says; ``none`` is ``None``.

    Raises:
        CliError: it is not a positive, finite number.
    """
    if value.lower() == NONE:
        return None
    try:
        return seconds(float(value), flag)
    except ConfigError as error:
        raise CliError(str(error)) from error
    except ValueError as error:
        msg = f"{flag} takes SECONDS, not {value!r}"
        raise CliError(msg) from error


def name_and_value(flag: str, text: str) -> tuple[str, str]:
    """Return what ``NAME:VALUE`` says, with the white space that is in it.

    Raises:
        CliError: there is no colon.
    """
    name, colon, value = text.partition(":")
    if not colon:
        msg = f"{flag} takes NAME:VALUE, not {text!r}"
        raise CliError(msg)
    return name, value


class Lines(click.types.StringParamType):
    """A text of which a variable may have several, each on a line of its own."""

    envvar_list_splitter: ClassVar[str | None] = "\n"


class GroupedCommand(click.Command):
    """A command whose options are listed in groups."""

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write a section for each group, in the order in which they are declared."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for each in self.get_params(ctx):
            shown = each.get_help_record(ctx)
            if isinstance(each, click.Option) and shown is not None:
                sections.setdefault(group_of(each), []).append(shown)
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def group(title: str) -> Decorator:
    """Put the options that are declared below this, up to the next, into a group."""

    def mark(command: F) -> F:
        declared: list[click.Parameter] = getattr(command, "__click_params__", [])
        for each in declared:
            _groups.setdefault(each, title)
        return command

    return mark


def group_of(parameter: click.Parameter) -> str:
    """Return the title of the group of an option; that of ``--help`` is "Other"."""
    return _groups.get(parameter, "Other")


def listed(value: str) -> tuple[str, ...]:
    """Return the members of a list with commas; ``none`` is an empty one."""
    members = tuple(part.strip() for part in value.split(",") if part.strip())
    return () if members == (NONE,) else members


def config_options(command: F) -> F:
    """Add an option for each field of ``ServerConfig``."""
    helps = dict(descriptions())
    for field in reversed(_FIELDS.values()):
        words = [_GROUP_OF_WORD.get(word) for word in field.name.split("_")]
        title = next(filter(None, words), _OTHER_FIELDS)
        option = _option(field, helps.get(field.name, ""))
        command = group(title)(option(command))
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


def shown_range(field: Field) -> str:
    """Return what stands behind the default of a field: its range, if it has one."""
    allowed = range_of(field)
    if allowed is None or not allowed.bounded:
        return ""
    return f"; {allowed.least} to {allowed.most}"


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
    choices = choices_of(field)
    if choices:
        return click.option(
            flag,
            name,
            type=click.Choice(choices),
            default=None,
            envvar=envvar(flag),
            help=f"{text} [default: {default}]",
        )
    return click.option(
        flag,
        name,
        cls=_class(default),
        metavar=_metavar(field),
        default=None,
        envvar=envvar(flag),
        help=f"{text} [default: {_shown(default)}{shown_range(field)}]",
    )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _default(field: Field) -> Any:
    """Return a field's default as it reads in a configuration: ``alpn`` is a tuple."""
    return getattr(_DEFAULTS, field.name)


def _class(default: object) -> type[click.Option]:
    return ListOption if isinstance(default, tuple) else click.Option


def takes_text(parameter: click.Parameter) -> bool:
    """Tell whether a parameter is a field of ``ServerConfig`` that is a text."""
    field = _FIELDS.get(parameter.name or "")
    return field is not None and _is_text(field)


def _is_text(field: Field) -> bool:
    return field.type == str | None or bool(choices_of(field))


def _metavar(field: Field) -> str:
    default: Any = _default(field)
    if range_of(field) is not None:
        return "NUMBER"
    if _is_text(field):
        return "TEXT"
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
    return NONE if default is None else str(default)


def _parsed(name: str, value: Any) -> Any:
    """Return an option's text as a value of the field."""
    if not isinstance(value, str):
        return value
    field = _FIELDS[name]
    allowed = range_of(field)
    default: Any = _default(field)
    try:
        if isinstance(default, AcceptBackoff):
            initial, _, most = value.partition(":")
            return AcceptBackoff(initial=float(initial), max=float(most))
        if isinstance(default, tuple):
            return listed(value)
        if value.lower() == NONE:
            return None
        if _is_text(field):
            return value
        return float(value) if allowed is None else int(value)
    except ConfigError:
        raise
    except ValueError as error:
        msg = f"{_flag(name)} takes {_metavar(field)}, not {value!r}"
        raise CliError(msg) from error


def as_option(text: str, names: Iterable[str]) -> str:
    """Name options in an error as they are written at the command line."""
    for name in names:
        text = re.sub(rf"\b{name}\b", _flag(name), text)
    return text


def descriptions() -> Iterator[tuple[str, str]]:
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
    return NONE if code == "None" else code
