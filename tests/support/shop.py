"""A FastAPI app with what people build: ``tests.support.shop:app``, for the command.

REST, a WebSocket, an event stream, uploads, files, background tasks, a lifespan. It
notes what happens in the file that ``SHOP_JOURNAL`` names, a line each, with all of its
processes; ``SHOP_FILES`` names the folder of its files.
"""

import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
from fastapi import BackgroundTasks, FastAPI, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel


JOURNAL = Path(os.environ["SHOP_JOURNAL"])
EVENTS = 5


def note(line: str) -> None:
    """Append a line to the journal, in one write."""
    with JOURNAL.open("a") as file:
        file.write(line + "\n")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Note when a process begins and ends to serve."""
    note(f"started {os.getpid()}")
    yield
    note(f"stopped {os.getpid()}")


class Order(BaseModel):
    """What a client buys."""

    number: int
    things: list[str]


app = FastAPI(lifespan=lifespan)
app.mount("/files", StaticFiles(directory=os.environ["SHOP_FILES"]))


@app.get("/items/{number}")
async def item(number: int, request: Request) -> dict[str, Any]:
    """Return the number, and what the app knows of its client."""
    return {
        "number": number,
        "client": "" if request.client is None else request.client.host,
        "scheme": request.url.scheme,
        "process": os.getpid(),
    }


@app.post("/orders", status_code=201)
async def order(order: Order, tasks: BackgroundTasks) -> Order:
    """Accept an order, and mail about it after the answer."""
    tasks.add_task(note, f"mailed {order.number}: {', '.join(order.things)}")
    return order


@app.put("/uploads/{name}")
async def upload(name: str, request: Request) -> dict[str, Any]:
    """Return the size and the digest of what comes."""
    digest, size = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        size += len(chunk)
    return {"name": name, "size": size, "sha256": digest.hexdigest()}


@app.get("/events")
async def events() -> StreamingResponse:
    """Send a few events; that the client leaves is noted, too."""

    async def generate() -> AsyncIterator[str]:
        for number in range(EVENTS):
            yield f"id: {number}\ndata: event {number}\n\n"
            await anyio.sleep(0.01)

    fields = {"x-accel-buffering": "no"}  # for nginx: each event at once
    return StreamingResponse(generate(), headers=fields, media_type="text/event-stream")


@app.get("/slow")
def slow() -> dict[str, int]:  # runs in a thread
    """Answer once the journal says so."""
    note("slow begun")
    while "go on" not in JOURNAL.read_text().splitlines():
        time.sleep(0.02)
    return {"process": os.getpid()}


@app.websocket("/rooms/{name}")
async def room(websocket: WebSocket, name: str) -> None:
    """Say who the client is, then echo; note how it left."""
    await websocket.accept()
    client = "" if websocket.client is None else websocket.client.host
    await websocket.send_json({"client": client, "scheme": websocket.url.scheme})
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as left:
        note(f"left {name} {left.code}")
