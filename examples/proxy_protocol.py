"""Behind a proxy that speaks the PROXY protocol: / says who the client really is."""

import sys

import tako
from tako import Method, Request, Router
from tako.proxy import ProxyHeader


async def whoami(req: Request) -> str:
    header = req.extensions[ProxyHeader]
    peer = req.conn_info.peer if req.conn_info else "unknown"
    return (
        f"Real client: {peer}\n"
        f"PROXY header: version={header.version.name}, "
        f"transport={header.transport.name}, "
        f"src={header.source}, dst={header.destination}\n"
    )


async def main(address: str = "127.0.0.1:8080") -> None:
    router = Router()
    router.route(Method.GET, "/", whoami)
    listener = await tako.bind(address)
    host, _, port = str(listener.local_addr).rpartition(":")
    shutdown = tako.ctrl_c()
    print(f"PROXY protocol server running at {listener.local_addr}")
    print("Try it:")
    print(
        rf"  printf 'PROXY TCP4 192.168.1.100 10.0.0.1 56324 {port}\r\n"
        rf"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n' | nc {host} {port}",
        flush=True,
    )
    await tako.serve(listener, router, proxy=True, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
