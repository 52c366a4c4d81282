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
from tako.server.aliases import (
    serve_h2c_with_config,
    serve_h2c_with_shutdown,
    serve_h2c_with_shutdown_and_config,
    serve_tls_with_config,
    serve_tls_with_shutdown,
    serve_tls_with_shutdown_and_config,
    serve_with_config,
    serve_with_shutdown,
    serve_with_shutdown_and_config,
)
from tako.server.listener import Listener, bind, bind_with_port_fallback
from tako.server.server import Server, ServerBuilder, ServerHandle
from tako.server.serving import (
    serve,
    serve_any,
    serve_h2c,
    serve_http_with_proxy_protocol,
    serve_tls,
    serve_unix_http,
)
from tako.server.systemd import ListenFds
from tako.server.unix import bind_unix
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
    "ListenFds",
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
    "UnixPeer",
    "WebSocket",
    "WebSocketCounts",
    "WsError",
    "WsKeepAlive",
    "__version__",
    "access_log",
    "bind",
    "bind_unix",
    "bind_with_port_fallback",
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
    "serve_any",
    "serve_h2c",
    "serve_h2c_with_config",
    "serve_h2c_with_shutdown",
    "serve_h2c_with_shutdown_and_config",
    "serve_http_with_proxy_protocol",
    "serve_tls",
    "serve_tls_with_config",
    "serve_tls_with_shutdown",
    "serve_tls_with_shutdown_and_config",
    "serve_unix_http",
    "serve_with_config",
    "serve_with_shutdown",
    "serve_with_shutdown_and_config",
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
