"""``ResponseFacts``: what a ``Response`` holds; handlers make one for each request.

Compiled where ``TAKO_COMPILE`` says so: a response is made in a third of the time. What
it does, and its documentation, is in ``Response``.
"""

# pyright: reportPrivateUsage=false

from collections.abc import AsyncIterable, Iterable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from tako.http.compiling import mypyc_attr
from tako.http.headers import Headers, HeadersLike, RawHeader


Body: TypeAlias = bytes | AsyncIterable[bytes] | Iterable[bytes]
"""A response body: all of it, or an iterable of chunks that is sent as it yields."""

# Compiled code would make a pair anew each time
_TEXT: Final[Any] = (b"content-type", b"text/plain; charset=utf-8")


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseFacts:
    """The base of ``Response``, whose attributes are described there."""

    __slots__ = ("_fields", "_headers", "body", "status", "trailers")

    def __init__(
        self,
        status: int | HTTPStatus = 200,
        headers: HeadersLike = (),
        body: bytes
        | bytearray
        | memoryview
        | str
        | AsyncIterable[bytes]
        | Iterable[bytes] = b"",
    ) -> None:
        """Make a response; see ``Response``."""
        code = status if type(status) is int else _plain(status)
        if not 100 <= code <= 999:  # RFC 9110 §15: three digits
            msg = f"a status code has three digits, unlike {status!r}"
            raise ValueError(msg)
        self.status: int = code
        self._fields: list[RawHeader] = []  # until ``headers`` is needed
        self._headers: Headers | None = Headers(headers) if headers else None
        self.trailers: Headers | None = None
        self.body: Body
        if type(body) is bytes:
            self.body = body
        elif isinstance(body, str):
            self.body = body.encode()
            fields = fields_of(self)
            if not fields or not any(name == b"content-type" for name, _ in fields):
                fields.append(_TEXT)
        elif isinstance(body, (bytes, bytearray, memoryview)):
            self.body = bytes(body)
        elif _is_stream(body):
            self.body = body
        else:
            msg = f"{type(body).__name__} is not a response body; see Response.json"
            raise TypeError(msg)

    @property
    def headers(self) -> Headers:
        """The response's fields."""
        headers = self._headers
        if headers is None:
            headers = self._headers = Headers.from_raw(self._fields)
        return headers

    @headers.setter
    def headers(self, headers: Headers) -> None:
        self._headers = headers


# A function, not a method: a call of a method would look for one of a subclass
def fields_of(response: ResponseFacts) -> list[RawHeader]:
    """Return ``headers.raw`` of a response: itself, without making ``headers``."""
    headers = response._headers
    return response._fields if headers is None else headers.raw


def _plain(status: int | HTTPStatus) -> int:
    """Return a status as a plain number; 0 if it is none."""
    return int(status) if 100 <= status <= 999 else 0


def _is_stream(body: object) -> bool:
    return hasattr(body, "__aiter__") or (
        hasattr(body, "__iter__") and not isinstance(body, Mapping)
    )
