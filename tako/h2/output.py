"""``Output``: everything one connection sends, in order.

Theory of operation. ``h2`` writes acknowledgements, and RST_STREAM where a window
overflows; tako writes the rest. Both end up in ``frames``. ``h2``'s own buffer is moved
there after each call that may have filled it, so the order of calls is the order on the
wire.

Invariant: between calls ``h2``'s buffer is empty.
"""

from typing import TYPE_CHECKING, Protocol

from tako.core.seams import Connection
from tako.h2.frames import DATA, END_STREAM, HEAD, frame, rst_stream
from tako.h2.h2_library import Library
from tako.h2.windows import SendQueue
from tako.http.headers import RawHeader
from tako.http.pieces import Piece
from tako.native.loops import Inbox


if TYPE_CHECKING:
    from tako.h2.exchange import H2Exchange


_LARGEST_FRAME = 65_536  # even if the peer takes more: others want their turn


class Owner(Protocol):
    """What an exchange tells its engine."""

    def tunnel_opened(self, exchange: "H2Exchange", inbox: Inbox | None) -> None:
        """The exchange takes DATA on the express lane from now on."""
        ...

    def stream_closed(self, exchange: "H2Exchange") -> None:
        """Both directions have ended."""
        ...

    def reset(self, exchange: "H2Exchange", code: int) -> None:
        """Send RST_STREAM; the stream is closed."""
        ...

    def answered_early(self, exchange: "H2Exchange") -> None:
        """The exchange is answered, and its body still comes."""
        ...

    def handler_ended(self, exchange: "H2Exchange") -> None:
        """The handler's slot is free."""
        ...

    def output_waits(self) -> None:
        """There is output that the peer does not take yet."""
        ...


class Output:
    """The outbound half of a connection."""

    __slots__ = ("data_frames", "frame_size", "frames", "library", "mark", "queue")

    def __init__(self, connection: Connection, library: Library) -> None:
        self.library: Library = library
        self.queue: SendQueue = SendQueue(connection, library)
        self.mark: int = connection.config.h2_max_send_buf_size
        self.frames: list[Piece] = []
        """What is to be sent, in order."""
        self.frame_size: int = library.max_outbound_frame_size
        """The largest DATA payload that is sent."""
        self.data_frames: int = 0
        """How many DATA frames were sent."""

    def collect(self) -> None:
        """Move what ``h2`` has written into ``frames``."""
        data = self.library.data_to_send()
        if data:
            self.frames.append(data)

    def take(self) -> bytes:
        """Return everything and forget it."""
        frames = self.frames
        if not frames:
            return b""
        data = b"".join(frames)
        frames.clear()
        return data

    def settings_changed(self) -> None:
        """The peer's SETTINGS came into force."""
        self.frame_size = min(self.library.max_outbound_frame_size, _LARGEST_FRAME)

    def send_headers(
        self, stream_id: int, fields: list[RawHeader], *, end: bool = False
    ) -> None:
        """Send HEADERS: a response head or trailers."""
        self.frames.append(self.library.header_frames(stream_id, fields, end=end))

    def send_data(self, stream_id: int, data: Piece, *, end: bool) -> None:
        """Send one DATA frame that the windows have room for."""
        size, library = len(data), self.library
        self.data_frames += 1
        if end:
            library.output_ended(stream_id)
        library.streams[stream_id].outbound_flow_control_window -= size
        library.outbound_flow_control_window -= size
        flags = END_STREAM if end else 0
        self.frames += (HEAD.pack(size >> 8, size & 0xFF, DATA, flags, stream_id), data)

    def send_end(self, stream_id: int) -> None:
        """Send an empty DATA frame with END_STREAM."""
        self.library.output_ended(stream_id)
        self.frames.append(frame(DATA, END_STREAM, stream_id))

    def reset(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM, the last frame of a stream (RFC 9113 §5.4.2)."""
        self.library.forget(stream_id)
        self.frames.append(rst_stream(stream_id, code))
