"""``ServerClock``: the time of a server in a test, moved ahead without waiting.

The clock of the server's event loop is ``ahead`` seconds fast, so all that waits by
that clock is due at once: timeouts, keep-alives and lifetimes of the server, and sleeps
of the app. It moves in small steps, with turns of the loop in between: tako takes one
big step for a loop that was blocked, and would be patient with its peers.
"""

import threading
from collections.abc import Callable

from tako.testing.patience import Deadline


_STEP = 0.05  # seconds; less than what tako takes for a loop that runs late
_TURNS = 3  # of the loop for each step


class ServerClock:
    """The clock of a server's event loop.

    Attributes:
        ahead: how many seconds it has been moved so far.
    """

    def __init__(self) -> None:
        """Not for tests: each server has one."""
        self.ahead: float = 0.0
        self._call: Callable[[Callable[[], object]], object] | None = None

    def drive(self, call: Callable[[Callable[[], object]], object]) -> None:
        """Take what has the server's loop call a function; for the server."""
        self._call = call

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass for the server, and return when they have.

        Its timers fire as if it had waited, in their order, and the tasks that they
        wake run. Clients do not get that time: what the server asks for meanwhile is
        not answered, not even SETTINGS of HTTP/2 if the client has never read.
        The wall clock (``Date``), the kernel's timers and other threads
        stay as they are. An hour takes a few seconds.

        Args:
            seconds: how far; not negative.

        Raises:
            RuntimeError: the server does not run, or runs on uvloop, whose clock
                cannot be moved.
            TimeoutError: its loop is blocked.

        Example::

            ws.ignore_pings()
            server.clock.advance(45)  # ws_ping_interval and ws_ping_timeout
        """
        if self._call is None:
            msg = "only a server that runs, on asyncio or on trio, has such a clock"
            raise RuntimeError(msg)
        left = seconds
        while left > 0:
            self.ahead += min(left, _STEP)
            left -= _STEP
            for _ in range(_TURNS):
                turn = threading.Event()
                self._call(turn.set)
                if not turn.wait(Deadline().left()):
                    msg = "the loop of the server is blocked"
                    raise TimeoutError(msg)
