"""``Handover``: an app's response on its way to a ``Response``, between two tasks.

Theory of operation. A middleware wants the ``Response`` while the app that sends it has
not ended, and a WebSocket's session lives in the handler's task: so the app runs in a
task of its own here. (One task cannot do both: what the app waits for may be sent by
another task of its own, and a cancel scope that a middleware opened would end before
those that the app opened inside of it.) The two meet at ``changed``, on which both wait
for what they need:

* app: a response whose first body event is the last is handed over whole, and the app
  does not wait at all. Any other chunk waits in ``_chunk``: ``send`` returns when the
  handler's task comes back for the next one, which it does when the peer has room. So
  the app is never ahead by more than one chunk, and nothing is copied or queued.
* handler: ``decided`` -> ``response()`` -> iteration -> ``aclose``.

Invariant: ``_handed`` holds at most one chunk.
"""

from collections.abc import Callable
from typing import Self

from tako.asgi.apps.responding import Responding
from tako.asgi.apps.response_steps import KINDS, Kinds
from tako.asgi.protocol import ClientDisconnectedError
from tako.core.error_code import ErrorCode
from tako.core.seams import Exchange
from tako.errors import LocalProtocolError
from tako.http.headers import Headers
from tako.http.response import Response
from tako.http.response_facts import Body
from tako.server.file_body import FileBody


class Handover(Responding):
    """Gives the handler's task a response, whose body it feeds to the wire."""

    __slots__ = ("_handed", "_result", "_taken", "decided", "ended", "error")

    def __init__(self, exchange: Exchange, kinds: Kinds = KINDS) -> None:
        super().__init__(exchange, kinds)
        self._result: Response | None = None
        self._handed: bytes | None = None
        self._taken = True
        self.decided: bool = False
        """``response`` can be called."""
        self.ended: bool = False
        """The app has returned or raised."""
        self.error: BaseException | None = None
        """What it raised."""

    # What the app's task does ------------------------------------------------------

    def app_ended(self, error: BaseException | None) -> None:
        """The app has returned, or raised ``error``."""
        self.ended = True
        self.error = error
        self.wake()

    def _hand_over(self, data: bytes) -> None:
        self._decide(data)

    async def _pass_head(self) -> None:
        self._decide(BodyStream(self))

    def _decide(self, body: Body) -> None:
        self._result = self._response(body)
        self.decided = True
        self.wake()

    async def _pass_chunk(self, data: bytes) -> None:
        if self._handed is not None:  # of a ``send`` that was cancelled
            await self._until_free(lambda: self._handed is None)
        self._handed, self._taken = data, False
        self.wake()
        await self._until_free(lambda: self._taken)

    async def _pass_file(self, file: FileBody) -> None:
        try:
            for piece in file:
                await self._pass_chunk(piece)
                if self.unwanted:
                    break
        except self.exchange.connection.runtime.cancelled:
            self.exchange.reset(ErrorCode.CANCEL)  # nothing may follow a part of it
            raise

    def _takes_whole(self, file: FileBody) -> bool:
        return file.owned  # the app may close another once ``send`` has returned

    async def _pass_whole_file(self, file: FileBody) -> None:
        self._decide(file)

    async def _until_free(self, condition: Callable[[], bool]) -> None:
        await self.until(lambda: condition() or self.gone or self.unwanted)
        if self.gone:
            msg = "the client is gone"
            raise ClientDisconnectedError(msg)

    def _pass_end(self, trailers: Headers | None) -> None:
        """Nothing to do: the response has its trailers, and ``stage`` tells the end."""

    # What the handler's task does --------------------------------------------------

    def response(self) -> Response:
        """Return the response that was decided on, once.

        It is not kept: who drops it, and so its body, lets go of the app.
        """
        response, self._result = self._result, None
        if response is None:
            msg = "the response has not begun, or has been taken"
            raise RuntimeError(msg)
        return response

    async def next_chunk(self) -> bytes:
        """Return the next chunk, ``b""`` at the end.

        Raises:
            LocalProtocolError: the app has returned before the end.
            Exception: what the app raised.

        Cancel safety: safe.
        """
        if not self._taken:
            self._taken = True
            self.wake()
        await self.until(
            lambda: (
                self._handed is not None
                or self.stage == "complete"
                or self.gone
                or self.ended
            )
        )
        chunk, self._handed = self._handed, None
        if chunk is not None:
            return chunk
        if self.stage == "complete" or self.gone:
            return b""
        if isinstance(self.error, Exception):
            raise self.error
        if self.left:  # and so the app has ended, rightly
            self.exchange.reset(ErrorCode.CANCEL)
            return b""
        msg = "the app returned in the middle of its response"
        raise LocalProtocolError(msg)

    async def finish(self) -> None:
        """Drop what the app still sends, until it has sent all of it or has ended.

        The handler's slot is taken as long: a client that leaves cannot have more apps
        running than it may have requests.

        Cancel safety: safe.
        """
        self.abandon()
        if self.stage != "complete" and not self.ended:
            self.exchange.flush()
            await self.until(lambda: self.stage == "complete" or self.ended)

    def abandon(self) -> None:
        """Drop the rest of the body: the server does not read it any more."""
        self.unwanted = True
        self._handed = None
        self.wake()


class BodyStream:
    """The body of a streamed response, as the pipeline takes it."""

    __slots__ = ("_handover",)

    def __init__(self, handover: Handover) -> None:
        self._handover = handover

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._handover.next_chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Let go of the app. Cancel safety: safe."""
        await self._handover.finish()

    def __del__(self) -> None:
        # A middleware may answer with something else: the app is not to wait for ever.
        self._handover.abandon()
