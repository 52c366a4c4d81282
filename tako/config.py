"""``ServerConfig`` and its parts: frozen, keyword-only, validated at construction."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias

from tako.errors import ConfigError


Duration: TypeAlias = float | timedelta
"""A time span: seconds as a number, or a ``timedelta``."""


def seconds(value: Duration, name: str) -> float:
    """Return ``value`` in seconds.

    Raises:
        ConfigError: it is not a positive, finite span of time.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, timedelta)):
        msg = f"{name} takes seconds or a timedelta, not {type(value).__name__}"
        raise ConfigError(msg)
    number = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not math.isfinite(number) or number <= 0:
        msg = f"{name} must be a positive number of seconds, not {value!r}"
        raise ConfigError(msg)
    return number


def positive(value: int, name: str, *, least: int = 1, most: int = 2**63) -> int:
    """Return ``value`` if it is an integer from ``least`` to ``most``.

    Raises:
        ConfigError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"{name} takes an integer, not {type(value).__name__}"
        raise ConfigError(msg)
    if not least <= value <= most:
        msg = f"{name} must be from {least} to {most}, not {value}"
        raise ConfigError(msg)
    return value


class Seconds:
    """A dataclass field that takes a ``Duration`` and reads as float seconds."""

    def __init__(self, default: float) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> float:
        if instance is None:
            return self._default
        value: float = vars(instance)[self._name]
        return value

    def __set__(self, instance: object, value: Duration) -> None:
        vars(instance)[self._name] = seconds(value, self._name)


class OptionalSeconds:
    """The same for a field that may also be ``None``: switched off."""

    def __init__(self, default: float | None) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> float | None:
        if instance is None:
            return self._default
        value: float | None = vars(instance)[self._name]
        return value

    def __set__(self, instance: object, value: Duration | None) -> None:
        checked = None if value is None else seconds(value, self._name)
        vars(instance)[self._name] = checked


@dataclass(frozen=True, kw_only=True)
class AcceptBackoff:
    """How long to wait after ``accept()`` failed: doubling from ``initial`` to ``max``.

    Both are seconds (or timedeltas).
    """

    initial: Seconds = Seconds(0.005)
    max: Seconds = Seconds(1.0)

    def __post_init__(self) -> None:
        if self.max < self.initial:
            msg = f"max ({self.max} s) must not be below initial ({self.initial} s)"
            raise ConfigError(msg)


DEFAULT_MAX_BODY = 16 * 1024 * 1024  # bytes

_COUNTS = {  # name: (least, most)
    "h2_max_concurrent_streams": (1, 250),
    "h2_max_send_buf_size": (1, 2**31 - 1),
    "h2_max_pending_accept_reset_streams": (1, 1 << 20),
    "h2_initial_window_size": (1, 2**31 - 1),
    "h2_max_requests": (1, 2**30),
    "max_tls_handshakes": (1, 1 << 20),
    "max_header_bytes": (256, 1 << 24),
    "max_headers": (1, 10_000),
    "max_target_bytes": (16, 1 << 20),
    "max_proxy_header": (232, 65_535),
    "max_tiny_chunks": (1, 1 << 30),
    "tls_max_idle_records": (1, 1 << 20),
    "read_buffer": (1024, 1 << 24),
}


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Everything about a server that is not its routes or its certificate.

    Durations are seconds or timedeltas, must be positive, and read back as float
    seconds; those that may be ``None`` are then off. Sizes are bytes.

    Attributes:
        drain_timeout: how long a shutdown waits before it cuts connections; leaving the
            lifespan has what is then left of it, and a second in any case.
        drain_delay: time between the last accept and the drain, in which clients that
            have just connected can still ask, at most: it ends when nobody is left.
            Useful where others go on listening.
        header_read_timeout: time for a complete request head.
        keep_alive: whether HTTP/1.1 connections carry more than one request.
        keep_alive_timeout: idle time between requests; ``None``:
            ``header_read_timeout``.
        h2_max_concurrent_streams: advertised and enforced; also bounds running
            handlers.
        h2_max_header_list_size: bytes, advertised and enforced with 431; counted as in
            RFC 9113 §6.5.2, but all cookies are one field. ``None``: no limit beside
            ``max_header_bytes`` and ``max_headers``; what fits them is advertised.
        h2_max_send_buf_size: bytes queued for one stream before its producer waits.
        h2_max_pending_accept_reset_streams: resets of unanswered streams that are let
            pass at once; the allowance refills by a thirtieth of it (at least one) a
            second. Beyond it the connection drains, beyond as many again it ends.
        h2_reset_drain_timeout: how long open streams may then go on.
        h2_keep_alive_interval: seconds of silence before a PING is sent; ``None``:
            never.
        h2_enable_connect_protocol: accept WebSockets over HTTP/2 (RFC 8441).
        h2_initial_window_size: receive window of a stream, credited on consumption.
        h2_max_requests: requests on one HTTP/2 connection before a graceful GOAWAY.
        alpn: protocols offered over TLS, in order of preference.
        max_connections: connections served at once; ``None``: no limit.
        max_tls_handshakes: TLS handshakes in progress at once.
        proxy_read_timeout: time for a complete PROXY header.
        max_proxy_header: largest PROXY v2 header.
        tls_handshake_timeout: time for a complete TLS handshake.
        tls_max_idle_records: TLS records without data (empty ones, KeyUpdates), less
            those with data, before the connection is closed.
        tls_shutdown_timeout: how long an answer to our close_notify is waited for.
        accept_backoff: pauses after a failed ``accept()``.
        ws_close_timeout: how long a peer's Close (and end of stream) is waited for; in
            a shutdown a session is cancelled when that, and a second, is over.
        max_header_bytes: size of a request head, on HTTP/2 of what it would be on
            HTTP/1.1.
        max_headers: number of header fields.
        max_target_bytes: length of a request target.
        max_tiny_chunks: chunks of fewer than 32 bytes in a chunked body, less what
            larger ones make up for, before it is refused with 400.
        max_turn: time that the input of one connection is worked on at a stretch;
            then others have their turn. It begins after the first 256 units of work, a
            third of a millisecond.
        max_body_size: bytes of a request body that ``Request.body``, ``text``, ``json``
            and ``form`` take without a ``limit`` of their own, and of a part that
            ``Part.read`` takes; more is 413; ``None``: any. ``Request.stream`` and ASGI
            apps read as much as comes.
        min_rate: bytes per second that a request body or a blocked response must move
            at, after ``min_rate_grace`` seconds; 0 switches it off.
        min_rate_grace: seconds before ``min_rate`` applies.
        trust_scheme: believe the scheme that a request names (``:scheme``, or a target
            in absolute-form), which is that of the connection otherwise. For servers
            that only proxies can reach, and only if those set it themselves.
        send_timeout: seconds that a response may wait without any progress.
        half_closed_timeout: seconds that an answer may stand still after its client
            has ended its sending direction (FIN, or TLS's close_notify), before it is
            given up as if the client had reset it: most such clients are gone, and do
            not say so. An answer that goes on reaching its client has no limit.
            ``None``: wait for ever.
        settings_timeout: seconds for the acknowledgement of our HTTP/2 SETTINGS.
        read_buffer: bytes that HTTP/1.1 keeps unread before it stops reading.
    """

    drain_timeout: Seconds = Seconds(30.0)
    drain_delay: OptionalSeconds = OptionalSeconds(None)
    header_read_timeout: OptionalSeconds = OptionalSeconds(30.0)
    keep_alive: bool = True
    keep_alive_timeout: OptionalSeconds = OptionalSeconds(None)
    h2_max_concurrent_streams: int = 100
    h2_max_header_list_size: int | None = None
    h2_max_send_buf_size: int = 64 * 1024
    h2_max_pending_accept_reset_streams: int = 1000
    h2_reset_drain_timeout: Seconds = Seconds(5.0)
    h2_keep_alive_interval: OptionalSeconds = OptionalSeconds(None)
    h2_enable_connect_protocol: bool = True
    h2_initial_window_size: int = 256 * 1024
    h2_max_requests: int = 100_000
    alpn: Sequence[str] = ("h2", "http/1.1")
    max_connections: int | None = None
    max_tls_handshakes: int = 1000
    proxy_read_timeout: Seconds = Seconds(10.0)
    max_proxy_header: int = 4096
    tls_handshake_timeout: Seconds = Seconds(10.0)
    tls_max_idle_records: int = 32
    tls_shutdown_timeout: Seconds = Seconds(3.0)
    accept_backoff: AcceptBackoff = AcceptBackoff()
    ws_close_timeout: Seconds = Seconds(10.0)
    max_header_bytes: int = 64 * 1024
    max_headers: int = 100
    max_target_bytes: int = 8 * 1024
    max_tiny_chunks: int = 64 * 1024
    max_turn: Seconds = Seconds(0.001)
    max_body_size: int | None = DEFAULT_MAX_BODY
    min_rate: int = 240
    min_rate_grace: OptionalSeconds = OptionalSeconds(5.0)
    trust_scheme: bool = False
    send_timeout: OptionalSeconds = OptionalSeconds(30.0)
    half_closed_timeout: OptionalSeconds = OptionalSeconds(30.0)
    settings_timeout: OptionalSeconds = OptionalSeconds(10.0)
    read_buffer: int = 64 * 1024

    def __post_init__(self) -> None:
        for name, (least, most) in _COUNTS.items():
            positive(getattr(self, name), name, least=least, most=most)
        positive(self.min_rate, "min_rate", least=0)
        if self.h2_max_header_list_size is not None:
            name, most = "h2_max_header_list_size", 1 << 24
            positive(self.h2_max_header_list_size, name, least=1024, most=most)
        if self.max_body_size is not None:
            positive(self.max_body_size, "max_body_size")
        if self.max_connections is not None:
            positive(self.max_connections, "max_connections")
        object.__setattr__(self, "alpn", _alpn(self.alpn))


def _alpn(protocols: Sequence[str]) -> tuple[str, ...]:
    if isinstance(protocols, str):
        msg = f'alpn takes a sequence of protocols: write ("{protocols}",)'
        raise ConfigError(msg)
    names = tuple(protocols)
    if (
        not names
        or not set(names) <= {"h2", "http/1.1"}
        or len(set(names)) < len(names)
    ):
        msg = f'alpn takes "h2" and "http/1.1", each at most once, not {names!r}'
        raise ConfigError(msg)
    return names
