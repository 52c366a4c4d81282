"""Run one exchange: dispatch, then send the response or run the session.

Theory of operation. ``run_exchange`` is the isolation boundary of an exchange, one of
two (the other is the session's, in ``ws``). It is the only place that maps an exception
of a handler to the wire: 500 while no head was sent, a reset after that (HTTP/2:
RST_STREAM(INTERNAL_ERROR), HTTP/1.1: the connection ends without the final chunk, RFC
9112 §8). Its text goes to the log, never to the peer.

``send_response`` knows how an ordinary response is sent: which have no body, how much
is queued at a time, when other exchanges get their turn, and what keeps a silent event
stream alive. Most have nothing to wait for: ``send_whole`` is for them. A file is sent
by the kernel where nothing has to be done to its bytes (``send_file``). An ASGI app's
``send`` uses the parts of all three, from within ``dispatch``.
"""

import logging
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import Any, TypeAlias

from tako.core.error_code import ErrorCode
from tako.core.on_fault import tell_of_fault
from tako.core.seams import PIECE, Exchange, Upgrade
from tako.core.upgrade import upgrade_of
from tako.errors import LocalProtocolError
from tako.http.headers import Headers, RawHeader
from tako.http.request import Request
from tako.http.response import Response
from tako.http.response_facts import fields_of
from tako.http.response_fields import WITHOUT_BODY
from tako.http.sse import EventStream
from tako.server.file_body import FileBody
from tako.server.heartbeat import HeartbeatTimer
from tako.server.whole import call_back, send_at_once


_logger = logging.getLogger("tako.server")

_FILE_TURN = 256 * 1024  # bytes of a file that the kernel sends before others run

Dispatch: TypeAlias = Callable[[Request], Awaitable[Response]]


async def run_exchange(dispatch: Dispatch, exchange: Exchange) -> None:
    """Answer ``exchange`` with what ``dispatch`` returns for its request.

    The whole task of an exchange, see ``tcp.protocol.Handler``: what is raised here
    ends the exchange alone.

    Cancel safety: a cancelled exchange is reset by its connection.
    """
    status, complete = 499, False  # until there is an answer
    try:
        try:
            try:
                response = await dispatch(exchange.request)
            except Exception as error:  # the isolation boundary of an exchange
                _note(exchange.request, error, "handler of")
                response = _failure()
            if exchange.head_sent:
                return  # an ASGI app writes its answer itself, and has seen to its end
            status = response.status
            try:
                complete = send_at_once(exchange, response)
                if not complete:
                    upgrade = upgrade_of(response)
                    if upgrade is not None:
                        _open_tunnel(exchange, response, upgrade)
                        del response  # it is not kept as long as the session lasts
                        await upgrade.run()  # from here: each level costs every message
                        complete = True
                    else:
                        complete = await send_response(exchange, response)
            except Exception as error:  # the same boundary: the head may be on the wire
                _note(exchange.request, error, "response to")
                if exchange.head_sent:
                    exchange.reset(ErrorCode.INTERNAL_ERROR)
                else:
                    status = 500
                    complete = await send_response(exchange, _failure())
        finally:
            call_back(exchange, status, complete)
    except BaseException as error:  # a cancellation, or a bug of tako
        if exchange.connection.failed(exchange, error):
            raise
    finally:
        exchange.connection.answered(exchange)


def _note(request: Request, error: Exception, what: str) -> None:
    _logger.error("%s %s failed", what, request.path, exc_info=error)
    tell_of_fault(request, error)


def _open_tunnel(exchange: Exchange, response: Response, upgrade: Upgrade) -> None:
    tunnel = exchange.open_tunnel(response.status, fields_of(response))
    upgrade.attach(tunnel)
    exchange.flush(soon=True)


def _failure() -> Response:
    return Response(500, body="Internal Server Error")


async def send_response(exchange: Exchange, response: Response) -> bool:
    """Send ``response``; tell whether the connection has taken all of it.

    Raises:
        LocalProtocolError: the response contradicts itself or the protocol.
        Exception: whatever the source of its body raised.

    Cancel safety: the source of the body is closed; the exchange is not.
    """
    complete = True
    status, body = response.status, response.body
    headers = response.headers.raw
    if status < 200:  # RFC 9110 §15.2: another answer would have to follow
        await _close(body)
        msg = f"a handler answers with a final status, unlike {status}"
        raise LocalProtocolError(msg)
    if status >= 400 and (delay := exchange.error_delay):
        await exchange.body.arrived(delay)
    if exchange.request.method == "HEAD" or status in WITHOUT_BODY:
        # RFC 9110 §8.6: what GET would give; a handler of HEAD alone need not know
        if body and isinstance(body, bytes) and status not in WITHOUT_BODY:
            headers = _with_length(headers, len(body))
        try:
            exchange.send_headers(status, headers, end=True)
        finally:
            await _close(body)
    elif isinstance(body, bytes):
        size = len(body)
        if size > PIECE:
            exchange.send_headers(status, _with_length(headers, size))
            complete = await _send_large(exchange, body)
        else:
            exchange.send_response(status, headers, body)
            exchange.bytes_sent += size
    elif isinstance(body, FileBody):
        complete = await _send_whole_file(exchange, response, body)
    else:
        complete = await _send_stream(exchange, response, body)
    exchange.body.discard()
    return complete


async def _send_large(exchange: Exchange, body: bytes) -> bool:
    """Send ``body`` in pieces, at the pace of the peer."""
    view = memoryview(body)
    for start in range(0, len(body), PIECE):
        last = start + PIECE >= len(body)
        piece = view[start : start + PIECE]
        exchange.send_data(piece, end=last)
        exchange.bytes_sent += len(piece)
        await _yield_turn(exchange)
        if not last:
            await exchange.writable_again()
            if exchange.over:
                return False
    return True


async def _send_whole_file(
    exchange: Exchange, response: Response, body: FileBody
) -> bool:
    """Send a response whose body is a file, and so of a known size."""
    try:
        headers = _with_length(response.headers.raw, body.size)
        exchange.send_headers(response.status, headers)
        await send_file(exchange, body)
    finally:
        body.close()
    return end_response(exchange, response.trailers)


async def _send_stream(
    exchange: Exchange,
    response: Response,
    body: AsyncIterable[bytes] | Iterable[bytes],
) -> bool:
    """Send chunks as they come; the source waits while the peer does not read."""
    timer: HeartbeatTimer | None = None
    try:
        exchange.send_headers(response.status, response.headers.raw)
        exchange.flush(soon=True)
        if isinstance(body, EventStream) and body.heartbeat is not None:
            timer = HeartbeatTimer(exchange, body.heartbeat)
        if isinstance(body, AsyncIterable):
            async for chunk in body:
                if not await send_chunk(exchange, chunk):
                    return False
                if timer is not None:
                    timer.restart()
        else:
            for chunk in body:
                if not await send_chunk(exchange, chunk):
                    return False
    finally:
        if timer is not None:
            timer.stop()
        await _close(body)
    return end_response(exchange, response.trailers)


async def begin_response(exchange: Exchange, response: Response) -> bool:
    """Send the head of ``response``; tell whether a body follows, in chunks.

    Raises:
        LocalProtocolError: the response contradicts itself or the protocol.

    Cancel safety: nothing was sent.
    """
    status = response.status
    if status >= 400 and (delay := exchange.error_delay):
        await exchange.body.arrived(delay)
    empty = exchange.request.method == "HEAD" or status in WITHOUT_BODY
    exchange.send_headers(status, response.headers.raw, end=empty)
    exchange.flush(soon=True)
    return not empty


def end_response(exchange: Exchange, trailers: Headers | None) -> bool:
    """End a body that was sent in chunks; tell whether the peer reads."""
    if exchange.over:  # the peer left, and the source has ended because of that
        return False
    if trailers:
        exchange.send_trailers(trailers.raw)
    else:
        exchange.send_data(b"", end=True)
    return True


async def send_chunk(exchange: Exchange, chunk: bytes | str) -> bool:
    """Send one chunk, wait until more is welcome; tell whether the peer reads.

    Cancel safety: ``Exchange.bytes_sent`` tells how much of it was sent.
    """
    if exchange.over:
        return False
    data = chunk.encode() if isinstance(chunk, str) else chunk
    for start in range(0, len(data), PIECE):
        piece = data if len(data) <= PIECE else data[start : start + PIECE]
        exchange.send_data(piece)
        before = exchange.bytes_sent
        exchange.bytes_sent += len(piece)
        if before // PIECE == exchange.bytes_sent // PIECE:
            exchange.flush(soon=True)
        else:
            await _yield_turn(exchange)
        await exchange.writable_again()
        if exchange.over:
            return False
    return True


async def send_file(exchange: Exchange, body: FileBody) -> bool:
    """Send a stretch of a file, at the pace of the peer; tell whether it reads.

    Where the wire allows it the kernel sends the file (``Exchange.send_file``), else
    pieces are read, one when there is room for it.

    Raises:
        LocalProtocolError: the file has become shorter, or cannot be read, or its
            stretch is longer than what the response promised.

    Cancel safety: what is left of ``body`` was not sent.
    """
    while body.size and not exchange.over:
        size = exchange.send_file(body.fd, body.offset, min(body.size, _FILE_TURN))
        if size:
            body.sent(size)
        else:
            piece = body.read(PIECE)
            size = len(piece)
            exchange.send_data(piece)
        exchange.bytes_sent += size
        await _yield_turn(exchange)
        await exchange.writable_again()
    return not exchange.over


async def _yield_turn(exchange: Exchange) -> None:
    """Write what is queued, and let others run.

    A body that is made without waiting would otherwise keep the loop to itself:
    nothing of it would be written, and a peer that is slow or gone would not be
    noticed.

    Cancel safety: safe.
    """
    exchange.flush()
    runtime = exchange.connection.runtime
    if runtime.checkpoint is None:  # else ``writable_again`` waits
        await runtime.sleep(0)


def _with_length(headers: list[RawHeader], length: int) -> list[RawHeader]:
    for name, value in headers:
        if name == b"content-length":
            if value != b"%d" % length:
                msg = f"content-length {value!r} on a body of {length} bytes"
                raise LocalProtocolError(msg)
            return headers
    return [*headers, (b"content-length", b"%d" % length)]


async def _close(body: Any) -> None:
    """Run the ``finally`` blocks of a generator that may not have been exhausted."""
    if hasattr(body, "aclose"):
        await body.aclose()
    elif hasattr(body, "close"):
        body.close()
