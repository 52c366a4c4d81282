"""``ServerConfig`` and its parts: frozen, keyword-only, validated at construction.

An option is one field: its default and range in the call on its line, its help in the
string below it, which editors show and the command prints. ``WireConfig`` has what one
connection needs, whatever its role; ``ServerConfig`` adds what only a server has.
"""

import dataclasses
import ipaddress
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import (
    Any,
    Literal,
    NamedTuple,
    TypeAlias,
    TypeVar,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    overload,
)

from tako.errors import ConfigError


Duration: TypeAlias = float | timedelta
"""A time span: seconds as a number, or a ``timedelta``."""

T = TypeVar("T")

_HUGE = 2**63
# RFC 3986 §3.3
_PATH = re.compile(r"/([\w\-.~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*", re.ASCII)


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


def positive(value: int, name: str, *, least: int = 1, most: int = _HUGE) -> int:
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
    """``Seconds`` for a field that may also be ``None``, which switches it off."""

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


class Range(NamedTuple):
    """The integers that a field takes.

    Attributes:
        least: the smallest.
        most: the largest.
        none: whether ``None``, which switches it off, is taken as well.
    """

    least: int
    most: int
    none: bool

    @property
    def bounded(self) -> bool:
        """Whether ``most`` is a limit of its own, not only a bound on any integer."""
        return self.most < _HUGE


@overload
def count(default: int, least: int = 1, most: int = _HUGE) -> int: ...


@overload
def count(
    default: int | None, least: int = 1, most: int = _HUGE, *, none: Literal[True]
) -> int | None: ...


def count(
    default: int | None, least: int = 1, most: int = _HUGE, *, none: bool = False
) -> Any:
    """Return a dataclass field that takes an integer; ``check_counts`` checks it.

    Args:
        default: the value where none is given.
        least: the smallest integer that is taken.
        most: the largest.
        none: whether ``None`` is taken as well.
    """
    return dataclasses.field(
        default=default, metadata={"range": Range(least, most, none)}
    )


def range_of(field: dataclasses.Field[Any]) -> Range | None:
    """Return what a field takes that ``count`` made; ``None`` for any other."""
    found: Range | None = field.metadata.get("range")
    return found


def check_counts(config: Any) -> None:
    """Check every field of a dataclass that ``count`` made; for ``__post_init__``.

    Raises:
        ConfigError: a value is no integer, or out of its range.
    """
    for field in dataclasses.fields(config):
        allowed = range_of(field)
        value: Any = getattr(config, field.name)
        if allowed is not None and not (value is None and allowed.none):
            number = cast("int", value)
            positive(number, field.name, least=allowed.least, most=allowed.most)


def choices_of(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    """Return the texts of which a field takes one; none for any other field."""
    return get_args(field.type) if get_origin(field.type) is Literal else ()


def check_choices(config: Any) -> None:
    """Check every field of a dataclass that is a ``Literal``; for ``__post_init__``.

    Raises:
        ConfigError: a value is none of those that the field takes.
    """
    for field in dataclasses.fields(config):
        choices = choices_of(field)
        value: Any = getattr(config, field.name)
        if choices and value not in choices:
            known = " or ".join(map(repr, choices))
            msg = f"{field.name} is {known}, not {value!r}"
            raise ConfigError(msg)


@dataclass(frozen=True, kw_only=True)
class AcceptBackoff:
    """How long to wait after ``accept()`` failed: doubling from ``initial`` to ``max``.

    Both are seconds or timedeltas, and read back as float seconds.

    Raises:
        ConfigError: a value is not a positive time, or ``max`` is below ``initial``.
    """

    initial: Seconds = Seconds(0.005)
    max: Seconds = Seconds(1.0)

    def __post_init__(self) -> None:
        if self.max < self.initial:
            msg = f"max ({self.max} s) must not be below initial ({self.initial} s)"
            raise ConfigError(msg)


DEFAULT_MAX_BODY = 16 * 1024 * 1024  # bytes


@dataclass_transform(kw_only_default=True)
def _options(cls: type[T]) -> type[T]:
    """Make a class of options: a frozen dataclass that can be inherited from.

    Checkers are not told that it is frozen: mypy (2.4) would give the fields that a
    frozen dataclass inherits the types that they are set with, so ``Duration`` to
    ``Seconds``.
    """
    return dataclass(frozen=True, kw_only=True)(cls)


@_options
class WireConfig:
    """The limits, windows and timeouts of a connection, whichever side it is.

    Durations are seconds or timedeltas, must be positive, and read back as float
    seconds; those that may be ``None`` are then off. Sizes are bytes.

    Raises:
        ConfigError: a value is of another type, or out of its range.
    """

    alpn: Sequence[str] = ("h2", "http/1.1")
    """Protocols offered over TLS, in order of preference."""

    tls_handshake_timeout: Seconds = Seconds(10.0)
    """Time for a complete TLS handshake."""

    tls_max_idle_records: int = count(32, 1, 1 << 20)
    """TLS records without data (empty ones, KeyUpdates), less those with data, before
    the connection is closed."""

    tls_shutdown_timeout: Seconds = Seconds(3.0)
    """How long to wait for the peer's close_notify and FIN once ours are sent."""

    header_read_timeout: OptionalSeconds = OptionalSeconds(30.0)
    """Time for a complete request head."""

    keep_alive: bool = True
    """Whether HTTP/1.1 connections carry more than one request."""

    keep_alive_timeout: OptionalSeconds = OptionalSeconds(None)
    """Idle time between requests; ``None``: ``header_read_timeout``."""

    max_header_bytes: int = count(64 * 1024, 256, 1 << 24)
    """Size of a request head; on HTTP/2, the size that it would have on HTTP/1.1."""

    max_headers: int = count(100, 1, 10_000)
    """Number of header fields."""

    max_target_bytes: int = count(8 * 1024, 16, 1 << 20)
    """Length of a request target."""

    max_tiny_chunks: int = count(64 * 1024, 1, 1 << 30)
    """Chunks of fewer than 32 bytes in a chunked body, less what larger ones make up
    for, before it is refused with 400."""

    max_body_size: int | None = count(DEFAULT_MAX_BODY, none=True)
    """Bytes of a request body that ``Request.body``, ``text``, ``json`` and ``form``
    take without a ``limit`` of their own, and of a part that ``Part.read`` takes; more
    is 413; ``None``: any. ``Request.stream`` and ASGI apps read as much as comes."""

    read_buffer: int = count(64 * 1024, 1024, 1 << 24)
    """Bytes that HTTP/1.1 keeps unread before it stops reading; what came in one read
    of the socket may be more."""

    send_timeout: OptionalSeconds = OptionalSeconds(30.0)
    """Seconds that a response may wait without any progress."""

    max_turn: Seconds = Seconds(0.001)
    """Time that the input of one connection is worked on at a stretch; then others have
    their turn. It begins after the first 256 units of work, a third of a
    millisecond."""

    h2_max_concurrent_streams: int = count(100, 1, 10_000)
    """Advertised and enforced; also bounds running handlers. So it bounds what one peer
    can make the server hold: for each stream ``h2_initial_window_size`` bytes received
    and ``h2_max_send_buf_size`` to be sent, beside a few KiB of its own."""

    h2_max_header_list_size: int | None = count(None, 1024, 1 << 24, none=True)
    """Bytes, advertised and enforced with 431; counted as in RFC 9113 §6.5.2, but all
    cookies are one field. ``None``: no limit beside ``max_header_bytes`` and
    ``max_headers``; what fits them is advertised."""

    h2_max_send_buf_size: int = count(64 * 1024, 1, 2**31 - 1)
    """Bytes queued for one stream before its producer waits."""

    h2_initial_window_size: int = count(256 * 1024, 1, 2**31 - 1)
    """Receive window of a stream, credited on consumption."""

    h2_keep_alive_interval: OptionalSeconds = OptionalSeconds(None)
    """Seconds of silence before a PING is sent; ``None``: never."""

    settings_timeout: OptionalSeconds = OptionalSeconds(10.0)
    """Seconds for the acknowledgement of our HTTP/2 SETTINGS."""

    ws_close_timeout: Seconds = Seconds(10.0)
    """How long to wait for a peer's Close (and end of stream); in a shutdown a session
    is cancelled a second after that."""

    ws_ping_interval: OptionalSeconds = OptionalSeconds(20.0)
    """Seconds without a byte from the peer of a WebSocket before it is asked whether it
    is there: by a Ping, or by one HTTP/2 PING for all of a connection, which a proxy
    answers itself. The keep-alive of a route goes before. ``None``: never."""

    ws_ping_timeout: OptionalSeconds = OptionalSeconds(20.0)
    """Seconds without a byte from the peer, once it was asked, before it is lost: code
    1006. Both are up to a tenth of the shorter one late. ``None``: never."""

    def __post_init__(self) -> None:
        check_counts(self)
        check_choices(self)
        object.__setattr__(self, "alpn", _alpn(self.alpn))


@_options
class ServerConfig(WireConfig):
    """Everything about a server that is not its routes or its certificate.

    Durations are seconds or timedeltas, must be positive, and read back as float
    seconds; those that may be ``None`` are then off. Sizes are bytes.

    Raises:
        ConfigError: a value is of another type, or out of its range.

    Example::

        config = tako.ServerConfig(drain_timeout=10, max_body_size=1 << 20)
        await tako.serve("127.0.0.1:8080", router, config=config)
    """

    drain_timeout: Seconds = Seconds(30.0)
    """How long a shutdown waits, after ``drain_delay``, before it cuts connections;
    leaving the lifespan has what is then left of it, and a second in any case."""

    drain_delay: OptionalSeconds = OptionalSeconds(None)
    """Seconds at the beginning of a shutdown in which all goes on as before, new
    connections included: until a balancer has noticed that ``health_path`` answers 503.
    ``None``: nothing more is accepted at once."""

    drain_websockets: Literal["now", "end"] = "now"
    """When a shutdown tells WebSockets to close (1001): ``now``, at the beginning of
    the drain; or at its ``end``: until then they run on, and it ends early with the
    last. They are then told for the last tenth of ``drain_timeout``, at most
    ``ws_close_timeout``."""

    health_path: str | None = None
    """Path at which the server itself says whether it is well, before the app and
    whatever the host and scheme: 200; or 503 once a shutdown has begun, while the event
    loop is late by ``health_lag``, and when ``serve(healthy=...)`` says so. Just this
    path, as it is written; a query makes no difference. ``None``: there is none."""

    health_lag: OptionalSeconds = OptionalSeconds(5.0)
    """Seconds that the event loop may be late by, because a handler blocks it, before
    ``health_path`` answers 503. ``None``: any."""

    max_connections: int | None = count(None, none=True)
    """Connections served at once; ``None``: no limit."""

    accept_backoff: AcceptBackoff = AcceptBackoff()
    """Pauses after a failed ``accept()``."""

    max_tls_handshakes: int = count(1000, 1, 1 << 20)
    """TLS handshakes in progress at once."""

    keylog: str | None = None
    """File to which the secrets of TLS connections are appended, in the format of
    ``SSLKEYLOGFILE``, so that Wireshark can read along. For development: who can read
    the file can read the traffic. ``None``: no secret is written."""

    proxy_read_timeout: Seconds = Seconds(10.0)
    """Time for a complete PROXY header."""

    max_proxy_header: int = count(4096, 232, 65_535)
    """Largest PROXY v2 header."""

    trust_scheme: bool = False
    """Trust the scheme that a request names (``:scheme``, or a target in
    absolute-form); without it the scheme is that of the connection. For servers that
    only proxies can reach, and only if those set it themselves."""

    forwarded_allow_ips: Sequence[str] | None = ("127.0.0.0/8", "::1", "unix")
    """Proxies whose ``X-Forwarded-For`` and ``-Proto``, or ``Forwarded``, say where a
    request comes from: addresses, networks (``10.0.0.0/8``), ``unix`` for what connects
    to a Unix socket, ``*`` for every peer, of whose fields the last entry counts.
    ``None``: no proxy."""

    forwarded_host: bool = False
    """Whether those proxies also name host, port and path prefix
    (``X-Forwarded-Host``, ``-Port`` and ``-Prefix``, ``host`` of ``Forwarded``). Only
    where they set or remove each of these fields: many pass on what a client wrote."""

    min_rate: int = count(240, 0)
    """Bytes per second that a request body or a blocked response must move at, after
    ``min_rate_grace`` seconds; 0 switches it off."""

    min_rate_grace: OptionalSeconds = OptionalSeconds(5.0)
    """Seconds before ``min_rate`` applies."""

    half_closed_timeout: OptionalSeconds = OptionalSeconds(30.0)
    """Seconds that an answer may stand still after its client has ended its sending
    direction (FIN, or TLS's close_notify), before it is given up as if the client had
    reset it: most such clients are gone. An answer that goes on reaching its client
    has no limit. ``None``: wait for ever."""

    tcp_keep_alive_idle: int | None = count(60, 1, 32_767, none=True)
    """Seconds of silence on a TCP connection before its kernel asks the peer's: finds
    hosts that are gone, for event streams and long answers. ``None``: never, unless the
    system does so anyway."""

    tcp_keep_alive_interval: int = count(10, 1, 32_767)
    """Seconds between two such questions."""

    tcp_keep_alive_count: int = count(6, 1, 127)
    """Questions without an answer before the connection is lost. Output that the peer's
    kernel does not acknowledge has as long as all of that takes together (Linux)."""

    h2_max_requests: int = count(100_000, 1, 2**30)
    """Requests on one HTTP/2 connection before a graceful GOAWAY."""

    h2_max_pending_accept_reset_streams: int = count(1000, 1, 1 << 20)
    """Resets of unanswered streams that are tolerated at once; the allowance refills by
    a thirtieth of it (at least one) a second. Beyond it the connection drains, beyond
    as many again it ends."""

    h2_reset_drain_timeout: Seconds = Seconds(5.0)
    """How long open streams may then go on."""

    h2_enable_connect_protocol: bool = True
    """Accept WebSockets over HTTP/2 (RFC 8441)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = _peers(self.forwarded_allow_ips, "forwarded_allow_ips")
        object.__setattr__(self, "forwarded_allow_ips", allowed)
        _check_path(self.health_path, "health_path")
        if self.keylog is not None and not isinstance(self.keylog, str):
            msg = f"keylog takes the name of a file, not {type(self.keylog).__name__}"
            raise ConfigError(msg)


def _check_path(path: object, option: str) -> None:
    if path is None:
        return
    if not isinstance(path, str):
        msg = f"{option} takes a path, not {type(path).__name__}"
        raise ConfigError(msg)
    if not _PATH.fullmatch(path):
        msg = (
            f'{option} begins with "/" and has neither a query nor characters that a '
            f'path encodes: "/healthz", say, not {path!r}'
        )
        raise ConfigError(msg)


def _peers(names: Sequence[str] | None, option: str) -> tuple[str, ...]:
    """Return the names of peers that are trusted, each of them checked."""
    if isinstance(names, str):
        msg = f'{option} takes a sequence of networks: write ("{names}",)'
        raise ConfigError(msg)
    allowed = () if names is None else tuple(names)
    for name in allowed:
        if name in {"*", "unix"}:
            continue
        try:
            ipaddress.ip_network(name)
        except ValueError as error:
            msg = (
                f'{option} takes addresses, networks ("10.0.0.0/8"), "unix" and "*": '
                f"{error}"
            )
            raise ConfigError(msg) from None
    return allowed


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
