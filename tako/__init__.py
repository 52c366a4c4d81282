"""A TLS-first HTTP/1.1 and HTTP/2 server, with WebSockets inside ordinary handlers.

A handler takes a request and returns what answers it; for a WebSocket that is a
``TakoWs``, with the session that talks to the client. It runs unchanged over HTTP/1.1
and HTTP/2, on asyncio and on trio:

    import tako
    from tako import Request, Router, TakoWs, WebSocket

    async def chat(request: Request) -> TakoWs:
        async def session(ws: WebSocket) -> None:
            async for message in ws:
                if isinstance(message, str):
                    await ws.send(message)

        return TakoWs(request, session)

    router = Router()
    router.get("/chat", chat)

    async def main() -> None:
        await tako.serve_tls("127.0.0.1:8443", router, "cert.pem", "key.pem")

    if __name__ == "__main__":
        tako.run(main)

Where to look (``help(tako.serve)``):

    to serve            run, serve, serve_tls, bind, Server, ServerConfig
    to route            Router, access_log, request_id, allowed_hosts, https_redirect
    to answer           Request, Response, Redirect, Sse, Problem, HttpError
    a WebSocket         TakoWs, WebSocket, Message, WsKeepAlive, Deflate
    to connect          connect, Client, ConnectError

    tako.topics         messages to many: rooms, workers, Redis
    tako.asgi           ASGI apps on tako, and its routers on other servers
    tako.tls            certificates: by name, of clients, loaded again
    tako.proxy          the PROXY protocol
    tako.testing        servers and clients for tests (tako-server[testing])
    tako.native         status() says what runs compiled

``tako serve main:app`` is the same at the command line (tako-server[cli]), ``tako
connect URL`` a client. The folder docs of the repository has a tutorial, how-tos, and
the reference with every limit, status and close code.
"""

import sys

from tako import native  # before the rest, see there


# isort: split
from tako import asgi, proxy, tls, topics
from tako.client import Client, Connect, connect
from tako.config import AcceptBackoff, ServerConfig
from tako.core.log_lines import escape_in_logs
from tako.errors import (
    ConfigError,
    ConnectError,
    ConnectionClosed,
    ConnectTimeout,
    DialError,
    Disconnected,
    FrameTooBig,
    HandshakeInvalid,
    HandshakeRejected,
    Http2Unavailable,
    HttpError,
    InvalidUtf8,
    LocalProtocolError,
    MessageTooBig,
    PoolTimeout,
    ProtocolError,
    ProtocolViolation,
    ProxyError,
    ProxyProtocolError,
    RemoteProtocolError,
    RouteConflictError,
    TakoError,
    TlsConfigError,
    TlsError,
    TopicsUnavailable,
    WsError,
)
from tako.http.answer import HandshakeResponse
from tako.http.conn_info import (
    Carrier,
    ConnInfo,
    IpPeer,
    OtherPeer,
    PeerAddr,
    TlsInfo,
    UnixPeer,
)
from tako.http.headers import Headers
from tako.http.method import Method
from tako.http.multipart import Multipart, Part
from tako.http.problem import PROBLEM_JSON, Problem, default_problem_responder
from tako.http.redirect import Redirect
from tako.http.request import Extensions, Request
from tako.http.response import Responder, Response, into_response
from tako.http.sse import Sse, SseEvent
from tako.http.state import MissingState
from tako.inspect.inspector import Inspector, inspector
from tako.routing.access_log import AccessEntry, WebSocketCounts, access_log
from tako.routing.allowed_hosts import allowed_hosts
from tako.routing.https_redirect import https_redirect
from tako.routing.middleware import Next
from tako.routing.request_id import RequestId, current_request_id, request_id
from tako.routing.route import Route
from tako.routing.router import Router
from tako.runtime import ctrl_c, run, sleep
from tako.server.bind import bind
from tako.server.listener import Listener
from tako.server.serve import Server, serve, serve_tls
from tako.server.service import ServerStatistics
from tako.ws import (
    AnyMessage,
    Deflate,
    Message,
    TakoWs,
    WebSocket,
    WsKeepAlive,
    normalize_origin,
)


__version__ = "0.1.0"

__all__ = [  # noqa: RUF022 - by theme
    # to serve
    "run",
    "serve",
    "serve_tls",
    "bind",
    "Server",
    "Listener",
    "ServerConfig",
    "AcceptBackoff",
    "ServerStatistics",
    "ctrl_c",
    "sleep",
    "inspector",
    "Inspector",
    # to connect
    "connect",
    "Connect",
    "Client",
    "HandshakeResponse",
    # to route
    "Router",
    "Route",
    "Method",
    "Next",
    "access_log",
    "AccessEntry",
    "WebSocketCounts",
    "request_id",
    "RequestId",
    "current_request_id",
    "https_redirect",
    "allowed_hosts",
    # a request, and the connection that it came on
    "Request",
    "Headers",
    "Extensions",
    "Multipart",
    "Part",
    "ConnInfo",
    "Carrier",
    "PeerAddr",
    "IpPeer",
    "UnixPeer",
    "OtherPeer",
    "TlsInfo",
    # what a handler returns
    "Response",
    "Responder",
    "into_response",
    "Redirect",
    "Problem",
    "PROBLEM_JSON",
    "default_problem_responder",
    "Sse",
    "SseEvent",
    # a WebSocket
    "TakoWs",
    "WebSocket",
    "Message",
    "AnyMessage",
    "WsKeepAlive",
    "Deflate",
    "normalize_origin",
    # what is raised, as the tree in tako/errors.py
    "TakoError",
    "ConfigError",
    "TlsConfigError",
    "RouteConflictError",
    "HttpError",
    "MissingState",
    "ProtocolError",
    "RemoteProtocolError",
    "LocalProtocolError",
    "ProxyProtocolError",
    "Disconnected",
    "WsError",
    "ConnectionClosed",
    "ProtocolViolation",
    "InvalidUtf8",
    "FrameTooBig",
    "MessageTooBig",
    "__version__",
    # what is raised by ``connect``, and by topics
    "ConnectError",
    "DialError",
    "ProxyError",
    "TlsError",
    "HandshakeRejected",
    "HandshakeInvalid",
    "Http2Unavailable",
    "ConnectTimeout",
    "PoolTimeout",
    "TopicsUnavailable",
]


def _adopt_names() -> None:
    """Show, document and pickle names as what users import them as."""
    for module in (sys.modules[__name__], asgi, native, proxy, tls, topics):
        for name in module.__all__:
            value = getattr(module, name)
            if not hasattr(value, "__qualname__"):
                continue  # a value, or an alias of a type
            if getattr(value, "__module__", "").startswith("tako."):
                value.__module__ = module.__name__


_adopt_names()
del _adopt_names
escape_in_logs()
del escape_in_logs
