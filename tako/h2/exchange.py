"""``H2Exchange``: one stream, as a request and its answer or as a tunnel.

Theory of operation. Inbound, the gate (tunnels) and the engine (bodies) hand over
bytes; they go to ``sink``, which gives credit back through ``consumed``. Outbound,
bytes that the windows have no room for wait in ``outbox``; the send queue calls
``send_turn`` when there is room. ``over`` means that our direction has ended,
``peer_ended`` that the peer's has, ``closed`` that the stream is gone.

Invariants: ``closed`` implies ``over``; nothing is pending once ``over``; ``window`` +
``_unacked`` + what the sink has not consumed = the inbound window of a new stream. That
may shrink below what the peer has sent: then ``window`` is negative (RFC 9113 §6.9.2).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from tako.core.error_code import ErrorCode
from tako.core.request_body import BodySink
from tako.core.seams import Connection, Sink
from tako.errors import Disconnected, LocalProtocolError
from tako.h2.flow_control import Outbox, Output
from tako.h2.frames import HEAD, window_update
from tako.h2.response_head import response_head, text_head, tunnel_head
from tako.http.headers import RawHeader
from tako.http.pieces import Piece, keep
from tako.http.request import EndCallback, Request
from tako.http.response_fields import NO_CONTENT, read_fields
from tako.native.loops import Inbox, encode_data_frame, encode_frame


if TYPE_CHECKING:
    from tako.core.loop import Task
    from tako.core.min_rate import MinRate
    from tako.h2.engine import H2Engine


_HEAD_SIZE = HEAD.size
_SMALL = 4096  # characters: with its head such a frame fits into one DATA frame
_ERROR_DELAY = 0.05  # seconds, see ``seams.Exchange.error_delay``


class H2Exchange:
    """One stream; implements ``seams.Exchange``."""

    __slots__ = (
        "_continued",
        "_early",
        "_end_queued",
        "_engine",
        "_fast",
        "_head_only",
        "_library",
        "_muted",
        "_output",
        "_room",
        "_step",
        "_stream",
        "_trailers",
        "_unacked",
        "_unwanted",
        "body",
        "bytes_sent",
        "closed",
        "connect",
        "connection",
        "dispatched",
        "end_callbacks",
        "expected",
        "head_sent",
        "moved",
        "outbox",
        "over",
        "pace",
        "peer_ended",
        "queued",
        "received",
        "request",
        "send_pace",
        "sent",
        "sink",
        "stream_id",
        "task",
        "tunnel",
        "window",
    )

    request: Request
    sink: Sink
    tunnel: bool
    head_sent: bool
    over: bool
    closed: bool
    peer_ended: bool

    def __init__(
        self,
        engine: "H2Engine",
        connection: Connection,
        output: Output,
        stream_id: int,
        *,
        head_only: bool = False,
        connect: bool = False,
    ) -> None:
        """Make the exchange of a stream that ``h2`` has just opened.

        Args:
            engine: the engine.
            connection: the connection.
            output: where frames go.
            stream_id: the stream.
            head_only: the request is a HEAD: no body is sent.
            connect: the request is an extended CONNECT (RFC 8441).
        """
        self._engine = engine
        self.connection: Connection = connection
        self._output = output
        self._library = output.library
        self._stream = output.library.streams[stream_id]
        self.stream_id: int = stream_id
        self._head_only = head_only
        self.connect: bool = connect
        self.body: BodySink = BodySink(self)
        self._continued = True
        self.sink = self.body
        self.task: Task | None = None
        self.dispatched: bool = False  # a handler runs and holds a slot
        self.tunnel = self._fast = False
        self.head_sent = self.over = self.closed = self.peer_ended = False
        # Inbound
        self.window: int = output.library.inbound_window
        self._step = connection.config.h2_initial_window_size + 1 >> 1
        self._unacked = 0
        self._early: list[Piece] = []
        self.expected: int | None = None  # content-length of the request
        self.received: int = 0
        # Outbound
        self.outbox: Outbox = Outbox()
        self._room: int | None = None  # content-length of the response, what is left
        self._end_queued = False
        self._muted = False  # answered by the engine: the handler's body is dropped
        self._unwanted = False  # the peer need not end its direction
        self._trailers: list[RawHeader] | None = None
        self.queued: bool = False
        self.sent: int = 0
        self.bytes_sent: int = 0
        self.end_callbacks: tuple[EndCallback, ...] = ()
        # What the watch has seen
        self.moved: int = 0
        self.pace: MinRate | None = None
        self.send_pace: MinRate | None = None

    @property
    def writable(self) -> bool:
        """Whether more output is welcome."""
        return self.outbox.size < self._output.mark and self.connection.writable

    def expect_continue(self) -> None:
        """The peer waits for 100 (Continue) before it sends the body."""
        self._continued = False
        self.body = self.sink = BodySink(self, self.send_continue)

    @property
    def awaits_handler(self) -> bool:
        """The peer waits for us: for 100 (Continue), or for its tunnel."""
        return self.connect or not self._continued

    @property
    def error_delay(self) -> float:
        """Some while a small body is on its way; see ``seams.Exchange``."""
        size = self.expected
        if size is None or size > self.window:
            return 0.0
        settled = self.peer_ended or self.awaits_handler or self.closed
        return 0.0 if settled else _ERROR_DELAY

    async def writable_again(self) -> None:
        """Wait until ``writable``, or ``over``. Cancel safety: safe."""
        await self.body.writable_again()

    # Application to network -------------------------------------------------------

    def send_headers(
        self, status: int, headers: Sequence[RawHeader], *, end: bool = False
    ) -> None:
        """Queue the response head; see ``seams.Exchange``."""
        if self.over:
            return
        self._check_head(status)
        if self.connect and status < 300:
            # Any 2xx would tell the client that the tunnel is open (RFC 9113 §8.5)
            self.answer(501, b"Resource does not support WebSocket")
            return
        said = read_fields(status, headers)
        fields = response_head(status, said)
        if status < 200:
            self._output.send_headers(self.stream_id, fields)
            return
        empty = self._head_only or status in NO_CONTENT
        if not empty:
            self._room = said.length
            if end and self._room:
                msg = f"content-length is {self._room}, but there is no body"
                raise LocalProtocolError(msg)
        self.head_sent = True
        end = end or empty
        self._output.send_headers(self.stream_id, fields, end=end)
        if end:
            self._output_ended()

    def answer(self, status: int, body: bytes = b"") -> None:
        """Send a whole response of the engine's own."""
        self.head_sent = self._muted = True
        end = self._head_only or not body
        self._output.send_headers(self.stream_id, text_head(status, body), end=end)
        if end:
            self._output_ended()
        else:
            self._queue(body, end=True)

    def send_continue(self) -> None:
        """Ask for the body that the peer holds back (RFC 9110 §10.1.1)."""
        self._continued = True
        if not (self.head_sent or self.received or self.peer_ended):
            self.send_headers(100, ())
            self.flush(soon=True)

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Queue body or tunnel bytes; see ``seams.Exchange``."""
        if self.over or self._muted:
            return
        self._check_body()
        if self._room is not None:
            self._room -= len(data)
            if self._room < 0 or (end and self._room):
                msg = "the body is not as long as content-length says"
                raise LocalProtocolError(msg)
        self._queue(data, end=end)

    def send_frame(self, first_byte: int, payload: str | bytes, *, soon: bool) -> bool:
        """Queue a WebSocket frame; see ``seams.Exchange``."""
        connection = self.connection
        # One bytes object and one look at each window; the slow path that it must
        # equal is send_data. (tests/benchmarks/h2_engine.py)
        if self._fast and len(payload) < _SMALL and not self.outbox.size:
            frame = encode_data_frame(self.stream_id, first_byte, payload)
            size = len(frame) - _HEAD_SIZE
            stream, library, output = self._stream, self._library, self._output
            if (
                size <= stream.outbound_flow_control_window
                and size <= library.outbound_flow_control_window
                and connection.writable
            ):
                stream.outbound_flow_control_window -= size
                library.outbound_flow_control_window -= size
                output.data_frames += 1
                output.frames.append(frame)
                if not connection.flush_due:
                    connection.flush(soon=True)
                return True
        self.send_data(encode_frame(first_byte, payload))
        self.flush(soon=soon)
        return self.writable

    def send_trailers(self, trailers: Sequence[RawHeader]) -> None:
        """Queue trailers and end the response; see ``seams.Exchange``."""
        if self.over or self._muted:
            return
        self._check_body()
        if self._room:
            msg = "the body is not as long as content-length says"
            raise LocalProtocolError(msg)
        self._trailers = read_fields(200, trailers).own
        self._queue(b"", end=True)

    def open_tunnel(self, status: int, headers: Sequence[RawHeader]) -> Self:
        """Answer 2xx and go on as a byte pipe; see ``seams.Exchange``."""
        if self.over:
            return self
        fields = tunnel_head(status, read_fields(status, headers))
        self._check_head(200)
        if not self.connect:
            msg = "only an extended CONNECT can become a tunnel"
            raise LocalProtocolError(msg)
        self._output.send_headers(self.stream_id, fields)
        self.head_sent = self.tunnel = self._fast = True
        return self

    def receive_into(self, sink: Sink, inbox: Inbox | None = None) -> None:
        """Deliver to ``sink`` what the peer sends; see ``seams.Tunnel``."""
        self.sink = sink
        if self.over:
            sink.deliver_eof(Disconnected())
            return
        early, self._early = self._early, []
        for data in early:
            sink.deliver(bytes(data))
        if self.peer_ended:
            sink.deliver_eof(None)
        elif not self.closed:
            self._engine.tunnel_opened(self, inbox)

    def cancel_at(self, when: float) -> None:
        """Cancel the handler at ``when``; see ``seams.Tunnel``."""
        self.connection.cancel_at(when, self)

    def consumed(self, size: int) -> None:
        """Give the peer credit for ``size`` bytes."""
        self._unacked += size
        if self._unacked >= self._step and not self.peer_ended and not self.closed:
            self._output.frames.append(window_update(self.stream_id, self._unacked))
            self.window += self._unacked
            self._unacked = 0
            self.connection.flush(soon=True)

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut the stream off; see ``seams.Exchange``."""
        if self.closed:
            return
        if code is ErrorCode.NO_ERROR and self._end_queued and not self.over:
            self._unwanted = True  # what is queued is sent first
            return
        self._engine.reset(self, code)

    def ended(self) -> None:
        """The handler has ended: its slot is free, and nobody will send any more."""
        complete = self.over or self._end_queued
        if not (self.closed or complete or self.tunnel):  # its sink ends a tunnel
            self.reset(ErrorCode.INTERNAL_ERROR)
        self._engine.handler_ended(self)
        if self.closed:
            self.release()

    def release(self) -> None:
        """Let go of the request: the exchange is over, and its handler has ended.

        They refer to each other; without the cut each would wait for the collector.
        """
        self.body.release()
        self.request.exchange = None

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued, together with what other streams are about to queue.

        Always "soon": of the sessions that one read woke, the first does not know that
        the others are due as well. One write for 25 streams instead of 25 (h2-small).
        """
        self.connection.flush(soon=True)

    # Engine to network ------------------------------------------------------------

    def send_turn(self) -> bool:
        """Send one frame of what is pending; tell whether another could follow.

        The connection's window is open.
        """
        if self.over:
            return False
        window = self._stream.outbound_flow_control_window
        if window <= 0:
            return False
        full = self.outbox.size >= self._output.mark
        data = self.outbox.take(
            min(
                window,
                self._library.outbound_flow_control_window,
                self._output.frame_size,
            )
        )
        last = self._end_queued and not self.outbox.size and self._trailers is None
        self._output.send_data(self.stream_id, data, end=last)
        self.sent += len(data)
        if last:
            self._output_ended()
        elif self._end_queued and not self.outbox.size:
            self._send_end()
        elif full and self.outbox.size < self._output.mark:
            self.sink.wake_writer()
        return bool(self.outbox.size)

    def cut(self) -> None:
        """Note that the stream is gone; nothing is sent or delivered any more."""
        self.closed = self.over = True
        self._fast = False
        self._library.forget(self.stream_id)
        self.outbox.clear()
        self._early.clear()

    # Network to application -------------------------------------------------------

    def receive_data(self, data: bytes) -> ErrorCode | None:
        """Take a piece of the body, or of a tunnel; return why the stream must end."""
        if self.tunnel:
            self.sink.deliver(data)
            return None
        if self.connect:
            keep(self._early, data)  # credited on acceptance: bounded by the window
            return None
        self.received += len(data)
        if self.expected is not None and self.received > self.expected:
            return ErrorCode.PROTOCOL_ERROR  # RFC 9113 §8.1.1
        self.body.deliver(data)
        return None

    def receive_end(self) -> ErrorCode | None:
        """The peer has ended its direction; return why the stream must end."""
        self.peer_ended = True
        if self.expected is not None and self.received != self.expected:
            return ErrorCode.PROTOCOL_ERROR  # RFC 9113 §8.1.1
        if not self._early:  # else it follows them once the tunnel is accepted
            self.sink.deliver_eof(None)
        if self.over and not self.closed:
            self._engine.stream_closed(self)
        return None

    # Inside -----------------------------------------------------------------------

    def _check_head(self, status: int) -> None:
        if self.head_sent:
            msg = "a response head was sent already"
            raise LocalProtocolError(msg)
        if status == 101:
            msg = "HTTP/2 has no 101 (RFC 9113 §8.6)"
            raise LocalProtocolError(msg)

    def _check_body(self) -> None:
        if not self.head_sent or self._end_queued:
            problem = "has ended" if self.head_sent else "has no head yet"
            msg = f"the response {problem}"
            raise LocalProtocolError(msg)

    def _queue(self, data: bytes, *, end: bool) -> None:
        if data:
            self.outbox.add(data)
        if end:
            self._end_queued = True
            self._fast = False
            if not self.outbox.size:
                self._send_end()
                return
        if self.outbox.size:
            self._output.queue.add(self)
            self._output.queue.pump()
            if self.outbox.size:
                self._engine.output_waits()

    def _send_end(self) -> None:
        if self._trailers:
            self._output.send_headers(self.stream_id, self._trailers, end=True)
        else:
            self._output.send_end(self.stream_id)
        self._output_ended()

    def _output_ended(self) -> None:
        """END_STREAM was sent."""
        self.over = True
        self._end_queued = True
        self._fast = False
        if self.peer_ended:
            self._engine.stream_closed(self)
        elif self._unwanted or (not self.tunnel and (self._muted or self.connect)):
            self._engine.reset(self, ErrorCode.NO_ERROR)
        elif not self.tunnel:
            # RFC 9113 §8.1: the response is complete, the rest of the request unwanted
            self._engine.answered_early(self)
