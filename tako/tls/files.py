"""Certificates and keys, from PEM files and DER bytes into ``ssl`` contexts.

What cannot be used raises ``TlsConfigError``, with the path of the file in its message.
It runs when a listener is made or reloaded, never for a connection.
"""

import contextlib
import logging
import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias
from weakref import WeakKeyDictionary

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
)

from tako.errors import TlsConfigError


_logger = logging.getLogger("tako.tls")

_expiry: WeakKeyDictionary[ssl.SSLContext, float] = WeakKeyDictionary()

FilePath: TypeAlias = str | os.PathLike[str]
Password: TypeAlias = str | bytes
Stamp: TypeAlias = tuple[int, int, int] | None

HINT = "make one with: python certs/generate.py"

_KEY = re.compile(
    rb"-----BEGIN ((?:RSA |EC |ENCRYPTED )?PRIVATE KEY)-----.*?-----END \1-----",
    re.DOTALL,
)
_MISMATCHES = {
    "KEY_VALUES_MISMATCH",
    "NO_CERTIFICATE_ASSIGNED",  # none for a key of this type: an RSA key, an EC chain
}
_BAD_KEY = (ValueError, TypeError, UnsupportedAlgorithm)
_PUBLIC = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
_ENCRYPTED = (
    "it is encrypted; give its password: TlsCert.pem_paths(cert, key, password=...)"
)


def load_certs(path: FilePath) -> list[bytes]:
    """Return the certificates in a PEM file, in DER, in their order.

    Raises:
        TlsConfigError: the file cannot be read or has no certificate in it.
    """
    return _certs_in(_read(path, "cert"), f"'{_show(path)}'")


def load_key(path: FilePath, password: Password | None = None) -> bytes:
    """Return the first private key in a PEM file, as PKCS#8 in DER.

    Raises:
        TlsConfigError: the file cannot be read, or there is no key in it, or not one
            that ``password`` (none, for a key that is not encrypted) opens.
    """
    return _key_in(_read(path, "key"), f"'{_show(path)}'", password)


def load_pem_chain(
    context: ssl.SSLContext, cert: FilePath, key: FilePath, password: Password | None
) -> None:
    """Load a PEM chain and its key into ``context``.

    Raises:
        TlsConfigError: see ``load_certs`` and ``load_key``; they are swapped, or do not
            match; or the leaf is not the first of the chain.
    """
    certs, keys = _read(cert, "cert"), _read(key, "key")
    names = f"cert file '{_show(cert)}' and key file '{_show(key)}'"
    if _is_key(certs) and not _is_cert(certs) and _is_cert(keys) and not _is_key(keys):
        msg = f"{names} are swapped: the certificate comes first, then its key"
        raise TlsConfigError(msg)
    chain = _certs_in(certs, f"'{_show(cert)}'")
    _load(context, chain, _key_in(keys, f"'{_show(key)}'", password), names)


def load_pem_bytes(
    context: ssl.SSLContext, pem: bytes, name: str = "PEM bytes"
) -> None:
    """Load a chain and its key, in PEM one behind the other, into ``context``.

    Raises:
        TlsConfigError: see ``load_pem_chain``; it calls them ``name``.
    """
    _load(context, _certs_in(pem, name), _key_in(pem, name, None), f"certs in {name}")


def load_der_chain(context: ssl.SSLContext, certs: Sequence[bytes], key: bytes) -> None:
    """Load DER certificates, leaf first, and the leaf's key into ``context``.

    Raises:
        TlsConfigError: one of them cannot be parsed, or they do not match.
    """
    if len(certs) == 1 and _is_der_key(certs[0]) and _is_der_cert(key):
        msg = "DER certificate and key are swapped: the certificate comes first"
        raise TlsConfigError(msg)
    try:
        chain = [der for cert in certs for der in _der_certs(cert)]
    except ValueError as error:
        msg = f"failed to parse DER certs: {error}"
        raise TlsConfigError(msg) from error
    if not chain:
        msg = "TlsCert.der takes at least one certificate"
        raise TlsConfigError(msg)
    _load(context, chain, key, "DER certificate and key")


def parse_roots(source: bytes | FilePath) -> bytes:
    """Return the certificates of a PEM or DER blob or file as DER, one after the other.

    Raises:
        TlsConfigError: there are none.
    """
    name = "bytes" if isinstance(source, bytes) else f"'{_show(source)}'"
    data = source if isinstance(source, bytes) else _read(source, "client CA")
    try:
        return b"".join(_der_certs(data))
    except ValueError as error:
        msg = f"failed to parse client CA certs from {name}: {error}"
        raise TlsConfigError(msg) from error


def expiry_of(context: ssl.SSLContext) -> float | None:
    """Return when the certificate of a context expires, in seconds since the epoch.

    ``None``: tako has loaded none into it.
    """
    return _expiry.get(context)


def file_stamp(path: FilePath) -> Stamp:
    """Return a file's time, size and inode, which tell a new one; ``None``: no file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _load(
    context: ssl.SSLContext, chain: Sequence[bytes], key: bytes, names: str
) -> None:
    """Hand a chain and its key to OpenSSL, which takes them from files only.

    The key is written encrypted with a new random password, so that it is never on disk
    in the clear; only the owner can read the file, and it is gone when this returns.
    """
    secret = secrets.token_hex(32)
    encryption = BestAvailableEncryption(secret.encode())
    try:
        private = load_der_private_key(key, None)
        key_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    except _BAD_KEY as error:
        msg = f"bad DER private key: {error}"
        raise TlsConfigError(msg) from error
    _check_order(chain, private.public_key(), names)
    pem = key_pem + "".join(map(ssl.DER_cert_to_PEM_cert, chain)).encode()
    try:
        _load_by_file(context, pem, secret)
    except ssl.SSLError as error:
        mismatch = error.reason in _MISMATCHES
        problem = "do not match" if mismatch else f"cannot be used: {error}"
        msg = f"{names} {problem}"
        raise TlsConfigError(msg) from error
    except OSError as error:
        msg = f"{names} cannot be handed to OpenSSL by a temporary file: {error}"
        raise TlsConfigError(msg) from error
    # OpenSSL has taken what this parser may not: then its end is not known
    with contextlib.suppress(ValueError, OverflowError):
        leaf = x509.load_der_x509_certificate(chain[0])
        _expiry[context] = leaf.not_valid_after_utc.timestamp()


def _load_by_file(context: ssl.SSLContext, pem: bytes, secret: str) -> None:
    handle, path = tempfile.mkstemp(prefix="tako-", suffix=".pem")  # mode 0600
    try:
        with open(handle, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path, password=secret)
    finally:
        os.unlink(path)


def _check_order(chain: Sequence[bytes], key: PublicKeyTypes, names: str) -> None:
    """Raise if the key's own certificate is in the chain, but is not the first."""
    wanted = key.public_bytes(*_PUBLIC)
    if _public_key(chain[0]) == wanted:
        return
    for number, der in enumerate(chain[1:], start=2):
        if _public_key(der) == wanted:
            # RFC 8446 §4.4.2: the sender's certificate MUST come first
            msg = (
                f"{names}: the chain is in wrong order: the certificate of the key is "
                f"number {number} and must be the first"
            )
            raise TlsConfigError(msg)


def _public_key(cert: bytes) -> bytes | None:
    """Return the public key of a certificate, ``None`` if it is of no known kind."""
    try:
        return x509.load_der_x509_certificate(cert).public_key().public_bytes(*_PUBLIC)
    except _BAD_KEY:
        return None


def _is_key(data: bytes) -> bool:
    return _KEY.search(data) is not None


def _is_cert(data: bytes) -> bool:
    return b"-----BEGIN CERTIFICATE-----" in data or _is_der_cert(data)


def _is_der_cert(data: bytes) -> bool:
    try:
        x509.load_der_x509_certificate(data)
    except ValueError:
        return False
    return True


def _is_der_key(data: bytes) -> bool:
    try:
        load_der_private_key(data, None)
    except _BAD_KEY:
        return False
    return True


def _certs_in(data: bytes, name: str) -> list[bytes]:
    """Return the certificates in ``data``, which the error calls ``name``."""
    try:
        return _der_certs(data)
    except ValueError as error:
        hint = "; there is a private key in it" if _is_key(data) else ""
        msg = f"failed to parse certs from {name}: {error}{hint}"
        raise TlsConfigError(msg) from error


def _key_in(data: bytes, name: str, password: Password | None) -> bytes:
    """Return the first private key in ``data``, which the error calls ``name``."""
    found = _KEY.search(data)
    if found is None:
        msg = f"no PEM private key (PKCS#8, PKCS#1 or SEC1) found in {name}; {HINT}"
        raise TlsConfigError(msg)
    secret = password.encode() if isinstance(password, str) else password
    if b"ENCRYPTED" not in found[0]:
        secret = None  # a password that is not needed does no harm
    elif not secret:
        msg = f"bad private key in {name}: {_ENCRYPTED}"
        raise TlsConfigError(msg)
    try:
        key = load_pem_private_key(found[0], secret)
    except _BAD_KEY as error:
        msg = f"bad private key in {name}: {error}"
        raise TlsConfigError(msg) from error
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def make_keylog(path: FilePath) -> None:
    """Make the file that secrets of connections are appended to, if there is none.

    Raises:
        TlsConfigError: it cannot be written.
    """
    try:
        # the owner alone: who can read it can read what was sent
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600))
    except OSError as error:
        msg = f"keylog '{_show(path)}' cannot be written: {error.strerror}"
        raise TlsConfigError(msg) from error
    _logger.warning(
        "Secrets of TLS connections are written to %s: who can read it can read "
        "what they carry",
        _show(path),
    )


def _der_certs(data: bytes) -> list[bytes]:
    """Return the certificates in PEM text or in one DER blob, as DER."""
    if b"-----BEGIN" in data:
        found = x509.load_pem_x509_certificates(data)
    elif data[:1] == b"\x30":  # X.690 §8.9: DER of a SEQUENCE
        found = [x509.load_der_x509_certificate(data)]
    else:
        msg = "no certificate found"
        raise ValueError(msg)
    return [cert.public_bytes(Encoding.DER) for cert in found]


def _read(path: FilePath, kind: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        hint = f"; {HINT}" if isinstance(error, FileNotFoundError) else ""
        reason = error.strerror or str(error)
        msg = f"failed to open {kind} file '{_show(path)}': {reason}{hint}"
        raise TlsConfigError(msg) from error


def _show(path: FilePath) -> str:
    return os.fspath(path)
