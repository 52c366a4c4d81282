"""``Service``: one listener, from the first accept to the end of the drain.

Theory of operation. *accepting*: one task per listening socket accepts, takes a permit
and attaches a ``TcpConnection``, or an ``Undecided`` that is replaced by one once it is
known what it speaks -> *draining* (``stop`` was called): the sockets are closed first,
then every connection and every session is told, then they and their handlers are waited
for, ``drain_timeout`` seconds at most; a session has only ``ws_close_timeout`` and a
moment -> *cutting*: what is left is cancelled and aborted -> *done*.

Invariants: a connection is in ``_connections`` from ``attach`` until its
``connection_lost``; it holds its permit as long; an exchange is in ``_running`` while
its handler runs, which may be longer than its connection lives; an error of ``accept``
or of one connection never ends the service; a socket is not closed while a task accepts
from it; a drain does not cut off a connection that is being attached.
"""

import logging
import socket
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from tako.config import ServerConfig
from tako.core.late_loop import LoopWatch
from tako.core.seams import Exchange
from tako.errors import TlsConfigError
from tako.http.conn_info import IpPeer, PeerAddr
from tako.http.request import Request
from tako.http.response import Response
from tako.proxy.header import ProxyHeader
from tako.proxy.policy import ProxyPolicy, adopt_header
from tako.routing.https_redirect import https_redirect
from tako.runtime import ServerRuntime, signalled
from tako.server.connection import Handler, TcpConnection
from tako.server.detect import (
    ListenerProtocol,
    Protocol as WireProtocol,
    ProtocolDetector,
)
from tako.server.engines import ENGINES
from tako.server.listener import Listener, address_of
from tako.server.pipeline import Dispatch, run_exchange
from tako.server.seldom import Seldom
from tako.server.undecided import SharedTransport, Undecided
from tako.tls.certificates import TlsSettings


if TYPE_CHECKING:
    from tako.core.loop import Clock, Task


_logger = logging.getLogger("tako.server")

_WATCH_EVERY = 1.0  # seconds between looks at the certificate files
_WATCH_TURN = 32  # certificates looked at before others have a turn
_FIRST_NOTICE = 1.0  # seconds after which a drain says what it waits for
_NOTICE_EVERY = 10.0  # seconds
_ACCEPT_TURN = 32  # connections accepted before others have a turn


class Dispatcher(Protocol):
    """A router, as the service sees it."""

    async def dispatch(self, request: Request, *, timer: Any = None) -> Response:
        """Return the response to ``request``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """What a listener offers to whom.

    Attributes:
        protocol: what its clients speak.
        tls: the certificates of ``"tls"`` and ``"any"``.
        proxy: whose PROXY headers are believed; ``None``: there are none.
        https_port: where requests that came in the clear are redirected to.
    """

    protocol: ListenerProtocol = "http/1.1"
    tls: TlsSettings | None = None
    proxy: ProxyPolicy | None = None
    https_port: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatistics:
    """What a server has to do at the moment, in numbers.

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
            dispatch = partial(_dispatch_own, tls, dispatch)
        if endpoint.https_port is not None:
            redirect = https_redirect(endpoint.https_port).dispatch
            dispatch = partial(_dispatch_secure, redirect, dispatch)
        self._handler: Handler = partial(run_exchange, dispatch)
        self._connections: set[TcpConnection | Undecided] = set()
        self._running: dict[Exchange, Task] = {}
        # in the order of their arrival
        self._handshaking: dict[TcpConnection | Undecided, None] = {}
        self._accepted = 0
        self._accepting = 0  # tasks that use a listening socket
        self._parked = 0  # those of them that wait for a permit
        self._attaching = 0  # connections that the loop has not taken yet
        self._changed = runtime.signal()
        self._stopping = self._draining = self._expired = False
        self._error: BaseException | None = None
        self._seldom = Seldom()
        self._drain_timeout = config.drain_timeout
        self._drain_begun = 0.0
        self.time: Clock = runtime.time

    @property
    def statistics(self) -> ServerStatistics:
        """What there is to do at the moment."""
        return ServerStatistics(
            connections=len(self._connections),
            handshakes=sum(each.handshaking for each in self._handshaking),
            exchanges=len(self._running),
            accepted=self._accepted,
        )

    @property
    def drain_left(self) -> float:
        """Seconds that are left of the drain's time."""
        begun = self._drain_begun if self._draining else self.time()
        return begun + self._drain_timeout - self.time()

    def shorten_drain(self, timeout: float) -> None:
        """Give the drain ``timeout`` seconds from now if it would have more."""
        if not self._draining:
            self._drain_timeout = min(timeout, self._drain_timeout)
            self._changed.set()
        elif timeout < self.drain_left:
            self._drain_timeout = self.time() + timeout - self._drain_begun
            self._runtime.call_at(self.time() + timeout, self._drain_over)

    def stop(self) -> None:
        """Begin to drain; again is a no-op."""
        self._stopping = True
        self._changed.set()

    @property
    def _handing_over(self) -> bool:
        """We stop, and a successor goes on listening."""
        return self._stopping and self._config.drain_delay is not None

    async def run(self) -> None:
        """Serve until stopped, then drain.

        Raises:
            Exception: accepting failed for a reason that is a bug.

        Cancel safety: cancelling aborts every connection at once.
        """
        spawn = self._runtime.spawn
        beside = [spawn(self._accept, sock) for sock in self._listener.sockets]
        if self._tls is not None:
            beside.append(spawn(self._watch, self._tls))
        loop_watch = LoopWatch(self._runtime)
        try:
            while not self._stopping and self._error is None:
                await self._changed.wait()
            while self._attaching or (self._parked and self._handing_over):
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
            self._stopping = True
            loop_watch.stop()
            self._cut()
            await self._runtime.shielded(self._gone)
            self._listener.close()

    async def _watch(self, tls: TlsSettings) -> None:
        """Load certificates whose files change; a bad file changes nothing."""
        while True:
            await self._runtime.sleep(_WATCH_EVERY)
            for count, certificate in enumerate(tls.reloadables(), start=1):
                if count % _WATCH_TURN == 0:
                    await self._runtime.sleep(0)
                if certificate.changed():
                    try:
                        certificate.reload_from_pem()
                    except TlsConfigError as error:
                        _logger.error("keeping the old certificate: %s", error)  # noqa: TRY400 - its text says it all
                    else:
                        _logger.info("certificate reloaded")
                    await self._runtime.sleep(0)  # that took milliseconds

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
        while not self._stopping:
            try:
                sock = await self._runtime.accept(listener)
            except OSError as error:
                _logger.warning("accept failed: %s; backing off", error)
                await self._runtime.sleep(pause)
                pause = min(pause * 2, backoff.max)
                continue
            pause = backoff.initial
            await self._attach(sock)
            self._accepted += 1
            if self._accepted % _ACCEPT_TURN == 0:
                await self._runtime.sleep(0)

    async def _attach(self, sock: socket.socket) -> None:
        """Let ``sock`` be served once there is a permit for it."""
        connection: TcpConnection | Undecided | None = None
        self._parked += 1
        try:
            connection = await self._admit(sock)
        finally:
            self._parked -= 1
            if connection is None:
                sock.close()
        if connection is not None:
            # in a task of its own: others need not wait until the loop has taken it
            self._attaching += 1
            self._runtime.spawn(self._hand_over, sock, connection)

    async def _admit(self, sock: socket.socket) -> TcpConnection | Undecided | None:
        """Return what is to serve ``sock``; ``None``: nothing does."""
        most = self._config.max_connections or float("inf")
        try:
            # one that was accepted no successor can serve
            while len(self._connections) >= most and not self._handing_over:
                await self._changed.wait()
            peer, local = _prepare(sock)
        except OSError:  # it is gone already
            return None
        connection = self._welcome(peer, local)
        if connection is not None:
            self._connections.add(connection)
            if self._tls is not None or isinstance(connection, Undecided):
                self._bound_handshakes(connection)
        return connection

    async def _hand_over(
        self, sock: socket.socket, connection: TcpConnection | Undecided
    ) -> None:
        try:
            await self._runtime.attach(sock, connection)
        except OSError:
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

    def _welcome(
        self, peer: PeerAddr, local: PeerAddr
    ) -> TcpConnection | Undecided | None:
        """Return what serves a connection from ``peer``; ``None``: nothing does."""
        endpoint = self._endpoint
        policy = endpoint.proxy
        if policy is not None and not policy.trusts(peer):
            if endpoint.protocol != "any":
                _logger.warning("%s is no trusted proxy, connection refused", peer)
                return None
            policy = None
        if policy is None and endpoint.protocol != "any":
            return self._connection(endpoint.protocol, peer, local, self._handler)
        detector = ProtocolDetector(
            self._config, endpoint.protocol, tls=self._tls is not None, policy=policy
        )
        return Undecided(
            self._runtime,
            detector,
            peer,
            enter=partial(self._enter, local),
            on_lost=self._lost,
        )

    def _enter(
        self,
        local: PeerAddr,
        undecided: Undecided,
        transport: SharedTransport,
        protocol: WireProtocol,
    ) -> None:
        """Put a connection in the place of ``undecided``."""
        header, peer, handler = undecided.detector.header, undecided.peer, self._handler
        if header is not None and isinstance(header.source, IpPeer):
            peer = header.source
        if self._endpoint.proxy is not None:
            handler = partial(_run_adopted, header, handler)
        connection = self._connection(protocol, peer, local, handler)
        self._connections.remove(undecided)
        self._connections.add(connection)
        self._handshaking.pop(undecided, None)
        if protocol == "tls":
            self._bound_handshakes(connection)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if undecided.detector.rest:
            connection.data_received(undecided.detector.rest)

    def _connection(
        self,
        protocol: WireProtocol,
        peer: PeerAddr,
        local: PeerAddr,
        handler: Handler,
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
        )

    def _complain(self, complaint: str, peer: PeerAddr) -> None:
        """Log what somebody will look for in vain otherwise; a flood is one line."""
        if self._seldom.allows(complaint, self._runtime.time()):
            _logger.info("%s (from %s; told once a minute)", complaint, peer)

    def _bound_handshakes(self, connection: TcpConnection | Undecided) -> None:
        """Drop the oldest unfinished handshake when there are too many."""
        queue = self._handshaking
        queue[connection] = None
        while not (oldest := next(iter(queue))).handshaking:
            del queue[oldest]
        if len(queue) > self._config.max_tls_handshakes:
            queue = {each: None for each in queue if each.handshaking}
            self._handshaking = queue
            if len(queue) > self._config.max_tls_handshakes:
                next(iter(queue)).abort()

    def _lost(self, connection: TcpConnection | Undecided) -> None:
        self._connections.discard(connection)
        self._handshaking.pop(connection, None)
        self._changed.set()

    async def _drain(self) -> None:
        if self._config.drain_delay is not None:
            await self._stay(self.time() + self._config.drain_delay)
        self._draining, self._drain_begun = True, self.time()
        for connection in list(self._connections):
            connection.shut_down()
        for exchange in list(self._running):
            exchange.sink.shut_down()  # sessions that have lost their connection, too
        self._next_notice(_FIRST_NOTICE)
        try:
            await self._runtime.run_within(self._drain_timeout, self._emptied)
        except TimeoutError:
            self._drain_over()
        finally:
            self._noticing.cancel()
        if not self._expired:
            _logger.info("Server shut down gracefully")

    async def _stay(self, until: float) -> None:
        """Serve who has connected, while a successor accepts what comes next."""
        while self._connections or self._accepting:
            left = until - self.time()
            if self._drain_timeout < self._config.drain_timeout:  # it was shortened
                left = min(left, self._drain_timeout)
            if left <= 0 or not await self._changed.wait(left):
                return

    def _next_notice(self, pause: float) -> None:
        self._noticing = self._runtime.call_at(self.time() + pause, self._notice)

    def _notice(self) -> None:
        """Say what the drain waits for, from time to time."""
        _logger.warning(
            "draining: waiting for %s, %.0f s at most%s",
            self._remaining() or "the end",
            self.drain_left,
            how_to_hurry(),
        )
        self._next_notice(_NOTICE_EVERY)

    def _drain_over(self) -> None:
        """Cut what is left, once; a no-op if nothing is."""
        remaining = self._remaining()
        if self._expired or not remaining:
            return
        self._expired = True
        _logger.warning(
            "Drain timeout (%s s) exceeded, aborting %s",
            round(self._drain_timeout, 3),
            remaining,
        )
        self._cut()

    def _remaining(self) -> str:
        """Return how many of what there are; empty: none of anything."""
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
        self._runtime.cancel_tasks()
        for connection in list(self._connections):
            connection.abort()


def _prepare(sock: socket.socket) -> tuple[PeerAddr, PeerAddr]:
    """Set the options of an accepted socket; return the peer's address and ours.

    Raises:
        OSError: it is gone already.
    """
    family = sock.family
    sock.setblocking(False)
    if family in {socket.AF_INET, socket.AF_INET6}:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = address_of(family, sock.getpeername())
    return peer, address_of(family, sock.getsockname())


async def _dispatch_own(
    tls: TlsSettings, dispatch: Dispatch, request: Request
) -> Response:
    """Dispatch, unless the request is for a host with another certificate."""
    info = None if request.conn_info is None else request.conn_info.tls
    if tls.authority_allowed(info, request.authority):
        return await dispatch(request)
    # RFC 9110 §15.5.20: the client is to try again on a connection of its own
    return Response(421, body="Misdirected Request")


async def _dispatch_secure(
    redirect: Dispatch, dispatch: Dispatch, request: Request
) -> Response:
    """Dispatch what came encrypted, to us or to our proxy; redirect the rest."""
    info = request.conn_info
    if info is not None and info.tls is not None:
        return await dispatch(request)
    header = request.extensions.get(ProxyHeader)
    if header is not None and header.tls is not None and header.tls.encrypted:
        return await dispatch(request)
    return await redirect(request)


async def _run_adopted(
    header: ProxyHeader | None, handler: Handler, exchange: Exchange
) -> None:
    """Run an exchange as one with the client that the proxy named."""
    adopt_header(exchange.request, header)
    await handler(exchange)


def how_to_hurry() -> str:
    """Return what to add to a log line that says what is waited for."""
    return "; a second signal ends the process at once" if signalled() else ""


def _counted(number: int, name: str) -> str:
    return f"{number} {name}" if number == 1 else f"{number} {name}s"
