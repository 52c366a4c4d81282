from collections import deque
from collections.abc import Callable, Iterable
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
def split_fields(
    head: bytes, start: int, limit: int
) -> tuple[list[tuple[bytes, bytes]], int]: ...
def weigh(messages: Iterable[Any]) -> int: ...

class FieldTable:
    fields: list[Any]
    repeatable: bool
    def __init__(
        self, static: list[Any], read: Callable[[bytes, bytes], Any]
    ) -> None: ...
    def decode(self, block: bytes, room: int) -> list[Any]: ...

class Inbox:
    messages: deque[Any]
    weight: int
    held: int
    least: int
    plain: bool
    def __init__(
        self,
        wake: Callable[[], None],
        consumed: Callable[[int], None],
        max_payload: int,
        most: int,
        least: int,
        heaviest: int = ...,
    ) -> None: ...
    def put(self, messages: list[Any]) -> None: ...
    def clear(self) -> None: ...
    def take(self, data: bytes) -> bool: ...
    def pop(self) -> Any: ...

def take_data(
    buffer: bytes,
    start: int,
    left: int,
    lane: dict[int, tuple[Any, Inbox | None]],
    max_length: int,
    limit: int,
) -> tuple[int, int]: ...
