"""``H1Tunnel``: the byte pipe behind 101 (RFC 9110 §7.8).

It holds what each message needs and nothing else. Its exchange keeps the states, its
engine hands over what is received; ``over`` is set by the engine as soon as nothing can
be sent any more. Tunnel and exchange refer to each other through the sink alone, and
``H1Exchange.release`` cuts that.
"""

from typing import TYPE_CHECKING

from tako.core.error_code import ErrorCode
from tako.core.seams import PIECE, Sink
from tako.core.shared_frame import SharedFrame
from tako.errors import Disconnected, LocalProtocolError
from tako.h1.endpoint import H1Pipe
from tako.native.loops import Inbox, encode_frame, frame_head


if TYPE_CHECKING:
    from tako.h1.engine import H1Engine
    from tako.h1.exchange import H1Exchange


class H1Tunnel(H1Pipe["H1Engine"]):
    """A byte pipe to the peer; implements ``seams.Tunnel``."""

    __slots__ = ("_exchange",)

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
        super().__init__(engine, out, over=exchange.cut_off)
        self._exchange = exchange

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
        if len(payload) > PIECE:  # it is not copied
            data = payload.encode() if isinstance(payload, str) else payload
            self._out.extend((frame_head(first_byte, len(data)), data))
            connection.flush(soon=soon)
            return connection.writable
        frame = encode_frame(first_byte, payload)
        if soon or self._out or not connection.write(frame, False):
            self._out.append(frame)
            connection.flush(soon=soon)
        return connection.writable

    def send_shared(self, frame: SharedFrame, soon: bool) -> bool:
        """Queue a frame and flush it, if there is room; see ``seams.Tunnel``."""
        if self.over:
            return False
        connection = self.connection
        if not (soon or self._out) and connection.write(frame.data, True):
            return True
        if not connection.writable:
            return False
        self._out.append(frame.data)
        if not connection.flush_due:
            connection.flush(soon=True)
        return True

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

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        """Cut the connection off; see ``seams.Tunnel``."""
        self._exchange.reset(code)

    def cancel_at(self, when: float) -> None:
        """Cancel the handler at ``when``; see ``seams.Tunnel``."""
        self.connection.cancel_at(when, self._exchange)
