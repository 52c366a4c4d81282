"""A client under measurement. Usage: playing.py MODULE WHAT PORT --wire WIRE ...

``MODULE`` is one of ``play_*``: it opens WebSockets in its library's way, and keeps
messages in flight on each. ``WHAT`` is echo, open or idle. Prints JSON.

Time is that of this process alone, on all of its threads, while it is counted.
"""

import argparse
import asyncio
import gc
import importlib
import json
import os
import ssl
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import uvloop


OPENING = 32  # WebSockets that are opened at the same time
SETTLE = 0.3  # seconds under load before anything is counted
PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024


class Target(NamedTuple):
    """Where the server is, and how to speak to it."""

    url: str
    context: ssl.SSLContext | None
    ca: str | None
    wire: str


class Tally:
    """What was answered; ``over``: send no more."""

    def __init__(self) -> None:
        self.count = 0
        self.over = False
        self.ended = asyncio.Event()

    def end(self) -> None:
        self.over = True
        self.ended.set()


def resident_kib() -> int:
    """Return how much memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB


async def main(options: argparse.Namespace) -> dict[str, float]:
    play = importlib.import_module(options.module)
    tls = options.ca is not None
    context = ssl.create_default_context(cafile=options.ca) if tls else None
    url = f"{'wss' if tls else 'ws'}://localhost:{options.port}/"
    target = Target(url, context, options.ca, options.wire)
    async with AsyncExitStack() as stack:
        connect = await stack.enter_async_context(play.connecting(target))
        first = await connect()  # what is needed once, such as a shared connection
        gc.collect()
        before, cpu = resident_kib(), time.process_time()
        sockets = [first]
        while len(sockets) < options.sockets:
            more = min(OPENING, options.sockets - len(sockets))
            sockets += await asyncio.gather(*(connect() for _ in range(more)))
        cpu = time.process_time() - cpu
        if options.what == "open":
            return {"count": options.sockets - 1, "cpu": cpu}
        if options.what == "idle":
            gc.collect()
            grown = resident_kib() - before
            return {"kib_per_socket": grown / (options.sockets - 1)}
        return await echo(play, sockets, options)


async def echo(
    play: Any, sockets: list[Any], options: argparse.Namespace
) -> dict[str, float]:
    tally, message = Tally(), "x" * options.size
    pumps = [
        asyncio.ensure_future(play.pump(ws, message, options.depth, tally))
        for ws in sockets
    ]
    await asyncio.sleep(SETTLE)
    count, cpu, clock = tally.count, time.process_time(), time.monotonic()
    await asyncio.sleep(options.seconds)
    found = {
        "count": tally.count - count,
        "cpu": time.process_time() - cpu,
        "seconds": time.monotonic() - clock,
    }
    tally.end()
    await asyncio.wait_for(asyncio.gather(*pumps), 30)
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("module")
    parser.add_argument("what", choices=["echo", "open", "idle"])
    parser.add_argument("port", type=int)
    parser.add_argument("--wire", choices=["h1", "h2"], default="h1")
    parser.add_argument("--ca")
    parser.add_argument("--sockets", type=int, default=1)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=1.0)
    sys.path.insert(0, str(Path(__file__).parent))
    result = uvloop.run(main(parser.parse_args()))
    # at once: some libraries take seconds to end a thousand WebSockets
    sys.stdout.write(json.dumps(result))
    sys.stdout.flush()
    os._exit(0)
