"""``connect``: opens a WebSocket.

Theory of operation. ``Connect`` does nothing before it is entered, awaited or iterated
over. It then makes one ``Attempt`` after the other, as ``Wires`` says, and begins anew
where the server redirects it; ``open_timeout`` is for all of them together. Connections
come from a ``Pool``: that of a ``Client``, or one that serves this WebSocket alone.
Iterating over it is for ``Reconnect``.
"""

import logging
from collections.abc import AsyncIterator, Generator
from types import TracebackType
from typing import Any, Unpack

from tako.client.attempt import Attempt
from tako.client.origins import Origins, Wires
from tako.client.pool import Pool
from tako.client.reconnect import ProcessException, Reconnect, process_exception
from tako.client.redirect import redirected
from tako.client.settings import (
    ConnectKeywords,
    Settings,
    make_config,
    make_settings,
)
from tako.errors import ConnectError, ConnectTimeout, HandshakeRejected, PoolTimeout
from tako.runtime import ClientRuntime, current, monotonic
from tako.ws.websocket import WebSocket


_logger = logging.getLogger("tako.client")

_END_TIMEOUT = 5.0  # seconds for the connection to end, once the WebSocket has

_origins = Origins()


class Connect:
    """A WebSocket to be: ``async with`` it, ``await`` it, or iterate over it."""

    def __init__(
        self, pool: Pool, settings: Settings, process: ProcessException
    ) -> None:
        """For ``connect``, of this module and of ``Client``."""
        self._pool = pool
        self._settings = settings
        self._process = process
        self.attempt: Attempt | None = None
        self._ws: WebSocket | None = None

    def __await__(self) -> Generator[Any, None, WebSocket]:
        """Open the WebSocket; to close it is up to the caller."""
        return self.open().__await__()

    async def __aenter__(self) -> WebSocket:
        return await self.open()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ws, self._ws = self._ws, None
        if ws is not None:
            await ws.__aexit__(kind, error, traceback)
        attempt, self.attempt = self.attempt, None
        link = None if attempt is None else attempt.link
        if link is None or link.shared:
            return
        if error is None or isinstance(error, Exception):
            await link.until_gone(_END_TIMEOUT)

    def __aiter__(self) -> AsyncIterator[WebSocket]:
        return Reconnect(self, self._process)

    async def open(self) -> WebSocket:
        """Open a WebSocket.

        Raises:
            ConnectError: it cannot be; the subclass says why.

        Cancel safety: nothing stays open.
        """
        timeout = self._settings.open_timeout
        self.attempt = None
        runtime = await current().borrow()
        try:
            if timeout is None:
                return await self._follow(runtime, None)
            until = runtime.time() + timeout
            ws: WebSocket = await runtime.run_within(
                timeout, self._follow, runtime, until
            )
        except TimeoutError as error:
            if isinstance(error, ConnectError):
                raise
            raise self._timed_out() from None
        finally:
            runtime.give_back()
        return ws

    async def _follow(self, runtime: ClientRuntime, until: float | None) -> WebSocket:
        """Open the WebSocket wherever the server sends us."""
        settings, followed = self._settings, 0
        while True:
            try:
                return await self._try(settings, runtime, until)
            except HandshakeRejected as rejected:
                new = redirected(settings, rejected, followed)
            before, after = settings.target, new.target
            _logger.info("%s redirects to %s", before.shown, after.shown)
            settings = new
            followed += 1

    async def _try(
        self, settings: Settings, runtime: ClientRuntime, until: float | None
    ) -> WebSocket:
        wires = Wires(
            _origins,
            (settings.target.origin, settings.server_hostname, settings.proxy),
            settings.versions,
            secure=settings.context is not None,
            now=monotonic(),
        )
        while True:
            attempt = self.attempt = Attempt(
                settings, wires.versions, runtime, self._pool, until
            )
            outcome = await attempt.run()
            if isinstance(outcome, WebSocket):
                wires.worked(attempt.wire, monotonic())
                self._ws = outcome
                return outcome
            origin = settings.target.origin
            if not wires.failed(outcome.advice, monotonic()):
                # held by no name: its traceback would keep all that is here
                raise outcome.error(origin)
            versions = wires.versions
            _logger.debug("%s: %s: HTTP/%s next", origin, outcome.text, versions[0])

    def _timed_out(self) -> ConnectTimeout:
        """Return what to raise: ``open_timeout`` is over."""
        attempt, settings = self.attempt, self._settings
        step, wire = "dialing", None
        if attempt is not None:
            step, wire, settings = attempt.step, attempt.wire, attempt.settings
        kind, text = ConnectTimeout, f"{step} took too long"
        if step == "queue":
            kind, text = PoolTimeout, "all connections are full"
        text += f": open_timeout is {settings.open_timeout} s"
        return kind(text, step=step, origin=settings.target.origin, wire=wire)


def connect(
    url: str,
    *,
    process_exception: ProcessException = process_exception,
    **options: Unpack[ConnectKeywords],
) -> Connect:
    """Return a WebSocket to be, over HTTP/2 where the server has that, else HTTP/1.1.

    ``async with connect(url) as ws`` opens one and closes it; ``await connect(url)``
    opens one; ``async for ws in connect(url)`` opens one after the other. Each has a
    connection of its own; those of a ``Client`` share connections.

    Args:
        url: ``wss://`` or ``ws://``; ``ws+unix:/run/app.sock:/path`` for a Unix socket.
        process_exception: for ``async for``: returns what to raise, or ``None`` to try
            again.
        options: what follows, each by its name.
        subprotocols: those that are offered, in order of preference.
        additional_headers: further fields of the request.
        origin: the value of ``Origin``.
        ssl: TLS; by default what Python trusts. Its ALPN is set at each use.
        server_hostname: whose certificate is expected; the host by default.
        open_timeout: seconds for everything until the WebSocket is open, 10 by default;
            ``None``: no limit.
        ping_interval: seconds of silence before the server is asked whether it is
            there; ``None``: never. By default, 20, HTTP/2 asks by a PING of the
            connection, which a proxy answers itself; an interval that is given is also
            that of Pings of the WebSocket, on either wire.
        ping_timeout: seconds for its answer, 20 by default; ``None``: as long as it
            takes.
        close_timeout: seconds for its Close, 10 by default.
        max_size: bytes of the largest message, 1 MiB by default; ``None``: no limit.
        compression: ``"deflate"``, the default, offers permessage-deflate, a
            ``Deflate`` says how; ``None``: none.
        user_agent_header: the value of ``User-Agent``, ``"tako"`` by default.
        http_versions: those that may be used, ``("2", "1.1")`` by default. Without TLS
            ``("2",)`` is HTTP/2 with prior knowledge.
        proxy: the URL of one, ``http://``, ``https://``, ``socks5://`` or
            ``socks5h://``, perhaps with user and password; ``True``, the default: what
            environment and system say; ``None``: none. SOCKS needs
            ``tako-server[socks]``; names are resolved here for ``socks5``, at the
            proxy for ``socks5h``.
        proxy_ssl: TLS to an ``https://`` proxy; by default what Python trusts.

    Raises:
        ConfigError: a value that cannot work. What happens later is a ``ConnectError``.
        TypeError: there is no such option.

    Cancel safety: what is cancelled while it opens leaves nothing open.

    Example::

        async with tako.connect("wss://localhost:8443/chat") as ws:
            await ws.send("hello")
            print(await ws.read(timeout=5))

        async for ws in tako.connect("wss://localhost:8443/chat"):  # comes back
            async for message in ws:
                print(message)
    """
    settings = make_settings(url, options)
    pool = Pool(make_config(options), shares=False)
    return Connect(pool, settings, process_exception)
