"""tako: HTTP/1.1 and HTTP/2 over TLS, with WebSockets inside ordinary handlers."""

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
from tako.proxy.header import (
    ProxyHeader,
    ProxyTlsInfo,
    ProxyTlv,
    ProxyTransport,
    ProxyVersion,
    parse_proxy_header,
    read_proxy_protocol,
)
from tako.proxy.policy import ProxyPolicy
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
from tako.tls.certificates import (
    ClientAuth,
    ReloadableResolver,
    TlsCert,
    build_ssl_context,
    load_certs,
    load_key,
)
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
    "PROBLEM_JSON",
    "AcceptBackoff",
    "AccessEntry",
    "AnyMessage",
    "Carrier",
    "ClientAuth",
    "ConfigError",
    "ConnInfo",
    "ConnectionClosed",
    "Deflate",
    "Disconnected",
    "Extensions",
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
    "MissingState",
    "Multipart",
    "Next",
    "OtherPeer",
    "Part",
    "PeerAddr",
    "Problem",
    "ProtocolError",
    "ProtocolViolation",
    "ProxyHeader",
    "ProxyPolicy",
    "ProxyProtocolError",
    "ProxyTlsInfo",
    "ProxyTlv",
    "ProxyTransport",
    "ProxyVersion",
    "Redirect",
    "ReloadableResolver",
    "RemoteProtocolError",
    "Request",
    "RequestId",
    "Responder",
    "Response",
    "Route",
    "RouteConflictError",
    "Router",
    "Server",
    "ServerConfig",
    "ServerStatistics",
    "Sse",
    "SseEvent",
    "TakoError",
    "TakoWs",
    "TlsCert",
    "TlsConfigError",
    "TlsInfo",
    "UnixPeer",
    "WebSocket",
    "WebSocketCounts",
    "WsError",
    "WsKeepAlive",
    "__version__",
    "access_log",
    "bind",
    "build_ssl_context",
    "ctrl_c",
    "default_problem_responder",
    "https_redirect",
    "into_response",
    "load_certs",
    "load_key",
    "normalize_origin",
    "parse_proxy_header",
    "read_proxy_protocol",
    "request_id",
    "run",
    "serve",
    "serve_tls",
    "sleep",
]


def _adopt_names() -> None:
    """Show, document and pickle names as what users import them as."""
    for name in __all__:
        value = globals()[name]
        if getattr(value, "__module__", "").startswith("tako."):
            value.__module__ = __name__


_adopt_names()
del _adopt_names
escape_in_logs()
del escape_in_logs
