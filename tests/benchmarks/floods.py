"""What a flood costs: the server's loop, its memory, its output.

    python -m tests.benchmarks.floods [asyncio|uvloop|trio] [h2|h2c]

Each flood is sent again and again on new connections while a WebSocket on another
connection echoes every 20 ms. The table shows the longest echo (promise: < 50 ms), the
growth of the server's resident memory (< 4 MB), bytes out for each byte in (< 2), the
server's CPU per megabyte of flood, and how the connection ended.
"""

import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trustme

from tako.testing.peer import Wire
from tako.testing.peer.frames import raw_frame
from tests.support.attack import CONTEXTS, HELLO, Attacker, split_frames
from tests.support.server import Credentials, RuntimeName
from tests.support.victim_process import VictimProcess


_GET = b"\x82\x87\x84\x01\x01a"
_POST = b"\x83\x87\x84\x01\x01a"
_ERRORS = {0: "NO_ERROR", 1: "PROTOCOL", 9: "COMPRESSION", 11: "CALM"}


def _number(value: int, size: int = 4) -> bytes:
    return value.to_bytes(size, "big")


def _streams(count: int, make: Callable[[int], bytes]) -> bytes:
    return b"".join(make(2 * index + 1) for index in range(count))


def _get(stream: int) -> bytes:
    return raw_frame(1, 5, stream, _GET)


def rapid_reset() -> bytes:
    """CVE-2023-44487: ask, and reset the request."""
    return _streams(5000, lambda s: _get(s) + raw_frame(3, 0, s, _number(8)))


def provoked_reset() -> bytes:
    """CVE-2025-8671: ask, and make the server reset the request."""
    overflow = _number(2**31 - 1)
    return _streams(5000, lambda s: _get(s) + raw_frame(8, 0, s, overflow))


def provoked_reset_by_data() -> bytes:
    """The same with DATA behind END_STREAM."""
    return _streams(5000, lambda s: _get(s) + raw_frame(0, 0, s, b"x"))


def continuation() -> bytes:
    """CVE-2024-27316: a header block that never ends."""
    return raw_frame(1, 1, 1, _GET) + raw_frame(9, 0, 1, b"\0\1a\1b" * 3276) * 30


def small_continuation() -> bytes:
    """The same in frames of no size."""
    return raw_frame(1, 1, 1, _GET) + raw_frame(9, 0, 1) * 20_000


def settings_ids() -> bytes:
    """SETTINGS full of identifiers that no RFC defines."""
    frames = (
        raw_frame(
            4,
            0,
            0,
            b"".join(
                _number(0x1000 + (32 * n + i) % 0xE000, 2) + _number(i)
                for i in range(32)
            ),
        )
        for n in range(1500)
    )
    return b"".join(frames)


def settings_toggle() -> bytes:
    """INITIAL_WINDOW_SIZE up and down under a hundred streams."""
    opened = _streams(100, lambda s: raw_frame(1, 4, s, _POST))
    pair = b"".join(
        raw_frame(4, 0, 0, _number(4, 2) + _number(value)) for value in (0, 65_535)
    )
    return opened + pair * 5000


def ping() -> bytes:
    """CVE-2019-9512."""
    return raw_frame(6, 0, 0, b"flooding") * 20_000


def empty_data() -> bytes:
    """CVE-2019-9518."""
    return raw_frame(1, 4, 1, _POST) + raw_frame(0, 0, 1) * 20_000


def table_size_updates() -> bytes:
    """Header blocks that resize the table and hold nothing else."""
    return _streams(30, lambda s: raw_frame(1, 5, s, b"\x20" * 16_000 + _GET))


def priority() -> bytes:
    """CVE-2019-9513."""
    return _streams(20_000, lambda s: raw_frame(2, 0, s, bytes(5)))


def window_update() -> bytes:
    """A byte more, and a byte more."""
    return raw_frame(1, 4, 1, _POST) + raw_frame(8, 0, 1, _number(1)) * 20_000


def unknown_frames() -> bytes:
    """Frames of types that do not exist."""
    return raw_frame(0x42, 0, 0, b"x" * 8) * 20_000


def frames_after_reset() -> bytes:
    """DATA for a stream that is gone."""
    gone = raw_frame(1, 4, 1, _POST) + raw_frame(3, 0, 1, _number(8))
    return gone + raw_frame(0, 0, 1, b"x") * 20_000


def many_requests() -> bytes:
    """Four thousand requests in one segment."""
    return _streams(4000, _get)


def huge_header() -> bytes:
    """One field of 1 MB, Huffman coded."""
    return (
        raw_frame(1, 1, 1, b"\x00\x01x\xff\x80\xff\x3f" + bytes(16_000))
        + raw_frame(9, 0, 1, bytes(16_384)) * 60
    )


FLOODS: tuple[Callable[[], bytes], ...] = (
    rapid_reset,
    provoked_reset,
    provoked_reset_by_data,
    continuation,
    small_continuation,
    settings_ids,
    settings_toggle,
    ping,
    empty_data,
    table_size_updates,
    priority,
    window_update,
    unknown_frames,
    frames_after_reset,
    huge_header,
)

CANARY_LIMIT = 0.05
GROWTH_LIMIT = 4 << 20
RATIO_LIMIT = 2.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a flood did to the server; ``work``: of the canary's time, its own."""

    canary: float
    work: float
    growth: int
    ratio: float
    cpu_per_mb: float
    ending: str


def measure(
    victim: VictimProcess, flood: Callable[[], bytes], *, times: int = 10
) -> Cost:
    """Send ``flood`` on ``times`` connections, once before to warm the server up."""
    data = HELLO + flood()
    _send(victim, data)
    before, cpu = victim.rss, victim.cpu
    victim.canary.echo()
    victim.canary.forget()
    sent = received = 0
    ending = ""
    for _ in range(times):
        out, into, ending = _send(victim, data)
        sent, received = sent + out, received + into
    victim.canary.echo()
    assert victim.canary.failure is None, victim.canary.failure
    return Cost(
        canary=victim.canary.worst,
        work=victim.canary.work,
        growth=max(0, victim.rss - before),
        ratio=received / sent,
        cpu_per_mb=(victim.cpu - cpu) / (times * len(data) / 1e6),
        ending=ending,
    )


def _send(victim: VictimProcess, data: bytes) -> tuple[int, int, str]:
    """Send ``data`` until it is all taken or the server has closed."""
    wire = "h2" if victim.wire == "h2" else "h2c"
    with Attacker(victim.address, CONTEXTS.get(wire)) as peer:
        peer.send(data)
        peer.send(raw_frame(6, 0, 0, b"settled?"))
        peer.pump(lambda: b"settled?" in peer.received, 20)
        frames, _ = split_frames(bytes(peer.received))
        goaways = [frame.code for frame in frames if frame.type == 7]
        ending = _ERRORS.get(goaways[-1], str(goaways[-1])) if goaways else "alive"
        return peer.bytes_out, peer.bytes_in, ending


@contextmanager
def temporary_credentials() -> Iterator[Credentials]:
    """Make a certificate for a server that lives as long as the block."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    client = ssl.create_default_context()
    authority.configure_trust(client)
    with tempfile.TemporaryDirectory() as name:
        cert, key = Path(name) / "cert.pem", Path(name) / "key.pem"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.write_bytes(leaf.private_key_pem.bytes())
        yield Credentials(cert, key, client)


def main(runtime: RuntimeName = "uvloop", wire: Wire = "h2") -> None:
    """Print the table."""
    print(f"{runtime}, {wire}, {time.strftime('%Y-%m-%d')}")
    print(f"{'flood':24} {'canary':>9} {'memory':>9} {'out/in':>7} {'ms/MB':>7}  end")
    with (
        temporary_credentials() as credentials,
        VictimProcess(credentials, runtime, wire) as victim,
    ):
        for flood in (*FLOODS, many_requests):
            cost = measure(victim, flood)
            print(
                f"{flood.__name__:24} {cost.canary * 1000:6.1f} ms"
                f" {cost.growth / 1e6:6.2f} MB {cost.ratio:7.3f}"
                f" {cost.cpu_per_mb * 1000:7.1f}  {cost.ending}"
            )


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
