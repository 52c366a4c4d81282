"""The handlers that every client of the catalogue plays its scenarios against."""

from dataclasses import dataclass

from tako import Deflate, Request, Router, TakoWs, WebSocket
from tests.support.server import Reports


@dataclass(frozen=True, slots=True)
class Ending:
    """How a conversation ended for the server."""

    code: int | None
    reason: str
    http_version: str


def scenario_router(endings: Reports) -> Router:
    """Return ``/echo``, ``/deflate``, ``/bye``, and a page for browsers at ``/``."""

    async def echo_session(ws: WebSocket) -> None:
        async for message in ws:
            if isinstance(message, str | bytes):
                await ws.send(message)
        _report(ws)

    async def bye_session(ws: WebSocket) -> None:
        await ws.read()
        await ws.close(4001, "bye")
        _report(ws)

    def _report(ws: WebSocket) -> None:
        endings.put(Ending(ws.close_code, ws.close_reason, ws.http_version))

    async def echo(request: Request) -> TakoWs:
        return TakoWs(request, echo_session)

    async def deflate(request: Request) -> TakoWs:
        return TakoWs(request, echo_session, compression=Deflate())

    async def bye(request: Request) -> TakoWs:
        return TakoWs(request, bye_session)

    async def page(request: Request) -> tuple[int, dict[str, str], str]:
        return 200, {"content-type": "text/html"}, "<!DOCTYPE html><title>tako</title>"

    router = Router()
    router.get("/echo", echo)
    router.get("/deflate", deflate)
    router.get("/bye", bye)
    router.get("/", page)
    return router
