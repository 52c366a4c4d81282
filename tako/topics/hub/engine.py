"""``HubEngine``: a worker's connection to the hub.

Theory of operation. ``run`` makes a pair of sockets, sends one end through the door,
and talks over the other; if that ends, it does so again. ``LineState`` says how far it
is.

* Frames of one turn of the loop are written together.
* What is published is a *batch* until the hub has acknowledged all of it. Nothing waits
  here for a hub: the publisher does (``topics/publisher.py``).
* A hub that owes an answer and sends nothing hangs: its connection is ended. Once a
  second is a look at that. Looks are counted, and not seconds, so that a worker that
  stood still itself blames no other.
* Topics are subscribed to again at each hub. A gap stands between the last message from
  before and the first from then on, at the moment from which nothing is missed: so a
  subscriber that then looks elsewhere for what it lacks has it all.
"""

import enum
import logging
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from tako.core.loop import Signal, Transport
from tako.core.states import CHECKED, check_transition
from tako.errors import Disconnected, TopicsUnavailable
from tako.runtime import OpenRuntime, current
from tako.topics.engine import Receiver, Replay
from tako.topics.history import History
from tako.topics.hub import wire
from tako.topics.item import Cause, Data, Item, Position


_logger = logging.getLogger("tako.topics")

_MOST_TOPICS = 65_536  # as the hub has it
_LOOK_EVERY = 1.0  # seconds
_PATIENCE = 5  # looks
_FIRST_PAUSE = 0.1  # seconds
_LONGEST_PAUSE = 5.0
_NO_EPOCH = "0" * 16


class LineState(enum.IntEnum):
    """How far the connection to the hub is."""

    OUT = 0
    """There is none."""
    JOINING = 1
    """It was sent through the door; the hub has not answered."""
    JOINED = 2
    """The hub has answered."""


_NEXT: dict[LineState, frozenset[LineState]] = {
    LineState.OUT: frozenset({LineState.JOINING}),
    LineState.JOINING: frozenset({LineState.JOINED, LineState.OUT}),
    LineState.JOINED: frozenset({LineState.OUT}),
}


class _Batch:
    """What one call publishes.

    Attributes:
        count: of messages.
        positions: those that the hub has told.
        lost: the hub has gone before it had told all.
    """

    __slots__ = ("count", "lost", "positions", "signal")

    def __init__(self, count: int, signal: Signal) -> None:
        self.count: int = count
        self.positions: list[Position] = []
        self.lost: bool = False
        self.signal: Signal = signal


class _Wanted:
    """A topic that is subscribed to.

    Attributes:
        number: on this connection; ``None``: the hub was not asked yet.
        live: the hub has confirmed it on this connection.
        over: it was unsubscribed from.
        epoch: of its messages; ``""``: it was never confirmed.
        last: the offset of the latest message.
    """

    __slots__ = ("epoch", "last", "live", "name", "number", "over", "signal", "topic")

    def __init__(self, topic: str) -> None:
        self.topic: str = topic
        self.name: bytes = topic.encode()
        self.number: int | None = None
        self.live: bool = False
        self.over: bool = False
        self.epoch: str = ""
        self.last: int = 0
        self.signal: Signal | None = None


class _Request:
    """A question for history.

    Attributes:
        found: offsets and messages.
        epoch: of their topic.
        last: the offset of the latest message of that.
        flags: of the answer, once it has ended.
        ended: it has.
        lost: the connection has.
    """

    __slots__ = ("ended", "epoch", "flags", "found", "last", "lost", "signal")

    def __init__(self, signal: Signal) -> None:
        self.found: list[tuple[int, Data]] = []
        self.epoch: str = _NO_EPOCH
        self.last: int = 0
        self.flags: int = 0
        self.ended: bool = False
        self.lost: bool = False
        self.signal: Signal = signal


class HubEngine:
    """An ``Engine`` that goes through the hub of this machine.

    Attributes:
        state: how far its connection is.
    """

    def __init__(self, door: socket.socket, history: History | None = None) -> None:
        """Make one that connects through ``door``, which does not block."""
        self._door: Final = door
        self._greeting = _greeting(history)
        self._receiver: Receiver | None = None  # while it runs
        self._runtime: OpenRuntime | None = None
        self._line: _Line | None = None
        self._left: Signal | None = None  # the line has ended
        self._ended = False
        self._out: list[bytes] = []  # to be written at the end of the turn
        self._batches: deque[_Batch] = deque()  # that are not acknowledged
        self._wanted: dict[str, _Wanted] = {}
        self._unconfirmed = 0  # of them, on this line
        self._numbers: dict[int, _Wanted] = {}
        self._free: list[int] = []  # numbers that were used
        self._requests: dict[int, _Request] = {}
        self._asked = 0
        self._joined: list[Signal] = []  # of questions that wait for a hub
        self.state: LineState = LineState.OUT

    # The connection ------------------------------------------------------------------

    async def run(self, receiver: Receiver) -> None:
        """Connect and receive until cancelled; called once. Cancel safety: ends it."""
        self._receiver = receiver
        backend = current()
        self._left = left = backend.signal()
        async with backend.open_runtime() as runtime:
            self._runtime = runtime
            pause = 0.0
            try:
                while True:
                    line = await self._connect(runtime)
                    while line is not None and line is self._line:
                        await left.wait(_LOOK_EVERY)
                        self._look(line)
                    pause = min(max(pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
                    if line is not None and line.met:
                        pause = 0.0
                    await runtime.sleep(pause)
            finally:
                self._end()

    async def _connect(self, runtime: OpenRuntime) -> "_Line | None":
        """Send a connection through the door; ``None``: that takes none."""
        ours = self._offered()
        if ours is None:
            return None
        self._line = line = _Line(self)
        self._enter(LineState.JOINING)
        try:
            await runtime.attach(ours, line)
        finally:
            if line.transport is None:
                ours.close()
        return line

    def _offered(self) -> socket.socket | None:
        """Send one end of a pair through the door; return the other."""
        try:
            ours, theirs = socket.socketpair()
        except OSError as error:  # no descriptor is left
            _logger.warning("no connection to the hub: %s", error)
            return None
        with theirs:
            try:
                socket.send_fds(self._door, [b"\0"], [theirs.fileno()])
            except OSError as error:  # it is full, or the supervisor is gone
                _logger.debug("nothing goes through the door: %s", error)
                ours.close()
                return None
        return ours

    def _look(self, line: "_Line") -> None:
        """End the connection of a hub that hangs."""
        owes = not line.met or self._batches or self._requests or self._unconfirmed
        line.looks = line.looks + 1 if owes else 0
        if line.looks > _PATIENCE and line is self._line:
            _logger.warning("the hub does not answer: connecting anew")
            self._lose()

    def _lose(self) -> None:
        """Give up the connection, or take note that it has ended."""
        if self._line is not None:
            self._line.close()
            self._line = None
        up = self.state is LineState.JOINED
        if self.state is not LineState.OUT:
            self._enter(LineState.OUT)
        if up and self._receiver is not None:
            self._receiver.state(up=False)
        self._out.clear()
        self._numbers.clear()
        self._free.clear()
        self._unconfirmed = 0
        for wanted in self._wanted.values():
            wanted.number, wanted.live = None, False
        for batch in self._batches:
            batch.lost = True
            batch.signal.set()
        self._batches.clear()
        for request in self._requests.values():
            request.lost = True
            request.signal.set()
        if self._left is not None:
            self._left.set()

    def _end(self) -> None:
        """Have those who wait for a hub hear that there will be none."""
        self._ended = True
        self._lose()
        waiting = [wanted.signal for wanted in self._wanted.values()]
        for signal in (*waiting, *self._joined):
            if signal is not None:
                signal.set()

    def greet(self) -> bytes:
        """Return what is written first."""
        return self._greeting

    def ended(self, line: "_Line") -> None:
        """Take note that a connection has ended."""
        if line is self._line:
            self._lose()

    def take(self, line: "_Line", frame: wire.Frame) -> None:
        """Take a frame that is no live message; a wrong one ends the line."""
        kind, flags, number, offset, payload = frame
        if (kind == wire.HELLO) == line.met:
            self._lose()
        elif kind == wire.HELLO:
            line.met = True
            self._greeted()
        elif kind == wire.ACK:
            self._acknowledged(payload)
        elif kind == wire.SUB and number in self._numbers:
            self._confirmed(self._numbers[number], payload.hex(), offset)
        elif kind == wire.UNSUB and number in self._numbers:
            del self._numbers[number]
            self._free.append(number)
        elif kind == wire.GAP and number in self._numbers:
            self._missed(self._numbers[number], payload, offset)
        elif kind in {wire.PAST, wire.DONE}:
            self._answered(kind, flags, number, offset, payload)
        else:
            self._lose()

    def message(self, number: int, flags: int, offset: int, data: bytes) -> None:
        """Take a live message."""
        wanted = self._numbers.get(number)
        if wanted is None:
            self._lose()
        elif not wanted.over and self._receiver is not None:
            wanted.last = offset
            self._receiver.message(
                wanted.topic, _decoded(flags, data), Position(wanted.epoch, offset)
            )

    def _greeted(self) -> None:
        self._enter(LineState.JOINED)
        if self._receiver is not None:
            self._receiver.state(up=True)
        for wanted in self._wanted.values():
            self._ask_for(wanted)
        for signal in self._joined:
            signal.set()

    def _enter(self, state: LineState) -> None:
        if CHECKED:
            check_transition(_NEXT, self.state, state)
        self.state = state
        _logger.debug("the line to the hub is %s", state.name)

    def _send(self, data: bytes) -> None:
        """Write ``data`` at the end of this turn."""
        if not self._out and self._runtime is not None:
            self._runtime.call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        if self._out and self._line is not None:
            self._line.write(b"".join(self._out))
        self._out.clear()

    # Publishing ----------------------------------------------------------------------

    async def publish(self, batch: Sequence[tuple[str, Data]]) -> Sequence[Position]:
        """Publish messages; return their places once the hub has them all.

        Raises:
            Disconnected: the hub is gone, and may have taken some.
            TopicsUnavailable: there is no hub; nothing was taken.
            ValueError: the name of a topic, or a message, is too large.

        Cancel safety: the messages are published all the same.
        """
        frames = b"".join(map(_published, batch))
        if self.state is not LineState.JOINED:
            msg = "the hub of this machine is not reached"
            raise TopicsUnavailable(msg)
        made = _Batch(len(batch), current().signal())
        if batch:
            self._batches.append(made)
            self._send(frames)
        while len(made.positions) < made.count:
            if made.lost:
                msg = "the hub is gone, and may have taken the messages"
                raise Disconnected(msg)
            await made.signal.wait()
        return made.positions

    def _acknowledged(self, payload: bytes) -> None:
        batches = self._batches
        for epoch, offset in wire.PLACE.iter_unpack(payload):
            batch = batches[0]
            batch.positions.append(Position(epoch.hex(), offset))
            if len(batch.positions) == batch.count:
                batches.popleft()
                batch.signal.set()

    # Subscribing ---------------------------------------------------------------------

    async def subscribe(self, topics: Sequence[str]) -> None:
        """Receive messages of topics from now on; return when that is certain.

        Raises:
            TopicsUnavailable: topics are too many, or ``run`` has ended.

        Cancel safety: the topics are subscribed to all the same.
        """
        if len(self._wanted) + len(topics) > _MOST_TOPICS:
            msg = f"a process subscribes to {_MOST_TOPICS} topics at the most"
            raise TopicsUnavailable(msg)
        signal = current().signal()
        mine = list[_Wanted]()
        for topic in topics:
            wanted = self._wanted.get(topic)
            if wanted is None:
                wanted = self._wanted[topic] = _Wanted(topic)
                if self.state is LineState.JOINED:
                    self._ask_for(wanted)
            wanted.signal = signal
            mine.append(wanted)
        while not all(wanted.live or wanted.over for wanted in mine):
            if self._ended:
                msg = "topics have ended"
                raise TopicsUnavailable(msg)
            await signal.wait()

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Receive no more messages of topics."""
        for topic in topics:
            wanted = self._wanted.pop(topic, None)
            if wanted is None:
                continue
            wanted.over = True
            if wanted.signal is not None:
                wanted.signal.set()
            if wanted.number is not None:
                self._send(wire.frame(wire.UNSUB, number=wanted.number))

    def _ask_for(self, wanted: _Wanted) -> None:
        # each number that was given out is in one of the two: this one is new
        number = self._free.pop() if self._free else len(self._numbers)
        self._numbers[number] = wanted
        wanted.number = number
        self._unconfirmed += 1
        self._send(wire.frame(wire.SUB, wanted.name, number=number))

    def _confirmed(self, wanted: _Wanted, epoch: str, offset: int) -> None:
        self._unconfirmed -= 1
        before, last = wanted.epoch, wanted.last
        wanted.live, wanted.epoch, wanted.last = True, epoch, offset
        if wanted.signal is not None:
            wanted.signal.set()
            wanted.signal = None
        if before and not wanted.over and self._receiver is not None:
            missed = offset - last if before == epoch else None
            if missed != 0:
                self._receiver.gap(wanted.topic, Cause.HUB, missed)

    def _missed(self, wanted: _Wanted, payload: bytes, last: int) -> None:
        """Take note that this worker was too slow for the hub."""
        (first,) = wire.OFFSET.unpack(payload)
        wanted.last = last
        if not wanted.over and self._receiver is not None:
            self._receiver.gap(wanted.topic, Cause.SLOW, last - first + 1)

    # History -------------------------------------------------------------------------

    async def history(self, topic: str, since: Position) -> Replay:
        """Return what the hub keeps behind a position.

        Raises:
            TopicsUnavailable: ``run`` has ended.

        Cancel safety: safe.
        """
        items, at = list[Item](), since
        while True:
            await self._wait_until_joined()
            answer = await self._asked_for(topic, at)
            if answer is None:  # the hub is gone
                items, at = [], since
                continue
            if not answer.flags & wire.COMPLETE:  # what came before is not, any more
                items = []
            epoch = answer.epoch
            items += [
                Item(topic, data, Position(epoch, offset))
                for offset, data in answer.found
            ]
            if not answer.flags & wire.MORE:
                known = epoch != _NO_EPOCH
                return Replay(items, Position(epoch, answer.last) if known else None)
            at = Position(epoch, answer.found[-1][0])

    async def _wait_until_joined(self) -> None:
        while self.state is not LineState.JOINED:
            if self._ended:
                msg = "topics have ended"
                raise TopicsUnavailable(msg)
            signal = current().signal()
            self._joined.append(signal)
            try:
                await signal.wait()
            finally:
                self._joined.remove(signal)

    async def _asked_for(self, topic: str, since: Position) -> _Request | None:
        """Return an answer of the hub; ``None``: it did not come to that."""
        request = _Request(current().signal())
        self._asked = number = (self._asked + 1) & 0xFFFFFFFF
        self._requests[number] = request
        epoch, offset = bytes.fromhex(since.epoch), since.offset
        self._send(
            wire.frame(wire.PAST, epoch + topic.encode(), number=number, offset=offset)
        )
        try:
            while not (request.ended or request.lost):
                await request.signal.wait()
        finally:
            del self._requests[number]
        return request if request.ended else None

    def _answered(
        self, kind: int, flags: int, number: int, offset: int, payload: bytes
    ) -> None:
        request = self._requests.get(number)
        if request is None:  # it was cancelled
            return
        if kind == wire.PAST:
            request.found.append((offset, _decoded(flags, payload)))
            return
        request.epoch, request.last = payload.hex(), offset
        request.flags, request.ended = flags, True
        request.signal.set()


class _Line:
    """What the loop calls: a ``loop.Receiver``.

    Attributes:
        transport: ``None``: it is not connected.
        met: the hub has answered.
        looks: how often the hub was seen to owe something since it has sent any.
    """

    __slots__ = ("_engine", "_frames", "looks", "met", "transport")

    def __init__(self, engine: HubEngine) -> None:
        self._engine: HubEngine | None = engine
        self._frames = wire.Frames()
        self.transport: Transport | None = None
        self.met: bool = False
        self.looks: int = 0

    def close(self) -> None:
        """Hear no more, and close the connection."""
        self._engine = None
        if self.transport is not None:
            self.transport.abort()

    def write(self, data: bytes) -> None:
        """Send ``data``."""
        if self.transport is not None:
            self.transport.write(data)

    def connection_made(self, transport: Transport) -> None:
        """Greet the hub, unless that was given up meanwhile."""
        self.transport = transport
        if self._engine is None:
            transport.abort()
        else:
            transport.write(self._engine.greet())

    def data_received(self, data: bytes) -> None:
        """Take what the hub has sent."""
        self.looks = 0
        frames = self._frames
        frames.feed(data)
        while (engine := self._engine) is not None:
            found = frames.next()
            if found is None:
                if frames.fault:
                    engine.ended(self)
                return
            if found[0] == wire.MSG:
                _, flags, number, offset, payload = found
                engine.message(number, flags, offset, payload)
            else:
                engine.take(self, found)

    def eof_received(self) -> bool:
        """Close: the hub is gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell that the connection has ended."""
        if self._engine is not None:
            self._engine.ended(self)

    def pause_writing(self) -> None:
        """Write on: what is not acknowledged is bounded."""

    def resume_writing(self) -> None:
        """Write on."""


def _greeting(history: History | None) -> bytes:
    if history is None:
        return wire.frame(wire.HELLO, wire.GREETING.pack(wire.VERSION, 0, 0))
    kept = wire.GREETING.pack(
        wire.VERSION, history.size, min(history.topics, 0xFFFFFFFF)
    )
    milliseconds = 0 if history.seconds is None else max(1, int(history.seconds * 1000))
    messages = min(history.messages, 0xFFFFFFFF)
    return wire.frame(wire.HELLO, kept, number=messages, offset=milliseconds)


def _published(message: tuple[str, Data]) -> bytes:
    """Return the frame of a message."""
    topic, data = message
    name, flags = topic.encode(), 0
    if isinstance(data, str):
        data, flags = data.encode(), wire.TEXT
    if not 1 <= len(name) <= wire.MOST_NAME or len(data) > wire.MOST_DATA:
        msg = f"a topic of {len(name)} bytes, or a message of {len(data)}"
        raise ValueError(msg)
    return wire.frame(wire.PUB, name + data, flags=flags, number=len(name))


def _decoded(flags: int, data: bytes) -> Data:
    return data.decode(errors="replace") if flags & wire.TEXT else data
