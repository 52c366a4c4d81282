"""The handlers of websocket.py over TLS: HTTP/1.1 and HTTP/2 on one port; a page."""

import sys
from itertools import count
from pathlib import Path
from time import monotonic

import tako
from tako import Message, Method, Next, Request, Response, Router, TakoWs, WebSocket


async def ws_echo(req: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        await ws.send(Message.Text("Welcome to Tako WS!"))
        async for msg in ws:
            match msg:
                case Message.Text(text):
                    await ws.send(Message.Text(f"Echo: {text}"))
                case Message.Binary(data):
                    await ws.send(Message.Binary(data))
                case Message.Ping(data):
                    await ws.send(Message.Pong(data))
                case Message.Close():
                    await ws.send(Message.Close())
                    break

    return TakoWs(req, session)


async def ws_tick(req: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        due = monotonic()
        for number in count():
            await ws.send(Message.Text(f"tick #{number}"))
            due += 1
            while (left := due - monotonic()) > 0:  # what comes in is ignored
                try:
                    if isinstance(await ws.read(timeout=left), Message.Close):
                        return
                except TimeoutError:
                    break

    return TakoWs(req, session)


async def tell_wire(req: Request, following: Next) -> Response:
    response = await following(req)
    if req.headers.get("sec-websocket-protocol") == "h1, h2":  # the page asks: which?
        wire = "h2" if req.http_version == "2" else "h1"
        response.headers["sec-websocket-protocol"] = wire
    return response


async def page() -> Response:
    html = Path(__file__).with_suffix(".html").read_bytes()
    return Response(200, {"content-type": "text/html; charset=utf-8"}, html)


async def main(address: str = "127.0.0.1:8080") -> None:
    certs = Path("certs" if Path("certs/cert.pem").exists() else ".")
    pair = certs / "cert.pem", certs / "key.pem"
    router = Router()
    router.middleware(tell_wire)
    router.route(Method.GET, "/", page)
    router.route(Method.GET, "/ws/echo", ws_echo)
    router.route(Method.GET, "/ws/tick", ws_tick)
    listener = await tako.bind(address)
    await tako.serve_tls(listener, router, *pair, shutdown=tako.ctrl_c())


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
