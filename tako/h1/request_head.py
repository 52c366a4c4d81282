"""What an HTTP/1.1 request head must satisfy beyond its grammar (RFC 9112).

Requests are smuggled where two parsers read one head differently, so nothing here is
repaired or guessed: a head has one meaning or it is refused. The rules stand on
the raw fields alone and do not depend on the parser that split them.

Every function raises ``HttpError`` with the status and the text of the answer.
"""

import re
from typing import Final, TypeAlias

from tako.errors import HttpError
from tako.http.grammar import (
    content_length,
    expects_continue,
    has_token,
    is_authority,
    is_path,
    members,
)
from tako.http.headers import RawHeader
from tako.http.request_head import FORWARDED, HttpVersion, RequestHead, with_host


_RELEVANT: Final = FORWARDED | frozenset(
    [
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
    ]
)
_ABSOLUTE: Final = re.compile(rb"(?i:(https?))://([^/?#]*)(.*)", re.DOTALL)

_Fields: TypeAlias = dict[bytes, list[bytes]]
_NONE: Final[list[bytes]] = []


def usual_head(
    method: str, target: str, fields: list[RawHeader], usual: tuple[str, int, bool]
) -> RequestHead:
    """Return what a head means that is usual, see ``native.pure.split_head``.

    That is what ``check_head`` would return.
    """
    host, length, forwarded = usual
    return RequestHead(  # as below
        method,
        target,
        "1.1",
        fields,
        host,
        None,
        length,
        False,
        False,
        forwarded,
        True,
    )


def check_head(
    method: bytes, target: bytes, version: HttpVersion, fields: list[RawHeader]
) -> RequestHead:
    """Return what the head means.

    Raises:
        HttpError: 400, 417 or 501; the connection must be closed after the answer.
    """
    relevant: _Fields = {}
    for name, value in fields:
        if name in _RELEVANT:
            if name in relevant:
                relevant[name].append(value)
            else:
                relevant[name] = [value]
    host = _host(relevant.get(b"host", _NONE), version)
    path, authority, scheme = _target(method, target)
    if authority is None:
        authority = host
    elif authority != host:
        fields = with_host(fields, authority)
    codings = relevant.get(b"transfer-encoding")
    lengths = relevant.get(b"content-length")
    expectations = relevant.get(b"expect")
    upgrade = relevant.get(b"upgrade")
    # RFC 9110 §7.6.1
    options = members(relevant[b"connection"]) if b"connection" in relevant else _NONE
    return RequestHead(  # by place: by name it takes twice as long
        method.decode(),
        path.decode(),
        version,
        fields,
        None if authority is None else authority.decode(),
        scheme,
        # RFC 9112 §6.3: a request without either has no body
        0 if codings is lengths is None else _length(codings, lengths, version),
        expectations is not None and _expects_continue(expectations, version),
        (
            upgrade is not None
            and version == "1.1"  # RFC 9110 §7.8: ignore Upgrade in HTTP/1.0
            and method == b"GET"  # RFC 6455 §4.2.1
            and has_token(upgrade, b"websocket")
            and b"upgrade" in options
        ),
        not FORWARDED.isdisjoint(relevant),
        # RFC 9112 §9.3: "close" beats everything
        b"close" not in options and (version == "1.1" or b"keep-alive" in options),
    )


def _host(values: list[bytes], version: HttpVersion) -> bytes | None:
    # RFC 9112 §3.2: 400 for a missing Host in HTTP/1.1, for a second and for a bad one
    if len(values) > 1:
        raise HttpError(400, "More than one Host")
    if not values:
        if version == "1.0":
            return None
        raise HttpError(400, "Missing Host")
    if not is_authority(values[0]):  # RFC 9110 §4.2.1: an empty host is invalid, too
        raise HttpError(400, "Invalid Host")
    return values[0]


def _target(method: bytes, target: bytes) -> tuple[bytes, bytes | None, str | None]:
    """Return the target in origin-form; its authority and scheme if it names them."""
    if method == b"CONNECT":  # RFC 9112 §3.2.3: a proxy's business
        raise HttpError(501, "CONNECT is not supported")
    if is_path(target):  # RFC 9112 §3.2.1: origin-form
        return target, None, None
    if target == b"*" and method == b"OPTIONS":  # RFC 9112 §3.2.4: asterisk-form
        return target, None, None
    match = _ABSOLUTE.fullmatch(target)  # RFC 9112 §3.2.2: absolute-form
    if match is None or not is_authority(match[2]):
        raise HttpError(400, "Invalid request target")
    path = match[3]
    if not path:  # RFC 9112 §3.2.4: OPTIONS without a path is about the whole server
        path = b"*" if method == b"OPTIONS" else b"/"
    elif not path.startswith(b"/"):
        path = b"/" + path  # RFC 3986 §6.2.3: an empty path is "/"
    if path != b"*" and not is_path(path):
        raise HttpError(400, "Invalid request target")
    # RFC 3986 §3.1: case does not count
    return path, match[2], match[1].decode("ascii").lower()


def _length(
    codings: list[bytes] | None, lengths: list[bytes] | None, version: HttpVersion
) -> int | None:
    """Return the length of the body, ``None`` if it is chunked (RFC 9112 §6.3)."""
    if codings is not None:
        _check_codings(codings, version)
        if lengths is not None:  # RFC 9112 §6.3: an attempt at smuggling
            raise HttpError(400, "Both Transfer-Encoding and Content-Length")
        return None
    # RFC 9110 §8.6 allows to accept identical repeats; refusing them needs no trust
    length = content_length(lengths[0]) if lengths and len(lengths) == 1 else None
    if length is None:
        raise HttpError(400, "Invalid Content-Length")
    return length


def _check_codings(values: list[bytes], version: HttpVersion) -> None:
    if version == "1.0":  # RFC 9112 §6.1: faulty framing
        raise HttpError(400, "Transfer-Encoding in HTTP/1.0")
    if len(values) == 1 and values[0].lower() == b"chunked":
        return
    codings = members(values)
    # RFC 9112 §6.3: a length that cannot be determined is 400;
    # §6.1: an unknown coding below a final "chunked" is 501
    if codings[-1] != b"chunked" or codings.count(b"chunked") > 1 or b"" in codings:
        raise HttpError(400, "Invalid Transfer-Encoding")
    raise HttpError(501, "Unsupported Transfer-Encoding")


def _expects_continue(values: list[bytes], version: HttpVersion) -> bool:
    if version == "1.0":  # RFC 9110 §10.1.1: ignore it in HTTP/1.0
        return False
    expected = expects_continue(values)
    if expected is None:
        raise HttpError(417, "Unknown expectation")  # RFC 9110 §10.1.1
    return expected
