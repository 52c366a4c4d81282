"""Flow control: what the peer may send, what waits to be sent, and in which order.

Theory of operation. Inbound, the connection is credited on receipt and a stream on
consumption (RFC 9113 §5.2.2 leaves the policy to the receiver). The connection's window
is larger than a stream's. So a stream whose reader stopped pins its own window and
nothing else, and memory is bounded by streams times stream window. Credit is given in
steps of half a window, to keep WINDOW_UPDATE frames rare.

Outbound, ``h2`` knows the windows and each stream keeps in its ``Outbox`` what they
have no room for; ``SendQueue`` knows the order. A stream with pending output is in the
queue while its window is open and is sent one frame of each turn; one whose window is
shut leaves the queue until a WINDOW_UPDATE.

``Output`` is everything one connection sends. ``h2`` writes acknowledgements, and
RST_STREAM where a window overflows; tako writes the rest. Both end up in ``frames``.
``h2``'s own buffer is moved there after each call that may have filled it, so the order
of calls is the order on the wire.

Invariants: ``left`` of a ``ReceiveWindow`` + what was received and not credited = its
size; between calls ``h2``'s buffer is empty.
"""

import logging
from collections import deque
from typing import TYPE_CHECKING

from tako.config import WireConfig
from tako.core.seams import Connection
from tako.h2.frames import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    HEAD,
    MAX_WINDOW,
    frame,
    rst_stream,
    window_update,
)
from tako.h2.h2_library import Library
from tako.http.headers import RawHeader
from tako.http.pieces import Piece, keep


if TYPE_CHECKING:
    from tako.h2.stream import H2Stream


_logger = logging.getLogger("tako.h2")


_CONNECTION_WINDOW = 1 << 20
_LARGEST_FRAME = 65_536  # even if the peer takes more: others want their turn


class ReceiveWindow:
    """The connection's inbound window, credited on receipt."""

    __slots__ = ("_size", "left")

    def __init__(self, config: WireConfig) -> None:
        wanted = max(_CONNECTION_WINDOW, 2 * config.h2_initial_window_size)
        self._size = min(wanted, MAX_WINDOW)
        self.left: int = DEFAULT_WINDOW
        """Bytes that the peer may still send; below zero it has sent too much."""

    def credit(self) -> bytes:
        """Return a WINDOW_UPDATE that fills the window up, or nothing while it is full.

        Called after each read, when nothing that was received is outstanding.
        """
        missing = self._size - self.left
        if missing < self._size >> 1 and self.left >= DEFAULT_WINDOW:
            return b""
        self.left = self._size
        return window_update(0, missing)


class Outbox:
    """Output of one stream that the windows have no room for yet.

    Bytes in order, taken out in pieces that fit into a frame.
    """

    __slots__ = ("_pieces", "size", "taken")

    def __init__(self) -> None:
        # Made when first needed: most streams of a connection never have to wait, and
        # an empty deque is 0.7 KB.
        self._pieces: deque[Piece] | None = None
        self.size: int = 0
        """How many bytes wait."""
        self.taken: int = 0
        """How many bytes were taken out so far."""

    def add(self, data: bytes) -> None:
        """Append ``data``; large ones are not copied however often they will be cut."""
        if self._pieces is None:
            self._pieces = deque()
        keep(self._pieces, data)
        self.size += len(data)

    def take(self, room: int) -> Piece:
        """Remove and return up to ``room`` bytes: small pieces are joined."""
        pieces = self._pieces
        if not pieces:
            return b""
        if len(pieces[0]) > room:
            data = memoryview(pieces[0])
            pieces[0] = data[room:]
            self.size -= room
            self.taken += room
            return data[:room]
        taken: list[Piece] = []
        while pieces and len(pieces[0]) <= room:
            piece = pieces.popleft()
            room -= len(piece)
            self.size -= len(piece)
            self.taken += len(piece)
            taken.append(piece)
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def clear(self) -> None:
        """Forget everything."""
        self._pieces = None
        self.size = 0


class SendQueue:
    """The streams that have output pending and a window to send it in, in turn."""

    __slots__ = ("_connection", "_library", "_turns")

    def __init__(self, connection: Connection, library: Library) -> None:
        self._connection = connection
        self._library = library
        self._turns: deque[H2Stream] = deque()

    def add(self, stream: "H2Stream") -> None:
        """Let ``stream`` have its turn after all others; twice is once."""
        if not stream.queued:
            stream.queued = True
            self._turns.append(stream)

    def pump(self) -> None:
        """Send one frame of each in turn, until the connection takes no more."""
        turns, library, connection = self._turns, self._library, self._connection
        while (
            turns and library.outbound_flow_control_window > 0 and connection.writable
        ):
            stream = turns.popleft()
            stream.queued = False
            if stream.send_turn():
                self.add(stream)


class Output:
    """The outbound half of a connection."""

    __slots__ = (
        "data_frames",
        "frame_size",
        "frames",
        "library",
        "mark",
        "queue",
        "trace",
    )

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
        self.trace: bool = _logger.isEnabledFor(logging.DEBUG)
        """Changes of state are logged; for debugging, decided once."""

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
