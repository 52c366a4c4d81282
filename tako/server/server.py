"""``Server``: one configuration, any number of listeners, beside what else runs."""

import contextlib
import dataclasses
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, Self

from tako import runtime
from tako.config import Duration, ServerConfig, seconds
from tako.errors import ConfigError, TlsConfigError
from tako.http.conn_info import PeerAddr
from tako.proxy.policy import ProxyPolicy
from tako.server.lifetime import Lifetime
from tako.server.listener import ListenerLike, as_listener
from tako.server.service import Dispatcher, Endpoint
from tako.server.serving import (
    Path,
    any_endpoint,
    check,
    check_config,
    greet,
    proxied_endpoint,
)
from tako.server.unix import bind_unix
from tako.tls.certificates import TlsCert, TlsLike, TlsSettings, as_cert


if TYPE_CHECKING:
    from tako.core.loop import Signal


class ServerHandle:
    """A server that runs beside its caller; made by ``Server.spawn_*``.

    Dropping the handle does not stop the server.
    """

    def __init__(
        self, local_addr: PeerAddr, drain_timeout: float, lifetime: Lifetime
    ) -> None:
        self.local_addr = local_addr
        self.drain_timeout = drain_timeout
        self._lifetime = lifetime
        self._done = False
        self._error: BaseException | None = None
        self._waiters: list[Signal] = []

    def trigger(self) -> None:
        """Begin to drain; again, or after the end, is a no-op."""
        self._lifetime.stop()

    async def join(self) -> None:
        """Wait for the end; returns at once if the server has ended.

        Raises:
            Exception: what ended the server, if it was not a drain.

        Cancel safety: safe; the server goes on.
        """
        if not self._done:
            signal = runtime.current().signal()
            self._waiters.append(signal)
            try:
                while not self._done:
                    await signal.wait()
            finally:
                self._waiters.remove(signal)
        if self._error is not None:
            raise self._error

    async def shutdown(self, timeout: Duration | None = None) -> None:
        """``trigger`` and ``join``, draining at most ``timeout`` seconds.

        ``timeout`` can only shorten the configured ``drain_timeout``.

        Raises:
            Exception: as ``join``.

        Cancel safety: safe; the drain goes on.
        """
        if timeout is not None:
            self._lifetime.shorten_drain(seconds(timeout, "timeout"))
        self.trigger()
        await self.join()

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
        tls: the certificate of ``spawn_tls``: a ``TlsCert``, an ``ssl.SSLContext``, a
            ``trustme.LeafCert`` or the paths ``(cert, key)``.

    Raises:
        TlsConfigError: ``tls`` is something else.
    """

    def __init__(
        self, *, config: ServerConfig | None = None, tls: TlsLike | None = None
    ) -> None:
        check_config(config)
        self.config: ServerConfig = config or ServerConfig()
        self._tls: TlsCert | None = None if tls is None else as_cert(tls)

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
        return await self._spawn(listener, router, Endpoint(), nursery)

    async def spawn_h2c(
        self, listener: ListenerLike, router: Dispatcher, *, nursery: Any = None
    ) -> ServerHandle:
        """Serve HTTP/2 with prior knowledge. Cancel safety: as ``spawn_http``."""
        return await self._spawn(listener, router, Endpoint(protocol="h2"), nursery)

    async def spawn_tls(
        self, listener: ListenerLike, router: Dispatcher, *, nursery: Any = None
    ) -> ServerHandle:
        """Serve HTTP/2 and HTTP/1.1 over TLS.

        Raises:
            TlsConfigError: the server has no certificate, or it cannot be used.

        Cancel safety: as ``spawn_http``.
        """
        endpoint = Endpoint(protocol="tls", tls=self._settings())
        return await self._spawn(listener, router, endpoint, nursery)

    async def spawn_unix_http(
        self, path: Path, router: Dispatcher, *, nursery: Any = None
    ) -> ServerHandle:
        """Serve HTTP/1.1 on a Unix socket; see ``bind_unix`` for ``path``.

        Raises:
            OSError: somebody else listens there, or it cannot be bound.

        Cancel safety: as ``spawn_http``.
        """
        return await self.spawn_http(await bind_unix(path), router, nursery=nursery)

    async def spawn_proxy_protocol(
        self,
        listener: ListenerLike,
        router: Dispatcher,
        *,
        proxy: ProxyPolicy | None = None,
        nursery: Any = None,
    ) -> ServerHandle:
        """Serve behind a proxy, over TLS if the server has a certificate.

        Args:
            listener: as for ``serve``.
            router: as for ``serve``.
            proxy: as for ``serve_http_with_proxy_protocol``.
            nursery: as for ``spawn_http``.

        Cancel safety: as ``spawn_http``.
        """
        endpoint = proxied_endpoint(self._tls, proxy, self.config)
        return await self._spawn(listener, router, endpoint, nursery)

    async def spawn_any(
        self,
        listener: ListenerLike,
        router: Dispatcher,
        *,
        redirect_to_https: bool | int = False,
        proxy: ProxyPolicy | None = None,
        nursery: Any = None,
    ) -> ServerHandle:
        """Serve everything on one port; TLS if the server has a certificate.

        Args:
            listener: as for ``serve``.
            router: as for ``serve``.
            redirect_to_https: as for ``serve_any``.
            proxy: as for ``serve_any``.
            nursery: as for ``spawn_http``.

        Raises:
            ConfigError: there is nowhere to redirect to.

        Cancel safety: as ``spawn_http``.
        """
        tls = None if self._tls is None else self._settings()
        bound = await as_listener(listener)
        try:
            endpoint = any_endpoint(tls, redirect_to_https, proxy, bound.local_addr)
        except ConfigError:
            bound.close()
            raise
        return await self._spawn(bound, router, endpoint, nursery)

    @contextlib.asynccontextmanager
    async def running_http(
        self, listener: ListenerLike, router: Dispatcher
    ) -> AsyncGenerator[ServerHandle, None]:
        """``spawn_http`` for the length of a block; shut down at its end."""
        async with runtime.current().open_group() as group:
            handle = await self.spawn_http(listener, router, nursery=group)
            async with _shut_down_after(handle):
                yield handle

    @contextlib.asynccontextmanager
    async def running_h2c(
        self, listener: ListenerLike, router: Dispatcher
    ) -> AsyncGenerator[ServerHandle, None]:
        """``spawn_h2c`` for the length of a block; shut down at its end."""
        async with runtime.current().open_group() as group:
            handle = await self.spawn_h2c(listener, router, nursery=group)
            async with _shut_down_after(handle):
                yield handle

    @contextlib.asynccontextmanager
    async def running_tls(
        self, listener: ListenerLike, router: Dispatcher
    ) -> AsyncGenerator[ServerHandle, None]:
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
        endpoint: Endpoint,
        nursery: Any,
    ) -> ServerHandle:
        check(router, self.config)
        backend = runtime.current()
        bound = await as_listener(listener)
        lifetime = Lifetime(bound, router, endpoint, self.config)
        handle = ServerHandle(bound.local_addr, self.config.drain_timeout, lifetime)

        async def run() -> None:
            error: BaseException | None = None
            try:
                await lifetime.run()
            except Exception as failure:
                error = failure
            finally:
                bound.close()
                handle.ended(error)

        try:
            backend.start(nursery, run)
        except TypeError:
            bound.close()
            raise
        greet(endpoint, bound)
        return handle


@contextlib.asynccontextmanager
async def _shut_down_after(handle: ServerHandle) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        await handle.shutdown()


@dataclasses.dataclass
class ServerBuilder:
    """Collects what a ``Server`` is made of."""

    _config: ServerConfig | None = None
    _tls: TlsLike | None = None

    def config(self, config: ServerConfig) -> Self:
        """Set timeouts and limits."""
        self._config = config
        return self

    def tls(self, tls: TlsLike) -> Self:
        """Set the certificate, in any form that ``Server`` takes."""
        self._tls = tls
        return self

    def build(self) -> Server:
        """Return the server."""
        return Server(config=self._config, tls=self._tls)
