"""``Undecided``: a connection of which it is open yet what it speaks.

Theory of operation. It stands where a ``TcpConnection`` stands, as an
``asyncio.Protocol`` in shape, and asks its ``ProtocolDetector`` at each read.
*undecided* -> *over*: either the detector knows the protocol, and ``enter`` puts a
``TcpConnection`` in this one's place, which then has the transport and the bytes so
far; or the detector raises, the peer leaves, the time is up or the server drains, and
the transport is closed without a word.

Invariants: nothing is ever written; once over it touches the transport no more, and
either ``enter`` or ``on_lost`` is called, once.
"""

import logging
from collections.abc import Callable
from typing import Protocol as Interface

from tako.core.late_loop import PatientTimer
from tako.core.loop import Receiver, Runtime, Transport
from tako.errors import ProxyProtocolError
from tako.http.conn_info import PeerAddr
from tako.server.detect import Protocol, ProtocolDetector


_logger = logging.getLogger("tako.server")


class SharedTransport(Transport, Interface):
    """A transport that can be handed on."""

    def set_protocol(self, protocol: Receiver) -> None:
        """Call ``protocol`` from now on."""


class Undecided:
    """Waits for the first bytes of a connection."""

    __slots__ = (
        "_awaited",
        "_enter",
        "_on_lost",
        "_over",
        "_runtime",
        "_timer",
        "_transport",
        "detector",
        "peer",
    )

    def __init__(
        self,
        runtime: Runtime,
        detector: ProtocolDetector,
        peer: PeerAddr,
        *,
        enter: Callable[["Undecided", SharedTransport, Protocol], None],
        on_lost: Callable[["Undecided"], None],
    ) -> None:
        self.peer: PeerAddr = peer
        self.detector: ProtocolDetector = detector
        self._runtime = runtime
        self._enter = enter
        self._on_lost = on_lost
        self._awaited = ""
        self._timer = PatientTimer(runtime, self._late)
        self._transport: SharedTransport | None = None
        self._over = False

    @property
    def handshaking(self) -> bool:
        """As ``TcpConnection.handshaking``: there is no engine."""
        return not self._over

    def connection_made(self, transport: SharedTransport) -> None:
        """Start the clock; too late if we are over, by a drain, already."""
        self._transport = transport
        if self._over:
            transport.abort()
        else:
            self._set_timer()

    def data_received(self, data: bytes) -> None:
        """Show bytes to the detector."""
        transport = self._transport
        if self._over or transport is None:
            return
        try:
            protocol = self.detector.receive_data(data)
        except ProxyProtocolError as error:
            _logger.warning("%s, from %s", error, self.peer)
            self.abort()
            return
        if protocol is not None:
            self._over = True
            self._timer.cancel()
            self._enter(self, transport, protocol)
        elif self.detector.awaited != self._awaited:
            self._set_timer()

    def eof_received(self) -> bool:
        """Take the peer's FIN: nothing that it can want is left to be said."""
        if self.detector.begun and not self._over:
            _logger.warning("incomplete PROXY header, from %s", self.peer)
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        self._over = True
        self._timer.cancel()
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Nothing is written here."""

    def resume_writing(self) -> None:
        """Nothing is written here."""

    def shut_down(self) -> None:
        """Drain: nobody has asked for anything yet."""
        self.abort()

    def abort(self) -> None:
        """Drop the connection; ``connection_lost`` follows."""
        self._over = True
        self._timer.cancel()
        if self._transport is not None:
            self._transport.abort()

    def _set_timer(self) -> None:
        self._timer.cancel()
        self._awaited = self.detector.awaited
        self._timer.set(self._runtime.time() + self.detector.timeout)

    def _late(self) -> None:
        awaited, timeout = self.detector.awaited, self.detector.timeout
        _logger.warning("%s timeout after %s s from %s", awaited, timeout, self.peer)
        self.abort()
