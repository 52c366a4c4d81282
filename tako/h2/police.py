"""Rules that a frame can be judged by alone, most of them from its nine-byte header."""

from tako.core.error_code import ErrorCode
from tako.h2 import frames


_LENGTHS = {  # RFC 9113 §6.4, §6.7, §6.9
    frames.RST_STREAM: 4,
    frames.PING: 8,
    frames.WINDOW_UPDATE: 4,
}
_ON_STREAM = frozenset(
    {
        frames.DATA,
        frames.HEADERS,
        frames.PRIORITY,
        frames.RST_STREAM,
        frames.CONTINUATION,
    }
)
_ON_CONNECTION = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})


class ConnectionFault(Exception):  # noqa: N818 - the peer's, and data to everybody else
    """A connection error (RFC 9113 §5.4.1); never leaves the gate."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code.name)
        self.code = code


def check_header(kind: int, flags: int, stream_id: int, length: int) -> None:
    """Check what a frame's header promises, before any of the payload is buffered.

    Raises:
        Fault: the frame is too large, too small, or on the wrong kind of stream.
    """
    if length > frames.MAX_FRAME_SIZE:  # RFC 9113 §4.2
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)
    wrong = kind in _ON_CONNECTION if stream_id else kind in _ON_STREAM
    if wrong or kind == frames.PUSH_PROMISE:  # RFC 9113 §6.1 to §6.10, §8.4
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
    if kind == frames.HEADERS and not stream_id & 1:  # RFC 9113 §5.1.1
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
    if length != _LENGTHS.get(kind, length):
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)
    if kind == frames.SETTINGS:  # RFC 9113 §6.5
        wrong = length % 6 != 0 or bool(flags & frames.ACK and length)
    elif kind == frames.GOAWAY:  # RFC 9113 §6.8
        wrong = length < 8
    if wrong:
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)


def padding(payload: bytes) -> int:
    """Return the length of the padding at the end of a PADDED payload.

    Raises:
        Fault: there is no room for the padding.
    """
    if not payload:  # RFC 9113 §4.2
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)
    if payload[0] >= len(payload):  # RFC 9113 §6.1, §6.2
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
    return payload[0]
