"""``TakoWs``: what a handler returns to turn its request into a WebSocket."""

from collections.abc import Iterable

from tako.config import Duration, positive, seconds
from tako.core.upgrade import UpgradeResponse
from tako.http.request import Request
from tako.http.response import Response
from tako.ws.handshake import Acceptance, Rules, shake_hands
from tako.ws.options import (
    DEFAULT_MAX_SIZE,
    NO_KEEP_ALIVE,
    Deflate,
    WsKeepAlive,
    WsOptions,
    checked_compression,
    checked_keep_alive,
    checked_origins,
    checked_protocols,
)
from tako.ws.websocket import SessionFunction, WebSocketUpgrade


class TakoWs:
    """A responder that answers a WebSocket handshake and then runs ``session``.

    The same on both wires: 101 over HTTP/1.1, 200 to an extended CONNECT over HTTP/2.
    Every keyword has a method of the same name that returns the object itself; the last
    call wins. A request that is no valid handshake gets the error response it calls
    for, and ``session`` is not called.

    Args:
        request: the request to answer.
        session: called with the ``WebSocket`` once the response has been sent.
        protocols: subprotocols in order of preference; none: no negotiation.
        max_frame_size: most payload bytes of a received frame; ``None``: 16 MiB.
        max_message_size: most bytes of a received message; ``None``: 16 MiB.
        allowed_origins: origins that may connect, others and requests without one get
            403; ``None``: any. A host may be written in Unicode.
        upgrade_timeout: seconds (or timedelta) for the response to be written.
        max_lifetime: seconds (or timedelta) that the session may last.
        keep_alive: how to find out that the peer is gone.
        compression: allow permessage-deflate; ``None``: off.

    Raises:
        ConfigError: a value that cannot work.
        TypeError: a value of the wrong type, such as one string where several belong.
    """

    __slots__ = (
        "_compression",
        "_keep_alive",
        "_max_frame_size",
        "_max_lifetime",
        "_max_message_size",
        "_origins",
        "_protocols",
        "_request",
        "_session",
        "_upgrade_timeout",
    )

    def __init__(
        self,
        request: Request,
        session: SessionFunction,
        *,
        protocols: Iterable[str] = (),
        max_frame_size: int | None = None,
        max_message_size: int | None = None,
        allowed_origins: Iterable[str] | None = None,
        upgrade_timeout: Duration | None = None,
        max_lifetime: Duration | None = None,
        keep_alive: WsKeepAlive | None = None,
        compression: Deflate | None = None,
    ) -> None:
        if not callable(session):
            msg = (
                "session must be an async function that takes a WebSocket, "
                f"not {type(session).__name__}"
            )
            raise TypeError(msg)
        self._request = request
        self._session = session
        self._max_frame_size = self._max_message_size = DEFAULT_MAX_SIZE
        self._origins: frozenset[str] | None = None
        self._upgrade_timeout: float | None = None
        self._max_lifetime: float | None = None
        self._keep_alive = NO_KEEP_ALIVE
        self.protocols(protocols)
        self.compression(compression)
        if max_frame_size is not None:
            self.max_frame_size(max_frame_size)
        if max_message_size is not None:
            self.max_message_size(max_message_size)
        if allowed_origins is not None:
            self.allowed_origins(allowed_origins)
        if upgrade_timeout is not None:
            self.upgrade_timeout(upgrade_timeout)
        if max_lifetime is not None:
            self.max_lifetime(max_lifetime)
        if keep_alive is not None:
            self.keep_alive(keep_alive)

    def protocols(self, names: Iterable[str]) -> "TakoWs":
        """Offer these subprotocols, in the server's order of preference."""
        self._protocols = checked_protocols(names)
        return self

    def max_frame_size(self, size: int) -> "TakoWs":
        """Refuse received frames of more than ``size`` payload bytes (1009)."""
        self._max_frame_size = positive(size, "max_frame_size")
        return self

    def max_message_size(self, size: int) -> "TakoWs":
        """Refuse received messages of more than ``size`` bytes (1009)."""
        self._max_message_size = positive(size, "max_message_size")
        return self

    def allowed_origins(self, origins: Iterable[str]) -> "TakoWs":
        """Refuse requests from any other origin, or from none, with 403."""
        self._origins = checked_origins(origins)
        return self

    def upgrade_timeout(self, duration: Duration) -> "TakoWs":
        """Give up if the response cannot be written within ``duration``."""
        self._upgrade_timeout = seconds(duration, "upgrade_timeout")
        return self

    def max_lifetime(self, duration: Duration) -> "TakoWs":
        """End the session with 1001 after ``duration``."""
        self._max_lifetime = seconds(duration, "max_lifetime")
        return self

    def keep_alive(self, keep_alive: WsKeepAlive) -> "TakoWs":
        """Say how to find out that the peer is gone."""
        self._keep_alive = checked_keep_alive(keep_alive)
        return self

    def compression(self, compression: Deflate | None) -> "TakoWs":
        """Allow permessage-deflate, or (``None``) do not."""
        self._compression = checked_compression(compression)
        return self

    def into_response(self) -> Response:
        """Return the handshake's answer; an acceptance carries the session to run."""
        rules = Rules(self._protocols, self._origins, self._compression)
        answer = shake_hands(self._request, rules)
        if not isinstance(answer, Acceptance):
            return Response(answer.status, answer.headers, answer.body)
        options = WsOptions(
            max_frame_size=self._max_frame_size,
            max_message_size=self._max_message_size,
            upgrade_timeout=self._upgrade_timeout,
            max_lifetime=self._max_lifetime,
            keep_alive=self._keep_alive,
            subprotocol=answer.subprotocol,
            deflate=answer.deflate,
        )
        upgrade = WebSocketUpgrade(self._request, self._session, options)
        return UpgradeResponse(answer.status, answer.headers, upgrade)
