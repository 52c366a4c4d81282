"""Serving until told to stop: ``serve*``, for a program that does only that."""

import contextlib
import logging
import os
from functools import partial
from typing import TypeAlias

from tako import runtime
from tako.config import ServerConfig, positive
from tako.errors import ConfigError, TlsConfigError
from tako.http.conn_info import IpPeer, PeerAddr
from tako.proxy.policy import ProxyPolicy
from tako.routing.router import Router
from tako.server.detect import ListenerProtocol
from tako.server.lifetime import Lifetime, Shutdown
from tako.server.listener import Listener, ListenerLike, as_listener
from tako.server.service import Dispatcher, Endpoint
from tako.server.unix import bind_unix
from tako.tls.certificates import TlsCert, TlsLike, TlsSettings, as_cert, default_cert


_logger = logging.getLogger("tako.server")

Path: TypeAlias = str | os.PathLike[str]

_GREETING: dict[ListenerProtocol, str] = {
    "http/1.1": "Tako listening on %s",
    "tls": "Tako TLS listening on %s",
    "h2": "Tako h2c (HTTP/2 cleartext) listening on %s",
    "any": "Tako listening on %s, to any protocol",
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
    await serve_listener(listener, router, Endpoint(), shutdown, config)


async def serve_tls(
    listener: ListenerLike,
    router: Dispatcher,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    tls: TlsLike | None = None,
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
        tls: certificates in any other form, in place of ``cert`` and ``key``: a
            ``TlsCert``, an ``ssl.SSLContext``, a ``trustme.LeafCert`` or ``(cert,
            key)``.
        shutdown: as for ``serve``.
        config: as for ``serve``.

    Raises:
        TlsConfigError: a file is missing or broken, or certificate and key do not
            match.
        ConfigError: the configuration cannot work.
        OSError: the address cannot be bound.

    Cancel safety: as ``serve``.
    """
    config = config or ServerConfig()
    settings = TlsSettings(certificate(cert, key, tls), tuple(config.alpn))
    endpoint = Endpoint(protocol="tls", tls=settings)
    await serve_listener(listener, router, endpoint, shutdown, config)


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
    await serve_listener(listener, router, Endpoint(protocol="h2"), shutdown, config)


async def serve_unix_http(
    path: Path,
    router: Dispatcher,
    *,
    shutdown: Shutdown = None,
    config: ServerConfig | None = None,
) -> None:
    """Serve HTTP/1.1 on a Unix socket until ``shutdown``, then drain.

    For TLS and HTTP/2 there, give what ``bind_unix`` returns to ``serve_tls`` and
    ``serve_h2c``.

    Args:
        path: as for ``bind_unix``; the socket's file is removed at the end.
        router: as for ``serve``.
        shutdown: as for ``serve``.
        config: as for ``serve``.

    Raises:
        ConfigError: the configuration cannot work.
        OSError: somebody else listens there, or it cannot be bound.

    Cancel safety: as ``serve``.
    """
    check(router, config)
    listener = await bind_unix(path)
    await serve_listener(listener, router, Endpoint(), shutdown, config)


async def serve_http_with_proxy_protocol(
    listener: ListenerLike,
    router: Dispatcher,
    *,
    tls: TlsLike | None = None,
    proxy: ProxyPolicy | None = None,
    shutdown: Shutdown = None,
    config: ServerConfig | None = None,
) -> None:
    """Serve behind a proxy that begins each connection with a PROXY header.

    ``ConnInfo.peer`` is then the client that the proxy names, ``request.extensions``
    has the ``ProxyHeader``, and one ``Forwarded`` field replaces those that came.

    Args:
        listener: as for ``serve``.
        router: as for ``serve``.
        tls: serve HTTP/2 and HTTP/1.1 over TLS, which begins behind the PROXY header;
            without it HTTP/1.1 in the clear.
        proxy: whose headers are believed; others are refused. Without it anybody's are:
            nobody but the proxy may then be able to reach the port.
        shutdown: as for ``serve``.
        config: as for ``serve``.

    Raises:
        TlsConfigError: the certificates cannot be used.
        ConfigError: the configuration cannot work.
        OSError: the address cannot be bound.

    Cancel safety: as ``serve``.
    """
    config = config or ServerConfig()
    endpoint = proxied_endpoint(tls, proxy, config)
    await serve_listener(listener, router, endpoint, shutdown, config)


async def serve_any(
    listener: ListenerLike,
    router: Dispatcher,
    cert: Path | None = None,
    key: Path | None = None,
    *,
    tls: TlsLike | None = None,
    redirect_to_https: bool | int = False,
    proxy: ProxyPolicy | None = None,
    shutdown: Shutdown = None,
    config: ServerConfig | None = None,
) -> None:
    """Serve everything on one port: each connection's first bytes say what it is.

    TLS (and in it HTTP/2 or HTTP/1.1, by ALPN), HTTP/2 with prior knowledge (RFC 9113
    §3.3), HTTP/1.1, and each of them behind a PROXY header.

    Args:
        listener: as for ``serve``.
        router: as for ``serve``.
        cert: PEM file of the certificate chain; with no certificate there is no TLS.
        key: PEM file of the private key.
        tls: certificates in any other form, in place of ``cert`` and ``key``: a
            ``TlsCert``, an ``ssl.SSLContext``, a ``trustme.LeafCert`` or ``(cert,
            key)``.
        redirect_to_https: answer requests that came in the clear with a 308 to the same
            URL over HTTPS, on this port; a number names another port, which is what
            clients can reach from outside.
        proxy: whose PROXY headers are believed; other peers are served without.
        shutdown: as for ``serve``.
        config: as for ``serve``.

    Raises:
        TlsConfigError: the certificates cannot be used.
        ConfigError: the configuration cannot work.
        OSError: the address cannot be bound.

    Cancel safety: as ``serve``.
    """
    config = config or ServerConfig()
    settings = None
    if any(given is not None for given in (cert, key, tls)):
        settings = TlsSettings(certificate(cert, key, tls), tuple(config.alpn))
    check(router, config)
    bound = await as_listener(listener)
    try:
        endpoint = any_endpoint(settings, redirect_to_https, proxy, bound.local_addr)
    except ConfigError:
        bound.close()
        raise
    await serve_listener(bound, router, endpoint, shutdown, config)


def proxied_endpoint(
    tls: TlsLike | None,
    proxy: ProxyPolicy | None,
    config: ServerConfig,
) -> Endpoint:
    """Return what ``serve_http_with_proxy_protocol`` serves; for servers.

    Raises:
        TlsConfigError: the certificates cannot be used.
    """
    proxy = proxy or ProxyPolicy.everybody()
    if tls is None:
        return Endpoint(proxy=proxy)
    settings = TlsSettings(certificate(None, None, tls), tuple(config.alpn))
    return Endpoint(protocol="tls", tls=settings, proxy=proxy)


def any_endpoint(
    tls: TlsSettings | None,
    redirect_to_https: bool | int,
    proxy: ProxyPolicy | None,
    local: PeerAddr,
) -> Endpoint:
    """Return what ``serve_any`` serves at ``local``; for servers.

    Raises:
        ConfigError: there is nowhere to redirect to.
    """
    port = None
    if redirect_to_https is not False:
        if tls is None:
            msg = "redirect_to_https needs a certificate"
            raise ConfigError(msg)
        if redirect_to_https is not True:
            port = positive(redirect_to_https, "redirect_to_https", most=65535)
        elif isinstance(local, IpPeer):
            port = local.port
        else:
            msg = f"redirect_to_https needs the number of a port, {local} has none"
            raise ConfigError(msg)
    return Endpoint(protocol="any", tls=tls, proxy=proxy, https_port=port)


def certificate(cert: Path | None, key: Path | None, tls: TlsLike | None) -> TlsCert:
    """Return what ``cert`` and ``key``, or ``tls``, stand for; for ``serve*``.

    Raises:
        TlsConfigError: they do not go together.
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


async def serve_listener(
    listener: ListenerLike,
    router: Dispatcher,
    endpoint: Endpoint,
    shutdown: Shutdown,
    config: ServerConfig | None,
) -> None:
    """Serve ``endpoint`` until ``shutdown``, then drain; for ``serve*``.

    Raises:
        OSError: the address cannot be bound.

    Cancel safety: as ``serve``.
    """
    check(router, config)
    bound = await as_listener(listener)
    backend = runtime.current()
    signals = contextlib.ExitStack()
    try:
        if shutdown is None and runtime.managed():  # before anybody hears of us
            shutdown = signals.enter_context(backend.interrupts())
        lifetime = Lifetime(bound, router, endpoint, config or ServerConfig())
        await lifetime.run(shutdown, partial(greet, endpoint, bound))
    finally:
        signals.close()
        bound.close()


def greet(endpoint: Endpoint, listener: Listener) -> None:
    """Log what is served and where; for servers."""
    _logger.info(_GREETING[endpoint.protocol], listener.local_addr)


def check(router: object, config: object) -> None:
    """Refuse what cannot be served, before anything is; for servers.

    Raises:
        TypeError: one of them is something else.
        ConfigError: the router cannot work.
    """
    if not hasattr(router, "dispatch"):
        msg = f"serve takes a Router, not {type(router).__name__}"
        raise TypeError(msg)
    if isinstance(router, Router):
        router.prepare()  # plugins that cannot be set up raise here
    check_config(config)


def check_config(config: object) -> None:
    """Refuse what is no configuration; for servers.

    Raises:
        TypeError: it is none.
    """
    if config is not None and not isinstance(config, ServerConfig):
        msg = f"config takes a ServerConfig, not {type(config).__name__}"
        raise TypeError(msg)
