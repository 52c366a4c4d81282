"""Flow control: what the peer may send, and whose turn it is to be sent to.

Theory of operation. Inbound, the connection is credited on receipt and a stream on
consumption (RFC 9113 §5.2.2 leaves the policy to the receiver). The connection's window
is larger than a stream's. So a stream whose reader stopped pins its own window and
nothing else, and memory is bounded by streams times stream window. Credit is given in
steps of half a window, to keep WINDOW_UPDATE frames rare.

Outbound, ``h2`` knows the windows; ``SendQueue`` knows the order. An exchange with
pending output is in the queue while its stream's window is open and is sent one frame
of each turn; one whose window is shut leaves the queue until a WINDOW_UPDATE.

Invariant: ``left`` of a ``ReceiveWindow`` + what was received and not credited =
``size``.
"""

from collections import deque
from typing import TYPE_CHECKING

from tako.config import WireConfig
from tako.core.seams import Connection
from tako.h2.frames import DEFAULT_WINDOW, MAX_WINDOW, window_update
from tako.h2.h2_library import Library


if TYPE_CHECKING:
    from tako.h2.exchange import H2Exchange


_CONNECTION_WINDOW = 1 << 20


class ReceiveWindow:
    """The connection's inbound window, credited on receipt."""

    __slots__ = ("_size", "left")

    def __init__(self, config: WireConfig) -> None:
        wanted = max(_CONNECTION_WINDOW, 2 * config.h2_initial_window_size)
        self._size = min(wanted, MAX_WINDOW)
        self.left: int = DEFAULT_WINDOW
        """Bytes that the peer may still send; below zero it has sent too much."""

    def credit(self) -> bytes:
        """Return a WINDOW_UPDATE that fills the window up, or nothing while it is full.

        Called after each read, when nothing that was received is outstanding.
        """
        missing = self._size - self.left
        if missing < self._size >> 1 and self.left >= DEFAULT_WINDOW:
            return b""
        self.left = self._size
        return window_update(0, missing)


class SendQueue:
    """The exchanges that have output pending and a window to send it in, in turn."""

    __slots__ = ("_connection", "_library", "_turns")

    def __init__(self, connection: Connection, library: Library) -> None:
        self._connection = connection
        self._library = library
        self._turns: deque[H2Exchange] = deque()

    def add(self, exchange: "H2Exchange") -> None:
        """Let ``exchange`` have its turn after all others; twice is once."""
        if not exchange.queued:
            exchange.queued = True
            self._turns.append(exchange)

    def pump(self) -> None:
        """Send one frame of each in turn, until the connection takes no more."""
        turns, library, connection = self._turns, self._library, self._connection
        while (
            turns and library.outbound_flow_control_window > 0 and connection.writable
        ):
            exchange = turns.popleft()
            exchange.queued = False
            if exchange.send_turn():
                self.add(exchange)
