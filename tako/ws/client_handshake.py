"""The opening handshake from the client's side, on both wires (RFC 6455 §4.1, 8441 §5).

``handshake`` answers what is asked here.
"""

import base64
import os
from collections.abc import Sequence

from tako.http.answer import HandshakeResponse
from tako.http.grammar import has_token
from tako.http.headers import RawHeader
from tako.ws.deflate import accept_answer, offer
from tako.ws.handshake import accept_key, parse_extensions
from tako.ws.options import DeflateParams, WsOptions


OWN: frozenset[bytes] = frozenset(
    {
        b"connection",
        b"content-length",
        b"sec-websocket-accept",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"te",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that the handshake writes, or that it cannot have."""


def new_key() -> bytes:
    """Return a key for HTTP/1.1 (RFC 6455 §4.1: 16 random bytes)."""
    return base64.b64encode(os.urandom(16))


def offer_fields(options: WsOptions) -> list[RawHeader]:
    """Return what a client asks for, on either wire."""
    fields: list[RawHeader] = [(b"sec-websocket-version", b"13")]
    if options.protocols:
        names = ", ".join(options.protocols).encode("ascii")
        fields.append((b"sec-websocket-protocol", names))
    if options.compression is not None:
        extension = offer(options.compression).encode("ascii")
        fields.append((b"sec-websocket-extensions", extension))
    return fields


def h1_head(
    target: bytes, authority: bytes, key: bytes, fields: Sequence[RawHeader]
) -> bytes:
    """Return the head of the request that asks for a WebSocket over HTTP/1.1."""
    lines = [
        b"GET %b HTTP/1.1\r\nhost: %b\r\n" % (target, authority),
        b"upgrade: websocket\r\nconnection: Upgrade\r\n",
        b"sec-websocket-key: %b\r\n" % key,
        *[b"%b: %b\r\n" % field for field in fields],
        b"\r\n",
    ]
    return b"".join(lines)


def h2_fields(
    target: bytes, authority: bytes, scheme: bytes, fields: Sequence[RawHeader]
) -> list[RawHeader]:
    """Return the fields of the extended CONNECT that asks for one over HTTP/2."""
    return [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":scheme", scheme),
        (b":authority", authority),
        (b":path", target),
        *fields,
    ]


def check_response(
    response: HandshakeResponse, options: WsOptions, key: bytes
) -> tuple[str | None, DeflateParams | None]:
    """Return the subprotocol and the compression that a server has agreed to.

    Args:
        response: 101, or 2xx on HTTP/2.
        options: what was offered.
        key: what was sent on HTTP/1.1. On HTTP/2 there is no proof (RFC 8441 §5); one
            that comes all the same is ignored.

    Raises:
        ValueError: the response breaks a rule (RFC 6455 §4.1), which the text names.
    """
    headers = response.headers
    if response.http_version == "1.1":
        if not has_token(headers.get_all_raw(b"upgrade"), b"websocket"):
            msg = "the answer does not upgrade to websocket"
            raise ValueError(msg)
        if not has_token(headers.get_all_raw(b"connection"), b"upgrade"):
            msg = "the answer has no Connection: Upgrade"
            raise ValueError(msg)
        if headers.get_all_raw(b"sec-websocket-accept") != [accept_key(key)]:
            msg = "Sec-WebSocket-Accept is not that of our key"
            raise ValueError(msg)
    return _subprotocol(response, options), _deflate(response, options)


def _subprotocol(response: HandshakeResponse, options: WsOptions) -> str | None:
    lines = response.headers.get_all("sec-websocket-protocol")
    if not lines:
        return None
    if len(lines) > 1 or lines[0] not in options.protocols:
        msg = f"nobody asked for the subprotocol {', '.join(lines)!r}"
        raise ValueError(msg)
    return lines[0]


def _deflate(response: HandshakeResponse, options: WsOptions) -> DeflateParams | None:
    lines = response.headers.get_all_raw(b"sec-websocket-extensions")
    if not b"".join(lines).strip():
        return None
    extensions = parse_extensions(lines)
    if len(extensions) == 1 and options.compression is not None:
        name, params = extensions[0]
        if name == "permessage-deflate":
            return accept_answer(params, options.compression)
    text = b", ".join(lines).decode("latin-1")
    msg = f"the extensions {text!r} are not what was offered"
    raise ValueError(msg)
