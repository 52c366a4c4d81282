"""How an HTTP/2 connection ends: GOAWAY, draining, idleness, silence.

Theory of operation. ``h2`` would stop working at the first GOAWAY, so the frames are
written here. A connection is *serving*; then *draining*, from a first GOAWAY that names
no stream (RFC 9113 §6.8: 2^31-1) until the answer to a PING shows that the peer has
read it, or a second has passed; then *refusing*, after a GOAWAY with the last stream
that will be answered. It is *calming* when the peer resets too much: refusing, for some
seconds, after which what is left is cut. It *lingers* when the peer broke the
connection: nothing is read any more, but what it asked before is answered. It ends when
no stream is left.

Invariants: ``refusing`` and ``lingering`` imply that the last GOAWAY has been sent;
``calming`` implies ``refusing``; no GOAWAY names a later stream than one before it.
"""

from typing import Protocol

from tako.config import WireConfig
from tako.core.error_code import ErrorCode
from tako.core.seams import ServerConnection
from tako.h2 import frames
from tako.h2.flow_control import Output
from tako.h2.frames import MAX_STREAM_ID


_IDLE_TIMEOUT = 75.0  # where the configuration sets none
_DRAIN_TIMEOUT = 1.0  # for the round trip between the two GOAWAYs
_LINGER = 1.0  # for answers after a connection error
_LINGER_CALM = 5.0  # the same where the peer was only too busy
_PING_TIMEOUT = 20.0  # for the answer to a keep-alive PING

_DRAIN_PING = b"drained?"
_ALIVE_PING = b"alive?\0\0"


class Streams(Protocol):
    """What the lifecycle asks of its engine."""

    @property
    def busy(self) -> bool:
        """There are streams that are not closed."""
        ...

    def close(self) -> None:
        """The connection has nothing more to say."""
        ...

    def say_goodbye(self) -> None:
        """Let every tunnel tell its peer that this is the end."""
        ...

    def cut_all(self) -> None:
        """Close every stream; the peer will not read the answers."""
        ...


def idle_timeout(config: WireConfig) -> float:
    """Return how long a connection may be without a stream, in seconds."""
    return config.keep_alive_timeout or config.header_read_timeout or _IDLE_TIMEOUT


class Lifecycle:
    """The phases of one connection."""

    __slots__ = (
        "_ack_deadline",
        "_connection",
        "_draining",
        "_end_deadline",
        "_heard",
        "_idle_deadline",
        "_interval",
        "_last_stream",
        "_output",
        "_ping_deadline",
        "_ping_sent",
        "_streams",
        "calming",
        "lingering",
        "peer_leaves",
        "refusing",
    )

    def __init__(
        self, streams: Streams, connection: ServerConnection, output: Output
    ) -> None:
        self._streams = streams
        self._connection = connection
        self._output = output
        self._draining = False
        self._last_stream = MAX_STREAM_ID  # in the latest GOAWAY
        self.refusing: bool = False
        """The last GOAWAY was sent: new streams are refused."""
        self.calming: bool = False
        """So they are because the peer resets too much."""
        self.lingering: bool = False
        """Nothing more is read from the peer."""
        self.peer_leaves: bool = False
        """The peer has sent GOAWAY, or the end of its direction."""
        new, now = connection.deadlines.new, connection.time()
        self._idle_deadline = new(self.begin_drain)
        self._idle_deadline.set(now + idle_timeout(connection.config))
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
        if self._streams.busy:
            return
        if self.refusing or self.lingering or self.peer_leaves:
            self._close()
        elif not self._draining:
            timeout = idle_timeout(self._connection.config)
            self._idle_deadline.set(self._connection.time() + timeout)

    def settings_acknowledged(self) -> None:
        """The peer knows our settings (RFC 9113 §6.5.3)."""
        self._ack_deadline.set(None)

    def ping_acknowledged(self, payload: bytes) -> None:
        """The peer has read what was sent before that PING."""
        if payload == _DRAIN_PING and self._draining:
            self._finish_drain()

    def leave(self) -> None:
        """The peer will open no more streams."""
        self.peer_leaves = True
        if not self._streams.busy:
            self._close()

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
        if self._draining or self.refusing or self.lingering:
            return
        self._draining = True
        self._idle_deadline.set(None)
        self._output.frames += (
            frames.goaway(MAX_STREAM_ID, ErrorCode.NO_ERROR),
            frames.frame(frames.PING, 0, 0, _DRAIN_PING),
        )
        self._end_deadline.set(self._connection.time() + _DRAIN_TIMEOUT)
        self._connection.flush()

    def calm_down(self) -> None:
        """Accept nothing new, and give what is open some seconds."""
        self._draining = False
        self.refusing = self.calming = True
        self._idle_deadline.set(None)
        self._goaway(ErrorCode.ENHANCE_YOUR_CALM)
        timeout = self._connection.config.h2_reset_drain_timeout
        self._end_deadline.set(self._connection.time() + timeout)
        if not self._streams.busy:
            self._close()
        self._connection.flush()

    def fail(self, code: int) -> None:
        """End the connection with an error; what can be answered, is."""
        if self.lingering:
            return
        self.lingering = True
        self.stop_timers()
        self._goaway(code)
        if not self._streams.busy:
            self._close()
        else:
            calm = code == ErrorCode.ENHANCE_YOUR_CALM
            linger = _LINGER_CALM if calm else _LINGER
            self._end_deadline.set(self._connection.time() + linger)
        self._connection.flush()

    def stop_timers(self) -> None:
        """Set every deadline off."""
        self._idle_deadline.set(None)
        self._ack_deadline.set(None)
        self._ping_deadline.set(None)
        self._ping_sent = False  # what is still heard sets none again
        self._end_deadline.set(None)

    # Inside -----------------------------------------------------------------------

    def _goaway(self, code: int) -> None:
        # RFC 9113 §6.8: it never grows; what came after the last one was refused
        last = min(self._last_stream, self._output.library.highest_inbound_stream_id)
        self._last_stream = last
        self._output.frames.append(frames.goaway(last, code))

    def _finish_drain(self) -> None:
        self._draining = False
        self.refusing = True
        self._end_deadline.set(None)
        self._goaway(ErrorCode.NO_ERROR)
        if not self._streams.busy:
            self._close()
        self._connection.flush()

    def _end_reached(self) -> None:
        if self.lingering or self.calming:
            self._streams.say_goodbye()
            self._streams.cut_all()
            self._close()
        else:
            self._finish_drain()

    def _close(self) -> None:
        self.stop_timers()
        self._streams.close()
        self._connection.flush()

    def _settings_late(self) -> None:
        self._give_up(ErrorCode.SETTINGS_TIMEOUT)  # RFC 9113 §6.5.3

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
            self._give_up(ErrorCode.NO_ERROR)

    def _give_up(self, code: int) -> None:
        self.fail(code)
        self._streams.cut_all()
