"""``H1Client``: one request, one answer, a tunnel; and servers that mean no good."""

import tracemalloc

import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.seams import NotOpened, Tunnel
from tako.core.shared_frame import SharedFrame
from tako.errors import Disconnected
from tako.h1.client import ClientPhase, H1Client
from tako.http.answer import HandshakeResponse
from tests.support.wire import FakeConnection


HEAD = b"GET /ws HTTP/1.1\r\nhost: a\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nx: y\r\n\r\n"


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.data = b""
        self.ends: list[Exception | None] = []
        self.wakes = 0

    def deliver(self, data: bytes) -> None:
        self.data += data

    def deliver_eof(self, error: Exception | None = None) -> None:
        self.ends.append(error)

    def wake_writer(self) -> None:
        self.wakes += 1

    def shut_down(self) -> None:
        self.ends.append(None)


class Server:
    """A client's engine, its connection, and the raw server at the other end."""

    def __init__(
        self, *, attach: bool = True, config: ServerConfig | None = None
    ) -> None:
        self.connection = FakeConnection(config)
        self.answers: list[tuple[HandshakeResponse, Tunnel | None]] = []
        self.failures: list[tuple[NotOpened, str]] = []
        self.sink = Sink()
        self.attach = attach
        self.engine = H1Client(self.connection)
        self.connection.engine = self.engine
        self.engine.open(self, HEAD)
        assert self.connection.take() == HEAD

    def answered(self, response: HandshakeResponse, tunnel: Tunnel | None) -> None:
        self.answers.append((response, tunnel))
        if tunnel is not None:
            if self.attach:
                tunnel.receive_into(self.sink)
            else:
                tunnel.reset()

    def not_opened(self, why: NotOpened, text: str) -> None:
        self.failures.append((why, text))

    def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.engine.receive_data(piece)

    @property
    def tunnel(self) -> Tunnel:
        ((_, tunnel),) = self.answers
        assert tunnel is not None
        return tunnel

    def failed(self) -> str:
        """Return the text of the one failure there is, of a broken rule."""
        ((why, text),) = self.failures
        assert why is NotOpened.INVALID
        assert not self.answers
        assert self.engine.closing
        self.send(SWITCH, b"x" * 1000)  # nobody listens any more
        assert len(self.failures) == 1
        assert not self.answers
        return text


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_101_opens_a_tunnel_and_what_follows_is_its_own(
    server: Server, step: int
) -> None:
    wire = SWITCH + b"early bytes"
    server.send(*[wire[at : at + step] for at in range(0, len(wire), step)])
    ((response, _),) = server.answers
    assert (response.status, response.http_version) == (101, "1.1")
    assert response.headers["x"] == "y"
    assert server.sink.data == b"early bytes"
    assert server.engine.phase is ClientPhase.TUNNEL


def test_a_tunnel_masks_what_is_sent_as_frames(server: Server) -> None:
    server.send(SWITCH)
    assert server.tunnel.send_frame(0x81, "hi", soon=False)
    frame = server.connection.take()
    assert frame[:2] == b"\x81\x82"
    assert bytes(a ^ b for a, b in zip(frame[6:], frame[2:6], strict=False)) == b"hi"
    server.tunnel.send_data(b"raw")
    assert server.connection.take() == b"raw"


def test_a_shared_frame_is_masked_where_there_is_room(server: Server) -> None:
    server.send(SWITCH)
    shared = SharedFrame(0x81, b"hi")
    assert server.tunnel.send_shared(shared, False)
    frame = server.connection.take()
    assert frame[:2] == b"\x81\x82"
    assert bytes(a ^ b for a, b in zip(frame[6:], frame[2:6], strict=False)) == b"hi"
    server.connection.writable = False
    assert not server.tunnel.send_shared(shared, True)
    assert server.connection.take() == b""


def test_the_end_of_a_tunnel_ends_the_connection(server: Server) -> None:
    server.send(SWITCH)
    server.engine.receive_eof()
    assert server.sink.ends == [None]
    server.tunnel.send_data(b"bye", end=True)
    assert server.connection.take() == b"bye"
    assert server.engine.closing
    assert server.tunnel.over
    server.tunnel.send_data(b"more")
    assert server.tunnel.send_frame(0x81, "more", soon=True)
    assert server.connection.take() == b""


def test_a_lost_connection_ends_the_tunnel(server: Server) -> None:
    server.send(SWITCH)
    tunnel = server.tunnel
    server.engine.connection_lost()
    assert [type(end) for end in server.sink.ends] == [Disconnected]
    assert tunnel.over
    late = Sink()
    tunnel.receive_into(late)
    assert [type(end) for end in late.ends] == [Disconnected]


def test_a_reset_aborts_and_an_orderly_end_does_not(server: Server) -> None:
    server.send(SWITCH)
    server.tunnel.reset(ErrorCode.NO_ERROR)
    assert server.engine.closing
    assert not server.connection.aborted
    other = Server(attach=False)
    other.send(SWITCH + b"data")
    assert other.connection.aborted
    assert other.sink.data == b""


def test_an_unread_tunnel_stops_the_reading(server: Server) -> None:
    server.send(SWITCH)
    limit = server.connection.config.read_buffer
    server.send(*[bytes(16_384)] * (limit // 16_384 + 2))
    assert not server.connection.reading
    server.tunnel.consumed(len(server.sink.data))
    assert server.connection.reading


@pytest.mark.parametrize(
    ("head", "content", "body"),
    [
        (b"content-length: 5\r\n", b"hello behind", b"hello"),
        (
            b"transfer-encoding: chunked\r\n",
            b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
            b"hello",
        ),
        (b"transfer-encoding: chunked\r\n", b"3\r\nhel\r\nxx\r\n", b""),
        (b"content-length: 0\r\n", b"", b""),
        (b"content-length: 100000\r\n", b"x" * 5000, b"x" * 4096),
        (b"", b"x" * 5000, b"x" * 4096),
    ],
)
def test_a_refusal_comes_with_the_beginning_of_its_content(
    server: Server, head: bytes, content: bytes, body: bytes
) -> None:
    server.send(b"HTTP/1.1 404 Not Found\r\n" + head + b"\r\n" + content)
    ((response, tunnel),) = server.answers
    assert tunnel is None
    assert (response.status, response.body) == (404, body)
    assert server.engine.closing
    assert not server.failures


@pytest.mark.parametrize("end", ["eof", "lost", "time"])
def test_a_refusal_without_its_end_is_one(server: Server, end: str) -> None:
    server.send(b"HTTP/1.1 503 Busy\r\ncontent-length: 50\r\n\r\n", b"later")
    assert not server.answers
    if end == "eof":
        server.engine.receive_eof()
    elif end == "lost":
        server.engine.connection_lost()
    else:
        server.connection.runtime.advance(1.1)
    ((response, _),) = server.answers
    assert (response.status, response.body) == (503, b"later")
    server.engine.connection_lost() if end != "lost" else None
    assert len(server.answers) == 1
    assert not server.failures


def test_interim_answers_are_skipped(server: Server) -> None:
    server.send(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 3 + SWITCH)
    assert [response.status for response, _ in server.answers] == [101]


class TestHostileServers:
    def test_endless_interim_answers(self, server: Server) -> None:
        server.send(b"HTTP/1.1 100 Continue\r\n\r\n" * 17)
        assert server.failed() == "there are too many interim answers"

    def test_interim_answers_of_any_size(self, server: Server) -> None:
        hint = b"HTTP/1.1 103 x\r\nlink: " + b"x" * 9000 + b"\r\n\r\n"
        server.send(*[hint] * 8)
        assert server.failed() == "the head of the answer is too large"

    @pytest.mark.parametrize("piece", [b"x: y\r\n", b"x" * 1000])
    def test_a_head_without_an_end(self, server: Server, piece: bytes) -> None:
        server.send(b"HTTP/1.1 101 x\r\nx: ")
        tracemalloc.start()
        for _ in range(200_000 // len(piece)):
            server.send(piece)
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert server.failed() == "the head of the answer is too large"
        assert held < 100_000

    def test_too_many_fields(self, server: Server) -> None:
        server.send(b"HTTP/1.1 101 x\r\n" + b"x: y\r\n" * 101 + b"\r\n")
        assert server.failed() == "the fields of the answer are malformed"

    @pytest.mark.parametrize(
        "fields", [b"no colon\r\n", b"a b: c\r\n", b"a: b\x00c\r\n", b" folded\r\n"]
    )
    def test_fields_that_are_none(self, server: Server, fields: bytes) -> None:
        server.send(b"HTTP/1.1 101 x\r\n" + fields + b"\r\n")
        assert server.failed() == "the fields of the answer are malformed"

    @pytest.mark.parametrize(
        "line",
        [
            b"HTTP/2 101 x",
            b"HTTP/1.1 1 x",
            b"HTTP/1.1 abc x",
            b"HTTP/1.1  101 x",
            b"HTTP/1.1 099 x",
            b"hello",
            b"\x81\x05hello",
        ],
    )
    def test_a_status_line_that_is_none(self, server: Server, line: bytes) -> None:
        server.send(line + b"\r\n\r\n")
        assert server.failed() == "the answer is not HTTP/1.1"

    def test_what_is_not_http_at_once(self, server: Server) -> None:
        server.send(b"SSH-2.0")
        assert server.failed() == "the answer is not HTTP/1.1"

    def test_101_in_http_1_0(self, server: Server) -> None:
        server.send(SWITCH.replace(b"1.1", b"1.0", 1))
        assert server.failed() == "101 comes in HTTP/1.0"


@pytest.mark.parametrize(
    "sent", [b"", b"HTTP/1.1 101 x\r\n", b"HTTP/1.1 100 x\r\n\r\n"]
)
@pytest.mark.parametrize("lost", [False, True])
def test_a_connection_that_ends_before_the_answer(
    server: Server, sent: bytes, lost: bool
) -> None:
    server.send(sent)
    server.engine.connection_lost() if lost else server.engine.receive_eof()
    server.engine.connection_lost()
    ((why, _),) = server.failures
    assert why is NotOpened.LOST
    assert not server.answers


def test_a_watched_tunnel_is_asked_and_given_up(server: Server) -> None:
    told: list[str] = []

    class Watched:
        def ask(self) -> None:
            told.append("ask")

        def lose(self) -> None:
            told.append("lose")

        def measured(self, seconds: float) -> None:
            raise AssertionError

    assert not server.engine.peer_silent()
    server.send(SWITCH)
    server.tunnel.watch(Watched())
    assert server.engine.peer_silent()
    server.engine.peer_dead()
    assert told == ["ask", "lose"]


def test_what_comes_before_the_request_ends_the_connection() -> None:
    connection = FakeConnection()
    engine = connection.engine = H1Client(connection)
    engine.receive_data(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
    assert engine.closing
    assert connection.take() == b""
