"""``ClientTlsPipe``: the client's side of one TLS connection."""

import ssl
import threading
from collections.abc import Sequence
from typing import Final

from tako.core.turn import Turn
from tako.tls.pipe import MAX_IDLE, TlsPipe


_alpn: Final = threading.Lock()


class ClientTlsPipe(TlsPipe):
    """A ``TlsPipe`` whose first flight is queued from the start."""

    __slots__ = ()

    def __init__(
        self,
        context: ssl.SSLContext,
        server_hostname: str | None,
        protocols: Sequence[str],
        turn: Turn | None = None,
        *,
        max_idle: int = MAX_IDLE,
    ) -> None:
        """Begin the handshake: ``data_to_send`` returns the hello.

        Args:
            context: the user's: whom it trusts, and who we are.
            server_hostname: the name that is asked for, and that the certificate must
                have; an IP address is one.
            protocols: those offered by ALPN (RFC 7301), in order of preference.
            turn: the connection's budget; ``None``: all is decrypted at once.
            max_idle: records without data before the connection is closed.

        Raises:
            ssl.SSLError: the context is not one for clients.
            ValueError: ``server_hostname`` cannot be a server name, or the context
                wants one and there is none.
        """
        super().__init__(turn, max_idle=max_idle)
        # A context cannot be copied, and may serve others at the same time: what is
        # set here is read by ``wrap_bio`` before anyone else can set it.
        with _alpn:
            context.set_alpn_protocols(list(protocols))
            self.begin(context, server_side=False, sni=server_hostname)
