"""A client in memory for ``H1Engine``, on a connection and a runtime of its own."""

import re
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tako.config import ServerConfig
from tako.errors import TakoError
from tako.h1 import H1Engine, H1Exchange
from tests.support.wire import FakeConnection, conn_info


Handler: TypeAlias = Callable[[H1Exchange], Awaitable[None]]

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


@dataclass
class Answer:
    """One response, as a client reads it."""

    status: int
    head: bytes
    body: bytes

    def has(self, field: str) -> bool:
        """Tell whether the head contains this line."""
        return f"\r\n{field}\r\n".encode() in self.head


def answers(data: bytes) -> list[Answer]:
    """Read responses with Content-Length, chunked (whole) or close-delimited bodies."""
    found = []
    while data:
        head, end, data = data.partition(b"\r\n\r\n")
        assert end, f"an incomplete response head: {head!r}"
        head += b"\r\n"
        status = int(head[9:12])
        length = _LENGTH.search(head)
        if b"\r\ntransfer-encoding: chunked\r\n" in head:
            body, data = _unchunk(data)
        elif length is not None:
            size = int(length[1])
            assert len(data) >= size, f"an incomplete body: {data!r}"
            body, data = data[:size], data[size:]
        elif status < 200 or status in {204, 304}:
            body = b""
        else:
            body, data = data, b""
        found.append(Answer(status, head, body))
    return found


def _unchunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, _, data = data.partition(b"\r\n")
        size = int(line, 16)
        if size == 0:
            assert data.startswith(b"\r\n"), "trailers are not for this helper"
            return body, data[2:]
        body += data[:size]
        assert data[size : size + 2] == b"\r\n", "a chunk without its end"
        data = data[size + 2 :]


async def read_body(exchange: H1Exchange) -> bytes:
    """Read the request body to its end."""
    chunks = []
    while chunk := await exchange.body.next_chunk():
        chunks.append(chunk)
    return b"".join(chunks)


async def echo(exchange: H1Exchange) -> None:
    """Read the body and answer 200 with path and body."""
    body = await read_body(exchange)
    text = exchange.request.path.encode() + b" " + body
    exchange.send_headers(200, [(b"content-length", b"%d" % len(text))])
    exchange.send_data(text, end=True)


class H1Peer:
    """An engine with a peer in front and a handler behind it.

    Does what ``Connection`` does: starts handlers, comes back for backlog, and does not
    hand over what a paused transport would not read.
    """

    def __init__(
        self,
        handler: Handler = echo,
        config: ServerConfig | None = None,
        *,
        tls: bool = False,
    ) -> None:
        self.connection = FakeConnection(config, conn_info(tls=tls))
        self.engine = H1Engine(self.connection)
        self.connection.engine = self.engine
        self.runtime = self.connection.runtime
        self.exchanges: list[H1Exchange] = []
        self.errors: list[BaseException] = []
        self.running = 0
        self.most_running = 0
        self._handler = handler
        self._unsent: deque[bytes] = deque()

    def send(self, data: bytes, *, size: int | None = None) -> None:
        """Let ``data`` arrive in pieces of ``size`` while reading is not paused."""
        size = size or max(1, len(data))
        self._unsent += [data[at : at + size] for at in range(0, len(data), size)]
        self.go_on()

    def go_on(self) -> None:
        """Run what is due and let arrive what may."""
        self._settle()
        while (
            self._unsent and not self.connection.pauses and not self.connection.closed
        ):
            self._receive(self._unsent.popleft())
            self._settle()

    @property
    def unsent(self) -> int:
        """Bytes that wait because reading is paused."""
        return sum(map(len, self._unsent))

    @property
    def closed(self) -> bool:
        """The engine wants the connection closed in order, or has closed it."""
        return self.engine.closing or self.connection.closed

    def take(self) -> bytes:
        """Return what was sent since the last call."""
        return self.connection.take()

    def answers(self) -> list[Answer]:
        """Return the responses since the last call."""
        return answers(self.take())

    def _receive(self, data: bytes) -> None:
        for exchange in self.engine.receive_data(data) or ():
            self.exchanges.append(exchange)
            exchange.task = self.runtime.spawn(self._run, exchange)

    def _settle(self) -> None:
        self.runtime.run_ready()
        while self.engine.backlog:
            self._receive(b"")
            self.runtime.run_ready()
        self.connection.flush()

    async def _run(self, exchange: H1Exchange) -> None:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            await self._handler(exchange)
        except TakoError as error:
            self.errors.append(error)
        finally:
            self.running -= 1
            exchange.ended()
