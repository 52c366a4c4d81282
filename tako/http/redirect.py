"""Redirects (RFC 9110 §15.4), and a router that sends everybody to HTTPS."""

import re
from collections.abc import Iterable, Mapping
from http.cookies import Morsel
from types import MappingProxyType
from typing import TypeAlias

from tako.config import positive
from tako.errors import ConfigError
from tako.http import grammar
from tako.http.headers import Headers, HeadersLike
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.router import Router


Cookies: TypeAlias = "Mapping[str, str] | Mapping[str, Morsel[str]]"

_HTTPS_PORT = 443
_NO_COOKIES: Mapping[str, str] = MappingProxyType({})
_COOKIE_VALUE = re.compile(  # RFC 6265 §4.1.1: cookie-octets, perhaps in quotes
    r"(\"?)[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e]*\1"
)


class Redirect:
    """A redirect to ``location``; a handler may return it.

    Args:
        status: 301, 302, 303, 307 or 308; see the functions below.
        location: a URI or a reference relative to the request's; percent-encoded.
        headers: further fields, in any form that ``Response`` takes.
        cookies: values by name, each sent as a ``Set-Cookie`` of its own; for their
            attributes give an ``http.cookies.SimpleCookie``.

    Raises:
        ValueError: the status is another one, or a header or a cookie cannot be sent.
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
            msg = f"{status} is no redirect (RFC 9110 §15.4)"
            raise ValueError(msg)
        self.status: int = status
        self.location: str = location
        self.headers: Headers = Headers(headers)
        for name, value in cookies.items():
            self.headers.add("set-cookie", _set_cookie(name, value))

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
        msg = f"{name}={value!r} is no cookie: encode the value (RFC 6265 §4.1.1)"
        raise ValueError(msg)
    return f"{name}={value}"


def found(
    location: str, *, headers: HeadersLike = (), cookies: Cookies = _NO_COOKIES
) -> Redirect:
    """Return a 302: for now elsewhere; clients repeat a POST as GET."""
    return Redirect(302, location, headers, cookies)


def see_other(
    location: str, *, headers: HeadersLike = (), cookies: Cookies = _NO_COOKIES
) -> Redirect:
    """Return a 303: the answer is elsewhere, to be had with GET."""
    return Redirect(303, location, headers, cookies)


def temporary(
    location: str, *, headers: HeadersLike = (), cookies: Cookies = _NO_COOKIES
) -> Redirect:
    """Return a 307: for now elsewhere, with the same method."""
    return Redirect(307, location, headers, cookies)


def permanent_moved(
    location: str, *, headers: HeadersLike = (), cookies: Cookies = _NO_COOKIES
) -> Redirect:
    """Return a 301: for good elsewhere; clients repeat a POST as GET."""
    return Redirect(301, location, headers, cookies)


def permanent(
    location: str, *, headers: HeadersLike = (), cookies: Cookies = _NO_COOKIES
) -> Redirect:
    """Return a 308: for good elsewhere, with the same method."""
    return Redirect(308, location, headers, cookies)


def http_to_https_router(port: int = _HTTPS_PORT) -> Router:
    """Return a router that answers every request with a 308 to the same URL over HTTPS.

    The client's ``Host`` says where to, whatever it is; behind a shared cache use
    ``http_to_https_router_with_allowed_hosts``.

    Args:
        port: the port of the HTTPS server.

    Raises:
        ConfigError: there is no such port.
    """
    return _https_router(port, None)


def http_to_https_router_with_allowed_hosts(
    port: int, allowed_hosts: Iterable[str]
) -> Router:
    """Return such a router that answers 421 to requests for hosts that are not allowed.

    Args:
        port: the port of the HTTPS server.
        allowed_hosts: host names; case and ports do not count.

    Raises:
        ConfigError: there is no such port, or one of the hosts is none.
    """
    if isinstance(allowed_hosts, str):
        msg = f'allowed_hosts takes several hosts: write ["{allowed_hosts}"]'
        raise ConfigError(msg)
    allowed: set[str] = set()
    for host in allowed_hosts:
        name = _host_name(host)
        if name is None:
            msg = f"{host!r} is no host"
            raise ConfigError(msg)
        allowed.add(name.lower())
    return _https_router(port, frozenset(allowed))


def _https_router(port: int, allowed: frozenset[str] | None) -> Router:
    suffix = "" if positive(port, "port", most=65535) == _HTTPS_PORT else f":{port}"

    def redirect(request: Request) -> object:
        host = _host_name(request.host)
        if host is None:
            return 400, "invalid Host header"
        if allowed is not None and host.lower() not in allowed:
            return 421, "host not allowed"  # RFC 9110 §15.5.20
        target = request.target if request.target.startswith("/") else "/"
        return permanent(f"https://{host}{suffix}{target}")

    return Router().fallback(redirect)


def _host_name(authority: str | None) -> str | None:
    """Return the host in ``host [ ":" port ]`` (RFC 3986 §3.2), ``None`` if bad."""
    if not authority or not authority.isascii():
        return None
    if not grammar.is_authority(authority.encode()):
        return None
    if authority.startswith("["):
        return authority[: authority.index("]") + 1]
    return authority.partition(":")[0]
