"""The fields of a response: one verdict on them, and one reading, for both wires.

A field that cannot be sent is an error of the application, found before anything is
queued: a 500, the same over HTTP/1.1 and HTTP/2. A field that belongs to one wire only,
or to the connection, is not an error: it is read here, and each wire uses what it can.
"""

from collections.abc import Sequence
from typing import Final, Generic, TypeAlias, TypeVar

from tako.errors import LocalProtocolError
from tako.http.grammar import content_length, has_token, is_field_value, is_lower_name
from tako.http.headers import RawHeader


OF_THE_SERVER: Final = frozenset(
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
"""Fields that the engine decides on: the hop-by-hop ones (RFC 9110 §7.6.1), framing."""

WITHOUT_BODY: Final = frozenset({204, 205, 304})
"""Statuses of answers that have no body (RFC 9110 §15.3.5, §15.3.6, §15.4.5)."""

NO_CONTENT: Final = WITHOUT_BODY - {205}
"""Those that end with their head (RFC 9110 §6.4.1); a 205 has a length of 0."""

SECRET: Final = frozenset({b"set-cookie", b"www-authenticate"})
"""Fields that no cache keeps, ours or of an intermediary (RFC 7541 §7.1.3)."""

_LARGEST_KNOWN: Final = 64  # bytes
_MOST_KNOWN: Final = 512
_known: Final[dict[RawHeader, bytes]] = {}  # fields that passed, with their lines

_MOST_KEPT: Final = 256  # heads, for each wire
_LARGEST_KEPT: Final = 512  # bytes of one

Fields: TypeAlias = tuple[RawHeader, ...]
"""The fields of a head, by which it is known again."""
Head = TypeVar("Head")


class ResponseFields:
    """The fields of a response, as an application gave them.

    Attributes:
        own: the application's own fields, in order: the engine does not decide on them.
        lines: the same as lines of HTTP/1.1 (RFC 9112 §5).
        close: the application wants the connection to close.
        keep_alive: ``connection`` names ``keep-alive``.
        date: the value of ``date``.
        length: ``content-length``; ``None`` without one, or where it may not be sent.
        upgrade: the value of ``upgrade``.
    """

    __slots__ = ("close", "date", "keep_alive", "length", "lines", "own", "upgrade")

    def __init__(self) -> None:
        """Make an empty set of fields; ``read_fields`` fills it."""
        self.own: list[RawHeader] = []
        self.lines: list[bytes] = []
        self.close: bool = False
        self.keep_alive: bool = False
        self.date: bytes | None = None
        self.length: int | None = None
        self.upgrade: bytes | None = None

    def take(self, name: bytes, value: bytes) -> None:
        """Read a field that the engine decides on.

        Raises:
            LocalProtocolError: no number, or a second one, in ``content-length``; or
                a value that cannot be sent.
        """
        if name == b"content-length":
            length = content_length(value)
            if length is None or self.length is not None:  # RFC 9110 §8.6
                msg = f"content-length {value!r} is wrong, or not the only one"
                raise LocalProtocolError(msg)
            self.length = length
        elif not is_field_value(value):
            msg = f"this field cannot be sent: {(name, value)!r}"
            raise LocalProtocolError(msg)
        elif name == b"date":
            self.date = value
        elif name == b"upgrade":
            self.upgrade = value
        elif name == b"connection":
            self.close = self.close or has_token([value], b"close")
            self.keep_alive = has_token([value], b"keep-alive")


def read_fields(status: int, headers: Sequence[RawHeader]) -> ResponseFields:
    """Return what the fields of a response with ``status``, or its trailers, say.

    Raises:
        LocalProtocolError: a name is not a token in lower case (a pseudo-field is
            not), a value has a control character or white space around it, or
            ``content-length`` is wrong.
    """
    said = ResponseFields()
    own, lines = said.own, said.lines
    for field in headers:
        if field[0] in OF_THE_SERVER:
            said.take(*field)
        else:
            own.append(field)
            lines.append(_known.get(field) or _line(field))
    # RFC 9110 §8.6: not with 1xx and 204; §15.3.6: nothing but 0 fits a 205
    if status < 200 or status == 204 or status == 205:  # noqa: PLR1714 - no set
        said.length = None
    return said


class KeptHeads(Generic[Head]):
    """Heads of responses as a wire sends them, to be known again by their fields.

    Most responses of a server have one of a few heads, and many that of the one before.
    """

    __slots__ = ("_fields", "_last", "_status", "heads")

    def __init__(self) -> None:
        """Keep none yet."""
        self.heads: dict[tuple[int, Fields], Head] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        self.heads.clear()
        self._status: int = 0
        self._fields: Fields = ()
        self._last: Head | None = None  # the one that was found last, or none was

    def find(self, status: int, fields: Fields) -> Head | None:
        """Return the head with this status and these fields, if it was kept."""
        # To compare is cheaper than to hash: equal fields are mostly the same objects
        if status == self._status and fields == self._fields:
            return self._last
        head = self.heads.get((status, fields))
        if head is not None:
            self._status, self._fields, self._last = status, fields, head
        return head

    def keep(
        self, status: int, fields: Fields, head: Head, size: int, said: "ResponseFields"
    ) -> None:
        """Keep a head that was written in ``size`` bytes, if it may be kept.

        One with a secret in it is not, nor a large one, nor one with a date, which
        would not be seen again.
        """
        if (
            size <= _LARGEST_KEPT
            and said.date is None
            and SECRET.isdisjoint([name for name, _ in said.own])
        ):
            if len(self.heads) >= _MOST_KEPT:
                self.clear()
            self.heads[status, fields] = head


def _line(field: RawHeader) -> bytes:
    """Check a field; return its line, which is kept if it is small and no secret.

    Most fields of responses are the same every time; recognising them saves the checks.
    """
    name, value = field
    # RFC 9110 §5.1, §5.5; RFC 9113 §8.2.1
    if not (is_lower_name(name) and is_field_value(value)):
        msg = f"this field cannot be sent: {field!r}"
        raise LocalProtocolError(msg)
    line = b"%b: %b\r\n" % field
    if len(line) <= _LARGEST_KNOWN and name not in SECRET:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[field] = line
    return line
