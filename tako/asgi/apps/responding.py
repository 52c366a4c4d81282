"""``Responding``: what an ASGI app receives and sends, event by event.

Theory of operation. The app's ``send`` comes here: *start* -> *body*... -> (*trailers*
->) *complete*, with early hints in between until the head has been passed on. What ASGI
does not allow at a point is an ``EventError`` there, in the app. A response whose first
body event is the last is passed on whole; any other as a head, chunks and an end. What
a body event stands for may be in a file (``file_events``). Where to is a subclass's to
say: ``Direct`` writes to the wire, ``Handover`` gives a ``Response`` to the handler's
task. ``receive`` reads the request's body; once that has been read, or the response is
complete, it waits for the client to leave.

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

from collections.abc import Callable

from tako.asgi.apps.file_events import PATHSEND, file_of, is_file
from tako.asgi.apps.response_steps import ResponseSteps, completed, data_of, enter
from tako.asgi.protocol import Event, unexpected
from tako.core.seams import PIECE
from tako.errors import Disconnected, RemoteProtocolError
from tako.http.grammar import content_length
from tako.http.response import Response
from tako.http.response_facts import Body
from tako.http.response_fields import WITHOUT_BODY
from tako.server.file_body import FileBody


class Responding(ResponseSteps):
    """What a conversation with an app does on the app's side; a base class."""

    __slots__ = ()

    # What the app calls ------------------------------------------------------------

    async def send(self, event: Event) -> None:
        """Take one event of the response; wait while the peer has no room for more.

        Raises:
            ClientDisconnectedError: the client is gone.
            EventError: the event does not belong here.
            LocalProtocolError: the response contradicts itself or the protocol.

        Cancel safety: a chunk that was taken is sent.
        """
        if self._takes(event):
            return
        waited = False
        if self._took:
            pass
        elif self.stage == "complete":
            await self._pass_whole(data_of(event))
            completed(self)
        elif is_file(event):
            waited = await self._file(event)
        else:
            more = bool(event.get("more_body"))
            waited = await self._body(data_of(event), more=more)
        if self._checkpoint is not None and not waited:
            await self._checkpoint()

    async def receive(self) -> Event:
        """Return the next part of the request's body, or ``http.disconnect``.

        Cancel safety: safe; nothing is lost.
        """
        event = self._ready()
        if event is not None:
            return event
        if self._read or self.stage == "complete":
            await self.until(self._is_over)
            return {"type": "http.disconnect"}
        body = self.exchange.body
        self.readers(1)
        try:
            chunk = await body.next_chunk()
        except (Disconnected, RemoteProtocolError):
            self.client_gone()
            return {"type": "http.disconnect"}
        finally:
            self.readers(-1)
        self._read = not chunk or body.exhausted
        return {"type": "http.request", "body": chunk, "more_body": not self._read}

    def _is_over(self) -> bool:
        """Tell whether the client has left, or has its answer."""
        return self.left or self.stage == "complete"

    async def _file(self, event: Event) -> bool:
        """Take a file as a part of a body, or as all of it; tell if others could run.

        One that fits into a piece is read, and is then content as any other.
        """
        alone = event["type"] == PATHSEND
        if alone and self._begun:
            raise unexpected(event, self._kinds.body)  # no part beside others
        more = not alone and bool(event.get("more_body"))
        if self._is_empty():  # and the file is not opened
            await self._body(b"", more=more)
            await self.exchange.connection.runtime.sleep(0)  # as in ``_chunk``
            return True
        file = file_of(event)
        whole = not (self._begun or self.in_parts or more)
        if whole and file.to_end:
            self._keep_promise(file)
        if file.size > PIECE and whole and self._takes_whole(file):
            enter(self, "complete")
            await self._pass_whole_file(file)
            completed(self)
            return True
        try:
            if file.size > PIECE:
                return await self._body(file, more=more)
            data = b"".join(file)
        finally:
            file.close()
        await self.send({"type": self._kinds.body, "body": data, "more_body": more})
        return True

    def _is_empty(self) -> bool:
        """Tell whether the answer has no content, whatever the app sends."""
        head = self.exchange.request.method == "HEAD"
        return head or self.unwanted or self.status in WITHOUT_BODY

    def _keep_promise(self, file: FileBody) -> None:
        """Send of a file that has grown what the app has promised, if it has."""
        for name, value in self.fields:
            if name == b"content-length":
                length = content_length(value)
                if length is not None:
                    file.size = min(file.size, length)

    async def _body(self, data: bytes | FileBody, *, more: bool) -> bool:
        """Take a part of a body in parts; tell whether that let others run."""
        if not self._begun:
            self._begun = True
            await self._pass_head()
        if data:
            await self._chunk(data)
        if not more:
            if self.trailer_fields is not None:
                enter(self, "trailers")
            else:
                self._end()
        return bool(data)

    def _response(self, body: Body) -> Response:
        """Return the response that was begun; it is not kept.

        No frame that waits may hold it, either: who drops it lets go of the app.
        """
        response = Response(self.status)
        response.headers.raw += self.fields
        response.trailers = self.trailer_fields
        response.body = body
        return response

    async def _chunk(self, data: bytes | FileBody) -> None:
        if self.unwanted:  # of HEAD, say, and there may be no end of it: others run
            await self.exchange.connection.runtime.sleep(0)
            return
        while self._sending:
            await self.until(lambda: not self._sending)
        self._sending = True
        try:
            if isinstance(data, bytes):
                await self._pass_chunk(data)
            else:
                await self._pass_file(data)
        finally:
            self._sending = False
            self.wake()

    # Where it goes -----------------------------------------------------------------

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

    async def _pass_file(self, file: FileBody) -> None:
        """Pass on a file as a chunk: as ``_pass_chunk``, but a cancellation cuts it."""
        raise NotImplementedError

    def _takes_whole(self, file: FileBody) -> bool:
        """Tell whether ``_pass_whole_file`` is for this file."""
        raise NotImplementedError

    async def _pass_whole_file(self, file: FileBody) -> None:
        """Pass on a response with its body, which is to be closed once it is sent.

        Raises: as ``_pass_chunk``.
        """
        raise NotImplementedError

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition()``, which is about this object, is true.

        Cancel safety: safe.
        """
        while not condition():
            await self.change().wait()
