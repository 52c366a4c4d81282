"""``TcpConnection``: one TCP connection, from its first byte to its last.

Theory of operation. A connection has the shape of ``asyncio.Protocol`` and knows no
loop. Bytes go up: TLS pipe -> engine -> exchanges; bytes go down when ``flush``
collects what the engine queued, encrypts and writes it.

States: ``ConnectionState`` says what they are, ``_NEXT`` what may follow what, and
``_enter`` alone goes from one to another. Two facts are independent of them: our FIN
may be sent while the engine still reads (``Engine.half_closed``), and the peer's may
come at any time. While open or lingering, an ``OutputWatch`` cuts off a peer that does
not take our output.

Flush rule. While a step runs (input is processed, a deadline fires) output is held; the
end of the step writes once. Outside of that ``flush()`` writes now and
``flush(soon=True)`` after the callbacks that are due, so that replies to one read leave
in one write. Handlers take their first step within the read. The answer to a lone
request is written soon: a loop that first reads what all peers have sent has more to
read the next time. Those to many are written at once: before another read. What is
written soon, and the first message of a turn to each of many (``write``), goes to the
socket itself: the loop would keep it until the end of its turn, to join it with what
follows, at as much cost as all that tako does for it. A reply of a session is left to
the loop: others of the same turn may follow it.

Turns. A layer that stops in the middle of its input because ``turn`` is over keeps the
rest. Reading pauses then (``Pause.BACKLOG``), and ``_catch_up`` goes on in the next
turn: the sinks, the engine, TLS, and only behind all of their bytes the end of the
peer's data.

Invariants: ``_engine`` is set once, until the socket is gone; after *lost* nothing is
read or written; exactly one timer is armed while a deadline is set; an exception of the
code above never leaves this class: it costs this connection only.
"""

import enum
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from tako.config import ServerConfig
from tako.core.callbacks import Uncancelled
from tako.core.counters import Counters, Wire, hit
from tako.core.deadlines import Deadline, Deadlines
from tako.core.error_code import ErrorCode
from tako.core.late_loop import PatientTimer
from tako.core.loop import Runtime, Task, Transport
from tako.core.min_rate import OutputWatch
from tako.core.seams import Connection, Engine, Exchange, Pause, ServerConnection, Sink
from tako.core.states import CHECKED, check_transition
from tako.core.turn import Turn
from tako.core.views import ConnectionView, Place
from tako.errors import consists_of
from tako.http.conn_info import Carrier, ConnInfo, PeerAddr, UnixPeer
from tako.http.request import Request
from tako.native.loops import send_now
from tako.tcp.linger import Linger
from tako.tcp.protocol import Engines, Handler, Protocol
from tako.tls.certificates import TlsSettings
from tako.tls.pipe import TlsPipe
from tako.tls.server_pipe import ServerTlsPipe
from tako.tls.tap import Tell, TlsTap


_logger: Final = logging.getLogger("tako.server")

_UNKNOWN: Final = -2  # descriptors
_NONE: Final = -1
_FEW_WRITES: Final = 256  # between looks at whether they wait
_LARGE_WRITE: Final = 32 * 1024  # bytes from which TLS returns more than one piece
_LARGE_READ: Final = 1 << 16  # bytes that are charged; uvloop makes 32 reads in a turn
_READ_SHIFT: Final = 12  # bytes of such a read for a unit of ``Turn``: a power of two


class ConnectionState(enum.IntEnum):
    """How far a connection has come."""

    HANDSHAKING = 0
    """No engine yet: TLS is being negotiated, or there is no transport."""
    OPEN = 1
    """An engine, chosen by ALPN or by the listener, has the bytes."""
    LINGERING = 2
    """Our last bytes and FIN are with the transport; what the peer sends is dropped."""
    LOST = 3
    """Aborted, or the socket is gone: nothing is read or written."""


_NEXT: Final[dict[ConnectionState, frozenset[ConnectionState]]] = {
    ConnectionState.HANDSHAKING: frozenset(
        {ConnectionState.OPEN, ConnectionState.LINGERING, ConnectionState.LOST}
    ),
    ConnectionState.OPEN: frozenset({ConnectionState.LINGERING, ConnectionState.LOST}),
    ConnectionState.LINGERING: frozenset({ConnectionState.LOST}),
    ConnectionState.LOST: frozenset(),
}


_HANDSHAKING: Final = ConnectionState.HANDSHAKING
_OPEN: Final = ConnectionState.OPEN
_LINGERING: Final = ConnectionState.LINGERING
_LOST: Final = ConnectionState.LOST

# For the first step of a handler: a task is not cancelled by what it does itself
_BEGINNING: Final[Task] = Uncancelled()


class TcpConnection(ServerConnection):
    """One connection: ``seams.Connection`` upwards, ``asyncio.Protocol`` downwards."""

    __slots__ = (
        "_believe",
        "_closed",
        "_complain",
        "_config",
        "_corked",
        "_end_put_off",
        "_engine",
        "_engines",
        "_fd",
        "_few",
        "_fin_sent_at",
        "_handler",
        "_handshake",
        "_input_ended",
        "_linger",
        "_local",
        "_narrow",
        "_on_lost",
        "_passed_on",
        "_pauses",
        "_peer",
        "_pipe",
        "_protocol",
        "_quiet",
        "_running",
        "_seen",
        "_timer",
        "_transport",
        "_wire",
        "end",
        "output",
        "received",
        "since",
        "state",
        "written",
    )

    # What each write touches, together with the base's last: of many connections it is
    # in no cache
    _corked: bool
    _closed: bool
    _pipe: TlsPipe | None
    written: int
    _few: int
    _fd: int
    _passed_on: bool
    _transport: Transport | None
    since: float
    """When it was accepted."""
    end: str
    """How it has ended, in words, once it is lost."""

    def __init__(
        self,
        runtime: Runtime,
        config: ServerConfig,
        handler: Handler,
        *,
        engines: Engines,
        protocol: Protocol,
        tls: TlsSettings | None,
        peer: PeerAddr,
        local: PeerAddr,
        on_lost: Callable[["TcpConnection"], None],
        complain: Callable[[str, PeerAddr], None] | None = None,
        running: dict[Exchange, Task] | None = None,
        believe: Callable[[Request], None] | None = None,
        counters: Counters | None = None,
    ) -> None:
        """Make a connection without a transport yet.

        Args:
            runtime: the event loop.
            config: limits and timeouts.
            handler: answers an exchange; see ``Handler``.
            engines: what speaks each protocol.
            protocol: what the peer speaks; with TLS, ALPN chooses.
            tls: the certificates, for ``protocol="tls"``.
            peer: the address of the peer.
            local: our address.
            on_lost: called once, when the socket is gone.
            complain: called with what to tell the operator about the peer.
            running: holds the exchanges while their handlers run.
            believe: see ``ConnInfo``.
            counters: of the server; ``None``: of its own.
        """
        super().__init__(runtime, Counters() if counters is None else counters)
        base: Connection = self
        base.deadlines = Deadlines(self._arm)
        base.turn = Turn(
            runtime.time,
            runtime.call_soon,
            self._go_on,
            config.max_turn,
            self._put_off,
        )
        self._config = config
        self._wire: Wire = self.counters.http1  # until it is known
        self.written = 0
        self.received: int = 0
        """Bytes that came from the peer."""
        self._seen = -1  # of those, at the last look
        self.since = runtime.time()
        self.end = ""
        self._quiet = 0  # looks in a row at which none had
        self._handler = handler
        self._engines = engines
        self._protocol = protocol
        self._pipe = (
            None
            if tls is None
            else ServerTlsPipe(tls, self.turn, max_idle=config.tls_max_idle_records)
        )
        self._peer = peer
        self._local = local
        self._on_lost = on_lost
        self._complain = complain  # of peers that speak another protocol
        self._running: dict[Exchange, Task] = {} if running is None else running
        self._believe = believe
        self._engine: Engine | None = None
        self._transport = None
        self._handshake: Deadline | None = None  # while TLS is negotiated
        self._timer = PatientTimer(runtime, self._deadline_reached)
        self._pauses = 0  # Pause bits
        self.state: ConnectionState = _HANDSHAKING
        # Lingering or lost, ``_enter`` sets it; a step runs: output leaves at its end
        self._closed = self._corked = False
        # Output was given to the transport, which was not seen to be empty since
        self._passed_on = False
        self._fin_sent_at: float | None = None
        # The peer's FIN came, or TLS broke; its end is behind input that was put off;
        # the transport takes no more until it is empty
        self._input_ended = self._end_put_off = self._narrow = False
        self._linger: Linger | None = None  # since our FIN
        self._fd = _UNKNOWN  # of our socket, once a frame was the first of a turn
        self._few = _FEW_WRITES  # counts down: small integers are cheapest
        self.output: OutputWatch | None = None  # made when first needed

    # What the transport calls ----------------------------------------------------

    def connection_made(self, transport: Transport) -> None:
        """Start: with the engine, or with the TLS handshake and its deadline."""
        self._transport = transport
        if self._closed:  # the drain began before the transport was there
            transport.abort()
        elif self._pipe is None:
            self._open(None)
            self._flush_now()
        else:
            self._handshake = self.deadlines.new(self._handshake_late)
            self._handshake.set(self.time() + self.config.tls_handshake_timeout)

    def data_received(self, data: bytes) -> None:
        """Take bytes from the socket."""
        self.received += len(data)
        if self._closed:
            self._drop(len(data))
            return
        engine = self._engine
        self._corked = True
        began: int | None = 0
        try:
            pipe = self._pipe
            if pipe is not None:
                data = pipe.receive_data(data)
            if engine is not None or self._handshaken():
                if data:
                    began = self._receive(data)
                if pipe is not None and pipe.ended:
                    began = 0
                    self._peer_ended(pipe)
            if len(data) > _LARGE_READ:
                self.turn.spend(len(data) >> _READ_SHIFT)
        except Exception as error:
            self._crashed(error)
        finally:
            self._corked = False
        if began is not None:  # session tickets leave with the first answer
            self.flush(soon=began == 1 or self._engine is not engine)

    def eof_received(self) -> bool:
        """Take the peer's FIN; tell whether the other direction stays open."""
        self._input_ended = True
        if self._closed:
            return False
        self._turn(self._receive_eof)
        self._flush_now()
        return not self._closed

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: tell the engine and the server."""
        if self._transport is None:
            return
        self.end = self._how_it_ended(exc)
        self._transport = None
        if self.state is not _LOST:
            self._enter(_LOST)
        try:
            if self._engine is not None:
                self._engine.connection_lost()
        except Exception:
            _logger.exception("connection from %s", self._peer)
        self._release()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Stop writing, and reading, which causes output: the buffer is full."""
        base: Connection = self
        base.writable = False
        self._watch_output()
        if not self._closed:
            self.pause_reading(Pause.UNSENT)

    def resume_writing(self) -> None:
        """Write and read again: the transport's buffer has room."""
        base: Connection = self
        base.writable = True
        if self._narrow and self._transport is not None:
            self._narrow = False
            self._transport.set_write_buffer_limits()
        self.resume_reading(Pause.UNSENT)
        if self._closed:
            return
        if self.output is not None:
            self.output.stop()
        if self._engine is not None:
            self._turn(self._engine.wake_writers)
            self._flush_now()
            if self._put_off_bytes or self._end_put_off:
                self._put_off()

    # What the engine and the exchanges call (``seams.Connection``) -----------------

    @property
    def config(self) -> ServerConfig:
        """Limits, windows and timeouts."""
        return self._config

    @property
    def reading(self) -> bool:
        """What the peer sends is read."""
        return not self._pauses

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued, see the flush rule above."""
        if soon:
            if not (self.flush_due or self._corked):
                base: Connection = self
                base.flush_due = True
                self.runtime.flush_soon(self._flush_first)
        elif not self._corked:
            self._flush_now()

    def delivery(self) -> tuple[int, int] | None:
        """Return how much output the peer has got, and lacks; ``None``: it is gone."""
        transport, runtime = self._transport, self.runtime
        if transport is None or runtime.hung_up(transport):
            return None
        lacks = transport.get_write_buffer_size() + runtime.unacknowledged(transport)
        return self.written - lacks, lacks

    def peer_ended(self) -> bool:
        """Tell whether the peer's FIN is here, perhaps behind data not read yet."""
        transport = self._transport
        return transport is not None and self.runtime.peer_ended(transport)

    def write(self, data: bytes, first: bool) -> bool:
        """Write ``data`` now if the flush rule lets us; tell whether it did.

        Not while the transport is full: what must not wait is queued and flushed.
        ``first``: nothing else was written here in this turn of the loop, which runs.
        """
        if self._corked or self.flush_due or self._closed or not self.writable:
            return False
        try:
            self._write(data, first)
        except Exception as error:
            self._crashed(error)
        return True

    def send_file(self, file: int, offset: int, size: int) -> int:
        """Send bytes of a file behind what is queued; 0: not here, or not now."""
        if self._pipe is not None or self._corked:
            return 0
        transport = self._transport
        if transport is not None and not self._narrow:
            self._narrow = True  # until the next pause: it ends where all is taken
            transport.set_write_buffer_limits(0)
        self._flush_now()
        transport = self._transport
        if transport is None or self._closed:
            return 0
        self._passed_on = True
        sent = self.runtime.send_file(transport, file, offset, size)
        self.written += sent
        return sent

    def pause_reading(self, reason: Pause) -> None:
        """Stop reading until ``reason`` is taken back."""
        if not self._closed and self._transport is not None:
            if not self._pauses:
                self._transport.pause_reading()
            self._pauses |= reason

    def resume_reading(self, reason: Pause) -> None:
        """Take ``reason`` back; read again if it was the last."""
        if self._pauses & reason:
            self._pauses &= ~reason
            if not self._pauses and self._transport is not None:
                self._transport.resume_reading()

    def cancel_at(self, when: float, exchange: Exchange) -> None:
        """Cancel the handler of ``exchange`` at ``when``, if it still runs then."""

        def cancel() -> None:
            task = self._running.get(exchange)
            if task is not None:
                task.cancel()

        self.runtime.call_at(when, cancel)

    def answered(self, exchange: Exchange) -> None:
        """End ``exchange``, though the task of its handler may go on; once."""
        if exchange in self._running:
            del self._running[exchange]
            self._wire.active -= 1
            if self.counters.timed and exchange.began and not exchange.tunnel:
                seconds = self.time() - exchange.began
                self.counters.answered(exchange, self._wire.version, seconds)
            exchange.task = None
            exchange.ended()
            self.flush(soon=True)

    def failed(self, exchange: Exchange, error: BaseException) -> bool:
        """Cut ``exchange`` off, if it is not answered; tell whether to raise ``error``.

        See ``seams.Connection``.
        """
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            return True
        cancelled = consists_of(error, self.runtime.cancelled)
        if exchange in self._running:
            exchange.reset(ErrorCode.CANCEL if cancelled else ErrorCode.INTERNAL_ERROR)
        if not cancelled:
            path = exchange.request.path
            _logger.error("handler of %s failed", path, exc_info=error)
        return cancelled

    def close(self) -> None:
        """Close in order: what is queued, close_notify, FIN; then linger."""
        if self._closed or self._transport is None:
            return
        self._write_queued(False)
        fin_sent_at = self._send_fin(self._transport)
        if fin_sent_at is None:
            return
        self._enter(_LINGERING)
        self._pauses = 0
        if self._transport.get_write_buffer_size():
            self._watch_output()
        self._linger = Linger(self, fin_sent_at)
        if self._input_ended:
            self._transport.close()
        else:
            self._transport.resume_reading()

    def abort(self) -> None:
        """Drop the connection; ``connection_lost`` follows if there is a transport."""
        if self.state is not _LOST:
            self._enter(_LOST)
        if self._transport is not None:
            self._transport.abort()
        else:
            self._release()

    # What the server calls ---------------------------------------------------------

    @property
    def handshaking(self) -> bool:
        """The TLS handshake is not complete."""
        return self.state is _HANDSHAKING

    def look(self, silent_at: int, dead_at: int) -> None:
        """Look whether the peer was heard since the last look; act if it was not.

        Where no tunnel is watched, the kernel is asked about output on its way.

        While reading is paused nothing is held against it: its bytes may wait unread,
        and ``OutputWatch`` and ``ReadGate`` find it if it is gone.

        Args:
            silent_at: looks in vain, in a row, after which the peer is asked.
            dead_at: those after which it is given up; 0: never, it is asked again.
        """
        if self.received != self._seen or self._pauses or self._engine is None:
            self._seen = self.received
            self._quiet = 0
            return
        self._quiet += 1
        if self._quiet == silent_at:
            self._turn(self._ask_peer, self._engine, dead_at)
            self._flush_now()
        elif self._quiet == dead_at:
            self._quiet = 0
            self._turn(self._engine.peer_dead)
            self._flush_now()

    def shut_down(self, *, tunnels: bool = True) -> None:
        """Drain: a handshake in progress is dropped, an engine finishes what it has.

        ``tunnels``: see ``seams.Engine``.
        """
        if self._engine is None:
            self.abort()
        else:
            self._turn(partial(self._engine.shut_down, tunnels=tunnels))
            self._flush_now()

    # What those call who look on -----------------------------------------------------

    @property
    def peer(self) -> PeerAddr:
        """The address of the peer."""
        return self._peer

    def describe(self) -> ConnectionView:
        """Return what there is to see of it now."""
        transport, engine = self._transport, self._engine
        return ConnectionView(
            state=self.state.name,
            info=getattr(self, "conn_info", None),
            unsent=0 if transport is None else transport.get_write_buffer_size(),
            reading=self.reading,
            engine=None if engine is None else engine.describe(),
        )

    def round_trip(self) -> float | None:
        """Return the seconds of one, as the kernel knows it; ``None``: it does not."""
        transport = self._transport
        return None if transport is None else self.runtime.round_trip(transport)

    def tap(self, tell: Tell) -> Place | None:
        """Have ``tell`` called with all that is received and sent, without TLS.

        Until ``untap``; one at a time. Files that the kernel would send are read then.
        Not from within a call of the connection.

        Returns:
            where received bytes stand; ``None``, with nothing done: it is not open.
        """
        self._flush_now()  # what was queued before is not told
        engine = self._engine
        if engine is None or self._closed:
            return None
        self._pipe = TlsTap(self._pipe, tell)
        return engine.place()

    def sink_of(self, stream: int) -> Sink | None:
        """Return what takes the bytes of a tunnel; see ``seams.Engine``."""
        return None if self._engine is None else self._engine.sink_of(stream)

    def untap(self) -> None:
        """End ``tap``; a no-op without one."""
        if isinstance(self._pipe, TlsTap):
            self._pipe = self._pipe.below

    # Inside --------------------------------------------------------------------------

    def _how_it_ended(self, exc: Exception | None) -> str:
        """Return in words how a connection ends that the transport has lost."""
        pipe, engine = self._pipe, self._engine
        if pipe is not None and pipe.failed:
            return f"TLS: {pipe.error}"
        if self.state is _LOST:
            return "cut off by us"
        if exc is not None:
            return f"lost: {exc}"
        if engine is None:
            return "left before it was open"
        order = "in order" if self.state is _LINGERING else "by the peer"
        return f"closed {order} ({engine.describe().phase})"

    def _enter(self, state: ConnectionState) -> None:
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state = state
        self._closed = state >= _LINGERING
        if _logger.isEnabledFor(logging.DEBUG):  # else its name is not needed
            _logger.debug("connection from %s is %s", self._peer, state.name)

    def _release(self) -> None:
        """Let go of all that refers to us, so that no cycle keeps us.

        An exchange may refer to us, and call, for as long as its handler runs.
        """
        self._wire.lost(self)
        self._timer.close()
        self.turn.close()
        self.deadlines.clear()
        self._end_handshake("abandoned")
        if self._linger is not None:
            self._linger.close()
        if self.output is not None:
            self.output.close()
        self._engine = self._pipe = self._linger = self.output = None

    def _turn(self, step: Callable[..., object], *args: object) -> None:
        """Run ``step``; what it queues leaves together afterwards."""
        self._corked = True
        try:
            step(*args)
        except Exception as error:
            self._crashed(error)
        finally:
            self._corked = False

    def _ask_peer(self, engine: Engine, dead_at: int) -> None:
        """Have ``engine`` ask, or else ask the kernel what it knows."""
        asked = engine.peer_silent()
        if not (asked and dead_at):
            self._quiet = 0
        if not asked and self._unanswered():
            _logger.debug("connection from %s: no acknowledgement", self._peer)
            hit(self.counters.limits, "silence")
            self.abort()

    def _unanswered(self) -> bool:
        """Tell whether output waits for an acknowledgement for too long.

        TCP keepalive has the same limit, but none of its questions is asked then.
        """
        config, transport = self.config, self._transport
        idle = config.tcp_keep_alive_idle
        if idle is None or transport is None:
            return False
        limit = idle + config.tcp_keep_alive_interval * config.tcp_keep_alive_count
        return self.runtime.unanswered(transport) >= limit

    def _receive_eof(self) -> None:
        if self._put_off_bytes:
            self._end_put_off = True
            return
        if self._pipe is not None:
            self._pipe.receive_eof()
        if self._engine is None:
            self.abort()
        else:
            self._engine.receive_eof()

    def _receive(self, data: bytes) -> int | None:
        """Feed the engine; return how many exchanges that began.

        ``None``: and there is nothing to send or to do, either.
        """
        engine = self._engine
        if engine is None or (exchanges := engine.receive_data(data)) is None:
            return None
        if exchanges:
            self._corked = False  # a handler may write more than can be held
            now = self.time() if self.counters.timed else 0.0
            for at in range(len(exchanges)):  # mostly of one: no iterator for that
                exchange = exchanges[at]
                if now:
                    exchange.began = now
                self._begin(exchange)
            self._corked = True
        if engine.backlog:
            self._put_off()
        return len(exchanges)

    def _begin(self, exchange: Exchange) -> None:
        self._wire.active += 1
        exchange.task = self._running[exchange] = _BEGINNING
        task = self.runtime.begin(self._handler, exchange)
        if exchange in self._running:  # else it is answered
            self._running[exchange] = task
            if exchange.task is _BEGINNING:  # else its handler has seen to that
                exchange.task = task

    @property
    def _put_off_bytes(self) -> bool:
        """Received bytes wait in a sink, the engine or TLS."""
        engine, pipe = self._engine, self._pipe
        return (
            self.turn.waiting
            or (engine is not None and engine.backlog)
            or (pipe is not None and pipe.backlog)
        )

    def _put_off(self) -> None:
        """Go on in the next turn; read nothing before that."""
        self.pause_reading(Pause.BACKLOG)
        self.turn.put_off()

    def _go_on(self) -> None:
        """Process input that an earlier turn put off.

        Not while the peer takes no output: what it asked for would pile up here.
        ``resume_writing`` comes back to it.
        """
        if self._closed or self._transport is None:
            return
        if not self.writable:
            self.resume_reading(Pause.BACKLOG)  # UNSENT holds
            return
        self._turn(self._catch_up)
        self._flush_now()

    def _catch_up(self) -> None:
        turn, pipe = self.turn, self._pipe
        time_left = turn.serve_sinks()
        engine = self._engine
        if time_left and engine is not None and engine.backlog:
            self._receive(b"")
            time_left = not (turn.over or engine.backlog)
        if time_left and pipe is not None and pipe.backlog:
            data = pipe.receive_data(b"")
            if (engine is not None or self._handshaken()) and data:
                self._receive(data)
            self._end_put_off = self._end_put_off or pipe.ended
        if self._put_off_bytes or turn.over:
            self._put_off()
            return
        if self._end_put_off:
            self._end_put_off = False
            if pipe is not None and pipe.ended:
                self._peer_ended(pipe)
            if self._input_ended and not self._closed:
                self._receive_eof()
        self.resume_reading(Pause.BACKLOG)

    def _handshaken(self) -> bool:
        """Go on with the TLS handshake; tell whether the engine can take over."""
        pipe = self._pipe
        if pipe is None:
            return False
        if pipe.established:
            self._end_handshake("complete")
            self._open(pipe.alpn)
            return True
        if pipe.failed:
            self._end_handshake("failed")
            _logger.debug("TLS error from %s: %s", self._peer, pipe.error)
            self._tell(pipe.complaint)
            self.close()
        return False

    def _end_handshake(self, result: str) -> None:
        """Take the time off the handshake: it is over."""
        if self._handshake is not None:
            self._handshake.close()
            self._handshake = None
            info = None if self._pipe is None else self._pipe.info
            version = "" if info is None else info.version
            hit(self.counters.handshakes, (result, version))

    def _tell(self, complaint: str | None) -> None:
        if complaint is not None and self._complain is not None:
            self._complain(complaint, self._peer)

    def _handshake_late(self) -> None:
        timeout = self.config.tls_handshake_timeout
        _logger.warning("TLS handshake timeout after %s s from %s", timeout, self._peer)
        self._end_handshake("timeout")
        self.abort()

    def _open(self, alpn: str | None) -> None:
        # RFC 9113 §3.2: over TLS only ALPN selects HTTP/2
        http2 = alpn == "h2" or self._protocol == "h2"
        counters = self.counters
        self._wire = counters.http2 if http2 else counters.http1
        self._wire.opened(self)
        wire = Carrier.HTTP2 if http2 else Carrier.HTTP1
        if isinstance(self._local, UnixPeer):
            wire = Carrier.UNIX
        tls = None if self._pipe is None else self._pipe.info
        base: Connection = self
        base.conn_info = ConnInfo(  # by position: a dataclass takes names slowly
            self._peer, self._local, wire, tls, None, self._believe
        )
        self._engine = self._engines["h2" if http2 else "http/1.1"](self)
        self._enter(_OPEN)

    def _peer_ended(self, pipe: TlsPipe) -> None:
        """End the input: the peer's close_notify came, or TLS failed."""
        if self._closed:
            return
        if self._put_off_bytes:
            self._end_put_off = True
            return
        if pipe.failed:
            _logger.debug("TLS error from %s: %s", self._peer, pipe.error)
            self._input_ended = True  # whatever the peer sends, it cannot be read
            self.close()
        elif self._engine is not None:
            self._engine.receive_eof()

    def _flush_first(self) -> None:
        """Flush, called by the loop: nothing was written here in its turn."""
        self._flush_now(True)

    def _flush_now(self, first: bool = False) -> None:
        base: Connection = self
        base.flush_due = False
        if self._closed or self._transport is None:
            return
        try:
            self._write_queued(first)
            engine = self._engine
            if engine is None:
                return
            if engine.half_closed:
                self._send_fin(self._transport)
            if engine.closing:
                self._tell(engine.complaint)
                self.close()
            elif engine.backlog and self.writable and not self._pauses & Pause.BACKLOG:
                self._put_off()
        except Exception as error:
            self._crashed(error)

    def _write_queued(self, first: bool) -> None:
        """Write what the engine has queued, or else what TLS has of the handshake."""
        engine = self._engine
        if engine is None:
            self._write(b"")
            return
        self._write(engine.data_to_send(), first)
        while engine.unsent:
            self._write(engine.data_to_send())

    def _write(self, data: bytes | memoryview, first: bool = False) -> None:
        """Encrypt and write ``data``, behind what TLS itself has queued.

        ``first``: past the loop, if it can be; see ``write``.
        """
        pipe = self._pipe
        if pipe is not None:
            if len(data) > _LARGE_WRITE:
                self._write_pieces(pipe.pieces_to_send(data))
                return
            data = pipe.data_to_send(data)
        size = len(data)
        if size and self._transport is not None:
            self.written += size
            if first and isinstance(data, bytes):
                sent = self._send_now(self._transport, data)
                if sent == size:
                    return
                if sent:
                    data = memoryview(data)[sent:]
            self._passed_on = True
            self._few -= 1
            if not self._few:
                self._weigh_writes(self._transport)
            self._transport.write(data)

    def _send_now(self, transport: Transport, data: bytes) -> int:
        """Return how much of ``data`` the socket takes at once, if that is ours."""
        if self._fd < 0:
            if self._fd == _NONE:
                return 0
            self._fd = self.runtime.descriptor(transport)
            if self._fd < 0:
                return 0
        if self._passed_on:
            if transport.get_write_buffer_size():  # it would overtake that
                return 0
            self._passed_on = False
        return send_now(self._fd, data)

    def _write_pieces(self, pieces: list[bytes]) -> None:
        """Write large output of TLS, which is not copied to be joined."""
        if pieces and self._transport is not None:
            self.written += sum(map(len, pieces))
            self._passed_on = True
            self.runtime.write_all(self._transport, pieces)

    def _weigh_writes(self, transport: Transport) -> None:
        """Have the transport pause us at the next write if output waits in it.

        It counts bytes, but keeps each write as an object of its own: those of a few
        bytes cost thirty times as much.
        """
        self._few = _FEW_WRITES
        if self.writable and transport.get_write_buffer_size():
            self._narrow = True
            transport.set_write_buffer_limits(0)

    def _send_fin(self, transport: Transport) -> float | None:
        """Send close_notify (RFC 8446 §6.1, RFC 9112 §9.8) and FIN, once.

        Return when that was; ``None``: the peer has reset the connection.
        """
        if self._fin_sent_at is None:
            self._fin_sent_at = self.time()
            if self._pipe is not None:
                self._pipe.close_notify()
                self._write(b"")
            try:
                transport.write_eof()
            except OSError:  # the reset came first, and the loop has not told us yet
                self.abort()
                return None
        return self._fin_sent_at

    def _watch_output(self) -> None:
        if self.output is None and self._transport is not None:
            self.output = OutputWatch(self, self._transport)
        if self.output is not None:
            self.output.start()

    def _drop(self, size: int) -> None:
        if self._linger is not None:
            self._linger.drop(size)

    def _arm(self) -> None:
        when = self.deadlines.next()
        if when is not None and self._transport is not None:
            self._timer.set(when)

    def _deadline_reached(self) -> None:
        self._turn(self.deadlines.reached, self.time())
        self._arm()
        self._flush_now()

    def _crashed(self, error: Exception) -> None:
        """Log a bug of tako, and drop this connection; others are not affected."""
        _logger.error("connection from %s", self._peer, exc_info=error)
        self.abort()
