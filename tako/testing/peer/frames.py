"""HTTP/2 frames as they are on the wire (RFC 9113 §4.1)."""

import enum
from dataclasses import dataclass


class FrameType(enum.IntEnum):
    """The types of RFC 9113 §6 that a test asks about."""

    DATA = 0
    HEADERS = 1
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    WINDOW_UPDATE = 8


ACK = 0x1
END_STREAM = 0x1
END_HEADERS = 0x4


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from the server.

    Attributes:
        type: see ``FrameType``.
        flags: as on the wire.
        stream_id: its stream; 0 is the connection.
        payload: what follows the head of nine bytes.
        at: when it arrived, on the clock of ``time.monotonic``.
    """

    type: int
    flags: int
    stream_id: int
    payload: bytes
    at: float

    @property
    def ends_stream(self) -> bool:
        """Whether it carries END_STREAM."""
        data_or_headers = self.type in {FrameType.DATA, FrameType.HEADERS}
        return data_or_headers and bool(self.flags & END_STREAM)

    @property
    def code(self) -> int:
        """The error code of RST_STREAM or GOAWAY."""
        at = 4 if self.type == FrameType.GOAWAY else 0
        return int.from_bytes(self.payload[at : at + 4], "big")


@dataclass(frozen=True, slots=True)
class GoAway:
    """A GOAWAY of the server (RFC 9113 §6.8)."""

    last_stream_id: int
    code: int


def raw_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a frame exactly as asked for (RFC 9113 §4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags))
    return head + stream_id.to_bytes(4, "big") + payload
