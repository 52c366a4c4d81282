"""A blocking HTTP and WebSocket client for tests. It shares no code with the server.

    with connect(address, "h2", tls=context) as connection:
        ws = connection.websocket("/ws/echo", subprotocols=["chat"])
        ws.echo("hello")
        ws.close(1000)
        assert ws.expect_close() == (1000, "")

Both wires offer the same methods; what only one of them has (streams, frames, GOAWAY; a
raw head) is on ``H2Connection`` and ``H1Connection``.
"""

import ssl
from typing import Literal, TypeAlias

from tests.support.peer_h1 import H1Connection
from tests.support.peer_h2 import STREAM_WINDOW, H2Connection
from tests.support.peer_io import Address, Socket


Wire: TypeAlias = Literal["h1", "h1s", "h2", "h2c"]
PeerConnection: TypeAlias = H1Connection | H2Connection

ALPN: dict[str, str] = {"h1s": "http/1.1", "h2": "h2"}


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
    """
    encrypted = wire in ALPN
    if encrypted:
        assert tls is not None, f"{wire} needs a TLS context"
    sock = Socket(
        address,
        tls if encrypted else None,
        alpn=ALPN.get(wire),
        receive_buffer=receive_buffer,
    )
    authority = f"localhost:{address[1]}"
    try:
        if sock.tls is not None:
            assert sock.tls.selected_alpn_protocol() == ALPN[wire]
        if wire in {"h1", "h1s"}:
            return H1Connection(sock, authority)
        scheme = "https" if encrypted else "http"
        return H2Connection(sock, authority, scheme, stream_window=stream_window)
    except BaseException:
        sock.close()
        raise


def connect_h1(address: Address, tls: ssl.SSLContext | None = None) -> H1Connection:
    """``connect`` for a test that is about HTTP/1.1."""
    connection = connect(address, "h1s" if tls else "h1", tls)
    assert isinstance(connection, H1Connection)
    return connection


def connect_h2(
    address: Address,
    tls: ssl.SSLContext | None = None,
    *,
    stream_window: int = STREAM_WINDOW,
) -> H2Connection:
    """``connect`` for a test that is about HTTP/2."""
    wire: Wire = "h2" if tls else "h2c"
    connection = connect(address, wire, tls, stream_window=stream_window)
    assert isinstance(connection, H2Connection)
    return connection
