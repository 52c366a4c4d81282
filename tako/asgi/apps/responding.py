"""``Responding``: a response that an ASGI app sends, on its way to a ``Response``.

Theory of operation. The app runs in a task of its own; the handler's task waits until
it knows what the response is and then feeds the body to the wire. The two meet at
``changed``, the one signal on which both wait for what they need:

* app: *start* -> *body*... -> (*trailers* ->) *complete*. A response whose first body
  event is the last is handed over whole, and the app does not wait at all. Any other
  chunk waits in ``_chunk``: ``send`` returns when the handler's task comes back for
  the next one, which it does when the peer has room. So the app is never ahead by more
  than one chunk, and nothing is copied or queued.
* handler: ``decided`` -> ``response()`` -> iteration -> ``aclose``.

Invariants: ``_chunk`` holds at most one chunk; once the client is gone ``send`` raises
``ClientDisconnectedError``; once the body is not wanted (HEAD, 204, a middleware that
answers in another way) what the app sends is dropped, and it is not made to wait.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

from tako.asgi.protocol import (
    ClientDisconnectedError,
    Event,
    EventError,
    response_headers,
    unexpected,
)
from tako.core.error_code import ErrorCode
from tako.core.seams import Exchange
from tako.errors import LocalProtocolError
from tako.http.headers import Headers
from tako.http.response import Response


if TYPE_CHECKING:
    from tako.core.loop import Signal


Stage: TypeAlias = Literal["start", "body", "trailers", "complete"]


class Responding:
    """The response half of a conversation with an app."""

    __slots__ = (
        "_chunk",
        "_exchange",
        "_is_head",
        "_response",
        "_taken",
        "_trailer_fields",
        "_unwanted",
        "changed",
        "decided",
        "ended",
        "error",
        "gone",
        "left",
        "stage",
    )

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._response: Response | None = None
        self._chunk: bytes | None = None
        self._taken = True
        # The length of an answer to HEAD is the one that the app says.
        self._is_head = exchange.request.method == "HEAD"
        self._unwanted = False
        self._trailer_fields: Headers | None = None  # the response's, if it has any
        self.changed: Signal = exchange.connection.runtime.signal()
        """Set whenever one of the attributes below changes."""
        self.stage: Stage = "start"
        """What the app has to send next."""
        self.decided: bool = False
        """``response`` can be called."""
        self.ended: bool = False
        """The app has returned or raised."""
        self.error: BaseException | None = None
        """What it raised."""
        self.left: bool = False
        """The client will send nothing more; it may still read."""
        self.gone: bool = False
        """Nothing can be sent to it any more."""

    # What the app's task does ----------------------------------------------------

    async def send(self, event: Event, prefix: str = "http.response.") -> None:
        """Take one event of the response.

        Raises:
            ClientDisconnectedError: the client is gone.
            EventError: the event does not belong here.

        Cancel safety: a chunk that was taken is sent.
        """
        if self.gone:
            msg = "the client is gone"
            raise ClientDisconnectedError(msg)
        kind = event["type"]
        if kind != prefix + self.stage:
            raise unexpected(event, self._expected(prefix))
        if self.stage == "start":
            self._start(event)
        elif self.stage == "body":
            await self._body(event)
        else:
            self._trailers(event)
        if self.stage != "body":
            await self._checkpoint()

    def app_ended(self, error: BaseException | None) -> None:
        """The app has returned, or raised ``error``."""
        self.ended = True
        self.error = error
        self.changed.set()

    def client_left(self) -> None:
        """The client will send nothing more."""
        self.left = True
        self.changed.set()

    def client_gone(self) -> None:
        """Nothing can be sent any more."""
        self.gone = True
        self.client_left()

    def _expected(self, prefix: str) -> str:
        return "nothing more" if self.stage == "complete" else prefix + self.stage

    def _start(self, event: Event) -> None:
        status = event["status"]
        if not isinstance(status, int) or not 200 <= status <= 999:
            # RFC 9110 §15.2: an interim response is no answer; above, three digits
            msg = f"{status!r} is no status of a response: it is from 200 to 999"
            raise EventError(msg)
        response = Response(status)
        response.headers = response_headers(event.get("headers", ()))
        if event.get("trailers"):
            response.trailers = self._trailer_fields = Headers()
        self._response = response
        self.stage = "body"

    async def _body(self, event: Event) -> None:
        data = bytes(event.get("body") or b"")
        more = bool(event.get("more_body"))
        if not self.decided and self._decide(data, more=more):
            return
        if data and not self._unwanted:
            await self._hand_over(data)
        if not more:
            if self._trailer_fields is not None:
                self.stage = "trailers"
            else:
                self._complete()
        if not data:
            await self._checkpoint()

    def _decide(self, data: bytes, *, more: bool) -> bool:
        """See from the first body event what the response is; tell if that was all.

        A function of its own: no frame that waits may hold the response.
        """
        response = self._response_begun()
        if not more and self._trailer_fields is None and not self._is_head:
            response.body = data
            self._complete()
            return True
        response.body = BodyStream(self)
        self.decided = True
        self.changed.set()
        return False

    async def _hand_over(self, data: bytes) -> None:
        """Give a chunk to the handler's task; wait until there is room for another."""
        while self._chunk is not None and self._waits_for_room():
            await self.changed.wait()  # another task of the app is sending
        self._chunk, self._taken = data, False
        self.changed.set()
        while not self._taken and self._waits_for_room():
            await self.changed.wait()
        if self.gone:
            msg = "the client is gone"
            raise ClientDisconnectedError(msg)

    def _waits_for_room(self) -> bool:
        return not (self.gone or self._unwanted)

    def _trailers(self, event: Event) -> None:
        fields = response_headers(event.get("headers", ()))
        if self._trailer_fields is not None:
            self._trailer_fields.raw += fields.raw
        if not event.get("more_trailers"):
            self._complete()

    def _complete(self) -> None:
        self.stage = "complete"
        self.decided = True
        self.changed.set()

    async def _checkpoint(self) -> None:
        checkpoint = self._exchange.connection.runtime.checkpoint
        if checkpoint is not None:
            await checkpoint()

    # What the handler's task does --------------------------------------------------

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()``, which is about this object, is true.

        Cancel safety: safe.
        """
        while not condition():
            await self.changed.wait()

    def response(self) -> Response:
        """Return the response that was decided on, once.

        It is not kept: who drops it, and so its body, lets go of the app.
        """
        response, self._response = self._response_begun(), None
        return response

    def _response_begun(self) -> Response:
        if self._response is None:
            msg = "the response has not begun, or has been taken"
            raise RuntimeError(msg)
        return self._response

    async def next_chunk(self) -> bytes:
        """Return the next chunk, ``b""`` at the end.

        Raises:
            LocalProtocolError: the app has returned before the end.
            Exception: what the app raised.

        Cancel safety: safe.
        """
        if not self._taken:
            self._taken = True
            self.changed.set()
        while self._chunk is None:
            if self.stage == "complete" or self.gone:
                return b""
            if self.ended:
                if isinstance(self.error, Exception):
                    raise self.error
                if self.left:  # and so the app has ended, rightly
                    self._exchange.reset(ErrorCode.CANCEL)
                    return b""
                msg = "the app returned in the middle of its response"
                raise LocalProtocolError(msg)
            await self.changed.wait()
        chunk, self._chunk = self._chunk, None
        return chunk

    async def finish(self) -> None:
        """Drop what the app still sends, until it has sent all of it or has ended.

        The handler's slot is taken as long: a client that leaves cannot have more apps
        running than it may have requests.

        Cancel safety: safe.
        """
        self.abandon()
        if self.stage != "complete" and not self.ended:
            self._exchange.flush()
            await self.until(lambda: self.stage == "complete" or self.ended)

    def abandon(self) -> None:
        """Drop the rest of the body: the server does not read it any more."""
        self._unwanted = True
        self._chunk = None
        self.changed.set()


class BodyStream:
    """The body of a streamed response, as the pipeline takes it."""

    __slots__ = ("_responding",)

    def __init__(self, responding: Responding) -> None:
        self._responding = responding

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._responding.next_chunk()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        """Let go of the app. Cancel safety: safe."""
        await self._responding.finish()

    def __del__(self) -> None:
        # A middleware may answer with something else: the app is not to wait for ever.
        self._responding.abandon()
