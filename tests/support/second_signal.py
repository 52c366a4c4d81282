"""A program that sends itself a second signal at each point after the first.

``python -m tests.support.second_signal MODE RUNTIME FIRST SECOND MOST``: each point is
a forked child; ``MOST`` of the points are tried, all if that is 0. A request keeps the
child's drain from ending; a profile hook counts what the interpreter does from the
first signal on (calls and returns, of Python and of C) and sends the second at the n-th
of these events. The child must end by it. Where it did not is printed: the point, how
the child ended instead, and what it was doing.

Both are sent to the main thread, not to the process: while a thread starts, as that of
``faulthandler`` does here, the kernel may hand it what is meant for the process. Before
3.13 CPython then does not tell the main thread, and makes one of the two.
"""

import asyncio
import contextlib
import faulthandler
import importlib
import os
import signal
import socket
import sys
import time
import types
from collections.abc import Callable
from functools import partial

import tako
from tako import Request, Router
from tako.cli.commands import run as run_command


IDLE = 0.3
"""Seconds after which a child has done what a first signal lets it do."""

LIMIT = 30.0
"""Seconds for a child to end; it takes milliseconds."""

DENSE = 8
"""The first points, where the signal is handled, are tried all."""


class Points:
    """Counts events after the first signal, and sends the second at one of them."""

    def __init__(self, first: int, second: int, point: int) -> None:
        """Make one for ``point``; 0: only count, and print how many there were."""
        self._first = first
        self._second = second
        self._point = point
        self._count = 0

    def begin(self) -> None:
        """Send the first signal, from outside of the hook: its handler counts, too."""
        faulthandler.dump_traceback_later(LIMIT / 2, exit=True)
        sys.setprofile(self._event)
        signal.raise_signal(self._first)

    def end(self) -> None:
        """Print how many events there were."""
        sys.setprofile(None)
        os.write(1, b"%d" % self._count)
        os._exit(0)

    def _event(self, frame: types.FrameType, event: str, _: object) -> None:
        self._count += 1
        if self._count == self._point:
            sys.setprofile(None)
            signal.raise_signal(self._second)


def stuck(points: Points) -> Router:
    """Return a router with a handler that no drain waits for to its end."""

    async def handler(request: Request) -> str:
        points.begin()
        await tako.sleep(IDLE)
        points.end()
        return "never"

    router = Router()
    router.get("/", handler)
    return router


def library(runtime: str, listener: socket.socket, points: Points) -> None:
    """``tako.run`` around ``serve``: the signals are its own to take."""

    async def main() -> None:
        await tako.serve(listener, stuck(points))

    if runtime == "trio":
        tako.run(main, runtime="trio")
    else:
        tako.run(main, loop=runtime)


def ctrl_c(runtime: str, listener: socket.socket, points: Points) -> None:
    """``shutdown=tako.ctrl_c()``, on a loop that tako does not run."""

    async def main() -> None:
        await tako.serve(listener, stuck(points), shutdown=tako.ctrl_c())

    if runtime == "trio":
        import trio

        trio.run(main)
    elif runtime == "uvloop":
        import uvloop

        uvloop.run(main())
    else:
        asyncio.run(main())


def command(runtime: str, listener: socket.socket, points: Points) -> None:
    """``tako serve``."""
    module = types.ModuleType("swept")
    module.router = stuck(points)  # type: ignore[attr-defined]
    sys.modules["swept"] = module
    options = ["--plain", "--bind", f"fd://{os.dup(listener.fileno())}"]
    options += ["--runtime", "trio"] if runtime == "trio" else ["--loop", runtime]
    sys.exit(run_command(["serve", "swept:router", *options]))


MODES: dict[str, Callable[[str, socket.socket, Points], None]] = {
    "library": library,
    "ctrl_c": ctrl_c,
    "command": command,
}


def child(mode: str, runtime: str, points: Points) -> None:
    """Serve, and ask."""
    listener = socket.create_server(("127.0.0.1", 0))
    with socket.create_connection(listener.getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        MODES[mode](runtime, listener, points)


def fork(run: Callable[[], None]) -> tuple[int, str]:
    """Run in a child; return how it ended, as ``subprocess`` has it, and its output."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        with contextlib.suppress(BaseException):
            os.dup2(write, 1)
            os.dup2(write, 2)
            run()
        os._exit(99)
    os.close(write)
    end = time.monotonic() + LIMIT
    while not (ended := os.waitpid(pid, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            ended = os.waitpid(pid, 0)
            break
        time.sleep(0.002)
    with open(read, "rb") as output:
        text = output.read().decode(errors="replace")
    return os.waitstatus_to_exitcode(ended[1]), text


def chosen(count: int, most: int) -> list[int]:
    """Return the points to try of 1 to ``count``."""
    every = range(1, count + 1)
    if not most or most >= count:
        return list(every)
    rest = every[DENSE:]
    return [*every[:DENSE], *rest[:: -(-len(rest) // max(1, most - DENSE))]]


def sweep(mode: str, runtime: str, first: int, second: int, most: int) -> int:
    """Try the points; return 1 if at one of them the second did not end the child."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if runtime in {"trio", "uvloop"}:
        importlib.import_module(runtime)  # once for all children
    code, text = fork(partial(child, mode, runtime, Points(first, second, 0)))
    lines = text.splitlines() or [""]
    if code or not lines[-1].isdigit():
        print(f"cannot count: {code} {text}")
        return 1
    tried = wrong = 0
    for point in chosen(int(lines[-1]), most):
        points = Points(first, second, point)
        code, text = fork(partial(child, mode, runtime, points))
        if code == 0 and int(text.splitlines()[-1]) < point:
            break  # it did less than the one that counted: the point was not reached
        tried += 1
        if code not in {-second, -first}:  # the first may be the one that finds another
            wrong += 1
            print(f"point {point}: {code}\n{text}")
    print(f"{tried} points, {wrong} wrong")
    return 1 if wrong or not tried else 0


if __name__ == "__main__":
    sys.exit(sweep(sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])))
