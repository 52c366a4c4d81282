"""``tako.toml`` or ``[tool.tako]`` in ``pyproject.toml``: options as a file.

The names are those of the options. Click looks here for what neither the command line
nor the environment gives, so its checks hold for the file, too.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click
from click.core import ParameterSource

from tako.cli.console import CliError
from tako.cli.options import (
    ListOption,
    SecondsOption,
    is_config_option,
    shown_default,
    takes_text,
)


NOT_IN_FILES = frozenset({"config", "check", "print_config"})
"""Options that say what to do with a configuration, or where it is."""

_NAMES = ("tako.toml", "pyproject.toml")  # in this order, in the current folder
_TABLE = "tool.tako"  # in pyproject.toml
_WIDE = 44  # columns in which values are aligned
_NUMBER = re.compile(r"-?\d+(\.\d+)?$")  # as TOML has them, too
_AT = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a file says.

    Attributes:
        path: as it is named in errors.
        values: by the names of click's parameters.
        lines: the line of each of them, where it can be told.
    """

    path: Path
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])
    lines: Mapping[str, int] = field(default_factory=dict[str, int])

    def place(self, name: str) -> str:
        """Return where the file gives a parameter: ``tako.toml:3``."""
        line = self.lines.get(name)
        return str(self.path) if line is None else f"{self.path}:{line}"


def read(path: Path | None, parameters: Iterable[click.Parameter]) -> ConfigFile | None:
    """Read what is to be served, and how, from a file.

    Args:
        path: the file; ``None``: ``tako.toml`` in the current folder, or else
            ``pyproject.toml`` there, if it has a table ``[tool.tako]``.
        parameters: those that a file may give.

    Raises:
        CliError: it cannot be read, names no option, or has a value of another type.
    """
    found = {named(each): each for each in parameters}
    if path is not None:
        return _parsed(path, found)
    for name in _NAMES:
        if Path(name).is_file() and (parsed := _parsed(Path(name), found)):
            return parsed
    return None


def named(parameter: click.Parameter) -> str:
    """Return what a file calls a parameter: ``drain-timeout``."""
    if isinstance(parameter, click.Argument):
        return parameter.name or ""
    return next(each for each in parameter.opts if each.startswith("--"))[2:]


def written(context: click.Context, values: Mapping[str, Any]) -> str:
    """Return a configuration as such a file, with where each value came from.

    Args:
        context: of the command, which knows what was given where.
        values: of options that are not given, by the names of parameters.
    """
    lines = list[tuple[str, str]]()
    for each in context.command.params:
        name = each.name or ""
        if name in NOT_IN_FILES:
            continue
        given = _source(context, each)
        value = context.params.get(name)
        if not given:
            value = values.get(name, shown_default(name, value))
        if value is None:
            lines.append((f"# {named(each)} =", "not given"))
        else:
            lines.append((f"{named(each)} = {_toml(each, value)}", given or "default"))
    width = max(len(text) for text, _ in lines if len(text) <= _WIDE)
    return "\n".join(f"{text:{width}}  # {where}" for text, where in lines)


def _source(context: click.Context, parameter: click.Parameter) -> str:
    """Return where a parameter was given; ``""`` if it was not."""
    name = parameter.name or ""
    found = context.get_parameter_source(name)
    if found is ParameterSource.COMMANDLINE:
        return "command line"
    if found is ParameterSource.ENVIRONMENT:
        return str(parameter.envvar)
    if found is ParameterSource.DEFAULT_MAP and isinstance(context.obj, ConfigFile):
        return context.obj.place(name)
    return ""


def _toml(parameter: click.Parameter, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return json.dumps([str(each) for each in cast("tuple[object, ...]", value)])
    is_text = is_config_option(parameter) or isinstance(parameter, SecondsOption)
    if is_text and isinstance(value, str) and _NUMBER.match(value):
        return value
    return str(value) if isinstance(value, int) else json.dumps(str(value))


def _parsed(path: Path, parameters: Mapping[str, click.Parameter]) -> ConfigFile | None:
    text, found = _read(path)
    inside = path.name == "pyproject.toml"
    if inside:
        found = _table(_table(found).get("tool")).get("tako")
        if found is None:
            return None
    if not isinstance(found, dict):
        msg = f"{path}: [{_TABLE}] is a table of options"
        raise CliError(msg)
    values, lines = dict[str, Any](), dict[str, int]()
    for key, value in _table(cast("object", found)).items():
        line = _line(text, key, _TABLE if inside else "")
        place = str(path) if line is None else f"{path}:{line}"
        parameter = parameters.get(key)
        if parameter is None:
            msg = f"{place}: there is no option {key!r}{_hint(key, parameters)}"
            raise CliError(msg)
        name = parameter.name or ""
        values[name] = _value(place, key, value, parameter)
        if line is not None:
            lines[name] = line
    return ConfigFile(path, values, lines)


def _table(value: object) -> dict[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def _read(path: Path) -> tuple[str, object]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}"
        raise CliError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{path} is not text in UTF-8"
        raise CliError(msg) from error
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        said = str(error)
        at = _AT.search(said)
        line = at and (at[1] or text.count("\n") + 1)
        reason = said[: at.start()] if at else said
        msg = f"{path}:{line}: {reason}" if line else f"{path}: {reason}"
        raise CliError(msg) from error


def _hint(key: str, parameters: Iterable[str]) -> str:
    near = difflib.get_close_matches(key.replace("_", "-"), list(parameters), 1)
    return f"; perhaps {near[0]}" if near else ""


def _value(place: str, key: str, value: object, parameter: click.Parameter) -> object:
    """Return what click takes for a value of the file."""
    parts = _parts(value)
    texts = [each for each in parts if isinstance(each, str)]
    is_text = len(texts) == len(parts)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    taken = value
    if isinstance(parameter, click.Option) and parameter.is_flag:
        wanted, right = "true or false", isinstance(value, bool)
    elif parameter.multiple:
        wanted, right, taken = "a text, or a list of texts", is_text, texts
    elif isinstance(parameter, ListOption):
        wanted, right = "a text, or a list of texts", is_text
        taken = ",".join(texts)
    elif isinstance(parameter, SecondsOption):
        wanted, right = "a number or a text", is_number or isinstance(value, str)
        taken = str(value)
    elif is_config_option(parameter) and not takes_text(parameter):
        wanted, right = "a number, a text or a list of texts", is_text or is_number
        taken = ",".join(texts) if is_text else str(parts[0])
    elif isinstance(parameter.type, click.types.IntParamType):
        wanted, right = "a whole number", is_number and isinstance(value, int)
    else:
        wanted, right = "a text", isinstance(value, str)
    if not right:
        msg = f"{place}: {key} takes {wanted}"
        raise CliError(msg)
    return taken


def _parts(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else [value]


def _line(text: str, key: str, table: str) -> int | None:
    """Return the line that gives a key of a table; ``tomllib`` does not say."""
    own = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[=.]""")
    current, whole = "", f"{table}.{key}" if table else key
    for number, line in enumerate(text.splitlines(), 1):
        if current == table and own.match(line):
            return number
        if header := re.match(r"\s*\[+\s*([^\[\]]+?)\s*\]", line):
            current = header[1]
            if current == whole:
                return number
    return None
