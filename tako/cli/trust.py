"""How this machine and its browsers come to trust the local authority.

On macOS and Windows one store has it for all. On Linux there are many: that of the
system, which programs read, and NSS databases, one for Chromium and its relatives and
one for each profile of Firefox. Nothing is done by itself: ``ways`` says what there
is to do, and ``Way.take`` does it when the user has agreed.
"""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tako.cli.console import CliError, RunError


Store: TypeAlias = Literal["browsers", "system"]

_LIMIT = 60.0  # seconds for a command
_CERTUTIL = "certutil"  # of NSS: Debian's libnss3-tools, Fedora's nss-tools
_SYSTEM = (
    # where authorities are put, as what, and what makes them count
    ("/usr/local/share/ca-certificates", "tako.crt", ("update-ca-certificates",)),
    ("/etc/pki/ca-trust/source/anchors", "tako.pem", ("update-ca-trust",)),
    ("/etc/ca-certificates/trust-source/anchors", "tako.crt", ("update-ca-trust",)),
)


@dataclass(frozen=True, slots=True)
class Way:
    """One store, and the commands that put the authority into it.

    Attributes:
        who: reads the store.
        commands: what to run, in order; empty if it can be done by hand only.
        by_hand: what to do instead of commands.
    """

    who: str
    commands: tuple[tuple[str, ...], ...] = ()
    by_hand: str = ""

    def __str__(self) -> str:
        shown = " && ".join(map(shlex.join, self.commands))
        return f"{self.who}: {shown or self.by_hand}"

    def take(self) -> None:
        """Run the commands.

        Raises:
            CliError: a program is missing.
            RunError: one has failed.
        """
        for command in self.commands:
            if shutil.which(command[0]) is None:
                msg = f"{command[0]} is not installed{_package(command[0])}"
                raise CliError(msg)
        for command in self.commands:
            try:
                done = subprocess.run(  # noqa: S603 - shown, and agreed to
                    command,
                    check=False,
                    stderr=subprocess.PIPE,
                    timeout=_LIMIT,
                    text=True,
                )
            except subprocess.TimeoutExpired as error:
                msg = f"{shlex.join(command)} has not ended in {_LIMIT:g} s"
                raise RunError(msg) from error
            if done.returncode:
                said = " ".join(done.stderr.split())
                msg = f"{shlex.join(command)} failed: {said}"
                raise RunError(msg)


def ways(authority: Path, store: Store | None = None) -> list[Way]:
    """Return what has this machine trust ``authority``.

    Args:
        authority: the certificate, in PEM.
        store: only the ways of the one kind; ``None``: all.
    """
    if sys.platform == "darwin":
        keychain = "/Library/Keychains/System.keychain"
        command = ("security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k")
        return [Way("all programs", (_root(*command, keychain, str(authority)),))]
    if sys.platform == "win32":
        command = ("certutil", "-addstore", "-f", "ROOT", str(authority))
        return [Way("all programs, as administrator", (command,))]
    system = [] if store == "browsers" else [_of_system(authority)]
    browsers = [] if store == "system" else _of_browsers(authority)
    return system + browsers


def _of_system(authority: Path) -> Way:
    for folder, name, update in _SYSTEM:
        if Path(folder).is_dir():
            copy = _root("cp", str(authority), f"{folder}/{name}")
            return Way("curl, Python and other programs", (copy, _root(*update)))
    return Way(
        "curl, Python and other programs",
        by_hand=f"add {authority} to the authorities of this system",
    )


def _of_browsers(authority: Path) -> list[Way]:
    home = Path.home()
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    chromium = [
        home / ".pki" / "nssdb",
        data / "pki" / "nssdb",
        home / "snap" / "chromium" / "current" / ".pki" / "nssdb",
    ]
    there = [path for path in chromium if (path / "cert9.db").exists()]
    found = [
        Way("Chromium, Chrome and Edge", _into_nss(path, authority))
        for path in there or chromium[:1]
    ]
    profiles = [
        path.parent
        for folder in (".mozilla/firefox", "snap/firefox/common/.mozilla/firefox")
        for path in sorted((home / folder).glob("*/cert9.db"))
    ]
    found += [
        Way(f"Firefox, {path.name}", _into_nss(path, authority)) for path in profiles
    ]
    if not profiles:
        place = "Settings, Privacy & Security, View Certificates, Authorities, Import"
        found.append(Way("Firefox", by_hand=f"{place}: {authority}"))
    return found


def _into_nss(database: Path, authority: Path) -> tuple[tuple[str, ...], ...]:
    where = ("-d", f"sql:{database}")
    commands: list[tuple[str, ...]] = []
    if not (database / "cert9.db").exists():
        commands.append(("mkdir", "-p", "-m", "700", str(database)))
        commands.append((_CERTUTIL, *where, "-N", "--empty-password"))
    name = ("-n", f"tako local authority {_mark(authority)}")
    # C: it is trusted to sign certificates of servers, and for nothing else
    add = (_CERTUTIL, *where, "-A", "-t", "C,,", *name, "-i", str(authority))
    return (*commands, add)


def _mark(authority: Path) -> str:
    """Return what tells this authority from one before, or of another machine."""
    certificate = x509.load_pem_x509_certificate(authority.read_bytes())
    return certificate.fingerprint(hashes.SHA256())[:4].hex()


def _root(*command: str) -> tuple[str, ...]:
    return command if os.geteuid() == 0 else ("sudo", *command)


def _package(program: str) -> str:
    if program == _CERTUTIL:
        return ": apt install libnss3-tools, or dnf install nss-tools"
    return ""


def shown(authority: Path) -> Sequence[str]:
    """Return lines that say how to trust ``authority``, in each program."""
    return [
        "to trust it: tako certs trust, which says first what it does; or by hand:",
        *(f"  {way}" for way in ways(authority)),
    ]
