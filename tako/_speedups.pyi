from typing import Any

def unmask(
    data: bytes | bytearray | memoryview, mask: bytes, offset: int = 0
) -> bytes: ...
def scan_frames(
    buffer: bytes | bytearray, start: int, max_payload: int, limit: int
) -> tuple[list[Any], int]: ...
def encode_frame(
    first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes: ...
def encode_data_frame(
    stream_id: int, first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes: ...
def split_frames(
    buffer: bytes | bytearray,
    start: int = 0,
    max_length: int = ...,
    limit: int = ...,
) -> tuple[list[tuple[int, int, int, int, int]], int]: ...
