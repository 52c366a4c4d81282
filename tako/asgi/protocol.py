"""What both directions share: ASGI's types, and the errors that cross its border."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, TypeAlias, cast

from tako.http.headers import Headers, RawHeader
from tako.http.response_fields import SECRET


Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSIONS = {"version": "3.0", "spec_version": "2.5"}

# What frameworks raise when they have been told that the client is gone.
_FAREWELLS = frozenset(
    {"ClientDisconnect", "ClientDisconnected", "WebSocketDisconnect"}
)


class ClientDisconnectedError(OSError):
    """Sending failed because the client is gone; ASGI 2.4 asks for an ``OSError``."""


class EventError(RuntimeError):
    """The app sent something that ASGI does not allow at this point."""


def unexpected(event: Event, expected: str) -> EventError:
    """Return the error for an event that cannot be sent now."""
    return EventError(f"the app sent {event.get('type')!r} where {expected} belongs")


def is_farewell(error: BaseException | None) -> bool:
    """Tell whether an app failed only because its client left.

    That is: this or an exception that it was raised from, or while handling, says so.
    """
    seen = set[int]()
    while error is not None and id(error) not in seen:
        if isinstance(error, BaseExceptionGroup):
            group = cast("BaseExceptionGroup[BaseException]", error)
            return all(map(is_farewell, group.exceptions))
        if isinstance(error, ClientDisconnectedError):
            return True
        if type(error).__name__ in _FAREWELLS:
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def checked_fields(fields: Iterable[Iterable[bytes]]) -> list[RawHeader]:
    """Return an app's headers, ``(name, value)`` pairs of bytes, as they are sent.

    An app sends the same few lists again and again: small ones are known again.

    Raises:
        ValueError: a name is no token, or a value cannot be sent.
    """
    key = tuple(cast("Iterable[RawHeader]", fields))
    try:
        known = _known.get(key)
    except TypeError:  # lists, or a bytearray
        return _checked(key)
    if known is None:
        known = _checked(key)
        size = sum([len(name) + len(value) for name, value in known])
        if size <= _LARGEST_KNOWN and not any(name in SECRET for name, _ in known):
            if len(_known) >= _MOST_KNOWN:
                _known.clear()
            _known[key] = known
    return known.copy()


def _checked(fields: Iterable[Iterable[bytes]]) -> list[RawHeader]:
    return Headers([(bytes(name), bytes(value)) for name, value in fields]).raw


_LARGEST_KNOWN = 1024  # bytes
_MOST_KNOWN = 256
_known: dict[tuple[RawHeader, ...], list[RawHeader]] = {}


def is_hop_by_hop(field: RawHeader) -> bool:
    """Tell whether a field belongs to the WebSocket handshake of one connection."""
    return field[0] in _HANDSHAKE


_HANDSHAKE = frozenset({b"connection", b"upgrade", b"sec-websocket-key"})


def last_line(text: str) -> str:
    """Return the last line of ``text`` that is not blank: of a traceback, the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
