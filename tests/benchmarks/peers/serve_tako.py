"""tako under load. Usage: serve_tako.py PORT [CHAIN KEY] [--trio] [--all-options].

``/`` echoes and says hello, as does ``/items/{id}``; ``/fan-out`` echoes text and sends
binary to every client; ``/upload`` counts bytes, ``/bytes/{size}`` sends them.
"""

import sys
from functools import cache

import tako
from tako import Request, Response, Router, ServerConfig, TakoWs, WebSocket, WsKeepAlive
from tako.topics import Topics


ALL_OPTIONS = "--all-options" in sys.argv
MANY_REQUESTS = ServerConfig(h2_max_requests=2**30)
topics = Topics()


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        if isinstance(message, (str, bytes)):
            await ws.send(message)


async def fan_out(ws: WebSocket) -> None:
    async with topics.subscribe("all") as feed, ws.relay(feed):
        async for message in ws:
            if isinstance(message, str):
                await ws.send(message)
            elif isinstance(message, bytes):
                await topics.publish("all", message)


async def root(request: Request) -> TakoWs | str:
    if not request.is_websocket:
        return "Hello, World!"
    if not ALL_OPTIONS:
        return TakoWs(request, echo)
    return TakoWs(
        request,
        echo,
        allowed_origins=["https://localhost"],
        protocols=["echo"],
        upgrade_timeout=10,
        max_lifetime=3600,
        keep_alive=WsKeepAlive(ping_interval=60, pong_timeout=20, auto=True),
    )


async def item(_request: Request) -> str:
    return "Hello, World!"


async def upload(request: Request) -> str:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return str(size)


@cache
def filled(size: str) -> bytes:
    return bytes(int(size))


async def some_bytes(request: Request) -> Response:
    headers = {"content-type": "application/octet-stream"}
    return Response(headers=headers, body=filled(request.path_params["size"]))


async def fan_out_route(request: Request) -> TakoWs:
    return TakoWs(request, fan_out)


async def main() -> None:
    port, *files = [word for word in sys.argv[1:] if not word.startswith("--")]
    router = Router()
    router.get("/", root)
    router.get("/fan-out", fan_out_route)
    router.get("/items/{id}", item)
    router.get("/bytes/{size}", some_bytes)
    router.post("/upload", upload)
    listener = await tako.bind(f"127.0.0.1:{port}")
    if files:
        await tako.serve_tls(listener, router, *files, config=MANY_REQUESTS)
    else:
        await tako.serve(listener, router, config=MANY_REQUESTS)


if __name__ == "__main__":
    tako.run(main, runtime="trio" if "--trio" in sys.argv else "asyncio")
