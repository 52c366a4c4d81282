"""What the ASGI servers serve: the same paths as ``serve_tako``."""

from collections.abc import Awaitable, Callable
from typing import Any


Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"13")],
}
BODY = {"type": "http.response.body", "body": b"Hello, World!"}
members: set[Send] = set()


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


async def http(receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)


async def lifespan(receive: Receive, send: Send) -> None:
    kind = ""
    while kind != "lifespan.shutdown":
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})


async def app(scope: Event, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await websocket(scope["path"], receive, send)
    elif scope["type"] == "http":
        await http(receive, send)
    else:
        await lifespan(receive, send)
