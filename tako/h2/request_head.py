"""What the content of an HTTP/2 request must satisfy (RFC 9113 §8, RFC 8441 §4).

A request that is malformed costs its own stream, not the connection. A head comes out
as a ``RequestHead``; or as a ``Refusal`` with a status, where the request is
well-formed but will not be served; or as ``None``: malformed, and answered with
RST_STREAM(PROTOCOL_ERROR) (RFC 9113 §8.1.1).
"""

import sys
from typing import Final, NamedTuple

from tako.config import ServerConfig, WireConfig
from tako.h2.fields import CONNECTION_SPECIFIC, Field, FieldKind
from tako.http import grammar
from tako.http.headers import NOT_IN_TRAILERS, RawHeader
from tako.http.request_head import FORWARDED, RequestHead, with_host
from tako.native.loops import usual_request


# In trailers these speak of the message's framing or routing, which stands already
_MALFORMED_IN_TRAILERS: Final = CONNECTION_SPECIFIC | {
    b"content-length",
    b"host",
    b"te",
    b"trailer",
}
_SINGLE: Final = (b"host", b"content-length")  # at most once (RFC 9110 §7.2, §8.6)
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}
# What a pseudo-field's value has around it in HTTP/1.1; others are not there at all
_AROUND_METHOD: Final = len(" ")
_AROUND_PATH: Final = len(" HTTP/1.1\r\n")
_AROUND_AUTHORITY: Final = len("Host: \r\n")
# RFC 7541 §4.1: 32 bytes for each field; in HTTP/1.1 it is 4, for ": " and CRLF
_LISTED: Final = 32
_LESS_IN_LINES: Final = _LISTED - 4
_CRUMB_JOINED: Final = _LISTED + len("cookie") - len("; ")  # what it is smaller by

# Cheaper than by their class
_PLAIN: Final = FieldKind.PLAIN
_PSEUDO: Final = FieldKind.PSEUDO
_CRUMB: Final = FieldKind.CRUMB
_RULED: Final = FieldKind.RULED
_MALFORMED: Final = FieldKind.MALFORMED


class Refusal(NamedTuple):
    """The answer to a request that is not dispatched."""

    status: int
    body: bytes = b""


_ACCEPTED: Final = Refusal(0)  # there is nothing to refuse


class _Section:
    """The fields of a head, apart by what they are, cookies joined."""

    __slots__ = ("fields", "lines", "listed", "malformed", "pseudo", "ruled")

    def __init__(self, fields: list[Field]) -> None:
        self.pseudo: dict[bytes, bytes] = {}
        self.ruled: dict[bytes, bytes] = {}
        """Fields that have rules of their own."""
        self.fields: list[RawHeader] = []
        """All but the pseudo-fields."""
        self.malformed: bool = False
        pseudo, own = self.pseudo, self.fields
        size_of_pseudo = size_of_own = at = 0
        crumbs: list[bytes] = []
        for field, kind, size in fields:
            # RFC 9113 §8.3: each once, all before the others
            if kind is _PSEUDO and not own:
                name, value = field
                if name in pseudo:
                    self.malformed = True
                pseudo[name] = value
                size_of_pseudo += size
                continue
            size_of_own += size
            if kind is _CRUMB:  # RFC 9113 §8.2.3: one field, where the first was
                crumbs.append(field[1])
                if len(crumbs) > 1:
                    size_of_own -= _CRUMB_JOINED
                    continue
                at = len(own)
            elif kind is not _PLAIN:
                self._check(kind, *field)
            own.append(field)
        if crumbs:
            cookie = b"; ".join(crumbs)
            if cookie != cookie.strip(b" \t"):  # RFC 9113 §8.2.1
                self.malformed = True
            if len(crumbs) > 1:
                own[at] = (b"cookie", cookie)
        self.listed: int = size_of_own + size_of_pseudo
        """The size as RFC 9113 §6.5.2 counts it."""
        self.lines: int = 2 + size_of_own - _LESS_IN_LINES * len(self.fields)
        """The size of all but the pseudo-fields in HTTP/1.1."""

    def _check(self, kind: FieldKind, name: bytes, value: bytes) -> None:
        """Take a field that has a rule of its own, or breaks one."""
        if kind is not _RULED or (name in self.ruled and name in _SINGLE):
            self.malformed = True
        self.ruled[name] = value


def limits_of(config: ServerConfig) -> tuple[int, ...]:
    """Return the limits of ``native.loops.usual_request``."""
    listed = config.h2_max_header_list_size
    return (
        config.max_headers,
        config.max_header_bytes,
        sys.maxsize if listed is None else listed,
        config.max_target_bytes,
    )


def check_head(
    fields: list[Field], limits: tuple[int, ...], config: ServerConfig
) -> RequestHead | Refusal | None:
    """Check a request's header section; ``limits`` are ``limits_of`` the ``config``."""
    usual = usual_request(fields, limits)
    if usual is None:
        return judge_head(fields, config)
    method, path, scheme, authority, own, length, forwarded = usual
    return RequestHead(  # as below
        method, path, "2", own, authority, scheme, length, False, False, forwarded
    )


def judge_head(
    fields: list[Field], config: ServerConfig
) -> RequestHead | Refusal | None:
    """Return what ``check_head`` does, of any section."""
    section = _Section(fields)
    pseudo, ruled, own = section.pseudo, section.ruled, section.fields
    method, path = pseudo.get(b":method"), pseudo.get(b":path")
    named, lines = pseudo.get(b":authority"), section.lines
    if method is not None:
        lines += len(method) + _AROUND_METHOD
    if path is not None:
        lines += len(path) + _AROUND_PATH
    if named is not None:
        lines += len(named) + _AROUND_AUTHORITY
    if _too_large(len(own), section.listed, lines, config):
        return Refusal(431)  # RFC 6585 §5
    authority = _authority(pseudo, ruled)
    if section.malformed or method is None or authority is None:
        return None
    length = int(ruled[b"content-length"]) if b"content-length" in ruled else None
    refusal = _check_method(method, pseudo, length, config)
    if refusal is not _ACCEPTED:
        return refusal
    expects_continue = False
    if b"expect" in ruled:
        expected = grammar.expects_continue([v for n, v in own if n == b"expect"])
        if expected is None:
            # RFC 9110 §10.1.1; §9.3.2: no content in an answer to HEAD
            return Refusal(417, b"" if method == b"HEAD" else b"Unknown expectation")
        expects_continue = expected
    if ruled.get(b"host") != authority:
        own = _with_host(own, ruled, authority)
    connect = method == b"CONNECT"
    return RequestHead(
        # An extended CONNECT is presented as the GET that it replaces
        "GET" if connect else method.decode("latin-1"),
        pseudo[b":path"].decode("latin-1"),
        "2",
        own,
        authority.decode("latin-1"),
        pseudo[b":scheme"].decode("latin-1"),
        length,
        expects_continue,
        connect,
        not FORWARDED.isdisjoint(ruled),
    )


def _with_host(
    own: list[RawHeader], ruled: dict[bytes, bytes], authority: bytes
) -> list[RawHeader]:
    """Return what ``with_host`` does, which would look for a field that is rare."""
    if b"host" in ruled:
        return with_host(own, authority)
    return [(b"host", authority), *own]


def check_trailers(fields: list[Field], config: WireConfig) -> list[RawHeader] | None:
    """Return what counts of a trailer section; ``None``: it is malformed.

    RFC 9113 §8.1: it has no pseudo-fields, nor what contradicts the framing (§8.1.1,
    §8.2.2). RFC 9110 §6.5.1: what else must not be in trailers is ignored, as on
    HTTP/1.1.
    """
    listed = 0
    for (name, value), kind, size in fields:
        listed += size
        if (
            kind is _MALFORMED
            or kind is _PSEUDO
            or name in _MALFORMED_IN_TRAILERS
            or (kind is _CRUMB and not grammar.is_field_value(value))
        ):
            return None
    lines = listed - _LESS_IN_LINES * len(fields) + 2
    if _too_large(len(fields), listed, lines, config):
        return None
    return [field for field, _, _ in fields if field[0] not in NOT_IN_TRAILERS]


def _too_large(count: int, listed: int, lines: int, config: WireConfig) -> bool:
    """Hold a section, its cookies joined, to the limits of both wires.

    What HTTP/1.1 takes is taken here: pseudo-fields are its request line and its Host.
    """
    limit = config.h2_max_header_list_size
    return (
        count > config.max_headers
        or lines > config.max_header_bytes
        or (limit is not None and listed > limit)
    )


def _authority(pseudo: dict[bytes, bytes], ruled: dict[bytes, bytes]) -> bytes | None:
    """Return the target's authority; ``None``: missing or contradictory."""
    authority = pseudo.get(b":authority")
    host = ruled.get(b"host")
    if authority is None:
        # RFC 9113 §8.3.1: an intermediary may have kept HTTP/1.1's Host instead
        return host if host is not None and grammar.is_authority(host) else None
    if host is not None and host != authority:
        # RFC 9113 §8.3.1: both must name the same entity
        port = _DEFAULT_PORTS.get(pseudo.get(b":scheme", b""), b"")
        if _entity(host, port) != _entity(authority, port):
            return None
    return authority


def _entity(authority: bytes, default_port: bytes) -> bytes:
    return authority.lower().removesuffix(default_port)


def _check_method(
    method: bytes,
    pseudo: dict[bytes, bytes],
    length: int | None,
    config: ServerConfig,
) -> Refusal | None:
    """Return what to answer; ``None``: malformed; or ``_ACCEPTED``."""
    if len(method) > grammar.MAX_METHOD:
        return Refusal(400)
    if method == b"CONNECT":
        return _check_connect(pseudo, length, config)
    # RFC 8441 §4: :protocol belongs to CONNECT
    return None if b":protocol" in pseudo else _check_target(pseudo, config)


def _check_target(pseudo: dict[bytes, bytes], config: WireConfig) -> Refusal | None:
    """Return what ``_check_method`` does, of a request with a target."""
    path = pseudo.get(b":path", b"")
    if pseudo.get(b":scheme") not in _DEFAULT_PORTS:
        return None
    if not grammar.is_path(path) and (path, pseudo[b":method"]) != (
        b"*",
        b"OPTIONS",
    ):
        return None  # RFC 9113 §8.3.1
    if len(path) > config.max_target_bytes:
        return Refusal(414)
    return _ACCEPTED


def _check_connect(
    pseudo: dict[bytes, bytes], length: int | None, config: ServerConfig
) -> Refusal | None:
    """Return what ``_check_method`` does, of a CONNECT."""
    if b":authority" not in pseudo:
        return None  # RFC 9113 §8.5, RFC 8441 §4
    protocol = pseudo.get(b":protocol")
    if protocol is None:
        # RFC 9113 §8.5: :scheme and :path must be omitted; tako is not a proxy
        unexpected = b":scheme" in pseudo or b":path" in pseudo
        return None if unexpected else Refusal(501)
    if not config.h2_enable_connect_protocol:
        return None  # RFC 8441 §3: only once we have announced it
    refusal = _check_target(pseudo, config)
    if refusal is not _ACCEPTED:
        return refusal
    if protocol.lower() != b"websocket":
        return Refusal(501, b"Unsupported :protocol")  # RFC 9220 §3's status
    if length is not None:
        return Refusal(400)  # the bytes of a tunnel are no content (RFC 9110 §9.3.6)
    return _ACCEPTED
