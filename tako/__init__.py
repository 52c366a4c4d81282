"""tako: HTTP/1.1 and HTTP/2 over TLS, with WebSockets inside ordinary handlers."""

from tako.config import AcceptBackoff, ServerConfig
from tako.conn_info import (
    ConnInfo,
    IpPeer,
    OtherPeer,
    PeerAddr,
    TlsInfo,
    Transport,
    UnixPeer,
)
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
    RemoteProtocolError,
    RouteConflictError,
    TakoError,
    TlsConfigError,
    WsError,
)
from tako.headers import Headers
from tako.listener import Listener, bind, bind_with_port_fallback
from tako.method import Method
from tako.middleware import Next
from tako.problem import Problem
from tako.redirect import Redirect
from tako.request import Request
from tako.response import NOT_FOUND, Response, into_response
from tako.router import Route, Router
from tako.runtime import ctrl_c, run, sleep
from tako.server import (
    Server,
    ServerBuilder,
    ServerHandle,
    serve,
    serve_h2c,
    serve_tls,
    serve_with_config,
    serve_with_shutdown,
    serve_with_shutdown_and_config,
)
from tako.sse import Sse, SseEvent
from tako.state import get_state, set_state
from tako.tls import ClientAuth, ReloadableResolver, TlsCert, build_ssl_context
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

__all__ = [
    "NOT_FOUND",
    "AcceptBackoff",
    "AnyMessage",
    "ClientAuth",
    "ConfigError",
    "ConnInfo",
    "ConnectionClosed",
    "Deflate",
    "Disconnected",
    "FrameTooBig",
    "Headers",
    "HttpError",
    "InvalidUtf8",
    "IpPeer",
    "Listener",
    "LocalProtocolError",
    "Message",
    "MessageTooBig",
    "Method",
    "Next",
    "OtherPeer",
    "PeerAddr",
    "Problem",
    "ProtocolError",
    "ProtocolViolation",
    "Redirect",
    "ReloadableResolver",
    "RemoteProtocolError",
    "Request",
    "Response",
    "Route",
    "RouteConflictError",
    "Router",
    "Server",
    "ServerBuilder",
    "ServerConfig",
    "ServerHandle",
    "Sse",
    "SseEvent",
    "TakoError",
    "TakoWs",
    "TlsCert",
    "TlsConfigError",
    "TlsInfo",
    "Transport",
    "UnixPeer",
    "WebSocket",
    "WsError",
    "WsKeepAlive",
    "bind",
    "bind_with_port_fallback",
    "build_ssl_context",
    "ctrl_c",
    "get_state",
    "into_response",
    "normalize_origin",
    "run",
    "serve",
    "serve_h2c",
    "serve_tls",
    "serve_with_config",
    "serve_with_shutdown",
    "serve_with_shutdown_and_config",
    "set_state",
    "sleep",
]

# Names are shown, documented and pickled as what users import them as.
for _name in __all__:
    if getattr(globals()[_name], "__module__", "").startswith("tako."):
        globals()[_name].__module__ = __name__
del _name
