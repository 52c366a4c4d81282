"""How much unproductive input a peer may send before it is asked to calm down.

Time is an argument: the engine passes ``Connection.time()``. Each budget answers one
question (``spend``) with a yes or no; what a no costs is the caller's business.
"""

from tako.config import WireConfig


def header_list_size(config: WireConfig) -> int:
    """Return the size of a header list that a peer may send (RFC 9113 §6.5.2).

    By default whatever is within the limits of an HTTP/1.1 head: 32 bytes for each of
    its fields, and for the pseudo-fields, are more than a line has around them there.
    """
    size = config.h2_max_header_list_size
    return _fitting(config) if size is None else size


def decoded_size(config: WireConfig) -> int:
    """Return the size of a list, or of a block, from which decoding is an attack.

    Above the limits a request is answered with 431. That takes decoding its block, and
    twice of what is legal is decoded; beyond it the connection ends.
    """
    return 2 * max(header_list_size(config), _fitting(config))


def _fitting(config: WireConfig) -> int:
    return config.max_header_bytes + 32 * (config.max_headers + 8)


class TokenBucket:
    """``size`` tokens at once, refilled at ``rate`` a second."""

    __slots__ = ("_left", "_rate", "_size", "_updated")

    def __init__(self, size: float, rate: float, now: float) -> None:
        self._size = size
        self._rate = rate
        self._left = size
        self._updated = now

    def spend(self, tokens: float, now: float) -> bool:
        """Take ``tokens``; tell whether there were as many."""
        refilled = self._left + (now - self._updated) * self._rate
        self._updated = now
        self._left = min(self._size, refilled) - tokens
        if self._left >= 0:
            return True
        self._left = 0
        return False


class WindowUpdateBudget:
    """WINDOW_UPDATE frames in proportion to what they can be good for.

    A flat rate would punish fast downloads. So a peer may send five, and then two for
    each stream that it opened and twenty for each DATA frame that it got.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = 0

    def spend(self, streams: int, data_frames: int) -> bool:
        """Count one frame; tell whether it is allowed."""
        self._seen += 1
        return self._seen <= 5 + 2 * (streams + 10 * data_frames)
