"""``AsgiApp``: an ASGI 3 app as a handler, or in place of a router."""

from collections.abc import AsyncGenerator, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

from tako.asgi.apps.app_facts import AppFacts, unconnected
from tako.asgi.apps.http import HttpConversation
from tako.asgi.apps.lifespan import Mode, checked_mode, lifespan
from tako.asgi.apps.websocket import WebSocketConversation
from tako.asgi.protocol import App
from tako.asgi.scope import http_scope, websocket_scope
from tako.core.exchange_of import exchange_of
from tako.core.seams import Exchange
from tako.errors import ConfigError
from tako.http.request import Request
from tako.http.response import Response
from tako.ws.handshake import Acceptance, shake_hands
from tako.ws.options import Deflate, WsKeepAlive, WsOptions
from tako.ws.responder import refused


class AsgiApp(AppFacts):
    """Serves an ASGI 3 app: ``http``, ``websocket`` and ``lifespan``.

    As a handler of a route (``router.get("/api/{*rest}", AsgiApp(app))``) it answers
    what the route matches, and ``/api/``, its index; ``/api`` is redirected there. The
    part of the path in front of the catch-all, or of the slash at its end, becomes the
    scope's ``root_path``. In place of a router (``serve_tls(address, AsgiApp(app))``)
    it answers everything, and the server runs the app's lifespan.

    Args:
        app: an ASGI 3 app.
        root_path: a path prefix that a proxy in front has removed.
        lifespan: ``"auto"`` goes on if the app raises instead of starting, ``"on"``
            insists, ``"off"`` does not ask.
        websockets: whether the app takes WebSockets; if not, turn
            ``ServerConfig.h2_enable_connect_protocol`` off as well.
        compression: allow permessage-deflate; ``None``: off.
        max_message_size: most bytes of a received WebSocket message; ``None``: 16 MiB.
        keep_alive: how to find out that a WebSocket's client is gone, with ``auto``;
            ``None``: as ``ServerConfig`` says.
        allowed_origins: origins whose pages may open WebSockets; others, and requests
            without an origin, get 403. ``None``: any.

    Raises:
        ConfigError: a value that cannot work.
        TypeError: ``app`` cannot be called.
    """

    is_mount: Final = True  # see ``handlers.MOUNT``

    def __init__(
        self,
        app: App,
        *,
        root_path: str = "",
        lifespan: str = "auto",
        websockets: bool = True,
        compression: Deflate | None = None,
        max_message_size: int | None = None,
        keep_alive: WsKeepAlive | None = None,
        allowed_origins: Iterable[str] | None = None,
    ) -> None:
        if not callable(app):
            msg = f"AsgiApp takes an ASGI app, not {type(app).__name__}"
            raise TypeError(msg)
        if root_path and not root_path.startswith("/"):
            msg = f"root_path begins with '/', unlike {root_path!r}"
            raise ConfigError(msg)
        super().__init__(app, root_path.rstrip("/"), websockets)
        self._mode: Mode = checked_mode(lifespan)
        self._options = WsOptions().replaced(
            compression=compression,
            max_message_size=max_message_size,
            keep_alive=keep_alive,
            allowed_origins=allowed_origins,
        )

    @asynccontextmanager
    async def lifespan(self) -> AsyncGenerator[None, None]:
        """Run the app's lifespan around a block; servers do.

        Where it is running already, for another listener, nothing happens.

        Raises:
            LifespanError: the app's startup failed.

        Cancel safety: if the block is cancelled, so is the app.
        """
        if self._mode == "off" or self._state is not None:
            yield
            return
        self._state = {}
        try:
            async with lifespan(self._app, self._mode, self._state):
                yield
        finally:
            self._state = None

    def dispatch(
        self, request: Request, *, timer: object = None
    ) -> Coroutine[Any, Any, Response]:
        """Answer a request; what servers call.

        Args:
            request: the request.
            timer: given by a server; then as ``answer``, else as a call.

        Raises:
            Exception: what the app raised instead of answering.
            RuntimeError: the request has no connection.

        Cancel safety: safe; the app is cancelled.
        """
        return self(request) if timer is None else self._answer(request)

    def answer(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Have the app answer a request in this task; return once it has ended.

        Its answer has been sent then, and the response that is returned says nothing:
        this is for those who send what they get as it is. A WebSocket's is to be sent.

        Raises:
            Exception: what the app raised before its answer was complete.
            RuntimeError: the request has no connection.

        Cancel safety: safe; the app is cancelled.
        """
        return self._answer(request)

    async def __call__(self, request: Request) -> Response:
        """Return the answer to a request, for middlewares and others to look at.

        The app runs in a task of its own, which may go on after its answer.

        Raises:
            Exception: what the app raised instead of answering.
            RuntimeError: the request has no connection.

        Cancel safety: safe; the app is cancelled.
        """
        exchange = exchange_of(request)
        if exchange is None:
            raise unconnected()
        if request.is_websocket and self._websockets:
            return await self._websocket(request, exchange)
        scope = http_scope(request, self._root_path, self._state)
        return await HttpConversation(exchange).run(self._app, scope)

    async def _websocket(self, request: Request, exchange: Exchange) -> Response:
        options = self._options
        answer = shake_hands(request, options)
        if not isinstance(answer, Acceptance):
            return refused(answer)  # no valid handshake: the app is not asked
        scope = websocket_scope(request, self._root_path, self._state)
        conversation = WebSocketConversation(exchange, request, options, answer)
        return await conversation.run(self._app, scope)
