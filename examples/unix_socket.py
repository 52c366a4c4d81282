"""HTTP on a Unix socket: / greets, /health says ok."""

import sys

import tako
from tako import Method, Request, Router


async def hello(req: Request) -> str:
    peer = req.conn_info.peer if req.conn_info else "unknown"
    return f"Hello from Unix socket! Peer: {peer}"


async def health() -> str:
    return "ok"


async def main(path: str = "/tmp/tako-example.sock") -> None:  # noqa: S108 - a demo
    router = Router()
    router.route(Method.GET, "/", hello)
    router.route(Method.GET, "/health", health)
    shutdown = tako.ctrl_c()
    print(f"Starting HTTP server on Unix socket: {path}")
    print(f"  curl --unix-socket {path} http://localhost/")
    print(f"  curl --unix-socket {path} http://localhost/health", flush=True)
    await tako.serve(f"unix:{path}", router, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
