"""SETTINGS (RFC 9113 §6.5): what we say of ourselves, and what the peer may say."""

import struct
from typing import Final

from tako.config import ServerConfig, WireConfig
from tako.core.error_code import ErrorCode
from tako.h2.frames import (
    DEFAULT_FRAME_SIZE,
    LARGE_FRAME_SIZE,
    MAX_WINDOW,
    SETTINGS,
    Setting,
    frame,
)
from tako.h2.rules import ConnectionFault, header_list_size


_ENTRY: Final = struct.Struct(">HI")  # RFC 9113 §6.5.1
_HEADER_TABLE: Final = 4096  # of the peer's encoder; ours has none
_LARGEST_FRAME: Final = 2**24 - 1
_LARGEST: Final = 2**32 - 1

_RANGES: Final = {  # RFC 9113 §6.5.2, RFC 8441 §3; others take any value
    Setting.ENABLE_PUSH: (0, 1, ErrorCode.PROTOCOL_ERROR),
    Setting.MAX_CONCURRENT_STREAMS: (0, _LARGEST, ErrorCode.PROTOCOL_ERROR),
    Setting.INITIAL_WINDOW_SIZE: (0, MAX_WINDOW, ErrorCode.FLOW_CONTROL_ERROR),
    Setting.MAX_FRAME_SIZE: (
        DEFAULT_FRAME_SIZE,
        _LARGEST_FRAME,
        ErrorCode.PROTOCOL_ERROR,
    ),
    Setting.ENABLE_CONNECT_PROTOCOL: (0, 1, ErrorCode.PROTOCOL_ERROR),
}
_KNOWN: Final = {int(setting): setting for setting in _RANGES}


def our_settings(config: ServerConfig) -> bytes:
    """Return the SETTINGS frame of a server, its preface (RFC 9113 §3.4)."""
    entries = {
        Setting.HEADER_TABLE_SIZE: _HEADER_TABLE,
        Setting.MAX_CONCURRENT_STREAMS: config.h2_max_concurrent_streams,
        Setting.INITIAL_WINDOW_SIZE: config.h2_initial_window_size,
        Setting.MAX_FRAME_SIZE: DEFAULT_FRAME_SIZE,
        Setting.MAX_HEADER_LIST_SIZE: header_list_size(config),
    }
    if config.h2_enable_connect_protocol:
        # RFC 8441 §3: in the first SETTINGS; 0 is never sent
        entries[Setting.ENABLE_CONNECT_PROTOCOL] = 1
    payload = b"".join([_ENTRY.pack(*entry) for entry in entries.items()])
    return frame(SETTINGS, 0, 0, payload)


def client_settings(config: WireConfig) -> bytes:
    """Return the SETTINGS frame of a client, behind its preface (RFC 9113 §3.4)."""
    entries = {
        Setting.HEADER_TABLE_SIZE: _HEADER_TABLE,
        Setting.ENABLE_PUSH: 0,  # RFC 9113 §6.5.2
        Setting.INITIAL_WINDOW_SIZE: config.h2_initial_window_size,
        Setting.MAX_FRAME_SIZE: LARGE_FRAME_SIZE,
        Setting.MAX_HEADER_LIST_SIZE: header_list_size(config),
    }
    payload = b"".join([_ENTRY.pack(*entry) for entry in entries.items()])
    return frame(SETTINGS, 0, 0, payload)


def read_settings(payload: bytes) -> list[tuple[Setting, int]]:
    """Return what the peer says, in order; each value is judged, not only the last.

    RFC 9113 §6.5.2: what is unknown is ignored.

    Raises:
        ConnectionFault: a value is not allowed.
    """
    entries: list[tuple[Setting, int]] = []
    for number, value in _ENTRY.iter_unpack(payload):
        setting = _KNOWN.get(number)
        if setting is None:
            continue
        least, most, code = _RANGES[setting]
        if not least <= value <= most:
            raise ConnectionFault(code)
        entries.append((setting, value))
    return entries
