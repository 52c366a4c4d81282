"""``H1Tunnel``: the byte pipe behind 101 (RFC 9110 §7.8).

It holds what each message needs and nothing else. Its exchange keeps the states, its
engine hands over what is received; ``over`` is set by the engine as soon as nothing can
be sent any more. Tunnel and exchange refer to each other through the sink alone, and
``H1Exchange.release`` cuts that.
"""

from typing import TYPE_CHECKING

from tako.core.error_code import ErrorCode
from tako.core.seams import ServerConnection, Sink, Watched
from tako.errors import Disconnected, LocalProtocolError
from tako.native.loops import Inbox, encode_frame


if TYPE_CHECKING:
    from tako.h1.engine import H1Engine
    from tako.h1.exchange import H1Exchange


class H1Tunnel:
    """A byte pipe to the peer; implements ``seams.Tunnel``."""

    __slots__ = ("_engine", "_exchange", "_out", "connection", "over")

    def __init__(
        self,
        engine: "H1Engine",
        exchange: "H1Exchange",
        out: list[bytes | memoryview],
    ) -> None:
        """Make the tunnel that ``exchange`` becomes.

        Args:
            engine: the connection's engine.
            exchange: the request; the tunnel of one that is cut off is over.
            out: where output is queued.
        """
        self._engine = engine
        self._exchange = exchange
        self._out = out
        self.connection: ServerConnection = engine.connection
        self.over: bool = exchange.cut_off

    @property
    def writable(self) -> bool:
        """Whether more output is welcome."""
        return self.connection.writable

    @property
    def listening(self) -> bool:
        """Whether the peer can send: we read."""
        return self.connection.reading

    def watch(self, watched: Watched) -> None:
        """Have ``watched`` told when the peer is silent; see ``seams.Tunnel``."""
        if not self.over:
            self._engine.watched = watched

    def receive_into(self, sink: Sink, inbox: Inbox | None = None) -> None:
        """Deliver to ``sink`` what the peer sends; see ``seams.Tunnel``."""
        if self._exchange.cut_off:
            sink.deliver_eof(Disconnected())
        else:
            self._exchange.sink = sink
            self._engine.receive_into(sink, inbox)

    def send_frame(self, first_byte: int, payload: str | bytes, *, soon: bool) -> bool:
        """Queue a WebSocket frame and flush it; see ``seams.Tunnel``."""
        connection = self.connection
        if self.over:
            self._refuse()
            return connection.writable
        frame = encode_frame(first_byte, payload)
        if soon or self._out or not connection.write(frame):
            self._out.append(frame)
            connection.flush(soon=soon)
        return connection.writable

    def send_data(self, data: bytes, *, end: bool = False) -> None:
        """Queue bytes; ``end``: then FIN. See ``seams.Tunnel``."""
        if self.over:
            self._refuse()
            return
        self._out.append(data)
        if end:
            self._exchange.tunnel_ended()

    def _refuse(self) -> None:
        """Raise where the end was sent; do nothing where the peer is gone."""
        if not self._exchange.cut_off:
            msg = "data after the end of the tunnel"
            raise LocalProtocolError(msg)

    def consumed(self, size: int) -> None:
        """Give credit for ``size`` bytes; see ``seams.Tunnel``."""
        if not self.over:
            self._engine.consumed(size)

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut the connection off; see ``seams.Tunnel``."""
        self._exchange.reset(code)

    def flush(self, *, soon: bool = False) -> None:
        """Write what is queued; see ``seams.Tunnel``."""
        self.connection.flush(soon=soon)

    def cancel_at(self, when: float) -> None:
        """Cancel the handler at ``when``; see ``seams.Tunnel``."""
        self.connection.cancel_at(when, self._exchange)
