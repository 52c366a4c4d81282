"""READ FIRST: the types at which tako's parts meet. Hardly any code, only promises.

    Runtime, Transport, Signal  runtime/    asyncio or trio (``loop``)
             │
        Connection              server/     one TCP connection: TLS, flush, deadlines
             │
          Engine                h1/, h2/    bytes <-> exchanges
             │
         Exchange  <-> BodySink             one request and its answer
             │
          Tunnel   <-> Sink     ws/         a byte pipe, after 101 or 200

Everything here is synchronous; bytes flow by method call, never through a queue.

* Network to application: ``Connection.data_received`` -> ``Engine.receive_data`` ->
  ``Sink.deliver``. A new request comes back from ``receive_data`` as an ``Exchange``.
* Application to network: ``send_*`` queues, ``flush`` makes the connection collect
  ``Engine.data_to_send``, encrypt and write it.
* Credit instead of queues: a sink says ``consumed(n)`` when the application has taken n
  bytes, and a writer waits while ``writable`` is false; the engine then calls
  ``Sink.wake_writer``.
* ``Connection``, ``Engine`` and ``Exchange`` are base classes: compiled, what is asked
  of one is a read or a call of C. A subclass assigns an attribute of theirs through a
  variable of their type: assigned to ``self`` it would be declared anew.
* A peer's error is data: engines answer it on the wire and tell the exchange concerned
  through ``Sink.deliver_eof(error)``. Nothing here raises because of input.
"""

import enum
from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Final, Protocol

from tako.config import ServerConfig, WireConfig
from tako.core.counters import Counters
from tako.core.deadlines import Deadlines
from tako.core.error_code import ErrorCode
from tako.core.loop import Clock, Runtime, Task
from tako.core.shared_frame import SharedFrame
from tako.core.turn import Turn
from tako.core.views import EngineView, Place, StreamView
from tako.http.answer import HandshakeResponse
from tako.http.compiling import mypyc_attr
from tako.http.conn_info import ConnInfo
from tako.http.headers import RawHeader
from tako.http.request import Request
from tako.http.request_facts import EndCallback
from tako.native.loops import Inbox


if TYPE_CHECKING:
    from tako.core.request_body import BodySink


class Pause(enum.IntEnum):
    """Why reading is stopped; it goes on when no reason is left.

    Bits. Not an ``IntFlag``: a combination of those costs a microsecond to make.
    """

    BODY = 1  # HTTP/1.1: unread body or tunnel bytes
    PIPELINE = 2  # HTTP/1.1: requests queued behind the one being answered
    BACKLOG = 4  # received input that this turn had no time for
    UNSENT = 8  # the transport does not take our output


class Sink(Protocol):
    """Where an engine puts the peer's bytes: a request body, or a WebSocket."""

    def deliver(self, data: bytes) -> None:
        """Take ``data``; never raises. ``consumed`` gives the credit back."""
        ...

    def deliver_eof(self, error: Exception | None = None) -> None:
        """End the input: it is complete, or ``error`` has cut it short.

        ``Disconnected`` means that nothing can be sent either (reset, connection lost).
        Repeats are no-ops.
        """
        ...

    def wake_writer(self) -> None:
        """Wake writers: ``writable`` may be true now, or the end has come."""
        ...

    def shut_down(self) -> None:
        """Begin to close, if this sink's protocol has a way to: the server drains.

        Repeats are no-ops.
        """
        ...


PIECE: Final = 64 * 1024
"""Bytes of a body that are queued at a time, and fit where several peers wait."""


class Watched(Protocol):
    """What is at the end of a tunnel whose peer may be gone without a FIN.

    Told by the engine, after as much silence as ``ws_ping_interval`` and
    ``ws_ping_timeout`` say.
    """

    def ask(self) -> None:
        """Ask the peer for a sign of life; HTTP/2 asks by itself."""
        ...

    def lose(self) -> None:
        """Take the peer for dead; a no-op once closing has begun."""
        ...

    def measured(self, seconds: float) -> None:
        """Take note of a round trip to the peer of the connection."""
        ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Exchange:
    """One request and its answer, on either wire: the base of both.

    Made by an engine, used by ``pipeline``. After the peer reset the exchange or the
    connection was lost every method here is a no-op, and ``over`` is true.
    """

    __slots__ = (
        "began",
        "body",
        "bytes_sent",
        "connection",
        "end_callbacks",
        "head_sent",
        "over",
        "request",
        "sink",
        "status",
        "task",
        "tunnel",
    )

    request: Request
    sink: Sink
    """What takes the peer's bytes: ``body``, or what the tunnel delivers to."""
    body: "BodySink"
    """The body of the request."""
    task: Task | None
    """The handler's task; set by the connection, cancelled by the engine on a reset."""
    began: float
    """When its head had come, on ``Connection.time``; 0 where that is not asked for."""
    status: int
    """The status of the answer; 499 until there is one."""
    bytes_sent: int
    """Bytes of the answer's body that were handed to the connection."""
    end_callbacks: tuple[EndCallback, ...]
    """What ``Request.on_end`` was given; called by ``pipeline``."""
    tunnel: bool
    """``open_tunnel`` was called: what follows the head is a ``Tunnel``."""
    connection: "Connection"
    """The connection that carries this exchange."""
    over: bool
    """Nothing can be sent any more: answered in full, reset, or connection lost."""
    head_sent: bool
    """The response head (final, not 1xx) has been queued."""

    def __init__(self, connection: "Connection") -> None:
        """Begin unanswered; who makes it sets ``request``, ``body`` and ``sink``."""
        self.connection = connection
        self.task = None
        self.began = 0.0
        self.status = 499
        self.bytes_sent = 0
        self.end_callbacks = ()
        self.tunnel = self.over = self.head_sent = False

    @property
    def writable(self) -> bool:
        """Whether more output is welcome; a writer waits while not (and not over)."""
        raise NotImplementedError

    @property
    def error_delay(self) -> float:
        """How many seconds an error should wait for a body that is still arriving.

        0 on HTTP/1.1, and where no body is due. Over HTTP/2 some clients fail if the
        error comes before they have sent a small body (curl 7.88 hangs).
        """
        raise NotImplementedError

    @property
    def at_once(self) -> int:
        """How large a body may be that is sent in one piece, in bytes.

        Where it is not copied on its way, nothing is gained by sending it in several.
        """
        raise NotImplementedError

    def writable_again(self) -> Awaitable[None]:
        """Wait until ``writable``, or ``over``.

        Cancel safety: safe.
        """
        raise NotImplementedError

    def send_headers(
        self, status: int, headers: Sequence[RawHeader], *, end: bool = False
    ) -> None:
        """Queue the response head; ``end``: there is no body.

        The engine adds ``date`` and, on HTTP/1.1, the framing and ``connection``
        fields; fields that belong to the other wire are dropped. Interim (1xx) heads
        are allowed.

        Raises:
            LocalProtocolError: a head was sent already.
        """
        raise NotImplementedError

    def send_response(
        self, status: int, headers: Sequence[RawHeader], body: bytes
    ) -> None:
        """Queue a whole response, as ``send_headers`` and ``send_data`` would.

        Its ``content-length`` need not be among ``headers``. ``body`` is dropped where
        the answer has none: to HEAD, and with 204, 205 and 304.

        Raises:
            LocalProtocolError: a head was sent already, ``status`` is an interim one,
                or ``content-length`` is not the size of ``body``.
        """
        raise NotImplementedError

    def send_data(self, data: bytes | memoryview, *, end: bool = False) -> None:
        """Queue bytes of the body; ``end``: these are the last.

        What ``data`` views must not change any more: it may be kept, not copied.

        Raises:
            LocalProtocolError: there is no head yet, or the end was sent already.
        """
        raise NotImplementedError

    def send_file(self, file: int, offset: int, size: int) -> int:
        """Send up to ``size`` bytes of a file, without a copy; return how many.

        0: that is not possible here, or now: read, and ``send_data``. Where not all was
        sent, a writer waits until ``writable``, as always.

        Args:
            file: the descriptor of a regular file; its position does not count.
            offset: where to begin, in bytes.
            size: the most bytes.
        """
        raise NotImplementedError

    def send_trailers(self, trailers: Sequence[RawHeader]) -> None:
        """Queue trailers (dropped where HTTP/1.1 is not chunked); end the response."""
        raise NotImplementedError

    def open_tunnel(self, status: int, headers: Sequence[RawHeader]) -> "Tunnel":
        """Answer 101 or 2xx; return the byte pipe that the exchange becomes.

        Nothing is delivered before ``Tunnel.receive_into``.

        Raises:
            LocalProtocolError: this request cannot become a tunnel, or is answered.
        """
        raise NotImplementedError

    def consumed(self, size: int) -> None:
        """Give credit for ``size`` bytes that the application has taken."""
        raise NotImplementedError

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut the exchange off: RST_STREAM(code), or on HTTP/1.1 the connection.

        On HTTP/1.1 ``NO_ERROR`` closes in order (everything queued is written first).
        """
        raise NotImplementedError

    def ended(self) -> None:
        """Note that the handler has ended: its slot is free.

        Called once by the connection.
        """
        raise NotImplementedError

    def describe(self) -> StreamView:
        """Return what there is to see of it now."""
        raise NotImplementedError

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued: now, or once the callbacks that are due have run."""
        raise NotImplementedError


class Tunnel(Protocol):
    """A byte pipe to the peer: after 101 on HTTP/1.1, or CONNECT on HTTP/2.

    After a reset or the loss of the connection every method here is a no-op, and
    ``over`` is true.
    """

    @property
    def connection(self) -> "Connection":
        """The connection that carries it."""
        ...

    @property
    def over(self) -> bool:
        """Nothing can be sent any more: the end was sent, or the peer is gone."""
        ...

    @property
    def writable(self) -> bool:
        """Whether more output is welcome; a writer waits while not (and not over)."""
        ...

    @property
    def listening(self) -> bool:
        """Whether the peer can send: we read, and it has credit."""
        ...

    def watch(self, watched: Watched) -> None:
        """Have ``watched`` told when the peer is silent for long.

        Called at most once, and before ``receive_into``.
        """
        ...

    def receive_into(self, sink: Sink, inbox: Inbox | None = None) -> None:
        """Deliver to ``sink`` what the peer sends, beginning with what waits.

        Called once. ``inbox`` takes whole messages past ``Sink.deliver``, at less cost.
        """
        ...

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Queue bytes; ``end``: then END_STREAM, or close_notify and FIN.

        Raises:
            LocalProtocolError: the end was sent already.
        """
        ...

    def send_frame(self, first_byte: int, payload: str | bytes, *, soon: bool) -> bool:
        """Queue a WebSocket frame, flush it and return ``writable``.

        The tunnel of a client masks it (RFC 6455 §5.1).

        Args:
            first_byte: FIN, RSV and opcode (RFC 6455 §5.2).
            payload: a ``str`` is sent as UTF-8.
            soon: as for ``flush``.
        """
        ...

    def send_shared(self, frame: SharedFrame, soon: bool) -> bool:
        """Queue a WebSocket frame and flush it, if there is room; tell whether it did.

        ``False``: nothing was queued, because ``writable`` is false, or it is ``over``.
        Otherwise as ``send_frame``, but for a frame that was encoded for many tunnels.
        """
        ...

    def consumed(self, size: int) -> None:
        """Give credit for ``size`` bytes that the application has taken."""
        ...

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut it off: RST_STREAM(code), or on HTTP/1.1 the connection.

        ``NO_ERROR`` ends in order: what is queued is written first.
        """
        ...

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued: now, or once the callbacks that are due have run."""
        ...

    def cancel_at(self, when: float) -> None:
        """Cancel the task that uses the tunnel at ``when``, if it still runs then."""
        ...


class NotOpened(enum.IntEnum):
    """Why a client's tunnel was not opened, where there is no answer."""

    INVALID = 0
    """The server broke a rule."""
    RESET = 1
    """It reset the stream with a code that says that it cannot do this."""
    REFUSED = 2
    """The same, before it looked at the request: it may be sent again elsewhere."""
    LOST = 3
    """The connection is lost."""
    UNSUPPORTED = 4
    """It does not offer WebSockets over HTTP/2 (RFC 8441 §3)."""
    CANCELLED = 5
    """It reset the stream for another reason."""


class Opener(Protocol):
    """Who has an engine of a client open a tunnel; told once how that went."""

    def answered(self, response: HandshakeResponse, tunnel: "Tunnel | None") -> None:
        """Take the server's answer; never raises.

        Args:
            response: the answer.
            tunnel: what it opens: 101, or 2xx on HTTP/2, to be received into or reset
                before this returns; ``None``: it refuses.
        """
        ...

    def not_opened(self, why: NotOpened, text: str) -> None:
        """Take note that there will be no answer; never raises."""
        ...


class Upgrade(Protocol):
    """What a response carries that opens a tunnel: the session to run in it."""

    def attach(self, tunnel: Tunnel) -> None:
        """Begin to receive: have the tunnel deliver to the session's sink."""
        ...

    async def run(self) -> None:
        """Run the session to its end; called once, after the tunnel was opened.

        Raises nothing because of the peer or of what the session raises.
        """
        ...


class Engine:
    """One protocol on one connection: the base of ``H1Engine`` and ``H2Engine``."""

    __slots__ = ("backlog", "closing", "complaint", "half_closed", "unsent")

    backlog: bool
    """There is received input that ``receive_data`` put off to keep its turn short; the
    connection calls ``receive_data(b"")`` again after others had their turn."""

    closing: bool
    """Nothing more will be queued: close the transport once all is written."""

    half_closed: bool
    """Our direction has ended, the peer's goes on: close_notify and FIN once all is
    written, then go on reading."""

    unsent: bool
    """``data_to_send`` has left something: to join large pieces is to copy them."""

    complaint: str | None
    """What to tell the operator of a peer that speaks another protocol.

    It quotes nothing of the peer. ``None``: there is nothing to tell."""

    def __init__(self) -> None:
        """Begin with nothing to be done."""
        self.backlog = self.closing = self.half_closed = self.unsent = False
        self.complaint = None

    def receive_data(self, data: bytes) -> Sequence[Exchange] | None:
        """Take bytes from the peer; return the requests they began. Never raises.

        ``None``: there are none, nothing is queued for the peer and no attribute here
        has changed.
        """
        raise NotImplementedError

    def receive_eof(self) -> None:
        """Take the peer's FIN or close_notify: it sends no more, but may still read."""
        raise NotImplementedError

    def connection_lost(self) -> None:
        """End all: the transport is gone. Sinks get ``deliver_eof(Disconnected())``.

        The connection does not call again; exchanges may, while their handlers run.
        The engine's parts let go of it, so that nothing but they keeps it.
        """
        raise NotImplementedError

    def data_to_send(self) -> bytes | memoryview:
        """Return what is queued for the peer and forget it.

        Where ``unsent`` is true afterwards, that was a part: call it again.
        """
        raise NotImplementedError

    def wake_writers(self) -> None:
        """Wake the writers of all exchanges: ``Connection.writable`` became true."""
        raise NotImplementedError

    def peer_silent(self) -> bool:
        """Ask the peer for a sign of life if a tunnel is watched; tell whether."""
        raise NotImplementedError

    def peer_dead(self) -> None:
        """Give the peer up: it was asked, and still nothing came from it."""
        raise NotImplementedError

    def shut_down(self, *, tunnels: bool = True) -> None:
        """Begin to drain: finish what is open, refuse what is new, then ``closing``.

        ``tunnels``: tell each tunnel to end, also those that open from now on. Without
        it they run on until a call with it; other repeats are no-ops.
        """
        raise NotImplementedError

    def describe(self) -> EngineView:
        """Return what there is to see of it now."""
        raise NotImplementedError

    def place(self) -> Place:
        """Return where received bytes stand, between two reads."""
        raise NotImplementedError

    def sink_of(self, stream: int) -> Sink | None:
        """Return what takes the bytes of a tunnel; ``None``: there is none.

        Args:
            stream: which one on HTTP/2; 0 on HTTP/1.1.
        """
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection:
    """What a connection offers to its engine and to the sinks of its exchanges."""

    __slots__ = (
        "conn_info",
        "counters",
        "deadlines",
        "flush_due",
        "runtime",
        "time",
        "turn",
        "writable",
    )

    conn_info: ConnInfo
    deadlines: Deadlines
    turn: Turn
    counters: Counters
    runtime: Runtime
    """The event loop."""
    time: Clock
    """Returns the runtime's clock, in seconds."""
    # What each write touches; the subclass goes on with that
    writable: bool
    """The transport takes output without buffering too much of it."""
    flush_due: bool
    """``flush(soon=True)`` was called and is still to happen."""

    def __init__(self, runtime: Runtime, counters: Counters) -> None:
        """Begin with nothing written; who makes it sets the other attributes."""
        self.runtime = runtime
        self.counters = counters
        self.time = runtime.time
        self.writable = True
        self.flush_due = False

    @property
    def config(self) -> WireConfig:
        """Limits, windows and timeouts."""
        raise NotImplementedError

    @property
    def reading(self) -> bool:
        """What the peer sends is read; no reason to pause is given."""
        raise NotImplementedError

    def delivery(self) -> tuple[int, int] | None:
        """Return how many bytes of output the peer has got, and how many it lacks.

        ``None``: it takes no more output. All as far as the kernel tells.
        """
        raise NotImplementedError

    def peer_ended(self) -> bool:
        """Tell whether the peer's FIN waits behind input that is not read."""
        raise NotImplementedError

    def flush(self, *, soon: bool = False) -> None:
        """Collect, encrypt and write what the engine has queued.

        ``soon`` waits for the callbacks that are due, so that replies to one read leave
        together. While input is being processed both are no-ops: its end flushes.
        """
        raise NotImplementedError

    def write(self, data: bytes, first: bool) -> bool:
        """Queue ``data`` and flush; ``False``, with nothing done, if that must wait.

        So it is while a flush is due or held, and while not ``writable``.

        Args:
            data: a whole frame.
            first: nothing else was written here in this turn of the loop, as far as
                the caller knows, who is called by that loop: it is not over.
        """
        raise NotImplementedError

    def send_file(self, file: int, offset: int, size: int) -> int:
        """Flush, then send bytes of a file; see ``Exchange.send_file``."""
        raise NotImplementedError

    def pause_reading(self, reason: Pause) -> None:
        """Stop reading from the transport until ``reason`` is taken back."""
        raise NotImplementedError

    def resume_reading(self, reason: Pause) -> None:
        """Take ``reason`` back; a no-op if it was not given."""
        raise NotImplementedError

    def cancel_at(self, when: float, exchange: Exchange) -> None:
        """Cancel the handler of ``exchange`` at ``when``, if it still runs then.

        Also where ``Exchange.task`` is not set, and when the connection is lost.
        """
        raise NotImplementedError

    def answered(self, exchange: Exchange) -> None:
        """Take note that ``exchange`` is answered, though its handler's task goes on.

        The handler's slot is free, and the next request may begin. Called when the
        task ends as well; repeats are no-ops.
        """
        raise NotImplementedError

    def failed(self, exchange: Exchange, error: BaseException) -> bool:
        """Cut ``exchange`` off, if it is not answered; tell whether to raise ``error``.

        That is a cancellation or the end of the process. Anything else that a handler
        of a connection raises is a bug of tako, and logged.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close in order: write what is queued, close_notify, FIN."""
        raise NotImplementedError

    def abort(self) -> None:
        """Drop the connection now; what is queued is lost."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class ServerConnection(Connection):
    """A connection that a server has accepted."""

    @property
    def config(self) -> ServerConfig:
        """What a wire needs, and what a server demands of its clients."""
        raise NotImplementedError
