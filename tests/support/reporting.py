"""What a server knows of a client, as JSON: from a tako route and from an ASGI app."""

import json
from typing import Any

from tako import Request, Router, TakoWs, WebSocket
from tako.asgi import AsgiApp
from tako.http.conn_info import prefix_of


def reporting_router() -> Router:
    """Return ``/native``, ``/native/ws``, ``/asgi/`` and ``/asgi/ws``, which report.

    ``/native/same`` is for WebSockets of pages of ``https://page.test`` only.
    """
    router = Router()
    router.get("/native", report)
    router.get("/native/ws", report_on_websocket)
    router.get("/native/same", report_on_same_origin)
    router.get("/asgi/{*rest}", AsgiApp(app, root_path="/configured", lifespan="off"))
    return router


def report(request: Request) -> dict[str, object]:
    """Return what a handler sees."""
    info = request.conn_info
    assert info is not None
    assert request.headers.get_all("host") == [request.host]
    return {
        "client": str(info.peer),
        "scheme": request.scheme,
        "host": request.host,
        "prefix": prefix_of(info),
        "tls": info.tls is not None,
        "version": request.http_version,
        "for": request.headers.get("x-forwarded-for"),
    }


def report_on_websocket(request: Request) -> TakoWs:
    """Report in the first message, then echo."""

    async def session(ws: WebSocket) -> None:
        await ws.send(json.dumps(report(ws.request)))
        async for message in ws:
            if isinstance(message, (str, bytes)):
                await ws.send(message)

    return TakoWs(request, session)


def report_on_same_origin(request: Request) -> TakoWs:
    """Report, if the page is the right one."""
    return report_on_websocket(request).allowed_origins(["https://page.test"])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Report what an ASGI app sees; on a WebSocket in its first message."""
    fields = dict(scope["headers"])
    client = scope["client"]
    text = json.dumps(
        {
            "client": None if client is None else f"{client[0]}:{client[1]}",
            "scheme": scope["scheme"],
            "host": fields[b"host"].decode(),
            "prefix": scope["root_path"].removesuffix("/asgi"),
            "path": scope["path"],
            "tls": "tls" in scope["extensions"],
            "version": scope["http_version"],
        }
    )
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": text})
        await receive()
        await send({"type": "websocket.close"})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": text.encode()})
