"""What a field of a request says by itself (RFC 9113 §8.2, §8.3.1).

A field is read once: when its literal is decoded. One of a table (RFC 7541 §2.3) was
read when it entered the table, so an index brings the verdict along. What fields say
together is for ``request_head.py``.
"""

import enum
from collections.abc import Callable
from typing import Final, TypeAlias

from tako.http import grammar
from tako.http.headers import RawHeader
from tako.http.request_head import FORWARDED


_SIZE: Final = 32  # RFC 7541 §4.1: bytes that a field counts beside its text


class FieldKind(enum.IntEnum):
    """What a field is, which says what is to be done with it."""

    PLAIN = 0
    """Well-formed; what it says is for the application."""
    PSEUDO = 1
    """A pseudo-field of a request."""
    CRUMB = 2
    """A ``cookie`` or a part of one, perhaps with white space around it."""
    RULED = 3
    """Well-formed; it says something about the message or the connection."""
    MALFORMED = 4
    """It makes the message malformed."""


Field: TypeAlias = tuple[RawHeader, FieldKind, int]
"""A field, what it is, and its size in bytes as tables and lists count it."""

CONNECTION_SPECIFIC: Final = frozenset(  # RFC 9113 §8.2.2
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    }
)
_PLAIN: Final = FieldKind.PLAIN  # cheaper than by its class
_MALFORMED: Final = FieldKind.MALFORMED


def _is_te(value: bytes) -> bool:
    return value.lower() == b"trailers"  # RFC 9113 §8.2.2


def _is_length(value: bytes) -> bool:
    return grammar.content_length(value) is not None


_Rule: TypeAlias = tuple[FieldKind, Callable[[bytes], bool] | None]
_RULES: Final[dict[bytes, _Rule]] = {
    # RFC 9113 §8.3.1; ``request_head.py`` judges by the method the values of the others
    b":method": (FieldKind.PSEUDO, grammar.is_token),
    b":scheme": (FieldKind.PSEUDO, None),
    b":authority": (FieldKind.PSEUDO, grammar.is_authority),
    b":path": (FieldKind.PSEUDO, None),
    b":protocol": (FieldKind.PSEUDO, None),
    b"cookie": (FieldKind.CRUMB, grammar.is_field_content),
    b"te": (_PLAIN, _is_te),
    b"host": (FieldKind.RULED, grammar.is_field_value),
    b"content-length": (FieldKind.RULED, _is_length),
    b"expect": (FieldKind.RULED, grammar.is_field_value),
    **dict.fromkeys(FORWARDED, (FieldKind.RULED, grammar.is_field_value)),
    **dict.fromkeys(CONNECTION_SPECIFIC, (_MALFORMED, None)),
}


_ANY_WELL_FORMED: Final = (None, grammar.is_field_content, grammar.is_field_value)

KINDS: Final[dict[bytes, FieldKind | None]] = {
    name: kind if holds in _ANY_WELL_FORMED else None
    for name, (kind, holds) in _RULES.items()
}
"""What ``read_field`` says of these names where the value is well-formed, as far as the
name alone tells it (``native.pure.FieldTable``)."""


def read_field(name: bytes, value: bytes) -> Field:
    """Return a field that a client has sent."""
    size = _SIZE + len(name) + len(value)
    rule = _RULES.get(name)
    if rule is None:
        # RFC 9113 §8.2.1: a pseudo-field that no request has is no name, either
        well = grammar.is_lower_name(name) and grammar.is_field_value(value)
        return (name, value), _PLAIN if well else _MALFORMED, size
    kind, holds = rule
    if holds is not None and not holds(value):
        kind = _MALFORMED
    return (name, value), kind, size
