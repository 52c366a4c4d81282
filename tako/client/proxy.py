"""``Proxy``: what stands between us and a server, and where it is configured.

Configured as ``websockets`` has it: by a URL, or by the environment and the system, as
far as ``urllib.request`` reads them.
"""

import base64
import importlib.util
import re
from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import unquote_to_bytes, urlsplit

from tako.client.http_connect import HttpConnect
from tako.client.proxy_step import ProxyStep
from tako.client.url import Target, host_and_port
from tako.errors import ConfigError


ProxyChoice: TypeAlias = str | Literal[True] | None

_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}
_PLAIN = ("ws", "socks", "https", "http")  # what may lead to a server without TLS
_MAX_CREDENTIAL = 255  # bytes; RFC 1929 §2
_MAX_NAME = 255  # bytes; RFC 1928 §5


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy.

    Attributes:
        scheme: ``http``, ``https``, ``socks5`` or ``socks5h``.
        host: a name in ASCII, or an IP address.
        port: its port.
        credentials: user and password; ``None``: it asks for none.
    """

    scheme: str
    host: str
    port: int
    credentials: tuple[bytes, bytes] | None

    @property
    def shown(self) -> str:
        """Its URL for messages, without what is secret."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def tls(self) -> bool:
        """The way to the proxy is secured."""
        return self.scheme == "https"

    @property
    def takes_addresses(self) -> bool:
        """Names of servers are resolved by us, not by the proxy."""
        return self.scheme == "socks5"

    def step(self, host: str, port: int, user_agent: bytes | None) -> ProxyStep:
        """Return what asks for a server.

        Args:
            host: the server's name or address.
            port: its port.
            user_agent: who we are, for an HTTP proxy.
        """
        if self.scheme in {"http", "https"}:
            authorization = None
            if self.credentials is not None:
                pair = base64.b64encode(b":".join(self.credentials))
                authorization = b"Basic " + pair  # RFC 7617 §2
            return HttpConnect(host, port, authorization, user_agent)
        from tako.client.socks import SocksConnect

        return SocksConnect(host, port, self.credentials)


def choose_proxy(choice: ProxyChoice, target: Target) -> Proxy | None:
    """Return the proxy that leads to ``target``; ``None``: there is none.

    Args:
        choice: a URL; ``True``: what the environment and the system say; ``None``: no
            proxy. A Unix socket has none.
        target: where the WebSocket is.

    Raises:
        ConfigError: it cannot be used.
    """
    if choice is None or target.unix is not None:
        return None
    if choice is not True:
        return _checked(parse_proxy(choice), target)
    found = _configured(target)
    if found is None:
        return None
    try:
        return _checked(parse_proxy(found), target)
    except ConfigError as error:
        msg = f"{error} (from the environment; proxy=None uses none)"
        raise ConfigError(msg) from None


def _configured(target: Target) -> str | None:
    """Return the URL that environment and system have for ``target``.

    The order is that of ``websockets``: first what is for WebSockets alone, then SOCKS
    and CONNECT, as RFC 6455 §4.1 would have it.
    """
    import urllib.request  # 25 ms that only a client needs

    # the port, too: no_proxy may name it
    if urllib.request.proxy_bypass(f"{target.host}:{target.port}"):
        return None
    proxies = urllib.request.getproxies()
    names = ("wss", "socks", "https") if target.tls else _PLAIN
    for scheme in names:
        url = proxies.get(scheme)
        if url:
            if scheme == "socks" and url.startswith("http://"):  # so macOS has it
                url = "socks5h://" + url.removeprefix("http://")
            return url
    return None


def parse_proxy(url: str) -> Proxy:
    """Return what the URL of a proxy says; one without a scheme is for ``http``.

    Raises:
        ConfigError: it is none.
    """
    shown = re.sub(r"^([^/]*//)?[^/]*@", r"\1", url)  # no secret in a message
    try:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        host, port = host_and_port(parts)
    except ValueError as error:
        msg = f"the proxy {shown!r} has no valid host and port"
        raise ConfigError(msg) from error
    if parts.scheme not in _PORTS:
        msg = f"the proxy {shown!r} is none of {', '.join(_PORTS)}"
        raise ConfigError(msg)
    if not host or parts.path not in {"", "/"} or parts.query or parts.fragment:
        msg = f"the proxy {shown!r} takes a host and a port, and nothing else"
        raise ConfigError(msg)
    credentials = None
    if parts.username is not None:
        credentials = (
            unquote_to_bytes(parts.username),
            unquote_to_bytes(parts.password or ""),
        )
    default = _PORTS[parts.scheme]
    return Proxy(parts.scheme, host, default if port is None else port, credentials)


def _checked(proxy: Proxy, target: Target) -> Proxy:
    """Return ``proxy`` if it can lead to ``target``.

    Raises:
        ConfigError: it cannot.
    """
    user, password = proxy.credentials or (b"-", b"-")
    if not proxy.scheme.startswith("socks"):
        if b":" in user:  # RFC 7617 §2
            msg = f"the user of {proxy.shown} has a colon in the name"
            raise ConfigError(msg)
        return proxy
    if importlib.util.find_spec("socksio") is None:
        msg = f"{proxy.shown} needs socksio: pip install 'tako-server[socks]'"
        raise ConfigError(msg)
    if not (0 < len(user) <= _MAX_CREDENTIAL and 0 < len(password) <= _MAX_CREDENTIAL):
        msg = f"{proxy.shown} needs a user and a password, of 255 bytes at most"
        raise ConfigError(msg)
    if len(target.host) > _MAX_NAME:
        msg = f"{target.origin}: the name is too long for {proxy.shown}"
        raise ConfigError(msg)
    return proxy
