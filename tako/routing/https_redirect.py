"""``https_redirect``: a router that sends every client to HTTPS (RFC 9110 §15.4.9)."""

from collections.abc import Iterable

from tako.config import positive
from tako.http.conn_info import prefix_of
from tako.http.redirect import Redirect
from tako.http.request import Request
from tako.routing.allowed_hosts import Hosts, host_name
from tako.routing.router import Router


_HTTPS_PORT = 443


def https_redirect(
    port: int = _HTTPS_PORT, allowed_hosts: Iterable[str] | None = None
) -> Router:
    """Return a router that answers every request with a 308 to the same URL over HTTPS.

    The host is that of the request, whatever it is. Behind a shared cache name the
    hosts that are allowed: a request for another host is answered with 421.

    Args:
        port: the port of the HTTPS server.
        allowed_hosts: as for the middleware ``allowed_hosts``. ``None``: any host.

    Raises:
        ConfigError: there is no such port, or one of the hosts is not a host.
    """
    suffix = "" if positive(port, "port", most=65535) == _HTTPS_PORT else f":{port}"
    allowed = None if allowed_hosts is None else Hosts(allowed_hosts)

    def redirect(request: Request) -> object:
        host = host_name(request.host)
        if host is None:
            return 400, "invalid Host header"
        if allowed is not None and host not in allowed:
            return 421, "host not allowed"  # RFC 9110 §15.5.20
        target = request.target if request.target.startswith("/") else "/"
        prefix = prefix_of(request.conn_info)
        return Redirect.permanent(f"https://{host}{suffix}{prefix}{target}")

    return Router().fallback(redirect)
