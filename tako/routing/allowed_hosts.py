"""``allowed_hosts``: middleware that answers requests for known hosts only.

The host of a request is what its client wrote. Where a page or a mail is made from it
(a link to reset a password, say), a client could have it name any host.
"""

from collections.abc import Iterable

from tako.errors import ConfigError
from tako.http import grammar
from tako.http.request import Request
from tako.http.response import Response
from tako.routing.middleware import Middleware, Next


_ANY = "*."


class Hosts:
    """Names of hosts, and wildcards for what is below a name.

    Args:
        names: ``"example.com"``, ``"[::1]"``; ``"*.example.com"`` stands for every name
            below that one. Case and ports do not count.
        option: what they are called in errors.

    Raises:
        ConfigError: one of them is no host.
    """

    __slots__ = ("_below", "_names")

    def __init__(self, names: Iterable[str], option: str = "allowed_hosts") -> None:
        if isinstance(names, str):
            msg = f'{option} takes several hosts: write ["{names}"]'
            raise ConfigError(msg)
        found: set[str] = set()
        below: list[str] = []
        for each in names:
            host = host_name(each.removeprefix(_ANY))
            if host is None or "*" in host:
                msg = f"{option}: {each!r} is not a host"
                raise ConfigError(msg)
            if each.startswith(_ANY):
                below.append("." + host.lower())
            else:
                found.add(host.lower())
        self._names = frozenset(found)
        self._below = tuple(below)

    def __contains__(self, host: str) -> bool:
        name = host.lower()
        return name in self._names or name.endswith(self._below)


def host_name(authority: str | None) -> str | None:
    """Return the host in ``host [ ":" port ]`` (RFC 3986 §3.2); ``None`` if bad."""
    if not authority or not authority.isascii():
        return None
    if not grammar.is_authority(authority.encode()):
        return None
    if authority.startswith("["):
        return authority[: authority.index("]") + 1]
    return authority.partition(":")[0]


def allowed_hosts(names: Iterable[str]) -> Middleware:
    """Return a middleware that answers requests for other hosts with 421.

    Args:
        names: ``"example.com"``, ``"[::1]"``; ``"*.example.com"`` stands for every name
            below that one. Case and ports do not count.

    Raises:
        ConfigError: one of them is no host.

    Example::

        router.middleware(tako.allowed_hosts(["example.com", "*.example.com"]))
    """
    hosts = Hosts(names)

    async def check(request: Request, call_next: Next) -> Response:
        host = host_name(request.host)
        if host is None or host not in hosts:
            # RFC 9110 §7.4: an authority that this server is not responsible for
            return Response(421, body="host not allowed")
        return await call_next(request)

    return check
