"""Sending a ``Response`` as ASGI events, for routers that run on another server.

Theory of operation. A body that is there is sent at once. A stream is sent by a task of
its own while this one watches for the client to leave, because not every host says so
when something is sent; a heartbeat, where the stream has one, is a third task.

Invariant: the stream is closed, however it ends.
"""

from collections.abc import AsyncIterable
from typing import TYPE_CHECKING, Any

from tako import runtime
from tako.asgi.hosted.request import HostedBody
from tako.asgi.protocol import Event, Receive, Scope, Send
from tako.http.request import Request
from tako.http.response import Response
from tako.http.response_facts import Body
from tako.http.response_fields import WITHOUT_BODY, read_fields
from tako.http.sse import EventStream, Heartbeat
from tako.runtime import ServerRuntime


if TYPE_CHECKING:
    from tako.core.loop import Signal
    from tako.http.headers import RawHeader


async def send_response(
    request: Request, response: Response, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send ``response``; a client that has left is no error.

    Raises:
        LocalProtocolError: the response has fields that cannot be sent.
        Exception: what the body's iterator raises.

    Cancel safety: the response ends where it is; its stream is closed.
    """
    prefix = "http.response"
    if scope["type"] == "websocket":
        prefix = "websocket.http.response"
    sending = _Sending(request, response, scope, send, prefix)
    try:
        await sending.run(receive)
    except OSError:
        sending.gone = True  # ASGI 2.4: the client has left
    finally:
        await _close(response.body)


class _Sending:
    """One response on its way."""

    def __init__(
        self,
        request: Request,
        response: Response,
        scope: Scope,
        send: Send,
        prefix: str,
    ) -> None:
        self._request = request
        self._response = response
        self._send = send
        self._prefix = prefix
        extensions: dict[str, object] = scope.get("extensions") or {}
        self._with_trailers = (
            response.trailers is not None and "http.response.trailers" in extensions
        )
        self._sent = 0  # chunks
        self._ended: Signal = runtime.current().signal()
        self._done = False
        self._error: Exception | None = None
        self.gone = False

    async def run(self, receive: Receive) -> None:
        """Send everything. Cancel safety: the response ends where it is."""
        body = self._response.body
        whole = body if isinstance(body, bytes) else None
        if self._response.status in WITHOUT_BODY or self._request.method == "HEAD":
            await self._send(self._start(whole))
            await self._body(b"")
        elif whole is not None:
            await self._send(self._start(whole))
            await self._body(whole)
            await self._trailers()
        else:
            await self._send(self._start(None))
            await self._stream(body, receive)

    def _start(self, whole: bytes | None) -> Event:
        headers: list[RawHeader] = list(self._response.headers.raw)
        said = read_fields(self._response.status, headers)
        # RFC 9110 §8.6: what GET would give; a handler of HEAD alone need not know
        unknown = self._request.method == "HEAD" and not whole
        if whole is not None and not (
            unknown or said.length is not None or self._response.status in WITHOUT_BODY
        ):
            headers.append((b"content-length", b"%d" % len(whole)))
        event: Event = {
            "type": f"{self._prefix}.start",
            "status": self._response.status,
            "headers": headers,
        }
        if self._with_trailers:
            event["trailers"] = True
        return event

    async def _body(self, data: bytes, *, more: bool = False) -> None:
        kind = f"{self._prefix}.body"
        await self._send({"type": kind, "body": data, "more_body": more})

    async def _trailers(self) -> None:
        trailers = self._response.trailers
        if self._with_trailers and trailers is not None:
            kind = f"{self._prefix}.trailers"
            await self._send({"type": kind, "headers": trailers.raw})

    async def _stream(self, body: Body, receive: Receive) -> None:
        """Send a stream's chunks, as long as there is a client."""
        async with runtime.current().open_runtime() as own:
            own.spawn(self._send_chunks, body)
            if _is_read(self._request):
                own.spawn(self._watch, receive)
            if isinstance(body, EventStream) and body.heartbeat is not None:
                own.spawn(self._beat, own, body.heartbeat)
            while not (self._done or self.gone):
                await self._ended.wait()
        if self._error is not None:
            raise self._error
        if self._done:
            await self._body(b"")
            await self._trailers()

    async def _send_chunks(self, body: Body) -> None:
        try:
            if isinstance(body, AsyncIterable):
                async for chunk in body:
                    await self._chunk(chunk)
            elif not isinstance(body, bytes):
                for chunk in body:
                    await self._chunk(chunk)
        except Exception as error:  # raised where the response is awaited
            self._error = error
        self._done = True
        self._ended.set()

    async def _chunk(self, chunk: bytes | str) -> None:
        self._sent += 1
        data = chunk.encode() if isinstance(chunk, str) else chunk
        if data:
            await self._body(data, more=True)

    async def _watch(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._ended.set()

    async def _beat(self, own: ServerRuntime, heartbeat: Heartbeat) -> None:
        """Send the heartbeat after each period without a chunk."""
        while True:
            before = self._sent
            await own.sleep(heartbeat.period)
            if self._sent == before:
                await self._chunk(heartbeat.data)


def _is_read(request: Request) -> bool:
    """Tell whether the request's body was read, or has nothing to read."""
    body = request.body_reader
    if isinstance(body, HostedBody) and body.complete:
        return True
    return request.method in {"GET", "HEAD"}


async def _close(body: Any) -> None:
    if hasattr(body, "aclose"):
        await body.aclose()
    elif hasattr(body, "close"):
        body.close()
