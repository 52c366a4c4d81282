"""One HTTP/2 stream of the test client, as a request or as a tunnel."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.support.peer_frames import Frame, FrameType
from tests.support.peer_io import (
    TIMEOUT,
    Deadline,
    HeaderList,
    Response,
    StreamResetError,
)


if TYPE_CHECKING:
    from tests.support.peer_h2 import H2Connection


CANCEL = 0x8


class H2Stream:
    """One stream seen from the client."""

    def __init__(self, connection: "H2Connection", stream_id: int) -> None:
        self.connection = connection
        self.id = stream_id
        self.response: Response | None = None
        self.data = bytearray()
        self.ended = False
        self.reset_code: int | None = None
        self.interim: list[int] = []
        self.bytes_sent = 0

    @property
    def frames(self) -> list[Frame]:
        """The frames of this stream, in order, without WINDOW_UPDATE."""
        return [
            frame
            for frame in self.connection.frames
            if frame.stream_id == self.id and frame.type != FrameType.WINDOW_UPDATE
        ]

    def send(self, data: bytes, *, end: bool = False, timeout: float = TIMEOUT) -> None:
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

    def receive(self, timeout: float = TIMEOUT) -> bytes:
        """Return the DATA that came and credit it; ``b""`` at END_STREAM."""
        self._pump_until(lambda: bool(self.data) or self.ended, timeout)
        data = bytes(self.data)
        self.data.clear()
        if data and not self.ended and self.reset_code is None:
            self.connection.h2.increment_flow_control_window(len(data), self.id)
            self.connection.send_queued()
        return data

    def head(self, timeout: float = TIMEOUT) -> Response:
        """Wait for the response head."""
        self._pump_until(lambda: self.response is not None, timeout)
        assert self.response is not None
        return self.response

    def read_response(self, timeout: float = TIMEOUT) -> Response:
        """Wait for the whole response."""
        deadline = Deadline(timeout)
        response = self.head(timeout)
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

    def expect_reset(self, timeout: float = TIMEOUT) -> int:
        """Wait for RST_STREAM and return its code."""
        deadline = Deadline(timeout)
        while self.reset_code is None:
            self.connection.pump(deadline.left())
        return self.reset_code

    def expect_gone(self, timeout: float = TIMEOUT) -> int | None:
        """Wait until the server ended or reset the stream; return its reset's code."""
        deadline = Deadline(timeout)
        while self.reset_code is None and not self.ended:
            self.connection.pump(deadline.left())
        return self.reset_code

    def _pump_until(self, condition: Callable[[], bool], timeout: float) -> None:
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

    def send(self, data: bytes, *, end: bool = False, timeout: float = TIMEOUT) -> None:
        self.stream.send(data, end=end, timeout=timeout)

    def receive(self, timeout: float = TIMEOUT) -> bytes:
        return self.stream.receive(timeout)

    def reset(self) -> None:
        self.stream.reset()

    def expect_gone(self, timeout: float = TIMEOUT) -> int | None:
        return self.stream.expect_gone(timeout)


def encoded(headers: HeaderList) -> list[tuple[bytes, bytes]]:
    """Return a header list as ``h2`` wants it."""
    return [
        (name.encode("latin-1"), v.encode("latin-1") if isinstance(v, str) else v)
        for name, v in headers
    ]


def lower(headers: HeaderList) -> list[tuple[str, str | bytes]]:
    """Return a header list with the names in lower case (RFC 9113 section 8.2.1)."""
    return [(name.lower(), value) for name, value in headers]
