"""``RedisEngine``: topics over Redis or Valkey."""

import logging
import ssl
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from anyio import Event, move_on_after
from coredis.connection import TCPLocation, UnixDomainSocketLocation

from tako.errors import ConfigError, TopicsUnavailable
from tako.topics.engine import Receiver, Replay
from tako.topics.history import History
from tako.topics.item import Data, Position
from tako.topics.redis.connection import FAILURES, Place, Settings
from tako.topics.redis.link import Elsewhere, Link, Subscription
from tako.topics.redis.servers import Cluster, One, Sentinels, Servers
from tako.topics.redis.url import RedisUrl, Topology
from tako.topics.redis.wire import Names


_logger = logging.getLogger("tako.topics.redis")

_TRIES: Final = 10  # of a message whose slot is being moved


class RedisEngine:
    """Topics over Redis or Valkey, 6 or later (7 for a cluster): an ``Engine``.

    Every process has two connections to the server, or to each primary of a cluster.
    A topic is subscribed to once in a process, however many feeds it has. What a user
    of the server's ACL needs is in ``tako/topics/README.md``.

    Args:
        url: see ``tako.topics.redis.url``; ``valkey`` may stand for ``redis``.
        history: what is kept of each topic, in the server: a stream, which is forgotten
            a day after the last message. ``topics`` has no meaning here.
        prefix: of all channels and keys, without braces.
        sharded: use sharded pub/sub; ``None``: in a cluster.
        timeout: seconds after which a silent server counts as lost.
        ssl_context: for ``rediss``; the default verifies the server and its name.
        sentinel_username: for Sentinels, which have users of their own.
        sentinel_password: for Sentinels.

    Raises:
        ConfigError: one of these cannot be.

    Example::

        engine = RedisEngine("rediss+cluster://me:secret@a,b", prefix="chat:")
        topics = tako.topics.Topics(engine)
    """

    receiver: Receiver

    def __init__(
        self,
        url: str,
        *,
        history: History | None = None,
        prefix: str = "tako:",
        sharded: bool | None = None,
        timeout: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
        sentinel_username: str | None = None,
        sentinel_password: str | None = None,
    ) -> None:
        self._url: Final = RedisUrl.parse(url)
        if "{" in prefix or "}" in prefix:
            msg = f"prefix has no braces: {prefix!r}"
            raise ConfigError(msg)
        if not timeout > 0:
            msg = f"timeout is positive: {timeout!r}"
            raise ConfigError(msg)
        cluster = self._url.topology is Topology.CLUSTER
        tls: dict[str, Any] = {}
        if self._url.tls:
            tls["ssl_context"] = ssl_context or self._url.context()
        elif ssl_context is not None:
            msg = "ssl_context is for rediss://"
            raise ConfigError(msg)
        self._settings: Final = Settings(
            options={
                "username": self._url.username,
                "password": self._url.password,
                "db": self._url.db,
                **tls,
            },
            timeout=timeout,
            names=Names(prefix),
            history=history,
            sharded=cluster if sharded is None else sharded,
            cluster=cluster,
            primary=self._url.topology is Topology.SENTINEL,
        )
        self._sentinel_options: Final = {
            "username": sentinel_username,
            "password": sentinel_password,
            **tls,
        }
        self._topics: dict[str, Subscription] = {}
        self._servers: Servers | None = None
        self._up = False
        self._turned: Event = Event()  # set when the state of a link is another
        self._ended = False

    def __repr__(self) -> str:
        return f"<RedisEngine {self._url}>"

    async def run(self, receiver: Receiver) -> None:
        """Connect and receive until cancelled; see ``Engine``.

        Raises:
            RuntimeError: it was called before.
        """
        if self._servers is not None:
            msg = "an engine runs once"
            raise RuntimeError(msg)
        self.receiver = receiver
        self._servers = servers = self._find()
        for topic in self._topics.values():
            servers.place(topic)
        try:
            await servers.run()
        finally:
            self._ended = True
            self._turned.set()
            for topic in self._topics.values():
                topic.ready.set()

    def _find(self) -> Servers:
        url, settings = self._url, self._settings
        if url.topology is Topology.CLUSTER:
            return Cluster(settings, self, url.hosts, lambda: [*self._topics.values()])
        if url.topology is Topology.SENTINEL:
            asking = replace(settings, options=self._sentinel_options)
            return One(settings, self, Sentinels(asking, url.hosts, url.service).locate)
        there: Place = (
            UnixDomainSocketLocation(url.path)
            if url.path
            else TCPLocation(*url.hosts[0])
        )

        async def locate() -> Place:
            return there

        return One(settings, self, locate)

    # what links say

    def changed(self) -> None:
        """See ``link.Owner``."""
        turned, self._turned = self._turned, Event()
        turned.set()
        up = self._servers is not None and self._servers.up
        if up is not self._up:
            self._up = up
            self.receiver.state(up=up)

    def moved(self) -> None:
        """See ``link.Owner``."""
        if self._servers is not None:
            self._servers.moved()

    # what topics ask

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Receive messages of topics; see ``Engine``.

        Raises:
            TopicsUnavailable: the server refuses a topic, or the engine has ended.

        Cancel safety: ``unsubscribe`` the topics then.
        """
        wanted: list[Subscription] = []
        for name in topics:
            topic = self._topics.get(name)
            if topic is None:
                topic = Subscription(name, self._settings.names.channel(name))
                self._topics[name] = topic
                if self._servers is not None:
                    self._servers.place(topic)
            wanted.append(topic)
        for topic in wanted:
            if not self._ended:
                await topic.ready.wait()
            if topic.error is not None:
                msg = f"Redis refuses the topic {topic.name!r}: {topic.error}"
                raise TopicsUnavailable(msg) from topic.error
        if self._ended:
            msg = "the engine has ended"
            raise TopicsUnavailable(msg)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Receive no more messages of topics; see ``Engine``."""
        for name in topics:
            topic = self._topics.pop(name, None)
            if topic is not None and topic.link is not None:
                topic.link.drop(topic)

    async def history(self, topic: str, since: Position) -> Replay:
        """Return what is kept behind a position; see ``Engine``.

        While the server is not reached it waits. Where it refuses to say, that is
        nothing, and no position is known.

        Raises:
            TopicsUnavailable: the engine has ended.
        """
        if self._settings.history is None:
            return Replay((), None)
        while not self._ended:
            link, turned = self._link(topic), self._turned
            try:
                if link is not None:
                    return await link.history(topic, since)
            except (ConnectionError, TopicsUnavailable) as error:
                _logger.debug("%s: its history is read again: %s", topic, error)
                if isinstance(error, Elsewhere):
                    self.moved()
            except FAILURES as error:
                _logger.warning("%s: its history was not read: %s", topic, error)
                return Replay((), None)
            await turned.wait()
        msg = "the engine has ended"
        raise TopicsUnavailable(msg)

    async def publish(
        self, batch: Sequence[tuple[str, Data]]
    ) -> Sequence[Position | Exception | None]:
        """Hand on messages; see ``Engine``.

        In place of a position stands ``ConnectionError`` where the server was lost, and
        may have taken the message; a ``ResponseError`` of coredis where it refuses
        that. What waits while the server is silent may be published when it goes on.

        Raises:
            TopicsUnavailable: the server is not reached; nothing was taken.

        Cancel safety: they are published all the same.
        """
        results: list[Any] = [None] * len(batch)
        left = list(range(len(batch)))
        for _ in range(_TRIES):
            await self._send(batch, left, results)
            left = [each for each in left if isinstance(results[each], Elsewhere)]
            if not left or self._servers is None:
                break
            with move_on_after(self._settings.timeout):
                await self._servers.settled()
        if results and all(isinstance(each, TopicsUnavailable) for each in results):
            raise results[0]
        return results

    async def _send(
        self, batch: Sequence[tuple[str, Data]], which: list[int], results: list[Any]
    ) -> None:
        """Publish some messages of a batch, on the link of each; note what becomes."""
        links: dict[Link, list[int]] = {}
        for each in which:
            link = self._link(batch[each][0])
            if link is None:
                results[each] = TopicsUnavailable("Redis is not reached")
            else:
                links.setdefault(link, []).append(each)
        for link, some in links.items():
            replies: Sequence[Any]
            try:
                replies = await link.publish([batch[each] for each in some])
            except TopicsUnavailable as error:
                replies = [error] * len(some)
            for each, reply in zip(some, replies, strict=True):
                results[each] = reply

    def _link(self, topic: str) -> Link | None:
        return self._servers.link(topic) if self._servers is not None else None
