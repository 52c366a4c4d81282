"""``Linger``: a connection between our FIN and the peer's (RFC 9112 §9.6).

A socket that is closed while the peer still sends is answered with a reset, and the
reset destroys our last bytes before the peer has read them. So we read on and drop what
comes: until the peer's FIN, ``tls_shutdown_timeout`` seconds without one, or
``_MAX_DROPPED`` bytes. A peer that still takes our output has more time: how slowly it
may do that is for the connection's ``OutputWatch`` to judge.
"""

from typing import TYPE_CHECKING, Final


if TYPE_CHECKING:
    from tako.tcp.connection import TcpConnection


_MAX_DROPPED: Final = 16 << 20  # bytes


class Linger:
    """Waits for the peer's FIN; aborts the connection when it does not come."""

    __slots__ = ("_connection", "_deadline", "_dropped")

    def __init__(self, connection: "TcpConnection", fin_sent_at: float) -> None:
        """Begin to wait.

        Args:
            connection: the connection.
            fin_sent_at: when our FIN was sent, on its clock.
        """
        self._connection = connection
        self._dropped = 0
        self._deadline = connection.deadlines.new(self._reached)
        self._deadline.set(fin_sent_at + connection.config.tls_shutdown_timeout)

    def drop(self, size: int) -> None:
        """Account for ``size`` bytes of the peer that are dropped."""
        self._dropped += size
        if self._dropped > _MAX_DROPPED:
            self._connection.abort()

    def close(self) -> None:
        """Wait no longer: the connection is lost."""
        self._deadline.close()

    def _reached(self) -> None:
        """Give up waiting for the peer's FIN, unless the peer takes our output."""
        connection = self._connection
        if connection.output is None or connection.output.emptied():
            connection.abort()
        else:
            timeout = connection.config.tls_shutdown_timeout
            self._deadline.set(connection.time() + timeout)
