"""``Service``: one listener, from the first accept to the end of the drain.

Theory of operation. *accepting*: one task per listening socket accepts, takes a permit
and attaches a ``Connection``, or an ``Entrance`` that is replaced by one once it is
known what it speaks -> *draining* (``stop`` was called, or ``shutdown`` came
true): the sockets are closed first, then every connection is told, then they and their
handlers are waited for, ``drain_timeout`` seconds at most -> *cutting*: what is left is
cancelled and aborted -> *done*.

Invariants: a connection is in ``_connections`` from ``attach`` until its
``connection_lost``; it holds its permit as long; an error of ``accept`` or of one
connection never ends the service; a socket is not closed while a task accepts from it;
a drain does not cut off a connection that is being attached.
"""

import contextlib
import inspect
import logging
import socket
from collections.abc import Awaitable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, TypeAlias

from tako.config import ServerConfig
from tako.conn_info import IpPeer, PeerAddr
from tako.connection import Connection, Handler
from tako.entrance import Entrance, SharedTransport
from tako.errors import TlsConfigError
from tako.late import LoopWatch
from tako.listener import Listener, address_of
from tako.pipeline import Dispatch, run_exchange
from tako.prelude import ListenerProtocol, Prelude, Protocol as WireProtocol
from tako.proxy_policy import ProxyPolicy, adopt_header
from tako.proxy_protocol import ProxyHeader
from tako.redirect import http_to_https_router
from tako.request import Request
from tako.response import Response
from tako.runtime import ServerRuntime
from tako.seams import Exchange
from tako.seldom import Seldom
from tako.tls import TlsSettings


_logger = logging.getLogger("tako.server")

Shutdown: TypeAlias = Any
"""An awaitable, an async function without arguments, or an event with ``wait()``."""

_WATCH_EVERY = 1.0  # seconds between looks at the certificate files
_WATCH_TURN = 32  # certificates looked at before others have a turn
_ACCEPT_TURN = 32  # connections accepted before others have a turn


class Dispatcher(Protocol):
    """A router, as the service sees it."""

    async def dispatch(self, request: Request, *, timer: Any = None) -> Response:
        """Return the response to ``request``."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
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


class Service:
    """Serves one listener on one runtime."""

    def __init__(
        self,
        runtime: ServerRuntime,
        listener: Listener,
        router: Dispatcher,
        offer: Offer,
        config: ServerConfig,
    ) -> None:
        self._runtime = runtime
        self._listener = listener
        self._config = config
        self._offer = offer
        self._tls = tls = offer.tls
        dispatch: Dispatch = partial(router.dispatch, timer=runtime)
        if tls is not None and tls.several:
            dispatch = partial(_dispatch_own, tls, dispatch)
        if offer.https_port is not None:
            redirect = http_to_https_router(offer.https_port).dispatch
            dispatch = partial(_dispatch_secure, redirect, dispatch)
        self._handler: Handler = partial(run_exchange, dispatch)
        self._connections: set[Connection | Entrance] = set()
        # in the order of their arrival
        self._handshaking: dict[Connection | Entrance, None] = {}
        self._accepting = 0  # tasks that use a listening socket
        self._parked = 0  # those of them that wait for a permit
        self._attaching = 0  # connections that the loop has not taken yet
        self._changed = runtime.signal()
        self._stopping = self._draining = self._expired = False
        self._error: BaseException | None = None
        self._seldom = Seldom()
        self._drain_timeout = config.drain_timeout

    def shorten_drain(self, timeout: float) -> None:
        """Give the drain ``timeout`` seconds from now if it would have more."""
        self._drain_timeout = min(timeout, self._drain_timeout)
        if self._draining:
            self._runtime.call_at(self._runtime.time() + timeout, self._drain_over)

    def stop(self) -> None:
        """Begin to drain; again is a no-op."""
        self._stopping = True
        self._changed.set()

    @property
    def _handing_over(self) -> bool:
        """We stop, and a successor goes on listening."""
        return self._stopping and self._config.drain_delay is not None

    async def run(self, shutdown: Shutdown = None) -> None:
        """Serve until stopped, then drain.

        Raises:
            Exception: accepting failed for a reason that is a bug.

        Cancel safety: cancelling aborts every connection at once.
        """
        spawn = self._runtime.spawn
        beside = [spawn(self._accept, sock) for sock in self._listener.sockets]
        if shutdown is not None:
            beside.append(spawn(self._wait_for, shutdown))
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

    async def _wait_for(self, shutdown: Shutdown) -> None:
        try:
            await _awaitable(shutdown)
        except Exception:
            _logger.exception("the shutdown signal failed; draining all the same")
        finally:  # a cancelled signal is a signal, too
            if not self._stopping:
                _logger.info("Shutdown signal received, draining connections...")
                self.stop()

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
        accepted = 0
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
            accepted += 1
            if accepted % _ACCEPT_TURN == 0:
                await self._runtime.sleep(0)

    async def _attach(self, sock: socket.socket) -> None:
        """Let ``sock`` be served once there is a permit for it."""
        connection: Connection | Entrance | None = None
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

    async def _admit(self, sock: socket.socket) -> Connection | Entrance | None:
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
            if self._tls is not None or isinstance(connection, Entrance):
                self._bound_handshakes(connection)
        return connection

    async def _hand_over(
        self, sock: socket.socket, connection: Connection | Entrance
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

    def _welcome(self, peer: PeerAddr, local: PeerAddr) -> Connection | Entrance | None:
        """Return what serves a connection from ``peer``; ``None``: nothing does."""
        offer = self._offer
        policy = offer.proxy
        if policy is not None and not policy.trusts(peer):
            if offer.protocol != "any":
                _logger.warning("%s is no trusted proxy, connection refused", peer)
                return None
            policy = None
        if policy is None and offer.protocol != "any":
            return self._connection(offer.protocol, peer, local, self._handler)
        prelude = Prelude(
            self._config, offer.protocol, tls=self._tls is not None, policy=policy
        )
        return Entrance(
            self._runtime,
            prelude,
            peer,
            enter=partial(self._enter, local),
            on_lost=self._lost,
        )

    def _enter(
        self,
        local: PeerAddr,
        entrance: Entrance,
        transport: SharedTransport,
        protocol: WireProtocol,
    ) -> None:
        """Put a connection in the place of ``entrance``."""
        header, peer, handler = entrance.prelude.header, entrance.peer, self._handler
        if header is not None and isinstance(header.source, IpPeer):
            peer = header.source
        if self._offer.proxy is not None:
            handler = partial(_run_adopted, header, handler)
        connection = self._connection(protocol, peer, local, handler)
        self._connections.remove(entrance)
        self._connections.add(connection)
        self._handshaking.pop(entrance, None)
        if protocol == "tls":
            self._bound_handshakes(connection)
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if entrance.prelude.rest:
            connection.data_received(entrance.prelude.rest)

    def _connection(
        self,
        protocol: WireProtocol,
        peer: PeerAddr,
        local: PeerAddr,
        handler: Handler,
    ) -> Connection:
        return Connection(
            self._runtime,
            self._config,
            handler,
            protocol=protocol,
            tls=self._tls if protocol == "tls" else None,
            peer=peer,
            local=local,
            on_lost=self._lost,
            complain=self._complain,
        )

    def _complain(self, complaint: str, peer: PeerAddr) -> None:
        """Log what somebody will look for in vain otherwise; a flood is one line."""
        if self._seldom.allows(complaint, self._runtime.time()):
            shown = str(peer).encode("unicode_escape").decode()  # a path is the peer's
            _logger.info("%s (from %s; told once a minute)", complaint, shown)

    def _bound_handshakes(self, connection: Connection | Entrance) -> None:
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

    def _lost(self, connection: Connection | Entrance) -> None:
        self._connections.discard(connection)
        self._handshaking.pop(connection, None)
        self._changed.set()

    async def _drain(self) -> None:
        if self._config.drain_delay is not None:
            with contextlib.suppress(TimeoutError):
                await self._runtime.run_within(self._config.drain_delay, self._gone)
        self._draining = True
        for connection in list(self._connections):
            connection.shut_down()
        try:
            await self._runtime.run_within(self._drain_timeout, self._emptied)
        except TimeoutError:
            self._drain_over()
        if not self._expired:
            _logger.info("Server shut down gracefully")

    def _drain_over(self) -> None:
        """Cut what is left, once; a no-op if nothing is."""
        if self._expired or not (self._connections or self._runtime.busy):
            return
        self._expired = True
        _logger.warning(
            "Drain timeout (%s s) exceeded, aborting %d remaining connections",
            self._drain_timeout,
            len(self._connections),
        )
        self._cut()

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


def _awaitable(shutdown: Shutdown) -> Awaitable[object]:
    """Return what to await for ``shutdown``, whichever form it has.

    Raises:
        TypeError: it has none of the forms.
    """
    if inspect.isawaitable(shutdown):
        return shutdown
    wait = getattr(shutdown, "wait", shutdown)
    if callable(wait):
        result = wait()
        if inspect.isawaitable(result):
            return result
    msg = (
        "shutdown takes an awaitable, an async function or an event, "
        f"not {type(shutdown).__name__}"
    )
    raise TypeError(msg)
