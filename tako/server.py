"""Serving: ``serve*`` for a program that does only that, ``Server`` for the rest."""

import contextlib
import dataclasses
import logging
import os
import ssl
from collections.abc import AsyncIterator
from typing import Any, Self, TypeAlias

from tako import runtime
from tako.config import Duration, ServerConfig, seconds
from tako.conn_info import PeerAddr
from tako.connection import Protocol
from tako.errors import TlsConfigError
from tako.listener import ListenerLike, as_listener
from tako.router import Router
from tako.seams import Signal
from tako.service import Dispatcher, Service, Shutdown
from tako.tls import ReloadableResolver, TlsCert, TlsSettings, default_cert


_logger = logging.getLogger("tako.server")

Path: TypeAlias = str | os.PathLike[str]

_GREETING: dict[Protocol, str] = {
    "http/1.1": "Tako listening on %s",
    "tls": "Tako TLS listening on %s",
    "h2": "Tako h2c (HTTP/2 cleartext) listening on %s",
}


async def serve(
    listener: ListenerLike,
    router: Dispatcher,
    *,
    shutdown: Shutdown = None,
    config: ServerConfig | None = None,
) -> None:
    """Serve HTTP/1.1 over plain TCP until ``shutdown``, then drain.

    Args:
        listener: what ``tako.bind`` returns, a bound socket, or an address.
        router: what answers requests.
        shutdown: an awaitable, an async function, or an event; when it completes (or
            fails) the server drains. Inside ``tako.run`` SIGINT and SIGTERM by default.
        config: timeouts and limits.

    Raises:
        ConfigError: the configuration cannot work.
        OSError: the address cannot be bound.

    Cancel safety: cancelling aborts every connection at once; nothing is left behind.
    """
    await _serve(listener, router, "http/1.1", None, shutdown, config)


async def serve_tls(
    listener: ListenerLike,
    router: Dispatcher,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    tls: TlsCert | ssl.SSLContext | None = None,
    shutdown: Shutdown = None,
    config: ServerConfig | None = None,
) -> None:
    """Serve HTTP/2 and HTTP/1.1 over TLS; each connection chooses by ALPN.

    Args:
        listener: as for ``serve``.
        router: as for ``serve``.
        cert: PEM file of the certificate chain; without it ``certs/cert.pem`` with
            ``certs/key.pem``, else ``cert.pem`` with ``key.pem``.
        key: PEM file of the private key.
        tls: certificates in any other form, in place of ``cert`` and ``key``.
        shutdown: as for ``serve``.
        config: as for ``serve``.

    Raises:
        TlsConfigError: a file is missing or broken, or certificate and key do not match.
        ConfigError: the configuration cannot work.
        OSError: the address cannot be bound.

    Cancel safety: as ``serve``.
    """
    config = config or ServerConfig()
    settings = TlsSettings(_certificate(cert, key, tls), tuple(config.alpn))
    await _serve(listener, router, "tls", settings, shutdown, config)


async def serve_h2c(
    listener: ListenerLike,
    router: Dispatcher,
    *,
    shutdown: Shutdown = None,
    config: ServerConfig | None = None,
) -> None:
    """Serve HTTP/2 over plain TCP to clients with prior knowledge (RFC 9113 §3.3).

    Args and errors: as for ``serve``.

    Cancel safety: as ``serve``.
    """
    await _serve(listener, router, "h2", None, shutdown, config)


async def serve_with_shutdown(
    listener: ListenerLike, router: Dispatcher, signal: Shutdown
) -> None:
    """``serve`` with ``shutdown=signal``. Cancel safety: as ``serve``."""
    await serve(listener, router, shutdown=signal)


async def serve_with_config(
    listener: ListenerLike, router: Dispatcher, config: ServerConfig
) -> None:
    """``serve`` with ``config=config``. Cancel safety: as ``serve``."""
    await serve(listener, router, config=config)


async def serve_with_shutdown_and_config(
    listener: ListenerLike, router: Dispatcher, signal: Shutdown, config: ServerConfig
) -> None:
    """``serve`` with both. Cancel safety: as ``serve``."""
    await serve(listener, router, shutdown=signal, config=config)


def _certificate(
    cert: Path | None, key: Path | None, tls: TlsCert | ssl.SSLContext | None
) -> TlsCert:
    if tls is not None:
        if cert is not None or key is not None:
            msg = "give either cert and key or tls=, not both"
            raise TlsConfigError(msg)
        return TlsCert.context(tls) if isinstance(tls, ssl.SSLContext) else tls
    if cert is None and key is None:
        return default_cert()
    if cert is None or key is None:
        msg = "cert and key go together: give both files or neither"
        raise TlsConfigError(msg)
    return TlsCert.resolver(ReloadableResolver.from_pem(cert, key))


async def _serve(
    listener: ListenerLike,
    router: Dispatcher,
    protocol: Protocol,
    tls: TlsSettings | None,
    shutdown: Shutdown,
    config: ServerConfig | None,
) -> None:
    _check(router, config)
    bound = await as_listener(listener)
    if shutdown is None and runtime.managed():
        shutdown = runtime.ctrl_c
    try:
        async with runtime.current().open_runtime() as served:
            service = Service(
                served, bound, router, protocol, tls, config or ServerConfig()
            )
            _logger.info(_GREETING[protocol], bound.local_addr)
            await service.run(shutdown)
    finally:
        bound.close()


def _check(router: object, config: object) -> None:
    if not hasattr(router, "dispatch"):
        msg = f"serve takes a Router, not {type(router).__name__}"
        raise TypeError(msg)
    if isinstance(router, Router):
        router.prepare()  # plugins that cannot be set up raise here
    _check_config(config)


def _check_config(config: object) -> None:
    if config is not None and not isinstance(config, ServerConfig):
        msg = f"config takes a ServerConfig, not {type(config).__name__}"
        raise TypeError(msg)


class ServerHandle:
    """A server that runs beside its caller; made by ``Server.spawn_*``.

    Dropping the handle does not stop the server.
    """

    def __init__(self, local_addr: PeerAddr, drain_timeout: float) -> None:
        self.local_addr = local_addr
        self.drain_timeout = drain_timeout
        self._service: Service | None = None
        self._triggered = False
        self._done = False
        self._error: BaseException | None = None
        self._waiters: list[Signal] = []

    def trigger(self) -> None:
        """Begin to drain; again, or after the end, is a no-op."""
        self._triggered = True
        if self._service is not None:
            self._service.stop()

    async def join(self) -> None:
        """Wait for the end; returns at once if the server has ended.

        Raises:
            Exception: what ended the server, if it was not a drain.

        Cancel safety: safe; the server goes on.
        """
        if not self._done:
            signal = runtime.current().signal()
            self._waiters.append(signal)
            while not self._done:
                await signal.wait()
        if self._error is not None:
            raise self._error

    async def shutdown(self, timeout: Duration | None = None) -> None:
        """``trigger`` and ``join``, draining at most ``timeout`` seconds.

        ``timeout`` can only shorten the configured ``drain_timeout``.

        Raises:
            Exception: as ``join``.

        Cancel safety: safe; the drain goes on.
        """
        if timeout is not None and self._service is not None:
            self._service.shorten_drain(seconds(timeout, "timeout"))
        self.trigger()
        await self.join()

    def started(self, service: Service) -> None:
        """Take the service to control; for ``Server``."""
        self._service = service
        if self._triggered:
            service.stop()

    def ended(self, error: BaseException | None) -> None:
        """The service is over; for ``Server``."""
        self._done = True
        self._error = error
        for signal in self._waiters:
            signal.set()


class Server:
    """One configuration, any number of listeners.

    Args:
        config: timeouts and limits for all of them.
        tls: the certificate of ``spawn_tls``.
    """

    def __init__(
        self, *, config: ServerConfig | None = None, tls: TlsCert | None = None
    ) -> None:
        _check_config(config)
        self.config = config or ServerConfig()
        self._tls = tls

    @classmethod
    def builder(cls) -> "ServerBuilder":
        """Return a builder, the other way to write the constructor."""
        return ServerBuilder()

    async def spawn_http(
        self, listener: ListenerLike, router: Dispatcher, *, nursery: Any = None
    ) -> ServerHandle:
        """Serve HTTP/1.1 beside the caller.

        Args:
            listener: as for ``serve``.
            router: as for ``serve``.
            nursery: where it runs on trio (required there, forbidden on asyncio).

        Raises:
            TypeError: ``nursery`` is missing on trio, or given on asyncio.
            OSError: the address cannot be bound.

        Cancel safety: safe before it returns; the server is then on its own.
        """
        return await self._spawn(listener, router, "http/1.1", None, nursery)

    async def spawn_h2c(
        self, listener: ListenerLike, router: Dispatcher, *, nursery: Any = None
    ) -> ServerHandle:
        """Serve HTTP/2 with prior knowledge. Cancel safety: as ``spawn_http``."""
        return await self._spawn(listener, router, "h2", None, nursery)

    async def spawn_tls(
        self, listener: ListenerLike, router: Dispatcher, *, nursery: Any = None
    ) -> ServerHandle:
        """Serve HTTP/2 and HTTP/1.1 over TLS.

        Raises:
            TlsConfigError: the server has no certificate, or it cannot be used.

        Cancel safety: as ``spawn_http``.
        """
        return await self._spawn(listener, router, "tls", self._settings(), nursery)

    @contextlib.asynccontextmanager
    async def running_http(
        self, listener: ListenerLike, router: Dispatcher
    ) -> AsyncIterator[ServerHandle]:
        """``spawn_http`` for the length of a block; shut down at its end."""
        async with runtime.current().open_group() as group:
            handle = await self.spawn_http(listener, router, nursery=group)
            async with _shut_down_after(handle):
                yield handle

    @contextlib.asynccontextmanager
    async def running_h2c(
        self, listener: ListenerLike, router: Dispatcher
    ) -> AsyncIterator[ServerHandle]:
        """``spawn_h2c`` for the length of a block; shut down at its end."""
        async with runtime.current().open_group() as group:
            handle = await self.spawn_h2c(listener, router, nursery=group)
            async with _shut_down_after(handle):
                yield handle

    @contextlib.asynccontextmanager
    async def running_tls(
        self, listener: ListenerLike, router: Dispatcher
    ) -> AsyncIterator[ServerHandle]:
        """``spawn_tls`` for the length of a block; shut down at its end."""
        async with runtime.current().open_group() as group:
            handle = await self.spawn_tls(listener, router, nursery=group)
            async with _shut_down_after(handle):
                yield handle

    def _settings(self) -> TlsSettings:
        if self._tls is None:
            msg = "spawn_tls requires a TlsCert"
            raise TlsConfigError(msg)
        return TlsSettings(self._tls, tuple(self.config.alpn))

    async def _spawn(
        self,
        listener: ListenerLike,
        router: Dispatcher,
        protocol: Protocol,
        tls: TlsSettings | None,
        nursery: Any,
    ) -> ServerHandle:
        _check(router, self.config)
        backend = runtime.current()
        bound = await as_listener(listener)
        handle = ServerHandle(bound.local_addr, self.config.drain_timeout)

        async def run() -> None:
            error: BaseException | None = None
            try:
                async with backend.open_runtime() as served:
                    service = Service(served, bound, router, protocol, tls, self.config)
                    handle.started(service)
                    await service.run()
            except Exception as failure:
                error = failure
            finally:
                handle.ended(error)

        try:
            backend.start(nursery, run)
        except TypeError:
            bound.close()
            raise
        _logger.info(_GREETING[protocol], bound.local_addr)
        return handle


@contextlib.asynccontextmanager
async def _shut_down_after(handle: ServerHandle) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await handle.shutdown()


@dataclasses.dataclass
class ServerBuilder:
    """Collects what a ``Server`` is made of."""

    _config: ServerConfig | None = None
    _tls: TlsCert | None = None

    def config(self, config: ServerConfig) -> Self:
        """Set timeouts and limits."""
        self._config = config
        return self

    def tls(self, tls: TlsCert) -> Self:
        """Set the certificate."""
        self._tls = tls
        return self

    def build(self) -> Server:
        """Return the server."""
        return Server(config=self._config, tls=self._tls)
