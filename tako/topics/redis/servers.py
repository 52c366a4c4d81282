"""Which server a topic is on: one, the primary of Sentinels, a node of a cluster.

Theory of operation. ``One`` has one link, which asks ``locate`` before each attempt.
``Cluster`` has a link for each primary. It asks the nodes that it knows for the slots,
and asks again whenever a link fails, a reply says that a slot is elsewhere, or a
subscription was ended by the server; then topics go to the link of their slot. Plain
pub/sub follows the slots, too: a message goes to the node that its subscribers are at,
so none depends on the bus between the nodes, which loses messages in silence.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final, Protocol

from anyio import CancelScope, Event, create_task_group, fail_after, sleep
from coredis.connection import TCPLocation

from tako.topics.redis.connection import (
    FAILURES,
    Place,
    Settings,
    ask_any,
    pause,
    reason,
)
from tako.topics.redis.link import Link, LinkState, Owner, Subscription
from tako.topics.redis.wire import slot


_logger = logging.getLogger("tako.topics.redis")

_SLOTS: Final = 16_384


class Servers(Protocol):
    """The links of an engine."""

    @property
    def up(self) -> bool:
        """Whether every server is reached."""
        ...

    async def run(self) -> None:
        """Be connected until cancelled."""

    def link(self, topic: str) -> Link | None:
        """Return the link of a topic; ``None``: it is not known yet."""

    def place(self, topic: Subscription) -> None:
        """Put a topic on its link."""

    def moved(self) -> None:
        """Hear that a slot may be elsewhere."""

    async def settled(self) -> None:
        """Wait until it is known where the slots are now."""


class One:
    """One server, wherever ``locate`` says that it is."""

    __slots__ = ("_link",)

    def __init__(
        self,
        settings: Settings,
        owner: Owner,
        locate: Callable[[], Awaitable[Place]],
    ) -> None:
        self._link = Link(settings, owner, locate)

    @property
    def up(self) -> bool:
        """See ``Servers``."""
        return self._link.state is LinkState.UP

    async def run(self) -> None:
        """See ``Servers``."""
        await self._link.run()

    def link(self, topic: str) -> Link | None:
        """See ``Servers``."""
        return self._link

    def place(self, topic: Subscription) -> None:
        """See ``Servers``."""
        self._link.add(topic)

    def moved(self) -> None:
        """Only slots move."""

    async def settled(self) -> None:
        """Only slots move."""


class Sentinels:
    """Where the Sentinels say that the primary is."""

    __slots__ = ("_places", "_service", "_settings")

    def __init__(
        self, settings: Settings, hosts: Iterable[tuple[str, int]], service: str
    ) -> None:
        """Ask with ``settings``, which are for the connections to Sentinels."""
        self._settings = settings
        self._places = [TCPLocation(*host) for host in hosts]
        self._service = service

    async def locate(self) -> Place:
        """Return where it is.

        Raises:
            ConnectionError: no Sentinel knows.
        """
        place, reply = await ask_any(
            self._settings,
            self._places,
            b"SENTINEL GET-MASTER-ADDR-BY-NAME",
            self._service,
        )
        self._places.remove(place)
        self._places.insert(0, place)
        if reply is None:
            msg = f"the Sentinel at {place} knows no primary named {self._service!r}"
            raise ConnectionError(msg)
        return TCPLocation(_text(reply[0]), int(reply[1]))


class Cluster:
    """The primaries of a cluster."""

    __slots__ = (
        "_known",
        "_links",
        "_owner",
        "_seeds",
        "_settings",
        "_settled",
        "_slots",
        "_stale",
        "_topics",
    )

    def __init__(
        self,
        settings: Settings,
        owner: Owner,
        hosts: Iterable[tuple[str, int]],
        topics: Callable[[], Iterable[Subscription]],
    ) -> None:
        """Know some nodes; ``topics`` returns every topic that is wanted."""
        self._settings = settings
        self._owner = owner
        self._seeds = [TCPLocation(*host) for host in hosts]
        self._known: list[TCPLocation] = []
        self._topics = topics
        self._links: dict[TCPLocation, tuple[Link, CancelScope]] = {}
        self._slots: list[Link | None] = [None] * _SLOTS
        self._stale = Event()
        self._settled = Event()

    @property
    def up(self) -> bool:
        """See ``Servers``."""
        links = [link for link, _ in self._links.values()]
        return bool(links) and all(link.state is LinkState.UP for link in links)

    def link(self, topic: str) -> Link | None:
        """See ``Servers``."""
        return self._slots[slot(topic)]

    def place(self, topic: Subscription) -> None:
        """See ``Servers``."""
        link = self.link(topic.name)
        if link is topic.link:
            return
        if topic.link is not None:
            topic.link.drop(topic)
        if link is not None:
            link.add(topic)

    def moved(self) -> None:
        """See ``Servers``."""
        self._stale.set()

    async def settled(self) -> None:
        """See ``Servers``."""
        self.moved()
        await self._settled.wait()

    async def run(self) -> None:
        """Follow the slots."""
        failed = 0
        layout: Sequence[tuple[range, TCPLocation]]
        async with create_task_group() as tasks:
            while True:
                self._stale = Event()
                try:
                    with fail_after(self._settings.timeout):
                        layout = await self._ask()
                except* FAILURES as errors:
                    log = _logger.debug if failed else _logger.warning
                    log("the slots of the cluster are not known: %s", reason(errors))
                    failed += 1
                    layout = []
                if layout:
                    failed = 0
                    for link in self._follow(layout):
                        tasks.start_soon(self._run, link)
                    await self._stale.wait()
                await sleep(pause(failed + 1))

    async def _ask(self) -> Sequence[tuple[range, TCPLocation]]:
        """Return which slots are where; any node may say."""
        places = [*self._known, *self._seeds]
        place, reply = await ask_any(self._settings, places, b"CLUSTER SLOTS")
        layout: list[tuple[range, TCPLocation]] = []
        for begin, end, primary, *_ in reply:
            host = _text(primary[0] or b"") or place.host  # "": where we have asked
            where = TCPLocation(host, int(primary[1]))
            layout.append((range(int(begin), int(end) + 1), where))
        if not layout:
            msg = f"{place} is a node without slots"
            raise ConnectionError(msg)
        return layout

    def _follow(self, layout: Sequence[tuple[range, TCPLocation]]) -> list[Link]:
        """Note where slots are; return the links that are new."""
        self._known = list(dict.fromkeys(where for _, where in layout))
        new: list[Link] = []
        for where in self._known:
            if where not in self._links:
                link = Link(self._settings, self._owner, self._locator(where))
                self._links[where] = (link, CancelScope())
                new.append(link)
        self._slots = [None] * _SLOTS
        for slots, where in layout:
            link = self._links[where][0]
            for number in slots:
                self._slots[number] = link
        for topic in self._topics():
            self.place(topic)
        for where in self._links.keys() - set(self._known):
            self._links.pop(where)[1].cancel()
        self._settled.set()
        self._settled = Event()
        self._owner.changed()
        return new

    def _locator(self, where: TCPLocation) -> Callable[[], Awaitable[Place]]:
        """Return what says where a node is; each time but the first it may be gone."""
        tried = False

        async def locate() -> Place:
            nonlocal tried
            if tried:
                self.moved()
            tried = True
            return where

        return locate

    async def _run(self, link: Link) -> None:
        (scope,) = (scope for each, scope in self._links.values() if each is link)
        with scope:
            await link.run()


def _text(reply: str | bytes) -> str:
    return reply.decode() if isinstance(reply, bytes) else reply
