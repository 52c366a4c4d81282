"""What a TLS listener is configured with: certificates, and which of them answers.

``TlsCert`` says where certificates come from; ``TlsSettings`` is a ``TlsCert`` made
ready for one listener: it is asked for an ``ssl.SSLContext`` at every handshake, and
afterwards which authorities may be asked for on that connection.
"""

import os
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, Union

from tako.errors import TlsConfigError
from tako.http.conn_info import TlsInfo
from tako.tls.acme import Acme, AcmeCertificate, AcmeFiles
from tako.tls.context import (
    CertAuthority,
    ClientAuth,
    LeafCert,
    ReloadableResolver,
    check_server_context,
)
from tako.tls.files import (
    HINT,
    FilePath,
    Password,
    expiry_of,
    load_certs,
    load_key,
    make_keylog,
)
from tako.tls.sources import (
    Answer,
    Choice,
    DerBytes,
    NameMap,
    OwnContext,
    PemBytes,
    PemFiles,
    Reloadable,
    Resolver,
    Source,
)


__all__ = [
    "ClientAuth",
    "ReloadableResolver",
    "TlsCert",
    "TlsLike",
    "TlsSettings",
    "as_cert",
    "build_ssl_context",
    "default_cert",
    "load_certs",
    "load_key",
]

TlsLike: TypeAlias = Union[
    "TlsCert", Acme, ssl.SSLContext, LeafCert, tuple[FilePath, FilePath]
]
"""What is taken for certificates: a ``TlsCert``, an ``Acme``, an ``ssl.SSLContext`` of
your own, a ``trustme.LeafCert``, or the paths of a PEM chain and its key."""

Selector: TypeAlias = Callable[[str | None], TlsLike | None]
"""Returns the certificate for a server name (``None``: there was none), or refuses."""


class TlsCert:
    """Where the certificates of a listener come from. Immutable; made by class methods.

    Files are read when a listener is made, which raises ``TlsConfigError`` if they
    cannot be used, and again when they change; then files that cannot be used are
    logged, and handshakes go on with what there was.

    Each class method takes ``client_auth``: whether clients have to show a certificate.
    Certificates below ``sni`` that have a ``ClientAuth`` of their own keep it.

    Two are equal if they read the same files or bytes with the same ``client_auth``:
    they are one certificate, and its names share connections.
    """

    __slots__ = ("__weakref__", "_client_auth", "_source")

    def __init__(self, source: Source, client_auth: ClientAuth | None = None) -> None:
        """Not for applications: use one of the class methods."""
        self._source = source
        self._client_auth = client_auth

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TlsCert):
            return NotImplemented
        mine, theirs = self._client_auth, other._client_auth
        return self._source == other._source and mine == theirs

    def __hash__(self) -> int:
        return hash((self._source, self._client_auth))

    @classmethod
    def pem_paths(
        cls,
        cert: FilePath,
        key: FilePath,
        *,
        password: Password | None = None,
        client_auth: ClientAuth | None = None,
    ) -> "TlsCert":
        """Use PEM files: a chain, leaf first, and its key (PKCS#8, PKCS#1, SEC1).

        Args:
            cert: the path of the chain.
            key: the path of the key.
            password: opens a key that is encrypted.
            client_auth: whether clients have to show a certificate.

        Raises:
            TlsConfigError: ``cert`` or ``key`` is not a path.
        """
        for path in (cert, key):
            if not isinstance(path, (str, os.PathLike)):
                msg = (
                    f"pem_paths takes the paths of two files, not {type(path).__name__}"
                )
                raise TlsConfigError(msg)
        files = PemFiles(os.fspath(cert), os.fspath(key), password)
        return TlsCert(files, client_auth)

    @classmethod
    def der(
        cls,
        certs: Sequence[bytes],
        key: bytes,
        *,
        client_auth: ClientAuth | None = None,
    ) -> "TlsCert":
        """Use a chain of DER certificates, leaf first, and the leaf's key.

        Args:
            certs: the chain, each certificate in DER.
            key: the key in DER, not encrypted.
            client_auth: whether clients have to show a certificate.
        """
        return TlsCert(DerBytes(tuple(certs), key), client_auth)

    @classmethod
    def leaf(
        cls, leaf: LeafCert, *, client_auth: ClientAuth | None = None
    ) -> "TlsCert":
        """Use what ``trustme.CA().issue_cert(...)`` returns, or an object like it."""
        pem = leaf.private_key_and_cert_chain_pem.bytes()
        return TlsCert(PemBytes(pem), client_auth)

    @classmethod
    def context(
        cls, context: ssl.SSLContext, *, client_auth: ClientAuth | None = None
    ) -> "TlsCert":
        """Use a context of your own.

        tako sets its ALPN list, raises its minimum version to TLS 1.2, forbids
        renegotiation and compression, and drops the suites that HTTP/2 prohibits.

        Raises:
            TlsConfigError: the context is not for servers, or has an ``sni_callback``.
        """
        check_server_context(context)
        return TlsCert(OwnContext(context), client_auth)

    @classmethod
    def resolver(
        cls, resolve: Selector, *, client_auth: ClientAuth | None = None
    ) -> "TlsCert":
        """Ask ``resolve`` at every handshake, with the server name in lower case.

        The name is ``None`` if the client sent none, or an IP address. ``resolve``
        should be quick: it runs on the event loop. It returns whatever ``tls=`` takes;
        an object that it returned before is not loaded again unless its files change.
        ``None`` refuses the handshake, and so does an exception, which is logged.

        ``resolve`` is asked again when a request is for another name than the
        handshake. If the answer is another one, the request gets 421 (RFC 9110
        §15.5.20).

        Raises:
            TlsConfigError: ``resolve`` cannot be called.
        """
        if not callable(resolve):
            msg = f"resolver takes a callable, not {type(resolve).__name__}"
            raise TlsConfigError(msg)
        return TlsCert(Resolver(resolve, _resolved), client_auth)

    @classmethod
    def sni(
        cls,
        certs: "Mapping[str, TlsLike]",
        default: "TlsLike | None" = None,
        *,
        client_auth: ClientAuth | None = None,
    ) -> "TlsCert":
        """Choose by server name; ``"*.a.test"`` stands for one label in front of it.

        Args:
            certs: certificates by name, each of them whatever ``tls=`` takes.
            default: for clients that send another name or none; without it they are
                refused.
            client_auth: for the certificates that have none of their own.

        Raises:
            TlsConfigError: there are no names, one that cannot be a host name, or one
                that has no certificate.
        """
        made = {
            name: as_cert(cert, f"{name!r} in TlsCert.sni")
            for name, cert in certs.items()
        }
        other = None if default is None else as_cert(default, "default of TlsCert.sni")
        return TlsCert(NameMap(made, other), client_auth)

    @property
    def single(self) -> bool:
        """Whether one context answers every handshake, for any server name."""
        return self._source.single

    @property
    def ordered(self) -> bool:
        """Whether an ``Acme`` is part of it."""
        source = self._source
        if isinstance(source, NameMap):
            return any(isinstance(it, TlsCert) and it.ordered for it in source.sources)
        return isinstance(source, AcmeFiles)

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None = None) -> Choice:
        """Load everything; for ``TlsSettings``.

        Args:
            alpn: the protocols of the listener.
            auth: for certificates that have none of their own.

        Raises:
            TlsConfigError: something cannot be used.
        """
        return self._source.ready(alpn, self._client_auth or auth)


def as_cert(value: Any, name: str = "tls") -> TlsCert:
    """Return what a ``tls`` argument stands for.

    Args:
        value: see ``TlsLike``.
        name: what it was given as, for the error.

    Raises:
        TlsConfigError: ``value`` is none of these.
    """
    if isinstance(value, TlsCert):
        return value
    if isinstance(value, Acme):
        return TlsCert(AcmeFiles(value), value.client_auth)
    if isinstance(value, ssl.SSLContext):
        return TlsCert.context(value)
    if isinstance(value, LeafCert):
        return TlsCert.leaf(value)
    match value:
        case (cert, key) if isinstance(value, tuple):
            return TlsCert.pem_paths(cert, key)
        case _:
            pass
    msg = (
        f"{name} takes a TlsCert, an Acme, an ssl.SSLContext, a trustme.LeafCert or "
        f"the paths (cert, key), not {type(value).__name__}{_advice(value)}"
    )
    raise TlsConfigError(msg)


def _resolved(found: Any) -> TlsCert:
    """Return what a resolver has chosen.

    Raises:
        TlsConfigError: it is none of ``TlsLike``, or would have to be ordered first.
    """
    cert = as_cert(found, "the return value of a resolver")
    if cert.ordered:
        msg = "a resolver cannot return an Acme: give it as tls= or to TlsCert.sni"
        raise TlsConfigError(msg)
    return cert


def _advice(given: Any) -> str:
    """Return how to write what was probably meant."""
    if isinstance(given, (str, os.PathLike)):
        return "; the key is missing: write (cert, key)"
    if isinstance(given, Mapping):
        return "; for certificates by name write TlsCert.sni(...)"
    if isinstance(given, CertAuthority):
        return "; an authority only signs: give what its issue_cert(...) returns"
    if given is TlsCert:
        return "; call one of its class methods, such as TlsCert.pem_paths(cert, key)"
    if callable(given):
        return "; to choose at the handshake write TlsCert.resolver(...)"
    return ""


class TlsSettings:
    """A ``TlsCert`` made ready for one listener.

    Attributes:
        alpn: the protocols to offer, in order of preference.
        ordered: the certificates among them that an authority issues to us.
    """

    __slots__ = ("_choice", "_keylog", "_offers", "alpn", "ordered")

    def __init__(
        self,
        cert: TlsLike,
        alpn: Sequence[str] = ("h2", "http/1.1"),
        keylog: str | None = None,
    ) -> None:
        """Load the certificates.

        Args:
            cert: where they come from.
            alpn: the protocols to offer, in order of preference.
            keylog: a file to which the secrets of connections are appended.

        Raises:
            TlsConfigError: something cannot be used.
        """
        self.alpn: tuple[str, ...] = tuple(alpn)
        if not self.alpn or not set(self.alpn) <= {"h2", "http/1.1"}:
            msg = f'alpn takes "h2" and "http/1.1", not {alpn!r}'
            raise TlsConfigError(msg)
        self._offers = frozenset(name.encode() for name in self.alpn)
        self._choice = as_cert(cert).ready(self.alpn)
        self.ordered: tuple[AcmeCertificate, ...] = tuple(
            each
            for each in self._choice.reloadables()
            if isinstance(each, AcmeCertificate)
        )
        self._keylog = keylog
        if keylog is not None:
            make_keylog(keylog)

    def answer(self, sni: str | None) -> Answer | None:
        """Return what a handshake is answered with, ``None`` to refuse it.

        Raises:
            Exception: whatever the application's resolver raises.
        """
        answer = self._choice.answer(sni)
        if self._keylog is not None and answer is not None:
            context = answer.context  # a new one after a reload
            if context.keylog_filename != self._keylog:
                context.keylog_filename = self._keylog
        return answer

    def challenge(self, sni: str | None) -> ssl.SSLContext | None:
        """Return what answers an authority that looks at a name; ``None``: it may not.

        Raises:
            TlsConfigError: the file of the challenge cannot be used.
        """
        for each in self.ordered:
            if sni is not None and (context := each.challenge(sni)) is not None:
                return context
        return None

    def reloadables(self) -> Iterable[Reloadable]:
        """Return what to load again when its files change."""
        return self._choice.reloadables()

    def expiry(self) -> float | None:
        """Return when the first of the certificates expires, in seconds since 1970.

        ``None``: tako has loaded none of them itself.
        """
        found = (expiry_of(context) for context in self._choice.contexts())
        return min((it for it in found if it is not None), default=None)

    def shares_protocol(self, offered: Sequence[bytes]) -> bool:
        """Tell whether a client's ALPN list has a protocol of ours."""
        return not self._offers.isdisjoint(offered)

    @property
    def several(self) -> bool:
        """Whether names may have different certificates: authorities are checked."""
        return self._choice.several

    def authority_allowed(self, info: TlsInfo | None, authority: str | None) -> bool:
        """Tell whether a request for ``authority`` may come over a connection.

        It may not if that host has another certificate than the one that answered the
        handshake: the request gets 421 (RFC 9110 §15.5.20), and the client opens
        another connection. So no client reaches a host past the client authentication
        of its certificate.

        Args:
            info: what the handshake negotiated. A connection without TLS (``None``)
                counts as one whose handshake had no server name.
            authority: from ``:authority``, the request target or ``Host``; a port is
                ignored. ``None`` asks for no other host.
        """
        if not self._choice.several or authority is None:
            return True
        sni = None if info is None else info.sni
        if sni == authority:
            return True
        host = _bare_host(authority)
        if sni is not None and sni.rstrip(".") == host:
            return True
        try:
            answer = self._choice.answer(host)
            if info is not None:
                return answer is not None and answer.by == info.answered_by
            clear = self._choice.answer(None)
        except Exception:  # a handshake for this host fails too, and is logged
            return False
        return answer is not None and clear is not None and answer.by == clear.by


def build_ssl_context(
    cert: TlsLike, alpn: Sequence[str] = ("h2", "http/1.1")
) -> ssl.SSLContext:
    """Return the server context that tako would use, for use with another server.

    Args:
        cert: whatever ``tls=`` takes.
        alpn: the protocols to offer, in order of preference.

    Raises:
        TlsConfigError: something cannot be used, or ``cert`` chooses at the handshake,
            which one context cannot express.
    """
    cert = as_cert(cert)
    answer = TlsSettings(cert, alpn).answer(None) if cert.single else None
    if answer is None:
        msg = "build_ssl_context needs a TlsCert that stands for one certificate"
        raise TlsConfigError(msg)
    return answer.context


def default_cert() -> TlsCert:
    """Return the certificate that ``certs/generate.py`` made, or that of the directory.

    ``certs/cert.pem`` with ``certs/key.pem`` if they exist, else ``cert.pem`` with
    ``key.pem`` in the working directory.

    Raises:
        TlsConfigError: there is neither.
    """
    for directory in (Path("certs"), Path()):
        cert, key = directory / "cert.pem", directory / "key.pem"
        if cert.exists() and key.exists():
            return TlsCert.pem_paths(cert, key)
    msg = (
        "no certificate: neither certs/cert.pem with certs/key.pem nor cert.pem with "
        f"key.pem exists in {Path.cwd()}; {HINT}"
    )
    raise TlsConfigError(msg)


def _bare_host(authority: str) -> str:
    """Return the host of an authority, in lower case, without port and final dot."""
    host = authority.lower()
    if host.startswith("["):  # RFC 3986 §3.2.2: an IPv6 address in brackets
        return host[1:].partition("]")[0]
    return host.partition(":")[0].rstrip(".")
