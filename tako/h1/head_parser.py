"""From received bytes to a request head: limits, line grammar, fields.

Theory of operation. ``HeadBuffer`` holds what was received and not interpreted yet: a
head that is still arriving, requests behind the one being answered, or the first bytes
of a WebSocket. ``take`` cuts one head off its front. A complete head is normally read
in one pass, by ``tako.native``, which also tells whether it is a usual one: then the
rules for others need not be asked. Where that stops before the end of the head, or it
is still incomplete, lines are judged one by one in the order of the stream. So limits
and faults show as early as they can, and with the same verdict however the bytes were
split.

A read that is one usual head and nothing else, as most are, is not copied into the
buffer: ``take_whole``.

What a head means depends on its bytes alone, so one that is the same as the one before
(a client that polls, a probe) is not looked at again, and of another one not the fields
that stand in both at the same place.

Invariants: ``data[:_line]`` are complete lines that were accepted; ``data[:_scanned]``
contains no complete head.
"""

import re
from typing import Final

from tako.config import WireConfig
from tako.errors import HttpError
from tako.h1.request_head import check_head, usual_head
from tako.http.grammar import MAX_METHOD, TCHAR
from tako.http.headers import RawHeader
from tako.http.request_head import RequestHead
from tako.native.loops import split_fields, split_head


_EMPTY_LINES: Final = re.compile(rb"(?:\r\n)*+")
_METHOD: Final = re.compile(TCHAR + rb"++")
_TARGET: Final = re.compile(rb"[\x21-\x7e]++")
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_OFFENCE: Final = (
    re.compile(  # RFC 9110 §5.5; RFC 9112 §2.2: lines end with CR LF, always
        rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|(?<=\r)[^\n]|(?<!\r)\n"
    )
)

# RFC 9112 §5.1 has HTAB behind a value left out, too, but there are recipients that
# leave only spaces out. To them this coding is unknown, and the body another request.
_TAB_BEHIND_CODING: Final = re.compile(rb"(?i)\ntransfer-encoding:[^\r]*\t *+\r")

_END: Final = b"\r\n\r\n"
_MAX_REMEMBERED: Final = 2048  # bytes of a head that the next one is compared with
_TLS_HANDSHAKE: Final = b"\x16"  # RFC 8446 §5.1: the type of a ClientHello's record


class HeadBuffer:
    """Received bytes that wait, and the request heads among them."""

    __slots__ = (
        "_fields",
        "_last",
        "_last_fields",
        "_last_raw",
        "_line",
        "_max_fields",
        "_max_size",
        "_max_target",
        "_scanned",
        "_skipped",
        "data",
    )

    def __init__(self, config: WireConfig) -> None:
        self._max_fields: int = config.max_headers
        self._max_size: int = config.max_header_bytes
        self._max_target: int = config.max_target_bytes
        self._last_raw = b""
        self._last: RequestHead | None = None
        self._last_fields: list[RawHeader] = []  # as they stand in ``_last_raw``
        self.data: bytearray = bytearray()
        self._reset()

    def _reset(self) -> None:
        self._fields = 0
        self._line = 0
        self._scanned = 0
        self._skipped = 0

    @property
    def is_tls(self) -> bool:
        """The bytes are a TLS handshake, sent to a port that speaks HTTP."""
        return self.data.startswith(_TLS_HANDSHAKE)

    @property
    def is_frame(self) -> bool:
        """The bytes begin as a WebSocket frame may and as a request cannot.

        RFC 6455 §5.2: the first octet of a frame has FIN set, or is a small opcode.
        """
        return bool(self.data) and (self.data[0] >= 0x80 or self.data[0] < 0x09)

    def take_all(self) -> bytes:
        """Return all bytes and forget them."""
        data = bytes(self.data)
        self.data.clear()
        self._reset()
        self._last = None
        self._last_fields = []
        self._last_raw = b""
        return data

    def take_whole(self, data: bytes) -> RequestHead | None:
        """Return the head that ``data`` is, if that is usual and nothing waits here.

        ``None``: nothing was done; ``take`` says the same of ``data``, or what else it
        is. Of the 91,000 instructions of a request with the fields of a browser
        (http-h1-var, compiled) that saves 6,300.
        """
        if self.data or self._skipped:
            return None
        if data == self._last_raw:
            return self._last
        size = len(data)
        if size > self._max_size or not data.endswith(_END):
            return None
        split = split_head(data, self._max_fields, self._last_raw, self._last_fields)
        if split is None:
            return None
        method, target, _, fields, usual = split
        if usual is None or not self._fits(method, target):
            return None
        head = usual_head(method, target, fields, usual)
        self._remember(data, head, fields)
        return head

    def take(self) -> RequestHead | None:
        """Cut one head off the front; ``None``: it is not complete yet.

        Raises:
            HttpError: the head, or what there is of it, must be refused.
        """
        data = self.data
        head = self._last
        if head is not None and data.startswith(self._last_raw) and not self._skipped:
            del data[: len(self._last_raw)]
            if self._scanned:
                self._reset()
            return head
        if not self._line and data.startswith(b"\r\n"):
            # RFC 9112 §2.2: ignore empty lines before a request
            empty = _EMPTY_LINES.match(data)
            size = 0 if empty is None else empty.end()
            del data[:size]
            self._skipped += size
            self._scanned = 0
        end = data.find(_END, max(0, self._scanned - 3)) + 4
        if end < 4:
            self._judge(len(data))
            self._scanned = len(data)
            return None
        raw = bytes(data[:end])
        head = self._parse(raw, end)
        if not self._skipped:
            self._remember(raw, head, [])
        del data[:end]
        if self._scanned or self._skipped:
            self._reset()
        return head

    def _parse(self, raw: bytes, end: int) -> RequestHead:
        split = None
        if end + self._skipped <= self._max_size:
            split = split_head(raw, self._max_fields)
        if split is not None:
            method, target, version, fields, usual = split
            if self._fits(method, target):
                if usual is not None:
                    return usual_head(method, target, fields, usual)
                head = check_head(method.encode(), target.encode(), version, fields)
                if head.length is None and _TAB_BEHIND_CODING.search(raw):
                    raise HttpError(400, "Malformed Transfer-Encoding")
                return head
        self._judge(end - 2)
        self._judge_size(end)
        raise HttpError(400, "Malformed request head")

    def _fits(self, method: str, target: str) -> bool:
        return len(method) <= MAX_METHOD and len(target) <= self._max_target

    def _remember(self, raw: bytes, head: RequestHead, fields: list[RawHeader]) -> None:
        """Keep a head for the next request, which is often the same, or nearly."""
        if len(raw) <= _MAX_REMEMBERED:
            self._last_raw, self._last, self._last_fields = raw, head, fields

    def _judge(self, stop: int) -> None:
        """Look for a fault in the bytes before ``stop``, complete lines or not."""
        data = self.data
        # beyond the limit the answer is 431, whatever is there
        stop = min(stop, self._max_size + 1)
        offence = _OFFENCE.search(data, self._scanned, stop)
        sound = stop if offence is None else offence.start()
        while (eol := data.find(b"\n", max(self._line, self._scanned), sound)) >= 0:
            self._judge_line(bytes(data[self._line : eol + 1]))
            self._line = eol + 1
        if not self._line:
            most = self._max_target + 2 * MAX_METHOD
            self._judge_target(bytes(data[: min(sound, most)]))
        self._judge_size(sound)
        if offence is not None:
            raise HttpError(400, "Forbidden character in the request head")

    def _judge_line(self, line: bytes) -> None:
        if not self._line:
            self._judge_target(line)
            self._judge_size(len(line))
            _check_request_line(line)
            return
        self._judge_size(self._line + len(line))
        self._fields += 1
        if self._fields > self._max_fields:
            raise HttpError(431, "Too many header fields")  # RFC 6585 §5
        if split_fields(line, 0, 1)[1] != len(line):
            raise HttpError(400, "Malformed header field")

    def _judge_size(self, size: int) -> None:
        if size + self._skipped > self._max_size:
            raise HttpError(431, "Request head too large")  # RFC 6585 §5

    def _judge_target(self, line: bytes) -> None:
        """Hold a request line, perhaps its beginning only, to the size limits."""
        method, _, rest = line.partition(b" ")
        if len(method) > MAX_METHOD + 2:  # there may be no space at all
            raise HttpError(400, "Malformed request line")
        if len(rest.partition(b" ")[0].rstrip()) > self._max_target:
            raise HttpError(414, "Request target too long")  # RFC 9112 §3


def _check_request_line(line: bytes) -> None:
    """Raise the fitting error if ``line`` is not a request line (RFC 9112 §3)."""
    parts = line[:-2].split(b" ")
    if (
        len(parts) != 3
        or not _METHOD.fullmatch(parts[0])
        or not _TARGET.fullmatch(parts[1])
        or not _VERSION.fullmatch(parts[2])
    ):
        raise HttpError(400, "Malformed request line")
    if parts[2] not in {b"HTTP/1.1", b"HTTP/1.0"}:
        # RFC 9110 §15.6.6; among them the HTTP/2 preface (RFC 9113 §3.4)
        raise HttpError(505, "HTTP version not supported")
