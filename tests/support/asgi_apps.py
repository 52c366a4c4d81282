"""ASGI apps for tests: raw ones, and the frameworks' own examples, unchanged."""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Literal, TypeAlias, cast

import pytest


Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

TEXT = [(b"content-type", b"text/plain; charset=utf-8")]


async def respond(
    send: Send,
    body: bytes = b"",
    status: int = 200,
    headers: list[tuple[bytes, bytes]] = TEXT,
) -> None:
    """Send a whole response."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def lifespan_only(scope: Scope, receive: Receive, send: Send) -> None:
    """Complete startup and shutdown."""
    while (event := await receive())["type"] != "lifespan.shutdown":
        await send({"type": event["type"] + ".complete"})
    await send({"type": "lifespan.shutdown.complete"})


def starlette_app() -> App:  # noqa: C901 - a list of endpoints
    """The WebSocket and streaming examples of Starlette's documentation."""
    pytest.importorskip("starlette")
    from starlette.applications import Starlette
    from starlette.endpoints import WebSocketEndpoint
    from starlette.middleware import Middleware
    from starlette.middleware.base import BaseHTTPMiddleware
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, StreamingResponse
    from starlette.routing import Mount, Route, WebSocketRoute
    from starlette.websockets import WebSocket

    async def homepage(request: Request) -> PlainTextResponse:
        return PlainTextResponse("Hello, world!")

    async def body(request: Request) -> PlainTextResponse:
        parts = b""
        async for chunk in request.stream():
            parts += chunk
        return PlainTextResponse(f"{len(parts)} bytes at {request.url.path}")

    async def slow_numbers(minimum: int, maximum: int) -> AsyncIterator[str]:
        yield "<html><body><ul>"
        for number in range(minimum, maximum + 1):
            yield f"<li>{number}</li>"
        yield "</ul></body></html>"

    async def numbers(request: Request) -> StreamingResponse:
        return StreamingResponse(slow_numbers(1, 10), media_type="text/html")

    async def websocket_echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for message in websocket.iter_text():
            await websocket.send_text(f"Message text was: {message}")

    async def websocket_json(websocket: WebSocket) -> None:
        await websocket.accept(
            subprotocol=next(iter(websocket["subprotocols"]), None),
            headers=[(b"x-served-by", b"starlette")],
        )
        data = await websocket.receive_json()
        await websocket.send_json({"got": data})
        await websocket.close(code=4001, reason="done")

    async def websocket_denied(websocket: WebSocket) -> None:
        await websocket.send_denial_response(
            PlainTextResponse("Not today", status_code=401)
        )

    async def websocket_closed(websocket: WebSocket) -> None:
        await websocket.close()

    class Echo(WebSocketEndpoint):
        encoding: Literal["text", "bytes", "json"] | None = "bytes"

        async def on_receive(self, websocket: WebSocket, data: Any) -> None:
            await websocket.send_bytes(b"Message: " + data)

    class Stamp(BaseHTTPMiddleware):
        async def dispatch(self, request: Request, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-stamp"] = "stamped"
            return response

    return Starlette(
        routes=[
            Route("/", homepage),
            Route("/body", body, methods=["POST"]),
            Route("/numbers", numbers),
            WebSocketRoute("/ws", websocket_echo),
            WebSocketRoute("/json", websocket_json),
            WebSocketRoute("/denied", websocket_denied),
            WebSocketRoute("/closed", websocket_closed),
            WebSocketRoute("/endpoint", Echo),
            Mount("/sub", routes=[Route("/body", body, methods=["POST"])]),
        ],
        middleware=[Middleware(Stamp)],
    )


def fastapi_app() -> App:  # noqa: C901 - as above
    """The chat of FastAPI's documentation, and a streaming response."""
    pytest.importorskip("fastapi")
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect
    from fastapi.responses import StreamingResponse

    app = FastAPI()

    class ConnectionManager:
        def __init__(self) -> None:
            self.active_connections: list[WebSocket] = []

        async def connect(self, websocket: WebSocket) -> None:
            await websocket.accept()
            self.active_connections.append(websocket)

        def disconnect(self, websocket: WebSocket) -> None:
            self.active_connections.remove(websocket)

        async def send_personal_message(self, message: str, ws: WebSocket) -> None:
            await ws.send_text(message)

        async def broadcast(self, message: str) -> None:
            for connection in self.active_connections:
                await connection.send_text(message)

    manager = ConnectionManager()

    @app.get("/")
    async def root() -> dict[str, str]:
        return {"message": "Hello World"}

    async def fake_video_streamer() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"some fake video bytes"

    @app.get("/video")
    async def video() -> StreamingResponse:
        return StreamingResponse(fake_video_streamer())

    @app.websocket("/ws/{client_id}")
    async def websocket_endpoint(websocket: WebSocket, client_id: int) -> None:
        await manager.connect(websocket)
        try:
            while True:
                data = await websocket.receive_text()
                await manager.send_personal_message(f"You wrote: {data}", websocket)
                await manager.broadcast(f"Client #{client_id} says: {data}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast(f"Client #{client_id} left the chat")

    @app.websocket("/careless")
    async def careless(websocket: WebSocket) -> None:
        await websocket.accept()
        while True:
            data = await websocket.receive_text()
            await websocket.send_text(f"Message text was: {data}")

    return app


def quart_app(*, on_trio: bool = False) -> App:  # noqa: C901 - as above
    """The WebSocket and streaming examples of Quart's documentation."""
    pytest.importorskip("quart")
    from quart import Quart, request, websocket

    if on_trio:
        pytest.importorskip("quart_trio", reason="Quart runs on trio by quart-trio")
        from quart_trio import QuartTrio

        app: Quart = QuartTrio(__name__)
    else:
        app = Quart(__name__)

    @app.route("/")
    async def hello() -> str:
        return "hello"

    @app.post("/body")
    async def body() -> str:
        return f"{len(await request.get_data())} bytes"

    @app.route("/numbers")
    async def numbers() -> Any:
        async def generate() -> AsyncIterator[bytes]:
            for number in range(10):
                yield f"{number}\n".encode()

        return generate(), 200, {"content-type": "text/plain"}

    @app.websocket("/ws")
    async def ws() -> None:
        while True:
            data = await websocket.receive()
            await websocket.send(f"echo {data!s}")

    @app.websocket("/closing")
    async def closing() -> None:
        await websocket.accept(headers={"x-served-by": "quart"})
        await websocket.receive()
        await websocket.close(4002, "enough")

    @app.websocket("/denied")
    async def denied() -> Any:
        return "No", 401

    return cast("App", app)


def django_app() -> App:
    """Views of Django, async and not, and a consumer of its channels."""
    pytest.importorskip("channels", reason="Django has WebSockets by channels")
    pytest.importorskip("django")
    from channels.generic.websocket import AsyncWebsocketConsumer, WebsocketConsumer
    from channels.routing import ProtocolTypeRouter, URLRouter
    from django.conf import settings
    from django.core.asgi import get_asgi_application
    from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
    from django.urls import path

    async def hello(request: HttpRequest) -> HttpResponse:
        return HttpResponse("hello", content_type="text/plain")

    def body(request: HttpRequest) -> HttpResponse:
        return HttpResponse(f"{len(request.body)} bytes over {request.scheme}")

    async def numbers(request: HttpRequest) -> StreamingHttpResponse:
        async def generate() -> AsyncIterator[bytes]:
            for number in range(10):
                yield f"{number}\n".encode()

        return StreamingHttpResponse(generate(), content_type="text/plain")

    class Echo(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            await self.send(text_data=f"echo {text_data}")

    class Closing(WebsocketConsumer):  # type: ignore[misc]
        def connect(self) -> None:
            self.accept(next(iter(self.scope["subprotocols"]), None))

        def receive(
            self, text_data: str | None = None, bytes_data: bytes | None = None
        ) -> None:
            self.close(code=4002, reason="enough")

    class Denied(AsyncWebsocketConsumer):  # type: ignore[misc]
        async def connect(self) -> None:
            await self.close()

    settings.configure(
        ALLOWED_HOSTS=["*"],
        ROOT_URLCONF=(
            path("", hello),
            path("body", body),
            path("numbers", numbers),
        ),
        SECRET_KEY="for tests",
        DATA_UPLOAD_MAX_MEMORY_SIZE=1 << 20,
    )
    app = ProtocolTypeRouter(
        {
            "http": get_asgi_application(),
            "websocket": URLRouter(
                [
                    path("ws", Echo.as_asgi()),
                    path("closing", Closing.as_asgi()),
                    path("denied", Denied.as_asgi()),
                ]
            ),
        }
    )
    return cast("App", app)


def litestar_app() -> App:
    """Handlers and WebSocket listeners of Litestar."""
    pytest.importorskip("litestar")
    from litestar import Litestar, Request, WebSocket, get, post, websocket
    from litestar.exceptions import NotAuthorizedException
    from litestar.handlers import websocket_listener
    from litestar.response import Stream

    @get("/")
    async def hello() -> dict[str, str]:
        return {"message": "hello"}

    @post("/body", status_code=200, request_max_body_size=None)
    async def body(request: Request[Any, Any, Any]) -> str:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
        return f"{size} bytes"

    async def generate() -> AsyncIterator[bytes]:
        for number in range(10):
            yield f"{number}\n".encode()

    @get("/numbers")
    async def numbers() -> Stream:
        return Stream(generate(), media_type="text/plain")

    @websocket_listener("/ws")
    async def echo(data: str) -> str:
        return f"echo {data}"

    @websocket("/closing")
    async def closing(socket: WebSocket[Any, Any, Any]) -> None:
        await socket.accept(headers={"x-served-by": "litestar"})
        await socket.receive_text()
        await socket.close(4002, "enough")

    @websocket("/denied")
    async def denied(socket: WebSocket[Any, Any, Any]) -> None:
        raise NotAuthorizedException

    handlers = [hello, body, numbers, echo, closing, denied]
    return cast("App", Litestar(route_handlers=handlers))
