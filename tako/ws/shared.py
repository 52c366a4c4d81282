"""``Shared``: a message for many WebSockets, framed once for each way to send it.

A frame of a server depends on the message and on whether it is compressed, so all
WebSockets without compression share one. A compressed message is shared where no
window is kept between messages (RFC 7692 §7.1.1.1: ``no_context_takeover``), among
those with the same parameters. Where one is kept, each end has a window of its own, and
the message is sent as it is: RFC 7692 §6 leaves that to the sender, message by message.
"""

from typing import Final

from tako.core.shared_frame import SharedFrame
from tako.ws.deflate import Deflater
from tako.ws.options import DeflateParams


_TEXT: Final = 0x81  # RFC 6455 §5.2: FIN and opcode 1
_BINARY: Final = 0x82
_RSV1: Final = 0x40  # RFC 7692 §6: the message is compressed


class Shared(SharedFrame):
    """A message for many WebSockets; as a frame, it is not compressed.

    Raises:
        UnicodeEncodeError: ``data`` is text with a surrogate in it.
    """

    __slots__ = ("_deflated",)

    def __init__(self, data: str | bytes) -> None:
        if isinstance(data, str):
            super().__init__(_TEXT, data.encode())
        else:
            super().__init__(_BINARY, data)
        self._deflated: dict[tuple[int, int], SharedFrame] | None = None

    def deflated(self, params: DeflateParams) -> SharedFrame:
        """Return the frame for those who keep no window and agreed on ``params``."""
        if self._deflated is None:
            self._deflated = {}
        key = params.our_window_bits, params.mem_level
        found = self._deflated.get(key)
        if found is None:
            payload = Deflater(params).deflate(self.payload)
            found = SharedFrame(self.first_byte | _RSV1, payload)
            self._deflated[key] = found
        return found
