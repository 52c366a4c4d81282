"""``H1Engine``: HTTP/1.1 on one connection (RFC 9112).

Theory of operation. The connection is always in one of four phases, and received bytes
mean something different in each:

* *head*: no exchange; bytes are a request head. ``HeadBuffer`` judges them.
* *body*: an exchange whose request body is incomplete; a ``RequestBody`` reads them.
* *busy*: an exchange whose request is complete; bytes wait in the ``HeadBuffer``: the
  next requests, or, behind an upgrade request, the first frames of a WebSocket.
* *tunnel*: after 101; bytes go to the sink as they are.

Requests are answered one at a time: the next head is not looked at before the exchange
is settled, that is, the response is complete, its handler has ended, and the request
body was read to its end. Then either the bytes that wait are announced as ``backlog``,
or the idle time begins. What cannot be settled in that way ends the connection:
``close`` makes the engine ``_deaf``, and nothing that arrives afterwards is parsed.

Invariants: in the body phase the ``HeadBuffer`` is empty; a deaf engine begins no
exchange; an exchange that is forgotten or refused is cut off first.
"""

from collections.abc import Callable, Sequence

from tako.core.half_closed import HalfClosed
from tako.core.request_body import BodySink
from tako.core.seams import Connection, ServerConnection, Sink
from tako.errors import Disconnected, HttpError, RemoteProtocolError
from tako.h1.backpressure import MAX_WAITING, BodyRate, ReadGate
from tako.h1.exchange import H1Exchange
from tako.h1.head_parser import HeadBuffer
from tako.h1.request_body import ChunkedBody, LengthBody, RequestBody
from tako.h1.response_head import refusal
from tako.http.request_head import RequestHead
from tako.native.loops import Inbox


MAX_DRAINED = 64 * 1024  # bytes of a body that no handler wants
_LAST_HEAD = 1.0  # seconds for a request on its way when the server drains


class HeadClock:
    """The deadline of the next request head; stopped while there is an exchange.

    Args:
        connection: the connection.
        late: called when the time is up.
    """

    __slots__ = ("_config", "_connection", "_deadline", "_idle")

    def __init__(self, connection: Connection, late: Callable[[], None]) -> None:
        self._connection = connection
        self._config = connection.config
        self._deadline = connection.deadlines.new(late)
        self._idle = False  # between requests, on the keep-alive time
        self.expect()

    def expect(self) -> None:
        """A head is due, or has begun."""
        self._idle = False
        self._start(self._config.header_read_timeout)

    def idle(self) -> None:
        """A request is over, and nothing of another one is there."""
        timeout = self._config.keep_alive_timeout
        if timeout is None:
            self.expect()
        else:
            self._idle = True
            self._start(timeout)

    def begun(self) -> None:
        """There is a part of a head: the idle time is over."""
        if self._idle:
            self.expect()

    def hurry(self) -> None:
        """The server drains: what is on its way has a moment to arrive."""
        soon = self._connection.time() + _LAST_HEAD
        if self._deadline.when is None or self._deadline.when > soon:
            self._deadline.set(soon)

    def stop(self) -> None:
        """No head is waited for."""
        self._deadline.set(None)

    def _start(self, timeout: float | None) -> None:
        self._deadline.set(
            None if timeout is None else self._connection.time() + timeout
        )


class H1Engine:
    """HTTP/1.1 on one connection; implements ``seams.Engine``.

    Args:
        connection: the connection.

    Attributes:
        backlog: complete input may wait; call ``receive_data(b"")``.
        closing: nothing more will be queued; close once all is written.
        half_closed: once all is written, send close_notify and FIN but go on reading
            until the peer's end (RFC 6455 §7.1.1).
        complaint: see ``seams.Engine``.
    """

    __slots__ = (
        "_asked",
        "_body",
        "_clock",
        "_config",
        "_deaf",
        "_drain_left",
        "_draining",
        "_eof",
        "_exchange",
        "_gate",
        "_half_closed",
        "_head",
        "_inbox",
        "_out",
        "_rate",
        "_tunnel",
        "_upgrade_refused",
        "backlog",
        "closing",
        "complaint",
        "connection",
        "half_closed",
    )

    def __init__(self, connection: ServerConnection) -> None:
        config = connection.config
        self.connection: ServerConnection = connection
        self.backlog: bool = False
        self.closing: bool = False
        self.half_closed: bool = False
        self.complaint: str | None = None
        self._config = config
        self._head = HeadBuffer(config)
        self._out: list[bytes] = []
        self._exchange: H1Exchange | None = None
        self._body: RequestBody | None = None
        self._tunnel: Sink | None = None
        self._inbox: Inbox | None = None  # of the tunnel
        self._upgrade_refused = False
        self._drain_left: int | None = None  # while an unwanted body is read
        self._asked = False  # a request has been received
        self._draining = False
        self._eof = False
        self._deaf = False
        self._rate = BodyRate(connection, self._body_too_slow)
        self._gate = ReadGate(connection, self._rate, self._eof_waits)
        self._clock = HeadClock(connection, self._head_too_slow)
        self._half_closed: HalfClosed[H1Exchange] | None = None  # made at FIN

    # ----------------------------------------------------------------- receiving

    def receive_data(self, data: bytes) -> Sequence[H1Exchange] | None:
        """Take bytes from the peer; return the request that they began, if any."""
        tunnel = self._tunnel
        if tunnel is not None:
            gate, inbox = self._gate, self._inbox
            gate.unread += len(data)
            if inbox is None or not inbox.take(data):
                tunnel.deliver(data)
            if gate.unread > gate.limit:
                gate.settle()
            return () if self._out or self._tunnel is None else None
        if self._deaf:
            return ()
        exchange = self._exchange
        if exchange is not None and self._body is not None:
            self._receive_body(exchange, self._body, data)
        else:
            self._head.data += data
        return self._next_exchange()

    def _next_exchange(self) -> Sequence[H1Exchange]:
        self.backlog = self._body is not None and self._body.backlog
        exchange = self._exchange
        if exchange is not None:
            self._hold(exchange)
            return ()
        if self._upgrade_refused and self._head.is_frame:
            self.close()  # sent in hope of 101 (RFC 9931): never parsed as HTTP
            return ()
        if self._asked and self._head.data and not self.connection.writable:
            self.backlog = True  # a client that takes no answer gets no other yet
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
        self._asked = True
        self._clock.stop()
        exchange = self._exchange = H1Exchange(self, head, self._out)
        if not head.has_body:
            exchange.body.deliver_eof()
        else:
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
                self._exchange = None
                return ()
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
        self.backlog = body.backlog
        if body.complete:
            self._complete_body(exchange.body, body)
        elif self._eof and not body.backlog:  # all that came before it is read
            self._body_ends_early(exchange)
        elif self._drain_left is not None:
            self._drain_left -= len(data)
            if self._drain_left < 0:
                self.close()
        else:
            self._gate.settle()

    def _complete_body(self, sink: BodySink, body: RequestBody) -> None:
        self._body = None
        self._rate.stop()
        self._head.data += body.rest
        sink.trailers.extend(body.trailers)  # RFC 9110 §6.5.1: never among the fields
        sink.deliver_eof()
        self.settle()

    def _fail_body(self, exchange: H1Exchange, fault: HttpError) -> None:
        """Give up on a body with an unknown end, and so on the connection."""
        self._body = None
        self.backlog = False
        self._rate.stop()
        exchange.persistent = False  # RFC 9112 §6.3: the framing is lost
        if exchange.head_sent:
            self._deaf = True
            self._head.take_all()
            self.settle()
        else:
            exchange.cut()
            self._refuse(fault, head_only=exchange.head.method == "HEAD")
        exchange.body.deliver_eof(RemoteProtocolError(str(fault)))
        exchange.sink.wake_writer()

    def _refuse(self, fault: HttpError, *, head_only: bool = False) -> None:
        """Answer what cannot be served; nothing after it is parsed."""
        if self._head.is_tls:  # RFC 8446 §5.1: a TLS client would not read an answer
            self.complaint = "TLS on a port for plain HTTP/1.1"
        else:
            head_only = head_only or self._head.data.startswith(b"HEAD ")
            self._out.append(refusal(fault, head_only=head_only))
        self.close()

    def receive_eof(self) -> None:
        """The peer will send nothing more; it may still read (RFC 9112 §9.6)."""
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
            if self.half_closed:
                self.close()
        elif self._body is not None and not self.backlog:
            self._body_ends_early(exchange)
        self._client_left(exchange)
        self.settle()

    def _body_ends_early(self, exchange: H1Exchange) -> None:
        # RFC 9112 §8: incomplete, never a success
        self._fail_body(exchange, HttpError(400, "Request body ended early"))

    def _eof_waits(self) -> None:
        """The peer's end is behind input that is not read for now."""
        if self._exchange is not None:
            self._client_left(self._exchange)

    def _client_left(self, exchange: H1Exchange) -> None:
        """Tell the handler; let the answer go on for as long as it arrives."""
        exchange.body.leave()
        if exchange in self._unanswered():
            if self._half_closed is None:
                connection = self.connection
                self._half_closed = HalfClosed(
                    connection, self._unanswered, self._give_up, self._probe
                )
            self._half_closed.start()

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
        if exchange is None:
            return
        answered = exchange.over and not exchange.cut_off
        exchange.cut()
        exchange.body.leave()
        exchange.sink.deliver_eof(Disconnected())
        # A session ends in its own way, and so does what runs after a whole answer.
        if exchange.task is not None and not exchange.tunnel and not answered:
            exchange.task.cancel()

    # ------------------------------------------------------------------- sending

    def data_to_send(self) -> bytes:
        """Return what is queued for the peer and forget it."""
        out = self._out
        if not out:
            return b""
        data = out[0] if len(out) == 1 else b"".join(out)
        out.clear()
        return data

    def wake_writers(self) -> None:
        """The transport takes output again."""
        if self._exchange is not None:
            self._exchange.sink.wake_writer()

    # --------------------------------------------------------- ends of exchanges

    @property
    def keeps_alive(self) -> bool:
        """The connection may carry another request."""
        return self._config.keep_alive and not self._draining and not self._deaf

    @property
    def has_input(self) -> bool:
        """There are received bytes behind the request."""
        return bool(self._head.data)

    def body_expected(self) -> None:
        """``100`` was queued: the client will send the body now."""
        if self._body is not None:
            self._rate.start()

    def handler_ended(self, exchange: H1Exchange) -> None:
        """The handler has ended; what it left undone cannot be done any more."""
        if exchange is not self._exchange:
            return
        if exchange.tunnel:
            return  # the closing handshake may outlive the session; its sink ends it
        if exchange.over:
            self.settle()
        else:
            exchange.reset()

    def settle(self) -> None:
        """Go on as far as the current exchange allows (RFC 9112 §9.3)."""
        exchange = self._exchange
        if exchange is None or exchange.tunnel or not exchange.over:
            return
        if not self._reusable(exchange):
            if self._body is None or exchange.handler_ended:
                self.close()
        elif exchange.handler_ended:
            if self._body is None:
                self._finish(exchange)
            elif self._drain_left is None:
                self._drain_left = MAX_DRAINED  # RFC 9112 §9.3: read the body or close
                exchange.body.discard()

    def _reusable(self, exchange: H1Exchange) -> bool:
        if exchange.head.websocket and self._head.data:
            return False  # frames sent early: never to be parsed as HTTP
        if self._eof and not (self._head.data or self.backlog):
            return False  # there will be no other request
        return exchange.persistent and self.keeps_alive

    def _finish(self, exchange: H1Exchange) -> None:
        """Forget an exchange that is settled; the next one may begin."""
        exchange.cut()
        exchange.release()
        self._exchange = None
        self._drain_left = None
        self._upgrade_refused = exchange.head.websocket
        self._gate.forget()
        if self._head.data:
            self.backlog = True
            self._clock.expect()
        else:
            self._clock.idle()

    def close(self) -> None:
        """Send and parse nothing more; the connection closes once all is written."""
        self.closing = True
        self._deaf = True
        self.backlog = False
        self._tunnel = self._inbox = None
        self._body = None
        self._head.take_all()
        self._clock.stop()
        self._rate.stop()
        self._gate.stop()

    def shut_down(self) -> None:
        """Begin to drain: finish the current exchange, begin no other.

        A client that has just connected, or is in the middle of a head, cannot know: it
        is answered if its request comes soon, with ``Connection: close``.
        """
        self._draining = True
        exchange = self._exchange
        if exchange is None:
            if self._deaf or (self._asked and not self._head.data):
                self.close()  # RFC 9112 §9.5: idle ones may be closed at any time
            else:
                self._clock.hurry()
        elif exchange.tunnel:
            exchange.sink.shut_down()
        else:
            self.settle()

    # -------------------------------------------------------------------- tunnel

    def tunnel_opened(self, sink: Sink, inbox: Inbox | None) -> None:
        """Hand all further bytes to ``sink``, beginning with those that wait."""
        early = self._head.take_all()
        if early:
            self._gate.unread += len(early)
            sink.deliver(early)
        if not self.closing and not self.half_closed:
            self._tunnel, self._inbox = sink, inbox
            self._gate.settle()
        if self._eof:
            sink.deliver_eof()
        if self._draining:
            sink.shut_down()

    def tunnel_ended(self) -> None:
        """We shall send nothing more in the tunnel; what still comes is dropped."""
        self._tunnel = self._inbox = None
        self._deaf = True
        self._gate.forget()
        if self._eof:
            self.close()
        else:
            self.half_closed = True

    def consumed(self, size: int) -> None:
        """The application has taken ``size`` bytes of body or tunnel."""
        gate = self._gate
        gate.unread -= size
        if gate.body_shut:
            gate.settle()

    # ---------------------------------------------------------------------- time

    def _head_too_slow(self) -> None:
        if self.backlog and not self._draining:
            self._clock.expect()  # nobody has looked yet: it is we who are late
            return
        if self._head.data and not self.backlog:  # RFC 9110 §15.5.9
            self._refuse(HttpError(408, "Request head took too long"))
        else:
            self.close()
        self.connection.flush()

    def _body_too_slow(self) -> None:
        if self._exchange is not None and self._body is not None:
            fault = HttpError(408, "Request body took too long")
            self._fail_body(self._exchange, fault)
        self.connection.flush()
