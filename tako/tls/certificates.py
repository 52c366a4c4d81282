"""What a TLS listener is configured with: certificates, and which of them answers.

``TlsCert`` says where certificates come from; ``TlsSettings`` is a ``TlsCert`` made
ready for one listener. It is asked for an ``ssl.SSLContext`` at every handshake, and
afterwards which authorities may be asked for on that connection.
"""

import os
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, Union
from weakref import WeakKeyDictionary

from tako.errors import TlsConfigError
from tako.http.conn_info import TlsInfo
from tako.tls.context import (
    CertAuthority,
    ClientAuth,
    LeafCert,
    ReloadableResolver,
    check_server_context,
    new_context,
    pem_context,
    prepare,
)
from tako.tls.files import (
    HINT,
    FilePath,
    Password,
    Stamp,
    file_stamp,
    load_certs,
    load_der_chain,
    load_key,
    load_pem_bytes,
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
    "TlsCert", ssl.SSLContext, LeafCert, tuple[FilePath, FilePath]
]
"""What is taken for certificates: a ``TlsCert``, an ``ssl.SSLContext`` of your own, a
``trustme.LeafCert``, or the paths of a PEM chain and its key."""

Selector: TypeAlias = Callable[[str | None], TlsLike | None]
"""Returns the certificate for a server name (``None``: there was none), or refuses."""


class TlsCert:
    """Where the certificates of a listener come from. Immutable; made by class methods.

    Files are read when a listener is made, which raises ``TlsConfigError`` if they
    cannot be used, and again when they change; then files that cannot be used are
    logged, and handshakes go on with what there was.
    """

    __slots__ = ("__weakref__", "_client_auth", "_source")

    def __init__(self, source: "Source", client_auth: ClientAuth | None = None) -> None:
        """Not for applications: use one of the class methods."""
        self._source = source
        self._client_auth = client_auth

    @classmethod
    def pem_paths(
        cls, cert: FilePath, key: FilePath, *, password: Password | None = None
    ) -> "TlsCert":
        """Use PEM files: a chain, leaf first, and its key (PKCS#8, PKCS#1, SEC1).

        Raises:
            TlsConfigError: what is given are no paths.
        """
        for path in (cert, key):
            if not isinstance(path, (str, os.PathLike)):
                msg = (
                    f"pem_paths takes the paths of two files, not {type(path).__name__}"
                )
                raise TlsConfigError(msg)
        return TlsCert(_Loaded(lambda: pem_context(cert, key, password), (cert, key)))

    @classmethod
    def der(cls, certs: Sequence[bytes], key: bytes) -> "TlsCert":
        """Use a chain of DER certificates, leaf first, and the leaf's DER key."""
        chain = tuple(certs)

        def load() -> ssl.SSLContext:
            context = new_context()
            load_der_chain(context, chain, key)
            return context

        return TlsCert(_Loaded(load))

    @classmethod
    def leaf(cls, leaf: LeafCert) -> "TlsCert":
        """Use what ``trustme.CA().issue_cert(...)`` returns, or an object like it."""
        pem = leaf.private_key_and_cert_chain_pem.bytes()

        def load() -> ssl.SSLContext:
            context = new_context()
            load_pem_bytes(context, pem)
            return context

        return TlsCert(_Loaded(load))

    @classmethod
    def context(cls, context: ssl.SSLContext) -> "TlsCert":
        """Use a context of your own.

        tako sets its ALPN list, raises its minimum version to TLS 1.2, forbids
        renegotiation and compression, and drops the suites that HTTP/2 prohibits.

        Raises:
            TlsConfigError: it is not one for servers, or has an ``sni_callback``.
        """
        check_server_context(context)
        return TlsCert(_Context(context))

    @classmethod
    def resolver(cls, resolve: Selector) -> "TlsCert":
        """Ask ``resolve`` at every handshake, with the server name in lower case.

        The name is ``None`` if the client sent none, or an IP address. ``resolve``
        should be quick: it runs on the event loop. It returns whatever ``tls=`` takes;
        an object that it returned before is not loaded again unless its files change.
        ``None`` refuses the handshake, and so does raising, which is logged.

        It is asked once more when a request is for another name than the handshake. If
        the answer is another one, the request gets 421 (RFC 9110 §15.5.20).

        Raises:
            TlsConfigError: ``resolve`` cannot be called.
        """
        if not callable(resolve):
            msg = f"resolver takes a callable, not {type(resolve).__name__}"
            raise TlsConfigError(msg)
        return TlsCert(_Resolver(resolve))

    @classmethod
    def sni(
        cls, certs: "Mapping[str, TlsLike]", default: "TlsLike | None" = None
    ) -> "TlsCert":
        """Choose by server name; ``"*.a.test"`` stands for one label in front of it.

        Args:
            certs: certificates by name, each of them whatever ``tls=`` takes.
            default: for clients that send another name or none; without it they are
                refused.

        Raises:
            TlsConfigError: there are no names, one that cannot be a host name, or one
                that has no certificate.
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

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None = None) -> "Choice":
        """Load everything; for ``TlsSettings``.

        Args:
            alpn: the protocols of the listener.
            auth: applies where nothing else was said.

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
        TlsConfigError: it is nothing of the kind.
    """
    if isinstance(value, TlsCert):
        return value
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
        f"{name} takes a TlsCert, an ssl.SSLContext, a trustme.LeafCert or the paths "
        f"(cert, key), not {type(value).__name__}{_advice(value)}"
    )
    raise TlsConfigError(msg)


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


class Answer(NamedTuple):
    """What a handshake is answered with.

    Attributes:
        context: the certificate, and whether clients have to show theirs.
        by: equal where one certificate, or one context, answers. Names with the same
            one share connections (RFC 9113 §9.1.1); others get 421.
    """

    context: ssl.SSLContext
    by: object


class Choice(Protocol):
    """Certificates of one listener, loaded."""

    several: bool
    """Different names may get different answers."""

    def answer(self, sni: str | None, /) -> Answer | None:
        """Return the answer to a handshake; ``None`` refuses it."""
        ...

    def reloadables(self) -> Iterable["Reloadable"]:
        """Return what can be loaded again while the listener runs."""
        ...


class Reloadable(Protocol):
    """Something that was loaded from files."""

    def changed(self) -> bool:
        """Tell whether a file differs from what the last attempt to load it found."""
        ...

    def reload_from_pem(self) -> None:
        """Load the files again.

        Raises:
            TlsConfigError: they cannot be used; everything stays as it was.
        """
        ...


class Source(Protocol):
    """One way to come by contexts."""

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Load what can be loaded early; return what answers handshakes."""
        ...


class _Loaded(NamedTuple):
    """One certificate, with a context of tako's own around it."""

    load: Callable[[], ssl.SSLContext]
    files: tuple[FilePath, ...] = ()

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        return _Leaf(self.load, self.files, alpn, auth)


class _Leaf:
    """A context that is made again when a file changes that went into it."""

    __slots__ = ("_alpn", "_auth", "_context", "_load", "_paths", "_stamps")

    several = False

    def __init__(
        self,
        load: Callable[[], ssl.SSLContext],
        files: tuple[FilePath, ...],
        alpn: tuple[str, ...],
        auth: ClientAuth | None,
    ) -> None:
        self._load = load
        self._alpn = alpn
        self._auth = auth
        # looked at before reading, so that what changes meanwhile is seen
        stamps = {path: file_stamp(path) for path in files}
        if auth is not None:
            stamps.update(auth.stamps)
        self._paths = tuple(stamps)
        self._stamps = tuple(stamps.values())
        self._context = self._made(auth)

    def _made(self, auth: ClientAuth | None) -> ssl.SSLContext:
        context = self._load()
        prepare(context, self._alpn, auth)
        return context

    def answer(self, _: str | None) -> Answer:
        return Answer(self._context, self)

    def reloadables(self) -> Iterable[Reloadable]:
        return (self,) if self._paths else ()

    def changed(self) -> bool:
        return self._stamps != tuple(map(file_stamp, self._paths))

    def reload_from_pem(self) -> None:
        # files that fail are no news until they change
        self._stamps = tuple(map(file_stamp, self._paths))
        auth = None if self._auth is None else self._auth.again()
        self._context = self._made(auth)
        self._auth = auth


class _Context:
    """A context that the application made; as source and as choice."""

    __slots__ = ("_context",)

    several = False

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        return _Prepared(self._context, alpn, auth)


class _Prepared:
    """A context of the application, ready for one listener."""

    __slots__ = ("_alpn", "_auth", "_context")

    several = False

    def __init__(
        self, context: ssl.SSLContext, alpn: tuple[str, ...], auth: ClientAuth | None
    ) -> None:
        self._context = context
        self._alpn = alpn
        self._auth = auth
        self.answer(None)  # finds out now whether the context can be used

    def answer(self, _: str | None) -> Answer:
        prepare(self._context, self._alpn, self._auth)
        return Answer(self._context, self._context)

    def reloadables(self) -> Iterable[Reloadable]:
        return ()


class _Resolver:
    """Certificates that the application chooses."""

    __slots__ = ("_resolve",)

    def __init__(self, resolve: Selector) -> None:
        self._resolve = resolve

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        resolve = self._resolve
        # one that is derived from it may choose by name
        if (
            isinstance(resolve, ReloadableResolver)
            and type(resolve) is ReloadableResolver
        ):
            return _Replaceable(resolve, alpn, auth)
        return _Asked(resolve, alpn, auth)


class _Replaceable:
    """A ``ReloadableResolver`` of the application, ready for one listener."""

    __slots__ = ("_alpn", "_auth", "_resolver", "_stamps")

    several = False

    def __init__(
        self,
        resolver: ReloadableResolver,
        alpn: tuple[str, ...],
        auth: ClientAuth | None,
    ) -> None:
        self._resolver = resolver
        self._alpn = alpn
        self._auth = auth
        self._stamps = () if auth is None else auth.stamps
        self.answer(None)  # finds out now whether the context can be used

    def answer(self, sni: str | None) -> Answer:
        context = self._resolver(sni)
        prepare(context, self._alpn, self._auth)
        # with other client authentication it is another certificate
        return Answer(context, (self._resolver, self._auth))

    def reloadables(self) -> Iterable[Reloadable]:
        return (self,)

    def _roots(self) -> tuple[tuple[FilePath, Stamp], ...]:
        return tuple((path, file_stamp(path)) for path, _ in self._stamps)

    def changed(self) -> bool:
        return self._resolver.changed() or self._stamps != self._roots()

    def reload_from_pem(self) -> None:
        self._stamps = self._roots()
        auth = None if self._auth is None else self._auth.again()
        self._resolver.reload_from_pem()
        self._auth = auth


class _Asked:
    """A resolver of the application, and what it has returned so far."""

    __slots__ = ("_alpn", "_auth", "_objects", "_pairs", "_resolve")

    several = True

    def __init__(
        self, resolve: Selector, alpn: tuple[str, ...], auth: ClientAuth | None
    ) -> None:
        self._resolve = resolve
        self._alpn = alpn
        self._auth = auth
        self._objects: WeakKeyDictionary[Any, Choice] = WeakKeyDictionary()
        self._pairs: dict[tuple[FilePath, ...], Choice] = {}

    def answer(self, sni: str | None) -> Answer | None:
        # RFC 6066 §3: literal addresses are not permitted as names
        found = self._resolve(None if sni and _is_address(sni) else sni)
        if isinstance(found, ssl.SSLContext):
            prepare(found, self._alpn, self._auth)
            return Answer(found, found)
        return None if found is None else self._choice(found).answer(sni)

    def _choice(self, found: TlsLike) -> Choice:
        """Return what was loaded for ``found``, or load it now."""
        cert = as_cert(found, "the return value of a resolver")
        known: Any = self._pairs if isinstance(found, tuple) else self._objects
        choice: Choice | None = known.get(found)
        if choice is None:
            choice = known[found] = cert.ready(self._alpn, self._auth)
        return choice

    def reloadables(self) -> Iterable[Reloadable]:
        choices = [*self._objects.values(), *self._pairs.values()]
        found = [each for choice in choices for each in choice.reloadables()]
        if isinstance(self._resolve, ReloadableResolver):  # one that chooses by name
            found.append(self._resolve)
        return found


class _NameMap:
    """Certificates by server name."""

    __slots__ = ("_certs", "_default")

    def __init__(self, certs: Mapping[str, TlsLike], default: TlsLike | None) -> None:
        if not certs:
            msg = "TlsCert.sni takes at least one name"
            raise TlsConfigError(msg)
        made: dict[object, TlsCert] = {}

        def cert_for(name: str, value: TlsLike) -> TlsCert:
            # what is given for several names remains one certificate
            key = value if isinstance(value, tuple) else id(value)
            if key not in made:
                made[key] = as_cert(value, name)
            return made[key]

        self._certs = {
            _checked_name(name): cert_for(f"{name!r} in TlsCert.sni", value)
            for name, value in certs.items()
        }
        self._default = (
            None if default is None else cert_for("default of TlsCert.sni", default)
        )

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

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Load all certificates."""
        certs = {*self._certs.values(), *filter(None, (self._default,))}
        return _Names(self, {cert: cert.ready(alpn, auth) for cert in certs})


class _Names:
    """Certificates by server name, loaded."""

    __slots__ = ("_choices", "_names")

    several = True

    def __init__(self, names: _NameMap, choices: dict[TlsCert, Choice]) -> None:
        self._names = names
        self._choices = choices

    def answer(self, sni: str | None) -> Answer | None:
        cert = self._names.owner(sni)
        return None if cert is None else self._choices[cert].answer(sni)

    def reloadables(self) -> Iterable[Reloadable]:
        choices = self._choices.values()
        return [each for choice in choices for each in choice.reloadables()]


class TlsSettings:
    """A ``TlsCert`` made ready for one listener."""

    __slots__ = ("_choice", "_offers", "alpn")

    def __init__(self, cert: TlsLike, alpn: Sequence[str] = ("h2", "http/1.1")) -> None:
        """Load the certificates.

        Args:
            cert: where they come from.
            alpn: the protocols to offer, in order of preference.

        Raises:
            TlsConfigError: something cannot be used.
        """
        self.alpn: tuple[str, ...] = tuple(alpn)
        if not self.alpn or not set(self.alpn) <= {"h2", "http/1.1"}:
            msg = f'alpn takes "h2" and "http/1.1", not {alpn!r}'
            raise TlsConfigError(msg)
        self._offers = frozenset(name.encode() for name in self.alpn)
        self._choice = as_cert(cert).ready(self.alpn)

    def answer(self, sni: str | None) -> Answer | None:
        """Return what a handshake is answered with, ``None`` to refuse it.

        Raises:
            Exception: whatever the application's resolver raises.
        """
        return self._choice.answer(sni)

    def reloadables(self) -> Iterable[Reloadable]:
        """Return what to load again when its files change."""
        return self._choice.reloadables()

    def shares_protocol(self, offered: Sequence[bytes]) -> bool:
        """Tell whether a client's ALPN list has a protocol of ours."""
        return not self._offers.isdisjoint(offered)

    @property
    def several(self) -> bool:
        """Different names have different certificates: authorities need a look."""
        return self._choice.several

    def authority_allowed(self, info: TlsInfo | None, authority: str | None) -> bool:
        """Tell whether a request for ``authority`` may come over a connection.

        It may not if another certificate answers for that host than has answered the
        handshake: then the answer is 421 (RFC 9110 §15.5.20), and the client makes a
        connection of its own. So no host is reached past its certificate's client
        authentication.

        Args:
            info: what the handshake settled. A connection in the clear (``None``) may
                do what a handshake without a server name would let it.
            authority: from ``:authority``, the request target or ``Host``; a port is
                ignored. ``None`` names nobody else.
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
        except Exception:  # a handshake for it will fail alike, and tell the log
            return False
        return answer is not None and clear is not None and answer.by == clear.by


def build_ssl_context(
    cert: TlsLike, alpn: Sequence[str] = ("h2", "http/1.1")
) -> ssl.SSLContext:
    """Return the server context that tako would use, for use elsewhere.

    Raises:
        TlsConfigError: something cannot be used, or ``cert`` chooses at the handshake,
            which one context cannot express.
    """
    cert = as_cert(cert)
    single = isinstance(cert.source, (_Loaded, _Context))
    answer = TlsSettings(cert, alpn).answer(None) if single else None
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
    return host.partition(":")[0].rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
