"""What a server holds for a peer that gives it much to hold.

    python -m tests.benchmarks.hoards [asyncio|uvloop|trio] [h1|h1s|h2|h2c]

Each hoard is one connection that sends and never reads. The table shows how much the
server's resident memory grows, at its worst (promise: < 24 MB each), for how many
bytes that the server took.
"""

import sys
import time
import zlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tako.testing.peer import Wire
from tako.testing.peer.frames import raw_frame
from tako.testing.peer.websocket import encode_frame
from tests.benchmarks.floods import temporary_credentials
from tests.support.attack import HELLO, Attacker, RawH2, connect_block, literal_block
from tests.support.server import RuntimeName
from tests.support.victim import MESSAGE_LIMIT
from tests.support.victim_process import VictimProcess


Pieces = Iterator[bytes]

GROWTH_LIMIT = 24 << 20
"""Bytes. Four streams that each hold three messages of ``MESSAGE_LIMIT`` are 12 MiB;
what decoding needs for a moment comes to that."""

_PATIENCE = 1.5  # seconds without a byte taken, after which the server has had enough
_LONGEST = 20.0  # seconds of one hoard
_STREAMS = range(1, 9, 2)
_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)
_DEFLATE = ("sec-websocket-extensions", "permessage-deflate")
_NO_WINDOW = raw_frame(4, 0, 0, b"\0\4" + bytes(4))
_GREAT_WINDOW = raw_frame(4, 0, 0, b"\0\4\x7f\xff\xff\xff")


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -12)
    packed = packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)
    return packed.removesuffix(b"\x00\x00\xff\xff")


_ZEROS = encode_frame(2, _deflated(bytes(MESSAGE_LIMIT)), rsv=4)
_SNOW = "\N{MUSHROOM}".encode()  # makes a ``str`` of four bytes a character
_WIDE = encode_frame(1, _deflated(bytes(MESSAGE_LIMIT // 4) + _SNOW), rsv=4)


def _head(method: str, path: str) -> bytes:
    return literal_block(
        [
            (":method", method),
            (":scheme", "https"),
            (":authority", "localhost"),
            (":path", path),
        ]
    )


def _open(block: bytes, *, flags: int = 4) -> bytes:
    return b"".join(raw_frame(1, flags, each, block) for each in _STREAMS)


def _inflated(message: bytes, wire: Wire) -> Pieces:
    """Messages of a megabyte each, in a kilobyte, to sessions that cannot answer."""
    if wire in {"h1", "h1s"}:
        yield _UPGRADE
        for _ in range(2000):
            yield message
        return
    yield HELLO + _open(connect_block("/ws", _DEFLATE))
    for _ in range(200):
        for stream_id in _STREAMS:
            yield raw_frame(0, 0, stream_id, message)


def inflated(wire: Wire) -> Pieces:
    """Zeros."""
    return _inflated(_ZEROS, wire)


def inflated_text(wire: Wire) -> Pieces:
    """Text that takes four bytes a character."""
    return _inflated(_WIDE, wire)


def pages(wire: Wire) -> Pieces:
    """Requests for a page; the client reads no answer."""
    if wire in {"h1", "h1s"}:
        yield b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n" * 15_000
        return
    yield HELLO + _GREAT_WINDOW + raw_frame(8, 0, 0, b"\x3f\xff\xff\xff")
    get = _head("GET", "/page")
    yield b"".join(raw_frame(1, 5, each, get) for each in range(1, 20_000, 2))


def tiny_body(wire: Wire) -> Pieces:
    """Bodies in pieces of two bytes that no handler reads."""
    if wire in {"h1", "h1s"}:
        yield b"POST /hold HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        for _ in range(5000):
            yield b"2\r\nab\r\n"
        return
    yield HELLO + _open(_head("POST", "/hold"))
    yield from _tiny()


def tiny_early_bytes(wire: Wire) -> Pieces:
    """The same for a tunnel that is not accepted."""
    if wire in {"h1", "h1s"}:
        yield _UPGRADE.replace(b"/ws", b"/hold")
        yield b"ab" * 30_000
        return
    yield HELLO + _open(connect_block("/hold"))
    yield from _tiny()


def _tiny() -> Pieces:
    for _ in range(640):
        for stream_id in _STREAMS:
            yield raw_frame(0, 0, stream_id, b"ab") * 200


def pings(wire: Wire) -> Pieces:
    """Pings without content; their answers cannot be sent."""
    return _talk(encode_frame(9), wire)


def tiny_messages(wire: Wire) -> Pieces:
    """Messages of a byte; their echoes cannot be sent."""
    return _talk(encode_frame(2, b"x"), wire)


def _talk(frame: bytes, wire: Wire) -> Pieces:
    if wire in {"h1", "h1s"}:
        yield _UPGRADE
        yield encode_frame(2, bytes(50_000)) * 200
        for _ in range(200):
            yield frame * 200
        return
    yield HELLO + _NO_WINDOW + _open(connect_block("/ws"))
    for _ in range(200):
        for stream_id in _STREAMS:
            yield raw_frame(0, 0, stream_id, frame * 200)


HOARDS: tuple[Callable[[Wire], Pieces], ...] = (
    inflated,
    inflated_text,
    pages,
    tiny_body,
    tiny_early_bytes,
    pings,
    tiny_messages,
)


class Held(NamedTuple):
    """What became of a hoard."""

    growth: int
    taken: int


def hoard(victim: VictimProcess, wire: Wire, make: Callable[[Wire], Pieces]) -> Held:
    """Send what ``make`` yields until the server takes no more of it."""
    victim.canary.stop()  # it would keep the server busy
    before = most = victim.rss
    with victim.attacker(wire, receive_buffer=4096) as peer:
        peer.deaf = True
        end = time.monotonic() + _LONGEST
        for piece in make(wire):
            peer.send(piece)
            while len(peer.unsent) > 1 << 18 and _moves(peer, end):
                most = max(most, victim.rss)
        while _moves(peer, end):
            most = max(most, victim.rss)
        busy = -1.0
        while victim.cpu > busy and time.monotonic() < end:  # in turns it works it off
            busy = victim.cpu
            for _ in range(20):
                time.sleep(0.02)
                most = max(most, victim.rss)
        taken = peer.bytes_out
        peer.abort()  # after a FIN the server would wait for the answers to be sent
    victim.canary.echo()
    return Held(most - before, taken)


def _moves(peer: Attacker | RawH2, end: float) -> bool:
    """Send for a moment; tell whether there is more, and the server takes it."""
    before = peer.bytes_out
    stop = min(time.monotonic() + _PATIENCE, end)
    while peer.unsent and peer.bytes_out == before and time.monotonic() < stop:
        peer.pump(lambda: peer.bytes_out > before, 0.05)
    return bool(peer.unsent) and peer.bytes_out > before and time.monotonic() < end


def main(runtime: RuntimeName = "uvloop", wire: Wire = "h2") -> None:
    """Print the table."""
    print(f"{runtime}, {wire}, {time.strftime('%Y-%m-%d')}")
    with temporary_credentials() as credentials:
        for make in HOARDS:
            with VictimProcess(credentials, runtime, wire) as victim:
                held = hoard(victim, wire, make)
                print(
                    f"{make.__name__:18} {held.growth / 1e6:7.2f} MB"
                    f" for {held.taken / 1e6:6.2f} MB"
                )


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
