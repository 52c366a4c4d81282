"""A byte-transparent bridge: HTTP/1.1 ``101`` in front, HTTP/2 extended CONNECT behind.

    python -m tests.conformance.bridge --upstream localhost:8443 --ca ca.pem

No Autobahn client speaks RFC 8441. This bridge lets the one there is test a server
over HTTP/2: each TCP connection becomes one stream, all of them on a single HTTP/2
connection. Bytes pass unchanged and unparsed in both directions; so do their ends:

    FIN          <->  END_STREAM
    TCP reset     ->  RST_STREAM(CANCEL)
    RST_STREAM    ->  the TCP connection is closed

Theory of operation. One task reads the HTTP/2 connection and puts what it finds into
the queue of the stream concerned. Each TCP connection has two tasks: one copies TCP
to DATA and waits for the stream's window, the other copies the queue to TCP and gives
credit for what the socket took. So neither side can outrun the other, and one
connection that stalls does not stall the others.

It shares no code with tako.
"""

import argparse
import asyncio
import base64
import contextlib
import hashlib
import ssl

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
from h2.settings import SettingCodes, Settings


GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
WINDOW = 1 << 20
READ_SIZE = 65_536
AGREED = ("sec-websocket-extensions", "sec-websocket-protocol")
"""Fields of an answer that are passed on."""
HOP_BY_HOP = {"host", "connection", "upgrade", "keep-alive", "proxy-connection"}


class Reset(Exception):  # noqa: N818 - what happened, not a fault
    """The server reset the stream, or the connection is gone."""


class Stream:
    """One extended CONNECT."""

    def __init__(self, carrier: "Carrier", stream_id: int) -> None:
        self.carrier = carrier
        self.id = stream_id
        self.head: asyncio.Future[list[tuple[str, str]]] = (
            asyncio.get_running_loop().create_future()
        )
        self.queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.moved = asyncio.Event()
        self.reset = False
        self.open = True

    def lost(self) -> None:
        """Note that no more bytes will pass."""
        self.reset = True
        self.moved.set()
        self.queue.put_nowait(None)
        if not self.head.done():
            self.head.set_exception(Reset())
            self.head.exception()  # of a client's stream nobody asks for it

    async def send(self, data: bytes) -> None:
        """Send ``data`` as the windows allow."""
        engine = self.carrier.engine
        view = memoryview(data)
        while view:
            if self.reset:
                raise Reset
            room = min(
                engine.local_flow_control_window(self.id),
                engine.max_outbound_frame_size,
            )
            if room <= 0:
                self.moved.clear()
                await self.moved.wait()
                continue
            engine.send_data(self.id, bytes(view[:room]))
            view = view[room:]
            await self.carrier.flush()

    async def end(self) -> None:
        """Send END_STREAM."""
        if not self.reset:
            self.carrier.engine.end_stream(self.id)
            await self.carrier.flush()

    async def cancel(self) -> None:
        """Send RST_STREAM(CANCEL) unless the stream is over already."""
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self.carrier.engine.reset_stream(self.id, h2.errors.ErrorCodes.CANCEL)
        await self.carrier.flush()

    async def credit(self, size: int) -> None:
        """Let the server send ``size`` more bytes."""
        if not self.reset and self.open:
            self.carrier.engine.increment_flow_control_window(size, self.id)
            await self.carrier.flush()


class Carrier:
    """An HTTP/2 connection of either role, and the streams on it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        client: bool,
        setting: SettingCodes,
        value: int,
    ) -> None:
        """Make one that says ``setting`` besides how large its windows are."""
        self.engine = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=client, header_encoding="utf-8")
        )
        self.engine.local_settings = Settings(
            client=client,
            initial_values={setting: value, SettingCodes.INITIAL_WINDOW_SIZE: WINDOW},
        )
        self.alive = True
        self._reader = reader
        self._writer = writer
        self._streams: dict[int, Stream] = {}

    async def start(self) -> None:
        """Send the preface; the caller then runs ``read``."""
        self.engine.initiate_connection()
        self.engine.increment_flow_control_window(WINDOW * 64)
        await self.flush()

    async def flush(self) -> None:
        """Write what the engine has queued."""
        if data := self.engine.data_to_send():
            self._writer.write(data)
            await self._writer.drain()

    def begin(self, stream_id: int) -> Stream:
        """Return a new stream."""
        stream = self._streams[stream_id] = Stream(self, stream_id)
        return stream

    def forget(self, stream: Stream) -> None:
        """Drop a stream that both sides are done with."""
        stream.open = False
        self._streams.pop(stream.id, None)

    async def read(self) -> None:
        """Read until the connection ends."""
        try:
            while data := await self._reader.read(READ_SIZE):
                for event in self.engine.receive_data(data):
                    self.take(event)
                await self.flush()
        except (OSError, h2.exceptions.ProtocolError) as error:
            print(f"bridge: the HTTP/2 connection failed: {error!r}", flush=True)
        finally:
            self.alive = False
            for stream in self._streams.values():
                stream.lost()
            self._writer.close()

    def take(self, event: h2.events.Event) -> None:
        """Do what ``event`` asks for."""
        match event:
            case h2.events.RemoteSettingsChanged() | h2.events.WindowUpdated():
                self._wake()
            case h2.events.ConnectionTerminated():
                self.alive = False
            case (
                h2.events.ResponseReceived()
                | h2.events.DataReceived()
                | h2.events.StreamEnded()
                | h2.events.StreamReset()
            ):
                stream = self._streams.get(event.stream_id)
                if stream is not None:
                    self._take_of(stream, event)

    def _take_of(self, stream: Stream, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                stream.head.set_result([(str(k), str(v)) for k, v in event.headers])
            case h2.events.DataReceived():
                self.engine.increment_flow_control_window(
                    event.flow_controlled_length or 1
                )
                stream.queue.put_nowait(event.data)
            case h2.events.StreamEnded():
                stream.open = False
                stream.queue.put_nowait(None)
            case h2.events.StreamReset():
                stream.lost()

    def _wake(self) -> None:
        for stream in self._streams.values():
            stream.moved.set()


class Upstream(Carrier):
    """The HTTP/2 connection to the server."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__(
            reader, writer, client=True, setting=SettingCodes.ENABLE_PUSH, value=0
        )
        self.ready = asyncio.Event()

    async def open(self, headers: list[tuple[str, str]]) -> Stream:
        """Begin an extended CONNECT."""
        await self.ready.wait()
        if self.engine.remote_settings.enable_connect_protocol != 1:
            msg = "the server does not offer extended CONNECT (RFC 8441 section 3)"
            raise Reset(msg)
        stream = self.begin(self.engine.get_next_available_stream_id())
        self.engine.send_headers(stream.id, headers)
        await self.flush()
        return stream

    def take(self, event: h2.events.Event) -> None:
        """Note that the server has said what it can, before all else."""
        if isinstance(event, h2.events.RemoteSettingsChanged):
            self.ready.set()
        super().take(event)


class Bridge:
    """Accepts HTTP/1.1 and opens a stream for each connection."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        self._host = host
        self._port = port
        self._tls = tls
        self._upstream: Upstream | None = None
        self._connecting = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def accepted(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one TCP connection to its end."""
        stream: Stream | None = None
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            upstream = await self._connected()
            path, headers = parse(head)
            stream = await upstream.open(self._request(path, headers))
            answer = await stream.head
            writer.write(_answer(answer, headers))
            await writer.drain()
            if answer[0][1] == "200":
                await copy(stream, reader, writer)
        except (Reset, OSError, asyncio.IncompleteReadError):
            if stream is not None:
                await stream.cancel()
        finally:
            if stream is not None:
                stream.carrier.forget(stream)
            writer.close()

    async def _connected(self) -> Upstream:
        async with self._connecting:
            if self._upstream is None or not self._upstream.alive:
                reader, writer = await asyncio.open_connection(
                    self._host,
                    self._port,
                    ssl=self._tls,
                    server_hostname=self._host if self._tls else None,
                )
                self._upstream = Upstream(reader, writer)
                await self._upstream.start()
                task = asyncio.create_task(self._upstream.read())
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            return self._upstream

    def _request(
        self, path: str, headers: list[tuple[str, str]]
    ) -> list[tuple[str, str]]:
        return [
            (":method", "CONNECT"),
            (":protocol", "websocket"),
            (":scheme", "https" if self._tls else "http"),
            (":authority", f"{self._host}:{self._port}"),
            (":path", path),
            *[(name, value) for name, value in headers if name not in HOP_BY_HOP],
        ]


async def copy(
    stream: Stream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Pass bytes on in both directions, until both have ended.

    Raises:
        Reset: the stream was reset.
        OSError: the TCP connection was.
    """
    tasks = [
        asyncio.create_task(_to_stream(reader, stream)),
        asyncio.create_task(_to_socket(stream, writer)),
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _to_stream(reader: asyncio.StreamReader, stream: Stream) -> None:
    """Copy TCP to DATA until FIN, which becomes END_STREAM."""
    while data := await reader.read(READ_SIZE):
        await stream.send(data)
    await stream.end()


async def _to_socket(stream: Stream, writer: asyncio.StreamWriter) -> None:
    """Copy DATA to TCP until END_STREAM, which becomes FIN."""
    while data := await stream.queue.get():
        writer.write(data)
        await writer.drain()
        await stream.credit(len(data))
    if stream.reset:
        raise Reset
    writer.write_eof()


def parse(head: bytes) -> tuple[str, list[tuple[str, str]]]:
    """Return the second word of the first line, and the fields."""
    lines = head.decode("latin-1").split("\r\n")
    word = lines[0].split(" ")[1]
    pairs = [line.partition(":") for line in lines[1:] if line]
    return word, [(name.lower(), value.strip()) for name, _, value in pairs]


def _answer(head: list[tuple[str, str]], request: list[tuple[str, str]]) -> bytes:
    """Translate the answer: 200 into 101, anything else into itself, bodiless."""
    status, fields = head[0][1], dict(head[1:])
    if status != "200":
        return f"HTTP/1.1 {status} Refused\r\nContent-Length: 0\r\n\r\n".encode()
    key = dict(request).get("sec-websocket-key", "").encode()
    digest = hashlib.sha1(key + GUID, usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
    ]
    lines += [f"{name}: {fields[name]}" for name in AGREED if name in fields]
    return "\r\n".join([*lines, "", ""]).encode()


def _client_context(ca: str | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    return context


async def main() -> None:
    """Run until cancelled; prints the port once it listens."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--upstream", required=True, metavar="HOST:PORT")
    parser.add_argument("--ca", help="PEM file; without it: cleartext HTTP/2")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    args = parser.parse_args()
    host, _, port = args.upstream.rpartition(":")
    bridge = Bridge(host, int(port), _client_context(args.ca))
    server = await asyncio.start_server(bridge.accepted, "127.0.0.1", args.port)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
