"""``Pool``: which connection an attempt gets, and when another one is dialed.

Theory of operation. A pool has *places*: what is asked for at one origin, with one
choice of versions. Attempts wait there in order of arrival. Whenever something changes
(``ask``, ``changed``, ``failed``), ``_settle`` gives them to the connections with room,
the oldest first, so that the younger ones run empty; then it dials if there is reason:

* Where the wire is unknown, or HTTP/2, one at a time, for all that wait: it may serve
  them all. Not while a connection is empty and yet without room: the server wants no
  more; and not beyond ``max_connections``.
* Over HTTP/1.1, where each needs one of its own, one for each. RFC 6455 §4.1 wants one
  at a time for an address; as with other clients that are no browsers, what is opened
  at once is dialed at once.

What a dial ends with is for all for whom it was made: the attempt at the head of the
queue over HTTP/1.1, all that wait else.

Invariants: an attempt waits in one place, or has a link, or is settled; a link is in
the list of its place until it is gone; a place without links and attempts is forgotten.
No clock, no I/O.
"""

import logging
from collections import deque
from collections.abc import Callable, Hashable

from tako.client.attempt import Attempt, Failure
from tako.client.link import Link, LinkState
from tako.client.watch import Watch
from tako.config import ServerConfig
from tako.errors import ConnectError


_logger = logging.getLogger("tako.client")

_CLOSED = Failure(ConnectError, "the client is closed", "queue", None)


class _Place:
    """What there is for one origin and one choice of versions."""

    def __init__(self, key: Hashable, wire: str | None) -> None:
        self.key = key
        self.wire = wire  # of the latest connection
        self.links: list[Link] = []
        self.waiting: deque[Attempt] = deque()

    def in_state(self, state: LinkState) -> list[Link]:
        return [link for link in self.links if link.state is state]

    @property
    def dialed(self) -> list[Link]:
        """Those that are not open yet."""
        return [link for link in self.links if link.state < LinkState.OPEN]


class Pool:
    """The connections of a client."""

    def __init__(
        self,
        config: ServerConfig,
        *,
        shares: bool,
        max_connections: int = 1,
        idle_timeout: float = 0.0,
        make_link: "Callable[[Pool, Attempt], Link]" = Link,
    ) -> None:
        """Begin with nothing.

        Args:
            config: limits and timeouts of connections.
            shares: whether one of HTTP/2 may carry several WebSockets.
            max_connections: those of HTTP/2 to one place that take WebSockets.
            idle_timeout: seconds that one may carry nothing.
            make_link: begins to dial for an attempt, and those that wait with it.
        """
        self.config: ServerConfig = config
        self._shares = shares
        self._unshared: set[Hashable] = set()  # places whose servers cannot
        self.idle_timeout: float = idle_timeout
        self.watch: Watch = Watch(config)
        self._max_connections = max_connections
        self._make_link = make_link
        self._places: dict[Hashable, _Place] = {}
        self._closed = False

    @property
    def links(self) -> list[Link]:
        """The connections that are not gone."""
        return [link for place in self._places.values() for link in place.links]

    def ask(self, attempt: Attempt) -> None:
        """Find a connection for ``attempt``, now or when it is its turn."""
        if self._closed:
            attempt.fail(_CLOSED)
            return
        place = self._places.get(attempt.place)
        if place is None:
            # Without HTTP/2 to choose, the wire is known
            wire = "1.1" if attempt.versions == ("1.1",) else None
            place = self._places[attempt.place] = _Place(attempt.place, wire)
        place.waiting.append(attempt)
        self._settle(place)

    def withdraw(self, attempt: Attempt) -> None:
        """Let ``attempt`` wait no more; a no-op if it does not."""
        place = self._places.get(attempt.place)
        if place is None or attempt not in place.waiting:
            return
        place.waiting.remove(attempt)
        dialed = place.dialed
        for link in dialed[len(place.waiting) :]:
            link.abandon()
        self._settle(place)

    def step(self, attempt: Attempt) -> str:
        """Return what ``attempt``, which has no connection, waits for, in words."""
        place = self._places.get(attempt.place)
        dialed = [] if place is None else place.dialed
        return dialed[0].step if dialed else "queue"

    def shares_at(self, place: Hashable) -> bool:
        """Tell whether a connection of HTTP/2 may carry several WebSockets there."""
        return self._shares and place not in self._unshared

    def close(self) -> None:
        """Serve nothing more, and end what is open in order."""
        self._closed = True
        for place in list(self._places.values()):
            waiting, place.waiting = place.waiting, deque()
            for attempt in waiting:
                attempt.fail(_CLOSED)
            for link in list(place.links):
                if link.state < LinkState.OPEN:
                    link.abandon()
                else:
                    link.shut_down()

    # What a link says ----------------------------------------------------------------

    def changed(self, link: Link) -> None:
        """Take note that ``link`` has another state, or other room."""
        place = self._places.get(link.place)
        if place is None:
            return
        if link.state is LinkState.OPEN:
            place.wire = link.wire
        elif link.state is LinkState.GONE and link in place.links:
            place.links.remove(link)
        self._settle(place)

    def failed(self, link: Link, failure: Failure) -> None:
        """Take note that ``link`` will not open."""
        place = self._places.get(link.place)
        if place is None:
            return
        most = 1 if self._apart(place) else len(place.waiting)
        for _ in range(min(most, len(place.waiting))):
            attempt = place.waiting.popleft()
            attempt.link = link
            attempt.fail(failure)
        self._settle(place)

    def share_no_more(self, link: Link) -> None:
        """Take note that what ``link`` carried was lost to one that the server ended.

        What is shared already stays so.
        """
        text = "%s: a WebSocket that it has closed costs others: none shares any more"
        _logger.warning(text, link.origin)
        self._unshared.add(link.place)

    # Inside --------------------------------------------------------------------------

    def _settle(self, place: _Place) -> None:
        """Do what can be done for those that wait."""
        waiting = place.waiting
        for link in list(place.links):
            while waiting and link.room > 0:
                link.open(waiting.popleft())
        while self._dials(place):
            place.links.append(self._make_link(self, waiting[0]))
        if not waiting:
            for link in place.in_state(LinkState.OPEN):
                if not link.shared:  # what it was for is gone
                    link.abandon()
        if not (waiting or place.links) and self._places.get(place.key) is place:
            del self._places[place.key]

    def _apart(self, place: _Place) -> bool:
        """Tell whether each that waits needs a connection of its own."""
        return place.wire == "1.1" or not self.shares_at(place.key)

    def _dials(self, place: _Place) -> bool:
        """Tell whether another connection is to be dialed."""
        taking = place.in_state(LinkState.OPEN)
        if self._apart(place):
            unused = [link for link in taking if not link.shared]
            return len(place.dialed) + len(unused) < len(place.waiting)
        return (
            bool(place.waiting)
            and not place.dialed
            and len(taking) < self._max_connections
            and not any(link.empty for link in taking)
        )
