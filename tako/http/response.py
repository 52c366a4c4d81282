"""``Response``, and what a handler may return instead of one."""

import json
from collections.abc import AsyncIterable, Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import (
    Any,
    Protocol,
    TypeAlias,
    cast,
    runtime_checkable,
)

from tako.errors import HttpError
from tako.http.headers import Headers, HeadersLike
from tako.http.response_facts import ResponseFacts


_JSON = (b"content-type", b"application/json")


class Response(ResponseFacts):
    """The answer to one request.

    Args:
        status: the status code, 100 to 999.
        headers: another ``Headers``, a mapping, or ``(name, value)`` pairs.
        body: bytes; text, sent as UTF-8 and as ``text/plain`` unless ``headers`` says
            otherwise; or a plain or async iterable of bytes, which is streamed.

    Raises:
        ValueError: the status is out of range, or a header cannot be sent.
        TypeError: the body is of another type.

    Attributes:
        status: the status code.
        headers: the response's ``Headers``.
        body: bytes or an iterable of bytes.
        trailers: fields to send after the body, if any.

    Example::

        Response(200, {"content-type": "text/css"}, b"body { margin: 0 }")
        Response.json({"id": 7}, 201)
    """

    __slots__ = ()

    @classmethod
    def json(
        cls,
        value: object,
        status: int | HTTPStatus = 200,
        headers: HeadersLike = (),
    ) -> "Response":
        """Return a response with ``value`` as a JSON text (RFC 8259).

        Args:
            value: what ``json.dumps`` takes.
            status: as for ``Response``.
            headers: as for ``Response``; ``application/json`` unless they name a type.

        Raises:
            TypeError: ``value`` holds something that JSON has no form for.
            ValueError: ``value`` holds itself, a NaN or an infinity; or as for
                ``Response``.
        """
        text = json.dumps(
            value, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        response = cls(status, headers, text.encode())
        if response.headers.get_raw(b"content-type") is None:
            response.headers.raw.append(_JSON)
        return response

    def into_response(self) -> "Response":
        """Return the response itself: a ``Response`` is a ``Responder``."""
        return self

    def __repr__(self) -> str:
        return f"Response({self.status}, {self.headers.items()!r})"


@runtime_checkable
class Responder(Protocol):
    """An object that makes a response; a handler may return it, or raise it."""

    def into_response(self) -> Response:
        """Return the response to the request that the handler was called with."""
        ...


IntoResponse: TypeAlias = (
    Response
    | Responder
    | str
    | bytes
    | bytearray
    | memoryview
    | dict[str, Any]
    | list[Any]
    | int
    | Headers
    | tuple[Any, ...]
    | AsyncIterable[bytes]
    | Iterator[bytes]
    | Exception
    | None
)
"""What a handler may return; ``into_response`` says what each means."""


def into_response(value: object) -> Response:
    """Return the response that ``value``, which a handler returned, stands for.

    ``None`` is an empty 200; ``str`` and bytes are bodies; ``dict`` and ``list`` are
    sent as JSON; an ``int`` is a status; ``Headers`` are headers; ``(status, body)``,
    ``(status, Headers)`` and ``(status, headers, body)`` combine them, where a ``dict``
    in a pair is a JSON body; iterators and async iterators of bytes are streamed;
    ``into_response()`` of an object that has it is called; an exception is answered as
    if it had been raised.

    Raises:
        TypeError: ``value`` is none of these, or JSON has no form for it.
        ValueError: JSON has no form for it.
    """
    if type(value) is Response:
        return value
    convert = _BY_TYPE.get(type(value))
    if convert is not None:
        return convert(value)
    if hasattr(value, "into_response"):
        return _asked(value)
    for base, convert_base in _BY_BASE:
        if isinstance(value, base):
            return convert_base(value)
    if hasattr(value, "__aiter__") or hasattr(value, "__next__"):
        return Response(body=cast("AsyncIterable[bytes]", value))
    msg = f"a handler cannot return {type(value).__name__}; see into_response"
    raise TypeError(msg)


def _asked(value: Any) -> Response:
    response = value.into_response()
    if not isinstance(response, Response):
        msg = (
            f"{type(value).__name__}.into_response() returned"
            f" {type(response).__name__}, not Response"
        )
        raise TypeError(msg)
    return response


def error_response(error: Exception) -> Response:
    """Return the answer to an exception: an ``HttpError``'s own, for any other a 500.

    The text of any other exception is not in it.
    """
    if not isinstance(error, HttpError):
        return Response(500, body="Internal Server Error")
    detail = error.detail or reason_phrase(error.status)
    return Response(error.status, error.headers, detail)


def reason_phrase(status: int) -> str:
    """Return the reason phrase of ``status`` (RFC 9110 §15), ``""`` if it has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def _refused(value: object) -> Response:
    msg = f"a handler cannot return {type(value).__name__}; see into_response"
    raise TypeError(msg)


def _combined(parts: tuple[Any, ...]) -> Response:
    match parts:
        case (int() as status, Headers() as headers):
            return Response(status, headers)
        case (int() as status, body):
            headers = Headers()
        case (int() as status, fields, body):
            headers = Headers(fields)
        case _:
            msg = "a tuple is (status, body), (status, Headers) or all three"
            raise TypeError(msg)
    response = into_response(body)
    response.status = Response(status).status
    for name in set(headers):
        response.headers.remove(name)
    response.headers.raw += headers.raw
    return response


_BY_BASE: tuple[tuple[type, Callable[[Any], Response]], ...] = (
    (bool, _refused),
    (str, partial(Response, 200, ())),  # no call of Python's, as a lambda is
    (bytes, partial(Response, 200, ())),
    (bytearray, lambda data: Response(body=data)),
    (memoryview, lambda data: Response(body=data)),
    (dict, Response.json),
    (list, Response.json),
    (int, Response),
    (tuple, _combined),
    (Headers, lambda headers: Response(headers=headers)),
    (Exception, error_response),
)
_BY_TYPE: dict[type, Callable[[Any], Response]] = {
    **dict(_BY_BASE),
    type(None): lambda _: Response(),
}
