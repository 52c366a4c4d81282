"""Which wire a socket takes: ``Wires``, and ``Origins``, the memory behind it.

Theory of operation. An origin is *unknown* at first: HTTP/2 is tried where it is
offered. That it works is remembered, and that it does not, each for a time: a server
may be another one tomorrow. ``Wires`` goes through the attempts of one opening: after
each that fails it says whether there is another, by the ``Advice`` of the attempt. The
clock is an argument.

Invariant: an opening has at most three attempts: HTTP/2, HTTP/2 again, HTTP/1.1.
"""

import enum
from collections import OrderedDict
from collections.abc import Hashable


_MOST = 1024  # origins
_LONG = 3600.0  # seconds
_SHORT = 300.0  # seconds, where it is only likely
_H1 = ("1.1",)


class Advice(enum.Enum):
    """What to do after an attempt that has failed."""

    GIVE_UP = 0
    """Nothing: it is an answer."""
    USE_H1 = 1
    """Try HTTP/1.1: this server has no WebSockets over HTTP/2."""
    USE_H1_FOR_NOW = 2
    """The same, but the server may only have been slow."""
    TRY_H1 = 3
    """Try HTTP/1.1: the server may be one that has none."""
    AGAIN = 4
    """Try again on another connection: the server has not looked at the request."""


class Known(enum.Enum):
    """What is known of an origin."""

    NOTHING = 0
    H2_WORKS = 1
    H1_ONLY = 2


class Origins:
    """A bounded memory of origins."""

    def __init__(self) -> None:
        """Know nothing."""
        self._known: OrderedDict[Hashable, tuple[Known, float]] = OrderedDict()

    def known(self, origin: Hashable, now: float) -> Known:
        """Return what is known of ``origin``."""
        known, until = self._known.get(origin, (Known.NOTHING, 0.0))
        return known if now < until else Known.NOTHING

    def learn(
        self, origin: Hashable, known: Known, now: float, *, likely: bool = False
    ) -> None:
        """Remember ``known``; ``likely``: it is no more than that."""
        self._known[origin] = (known, now + (_SHORT if likely else _LONG))
        self._known.move_to_end(origin)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def forget(self, origin: Hashable) -> None:
        """Know nothing of ``origin`` any more."""
        self._known.pop(origin, None)


class Wires:
    """The attempts of one opening.

    Attributes:
        versions: those of HTTP that the next attempt may use.
    """

    def __init__(
        self,
        origins: Origins,
        origin: Hashable,
        allowed: tuple[str, ...],
        *,
        secure: bool,
        now: float,
    ) -> None:
        """Choose for the first attempt.

        Args:
            origins: what is known.
            origin: what the WebSocket is to be opened at.
            allowed: the versions of HTTP that may be used.
            secure: over TLS, where ALPN can choose.
            now: the time in seconds.
        """
        self._origins = origins
        self._origin = origin
        self._allows_h1 = "1.1" in allowed
        self._known = origins.known(origin, now)
        self._again = True
        self._instead = False  # HTTP/1.1 stands in for HTTP/2, which may not work
        self.versions: tuple[str, ...] = allowed
        # RFC 9113 §3.3: without TLS HTTP/2 must be known to be there
        if self._allows_h1 and (not secure or self._known is Known.H1_ONLY):
            self.versions = _H1

    def failed(self, advice: Advice, now: float) -> bool:
        """Take note of what came of an attempt; tell whether there is another."""
        if self.versions == _H1:
            self._origins.forget(self._origin)
            return False
        if advice is Advice.AGAIN and self._again:
            self._again = False
            return True
        if advice in {Advice.GIVE_UP, Advice.AGAIN} or not self._allows_h1:
            return False
        if advice is Advice.TRY_H1:
            if self._known is Known.H2_WORKS:
                return False
            self._instead = True
        else:
            likely = advice is Advice.USE_H1_FOR_NOW
            self._origins.learn(self._origin, Known.H1_ONLY, now, likely=likely)
        self.versions = _H1
        return True

    def worked(self, wire: str | None, now: float) -> None:
        """Take note that the last attempt has a WebSocket, over ``wire``."""
        if wire == "2":
            self._origins.learn(self._origin, Known.H2_WORKS, now)
        elif self._instead:
            self._origins.learn(self._origin, Known.H1_ONLY, now)
