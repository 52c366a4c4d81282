"""permessage-deflate: agreeing on it, and messages through zlib (RFC 7692).

Theory of operation. ``negotiate`` looks at the client's offers in order and answers the
first that it can keep to the letter. It declines the others; none is an error (§7.1).
A client has one ``offer``, and ``accept_answer`` holds the server to it.
``Inflater`` and ``Deflater`` hold one direction's LZ77 window each. The zlib
objects are made for the first compressed message, so a session without one pays
nothing, and a direction without context takeover keeps none between messages.

Received bytes are hostile: every call to zlib carries ``max_length``, one more than the
message may still grow, so a bomb costs no more than the largest message would.

Invariants of ``Inflater``: nothing that zlib leaves unread is kept (``unconsumed_tail``
and ``unused_data`` end in an error or in the message's end); after an error it is not
used again; ``_ended`` is true only between a block with BFINAL and the end of its
message.
"""

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from tako.errors import MessageTooBig, ProtocolViolation
from tako.ws.options import Deflate, DeflateParams


if TYPE_CHECKING:  # zlib's types have no public names
    from zlib import (
        _Compress as Encoder,  # pyright: ignore[reportPrivateUsage]
        _Decompress as Decoder,  # pyright: ignore[reportPrivateUsage]
    )


_TAIL = b"\x00\x00\xff\xff"  # RFC 7692 §7.2.1: left out at the end of every message
_EMPTY = b"\x00"  # RFC 7692 §7.2.3.6: the payload of an empty message
_FINAL_EMPTY_BLOCK = b"\x03\x00"  # RFC 1951 §3.2.6: BFINAL, fixed codes, end of block

_DEFAULT_BITS = 15  # RFC 7692 §7.1.2: where nothing was agreed
_WINDOW_BITS = {str(bits): bits for bits in range(9, 16)}  # no leading zeros; 8: zlib

_WINDOWS = ("server_max_window_bits", "client_max_window_bits")
_SMALLEST = ("server_max_window_bits", "8")

Params = list[tuple[str, str | None]]
Offer = tuple[str, Params]


class InvalidDeflate(ProtocolViolation):
    """A message that does not decompress: 1007 (RFC 6455 §7.4.1)."""

    close_code = 1007


class Inflater:
    """Decompresses the messages of one session, in order.

    Args:
        params: what was agreed on.
    """

    __slots__ = ("_decoder", "_ended", "_fresh", "_padded", "_window_bits")

    def __init__(self, params: DeflateParams) -> None:
        self._window_bits = -params.their_window_bits  # negative: raw deflate
        self._fresh = params.their_no_context_takeover
        self._decoder: Decoder | None = None
        self._ended = False
        self._padded = False

    def inflate(self, data: bytes, *, final_fragment: bool, budget: int) -> bytes:
        """Return what ``data``, the next bytes of the current message, expands to.

        Args:
            data: payload bytes, split anywhere.
            final_fragment: the message ends with them.
            budget: bytes that the message may still grow; exactly that many are fine.

        Raises:
            MessageTooBig: it would grow more; no more than ``budget`` bytes were made.
            InvalidDeflate: ``data`` is no such stream, or goes on after its end.
        """
        if self._ended:
            self._skip_padding(data)
            if final_fragment:
                self._next_message()
            return b""
        if self._decoder is None:
            self._decoder = zlib.decompressobj(self._window_bits)
        decoder = self._decoder
        try:
            out = decoder.decompress(
                data + _TAIL if final_fragment else data, max(budget, 0) + 1
            )
        except zlib.error as error:
            msg = f"a compressed message is invalid ({error})"
            raise InvalidDeflate(msg) from None
        # Both: zlib may have consumed all input and still exceed the budget by little.
        if len(out) > budget or decoder.unconsumed_tail:
            msg = "a compressed message grows beyond the limit"
            raise MessageTooBig(msg)
        if decoder.eof:
            self._end_stream(decoder.unused_data, final_fragment=final_fragment)
        elif final_fragment:
            self._end_message(decoder)
        return out

    def _end_stream(self, rest: bytes, *, final_fragment: bool) -> None:
        """Let the next message begin a new stream (RFC 7692 §7.2.3.4: BFINAL was set).

        Only one byte may follow in this message: the first of the empty block, of which
        the other four are left out (§7.2.1).
        """
        self._decoder = None
        self._ended = True
        if final_fragment:
            if not rest.endswith(_TAIL):
                msg = "a compressed message stops inside a block"
                raise InvalidDeflate(msg)
            rest = rest[: -len(_TAIL)]
        self._skip_padding(rest)
        if final_fragment:
            self._next_message()

    def _skip_padding(self, rest: bytes) -> None:
        if not rest:
            return
        if self._padded or rest != _EMPTY:
            msg = "a compressed message goes on after its final block"
            raise InvalidDeflate(msg)
        self._padded = True

    def _end_message(self, decoder: "Decoder") -> None:
        """Check that the message ended at the end of a block (RFC 7692 §7.2.1).

        zlib does not tell, but only there it takes one more block. Without this check a
        message that was cut short would be delivered, and behind it whatever ``_TAIL``
        happens to mean.
        """
        probe = decoder if self._fresh else decoder.copy()  # about 1 us
        try:
            surplus = probe.decompress(_FINAL_EMPTY_BLOCK, 1)
        except zlib.error:
            surplus = _EMPTY
        if surplus or not probe.eof or probe.unused_data:
            msg = "a compressed message stops inside a block"
            raise InvalidDeflate(msg)
        self._next_message()

    def _next_message(self) -> None:
        self._ended = self._padded = False
        if self._fresh:  # RFC 7692 §7.1.1.2
            self._decoder = None


class Deflater:
    """Compresses the messages of one session, in order.

    Args:
        params: what was agreed on.
    """

    __slots__ = ("_encoder", "_fresh", "_mem_level", "_window_bits", "shareable")

    def __init__(self, params: DeflateParams) -> None:
        self._window_bits = -params.our_window_bits  # negative: raw deflate
        self._mem_level = params.mem_level
        self._fresh = params.our_no_context_takeover
        self.shareable: DeflateParams | None = params if self._fresh else None
        """What makes others compress a message to the same; ``None``: nothing does."""
        self._encoder: Encoder | None = None

    def deflate(self, payload: bytes) -> bytes:
        """Return the payload of the compressed message (RFC 7692 §7.2.1)."""
        if not payload:
            return _EMPTY  # a second flush in a row would be nothing at all
        encoder = self._encoder
        if encoder is None:
            encoder = zlib.compressobj(
                zlib.Z_DEFAULT_COMPRESSION,
                zlib.DEFLATED,
                self._window_bits,
                self._mem_level,
            )
            if not self._fresh:  # RFC 7692 §7.1.1.1
                self._encoder = encoder
        head = encoder.compress(payload)
        return head + encoder.flush(zlib.Z_SYNC_FLUSH)[: -len(_TAIL)]


def negotiate(
    offers: Iterable[Offer], config: Deflate
) -> tuple[str, DeflateParams] | None:
    """Return the answer to the first acceptable offer and what it means, or ``None``.

    Args:
        offers: the client's extensions in order: names, each with its parameters.
        config: what the route allows.
    """
    for name, params in offers:
        # Compared to the letter. RFC 6455 says "ASCII case-insensitive" where it means
        # it (§4.2.1: Upgrade), and §9.1 does not. A client that offers another spelling
        # might fail on this one (§4.1); an offer may always be declined.
        if name == "permessage-deflate":
            answer = _answer(params, config)
            if answer is not None:
                return answer
    return None


def _answer(params: Params, config: Deflate) -> tuple[str, DeflateParams] | None:
    offered = dict(params)
    if len(offered) < len(params):  # RFC 7692 §7.1: a parameter twice declines
        return None
    if not all(_valid(name, value) for name, value in params):
        return None
    # §7.1.1: in the answer if the client asks or the route wants it; both sides then
    # know that they need not keep a window.
    ours_fresh = config.no_context_takeover or "server_no_context_takeover" in offered
    theirs_fresh = config.no_context_takeover or "client_no_context_takeover" in offered
    our_bits, their_bits = config.server_window_bits, _DEFAULT_BITS
    words = ["permessage-deflate"]
    if ours_fresh:
        words.append("server_no_context_takeover")
    if theirs_fresh:
        words.append("client_no_context_takeover")
    if "server_max_window_bits" in offered:
        # §7.1.2.1: at most what the client can decompress
        our_bits = min(our_bits, _bits(offered["server_max_window_bits"]))
        words.append(f"server_max_window_bits={our_bits}")
    if "client_max_window_bits" in offered:
        # §7.1.2.2: only a client that offers it can be told to use less
        their_bits = min(
            config.client_window_bits, _bits(offered["client_max_window_bits"])
        )
        words.append(f"client_max_window_bits={their_bits}")
    agreed = DeflateParams(
        our_bits,
        their_bits,
        ours_fresh,
        theirs_fresh,
        config.mem_level,
        config.threshold,
    )
    return "; ".join(words), agreed


def offer(config: Deflate) -> str:
    """Return what a client offers: one extension with its parameters."""
    words = ["permessage-deflate"]
    if config.no_context_takeover:
        words += ["server_no_context_takeover", "client_no_context_takeover"]
    if config.server_window_bits < _DEFAULT_BITS:
        words.append(f"server_max_window_bits={config.server_window_bits}")
    words.append("client_max_window_bits")  # §7.1.2.2: the server may choose
    return "; ".join(words)


def accept_answer(params: Params, config: Deflate) -> DeflateParams:
    """Return what the server's answer to ``offer`` means.

    Raises:
        ValueError: it is none; RFC 7692 §7.1 has the connection fail then.
    """
    answered = dict(params)
    if len(answered) < len(params):
        msg = "a parameter of permessage-deflate comes twice"
        raise ValueError(msg)
    for name, value in params:
        # §7.1.2: in an answer a window has a size. zlib reads one of 8 bits.
        known = _valid(name, value) or (name, value) == _SMALLEST
        if not known or (value is None and name in _WINDOWS):
            msg = f"permessage-deflate has {name} with the value {value}"
            raise ValueError(msg)
    theirs_fresh = "server_no_context_takeover" in answered
    # §7.1.1.1: what was asked of the server must be in its answer
    if config.no_context_takeover and not theirs_fresh:
        msg = "permessage-deflate lacks server_no_context_takeover"
        raise ValueError(msg)
    their_bits = int(answered.get("server_max_window_bits") or _DEFAULT_BITS)
    if their_bits > config.server_window_bits:  # §7.1.2.1
        msg = f"permessage-deflate has a server's window of {their_bits} bits"
        raise ValueError(msg)
    our_bits = int(answered.get("client_max_window_bits") or _DEFAULT_BITS)
    return DeflateParams(
        min(our_bits, config.client_window_bits),
        max(their_bits, min(_WINDOW_BITS.values())),
        config.no_context_takeover or "client_no_context_takeover" in answered,
        theirs_fresh,
        config.mem_level,
        config.threshold,
    )


def _bits(value: str | None) -> int:
    return _DEFAULT_BITS if value is None else _WINDOW_BITS[value]


def _valid(name: str, value: str | None) -> bool:
    """Tell whether an offer's parameter is known and well-formed (RFC 7692 §7.1)."""
    if name == "server_max_window_bits":
        return value in _WINDOW_BITS
    if name == "client_max_window_bits":
        return value is None or value in _WINDOW_BITS
    known = ("server_no_context_takeover", "client_no_context_takeover")
    return name in known and value is None
