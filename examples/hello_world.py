"""The smallest server: http://127.0.0.1:8080/ says hello."""

import sys

import tako
from tako import Method, Router


async def hello() -> str:
    return "Hello, World!"


async def main(address: str = "127.0.0.1:8080") -> None:
    router = Router()
    router.route(Method.GET, "/", hello)
    listener, shutdown = await tako.bind(address), tako.ctrl_c()
    print(f"listening on http://{listener.local_addr}/", flush=True)
    await tako.serve(listener, router, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
