"""Handlers that many tests share: the same objects on every wire and runtime."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import tako
from tako import Message, Request, Router, TakoWs, WebSocket
from tests.support.server import Reports


Session: TypeAlias = Callable[[WebSocket], Awaitable[None]]
AsyncFunction: TypeAlias = Callable[[], Awaitable[object]]


async def echo_session(ws: WebSocket) -> None:
    """Send every data message back."""
    async for message in ws:
        if isinstance(message, str | bytes):
            await ws.send(message)


async def reference_session(ws: WebSocket) -> None:
    """The handler of the documentation, which answers every kind of message itself."""
    await ws.send("Welcome to Tako WS!")
    async for msg in ws:
        match msg:
            case Message.Text(text):
                await ws.send(Message.Text(f"Echo: {text}"))
            case Message.Binary(data):
                await ws.send(Message.Binary(data))
            case Message.Ping(data):
                await ws.send(Message.Pong(data))
            case Message.Close():
                await ws.send(Message.Close())
                break


async def read_session(ws: WebSocket) -> None:
    """The same conversation with ``read`` and ``close``."""
    await ws.send(Message.Text("Welcome to Tako WS!"))
    while True:
        try:
            msg = await ws.read()
        except tako.WsError:
            break
        match msg:
            case Message.Text(text):
                await ws.send(Message.Text(f"Echo: {text}"))
            case Message.Binary(data):
                await ws.send(data)
            case Message.Ping(data):
                await ws.send(Message.Pong(data))
            case Message.Close():
                await ws.close(None)
                break


def ws_router(session: Session, path: str = "/ws", **options: Any) -> Router:
    """Return a router with ``session`` behind ``path`` and an echo behind ``/echo``."""
    router = Router()

    async def handler(request: Request) -> TakoWs:
        return TakoWs(request, session, **options)

    router.get(path, handler)
    if path != "/echo":
        router.get("/echo", echo)
    router.get("/", hello)
    return router


async def echo(request: Request) -> TakoWs:
    """A handler around ``echo_session``."""
    return TakoWs(request, echo_session)


async def hello(request: Request) -> str:
    """The shortest handler."""
    return "Hello, World!"


def returning(value: object) -> Router:
    """Return a router that answers ``/`` with ``value``."""
    router = Router()

    async def handler(request: Request) -> object:
        return value

    router.get("/", handler)
    return router


def echo_router() -> Router:
    """Return the router that most WebSocket tests use: ``/ws`` echoes."""
    return ws_router(echo_session)


def reporting(session: Session, reports: Reports) -> Session:
    """Return ``session`` so that it reports its close code and reason at its end."""

    async def watched(ws: WebSocket) -> None:
        try:
            await session(ws)
        finally:
            reports.put((ws.close_code, ws.close_reason))

    return watched


def _on_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def together(*functions: AsyncFunction) -> None:
    """Run async functions at the same time, on the runtime that is there."""
    if _on_asyncio():
        async with asyncio.TaskGroup() as group:
            for function in functions:
                group.create_task(_run(function))
    else:
        async with sys.modules["trio"].open_nursery() as nursery:
            for function in functions:
                nursery.start_soon(function)


async def _run(function: AsyncFunction) -> None:
    await function()


@contextlib.asynccontextmanager
async def giving_up_after(seconds: float) -> AsyncIterator[None]:
    """Cancel the body after ``seconds`` and go on behind it, on either runtime."""
    if _on_asyncio():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                yield
    else:
        with sys.modules["trio"].move_on_after(seconds):
            yield
