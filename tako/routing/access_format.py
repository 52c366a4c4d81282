"""``AccessFormat``: the lines of an access log, as an operator writes them.

Theory of operation. A format is text with fields in braces, such as ``{status}`` and
``{seconds:.3f}``. It is taken apart once and tried on an entry, so what cannot work is
an error at the start, and a request costs one lookup for each field. Fields have names
only: no attribute, no index and no conversion is reached through a format.

Invariant: a line has no line end and no control character, whatever a client sent; what
a client sent ends no quoted string, and only a field of the request has spaces.
"""

import datetime
import json
import re
import string
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from tako.errors import ConfigError


if TYPE_CHECKING:
    from tako.routing.access_log import AccessEntry, WebSocketCounts


Value: TypeAlias = str | int | float | datetime.datetime | None
Get: TypeAlias = Callable[["AccessEntry"], Value]

_NAMED = {
    "common": '{address} - - [{began:%d/%b/%Y:%H:%M:%S %z}] "{method} {target} '
    'HTTP/{http_version}" {status} {bytes_sent}',
    "combined": '{address} - - [{began:%d/%b/%Y:%H:%M:%S %z}] "{method} {target} '
    'HTTP/{http_version}" {status} {bytes_sent} "{header[referer]}" '
    '"{header[user-agent]}"',
}
_HEADER = re.compile(r"header\[([!#$%&'*+.^_`|~0-9A-Za-z-]+)\]")
_NONE = "-"  # what is shown of a field that has no value


def _word(text: str) -> str:
    """Return ``text`` as a part of a line that has no spaces."""
    return _escaped(text).replace(" ", r"\u0020")


def _escaped(text: str) -> str:
    """Return ``text`` in printable ASCII that ends no quoted string."""
    return json.dumps(text)[1:-1]


def _counted(get: "Callable[[WebSocketCounts], Value]") -> Get:
    """Return what gets a value of a WebSocket, ``None`` from any other request."""
    return lambda entry: None if entry.websocket is None else get(entry.websocket)


def _began(entry: "AccessEntry") -> datetime.datetime:
    return datetime.datetime.fromtimestamp(entry.began).astimezone()


FIELDS: Final[dict[str, Get]] = {
    "peer": lambda entry: _word(entry.peer),
    "address": lambda entry: _word(entry.address),
    "began": _began,
    "method": lambda entry: _word(entry.method),
    "target": lambda entry: _word(entry.target),
    "query": lambda entry: _word(entry.query),
    "http_version": lambda entry: entry.http_version,
    "status": lambda entry: entry.status,
    "bytes_sent": lambda entry: entry.bytes_sent,
    "seconds": lambda entry: entry.seconds,
    "complete": lambda entry: "yes" if entry.complete else "no",
    "request_id": lambda entry: entry.request_id and _word(entry.request_id),
    "close_code": _counted(lambda counts: counts.close_code),
    "closed_by": _counted(lambda counts: counts.closed_by),
    "messages_in": _counted(lambda counts: counts.messages_in),
    "bytes_in": _counted(lambda counts: counts.bytes_in),
    "messages_out": _counted(lambda counts: counts.messages_out),
    "bytes_out": _counted(lambda counts: counts.bytes_out),
}
"""How each field is got from an entry; docs/how-to/logs.md says what they are."""


class AccessFormat:
    """What the lines of an access log look like.

    Args:
        text: names of ``FIELDS`` and ``header[name]``, a field of the request, in
            braces, each with a format specification where one is wanted; or
            ``"common"`` or ``"combined"``, the formats of Apache and nginx.

    Attributes:
        headers: the fields of the request that it names, in lower case.
        query: whether it names the query.

    Raises:
        ConfigError: a field has no such name, or cannot be shown like that.
    """

    __slots__ = ("_pieces", "headers", "query")

    def __init__(self, text: str) -> None:
        self._pieces: list[tuple[str, Get | None, str]] = []
        headers = list[str]()
        try:
            parsed = list(string.Formatter().parse(_NAMED.get(text, text)))
        except ValueError as error:
            msg = f"{text!r}: {error}"
            raise ConfigError(msg) from None
        for literal, name, given, conversion in parsed:
            if not literal.isprintable():
                msg = f"{text!r} has a character that does not print"
                raise ConfigError(msg)
            if name is None:
                self._pieces.append((literal, None, ""))
                continue
            spec = given or (".6f" if name == "seconds" else "")
            if conversion or "{" in spec:
                msg = f"{{{name}}} has more than a name and a format of its own"
                raise ConfigError(msg)
            header = _HEADER.fullmatch(name)
            if header is not None:
                headers.append(header[1].lower())
            elif name not in FIELDS:
                known = ", ".join([*FIELDS, "header[...]"])
                msg = f"there is no field {name!r}, but {known}"
                raise ConfigError(msg)
            get = FIELDS[name] if header is None else _header(header[1].lower())
            self._pieces.append((literal, get, _checked(name, spec)))
        if not any(get for _, get, _ in self._pieces):
            msg = f"{text!r} names no field, as {{status}} does, nor a format"
            raise ConfigError(msg)
        self.headers: tuple[str, ...] = tuple(dict.fromkeys(headers))
        self.query: bool = any(name == "query" for _, name, _, _ in parsed)

    def line(self, entry: "AccessEntry") -> str:
        """Return the line of ``entry``."""
        shown = list[str]()
        for literal, get, spec in self._pieces:
            shown.append(literal)
            if get is not None:
                value = get(entry)
                shown.append(_NONE if value is None else format(value, spec))
        return "".join(shown)


def _header(name: str) -> Get:
    def get(entry: "AccessEntry") -> str | None:
        value = entry.headers.get(name)
        return _escaped(value) if value else None

    return get


_SAMPLES: dict[str, Value] = {
    "began": datetime.datetime(2000, 1, 1, tzinfo=datetime.UTC),
    "seconds": 0.5,
    "status": 200,
    "bytes_sent": 0,
    "close_code": 1000,
    "messages_in": 0,
    "bytes_in": 0,
    "messages_out": 0,
    "bytes_out": 0,
}
"""A value of each field that is no text."""


def _checked(name: str, spec: str) -> str:
    """Return ``spec``, which shows what a field has.

    Raises:
        ConfigError: it does not.
    """
    try:
        shown = format(_SAMPLES.get(name, "text"), spec)
    except ValueError as error:
        msg = f"{{{name}:{spec}}}: {error}"
        raise ConfigError(msg) from None
    if not shown.isprintable():
        msg = f"{{{name}:{spec!r}}} has a character that does not print"
        raise ConfigError(msg)
    return spec
