"""What a session reads and sends: the five kinds of ``Message``.

Data messages are plain ``str`` and ``bytes``; control messages are small frozen
classes. All work as patterns::

    match message:
        case Message.Text(text): ...
        case Message.Binary(data): ...
        case Message.Ping(data): ...
        case Message.Close(code, reason): ...
"""

from dataclasses import dataclass
from typing import TypeAlias


MAX_CONTROL_PAYLOAD = 125  # RFC 6455 §5.5
MAX_CLOSE_REASON = MAX_CONTROL_PAYLOAD - 2  # RFC 6455 §5.5.1: the code comes first


def is_sendable(code: int) -> bool:
    """Return whether ``code`` may be in a Close frame, ours or a peer's.

    RFC 6455 §7.4: 1004 to 1006 and 1015 never go on the wire, 1016 to 2999 are
    unassigned, and nothing is defined below 1000 or above 4999. 1014 is registered
    (IANA: Bad Gateway), but common peers answer it with 1002, and so does tako.
    """
    return 3000 <= code <= 4999 or 1000 <= code <= 1003 or 1007 <= code <= 1013


def _check_control_payload(data: object) -> None:
    if not isinstance(data, bytes):
        msg = f"a control message takes bytes, not {type(data).__name__}"
        raise TypeError(msg)
    if len(data) > MAX_CONTROL_PAYLOAD:
        msg = f"a control message takes {MAX_CONTROL_PAYLOAD} bytes, not {len(data)}"
        raise ValueError(msg)


class Message:
    """The kinds of message. A namespace: it has no instances.

    Example::

        match await ws.read():
            case str() as text:
                await ws.send(text)
            case Message.Close(code, reason):
                print(code, reason)
    """

    __module__ = "tako"

    Text: TypeAlias = str
    """A text message is a ``str``."""

    Binary: TypeAlias = bytes
    """A binary message is ``bytes``."""

    @dataclass(frozen=True, slots=True)
    class Ping:
        """A Ping (RFC 6455 §5.5.2); tako has answered it when a session reads it.

        Raises:
            ValueError: ``data`` is longer than 125 bytes.
        """

        __module__ = "tako"

        data: bytes = b""

        def __post_init__(self) -> None:
            _check_control_payload(self.data)

    @dataclass(frozen=True, slots=True)
    class Pong:
        """A Pong (RFC 6455 §5.5.3).

        Raises:
            ValueError: ``data`` is longer than 125 bytes.
        """

        __module__ = "tako"

        data: bytes = b""

        def __post_init__(self) -> None:
            _check_control_payload(self.data)

    @dataclass(frozen=True, slots=True)
    class Close:
        """A Close (RFC 6455 §5.5.1); ``code`` is ``None`` where the frame is empty.

        Raises:
            ValueError: ``code`` is not one of 1000 to 1003, 1007 to 1013 and 3000 to
                4999; or ``reason`` is longer than 123 UTF-8 bytes or has no code.
        """

        __module__ = "tako"

        code: int | None = None
        reason: str = ""

        def __post_init__(self) -> None:
            if self.code is None:
                if self.reason:
                    msg = "a close reason needs a close code"
                    raise ValueError(msg)
                return
            if not is_sendable(self.code):
                msg = f"{self.code} is not a close code that may be sent"
                raise ValueError(msg)
            size = len(self.reason.encode())
            if size > MAX_CLOSE_REASON:
                msg = f"a close reason takes {MAX_CLOSE_REASON} UTF-8 bytes, not {size}"
                raise ValueError(msg)


AnyMessage: TypeAlias = str | bytes | Message.Ping | Message.Pong | Message.Close
"""What a session reads, and what it may send."""


def received_close(code: int | None, reason: str) -> Message.Close:
    """Return the Close of a peer; its code may be one that tako would not send."""
    close = Message.Close()
    object.__setattr__(close, "code", code)
    object.__setattr__(close, "reason", reason)
    return close
