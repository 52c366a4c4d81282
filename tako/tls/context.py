"""``ssl.SSLContext``s for servers: made, checked, and brought to tako's rules.

The rules (``prepare``) hold for every context, also an application's: the protocols of
the listener, TLS 1.2 at least, no renegotiation, no compression, and no suite that
HTTP/2 prohibits. ``ClientAuth`` adds client certificates; ``ReloadableResolver`` swaps
contexts.
"""

import os
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self, TypeAlias, runtime_checkable
from weakref import WeakKeyDictionary

from tako.errors import TlsConfigError
from tako.tls.files import (
    FilePath,
    Password,
    Stamp,
    file_stamp,
    load_pem_chain,
    parse_roots,
)


@runtime_checkable
class PemBlob(Protocol):
    """What ``trustme.Blob`` looks like."""

    def bytes(self) -> bytes:
        """Return the PEM text."""
        ...


@runtime_checkable
class CertAuthority(Protocol):
    """What ``trustme.CA`` looks like."""

    @property
    def cert_pem(self) -> PemBlob:
        """The authority's certificate."""
        ...


@runtime_checkable
class LeafCert(Protocol):
    """What ``trustme.LeafCert`` looks like."""

    @property
    def private_key_and_cert_chain_pem(self) -> PemBlob:
        """The key, and behind it the chain."""
        ...


Root: TypeAlias = bytes | FilePath | CertAuthority
Roots: TypeAlias = Root | Sequence[Root]


@dataclass(frozen=True, slots=True)
class ClientAuth:
    """Whether clients have to show a certificate, and which authorities may sign it.

    Made by ``optional`` and ``required``. ``roots`` are the trusted authorities: PEM or
    DER bytes, the path of a file, an object like ``trustme.CA``, or a sequence of
    these. Files are read again when they change, and so is the certificate then; but
    an ``SSLContext`` of your own keeps the authorities that it has.
    """

    mode: ssl.VerifyMode
    roots: bytes
    source: Roots = field(default=b"", repr=False, compare=False)
    stamps: tuple[tuple[FilePath, Stamp], ...] = field(
        default=(), repr=False, compare=False
    )

    @classmethod
    def optional(cls, roots: Roots) -> Self:
        """Accept clients without a certificate; one that is shown must be trusted.

        Raises:
            TlsConfigError: there is no usable certificate in ``roots``.
        """
        return cls._read(ssl.CERT_OPTIONAL, roots)

    @classmethod
    def required(cls, roots: Roots) -> Self:
        """Refuse clients that do not show a trusted certificate.

        Raises:
            TlsConfigError: there is no usable certificate in ``roots``.
        """
        return cls._read(ssl.CERT_REQUIRED, roots)

    def again(self) -> "ClientAuth":
        """Return the same with the files read again; for listeners.

        Raises:
            TlsConfigError: one of them cannot be used.
        """
        return self._read(self.mode, self.source) if self.stamps else self

    @classmethod
    def _read(cls, mode: ssl.VerifyMode, roots: Roots) -> Self:
        # looked at before reading, so that what changes meanwhile is seen
        stamps = tuple((path, file_stamp(path)) for path in _paths(roots))
        return cls(mode, _roots(roots), roots, stamps)


def _paths(roots: Roots) -> list[FilePath]:
    if isinstance(roots, (str, os.PathLike)):
        return [roots]
    if isinstance(roots, (bytes, CertAuthority)):
        return []
    return [path for root in roots for path in _paths(root)]


def _roots(roots: Roots) -> bytes:
    if isinstance(roots, CertAuthority):
        return parse_roots(roots.cert_pem.bytes())
    if isinstance(roots, Sequence) and not isinstance(roots, (str, bytes)):
        if not roots:
            msg = "client authentication takes at least one trusted authority"
            raise TlsConfigError(msg)
        return b"".join(map(_roots, roots))
    return parse_roots(roots)


class ReloadableResolver:
    """A certificate that can be replaced while the server runs.

    Give it to ``TlsCert.resolver``. A replacement is used by handshakes that begin
    later; open connections keep what they have.
    """

    __slots__ = ("_cert", "_context", "_key", "_password", "_stamps")

    def __init__(
        self, cert: FilePath, key: FilePath, *, password: Password | None = None
    ) -> None:
        """Load a PEM certificate chain and its key.

        Args:
            cert: the path of the chain, leaf first.
            key: the path of the key.
            password: opens a key that is encrypted.

        Raises:
            TlsConfigError: they cannot be used.
        """
        self._cert: FilePath = cert
        self._key: FilePath = key
        self._password = password
        self._stamps = (file_stamp(cert), file_stamp(key))
        self._context = pem_context(cert, key, password)

    @classmethod
    def from_pem(
        cls, cert: FilePath, key: FilePath, *, password: Password | None = None
    ) -> Self:
        """Load a PEM certificate chain and its key; the same as the constructor."""
        return cls(cert, key, password=password)

    def __call__(self, sni: str | None) -> ssl.SSLContext:
        """Return the context for a handshake, whatever name is asked for."""
        return self._context

    def reload_from_pem(
        self, cert: FilePath | None = None, key: FilePath | None = None
    ) -> None:
        """Load the files again, or others instead of them from now on.

        Args:
            cert: the path of another chain; ``None``: the same as before.
            key: the path of another key; ``None``: the same as before.

        Raises:
            TlsConfigError: they cannot be used; everything stays as it was.
        """
        cert = self._cert if cert is None else cert
        key = self._key if key is None else key
        # Looked at before reading, so that ``changed`` sees what changes meanwhile.
        stamps = (file_stamp(cert), file_stamp(key))
        if (cert, key) == (self._cert, self._key):
            self._stamps = stamps  # broken files are tried again once they change
        self._context = pem_context(cert, key, self._password)
        self._cert, self._key, self._stamps = cert, key, stamps

    def reload(self, context: ssl.SSLContext) -> None:
        """Use a context of your own from now on.

        Raises:
            TlsConfigError: it is not for servers; everything stays as it was.
        """
        check_server_context(context)
        harden(context)
        self._context = context

    def changed(self) -> bool:
        """Tell whether a file differs from what the last attempt to load it found.

        Compares modification time, size and inode. Poll it and call
        ``reload_from_pem``.
        """
        return self._stamps != (file_stamp(self._cert), file_stamp(self._key))


_prepared: WeakKeyDictionary[
    ssl.SSLContext, tuple[tuple[str, ...], ClientAuth | None]
] = WeakKeyDictionary()


def prepare(
    context: ssl.SSLContext, alpn: tuple[str, ...], auth: ClientAuth | None
) -> None:
    """Make ``context`` fit for the handshake that is about to begin.

    A context may serve several listeners in turn, so what was done last is compared.

    Raises:
        TlsConfigError: the context cannot be used, or not with this ``auth``.
    """
    known = _prepared.get(context)
    if known == (alpn, auth):
        return
    if known is None:
        check_server_context(context)
        harden(context)
        if auth is not None:
            context.load_verify_locations(cadata=auth.roots)
            context.verify_mode = auth.mode
    elif known[1] != auth:
        # trusted roots cannot be taken out of a context again
        msg = "one SSLContext cannot serve with different client authentication"
        raise TlsConfigError(msg)
    context.set_alpn_protocols(list(alpn))
    _prepared[context] = (alpn, auth)


def harden(context: ssl.SSLContext) -> None:
    """Apply the rules of RFC 9113 §9.2 to ``context``.

    Raises:
        TlsConfigError: it has no cipher suite that HTTP/2 permits.
    """
    # RFC 9113 §9.2: MUST use TLS 1.2 or higher
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    # RFC 9113 §9.2.1: MUST disable compression and renegotiation
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # RFC 9113 §9.2.3: a client MUST NOT be asked for a certificate later on
    context.post_handshake_auth = False
    # RFC 9113 §9.2.2, Appendix A: only ephemeral key exchange with AEAD
    suites = [it for it in context.get_ciphers() if it["protocol"] != "TLSv1.3"]
    good = [suite["name"] for suite in suites if _permitted(suite)]
    if len(good) == len(suites):
        return
    if not good:
        msg = "the SSLContext has no cipher suite that HTTP/2 permits (RFC 9113 §9.2.2)"
        raise TlsConfigError(msg)
    context.set_ciphers(":".join(good))


def _permitted(suite: Mapping[str, object]) -> bool:
    ephemeral = suite["kea"] in {"kx-ecdhe", "kx-dhe"}
    return ephemeral and bool(suite["aead"])


def check_server_context(context: ssl.SSLContext) -> None:
    """Raise ``TlsConfigError`` unless ``context`` is one for servers."""
    if not isinstance(context, ssl.SSLContext):
        msg = f"an ssl.SSLContext is needed, not {type(context).__name__}"
        raise TlsConfigError(msg)
    if context.protocol not in {ssl.PROTOCOL_TLS_SERVER, ssl.PROTOCOL_TLS}:
        msg = "the SSLContext is not one for servers: use ssl.PROTOCOL_TLS_SERVER"
        raise TlsConfigError(msg)
    if context.sni_callback is not None:
        # the context that it switches to has neither our rules nor our ALPN list, and
        # tako cannot know which authorities belong to it
        msg = (
            "the SSLContext chooses certificates itself by its sni_callback: write "
            "TlsCert.sni(...) or TlsCert.resolver(...) instead"
        )
        raise TlsConfigError(msg)


def new_context() -> ssl.SSLContext:
    """Return a context with tako's choice of suites and no certificate yet."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # RFC 9113 §9.2.2: among them the mandatory ECDHE-RSA-AES128-GCM-SHA256
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")
    # All of them are secure, and the client knows which is fast: one without AES in its
    # hardware lists ChaCha20 first, a browser AES-128 before AES-256 (RFC 8446 §4.1.2).
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    # A ticket is for one connection (RFC 8446 §C.4), which brings the next one. OpenSSL
    # sends two: each costs it a twentieth of the whole handshake.
    context.num_tickets = 1
    return context


def pem_context(
    cert: FilePath, key: FilePath, password: Password | None
) -> ssl.SSLContext:
    """Return a context with the certificate of two PEM files.

    Raises:
        TlsConfigError: they cannot be used.
    """
    context = new_context()
    load_pem_chain(context, cert, key, password)
    return context
