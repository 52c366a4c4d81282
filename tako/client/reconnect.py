"""``Reconnect``: one WebSocket after the other, and the pauses in between.

Theory of operation. The socket before is closed first. What fails is tried again after
a delay that grows, and begins anew with a socket that has lived for longer than that;
the first one is random, so that not all clients of a server that restarts come at once.
``process_exception`` says what cannot get better. A loop that is left drops its
iterator, and that closes the socket.
"""

import logging
import random
import ssl
import weakref
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, TypeAlias

from tako.errors import HandshakeInvalid, HandshakeRejected, ProxyError, TlsError
from tako.runtime import current, monotonic
from tako.ws.websocket import WebSocket


if TYPE_CHECKING:
    from tako.client.connect import Connect


_logger = logging.getLogger("tako.client")

_FIRST_DELAY = 5.0  # seconds at most: a random part of it
_LEAST_DELAY = 3.1
_DELAY_FACTOR = 1.618
_MOST_DELAY = 90.0
_SHORT_LIFE = 1.0  # seconds; after one such life the next try is made at once

ProcessException: TypeAlias = Callable[[Exception], Exception | None]


def process_exception(error: Exception) -> Exception | None:
    """Return ``None`` if what failed is worth another try, else what to raise.

    So are errors of the network, timeouts, and answers of servers and proxies that are
    overloaded or restart: 500, 502, 503 and 504.
    """
    if isinstance(error, HandshakeRejected):
        again = error.status in {500, 502, 503, 504}
    elif isinstance(error, HandshakeInvalid | ProxyError):
        again = error.temporary
    elif isinstance(error, TlsError):
        again = not isinstance(error.__cause__, ssl.SSLError)
    else:
        again = isinstance(error, OSError)  # DialError, ConnectTimeout
    return None if again else error


class Reconnect:
    """The sockets of an iteration over ``Connect``, one at a time."""

    def __init__(self, connect: "Connect", process: ProcessException) -> None:
        self._connect = connect
        self._process = process
        self._delay = 0.0
        self._opened_at: float | None = None
        self._short_lives = 0  # in a row
        self._finish: weakref.finalize[[], Reconnect] | None = None

    def __aiter__(self) -> AsyncIterator[WebSocket]:
        return self

    async def __anext__(self) -> WebSocket:
        """Close the socket before, and open the next; try until one opens.

        Cancel safety: safe; what is open then closes by itself.
        """
        if self._finish is not None:
            self._finish.detach()
        await self._connect.__aexit__(None, None, None)
        await self._pause()
        while True:
            try:
                ws = await self._connect.open()
            except Exception as error:
                fatal = self._process(error)
                if fatal is error:
                    raise
                if fatal is not None:
                    raise fatal from error
                await self._wait(str(error))
            else:
                self._opened_at = monotonic()
                attempt = self._connect.attempt
                if attempt is not None:  # a loop that is left drops us, and no more
                    self._finish = weakref.finalize(self, attempt.leave)
                    self._finish.atexit = False
                return ws

    async def _pause(self) -> None:
        """Wait if sockets end as soon as they are open, but not after the first."""
        opened_at, self._opened_at = self._opened_at, None
        if opened_at is None:
            return
        if monotonic() - opened_at >= max(self._delay, _SHORT_LIFE):
            self._delay, self._short_lives = 0.0, 0
            return
        self._short_lives += 1
        if self._short_lives > 1:
            await self._wait("WebSockets end as soon as they are open")

    async def _wait(self, why: str) -> None:
        """Wait before the next try: longer each time, and not as long as others."""
        if self._delay:
            delay = self._delay = min(self._delay * _DELAY_FACTOR, _MOST_DELAY)
        else:
            self._delay = _LEAST_DELAY
            delay = random.random() * _FIRST_DELAY  # noqa: S311 - no secret
        _logger.info("%s: connecting again in %.1f s", why, delay)
        await current().sleep(delay)
