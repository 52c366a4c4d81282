"""``Service``: one listener, from the first accept to the end of the drain.

Theory of operation. One task per listening socket accepts, takes a permit and attaches
a ``TcpConnection``, or an ``Undecided``, which is promoted to one once its protocol is
known. A drain closes the sockets first, then tells every connection and every session,
then waits for them and their handlers; a session has only ``ws_close_timeout`` and a
moment. With ``drain_websockets="end"`` sessions run on, and are told in time before the
end of the drain instead. ``ServicePhase`` says what the phases are, ``_NEXT`` what may
follow what.

A drain may have time in front of it. ``stop`` gives it to those who choose a server:
with ``drain_delay`` everything goes on, so that a balancer can notice first.
``hand_over`` is for sockets from which another process accepts, too: nothing is to be
noticed, but what was accepted has ``HANDOVER`` to send its request.

Invariants: a connection is in ``_connections`` from ``attach`` until its
``connection_lost``; it holds its permit as long; an exchange is in ``_running`` while
its handler runs, which may be longer than its connection lives; an error of ``accept``
or of one connection never ends the service; a socket is not closed while a task accepts
from it; a drain does not cut off a connection that is being attached.
"""

import enum
import logging
import math
import socket
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from tako.config import ServerConfig
from tako.core.callbacks import nothing
from tako.core.counters import PROCESS, Counters, hit
from tako.core.late_loop import LoopWatch
from tako.core.states import CHECKED, check_transition
from tako.http.conn_info import IpPeer, OtherPeer, PeerAddr
from tako.http.request import Request
from tako.http.response import Response
from tako.proxy.forwarded import Forwarders
from tako.proxy.header import ProxyHeader
from tako.proxy.policy import ProxyPolicy
from tako.routing.https_redirect import https_redirect
from tako.runtime import ServerRuntime
from tako.server.certificate_watch import watch_certificates
from tako.server.detect import ListenerProtocol, ProtocolDetector
from tako.server.drain_notice import DrainNotice
from tako.server.engines import ENGINES
from tako.server.guards import adopt_client, redirect_insecure, refuse_misdirected
from tako.server.handshakes import Handshakes
from tako.server.health import answer_probes
from tako.server.listener import Listener
from tako.server.pipeline import Dispatch, run_exchange
from tako.server.seldom import Seldom
from tako.server.tcp_keep_alive import keep_alive
from tako.server.undecided import SharedTransport, Undecided
from tako.tcp.address import address_of
from tako.tcp.connection import TcpConnection
from tako.tcp.protocol import Handler, Protocol as WireProtocol
from tako.tcp.silence import SilenceWatch
from tako.tls.certificates import TlsSettings


if TYPE_CHECKING:
    from tako.core.loop import Clock, Task, Timer
    from tako.core.seams import Exchange


_logger = logging.getLogger("tako.server")
_phases = logging.getLogger("tako.server.lifetime")

_TCP = frozenset({socket.AF_INET, socket.AF_INET6})
_ACCEPT_TURN = 32  # connections accepted before others have a turn

HANDOVER = 1.0
"""Seconds in which connections that were accepted may still send a request."""


class ServicePhase(enum.IntEnum):
    """How far a service has come."""

    ACCEPTING = 0
    """Each listening socket has a task that accepts from it."""
    LEAVING = 1
    """The same for a while: the shutdown has begun, and clients can learn of it."""
    STOPPING = 2
    """Nothing more is accepted; what was accepted is attached."""
    DRAINING = 3
    """Connections and sessions were told to end; they and handlers are waited for."""
    CUTTING = 4
    """What is left, if anything, is cancelled and aborted."""
    DONE = 5
    """Nothing is left: no socket, no connection."""


_NEXT: dict[ServicePhase, frozenset[ServicePhase]] = {
    ServicePhase.ACCEPTING: frozenset(
        {ServicePhase.LEAVING, ServicePhase.STOPPING, ServicePhase.CUTTING}
    ),
    ServicePhase.LEAVING: frozenset({ServicePhase.STOPPING, ServicePhase.CUTTING}),
    ServicePhase.STOPPING: frozenset({ServicePhase.DRAINING, ServicePhase.CUTTING}),
    ServicePhase.DRAINING: frozenset({ServicePhase.CUTTING}),
    ServicePhase.CUTTING: frozenset({ServicePhase.DONE}),
    ServicePhase.DONE: frozenset(),
}


class Observer(Protocol):
    """Who is told of what ends; see ``Service.observe``."""

    def connection_ended(self, connection: TcpConnection | Undecided) -> None:
        """Take note of a connection that is lost."""
        ...

    def websocket_asked(self, request: Request) -> None:
        """Take note of a request for a WebSocket, before it is answered."""
        ...


class Dispatcher(Protocol):
    """A router, as the service sees it."""

    def dispatch(
        self, request: Request, *, timer: Any = None
    ) -> Coroutine[Any, Any, Response]:
        """Return the response to ``request``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a listener offers.

    Attributes:
        protocol: what its clients speak.
        tls: the certificates of ``"tls"`` and ``"any"``.
        proxy: which peers send PROXY headers; ``None``: none does.
        https_port: requests that came unencrypted are redirected to this port.
        plain: those of the listening sockets whose clients speak HTTP/1.1 without TLS,
            whatever ``protocol`` is.
        healthy: tells whether what the server cannot see is well.
        aside: it is no part of what the process serves: not among the counters of the
            process, and without a watch over the event loop.
    """

    protocol: ListenerProtocol = "http/1.1"
    tls: TlsSettings | None = None
    proxy: ProxyPolicy | None = None
    https_port: int | None = None
    plain: frozenset[socket.socket] = frozenset()
    healthy: Callable[[], object] | None = None
    aside: bool = False

    def protocol_of(self, listener: socket.socket) -> ListenerProtocol:
        """Return what the clients of one listening socket speak."""
        return "http/1.1" if listener in self.plain else self.protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What a server is doing at the moment, in numbers.

    Attributes:
        connections: open connections; ``max_connections`` bounds them.
        handshakes: those of them whose TLS handshake, or whose first bytes, are not
            complete; ``max_tls_handshakes`` bounds them.
        exchanges: requests and WebSockets whose handlers run.
        accepted: connections that were accepted since the start.
    """

    connections: int = 0
    handshakes: int = 0
    exchanges: int = 0
    accepted: int = 0


class Service:
    """Serves one listener on one runtime."""

    def __init__(
        self,
        runtime: ServerRuntime,
        listener: Listener,
        router: Dispatcher,
        endpoint: Endpoint,
        config: ServerConfig,
        *,
        on_farewell: Callable[[], None] = nothing,
    ) -> None:
        """Serve nothing yet.

        Args:
            runtime: the loop.
            listener: accepts.
            router: answers requests.
            endpoint: what is offered.
            config: limits and timeouts.
            on_farewell: called when sessions are told to end.
        """
        self._runtime = runtime
        self._listener = listener
        self._on_farewell = on_farewell
        self._config = config
        self._endpoint = endpoint
        self._tls = tls = endpoint.tls
        dispatch = _with_timer(router, runtime)
        if tls is not None and tls.several:
            dispatch = partial(refuse_misdirected, tls, dispatch)
        if endpoint.https_port is not None:
            redirect = https_redirect(endpoint.https_port).dispatch
            dispatch = partial(redirect_insecure, redirect, dispatch)
        if (path := config.health_path) is not None:
            dispatch = partial(answer_probes, path, self._trouble, dispatch)
        self._dispatch = dispatch
        self._handler: Handler = partial(run_exchange, dispatch)
        self._observer: Observer | None = None
        self._forwarders = Forwarders(
            config.forwarded_allow_ips or (), host=config.forwarded_host
        )
        self._connections: set[TcpConnection | Undecided] = set()
        self._running: dict[Exchange, Task] = {}
        self._handshakes = Handshakes(config.max_tls_handshakes)
        self.counters: Counters = Counters()
        if tls is not None:
            self.counters.expiry = tls.expiry
        # Tasks that use a listening socket; those with a connection but no permit
        self._accepting = self._awaiting_permit = 0
        self._attaching = 0  # connections that the loop has not taken yet
        self._local: tuple[object, PeerAddr] = (None, OtherPeer(""))  # the last one
        self._changed = runtime.signal()
        self._loop_watch: LoopWatch  # once it runs
        self._phase = ServicePhase.ACCEPTING
        self._error: BaseException | None = None
        self._seldom = Seldom()
        self._handing_over = False  # it stops, and a successor goes on listening
        self._delay = config.drain_delay or 0.0
        self._delay_ends: float | None = None  # what is in front of the drain
        self._drain_timeout = config.drain_timeout
        self._drain_begun: float | None = None
        self._farewell: Timer | None = None  # tells sessions, where they run on
        self.time: Clock = runtime.time

    @property
    def statistics(self) -> ServerStatistics:
        """What the service is doing at the moment, in numbers."""
        return ServerStatistics(
            connections=len(self._connections),
            handshakes=sum(1 for _ in self._handshakes),
            exchanges=len(self._running),
            accepted=self.counters.accepted,
        )

    @property
    def connections(self) -> list[TcpConnection]:
        """The connections whose protocol is known, if only by the listener."""
        return [it for it in self._connections if isinstance(it, TcpConnection)]

    @property
    def exchanges(self) -> "list[Exchange]":
        """Requests and WebSockets whose handlers run, in the order of their begin."""
        return list(self._running)

    def observe(self, observer: Observer | None) -> None:
        """Have ``observer`` told of what ends, and no other; ``None``: nobody.

        Of WebSockets it is told on connections that are accepted from now on.
        """
        self._observer = observer
        dispatch = self._dispatch
        if observer is not None:
            dispatch = partial(self._observed, dispatch)
        self._handler = partial(run_exchange, dispatch)

    def _observed(self, dispatch: Dispatch, request: Request) -> Awaitable[Response]:
        if request.is_websocket and self._observer is not None:
            self._observer.websocket_asked(request)
        return dispatch(request)

    @property
    def drain_left(self) -> float:
        """Seconds that are left of the drain's time."""
        now, begun = self.time(), self._drain_begun
        return self._drain_timeout - (0 if begun is None else now - begun)

    @property
    def _delay_left(self) -> float:
        """Seconds that are left of what is in front of the drain."""
        ends = self._delay_ends
        return self._delay if ends is None else max(0.0, ends - self.time())

    def shorten_drain(self, timeout: float) -> None:
        """Give the drain, and what is in front of it, ``timeout`` seconds from now.

        If both have less than that together nothing changes. Else each gets less by
        the same factor: a delay that kept its length would leave requests no time.
        """
        if self._drain_begun is None:
            delay, drain = self._delay_left, self._drain_timeout
            if timeout >= delay + drain:
                return
            share = timeout / (delay + drain)
            self._drain_timeout = drain * share
            if self._delay_ends is None:
                self._delay = delay * share
            else:
                self._delay_ends = self.time() + delay * share
                self._changed.set()
        elif timeout < self.drain_left:
            self._drain_timeout = self.time() + timeout - self._drain_begun
            self._runtime.call_at(self.time() + timeout, self._drain_over)
            if self._farewell is not None:
                self._set_farewell()

    def stop(self, *, delay: bool = True) -> None:
        """Begin to end, with ``drain_delay`` or without; repeats are no-ops."""
        if self._accepts and not (delay and self._delay_left):
            self._begin_delay(ServicePhase.STOPPING, 0.0)
        elif self._phase is ServicePhase.ACCEPTING:
            self._begin_delay(ServicePhase.LEAVING, self._delay)

    def hand_over(self) -> None:
        """Begin to end while another process goes on accepting.

        It needs no ``drain_delay``, and ends one that has begun. A no-op once nothing
        more is accepted.
        """
        if self._accepts:
            _logger.info("Handing over to another process, draining connections...")
            self._handing_over = True
            leaving = self._phase is ServicePhase.LEAVING
            delay = min(HANDOVER, self._delay_left) if leaving else HANDOVER
            self._begin_delay(ServicePhase.STOPPING, delay)

    def _begin_delay(self, phase: ServicePhase, delay: float) -> None:
        self._delay_ends = self.time() + delay
        self._enter(phase)
        self._changed.set()

    def _enter(self, phase: ServicePhase) -> None:
        if CHECKED:
            check_transition(_NEXT, self._phase, phase)
        self._phase = phase
        _logger.debug("service %#x is %s", id(self), phase.name)

    def _trouble(self) -> str | None:
        """Return why clients had better go elsewhere; ``None``: all is well."""
        begun = ServicePhase.DRAINING if self._handing_over else ServicePhase.LEAVING
        if self._phase >= begun:
            return "shutting down"
        most = self._config.health_lag
        if most is not None and self._loop_watch.lag > most:
            return "the event loop stands still"
        return None if self._healthy() else "not healthy"

    def _healthy(self) -> bool:
        """Ask what the application has given; it may fail, and anyone may ask."""
        healthy = self._endpoint.healthy
        if healthy is None:
            return True
        try:
            return bool(healthy())
        except Exception:
            if self._seldom.allows("healthy", self.time()):
                _logger.exception("healthy() failed (told once a minute)")
            return False

    @property
    def _accepts(self) -> bool:
        return self._phase <= ServicePhase.LEAVING

    async def run(self) -> None:
        """Serve until stopped, then drain.

        Raises:
            Exception: accepting failed for a reason that is a bug.

        Cancel safety: cancelling aborts every connection at once.
        """
        if self._endpoint.aside:
            await self._run()
            return
        self._loop_watch = LoopWatch(self._runtime, self.counters.looked)
        try:
            with PROCESS.serving(self.counters):
                await self._run()
        finally:
            self._loop_watch.stop()

    async def _run(self) -> None:
        spawn = self._runtime.spawn
        for sock in self._listener.sockets:
            keep_alive(sock, sock.family, self._config)
        beside = [spawn(self._accept, sock) for sock in self._listener.sockets]
        if self._tls is not None:
            beside.append(spawn(watch_certificates, self._runtime, self._tls))
            beside += self._keep_certificates(self._tls)
        silence = SilenceWatch(self._runtime, self._config, self._connections)
        try:
            while self._phase is ServicePhase.ACCEPTING and self._error is None:
                await self._changed.wait()
            if self._phase is ServicePhase.LEAVING:
                await self._leave()
            while self._attaching or (self._awaiting_permit and self._handing_over):
                await self._changed.wait()  # what we have accepted is served
            for task in beside:
                task.cancel()
            while self._accepting:
                await self._changed.wait()
            self._listener.close()
            if self._error is not None:
                raise self._error
            await self._drain()
        finally:
            self._cut()
            await self._runtime.shielded(self._gone)
            silence.stop()
            self._listener.close()
            self._enter(ServicePhase.DONE)

    def _keep_certificates(self, tls: TlsSettings) -> "list[Task]":
        """Start what orders the certificates that authorities issue to us."""
        if not tls.ordered:
            return []
        keep = import_module("tako.acme.keeper").keep  # its client is an extra
        return [self._runtime.spawn(keep, self._runtime, it.acme) for it in tls.ordered]

    async def _accept(self, listener: socket.socket) -> None:
        self._accepting += 1
        try:
            await self._accept_from(listener)
        except Exception as error:
            self._error = error  # for run() to raise
        finally:
            self._accepting -= 1
            self._changed.set()

    async def _accept_from(self, listener: socket.socket) -> None:
        backoff = self._config.accept_backoff
        pause = backoff.initial
        family = listener.family  # which a socket makes an enum of, each time
        protocol = self._endpoint.protocol_of(listener)
        while self._accepts:
            try:
                sock, address = await self._runtime.accept(listener)
            except OSError as error:
                self.counters.accept_errors += 1
                _logger.warning("accept failed: %s; backing off", error)
                await self._runtime.sleep(pause)
                pause = min(pause * 2, backoff.max)
                continue
            pause = backoff.initial
            await self._admit(sock, protocol, family, address)
            self.counters.accepted += 1
            if self.counters.accepted % _ACCEPT_TURN == 0:
                await self._runtime.sleep(0)

    async def _admit(
        self,
        sock: socket.socket,
        protocol: ListenerProtocol,
        family: int,
        address: object,
    ) -> None:
        """Wait for a permit for ``sock``, then have it served."""
        connection: TcpConnection | Undecided | None = None
        most = self._config.max_connections or math.inf
        self._awaiting_permit += 1
        try:
            # no successor can serve a connection that we have accepted
            while len(self._connections) >= most and not self._handing_over:
                await self._changed.wait()
            connection = self._register(sock, protocol, family, address)
        finally:
            self._awaiting_permit -= 1
            if connection is None:
                sock.close()
        if connection is not None:
            # in a task of its own: others need not wait until the loop has taken it
            self._attaching += 1
            self._runtime.begin(self._attach, sock, connection)

    def _register(
        self,
        sock: socket.socket,
        protocol: ListenerProtocol,
        family: int,
        address: object,
    ) -> TcpConnection | Undecided | None:
        """Return what is to serve ``sock``, which has a permit; ``None``: refuse it."""
        try:
            local = self._local_address(family, sock.getsockname())
            if family in _TCP:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(sock, family, self._config, accepted=True)
        except OSError:  # it is gone already
            return None
        connection = self._receiver(protocol, address_of(family, address), local)
        if connection is not None:
            self._connections.add(connection)
            if protocol == "tls" or isinstance(connection, Undecided):
                self._begin_handshake(connection)
        return connection

    def _local_address(self, family: int, name: object) -> PeerAddr:
        """Return ``name`` of a socket as an address: the same one as long as it is."""
        if name != self._local[0]:
            self._local = (name, address_of(family, name))
        return self._local[1]

    def _begin_handshake(self, connection: TcpConnection | Undecided) -> None:
        if self._handshakes.add(connection):
            hit(self.counters.limits, "tls_handshakes")

    async def _attach(
        self, sock: socket.socket, connection: TcpConnection | Undecided
    ) -> None:
        """Give ``sock`` to the loop, which calls ``connection`` from now on."""
        try:
            await self._runtime.attach(sock, connection)
        except OSError:
            connection.abort()
            sock.close()
            self._lost(connection)
        except BaseException as error:
            # not every loop calls connection_lost for one that failed on its way in
            connection.abort()
            self._lost(connection)
            if not isinstance(error, Exception):
                raise
            _logger.exception("a connection failed while it was accepted")
        finally:
            self._attaching -= 1
            self._changed.set()

    def _receiver(
        self, protocol: ListenerProtocol, peer: PeerAddr, local: PeerAddr
    ) -> TcpConnection | Undecided | None:
        """Return what serves a connection from ``peer``; ``None``: refuse it."""
        policy = self._endpoint.proxy
        if policy is not None and not policy.trusts(peer):
            if protocol != "any":
                _logger.warning("%s is no trusted proxy, connection refused", peer)
                return None
            policy = None
        if policy is None and protocol != "any":
            believe = self._believes(peer, None)
            return self._connection(protocol, peer, local, self._handler, believe)
        detector = ProtocolDetector(
            self._config, protocol, tls=self._tls is not None, policy=policy
        )
        return Undecided(
            self._runtime,
            detector,
            peer,
            on_decided=partial(self._promote, local),
            on_lost=self._lost,
        )

    def _promote(
        self,
        local: PeerAddr,
        undecided: Undecided,
        transport: SharedTransport,
        protocol: WireProtocol,
    ) -> None:
        """Put a connection in the place of ``undecided``."""
        header, peer, handler = undecided.detector.header, undecided.peer, self._handler
        believe = self._believes(peer, header)
        if header is not None and isinstance(header.source, IpPeer):
            peer = header.source
        if self._endpoint.proxy is not None:
            handler = partial(adopt_client, header, handler)
        connection = self._connection(protocol, peer, local, handler, believe)
        self._connections.remove(undecided)
        self._connections.add(connection)
        self._handshakes.discard(undecided)
        if protocol == "tls":
            self._begin_handshake(connection)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if undecided.detector.rest:
            connection.data_received(undecided.detector.rest)

    def _believes(
        self, peer: PeerAddr, header: ProxyHeader | None
    ) -> Callable[[Request], None] | None:
        """Return what adopts the fields of a trusted proxy; ``None``: none is trusted.

        Where proxies send PROXY headers, the client that one names is the peer. Without
        such a client nothing says who has written the fields.
        """
        if self._endpoint.proxy is not None:
            if header is None or not isinstance(header.source, IpPeer):
                return None
            peer = header.source
        return self._forwarders.adopt if self._forwarders.trusts(peer) else None

    def _connection(
        self,
        protocol: WireProtocol,
        peer: PeerAddr,
        local: PeerAddr,
        handler: Handler,
        believe: Callable[[Request], None] | None,
    ) -> TcpConnection:
        return TcpConnection(
            self._runtime,
            self._config,
            handler,
            engines=ENGINES,
            protocol=protocol,
            tls=self._tls if protocol == "tls" else None,
            peer=peer,
            local=local,
            on_lost=self._lost,
            complain=self._complain,
            running=self._running,
            believe=believe,
            counters=self.counters,
        )

    def _complain(self, complaint: str, peer: PeerAddr) -> None:
        """Log why a peer was refused, once a minute for each cause."""
        if self._seldom.allows(complaint, self._runtime.time()):
            _logger.info("%s (from %s; told once a minute)", complaint, peer)

    def _lost(self, connection: TcpConnection | Undecided) -> None:
        self._connections.discard(connection)
        self._handshakes.discard(connection)
        if self._observer is not None:
            self._observer.connection_ended(connection)
        self._changed.set()

    async def _leave(self) -> None:
        """Go on as before until ``drain_delay`` is over."""
        notice = DrainNotice(self._runtime, self._why_not_yet)
        try:
            while self._phase is ServicePhase.LEAVING and self._error is None:
                if self._delay_left <= 0:
                    self._enter(ServicePhase.STOPPING)
                else:
                    await self._changed.wait(self._delay_left)
        finally:
            notice.stop()

    def _why_not_yet(self) -> str:
        return f"still accepting for {self._delay_left:.0f} s, then draining"

    async def _drain(self) -> None:
        if self._handing_over:
            await self._stay()
        self._enter(ServicePhase.DRAINING)
        self._drain_begun = self.time()
        if self._config.drain_websockets == "now":
            self._tell_sessions()
        else:
            for connection in list(self._connections):
                connection.shut_down(tunnels=False)
            self._set_farewell()
        notice = DrainNotice(self._runtime, self._waited_for)
        try:
            await self._runtime.run_within(self._drain_timeout, self._emptied)
        except TimeoutError:
            self._drain_over()
        finally:
            notice.stop()
            if self._farewell is not None:
                self._farewell.cancel()
                self._farewell = None
        if self._phase is ServicePhase.DRAINING:
            _phases.info("Server shut down gracefully")

    def _tell_sessions(self) -> None:
        """Have all connections drain, and all sessions end, those without one, too."""
        self._farewell = None
        self._on_farewell()
        for connection in list(self._connections):
            connection.shut_down()
        for exchange in list(self._running):
            exchange.sink.shut_down()

    def _set_farewell(self) -> None:
        if self._farewell is not None:
            self._farewell.cancel()
        when = self.time() + self._farewell_in
        self._farewell = self._runtime.call_at(when, self._tell_sessions)

    @property
    def _farewell_in(self) -> float:
        """Seconds until sessions are told to end, for which they then have the rest."""
        rest = min(self._drain_timeout / 10, self._config.ws_close_timeout)
        return self.drain_left - rest

    async def _stay(self) -> None:
        """Serve clients that have connected, while a successor accepts new ones."""
        while self._connections and (left := self._delay_left) > 0:
            await self._changed.wait(left)

    def _waited_for(self) -> str:
        remaining = self._remaining() or "the end"
        if self._farewell is not None and any(each.tunnel for each in self._running):
            remaining += f" (told to end in {self._farewell_in:.0f} s)"
        return f"draining: waiting for {remaining}, {self.drain_left:.0f} s at most"

    def _drain_over(self) -> None:
        """Cut what is left, once; a no-op if nothing is."""
        remaining = self._remaining()
        if self._phase is not ServicePhase.DRAINING or not remaining:
            return
        _logger.warning(
            "Drain timeout (%s s) exceeded, aborting %s",
            round(self._drain_timeout, 3),
            remaining,
        )
        self._cut()

    def _remaining(self) -> str:
        """Return what is left, counted by kind; ``""`` if nothing is."""
        requests = sessions = helpers = 0
        for exchange in self._running:
            helpers += exchange.task is None  # an ASGI app's task is one more
            sessions += exchange.tunnel
            requests += not exchange.tunnel
        counts = {
            "connection": len(self._connections),
            "request": requests,
            "session": sessions,
            "background task": self._runtime.busy - requests - sessions - helpers,
        }
        return ", ".join(
            _counted(number, name) for name, number in counts.items() if number > 0
        )

    async def _emptied(self) -> None:
        await self._gone()
        await self._runtime.finished()

    async def _gone(self) -> None:
        while self._connections or self._accepting:
            await self._changed.wait()

    def _cut(self) -> None:
        if self._phase is not ServicePhase.CUTTING:
            self._enter(ServicePhase.CUTTING)
        self._runtime.cancel_tasks()
        for connection in list(self._connections):
            connection.abort()


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"


def _with_timer(router: Dispatcher, timer: ServerRuntime) -> Dispatch:
    """Return ``router.dispatch`` with ``timer``; cheaper to call than a ``partial``."""
    dispatch = router.dispatch

    def dispatch_in_time(request: Request) -> Awaitable[Response]:
        return dispatch(request, timer=timer)

    return dispatch_in_time
