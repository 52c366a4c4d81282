"""The HTTP/2 half of the peer: ``h2`` with a demultiplexing reader.

Everything happens in the calling thread: a caller that waits on one stream reads the
socket and puts what belongs to other streams into their buffers. Every frame that
arrives is also kept as it was on the wire (``frames``), with the time of its arrival,
so that a test can state the order of Close, END_STREAM and RST_STREAM.

GOAWAY is kept from ``h2``, which would refuse to go on; it is in ``goaways``.
"""

import time
from collections.abc import Iterable
from typing import Unpack

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.settings import SettingCodes, Settings

from tako.testing.patience import Deadline
from tako.testing.peer.frames import (
    ACK,
    END_HEADERS,
    Frame,
    FrameType,
    GoAway,
    raw_frame,
)
from tako.testing.peer.io import (
    Connection,
    EndOfStreamError,
    HeaderList,
    PeerError,
    PeerResponse,
    Socket,
    StreamResetError,
    require,
)
from tako.testing.peer.stream import H2Pipe, H2Stream, encoded, lower
from tako.testing.peer.websocket import (
    HandshakeRefusedError,
    PeerWebSocket,
    WsOffer,
    WsOpening,
    offer_header,
)


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
STREAM_WINDOW = 1 << 20


class H2Connection(Connection):
    """One HTTP/2 connection with any number of streams.

    Attributes:
        scheme: ``http`` or ``https``.
        streams: by their numbers.
        frames: every frame that arrived, in order.
        goaways: the GOAWAYs of the server.
        pongs: how many PINGs it has answered.
        closed: the server has closed the connection.
        h2: the state machine of the connection.
    """

    _version = "2"

    def __init__(
        self,
        sock: Socket,
        authority: str,
        scheme: str,
        *,
        stream_window: int = STREAM_WINDOW,
    ) -> None:
        super().__init__(sock, authority)
        self.scheme = scheme
        self.streams: dict[int, H2Stream] = {}
        self.frames: list[Frame] = []
        self.goaways: list[GoAway] = []
        self.pongs: int = 0
        self.closed: bool = False
        self._buffer = bytearray()
        self.h2: h2.connection.H2Connection = h2.connection.H2Connection(
            h2.config.H2Configuration(
                client_side=True,
                header_encoding=None,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.h2.local_settings = Settings(
            client=True,
            initial_values={
                SettingCodes.ENABLE_PUSH: 0,
                SettingCodes.INITIAL_WINDOW_SIZE: stream_window,
                SettingCodes.MAX_CONCURRENT_STREAMS: 100,
            },
        )
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(1 << 28)
        self.send_queued()

    # -- frames ----------------------------------------------------------------

    def send_queued(self) -> None:
        """Write what ``h2`` has queued."""
        if data := self.h2.data_to_send():
            self.socket.send(data)

    def pump(self, timeout: float | None = None) -> None:
        """Read once and give each stream what is its own.

        Raises:
            EndOfStreamError: the server closed the connection.
            PeerError: the server broke the protocol.
        """
        data = self.socket.receive(timeout)
        if not data:
            self.closed = True
            msg = f"the server closed the connection after {self.goaways}"
            raise EndOfStreamError(msg)
        self._buffer += data
        while (frame := self._next_frame()) is not None:
            self._receive(frame)
        self.send_queued()

    def ping(self, timeout: float | None = None) -> None:
        """Wait until the server has processed everything sent so far."""
        wanted = self.pongs + 1
        self.h2.ping(b"settled?")
        self.send_queued()
        deadline = Deadline(timeout)
        while self.pongs < wanted:
            self.pump(deadline.left())

    def wait_settings(self, timeout: float | None = None) -> dict[int, int]:
        """Wait for the server's first SETTINGS frame and return its entries."""
        deadline = Deadline(timeout)
        while not self.frames:
            self.pump(deadline.left())
        first = self.frames[0]
        complaint = f"{first} in place of SETTINGS (RFC 9113 §3.4)"
        require(first.type == FrameType.SETTINGS, complaint)
        entries = first.payload
        return {
            int.from_bytes(entries[at : at + 2], "big"): int.from_bytes(
                entries[at + 2 : at + 6], "big"
            )
            for at in range(0, len(entries), 6)
        }

    def expect_goaway(self, timeout: float | None = None) -> GoAway:
        """Wait for GOAWAY and return the latest."""
        deadline = Deadline(timeout)
        while not self.goaways:
            self.pump(deadline.left())
        return self.goaways[-1]

    def expect_closed(self, timeout: float | None = None) -> None:
        """Wait until the server has closed the connection."""
        deadline = Deadline(timeout)
        try:
            while True:
                self.pump(deadline.left())
        except (EndOfStreamError, StreamResetError):
            return

    def send_goaway(self, code: int = 0) -> None:
        """Send GOAWAY with an error code, and go on; ``h2`` does not know of it."""
        payload = bytes(4) + code.to_bytes(4, "big")  # the server has no streams
        self.send_raw(raw_frame(FrameType.GOAWAY, 0, 0, payload))

    # -- requests --------------------------------------------------------------

    def open(self, headers: HeaderList, *, end: bool = False) -> H2Stream:
        """Send HEADERS exactly as given, pseudo-headers included."""
        stream_id = self.h2.get_next_available_stream_id()
        stream = H2Stream(self, stream_id)
        self.streams[stream_id] = stream
        self.h2.send_headers(stream_id, encoded(headers), end_stream=end)
        self.send_queued()
        return stream

    def open_beyond_limits(self, headers: HeaderList) -> H2Stream:
        """Like ``open``, although the server's SETTINGS forbid another stream."""
        stream_id = self.h2.get_next_available_stream_id()
        stream = self.streams[stream_id] = H2Stream(self, stream_id)
        block = self.h2.encoder.encode(encoded(headers))
        self.send_raw(raw_frame(FrameType.HEADERS, END_HEADERS, stream_id, block))
        return stream

    def send_request(
        self,
        method: str,
        path: str,
        headers: HeaderList = (),
        body: bytes | Iterable[bytes] = b"",
        trailers: HeaderList = (),
    ) -> H2Stream:
        """Send a request and return where its response comes from."""
        tail = list(trailers)
        stream = self.open(
            [*self.pseudo_headers(method, path), *lower(headers)],
            end=body == b"" and not tail,
        )
        if body != b"":
            chunks = [body] if isinstance(body, bytes) else body
            for chunk in chunks:
                stream.send(chunk)
            if not tail:
                stream.send(b"", end=True)
        if tail:
            stream.send_trailers(tail)
        return stream

    def request(
        self,
        method: str,
        path: str,
        headers: HeaderList = (),
        body: bytes | Iterable[bytes] = b"",
        trailers: HeaderList = (),
    ) -> PeerResponse:
        """Send a request and read its response."""
        return self.send_request(method, path, headers, body, trailers).read_response()

    # -- WebSocket -------------------------------------------------------------

    def connect_headers(
        self, path: str, *, version: str | None = "13", **offer: Unpack[WsOffer]
    ) -> list[tuple[str, str | bytes]]:
        """Return the header list of an extended CONNECT (RFC 8441 §5)."""
        fields: list[tuple[str, str | bytes]] = [
            *self.pseudo_headers("CONNECT", path),
            (":protocol", "websocket"),
        ]
        if version is not None:
            fields.append(("sec-websocket-version", version))
        fields += offer_header(offer.get("extensions", ()))
        fields += lower(offer.get("headers", ()))
        if subprotocols := offer.get("subprotocols"):
            fields.append(("sec-websocket-protocol", ", ".join(subprotocols)))
        return fields

    def handshake(
        self,
        path: str,
        *,
        timeout: float | None = None,
        **opening: Unpack[WsOpening],
    ) -> PeerResponse:
        """Ask for a WebSocket and return the answer, whatever it is."""
        stream = self._connect(path, opening)
        head = stream.head(timeout)
        return head if head.status == 200 else stream.read_response()

    def websocket(self, path: str, **opening: Unpack[WsOpening]) -> PeerWebSocket:
        """Open a WebSocket.

        Raises:
            HandshakeRefusedError: the answer was not 200.
        """
        offered = self.wait_settings().get(SettingCodes.ENABLE_CONNECT_PROTOCOL)
        require(offered == 1, "the server offers no WebSockets (RFC 8441 §3)")
        stream = self._connect(path, opening)
        response = stream.head()
        if response.status != 200:
            raise HandshakeRefusedError(stream.read_response())
        return PeerWebSocket(H2Pipe(stream), response, opening.get("extensions", ()))

    def _connect(self, path: str, opening: WsOpening) -> H2Stream:
        headers = self.connect_headers(
            path,
            headers=opening.get("headers", ()),
            subprotocols=opening.get("subprotocols", ()),
            extensions=opening.get("extensions", ()),
        )
        stream = self.open(headers)
        if early_data := opening.get("early_data"):
            stream.send(early_data)
        if meanwhile := opening.get("meanwhile"):
            meanwhile()
        return stream

    # -- reading ---------------------------------------------------------------

    def pseudo_headers(self, method: str, path: str) -> list[tuple[str, str | bytes]]:
        """Return the pseudo-headers of a request (RFC 9113 §8.3.1)."""
        return [
            (":method", method),
            (":scheme", self.scheme),
            (":authority", self.authority),
            (":path", path),
        ]

    def _next_frame(self) -> Frame | None:
        if len(self._buffer) < 9:
            return None
        end = 9 + int.from_bytes(self._buffer[:3], "big")
        if len(self._buffer) < end:
            return None
        raw = bytes(self._buffer[:end])
        del self._buffer[:end]
        stream_id = int.from_bytes(raw[5:9], "big") & 0x7FFF_FFFF
        return Frame(raw[3], raw[4], stream_id, raw[9:], time.monotonic())

    def _receive(self, frame: Frame) -> None:
        self.frames.append(frame)
        stream = self.streams.get(frame.stream_id)
        if frame.type == FrameType.GOAWAY:
            last = int.from_bytes(frame.payload[:4], "big")
            self.goaways.append(GoAway(last, frame.code))
            return
        if (
            frame.type == FrameType.PING
            and not frame.flags & ACK
            and not self.answer_pings
        ):
            return  # kept from ``h2``, which would answer it
        if frame.type == FrameType.RST_STREAM and stream is not None:
            stream.reset_code = frame.code
        raw = raw_frame(frame.type, frame.flags, frame.stream_id, frame.payload)
        try:
            events = self.h2.receive_data(raw)
        except h2.exceptions.ProtocolError as error:
            msg = f"the server broke HTTP/2 with {frame}"
            raise PeerError(msg) from error
        for event in events:
            self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived():
                fields = [(k.decode(), v.decode("latin-1")) for k, v in event.headers]
                require(fields[0][0] == ":status", "no :status (RFC 9113 §8.3.2)")
                stream = self.streams[event.stream_id]
                stream.response = PeerResponse(
                    int(fields[0][1]), fields[1:], version="2", interim=stream.interim
                )
            case h2.events.InformationalResponseReceived():
                status = int(dict(event.headers)[b":status"])
                self.streams[event.stream_id].interim.append(status)
            case h2.events.TrailersReceived():
                fields = [(k.decode(), v.decode("latin-1")) for k, v in event.headers]
                response = self.streams[event.stream_id].response
                if response is not None:
                    response.trailers = fields
            case h2.events.DataReceived():
                self._take_data(event)
            case h2.events.StreamEnded():
                self.streams[event.stream_id].ended = True
            case h2.events.PingAckReceived():
                self.pongs += 1
            case _:
                pass  # ``frames`` has it

    def _take_data(self, event: h2.events.DataReceived) -> None:
        # Credit for the connection at once, for the stream when a test reads it.
        if event.flow_controlled_length:
            self.h2.increment_flow_control_window(event.flow_controlled_length)
        self.streams[event.stream_id].data += event.data
