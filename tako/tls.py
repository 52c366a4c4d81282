"""What a TLS listener is configured with: certificates, and which of them answers.

``TlsCert`` says where certificates come from; ``TlsSettings`` is a ``TlsCert`` made
ready for one listener and asked for an ``ssl.SSLContext`` at every handshake.
"""

import ssl
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from tako.errors import TlsConfigError
from tako.tls_context import (
    ClientAuth,
    ReloadableResolver,
    Selector,
    check_server_context,
    new_context,
    pem_context,
    prepare,
)
from tako.tls_files import (
    HINT,
    FilePath,
    Password,
    load_certs,
    load_der_chain,
    load_key,
)


__all__ = [
    "ClientAuth",
    "ReloadableResolver",
    "TlsCert",
    "TlsSettings",
    "build_ssl_context",
    "default_cert",
    "load_certs",
    "load_key",
]


class TlsCert:
    """Where the certificates of a listener come from. Immutable; made by class methods.

    Files are read when a listener is made, which raises ``TlsConfigError`` if they
    cannot be used.
    """

    __slots__ = ("_client_auth", "_source")

    def __init__(self, source: "Source", client_auth: ClientAuth | None = None) -> None:
        """Not for applications: use one of the class methods."""
        self._source = source
        self._client_auth = client_auth

    @classmethod
    def pem_paths(
        cls, cert: FilePath, key: FilePath, *, password: Password | None = None
    ) -> "TlsCert":
        """Use PEM files: a chain, leaf first, and its key (PKCS#8, PKCS#1, SEC1)."""
        return TlsCert(_Single(lambda: pem_context(cert, key, password)))

    @classmethod
    def der(cls, certs: Sequence[bytes], key: bytes) -> "TlsCert":
        """Use a chain of DER certificates, leaf first, and the leaf's DER key."""
        chain = tuple(certs)

        def load() -> ssl.SSLContext:
            context = new_context()
            load_der_chain(context, chain, key)
            return context

        return TlsCert(_Single(load))

    @classmethod
    def context(cls, context: ssl.SSLContext) -> "TlsCert":
        """Use a context of your own.

        tako sets its ALPN list, raises its minimum version to TLS 1.2, forbids
        renegotiation and compression, and drops the suites that HTTP/2 prohibits.

        Raises:
            TlsConfigError: it is not one for servers.
        """
        check_server_context(context)
        return TlsCert(_Single(lambda: context))

    @classmethod
    def resolver(cls, resolve: Selector) -> "TlsCert":
        """Ask ``resolve`` at every handshake, with the server name in lower case.

        The name is ``None`` if the client sent none. ``resolve`` should be quick: it
        runs on the event loop. Returning ``None`` refuses the handshake, and so does
        raising, which is logged. Its contexts are treated as those of ``context`` are.

        Raises:
            TlsConfigError: ``resolve`` cannot be called.
        """
        if not callable(resolve):
            msg = f"resolver takes a callable, not {type(resolve).__name__}"
            raise TlsConfigError(msg)
        return TlsCert(_Resolver(resolve))

    @classmethod
    def sni(
        cls, certs: "Mapping[str, TlsCert]", default: "TlsCert | None" = None
    ) -> "TlsCert":
        """Choose by server name; ``"*.a.test"`` stands for one label in front of it.

        Args:
            certs: certificates by name.
            default: for clients that send another name or none; without it they are
                refused.

        Raises:
            TlsConfigError: there are no names, or one that cannot be a host name.
        """
        return TlsCert(_NameMap(certs, default))

    def with_client_auth(self, auth: ClientAuth) -> "TlsCert":
        """Return the same certificates, with clients asked for theirs.

        Certificates below ``sni`` that have a ``ClientAuth`` of their own keep it.
        """
        return TlsCert(self._source, auth)

    @property
    def source(self) -> "Source":
        """Where contexts come from; for this module."""
        return self._source

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None = None) -> Selector:
        """Load everything; for ``TlsSettings``.

        Args:
            alpn: the protocols of the listener.
            auth: applies where nothing else was said.

        Raises:
            TlsConfigError: something cannot be used.
        """
        return self._source.ready(alpn, self._client_auth or auth)


class Source(Protocol):
    """One way to come by contexts."""

    def reloadables(self) -> list[ReloadableResolver]:
        """Return what can be loaded again while the listener runs."""
        ...

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Selector:
        """Load what can be loaded early; return the choice that handshakes make."""
        ...


class _Single:
    """One context for all."""

    __slots__ = ("_load",)

    def __init__(self, load: Callable[[], ssl.SSLContext]) -> None:
        self._load = load

    def reloadables(self) -> list[ReloadableResolver]:
        return []

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Selector:
        context = self._load()
        selector = _Resolver(lambda _: context).ready(alpn, auth)
        selector(None)  # finds out now whether the context can be used
        return selector


class _Resolver:
    """Contexts that the application chooses."""

    __slots__ = ("_resolve",)

    def __init__(self, resolve: Selector) -> None:
        self._resolve = resolve

    def reloadables(self) -> list[ReloadableResolver]:
        resolve = self._resolve
        return [resolve] if isinstance(resolve, ReloadableResolver) else []

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Selector:
        def select(sni: str | None) -> ssl.SSLContext | None:
            context = self._resolve(sni)
            if context is not None:
                prepare(context, alpn, auth)
            return context

        return select


class _NameMap:
    """Certificates by server name."""

    __slots__ = ("_certs", "_default")

    def __init__(self, certs: Mapping[str, TlsCert], default: TlsCert | None) -> None:
        if not certs:
            msg = "TlsCert.sni takes at least one name"
            raise TlsConfigError(msg)
        self._certs = {_checked_name(name): cert for name, cert in certs.items()}
        self._default = default

    def owner(self, host: str | None) -> TlsCert | None:
        """Return who answers for ``host`` (lower case): own, wildcard, or default."""
        if host is None:
            return self._default
        host = host.rstrip(".")
        found = self._certs.get(host)
        if found is None:
            # RFC 6125 §6.4.3: a wildcard stands for the whole left-most label
            found = self._certs.get("*." + host.partition(".")[2])
        return self._default if found is None else found

    def reloadables(self) -> list[ReloadableResolver]:
        certs = self._all()
        return [each for cert in certs for each in cert.source.reloadables()]

    def _all(self) -> set[TlsCert]:
        return {*self._certs.values(), *filter(None, (self._default,))}

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Selector:
        """Load all certificates and return the choice among them."""
        certs = self._all()
        selectors = {cert: cert.ready(alpn, auth) for cert in certs}

        def select(sni: str | None) -> ssl.SSLContext | None:
            cert = self.owner(sni)
            return None if cert is None else selectors[cert](sni)

        return select


class TlsSettings:
    """A ``TlsCert`` made ready for one listener."""

    __slots__ = ("_names", "_offers", "_select", "alpn", "reloadables")

    def __init__(self, cert: TlsCert, alpn: Sequence[str] = ("h2", "http/1.1")) -> None:
        """Load the certificates.

        Args:
            cert: where they come from.
            alpn: the protocols to offer, in order of preference.

        Raises:
            TlsConfigError: something cannot be used.

        Attributes: reloadables: what to load again when its files change.
        """
        self.alpn: tuple[str, ...] = tuple(alpn)
        if not self.alpn or not set(self.alpn) <= {"h2", "http/1.1"}:
            msg = f'alpn takes "h2" and "http/1.1", not {alpn!r}'
            raise TlsConfigError(msg)
        self._offers = frozenset(name.encode() for name in self.alpn)
        names = cert.source
        self._names = names if isinstance(names, _NameMap) else None
        self.reloadables: list[ReloadableResolver] = names.reloadables()
        self._select = cert.ready(self.alpn)

    def context_for(self, sni: str | None) -> ssl.SSLContext | None:
        """Return the context for a handshake, ``None`` to refuse it.

        Raises:
            Exception: whatever the application's resolver raises.
        """
        return self._select(sni)

    def shares_protocol(self, offered: Sequence[bytes]) -> bool:
        """Tell whether a client's ALPN list has a protocol of ours."""
        return not self._offers.isdisjoint(offered)

    @property
    def several(self) -> bool:
        """Different names have different certificates: authorities need a look."""
        return self._names is not None

    def authority_allowed(self, sni: str | None, authority_host: str) -> bool:
        """Tell whether a request for ``authority_host`` may come over this connection.

        It may not if another certificate answers for that host than for ``sni``: then
        the answer is 421 (RFC 9110 §15.5.20), and the client makes a connection of its
        own. So no host is reached past its certificate's client authentication.

        Args:
            sni: the name that the handshake asked for.
            authority_host: from ``:authority`` or ``Host``; a port is ignored.
        """
        if self._names is None or sni == authority_host:
            return True
        host = _bare_host(authority_host)
        return self._names.owner(host) is self._names.owner(sni)


def build_ssl_context(
    cert: TlsCert, alpn: Sequence[str] = ("h2", "http/1.1")
) -> ssl.SSLContext:
    """Return the server context that tako would use, for use elsewhere.

    Raises:
        TlsConfigError: something cannot be used, or ``cert`` chooses at the handshake,
            which one context cannot express.
    """
    single = isinstance(cert.source, _Single)
    context = TlsSettings(cert, alpn).context_for(None) if single else None
    if context is None:
        msg = "build_ssl_context needs a TlsCert that stands for one certificate"
        raise TlsConfigError(msg)
    return context


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
            return TlsCert.resolver(ReloadableResolver.from_pem(cert, key))
    msg = (
        "no certificate: neither certs/cert.pem with certs/key.pem nor cert.pem with "
        f"key.pem exists in {Path.cwd()}; {HINT}"
    )
    raise TlsConfigError(msg)


def _checked_name(name: str) -> str:
    """Return a name in the form that it is looked up by."""
    host = name.lower().rstrip(".")
    plain = host.removeprefix("*.")
    if not plain or not plain.isascii() or not set(plain).isdisjoint("* :/"):
        msg = f"{name!r} cannot be a server name (write IDNs as xn--…)"
        raise TlsConfigError(msg)
    return host


def _bare_host(authority: str) -> str:
    """Return the host of an authority, in lower case, without port and final dot."""
    host = authority.lower()
    if host.startswith("["):  # RFC 3986 §3.2.2: an IPv6 address in brackets
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
