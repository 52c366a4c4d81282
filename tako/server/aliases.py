"""The names that ``serve*`` have where languages lack keyword arguments."""

from tako.config import ServerConfig
from tako.server.lifetime import Shutdown
from tako.server.listener import ListenerLike
from tako.server.service import Dispatcher
from tako.server.serving import Path, serve, serve_h2c, serve_tls


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


async def serve_tls_with_shutdown(
    listener: ListenerLike,
    router: Dispatcher,
    cert: Path | None,
    key: Path | None,
    signal: Shutdown,
) -> None:
    """``serve_tls`` with ``shutdown=signal``. Cancel safety: as ``serve``."""
    await serve_tls(listener, router, cert, key, shutdown=signal)


async def serve_tls_with_config(
    listener: ListenerLike,
    router: Dispatcher,
    cert: Path | None,
    key: Path | None,
    config: ServerConfig,
) -> None:
    """``serve_tls`` with ``config=config``. Cancel safety: as ``serve``."""
    await serve_tls(listener, router, cert, key, config=config)


async def serve_tls_with_shutdown_and_config(
    listener: ListenerLike,
    router: Dispatcher,
    cert: Path | None,
    key: Path | None,
    signal: Shutdown,
    config: ServerConfig,
) -> None:
    """``serve_tls`` with both. Cancel safety: as ``serve``."""
    await serve_tls(listener, router, cert, key, shutdown=signal, config=config)


async def serve_h2c_with_shutdown(
    listener: ListenerLike, router: Dispatcher, signal: Shutdown
) -> None:
    """``serve_h2c`` with ``shutdown=signal``. Cancel safety: as ``serve``."""
    await serve_h2c(listener, router, shutdown=signal)


async def serve_h2c_with_config(
    listener: ListenerLike, router: Dispatcher, config: ServerConfig
) -> None:
    """``serve_h2c`` with ``config=config``. Cancel safety: as ``serve``."""
    await serve_h2c(listener, router, config=config)


async def serve_h2c_with_shutdown_and_config(
    listener: ListenerLike, router: Dispatcher, signal: Shutdown, config: ServerConfig
) -> None:
    """``serve_h2c`` with both. Cancel safety: as ``serve``."""
    await serve_h2c(listener, router, shutdown=signal, config=config)
