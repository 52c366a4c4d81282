"""``Responding``: what an ASGI app receives and sends, event by event.

Theory of operation. The app's ``send`` comes here: *start* -> *body*... -> (*trailers*
->) *complete*, with early hints in between until the head has been passed on. What ASGI
does not allow at a point is an ``EventError`` there, in the app. A response whose first
body event is the last is passed on whole; any other as a head, chunks and an end. Where
to is a subclass's to say: ``Direct`` writes to the wire, ``Handover`` gives a
``Response`` to the handler's task. ``receive`` reads the request's body; once that has
been read, or the response is complete, it waits for the client to leave.

A client that leaves does not cancel an app: ASGI tells it, by a disconnect event and by
an ``OSError`` from ``send``. So the exchange's task is taken out of the engine's reach,
and the body tells what the client does (``BodySink.watcher``). The event comes when the
client has ended its direction of the connection: hardly one that does so is still
there. But some read on, so ``send`` goes on until it is certain.

Invariants: once the client is gone ``send`` raises ``ClientDisconnectedError``; once
the body is not wanted (HEAD, 204, a middleware that answers in another way) what the
app sends is dropped, and it is not made to wait. Of two tasks of an app that send at
once the second waits for the first.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, TypeAlias

from tako.asgi.fields import Fields, checked_fields
from tako.asgi.protocol import (
    ClientDisconnectedError,
    Event,
    EventError,
    unexpected,
)
from tako.core.seams import Exchange
from tako.errors import Disconnected, RemoteProtocolError
from tako.http.headers import Headers
from tako.http.response import Body, Response


if TYPE_CHECKING:
    from tako.core.loop import Signal


Stage: TypeAlias = Literal["start", "body", "trailers", "complete"]


def kinds_of(prefix: str) -> Mapping[Stage, str]:
    """Return the type of the event that is due in each stage."""
    due: tuple[Stage, ...] = ("start", "body", "trailers")
    return {stage: prefix + stage for stage in due}


KINDS = kinds_of("http.response.")
_HINT = "http.response.early_hint"


class Responding:
    """What a conversation with an app does on the app's side; a base class."""

    __slots__ = (
        "_begun",
        "_checkpoint",
        "_fields",
        "_in_parts",
        "_kinds",
        "_read",
        "_sending",
        "_status",
        "_trailer_fields",
        "changed",
        "exchange",
        "gone",
        "reading",
        "stage",
        "unwanted",
    )

    def __init__(self, exchange: Exchange, kinds: Mapping[Stage, str] = KINDS) -> None:
        """Expect a response.

        Args:
            exchange: the request.
            kinds: the types of the events.
        """
        self.exchange: Exchange = exchange
        self._kinds = kinds
        self._status = 0
        self._fields: Fields = ()
        self._trailer_fields: Headers | None = None  # the response's, if it has any
        self._checkpoint = exchange.connection.runtime.checkpoint
        # The length of an answer to HEAD is the one that the app says
        self._in_parts = exchange.request.method == "HEAD"  # whatever its events say
        self._begun = False  # the head was passed on, and parts follow
        self._sending = False  # a chunk is on its way
        self._read = False  # the request's body, to its end
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
        exchange.body.watcher = self
        if exchange.over:
            self.client_gone()

    # What the app calls ------------------------------------------------------------

    async def send(self, event: Event) -> None:
        """Take one event of the response; wait while the peer has no room for more.

        Raises:
            ClientDisconnectedError: the client is gone.
            EventError: the event does not belong here.
            LocalProtocolError: the response contradicts itself or the protocol.

        Cancel safety: a chunk that was taken is sent.
        """
        waited = False
        if self._takes(event):
            pass
        elif self.stage == "complete":
            await self._pass_whole(_data(event))
            self._completed()
        else:
            waited = await self._body(event)
        if self._checkpoint is not None and not waited:
            await self._checkpoint()

    def _takes(self, event: Event) -> bool:
        """Take an event if that can be done without waiting; tell whether it was.

        If not, it is a part of a body or, where *complete* was entered, all of one.
        """
        if self.gone:
            msg = "the client is gone"
            raise ClientDisconnectedError(msg)
        stage = self.stage
        if event["type"] != self._kinds.get(stage):
            if event["type"] == _HINT and self._may_hint():
                self._hint(event)
                return True
            raise unexpected(event, self._kinds.get(stage, "nothing more"))
        if stage == "start":
            self._start(event)
        elif stage == "trailers":
            self._trailers(event)
        elif self._begun or self._in_parts or event.get("more_body"):
            return False
        else:
            self._enter("complete")
            if not self._pass_at_once(_data(event)):
                return False
            self._completed()
        return True

    async def receive(self) -> Event:
        """Return the next part of the request's body, or ``http.disconnect``.

        Cancel safety: safe; nothing is lost.
        """
        if self._read or self.stage == "complete":
            await self.until(lambda: self.left or self.stage == "complete")
            return {"type": "http.disconnect"}
        body = self.exchange.body
        if body.exhausted:  # there is none, usually
            self._read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        self.reading += 1
        try:
            chunk = await body.next_chunk()
        except (Disconnected, RemoteProtocolError):
            self.client_gone()
            return {"type": "http.disconnect"}
        finally:
            self.reading -= 1
        self._read = not chunk or body.exhausted
        return {"type": "http.request", "body": chunk, "more_body": not self._read}

    def _may_hint(self) -> bool:
        return self._kinds is KINDS and self.stage in {"start", "body"}

    def _hint(self, event: Event) -> None:
        """Send an early hint (RFC 8297), which is dropped if it is of no use any more.

        That is so once the head has been passed on, or where the client does not read.
        """
        links = checked_fields([(b"link", link) for link in event["links"]])
        exchange = self.exchange
        late = self._begun or exchange.head_sent or exchange.request.is_websocket
        if not late and exchange.writable:
            exchange.send_headers(103, links)
            exchange.flush()

    def _start(self, event: Event) -> None:
        status = event["status"]
        if not isinstance(status, int) or not 200 <= status <= 999:
            # RFC 9110 §15.2: an interim response is no answer; above, three digits
            msg = f"{status!r} is no status of a response: it is from 200 to 999"
            raise EventError(msg)
        self._fields = checked_fields(event.get("headers", ()))
        self._status = status
        if event.get("trailers"):
            self._trailer_fields = Headers()
            self._in_parts = True
        self.stage = "body"

    async def _body(self, event: Event) -> bool:
        """Take a part of a body in parts; tell whether that let others run."""
        data = _data(event)
        if not self._begun:
            self._begun = True
            await self._pass_head()
        if data:
            await self._chunk(data)
        if not event.get("more_body"):
            if self._trailer_fields is not None:
                self._enter("trailers")
            else:
                self._end()
        return bool(data)

    def _response(self, body: Body) -> Response:
        """Return the response that was begun; it is not kept.

        No frame that waits may hold it, either: who drops it lets go of the app.
        """
        response = Response(self._status)
        response.headers.raw += self._fields
        response.trailers = self._trailer_fields
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

    def _pass_at_once(self, data: bytes) -> bool:
        """Pass on a response with its body if that needs no wait; tell if it was."""
        raise NotImplementedError

    async def _pass_whole(self, data: bytes) -> None:
        """Pass on a response with its body where ``_pass_at_once`` did not."""
        raise NotImplementedError

    async def _pass_head(self) -> None:
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

    @property
    def left(self) -> bool:
        """The client will send nothing more; it may still read."""
        return self.gone or self.exchange.body.left

    def client_left(self) -> None:
        """Look again: ``left`` has become true."""
        self.wake()

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
