"""The smallest server: http://127.0.0.1:8080/ says hello."""

import sys

import tako
from tako import Method, Router


async def hello() -> str:
    return "Hello, World!"


async def main(address: str = "127.0.0.1:8080") -> None:
    router = Router()
    router.route(Method.GET, "/", hello)
    listener = await tako.bind(address)
    await tako.serve(listener, router, shutdown=tako.ctrl_c())


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
