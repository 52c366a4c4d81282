"""WebSocket frames to messages and back, in either role, without I/O.

Theory of operation. A ``Codec`` is fed what the peer sends and returns the messages
that it completes. Three things may be unfinished between two calls:

* ``_rest``: bytes not looked at yet: part of a frame's head, part of a control frame,
  or what lies behind the limit of a call (``pending``);
* the message in progress, an ``Assembly``;
* the data frame in progress, of which ``_left`` bytes are to come. Its payload is
  unmasked and checked as it arrives, not when it is complete, so a large message costs
  linear time and one that must fail does so at its first bad byte.

Complete messages of one uncompressed frame, nearly all of real traffic, are taken many
at a time by ``loops.scan_frames``. It stops at the first frame that it does not know
and the careful path decides, so the two cannot disagree about what is wrong. For what
a server sends it has a twin, ``scan_unmasked_frames``.

Invariants:

* A frame in progress is a data frame and belongs to a message in progress.
* At most ``max_message_size`` bytes of one message are held, plus less than one head
  and one control frame, plus what a limited call left over.
* After ``finished`` (a Close, or ``error``) input is ignored and nothing is held.

Errors of the peer are data here: ``receive`` never raises because of its input.
"""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from tako.core.role import Role
from tako.core.turn import Turn, endless
from tako.core.views import Place
from tako.errors import (
    FrameTooBig,
    MessageTooBig,
    ProtocolViolation,
    WsError,
)
from tako.native.loops import (
    encode_frame,
    encode_masked_frame,
    scan_frames,
    scan_unmasked_frames,
    unmask,
    weigh,
)
from tako.ws.assembly import Assembly, decode_text
from tako.ws.message import (
    MAX_CONTROL_PAYLOAD,
    AnyMessage,
    Message,
    is_sendable,
    received_close,
)


if TYPE_CHECKING:
    from tako.ws.deflate import Inflater

__all__ = [
    "Codec",
    "Encode",
    "encode_close",
    "encode_frame",
    "encode_masked_frame",
    "encode_ping",
    "encode_pong",
]

# Opcodes, RFC 6455 §5.2
_CONTINUATION: Final = 0x0
_TEXT: Final = 0x1
_BINARY: Final = 0x2
_CLOSE: Final = 0x8
_PING: Final = 0x9
_PONG: Final = 0xA
_DATA_OPCODES: Final = (_CONTINUATION, _TEXT, _BINARY)
_CONTROL_OPCODES: Final = (_CLOSE, _PING, _PONG)
_FIN: Final = 0x80
_RSV1: Final = 0x40
_RSV2_OR_3: Final = 0x30
_SMALL: Final = 1024  # bytes
_BATCH: Final = 16  # messages between looks at what they weigh
_COMPRESSED: Final = 1024  # bytes inflated at a time: they become a megabyte at most

# Units of ``Turn``
_FRAME_COST: Final = 2
_INFLATED_SHIFT: Final = 9  # bytes that come out, to the power of two, for a unit
_MASKED: Final = 0x80
_SERVER: Final = Role.SERVER
_NO_MASK: Final = bytes(4)  # unmasks to the same

_Bytes: TypeAlias = bytes | bytearray
_BytesLike: TypeAlias = bytes | bytearray | memoryview

_Scan: TypeAlias = Callable[[_Bytes, int, int, int], tuple[list[AnyMessage], int]]

Encode: TypeAlias = Callable[[int, str | bytes], bytes]
"""Makes a frame of a first byte and a payload, as one role or the other sends it."""


class Codec:
    """The receiving half of a WebSocket conversation.

    Args:
        max_frame_size: largest payload of a frame, in bytes.
        max_message_size: largest message in bytes; of a text, its UTF-8 form. A message
            of exactly that size passes.
        inflater: takes compressed messages, if that was negotiated.
        turn: the connection's budget; ``None``: only ``limit`` ends a call.
        role: ours: a server's peer masks its frames, a client's does not.
    """

    __slots__ = (
        "_fin",
        "_inflated",
        "_inflater",
        "_key_size",
        "_left",
        "_mask",
        "_mask_bit",
        "_mask_offset",
        "_max_frame",
        "_max_message",
        "_max_scan",
        "_message",
        "_receiving_frame",
        "_rest",
        "_scan",
        "_turn",
        "_weight",
        "error",
        "finished",
        "pending",
    )

    def __init__(
        self,
        *,
        max_frame_size: int,
        max_message_size: int,
        inflater: "Inflater | None" = None,
        turn: Turn | None = None,
        role: Role = Role.SERVER,
    ) -> None:
        self.error: WsError | None = None
        """How the peer broke the rules; its ``close_code`` is to be sent."""
        self.finished: bool = False
        """A Close arrived or ``error`` is set: further input is ignored."""
        self.pending: bool = False
        """``receive`` stopped because of its limit, or of the turn's end: call it
        again, with ``b""``."""
        self._turn = turn or endless()
        self._max_frame = max_frame_size
        self._max_message = max_message_size
        # RFC 6455 §5.1: a client masks all frames, a server none
        masked = role is _SERVER
        self._mask_bit = _MASKED if masked else 0
        self._key_size = 4 if masked else 0
        self._max_scan = min(max_frame_size, max_message_size, sys.maxsize)
        self._scan: _Scan = scan_frames if masked else scan_unmasked_frames
        self._inflater = inflater
        self._inflated = 0  # size of the compressed messages completed by this call
        self._weight = 0  # of all messages completed by this call
        self._rest = bytearray()
        self._message: Assembly | None = None
        self._receiving_frame = False
        self._fin = False
        self._left = 0
        self._mask = _NO_MASK
        self._mask_offset = 0

    @property
    def idle(self) -> bool:
        """Nothing is held: the next byte begins a message."""
        return self._message is None and not self._rest and not self.finished

    def place(self) -> Place:
        """Return where received bytes stand, between two calls."""
        left = self._left if self._receiving_frame else 0
        return Place(left=left, held=bytes(self._rest))

    def receive(
        self, data: bytes, limit: int = 1024, room: int = sys.maxsize
    ) -> list[AnyMessage]:
        """Take bytes of the peer; return the messages that they complete.

        Never raises because of ``data``: see ``error``. Messages that were complete
        before a violation are returned.

        Args:
            data: the next bytes, possibly empty.
            limit: about how many messages to return at most; inflated ones also end the
                call once they exceed ``max_message_size`` together. ``pending`` says
                whether there may be more.
            room: bytes of memory that the messages may cost; the one that exceeds it is
                the last, and without any room nothing is decoded.
        """
        if self.finished:
            return []
        messages: list[AnyMessage] = []
        offset, scanned = 0, -1
        source: _Bytes = data
        if self._rest:
            self._rest += data
            source = self._rest
            self.pending = False
        elif self._message is None and room > 0:
            # The usual read holds whole messages and nothing else: 0.2 us for one of
            # 32 bytes (native) where the path below takes 0.6. It begins with the same
            # call, so it is equal; test_codec_oracle compares them.
            messages, offset = self._scan(data, 0, self._max_scan, limit)
            if offset == len(data):
                return messages
            scanned = offset
        self._inflated = 0
        self._weight = weigh(messages) if messages else 0
        try:
            offset = self._receive_frames(
                source, offset, messages, limit, room, scanned
            )
        except WsError as error:
            self._failed(error)
        if self.finished:
            self._forget()
        elif source is self._rest:
            del self._rest[:offset]
        elif offset < len(source):
            self._rest += source[offset:]
        return messages

    def receive_middle(self, data: bytes) -> bool:
        """Take bytes from within a large frame, where there is nothing to look for.

        Cheaper than ``receive``, which it must equal; test_codec_oracle mixes them.

        Returns:
            whether it took them. ``False`` if they may be more than that, or break a
            rule (see ``error``): call ``receive`` with them.
        """
        message, size = self._message, len(data)
        if (
            message is None
            or not 0 < size < self._left
            or self._rest
            or message.inflater is not None
        ):
            return False
        part = unmask(data, self._mask, self._mask_offset)
        try:
            message.add(part, final=False, max_size=self._max_message)
        except WsError as error:
            self._failed(error)
            self._forget()
            return False
        self._left -= size
        self._mask_offset = (self._mask_offset + size) & 3
        return True

    def _failed(self, error: WsError) -> None:
        # without its traceback, which would keep this object and the input alive
        self.error = error.with_traceback(None)
        self.finished = True

    def _forget(self) -> None:
        self.pending = False
        self._message = None
        self._rest.clear()

    def _receive_frames(
        self,
        source: _Bytes,
        offset: int,
        messages: list[AnyMessage],
        limit: int,
        room: int,
        scanned: int,
    ) -> int:
        """Go through ``source``; return where the bytes begin that are not consumed.

        ``scanned`` is where ``scan_frames`` has found nothing already.
        """
        end = len(source)
        while offset < end and not self.finished:
            left = room - self._weight
            if (
                len(messages) >= limit
                or left <= 0
                or self._inflated > self._max_message
            ):
                self.pending = True
                break
            if self._receiving_frame:
                offset = self._receive_payload(source, offset, messages)
                if self._turn.over:
                    self.pending = offset < end
                    break
                continue
            start = offset
            if self._message is None and offset != scanned:
                # a text may cost four times its bytes
                largest = min(self._max_scan, left // (4 * _BATCH))
                most = min(limit - len(messages), _BATCH)
                found, offset = self._scan(source, offset, largest, most)
                if not found:  # one of any size, as it may be the last
                    found, offset = self._scan(source, offset, self._max_scan, 1)
                messages += found
                self._weight += weigh(found)
            if offset == start:
                if not self._turn.spend(_FRAME_COST):
                    self.pending = True
                    break
                offset = self._receive_head(source, offset, messages)
                if offset == start:
                    break
        return offset

    def _receive_head(
        self, source: _Bytes, offset: int, messages: list[AnyMessage]
    ) -> int:
        """Begin the frame at ``offset``, or take it whole if it is a control frame.

        Returns:
            where the bytes behind it begin: ``offset`` itself if bytes are missing.
        """
        end = len(source)
        if end - offset < 2:
            return offset
        first, second = source[offset], source[offset + 1]
        self._check_first_byte(first)
        if second & _MASKED != self._mask_bit:
            # RFC 6455 §5.1: a server MUST close on a frame that is not masked, a
            # client on one that is
            wrong = "client is not masked" if self._mask_bit else "server is masked"
            msg = f"a frame of the {wrong}"
            raise ProtocolViolation(msg)
        size = second & 0x7F
        if first & 0x0F in _CONTROL_OPCODES:
            return self._receive_control(source, offset, messages)
        at = offset + 2
        if size > 125:
            after = at + (2 if size == 126 else 8)
            if end < after:
                return offset
            size = _long_size(source[at:after])
            at = after
        self._check_size(first, size)
        start = at + self._key_size
        if end < start:
            return offset
        if self._mask_bit:
            self._mask = bytes(source[at:start])
        self._begin_frame(first, size)
        # a frame without a payload has nothing to wait for
        return start if size else self._receive_payload(source, start, messages)

    def _check_first_byte(self, first: int) -> None:
        opcode = first & 0x0F
        compressible = self._inflater is not None and opcode in {_TEXT, _BINARY}
        # RFC 6455 §5.2: reserved bits MUST be 0 unless an extension defines them;
        # RFC 7692 §6.1: RSV1 is for the first frame of a data message only
        if first & _RSV2_OR_3 or (first & _RSV1 and not compressible):
            msg = "a frame sets a reserved bit"
            raise ProtocolViolation(msg)
        if opcode in _CONTROL_OPCODES:
            if not first & _FIN:  # RFC 6455 §5.5
                msg = "a control frame is fragmented"
                raise ProtocolViolation(msg)
        elif opcode not in _DATA_OPCODES:  # RFC 6455 §5.2
            msg = f"a frame has the reserved opcode {opcode:#x}"
            raise ProtocolViolation(msg)
        elif opcode == _CONTINUATION:
            if self._message is None:  # RFC 6455 §5.4
                msg = "a continuation frame continues nothing"
                raise ProtocolViolation(msg)
        elif self._message is not None:  # RFC 6455 §5.4: messages don't interleave
            msg = "a message begins before the previous one has ended"
            raise ProtocolViolation(msg)

    def _check_size(self, first: int, size: int) -> None:
        """Refuse a data frame for what its head announces (RFC 6455 §10.4)."""
        if size > self._max_frame:
            msg = f"a frame of {size} bytes; max_frame_size is {self._max_frame}"
            raise FrameTooBig(msg)
        total, allowed, compressed = size, self._max_message, bool(first & _RSV1)
        if self._message is not None:
            total += self._message.wire_size
            compressed = self._message.inflater is not None
        if compressed:
            # Its inflated size is what counts; deflate adds up to an eighth to what it
            # cannot compress, and no honest peer sends more than that.
            allowed += (allowed >> 3) + 64
        if total > allowed:
            msg = f"a message of {total} bytes; max_message_size is {self._max_message}"
            raise MessageTooBig(msg)

    def _begin_frame(self, first: int, size: int) -> None:
        if self._message is None:
            inflater = self._inflater if first & _RSV1 else None
            text = first & 0x0F == _TEXT
            self._message = Assembly(text=text, inflater=inflater)
        self._message.begin_frame(size)
        self._receiving_frame = True
        self._fin = bool(first & _FIN)
        self._left = size
        self._mask_offset = 0

    def _receive_payload(
        self, source: _Bytes, offset: int, messages: list[AnyMessage]
    ) -> int:
        """Take what has arrived of the frame in progress; return what follows it."""
        message = self._message
        assert message is not None, "a frame in progress belongs to a message"  # noqa: S101
        end = min(offset + self._left, len(source))
        held = message.held
        if message.inflater is not None:
            end = min(end, offset + _COMPRESSED)
        payload: _BytesLike = source
        if end - offset < len(source):
            # a view costs more than a copy of a few bytes, and less than one of many
            small = end - offset < _SMALL
            payload = source[offset:end] if small else memoryview(source)[offset:end]
        part = unmask(payload, self._mask, self._mask_offset)
        del payload  # a view would keep ``_rest`` from shrinking
        self._left -= end - offset
        self._mask_offset = (self._mask_offset + end - offset) & 3
        self._receiving_frame = self._left > 0
        final = self._fin and not self._receiving_frame
        whole = message.add(part, final=final, max_size=self._max_message)
        if message.inflater is not None:
            size = message.held if whole is None else len(whole)
            self._turn.spend(_FRAME_COST + (size - held >> _INFLATED_SHIFT))
        if whole is not None:
            messages.append(whole)
            self._message = None
            self._weight += weigh((whole,))
            if message.inflater is not None:
                self._inflated += len(whole)
        return end

    def _receive_control(
        self, source: _Bytes, offset: int, messages: list[AnyMessage]
    ) -> int:
        size = source[offset + 1] & 0x7F
        if size > MAX_CONTROL_PAYLOAD:  # RFC 6455 §5.5
            msg = f"a control frame is longer than {MAX_CONTROL_PAYLOAD} bytes"
            raise ProtocolViolation(msg)
        at = offset + 2 + self._key_size
        if len(source) < at + size:
            return offset
        data = bytes(source[at : at + size])
        if self._mask_bit:
            data = unmask(data, bytes(source[at - 4 : at]))
        opcode = source[offset] & 0x0F
        if opcode == _PING:
            messages.append(Message.Ping(data))
        elif opcode == _PONG:
            messages.append(Message.Pong(data))
        else:
            messages.append(_parse_close(data))
            self.finished = True  # RFC 6455 §5.5.1: nothing may follow
        return at + size


def _long_size(field: _Bytes) -> int:
    """Return a 16- or 64-bit payload length (RFC 6455 §5.2)."""
    size = int.from_bytes(field, "big")
    if size >> 63:
        msg = "the most significant bit of a frame's length is set"
        raise ProtocolViolation(msg)
    if size < (126 if len(field) == 2 else 1 << 16):
        msg = "a frame's length is not encoded in the fewest bytes"
        raise ProtocolViolation(msg)
    return size


def _parse_close(data: bytes) -> Message.Close:
    """Return the content of a Close frame (RFC 6455 §5.5.1)."""
    if not data:
        return Message.Close()
    code = int.from_bytes(data[:2], "big")
    if len(data) == 1 or not is_sendable(code):  # RFC 6455 §7.4
        msg = f"a Close frame without a valid code: {data[:2].hex()}"
        raise ProtocolViolation(msg)
    return received_close(code, decode_text(data[2:]))


def encode_ping(data: bytes = b"", encode: Encode = encode_frame) -> bytes:
    """Return a Ping frame.

    Raises:
        ValueError: ``data`` is longer than 125 bytes.
    """
    return _encode_control(0x89, data, encode)


def encode_pong(data: bytes = b"", encode: Encode = encode_frame) -> bytes:
    """Return a Pong frame.

    Raises:
        ValueError: ``data`` is longer than 125 bytes.
    """
    return _encode_control(0x8A, data, encode)


def encode_close(
    code: int | None = None, reason: str = "", encode: Encode = encode_frame
) -> bytes:
    """Return a Close frame, empty if ``code`` is ``None``.

    Raises:
        ValueError: ``code`` must not be on the wire; ``reason`` has no code or is
            longer than 123 UTF-8 bytes.
    """
    if code is None:
        if reason:
            msg = "a close reason needs a close code"
            raise ValueError(msg)
        return _encode_control(0x88, b"", encode)
    if not is_sendable(code):  # RFC 6455 §5.5.1: an answer may repeat what it got
        msg = f"{code} is not a close code that may be sent"
        raise ValueError(msg)
    return _encode_control(0x88, code.to_bytes(2, "big") + reason.encode(), encode)


def _encode_control(first_byte: int, data: bytes, encode: Encode) -> bytes:
    if len(data) > MAX_CONTROL_PAYLOAD:
        msg = f"a control frame takes {MAX_CONTROL_PAYLOAD} bytes, not {len(data)}"
        raise ValueError(msg)
    return encode(first_byte, data)
