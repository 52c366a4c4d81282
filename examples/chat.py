"""A chat room on HTTP/1.1 and HTTP/2 at once: wss://127.0.0.1:8080/ws/chat?name=Ada."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import tako
from tako import Method, Request, Router, TakoWs, WebSocket


members: dict[asyncio.Queue[str], Callable[[], object]] = {}  # inbox: how to drop it


def post(text: str) -> None:
    for inbox, drop in list(members.items()):
        if inbox.full():  # the room does not wait for a slow member
            del members[inbox]
            drop()
        else:
            inbox.put_nowait(text)


async def ws_chat(req: Request) -> TakoWs:
    name = req.query_params.get("name", "anonymous")

    async def forward(inbox: asyncio.Queue[str], ws: WebSocket) -> None:
        with suppress(tako.WsError):  # the member left: the reading side notices, too
            while True:
                await ws.send(await inbox.get())

    async def session(ws: WebSocket) -> None:
        inbox = asyncio.Queue[str](maxsize=64)
        async with asyncio.TaskGroup() as tasks:
            sender = tasks.create_task(forward(inbox, ws))
            members[inbox] = lambda: tasks.create_task(ws.close(1013, "too slow"))
            post(f"* {name} joined")
            try:
                async for msg in ws:
                    if isinstance(msg, str):
                        post(f"{name}: {msg}")
            finally:  # also when cancelled: the room must not keep a lost member
                sender.cancel()
                members.pop(inbox, None)
                post(f"* {name} left")

    return TakoWs(req, session)


async def main(address: str = "127.0.0.1:8080") -> None:
    certs = Path("certs" if Path("certs/cert.pem").exists() else ".")
    pair = certs / "cert.pem", certs / "key.pem"
    router = Router()
    router.route(Method.GET, "/ws/chat", ws_chat)
    await tako.serve_tls(address, router, *pair, shutdown=tako.ctrl_c())


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
