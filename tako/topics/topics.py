"""``Topics``: what a program publishes to and subscribes to.

Theory of operation. A ``Topics`` is made once, at import time for example, and does
nothing before its first use; that begins a ``Session`` on the loop that runs. When the
servers of that loop have ended, or the ``async with`` block has, the session is over
and the next use begins another one.
"""

import re
import weakref
from collections.abc import Mapping
from importlib import import_module
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

from tako.errors import ConfigError
from tako.runtime import current, endings
from tako.topics.counts import PROCESS, Counts, Tally
from tako.topics.engine import Engine
from tako.topics.feed import Feed, Since
from tako.topics.history import History
from tako.topics.hub import joined
from tako.topics.item import Data, Position
from tako.topics.policy import Policy, drop_oldest
from tako.topics.session import Phase, Session


_NAME: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f{}]{1,255}")
_NAME_SIZE = 255  # bytes of UTF-8
_MESSAGE_SIZE = 1 << 20  # bytes of UTF-8
_TOPICS = 100  # of a feed
_FLUSH = 1.0  # seconds for what waits for the engine at the end

_REDIS = frozenset({"redis", "rediss", "valkey", "valkeys"})

_NOWHERE: Final[Mapping[str, Since]] = {}  # one for all feeds that begin with now


class Topics:
    """Messages to everyone who subscribes to a topic.

    Without arguments it reaches this process; under ``tako serve --workers`` all
    workers of the machine. With the URL of a Redis or Valkey server it reaches
    everything that uses the same one. Make one for a program, and use it from handlers,
    ASGI apps and scripts.

    Publishing never waits for subscribers. A message reaches each of them at most once,
    in the order in which one publisher has published to the topic; where subscribers
    may have missed something, they get a ``Gap``.

    Names that are made of what a client sends are a matter of authorisation: check who
    may read a topic before you subscribe for them.

    Args:
        url: ``redis://``, ``rediss://``, ``valkey://`` or ``valkeys://``, a cluster or
            Sentinels (``tako.topics.redis.url``, extra ``tako-server[redis]``), or an
            ``Engine``; ``None``: none is needed.
        history: keep the last messages of each topic, so that items have positions,
            and ``subscribe(since=...)`` can resume.

    Raises:
        ConfigError: the URL is of another kind, or the extra is not installed.

    Example::

        topics = tako.topics.Topics()

        async def session(ws: tako.WebSocket) -> None:
            async with topics.subscribe("room/7") as feed, ws.relay(feed):
                async for message in ws:
                    if isinstance(message, str):
                        await topics.publish("room/7", message)
    """

    def __init__(
        self, url: "str | Engine | None" = None, *, history: History | None = None
    ) -> None:
        self._url = url
        self._history = history
        self._tally = Tally()
        self._session: Session | None = None
        self._home: object = None  # what tells the session's loop from others
        if isinstance(url, str):
            engine_for(url, history)  # to find mistakes now
        elif url is not None and history is not None:
            msg = "give history= to the engine"
            raise ConfigError(msg)
        PROCESS.begin(self._tally)
        weakref.finalize(self, PROCESS.end, self._tally).atexit = False

    def __repr__(self) -> str:
        where = self._url
        if isinstance(where, str):  # without a password
            parts = urlsplit(where)
            where = f"{parts.scheme}://{parts.hostname}"
        return f"<Topics {'of this machine' if where is None else where}>"

    @property
    def counts(self) -> Counts:
        """What was done so far, in numbers."""
        return self._tally.counts()

    async def publish(self, topic: str, data: Data) -> Position | None:
        """Publish a message to whoever subscribes to ``topic``.

        Returns when the engine has taken it, with its position if there is a history.
        Without an engine it was handed to the subscribers of this process. While the
        engine is not reached, up to 1,000 messages of 4 MiB together wait.

        Args:
            topic: 1 to 255 bytes of UTF-8, without control characters and braces.
            data: the message, at most 1 MiB.

        Raises:
            TopicsUnavailable: the engine cannot take it.
            TypeError: ``data`` is neither ``str`` nor ``bytes``.
            ValueError: the name or the message cannot be.
            RuntimeError: another event loop uses these topics.

        Cancel safety: a message that waits is withdrawn; one that is on its way to the
        engine may be published.

        Example::

            await topics.publish("user/9", "you have mail")
        """
        session = self._session
        if session is None or session.phase is not Phase.OPEN or not self._at_home():
            session = await self._begun()
        if not session.knows(topic):
            _check_name(topic)
        _check_data(data)
        return await session.publish(topic, data)

    def subscribe(
        self,
        *topics: str,
        since: Since | Mapping[str, Since] | None = None,
        bound: int = 256,
        size: int = 1 << 20,
        policy: Policy = drop_oldest,
    ) -> Feed:
        """Return a feed of what is published to ``topics``: ``async with`` it.

        What is published once the block has begun is received. ``since`` goes before
        that: what the history has behind a position is replayed, and nothing comes
        twice. Where that is not all there was, a ``Gap`` comes first.

        Args:
            topics: up to 100 names.
            since: a position, or ``str(position)`` as a client has kept it: where it
                has been. ``OLDEST``: begin with all that is kept. A mapping says it for
                some of several topics.
            bound: how many items may wait, at least one.
            size: how many bytes may wait; a single item always may.
            policy: what becomes of items beyond that: ``drop_oldest``, ``drop_newest``,
                ``latest(key)`` or ``close(1013)``.

        Raises:
            ValueError: no topic, too many, one that cannot be, or a bound below 1.

        Raises, when the feed is entered:
            RuntimeError: another event loop uses these topics.
            TopicsUnavailable: they were closed.

        Cancel safety of entering: safe. While the engine is not reached it waits.

        Example::

            async with topics.subscribe("room/7", since=position) as feed:
                async for item in feed:
                    if isinstance(item, tako.topics.Gap):
                        ...  # fetch everything anew
        """
        names: tuple[str, ...] = tuple(dict.fromkeys(topics))
        if not 1 <= len(names) <= _TOPICS:
            msg = f"a feed has 1 to {_TOPICS} topics, not {len(names)}"
            raise ValueError(msg)
        for name in names:
            _check_name(name)
        if bound < 1 or size < 1:
            msg = "bound and size are at least 1"
            raise ValueError(msg)
        if since is None:
            since = _NOWHERE
        elif not isinstance(since, Mapping):
            if len(names) > 1:
                msg = "since= of several topics is a mapping: {topic: position}"
                raise ValueError(msg)
            since = dict.fromkeys(names, since)
        if not set(since) <= set(names):
            msg = "since= names a topic that is not subscribed to"
            raise ValueError(msg)
        return Feed(self._begun, names, since, bound, size, policy)

    async def __aenter__(self) -> Self:
        await self._begun()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End all feeds; wait up to a second for what is still to be published.

        A server does that at its end. A script ends with it, or uses ``async with``.
        Topics can be used again afterwards, unless they were given an ``Engine``.

        Cancel safety: they end at once.
        """
        session = self._session
        if session is not None:
            await session.servers_ended(_FLUSH)
            endings.leave(session)

    # Inside ------------------------------------------------------------------------

    def _at_home(self) -> bool:
        return current().caller() == self._home

    def _visit(self) -> Session:
        """Return the session on the running loop; begin one if there is none.

        Raises:
            RuntimeError: there is one on another loop.
        """
        session = self._session
        over = session is None or session.phase is Phase.CLOSED
        if session is not None and not over:
            if self._at_home():
                return session
            if endings.alive(self._home):
                msg = (
                    "another event loop uses these topics: make a Topics for each, "
                    "or await topics.aclose() on the first one before"
                )
                raise RuntimeError(msg)
            endings.leave(session)
        backend = current()
        engine = self._engine(used=session is not None)
        self._home = backend.caller()
        self._session = session = Session(backend, engine, self._history, self._tally)
        endings.join(session)
        return session

    def _engine(self, *, used: bool) -> Engine | None:
        url = self._url
        if url is None or isinstance(url, str):
            return engine_for(url, self._history)
        if used:
            msg = "this engine was closed with its topics: make both anew"
            raise RuntimeError(msg)
        return url

    async def _begun(self) -> Session:
        """Return the session on the running loop, begun."""
        session = self._visit()
        await session.begun()
        return session


def engine_for(url: str | None, history: History | None) -> Engine | None:
    """Return what carries messages to where ``url`` is; ``None``: nothing is needed.

    Raises:
        ConfigError: there is nothing for such a URL, or it is not installed.
    """
    if url is None:
        return joined(history)
    scheme = url.partition(":")[0]
    if scheme.partition("+")[0] not in _REDIS:
        msg = (
            f"topics know redis://, rediss://, valkey:// and valkeys://, not {scheme}:"
        )
        raise ConfigError(msg)
    try:
        redis = import_module("tako.topics.redis")
    except ImportError as error:
        msg = f"topics over {scheme}: need pip install 'tako-server[redis]' ({error})"
        raise ConfigError(msg) from error
    engine: Engine = redis.RedisEngine(url, history=history)
    return engine


def _check_name(topic: str) -> None:
    if not isinstance(topic, str):
        msg = f"a topic is a str, not {type(topic).__name__}"
        raise TypeError(msg)
    if _NAME.fullmatch(topic) is None or (
        not topic.isascii() and len(topic.encode()) > _NAME_SIZE
    ):
        msg = (
            f"a topic has 1 to {_NAME_SIZE} bytes of UTF-8, no control characters and "
            f"no braces: {topic[:_NAME_SIZE]!r}"
        )
        raise ValueError(msg)


def _check_data(data: Data) -> None:
    """Check a message; what is no UTF-8 raises as encoding it does."""
    if isinstance(data, str):
        size = len(data) if data.isascii() else len(data.encode())
    elif isinstance(data, bytes):
        size = len(data)
    else:
        msg = f"publish takes str or bytes, not {type(data).__name__}"
        raise TypeError(msg)
    if size > _MESSAGE_SIZE:
        msg = f"a message has at most {_MESSAGE_SIZE} bytes, not {size}"
        raise ValueError(msg)
