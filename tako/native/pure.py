"""The byte loops in Python: the twin of ``speedups.pyx``, equal in behaviour.

Use them through ``tako.native.loops``, which picks the twin. Frames of a client are
masked (RFC 6455 §5.3), those of a server are not; HTTP/2 frames have heads of nine
bytes (RFC 9113 §4.1).
"""

import os
import re
import string
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from hpack import (
    HPACKDecodingError,
    InvalidTableIndexError,
    InvalidTableSizeError,
    OversizedHeaderListError,
    huffman_table,
)


_BYTE = [bytes((value,)) for value in range(256)]
_EVERY_BYTE = int.from_bytes(bytes(range(256)), "little")
_ONES = int.from_bytes(b"\1" * 256, "little")
_XOR_TABLES = [
    (_EVERY_BYTE ^ _ONES * key).to_bytes(256, "little") for key in range(256)
]
_LARGE = 4096
"""Bytes from which four ``translate`` strides beat one long integer."""

_SMALL_HEAD = struct.Struct("<BBI")  # first byte, mask bit and length, masking key
_REPEAT = [int.from_bytes((b"\1\0\0\0" * 32)[:size], "little") for size in range(126)]
_LOW_BYTES = [(1 << 8 * size) - 1 for size in range(126)]

_POOL = 4096  # bytes of masking keys that are asked of the system at a time
_SHARE = 16 * 1024  # bytes held from which each message gives its share back
_OBJECT = 64  # bytes that a small message costs beside its content
_CONTROL = 256  # bytes that a control message costs at most
_FRAME_HEAD = struct.Struct(">HBBBI")  # length (16 + 8 bits), type, flags, stream
_DATA, _HEADERS = 0, 1  # types of frames: RFC 9113 §6.1, §6.2
_END_STREAM, _END_HEADERS = 0x01, 0x04
_MAX_H2_LENGTH = (1 << 24) - 1
_LONGEST_HEAD = 14  # bytes of a frame before its payload: RFC 6455 §5.2

# RFC 9110 §5.6.2, §5.5: a token's characters, and a field value's
_NAME = b"!#$%&'*+-.^_`|~" + (string.digits + string.ascii_letters).encode()
_LOWER = _NAME.translate(None, string.ascii_uppercase.encode())
_VALUE = bytes((0x09, *range(0x20, 0x7F), *range(0x80, 0x100)))
_FIELD_LINE = re.compile(
    b"([" + re.escape(_NAME) + b"]++):([" + re.escape(_VALUE) + b"]*+)\r\n"
)

_REQUEST_LINE = re.compile(  # RFC 9112 §3
    b"([" + re.escape(_NAME) + rb"]++) ([\x21-\x7e]++) HTTP/(1\.[01])\r\n"
)
_PATH = bytes((0x21, 0x22, *range(0x24, 0x7F)))  # RFC 9112 §3.2.1: no fragment
# RFC 3986 §3.2.2: a name or an IPv4 address
_REG_NAME = b"-._~!$&'()*+,;=%" + (string.digits + string.ascii_letters).encode()
_ORIGIN_FORM = re.compile(rf"/[{re.escape(_PATH.decode())}]*+")
_HOST_PORT = re.compile(b"[" + re.escape(_REG_NAME) + rb"]++(?::([0-9]{0,5}))?")
_MAX_PORT = 65535
_MAX_DIGITS = 18  # of a number that 64 bits hold, whatever the digits are
_FORWARDED = frozenset(
    [
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
    ]
)
_RULED = _FORWARDED | frozenset(
    [
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
    ]
)
"""Fields of a request that mean something to its receiver."""

TABLE_SIZE = 4096
"""Bytes of a dynamic table, by default and at most (RFC 9113 §6.5.2)."""
_LISTED = 32  # bytes that a field counts beside its text (RFC 7541 §4.1)
# What a field of HTTP/2 is: the numbers of ``h2.fields.FieldKind``
_PLAIN_KIND, _PSEUDO_KIND, _CRUMB_KIND, _RULED_KIND = range(4)
_PSEUDO_NAMES = {b":method", b":scheme", b":path", b":authority"}
_SCHEMES = (b"http", b"https")
_MAX_METHOD = 64  # bytes, as ``http.grammar`` has it
# What is in the lines of HTTP/1.1 beside the text: ": " and CRLF around each field; a
# request line but method and path, and the empty line
_AROUND_FIELD = 4
_AROUND_LINE = len("  HTTP/1.1\r\n\r\n")
_SHIFTS = range(0, 35, 7)  # of the octets behind an integer's prefix: five are enough

_Field: TypeAlias = tuple[tuple[bytes, bytes], Any, int]

Version: TypeAlias = Literal["1.0", "1.1"]
Usual: TypeAlias = tuple[str, int, bool]
"""What a usual head says: its host, the length of its body, whether it is forwarded."""

UsualRequest: TypeAlias = tuple[
    str, str, str, str, list[tuple[bytes, bytes]], int | None, bool
]
"""What the head of a usual HTTP/2 request says: method, path, scheme and authority; the
fields, ``host`` the first; the length of the body; whether it is forwarded."""


def unmask(data: bytes | bytearray | memoryview, mask: bytes, offset: int = 0) -> bytes:
    """Return ``data`` unmasked (RFC 6455 §5.3).

    Args:
        data: part of a payload.
        mask: the four bytes of the masking key.
        offset: how many bytes of the payload precede ``data``.

    Raises:
        ValueError: ``mask`` is not four bytes long.
    """
    if len(mask) != 4:
        msg = "a masking key has four bytes"
        raise ValueError(msg)
    if offset & 3:
        mask = mask[offset & 3 :] + mask[: offset & 3]
    size = len(data)
    if size >= _LARGE:
        return _unmask_large(data, mask)
    key = int.from_bytes((mask * ((size >> 2) + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


def _unmask_large(data: bytes | bytearray | memoryview, mask: bytes) -> bytes:
    result = bytearray(len(data))
    for index in range(4):
        result[index::4] = bytes(data[index::4]).translate(_XOR_TABLES[mask[index]])
    return bytes(result)


def scan_frames(
    buffer: bytes | bytearray, start: int, max_payload: int, limit: int
) -> tuple[list[Any], int]:
    """Take complete data messages of one frame each off the front of ``buffer``.

    Stops at the first frame that is anything else: control, fragment, reserved bit,
    unmasked, length not minimal, more than ``max_payload`` bytes, text that is not
    UTF-8, or incomplete; the caller decides about it.

    Args:
        buffer: WebSocket frames of a client.
        start: where the first frame begins.
        max_payload: the largest payload to take, in bytes.
        limit: how many messages to take at most.

    Returns:
        the messages, each ``str`` or ``bytes``; and where the first frame not taken
        begins.

    Raises:
        ValueError: ``start`` is outside of ``buffer``.
    """
    messages: list[str | bytes] = []
    end = len(buffer)
    if not 0 <= start <= end:
        msg = "start is outside of the buffer"
        raise ValueError(msg)
    unpack = _SMALL_HEAD.unpack_from
    first: int
    second: int
    key: int
    while end - start >= 6 and len(messages) < limit:
        first, second, key = unpack(buffer, start)  # RFC 6455 §5.2
        size = second - 0x80
        if (first != 0x81 and first != 0x82) or size < 0:  # noqa: PLR1714 - no set
            break
        if size < 126:
            at = start + 6
            stop = at + size
            if stop > end or size > max_payload:
                break
            # ``unmask`` of what follows, without its slices: half the time
            mask = key * _REPEAT[size] & _LOW_BYTES[size]
            plain = int.from_bytes(buffer[at:stop], "little") ^ mask
            data = plain.to_bytes(size, "little")
        else:
            stop = _large_frame_end(buffer, start, max_payload)
            if not stop:
                break
            at = start + (8 if size == 126 else 14)
            data = unmask(buffer[at:stop], bytes(buffer[at - 4 : at]))
        if first == 0x82:
            messages.append(data)
        else:
            try:
                messages.append(data.decode())
            except UnicodeDecodeError:
                break
        start = stop
    return messages, start


def scan_unmasked_frames(
    buffer: bytes | bytearray, start: int, max_payload: int, limit: int
) -> tuple[list[Any], int]:
    """Do what ``scan_frames`` does, with frames of a server: masked ones are not taken.

    Raises:
        ValueError: ``start`` is outside of ``buffer``.
    """
    messages: list[str | bytes] = []
    end = len(buffer)
    if not 0 <= start <= end:
        msg = "start is outside of the buffer"
        raise ValueError(msg)
    while end - start >= 2 and len(messages) < limit:
        first, size = buffer[start], buffer[start + 1]  # RFC 6455 §5.2
        if (first != 0x81 and first != 0x82) or size >= 0x80:  # noqa: PLR1714 - no set
            break
        if size < 126:
            at = start + 2
            stop = at + size
            if stop > end or size > max_payload:
                break
        else:
            stop = _large_frame_end(buffer, start, max_payload, 0)
            if not stop:
                break
            at = start + (4 if size == 126 else 10)
        data = bytes(buffer[at:stop])
        if first == 0x82:
            messages.append(data)
        else:
            try:
                messages.append(data.decode())
            except UnicodeDecodeError:
                break
        start = stop
    return messages, start


def _large_frame_end(
    buffer: bytes | bytearray, start: int, max_payload: int, key_size: int = 4
) -> int:
    """Return where a frame with a 16- or 64-bit length ends; 0: do not take it."""
    width, least = (2, 126) if buffer[start + 1] & 1 == 0 else (8, 1 << 16)
    at = start + 2 + width
    size = int.from_bytes(buffer[start + 2 : at], "big")
    stop = at + key_size + size
    # RFC 6455 §5.2: the minimal number of bytes MUST be used, the top bit MUST be 0
    if size < least or size >> 63 or size > max_payload or stop > len(buffer):
        return 0
    return stop


def encode_frame(
    first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes:
    """Return an unmasked frame.

    Args:
        first_byte: FIN, reserved bits and opcode.
        payload: text is encoded as UTF-8; a memoryview must be one of bytes.

    Raises:
        UnicodeEncodeError: ``payload`` is text with a surrogate in it.
    """
    if isinstance(payload, str):
        payload = payload.encode()
    return frame_head(first_byte, len(payload)) + payload


def frame_head(first_byte: int, size: int) -> bytes:
    """Return the head of an unmasked frame with a payload of ``size`` bytes."""
    if size < 126:
        return _BYTE[first_byte] + _BYTE[size]
    if size < 1 << 16:
        return _BYTE[first_byte] + b"\x7e" + size.to_bytes(2, "big")
    return _BYTE[first_byte] + b"\x7f" + size.to_bytes(8, "big")


def encode_data_frame(
    stream_id: int, first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes:
    """Return what ``encode_frame`` does, inside one HTTP/2 DATA frame without flags.

    The caller has to know that the peer takes a DATA frame of that size.

    Raises:
        UnicodeEncodeError: ``payload`` is text with a surrogate in it.
        ValueError: the frame is longer than HTTP/2 can express.
    """
    return _in_data(stream_id, encode_frame(first_byte, payload))


def _in_data(stream_id: int, frame: bytes) -> bytes:
    size = len(frame)
    if size > _MAX_H2_LENGTH:
        msg = "the frame is too long for HTTP/2"
        raise ValueError(msg)
    return _FRAME_HEAD.pack(size >> 8, size & 0xFF, 0, 0, stream_id) + frame


class _Keys:
    """Masking keys: random bytes of the system, which a call for each would cost 1 us.

    RFC 6455 §5.3: a key must be fresh and unpredictable; so a process that was forked
    forgets those that its parent has, too.
    """

    def __init__(self) -> None:
        self._pool = b""
        self._next = 0
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.drop)

    def drop(self) -> None:
        """Forget all keys."""
        self._pool, self._next = b"", 0

    def take(self) -> bytes:
        """Return a key that no other frame has."""
        at = self._next
        if at == len(self._pool):
            self._pool, at = os.urandom(_POOL), 0
        self._next = at + 4
        return self._pool[at : at + 4]


_keys = _Keys()
drop_keys: Callable[[], None] = _keys.drop
"""Forget the masking keys that are held; done at a fork."""


def encode_masked_frame(
    first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes:
    """Return a frame as a client sends it, with a masking key of its own.

    Args:
        first_byte: FIN, reserved bits and opcode.
        payload: text is encoded as UTF-8; a memoryview must be one of bytes.

    Raises:
        UnicodeEncodeError: ``payload`` is text with a surrogate in it.
    """
    if isinstance(payload, str):
        payload = payload.encode()
    head = bytearray(frame_head(first_byte, len(payload)))
    head[1] |= 0x80
    key = _keys.take()
    return b"".join((head, key, unmask(payload, key)))


def encode_masked_data_frame(
    stream_id: int, first_byte: int, payload: str | bytes | bytearray | memoryview
) -> bytes:
    """Return what ``encode_masked_frame`` does, inside one DATA frame without flags.

    Raises:
        UnicodeEncodeError: ``payload`` is text with a surrogate in it.
        ValueError: the frame is longer than HTTP/2 can express.
    """
    return _in_data(stream_id, encode_masked_frame(first_byte, payload))


def encode_data_frames(
    stream_id: int,
    first_byte: int,
    payload: str | bytes | bytearray | memoryview,
    most: int,
    *,
    masked: bool,
) -> bytes:
    """Return a frame inside as many DATA frames without flags as it needs.

    Args:
        stream_id: the stream.
        first_byte: see ``encode_frame``.
        payload: likewise.
        most: the largest payload of a DATA frame that the peer takes, in bytes.
        masked: whether to do what ``encode_masked_frame`` does.

    Raises:
        UnicodeEncodeError: ``payload`` is text with a surrogate in it.
        ValueError: HTTP/2 has no such ``most``, or it is less than the longest head.
    """
    if not _LONGEST_HEAD <= most <= _MAX_H2_LENGTH:
        msg = "no DATA frame is of that size"
        raise ValueError(msg)
    encode = encode_masked_frame if masked else encode_frame
    frame = memoryview(encode(first_byte, payload))
    parts: list[bytes | memoryview] = []
    for start in range(0, len(frame), most):
        part = frame[start : start + most]
        size = len(part)
        parts += (_FRAME_HEAD.pack(size >> 8, size & 0xFF, 0, 0, stream_id), part)
    return b"".join(parts)


def encode_response(stream_id: int, block: bytes, body: bytes) -> bytes:
    """Return HEADERS with the whole ``block``, and a DATA frame that ends the stream.

    Raises:
        ValueError: one of them is too long for a frame.
    """
    size = len(body)
    if max(len(block), size) > _MAX_H2_LENGTH:
        msg = "the frame is too long for HTTP/2"
        raise ValueError(msg)
    pack = _FRAME_HEAD.pack
    head = pack(len(block) >> 8, len(block) & 0xFF, _HEADERS, _END_HEADERS, stream_id)
    data = pack(size >> 8, size & 0xFF, _DATA, _END_STREAM, stream_id)
    return b"".join((head, block, data, body))


def split_frames(
    buffer: bytes | bytearray,
    start: int = 0,
    max_length: int = _MAX_H2_LENGTH,
    limit: int = 1 << 24,
) -> tuple[list[tuple[int, int, int, int, int]], int]:
    """Find the complete HTTP/2 frames at the front of ``buffer``.

    Stops at the first frame that is incomplete or longer than ``max_length``. Payloads
    are not copied.

    Args:
        buffer: HTTP/2 frames.
        start: where the first frame begins.
        max_length: the largest payload that was allowed to the peer, in bytes.
        limit: how many frames to return at most.

    Returns:
        ``(type, flags, stream_id, payload_start, payload_end)`` of each frame, and
        where the first frame not returned begins.

    Raises:
        ValueError: ``start`` is outside of ``buffer``.
    """
    frames: list[tuple[int, int, int, int, int]] = []
    end = len(buffer)
    if not 0 <= start <= end:
        msg = "start is outside of the buffer"
        raise ValueError(msg)
    unpack = _FRAME_HEAD.unpack_from
    while end - start >= 9 and len(frames) < limit:
        high, low, kind, flags, stream_id = unpack(buffer, start)
        length = high << 8 | low
        payload = start + 9
        if length > max_length or length > end - payload:
            break
        start = payload + length
        # RFC 9113 §4.1: the reserved bit is ignored
        frames.append((kind, flags, stream_id & 0x7FFFFFFF, payload, start))
    return frames, start


def split_fields(
    head: bytes, start: int, limit: int
) -> tuple[list[tuple[bytes, bytes]], int]:
    """Take sound field lines (RFC 9112 §5) off the front of ``head``.

    Stops at the first line that is anything else: empty, incomplete, not a token
    before the colon (white space there, or before the name, among that: RFC 9112 §5.1,
    §5.2), a control character but HTAB in the value, or another end than CR LF.

    Args:
        head: the head of an HTTP/1.1 message.
        start: where the first field line begins.
        limit: how many fields to take at most.

    Returns:
        the fields, each a name in lower case and a value without white space around
        it; and where the first line not taken begins.

    Raises:
        ValueError: ``start`` is outside of ``head``.
    """
    fields: list[tuple[bytes, bytes]] = []
    if not 0 <= start <= len(head):
        msg = "start is outside of the buffer"
        raise ValueError(msg)
    while len(fields) < limit and (line := _FIELD_LINE.match(head, start)):
        fields.append((line[1].lower(), line[2].strip(b" \t")))
        start = line.end()
    return fields, start


def split_head(
    head: bytes,
    limit: int,
    known_head: bytes = b"",
    known: Sequence[tuple[bytes, bytes]] = (),
) -> tuple[str, str, Version, list[tuple[bytes, bytes]], Usual | None] | None:
    """Split the head of a request; tell what it means if it is a usual one.

    A usual one is of HTTP/1.1, has its target in origin-form and one Host, which is a
    name, perhaps with a port. Of the other fields in ``_RULED`` it has none but those
    in ``_FORWARDED``, ``Connection: keep-alive`` and one ``Content-Length``, a number.

    Args:
        head: the head of a request, with its empty line at the end.
        limit: how many fields to take at most.
        known_head: a head that was split before, if that is at hand.
        known: its fields. Requests of a client share many, and a line that has the same
            place in both heads need not be read again: the native twin takes it from
            here, with the same result.

    Returns:
        method, target and version; the fields as ``split_fields`` has them; and for a
        usual head what Host says, the length of the body, and whether a field is in
        ``_FORWARDED``. ``None`` if the request line or a field is not sound, there are
        too many fields, or something is behind the empty line.
    """
    line = _REQUEST_LINE.match(head)
    if line is None:
        return None
    fields, stop = split_fields(head, line.end(), limit)
    if head[stop:] != b"\r\n":
        return None
    method, target = line[1].decode(), line[2].decode()
    version: Version = "1.1" if line[3] == b"1.1" else "1.0"
    usual: Usual | None = None
    if version == "1.1" and method != "CONNECT" and _ORIGIN_FORM.fullmatch(target):
        usual = _usual(fields)
    return method, target, version, fields, usual


def _usual(fields: list[tuple[bytes, bytes]]) -> Usual | None:
    host: bytes | None = None
    length: int | None = None
    forwarded = False
    for name, value in fields:
        if name not in _RULED:
            continue
        if name == b"host" and host is None:
            match = _HOST_PORT.fullmatch(value)
            if match is None or int(match[1] or b"0") > _MAX_PORT:
                return None
            host = value
        elif name == b"content-length" and length is None:
            if not value.isdigit() or len(value) > _MAX_DIGITS:
                return None
            length = int(value)
        elif name in _FORWARDED:
            forwarded = True
        elif name != b"connection" or value.lower() != b"keep-alive":
            return None
    return None if host is None else (host.decode(), length or 0, forwarded)


def weigh(messages: Iterable[Any]) -> int:
    """Return about how many bytes of memory ``messages`` cost.

    A ``str`` takes one to four bytes a character, as its widest one needs.
    """
    return sum(map(_cost, messages))


def _cost(message: Any) -> int:
    if isinstance(message, bytes) or (isinstance(message, str) and message.isascii()):
        return _OBJECT + len(message)
    return sys.getsizeof(message) if isinstance(message, str) else _CONTROL


class FieldTable:
    """The tables of one direction of a connection (RFC 7541 §2.3), and their reader.

    A *field* is what ``read`` makes of a name and a value: a tuple of the pair, of
    whatever the caller wants to know, and of its size (RFC 7541 §4.1). One of a table
    was read when it entered it.

    Attributes:
        fields: all by their index, of the dynamic ones the youngest first.
        repeatable: the last block would mean the same if it came again at once, and
            has no field that must never be indexed.
    """

    __slots__ = (
        "_first",
        "_kinds",
        "_max_size",
        "_plain",
        "_read",
        "_size",
        "fields",
        "repeatable",
    )

    def __init__(
        self,
        static: list[_Field],
        read: Callable[[bytes, bytes], _Field],
        kinds: dict[bytes, Any],
        plain: Any,
    ) -> None:
        """Begin with an empty dynamic table of the default size.

        What ``read`` would say of fields whose value is well-formed (RFC 9110 §5.5, no
        white space around it) is known by their names; it is asked about all others.

        Args:
            static: the static table behind something for the index 0, which none has.
            read: makes a field of a name and a value.
            kinds: what it says of some names; ``None``: it has to be asked.
            plain: the same for any other name that is well-formed (RFC 9113 §8.2.1).
        """
        self.fields: list[_Field] = list(static)
        self.repeatable: bool = False
        self._first = len(static)
        self._read = read
        self._kinds = kinds
        self._plain = plain
        self._size = 0
        self._max_size = TABLE_SIZE

    def decode(self, block: bytes, room: int) -> list[Any]:
        """Return the fields of a header block.

        Raises:
            HPACKDecodingError: the block is broken.
            InvalidTableIndexError: an index has no entry.
            InvalidTableSizeError: a size update is above the default size.
            OversizedHeaderListError: the fields are larger than ``room``, in bytes.
        """
        self.repeatable = True
        fields: list[_Field] = []
        at, end = 0, len(block)
        while at < end:
            first = block[at]
            if first & 0x80:  # RFC 7541 §6.1
                index, at = _read_integer(block, at, 0x7F)
                field = self._field(index)
            elif first & 0xE0 == 0x20:  # RFC 7541 §6.3
                if fields:  # RFC 7541 §4.2
                    msg = "a table size update behind a field"
                    raise HPACKDecodingError(msg)
                size, at = _read_integer(block, at, 0x1F)
                self._resize(size)
                continue
            else:
                field, at = self._literal(block, at, first)
            fields.append(field)
            room -= field[2]
            if room < 0:
                msg = "the header list is too large"
                raise OversizedHeaderListError(msg)
        return fields

    def _field(self, index: int) -> _Field:
        if 0 < index < len(self.fields):
            return self.fields[index]
        msg = f"no entry {index} in the tables"
        raise InvalidTableIndexError(msg)

    def _literal(self, block: bytes, at: int, first: int) -> tuple[_Field, int]:
        """Return the literal field at ``at`` (RFC 7541 §6.2), and where it ends."""
        incremental = first & 0x40  # RFC 7541 §6.2.1
        index, at = _read_integer(block, at, 0x3F if incremental else 0x0F)
        if index:
            name = self._field(index)[0][0]
        else:
            name, at = _read_string(block, at)
        value, at = _read_string(block, at)
        field = self._judge(name, value)
        if incremental:
            self.repeatable = False
            self.fields.insert(self._first, field)
            self._size += field[2]
            self._evict()
        elif first & 0x10:  # RFC 7541 §6.2.3
            self.repeatable = False
        return field, at

    def _judge(self, name: bytes, value: bytes) -> _Field:
        """Return a field, read only if its name does not say enough."""
        if name in self._kinds:
            kind = self._kinds[name]
        elif name and not name.translate(None, _LOWER):
            kind = self._plain
        else:
            kind = None
        if (
            kind is None
            or value.translate(None, _VALUE)
            or (value and (value[0] <= 0x20 or value[-1] <= 0x20))
        ):
            return self._read(name, value)
        return (name, value), kind, _LISTED + len(name) + len(value)

    def _resize(self, size: int) -> None:
        self.repeatable = False
        if size > TABLE_SIZE:  # RFC 7541 §6.3
            msg = "a table size above the limit"
            raise InvalidTableSizeError(msg)
        self._max_size = size
        self._evict()

    def _evict(self) -> None:
        """Let the oldest entries make room (RFC 7541 §4.3, §4.4)."""
        while self._size > self._max_size:
            self._size -= self.fields.pop()[2]


def _read_integer(block: bytes, at: int, most: int) -> tuple[int, int]:
    """Return the integer at ``at`` (RFC 7541 §5.1), and where it ends.

    Raises:
        HPACKDecodingError: it has too many octets, or the block ends before it does.
    """
    number = block[at] & most if at < len(block) else most
    at += 1
    if number < most:
        return number, at
    for shift in _SHIFTS:
        if at >= len(block):
            break
        octet = block[at]
        at += 1
        number += (octet & 0x7F) << shift
        if octet < 0x80:
            return number, at
    msg = "an integer is broken"
    raise HPACKDecodingError(msg)


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    """Return the string at ``at`` (RFC 7541 §5.2), and where it ends.

    Raises:
        HPACKDecodingError: the block ends before it does, or it is no Huffman code.
    """
    size, start = _read_integer(block, at, 0x7F)
    end = start + size
    if end > len(block):
        msg = "a header block ends too early"
        raise HPACKDecodingError(msg)
    text = block[start:end]
    return huffman_table.decode_huffman(text) if block[at] & 0x80 else text, end


def usual_request(fields: list[_Field], limits: tuple[int, ...]) -> UsualRequest | None:
    """Return what the head of an HTTP/2 request means if it is a usual one.

    A usual one has ``:method``, ``:scheme``, ``:path`` and ``:authority``, once each,
    before all other fields (RFC 9113 §8.3). It is no CONNECT, its scheme is ``http`` or
    ``https``, and its path in origin-form. Of the fields that have a rule of their own
    it has none but those in ``_FORWARDED`` and one ``content-length``. It keeps to the
    limits.

    Args:
        fields: what a ``FieldTable`` has decoded, each of the kind that
            ``h2.fields.read_field`` says.
        limits: the most fields but the pseudo-fields, the most bytes that all would
            have in HTTP/1.1, that they have as RFC 9113 §6.5.2 counts them, and of the
            path. Cookies are one field.
    """
    count = len(_PSEUDO_NAMES)
    pseudo = dict(field for field, kind, _ in fields[:count] if kind == _PSEUDO_KIND)
    if pseudo.keys() != _PSEUDO_NAMES:
        return None
    found = _usual_fields(fields[count:])
    if found is None:
        return None
    own, length, forwarded = found
    method, path = pseudo[b":method"], pseudo[b":path"]
    scheme, authority = pseudo[b":scheme"], pseudo[b":authority"]
    if (
        len(method) > _MAX_METHOD
        or method == b"CONNECT"
        or scheme not in _SCHEMES
        or path[:1] != b"/"
        or path.translate(None, _PATH)
        or not (method + authority).isascii()
    ):
        return None
    text = sum(len(name) + len(value) for name, value in own)
    listed = sum(len(name) + len(value) for name, value in pseudo.items()) + text
    lines = len(method) + len(path) + len(authority) + len("host") + text
    most, most_lines, most_listed, most_path = limits
    if (
        len(own) > most
        or lines + _AROUND_LINE + _AROUND_FIELD * (len(own) + 1) > most_lines
        or listed + _LISTED * (len(own) + count) > most_listed
        or len(path) > most_path
    ):
        return None
    return (
        method.decode(),
        path.decode(),
        scheme.decode(),
        authority.decode(),
        [(b"host", authority), *own],
        length,
        forwarded,
    )


def _usual_fields(
    fields: list[_Field],
) -> tuple[list[tuple[bytes, bytes]], int | None, bool] | None:
    """Return the fields behind the pseudo-fields, and what they say, if it is usual."""
    own: list[tuple[bytes, bytes]] = []
    crumbs: list[bytes] = []
    length: int | None = None
    forwarded = False
    at = 0
    for field, kind, _ in fields:
        name, value = field
        if kind == _CRUMB_KIND:  # RFC 9113 §8.2.3: one field, where the first was
            crumbs.append(value)
            if len(crumbs) > 1:
                continue
            at = len(own)
        elif kind == _RULED_KIND and name in _FORWARDED:
            forwarded = True
        elif kind == _RULED_KIND and name == b"content-length" and length is None:
            if not value.isdigit() or len(value) > _MAX_DIGITS:
                return None
            length = int(value)
        elif kind != _PLAIN_KIND:
            return None
        own.append(field)
    cookie = b"; ".join(crumbs)
    if cookie != cookie.strip(b" \t"):  # RFC 9113 §8.2.1
        return None
    if len(crumbs) > 1:
        own[at] = (b"cookie", cookie)
    return own, length, forwarded


class Inbox:
    """Messages that wait for their reader, and credit for the bytes they came with.

    Each message read gives its share of ``held`` back, the last one all of it, but not
    while ``held`` is ``least`` or less: so little credit stops no peer.

    Attributes:
        messages: those that wait.
        weight: what they cost in memory, see ``weigh``; 0 while none waits.
        received: how many messages were ever put here.
        held: how many bytes of credit came with them.
        least: how many bytes of credit need not be given back.
        plain: bytes may be taken: nothing that came before waits to be decoded.
    """

    __slots__ = (
        "_consumed",
        "_heaviest",
        "_max_payload",
        "_most",
        "_wake",
        "held",
        "least",
        "messages",
        "plain",
        "received",
        "weight",
    )

    _scan = staticmethod(scan_frames)

    def __init__(
        self,
        wake: Callable[[], None],
        consumed: Callable[[int], None],
        max_payload: int,
        most: int,
        least: int,
        heaviest: int = sys.maxsize,
    ) -> None:
        """Begin empty.

        Args:
            wake: called when there are new messages.
            consumed: called with the bytes to give back.
            max_payload: the largest payload to take, in bytes.
            most: how many messages may wait.
            least: bytes that need not be given back.
            heaviest: the weight from which on nothing more is taken.
        """
        self.messages: deque[Any] = deque()
        self.weight: int = 0
        self.received: int = 0
        self.held: int = 0
        self.plain: bool = True
        self._wake = wake
        self._consumed = consumed
        self._max_payload = max_payload
        self._most = most
        self.least: int = least
        self._heaviest = heaviest

    def take(self, data: bytes) -> bool:
        """Take ``data`` if it is whole data messages and nothing else, else nothing."""
        if not self.plain or not data or self.weight >= self._heaviest:
            return False
        room = self._most - len(self.messages)
        found, stop = self._scan(data, 0, self._max_payload, room)
        if stop != len(data):
            return False
        self.put(found)
        self.held += stop
        self._wake()
        return True

    def put(self, messages: list[Any]) -> None:
        """Append messages that were decoded elsewhere, whatever they weigh."""
        self.messages += messages
        self.received += len(messages)
        self.weight += weigh(messages)

    def clear(self) -> None:
        """Forget all messages, but not what is ``held``."""
        self.messages.clear()
        self.weight = 0

    def pop(self) -> Any:
        """Return the first message.

        Raises:
            IndexError: there is none.
        """
        message = self.messages.popleft()
        held, waiting = self.held, len(self.messages)
        self.weight = self.weight - _cost(message) if waiting else 0
        if held > self.least and (held >= _SHARE or not waiting):
            share = held // (waiting + 1)
            self.held = held - share
            self._consumed(share)
        return message


class UnmaskedInbox(Inbox):
    """An ``Inbox`` for the frames of a server."""

    __slots__ = ()

    _scan = staticmethod(scan_unmasked_frames)


class _Stream(Protocol):
    window: int  # bytes that the peer may send


def take_data(
    buffer: bytes,
    start: int,
    left: int,
    lane: Mapping[int, tuple[_Stream, Inbox | None]],
    max_length: int,
    limit: int,
) -> tuple[int, int]:
    """Take plain DATA frames (RFC 9113 §6.1) off the front of ``buffer``.

    Stops at the first frame that is not for an ``Inbox``, does not fit into the
    windows, or is neither whole messages nor the beginning of one that ends with one of
    the frames behind it; the caller decides about it.

    Args:
        buffer: HTTP/2 frames.
        start: where the first frame begins.
        left: what the peer may send on the connection, in bytes.
        lane: the streams to take, by their ids; their windows are counted down.
        max_length: the largest payload that was allowed to the peer, in bytes.
        limit: how many frames to take at most.

    Returns:
        where the first frame not taken begins, and what remains of ``left``.

    Raises:
        ValueError: ``start`` is outside of ``buffer``.
    """
    end = len(buffer)
    if not 0 <= start <= end:
        msg = "start is outside of the buffer"
        raise ValueError(msg)
    unpack = _FRAME_HEAD.unpack_from
    while end - start >= 9 and limit > 0:
        high, low, kind, flags, stream_id = unpack(buffer, start)
        size = high << 8 | low
        at = start + 9
        if kind or flags or not size or size > min(left, max_length, end - at):
            break
        stream, inbox = lane.get(stream_id & 0x7FFFFFFF, (None, None))
        if stream is None or inbox is None or size > stream.window:
            break
        whole, frames = buffer[at : at + size], 1
        if not inbox.take(whole):
            if not inbox.plain:
                break
            room = min(left, stream.window)
            whole, frames = _spread(buffer, start, room, max_length, limit)
            if not frames or not inbox.take(whole):
                break
        stream.window -= len(whole)
        left -= len(whole)
        start += 9 * frames + len(whole)
        limit -= frames
    return start, left


def _spread(
    buffer: bytes, start: int, room: int, max_length: int, limit: int
) -> tuple[bytes, int]:
    """Return the one message that begins at ``start``, and how many frames it fills.

    0: none, unless it ends with a later frame of the same stream, all that is between
    is the same, and all of it is here. ``room``: how large it may be, in bytes.
    """
    unpack, end = _FRAME_HEAD.unpack_from, len(buffer)
    got = buffer[start + 1] << 8 | buffer[start + 2] | buffer[start] << 16
    head = start + 9
    if got < 14 or buffer[head] not in b"\x81\x82":
        return b"", 0
    size, position = buffer[head + 1] & 0x7F, 2
    if size > 125:
        position = 4 if size == 126 else 10
        size = int.from_bytes(buffer[head + 2 : head + position])
    size += position + (4 if buffer[head + 1] & 0x80 else 0)
    if not got < size <= room:
        return b"", 0
    parts = [buffer[head : head + got]]
    at = head + got
    while got < size:
        if end - at < 9 or len(parts) >= limit:
            return b"", 0
        high, low, kind, flags, _ = unpack(buffer, at)
        length = high << 8 | low
        if kind or flags or not 0 < length <= min(max_length, end - at - 9):
            return b"", 0
        if buffer[at + 5 : at + 9] != buffer[start + 5 : start + 9]:
            return b"", 0
        parts.append(buffer[at + 9 : at + 9 + length])
        got += length
        at += 9 + length
    return (b"".join(parts), len(parts)) if got == size else (b"", 0)


def send_now(fd: int, data: bytes) -> int:
    """Return how many bytes of ``data`` a socket that does not block takes at once.

    0: none, or it is broken: a transport that writes to it will tell.
    """
    try:
        return os.write(fd, data)
    except OSError:
        return 0
