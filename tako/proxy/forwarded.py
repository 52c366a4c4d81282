"""``Forwarders``: believes what trusted proxies write into the fields of a request.

``X-Forwarded-For``, ``-Proto``, ``-Host``, ``-Port`` and ``-Prefix``, which no standard
describes, and ``Forwarded`` (RFC 7239). Section numbers are those of the RFC.

Theory of operation. Each proxy appends what it has seen to what came, which the client
can have written itself. So the fields are read from the right, a *hop* at a time: the
peer is trusted, so the last hop is true; if the address in it is one of a trusted proxy
as well, so is the hop before, and so on. The first address that is not trusted is the
client, and its hop says which scheme and host the client used. What is left of it is
not looked at, whatever it is.

One kind of fields is read, never both: ``X-Forwarded-*`` where there is an
``X-Forwarded-For``, else ``Forwarded``. Most proxies write the former, and pass on a
``Forwarded`` of the client as it is: one that won would let any client behind them
choose its address.

Invariants: nothing is raised because of input; a malformed hop ends the walk, nothing
in it is believed, and the client is then *unknown*, never the proxy, whose address may
be privileged; at most ``_MAX_HOPS`` hops and ``_MAX_SIZE`` characters are read; the
fields of the request are left as they are, but for ``host``.
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final, NamedTuple

from tako.http.conn_info import ConnInfo, Forwarded, IpPeer, OtherPeer, PeerAddr
from tako.http.grammar import is_authority
from tako.http.headers import Headers
from tako.http.request import Request
from tako.http.request_head import FORWARDED, with_host
from tako.proxy.trust import Network, TrustedPeers, ipv6_text


_FOR: Final = b"x-forwarded-for"
_PROTO: Final = b"x-forwarded-proto"
_HOST: Final = b"x-forwarded-host"
_PORT: Final = b"x-forwarded-port"
_PREFIX: Final = b"x-forwarded-prefix"
_FORWARDED: Final = b"forwarded"

_MAX_HOPS = 32
_MAX_SIZE = 8192  # characters of a field that are read, from its end
_MAX_PAIRS = 16  # of a hop in ``Forwarded``

_UNKNOWN = OtherPeer("unknown")  # §6.2
_OWS = " \t"
_TCHAR = (  # RFC 9110 §5.6.2
    "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)
# ``host:port`` and ``[::1]`` need quotes (§4, §6); a value without has but one meaning
_UNQUOTED = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z:\[\]]+")
_QUOTED = re.compile(r'(?:[^"\\\x00]|\\[^\x00])*')  # RFC 9110 §5.6.4
_ESCAPED = re.compile(r"\\(.)")

_NODE = re.compile(  # §6; X-Forwarded-For has IPv6 addresses without brackets, too
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<v4>[0-9.]{7,15}))"
    r"(?::(?:(?P<port>[0-9]{1,5})|_[0-9A-Za-z._\-]{1,64}))?"
    r"|(?P<bare>[0-9A-Fa-f:.]{2,45})"
    r"|(?P<hidden>[uU][nN][kK][nN][oO][wW][nN]|_[0-9A-Za-z._\-]{1,64})(?::[0-9A-Za-z._\-]{1,64})?"
)
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_DEFAULT_PORTS = {"http": "80", "https": "443"}
_PORT_NUMBER = re.compile(r"[1-9][0-9]{0,4}")
# No "//" in front: a link that begins with it leads to another host (RFC 3986 §4.2)
_PREFIX_TEXT = re.compile(r"(?:/(?!/)[0-9A-Za-z\-._~!$&'()*+;=:@%/]*)?")


class Hop(NamedTuple):
    """What one proxy says of what came to it; nothing of that is checked.

    Attributes:
        node: where it came from; ``None``: not said.
        scheme: the scheme; as all that follow ``""`` where it is not said.
        host: host, with or without port.
        port: the port.
        prefix: what was removed from the path.
    """

    node: str | None
    scheme: str = ""
    host: str = ""
    port: str = ""
    prefix: str = ""


class Forwarders:
    """Knows the proxies whose fields are believed.

    Args:
        trusted: as for ``TrustedPeers``. ``"*"`` trusts every peer, and of what it
            forwards only the last hop: it names no proxy that could stand before it.
        host: believe host, port and prefix as well.

    Raises:
        ConfigError: one of ``trusted`` is no network.
    """

    __slots__ = ("_host", "_trusted")

    def __init__(self, trusted: Iterable[Network], *, host: bool) -> None:
        self._trusted = TrustedPeers(trusted)
        self._host = host

    def trusts(self, peer: PeerAddr) -> bool:
        """Tell whether ``peer`` is trusted: once for each connection."""
        return self._trusted.trusts(peer)

    def adopt(self, request: Request) -> None:
        """Give ``request`` what its proxies say; its peer is trusted.

        To be called where the request is made: before anything reads its extensions.
        """
        info = request.conn_info
        if info is None:
            return
        said: dict[bytes, list[bytes]] = {}
        for name, value in request.headers.raw:
            if name in FORWARDED:
                said.setdefault(name, []).append(value)
        client, hop = self._walk(hops(said), info.peer)
        self._believe(request, info, client, hop)

    def _walk(
        self, hops: Iterator[Hop | None], peer: PeerAddr
    ) -> tuple[PeerAddr, Hop | None]:
        """Return the client, and the hop that names it; ``None``: a malformed one."""
        client: PeerAddr = peer
        last: Hop | None = None
        for number, hop in enumerate(hops):
            if hop is None or number == _MAX_HOPS:
                return _UNKNOWN, None
            last = hop
            if hop.node is None:  # the proxy that we have got to does not say
                break
            node = read_node(hop.node)
            if node is None:
                return _UNKNOWN, None
            client = node
            if not self._trusted.names(node):
                break
        return client, last

    def _believe(
        self, request: Request, info: ConnInfo, client: PeerAddr, hop: Hop | None
    ) -> None:
        scheme: str | None = None
        named: str | None = None
        prefix = ""
        if hop is not None:
            scheme = _SCHEMES.get(hop.scheme.lower())
            if scheme is not None:
                request.scheme = scheme
            if self._host:
                authority = _authority(hop, request.authority, request.scheme)
                if authority is not None:
                    named = request.authority
                    request.authority = authority
                    raw = with_host(request.headers.raw, authority.encode("ascii"))
                    request.headers = Headers.from_raw(raw)
                if _PREFIX_TEXT.fullmatch(hop.prefix):
                    prefix = hop.prefix.rstrip("/")
        forwarded = Forwarded(info.peer, scheme, named, prefix)
        request.conn_info = ConnInfo(
            client, info.local, info.transport, info.tls, forwarded
        )


def hops(said: dict[bytes, list[bytes]]) -> Iterator[Hop | None]:
    """Yield the hops in the fields of a request from the last; ``None``: malformed."""
    if _FORWARDED in said and _FOR not in said:
        return _forwarded_hops(_text(said[_FORWARDED]))
    return _x_forwarded_hops(said)


def _text(lines: list[bytes]) -> str:
    """Return a field as one line (RFC 9110 §5.3), or the end of one that is long."""
    text = b",".join(lines).decode("latin-1")
    if len(text) <= _MAX_SIZE:
        return text
    return "\0" + text[-_MAX_SIZE:]  # what is cut in two there is malformed


# X-Forwarded-* ----------------------------------------------------------------------


def _x_forwarded_hops(said: dict[bytes, list[bytes]]) -> Iterator[Hop]:
    """Yield the hops: the n-th values from the right of all fields belong together.

    A field with fewer values was set, not appended to, by the proxy that wrote its
    first: that one counts from there on.
    """
    nodes = _members(said, _FOR)
    others = [_members(said, name) for name in (_PROTO, _HOST, _PORT, _PREFIX)]
    for number in range(max(1, len(nodes))):
        scheme, host, port, prefix = (
            values[min(number, len(values) - 1)] if values else "" for values in others
        )
        yield Hop(nodes[number] if nodes else None, scheme, host, port, prefix)


def _members(said: dict[bytes, list[bytes]], name: bytes) -> list[str]:
    """Return the values in a field from the last; empty ones do not count."""
    lines = said.get(name)
    if lines is None:
        return []
    # RFC 9110 §5.6.1.2: empty members are ignored. What is left over is malformed.
    members = (it.strip(_OWS) for it in _text(lines).rsplit(",", _MAX_HOPS))
    return [member for member in members if member][::-1]


# Forwarded --------------------------------------------------------------------------


def _forwarded_hops(text: str) -> Iterator[Hop | None]:
    """Yield the elements of ``Forwarded`` (§4), read from its end.

    A client can have left a quoted string open, so what stands in front must not
    decide how the end is read.
    """
    while text := text.rstrip(_OWS + ","):
        pairs: dict[str, str] = {}
        while True:
            text, name, value = _last_pair(text)
            if not name or name in pairs or len(pairs) == _MAX_PAIRS:
                yield None  # §4: a parameter must not occur twice
                return
            pairs[name] = value
            if not text.endswith(";"):
                break
            text = text[:-1].rstrip(_OWS)
        if text and not text.endswith(","):
            yield None
            return
        yield Hop(pairs.get("for"), pairs.get("proto", ""), pairs.get("host", ""))


def _last_pair(text: str) -> tuple[str, str, str]:
    """Return what is in front of the last pair, its name and value.

    The name is ``""`` if the pair is malformed.
    """
    if text.endswith('"'):
        # An unescaped quote follows "=" only where the string begins (RFC 9110 §5.6.4)
        at = text.rfind('="', 0, -1)
        quoted = text[at + 2 : -1]
        if at < 0 or not _QUOTED.fullmatch(quoted):
            return "", "", ""
        value = _ESCAPED.sub(r"\1", quoted)
    else:
        at = text.rfind("=")
        value = text[at + 1 :]
        if at < 0 or not _UNQUOTED.fullmatch(value):
            return "", "", ""
    front = text[:at].rstrip(_TCHAR)
    return front.rstrip(_OWS), text[len(front) : at].lower(), value


# Values -----------------------------------------------------------------------------


def read_node(text: str) -> PeerAddr | None:
    """Return the address that a proxy names (§6), ``None`` for anything else.

    The port is 0 where it is not said, or hidden. An ``OtherPeer`` is what is not an
    address: ``unknown`` (§6.2), or a name that hides one (§6.3).
    """
    match = _NODE.fullmatch(text)
    if match is None:
        return None
    hidden = match["hidden"]
    if hidden is not None:
        return OtherPeer(hidden) if hidden.startswith("_") else _UNKNOWN
    port = int(match["port"] or 0)
    if port > 0xFFFF:
        return None
    v4, v6 = match["v4"], match["v6"] or match["bare"]
    try:
        if v4 is not None:
            return IpPeer(str(IPv4Address(v4)), port)
        return IpPeer(ipv6_text(IPv6Address(v6)), port)
    except ValueError:
        return None


def _authority(hop: Hop, received: str | None, scheme: str) -> str | None:
    """Return host and port that the client asked for; ``None``: as received."""
    authority = hop.host or received
    port = hop.port
    if not authority or not authority.isascii():
        return None
    if (
        _PORT_NUMBER.fullmatch(port)
        and port != _DEFAULT_PORTS[scheme]
        and not authority.rpartition("]")[2].count(":")  # it has no port yet
    ):
        authority = f"{authority}:{port}"
    if authority == received or not is_authority(authority.encode("ascii")):
        return None
    return authority
