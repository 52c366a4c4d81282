"""``Logs``: how the command logs, as text or as JSON.

Theory of operation. One handler on the root logger writes all lines: those of the
command itself, of the server, of requests, and of the app. ``TextFormatter`` is for
people, ``JsonFormatter`` for collectors. A configuration of the user's own
(``--log-config``) may put others in its place; the ids of requests are added to the
records of all handlers.

Invariant: a line that begins in the first column begins a record. What follows it in a
record, a traceback say, is indented, and no record holds a control character: nothing
that a client sends can look like a record of its own.
"""

import configparser
import dataclasses
import datetime
import json
import logging
import logging.config
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO, TypeAlias, cast

from tako.cli.console import CliError, one_line
from tako.routing.access_log import AccessEntry
from tako.routing.request_id import current_request_id


Fields: TypeAlias = dict[str, Any]

_COLOURS = {
    logging.DEBUG: "34",  # blue
    logging.INFO: "32",  # green
    logging.WARNING: "33",  # yellow
    logging.ERROR: "31",  # red
    logging.CRITICAL: "1;31",
}
_DIM = "2"
_SAID_BY_THE_COMMAND = "tako.server.lifetime"
"""The logger of what the command says itself, once for all workers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """How to log.

    Attributes:
        level: of the loggers of tako.
        form: ``text`` or ``json``.
        config: a file for ``logging.config``.
        access: whether to log requests.
        access_format: what their lines look like; ``None``: as usual.
        request_ids: whether requests have ids.
    """

    level: str
    form: str
    config: Path | None
    access: bool
    access_format: str | None
    request_ids: bool

    def set_up(self) -> None:
        """Configure ``logging``, once in each process.

        Raises:
            CliError: the file cannot be used.
        """
        handler = logging.StreamHandler()
        handler.setFormatter(self._formatter())
        logging.basicConfig(handlers=[handler])
        logging.getLogger("tako").setLevel(self.level.upper())
        logging.getLogger(_SAID_BY_THE_COMMAND).setLevel(logging.WARNING)
        logging.getLogger("tako.access").setLevel(
            logging.INFO if self.access else logging.CRITICAL
        )
        if self.config is not None:
            _configure(self.config)
        if self.request_ids:
            for each in _handlers():
                each.addFilter(_add_request_id)

    def _formatter(self) -> logging.Formatter:
        if self.form == "json":
            return JsonFormatter()
        bare = self.access_format is not None
        return TextFormatter(coloured=_wants_colours(sys.stderr), bare_access=bare)


class TextFormatter(logging.Formatter):
    """Time, level, logger and message; the id of the request at the end.

    Args:
        coloured: whether to colour time and level.
        bare_access: whether the line of a request is its message and nothing else.
    """

    def __init__(self, *, coloured: bool, bare_access: bool) -> None:
        super().__init__()
        self._coloured = coloured
        self._bare_access = bare_access

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines of ``record``."""
        is_access = isinstance(getattr(record, "access", None), AccessEntry)
        message = record.getMessage()
        if is_access and self._bare_access:
            return _printable(message)
        time = datetime.datetime.fromtimestamp(record.created)
        when = time.isoformat(" ", "milliseconds")
        level = f"{record.levelname:<8}"
        if self._coloured:
            when = _coloured(when, _DIM)
            level = _coloured(level, _COLOURS.get(record.levelno, _DIM))
        if not is_access and (request_id := getattr(record, "request_id", None)):
            message = f"{message} id={request_id}"
        lines = [f"{record.name}: {message}", *_stacks(self, record)]
        text = "\n".join(lines)
        return f"{when} {level} {_printable(text)}"


class JsonFormatter(logging.Formatter):
    """An object on one line; for a request with the members of its ``AccessEntry``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of ``record``."""
        fields: Fields = {
            "time": _utc(record.created),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        access = getattr(record, "access", None)
        if isinstance(access, AccessEntry):
            fields |= _members(access)
        elif request_id := getattr(record, "request_id", None):
            fields["request_id"] = request_id
        if stacks := _stacks(self, record):
            fields["exception"] = "\n".join(stacks)
        return json.dumps(fields, default=str)  # in ASCII: no control, no line end


def _members(access: AccessEntry) -> Fields:
    """Return the fields of an entry that say something."""
    fields = dataclasses.asdict(access)
    fields["began"] = _utc(access.began)
    nothing: tuple[object, ...] = (None, "", {})
    return {name: value for name, value in fields.items() if value not in nothing}


def _utc(seconds: float) -> str:
    """Return a time as ISO 8601 has it, in UTC."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _stacks(formatter: logging.Formatter, record: logging.LogRecord) -> list[str]:
    """Return the traceback of a record, and its stack, if it has them."""
    if record.exc_info and not record.exc_text:
        record.exc_text = formatter.formatException(record.exc_info)
    return [each for each in (record.exc_text, record.stack_info) if each]


def _printable(text: str) -> str:
    """Return lines of which only the first is not indented, without controls."""
    if text.isprintable():
        return text
    return "\n    ".join(
        "".join(
            each if each.isprintable() or each == "\t" else _escaped(each)
            for each in line
        )
        for line in text.split("\n")
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _coloured(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


def _wants_colours(stream: TextIO) -> bool:
    """Tell whether colours are shown: on a terminal, unless the environment says."""
    if os.environ.get("NO_COLOR"):  # https://no-color.org
        return False
    if os.environ.get("FORCE_COLOR"):  # https://force-color.org
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def _add_request_id(record: logging.LogRecord) -> bool:
    """Give a record the id of its request; a filter that lets everything pass."""
    if not hasattr(record, "request_id"):  # the app may have given it one
        record.request_id = current_request_id()
    return True


def _handlers() -> list[logging.Handler]:
    """Return every handler of a logger, once."""
    loggers = [logging.getLogger(), *logging.root.manager.loggerDict.values()]
    found = [
        handler
        for each in loggers
        if isinstance(each, logging.Logger)
        for handler in each.handlers
    ]
    return list(dict.fromkeys(found))


def _configure(path: Path) -> None:
    try:
        text = path.read_text()  # fileConfig would say that a section is missing
        if path.suffix == ".json":
            logging.config.dictConfig(_kept(json.loads(text)))
        elif path.suffix == ".toml":
            logging.config.dictConfig(_kept(tomllib.loads(text)))
        else:
            logging.config.fileConfig(path, disable_existing_loggers=False)
    except Exception as error:  # it calls what the file names
        msg = f"--log-config {path}: {one_line(_reason(error))}"
        raise CliError(msg) from error


def _kept(config: Any) -> Any:
    """Return a configuration that silences no logger that it does not name."""
    if not isinstance(config, dict):
        return config  # which ``dictConfig`` refuses
    return {"disable_existing_loggers": False} | cast("Fields", config)


def _reason(error: BaseException) -> str:
    """Return what is wrong; ``dictConfig`` says only where, and the cause says what."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    if isinstance(error, (KeyError, configparser.Error)):
        text = f"{type(error).__name__}: {text}"
    reason = "" if error.__cause__ is None else _reason(error.__cause__)
    return f"{text}: {reason}" if reason not in text else text
