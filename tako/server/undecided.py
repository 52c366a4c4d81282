"""``Undecided``: a connection whose protocol is not known yet.

Theory of operation. It has the shape of an ``asyncio.Protocol``, as ``TcpConnection``
has, and asks its ``ProtocolDetector`` at each read. It is over in one of two ways.
Either the detector knows the protocol: ``on_decided`` replaces this object with a
``TcpConnection``, which gets the transport and the bytes so far. Or the detector
raises, the peer leaves, the time is up or the server drains: the transport is aborted
and the peer is told nothing.

Invariants: nothing is ever written; once over, the transport is not touched; either
``on_decided`` or ``on_lost`` is called, once.
"""

import logging
from collections.abc import Callable
from typing import Final, Protocol as Interface

from tako.core.late_loop import PatientTimer
from tako.core.loop import Receiver, Runtime, Transport
from tako.errors import ProxyProtocolError
from tako.http.conn_info import PeerAddr
from tako.server.detect import ProtocolDetector
from tako.tcp.protocol import Protocol


_logger: Final = logging.getLogger("tako.server")


class SharedTransport(Transport, Interface):
    """A transport that can be given to another protocol."""

    def set_protocol(self, protocol: Receiver) -> None:
        """Call ``protocol`` from now on."""


class Undecided:
    """Waits for the first bytes of a connection."""

    __slots__ = (
        "_awaited",
        "_on_decided",
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
        on_decided: Callable[["Undecided", SharedTransport, Protocol], None],
        on_lost: Callable[["Undecided"], None],
    ) -> None:
        """Make one without a transport yet.

        Args:
            runtime: the event loop.
            detector: looks at the first bytes.
            peer: the address of the peer.
            on_decided: called with the transport and the protocol once it is known.
            on_lost: called when the socket is gone before that.
        """
        self.peer: PeerAddr = peer
        self.detector: ProtocolDetector = detector
        self._runtime = runtime
        self._on_decided = on_decided
        self._on_lost = on_lost
        self._awaited = ""
        self._timer = PatientTimer(runtime, self._late)
        self._transport: SharedTransport | None = None
        self._over = False

    @property
    def handshaking(self) -> bool:
        """There is no engine, as in ``TcpConnection.handshaking``."""
        return not self._over

    def connection_made(self, transport: SharedTransport) -> None:
        """Start the clock, unless a drain has ended this connection already."""
        self._transport = transport
        if self._over:
            transport.abort()
        else:
            self._set_timer()

    def data_received(self, data: bytes) -> None:
        """Show the bytes to the detector."""
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
            self._timer.close()
            self._transport = None
            self._on_decided(self, transport, protocol)
        elif self.detector.awaited != self._awaited:
            self._set_timer()

    def eof_received(self) -> bool:
        """Take the peer's FIN: it has asked for nothing, so nothing is answered."""
        if self.detector.begun and not self._over:
            _logger.warning("incomplete PROXY header, from %s", self.peer)
        self.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the socket is closed, and tell the service."""
        self._over = True
        self._timer.close()
        self._transport = None
        self._on_lost(self)

    def pause_writing(self) -> None:
        """Do nothing: nothing is written here."""

    def resume_writing(self) -> None:
        """Do nothing: nothing is written here."""

    def look(self, silent_at: int, dead_at: int) -> None:
        """Do nothing: silence has a limit of its own here."""

    def shut_down(self, *, tunnels: bool = True) -> None:
        """Drain: the peer has not asked for anything yet; a tunnel least of all."""
        self.abort()

    def abort(self) -> None:
        """Drop the connection; ``connection_lost`` follows."""
        self._over = True
        self._timer.close()
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
