"""Certificates for development: an authority, what it signs, and what is in a file.

``tako certs`` and ``certs/generate.py`` use it. The command's authority is kept
(``kept_authority``), so that it has to be trusted once only; the script's is new with
every set of files (``write_set``), and its key is thrown away. Making certificates
needs ``trustme``, which ``tako-server[cli]`` brings; reading them does not.
"""

import datetime
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from tako.errors import TlsConfigError
from tako.tls.context import pem_context
from tako.tls.files import FilePath, load_certs
from tako.tls.replace import replace


if TYPE_CHECKING:
    import trustme


NAMES = ("localhost", "127.0.0.1", "::1")
LIFETIME = datetime.timedelta(days=397)
"""Some clients refuse server certificates of more than 398 days."""

_SERVER_FILES = ("ca.pem", "cert.pem", "key.pem")
_CLIENT_FILES = ("client.pem", "client-key.pem")


@dataclass(frozen=True, slots=True)
class CertFacts:
    """What ``tako certs`` shows of a certificate.

    Attributes:
        names: the names and addresses that it is for; else its subject.
        issuer: the authority that signed it.
        key: the kind of its key.
        expires: when it expires, in UTC.
        days_left: whole days until then, negative if that is past.
        begins: when it becomes valid, in UTC.
        begun: whether it has.
    """

    names: tuple[str, ...]
    issuer: str
    key: str
    expires: datetime.datetime
    days_left: int
    begins: datetime.datetime
    begun: bool

    def __str__(self) -> str:
        when = f"{self.expires:%Y-%m-%d}"
        if not self.begun:
            since = f"{self.begins:%Y-%m-%d %H:%M}"
            return f"{', '.join(self.names)}; NOT VALID before {since} UTC"
        if self.days_left < 0:
            return f"{', '.join(self.names)}; EXPIRED on {when}"
        return f"{', '.join(self.names)}; expires {when}, {self.days_left} days left"


def facts(path: FilePath) -> list[CertFacts]:
    """Return what is in a PEM file, in its order.

    Raises:
        TlsConfigError: it cannot be read, or has no certificate in it.
    """
    return [_facts(x509.load_der_x509_certificate(der)) for der in load_certs(path)]


def _facts(cert: x509.Certificate) -> CertFacts:
    expires, begins, now = cert.not_valid_after_utc, cert.not_valid_before_utc, _now()
    return CertFacts(
        _names(cert),
        cert.issuer.rfc4514_string() or "no name",
        _key(cert),
        expires,
        (expires - now).days,
        begins,
        begins <= now,
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


def kept_authority(folder: Path, machine: str) -> "trustme.CA":
    """Return the authority whose certificate and key are in ``folder``; else a new one.

    Args:
        folder: of ``ca.pem`` and ``ca-key.pem``; made where needed.
        machine: what a new authority is named after.

    Raises:
        TlsConfigError: trustme is not installed, or the files are broken.
        OSError: a file cannot be read or written.
    """
    cert, key = folder / "ca.pem", folder / "ca-key.pem"
    if cert.exists() and key.exists():
        return _read_authority(cert, key)
    authority = _new_authority("tako local authority", machine[:64])
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    replace(key, authority.private_key_pem.bytes(), private=True)
    replace(cert, authority.cert_pem.bytes(), private=False)
    return authority


def write_server(authority: "trustme.CA", folder: Path, names: Sequence[str]) -> None:
    """Write ``cert.pem`` and ``key.pem`` for ``names``, signed by ``authority``.

    Raises:
        TlsConfigError: a name cannot be used.
        OSError: a file cannot be written.
    """
    try:
        leaf = authority.issue_cert(*names, not_after=_now() + LIFETIME)
    except ValueError as error:
        msg = f"cannot issue a certificate for {', '.join(names)}: {error}"
        raise TlsConfigError(msg) from error
    folder.mkdir(parents=True, exist_ok=True)
    _write(leaf, folder / "cert.pem", folder / "key.pem")


def has_set(folder: Path) -> bool:
    """Tell whether ``write_set`` would replace a file in ``folder``."""
    return any((folder / name).exists() for name in _SERVER_FILES)


def write_set(folder: Path, names: Sequence[str], client: str | None) -> list[Path]:
    """Write the files of a new authority and of what it signs.

    Args:
        folder: where to; files of an earlier set are replaced, or go.
        names: of the server.
        client: the name in a client's certificate; ``None``: make none.

    Returns:
        the files that were written.

    Raises:
        TlsConfigError: trustme is not installed, or a name cannot be used.
        OSError: a file cannot be written.
    """
    authority = _new_authority("tako development", None)
    write_server(authority, folder, names)
    replace(folder / "ca.pem", authority.cert_pem.bytes(), private=False)
    for name in _CLIENT_FILES:  # those of another authority would only mislead
        (folder / name).unlink(missing_ok=True)
    if client is not None:
        expires = _now() + LIFETIME
        leaf = authority.issue_cert(client, common_name=client, not_after=expires)
        _write(leaf, *(folder / name for name in _CLIENT_FILES))
    return [folder / name for name in _files(client)]


def find_problems(
    folder: Path, names: Sequence[str], client: str | None
) -> Iterator[str]:
    """Yield what is wrong with the files in ``folder``; nothing if all is in order.

    Args:
        folder: where they are.
        names: what the server's certificate has to be for.
        client: ``None``: no client's certificate has to be there.
    """
    wanted = _files(client)
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        yield f"{folder} has no {', '.join(missing)}"
        return
    path = folder / "cert.pem"
    try:
        pem_context(path, folder / "key.pem", None)
        leaf = facts(path)[0]
    except TlsConfigError as error:
        yield f"{path} and its key cannot be used: {error}"
        return
    if leaf.days_left < 0:
        yield f"{path} expired on {leaf.expires:%Y-%m-%d}"
    covered = {name.lower() for name in leaf.names}
    uncovered = [name for name in names if name.lower() not in covered]
    if uncovered:
        yield f"{path} is not for {', '.join(uncovered)}"


def _files(client: str | None) -> tuple[str, ...]:
    return _SERVER_FILES if client is None else _SERVER_FILES + _CLIENT_FILES


def _trustme() -> Any:
    try:
        import trustme
    except ModuleNotFoundError as error:
        msg = "local certificates need trustme: pip install 'tako-server[cli]'"
        raise TlsConfigError(msg) from error
    return trustme


def _read_authority(cert: Path, key: Path) -> "trustme.CA":
    load = _trustme().CA.from_pem
    try:
        authority: trustme.CA = load(cert.read_bytes(), key.read_bytes())
    except ValueError as error:
        msg = f"the authority of {cert} and {key} cannot be used: {error}"
        raise TlsConfigError(msg) from error
    return authority


def _new_authority(organization: str, unit: str | None) -> "trustme.CA":
    made: trustme.CA = _trustme().CA(
        organization_name=organization, organization_unit_name=unit
    )
    return made


def _write(leaf: "trustme.LeafCert", cert: Path, key: Path) -> None:
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    replace(key, leaf.private_key_pem.bytes(), private=True)
    replace(cert, chain, private=False)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
