"""``Responding``: the response that an ASGI app sends, event by event.

Theory of operation. The app's ``send`` comes here: *start* -> *body*... -> (*trailers*
->) *complete*. What ASGI does not allow at a point is an ``EventError`` there, in the
app. A response whose first body event is the last is passed on whole; any other as a
head, chunks and an end. Where to is a subclass's to say: ``Direct`` writes to the wire,
``Handover`` gives a ``Response`` to the handler's task.

A client that leaves does not cancel an app: ASGI tells it, by a disconnect event and by
an ``OSError`` from ``send``. So the exchange's task is taken out of the engine's reach
(``watch_client``). The event comes when the client has ended its direction of the
connection: hardly one that does so is still there. But some read on, so ``send`` goes
on until it is certain.

Invariants: once the client is gone ``send`` raises ``ClientDisconnectedError``; once
the body is not wanted (HEAD, 204, a middleware that answers in another way) what the
app sends is dropped, and it is not made to wait. Of two tasks of an app that send at
once the second waits for the first.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, TypeAlias

from tako.asgi.protocol import (
    ClientDisconnectedError,
    Event,
    EventError,
    checked_fields,
    unexpected,
)
from tako.core.seams import Exchange
from tako.errors import Disconnected
from tako.http.headers import Headers
from tako.http.response import Response


if TYPE_CHECKING:
    from tako.core.loop import Signal


Stage: TypeAlias = Literal["start", "body", "trailers", "complete"]


class Responding:
    """The response half of a conversation with an app; a base class."""

    __slots__ = (
        "_begun",
        "_checkpoint",
        "_in_parts",
        "_prefix",
        "_response",
        "_sending",
        "_trailer_fields",
        "changed",
        "exchange",
        "gone",
        "reading",
        "stage",
        "unwanted",
    )

    def __init__(self, exchange: Exchange, prefix: str = "http.response.") -> None:
        """Expect a response.

        Args:
            exchange: the request.
            prefix: what the types of the events begin with.
        """
        self.exchange: Exchange = exchange
        self._prefix = prefix
        self._response: Response | None = None
        self._trailer_fields: Headers | None = None  # the response's, if it has any
        self._checkpoint = exchange.connection.runtime.checkpoint
        # The length of an answer to HEAD is the one that the app says
        self._in_parts = exchange.request.method == "HEAD"  # whatever its events say
        self._begun = False  # the head was passed on, and parts follow
        self._sending = False  # a chunk is on its way
        self.changed: Signal | None = None
        """Set when one of the attributes below changes; made when first needed."""
        self.stage: Stage = "start"
        """What the app has to send next."""
        self.gone: bool = False
        """Nothing can be sent to the client any more."""
        self.unwanted: bool = False
        """The rest of the body is dropped."""
        self.reading: int = 0
        """How many tasks of the app wait for the request's body."""

    # What the app calls ------------------------------------------------------------

    async def send(self, event: Event) -> None:
        """Take one event of the response; wait while the peer has no room for more.

        Raises:
            ClientDisconnectedError: the client is gone.
            EventError: the event does not belong here.
            LocalProtocolError: the response contradicts itself or the protocol.

        Cancel safety: a chunk that was taken is sent.
        """
        if self.gone:
            msg = "the client is gone"
            raise ClientDisconnectedError(msg)
        stage = self.stage
        if event["type"] != self._prefix + stage:
            raise unexpected(event, self._expected())
        waited = False
        if stage == "start":
            self._start(event)
        elif stage == "trailers":
            self._trailers(event)
        elif self._begun or event.get("more_body") or self._in_parts:
            waited = await self._body(event)
        else:
            self._enter("complete")
            await self._pass_whole(self._taken_response(_data(event)))
            self._completed()
        if self._checkpoint is not None and not waited:
            await self._checkpoint()

    def _expected(self) -> str:
        return "nothing more" if self.stage == "complete" else self._prefix + self.stage

    def _start(self, event: Event) -> None:
        status = event["status"]
        if not isinstance(status, int) or not 200 <= status <= 999:
            # RFC 9110 §15.2: an interim response is no answer; above, three digits
            msg = f"{status!r} is no status of a response: it is from 200 to 999"
            raise EventError(msg)
        response = Response(status)
        response.headers.raw = checked_fields(event.get("headers", ()))
        if event.get("trailers"):
            response.trailers = self._trailer_fields = Headers()
            self._in_parts = True
        self._response = response
        self.stage = "body"

    async def _body(self, event: Event) -> bool:
        """Take a part of a body in parts; tell whether that let others run."""
        data = _data(event)
        if not self._begun:
            self._begun = True
            await self._pass_head(self._taken_response(b""))
        if data:
            await self._chunk(data)
        if not event.get("more_body"):
            if self._trailer_fields is not None:
                self._enter("trailers")
            else:
                self._end()
        return bool(data)

    def _taken_response(self, body: bytes) -> Response:
        """Return the response that was begun; it is not kept.

        No frame that waits may hold it, either: who drops it lets go of the app.
        """
        response, self._response = self._response, None
        if response is None:
            msg = "the response has not begun, or has been taken"
            raise RuntimeError(msg)
        response.body = body
        return response

    async def _chunk(self, data: bytes) -> None:
        if self.unwanted:  # of HEAD, say, and there may be no end of it: others run
            await self.exchange.connection.runtime.sleep(0)
            return
        while self._sending:
            await self.until(lambda: not self._sending)
        self._sending = True
        try:
            await self._pass_chunk(data)
        finally:
            self._sending = False
            self.wake()

    def _trailers(self, event: Event) -> None:
        fields = checked_fields(event.get("headers", ()))
        if self._trailer_fields is not None:
            self._trailer_fields.raw += fields
        if not event.get("more_trailers"):
            self._end()

    def _end(self) -> None:
        self._enter("complete")
        self._pass_end(self._trailer_fields)
        self._completed()

    def _enter(self, stage: Stage) -> None:
        self.stage = stage
        self.wake()

    def _completed(self) -> None:
        if self.reading:
            # The engine does not deliver the rest of a body that is not needed.
            self.exchange.body.deliver_eof(Disconnected())

    # Where it goes -----------------------------------------------------------------

    async def _pass_whole(self, response: Response) -> None:
        """Pass on a response with its body."""
        raise NotImplementedError

    async def _pass_head(self, response: Response) -> None:
        """Pass on a response whose body follows in chunks."""
        raise NotImplementedError

    async def _pass_chunk(self, data: bytes) -> None:
        """Pass on a chunk; wait while there is no room for another.

        Raises:
            ClientDisconnectedError: the client is gone.
        """
        raise NotImplementedError

    def _pass_end(self, trailers: Headers | None) -> None:
        """End a response that was passed on in parts."""
        raise NotImplementedError

    # What the client does ----------------------------------------------------------

    def watch_client(self) -> None:
        """Note from now on when the client leaves, which no longer cancels us."""
        exchange = self.exchange
        body = exchange.body
        body.on_leave = self.wake
        body.on_disconnect = self.client_gone
        if exchange.over:
            self.client_gone()

    @property
    def left(self) -> bool:
        """The client will send nothing more; it may still read."""
        return self.gone or self.exchange.body.left

    def client_gone(self) -> None:
        """Nothing can be sent any more."""
        self.gone = True
        self.wake()

    # Waiting -----------------------------------------------------------------------

    def wake(self) -> None:
        """Look again at what is waited for."""
        if self.changed is not None:
            self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()``, which is about this object, is true.

        Cancel safety: safe.
        """
        while not condition():
            if self.changed is None:
                self.changed = self.exchange.connection.runtime.signal()
            await self.changed.wait()


def _data(event: Event) -> bytes:
    data = event.get("body", b"")
    return data if type(data) is bytes else bytes(data or b"")
