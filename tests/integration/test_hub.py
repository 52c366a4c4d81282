"""The hub in its process and the engines of workers, on both runtimes."""

import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

import tako
from tako.cli.hub import HubState
from tako.errors import Disconnected, TopicsUnavailable
from tako.runtime import current
from tako.topics.history import History
from tako.topics.hub import wire
from tako.topics.hub.core import MOST_OUTPUT
from tako.topics.hub.engine import HubEngine, LineState
from tako.topics.item import OLDEST, Cause, Data, Item, Position
from tests.support.hub import (
    Heard,
    Machine,
    descriptors,
    pieces,
    publish,
    resident,
)
from tests.support.patience import NEVER, TIMEOUT


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it looks at /proc")

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def machine() -> Iterator[Machine]:
    with Machine() as made:
        yield made


def run(runtime: str, main: Callable[[], Awaitable[object]]) -> None:
    """Run ``main`` to its end, within a limit."""

    async def limited() -> None:
        async with current().open_runtime() as own:
            await own.run_within(TIMEOUT, main)

    loop = {"asyncio": "asyncio", "uvloop": "uvloop"}.get(runtime, "auto")
    name = "trio" if runtime == "trio" else "asyncio"
    tako.run(limited, runtime=name, loop=loop)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; ``run`` has a limit."""
    while not condition():
        await tako.sleep(0.01)


@contextlib.asynccontextmanager
async def joined(
    machine: Machine, history: History | None = None, door: socket.socket | None = None
) -> AsyncIterator[tuple[HubEngine, Heard]]:
    """Provide an engine that is connected, and what it tells."""
    engine, heard = HubEngine(door or machine.door(), history), Heard()
    async with current().open_runtime() as own:
        own.spawn(engine.run, heard)
        await until(lambda: engine.state is LineState.JOINED)
        yield engine, heard


async def behind(
    engine: HubEngine, topic: str, since: Position
) -> tuple[list[Item], bool]:
    """Return what is kept behind a position, and whether it is all."""
    items, complete = (await engine.history(topic, since)).behind(since)
    return list(items), complete


def test_messages_reach_all_in_one_order_and_the_publisher_too(
    machine: Machine, runtime: str
) -> None:
    async def main() -> None:
        async with joined(machine) as (one, first), joined(machine) as (two, second):
            await one.subscribe(["room", "other"])
            await two.subscribe(["room"])

            async def each(engine: HubEngine, *messages: Data) -> None:
                for message in messages:
                    await publish(engine, "room", message)

            async with current().open_runtime() as own:
                own.spawn(each, one, *[f"one {number}" for number in range(50)])
                own.spawn(each, two, *[b"two %d" % number for number in range(50)])
                await own.finished()
            await until(lambda: len(first.items) == len(second.items) == 100)
            assert first.items == second.items
            places = [item[2] for item in first.items]
            assert [place.offset for place in places if place] == list(range(1, 101))
            mine = [data for _, data, _ in first.items if isinstance(data, str)]
            assert mine == [f"one {number}" for number in range(50)]

    run(runtime, main)


def test_positions_are_those_of_the_messages(machine: Machine, runtime: str) -> None:
    async def main() -> None:
        async with joined(machine) as (one, heard):
            await one.subscribe(["a", "b"])
            told = await one.publish([("a", "1"), ("b", b"2"), ("a", b"3")])
            assert await one.publish([]) == []
            await until(lambda: len(heard.items) == 3)
            wanted = list(zip("aba", ("1", b"2", b"3"), told, strict=True))
            assert heard.items == wanted

    run(runtime, main)


def test_unsubscribed_topics_are_silent_and_come_back(
    machine: Machine, runtime: str
) -> None:
    async def main() -> None:
        async with joined(machine) as (one, heard):
            for turn in range(3):
                await one.subscribe(["a", "b"])
                one.unsubscribe(["a", "unknown"])
                await publish(one, "a", f"a{turn}")
                await publish(one, "b", f"b{turn}")
                await one.subscribe(["a"])
                await publish(one, "a", f"again{turn}")
                one.unsubscribe(["a", "b"])
            await publish(one, "b", "late")
            await one.subscribe(["b"])
            await publish(one, "b", "end")
            await until(lambda: heard.events[-1] == "end")
            wanted = [f"{it}{turn}" for turn in range(3) for it in ("b", "again")]
            assert heard.events == ["up", *wanted, "end"]

    run(runtime, main)


def test_subscribing_waits_for_a_hub_and_publishing_does_not(
    machine: Machine, runtime: str
) -> None:
    async def main() -> None:
        engine, heard = HubEngine(machine.door()), Heard()
        async with current().open_runtime() as own:
            done = list[str]()

            async def subscribe() -> None:
                await engine.subscribe(["a"])
                done.append("a")

            own.spawn(subscribe)
            with pytest.raises(TopicsUnavailable):
                await publish(engine, "a", "1")
            assert not done
            own.spawn(engine.run, heard)
            await until(lambda: bool(done))
            await publish(engine, "a", "2")
            await until(lambda: heard.events == ["up", "2"])

    run(runtime, main)


class TestHistory:
    """What the hub keeps is had in pages, and outlives the worker."""

    def test_it_is_all_there_in_order(self, machine: Machine, runtime: str) -> None:
        async def main() -> None:
            keep = History(messages=20, size=4 * MIB)
            sent = list(pieces(10, 100 * KIB))
            async with joined(machine, keep) as (one, _):
                places = await publish(one, "a", *sent, "text")
            async with joined(machine) as (two, _):
                items, complete = await behind(two, "a", places[2])
                assert complete
                assert [item.position for item in items] == places[3:]
                assert [item.data for item in items] == [*sent[3:], "text"]
                items, complete = await behind(two, "a", OLDEST)
                assert not complete
                assert [item.position for item in items] == places
                assert await behind(two, "a", places[-1]) == ([], True)

        run(runtime, main)

    @pytest.mark.parametrize("offset", [12, 10**19 - 1])
    def test_a_place_that_is_none(
        self, machine: Machine, runtime: str, offset: int
    ) -> None:
        async def main() -> None:
            async with joined(machine, History()) as (one, _):
                (place,) = await publish(one, "a", "1")
                _, complete = await behind(one, "a", Position(place.epoch, offset))
                assert not complete
                assert await behind(one, "unknown", place) == ([], False)

        run(runtime, main)

    def test_time_ends_it(self, machine: Machine, runtime: str) -> None:
        async def main() -> None:
            async with joined(machine, History(seconds=0.05)) as (one, _):
                await publish(one, "a", "1")
                while (await one.history("a", OLDEST)).items:
                    await tako.sleep(0.01)

        run(runtime, main)


class TestAnotherHub:
    """The hub dies: all hear of it, and go on with another."""

    def test_a_gap_stands_where_messages_may_be_missing(
        self, machine: Machine, runtime: str
    ) -> None:
        async def main() -> None:
            async with (
                joined(machine, History()) as (one, first),
                joined(machine) as (two, second),
            ):
                await one.subscribe(["a"])
                await two.subscribe(["a", "b"])
                (old,) = await publish(one, "a", "before")
                await until(
                    lambda: "before" in first.events and "before" in second.events
                )
                os.kill(machine.pid, signal.SIGKILL)
                await until(lambda: first.count("down") == second.count("down") == 1)
                await until(lambda: first.count("up") == second.count("up") == 2)
                await one.subscribe(["c"])  # what was asked before is confirmed
                await two.subscribe(["c"])
                (new,) = await publish(two, "a", "after")
                await until(
                    lambda: "after" in first.events and "after" in second.events
                )
                gap = ("a", Cause.HUB, None)
                assert first.events == ["up", "before", "down", "up", gap, "after"]
                assert second.count(gap) == second.count(("b", Cause.HUB, None)) == 1
                assert second.events.index(gap) < second.events.index("after")
                assert new.epoch != old.epoch
                assert not (await behind(one, "a", old))[1]

        run(runtime, main)

    def test_what_was_on_its_way_is_told(self, machine: Machine, runtime: str) -> None:
        async def main() -> None:
            async with joined(machine) as (one, _):
                os.kill(machine.pid, signal.SIGSTOP)

                async def kill() -> None:
                    await until(lambda: bool(one._batches))
                    os.kill(machine.pid, signal.SIGKILL)

                async with current().open_runtime() as own:
                    own.spawn(kill)
                    with pytest.raises(Disconnected, match="may have taken"):
                        await publish(one, "a", "1")
                with contextlib.suppress(TopicsUnavailable):
                    await publish(one, "a", "2")

        run(runtime, main)

    def test_a_question_for_history_is_asked_again(
        self, machine: Machine, runtime: str
    ) -> None:
        async def main() -> None:
            async with joined(machine, History()) as (one, _):
                (place,) = await publish(one, "a", "1")
                pid = machine.pid
                os.kill(pid, signal.SIGSTOP)

                async def kill() -> None:
                    await until(lambda: bool(one._requests))
                    os.kill(pid, signal.SIGKILL)

                async with current().open_runtime() as own:
                    own.spawn(kill)
                    found = await behind(one, "a", place)
                assert found == ([], False)

        run(runtime, main)

    def test_one_that_hangs_is_left_and_then_ended(
        self, machine: Machine, runtime: str
    ) -> None:
        async def main() -> None:
            async with joined(machine) as (one, heard):
                await one.subscribe(["a"])
                pid = machine.pid
                machine.stop()
                with pytest.raises(Disconnected):
                    await publish(one, "a", "1")
                await until(lambda: heard.count("up") == 2)
                assert machine.pid != pid
                await publish(one, "a", "2")
                gap = ("a", Cause.HUB, None)
                await until(lambda: heard.events == ["up", "down", "up", gap, "2"])

        run(runtime, main)

    @pytest.mark.parametrize("call", ["subscribe", "history", "join"])
    def test_one_that_owes_an_answer_is_left_too(
        self, machine: Machine, runtime: str, call: str
    ) -> None:
        async def main() -> None:
            async with joined(machine) as (one, heard):
                machine.stop()
                if call == "subscribe":
                    await one.subscribe(["a"])
                elif call == "history":
                    await one.history("a", OLDEST)
                else:
                    async with joined(machine) as (two, _):
                        await two.subscribe(["a"])
                await until(lambda: heard.events == ["up", "down", "up"])

        run(runtime, main)

    def test_nothing_is_a_gap_if_the_same_one_has_it_all(
        self, machine: Machine, runtime: str
    ) -> None:
        async def main() -> None:
            async with joined(machine) as (one, heard), joined(machine) as (two, _):
                await one.subscribe(["a", "b"])
                await publish(two, "a", "1")
                await until(lambda: "1" in heard.events)
                line = one._line
                assert line is not None
                one.ended(line)  # as at a fault
                await publish(two, "b", "2")
                await until(lambda: heard.count("up") == 2)
                await one.subscribe(["c"])
                assert heard.count("1") == 1
                assert ("a", Cause.HUB, 1) not in heard.events
                missed = heard.count(("b", Cause.HUB, 1))
                assert missed + heard.count("2") == 1

        run(runtime, main)


def test_the_end_of_an_engine_is_told_to_all_who_wait(
    machine: Machine, runtime: str
) -> None:
    async def main() -> None:
        engine, ends = HubEngine(machine.door()), list[str]()

        async def waiting(call: Awaitable[object]) -> None:
            try:
                await call
            except TopicsUnavailable as error:
                ends.append(str(error))

        async with current().open_runtime() as own:
            task = own.spawn(engine.run, Heard())
            await until(lambda: engine.state is LineState.JOINED)
            os.kill(machine.pid, signal.SIGSTOP)
            own.spawn(waiting, engine.subscribe(["a"]))
            own.spawn(waiting, engine.history("a", OLDEST))
            await until(lambda: bool(engine._requests and engine._wanted))
            task.cancel()
            await own.finished()
        assert ends == ["topics have ended"] * 2
        assert engine.state is LineState.OUT

    run(runtime, main)


def test_a_cancelled_call_leaves_the_others_alone(
    machine: Machine, runtime: str
) -> None:
    async def main() -> None:
        async with joined(machine) as (one, heard), current().open_runtime() as own:
            os.kill(machine.pid, signal.SIGSTOP)
            calls = (
                one.publish([("a", "1"), ("a", "2")]),
                one.history("a", OLDEST),
                one.subscribe(["a"]),
            )
            tasks = [own.spawn(lambda call=call: call) for call in calls]
            await until(lambda: bool(one._batches and one._requests and one._wanted))
            for task in tasks:
                task.cancel()
            await own.finished()
            one.unsubscribe(["a"])
            os.kill(machine.pid, signal.SIGCONT)
            await one.subscribe(["a"])
            places = await publish(one, "a", "3")
            assert [place.offset for place in places] == [3]
            await until(lambda: heard.events == ["up", "3"])
            assert not one._batches
            assert not one._requests

    run(runtime, main)


class Slow:
    """A worker that can stop reading: frames by hand."""

    def __init__(self, machine: Machine) -> None:
        self.door = machine.door()
        self.sock, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self.door, [b"\0"], [theirs.fileno()])
        self.sock.settimeout(TIMEOUT)
        self.frames = wire.Frames()
        greeting = wire.GREETING.pack(wire.VERSION, 0, 0)
        self.sock.sendall(wire.frame(wire.HELLO, greeting))
        assert self.next()[0] == wire.HELLO

    def subscribe(self, *topics: str) -> None:
        for number, topic in enumerate(topics):
            self.sock.sendall(wire.frame(wire.SUB, topic.encode(), number=number))
            assert self.next()[0] == wire.SUB

    def next(self) -> wire.Frame:
        while (frame := self.frames.next()) is None:
            data = self.sock.recv(1 << 16)
            if not data:
                raise EOFError
            self.frames.feed(data)
        return frame


@pytest.mark.parametrize("runtime", ["asyncio"])
def test_a_worker_that_stands_still_misses_exactly_what_it_is_told(
    machine: Machine, runtime: str
) -> None:
    slow = Slow(machine)
    slow.subscribe("a", "b")
    count, size = 200, 64 * KIB

    async def main() -> None:
        async with joined(machine) as (one, heard):
            await one.subscribe(["a", "b"])
            for message in pieces(count, size):
                await publish(one, "a", message)
                await publish(one, "b", b"small")
            # the others miss nothing, and the hub keeps what it may
            await until(lambda: len(heard.items) == 2 * count)
            assert resident(machine.pid) < MOST_OUTPUT + 40 * MIB
            assert heard.count("down") == 0

    run(runtime, main)
    last, left_out = [0, 0], [0, 0]
    while min(last) < count:
        kind, _, topic, offset, payload = slow.next()
        if kind == wire.MSG:
            assert offset == last[topic] + 1
        else:
            assert kind == wire.GAP
            assert wire.OFFSET.unpack(payload) == (last[topic] + 1,)
            left_out[topic] += offset - last[topic]
        last[topic] = offset
    assert left_out[0] >= count - 2 * MOST_OUTPUT // size
    slow.sock.close()


class TestProcess:
    """The process of the hub, and what its keeper does."""

    def test_there_is_none_before_it_is_wanted(self, machine: Machine) -> None:
        doors = [machine.door() for _ in range(3)]
        machine.shut(doors[0])
        doors[1].close()  # as a worker that ended
        time.sleep(0.1)  # nothing happens in it that could be waited for
        assert machine.keeper.state is HubState.WAITING
        Slow(machine).sock.close()
        machine.wait_for(HubState.RUNNING)

    def test_signals_for_the_group_do_not_end_it(self, machine: Machine) -> None:
        slow = Slow(machine)
        for number in (
            signal.SIGHUP,
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGTTIN,
            signal.SIGTTOU,
            signal.SIGUSR1,
        ):
            os.kill(machine.pid, number)
        slow.subscribe("a")
        slow.sock.close()

    def test_it_ends_with_its_supervisor(self, machine: Machine) -> None:
        slow = Slow(machine)
        running = machine.keeper._running
        assert running is not None
        running.control.shutdown(socket.SHUT_RDWR)  # as at kill -9
        with pytest.raises(EOFError):
            slow.next()
        machine.wait_for(HubState.WAITING)
        slow.sock.close()

    def test_it_holds_nothing_but_its_own(self, machine: Machine) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            slow = Slow(machine)
            slow.subscribe("a")
            folder = f"/proc/{machine.pid}/fd"
            mine = os.readlink(f"/proc/self/fd/{listener.fileno()}")
            assert mine not in [
                os.readlink(f"{folder}/{it}") for it in os.listdir(folder)
            ]
            slow.sock.close()

    def test_no_descriptor_is_left_of_workers_that_are_gone(
        self, machine: Machine
    ) -> None:
        stays = Slow(machine)
        stays.subscribe("a")
        here, there = descriptors(os.getpid()), descriptors(machine.pid)
        for turn in range(20):
            slow = Slow(machine)
            slow.subscribe("a")
            forked = os.dup(slow.sock.fileno()), os.dup(slow.door.fileno())
            slow.sock.close()
            machine.shut(slow.door)  # though a child of the worker holds all open
            with socket.socket(fileno=forked[0]) as line:
                line.settimeout(TIMEOUT)
                assert line.recv(1) == b"", turn
            os.close(forked[1])
        end = time.monotonic() + TIMEOUT
        while descriptors(machine.pid) > there:
            assert time.monotonic() < end
            time.sleep(0.01)
        assert descriptors(os.getpid()) <= here
        stays.sock.close()

    def test_a_worker_that_breaks_the_rules_is_put_out_and_no_other(
        self, machine: Machine
    ) -> None:
        good, bad = Slow(machine), Slow(machine)
        bad.sock.sendall(b"\xff" * 100)
        with pytest.raises(EOFError):
            bad.next()
        good.subscribe("a")
        for each in (good, bad):
            each.sock.close()

    def test_connections_of_a_worker_are_bounded(self, machine: Machine) -> None:
        slow = Slow(machine)
        ends = list[socket.socket]()
        for _ in range(80):
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(slow.door, [b"\0"], [theirs.fileno()])
            ours.settimeout(TIMEOUT)
            ends.append(ours)
        assert ends[-1].recv(1) == b""
        slow.subscribe("a")
        for each in (slow.sock, *ends):
            each.close()

    def test_one_that_is_too_old_gives_way(self, machine: Machine, caplog: Any) -> None:
        slow = Slow(machine)
        pid = machine.pid
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(slow.door, [b"\0"], [theirs.fileno()])
        ours.sendall(wire.frame(wire.HELLO, bytes([wire.VERSION + 1])))
        with pytest.raises(EOFError):
            slow.next()
        machine.wait_for(HubState.WAITING)
        assert "ended with code 3; another" in caplog.text
        other = Slow(machine)  # which starts another
        assert machine.pid != pid
        for each in (slow.sock, ours, other.sock):
            each.close()

    def test_a_second_one_that_dies_at_once_is_waited_for(
        self, machine: Machine, caplog: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tako.cli.hub.SETTLED", NEVER)
        for pause in ("0.1", "0.2"):
            Slow(machine).sock.close()
            os.kill(machine.pid, signal.SIGKILL)
            end = time.monotonic() + TIMEOUT
            while f"was killed by SIGKILL; another in {pause} s" not in caplog.text:
                assert time.monotonic() < end
                time.sleep(0.01)
            machine.wait_for(HubState.WAITING)
