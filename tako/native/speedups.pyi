from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tako.native.pure import Usual, UsualRequest, Version

def unmask(
    data: bytes | bytearray | memoryview, mask: bytes, offset: int = 0
) -> bytes: ...
def scan_frames(
    buffer: bytes | bytearray, start: int, max_payload: int, limit: int
) -> tuple[list[Any], int]: ...
def scan_unmasked_frames(
    buffer: bytes | bytearray, start: int, max_payload: int, limit: int
) -> tuple[list[Any], int]: ...
def drop_keys() -> None: ...
def send_now(fd: int, data: bytes) -> int: ...
def encode_frame(
    first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes: ...
def encode_data_frame(
    stream_id: int, first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes: ...
def encode_masked_frame(
    first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes: ...
def encode_masked_data_frame(
    stream_id: int, first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes: ...
def encode_data_frames(
    stream_id: int,
    first_byte: int,
    payload: str | bytes | bytearray | memoryview,
    most: int,
    *,
    masked: bool,
) -> bytes: ...
def encode_response(stream_id: int, block: bytes, body: bytes) -> bytes: ...
def split_frames(
    buffer: bytes | bytearray,
    start: int = 0,
    max_length: int = ...,
    limit: int = ...,
) -> tuple[list[tuple[int, int, int, int, int]], int]: ...
def split_fields(
    head: bytes, start: int, limit: int
) -> tuple[list[tuple[bytes, bytes]], int]: ...
def split_head(
    head: bytes,
    limit: int,
    known_head: bytes = b"",
    known: list[tuple[bytes, bytes]] = ...,
) -> tuple[str, str, Version, list[tuple[bytes, bytes]], Usual | None] | None: ...
def weigh(messages: Iterable[Any]) -> int: ...

class FieldTable:
    fields: list[Any]
    repeatable: bool
    def __init__(
        self,
        static: list[Any],
        read: Callable[[bytes, bytes], Any],
        kinds: dict[bytes, Any],
        plain: Any,
    ) -> None: ...
    def decode(self, block: bytes, room: int) -> list[Any]: ...

def usual_request(
    fields: list[Any], limits: tuple[int, ...]
) -> UsualRequest | None: ...

class Inbox:
    messages: deque[Any]
    weight: int
    received: int
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

class UnmaskedInbox(Inbox): ...

def take_data(
    buffer: bytes,
    start: int,
    left: int,
    lane: dict[int, tuple[Any, Inbox | None]],
    max_length: int,
    limit: int,
) -> tuple[int, int]: ...
