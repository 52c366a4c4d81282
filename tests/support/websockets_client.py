"""The client of ``websockets`` for tests that have no event loop.

The blocking client of that library reads in one thread and writes in another. OpenSSL
does not allow this for one connection (https://github.com/openssl/openssl/issues/20446):
a session ticket (RFC 8446 §4.6.1) that comes while the request is written can lose the
request. So this is its asyncio client, on an event loop in a thread of its own.
"""

import asyncio
import ssl
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from anyio.from_thread import start_blocking_portal
from websockets.asyncio.client import ClientConnection, connect as connect_async

from tests.support.patience import TIMEOUT


class BlockingClient:
    """A WebSocket; a context manager that closes it."""

    def __init__(
        self, url: str, *, ssl: ssl.SSLContext | None = None, **options: Any
    ) -> None:
        """Open it; ``options`` are those of ``websockets.connect``."""

        async def opened() -> ClientConnection:
            return await connect_async(
                url, ssl=ssl, proxy=None, open_timeout=TIMEOUT, **options
            )

        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal("asyncio"))
            self._ws = self._portal.call(opened)
            self._stack = stack.pop_all()
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def subprotocol(self) -> str | None:
        """The one that the server chose."""
        return self._ws.subprotocol

    @property
    def close_code(self) -> int | None:
        """The code of the close; ``None`` while it is open."""
        return self._ws.close_code

    @property
    def close_reason(self) -> str | None:
        """What was said with it."""
        return self._ws.close_reason

    @property
    def headers(self) -> dict[str, str]:
        """The fields of the response, by lowercase names."""
        assert self._ws.response is not None
        return {k.lower(): v for k, v in self._ws.response.headers.raw_items()}

    def send(self, message: str | bytes) -> None:
        """Send a message."""
        self._portal.call(self._ws.send, message)

    def recv(self, timeout: float = TIMEOUT) -> str | bytes:
        """Return the next message.

        Raises:
            websockets.exceptions.ConnectionClosed: there is none.
            TimeoutError: none came in ``timeout`` seconds.
        """

        async def received() -> str | bytes:
            async with asyncio.timeout(timeout):
                return await self._ws.recv()

        return self._portal.call(received)

    def ping(self, data: bytes) -> None:
        """Send a Ping and wait for its Pong."""

        async def pinged() -> None:
            async with asyncio.timeout(TIMEOUT):
                await (await self._ws.ping(data))

        self._portal.call(pinged)

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it, wait for the end, and end the thread; repeats are no-ops."""
        if not self._closed:
            self._closed = True
            with self._stack:
                self._portal.call(self._ws.close, code, reason)
