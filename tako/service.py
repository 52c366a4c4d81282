"""``Service``: one listener being served, from the first accept to the end of the drain.

Theory of operation. *accepting*: one task per listening socket accepts, takes a permit
and attaches a ``Connection`` -> *draining* (``stop`` was called, or ``shutdown`` came
true): the sockets are closed first, then every connection is told, then they and their
handlers are waited for, ``drain_timeout`` seconds at most -> *cutting*: what is left is
cancelled and aborted -> *done*.

Invariants: a connection is in ``_connections`` from ``attach`` until ``connection_lost``;
it holds its permit as long; an error of ``accept`` never ends the service.
"""

import inspect
import logging
from collections import deque
from collections.abc import Awaitable
from functools import partial
from socket import AF_INET, AF_INET6, IPPROTO_TCP, TCP_NODELAY, socket as Socket
from typing import Any, Protocol, TypeAlias

from tako.config import ServerConfig
from tako.connection import Connection, Protocol as WireProtocol
from tako.errors import TlsConfigError
from tako.listener import Listener, address_of
from tako.pipeline import Dispatch, run_exchange
from tako.request import Request
from tako.response import Response
from tako.runtime import ServerRuntime
from tako.tls import ReloadableResolver, TlsSettings


_logger = logging.getLogger("tako.server")

Shutdown: TypeAlias = Any
"""An awaitable, an async function without arguments, or an event with ``wait()``."""

_WATCH_EVERY = 1.0  # seconds between looks at the certificate files
_ACCEPT_TURN = 32  # connections accepted before others have a turn


class Dispatcher(Protocol):
    """A router, as the service sees it."""

    async def dispatch(self, request: Request, *, timer: Any = None) -> Response:
        """Return the response to ``request``."""


class Service:
    """Serves one listener on one runtime."""

    def __init__(
        self,
        runtime: ServerRuntime,
        listener: Listener,
        router: Dispatcher,
        protocol: WireProtocol,
        tls: TlsSettings | None,
        config: ServerConfig,
    ) -> None:
        self._runtime = runtime
        self._listener = listener
        self._config = config
        self._tls = tls
        self._protocol = protocol
        dispatch: Dispatch = partial(router.dispatch, timer=runtime)
        if tls is not None and tls.several:
            dispatch = partial(_dispatch_own, tls, dispatch)
        self._handler = partial(run_exchange, dispatch)
        self._connections: set[Connection] = set()
        self._handshaking: deque[Connection] = deque()
        self._changed = runtime.signal()
        self._stopping = False
        self._error: BaseException | None = None
        self._drain_timeout = config.drain_timeout

    def shorten_drain(self, timeout: float) -> None:
        """Wait ``timeout`` seconds for the drain if that is less than configured."""
        self._drain_timeout = min(timeout, self._drain_timeout)

    def stop(self) -> None:
        """Begin to drain; again is a no-op."""
        self._stopping = True
        self._changed.set()

    async def run(self, shutdown: Shutdown = None) -> None:
        """Serve until stopped, then drain.

        Raises:
            Exception: beside failed for a reason that is a bug.

        Cancel safety: cancelling aborts every connection at once.
        """
        beside = [
            self._runtime.spawn(self._accept, sock) for sock in self._listener.sockets
        ]
        if shutdown is not None:
            beside.append(self._runtime.spawn(self._wait_for, shutdown))
        if self._tls is not None and self._tls.reloadables:
            beside.append(self._runtime.spawn(self._watch, self._tls.reloadables))
        try:
            while not self._stopping and self._error is None:
                await self._changed.wait()
            for task in beside:
                task.cancel()
            self._listener.close()
            if self._error is not None:
                raise self._error
            await self._drain()
        finally:
            self._listener.close()
            self._cut()
            await self._runtime.shielded(self._gone)

    async def _wait_for(self, shutdown: Shutdown) -> None:
        try:
            await _awaitable(shutdown)
        except Exception:
            _logger.exception("the shutdown signal failed; draining all the same")
        _logger.info("Shutdown signal received, draining connections...")
        self.stop()

    async def _watch(self, certificates: list[ReloadableResolver]) -> None:
        """Load certificates again when their files change; a bad file changes nothing."""
        while True:
            await self._runtime.sleep(_WATCH_EVERY)
            for certificate in certificates:
                if certificate.changed():
                    try:
                        certificate.reload_from_pem()
                    except TlsConfigError as error:
                        _logger.error("keeping the old certificate: %s", error)  # noqa: TRY400 - its text says it all
                    else:
                        _logger.info("certificate reloaded")

    async def _accept(self, listener: Socket) -> None:
        backoff = self._config.accept_backoff
        pause = backoff.initial
        accepted = 0
        while True:
            try:
                sock = await self._runtime.accept(listener)
            except OSError as error:
                _logger.warning("accept failed: %s; backing off", error)
                await self._runtime.sleep(pause)
                pause = min(pause * 2, backoff.max)
                continue
            except self._runtime.cancelled:
                raise
            except Exception as error:
                self._error = error
                self._changed.set()
                return
            pause = backoff.initial
            await self._attach(sock)
            accepted += 1
            if accepted % _ACCEPT_TURN == 0:
                await self._runtime.sleep(0)

    async def _attach(self, sock: Socket) -> None:
        """Serve ``sock`` once there is a permit for it."""
        most = self._config.max_connections
        try:
            while most is not None and len(self._connections) >= most:
                await self._changed.wait()
            peer = address_of(sock.family, sock.getpeername())
            local = address_of(sock.family, sock.getsockname())
            sock.setblocking(False)
            if sock.family in {AF_INET, AF_INET6}:
                sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        except OSError:  # it is gone already
            sock.close()
            return
        except BaseException:
            sock.close()
            raise
        connection = Connection(
            self._runtime,
            self._config,
            self._handler,
            protocol=self._protocol,
            tls=self._tls,
            peer=peer,
            local=local,
            on_lost=self._lost,
        )
        self._connections.add(connection)
        if self._tls is not None:
            self._bound_handshakes(connection)
        await self._runtime.attach(sock, connection)

    def _bound_handshakes(self, connection: Connection) -> None:
        """Drop the oldest unfinished handshake when there are too many."""
        queue = self._handshaking
        queue.append(connection)
        while queue and not queue[0].handshaking:
            queue.popleft()
        if len(queue) > self._config.max_tls_handshakes:
            unfinished = [each for each in queue if each.handshaking]
            queue.clear()
            queue.extend(unfinished)
            if len(queue) > self._config.max_tls_handshakes:
                queue.popleft().abort()

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._changed.set()

    async def _drain(self) -> None:
        for connection in list(self._connections):
            connection.shut_down()
        timeout = self._drain_timeout
        try:
            await self._runtime.run_within(timeout, self._emptied)
        except TimeoutError:
            _logger.warning(
                "Drain timeout (%s s) exceeded, aborting %d remaining connections",
                timeout,
                len(self._connections),
            )
        else:
            _logger.info("Server shut down gracefully")

    async def _emptied(self) -> None:
        await self._gone()
        await self._runtime.finished()

    async def _gone(self) -> None:
        while self._connections:
            await self._changed.wait()

    def _cut(self) -> None:
        self._runtime.cancel_tasks()
        for connection in list(self._connections):
            connection.abort()


async def _dispatch_own(
    tls: TlsSettings, dispatch: Dispatch, request: Request
) -> Response:
    """Dispatch, unless the request is for a host with another certificate."""
    info = None if request.conn_info is None else request.conn_info.tls
    sni = None if info is None else info.sni
    if tls.authority_allowed(sni, request.authority or sni or ""):
        return await dispatch(request)
    # RFC 9110 §15.5.20: the client is to try again on a connection of its own
    return Response(421, body="Misdirected Request")


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
