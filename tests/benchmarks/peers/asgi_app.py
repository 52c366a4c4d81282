"""What the ASGI servers serve: the same paths as ``serve_tako``."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any


Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Start = tuple[Event, Event]

members: set[Send] = set()


def answer(kind: bytes, body: bytes) -> Start:
    length = str(len(body)).encode()
    return (
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-type", kind), (b"content-length", length)],
        },
        {"type": "http.response.body", "body": body},
    )


HELLO = answer(b"text/plain", b"Hello, World!")


@cache
def filled(size: int) -> Start:
    return answer(b"application/octet-stream", bytes(size))


async def websocket(path: str, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    if path == "/fan-out":
        members.add(send)
    try:
        while (event := await receive())["type"] == "websocket.receive":
            reply = {"type": "websocket.send"}
            if event.get("text") is not None:
                await send(reply | {"text": event["text"]})
            elif path == "/fan-out":
                for member in list(members):
                    await member(reply | {"bytes": event["bytes"]})
            else:
                await send(reply | {"bytes": event["bytes"]})
    finally:
        members.discard(send)


async def http(path: str, receive: Receive, send: Send) -> None:
    size, more = 0, True
    while more:
        event = await receive()
        size += len(event.get("body", b""))
        more = event.get("more_body", False)
    if path == "/upload":
        start, body = answer(b"text/plain", str(size).encode())
    elif path.startswith("/bytes/"):
        start, body = filled(int(path[7:]))
    else:
        start, body = HELLO
    await send(start)
    await send(body)


async def lifespan(receive: Receive, send: Send) -> None:
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await websocket(scope["path"], receive, send)
    elif scope["type"] == "http":
        await http(scope["path"], receive, send)
    else:
        await lifespan(receive, send)
