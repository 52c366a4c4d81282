"""``H1Engine``: HTTP/1.1 on one connection (RFC 9112).

Theory of operation. The connection is always in one phase, and received bytes mean
something different in each; ``H1Phase`` says what, ``_NEXT`` what may follow, and
``_enter`` is the one place that changes it.

Requests are answered one at a time: the next head is not looked at before the exchange
is settled, that is, the response is complete, its handler has ended, and the request
body was read to its end. Each of the three is an event: ``answered``,
``handler_ended``, ``_complete_body``. Behind the last of them either the bytes that
wait are announced as ``backlog``, or the idle time begins. What cannot be settled in
that way ends the connection (``close``), and nothing that arrives afterwards is parsed.

Two facts are apart from the phase: the peer's end was received (``_eof``), and the
server drains (``_draining``). Both mean that an exchange may be the last one; the
events ask ``_reusable``.

Invariants: ``_exchange`` is ``None`` where a head is due, ``_body`` is set in ``BODY``
and ``DRAIN``, where the ``HeadBuffer`` is empty; an exchange that is forgotten or
refused is cut off first.
"""

import enum
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from tako.core.counters import hit
from tako.core.half_closed import HalfClosed
from tako.core.seams import Connection, Engine, ServerConnection, Sink
from tako.core.states import CHECKED, bits_of, check_transition
from tako.core.views import EngineView
from tako.errors import Disconnected, HttpError, RemoteProtocolError
from tako.h1.backpressure import MAX_WAITING, BodyRate, ReadGate
from tako.h1.endpoint import H1Endpoint
from tako.h1.exchange import H1Exchange
from tako.h1.head_parser import HeadBuffer
from tako.h1.request_body import ChunkedBody, LengthBody, RequestBody
from tako.h1.response_head import refusal
from tako.h1.tunnel import H1Tunnel
from tako.http.conn_info import scheme_of
from tako.http.request_head import RequestHead
from tako.native.loops import Inbox


if TYPE_CHECKING:
    from tako.core.loop import Clock
    from tako.http.conn_info import ConnInfo

MAX_DRAINED: Final = 64 * 1024  # bytes of a body that no handler wants
_LAST_HEAD: Final = 1.0  # seconds for a request on its way when the server drains

_logger: Final = logging.getLogger("tako.h1")


class H1Phase(enum.IntEnum):
    """What received bytes mean. In the last three they are dropped."""

    FIRST_HEAD = 0
    """The head of the first request."""
    HEAD = 1
    """The head of the next request; the connection is idle until it begins."""
    HEAD_OR_FRAME = 2
    """As ``HEAD``, behind a refused upgrade: the client may have sent frames."""
    BODY = 3
    """The body of the request."""
    BUSY = 4
    """Bytes behind a complete request; they wait until it is answered."""
    DRAIN = 5
    """As ``BODY``, but the handler has ended: up to 64 KiB are read and dropped."""
    TUNNEL = 6
    """Bytes of the tunnel behind 101; they wait until it has a sink."""
    LAST_ANSWER = 7
    """Dropped: the body is broken, but the answer had begun and goes on."""
    HALF_CLOSED = 8
    """Dropped: we have ended the tunnel, the peer has not (RFC 6455 §7.1.1)."""
    CLOSING = 9
    """Dropped: nothing more is queued; the connection closes once all is written."""


_NEXT: Final[dict[H1Phase, frozenset[H1Phase]]] = {
    H1Phase.FIRST_HEAD: frozenset({H1Phase.BODY, H1Phase.BUSY, H1Phase.CLOSING}),
    H1Phase.HEAD: frozenset({H1Phase.BODY, H1Phase.BUSY, H1Phase.CLOSING}),
    H1Phase.HEAD_OR_FRAME: frozenset({H1Phase.BODY, H1Phase.BUSY, H1Phase.CLOSING}),
    H1Phase.BODY: frozenset(
        {H1Phase.BUSY, H1Phase.DRAIN, H1Phase.LAST_ANSWER, H1Phase.CLOSING}
    ),
    H1Phase.BUSY: frozenset(
        {H1Phase.HEAD, H1Phase.HEAD_OR_FRAME, H1Phase.TUNNEL, H1Phase.CLOSING}
    ),
    H1Phase.DRAIN: frozenset({H1Phase.HEAD, H1Phase.CLOSING}),
    H1Phase.TUNNEL: frozenset({H1Phase.HALF_CLOSED, H1Phase.CLOSING}),
    H1Phase.LAST_ANSWER: frozenset({H1Phase.CLOSING}),
    H1Phase.HALF_CLOSED: frozenset({H1Phase.CLOSING}),
    H1Phase.CLOSING: frozenset(),
}
_MAY_FOLLOW: Final = bits_of(_NEXT)
_FIRST_DEAF: Final = int(H1Phase.LAST_ANSWER)
# Used for every request; CPython 3.13 looks up members of an enum slowly.
_HEAD: Final = H1Phase.HEAD
_BODY: Final = H1Phase.BODY
_BUSY: Final = H1Phase.BUSY
_HEAD_OR_FRAME: Final = H1Phase.HEAD_OR_FRAME


class HeadClock:
    """The deadline of the next request head; stopped while there is an exchange.

    Args:
        connection: the connection.
        late: called when the time is up.
    """

    __slots__ = ("_between", "_deadline", "_idle", "_read", "_time")

    def __init__(self, connection: Connection, late: Callable[[], None]) -> None:
        config = connection.config
        self._time: Clock = connection.time
        self._read = config.header_read_timeout
        between = config.keep_alive_timeout
        self._between = self._read if between is None else between
        self._deadline = connection.deadlines.new(late)
        self._idle = False  # between requests, on the keep-alive time
        self.expect()

    def expect(self) -> None:
        """Start the time for a head: it is due, or has begun."""
        self._idle = False
        self._start(self._read)

    def idle(self) -> None:
        """Start the keep-alive time: no byte of another request is here."""
        self._idle = self._between is not self._read
        self._start(self._between)

    def begun(self) -> None:
        """End the keep-alive time: a head has begun."""
        if self._idle:
            self.expect()

    def hurry(self) -> None:
        """Give a head that is on its way a second to arrive: the server drains."""
        soon = self._time() + _LAST_HEAD
        if self._deadline.when is None or self._deadline.when > soon:
            self._deadline.set(soon)

    def stop(self) -> None:
        """Stop the time: no head is due."""
        self._deadline.set(None)

    def close(self) -> None:
        """Stop for good, and let go of the engine: the connection is lost."""
        self._deadline.close()

    def _start(self, timeout: float | None) -> None:
        self._deadline.set(None if timeout is None else self._time() + timeout)


class H1Engine(H1Endpoint):
    """HTTP/1.1 on one connection; implements ``seams.Engine``.

    Args:
        connection: the connection.

    Attributes:
        conn_info: that of the connection.
        keeps_alive: the connection may carry another request.
        max_body_size: the default limit of what reads a body, in bytes.
        phase: what received bytes mean.
        scheme: the scheme of requests, unless one names its own and is trusted.
        trace: whether changes of state are logged; decided once, by the log level.
        trust_scheme: a request may name its scheme.
    """

    __slots__ = (
        "_body",
        "_clock",
        "_config",
        "_deaf",
        "_drain_left",
        "_draining",
        "_eof",
        "_exchange",
        "_head",
        "_rate",
        "_tunnel",
        "_tunnels_end",
        "_watch",
        "conn_info",
        "keeps_alive",
        "max_body_size",
        "phase",
        "scheme",
        "trace",
        "trust_scheme",
    )

    def __init__(self, connection: ServerConnection) -> None:
        super().__init__(connection)
        config = connection.config
        self.phase: H1Phase = H1Phase.FIRST_HEAD
        self.keeps_alive: bool = config.keep_alive
        self.conn_info: ConnInfo = connection.conn_info
        self.scheme: str = scheme_of(connection.conn_info)
        self.trust_scheme: bool = config.trust_scheme
        self.max_body_size: int | None = config.max_body_size
        self._deaf = False  # received bytes are dropped
        self._config = config
        self._head = HeadBuffer(config)
        self._exchange: H1Exchange | None = None
        self._body: RequestBody | None = None
        self._tunnel: H1Tunnel | None = None
        self._drain_left = 0
        self._draining = False
        self._tunnels_end = False  # they are told to, as soon as they are there
        self._eof = False
        self.trace: bool = _logger.isEnabledFor(logging.DEBUG)
        self._rate = BodyRate(connection, self._body_too_slow)
        self._gate = ReadGate(connection, self._rate, self._eof_waits)
        self._clock = HeadClock(connection, self._head_too_slow)
        self._watch: HalfClosed[H1Exchange] | None = None  # made at FIN

    def _enter(self, phase: H1Phase) -> None:
        base: Engine = self
        old: int = self.phase
        new: int = phase
        if CHECKED and not _MAY_FOLLOW[old] >> new & 1:  # a call less per phase
            check_transition(_NEXT, self.phase, phase)
        if self.trace:
            _logger.debug("%#x: phase %s -> %s", id(self), self.phase.name, phase.name)
        self.phase = phase
        if new >= _FIRST_DEAF:
            self._deaf = True
            base.half_closed = phase is H1Phase.HALF_CLOSED
            base.closing = phase is H1Phase.CLOSING
            base.backlog = False
            self._body = None
            self._forget_tunnel()
            self._head.take_all()
            if self._tunnel is not None:
                self._tunnel.over = True
                self._tunnel = None

    # ----------------------------------------------------------------- receiving

    def receive_data(self, data: bytes) -> Sequence[H1Exchange] | None:
        """Take bytes from the peer; return the request that they began, if any."""
        base: Engine = self
        sink = self._sink
        if sink is not None:
            gate, inbox = self._gate, self._inbox
            gate.unread += len(data)
            if inbox is None or not inbox.take(data):
                sink.deliver(data)
            if gate.unread > gate.limit:
                gate.received(len(data))
            return () if self._out or self._sink is None else None
        if self._deaf:
            return ()
        exchange, body = self._exchange, self._body
        if exchange is not None:
            if body is not None:
                self._receive_body(exchange, body, data)
            else:
                self._head.data += data
            return self._next_exchange()
        if self.phase is _HEAD and self.connection.writable:  # the usual case
            head = self._head.take_whole(data)
            if head is not None:
                base.backlog = False
                return self._begin(head)
        self._head.data += data
        return self._next_exchange()

    def _next_exchange(self) -> Sequence[H1Exchange]:
        base: Engine = self
        base.backlog = self._body is not None and self._body.backlog
        exchange = self._exchange
        if exchange is not None:
            self._hold(exchange)
            return ()
        if self.phase is _HEAD_OR_FRAME and self._head.is_frame:
            self.close()  # sent in hope of 101 (RFC 9931): never parsed as HTTP
            return ()
        if (
            not self.connection.writable
            and self._head.data
            and self.phase is not H1Phase.FIRST_HEAD
        ):
            base.backlog = True  # the client does not read: no other answer yet
            return ()
        try:
            head = self._head.take()
        except HttpError as fault:
            self._refuse(fault)
            return ()
        if head is not None:
            return self._begin(head)
        if self._eof:
            self.close()  # RFC 9112 §8: an incomplete head is no request
        elif self._head.data:
            self._clock.begun()
        return ()

    def _begin(self, head: RequestHead) -> Sequence[H1Exchange]:
        """Begin the exchange of a head that was accepted."""
        self._clock.stop()
        exchange = self._exchange = H1Exchange(self, head, self._out)
        if head.length == 0:
            self._enter(_BUSY)
            exchange.body.deliver_eof()
        else:
            self._enter(_BODY)
            body: RequestBody = (
                ChunkedBody(self._config, self.connection.turn)
                if head.length is None
                else LengthBody(head.length)
            )
            self._body = body
            early = self._head.take_all()
            if not exchange.awaits_continue:
                self._rate.start()
            if early or self._eof:
                self._receive_body(exchange, body, early)
            if exchange.cut_off:  # refused before a handler saw it
                exchange.release()
                self._exchange = None
                return ()
        if self._head.data or self._gate.queue_shut:  # seldom
            self._hold(exchange)
        if self._eof:
            self._client_left(exchange)
        return (exchange,)

    def _hold(self, exchange: H1Exchange) -> None:
        """Let bytes behind a request wait, but not too many of them."""
        waiting = len(self._head.data)
        if exchange.head.websocket:
            if waiting > MAX_WAITING:
                self._gate.shut_body()
            self._gate.queue(0)  # they are frames, not requests
            return
        if waiting and not exchange.persistent:
            self._head.take_all()  # RFC 9112 §9.6: nothing is processed after "close"
            waiting = 0
        self._gate.queue(waiting)

    def _receive_body(
        self, exchange: H1Exchange, body: RequestBody, data: bytes
    ) -> None:
        base: Engine = self
        if exchange.awaits_continue and data:
            exchange.body_arrives()
            self._rate.start()
        try:
            payload = body.receive(data)
        except HttpError as fault:
            self._fail_body(exchange, fault)
            return
        if payload:
            self._rate.moved(len(payload))
            self._gate.unread += len(payload)
            exchange.body.deliver(payload)
        base.backlog = body.backlog
        if body.complete:
            self._complete_body(exchange, body)
        elif self._eof and not body.backlog:  # all that came before it is read
            self._body_ends_early(exchange)
        elif self.phase is H1Phase.DRAIN:
            self._drain_left -= len(data)
            if self._drain_left < 0:
                self.close()
        else:
            self._gate.received(len(payload))

    def _complete_body(self, exchange: H1Exchange, body: RequestBody) -> None:
        self._body = None
        self._rate.stop()
        self._head.data += body.rest
        sink = exchange.body
        sink.trailers.extend(body.trailers)  # RFC 9110 §6.5.1: never among the fields
        sink.deliver_eof()
        if self.phase is H1Phase.DRAIN:
            self._finish(exchange)
        else:
            self._enter(_BUSY)
            self._close_if_last(exchange)

    def _fail_body(self, exchange: H1Exchange, fault: HttpError) -> None:
        """Give up on a body with an unknown end, and so on the connection."""
        self._rate.stop()
        exchange.persistent = False  # RFC 9112 §6.3: the framing is lost
        if exchange.over:
            self.close()
        elif exchange.head_sent:
            self._enter(H1Phase.LAST_ANSWER)
        else:
            exchange.cut()
            self._refuse(fault, head_only=exchange.head.method == "HEAD")
        exchange.body.deliver_eof(RemoteProtocolError(str(fault)))
        exchange.sink.wake_writer()

    def _refuse(self, fault: HttpError, *, head_only: bool = False) -> None:
        """Answer what cannot be served; nothing after it is parsed."""
        base: Engine = self
        if self._head.is_tls:  # RFC 8446 §5.1: a TLS client would not read an answer
            base.complaint = "TLS on a port for plain HTTP/1.1"
        else:
            hit(self.connection.counters.refused, fault.status)
            head_only = head_only or self._head.data.startswith(b"HEAD ")
            self._out.append(refusal(fault, head_only=head_only))
        self.close()

    def receive_eof(self) -> None:
        """Take the peer's end of data; it may still read (RFC 9112 §9.6)."""
        if self._eof:
            return
        self._eof = True
        exchange = self._exchange
        if exchange is None:
            if not self.backlog:
                self.close()
            return
        if exchange.tunnel:
            exchange.sink.deliver_eof()
            if self.phase is H1Phase.HALF_CLOSED:
                self.close()
        elif self._body is not None and not self.backlog:
            self._body_ends_early(exchange)
        self._client_left(exchange)
        if self.phase is _BUSY:
            self._close_if_last(exchange)

    def _body_ends_early(self, exchange: H1Exchange) -> None:
        # RFC 9112 §8: incomplete, never a success
        self._fail_body(exchange, HttpError(400, "Request body ended early"))

    def _eof_waits(self) -> None:
        """Note that the peer's end waits behind input that is not read for now."""
        if self._exchange is not None:
            self._client_left(self._exchange)

    def _client_left(self, exchange: H1Exchange) -> None:
        """Tell the handler; let the answer go on for as long as it arrives."""
        exchange.body.leave()
        if exchange in self._unanswered():
            if self._watch is None:
                connection = self.connection
                self._watch = HalfClosed(
                    connection, self._unanswered, self._give_up, self._probe
                )
            self._watch.start()

    def _unanswered(self) -> tuple[H1Exchange, ...]:
        exchange = self._exchange
        if exchange is None or exchange.over or exchange.tunnel:
            return ()
        return (exchange,)

    def _probe(self) -> None:
        if self._exchange is not None:
            self._exchange.probe()

    def _give_up(self, _: H1Exchange) -> None:
        self.connection_lost()
        self.connection.abort()

    def connection_lost(self) -> None:
        """The transport is gone: tell the exchange, cancel its handler."""
        exchange, self._exchange = self._exchange, None
        self.close()
        self._out.clear()
        self._release()
        if exchange is None:
            return
        answered = exchange.over and not exchange.cut_off
        exchange.cut()
        exchange.body.leave()
        exchange.sink.deliver_eof(Disconnected())
        # A session ends in its own way, and so does what runs after a whole answer.
        if exchange.task is not None and not exchange.tunnel and not answered:
            exchange.task.cancel()
        if exchange.handler_ended:
            exchange.release()

    def _release(self) -> None:
        """Have the parts let go of the engine, so that no cycle keeps it."""
        self._clock.close()
        self._rate.close()
        self._gate.close()
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    def describe(self) -> EngineView:
        """Return the phase; see ``seams.Engine``."""
        return EngineView(phase=self.phase.name)

    # ------------------------------------------------------------------- sending

    def wake_writers(self) -> None:
        """Wake the writers of the exchange: the transport takes output again."""
        if self._exchange is not None:
            self._exchange.sink.wake_writer()

    # --------------------------------------------------------- ends of exchanges

    @property
    def has_input(self) -> bool:
        """There are received bytes behind the request."""
        return bool(self._head.data)

    def body_expected(self) -> None:
        """Start the watch of the body's rate: ``100`` was queued."""
        if self.phase is _BODY:
            self._rate.start()

    def answered(self, exchange: H1Exchange) -> None:
        """Close if the response, which is complete, is the last one."""
        # In BODY the handler may want the rest of it.
        if self.phase is not _BODY and not self._reusable(exchange):
            self.close()

    def handler_ended(self, exchange: H1Exchange) -> None:
        """Settle, drain or reset the exchange: its handler has ended."""
        if exchange is not self._exchange:
            exchange.release()  # the connection was lost before
            return
        if exchange.tunnel:
            return  # the closing handshake may outlive the session; its sink ends it
        if not exchange.over:
            exchange.reset()
        elif self.phase is _BUSY:
            self._finish(exchange)
        elif self.phase is _BODY:
            self._drain(exchange)

    def _close_if_last(self, exchange: H1Exchange) -> None:
        """Close if the answer is complete, and there will be no other request."""
        if exchange.over and not self._reusable(exchange):
            self.close()

    def _reusable(self, exchange: H1Exchange) -> bool:
        if exchange.head.websocket and self._head.data:
            return False  # frames sent early: never to be parsed as HTTP
        if self._eof and not (self._head.data or self.backlog):
            return False  # there will be no other request
        return exchange.persistent and self.keeps_alive

    def _drain(self, exchange: H1Exchange) -> None:
        """Read the body to its end, or close (RFC 9112 §9.3)."""
        if self._reusable(exchange):
            self._enter(H1Phase.DRAIN)
            self._drain_left = MAX_DRAINED
            exchange.body.discard()
        else:
            self.close()

    def _finish(self, exchange: H1Exchange) -> None:
        """Forget an exchange that is settled; the next one may begin."""
        base: Engine = self
        if not self._reusable(exchange):
            self.close()
            return
        websocket = exchange.head.websocket
        self._enter(_HEAD_OR_FRAME if websocket else _HEAD)
        exchange.cut()
        exchange.release()
        self._exchange = None
        self._gate.forget()
        if self._head.data:
            base.backlog = True
            self._clock.expect()
        else:
            self._clock.idle()

    def close(self) -> None:
        """Send and parse nothing more; the connection closes once all is written."""
        if self.phase is not H1Phase.CLOSING:
            self._enter(H1Phase.CLOSING)
            self._clock.stop()
            self._rate.stop()
            self._gate.stop()

    def shut_down(self, *, tunnels: bool = True) -> None:
        """Begin to drain: finish the current exchange, begin no other.

        A client that has just connected, or is in the middle of a head, cannot know: it
        is answered if its request comes soon, with ``Connection: close`` (RFC 9112
        §9.6). ``tunnels``: see ``seams.Engine``.
        """
        self._draining = True
        self._tunnels_end = self._tunnels_end or tunnels
        self.keeps_alive = False
        exchange = self._exchange
        if exchange is None:
            if self.phase is H1Phase.FIRST_HEAD or self._head.data:
                self._clock.hurry()
            else:
                self.close()  # RFC 9112 §9.5: idle ones may be closed at any time
        elif exchange.tunnel:
            if tunnels:
                exchange.sink.shut_down()
        elif self.phase is not _BODY:
            self._close_if_last(exchange)

    # -------------------------------------------------------------------- tunnel

    def tunnel_opened(self, tunnel: H1Tunnel) -> None:
        """Keep what is received for ``tunnel``, until that has a sink."""
        self._enter(H1Phase.TUNNEL)
        self._tunnel = tunnel

    def receive_into(self, sink: Sink, inbox: Inbox | None) -> None:
        """Hand all further bytes to ``sink``, beginning with those that wait."""
        early = self._head.take_all()
        if early:
            self._gate.unread += len(early)
            sink.deliver(early)
        if self.phase is H1Phase.TUNNEL:
            self._sink, self._inbox = sink, inbox
            self._gate.settle()
        if self._eof:
            sink.deliver_eof()
        if self._tunnels_end:
            sink.shut_down()

    def tunnel_ended(self) -> None:
        """End our direction of the tunnel; what still arrives is dropped."""
        self._gate.forget()
        if self._eof:
            self.close()
        else:
            self._enter(H1Phase.HALF_CLOSED)

    # ---------------------------------------------------------------------- time

    def _head_too_slow(self) -> None:
        if self.backlog and not self._draining:
            self._clock.expect()  # not parsed yet: the server is late
            return
        if self._head.data and not self.backlog:  # RFC 9110 §15.5.9
            hit(self.connection.counters.limits, "head_time")
            self._refuse(HttpError(408, "Request head took too long"))
        else:
            self.close()
        self.connection.flush()

    def _body_too_slow(self) -> None:
        if self._exchange is not None and self._body is not None:
            hit(self.connection.counters.limits, "body_rate")
            fault = HttpError(408, "Request body took too long")
            self._fail_body(self._exchange, fault)
        self.connection.flush()
