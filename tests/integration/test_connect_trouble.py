"""``tako.connect`` where something is wrong: mute servers, cancellations."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tako
from tako import WebSocket
from tako.testing.peer import Wire
from tests.conftest import Serve
from tests.integration.test_connect import gone, options_of, url_of
from tests.support.apps import echo_router
from tests.support.loops import run_on
from tests.support.patience import PATIENCE, TIMEOUT
from tests.support.server import Credentials, RuntimeName, open_sockets


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None] | None = None) -> Iterator[int]:
    """Listen, let ``serve`` have each connection, and keep it until the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    kept: list[socket.socket] = []

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                kept.append(sock)
                if serve is not None:
                    serve(sock)

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(TIMEOUT)
        for each in (listener, *kept):
            each.close()


@pytest.mark.parametrize(
    ("scheme", "versions", "step"),
    [
        ("wss", ("2", "1.1"), "TLS"),
        ("ws", ("1.1",), "handshake"),
        ("ws", ("2",), "waiting for SETTINGS"),
    ],
)
def test_a_mute_server_costs_the_timeout_which_says_the_step(
    runtime: RuntimeName, scheme: str, versions: Any, step: str
) -> None:
    before = open_sockets()

    async def main(port: int) -> None:
        url = f"{scheme}://127.0.0.1:{port}/"
        with pytest.raises(tako.ConnectError) as caught:
            await tako.connect(url, open_timeout=0.3, http_versions=versions)
        assert caught.value.step == step
        if step != "waiting for SETTINGS":  # which have half of the time
            assert isinstance(caught.value, tako.ConnectTimeout)
            assert isinstance(caught.value, TimeoutError)

    with listening() as port:
        run_on(runtime, main, port)
    assert open_sockets() <= before


def test_a_server_that_hangs_up(runtime: RuntimeName) -> None:
    async def main(port: int) -> None:
        for scheme, kind in (("wss", tako.TlsError), ("ws", tako.HandshakeInvalid)):
            with pytest.raises(kind):
                await tako.connect(f"{scheme}://127.0.0.1:{port}/")

    with listening(socket.socket.close) as port:
        run_on(runtime, main, port)


def test_a_server_that_speaks_something_else(runtime: RuntimeName) -> None:
    async def main(port: int) -> None:
        with pytest.raises(tako.HandshakeInvalid, match="is not HTTP"):
            await tako.connect(f"ws://127.0.0.1:{port}/")
        with pytest.raises(tako.TlsError):
            await tako.connect(f"wss://127.0.0.1:{port}/")

    def greet(sock: socket.socket) -> None:
        sock.sendall(b"220 mail.example ESMTP\r\n")

    with listening(greet) as port:
        run_on(runtime, main, port)


def test_a_name_without_an_address(runtime: RuntimeName) -> None:
    async def main() -> None:
        with pytest.raises(tako.DialError):
            await tako.connect("ws://nowhere.invalid/")

    run_on(runtime, main)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_cancelled_opening_leaves_nothing(runtime: RuntimeName, scheme: str) -> None:
    before = open_sockets()
    accepted = threading.Event()

    async def main(port: int) -> None:
        async def connect() -> None:
            await tako.connect(f"{scheme}://127.0.0.1:{port}/", open_timeout=None)

        async def until_accepted() -> None:
            while not accepted.is_set():
                await tako.sleep(0.001)

        if runtime == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                nursery.start_soon(connect)
                await until_accepted()
                nursery.cancel_scope.cancel()
        else:
            import asyncio

            task = asyncio.create_task(connect())
            await until_accepted()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await tako.sleep(0)

    with listening(lambda _: accepted.set()) as port:
        run_on(runtime, main, port)
    assert open_sockets() <= before


@pytest.mark.parametrize("wire", ["h1", "h2"])
def test_a_loop_may_be_left_within_a_cancel_scope(
    serve: Serve, wire: Wire, credentials: Credentials
) -> None:
    trio = pytest.importorskip("trio")
    server = serve(echo_router())

    async def main() -> None:
        kept: list[WebSocket] = []
        with trio.CancelScope():
            async for ws in tako.connect(
                url_of(server), **options_of(wire, credentials)
            ):
                with trio.CancelScope():
                    kept.append(ws)
                    break
        await gone(kept[0])  # dropped, it closes by itself
        assert kept[0].closed

    run_on("trio", main)


@pytest.mark.parametrize("wire", ["h1", "h2"])
@pytest.mark.parametrize("runtime", ["trio"])
def test_a_socket_outlives_the_nursery_that_it_was_opened_in(
    serve: Serve, wire: Wire, credentials: Credentials, runtime: RuntimeName
) -> None:
    trio = pytest.importorskip("trio")
    server = serve(echo_router())

    async def main() -> None:
        opened: list[WebSocket] = []

        async def open_one() -> None:
            options = options_of(wire, credentials)
            opened.append(await tako.connect(url_of(server), **options))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(open_one)
            nursery.start_soon(open_one)
        for ws in opened:
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"
            await ws.close()
            await gone(ws)

    run_on(runtime, main)


def test_a_block_that_is_cancelled_says_that_it_goes_away(
    serve: Serve, wire: Wire, runtime: RuntimeName, credentials: Credentials
) -> None:
    codes: list[int | None] = []
    router = tako.Router()

    async def session(ws: WebSocket) -> None:
        async for _ in ws:
            pass
        codes.append(ws.close_code)

    async def handler(request: tako.Request) -> tako.TakoWs:
        return tako.TakoWs(request, session)

    router.get("/ws", handler)
    server = serve(router)

    async def main() -> None:
        opened: list[WebSocket] = []

        async def block() -> None:
            options = options_of(wire, credentials)
            async with tako.connect(url_of(server), **options) as ws:
                opened.append(ws)
                await ws.read()

        async def until_open() -> None:
            while not opened:
                await tako.sleep(0.001)

        if runtime == "trio":
            import trio

            async with trio.open_nursery() as nursery:
                nursery.start_soon(block)
                await until_open()
                nursery.cancel_scope.cancel()
        else:
            import asyncio

            task = asyncio.create_task(block())
            await until_open()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await gone(opened[0])

    run_on(runtime, main)
    assert codes == [1001]


def test_a_server_that_vanishes_is_found(
    serve: Serve, wire: Wire, runtime: RuntimeName, credentials: Credentials
) -> None:
    blocked = threading.Event()
    router = tako.Router()

    async def session(ws: WebSocket) -> None:
        await ws.read()
        blocked.wait(TIMEOUT)  # the loop: nothing is answered any more

    async def handler(request: tako.Request) -> tako.TakoWs:
        return tako.TakoWs(request, session)

    router.get("/ws", handler)
    server = serve(router)

    async def main() -> None:
        options = options_of(wire, credentials)
        async with tako.connect(
            url_of(server), ping_interval=0.2, ping_timeout=PATIENCE, **options
        ) as ws:
            await ws.send("vanish")
            try:
                with pytest.raises(tako.ConnectionClosed) as caught:
                    await ws.read(TIMEOUT / 2)
                assert caught.value.code == 1006
            finally:
                blocked.set()

    run_on(runtime, main)
