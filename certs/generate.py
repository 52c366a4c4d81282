"""Make certificates for development: an authority, a server's and perhaps a client's.

Run it as ``python certs/generate.py``; ``--help`` tells the rest. Needs ``trustme``.
"""

import argparse
import os
import ssl
import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography import x509


NAMES = ("localhost", "127.0.0.1", "::1")
LIFETIME = timedelta(days=397)  # some clients refuse server certificates over 398 days
SERVER_FILES = ("ca.pem", "cert.pem", "key.pem")
CLIENT_FILES = ("client.pem", "client-key.pem")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parser().parse_args(arguments)
    names = list(dict.fromkeys([*NAMES, *options.names]))
    directory: Path = options.dir
    wanted = SERVER_FILES + (CLIENT_FILES if options.client else ())
    if not options.force and any((directory / name).exists() for name in SERVER_FILES):
        problems = list(find_problems(directory, names, wanted))
        for problem in problems:
            _say(f"{problem}; --force makes a new set")
        if not problems:
            _say(f"{directory} has a valid set; --force makes a new one")
        return 1 if problems else 0
    generate(directory, names, options.client)
    _say(
        *(f"wrote {directory / name}" for name in wanted),
        f"for {', '.join(names)}, valid for {LIFETIME.days} days",
        f"trust it with: curl --cacert {directory / 'ca.pem'} https://localhost:8443/",
        f"          or:  SSL_CERT_FILE={directory / 'ca.pem'} python client.py",
    )
    return 0


def generate(directory: Path, names: Sequence[str], client: str | None = None) -> None:
    """Write a new set of files into ``directory``, replacing what is there."""
    directory.mkdir(parents=True, exist_ok=True)
    expires = datetime.now(UTC) + LIFETIME
    authority = trustme.CA(organization_name="tako development")
    server = authority.issue_cert(*names, not_after=expires)
    files = {
        "ca.pem": authority.cert_pem.bytes(),
        "cert.pem": _chain(server),
        "key.pem": server.private_key_pem.bytes(),
    }
    if client is not None:
        identity = authority.issue_cert(client, common_name=client, not_after=expires)
        files["client.pem"] = _chain(identity)
        files["client-key.pem"] = identity.private_key_pem.bytes()
    for name in CLIENT_FILES:  # those of another authority would only mislead
        (directory / name).unlink(missing_ok=True)
    for name, data in files.items():
        _replace(directory / name, data, private=name.endswith("key.pem"))


def find_problems(
    directory: Path, names: Sequence[str], wanted: Sequence[str]
) -> Iterator[str]:
    """Tell what keeps the files in ``directory`` from being what was asked for."""
    missing = [name for name in wanted if not (directory / name).is_file()]
    if missing:
        yield f"{directory} has no {', '.join(missing)}"
        return
    leaf = directory / "cert.pem"
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf, directory / "key.pem", password="")
        cert = x509.load_pem_x509_certificate(leaf.read_bytes())
        covered = _names_of(cert)
    except (OSError, ValueError, x509.ExtensionNotFound) as error:
        yield f"{leaf} and its key cannot be used: {error}"
        return
    if cert.not_valid_after_utc <= datetime.now(UTC):
        yield f"{leaf} expired on {cert.not_valid_after_utc:%Y-%m-%d}"
    uncovered = [name for name in names if name.lower() not in covered]
    if uncovered:
        yield f"{leaf} is not for {', '.join(uncovered)}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Make a certificate authority and certificates for development."
    )
    parser.add_argument(
        "names",
        nargs="*",
        help=f"host names and IP addresses besides {', '.join(NAMES)}",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        default=_shown(Path(__file__).parent),
        help="where to write (default: %(default)s)",
    )
    parser.add_argument(
        "--client", metavar="NAME", help="make a client certificate for NAME as well"
    )
    parser.add_argument(
        "--force", action="store_true", help="replace the files that are there"
    )
    return parser


def _shown(path: Path) -> Path:
    """Return ``path`` as one would type it."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _names_of(cert: x509.Certificate) -> set[str]:
    extension = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    hosts = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return {*(host.lower() for host in hosts), *map(str, addresses)}


def _chain(leaf: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


def _replace(path: Path, data: bytes, *, private: bool) -> None:
    """Write ``data`` beside ``path`` and move it there: readers see old or new."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    # the mode is given at creation: at no time can others open a key
    mode = 0o600 if private else 0o644
    handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with open(handle, "wb") as file:
        file.write(data)
    fresh.replace(path)


def _say(*lines: str) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    sys.exit(main())
