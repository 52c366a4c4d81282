"""``H2Endpoint``: what an HTTP/2 connection is in either role: streams and windows.

``FrameReader`` calls ``receive_*`` and what stands beside them with what a frame says;
streams call the rest. What streams and their ends mean is for the subclasses, of which
``H2Engine`` answers requests and ``H2Client`` sends them.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, TypeVar

from tako.core.seams import Engine
from tako.core.views import EngineView, Place
from tako.h2.flow_control import Output
from tako.h2.frames import DEFAULT_WINDOW, Setting
from tako.h2.stream import Cause, H2Stream
from tako.native.loops import Inbox


if TYPE_CHECKING:
    from tako.core.seams import ServerConnection, Sink
    from tako.h2.fields import Field
    from tako.h2.reader import FrameReader

S = TypeVar("S", bound=H2Stream)


class H2Endpoint(Engine, Generic[S]):
    """One end of an HTTP/2 connection."""

    __slots__ = (
        "_connection",
        "_output",
        "_reader",
        "credit_step",
        "exchanges",
        "receive_window",
        "streams_seen",
    )

    _reader: "FrameReader[S]"

    def __init__(self, connection: "ServerConnection") -> None:
        """Begin without a stream; the subclass makes the reader, and sends SETTINGS."""
        super().__init__()
        self._connection = connection
        self._output = Output(connection)
        self.exchanges: dict[int, S] = {}
        """The streams that are open or half-closed."""
        self.streams_seen: int = 0
        # RFC 9113 §6.9.3: until the peer has acknowledged our settings
        wanted = connection.config.h2_initial_window_size
        self.receive_window: int = max(wanted, DEFAULT_WINDOW)
        """What the peer may send on a new stream, in bytes."""
        self.credit_step: int = wanted + 1 >> 1
        """Bytes consumed of a stream from which the peer is given credit for them."""

    def count_stream(self) -> int:
        """Count one stream more; return how many there were."""
        self.streams_seen += 1
        return self.streams_seen

    def stop_reading(self) -> None:
        """Read nothing more, also of what was left for later."""
        base: Engine = self
        self._reader.stop()
        base.backlog = False

    def stop(self) -> None:
        """Read nothing more; what is queued is still written, then this closes."""
        base: Engine = self
        self.stop_reading()
        base.closing = True

    def read(self, data: bytes) -> None:
        """Give bytes of the peer to the reader, which may leave some for later."""
        base: Engine = self
        base.backlog = self._reader.receive_data(data)

    # seams.Engine ------------------------------------------------------------------

    def data_to_send(self) -> bytes:
        """Return what is queued; see ``seams.Engine``."""
        return self._output.take()

    def wake_writers(self) -> None:
        """Send what waited for the transport, and let the exchanges' writers go on."""
        self._output.pump()
        for exchange in list(self.exchanges.values()):
            if exchange.writable:
                exchange.sink.wake_writer()

    def describe(self) -> EngineView:
        """Return the phase, and the windows of the connection; see ``seams.Engine``."""
        return EngineView(
            phase=self.phase_name,
            streams=self.streams_seen,
            send_window=self._output.send_window,
            receive_window=self._reader.receive_window,
        )

    @property
    def phase_name(self) -> str:
        """How far the connection is from its end, in a word."""
        return "SERVING"

    def place(self) -> Place:
        """Return where received bytes stand; see ``seams.Engine``."""
        waiting = {
            stream.stream_id: stream.outbox.size
            for stream in self.exchanges.values()
            if stream.outbox.size
        }
        return replace(self._reader.place(), queued=waiting)

    def sink_of(self, stream: int) -> "Sink | None":
        """Return what takes the bytes of a tunnel; see ``seams.Engine``."""
        found = self.exchanges.get(stream)
        return found.sink if found is not None and found.tunnel else None

    # What the reader says ---------------------------------------------------------

    def receive_request(
        self, stream_id: int, fields: "list[Field]", *, ended: bool
    ) -> None:
        """Take the HEADERS that open a stream; ``ended``: nothing follows."""
        raise NotImplementedError

    def receive_body(self, exchange: S, data: bytes, *, ended: bool) -> None:
        """Take a piece of a body or of a tunnel; ``ended``: the last."""
        raise NotImplementedError

    def receive_trailers(
        self, exchange: S, fields: "list[Field]", *, ended: bool
    ) -> None:
        """Take HEADERS on a stream that is open; ``ended``: they end it."""
        raise NotImplementedError

    def receive_reset(self, exchange: S, code: int) -> None:
        """Take the peer's RST_STREAM."""
        raise NotImplementedError

    def receive_pong(self, payload: bytes) -> None:
        """Take the answer to a PING of ours."""
        raise NotImplementedError

    def settings_acknowledged(self) -> None:
        """Our settings are in force, on open streams as well (RFC 9113 §6.9.2)."""
        size = self._connection.config.h2_initial_window_size
        change, self.receive_window = size - self.receive_window, size
        for exchange in self.exchanges.values():
            exchange.window += change

    def settings_changed(self, settings: dict[Setting, int]) -> None:
        """The peer's settings are in force, on open streams as well.

        Those that are not named stay. No stream's window becomes too large.
        """
        output = self._output
        if (size := settings.get(Setting.MAX_FRAME_SIZE)) is not None:
            output.limit_frames(size)
        if (size := settings.get(Setting.INITIAL_WINDOW_SIZE)) is not None:
            change, output.stream_window = size - output.stream_window, size
            for exchange in self.exchanges.values():
                exchange.send_window += change
            self._send(self.exchanges.values())

    def window_opened(self, exchange: S | None) -> None:
        """Let those send that waited for a window: of a stream, or the connection's."""
        if exchange is not None:
            self._send((exchange,))
        else:  # which may be often: those that wait for it alone are in the queue
            self._output.pump()

    def receive_goaway(self, last_stream: int, code: int, debug: bytes) -> None:
        """Take the peer's GOAWAY: it will open no more streams (RFC 9113 §6.8).

        Args:
            last_stream: the last stream of ours that it has seen.
            code: why.
            debug: what it says besides.
        """
        raise NotImplementedError

    def fail_stream(self, stream_id: int, code: int) -> None:
        """Reset a stream on which the peer broke a rule."""
        raise NotImplementedError

    def fail(self, code: int) -> None:
        """End the connection with an error (RFC 9113 §5.4.1)."""
        raise NotImplementedError

    # What a stream says -----------------------------------------------------------

    def tunnel_opened(self, exchange: H2Stream, inbox: Inbox | None) -> None:
        """Put an accepted tunnel on the express lane."""
        self._reader.open_lane(exchange, inbox)

    def end_stream(self, stream: H2Stream, cause: Cause, code: int = 0) -> None:
        """Close an open stream; ``code`` is that of RST_STREAM where one is sent."""
        raise NotImplementedError

    def output_waits(self) -> None:
        """Take note that the output of a stream waits for a window."""

    def answered_early(self, exchange: S) -> None:
        """Take note that a request is answered before all of it has come."""
        raise NotImplementedError

    def handler_ended(self) -> None:
        """Take back the slot of a request's handler."""
        raise NotImplementedError

    # Inside -----------------------------------------------------------------------

    def _send(self, candidates: Iterable[S]) -> None:
        for exchange in candidates:
            if exchange.outbox.size:
                self._output.enqueue(exchange)
        self._output.pump()
