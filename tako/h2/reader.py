"""``FrameReader``: reads every frame, and tells the engine what it means.

Theory of operation. The reader cuts the input into frames and does four jobs.

*Police.* A frame is judged by its nine-byte header before its payload is buffered: its
size, its place, the size of the header block it belongs to. Whole frames are charged to
budgets (``rules.py``), so that no kind of frame can be sent for ever for nothing.

*Read.* What a frame says arrives at the engine as a call, without padding and
priorities, header blocks in one piece and decoded, SETTINGS judged. Each frame is
judged against the state of its stream first, so the engine gets only what that allows.

*Express lane.* Plain DATA of an accepted tunnel goes straight to the tunnel's sink: the
frame changes no state. DATA with END_STREAM does, and goes through the engine.

*Parts.* A large DATA frame of which only the beginning is here is judged, charged to
the windows and counted at once; its payload is handed on as it arrives. So nothing of
it is held, however large a frame may be, and no byte of it is copied to be joined.

*Memory of closed streams* (RFC 9113 §5.1). ``exchanges`` holds the streams that are
open; ``ClosedStreams`` remembers what was closed, and how. What arrives for a closed
stream is answered here: the engine never sees it.

A frame that breaks the connection raises ``ConnectionFault``, which never leaves
the reader: ``receive_data`` turns it into ``H2Endpoint.fail`` and reads nothing more.

Invariants: ``_rest`` holds at most one incomplete frame, or input that was put off; it
is empty while ``_left``, the bytes to come of a DATA frame in progress, is not 0, but
for input that was put off.
"""

import struct
from typing import TYPE_CHECKING, ClassVar, Final, Generic, TypeVar

from hpack import HPACKError, OversizedHeaderListError

from tako.core.counters import hit
from tako.core.error_code import ErrorCode
from tako.core.seams import Connection
from tako.core.views import Place
from tako.h2 import frames
from tako.h2.closed_streams import ClosedStreams
from tako.h2.fields import Field
from tako.h2.flow_control import Output, ReceiveWindow
from tako.h2.frames import Setting
from tako.h2.hpack import FieldDecoder
from tako.h2.rules import (
    ConnectionFault,
    HeaderBlock,
    TokenBucket,
    WindowUpdateBudget,
    check_header,
    decoded_size,
    padding,
)
from tako.h2.settings import read_settings
from tako.h2.stream import H2Stream
from tako.native.loops import Inbox, split_frames, take_data


if TYPE_CHECKING:
    from tako.h2.endpoint import H2Endpoint

S = TypeVar("S", bound=H2Stream)


_BATCH: Final = 16  # frames that are cut off the input at a time
_LANE: Final = 256  # frames of the express lane before that
_LARGE: Final = 4096  # bytes of a DATA frame from which its parts are handed on

# Units of ``Turn``
_MANY: Final = 16_384  # bytes
_LANE_COST: Final = 128  # of that many on the express lane
_FRAME_COST: Final = 8
_HEADERS_COST: Final = 32
_BLOCK_SHIFT: Final = 2  # bytes of a header block for another unit, as a power of two
_STREAMS_SHIFT: Final = 3  # streams that a frame concerns, likewise
_NO_TUNNEL: Final[tuple[None, None]] = (None, None)

_BLOCK_TIMEOUT: Final = 10.0
_SETTINGS_ENTRIES: Final = 32
_SETTINGS_COST: Final = 10
_CONTROL_FRAMES: Final = 1000  # tokens
_CONTROL_RATE: Final = 100  # tokens a second

_NOT_WHEN_IDLE: Final = frozenset(
    {frames.DATA, frames.RST_STREAM, frames.WINDOW_UPDATE}
)
_FOR_ALL: Final = frozenset({frames.SETTINGS, frames.WINDOW_UPDATE})  # on stream 0
_GOAWAY: Final = struct.Struct(">II")  # RFC 9113 §6.8


class FrameReader(Generic[S]):
    """Reads frames for one connection."""

    # For the compiler: ``close`` deletes it
    __deletable__: ClassVar[tuple[str, ...]] = ("_engine",)
    __slots__ = (
        "_block",
        "_budget",
        "_closed_streams",
        "_connection",
        "_deadline",
        "_decoder",
        "_ends",
        "_engine",
        "_express",
        "_frame_size",
        "_lane",
        "_left",
        "_need",
        "_output",
        "_receiving",
        "_rest",
        "_settings_seen",
        "_turn",
        "_window",
        "_window_updates",
        "last_stream_id",
        "stopped",
    )

    def __init__(
        self,
        engine: "H2Endpoint[S]",
        connection: Connection,
        output: Output,
        *,
        frame_size: int = frames.DEFAULT_FRAME_SIZE,
        lane: bool = True,
    ) -> None:
        """Make the reader of a new connection.

        Args:
            engine: the engine.
            connection: the connection.
            output: where answers go.
            frame_size: the largest payload that our SETTINGS allow, in bytes. In force
                at once: until the peer has them it keeps to the default.
            lane: whether tunnels bypass the engine.
        """
        self._engine = engine
        self._connection = connection
        self._turn = connection.turn
        self._output = output
        self._frame_size = frame_size
        self._decoder = FieldDecoder(decoded_size(connection.config))
        self._express = lane
        self._lane: dict[int, tuple[H2Stream, Inbox | None]] = {}
        self._rest = bytearray()
        self._need = 0
        self._left = 0
        self._receiving: S | None = None  # takes it, unless it is dropped
        self._ends = False  # the frame in progress has END_STREAM
        self._settings_seen = False
        self._window = ReceiveWindow(connection.config)
        self._budget = TokenBucket(_CONTROL_FRAMES, _CONTROL_RATE, connection.time())
        self._window_updates = WindowUpdateBudget()
        self._closed_streams = ClosedStreams(
            connection.config.h2_max_concurrent_streams
        )
        self._block = HeaderBlock(decoded_size(connection.config))
        self._deadline = connection.deadlines.new(self._block_late)
        self.last_stream_id: int = 0
        """The last stream that was opened, by the client; an engine of one sets it."""
        self.stopped: bool = False
        """Nothing is read any more."""

    # What the engine calls --------------------------------------------------------

    def start(self) -> None:
        """Open the connection's window."""
        self._output.frames.append(self._window.credit())

    def receive_data(self, data: bytes) -> bool:
        """Read frames; return whether some were put off to the next turn."""
        if self.stopped:
            return False
        try:
            put_off = self._read(self._unread(data) if self._rest else data)
        except ConnectionFault as fault:
            if fault.limit:
                hit(self._connection.counters.limits, fault.limit)
            self.stop()
            self._engine.fail(fault.code)
            return False
        credit = self._window.credit()
        if credit and not self.stopped:
            self._output.frames.append(credit)
        return put_off and not self.stopped

    def stop(self) -> None:
        """Read nothing any more."""
        self.stopped = True
        self._rest.clear()
        self._block.clear()
        self._left = 0
        self._receiving = None
        self._lane.clear()
        self._deadline.set(None)

    def close(self) -> None:
        """Stop, and let go of the engine, once: the connection is lost."""
        self.stop()
        self._deadline.close()
        del self._engine  # what has stopped does not call it

    @property
    def receive_window(self) -> int:
        """Bytes that the peer may send on the connection."""
        return self._window.left

    def place(self) -> Place:
        """Return where received bytes stand; see ``seams.Engine``."""
        stream = 0 if self._receiving is None else self._receiving.stream_id
        return Place(
            left=self._left,
            held=bytes(self._rest),
            stream=stream,
            fields=self._decoder.fields,
        )

    def open_lane(self, exchange: H2Stream, inbox: Inbox | None) -> None:
        """Let DATA of an accepted tunnel bypass the engine."""
        if self._express:
            self._lane[exchange.stream_id] = (exchange, inbox)

    def stream_closed(self, stream_id: int) -> None:
        """Remember a stream that both sides have ended."""
        if self._lane:
            self._lane.pop(stream_id, None)
        self._closed_streams.ended(stream_id)

    def stream_reset(self, stream_id: int, *, by_peer: bool) -> None:
        """Remember a stream that was reset; frames for it may still be on their way."""
        self._lane.pop(stream_id, None)
        self._closed_streams.reset(stream_id, answered=not by_peer)

    # Reading ----------------------------------------------------------------------

    def _unread(self, data: bytes) -> bytes:
        """Return ``data`` behind what was left over, if that is enough."""
        rest = self._rest
        if len(rest) + len(data) < self._need:
            rest += data
            return b""
        data = b"".join((rest, data))
        rest.clear()
        return data

    def _read(self, data: bytes) -> bool:  # noqa: C901 - one loop, for its speed
        lane, window, block, turn = self._lane, self._window, self._block, self._turn
        most = self._frame_size
        position = self._receive_part(data) if self._left else 0
        while not self.stopped:
            if lane and not block.stream_id:
                position, window.left = take_data(
                    data, position, window.left, lane, most, _LANE
                )
                if position > _MANY:
                    turn.spend(_LANE_COST)
            batch, position = split_frames(data, position, most, _BATCH)
            taken = 1
            for kind, flags, stream_id, start, stop in batch:
                if not (taken or kind | flags) and stream_id in lane:
                    # behind what is not for the lane; as are whole messages again
                    position, taken = start - frames.HEAD.size, 2
                    break
                payload = data[start:stop]
                taken = 0
                if lane and not kind | flags:
                    taken = self._tunnel(stream_id, payload)
                if not taken:
                    if not turn.spend(self._cost(kind, stream_id, stop - start)):
                        return self._put_off(data, start - frames.HEAD.size)
                    self._check(kind, flags, stream_id, stop - start)
                    self._receive(kind, flags, stream_id, payload)
                    if self.stopped:
                        return False
                elif taken > 1:  # what follows may be whole messages again
                    position = stop
                    break
            if taken < 2 and len(batch) < _BATCH:
                self._keep(data, position)
                return False
            if not turn.spend(_BATCH):
                return self._put_off(data, position)
        return False

    def _cost(self, kind: int, stream_id: int, size: int) -> int:
        if kind in (frames.HEADERS, frames.CONTINUATION):
            return _HEADERS_COST + (size >> _BLOCK_SHIFT)
        if stream_id or kind not in _FOR_ALL:
            return _FRAME_COST
        return _FRAME_COST + (len(self._engine.exchanges) >> _STREAMS_SHIFT)

    def _put_off(self, data: bytes, position: int) -> bool:
        """Keep what this turn has no time for; tell whether there is any."""
        self._need = 0
        self._rest += memoryview(data)[position:]
        return bool(self._rest)

    def _tunnel(self, stream_id: int, payload: bytes) -> int:
        """Take DATA without flags past the engine, if it is for an accepted tunnel.

        Cheaper than ``_data``, which it must equal; ``take_data`` does the same for
        whole messages, and costs least (tests/benchmarks/h2_engine.py).

        Returns:
            0 if it is not; 2 if a message ends that an earlier frame began; else 1.
        """
        exchange, inbox = self._lane.get(stream_id, _NO_TUNNEL)
        size = len(payload)
        if exchange is None or not 0 < size <= exchange.window or self._block.stream_id:
            return 0
        if size > self._window.left:
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR)
        exchange.window -= size
        self._window.left -= size
        within = inbox is not None and not inbox.plain
        exchange.sink.deliver(payload)
        return 2 if within and inbox is not None and inbox.plain else 1

    def _keep(self, data: bytes, position: int) -> None:
        """Keep the beginning of a frame, if its header promises nothing forbidden."""
        left = len(data) - position
        waiting = bool(self._block.stream_id)
        if not (left or waiting):
            return
        if left >= frames.HEAD.size:
            high, low, kind, flags, stream_id = frames.HEAD.unpack_from(data, position)
            length = high << 8 | low
            stream_id &= frames.MAX_STREAM_ID
            self._check(kind, flags, stream_id, length)
            if (
                kind == frames.DATA
                and length > _LARGE
                and left > frames.HEAD.size
                and not flags & frames.PADDED
            ):
                part = data[position + frames.HEAD.size :]
                self._begin_parts(flags, stream_id, part, length)
                return
            self._need = frames.HEAD.size + length
            waiting = waiting or kind == frames.HEADERS
        elif left:
            self._need = frames.HEAD.size
        if left:
            self._rest += memoryview(data)[position:]
        if waiting and self._deadline.when is None:
            self._deadline.set(self._connection.time() + _BLOCK_TIMEOUT)

    def _begin_parts(
        self, flags: int, stream_id: int, part: bytes, length: int
    ) -> None:
        """Take the first part of a DATA frame that is not all here."""
        self._turn.spend(_FRAME_COST)
        self._data(0, stream_id, part, length)
        if not self.stopped:
            self._left = length - len(part)
            self._receiving = self._engine.exchanges.get(stream_id)
            self._ends = bool(flags & frames.END_STREAM)

    def _receive_part(self, data: bytes) -> int:
        """Take the next part of a DATA frame; return where the frame behind begins.

        What is to come for a stream that is closed by now is dropped. The frame was
        charged, and answered where it has to be, when it began.
        """
        part = data[: self._left]
        if not part:
            return 0
        self._turn.spend(_FRAME_COST)
        self._left -= len(part)
        exchange = self._receiving
        if not self._left:
            self._receiving = None
        if exchange is not None and not exchange.closed:
            ended = self._ends and not self._left
            if ended:
                self._lane.pop(exchange.stream_id, None)
            self._engine.receive_body(exchange, part, ended=ended)
        return len(part)

    def _block_late(self) -> None:
        hit(self._connection.counters.limits, "head_time")
        self.stop()
        self._engine.fail(ErrorCode.ENHANCE_YOUR_CALM)

    # Policing ---------------------------------------------------------------------

    def _check(self, kind: int, flags: int, stream_id: int, length: int) -> None:
        """Judge a frame by its header; nothing changes, so it may be judged again."""
        check_header(kind, flags, stream_id, length, self._frame_size)
        if not self._settings_seen and (
            kind != frames.SETTINGS or flags & frames.ACK
        ):  # RFC 9113 §3.4
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
        self._block.check(kind, stream_id, length)
        if kind in _NOT_WHEN_IDLE and stream_id and self._idle(stream_id):
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)  # RFC 9113 §5.1

    def _idle(self, stream_id: int) -> bool:
        return not stream_id & 1 or stream_id > self.last_stream_id

    def _spend(self, tokens: int = 1) -> None:
        if not self._budget.spend(tokens, self._connection.time()):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "frames")

    # Receiving --------------------------------------------------------------------

    def _receive(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        match kind:
            case frames.DATA:
                self._data(flags, stream_id, payload, len(payload))
            case frames.HEADERS:
                self._headers(stream_id, self._block.begin(flags, stream_id, payload))
            case frames.CONTINUATION:
                self._headers(stream_id, self._block.extend(flags, payload))
            case frames.WINDOW_UPDATE:
                self._window_update(stream_id, payload)
            case frames.RST_STREAM:
                self._rst_stream(stream_id, payload)
            case frames.SETTINGS:
                self._settings(flags, payload)
            case frames.PING:
                self._ping(flags, payload)
            case _:
                self._ignorable(kind, stream_id, payload)

    def _data(self, flags: int, stream_id: int, payload: bytes, size: int) -> None:
        """Take DATA of ``size`` bytes; ``payload`` is what is here of them."""
        self._window.left -= size
        if self._window.left < 0:  # RFC 9113 §6.9.1
            raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR)
        data, unused = payload, 0
        if flags & frames.PADDED:
            data = payload[1 : size - padding(payload)]
            unused = size - len(data)
        flags &= frames.END_STREAM
        if not data and not flags:
            self._spend()
        exchange = self._engine.exchanges.get(stream_id)
        if exchange is None:
            # What was under way when we reset the stream is not charged: no fault
            if not data or not self._closed_streams.was_answered(stream_id):
                self._late(stream_id, ErrorCode.STREAM_CLOSED)
            return
        exchange.window -= size
        if exchange.peer_ended:  # RFC 9113 §5.1, half-closed (remote)
            self._engine.fail_stream(stream_id, ErrorCode.STREAM_CLOSED)
        elif size and exchange.window < 0:  # RFC 9113 §6.9.1
            self._engine.fail_stream(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            if unused:  # RFC 9113 §6.1: padding counts, no sink consumes it
                exchange.consumed(unused)
            if flags:
                self._lane.pop(stream_id, None)
            self._engine.receive_body(exchange, data, ended=bool(flags))

    def _headers(self, stream_id: int, block: bytes | None) -> None:
        if block is None:
            return
        if self._deadline.when is not None:
            self._deadline.set(None)
        fields = self._decode(block)
        exchange = self._engine.exchanges.get(stream_id)
        ended = bool(self._block.end)
        if exchange is None:
            if not self._idle(stream_id):
                self._late_headers(stream_id)
                return
            self.last_stream_id = stream_id
        if exchange is not None and exchange.peer_ended:
            # RFC 9113 §5.1, half-closed (remote)
            self._engine.fail_stream(stream_id, ErrorCode.STREAM_CLOSED)
        elif self._block.self_dependent:  # RFC 7540 §5.3.1, still checked by h2spec
            self._engine.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif exchange is None:
            self._engine.receive_request(stream_id, fields, ended=ended)
        else:
            self._engine.receive_trailers(exchange, fields, ended=ended)

    def _decode(self, block: bytes) -> list[Field]:
        try:
            return self._decoder.decode_block(block)
        except OversizedHeaderListError as error:
            fault = ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "header_list")
            raise fault from error
        except HPACKError as error:  # RFC 9113 §4.3
            raise ConnectionFault(ErrorCode.COMPRESSION_ERROR) from error

    def _window_update(self, stream_id: int, payload: bytes) -> None:
        if not self._window_updates.spend(
            self._engine.streams_seen, self._output.data_frames
        ):
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "window_updates")
        increment = int.from_bytes(payload) & frames.MAX_WINDOW  # RFC 9113 §6.9
        if not stream_id:
            if not increment:  # RFC 9113 §6.9
                raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)
            if self._output.send_window + increment > frames.MAX_WINDOW:
                # RFC 9113 §6.9.1
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR)
            self._output.send_window += increment
            self._engine.window_opened(None)
            return
        exchange = self._engine.exchanges.get(stream_id)
        if exchange is None:
            return
        if not increment:  # RFC 9113 §6.9
            self._engine.fail_stream(stream_id, ErrorCode.PROTOCOL_ERROR)
        elif exchange.send_window + increment > frames.MAX_WINDOW:  # RFC 9113 §6.9.1
            self._engine.fail_stream(stream_id, ErrorCode.FLOW_CONTROL_ERROR)
        else:
            exchange.send_window += increment
            self._engine.window_opened(exchange)

    def _rst_stream(self, stream_id: int, payload: bytes) -> None:
        exchange = self._engine.exchanges.get(stream_id)
        if exchange is None:
            self._spend()
        else:
            self._engine.receive_reset(exchange, int.from_bytes(payload))

    def _settings(self, flags: int, payload: bytes) -> None:
        self._settings_seen = True
        if flags & frames.ACK:
            self._spend()
            self._engine.settings_acknowledged()
            return
        self._spend(_SETTINGS_COST)
        if len(payload) > 6 * _SETTINGS_ENTRIES:
            raise ConnectionFault(ErrorCode.ENHANCE_YOUR_CALM, "settings")
        entries = read_settings(payload)
        self._check_windows(entries)
        self._output.frames.append(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._engine.settings_changed(dict(entries))

    def _check_windows(self, entries: list[tuple[Setting, int]]) -> None:
        """Check that no stream's window becomes too large (RFC 9113 §6.9.2)."""
        windows = [each.send_window for each in self._engine.exchanges.values()]
        above = max(windows, default=0) - self._output.stream_window
        for setting, value in entries:
            window = value if setting is Setting.INITIAL_WINDOW_SIZE else 0
            if above + window > frames.MAX_WINDOW:
                raise ConnectionFault(ErrorCode.FLOW_CONTROL_ERROR)

    def _ping(self, flags: int, payload: bytes) -> None:
        self._spend()
        if flags & frames.ACK:
            self._engine.receive_pong(payload)
        else:
            self._output.frames.append(
                frames.frame(frames.PING, frames.ACK, 0, payload)
            )

    def _ignorable(self, kind: int, stream_id: int, payload: bytes) -> None:
        """PRIORITY, GOAWAY and what RFC 9113 §4.1 and §5.5 tell us to ignore."""
        self._spend()
        if kind == frames.GOAWAY:
            last_stream, code = _GOAWAY.unpack_from(payload)
            last_stream &= frames.MAX_STREAM_ID
            self._engine.receive_goaway(last_stream, code, payload[_GOAWAY.size :])
        elif kind == frames.PRIORITY:
            if len(payload) != 5:  # RFC 9113 §6.3
                self._stream_fault(stream_id, ErrorCode.FRAME_SIZE_ERROR)
            elif int.from_bytes(payload[:4]) & frames.MAX_STREAM_ID == stream_id:
                # RFC 7540 §5.3.1; priorities themselves are ignored (RFC 9113 §5.3.2)
                self._stream_fault(stream_id, ErrorCode.PROTOCOL_ERROR)

    # Streams that are gone --------------------------------------------------------

    def _stream_fault(self, stream_id: int, code: ErrorCode) -> None:
        if stream_id in self._engine.exchanges:
            self._engine.fail_stream(stream_id, code)
        elif self._idle(stream_id):
            # RFC 9113 §6.4: no RST_STREAM for an idle stream
            raise ConnectionFault(code)
        else:
            self._late(stream_id, code)

    def _late_headers(self, stream_id: int) -> None:
        if self._closed_streams.was_reset(stream_id):
            self._late(stream_id, ErrorCode.STREAM_CLOSED)
        elif self._closed_streams.was_ended(stream_id):  # RFC 9113 §5.1, closed
            raise ConnectionFault(ErrorCode.STREAM_CLOSED)
        else:  # RFC 9113 §5.1.1: never opened, or closed long ago
            raise ConnectionFault(ErrorCode.PROTOCOL_ERROR)

    def _late(self, stream_id: int, code: ErrorCode) -> None:
        """Answer a frame for a closed stream: once, then it is only counted."""
        self._spend()
        if not self._closed_streams.was_answered(stream_id):
            self._closed_streams.reset(stream_id, answered=True)
            self._output.frames.append(frames.rst_stream(stream_id, code))
