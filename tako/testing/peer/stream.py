"""One HTTP/2 stream of the peer, as a request or as a tunnel."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tako.testing.patience import Deadline
from tako.testing.peer.frames import Frame, FrameType
from tako.testing.peer.io import HeaderList, PeerResponse, StreamResetError


if TYPE_CHECKING:
    from tako.testing.peer.h2 import H2Connection


CANCEL = 0x8


class H2Stream:
    """One stream seen from the client.

    Attributes:
        connection: what it is a stream of.
        id: its number.
        response: the head of the response, once it has arrived.
        data: what arrived and has not been read.
        ended: END_STREAM has arrived.
        reset_code: the error code of the server's RST_STREAM, if there was one.
        interim: the statuses of the 1xx responses so far.
        bytes_sent: bytes of DATA.
        credits: give the server credit for what is read; else its window runs dry.
    """

    def __init__(self, connection: "H2Connection", stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.response: PeerResponse | None = None
        self.data: bytearray = bytearray()
        self.ended: bool = False
        self.reset_code: int | None = None
        self.interim: list[int] = []
        self.bytes_sent: int = 0
        self.credits: bool = True

    @property
    def frames(self) -> list[Frame]:
        """The frames of this stream, in order, without WINDOW_UPDATE."""
        return [
            frame
            for frame in self.connection.frames
            if frame.stream_id == self.id and frame.type != FrameType.WINDOW_UPDATE
        ]

    def send(
        self, data: bytes, *, end: bool = False, timeout: float | None = None
    ) -> None:
        """Send ``data`` as the server's flow control allows; ``end``: END_STREAM.

        Raises:
            TimeoutError: the server did not give enough credit in time.
        """
        engine = self.connection.h2
        deadline = Deadline(timeout)
        view = memoryview(data)
        while view:
            self._check()
            room = min(
                engine.local_flow_control_window(self.id),
                engine.max_outbound_frame_size,
            )
            if room <= 0:
                self.connection.pump(deadline.left())
                continue
            piece = bytes(view[:room])
            engine.send_data(self.id, piece)
            self.bytes_sent += len(piece)
            view = view[len(piece) :]
            self.connection.send_queued()
        if end:
            engine.end_stream(self.id)
        self.connection.send_queued()

    def receive(self, timeout: float | None = None) -> bytes:
        """Return the DATA that came and credit it; ``b""`` at END_STREAM.

        Raises:
            StreamResetError: RST_STREAM.
            TimeoutError: nothing came.
        """
        self._pump_until(lambda: bool(self.data) or self.ended, timeout)
        data = bytes(self.data)
        self.data.clear()
        if data and self.credits and not self.ended and self.reset_code is None:
            self.connection.h2.increment_flow_control_window(len(data), self.id)
            self.connection.send_queued()
        return data

    def head(self, timeout: float | None = None) -> PeerResponse:
        """Wait for the response head."""
        deadline = Deadline(timeout)
        while self.response is None:
            self._check()
            self.connection.pump(deadline.left())
        return self.response

    def read_response(self, timeout: float | None = None) -> PeerResponse:
        """Wait for the whole response."""
        deadline = Deadline(timeout)
        response = self.head(deadline.left())
        chunks = iter(lambda: self.receive(deadline.left()), b"")
        response.body += b"".join(chunks)
        return response

    def send_trailers(self, trailers: HeaderList) -> None:
        """Send trailers, which end the request."""
        fields = encoded(lower(trailers))
        self.connection.h2.send_headers(self.id, fields, end_stream=True)
        self.connection.send_queued()

    def reset(self, code: int = CANCEL) -> None:
        """Send RST_STREAM."""
        self.connection.h2.reset_stream(self.id, code)
        self.connection.send_queued()

    def expect_reset(self, timeout: float | None = None) -> int:
        """Wait for RST_STREAM and return its code."""
        deadline = Deadline(timeout)
        while self.reset_code is None:
            self.connection.pump(deadline.left())
        return self.reset_code

    def expect_gone(self, timeout: float | None = None) -> int | None:
        """Wait until the server ended or reset the stream; return its reset's code."""
        deadline = Deadline(timeout)
        while self.reset_code is None and not self.ended:
            self.connection.pump(deadline.left())
        return self.reset_code

    def _pump_until(self, condition: Callable[[], bool], timeout: float | None) -> None:
        deadline = Deadline(timeout)
        while not condition():
            self._check()
            self.connection.pump(deadline.left())

    def _check(self) -> None:
        if self.reset_code is not None:
            raise StreamResetError(self.reset_code)


class H2Pipe:
    """The tunnel that a stream becomes after 200."""

    def __init__(self, stream: H2Stream) -> None:
        self.stream = stream

    @property
    def connection(self) -> "H2Connection":
        """What it is a stream of."""
        return self.stream.connection

    def send(
        self, data: bytes, *, end: bool = False, timeout: float | None = None
    ) -> None:
        """Send ``data``; ``end``: END_STREAM with it."""
        self.stream.send(data, end=end, timeout=timeout)

    def receive(self, timeout: float | None = None) -> bytes:
        """Return what came, ``b""`` at END_STREAM."""
        return self.stream.receive(timeout)

    def reset(self) -> None:
        """Send RST_STREAM(CANCEL)."""
        self.stream.reset()

    def reset_stream(self, code: int) -> None:
        """Send RST_STREAM."""
        self.stream.reset(code)

    def stall(self) -> None:
        """Give no more credit."""
        self.stream.credits = False

    def expect_gone(self, timeout: float | None = None) -> int | None:
        """Wait until the server ended or reset the stream; return its reset's code."""
        return self.stream.expect_gone(timeout)


def encoded(headers: HeaderList) -> list[tuple[bytes, bytes]]:
    """Return a header list as ``h2`` wants it."""
    return [
        (name.encode("latin-1"), v.encode("latin-1") if isinstance(v, str) else v)
        for name, v in headers
    ]


def lower(headers: HeaderList) -> list[tuple[str, str | bytes]]:
    """Return a header list with the names in lower case (RFC 9113 §8.2.1)."""
    return [(name.lower(), value) for name, value in headers]
