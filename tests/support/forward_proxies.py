"""A small forward proxy, on a thread of its own: CONNECT, over TLS or not, and SOCKS5.

It shares no code with tako: what it was asked for is there to be looked at.
"""

import asyncio
import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeAlias

from tests.support.patience import TIMEOUT


Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

NAME = "only-the-proxy-knows.test"
"""A name of this machine that is in no resolver."""


class ForwardProxy:
    """A proxy on the loopback interface.

    Attributes:
        asked: host and port of each server that was asked for.
        heads: the requests of HTTP clients.
        port: where it listens.
    """

    def __init__(
        self,
        scheme: str = "http",
        *,
        tls: ssl.SSLContext | None = None,
        credentials: tuple[str, str] | None = None,
        answers: Sequence[bytes] = (),
    ) -> None:
        """Make a proxy that is to be entered.

        Args:
            scheme: as in its URL.
            tls: for ``https``.
            credentials: the user and the password that it wants.
            answers: what it says to one client after the other instead of connecting;
                the last is repeated; ``b""``: it hangs up.
        """
        self.scheme = scheme
        self.asked: list[tuple[str, int]] = []
        self.heads: list[bytes] = []
        self._tls = tls
        self._credentials = credentials
        self._answers = list(answers)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._run(),)
        )
        self._end = asyncio.Event()

    @property
    def url(self) -> str:
        """Its URL, with what it wants to know."""
        user = ""
        if self._credentials is not None:
            user = "{}:{}@".format(*self._credentials)
        return f"{self.scheme}://{user}localhost:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(TIMEOUT)
        self._loop.close()

    async def _run(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._serve(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(begin, sock=self._listener, ssl=self._tls)
        await self._end.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=TIMEOUT)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        ask = self._socks if self.scheme.startswith("socks") else self._http
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                server, answer = await ask(reader, writer)
                if server is not None:
                    self.asked.append(server)
                    if self._answers:
                        server, answer = None, self._answers[0]
                        del self._answers[: len(self._answers) > 1]
                if server is not None:
                    host, port = server
                    known = host in {NAME, "localhost"}
                    far = await asyncio.open_connection(
                        "127.0.0.1" if known else host, port
                    )
                    writer.write(answer)
                    await relay((reader, writer), far)
                else:
                    writer.write(answer)
            finally:
                writer.close()
                await writer.wait_closed()

    async def _http(
        self, reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> tuple[tuple[str, int] | None, bytes]:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        method, target, _version = head.split(b"\r\n", 1)[0].split(b" ")
        assert method == b"CONNECT"
        if self._credentials is not None:
            pair = base64.b64encode(":".join(self._credentials).encode())
            if b"\r\nproxy-authorization: Basic " + pair + b"\r\n" not in head:
                return None, b"HTTP/1.1 407 Who?\r\nproxy-authenticate: Basic\r\n\r\n"
        host, _, port = target.decode().rpartition(":")
        return (host.strip("[]"), int(port)), b"HTTP/1.1 200 Connected\r\n\r\n"

    async def _socks(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> tuple[tuple[str, int] | None, bytes]:
        version, count = await reader.readexactly(2)
        assert version == 5
        methods = await reader.readexactly(count)
        if self._credentials is not None:
            if 2 not in methods:
                return None, b"\x05\xff"
            writer.write(b"\x05\x02")
            given: list[str] = []
            assert (await reader.readexactly(1)) == b"\x01"
            for _ in range(2):
                (size,) = await reader.readexactly(1)
                given.append((await reader.readexactly(size)).decode())
            if tuple(given) != self._credentials:
                return None, b"\x01\x01"
            writer.write(b"\x01\x00")
        else:
            writer.write(b"\x05\x00")
        version, command, _, kind = await reader.readexactly(4)
        assert (version, command) == (5, 1)
        if kind == 3:
            (size,) = await reader.readexactly(1)
            host = (await reader.readexactly(size)).decode()
        else:
            family, size = {1: (socket.AF_INET, 4), 4: (socket.AF_INET6, 16)}[kind]
            host = socket.inet_ntop(family, await reader.readexactly(size))
        port = int.from_bytes(await reader.readexactly(2), "big")
        return (host, port), b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x00"


async def relay(near: Streams, far: Streams) -> None:
    """Pass on what both sides say, and the end of each."""
    try:
        await asyncio.gather(_pass_on(near[0], far[1]), _pass_on(far[0], near[1]))
    finally:
        far[1].close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65_536):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()
