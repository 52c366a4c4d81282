"""``FakeExchange``: a ``seams.Exchange`` that keeps what a sink tells it."""

import os
from collections.abc import Sequence
from typing import Self

from tako.config import ServerConfig
from tako.core.error_code import ErrorCode
from tako.core.request_body import BodySink
from tako.core.role import Role
from tako.core.seams import PIECE, Exchange, Sink, Watched
from tako.core.shared_frame import SharedFrame
from tako.core.views import StreamView
from tako.errors import LocalProtocolError
from tako.http.headers import Headers, RawHeader
from tako.http.request import Request
from tako.native.loops import Inbox, encode_frame, encode_masked_frame
from tests.support.wire import FakeConnection


class FakeExchange(Exchange):
    """One exchange on a ``FakeConnection``; ``take()`` returns what was sent since."""

    connection: FakeConnection  # type: ignore[mutable-override]
    writable: bool = True
    error_delay: float = 0.0
    at_once: int = PIECE

    def __init__(
        self,
        config: ServerConfig | None = None,
        *,
        method: str = "GET",
        role: Role = Role.SERVER,
    ) -> None:
        self._encode = encode_frame if role is Role.SERVER else encode_masked_frame
        self.connection = FakeConnection(config)
        self.body = BodySink(self)
        self.sink = self.body
        self.task = None
        self.tunnel = False
        self.bytes_sent = 0
        self.end_callbacks = ()
        self.inbox: Inbox | None = None
        self.request = Request(
            method,
            "/ws",
            Headers(),
            http_version="1.1",
            scheme="http",
            authority="localhost",
            protocol=None,
            body_reader=self.body,
            conn_info=self.connection.conn_info,
            exchange=self,
        )
        self.status = 499  # until there is an answer
        self.began = 0.0
        self.headers: list[RawHeader] = []
        self.trailers: list[RawHeader] | None = None
        self.out = bytearray()
        self.pieces: list[bytes] = []
        self.takes = 0  # bytes of a file, in one call
        self._output_ended = self._gone = self.over = False
        self.head_sent = False
        self.listening = True
        self.watched: Watched | None = None
        self.resets: list[ErrorCode] = []
        self.credit = 0
        self.flushes: list[bool] = []
        self.has_ended = False

    @property
    def gone(self) -> bool:
        return self._gone

    @gone.setter
    def gone(self, gone: bool) -> None:
        self._gone = gone
        self.over = gone or self._output_ended

    @property
    def output_ended(self) -> bool:
        return self._output_ended

    @output_ended.setter
    def output_ended(self, ended: bool) -> None:
        self._output_ended = ended
        self.over = ended or self._gone

    def take(self) -> bytes:
        data = bytes(self.out)
        self.out.clear()
        return data

    def send_headers(
        self, status: int, headers: Sequence[RawHeader], *, end: bool = False
    ) -> None:
        if self.head_sent:
            msg = "a head was sent already"
            raise LocalProtocolError(msg)
        self.head_sent = True
        self.status, self.headers = status, list(headers)
        self.output_ended = end

    def send_response(
        self, status: int, headers: Sequence[RawHeader], body: bytes
    ) -> None:
        size = b"%d" % len(body)
        lengths = [value for name, value in headers if name == b"content-length"]
        if not lengths:
            headers = [*headers, (b"content-length", size)]
        elif lengths != [size]:
            msg = f"content-length {lengths} on a body of {len(body)} bytes"
            raise LocalProtocolError(msg)
        self.send_headers(status, headers, end=not body)
        if body:
            self.send_data(body, end=True)

    def send_data(self, data: bytes | memoryview, *, end: bool = False) -> None:
        assert not self.output_ended, "data after the end of the stream"
        if self.gone:
            return
        self.out += data
        self.pieces.append(bytes(data))
        self.output_ended = end

    def send_file(self, file: int, offset: int, size: int) -> int:
        data = os.pread(file, min(size, self.takes), offset)
        self.out += data
        return len(data)

    def send_frame(self, first_byte: int, payload: str | bytes, *, soon: bool) -> bool:
        self.send_data(self._encode(first_byte, payload))
        self.flush(soon=soon)
        return self.writable

    def send_shared(self, frame: SharedFrame, soon: bool) -> bool:
        if self.over or not self.writable:
            return False
        self.send_frame(frame.first_byte, frame.payload, soon=soon)
        return True

    def send_trailers(self, trailers: Sequence[RawHeader]) -> None:
        self.trailers = list(trailers)
        self.output_ended = True

    def open_tunnel(self, status: int, headers: Sequence[RawHeader]) -> Self:
        self.head_sent = self.tunnel = True
        self.status, self.headers = status, list(headers)
        return self

    def watch(self, watched: Watched) -> None:
        self.watched = watched

    def receive_into(self, sink: Sink, inbox: Inbox | None = None) -> None:
        self.sink, self.inbox = sink, inbox

    def cancel_at(self, when: float) -> None:
        self.connection.cancel_at(when, self)
        if self.task is not None:
            self.connection.runtime.call_at(when, self.task.cancel)

    async def writable_again(self) -> None:
        await self.body.writable_again()

    def consumed(self, size: int) -> None:
        self.credit += size

    def reset(self, code: ErrorCode = ErrorCode.CANCEL) -> None:
        if not self.gone:
            self.gone = True
            self.resets.append(code)

    def describe(self) -> StreamView:
        return StreamView(stream=0, state="FAKE")

    def ended(self) -> None:
        self.has_ended = True

    def flush(self, *, soon: bool = False) -> None:
        self.flushes.append(soon)
