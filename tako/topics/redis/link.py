"""``Link``: what the engine has with one server, and how it comes back.

Theory of operation. A link has two connections to its server: one receives, the other
asks. They live and end together, in an *attempt*: a task group in which everything
that fails ends everything. The loop around it waits, longer each time, and makes the
next attempt. Nothing of coredis that reconnects by itself is used: neither its pools
nor its ``PubSub``, so nothing is lost that we do not hear of.

*Alive.* ``_probe`` asks both connections for a PONG, the receiving one when it was
silent. A server that does not answer within ``timeout``, stopped or behind a cut link,
ends the attempt, and with it every request that waits. No request has a limit of its
own.

*Bounded.* coredis puts what it receives into a stream without a bound, but it reads
only while it holds its ``processing_budget``. ``_read`` takes the budget, and gives it
back when the stream is empty: what piles up then waits in the server and the kernel.

*Subscribed.* One SUBSCRIBE is on its way at a time; what is wanted meanwhile goes with
the next, and a new attempt begins with all topics. Acknowledgements are pushes, a
refusal is a reply that belongs to no request. Where acknowledged messages may have been
missed, the stream of the topic is read (``_settle``) while nothing is received; what
is received after that is compared by its offset, so nothing is handed on twice.
"""

import enum
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from itertools import dropwhile
from typing import TYPE_CHECKING, Any, Final, Protocol

from anyio import CapacityLimiter, Event, create_task_group, fail_after, sleep
from coredis.commands import CommandRequest
from coredis.connection import BaseConnection
from coredis.exceptions import (
    AskError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError as RedisConnectionError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from tako.core.states import CHECKED, check_transition
from tako.errors import TopicsUnavailable
from tako.topics.engine import Receiver, Replay
from tako.topics.item import Cause, Data, Item, Position
from tako.topics.redis import wire
from tako.topics.redis.connection import (
    FAILURES,
    Place,
    Reply,
    Settings,
    command,
    opened,
    pause,
    ping,
    reason,
)


if TYPE_CHECKING:
    from anyio.abc import TaskGroup


_logger = logging.getLogger("tako.topics.redis")

_MOVED_PAUSE: Final = 0.05  # seconds before a cluster is asked again
_CHUNK: Final = 100  # topics that are read at once: a PING waits for no more

_ELSEWHERE: Final = (AskError, ClusterDownError, TryAgainError)
"""Replies of a node that is not, or not yet, that of the slot; MOVED is one of them."""

_STALE: Final = (NoScriptError, ReadOnlyError, BusyLoadingError)
"""Replies of a server that is not, or not yet, what it was when we connected."""


class Elsewhere(TopicsUnavailable):
    """A message was not taken: its slot is on another node, or on its way there."""


class LinkState(enum.IntEnum):
    """How far a link is."""

    DOWN = 0
    """There is no connection; it pauses before the next attempt."""
    CONNECTING = 1
    """The connections are being opened."""
    RESTORING = 2
    """Messages can be published; topics are being subscribed to."""
    UP = 3
    """Every topic is subscribed to."""
    ENDED = 4
    """The engine has ended, or the cluster has lost the node."""


_NEXT: dict[LinkState, frozenset[LinkState]] = {
    LinkState.DOWN: frozenset({LinkState.CONNECTING, LinkState.ENDED}),
    LinkState.CONNECTING: frozenset(
        {LinkState.RESTORING, LinkState.DOWN, LinkState.ENDED}
    ),
    LinkState.RESTORING: frozenset({LinkState.UP, LinkState.DOWN, LinkState.ENDED}),
    LinkState.UP: frozenset({LinkState.DOWN, LinkState.ENDED}),
    LinkState.ENDED: frozenset(),
}


class Subscription:
    """A topic that is wanted, whichever link it is on.

    Attributes:
        name: of the topic.
        channel: of the topic.
        ready: set once it is subscribed to, or refused.
        error: why it was refused.
        live: it is subscribed to, and what comes is handed on.
        lost: it was live once, and is not any more.
        epoch: of what was handed on last; ``None``: anything may come next.
        offset: of that.
        run: the server that it was live on.
    """

    __slots__ = (
        "channel",
        "epoch",
        "error",
        "link",
        "live",
        "lost",
        "name",
        "offset",
        "ready",
        "run",
    )

    def __init__(self, name: str, channel: bytes) -> None:
        self.name: Final = name
        self.channel: Final = channel
        self.ready: Event = Event()
        self.error: Exception | None = None
        self.link: Link | None = None
        self.live: bool = False
        self.lost: bool = False
        self.epoch: str | None = None
        self.offset: int = 0
        self.run: str = ""

    def lose(self) -> None:
        """Note that from now on messages may be missed."""
        if self.live:
            self.live, self.lost = False, True


class Owner(Protocol):
    """What a link tells the engine."""

    receiver: Receiver

    def changed(self) -> None:
        """Hear that the state of a link is another."""

    def moved(self) -> None:
        """Hear that a node is not that of a slot."""


class _Asked:
    """A SUBSCRIBE that is on its way, or one for each topic."""

    __slots__ = ("acknowledged", "done", "errors", "one_by_one", "waiting")

    def __init__(self, topics: dict[bytes, Subscription], *, one_by_one: bool) -> None:
        self.waiting = topics
        self.one_by_one = one_by_one
        self.acknowledged: list[Subscription] = []
        self.errors: list[ResponseError] = []
        self.done = Event()

    def look(self) -> None:
        """Say that it is done if everything was answered."""
        answers = len(self.waiting) if self.one_by_one else 1
        if not self.waiting or len(self.errors) >= answers:
            self.done.set()


class _Outcome:
    """The replies to a batch, once they are there."""

    __slots__ = ("done", "replies")

    def __init__(self) -> None:
        self.replies: Sequence[Reply] | None = None
        self.done = Event()


class Link:
    """The connections to one server, for as long as there is an engine."""

    __slots__ = (
        "_asked",
        "_asking",
        "_failed",
        "_heard",
        "_leaving",
        "_locate",
        "_owner",
        "_publish_sha",
        "_read_sha",
        "_receiving",
        "_run",
        "_settings",
        "_settling",
        "_tasks",
        "_wake",
        "_wanted",
        "_why",
        "state",
        "topics",
    )

    def __init__(
        self,
        settings: Settings,
        owner: Owner,
        locate: Callable[[], Awaitable[Place]],
    ) -> None:
        """Begin without a connection; ``locate`` says where the server is now."""
        self._settings = settings
        self._owner = owner
        self._locate = locate
        self.state: LinkState = LinkState.DOWN
        self.topics: dict[bytes, Subscription] = {}
        self._wanted: dict[bytes, Subscription] = {}
        self._wake = Event()
        self._asked: _Asked | None = None
        self._leaving: Counter[bytes] = Counter()
        self._failed = 0  # attempts in a row
        self._why = ""
        # of an attempt
        self._tasks: TaskGroup | None = None
        self._asking: BaseConnection | None = None
        self._receiving: BaseConnection | None = None
        self._run = ""
        self._publish_sha = self._read_sha = b""
        self._heard = False
        self._settling = False

    def _enter(self, state: LinkState) -> None:
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state = state
        _logger.debug("%#x: link is %s", id(self), state.name)
        self._owner.changed()

    # attempts

    async def run(self) -> None:
        """Be connected, again and again, until cancelled."""
        try:
            while True:
                self._enter(LinkState.CONNECTING)
                why = "it has to be connected anew"
                try:
                    await self._attempt()
                except* (*FAILURES, TopicsUnavailable) as errors:
                    why = reason(errors)
                self._down(why)
                await sleep(pause(self._failed))
                self._failed += 1
        finally:
            self._let_go()
            self._enter(LinkState.ENDED)

    async def _attempt(self) -> None:
        """Connect and work until something fails, which is raised."""
        settings = self._settings
        budget = CapacityLimiter(1)
        async with create_task_group() as tasks:
            with fail_after(settings.timeout):
                location = await self._locate()
                asking = settings.connection(location)
                await opened(tasks, asking)
                receiving = settings.connection(location, budget)
                await opened(tasks, receiving)
                await self._prepare(asking)
            self._tasks, self._asking, self._receiving = tasks, asking, receiving
            self._wanted = dict(self.topics)
            self._enter(LinkState.RESTORING)
            tasks.start_soon(self._read, receiving, budget)
            tasks.start_soon(self._read_refusals, receiving)
            tasks.start_soon(self._probe, asking, receiving)
            await self._subscribe(receiving, budget)

    async def _prepare(self, asking: BaseConnection) -> None:
        """Ask a server for what the attempt has to know."""
        if self._settings.primary:
            role = await asking.create_request(b"ROLE")
            if not isinstance(role, list) or role[0] != b"master":
                msg = "the server is not a primary"
                raise ConnectionError(msg)
        if self._settings.history is None:
            return
        about: Reply = await asking.create_request(b"INFO", b"server", decode=True)
        lines = dict(line.partition(":")[::2] for line in about.splitlines())
        self._run = lines["run_id"]
        load = b"SCRIPT LOAD"
        self._publish_sha = _bytes(await asking.create_request(load, wire.PUBLISH))
        self._read_sha = _bytes(await asking.create_request(load, wire.READ))

    def _down(self, why: str) -> None:
        """Note the end of an attempt."""
        if self.state is not LinkState.CONNECTING or why != self._why:
            _logger.warning("the connection to Redis is lost: %s", why)
        self._why = why
        self._let_go()
        self._enter(LinkState.DOWN)

    def _let_go(self) -> None:
        """Forget what an attempt had."""
        self._tasks = self._asking = self._receiving = self._asked = None
        self._leaving.clear()
        for topic in self.topics.values():
            topic.lose()

    def renew(self, why: str) -> None:
        """End the attempt, so that another one begins."""
        if self._tasks is not None:
            _logger.info("the connection to Redis is made anew: %s", why)
            self._tasks.cancel_scope.cancel()

    async def _probe(self, asking: BaseConnection, receiving: BaseConnection) -> None:
        """End the attempt if the server is silent."""
        timeout = self._settings.timeout
        while True:
            self._heard = False
            await sleep(timeout / 2)
            await ping(asking, timeout / 2)
            if not self._heard and not self._settling:
                try:
                    await ping(receiving, timeout / 2)
                except ResponseError as error:  # it has taken the place of the PONG
                    self._refused(error)

    # receiving

    async def _read(self, connection: BaseConnection, budget: CapacityLimiter) -> None:
        """Take what is received, at once."""
        async with aclosing(connection.push_messages) as pushes:
            while True:
                push = await anext(pushes)
                async with budget:
                    self._take(push)
                    while not connection.reusable:  # more is there, or it has ended
                        self._take(await anext(pushes))

    def _take(self, push: Reply) -> None:
        kind, channel = push[0], push[1]
        self._heard = True
        if kind in {b"message", b"smessage"}:
            topic = self.topics.get(channel)
            if topic is not None and topic.live:
                self._message(topic, push[2])
        elif kind in {b"subscribe", b"ssubscribe"}:
            self._acknowledged(channel)
        elif kind in {b"unsubscribe", b"sunsubscribe"}:
            self._gone(channel)

    def _message(self, topic: Subscription, payload: bytes) -> None:
        try:
            data, position = wire.unpack(payload)
        except ValueError:
            _logger.warning("%s: what came is no message of tako's", topic.name)
            return
        if position is not None and not self._follows(topic, position):
            return
        self._owner.receiver.message(topic.name, data, position)

    def _follows(self, topic: Subscription, position: Position) -> bool:
        """Note a position; ``False``: the message was handed on before."""
        missed = 0
        if topic.epoch == position.epoch:
            if position.offset <= topic.offset:
                return False
            missed = position.offset - topic.offset - 1
        elif topic.epoch is not None:
            missed = position.offset - 1
        if missed:
            self._owner.receiver.gap(topic.name, Cause.ENGINE, missed)
        topic.epoch, topic.offset = position.epoch, position.offset
        return True

    def _acknowledged(self, channel: bytes) -> None:
        asked = self._asked
        topic = asked.waiting.pop(channel, None) if asked is not None else None
        if asked is None or topic is None:
            return
        if self.topics.get(channel) is topic:
            if self._settings.history is None:
                if topic.lost:
                    self._owner.receiver.gap(topic.name, Cause.ENGINE, None)
                topic.epoch = None
                self._begin(topic)
            else:
                asked.acknowledged.append(topic)
        asked.look()

    def _gone(self, channel: bytes) -> None:
        """Hear that a channel is not subscribed to any more."""
        if self._leaving[channel] > 1:
            self._leaving[channel] -= 1
        elif self._leaving.pop(channel, 0) == 0 and channel in self.topics:
            topic = self.topics[channel]  # its slot has left the node
            topic.lose()
            self._want(topic)
            self._owner.moved()

    def _begin(self, topic: Subscription) -> None:
        topic.live, topic.lost, topic.run = True, False, self._run
        topic.ready.set()

    # subscribing

    def add(self, topic: Subscription) -> None:
        """Subscribe to a topic as soon as there is a connection."""
        topic.link = self
        self.topics[topic.channel] = topic
        self._want(topic)

    def _want(self, topic: Subscription) -> None:
        self._wanted[topic.channel] = topic
        self._wake.set()

    def drop(self, topic: Subscription) -> None:
        """Need a topic no longer."""
        topic.link = None
        topic.lose()
        del self.topics[topic.channel]
        if (
            self._wanted.pop(topic.channel, None) is None
            and self._receiving is not None
        ):
            leave = b"SUNSUBSCRIBE" if self._settings.sharded else b"UNSUBSCRIBE"
            self._leaving[topic.channel] += 1
            try:
                self._receiving.send_command(leave, topic.channel)
            except FAILURES:  # the attempt ends in a moment, and the channel with it
                _logger.debug("%s: it was left without saying so", topic.name)

    async def _subscribe(
        self, connection: BaseConnection, budget: CapacityLimiter
    ) -> None:
        """Subscribe to what is wanted, whenever something is."""
        one_by_one = False
        while True:
            while not self._wanted:
                if self.state is LinkState.RESTORING:
                    self._failed = 0
                    self._why = ""
                    self._enter(LinkState.UP)
                self._wake = Event()
                await self._wake.wait()
            topics, self._wanted = self._wanted, {}
            one_by_one = await self._ask(
                connection, budget, topics, one_by_one=one_by_one
            )

    async def _ask(
        self,
        connection: BaseConnection,
        budget: CapacityLimiter,
        topics: dict[bytes, Subscription],
        *,
        one_by_one: bool,
    ) -> bool:
        """Subscribe to topics; return whether to ask for each alone next time."""
        sharded = self._settings.sharded
        self._asked = asked = _Asked(dict(topics), one_by_one=one_by_one or sharded)
        command = b"SSUBSCRIBE" if sharded else b"SUBSCRIBE"
        if asked.one_by_one:
            for channel in topics:  # in a cluster each may be in another slot
                connection.send_command(command, channel)
        else:
            connection.send_command(command, *topics)
        await asked.done.wait()
        self._asked = None
        if asked.acknowledged:
            self._settling = True
            async with budget:  # nothing is received meanwhile
                await self._settle(asked.acknowledged)
            self._settling = False
        if not asked.errors:
            return False
        left = [
            topic
            for channel, topic in asked.waiting.items()
            if self.topics.get(channel) is topic
        ]
        elsewhere = self._settings.cluster and any(
            isinstance(error, _ELSEWHERE) for error in asked.errors
        )
        if not elsewhere and (asked.one_by_one or len(topics) == 1):
            for topic in left:
                self._refuse(topic, asked.errors[0])
            return False
        for topic in left:
            self._want(topic)
        if elsewhere:
            self._owner.moved()
            await sleep(_MOVED_PAUSE)
        return True

    async def _read_refusals(self, connection: BaseConnection) -> None:
        """Take errors that belong to no request: those of SUBSCRIBE."""
        async with aclosing(connection.streamed_messages) as replies:
            async for reply in replies:
                if isinstance(reply, RedisError):
                    self._refused(reply)

    def _refused(self, error: RedisError) -> None:
        if self._asked is None or not isinstance(
            error, (AuthorizationError, *_ELSEWHERE)
        ):
            raise error
        self._asked.errors.append(error)
        self._asked.look()

    def _refuse(self, topic: Subscription, error: Exception) -> None:
        """Give up a topic until the next attempt."""
        _logger.error("%s: Redis refuses the subscription: %s", topic.name, error)
        if topic.lost:
            self._owner.receiver.gap(topic.name, Cause.ENGINE, None)
        topic.error = error
        topic.ready.set()

    # histories

    async def _settle(self, topics: list[Subscription]) -> None:
        """Read what was missed, and begin."""
        for first in range(0, len(topics), _CHUNK):
            chunk = topics[first : first + _CHUNK]
            replies = await self.ask([self._read_command(each) for each in chunk])
            for topic, reply in zip(chunk, replies, strict=True):
                if isinstance(reply, BaseException):
                    raise reply
                if self.topics.get(topic.channel) is topic:
                    self._settled(topic, reply)

    def _read_command(self, topic: Subscription) -> CommandRequest[Any]:
        meta, log = self._settings.names.keys(topic.name)
        return command(
            *(b"EVALSHA", self._read_sha, 2, meta, log),
            *(topic.epoch or "", topic.offset, int(topic.lost)),
        )

    def _settled(self, topic: Subscription, reply: Reply) -> None:
        """Hand on what was missed of a topic, and a gap where it is not there."""
        epoch, last, entries = reply[0].decode(), reply[1], reply[4]
        if topic.lost:
            receiver = self._owner.receiver
            known = topic.epoch in {"", epoch} and last >= topic.offset
            if not known or topic.run != self._run:
                receiver.gap(topic.name, Cause.ENGINE, None)
            else:
                begin = _offset(entries[0]) if entries else last + 1
                if missed := begin - topic.offset - 1:
                    receiver.gap(topic.name, Cause.ENGINE, missed)
            seen = topic.offset if epoch == topic.epoch else 0
            new = [entry for entry in entries if _offset(entry) > seen]
            for item in _items(topic.name, epoch, new):
                receiver.message(item.topic, item.data, item.position)
        topic.epoch, topic.offset = epoch, last
        self._begin(topic)

    async def history(self, name: str, since: Position) -> Replay:
        """Return what is kept of a topic behind a position.

        Raises:
            TopicsUnavailable: there is no connection, or it is made anew.
            ConnectionError: it was lost.
            coredis.exceptions.ResponseError: the server refuses to say.
        """
        meta, log = self._settings.names.keys(name)
        args = (meta, log, since.epoch, since.offset, 1)
        (reply,) = await self.ask([command(b"EVALSHA", self._read_sha, 2, *args)])
        if isinstance(reply, Exception):
            raise self._meant(reply)
        epoch, last, run, now, entries = reply
        limits = self._settings.history
        seconds = limits.seconds if limits is not None else None
        if seconds is not None:
            entries = [*dropwhile(lambda e: wire.age(e[1][3], now) >= seconds, entries)]
        end = Position(epoch.decode(), last) if run.decode() == self._run else None
        return Replay(_items(name, epoch.decode(), entries), end)

    # asking

    async def ask(self, commands: Sequence[CommandRequest[Any]]) -> Sequence[Reply]:
        """Return the replies to commands, which are sent at once, in their order.

        Cancel safety: the commands are done all the same.

        Raises:
            TopicsUnavailable: there is no connection; nothing was sent.
        """
        tasks, asking = self._tasks, self._asking
        if tasks is None or asking is None or tasks.cancel_scope.cancel_called:
            msg = "Redis is not reached"
            raise TopicsUnavailable(msg)
        outcome = _Outcome()
        try:
            batch = asking.create_request_batch(commands)
        except FAILURES as error:  # it has ended, and we have not heard of it yet
            raise TopicsUnavailable(str(error)) from error

        async def wait() -> None:  # it ends the connection if it is cancelled
            try:
                outcome.replies = await batch
            finally:
                outcome.done.set()

        tasks.start_soon(wait)
        await outcome.done.wait()
        if outcome.replies is None:
            msg = "the connection to Redis was lost"
            return [ConnectionError(msg)] * len(commands)
        if any(isinstance(reply, _STALE) for reply in outcome.replies):
            self.renew("it has changed")
        return outcome.replies

    async def publish(
        self, messages: Sequence[tuple[str, Data]]
    ) -> Sequence[Position | Exception | None]:
        """Return a position, ``None`` or an error for each message.

        Raises:
            TopicsUnavailable: there is no connection; nothing was sent.
        """
        settings = self._settings
        how = b"SPUBLISH" if settings.sharded else b"PUBLISH"
        names, limits = settings.names, settings.history
        if limits is None:
            commands = [
                command(how, names.channel(topic), wire.pack(data))
                for topic, data in messages
            ]
        else:
            kept = wire.kept(limits)
            commands = [
                command(
                    *(b"EVALSHA", self._publish_sha, 2, *names.keys(topic)),
                    *(how, names.channel(topic), wire.pack(data)),
                    *(self._run, wire.new_epoch(), *kept),
                )
                for topic, data in messages
            ]
        return [self._published(reply) for reply in await self.ask(commands)]

    def _published(self, reply: Reply) -> Position | Exception | None:
        if isinstance(reply, Exception):
            return self._meant(reply)
        if self._settings.history is None:
            return None
        return Position(reply[0].decode(), reply[1])

    def _meant(self, error: Exception) -> Exception:
        """Return what an error of coredis is to topics."""
        if isinstance(error, _ELSEWHERE) and self._settings.cluster:
            return Elsewhere(str(error))
        if isinstance(error, _STALE):
            return TopicsUnavailable(str(error))
        if isinstance(error, RedisConnectionError):
            return ConnectionError(str(error))
        return error


def _items(topic: str, epoch: str, entries: Reply) -> list[Item]:
    """Return what a stream has, as items."""
    return [
        Item(topic, wire.unpack(fields[1])[0], Position(epoch, _offset(entry)))
        for entry in entries
        for fields in (entry[1],)
    ]


def _offset(entry: Reply) -> int:
    """Return the offset of what a stream has: its id is ``offset-0``."""
    return int(entry[0].partition(b"-")[0])


def _bytes(reply: Reply) -> bytes:
    return reply.encode() if isinstance(reply, str) else bytes(reply)
