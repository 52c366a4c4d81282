"""How an HTTP/2 connection ends: GOAWAY, draining, idleness, silence.

Theory of operation. ``H2Phase`` says how far the connection is from its end. An orderly
end has two GOAWAYs (RFC 9113 §6.8): the first names no stream (2^31-1) and comes with a
PING; once the peer has answered that, or a second has passed, it has read the GOAWAY,
and the second one names the last stream that will be answered. Where the peer opens no
more streams anyway the first is left out. In every phase but the first two the
connection closes when no stream is left; in ``CALMING`` and ``LINGERING`` also when
time is up.

Invariants: ``_enter`` alone sets ``phase``; no GOAWAY names a later stream than one
before it; once *lost* the engine is not called.
"""

import enum
import logging
from typing import TYPE_CHECKING, ClassVar, Final

from tako.config import WireConfig
from tako.core.counters import hit
from tako.core.error_code import ErrorCode
from tako.core.seams import ServerConnection
from tako.core.states import CHECKED, check_transition
from tako.h2 import frames
from tako.h2.flow_control import Output
from tako.h2.frames import MAX_STREAM_ID


if TYPE_CHECKING:
    from tako.h2.engine import H2Engine


_logger: Final = logging.getLogger("tako.h2")

_IDLE_TIMEOUT: Final = 75.0  # where the configuration sets none
_DRAIN_TIMEOUT: Final = 1.0  # for the round trip between the two GOAWAYs
_LINGER: Final = 1.0  # for answers after a connection error
_LINGER_CALM: Final = 5.0  # the same where the peer was only too busy
_PING_TIMEOUT: Final = 20.0  # for the answer to a keep-alive PING

_DRAIN_PING: Final = b"drained?"
_ALIVE_PING: Final = b"alive?\0\0"


class H2Phase(enum.IntEnum):
    """How far an HTTP/2 connection is from its end."""

    SERVING = 0
    """Requests are taken and answered."""
    DRAINING = 1
    """We have announced the end; what the peer asked before it knew is still taken."""
    PEER_LEAVES = 2
    """The peer has sent GOAWAY, or FIN."""
    REFUSING = 3
    """The last GOAWAY was sent: new streams are refused, what is open is answered."""
    CALMING = 4
    """The same, for some seconds, because the peer resets too much."""
    LINGERING = 5
    """The connection is broken: nothing is read, what is open has a moment to end."""
    LOST = 6
    """The transport is gone."""


_NEXT: Final[dict[H2Phase, frozenset[H2Phase]]] = {
    H2Phase.SERVING: frozenset(
        {
            H2Phase.DRAINING,
            H2Phase.PEER_LEAVES,
            H2Phase.CALMING,
            H2Phase.LINGERING,
            H2Phase.LOST,
        }
    ),
    H2Phase.DRAINING: frozenset(
        {H2Phase.REFUSING, H2Phase.CALMING, H2Phase.LINGERING, H2Phase.LOST}
    ),
    H2Phase.PEER_LEAVES: frozenset(
        {H2Phase.REFUSING, H2Phase.CALMING, H2Phase.LINGERING, H2Phase.LOST}
    ),
    H2Phase.REFUSING: frozenset({H2Phase.CALMING, H2Phase.LINGERING, H2Phase.LOST}),
    H2Phase.CALMING: frozenset({H2Phase.LINGERING, H2Phase.LOST}),
    H2Phase.LINGERING: frozenset({H2Phase.LOST}),
    H2Phase.LOST: frozenset(),
}


def idle_timeout(config: WireConfig) -> float:
    """Return how long a connection may be without a stream, in seconds."""
    return config.keep_alive_timeout or config.header_read_timeout or _IDLE_TIMEOUT


class Lifecycle:
    """The phases of one connection."""

    # For the compiler: ``close`` deletes it
    __deletable__: ClassVar[tuple[str, ...]] = ("_engine",)
    __slots__ = (
        "_ack_deadline",
        "_connection",
        "_end_deadline",
        "_engine",
        "_heard",
        "_idle_deadline",
        "_idle_timeout",
        "_interval",
        "_last_stream",
        "_output",
        "_ping_deadline",
        "_ping_sent",
        "phase",
        "refusing",
    )

    def __init__(
        self, engine: "H2Engine", connection: ServerConnection, output: Output
    ) -> None:
        self._engine = engine
        self._connection = connection
        self._output = output
        self._last_stream = MAX_STREAM_ID  # in the latest GOAWAY
        self.phase: H2Phase = H2Phase.SERVING
        self.refusing: bool = False
        """The last GOAWAY was sent: new streams are refused."""
        new, now = connection.deadlines.new, connection.time()
        self._idle_deadline = new(self.begin_drain)
        self._idle_timeout = idle_timeout(connection.config)
        self._idle_deadline.set(now + self._idle_timeout)
        self._ack_deadline = new(self._settings_late)
        if connection.config.settings_timeout is not None:
            self._ack_deadline.set(now + connection.config.settings_timeout)
        self._end_deadline = new(self._end_reached)
        self._interval = connection.config.h2_keep_alive_interval
        self._heard = now
        self._ping_sent = False
        self._ping_deadline = new(self._silent)
        if self._interval is not None:
            self._ping_deadline.set(now + self._interval)

    def _enter(self, phase: H2Phase) -> None:
        """Change the phase, and the flag that derives from it."""
        if CHECKED:
            check_transition(_NEXT, self.phase, phase)
        self.phase = phase
        self.refusing = phase >= H2Phase.REFUSING
        self._idle_deadline.set(None)
        if self._output.trace:
            _logger.debug("%#x: connection is %s", id(self), phase.name)

    # What happens -----------------------------------------------------------------

    def heard(self) -> None:
        """Something was received."""
        if self._interval is None:
            return
        self._heard = self._connection.time()
        if self._ping_sent:
            self._ping_sent = False
            self._ping_deadline.set(self._heard + self._interval)

    def stream_opened(self) -> None:
        """The connection is not idle."""
        self._idle_deadline.set(None)

    def stream_closed(self) -> None:
        """A stream has ended, perhaps the last."""
        if self._engine.exchanges:
            return
        if self.phase >= H2Phase.PEER_LEAVES:
            self._close()
        elif self.phase is H2Phase.SERVING:
            self._idle_deadline.set(self._connection.time() + self._idle_timeout)

    def settings_acknowledged(self) -> None:
        """The peer knows our settings (RFC 9113 §6.5.3)."""
        self._ack_deadline.set(None)

    def ping_acknowledged(self, payload: bytes) -> None:
        """The peer has read what was sent before that PING."""
        if payload == _DRAIN_PING and self.phase is H2Phase.DRAINING:
            self._refuse()

    def leave(self) -> None:
        """The peer will open no more streams."""
        if self.phase is H2Phase.SERVING:
            self._enter(H2Phase.PEER_LEAVES)
            self._close_unless_busy()
        elif self.phase is H2Phase.DRAINING:
            self._refuse()  # what the PING was to find out is known

    def silenced(self) -> None:
        """The peer has ended its direction: it cannot acknowledge anything any more."""
        self._interval = None
        self._ping_deadline.set(None)
        self._ack_deadline.set(None)
        self.leave()

    # What is done -----------------------------------------------------------------

    def probe(self) -> None:
        """Send what shows whether the peer is there: its kernel answers, or resets."""
        self._output.frames.append(frames.frame(frames.PING, 0, 0, _ALIVE_PING))

    def begin_drain(self) -> None:
        """Announce the end, and finish what is open (RFC 9113 §6.8)."""
        if self.phase is H2Phase.SERVING:
            self._enter(H2Phase.DRAINING)
            self._output.frames += (
                frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR),
                frames.frame(frames.PING, 0, 0, _DRAIN_PING),
            )
            self._end_deadline.set(self._connection.time() + _DRAIN_TIMEOUT)
            self._connection.flush()
        elif self.phase is H2Phase.PEER_LEAVES:
            self._refuse()

    def calm_down(self) -> None:
        """Accept nothing new, and give what is open some seconds."""
        self._enter(H2Phase.CALMING)
        self._count_fault(ErrorCode.ENHANCE_YOUR_CALM)
        self._goaway(ErrorCode.ENHANCE_YOUR_CALM)
        timeout = self._connection.config.h2_reset_drain_timeout
        self._end_deadline.set(self._connection.time() + timeout)
        self._close_unless_busy()
        self._connection.flush()

    def fail(self, code: int) -> None:
        """End the connection with an error; what can be answered, is."""
        if self.phase >= H2Phase.LINGERING:
            return
        self._enter(H2Phase.LINGERING)
        self._count_fault(code)
        self.stop_timers()
        self._goaway(code)
        calm = code == ErrorCode.ENHANCE_YOUR_CALM
        linger = _LINGER_CALM if calm else _LINGER
        self._end_deadline.set(self._connection.time() + linger)
        self._close_unless_busy()
        self._connection.flush()

    def give_up(self, code: int) -> None:
        """End the connection of a peer that does not answer, and all streams."""
        self.fail(code)
        self._engine.cut_all()

    def stop_timers(self) -> None:
        """Set every deadline off."""
        self._idle_deadline.set(None)
        self._ack_deadline.set(None)
        self._ping_deadline.set(None)
        self._ping_sent = False  # what is still heard sets none again
        self._end_deadline.set(None)

    def close(self) -> None:
        """Let go of the engine, once: the connection is lost."""
        self._enter(H2Phase.LOST)
        for deadline in (
            self._idle_deadline,
            self._ack_deadline,
            self._end_deadline,
            self._ping_deadline,
        ):
            deadline.close()
        del self._engine  # nothing calls it in this phase

    # Inside -----------------------------------------------------------------------

    def _count_fault(self, code: int) -> None:
        if code != ErrorCode.NO_ERROR:
            hit(self._connection.counters.faults, ErrorCode(code).name)

    def _goaway(self, code: int) -> None:
        # RFC 9113 §6.8: it never grows; what came after the last one was refused
        last = min(self._last_stream, self._engine.last_stream_id)
        self._last_stream = last
        self._output.frames.append(frames.goaway(last, code))

    def _refuse(self) -> None:
        """Say which stream is the last."""
        self._enter(H2Phase.REFUSING)
        self._end_deadline.set(None)
        self._goaway(ErrorCode.NO_ERROR)
        self._close_unless_busy()
        self._connection.flush()

    def _end_reached(self) -> None:
        if self.phase is H2Phase.DRAINING:
            self._refuse()
        else:
            self._engine.say_goodbye()
            self._engine.cut_all()
            self._close()

    def _close_unless_busy(self) -> None:
        if not self._engine.exchanges:
            self._close()

    def _close(self) -> None:
        self.stop_timers()
        self._engine.close()
        self._connection.flush()

    def _settings_late(self) -> None:
        hit(self._connection.counters.limits, "settings_time")
        self.give_up(ErrorCode.SETTINGS_TIMEOUT)  # RFC 9113 §6.5.3

    def _silent(self) -> None:
        """Nothing was heard for a while: ask, and end if there is no answer."""
        now = self._connection.time()
        due = self._heard + (self._interval or 0.0)
        if due > now:
            self._ping_deadline.set(due)
        elif not self._ping_sent:
            self._ping_sent = True
            self._output.frames.append(frames.frame(frames.PING, 0, 0, _ALIVE_PING))
            self._ping_deadline.set(now + _PING_TIMEOUT)
            self._connection.flush()
        else:
            self._engine.peer_dead()
