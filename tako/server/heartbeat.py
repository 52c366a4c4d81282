"""``HeartbeatTimer``: what keeps a silent event stream alive (see ``http.sse``)."""

from tako.core.seams import Exchange
from tako.http.sse import Heartbeat


class HeartbeatTimer:
    """Sends a body's heartbeat while its source is silent.

    For ``send_response``: call ``restart`` after each chunk that was sent, and
    ``stop`` at the end.
    """

    __slots__ = ("_deadline", "_exchange", "_heartbeat")

    def __init__(self, exchange: Exchange, heartbeat: Heartbeat) -> None:
        self._exchange = exchange
        self._heartbeat = heartbeat
        self._deadline = exchange.connection.deadlines.new(self._beat)
        self.restart()

    def restart(self) -> None:
        """Wait for a whole period from now."""
        self._deadline.set(self._exchange.connection.time() + self._heartbeat.period)

    def stop(self) -> None:
        """Send nothing more."""
        self._deadline.close()

    def _beat(self) -> None:
        exchange = self._exchange
        if exchange.over:
            return
        if exchange.writable:  # else there is output waiting: the peer is not idle
            exchange.send_data(self._heartbeat.data)
            exchange.bytes_sent += len(self._heartbeat.data)
            exchange.flush()
        self.restart()
