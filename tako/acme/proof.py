"""Keys, requests and certificates that an order needs; no I/O."""

import base64
import contextlib
import datetime
from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from tako.acme.renewal import Held


_ACME_IDENTIFIER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")  # RFC 8737 §6.1
_OCTETS = b"\x04\x20"  # RFC 8737 §3: in DER, an OCTET STRING of 32 bytes
_CHALLENGE_LIFE = datetime.timedelta(days=1)
_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a new key, for an account or a certificate."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a key as it is kept."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Return a key that was kept.

    Raises:
        ValueError: it is none.
    """
    key = load_pem_private_key(pem, None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        msg = f"not an EC key but {type(key).__name__}"
        raise ValueError(msg)  # noqa: TRY004 - it is the file that is wrong
    return key


def request(
    key: ec.EllipticCurvePrivateKey, names: Sequence[str]
) -> x509.CertificateSigningRequest:
    """Return what asks an authority for a certificate (RFC 8555 §7.4)."""
    builder = x509.CertificateSigningRequestBuilder()
    # RFC 8555 §7.4: the names of the order, and no other, as alternative names
    builder = builder.subject_name(x509.Name(())).add_extension(
        x509.SubjectAlternativeName([x509.DNSName(name) for name in names]),
        critical=False,
    )
    return builder.sign(key, hashes.SHA256())


def challenge_pem(name: str, digest: bytes, now: datetime.datetime) -> bytes:
    """Return key and certificate that answer a challenge (RFC 8737 §3).

    Args:
        name: what the authority looks at.
        digest: the SHA-256 of the key authorization.
        now: the time.
    """
    key = new_key()
    # 64 characters at most, which a name may have more of; the names that count follow
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "ACME challenge")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CHALLENGE_LIFE)
        .not_valid_after(now + _CHALLENGE_LIFE)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False
        )
        .add_extension(  # RFC 8737 §3: critical
            x509.UnrecognizedExtension(_ACME_IDENTIFIER, _OCTETS + digest),
            critical=True,
        )
        .sign(key, hashes.SHA256())
    )
    return key_pem(key) + certificate.public_bytes(Encoding.PEM)


def read_held(pem: bytes) -> tuple[x509.Certificate, Held]:
    """Return the certificate in a file, and what matters of it.

    Raises:
        ValueError: there is none.
    """
    certificate = x509.load_pem_x509_certificates(pem)[0]
    names: list[str] = []
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        names = found.value.get_values_for_type(x509.DNSName)
    held = Held(
        frozenset(name.lower() for name in names),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
        certificate.serial_number,
    )
    return certificate, held


def fits(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Tell whether a certificate is for a key."""
    theirs = certificate.public_key().public_bytes(*_PUBLIC)
    return theirs == key.public_key().public_bytes(*_PUBLIC)


def renewal_id(certificate: x509.Certificate) -> str | None:
    """Return what an authority calls a certificate (RFC 9773 §4.1).

    ``None`` if it does not say which key has signed it.
    """
    try:
        extension = certificate.extensions.get_extension_for_class(
            x509.AuthorityKeyIdentifier
        )
    except x509.ExtensionNotFound:
        return None
    key_id = extension.value.key_identifier
    if key_id is None:
        return None
    number = certificate.serial_number
    # the content of the DER INTEGER, with the octet that keeps it positive
    serial = number.to_bytes(number.bit_length() // 8 + 1)
    return f"{_base64url(key_id)}.{_base64url(serial)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    """Return the bytes of a text in base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
