"""``H2Client``: extended CONNECT from the client's side; and hostile servers."""

import hpack
import pytest

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.seams import NotOpened, Tunnel
from tako.core.shared_frame import SharedFrame
from tako.errors import Disconnected
from tako.h2.client import H2Client
from tako.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    goaway,
    rst_stream,
    window_update,
)
from tako.http.answer import HandshakeResponse
from tako.http.headers import RawHeader
from tako.native.loops import encode_frame
from tests.sansio.http1.test_client import Sink
from tests.support.h2wire import SETTINGS_ACK, Frame, data, parse, settings
from tests.support.wire import FakeConnection


ASKED: list[RawHeader] = [
    (b":method", b"CONNECT"),
    (b":protocol", b"websocket"),
    (b":scheme", b"https"),
    (b":authority", b"a.test"),
    (b":path", b"/ws"),
    (b"sec-websocket-version", b"13"),
]
TUNNELS = settings((8, 1))
LARGEST = 65_550  # bytes of a frame: 64 KiB and the head of a WebSocket frame


class Opener:
    """Keeps what it is told, and attaches a sink to a tunnel."""

    def __init__(self, *, attach: bool = True) -> None:
        self.answers: list[tuple[HandshakeResponse, Tunnel | None]] = []
        self.failures: list[tuple[NotOpened, str]] = []
        self.sink = Sink()
        self.attach = attach

    def answered(self, response: HandshakeResponse, tunnel: Tunnel | None) -> None:
        self.answers.append((response, tunnel))
        if tunnel is not None:
            if self.attach:
                tunnel.receive_into(self.sink)
            else:
                tunnel.reset()

    def not_opened(self, why: NotOpened, text: str) -> None:
        self.failures.append((why, text))

    @property
    def tunnel(self) -> Tunnel:
        ((_, tunnel),) = self.answers
        assert tunnel is not None
        return tunnel

    def why(self) -> NotOpened:
        assert not self.answers
        ((why, text),) = self.failures
        assert text
        return why


class Server:
    """A client's engine, its connection, and the raw server at the other end."""

    def __init__(
        self, *, config: ServerConfig | None = None, greet: bool = True
    ) -> None:
        self.connection = FakeConnection(config)
        self.changes = 0
        self.engine = H2Client(self.connection, self.changed)
        self.connection.engine = self.engine
        self.encoder = hpack.Encoder()
        self.hello = self.connection.take()
        self.openers: list[Opener] = []
        if greet:
            self.send(TUNNELS, SETTINGS_ACK)
            self.frames()

    def changed(self) -> None:
        self.changes += 1

    def send(self, *pieces: bytes) -> None:
        self.engine.receive_data(b"".join(pieces))
        while self.engine.backlog:
            self.engine.receive_data(b"")

    def frames(self) -> list[Frame]:
        return parse(self.connection.take())

    def open(self, opener: Opener | None = None) -> Opener:
        opener = opener or Opener()
        self.openers.append(opener)
        self.engine.open(opener, ASKED)
        return opener

    def head(
        self, *fields: tuple[str, str], stream_id: int = 1, end: bool = False
    ) -> bytes:
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream_id, self.encoder.encode(fields))

    def tunnel(self) -> Opener:
        opener = self.open()
        self.send(self.head((":status", "200")))
        assert opener.answers
        self.frames()
        return opener

    def goaway_codes(self) -> list[int]:
        found = [each for each in self.frames() if each.kind == GOAWAY]
        assert all(each.payload[:4] == bytes(4) for each in found), "RFC 9113 6.8"
        return [each.number for each in found]


@pytest.fixture
def server() -> Server:
    return Server()


def test_the_preface_comes_first_and_says_what_a_client_may() -> None:
    server = Server(greet=False)
    assert server.hello.startswith(PREFACE)
    first, *others = parse(server.hello[len(PREFACE) :])
    assert first.kind == SETTINGS
    entries = {
        int.from_bytes(first.payload[at : at + 2]): first.payload[at + 2 : at + 6]
        for at in range(0, len(first.payload), 6)
    }
    assert entries[2] == bytes(4)  # no push
    assert int.from_bytes(entries[5]) == LARGEST
    assert 3 not in entries
    assert 8 not in entries
    assert [each.kind for each in others] == [WINDOW_UPDATE]


def test_connect_waits_for_the_servers_settings() -> None:
    server = Server(greet=False)
    assert server.engine.supported is None
    assert server.engine.room == 0
    server.send(TUNNELS)
    (ack,) = server.frames()
    assert (ack.kind, ack.flags) == (SETTINGS, ACK)
    assert server.changes == 1
    assert server.engine.supported
    assert server.engine.room == 100
    opener = server.open()
    (head,) = server.frames()
    assert (head.kind, head.flags, head.stream_id) == (HEADERS, END_HEADERS, 1)
    assert hpack.Decoder().decode(head.payload, raw=True) == ASKED
    assert not opener.answers


def test_a_server_without_tunnels_is_left() -> None:
    server = Server(greet=False)
    server.send(settings())
    assert server.engine.supported is False
    assert server.engine.room == 0
    assert server.changes == 1
    server.engine.shut_down()
    assert server.goaway_codes() == [0]
    assert server.engine.closing


def test_later_settings_do_not_take_the_permission_back(server: Server) -> None:
    server.send(settings((8, 0)))
    server.tunnel()


def test_200_opens_a_tunnel_and_interim_answers_are_skipped(server: Server) -> None:
    opener = server.open()
    server.send(
        server.head((":status", "103"), ("link", "x")),
        server.head((":status", "200"), ("x", "y"), ("sec-websocket-accept", "no")),
        data(1, b"early"),
    )
    ((response, _),) = opener.answers
    assert (response.status, response.http_version) == (200, "2")
    assert response.headers["x"] == "y"
    assert opener.sink.data == b"early"
    server.send(data(1, b" late"))
    assert opener.sink.data == b"early late"


def test_frames_of_every_size_are_masked(server: Server) -> None:
    tunnel = server.tunnel().tunnel
    server.send(window_update(0, 1 << 20), window_update(1, 1 << 20))
    for payload in ("hi", b"x" * 5000, "y" * 70_000):
        tunnel.send_frame(0x81, payload, soon=True)
        sent = b"".join(each.payload for each in server.frames())
        head = len(encode_frame(0x81, payload)) - len(payload)
        assert sent[1] & 0x80
        key, masked = sent[head : head + 4], sent[head + 4 :]
        plain = bytes(byte ^ key[at & 3] for at, byte in enumerate(masked))
        assert plain == (payload.encode() if isinstance(payload, str) else payload)


def test_a_shared_frame_is_masked_where_there_is_room(server: Server) -> None:
    tunnel = server.tunnel().tunnel
    shared = SharedFrame(0x81, b"hi")
    assert tunnel.send_shared(shared, True)
    (sent,) = server.frames()
    key, masked = sent.payload[2:6], sent.payload[6:]
    assert sent.payload[:2] == b"\x81\x82"
    assert bytes(a ^ b for a, b in zip(masked, key, strict=False)) == b"hi"
    assert not tunnel.send_frame(0x82, bytes(200_000), soon=True)
    assert not tunnel.send_shared(shared, True)


def test_a_shut_window_holds_what_is_sent(server: Server) -> None:
    tunnel = server.tunnel().tunnel
    assert not tunnel.send_frame(0x82, bytes(200_000), soon=True)
    assert sum(len(each.payload) for each in server.frames()) == 65_535
    server.send(window_update(0, 1 << 20), window_update(1, 1 << 20))
    assert sum(len(each.payload) for each in server.frames()) == 200_014 - 65_535
    assert tunnel.writable


def test_both_ends_end_the_stream_and_the_connection(server: Server) -> None:
    opener = server.tunnel()
    server.engine.shut_down(tunnels=False)
    server.send(data(1, b"bye", end=True))
    assert opener.sink.data == b"bye"
    assert opener.sink.ends == [None]
    opener.tunnel.send_data(b"", end=True)
    last, end = server.frames()
    assert (last.kind, last.flags) == (DATA, END_STREAM)
    assert (end.kind, end.payload) == (GOAWAY, bytes(8))
    assert server.engine.closing
    assert opener.tunnel.over


def test_several_sockets_share_a_connection(server: Server) -> None:
    first, second = server.open(), server.open()
    server.send(
        server.head((":status", "200")), server.head((":status", "200"), stream_id=3)
    )
    server.send(data(3, b"second"), data(1, b"first"))
    assert (first.sink.data, second.sink.data) == (b"first", b"second")
    first.tunnel.reset()
    assert [each.kind for each in server.frames()][-1] == RST_STREAM
    second.tunnel.reset()
    assert server.engine.room == 100
    assert not server.engine.closing
    server.engine.shut_down()
    assert server.engine.closing


@pytest.mark.parametrize("end", [False, True])
def test_a_refusal_comes_with_the_beginning_of_its_content(
    server: Server, end: bool
) -> None:
    opener = server.open()
    server.send(server.head((":status", "404"), ("x", "y"), end=end))
    if not end:
        assert not opener.answers
        server.send(data(1, b"not "), data(1, b"here", end=True))
    ((response, tunnel),) = opener.answers
    assert tunnel is None
    assert (response.status, response.body) == (404, b"" if end else b"not here")
    assert server.engine.room == 100
    assert server.goaway_codes() == []
    assert not server.engine.closing


def test_a_refusal_of_any_size_is_cut(server: Server) -> None:
    opener = server.open()
    server.send(server.head((":status", "500")), data(1, bytes(9000)))
    ((response, _),) = opener.answers
    assert response.body == bytes(4096)
    assert RST_STREAM in [each.kind for each in server.frames()]


@pytest.mark.parametrize(
    ("code", "why"),
    [
        (ErrorCode.REFUSED_STREAM, NotOpened.REFUSED),
        (ErrorCode.PROTOCOL_ERROR, NotOpened.RESET),
        (ErrorCode.INTERNAL_ERROR, NotOpened.RESET),
        (ErrorCode.HTTP_1_1_REQUIRED, NotOpened.RESET),
        (ErrorCode.CANCEL, NotOpened.CANCELLED),
        (0xBAD, NotOpened.CANCELLED),
    ],
)
def test_a_reset_before_the_answer(server: Server, code: int, why: NotOpened) -> None:
    opener = server.open()
    server.engine.shut_down(tunnels=False)
    server.send(rst_stream(1, code))
    assert opener.why() is why
    assert server.engine.closing


def test_goaway_ends_what_was_not_looked_at_and_nothing_else(server: Server) -> None:
    opened = server.tunnel()
    asked = server.open()
    server.send(goaway(1, 0))
    assert asked.why() is NotOpened.REFUSED
    assert not opened.sink.ends
    assert not server.engine.closing
    assert server.engine.leaving
    assert server.engine.room == 0
    server.send(data(1, b"on"))
    assert opened.sink.data == b"on"
    opened.tunnel.reset()
    assert server.engine.closing


def test_goaway_before_anything_is_asked(server: Server) -> None:
    server.send(goaway(0, 0))
    assert server.engine.end is not None
    why, text = server.engine.end
    assert why is NotOpened.REFUSED
    assert "NO_ERROR" in text
    assert server.engine.closing


@pytest.mark.parametrize("lost", [False, True])
def test_a_connection_that_ends(server: Server, lost: bool) -> None:
    opened, asked = server.tunnel(), server.open()
    server.engine.connection_lost() if lost else server.engine.receive_eof()
    assert asked.why() is NotOpened.LOST
    assert [type(end) for end in opened.sink.ends] == [Disconnected]
    server.engine.connection_lost()
    assert len(opened.sink.ends) == 1


def test_one_ping_asks_for_all_tunnels(server: Server) -> None:
    told: list[str] = []

    class Watched:
        def ask(self) -> None:
            raise AssertionError

        def lose(self) -> None:
            told.append("lose")

        def measured(self, seconds: float) -> None:
            told.append(f"{seconds:.1f}")

    assert not server.engine.peer_silent()
    opener = server.tunnel()
    opener.tunnel.watch(Watched())
    assert server.engine.peer_silent()
    (ping,) = server.frames()
    assert (ping.kind, ping.flags) == (PING, 0)
    server.connection.runtime.advance(0.2)
    server.send(frame(PING, ACK, 0, b"another."))
    server.send(frame(PING, ACK, 0, ping.payload) * 2)
    assert told == ["0.2"]
    server.engine.peer_dead()
    assert told == ["0.2", "lose"]
    assert [type(end) for end in opener.sink.ends] == [Disconnected]
    assert server.engine.closing


def test_settings_that_are_not_acknowledged() -> None:
    server = Server(greet=False)
    server.send(TUNNELS)
    opener = server.open()
    server.frames()
    server.connection.runtime.advance(10.1)
    assert opener.why() is NotOpened.INVALID
    assert server.goaway_codes() == [ErrorCode.SETTINGS_TIMEOUT]


def test_an_opener_may_decline(server: Server) -> None:
    opener = server.open(Opener(attach=False))
    server.send(server.head((":status", "200")))
    assert RST_STREAM in [each.kind for each in server.frames()]
    assert not opener.failures
    assert not server.engine.exchanges


def test_the_servers_limit_and_ours_count_together() -> None:
    server = Server(config=ServerConfig(h2_max_concurrent_streams=5))
    assert server.engine.room == 5
    server.send(settings((3, 2)))
    opened = [server.open(), server.open()]
    assert server.engine.room == 0
    server.send(settings((3, 1000)))
    assert server.engine.room == 3
    server.send(settings((3, 0)))
    assert server.engine.room == -2
    server.send(settings((4, 70_000)))
    assert server.engine.room == -2, "what is not named stays"
    assert not server.engine.closing
    assert not any(each.failures for each in opened)


def test_a_refusal_says_that_there_is_no_room_for_now(server: Server) -> None:
    opened = server.tunnel()
    for _ in range(2):
        refused = server.open()
        assert server.engine.room == 98
        last = server.frames()[-1].stream_id
        server.send(rst_stream(last, ErrorCode.REFUSED_STREAM))
        assert refused.why() is NotOpened.REFUSED
        assert server.engine.room == 0
        server.send(settings())
        assert server.engine.room == 99
    other = server.open()
    server.send(rst_stream(server.frames()[-1].stream_id, ErrorCode.REFUSED_STREAM))
    assert other.why() is NotOpened.REFUSED
    assert server.engine.room == 0
    opened.tunnel.reset()
    assert server.engine.room == 100


def test_a_server_that_refuses_the_only_stream_is_left(server: Server) -> None:
    refused = server.open()
    server.send(rst_stream(1, ErrorCode.REFUSED_STREAM))
    assert refused.why() is NotOpened.REFUSED
    assert server.goaway_codes() == [0]
    assert server.engine.closing


def test_a_tunnel_that_is_given_up_is_reset_and_leaves_room(server: Server) -> None:
    opener = Opener()
    stream = server.engine.open(opener, ASKED)
    stream.reset()
    head, reset = server.frames()
    assert (head.kind, reset.kind, reset.number) == (HEADERS, RST_STREAM, 8)
    assert opener.why() is NotOpened.CANCELLED
    assert not server.engine.exchanges
    assert server.engine.room == 100
    server.send(server.head((":status", "200")))  # which had been on its way
    assert not server.engine.closing
    assert server.open().failures == []


def test_the_last_stream_id_is_the_last(server: Server) -> None:
    server.engine._last_id = 2**31 - 3
    server.open()
    assert server.frames()[0].stream_id == 2**31 - 1
    assert server.engine.leaving
    assert server.engine.room == 0


@pytest.mark.parametrize("answers", [False, True])
def test_a_server_that_is_doubted_has_to_answer_a_ping(
    server: Server, answers: bool
) -> None:
    opened = server.tunnel()
    server.engine.doubt()
    (ping,) = server.frames()
    assert (ping.kind, ping.flags) == (PING, 0)
    changes = server.changes
    server.connection.runtime.advance(1.9)
    assert server.engine.room == 99
    if answers:
        server.send(frame(PING, ACK, 0, ping.payload))
    server.connection.runtime.advance(0.2)
    assert server.engine.leaving is not answers
    assert (server.changes > changes) is not answers
    assert not opened.sink.ends
    assert not server.engine.closing


def test_tunnels_are_closed_before_the_connection(server: Server) -> None:
    opened = server.tunnel()
    server.engine.shut_down()
    assert opened.sink.ends == [None]  # told to close
    assert server.goaway_codes() == []
    opened.tunnel.send_data(b"", end=True)
    server.send(data(1, end=True))
    assert server.goaway_codes() == [0]
    assert server.engine.closing


@pytest.mark.parametrize("size", [LARGEST + 9, 9000])
def test_a_message_of_64_kib_may_come_in_one_frame(server: Server, size: int) -> None:
    opener = server.tunnel()
    sent = data(1, bytes(range(256)) * 256 + bytes(LARGEST - 65_536))
    for at in range(0, len(sent), size):
        server.send(sent[at : at + size])
    assert opener.sink.data == sent[9:]
    assert server.engine.end is None


class TestHostileServers:
    """Each costs the client its own socket: an error with a name, bounded memory."""

    @pytest.mark.parametrize(
        ("fields", "end"),
        [
            ((), False),
            ((("x", "y"),), False),
            (((":status", "20"),), False),
            (((":status", "200"), (":status", "200")), False),
            ((("x", "y"), (":status", "200")), False),
            (((":status", "200"), (":path", "/")), False),
            (((":status", "200"), ("Upper", "x")), False),
            (((":status", "200"), ("connection", "close")), False),
            (((":status", "101"),), False),
            (((":status", "103"),), True),
            (((":status", "200"),), True),
        ],
    )
    def test_malformed_answers(
        self, server: Server, fields: tuple[tuple[str, str], ...], end: bool
    ) -> None:
        opener = server.open()
        server.send(server.head(*fields, end=end))
        assert opener.why() is NotOpened.INVALID
        resets = [each for each in server.frames() if each.kind == RST_STREAM]
        assert [each.number for each in resets] == [ErrorCode.PROTOCOL_ERROR]

    def test_too_many_fields(self, server: Server) -> None:
        opener = server.open()
        server.send(server.head((":status", "200"), *[("x", "y")] * 101))
        assert opener.why() is NotOpened.INVALID

    def test_endless_interim_answers(self, server: Server) -> None:
        opener = server.open()
        server.send(*[server.head((":status", "103")) for _ in range(17)])
        assert opener.why() is NotOpened.INVALID

    def test_data_before_the_answer(self, server: Server) -> None:
        opener = server.open()
        server.send(data(1, b"x"))
        assert opener.why() is NotOpened.INVALID

    def test_the_end_before_the_answer(self, server: Server) -> None:
        opener = server.open()
        server.send(data(1, end=True))
        assert opener.why() is NotOpened.INVALID

    def test_trailers_on_a_tunnel(self, server: Server) -> None:
        opener = server.tunnel()
        server.send(server.head(("x", "y"), end=True))
        assert [type(end) for end in opener.sink.ends] == [Disconnected]

    @pytest.mark.parametrize(
        ("wire", "code"),
        [
            (settings((2, 1)), ErrorCode.PROTOCOL_ERROR),
            (settings((5, 1)), ErrorCode.PROTOCOL_ERROR),
            (frame(PUSH_PROMISE, END_HEADERS, 1, bytes(4)), ErrorCode.PROTOCOL_ERROR),
            (frame(HEADERS, END_HEADERS, 2, b"\x88"), ErrorCode.PROTOCOL_ERROR),
            (frame(HEADERS, END_HEADERS, 3, b"\x88"), ErrorCode.PROTOCOL_ERROR),
            (data(5, b"x"), ErrorCode.PROTOCOL_ERROR),
            (b"\xff\xff\xff\0\0\0\0\0\1", ErrorCode.FRAME_SIZE_ERROR),
            (frame(HEADERS, END_HEADERS, 1, b"\xff" * 9), ErrorCode.COMPRESSION_ERROR),
            (settings() * 200, ErrorCode.ENHANCE_YOUR_CALM),
            (frame(PING, 0, 0, bytes(8)) * 1500, ErrorCode.ENHANCE_YOUR_CALM),
            (window_update(1, 1) * 200, ErrorCode.ENHANCE_YOUR_CALM),
            (
                frame(HEADERS, 0, 1) + frame(CONTINUATION, 0, 1, b"x") * 99,
                ErrorCode.ENHANCE_YOUR_CALM,
            ),
        ],
    )
    def test_what_breaks_the_connection(
        self, server: Server, wire: bytes, code: ErrorCode
    ) -> None:
        opener = server.open()
        server.frames()
        server.send(wire)
        assert opener.why() is NotOpened.INVALID
        assert code.name in opener.failures[0][1]
        assert server.goaway_codes() == [code]
        assert server.engine.closing

    def test_what_is_no_preface(self) -> None:
        server = Server(greet=False)
        server.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        assert server.engine.end is not None
        assert server.engine.end[0] is NotOpened.INVALID
        assert server.changes
        assert server.engine.closing

    @pytest.mark.parametrize("kind", [DATA, HEADERS, SETTINGS, 0x77])
    def test_a_frame_larger_than_we_allow_fails_before_its_payload_comes(
        self, server: Server, kind: int
    ) -> None:
        opener = server.tunnel()
        stream_id = 0 if kind == SETTINGS else 1
        server.send(frame(kind, 0, stream_id, bytes(LARGEST + 1))[:9])
        assert server.goaway_codes() == [ErrorCode.FRAME_SIZE_ERROR]  # RFC 9113 §4.2
        assert not opener.sink.data

    def test_more_than_the_window_on_a_tunnel(self, server: Server) -> None:
        opener = server.tunnel()
        window = server.connection.config.h2_initial_window_size
        pieces = [data(1, bytes(16_384)) for _ in range(window // 16_384 + 1)]
        server.send(*pieces)
        assert len(opener.sink.data) <= window
        assert [type(end) for end in opener.sink.ends] == [Disconnected]
