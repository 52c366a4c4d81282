"""Input that is cut into turns means what it means at once: nothing lost or moved.

A connection gets the same bytes twice, in the same reads: once with all the time of the
world, once with a budget that is used up almost at once. What handlers and sessions see
must be the same, and how the connection ends.
"""

import contextlib
import ssl
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import hpack
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from tako import Deflate, Message, Request, Router, TakoWs, WebSocket
from tako.config import ServerConfig
from tako.core import turn
from tako.core.seams import Exchange
from tako.errors import TakoError
from tako.h2.frames import PADDED, PREFACE, frame
from tako.http.conn_info import IpPeer
from tako.server.engines import ENGINES
from tako.server.pipeline import run_exchange
from tako.tcp.connection import TcpConnection
from tako.testing.peer.websocket import encode_frame
from tako.tls.certificates import TlsCert, TlsSettings
from tests.support.h2wire import CONNECT, POST, data as data_frame
from tests.support.server import Credentials
from tests.support.wire import FakeRuntime, FakeTransport


if TYPE_CHECKING:
    from collections.abc import Callable


pytestmark = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
    b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"sec-websocket-extensions: permessage-deflate; client_no_context_takeover\r\n\r\n"
)
EXTENSION = (
    "sec-websocket-extensions",
    "permessage-deflate; client_no_context_takeover",
)


class Budget(NamedTuple):
    units: int
    step: int
    spell: float


ENDLESS = Budget(256, 64, 1e9)
budgets = st.builds(
    Budget, st.sampled_from([1, 9, 60, 300]), st.sampled_from([1, 40]), st.just(-1.0)
)


class Run:
    """One connection and what came of it."""

    def __init__(self, settings_: TlsSettings | None, wire: str) -> None:
        self.seen: list[Any] = []
        self._router = Router()
        self._router.get("/ws", self._ws)
        self._router.fallback(self._body)
        self.runtime = FakeRuntime()
        self.transport = FakeTransport()
        self.connection = TcpConnection(
            self.runtime,
            ServerConfig(),
            self._handle,
            engines=ENGINES,
            protocol="tls" if settings_ else "h2" if wire == "h2" else "http/1.1",
            tls=settings_,
            peer=IpPeer("127.0.0.1", 50000),
            local=IpPeer("127.0.0.1", 443),
            on_lost=lambda _: None,
        )
        self.connection.connection_made(self.transport)
        self.seal: Callable[[bytes], bytes] = bytes
        self.goodbye = b""
        if settings_ is not None:
            self._shake_hands(wire)

    def _shake_hands(self, wire: str) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2" if wire == "h2" else "http/1.1"])
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
        for _ in range(3):
            try:
                client.do_handshake()
            except ssl.SSLWantReadError:
                self.connection.data_received(outgoing.read())
                incoming.write(self.transport.take())

        def seal(plain: bytes) -> bytes:
            if plain:
                client.write(plain)
            return outgoing.read()

        self.seal = seal
        self.close_notify = client.unwrap

    def say_goodbye(self) -> bytes:
        """Return a close_notify."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.close_notify()
        return self.seal(b"")

    async def _handle(self, exchange: Exchange) -> None:
        await run_exchange(self._router.dispatch, exchange)

    async def _ws(self, request: Request) -> TakoWs:
        return TakoWs(request, self._session, compression=Deflate())

    async def _body(self, request: Request) -> str:
        body = None if request.path == "/unread" else await request.body()
        self.seen.append((request.path, body))
        return "x"

    async def _session(self, ws: WebSocket) -> None:
        messages: list[object] = []
        try:
            while True:
                message = await ws.read()
                if not isinstance(message, (Message.Ping, Message.Pong)):
                    messages.append(message)
        except TakoError as error:
            self.seen.append((messages, type(error), ws.close_code))
            raise

    def feed(self, reads: list[bytes], *, fin: bool = False) -> None:
        """Deliver the reads as a transport would, then perhaps FIN."""
        for read in reads:
            self._settle()
            if self.transport.aborted or not self.transport.reading:
                return
            self.connection.data_received(read)
        # some loops say so at once, although reading is paused
        if fin and not self.connection.eof_received():
            self.transport.close()
        self._settle()

    def _settle(self) -> None:
        self.runtime.advance(0)


# -- What is sent ------------------------------------------------------------------


def compressed(text: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-15)
    return (squeeze.compress(text) + squeeze.flush(zlib.Z_SYNC_FLUSH))[:-4]


texts = st.binary(max_size=30) | st.sampled_from([bytes(5000), bytes(200_000)])
fragmented = st.lists(st.binary(max_size=3), min_size=1, max_size=150).map(
    lambda parts: b"".join(
        encode_frame(0 if at else 2, part, fin=at == len(parts) - 1)
        for at, part in enumerate(parts)
    )
)
ws_pieces = st.one_of(
    texts.map(lambda text: encode_frame(2, text)),
    st.integers(1, 120).map(lambda n: encode_frame(1, b"hi") * n),
    texts.map(lambda text: encode_frame(2, compressed(text), rsv=4)),
    st.integers(1, 60).map(lambda n: encode_frame(2, compressed(b"aa"), rsv=4) * n),
    fragmented,
    st.integers(1, 60).map(lambda n: encode_frame(9, b"ping") * n),
    st.sampled_from([encode_frame(8, b"\x03\xe8"), encode_frame(3, b"reserved")]),
)
sockets = st.lists(ws_pieces, max_size=6).map(b"".join)

chunks = st.integers(1, 300).map(lambda n: b"1\r\nx\r\n" * n) | st.binary(
    min_size=1, max_size=40
).map(lambda part: b"%x;e=1\r\n%b\r\n" % (len(part), part))
# A handler may have answered before a fault in what it does not read is found.
chunked = st.tuples(
    st.just(b"/unread"), st.lists(chunks, max_size=4).map(b"".join)
) | st.tuples(
    st.just(b"/c"), st.lists(chunks | st.just(b"zz\r\n"), max_size=4).map(b"".join)
)
trailers = st.integers(0, 5).map(lambda n: b"x-trailer: t\r\n" * n)
h1_requests = st.one_of(
    st.just(b"GET /get HTTP/1.1\r\nhost: a\r\n\r\n"),
    st.integers(1, 40).map(lambda n: b"\r\n" * n),
    st.binary(max_size=99).map(
        lambda body: (
            b"POST /l HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
    ),
    st.builds(
        lambda request, fields: (
            b"POST %b HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n%b"
            b"0\r\n%b\r\n" % (*request, fields)
        ),
        chunked,
        trailers,
    ),
)
# What opens a tunnel comes first: it is up to a handler to accept it in time.
h1_inputs = st.tuples(
    st.just(b""), st.lists(h1_requests, max_size=5).map(b"".join)
) | st.tuples(st.just(UPGRADE), sockets)


@st.composite
def h2_inputs(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """A connection with the frames of bodies and tunnels shuffled together."""
    encoder = hpack.Encoder()
    opening = [PREFACE, frame(4, 0, 0)]
    lanes: list[list[bytes]] = []
    for stream_id in range(1, 2 * draw(st.integers(1, 5)) + 1, 2):
        tunnel = draw(st.booleans())
        fields = [*CONNECT, EXTENSION] if tunnel else POST
        content = draw(sockets if tunnel else st.binary(max_size=300))[:60_000]
        size = draw(st.sampled_from([1, 40, 9000]))
        size = max(size, len(content) // 200)
        frames = [
            data_frame(stream_id, content[at : at + size])
            for at in range(0, len(content), size)
        ]
        if draw(st.booleans()):
            frames.insert(0, frame(0, PADDED, stream_id, b"\x05" + bytes(5)))
        if draw(st.booleans()):
            frames.append(data_frame(stream_id, b"", end=True))
        opening.append(frame(1, 4, stream_id, encoder.encode(fields)))
        lanes.append(frames)
    out: list[bytes] = []
    random = draw(st.randoms(use_true_random=False))
    while lanes := [lane for lane in lanes if lane]:
        out.append(random.choice(lanes).pop(0))
        if random.random() < 0.05:
            out.append(frame(6, 0, 0, b"12345678"))
    return b"".join(opening), b"".join(out)


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [piece for piece in [*pieces, data] if piece]


ends = st.sampled_from(["open", "fin", "notify"])
sizes = st.lists(st.integers(1, 400) | st.integers(1, 30_000), max_size=4)


@pytest.fixture(scope="module")
def certificate(credentials: Credentials) -> TlsSettings:
    cert, key = Path(credentials.cert), Path(credentials.key)
    return TlsSettings(TlsCert.pem_paths(cert, key), ("h2", "http/1.1"))


def seen(
    settings_: TlsSettings | None,
    wire: str,
    plain: tuple[bytes, list[bytes]],
    reads: list[int],
    end: str,
    budget: Budget,
) -> object:
    opening, rest = plain
    with pytest.MonkeyPatch.context() as patch:
        run = Run(settings_, wire)
        patch.setattr(turn, "_UNITS", budget.units)
        patch.setattr(turn, "_STEP", budget.step)
        run.connection.turn._left = budget.units
        run.connection.turn._length = budget.spell
        run.feed([run.seal(opening)] if opening else [])
        sealed = b"".join([run.seal(part) for part in rest])
        if end == "notify" and settings_ is not None:
            sealed += run.say_goodbye()
        run.feed(cut(sealed, reads), fin=end != "open")
        run.runtime.close()
    transport = run.transport
    seen_ = sorted(map(repr, run.seen)) if wire == "h2" else run.seen
    return seen_, transport.eof, transport.closed, transport.aborted


relaxed = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@relaxed
@example(  # the end came one request before a body that is put off
    data=(
        b"",
        b"GET /get HTTP/1.1\r\nhost: a\r\n\r\n"
        b"POST /c HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
        + b"1\r\nx\r\n" * 300
        + b"0\r\n\r\n",
    ),
    records=[],
    reads=[],
    end="fin",
    budget=Budget(1, 1, -1.0),
)
@given(data=h1_inputs, records=sizes, reads=sizes, end=ends, budget=budgets)
def test_over_http_1(
    tls: bool,
    certificate: TlsSettings,
    data: tuple[bytes, bytes],
    records: list[int],
    reads: list[int],
    end: str,
    budget: Budget,
) -> None:
    with_tls = certificate if tls else None
    plain = data[0], cut(data[1], records)
    expected = seen(with_tls, "h1", plain, reads, end, ENDLESS)
    assert seen(with_tls, "h1", plain, reads, end, budget) == expected


@relaxed
@given(data=h2_inputs(), records=sizes, reads=sizes, end=ends, budget=budgets)
def test_over_http_2(
    tls: bool,
    certificate: TlsSettings,
    data: tuple[bytes, bytes],
    records: list[int],
    reads: list[int],
    end: str,
    budget: Budget,
) -> None:
    with_tls = certificate if tls else None
    plain = data[0], cut(data[1], records)
    expected = seen(with_tls, "h2", plain, reads, end, ENDLESS)
    assert seen(with_tls, "h2", plain, reads, end, budget) == expected
