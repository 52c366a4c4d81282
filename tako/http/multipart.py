"""Forms (RFC 7578): ``Multipart``, whose parts are read as they arrive.

Theory of operation. ``Multipart`` asks for a chunk of the body when the application
asks for more, and puts it through the push parser of the ``multipart`` package. What
comes out is taken one by one: a part begins, data, the part ends. Nothing is kept but
the rest of one chunk, so a form of any size takes the memory of a chunk, and a slow
application makes the client wait.

Invariants: one part is open at a time; asking for the next skips the rest of it; the
last part is followed by the end of the body, which leaves the connection usable.
"""

from collections.abc import Awaitable, Callable, Iterator
from importlib import import_module
from typing import Any, NamedTuple, Protocol, Self, TypeAlias

from tako.errors import ConfigError, HttpError
from tako.http import grammar
from tako.http.headers import Headers
from tako.http.media_type import decode_text, essence
from tako.http.pieces import Piece, keep


NextChunk: TypeAlias = Callable[[], Awaitable[bytes]]
"""Returns the next chunk of a body, ``b""`` at its end."""

_MAX_PART_HEADERS = 16
_MAX_PART_HEADER = 8192  # bytes; file names are in there
_END = object()  # of the body
_UNSET: Any = object()
_MALFORMED = "Malformed multipart form"


class PartHead(Protocol):
    """The head of a part, as the parser yields it (its ``MultipartSegment``)."""

    name: str | None
    filename: str | None
    headerlist: list[tuple[str, str]]


class Parser(Protocol):
    """The part of ``multipart.PushMultipartParser`` that is used."""

    def parse(self, chunk: bytes) -> Iterator[Any]:
        """Yield for each part its head, its data and ``None``."""
        ...


class ParserErrors(NamedTuple):
    """What the parser raises where a limit is exceeded, and for a malformed form."""

    limit: type[Exception]
    malformed: type[Exception]


class Part:
    """One part of a multipart form: a field or a file, read as it arrives.

    Iterate over it for its chunks, or ``read`` it; once.

    Attributes:
        name: the name of the form's field.
        filename: what the client calls the file, ``None`` for a plain field. Never a
            path to open: a client may send any.
        headers: the part's own header fields.
    """

    __slots__ = (
        "_ended",
        "_next_data",
        "_passed",
        "_read_limit",
        "filename",
        "headers",
        "name",
    )

    def __init__(
        self,
        head: PartHead,
        next_data: Callable[[], Awaitable[Any]],
        read_limit: int | None = None,
    ) -> None:
        self._next_data = next_data
        self._read_limit = read_limit
        self._ended = self._passed = False
        self.name: str = head.name or ""
        self.filename: str | None = head.filename
        fields = [(name, value.encode()) for name, value in head.headerlist]
        try:
            self.headers: Headers = Headers(fields)
        except ValueError as error:
            raise HttpError(400, _MALFORMED) from error

    @property
    def content_type(self) -> str:
        """The part's media type with its parameters; RFC 7578 §4.4 has the default."""
        return self.headers.get("content-type") or "text/plain"

    def __aiter__(self) -> Self:
        """Return itself: the data can be read once."""
        return self

    async def __anext__(self) -> bytes:
        """Return the next chunk of the part's data.

        Raises:
            HttpError: as in ``Multipart``.
            RuntimeError: the next part was asked for before this one was read.
            Disconnected: the peer is gone.
            RemoteProtocolError: the body breaks its framing.

        Cancel safety: safe; no chunk is lost.
        """
        if self._passed:
            msg = f"{self!r} was passed: read a part before you ask for the next"
            raise RuntimeError(msg)
        if not self._ended:
            chunk: bytes | None = await self._next_data()
            if chunk is not None:
                return chunk
            self._ended = True
        raise StopAsyncIteration

    async def read(self, limit: int | None = _UNSET) -> bytes:
        """Return the rest of the part's data.

        Args:
            limit: the most bytes that are accepted; ``None``: what the form allows; by
                default the request's ``max_body_size``.

        Raises:
            HttpError: 413, there is more than ``limit``; others as in ``Multipart``.
            RuntimeError: the next part was asked for before this one was read.
            Disconnected: the peer is gone.
            RemoteProtocolError: the body breaks its framing.

        Cancel safety: not safe; what was read is lost.
        """
        if limit is _UNSET:
            limit = self._read_limit
        chunks: list[Piece] = []
        size = 0
        async for chunk in self:
            keep(chunks, chunk)
            size += len(chunk)
            if limit is not None and size > limit:
                raise HttpError(413)
        return b"".join(chunks)

    async def text(self, limit: int | None = _UNSET) -> str:
        """Return the rest of the part as text, in the charset it declares, else UTF-8.

        Args:
            limit: as in ``read``.

        Raises:
            HttpError: 400, the data is not in that charset; others as in ``read``.

        Cancel safety: not safe, as ``read``.
        """
        return decode_text(await self.read(limit), self.content_type)

    async def skip(self) -> None:
        """Read what is left and forget it; for ``Multipart``.

        Cancel safety: safe; call it again.
        """
        if not self._ended:
            self._passed = True
            while await self._next_data() is not None:
                pass
            self._ended = True

    def __repr__(self) -> str:
        return f"<Part {self.name!r} {self.content_type}>"


class Multipart:
    """A multipart form: ``async for part in await request.multipart(): ...``.

    While it is read it raises ``HttpError``: 400 for a malformed form, 413 beyond one
    of its limits.
    """

    __slots__ = (
        "_errors",
        "_events",
        "_left",
        "_next_chunk",
        "_parser",
        "_part",
        "_read_limit",
    )

    def __init__(
        self,
        next_chunk: NextChunk,
        parser: Parser,
        limit: int | None,
        errors: ParserErrors,
        read_limit: int | None,
    ) -> None:
        self._next_chunk = next_chunk
        self._read_limit = read_limit
        self._errors = errors
        self._parser = parser
        self._left = limit
        self._events: Iterator[Any] = iter(())
        self._part: Part | None = None

    def __aiter__(self) -> Self:
        """Return itself: the parts can be read once."""
        return self

    async def __anext__(self) -> Part:
        """Return the next part; what is left of the one before is skipped.

        Raises:
            HttpError: 400, the form is malformed; 413, it exceeds a limit.
            Disconnected: the peer is gone.
            RemoteProtocolError: the body breaks its framing.

        Cancel safety: safe; no part is lost.
        """
        if self._part is not None:
            await self._part.skip()
            self._part = None
        head = await self._next_event()
        if head is _END:
            raise StopAsyncIteration
        self._part = Part(head, self._next_event, self._read_limit)
        return self._part

    async def _next_event(self) -> Any:
        """Return the head of a part, data, ``None`` where a part ends, or ``_END``."""
        try:
            while True:
                for event in self._events:
                    return event
                chunk = await self._next_chunk()
                self._count(len(chunk))
                self._events = self._parser.parse(chunk)
                if not chunk:
                    next(self._events, None)  # raises if the form is cut short
                    return _END
        except self._errors.limit as error:
            raise HttpError(413) from error
        except self._errors.malformed as error:
            raise HttpError(400, _MALFORMED) from error

    def _count(self, size: int) -> None:
        if self._left is not None:
            self._left -= size
            if self._left < 0:
                raise HttpError(413)


def open_multipart(
    headers: Headers,
    next_chunk: NextChunk,
    *,
    limit: int | None,
    part_limit: int | None,
    max_parts: int,
    read_limit: int | None = None,
) -> Multipart:
    """Return the form in a body with these header fields; nothing is read yet.

    Raises:
        ConfigError: the ``multipart`` package is not installed.
        HttpError: 415, the content type is another one; 400, it has no boundary; 413,
            the body is larger than ``limit``.
    """
    try:
        multipart = import_module("multipart")  # optional: imported where it is needed
    except ImportError as error:
        msg = "multipart forms need a package: pip install 'tako-server[multipart]'"
        raise ConfigError(msg) from error
    if essence(headers) != "multipart/form-data":
        raise HttpError(415, "Invalid content type; expected multipart/form-data")
    length = grammar.content_length(headers.get_raw(b"content-length") or b"")
    if limit is not None and (length or 0) > limit:
        raise HttpError(413)  # RFC 9110 §15.5.14: no need to read any of it
    _, options = multipart.parse_options_header(headers["content-type"])
    boundary: str = options.get("boundary", "")
    if not 1 <= len(boundary) <= 70:  # RFC 2046 §5.1.1
        raise HttpError(400, _MALFORMED)
    sizes = {} if part_limit is None else {"max_segment_size": part_limit}
    parser = multipart.PushMultipartParser(
        boundary.encode("latin-1"),
        max_header_size=_MAX_PART_HEADER,
        max_header_count=_MAX_PART_HEADERS,
        max_segment_count=max_parts,
        **sizes,
    )
    errors = ParserErrors(multipart.ParserLimitReached, multipart.MultipartError)
    return Multipart(next_chunk, parser, limit, errors, read_limit)
