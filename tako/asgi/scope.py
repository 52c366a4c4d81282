"""The scope of a request: what an ASGI app is called with.

The scope of a WebSocket is the same on both wires but for ``http_version``: what only
the handshake of HTTP/1.1 needs (``Connection``, ``Upgrade``, ``Sec-WebSocket-Key``) is
not in it.
"""

import functools
import ssl
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from cryptography import x509

from tako.asgi.fields import is_hop_by_hop
from tako.asgi.protocol import VERSIONS
from tako.http.conn_info import (
    Carrier,
    ConnInfo,
    IpPeer,
    PeerAddr,
    TlsInfo,
    UnixPeer,
    scheme_of,
)
from tako.http.request import Request
from tako.http.request_facts import RequestFacts, field_list


_TLS_VERSIONS: Final = {"TLSv1.2": 0x0303, "TLSv1.3": 0x0304}  # RFC 8446 §4.2.1

# What they say is that they are there: the dictionaries inside stay empty
_HTTP_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "http.response.trailers": {},
    "http.response.early_hint": {},
    "http.response.pathsend": {},
    "http.response.zerocopysend": {},
}
_WEBSOCKET_EXTENSIONS: Final[dict[str, dict[str, Any]]] = {
    "websocket.http.response": {}
}


_ASGI: Final[dict[str, str]] = VERSIONS  # compiled code would look the name up

_METHOD: Final = "GET"  # of most requests

# To be copied: to build a scope key by key takes three times as long
_HTTP: Final[dict[str, Any]] = {
    "type": "http",
    "asgi": None,
    "http_version": "1.1",
    "path": "",
    "raw_path": b"",
    "root_path": "",
    "query_string": b"",
    "client": None,
    "server": None,
    "scheme": "",
    "headers": None,
    "extensions": None,
    "method": _METHOD,
}


def http_scope(
    request: RequestFacts, root_path: str, state: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the scope of an ordinary request.

    Args:
        request: the request.
        root_path: a path prefix that a proxy in front has removed.
        state: what the app's lifespan has left, if that runs.
    """
    ends = _ends_of(request.conn_info)
    scope = ends.http.copy()
    if request.method != _METHOD:
        scope["method"] = request.method
    if request.scheme != ends.scheme:
        scope["scheme"] = request.scheme
    scope["headers"] = field_list(request)
    scope["extensions"] = _extended(_HTTP_EXTENSIONS, ends)
    _complete(scope, request, ends, root_path, state)
    return scope


def websocket_scope(
    request: Request, root_path: str, state: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Return the scope of a WebSocket handshake, alike for both wires.

    Args: as for ``http_scope``.
    """
    ends = _ends_of(request.conn_info)
    scope = ends.http.copy()
    del scope["method"]
    scope["type"] = "websocket"
    scope["scheme"] = "wss" if request.scheme == "https" else "ws"
    scope["headers"] = [f for f in request.headers.raw if not is_hop_by_hop(f)]
    scope["extensions"] = _extended(_WEBSOCKET_EXTENSIONS, ends)
    _complete(scope, request, ends, root_path, state)
    scope["subprotocols"] = offered_subprotocols(request)
    return scope


def offered_subprotocols(request: Request) -> list[str]:
    """Return the subprotocols that a client offers (RFC 6455 §11.3.4), in its order."""
    lines = request.headers.get_all("sec-websocket-protocol")
    names = (name.strip(" \t") for line in lines for name in line.split(","))
    return [name for name in names if name]


def mount_point(request: RequestFacts) -> str:
    """Return the part of the path in front of its route's catch-all, if it has one.

    A route that ends in a slash is the index of a mounted app.
    """
    pattern = request.matched_path
    if pattern is None or not pattern.endswith(("/", "}")):
        return ""
    rest = ""
    if pattern.endswith("}"):
        name = pattern.rpartition("{*")[2]
        if name == pattern or "{" in name:
            return ""
        rest = request.raw_path_params.get(name[:-1], "")
    point = request.path[: len(request.path) - len(rest)]
    return decoded(point.removesuffix("/"))


def decoded(path: str) -> str:
    """Return ``path`` percent-decoded, as text."""
    if "%" not in path and path.isascii():
        return path
    return unquote_to_bytes(path.encode("latin-1")).decode("utf-8", "replace")


def _complete(
    scope: dict[str, Any],
    request: RequestFacts,
    ends: "_Ends",
    root_path: str,
    state: dict[str, Any] | None,
) -> None:
    """Set what scopes of both kinds say of a request."""
    path, query = request.path, request.query
    if ends.prefix:  # what the proxy says itself counts
        root_path = ends.prefix
    raw_path = path.encode()
    text = path
    if len(raw_path) != len(path):  # not ASCII
        raw_path = path.encode("latin-1", "replace")
        text = decoded(path)
    elif "%" in path:
        text = decoded(path)
    mounted = ""
    if request.matched_path is not None:
        mounted = mount_point(request)
    if root_path:
        # The prefix that a proxy took away belongs to the path, one that a route
        # consumed still is a part of it.
        raw_path = quote(root_path).encode() + raw_path
        text = root_path + text
    scope["asgi"] = _ASGI.copy()
    if request.http_version != ends.version:
        scope["http_version"] = request.http_version
    scope["path"] = text
    scope["raw_path"] = raw_path
    if root_path or mounted:
        scope["root_path"] = root_path + mounted
    if query:
        scope["query_string"] = query.encode("latin-1")
    scope["client"] = ends.client
    if state is not None:
        scope["state"] = state.copy()


def _extended(
    extensions: dict[str, dict[str, Any]], ends: "_Ends"
) -> dict[str, dict[str, Any]]:
    extended = extensions.copy()
    if ends.tls is not None:
        extended["tls"] = ends.tls.copy()
    return extended


class _Ends:
    """What the scopes of all requests of a connection say."""

    __slots__ = ("client", "http", "prefix", "scheme", "tls", "version")

    def __init__(
        self,
        server: tuple[str, int | None] | None = None,
        scheme: str = "http",
        version: str = "1.1",
        client: tuple[str, int] | None = None,
        prefix: str = "",
        tls: dict[str, Any] | None = None,
    ) -> None:
        self.http: dict[str, Any] = _template(server, scheme, version)
        self.scheme: str = scheme
        self.version: str = version
        self.client: tuple[str, int] | None = client
        self.prefix: str = prefix
        self.tls: dict[str, Any] | None = tls


@functools.lru_cache(maxsize=64)
def _template(
    server: tuple[str, int | None] | None, scheme: str, version: str
) -> dict[str, Any]:
    """Return the scope of most requests that come to an address; to be copied."""
    said = {"http_version": version, "server": server, "scheme": scheme}
    return {**_HTTP, **said}


_NO_ENDS: Final = _Ends()


def _ends_of(info: ConnInfo | None) -> _Ends:
    """Return what scopes say of a connection; it is kept there."""
    if info is None:
        return _NO_ENDS
    kept = info.kept
    if isinstance(kept, _Ends):
        return kept
    peer, forwarded = info.peer, info.forwarded
    ends = _Ends(
        _server(info.local),
        scheme_of(info),
        "2" if info.transport is Carrier.HTTP2 else "1.1",
        (peer.host, peer.port) if isinstance(peer, IpPeer) else None,
        "" if forwarded is None else decoded(forwarded.prefix),
        None if info.tls is None else tls_extension(info.tls),
    )
    object.__setattr__(info, "kept", ends)  # it is frozen: what it says stays
    return ends


def _server(local: PeerAddr) -> tuple[str, int | None] | None:
    if isinstance(local, IpPeer):
        return local.host, local.port
    if isinstance(local, UnixPeer) and local.path is not None:
        return local.path, None
    return None


def tls_extension(info: TlsInfo) -> dict[str, Any]:
    """Return ASGI's ``tls`` extension; what is not known is ``None``."""
    return _tls_facts(info.version, info.cipher, info.peer_cert).copy()


@functools.lru_cache(maxsize=256)
def _tls_facts(version: str, cipher: str, peer_cert: bytes | None) -> dict[str, Any]:
    return {
        "server_cert": None,
        "client_cert_chain": _pem_chain(peer_cert),
        "client_cert_name": _subject(peer_cert),
        "client_cert_error": None,
        "tls_version": _TLS_VERSIONS.get(version),
        "cipher_suite": _cipher_suites().get(cipher),
    }


def _pem_chain(der: bytes | None) -> tuple[str, ...]:
    return () if der is None else (ssl.DER_cert_to_PEM_cert(der),)


def _subject(der: bytes | None) -> str | None:
    if der is None:
        return None
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


@functools.cache
def _cipher_suites() -> dict[str, int]:
    """Return the registered numbers of the suites that OpenSSL knows, by its names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL")
    return {suite["name"]: suite["id"] & 0xFFFF for suite in context.get_ciphers()}


def tls_version_name(number: int | None) -> str:
    """Return the name of a TLS version, ``""`` if it is not known."""
    names = {number: name for name, number in _TLS_VERSIONS.items()}
    return "" if number is None else names.get(number, "")


def cipher_name(number: int | None) -> str:
    """Return OpenSSL's name of a cipher suite, ``""`` if it is not known."""
    if number is None:
        return ""
    names = {number: name for name, number in _cipher_suites().items()}
    return names.get(number, "")
