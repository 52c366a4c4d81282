"""The server for the Autobahn test suite: it sends every message back unchanged."""

import sys

import tako
from tako import Deflate, Message, Method, Request, Router, TakoWs, WebSocket


async def echo(req: Request) -> TakoWs:
    async def session(ws: WebSocket) -> None:
        async for msg in ws:
            match msg:
                case Message.Text() | Message.Binary():
                    await ws.send(msg)
                case Message.Ping(data):
                    await ws.send(Message.Pong(data))
                case Message.Close(code, reason):
                    await ws.send(Message.Close(code, reason))
                    break

    return TakoWs(req, session).compression(Deflate())


async def main(address: str = "127.0.0.1:9001") -> None:
    router = Router()
    router.route(Method.GET, "/", echo)
    listener = await tako.bind(address)
    shutdown = tako.ctrl_c()
    print(f"autobahn-echo listening on ws://{listener.local_addr}", flush=True)
    await tako.serve(listener, router, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
