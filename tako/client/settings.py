"""``Settings``: what ``connect`` was given, checked.

Theory of operation. A client holds keywords, each ``connect`` has its own, which go
before. ``make_settings`` makes of both what one WebSocket needs, ``make_config`` of the
client's what its connections need, which may be shared.
"""

import ssl
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict

from tako.client.proxy import Proxy, ProxyChoice, choose_proxy
from tako.client.url import Target, parse_url
from tako.config import Duration, ServerConfig, seconds
from tako.errors import ConfigError
from tako.http.grammar import is_field_value
from tako.http.headers import Headers, HeadersLike, RawHeader
from tako.ws.client_handshake import OWN, offer_fields
from tako.ws.options import Deflate, WsKeepAlive, WsOptions


HttpVersion: TypeAlias = Literal["1.1", "2"]
_Context: TypeAlias = ssl.SSLContext  # which a field called ``ssl`` hides
Compression: TypeAlias = Deflate | Literal["deflate"] | None

_MAX_SIZE = 1 << 20  # bytes
_VERSIONS: tuple[HttpVersion, ...] = ("2", "1.1")
_OPEN_TIMEOUT = 10.0  # seconds
_CLOSE_TIMEOUT = 10.0
_PING_INTERVAL = 20.0
_PING_TIMEOUT = 20.0
_DEFLATE = Deflate(server_window_bits=15, client_window_bits=15)
_UNLIMITED = 1 << 62
_YEAR = 366 * 86_400.0  # seconds: stands for no limit
_default_context: ssl.SSLContext | None = None


def default_context() -> ssl.SSLContext:
    """Return the context of all clients that bring none: it trusts what Python does."""
    global _default_context  # noqa: PLW0603 - to load the authorities takes 20 ms
    if _default_context is None:
        _default_context = ssl.create_default_context()
    return _default_context


class ConnectKeywords(TypedDict, total=False):
    """What ``connect`` takes, and says what it means."""

    subprotocols: Iterable[str]
    additional_headers: HeadersLike
    origin: str | None
    ssl: ssl.SSLContext | None
    server_hostname: str | None
    open_timeout: Duration | None
    ping_interval: Duration | None
    ping_timeout: Duration | None
    close_timeout: Duration
    max_size: int | None
    compression: Compression
    user_agent_header: str | None
    http_versions: Sequence[HttpVersion]
    proxy: ProxyChoice
    proxy_ssl: _Context | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What one WebSocket is opened at, and how.

    Attributes:
        target: where.
        context: TLS; ``None``: plain.
        server_hostname: whose certificate is expected.
        versions: those of HTTP that may be used, in order of preference.
        fields: those of the request, but for what its wire adds.
        options: of the WebSocket.
        open_timeout: seconds; ``None``: no limit.
        close_timeout: seconds for the server's Close.
        watched: the server is asked whether it is there when it is silent.
        keep_alive: this WebSocket asks by itself, whatever its connection does.
        proxy: what leads to the target; ``None``: it is dialed.
        proxy_choice: what chooses the proxy of another target.
        proxy_context: TLS to a proxy; ``None``: the default.
    """

    target: Target
    context: ssl.SSLContext | None
    server_hostname: str
    versions: tuple[HttpVersion, ...]
    fields: tuple[RawHeader, ...]
    options: WsOptions
    open_timeout: float | None
    close_timeout: float
    watched: bool
    keep_alive: WsKeepAlive | None
    proxy: Proxy | None
    proxy_choice: ProxyChoice
    proxy_context: ssl.SSLContext | None

    @property
    def where(self) -> Hashable:
        """What connections must have in common to be shared."""
        target = self.target
        return (
            target.tls,
            target.host,
            target.port,
            target.unix,
            self.context,
            self.server_hostname,
            self.proxy,
            self.proxy_context,
        )

    @property
    def user_agent(self) -> bytes | None:
        """Who we say we are."""
        found = [value for name, value in self.fields if name == b"user-agent"]
        return found[0] if found else None


def make_settings(
    url: str, options: ConnectKeywords, client: ConnectKeywords | None = None
) -> Settings:
    """Return the settings of a WebSocket.

    Args:
        url: where.
        options: what ``connect`` was called with.
        client: what the client has, for what is not among those.

    Raises:
        ConfigError: they cannot work.
        TypeError: there is no option of that name.
    """
    check_names(options)
    given: ConnectKeywords = {**(client or {}), **options}
    target = parse_url(url)
    context = given.get("ssl")
    if target.tls:
        context = context or default_context()
    elif options.get("ssl") is not None:
        msg = f"{url!r} is without TLS: ssl is for wss://"
        raise ConfigError(msg)
    else:
        context = None
    most = given.get("max_size", _MAX_SIZE)
    most = _UNLIMITED if most is None else most
    compression = given.get("compression", "deflate")
    ws_options = WsOptions(
        protocols=tuple(given.get("subprotocols", ())),
        max_frame_size=most,
        max_message_size=most,
        compression=_DEFLATE if compression == "deflate" else compression,
    )
    fields = [*_fields(options, client or {}), *offer_fields(ws_options)]
    if target.credentials is not None and not any(
        name == b"authorization" for name, _ in fields
    ):
        fields.append((b"authorization", target.credentials))
    timeout = given.get("open_timeout", _OPEN_TIMEOUT)
    interval = given.get("ping_interval", _PING_INTERVAL)
    pong_timeout = given.get("ping_timeout", _PING_TIMEOUT)
    keep_alive = None
    if interval is not None and "ping_interval" in options:
        keep_alive = WsKeepAlive(
            ping_interval=interval, pong_timeout=pong_timeout, auto=True
        )
    proxy = given.get("proxy", True)
    return Settings(
        target,
        context,
        given.get("server_hostname") or target.host,
        _versions(given.get("http_versions", _VERSIONS)),
        tuple(fields),
        ws_options,
        None if timeout is None else seconds(timeout, "open_timeout"),
        seconds(given.get("close_timeout", _CLOSE_TIMEOUT), "close_timeout"),
        interval is not None,
        keep_alive,
        choose_proxy(proxy, target),
        proxy,
        given.get("proxy_ssl"),
    )


def make_config(options: ConnectKeywords, *, max_streams: int = 100) -> ServerConfig:
    """Return limits and timeouts of connections.

    Args:
        options: what the client was called with.
        max_streams: WebSockets on one connection of HTTP/2.

    Raises:
        ConfigError: they cannot work.
    """
    return ServerConfig(
        # those that wait for it have timeouts of their own
        tls_handshake_timeout=_YEAR,
        h2_max_concurrent_streams=max_streams,
        ws_close_timeout=options.get("close_timeout", _CLOSE_TIMEOUT),
        ws_ping_interval=options.get("ping_interval", _PING_INTERVAL),
        ws_ping_timeout=options.get("ping_timeout", _PING_TIMEOUT),
        # a server may read as slowly as it likes
        send_timeout=None,
        min_rate=0,
        tcp_keep_alive_idle=None,
    )


def check_names(options: ConnectKeywords) -> None:
    """Check that there are options of these names.

    Raises:
        TypeError: there is none.
    """
    known = ConnectKeywords.__annotations__
    for name in options:
        if name not in known:
            msg = f"{name} is no option of connect; there are {', '.join(known)}"
            raise TypeError(msg)


def _fields(options: ConnectKeywords, client: ConnectKeywords) -> list[RawHeader]:
    """Return the fields that were asked for; what ``connect`` names goes before."""
    fields = _given(options)
    named = {name for name, _ in fields}
    fields = [each for each in _given(client) if each[0] not in named] + fields
    named = {name for name, _ in fields}
    own: ConnectKeywords = {**client, **options}
    for name, text in (
        (b"origin", own.get("origin")),
        (b"user-agent", own.get("user_agent_header", "tako")),
    ):
        if text is not None and name not in named:
            value = text.encode("latin-1", "replace")
            if not is_field_value(value):
                msg = f"{text!r} cannot be the value of a header field"
                raise ConfigError(msg)
            fields.append((name, value))
    return fields


def _given(options: ConnectKeywords) -> list[RawHeader]:
    try:
        fields = list(Headers(options.get("additional_headers", ())).raw)
    except ValueError as error:
        msg = f"additional_headers: {error}"
        raise ConfigError(msg) from None
    for name, value in fields:
        if name in OWN or name == b"host" or not is_field_value(value):
            msg = f"additional_headers: {name.decode('latin-1')} cannot be given"
            raise ConfigError(msg)
    return fields


def _versions(versions: Sequence[HttpVersion]) -> tuple[HttpVersion, ...]:
    found = tuple(versions)
    if isinstance(versions, str) or not found or not set(found) <= {"1.1", "2"}:
        msg = f'http_versions takes a sequence of "2" and "1.1", not {versions!r}'
        raise ConfigError(msg)
    return found
