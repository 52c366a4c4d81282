"""The options of a WebSocket route: what they are, and what is wrong with the rest."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

from tako.config import OptionalSeconds, positive
from tako.errors import ConfigError
from tako.http.grammar import is_token
from tako.ws.origin import normalize_allowed


DEFAULT_MAX_SIZE = 16 << 20  # bytes, of a frame and of a message


def _flag(value: object, name: str) -> None:
    if not isinstance(value, bool):
        msg = f"{name} takes True or False, not {value!r}"
        raise ConfigError(msg)


@dataclass(frozen=True)
class WsKeepAlive:
    """How to find out that a peer is gone. Durations are seconds or timedeltas.

    Without ``auto`` this is a hint that the session finds in ``ws.keep_alive``.

    Attributes:
        ping_interval: seconds of silence before a Ping; ``None``: no Pings.
        pong_timeout: seconds to wait for any answer; ``None``: as long as it takes.
        auto: tako sends the Pings and ends the session when no answer comes.

    Raises:
        ConfigError: a duration is not positive, or ``auto`` lacks ``ping_interval``.
    """

    # Descriptors, which hold no state of their own:
    ping_interval: OptionalSeconds = OptionalSeconds(None)  # noqa: RUF009
    pong_timeout: OptionalSeconds = OptionalSeconds(None)  # noqa: RUF009
    auto: bool = False

    def __post_init__(self) -> None:
        _flag(self.auto, "auto")
        if self.auto and self.ping_interval is None:
            msg = (
                "auto=True needs ping_interval: write "
                "WsKeepAlive(ping_interval=20, auto=True)"
            )
            raise ConfigError(msg)


NO_KEEP_ALIVE = WsKeepAlive()


@dataclass(frozen=True, slots=True)
class Deflate:
    """Allow permessage-deflate (RFC 7692) on a route.

    Compression costs memory and CPU per session, and it lets an observer guess
    secrets that share a message with text of an attacker's choice; so it is off unless
    asked for.

    Attributes:
        server_window_bits: log2 of our window, 9 to 15; the client may ask for less.
        client_window_bits: the same for the client's, if it lets us choose.
        mem_level: zlib's ``memLevel`` for our side, 1 to 9: memory against speed.
        no_context_takeover: start every message afresh, in both directions: no memory
            between messages, less compression.
        threshold: messages of fewer bytes are sent uncompressed.

    Raises:
        ConfigError: a value is out of its range.
    """

    server_window_bits: int = 12
    client_window_bits: int = 12
    mem_level: int = 5
    no_context_takeover: bool = False
    threshold: int = 64

    def __post_init__(self) -> None:
        # RFC 7692 §7.1.2 allows 8 as well, which zlib cannot compress to.
        positive(self.server_window_bits, "server_window_bits", least=9, most=15)
        positive(self.client_window_bits, "client_window_bits", least=9, most=15)
        positive(self.mem_level, "mem_level", least=1, most=9)
        _flag(self.no_context_takeover, "no_context_takeover")
        positive(self.threshold, "threshold", least=0)


@dataclass(frozen=True, slots=True)
class DeflateParams:
    """What both sides agreed on (RFC 7692 §7.1), and the route's own settings.

    Attributes:
        server_window_bits: our window, for ``Deflater``.
        client_window_bits: the client's, for ``Inflater``.
        server_no_context_takeover: we start every message afresh.
        client_no_context_takeover: the client does.
        mem_level: zlib's ``memLevel`` for ``Deflater``.
        threshold: messages of fewer bytes are sent uncompressed.
    """

    server_window_bits: int = 15
    client_window_bits: int = 15
    server_no_context_takeover: bool = False
    client_no_context_takeover: bool = False
    mem_level: int = 8
    threshold: int = 0


@dataclass(frozen=True, slots=True)
class WsOptions:
    """What a session needs to know once the handshake is done.

    Attributes:
        max_frame_size: most payload bytes of one received frame.
        max_message_size: most bytes of one received message, after decompression.
        upgrade_timeout: seconds for the handshake response to be written.
        max_lifetime: seconds that the session may last.
        keep_alive: the route's keep-alive settings.
        subprotocol: what was agreed on, if anything.
        deflate: what was agreed on, ``None``: no compression.
    """

    max_frame_size: int = DEFAULT_MAX_SIZE
    max_message_size: int = DEFAULT_MAX_SIZE
    upgrade_timeout: float | None = None
    max_lifetime: float | None = None
    keep_alive: WsKeepAlive = NO_KEEP_ALIVE
    subprotocol: str | None = None
    deflate: DeflateParams | None = None


def checked_keep_alive(value: object) -> WsKeepAlive:
    """Return ``value`` if it is a ``WsKeepAlive``.

    Raises:
        TypeError: it is not.
    """
    if isinstance(value, WsKeepAlive):
        return value
    msg = (
        f"keep_alive takes a WsKeepAlive, not {type(value).__name__}: "
        "write WsKeepAlive(ping_interval=20)"
    )
    raise TypeError(msg)


def checked_compression(value: object) -> Deflate | None:
    """Return ``value`` if it is a ``Deflate`` or ``None``.

    Raises:
        TypeError: it is neither.
    """
    if value is None or isinstance(value, Deflate):
        return value
    msg = (
        f"compression takes a Deflate or None, not {value!r}: "
        "write compression=Deflate()"
    )
    raise TypeError(msg)


def checked_protocols(names: Iterable[str]) -> tuple[str, ...]:
    """Return subprotocol names in the server's order of preference.

    Raises:
        TypeError: a bare string, or a member that is none.
        ConfigError: a name is not a token (RFC 6455 §4.1).
    """
    protocols = _strings(names, "protocols", "chat")
    for name in protocols:
        if not is_token(name.encode("utf-8", "surrogatepass")):
            msg = (
                f"protocols: {name!r} is not a token (RFC 9110 §5.6.2): use letters, "
                "digits and -._~!#$%&'*+^`| only"
            )
            raise ConfigError(msg)
    return protocols


def checked_origins(origins: Iterable[str]) -> frozenset[str]:
    """Return an allow-list in normal form.

    Raises:
        TypeError: a bare string, or a member that is none.
        ConfigError: an entry names no single origin.
    """
    entries = _strings(origins, "allowed_origins", "https://app.example.com")
    try:
        return frozenset(map(normalize_allowed, entries))
    except ValueError as error:
        msg = f"allowed_origins: {error}"
        raise ConfigError(msg) from None


def _strings(values: object, name: str, example: str) -> tuple[str, ...]:
    """Return ``values`` as a tuple; a bare string would iterate its characters."""
    if isinstance(values, (str, bytes)):
        msg = f"{name} takes several strings, not one: write [{values!r}]"
        raise TypeError(msg)
    if not isinstance(values, Iterable):
        msg = (
            f"{name} takes several strings, not {type(values).__name__}: "
            f"write [{example!r}]"
        )
        raise TypeError(msg)
    members: list[str] = []
    for member in cast("Iterable[object]", values):
        if not isinstance(member, str):
            msg = f"{name} takes strings, not {type(member).__name__} ({member!r})"
            raise TypeError(msg)
        members.append(member)
    return tuple(members)
