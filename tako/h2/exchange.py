"""``H2Exchange``: a stream as a request and its answer, or as the tunnel it becomes.

Theory of operation. ``H2Stream`` moves the bytes; here is what they mean: the content
of the request and how long it must be, the head of the answer, what content-length
promises of its body, 100 (Continue), HEAD, and an extended CONNECT that is accepted or
not. ``answer`` is for responses of the engine's own.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

from tako.core.error_code import ErrorCode
from tako.core.request_body import BodySink
from tako.core.seams import Connection, Sink
from tako.errors import LocalProtocolError
from tako.h2.flow_control import Output
from tako.h2.response_head import response_head, text_head, tunnel_head
from tako.h2.stream import Cause, H2Stream, StreamState
from tako.http.headers import RawHeader
from tako.http.pieces import keep
from tako.http.request import EndCallback, Request
from tako.http.response_fields import NO_CONTENT, read_fields


if TYPE_CHECKING:
    from tako.core.loop import Task
    from tako.h2.engine import H2Engine


_HALF_CLOSED_REMOTE = StreamState.HALF_CLOSED_REMOTE  # cheaper than by its class
_ERROR_DELAY = 0.05  # seconds, see ``seams.Exchange.error_delay``


class H2Exchange(H2Stream):
    """A request and its answer; implements ``seams.Exchange`` and ``seams.Tunnel``."""

    __slots__ = (
        "_answered_by_engine",
        "_body_left",
        "_continued",
        "_head_only",
        "body",
        "bytes_sent",
        "connect",
        "dispatched",
        "end_callbacks",
        "expected",
        "head_sent",
        "received",
        "request",
        "task",
    )

    request: Request
    sink: Sink
    head_sent: bool

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
        super().__init__(engine, connection, output, stream_id)
        self._head_only = head_only
        self.connect: bool = connect
        self.body: BodySink = BodySink(self)
        self._continued = True
        self.sink = self.body
        self.task: Task | None = None
        self.dispatched: bool = False  # a handler runs and holds a slot
        self.head_sent = False
        self.expected: int | None = None  # content-length of the request
        self.received: int = 0
        self._body_left: int | None = None  # of the response, by its content-length
        self._answered_by_engine = False  # the handler's body is dropped
        self.bytes_sent: int = 0
        self.end_callbacks: tuple[EndCallback, ...] = ()

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
            self._body_left = said.length
            if end and self._body_left:
                msg = f"content-length is {self._body_left}, but there is no body"
                raise LocalProtocolError(msg)
        self.head_sent = True
        end = end or empty
        self._output.send_headers(self.stream_id, fields, end=end)
        if end:
            self._output_ended()

    def answer(self, status: int, body: bytes = b"") -> None:
        """Send a whole response of the engine's own."""
        self.head_sent = self._answered_by_engine = True
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
        if self.over or self._answered_by_engine:
            return
        self._check_body()
        if self._body_left is not None:
            self._body_left -= len(data)
            if self._body_left < 0 or (end and self._body_left):
                msg = "the body is not as long as content-length says"
                raise LocalProtocolError(msg)
        self._queue(data, end=end)

    def send_trailers(self, trailers: Sequence[RawHeader]) -> None:
        """Queue trailers and end the response; see ``seams.Exchange``."""
        if self.over or self._answered_by_engine:
            return
        self._check_body()
        if self._body_left:
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
        self.head_sent = self.tunnel = self._fast_path = True
        return self

    def cancel_at(self, when: float) -> None:
        """Cancel the handler at ``when``; see ``seams.Tunnel``."""
        self.connection.cancel_at(when, self)

    def ended(self) -> None:
        """The handler has ended: its slot is free, and nothing more will be sent."""
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
        if self.over:
            self._engine.end_stream(self, Cause.COMPLETE)
        else:
            self._enter(_HALF_CLOSED_REMOTE)
        if self.expected is not None and self.received != self.expected:
            return ErrorCode.PROTOCOL_ERROR  # RFC 9113 §8.1.1
        if not self._early:  # else it follows them once the tunnel is accepted
            self.sink.deliver_eof(None)
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

    def _output_ended(self) -> None:
        """END_STREAM was sent."""
        super()._output_ended()
        if self.closed or self.tunnel:
            return
        if self._answered_by_engine or self.connect:
            self._engine.end_stream(self, Cause.RESET_BY_US, ErrorCode.NO_ERROR)
        else:
            # RFC 9113 §8.1: the response is complete, the rest of the request unwanted
            self._engine.answered_early(self)
