"""``H2Exchange``: a stream as a request and its answer, or as the tunnel it becomes.

Theory of operation. ``H2Stream`` moves the bytes; here is what they mean: the content
of the request and how long it must be, the head of the answer, what content-length
promises of its body, 100 (Continue), HEAD, and an extended CONNECT that is accepted or
not. ``answer`` is for responses of the engine's own.

The response has a state of its own beside that of the stream: what a handler may still
send. ``_enter_response`` alone sets it.

Invariant: once ``over``, or while the end waits for its window, the response is
``ENDED`` or ``CUT_OFF``.
"""

import logging
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final, Self

from tako.core.error_code import ErrorCode
from tako.core.request_body import BodySink
from tako.core.response_state import ResponseState
from tako.core.seams import PIECE, Connection, Exchange
from tako.core.states import CHECKED, check_transition
from tako.errors import LocalProtocolError
from tako.h2.flow_control import Output
from tako.h2.hpack import encode_length
from tako.h2.response_head import encoded_head, interim_head, text_head, tunnel_head
from tako.h2.stream import Cause, H2Stream, StreamState
from tako.http.headers import RawHeader
from tako.http.pieces import keep
from tako.http.response_fields import NO_CONTENT, WITHOUT_BODY, read_fields


if TYPE_CHECKING:
    from tako.h2.engine import H2Engine


_logger: Final = logging.getLogger("tako.h2")

_NEXT: Final[dict[ResponseState, frozenset[ResponseState]]] = {
    ResponseState.NO_HEAD: frozenset(
        {
            ResponseState.BODY,
            ResponseState.SWITCHED,
            ResponseState.ENDED,
            ResponseState.CUT_OFF,
        }
    ),
    ResponseState.BODY: frozenset({ResponseState.ENDED, ResponseState.CUT_OFF}),
    ResponseState.SWITCHED: frozenset({ResponseState.ENDED, ResponseState.CUT_OFF}),
    ResponseState.ENDED: frozenset({ResponseState.CUT_OFF}),
    ResponseState.CUT_OFF: frozenset(),
}

# Cheaper than by their class
_NO_HEAD: Final = ResponseState.NO_HEAD
_BODY: Final = ResponseState.BODY
_SWITCHED: Final = ResponseState.SWITCHED
_ENDED: Final = ResponseState.ENDED
_CUT_OFF: Final = ResponseState.CUT_OFF
_HALF_CLOSED_REMOTE: Final = StreamState.HALF_CLOSED_REMOTE
_ERROR_DELAY: Final = 0.05  # seconds, see ``seams.Exchange.error_delay``


class H2Exchange(H2Stream):
    """A request and its answer; implements ``seams.Exchange`` and ``seams.Tunnel``."""

    __slots__ = (
        "_awaits_continue",
        "_body_left",
        "_head_only",
        "connect",
        "expected",
        "received",
        "response",
    )

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
        """Make the exchange of a stream that the client has just opened.

        Args:
            engine: the engine.
            connection: the connection.
            output: where frames go.
            stream_id: the stream.
            head_only: the request is a HEAD: no body is sent.
            connect: the request is an extended CONNECT (RFC 8441).
        """
        super().__init__(engine, connection, output, stream_id)
        base: Exchange = self
        self._head_only = head_only
        self.connect: bool = connect
        base.body = BodySink(self)
        self._awaits_continue = False
        self._deliver_to_body()
        self.response: ResponseState = _NO_HEAD
        self.expected: int | None = None  # content-length of the request
        self.received: int = 0
        self._body_left: int | None = None  # of the response, by its content-length

    def _enter_response(self, state: ResponseState) -> None:
        """Change the state of the response, and the flags that derive from it."""
        base: Exchange = self
        if CHECKED and state not in _NEXT[self.response]:  # a call less per state
            check_transition(_NEXT, self.response, state)
        self.response = state
        if state is not _CUT_OFF:
            base.head_sent = True
            if state is _SWITCHED:
                base.tunnel = self._fast_path = True
        if self._output.trace:
            _logger.debug(
                "%#x: response of stream %d is %s", id(self), self.stream_id, state.name
            )

    def expect_continue(self) -> None:
        """Take note that the client sends the body only after 100 (Continue)."""
        base: Exchange = self
        self._awaits_continue = True
        base.body = BodySink(self, self.send_continue)
        self._deliver_to_body()

    @property
    def awaits_handler(self) -> bool:
        """The client waits for us: for 100 (Continue), or for its tunnel."""
        return self.connect or self._awaits_continue

    @property
    def error_delay(self) -> float:
        """More than 0 while a small body is on its way; see ``seams.Exchange``."""
        size = self.expected
        if size is None or size > self.window:
            return 0.0
        settled = self.peer_ended or self.awaits_handler or self.closed
        return 0.0 if settled else _ERROR_DELAY

    @property
    def at_once(self) -> int:
        """A piece: frames are copies of it; see ``seams.Exchange``."""
        return PIECE

    def writable_again(self) -> Awaitable[None]:
        """Wait until ``writable``, or ``over``. Cancel safety: safe."""
        return self.body.writable_again()

    # Application to network -------------------------------------------------------

    def send_headers(
        self, status: int, headers: Sequence[RawHeader], *, end: bool = False
    ) -> None:
        """Queue the response head; see ``seams.Exchange``."""
        base: Exchange = self
        if self.response is not _NO_HEAD:
            self._check_unheard("a response head was sent already")
            return
        if status == 101:
            msg = "HTTP/2 has no 101 (RFC 9113 §8.6)"
            raise LocalProtocolError(msg)
        if self.connect and status < 300:
            # Any 2xx would tell the client that the tunnel is open (RFC 9113 §8.5)
            self.answer(501, b"Resource does not support WebSocket")
            return
        if status < 200:
            self._output.send_headers(self.stream_id, interim_head(status, headers))
            return
        block, length = encoded_head(status, headers)
        if self._head_only or status in NO_CONTENT:
            end = True
        elif end and length:
            msg = f"content-length is {length}, but there is no body"
            raise LocalProtocolError(msg)
        else:
            self._body_left = length
        base.status = status
        self._enter_response(_ENDED if end else _BODY)
        self._output.send_headers(self.stream_id, block, end=end)
        if end:
            self._output_ended()

    def send_response(
        self, status: int, headers: Sequence[RawHeader], body: bytes
    ) -> None:
        """Queue a whole response; see ``seams.Exchange``."""
        base: Exchange = self
        if self.response is not _NO_HEAD:
            self._check_unheard("a response head was sent already")
            return
        if status < 200:
            msg = f"a response with the status {status} is not a whole one"
            raise LocalProtocolError(msg)
        if self.connect and status < 300:
            # Any 2xx would tell the client that the tunnel is open (RFC 9113 §8.5)
            self.answer(501, b"Resource does not support WebSocket")
            return
        if self._head_only or status in WITHOUT_BODY:
            self.send_headers(status, headers, end=True)
            return
        block, length = encoded_head(status, headers)
        if length is None:
            block += encode_length(len(body))
        elif length != len(body):
            msg = f"content-length is {length}, but the body has {len(body)} bytes"
            raise LocalProtocolError(msg)
        base.status = status
        self._enter_response(_ENDED)
        output = self._output
        if not body:
            output.send_headers(self.stream_id, block, end=True)
            self._output_ended()
        elif output.send_response(self, block, body):
            self._output_ended()
        else:
            output.send_headers(self.stream_id, block)
            self._queue(body, end=True)

    def answer(self, status: int, body: bytes = b"") -> None:
        """Send a whole response of the engine's own; drop what a handler sends."""
        base: Exchange = self
        base.status = status
        self._enter_response(_BODY)
        self._enter_response(_CUT_OFF)
        end = self._head_only or not body
        self._output.send_headers(self.stream_id, text_head(status, body), end=end)
        if end:
            self._output_ended()
        else:
            self._queue(body, end=True)

    def send_continue(self) -> None:
        """Ask for the body that the client holds back (RFC 9110 §10.1.1)."""
        self._awaits_continue = False
        if self.response is _NO_HEAD and not (self.received or self.peer_ended):
            self.send_headers(100, ())
            self.flush(soon=True)

    def send_data(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue body or tunnel bytes; see ``seams.Exchange``."""
        if self.response is not _BODY and self.response is not _SWITCHED:
            self._check_unheard(self._why_no_body())
            return
        if self._body_left is not None:
            self._body_left -= len(data)
            if self._body_left < 0 or (end and self._body_left):
                msg = "the body is not as long as content-length says"
                raise LocalProtocolError(msg)
        if end:
            self._enter_response(_ENDED)
        self._queue(data, end=end)

    def send_file(self, file: int, offset: int, size: int) -> int:
        """Return 0: frames are copies of what they carry; see ``seams.Exchange``."""
        return 0

    def send_trailers(self, trailers: Sequence[RawHeader]) -> None:
        """Queue trailers and end the response; see ``seams.Exchange``."""
        if self.response is not _BODY:
            self._check_unheard(self._why_no_body())
            return
        if self._body_left:
            msg = "the body is not as long as content-length says"
            raise LocalProtocolError(msg)
        self._trailers = read_fields(200, trailers).own
        self._enter_response(_ENDED)
        self._queue(b"", end=True)

    def open_tunnel(self, status: int, headers: Sequence[RawHeader]) -> Self:
        """Answer 2xx and go on as a byte pipe; see ``seams.Exchange``."""
        if self.response is not _NO_HEAD:
            self._check_unheard("a response head was sent already")
            return self
        block = tunnel_head(status, headers)
        if not self.connect:
            msg = "only an extended CONNECT can become a tunnel"
            raise LocalProtocolError(msg)
        self._output.send_headers(self.stream_id, block)
        self._enter_response(_SWITCHED)
        return self

    def cancel_at(self, when: float) -> None:
        """Cancel the handler at ``when``; see ``seams.Tunnel``."""
        self.connection.cancel_at(when, self)

    def ended(self) -> None:
        """The handler has ended: its slot is free, and nothing more will be sent.

        Called once.
        """
        if self.response is _NO_HEAD or self.response is _BODY:
            self.reset(ErrorCode.INTERNAL_ERROR)
        self._engine.handler_ended()
        if self.closed:
            self.release()
        else:
            self.handler_ended = True

    def cut_off(self) -> None:
        """Take nothing more from the handler: the stream was reset, or is lost."""
        if self.response is not _CUT_OFF:
            self._enter_response(_CUT_OFF)

    def release(self) -> None:
        """Let go of request and sink: the exchange is over, and its handler has ended.

        They refer to each other; without the cut each would wait for the collector.
        """
        self._deliver_to_body()
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
        """Take the end of the client's direction; return why the stream must end."""
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

    def _deliver_to_body(self) -> None:
        """Have what is received go to the body: that is so but for a tunnel."""
        stream: H2Stream = self  # its ``sink``, to pyright, would be a BodySink only
        stream.sink = self.body

    def _check_unheard(self, problem: str) -> None:
        """Check that what the response has no place for would not be heard, either.

        Raises:
            LocalProtocolError: it would; ``problem`` is its message.
        """
        if not self.over and self.response is not _CUT_OFF:
            raise LocalProtocolError(problem)

    def _why_no_body(self) -> str:
        problem = "has ended" if self.head_sent else "has no head yet"
        return f"the response {problem}"

    def _answered_early(self) -> None:
        """The response is complete, the rest of the request unwanted."""
        if self.tunnel:
            return
        if self.response is _CUT_OFF or self.connect:
            self._engine.end_stream(self, Cause.RESET_BY_US, ErrorCode.NO_ERROR)
        else:
            self._engine.answered_early(self)  # RFC 9113 §8.1
