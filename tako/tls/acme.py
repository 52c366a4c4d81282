"""``Acme``: a certificate that an authority issues to the server itself (RFC 8555).

Here is what a listener needs of it: the files, and which of them answers a handshake.
``tako.acme`` orders the certificate and writes them, in whichever process has the lock;
every process that serves reads them.

A challenge (TLS-ALPN-01, RFC 8737) is a handshake that offers ``acme-tls/1`` and
nothing else. While the authority is to look at a name, there is a file with the
certificate for that; without the file the handshake is refused before a key is used.
"""

import hashlib
import importlib
import logging
import os
import re
import ssl
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from tako.errors import TlsConfigError
from tako.tls.context import ClientAuth, new_context, prepare
from tako.tls.files import FilePath, Stamp, file_stamp, load_pem_bytes
from tako.tls.replace import make_private_folder, user_folder
from tako.tls.sources import Answer, Choice, Reloadable, checked_name, is_address


_logger = logging.getLogger("tako.tls")

LETS_ENCRYPT: Final = "https://acme-v02.api.letsencrypt.org/directory"
"""The directory of Let's Encrypt."""

LETS_ENCRYPT_STAGING: Final = "https://acme-staging-v02.api.letsencrypt.org/directory"
"""That of its authority for attempts, which no client trusts."""

CHALLENGE_ALPN: Final = "acme-tls/1"  # RFC 8737 §6.2

_MOST_NAMES = 100  # of one certificate, as Let's Encrypt has it
_EMAIL = re.compile(r"[^\s@,?]+@[^\s@,?]+")


@dataclass(frozen=True, slots=True, init=False)
class Acme:
    """A certificate that the server orders, and renews, by itself.

    Give it as ``tls=``, or for a name in ``TlsCert.sni``. The authority looks at each
    of the names on port 443, by TLS-ALPN-01 (RFC 8737): the port that is served has to
    be reachable as that one. Processes with one ``folder`` have one certificate: one of
    them orders it, all load it. Until there is one, handshakes are refused; an old one
    is served until the new one is complete.

    By using it you agree to the terms of the authority. Needs ``tako-server[acme]``.

    Attributes:
        names: the host names, in lower case.
        email: where the authority may write to.
        directory: the URL of the authority's directory (RFC 8555 §7.1.1).
        folder: where the account's key and certificates of all authorities are kept.
        client_auth: whether clients have to show a certificate.

    Example::

        await tako.serve_tls(":443", router, tls=Acme("example.com", "www.example.com"))
    """

    names: tuple[str, ...]
    email: str | None
    directory: str
    folder: Path
    client_auth: ClientAuth | None

    def __init__(
        self,
        *names: str,
        email: str | None = None,
        directory: str = LETS_ENCRYPT,
        folder: FilePath | None = None,
        client_auth: ClientAuth | None = None,
    ) -> None:
        """Say which certificate is wanted; nothing is read or ordered yet.

        Args:
            names: host names: one certificate is for all of them. Wildcards and
                addresses cannot be had this way.
            email: where the authority may write to.
            directory: the URL of the authority's directory, Let's Encrypt's by default;
                ``tako.tls.LETS_ENCRYPT_STAGING`` is for attempts.
            folder: where keys and certificates are kept; by default ``acme`` in the
                folder that systemd gives the service (``StateDirectory=``), else in
                tako's folder of this user.
            client_auth: whether clients have to show a certificate.

        Raises:
            TlsConfigError: there are no names, one cannot be certified, or an argument
                has another form.
        """
        if not names or len(names) > _MOST_NAMES:
            msg = f"Acme takes 1 to {_MOST_NAMES} names, not {len(names)}"
            raise TlsConfigError(msg)
        if email is not None and not _EMAIL.fullmatch(email):
            msg = f"the email of Acme is one address, not {email!r}"
            raise TlsConfigError(msg)
        url = urlsplit(directory)
        if url.scheme != "https" or not url.hostname:  # RFC 8555 §6.1
            msg = f"the directory of Acme is an https URL, not {directory!r}"
            raise TlsConfigError(msg)
        found = tuple(dict.fromkeys(map(_certifiable, names)))
        where = default_folder() if folder is None else Path(folder)
        for name, value in (
            ("names", found),
            ("email", email),
            ("directory", directory),
            ("folder", where),
            ("client_auth", client_auth),
        ):
            object.__setattr__(self, name, value)

    @property
    def authority(self) -> str:
        """The host of the authority, for messages."""
        return urlsplit(self.directory).netloc

    @property
    def authority_folder(self) -> Path:
        """What is kept for this authority: nothing of a staging one is served."""
        # two directories of one host are two authorities
        mark = zlib.crc32(self.directory.encode())
        host = re.sub(r"[^a-z0-9.-]", "-", self.authority.lower())
        return self.folder / f"{host}-{mark:08x}"

    @property
    def certificate(self) -> Path:
        """The key and the chain in one file, so that both are replaced at once."""
        return self.authority_folder / self.names[0] / "certificate.pem"

    def challenge(self, name: str) -> Path:
        """Return the file that answers the authority for one of ``names``."""
        return challenge_file(self.certificate.parent, name)


def challenge_file(folder: Path, name: str) -> Path:
    """Return the file of a challenge for ``name``, in a certificate's folder."""
    mark = hashlib.sha256(name.encode()).hexdigest()[:32]  # a name may be too long
    return folder / f"challenge-{mark}.pem"


def default_folder() -> Path:
    """Return where keys and certificates are kept if nothing else is said."""
    # systemd.exec(5): several folders are separated by colons
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return (Path(given) if given else user_folder()) / "acme"


def _certifiable(name: str) -> str:
    """Return a name as it is looked up by.

    Raises:
        TlsConfigError: TLS-ALPN-01 cannot certify it.
    """
    host = checked_name(name)
    if host.startswith("*."):  # RFC 8737 §3 proves one host, not a domain
        msg = f"{name!r}: wildcards cannot be ordered by TLS-ALPN-01; give the names"
        raise TlsConfigError(msg)
    if is_address(host) or not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", host):
        msg = f"Acme takes host names, not {name!r}"
        raise TlsConfigError(msg)
    return host


@dataclass(frozen=True, slots=True)
class AcmeFiles:
    """The source of contexts that an ``Acme`` stands for."""

    acme: Acme

    single = False

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Make the folder, and load the certificate if there is one.

        Raises:
            TlsConfigError: the ACME client is not installed, or the folder cannot be
                used.
        """
        try:  # now: it takes a while, and clients would wait
            importlib.import_module("aioacme")
        except ModuleNotFoundError as error:
            msg = "Acme needs a client: pip install 'tako-server[acme]'"
            raise TlsConfigError(msg) from error
        try:
            for folder in reversed((self.acme.certificate.parent, *_above(self.acme))):
                make_private_folder(folder)
        except OSError as error:
            msg = f"the ACME folder {error.filename} cannot be used: {error.strerror}"
            raise TlsConfigError(msg) from error
        return AcmeCertificate(self.acme, alpn, auth)


def _above(acme: Acme) -> tuple[Path, Path]:
    return acme.authority_folder, acme.folder


class AcmeCertificate:
    """What there is of an ``Acme``'s certificate, for one listener.

    Attributes:
        acme: what is wanted.
    """

    __slots__ = (
        "_alpn",
        "_auth",
        "_by",
        "_challenges",
        "_context",
        "_stamp",
        "_stamps",
        "acme",
    )

    several = False

    def __init__(
        self, acme: Acme, alpn: tuple[str, ...], auth: ClientAuth | None
    ) -> None:
        self.acme: Acme = acme
        self._alpn = alpn
        self._auth = auth
        self._by = acme, auth
        self._challenges: dict[str, tuple[Stamp, ssl.SSLContext]] = {}
        self._context: ssl.SSLContext | None = None
        self._stamp: Stamp = None
        self._stamps = () if auth is None else auth.stamps
        try:
            self.reload_from_pem()
        except TlsConfigError as error:  # another one will be ordered
            _logger.error("going on without a certificate: %s", error)  # noqa: TRY400 - its text says it all

    def answer(self, _: str | None) -> Answer | None:
        """Return the answer to a handshake; ``None`` while there is no certificate."""
        return None if self._context is None else Answer(self._context, self._by)

    def challenge(self, name: str) -> ssl.SSLContext | None:
        """Return what answers the authority's handshake for ``name``.

        ``None`` if the name is not ours, or no challenge of it is under way: a look at
        a file is all that it costs then.

        Raises:
            TlsConfigError: the file cannot be used.
        """
        if name not in self.acme.names:  # before it becomes part of a path
            return None
        path = self.acme.challenge(name)
        stamp = file_stamp(path)
        if stamp is None:
            self._challenges.pop(name, None)
            return None
        known = self._challenges.get(name)
        if known is None or known[0] != stamp:
            context = _loaded(path)
            prepare(context, (CHALLENGE_ALPN,), None)
            known = self._challenges[name] = stamp, context
        return known[1]

    def reloadables(self) -> Iterable[Reloadable]:
        """Return this, to be loaded again when the file changes."""
        return (self,)

    def contexts(self) -> Iterable[ssl.SSLContext]:
        """Return what answers handshakes, once there is a certificate."""
        return () if self._context is None else (self._context,)

    def changed(self) -> bool:
        """Tell whether a file differs from what the last attempt to load it found."""
        return self._stamp != file_stamp(self.acme.certificate) or self._stamps != (
            self._roots()
        )

    def _roots(self) -> tuple[tuple[FilePath, Stamp], ...]:
        return tuple((path, file_stamp(path)) for path, _ in self._stamps)

    def reload_from_pem(self) -> None:
        """Load the certificate; without one everything stays as it was.

        Raises:
            TlsConfigError: it cannot be used; everything stays as it was.
        """
        self._stamp = file_stamp(self.acme.certificate)
        self._stamps = self._roots()
        if self._stamp is None:
            return
        auth = None if self._auth is None else self._auth.again()
        context = _loaded(self.acme.certificate)
        prepare(context, self._alpn, auth)
        self._context, self._auth = context, auth


def _loaded(path: Path) -> ssl.SSLContext:
    """Return a new context with the key and the chain in a file.

    Raises:
        TlsConfigError: it cannot be used.
    """
    context = new_context()
    try:
        load_pem_bytes(context, path.read_bytes(), f"'{path}'")
    except OSError as error:
        msg = f"failed to open '{path}': {error.strerror}"
        raise TlsConfigError(msg) from error
    return context
