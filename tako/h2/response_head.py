"""How a response head is written on HTTP/2 (RFC 9113 §8.3.2).

``encoded_head`` knows a head again: most responses of a server have one of a few heads,
and what their fields say and how they are encoded need not be found out each time. What
is kept is the same for all connections, since our blocks depend on no table; only the
date goes in anew.
"""

from collections.abc import Sequence
from typing import Final

from tako.h2.hpack import encode, encode_field
from tako.http.date import http_date
from tako.http.headers import RawHeader
from tako.http.response_fields import (
    KeptHeads,
    ResponseFields,
    read_fields,
)


class _Head:
    """A final head that is encoded but for its date."""

    __slots__ = ("after", "before", "length")

    def __init__(self, before: bytes, after: bytes, length: int | None) -> None:
        self.before: bytes = before
        self.after: bytes = after
        self.length: int | None = length


class _DateField:
    """The date as a part of a block, encoded once a second."""

    __slots__ = ("_block", "_text")

    def __init__(self) -> None:
        self._text = b""
        self._block = b""

    def block(self) -> bytes:
        """Return the field."""
        text = http_date.text()
        if text is not self._text:
            self._block = encode_field((b"date", text))
            self._text = text
        return self._block


_date: Final = _DateField()
_kept: Final[KeptHeads[_Head]] = KeptHeads()


def encoded_head(status: int, headers: Sequence[RawHeader]) -> tuple[bytes, int | None]:
    """Return the block of a final head, and its content-length.

    Raises:
        LocalProtocolError: a field cannot be sent; see ``read_fields``.
    """
    fields = tuple(headers)
    head = _kept.find(status, fields)
    if head is None:
        said = read_fields(status, headers)
        if said.date is not None:
            return encode(response_head(status, said)), said.length
        first, _, *rest = response_head(status, said)
        head = _Head(encode([first]), encode(rest), said.length)
        _kept.keep(status, fields, head, len(head.after), said)
    return head.before + _date.block() + head.after, head.length


def response_head(status: int, said: ResponseFields) -> list[RawHeader]:
    """Return all fields of a head.

    RFC 9113 §8.2.2: those that are HTTP/1.1's own are not among ``said.own``.
    """
    head = [(b":status", b"%d" % status)]
    if said.date is not None:
        head.append((b"date", said.date))
    elif status >= 200:  # RFC 9110 §6.6.1
        head.append((b"date", http_date.text()))
    head += said.own
    if said.length is not None:
        head.append((b"content-length", b"%d" % said.length))
    return head


def interim_head(status: int, headers: Sequence[RawHeader]) -> bytes:
    """Return the block of an interim (1xx) head."""
    return encode(response_head(status, read_fields(status, headers)))


def text_head(status: int, body: bytes) -> bytes:
    """Return the block of the head of a short answer of the engine's own."""
    headers: list[RawHeader] = [(b"content-length", b"%d" % len(body))]
    if body:
        headers.append((b"content-type", b"text/plain; charset=utf-8"))
    return encoded_head(status, headers)[0]


def tunnel_head(status: int, headers: Sequence[RawHeader]) -> bytes:
    """Return the block of the head that opens a tunnel."""
    status = 200 if status == 101 else status  # RFC 9113 §8.6: there is no 101
    if not headers:  # any other is for one request, and would not be seen again
        return encoded_head(status, headers)[0]
    said = read_fields(status, headers)
    said.length = None  # RFC 9110 §9.3.6
    return encode(response_head(status, said))
