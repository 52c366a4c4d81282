"""How a response head is written (RFC 9112 §4, §5, §6.3)."""

import enum
from collections.abc import Sequence
from http import HTTPStatus

from tako.errors import HttpError, LocalProtocolError
from tako.grammar import content_length, has_token
from tako.headers import RawHeader
from tako.httpdate import http_date


# Fields that the engine decides on: the hop-by-hop ones (RFC 9110 §7.6.1) and framing.
_OURS = frozenset(
    [
        b"connection",
        b"content-length",
        b"date",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    ]
)
_STATUS_LINES = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
}

CONTINUE = _STATUS_LINES[100] + b"\r\n"


class Framing(enum.Enum):
    """How the end of a response body shows (RFC 9112 §6.3)."""

    NONE = 0  # there is no body
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


def status_line(status: int) -> bytes:
    """Return the status line.

    Raises:
        LocalProtocolError: the status has not three digits, or is below 100.
    """
    line = _STATUS_LINES.get(status)
    if line is None:
        if not 100 <= status <= 999:  # RFC 9110 §15
            msg = f"{status!r} is not an HTTP status code"
            raise LocalProtocolError(msg)
        line = b"HTTP/1.1 %d \r\n" % status  # RFC 9112 §4: the phrase may be empty
    return line


class OurFields:
    """What the handler said in the fields that the engine decides on."""

    __slots__ = ("close", "date", "keep_alive", "length", "upgrade")

    def __init__(self) -> None:
        """Begin with nothing said."""
        self.close: bool = False
        self.keep_alive: bool = False
        self.date: bytes | None = None
        self.length: int | None = None
        self.upgrade: bytes | None = None

    def take(self, name: bytes, value: bytes) -> None:
        """Read one of them.

        Raises:
            LocalProtocolError: no number, or a second one, in ``content-length``.
        """
        if name == b"content-length":
            self._set_length(value)
        elif name == b"date":
            self.date = value
        elif name == b"upgrade":
            self.upgrade = value
        elif name == b"connection":
            self.close = self.close or has_token([value], b"close")
            self.keep_alive = has_token([value], b"keep-alive")

    def _set_length(self, value: bytes) -> None:
        length = content_length(value)
        if length is None or self.length not in {None, length}:  # RFC 9110 §8.6
            msg = f"content-length {value!r} is wrong"
            raise LocalProtocolError(msg)
        self.length = length


def split(headers: Sequence[RawHeader]) -> tuple[list[bytes], OurFields]:
    """Return the lines of the handler's own fields, and what it said in ours."""
    lines: list[bytes] = []
    ours = OurFields()
    for name, value in headers:
        if name in _OURS:
            ours.take(name, value)
        else:
            lines += (name, b": ", value, b"\r\n")
    return lines, ours


def framing_of(status: int, method: str, length: int | None, version: str) -> Framing:
    """Return how the body of a response that is sent now will end."""
    if method == "HEAD" or status in {204, 304}:  # RFC 9112 §6.3 rule 1
        return Framing.NONE
    if length is not None:
        return Framing.LENGTH
    if version == "1.0":  # RFC 9112 §6.1: HTTP/1.0 does not know chunked
        return Framing.CLOSE
    return Framing.CHUNKED


def framing_line(status: int, framing: Framing, length: int | None) -> bytes:
    """Return the field that announces the framing, if there is one."""
    if framing is Framing.CHUNKED:
        return b"transfer-encoding: chunked\r\n"
    if length is None or status == 204:  # RFC 9110 §8.6: no Content-Length on 204
        return b""
    return b"content-length: %d\r\n" % length  # on HEAD and 304, too: of what GET gives


def connection_lines(
    ours: OurFields, *, status: int, persistent: bool, version: str
) -> bytes:
    """Return ``connection``, and ``upgrade`` where it is meant (RFC 9110 §7.8)."""
    if persistent and version != "1.0" and not (ours.keep_alive or ours.upgrade):
        return b""
    options: list[bytes] = []
    upgrade = b""
    if ours.upgrade is not None and status in {101, 426}:  # RFC 9110 §15.5.22
        upgrade = b"upgrade: %b\r\n" % ours.upgrade
        options.append(b"Upgrade")
    if not persistent:
        options.append(b"close")  # RFC 9112 §9.6
    elif version == "1.0" or ours.keep_alive:
        options.append(b"keep-alive")  # RFC 9112 §9.3
    if not options:
        return b""
    return upgrade + b"connection: %b\r\n" % b", ".join(options)


def date_line(ours: OurFields) -> bytes:
    """Return the ``date`` field, the handler's or ours (RFC 9110 §6.6.1)."""
    return http_date.line() if ours.date is None else b"date: %b\r\n" % ours.date


def refusal(fault: HttpError, *, head_only: bool) -> bytes:
    """Return a whole response that says why nothing more will be parsed.

    RFC 9112 §9.6: ``close`` tells the client that the rest of its bytes is lost.
    """
    text = str(fault).encode("ascii")
    head = (
        b"content-type: text/plain; charset=utf-8\r\n"
        b"content-length: %d\r\nconnection: close\r\n" % len(text)
    )
    return b"".join(
        (
            status_line(fault.status),
            head,
            http_date.line(),
            b"\r\n",
            b"" if head_only else text,  # RFC 9110 §9.3.2
        )
    )
