"""The local authority of this user, and certificates at the command line."""

import glob
import socket
from datetime import UTC, datetime
from pathlib import Path

from tako.acme.renewal import wanted_now
from tako.acme.store import Store
from tako.cli.console import CliError, with_fix
from tako.errors import TlsConfigError
from tako.tls import dev
from tako.tls.replace import user_folder
from tako.tls.sources import is_address


_RENEW = 14  # days before it expires


def facts(path: Path) -> list[dev.CertFacts]:
    """Return what is in a PEM file, in its order.

    Raises:
        CliError: it cannot be read, or has no certificate in it.
    """
    try:
        return dev.facts(path)
    except TlsConfigError as error:
        raise CliError(with_fix(str(error))) from error


def is_due(facts: dev.CertFacts) -> bool:
    """Tell whether clients refuse a certificate, or will within 14 days."""
    return not facts.begun or facts.days_left < _RENEW


def host_names(path: Path) -> list[str]:
    """Return the names that clients may ask a certificate's server for.

    Raises:
        CliError: it cannot be read, or has no certificate in it.
    """
    return [name for name in facts(path)[0].names if not is_address(name)]


def dev_cert() -> tuple[Path, Path]:
    """Return certificate and key for this machine; make, or renew, them if needed.

    Raises:
        CliError: trustme is missing, or the folder cannot be written.
    """
    folder = user_folder()
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not (key.exists() and cert.exists() and facts(cert)[0].days_left >= _RENEW):
        renew_dev_cert()
    return cert, key


def renew_dev_cert() -> None:
    """Replace the certificate for this machine; the authority stays.

    Raises:
        CliError: trustme is missing, or the folder cannot be written.
    """
    make(user_folder(), (*dev.NAMES, socket.gethostname()))


def authority() -> Path | None:
    """Return the certificate of the local authority; ``None``: there is none yet."""
    path = user_folder() / "ca.pem"
    return path if path.exists() else None


def kept(acme_folder: Path) -> list[Path]:
    """Return the certificates that are kept: for this machine, and by ACME."""
    own = user_folder() / "cert.pem"
    found = sorted(acme_folder.glob("*/*/certificate.pem"))
    return [own, *found] if own.exists() else found


def renew_ordered(acme_folder: Path, name: str) -> Path:
    """Have the server that keeps a certificate renew it, within a minute.

    Args:
        acme_folder: where it is kept.
        name: the first of its names.

    Returns:
        its folder.

    Raises:
        CliError: there is none, or it cannot be written.
    """
    found = sorted(
        path for path in acme_folder.glob(f"*/{glob.escape(name)}") if path.is_dir()
    )
    if not found:
        msg = f"{acme_folder} has no certificate whose first name is {name}"
        raise CliError(msg)
    try:
        for path in found:
            store = Store(path)
            with store.locked() as ours:
                if not ours:
                    msg = f"{path}: an order is under way"
                    raise CliError(msg)
                there = store.held()
                serial = None if there is None else there[1].serial
                store.remember(wanted_now(serial, datetime.now(UTC)))
    except OSError as error:
        msg = f"cannot write {error.filename}: {error.strerror}"
        raise CliError(msg) from error
    return found[-1]


def make(folder: Path, names: tuple[str, ...]) -> Path:
    """Write ``cert.pem`` and ``key.pem``, signed by the local authority.

    Returns:
        the authority's certificate.

    Raises:
        CliError: trustme is missing, a name cannot be used, or a file not be written.
    """
    try:
        authority = dev.kept_authority(user_folder(), socket.gethostname())
        dev.write_server(authority, folder, names)
    except OSError as error:
        msg = f"cannot write {error.filename}: {error.strerror}"
        raise CliError(msg) from error
    except TlsConfigError as error:
        raise CliError(str(error)) from error
    return user_folder() / "ca.pem"
