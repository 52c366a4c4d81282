"""The runtimes keep the promises of ``seams``: the same on asyncio, uvloop and trio."""

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import closing, suppress
from contextvars import ContextVar, copy_context
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

import tako
from tako import Request, Response, Router, ServerConfig, runtime as runtimes
from tako.core.loop import Signal
from tako.runtime import ServerRuntime
from tako.runtime.asyncio_flushes import AsyncioFlushes
from tako.runtime.backend import backend
from tako.runtime.kernel import hung_up, peer_ended, unacknowledged
from tako.testing.peer import connect
from tests.conftest import Serve
from tests.support.apps import giving_up_after, together
from tests.support.children import Child
from tests.support.loops import run_on
from tests.support.pace import Pace, keeping_pace
from tests.support.patience import NEVER, TIMEOUT
from tests.support.server import UNHURRIED, Reports, RuntimeName


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
ROOT = Path(__file__).parents[2]
"""Seconds for what has nothing to wait for."""


def on(name: RuntimeName, main: Callable[[ServerRuntime], Awaitable[object]]) -> object:
    """Run ``main`` with a runtime of its own."""

    async def opened() -> object:
        async with runtimes.current().open_runtime() as served:
            return await main(served)

    return run_on(name, opened)


async def turns(served: ServerRuntime, count: int = 10) -> None:
    """Let everything that is due run."""
    for _ in range(count):
        await served.sleep(0)


def waiting(signal_: Any) -> int:
    """Return how many waits a signal still knows of."""
    if hasattr(signal_, "_waiters"):  # trio
        return len(signal_._waiters)
    first = signal_._waiter
    return len(signal_._others or ()) + (first is not None and not first.done())


class Compiled(Coroutine[Any, Any, None]):
    """A coroutine as compilers make them: with no frame, nor anything of its state."""

    def __init__(self, source: Coroutine[Any, Any, None]) -> None:
        self._source = source

    def send(self, value: object) -> Any:
        return self._source.send(value)

    def throw(self, *error: Any) -> Any:
        return self._source.throw(error[-1] if len(error) == 1 else error[1])

    def close(self) -> None:
        self._source.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._source.__await__()


class TestSignals:
    def test_set_wakes_all_that_wait(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            signal_ = served.signal()
            woken: list[int] = []

            async def wait(number: int) -> None:
                assert await signal_.wait() is True
                woken.append(number)

            for number in range(3):
                served.spawn(wait, number)
            await turns(served)
            assert woken == []
            signal_.set()
            await served.finished()
            assert sorted(woken) == [0, 1, 2]

        on(runtime, main)

    def test_it_is_an_edge_that_is_not_remembered(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            signal_ = served.signal()
            signal_.set()
            assert await signal_.wait(0.01) is False

        on(runtime, main)

    def test_a_timeout_is_told_from_a_set(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            signal_ = served.signal()
            served.call_at(served.time() + 0.01, signal_.set)
            assert await signal_.wait(TIMEOUT) is True
            started = served.time()
            assert await signal_.wait(0.05) is False
            assert served.time() - started >= 0.04

        on(runtime, main)

    def test_waits_that_time_out_leave_nothing_behind(
        self, runtime: RuntimeName
    ) -> None:
        async def main(served: ServerRuntime) -> None:
            signal_ = served.signal()
            for _ in range(100):
                await signal_.wait(0.0001)
            assert waiting(signal_) == 0

        on(runtime, main)

    def test_a_cancelled_wait_leaves_nothing_behind_and_the_others_alone(
        self, runtime: RuntimeName
    ) -> None:
        async def main(served: ServerRuntime) -> None:
            signal_ = served.signal()
            woken: list[str] = []

            async def wait(name: str) -> None:
                await signal_.wait()
                woken.append(name)

            served.spawn(wait, "stays")
            tasks = [served.spawn(wait, "cancelled") for _ in range(1000)]
            await turns(served)
            for task in tasks:
                task.cancel()
            await turns(served)
            assert waiting(signal_) == 1
            signal_.set()
            await served.finished()
            assert woken == ["stays"]

        on(runtime, main)

    def test_a_waiter_may_set_and_wait_again(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            ping, pong = served.signal(), served.signal()
            rounds: list[int] = []

            async def answer() -> None:
                while len(rounds) < 5:
                    await ping.wait()
                    rounds.append(len(rounds))
                    pong.set()

            served.spawn(answer)
            await turns(served)
            while len(rounds) < 5:
                ping.set()
                assert await pong.wait(TIMEOUT)

        on(runtime, main)


class TestCallSoon:
    def test_callbacks_run_in_order(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            called: list[int] = []
            done = served.signal()
            for number in range(5):
                served.call_soon(partial(called.append, number))
            served.call_soon(done.set)
            await done.wait()
            assert called == [0, 1, 2, 3, 4]

        on(runtime, main)

    def test_they_run_after_the_tasks_that_are_due(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            for _ in range(20):  # trio shuffles
                order: list[str] = []
                start, done = served.signal(), served.signal()

                async def task(order: list[str] = order, start: object = start) -> None:
                    await start.wait()  # type: ignore[attr-defined]
                    order.append("task")

                for _ in range(5):
                    served.spawn(task)
                await turns(served, 5)
                start.set()
                served.call_soon(partial(order.append, "callback"))
                served.call_soon(done.set)
                await done.wait()
                assert order == ["task"] * 5 + ["callback"]

        on(runtime, main)

    def test_a_callback_may_ask_for_another(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            done = served.signal()
            served.call_soon(lambda: served.call_soon(done.set))
            assert await done.wait(TIMEOUT)

        on(runtime, main)


class TestFlushSoon:
    def test_they_run_in_order_behind_what_is_due(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            order: list[object] = []
            start, done = served.signal(), served.signal()

            async def task() -> None:
                await start.wait()
                order.append("task")

            for _ in range(5):
                served.spawn(task)
            await turns(served, 5)
            start.set()
            for number in range(3):
                served.flush_soon(partial(order.append, number))
            served.flush_soon(done.set)
            await done.wait()
            assert order == ["task"] * 5 + [0, 1, 2]

        on(runtime, main)

    def test_one_may_ask_for_another(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            order: list[str] = []
            done = served.signal()

            def first() -> None:
                served.flush_soon(partial(order.append, "third"))
                served.flush_soon(done.set)

            served.flush_soon(first)
            served.flush_soon(partial(order.append, "second"))
            assert await done.wait(TIMEOUT)
            assert order == ["second", "third"]

        on(runtime, main)

    def test_none_sees_the_variables_of_who_asked(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            whose = ContextVar("whose", default="nobody's")
            seen: list[str] = []
            done = served.signal()

            async def handler(name: str) -> None:
                whose.set(name)
                served.flush_soon(lambda: seen.append(whose.get()))

            served.spawn(handler, "one's")
            served.spawn(handler, "another's")
            await turns(served)
            served.flush_soon(done.set)
            assert await done.wait(TIMEOUT)
            assert seen == ["nobody's", "nobody's"]

        on(runtime, main)

    def test_what_an_interrupt_leaves_runs_when_the_loop_goes_on(self) -> None:
        def interrupt() -> None:
            raise KeyboardInterrupt

        ran: list[str] = []

        async def main(flushes: AsyncioFlushes) -> None:
            flushes.soon(partial(ran.append, "before"))
            flushes.soon(interrupt)
            flushes.soon(partial(ran.append, "behind"))
            await asyncio.Event().wait()

        with closing(asyncio.new_event_loop()) as loop:
            flushes = AsyncioFlushes(loop, copy_context())
            task = loop.create_task(main(flushes))
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(task)
            assert ran == ["before"]
            task.cancel()
            with suppress(asyncio.CancelledError):
                loop.run_until_complete(task)
            assert ran == ["before", "behind"]


class TestTimers:
    def test_they_fire_in_the_order_of_their_times(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            fired: list[int] = []
            done = served.signal()
            now = served.time()
            served.call_at(now + 0.06, done.set)
            for number in (3, 1, 2):
                served.call_at(now + number / 100, partial(fired.append, number))
            await done.wait()
            assert fired == [1, 2, 3]

        on(runtime, main)

    def test_not_before_their_time(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            done = served.signal()
            when = served.time() + 0.03
            served.call_at(when, done.set)
            await done.wait()
            assert served.time() >= when - 0.002  # uvloop counts milliseconds

        on(runtime, main)

    def test_a_cancelled_one_does_not(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            fired: list[str] = []
            done = served.signal()
            now = served.time()
            served.call_at(now + 0.01, lambda: fired.append("cancelled")).cancel()
            served.call_at(now + 0.03, done.set)
            await done.wait()
            assert not fired

        on(runtime, main)

    def test_an_earlier_one_may_come_later(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            done = served.signal()
            served.call_at(served.time() + NEVER, lambda: None)
            await turns(served)
            served.call_at(served.time() + 0.01, done.set)
            assert await done.wait(TIMEOUT)

        on(runtime, main)


class TestTasks:
    def test_finished_waits_for_all(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            ended: list[int] = []

            async def task(number: int) -> None:
                await served.sleep(number / 100)
                ended.append(number)

            for number in range(3):
                served.spawn(task, number)
            assert served.busy
            await served.finished()
            assert sorted(ended) == [0, 1, 2]
            assert not served.busy

        on(runtime, main)

    def test_cancel_unwinds_with_the_runtimes_exception(
        self, runtime: RuntimeName
    ) -> None:
        async def main(served: ServerRuntime) -> None:
            caught: list[BaseException] = []

            async def task() -> None:
                try:
                    await served.sleep(NEVER)
                except served.cancelled as error:
                    caught.append(error)
                    raise

            handle = served.spawn(task)
            await turns(served)
            handle.cancel()
            handle.cancel()
            await served.finished()
            handle.cancel()
            assert len(caught) == 1

        on(runtime, main)

    def test_leaving_the_runtime_ends_its_tasks(self, runtime: RuntimeName) -> None:
        ended: list[str] = []

        async def main(served: ServerRuntime) -> None:
            async def task() -> None:
                try:
                    await served.sleep(NEVER)
                finally:
                    ended.append("task")

            served.spawn(task)
            await turns(served)

        on(runtime, main)
        assert ended == ["task"]

    @pytest.mark.parametrize("verb", ["spawn", "begin"])
    @pytest.mark.parametrize("compiled", [False, True])
    def test_one_cancelled_at_once_has_begun_all_the_same(
        self, runtime: RuntimeName, verb: str, *, compiled: bool
    ) -> None:
        # what it was given to look after it can only give back in its ``finally``
        async def main(served: ServerRuntime) -> None:
            steps: list[str] = []

            async def interpreted() -> None:
                steps.append("began")
                try:
                    await served.sleep(NEVER)
                    steps.append("went on")
                finally:
                    steps.append("ended")

            def task() -> Awaitable[None]:
                return Compiled(interpreted()) if compiled else interpreted()

            start = getattr(served, verb)
            start(task).cancel()
            await served.finished()
            assert steps == ["began", "ended"]
            start(task)
            served.cancel_tasks()
            await served.finished()
            assert steps == ["began", "ended"] * 2
            handle = start(task)
            await turns(served)
            handle.cancel()
            handle.cancel()
            await served.finished()
            assert steps == ["began", "ended"] * 3

        on(runtime, main)

    def test_one_that_begins_takes_its_first_step_at_once_where_that_can_be(
        self, runtime: RuntimeName
    ) -> None:
        at_once = runtime != "trio" and sys.version_info >= (3, 12)

        async def main(served: ServerRuntime) -> None:
            steps: list[str] = []

            async def task() -> None:
                steps.append("first")
                await served.sleep(0)
                steps.append("second")

            before = served.busy
            served.begin(task)
            assert steps == (["first"] if at_once else [])
            assert served.busy == before + 1
            await served.finished()
            assert steps == ["first", "second"]

        on(runtime, main)

    def test_one_that_need_not_wait_leaves_nothing(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            steps: list[int] = []

            async def task(number: int) -> None:
                steps.append(number)

            for number in range(3):
                served.begin(task, number)
            await served.finished()
            assert sorted(steps) == [0, 1, 2]
            assert served.busy == 0

        on(runtime, main)

    def test_even_one_that_swallows_a_cancellation(self, runtime: RuntimeName) -> None:
        ended: list[str] = []

        async def main(served: ServerRuntime) -> None:
            async def task() -> None:
                for _ in range(2):
                    try:
                        await served.sleep(NEVER)
                    except BaseException as error:
                        ended.append(type(error).__name__)

            served.spawn(task)
            await turns(served)

        on(runtime, main)
        assert len(ended) == 2

    def test_run_within_returns_the_value(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            async def double(number: int) -> int:
                await served.sleep(0)
                return 2 * number

            assert await served.run_within(TIMEOUT, double, 21) == 42

        on(runtime, main)

    def test_run_within_cancels_what_takes_longer(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            ended: list[str] = []

            async def slow() -> None:
                try:
                    await served.sleep(NEVER)
                finally:
                    ended.append("slow")

            with pytest.raises(TimeoutError):
                await served.run_within(0.01, slow)
            assert ended == ["slow"]

        on(runtime, main)

    def test_shielded_ends_before_the_cancellation_goes_on(
        self, runtime: RuntimeName
    ) -> None:
        async def main(served: ServerRuntime) -> None:
            order: list[str] = []
            go_on = served.signal()

            async def protected() -> None:
                order.append("began")
                await go_on.wait()
                order.append("ended")

            async def task() -> None:
                try:
                    await served.shielded(protected)
                    await served.sleep(NEVER)
                finally:
                    order.append("cancelled")

            handle = served.spawn(task)
            await turns(served)
            for _ in range(3):
                handle.cancel()
                await turns(served)
            assert order == ["began"]
            go_on.set()
            await served.finished()
            assert order == ["began", "ended", "cancelled"]

        on(runtime, main)

    def test_an_exception_leaves_it_as_it_is(self, runtime: RuntimeName) -> None:
        async def main(served: ServerRuntime) -> None:
            served.spawn(served.sleep, 60)
            await turns(served)
            msg = "alone"
            raise KeyError(msg)

        with pytest.raises(KeyError, match="alone"):
            on(runtime, main)


class TestRun:
    def test_it_returns_what_main_returns(self, runtime: RuntimeName) -> None:
        async def main(number: int) -> int:
            await tako.sleep(0)
            return number + 1

        assert run_on(runtime, main, 41) == 42

    @pytest.mark.parametrize(
        "arguments",
        [
            {"runtime": "curio"},
            {"loop": "fast"},
            {"runtime": "trio", "loop": "uvloop"},
        ],
    )
    def test_what_there_is_not_is_a_value_error(
        self, arguments: dict[str, str]
    ) -> None:
        async def main() -> None:
            pytest.fail("it ran")

        with pytest.raises(ValueError, match=next(reversed(arguments.values()))):
            tako.run(main, **arguments)

    def test_outside_of_a_loop_there_is_no_runtime(self) -> None:
        with pytest.raises(RuntimeError, match=r"tako\.run"):
            runtimes.current()

    def test_a_clock_that_cannot_be_moved_is_named(self) -> None:
        with pytest.raises(ValueError, match="'uvloop' cannot be moved"):
            backend("asyncio").run(tako.sleep, (0,), "uvloop", lambda: 20.0)

    @pytest.mark.parametrize(
        ("name", "loop"), [("asyncio", "asyncio"), ("trio", "auto")]
    )
    def test_a_clock_can_be_fast(self, name: str, loop: str) -> None:
        ahead = 0.0

        async def main() -> None:
            nonlocal ahead
            ahead = NEVER
            await tako.sleep(0)

        async def wait() -> None:
            async with runtimes.current().open_runtime() as own:
                own.spawn(main)
                await tako.sleep(NEVER)

        backend(name).run(wait, (), loop, lambda: ahead)

    def test_another_thread_has_the_loop_call_something(
        self, runtime: RuntimeName
    ) -> None:
        called: list[int] = []

        async def main() -> Callable[[Callable[[], object]], object]:
            here = runtimes.current()
            changed, call = here.signal(), here.caller()

            def note() -> None:
                called.append(threading.get_ident())
                changed.set()

            await here.to_thread(partial(call, note))
            while not called:
                await changed.wait()
            return call

        call = run_on(runtime, main)
        assert called == [threading.get_ident()]
        with pytest.raises(RuntimeError):
            call(lambda: None)

    def test_the_tasks_of_a_loop_are_known_with_their_coroutines(
        self, runtime: RuntimeName
    ) -> None:
        async def beside(begun: Signal) -> None:
            begun.set()
            await tako.sleep(NEVER)

        async def main() -> tuple[set[str], int]:
            here = runtimes.current()
            begun = here.signal()
            async with here.open_runtime() as own:
                before = here.tasks()
                own.spawn(beside, begun)
                await begun.wait()
                more = here.tasks().keys() - before.keys()
            return {each.__name__ for each in before.values()}, len(more)

        names, more = run_on(runtime, main)
        assert "main" in names
        assert more == 1

    def test_what_ends_with_a_block_cannot_end_it_again(
        self, runtime: RuntimeName
    ) -> None:
        """As a server inside of another's block, both of which are told to stop."""
        ends: list[Callable[[], None]] = []

        async def outer() -> None:
            while len(ends) < 2:
                await tako.sleep(0)
            ends[0]()

        async def inner() -> None:
            try:
                await tako.sleep(NEVER)
            finally:
                ends[1]()

        async def main() -> str:
            beside = runtimes.current().beside
            async with beside(outer) as end_outer:
                ends.append(end_outer)
                async with beside(inner) as end_inner:
                    ends.append(end_inner)
                    await tako.sleep(NEVER)
            return "the end"

        assert run_on(runtime, main) == "the end"

    def test_signals_are_ours_in_the_main_thread_of_run_only(
        self, runtime: RuntimeName
    ) -> None:
        async def main() -> list[bool]:
            here = runtimes.managed()
            return [here, await runtimes.current().to_thread(runtimes.managed)]

        assert run_on(runtime, main) == [True, False]
        assert not runtimes.managed()


class TestTheKernel:
    @pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
    def test_it_tells_what_the_peer_lacks(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with socket.create_connection(listener.getsockname()) as ours:
                peer, _ = listener.accept()
                ours.setblocking(False)
                assert unacknowledged(ours.fileno()) == 0
                sent = ours.send(bytes(1 << 20))
                held = unacknowledged(ours.fileno())
                assert 0 < held <= sent
                got = 0
                ours.shutdown(socket.SHUT_WR)
                with peer:
                    while data := peer.recv(1 << 16):
                        got += len(data)
                assert got == sent
        assert unacknowledged(-1) == 0, "of a closed socket nothing is known"
        assert not hung_up(-1)
        assert not peer_ended(-1)

    @pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
    @pytest.mark.parametrize("family", ["tcp", "unix"])
    def test_it_tells_a_peer_that_reads_on_from_one_that_is_gone(
        self, family: str
    ) -> None:
        if family == "unix":
            ours, peer = socket.socketpair()
        else:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                ours = socket.create_connection(listener.getsockname())
                peer, _ = listener.accept()
        with ours, peer:
            fd = ours.fileno()
            assert not peer_ended(fd)
            assert not hung_up(fd)
            peer.send(b"unread")
            peer.shutdown(socket.SHUT_WR)
            assert peer_ended(fd)
            assert not hung_up(fd), "it reads"
            peer.close()
            if family == "tcp":
                assert not hung_up(fd), "the kernel cannot know yet"
                ours.send(b"not received")
            assert hung_up(fd)


class TestSignalsOfTheProcess:
    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_ctrl_c_waits_for_either_and_gives_the_handlers_back(
        self, runtime: RuntimeName, number: signal.Signals
    ) -> None:
        assert threading.current_thread() is threading.main_thread()
        before = signal.getsignal(number)

        async def main() -> None:
            async def kill() -> None:
                while signal.getsignal(number) is at_start:
                    await tako.sleep(0)
                os.kill(os.getpid(), number)

            at_start = signal.getsignal(number)
            await together(tako.ctrl_c, kill)

        run_on(runtime, main)
        assert signal.getsignal(number) == before

    def test_a_cancelled_wait_gives_them_back_too(self, runtime: RuntimeName) -> None:
        before = signal.getsignal(signal.SIGTERM)

        async def main() -> None:
            async with giving_up_after(0.05):
                await tako.ctrl_c()

        run_on(runtime, main)
        assert signal.getsignal(signal.SIGTERM) == before

    def test_it_takes_the_signals_when_it_is_called(self, runtime: RuntimeName) -> None:
        before = signal.getsignal(signal.SIGTERM)

        async def main() -> None:
            waiting = tako.ctrl_c()
            os.kill(os.getpid(), signal.SIGTERM)
            await waiting

        run_on(runtime, main)
        assert signal.getsignal(signal.SIGTERM) == before

    def test_never_awaited_it_gives_them_back(self, runtime: RuntimeName) -> None:
        before = signal.getsignal(signal.SIGTERM)

        async def main() -> None:
            waiting = tako.ctrl_c()
            assert signal.getsignal(signal.SIGTERM) != before
            waiting.close()
            del waiting
            assert signal.getsignal(signal.SIGTERM) == before

        run_on(runtime, main)

    def test_all_that_wait_are_told(self, runtime: RuntimeName) -> None:
        async def main() -> None:
            waiting = [tako.ctrl_c() for _ in range(3)]
            os.kill(os.getpid(), signal.SIGTERM)
            for each in waiting:
                await each

        run_on(runtime, main)

    def test_what_another_loop_left_behind_is_in_no_loops_way(
        self, runtime: RuntimeName
    ) -> None:
        left = []

        async def leave() -> None:
            left.append(tako.ctrl_c())

        async def take() -> None:
            waiting = tako.ctrl_c()
            os.kill(os.getpid(), signal.SIGTERM)
            await waiting

        before = signal.getsignal(signal.SIGTERM)
        run_on(runtime, leave)
        run_on(runtime, take)
        left.pop().close()
        assert signal.getsignal(signal.SIGTERM) == before

    def test_made_before_the_loop_it_waits_all_the_same(
        self, runtime: RuntimeName
    ) -> None:
        waiting = tako.ctrl_c()

        async def main() -> None:
            async with giving_up_after(0.05):
                await waiting

        run_on(runtime, main)


PROGRAM = """
import logging, sys, tako
runtime, loop, what = sys.argv[1:]
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")

async def stuck(request):
    print("handling", flush=True)
    await tako.sleep(3600)
    return "never"

async def ready(request):
    return "ready"

async def main():
    router = tako.Router()
    router.get("/", stuck)
    router.get("/ready", ready)
    listener = await tako.bind("127.0.0.1:0")
    print(listener.port, flush=True)
    await tako.serve(listener, router)
    print("drained", flush=True)

async def two():
    if runtime == "trio":
        import trio
        async with trio.open_nursery() as nursery:
            nursery.start_soon(main)
            nursery.start_soon(main)
    else:
        import asyncio
        await asyncio.gather(main(), main())

tako.run(two if what == "two" else main, runtime=runtime, loop=loop)
"""


@pytest.fixture
def program(
    runtime: RuntimeName,
) -> Callable[..., Child]:
    arguments = ["trio", "auto"] if runtime == "trio" else ["asyncio", runtime]

    def start(what: str = "one") -> Child:
        return Child([sys.executable, "-c", PROGRAM, *arguments, what], cwd=ROOT)

    return start


class TestAProgram:
    """``tako.run`` around ``serve`` without ``shutdown=``, in a process of its own."""

    @staticmethod
    def wait_for(process: Child, text: str) -> None:
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if text in line:
                return
        pytest.fail(f"it ended without saying {text!r}: {said}")

    @staticmethod
    def port_of(process: Child) -> int:
        assert process.stdout is not None
        return int(process.stdout.readline())

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_first_signal_drains_and_the_program_goes_on(
        self, program: Callable[[], Child], number: signal.Signals
    ) -> None:
        with program() as process:
            address = ("127.0.0.1", self.port_of(process))
            with connect(address, "h1") as connection:
                assert connection.request("GET", "/ready").status == 200
                process.send_signal(number)
                connection.expect_closed()
            self.wait_for(process, "drained")
            assert process.wait() == 0

    def test_a_signal_drains_from_the_moment_on_that_it_says_it_listens(
        self, program: Callable[[], Child]
    ) -> None:
        for _ in range(5):
            with program() as process:
                self.wait_for(process, "Tako listening on")
                process.send_signal(signal.SIGTERM)
                self.wait_for(process, "drained")
                assert process.wait() == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_several_servers_drain_together(
        self, program: Callable[..., Child], number: signal.Signals
    ) -> None:
        with program("two") as process:
            for _ in range(2):
                self.wait_for(process, "Tako listening on")
            process.send_signal(number)
            for _ in range(2):
                self.wait_for(process, "drained")
            assert process.wait() == 0

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_the_second_one_ends_the_process(
        self, program: Callable[[], Child], number: signal.Signals
    ) -> None:
        with program() as process:
            port = self.port_of(process)
            with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
                client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
                self.wait_for(process, "handling")
                process.send_signal(number)
                self.wait_for(process, "draining")
                process.send_signal(number)
                assert process.wait() == -number


class TestTheEndOfAConnection:
    """RFC 9112 §9.6, on real sockets: our FIN, the peer's FIN, and slow readers."""

    @staticmethod
    def router(size: int = 5) -> Router:
        router = Router()

        async def last(request: Request) -> Response:
            return Response(200, [("connection", "close")], bytes(size))

        router.get("/", last)
        return router

    @H1_ONLY
    def test_our_fin_is_sent_and_the_peers_frees_the_socket(self, serve: Serve) -> None:
        server = serve(self.router(), UNHURRIED)
        with server.connect_h1() as connection:
            assert connection.request("GET", "/").status == 200
            connection.expect_closed()
        server.shut_down()
        server.join()

    @H1_ONLY
    def test_a_peer_that_keeps_its_end_open_is_let_go_in_time(
        self, serve: Serve
    ) -> None:
        server = serve(self.router(), ServerConfig(tls_shutdown_timeout=0.3))
        with server.connect_h1() as connection:
            assert connection.request("GET", "/").status == 200
            server.shut_down()
            server.join()

    @H1_ONLY
    def test_a_peer_that_sends_on_sees_the_whole_response(self, serve: Serve) -> None:
        server = serve(self.router(300_000))
        with server.connect_h1() as connection:
            connection.send_request("GET", "/")
            connection.send_raw(bytes(200_000))
            assert len(connection.read_response().body) == 300_000

    @H1_ONLY
    def test_a_slow_reader_gets_everything(self, serve: Serve) -> None:
        """It takes longer than ``tls_shutdown_timeout``, but it makes progress."""
        size = 8 << 20

        def read(limit: float, pace: Pace) -> None:
            config = ServerConfig(tls_shutdown_timeout=limit)
            server = serve(self.router(size), config)
            received = 0
            with server.connect(receive_buffer=32_768) as connection:
                connection.send_request("GET", "/")
                while data := connection.socket.receive():
                    received += len(data)
                    if received < 1 << 20:
                        time.sleep(limit / 5)  # what being slow is
                    pace.act()
            assert received > size

        keeping_pace(read, (0.1, 0.5, 2))

    @pytest.mark.parametrize("wire", ["h1", "h2c"], indirect=True)
    def test_a_fin_before_the_request_ends_it(self, serve: Serve) -> None:
        server = serve(self.router(), UNHURRIED)
        with socket.create_connection(server.address, timeout=TIMEOUT) as client:
            client.shutdown(socket.SHUT_WR)
            while client.recv(1000):
                pass
        server.shut_down()
        server.join()

    @pytest.mark.parametrize("wire", ["h1"], indirect=True)
    def test_a_fin_behind_the_request_gets_the_response(self, serve: Serve) -> None:
        server = serve(self.router())
        with socket.create_connection(server.address, timeout=TIMEOUT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            client.shutdown(socket.SHUT_WR)
            data = b""
            while chunk := client.recv(1000):
                data += chunk
        assert data.endswith(b"\r\n\r\n" + bytes(5))


def test_a_handler_runs_in_a_task_of_its_runtime(serve: Serve) -> None:
    seen = Reports()
    router = Router()

    async def handler(request: Request) -> str:
        backend = runtimes.current()
        seen.put(str(getattr(backend, "__name__", "")))
        return "ok"

    router.get("/", handler)
    server = serve(router)
    with server.connect() as connection:
        assert connection.request("GET", "/").status == 200
    expected = ".trio_loop" if server.runtime == "trio" else ".asyncio_loop"
    assert seen.get().endswith(expected)


def test_asyncio_is_recognised_without_tako_run() -> None:
    async def main() -> str:
        return str(getattr(runtimes.current(), "__name__", ""))

    assert asyncio.run(main()).endswith(".asyncio_loop")


class Kept:
    """A ``Receiver`` that keeps its transport, and notes when it is paused."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.paused = False
        self.pauses = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume_writing(self) -> None:
        self.paused = False

    def data_received(self, data: bytes) -> None:
        """Nothing is sent to it."""

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing to do."""


def test_bytes_of_a_file_are_sent_where_the_socket_has_room(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    """What it does not take at once waits in the transport, as any output does."""
    content = os.urandom(4 << 20)
    path = tmp_path / "file"
    path.write_bytes(content)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ours.setblocking(False)

    async def main(served: ServerRuntime) -> tuple[bytes, int]:
        kept = Kept()
        await served.attach(ours, kept)
        kept.transport.set_write_buffer_limits(0)
        kept.transport.write(content[:5])
        at, got = 5, bytearray()
        with path.open("rb") as file:
            while len(got) < len(content):
                if at < len(content) and not kept.paused:
                    sent = served.send_file(kept.transport, file.fileno(), at, 1 << 20)
                    assert sent
                    at += sent
                else:
                    with suppress(BlockingIOError):
                        got += theirs.recv(1 << 16)
                await served.sleep(0)
            assert served.send_file(kept.transport, file.fileno(), at, 1) == 0
        kept.transport.close()
        await turns(served)
        return bytes(got), kept.pauses

    try:
        got, pauses = cast("tuple[bytes, int]", on(runtime, main))
    finally:
        theirs.close()
    assert got == content
    assert pauses
