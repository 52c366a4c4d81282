"""``SharedFrame``: a WebSocket frame that many tunnels send."""

from typing import Final

from tako.native.loops import encode_frame


class SharedFrame:
    """A frame that was encoded once, whatever number of tunnels it leaves by.

    Attributes:
        first_byte: FIN, RSV and opcode (RFC 6455 §5.2).
        payload: what it carries, not masked.
        data: the whole frame, as a server sends it.
    """

    __slots__ = ("data", "first_byte", "payload")

    def __init__(self, first_byte: int, payload: bytes) -> None:
        self.first_byte: Final = first_byte
        self.payload: Final = payload
        self.data: Final = encode_frame(first_byte, payload)
