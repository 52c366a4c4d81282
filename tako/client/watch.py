"""``Watch``: has the silence of a client's connections noticed, while it has any."""

from typing import TYPE_CHECKING

from tako.client.connection import ClientConnection
from tako.config import ServerConfig
from tako.tcp.silence import SilenceWatch


if TYPE_CHECKING:
    from tako.tcp.connection import TcpConnection


class Watch:
    """One ``SilenceWatch`` for all connections of a client."""

    def __init__(self, config: ServerConfig) -> None:
        """Begin without a connection; ``config`` says how long silence may last."""
        self._config = config
        self._connections: set[TcpConnection] = set()
        self._watch: SilenceWatch | None = None

    def add(self, connection: ClientConnection) -> None:
        """Look at ``connection`` from now on."""
        if self._config.ws_ping_interval is None:
            return
        self._connections.add(connection)
        if self._watch is None:
            self._watch = SilenceWatch(
                connection.runtime, self._config, self._connections
            )

    def remove(self, connection: ClientConnection) -> None:
        """Look at ``connection`` no more; a no-op if it was not added."""
        self._connections.discard(connection)
        if not self._connections and self._watch is not None:
            self._watch.stop()
            self._watch = None
