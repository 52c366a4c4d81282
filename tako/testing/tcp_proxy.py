"""``TcpProxy``: stands between a client and the server, and can drop connections.

It has a thread and an event loop of its own. A connection is two transports: what one
receives the other sends, and while one cannot send the other does not read.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from typing import Self, cast

from tako.testing.patience import default_timeout
from tako.testing.peer import Wire, url_of
from tako.testing.peer.io import Address


_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends a TCP RST


class TcpProxy:
    """A proxy for TCP in front of a server; made by ``server.proxy()``.

    Clients of the test get to it by ``through=``, others by its URLs. It passes on
    bytes, so certificates and wires are those of the server.

    Attributes:
        address: where it listens: host and port.
        url: its URL: ``https://127.0.0.1:49152``.
        ws_url: the same for a WebSocket: ``wss://127.0.0.1:49152``.
    """

    def __init__(self, wire: Wire, server: Address) -> None:
        """Not for tests: use ``server.proxy()``."""
        self._server = server
        self._sides: set[_Side] = set()
        self._started = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        host, port = self._listener.getsockname()
        self.address: Address = (host, port)
        self.url: str = url_of("http", wire, self.address)
        self.ws_url: str = url_of("ws", wire, self.address)
        self._loop: asyncio.AbstractEventLoop
        self._end: asyncio.Event
        self._thread = threading.Thread(
            target=asyncio.run, args=(self._serve(),), name="tako.testing proxy"
        )
        self._thread.daemon = True
        self._thread.start()
        self._started.wait()

    def drop(self) -> None:
        """Drop all connections: a TCP RST to the server and to the client (all wires).

        Those that are made after it are passed on again, to a client that comes back.
        """
        dropped = asyncio.run_coroutine_threadsafe(self._drop(), self._loop)
        dropped.result(default_timeout())

    def close(self) -> None:
        """Drop all connections and listen no more; a no-op the second time."""
        with contextlib.suppress(RuntimeError):  # its loop has ended
            self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(default_timeout())

    # -- in the thread -----------------------------------------------------------------

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        async with await self._loop.create_server(
            lambda: _Accepted(self._sides, self._server), sock=self._listener
        ) as listening:
            self._started.set()
            await self._end.wait()
            listening.close()
            await self._drop()

    async def _drop(self) -> None:
        while self._sides:
            for side in [*self._sides]:
                side.reset()
            await asyncio.sleep(0)


class _Side(asyncio.Protocol):
    """One end of a connection: what it receives, the other end sends."""

    def __init__(self, sides: "set[_Side]") -> None:
        self._sides = sides
        self.transport: asyncio.Transport
        self.other: Self | _Side | None = None
        self.ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._sides.add(self)

    def data_received(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        self.ended = True
        other = self.other
        if other is None or other.ended:
            return False  # both directions have ended: close
        other.transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None:
            self.other.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._sides.discard(self)
        other = self.other
        if other is not None and not other.transport.is_closing():
            if exc is None:
                other.transport.close()
            else:
                other.reset()

    def reset(self) -> None:
        """Close with a TCP RST."""
        sock: socket.socket = self.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # it is closed
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.transport.abort()


class _Accepted(_Side):
    """The end towards the client, which asks for the one towards the server."""

    def __init__(self, sides: set[_Side], server: Address) -> None:
        super().__init__(sides)
        self._server = server
        self._dialing: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.transport.pause_reading()
        self._dialing = asyncio.get_running_loop().create_task(self._dial())

    async def _dial(self) -> None:
        other = _Side(self._sides)
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: other, *self._server)
        except OSError:  # no server: neither is there one behind us
            self.reset()
            return
        if self.transport.is_closing():
            other.reset()
            return
        self.other, other.other = other, self
        self.transport.resume_reading()
