"""Bodies of any size in little memory; producers that stop with the reader.

The server of the memory tests is a process of its own: what grows is the server.
"""

import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import tako
from tako import Request, Response, Router
from tako.testing import Serve
from tako.testing.peer import PeerConnection, Wire, connect
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.stream import H2Stream
from tests.support.children import Child
from tests.support.patience import NEVER, TIMEOUT
from tests.support.peers import h2_of
from tests.support.server import UNHURRIED, Credentials, Gate, Reports


MIB = 1 << 20
PIECE = 64 * 1024
ROOT = Path(__file__).parents[2]
GROWTH = 16 * MIB
PAUSE = 0.25  # seconds without progress that count as a standstill
SIZES = [
    pytest.param(64 * MIB, id="64MiB"),
    pytest.param(1024 * MIB, id="1GiB", marks=pytest.mark.slow),
]
H2_ONLY = pytest.mark.parametrize("wire", ["h2", "h2c"], indirect=True)


class Program:
    """The server process, and how much memory it takes."""

    def __init__(self, runtime: str, wire: Wire, credentials: Credentials) -> None:
        self.wire: Wire = wire
        self._tls = credentials.client
        cert, key = str(credentials.cert), str(credentials.key)
        module = "tests.support.streaming_server"
        self._process = Child(
            [sys.executable, "-m", module, runtime, wire, cert, key],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline()
        assert port, self._process.error_text
        self.address = ("127.0.0.1", int(port))
        with self.connect() as connection:  # it serves: signals are handled
            assert connection.request("GET", "/").status == 404
        self._process.allow(NEVER)  # for as long as the client waits

    def connect(self) -> PeerConnection:
        return connect(self.address, self.wire, self._tls)

    def resident(self, what: str = "VmRSS") -> int:
        """Return the bytes in memory: now, or ``VmHWM``, the most since ``forget``."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(rf"^{what}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def stop(self) -> None:
        with self._process:
            self._process.allow(TIMEOUT)
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait() == 0


@pytest.fixture(params=["asyncio", "trio"])
def program(
    request: pytest.FixtureRequest, wire: Wire, credentials: Credentials
) -> Iterator[Program]:
    if request.param == "trio":
        pytest.importorskip("trio")
    program = Program(request.param, wire, credentials)
    yield program
    program.stop()


def upload(
    connection: PeerConnection,
    path: str,
    size: int,
    head: bytes = b"",
    tail: bytes = b"",
    kind: str = "application/octet-stream",
) -> bytes:
    """Send a body of ``size`` bytes between ``head`` and ``tail``."""
    length = str(len(head) + size + len(tail))
    fields = [("content-type", kind), ("content-length", length)]
    send: Callable[[bytes], None]
    if isinstance(connection, H2Connection):
        stream = connection.open([*connection.pseudo_headers("POST", path), *fields])
        send = stream.send
    else:
        connection.send_raw(connection.head("POST", path, fields))
        send = connection.send_raw
    send(head)
    piece = b"x" * PIECE
    for at in range(0, size, PIECE):
        send(piece[: size - at])
        if isinstance(connection, H2Connection):
            connection.frames.clear()
    send(tail)
    if isinstance(connection, H2Connection):
        stream.send(b"", end=True)
        return stream.read_response().body
    return connection.read_response().body


def download(connection: PeerConnection, size: int) -> int:
    """Return how many bytes came of ``size``."""
    pending = connection.send_request("GET", f"/download?size={size}")
    received = 0
    if isinstance(pending, H1Connection):
        pending.read_response(body=False)
        while chunk := pending.read_chunk():
            received += len(chunk)
        assert pending.read_exactly(2) == b"\r\n"  # RFC 9112 §7.1: no trailers
        return received
    while chunk := pending.receive():
        received += len(chunk)
        pending.connection.frames.clear()
    return received


@pytest.mark.parametrize("wire", ["h1", "h1s", "h2"], indirect=True)
@pytest.mark.parametrize("size", SIZES)
class TestMemory:
    def test_an_upload_takes_no_memory(self, program: Program, size: int) -> None:
        with program.connect() as connection:
            assert upload(connection, "/upload", MIB) == b"%d" % MIB
            program.forget_peak()
            before = program.resident()
            assert upload(connection, "/upload", size) == b"%d" % size
            assert program.resident("VmHWM") - before < GROWTH

    def test_a_file_in_a_form_takes_no_memory(
        self, program: Program, size: int
    ) -> None:
        pytest.importorskip("multipart")
        kind = "multipart/form-data; boundary=frontier"
        head = b'--frontier\r\nContent-Disposition: form-data; name="f"\r\n\r\n'
        tail = b"\r\n--frontier--\r\n"
        with program.connect() as connection:
            assert upload(connection, "/form", MIB, head, tail, kind) == b"%d" % MIB
            program.forget_peak()
            before = program.resident()
            sent = upload(connection, "/form", size, head, tail, kind)
            assert sent == b"%d" % size
            assert program.resident("VmHWM") - before < GROWTH

    def test_a_download_takes_no_memory(self, program: Program, size: int) -> None:
        with program.connect() as connection:
            assert download(connection, MIB) == MIB
            program.forget_peak()
            before = program.resident()
            assert download(connection, size) == size
            assert program.resident("VmHWM") - before < GROWTH


class Producer:
    """A response body that reports each chunk it is asked for, and its end."""

    def __init__(self, gate: Gate | None = None, *, pieces: int = 1 << 20) -> None:
        self.progress = Reports()
        self.ended = Reports()
        self._gate = gate
        self._pieces = pieces

    def router(self) -> Router:
        router = Router()
        router.get("/", lambda: Response(body=self.body()))
        router.get("/hello", lambda: "hello")
        return router

    async def body(self) -> AsyncIterator[bytes]:
        try:
            for number in range(self._pieces):
                self.progress.put(number)
                yield b"x" * PIECE
                if self._gate is not None:
                    await self._gate.wait()
        finally:
            self.ended.put("ended")

    def wait_standstill(self) -> int:
        """Return the last chunk that was asked for."""
        last: int = self.progress.get()
        while True:
            try:
                last = self.progress.get(timeout=PAUSE)
            except TimeoutError:
                return last

    def assert_ends_with(self, leave: Callable[[], None]) -> None:
        assert self.ended.empty
        leave()
        self.ended.get()


def leaving(connection: PeerConnection, how: str) -> Callable[[], None]:
    return connection.abort if how == "reset" else connection.close


LEAVES = pytest.mark.parametrize("how", ["reset", "close"])


class TestDownloads:
    def test_a_slow_reader_suspends_the_producer(self, tako_serve: Serve) -> None:
        producer = Producer(pieces=512)
        with tako_serve(producer.router(), config=UNHURRIED).connection(
            receive_buffer=PIECE
        ) as connection:
            pending = connection.send_request("GET", "/")
            stalled = producer.wait_standstill()
            assert 0 <= stalled < 256
            assert producer.ended.empty
            assert len(pending.read_response().body) == 512 * PIECE
            producer.ended.get()

    @LEAVES
    def test_a_producer_that_waits_for_its_reader_ends_with_the_connection(
        self, tako_serve: Serve, how: str
    ) -> None:
        producer = Producer()
        with tako_serve(producer.router(), config=UNHURRIED).connection(
            receive_buffer=PIECE
        ) as connection:
            connection.send_request("GET", "/")
            producer.wait_standstill()
            producer.assert_ends_with(leaving(connection, how))

    @LEAVES
    def test_a_producer_that_waits_for_its_source_ends_with_the_connection(
        self, tako_serve: Serve, how: str
    ) -> None:
        producer = Producer(Gate())
        with tako_serve(producer.router(), config=UNHURRIED).connection() as connection:
            connection.send_request("GET", "/")
            assert producer.wait_standstill() == 0
            producer.assert_ends_with(leaving(connection, how))

    @H2_ONLY
    @pytest.mark.parametrize("gate", [None, Gate()], ids=["reader", "source"])
    def test_a_producer_ends_with_its_stream_and_the_connection_goes_on(
        self, tako_serve: Serve, gate: Gate | None
    ) -> None:
        producer = Producer(gate)
        with h2_of(
            tako_serve(producer.router(), config=UNHURRIED), stream_window=PIECE
        ) as connection:
            stream = connection.send_request("GET", "/")
            producer.wait_standstill()
            producer.assert_ends_with(stream.reset)
            assert connection.request("GET", "/hello").body == b"hello"

    def test_a_producer_that_never_waits_lets_others_run(
        self, tako_serve: Serve
    ) -> None:
        producer = Producer()
        server = tako_serve(producer.router(), config=UNHURRIED)
        with server.connection() as greedy, server.connection() as other:
            pending = greedy.send_request("GET", "/")
            for _ in range(3):
                assert other.request("GET", "/hello").body == b"hello"
                if isinstance(pending, H2Stream):
                    pending.receive()
                else:
                    pending.read_response(body=False)
                    break
            producer.assert_ends_with(greedy.abort)


class TestUploads:
    @LEAVES
    def test_a_handler_is_told_that_the_rest_will_not_come(
        self, tako_serve: Serve, how: str
    ) -> None:
        reports, router = Reports(), Router()

        async def upload(request: Request) -> str:
            size = 0
            try:
                async for chunk in request.stream():
                    size += len(chunk)
                    reports.put(size)
            except tako.TakoError as error:
                reports.put(type(error))
                raise
            finally:
                reports.put("left")
            return "complete"

        router.post("/", upload)
        with tako_serve(router, config=UNHURRIED).connection() as connection:
            fields = [("content-length", "1000")]
            if isinstance(connection, H2Connection):
                stream = connection.open(
                    [*connection.pseudo_headers("POST", "/"), *fields]
                )
                stream.send(b"x" * 10)
            else:
                connection.send_raw(connection.head("POST", "/", fields) + b"x" * 10)
            assert reports.get() == 10
            leaving(connection, how)()
            end = reports.get()
            if isinstance(end, type):
                assert issubclass(end, tako.Disconnected | tako.RemoteProtocolError)
                end = reports.get()
            assert end == "left"
