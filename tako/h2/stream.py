"""``H2Stream``: a stream of either role: its state, its windows, the byte pipe.

Theory of operation. Inbound, the reader (tunnels) and the engine (bodies) hand over
bytes; they go to ``sink``, which gives credit back through ``consumed``. Outbound,
bytes that the windows have no room for wait in ``outbox``; the send queue calls
``send_turn`` when there is room.

The state is that of RFC 9113 §5.1, and ``_enter`` alone sets it, with the flags that
hot code reads: ``over`` (our direction has ended), ``peer_ended`` (the peer's has) and
``closed`` (both have, or the stream was reset). A stream exists from the HEADERS that
open it, so *idle* and *reserved* are no states here.

Invariants: nothing is pending once ``over``; ``window`` + ``_unacked`` + what the sink
has not consumed = the inbound window of a new stream. That may shrink below what the
peer has sent: then ``window`` is negative (RFC 9113 §6.9.2).
"""

import enum
import logging
from typing import TYPE_CHECKING, Any, Final

from tako.core.error_code import ErrorCode
from tako.core.seams import Connection, Exchange, Sink, Watched
from tako.core.shared_frame import SharedFrame
from tako.core.states import CHECKED, check_transition
from tako.core.views import StreamView
from tako.errors import Disconnected
from tako.h2.flow_control import Outbox, Output
from tako.h2.frames import HEAD, window_update
from tako.h2.hpack import encode
from tako.native.loops import (
    Inbox,
    encode_data_frame,
    encode_data_frames,
    encode_frame,
    frame_head,
)


if TYPE_CHECKING:
    from tako.h2.endpoint import H2Endpoint
    from tako.http.headers import RawHeader
    from tako.http.pieces import Piece


_logger: Final = logging.getLogger("tako.h2")

_HEAD_SIZE: Final = HEAD.size
_LONGEST_HEAD: Final = 14  # bytes of a WebSocket frame (RFC 6455 §5.2)
_SMALL: Final = 4096  # characters: with its head such a frame fits into one DATA frame


# RFC 9113 §5.1, without the states of push:
#
#                  idle
#                   |  HEADERS
#                   v
#     ES sent     OPEN     ES received
#        +----------+----------+
#        v          |          v
#   HALF_CLOSED_    |     HALF_CLOSED_
#      LOCAL        |        REMOTE
#        |          | RST      |
#        | ES recv. |          | ES sent
#        | or RST   v          | or RST
#        +------> CLOSED <-----+
class StreamState(enum.IntEnum):
    """The states of a stream (RFC 9113 §5.1) from the HEADERS that open it."""

    OPEN = 0
    """Both sides may send."""
    HALF_CLOSED_LOCAL = 1
    """We have sent END_STREAM; the peer may still send."""
    HALF_CLOSED_REMOTE = 2
    """The peer has sent END_STREAM; we may still send."""
    CLOSED = 3
    """Both sides have ended, one has reset the stream, or the connection is lost."""


_NEXT: Final[dict[StreamState, frozenset[StreamState]]] = {
    StreamState.OPEN: frozenset(
        {
            StreamState.HALF_CLOSED_LOCAL,
            StreamState.HALF_CLOSED_REMOTE,
            StreamState.CLOSED,
        }
    ),
    StreamState.HALF_CLOSED_LOCAL: frozenset({StreamState.CLOSED}),
    StreamState.HALF_CLOSED_REMOTE: frozenset({StreamState.CLOSED}),
    StreamState.CLOSED: frozenset(),
}

# A member costs a lookup of 25 ns through its class (CPython 3.13)
_OPEN: Final = StreamState.OPEN
_HALF_CLOSED_LOCAL: Final = StreamState.HALF_CLOSED_LOCAL
_HALF_CLOSED_REMOTE: Final = StreamState.HALF_CLOSED_REMOTE
_CLOSED: Final = StreamState.CLOSED


class Cause(enum.IntEnum):
    """Why a stream is closed; ``end_stream`` of an engine says what each leads to."""

    COMPLETE = 0
    """Both sides have sent END_STREAM."""
    RESET_BY_US = 1
    """The application resets it, or an early answer is followed by too much."""
    RESET_BY_PEER = 2
    """RST_STREAM was received."""
    MALFORMED = 3
    """The content of the request breaks a rule (RFC 9113 §8.1.1)."""
    FAULT = 4
    """A frame breaks a rule of its stream (RFC 9113 §5.4.2)."""
    SLOW = 5
    """The peer is slower than it must be."""
    LOST = 6
    """The connection is lost, or ends before the stream can."""


class H2Stream(Exchange):
    """One stream as a byte pipe; ``H2Exchange`` makes it ``seams.Tunnel``.

    Compiled classes have one base, so it is that of exchanges: what a request has
    beside the pipe is not set in a stream of a client.
    """

    __slots__ = (
        "_credit_step",
        "_discard_rest",
        "_early",
        "_end_queued",
        "_engine",
        "_fast_path",
        "_output",
        "_trailers",
        "_unacked",
        "closed",
        "handler_ended",
        "outbox",
        "peer_ended",
        "queued",
        "send_window",
        "state",
        "stream_id",
        "watched",
        "window",
    )

    peer_ended: bool
    """The peer's direction has ended, or the stream is closed."""
    closed: bool
    """The stream is gone."""

    def __init__(
        self,
        engine: "H2Endpoint[Any]",
        connection: Connection,
        output: Output,
        stream_id: int,
    ) -> None:
        """Make a stream that was just opened.

        Args:
            engine: the engine.
            connection: the connection.
            output: where frames go.
            stream_id: the stream.
        """
        super().__init__(connection)
        self._engine = engine
        self._output = output
        self.stream_id: int = stream_id
        self.state: StreamState = _OPEN
        self.peer_ended = self.closed = False
        self.handler_ended: bool = False
        """The stream outlives its handler."""
        self.watched: Watched | None = None
        """The end of a tunnel, if its peer is to be asked when it is silent."""
        self._fast_path = False
        # Inbound
        self.window: int = engine.receive_window
        self._credit_step: int = engine.credit_step
        self._unacked = 0
        self._early: list[Piece] = []
        # Outbound
        self.send_window: int = output.stream_window
        self.outbox: Outbox = Outbox()
        self._end_queued = False
        self._discard_rest = False  # the peer need not end its direction
        self._trailers: list[RawHeader] | None = None
        self.queued: bool = False

    def _enter(self, state: StreamState) -> None:
        """Change the state, and the flags that derive from it."""
        base: Exchange = self
        if CHECKED and state not in _NEXT[self.state]:  # a call less per state
            check_transition(_NEXT, self.state, state)
        self.state = state
        if state is _HALF_CLOSED_REMOTE:
            self.peer_ended = True
        else:
            base.over = True
            self._fast_path = False
            if state is _CLOSED:
                self.closed = self.peer_ended = True
        if self._output.trace:
            _logger.debug("%#x: stream %d is %s", id(self), self.stream_id, state.name)

    @property
    def writable(self) -> bool:
        """Whether more output is welcome."""
        return self.outbox.size < self._output.mark and self.connection.writable

    # Application to network -------------------------------------------------------

    def send_data(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue bytes; ``end``: then END_STREAM. The subclass says what is allowed."""
        self._queue(data, end=end)

    def _queue(self, data: bytes | memoryview, *, end: bool) -> None:
        if end:
            self._end_queued = True
            self._fast_path = False
        if data:
            if self._send_now(data, end=end):
                return
            self.outbox.add(data)
        elif end and not self.outbox.size:
            self._send_end()
            return
        if self.outbox.size:
            self._output.enqueue(self)
            self._output.pump()
            if self.outbox.size:
                self._engine.output_waits()

    def _send_now(self, data: bytes | memoryview, *, end: bool) -> bool:
        """Send ``data`` without a turn, if nothing waits and there is room for all.

        Cheaper than ``Outbox.add`` and ``send_turn``, which it must equal: where all
        windows are open no other stream waits for its turn. (http-h2, h2-64k)
        """
        size = len(data)
        if not self._has_room(size):
            return False
        self.outbox.taken += size
        self._output.send_data(self, data, end=end)
        if end:
            self._output_ended()
        return True

    def send_frame(self, first_byte: int, payload: str | bytes, *, soon: bool) -> bool:
        """Queue a WebSocket frame; see ``seams.Tunnel``."""
        # One bytes object and one look at each window; the slow path that it must
        # equal is send_data. (tests/benchmarks/h2_engine.py)
        if self._fast_path and len(payload) < _SMALL and not self.outbox.size:
            frame = encode_data_frame(self.stream_id, first_byte, payload)
            if self.put(frame, len(frame) - _HEAD_SIZE):
                return True
        elif self._fast_path and (
            self._send_large(first_byte, payload)
            or self.put_large(first_byte, payload, masked=False)
        ):
            self.flush(soon=soon)
            return self.writable
        self.send_data(encode_frame(first_byte, payload))
        self.flush(soon=soon)
        return self.writable

    def send_shared(self, frame: SharedFrame, soon: bool) -> bool:
        """Queue a frame and flush it, if there is room; see ``seams.Tunnel``."""
        # A small one is copied behind its head, which costs less than two pieces
        if self._fast_path and len(frame.payload) < _SMALL and not self.outbox.size:
            data = encode_data_frame(self.stream_id, frame.first_byte, frame.payload)
            if self.put(data, len(data) - _HEAD_SIZE):
                return True
        if self.over or not self.writable:
            return False
        self.send_data(frame.data)
        self.flush(soon=soon)
        return True

    def put(self, frame: bytes, size: int) -> bool:
        """Queue a whole DATA frame of ``size`` bytes; ``False``: there is no room.

        Nothing may wait before it.
        """
        connection, output = self.connection, self._output
        if not (
            size <= self.send_window
            and size <= output.send_window
            and connection.writable
        ):
            return False
        self.send_window -= size
        output.send_window -= size
        output.data_frames += 1
        output.frames.append(frame)
        if not connection.flush_due:
            connection.flush(soon=True)
        return True

    def put_large(self, first_byte: int, payload: str | bytes, *, masked: bool) -> bool:
        """Queue a large frame in its DATA frames; ``False``: there is no room.

        The slow path that it must equal is ``send_data``. (h2-16k)
        """
        if not self._has_room(len(payload) + _LONGEST_HEAD):
            return False
        output = self._output
        most = output.frame_size
        data = encode_data_frames(
            self.stream_id, first_byte, payload, most, masked=masked
        )
        frames = (len(data) + most + _HEAD_SIZE - 1) // (most + _HEAD_SIZE)
        size = len(data) - frames * _HEAD_SIZE
        if not self._has_room(size):  # a text may be three times as long as it says
            return False
        self.outbox.taken += size
        self.send_window -= size
        output.send_window -= size
        output.data_frames += frames
        output.frames.append(data)
        return True

    def _send_large(self, first_byte: int, payload: str | bytes) -> bool:
        """Send a large frame without a copy of it, if nothing waits and there is room.

        The slow path that it must equal is ``send_data``. (h2-64k)
        """
        if type(payload) is not bytes or len(payload) < _SMALL:
            return False
        head = frame_head(first_byte, len(payload))
        size = len(head) + len(payload)
        if not self._has_room(size):
            return False
        self.outbox.taken += size
        self._output.send_two(self, head, payload)
        return True

    def _has_room(self, size: int) -> bool:
        """Tell whether ``size`` bytes may leave at once: nothing waits before them."""
        return (
            not self.outbox.size
            and size <= self.send_window
            and size <= self._output.send_window
            and self.connection.writable
        )

    @property
    def listening(self) -> bool:
        """Whether the peer can send: we read, and its window is open."""
        return self.window > 0 and self.connection.reading

    def watch(self, watched: Watched) -> None:
        """Have ``watched`` told when the peer is silent; see ``seams.Tunnel``."""
        if not self.closed:
            self.watched = watched

    def deliver_to(self, sink: Sink) -> None:
        """Let what comes from now on go to ``sink``."""
        base: Exchange = self
        base.sink = sink

    def receive_into(self, sink: Sink, inbox: Inbox | None = None) -> None:
        """Deliver to ``sink`` what the peer sends; see ``seams.Tunnel``."""
        self.deliver_to(sink)
        if self.over:
            sink.deliver_eof(Disconnected())
            return
        early, self._early = self._early, []
        for data in early:
            sink.deliver(bytes(data))
        if self.peer_ended:
            sink.deliver_eof(None)
        else:
            self._engine.tunnel_opened(self, inbox)

    def consumed(self, size: int) -> None:
        """Give the peer credit for ``size`` bytes."""
        self._unacked += size
        if self._unacked >= self._credit_step and not self.peer_ended:
            self._output.frames.append(window_update(self.stream_id, self._unacked))
            self.window += self._unacked
            self._unacked = 0
            self.connection.flush(soon=True)

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut the stream off; see ``seams.Tunnel``."""
        if self.closed:
            return
        if code is ErrorCode.NO_ERROR and self._end_queued and not self.over:
            self._discard_rest = True  # what is queued is sent first
            return
        self._engine.end_stream(self, Cause.RESET_BY_US, code)

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued, together with what other streams are about to queue.

        Always "soon": of the sessions that one read woke, the first does not know that
        the others are due as well. One write for 25 streams instead of 25 (h2-small).
        """
        self.connection.flush(soon=True)

    def describe(self) -> StreamView:
        """Return the state, and the windows; see ``seams.Exchange``."""
        return StreamView(
            stream=self.stream_id,
            state=self.state.name,
            queued=self.outbox.size,
            send_window=self.send_window,
            receive_window=self.window,
        )

    # Engine to network ------------------------------------------------------------

    def send_turn(self) -> bool:
        """Send one frame of what is pending; tell whether another could follow.

        The connection's window is open.
        """
        if self.over or self.send_window <= 0:
            return False
        output = self._output
        full = self.outbox.size >= output.mark
        data = self.outbox.take(
            min(self.send_window, output.send_window, output.frame_size)
        )
        last = self._end_queued and not self.outbox.size and self._trailers is None
        output.send_data(self, data, end=last)
        if last:
            self._output_ended()
        elif self._end_queued and not self.outbox.size:
            self._send_end()
        elif full and self.outbox.size < self._output.mark:
            self.sink.wake_writer()
        return bool(self.outbox.size)

    def cut(self) -> None:
        """Note that the stream is gone; nothing is sent or delivered any more."""
        self._enter(_CLOSED)
        self.watched = None
        self.outbox.clear()
        self._early.clear()
        if self.handler_ended:  # once the sink has been told
            self.connection.runtime.call_soon(self.release)

    def release(self) -> None:
        """Let go of what refers to the stream: it is closed, its handler has ended."""
        raise NotImplementedError

    # Inside -----------------------------------------------------------------------

    def _send_end(self) -> None:
        if self._trailers:
            self._output.send_headers(self.stream_id, encode(self._trailers), end=True)
        else:
            self._output.send_end(self.stream_id)
        self._output_ended()

    def _output_ended(self) -> None:
        """END_STREAM was sent."""
        self._end_queued = True
        if self.peer_ended:
            self._engine.end_stream(self, Cause.COMPLETE)
            return
        self._enter(_HALF_CLOSED_LOCAL)
        if self._discard_rest:
            self._engine.end_stream(self, Cause.RESET_BY_US, ErrorCode.NO_ERROR)
        else:
            self._answered_early()

    def _answered_early(self) -> None:
        """END_STREAM was sent, the peer's has not come; for the subclass."""
