"""A router that sends everybody to HTTPS (RFC 9110 §15.4.9)."""

from collections.abc import Iterable

from tako.config import positive
from tako.errors import ConfigError
from tako.http import grammar
from tako.http.redirect import permanent
from tako.http.request import Request
from tako.routing.router import Router


_HTTPS_PORT = 443


def http_to_https_router(port: int = _HTTPS_PORT) -> Router:
    """Return a router that answers every request with a 308 to the same URL over HTTPS.

    The client's ``Host`` says where to, whatever it is; behind a shared cache use
    ``http_to_https_router_with_allowed_hosts``.

    Args:
        port: the port of the HTTPS server.

    Raises:
        ConfigError: there is no such port.
    """
    return _https_router(port, None)


def http_to_https_router_with_allowed_hosts(
    port: int, allowed_hosts: Iterable[str]
) -> Router:
    """Return such a router that answers 421 to requests for hosts that are not allowed.

    Args:
        port: the port of the HTTPS server.
        allowed_hosts: host names; case and ports do not count.

    Raises:
        ConfigError: there is no such port, or one of the hosts is none.
    """
    if isinstance(allowed_hosts, str):
        msg = f'allowed_hosts takes several hosts: write ["{allowed_hosts}"]'
        raise ConfigError(msg)
    allowed: set[str] = set()
    for host in allowed_hosts:
        name = _host_name(host)
        if name is None:
            msg = f"{host!r} is no host"
            raise ConfigError(msg)
        allowed.add(name.lower())
    return _https_router(port, frozenset(allowed))


def _https_router(port: int, allowed: frozenset[str] | None) -> Router:
    suffix = "" if positive(port, "port", most=65535) == _HTTPS_PORT else f":{port}"

    def redirect(request: Request) -> object:
        host = _host_name(request.host)
        if host is None:
            return 400, "invalid Host header"
        if allowed is not None and host.lower() not in allowed:
            return 421, "host not allowed"  # RFC 9110 §15.5.20
        target = request.target if request.target.startswith("/") else "/"
        return permanent(f"https://{host}{suffix}{target}")

    return Router().fallback(redirect)


def _host_name(authority: str | None) -> str | None:
    """Return the host in ``host [ ":" port ]`` (RFC 3986 §3.2), ``None`` if bad."""
    if not authority or not authority.isascii():
        return None
    if not grammar.is_authority(authority.encode()):
        return None
    if authority.startswith("["):
        return authority[: authority.index("]") + 1]
    return authority.partition(":")[0]
