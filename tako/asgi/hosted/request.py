"""A ``Request`` from an ASGI scope, for routers that run on another server."""

import ssl
from collections.abc import Sequence
from typing import Any, cast
from urllib.parse import quote

from tako.asgi.protocol import Receive, Scope
from tako.asgi.scope import cipher_name, decoded, tls_version_name
from tako.errors import Disconnected
from tako.http.conn_info import Carrier, ConnInfo, IpPeer, PeerAddr, TlsInfo, UnixPeer
from tako.http.headers import Headers, RawHeader
from tako.http.request import Request
from tako.http.request_facts import Client
from tako.http.request_head import HttpVersion


# The host has verified the handshake; not every host shows what it verified.
_HANDSHAKE: tuple[RawHeader, ...] = (
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-key", b"AAAAAAAAAAAAAAAAAAAAAA=="),
    (b"sec-websocket-version", b"13"),
)
_REPLACED = frozenset(
    # Compression is between the host and the client.
    {name for name, _ in _HANDSHAKE} | {b"sec-websocket-extensions"}
)


class HostedBody:
    """A request body that comes in ASGI events; implements ``request.BodyReader``."""

    __slots__ = ("_receive", "complete")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.complete: bool = False

    async def next_chunk(self) -> bytes:
        """Return the next chunk, ``b""`` at the end.

        Raises:
            Disconnected: the client is gone.

        Cancel safety: that of the host's ``receive``.
        """
        while not self.complete:
            event = await self._receive()
            if event["type"] == "http.disconnect":
                raise Disconnected
            self.complete = not event.get("more_body")
            chunk: bytes = event.get("body") or b""
            if chunk:
                return chunk
        return b""


def http_request(
    scope: Scope, body: HostedBody, client: Client | None = None
) -> Request:
    """Return the request that a scope of type ``http`` describes."""
    fields = _fields(scope)
    return _request(scope, fields, scope["method"], client, body=body)


def websocket_request(scope: Scope, client: Client | None = None) -> Request:
    """Return the handshake that a scope of type ``websocket`` describes."""
    fields = [field for field in _fields(scope) if field[0] not in _REPLACED]
    version = (b"sec-websocket-version", b"13")
    fields += (version,) if _version(scope) == "2" else _HANDSHAKE
    return _request(scope, fields, "GET", client, protocol="websocket")


def _request(
    scope: Scope,
    fields: list[RawHeader],
    method: str,
    client: Client | None,
    *,
    body: HostedBody | None = None,
    protocol: str | None = None,
) -> Request:
    headers = Headers.from_raw(fields)
    return Request(
        method,
        _target(scope),
        headers,
        http_version=_version(scope),
        scheme="https" if scope.get("scheme") in {"https", "wss"} else "http",
        authority=headers.get("host"),
        protocol=protocol,
        body_reader=body,
        conn_info=_conn_info(scope),
        client=client,
    )


def _fields(scope: Scope) -> list[RawHeader]:
    return [(bytes(name).lower(), bytes(value)) for name, value in scope["headers"]]


def _version(scope: Scope) -> HttpVersion:
    version = scope.get("http_version", "1.1")
    return cast("HttpVersion", version) if version in {"1.0", "1.1"} else "2"


def _target(scope: Scope) -> str:
    """Return path and query, below the app's ``root_path``."""
    raw: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.partition(b"?")[0].decode()
    path = _below((scope.get("root_path") or "").rstrip("/"), path)
    query = bytes(scope.get("query_string") or b"").decode("latin-1")
    return f"{path}?{query}" if query else path


def _below(root: str, path: str) -> str:
    """Return what is left of ``path``, which is encoded, below ``root``, which is not.

    An older host leaves ``root`` out of the path.
    """
    size = len(root.encode())
    at = path.find("/", len(root)) if root else -1
    while 0 <= at <= 3 * size:  # encoded in full
        if decoded(path[:at]) == root:
            return path[at:]
        at = path.find("/", at + 1)
    return path


def _conn_info(scope: Scope) -> ConnInfo:
    wire = Carrier.HTTP2 if _version(scope) == "2" else Carrier.HTTP1
    extensions: dict[str, Any] = scope.get("extensions") or {}
    tls: Any = extensions.get("tls")
    return ConnInfo(
        _address(scope.get("client")),
        _address(scope.get("server")),
        wire,
        None if tls is None else _tls(tls, wire),
    )


def _address(address: Sequence[Any] | None) -> PeerAddr:
    if address is None:
        return UnixPeer()
    host, port = address
    return UnixPeer(str(host)) if port is None else IpPeer(str(host), int(port))


def _tls(facts: Any, wire: Carrier) -> TlsInfo:
    chain = list(facts.get("client_cert_chain") or ())
    return TlsInfo(
        tls_version_name(facts.get("tls_version")),
        cipher_name(facts.get("cipher_suite")),
        "h2" if wire is Carrier.HTTP2 else None,
        None,
        ssl.PEM_cert_to_DER_cert(chain[0]) if chain else None,
    )
