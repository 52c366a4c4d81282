"""A test kit: servers on a real port, and clients that speak to them on any wire.

``serve`` serves a router or an ASGI app for the length of a block, on HTTP/1.1 or
HTTP/2, with TLS or without, on asyncio or on trio; ``server.connect`` opens a
WebSocket, ``server.async_connect`` one for an async test, ``server.client`` is an HTTP
client. The extra ``tako-server[testing]`` installs what it needs. ``import tako`` does
not import it.
"""

import sys


try:
    from tako.testing.clock import ServerClock
    from tako.testing.peer import PeerConnection, Wire
    from tako.testing.peer.frames import Frame, FrameType, GoAway
    from tako.testing.peer.h1 import H1Connection
    from tako.testing.peer.h2 import H2Connection
    from tako.testing.peer.io import (
        EndOfStreamError,
        PeerError,
        PeerResponse,
        StreamResetError,
        WireError,
    )
    from tako.testing.peer.stream import H2Stream
    from tako.testing.peer.websocket import (
        Close,
        HandshakeRefusedError,
        PeerWebSocket,
        Ping,
        Pong,
    )
    from tako.testing.serving import RunningServer, RuntimeName, Serve, serve
    from tako.testing.tcp_proxy import TcpProxy
    from tako.testing.websocket import ClientWebSocket
except ModuleNotFoundError as _error:
    if (_error.name or "").startswith("tako"):
        raise
    _msg = f"no module {_error.name!r}: pip install 'tako-server[testing]'"
    raise ModuleNotFoundError(_msg, name=_error.name) from None
from tako.testing.errors import ReportedError


__all__ = [  # noqa: RUF022 - by theme
    # a server
    "serve",
    "RunningServer",
    "Serve",
    "ServerClock",
    "TcpProxy",
    "RuntimeName",
    "Wire",
    "ReportedError",
    # a client
    "ClientWebSocket",
    "PeerWebSocket",
    "Close",
    "Ping",
    "Pong",
    "PeerConnection",
    "H1Connection",
    "H2Connection",
    "H2Stream",
    "Frame",
    "FrameType",
    "GoAway",
    "PeerResponse",
    # what a client raises
    "PeerError",
    "EndOfStreamError",
    "HandshakeRefusedError",
    "StreamResetError",
    "WireError",
]


def _adopt_names() -> None:
    """Show, document and pickle names as what users import them as."""
    for name in __all__:
        value = getattr(sys.modules[__name__], name)
        if getattr(value, "__module__", "").startswith("tako."):
            value.__module__ = __name__


_adopt_names()
del _adopt_names
