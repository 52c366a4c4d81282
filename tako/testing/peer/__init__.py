"""A blocking HTTP and WebSocket client for tests. It shares no code with the server.

    with connect(address, "h2", tls=context) as connection:
        ws = connection.websocket("/ws/echo", subprotocols=["chat"])
        ws.echo("hello")
        ws.close(1000)
        ws.expect_close(1000)

Both versions of HTTP offer the same methods; what only one of them has (streams,
frames, GOAWAY; a raw head) is on ``H2Connection`` and ``H1Connection``. HTTP/2 is
spoken by ``h2``, WebSocket by ``wsproto``, HTTP/1.1 by hand.
"""

import ssl
from typing import Literal, TypeAlias

from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import STREAM_WINDOW, H2Connection
from tako.testing.peer.io import Address, PeerError, Socket


Wire: TypeAlias = Literal["h1", "h1s", "h2", "h2c"]
"""HTTP/1.1 without and with TLS, HTTP/2 with TLS and without (prior knowledge)."""
PeerConnection: TypeAlias = H1Connection | H2Connection

ALPN: dict[str, str] = {"h1s": "http/1.1", "h2": "h2"}
"""What the wires with TLS ask for, and insist on."""


def connect(
    address: Address,
    wire: Wire,
    tls: ssl.SSLContext | None = None,
    *,
    receive_buffer: int | None = None,
    stream_window: int = STREAM_WINDOW,
) -> PeerConnection:
    """Connect over ``wire``: HTTP/1.1 or HTTP/2, plain or TLS.

    Args:
        address: where the server listens.
        wire: ``h1`` and ``h2c`` are plain, ``h1s`` and ``h2`` ask for their protocol by
            ALPN and insist on getting it.
        tls: the client's context for ``h1s`` and ``h2``; its ALPN list is set.
        receive_buffer: size of the kernel's buffer, small for tests of backpressure.
        stream_window: HTTP/2: what a stream may hold unread.

    Raises:
        PeerError: the server chose another protocol.
        OSError: it cannot be reached, or TLS failed.
        ValueError: there is no context for TLS.
    """
    encrypted = wire in ALPN
    if encrypted and tls is None:
        msg = f"{wire} needs a TLS context"
        raise ValueError(msg)
    sock = Socket(
        address,
        tls if encrypted else None,
        alpn=ALPN.get(wire),
        receive_buffer=receive_buffer,
    )
    authority = f"localhost:{address[1]}"
    try:
        if sock.tls is not None:
            chosen = sock.tls.selected_alpn_protocol()
            if chosen != ALPN[wire]:
                msg = f"the server chose {chosen} by ALPN, and not {ALPN[wire]}"
                raise PeerError(msg)
        if wire in {"h1", "h1s"}:
            return H1Connection(sock, authority)
        scheme = "https" if encrypted else "http"
        return H2Connection(sock, authority, scheme, stream_window=stream_window)
    except BaseException:
        sock.close()
        raise


def url_of(scheme: str, wire: Wire, address: Address) -> str:
    """Return the URL of a server: ``http`` and ``ws`` get an ``s`` for TLS."""
    host, port = address
    return f"{scheme}{'s' if wire in ALPN else ''}://{host}:{port}"
