"""websockets under load. Usage: serve_websockets.py PORT [CERTIFICATE KEY]."""

import ssl
import sys

import uvloop
from websockets.asyncio.server import ServerConnection, broadcast, serve


members: set[ServerConnection] = set()


async def session(ws: ServerConnection) -> None:
    fan_out = ws.request is not None and ws.request.path == "/fan-out"
    if fan_out:
        members.add(ws)
    try:
        async for message in ws:
            if fan_out and isinstance(message, bytes):
                broadcast(members, message)
            else:
                await ws.send(message)
    finally:
        members.discard(ws)


async def main() -> None:
    port, *files = sys.argv[1:]
    tls = None
    if files:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*files)
    async with serve(
        session, "127.0.0.1", int(port), ssl=tls, compression=None, max_size=None
    ) as server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
