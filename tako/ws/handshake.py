"""The opening handshake on both wires, as pure functions over a ``Request``.

HTTP/1.1: RFC 6455 §4.2 and the 101 of RFC 9110 §7.8. HTTP/2: extended CONNECT and the
200 of RFC 8441 §5. Each wire is a list of checks in a fixed order; the first that fails
is the answer, an ordinary response after which the connection stays usable.
"""

import binascii
import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, TypeAlias

from tako.core.exchange_of import exchange_of
from tako.http.grammar import TCHAR, content_length, has_token, is_token
from tako.http.headers import RawHeader
from tako.http.request import Request
from tako.ws.deflate import Offer, Params, negotiate
from tako.ws.options import DeflateParams, WsOptions
from tako.ws.origin import origin_allowed


_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
_KEY: Final = re.compile(rb"[A-Za-z0-9+/]{22}==")  # base64 of 16 bytes
_VISIBLE: Final = re.compile(rb"[\t\x20-\x7e]*")

_TOKEN: Final = TCHAR + rb"++"
_NAME: Final = re.compile(rb"[ \t]*+(" + _TOKEN + rb")[ \t]*+")
_PARAM: Final = re.compile(
    rb";[ \t]*+(" + _TOKEN + rb")[ \t]*+"
    rb"(?:=[ \t]*+(?:(" + _TOKEN + rb')|"((?:[^"\\]|\\.)*+)")[ \t]*+)?',
    re.DOTALL,
)
_MEMBER: Final = re.compile(rb'((?:[^",]++|"(?:[^"\\]|\\.)*+")*+)(?:,|\Z)', re.DOTALL)
_ESCAPE: Final = re.compile(rb"\\(.)", re.DOTALL)

_TEXT: Final[RawHeader] = (b"content-type", b"text/plain; charset=utf-8")
_VERSION: Final[RawHeader] = (b"sec-websocket-version", b"13")  # RFC 6455 §4.4
_UPGRADE: Final[tuple[RawHeader, ...]] = (
    (b"upgrade", b"websocket"),
    (b"connection", b"Upgrade"),
)
_READ: Final = frozenset(
    [
        b"connection",
        b"content-length",
        b"sec-websocket-extensions",
        b"sec-websocket-key",
        b"sec-websocket-protocol",
        b"sec-websocket-version",
        b"transfer-encoding",
        b"upgrade",
    ]
)
_NO_LINES: Final[list[bytes]] = []


class Rejection(NamedTuple):
    """The handshake failed: an ordinary response."""

    status: int
    headers: tuple[RawHeader, ...]
    body: bytes


class Acceptance(NamedTuple):
    """The handshake succeeded: the head of the response, and what was agreed on."""

    status: int
    headers: tuple[RawHeader, ...]
    subprotocol: str | None
    deflate: DeflateParams | None


class _Asked:
    """A request that should ask for a WebSocket; its fields are gone through once.

    Attributes:
        request: the request.
        key: its key, if one, the base64 of 16 bytes, was sent (RFC 6455 §4.1).
    """

    __slots__ = ("_lines", "key", "request")

    def __init__(self, request: Request) -> None:
        self.request: Final = request
        self._lines: Final[dict[bytes, list[bytes]]] = {}
        for name, value in request.headers.raw:
            if name in self._lines:
                self._lines[name].append(value)
            elif name in _READ:
                self._lines[name] = [value]
        keys = self.lines(b"sec-websocket-key")
        valid = len(keys) == 1 and _KEY.fullmatch(keys[0])
        self.key: Final = keys[0] if valid else None

    def lines(self, name: bytes) -> list[bytes]:
        """Return every value of the field ``name``, one of ``_READ``, in order."""
        return self._lines.get(name, _NO_LINES)


Check: TypeAlias = Callable[[_Asked], Rejection | None]


def shake_hands(request: Request, options: WsOptions) -> Rejection | Acceptance:
    """Judge a request that should ask for a WebSocket, and return the answer."""
    origins = options.allowed_origins
    if origins is not None and not origin_allowed(request.headers, origins):
        return _refuse(403, b"origin not allowed")  # RFC 6455 §4.2.2
    asked = _Asked(request)
    over_h2 = request.http_version == "2"
    for check in _H2_CHECKS if over_h2 else _H1_CHECKS:
        refusal = check(asked)
        if refusal is not None:
            return refusal
    return _accept(asked, options, over_h2=over_h2)


def _refuse(status: int, body: bytes, *extra: RawHeader) -> Rejection:
    return Rejection(status, (_TEXT, *extra), body)


def _names(lines: list[bytes], token: bytes) -> bool:
    """Tell whether a list, in ``lines`` of one field, has ``token``."""
    # alone, as nearly always: without a look at each member
    return (len(lines) == 1 and lines[0].lower() == token) or has_token(lines, token)


# HTTP/1.1, RFC 6455 §4.2.1


def _check_method(asked: _Asked) -> Rejection | None:
    if asked.request.method == "GET":
        return None
    return _refuse(405, b"WebSocket upgrade requires GET", (b"allow", b"GET"))


def _check_http_version(asked: _Asked) -> Rejection | None:
    if asked.request.http_version != "1.0":
        return None
    # RFC 9110 §7.8: a server ignores Upgrade in an HTTP/1.0 request
    return _refuse(400, b"WebSocket upgrade requires HTTP/1.1")


def _check_upgrade(asked: _Asked) -> Rejection | None:
    if _names(asked.lines(b"upgrade"), b"websocket") and _names(
        asked.lines(b"connection"), b"upgrade"
    ):
        return None
    # RFC 9110 §15.5.22: a 426 names the protocol to upgrade to
    return _refuse(426, b"Expected Upgrade: websocket", *_UPGRADE)


def _check_key_present(asked: _Asked) -> Rejection | None:
    if asked.lines(b"sec-websocket-key"):
        return None
    return _refuse(400, b"Missing Sec-WebSocket-Key")


def _check_h1_ws_version(asked: _Asked) -> Rejection | None:
    lines = asked.lines(b"sec-websocket-version")
    if lines == [b"13"]:  # RFC 6455 §11.3.5: once
        return None
    if not lines:
        return _refuse(400, b"Missing Sec-WebSocket-Version", _VERSION)
    # RFC 6455 §4.2.2: say which version we speak
    return _refuse(426, b"Unsupported Sec-WebSocket-Version", _VERSION, *_UPGRADE)


def _check_key(asked: _Asked) -> Rejection | None:
    if asked.key is not None:
        return None
    return _refuse(400, b"Invalid Sec-WebSocket-Key")


def _check_no_body(asked: _Asked) -> Rejection | None:
    lengths = asked.lines(b"content-length")
    chunked = asked.lines(b"transfer-encoding")
    if not (lengths or chunked):
        return None
    if not chunked and all(content_length(value) == 0 for value in lengths):
        return None
    # What follows might be the body or frames: close instead of guessing.
    return _refuse(
        400,
        b"WebSocket upgrade request must not have a body",
        (b"connection", b"close"),
    )


def _check_protocols(asked: _Asked) -> Rejection | None:
    offers = asked.lines(b"sec-websocket-protocol")
    if not offers:
        return None
    # RFC 6455 §11.3.4: several fields are one list; §4.1: of tokens, each once
    names = [name.strip(b" \t") for name in b",".join(offers).split(b",")]
    if len(set(names)) == len(names) and all(map(is_token, names)):
        return None
    return _refuse(400, b"Invalid Sec-WebSocket-Protocol")


# HTTP/2, RFC 8441 §5


def _check_extended_connect(asked: _Asked) -> Rejection | None:
    if asked.request.protocol == "websocket":
        return None
    # No 426 here: it needs Upgrade, which RFC 9113 §8.2.2 forbids
    return _refuse(400, b"Expected extended CONNECT (RFC 8441)")


def _check_h2_ws_version(asked: _Asked) -> Rejection | None:
    lines = asked.lines(b"sec-websocket-version")
    if lines == [b"13"]:
        return None
    if not lines:
        return _refuse(400, b"Missing Sec-WebSocket-Version", _VERSION)
    return _refuse(400, b"Unsupported Sec-WebSocket-Version", _VERSION)


def _check_stream_open(asked: _Asked) -> Rejection | None:
    exchange = exchange_of(asked.request)
    if exchange is None or not exchange.body.exhausted:
        return None
    return _refuse(400, b"WebSocket stream already closed")


def _check_no_length(asked: _Asked) -> Rejection | None:
    if not asked.lines(b"content-length"):
        return None
    # RFC 9110 §9.3.6: content in a CONNECT request has no meaning
    return _refuse(400, b"WebSocket upgrade request must not have a body")


_H1_CHECKS: Final[tuple[Check, ...]] = (
    _check_method,
    _check_http_version,
    _check_upgrade,
    _check_key_present,
    _check_h1_ws_version,
    _check_key,
    _check_protocols,
    _check_no_body,
)
_H2_CHECKS: Final[tuple[Check, ...]] = (
    _check_extended_connect,
    _check_h2_ws_version,
    _check_protocols,
    _check_stream_open,
    _check_no_length,
)


# The answer


def _accept(asked: _Asked, options: WsOptions, *, over_h2: bool) -> Acceptance:
    answer: list[RawHeader] = [] if over_h2 else list(_UPGRADE)
    # RFC 8441 §5 needs no key, but a client that sends one may insist on its proof. On
    # HTTP/1.1 the key was checked before.
    if asked.key is not None:
        answer.append((b"sec-websocket-accept", accept_key(asked.key)))
    subprotocol = choose_subprotocol(
        asked.lines(b"sec-websocket-protocol"), options.protocols
    )
    if subprotocol is not None:
        answer.append((b"sec-websocket-protocol", subprotocol.encode("ascii")))
    deflate = None
    if options.compression is not None:
        offers = parse_extensions(asked.lines(b"sec-websocket-extensions"))
        agreed = negotiate(offers, options.compression)
        if agreed is not None:
            words, deflate = agreed
            answer.append((b"sec-websocket-extensions", words.encode("ascii")))
    return Acceptance(200 if over_h2 else 101, tuple(answer), subprotocol, deflate)


def accept_key(key: bytes) -> bytes:
    """Return the Sec-WebSocket-Accept that proves that ``key`` was read (§4.2.2)."""
    digest = hashlib.sha1(key + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False)


def choose_subprotocol(lines: Sequence[bytes], supported: Sequence[str]) -> str | None:
    """Return the first of ``supported`` that the client offers in ``lines``, if any.

    The server's order decides, so that a client cannot ask for the weaker one first.
    An offer with bytes other than visible ASCII is ignored.
    """
    offer = b",".join(lines)  # RFC 6455 §11.3.4: several fields are one list
    if not supported or not _VISIBLE.fullmatch(offer):
        return None
    offered = {name.strip(" \t") for name in offer.decode("ascii").split(",")}
    return next((name for name in supported if name in offered), None)


def parse_extensions(lines: Sequence[bytes]) -> list[Offer]:
    """Return the well-formed members of Sec-WebSocket-Extensions (RFC 6455 §9.1).

    A malformed member is left out, which declines it. Commas and semicolons in a quoted
    string do not separate; a string without an end spoils the rest of its field.
    """
    offers = (_parse_offer(member) for line in lines for member in _members(line))
    return [offer for offer in offers if offer is not None]


def _members(line: bytes) -> Iterator[bytes]:
    position = 0
    while position < len(line):
        member = _MEMBER.match(line, position)
        if member is None:
            return
        yield member[1]
        position = member.end()


def _parse_offer(member: bytes) -> Offer | None:
    name = _NAME.match(member)
    if name is None:
        return None
    params: Params = []
    position = name.end()
    while position < len(member):
        param = _PARAM.match(member, position)
        if param is None:
            return None
        value = param[2]
        if param[3] is not None:
            value = _ESCAPE.sub(rb"\1", param[3])
        text = None if value is None else value.decode("latin-1")
        params.append((param[1].decode("ascii"), text))
        position = param.end()
    return name[1].decode("ascii"), params
