"""Where contexts come from, and which of them answers a handshake.

Two halves. A *source* is what a ``TlsCert`` holds: files, bytes, a context, names, a
resolver; nothing is read yet. ``ready`` makes a *choice* of it for one listener:
everything is loaded, with the listener's protocols and its client authentication, and
``answer`` picks a context by server name. What came from files is a ``Reloadable``.

Sources of one certificate are equal if they read the same, and ``Answer.by`` is equal
where one of them answers with one client authentication.
"""

import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, NamedTuple, Protocol
from weakref import WeakKeyDictionary

from tako.errors import TlsConfigError
from tako.tls.context import (
    ClientAuth,
    ReloadableResolver,
    new_context,
    pem_context,
    prepare,
)
from tako.tls.files import (
    FilePath,
    Password,
    Stamp,
    file_stamp,
    load_der_chain,
    load_pem_bytes,
)


class Answer(NamedTuple):
    """What a handshake is answered with.

    Attributes:
        context: the certificate, and whether clients have to show theirs.
        by: equal where one certificate, or one context, answers. Names with an equal
            ``by`` share connections (RFC 9113 §9.1.1); others get 421.
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

    def contexts(self) -> Iterable[ssl.SSLContext]:
        """Return what answers handshakes now, as far as it is known."""
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
    """One place that contexts come from."""

    @property
    def single(self) -> bool:
        """Whether one context answers every handshake, for any server name."""
        ...

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Load what can be loaded early; return what answers handshakes."""
        ...


class _Certificate(ABC):
    """One certificate, with a context of tako's own around it."""

    __slots__ = ()

    single = True

    @property
    def files(self) -> tuple[FilePath, ...]:
        """What ``load`` reads."""
        return ()

    @abstractmethod
    def load(self) -> ssl.SSLContext:
        """Return a new context with the certificate.

        Raises:
            TlsConfigError: it cannot be used.
        """

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Load the certificate."""
        return _Loaded(self, alpn, auth)


@dataclass(frozen=True, slots=True, repr=False)
class PemFiles(_Certificate):
    """A chain and its key in two files."""

    cert: str
    key: str
    password: Password | None

    @property
    def files(self) -> tuple[FilePath, ...]:
        """What ``load`` reads."""
        return self.cert, self.key

    def load(self) -> ssl.SSLContext:
        """Return a new context with the certificate."""
        return pem_context(self.cert, self.key, self.password)


@dataclass(frozen=True, slots=True, repr=False)
class PemBytes(_Certificate):
    """A chain and its key in PEM, one behind the other."""

    pem: bytes

    def load(self) -> ssl.SSLContext:
        """Return a new context with the certificate."""
        context = new_context()
        load_pem_bytes(context, self.pem)
        return context


@dataclass(frozen=True, slots=True, repr=False)
class DerBytes(_Certificate):
    """A chain and its key in DER."""

    chain: tuple[bytes, ...]
    key: bytes

    def load(self) -> ssl.SSLContext:
        """Return a new context with the certificate."""
        context = new_context()
        load_der_chain(context, self.chain, self.key)
        return context


class _Loaded:
    """A context that is made again when a file changes that went into it."""

    __slots__ = ("_alpn", "_auth", "_by", "_cert", "_context", "_paths", "_stamps")

    several = False

    def __init__(
        self, cert: _Certificate, alpn: tuple[str, ...], auth: ClientAuth | None
    ) -> None:
        self._cert = cert
        self._alpn = alpn
        self._auth = auth
        self._by = cert, auth  # a reload changes neither
        # looked at before reading, so that what changes meanwhile is seen
        stamps = {path: file_stamp(path) for path in cert.files}
        if auth is not None:
            stamps.update(auth.stamps)
        self._paths = tuple(stamps)
        self._stamps = tuple(stamps.values())
        self._context = self._made(auth)

    def _made(self, auth: ClientAuth | None) -> ssl.SSLContext:
        context = self._cert.load()
        prepare(context, self._alpn, auth)
        return context

    def answer(self, _: str | None) -> Answer:
        return Answer(self._context, self._by)

    def reloadables(self) -> Iterable[Reloadable]:
        return (self,) if self._paths else ()

    def contexts(self) -> Iterable[ssl.SSLContext]:
        return (self._context,)

    def changed(self) -> bool:
        return self._stamps != tuple(map(file_stamp, self._paths))

    def reload_from_pem(self) -> None:
        # broken files are tried again once they change
        self._stamps = tuple(map(file_stamp, self._paths))
        auth = None if self._auth is None else self._auth.again()
        self._context = self._made(auth)
        self._auth = auth


class OwnContext:
    """A context that the application made."""

    __slots__ = ("_context",)

    single = True

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Find out whether the context can be used."""
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

    def contexts(self) -> Iterable[ssl.SSLContext]:
        return (self._context,)


class Resolver:
    """Certificates that the application chooses.

    Args:
        resolve: returns the certificate for a server name.
        as_source: makes a source of what ``resolve`` returns.
    """

    __slots__ = ("_as_source", "_resolve")

    single = False

    def __init__(
        self,
        resolve: Callable[[str | None], Any],
        as_source: Callable[[Any], Source],
    ) -> None:
        self._resolve = resolve
        self._as_source = as_source

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Load nothing yet: ``resolve`` is called at each handshake."""
        resolve = self._resolve
        # a subclass may choose by name
        if (
            isinstance(resolve, ReloadableResolver)
            and type(resolve) is ReloadableResolver
        ):
            return _Replaceable(resolve, alpn, auth)
        return _Asked(resolve, self._as_source, alpn, auth)


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

    def contexts(self) -> Iterable[ssl.SSLContext]:
        return (self._resolver(None),)

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

    __slots__ = ("_alpn", "_as_source", "_auth", "_objects", "_pairs", "_resolve")

    several = True

    def __init__(
        self,
        resolve: Callable[[str | None], Any],
        as_source: Callable[[Any], Source],
        alpn: tuple[str, ...],
        auth: ClientAuth | None,
    ) -> None:
        self._resolve = resolve
        self._as_source = as_source
        self._alpn = alpn
        self._auth = auth
        self._objects: WeakKeyDictionary[Any, Choice] = WeakKeyDictionary()
        self._pairs: dict[tuple[FilePath, ...], Choice] = {}

    def answer(self, sni: str | None) -> Answer | None:
        # RFC 6066 §3: literal addresses are not permitted as names
        found: Any = self._resolve(None if sni and is_address(sni) else sni)
        if isinstance(found, ssl.SSLContext):
            prepare(found, self._alpn, self._auth)
            return Answer(found, found)
        return None if found is None else self._choice(found).answer(sni)

    def _choice(self, found: Any) -> Choice:
        """Return what was loaded for ``found``, or load it now."""
        source = self._as_source(found)
        known: Any = self._pairs if isinstance(found, tuple) else self._objects
        choice: Choice | None = known.get(found)
        if choice is None:
            choice = known[found] = source.ready(self._alpn, self._auth)
        return choice

    def _choices(self) -> list[Choice]:
        return [*self._objects.values(), *self._pairs.values()]

    def contexts(self) -> Iterable[ssl.SSLContext]:
        return [each for choice in self._choices() for each in choice.contexts()]

    def reloadables(self) -> Iterable[Reloadable]:
        choices = self._choices()
        found = [each for choice in choices for each in choice.reloadables()]
        if isinstance(self._resolve, ReloadableResolver):  # a subclass
            found.append(self._resolve)
        return found


class NameMap:
    """Certificates by server name."""

    __slots__ = ("_certs", "_default")

    single = False

    def __init__(self, certs: Mapping[str, Source], default: Source | None) -> None:
        """Raise ``TlsConfigError`` if there are no names, or one is no host name."""
        if not certs:
            msg = "TlsCert.sni takes at least one name"
            raise TlsConfigError(msg)
        self._certs = {checked_name(name): cert for name, cert in certs.items()}
        self._default = default

    @property
    def sources(self) -> Iterable[Source]:
        """The certificates, the default among them."""
        found = list(self._certs.values())
        return found if self._default is None else [*found, self._default]

    def ready(self, alpn: tuple[str, ...], auth: ClientAuth | None) -> Choice:
        """Load all certificates; what is given for several names is loaded once."""
        made: dict[Source, Choice] = {}

        def choice(cert: Source) -> Choice:
            if cert not in made:
                made[cert] = cert.ready(alpn, auth)
            return made[cert]

        certs = {name: choice(cert) for name, cert in self._certs.items()}
        default = None if self._default is None else choice(self._default)
        return _Named(certs, default, tuple(made.values()))


class _Named:
    """Certificates by server name, loaded."""

    __slots__ = ("_certs", "_choices", "_default")

    several = True

    def __init__(
        self,
        certs: dict[str, Choice],
        default: Choice | None,
        choices: tuple[Choice, ...],
    ) -> None:
        self._certs = certs
        self._default = default
        self._choices = choices

    def answer(self, sni: str | None) -> Answer | None:
        choice = self._find(sni)
        return None if choice is None else choice.answer(sni)

    def _find(self, host: str | None) -> Choice | None:
        """Return the choice for ``host``: by name, by wildcard, or the default."""
        if host is None:
            return self._default
        host = host.rstrip(".")
        found = self._certs.get(host)
        if found is None:
            # RFC 6125 §6.4.3: a wildcard stands for the whole left-most label
            found = self._certs.get("*." + host.partition(".")[2])
        return self._default if found is None else found

    def reloadables(self) -> Iterable[Reloadable]:
        return [each for choice in self._choices for each in choice.reloadables()]

    def contexts(self) -> Iterable[ssl.SSLContext]:
        return [each for choice in self._choices for each in choice.contexts()]


def checked_name(name: str) -> str:
    """Return a name in the form that it is looked up by.

    Raises:
        TlsConfigError: it cannot be a host name.
    """
    host = name.lower().rstrip(".")
    plain = host.removeprefix("*.")
    if not plain or not plain.isascii() or not set(plain).isdisjoint("* :/"):
        msg = f"{name!r} cannot be a server name (write IDNs as xn--…)"
        raise TlsConfigError(msg)
    return host


def is_address(name: str) -> bool:
    """Tell whether ``name`` is an IP address, which is no server name (RFC 6066 §3)."""
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
