"""A program: large bodies in both directions; prints the port that it listens on.

python -m tests.support.streaming_server RUNTIME WIRE CERT KEY
"""

import sys
from collections.abc import AsyncIterator
from typing import Any

import tako
from tako import Request, Response, Router
from tako.testing.peer import Wire
from tests.support import lane
from tests.support.server import serving


PIECE = b"x" * 64 * 1024


async def upload(request: Request) -> str:
    """Answer with the size of the body, which is never held."""
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
    return str(size)


async def form(request: Request) -> str:
    """The same for the parts of a form."""
    size = 0
    async for part in await request.multipart():
        async for chunk in part:
            size += len(chunk)
    return str(size)


async def download(request: Request) -> Response:
    """Answer with ``?size=`` bytes, which are made as they are sent."""
    size = int(request.query_params["size"])

    async def body() -> AsyncIterator[bytes]:
        for at in range(0, size, len(PIECE)):
            yield PIECE[: size - at]

    return Response(body=body())


async def main(wire: Wire, cert: str, key: str) -> None:
    router = Router()
    router.post("/upload", upload)
    router.post("/form", form)
    router.get("/download", download)
    listener = await tako.bind("127.0.0.1:0")
    shutdown = tako.ctrl_c()
    print(str(listener.local_addr).rpartition(":")[2], flush=True)
    await serving(wire, listener, router, (cert, key), shutdown=shutdown)


if __name__ == "__main__":
    runtime: Any = sys.argv[1]
    lane.obey()
    tako.run(main, *sys.argv[2:], runtime=runtime)
