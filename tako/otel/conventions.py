"""What OpenTelemetry's semantic conventions of HTTP call the facts of a request."""

from typing import Final, TypeAlias

from opentelemetry.propagators.textmap import Getter

from tako.core.counters import METHODS, OTHER
from tako.http.conn_info import IpPeer, PeerAddr
from tako.http.headers import Headers
from tako.http.request import Request


SCOPE: Final = "tako"
"""The instrumentation scope of what tako makes."""

METHOD: Final = "http.request.method"
ROUTE: Final = "http.route"
STATUS: Final = "http.response.status_code"
SCHEME: Final = "url.scheme"
VERSION: Final = "network.protocol.version"
ERROR: Final = "error.type"

Attributes: TypeAlias = dict[str, str | int]


class Fields(Getter[Headers]):
    """Reads the fields of a request for a propagator."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        """Return the value of a field, of several lines with commas (RFC 9110 §5.3).

        So two ``traceparent`` are none, as W3C Trace Context §3.2 has it.
        """
        lines = carrier.get_all(key)
        return [",".join(lines)] if lines else None

    def keys(self, carrier: Headers) -> list[str]:
        """Return the names of all fields."""
        return [name.decode("latin-1") for name, _ in carrier.raw]


def name_of(request: Request, route: str | None) -> str:
    """Return what to call the span of a request."""
    method = request.method if request.method in METHODS else "HTTP"
    return method if route is None else f"{method} {route}"


def measured(request: Request) -> Attributes:
    """Return the attributes of a request that all its metrics have."""
    method = request.method
    return {
        METHOD: method if method in METHODS else OTHER,
        SCHEME: request.scheme,
    }


def described(request: Request, peer: PeerAddr, *, query: bool) -> Attributes:
    """Return the attributes of a request's span that are known at its beginning."""
    found = measured(request)
    if found[METHOD] == OTHER:
        found["http.request.method_original"] = request.method
    found["url.path"] = request.path
    if query and request.query:
        found["url.query"] = request.query
    found[VERSION] = request.http_version
    if request.host:
        found |= _server(request.host)
    if isinstance(peer, IpPeer):
        found["client.address"] = peer.host
    agent = request.headers.get("user-agent")
    if agent is not None:
        found["user_agent.original"] = agent
    return found


def _server(authority: str) -> Attributes:
    """Return the host, and the port if one is named, that a client asked for."""
    host, colon, port = authority.rpartition(":")
    if not (colon and port.isascii() and port.isdigit() and len(port) <= 5):
        return {"server.address": authority.strip("[]")}
    return {"server.address": host.strip("[]"), "server.port": int(port)}
