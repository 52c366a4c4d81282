"""What one more costs where there are many: sockets, streams, routes, deadlines.

Run from the project's root: ``PYTHONPATH=. python -m tests.benchmarks.growth``. Each
curve is the cost of one unit of work (a message, a request, a deadline moved) in a
process that holds more and more; it should be flat. In memory: no TLS, no event loop.

    python -m tests.benchmarks.growth --instructions [CURVE]

counts instead of measuring, under valgrind: instructions for a unit, and accesses to
memory that the last-level cache did not hold (as simulated: it has the size of this
machine's). What grows in instructions is an algorithm; what grows in misses alone is
the size of what one unit touches.
"""

import argparse
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import count, cycle, islice
from typing import TYPE_CHECKING, cast

from tako.config import ServerConfig
from tako.core.deadlines import Deadlines
from tako.h1.exchange import H1Exchange
from tako.http.request import Request
from tako.routing.router import Router
from tako.testing.peer.websocket import encode_frame
from tako.ws.conversation import Conversation
from tako.ws.options import WsOptions
from tako.ws.relay import ConversationRelay
from tests.benchmarks.router import finish
from tests.support.h1_peer import H1Peer
from tests.support.h2wire import CONNECT, Peer, data, window_update
from tests.support.topics import Bench


if TYPE_CHECKING:
    from tako.ws.websocket import WebSocket


Work = Callable[[int], None]
"""Does so many units."""

_UPGRADE = (
    b"GET / HTTP/1.1\r\nhost: localhost\r\n"
    b"connection: upgrade\r\nupgrade: websocket\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_MESSAGE = encode_frame(2, bytes(32))
_UNITS = 20_000
_COUNTED = (500, 1_500)  # units of two runs: the difference leaves out the beginning


def _socket() -> tuple[H1Peer, Conversation]:
    peer = H1Peer()
    (exchange,) = peer.engine.receive_data(_UPGRADE) or ()
    assert isinstance(exchange, H1Exchange)
    tunnel = exchange.open_tunnel(101, [])
    conversation = Conversation(tunnel, WsOptions())
    tunnel.receive_into(conversation, conversation.inbox)
    peer.connection.take()
    return peer, conversation


def sockets(size: int) -> Work:
    """Messages to and from WebSockets over HTTP/1.1, each on the next connection."""
    turns = cycle([_socket() for _ in range(size)])

    def work(units: int) -> None:
        for peer, conversation in islice(turns, units):
            peer.engine.receive_data(_MESSAGE)
            conversation.take()
            conversation.send_message(0x82, b"pong", soon=False)
            peer.connection.sent.clear()

    return work


def _tunnels(size: int) -> tuple[Peer, list[Conversation]]:
    peer = Peer(config=ServerConfig(h2_max_concurrent_streams=size))
    peer.send(window_update(0, 2**30))
    conversations: list[Conversation] = []
    for stream_id in range(1, 2 * size, 2):
        exchange = peer.request(stream_id, CONNECT, end=False)
        tunnel = exchange.open_tunnel(200, [])
        conversation = Conversation(tunnel, WsOptions())
        tunnel.receive_into(conversation, conversation.inbox)
        conversations.append(conversation)
        peer.connection.take()
    peer.send(*(window_update(2 * i + 1, 2**30) for i in range(size)))
    return peer, conversations


def streams(size: int, behind: bytes = b"") -> Work:
    """Messages to and from WebSockets of one HTTP/2 connection, on each in turn."""
    peer, conversations = _tunnels(size)
    reads = [data(2 * i + 1, _MESSAGE) + behind for i in range(size)]
    turns = cycle(zip(reads, conversations, strict=True))

    def work(units: int) -> None:
        for read, conversation in islice(turns, units):
            peer.engine.receive_data(read)
            conversation.take()
            conversation.send_message(0x82, b"pong", soon=False)
            peer.connection.sent.clear()

    return work


def windows(size: int) -> Work:
    """The same, with an update of the connection's window behind each message."""
    return streams(size, window_update(0, 1))


def routes(size: int) -> Work:
    """Dispatches to routes with a parameter, each in turn."""
    router = Router()

    async def nothing() -> str:
        return ""

    for number in range(size):
        router.get(f"/api/v{number}/users/{{user}}", nothing)
    paths = cycle([f"/api/v{number}/users/42" for number in range(size)])

    def work(units: int) -> None:
        for path in islice(paths, units):
            finish(router.dispatch(Request.build("GET", path)))

    return work


def deadlines(size: int) -> Work:
    """Deadlines moved to a later time, each in turn; they come up, and move on."""
    owner = Deadlines(lambda: None)
    clock = count()
    made = [owner.new(lambda: None) for _ in range(size)]
    for deadline in made:
        deadline.set(next(clock) + size)
    turns = cycle(made)

    def work(units: int) -> None:
        for deadline in islice(turns, units):
            now = next(clock)
            owner.reached(now)
            deadline.set(now + size)

    return work


def topic(size: int, topics: int = 1) -> Work:
    """Deliveries to WebSockets over HTTP/1.1 that relay a feed of one topic."""
    bench = Bench()
    peers: list[H1Peer] = []
    names = [f"topic {number}" for number in range(topics)]
    for number in range(max(size, topics)):
        peer, conversation = _socket()
        feed = bench.subscribe(names[number % topics])
        relay = ConversationRelay(
            cast("WebSocket", None), conversation, feed, None, None
        )
        feed.attach(relay, None, None)
        feed.drain()
        peers.append(peer)
    turns = cycle(names)
    message = bytes(32)

    def work(units: int) -> None:
        for name in islice(turns, max(1, units // size)):
            publishing = bench.session.publish(name, message)
            with suppress(StopIteration):
                publishing.send(None)
            bench.runtime.run_ready()
            publishing.close()
        for peer in peers:
            peer.connection.sent.clear()

    return work


def topics(size: int) -> Work:
    """Deliveries to such WebSockets, each of a topic of its own, in turn."""
    return topic(1, size)


CURVES: dict[str, tuple[Callable[[int], Work], tuple[int, ...]]] = {
    "sockets": (sockets, (10, 100, 1_000, 10_000)),
    "streams": (streams, (1, 10, 100, 1_000)),
    "windows": (windows, (1, 10, 100, 1_000)),
    "routes": (routes, (1, 10, 100, 1_000, 10_000)),
    "topic": (topic, (10, 100, 1_000, 10_000)),
    "topics": (topics, (1, 10, 100, 1_000, 10_000)),
    "deadlines": (deadlines, (10, 100, 1_000, 10_000, 100_000)),
}


def microseconds(curve: str, size: int, units: int = _UNITS) -> float:
    """Return the microseconds for one unit, of the best of five runs."""
    work = CURVES[curve][0](size)
    work(size)  # each once: caches are as warm as they get
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        work(units)
        best = min(best, time.perf_counter() - start)
    return best / units * 1e6


def instructions(curve: str, size: int) -> tuple[float, float]:
    """Return the instructions and the last-level misses for one unit.

    Raises:
        FileNotFoundError: valgrind is not installed.
    """
    few, many = (_counted(curve, size, units) for units in _COUNTED)
    units = _COUNTED[1] - _COUNTED[0]
    return (many[0] - few[0]) / units, (many[1] - few[1]) / units


def _counted(curve: str, size: int, units: int) -> tuple[int, int]:
    valgrind = [
        "valgrind",
        "--tool=cachegrind",
        "--cache-sim=yes",
        "--cachegrind-out-file=/dev/null",
    ]
    words = [sys.executable, "-m", __spec__.name, "--one", curve, str(size), str(units)]
    environment = os.environ | {"PYTHONHASHSEED": "0"}
    child = subprocess.run(
        [*valgrind, *words], env=environment, capture_output=True, text=True, check=True
    )
    found = [
        int(number.replace(",", ""))
        for number in re.findall(r"(?:I +refs|LL misses): +([\d,]+)", child.stderr)
    ]
    return found[0], found[1]


def main() -> None:
    """Print the curves."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("curves", nargs="*", metavar="CURVE", help=", ".join(CURVES))
    parser.add_argument("--instructions", action="store_true", help="count instead")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        curve, size, units = options.one
        work = CURVES[curve][0](int(size))
        work(int(size))
        work(int(units))
        return
    for curve in options.curves or CURVES:
        for size in CURVES[curve][1]:
            if options.instructions:
                refs, misses = instructions(curve, size)
                text = f"{refs:9,.0f} instructions {misses:7.2f} misses"
            else:
                text = f"{microseconds(curve, size):7.2f} us"
            print(f"{curve:10} {size:7,} {text}", flush=True)


if __name__ == "__main__":
    main()
