"""How a response head is written (RFC 9112 §4, §5, §6.3)."""

import enum
from collections.abc import Sequence
from http import HTTPStatus
from typing import Final

from tako.errors import HttpError, LocalProtocolError
from tako.http.date import http_date
from tako.http.headers import RawHeader
from tako.http.response_fields import (
    NO_CONTENT,
    KeptHeads,
    ResponseFields,
    read_fields,
)


_STATUS_LINES: Final = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status, status.phrase.encode("ascii"))
    for status in HTTPStatus
}

CONTINUE: Final = _STATUS_LINES[100] + b"\r\n"


class Framing(enum.Enum):
    """How a client finds the end of a response body (RFC 9112 §6.3)."""

    NONE = 0  # there is no body
    LENGTH = 1
    CHUNKED = 2
    CLOSE = 3


def status_line(status: int) -> bytes:
    """Return the status line.

    Raises:
        LocalProtocolError: the status is not one of 100 to 999.
    """
    line = _STATUS_LINES.get(status)
    if line is None:
        if not 100 <= status <= 999:  # RFC 9110 §15
            msg = f"{status!r} is not an HTTP status code"
            raise LocalProtocolError(msg)
        line = b"HTTP/1.1 %d \r\n" % status  # RFC 9112 §4: the phrase may be empty
    return line


_DATE: Final = http_date  # compiled code would look the name up each time
_MOST_LENGTHS: Final = 512
_lengths: Final[dict[int, bytes]] = {}  # the fields of those that were sent


class FinalHead:
    """What a final head is before its exchange adds framing, connection and date.

    Attributes:
        status: the status code.
        begin: the status line and the application's own fields.
        said: what these fields say; not to be changed, for the head may be kept.
    """

    __slots__ = ("_length", "_sized", "begin", "said", "status")

    def __init__(self, status: int, begin: bytes, said: ResponseFields) -> None:
        """Make the head of responses with ``status``."""
        self.status: int = status
        self.begin: bytes = begin
        self.said: ResponseFields = said
        self._length: int = -1
        self._sized: bytes = b""

    def framed(self, framing: "Framing", length: int | None) -> bytes:
        """Return ``begin`` with the field that announces the framing, if there is one.

        Where a head is the same as before, so is the length, mostly.
        """
        if length is None or framing is _CHUNKED:
            return self.begin + framing_line(framing, length)
        if length != self._length:
            self._sized = self.begin + framing_line(framing, length)
            self._length = length
        return self._sized


_CHUNKED: Final = Framing.CHUNKED
_kept: Final[KeptHeads[FinalHead]] = KeptHeads()


def final_head(status: int, headers: Sequence[RawHeader]) -> FinalHead:
    """Return the head of a response; one that is kept is not read again.

    Raises:
        LocalProtocolError: a field cannot be sent; see ``read_fields``.
    """
    fields = tuple(headers)
    head = _kept.find(status, fields)
    if head is None:
        said = read_fields(status, headers)
        head = FinalHead(status, b"".join([status_line(status), *said.lines]), said)
        _kept.keep(status, fields, head, len(head.begin), said)
    return head


def framing_of(status: int, method: str, length: int | None, version: str) -> Framing:
    """Return how the body of a response that is sent now will end."""
    if method == "HEAD" or status in NO_CONTENT:  # RFC 9112 §6.3 rule 1
        return Framing.NONE
    if length is not None:
        return Framing.LENGTH
    if version == "1.0":  # RFC 9112 §6.1: HTTP/1.0 does not know chunked
        return Framing.CLOSE
    return Framing.CHUNKED


def framing_line(framing: Framing, length: int | None) -> bytes:
    """Return the field that announces the framing, if there is one."""
    if framing is Framing.CHUNKED:
        return b"transfer-encoding: chunked\r\n"
    if length is None:
        return b""
    line = _lengths.get(length)  # on HEAD and 304, too: that of a GET
    if line is None:
        line = b"content-length: %d\r\n" % length
        if len(_lengths) >= _MOST_LENGTHS:
            _lengths.clear()
        _lengths[length] = line
    return line


def connection_lines(
    ours: ResponseFields, *, status: int, persistent: bool, version: str
) -> bytes:
    """Return ``connection``, and ``upgrade`` where it applies (RFC 9110 §7.8)."""
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


def head_end(ours: ResponseFields) -> bytes:
    """Return the end of a head: its date, ours or the handler's (RFC 9110 §6.6.1)."""
    if ours.date is None:
        return _DATE.last_line()
    return b"date: %b\r\n\r\n" % ours.date


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
