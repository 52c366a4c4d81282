"""What an order needs of cryptography, compared with what the RFCs say."""

import datetime
import hashlib

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from tako.acme import proof


NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)
DIGEST = hashlib.sha256(b"token.thumbprint").digest()


def test_a_challenge_is_what_rfc_8737_wants() -> None:
    pem = proof.challenge_pem("a.test", DIGEST, NOW)
    certificate, held = proof.read_held(pem)
    assert held.names == {"a.test"}
    assert held.begins < NOW < held.expires
    assert proof.fits(certificate, proof.read_key(pem))
    (found,) = [it for it in certificate.extensions if it.critical]
    assert found.oid.dotted_string == "1.3.6.1.5.5.7.1.31"
    # RFC 8737 §3: Authorization ::= OCTET STRING (SIZE (32))
    assert found.value.public_bytes() == b"\x04\x20" + DIGEST


def test_a_name_may_be_longer_than_a_common_name() -> None:
    name = ".".join(["x" * 60] * 4)
    _, held = proof.read_held(proof.challenge_pem(name, DIGEST, NOW))
    assert held.names == {name}


def test_a_request_has_the_names_of_the_order_and_no_other() -> None:
    key = proof.new_key()
    csr = proof.request(key, ["a.test", "b.test"])
    assert csr.is_signature_valid
    assert not list(csr.subject)
    names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["a.test", "b.test"]


def test_a_key_is_read_as_it_was_written() -> None:
    key = proof.new_key()
    again = proof.read_key(proof.key_pem(key))
    assert again.private_numbers() == key.private_numbers()


@pytest.mark.parametrize("kind", [trustme.KeyType.RSA, None])
def test_what_is_no_ec_key_is_refused(kind: trustme.KeyType | None) -> None:
    pem = b"nothing"
    if kind is not None:
        leaf = trustme.CA(key_type=kind).issue_cert("a.test", key_type=kind)
        pem = leaf.private_key_pem.bytes()
    with pytest.raises(ValueError, match=r"not an EC key|PEM|deserialize"):
        proof.read_key(pem)


def test_a_certificate_fits_its_key_alone() -> None:
    pem = proof.challenge_pem("a.test", DIGEST, NOW)
    certificate, _ = proof.read_held(pem)
    assert not proof.fits(certificate, proof.new_key())


def test_the_id_of_a_renewal_is_that_of_the_rfc() -> None:
    """RFC 9773 §4.1 has this key identifier, and this serial number."""
    key_id = bytes.fromhex(
        "69885B6B8746404C E1B3D8FA 8D7A1BA1 0C2EE7BA".replace(" ", "")
    )
    certificate = certificate_with(0x8765_4321, key_id)
    name = proof.renewal_id(certificate)
    assert name is not None
    first, second = name.split(".")
    assert proof.from_base64url(first) == key_id
    # the leading zero octet of the DER encoding is kept
    assert second == "AIdlQyE"


def test_without_the_identifier_of_a_key_there_is_no_id() -> None:
    assert proof.renewal_id(certificate_with(1, None)) is None
    assert proof.renewal_id(certificate_with(0x7F, b"k")) == "aw.fw"


def certificate_with(serial: int, key_id: bytes | None) -> x509.Certificate:
    key = proof.new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a.test")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(NOW)
        .not_valid_after(NOW + datetime.timedelta(days=1))
    )
    if key_id is not None:
        extension = x509.AuthorityKeyIdentifier(key_id, None, None)
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256())
