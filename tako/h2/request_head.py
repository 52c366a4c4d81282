"""What the content of an HTTP/2 request must satisfy (RFC 9113 §8, RFC 8441 §4).

A request that is malformed costs its own stream, not the connection. A head comes out
as a ``RequestHead``; or as a ``Refusal`` with a status, where the request is
well-formed but will not be served; or as ``None``: malformed, and answered with
RST_STREAM(PROTOCOL_ERROR) (RFC 9113 §8.1.1).
"""

import re
from typing import Final, NamedTuple

from tako.config import ServerConfig, WireConfig
from tako.http import grammar
from tako.http.headers import NOT_IN_TRAILERS, RawHeader, with_host
from tako.http.request_head import FORWARDED, RequestHead


_PSEUDO: Final = frozenset(
    {b":method", b":scheme", b":authority", b":path", b":protocol"}
)
CONNECTION_SPECIFIC: Final = frozenset(  # RFC 9113 §8.2.2
    {
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"transfer-encoding",
        b"upgrade",
    }
)
# In trailers these speak of the message's framing or routing, which stands already
_MALFORMED_IN_TRAILERS: Final = CONNECTION_SPECIFIC | {
    b"content-length",
    b"host",
    b"te",
    b"trailer",
}
_SPECIAL: Final = (
    CONNECTION_SPECIFIC | FORWARDED | {b"te", b"host", b"content-length", b"expect"}
)
_SINGLE: Final = (b"host", b"content-length")  # at most once (RFC 9110 §7.2, §8.6)
_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}
# What a pseudo-field's value has around it in HTTP/1.1; others are not there at all
_ON_HTTP_1: Final = {b":method": 1, b":path": 11, b":authority": 8}

_FIELDS: Final = re.compile(
    rb"(?:" + grammar.LOWER_TCHAR + rb"+\x00" + grammar.FIELD_VALUE + rb"\x00)*"
)


class _Parts(NamedTuple):
    """The parts of a head, each well-formed by itself."""

    method: bytes
    scheme: bytes
    authority: bytes
    path: bytes
    protocol: bytes | None
    fields: list[RawHeader]
    content_length: int | None
    expects_continue: bool | None  # ``None``: something else
    forwarded: bool


class Refusal(NamedTuple):
    """The answer to a request that is not dispatched."""

    status: int
    body: bytes = b""


def check_head(
    raw: list[RawHeader], config: ServerConfig
) -> RequestHead | Refusal | None:
    """Check a request's header section."""
    count = 0
    while count < len(raw) and raw[count][0][:1] == b":":
        count += 1
    pseudo, fields = dict(raw[:count]), _join_cookies(raw[count:])
    if _too_large(pseudo, fields, config):
        return Refusal(431)  # RFC 6585 §5
    # RFC 9113 §8.3: known pseudo-fields, each once, all before the others; one that
    # comes late is no field name
    if len(pseudo) < count or not pseudo.keys() <= _PSEUDO or not _are_fields(fields):
        return None
    head = _head(pseudo, fields)
    if head is None:
        return None
    if len(head.method) > grammar.MAX_METHOD:
        return Refusal(400)
    if head.method == b"CONNECT":
        checked = _check_connect(head, pseudo, config)
    else:
        checked = _check_target(head, config)
    if not isinstance(checked, _Parts):
        return checked
    if head.expects_continue is None:
        # RFC 9110 §10.1.1; §9.3.2: no content in an answer to HEAD
        return Refusal(417, b"" if head.method == b"HEAD" else b"Unknown expectation")
    return _accepted(head)


def _accepted(head: _Parts) -> RequestHead:
    connect = head.protocol is not None
    return RequestHead(
        # An extended CONNECT is presented as the GET that it replaces
        "GET" if connect else head.method.decode("latin-1"),
        head.path.decode("latin-1"),
        "2",
        head.fields,
        head.authority.decode("latin-1"),
        head.scheme.decode("latin-1"),
        head.content_length,
        bool(head.expects_continue),
        connect,
        head.forwarded,
    )


def _head(pseudo: dict[bytes, bytes], fields: list[RawHeader]) -> _Parts | None:
    """Put a head together from parts that are well-formed each by itself."""
    method = pseudo.get(b":method", b"")
    special = _special(fields)
    if special is None or not grammar.is_token(method):
        return None
    authority = _authority(pseudo, special)
    if authority is None:
        return None
    length = None
    if b"content-length" in special:
        length = grammar.content_length(special[b"content-length"])
        if length is None:
            return None
    expected: bool | None = False
    if b"expect" in special:
        expected = grammar.expects_continue([v for n, v in fields if n == b"expect"])
    if special.get(b"host") != authority:
        fields = with_host(fields, authority)
    return _Parts(
        method,
        pseudo.get(b":scheme", b""),
        authority,
        pseudo.get(b":path", b""),
        pseudo.get(b":protocol"),
        fields,
        length,
        expected,
        not FORWARDED.isdisjoint(special),
    )


def check_trailers(raw: list[RawHeader], config: WireConfig) -> list[RawHeader] | None:
    """Return what counts of a trailer section; ``None``: it is malformed.

    RFC 9113 §8.1: it has no pseudo-fields (a colon is in no name), nor what contradicts
    the framing (§8.1.1, §8.2.2). RFC 9110 §6.5.1: what else must not be in trailers is
    ignored, as on HTTP/1.1.
    """
    if not _are_fields(raw) or _too_large({}, raw, config):
        return None
    if not _MALFORMED_IN_TRAILERS.isdisjoint([name for name, _ in raw]):
        return None
    return [field for field in raw if field[0] not in NOT_IN_TRAILERS]


def _too_large(
    pseudo: dict[bytes, bytes], fields: list[RawHeader], config: WireConfig
) -> bool:
    """Hold a section, its cookies joined, to the limits of both wires.

    What HTTP/1.1 takes is taken here: pseudo-fields are its request line and its Host.
    """
    if len(fields) > config.max_headers:
        return True
    size = 0
    for name, value in fields:
        size += len(name) + len(value)
    limit = config.h2_max_header_list_size
    if limit is not None:
        # RFC 9113 §6.5.2: name, value and 32 bytes for each field
        listed = size + 32 * (len(fields) + len(pseudo))
        for name, value in pseudo.items():
            listed += len(name) + len(value)
        if listed > limit:
            return True
    for name, value in pseudo.items():
        size += len(value) + _ON_HTTP_1.get(name, -len(value))
    return size + 4 * len(fields) + 2 > config.max_header_bytes


def _are_fields(fields: list[RawHeader]) -> bool:
    """Check every name and value with one match (RFC 9113 §8.2.1).

    A NUL ends each part. One within a part would shift the others, so NULs are counted.
    """
    text = b"".join([name + b"\0" + value + b"\0" for name, value in fields])
    return _FIELDS.fullmatch(text) is not None and text.count(b"\0") == 2 * len(fields)


def _special(fields: list[RawHeader]) -> dict[bytes, bytes] | None:
    """Return the fields that have rules of their own, or ``None`` if one is broken."""
    special: dict[bytes, bytes] = {}
    for name, value in fields:
        if name not in _SPECIAL:
            continue
        if name in CONNECTION_SPECIFIC:  # RFC 9113 §8.2.2
            return None
        if name == b"te" and value.lower() != b"trailers":  # RFC 9113 §8.2.2
            return None
        if name in _SINGLE and name in special:
            return None
        special[name] = value
    return special


def _authority(pseudo: dict[bytes, bytes], special: dict[bytes, bytes]) -> bytes | None:
    """Return the target's authority; ``None``: missing or contradictory."""
    authority = pseudo.get(b":authority")
    host = special.get(b"host")
    if authority is None:
        # RFC 9113 §8.3.1: an intermediary may have kept HTTP/1.1's Host instead
        return host if host is not None and grammar.is_authority(host) else None
    if not grammar.is_authority(authority):
        return None
    if host is not None and host != authority:
        # RFC 9113 §8.3.1: both must name the same entity
        port = _DEFAULT_PORTS.get(pseudo.get(b":scheme", b""), b"")
        if _entity(host, port) != _entity(authority, port):
            return None
    return authority


def _entity(authority: bytes, default_port: bytes) -> bytes:
    return authority.lower().removesuffix(default_port)


def _join_cookies(fields: list[RawHeader]) -> list[RawHeader]:
    """Make one field of the crumbs (RFC 9113 §8.2.3), where the first of them was."""
    crumbs = [value for name, value in fields if name == b"cookie"]
    if len(crumbs) < 2:
        return fields
    joined = [field for field in fields if field[0] != b"cookie"]
    at = next(index for index, field in enumerate(fields) if field[0] == b"cookie")
    joined.insert(at, (b"cookie", b"; ".join(crumbs)))
    return joined


def _check_target(head: _Parts, config: WireConfig) -> _Parts | Refusal | None:
    # RFC 8441 §4: :protocol belongs to CONNECT
    if head.protocol is not None or head.scheme not in _DEFAULT_PORTS:
        return None
    if not grammar.is_path(head.path) and (head.path, head.method) != (
        b"*",
        b"OPTIONS",
    ):
        return None  # RFC 9113 §8.3.1
    if len(head.path) > config.max_target_bytes:
        return Refusal(414)
    return head


def _check_connect(
    head: _Parts, pseudo: dict[bytes, bytes], config: ServerConfig
) -> _Parts | Refusal | None:
    if b":authority" not in pseudo:
        return None  # RFC 9113 §8.5, RFC 8441 §4
    if head.protocol is None:
        # RFC 9113 §8.5: :scheme and :path must be omitted; tako is not a proxy
        unexpected = b":scheme" in pseudo or b":path" in pseudo
        return None if unexpected else Refusal(501)
    if not config.h2_enable_connect_protocol:
        return None  # RFC 8441 §3: only once we have announced it
    checked = _check_target(head._replace(protocol=None), config)
    if not isinstance(checked, _Parts):
        return checked
    if head.protocol.lower() != b"websocket":
        return Refusal(501, b"Unsupported :protocol")  # RFC 9220 §3's status
    if head.content_length is not None:
        return Refusal(400)  # the bytes of a tunnel are no content (RFC 9110 §9.3.6)
    return head
