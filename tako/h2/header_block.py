"""``HeaderBlock``: HEADERS and CONTINUATION frames, put together (RFC 9113 §4.3).

Invariant: ``stream_id`` is not zero exactly while CONTINUATION is expected.
"""

from tako.core.error_code import ErrorCode
from tako.h2 import frames
from tako.h2.police import ConnectionFault, padding


_CONTINUATIONS = 8  # at least; as many as the limit in bytes takes
_SIZE_UPDATES = 2  # RFC 7541 §4.2: at most two are ever needed


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
        self._most_parts = 1 + max(_CONTINUATIONS, limit // frames.MAX_FRAME_SIZE)
        self._parts: list[bytes] = []
        self._size = 0
        self.stream_id: int = 0
        """The stream whose CONTINUATION must follow, or zero."""
        self.end: int = 0
        """END_STREAM, if HEADERS had it."""
        self.self_dependent: bool = False
        """HEADERS made the stream depend on itself."""

    def check(self, kind: int, stream_id: int, length: int) -> None:
        """Judge the header of a frame by the block that is open.

        Raises:
            Fault: the frame must not come now, or the block grows too large.
        """
        # RFC 9113 §6.10: nothing else within a block, nothing of the kind outside
        if (kind == frames.CONTINUATION) != bool(self.stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
        if self.stream_id and stream_id != self.stream_id:
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
        if kind in (frames.HEADERS, frames.CONTINUATION) and (
            self._size + length > self._limit or len(self._parts) >= self._most_parts
        ):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM)

    def begin(self, flags: int, stream_id: int, payload: bytes) -> bytes | None:
        """Take a HEADERS frame; return the block if that is all of it.

        Raises:
            Fault: the frame contradicts itself.
        """
        start, end = 0, len(payload)
        if flags & frames.PADDED:
            start, end = 1, end - padding(payload)
        self.self_dependent = False
        if flags & frames.HAS_PRIORITY:
            if end - start < 5:  # RFC 9113 §6.2
                raise ConnectionFault(ErrorCode.FRAME_SIZE_ERROR)
            parent = int.from_bytes(payload[start : start + 4])
            self.self_dependent = parent & frames.MAX_STREAM_ID == stream_id
            start += 5
        self.stream_id = stream_id
        self.end = flags & frames.END_STREAM
        return self.extend(flags, payload[start:end])

    def extend(self, flags: int, fragment: bytes) -> bytes | None:
        """Take a part; return the block if this was the last.

        Raises:
            Fault: the block begins with too many table size updates.
        """
        self._parts.append(fragment)
        self._size += len(fragment)
        if not flags & frames.END_HEADERS:
            return None
        block = b"".join(self._parts)
        self._parts = []
        self.stream_id = self._size = 0
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
