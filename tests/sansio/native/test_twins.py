"""The byte loops, native and Python, against the plainest code that does the same."""

import gc
import importlib
import itertools
import operator
import os
import pathlib
import socket
import subprocess
import sys
import tracemalloc
from types import ModuleType
from typing import Any

import hpack
import pytest
from hpack import huffman_table
from hpack.huffman import HuffmanEncoder
from hpack.huffman_constants import REQUEST_CODES, REQUEST_CODES_LENGTH
from hpack.table import HeaderTable
from hypothesis import given, strategies as st
from hypothesis.strategies import DrawFn

from tako.h2.fields import FieldKind, read_field
from tako.http.grammar import is_field_value, is_lower_name, is_token
from tako.native import pure as _pure
from tests.support.patience import TIMEOUT


def _native() -> ModuleType | None:
    try:
        return importlib.import_module("tako.native.speedups")
    except ImportError:
        return None


NATIVE = _native()
TWINS = [
    pytest.param(_pure, id="pure"),
    pytest.param(
        NATIVE,
        id="native",
        marks=pytest.mark.skipif(
            NATIVE is None,
            reason="not built (python setup.py build_ext --inplace)",
        ),
    ),
]
pytestmark = pytest.mark.parametrize("twin", TWINS)

Scan = tuple[list[str | bytes], int]
Fields = tuple[list[tuple[bytes, bytes]], int]
H2Frames = tuple[list[tuple[int, int, int, int, int]], int]


def plain_unmask(data: bytes, mask: bytes, offset: int = 0) -> bytes:
    key = itertools.islice(itertools.cycle(mask), offset % 4, None)
    return bytes(map(operator.xor, data, key))


def plain_scan(
    buffer: bytes, start: int, max_payload: int, limit: int, *, masked: bool = True
) -> Scan:
    messages: list[str | bytes] = []
    bit, key_size = (128, 4) if masked else (0, 0)
    while len(messages) < limit:
        head = buffer[start : start + 14]
        if len(head) < 2 + key_size or head[0] not in {0x81, 0x82}:
            break
        if head[1] & 128 != bit:
            break
        width, least = {126: (2, 126), 127: (8, 65536)}.get(head[1] - bit, (0, 0))
        field = head[2 : 2 + width]
        if len(field) < width:
            break
        size = int.from_bytes(field, "big") if width else head[1] - bit
        at = start + 2 + width + key_size
        if size < least or size >= 2**63 or size > max_payload:
            break
        if at + size > len(buffer):
            break
        data = buffer[at : at + size]
        if masked:
            data = plain_unmask(data, buffer[at - 4 : at])
        try:
            messages.append(data.decode() if head[0] == 0x81 else data)
        except UnicodeDecodeError:
            break
        start = at + size
    return messages, start


def plain_frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((first, size)) + payload
    if size < 65536:
        return bytes((first, 126)) + size.to_bytes(2, "big") + payload
    return bytes((first, 127)) + size.to_bytes(8, "big") + payload


def plain_split(buffer: bytes, start: int, max_length: int, limit: int) -> H2Frames:
    frames: list[tuple[int, int, int, int, int]] = []
    while len(frames) < limit and len(buffer) >= start + 9:
        length = int.from_bytes(buffer[start : start + 3], "big")
        stream = int.from_bytes(buffer[start + 5 : start + 9], "big") % 2**31
        end = start + 9 + length
        if length > max_length or end > len(buffer):
            break
        frames.append((buffer[start + 3], buffer[start + 4], stream, start + 9, end))
        start = end
    return frames, start


def plain_fields(head: bytes, start: int, limit: int) -> Fields:
    fields: list[tuple[bytes, bytes]] = []
    while len(fields) < limit:
        line, end, _ = head[start:].partition(b"\r\n")
        name, colon, value = line.partition(b":")
        if not (
            end and colon and is_token(name) and is_field_value(value.strip(b" \t"))
        ):
            break
        fields.append((name.lower(), value.strip(b" \t")))
        start += len(line) + 2
    return fields, start


def client_frame(first: int, data: bytes, mask: bytes, form: int) -> bytes:
    """Build a frame with its length in the form of 126 or 127 if ``form`` says so."""
    size = len(data)
    if form == 127 or size > 65535:
        length = b"\xff" + size.to_bytes(8, "big")
    elif form == 126 or size > 125:
        length = b"\xfe" + size.to_bytes(2, "big")
    else:
        length = bytes((0x80 | size,))
    return bytes((first,)) + length + mask + plain_unmask(data, mask)


def server_frame(first: int, data: bytes, form: int) -> bytes:
    """Build what ``client_frame`` does, without a mask."""
    frame = client_frame(first, data, bytes(4), form)
    at = len(frame) - len(data) - 4
    return bytes((first, frame[1] & 0x7F)) + frame[2:at] + data


masks = st.binary(min_size=4, max_size=4)
sizes = st.one_of(
    st.integers(0, 300),
    st.sampled_from([4095, 4096, 4097, 65535, 65536, 65537]),
)
characters = st.characters(codec="utf-8")
payloads = st.one_of(
    st.binary(max_size=40),
    st.text(characters, max_size=40).map(str.encode),
    st.builds(lambda unit, size: (unit * size)[:size], st.binary(min_size=1), sizes),
    st.builds(lambda char, size: (char * size).encode(), characters, sizes),
)
good_frames = st.builds(
    client_frame, st.sampled_from([0x81, 0x82]), payloads, masks, st.just(0)
)
odd_frames = st.builds(
    client_frame,
    st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0xC1, 0x83]),
    payloads,
    masks,
    st.sampled_from([0, 126, 127]),
)
streams = st.lists(
    st.one_of(good_frames, good_frames, good_frames, odd_frames, st.binary()),
    max_size=6,
).map(b"".join)


server_frames = st.builds(
    server_frame, st.sampled_from([0x81, 0x82]), payloads, st.just(0)
)
odd_server_frames = st.builds(
    server_frame,
    st.sampled_from([0x81, 0x82, 0x01, 0x80, 0x88, 0x89, 0xC1, 0x83]),
    payloads,
    st.sampled_from([0, 126, 127]),
)
server_streams = st.lists(
    st.one_of(server_frames, server_frames, odd_server_frames, good_frames),
    max_size=6,
).map(b"".join)


@given(data=st.one_of(payloads, st.binary()), mask=masks, offset=st.integers(0, 9))
def test_unmask(twin: ModuleType, data: bytes, mask: bytes, offset: int) -> None:
    expected = plain_unmask(data, mask, offset)
    assert twin.unmask(data, mask, offset) == expected
    result = twin.unmask(bytearray(data), mask, offset)
    assert result == expected
    assert type(result) is bytes


@pytest.mark.parametrize("mask", [b"", b"123", b"12345"])
def test_unmask_refuses_other_masks(twin: ModuleType, mask: bytes) -> None:
    with pytest.raises(ValueError, match="four bytes"):
        twin.unmask(b"data", mask)


@given(
    buffer=streams,
    cut=st.integers(0, 20),
    max_payload=st.one_of(st.just(2**62), sizes),
    limit=st.integers(0, 7),
)
def test_scan_frames(
    twin: ModuleType, buffer: bytes, cut: int, max_payload: int, limit: int
) -> None:
    buffer = buffer[: len(buffer) - cut] if cut < len(buffer) else buffer
    expected = plain_scan(buffer, 0, max_payload, limit)
    result = twin.scan_frames(buffer, 0, max_payload, limit)
    assert result == expected
    assert [type(m) for m in result[0]] == [type(m) for m in expected[0]]
    assert twin.scan_frames(bytearray(buffer), 0, max_payload, limit) == expected
    shifted = b"pre" + buffer
    messages, end = twin.scan_frames(shifted, 3, max_payload, limit)
    assert (messages, end - 3) == expected


@given(
    buffer=st.one_of(server_streams, st.binary(max_size=40)),
    cut=st.integers(0, 20),
    max_payload=st.one_of(st.just(2**62), sizes),
    limit=st.integers(0, 7),
)
def test_scan_unmasked_frames(
    twin: ModuleType, buffer: bytes, cut: int, max_payload: int, limit: int
) -> None:
    buffer = buffer[: len(buffer) - cut] if cut < len(buffer) else buffer
    expected = plain_scan(buffer, 0, max_payload, limit, masked=False)
    result = twin.scan_unmasked_frames(buffer, 0, max_payload, limit)
    assert result == expected
    assert [type(m) for m in result[0]] == [type(m) for m in expected[0]]
    found = twin.scan_unmasked_frames(bytearray(buffer), 0, max_payload, limit)
    assert found == expected
    messages, end = twin.scan_unmasked_frames(b"pre" + buffer, 3, max_payload, limit)
    assert (messages, end - 3) == expected


@given(buffer=st.binary(max_size=40), start=st.integers(0, 40))
def test_scan_frames_takes_any_bytes(
    twin: ModuleType, buffer: bytes, start: int
) -> None:
    if start <= len(buffer):
        expected = plain_scan(buffer, start, 2**62, 9)
        assert twin.scan_frames(buffer, start, 2**62, 9) == expected


@pytest.mark.parametrize(
    "head",
    [
        "81fe007d",  # 125 in 16 bits
        "82ff000000000000ffff",  # 65535 in 64 bits
        "82ff8000000000000000",  # the top bit
        "82ffffffffffffffffff",
        "82ff7fffffffffffffff",  # as long as a frame may be
    ],
)
def test_scan_frames_leaves_lengths_that_are_wrong_or_huge(
    twin: ModuleType, head: str
) -> None:
    buffer = bytes.fromhex("828100000000aa" + head) + bytes(70_000)
    assert twin.scan_frames(buffer, 0, 2**62, 99) == ([b"\xaa"], 7)
    assert twin.scan_frames(buffer, 0, sys.maxsize, 99) == ([b"\xaa"], 7)


@pytest.mark.parametrize(
    "name",
    [
        "scan_frames",
        "scan_unmasked_frames",
        "split_fields",
        "split_frames",
        "take_data",
    ],
)
@pytest.mark.parametrize("start", [-1, 4, 2**40])
def test_a_start_outside_of_the_buffer_is_refused(
    twin: ModuleType, name: str, start: int
) -> None:
    more: tuple[object, ...] = (100, 100)
    if not name.startswith("scan_"):
        more = (100, {}, 100, 100) if name == "take_data" else (100,)
    with pytest.raises(ValueError, match="outside of the buffer"):
        getattr(twin, name)(b"abc", start, *more)


def test_no_message_shares_memory_with_the_buffer(twin: ModuleType) -> None:
    buffer = bytearray(client_frame(0x82, b"abc", b"1234", 0))
    (message,), _ = twin.scan_frames(buffer, 0, 10, 10)
    buffer.clear()  # also: the buffer is not locked any more
    assert message == b"abc"


@given(first=st.integers(0, 255), payload=payloads)
def test_encode_frame(twin: ModuleType, first: int, payload: bytes) -> None:
    expected = plain_frame(first, payload)
    for form in (bytes, bytearray, memoryview):
        result = twin.encode_frame(first, form(payload))
        assert result == expected
        assert type(result) is bytes


@given(
    text=st.one_of(
        st.text(characters), payloads.map(lambda data: data.decode("latin-1"))
    )
)
def test_encode_frame_takes_text(twin: ModuleType, text: str) -> None:
    assert twin.encode_frame(0x81, text) == plain_frame(0x81, text.encode())


def test_encode_frame_refuses_surrogates_and_other_types(twin: ModuleType) -> None:
    with pytest.raises(UnicodeEncodeError):
        twin.encode_frame(0x81, "a\ud800")
    with pytest.raises(TypeError):
        twin.encode_frame(0x81, 5)


@given(
    stream_id=st.integers(1, 2**31 - 1),
    first=st.integers(0, 255),
    payload=st.one_of(payloads, st.text(characters)),
)
def test_encode_data_frame(
    twin: ModuleType, stream_id: int, first: int, payload: str | bytes
) -> None:
    data = payload.encode() if isinstance(payload, str) else payload
    frame = plain_frame(first, data)
    head = len(frame).to_bytes(3, "big") + b"\0\0" + stream_id.to_bytes(4, "big")
    assert twin.encode_data_frame(stream_id, first, payload) == head + frame


@given(
    stream_id=st.integers(0, 2**31 - 1),
    first=st.integers(0, 255),
    payload=st.one_of(payloads, st.text(characters)),
)
def test_masked_frames_say_what_unmasked_ones_do(
    twin: ModuleType, stream_id: int, first: int, payload: str | bytes
) -> None:
    data = payload.encode() if isinstance(payload, str) else payload
    plain = plain_frame(first, data)
    at = len(plain) - len(data)
    if stream_id:
        frame = twin.encode_masked_data_frame(stream_id, first, payload)
        size = (len(plain) + 4).to_bytes(3, "big")
        assert frame[:9] == size + b"\0\0" + stream_id.to_bytes(4, "big")
        frame = frame[9:]
    else:
        frame = twin.encode_masked_frame(first, payload)
    assert type(frame) is bytes
    assert frame[:at] == bytes((plain[0], plain[1] | 0x80)) + plain[2:at]
    assert plain_unmask(frame[at + 4 :], frame[at : at + 4]) == data


@given(
    stream_id=st.integers(1, 2**31 - 1),
    first=st.sampled_from([0x81, 0x82]),
    payload=st.one_of(st.text(max_size=200), st.binary(max_size=200)),
    times=st.sampled_from([1, 2, 400]),
    most=st.one_of(st.integers(14, 300), st.sampled_from([16_384, 2**24 - 1])),
    masked=st.booleans(),
)
def test_encode_data_frames(
    twin: ModuleType,
    stream_id: int,
    first: int,
    payload: str | bytes,
    times: int,
    most: int,
    *,
    masked: bool,
) -> None:
    payload = payload * times
    data = payload.encode() if isinstance(payload, str) else payload
    sent = twin.encode_data_frames(stream_id, first, payload, most, masked=masked)
    assert type(sent) is bytes
    parts = []
    while sent:
        size = int.from_bytes(sent[:3], "big")
        assert sent[3:9] == b"\0\0" + stream_id.to_bytes(4, "big")
        parts.append(sent[9 : 9 + size])
        sent = sent[9 + size :]
    assert all(len(part) == most for part in parts[:-1])
    assert 0 < len(parts[-1]) <= most
    frame, plain = b"".join(parts), plain_frame(first, data)
    if not masked:
        assert frame == plain
        return
    at = len(plain) - len(data)
    assert frame[:at] == bytes((plain[0], plain[1] | 0x80)) + plain[2:at]
    assert plain_unmask(frame[at + 4 :], frame[at : at + 4]) == data


@pytest.mark.parametrize("most", [-1, 0, 13, 2**24])
def test_encode_data_frames_wants_a_size_that_frames_have(
    twin: ModuleType, most: int
) -> None:
    with pytest.raises(ValueError, match="no DATA frame is of that size"):
        twin.encode_data_frames(1, 0x82, b"", most, masked=False)


def test_masking_takes_all_that_is_bytes_and_nothing_else(twin: ModuleType) -> None:
    for form in (bytes, bytearray, memoryview):
        frame = twin.encode_masked_frame(0x82, form(b"abc"))
        assert plain_unmask(frame[6:], frame[2:6]) == b"abc"
    with pytest.raises(UnicodeEncodeError):
        twin.encode_masked_frame(0x81, "a\ud800")
    with pytest.raises(TypeError):
        twin.encode_masked_frame(0x81, 5)
    with pytest.raises(ValueError, match="too long for HTTP/2"):
        twin.encode_masked_data_frame(1, 0x82, bytes(2**24))


def test_every_frame_has_a_key_of_its_own(twin: ModuleType) -> None:
    # more than the pool holds
    keys = [twin.encode_masked_frame(0x82, b"")[2:6] for _ in range(2500)]
    assert len(set(keys)) > 2490  # four equal random bytes may come twice


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_process_has_other_keys(twin: ModuleType) -> None:
    # In a process of its own: this one may have threads, which a fork does not like
    program = (
        "import os, sys\n"
        f"from {twin.__name__} import encode_masked_frame as encode\n"
        "encode(0x82, b'')\n"
        "reader, writer = os.pipe()\n"
        "child = os.fork()\n"
        "keys = b''.join(encode(0x82, b'')[2:6] for _ in range(8))\n"
        "if not child:\n"
        "    os.write(writer, keys)\n"
        "    os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "sys.exit(os.read(reader, 100) == keys)\n"
    )
    command = [sys.executable, "-c", program]
    subprocess.run(command, check=True, timeout=TIMEOUT)


def test_encode_data_frame_ends_where_http2_ends(twin: ModuleType) -> None:
    longest = bytes(2**24 - 1 - 10)
    assert twin.encode_data_frame(1, 0x82, longest)[:3] == b"\xff\xff\xff"
    with pytest.raises(ValueError, match="too long for HTTP/2"):
        twin.encode_data_frame(1, 0x82, longest + b"x")


h2_frames = st.builds(
    lambda head, data: len(data).to_bytes(3, "big") + head + data,
    st.binary(min_size=6, max_size=6),
    st.binary(max_size=300),
)


@given(
    buffer=st.lists(st.one_of(h2_frames, h2_frames, st.binary()), max_size=6),
    cut=st.integers(0, 12),
    max_length=st.one_of(st.just(2**24 - 1), st.integers(0, 300)),
    limit=st.integers(0, 7),
)
def test_split_frames(
    twin: ModuleType, buffer: list[bytes], cut: int, max_length: int, limit: int
) -> None:
    data = b"".join(buffer)
    data = data[: len(data) - cut] if cut < len(data) else data
    expected = plain_split(data, 0, max_length, limit)
    assert twin.split_frames(data, 0, max_length, limit) == expected
    assert twin.split_frames(bytearray(data), 0, max_length, limit) == expected
    assert twin.split_frames(data) == plain_split(data, 0, 2**24 - 1, 2**24)


field_lines = st.one_of(
    st.builds(
        lambda name, space, value, end: name + b":" + space + value + end,
        st.sampled_from(
            [b"Host", b"x", b"X-Y", b"!#$%&'*+-.^_`|~09aZ", b"", b" x", b"x "]
        ),
        st.sampled_from([b"", b" ", b"\t ", b"\r\n "]),
        st.one_of(st.binary(max_size=20), st.sampled_from([b"a: b", b"a \t", b"\xff"])),
        st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r", b""]),
    ),
    st.binary(max_size=9),
)


@given(
    lines=st.lists(field_lines, max_size=6),
    start=st.integers(0, 5),
    limit=st.integers(0, 7),
)
def test_split_fields(
    twin: ModuleType, lines: list[bytes], start: int, limit: int
) -> None:
    head = b"".join(lines) + b"\r\n"
    start = min(start, len(head))
    assert twin.split_fields(head, start, limit) == plain_fields(head, start, limit)


@pytest.mark.parametrize("octet", range(256))
def test_split_fields_knows_every_octet(twin: ModuleType, octet: int) -> None:
    for head in (b"a%cb: c\r\n" % octet, b"a: b%cc\r\n" % octet, b"a: %c\r\n" % octet):
        assert twin.split_fields(head, 0, 1) == plain_fields(head, 0, 1)


def plain_head(head: bytes, limit: int) -> tuple[Any, ...] | None:
    """Split a head by the plainest rules; leave out what a usual one says."""
    line, _, _ = head.partition(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3 or not is_token(parts[0]) or not parts[1]:
        return None
    if not all(0x21 <= octet <= 0x7E for octet in parts[1]):
        return None
    if parts[2] not in {b"HTTP/1.0", b"HTTP/1.1"} or len(line) == len(head):
        return None
    fields, stop = plain_fields(head, len(line) + 2, limit)
    if head[stop:] != b"\r\n":
        return None
    return parts[0].decode(), parts[1].decode(), parts[2][5:].decode(), fields


ruled_lines = st.builds(
    lambda name, value: name + b": " + value + b"\r\n",
    st.sampled_from([name.title() for name in sorted(_pure._RULED)] + [b"Accept"]),
    st.sampled_from(
        [
            *(b"a", b"a.b:80", b"a:", b"a:65535", b"a:65536", b"a:000080", b"[::1]"),
            *(b"", b"a b", b"u@a", b"12", b"012", b"+1", b"9" * 18, b"9" * 19, b"1,1"),
            *(b"keep-alive", b"Keep-Alive", b"close", b"keep-alive, x", b"chunked"),
        ]
    ),
)
request_heads = st.builds(
    lambda method, target, version, host, lines, end: b"".join(
        (method, b" ", target, b" ", version, b"\r\n", host, *lines, end)
    ),
    st.sampled_from([b"GET", b"POST", b"x", b"CONNECT", b"", b"G T", b"M" * 99]),
    st.sampled_from([b"/", b"/a?b", b"/%41#", b"*", b"http://a/", b"", b"/\x80", b"a"]),
    st.sampled_from([b"HTTP/1.1", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.2", b"http/1.1"]),
    st.sampled_from([b"Host: a\r\n", b"hOsT:a.b:80 \r\n", b""]),
    st.lists(st.one_of(ruled_lines, field_lines), max_size=4),
    st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"", b"\r\n\r\n", b"\n"]),
)
strange = st.sampled_from(
    [b"", b" ", b"\t", b"\r", b"\n", b"\r\n", b":", b"/", b"#", b"\0", b"\x7f", b"\xff"]
)


@given(
    head=request_heads,
    changes=st.lists(
        st.tuples(st.integers(0, 99), st.integers(0, 3), strange), max_size=2
    ),
    limit=st.integers(0, 7),
)
def test_split_head(
    twin: ModuleType, head: bytes, changes: list[tuple[int, int, bytes]], limit: int
) -> None:
    for at, size, octets in changes:
        head = head[:at] + octets + head[at + size :]
    for part in (head, head[: len(head) // 2]):
        found = twin.split_head(part, limit)
        assert found == _pure.split_head(part, limit)
        assert (found and found[:4]) == plain_head(part, limit)


@given(
    known=request_heads,
    head=request_heads,
    at=st.integers(0, 99),
    limit=st.integers(0, 7),
)
def test_a_head_that_is_known_does_not_change_what_another_is(
    twin: ModuleType, known: bytes, head: bytes, at: int, limit: int
) -> None:
    split = twin.split_head(known, 7)
    if split is None:
        return
    for other in (head, known, known[:at] + head[at:], known[:at] + b"x" + known[at:]):
        found = twin.split_head(other, limit, known, split[3])
        assert found == _pure.split_head(other, limit)


@given(head=st.binary(max_size=40), limit=st.integers(0, 7))
def test_split_head_stops_at_anything_else(
    twin: ModuleType, head: bytes, limit: int
) -> None:
    expected = plain_head(head, limit)
    found = twin.split_head(head, limit)
    assert (found and found[:4]) == expected


@pytest.mark.parametrize("octet", range(256))
def test_split_head_knows_every_octet(twin: ModuleType, octet: int) -> None:
    for head in (
        b"a%cb / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"a /%c HTTP/1.1\r\nhost: a\r\n\r\n",
        b"a %c HTTP/1.1\r\nhost: a\r\n\r\n",
        b"a / HTTP/1.%c\r\nhost: a\r\n\r\n",
        b"a / HTTP/1.1\r\nhost: %c\r\n\r\n",
        b"a / HTTP/1.1\r\nhost: a:%c\r\n\r\n",
        b"a / HTTP/1.1\r\nhost: a\r\ncontent-length: %c\r\n\r\n",
        b"a / HTTP/1.1\r\nhost: a\r\nconnection: keep%calive\r\n\r\n",
    ):
        found = twin.split_head(head % octet, 9)
        assert found == _pure.split_head(head % octet, 9)
        assert (found and found[:4]) == plain_head(head % octet, 9)


def test_a_usual_head(twin: ModuleType) -> None:
    head = (
        b"POST /a?b HTTP/1.1\r\nHost: a:80\r\nCONNECTION: Keep-Alive\r\n"
        b"Content-Length: 012\r\nX-Forwarded-For: b\r\n\r\n"
    )
    method, target, version, fields, usual = twin.split_head(head, 4)
    assert (method, target, version) == ("POST", "/a?b", "1.1")
    assert fields[2] == (b"content-length", b"012")
    assert usual == ("a:80", 12, True)
    assert twin.split_head(head, 3) is None


def test_names_are_told_apart_whatever_was_seen_before(twin: ModuleType) -> None:
    # the native twin keeps one name for each first and last letter and length
    names = [b"abcd", b"abdd", b"ABCD", b"acbd", b"abcd", b"a" * 40, b"a" * 40 + b"b"]
    for name in names:
        fields, _ = twin.split_fields(name + b": 1\r\n", 0, 1)
        assert fields == [(name.lower(), b"1")]


class PlainInbox:
    """The plainest ``Inbox``; ``credits`` and ``wakes`` are what it has said."""

    def __init__(
        self, max_payload: int, most: int, least: int, *, masked: bool
    ) -> None:
        self.limits = max_payload, most, least
        self.masked = masked
        self.messages: list[str | bytes] = []
        self.received = 0
        self.held = 0
        self.plain = True
        self.credits: list[int] = []
        self.wakes = 0

    def take(self, data: bytes) -> bool:
        max_payload, most, _ = self.limits
        room = most - len(self.messages)
        messages, end = plain_scan(data, 0, max_payload, room, masked=self.masked)
        if not data or not self.plain or end != len(data):
            return False
        self.messages += messages
        self.received += len(messages)
        self.held += end
        self.wakes += 1
        return True

    def pop(self) -> str | bytes:
        message = self.messages.pop(0)
        waiting = len(self.messages)
        if self.held > self.limits[2] and (not waiting or self.held >= 16 * 1024):
            self.credits.append(self.held // (waiting + 1))
            self.held -= self.credits[-1]
        return message


class Told:
    """What an ``Inbox`` of a twin has said."""

    def __init__(self, twin: ModuleType, *limits: int, masked: bool) -> None:
        self.credits: list[int] = []
        self.wakes = 0
        kind = twin.Inbox if masked else twin.UnmaskedInbox
        self.inbox = kind(self._wake, self.credits.append, *limits)

    def _wake(self) -> None:
        self.wakes += 1

    def equals(self, plain: PlainInbox) -> bool:
        inbox = self.inbox
        mine = list(inbox.messages), inbox.held, inbox.received
        its = plain.messages, plain.held, plain.received
        said = self.credits, self.wakes
        return mine == its and said == (plain.credits, plain.wakes)


limits = st.tuples(
    st.one_of(st.just(2**62), sizes), st.integers(0, 9), st.integers(0, 9000)
)


@given(
    limits=limits,
    steps=st.lists(
        st.one_of(
            streams,
            good_frames,
            server_streams,
            server_frames,
            st.just("pop"),
            st.booleans(),
        ),
        max_size=20,
    ),
    masked=st.booleans(),
)
def test_an_inbox(
    twin: ModuleType,
    limits: tuple[int, int, int],
    steps: list[bytes | str | bool],
    masked: bool,
) -> None:
    plain = PlainInbox(*limits, masked=masked)
    told = Told(twin, *limits, masked=masked)
    assert told.inbox.least == limits[2]
    for step in steps:
        if isinstance(step, bool):
            told.inbox.plain = plain.plain = step
        elif isinstance(step, bytes):
            assert told.inbox.take(step) is plain.take(step)
        elif plain.messages:
            message = plain.pop()
            assert told.inbox.pop() == message
        else:
            with pytest.raises(IndexError):
                told.inbox.pop()
        assert told.equals(plain)


def plain_weight(messages: list[Any]) -> int:
    total = 0
    for message in messages:
        if isinstance(message, str) and not message.isascii():
            total += sys.getsizeof(message)
        else:
            total += 64 + len(message) if isinstance(message, str | bytes) else 256
    return total


anything = st.one_of(st.text(max_size=9), st.binary(max_size=9), st.none())


@given(messages=st.lists(anything, max_size=9))
def test_weigh(twin: ModuleType, messages: list[Any]) -> None:
    assert twin.weigh(messages) == plain_weight(messages)


@given(
    heaviest=st.integers(0, 900),
    steps=st.lists(
        st.one_of(
            st.builds(
                lambda text: client_frame(0x81, text.encode(), b"1234", 0),
                st.text(max_size=40),
            ),
            st.lists(anything, max_size=5),
            st.sampled_from(["pop", "clear"]),
        ),
        max_size=20,
    ),
)
def test_an_inbox_knows_its_weight(
    twin: ModuleType, heaviest: int, steps: list[bytes | list[Any] | str]
) -> None:
    inbox = Told(twin, 2**30, 2**30, 2**30, heaviest, masked=True).inbox
    for step in steps:
        before = inbox.weight
        if isinstance(step, list):
            inbox.put(step)
        elif isinstance(step, bytes):
            assert inbox.take(step) is (before < heaviest)
        elif step == "clear":
            inbox.clear()
        elif inbox.messages:
            inbox.pop()
        assert inbox.weight == plain_weight(list(inbox.messages))


class Stream:
    def __init__(self, window: int) -> None:
        self.window = window


tunnel_frames = st.builds(
    lambda stream_id, data: (
        len(data).to_bytes(3, "big") + bytes(2) + stream_id.to_bytes(4, "big") + data
    ),
    st.sampled_from([1, 1, 3, 5, 7, 2**31 + 1]),
    st.one_of(streams, good_frames, good_frames),
)


def in_frames(stream_id: int, octets: bytes, cuts: list[int]) -> list[bytes]:
    """Return DATA frames of one stream, with the cuts between them."""
    places = [0, *sorted(cut for cut in cuts if 0 < cut < len(octets)), len(octets)]
    return [
        (end - start).to_bytes(3, "big")
        + bytes(2)
        + stream_id.to_bytes(4, "big")
        + octets[start:end]
        for start, end in itertools.pairwise(places)
        if start < end
    ]


spread_messages = st.builds(
    in_frames,
    st.sampled_from([1, 1, 3]),
    st.one_of(good_frames, good_frames, odd_frames),
    st.lists(st.integers(1, 400), max_size=4),
)


def plain_spread(
    found: list[tuple[int, int, int, int, int]], data: bytes, room: int
) -> tuple[bytes, int]:
    """Return what ``pure._spread`` does, of frames that are cut off already."""
    if found[0][4] - found[0][3] < 14 or data[found[0][3]] not in b"\x81\x82":
        return b"", 0
    octets, head = b"", data[found[0][3] - 4 : found[0][3]]
    for count, (kind, flags, _, start, stop) in enumerate(found, 1):
        if kind or flags or start == stop or data[start - 4 : start] != head:
            break
        octets += data[start:stop]
        (_, end) = plain_scan(octets, 0, 2**62, 1, masked=True)
        if count > 1 and (end or len(octets) > room):
            return (octets, count) if end == len(octets) <= room else (b"", 0)
    return b"", 0


@given(
    buffer=st.lists(
        st.one_of(
            tunnel_frames.map(lambda frame: [frame]),
            h2_frames.map(lambda frame: [frame]),
            spread_messages,
            spread_messages,
        ),
        max_size=8,
    ).map(lambda found: [frame for frames in found for frame in frames]),
    cut=st.integers(0, 12),
    windows=st.tuples(sizes, sizes, sizes),
    limits=limits,
    max_length=st.one_of(st.just(16_384), sizes),
    limit=st.integers(0, 9),
)
def test_take_data(
    twin: ModuleType,
    buffer: list[bytes],
    cut: int,
    windows: tuple[int, int, int],
    limits: tuple[int, int, int],
    max_length: int,
    limit: int,
) -> None:
    data = b"".join(buffer)
    data = data[: len(data) - cut] if cut < len(data) else data
    left, *rest = windows
    plain = {each: PlainInbox(*limits, masked=True) for each in (1, 3)}
    told = {each: Told(twin, *limits, masked=True) for each in (1, 3)}
    sent = dict(zip(plain, rest, strict=True))
    lane = {i: (Stream(sent[i]), told[i].inbox) for i in told}
    lane[5] = (Stream(10_000), None)
    position = twin.take_data(data, 0, left, lane, max_length, limit)
    end = 0
    found, _ = plain_split(data, 0, max_length, limit)
    while found:
        kind, flags, stream_id, start, stop = found[0]
        size, count = stop - start, 1
        if kind or flags or stream_id not in plain or size > min(left, sent[stream_id]):
            break
        if not plain[stream_id].take(data[start:stop]):
            room = min(left, sent[stream_id])
            octets, count = plain_spread(found, data, room)
            if not count or not plain[stream_id].take(octets):
                break
            size = len(octets)
        sent[stream_id] -= size
        left -= size
        end = found[count - 1][4]
        del found[:count]
    assert position == (end, left)
    assert {i: lane[i][0].window for i in sent} == sent
    assert all(told[i].equals(plain[i]) for i in plain)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("size", [16_381, 16_384, 60_000, 70_000])
def test_a_message_in_several_frames_is_taken_at_once(
    twin: ModuleType, size: int, masked: bool
) -> None:
    text = "x" * size
    frame = (
        client_frame(0x81, text.encode(), b"1234", 0)
        if masked
        else server_frame(0x81, text.encode(), 0)
    )
    frames = in_frames(1, frame, list(range(16_384, len(frame), 16_384)))
    assert len(frames) > 1
    for window, other in ((2**30, False), (len(frame) - 1, False), (2**30, True)):
        told = Told(twin, 2**30, 9, 0, masked=masked)
        lane = {1: (Stream(window), told.inbox), 3: (Stream(window), told.inbox)}
        between = in_frames(3, b"x", []) if other else []
        data = b"".join([frames[0], *between, *frames[1:]])
        end, left = twin.take_data(data, 0, 2**30, lane, 16_384, 256)
        if window < len(frame) or other:
            assert (end, left, lane[1][0].window) == (0, 2**30, window)
            assert not told.inbox.messages
        else:
            assert end == len(data)
            assert 2**30 - left == window - lane[1][0].window == len(frame)
            assert list(told.inbox.messages) == [text]
            assert told.inbox.held == len(frame)


huffman_codes = st.binary(max_size=60).map(
    HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH).encode
)


def field_table(twin: ModuleType) -> Any:
    """Return a table of fields that know nothing but their pair and their size."""

    def read(name: bytes, value: bytes) -> tuple[tuple[bytes, bytes], None, int]:
        return (name, value), None, 32 + len(name) + len(value)

    static = [(b"", b""), *HeaderTable.STATIC_TABLE]
    return twin.FieldTable([read(*field) for field in static], read, {}, None)


def decode_huffman(twin: ModuleType, code: bytes) -> bytes:
    """Return a value that comes in Huffman code."""
    size = len(code)
    head = (
        bytes([0x80 | size])
        if size < 127
        else (bytes([0xFF, size - 127 & 0x7F | 0x80, size - 127 >> 7]))
    )  # RFC 7541 §5.1
    ((field, _, _),) = field_table(twin).decode(b"\0\1a" + head + code, 2**30)
    value: bytes = field[1]
    return value


@given(
    data=st.one_of(
        huffman_codes,
        st.binary(max_size=60),
        st.builds(lambda code, more: code + more, huffman_codes, st.binary(max_size=5)),
        st.builds(lambda code, cut: code[:-cut], huffman_codes, st.integers(1, 3)),
    )
)
def test_huffman_codes(twin: ModuleType, data: bytes) -> None:
    try:
        expected = huffman_table.decode_huffman(data)
    except hpack.HPACKDecodingError:
        with pytest.raises(hpack.HPACKDecodingError):
            decode_huffman(twin, data)
    else:
        result = decode_huffman(twin, data)
        assert result == expected
        assert type(result) is bytes


@pytest.mark.parametrize("octet", range(256))
def test_huffman_codes_of_every_octet(twin: ModuleType, octet: int) -> None:
    encoder = HuffmanEncoder(REQUEST_CODES, REQUEST_CODES_LENGTH)
    for size in range(1, 9):  # each ends elsewhere in its last byte
        text = bytes([octet]) * size
        assert decode_huffman(twin, encoder.encode(text)) == text


@st.composite
def header_blocks(draw: DrawFn) -> list[bytes]:
    """Blocks of another implementation, some of them with a few octets changed."""
    encoder = hpack.Encoder()
    names = st.sampled_from([b":path", b"cookie", b"x-a", b"x" * 40])
    fields = st.tuples(names, st.binary(max_size=90), st.booleans())
    blocks: list[bytes] = []
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 5)) == 0:
            encoder.header_table_size = draw(st.sampled_from([0, 100, 4096]))
        block = bytearray(
            encoder.encode(
                [
                    hpack.NeverIndexedHeaderTuple(name, value)
                    if secret
                    else hpack.HeaderTuple(name, value)
                    for name, value, secret in draw(st.lists(fields, max_size=8))
                ],
                huffman=draw(st.booleans()),
            )
        )
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 3]))):
            if block:
                block[draw(st.integers(0, len(block) - 1))] = draw(st.integers(0, 255))
        blocks.append(bytes(block))
    return blocks


@given(
    blocks=header_blocks() | st.lists(st.binary(max_size=40), max_size=4),
    room=st.sampled_from([0, 100, 2**30]),
)
def test_decode_says_what_the_library_says(
    twin: ModuleType, blocks: list[bytes], room: int
) -> None:
    table, oracle = field_table(twin), hpack.Decoder(room)
    for block in blocks:
        error: type[hpack.HPACKError] | None = None
        try:
            fields = oracle.decode(block, raw=True)
        except hpack.HPACKError as raised:
            newest = hpack.InvalidTableIndexError
            error = newest if isinstance(raised, newest) else type(raised)
        if error is None:
            assert [f for f, _, _ in table.decode(block, room)] == list(
                map(tuple, fields)
            )
            never = [type(f) is hpack.NeverIndexedHeaderTuple for f in fields]
            assert not (table.repeatable and any(never))
        else:
            with pytest.raises(error):
                table.decode(block, room)
        dynamic = [f for f, _, _ in table.fields[62:]]
        assert dynamic == list(oracle.header_table.dynamic_entries)
        if error is not None:
            return


@pytest.mark.parametrize(
    ("block", "repeatable"),
    [
        (b"", True),
        (b"\x82\x04\x02/a\x00\x01a\x01b", True),
        (b"\x82\x14\x02/a", False),  # never indexed
        (b"\x82\x44\x02/a", False),  # enters the table
        (b"\x3f\xe1\x1f\x82", False),  # a size update
    ],
)
def test_a_block_is_repeatable_or_not(
    twin: ModuleType, block: bytes, repeatable: bool
) -> None:
    table = field_table(twin)
    assert table.repeatable is False
    for _ in range(2):
        table.decode(block, 2**30)
        assert table.repeatable is repeatable


def test_a_socket_takes_what_it_has_room_for(twin: ModuleType) -> None:
    ours, peer = socket.socketpair()
    with peer:
        with ours:
            ours.setblocking(False)
            assert twin.send_now(ours.fileno(), b"") == 0
            assert twin.send_now(ours.fileno(), b"at once") == 7
            assert peer.recv(100) == b"at once"
            data = bytes(range(256)) * 16384
            taken = twin.send_now(ours.fileno(), data)
            assert 0 < taken < len(data)
            assert twin.send_now(ours.fileno(), data) == 0  # not even that waits
            peer.shutdown(socket.SHUT_WR)  # half closed, it reads on
            got = b""
            while len(got) < taken:
                got += peer.recv(taken)
            assert got == data[:taken]
            assert twin.send_now(ours.fileno(), b"still") == 5
        assert twin.send_now(-1, b"closed") == 0
    ours, peer = socket.socketpair()
    with ours:
        ours.setblocking(False)
        peer.close()
        assert twin.send_now(ours.fileno(), b"to nobody") == 0


@given(
    name=st.sampled_from([b"known", b":known", b"unknown", b"a", b"A", b"", b"\x80"])
    | st.binary(max_size=4),
    value=st.binary(max_size=20) | st.from_regex(rb"\A[ a-z\t\x80]{,20}\Z"),
)
def test_a_field_is_read_whose_name_does_not_say_enough(
    twin: ModuleType, name: bytes, value: bytes
) -> None:
    def read(name: bytes, value: bytes) -> tuple[tuple[bytes, bytes], str, int]:
        return (name, value), "read", 0

    static = [read(b"", b"")]
    kinds = {b"known": "known", b":known": "known", b"unknown": None}
    table = twin.FieldTable(static, read, kinds, "plain")
    literal = b"".join(bytes([len(text)]) + text for text in (name, value))
    kind = kinds.get(name, "plain" if is_lower_name(name) else None)
    expected = read(name, value)
    if kind is not None and is_field_value(value):
        expected = (name, value), kind, 32 + len(name) + len(value)
    assert table.decode(b"\0" + literal, 2**30) == [expected]


PSEUDO_FIELDS: list[tuple[bytes, bytes]] = [
    (b":method", b"GET"),
    (b":scheme", b"https"),
    (b":path", b"/a"),
    (b":authority", b"b"),
]
LIMITS = 4, 150, 400, 20
large = st.integers(0, 30).map(b"x".__mul__)
request_fields = st.sampled_from(
    [
        *PSEUDO_FIELDS,
        (b":protocol", b"websocket"),
        (b"content-length", b"012"),
        (b"content-length", b"1" * 19),
        (b"x-forwarded-for", b"a"),
        (b"host", b"b"),
        (b"te", b"trailers"),
    ]
) | st.tuples(
    st.sampled_from([b":method", b":path", b":authority", b"a", b"cookie", b"cookie"]),
    large
    | st.sampled_from([b"POST", b"CONNECT", b"/" * 21, b"*", b"/\x7f", b"/ ", b"\x80"])
    | st.sampled_from([b"", b" a", b"a\t", b"a=b"]),
)


def judged(fields: list[tuple[bytes, bytes]]) -> list[Any]:
    return [read_field(*field) for field in fields]


@given(
    head=st.permutations(PSEUDO_FIELDS),
    others=st.lists(request_fields, max_size=6),
    changes=st.lists(st.tuples(st.integers(0, 9), request_fields), max_size=2),
    limits=st.sampled_from([LIMITS, (99, 2**20, 2**62, 99)]),
)
def test_usual_request(
    twin: ModuleType,
    head: list[tuple[bytes, bytes]],
    others: list[tuple[bytes, bytes]],
    changes: list[tuple[int, tuple[bytes, bytes]]],
    limits: tuple[int, ...],
) -> None:
    fields = [*head, *others]
    for at, field in changes:
        fields[at : at + 1] = [field]
    given_fields = judged(fields)
    found = twin.usual_request(given_fields, limits)
    assert found == _pure.usual_request(judged(fields), limits)
    assert given_fields == judged(fields)


any_field = st.tuples(
    st.tuples(st.sampled_from([b"a", b"content-length", b"forwarded"]), st.binary()),
    st.integers(-1, 5),
    st.just(0),
)


@given(fields=st.lists(any_field, max_size=6))
def test_usual_request_takes_kinds_by_their_word(
    twin: ModuleType, fields: list[Any]
) -> None:
    fields = [(pair, 1, 0) for pair in PSEUDO_FIELDS] + fields
    found = twin.usual_request(fields, LIMITS)
    assert found == _pure.usual_request(fields, LIMITS)


@pytest.mark.parametrize("octet", range(256))
def test_usual_request_knows_every_octet(twin: ModuleType, octet: int) -> None:
    one = bytes([octet])
    for at, value in enumerate((one, one, b"/" + one, one)):
        pairs = PSEUDO_FIELDS.copy()
        pairs[at] = pairs[at][0], value
        fields = [(pair, 1, 0) for pair in pairs]
        found = twin.usual_request(fields, LIMITS)
        assert found == _pure.usual_request(fields, LIMITS)
    for name, kind in (
        (b"content-length", FieldKind.RULED),
        (b"cookie", FieldKind.CRUMB),
    ):
        fields = [*judged(PSEUDO_FIELDS), ((name, one), kind, 0)]
        found = twin.usual_request(fields, LIMITS)
        assert found == _pure.usual_request(fields, LIMITS)


def test_a_usual_request(twin: ModuleType) -> None:
    crumbs = [(b"cookie", b"a"), (b"x", b"1"), (b"cookie", b"b")]
    said = [(b"content-length", b"012"), (b"forwarded", b"for=a")]
    fields = [*PSEUDO_FIELDS, *crumbs, *said]
    text, listed = "GET /a HTTP/1.1\r\nHost: b\r\n\r\n", 0
    own = [(b"host", b"b"), (b"cookie", b"a; b"), (b"x", b"1"), *said]
    lines = len(text) + sum(len(n) + len(v) + 4 for n, v in own[1:])
    listed = sum(len(n) + len(v) + 32 for n, v in [*PSEUDO_FIELDS, *own[1:]])
    limits = [4, lines, listed, 2]
    expected = "GET", "/a", "https", "b", own, 12, True
    assert twin.usual_request(judged(fields), tuple(limits)) == expected
    for at in range(4):
        fewer = limits.copy()
        fewer[at] -= 1
        assert twin.usual_request(judged(fields), tuple(fewer)) is None


@given(
    stream_id=st.integers(1, 2**31 - 1),
    block=st.binary(max_size=300),
    body=st.binary(max_size=300),
)
def test_encode_response(
    twin: ModuleType, stream_id: int, block: bytes, body: bytes
) -> None:
    data = twin.encode_response(stream_id, block, body)
    assert type(data) is bytes
    frames, end = twin.split_frames(data)
    assert end == len(data)
    assert [(*frame[:3], data[frame[3] : frame[4]]) for frame in frames] == [
        (1, 4, stream_id, block),
        (0, 1, stream_id, body),
    ]


def test_a_response_that_is_too_long_for_a_frame(twin: ModuleType) -> None:
    most = bytes(2**24 - 1)
    assert len(twin.encode_response(1, b"", most)) == len(most) + 18
    for parts in ((most + b"a", b""), (b"", most + b"a")):
        with pytest.raises(ValueError, match="too long for HTTP/2"):
            twin.encode_response(1, *parts)


def test_nothing_leaks(twin: ModuleType) -> None:
    text = "x" * 50_000
    frame = client_frame(0x81, text.encode(), b"1234", 0)
    buffer = frame + client_frame(0x82, b"y" * 50_000, b"1234", 0)
    buffer += client_frame(0x81, "é".encode() * 50, b"1234", 0)
    buffer += client_frame(0x81, b"\xff" * 50_000, b"1234", 0)

    def use_everything() -> None:
        for _ in range(200):
            messages, _ = twin.scan_frames(buffer, 0, 2**30, 10)
            assert len(messages) == 3
            twin.encode_frame(0x81, text)
            twin.encode_data_frame(1, 0x81, text + "é")
            twin.unmask(buffer, b"1234", 1)
            twin.split_frames(buffer)
            twin.split_fields(b"x" * 50_000 + b": " + b"y" * 50_000 + b"\r\n", 0, 9)
            table = field_table(twin)
            for _ in range(50):
                table.decode(b"\x40\x01a" + b"\x7f\x81\x01" + bytes(256), 2**30)
            decode_huffman(twin, bytes(5_000))
            large_head = [*PSEUDO_FIELDS, *[(b"cookie", bytes([97]) * 5_000)] * 9]
            assert twin.usual_request(judged(large_head), (99, 2**20, 2**20, 99))
            assert not twin.usual_request(judged(large_head), LIMITS)
            inbox = twin.Inbox(int, int, 2**30, 10, 0)
            lane = {1: (Stream(2**30), inbox)}
            data = len(frame).to_bytes(3, "big") + b"\0\0\0\0\0\1" + frame
            assert twin.take_data(data, 0, 2**30, lane, 2**24, 9)[0] == len(data)
            assert inbox.pop() == text
            assert not inbox.take(buffer)
            for function, *args in (
                (twin.encode_frame, 0x81, text + "\ud800"),
                (twin.scan_frames, buffer, -1, 1, 1),
                (twin.unmask, buffer, b"123"),
                (decode_huffman, twin, b"\xff" * 5_000),
                (table.decode, b"\x40\x01a\x03b", 2**30),
                (table.decode, b"\xbe" * 9, 99),
            ):
                try:
                    function(*args)
                except (ValueError, hpack.HPACKError):
                    continue
                pytest.fail("it should have raised")

    use_everything()
    gc.collect()
    counts = sys.getrefcount(text), sys.getrefcount(buffer)
    tracemalloc.start()
    try:
        use_everything()
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 100_000  # one result leaked per round would be 10 MB
    assert (sys.getrefcount(text), sys.getrefcount(buffer)) == counts


@pytest.mark.parametrize("pure", ["1", ""])
def test_byteloops_picks_the_twin(twin: ModuleType, pure: str) -> None:
    expected = twin if not pure else _pure
    built = any(pathlib.Path(_pure.__file__).parent.glob("speedups.*.so"))
    if twin is _pure and not pure and built:
        pytest.skip("the native twin is built: nothing to fall back from")
    script = (
        "from tako.native.loops import NATIVE, unmask\nprint(NATIVE, unmask.__module__)"
    )
    root = pathlib.Path(_pure.__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "TAKO_PURE": pure, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    assert result.stdout.split() == [str(expected is not _pure), expected.__name__]
