"""The Origin allow-list of a WebSocket route (RFC 6455 §10.2, RFC 6454).

A browser states the origin of the page that opens a WebSocket, and its same-origin
policy lets any page connect to any host: so the server has to check. Origins
are compared in one normal form, ``scheme://host[:port]``; nothing is matched by prefix,
suffix or wildcard.

The parser is strict on purpose. Where a lenient URL parser and a browser disagree about
the host of a text, an attacker could get past an allow-list that used the former.
"""

import functools
import ipaddress
import re
from typing import Final

from tako.http.headers import Headers


_ORIGIN: Final = re.compile(
    r"([A-Za-z][A-Za-z0-9+.\-]*)://"  # RFC 3986 §3.1
    r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9\-._~!$&'()*+,;=]+)"  # §3.2.2, no "%"
    r"(?::([0-9]*))?"  # §3.2.3
    r"(?:[/?#][\x21-\x5b\x5d-\x7e]*)?"  # path and what follows: no part of an origin
)
_UNICODE_HOST: Final = re.compile(r"([^/?#]*://)([^/?#:\[\]@\\%]+)(.*)", re.DOTALL)

_DEFAULT_PORTS: Final = {"http": 80, "ws": 80, "https": 443, "wss": 443}  # RFC 6454 §4
_MAX_PORT: Final = 65535

# IDNA 2003 maps these four away, browsers keep them (UTS #46 §7): "ß" and "ss" are
# different hosts, so the entry must say which one it means.
_IDNA_DEVIATIONS: Final = re.compile("[\u00df\u03c2\u200c\u200d]")


def normalize_origin(raw: str) -> str | None:
    """Return the origin ``raw`` in normal form, ``scheme://host[:port]``, or ``None``.

    Scheme and host in lower case, default port and path dropped, IPv6 compressed in
    brackets. ``None`` for ``null``, for anything with userinfo, and for text that is
    no origin.
    """
    match = _ORIGIN.fullmatch(raw.strip(" \t"))
    if match is None:
        return None
    scheme, host, port = match[1].lower(), match[2].lower(), match[3] or ""
    number = port.lstrip("0")[:6]
    if port:
        value = int(number or "0")
        if value > _MAX_PORT:
            return None
        port = "" if value == _DEFAULT_PORTS.get(scheme) else f":{value}"
    if host.startswith("["):
        address = _ipv6(host[1:-1])
        if address is None:
            return None
        host = f"[{address}]"
    return f"{scheme}://{host}{port}"


def _ipv6(text: str) -> str | None:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped
    if mapped is None:
        return address.compressed
    # RFC 5952 §5 would print a dotted quad, as newer versions of ``ipaddress`` do;
    # browsers print two groups (WHATWG URL, "IPv6 serializer").
    number = int(mapped)
    return f"::ffff:{number >> 16:x}:{number & 0xFFFF:x}"


@functools.lru_cache(maxsize=1024)
def normalize_allowed(entry: str) -> str:
    """Return the normal form of an allow-list entry; its host may be in Unicode.

    Raises:
        ValueError: ``entry`` names no single origin; the message says how to write it.
    """
    origin = normalize_origin(_with_ascii_host(entry))
    if origin is None:
        msg = (
            f"{entry!r} is not an origin: write scheme://host[:port], "
            "for example 'https://app.example.com'"
        )
        raise ValueError(msg + _hint(entry))
    if "*" in origin:
        msg = f"{entry!r} has a wildcard: list every origin in full"
        raise ValueError(msg)
    return origin


def _hint(entry: str) -> str:
    text = entry.strip().lower()
    if text == "*":
        return " (to accept any origin, do not set allowed_origins)"
    if text == "null":
        return " ('null' is what every sandboxed page sends; it cannot be allowed)"
    if "@" in text:
        return " (without user or password)"
    return ""


def _with_ascii_host(entry: str) -> str:
    """Encode a Unicode host by IDNA (RFC 3490 §4.1), as a browser sends it."""
    match = _UNICODE_HOST.fullmatch(entry)
    if match is None or match[2].isascii():
        return entry
    if _IDNA_DEVIATIONS.search(match[2]):
        msg = (
            f"{entry!r} has a character that IDNA versions disagree on: "
            "write the host in its xn-- form"
        )
        raise ValueError(msg)
    try:
        host = match[2].encode("idna").decode("ascii")
    except UnicodeError as error:
        msg = (
            f"{entry!r} has no valid internationalised host: write it in its xn-- form"
        )
        raise ValueError(msg) from error
    return match[1] + host + match[3]


def origin_allowed(headers: Headers, allowed: frozenset[str]) -> bool:
    """Tell whether a request comes from an origin in ``allowed`` (in normal form).

    No Origin, more than one, or one that is not visible ASCII: it does not.
    """
    lines = headers.get_all_raw(b"origin")
    if len(lines) != 1:  # RFC 6454 §7.3: a request has one Origin field at most
        return False
    return normalize_origin(lines[0].decode("latin-1")) in allowed
