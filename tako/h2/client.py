"""``H2Client``: WebSockets over HTTP/2, from the client's side (RFC 8441).

Theory of operation. The preface goes out at once; an extended CONNECT only once the
server has said in its first SETTINGS that it takes one (RFC 8441 §3). From then on
``room`` says how many more may be opened now; ``changed`` is called when that, or
something else that is to be read here, may have changed. Each CONNECT is an
``H2ClientStream``: it skips interim answers, becomes a tunnel with 2xx, and keeps the
beginning of any other answer's content. Its ``Opener`` is told once.

A connection that *leaves*, because the server has sent GOAWAY or it was told to, opens
no more and ends when no stream is left: with a GOAWAY that names 0, for a server opens
no streams (RFC 9113 §6.8).

Keep-alive. One PING asks for all tunnels; its answer tells each of them how long that
took. Where a CONNECT is not answered in time the connection is *doubted*: it leaves if
a PING is not answered, either.

What a server may make us hold is bounded as a client's requests are, by the reader; of
a stream that is not open yet, by ``_MAX_INTERIM`` and ``_MAX_BODY``.

Invariants: ``exchanges`` holds exactly the streams that are open or half-closed; each
opener is told exactly once; after ``closing`` nothing is queued.
"""

import enum
import logging
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tako.core.error_code import ErrorCode
from tako.core.seams import (
    Exchange,
    NotOpened,
    Opener,
    ServerConnection,
    Sink,
    Watched,
)
from tako.core.shared_frame import SharedFrame
from tako.core.states import CHECKED, check_transition
from tako.errors import Disconnected
from tako.h2 import frames
from tako.h2.endpoint import H2Endpoint
from tako.h2.fields import Field, FieldKind
from tako.h2.flow_control import Output
from tako.h2.frames import MAX_STREAM_ID, PREFACE, Setting
from tako.h2.hpack import encode
from tako.h2.reader import FrameReader
from tako.h2.settings import client_settings
from tako.h2.stream import Cause, H2Stream, StreamState
from tako.http.answer import HandshakeResponse
from tako.http.headers import Headers
from tako.native.loops import encode_masked_data_frame, encode_masked_frame


if TYPE_CHECKING:
    from tako.http.headers import RawHeader


_logger: Final = logging.getLogger("tako.h2")

_STATUS: Final = re.compile(rb"[1-9][0-9]{2}")
_MAX_INTERIM: Final = 16  # answers
_MAX_BODY: Final = 4096  # bytes of a refusal that are kept
_SMALL: Final = 4096  # characters: with its head such a frame fits into one DATA frame
_ALIVE_PING: Final = b"alive?\0\0"
_PROBE_TIMEOUT: Final = 2.0  # seconds for the answer of a server that is doubted

_WHY: Final[dict[int, NotOpened]] = {
    ErrorCode.REFUSED_STREAM: NotOpened.REFUSED,  # RFC 9113 §8.7
    ErrorCode.PROTOCOL_ERROR: NotOpened.RESET,
    ErrorCode.INTERNAL_ERROR: NotOpened.RESET,
    ErrorCode.HTTP_1_1_REQUIRED: NotOpened.RESET,
}
_SENDS_RESET: Final = frozenset({Cause.RESET_BY_US, Cause.MALFORMED, Cause.FAULT})


class _NoSink:
    """Takes what a stream has before it has a sink: nothing."""

    def deliver(self, data: bytes) -> None:
        """Drop ``data``."""

    def deliver_eof(self, error: Exception | None = None) -> None:
        """Do nothing."""

    def wake_writer(self) -> None:
        """Do nothing."""

    def shut_down(self) -> None:
        """Do nothing."""


_NO_SINK: Final[Sink] = _NoSink()


class Asked(enum.IntEnum):
    """How far a CONNECT has come."""

    WAITING = 0
    """The final answer is to come."""
    TUNNEL = 1
    """2xx: DATA are the tunnel's."""
    REFUSED = 2
    """Another status: DATA are its content."""
    ENDED = 3
    """The stream is closed."""


_NEXT: Final[dict[Asked, frozenset[Asked]]] = {
    Asked.WAITING: frozenset({Asked.TUNNEL, Asked.REFUSED, Asked.ENDED}),
    Asked.TUNNEL: frozenset({Asked.ENDED}),
    Asked.REFUSED: frozenset({Asked.ENDED}),
    Asked.ENDED: frozenset(),
}


def read_answer(fields: Sequence[Field], most: int) -> tuple[int, Headers] | None:
    """Return the status and the fields of an answer, ``None`` if it is malformed.

    RFC 9113 §8.2, §8.3.2. ``most``: how many fields it may have.
    """
    status: bytes | None = None
    headers: list[RawHeader] = []
    for (name, value), kind, _ in fields:
        if name == b":status":
            if status is not None or headers or not _STATUS.fullmatch(value):
                return None
            status = value
        elif kind is FieldKind.MALFORMED or kind is FieldKind.PSEUDO:
            return None
        else:
            headers.append((name, value))
    if status is None or len(headers) > most:
        return None
    return int(status), Headers.from_raw(headers)


class H2ClientStream(H2Stream):
    """A CONNECT, and the tunnel that it becomes; implements ``seams.Tunnel``."""

    __slots__ = ("_content", "_interim", "_opener", "_response", "asked")

    def __init__(
        self,
        engine: "H2Client",
        connection: ServerConnection,
        output: Output,
        stream_id: int,
        opener: Opener,
    ) -> None:
        """Make the stream of a CONNECT; ``opener`` is told of the answer."""
        super().__init__(engine, connection, output, stream_id)
        self.deliver_to(_NO_SINK)
        self._opener: Opener | None = opener
        self._interim = 0
        self._response: HandshakeResponse | None = None
        self._content = bytearray()
        self.asked: Asked = Asked.WAITING

    def _enter_asked(self, state: Asked) -> None:
        if CHECKED:
            check_transition(_NEXT, self.asked, state)
        self.asked = state
        if state is Asked.TUNNEL:
            self.tunnel = self._fast_path = True
        _logger.debug("%#x: CONNECT %d is %s", id(self), self.stream_id, state.name)

    # Application to network -------------------------------------------------------

    def send_frame(self, first_byte: int, payload: str | bytes, *, soon: bool) -> bool:
        """Queue a masked frame; see ``seams.Tunnel``."""
        # What H2Stream does; a large frame is a copy anyway
        if self._fast_path and len(payload) >= _SMALL:
            if self.put_large(first_byte, payload, masked=True):
                if not self.connection.flush_due:
                    self.flush(soon=soon)
                return True
        elif self._fast_path and not self.outbox.size:
            frame = encode_masked_data_frame(self.stream_id, first_byte, payload)
            if self.put(frame, len(frame) - frames.HEAD.size):
                return True
        self.send_data(encode_masked_frame(first_byte, payload))
        self.flush(soon=soon)
        return self.writable

    def send_shared(self, frame: SharedFrame, soon: bool) -> bool:
        """Queue a frame, masked, if there is room; see ``seams.Tunnel``."""
        if self.over or not self.writable:
            return False
        self.send_frame(frame.first_byte, frame.payload, soon=soon)
        return True

    def send_data(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue bytes; ``end``: then END_STREAM. See ``seams.Tunnel``."""
        if not self.over:
            self._queue(data, end=end)

    def cancel_at(self, when: float) -> None:
        """Do nothing: no task is the tunnel's own; see ``seams.Tunnel``."""

    def release(self) -> None:
        """Let go of the sink: the stream is closed."""
        self.deliver_to(_NO_SINK)

    # Network to application -------------------------------------------------------

    def receive_head(self, fields: list[Field], *, ended: bool) -> None:
        """Take HEADERS: an answer, or trailers; ``ended``: with END_STREAM."""
        if self.asked is Asked.REFUSED and ended:
            self.receive_end()
            return
        answer = None
        if self.asked is Asked.WAITING:
            answer = read_answer(fields, self.connection.config.max_headers)
        if answer is None or answer[0] == 101 or (answer[0] < 200 and ended):
            # RFC 9113 §8.1, §8.5, §8.6
            self._fault("the answer is malformed")
            return
        status, headers = answer
        if status < 200:  # RFC 9110 §15.2
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                self._fault("there are too many interim answers")
            return
        response = HandshakeResponse(status, headers, "2")
        if status >= 300:
            self._enter_asked(Asked.REFUSED)
            self._response = response
            if ended:
                self.receive_end()
        elif ended:
            self._fault("the stream ended with the answer")
        else:
            self._enter_asked(Asked.TUNNEL)
            opener, self._opener = self._opener, None
            if opener is not None:
                opener.answered(response, self)

    def receive_data(self, data: bytes) -> None:
        """Take a piece of the tunnel, or of a refusal's content."""
        if self.asked is Asked.TUNNEL:
            self.sink.deliver(data)
        elif self.asked is Asked.REFUSED:
            self._content += data[: _MAX_BODY - len(self._content)]
            if len(self._content) >= _MAX_BODY:
                self.reset()
        else:  # RFC 9113 §8.1
            self._fault("DATA comes before the answer")

    def receive_end(self) -> None:
        """Take the server's END_STREAM."""
        sink = self.sink
        if self.asked is not Asked.TUNNEL:
            # RFC 9113 §8.1: nothing is left to be said
            if self.asked is Asked.WAITING:
                self._fault("the stream ended without an answer")
            else:
                self.reset()
            return
        if self.over:
            self._engine.end_stream(self, Cause.COMPLETE)
        else:
            self._enter(StreamState.HALF_CLOSED_REMOTE)
        sink.deliver_eof(None)

    def gone(self, why: NotOpened, text: str, *, complete: bool) -> None:
        """Tell who is concerned that the stream is closed."""
        state = self.asked
        self._enter_asked(Asked.ENDED)
        sink, opener, response = self.sink, self._opener, self._response
        self._opener = None
        self.release()
        if opener is not None:
            if response is not None:
                body = bytes(self._content)
                answer = HandshakeResponse(response.status, response.headers, "2", body)
                opener.answered(answer, None)
            else:
                opener.not_opened(why, text)
        elif state is Asked.TUNNEL and not complete:
            sink.deliver_eof(Disconnected(text))

    def _fault(self, text: str) -> None:
        """Reset the stream: the server broke a rule on it."""
        opener, self._opener = self._opener, None
        self._engine.end_stream(self, Cause.FAULT, ErrorCode.PROTOCOL_ERROR)
        if opener is not None:
            opener.not_opened(NotOpened.INVALID, text)


class H2Client(H2Endpoint[H2ClientStream]):
    """The client's end of an HTTP/2 connection; implements ``seams.Engine``.

    Attributes:
        supported: the server has tunnels (RFC 8441 §3); ``None``: no SETTINGS yet.
        leaving: no more streams are opened; the connection ends with the last.
        end: why the connection has ended, if it has, and that in words.
    """

    __slots__ = (
        "_ack_deadline",
        "_changed",
        "_full",
        "_last_id",
        "_limit",
        "_lost",
        "_ping_sent",
        "_probe_deadline",
        "end",
        "leaving",
        "supported",
    )

    def __init__(
        self, connection: ServerConnection, changed: Callable[[], None]
    ) -> None:
        """Begin the connection; the preface is queued.

        Args:
            connection: the connection.
            changed: called when what there is room for may have changed.
        """
        super().__init__(connection)
        self._changed = changed
        self._output.frames += (PREFACE, client_settings(connection.config))
        self._reader = FrameReader(
            self, connection, self._output, frame_size=frames.LARGE_FRAME_SIZE
        )
        self._reader.start()
        self.supported: bool | None = None
        self.leaving: bool = False
        self.end: tuple[NotOpened, str] | None = None
        # RFC 9113 §6.5.2: no limit but our own until the server has one
        self._limit = connection.config.h2_max_concurrent_streams
        self._full = False  # it has refused a stream; until one ends, or SETTINGS come
        self._last_id = -1
        self._lost = False
        self._ping_sent: float | None = None
        self._ack_deadline = connection.deadlines.new(self._settings_late)
        self._probe_deadline = connection.deadlines.new(self._leave)
        if connection.config.settings_timeout is not None:
            now = connection.time()
            self._ack_deadline.set(now + connection.config.settings_timeout)

    @property
    def room(self) -> int:
        """How many more tunnels may be asked for now; not more than 0: none."""
        if not self.supported or self.leaving or self._full:
            return 0
        return self._limit - len(self.exchanges)  # RFC 9113 §5.1.2

    def open(self, opener: Opener, fields: "Sequence[RawHeader]") -> H2ClientStream:
        """Ask for a tunnel, on the stream that is returned; there has to be ``room``.

        ``reset`` it to give up, and ``opener`` is told ``NotOpened.CANCELLED``.
        """
        self._last_id += 2
        self._reader.last_stream_id = self._last_id
        self.count_stream()
        stream = H2ClientStream(
            self, self._connection, self._output, self._last_id, opener
        )
        self.exchanges[self._last_id] = stream
        self._output.send_headers(self._last_id, encode(fields))
        if self._last_id >= MAX_STREAM_ID:  # RFC 9113 §5.1.1: that was the last one
            self.leaving = True
        self._connection.flush(soon=True)
        return stream

    def doubt(self) -> None:
        """Leave if the server does not answer a PING: it has not answered a CONNECT."""
        if self.closing or self.leaving:
            return
        self._ping()
        if self._probe_deadline.when is None:
            self._probe_deadline.set(self._connection.time() + _PROBE_TIMEOUT)
        self._connection.flush(soon=True)

    # seams.Engine ------------------------------------------------------------------

    def receive_data(self, data: bytes) -> Sequence[Exchange]:
        """Take bytes from the server; a client gets no requests."""
        self.read(data)
        return ()

    def receive_eof(self) -> None:
        """Take the server's FIN or close_notify."""
        self._end(NotOpened.LOST, "the server closed the connection")

    def connection_lost(self) -> None:
        """Tell every stream that the transport is gone."""
        if self._lost:
            return
        self._lost = True
        self._end(NotOpened.LOST, "the connection was lost")
        self._ack_deadline.close()
        self._probe_deadline.close()
        self._reader.close()
        self._output.close()

    def peer_silent(self) -> bool:
        """Ask the server once for all watched tunnels; tell whether."""
        for stream in self.exchanges.values():
            if stream.watched is not None:
                self._ping()
                return True
        return False

    def peer_dead(self) -> None:
        """Give the server up, and all streams; see ``seams.Engine``."""
        watched: list[Watched] = [
            each.watched for each in self.exchanges.values() if each.watched is not None
        ]
        for each in watched:
            each.lose()
        self._end(NotOpened.LOST, "the server does not answer")

    def shut_down(self, *, tunnels: bool = True) -> None:
        """Open no more, and end with the last tunnel; ``tunnels``: close each."""
        self.leaving = True
        if tunnels:
            for stream in list(self.exchanges.values()):
                if stream.asked is Asked.TUNNEL:
                    stream.sink.shut_down()
                else:
                    self.end_stream(stream, Cause.RESET_BY_US, ErrorCode.CANCEL)
        self._close_if_idle()

    # What the reader says ---------------------------------------------------------

    def receive_request(
        self, stream_id: int, fields: list[Field], *, ended: bool
    ) -> None:
        """End the connection: a server opens no streams (RFC 9113 §5.1.1, §8.4)."""
        self.fail(ErrorCode.PROTOCOL_ERROR)

    def receive_body(
        self, exchange: H2ClientStream, data: bytes, *, ended: bool
    ) -> None:
        """Take a piece of a tunnel, or of a refusal; ``ended``: the last."""
        if data:
            exchange.receive_data(data)
        if ended and not exchange.closed:
            exchange.receive_end()

    def receive_trailers(
        self, exchange: H2ClientStream, fields: list[Field], *, ended: bool
    ) -> None:
        """Take HEADERS of a stream that we have opened."""
        exchange.receive_head(fields, ended=ended)

    def receive_reset(self, exchange: H2ClientStream, code: int) -> None:
        """Take the server's RST_STREAM."""
        self.end_stream(exchange, Cause.RESET_BY_PEER, code)

    def receive_pong(self, payload: bytes) -> None:
        """Take the answer to a PING; tell the tunnels how long it took."""
        sent = self._ping_sent
        if sent is None or payload != _ALIVE_PING:
            return
        self._ping_sent = None
        self._probe_deadline.set(None)
        seconds = self._connection.time() - sent
        for stream in self.exchanges.values():
            if stream.watched is not None:
                stream.watched.measured(seconds)

    def settings_acknowledged(self) -> None:
        """Our settings are in force."""
        self._ack_deadline.set(None)
        super().settings_acknowledged()

    def settings_changed(self, settings: dict[Setting, int]) -> None:
        """Take the server's SETTINGS; the first say whether it has tunnels."""
        if settings.get(Setting.ENABLE_PUSH):  # RFC 9113 §6.5.2
            self.fail(ErrorCode.PROTOCOL_ERROR)
            return
        super().settings_changed(settings)
        self._full = False
        if (limit := settings.get(Setting.MAX_CONCURRENT_STREAMS)) is not None:
            ours = self._connection.config.h2_max_concurrent_streams
            self._limit = min(limit, ours)  # RFC 9113 §5.1.2: of open streams none ends
        if settings.get(Setting.ENABLE_CONNECT_PROTOCOL):
            self.supported = True  # RFC 8441 §3: for good
        elif self.supported is None:
            self.supported = False
        self._changed()

    def receive_goaway(self, last_stream: int, code: int, debug: bytes) -> None:
        """Take the server's GOAWAY: what is above ``last_stream`` was not looked at."""
        text = f"the server ends the connection ({_name(code)})"
        self.leaving = True
        for stream in list(self.exchanges.values()):
            if stream.stream_id > last_stream:  # RFC 9113 §6.8
                self._close_stream(stream, Cause.RESET_BY_PEER, NotOpened.REFUSED, text)
        self._close_if_idle(text)
        self._changed()

    def fail_stream(self, stream_id: int, code: int) -> None:
        """Reset a stream on which the server broke a rule."""
        stream = self.exchanges.get(stream_id)
        if stream is None:
            self._output.reset(stream_id, code)
            self._reader.stream_reset(stream_id, by_peer=False)
        else:
            self.end_stream(stream, Cause.FAULT, code)

    def fail(self, code: int) -> None:
        """End the connection with an error: the server broke a rule."""
        self._end(
            NotOpened.INVALID, f"the server broke HTTP/2 ({_name(code)})", code=code
        )

    # What a stream says -----------------------------------------------------------

    def end_stream(self, stream: H2Stream, cause: Cause, code: int = 0) -> None:
        """Close an open stream; ``code`` is that of RST_STREAM where one is sent."""
        if cause in _SENDS_RESET:
            self._output.reset(stream.stream_id, code)
        why = _WHY.get(code, NotOpened.CANCELLED)
        text = f"the server reset the stream ({_name(code)})"
        if cause is Cause.RESET_BY_US:
            text = "the client has given up"
        elif cause is Cause.FAULT:
            why, text = NotOpened.INVALID, f"the server broke HTTP/2 ({_name(code)})"
        self._close_stream(self.exchanges[stream.stream_id], cause, why, text)
        if cause is Cause.RESET_BY_PEER and why is NotOpened.REFUSED:
            self._full = True
            self.leaving = self.leaving or not self.exchanges
        self._close_if_idle()
        self._changed()

    # Inside -----------------------------------------------------------------------

    def _ping(self) -> None:
        if self._ping_sent is None:
            self._ping_sent = self._connection.time()
        self._output.frames.append(frames.frame(frames.PING, 0, 0, _ALIVE_PING))

    def _leave(self) -> None:
        self.shut_down(tunnels=False)
        self._changed()

    def _close_stream(
        self, stream: H2ClientStream, cause: Cause, why: NotOpened, text: str
    ) -> None:
        stream.cut()
        del self.exchanges[stream.stream_id]
        self._full = False
        if cause is Cause.COMPLETE:
            self._reader.stream_closed(stream.stream_id)
        else:
            by_peer = cause is Cause.RESET_BY_PEER
            self._reader.stream_reset(stream.stream_id, by_peer=by_peer)
        stream.gone(why, text, complete=cause is Cause.COMPLETE)

    def _close_if_idle(self, text: str = "") -> None:
        """End the connection in order, if it leaves and there is nothing to wait for.

        ``text`` says why, where the server has never said what it has.
        """
        if self.leaving and not self.exchanges:
            self._end(NotOpened.REFUSED, text, code=ErrorCode.NO_ERROR)

    def _end(self, why: NotOpened, text: str, *, code: int = 0) -> None:
        """End the connection, and what is open: GOAWAY, then close."""
        if self.closing:
            return
        self.stop()
        self.leaving = True
        self.end = (why, text)
        self._ack_deadline.set(None)
        self._probe_deadline.set(None)
        for stream in list(self.exchanges.values()):
            self._close_stream(stream, Cause.LOST, why, text)
        if not self._lost:
            self._output.frames.append(frames.goaway(0, code))
            self._connection.flush(soon=True)
        self._changed()

    def _settings_late(self) -> None:
        self._end(
            NotOpened.INVALID,
            "the server does not acknowledge our SETTINGS",
            code=ErrorCode.SETTINGS_TIMEOUT,  # RFC 9113 §6.5.3
        )


def _name(code: int) -> str:
    """Return the name of an error code, or its number (RFC 9113 §7)."""
    try:
        return ErrorCode(code).name
    except ValueError:
        return hex(code)
