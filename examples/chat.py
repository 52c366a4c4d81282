"""Chat rooms with a memory: https://127.0.0.1:8080 is a page for them.

On one worker, or on several, on one machine or more:

    python chat.py
    tako serve chat:router --workers 4
    TOPICS=redis://10.0.0.1 tako serve chat:router --workers 4
"""

import os
import sys
from pathlib import Path

import tako
from tako import HttpError, Request, Response, Router, TakoWs, WebSocket
from tako.topics import OLDEST, Gap, History, Item, Topics, close


PAGE = Path(__file__).with_suffix(".html")
topics = Topics(os.environ.get("TOPICS"), history=History(messages=50))


def with_position(item: Item) -> str:
    return f"{item.position} {item.data!s}"


def missing(_: Gap) -> str:
    return " * some messages are missing"  # it has no position


async def ws_chat(req: Request) -> TakoWs:
    name = req.query_params.get("name", "anonymous")
    room = req.query_params.get("room", "lobby")
    since = req.query_params.get("since")  # what a page has got last; "": nothing yet
    if not (room.isalnum() and len(room) <= 32):
        raise HttpError(404, "there is no such room")
    topic = f"room/{room}"

    async def session(ws: WebSocket) -> None:
        feed = topics.subscribe(
            topic,
            since=since or (None if since is None else OLDEST),
            bound=64,
            policy=close(1013),  # the room does not wait for a slow member
        )
        relay = ws.relay(feed)
        if since is not None:
            relay = ws.relay(feed, encode=with_position, on_gap=missing)
        try:
            async with feed, relay:
                await topics.publish(topic, f"* {name} joined")
                async for msg in ws:
                    if isinstance(msg, str):
                        await topics.publish(topic, f"{name}: {msg}")
        finally:  # also when cancelled: the room must not keep a lost member
            await topics.publish(topic, f"* {name} left")

    return TakoWs(req, session, max_message_size=1 << 18)


async def page(_: Request) -> Response:
    return Response(
        headers={"content-type": "text/html; charset=utf-8"}, body=PAGE.read_bytes()
    )


router = Router()
router.get("/", page)
router.get("/ws/chat", ws_chat)


async def main(address: str = "127.0.0.1:8080") -> None:
    certs = Path("certs" if Path("certs/cert.pem").exists() else ".")
    pair = certs / "cert.pem", certs / "key.pem"
    listener, shutdown = await tako.bind(address), tako.ctrl_c()
    print(f"listening on wss://{listener.local_addr}/ws/chat", flush=True)
    await tako.serve_tls(listener, router, *pair, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
