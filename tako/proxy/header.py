"""The PROXY protocol, versions 1 and 2, without I/O: the client behind a proxy.

Section numbers are those of the PROXY protocol specification (HAProxy,
``proxy-protocol.txt``).

Theory of operation. A ``ProxyReader`` collects bytes. The first ones decide: the v2
signature or ``PROXY `` (§2), and the first byte that fits neither is an error, so tako
does not wait for a peer that speaks another protocol. A v1 header ends at the first
CRLF, within 107 bytes (§2.1). A v2 header has its length in its bytes 14 and 15, which
is checked before that many bytes are waited for (§2.2).

Invariants: nothing but ``ProxyProtocolError`` is raised because of input; no byte
behind the header is interpreted; fewer than ``16 + max_header`` bytes are kept from one
call to the next.
"""

import enum
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from tako.errors import ProxyProtocolError
from tako.http.conn_info import IpPeer, PeerAddr, UnixPeer
from tako.proxy import tlv
from tako.proxy.tlv import ProxyTlsInfo, ProxyTlv
from tako.proxy.trust import ipv6_text


__all__ = [
    "ProxyHeader",
    "ProxyProtocolError",
    "ProxyReader",
    "ProxyTlsInfo",
    "ProxyTlv",
    "ProxyTransport",
    "ProxyVersion",
    "parse_proxy_header",
    "read_proxy_protocol",
]

_logger = logging.getLogger("tako.server")

MAX_HEADER = 4096
"""Bytes behind the first 16 of a v2 header that are accepted by default."""

_V1 = b"PROXY "
_V1_MAX = 107  # §2.1: the longest line, CRLF included
_V2 = b"\r\n\r\n\x00\r\nQUIT\n"
_V2_FIXED = 16  # signature, version and command, family, length
_FIRST = len(_V2)  # §2: the shortest v1 line is longer than that

_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_UNIX_PATH = 108  # §2.2: both paths are padded to this size


class ProxyVersion(enum.Enum):
    """Which of the two formats a header had."""

    V1 = 1
    V2 = 2


class ProxyTransport(enum.Enum):
    """The transport of the client's connection to the proxy."""

    TCP = "TCP"
    UDP = "UDP"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a proxy says about the connection that it forwards.

    Attributes:
        version: the format of the header.
        transport: the transport of the client's connection.
        source: the client's address; ``None`` if the proxy connects for itself (a
            health check) or does not know it.
        destination: the address that the client connected to.
        tlvs: all further fields of a v2 header, raw.
        alpn: the protocol that proxy and client negotiated.
        authority: the host name that the client asked for (SNI).
        unique_id: names the connection, at most 128 bytes.
        tls: the client's TLS connection, as the proxy saw it.
        netns: the proxy's network namespace.
        vpc_endpoint_id: the AWS VPC endpoint.
        crc32c_verified: whether the checksum is right; ``None`` without one. A wrong
            one is logged and otherwise left to the application.
    """

    version: ProxyVersion
    transport: ProxyTransport = ProxyTransport.UNKNOWN
    source: PeerAddr | None = None
    destination: PeerAddr | None = None
    tlvs: tuple[ProxyTlv, ...] = ()
    alpn: bytes | None = None
    authority: str | None = None
    unique_id: bytes | None = None
    tls: ProxyTlsInfo | None = None
    netns: str | None = None
    vpc_endpoint_id: str | None = None
    crc32c_verified: bool | None = None


class ProxyReader:
    """Collects the bytes of one header.

    Attributes:
        rest: what came behind the header.
    """

    __slots__ = ("_buffer", "_max_header", "rest")

    def __init__(self, max_header: int = MAX_HEADER) -> None:
        """Make a reader; ``max_header`` bounds the v2 length field, in bytes."""
        self._buffer = bytearray()
        self._max_header = max_header
        self.rest: bytes = b""

    @property
    def begun(self) -> bool:
        """At least one byte has come."""
        return bool(self._buffer)

    @property
    def wanted(self) -> int:
        """How many bytes may be read without reading past the header; at least 1."""
        buffer = self._buffer
        if len(buffer) < _FIRST:
            return _FIRST - len(buffer)
        if buffer.startswith(_V1):
            return 1 if buffer.endswith(b"\r") else 2
        if len(buffer) < _V2_FIXED:
            return _V2_FIXED - len(buffer)
        return max(1, _v2_end(buffer) - len(buffer))

    def receive_data(self, data: bytes) -> ProxyHeader | None:
        """Take bytes; return the header once it is complete.

        Raises:
            ProxyProtocolError: this is no PROXY header, or a malformed one.
        """
        buffer = self._buffer
        buffer += data
        if buffer.startswith(_V1):
            end = buffer.find(b"\r\n", 0, _V1_MAX)
            if end < 0 and len(buffer) >= _V1_MAX:
                msg = "PROXY v1 header exceeds maximum length"
                raise ProxyProtocolError(msg)
            return None if end < 0 else self._taken(end + 2, _parse_v1(buffer[:end]))
        first = bytes(buffer[:_FIRST])
        if not _V1.startswith(first) and not _V2.startswith(first):
            msg = "invalid PROXY protocol header: unrecognized signature"
            raise ProxyProtocolError(msg)
        return self._receive_v2()

    def _receive_v2(self) -> ProxyHeader | None:
        buffer = self._buffer
        if len(buffer) > _FIRST:
            _check_command(buffer[_FIRST])
        if len(buffer) < _V2_FIXED:
            return None
        end = _v2_end(buffer)
        if end - _V2_FIXED > self._max_header:
            size, most = end - _V2_FIXED, self._max_header
            msg = f"PROXY v2 addr_len {size} exceeds {most}"
            raise ProxyProtocolError(msg)
        if len(buffer) < end:
            return None
        return self._taken(end, _parse_v2(bytes(buffer[:end])))

    def _taken(self, end: int, header: ProxyHeader) -> ProxyHeader:
        self.rest = bytes(self._buffer[end:])
        self._buffer.clear()
        return header


def parse_proxy_header(
    data: bytes, *, max_header: int = MAX_HEADER
) -> tuple[ProxyHeader, bytes]:
    """Return the header that ``data`` begins with, and what follows it.

    Args:
        data: at least the whole header.
        max_header: the largest length field of a v2 header, in bytes.

    Raises:
        ProxyProtocolError: there is no header, or it is malformed or incomplete.
    """
    reader = ProxyReader(max_header)
    header = reader.receive_data(data)
    if header is None:
        msg = "incomplete PROXY header"
        raise ProxyProtocolError(msg)
    return header, reader.rest


async def read_proxy_protocol(
    receive: Callable[[int], Awaitable[bytes]], *, max_header: int = MAX_HEADER
) -> ProxyHeader:
    """Read a header from a stream, and no byte more.

    Args:
        receive: returns at least one byte and at most as many as it is asked for, or
            ``b""`` at the end: ``read`` of an ``asyncio.StreamReader``,
            ``receive_some`` of a trio stream.
        max_header: the largest length field of a v2 header, in bytes.

    Raises:
        ProxyProtocolError: there is no header, or it is malformed or incomplete.

    Cancel safety: not safe; what was read is lost.
    """
    reader = ProxyReader(max_header)
    while True:
        data = await receive(reader.wanted)
        if not data:
            msg = "incomplete PROXY header"
            raise ProxyProtocolError(msg)
        header = reader.receive_data(data)
        if header is not None:
            return header


# Version 1 ------------------------------------------------------------------------


def _parse_v1(line: bytearray) -> ProxyHeader:
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        text = "\0"
    if not text.isprintable():  # else a lone LF could hide a second header from us
        msg = "PROXY v1 header is not printable ASCII"
        raise ProxyProtocolError(msg)
    _, word, *fields = text.split(" ")
    if word == "UNKNOWN":  # §2.1: whatever follows is to be ignored
        return ProxyHeader(ProxyVersion.V1)
    if word not in {"TCP4", "TCP6"}:
        msg = f"unknown PROXY v1 protocol: {word}"
        raise ProxyProtocolError(msg)
    if len(fields) < 4:
        msg = "incomplete PROXY v1 TCP header"
        raise ProxyProtocolError(msg)
    read = _ipv4 if word == "TCP4" else _ipv6
    source, destination = read("source", fields[0]), read("destination", fields[1])
    return ProxyHeader(
        ProxyVersion.V1,
        ProxyTransport.TCP,
        IpPeer(source, _port("source", fields[2])),
        IpPeer(destination, _port("destination", fields[3])),
    )


def _ipv4(which: str, text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        msg = f"bad {which} IP: {text}"
        raise ProxyProtocolError(msg) from None


def _ipv6(which: str, text: str) -> str:
    try:
        if "%" in text:  # a zone means nothing on another host
            raise ValueError
        return ipv6_text(IPv6Address(text))
    except ValueError:
        msg = f"bad {which} IP: {text}"
        raise ProxyProtocolError(msg) from None


def _port(which: str, text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        msg = f"bad {which} port: {text}"
        raise ProxyProtocolError(msg)
    return int(text)


# Version 2 ------------------------------------------------------------------------


def _v2_end(header: bytes | bytearray) -> int:
    return _V2_FIXED + int.from_bytes(header[14:16], "big")


def _check_command(byte: int) -> None:
    if byte >> 4 != 2:
        msg = f"unsupported PROXY v2 version: {byte >> 4}"
        raise ProxyProtocolError(msg)
    if byte & 15 > 1:  # §2.2: LOCAL and PROXY; others must be refused
        msg = f"unsupported PROXY v2 command: {byte & 15}"
        raise ProxyProtocolError(msg)


def _parse_v2(data: bytes) -> ProxyHeader:
    if data[12] & 15 == 0:  # §2.2: LOCAL, the rest must be skipped
        return ProxyHeader(ProxyVersion.V2)
    transport = {1: ProxyTransport.TCP, 2: ProxyTransport.UDP}.get(
        data[13] & 15, ProxyTransport.UNKNOWN
    )
    family = data[13] >> 4
    end = _V2_FIXED + _ADDRESSES.get(family, 0)
    if len(data) < end:
        need, has = end - _V2_FIXED, len(data) - _V2_FIXED
        msg = f"PROXY v2 address family {family} needs {need} bytes, not {has}"
        raise ProxyProtocolError(msg)
    source, destination = _addresses(family, data[_V2_FIXED:end])
    tlvs = tlv.parse_tlvs(data[end:])
    verified = tlv.verify_crc32c(data, end)
    if verified is False:
        _logger.warning("PROXY header of %s: the CRC32C is wrong", source)
    return ProxyHeader(
        ProxyVersion.V2,
        transport,
        source,
        destination,
        tlvs,
        alpn=tlv.find(tlvs, tlv.ALPN),
        authority=tlv.find_text(tlvs, tlv.AUTHORITY),
        unique_id=tlv.find(tlvs, tlv.UNIQUE_ID),
        tls=tlv.find_tls(tlvs),
        netns=tlv.find_text(tlvs, tlv.NETNS),
        vpc_endpoint_id=tlv.find_vpc_endpoint(tlvs),
        crc32c_verified=verified,
    )


_ADDRESSES = {1: 12, 2: 36, 3: 2 * _UNIX_PATH}  # §2.2: bytes, by address family


def _addresses(family: int, data: bytes) -> tuple[PeerAddr | None, PeerAddr | None]:
    if family == 3:
        return _unix(data[:_UNIX_PATH]), _unix(data[_UNIX_PATH:])
    if family not in {1, 2}:
        return None, None
    size = 4 if family == 1 else 16
    hosts = [
        str(IPv4Address(host)) if family == 1 else ipv6_text(IPv6Address(host))
        for host in (data[:size], data[size : 2 * size])
    ]
    source, destination = data[-4:-2], data[-2:]
    return (
        IpPeer(hosts[0], int.from_bytes(source, "big")),
        IpPeer(hosts[1], int.from_bytes(destination, "big")),
    )


def _unix(padded: bytes) -> UnixPeer:
    path = padded.partition(b"\0")[0]
    return UnixPeer(path.decode(errors="backslashreplace") or None)
