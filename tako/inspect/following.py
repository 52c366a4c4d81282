"""``Following``: taps on connections, for those who follow them and for counting.

Theory of operation. A connection that is followed or counted has one tap, and that one
decoder. Who follows gets frames in a bounded queue of its own, without payloads unless
it asked for these. Counting is for rates: a look puts taps on the connections that are
shown, and they take themselves out after ``_BUDGET`` frames in all; the rate of each is
what it counted, by the time that it did. So what counting costs does not grow with what
goes over the connections.

Invariant: a connection without a follower has no tap once the budget is used up, and
one that nobody looks at has none.
"""

import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from tako.core.views import Place
from tako.inspect.frames import Decoder, Frame, H1Decoder, H2Decoder
from tako.tcp.connection import ConnectionState, TcpConnection
from tako.ws.conversation import Conversation


if TYPE_CHECKING:
    from tako.core.loop import Clock


_logger = logging.getLogger("tako.inspect")

_BUDGET: Final = 1000  # frames that are counted at a look, on all connections
_HEAD_COST: Final = 10  # frames that one with fields counts for
_KEPT: Final = 1000  # frames that wait for a follower
_CLOSED: Final = ConnectionState.LINGERING


@dataclass(slots=True)
class Rate:
    """Messages of a WebSocket, each way."""

    received: int = 0
    sent: int = 0


class Follower:
    """One that follows a connection.

    Attributes:
        lost: frames that there was no room for.
    """

    __slots__ = ("_frames", "_payload", "lost")

    def __init__(self, *, payload: bool) -> None:
        """Follow nothing yet; ``payload``: see what frames carry, too."""
        self._payload = payload
        self._frames: deque[tuple[float, Frame]] = deque()
        self.lost: int = 0

    def put(self, now: float, frames: list[Frame]) -> None:
        """Take frames; what there is no room for is counted."""
        room = _KEPT - len(self._frames)
        self.lost += max(0, len(frames) - room)
        self._frames += [(now, frame) for frame in frames[: max(room, 0)]]

    def take(self) -> list[dict[str, object]]:
        """Return the frames that came since, as JSON has them, and forget them."""
        taken = [self._shown(now, frame) for now, frame in self._frames]
        self._frames.clear()
        return taken

    def _shown(self, now: float, frame: Frame) -> dict[str, object]:
        shown: dict[str, object] = {
            "at": round(now, 4),
            "received": frame.received,
            "kind": frame.kind,
            "size": frame.size,
            "stream": frame.stream,
            "note": frame.note,
        }
        if self._payload and frame.payload:
            shown["payload"] = frame.payload.decode("utf-8", "backslashreplace")
        return shown


class _Tapped:
    """A connection with a tap."""

    __slots__ = ("began", "counts", "decoder", "ended", "followers")

    def __init__(self, decoder: Decoder) -> None:
        self.decoder: Final = decoder
        self.followers: list[Follower] = []
        self.counts: dict[int, Rate] | None = None  # by stream; ``None``: not counted
        self.began: float = 0.0
        self.ended: float | None = None  # when the budget was used up

    @property
    def wanted(self) -> bool:
        """Somebody follows, or it is being counted."""
        return bool(self.followers) or (self.counts is not None and self.ended is None)


class Following:
    """All taps of a process."""

    __slots__ = ("_clock", "_left", "_tapped")

    def __init__(self, clock: "Clock") -> None:
        """Have no taps; ``clock``: the time of frames."""
        self._clock = clock
        self._left = 0  # of the budget
        self._tapped: dict[TcpConnection, _Tapped] = {}

    def follow(self, connection: TcpConnection, *, payload: bool) -> Follower | None:
        """Follow a connection; ``None``: it is not open.

        Args:
            connection: the connection.
            payload: what frames carry is seen.
        """
        tapped = self._tap(connection)
        if tapped is None:
            return None
        follower = Follower(payload=payload)
        tapped.followers.append(follower)
        return follower

    def leave(self, connection: TcpConnection, follower: Follower) -> None:
        """Follow no longer; a no-op if the connection is lost."""
        tapped = self._tapped.get(connection)
        if tapped is not None and follower in tapped.followers:
            tapped.followers.remove(follower)
            self._settle(connection, tapped)

    def count(self, connections: Iterable[TcpConnection]) -> None:
        """Count messages on these connections and no others, from now on."""
        now = self._clock()
        wanted = dict.fromkeys(connections)
        for connection, tapped in list(self._tapped.items()):
            if connection not in wanted or connection.state >= _CLOSED:
                tapped.counts = None
                self._settle(connection, tapped)
        self._left = _BUDGET
        for connection in wanted:
            counting = self._tap(connection)
            if counting is not None:
                counting.counts, counting.began, counting.ended = {}, now, None

    def rates(self, connection: TcpConnection) -> dict[int, tuple[float, float]]:
        """Return messages a second, received and sent, by stream; those not 0.

        Of the time since ``count``, or of the beginning of it.
        """
        tapped = self._tapped.get(connection)
        if tapped is None or tapped.counts is None:
            return {}
        ended = self._clock() if tapped.ended is None else tapped.ended
        seconds = max(ended - tapped.began, 0.001)
        return {
            stream: (rate.received / seconds, rate.sent / seconds)
            for stream, rate in tapped.counts.items()
        }

    def counted(self, connection: TcpConnection) -> bool:
        """Tell whether messages were counted since ``count``."""
        tapped = self._tapped.get(connection)
        return tapped is not None and tapped.counts is not None

    def close(self) -> None:
        """Take all taps out."""
        for connection in self._tapped:
            connection.untap()
        self._tapped.clear()

    def _tap(self, connection: TcpConnection) -> _Tapped | None:
        """Put a tap on, if there is none; ``None``: the connection is not open."""
        tapped = self._tapped.get(connection)
        if connection.state >= _CLOSED:
            return None
        if tapped is not None and tapped.wanted:
            return tapped
        place = connection.tap(partial(self._tell, connection))
        if place is None:
            return None
        engine = connection.describe().engine
        http2 = engine is not None and engine.streams is not None
        make = H2Decoder if http2 else H1Decoder
        tapped = _Tapped(make(place, partial(_place, connection)))
        self._tapped[connection] = tapped
        return tapped

    def _tell(self, connection: TcpConnection, received: bool, data: bytes) -> None:
        """Take what goes over a connection, which must not suffer from that."""
        tapped = self._tapped.get(connection)
        if tapped is None:
            return
        try:
            frames = tapped.decoder.feed(received, data)
        except Exception:
            _logger.exception("frames of %s cannot be read", connection.peer)
            connection.untap()
            return
        if not frames:
            return
        now = self._clock()
        for each in tapped.followers:
            each.put(now, frames)
        counts = tapped.counts
        if counts is None or tapped.ended is not None:
            return
        for frame in frames:
            self._left -= _HEAD_COST if frame.kind == "HEADERS" else 1
            if frame.message:
                rate = counts.setdefault(frame.stream, Rate())
                if received:
                    rate.received += 1
                else:
                    rate.sent += 1
        if self._left <= 0:
            self._stop_counting(now)

    def _stop_counting(self, now: float) -> None:
        for connection, tapped in list(self._tapped.items()):
            if tapped.counts is not None and tapped.ended is None:
                tapped.ended = now
                if not tapped.followers:
                    connection.untap()  # what was counted stays

    def _settle(self, connection: TcpConnection, tapped: _Tapped) -> None:
        """Take the tap out if nobody wants it; forget what nobody can ask for."""
        if not tapped.wanted:
            connection.untap()
            if tapped.counts is None:
                self._tapped.pop(connection, None)


def _place(connection: TcpConnection, stream: int) -> Place | None:
    """Return where the bytes of a WebSocket stand; ``None``: it is not one."""
    sink = connection.sink_of(stream)
    return sink.place() if isinstance(sink, Conversation) else None
