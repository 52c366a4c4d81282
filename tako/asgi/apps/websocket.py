"""``WebSocketConversation``: a WebSocket, had by an ASGI app.

Theory of operation. *connecting*: the app has been asked; it accepts, closes (403) or
sends a response of its own (``websocket.http.response``) -> *accepting*: the handler's
task returns the handshake's response, and the session begins -> *open*: the app reads
and writes the ``WebSocket`` directly, from its own task, while the session waits for
the app's end.

Invariant: the app never waits for a session that cannot come: where the response is
dropped, or the client has left, it gets a disconnect.
"""

from collections.abc import Awaitable

from tako.asgi.apps.conversation import Conversation
from tako.asgi.apps.response_steps import Kinds
from tako.asgi.fields import checked_fields, is_hop_by_hop
from tako.asgi.protocol import (
    App,
    ClientDisconnectedError,
    Event,
    EventError,
    Scope,
    unexpected,
)
from tako.asgi.scope import offered_subprotocols
from tako.core.seams import Exchange
from tako.errors import ConnectionClosed
from tako.http.headers import Headers, RawHeader
from tako.http.request import Request
from tako.http.response import Response
from tako.ws.handshake import Acceptance, shake_hands
from tako.ws.message import Message
from tako.ws.options import WsOptions
from tako.ws.responder import accepted
from tako.ws.websocket import WebSocket


_REFUSAL = Kinds("websocket.http.response.")
_OURS = frozenset(
    {
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
    }
)


class WebSocketConversation(Conversation):
    """One WebSocket: the app's events on one side, a ``WebSocket`` on the other."""

    __slots__ = (
        "_accepted",
        "_answer",
        "_connected",
        "_fields",
        "_options",
        "_refused",
        "_request",
        "_ws",
    )

    def __init__(
        self,
        exchange: Exchange,
        request: Request,
        options: WsOptions,
        answer: Acceptance,
    ) -> None:
        """Make one for a valid handshake.

        Args:
            exchange: the request's.
            request: the handshake.
            options: those of the WebSocket.
            answer: the handshake's, without a subprotocol.
        """
        super().__init__(exchange, _REFUSAL)
        self._request = request
        self._options = options
        self._answer = answer
        self._connected = False
        self._accepted = self._refused = False
        self._fields: list[RawHeader] = []  # of the app, for the response
        self._ws: WebSocket | None = None

    async def run(self, app: App, scope: Scope) -> Response:
        """Call the app; return the response once it has decided.

        Raises:
            Exception: what the app raised instead.

        Cancel safety: safe; the app is cancelled.
        """
        handover = self._handover
        await self._call(app, scope, self.receive, self.send, self._decided)
        if self._accepted:
            session, options = _Session(self), self._options
            response = accepted(self._request, session, options, self._answer)
            response.headers.raw += self._fields
            return response
        if self._refused:
            return Response(403)
        if handover.decided:
            return handover.response()
        return self._no_answer()

    def _decided(self) -> bool:
        return self._accepted or self._refused or self._handover.decided

    # What the app calls ------------------------------------------------------------

    async def receive(self) -> Event:
        """Return the next event.

        Cancel safety: safe; no message is lost.
        """
        ws = self._ws
        if ws is None:
            return await self._receive_before()
        while True:
            try:
                message = await anext(ws)
            except StopAsyncIteration:
                return self._disconnect(ws)
            if type(message) is str:
                return {"type": "websocket.receive", "text": message}
            if type(message) is bytes:
                return {"type": "websocket.receive", "bytes": message}
            if isinstance(message, Message.Close):
                return self._disconnect(ws)

    async def send(self, event: Event) -> None:
        """Take an event; wait while the peer has no room for more.

        Raises:
            ClientDisconnectedError: the client is gone, or the conversation closed.
            EventError: the event does not belong here.

        Cancel safety: a message is sent whole.
        """
        ws = self._ws
        if ws is None:
            await self._send_before(event)
        elif event["type"] == "websocket.send":
            data = event.get("bytes")
            try:
                await ws.send(event["text"] if data is None else data)
            except ConnectionClosed as closed:
                self._handover.client_gone()
                raise ClientDisconnectedError(str(closed)) from None
        elif event["type"] == "websocket.close":
            if self._handover.gone:
                msg = "the client is gone"
                raise ClientDisconnectedError(msg)
            code = event.get("code", 1000)
            await ws.send(Message.Close(code, event.get("reason") or ""))
        else:
            raise unexpected(event, "websocket.send or websocket.close")

    async def _receive_before(self) -> Event:
        """Return an event before the WebSocket is open, or where it never will be."""
        if not self._connected:
            self._connected = True
            return {"type": "websocket.connect"}
        handover = self._handover
        await handover.until(
            lambda: (
                self._ws is not None
                or self._refused
                or handover.left
                or handover.stage == "complete"
            )
        )
        if self._ws is not None:
            return await self.receive()
        return {"type": "websocket.disconnect", "code": 1006, "reason": ""}

    async def _send_before(self, event: Event) -> None:
        kind = event["type"]
        if kind.startswith("websocket.http.response.") and not self._refused:
            await self._handover.send(event)
            return
        if self._handover.gone:
            msg = "the client is gone"
            raise ClientDisconnectedError(msg)
        if self._decided() or self._handover.stage != "start":
            raise unexpected(event, "nothing more")
        if kind == "websocket.accept":
            await self._accept(event)
        elif kind == "websocket.close":
            self._refused = True
            self._handover.wake()
        else:
            raise unexpected(event, "websocket.accept or websocket.close")

    async def _accept(self, event: Event) -> None:
        """Take the decision to accept; wait until the WebSocket is open."""
        subprotocol = event.get("subprotocol")
        if subprotocol is not None:
            if subprotocol not in offered_subprotocols(self._request):
                # RFC 6455 §4.1: the client would have to fail the connection
                msg = f"the client does not offer the subprotocol {subprotocol!r}"
                raise EventError(msg)
            self._options = self._options.replaced(protocols=(subprotocol,))
            answer = shake_hands(self._request, self._options)
            if isinstance(answer, Acceptance):  # as it is without subprotocols
                self._answer = answer
        headers = checked_fields(event.get("headers") or ())
        # Fields of the connection are not the app's, as in any other response
        fields = [field for field in headers if not is_hop_by_hop(field)]
        self._fields = Headers.from_raw(fields).raw
        for name, _ in self._fields:
            if name in _OURS:
                msg = f"{name.decode()} is not the app's to send; see subprotocol"
                raise EventError(msg)
        handover = self._handover
        self._accepted = True
        handover.wake()
        await handover.until(lambda: self._ws is not None or handover.gone)
        if self._ws is None:
            msg = "the client left during the handshake"
            raise ClientDisconnectedError(msg)

    def _disconnect(self, ws: WebSocket) -> Event:
        """Return the last event; 1006 without a Close frame (RFC 6455 §7.1.5)."""
        self._handover.client_gone()
        code = 1006 if ws.close_code is None else ws.close_code
        return {"type": "websocket.disconnect", "code": code, "reason": ws.close_reason}

    # What the session calls --------------------------------------------------------

    async def begin(self, ws: WebSocket) -> None:
        """Let the app have ``ws``; return at its end.

        Raises:
            Exception: what the app raised.

        Cancel safety: safe; the app is cancelled.
        """
        handover = self._handover
        self._ws = ws
        handover.wake()
        try:  # ``_until``, with a frame less for as long as the WebSocket lives
            await handover.until(lambda: handover.ended)
        except BaseException:
            self._cancel_app()
            raise
        if handover.error is not None:
            raise handover.error

    def session_dropped(self) -> None:
        """Note that the session will not begin any more."""
        if self._ws is None:
            self._handover.client_gone()


class _Session:
    """The session of a ``TakoWs``; notices if the response that has it is dropped."""

    __slots__ = ("_conversation",)

    def __init__(self, conversation: WebSocketConversation) -> None:
        self._conversation = conversation

    def __call__(self, ws: WebSocket) -> Awaitable[None]:
        return self._conversation.begin(ws)

    def __del__(self) -> None:
        self._conversation.session_dropped()
