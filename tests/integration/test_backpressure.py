"""Memory stays bounded and a stalled party stalls only itself (T-WS-17).

"Stalled" means here that a handler, or the client, makes no progress for ``PAUSE``
seconds; how much went through until then is what the test states.
"""

import functools
from collections.abc import AsyncIterator, Callable

import psutil
import pytest

import tako
from tako import Request, Response, Router, WebSocket
from tako.testing import Serve
from tako.testing.peer.websocket import Opcode, Pong, encode_frame
from tests.support.apps import echo, echo_session, ws_router
from tests.support.peers import h1_of, h2_of
from tests.support.server import Gate, Reports


H1_ONLY = pytest.mark.parametrize("wire", ["h1", "h1s"], indirect=True)
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)
PAUSE = 0.25
PIECE = 64 * 1024
PLENTY = 24 << 20  # more than all buffers on the way take
KERNEL = 12 << 20  # what the two socket buffers of a loopback connection may hold


def _until_stalled(progress: Reports) -> int:
    """Return the last number that a handler reported before it stopped reporting."""
    last: int = progress.get()
    while True:
        try:
            last = progress.get(timeout=PAUSE)
        except TimeoutError:
            return last


def _send_until_stalled(
    send: Callable[[bytes], object], piece: bytes, most: int = PLENTY
) -> None:
    """Send ``piece`` again and again until the other side takes no more."""
    try:
        for _ in range(0, most, len(piece)):
            send(piece)
    except TimeoutError:
        return
    msg = f"nothing stopped the client within {most} bytes"
    raise AssertionError(msg)


class TestSending:
    def test_send_waits_for_a_peer_that_does_not_read(self, tako_serve: Serve) -> None:
        progress = Reports()

        async def session(ws: WebSocket) -> None:
            for sent in range(0, PLENTY, PIECE):
                progress.put(sent)
                await ws.send(b"x" * PIECE)
            await ws.send("that was all")

        server = tako_serve(ws_router(session))
        with server.connection(receive_buffer=PIECE) as connection:
            before = psutil.Process().memory_info().rss
            ws = connection.websocket("/ws")
            stalled_at = _until_stalled(progress)
            grown = psutil.Process().memory_info().rss - before
            assert stalled_at < KERNEL
            assert grown < 8 << 20
            for _ in range(0, PLENTY, PIECE):
                assert len(ws.receive()) == PIECE  # type: ignore[arg-type]
            ws.expect("that was all")
            assert ws.expect_close() == (1000, "")

    def test_a_blocked_send_is_woken_by_the_end_of_the_connection(
        self, tako_serve: Serve
    ) -> None:
        progress, ended = Reports(), Reports()

        async def session(ws: WebSocket) -> None:
            try:
                for sent in range(0, PLENTY, PIECE):
                    progress.put(sent)
                    await ws.send(b"x" * PIECE)
            except tako.ConnectionClosed as closed:
                ended.put(closed.code)

        server = tako_serve(ws_router(session))
        with server.connection(receive_buffer=PIECE) as connection:
            ws = connection.websocket("/ws")
            assert _until_stalled(progress) < KERNEL
            ws.pipe.reset()
            assert ended.get() == 1006

    @H2_ONLY
    def test_two_sockets_echo_while_a_third_on_the_connection_stalls(
        self, tako_serve: Serve
    ) -> None:
        progress = Reports()

        async def firehose(ws: WebSocket) -> None:
            for sent in range(0, PLENTY, PIECE):
                progress.put(sent)
                await ws.send(b"x" * PIECE)

        server = tako_serve(ws_router(firehose))
        with h2_of(server, stream_window=4 * PIECE) as connection:
            one = connection.websocket("/echo")
            two = connection.websocket("/echo")
            stalled = connection.websocket("/ws")
            assert _until_stalled(progress) < 16 * PIECE
            for number in range(100):
                one.echo(f"one {number}")
                two.echo(b"x" * 3 * PIECE)
            for _ in range(100):
                assert len(stalled.receive()) == PIECE  # type: ignore[arg-type]
            stalled.pipe.reset()


class TestReceiving:
    def test_a_session_that_never_reads_stops_its_peer(self, tako_serve: Serve) -> None:
        gate = Gate()

        async def session(ws: WebSocket) -> None:
            await gate.wait()

        frame = encode_frame(Opcode.BINARY, b"x" * PIECE)
        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            before = psutil.Process().memory_info().rss
            _send_until_stalled(functools.partial(ws.pipe.send, timeout=PAUSE), frame)
            assert connection.socket.bytes_sent < KERNEL
            assert psutil.Process().memory_info().rss - before < 4 << 20
            gate.open()

    def test_small_messages_do_not_pile_up_either(self, tako_serve: Serve) -> None:
        gate = Gate()

        async def session(ws: WebSocket) -> None:
            await gate.wait()

        frames = encode_frame(Opcode.TEXT) * 1000
        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            _send_until_stalled(functools.partial(ws.pipe.send, timeout=PAUSE), frames)
            assert connection.socket.bytes_sent < KERNEL
            gate.open()

    def test_nothing_is_lost_when_a_slow_session_goes_on(
        self, tako_serve: Serve
    ) -> None:
        gate, reports = Gate(), Reports()

        async def session(ws: WebSocket) -> None:
            await gate.wait()
            async for message in ws:
                if isinstance(message, bytes):
                    reports.put(len(message))

        with tako_serve(ws_router(session)).connection() as connection:
            ws = connection.websocket("/ws")
            for _ in range(40):  # less than what is buffered on either wire
                ws.send(b"x" * 1000)
            ws.ping(b"?")
            ws.expect(Pong(b"?"))
            gate.open()
            ws.close(1000)
            assert ws.expect_close() == (1000, "")
            assert [reports.get() for _ in range(40)] == [1000] * 40

    @H2_ONLY
    def test_a_message_larger_than_the_window_arrives(self, tako_serve: Serve) -> None:
        with h2_of(tako_serve(ws_router(echo_session))) as connection:
            connection.websocket("/ws").echo(b"x" * (2 << 20))

    @H2_ONLY
    def test_a_stalled_stream_leaves_the_connection_window_alone(
        self, tako_serve: Serve
    ) -> None:
        gate = Gate()

        async def session(ws: WebSocket) -> None:
            await gate.wait()

        frame = encode_frame(Opcode.BINARY, b"x" * PIECE)
        with h2_of(tako_serve(ws_router(session))) as connection:
            stalled = [connection.websocket("/ws") for _ in range(5)]
            for ws in stalled:
                _send_until_stalled(functools.partial(ws.pipe.send, timeout=0.1), frame)
            connection.websocket("/echo").echo(b"y" * (1 << 20))
            gate.open()


class TestBodies:
    def test_a_streamed_response_waits_for_its_reader(self, tako_serve: Serve) -> None:
        progress, router = Reports(), Router()

        async def body() -> AsyncIterator[bytes]:
            for sent in range(0, PLENTY, PIECE):
                progress.put(sent)
                yield b"x" * PIECE

        async def download(request: Request) -> Response:
            return Response(body=body())

        router.get("/", download)
        with tako_serve(router).connection(receive_buffer=PIECE) as connection:
            pending = connection.send_request("GET", "/")
            assert _until_stalled(progress) < KERNEL
            assert len(pending.read_response().body) == PLENTY

    @H1_ONLY
    def test_an_http_1_body_waits_for_its_handler(self, tako_serve: Serve) -> None:
        gate = Gate()
        with h1_of(tako_serve(_upload_router(gate))) as connection:
            head = connection.head("POST", "/", [("Content-Length", str(PLENTY))])
            connection.send_raw(head)
            _send_until_stalled(
                functools.partial(connection.socket.send, timeout=PAUSE), b"x" * PIECE
            )
            assert connection.socket.bytes_sent < KERNEL
            gate.open()
            left = PLENTY + len(head) - connection.socket.bytes_sent
            connection.send_raw(b"x" * left)
            assert connection.read_response().body == str(PLENTY).encode()

    @H2_ONLY
    def test_an_http_2_body_waits_for_its_handler_and_no_other_stream_does(
        self, tako_serve: Serve
    ) -> None:
        gate = Gate()
        with h2_of(tako_serve(_upload_router(gate))) as connection:
            stream = connection.open(connection.pseudo_headers("POST", "/"))
            _send_until_stalled(
                functools.partial(stream.send, timeout=PAUSE), b"x" * PIECE
            )
            assert stream.bytes_sent <= 256 * 1024
            connection.websocket("/echo").echo(b"y" * (1 << 20))
            gate.open()
            stream.send(b"x" * (PLENTY - stream.bytes_sent), end=True)
            assert stream.read_response().body == str(PLENTY).encode()


def _upload_router(gate: Gate) -> Router:
    """Return a router that counts the bytes posted to it once ``gate`` is open."""
    router = Router()

    async def upload(request: Request) -> str:
        await gate.wait()
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
        return str(size)

    router.post("/", upload)
    router.get("/echo", echo)
    return router
