"""``H1Exchange``: one request and its answer on an HTTP/1.1 connection.

Theory of operation. An exchange is made with its request and writes the response into
the engine's output. It holds the handler to the message syntax: one head, as much body
as was announced, nothing after the end; a mistake raises before a byte of it is queued.
``ResponseState`` says how far the response is, and ``_enter`` alone changes that. After
``open_tunnel`` the rest is the tunnel's.

Invariants: ``_left`` is what a Content-Length still promises; nothing is queued by an
exchange that is cut off.
"""

import logging
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final

from tako.core.error_code import ErrorCode
from tako.core.request_body import BodySink
from tako.core.response_state import ResponseState
from tako.core.seams import PIECE, Exchange
from tako.core.states import CHECKED, bits_of, check_transition
from tako.core.views import StreamView
from tako.errors import LocalProtocolError
from tako.h1.response_head import (
    CONTINUE,
    FinalHead,
    Framing,
    connection_lines,
    final_head,
    framing_of,
    head_end,
    status_line,
)
from tako.h1.tunnel import H1Tunnel
from tako.http.headers import RawHeader
from tako.http.request_head import RequestHead
from tako.http.request_of import request_of
from tako.http.response_fields import WITHOUT_BODY, ResponseFields, read_fields


if TYPE_CHECKING:
    from tako.h1.engine import H1Engine
    from tako.http.request_facts import RequestFacts


_logger: Final = logging.getLogger("tako.h1")


_NEXT: Final[dict[ResponseState, frozenset[ResponseState]]] = {
    ResponseState.NO_HEAD: frozenset(
        {ResponseState.BODY, ResponseState.SWITCHED, ResponseState.CUT_OFF}
    ),
    ResponseState.BODY: frozenset({ResponseState.ENDED, ResponseState.CUT_OFF}),
    ResponseState.SWITCHED: frozenset({ResponseState.ENDED, ResponseState.CUT_OFF}),
    ResponseState.ENDED: frozenset({ResponseState.CUT_OFF}),
    ResponseState.CUT_OFF: frozenset(),
}
_MAY_FOLLOW: Final = bits_of(_NEXT)
_SENT: Final = "the response head was sent already"
_AT_ONCE: Final = (
    1 << 20
)  # bytes: a third of a millisecond's work of the kernel's at most
# Used for every request; CPython 3.13 looks up members of an enum slowly.
_BODY: Final = ResponseState.BODY
_ENDED: Final = ResponseState.ENDED
_CUT_OFF: Final = ResponseState.CUT_OFF


class H1Exchange(Exchange):
    """One request and its answer; implements ``seams.Exchange``."""

    __slots__ = (
        "_awaits_continue",
        "_engine",
        "_framing",
        "_left",
        "_out",
        "_probed",
        "cut_off",
        "handler_ended",
        "head",
        "persistent",
        "state",
    )

    def __init__(
        self, engine: "H1Engine", head: RequestHead, out: list[bytes | memoryview]
    ) -> None:
        """Make the exchange of an accepted head.

        Args:
            engine: the connection's engine.
            head: the request.
            out: where output is queued.
        """
        super().__init__(engine.connection)
        base: Exchange = self
        self._engine = engine
        self._out = out
        self._framing = Framing.NONE
        self._left = 0
        self._probed = False  # the size of the next chunk has begun
        self._awaits_continue = head.expects_continue
        self.head: RequestHead = head
        self.persistent: bool = head.persistent
        base.body = BodySink(
            self, self._send_continue if head.expects_continue else None
        )
        base.sink = self.body
        self.state: ResponseState = ResponseState.NO_HEAD
        self.cut_off: bool = False
        self.handler_ended: bool = False
        scheme = engine.scheme
        if head.scheme is not None and engine.trust_scheme:
            scheme = head.scheme
        base.request = request_of(
            head,
            self,
            self.body,
            scheme,
            engine.conn_info,
            engine.max_body_size,
        )

    def _enter(self, state: ResponseState) -> None:
        base: Exchange = self
        old: int = self.state
        new: int = state
        if CHECKED and not _MAY_FOLLOW[old] >> new & 1:  # a call less per state
            check_transition(_NEXT, self.state, state)
        if self._engine.trace:
            _logger.debug(
                "%#x: response %s -> %s", id(self), self.state.name, state.name
            )
        self.state = state
        if state is _ENDED or state is _CUT_OFF:
            base.over = True
            self.cut_off = state is _CUT_OFF
        else:
            base.head_sent = True

    @property
    def writable(self) -> bool:
        """Whether more output is welcome."""
        return self.connection.writable

    @property
    def error_delay(self) -> float:
        """0: on HTTP/1.1 an error need not wait; see ``seams.Exchange``."""
        return 0.0

    @property
    def at_once(self) -> int:
        """Much where the transport gets what is queued: only TLS makes a copy."""
        return PIECE if self.connection.conn_info.tls is not None else _AT_ONCE

    def writable_again(self) -> Awaitable[None]:
        """Wait until ``writable``, or ``over``. Cancel safety: safe."""
        return self.body.writable_again()

    # ------------------------------------------------------------ the response

    def send_headers(
        self, status: int, headers: Sequence[RawHeader], *, end: bool = False
    ) -> None:
        """Queue the response head; see ``seams.Exchange``."""
        if self.cut_off:
            return
        if self.head_sent:
            raise LocalProtocolError(_SENT)
        if status < 200:
            self._send_interim(status, headers)
            return
        head = final_head(status, headers)
        length = head.said.length
        framing = framing_of(status, self.head.method, length, self.head.version)
        if end and framing is not Framing.NONE:
            if length:
                msg = f"content-length is {length}, but there is no body"
                raise LocalProtocolError(msg)
            framing, length = Framing.LENGTH, 0
        self._send_head(head, framing, length)
        if end:
            self._end()

    def send_response(
        self, status: int, headers: Sequence[RawHeader], body: bytes
    ) -> None:
        """Queue a whole response; see ``seams.Exchange``."""
        if self.head.method == "HEAD" or (status > 200 and status in WITHOUT_BODY):
            self.send_headers(status, headers, end=True)
            return
        if self.cut_off:
            return
        if self.head_sent:
            raise LocalProtocolError(_SENT)
        if status < 200:
            msg = f"a response with the status {status} is not a whole one"
            raise LocalProtocolError(msg)
        head, size = final_head(status, headers), len(body)
        length = head.said.length
        if length is not None and length != size:  # RFC 9112 §6.2: would be misread
            msg = f"content-length is {length}, but the body has {size} bytes"
            raise LocalProtocolError(msg)
        self._send_head(head, Framing.LENGTH, size)
        if body:
            self._out.append(body)
        self._end()

    def _send_head(self, head: FinalHead, framing: Framing, length: int | None) -> None:
        """Queue a final head."""
        base: Exchange = self
        base.status = head.status
        version, said = self.head.version, head.said
        self.persistent = persistent = self._stays_open(said, framing)
        self._out.append(head.framed(framing, length))
        lines = connection_lines(
            said, status=head.status, persistent=persistent, version=version
        )
        if lines:
            self._out.append(lines)
        self._out.append(head_end(said))
        self._enter(_BODY)
        self._awaits_continue = False
        self._framing = framing
        self._left = length or 0

    def _stays_open(self, ours: ResponseFields, framing: Framing) -> bool:
        if ours.close or framing is Framing.CLOSE or not self.persistent:
            return False
        head = self.head
        if self._awaits_continue and not self.body.complete:
            return False  # RFC 9110 §10.1.1: a body may follow or not
        if head.websocket and (head.has_body or self._engine.has_input):
            return False  # RFC 9112 §9.6: bytes meant as frames must not be parsed
        return self._engine.keeps_alive

    def _send_interim(self, status: int, headers: Sequence[RawHeader]) -> None:
        if status == 101:  # RFC 9110 §15.2.2
            msg = "101 is what open_tunnel sends"
            raise LocalProtocolError(msg)
        line = status_line(status)
        if self.head.version == "1.0":  # RFC 9110 §15.2: never to an HTTP/1.0 client
            return
        if status == 100:
            self._send_continue()
            return
        lines = read_fields(status, headers).lines
        self._out.append(b"".join([line, *lines, b"\r\n"]))

    def _send_continue(self) -> None:
        """Ask for the body if the client waits to be asked (RFC 9110 §10.1.1)."""
        if self._awaits_continue and not self.over:
            self._awaits_continue = False
            self._out.append(CONTINUE)
            self._engine.body_expected()
            self.connection.flush()

    def body_arrives(self) -> None:
        """Take note that the client did not wait for ``100``."""
        self._awaits_continue = False

    @property
    def awaits_continue(self) -> bool:
        """The client holds the body back until it sees ``100``."""
        return self._awaits_continue

    def send_data(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue bytes of the body; see ``seams.Exchange``."""
        if self.cut_off:
            return
        self._check_data(data, end=end)
        if data:
            self._queue(data)
        if end:
            if self._framing is Framing.CHUNKED:
                self._out.append(b"0\r\n\r\n")
            self._end()

    def send_file(self, file: int, offset: int, size: int) -> int:
        """Send bytes of a file without a copy; see ``seams.Exchange``.

        Not in chunks: of one that is begun the size is promised, and files shrink.
        """
        if self.state is not _BODY or self._framing is not Framing.LENGTH:
            return 0
        sent = self.connection.send_file(file, offset, min(size, self._left))
        self._left -= sent
        return sent

    def _check_data(self, data: bytes | memoryview, *, end: bool) -> None:
        if self.state is not _BODY:
            where = "after the end of the response" if self.head_sent else "before it"
            msg = f"body data {where}"
            raise LocalProtocolError(msg)
        if self._framing is not Framing.LENGTH:
            return
        left = self._left - len(data)
        if left < 0 or (end and left):  # RFC 9112 §6.2: what follows would be misread
            how = "longer" if left < 0 else "shorter"
            msg = f"the body is {how} than content-length"
            raise LocalProtocolError(msg)

    def _queue(self, data: bytes | memoryview) -> None:
        framing = self._framing
        if framing is Framing.LENGTH:
            self._left -= len(data)
            self._out.append(data)
        elif framing is Framing.CHUNKED:  # RFC 9112 §7.1
            self._probed = False
            self._out += (b"%x\r\n" % len(data), data, b"\r\n")
        elif framing is Framing.CLOSE:  # else HEAD, 204 or 304: no body
            self._out.append(data)

    def probe(self) -> None:
        """Send a byte that means nothing, if possible, to see whether the peer is gone.

        RFC 9112 §7.1: a chunk's size may begin with zeros, and so may the last one's.
        """
        if self._framing is Framing.CHUNKED and not (self.over or self._probed):
            self._probed = True
            self._out.append(b"0")

    def send_trailers(self, trailers: Sequence[RawHeader]) -> None:
        """Queue trailers and end the response; see ``seams.Exchange``."""
        if self.cut_off:
            return
        lines = read_fields(200, trailers).lines
        if self._framing is not Framing.CHUNKED:  # RFC 9112 §7.1.2: only there
            self.send_data(b"", end=True)
            return
        self._check_data(b"", end=True)
        self._out.append(b"".join([b"0\r\n", *lines, b"\r\n"]))
        self._end()

    def _end(self) -> None:
        self._enter(_ENDED)
        self._engine.answered(self)

    # -------------------------------------------------------------- the tunnel

    def open_tunnel(self, status: int, headers: Sequence[RawHeader]) -> H1Tunnel:
        """Answer 101; return the byte pipe behind it. See ``seams.Exchange``."""
        base: Exchange = self
        tunnel = H1Tunnel(self._engine, self, self._out)
        if self.cut_off:
            return tunnel
        if self.head_sent or not self.head.websocket or self.head.has_body:
            msg = "this exchange cannot become a tunnel"
            raise LocalProtocolError(msg)
        ours = read_fields(status, headers)
        if self._awaits_continue:  # RFC 9110 §7.8: 100 before 101
            self._awaits_continue = False
            self._out.append(CONTINUE)
        ours.upgrade = b"websocket"  # RFC 6455 §4.2.2, whatever the app gave
        # RFC 9110 §8.6, RFC 9112 §6.1: no framing fields on 1xx
        lines = (
            status_line(status),
            *ours.lines,
            connection_lines(ours, status=status, persistent=True, version="1.1"),
            head_end(ours),
        )
        self._out.append(b"".join(lines))
        self._enter(ResponseState.SWITCHED)
        base.tunnel = True
        self._engine.tunnel_opened(tunnel)
        return tunnel

    def tunnel_ended(self) -> None:
        """Take note that the end was queued in the tunnel."""
        self._enter(ResponseState.ENDED)
        self._engine.tunnel_ended()

    # ------------------------------------------------------------------ both

    def consumed(self, size: int) -> None:
        """Give credit for ``size`` bytes; see ``seams.Exchange``."""
        if not self.cut_off:
            self._engine.consumed(size)

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut the connection off; see ``seams.Exchange``."""
        if self.cut_off:
            return
        # RFC 9112 §8: a response without its last chunk or byte shows to be incomplete,
        # so no TCP reset is needed and the client gets all that was sent before.
        shows = self.head_sent and self._framing in {Framing.LENGTH, Framing.CHUNKED}
        in_order = code is ErrorCode.NO_ERROR or (
            code is ErrorCode.INTERNAL_ERROR and shows
        )
        self.cut()
        self._engine.close()
        if in_order:
            self.connection.close()
        else:
            self.connection.abort()

    def cut(self) -> None:
        """Make everything here a no-op: the peer or the connection is gone."""
        if not self.cut_off:
            self._enter(_CUT_OFF)

    def describe(self) -> StreamView:
        """Return how far the response is; see ``seams.Exchange``."""
        return StreamView(stream=0, state=self.state.name)

    def ended(self) -> None:
        """Note that the handler has ended; see ``seams.Exchange``."""
        self.handler_ended = True
        self._engine.handler_ended(self)

    def release(self) -> None:
        """Let go of request and sink: the exchange is over, and its handler has ended.

        They refer to each other; without the cut each would wait for the collector.
        """
        base: Exchange = self
        base.sink = self.body
        self.body.release()
        request: RequestFacts = self.request
        request.exchange = None

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued; see ``seams.Exchange``."""
        self.connection.flush(soon=soon)
