"""``WebSocketUpgrade``: runs a session once its tunnel is open, and judges its end.

Theory of operation. The pipeline sends the response that carries the upgrade, calls
``attach`` with the open tunnel, and awaits ``run`` in the handler's task. ``run``
waits until the response is with the transport, gives the session its ``WebSocket``, and
turns its outcome into the Close that it calls for (RFC 6455 §7.4.1): 1000 if it
returned, 1011 if it raised, 1001 if it was cancelled. It awaits nothing after that: the
closing handshake is the conversation's, by deadlines.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Literal, TypeAlias

from tako.core.counters import hit
from tako.core.deadlines import Deadline
from tako.core.error_code import ErrorCode
from tako.core.on_fault import tell_of_fault
from tako.core.seams import Tunnel
from tako.errors import WsError, consists_of
from tako.http.request import Request
from tako.ws.conversation import Conversation
from tako.ws.options import WsOptions
from tako.ws.websocket import WebSocket


_logger = logging.getLogger("tako.ws")

SessionFunction: TypeAlias = Callable[[WebSocket], Awaitable[None]]
MakeSocket: TypeAlias = Callable[[Request, Conversation, WsOptions], WebSocket]


class WebSocketUpgrade:
    """Runs a session once its tunnel is open; implements ``seams.Upgrade``."""

    __slots__ = (
        "_conversation",
        "_lifetime_over",
        "_options",
        "_request",
        "_session",
        "_socket",
        "make_socket",
    )

    def __init__(
        self, request: Request, session: SessionFunction, options: WsOptions
    ) -> None:
        self.make_socket: MakeSocket = WebSocket
        """Makes the session's ``WebSocket``; middleware may put a subclass here."""
        self._request = request
        self._session = session
        self._options = options
        self._conversation: Conversation | None = None
        self._socket: WebSocket | None = None
        self._lifetime_over = False

    @property
    def session(self) -> SessionFunction:
        """What to run; for servers other than tako's."""
        return self._session

    @property
    def options(self) -> WsOptions:
        """The route's options, and what was agreed on; for other servers, too."""
        return self._options

    @property
    def close_code(self) -> int | None:
        """The code that ended the conversation: the peer's, else the one that was sent.

        ``None``: there was no conversation.
        """
        conversation = self._conversation
        if conversation is None:
            return None
        code = conversation.close_code
        return conversation.sent_code if code is None else code

    @property
    def closed_by(self) -> Literal["client", "server"] | None:
        """Whose Close came first; ``None``: there was none, or no conversation."""
        conversation = self._conversation
        if conversation is None:
            return None
        if conversation.peer_first:
            return "client"
        return None if conversation.sent_code == 1006 else "server"

    @property
    def messages(self) -> tuple[int, int]:
        """How many data messages the session has received and sent."""
        ws = self._socket
        return (0, 0) if ws is None else (ws.messages_received, ws.messages_sent)

    def attach(self, tunnel: Tunnel) -> None:
        """Make the conversation that the tunnel's bytes go to."""
        options = self._options
        self._conversation = conversation = Conversation(tunnel, options)
        config = tunnel.connection.config
        if options.keep_alive is None and config.ws_ping_interval is not None:
            tunnel.watch(conversation)
        tunnel.receive_into(conversation, conversation.inbox)

    async def run(self) -> None:
        """Run the session; then send the Close that its outcome calls for.

        Cancel safety: once the session runs, a cancellation ends it with 1001 and is
        not raised.
        """
        conversation = self._conversation
        if conversation is None:
            msg = "attach() comes before run()"
            raise RuntimeError(msg)
        options, connection = self._options, conversation.tunnel.connection
        timeout = options.upgrade_timeout
        if not (timeout is None or connection.writable) and not await self._switched(
            conversation, timeout
        ):
            return
        lifetime: Deadline | None = None
        if options.max_lifetime is not None:
            lifetime = self._start_lifetime(conversation, options.max_lifetime)
        code = 1001
        counters = connection.counters
        wire = counters.wire(self._request.http_version)
        ws: WebSocket | None = None
        try:
            ws = self.make_socket(self._request, conversation, options)
            self._socket = ws
            wire.socket_opened(ws)
            await self._session(ws)
            code = 1000
        except (GeneratorExit, KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # the isolation boundary of a session
            # A cancellation ends here too: nothing is awaited any more, and the Close
            # and its answer are the conversation's business.
            code = self._judge(error, conversation)
        finally:
            if lifetime is not None:
                lifetime.close()
            conversation.session_ended(code)
            if ws is not None:
                wire.socket_closed(ws)
                counters.closed(self.close_code or code, self.closed_by or "")

    def _judge(self, error: BaseException, conversation: Conversation) -> int:
        """Return the close code for how the session ended (RFC 6455 §7.4.1)."""
        if consists_of(error, WsError):
            _logger.debug("session ended: %s", error)
            return 1000
        if consists_of(error, conversation.tunnel.connection.runtime.cancelled):
            _logger.debug("session of %s was cancelled", self._request.path)
            return 1001
        _logger.error("session of %s failed", self._request.path, exc_info=error)
        tell_of_fault(self._request, error)
        return 1011

    async def _switched(self, conversation: Conversation, timeout: float) -> bool:
        """Wait until the response head is with the transport; give up in time."""
        tunnel = conversation.tunnel
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            conversation.writable.wake()

        deadline = tunnel.connection.deadlines.new(expire)
        deadline.set(tunnel.connection.time() + timeout)
        while not (expired or _is_through(tunnel)):
            await conversation.writable.signal.wait()
        deadline.close()
        if not expired:
            return not tunnel.over
        hit(tunnel.connection.counters.limits, "upgrade_time")
        _logger.debug("upgrade of %s timed out", self._request.path)
        tunnel.reset(ErrorCode.CANCEL)
        tunnel.flush()
        return False

    def _start_lifetime(self, conversation: Conversation, seconds: float) -> Deadline:
        """Arm ``max_lifetime``: Close 1001 and cancel; then cut what does not end."""
        tunnel = conversation.tunnel
        connection = tunnel.connection

        def expire() -> None:
            if self._lifetime_over:
                tunnel.reset(ErrorCode.CANCEL)
            else:
                self._lifetime_over = True
                _logger.debug(
                    "session of %s: max lifetime exceeded", self._request.path
                )
                conversation.send_close(1001, "max lifetime exceeded")
                deadline.set(connection.time() + connection.config.ws_close_timeout)
            tunnel.cancel_at(connection.time())

        deadline = connection.deadlines.new(expire)
        deadline.set(connection.time() + seconds)
        return deadline


def _is_through(tunnel: Tunnel) -> bool:
    """Tell whether what was sent is with the transport, or never will be."""
    return tunnel.connection.writable or tunnel.over
