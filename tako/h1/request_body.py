"""Where a request body ends: Content-Length and chunked (RFC 9112 §6, §7.1).

Theory of operation. A reader takes received bytes and returns the body bytes among
them. Once ``complete``, what was behind the body is in ``rest``. The chunked reader
keeps an unfinished line between two calls, never data; each line is matched by one
strict regular expression, and what does not match is refused as soon as the line ends
or grows too long.
"""

import re
from typing import Final, TypeAlias

from tako.config import WireConfig
from tako.core.turn import Turn, endless
from tako.errors import HttpError
from tako.http.grammar import FIELD_CHAR, TCHAR
from tako.http.headers import NOT_IN_TRAILERS, RawHeader


MAX_CHUNK_LINE: Final = 256
MAX_EXTENSIONS: Final = 4 * 1024  # per body
MAX_TRAILERS: Final = 8 * 1024

# A chunk for each 32 bytes and 64 for each read are free, and ``max_tiny_chunks`` more:
# a client that writes byte by byte, but slowly, is served.
_TINY: Final = 32  # bytes of data that a chunk head is worth
_CHUNKS_PER_READ: Final = 64
_BATCH: Final = 64  # chunks between looks at the turn
_BATCH_COST: Final = 24

_EXTENSION: Final = rb"(;" + FIELD_CHAR + rb"*+)?"  # RFC 9112 §7.1.1: read and ignored
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})" + _EXTENSION + rb"\r\n")
# the CR LF that ends a chunk's data is matched with the size line that must follow it
_NEXT_SIZE_LINE: Final = re.compile(rb"\r\n([0-9A-Fa-f]{1,16})" + _EXTENSION + rb"\r\n")
_TRAILER: Final = re.compile(
    rb"(" + TCHAR + rb"++):[\t ]*+(" + FIELD_CHAR + rb"*+)\r\n"
)


class LengthBody:
    """A body of a known length (RFC 9112 §6.2)."""

    __slots__ = ("_left", "complete", "rest", "trailers")

    trailers: list[RawHeader]
    backlog: bool = False

    def __init__(self, length: int) -> None:
        self._left = length
        self.complete: bool = False
        self.rest: bytes = b""
        self.trailers = []

    def receive(self, data: bytes) -> bytes:
        """Return the part of ``data`` that belongs to the body."""
        left = self._left
        if len(data) < left:
            self._left = left - len(data)
            return data
        self._left = 0
        self.complete = True
        self.rest = data[left:]
        return data[:left]


class ChunkedBody:
    """A chunked body (RFC 9112 §7.1).

    Args:
        config: the limits.
        turn: the connection's budget; ``None``: all is read at once.

    Attributes:
        backlog: there is input that this turn had no time for; call ``receive(b"")``.
    """

    __slots__ = (
        "_excess",
        "_extensions",
        "_in_trailers",
        "_left",
        "_line",
        "_max_tiny_chunks",
        "_max_trailers",
        "_size_line",
        "_trailer_bytes",
        "_turn",
        "backlog",
        "complete",
        "rest",
        "trailers",
    )

    trailers: list[RawHeader]

    def __init__(self, config: WireConfig, turn: Turn | None = None) -> None:
        self._turn = turn or endless()
        self._excess = 0  # chunks that carried too little
        self._extensions = 0
        self._in_trailers = False
        self._left = 0  # of the chunk
        self._line: bytes = b""
        self._max_trailers = config.max_headers
        self._max_tiny_chunks = config.max_tiny_chunks
        self._size_line = _SIZE_LINE
        self._trailer_bytes = 0
        self.backlog: bool = False
        self.complete: bool = False
        self.rest: bytes = b""
        self.trailers = []

    def receive(self, data: bytes) -> bytes:
        """Return the body bytes in ``data``.

        Raises:
            HttpError: 400 or 431; where the body ends is unknown from here on.
        """
        if data:
            self._excess = max(self._excess - _CHUNKS_PER_READ, 0)
        self.backlog = False
        if self._line:
            data = self._line + data
            self._line = b""
        chunks: list[bytes] = []
        at = heads = 0
        while at < len(data) and not self.complete:
            if self._left:
                chunk = data[at : at + self._left]
                chunks.append(chunk)
                self._left -= len(chunk)
                at += len(chunk)
            elif self._in_trailers:
                at = self._read_trailer(data, at)
            elif heads >= _BATCH and not self._turn.spend(_BATCH_COST):
                self._line = data[at:]
                self.backlog = True
                break
            else:
                heads = heads + 1 if heads < _BATCH else 1
                at = self._read_size(data, at)
        return b"".join(chunks)

    def _read_size(self, data: bytes, at: int) -> int:
        match = self._size_line.match(data, at)
        if match is None:
            self._keep_size_line(data[at : at + MAX_CHUNK_LINE + 3])
            return len(data)
        if match.end() - match.start(1) > MAX_CHUNK_LINE:
            raise HttpError(400, "Chunk line too long")
        if match[2]:
            self._extensions += len(match[2])
            if self._extensions > MAX_EXTENSIONS:  # RFC 9112 §7.1.1: bound their total
                raise HttpError(400, "Too many chunk extensions")
        self._left = int(match[1], 16)
        self._in_trailers = self._left == 0
        if self._left < _TINY:
            self._excess += 1
            if self._excess > self._max_tiny_chunks:
                raise HttpError(400, "Too many small chunks")
        elif self._excess:
            self._excess = max(self._excess - self._left // _TINY, 0)
        self._size_line = _NEXT_SIZE_LINE
        return match.end()

    def _keep_size_line(self, start: bytes) -> None:
        """Keep the start of a size line, unless it can never become one."""
        line = start
        if self._size_line is _NEXT_SIZE_LINE:
            if not b"\r\n".startswith(start[:2]):
                raise HttpError(400, "Chunk data too long")
            line = start[2:]
        # RFC 9112 §2.2: neither a bare LF nor a bare CR ends a line
        if b"\n" in line or b"\r" in line[:-1]:
            raise HttpError(400, "Malformed chunk size")
        if len(line) >= MAX_CHUNK_LINE:
            raise HttpError(400, "Chunk line too long")
        self._line = start

    def _read_trailer(self, data: bytes, at: int) -> int:
        """Read one line of the trailer section (RFC 9112 §7.1.2)."""
        end = data.find(b"\n", at) + 1
        size = (end or len(data)) - at
        if self._trailer_bytes + size > MAX_TRAILERS:
            raise HttpError(431, "Trailers too large")  # RFC 6585 §5
        if not end:
            self._line = data[at:]
            return len(data)
        line = data[at:end]
        if line == b"\r\n":
            self.complete = True
            self.rest = data[end:]
            return end
        self._trailer_bytes += size
        self._add_trailer(line)
        return end

    def _add_trailer(self, line: bytes) -> None:
        match = _TRAILER.fullmatch(line)
        if match is None:
            raise HttpError(400, "Malformed trailer")
        if len(self.trailers) >= self._max_trailers:
            raise HttpError(431, "Too many trailers")
        name = match[1].lower()
        if name not in NOT_IN_TRAILERS:
            self.trailers.append((name, match[2].rstrip(b" \t")))


RequestBody: TypeAlias = LengthBody | ChunkedBody
