"""tako: HTTP/1.1 and HTTP/2 over TLS, with WebSockets inside ordinary handlers.

What only some programs need is in ``tako.tls`` (certificates), ``tako.proxy`` (the
PROXY protocol) and ``tako.asgi``; ``tako.native.status()`` says what runs compiled.
"""

import sys

from tako import native  # before the rest, see there


# isort: split
from tako import asgi, proxy, tls
from tako.config import AcceptBackoff, ServerConfig
from tako.core.log_lines import escape_in_logs
from tako.errors import (
    ConfigError,
    ConnectionClosed,
    Disconnected,
    FrameTooBig,
    HttpError,
    InvalidUtf8,
    LocalProtocolError,
    MessageTooBig,
    ProtocolError,
    ProtocolViolation,
    ProxyProtocolError,
    RemoteProtocolError,
    RouteConflictError,
    TakoError,
    TlsConfigError,
    WsError,
)
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
from tako.routing.access_log import AccessEntry, WebSocketCounts, access_log
from tako.routing.https_redirect import https_redirect
from tako.routing.middleware import Next
from tako.routing.request_id import RequestId, request_id
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
    "https_redirect",
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
]


def _adopt_names() -> None:
    """Show, document and pickle names as what users import them as."""
    for module in (sys.modules[__name__], asgi, native, proxy, tls):
        for name in module.__all__:
            value = getattr(module, name)
            if getattr(value, "__module__", "").startswith("tako."):
                value.__module__ = module.__name__


_adopt_names()
del _adopt_names
escape_in_logs()
del escape_in_logs
