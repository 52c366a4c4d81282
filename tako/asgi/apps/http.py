"""``HttpConversation``: an ordinary request, answered by an ASGI app."""

from tako.asgi.apps.conversation import Conversation
from tako.asgi.protocol import App, Event, Scope
from tako.core.seams import Exchange
from tako.errors import Disconnected, RemoteProtocolError
from tako.http.response import Response


class HttpConversation(Conversation):
    """One request: ``receive`` is its body, ``send`` its response."""

    __slots__ = ("_body", "_body_read", "_reading")

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self._body = exchange.body
        self._body_read = False
        self._reading = 0

    async def run(self, app: App, scope: Scope) -> Response:
        """Call the app; return the response once it is known.

        Raises:
            Exception: what the app raised instead.

        Cancel safety: safe; the app is cancelled.
        """
        responding = self._responding
        await self._call(app, scope, lambda: responding.decided)
        if responding.decided:
            return responding.response()
        return self._no_answer()

    async def receive(self) -> Event:
        """Return the next part of the body, or ``http.disconnect``.

        Cancel safety: safe; nothing is lost.
        """
        responding = self._responding
        if self._body_read or responding.stage == "complete":
            await responding.until(
                lambda: responding.left or responding.stage == "complete"
            )
            return {"type": "http.disconnect"}
        self._reading += 1
        try:
            chunk = await self._body.next_chunk()
        except (Disconnected, RemoteProtocolError):
            responding.client_gone()
            return {"type": "http.disconnect"}
        finally:
            self._reading -= 1
        self._body_read = not chunk or self._body.exhausted
        return {
            "type": "http.request",
            "body": chunk,
            "more_body": not self._body_read,
        }

    async def send(self, event: Event) -> None:
        """Take an event of the response; wait while the peer has no room for more.

        Raises:
            ClientDisconnectedError: the client is gone.
            EventError: the event does not belong here.

        Cancel safety: what was taken is sent.
        """
        await self._responding.send(event)
        if self._reading and self._responding.stage == "complete":
            # The engine does not deliver the rest of a body that is not needed.
            self._body.deliver_eof(Disconnected())
