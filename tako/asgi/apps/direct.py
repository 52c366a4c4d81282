"""``Direct``: an app's response, written to the wire by the app's own ``send``.

Theory of operation. The app runs in the exchange's task, in the middle of the handler's
frames, and each event goes to the exchange when the app sends it: no other task, no
hand-over, and where ``send`` waits for the peer's window it does so as a part of the
app: what the app has opened around it (timeouts, task groups) is in order, and a
cancellation finds the app. ``send`` may be called from other tasks of the app as well.

With its last event the answer is complete. The exchange ends there and then, and the
connection goes on with the next request, whatever the app does after that: the rest of
its task is background work (``Connection.answered``).

Invariant: what of the answer is on the wire when the app ends without completing it is
cut off, visibly (``cut``).
"""

from tako.asgi.apps.responding import Responding
from tako.asgi.protocol import ClientDisconnectedError
from tako.core.callbacks import Uncancelled
from tako.core.error_code import ErrorCode
from tako.core.seams import Exchange
from tako.http.headers import Headers
from tako.server.pipeline import (
    begin_response,
    call_back,
    end_response,
    send_chunk,
    send_response,
)
from tako.server.whole import send_whole


# A task is not cancelled if its client leaves: ASGI has an event for that
_KEPT = Uncancelled()


class Direct(Responding):
    """Writes to the exchange, in whose task the app runs."""

    __slots__ = ("settled",)

    def __init__(self, exchange: Exchange) -> None:
        Responding.__init__(self, exchange)  # ``super()`` makes an object
        exchange.task = _KEPT
        self.settled: bool = False
        """The answer is complete, and the exchange has ended."""

    def _pass_at_once(self, data: bytes) -> bool:
        if not send_whole(self.exchange, self._status, self._fields, data):
            return False
        self._settle(complete=True)
        return True

    async def _pass_whole(self, data: bytes) -> None:
        exchange = self.exchange
        try:
            complete = await send_response(exchange, self._response(data))
        except exchange.connection.runtime.cancelled:
            # The app does not want to wait any longer; what it sent is sent
            if exchange.head_sent:
                self._send_rest(data[exchange.bytes_sent :], end=True)
                exchange.body.discard()
                self._settle(complete=exchange.bytes_sent == len(data))
            raise
        self._settle(complete=complete)

    async def _pass_head(self) -> None:
        wanted = await begin_response(self.exchange, self._response(b""))
        self.unwanted: bool = not wanted

    async def _pass_chunk(self, data: bytes) -> None:
        exchange = self.exchange
        before = exchange.bytes_sent
        try:
            await send_chunk(exchange, data)
        except exchange.connection.runtime.cancelled:
            self._send_rest(data[exchange.bytes_sent - before :], end=False)
            raise
        if exchange.over:
            msg = "the client is gone"
            raise ClientDisconnectedError(msg)

    def _pass_end(self, trailers: Headers | None) -> None:
        complete = self.unwanted or end_response(self.exchange, trailers)
        self.exchange.body.discard()
        self._settle(complete=complete)

    def _send_rest(self, data: bytes, *, end: bool) -> None:
        """Queue what is left of a chunk, at once: nothing can wait for room here."""
        exchange = self.exchange
        if data and not exchange.over:  # the end goes with the last byte
            exchange.send_data(data, end=end)
            exchange.bytes_sent += len(data)
            exchange.flush(soon=True)

    def _settle(self, *, complete: bool) -> None:
        """End the exchange, now that its answer has ended."""
        self.settled = True
        exchange = self.exchange
        try:
            if exchange.end_callbacks:
                call_back(exchange, self._status, complete)
        finally:
            exchange.connection.answered(exchange)

    def cut(self, code: ErrorCode) -> None:
        """End an answer that the app has not completed; a no-op if it has not begun."""
        if self.settled:
            return
        exchange = self.exchange
        if exchange.head_sent:
            exchange.reset(code)
            call_back(exchange, self._status, complete=False)
