"""aiohttp under load. Usage: serve_aiohttp.py PORT [CERTIFICATE KEY]."""

import ssl
import sys
from functools import cache

import uvloop
from aiohttp import WSMsgType, web


members: set[web.WebSocketResponse] = set()


async def websocket(request: web.Request) -> web.WebSocketResponse:
    ws = web.WebSocketResponse(compress=False, max_msg_size=0)
    await ws.prepare(request)
    fan_out = request.path == "/fan-out"
    if fan_out:
        members.add(ws)
    try:
        async for message in ws:
            if message.type is WSMsgType.TEXT:
                await ws.send_str(message.data)
            elif message.type is WSMsgType.BINARY and fan_out:
                for member in list(members):
                    await member.send_bytes(message.data)
            elif message.type is WSMsgType.BINARY:
                await ws.send_bytes(message.data)
    finally:
        members.discard(ws)
    return ws


async def root(request: web.Request) -> web.StreamResponse:
    if "Upgrade" in request.headers:
        return await websocket(request)
    return web.Response(text="Hello, World!")


async def upload(request: web.Request) -> web.Response:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    return web.Response(text=str(size))


@cache
def filled(size: str) -> bytes:
    return bytes(int(size))


async def some_bytes(request: web.Request) -> web.Response:
    return web.Response(body=filled(request.match_info["size"]))


def main() -> None:
    port, *files = sys.argv[1:]
    tls = None
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
    app = web.Application()
    app.router.add_get("/", root)
    app.router.add_get("/fan-out", websocket)
    app.router.add_get("/items/{id}", root)
    app.router.add_get("/bytes/{size}", some_bytes)
    app.router.add_post("/upload", upload)
    web.run_app(
        app,
        host="127.0.0.1",
        port=int(port),
        ssl_context=tls,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
    )


if __name__ == "__main__":
    main()
