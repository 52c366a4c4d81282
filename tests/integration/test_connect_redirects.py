"""``tako.connect`` where a server sends it elsewhere."""

import logging
import time
from typing import Any

import pytest

import tako
from tako import WebSocket
from tako.testing.peer import Wire
from tests.conftest import Serve
from tests.integration.test_connect import gone, options_of, url_of
from tests.support.apps import echo_session
from tests.support.forward_proxies import ForwardProxy
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials, RunningServer, RuntimeName, open_sockets


class Shop:
    """A server that sends its clients from ``/old`` to where ``to`` says."""

    def __init__(self, to: str = "/ws") -> None:
        self.to = to
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.router = tako.Router()
        self.router.get("/old", self._redirect)
        self.router.get("/ws", self._echo)

    def _note(self, request: tako.Request) -> None:
        headers = request.headers
        self.asked.append(
            (request.path, headers.get("authorization"), headers.get("x-other"))
        )

    async def _redirect(self, request: tako.Request) -> tako.Response:
        self._note(request)
        return tako.Response(307, {"location": self.to}, "over there")

    async def _echo(self, request: tako.Request) -> tako.TakoWs:
        self._note(request)
        return tako.TakoWs(request, echo_session)


@pytest.fixture
def options(wire: Wire, credentials: Credentials) -> dict[str, Any]:
    return options_of(wire, credentials)


async def echoes(ws: WebSocket) -> None:
    await ws.send("hello")
    assert await ws.read(TIMEOUT) == "hello"


def none_left(before: set[str]) -> None:
    """Wait until the sockets of client and server are closed."""
    end = time.monotonic() + TIMEOUT
    while not open_sockets() <= before:
        assert time.monotonic() < end, open_sockets() - before
        time.sleep(0.01)


def test_a_redirect_on_the_same_origin_is_followed_with_all_fields(
    serve: Serve,
    wire: Wire,
    runtime: RuntimeName,
    options: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shop = Shop()
    server = serve(shop.router)
    before = open_sockets()

    async def main() -> None:
        fields = {"authorization": "Bearer x", "x-other": "y"}
        async with tako.connect(
            url_of(server, "/old?secret"), additional_headers=fields, **options
        ) as ws:
            assert ws.http_version == ("2" if wire in {"h2", "h2c"} else "1.1")
            assert ws.request.path == "/ws"
            await echoes(ws)
        await gone(ws)

    with caplog.at_level(logging.INFO, "tako.client"):
        run_on(runtime, main)
    assert shop.asked == [("/old", "Bearer x", "y"), ("/ws", "Bearer x", "y")]
    origin = url_of(server, "")
    (line,) = [each.message for each in caplog.records if each.name == "tako.client"]
    assert line == f"{origin}/old redirects to {origin}/ws"
    none_left(before)


def test_another_origin_gets_no_credentials(
    serve: Serve, runtime: RuntimeName, options: Any
) -> None:
    there = Shop()
    here = Shop(url_of(serve(there.router)).replace("ws", "http", 1))
    server = serve(here.router)

    async def main() -> None:
        async with tako.connect(
            url_of(server, "/old").replace("://", "://user:pass@"),
            additional_headers={"x-other": "y"},
            **options,
        ) as ws:
            await echoes(ws)

    run_on(runtime, main)
    assert here.asked == [("/old", "Basic dXNlcjpwYXNz", "y")]
    assert there.asked == [("/ws", None, "y")]


def test_a_server_that_redirects_for_ever_is_left(
    serve: Serve, runtime: RuntimeName, options: Any
) -> None:
    shop = Shop("/old")
    server = serve(shop.router)
    before = open_sockets()

    async def main() -> None:
        with pytest.raises(tako.HandshakeRejected, match="10 redirects") as caught:
            await tako.connect(url_of(server, "/old"), **options)
        assert caught.value.status == 307
        assert caught.value.origin == url_of(server, "")

    run_on(runtime, main)
    assert len(shop.asked) == 11
    none_left(before)


@pytest.mark.parametrize("wire", ["h1s", "h2"])
def test_tls_is_not_given_up(serve: Serve, runtime: RuntimeName, options: Any) -> None:
    shop = Shop("ws://localhost:9/ws")
    server = serve(shop.router)

    async def main() -> None:
        with pytest.raises(tako.HandshakeRejected, match="give up TLS"):
            await tako.connect(url_of(server, "/old"), **options)

    run_on(runtime, main)


def test_where_it_stopped_is_named(
    serve: Serve, runtime: RuntimeName, options: Any
) -> None:
    there = Shop()
    second = serve(there.router)
    server = serve(Shop(url_of(second, "/nowhere")).router)

    async def main() -> None:
        with pytest.raises(tako.HandshakeRejected) as caught:
            await tako.connect(url_of(server, "/old"), **options)
        assert caught.value.status == 404
        assert caught.value.origin == url_of(second, "")
        assert str(caught.value).startswith(url_of(second, ""))

    run_on(runtime, main)


@pytest.mark.parametrize("wire", ["h2"])
def test_a_redirect_may_lead_to_a_server_with_another_wire(
    serve: Serve, runtime: RuntimeName, options: Any
) -> None:
    without = tako.ServerConfig(h2_enable_connect_protocol=False)
    second = serve(Shop().router, without)
    server = serve(Shop(url_of(second)).router)

    async def main() -> None:
        async with tako.connect(url_of(server, "/old"), **options) as ws:
            assert ws.http_version == "1.1"
            await echoes(ws)
        with pytest.raises(tako.Http2Unavailable) as caught:
            await tako.connect(url_of(server, "/old"), http_versions=("2",), **options)
        assert caught.value.origin == url_of(second, "")

    run_on(runtime, main)


def test_a_redirect_goes_through_the_proxy(
    serve: Serve, runtime: RuntimeName, options: Any
) -> None:
    second = serve(Shop().router)
    server = serve(Shop(url_of(second)).router)

    async def main(url: str) -> None:
        async with tako.connect(url_of(server, "/old"), proxy=url, **options) as ws:
            await echoes(ws)

    with ForwardProxy() as proxy:
        run_on(runtime, main, proxy.url)
    assert [port for _, port in proxy.asked] == [
        server.address[1],
        second.address[1],
    ]


@pytest.mark.parametrize("wire", ["h1"])
def test_the_time_to_open_is_for_all_redirects(
    serve: Serve, runtime: RuntimeName
) -> None:
    router = tako.Router()

    async def turn(_: tako.Request) -> tako.Response:
        await tako.sleep(0.1)
        return tako.Response(302, {"location": "/old"})

    router.get("/old", turn)
    server: RunningServer = serve(router)

    async def main() -> None:
        with pytest.raises(tako.ConnectTimeout):
            await tako.connect(url_of(server, "/old"), open_timeout=0.25)

    run_on(runtime, main)


@pytest.mark.parametrize("wire", ["h1", "h2"])
def test_a_client_is_sent_elsewhere_and_shares_what_is_there(
    serve: Serve, wire: Wire, runtime: RuntimeName, options: Any
) -> None:
    there = Shop()
    here = Shop(url_of(serve(there.router)))
    server = serve(here.router)
    links: list[int] = []

    async def main() -> None:
        fields = {"authorization": "Bearer x"}
        async with tako.Client(
            url_of(server, ""), additional_headers=fields, **options
        ) as client:
            for _ in range(3):
                await echoes(await client.connect("/old"))
            assert client._pool is not None
            links.append(len(client._pool.links))

    run_on(runtime, main)
    assert here.asked == [("/old", "Bearer x", None)] * 3
    assert there.asked == [("/ws", None, None)] * 3
    if wire == "h2":
        assert links == [2]
