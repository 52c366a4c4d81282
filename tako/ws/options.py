"""The options of a WebSocket route.

Theory of operation. An option is a field of ``WsOptions``: its default, the check that
makes a value of it, and what it means stand there and nowhere else. ``WsKeywords`` says
the same to type checkers, as a user writes it. ``TakoWs`` has a method for each.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias, TypedDict, Unpack, cast

from tako.config import Duration, OptionalSeconds, positive, seconds
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

    Without ``auto`` this is a hint that the session finds in ``ws.keep_alive``: tako
    sends no Pings, they are the session's. With it the client itself is asked, also
    behind a proxy that speaks HTTP/2 with the server. Either takes the place of
    ``ServerConfig.ws_ping_interval`` and ``ws_ping_timeout`` on its route.

    Attributes:
        ping_interval: seconds of silence before a Ping; ``None``: no Pings.
        pong_timeout: seconds to wait for any answer; ``None``: as long as it takes.
        auto: tako sends the Pings and ends the session when no answer comes.

    Raises:
        ConfigError: a duration is not positive, or ``auto`` lacks ``ping_interval``.

    Example::

        TakoWs(request, session, keep_alive=WsKeepAlive(20, 20, auto=True))
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

    It costs memory and CPU per session, and an observer can guess secrets that share a
    message with text of an attacker's choice. So it is off by default.

    Attributes:
        server_window_bits: log2 of the server's window, 9 to 15; the client may ask for
            less.
        client_window_bits: the same of the client's window, if the client lets us
            choose.
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
        our_window_bits: of what we send, for ``Deflater``.
        their_window_bits: of what the peer sends, for ``Inflater``.
        our_no_context_takeover: we start every message afresh.
        their_no_context_takeover: the peer does.
        mem_level: zlib's ``memLevel`` for ``Deflater``.
        threshold: messages of fewer bytes are sent uncompressed.
    """

    our_window_bits: int = 15
    their_window_bits: int = 15
    our_no_context_takeover: bool = False
    their_no_context_takeover: bool = False
    mem_level: int = 8
    threshold: int = 0


def _protocols(names: object, name: str) -> tuple[str, ...]:
    protocols = _strings(names, name, "chat")
    for each in protocols:
        if not is_token(each.encode("utf-8", "surrogatepass")):  # RFC 6455 §4.1
            msg = (
                f"{name}: {each!r} is not a token (RFC 9110 §5.6.2): use letters, "
                "digits and -._~!#$%&'*+^`| only"
            )
            raise ConfigError(msg)
    return protocols


def _origins(origins: object, name: str) -> frozenset[str]:
    entries = _strings(origins, name, "https://app.example.com")
    try:
        return frozenset(map(normalize_allowed, entries))
    except ValueError as error:
        msg = f"{name}: {error}"
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


def _a_keep_alive(value: object, name: str) -> WsKeepAlive:
    if isinstance(value, WsKeepAlive):
        return value
    msg = (
        f"{name} takes a WsKeepAlive, not {type(value).__name__}: "
        "write WsKeepAlive(ping_interval=20)"
    )
    raise TypeError(msg)


def _a_deflate(value: object, name: str) -> Deflate:
    if isinstance(value, Deflate):
        return value
    msg = f"{name} takes a Deflate or None, not {value!r}: write {name}=Deflate()"
    raise TypeError(msg)


_Check: TypeAlias = Callable[[Any, str], object]


def _checked(check: _Check) -> Mapping[str, _Check]:
    """Return the metadata of a field whose values ``check`` makes, given its name."""
    return {"check": check}


@dataclass(frozen=True, kw_only=True)
class WsOptions:
    """The options of a route, and what the handshake agreed on; checked when made.

    ``None`` is the default of any option. A value is checked and brought into its
    normal form: durations become seconds, origins ASCII in lower case.

    Raises:
        ConfigError: a value that cannot work.
        TypeError: a value of the wrong type, such as one string where several belong.
    """

    protocols: tuple[str, ...] = field(default=(), metadata=_checked(_protocols))
    """Subprotocols in the server's order of preference; none: no negotiation."""
    max_frame_size: int = field(default=DEFAULT_MAX_SIZE, metadata=_checked(positive))
    """Most payload bytes of one received frame."""
    max_message_size: int = field(default=DEFAULT_MAX_SIZE, metadata=_checked(positive))
    """Most bytes of one received message, after decompression."""
    allowed_origins: frozenset[str] | None = field(
        default=None, metadata=_checked(_origins)
    )
    """Origins that may connect; others, and requests without one, get 403. ``None``:
    any. A host may be written in Unicode."""
    upgrade_timeout: float | None = field(default=None, metadata=_checked(seconds))
    """Seconds for the handshake's response to be written."""
    max_lifetime: float | None = field(default=None, metadata=_checked(seconds))
    """Seconds that the session may last."""
    keep_alive: WsKeepAlive | None = field(
        default=None, metadata=_checked(_a_keep_alive)
    )
    """How to find out that the peer is gone; ``None``: as ``ServerConfig`` says."""
    compression: Deflate | None = field(default=None, metadata=_checked(_a_deflate))
    """Allow permessage-deflate; ``None``: off."""

    subprotocol: str | None = None
    """The subprotocol that was agreed on, if any."""
    deflate: DeflateParams | None = None
    """The compression that was agreed on; ``None``: none."""

    def __post_init__(self) -> None:
        for name in _CHECKS:
            vars(self)[name] = _normal_form(name, vars(self)[name])

    def replaced(self, **options: Unpack["WsKeywords"]) -> "WsOptions":
        """Return a copy with other ``options``, which alone are checked.

        Raises:
            ConfigError: a value that cannot work.
            TypeError: a value of the wrong type, or no option has this name.
        """
        return self._copy(
            {name: _normal_form(name, value) for name, value in options.items()}
        )

    def agreed(
        self, subprotocol: str | None, deflate: DeflateParams | None
    ) -> "WsOptions":
        """Return a copy that also says what the handshake agreed on."""
        if subprotocol is None and deflate is None:
            return self
        return self._copy({"subprotocol": subprotocol, "deflate": deflate})

    def _copy(self, changes: dict[str, Any]) -> "WsOptions":
        # dataclasses.replace takes 13 us, and it would check everything again
        made = object.__new__(WsOptions)
        vars(made).update(vars(self), **changes)
        return made


_CHECKS: dict[str, tuple[object, _Check]] = {
    each.name: (each.default, each.metadata["check"])
    for each in fields(WsOptions)
    if each.metadata
}


def _normal_form(name: str, value: object) -> object:
    if name not in _CHECKS:
        msg = f"{name} is no option of a WebSocket; there are {', '.join(_CHECKS)}"
        raise TypeError(msg)
    default, check = _CHECKS[name]
    return default if value is None or value is default else check(value, name)


class WsKeywords(TypedDict, total=False):
    """The options as ``TakoWs`` takes them; ``WsOptions`` says what they mean."""

    protocols: Iterable[str] | None
    max_frame_size: int | None
    max_message_size: int | None
    allowed_origins: Iterable[str] | None
    upgrade_timeout: Duration | None
    max_lifetime: Duration | None
    keep_alive: WsKeepAlive | None
    compression: Deflate | None
