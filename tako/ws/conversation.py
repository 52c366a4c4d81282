"""``Conversation``: one WebSocket after the handshake, without I/O (RFC 6455, 8441).

Theory of operation. The engine delivers bytes; the codec turns them into messages that
wait in ``inbox`` for the session. Control frames are answered here, even if the session
never reads. Output goes straight to the tunnel.

Two directions end independently, each with a state that only one method enters:

* ``Inbound``, in which the peer sends. Once it is not OPEN any more, ``end`` is the
  ``WsError`` that a reader gets when the inbox is empty and nothing is left to decode.
  What is left may hold the peer's Close, which is then the better reason.
* ``Outbound``, in which this end sends. In its last state nothing is waited for.

Closing, the same on both wires (RFC 6455 §7.1.1, RFC 8441 §5), for a server:

* the peer's Close comes first: our Close, then the end of the stream, then
  ``_END_TIMEOUT`` seconds for the peer's end, then RST_STREAM(NO_ERROR) (or closing the
  connection);
* our Close goes first: the peer's Close is waited for, ``ws_close_timeout`` seconds at
  most; only then the end of the stream. The two are never sent together, because some
  clients read a Close that arrives with END_STREAM as an abnormal end;
* a failure: what still arrives is dropped; the messages before the violation may be
  answered first, for ``_END_TIMEOUT`` seconds; then our Close and the stream's end;
* the end of the stream without a Close is 1006, as is a reset.

A client does the same but for the end of the stream: it waits for the server's, and
answers that with its own; where none comes it resets the stream.

Credit. Bytes are given back to the peer when the messages that came with them have been
read. Bytes of incomplete messages are given back at once: the codec bounds them, and a
message larger than the window could not arrive otherwise. ``Inbox`` counts the bytes
that came with what is in it. ``_uncredited`` counts bytes that are not decoded yet.
Decoding stops while ``_INBOX_MESSAGES`` wait, or messages that cost more memory than
the credit of the wire: tiny, compressed and wide ones are much larger decoded than on
the wire. It goes on once the inbox is empty, so any message that is allowed arrives. It
also stops when the turn is over, to go on in the next.

Invariants: at most one Close frame is sent and nothing follows it; bytes delivered =
bytes consumed + ``_uncredited`` + what the inbox holds, which is little while it is
empty; every deadline ends in a state from which nothing is waited for.
"""

import enum
import logging
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from tako.core.counters import hit
from tako.core.error_code import ErrorCode
from tako.core.role import Role
from tako.core.seams import Tunnel
from tako.core.states import CHECKED, check_transition
from tako.core.views import Place, SocketView
from tako.core.writable import Writable
from tako.errors import ConnectionClosed, Disconnected, WsError
from tako.native.loops import Inbox, UnmaskedInbox
from tako.ws.codec import (
    Codec,
    Encode,
    encode_close,
    encode_frame,
    encode_masked_frame,
    encode_ping,
    encode_pong,
)
from tako.ws.deflate import Deflater, Inflater
from tako.ws.keep_alive import KeepAlive
from tako.ws.message import AnyMessage, Message
from tako.ws.options import WsOptions
from tako.ws.shared import Shared


if TYPE_CHECKING:
    from tako.core.deadlines import Deadline
    from tako.core.loop import Signal
    from tako.ws.relay import ConversationRelay


_logger: Final = logging.getLogger("tako.ws")

_END_TIMEOUT: Final = 1.0  # seconds for the peer's end of stream, after both Closes
_PONGS_PER_READ: Final = 16  # other Pings of a read share the latest Pong
_ALIVE: Final = b"tako: alive?"  # the Ping of ``ask``; its Pong is not the session's
_NO_ANSWER: Final = "keepalive timeout"  # the reason of the Close to a lost peer
_CONTROLS_WAITING: Final = 64  # Pings and Pongs kept for a session that does not read
_INBOX_MESSAGES: Final = 1024  # complete messages waiting before decoding stops

_GOING_AWAY: Final = {role: f"{role.value} shutting down" for role in Role}
_SERVER: Final = Role.SERVER
_RSV1: Final = 0x40  # RFC 7692 §6: the message is compressed
_TEXT: Final = 0x81  # RFC 6455 §5.2: FIN and opcode 1
_BINARY: Final = 0x82  # and opcode 2
_SENDS_PER_TURN: Final = 256  # that did not have to wait, before other tasks run

Sendable: TypeAlias = str | bytes | bytearray | memoryview | AnyMessage
"""What a session can send."""


class Inbound(enum.IntEnum):
    """What this end expects of the peer."""

    OPEN = 0
    """Messages, as they come."""
    FAILED = 1
    """Nothing: it broke a rule, or did not answer in time. What comes is dropped."""
    ENDED = 2
    """Nothing: its stream ended, or was lost, without a Close."""
    CLOSE_SEEN = 3
    """Nothing: its Close was decoded, perhaps behind messages that had to wait."""


_NEXT_INBOUND: Final[dict[Inbound, frozenset[Inbound]]] = {
    Inbound.OPEN: frozenset({Inbound.FAILED, Inbound.ENDED, Inbound.CLOSE_SEEN}),
    Inbound.FAILED: frozenset({Inbound.CLOSE_SEEN}),
    Inbound.ENDED: frozenset({Inbound.FAILED, Inbound.CLOSE_SEEN}),
    Inbound.CLOSE_SEEN: frozenset(),
}


class Outbound(enum.IntEnum):
    """What this end may still send."""

    OPEN = 0
    """Messages."""
    CLOSE_SENT = 1
    """The end of the stream: nothing follows a Close."""
    ENDED = 2
    """Nothing: the stream has ended, and the peer's end is waited for."""
    OVER = 3
    """Nothing, and nothing is waited for."""


_NEXT_OUTBOUND: Final[dict[Outbound, frozenset[Outbound]]] = {
    Outbound.OPEN: frozenset({Outbound.CLOSE_SENT, Outbound.ENDED, Outbound.OVER}),
    Outbound.CLOSE_SENT: frozenset({Outbound.ENDED, Outbound.OVER}),
    Outbound.ENDED: frozenset({Outbound.OVER}),
    Outbound.OVER: frozenset(),
}


class Conversation:
    """The sans-IO half of a WebSocket; implements ``Sink``.

    Attributes:
        can_send: the output is open.
        end: what a reader gets once nothing is left to read.
        error: the failure that ended it, if one did.
        messages_sent: data messages that the session has sent.
        direct: it is, and ``Tunnel.send_frame`` does all that a frame needs.
        peer_first: the peer's Close came before ours was sent.
        since: when it began, by the clock of the connection.
        relays: what sends here by ``send_shared``, and is told when there is room, and
            when closing begins. While ``direct`` it may have the tunnel send.
    """

    __slots__ = (
        "_codec",
        "_deadline",
        "_deflater",
        "_discarding",
        "_encode",
        "_eof_due",
        "_express",
        "_heaviest",
        "_keep_alive",
        "_late_pong",
        "_measured",
        "_no_data",
        "_own_close_timeout",
        "_pings_sent",
        "_role",
        "_runs_on",
        "_shut_down",
        "_threshold",
        "_turn",
        "_uncredited",
        "_waits",
        "_writable",
        "answered",
        "can_send",
        "close_code",
        "close_reason",
        "controls",
        "direct",
        "end",
        "error",
        "inbound",
        "inbox",
        "latency",
        "messages_sent",
        "outbound",
        "peer_first",
        "readable",
        "relays",
        "sent_code",
        "since",
        "tunnel",
    )

    can_send: bool
    controls: int
    direct: bool
    end: WsError | None
    error: WsError | None
    messages_sent: int
    peer_first: bool
    relays: "tuple[ConversationRelay[Any, Any], ...]"

    def __init__(
        self,
        tunnel: Tunnel,
        options: WsOptions,
        role: Role = Role.SERVER,
        close_timeout: float | None = None,
    ) -> None:
        self.tunnel: Tunnel = tunnel
        connection, keep_alive = tunnel.connection, options.keep_alive
        runtime, config = connection.runtime, connection.config
        self.since: float = connection.time()
        self._role = role
        serves = role is _SERVER
        # RFC 6455 §5.1; the tunnel of a client does the same in ``send_frame``
        self._encode: Encode = encode_frame if serves else encode_masked_frame
        deflate = options.deflate
        max_frame, max_message = options.max_frame_size, options.max_message_size
        self._turn = connection.turn
        self._codec = Codec(
            max_frame_size=max_frame,
            max_message_size=max_message,
            inflater=None if deflate is None else Inflater(deflate),
            turn=self._turn,
            role=role,
        )
        self._deflater = None if deflate is None else Deflater(deflate)
        self._threshold = 0 if deflate is None else deflate.threshold
        # Bytes; messages in the inbox, ever, that are no data; Pings and Pongs in it
        self._uncredited = self._no_data = self.controls = self.messages_sent = 0
        # Discarding: the session is over, or only waits for the end
        self._discarding = self._shut_down = self.peer_first = self._measured = False
        self.relays = ()
        self._waits = self._eof_due = False  # for the next turn; behind what is left
        self.sent_code: int = 1006
        self._pings_sent: dict[bytes, float] = {}
        self._late_pong: bytes | None = None  # waits for room, or the read's end
        self.answered: list[bytes] = []
        self.inbound: Inbound = Inbound.OPEN
        self.outbound: Outbound = Outbound.OPEN
        self._runs_on = runtime.checkpoint is None
        self.can_send, self.direct = True, deflate is None
        self.close_code: int | None = None
        self.close_reason: str = ""
        self.end = self.error = None
        self.latency: float | None = None
        self.readable: Signal = runtime.signal()
        self._writable: Writable | None = None  # made when first needed
        self._deadline: Deadline | None = None  # of closing; made when first needed
        self._keep_alive: KeepAlive | None = None
        if keep_alive is not None and keep_alive.auto:
            self._keep_alive = KeepAlive(self, keep_alive)
        self._own_close_timeout = close_timeout
        buffer, window = config.read_buffer, config.h2_initial_window_size
        self._heaviest = max(buffer, window)
        self.inbox: Inbox = (Inbox if serves else UnmaskedInbox)(
            self.readable.set,
            tunnel.consumed,
            min(max_frame, max_message),
            _INBOX_MESSAGES,
            min(buffer, window) >> 5,
            self._heaviest,
        )
        # ``inbox`` may take what comes
        self._express = self.inbox.plain = self._keep_alive is None

    @property
    def writable(self) -> Writable:
        """Lets writers wait for room; made when first needed."""
        found = self._writable
        if found is None:
            connection = self.tunnel.connection
            found = self._writable = Writable(
                self.tunnel, connection.runtime, connection.counters.socket_waits
            )
        return found

    # Input, called by the engine -------------------------------------------------

    def deliver(self, data: bytes) -> None:
        """Take bytes of the peer, also those that ``inbox`` would refuse."""
        if self.end is not None:  # that is: not Inbound.OPEN
            self.tunnel.consumed(len(data))
            return
        if self._keep_alive is not None:
            self._keep_alive.heard()
        if self.inbox.weight < self._heaviest and self._codec.receive_middle(data):
            self._credit(len(data))  # what _work would do: a third of its time
            return
        self._uncredited += len(data)
        self._work(data)

    def deliver_eof(self, error: Exception | None = None) -> None:
        """End the input: the peer ended its direction, or the tunnel is lost."""
        if self._waits and error is None:
            self._eof_due = True
            return
        if self.end is None:
            self._end_without_close(Inbound.ENDED, str(error or ""))
        if self.outbound is Outbound.OVER:
            return
        if isinstance(error, Disconnected):
            self._enter_outbound(Outbound.OVER)
            return
        if self.outbound < Outbound.ENDED:
            self._answer_violation()
            self._end_output()
            self.tunnel.flush()
        self._enter_outbound(Outbound.OVER)  # both directions have ended
        self.tunnel.reset(ErrorCode.NO_ERROR)

    def wake_writer(self) -> None:
        """Wake the writers: output is welcome again, or the tunnel is over."""
        self._wake_writers()
        for relay in self.relays:
            relay.wake()
        if self._late_pong is not None:
            # not from inside the engine, which is about to go on sending
            self.tunnel.connection.runtime.call_soon(self._answer_late)

    def _wake_writers(self) -> None:
        if self._writable is not None:
            self._writable.wake()

    def shut_down(self) -> None:
        """Send Close 1001; cancel the session once the time for closing is over."""
        if self._shut_down:
            return
        self._shut_down = True
        self.go_away()
        # This reaches a session that waits for something other than its peer.
        connection = self.tunnel.connection
        most = self._close_timeout + _END_TIMEOUT
        self.tunnel.cancel_at(connection.time() + most)

    def go_away(self) -> None:
        """Tell the peer that this end goes away (RFC 6455 §7.4.1: 1001)."""
        self.send_close(1001, _GOING_AWAY[self._role])

    # Looking on ------------------------------------------------------------------

    def describe(self) -> SocketView:
        """Return what there is to see of it now."""
        code: int | None = None
        if not self.can_send:
            code = self.sent_code if self.close_code is None else self.close_code
        peer = Role.CLIENT if self._role is _SERVER else _SERVER
        first = peer if self.peer_first else self._role
        return SocketView(
            since=self.since,
            inbound=self.inbound.name,
            outbound=self.outbound.name,
            waiting=len(self.inbox.messages),
            weight=self.inbox.weight,
            latency=self.latency,
            compressed=self._deflater is not None,
            code=code,
            by="" if self.sent_code == 1006 else first.value,
            reason=self.close_reason,
        )

    def place(self) -> Place:
        """Return where the bytes of the peer stand, between two reads."""
        return self._codec.place()

    # Reading, called by the session ----------------------------------------------

    def resume(self) -> bool:
        """Decode what had to wait, perhaps a Close; tell whether there was anything."""
        if not self._codec.pending:
            self._answer_violation()
            return False
        self._receive(b"")
        return True

    def take(self) -> AnyMessage:
        """Return the first message of the inbox to the session."""
        message: AnyMessage = self.inbox.pop()
        if self.controls:
            self.control_taken(message)
        return message

    @property
    def messages_received(self) -> int:
        """Data messages that were put into the inbox."""
        return self.inbox.received - self._no_data

    def control_taken(self, message: AnyMessage) -> None:
        """Count a message that was taken, if it is a Ping or a Pong."""
        if isinstance(message, Message.Ping):
            if len(self.answered) >= _CONTROLS_WAITING:
                del self.answered[0]
            self.answered.append(message.data)
        self.controls -= isinstance(message, (Message.Ping, Message.Pong))

    def discard(self) -> None:
        """Drop what waits and what comes: only the peer's Close still matters."""
        self._discarding = True
        self._express = self.inbox.plain = False
        self.inbox.clear()
        self.controls = 0
        if held := self.inbox.held:
            self.inbox.held = 0
            self.tunnel.consumed(held)
        self._discard_rest()

    # Output, called by the session -----------------------------------------------

    def send(self, message: Sendable) -> bool:
        """Send what a session gives; tell whether it may go on without a wait.

        Not where the peer has no room for more, where the runtime wants each async
        function to be a checkpoint, and now and then: the loop must notice that the
        peer is gone, and other tasks wait.

        Raises:
            ConnectionClosed: as ``send_message`` does; never for a ``Message.Close``.
            TypeError: ``message`` is of another type.
            UnicodeEncodeError: it is text with a surrogate in it.
        """
        payload: str | bytes
        if isinstance(message, str):
            first_byte, payload = _TEXT, message
        elif isinstance(message, bytes):
            first_byte, payload = _BINARY, message
        elif isinstance(message, (bytearray, memoryview)):
            first_byte, payload = _BINARY, bytes(message)
        else:
            return self._send_control(message)
        soon = len(self.inbox.messages) > 0
        if self.direct:
            more = self.tunnel.send_frame(first_byte, payload, soon=soon)
        else:
            more = self.send_message(first_byte, payload, soon=soon)
        self.messages_sent += 1
        return more and self._runs_on and self.messages_sent % _SENDS_PER_TURN != 0

    def _send_control(self, message: object) -> bool:
        if isinstance(message, Message.Close):
            # Closing never raises, and a Close need not wait for room.
            self.send_close(message.code, message.reason)
            return self._runs_on
        if isinstance(message, Message.Ping):
            self.send_ping(message.data)
        elif isinstance(message, Message.Pong):
            self.send_pong(message.data)
        else:
            msg = (
                f"ws.send takes str, bytes or a Message, not {type(message).__name__}; "
                "for JSON write ws.send(json.dumps(value))"
            )
            raise TypeError(msg)
        self.tunnel.flush(soon=len(self.inbox.messages) > 0)
        return self._runs_on and self.tunnel.writable

    def send_message(
        self, first_byte: int, payload: str | bytes, *, soon: bool = True
    ) -> bool:
        """Send a whole data message and tell whether more output is welcome.

        Raises:
            ConnectionClosed: a Close was sent or received, or the connection is lost.
        """
        if not self.can_send:
            self._check_open()
        if self._deflater is not None and len(payload) >= self._threshold:
            data = payload.encode() if isinstance(payload, str) else payload
            payload = self._deflater.deflate(data)
            first_byte |= _RSV1
        return self.tunnel.send_frame(first_byte, payload, soon=soon)

    def send_shared(self, message: Shared, soon: bool) -> bool:
        """Send a message that others get, too; ``False``: there is no room for now.

        Nothing was sent then: ``relays`` hear of room. Never so once closing has begun.
        """
        if self.direct:
            return self.tunnel.send_shared(message, soon)
        deflater = self._deflater
        if not self.can_send or deflater is None:
            return False
        params = deflater.shareable
        if params is None or len(message.payload) < self._threshold:
            return self.tunnel.send_shared(message, soon)
        return self.tunnel.send_shared(message.deflated(params), soon)

    def send_ping(self, data: bytes) -> None:
        """Queue a Ping, timed for ``latency``; raises as ``send_message`` does."""
        self._check_open()
        if len(self._pings_sent) >= _CONTROLS_WAITING:
            self._pings_sent.pop(next(iter(self._pings_sent)))
        self._pings_sent[data] = self.tunnel.connection.time()
        self.tunnel.send_data(encode_ping(data, self._encode))

    def send_pong(self, data: bytes) -> None:
        """Queue a Pong unless its Ping was answered; raises as ``send_ping`` does."""
        self._check_open()
        if data in self.answered:
            self.answered.remove(data)
        else:
            self.tunnel.send_data(encode_pong(data, self._encode))

    def send_close(self, code: int | None, reason: str = "") -> None:
        """Start the closing handshake, once; the peer's Close is then waited for."""
        if not self.can_send:
            return
        if self._codec.error is not None:
            self._answer_violation()
            return
        self._send_close_frame(code, reason)
        if self.end is None:
            self._wait_for_close()
        self.tunnel.flush()

    def fail(self, error: WsError, reason: str = "") -> None:
        """Fail the conversation with the code of ``error`` (RFC 6455 §7.1.7)."""
        if self.outbound >= Outbound.ENDED:
            return
        if self.end is None:
            self.error = error
            self._end_input(Inbound.FAILED, error)
        if self.can_send:
            self._send_close_frame(error.close_code, reason)
        self._end_output_first()
        self._wait_for_close()
        self.tunnel.flush()

    def session_ended(self, code: int) -> None:
        """Close with ``code`` unless closing has begun: the session is over."""
        self.discard()
        if self._keep_alive is not None:
            self._keep_alive.stop()
        self.send_close(code, _GOING_AWAY[self._role] if code == 1001 else "")

    def ask(self) -> None:
        """Ask the peer for a sign of life, by a Ping of which the session sees nothing.

        On HTTP/2 the engine asks, for all of its tunnels.
        """
        if self.can_send:
            self.send_ping(_ALIVE)
            self.tunnel.flush()

    def lose(self) -> None:
        """Treat the peer as dead: readers get 1006, the peer 1011 and a reset.

        Not once closing has begun: other deadlines watch over that.
        """
        if not self.can_send:
            return
        hit(self.tunnel.connection.counters.limits, "silence")
        if self.end is None:
            self._end_without_close(Inbound.FAILED, _NO_ANSWER)
        self._send_close_frame(1011, _NO_ANSWER)
        self._end_output_first()
        self._wait_for_end()
        self.tunnel.flush()

    def measured(self, seconds: float) -> None:
        """Take the latency of the connection, unless a Ping has told that of the peer.

        HTTP/2 only: a proxy may end the connection.
        """
        if not self._measured:
            self.latency = seconds

    # Inside ------------------------------------------------------------------------

    def _discard_rest(self) -> None:
        while self._discarding and not self._turn.over and self.resume():
            pass

    def _go_on(self) -> None:
        """Decode what an earlier turn left over."""
        self._work(b"")

    def _work(self, data: bytes) -> None:
        """Decode what this turn has time for; then the end that waited behind it."""
        self._receive(data)
        if self._discarding:
            self._discard_rest()
        if self._eof_due and not self._waits:
            self._eof_due = False
            self.deliver_eof()

    def _receive(self, data: bytes) -> None:
        codec, inbox = self._codec, self.inbox
        messages = codec.receive(
            data, _INBOX_MESSAGES - len(inbox.messages), self._heaviest - inbox.weight
        )
        self._waits = codec.pending and self._turn.over
        if self._waits:
            self._turn.later(self._go_on)
        if messages:
            for message in messages:
                if type(message) is not str and type(message) is not bytes:
                    messages = self._answer_controls(messages)
                    break
            if self._discarding:
                messages = []
            inbox.put(messages)
        if self._late_pong is not None and not self._waits:
            self._answer_late()
        if self._uncredited and not codec.pending:
            size, self._uncredited = self._uncredited, 0
            self._credit(size)
        inbox.plain = self._express and codec.idle
        if codec.error is not None:
            self._violated(codec.error)
        elif messages:
            self.readable.set()

    def _credit(self, size: int) -> None:
        """Give back bytes that are decoded, or leave it to the messages that wait."""
        if self.inbox.messages:
            self.inbox.held += size
        else:
            self.tunnel.consumed(size)

    def _violated(self, error: WsError) -> None:
        """Fail; the session may answer messages before the violation first."""
        if self.end is None and self.inbox.messages and not self._discarding:
            self.error = error
            self._end_input(Inbound.FAILED, error)
            self._wait_for_end()
        elif self.inbound is Inbound.ENDED and not self._discarding:
            self.error = error  # the end was known first: the inbox was full
            self._end_input(Inbound.FAILED, error)
        else:
            self.fail(error)

    def _answer_violation(self) -> bool:
        """Send the Close that a violation calls for, if it is due; tell whether."""
        error = self._codec.error
        due = error is not None and self.can_send
        if error is not None and due:
            self.fail(error)
        return due

    def _answer_controls(self, messages: list[AnyMessage]) -> list[AnyMessage]:
        """Answer Pings and Close; return what the session is to see."""
        kept: list[AnyMessage] = []
        pings: list[bytes] = []
        for message in messages:
            if isinstance(message, (str, bytes)):
                kept.append(message)
                continue
            if isinstance(message, Message.Close):
                self._no_data += 1
                kept.append(message)
                self._answer_pings(pings)
                self._close_came(message)
                return kept
            if isinstance(message, Message.Ping):
                pings.append(message.data)
            else:
                self._pong_came(message.data)
                if message.data == _ALIVE:
                    continue
            if self.controls < _CONTROLS_WAITING:
                self.controls += 1
                self._no_data += 1
                kept.append(message)
        self._answer_pings(pings)
        return kept

    def _answer_pings(self, pings: list[bytes]) -> None:
        if not pings or not self.can_send:
            return
        # RFC 6455 §5.5.3: the most recent Ping may be answered for all before it
        if self._waits or not self.tunnel.writable:
            # The rest of this read is decoded in the next turn; or the peer does not
            # read, and Pongs must not queue up for it.
            self._late_pong = pings[-1]
            return
        self._late_pong = None
        for data in pings[: _PONGS_PER_READ - 1] + pings[_PONGS_PER_READ - 1 :][-1:]:
            self.tunnel.send_data(encode_pong(data, self._encode))

    def _answer_late(self) -> None:
        """Answer the latest of the Pings that had to wait."""
        data, self._late_pong = self._late_pong, None
        if data is not None:
            self._answer_pings([data])
            self.tunnel.flush()

    def _pong_came(self, data: bytes) -> None:
        sent = self._pings_sent.pop(data, None)
        if sent is not None:
            connection = self.tunnel.connection
            self.latency = latency = connection.time() - sent
            connection.counters.pings.observe(latency)
            self._measured = True  # end to end
            if not self._pings_sent:
                self._pings_sent.clear()  # an empty dict keeps 180 bytes otherwise

    def _close_came(self, message: Message.Close) -> None:
        # RFC 6455 §7.1.5: an empty Close frame is reported as 1005
        code = 1005 if message.code is None else message.code
        self.error = None
        closed = ConnectionClosed(code, message.reason)
        self._end_input(Inbound.CLOSE_SEEN, closed, message.reason)
        if self.can_send:
            self.peer_first = True
            # RFC 6455 §5.5.1: the answer typically echoes the status code
            self._send_close_frame(message.code, "")
        self._end_output_first()
        self._wait_for_end()

    def _wait_for_close(self) -> None:
        self._wait(self._close_timeout)

    @property
    def _close_timeout(self) -> float:
        """Seconds for the peer's Close."""
        own = self._own_close_timeout
        return own or self.tunnel.connection.config.ws_close_timeout

    def _wait_for_end(self) -> None:
        self._wait(_END_TIMEOUT)

    def _wait(self, timeout: float) -> None:
        if self.outbound is Outbound.OVER:
            return
        connection = self.tunnel.connection
        if self._deadline is None:
            self._deadline = connection.deadlines.new(self._deadline_reached)
        self._deadline.set(connection.time() + timeout)

    def _send_close_frame(self, code: int | None, reason: str) -> None:
        self._enter_outbound(Outbound.CLOSE_SENT)
        self.sent_code = 1005 if code is None else code
        self.tunnel.send_data(encode_close(code, reason, self._encode))

    def _end_without_close(self, state: Inbound, reason: str = "") -> None:
        # RFC 6455 §7.1.5: no Close frame was received: 1006
        self.error = error = ConnectionClosed(1006, reason)
        self._end_input(state, error, reason)

    def _end_input(self, state: Inbound, end: WsError, reason: str = "") -> None:
        """Expect nothing more; ``end`` is what a reader gets."""
        self.end = end
        self.close_code, self.close_reason = end.close_code, reason
        self._enter_inbound(state)

    def _end_output_first(self) -> None:
        """End the stream if this end has to be the first (RFC 6455 §7.1.1).

        A client that ends its stream right behind its Close, or sends anything to a
        stream that the server has forgotten, can cost it the whole connection.
        """
        if self._role is _SERVER:
            self._end_output()

    def _end_output(self) -> None:
        if self.outbound < Outbound.ENDED:
            self._enter_outbound(Outbound.ENDED)
            if not self.tunnel.over:
                # RFC 8441 §5: END_STREAM stands for the FIN of RFC 6455 §7.1.1
                self.tunnel.send_data(b"", end=True)

    def _deadline_reached(self) -> None:
        """Wait no longer: for the session, the peer's Close, or its end of stream."""
        if self._answer_violation():
            return
        if self.end is None:
            self._end_without_close(Inbound.FAILED)
        if self._role is _SERVER and self.outbound < Outbound.ENDED:
            self._end_output()
            self._wait_for_end()
            self.tunnel.flush()
            return
        self._enter_outbound(Outbound.OVER)
        # RFC 9113 §8.1: NO_ERROR is for a server that needs nothing more
        served = self._role is _SERVER and self.inbound is Inbound.CLOSE_SEEN
        self.tunnel.reset(ErrorCode.NO_ERROR if served else ErrorCode.CANCEL)

    def _enter_inbound(self, state: Inbound) -> None:
        if CHECKED:
            check_transition(_NEXT_INBOUND, self.inbound, state)
        self.inbound = state
        self._express = self.inbox.plain = False
        if self._keep_alive is not None:
            self._keep_alive.stop()
        self.readable.set()
        if _logger.isEnabledFor(logging.DEBUG):  # else its name is not needed
            _logger.debug("%#x: inbound is %s", id(self), state.name)

    def _enter_outbound(self, state: Outbound) -> None:
        if CHECKED:
            check_transition(_NEXT_OUTBOUND, self.outbound, state)
        self.outbound = state
        self.can_send = self.direct = False  # no state leads back to OPEN
        for relay in self.relays:
            relay.closing()
        if state is Outbound.OVER:
            if self._deadline is not None:
                self._deadline.close()
            self.readable.set()
        self._wake_writers()
        if _logger.isEnabledFor(logging.DEBUG):
            _logger.debug("%#x: outbound is %s", id(self), state.name)

    def _check_open(self) -> None:
        if not self.can_send:
            code = self.sent_code if self.close_code is None else self.close_code
            raise ConnectionClosed(code, self.close_reason)
