"""``ClosedStreams``: what is remembered of the streams of a connection that are gone.

RFC 9113 §5.1 asks for different answers to what arrives for a stream that both sides
ended and for one that was reset, where frames may still be on their way. As many as
1024 of each kind are remembered, or as many as may be open at once if that is more;
older ones count as never opened.
"""

from collections import deque
from typing import Final


_REMEMBERED: Final = 1024  # streams that were reset, and as many that ended


class ClosedStreams:
    """How the streams of one connection were closed."""

    __slots__ = ("_ended", "_most", "_reset")

    def __init__(self, most_open: int) -> None:
        """Remember none; ``most_open`` streams may be open, and closed, at once."""
        self._most = max(_REMEMBERED, most_open)
        self._ended: deque[int] = deque(maxlen=self._most)
        self._reset: dict[int, bool] = {}  # id: whether RST_STREAM was sent for it

    def ended(self, stream_id: int) -> None:
        """Remember a stream that both sides have ended."""
        self._ended.append(stream_id)

    def reset(self, stream_id: int, *, answered: bool) -> None:
        """Remember a stream that was reset; ``answered``: we have sent RST_STREAM."""
        self._reset[stream_id] = answered
        if len(self._reset) > self._most:
            del self._reset[next(iter(self._reset))]

    def was_ended(self, stream_id: int) -> bool:
        """Whether both sides ended the stream."""
        return stream_id in self._ended

    def was_reset(self, stream_id: int) -> bool:
        """Whether the stream was reset, by whichever side."""
        return stream_id in self._reset

    def was_answered(self, stream_id: int) -> bool:
        """Whether RST_STREAM was sent for the stream: once is enough."""
        return self._reset.get(stream_id, False)
