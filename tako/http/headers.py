"""``Headers``: an ordered, case-insensitive multimap over raw byte pairs.

Names are kept in lower case, as HTTP/2 has them (RFC 9113 §8.2) and as RFC 9110 §5.1
allows for HTTP/1.1. Values are bytes on the wire; the text view decodes them as
ISO-8859-1, so that every byte a peer sends reaches the handler unchanged.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar, TypeAlias, cast

from tako.http.grammar import TCHAR


RawHeader: TypeAlias = tuple[bytes, bytes]
NOT_IN_TRAILERS = frozenset(
    [
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expect",
        b"host",
        b"keep-alive",
        b"max-forwards",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    ]
)
"""Fields of framing, routing, authentication and content handling: a recipient ignores
them in trailers (RFC 9110 §6.5.1)."""

_TOKEN = re.compile(TCHAR + rb"+")
_FORBIDDEN = re.compile(rb"[\x00\r\n]")  # RFC 9110 §5.5


def _name(name: str | bytes) -> bytes:
    """Return ``name`` as it goes on the wire: bytes in lower case."""
    raw = name.encode("latin-1") if isinstance(name, str) else bytes(name)
    return raw.lower()


def _checked_name(name: str | bytes) -> bytes:
    raw = _name(name)
    if not _TOKEN.fullmatch(raw):
        msg = f"{name!r} is not a header name (RFC 9110 §5.6.2)"
        raise ValueError(msg)
    return raw


def _checked_value(value: str | bytes) -> bytes:
    raw = value.encode("latin-1") if isinstance(value, str) else bytes(value)
    if _FORBIDDEN.search(raw):
        msg = f"header value {value!r} contains CR, LF or NUL"
        raise ValueError(msg)
    return raw.strip(b" \t")


class Headers:
    """An ordered, case-insensitive multimap of header fields (RFC 9110 §5).

    Args:
        fields: another ``Headers``, a mapping, or ``(name, value)`` pairs.

    Raises:
        ValueError: a name is not a token, or a value contains CR, LF or NUL.

    Example::

        headers = Headers({"Content-Type": "text/plain"})
        headers.add("set-cookie", "a=1")
        assert headers["content-type"] == "text/plain"
    """

    __slots__ = ("raw",)

    raw: list[RawHeader]
    """The fields in order, as bytes; names in lower case."""

    def __init__(self, fields: "HeadersLike" = ()) -> None:
        if isinstance(fields, Headers):
            self.raw = list(fields.raw)
            return
        self.raw = []
        if isinstance(fields, Mapping):
            fields = cast("Mapping[str, str]", fields).items()
        for name, value in fields:
            self.add(name, value)

    @classmethod
    def from_raw(cls, raw: list[RawHeader]) -> "Headers":
        """Wrap fields that were checked before; ``raw`` is kept, not copied."""
        headers = cls.__new__(cls)
        headers.raw = raw
        return headers

    def get(self, name: str, default: str | None = None) -> str | None:
        """Return the first value of ``name``, or ``default``."""
        value = self.get_raw(_name(name))
        return default if value is None else value.decode("latin-1")

    def get_raw(self, name: bytes) -> bytes | None:
        """Return the first value of ``name`` (in lower case) as bytes."""
        for key, value in self.raw:
            if key == name:
                return value
        return None

    def get_all(self, name: str) -> list[str]:
        """Return every value of ``name``, in order."""
        return [value.decode("latin-1") for value in self.get_all_raw(_name(name))]

    def get_all_raw(self, name: bytes) -> list[bytes]:
        """Return every value of ``name`` (in lower case) as bytes, in order."""
        return [value for key, value in self.raw if key == name]

    def add(self, name: str | bytes, value: str | bytes) -> None:
        """Append a field, keeping others of the same name.

        Raises:
            ValueError: as for ``Headers``.
        """
        self.raw.append((_checked_name(name), _checked_value(value)))

    def set(self, name: str | bytes, value: str | bytes) -> None:
        """Replace every field of that name by one.

        Raises:
            ValueError: as for ``Headers``; nothing is changed.
        """
        field = (_checked_name(name), _checked_value(value))
        self.remove(name)
        self.raw.append(field)

    def set_default(self, name: str | bytes, value: str | bytes) -> None:
        """Add a field unless one of that name is there.

        Raises:
            ValueError: as for ``Headers``.
        """
        if self.get_raw(_name(name)) is None:
            self.add(name, value)

    def remove(self, name: str | bytes) -> None:
        """Remove every field of that name, if there are any."""
        key = _name(name)
        self.raw[:] = [field for field in self.raw if field[0] != key]

    def items(self) -> list[tuple[str, str]]:
        """Return all fields as text, in order."""
        return [(k.decode("latin-1"), v.decode("latin-1")) for k, v in self.raw]

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self.set(name, value)

    def __delitem__(self, name: str) -> None:
        if name not in self:
            raise KeyError(name)
        self.remove(name)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get_raw(_name(name)) is not None

    def __iter__(self) -> Iterator[str]:
        return iter([key.decode("latin-1") for key, _ in self.raw])

    def __len__(self) -> int:
        return len(self.raw)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Headers) and self.raw == other.raw

    __hash__: ClassVar[None] = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"Headers({self.items()!r})"


HeadersLike: TypeAlias = (
    Headers | Mapping[str, str] | Iterable[tuple[str | bytes, str | bytes]]
)
"""What ``Headers`` are made of."""
