"""``tako.connect`` against tako: the same object on every wire and runtime."""

import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import pytest

import tako
from tako import Message, WebSocket
from tako.tcp.connection import ConnectionState, TcpConnection
from tako.testing.peer import Wire
from tests.conftest import Serve
from tests.support.apps import echo_router, echo_session, ws_router
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials, RunningServer, RuntimeName


ROOT = Path(__file__).parents[2]
Client = Callable[..., Any]


async def gone(ws: WebSocket) -> None:
    """Wait until nothing is left of the connection."""
    connection = cast("TcpConnection", ws._tunnel.connection)
    while connection.state is not ConnectionState.LOST:
        await tako.sleep(0.001)


def url_of(server: RunningServer, path: str = "/ws") -> str:
    scheme = "wss" if server.wire in {"h1s", "h2"} else "ws"
    return f"{scheme}://localhost:{server.address[1]}{path}"


def options_of(wire: Wire, credentials: Credentials) -> dict[str, Any]:
    options: dict[str, Any] = {"open_timeout": TIMEOUT}
    if wire in {"h1s", "h2"}:
        options["ssl"] = credentials.client
    if wire in {"h1s", "h2c"}:
        options["http_versions"] = ("2",) if wire == "h2c" else ("1.1",)
    return options


@pytest.fixture
def client(
    serve: Serve, wire: Wire, runtime: RuntimeName, credentials: Credentials
) -> Client:
    """Run a function, given the URL and what connects, against a server."""

    def run(
        main: Callable[[Callable[..., tako.Connect]], Awaitable[object]],
        router: tako.Router | None = None,
    ) -> Any:
        server = serve(router or echo_router())

        def connect(path: str = "/ws", **options: Any) -> tako.Connect:
            given = {**options_of(wire, credentials), **options}
            return tako.connect(url_of(server, path), **given)

        return run_on(runtime, main, connect)

    return run


def test_messages_go_both_ways(client: Client, wire: Wire) -> None:
    large = bytes(range(256)) * 1200

    async def main(connect: Callable[..., tako.Connect]) -> None:
        async with connect() as ws:
            assert ws.http_version == ("2" if wire in {"h2", "h2c"} else "1.1")
            for message in ("hello", "\N{OCTOPUS}", b"", large, "x" * 5000):
                await ws.send(message)
                assert await ws.read(TIMEOUT) == message
            await ws.ping(b"now")
            assert await ws.read(TIMEOUT) == Message.Pong(b"now")
            assert ws.latency is not None
            assert ws.response is not None
            assert ws.response.status == (200 if ws.http_version == "2" else 101)
            assert ws.request.path == "/ws"
            assert ws.request.conn_info is not None
        assert ws.close_code == 1000

    client(main)


def test_awaiting_gives_a_socket_that_the_caller_closes(client: Client) -> None:
    async def main(connect: Callable[..., tako.Connect]) -> None:
        ws = await connect()
        await ws.send("hello")
        assert await ws.read(TIMEOUT) == "hello"
        await ws.close(4000, "bye")
        assert ws.close_code == 4000
        await gone(ws)

    client(main)


def test_the_servers_close_ends_the_iteration(client: Client) -> None:
    async def session(ws: WebSocket) -> None:
        for number in range(5):
            await ws.send(str(number))
        await ws.close(4001, "enough")

    async def main(connect: Callable[..., tako.Connect]) -> None:
        async with connect() as ws:
            seen = [message async for message in ws]
        assert seen[:5] == list("01234")
        assert (ws.close_code, ws.close_reason) == (4001, "enough")

    client(main, ws_router(session))


def test_what_is_agreed_on_is_in_force(client: Client) -> None:
    router = ws_router(
        echo_session, protocols=["chat"], compression=tako.Deflate(threshold=0)
    )

    async def main(connect: Callable[..., tako.Connect]) -> None:
        async with connect(subprotocols=["other", "chat"]) as ws:
            assert ws.subprotocol == "chat"
            assert ws.response is not None
            extensions = ws.response.headers.get("sec-websocket-extensions")
            assert extensions is not None
            assert extensions.startswith("permessage-deflate")
            for message in ("a" * 100_000, "b", "a" * 100):
                await ws.send(message)
                assert await ws.read(TIMEOUT) == message
        async with connect(compression=None) as ws:
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"

    client(main, router)


def test_a_refusal_says_what_the_server_said(client: Client) -> None:
    async def refuse(request: tako.Request) -> tako.Response:
        return tako.Response(403, {"x-why": "a reason"}, "keep out")

    async def main(connect: Callable[..., tako.Connect]) -> None:
        with pytest.raises(tako.HandshakeRejected, match="403") as caught:
            await connect()
        assert (caught.value.status, caught.value.body) == (403, b"keep out")
        assert caught.value.headers["x-why"] == "a reason"
        assert caught.value.step == "handshake"
        with pytest.raises(tako.HandshakeRejected):
            async with connect("/nowhere"):
                pass

    router = tako.Router()
    router.get("/ws", refuse)
    client(main, router)


def test_errors_of_the_block_stay_what_they_are(client: Client) -> None:
    codes: list[int | None] = []

    async def session(ws: WebSocket) -> None:
        async for _ in ws:
            pass
        codes.append(ws.close_code)

    async def main(connect: Callable[..., tako.Connect]) -> None:
        with pytest.raises(KeyError):
            async with connect():
                raise KeyError(1)
        async with connect("/echo") as ws:  # the server has seen the end of the other
            await ws.close()

    client(main, ws_router(session))
    assert codes == [1011]


def test_a_message_that_is_too_large_costs_the_socket(client: Client) -> None:
    async def session(ws: WebSocket) -> None:
        await ws.send("x" * 2000)
        async for _ in ws:
            pass

    async def main(connect: Callable[..., tako.Connect]) -> None:
        async with connect(max_size=1000) as ws:
            with pytest.raises(tako.WsError):
                await ws.read(TIMEOUT)
            assert isinstance(ws.error, (tako.MessageTooBig, tako.FrameTooBig))

    client(main, ws_router(session))


def test_a_loop_reconnects_until_it_is_left(client: Client) -> None:
    async def session(ws: WebSocket) -> None:
        await ws.send("hello")
        await ws.close(1012)

    async def main(connect: Callable[..., tako.Connect]) -> None:
        seen = 0
        async for ws in connect():
            async for message in ws:
                if message == "hello":
                    seen += 1
            if seen == 2:
                break
        assert seen == 2
        await gone(ws)

    client(main, ws_router(session))


def test_a_loop_gives_up_on_what_cannot_get_better(client: Client) -> None:
    async def main(connect: Callable[..., tako.Connect]) -> None:
        with pytest.raises(tako.HandshakeRejected, match="404"):
            async for _ in connect("/nowhere"):
                pass

    client(main)


@pytest.mark.parametrize("wire", ["h1s", "h2"])
def test_a_server_that_is_not_trusted_is_not_talked_to(client: Client) -> None:
    async def main(connect: Callable[..., tako.Connect]) -> None:
        stranger = ssl.create_default_context()
        with pytest.raises(tako.TlsError, match="certificate") as caught:
            await connect(ssl=stranger)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert caught.value.step == "TLS"

    client(main)


@pytest.mark.parametrize("wire", ["h1"])
def test_http2_that_is_asked_for_is_not_replaced(client: Client) -> None:
    async def main(connect: Callable[..., tako.Connect]) -> None:
        with pytest.raises(tako.ConnectError):
            await connect(http_versions=("2",))

    client(main)


@pytest.mark.parametrize("wire", ["h2"])
def test_a_server_without_tunnels_is_spoken_to_over_http1(
    serve: Serve, runtime: RuntimeName, credentials: Credentials
) -> None:
    config = tako.ServerConfig(h2_enable_connect_protocol=False)
    server = serve(echo_router(), config)

    async def main() -> None:
        for _ in range(2):
            async with tako.connect(url_of(server), ssl=credentials.client) as ws:
                assert ws.http_version == "1.1"
                await ws.send("hello")
                assert await ws.read(TIMEOUT) == "hello"
        with pytest.raises(tako.Http2Unavailable):
            await tako.connect(
                url_of(server), ssl=credentials.client, http_versions=("2",)
            )

    run_on(runtime, main)


@pytest.mark.parametrize("wire", ["h1"])
def test_a_port_that_nobody_listens_on(wire: Wire, runtime: RuntimeName) -> None:
    async def main() -> None:
        with pytest.raises(tako.DialError) as caught:
            await tako.connect("ws://127.0.0.1:9", open_timeout=TIMEOUT)
        assert isinstance(caught.value, OSError)
        assert caught.value.step == "dialing"
        assert len(caught.value.errors) == 1

    run_on(runtime, main)


def test_a_unix_socket(runtime: RuntimeName, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"

    async def main() -> None:
        async with (
            tako.serve(f"unix:{path}", echo_router()),
            tako.connect(f"ws+unix:{path}:/ws") as ws,
        ):
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"

    run_on(runtime, main)
