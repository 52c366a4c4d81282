"""Topics over two machines, each with two workers, behind HAProxy, on one Redis.

While messages flow a worker is killed, others are replaced, readers stand still, a
machine loses its link to Redis, and Redis is restarted. What each follower was told is
complete, or has a gap exactly where something is missing.
"""

import os
import signal
import ssl
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

import tako
from tako.errors import TakoError, TopicsUnavailable
from tako.runtime import monotonic
from tako.topics import OLDEST, Position
from tests.support import machines
from tests.support.hosts import Host
from tests.support.loops import run_on
from tests.support.machines import LoopbackAddress, Machine, Namespace
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.proxies import haproxy, needs
from tests.support.redis_server import RedisServer, needs_server
from tests.support.server import Credentials, RuntimeName


anyio = pytest.importorskip("anyio")
pytest.importorskip("coredis")

pytestmark = [
    needs("haproxy"),
    needs_server,
]

GAP = "gap"
TOPICS = ["a", "b"]
STALLING = "c"
"""The topic of those who stand still for a while; much comes of it meanwhile."""
PAD = "x" * 4_000
SMALL_BUFFERS = """
    tune.rcvbuf.client 16384
    tune.rcvbuf.server 16384
    tune.sndbuf.client 16384
    tune.sndbuf.server 16384
"""
"""So that a client that stands still is soon felt by the server."""


class Bed:
    """Two machines, HAProxy and Redis; a context manager."""

    redis: RedisServer

    def __init__(
        self,
        kind: Callable[[], Machine],
        runtime: RuntimeName,
        credentials: Credentials,
        folder: Path,
        sockets: int,
    ) -> None:
        self._stack = ExitStack()
        self._runtime = runtime
        self._credentials = credentials
        self.machines = [kind() for _ in range(2)]
        self.servers: list[Host] = []
        self._folder = folder
        self._sockets = sockets
        self.url = ""

    def __enter__(self) -> Self:
        enter = self._stack.enter_context
        try:
            for machine in self.machines:
                enter(machine)
            routers = dict.fromkeys(machine.router for machine in self.machines)
            addresses = dict.fromkeys(["127.0.0.1", *routers])
            self.redis = enter(RedisServer(addresses=list(addresses)))
            self.servers = [enter(self._server(machine)) for machine in self.machines]
            proxy = haproxy(
                [server.address for server in self.servers],
                self._folder,
                self._credentials,
                server="ssl verify none alpn h2 ws h2",
                back="balance leastconn",
                alpn="h2,http/1.1",
                maxconn=self._sockets * 2 + 64,
                tuning=SMALL_BUFFERS,
            )
            port = enter(proxy).address[1]
            self.url = f"wss://127.0.0.1:{port}"
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _server(self, machine: Machine) -> Host:
        port, link = free_port(), machine.link(self.redis.port)
        runtime = self._runtime
        loop = ["--runtime", "trio"] if runtime == "trio" else ["--loop", runtime]
        command = [
            *machine.prefix,
            *(sys.executable, "-m", "tako.cli", "serve"),
            *("tests.support.topics_app:router", "--workers", "2", *loop),
            *("--bind", f"{machine.address}:{port}"),
            *("--cert", str(self._credentials.cert)),
            *("--key", str(self._credentials.key)),
        ]
        return Host(
            command,
            (machine.address, port),
            self._credentials,
            env={"TOPICS_URL": f"redis://{machine.router}:{link}"},
        )

    def workers(self, number: int) -> list[psutil.Process]:
        """Return the workers of a machine."""
        main = psutil.Process(self.servers[number].pid)
        return [each for each in main.children() if each.is_running()]

    def memory(self) -> int:
        """Return how many bytes the workers have together."""
        return sum(each.memory_info().rss for n in (0, 1) for each in self.workers(n))


class Follower:
    """A client that follows a topic, whatever happens; its record is what it had."""

    def __init__(
        self, url: str, topic: str, context: ssl.SSLContext, wire: str, patience: float
    ) -> None:
        self._url = url
        self._context = context
        self._wire: Any = wire
        self._patience = patience
        self.topic = topic
        self.record: list[Position | str] = []
        self.last: Position = OLDEST
        self.opened = 0
        self.causes: list[str] = []
        self.may_read = anyio.Event()
        self.may_read.set()

    async def run(self) -> None:
        while True:
            try:
                since = f"?since={self.last}" if self.last is not OLDEST else ""
                async with tako.connect(
                    f"{self._url}/{self.topic}{since}",
                    ssl=self._context,
                    http_versions=(self._wire,),
                    compression=None,
                    open_timeout=self._patience,
                    close_timeout=0.1,
                ) as ws:
                    self.opened += 1
                    async for message in ws:
                        await self.may_read.wait()
                        if isinstance(message, str):
                            self._take(message)
            except (TakoError, OSError):
                pass  # it is opened again, and goes on where it was
            await tako.sleep(0.05)

    def _take(self, message: str) -> None:
        head, _, rest = message.partition(" ")
        if head == GAP:
            self.record.append(GAP)
            self.causes.append(rest)
            return
        position = Position.parse(head)
        assert position is not None
        self.record.append(position)
        self.last = position

    def check(self) -> None:
        """Check that gaps are where something is missing, and nowhere else."""
        before: Position | None = None
        gap = False
        for entry in self.record:
            if isinstance(entry, str):
                gap = True
                continue
            if before is not None:
                next_one = Position(before.epoch, before.offset + 1)
                assert (entry == next_one) is not gap, (before, entry, self.causes)
            before, gap = entry, False
        assert not gap


class Source:
    """Publishes to the topics, from outside a server."""

    def __init__(self, url: str, pause: float) -> None:
        self._topics = tako.topics.Topics(url, history=tako.topics.History())
        self._pause = pause
        self.taken = 0
        self.failed = 0
        self.last: dict[str, Position] = {}
        self.hurries = False  # to the topic of those who stand still, to no other
        self.may_end = False

    async def run(self) -> None:
        async with self._topics as topics:
            while not self.may_end:
                for topic in [STALLING] if self.hurries else [*TOPICS, STALLING]:
                    try:
                        position = await topics.publish(topic, f"{self.taken} {PAD}")
                    except TopicsUnavailable:
                        self.failed += 1
                        continue
                    assert position is not None
                    self.last[topic] = position
                    self.taken += 1
                await tako.sleep(0 if self.hurries else self._pause)

    async def more(self, count: int) -> None:
        """Wait until so many more were taken."""
        wanted = self.taken + count
        while (before := self.taken) < wanted:
            await until(lambda: self.taken > before)


async def until(condition: Callable[[], object], limit: float = TIMEOUT) -> None:
    """Wait until ``condition()`` holds."""
    end = monotonic() + limit
    while not condition():
        assert monotonic() < end
        await tako.sleep(0.02)  # other processes tell us nothing


def kinds() -> list[Any]:
    may = machines.namespaces()
    reason = "network namespaces need root, and ip"
    skip = pytest.mark.skipif(not may, reason=reason)
    return [
        pytest.param(Namespace, marks=skip, id="namespaces"),
        pytest.param(LoopbackAddress, id="addresses"),
    ]


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    ("sockets", "cut"),
    [(60, 2.0), pytest.param(2_000, 5.0, marks=pytest.mark.slow)],
    ids=["60", "2000"],
)
def test_every_record_is_complete_or_has_a_gap_where_something_is_missing(
    runtime: RuntimeName,
    credentials: Credentials,
    tmp_path: Path,
    kind: Callable[[], Machine],
    sockets: int,
    cut: float,
) -> None:
    size = 20 if sockets < 100 else 40  # messages between two events
    stalling = max(sockets // 40, 4)
    pause = sockets / 4_000  # seconds between two messages of a topic
    # Half of the sockets are opened anew at once: 60 ms of two busy cores for each
    patience = TIMEOUT * max(sockets / 500, 1)

    async def main(bed: Bed) -> None:
        followers = [
            Follower(
                f"{bed.url}/{'relayed' if number % 4 else 'iterated'}",
                STALLING if number < stalling else TOPICS[number // 2 % 2],
                credentials.client,
                "1.1" if number % 2 else "2",
                patience,
            )
            for number in range(sockets)
        ]
        source = Source(bed.redis.url, pause)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(source.run)
            for follower in followers:
                tasks.start_soon(follower.run)
                if sockets > 100:
                    await tako.sleep(0.01)
            await until(lambda: all(each.record for each in followers), patience)
            before = bed.memory()
            await source.more(size)

            victim = bed.workers(0)[0]
            victim.kill()
            await source.more(size)
            await until(
                lambda: len(bed.workers(0)) == 2 and victim not in bed.workers(0),
                patience,
            )

            old = bed.workers(1)
            os.kill(bed.servers[1].pid, signal.SIGHUP)
            await until(lambda: not set(old) & set(bed.workers(1)), patience)
            await source.more(size)

            stalled = followers[:stalling]
            for follower in stalled:
                follower.may_read = anyio.Event()
            source.hurries = True
            await source.more(400)
            source.hurries = False
            for follower in stalled:
                follower.may_read.set()

            bed.machines[0].cut()
            await source.more(2)
            await tako.sleep(cut)  # how long the link is away is what this is about
            bed.machines[0].mend()
            await source.more(size)

            await anyio.to_thread.run_sync(bed.redis.kill)
            await tako.sleep(0.5)
            await anyio.to_thread.run_sync(bed.redis.start)
            await source.more(size)

            source.may_end = True
            await until(
                lambda: all(each.last == source.last[each.topic] for each in followers),
                patience,
            )
            after = bed.memory()
            tasks.cancel_scope.cancel()
        report(followers, source, before, after)
        for follower in followers:
            follower.check()
        assert any("SLOW" in each.causes for each in stalled)
        assert all(each.record.count(GAP) >= 1 for each in followers)  # Redis was new
        assert after - before < (100 << 20) + sockets * 50_000

    with Bed(kind, runtime, credentials, tmp_path, sockets) as bed:
        try:
            run_on(runtime, main, bed)
        except BaseException as error:
            for server in bed.servers:
                error.add_note(server.output()[-5_000:])
            raise


def report(followers: list[Follower], source: Source, before: int, after: int) -> None:
    """Print the figures; ``pytest -s`` shows them."""
    items = sum(len(each.record) - each.record.count(GAP) for each in followers)
    gaps: dict[str, int] = {}
    for follower in followers:
        for cause in follower.causes:
            gaps[cause] = gaps.get(cause, 0) + 1
    opened = sum(each.opened for each in followers)
    print(
        f"\n{len(followers)} followers: {source.taken} published, {source.failed} not,"
        f" {items} items and gaps {gaps} received, {opened - len(followers)} opened"
        f" again; workers had {before >> 20} MiB, then {after >> 20} MiB"
    )


def test_pairs_are_looked_at() -> None:
    """A record with a hole, or with a gap where nothing is missing, is found."""
    follower = Follower("", "a", ssl.create_default_context(), "2", TIMEOUT)
    one, two, three = (Position("0" * 16, offset) for offset in (1, 2, 3))
    new = Position("1" * 16, 1)
    good: list[list[Position | str]] = [[one, two, three], [one, GAP, three]]
    good += [[one, GAP, new], [one, GAP, GAP, three]]
    for follower.record in good:
        follower.check()
    bad: list[list[Position | str]] = [[one, three], [one, GAP, two], [one, new]]
    bad += [[two, one], [one, one], [one, GAP]]
    for follower.record in bad:
        with pytest.raises(AssertionError):
            follower.check()
