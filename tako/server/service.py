"""``Service``: one listener, from the first accept to the end of the drain.

Theory of operation. One task per listening socket accepts, takes a permit and attaches
a ``TcpConnection``, or an ``Undecided``, which is promoted to one once its protocol is
known. A drain closes the sockets first, then tells every connection and every session,
then waits for them and their handlers; a session has only ``ws_close_timeout`` and a
moment. ``ServicePhase`` says what the phases are, ``_NEXT`` what may follow what.

Invariants: a connection is in ``_connections`` from ``attach`` until its
``connection_lost``; it holds its permit as long; an exchange is in ``_running`` while
its handler runs, which may be longer than its connection lives; an error of ``accept``
or of one connection never ends the service; a socket is not closed while a task accepts
from it; a drain does not cut off a connection that is being attached.
"""

import enum
import logging
import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tako.config import ServerConfig
from tako.core.late_loop import LoopWatch
from tako.core.states import check_transition
from tako.http.conn_info import IpPeer, PeerAddr
from tako.http.request import Request
from tako.http.response import Response
from tako.proxy.forwarded import Forwarders
from tako.proxy.header import ProxyHeader
from tako.proxy.policy import ProxyPolicy
from tako.routing.https_redirect import https_redirect
from tako.runtime import ServerRuntime
from tako.server.certificate_watch import watch_certificates
from tako.server.connection import TcpConnection
from tako.server.contained import Handler
from tako.server.detect import (
    ListenerProtocol,
    Protocol as WireProtocol,
    ProtocolDetector,
)
from tako.server.drain_notice import DrainNotice
from tako.server.engines import ENGINES
from tako.server.guards import adopt_client, redirect_insecure, refuse_misdirected
from tako.server.handshakes import Handshakes
from tako.server.listener import Listener, address_of
from tako.server.pipeline import Dispatch, run_exchange
from tako.server.seldom import Seldom
from tako.server.silence import SilenceWatch
from tako.server.tcp_keep_alive import keep_alive
from tako.server.undecided import SharedTransport, Undecided
from tako.tls.certificates import TlsSettings


if TYPE_CHECKING:
    from tako.core.loop import Clock, Task
    from tako.core.seams import Exchange


_logger = logging.getLogger("tako.server")

_TCP = frozenset({socket.AF_INET, socket.AF_INET6})
_ACCEPT_TURN = 32  # connections accepted before others have a turn


class ServicePhase(enum.IntEnum):
    """How far a service has come."""

    ACCEPTING = 0
    """Each listening socket has a task that accepts from it."""
    STOPPING = 1
    """Nothing more is accepted; what was accepted is attached."""
    DRAINING = 2
    """Connections and sessions were told to end; they and handlers are waited for."""
    CUTTING = 3
    """What is left, if anything, is cancelled and aborted."""
    DONE = 4
    """Nothing is left: no socket, no connection."""


_NEXT: dict[ServicePhase, frozenset[ServicePhase]] = {
    ServicePhase.ACCEPTING: frozenset({ServicePhase.STOPPING, ServicePhase.CUTTING}),
    ServicePhase.STOPPING: frozenset({ServicePhase.DRAINING, ServicePhase.CUTTING}),
    ServicePhase.DRAINING: frozenset({ServicePhase.CUTTING}),
    ServicePhase.CUTTING: frozenset({ServicePhase.DONE}),
    ServicePhase.DONE: frozenset(),
}


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
    """

    protocol: ListenerProtocol = "http/1.1"
    tls: TlsSettings | None = None
    proxy: ProxyPolicy | None = None
    https_port: int | None = None


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
    ) -> None:
        self._runtime = runtime
        self._listener = listener
        self._config = config
        self._endpoint = endpoint
        self._tls = tls = endpoint.tls
        dispatch: Dispatch = partial(router.dispatch, timer=runtime)
        if tls is not None and tls.several:
            dispatch = partial(refuse_misdirected, tls, dispatch)
        if endpoint.https_port is not None:
            redirect = https_redirect(endpoint.https_port).dispatch
            dispatch = partial(redirect_insecure, redirect, dispatch)
        self._handler: Handler = partial(run_exchange, dispatch)
        self._forwarders = Forwarders(
            config.forwarded_allow_ips or (), host=config.forwarded_host
        )
        self._connections: set[TcpConnection | Undecided] = set()
        self._running: dict[Exchange, Task] = {}
        self._handshakes = Handshakes(config.max_tls_handshakes)
        self._accepted = 0
        self._accepting = 0  # tasks that use a listening socket
        self._awaiting_permit = 0  # those of them with a connection but no permit
        self._attaching = 0  # connections that the loop has not taken yet
        self._changed = runtime.signal()
        self._phase = ServicePhase.ACCEPTING
        self._error: BaseException | None = None
        self._seldom = Seldom()
        self._drain_timeout = config.drain_timeout
        self._drain_begun: float | None = None
        self.time: Clock = runtime.time

    @property
    def statistics(self) -> ServerStatistics:
        """What the service is doing at the moment, in numbers."""
        return ServerStatistics(
            connections=len(self._connections),
            handshakes=sum(1 for _ in self._handshakes),
            exchanges=len(self._running),
            accepted=self._accepted,
        )

    @property
    def drain_left(self) -> float:
        """Seconds that are left of the drain's time."""
        now, begun = self.time(), self._drain_begun
        return self._drain_timeout - (0 if begun is None else now - begun)

    def shorten_drain(self, timeout: float) -> None:
        """Give the drain ``timeout`` seconds from now if it would have more."""
        if self._drain_begun is None:
            self._drain_timeout = min(timeout, self._drain_timeout)
            self._changed.set()
        elif timeout < self.drain_left:
            self._drain_timeout = self.time() + timeout - self._drain_begun
            self._runtime.call_at(self.time() + timeout, self._drain_over)

    def stop(self) -> None:
        """Begin to drain; repeats are no-ops."""
        if self._phase is ServicePhase.ACCEPTING:
            self._enter(ServicePhase.STOPPING)
        self._changed.set()

    def _enter(self, phase: ServicePhase) -> None:
        if __debug__:
            check_transition(_NEXT, self._phase, phase)
        self._phase = phase
        _logger.debug("service %#x is %s", id(self), phase.name)

    @property
    def _accepts(self) -> bool:
        return self._phase is ServicePhase.ACCEPTING

    @property
    def _handing_over(self) -> bool:
        """This service stops, and a successor goes on listening."""
        return not self._accepts and self._config.drain_delay is not None

    async def run(self) -> None:
        """Serve until stopped, then drain.

        Raises:
            Exception: accepting failed for a reason that is a bug.

        Cancel safety: cancelling aborts every connection at once.
        """
        spawn = self._runtime.spawn
        for sock in self._listener.sockets:
            keep_alive(sock, self._config)
        beside = [spawn(self._accept, sock) for sock in self._listener.sockets]
        if self._tls is not None:
            beside.append(spawn(watch_certificates, self._runtime, self._tls))
        loop_watch = LoopWatch(self._runtime)
        silence = SilenceWatch(self._runtime, self._config, self._connections)
        try:
            while self._accepts and self._error is None:
                await self._changed.wait()
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
            loop_watch.stop()
            self._cut()
            await self._runtime.shielded(self._gone)
            silence.stop()
            self._listener.close()
            self._enter(ServicePhase.DONE)

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
        while self._accepts:
            try:
                sock, address = await self._runtime.accept(listener)
            except OSError as error:
                _logger.warning("accept failed: %s; backing off", error)
                await self._runtime.sleep(pause)
                pause = min(pause * 2, backoff.max)
                continue
            pause = backoff.initial
            await self._admit(sock, family, address)
            self._accepted += 1
            if self._accepted % _ACCEPT_TURN == 0:
                await self._runtime.sleep(0)

    async def _admit(self, sock: socket.socket, family: int, address: object) -> None:
        """Wait for a permit for ``sock``, then have it served."""
        connection: TcpConnection | Undecided | None = None
        self._awaiting_permit += 1
        try:
            connection = await self._register(sock, family, address)
        finally:
            self._awaiting_permit -= 1
            if connection is None:
                sock.close()
        if connection is not None:
            # in a task of its own: others need not wait until the loop has taken it
            self._attaching += 1
            self._runtime.spawn(self._attach, sock, connection)

    async def _register(
        self, sock: socket.socket, family: int, address: object
    ) -> TcpConnection | Undecided | None:
        """Return what is to serve ``sock``, with a permit; ``None``: refuse it."""
        most = self._config.max_connections or float("inf")
        try:
            # no successor can serve a connection that we have accepted
            while len(self._connections) >= most and not self._handing_over:
                await self._changed.wait()
            local = address_of(family, sock.getsockname())
            if family in _TCP:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            keep_alive(sock, self._config, accepted=True)
        except OSError:  # it is gone already
            return None
        connection = self._receiver(address_of(family, address), local)
        if connection is not None:
            self._connections.add(connection)
            if self._tls is not None or isinstance(connection, Undecided):
                self._handshakes.add(connection)
        return connection

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
        self, peer: PeerAddr, local: PeerAddr
    ) -> TcpConnection | Undecided | None:
        """Return what serves a connection from ``peer``; ``None``: refuse it."""
        endpoint = self._endpoint
        policy = endpoint.proxy
        if policy is not None and not policy.trusts(peer):
            if endpoint.protocol != "any":
                _logger.warning("%s is no trusted proxy, connection refused", peer)
                return None
            policy = None
        if policy is None and endpoint.protocol != "any":
            believe = self._believes(peer, None)
            return self._connection(
                endpoint.protocol, peer, local, self._handler, believe
            )
        detector = ProtocolDetector(
            self._config, endpoint.protocol, tls=self._tls is not None, policy=policy
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
            self._handshakes.add(connection)
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
        )

    def _complain(self, complaint: str, peer: PeerAddr) -> None:
        """Log why a peer was refused, once a minute for each cause."""
        if self._seldom.allows(complaint, self._runtime.time()):
            _logger.info("%s (from %s; told once a minute)", complaint, peer)

    def _lost(self, connection: TcpConnection | Undecided) -> None:
        self._connections.discard(connection)
        self._handshakes.discard(connection)
        self._changed.set()

    async def _drain(self) -> None:
        if self._config.drain_delay is not None:
            await self._stay(self.time() + self._config.drain_delay)
        self._enter(ServicePhase.DRAINING)
        self._drain_begun = self.time()
        for connection in list(self._connections):
            connection.shut_down()
        for exchange in list(self._running):
            exchange.sink.shut_down()  # sessions that have lost their connection, too
        notice = DrainNotice(self._runtime, self._remaining, lambda: self.drain_left)
        try:
            await self._runtime.run_within(self._drain_timeout, self._emptied)
        except TimeoutError:
            self._drain_over()
        finally:
            notice.stop()
        if self._phase is ServicePhase.DRAINING:
            _logger.info("Server shut down gracefully")

    async def _stay(self, until: float) -> None:
        """Serve clients that have connected, while a successor accepts new ones."""
        while self._connections or self._accepting:
            left = until - self.time()
            if self._drain_timeout < self._config.drain_timeout:  # it was shortened
                left = min(left, self._drain_timeout)
            if left <= 0 or not await self._changed.wait(left):
                return

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
