"""``KeepAlive``: pings a silent peer and gives up on one that does not answer.

Theory of operation. One deadline and no task. It is set to the moment when the peer
will have been silent for ``ping_interval``. After a Ping it is set to the next moment
at which something can be decided: another Ping is due, or ``pong_timeout`` has passed.
Any bytes that arrive show that the peer is alive: RFC 6455 §5.5.2 asks for a Pong, but
data proves as much. Where the peer cannot send, because the session does not read what
came before, its silence proves nothing.

This is for routes with a ``WsKeepAlive`` of their own. Other peers are looked after by
the server, for all connections at once (``tcp.silence``).

Invariant: without ``pong_timeout`` a peer is pinged, but never given up.
"""

import math
from typing import TYPE_CHECKING

from tako.ws.options import WsKeepAlive


if TYPE_CHECKING:
    from tako.ws.conversation import Conversation


class KeepAlive:
    """The watch over one conversation."""

    __slots__ = (
        "_connection",
        "_conversation",
        "_count",
        "_deadline",
        "_heard",
        "_interval",
        "_pinged",
        "_timeout",
    )

    def __init__(self, conversation: "Conversation", options: WsKeepAlive) -> None:
        self._conversation = conversation
        self._interval = options.ping_interval or math.inf  # auto comes with a number
        self._timeout = options.pong_timeout
        self._connection = connection = conversation.tunnel.connection
        self._heard = connection.time()
        self._pinged: float | None = None  # when the Ping was sent that is unanswered
        self._count = 0
        self._deadline = connection.deadlines.new(self._reached)
        self._deadline.set(self._heard + self._interval)

    def heard(self) -> None:
        """Note that the peer is alive: bytes came from it."""
        self._heard = self._connection.time()
        self._pinged = None

    def stop(self) -> None:
        """Watch no longer: closing has begun."""
        self._deadline.close()

    def _reached(self) -> None:
        if not self._conversation.can_send:
            return  # closing has begun: another deadline watches over it
        now = self._connection.time()
        if not self._conversation.tunnel.listening:
            self.heard()
        pinged, timeout = self._pinged, self._timeout
        if pinged is not None and timeout is not None:
            if now < pinged + timeout:
                self._deadline.set(pinged + timeout)
            else:
                self._conversation.lose()
            return
        due = (self._heard if pinged is None else pinged) + self._interval
        if now < due:
            self._deadline.set(due)
            return
        self._count += 1
        self._conversation.send_ping(b"tako %d" % self._count)
        self._conversation.tunnel.flush()
        self._pinged = now
        wait = self._interval if timeout is None else min(timeout, self._interval)
        self._deadline.set(now + wait)
