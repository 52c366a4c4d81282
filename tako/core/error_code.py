"""``ErrorCode``: why a stream or a connection is ended (RFC 9113 §7).

Both wires take it. HTTP/1.1 sends no codes: there a code only decides whether the
connection closes in order or is aborted.
"""

import enum


class ErrorCode(enum.IntEnum):
    """The codes of RST_STREAM and GOAWAY that tako sends (RFC 9113 §7)."""

    NO_ERROR = 0x0
    PROTOCOL_ERROR = 0x1
    INTERNAL_ERROR = 0x2
    FLOW_CONTROL_ERROR = 0x3
    SETTINGS_TIMEOUT = 0x4
    STREAM_CLOSED = 0x5
    FRAME_SIZE_ERROR = 0x6
    REFUSED_STREAM = 0x7
    CANCEL = 0x8
    COMPRESSION_ERROR = 0x9
    ENHANCE_YOUR_CALM = 0xB
    HTTP_1_1_REQUIRED = 0xD
