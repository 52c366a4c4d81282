"""What parts of a connection say of themselves: values, for those who only look.

Each part has a ``describe``, which costs nothing until it is called. A *place* is where
a stream of bytes stands between two calls, so that a reader can begin in the midst.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from tako.http.conn_info import ConnInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where received bytes stand: within a frame, or between two.

    Attributes:
        left: bytes still to come of the payload in progress, which come first.
        held: bytes behind those that are here, but not read.
        stream: the stream that a payload in progress is for; 0 where there is none.
        fields: those that are in the table for header fields (RFC 7541 §2.3.2), the
            youngest first.
        queued: bytes of output that wait for a window, by stream.
    """

    left: int = 0
    held: bytes = b""
    stream: int = 0
    fields: tuple[tuple[bytes, bytes], ...] = ()
    queued: Mapping[int, int] = field(default_factory=dict[int, int])


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamView:
    """A request and its answer, or the tunnel that it became.

    Attributes:
        stream: the number of the stream; 0 on HTTP/1.1.
        state: how far it is.
        queued: bytes of output that wait for a window.
        send_window: bytes that the peer has room for; ``None`` on HTTP/1.1.
        receive_window: bytes that the peer may send; ``None`` on HTTP/1.1.
    """

    stream: int
    state: str
    queued: int = 0
    send_window: int | None = None
    receive_window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineView:
    """One protocol on one connection.

    Attributes:
        phase: how far it is.
        streams: requests that the peer has begun so far; ``None`` on HTTP/1.1.
        send_window: bytes that the peer has room for; ``None`` on HTTP/1.1.
        receive_window: bytes that the peer may send; ``None`` on HTTP/1.1.
    """

    phase: str
    streams: int | None = None
    send_window: int | None = None
    receive_window: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketView:
    """A WebSocket.

    Attributes:
        since: when it was opened, by the clock of its connection.
        inbound: what is expected of the peer.
        outbound: what may still be sent.
        waiting: messages that wait for the session.
        weight: bytes of memory that they cost.
        latency: the last round trip, in seconds; ``None``: there was none.
        compressed: permessage-deflate was agreed on.
        code: the code that it was closed with; ``None``: it is open.
        by: whose Close came first; ``""``: there was none.
        reason: the peer's.
    """

    since: float
    inbound: str
    outbound: str
    waiting: int
    weight: int
    latency: float | None
    compressed: bool
    code: int | None
    by: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionView:
    """One connection.

    Attributes:
        state: how far it is.
        info: its ends, and what it runs over; ``None``: it is in the TLS handshake.
        unsent: bytes of output that the socket has not taken.
        reading: what the peer sends is read.
        engine: its protocol; ``None``: it is not known yet, or the connection is lost.
    """

    state: str
    info: "ConnInfo | None"
    unsent: int
    reading: bool
    engine: EngineView | None
