"""Connections to servers: opened, asked for a sign of life, and why they end."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

from anyio import (
    BrokenResourceError,
    CapacityLimiter,
    ClosedResourceError,
    Event,
    create_task_group,
    fail_after,
    move_on_after,
)
from anyio.abc import TaskGroup
from coredis.commands import CommandRequest
from coredis.connection import (
    BaseConnection,
    TCPConnection,
    TCPLocation,
    UnixDomainSocketConnection,
    UnixDomainSocketLocation,
)
from coredis.exceptions import RedisError

from tako.topics.history import History
from tako.topics.redis.wire import Names


_FIRST_PAUSE: Final = 0.05  # seconds before the second attempt
_MOST_PAUSE: Final = 2.0

FAILURES: Final = (RedisError, OSError, BrokenResourceError, ClosedResourceError)
"""What ends an attempt; ``TimeoutError`` and ``ssl.SSLError`` are an ``OSError``."""

Place: TypeAlias = TCPLocation | UnixDomainSocketLocation
"""Where a server is."""

Reply: TypeAlias = Any
"""What a command answered; an exception stands for an error."""


@dataclass(frozen=True, slots=True, repr=False)
class Settings:
    """What links have in common.

    Attributes:
        options: of every connection: user, password, database, TLS.
        timeout: how long a server may be silent, in seconds.
        names: of channels and keys.
        history: what is kept; ``None``: nothing.
        sharded: whether to use sharded pub/sub.
        cluster: whether servers are nodes of a cluster.
        primary: whether the server must say that it is a primary.
    """

    options: dict[str, Any]
    timeout: float
    names: Names
    history: History | None
    sharded: bool
    cluster: bool
    primary: bool

    def connection(
        self, location: Place, budget: CapacityLimiter | None = None
    ) -> BaseConnection:
        """Return a connection that is not open yet.

        It reads only while it has ``budget``, unless a request waits for its reply.
        """
        budget = budget or CapacityLimiter(1)
        if isinstance(location, UnixDomainSocketLocation):
            return UnixDomainSocketConnection(
                location, processing_budget=budget, **self.options
            )
        return TCPConnection(location, processing_budget=budget, **self.options)


class _Opened:
    """What a connection calls once it is open."""

    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event = Event()

    def started(self, value: object = None) -> None:
        self.event.set()


async def opened(tasks: TaskGroup, connection: BaseConnection) -> None:
    """Run a connection in ``tasks``, which fail when it ends; wait until it is open."""
    status = _Opened()

    async def hold() -> None:
        try:
            await connection.run(task_status=status)
        except RedisError:
            # one that is cancelled while it opens makes an error of that
            if not tasks.cancel_scope.cancel_called:
                raise
        else:
            msg = "the server has closed the connection"
            raise ConnectionError(msg)

    tasks.start_soon(hold)
    await status.event.wait()


async def ping(connection: BaseConnection, limit: float) -> None:
    """Wait for a PONG.

    The limit has two halves: a loop that was blocked past one has not read yet.

    Raises:
        TimeoutError: none has come.
    """
    request = connection.create_request(b"PING")
    for _ in range(2):
        with move_on_after(limit / 2):
            await request
            return
    msg = "the server does not answer"
    raise TimeoutError(msg)


def _as_it_is(reply: Reply) -> Reply:
    return reply


def command(name: bytes, *args: str | bytes | int) -> CommandRequest[Any]:
    """Return a command for a batch."""
    return CommandRequest[Any](name, *args, callback=_as_it_is, execution_parameters={})


def pause(failed: int) -> float:
    """Return how long to wait after so many attempts: not as long as others."""
    most = min(_FIRST_PAUSE * float(2 ** min(failed, 10)), _MOST_PAUSE)
    return most * (0.5 + random.random() / 2)  # noqa: S311 - no secret


def reason(errors: BaseExceptionGroup[BaseException]) -> str:
    """Return what the first error says."""
    first: Any = errors.exceptions[0]
    if isinstance(first, BaseExceptionGroup):
        return reason(cast("BaseExceptionGroup[BaseException]", first))
    text = str(first) or type(first).__name__
    why = str(first.__cause__ or "")
    return f"{text}: {why}" if why else text


async def ask_any(
    settings: Settings, places: Sequence[TCPLocation], command: bytes, *args: str
) -> tuple[TCPLocation, Reply]:
    """Return what the first server that answers says, and which it is.

    Each has an equal part of the time there is.

    Raises:
        ConnectionError: none answers.
    """
    why, reply = "", None
    for place in places:
        try:
            with fail_after(settings.timeout / len(places)):
                async with create_task_group() as tasks:
                    connection = settings.connection(place)
                    await opened(tasks, connection)
                    reply = await connection.create_request(command, *args)
                    tasks.cancel_scope.cancel()
                return place, reply
        except* FAILURES as errors:
            why = f"{place}: {reason(errors)}"
    msg = f"no server answers; the last: {why}"
    raise ConnectionError(msg)
