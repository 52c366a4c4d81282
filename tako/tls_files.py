"""Certificates and keys, from PEM files and DER bytes into ``ssl`` contexts.

Everything here reads files, and raises ``TlsConfigError`` with the path in its message.
It runs when a listener is made or reloaded, never for a connection.
"""

import os
import re
import secrets
import ssl
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)

from tako.errors import TlsConfigError


FilePath: TypeAlias = str | os.PathLike[str]
Password: TypeAlias = str | bytes

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


def load_certs(path: FilePath) -> list[bytes]:
    """Return the certificates in a PEM file, in DER, in their order.

    Raises:
        TlsConfigError: the file cannot be read or has no certificate in it.
    """
    data = _read(path, "cert")
    try:
        return _der_certs(data)
    except ValueError as error:
        msg = f"failed to parse certs from '{_show(path)}': {error}"
        raise TlsConfigError(msg) from error


def load_key(path: FilePath, password: Password | None = None) -> bytes:
    """Return the first private key in a PEM file, as PKCS#8 in DER.

    Raises:
        TlsConfigError: the file cannot be read, or there is no key in it, or not one
            that ``password`` (none, for a key that is not encrypted) opens.
    """
    found = _KEY.search(_read(path, "key"))
    if found is None:
        msg = (
            "no PEM private key (PKCS#8, PKCS#1 or SEC1) found in "
            f"'{_show(path)}'; {HINT}"
        )
        raise TlsConfigError(msg)
    secret = password.encode() if isinstance(password, str) else password
    if b"ENCRYPTED" not in found[0]:
        secret = None  # a password that is not needed does no harm
    try:
        key = load_pem_private_key(found[0], secret)
    except _BAD_KEY as error:
        msg = f"bad private key in '{_show(path)}': {error}"
        raise TlsConfigError(msg) from error
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def load_pem_chain(
    context: ssl.SSLContext, cert: FilePath, key: FilePath, password: Password | None
) -> None:
    """Load a PEM chain and its key into ``context``.

    Raises:
        TlsConfigError: see ``load_certs`` and ``load_key``; or they do not match.
    """
    chain = load_certs(cert)
    names = f"cert file '{_show(cert)}' and key file '{_show(key)}'"
    _load(context, chain, load_key(key, password), names)


def load_der_chain(context: ssl.SSLContext, certs: Sequence[bytes], key: bytes) -> None:
    """Load DER certificates, leaf first, and the leaf's key into ``context``.

    Raises:
        TlsConfigError: one of them cannot be parsed, or they do not match.
    """
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


def file_stamp(path: FilePath) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced; ``None`` if there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _load(
    context: ssl.SSLContext, chain: Sequence[bytes], key: bytes, names: str
) -> None:
    """Hand a chain and its key to OpenSSL, which takes them from files only.

    The key is written under a password made for the occasion, so that it is never on
    disk in the clear; the file is for the owner alone and gone when this returns.
    """
    secret = secrets.token_hex(32)
    encryption = BestAvailableEncryption(secret.encode())
    try:
        private = load_der_private_key(key, None)
        key_pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
    except _BAD_KEY as error:
        msg = f"bad DER private key: {error}"
        raise TlsConfigError(msg) from error
    pem = key_pem + "".join(map(ssl.DER_cert_to_PEM_cert, chain)).encode()
    handle, path = tempfile.mkstemp(prefix="tako-", suffix=".pem")  # mode 0600
    try:
        with open(handle, "wb") as file:
            file.write(pem)
        context.load_cert_chain(path, password=secret)
    except ssl.SSLError as error:
        mismatch = error.reason in _MISMATCHES
        problem = "do not match" if mismatch else f"cannot be used: {error}"
        msg = f"{names} {problem}"
        raise TlsConfigError(msg) from error
    finally:
        os.unlink(path)


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
