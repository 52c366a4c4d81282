"""A raw HTTP/2 peer for engine tests: it can say anything, also what is forbidden."""

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import hpack

from tako.config import ServerConfig
from tako.h2 import H2Engine, H2Exchange
from tako.h2.frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEAD,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tests.support.wire import FakeConnection, conn_info


if TYPE_CHECKING:
    from tako.core.seams import Exchange


Fields = Sequence[tuple[str, str]]

GET: Fields = (
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "example.org"),
    (":path", "/"),
)
POST: Fields = ((":method", "POST"), *GET[1:])
CONNECT: Fields = (
    (":method", "CONNECT"),
    (":protocol", "websocket"),
    (":scheme", "http"),
    (":authority", "example.org"),
    (":path", "/ws"),
    ("sec-websocket-version", "13"),
)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream_id: int
    payload: bytes

    @property
    def number(self) -> int:
        """The 32-bit number at the end: an error code, an increment."""
        return int.from_bytes(self.payload[-4:])

    @property
    def ends(self) -> bool:
        return self.kind in (DATA, HEADERS) and bool(self.flags & END_STREAM)


def parse(data: bytes) -> list[Frame]:
    """Cut ``data`` into frames; it must consist of whole ones."""
    frames = []
    while data:
        high, low, kind, flags, stream_id = HEAD.unpack_from(data)
        end = HEAD.size + (high << 8 | low)
        assert len(data) >= end, "an incomplete frame was sent"
        frames.append(Frame(kind, flags, stream_id, data[HEAD.size : end]))
        data = data[end:]
    return frames


def data(stream_id: int, payload: bytes = b"", *, end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream_id, payload)


def rst(stream_id: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4))


def window_update(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4))


def settings(*entries: tuple[int, int]) -> bytes:
    payload = b"".join(k.to_bytes(2) + v.to_bytes(4) for k, v in entries)
    return frame(SETTINGS, 0, 0, payload)


SETTINGS_ACK = frame(SETTINGS, ACK, 0)


class RecordingSink:
    """The sink of a tunnel that remembers; ``greedy`` ones give credit at once."""

    def __init__(self, exchange: H2Exchange, *, greedy: bool = True) -> None:
        self.exchange = exchange
        self.greedy = greedy
        self.data = bytearray()
        self.ends: list[Exception | None] = []
        self.wakes = 0
        self.shut_downs = 0

    def deliver(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        if self.greedy:
            self.exchange.consumed(len(data))

    def deliver_eof(self, error: Exception | None = None) -> None:
        self.ends.append(error)

    def wake_writer(self) -> None:
        self.wakes += 1

    def shut_down(self) -> None:
        self.shut_downs += 1


class RecordingTask:
    """A handler's task that counts how often it was cancelled."""

    def __init__(self) -> None:
        self.cancels = 0

    def cancel(self) -> None:
        self.cancels += 1


class Peer:
    """An engine, its connection, and the raw client at the other end."""

    def __init__(
        self,
        *,
        lane: bool = True,
        tls: bool = False,
        config: ServerConfig | None = None,
        greet: bool = True,
    ) -> None:
        self.connection = FakeConnection(config, conn_info(tls=tls, http2=True))
        self.engine = H2Engine(self.connection, lane=lane)
        self.connection.engine = self.engine
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.exchanges: list[H2Exchange] = []
        if greet:
            self.send(PREFACE + settings() + SETTINGS_ACK)
            self.frames()

    def send(self, *pieces: bytes) -> list[H2Exchange]:
        """Let the engine read ``pieces`` in one go; return the new exchanges."""
        found = list(self.engine.receive_data(b"".join(pieces)))
        while self.engine.backlog:
            found += self.engine.receive_data(b"")
        for exchange in found:
            assert isinstance(exchange, H2Exchange)
            exchange.task = RecordingTask()
            self.exchanges.append(exchange)
        return self.exchanges[len(self.exchanges) - len(found) :]

    def frames(self) -> list[Frame]:
        """Return what the engine has sent since the last call."""
        return parse(self.connection.take())

    def encode(self, fields: Fields) -> bytes:
        return self.encoder.encode(fields)

    def decode(self, frame: Frame) -> dict[str, str]:
        assert frame.kind == HEADERS
        fields = self.decoder.decode(frame.payload, raw=True)
        return {_text(name): _text(value) for name, value in fields}

    def headers(
        self,
        stream_id: int,
        fields: Fields = GET,
        *,
        end: bool = True,
        extra: Fields = (),
    ) -> bytes:
        flags = END_HEADERS | (END_STREAM if end else 0)
        return frame(HEADERS, flags, stream_id, self.encode([*fields, *extra]))

    def blocks(
        self, stream_id: int, fragments: Iterable[bytes], *, end: bool = True
    ) -> bytes:
        """Return one header block in several frames."""
        parts = list(fragments)
        out = b""
        for index, part in enumerate(parts):
            last = END_HEADERS if index == len(parts) - 1 else 0
            if index:
                out += frame(CONTINUATION, last, stream_id, part)
            else:
                flags = last | (END_STREAM if end else 0)
                out += frame(HEADERS, flags, stream_id, part)
        return out

    def request(
        self,
        stream_id: int = 1,
        fields: Fields = GET,
        *,
        end: bool = True,
        extra: Fields = (),
    ) -> H2Exchange:
        """Send a request that must be dispatched; return its exchange."""
        (exchange,) = self.send(self.headers(stream_id, fields, end=end, extra=extra))
        return exchange

    def tunnel(
        self, stream_id: int = 1, *, greedy: bool = True
    ) -> tuple[H2Exchange, RecordingSink]:
        """Open an accepted tunnel; the 200 is taken from the output."""
        exchange = self.request(stream_id, CONNECT, end=False)
        sink = RecordingSink(exchange, greedy=greedy)
        exchange.open_tunnel(200, []).receive_into(sink)
        head = [f for f in self.frames() if f.kind == HEADERS]
        assert [self.decode(f)[":status"] for f in head] == ["200"]
        return exchange, sink

    def advance(self, seconds: float) -> None:
        self.connection.runtime.advance(seconds)

    def goaway_codes(self) -> list[int]:
        """Return the codes of the GOAWAY frames just sent."""
        return [f.number for f in self.frames() if f.kind == GOAWAY]

    def rst_codes(self) -> list[tuple[int, int]]:
        """Return stream and code of the RST_STREAM frames just sent."""
        return [(f.stream_id, f.number) for f in self.frames() if f.kind == RST_STREAM]


Make: TypeAlias = Callable[..., Peer]
"""``Peer`` with the test's choice of the lane: the fixture ``make``."""


def answer(exchange: "Exchange", body: bytes = b"hello") -> None:
    """Do what a handler's task does for a small response."""
    exchange.send_headers(200, [(b"content-length", b"%d" % len(body))])
    exchange.send_data(body, end=True)
    exchange.ended()


def _text(part: str | bytes) -> str:
    return part.decode("latin-1") if isinstance(part, bytes) else part
