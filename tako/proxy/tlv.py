"""The TLVs behind the addresses of a PROXY v2 header, and its checksum.

Section numbers are those of the PROXY protocol specification (HAProxy,
``proxy-protocol.txt``, versions 1 and 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


ALPN: Final = 0x01
AUTHORITY: Final = 0x02
CRC32C: Final = 0x03
UNIQUE_ID: Final = 0x05
SSL: Final = 0x20
NETNS: Final = 0x30
AWS: Final = 0xEA

_SSL_VERSION: Final = 0x21
_SSL_CN: Final = 0x22
_SSL_CIPHER: Final = 0x23
_SSL_SIG_ALG: Final = 0x24
_SSL_KEY_ALG: Final = 0x25

_HEAD = 3  # §2.2: a type of one byte, a length of two
_SSL_HEAD = 5
_AWS_VPCE_ID = b"\x01"
_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected


@dataclass(frozen=True, slots=True)
class ProxyTlv:
    """One type-length-value field, as it came.

    Attributes:
        type: what it is; 0xE0 to 0xEF are for applications.
        value: its bytes.
    """

    type: int
    value: bytes


@dataclass(frozen=True, slots=True)
class ProxyTlsInfo:
    """What a proxy says about the TLS connection that its client made (§2.2.5).

    Attributes:
        flags: bit 0: the client used TLS; bit 1: it showed a certificate on this
            connection; bit 2: at least once in this TLS session.
        verify: 0 if the client's certificate was verified.
        version: of TLS, as ``"TLSv1.3"``.
        common_name: of the client's certificate.
        cipher: the name of the cipher suite.
        signature_algorithm: that the proxy's certificate is signed with.
        key_algorithm: of the proxy's key.
    """

    flags: int
    verify: int
    version: str | None = None
    common_name: str | None = None
    cipher: str | None = None
    signature_algorithm: str | None = None
    key_algorithm: str | None = None

    @property
    def encrypted(self) -> bool:
        """The client reached the proxy over TLS."""
        return bool(self.flags & 1)

    @property
    def client_verified(self) -> bool:
        """The client showed a certificate, and the proxy found it good."""
        return bool(self.flags & 6) and self.verify == 0


def parse_tlvs(data: bytes) -> tuple[ProxyTlv, ...]:
    """Return the fields in ``data``, in order; one that is cut short ends them."""
    tlvs: list[ProxyTlv] = []
    at = 0
    while at + _HEAD <= len(data):
        start = at + _HEAD
        end = start + int.from_bytes(data[at + 1 : start], "big")
        if end > len(data):
            break
        tlvs.append(ProxyTlv(data[at], data[start:end]))
        at = end
    return tuple(tlvs)


def find(tlvs: Sequence[ProxyTlv], kind: int) -> bytes | None:
    """Return the value of the first field of that type."""
    for tlv in tlvs:
        if tlv.type == kind:
            return tlv.value
    return None


def find_text(tlvs: Sequence[ProxyTlv], kind: int) -> str | None:
    """Return the value of the first field of that type if it is UTF-8."""
    return _text(find(tlvs, kind))


def find_tls(tlvs: Sequence[ProxyTlv]) -> ProxyTlsInfo | None:
    """Return what the fields say about TLS, ``None`` if nothing (that can be read)."""
    value = find(tlvs, SSL)
    if value is None or len(value) < _SSL_HEAD:
        return None
    inner = parse_tlvs(value[_SSL_HEAD:])
    return ProxyTlsInfo(
        flags=value[0],
        verify=int.from_bytes(value[1:_SSL_HEAD], "big"),
        version=find_text(inner, _SSL_VERSION),
        common_name=find_text(inner, _SSL_CN),
        cipher=find_text(inner, _SSL_CIPHER),
        signature_algorithm=find_text(inner, _SSL_SIG_ALG),
        key_algorithm=find_text(inner, _SSL_KEY_ALG),
    )


def find_vpc_endpoint(tlvs: Sequence[ProxyTlv]) -> str | None:
    """Return the AWS VPC endpoint that the client came through.

    AWS puts a subtype in front of the name, of which there is one.
    """
    value = find(tlvs, AWS)
    return _text(None if value is None else value.removeprefix(_AWS_VPCE_ID))


def verify_crc32c(header: bytes, addresses: int) -> bool | None:
    """Check the checksum of a whole v2 header (§2.2.3).

    Args:
        header: from the signature to the last TLV.
        addresses: where the TLVs begin.

    Returns:
        Whether it is right; ``None`` if the header has none.
    """
    at = addresses
    while at + _HEAD <= len(header):
        start = at + _HEAD
        end = start + int.from_bytes(header[at + 1 : start], "big")
        if end > len(header):
            return None
        if header[at] == CRC32C:
            zeroed = header[:start] + bytes(end - start) + header[end:]
            return crc32c(zeroed).to_bytes(4, "big") == header[start:end]
        at = end
    return None


def crc32c(data: bytes) -> int:
    """Return the CRC32C (RFC 9260 appendix A) of ``data``."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _entry(index: int) -> int:
    for _ in range(8):
        index = (index >> 1) ^ (_POLYNOMIAL if index & 1 else 0)
    return index


_TABLE = tuple(_entry(index) for index in range(256))


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return None
