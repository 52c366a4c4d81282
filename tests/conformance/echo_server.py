"""The server that Autobahn tests: every message comes back, deflated if offered.

    python -m tests.conformance.echo_server [--tls CERT KEY] [--runtime trio]

Prints its port once it listens.
"""

import argparse

import tako
from tako import Deflate, Message, Request, Router, TakoWs, WebSocket


async def session(ws: WebSocket) -> None:
    """Send text and binary messages back; tako does the rest."""
    async for message in ws:
        match message:
            case Message.Text() | Message.Binary():
                await ws.send(message)


async def echo(request: Request) -> TakoWs:
    """The only handler."""
    return TakoWs(request, session, compression=Deflate())


async def main(tls: list[str] | None) -> None:
    """Serve on a free port of 127.0.0.1 until a signal comes."""
    router = Router()
    router.get("/{*path}", echo)
    router.get("/", echo)
    listener = await tako.bind("127.0.0.1:0")
    shutdown = tako.ctrl_c()
    print(listener.port, flush=True)
    if tls is None:
        await tako.serve(listener, router, shutdown=shutdown)
    else:
        await tako.serve_tls(listener, router, *tls, shutdown=shutdown)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tls", nargs=2, metavar=("CERT", "KEY"))
    parser.add_argument("--runtime", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--loop", choices=["auto", "asyncio", "uvloop"], default="auto")
    options = parser.parse_args()
    if options.runtime == "trio":
        tako.run(main, options.tls, runtime="trio")
    else:
        tako.run(main, options.tls, loop=options.loop)
