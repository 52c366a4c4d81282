"""``Attempt``: one handshake, on a connection that the pool finds for it.

Theory of operation. ``run`` asks the pool and waits. The pool gives the attempt to a
``Link``, which sends its request, or tells it why there is none (``fail``). Everything
else arrives from the engine (``answered``, ``not_opened``: it is the engine's
``Opener``). Each of these may settle the attempt, once: with a ``WebSocket``, or with a
``Failure`` that says what was wrong and whether another wire may do better.

The WebSocket is made, and receives, within ``answered``: nothing that the server sends
behind its answer waits anywhere.
"""

from collections.abc import Hashable
from typing import TYPE_CHECKING, NamedTuple

from tako.client.origins import Advice
from tako.client.settings import Settings
from tako.core.error_code import ErrorCode
from tako.core.role import Role
from tako.core.seams import NotOpened, Tunnel
from tako.errors import (
    ConnectError,
    DialError,
    HandshakeInvalid,
    HandshakeRejected,
    Http2Unavailable,
    ProxyError,
)
from tako.http.answer import HandshakeResponse
from tako.http.headers import Headers
from tako.http.request import Request
from tako.runtime import ClientRuntime
from tako.ws.client_handshake import check_response, h1_head, h2_fields, new_key
from tako.ws.conversation import Conversation
from tako.ws.websocket import WebSocket


if TYPE_CHECKING:
    from tako.client.link import Link
    from tako.client.pool import Pool
    from tako.http.headers import RawHeader

_ABORT_TIMEOUT = 1.0  # seconds until the loop has closed a socket that is dropped
_INSTEAD_OF_H2 = frozenset({405, 501})  # of servers that know no extended CONNECT


class Failure(NamedTuple):
    """Why there is no WebSocket; each attempt that it concerns raises its own error."""

    kind: type[ConnectError]
    text: str
    step: str
    wire: str | None
    advice: Advice = Advice.GIVE_UP
    temporary: bool = False
    causes: tuple[Exception, ...] = ()
    response: HandshakeResponse | None = None
    proxy: str = ""
    proxy_status: int | None = None

    def error(self, origin: str) -> ConnectError:
        """Return the error to raise."""
        made = self.kind(self.text, step=self.step, origin=origin, wire=self.wire)
        if self.causes:
            made.__cause__ = self.causes[0]
        if isinstance(made, DialError):
            made.errors = tuple(e for e in self.causes if isinstance(e, OSError))
        elif isinstance(made, HandshakeInvalid):
            made.temporary = self.temporary
        elif isinstance(made, ProxyError):
            made.proxy, made.status = self.proxy, self.proxy_status
            made.temporary = self.temporary
        elif isinstance(made, HandshakeRejected) and self.response is not None:
            made.status, made.headers = self.response.status, self.response.headers
            made.body = self.response.body
        return made


_ADVICE = {
    NotOpened.UNSUPPORTED: Advice.USE_H1,
    NotOpened.RESET: Advice.TRY_H1,
    NotOpened.LOST: Advice.TRY_H1,
    NotOpened.REFUSED: Advice.AGAIN,
}
_TEMPORARY = frozenset({NotOpened.LOST, NotOpened.REFUSED, NotOpened.CANCELLED})


def unopened(why: NotOpened, text: str, step: str, wire: str | None) -> Failure:
    """Return what it means that there is no answer."""
    return Failure(
        Http2Unavailable if why is NotOpened.UNSUPPORTED else HandshakeInvalid,
        text,
        step,
        wire,
        Advice.GIVE_UP if wire == "1.1" else _ADVICE.get(why, Advice.GIVE_UP),
        temporary=why in _TEMPORARY,
    )


class Attempt:
    """One handshake; implements ``seams.Opener``."""

    def __init__(
        self,
        settings: Settings,
        versions: tuple[str, ...],
        runtime: ClientRuntime,
        pool: "Pool",
        until: float | None,
    ) -> None:
        """Begin with nothing.

        Args:
            settings: what to connect to.
            versions: those of HTTP that may be used.
            runtime: a runtime that lives until ``run`` has ended.
            pool: where the connection comes from.
            until: when the caller gives up; ``None``: never.
        """
        self.settings = settings
        self.versions = versions
        self.runtime = runtime
        self.until = until
        self.link: Link | None = None
        """The connection; ``None``: there is none yet."""
        self.tunnel: Tunnel | None = None
        """What was asked for, as far as it can be reset."""
        self.reuses: bool = False
        """The link has carried others before."""
        self._pool = pool
        self._changed = runtime.signal()
        self._conversation: Conversation | None = None
        self._key = new_key()
        self._ws: WebSocket | None = None
        self._failure: Failure | None = None
        self._stopped_at: str | None = None

    @property
    def place(self) -> Hashable:
        """Attempts of the same place may use the same connections."""
        return self.settings.where, self.versions

    @property
    def wire(self) -> str | None:
        """The version of HTTP; ``None``: it is not known yet."""
        return None if self.link is None else self.link.wire

    @property
    def step(self) -> str:
        """What is being done, or was when the attempt was abandoned, in words."""
        if self._stopped_at is not None:
            return self._stopped_at
        return self._pool.step(self) if self.link is None else self.link.step

    @property
    def answered_close(self) -> bool:
        """The server's Close came first, and ours was sent for it."""
        return self._conversation is not None and self._conversation.peer_first

    async def run(self) -> WebSocket | Failure:
        """Connect, and return what comes of it.

        Cancel safety: a cancelled attempt leaves nothing open.
        """
        try:
            self._pool.ask(self)
            while (settled := self._ws or self._failure) is None:
                await self._changed.wait()
        except BaseException:
            self.abandon()
            raise
        link = self.link
        if settled is self._failure and link is not None and not link.needed:
            link.abandon()
            await link.until_gone(_ABORT_TIMEOUT)
        return settled

    def abandon(self) -> None:
        """Give up, and leave nothing open."""
        self._stopped_at = self.step
        self._pool.withdraw(self)
        tunnel, link = self.tunnel, self.link
        if tunnel is not None:
            tunnel.reset(ErrorCode.CANCEL)
            tunnel.flush()
        if link is not None and not link.shared:
            link.abandon()
        elif link is not None and self._ws is None:
            link.doubt()

    def leave(self) -> None:
        """Close the WebSocket, and wait for nothing: it is not used any more."""
        if self._conversation is not None:
            self._conversation.session_ended(1000)

    def h1_head(self) -> bytes:
        """Return the request, as it is on HTTP/1.1."""
        target = self.settings.target
        return h1_head(target.path, target.authority, self._key, self.settings.fields)

    def h2_fields(self) -> "list[RawHeader]":
        """Return the request, as it is on HTTP/2."""
        target = self.settings.target
        scheme = b"https" if target.tls else b"http"
        return h2_fields(target.path, target.authority, scheme, self.settings.fields)

    # What comes from below ---------------------------------------------------------

    def fail(self, failure: Failure) -> None:
        """Take note that the attempt has failed, unless it is settled."""
        if self._ws is None and self._failure is None:
            self._failure = failure
            self._changed.set()

    def answered(self, response: HandshakeResponse, tunnel: Tunnel | None) -> None:
        """Take the server's answer; see ``seams.Opener``."""
        settings = self.settings
        if tunnel is None:
            status = response.status
            instead = response.http_version == "2" and status in _INSTEAD_OF_H2
            self.fail(
                Failure(
                    HandshakeRejected,
                    f"the server answers the handshake with {status}",
                    self.step,
                    self.wire,
                    Advice.TRY_H1 if instead else Advice.GIVE_UP,
                    response=response,
                )
            )
            return
        try:
            agreed = check_response(response, settings.options, self._key)
        except ValueError as error:
            self.fail(Failure(HandshakeInvalid, str(error), self.step, self.wire))
            tunnel.reset()
            return
        options = settings.options.agreed(*agreed)
        keep_alive, config = settings.keep_alive, tunnel.connection.config
        if keep_alive is not None and not (
            # the watch over the connection does just that
            response.http_version == "1.1"
            and keep_alive.ping_interval == config.ws_ping_interval
            and keep_alive.pong_timeout == config.ws_ping_timeout
        ):
            options = options.replaced(keep_alive=keep_alive)
        self.tunnel = tunnel
        self._conversation = conversation = Conversation(
            tunnel, options, Role.CLIENT, settings.close_timeout
        )
        if settings.watched:
            tunnel.watch(conversation)
        request = self._request(response, tunnel)
        self._ws = WebSocket(request, conversation, options, response)
        tunnel.receive_into(conversation, conversation.inbox)
        self._changed.set()

    def not_opened(self, why: NotOpened, text: str) -> None:
        """Take note that there is no answer; see ``seams.Opener``."""
        if why is NotOpened.LOST and self.reuses:
            # RFC 9110 §9.2.2: where nothing is opened nothing is done; an idle
            # connection may be closed just when it is used again
            why = NotOpened.REFUSED
        self.fail(unopened(why, text, self.step, self.wire))

    # Inside --------------------------------------------------------------------------

    def _request(self, response: HandshakeResponse, tunnel: Tunnel) -> Request:
        target = self.settings.target
        return Request(
            "GET",
            target.path.decode("ascii"),
            Headers.from_raw(list(self.settings.fields)),
            http_version=response.http_version,
            scheme="https" if target.tls else "http",
            authority=target.authority.decode("ascii"),
            protocol="websocket",
            conn_info=tunnel.connection.conn_info,
        )
