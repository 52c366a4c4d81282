"""``ClientConnection``: a ``TcpConnection`` that begins the TLS handshake itself."""

import ssl
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from tako.client.proxy_pipe import ProxyPipe
from tako.client.proxy_step import ProxyStep
from tako.config import ServerConfig
from tako.core.counters import Counters
from tako.core.loop import Runtime, Transport
from tako.core.seams import Exchange
from tako.http.conn_info import PeerAddr
from tako.tcp.connection import ConnectionState, TcpConnection
from tako.tcp.protocol import Engines, Protocol
from tako.tls.client_pipe import ClientTlsPipe


_ALPN: Final = ("http/1.1",)  # what is spoken to a proxy
_COUNTERS: Final = Counters()  # of all clients; they are not exposed


class ClientConnection(TcpConnection):
    """A connection to a server; what happens to it is told to whoever opens it.

    Attributes:
        tls_error: why TLS failed, for a message; ``None`` unless it has.
        tls_cause: the exception behind that.
    """

    __slots__ = ("_on_state", "tls_cause", "tls_error")

    def __init__(
        self,
        runtime: Runtime,
        config: ServerConfig,
        *,
        engines: Engines,
        protocol: Protocol,
        peer: PeerAddr,
        local: PeerAddr,
        on_state: Callable[[], None],
        on_lost: Callable[[TcpConnection], None],
    ) -> None:
        """Make a connection without a transport yet.

        Args:
            runtime: the event loop.
            config: limits and timeouts; of a server's, a client needs little.
            engines: what speaks each protocol.
            protocol: what the server speaks; ``"tls"``: ``secure`` comes next.
            peer: the server's address.
            local: ours.
            on_state: called when the state has changed.
            on_lost: called once, when the socket is gone.
        """
        self._on_state = on_state
        self.tls_error: str | None = None
        self.tls_cause: Exception | None = None
        super().__init__(
            runtime,
            config,
            _no_handler,
            engines=engines,
            protocol=protocol,
            tls=None,
            peer=peer,
            local=local,
            on_lost=on_lost,
            counters=_COUNTERS,
        )

    def secure(
        self, context: ssl.SSLContext, server_hostname: str, protocols: Sequence[str]
    ) -> None:
        """Have the connection begin with TLS; see ``ClientTlsPipe``.

        Raises:
            ssl.SSLError: the context is not one for clients.
            ValueError: the host cannot be a server name.
        """
        self._pipe = ClientTlsPipe(
            context,
            server_hostname,
            protocols,
            self.turn,
            max_idle=self.config.tls_max_idle_records,
        )

    def approach(
        self, step: ProxyStep, context: ssl.SSLContext | None, host: str
    ) -> None:
        """Have the connection ask a proxy first; called after ``secure``, if that is.

        Args:
            step: what asks it.
            context: TLS to the proxy; ``None``: it is plain.
            host: the proxy's name.

        Raises:
            ssl.SSLError: the context is not one for clients.
            ValueError: the host cannot be a server name.
        """
        below = None
        if context is not None:
            most = self.config.tls_max_idle_records
            below = ClientTlsPipe(context, host, _ALPN, self.turn, max_idle=most)
        self._pipe = ProxyPipe(step, below, self._pipe)

    @property
    def unattached(self) -> bool:
        """There is no transport: not yet, or not any more."""
        return self._transport is None

    def connection_made(self, transport: Transport) -> None:
        """Start, as a server's connection does; a client's hello leaves at once."""
        super().connection_made(transport)
        self._flush_now()

    def _open(self, alpn: str | None) -> None:
        pipe = self._pipe
        if isinstance(pipe, ProxyPipe):
            self._pipe = pipe.remainder
        super()._open(alpn)

    def _enter(self, state: ConnectionState) -> None:
        pipe = self._pipe
        if pipe is not None and pipe.failed:
            self.tls_error, self.tls_cause = pipe.error, pipe.cause
        super()._enter(state)
        self._on_state()


def _no_handler(_: Exchange) -> NoReturn:
    """Stand in for the handler of requests, which a server does not send."""
    msg = "a client got a request"
    raise RuntimeError(msg)
