"""``from_router`` without a server: what needs tako's own is refused, or left out."""

import logging
from typing import Any

import pytest

import tako
from tako import Next, Request, Response, Router, TakoWs, WebSocket
from tako.asgi import from_router
from tako.ws.session import WebSocketUpgrade


SCOPE = {
    "type": "websocket",
    "path": "/ws",
    "headers": [(b"host", b"a.test")],
    "http_version": "1.1",
    "scheme": "ws",
    "query_string": b"",
}


class Shouting(WebSocket):
    """What a middleware may put in a socket's place."""


@pytest.fixture(params=["asyncio", "trio"])
def runtime(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    name: str = request.param
    return name


def echo_router(*middleware: Any) -> Router:
    router = Router()
    for each in middleware:
        router.middleware(each)

    async def echo(ws: WebSocket) -> None:
        async for message in ws:
            if isinstance(message, str):
                await ws.send(message)

    async def handler(request: Request) -> TakoWs:
        return TakoWs(request, echo)

    router.get("/ws", handler)
    return router


def converse(runtime: str, router: Router, **more: Any) -> list[str]:
    """Return what a client gets that says hello and leaves."""
    sent: list[str] = []
    events: list[dict[str, Any]] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "hello"},
        {"type": "websocket.disconnect", "code": 1000},
    ]

    async def receive() -> dict[str, Any]:
        return events.pop(0)

    async def send(event: Any) -> None:
        sent.append(" ".join([event["type"], *map(str, _facts(event))]))

    app = from_router(router)
    tako.run(app, {**SCOPE, **more}, receive, send, runtime=runtime)
    return sent


def _facts(event: dict[str, Any]) -> list[Any]:
    return [event[key] for key in ("status", "text", "body") if key in event]


async def shout(request: Request, call_next: Next) -> Response:
    response = await call_next(request)
    assert isinstance(response.upgrade, WebSocketUpgrade)
    response.upgrade.make_socket = Shouting
    return response


def test_a_socket_of_a_middleware_is_refused(
    runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    with_denial: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
    assert converse(runtime, echo_router(shout), **with_denial) == [
        "websocket.http.response.start 500",
        "websocket.http.response.body b'Internal Server Error'",
    ]
    assert converse(runtime, echo_router(shout)) == ["websocket.close"]
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert [each.message for each in errors] == [
        "/ws: make_socket needs tako's own server"
    ] * 2


def test_an_access_log_changes_nothing_and_says_nothing(
    runtime: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "tako.access")
    assert converse(runtime, echo_router(tako.access_log())) == [
        "websocket.accept",
        "websocket.send hello",
    ]
    assert not caplog.records
