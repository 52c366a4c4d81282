"""HTTP/2 streams of every age, referred to in every way: nothing raises.

A machine plays a peer and the application on one connection. It opens streams, ends
and resets them from both sides, makes the engine forget them, and sends frames of each
type for whatever stream it knows of or does not: legal ones, illegal ones, cut
anywhere, with answers, tunnels, timeouts and the end of the connection in between.

What a single frame must lead to is the business of the tests beside it; here it is what
holds whatever came before. RFC 9113 §5.1 and §5.4.
"""

import struct
from collections import Counter, deque
from contextlib import suppress

from hypothesis import HealthCheck, note, settings as profile, strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.errors import ConnectionClosed, LocalProtocolError
from tako.h2 import H2Exchange
from tako.h2.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HAS_PRIORITY,
    HEADERS,
    MAX_STREAM_ID,
    PADDED,
    PING,
    PREFACE,
    PRIORITY,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
)
from tako.h2.lifecycle import H2Phase
from tako.testing.peer.websocket import encode_frame
from tako.ws.conversation import Conversation
from tako.ws.options import WsOptions
from tests.support.h2wire import (
    CONNECT,
    GET,
    POST,
    SETTINGS_ACK,
    Fields,
    Peer,
    RecordingSink,
    data,
    rst,
    settings,
    window_update,
)


EXAMPLES = 40  # in a run of the suite; thousands when something here has changed

CALM = ErrorCode.ENHANCE_YOUR_CALM
ANY = frozenset(ErrorCode)
NONE: frozenset[ErrorCode] = frozenset()

HEADS: list[tuple[Fields, bool]] = [
    (GET, True),
    (GET, True),
    (POST, False),
    (POST, False),
    (CONNECT, False),
    (CONNECT, False),
    (CONNECT, True),
    ([(":method", "HEAD"), *GET[1:]], True),
    ([*POST, ("content-length", "10")], False),
    ([*POST, ("content-length", "10")], True),
    ([*POST, ("expect", "100-continue")], False),
    ([*GET, ("Bad", "name")], True),
    ([*GET, ("x", "y" * 9000), ("z", "y" * 9000)], False),  # 431
    (GET[:2], False),
]
TRAILERS: list[Fields] = [[("a", "b")], [("A", "b")], [(":path", "/")], [], GET]
WHICH = ["open", "open", "open", "closed", "closed", "skipped"]
GREAT = 2**31 - 1

which = st.sampled_from(WHICH)
some = st.integers(0, 2**16)  # which one of those that are eligible
hold = st.sampled_from([0, 0, 0, 1, 5, 9, 10, 30])  # octets that come with the next
pieces = st.sampled_from([0, 1, 2, 9, 10, 11, 200, 1000, 16_000])


class Memory(dict[int, bool]):
    """What the gate remembers of streams that were reset, and how often it began to."""

    def __init__(self) -> None:
        super().__init__()
        self.times: Counter[int] = Counter()

    def __setitem__(self, stream_id: int, answered: bool) -> None:
        self.times[stream_id] += stream_id not in self
        super().__setitem__(stream_id, answered)


class Streams(RuleBasedStateMachine):
    """The peer, and the application, of one connection."""

    peer: Peer

    @initialize(
        lane=st.booleans(),
        memory=st.sampled_from([3, 3, 8, 1024]),
        most=st.sampled_from([1, 3, 100]),
        resets=st.sampled_from([1, 10, 1000]),
        window=st.sampled_from([1, 1000, 65_535, 1 << 18]),
        requests=st.sampled_from([7, 100_000, 100_000]),
        interval=st.sampled_from([None, 3.0]),
        acknowledge=st.sampled_from([True, True, True, False]),
    )
    def begin(
        self,
        *,
        lane: bool,
        memory: int,
        most: int,
        resets: int,
        window: int,
        requests: int,
        interval: float | None,
        acknowledge: bool,
    ) -> None:
        self.memory = max(memory, most)
        config = ServerConfig(
            h2_max_concurrent_streams=most,
            h2_max_pending_accept_reset_streams=resets,
            h2_initial_window_size=window,
            h2_max_requests=requests,
            h2_keep_alive_interval=interval,
        )
        self.most = most
        self.peer = Peer(lane=lane, config=config, greet=False)
        self.engine = self.peer.engine
        self.gate = self.engine._reader
        self.closed = self.gate._closed_streams
        self.closed._most = self.memory
        self.closed._ended = deque(maxlen=self.memory)
        self.closed._reset = self.remembered = Memory()
        self.next_id = 1
        self.skipped: list[int] = []
        self.held = b""
        self.noisy = False  # where a frame begins is not known any more
        self.allowed = NONE  # connection errors that what was sent may lead to
        self.running: list[H2Exchange] = []  # handlers that have not ended
        self.known: list[H2Exchange] = []
        self.sinks: list[RecordingSink] = []
        self.ended = False  # the peer's direction, or the connection
        self.pieces = 0  # how many were sent
        # What was seen on the wire
        self.last_stream = MAX_STREAM_ID
        self.failed: ErrorCode | None = None
        self.calmed = False
        self.resets: Counter[int] = Counter()  # RST_STREAM frames of each stream
        self.output_over: set[int] = set()
        self.send(PREFACE + settings() + (SETTINGS_ACK if acknowledge else b""))

    def teardown(self) -> None:
        """Lose the connection: everything must come to its end."""
        if not hasattr(self, "peer"):
            return
        self.engine.connection_lost()
        self.look()
        assert not self.engine.exchanges
        for sink in self.sinks:
            assert sink.ends
        while self.running:
            self.end_handler(0)
        assert self.engine._running == 0
        for exchange in self.known:
            assert exchange.over
            exchange.send_headers(200, [])
            exchange.send_data(b"x", end=True)
            exchange.consumed(1 << 20)
            exchange.reset()
        assert self.engine.receive_data(data(1, b"x")) == ()
        self.peer.advance(1000)
        assert self.peer.connection.take() == b""

    # The wire ---------------------------------------------------------------------

    def send(
        self, piece: bytes, hold: int = 0, *, may: frozenset[ErrorCode] = NONE
    ) -> None:
        """Send ``piece``, but for its end; ``may``: the connection errors it allows.

        ENHANCE_YOUR_CALM is always allowed: the budgets are small here.
        """
        if self.ended or self.engine.closing:
            return
        self.pieces += 1
        piece = self.held + piece
        cut = max(len(piece) - hold, 0)
        self.held = piece[cut:]
        self.allowed |= may
        before = self.gate.stopped
        found = self.peer.send(piece[:cut])
        self.running += found
        self.known += found
        self.look()
        if self.gate.stopped and not before and self.failed is not None:
            assert self.failed in self.allowed | {CALM}, self.failed
        if not self.held and not self.noisy:
            self.allowed = NONE

    def look(self) -> None:
        """Hold what the engine has sent against what it had sent before."""
        frames = self.peer.frames()
        goaways = [seen for seen in frames if seen.kind == GOAWAY]
        for seen in frames:
            note(f"      {seen}")
            stream_id = seen.stream_id
            if seen.kind == GOAWAY:
                broken = self.engine._lifecycle.phase is H2Phase.LINGERING
                final = broken and seen is goaways[-1]
                self.look_at_goaway(*struct.unpack(">II", seen.payload), final=final)
            elif seen.kind == RST_STREAM:
                # RFC 9113 §5.4.2: once, or once more when it was forgotten
                self.resets[stream_id] += 1
                assert self.resets[stream_id] <= self.remembered.times[stream_id]
            elif stream_id and seen.kind != WINDOW_UPDATE:
                assert stream_id not in self.resets
                assert stream_id not in self.output_over
            if seen.ends:
                self.output_over.add(stream_id)

    def look_at_goaway(self, last_stream: int, code: int, *, final: bool) -> None:
        assert self.failed is None, "a GOAWAY after the final one"
        assert last_stream <= self.last_stream  # RFC 9113 §6.8
        self.last_stream = last_stream
        if final:
            self.failed = ErrorCode(code)
        elif code:
            assert (code, self.calmed) == (CALM, False)
            self.calmed = True

    @property
    def late(self) -> bool:
        """So much has happened that the connection may end."""
        return self.pieces > 30

    def stream(self, which: str, some: int) -> int:
        """Return the id of a stream of that kind, or 0 if there is none."""
        open_ones = self.engine.exchanges
        eligible = list(open_ones)
        if which == "skipped":
            opened = self.engine.last_stream_id
            eligible = [i for i in self.skipped if i < opened]
        elif which == "closed":
            eligible = [e.stream_id for e in self.known if e.closed] + [*self.resets]
        elif which == "idle":
            eligible = [self.next_id, self.next_id + 100, 2]
        return eligible[some % len(eligible)] if eligible else 0

    def reaction(self, stream_id: int) -> frozenset[ErrorCode]:
        """Return the connection errors that are allowed for a stream that is idle."""
        opened = self.engine.last_stream_id
        return NONE if stream_id & 1 and stream_id <= opened else ANY

    def head(self, stream_id: int, fields: Fields, flags: int, extra: int) -> bytes:
        """Return HEADERS, with padding, priority, CONTINUATION as ``extra`` says."""
        block = self.peer.encode(fields)
        front = bytes([extra & 3]) if extra & 4 else b""
        flags |= PADDED if extra & 4 else 0
        if extra & 8:
            flags |= HAS_PRIORITY
            parent = stream_id if extra & 16 else 0
            front += struct.pack(">IB", parent, 7)
        back = bytes(extra & 3) if extra & 4 else b""
        if not extra & 32:
            return frame(HEADERS, flags | END_HEADERS, stream_id, front + block + back)
        half = len(block) // 2
        first = frame(HEADERS, flags, stream_id, front + block[:half] + back)
        return first + frame(9, END_HEADERS, stream_id, block[half:])

    # What the peer does -----------------------------------------------------------

    @rule(
        kind=st.sampled_from(HEADS),
        extra=st.sampled_from([0, 0, 0, 0, 4, 5, 8, 24, 32, 45]),
        skip=st.sampled_from([0, 0, 0, 1, 3]),
        hold=hold,
    )
    def open(self, kind: tuple[Fields, bool], extra: int, skip: int, hold: int) -> None:
        fields, end = kind
        for _ in range(skip):
            self.skipped.append(self.next_id)
            self.next_id += 2
        stream_id, self.next_id = self.next_id, self.next_id + 2
        if self.next_id > GREAT:
            return
        self.send(self.head(stream_id, fields, END_STREAM * end, extra), hold)

    @rule(which=which, some=some, size=pieces, end=st.booleans(), hold=hold)
    def send_data(self, which: str, some: int, size: int, end: bool, hold: int) -> None:
        stream_id = self.stream(which, some)
        if not stream_id:
            return
        piece = data(stream_id, bytes(size), end=end)
        self.send(piece, hold, may=self.reaction(stream_id))

    @rule(which=which, some=some, size=st.integers(0, 255), end=st.booleans())
    def send_padding(self, which: str, some: int, size: int, end: bool) -> None:
        stream_id = self.stream(which, some)
        if not stream_id:
            return
        flags = PADDED | END_STREAM * end
        payload = bytes([size]) + b"abc" + bytes(size)
        self.send(frame(DATA, flags, stream_id, payload), may=self.reaction(stream_id))

    @rule(which=which, some=some, opcode=st.sampled_from([1, 2, 8, 9, 10, 3]))
    def send_message(self, which: str, some: int, opcode: int) -> None:
        stream_id = self.stream(which, some)
        if not stream_id:
            return
        piece = data(stream_id, encode_frame(opcode, b"\x03\xe8"))
        self.send(piece, may=self.reaction(stream_id))

    @rule(
        which=which,
        some=some,
        fields=st.sampled_from(TRAILERS),
        end=st.booleans(),
        extra=st.sampled_from([0, 0, 0, 4, 8, 24, 32, 61]),
        hold=hold,
    )
    def send_trailers(
        self, which: str, some: int, fields: Fields, end: bool, extra: int, hold: int
    ) -> None:
        stream_id = self.stream(which, some)
        # RFC 9113 §5.1, §5.1.1: for a stream that has ended, or was never opened
        known = stream_id in self.engine.exchanges or stream_id in self.closed._reset
        if not stream_id or not (known or self.late):
            return
        closed = {ErrorCode.STREAM_CLOSED, ErrorCode.PROTOCOL_ERROR}
        # what is held back may come when the stream has ended, or is forgotten
        may = NONE if known and not (self.held or hold) else frozenset(closed)
        piece = self.head(stream_id, fields, END_STREAM * end, extra)
        self.send(piece, hold, may=may)

    @rule(which=which, some=some, code=st.sampled_from([0, 8, 0xFFFF]), hold=hold)
    def send_rst(self, which: str, some: int, code: int, hold: int) -> None:
        stream_id = self.stream(which, some)
        if not stream_id:
            return
        self.send(rst(stream_id, code), hold, may=self.reaction(stream_id))

    @rule(
        which=which, some=some, size=st.sampled_from([0, 1, 70_000, GREAT, 2**31 + 9])
    )
    def send_window_update(self, which: str, some: int, size: int) -> None:
        stream_id = self.stream(which, some)
        if not stream_id:
            return
        piece = window_update(stream_id, size)
        self.send(piece, may=self.reaction(stream_id))

    @rule(
        which=which, some=some, size=st.sampled_from([5, 5, 4, 0]), itself=st.booleans()
    )
    def send_priority(self, which: str, some: int, size: int, itself: bool) -> None:
        stream_id = self.stream(which, some)
        if not stream_id:
            return
        parent = stream_id if itself else 0
        payload = struct.pack(">IB", parent, 1)[:size]
        piece = frame(PRIORITY, 0, stream_id, payload)
        self.send(piece, may=self.reaction(stream_id))

    @rule(which=which, some=some, kind=st.integers(10, 255), size=pieces)
    def send_unknown(self, which: str, some: int, kind: int, size: int) -> None:
        self.send(frame(kind, 0xFF, self.stream(which, some), bytes(size)))

    @rule(
        entries=st.lists(
            st.tuples(
                st.sampled_from([1, 2, 3, 4, 4, 4, 5, 6, 8, 77]),
                st.sampled_from([0, 1, 1, 16_384, 70_000, GREAT, 2**31]),
            ),
            max_size=4,
        ),
        hold=hold,
    )
    def send_settings(self, entries: list[tuple[int, int]], hold: int) -> None:
        fine = {2: [0, 1], 4: range(70_001), 5: range(16_384, 2**24), 8: [0, 1]}
        bad = [(k, v) for k, v in entries if k in fine and v not in fine[k]]
        codes = {ErrorCode.PROTOCOL_ERROR, ErrorCode.FLOW_CONTROL_ERROR}
        windows = [e.send_window for e in self.known]
        if bad or max(windows, default=0) > GREAT - 70_000:
            if not self.late:
                return
            self.send(settings(*entries), hold, may=frozenset(codes))
        else:
            self.send(settings(*entries), hold)

    @rule(
        piece=st.sampled_from(
            [
                SETTINGS_ACK,
                frame(PING, 0, 0, b"12345678"),
                frame(PING, ACK, 0, b"drained?"),
                frame(PING, ACK, 0, b"whatever"),
                window_update(0, 1 << 20),
            ]
        ),
        hold=hold,
    )
    def send_control(self, piece: bytes, hold: int) -> None:
        self.send(piece, hold)

    @rule()
    def let_go(self) -> None:
        """Send what was held back."""
        self.send(b"")

    @rule(by_us=st.booleans(), kind=st.sampled_from(["reset", "answer", "skip"]))
    def forget(self, by_us: bool, kind: str) -> None:
        """Close more streams than are remembered."""
        for _ in range(self.memory + 1):
            if self.next_id > GREAT:
                return
            stream_id, self.next_id = self.next_id, self.next_id + 2
            if kind == "skip":
                self.skipped.append(stream_id)
                continue
            self.send(self.peer.headers(stream_id))
            exchange = self.engine.exchanges.get(stream_id)
            if exchange is None or self.ended:
                continue
            if kind == "answer":
                exchange.send_headers(200, [], end=True)
            elif by_us:
                exchange.reset()
            else:
                self.send(rst(stream_id))
            self.look()
            while exchange in self.running:
                self.end_handler(self.running.index(exchange))
        if kind == "skip":
            self.send(self.peer.headers(self.next_id))
            self.next_id += 2
            for stream_id in self.skipped[-self.memory - 1 :]:
                self.send(data(stream_id, b"x"))
                self.peer.advance(0.01)
                self.look()

    @precondition(lambda self: self.late)
    @rule(
        some=some,
        kind=st.sampled_from(
            [
                "idle",
                "even",
                "zero",
                "push",
                "length",
                "continuation",
                "large",
                "block",
                "goaway",
                "last",
                "noise",
            ]
        ),
        noise=st.binary(max_size=60),
    )
    def break_something(self, some: int, kind: str, noise: bytes) -> None:
        idle = self.stream("idle", some)
        live = self.stream("open", some)
        piece = {
            "idle": [data(idle, b"x"), rst(idle), window_update(idle, 1)][some % 3],
            "even": self.peer.headers(2),
            "zero": frame(
                [DATA, HEADERS, PRIORITY, RST_STREAM][some % 4], 0, 0, bytes(8)
            ),
            "push": frame(PUSH_PROMISE, END_HEADERS, live, bytes(9)),
            "length": frame(
                [PING, RST_STREAM, SETTINGS, GOAWAY][some % 4], 0, 0, bytes(3)
            ),
            "continuation": frame(9, END_HEADERS, live, b"\x82"),
            "large": frame(DATA, 0, live, bytes(16_385)),
            "block": frame(HEADERS, END_HEADERS, live, b"\xff\xff\xff\xff\xff\xff\xff"),
            "goaway": frame(GOAWAY, 0, 0, bytes(8)),
            "last": self.peer.headers(GREAT),
            "noise": noise,
        }[kind]
        if kind == "last":
            self.next_id = GREAT + 2
        self.noisy = self.noisy or kind == "noise"
        self.send(piece, may=ANY)

    @precondition(lambda self: self.late)
    @rule(lost=st.booleans())
    def leave(self, lost: bool) -> None:
        if lost:
            self.engine.connection_lost()
        elif not self.ended and not self.engine.closing:
            self.engine.receive_eof()
        self.ended = True
        self.look()

    # What the application does ----------------------------------------------------

    def pick(self, some: int) -> H2Exchange | None:
        """Return an exchange, an old one now and then."""
        recent = self.known[-8:] if some % 3 else self.known
        return recent[some // 3 % len(recent)] if recent else None

    def end_handler(self, index: int) -> None:
        exchange = self.running.pop(index)
        exchange.ended()
        self.look()

    @rule(
        some=some,
        status=st.sampled_from([103, 200, 200, 204, 401]),
        end=st.booleans(),
        length=st.sampled_from([None, b"3"]),
    )
    def send_headers(
        self, some: int, status: int, end: bool, length: bytes | None
    ) -> None:
        exchange = self.pick(some)
        if exchange is not None:
            fields = [] if length is None else [(b"content-length", length)]
            with suppress(LocalProtocolError):
                exchange.send_headers(status, fields, end=end and status >= 200)
            self.look()

    @rule(some=some, size=pieces, end=st.booleans())
    def send_body(self, some: int, size: int, end: bool) -> None:
        exchange = self.pick(some)
        if exchange is None:
            return
        sink = exchange.sink
        with suppress(LocalProtocolError, ConnectionClosed):
            if not isinstance(sink, Conversation):
                exchange.send_data(bytes(size), end=end)
            elif end:
                sink.send_close(1000)
            else:
                sink.send_message(0x82, bytes(size))
        self.look()

    @rule(some=some)
    def end_response(self, some: int) -> None:
        exchange = self.pick(some)
        if exchange is not None and not isinstance(exchange.sink, Conversation):
            with suppress(LocalProtocolError):
                exchange.send_trailers([(b"a", b"b")])
            self.look()

    @rule(some=some)
    def answer(self, some: int) -> None:
        """Do what most handlers do."""
        if self.running:
            index = some % len(self.running)
            exchange = self.running[index]
            if not exchange.tunnel:
                with suppress(LocalProtocolError):
                    exchange.send_headers(200, [])
                    exchange.send_data(b"hello", end=True)
            self.end_handler(index)

    @rule(greedy=st.sampled_from([True, False, None]))
    def tunnel(self, greedy: bool | None) -> None:
        self.open(kind=(CONNECT, False), extra=0, skip=0, hold=0)
        self.accept(some=0, greedy=greedy)

    @rule(some=some, greedy=st.sampled_from([True, False, None]))
    def accept(self, some: int, greedy: bool | None) -> None:
        waiting = [e for e in self.known if e.connect and not e.head_sent]
        if not waiting:
            return
        exchange = waiting[some % len(waiting)]
        if greedy is None:
            tunnel = exchange.open_tunnel(200, [])
            socket = Conversation(tunnel, WsOptions())
            tunnel.receive_into(socket, socket.inbox)
        else:
            sink = RecordingSink(exchange, greedy=greedy)
            self.sinks.append(sink)
            exchange.open_tunnel(200, []).receive_into(sink)
        self.look()

    @rule(some=some)
    def read(self, some: int) -> None:
        exchange = self.pick(some)
        if exchange is None:
            return
        sink = exchange.sink
        if isinstance(sink, Conversation):
            while sink.inbox.messages:
                sink.take()
            sink.resume()
        elif isinstance(sink, RecordingSink) and not sink.greedy:
            sink.greedy = True
            exchange.consumed(len(sink.data))
        elif sink is exchange.body:
            while exchange.body._chunks:
                self.peer.connection.runtime.run(exchange.body.next_chunk)
        self.look()

    @rule(some=some, code=st.sampled_from([ErrorCode.NO_ERROR, ErrorCode.CANCEL]))
    def reset(self, some: int, code: ErrorCode) -> None:
        exchange = self.pick(some)
        if exchange is not None:
            exchange.reset(code)
            self.look()

    @rule(some=some)
    def handler_ends(self, some: int) -> None:
        if self.running:
            self.end_handler(some % len(self.running))

    # What else happens ------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.1, 0.1, 0.6, 1.1, 6, 40]))
    def time_passes(self, seconds: float) -> None:
        if seconds < 30 or self.late:
            self.peer.advance(seconds)
            self.look()

    @rule(writable=st.booleans())
    def transport(self, writable: bool) -> None:
        self.peer.connection.writable = writable
        if writable and not self.ended:
            self.engine.wake_writers()
        self.look()

    @precondition(lambda self: self.late)
    @rule()
    def shut_down(self) -> None:
        self.engine.shut_down()
        self.look()

    # What holds -------------------------------------------------------------------

    @invariant()
    def exchanges_are_the_open_streams(self) -> None:
        for stream_id, exchange in self.engine.exchanges.items():
            assert exchange.stream_id == stream_id
            assert not exchange.closed
            assert not (exchange.over and exchange.peer_ended)
            assert stream_id not in self.resets
        for exchange in self.known:
            assert exchange.closed or exchange.stream_id in self.engine.exchanges
        assert len(self.engine.exchanges) <= self.most

    @invariant()
    def slots_are_the_running_handlers(self) -> None:
        assert self.engine._running == len(self.running) <= self.most

    @invariant()
    def what_is_remembered_is_bounded(self) -> None:
        assert len(self.closed._reset) <= self.memory
        assert len(self.closed._ended) <= self.memory
        assert set(self.gate._lane) <= set(self.engine.exchanges)

    @invariant()
    def nothing_is_open_once_the_connection_closes(self) -> None:
        if self.engine.closing:
            assert not self.engine.exchanges
            assert self.gate.stopped


def test_whatever_a_peer_says_of_its_streams_nothing_raises() -> None:
    run_state_machine_as_test(
        Streams,
        settings=profile(
            max_examples=EXAMPLES,
            stateful_step_count=60,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
