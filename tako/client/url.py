"""``Target``: what a URL says about where a WebSocket is (RFC 6455 §3)."""

import base64
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlsplit

from tako.errors import ConfigError


_PORTS = {"ws": 80, "wss": 443}
_UNIX = frozenset({"ws+unix", "wss+unix"})
_SCHEMES = _UNIX | _PORTS.keys()
_SAFE = "/%:=&?~#+!$,;'@()*[]"  # what a URL has besides letters, digits and -._~


@dataclass(frozen=True, slots=True)
class Target:
    """Where a WebSocket is.

    Attributes:
        tls: the connection is secured.
        host: a name in ASCII, or an IP address.
        port: its port.
        unix: the path of a Unix socket to connect to instead.
        path: path and query, as they are asked for.
        credentials: the value of ``authorization``, from the user info of the URL.
    """

    tls: bool
    host: str
    port: int
    unix: str | None
    path: bytes
    credentials: bytes | None

    @property
    def authority(self) -> bytes:
        """Host and port as a request names them (RFC 9110 §7.2)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = self.port == _PORTS["wss" if self.tls else "ws"]
        return (host if default else f"{host}:{self.port}").encode("ascii")

    @property
    def origin(self) -> str:
        """Scheme, host and port, for messages."""
        if self.unix is not None:
            return f"{'wss' if self.tls else 'ws'}+unix:{self.unix}"
        return f"{'wss' if self.tls else 'ws'}://{self.authority.decode('ascii')}"

    @property
    def shown(self) -> str:
        """Origin and path, for messages; without a query, which may be secret."""
        path = self.path.partition(b"?")[0].decode("ascii")
        return f"{self.origin}{':' if self.unix is not None else ''}{path}"


def join(base: str | None, url: str) -> str:
    """Return ``url``, or ``base`` with it appended if it is a path.

    Raises:
        ConfigError: it is a path and there is no base, or one with a query.
    """
    scheme, colon, _ = url.partition(":")
    if colon and scheme.lower() in _SCHEMES:
        return url
    if base is None:
        msg = f"{url!r} is no URL of a WebSocket, and the client has no base_url"
        raise ConfigError(msg)
    scheme, _, rest = base.partition(":")
    if "?" in rest or "#" in rest:
        msg = f"base_url {base!r} has a query or a fragment"
        raise ConfigError(msg)
    if scheme.lower() in _UNIX and ":" not in rest:
        base += ":"
    if not url:
        return base
    between = "" if url.startswith("?") else "/"
    return base.rstrip("/") + between + url.lstrip("/")


def parse_url(url: str) -> Target:
    """Return what ``url`` says.

    ``ws:`` and ``wss:`` are understood, and ``ws+unix:/run/app.sock:/chat``: the
    path of a Unix socket, a colon, and the path to ask for.

    Raises:
        ConfigError: it is no URL of a WebSocket.
    """
    scheme, _, rest = url.partition(":")
    scheme = scheme.lower()
    if scheme in _UNIX:
        path, _, target = rest.partition(":")
        if not path:
            msg = f"{url!r} names no Unix socket: write ws+unix:/run/app.sock:/chat"
            raise ConfigError(msg)
        tls, what = scheme.startswith("wss"), _path(target or "/")
        return Target(tls, "localhost", 443 if tls else 80, path, what, None)
    if scheme not in _PORTS:
        msg = f"{url!r} is no URL of a WebSocket: it begins with ws:// or wss://"
        raise ConfigError(msg)
    try:
        parts = urlsplit(url)
        host, port = host_and_port(parts)
    except ValueError as error:
        msg = f"{url!r}: {error}"
        raise ConfigError(msg) from None
    if not host or parts.fragment:  # RFC 6455 §3: fragments MUST NOT be used
        msg = f"{url!r} has {'a fragment' if host else 'no host'}"
        raise ConfigError(msg)
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = b"Basic " + base64.b64encode(pair.encode())
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(
        scheme == "wss",
        host,
        _PORTS[scheme] if port is None else port,
        None,
        _path(target),
        credentials,
    )


def host_and_port(parts: SplitResult) -> tuple[str | None, int | None]:
    """Return what a URL has of both; a name is in ASCII (RFC 5891).

    Raises:
        ValueError: they cannot be.
    """
    host = parts.hostname
    if host is not None and not host.isascii():
        host = host.encode("idna").decode("ascii")
    return host, parts.port


def _path(target: str) -> bytes:
    if not target.startswith("/"):
        target = "/" + target
    return quote(target, safe=_SAFE).encode("ascii")
