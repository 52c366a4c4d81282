"""``redirected``: where a server sends the handshake, and what of it may go there."""

from dataclasses import replace
from typing import NoReturn
from urllib.parse import urldefrag, urljoin, urlsplit

from tako.client.proxy import choose_proxy
from tako.client.settings import Settings, default_context
from tako.client.url import Target, parse_url
from tako.errors import ConfigError, HandshakeRejected


MAX_REDIRECTS = 10
"""How many redirects an opening follows."""

_STATUSES = frozenset({300, 301, 302, 303, 307, 308})  # RFC 9110 §15.4
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_SECRET = frozenset({b"authorization", b"cookie", b"proxy-authorization"})
_SHOWN = 200  # characters of a location in a message


def redirected(
    settings: Settings, rejected: HandshakeRejected, followed: int
) -> Settings:
    """Return the settings with which a server wants the handshake to be done.

    Credentials go to the same origin only: not the fields ``authorization``,
    ``cookie`` and ``proxy-authorization``, and not a ``server_hostname`` that is
    another name of the host.

    Args:
        settings: those that it was done with.
        rejected: how the server has answered.
        followed: how many redirects were followed before.

    Raises:
        HandshakeRejected: ``rejected`` if it is no redirect, or one that says why it
            is not followed.
    """
    locations = rejected.headers.get_all_raw(b"location")
    if rejected.status not in _STATUSES or len(locations) != 1:
        try:
            raise rejected
        finally:
            del rejected  # its traceback would keep all that this frame leads to
    location = locations[0].decode("utf-8", "replace")
    if followed == MAX_REDIRECTS:
        _refuse(rejected, location, f"there were {MAX_REDIRECTS} redirects already")
    old, new = settings.target, _target(settings.target, location, rejected)
    if old.tls and not new.tls:
        _refuse(rejected, location, "it would give up TLS")
    same = (old.tls, old.host, old.port) == (new.tls, new.host, new.port)
    if same:
        new = replace(new, unix=old.unix)
    elif old.unix is not None:
        _refuse(rejected, location, "it leads away from a Unix socket")
    try:
        proxy = choose_proxy(settings.proxy_choice, new)
    except ConfigError as error:
        _refuse(rejected, location, str(error))
    context = settings.context
    if new.tls and context is None:
        context = default_context()
    return replace(
        settings,
        target=new,
        context=context,
        server_hostname=(
            settings.server_hostname if new.host == old.host else new.host
        ),
        fields=tuple(
            field for field in settings.fields if same or field[0] not in _SECRET
        ),
        proxy=proxy,
    )


def _target(old: Target, location: str, rejected: HandshakeRejected) -> Target:
    """Return what a ``Location`` says (RFC 9110 §10.2.2), seen from ``old``."""
    scheme = "https" if old.tls else "http"
    base = f"{scheme}://{old.authority.decode()}{old.path.decode()}"
    try:
        url, _ = urldefrag(urljoin(base, location))
        scheme, userinfo = urlsplit(url).scheme, urlsplit(url).username
    except ValueError as error:
        _refuse(rejected, location, str(error))
    if scheme not in _SCHEMES:
        _refuse(rejected, location, "it is no URL of a WebSocket")
    if userinfo is not None:  # RFC 9110 §4.2.4
        _refuse(rejected, location, "it names a user")
    try:
        return parse_url(_SCHEMES[scheme] + url[len(scheme) :])
    except ConfigError as error:
        _refuse(rejected, location, str(error))


def _refuse(rejected: HandshakeRejected, location: str, why: str) -> NoReturn:
    """Raise an error that says why a redirect is not followed."""
    text = f"the server redirects to {location[:_SHOWN]!r}: {why}"
    error = HandshakeRejected(
        text, step=rejected.step, origin=rejected.origin, wire=rejected.wire
    )
    error.status, error.headers = rejected.status, rejected.headers
    error.body = rejected.body
    raise error from rejected
