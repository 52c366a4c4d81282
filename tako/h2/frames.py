"""HTTP/2 frames as bytes: types, flags, codes, and the frames that tako writes itself.

(RFC 9113 §4.1, §6, §7.)
"""

import enum
import struct
from typing import Final


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # of a client (RFC 9113 §3.4)
DEFAULT_FRAME_SIZE: Final = 16_384  # RFC 9113 §6.5.2; what a server of ours allows
LARGE_FRAME_SIZE: Final = 65_536 + 14
"""What a client of ours allows, and the most that we send at once, as others wait.

64 KiB of a message with the head of its WebSocket frame (RFC 6455 §5.2).
"""
MAX_STREAM_ID: Final = 2**31 - 1
MAX_WINDOW: Final = 2**31 - 1  # RFC 9113 §6.9.1
DEFAULT_WINDOW: Final = 65_535  # RFC 9113 §6.9.2

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
HAS_PRIORITY: Final = 0x20

HEAD: Final = struct.Struct(">HBBBI")
"""A frame header: length in 16 + 8 bits, type, flags, stream id."""

_ONE: Final = struct.Struct(">HBBBII")
_TWO: Final = struct.Struct(">HBBBIII")


class Setting(enum.IntEnum):
    """The settings that one side or the other has (RFC 9113 §6.5.2, RFC 8441 §3)."""

    HEADER_TABLE_SIZE = 0x1
    ENABLE_PUSH = 0x2
    MAX_CONCURRENT_STREAMS = 0x3
    INITIAL_WINDOW_SIZE = 0x4
    MAX_FRAME_SIZE = 0x5
    MAX_HEADER_LIST_SIZE = 0x6
    ENABLE_CONNECT_PROTOCOL = 0x8


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return a whole frame."""
    size = len(payload)
    return HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload


def window_update(stream_id: int, increment: int) -> bytes:
    """Return a WINDOW_UPDATE frame; stream 0 is the connection (RFC 9113 §6.9)."""
    return _ONE.pack(0, 4, WINDOW_UPDATE, 0, stream_id, increment)


def rst_stream(stream_id: int, code: int) -> bytes:
    """Return an RST_STREAM frame (RFC 9113 §6.4)."""
    return _ONE.pack(0, 4, RST_STREAM, 0, stream_id, code)


def goaway(last_stream_id: int, code: int) -> bytes:
    """Return a GOAWAY frame without debug data (RFC 9113 §6.8)."""
    return _TWO.pack(0, 8, GOAWAY, 0, 0, last_stream_id, code)
