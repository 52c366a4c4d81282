"""The wire between a worker and the hub: frames, each with a header of 18 bytes.

    size u32 | kind u8 | flags u8 | number u32 | offset u64 | size bytes

All numbers are big-endian. What ``number``, ``offset`` and the payload are depends on
the kind. A worker sends:

    HELLO   what is kept of each topic that this worker publishes to: number: messages
            (0: none), offset: milliseconds (0: for any time); payload: ``GREETING``.
            The first frame, and no other
    SUB     number: any that is free, of the topic from now on; payload: its name
    UNSUB   number: is free once the hub has sent the same
    PUB     number: size of the topic's name; payload: name, data
    PAST    asks for history. number: of the request; payload: epoch, topic's name;
            offset: behind which

The hub sends:

    HELLO   payload: its version
    SUB     messages of the topic follow, from behind ``offset`` on; payload: the epoch
    UNSUB   no more of them follow
    ACK     payload: epoch and offset for each PUB, in order
    MSG     offset: its place; payload: data
    GAP     offset: the last message that was left out; payload: the first, u64
    PAST    number: of the request; offset: its place; payload: data
    DONE    the end of the answer to a request; offset: of the latest message of the
            topic; payload: the epoch
"""

import struct
from typing import Final, TypeAlias


VERSION: Final = 1

HELLO: Final = 1
SUB: Final = 2
UNSUB: Final = 3
PUB: Final = 4
ACK: Final = 5
MSG: Final = 6
GAP: Final = 7
PAST: Final = 8
DONE: Final = 9

TEXT: Final = 1
"""Flag of a message: it was published as ``str``."""
COMPLETE: Final = 1
"""Flag of DONE: nothing is missing between what was asked for and the first message."""
MORE: Final = 2
"""Flag of DONE: there are messages behind the last one: ask again."""

MOST_NAME: Final = 255
"""Bytes of a topic's name."""
MOST_DATA: Final = 1 << 20
"""Bytes of a message."""

HEADER: Final = struct.Struct("!IBBIQ")
PLACE: Final = struct.Struct("!8sQ")
"""An epoch and an offset."""
GREETING: Final = struct.Struct("!BQI")
"""The version; how many bytes of each topic are kept, and of how many topics."""
OFFSET: Final = struct.Struct("!Q")
EPOCH: Final = 8
"""Bytes of an epoch."""

Frame: TypeAlias = tuple[int, int, int, int, bytes]
"""Kind, flags, number, offset, payload."""

_MOST: Final = MOST_NAME + MOST_DATA


def frame(
    kind: int, payload: bytes = b"", *, flags: int = 0, number: int = 0, offset: int = 0
) -> bytes:
    """Return the bytes of a frame."""
    return HEADER.pack(len(payload), kind, flags, number, offset) + payload


class Frames:
    """Puts frames together; it keeps what was fed and is not read.

    Attributes:
        fault: why what came is no frame, and nothing more is read; ``""``: it is one.
    """

    __slots__ = ("_at", "_buffer", "fault")

    def __init__(self) -> None:
        self._buffer = b""
        self._at = 0
        self.fault: str = ""

    def feed(self, data: bytes) -> None:
        """Take bytes that came; after a fault they are dropped."""
        if self.fault:
            return
        rest = self._buffer[self._at :]
        self._buffer = rest + data if rest else data
        self._at = 0

    def next(self) -> Frame | None:
        """Return the next frame; ``None`` until more has come."""
        buffer, begin = self._buffer, self._at + HEADER.size
        if len(buffer) < begin:
            if self._at == len(buffer):
                self._buffer, self._at = b"", 0
            return None
        size, kind, flags, number, offset = HEADER.unpack_from(buffer, self._at)
        if size > _MOST or not HELLO <= kind <= DONE:
            self.fault = f"a frame of kind {kind} with {size} bytes"
            self._buffer, self._at = b"", 0
            return None
        end = begin + size
        if len(buffer) < end:
            return None
        self._at = end
        return kind, flags, number, offset, buffer[begin:end]
