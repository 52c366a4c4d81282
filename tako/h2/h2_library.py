"""What tako uses of the ``h2`` library, and the few places where it differs from it.

``h2`` keeps the settings of both sides and answers PING. It knows of no stream: their
states, windows and content are tako's (RFC 9113 §5, §8), as are GOAWAY (§6.8) and what
of a connection ends when.

This is the only module that touches names of ``h2`` which start with an underscore;
``PRIVATE_NAMES`` lists them.
"""

from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.settings
import h2.stream
import h2.windows
from h2.events import (
    Event,
)
from h2.exceptions import DenialOfServiceError, FlowControlError, ProtocolError
from h2.settings import SettingCodes
from hpack import HPACKError, OversizedHeaderListError
from hyperframe.frame import SettingsFrame

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.h2.frames import MAX_FRAME_SIZE, MAX_WINDOW, PREFACE
from tako.h2.hpack import FieldDecoder
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


class Library(h2.connection.H2Connection):
    """``h2``'s connection in the role of a server, configured for ``config``."""

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
        self._inbound_flow_control_window_manager = _Window()

    def start(self) -> bytes:
        """Return our preface: the first SETTINGS (RFC 9113 §3.4)."""
        self.initiate_connection()
        self.receive_data(PREFACE)
        return self.data_to_send()

    def receive_settings(
        self, entries: list[tuple[int, int]], largest_window: int
    ) -> list[Event]:
        """Take the peer's settings, as ids and values in the order of their frame.

        Each is judged, the last of its kind counts (RFC 9113 §6.5.3). The largest
        window is that of the stream for which the peer has most room, or zero.

        Raises:
            H2Error: the connection must end; see ``error_code``.
        """
        above = largest_window - self.remote_settings.initial_window_size
        for setting, value in entries:
            self.remote_settings.validate_received_setting(setting, value)
            window = setting == SettingCodes.INITIAL_WINDOW_SIZE
            if window and above + value > MAX_WINDOW:  # RFC 9113 §6.9.2
                msg = "a stream's window would become too large"
                raise FlowControlError(msg)
        return self._receive_frame(SettingsFrame(0, dict(entries)))

    def decode(self, block: bytes) -> list[RawHeader]:
        """Return the fields of a header block (RFC 9113 §4.3).

        Raises:
            H2Error: the connection must end; see ``error_code``.
        """
        try:
            return self._field_decoder.decode_block(block)
        except OversizedHeaderListError as error:
            raise DenialOfServiceError(str(error)) from error
        except _HPACK_ERRORS as error:
            raise ProtocolError(str(error)) from error

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
