"""``tako.connect`` through proxies: a small one for every way, and real ones."""

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tako
from tako import WebSocket
from tako.testing.peer import Wire
from tests.conftest import Serve
from tests.integration.test_connect import gone, options_of, url_of
from tests.integration.test_connect_trouble import listening
from tests.support.apps import echo_router, ws_router
from tests.support.forward_proxies import NAME, ForwardProxy
from tests.support.hosts import Host
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.proxies import needs
from tests.support.server import Credentials, RuntimeName, open_sockets


SCHEMES = ["http", "https", "socks5", "socks5h"]


@pytest.fixture
def proxy_tls(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(credentials.cert, credentials.key)
    return context


@pytest.fixture(params=SCHEMES)
def proxy(
    request: pytest.FixtureRequest, proxy_tls: ssl.SSLContext
) -> Iterator[ForwardProxy]:
    tls = proxy_tls if request.param == "https" else None
    with ForwardProxy(request.param, tls=tls) as proxy:
        yield proxy


@pytest.fixture
def options(wire: Wire, credentials: Credentials) -> dict[str, Any]:
    """What a client needs on a wire, and of proxies."""
    return {**options_of(wire, credentials), "proxy_ssl": credentials.client}


def test_messages_go_both_ways_through_a_proxy(
    serve: Serve, wire: Wire, runtime: RuntimeName, proxy: ForwardProxy, options: Any
) -> None:
    server = serve(echo_router())
    large = bytes(range(256)) * 4000

    async def main() -> None:
        async with tako.connect(url_of(server), proxy=proxy.url, **options) as ws:
            assert ws.http_version == ("2" if wire in {"h2", "h2c"} else "1.1")
            for message in ("hello", b"", large, "x" * 5000):
                await ws.send(message)
                assert await ws.read(TIMEOUT) == message
            info = ws.request.conn_info
            assert info is not None
            assert (info.tls is not None) is (wire in {"h1s", "h2"})
        assert ws.close_code == 1000
        await gone(ws)

    run_on(runtime, main)
    host, port = proxy.asked[0]
    assert port == server.address[1]
    assert host == "localhost" or proxy.scheme == "socks5"
    assert len(proxy.asked) == 1


def test_a_servers_close_arrives_through_a_proxy(
    serve: Serve, runtime: RuntimeName, proxy: ForwardProxy, options: Any
) -> None:
    async def session(ws: WebSocket) -> None:
        await ws.send("hello")
        await ws.close(4001, "enough")

    server = serve(ws_router(session))

    async def main() -> None:
        async with tako.connect(url_of(server), proxy=proxy.url, **options) as ws:
            assert [message async for message in ws][:1] == ["hello"]
        assert (ws.close_code, ws.close_reason) == (4001, "enough")
        await gone(ws)

    run_on(runtime, main)


@pytest.mark.parametrize("wire", ["h2"])
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_fallback_goes_through_the_proxy_too(
    serve: Serve,
    runtime: RuntimeName,
    scheme: str,
    options: Any,
    proxy_tls: ssl.SSLContext,
) -> None:
    server = serve(echo_router(), tako.ServerConfig(h2_enable_connect_protocol=False))

    async def main(url: str) -> None:
        async with tako.connect(url_of(server), proxy=url, **options) as ws:
            assert ws.http_version == "1.1"
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"

    tls = proxy_tls if scheme == "https" else None
    with ForwardProxy(scheme, tls=tls) as proxy:
        run_on(runtime, main, proxy.url)
    assert len(proxy.asked) == 2


@pytest.mark.parametrize("wire", ["h1", "h2"])
@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_credentials_open_a_proxy(
    serve: Serve, runtime: RuntimeName, options: Any, scheme: str
) -> None:
    server = serve(echo_router())

    async def main(url: str, right: str, wrong: str) -> None:
        async with tako.connect(url_of(server), proxy=url, **options) as ws:
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"
        for user in ("", f"{wrong}@"):
            refused = url.replace(f"{right}@", user)
            with pytest.raises(tako.ProxyError) as caught:
                await tako.connect(url_of(server), proxy=refused, **options)
            error = caught.value
            assert error.step == "proxy"
            assert error.status == (407 if scheme == "http" else None)
            assert error.proxy == url.replace(f"{right}@", "")
            assert not error.temporary
            assert "wrong" not in str(error)

    with ForwardProxy(scheme, credentials=("user", "pa ss")) as proxy:
        url = proxy.url.replace("pa ss", "pa%20ss")
        run_on(runtime, main, url, "user:pa%20ss", "user:wrong")


@pytest.mark.parametrize("wire", ["h1"])
def test_a_name_is_resolved_by_the_proxy(
    serve: Serve, runtime: RuntimeName, options: Any
) -> None:
    server = serve(echo_router())

    async def main() -> None:
        for scheme in ("http", "socks5h"):
            with ForwardProxy(scheme) as proxy:
                url = url_of(server).replace("localhost", NAME)
                async with tako.connect(url, proxy=proxy.url, **options) as ws:
                    await ws.send("hello")
                    assert await ws.read(TIMEOUT) == "hello"
                assert proxy.asked == [(NAME, server.address[1])]
        with ForwardProxy("socks5") as proxy:
            with pytest.raises(tako.DialError):
                await tako.connect(url, proxy=proxy.url, **options)
            assert proxy.asked == []

    run_on(runtime, main)


@pytest.mark.parametrize(
    ("scheme", "answer", "status", "temporary"),
    [
        ("http", b"HTTP/1.1 403 No\r\n\r\n", 403, False),
        ("http", b"HTTP/1.1 502 No\r\n\r\n", 502, True),
        ("https", b"HTTP/1.1 503 No\r\n\r\n", 503, True),
        ("http", b"220 mail.example ESMTP\r\n", None, False),
        ("http", b"HTTP/1.1 200 " + b"x" * 20_000, None, False),
        ("http", b"", None, True),
        ("https", b"", None, True),
        ("https", b"HTTP/1.1 200", None, True),
        ("socks5", b"\x05\x02\x00\x01" + bytes(6), None, False),
        ("socks5h", b"\x05\x05\x00\x01" + bytes(6), None, True),
        ("socks5h", b"\x05", None, True),
    ],
)
def test_a_proxy_that_refuses_is_told_of(
    runtime: RuntimeName,
    scheme: str,
    answer: bytes,
    status: int | None,
    temporary: bool,
    proxy_tls: ssl.SSLContext,
    credentials: Credentials,
) -> None:
    before = open_sockets()

    async def main(proxy: str) -> None:
        for target in ("ws://localhost:9/", "wss://localhost:9/"):
            with pytest.raises(tako.ProxyError) as caught:
                await tako.connect(target, proxy=proxy, proxy_ssl=credentials.client)
            error = caught.value
            assert (error.status, error.temporary) == (status, temporary)
            assert (error.step, error.proxy) == ("proxy", proxy)
            assert proxy in str(error)

    tls = proxy_tls if scheme == "https" else None
    with ForwardProxy(scheme, tls=tls, answers=[answer]) as proxy:
        run_on(runtime, main, proxy.url)
    assert open_sockets() <= before


def test_a_proxy_that_is_not_trusted_is_not_talked_to(
    runtime: RuntimeName, proxy_tls: ssl.SSLContext
) -> None:
    async def main(proxy: str) -> None:
        with pytest.raises(tako.ProxyError, match="certificate") as caught:
            await tako.connect("ws://localhost:9/", proxy=proxy)
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert not caught.value.temporary

    with ForwardProxy("https", tls=proxy_tls) as proxy:
        run_on(runtime, main, proxy.url)
    assert proxy.asked == []


@pytest.mark.parametrize("wire", ["h2"])
def test_a_server_behind_a_proxy_must_be_trusted_itself(
    serve: Serve, runtime: RuntimeName, proxy: ForwardProxy, credentials: Credentials
) -> None:
    server = serve(echo_router())

    async def main() -> None:
        with pytest.raises(tako.TlsError, match="certificate") as caught:
            await tako.connect(
                url_of(server), proxy=proxy.url, proxy_ssl=credentials.client
            )
        assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)
        assert caught.value.step == "TLS"

    run_on(runtime, main)


def test_a_proxy_that_cannot_be_reached_is_named(runtime: RuntimeName) -> None:
    port = free_port()

    async def main() -> None:
        with pytest.raises(tako.DialError, match=f"proxy http://localhost:{port}"):
            await tako.connect(
                "ws://a.test/", proxy=f"http://user:secret@localhost:{port}"
            )

    run_on(runtime, main)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("target", ["ws://127.0.0.1:9/", "wss://127.0.0.1:9/"])
def test_a_mute_proxy_costs_the_timeout_and_leaves_nothing(
    runtime: RuntimeName, scheme: str, target: str
) -> None:
    before = open_sockets()

    async def main(port: int) -> None:
        proxy = f"{scheme}://127.0.0.1:{port}"
        with pytest.raises(tako.ConnectTimeout) as caught:
            await tako.connect(target, proxy=proxy, open_timeout=0.3)
        assert caught.value.step == "proxy"

    with listening() as port:
        run_on(runtime, main, port)
    assert open_sockets() <= before


@pytest.mark.parametrize("wire", ["h1", "h2"])
def test_the_environment_names_the_proxy_unless_told_otherwise(
    serve: Serve,
    wire: Wire,
    runtime: RuntimeName,
    options: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = serve(echo_router())

    async def main() -> None:
        async with tako.connect(url_of(server), **options) as ws:
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"
        async with tako.connect(url_of(server), proxy=None, **options):
            pass
        monkeypatch.setenv("no_proxy", "localhost")
        async with tako.connect(url_of(server), **options):
            pass

    monkeypatch.delenv("no_proxy", raising=False)
    with ForwardProxy() as proxy:
        name = "ws_proxy" if wire == "h1" else "https_proxy"
        monkeypatch.setenv(name, proxy.url)
        run_on(runtime, main)
    assert proxy.asked == [("localhost", server.address[1])]


def test_a_loop_tries_a_proxy_again_that_is_overloaded_and_no_other(
    runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tako.client.reconnect._FIRST_DELAY", 0.0)
    monkeypatch.setattr("tako.client.reconnect._LEAST_DELAY", 0.0)

    async def main(url: str) -> None:
        with pytest.raises(tako.ProxyError):
            async for _ in tako.connect("ws://a.test/", proxy=url):
                pass

    answers = [b"HTTP/1.1 502 X\r\n\r\n", b"HTTP/1.1 504 X\r\n\r\n"]
    with ForwardProxy(answers=[*answers, b"HTTP/1.1 403 X\r\n\r\n"]) as proxy:
        run_on(runtime, main, proxy.url)
    assert len(proxy.asked) == 3


@pytest.mark.parametrize("wire", ["h1", "h2"])
def test_a_client_shares_connections_through_a_proxy(
    serve: Serve, wire: Wire, runtime: RuntimeName, proxy: ForwardProxy, options: Any
) -> None:
    server = serve(echo_router())

    async def main() -> None:
        async with tako.Client(
            url_of(server, ""), proxy=proxy.url, **options
        ) as client:
            sockets = [await client.connect("/ws") for _ in range(3)]
            for ws in sockets:
                await ws.send("hello")
                assert await ws.read(TIMEOUT) == "hello"
            async with client.connect("/ws", proxy=None) as ws:  # by another way
                await ws.send("hello")
                assert await ws.read(TIMEOUT) == "hello"

    run_on(runtime, main)
    assert len(proxy.asked) == (1 if wire == "h2" else 3)


@pytest.mark.parametrize("wire", ["h2"])
def test_all_that_wait_for_a_connection_hear_of_the_refusal(
    runtime: RuntimeName, options: Any
) -> None:
    failed: list[tako.ProxyError] = []

    async def main(url: str) -> None:
        async def connect(client: tako.Client) -> None:
            with pytest.raises(tako.ProxyError) as caught:
                await client.connect("/ws")
            failed.append(caught.value)

        async with tako.Client("wss://a.test", proxy=url, **options) as client:
            if runtime == "trio":
                import trio

                async with trio.open_nursery() as nursery:
                    for _ in range(3):
                        nursery.start_soon(connect, client)
            else:
                import asyncio

                await asyncio.gather(*(connect(client) for _ in range(3)))

    with ForwardProxy(answers=[b"HTTP/1.1 403 No\r\n\r\n"]) as proxy:
        run_on(runtime, main, proxy.url)
    assert [error.status for error in failed] == [403] * 3
    assert len({id(error) for error in failed}) == 3


@needs("microsocks")
def test_microsocks(
    serve: Serve,
    wire: Wire,
    runtime: RuntimeName,
    options: Any,
    credentials: Credentials,
) -> None:
    server = serve(echo_router())
    port = free_port()
    command = ["microsocks", "-i", "127.0.0.1", "-p", str(port), "-u", "me", "-P", "it"]

    async def main() -> None:
        for scheme in ("socks5", "socks5h"):
            url = f"{scheme}://me:it@127.0.0.1:{port}"
            async with tako.connect(url_of(server), proxy=url, **options) as ws:
                for message in ("hello", b"x" * 300_000):
                    await ws.send(message)
                    assert await ws.read(TIMEOUT) == message
        with pytest.raises(tako.ProxyError, match="refuses our user and password"):
            await tako.connect(
                url_of(server), proxy=url.replace("it@", "no@"), **options
            )

    with Host(command, ("127.0.0.1", port), credentials):
        run_on(runtime, main)


@needs("nghttpx")
def test_nghttpx_as_a_proxy_over_tls(
    serve: Serve,
    wire: Wire,
    runtime: RuntimeName,
    options: Any,
    credentials: Credentials,
    tmp_path: Path,
) -> None:
    server = serve(echo_router())
    port = free_port()

    async def main() -> None:
        url = f"https://localhost:{port}"
        async with tako.connect(url_of(server), proxy=url, **options) as ws:
            for message in ("hello", b"x" * 300_000):
                await ws.send(message)
                assert await ws.read(TIMEOUT) == message
        assert ws.close_code == 1000

    with ForwardProxy() as behind:
        command = [
            "nghttpx",
            "--http2-proxy",
            f"--frontend=127.0.0.1,{port}",
            f"--backend=127.0.0.1,{behind.port};;proto=http/1.1",
            "--workers=1",
            "--conf=/dev/null",
            "--no-ocsp",
            f"{credentials.key}",
            f"{credentials.cert}",
        ]
        with Host(command, ("127.0.0.1", port), credentials):
            run_on(runtime, main)
    assert behind.asked == [("localhost", server.address[1])]
