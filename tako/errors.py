"""Every exception that tako raises, as one tree.

    TakoError
    ├─ ConfigError (ValueError)          the developer's mistake, found before serving
    │   ├─ RouteConflictError
    │   └─ TlsConfigError
    ├─ HttpError(status)                 answerable; a handler may raise it
    ├─ ProtocolError                     never raised itself
    │   ├─ LocalProtocolError            the app broke a rule
    │   └─ RemoteProtocolError           the peer broke a rule
    │       └─ ProxyProtocolError
    ├─ Disconnected                      the peer is gone
    ├─ ConnectError(step, origin, wire)  no WebSocket could be opened
    │   ├─ DialError (OSError)           no address took the connection
    │   ├─ ProxyError(status)            no proxy took us to the server
    │   ├─ TlsError                      ``__cause__`` is that of ``ssl``
    │   ├─ HandshakeRejected(status)     the server answered, and said no
    │   ├─ HandshakeInvalid              it broke a rule of the handshake
    │   ├─ Http2Unavailable              HTTP/2 was asked for, and is not there
    │   └─ ConnectTimeout (TimeoutError) it took too long
    │       └─ PoolTimeout               all connections of the client were full
    ├─ TopicsUnavailable                 what carries topics does not take a message
    └─ WsError                           ``close_code`` is the code on the wire
        ├─ ConnectionClosed(code, reason)
        ├─ ProtocolViolation             1002
        │   └─ InvalidUtf8               1007
        ├─ FrameTooBig                   1009
        └─ MessageTooBig                 1009

Errors of a peer are data inside tako: engines answer them on the wire and hand them to
the exchange concerned. They are raised only towards the handler that waits for input.
The text of an exception is for the developer and never goes on the wire.
"""

from typing import TYPE_CHECKING, cast


if TYPE_CHECKING:
    from tako.http.headers import Headers


class TakoError(Exception):
    """The base of everything tako raises on purpose."""


class ConfigError(TakoError, ValueError):
    """A configuration that cannot work; raised before anything is served."""


class RouteConflictError(ConfigError):
    """Two routes that no request could tell apart."""


class TlsConfigError(ConfigError):
    """A certificate, a key or an SSL context that cannot serve TLS."""


class HttpError(TakoError):
    """An answer in the form of an exception: raise it in a handler to send ``status``.

    Args:
        status: the HTTP status code, 400 to 599.
        detail: text for the response body; the reason phrase where empty.
        headers: further response headers, as ``(name, value)`` pairs.

    Raises:
        ValueError: ``status`` is out of that range.

    Example::

        raise HttpError(404, "no such room")
    """

    def __init__(
        self,
        status: int,
        detail: str = "",
        headers: tuple[tuple[str, str], ...] = (),
    ) -> None:
        if not 400 <= status <= 599:
            msg = f"HttpError takes a status from 400 to 599, not {status}"
            raise ValueError(msg)
        super().__init__(detail or f"HTTP status {status}")
        self.status = status
        self.detail = detail
        self.headers = headers


class ProtocolError(TakoError):
    """A rule of the wire was broken; see the two subclasses."""


class LocalProtocolError(ProtocolError):
    """The application asked for something the protocol forbids."""


class RemoteProtocolError(ProtocolError):
    """The peer sent something the protocol forbids."""


class ProxyProtocolError(RemoteProtocolError):
    """A PROXY protocol header that cannot be understood."""


class Disconnected(TakoError):  # noqa: N818 - a fact about the peer, not a fault
    """The peer is gone (connection lost or stream reset)."""


class ConnectError(TakoError):
    """``tako.connect`` could not open a WebSocket.

    Attributes:
        step: what was being done: ``"queue"``, ``"dialing"``, ``"proxy"``, ``"TLS"``,
            ``"waiting for SETTINGS"``, ``"handshake"``.
        origin: scheme, host and port, as in the URL.
        wire: ``"1.1"`` or ``"2"``; ``None``: it was not known yet.
    """

    def __init__(
        self, text: str, *, step: str, origin: str, wire: str | None = None
    ) -> None:
        super().__init__(f"{origin}: {text}")
        self.step = step
        self.origin = origin
        self.wire = wire


class DialError(ConnectError, OSError):
    """No address of the host took the connection.

    Attributes:
        errors: why, one for each address that was tried, or for its name.
    """

    errors: tuple[OSError, ...] = ()


class ProxyError(ConnectError):
    """A proxy was reached, and does not lead to the server.

    If TLS to the proxy failed, ``__cause__`` is what ``ssl`` raised.

    Attributes:
        proxy: its URL, without user and password.
        status: what it answered to CONNECT: 407 asks for credentials; ``None``: it did
            not, or is a SOCKS proxy.
        temporary: another try may do better: it could not reach the server, or the
            connection was lost.
    """

    proxy: str = ""
    status: int | None = None
    temporary: bool = False


class TlsError(ConnectError):
    """The TLS handshake failed; ``__cause__`` is what ``ssl`` raised.

    Among those is ``ssl.SSLCertVerificationError``: the server is not trusted.
    """


class HandshakeRejected(ConnectError):  # noqa: N818 - a fact, not a fault
    """The server answered the handshake with another status than 101, or 2xx on HTTP/2.

    Attributes:
        status: the status.
        headers: the fields of the answer.
        body: as much as came of its content, 4 KiB at most.
    """

    status: int = 0
    headers: "Headers"
    body: bytes = b""


class HandshakeInvalid(ConnectError):  # noqa: N818
    """The server broke a rule of the handshake, or the connection was lost in it.

    Attributes:
        temporary: another try may do better: the connection was lost, or the server
            did not get to it.
    """

    temporary: bool = False


class Http2Unavailable(ConnectError):  # noqa: N818
    """``http_versions`` excludes HTTP/1.1, and there is no WebSocket over HTTP/2."""


class ConnectTimeout(ConnectError, TimeoutError):  # noqa: N818
    """``open_timeout`` is over; ``step`` says what took too long."""


class PoolTimeout(ConnectTimeout):
    """``open_timeout`` is over, and all connections of the ``Client`` are still full.

    A server says how many WebSockets a connection of HTTP/2 may have; ``Client`` says
    how many connections there may be.
    """


class TopicsUnavailable(TakoError):  # noqa: N818 - a fact about the engine
    """A message could not be published: the engine of topics is not reached."""


class WsError(TakoError):
    """The end of a WebSocket conversation; ``close_code`` says how (RFC 6455 §7.4)."""

    close_code: int = 1006


class ConnectionClosed(WsError):  # noqa: N818 - its name in other libraries
    """The WebSocket conversation is over.

    Args:
        code: the close code; 1005 if the Close frame had none, 1006 if
            there was no Close frame (RFC 6455 §7.1.5).
        reason: the peer's reason, possibly empty; with 1006, what is known of why.
    """

    def __init__(self, code: int = 1006, reason: str = "") -> None:
        super().__init__(f"{code} {reason}".rstrip())
        self.close_code = code
        self.code = code
        self.reason = reason


class ProtocolViolation(WsError):  # noqa: N818
    """The peer broke RFC 6455: the conversation fails with 1002."""

    close_code = 1002


class InvalidUtf8(ProtocolViolation):
    """Text that is not UTF-8: 1007 (RFC 6455 §8.1)."""

    close_code = 1007


class FrameTooBig(WsError):  # noqa: N818
    """A frame announces more than ``max_frame_size`` bytes: 1009."""

    close_code = 1009


class MessageTooBig(WsError):  # noqa: N818
    """A message grows beyond ``max_message_size`` bytes: 1009."""

    close_code = 1009


def consists_of(error: BaseException, kind: type[BaseException]) -> bool:
    """Return whether ``error`` is a ``kind``, or a group of nothing else."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return group.split(kind)[1] is None
    return isinstance(error, kind)
