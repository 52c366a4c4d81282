"""What tako uses of the ``h2`` library, and the few places where it differs from it.

``h2`` keeps the state machines of the connection and of each stream, the settings and
the outbound windows. tako keeps for itself, and takes away here:

* the content of requests (RFC 9113 §8): a malformed request costs its own stream only;
* the inbound windows (§5.2): tunnel DATA never enters ``h2``, so ``h2`` cannot count;
* GOAWAY (§6.8): having sent or seen one, ``h2`` would refuse to finish open streams;
* the refusal of streams above the limit (§5.1.2): a stream error, not the end of all;
* the memory of closed streams (§5.1): the gate has it, ``h2`` forgets what has ended;
* header blocks, which the gate has put together: they are not framed and parsed again.

This is the only module that touches names of ``h2`` which start with an underscore;
``PRIVATE_NAMES`` lists them.
"""

from typing import Final, cast

import h2.config
import h2.connection
import h2.errors
import h2.settings
import h2.stream
import h2.windows
from h2.connection import ConnectionInputs
from h2.events import (
    DataReceived,
    Event,
    RequestReceived,
    StreamEnded,
    TrailersReceived,
)
from h2.exceptions import DenialOfServiceError, FlowControlError, ProtocolError
from h2.settings import SettingCodes
from h2.stream import StreamInputs as _Input
from hpack import HPACKError, OversizedHeaderListError
from hyperframe.frame import Frame, SettingsFrame

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.h2 import frames
from tako.h2.frames import DEFAULT_WINDOW, MAX_FRAME_SIZE, MAX_WINDOW, PREFACE
from tako.h2.hpack import FieldDecoder, FieldEncoder
from tako.h2.rules import decoded_size, header_list_size
from tako.http.headers import RawHeader


PRIVATE_NAMES: Final = (
    "_inbound_flow_control_window_manager",  # replaced by one that is never full
    "_receive_frame",  # takes SETTINGS that are judged already
    "_terminate_connection",  # does nothing: GOAWAY is ours
)
"""What is used of ``h2`` that it does not promise to keep."""

_HEADER_TABLE: Final = 4096  # of the peer's encoder; ours has none
_BLOCK_LIMIT: Final = 1 << 20  # of h2's frame buffer; the gate enforces the real one

_HPACK_ERRORS = (HPACKError, IndexError, TypeError, UnicodeDecodeError)


class _Settings(h2.settings.Settings):
    """Our settings; the stream limit is advertised, and enforced by tako."""

    @property
    def max_concurrent_streams(self) -> int:
        return 2**31

    @max_concurrent_streams.setter
    def max_concurrent_streams(self, value: int) -> None:
        self[SettingCodes.MAX_CONCURRENT_STREAMS] = value


class _Window(h2.windows.WindowManager):
    """An inbound window that is never full: ``flow_control`` keeps the real one."""

    def __init__(self) -> None:
        super().__init__(0)

    def window_consumed(self, size: int) -> None:
        pass

    def process_bytes(self, size: int) -> int | None:
        return None


class Stream(h2.stream.H2Stream):
    """A stream's state machine; what its frames contain is none of its business."""

    def take_headers(self, fields: list[RawHeader], *, end: bool) -> list[Event]:
        """Take a request's head or its trailers, whatever they say."""
        events = self.state_machine.process_input(_Input.RECV_HEADERS)
        event = cast("RequestReceived | TrailersReceived", events[0])
        event.headers = fields
        if end:
            events += self.state_machine.process_input(_Input.RECV_END_STREAM)
            event.stream_ended = cast("StreamEnded", events[-1])
        return events

    def receive_data(
        self,
        data: bytes,
        end_stream: bool,
        flow_control_len: int,
    ) -> tuple[list[Frame], list[Event]]:
        """Take a piece of a body, whatever its size."""
        events = self.state_machine.process_input(_Input.RECV_DATA)
        event = cast("DataReceived", events[0])
        event.data = data
        if end_stream:
            events += self.state_machine.process_input(_Input.RECV_END_STREAM)
            event.stream_ended = cast("StreamEnded", events[-1])
        return [], events


class Library(h2.connection.H2Connection):
    """``h2``'s connection in the role of a server, configured for ``config``."""

    streams: dict[int, h2.stream.H2Stream]
    """Those that are open or half-closed, and no others."""

    def __init__(self, config: ServerConfig) -> None:
        super().__init__(
            h2.config.H2Configuration(
                client_side=False,
                header_encoding=False,
                validate_inbound_headers=False,
                normalize_inbound_headers=False,
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        values = {
            SettingCodes.HEADER_TABLE_SIZE: _HEADER_TABLE,
            SettingCodes.MAX_CONCURRENT_STREAMS: config.h2_max_concurrent_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: config.h2_initial_window_size,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_SIZE,
            SettingCodes.MAX_HEADER_LIST_SIZE: header_list_size(config),
        }
        if config.h2_enable_connect_protocol:
            # RFC 8441 §3: in the first SETTINGS; 0 is never sent
            values[SettingCodes.ENABLE_CONNECT_PROTOCOL] = 1
        settings = _Settings(client=False, initial_values=values)
        if not config.h2_enable_connect_protocol:
            del settings[SettingCodes.ENABLE_CONNECT_PROTOCOL]
        del settings[SettingCodes.ENABLE_PUSH]  # RFC 9113 §6.5.2: a client's setting
        self.local_settings = settings
        self.max_inbound_frame_size = _BLOCK_LIMIT
        self._field_decoder = FieldDecoder(decoded_size(config))
        self._field_encoder = FieldEncoder()
        self._inbound_flow_control_window_manager = _Window()
        # RFC 9113 §6.9.3: until the peer has acknowledged our settings
        self.inbound_window: int = max(config.h2_initial_window_size, DEFAULT_WINDOW)
        """What the peer may send on a new stream, in bytes."""

    def start(self) -> bytes:
        """Return our preface: the first SETTINGS (RFC 9113 §3.4)."""
        self.initiate_connection()
        self.receive_data(PREFACE)
        return self.data_to_send()

    def receive_headers(
        self, stream_id: int, block: bytes, *, end: bool
    ) -> list[Event]:
        """Take a whole header block; ``end``: it came with END_STREAM.

        The stream is one of ``streams`` whose peer has not ended it, or a new one.

        Raises:
            H2Error: the connection must end; see ``error_code``.
        """
        fields = self._decoded(block)
        self.state_machine.process_input(ConnectionInputs.RECV_HEADERS)
        stream = self.streams.get(stream_id) or self._open(stream_id)
        return cast("Stream", stream).take_headers(fields, end=end)

    def receive_settings(self, entries: list[tuple[int, int]]) -> list[Event]:
        """Take the peer's settings, as ids and values in the order of their frame.

        Each is judged, the last of its kind counts (RFC 9113 §6.5.3).

        Raises:
            H2Error: the connection must end; see ``error_code``.
        """
        windows = [s.outbound_flow_control_window for s in self.streams.values()]
        above = max(windows, default=0) - self.remote_settings.initial_window_size
        for setting, value in entries:
            self.remote_settings.validate_received_setting(setting, value)
            window = setting == SettingCodes.INITIAL_WINDOW_SIZE
            if window and above + value > MAX_WINDOW:  # RFC 9113 §6.9.2
                msg = "a stream's window would become too large"
                raise FlowControlError(msg)
        return self._receive_frame(SettingsFrame(0, dict(entries)))

    def header_frames(
        self, stream_id: int, fields: list[RawHeader], *, end: bool
    ) -> bytes:
        """Return HEADERS, and CONTINUATION if need be, for a response or trailers.

        The fields are complete and checked. A third of the cost of ``send_headers``,
        which encodes, normalises, validates and wraps them once more.
        """
        stream = self.streams[stream_id]
        interim = fields[0][0] == b":status" and fields[0][1][:1] == b"1"
        process = stream.state_machine.process_input
        process(_Input.SEND_INFORMATIONAL_HEADERS if interim else _Input.SEND_HEADERS)
        if end:
            process(_Input.SEND_END_STREAM)
        block = self._field_encoder.encode(fields)
        flags = frames.END_STREAM if end else 0
        size = self.max_outbound_frame_size
        if len(block) <= size:
            flags |= frames.END_HEADERS
            return frames.frame(frames.HEADERS, flags, stream_id, block)
        out = [frames.frame(frames.HEADERS, flags, stream_id, block[:size])]
        for start in range(size, len(block), size):
            last = frames.END_HEADERS if start + size >= len(block) else 0
            part = block[start : start + size]
            out.append(frames.frame(frames.CONTINUATION, last, stream_id, part))
        return b"".join(out)

    def output_ended(self, stream_id: int) -> None:
        """Note that a frame with END_STREAM is being sent."""
        self.streams[stream_id].state_machine.process_input(_Input.SEND_END_STREAM)

    def forget(self, stream_id: int) -> None:
        """Let go of a stream that is closed; repeats are no-ops."""
        self.streams.pop(stream_id, None)

    def decode(self, block: bytes) -> None:
        """Decode a header block only to keep the HPACK state true (RFC 9113 §4.3).

        Raises:
            H2Error: the connection must end; see ``error_code``.
        """
        self._decoded(block)

    def _decoded(self, block: bytes) -> list[RawHeader]:
        try:
            return self._field_decoder.decode_block(block)
        except OversizedHeaderListError as error:
            raise DenialOfServiceError(str(error)) from error
        except _HPACK_ERRORS as error:
            raise ProtocolError(str(error)) from error

    def _open(self, stream_id: int) -> Stream:
        self.highest_inbound_stream_id = stream_id
        stream = Stream(
            stream_id,
            config=self.config,
            inbound_window_size=0,
            outbound_window_size=self.remote_settings.initial_window_size,
        )
        stream.max_outbound_frame_size = self.max_outbound_frame_size
        self.streams[stream_id] = stream
        return stream

    def _terminate_connection(self, error_code: h2.errors.ErrorCodes) -> None:
        """Leave GOAWAY to tako: what was asked before the error is still answered."""


def error_code(error: Exception) -> ErrorCode:
    """Return the GOAWAY code for what ``h2`` or HPACK raised on input (RFC 9113 §7)."""
    if isinstance(error, DenialOfServiceError):
        return ErrorCode.ENHANCE_YOUR_CALM
    if isinstance(error.__cause__, _HPACK_ERRORS):
        return ErrorCode.COMPRESSION_ERROR  # RFC 9113 §4.3
    if isinstance(error, ProtocolError):
        return ErrorCode(error.error_code)
    return ErrorCode.INTERNAL_ERROR
