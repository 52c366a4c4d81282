"""``serve`` and ``serve_tls``, and the handle of what they serve.

Theory of operation. ``serve`` says what is to be served, as a ``Serving``, and does
nothing yet. Awaited, it serves until it is told to stop. Entered, it runs the same
beside a block, as a ``Server``: *starting* (the block waits) -> *serving* (the block
runs) -> *ended*. The end of either ends the other: a block that is left drains the
server, one that is cancelled aborts it; a server that ends while the block does not
wait for that cancels the block.
"""

import contextlib
import logging
import os
import warnings
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from dataclasses import dataclass, replace
from functools import partial
from inspect import iscoroutinefunction
from types import TracebackType
from typing import Any, TypeAlias

from tako import runtime
from tako.config import Duration, ServerConfig, positive, seconds
from tako.errors import ConfigError, TlsConfigError
from tako.http.conn_info import IpPeer, PeerAddr
from tako.proxy.policy import ProxyPolicy
from tako.routing.router import Router
from tako.server.bind import ListenerLike, as_listener
from tako.server.detect import ListenerProtocol
from tako.server.lifetime import Lifetime, Shutdown
from tako.server.listener import Listener, Several
from tako.server.service import Dispatcher, Endpoint, ServerStatistics, Service
from tako.tls.certificates import TlsCert, TlsLike, TlsSettings, as_cert, default_cert


_logger = logging.getLogger("tako.server.lifetime")

Path: TypeAlias = str | os.PathLike[str]

_GREETING: dict[ListenerProtocol, str] = {
    "http/1.1": "Tako listening on %s",
    "tls": "Tako TLS listening on %s",
    "h2": "Tako h2c (HTTP/2 cleartext) listening on %s",
    "any": "Tako listening on %s, to any protocol",
}


def serve(
    listener: ListenerLike,
    app: Dispatcher,
    *,
    tls: TlsLike | None = None,
    protocol: ListenerProtocol | None = None,
    proxy: ProxyPolicy | bool | None = None,
    plain: ListenerLike | None = None,
    https_redirect: bool | int | None = None,
    shutdown: Shutdown = None,
    healthy: Callable[[], bool] | None = None,
    config: ServerConfig | None = None,
) -> "Serving":
    """Serve until ``shutdown``, then drain; or for the length of a block.

    Awaited, it returns when the server has ended. ``async with`` binds and serves
    before the block begins, hands out the ``Server``, and drains it when the block
    ends. If the server fails, or ends while the block does not wait for that, the block
    is cancelled, and left with the server's error if there is one.

    Args:
        listener: an address (``"host:port"``, ``"[ipv6]:port"``, ``"unix:/path"``,
            ``"fd://3"``: see ``bind``), what ``bind`` returned, a bound socket, or a
            list of these.
        app: what answers requests: a ``Router``, or an ``AsgiApp``.
        tls: certificates: a ``TlsCert``, an ``ssl.SSLContext``, a ``trustme.LeafCert``
            or the paths ``(cert, key)``.
        protocol: what connections speak:

            * ``"http/1.1"``, without TLS; the default without certificates;
            * ``"h2"``, HTTP/2 without TLS, to clients with prior knowledge
              (RFC 9113 §3.3);
            * ``"tls"``, HTTP/2 or HTTP/1.1 over TLS, by ALPN; the default with
              certificates;
            * ``"any"``: the first bytes of each connection say which of these it is;
              without certificates there is no TLS.
        proxy: which peers are trusted to send PROXY headers. ``ConnInfo.peer`` is then
            the client that the proxy names, ``request.extensions`` has the
            ``ProxyHeader``, and one ``Forwarded`` field replaces those that came. Other
            peers are refused (with ``"any"`` they are served without a header).
            ``True`` trusts all peers: only the proxy may then be able to reach the
            port.
        plain: with certificates: what listens beside ``listener`` for clients that
            speak HTTP/1.1 without TLS, in the same forms.
        https_redirect: with ``plain`` or ``"any"``: answer requests that came without
            TLS with a 308 to the same URL over HTTPS, on the port of ``listener``; a
            number names another port, if that is the one that clients can reach.
        shutdown: an awaitable, an async function, or an event; when it completes (or
            fails) the server drains. Inside ``tako.run`` SIGINT and SIGTERM by default.
        healthy: a function without arguments, called for each probe of
            ``ServerConfig.health_path``: whether what the server cannot see (a
            database, a sibling) is well. ``False``, or an exception (logged), is 503.
            The event loop waits for it, so it tells what is known already.
        config: timeouts and limits.

    Raises:
        TlsConfigError: the certificates cannot be used.
        ConfigError: the configuration cannot work.
        TypeError: ``app``, ``config``, ``healthy`` or ``listener`` is of another type.
        ValueError: an address has another form.
        OSError: an address cannot be bound.

    Errors are raised when it is awaited or entered.

    Cancel safety: cancelling, of the block too, aborts every connection at once;
    nothing is left behind.

    Example::

        await tako.serve("127.0.0.1:8080", router)

        async with tako.serve("127.0.0.1:0", router) as server:
            print(server.addresses)
    """
    return Serving(
        _Plan(
            name="serve",
            listener=listener,
            app=app,
            certificate=lambda: None if tls is None else as_cert(tls),
            protocol=protocol,
            proxy=proxy,
            plain=plain,
            https_redirect=https_redirect,
            shutdown=shutdown,
            healthy=healthy,
            config=config,
        )
    )


def serve_tls(
    listener: ListenerLike,
    app: Dispatcher,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    tls: TlsLike | None = None,
    protocol: ListenerProtocol = "tls",
    proxy: ProxyPolicy | bool | None = None,
    plain: ListenerLike | None = None,
    https_redirect: bool | int | None = None,
    shutdown: Shutdown = None,
    healthy: Callable[[], bool] | None = None,
    config: ServerConfig | None = None,
) -> "Serving":
    """``serve`` over TLS: each connection chooses HTTP/2 or HTTP/1.1 by ALPN.

    Args:
        listener: as for ``serve``.
        app: as for ``serve``.
        cert: PEM file of the certificate chain; without it ``certs/cert.pem`` with
            ``certs/key.pem``, else ``cert.pem`` with ``key.pem``.
        key: PEM file of the private key.
        tls: certificates in any other form, in place of ``cert`` and ``key``: see
            ``serve``.
        protocol: ``"tls"``, or ``"any"`` to serve without TLS, too.
        proxy: as for ``serve``.
        plain: as for ``serve``.
        https_redirect: as for ``serve``.
        shutdown: as for ``serve``.
        healthy: as for ``serve``.
        config: as for ``serve``.

    Raises:
        TlsConfigError: a file is missing or broken, or certificate and key do not
            match.
        ConfigError: the configuration cannot work.
        TypeError: ``app``, ``config``, ``healthy`` or ``listener`` is of another type.
        ValueError: an address has another form.
        OSError: an address cannot be bound.

    Cancel safety: as ``serve``.

    Example::

        await tako.serve_tls("127.0.0.1:8443", router, "cert.pem", "key.pem")

        await tako.serve_tls(":443", router, plain=":80", https_redirect=True)
    """
    return Serving(
        _Plan(
            name="serve_tls",
            listener=listener,
            app=app,
            certificate=partial(certificate, cert, key, tls),
            protocol=protocol,
            proxy=proxy,
            plain=plain,
            https_redirect=https_redirect,
            shutdown=shutdown,
            healthy=healthy,
            config=config,
        )
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """The arguments of ``serve``."""

    name: str
    listener: ListenerLike
    app: Dispatcher
    certificate: Callable[[], TlsCert | None]
    protocol: ListenerProtocol | None
    proxy: ProxyPolicy | bool | None
    plain: ListenerLike | None
    https_redirect: bool | int | None
    shutdown: Shutdown
    healthy: Callable[[], object] | None
    config: ServerConfig | None

    async def bound(self) -> "Server":
        """Check everything, bind, and return the server that is to run.

        Raises:
            Exception: see ``serve``.
        """
        if not hasattr(self.app, "dispatch"):
            msg = f"{self.name} takes a Router, not {type(self.app).__name__}"
            raise TypeError(msg)
        config = ServerConfig() if self.config is None else self.config
        if not isinstance(config, ServerConfig):
            msg = f"config takes a ServerConfig, not {type(config).__name__}"
            raise TypeError(msg)
        healthy: Any = self.healthy
        if not (healthy is None or callable(healthy)) or iscoroutinefunction(healthy):
            msg = f"healthy takes a plain function, not {healthy!r}"
            raise TypeError(msg)
        endpoint = self._endpoint(config)
        if isinstance(self.app, Router):
            self.app.prepare()  # plugins that cannot be set up raise here
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(await as_listener(self.listener))
            endpoint = replace(endpoint, https_port=self._https_port(listener))
            if self.plain is not None:
                plain = undo.enter_context(await as_listener(self.plain))
                endpoint = replace(endpoint, plain=frozenset(plain.sockets))
                listener = Several([listener, plain])
            undo.pop_all()
        return Server(listener, self.app, endpoint, config, self.shutdown)

    def _endpoint(self, config: ServerConfig) -> Endpoint:
        """Return what is offered, apart from the port of ``https_redirect``.

        Raises:
            TlsConfigError: the certificates cannot be used.
            ConfigError: the arguments contradict each other.
        """
        cert = self.certificate()
        protocol = self.protocol or ("http/1.1" if cert is None else "tls")
        if protocol not in _GREETING:
            known = ", ".join(map(repr, _GREETING))
            msg = f"protocol is one of {known}, not {protocol!r}"
            raise ConfigError(msg)
        if cert is None and protocol == "tls":
            msg = "protocol='tls' needs certificates: give tls=, or call serve_tls"
            raise TlsConfigError(msg)
        if cert is not None and protocol in {"http/1.1", "h2"}:
            msg = (
                f"protocol={protocol!r} is without TLS: leave the certificates out, "
                "or choose by ServerConfig(alpn=...) what is spoken over TLS"
            )
            raise ConfigError(msg)
        if self.plain is not None and cert is None:
            msg = "plain needs a certificate: without one no request uses TLS anyway"
            raise ConfigError(msg)
        if not (self.https_redirect is None or self.https_redirect is False):
            if cert is None:
                msg = "https_redirect needs a certificate"
                raise ConfigError(msg)
            if protocol != "any" and self.plain is None:
                msg = (
                    "https_redirect is for protocol='any' and plain=: "
                    "else all requests use TLS"
                )
                raise ConfigError(msg)
        return Endpoint(
            protocol=protocol,
            tls=None if cert is None else TlsSettings(cert, config.alpn, config.keylog),
            proxy=_policy(self.proxy),
            healthy=self.healthy,
        )

    def _https_port(self, listener: Listener) -> int | None:
        """Return the port that requests without TLS are redirected to.

        Raises:
            ConfigError: there is none.
        """
        if self.https_redirect is None or self.https_redirect is False:
            return None
        if self.https_redirect is not True:
            return positive(self.https_redirect, "https_redirect", most=65535)
        addresses = listener.addresses
        for address in addresses:
            if isinstance(address, IpPeer):
                return address.port
        msg = f"https_redirect needs the number of a port, {addresses[0]} has none"
        raise ConfigError(msg)


def certificate(cert: Path | None, key: Path | None, tls: TlsLike | None) -> TlsCert:
    """Return what ``cert`` and ``key``, or ``tls``, stand for.

    Raises:
        TlsConfigError: they do not go together, or are no certificate.
    """
    if tls is not None:
        if cert is not None or key is not None:
            msg = "give either cert and key or tls=, not both"
            raise TlsConfigError(msg)
        return as_cert(tls)
    if cert is None and key is None:
        return default_cert()
    if cert is None or key is None:
        msg = "cert and key go together: give both files or neither"
        if not isinstance(cert, (str, os.PathLike, type(None))):
            msg = f"cert is the path of a file: give this {type(cert).__name__} as tls="
        raise TlsConfigError(msg)
    return TlsCert.pem_paths(cert, key)


def _policy(proxy: ProxyPolicy | bool | None) -> ProxyPolicy | None:
    """Return which peers may send PROXY headers; ``None``: none may.

    Raises:
        ConfigError: ``proxy`` is something else.
    """
    if proxy is None or proxy is False:
        return None
    if proxy is True:
        return ProxyPolicy.everybody()
    if isinstance(proxy, ProxyPolicy):
        return proxy
    msg = f"proxy takes a ProxyPolicy, True or False, not {type(proxy).__name__}"
    raise ConfigError(msg)


class Serving(Coroutine[Any, Any, None]):
    """What ``serve`` returns: to be awaited, or entered with ``async with``; once.

    It is a coroutine, too, so that it can be given to ``asyncio.create_task``; and
    ``serve`` to ``nursery.start_soon``. A second use raises ``RuntimeError``.
    """

    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._used = False
        self._coroutine: Coroutine[Any, Any, None] | None = None
        self._block: contextlib.AbstractAsyncContextManager[Server]  # once entered

    async def __aenter__(self) -> "Server":
        self._use()
        self._block = self._beside()
        return await self._block.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._block.__aexit__(kind, error, traceback)

    @contextlib.asynccontextmanager
    async def _beside(self) -> AsyncGenerator["Server", None]:
        server = await self._plan.bound()
        async with runtime.current().beside(server.run_beside) as end_block:
            await server.begun(end_block)
            try:
                yield server
            except Exception:
                await server.drain()
                raise
            await server.drain()
        await server.wait_closed()  # it has ended; this raises why

    async def _serve(self) -> None:
        server = await self._plan.bound()
        await server.run()

    def _use(self) -> None:
        """Take note of the one use.

        Raises:
            RuntimeError: it is the second one.
        """
        if self._used:
            msg = (
                f"this {self._plan.name}(...) was awaited or entered already: "
                "call it again for another server"
            )
            raise RuntimeError(msg)
        self._used = True

    def __await__(self) -> Generator[Any, Any, None]:
        self._use()
        return self._serve().__await__()

    def send(self, value: Any, /) -> Any:
        """Take the next step, as a coroutine."""
        return self._begun().send(value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception where it waits, as a coroutine."""
        return self._begun().throw(*error)

    def _begun(self) -> Coroutine[Any, Any, None]:
        """Return the coroutine that this one is, made at its first step."""
        if self._coroutine is None:
            self._use()
            self._coroutine = self._serve()
        return self._coroutine

    def close(self) -> None:
        """End it, as a coroutine; one that has not begun never begins."""
        self._used = True
        if self._coroutine is not None:
            self._coroutine.close()

    def __del__(self, _warn: Callable[..., None] = warnings.warn) -> None:
        if not self._used:
            text = f"{self._plan.name}(...) was never awaited or entered"
            _warn(text, RuntimeWarning, source=self)


class Server:
    """A server that runs beside the block of ``async with serve(...) as server``.

    Attributes:
        addresses: what it listens on, in order, with the ports that were chosen where
            0 was asked for.

    Example::

        async with tako.serve("127.0.0.1:0", router) as server:
            print(server.addresses, server.statistics)
            await server.drain(timeout=10)
    """

    def __init__(
        self,
        listener: Listener,
        app: Dispatcher,
        endpoint: Endpoint,
        config: ServerConfig,
        shutdown: Shutdown,
    ) -> None:
        """Not for applications: use ``serve``."""
        self.addresses: list[PeerAddr] = listener.addresses
        self._listener = listener
        self._endpoint = endpoint
        self._shutdown = shutdown
        self._lifetime = Lifetime(listener, app, endpoint, config)
        self._changed = runtime.current().signal()
        self._serving = self._ended = False
        self._error: Exception | None = None
        self._waiting = 0  # tasks that wait for the end
        self._end_block: Callable[[], None] | None = None

    @property
    def statistics(self) -> ServerStatistics:
        """What the server is doing at the moment, in numbers."""
        return self._lifetime.statistics

    def reload(self) -> None:
        """Load the certificates again from their files; a no-op without any.

        A server does that by itself within seconds after a file has changed. Open
        connections keep what they have. The event loop waits for the files, about a
        millisecond for each certificate.

        Raises:
            TlsConfigError: a file cannot be used. Its certificate stays as it was, the
                others are loaded.
        """
        problem: TlsConfigError | None = None
        tls = self._endpoint.tls
        for each in () if tls is None else tls.reloadables():
            try:
                each.reload_from_pem()
            except TlsConfigError as error:
                problem = problem or error
        if problem is not None:
            raise problem

    def stop(self) -> None:
        """Begin what ``drain`` does, and return at once.

        Repeats, also after the end, are no-ops. For request handlers, which ``drain``
        would wait for.
        """
        self._lifetime.stop()

    def hand_over(self) -> None:
        """Begin to drain where another process goes on accepting; returns at once.

        For sockets that processes share: a client cannot tell which of them has its
        connection. So one that was accepted may still send a request, for a second, and
        ``max_connections`` does not keep it waiting. There is no ``drain_delay``, and
        ``health_path`` answers 200 until that second is over. A no-op once nothing more
        is accepted.

        Example::

            async def shutdown() -> None:  # given to serve
                await replaced.wait()
                server.hand_over()
        """
        self._lifetime.hand_over()

    async def drain(self, timeout: Duration | None = None) -> None:
        """Accept nothing more, finish what has begun, and return at the end.

        All of that begins after ``ServerConfig.drain_delay``. Requests are answered,
        WebSockets are told 1001, HTTP/2 clients get GOAWAY; what has not ended in time
        is cut off.

        Args:
            timeout: seconds for all of it; it can only shorten what ``drain_delay`` and
                ``drain_timeout`` give together, each of them by the same factor. Also
                of a drain that has begun.

        Raises:
            ConfigError: ``timeout`` is not a positive time.
            Exception: as ``wait_closed``.

        Cancel safety: safe; the drain goes on.

        Example::

            await server.drain(timeout=10)
        """
        if timeout is not None:
            self._lifetime.shorten_drain(seconds(timeout, "timeout"))
        await self._drained()

    async def close(self) -> None:
        """End now: cancel handlers and abort connections.

        Only the lifespan of the app may take a second to end.

        Raises:
            Exception: as ``wait_closed``.

        Cancel safety: safe; the server ends all the same.
        """
        self._lifetime.shorten_drain(0)
        await self._drained()

    async def wait_closed(self) -> None:
        """Wait for the end; returns at once if the server has ended.

        Raises:
            Exception: what ended the server, if it was not a drain.

        Cancel safety: safe; the server goes on.
        """
        self._waiting += 1
        try:
            while not self._ended:
                await self._changed.wait()
        finally:
            self._waiting -= 1
        if self._error is not None:
            raise self._error

    async def _drained(self) -> None:
        self.stop()
        await self.wait_closed()

    async def run(self) -> None:
        """Serve until stopped, then drain; for ``Serving``.

        Raises:
            Exception: what ended the server, if it was not a drain.

        Cancel safety: as ``serve``.
        """
        with contextlib.ExitStack() as stack:
            stack.callback(self._listener.close)
            shutdown = self._shutdown
            if (
                shutdown is None and runtime.managed()
            ):  # before a line says that we serve
                shutdown = stack.enter_context(runtime.current().interrupts())
            await self._lifetime.run(shutdown, self._begin)

    async def run_beside(self) -> None:
        """Run beside a block, and let it know of the end; for ``Serving``.

        Cancel safety: as ``serve``.
        """
        try:
            await self.run()
        except Exception as error:
            self._error = error
        finally:
            self._ended = True
            self._changed.set()
            if self._end_block is not None and not self._waiting:
                self._end_block()

    async def begun(self, end_block: Callable[[], None]) -> None:
        """Wait until the server serves; from then on its end calls ``end_block``.

        Raises:
            Exception: what has ended it.

        Cancel safety: safe.
        """
        while not (self._serving or self._ended):
            await self._changed.wait()
        if self._error is not None:
            raise self._error
        self._end_block = end_block
        if self._ended:  # told to stop while it started
            end_block()

    def _begin(self) -> None:
        spoken: dict[ListenerProtocol, list[str]] = {}
        for sock, address in zip(self._listener.sockets, self.addresses, strict=True):
            protocol = self._endpoint.protocol_of(sock)
            spoken.setdefault(protocol, []).append(str(address))
        for protocol, addresses in spoken.items():
            _logger.info(_GREETING[protocol], ", ".join(addresses))
        self._serving = True
        self._changed.set()


def service_of(server: Server) -> Service | None:
    """Return what serves behind a handle; ``None`` while the server starts."""
    return server._lifetime.service  # pyright: ignore[reportPrivateUsage]
