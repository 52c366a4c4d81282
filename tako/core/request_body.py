"""``BodySink``: a request body between the engine that receives it and the handler.

Theory of operation. The engine delivers chunks; they wait in a deque. Credit goes back
to the peer (``Exchange.consumed``) only when the handler takes a chunk, so what waits
here is bounded by the stream's window on HTTP/2 and by ``read_buffer`` on HTTP/1.1. A
body that no handler wants any more is credited on arrival and dropped. Small pieces
that pile up are joined: as an object each would cost many times its credit.

Invariant: bytes delivered = bytes consumed + bytes in ``_chunks``, until ``release``.
After that the sink holds nothing but its result: request, body and exchange refer to
each other, and without the cut each request would wait for the garbage collector.
"""

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from tako.core import body_waits
from tako.core.loop import Runtime, Signal
from tako.core.seams import Exchange
from tako.core.writable import Writable
from tako.errors import Disconnected, TakoError
from tako.http.pieces import Piece, keep


class Watcher(Protocol):
    """What wants to know that a request's client leaves."""

    def client_left(self) -> None:
        """``left`` has become true; the client may still read."""
        ...

    def client_gone(self) -> None:
        """The client is gone: it has reset the request, or the connection is lost."""
        ...


class BodySink:
    """The body of one request, and whether its client has left.

    Implements ``Sink``, ``request.BodyReader`` and ``request.Client``.
    """

    __slots__ = (
        "_chunks",
        "_complete",
        "_discard",
        "_error",
        "_exchange",
        "_gone",
        "_on_first_read",
        "_readable",
        "_writable",
        "left",
        "runtime",
        "taken",
        "trailers",
        "watcher",
    )

    def __init__(
        self, exchange: Exchange, on_first_read: Callable[[], None] | None = None
    ) -> None:
        """Make an empty body.

        Args:
            exchange: carries the request; takes the credit.
            on_first_read: called when the handler first has to wait for the body; sends
                ``100 Continue`` (RFC 9110 §10.1.1).
        """
        self._exchange: Exchange | None = exchange
        self.runtime: Runtime = exchange.connection.runtime
        self._on_first_read = on_first_read
        self._chunks: deque[Piece] | None = None  # few requests have a body
        self._complete = False
        self._discard = False
        self._error: Exception | None = None
        self._readable: Signal | None = None
        self._writable: Writable | None = None  # few answers have to wait
        self._gone: Signal | None = None
        self.left: bool = False
        """The peer has ended its direction of the connection, or is gone."""
        self.watcher: Watcher | None = None
        """Is told when the client leaves, or is gone."""
        self.trailers: list[tuple[bytes, bytes]] = []
        self.taken: int = 0
        """Bytes that the handler has read."""

    def deliver(self, data: bytes) -> None:
        """Take a chunk from the engine."""
        if self._discard:
            self._credit(len(data))
        elif data:
            if self._chunks is None:
                self._chunks = deque()
            keep(self._chunks, data)
            self._wake_reader()

    def deliver_eof(self, error: Exception | None = None) -> None:
        """End the body: it is complete, or ``error`` has cut it short."""
        if not self._complete and self._error is None:
            self._error = error
            self._complete = error is None
        self._wake_reader()
        if error is not None and isinstance(error, Disconnected):
            self.wake_writer()
            self.leave()
            if self.watcher is not None:
                self.watcher.client_gone()

    def leave(self) -> None:
        """Set ``left``, and tell those that wait for it; repeats are no-ops."""
        if self.left:
            return
        self.left = True
        if self._gone is not None:
            self._gone.set()
        if self.watcher is not None:
            self.watcher.client_left()

    def wake_writer(self) -> None:
        """Wake the task that waits in ``writable``."""
        if self._writable is not None:
            self._writable.wake()

    def shut_down(self) -> None:
        """Do nothing: a request that has begun is finished."""

    @property
    def complete(self) -> bool:
        """The whole body has arrived (it may still wait to be read)."""
        return self._complete

    @property
    def exhausted(self) -> bool:
        """The whole body has arrived and no byte of it waits to be read."""
        return self._complete and not self._chunks

    def discard(self) -> None:
        """Drop what waits and what comes: no handler will read it."""
        self._discard = True
        chunks, self._chunks = self._chunks, None
        if chunks:
            self._credit(sum(map(len, chunks)))

    def release(self) -> None:
        """Let go of the exchange: it is over, and its handler has ended."""
        self._exchange = self._writable = None
        self._on_first_read = self.watcher = None

    # What is waited for ------------------------------------------------------------
    #
    # No coroutine is in here, so that this can be compiled: ``body_waits`` has them.

    def next_chunk(self) -> Coroutine[Any, Any, bytes]:
        """Return the next chunk, ``b""`` at the end.

        Raises:
            Disconnected: the peer is gone.
            RemoteProtocolError: the body breaks its framing.

        Cancel safety: safe; no chunk is lost.
        """
        return body_waits.next_chunk(self)

    def arrived(self, timeout: float) -> Coroutine[Any, Any, None]:
        """Wait at most ``timeout`` seconds until the body is complete, or has failed.

        Cancel safety: safe.
        """
        return body_waits.arrived(self, timeout)

    def until_left(self) -> Coroutine[Any, Any, None]:
        """Wait until ``left``.

        Cancel safety: safe.
        """
        return body_waits.until_left(self)

    def writable_again(self) -> Coroutine[Any, Any, None]:
        """Wait until the exchange takes more output, or is over.

        Cancel safety: safe.
        """
        return body_waits.writable_again(self)

    @property
    def waits(self) -> bool:
        """There are bytes to be read."""
        return bool(self._chunks)

    @property
    def settled(self) -> bool:
        """The body is complete, or has failed."""
        return self._complete or self._error is not None

    def take(self) -> bytes | None:
        """Return the next chunk, ``b""`` at the end; ``None``: it is to be waited for.

        Raises: as ``next_chunk``.
        """
        if not self._chunks:
            if self._error is not None:
                raise _fresh(self._error)
            return b"" if self._complete else None
        chunk = bytes(self._chunks.popleft())  # itself, unless it was joined
        self.taken += len(chunk)
        self._credit(len(chunk))
        return chunk

    def wanted(self) -> Signal:
        """Ask for the body, once; return what is set when more of it has arrived."""
        if self._on_first_read is not None:
            self._on_first_read()
            self._on_first_read = None
        return self.arrival()

    def arrival(self) -> Signal:
        """Return what is set when more of the body has arrived, or its end."""
        if self._readable is None:
            self._readable = self.runtime.signal()
        return self._readable

    def departure(self) -> Signal:
        """Return what is set when the client leaves."""
        if self._gone is None:
            self._gone = self.runtime.signal()
        return self._gone

    def room(self) -> Writable | None:
        """Return what waits for room; ``None``: the exchange is over."""
        if self._writable is None and self._exchange is not None:
            waits = self._exchange.connection.counters.response_waits
            self._writable = Writable(self._exchange, self.runtime, waits)
        return self._writable

    def _credit(self, size: int) -> None:
        if self._exchange is not None:
            self._exchange.consumed(size)

    def _wake_reader(self) -> None:
        if self._readable is not None:
            self._readable.set()


def _fresh(error: Exception) -> Exception:
    """Return a copy: one instance raised twice would grow its traceback."""
    if isinstance(error, TakoError):
        return type(error)(*error.args)
    return error
