"""``Client``: what WebSockets have in common: settings, and connections.

Theory of operation. It holds keywords for ``connect``, and a ``Pool`` from the
beginning of its block to the end. Leaving the block closes what is still open, by the
rules of each WebSocket, and drops what has not closed when ``close_timeout`` is over.
"""

from types import TracebackType
from typing import Self, Unpack

from tako.client.connect import Connect
from tako.client.pool import Pool
from tako.client.reconnect import ProcessException, process_exception
from tako.client.settings import (
    ConnectKeywords,
    check_names,
    make_config,
    make_settings,
)
from tako.client.url import join
from tako.config import Duration, positive, seconds
from tako.runtime import monotonic


_END_TIMEOUT = 2.0  # seconds for streams and connections, once the Closes are there


class Client:
    """Opens WebSockets, of which many share a connection of HTTP/2.

    ``async with Client() as client``, then ``client.connect(url)`` in place of
    ``tako.connect(url)``. On HTTP/2 as many share a connection as the server allows;
    when all are full another is dialed, and when there are ``max_connections``, the
    next waits for its turn, in order of arrival, within ``open_timeout``. Over HTTP/1.1
    each has a connection of its own.

    Leaving the block closes every WebSocket (1001) and all connections.

    Args:
        base_url: what paths are appended to; ``None``: ``connect`` takes URLs only.
        max_connections: those of HTTP/2 to one origin that take WebSockets. One that
            the server has announced to end does not count.
        max_streams: WebSockets on one of them; the server may allow fewer.
        idle_timeout: seconds, or a timedelta, that one may carry nothing before it is
            closed.
        process_exception: see ``connect``.
        options: those of ``connect``, for every WebSocket that does not say otherwise.
            ``close_timeout`` is also that of leaving the block; ``ping_interval`` and
            ``ping_timeout`` are those of connections: HTTP/2 asks once for all
            WebSockets of one, and its round trip is their ``latency``.

    Raises:
        ConfigError: a value that cannot work.
        TypeError: there is no such option.

    Example::

        async with tako.Client("wss://localhost:8443", max_size=1000) as client:
            sockets = [await client.connect("/chat") for _ in range(50)]
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        max_connections: int = 8,
        max_streams: int = 100,
        idle_timeout: Duration = 30,
        process_exception: ProcessException = process_exception,
        **options: Unpack[ConnectKeywords],
    ) -> None:
        check_names(options)
        self._base_url = base_url
        self._max_connections = positive(max_connections, "max_connections")
        self._idle_timeout = seconds(idle_timeout, "idle_timeout")
        self._process = process_exception
        self._options = options
        most = positive(max_streams, "max_streams", most=10_000)
        self._config = make_config(options, max_streams=most)
        self._pool: Pool | None = None
        example = "ws://localhost/" if base_url is None else join(base_url, "")
        make_settings(example, {}, options)  # what cannot work says so now

    def connect(
        self,
        url: str = "",
        *,
        process_exception: ProcessException | None = None,
        **options: Unpack[ConnectKeywords],
    ) -> Connect:
        """Return a WebSocket to be, as ``tako.connect`` does.

        Args:
            url: a URL, or a path below ``base_url``.
            process_exception: see ``tako.connect``; the client's by default.
            options: what differs from the client's. Header fields are added to those of
                the client, or take the place of those of the same name. A
                ``ping_interval`` is that of Pings of this WebSocket; the connection is
                asked as the client says.

        Raises:
            ConfigError: a value that cannot work.
            RuntimeError: the block of the client has not begun, or is over.
            TypeError: there is no such option.
        """
        if self._pool is None:
            msg = "connect within the block: async with tako.Client() as client"
            raise RuntimeError(msg)
        settings = make_settings(join(self._base_url, url), options, self._options)
        return Connect(self._pool, settings, process_exception or self._process)

    async def __aenter__(self) -> Self:
        if self._pool is not None:
            msg = "the block of this client has begun already"
            raise RuntimeError(msg)
        self._pool = Pool(
            self._config,
            shares=True,
            max_connections=self._max_connections,
            idle_timeout=self._idle_timeout,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pool, self._pool = self._pool, None
        if pool is None:
            return
        pool.close()
        if error is not None and not isinstance(error, Exception):
            return  # cancelled: there is no time to wait; each ends by itself
        until = monotonic() + self._config.ws_close_timeout + _END_TIMEOUT
        for link in pool.links:
            await link.until_gone(max(0.0, until - monotonic()))
