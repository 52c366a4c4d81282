"""``ProxyStep``: what is said to a proxy until it is a pipe to the server.

Bytes in, bytes out, before anything is said to the server: ``HttpConnect`` and
``SocksConnect``. What follows the proxy's answer is the server's already.
"""

import enum
import logging

from tako.core.states import CHECKED, check_transition


_logger = logging.getLogger("tako.client")


class ProxyState(enum.IntEnum):
    """How far a proxy has been asked."""

    GREETING = 0
    """It is to choose how we show who we are (SOCKS)."""
    NAMING = 1
    """It has our user and password (SOCKS)."""
    ASKING = 2
    """It knows the server that we want."""
    OPEN = 3
    """It is a pipe to the server."""
    REFUSED = 4
    """It is not going to be one."""


_NEXT: dict[ProxyState, frozenset[ProxyState]] = {
    ProxyState.GREETING: frozenset(
        {ProxyState.NAMING, ProxyState.ASKING, ProxyState.REFUSED}
    ),
    ProxyState.NAMING: frozenset({ProxyState.ASKING, ProxyState.REFUSED}),
    ProxyState.ASKING: frozenset({ProxyState.OPEN, ProxyState.REFUSED}),
    ProxyState.OPEN: frozenset(),
    ProxyState.REFUSED: frozenset(),
}


class ProxyStep:
    """The part that is common to all proxies.

    Invariant: after ``OPEN`` and ``REFUSED`` nothing is queued and nothing kept.

    Attributes:
        state: how far it has come.
        refusal: why the proxy is not used, for a message; ``None`` unless ``REFUSED``.
        status: what an HTTP proxy has answered; ``None``: it has not, or is another.
        temporary: another try may do better.
    """

    def __init__(self, state: ProxyState, request: bytes) -> None:
        """Begin in ``state``, with ``request`` queued."""
        self.state: ProxyState = state
        self.refusal: str | None = None
        self.status: int | None = None
        self.temporary: bool = False
        self._received = bytearray()
        self._out = request

    def data_to_send(self) -> bytes:
        """Return what is queued for the proxy and forget it."""
        data, self._out = self._out, b""
        return data

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes of the proxy; return what is behind its answer. Never raises."""
        if self.state >= ProxyState.OPEN:
            return data if self.state is ProxyState.OPEN else b""
        self._received += data
        while self._advance():
            pass
        if self.state is not ProxyState.OPEN:
            return b""
        rest = bytes(self._received)
        self._received.clear()
        return rest

    def receive_eof(self) -> None:
        """Note that the proxy says no more."""
        if self.state < ProxyState.OPEN:
            self._refuse("the proxy has closed the connection", temporary=True)

    def _advance(self) -> bool:
        """Take one answer if it is complete; tell whether another may follow."""
        raise NotImplementedError

    def _answered(self, status: int) -> None:
        """Note the status of an HTTP proxy."""
        self.status = status

    def _refuse(self, text: str, *, temporary: bool = False) -> None:
        self.refusal, self.temporary = text, temporary
        self._enter(ProxyState.REFUSED)

    def _enter(self, state: ProxyState) -> None:
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state = state
        if state is ProxyState.REFUSED:
            self._out = b""
            self._received.clear()
        _logger.debug("%#x: proxy is %s", id(self), state.name)
