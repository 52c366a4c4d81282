"""``HeadClock``: how long an HTTP/1.1 connection waits for a request head."""

from collections.abc import Callable

from tako.core.seams import Connection


_LAST_HEAD = 1.0  # seconds for a request on its way when the server drains


class HeadClock:
    """The deadline of the next request head; stopped while there is an exchange.

    Args:
        connection: the connection.
        late: called when the time is up.
    """

    __slots__ = ("_config", "_connection", "_deadline", "_idle")

    def __init__(self, connection: Connection, late: Callable[[], None]) -> None:
        self._connection = connection
        self._config = connection.config
        self._deadline = connection.deadlines.new(late)
        self._idle = False  # between requests, on the keep-alive time
        self.expect()

    def expect(self) -> None:
        """A head is due, or has begun."""
        self._idle = False
        self._start(self._config.header_read_timeout)

    def idle(self) -> None:
        """A request is over, and nothing of another one is there."""
        timeout = self._config.keep_alive_timeout
        if timeout is None:
            self.expect()
        else:
            self._idle = True
            self._start(timeout)

    def begun(self) -> None:
        """There is a part of a head: the idle time is over."""
        if self._idle:
            self.expect()

    def hurry(self) -> None:
        """The server drains: what is on its way has a moment to arrive."""
        soon = self._connection.time() + _LAST_HEAD
        if self._deadline.when is None or self._deadline.when > soon:
            self._deadline.set(soon)

    def stop(self) -> None:
        """No head is waited for."""
        self._deadline.set(None)

    def _start(self, timeout: float | None) -> None:
        self._deadline.set(
            None if timeout is None else self._connection.time() + timeout
        )
