"""What both directions share: ASGI's types, and the errors that cross its border."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias, cast


Scope: TypeAlias = MutableMapping[str, Any]
Event: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Event]]
Send: TypeAlias = Callable[[Event], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

VERSIONS = {"version": "3.0", "spec_version": "2.5"}
LIFESPAN_VERSIONS = {"version": "3.0", "spec_version": "2.0"}

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


def last_line(text: str) -> str:
    """Return the last line of ``text`` that is not blank: of a traceback, the error."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
