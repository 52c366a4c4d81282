"""WebSocket on trio, in the read() style: /ws/echo; /ws/count, which never reads."""

import logging
import sys
from itertools import count

import trio

import tako
from tako import Message, Method, Request, Router, TakoWs, WebSocket, WsError


async def ws_echo(req: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        failure = "Failed to send welcome message"
        try:
            await ws.send("Welcome to Tako WS (trio)!")
            while True:
                failure = "WebSocket error"
                msg = await ws.read()
                failure = "Failed to send echo"
                match msg:
                    case Message.Text(text):
                        await ws.send(f"Echo: {text}")
                    case Message.Binary(data):
                        await ws.send(data)
                    case Message.Ping(data):
                        await ws.send(Message.Pong(data))
                    case Message.Close():
                        return await ws.close(None)
        except WsError as error:
            logging.getLogger("websocket_trio").error("%s: %s", failure, error)

    return TakoWs(req, session)


async def ws_count(req: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        try:
            for number in count():
                await ws.send(f"count: {number}")
                await trio.sleep(1)
        except WsError as error:
            logging.getLogger("websocket_trio").error("Failed to send count: %s", error)

    return TakoWs(req, session)


async def main(address: str = "127.0.0.1:8080") -> None:
    router = Router()
    router.route(Method.GET, "/ws/echo", ws_echo)
    router.route(Method.GET, "/ws/count", ws_count)
    listener, shutdown = await tako.bind(address), tako.ctrl_c()
    urls = [f"ws://{listener.local_addr}/ws/{name}" for name in ("echo", "count")]
    print("WebSocket server running at:", *urls, sep="\n  - ", flush=True)
    await tako.serve(listener, router, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:], runtime="trio")
