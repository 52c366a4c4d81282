"""``H1Client``: one WebSocket over HTTP/1.1, from the client's side (RFC 6455 §4.1).

Theory of operation. ``open`` sends one request, whose head it is given, and the engine
reads one answer. Interim answers (1xx) are skipped. 101 makes the connection a tunnel,
whatever follows it belongs to that; any other answer is a refusal, whose content is
kept as far as ``_MAX_BODY``. The ``Opener`` is told once, and says what the fields of a
101 are worth. Then the connection ends with the tunnel.

Everything before the tunnel is bounded: all heads together by ``max_header_bytes``,
interim ones by ``_MAX_INTERIM`` as well, the content in bytes and in time.

Invariants: ``_enter`` alone sets the phase; the opener is told exactly once; after
``CLOSING`` nothing is queued.
"""

import enum
import logging
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from tako.core.error_code import ErrorCode
from tako.core.seams import (
    Engine,
    Exchange,
    NotOpened,
    Opener,
    ServerConnection,
    Sink,
)
from tako.core.shared_frame import SharedFrame
from tako.core.states import CHECKED, check_transition
from tako.core.views import EngineView
from tako.errors import Disconnected, HttpError
from tako.h1.backpressure import BodyRate, ReadGate
from tako.h1.endpoint import H1Endpoint, H1Pipe
from tako.h1.request_body import ChunkedBody, LengthBody
from tako.http.answer import HandshakeResponse
from tako.http.grammar import FIELD_CHAR, content_length, members
from tako.http.headers import Headers
from tako.http.response_fields import NO_CONTENT
from tako.native.loops import Inbox, encode_masked_frame, split_fields


if TYPE_CHECKING:
    from tako.core.deadlines import Deadline
    from tako.http.headers import RawHeader


_logger: Final = logging.getLogger("tako.h1")

STATUS_LINE: Final = re.compile(  # RFC 9112 §4
    rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: " + FIELD_CHAR + rb"*+)?\r\n"
)
_LF_ALONE: Final = re.compile(rb"(?<!\r)\n")
_MAX_INTERIM: Final = 16  # answers
_MAX_BODY: Final = 4096  # bytes of a refusal that are kept
_BODY_TIMEOUT: Final = 1.0  # seconds for them


class ClientPhase(enum.IntEnum):
    """What received bytes are."""

    UNASKED = 0
    """A mistake: there is no request yet."""
    HEAD = 1
    """The head of the answer, or of an interim one."""
    BODY = 2
    """The content of a refusal."""
    TUNNEL = 3
    """Bytes of the tunnel behind 101; they wait until it has a sink."""
    CLOSING = 4
    """Dropped: nothing more is queued; the connection closes once all is written."""


_NEXT: Final[dict[ClientPhase, frozenset[ClientPhase]]] = {
    ClientPhase.UNASKED: frozenset({ClientPhase.HEAD, ClientPhase.CLOSING}),
    ClientPhase.HEAD: frozenset(
        {ClientPhase.BODY, ClientPhase.TUNNEL, ClientPhase.CLOSING}
    ),
    ClientPhase.BODY: frozenset({ClientPhase.CLOSING}),
    ClientPhase.TUNNEL: frozenset({ClientPhase.CLOSING}),
    ClientPhase.CLOSING: frozenset(),
}


class H1Client(H1Endpoint):
    """One request and its answer on a connection; implements ``seams.Engine``."""

    __slots__ = (
        "_body",
        "_content",
        "_deadline",
        "_head_bytes",
        "_interim",
        "_lost",
        "_opener",
        "_received",
        "_refusal",
        "_scanned",
        "_tunnel",
        "phase",
    )

    def __init__(self, connection: ServerConnection) -> None:
        """Begin a connection, for one request."""
        super().__init__(connection)
        self._opener: Opener | None = None
        self.phase: ClientPhase = ClientPhase.UNASKED
        self._received = bytearray()  # part of a head, or the beginning of the tunnel
        self._scanned = 0  # bytes of ``_received`` without the end of a head
        self._head_bytes = 0  # of the interim answers
        self._interim = 0
        self._refusal: HandshakeResponse | None = None
        self._body: LengthBody | ChunkedBody | None = None
        self._content = bytearray()
        self._deadline: Deadline | None = None
        self._tunnel: H1ClientTunnel | None = None
        self._lost = False
        self._gate = ReadGate(connection, BodyRate(connection, _never), self._eof_waits)

    def _enter(self, phase: ClientPhase) -> None:
        base: Engine = self
        if CHECKED:
            check_transition(_NEXT, self.phase, phase)
        self.phase = phase
        if phase is ClientPhase.CLOSING:
            self._forget_tunnel()
            self._received.clear()
            if self._tunnel is not None:
                self._tunnel.over = True
            base.closing = True
        _logger.debug("%#x: client's connection is %s", id(self), phase.name)

    def open(self, opener: Opener, head: bytes) -> None:
        """Send the request, once.

        Args:
            opener: is told of the answer.
            head: the head of the request.
        """
        self._enter(ClientPhase.HEAD)
        self._opener = opener
        self._out.append(head)
        self.connection.flush(soon=True)

    # seams.Engine ------------------------------------------------------------------

    def receive_data(self, data: bytes) -> Sequence[Exchange] | None:
        """Take bytes from the server; a client gets no requests."""
        sink = self._sink
        if sink is not None:
            gate, inbox = self._gate, self._inbox
            gate.unread += len(data)
            if inbox is None or not inbox.take(data):
                sink.deliver(data)
            if gate.unread > gate.limit:
                gate.received(len(data))
            return () if self._out or self._sink is None else None
        if self.phase is ClientPhase.HEAD:
            self._received += data
            while self._read_head():
                pass
        elif self.phase is ClientPhase.BODY:
            self._read_body(data)
        elif self.phase is ClientPhase.TUNNEL:
            self._received += data
        else:
            self.close()
        return ()

    def receive_eof(self) -> None:
        """Take the server's FIN or close_notify."""
        if self._sink is not None:
            self._sink.deliver_eof()
        elif self.phase is ClientPhase.BODY:
            self._refused()
        elif self.phase is ClientPhase.HEAD:
            self._fail(NotOpened.LOST, "the server closed the connection")
        else:
            self.close()

    def describe(self) -> EngineView:
        """Return the phase; see ``seams.Engine``."""
        return EngineView(phase=self.phase.name)

    def connection_lost(self) -> None:
        """Tell the sink, or the opener, that the transport is gone."""
        self._lost = True
        sink = self._sink
        if self.phase is ClientPhase.BODY:
            self._refused()
        elif self.phase is ClientPhase.HEAD:
            self._fail(NotOpened.LOST, "the connection was lost")
        else:
            self.close()
        if self._deadline is not None:
            self._deadline.close()
        if sink is not None:
            sink.deliver_eof(Disconnected("the connection was lost"))
        self._gate.close()
        self._tunnel = None

    def wake_writers(self) -> None:
        """Wake the writers of the tunnel: the transport takes output again."""
        if self._sink is not None:
            self._sink.wake_writer()

    def shut_down(self, *, tunnels: bool = True) -> None:
        """Close the tunnel in order; before there is one, the connection."""
        if self._sink is None:
            self._fail(NotOpened.CANCELLED, "the client is closed")
        elif tunnels:
            self._sink.shut_down()

    def close(self) -> None:
        """Let the connection close once all is written."""
        if self.phase is not ClientPhase.CLOSING:
            self._enter(ClientPhase.CLOSING)

    # The answer --------------------------------------------------------------------

    def _read_head(self) -> bool:
        """Read a head if it is complete; tell whether another may follow."""
        received, config = self._received, self.connection.config
        scanned, self._scanned = self._scanned, len(received)
        end = received.find(b"\r\n\r\n", max(0, scanned - 3)) + 4
        if self._head_bytes + max(end, len(received) if end < 4 else 0) > (
            config.max_header_bytes
        ):
            self._fail(NotOpened.INVALID, "the head of the answer is too large")
            return False
        if end < 4:
            # RFC 9112 §2.2 lets lines end with LF alone: no server that we know does
            if not received.startswith(b"HTTP/1."[: len(received)]) or (
                _LF_ALONE.search(received, scanned)
            ):
                self._fail(NotOpened.INVALID, "the answer is not HTTP/1.1")
            return False
        raw = bytes(received[:end])
        del received[:end]
        self._scanned = 0
        line = STATUS_LINE.match(raw)
        if line is None:
            self._fail(NotOpened.INVALID, "the answer is not HTTP/1.1")
            return False
        fields, stop = split_fields(raw, line.end(), config.max_headers)
        if stop != end - 2:  # RFC 9112 §2.1: an empty line ends the fields
            self._fail(NotOpened.INVALID, "the fields of the answer are malformed")
            return False
        status = int(line[2])
        if 100 <= status < 200 and status != 101:  # RFC 9110 §15.2
            self._head_bytes += end
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                self._fail(NotOpened.INVALID, "there are too many interim answers")
            return self._interim <= _MAX_INTERIM
        response = HandshakeResponse(status, Headers.from_raw(fields), "1.1")
        if status != 101:
            self._receive_refusal(response, fields)
        elif line[1] == b"0":  # RFC 9110 §7.8: not in HTTP/1.0
            self._fail(NotOpened.INVALID, "101 comes in HTTP/1.0")
        else:
            self._enter(ClientPhase.TUNNEL)
            self._tunnel = H1ClientTunnel(self, self._out, over=False)
            self._tell(response, self._tunnel)
        return False

    def _receive_refusal(
        self, response: HandshakeResponse, fields: "list[RawHeader]"
    ) -> None:
        """Begin to keep the content of a refusal (RFC 9112 §6.3)."""
        self._enter(ClientPhase.BODY)
        self._refusal = response
        codings = members([v for n, v in fields if n == b"transfer-encoding"])
        lengths = {v for n, v in fields if n == b"content-length"}
        if codings == [b"chunked"]:
            self._body = ChunkedBody(self.connection.config, self.connection.turn)
        elif not codings and len(lengths) == 1:
            length = content_length(lengths.pop())
            if length is not None:
                self._body = LengthBody(length)
        self._deadline = self.connection.deadlines.new(self._refused)
        self._deadline.set(self.connection.time() + _BODY_TIMEOUT)
        data = bytes(self._received)
        self._received.clear()
        self._read_body(data)

    def _read_body(self, data: bytes) -> None:
        body = self._body
        refusal = self._refusal
        # RFC 9112 §6.3 rule 1: it ends with its head
        complete = refusal is not None and refusal.status in NO_CONTENT
        if body is not None and not complete:
            try:
                data = body.receive(data)
            except HttpError:  # where it ends is unknown: what came before is kept
                complete, data = True, b""
            complete = complete or body.complete or body.backlog
        self._content += data[: _MAX_BODY - len(self._content)]
        if complete or len(self._content) >= _MAX_BODY:
            self._refused()

    def _refused(self) -> None:
        """Tell the opener that the server refuses, with the content that came."""
        response = self._refusal
        self.close()
        if response is not None:
            body = bytes(self._content)
            self._tell(
                HandshakeResponse(response.status, response.headers, "1.1", body), None
            )
        if not self._lost:
            self.connection.flush()

    def _tell(
        self, response: HandshakeResponse, tunnel: "H1ClientTunnel | None"
    ) -> None:
        opener, self._opener = self._opener, None
        if opener is not None:
            opener.answered(response, tunnel)

    def _fail(self, why: NotOpened, text: str) -> None:
        self.close()
        opener, self._opener = self._opener, None
        if opener is not None:
            opener.not_opened(why, text)

    # The tunnel --------------------------------------------------------------------

    def receive_into(self, sink: Sink, inbox: Inbox | None) -> None:
        """Hand all further bytes to ``sink``, beginning with those that wait."""
        early = bytes(self._received)
        self._received.clear()
        self._sink, self._inbox = sink, inbox
        if early:
            self._gate.unread += len(early)
            sink.deliver(early)
            self._gate.settle()

    def _eof_waits(self) -> None:
        """The server has ended its direction behind input that is not read yet."""


def _never() -> None:
    """Stand in for what a client does not watch: how fast it is sent to."""


class H1ClientTunnel(H1Pipe[H1Client]):
    """The byte pipe behind 101; implements ``seams.Tunnel``."""

    __slots__ = ()

    def receive_into(self, sink: Sink, inbox: Inbox | None = None) -> None:
        """Deliver to ``sink`` what the server sends; see ``seams.Tunnel``."""
        if self.over:
            sink.deliver_eof(Disconnected())
        else:
            self._engine.receive_into(sink, inbox)

    def send_frame(self, first_byte: int, payload: str | bytes, *, soon: bool) -> bool:
        """Queue a masked frame and flush it; see ``seams.Tunnel``."""
        connection = self.connection
        if self.over:
            return connection.writable
        frame = encode_masked_frame(first_byte, payload)
        if soon or self._out or not connection.write(frame, False):
            self._out.append(frame)
            connection.flush(soon=soon)
        return connection.writable

    def send_shared(self, frame: SharedFrame, soon: bool) -> bool:
        """Queue a frame, masked, if there is room; see ``seams.Tunnel``."""
        if self.over or not self.connection.writable:
            return False
        self.send_frame(frame.first_byte, frame.payload, soon=soon)
        return True

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Queue bytes; ``end``: then close. See ``seams.Tunnel``.

        A client ends a tunnel when the server has (RFC 6455 §7.1.1), so that nothing
        is left to be read.
        """
        if self.over:
            return
        if data:
            self._out.append(data)
        if end:
            self._engine.close()

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut the connection off; see ``seams.Tunnel``."""
        self._engine.close()
        if code is ErrorCode.NO_ERROR:
            self.connection.flush()
        else:
            self.connection.abort()

    def cancel_at(self, when: float) -> None:
        """Do nothing: no task is the tunnel's own; see ``seams.Tunnel``."""
