"""``TakoWs``: what a handler returns to turn its request into a WebSocket."""

from collections.abc import Iterable
from typing import Unpack

from tako.config import Duration
from tako.core.upgrade import UpgradeResponse
from tako.http.request import Request
from tako.http.response import Response
from tako.ws.handshake import Acceptance, Rejection, shake_hands
from tako.ws.options import Deflate, WsKeepAlive, WsKeywords, WsOptions
from tako.ws.upgrade import SessionFunction, WebSocketUpgrade


_DEFAULTS = WsOptions()


class TakoWs:
    """A responder that answers a WebSocket handshake and then runs ``session``.

    The same on both wires: 101 over HTTP/1.1, 200 to an extended CONNECT over HTTP/2.
    Every option is a keyword, and a method of the same name that returns the object
    itself, and raises as the keyword does; the last one wins. A request that is no
    valid handshake gets an error response, and ``session`` is not called.

    Args:
        request: the request to answer.
        session: called with the ``WebSocket`` once the response has been sent.
        options: what the methods set, by their names; ``None``: the default.

    Raises:
        ConfigError: a value that cannot work.
        TypeError: a value of the wrong type, such as one string where several belong.

    Example::

        async def echo(request: Request) -> TakoWs:
            async def session(ws: WebSocket) -> None:
                async for message in ws:
                    if isinstance(message, str):
                        await ws.send(message)

            return TakoWs(request, session, max_lifetime=3600)
    """

    __slots__ = ("_options", "_request", "_session")

    def __init__(
        self,
        request: Request,
        session: SessionFunction,
        **options: Unpack[WsKeywords],
    ) -> None:
        if not callable(session):
            msg = (
                "session must be an async function that takes a WebSocket, "
                f"not {type(session).__name__}"
            )
            raise TypeError(msg)
        self._request = request
        self._session = session
        self._options = _DEFAULTS
        if options:
            self._with(**options)

    def _with(self, **options: Unpack[WsKeywords]) -> "TakoWs":
        self._options = self._options.replaced(**options)
        return self

    def protocols(self, names: Iterable[str]) -> "TakoWs":
        """Offer these subprotocols, in the server's order of preference."""
        return self._with(protocols=names)

    def max_frame_size(self, size: int) -> "TakoWs":
        """Refuse received frames of more than ``size`` payload bytes (1009).

        The default is 16 MiB.
        """
        return self._with(max_frame_size=size)

    def max_message_size(self, size: int) -> "TakoWs":
        """Refuse received messages of more than ``size`` bytes (1009).

        The default is 16 MiB; what counts is the size after decompression.
        """
        return self._with(max_message_size=size)

    def allowed_origins(self, origins: Iterable[str]) -> "TakoWs":
        """Refuse requests from any other origin, or from none, with 403.

        A host may be written in Unicode. The default allows any.
        """
        return self._with(allowed_origins=origins)

    def upgrade_timeout(self, duration: Duration) -> "TakoWs":
        """Give up if the response cannot be written within ``duration``."""
        return self._with(upgrade_timeout=duration)

    def max_lifetime(self, duration: Duration) -> "TakoWs":
        """End the session with 1001 after ``duration``."""
        return self._with(max_lifetime=duration)

    def keep_alive(self, keep_alive: WsKeepAlive) -> "TakoWs":
        """Say how to find out that the peer is gone."""
        return self._with(keep_alive=keep_alive)

    def compression(self, compression: Deflate | None) -> "TakoWs":
        """Allow permessage-deflate, or (``None``) do not."""
        return self._with(compression=compression)

    def into_response(self) -> Response:
        """Return the handshake's answer; an acceptance carries the session to run."""
        answer = shake_hands(self._request, self._options)
        if isinstance(answer, Acceptance):
            return accepted(self._request, self._session, self._options, answer)
        return refused(answer)


def accepted(
    request: Request,
    session: SessionFunction,
    options: WsOptions,
    answer: Acceptance,
) -> UpgradeResponse:
    """Return the response to a handshake with ``options`` that has this ``answer``."""
    agreed = options.agreed(answer.subprotocol, answer.deflate)
    upgrade = WebSocketUpgrade(request, session, agreed)
    return UpgradeResponse(answer.status, answer.headers, upgrade)


def refused(answer: Rejection) -> Response:
    """Return the response to a request that is no valid handshake."""
    return Response(answer.status, answer.headers, answer.body)
