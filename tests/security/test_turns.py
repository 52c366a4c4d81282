"""Whatever one connection sends, others get their turn (security list, I2).

Each flood is sent on one connection while a canary on another echoes. Asserted is the
most that the server computes until an echo comes, which a busy machine does not
change.
"""

from collections.abc import Callable, Iterator

import pytest

from tako.testing.peer.frames import raw_frame
from tako.testing.peer.websocket import encode_frame
from tests.support.attack import HELLO, Attacker
from tests.support.server import Credentials, RuntimeName
from tests.support.tls_records import TlsRecords
from tests.support.victim_process import VictimProcess


_SIZE = 2 << 20  # bytes of a flood
_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n"
    b"upgrade: websocket\r\nsec-websocket-version: 13\r\n"
    b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
_POST = b"POST / HTTP/1.1\r\nhost: localhost\r\n"
_CHUNKED = _POST + b"transfer-encoding: chunked\r\n\r\n"
_LIMIT = 0.05
"""Seconds that the server may compute before a canary has its turn."""


def _repeat(piece: bytes) -> bytes:
    return piece * (_SIZE // len(piece))


def fragments() -> bytes:
    """Messages in fragments of one byte."""
    one = encode_frame(2, b"a", fin=False) + encode_frame(0, b"a", fin=False) * 16_000
    return _UPGRADE + _repeat(one + encode_frame(0, b"a"))


def pings() -> bytes:
    """Pings without end."""
    return _UPGRADE + _repeat(encode_frame(9))


def chunks() -> bytes:
    """A body in chunks of one byte."""
    return _CHUNKED + _repeat(b"1\r\nx\r\n")


def empty_lines() -> bytes:
    """Empty lines before a request."""
    return _repeat(b"\r\n")


def huffman() -> bytes:
    """Header blocks of Huffman code that end in 431."""
    value = bytes(15_000)  # RFC 7541 appendix B: "0" is 00000
    block = b"\x82\x86\x84\x01\x01a\x10\x01x\xff\x99\x74" + value
    count = _SIZE // len(block)
    return HELLO + b"".join(raw_frame(1, 5, 2 * n + 1, block) for n in range(count))


def many_fields() -> bytes:
    """Header blocks of as many fields as they can hold."""
    block = b"\x82\x86\x84\x01\x01a" + b"\x40\0\0" * 900
    count = _SIZE // len(block)
    return HELLO + b"".join(raw_frame(1, 5, 2 * n + 1, block) for n in range(count))


@pytest.fixture(scope="module", params=["asyncio", "uvloop", "trio"])
def runtime_name(request: pytest.FixtureRequest) -> RuntimeName:
    name: RuntimeName = request.param
    return name


@pytest.fixture(scope="module")
def processes(
    runtime_name: RuntimeName, credentials: Credentials
) -> Iterator[dict[str, VictimProcess]]:
    with (
        VictimProcess(credentials, runtime_name, "h1") as plain,
        VictimProcess(credentials, runtime_name, "h2c") as http2,
        VictimProcess(credentials, runtime_name, "h2") as tls,
    ):
        yield {"h1": plain, "h2c": http2, "tls": tls}


def _check(process: VictimProcess, flood: Callable[[], bytes]) -> None:
    canary = process.canary
    canary.echo()
    canary.forget()
    with Attacker(process.address) as peer:
        peer.send(flood())
        peer.flush()
        for _ in range(5):
            canary.echo()
    print(flood.__name__, f"{canary.worst * 1000:.1f} ms")
    canary.check(_LIMIT)


@pytest.mark.parametrize(
    "flood", [fragments, pings, chunks, empty_lines], ids=lambda flood: flood.__name__
)
def test_a_flood_over_http_1_leaves_time_for_others(
    processes: dict[str, VictimProcess], flood: Callable[[], bytes]
) -> None:
    _check(processes["h1"], flood)


@pytest.mark.parametrize(
    "flood", [huffman, many_fields], ids=lambda flood: flood.__name__
)
def test_a_flood_over_http_2_leaves_time_for_others(
    processes: dict[str, VictimProcess], flood: Callable[[], bytes]
) -> None:
    _check(processes["h2c"], flood)


@pytest.mark.parametrize("kind", ["key updates", "empty", "tiny"])
def test_records_without_data_leave_time_for_others(
    processes: dict[str, VictimProcess], kind: str
) -> None:
    process = processes["tls"]
    with Attacker(process.address) as peer:
        tls = _records(peer)
        peer.send(tls.record(_POST + b"content-length: 1000000\r\n\r\n"))
        make = {
            "tiny": lambda: tls.record(b"x"),
            "empty": tls.record,
            "key updates": tls.key_update,
        }
        flood = b"".join(make[kind]() for _ in range(30_000))
        process.canary.echo()
        process.canary.forget()
        peer.send(flood)
        if kind == "tiny":
            peer.flush()
        else:
            assert peer.pump(lambda: peer.ending is not None), "it is still open"
        process.canary.echo()
    print(kind, f"{process.canary.worst * 1000:.1f} ms")
    process.canary.check(_LIMIT)


def _records(peer: Attacker) -> TlsRecords:
    def send(data: bytes) -> bytes:
        peer.received.clear()
        peer.send(data)
        peer.pump(lambda: bool(peer.received), 5)
        return bytes(peer.received)

    return TlsRecords(send)
