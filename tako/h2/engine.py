"""``H2Engine``: HTTP/2 on one connection (RFC 9113), with WebSocket tunnels (RFC 8441).

Theory of operation. ``FrameReader`` calls ``receive_*`` with what a frame says. A
request that holds becomes an ``H2Exchange`` and is returned from ``receive_data``; from
then on the handler and the exchange talk to each other. Everything that is sent goes
through ``Output``. ``end_stream`` closes streams; ``Lifecycle`` ends the connection.

A handler holds a slot from its dispatch until ``Exchange.ended``, even if its stream is
gone before. So a client that resets what it asked for cannot have more handlers running
than it was allowed streams; and resets of unanswered streams, the client's own and
those that it provokes, are counted against a bucket. When that is empty the connection
drains with ENHANCE_YOUR_CALM: the client may be a proxy, and what is open may belong to
another of its users. Once more as many resets, or streams to refuse, end it at once.

Invariants: ``exchanges`` holds exactly the streams that are open or half-closed;
``_running`` <= ``h2_max_concurrent_streams``; after ``closing`` nothing is queued.
"""

from collections.abc import Sequence
from typing import Final

from tako.core.counters import hit
from tako.core.error_code import ErrorCode
from tako.core.half_closed import HalfClosed
from tako.core.seams import Engine, Exchange, ServerConnection
from tako.errors import Disconnected, RemoteProtocolError
from tako.h2.endpoint import H2Endpoint
from tako.h2.exchange import H2Exchange
from tako.h2.fields import Field
from tako.h2.frames import MAX_STREAM_ID
from tako.h2.lifecycle import H2Phase, Lifecycle
from tako.h2.preface import ClientPreface
from tako.h2.reader import FrameReader
from tako.h2.request_head import Refusal, check_head, check_trailers, limits_of
from tako.h2.rules import TokenBucket
from tako.h2.settings import our_settings
from tako.h2.slow_streams import LateBodies, Watch
from tako.h2.stream import Cause, H2Stream
from tako.http.conn_info import scheme_of
from tako.http.request_head import RequestHead
from tako.http.request_of import request_of
from tako.native.loops import Inbox


_RESET_REFILL: Final = 30  # seconds in which the bucket of resets fills up

_COMPLETE: Final = Cause.COMPLETE  # cheaper than by its class
_SENDS_RESET: Final = frozenset(
    {Cause.RESET_BY_US, Cause.MALFORMED, Cause.FAULT, Cause.SLOW}
)
_COUNTED: Final = frozenset({Cause.RESET_BY_PEER, Cause.MALFORMED, Cause.FAULT})
_CANCELS: Final = frozenset({Cause.RESET_BY_PEER, Cause.FAULT, Cause.SLOW, Cause.LOST})


class H2Engine(H2Endpoint[H2Exchange]):
    """HTTP/2 for one connection; implements ``seams.Engine``."""

    __slots__ = (
        "_checked",
        "_config",
        "_conn_info",
        "_counted",
        "_counters",
        "_eof",
        "_half_closed_watch",
        "_head",
        "_late_bodies",
        "_lifecycle",
        "_limits",
        "_max_body",
        "_most_requests",
        "_most_streams",
        "_preface",
        "_requests",
        "_resets",
        "_running",
        "_scheme",
        "_shutting_down",
        "_tunnels_end",
        "_watch",
    )

    def __init__(self, connection: ServerConnection, *, lane: bool = True) -> None:
        """Begin the connection; the server's preface is queued.

        Args:
            connection: the connection.
            lane: whether DATA of tunnels bypasses the engine; only speed depends on it.
        """
        super().__init__(connection)
        config = connection.config
        self._config = config
        self._limits = limits_of(config)
        self._max_body: int | None = config.max_body_size
        self._most_streams: int = config.h2_max_concurrent_streams
        self._most_requests: int = config.h2_max_requests
        self._counters = connection.counters
        self._counted = connection.counters.http2
        self._conn_info = connection.conn_info
        self._running = 0
        self._scheme = None if config.trust_scheme else scheme_of(self._conn_info)
        self._eof = False
        self._shutting_down = False
        self._tunnels_end = False  # they are told to, as soon as they are there
        self._requests: list[H2Exchange] = []
        self._checked: list[Field] | None = None
        self._head: RequestHead | Refusal | None = None
        self._resets = self._bucket()
        self._output.frames.append(our_settings(config))
        self._preface = ClientPreface(self._conn_info)
        self._reader = FrameReader(self, connection, self._output, lane=lane)
        self._reader.start()
        self._lifecycle = Lifecycle(self, connection, self._output)
        self._late_bodies = LateBodies(connection)
        self._watch = Watch(connection, self.exchanges, self._too_slow)
        self._half_closed_watch: HalfClosed[H2Exchange] | None = None  # made at FIN

    # seams.Engine ------------------------------------------------------------------

    def receive_data(self, data: bytes) -> Sequence[Exchange]:
        """Take bytes from the client; see ``seams.Engine``."""
        self._lifecycle.heard()
        if not self._preface.complete:
            data = self._behind_preface(data)
        self.read(data)
        if self._eof and not self.backlog:
            self._all_received()
        if not self._requests:
            return ()
        requests, self._requests = self._requests, []
        return requests

    def _behind_preface(self, data: bytes) -> bytes:
        base: Engine = self
        if self._reader.stopped:
            return b""
        behind = self._preface.strip(data)
        if behind is None:
            base.complaint = self._preface.complaint
            self.fail(ErrorCode.PROTOCOL_ERROR)  # RFC 9113 §3.4
            return b""
        return behind

    def receive_eof(self) -> None:
        """Take the end of the peer's direction; complete requests are answered."""
        if not self._eof:
            self._eof = True
            if not self.backlog:
                self._all_received()

    def _all_received(self) -> None:
        """Take the end of the peer's direction, now that all before it is known."""
        self._reader.stop()
        self._cut_incomplete()
        self._lifecycle.silenced()
        for exchange in self.exchanges.values():
            exchange.body.leave()
        self._half_closed_watch = HalfClosed(
            self._connection,
            self.exchanges.values,
            self._too_slow,
            self._lifecycle.probe,
        )
        self._half_closed_watch.start()

    def connection_lost(self) -> None:
        """Tell every exchange that the transport is gone."""
        if self._lifecycle.phase is H2Phase.LOST:
            return
        self.close()
        self.cut_all()
        self._release()

    def _release(self) -> None:
        """Have the parts let go of the engine, so that no cycle keeps it."""
        self._lifecycle.close()
        self._reader.close()
        self._output.close()
        self._late_bodies.close()
        self._watch.close()
        if self._half_closed_watch is not None:
            self._half_closed_watch.close()
            self._half_closed_watch = None

    def peer_silent(self) -> bool:
        """Ask the peer once for all of its watched tunnels; tell whether.

        Its end of the connection answers, which may be that of a proxy.
        """
        for exchange in self.exchanges.values():
            if exchange.watched is not None:
                self._lifecycle.probe()
                return True
        return False

    def peer_dead(self) -> None:
        """Give the peer up, and all of its streams; see ``seams.Engine``."""
        for exchange in list(self.exchanges.values()):
            if exchange.watched is not None:
                exchange.watched.lose()
        self._lifecycle.give_up(ErrorCode.NO_ERROR)

    def shut_down(self, *, tunnels: bool = True) -> None:
        """Begin to drain; see ``seams.Engine``.

        Streams that the client opened before it knew of the GOAWAY go on, tunnels among
        them (RFC 9113 §6.8).
        """
        begins, self._shutting_down = not self._shutting_down, True
        if begins:
            self._late_bodies.end()
        if tunnels and not self._tunnels_end:
            # before GOAWAY: some clients drop their WebSockets when they see it
            self._tunnels_end = True
            self.say_goodbye()
        if begins:
            self._lifecycle.begin_drain()

    # What the reader says ---------------------------------------------------------

    def receive_request(
        self, stream_id: int, fields: list[Field], *, ended: bool
    ) -> None:
        """Take the head of a request; ``ended``: that is all of it."""
        most = self._most_streams
        seen = self.count_stream()
        self._counted.streams += 1
        if seen >= self._most_requests or stream_id >= MAX_STREAM_ID:
            self._lifecycle.begin_drain()
        if self._lifecycle.refusing or max(self._running, len(self.exchanges)) >= most:
            # RFC 9113 §5.1.2, §6.8, §8.7: the client may try again elsewhere or later
            self._reject(stream_id, ErrorCode.REFUSED_STREAM)
            if self._lifecycle.phase is H2Phase.CALMING:
                self._count_reset()
            return
        if fields is not self._checked:  # else it is the same block once more
            self._checked = fields
            self._head = check_head(fields, self._limits, self._config)
        head = self._head
        if isinstance(head, RequestHead) and ended and head.length:
            head = None  # RFC 9113 §8.1.1: the body is shorter than announced
        if head is None:
            self._reject(stream_id, ErrorCode.PROTOCOL_ERROR)
            self._count_reset()
            return
        if isinstance(head, Refusal):
            self._refuse(stream_id, head, ended=ended)
        else:
            self._dispatch(stream_id, head, ended=ended)

    def receive_body(self, exchange: H2Exchange, data: bytes, *, ended: bool) -> None:
        """Take a piece of a body or of a tunnel; ``ended``: the last."""
        code: int | None = None
        if data:
            code = exchange.receive_data(data)
        if code is None and ended and not exchange.closed:
            code = exchange.receive_end()
        if code is not None:
            self._malformed(exchange, code)

    def receive_trailers(
        self, exchange: H2Exchange, fields: list[Field], *, ended: bool
    ) -> None:
        """Take the trailers of a request; ``ended``: they end the stream."""
        trailers = check_trailers(fields, self._config)
        if exchange.connect:  # RFC 9113 §8.5: only DATA on a tunnel
            self.end_stream(exchange, Cause.FAULT, ErrorCode.PROTOCOL_ERROR)
            return
        if trailers is None or not ended:
            # RFC 9113 §8.1: trailers end the stream
            self._malformed(exchange, ErrorCode.PROTOCOL_ERROR)
            return
        exchange.body.trailers += trailers
        code = exchange.receive_end()
        if code is not None:
            self._malformed(exchange, code)

    def receive_reset(self, exchange: H2Exchange, code: int) -> None:
        """Take the client's RST_STREAM; its ``code`` makes no difference."""
        self.end_stream(exchange, Cause.RESET_BY_PEER)

    def receive_pong(self, payload: bytes) -> None:
        """Take the answer to a PING of ours."""
        self._lifecycle.ping_acknowledged(payload)

    def settings_acknowledged(self) -> None:
        """Our settings are in force, on open streams as well (RFC 9113 §6.9.2)."""
        self._lifecycle.settings_acknowledged()
        super().settings_acknowledged()

    def receive_goaway(self, last_stream: int, code: int, debug: bytes) -> None:
        """Take the client's GOAWAY: it will open no more streams (RFC 9113 §6.8).

        Args:
            last_stream: the last stream of ours that it has seen: a server opens none.
            code: why.
            debug: what it says besides.
        """
        self._lifecycle.leave()

    def fail_stream(self, stream_id: int, code: int) -> None:
        """Reset a stream on which the client broke a rule, and count that."""
        exchange = self.exchanges.get(stream_id)
        if exchange is None:
            self._reject(stream_id, code)
            self._count_reset()
        else:
            self.end_stream(exchange, Cause.FAULT, code)

    def fail(self, code: int) -> None:
        """End the connection with an error (RFC 9113 §5.4.1)."""
        self.stop_reading()
        self._lifecycle.fail(code)
        self._cut_incomplete()

    # What an exchange says --------------------------------------------------------

    def tunnel_opened(self, exchange: H2Stream, inbox: Inbox | None) -> None:
        """Put an accepted tunnel on the express lane."""
        super().tunnel_opened(exchange, inbox)
        if self._tunnels_end:
            exchange.sink.shut_down()

    def end_stream(self, stream: H2Stream, cause: Cause, code: int = 0) -> None:
        """Close an open stream; ``code`` is that of RST_STREAM where one is sent.

        What follows from the cause, beside that the stream is closed and forgotten:

            cause          RST_STREAM   counted   the handler, or the tunnel's sink
            COMPLETE       no           no        goes on
            RESET_BY_US    sent         no        goes on; ``Disconnected``
            RESET_BY_PEER  received     yes       is cancelled; ``Disconnected``
            MALFORMED      sent         yes       goes on; ``Disconnected``
            FAULT          sent         yes       is cancelled; ``Disconnected``
            SLOW           sent         no        is cancelled; ``Disconnected``
            LOST           no           no        is cancelled; ``Disconnected``

        *Counted* against the bucket of resets: unless the answer was complete. The task
        of a tunnel is never cancelled: its sink sees to its end.
        """
        stream_id = stream.stream_id
        if cause in _SENDS_RESET:
            self._output.reset(stream_id, code)
        unanswered = not stream.over
        stream.cut()
        exchange = self.exchanges.pop(stream_id)
        self._late_bodies.remove(exchange)
        if cause is _COMPLETE:
            self._reader.stream_closed(stream_id)
            self._lifecycle.stream_closed()
            return
        exchange.cut_off()
        orderly = cause is Cause.RESET_BY_US and not code
        name = "no_error" if orderly else cause.name.lower()
        hit(self._counters.stream_resets, name)
        by_peer = cause is Cause.RESET_BY_PEER
        self._reader.stream_reset(stream_id, by_peer=by_peer)
        self._lifecycle.stream_closed()
        if cause in _CANCELS:
            self._abandon(exchange)
        else:
            exchange.sink.deliver_eof(Disconnected())
        if unanswered and cause in _COUNTED:
            self._count_reset()

    def answered_early(self, exchange: H2Exchange) -> None:
        """Let the client finish a body that is not wanted any more."""
        if self._shutting_down:
            exchange.reset(ErrorCode.NO_ERROR)
        else:
            self._late_bodies.add(exchange)

    def handler_ended(self) -> None:
        """Take a handler's slot back."""
        self._running -= 1

    def output_waits(self) -> None:
        """Watch that the output of an exchange, which waits, is taken in time."""
        self._watch.start()

    @property
    def phase_name(self) -> str:
        """How far the connection is from its end, in a word."""
        return self._lifecycle.phase.name

    # What the lifecycle asks ------------------------------------------------------

    @property
    def last_stream_id(self) -> int:
        """The last stream that the client has opened."""
        return self._reader.last_stream_id

    def close(self) -> None:
        """Let the connection close once all is written."""
        self.stop()

    def say_goodbye(self) -> None:
        """Let every tunnel say goodbye to the client."""
        for exchange in list(self.exchanges.values()):
            if exchange.tunnel:
                exchange.sink.shut_down()

    def cut_all(self) -> None:
        """Close every stream; send nothing."""
        for exchange in list(self.exchanges.values()):
            self.end_stream(exchange, Cause.LOST)

    # Requests ---------------------------------------------------------------------

    def _open(self, exchange: H2Exchange, *, ended: bool) -> None:
        self.exchanges[exchange.stream_id] = exchange
        self._lifecycle.stream_opened()
        if ended:
            exchange.receive_end()
        else:
            self._watch.start()

    def _refuse(self, stream_id: int, refusal: Refusal, *, ended: bool) -> None:
        """Answer without a handler; counted, since the client may know our limits."""
        hit(self._counters.refused, refusal.status)
        self._count_reset()
        if self._lifecycle.phase is H2Phase.LINGERING:
            self._reject(stream_id, ErrorCode.REFUSED_STREAM)
            return
        exchange = H2Exchange(self, self._connection, self._output, stream_id)
        exchange.body.discard()
        exchange.body.release()  # it gives no credit: the window bounds what comes
        self._open(exchange, ended=ended)
        exchange.answer(refusal.status, refusal.body)

    def _dispatch(self, stream_id: int, head: RequestHead, *, ended: bool) -> None:
        exchange = H2Exchange(
            self,
            self._connection,
            self._output,
            stream_id,
            head_only=head.method == "HEAD",
            connect=head.websocket,
        )
        if not ended and head.expects_continue:
            exchange.expect_continue()
        exchange.expected = head.length
        exchange.request = request_of(
            head,
            exchange,
            exchange.body,
            self._scheme or head.scheme or "http",
            self._conn_info,
            self._max_body,
        )
        self._running += 1
        self._requests.append(exchange)
        self._open(exchange, ended=ended)

    def _malformed(self, exchange: H2Exchange, code: int) -> None:
        """Reset a stream with a malformed body; the handler may still read it."""
        exchange.sink.deliver_eof(RemoteProtocolError("the request body is malformed"))
        if not exchange.closed:
            self.end_stream(exchange, Cause.MALFORMED, code)

    # Streams that end -------------------------------------------------------------

    def _reject(self, stream_id: int, code: int) -> None:
        """Reset a stream that never became an exchange."""
        refused = code == ErrorCode.REFUSED_STREAM
        hit(self._counters.stream_resets, "refused" if refused else "rejected")
        self._output.reset(stream_id, code)
        self._reader.stream_reset(stream_id, by_peer=False)

    def _abandon(self, exchange: H2Exchange) -> None:
        """Cancel the handler of a request that needs no answer any more."""
        exchange.body.leave()
        exchange.sink.deliver_eof(Disconnected())
        if exchange.task is None:
            if exchange in self._requests:
                self._requests.remove(exchange)  # its handler never starts
                exchange.ended()
        elif not exchange.tunnel:
            exchange.task.cancel()

    def _cut_incomplete(self) -> None:
        """Close the streams that need more input, when there will be none."""
        for exchange in list(self.exchanges.values()):
            if exchange.tunnel or not exchange.peer_ended:
                self.end_stream(exchange, Cause.LOST)

    def _bucket(self) -> TokenBucket:
        size = self._config.h2_max_pending_accept_reset_streams
        rate = max(size / _RESET_REFILL, 1)
        return TokenBucket(size, rate, self._connection.time())

    def _count_reset(self) -> None:
        if self._resets.spend(1, self._connection.time()):
            return
        hit(self._counters.limits, "stream_resets")
        if self._lifecycle.phase >= H2Phase.CALMING:
            self.fail(ErrorCode.ENHANCE_YOUR_CALM)
            self.cut_all()
        else:
            self._resets = self._bucket()
            self._lifecycle.calm_down()

    def _too_slow(self, exchange: H2Exchange) -> None:
        hit(self._counters.limits, "stream_rate")
        self.end_stream(exchange, Cause.SLOW, ErrorCode.CANCEL)
