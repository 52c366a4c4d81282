"""Streaming answers: / (digits), /json (fails on purpose) and /events (SSE)."""

import json
import sys
from collections.abc import AsyncIterator
from itertools import count

import tako
from tako import Method, Response, Router, Sse, SseEvent


async def digits() -> Response:
    async def body() -> AsyncIterator[bytes]:
        for digit in range(10):
            yield f"{digit}\n".encode()
            await tako.sleep(1)

    return Response(200, {"content-type": "text/event-stream"}, body())


async def ticks() -> Response:
    async def body() -> AsyncIterator[bytes]:
        for tick in count(1):
            await tako.sleep(0.5)
            if tick % 5 == 0:
                msg = "every fifth tick fails: the client sees a body cut short"
                raise RuntimeError(msg)
            yield json.dumps({"tick": tick}, separators=(",", ":")).encode()

    return Response(200, {"content-type": "application/json"}, body())


async def events() -> Sse:
    async def source() -> AsyncIterator[SseEvent]:
        for tick in count():
            yield SseEvent(f"tick: {tick}")
            await tako.sleep(1)

    return Sse.events(source())


async def main(address: str = "127.0.0.1:8080") -> None:
    router = Router()
    router.route(Method.GET, "/", digits)
    router.route(Method.GET, "/json", ticks)
    router.route(Method.GET, "/events", events)
    listener, shutdown = await tako.bind(address), tako.ctrl_c()
    print(f"listening on http://{listener.local_addr}/", flush=True)
    await tako.serve(listener, router, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
