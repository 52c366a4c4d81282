"""What the HTTP/2 engine costs by itself: no TLS, no socket, no event loop.

Run from the project's root: ``PYTHONPATH=. python -m tests.benchmarks.h2_engine``.
"""

import time
from collections.abc import Callable

from tako.testing.peer.websocket import encode_frame
from tako.ws.conversation import Conversation
from tako.ws.options import WsOptions
from tests.support.h2wire import (
    CONNECT,
    Peer,
    RecordingSink,
    answer,
    data,
    window_update,
)


_MESSAGES = 20_000
_REQUESTS = 2_000
_SIZE = 70


def _best(run: Callable[[], int]) -> float:
    """Return the microseconds per unit of the best of five runs."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        units = run()
        best = min(best, (time.perf_counter() - start) / units * 1e6)
    return best


class _Echo(RecordingSink):
    def deliver(self, data: bytes) -> None:
        self.exchange.send_data(data)
        self.exchange.consumed(len(data))


def tunnel(*, lane: bool, batch: int) -> float:
    """Small messages, echoed; ``batch`` of them in a read."""
    peer = Peer(lane=lane)
    exchange, _ = peer.tunnel()
    exchange.sink = _Echo(exchange)
    peer.send(window_update(0, 2**30), window_update(1, 2**30))
    read = data(1, bytes(_SIZE)) * batch
    engine = peer.engine

    def run() -> int:
        for _ in range(_MESSAGES // batch):
            engine.receive_data(read)
            while engine.backlog:
                engine.receive_data(b"")
            engine.data_to_send()
        return _MESSAGES

    return _best(run)


def messages(*, lane: bool, batch: int) -> float:
    """Whole WebSocket messages, read one by one; ``batch`` of them in a read."""
    peer = Peer(lane=lane)
    exchange = peer.request(1, CONNECT, end=False)
    conversation = Conversation(exchange, WsOptions())
    exchange.open_tunnel(200, []).receive_into(conversation)
    read = data(1, encode_frame(2, bytes(_SIZE))) * batch
    engine, waiting = peer.engine, conversation.inbox.messages

    def run() -> int:
        for _ in range(_MESSAGES // batch):
            engine.receive_data(read)
            while engine.backlog:
                engine.receive_data(b"")
            while waiting:
                conversation.take()
            engine.data_to_send()
        return _MESSAGES

    return _best(run)


def gets() -> float:
    """GET requests of six fields, answered with five bytes."""
    peer = Peer()
    best = float("inf")
    for first in range(1, 4 * 2 * _REQUESTS, 2 * _REQUESTS):
        reads = [
            peer.headers(i, extra=[("user-agent", "curl/8.0"), ("accept", "*/*")])
            for i in range(first, first + 2 * _REQUESTS, 2)
        ]
        start = time.perf_counter()
        for read in reads:
            for exchange in peer.engine.receive_data(read):
                answer(exchange)
            peer.engine.data_to_send()
        best = min(best, (time.perf_counter() - start) / _REQUESTS * 1e6)
    return best


def main() -> None:
    """Print one line for each measurement."""
    for lane in (True, False):
        for batch in (1, 50):
            name = f"echo of {_SIZE} bytes, lane={lane}, {batch} a read"
            print(f"{name:45} {tunnel(lane=lane, batch=batch):7.2f} us")
            name = f"message of {_SIZE} bytes, lane={lane}, {batch} a read"
            print(f"{name:45} {messages(lane=lane, batch=batch):7.2f} us")
    print(f"{'GET':45} {gets():7.2f} us")


if __name__ == "__main__":
    main()
