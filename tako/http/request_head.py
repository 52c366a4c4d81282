"""``RequestHead``: a request head that was accepted, on either wire."""

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from tako.http.headers import RawHeader


HttpVersion: TypeAlias = Literal["1.0", "1.1", "2"]

FORWARDED: Final = frozenset(
    [
        b"forwarded",  # RFC 7239
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-proto",
    ]
)
"""Fields in which proxies say where a request comes from; any client can write them."""


@dataclass(slots=True, init=False)
class RequestHead:
    """What a client asks for; several requests may share one.

    Attributes:
        method: the method; of an extended CONNECT (RFC 8441) the ``GET`` it replaces.
        target: path and query, or ``*``, whatever form the client used.
        version: ``"1.0"``, ``"1.1"`` or ``"2"``.
        fields: all fields in order, names in lower case; ``host`` is ``authority``.
        authority: host and port; ``None`` only in HTTP/1.0.
        scheme: what the request itself names, else ``None``.
        length: the body's length; ``None`` if it is not announced.
        expects_continue: the client waits for ``100`` before it sends the body.
        websocket: the client asks for a WebSocket: by Upgrade, or extended CONNECT.
        forwarded: one of ``FORWARDED`` is among the fields.
        persistent: HTTP/1: the client allows further requests on the connection.
    """

    method: str
    target: str
    version: HttpVersion
    fields: list[RawHeader]
    authority: str | None
    scheme: str | None
    length: int | None
    expects_continue: bool
    websocket: bool
    forwarded: bool
    persistent: bool

    def __init__(  # noqa: PLR0917 - by name it takes twice as long
        self,
        method: str,
        target: str,
        version: HttpVersion,
        fields: list[RawHeader],
        authority: str | None,
        scheme: str | None,
        length: int | None,
        expects_continue: bool,
        websocket: bool,
        forwarded: bool,
        persistent: bool = True,
    ) -> None:
        # Written out: what ``dataclass`` makes at run time is not compiled
        self.method = method
        self.target = target
        self.version = version
        self.fields = fields
        self.authority = authority
        self.scheme = scheme
        self.length = length
        self.expects_continue = expects_continue
        self.websocket = websocket
        self.forwarded = forwarded
        self.persistent = persistent

    @property
    def has_body(self) -> bool:
        """A body of at least one byte is announced, or one of unknown length."""
        return self.length != 0


def with_host(fields: list[RawHeader], authority: bytes) -> list[RawHeader]:
    """Return ``fields`` with ``host`` saying ``authority``: where it was, else first.

    RFC 9112 §3.2.2: a received Host is ignored where the target has an
    authority. So a handler reads from the field the host that the client asked for.
    """
    host = (b"host", authority)
    if b"host" not in [name for name, _ in fields]:
        return [host, *fields]
    return [host if field[0] == b"host" else field for field in fields]
