"""Topics of several workers: ``tako serve --workers`` while processes come and go."""

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import psutil
import pytest

from tako.testing.peer import connect
from tako.testing.peer.io import EndOfStreamError, StreamResetError
from tako.testing.peer.websocket import PeerWebSocket
from tests.integration.test_cli import serving
from tests.support.hosts import Host
from tests.support.hub import descriptors, resident
from tests.support.patience import PATIENCE, TIMEOUT
from tests.support.server import Credentials


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")

APP = """
import json, os
from tako import Request, Router, TakoWs
from tako.errors import TopicsUnavailable
from tako.runtime import current
from tako.topics import Gap, History, Topics

topics = Topics(history=History(messages=10_000, size=1 << 26))
router = Router()
router.get("/pid", lambda: str(os.getpid()))

async def subscribe(request: Request):
    names = request.query_params["topics"].split(",")
    since = request.query_params.get("since")

    async def session(ws):
        bounds = {"bound": 10_000, "size": 1 << 26}
        async with topics.subscribe(*names, since=since, **bounds) as feed:
            await ws.send(json.dumps(os.getpid()))
            async for item in feed:
                if isinstance(item, Gap):
                    told = ["gap", item.topic, item.cause.name, item.missed]
                else:
                    told = ["item", item.topic, item.data[:20], str(item.position)]
                await ws.send(json.dumps(told))
    return TakoWs(request, session)

async def publish(request: Request):
    topic = request.query_params["topic"]

    async def session(ws):
        await ws.send(json.dumps(os.getpid()))
        async for message in ws:
            if isinstance(message, str):
                try:
                    answer = str(await topics.publish(topic, message))
                except TopicsUnavailable as error:
                    answer = f"no: {error}"
                await ws.send(json.dumps(answer))
    return TakoWs(request, session, max_message_size=1 << 20)

router.get("/runtime", lambda: current().__name__)
router.get("/subscribe", subscribe)
router.get("/publish", publish)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(APP)
    return tmp_path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def host(
    folder: Path, credentials: Credentials, runtime: str, stack: ExitStack
) -> Host:
    """Two workers, of whom both serve."""
    loop = ("--runtime", "trio") if runtime == "trio" else ("--loop", runtime)
    options = ("--plain", "-v", "--workers", "2", *loop)
    made = serving(folder, credentials, "apps:router", *options)
    stack.enter_context(made)
    wait_until(lambda: len(pids(made)) == 2, made)
    return made


def pids(host: Host) -> set[int]:
    """Return the processes that answer, asked a few times."""
    found = set[int]()
    for _ in range(10):
        with connect(host.address, "h1") as connection:
            found.add(int(connection.request("GET", "/pid").body))
    return found


def wait_until(condition: Callable[[], bool], host: Host) -> None:
    end = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < end, host.output()
        time.sleep(0.02)


def newcomer(host: Host, known: set[int]) -> int:
    """Wait until another process answers; return it."""
    found = set[int]()

    def one_is_there() -> bool:
        found.update(pids(host) - known)
        return bool(found)

    wait_until(one_is_there, host)
    (new,) = found
    return new


def both(host: Host) -> set[int]:
    """Wait until two processes have answered; return them."""
    found = set[int]()

    def two_are_there() -> bool:
        found.update(pids(host))
        return len(found) == 2

    wait_until(two_are_there, host)
    return found


def hub_of(host: Host) -> int | None:
    """Return the process of the hub."""
    for child in psutil.Process(host.pid).children():
        try:
            if any(each.endswith("hub/__main__.py") for each in child.cmdline()):
                return int(child.pid)
        except psutil.Error:
            continue
    return None


def running_hub(host: Host, other_than: int | None = None) -> int:
    wait_until(lambda: hub_of(host) not in {None, other_than}, host)
    pid = hub_of(host)
    assert pid is not None
    return pid


def read(ws: PeerWebSocket) -> Any:
    message = ws.receive()
    assert isinstance(message, str)
    return json.loads(message)


def opened(
    host: Host, stack: ExitStack, path: str, pid: int | None = None
) -> tuple[PeerWebSocket, int]:
    """Open a WebSocket to one of the workers, or to that of ``pid``."""
    end = time.monotonic() + TIMEOUT
    while True:
        connection = connect(host.address, "h1")
        stack.enter_context(connection)
        ws = connection.websocket(path)
        found = read(ws)
        if pid in {None, found}:
            return ws, found
        connection.close()
        assert time.monotonic() < end, host.output()


def one_each(host: Host, stack: ExitStack, path: str) -> dict[int, PeerWebSocket]:
    """Open a WebSocket to each of the two workers."""
    first, pid = opened(host, stack, path)
    found = {pid: first}
    end = time.monotonic() + TIMEOUT
    while len(found) < 2:
        ws, other = opened(host, stack, path)
        found.setdefault(other, ws)
        assert time.monotonic() < end, host.output()
    return found


def ask(ws: PeerWebSocket, message: str) -> str:
    """Publish a message; return its position, or why it was not taken."""
    ws.send(message)
    return str(read(ws))


def offset(position: str) -> int:
    return int(position.partition(".")[2])


class Flow:
    """Publishes to a topic from a thread, over one WebSocket, until told to stop.

    It runs ahead of what ``wait`` has asked for, but not without a limit: feeds are
    bounded, and nothing says when the one that reads them has its turn.
    """

    AHEAD = 250

    def __init__(self, ws: PeerWebSocket) -> None:
        self.told: list[str] = []
        """The positions, in order."""
        self.refused: list[str] = []
        self._ws = ws
        self._most = self.AHEAD
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(TIMEOUT)
        assert not self._thread.is_alive()

    def wait(self, count: int) -> None:
        """Wait for that many more messages."""
        wanted, end = len(self.told) + count, time.monotonic() + TIMEOUT
        self._most = wanted + self.AHEAD
        while len(self.told) < wanted:
            assert time.monotonic() < end, self.refused
            time.sleep(0.01)

    def _run(self) -> None:
        for number in itertools.count():
            while not self._stop.wait(0.002) and len(self.told) >= self._most:
                pass
            if self._stop.is_set():
                return
            try:
                answer = ask(self._ws, f"message {number}")
            except (EndOfStreamError, StreamResetError, OSError):
                return
            (self.refused if answer.startswith("no") else self.told).append(answer)


def read_to(ws: PeerWebSocket, last: str) -> list[list[Any]]:
    """Return what a feed tells, up to a position."""
    found = list[list[Any]]()
    while not found or found[-1][-1] != last:
        found.append(read(ws))
    return found


def positions(told: list[list[Any]]) -> list[str]:
    return [each[3] for each in told if each[0] == "item"]


def test_all_workers_have_one_order(host: Host, stack: ExitStack) -> None:
    assert hub_of(host) is None  # topics were not used yet
    feeds = one_each(host, stack, "/subscribe?topics=room")
    senders = one_each(host, stack, "/publish?topic=room")
    assert set(feeds) == set(senders)
    with ExitStack() as flows:
        for ws in senders.values():
            flows.enter_context(Flow(ws)).wait(30)
    last = ask(next(iter(senders.values())), "the last one")
    one, two = (read_to(ws, last) for ws in feeds.values())
    assert one == two
    assert list(map(offset, positions(one))) == list(range(1, offset(last) + 1))
    assert "hub of topics" in host.output()
    host.wait_output("the engine of topics is reached", 2)


def test_kill_9_of_a_worker_costs_the_others_nothing(
    host: Host, stack: ExitStack
) -> None:
    feeds = one_each(host, stack, "/subscribe?topics=room")
    victim, stays = feeds
    sender, _ = opened(host, stack, "/publish?topic=room", stays)
    dying, _ = opened(host, stack, "/publish?topic=room", victim)
    hub = running_hub(host)
    with Flow(sender) as flow, Flow(dying) as other:
        other.wait(10)
        os.kill(victim, signal.SIGKILL)
        flow.wait(20)
        new = newcomer(host, {victim, stays})
        # it has joined, and has what it was not there for
        first = flow.told[0]
        resumed, _ = opened(host, stack, f"/subscribe?topics=room&since={first}", new)
        flow.wait(20)
    last = ask(sender, "the last one")
    record = positions(read_to(feeds[stays], last))
    assert list(map(offset, record)) == list(range(1, offset(last) + 1))
    since = [each for each in record if offset(each) > offset(first)]
    told = read_to(resumed, last)
    assert positions(told) == since
    assert {each[0] for each in told} == {"item"}
    assert hub_of(host) == hub
    assert not flow.refused


def test_kill_9_of_the_hub_is_a_gap_for_every_feed(
    host: Host, stack: ExitStack
) -> None:
    feeds = one_each(host, stack, "/subscribe?topics=room,other")
    sender, _ = opened(host, stack, "/publish?topic=room")
    hub = running_hub(host)
    with Flow(sender) as flow:
        flow.wait(20)
        before = flow.told[-1]
        os.kill(hub, signal.SIGKILL)
        running_hub(host, other_than=hub)
        flow.wait(20)
    host.wait_output("the engine of topics is reached", 4)
    last = ask(sender, "the last one")
    assert last.partition(".")[0] != before.partition(".")[0]
    for ws in feeds.values():
        told = read_to(ws, last)
        gaps = [each for each in told if each[0] == "gap"]
        assert sorted(gaps) == [
            ["gap", "other", "HUB", None],
            ["gap", "room", "HUB", None],
        ]
        at = told.index(["gap", "room", "HUB", None])
        old, new = positions(told[:at]), positions(told[at:])
        assert list(map(offset, old)) == list(range(1, len(old) + 1))
        # from the gap on nothing is missing
        numbers = list(map(offset, new))
        assert numbers == list(range(numbers[0], offset(last) + 1))
        assert {each.partition(".")[0] for each in old} == {before.partition(".")[0]}
        assert {each.partition(".")[0] for each in new} == {last.partition(".")[0]}
    late, _ = opened(host, stack, f"/subscribe?topics=room&since={before}")
    assert read(late) == ["gap", "room", "HISTORY", None]
    assert f"hub of topics (pid {hub}) was killed by SIGKILL" in host.output()


def test_a_worker_that_stands_still_is_told_what_it_missed(
    host: Host, stack: ExitStack
) -> None:
    feeds = one_each(host, stack, "/subscribe?topics=big,small")
    stopped, runs = feeds
    big, _ = opened(host, stack, "/publish?topic=big", runs)
    small, _ = opened(host, stack, "/publish?topic=small", runs)
    hub = running_hub(host)
    before = resident(hub)
    os.kill(stopped, signal.SIGSTOP)
    try:
        for number in range(40):
            last_big = ask(big, f"{number} " + "x" * 500_000)
            last_small = ask(small, f"{number}")
        # ten times 500 kB wait, with as much of history, which is 64 MiB at most
        assert resident(hub) - before < 100 << 20
    finally:
        os.kill(stopped, signal.SIGCONT)
    ends = {"big": last_big, "small": last_small}
    missed = {}
    for pid, ws in feeds.items():
        seen = {"big": 0, "small": 0}
        missed[pid] = 0
        while any(seen[topic] < offset(end) for topic, end in ends.items()):
            kind, topic, *rest = read(ws)
            if kind == "gap":
                assert rest[0] == "SLOW"
                seen[topic] += rest[1]
                missed[pid] += rest[1]
            else:
                assert offset(rest[1]) == seen[topic] + 1
                seen[topic] += 1
    assert missed[runs] == 0
    assert missed[stopped] > 0


def test_a_roll_loses_nothing(host: Host, stack: ExitStack) -> None:
    sender, _ = opened(host, stack, "/publish?topic=room")
    first = ask(sender, "first")
    hub = running_hub(host)
    both(host)
    held = descriptors(hub)
    for turn in range(2):
        before = both(host)
        os.kill(host.pid, signal.SIGHUP)
        host.wait_output("ready again", turn + 1)
        wait_until(lambda: not pids(host) & before, host)  # noqa: B023
        ws, _ = opened(host, stack, "/publish?topic=room")
        ask(ws, f"after roll {turn}")
        ws.connection.close()
    sender.connection.close()
    feed, _ = opened(host, stack, f"/subscribe?topics=room&since={first}")
    assert [read(feed)[2] for _ in range(2)] == ["after roll 0", "after roll 1"]
    assert hub_of(host) == hub
    wait_until(lambda: len(psutil.Process(host.pid).children()) == 3, host)
    # each worker that is gone has given back its door and its line
    wait_until(lambda: descriptors(hub) <= held + 2, host)
    feed.connection.close()


def test_workers_of_both_runtimes_speak_to_each_other(
    folder: Path, credentials: Credentials, stack: ExitStack
) -> None:
    config = folder / "tako.toml"
    config.write_text('runtime = "asyncio"\n')
    options = ("--plain", "--workers", "2")
    host = stack.enter_context(serving(folder, credentials, "apps:router", *options))
    victim, _ = both(host)
    config.write_text('runtime = "trio"\n')
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: len(pids(host) - {victim}) == 2, host)
    found, end = set[bytes](), time.monotonic() + TIMEOUT
    while len(found) < 2:
        assert time.monotonic() < end, found
        with connect(host.address, "h1") as connection:
            found.add(connection.request("GET", "/runtime").body)
    assert found == {b"tako.runtime.asyncio_loop", b"tako.runtime.trio_loop"}
    feeds = one_each(host, stack, "/subscribe?topics=room")
    for pid in feeds:
        sender, _ = opened(host, stack, "/publish?topic=room", pid)
        position = ask(sender, f"from {pid}")
        for ws in feeds.values():
            assert read(ws) == ["item", "room", f"from {pid}", position]


@pytest.mark.parametrize("runtime", ["asyncio"])
def test_nothing_outlives_a_supervisor_that_is_killed(
    host: Host, stack: ExitStack
) -> None:
    ask(opened(host, stack, "/publish?topic=room")[0], "first")
    running_hub(host)
    family = psutil.Process(host.pid).children(recursive=True)
    assert len(family) == 3
    os.kill(host.pid, signal.SIGKILL)
    stack.close()
    _, alive = psutil.wait_procs(family, TIMEOUT)
    assert not alive


@pytest.mark.parametrize("runtime", ["asyncio"])
def test_the_hub_ends_after_the_workers(host: Host, stack: ExitStack) -> None:
    feed, _ = opened(host, stack, "/subscribe?topics=room")
    hub = psutil.Process(running_hub(host))
    for number in (signal.SIGTERM, signal.SIGINT):  # as systemd does to all of a unit
        hub.send_signal(number)
    os.kill(host.pid, signal.SIGTERM)
    assert host.process is not None
    feed.connection.close()
    assert host.process.wait(TIMEOUT) == 0
    assert not hub.is_running()
    assert "hub of topics" in host.output()
    assert "was killed" not in host.output()


def test_a_hub_that_hangs_is_replaced(
    folder: Path, credentials: Credentials, stack: ExitStack
) -> None:
    limit = f"{8 * PATIENCE:g}"
    silent = ("--ws-ping-interval", "none")  # for longer than that of a Ping
    options = ("--plain", "--workers", "2", "--worker-timeout", limit, *silent)
    host = stack.enter_context(serving(folder, credentials, "apps:router", *options))
    sender, _ = opened(host, stack, "/publish?topic=room")
    ask(sender, "first")
    hub = running_hub(host)
    os.kill(hub, signal.SIGSTOP)
    assert ask(sender, "second").startswith("no")
    running_hub(host, other_than=hub)
    wait_until(lambda: not ask(sender, "third").startswith("no"), host)
    said = f"hub of topics (pid {hub}) has not answered for {limit} s: killed"
    assert said in host.output()


def test_one_process_needs_no_hub(
    folder: Path, credentials: Credentials, stack: ExitStack
) -> None:
    host = stack.enter_context(serving(folder, credentials, "apps:router", "--plain"))
    feed, _ = opened(host, stack, "/subscribe?topics=room")
    position = ask(opened(host, stack, "/publish?topic=room")[0], "alone")
    assert read(feed) == ["item", "room", "alone", position]
    assert not psutil.Process(host.pid).children()
    assert "topics reach this process only" in host.output()
