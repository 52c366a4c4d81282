"""State that handlers share, found by its type; http://127.0.0.1:8080/ shows it."""

import sys
from dataclasses import dataclass

import tako
from tako import Method, Request, Router


@dataclass(frozen=True)
class AppName:
    value: str


@dataclass(frozen=True)
class Version:
    value: str


@dataclass
class Visitors:
    count: int = 0


async def greet(req: Request) -> str:
    visitors = req.state(Visitors)
    visitors.count += 1
    name, version = req.state(AppName).value, req.state(Version).value
    return f"Hello from {name} {version}! You are visitor {visitors.count}."


async def main(address: str = "127.0.0.1:8080") -> None:
    router = Router()
    for value in AppName("Tako"), Version(tako.__version__), Visitors():
        router.with_state(value)
    router.route(Method.GET, "/", greet)
    listener, shutdown = await tako.bind(address), tako.ctrl_c()
    print(f"listening on http://{listener.local_addr}/", flush=True)
    await tako.serve(listener, router, shutdown=shutdown)


if __name__ == "__main__":
    tako.run(main, *sys.argv[1:])
