"""Redirects (RFC 9110 §15.4)."""

import re
from collections.abc import Mapping
from http.cookies import Morsel
from types import MappingProxyType
from typing import Self, TypeAlias

from tako.http import grammar
from tako.http.headers import Headers, HeadersLike
from tako.http.response import Response


Cookies: TypeAlias = "Mapping[str, str] | Mapping[str, Morsel[str]]"

_NO_COOKIES: Mapping[str, str] = MappingProxyType({})
_COOKIE_VALUE = re.compile(  # RFC 6265 §4.1.1: cookie-octets, perhaps in quotes
    r"(\"?)[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*\1"
)


class Redirect:
    """A redirect to ``location``; a handler may return it.

    Args:
        status: 301, 302, 303, 307 or 308; there is a class method for each.
        location: a URI or a reference relative to the request's; percent-encoded.
        headers: further fields, in any form that ``Response`` takes.
        cookies: values by name, each sent as a ``Set-Cookie`` of its own; for their
            attributes give an ``http.cookies.SimpleCookie``.

    Raises:
        ValueError: the status is another one, or a header or a cookie cannot be sent.

    Example::

        return Redirect.see_other("/rooms/7")
    """

    __slots__ = ("headers", "location", "status")

    def __init__(
        self,
        status: int,
        location: str,
        headers: HeadersLike = (),
        cookies: Cookies = _NO_COOKIES,
    ) -> None:
        if status not in {301, 302, 303, 307, 308}:
            msg = f"{status} is not a redirect (RFC 9110 §15.4)"
            raise ValueError(msg)
        self.status: int = status
        self.location: str = location
        self.headers: Headers = Headers(headers)
        for name, value in cookies.items():
            self.headers.add("set-cookie", _set_cookie(name, value))

    @classmethod
    def found(
        cls,
        location: str,
        *,
        headers: HeadersLike = (),
        cookies: Cookies = _NO_COOKIES,
    ) -> Self:
        """Return a 302: moved for now; clients repeat a POST as GET.

        The arguments, and the errors raised, are those of ``Redirect``.
        """
        return cls(302, location, headers, cookies)

    @classmethod
    def see_other(
        cls,
        location: str,
        *,
        headers: HeadersLike = (),
        cookies: Cookies = _NO_COOKIES,
    ) -> Self:
        """Return a 303: the result is elsewhere; clients fetch it with GET.

        The arguments, and the errors raised, are those of ``Redirect``.
        """
        return cls(303, location, headers, cookies)

    @classmethod
    def temporary(
        cls,
        location: str,
        *,
        headers: HeadersLike = (),
        cookies: Cookies = _NO_COOKIES,
    ) -> Self:
        """Return a 307: moved for now; clients repeat the method.

        The arguments, and the errors raised, are those of ``Redirect``.
        """
        return cls(307, location, headers, cookies)

    @classmethod
    def permanent_moved(
        cls,
        location: str,
        *,
        headers: HeadersLike = (),
        cookies: Cookies = _NO_COOKIES,
    ) -> Self:
        """Return a 301: moved for good; clients repeat a POST as GET.

        The arguments, and the errors raised, are those of ``Redirect``.
        """
        return cls(301, location, headers, cookies)

    @classmethod
    def permanent(
        cls,
        location: str,
        *,
        headers: HeadersLike = (),
        cookies: Cookies = _NO_COOKIES,
    ) -> Self:
        """Return a 308: moved for good; clients repeat the method.

        The arguments, and the errors raised, are those of ``Redirect``.
        """
        return cls(308, location, headers, cookies)

    def into_response(self) -> Response:
        """Return the response; a 500 if ``location`` cannot be in a header."""
        location = self.location
        if not location.isascii() or not grammar.is_field_value(location.encode()):
            body = "redirect location contains invalid header characters"
            return Response(500, body=body)
        response = Response(self.status, {"location": location})
        others = [field for field in self.headers.raw if field[0] != b"location"]
        response.headers.raw += others
        return response

    def __repr__(self) -> str:
        return f"Redirect({self.status}, {self.location!r})"


def _set_cookie(name: str, value: "str | Morsel[str]") -> str:
    """Return the value of a ``Set-Cookie`` (RFC 6265 §4.1.1)."""
    if isinstance(value, Morsel):
        return value.OutputString()
    if not grammar.is_token(name.encode()) or not _COOKIE_VALUE.fullmatch(value):
        msg = f"{name}={value!r} is not a cookie: encode the value (RFC 6265 §4.1.1)"
        raise ValueError(msg)
    return f"{name}={value}"
