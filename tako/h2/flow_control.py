"""Flow control: what the peer may send, what waits to be sent, and in which order.

Theory of operation. Inbound, the connection is credited on receipt and a stream on
consumption (RFC 9113 §5.2.2 leaves the policy to the receiver). The connection's window
is larger than a stream's. So a stream whose reader stopped pins its own window and
nothing else, and memory is bounded by streams times stream window. Credit is given in
steps of half a window, to keep WINDOW_UPDATE frames rare.

Outbound, each stream knows its window and keeps in its ``Outbox`` what that or the
connection's has no room for. ``Output`` is everything one connection sends, in order,
and knows whose turn it is: a stream with pending output is in the queue while its
window is open and is sent one frame of each turn; one whose window is shut leaves the
queue until a WINDOW_UPDATE.

Invariants: ``left`` of a ``ReceiveWindow`` + what was received and not credited = its
size; no window grows above 2^31-1.
"""

import logging
from collections import deque
from typing import TYPE_CHECKING, Final

from tako.config import WireConfig
from tako.core.seams import Connection
from tako.h2.frames import (
    CONTINUATION,
    DATA,
    DEFAULT_FRAME_SIZE,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    HEAD,
    HEADERS,
    LARGE_FRAME_SIZE,
    MAX_WINDOW,
    frame,
    rst_stream,
    window_update,
)
from tako.h2.hpack import NO_TABLE
from tako.http.pieces import Piece, keep
from tako.native.loops import encode_response


if TYPE_CHECKING:
    from tako.h2.stream import H2Stream


_logger: Final = logging.getLogger("tako.h2")


_CONNECTION_WINDOW: Final = 1 << 20


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

    def add(self, data: bytes | memoryview) -> None:
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


class Output:
    """The outbound half of a connection: its windows, and whose turn it is."""

    __slots__ = (
        "_connection",
        "_first_block",
        "_turns",
        "data_frames",
        "frame_size",
        "frames",
        "mark",
        "send_window",
        "stream_window",
        "trace",
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._first_block = True
        self._turns: deque[H2Stream] = deque()
        self.mark: int = connection.config.h2_max_send_buf_size
        self.frames: list[Piece] = []
        """What is to be sent, in order."""
        self.frame_size: int = DEFAULT_FRAME_SIZE
        """The largest payload that is sent in one frame."""
        self.send_window: int = DEFAULT_WINDOW
        """Bytes that the peer has room for on the connection."""
        self.stream_window: int = DEFAULT_WINDOW
        """Bytes that it has room for on a new stream."""
        self.data_frames: int = 0
        """How many DATA frames were sent."""
        self.trace: bool = _logger.isEnabledFor(logging.DEBUG)
        """Changes of state are logged; for debugging, decided once."""

    def enqueue(self, stream: "H2Stream") -> None:
        """Let ``stream`` have its turn after all others; twice is once."""
        if not stream.queued:
            stream.queued = True
            self._turns.append(stream)

    def pump(self) -> None:
        """Send one frame of each in turn, until the connection takes no more."""
        turns, connection = self._turns, self._connection
        while turns and self.send_window > 0 and connection.writable:
            stream = turns.popleft()
            stream.queued = False
            if stream.send_turn():
                self.enqueue(stream)

    def take(self) -> bytes:
        """Return everything and forget it."""
        frames = self.frames
        if not frames:
            return b""
        data = b"".join(frames)
        frames.clear()
        return data

    def close(self) -> None:
        """Forget everything that was to be sent: the connection is lost."""
        self.frames.clear()
        self._turns.clear()

    def limit_frames(self, size: int) -> None:
        """Send no payload larger than ``size`` bytes, which the peer may change."""
        self.frame_size = min(size, LARGE_FRAME_SIZE)

    def send_headers(self, stream_id: int, block: bytes, *, end: bool = False) -> None:
        """Send HEADERS, and CONTINUATION if need be: a response head or trailers."""
        if self._first_block:
            self._first_block = False
            block = NO_TABLE + block
        flags = END_STREAM if end else 0
        size = self.frame_size
        if len(block) <= size:
            self.frames.append(frame(HEADERS, flags | END_HEADERS, stream_id, block))
            return
        self.frames.append(frame(HEADERS, flags, stream_id, block[:size]))
        for start in range(size, len(block), size):
            last = END_HEADERS if start + size >= len(block) else 0
            part = block[start : start + size]
            self.frames.append(frame(CONTINUATION, last, stream_id, part))

    def send_data(self, stream: "H2Stream", data: Piece, *, end: bool) -> None:
        """Send bytes that the windows have room for, in as many frames as they need."""
        size, most, stream_id = len(data), self.frame_size, stream.stream_id
        self.send_window -= size
        stream.send_window -= size
        if size > most:
            data = memoryview(data)
        while size > most:
            head = HEAD.pack(most >> 8, most & 0xFF, DATA, 0, stream_id)
            self.frames += (head, data[:most])
            self.data_frames += 1
            data = data[most:]
            size -= most
        flags = END_STREAM if end else 0
        head = HEAD.pack(size >> 8, size & 0xFF, DATA, flags, stream_id)
        self.frames += (head, data)
        self.data_frames += 1

    def send_two(self, stream: "H2Stream", head: bytes, data: bytes) -> None:
        """Send ``head`` and ``data`` as ``send_data`` would if they were joined."""
        room = self.frame_size - len(head)
        first: Piece = data if len(data) <= room else memoryview(data)[:room]
        size = len(head) + len(first)
        self.send_window -= size
        stream.send_window -= size
        frame_head = HEAD.pack(size >> 8, size & 0xFF, DATA, 0, stream.stream_id)
        self.frames += (frame_head, head, first)
        self.data_frames += 1
        if len(data) > room:
            self.send_data(stream, memoryview(data)[room:], end=False)

    def send_response(self, stream: "H2Stream", block: bytes, body: bytes) -> bool:
        """Send HEADERS and one DATA frame that ends the stream, if there is room.

        Cheaper than ``send_headers`` and ``enqueue``, which it must equal. (http-h2)
        """
        size = len(body)
        if (
            size > stream.send_window
            or size > self.send_window
            or size > self.frame_size
            or len(block) > self.frame_size
            or self._first_block
            or not self._connection.writable
        ):
            return False
        self.data_frames += 1
        self.send_window -= size
        stream.send_window -= size
        self.frames.append(encode_response(stream.stream_id, block, body))
        return True

    def send_end(self, stream_id: int) -> None:
        """Send an empty DATA frame with END_STREAM."""
        self.frames.append(frame(DATA, END_STREAM, stream_id))

    def reset(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM, the last frame of a stream (RFC 9113 §5.4.2)."""
        self.frames.append(rst_stream(stream_id, code))
