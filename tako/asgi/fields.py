"""Fields at the border to an app: those that it sends, those that it is not shown."""

from collections.abc import Iterable
from typing import Any, Final

from tako.http.headers import Headers, RawHeader
from tako.http.response_fields import SECRET, Fields


_LARGEST_KNOWN: Final = 1024  # bytes
_MOST_KNOWN: Final = 256
_known: Final[dict[Fields, Fields]] = {}


class _Last:
    """The fields that were known again last."""

    __slots__ = ("checked", "fields")

    def __init__(self) -> None:
        self.fields: Fields = ()
        self.checked: Fields = ()


_last: Final = _Last()

_HANDSHAKE: Final = frozenset({b"connection", b"upgrade", b"sec-websocket-key"})


def checked_fields(fields: Iterable[Any]) -> Fields:
    """Return an app's headers, as they are sent.

    A field is a pair of bytes, of whatever types: compiled code would insist on those
    of an annotation.

    An app sends the same few lists again and again: small ones are known again.

    Raises:
        ValueError: a name is no token, or a value cannot be sent.
    """
    key: tuple[Any, ...] = tuple(fields)
    if key == _last.fields:  # cheaper than to hash, and most are
        return _last.checked
    try:
        known = _known.get(key)
    except TypeError:  # lists, or a bytearray
        return _checked(key)
    if known is None:
        known = _checked(key)
        size = sum([len(name) + len(value) for name, value in known])
        if size <= _LARGEST_KNOWN and SECRET.isdisjoint([name for name, _ in known]):
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[key] = known
    else:
        _last.fields, _last.checked = key, known
    return known


def _checked(fields: tuple[Any, ...]) -> Fields:
    return tuple(Headers([(bytes(name), bytes(value)) for name, value in fields]).raw)


def is_hop_by_hop(field: RawHeader) -> bool:
    """Tell whether a field belongs to the WebSocket handshake of one connection."""
    return field[0] in _HANDSHAKE
