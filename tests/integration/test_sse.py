"""Server-sent events on both wires (T-SSE-01), and a browser that reads them."""

import itertools
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable

import pytest

import tako
from tako import Router, Sse, SseEvent
from tako.testing import Serve
from tako.testing.peer import PeerConnection
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.io import PeerResponse as Response
from tako.testing.peer.stream import H2Stream
from tests.conformance.clients.catalogue import NODE_SCRIPTS, no_chromium
from tests.support.children import run_child
from tests.support.server import UNHURRIED, Gate, Reports


Events = Callable[[], bytes]
PERIOD = 0.2


def _open(connection: PeerConnection) -> tuple[Response, Events]:
    """Ask for the events; return the head and what returns the next of them."""
    pending = connection.send_request("GET", "/events")
    if isinstance(pending, H1Connection):
        return pending.read_response(body=False), pending.read_chunk
    return pending.head(), pending.receive


def _router(sse: Callable[[], Sse]) -> Router:
    router = Router()
    router.get("/events", sse)
    router.get("/hello", lambda: "hello")
    return router


async def _three() -> AsyncIterator[SseEvent]:
    for number in range(3):
        yield SseEvent(f"line {number}\nnext", id=str(number))


def test_the_head_is_that_of_an_event_stream(tako_serve: Serve, wire: str) -> None:
    with tako_serve(_router(lambda: Sse.events(_three()))).connection() as connection:
        response = connection.request("GET", "/events")
    assert response.status == 200
    assert response.header("content-type") == "text/event-stream"
    assert response.header("cache-control") == "no-cache, no-store, must-revalidate"
    assert response.header("x-accel-buffering") == "no"
    assert response.header("content-length") is None
    kept = "keep-alive" if wire in {"h1", "h1s"} else None  # RFC 9113 §8.2.2
    assert response.header("connection") == kept
    assert response.body == b"".join(
        b"id: %d\ndata: line %d\ndata: next\n\n" % (n, n) for n in range(3)
    )


def test_an_event_is_sent_when_it_is_made(tako_serve: Serve) -> None:
    asked, gate = Reports(), Gate()

    async def source() -> AsyncIterator[str]:
        yield "first"
        asked.put("second")
        await gate.wait()
        yield "second"

    with tako_serve(_router(lambda: Sse(source()))).connection() as connection:
        _, receive = _open(connection)
        assert receive() == b"data: first\n\n"
        assert asked.get() == "second"
        gate.open()
        assert receive() == b"data: second\n\n"
        assert receive() == b""


def test_silence_is_filled_and_no_event_is_lost(tako_serve: Serve) -> None:
    gate = Gate()

    async def source() -> AsyncIterator[str]:
        yield "before"
        await gate.wait()
        yield "after"

    router = _router(lambda: Sse(source(), keep_alive=PERIOD))
    with tako_serve(router).connection() as connection:
        began = time.monotonic()
        _, receive = _open(connection)
        assert receive() == b"data: before\n\n"
        assert receive() == b":keepalive\n\n"
        assert time.monotonic() - began > PERIOD / 2
        assert receive() == b":keepalive\n\n"
        gate.open()
        rest = b"".join(iter(receive, b"")).replace(b":keepalive\n\n", b"")
        assert rest == b"data: after\n\n"


def test_events_put_the_keep_alive_off(tako_serve: Serve) -> None:
    async def source() -> AsyncIterator[str]:
        for number in range(20):
            yield str(number)
            await tako.sleep(PERIOD / 10)

    router = _router(lambda: Sse(source(), keep_alive=100 * PERIOD))
    with tako_serve(router).connection() as connection:
        assert b"keepalive" not in connection.request("GET", "/events").body


@pytest.mark.parametrize("how", ["reset", "close", "stream"])
@pytest.mark.parametrize("beats", [False, True], ids=["silent", "beating"])
def test_a_disconnect_stops_the_generator(
    tako_serve: Serve, wire: str, how: str, *, beats: bool
) -> None:
    if how == "stream" and wire in {"h1", "h1s"}:
        pytest.skip("HTTP/1.1 has no streams to reset")
    ended = Reports()

    async def source() -> AsyncIterator[str]:
        try:
            yield "first"
            await Gate().wait()
        finally:
            ended.put("ended")

    def sse() -> Sse:
        return Sse(source(), keep_alive=0.05 if beats else None)

    with tako_serve(_router(sse), config=UNHURRIED).connection() as connection:
        pending = connection.send_request("GET", "/events")
        if isinstance(pending, H2Stream):
            assert pending.receive() == b"data: first\n\n"
        else:
            pending.read_response(body=False)
            assert pending.read_chunk() == b"data: first\n\n"
        if how == "reset":
            connection.abort()
        elif how == "close":
            connection.close()
        else:
            assert isinstance(pending, H2Stream)
            pending.reset()
        assert ended.get() == "ended"
        if how == "stream":
            assert connection.request("GET", "/hello").body == b"hello"


@pytest.mark.parametrize("runtime", ["asyncio", "trio"], indirect=True)
@pytest.mark.parametrize("wire", ["h1", "h1s", "h2"], indirect=True)
def test_a_browser_reads_events(tako_serve: Serve, wire: str) -> None:
    if missing := no_chromium():
        pytest.skip(missing)
    ended = Reports()

    async def source() -> AsyncIterator[SseEvent]:
        try:
            yield SseEvent(comment="hello")
            yield SseEvent("one\ntwo", id="7")
            for number in itertools.count():
                yield SseEvent(str(number), event="named")
                await tako.sleep(0.05)
        finally:
            ended.put("closed")

    server = tako_serve(_router(lambda: Sse.events(source(), keep_alive=0.01)))
    # The browser prefers HTTP/2 where the port offers it.
    scheme = "http" if wire == "h1" else "https"
    base = f"{scheme}://localhost:{server.address[1]}"
    script = str(NODE_SCRIPTS / "eventsource.mjs")
    program = shutil.which("chromium") or "chromium"
    done = run_child(["node", script, program, base, "/events", "3"])
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["events"] == [
        {"type": "message", "data": "one\ntwo", "lastEventId": "7"},
        {"type": "named", "data": "0", "lastEventId": "7"},
        {"type": "named", "data": "1", "lastEventId": "7"},
    ]
    if seen["protocol"]:  # some versions say nothing of a stream that was closed
        assert seen["protocol"] == ("http/1.1" if wire == "h1" else "h2")
    assert ended.get() == "closed"
