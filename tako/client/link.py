"""``Link``: a connection to a server, from dialing to its end, for one socket or many.

Theory of operation. A task dials, then lets the connection run: everything else arrives
by calls from below, of the connection (``_state_changed``, ``_lost``) and of the engine
of HTTP/2 (``_engine_changed``). The pool is told of each change, and gives attempts to
the link while it has ``room``. What goes wrong before it is open is told to the pool
once, as a ``Failure``; later each attempt hears of it from the engine.

A link that is *shared* takes one attempt after the other, as many at a time as the
server allows, and waits for more when it is empty. Any other takes one, and ends with
it: HTTP/1.1 has no other way. Some servers (hypercorn 0.18) lose the whole connection
to the answer to their own Close, which RFC 6455 §5.5.1 demands: where one is lost with
others on it, without GOAWAY, within a second of such an answer, the pool is told to
share no more.
"""

import enum
import logging
import math
from typing import TYPE_CHECKING

from tako.client.attempt import Attempt, Failure, unopened
from tako.client.connection import ClientConnection
from tako.client.origins import Advice
from tako.client.proxy_step import ProxyState, ProxyStep
from tako.client.settings import default_context
from tako.core.seams import Engine, NotOpened, ServerConnection
from tako.core.states import CHECKED, check_transition
from tako.errors import (
    ConnectError,
    DialError,
    HandshakeInvalid,
    Http2Unavailable,
    ProxyError,
    TlsError,
)
from tako.h1.client import H1Client
from tako.h2.client import H2Client
from tako.runtime import Socket, dial, unix_address
from tako.tcp.address import address_of
from tako.tcp.connection import ConnectionState, TcpConnection


if TYPE_CHECKING:
    from collections.abc import Hashable

    from tako.client.pool import Pool
    from tako.core.deadlines import Deadline
    from tako.core.loop import Task
    from tako.h2.client import H2ClientStream
    from tako.tcp.protocol import Protocol

_logger = logging.getLogger("tako.client")

_SETTINGS_TIMEOUT = 5.0  # seconds at most for a server's first SETTINGS
_CLOSE_TO_LOSS = 1.0  # seconds
_ALPN = {"2": "h2", "1.1": "http/1.1"}


class LinkState(enum.IntEnum):
    """How far a connection has come."""

    DIALING = 0
    """A socket is to be connected."""
    BEGINNING = 1
    """It is: a proxy, TLS, and the server's SETTINGS."""
    OPEN = 2
    """WebSockets are opened on it, as many as there is room for."""
    LEAVING = 3
    """No more are: it ends with the last, has failed, or is not wanted any more."""
    GONE = 4
    """The socket is closed, or there was none."""


_NEXT: dict[LinkState, frozenset[LinkState]] = {
    LinkState.DIALING: frozenset(
        {LinkState.BEGINNING, LinkState.LEAVING, LinkState.GONE}
    ),
    LinkState.BEGINNING: frozenset({LinkState.OPEN, LinkState.LEAVING, LinkState.GONE}),
    LinkState.OPEN: frozenset({LinkState.LEAVING, LinkState.GONE}),
    LinkState.LEAVING: frozenset({LinkState.GONE}),
    LinkState.GONE: frozenset(),
}


class Link:
    """A connection of a pool."""

    def __init__(self, pool: "Pool", attempt: Attempt) -> None:
        """Begin to dial.

        Args:
            pool: is told of each change.
            attempt: says where to, and how; it need not be the one that is served.
        """
        self._pool = pool
        self._settings = attempt.settings
        self._versions = attempt.versions
        self._until = attempt.until
        self._runtime = attempt.runtime
        self._runtime.keep()
        self._ended = self._runtime.signal()
        self._proxy_step: ProxyStep | None = None
        self._attempt: Attempt | None = None  # the only one
        self._connection: ClientConnection | None = None
        self._engine: H1Client | H2Client | None = None
        self._due: Deadline | None = None  # of the SETTINGS; then of being idle
        self._used = False
        self._carried: dict[H2ClientStream, Attempt] = {}  # what is open on it
        self._announced = False  # its end, by GOAWAY
        self._answered_at = -math.inf  # a Close of the server's, and the stream ended
        self.place: Hashable = attempt.place
        self.origin: str = attempt.settings.target.origin
        """Scheme, host and port, for messages."""
        self.wire: str | None = None
        """The version of HTTP; ``None``: it is not known yet."""
        self.shared: bool = pool.shares_at(attempt.place)
        """It may carry several WebSockets."""
        self.state: LinkState = LinkState.DIALING
        self._task: Task = self._runtime.spawn(self._run)

    def _enter(self, state: LinkState) -> None:
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state = state
        _logger.debug("%s: connection is %s", self.origin, state.name)

    @property
    def step(self) -> str:
        """What is being done, in words."""
        if self.state is LinkState.DIALING:
            return "dialing"
        if self.wire is None:
            return "proxy" if self._at_proxy else "TLS"
        if isinstance(self._engine, H2Client) and self._engine.supported is None:
            return "waiting for SETTINGS"
        return "handshake"

    @property
    def room(self) -> int:
        """How many attempts may be opened now; not more than 0: none."""
        if self.state is not LinkState.OPEN:
            return 0
        return self._engine.room if isinstance(self._engine, H2Client) else 1

    @property
    def needed(self) -> bool:
        """A WebSocket is open on it or may be."""
        engine = self._engine
        if isinstance(engine, H2Client) and engine.exchanges:
            return True
        return self.state is LinkState.OPEN

    @property
    def empty(self) -> bool:
        """It carries nothing, so that it is not for that that it has no room."""
        return not (isinstance(self._engine, H2Client) and self._engine.exchanges)

    def open(self, attempt: Attempt) -> None:
        """Send the request of ``attempt``; there has to be room."""
        attempt.link, attempt.reuses = self, self._used
        self._used = True
        engine = self._engine
        if isinstance(engine, H2Client):
            attempt.tunnel = stream = engine.open(attempt, attempt.h2_fields())
            self._carried[stream] = attempt
            self._rest(engine)
            if not self.shared:
                engine.shut_down(tunnels=False)
        elif engine is not None:
            engine.open(attempt, attempt.h1_head())
        if not self.shared:
            self._attempt = attempt
            self._enter(LinkState.LEAVING)

    def doubt(self) -> None:
        """Leave unless the server shows that it is there: it has not answered."""
        if isinstance(self._engine, H2Client):
            self._engine.doubt()

    def shut_down(self) -> None:
        """Close all WebSockets in order, then the connection."""
        self._announced = True
        if self._connection is not None:
            self._connection.shut_down()

    def abandon(self) -> None:
        """Drop the connection now; what can be said without waiting is said."""
        if self.state < LinkState.LEAVING:
            self._enter(LinkState.LEAVING)
        if self._connection is None:
            self._task.cancel()
            return
        self._connection.close()  # GOAWAY, for example
        self._connection.abort()

    async def until_gone(self, timeout: float) -> None:
        """Wait until the socket is closed; drop it after ``timeout`` seconds.

        Cancel safety: safe; the connection then ends by itself.
        """
        until = self._runtime.time() + timeout
        while self.state is not LinkState.GONE:
            left = until - self._runtime.time()
            if left <= 0:
                self.abandon()
                return
            await self._ended.wait(left)

    # Dialing -----------------------------------------------------------------------

    async def _run(self) -> None:
        """Connect; never raises but for a cancellation."""
        try:
            try:
                sock = await self._reach()
            except ExceptionGroup as group:
                self._dial_failed(group.exceptions)
            except (OSError, UnicodeError) as error:  # of a name that no host can have
                self._dial_failed((error,))
            else:
                await self._begin(sock)
        except Exception as error:
            _logger.exception("%s: dialing", self.origin)
            self._dial_failed((error,))
        finally:
            if self._connection is None or self._connection.unattached:
                self._lose()

    async def _reach(self) -> Socket:
        """Return a socket that is connected to the target, or to its proxy.

        Raises:
            OSError: it cannot be.
            UnicodeError: the host cannot have this name.
            ExceptionGroup: of an ``OSError`` for each address.
        """
        runtime, settings = self._runtime, self._settings
        target, proxy = settings.target, settings.proxy
        if target.unix is not None:
            return await runtime.dial(unix_address(target.unix))
        host, port = target.host, target.port
        if proxy is not None:
            if proxy.takes_addresses:  # the first: it is asked for one
                _, (host, *_) = (await runtime.resolve(host, port))[0]
            self._proxy_step = proxy.step(host, port, settings.user_agent)
            host, port = proxy.host, proxy.port
        return await dial(runtime, await runtime.resolve(host, port))

    async def _begin(self, sock: Socket) -> None:
        """Let the connection run over ``sock``, beginning with TLS."""
        if self.state is LinkState.LEAVING:  # abandoned as it was connected
            sock.close()
            return
        settings, runtime = self._settings, self._runtime
        protocol: Protocol = "http/1.1" if "1.1" in self._versions else "h2"
        if settings.context is not None:
            protocol = "tls"
        connection = ClientConnection(
            runtime,
            self._pool.config,
            engines={"http/1.1": self._h1, "h2": self._h2},
            protocol=protocol,
            peer=address_of(sock.family, sock.getpeername()),
            local=address_of(sock.family, sock.getsockname()),
            on_state=self._state_changed,
            on_lost=self._lost,
        )
        self._enter(LinkState.BEGINNING)
        try:
            self._prepare(connection)
        except (ValueError, OSError) as error:  # ssl.SSLError is an OSError
            sock.close()
            self._fail(TlsError, str(error), causes=(error,))
            return
        self._connection = connection
        await runtime.attach(sock, connection)

    def _prepare(self, connection: ClientConnection) -> None:
        """Tell a connection what comes before its engine."""
        settings = self._settings
        proxy, step = settings.proxy, self._proxy_step
        if settings.context is not None:
            offered = [_ALPN[each] for each in self._versions]
            connection.secure(settings.context, settings.server_hostname, offered)
        if proxy is not None and step is not None:
            context = settings.proxy_context or default_context()
            connection.approach(step, context if proxy.tls else None, proxy.host)

    def _h1(self, connection: ServerConnection) -> Engine:
        self.wire, self.shared = "1.1", False
        engine = self._engine = H1Client(connection)
        if "1.1" not in self._versions:
            self._fail(Http2Unavailable, "the server does not speak HTTP/2")
            engine.close()
        return engine

    def _h2(self, connection: ServerConnection) -> Engine:
        self.wire = "2"
        engine = self._engine = H2Client(connection, self._engine_changed)
        self._due = connection.deadlines.new(self._late)
        now, timeout = connection.time(), _SETTINGS_TIMEOUT
        if self._until is not None:
            timeout = min(timeout, (self._until - now) / 2)
        self._due.set(now + timeout)
        return engine

    # What comes from below ---------------------------------------------------------

    def _state_changed(self) -> None:
        connection = self._connection
        if connection is None:
            return
        if connection.state >= ConnectionState.LINGERING:
            if connection.tls_error is not None:
                self._never_began(connection.tls_error, connection.tls_cause)
            elif self._engine is None:
                self._never_began("the connection was lost", None)
            if self.state is LinkState.OPEN:
                self._enter(LinkState.LEAVING)
        elif self.wire == "1.1" and self.state is LinkState.BEGINNING:
            self._open(connection)
        self._pool.changed(self)

    def _engine_changed(self) -> None:
        engine, connection = self._engine, self._connection
        if not isinstance(engine, H2Client) or connection is None:
            return
        if self.state is LinkState.BEGINNING:
            if engine.end is not None:
                self._fail_as(*engine.end)
            elif engine.supported:
                self._open(connection)
            elif engine.supported is False:
                text = "the server has no WebSockets over HTTP/2"
                self._fail_as(NotOpened.UNSUPPORTED, text)
                engine.shut_down()
        if self.state is LinkState.OPEN and engine.leaving:
            self._enter(LinkState.LEAVING)
        self._note_ended(engine)
        self._rest(engine)
        self._pool.changed(self)

    def _open(self, connection: ClientConnection) -> None:
        self._enter(LinkState.OPEN)
        self._pool.watch.add(connection)
        if self._due is not None:
            self._due.close()
            self._due = connection.deadlines.new(self._idle)

    def _note_ended(self, engine: H2Client) -> None:
        """Look at what is not open any more: see the top."""
        ended = [self._carried.pop(x) for x in list(self._carried) if x.closed]
        now = self._runtime.time()
        if any(each.answered_close for each in ended):
            self._answered_at = now
        if engine.end is None:
            self._announced |= engine.leaving
        elif (
            engine.end[0] is NotOpened.LOST
            and not self._announced
            and now - self._answered_at < _CLOSE_TO_LOSS
            and not all(each.answered_close for each in ended)
        ):
            self._pool.share_no_more(self)

    def _rest(self, engine: H2Client) -> None:
        """Measure how long the connection carries nothing."""
        due = self._due
        if due is None or self.state is not LinkState.OPEN:
            return
        if engine.exchanges:
            due.set(None)
        elif due.when is None and self.shared:
            due.set(self._runtime.time() + self._pool.idle_timeout)

    def _idle(self) -> None:
        if isinstance(self._engine, H2Client):
            self._engine.shut_down(tunnels=False)

    def _late(self) -> None:
        self._fail(
            HandshakeInvalid,
            "the server sends no SETTINGS",
            advice=Advice.USE_H1_FOR_NOW,
            temporary=True,
        )
        self._idle()

    def _lost(self, _: TcpConnection) -> None:
        self._fail_as(NotOpened.LOST, "the connection was lost")
        self._lose()

    def _lose(self) -> None:
        if self.state is LinkState.GONE:
            return
        self._enter(LinkState.GONE)
        if self._connection is not None:
            self._pool.watch.remove(self._connection)
        self._connection = self._engine = self._due = self._attempt = None
        self._pool.changed(self)
        self._ended.set()
        self._runtime.give_back()

    # Inside --------------------------------------------------------------------------

    @property
    def _at_proxy(self) -> bool:
        """There is a proxy, and it is still to lead to the server."""
        step = self._proxy_step
        return step is not None and step.state is not ProxyState.OPEN

    def _never_began(self, text: str, cause: Exception | None) -> None:
        """Note that the proxy, or TLS, has failed."""
        proxy, step = self._settings.proxy, self._proxy_step
        causes = () if cause is None else (cause,)
        failure = Failure(TlsError, text, self.step, self.wire, causes=causes)
        if proxy is not None and step is not None and self._at_proxy:
            failure = Failure(
                ProxyError,
                f"{proxy.shown}: {text}",
                self.step,
                None,
                temporary=step.temporary or (step.refusal is None and cause is None),
                causes=causes,
                proxy=proxy.shown,
                proxy_status=step.status,
            )
        self._report(failure)
        # RFC 8446 §4.4.2: our certificate is looked at when we may have sent a request
        if self._attempt is not None:
            self._attempt.fail(failure)

    def _dial_failed(self, errors: tuple[Exception, ...]) -> None:
        text = "; ".join(dict.fromkeys(_words(each) for each in errors))
        if self._proxy_step is not None and self._settings.proxy is not None:
            text = f"the proxy {self._settings.proxy.shown}: {text}"
        self._fail(DialError, text, causes=errors)

    def _fail(
        self,
        kind: type[ConnectError],
        text: str,
        *,
        advice: Advice = Advice.GIVE_UP,
        temporary: bool = False,
        causes: tuple[Exception, ...] = (),
    ) -> None:
        self._report(
            Failure(kind, text, self.step, self.wire, advice, temporary, causes)
        )

    def _fail_as(self, why: NotOpened, text: str) -> None:
        self._report(unopened(why, text, self.step, self.wire))

    def _report(self, failure: Failure) -> None:
        """Tell the pool that the connection has failed before it was open."""
        if self.state < LinkState.OPEN:
            self._enter(LinkState.LEAVING)
            self._pool.failed(self, failure)


def _words(error: Exception) -> str:
    """Return what an error says, without its number."""
    text = error.strerror if isinstance(error, OSError) else None
    return text or str(error) or type(error).__name__
