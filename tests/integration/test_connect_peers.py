"""``tako.connect`` against what others have written: servers, and proxies before tako.

What some of them do that a client has to survive is in the table of the README of
``tako/client``.
"""

import asyncio
import contextlib
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import tako
from tako import Message, Request, Router, TakoWs, WebSocket
from tako.testing.peer import Wire
from tests.conformance.clients.catalogue import NODE_SCRIPTS, no_node
from tests.conftest import Serve
from tests.support.hosts import Host, host_command
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.proxies import haproxy, needs, nghttpx, nginx
from tests.support.server import Credentials, RuntimeName


LARGE = bytes(range(256)) * 1200
TEXT = "\N{OCTOPUS} und Größe"

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Echo WebSockets; "close" closes with 4001. An ASGI app that knows no tako."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "websocket":
        return
    await receive()
    if scope["path"] != "/ws":
        await send({"type": "websocket.close"})
        return
    subprotocol = "chat" if "chat" in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": subprotocol})
    while (event := await receive())["type"] == "websocket.receive":
        text, data = event.get("text"), event.get("bytes")
        if text == "close":
            await send({"type": "websocket.close", "code": 4001, "reason": "asked"})
            return
        reply = {"text": text} if data is None else {"bytes": data}
        await send({"type": "websocket.send", **reply})


async def scenario(
    url: str, *, deflated: bool | None = None, **options: Any
) -> list[str]:
    """Talk as a client does; return the versions of HTTP that carried it.

    ``deflated``: whether messages must be compressed; ``None``: as the server likes.
    """
    wires: list[str] = []
    options |= {"open_timeout": TIMEOUT, "subprotocols": ["chat"]}
    async with tako.connect(url, **options) as ws:
        wires.append(ws.http_version)
        assert ws.subprotocol == "chat"
        assert ws.response is not None
        agreed = ws.response.headers.get("sec-websocket-extensions")
        assert deflated in {None, agreed is not None}
        for message in ("hello", TEXT, "x" * 5000, LARGE, b"", TEXT * 9000):
            await ws.send(message)
            assert await ws.read(TIMEOUT) == message
        await ws.ping(b"now")
        assert await ws.read(TIMEOUT) == Message.Pong(b"now")
        assert ws.latency is not None
    assert ws.close_code == 1000
    async with tako.connect(url, **options) as ws:
        wires.append(ws.http_version)
        await ws.send("close")
        assert await ws.read(TIMEOUT) == Message.Close(4001, "asked")
    assert ws.close_code == 4001
    with pytest.raises(tako.HandshakeRejected) as caught:
        await tako.connect(url.replace("/ws", "/other"), **options)
    assert caught.value.status in {400, 403, 404}
    return wires


# -- Servers of ASGI -----------------------------------------------------------------


@contextlib.contextmanager
def hosted(name: str, credentials: Credentials, *more: str) -> Iterator[int]:
    pytest.importorskip(name)
    port = free_port()
    command = [*host_command(name, f"{__name__}:app", port, credentials), *more]
    with Host(command, ("127.0.0.1", port), credentials):
        yield port


VERSIONS = pytest.mark.parametrize("versions", [("2", "1.1"), ("2",), ("1.1",)])


@pytest.mark.parametrize("name", ["hypercorn", "h2corn"])
def test_servers_whose_connections_are_shared(
    runtime: RuntimeName, credentials: Credentials, name: str
) -> None:
    async def main(port: int) -> None:
        url = f"wss://localhost:{port}/ws"
        options: dict[str, Any] = {"ssl": credentials.client, "open_timeout": TIMEOUT}
        async with tako.Client(url, http_versions=("2",), **options) as client:
            sockets = [await client.connect() for _ in range(20)]
            for ws in sockets:
                await ws.send("hello")
            for ws in sockets:
                assert await ws.read(TIMEOUT) == "hello"
            connections = {id(ws._tunnel.connection) for ws in sockets}
            assert len(connections) == 1
            for ws in sockets[:10]:  # this end closes first: the others live on
                await ws.close()
            await sockets[10].send("on")
            assert await sockets[10].read(TIMEOUT) == "on"

    with hosted(name, credentials) as port:
        run_on(runtime, main, port)


def test_hypercorn_loses_a_connection_to_a_close_of_its_own_but_once(
    runtime: RuntimeName, credentials: Credentials
) -> None:
    async def main(port: int) -> None:
        url = f"wss://localhost:{port}/ws"
        options: dict[str, Any] = {"ssl": credentials.client, "open_timeout": TIMEOUT}
        async with tako.Client(url, http_versions=("2",), **options) as client:
            closing, other = await client.connect(), await client.connect()
            await closing.send("close")
            assert await closing.read(TIMEOUT) == Message.Close(4001, "asked")
            with pytest.raises(tako.ConnectionClosed):
                await other.read(TIMEOUT)
            assert other.close_code == 1006
            closing, other = await client.connect(), await client.connect()
            await closing.send("close")
            assert await closing.read(TIMEOUT) == Message.Close(4001, "asked")
            await other.send("on")
            assert await other.read(TIMEOUT) == "on"

    with hosted("hypercorn", credentials) as port:
        run_on(runtime, main, port)


@VERSIONS
@pytest.mark.parametrize("name", ["hypercorn", "h2corn"])
def test_servers_of_both_wires(
    runtime: RuntimeName,
    credentials: Credentials,
    name: str,
    versions: tuple[str, ...],
) -> None:
    async def main(port: int) -> None:
        url = f"wss://localhost:{port}/ws"
        options: dict[str, Any] = {"ssl": credentials.client}
        options["http_versions"] = versions
        assert await scenario(url, **options) == [versions[0]] * 2

    with hosted(name, credentials) as port:
        run_on(runtime, main, port)


@pytest.mark.parametrize("own", ["websockets", "websockets-sansio", "wsproto"])
def test_uvicorn(runtime: RuntimeName, credentials: Credentials, own: str) -> None:
    async def main(port: int) -> None:
        url = f"ws://localhost:{port}/ws"
        assert await scenario(url, deflated=True) == ["1.1"] * 2

    with hosted("uvicorn", credentials, "--ws", own) as port:
        run_on(runtime, main, port)


def test_granian_has_http_2_but_no_websockets_over_it(
    runtime: RuntimeName, credentials: Credentials
) -> None:
    async def main(port: int) -> None:
        url = f"wss://localhost:{port}/ws"
        assert await scenario(url, ssl=credentials.client) == ["1.1"] * 2
        with pytest.raises(tako.Http2Unavailable):
            await tako.connect(url, ssl=credentials.client, http_versions=("2",))

    with hosted("granian", credentials) as port:
        run_on(runtime, main, port)


# -- Servers with APIs of their own --------------------------------------------------


COMPRESSION = pytest.mark.parametrize("compression", ["deflate", None])
TLS = pytest.mark.parametrize("tls", [True, False], ids=["tls", "plain"])


def http_1(
    runtime: RuntimeName,
    credentials: Credentials,
    port: int,
    *,
    tls: bool,
    compression: Any,
) -> None:
    """Play the scenario with a server that has HTTP/1.1 and permessage-deflate."""

    async def main() -> None:
        url = f"{'wss' if tls else 'ws'}://localhost:{port}/ws"
        options: dict[str, Any] = {"ssl": credentials.client} if tls else {}
        options |= {"compression": compression, "deflated": compression is not None}
        assert await scenario(url, **options) == ["1.1"] * 2

    run_on(runtime, main)


def server_context(credentials: Credentials, tls: bool) -> ssl.SSLContext | None:
    if not tls:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.cert, credentials.key)
    return context


@COMPRESSION
@TLS
def test_websockets(
    runtime: RuntimeName, credentials: Credentials, tls: bool, compression: Any
) -> None:
    sync = pytest.importorskip("websockets.sync.server")

    def echo(connection: Any) -> None:
        for message in connection:
            if message == "close":
                connection.close(4001, "asked")
                return
            connection.send(message)

    def refuse(connection: Any, request: Any) -> Any:
        return None if request.path == "/ws" else connection.respond(404, "no\n")

    server = sync.serve(
        echo,
        "127.0.0.1",
        0,
        ssl=server_context(credentials, tls),
        subprotocols=["chat"],
        process_request=refuse,
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        port = server.socket.getsockname()[1]
        http_1(runtime, credentials, port, tls=tls, compression=compression)
    finally:
        server.shutdown()
        thread.join(TIMEOUT)


@contextlib.asynccontextmanager
async def aiohttp_serving(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    web = pytest.importorskip("aiohttp.web")

    async def handler(request: Any) -> Any:
        ws = web.WebSocketResponse(protocols=["chat"])
        await ws.prepare(request)
        async for message in ws:
            if message.data == "close":
                await ws.close(code=4001, message=b"asked")
            elif isinstance(message.data, str):
                await ws.send_str(message.data)
            else:
                await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/ws", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@COMPRESSION
@TLS
def test_aiohttp(
    runtime: RuntimeName, credentials: Credentials, tls: bool, compression: Any
) -> None:
    pytest.importorskip("aiohttp")
    ports: list[int] = []
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        async with aiohttp_serving(server_context(credentials, tls)) as port:
            ports.append(port)
            ready.set()
            await asyncio.get_running_loop().run_in_executor(None, over.wait, TIMEOUT)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    try:
        assert ready.wait(TIMEOUT)
        http_1(runtime, credentials, ports[0], tls=tls, compression=compression)
    finally:
        over.set()
        thread.join(TIMEOUT)


@pytest.mark.skipif(no_node("ws") is not None, reason=str(no_node("ws")))
@COMPRESSION
@TLS
def test_ws_of_node(
    runtime: RuntimeName, credentials: Credentials, tls: bool, compression: Any
) -> None:
    port = free_port()
    command = ["node", str(NODE_SCRIPTS / "server.mjs"), str(port), str(compression)]
    if tls:
        command += [str(credentials.cert), str(credentials.key)]
    with Host(command, ("127.0.0.1", port), credentials):
        http_1(runtime, credentials, port, tls=tls, compression=compression)


# -- Proxies before tako -------------------------------------------------------------


def behind_router() -> Router:
    """Do what ``app`` does, in tako's own way."""

    async def session(ws: WebSocket) -> None:
        async for message in ws:
            if message == "close":
                await ws.close(4001, "asked")
            elif isinstance(message, (str, bytes)):
                await ws.send(message)

    async def handler(request: Request) -> TakoWs:
        return TakoWs(request, session, protocols=["chat"])

    router = Router()
    router.get("/ws", handler)
    return router


@pytest.mark.parametrize("wire", ["h1"])
@VERSIONS
@pytest.mark.parametrize(
    "name", [pytest.param(each, marks=needs(each)) for each in ("haproxy", "nghttpx")]
)
def test_proxies_that_have_websockets_over_http_2(
    serve: Serve,
    runtime: RuntimeName,
    credentials: Credentials,
    tmp_path: Path,
    wire: Wire,
    name: str,
    versions: tuple[str, ...],
) -> None:
    port = serve(behind_router()).address[1]
    if name == "haproxy":
        proxy = haproxy(port, tmp_path, credentials, alpn="h2,http/1.1")
    else:
        proxy = nghttpx(port, tmp_path, credentials)

    async def main() -> None:
        url = f"wss://localhost:{proxy.address[1]}/ws"
        options: dict[str, Any] = {"ssl": credentials.client}
        options["http_versions"] = versions
        assert await scenario(url, **options) == [versions[0]] * 2

    with proxy:
        run_on(runtime, main)


@needs("nginx")
@pytest.mark.parametrize("wire", ["h1"])
@pytest.mark.parametrize("versions", [("2", "1.1"), ("1.1",)])
def test_nginx_has_http_2_but_no_websockets_over_it(
    serve: Serve,
    runtime: RuntimeName,
    credentials: Credentials,
    tmp_path: Path,
    wire: Wire,
    versions: tuple[str, ...],
) -> None:
    port = serve(behind_router()).address[1]
    proxy = nginx(f"http://127.0.0.1:{port}", tmp_path, credentials)

    async def main() -> None:
        url = f"wss://localhost:{proxy.address[1]}/ws"
        options: dict[str, Any] = {"ssl": credentials.client}
        options["http_versions"] = versions
        assert await scenario(url, **options) == ["1.1"] * 2

    with proxy:
        run_on(runtime, main)
