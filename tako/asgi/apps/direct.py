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

from collections.abc import Generator
from contextlib import contextmanager

from tako.asgi.apps.responding import Responding
from tako.asgi.apps.response_steps import settle
from tako.asgi.protocol import ClientDisconnectedError
from tako.core.error_code import ErrorCode
from tako.http.headers import Headers
from tako.server.file_body import FileBody
from tako.server.pipeline import (
    begin_response,
    end_response,
    send_chunk,
    send_file,
    send_response,
)
from tako.server.whole import call_back


class Direct(Responding):
    """Writes to the exchange, in whose task the app runs."""

    __slots__ = ()

    async def _pass_whole(self, data: bytes) -> None:
        exchange = self.exchange
        try:
            complete = await send_response(exchange, self._response(data))
        except exchange.connection.runtime.cancelled:
            # The app does not want to wait any longer; what it sent is sent
            if exchange.head_sent:
                self._send_rest(data[exchange.bytes_sent :], end=True)
                exchange.body.discard()
                settle(self, complete=exchange.bytes_sent == len(data))
            raise
        settle(self, complete=complete)

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
            raise _gone()

    async def _pass_file(self, file: FileBody) -> None:
        with self._or_cut(file):
            reads = await send_file(self.exchange, file)
        if not reads:
            raise _gone()

    def _takes_whole(self, file: FileBody) -> bool:
        return True

    async def _pass_whole_file(self, file: FileBody) -> None:
        with self._or_cut(file):
            complete = await send_response(self.exchange, self._response(file))
        settle(self, complete=complete)
        if not complete:
            raise _gone()

    @contextmanager
    def _or_cut(self, file: FileBody) -> Generator[None, None, None]:
        """Close ``file``; if it was not sent to its end cut the answer off."""
        try:
            yield
        except self.exchange.connection.runtime.cancelled:
            self.cut(ErrorCode.CANCEL)
            raise
        except Exception:
            self.cut(ErrorCode.INTERNAL_ERROR)
            raise
        finally:
            file.close()

    def _pass_end(self, trailers: Headers | None) -> None:
        complete = self.unwanted or end_response(self.exchange, trailers)
        self.exchange.body.discard()
        settle(self, complete=complete)

    def _send_rest(self, data: bytes, *, end: bool) -> None:
        """Queue what is left of a chunk, at once: nothing can wait for room here."""
        exchange = self.exchange
        if data and not exchange.over:  # the end goes with the last byte
            exchange.send_data(data, end=end)
            exchange.bytes_sent += len(data)
            exchange.flush(soon=True)

    def cut(self, code: ErrorCode) -> None:
        """End an answer that the app has not completed; a no-op if it has not begun."""
        if self.settled:
            return
        exchange = self.exchange
        if exchange.head_sent:
            exchange.reset(code)
            call_back(exchange, self.status, complete=False)


def _gone() -> ClientDisconnectedError:
    return ClientDisconnectedError("the client is gone")
