"""The first lines of ``tako serve``: what is served, where, and how to look at it."""

import contextlib
import ipaddress
import logging
from collections.abc import Iterable

from tako.cli import certs, trust
from tako.cli.console import CliError, foundations, say, version
from tako.cli.inspecting import Inspection
from tako.cli.listeners import Bound
from tako.cli.plan import Plan
from tako.http.conn_info import IpPeer, PeerAddr, UnixPeer
from tako.server.listener import Listener
from tako.tls.acme import Acme
from tako.tls.replace import user_folder
from tako.tls.sources import is_address


_SPOKEN = {
    "tls": "HTTP/2 and HTTP/1.1",
    "plain": "HTTP/1.1",
    "h2c": "HTTP/2 with prior knowledge",
}
_METRICS = "/metrics"  # the path
_PORTS = {"http": 80, "https": 443}  # those that a URL leaves out


def announce(
    plan: Plan, listener: Bound, kind: str, inspection: Inspection | None = None
) -> None:
    """Say what is served, on which addresses and wires, and with which certificates."""
    processes = f", {plan.workers} workers" if plan.workers > 1 else ""
    say(f"tako {version()}: {plan.target} ({kind}) on {plan.runtime}{processes}")
    if plan.verbose:
        say(foundations())
    found = [(path, certs.facts(path)[0]) for path, _ in plan.certs]
    names = plan.acme.names if plan.acme else found[0][1].names if found else ()
    scheme = "https" if plan.wire == "tls" else "http"
    _say_listeners(plan, listener, scheme)
    for path, facts in found:
        level = logging.WARNING if certs.is_due(facts) else logging.INFO
        say(f"certificate {path}: {facts}", level)
    if plan.acme is not None:
        _say_order(plan.acme)
    if plan.dev_cert:
        for line in trust.shown(user_folder() / "ca.pem"):
            say(line)
    if plan.wire != "h2c":  # which no browser speaks
        for url in urls(listener.main.addresses, scheme, names):
            say(f"open {url}")
    if inspection is not None and (page := inspection.url(plan, listener)):
        say(f"inspector: {page}")


def _say_listeners(plan: Plan, listener: Bound, scheme: str) -> None:
    _say_addresses(listener.main, scheme, _spoken(plan))
    if listener.plain is not None:
        redirected = ", all redirected to https" if plan.https_redirect else ""
        _say_addresses(listener.plain, "http", _SPOKEN["plain"] + redirected)
    if listener.metrics is not None:
        for address in listener.metrics.addresses:
            say(f"metrics on {_shown(address, 'http')}{_METRICS}")


def _say_order(acme: Acme) -> None:
    say(f"certificate for {', '.join(acme.names)}: from {acme.directory}")
    with contextlib.suppress(CliError):  # there is none yet
        say(f"certificate {acme.certificate}: {certs.facts(acme.certificate)[0]}")


def _spoken(plan: Plan) -> str:
    spoken = _SPOKEN[plan.wire]
    if plan.wire == "tls" and len(plan.config.alpn) == 1:
        spoken = "HTTP/2" if plan.config.alpn[0] == "h2" else "HTTP/1.1"
    if not plan.config.h2_enable_connect_protocol and plan.wire != "plain":
        spoken += ", no WebSockets over HTTP/2"
    return spoken


def _say_addresses(listener: Listener, scheme: str, spoken: str) -> None:
    for address in listener.addresses:
        say(f"listening on {_shown(address, scheme)}: {spoken}")


def _shown(address: PeerAddr, scheme: str) -> str:
    if isinstance(address, UnixPeer):
        return f"unix:{address}"
    return f"{scheme}://{address}"


def urls(
    addresses: Iterable[PeerAddr], scheme: str, names: tuple[str, ...]
) -> list[str]:
    """Return what to open in a browser of this machine, each URL once.

    Args:
        addresses: what is listened on; Unix sockets have no URL.
        scheme: ``http`` or ``https``.
        names: of the certificate that is shown to clients by default; a URL has one
            of them where there is one.
    """
    found = list[str]()
    for each in addresses:
        if isinstance(each, IpPeer):
            host = _host(each.host, names)
            shown = f"[{host}]" if ":" in host else host
            port = "" if each.port == _PORTS[scheme] else f":{each.port}"
            found.append(f"{scheme}://{shown}{port}/")
    return list(dict.fromkeys(found))


def _host(address: str, names: tuple[str, ...]) -> str:
    parsed = ipaddress.ip_address(address.partition("%")[0])
    here = parsed.is_loopback or parsed.is_unspecified
    known = [each.lower() for each in names]
    if here and (not known or "localhost" in known):
        return "localhost"
    if not here and (not known or str(parsed) in known):
        return address
    usable = [it for it in known if not is_address(it) and not it.startswith("*")]
    return next(iter(usable), "localhost" if here else address)
