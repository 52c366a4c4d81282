"""The local authority of this user, and certificates at the command line."""

import os
import socket
import sys
from pathlib import Path

from tako.cli.console import CliError, with_fix
from tako.errors import TlsConfigError
from tako.tls import dev
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


def host_names(path: Path) -> list[str]:
    """Return the names that clients may ask a certificate's server for.

    Raises:
        CliError: it cannot be read, or has no certificate in it.
    """
    return [name for name in facts(path)[0].names if not is_address(name)]


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
    """Return certificate and key for this machine; make, or renew, them if needed.

    Raises:
        CliError: trustme is missing, or the folder cannot be written.
    """
    folder = data_folder()
    cert, key = folder / "cert.pem", folder / "key.pem"
    if not (key.exists() and cert.exists() and facts(cert)[0].days_left >= _RENEW):
        make(folder, (*dev.NAMES, socket.gethostname()))
    return cert, key


def make(folder: Path, names: tuple[str, ...]) -> Path:
    """Write ``cert.pem`` and ``key.pem``, signed by the local authority.

    Returns:
        the authority's certificate.

    Raises:
        CliError: trustme is missing, a name cannot be used, or a file not be written.
    """
    try:
        authority = dev.kept_authority(data_folder(), socket.gethostname())
        dev.write_server(authority, folder, names)
    except OSError as error:
        msg = f"cannot write {error.filename}: {error.strerror}"
        raise CliError(msg) from error
    except TlsConfigError as error:
        raise CliError(str(error)) from error
    return data_folder() / "ca.pem"


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
