"""What a frame, a header block and a peer may cost: the rules that the reader enforces.

Theory of operation. Three kinds of rule, in the order in which a frame meets them.
``check_header`` judges a frame by its nine-byte header, before any of the payload is
buffered. ``HeaderBlock`` puts HEADERS and CONTINUATION frames together (RFC 9113 §4.3)
and bounds what they may add up to. The budgets say how much unproductive input a peer
may send before the connection asks it to calm down; time is an argument, each answers
one question (``spend``) with yes or no, and the caller decides what a no costs.

A rule that is broken raises ``ConnectionFault``.

Invariant: ``HeaderBlock.stream_id`` is not zero exactly while CONTINUATION is expected.
"""

from typing import Final

from tako.config import WireConfig
from tako.core.error_code import ErrorCode
from tako.h2 import frames


_LENGTHS: Final = {  # RFC 9113 §6.4, §6.7, §6.9
    frames.RST_STREAM: 4,
    frames.PING: 8,
    frames.WINDOW_UPDATE: 4,
}
_ON_STREAM: Final = frozenset(
    {
        frames.DATA,
        frames.PRIORITY,
        frames.RST_STREAM,
        frames.CONTINUATION,
    }
)
_ON_CONNECTION: Final = frozenset({frames.SETTINGS, frames.PING, frames.GOAWAY})

_CONTINUATIONS: Final = 8  # at least; as many as the limit in bytes takes
_SIZE_UPDATES: Final = 2  # RFC 7541 §4.2: at most two are ever needed


class ConnectionFault(Exception):  # noqa: N818 - the peer's error, and data here
    """A connection error (RFC 9113 §5.4.1); never leaves the reader."""

    def __init__(self, code: ErrorCode, limit: str = "") -> None:
        """Make one; ``limit``: the name of the limit that was hit, for counters."""
        super().__init__(code.name)
        self.code = code
        self.limit = limit


def check_header(kind: int, flags: int, stream_id: int, length: int, most: int) -> None:
    """Check what a frame's header promises, before any of the payload is buffered.

    ``most``: the largest payload that was allowed to the peer, in bytes.

    Raises:
        ConnectionFault: the frame is too large, too small, or on the wrong stream.
    """
    if length > most:  # RFC 9113 §4.2
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)
    if kind == frames.HEADERS:
        if not stream_id & 1:  # RFC 9113 §5.1.1, §6.2
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
        return
    wrong = kind in _ON_CONNECTION if stream_id else kind in _ON_STREAM
    if wrong or kind == frames.PUSH_PROMISE:  # RFC 9113 §6.1 to §6.10, §8.4
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
        ConnectionFault: there is no room for the padding.
    """
    if not payload:  # RFC 9113 §4.2
        raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)
    if payload[0] >= len(payload):  # RFC 9113 §6.1, §6.2
        raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
    return payload[0]


class HeaderBlock:
    """The block that is being received, if any."""

    __slots__ = (
        "_limit",
        "_most_parts",
        "_parts",
        "_size",
        "end",
        "self_dependent",
        "stream_id",
    )

    def __init__(self, limit: int) -> None:
        """Make an empty one; ``limit``: the largest block, in bytes, compressed."""
        self._limit = limit
        self._most_parts = 1 + max(_CONTINUATIONS, limit // frames.DEFAULT_FRAME_SIZE)
        self._parts: list[bytes] = []
        self._size = 0
        self.stream_id: int = 0
        """The stream whose CONTINUATION must follow, or zero."""
        self.end: int = 0
        """END_STREAM, if HEADERS had it."""
        self.self_dependent: bool = False
        """HEADERS made the stream depend on itself."""

    def clear(self) -> None:
        """Forget the block: nothing more is read."""
        self._parts = []
        self.stream_id = self._size = 0

    def check(self, kind: int, stream_id: int, length: int) -> None:
        """Judge the header of a frame by the block that is open.

        Raises:
            ConnectionFault: the frame must not come now, or the block grows too large.
        """
        if self.stream_id:
            # RFC 9113 §6.10: nothing else within a block
            if kind != frames.CONTINUATION or stream_id != self.stream_id:
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
            if (
                self._size + length > self._limit
                or len(self._parts) >= self._most_parts
            ):
                raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header_block")
        elif kind == frames.CONTINUATION:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
        elif kind == frames.HEADERS and length > self._limit:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header_block")

    def begin(self, flags: int, stream_id: int, payload: bytes) -> bytes | None:
        """Take a HEADERS frame; return the block if that is all of it.

        Raises:
            ConnectionFault: the frame contradicts itself, or the block begins with too
                many table size updates.
        """
        self.end = flags & frames.END_STREAM
        self.self_dependent = False
        if flags & (frames.PADDED | frames.HAS_PRIORITY):
            payload = self._fragment(flags, stream_id, payload)
        if flags & frames.END_HEADERS:
            return _checked(payload)
        self.stream_id = stream_id
        self._size = len(payload)
        self._parts = [payload]
        return None

    def _fragment(self, flags: int, stream_id: int, payload: bytes) -> bytes:
        """Return what is between the priority and the padding of HEADERS."""
        start, end = 0, len(payload)
        if flags & frames.PADDED:
            start, end = 1, end - padding(payload)
        if flags & frames.HAS_PRIORITY:
            if end - start < 5:  # RFC 9113 §6.2
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)
            parent = int.from_bytes(payload[start : start + 4])
            self.self_dependent = parent & frames.MAX_STREAM_ID == stream_id
            start += 5
        return payload[start:end]

    def extend(self, flags: int, fragment: bytes) -> bytes | None:
        """Take a CONTINUATION frame; return the block if it was the last.

        Raises:
            ConnectionFault: the block begins with too many table size updates.
        """
        self._parts.append(fragment)
        self._size += len(fragment)
        if not flags & frames.END_HEADERS:
            return None
        block = b"".join(self._parts)
        self.clear()
        return _checked(block)


def _checked(block: bytes) -> bytes:
    if _leading_size_updates(block) > _SIZE_UPDATES:
        raise ConnectionFault(ErrorCode.COMPRESSION_ERROR)
    return block


def _leading_size_updates(block: bytes) -> int:
    """Count dynamic table size updates at the front of a block (RFC 7541 §6.3)."""
    count = position = 0
    while position < len(block) and block[position] & 0xE0 == 0x20:
        count += 1
        long = block[position] & 0x1F == 0x1F
        position += 1
        while long and position < len(block):  # RFC 7541 §5.1
            long = block[position] >= 0x80
            position += 1
        if count > _SIZE_UPDATES:
            break
    return count


def header_list_size(config: WireConfig) -> int:
    """Return the size of a header list that a peer may send (RFC 9113 §6.5.2).

    By default all that is within the limits of an HTTP/1.1 head: 32 bytes for each of
    its fields, and for the pseudo-fields, are more than a line has around them there.
    """
    size = config.h2_max_header_list_size
    return _fitting(config) if size is None else size


def decoded_size(config: WireConfig) -> int:
    """Return the size of a list, or of a block, from which decoding is an attack.

    Above the limits a request is answered with 431. That takes decoding its block, and
    twice of what is legal is decoded; beyond it the connection ends.
    """
    return 2 * max(header_list_size(config), _fitting(config))


def _fitting(config: WireConfig) -> int:
    return config.max_header_bytes + 32 * (config.max_headers + 8)


class TokenBucket:
    """``size`` tokens at once, refilled at ``rate`` a second."""

    __slots__ = ("_left", "_rate", "_size", "_updated")

    def __init__(self, size: float, rate: float, now: float) -> None:
        self._size = size
        self._rate = rate
        self._left = size
        self._updated = now

    def spend(self, tokens: float, now: float) -> bool:
        """Take ``tokens``; tell whether there were as many."""
        refilled = self._left + (now - self._updated) * self._rate
        self._updated = now
        self._left = min(self._size, refilled) - tokens
        if self._left >= 0:
            return True
        self._left = 0.0
        return False


class WindowUpdateBudget:
    """WINDOW_UPDATE frames in proportion to what they can be good for.

    A flat rate would punish fast downloads. So a peer may send five, and then two for
    each stream that it opened and twenty for each DATA frame that it got.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = 0

    def spend(self, streams: int, data_frames: int) -> bool:
        """Count one frame; tell whether it is allowed."""
        self._seen += 1
        return self._seen <= 5 + 2 * (streams + 10 * data_frames)
