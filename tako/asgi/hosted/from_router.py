"""``from_router``: a tako router as an ASGI 3 app, for hypercorn, uvicorn and others.

What needs tako's own server, and what becomes of it elsewhere:

=======================  ==========================================================
``max_message_size``     kept: 1009
``max_lifetime``         kept: 1001
``protocols``            kept
``allowed_origins``      kept
``keep_alive``           a hint; ``ws.ping`` does nothing, ``ws.latency`` is None
other ``TakoWs`` option  the host's: it has the wire, and shows whole messages only
``timeout`` of routes    kept
``Sse`` heartbeats       kept
``ws.close``             does not wait for the peer's Close
``disconnected``         known from the first look on; when depends on the host
``conn_info.tls``        where the host has the ``tls`` extension
trailers                 where the host has the ``http.response.trailers`` extension
``make_socket``          refused, 500: a session without what a middleware adds to its
                         socket might be one without a check
``access_log``           silent: requests are the host's to log
``tracing``              likewise: spans are the host's to make
=======================  ==========================================================
"""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tako import runtime
from tako.asgi.hosted.client import HostedClient
from tako.asgi.hosted.request import HostedBody, http_request, websocket_request
from tako.asgi.hosted.response import send_response
from tako.asgi.hosted.websocket import HostedWebSocket, run_session, run_within
from tako.asgi.protocol import Receive, Scope, Send
from tako.core.upgrade import upgrade_of
from tako.errors import LocalProtocolError
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.router import Router
from tako.server.service import Dispatcher
from tako.ws.upgrade import WebSocketUpgrade
from tako.ws.websocket import WebSocket


T = TypeVar("T")

_logger = logging.getLogger("tako.asgi")

_HANDSHAKE = frozenset(
    {
        b"connection",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-protocol",
        b"upgrade",
    }
)


class RouterApp:
    """An ASGI 3 app around a router; made by ``from_router``."""

    def __init__(self, router: Dispatcher) -> None:
        self._router = router

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, have one WebSocket conversation, or live.

        Raises:
            ValueError: the scope is of another type.

        Cancel safety: that of the handler.
        """
        kind = scope["type"]
        if kind in {"http", "websocket"}:
            answer = self._http if kind == "http" else self._websocket
            async with runtime.current().open_runtime() as own:
                await answer(scope, HostedClient(receive, own), send)
        elif kind == "lifespan":
            await self._lifespan(receive, send)
        else:
            msg = f"a router has no use for a scope of type {kind!r}"
            raise ValueError(msg)

    async def _http(self, scope: Scope, client: HostedClient, send: Send) -> None:
        receive = client.receive
        request = http_request(scope, HostedBody(receive), client)
        response = await self._dispatch(request)
        if upgrade_of(response) is not None:  # a handshake that the host did not take
            response = Response(501, body="the server does not pass WebSockets on")
        await send_response(request, response, scope, receive, send)

    async def _websocket(self, scope: Scope, client: HostedClient, send: Send) -> None:
        receive = client.receive
        if (await receive())["type"] != "websocket.connect":
            return  # the client has left
        request = websocket_request(scope, client)
        response = await self._handshake(request)
        upgrade = upgrade_of(response)
        if not isinstance(upgrade, WebSocketUpgrade):
            if "websocket.http.response" in (scope.get("extensions") or {}):
                await send_response(request, response, scope, receive, send)
            else:
                await send({"type": "websocket.close"})
            return
        fields = response.headers.raw
        accept = {
            "type": "websocket.accept",
            "subprotocol": upgrade.options.subprotocol,
            "headers": [field for field in fields if field[0] not in _HANDSHAKE],
        }
        await send(accept)
        ws = HostedWebSocket(request, upgrade.options, receive, send)
        await run_session(upgrade.session, ws)

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            if isinstance(self._router, Router):
                self._router.prepare()
        except Exception as error:
            _logger.exception("the router cannot be prepared")
            message = f"{type(error).__name__}: {error}"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _handshake(self, request: Request) -> Response:
        """Return the router's answer to a handshake, if it can be had here."""
        response = await self._dispatch(request)
        upgrade = upgrade_of(response)
        if not isinstance(upgrade, WebSocketUpgrade):
            return response
        if upgrade.make_socket is not WebSocket:
            _logger.error("%s: make_socket needs tako's own server", request.path)
            return Response(500, body="Internal Server Error")
        return response

    async def _dispatch(self, request: Request) -> Response:
        """Return the router's answer: the isolation boundary of its handlers."""
        try:
            response = await self._router.dispatch(request, timer=_Timer())
            return _final(response)
        except Exception:
            _logger.exception("handler of %s failed", request.path)
            return Response(500, body="Internal Server Error")


def _final(response: Response) -> Response:
    """Return ``response`` unless it is an interim one (RFC 9110 §15.2).

    Raises:
        LocalProtocolError: it is.
    """
    if response.status < 200 and upgrade_of(response) is None:
        msg = f"a response of {response.status} is no answer"
        raise LocalProtocolError(msg)
    return response


class _Timer:
    """Limits the time of routes; implements ``router.TimeLimit``."""

    __slots__ = ()

    async def run_within(
        self, seconds: float, function: Callable[..., Awaitable[T]], *args: object
    ) -> T:
        """Return ``await function(*args)``.

        Raises:
            TimeoutError: it took longer than ``seconds``.

        Cancel safety: as ``function``.
        """
        result: list[T] = []

        async def run() -> bool:
            result.append(await function(*args))
            return True

        if await run_within(seconds, run) is None:
            raise TimeoutError
        return result[0]


def from_router(router: Dispatcher) -> RouterApp:
    """Return ``router`` as an ASGI 3 app, for servers other than tako's.

    Its handlers are the same, ``TakoWs`` and its sessions too; see this module for what
    becomes of options that need tako's own server.

    Raises:
        TypeError: this is no router.
    """
    if not callable(getattr(router, "dispatch", None)):
        msg = f"from_router takes a Router, not {type(router).__name__}"
        raise TypeError(msg)
    return RouterApp(router)
