"""Makes a message, ``str`` or ``bytes``, from the payloads of its frames.

``Codec`` decides which frames belong to it. ``Assembly`` takes their unmasked payloads
in parts of any size; it inflates them, and makes the checks that need state from one
part to the next: fragments, size, UTF-8.
"""

import codecs
from typing import TYPE_CHECKING, Final

from tako.errors import InvalidUtf8, WsError


if TYPE_CHECKING:
    from tako.ws.deflate import Inflater


_MAX_FRAGMENTS: Final = 16_384
"""Frames of one message."""
_SMALL_FRAGMENT: Final = 32  # bytes; any number of larger ones is taken
_LARGE_PART: Final = 4096  # bytes from which a part is kept as it is, and copied once
_MAX_EMPTY_FRAGMENTS: Final = 1024
"""Continuation frames of one message that carry nothing."""


def _policy_violation(text: str) -> WsError:
    error = WsError(text)
    error.close_code = 1008  # RFC 6455 §7.4.1: violates a policy
    return error


class Utf8Check:
    """Finds the first byte after which a text cannot be UTF-8 (RFC 6455 §8.1)."""

    __slots__ = ("_tail",)

    def __init__(self) -> None:
        self._tail = b""  # the beginning of a character that goes on in the next part

    def feed(self, part: bytes) -> None:
        """Check the next part.

        Raises:
            InvalidUtf8: whatever follows, the text is not UTF-8.
        """
        if self._tail:
            part = self._tail + part
        elif part.isascii():  # ten times as fast as decoding
            return
        try:
            _, good = codecs.utf_8_decode(part, "strict", False)
        except UnicodeDecodeError as error:
            raise InvalidUtf8(str(error)) from None
        self._tail = tail = part[good:]
        # The decoder itself rejects every other beginning that cannot become valid, but
        # for a surrogate (ED A0 to ED BF, RFC 3629 §3) it waits for the third byte.
        if len(tail) == 2 and tail[0] == 0xED and tail[1] >= 0xA0:
            msg = "text contains a surrogate"
            raise InvalidUtf8(msg)


class Assembly:
    """A message of which not everything has arrived."""

    __slots__ = (
        "_empty",
        "_fragments",
        "_parts",
        "_utf8",
        "held",
        "inflater",
        "wire_size",
    )

    def __init__(self, *, text: bool, inflater: "Inflater | None") -> None:
        self.inflater: Inflater | None = inflater
        self.wire_size: int = 0  # of all payloads so far, announced ones included
        self.held: int = 0
        """How many bytes are held."""
        self._parts: list[bytes | bytearray] = []  # the small ones share a bytearray
        self._utf8 = Utf8Check() if text else None
        self._fragments = 0
        self._empty = 0

    def begin_frame(self, size: int) -> None:
        """Count a frame of ``size`` bytes.

        Raises:
            WsError: 1008, there are too many frames for so few bytes.
        """
        self.wire_size += size
        self._fragments += 1
        if self._fragments > max(_MAX_FRAGMENTS, self.wire_size // _SMALL_FRAGMENT):
            msg = f"a message of {self.wire_size} bytes in {self._fragments} fragments"
            raise _policy_violation(msg)
        if size == 0 and self._fragments > 1:
            self._empty += 1
            if self._empty > _MAX_EMPTY_FRAGMENTS:
                msg = f"a message has more than {_MAX_EMPTY_FRAGMENTS} empty fragments"
                raise _policy_violation(msg)

    def add(self, part: bytes, *, final: bool, max_size: int) -> str | bytes | None:
        """Add the next part; return the message if that was all of it.

        Raises:
            WsError: it is too large, badly compressed, or not UTF-8.
        """
        if self.inflater is not None:
            budget = max_size - self.held
            part = self.inflater.inflate(part, final_fragment=final, budget=budget)
        if not final:
            if self._utf8 is not None:
                self._utf8.feed(part)
            self._hold(part)
            return None
        whole = b"".join([*self._parts, part]) if self._parts else part
        return whole if self._utf8 is None else decode_text(whole)

    def _hold(self, part: bytes) -> None:
        self.held += len(part)
        if len(part) >= _LARGE_PART:
            self._parts.append(part)
            return
        last = self._parts[-1] if self._parts else None
        if isinstance(last, bytearray):
            last += part
        else:
            self._parts.append(bytearray(part))


def decode_text(data: bytes | bytearray) -> str:
    """Return ``data`` as text.

    Raises:
        InvalidUtf8: it is not UTF-8 (RFC 6455 §8.1).
    """
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidUtf8(str(error)) from None
