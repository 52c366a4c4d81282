"""Echo and tick over WebSocket: ws://127.0.0.1:8080/ws/echo and /ws/tick."""

import sys
from itertools import count
from time import monotonic

import tako
from tako import Message, Method, Request, Router, TakoWs, WebSocket


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


async def main(address: str = "127.0.0.1:8080") -> None:
    router = Router()
    router.route(Method.GET, "/ws/echo", ws_echo)
    router.route(Method.GET, "/ws/tick", ws_tick)
    listener, shutdown = await tako.bind(address), tako.ctrl_c()
    print(f"listening on ws://{listener.local_addr}/ws/echo", flush=True)
    await tako.serve(listener, router, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
