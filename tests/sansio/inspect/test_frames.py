"""Frames for people to read, from bytes that begin anywhere: both wires."""

from collections.abc import Callable

import pytest

from tako.core.views import Place
from tako.h2.hpack import encode
from tako.inspect.frames import (
    SHOWN,
    Decoder,
    Frame,
    H1Decoder,
    H2Decoder,
    WebSocketReader,
)
from tako.native.loops import encode_frame, encode_masked_frame


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n"
MESSAGES: list[tuple[int, str | bytes]] = [
    (0x81, "hello"),
    (0x82, b"\0\1\2"),
    (0x89, b"ping"),
    (0x81, "x" * 70_000),
    (0x01, "begin"),
    (0x80, "end"),
    (0x82, b""),
    (0xC1, b"\xaa"),
    (0x88, (1001).to_bytes(2) + b"going"),
]
SEEN = [
    ("text", 5, "", True),
    ("binary", 3, "", True),
    ("Ping", 4, "", False),
    ("text", 70_000, "", True),
    ("text", 5, "not the last", False),
    ("continuation", 3, "", True),
    ("binary", 0, "", True),
    ("text", 1, "compressed", True),
    ("Close", 7, "1001", False),
]


def no_socket(_: int) -> Place | None:
    return None


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def seen(frames: list[Frame]) -> list[tuple[str, int, str, bool]]:
    return [(it.kind, it.size, it.note, it.message) for it in frames]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    head = len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
    return head + payload


@pytest.mark.parametrize("encoded", [encode_frame, encode_masked_frame])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000, 1 << 20])
def test_frames_of_a_websocket_are_the_same_in_all_pieces(
    encoded: Callable[[int, str | bytes], bytes], size: int
) -> None:
    reader = WebSocketReader(True)
    data = b"".join(encoded(*message) for message in MESSAGES)
    found = [it for piece in in_pieces(data, size) for it in reader.feed(piece)]
    assert seen(found) == SEEN
    assert found[0].payload == b"hello"
    assert found[3].payload == b"x" * SHOWN
    assert found[8].payload == b"going"


def test_a_reader_begins_in_the_midst_of_a_frame() -> None:
    first, second = (encode_masked_frame(0x81, text) for text in ("first", "second"))
    data = first + second
    for cut in range(6, len(first)):  # the head was read before
        place = Place(left=len(first) - cut)
        (found,) = WebSocketReader(True, 0, place).feed(data[cut:])
        assert (found.kind, found.payload) == ("text", b"second")
    for cut in range(6):  # it was not
        place = Place(held=first[:cut])
        found = WebSocketReader(True, 0, place).feed(data[cut:])[-1]
        assert (found.kind, found.payload) == ("text", b"second")


def test_http1_is_shown_as_it_comes_until_it_is_a_websocket() -> None:
    decoder = H1Decoder(Place(), no_socket)
    (asked,) = decoder.feed(True, b"GET /ws?token=secret HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (asked.kind, asked.note) == ("request", "GET /ws")
    switched, message = decoder.feed(False, SWITCH + encode_frame(0x81, "hi"))
    assert (switched.kind, switched.note) == ("response", "101")
    assert (message.kind, message.payload) == ("text", b"hi")
    (answer,) = decoder.feed(True, encode_masked_frame(0x81, "you"))
    assert (answer.kind, answer.payload, answer.received) == ("text", b"you", True)


def test_bodies_of_http1_are_bytes() -> None:
    decoder = H1Decoder(Place(), no_socket)
    (head,) = decoder.feed(True, b"POST /up HTTP/1.1\r\nhost: a\r\n\r\n")
    (body,) = decoder.feed(True, b"x" * 1000)
    (answer,) = decoder.feed(False, b"HTTP/1.1 204 No Content\r\n\r\n")
    assert [head.note, body.kind, answer.note] == ["POST /up", "bytes", "204"]
    assert (body.size, len(body.payload)) == (1000, SHOWN)


def test_a_websocket_that_is_open_already_is_read_as_one() -> None:
    data = encode_masked_frame(0x81, "held")
    decoder = H1Decoder(Place(), lambda _: Place(held=data[:3]))
    (found,) = decoder.feed(True, data[3:])
    assert (found.kind, found.payload) == ("text", b"held")


CONNECT = encode(
    [
        (b":method", b"CONNECT"),
        (b":protocol", b"websocket"),
        (b":path", b"/chat?token=secret"),
        (b"authorization", b"Basic secret"),
    ]
)
RECEIVED = (
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    + frame(4, 0, 0, b"\0\3\0\0\0\x64")
    + frame(1, 4, 1, CONNECT)
    + frame(0, 0, 1, encode_masked_frame(0x81, "hello"))
    + frame(8, 0, 0, b"\0\0\1\0")
    + frame(3, 0, 1, b"\0\0\0\x08")
    + frame(7, 0, 0, b"\0\0\0\1\0\0\0\x0bdebug")
)


class Sockets:
    """WebSockets of a connection: their streams."""

    def __init__(self, *streams: int) -> None:
        self.streams = streams

    def __call__(self, stream: int) -> Place | None:
        return Place() if stream in self.streams else None


@pytest.mark.parametrize("size", [1, 5, 9, 10, 100, 1 << 20])
def test_frames_of_http2_are_the_same_in_all_pieces(size: int) -> None:
    decoder = H2Decoder(Place(), Sockets(1))
    found = [
        it for piece in in_pieces(RECEIVED, size) for it in decoder.feed(True, piece)
    ]
    assert [(it.kind, it.stream, it.note) for it in found] == [
        ("SETTINGS", 0, "MAX_CONCURRENT_STREAMS=100"),
        ("HEADERS", 1, "CONNECT /chat websocket"),
        ("text", 1, ""),
        ("WINDOW_UPDATE", 0, "+256"),
        ("RST_STREAM", 1, "CANCEL"),
        ("GOAWAY", 0, "ENHANCE_YOUR_CALM, last stream 1"),
    ]
    assert found[2].payload == b"hello"
    assert found[2].message


def test_both_directions_of_a_stream_are_read() -> None:
    decoder = H2Decoder(Place(), Sockets(3))
    head = frame(1, 4, 3, b"\x20" + encode([(b":status", b"200")]))
    found = decoder.feed(False, head + frame(0, 0, 3, encode_frame(0x81, "hi")))
    assert [(it.kind, it.note, it.received) for it in found] == [
        ("HEADERS", "200", False),
        ("text", "", False),
    ]


def test_data_of_a_body_is_data() -> None:
    decoder = H2Decoder(Place(), no_socket)
    found = decoder.feed(True, frame(0, 1, 5, b"body"))
    assert [(it.kind, it.size, it.note) for it in found] == [("DATA", 4, "END_STREAM")]
    assert found[0].payload == b"body"


def test_http2_begins_in_the_midst_of_a_frame() -> None:
    whole = encode_masked_frame(0x81, "y" * 50)
    data = frame(0, 0, 1, whole)
    behind = frame(6, 1, 0, bytes(8))
    for cut in range(9):
        decoder = H2Decoder(Place(held=data[:cut]), Sockets(1))
        found = decoder.feed(True, data[cut:] + behind)
        assert [it.kind for it in found] == ["text", "PING"]
    for cut in range(15, len(data)):  # the payload is in progress on both levels
        left = len(data) - cut
        within = Place(left=left, stream=1)
        decoder = H2Decoder(within, {1: within}.get)
        found = decoder.feed(True, data[cut:] + behind)
        assert [it.kind for it in found] == ["PING"]


def test_what_waited_for_a_window_is_not_taken_for_a_head() -> None:
    decoder = H2Decoder(Place(queued={1: 3}), Sockets(1))
    found = decoder.feed(False, frame(0, 0, 1, b"end" + encode_frame(0x81, "next")))
    assert [(it.kind, it.payload) for it in found] == [("text", b"next")]


def test_the_table_of_fields_is_taken_over() -> None:
    indexed = bytes([0x80 | 62])  # the youngest of the dynamic table
    place = Place(fields=((b":path", b"/young"), (b":path", b"/old")))
    found = H2Decoder(place, no_socket).feed(True, frame(1, 5, 1, indexed))
    assert found[0].note == "/young END_STREAM"


def test_a_block_that_cannot_be_read_is_shown_without_its_fields() -> None:
    decoder = H2Decoder(Place(), no_socket)
    broken = frame(1, 4, 1, bytes([0x80 | 70]))
    found = decoder.feed(True, broken + frame(1, 4, 3, CONNECT))
    assert [(it.kind, it.note) for it in found] == [("HEADERS", ""), ("HEADERS", "")]


def test_a_block_in_pieces_is_read_at_its_end() -> None:
    decoder = H2Decoder(Place(), no_socket)
    data = frame(1, 0, 1, CONNECT[:5]) + frame(9, 4, 1, CONNECT[5:])
    assert [it.note for it in decoder.feed(True, data)] == [
        "",
        "CONNECT /chat websocket",
    ]


@pytest.mark.parametrize("make", [H1Decoder, H2Decoder])
def test_nothing_that_is_fed_raises(
    make: Callable[[Place, Callable[[int], Place | None]], Decoder],
) -> None:
    noise = bytes(range(256)) * 20
    for start in range(64):
        decoder = make(Place(), Sockets(1, 3))
        for received in (True, False):
            for piece in in_pieces(noise[start:], 13):
                decoder.feed(received, piece)
