"""Certificates at the command line: a local authority, and what is in a PEM file."""

import datetime
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tako.cli.console import CliError, with_fix
from tako.errors import TlsConfigError
from tako.tls.files import load_certs


_LIFE = datetime.timedelta(days=397)  # more is refused by some clients
_RENEW = datetime.timedelta(days=14)
NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class CertFacts:
    """What a person wants to know of a certificate.

    Attributes:
        names: the names and addresses that it is for; else its subject.
        issuer: who signed it.
        key: the kind of its key.
        expires: when it does, in UTC.
        days_left: whole days until then, negative if that is past.
    """

    names: tuple[str, ...]
    issuer: str
    key: str
    expires: datetime.datetime
    days_left: int

    def __str__(self) -> str:
        when = f"{self.expires:%Y-%m-%d}"
        if self.days_left < 0:
            return f"{', '.join(self.names)}; EXPIRED on {when}"
        return f"{', '.join(self.names)}; expires {when}, {self.days_left} days left"


def facts(path: str | os.PathLike[str]) -> list[CertFacts]:
    """Return what is in a PEM file, in its order.

    Raises:
        CliError: it cannot be read, or has no certificate in it.
    """
    try:
        chain = load_certs(path)
    except TlsConfigError as error:
        raise CliError(with_fix(str(error))) from error
    return [_facts(x509.load_der_x509_certificate(der)) for der in chain]


def _facts(cert: x509.Certificate) -> CertFacts:
    expires = cert.not_valid_after_utc
    return CertFacts(
        _names(cert),
        cert.issuer.rfc4514_string() or "nobody named",
        _key(cert),
        expires,
        (expires - _now()).days,
    )


def _names(cert: x509.Certificate) -> tuple[str, ...]:
    try:
        extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return (cert.subject.rfc4514_string() or "no name",)
    return tuple(str(name.value) for name in extension.value)


def _key(cert: x509.Certificate) -> str:
    key = cert.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"EC {key.curve.name}"
    return type(key).__name__.removesuffix("PublicKey")


def data_folder() -> Path:
    """Return where the local authority is kept, by the platform's conventions."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    elif sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home())
    else:
        base = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share")
    return base / "tako"


def dev_cert() -> tuple[Path, Path]:
    """Return certificate and key for this machine; made, or renewed, where needed.

    Raises:
        CliError: trustme is missing, or the folder cannot be written.
    """
    folder = data_folder()
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not (key.exists() and _fresh(cert)):
        make(folder, (*NAMES, socket.gethostname()))
    return cert, key


def _fresh(cert: Path) -> bool:
    return cert.exists() and facts(cert)[0].expires - _now() > _RENEW


def make(folder: Path, names: tuple[str, ...]) -> Path:
    """Write ``cert.pem`` and ``key.pem``, signed by the local authority.

    Returns:
        the authority's certificate.

    Raises:
        CliError: trustme is missing, a name cannot be used, or a file not be written.
    """
    try:
        authority = _authority()
        leaf = authority.issue_cert(*names, not_after=_now() + _LIFE)
        folder.mkdir(parents=True, exist_ok=True)
        _write_private(folder / "key.pem", leaf.private_key_pem.bytes())
        chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        (folder / "cert.pem").write_bytes(chain)
    except OSError as error:
        msg = f"cannot write {error.filename}: {error.strerror}"
        raise CliError(msg) from error
    except ValueError as error:
        msg = f"cannot issue a certificate for {', '.join(names)}: {error}"
        raise CliError(msg) from error
    return data_folder() / "ca.pem"


def _authority() -> Any:
    """Return the local authority, a ``trustme.CA``; a new one if there is none."""
    try:
        import trustme
    except ModuleNotFoundError as error:
        msg = "local certificates need trustme: pip install 'tako-server[cli]'"
        raise CliError(msg) from error
    folder = data_folder()
    cert, key = folder / "ca.pem", folder / "ca-key.pem"
    if cert.exists() and key.exists():
        return trustme.CA.from_pem(cert.read_bytes(), key.read_bytes())
    authority = trustme.CA(
        organization_name="tako local authority",
        organization_unit_name=socket.gethostname()[:64],
    )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_private(key, authority.private_key_pem.bytes())
    cert.write_bytes(authority.cert_pem.bytes())
    return authority


def _write_private(path: Path, data: bytes) -> None:
    """Write a file that nobody else can read at any time."""
    path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "wb") as file:
        file.write(data)


def trust_line(authority: Path) -> str:
    """Return the command that makes this machine trust the local authority."""
    if sys.platform == "darwin":
        return (
            "sudo security add-trusted-cert -d -r trustRoot "
            f"-k /Library/Keychains/System.keychain '{authority}'"
        )
    if sys.platform == "win32":
        return f'certutil -addstore -f ROOT "{authority}"'
    return (
        f"sudo cp '{authority}' /usr/local/share/ca-certificates/tako.crt "
        "&& sudo update-ca-certificates"
    )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
