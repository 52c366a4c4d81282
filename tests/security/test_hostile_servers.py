"""The rows of ``hostile_servers.py`` against ``tako.connect``, on sockets.

Each costs the client its own socket and an error with a name. A WebSocket to another
server, in the same loop, goes on: what the client computes in one turn of its loop is
bounded, which is asserted in CPU time of its thread.
"""

import asyncio
import contextlib
import re
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

import tako
from tako.errors import TakoError
from tako.h2.frames import HEAD, HEADERS, PREFACE
from tako.ws.handshake import accept_key
from tests.security.hostile_servers import (
    ACCEPT,
    DEFLATE,
    GREETING,
    MAX_SIZE,
    ROWS,
    STILL_HERE,
    SWITCH,
    Row,
    Wire,
    head,
    named,
    ws,
)
from tests.support.h2wire import data
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import RuntimeName, open_sockets


TURN = 0.05
"""Seconds that the client may compute before others have their turn."""
PIECE = 1 << 14
ALIVE = "alive"


class Served:
    """A connection of the client, which a thread serves as a row says."""

    def __init__(self, sock: socket.socket, row: Row | None, wire: Wire) -> None:
        self._sock = sock
        self._row = row
        self._wire = wire
        self._received = b""
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        with contextlib.suppress(OSError):  # the client may have closed it
            self._sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(TIMEOUT)
        self._sock.close()

    def _run(self) -> None:
        self._sock.settimeout(TIMEOUT)
        # a client that has had enough resets the connection
        with contextlib.suppress(OSError, EOFError):
            if self._row is None:
                self._sock.sendall(self._opened(()))
                while self._sock.recv(PIECE):
                    self._sock.sendall(self._frames(ws(0x81, ALIVE.encode())))
                return
            self._play(self._row)
            while self._sock.recv(PIECE):
                pass

    def _play(self, row: Row) -> None:
        if row.where == "greeting":
            self._sock.sendall(row.sent)
            return
        if row.where == "answer":
            answer = self._answer(row.sent)
        else:
            more = (("sec-websocket-extensions", DEFLATE),) if row.deflate else ()
            answer = self._opened(more)
            answer += self._frames(row.sent) if row.wire == "ws" else row.sent
        if row.error is None:
            answer += self._frames(ws(0x81, STILL_HERE.encode()))
        self._sock.sendall(answer)
        if row.fin:
            self._sock.shutdown(socket.SHUT_WR)

    def _opened(self, fields: tuple[tuple[str, str], ...]) -> bytes:
        """Wait for the request; return the answer that opens a WebSocket."""
        if self._wire == "h2":
            return self._answer(head((":status", "200"), *fields))
        lines = [f"{name}: {value}\r\n".encode() for name, value in fields]
        return self._answer(b"".join([SWITCH, *lines, b"\r\n"]))

    def _answer(self, octets: bytes) -> bytes:
        """Wait for the request; return ``octets`` with the proof that belongs to it."""
        if self._wire == "h1":
            while b"\r\n\r\n" not in self._received:
                self._receive()
            key = re.search(rb"sec-websocket-key: (\S+)", self._received)
            assert key is not None
            return octets.replace(ACCEPT, accept_key(key[1]))
        self._sock.sendall(GREETING)
        at = len(PREFACE)
        while True:
            while len(self._received) < at + HEAD.size:
                self._receive()
            high, low, kind, _, _ = HEAD.unpack_from(self._received, at)
            at += HEAD.size + (high << 8 | low)
            if kind == HEADERS:
                return octets

    def _receive(self) -> None:
        more = self._sock.recv(PIECE)
        if not more:
            raise EOFError
        self._received += more

    def _frames(self, octets: bytes) -> bytes:
        if self._wire == "h1":
            return octets
        cuts = range(0, len(octets), PIECE)
        return b"".join(data(1, octets[at : at + PIECE]) for at in cuts)


@contextlib.contextmanager
def serving(row: Row | None, wire: Wire) -> Iterator[tuple[str, Callable[[], None]]]:
    """Serve one connection as ``row`` says; yield a URL, and what hangs up.

    Without a row, whatever is sent is answered with ``ALIVE``.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    served: list[Served] = []

    def accept() -> None:
        with contextlib.suppress(OSError):  # it was closed
            sock, _ = listener.accept()
            served.append(Served(sock, row, wire))
            served[0].start()  # now that ``hang_up`` knows of it

    def hang_up() -> None:
        for each in served:
            each.end()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}/", hang_up
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        thread.join(TIMEOUT)
        listener.close()
        hang_up()


async def beside(
    runtime: RuntimeName,
    other: Callable[[], Awaitable[None]],
    main: Callable[[], Awaitable[None]],
) -> None:
    """Run ``main``, and ``other`` until that is done."""
    if runtime == "trio":
        import trio

        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await main()
            nursery.cancel_scope.cancel()
        return

    async def run() -> None:
        await other()

    task = asyncio.create_task(run())
    try:
        await main()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Canary:
    """Takes turns with what else is in the loop; knows the longest between two."""

    def __init__(self) -> None:
        self.worst = 0.0

    async def run(self) -> None:
        last = time.thread_time()
        while True:
            await tako.sleep(0)
            now = time.thread_time()
            self.worst, last = max(self.worst, now - last), now


def options(wire: Wire) -> dict[str, Any]:
    return {
        "http_versions": ("2",) if wire == "h2" else ("1.1",),
        "open_timeout": TIMEOUT,
        "close_timeout": TIMEOUT,
        "max_size": MAX_SIZE,
        "subprotocols": ["chat"],
    }


async def outcome(
    url: str, wire: Wire, hang_up: Callable[[], None]
) -> TakoError | None:
    """Connect, and read to the end; return what is raised."""
    try:
        async with tako.connect(url, **options(wire)) as ws:
            try:
                while await ws.read(TIMEOUT) != STILL_HERE:
                    pass
            finally:
                hang_up()  # else the client waits for the server's Close
    except TakoError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("row", "wire"),
    [
        pytest.param(row, wire, id=f"{wire}-{named(row)}")
        for row in ROWS
        for wire in row.wires
    ],
)
def test_a_row_costs_its_own_socket(runtime: RuntimeName, row: Row, wire: Wire) -> None:
    before = open_sockets()
    canary = Canary()

    async def main() -> None:
        async with tako.connect(good, **options("h1")) as bystander:

            async def play() -> None:
                await bystander.send("before")
                assert await bystander.read(TIMEOUT) == ALIVE
                error = await outcome(url, wire, hang_up)
                if row.error is None:
                    assert error is None, repr(error)
                else:
                    assert isinstance(error, row.error), repr(error)
                    assert row.text in str(error)
                await bystander.send("after")
                assert await bystander.read(TIMEOUT) == ALIVE

            await beside(runtime, canary.run, play)
            hang_up_good()

    with serving(None, "h1") as (good, hang_up_good), serving(row, wire) as found:
        url, hang_up = found
        run_on(runtime, main)
    assert open_sockets() <= before
    assert canary.worst < TURN
