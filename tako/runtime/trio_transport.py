"""A socket on trio with the verbs of an asyncio transport.

Theory of operation. ``write`` sends at once what the socket takes; the rest waits in a
buffer that a writer task empties. ``read`` runs in a task of its own for as long as the
connection lives and calls ``data_received`` and ``eof_received``. ``connection_lost``
is called exactly once, never from inside ``close`` or ``abort``.

States: open -> *closing* (``close`` was called; the buffer is being written) -> lost.
"""

import socket
from typing import TYPE_CHECKING

import trio

from tako.core.loop import Receiver


if TYPE_CHECKING:
    from tako.runtime.trio_loop import TrioRuntime

_READ = 64 * 1024
_WRITE_HIGH = 64 * 1024


class TrioTransport:
    """``loop.Transport`` over a non-blocking socket."""

    __slots__ = (
        "_buffer",
        "_closing",
        "_connection",
        "_eof",
        "_full",
        "_high",
        "_lost",
        "_nursery",
        "_paused",
        "_resumed",
        "_runtime",
        "_sock",
        "_writing",
    )

    def __init__(
        self,
        runtime: "TrioRuntime",
        nursery: trio.Nursery,
        sock: socket.socket,
        connection: Receiver,
    ) -> None:
        self._runtime = runtime
        self._nursery = nursery
        self._sock = sock
        self._connection = connection
        self._buffer = bytearray()
        self._resumed = runtime.signal()
        self._paused = False
        self._full = False  # pause_writing was called
        self._high = _WRITE_HIGH
        self._writing = False  # the writer task runs
        self._eof = False  # FIN is to follow the buffer
        self._closing = False
        self._lost = False

    # Output --------------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> None:
        """Send ``data``, buffering what the socket does not take."""
        if self._lost:
            return
        sent = 0
        if not self._buffer:
            try:
                sent = self._sock.send(data)
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                self._lose(error)
                return
        if sent == len(data):
            return
        self._buffer += data if sent == 0 else memoryview(data)[sent:]
        self._start_writer()
        if len(self._buffer) > self._high and not self._full:
            self._full = True
            self._connection.pause_writing()

    def fileno(self) -> int:
        """Return the descriptor of the socket, -1 if it is closed."""
        return self._sock.fileno()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the socket has not taken yet."""
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, /) -> None:
        """Call ``pause_writing`` above ``high`` bytes, from the next write on."""
        self._high = _WRITE_HIGH if high is None else high

    def write_eof(self) -> None:
        """Send FIN once the buffer is empty."""
        self._eof = True
        self._emptied()

    def close(self) -> None:
        """Write the buffer, then close; ``connection_lost`` follows."""
        self._closing = True
        self._emptied()

    def abort(self) -> None:
        """Close at once; ``connection_lost`` follows."""
        self._lose(None)

    def _start_writer(self) -> None:
        if not self._writing:
            self._writing = True
            self._nursery.start_soon(self._write)

    async def _write(self) -> None:
        buffer = self._buffer
        try:
            while buffer and not self._lost:
                await trio.lowlevel.wait_writable(self._sock)
                try:
                    sent = self._sock.send(memoryview(buffer)[:_WRITE_HIGH])
                except (BlockingIOError, InterruptedError):
                    continue
                del buffer[:sent]
                if self._full and len(buffer) <= self._high >> 2:
                    self._full = False
                    self._connection.resume_writing()
        except trio.ClosedResourceError:
            return
        except OSError as error:
            self._lose(error)
            return
        finally:
            self._writing = False
        self._emptied()

    def _emptied(self) -> None:
        if self._buffer or self._lost:
            return
        if self._closing:
            self._lose(None)
        elif self._eof:
            try:
                self._sock.shutdown(socket.SHUT_WR)
            except OSError as error:
                self._lose(error)

    def set_protocol(self, protocol: Receiver) -> None:
        """Call ``protocol`` from now on."""
        self._connection = protocol

    # Input ---------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Stop calling ``data_received``."""
        self._paused = True

    def resume_reading(self) -> None:
        """Call ``data_received`` again."""
        self._paused = False
        self._resumed.set()

    async def read(self) -> None:
        """Read until the end of the connection; the reader task."""
        sock = self._sock
        try:
            while not self._lost:
                if self._paused:
                    await self._resumed.wait()
                    continue
                await trio.lowlevel.wait_readable(sock)
                if self._is_deaf():
                    continue
                try:
                    data = sock.recv(_READ)
                except (BlockingIOError, InterruptedError):
                    continue
                if data:
                    self._connection.data_received(data)
                else:
                    if not self._connection.eof_received():
                        self.close()
                    return
        except trio.ClosedResourceError:
            return
        except trio.Cancelled:  # the runtime ends, and with it what would be told
            self._sock.close()
            raise
        except OSError as error:
            self._lose(error)

    def _is_deaf(self) -> bool:
        return self._paused or self._lost

    # The end -------------------------------------------------------------------------

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        self._buffer.clear()
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()
        self._resumed.set()
        self._runtime.call_soon(lambda: self._connection.connection_lost(error))
