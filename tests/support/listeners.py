"""Servers on other listeners than a plain port, and clients that reach them."""

import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import tako
from tako.testing.peer import ALPN, PeerConnection, Wire
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import STREAM_WINDOW, H2Connection
from tako.testing.peer.io import Address, Socket, shake_hands
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials, RunningServer, RuntimeName


Serve: TypeAlias = Callable[..., Awaitable[None]]
"""Called with a listener and the router, ``shutdown=`` and ``config=``."""


class ListeningServer(RunningServer):
    """A server that ``serve`` runs on the listener that ``bind`` makes."""

    def __init__(
        self,
        router: tako.Router,
        serve: Serve,
        *,
        runtime: RuntimeName,
        credentials: Credentials,
        config: tako.ServerConfig | None = None,
        bind: Callable[[], Awaitable[tako.Listener]] | None = None,
    ) -> None:
        super().__init__(
            router, wire="h1", runtime=runtime, credentials=credentials, config=config
        )
        self._how = serve
        self._bind = bind

    async def _serve(self) -> None:
        if self._bind is None:
            listener = await tako.bind("127.0.0.1:0")
            self.address = ("127.0.0.1", listener.port)
        else:
            listener = await self._bind()
        self._ready.set()
        shutdown, config = self._shutdown.wait, self._config
        await self._how(listener, self.router, shutdown=shutdown, config=config)


class ConnectedSocket(Socket):
    """A client's socket that was connected before, by whatever family."""

    def __init__(  # replaces how the socket is made, and nothing else
        self,
        raw: socket.socket,
        tls: ssl.SSLContext | None,
        first: bytes,
        alpn: str | None,
    ) -> None:
        try:
            raw.settimeout(TIMEOUT)
            raw.sendall(first)
            self._socket = raw
            if tls is not None:
                self._socket = shake_hands(raw, tls, alpn=alpn)
        except BaseException:
            raw.close()
            raise
        self.bytes_sent = 0
        self.clean_eof = None


def connect_to(
    where: Address | str,
    wire: Wire,
    tls: ssl.SSLContext | None = None,
    *,
    first: bytes = b"",
) -> PeerConnection:
    """Connect to a port or a Unix socket, send ``first``, then speak ``wire``."""
    raw: Any = socket.socket(
        socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    )
    try:
        raw.connect(where)
    except BaseException:
        raw.close()
        raise
    encrypted = wire in ALPN
    if encrypted:
        assert tls is not None
    sock = ConnectedSocket(raw, tls if encrypted else None, first, ALPN.get(wire))
    if wire in {"h1", "h1s"}:
        return H1Connection(sock, "localhost")
    scheme = "https" if encrypted else "http"
    return H2Connection(sock, "localhost", scheme, stream_window=STREAM_WINDOW)
