"""Whom ``tako.connect`` reaches: names, certificates of both sides, addresses."""

import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

import tako
from tako.runtime import asyncio_loop, trio_loop
from tako.runtime.backend import Address
from tako.tls import ClientAuth, TlsCert
from tests.support.apps import echo_router
from tests.support.loops import run_on
from tests.support.patience import TIMEOUT
from tests.support.server import RuntimeName, open_sockets


VERSIONS = [("2",), ("1.1",)]
NAME = "names.test"


@pytest.fixture
def files(ca: trustme.CA, tmp_path: Path) -> tuple[Path, Path]:
    """Certificate and key for a name that does not resolve."""
    leaf = ca.issue_cert(NAME)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    leaf.cert_chain_pems[0].write_to_path(cert)
    leaf.private_key_pem.write_to_path(key)
    return cert, key


@pytest.fixture
def trusting(ca: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    ca.configure_trust(context)
    return context


def client_auth(ca: trustme.CA) -> ClientAuth:
    return ClientAuth.required(roots=ca.cert_pem.bytes())


def router() -> tako.Router:
    made = echo_router()

    async def who(request: tako.Request) -> tako.TakoWs:
        info = request.extensions[tako.ConnInfo]

        async def session(ws: tako.WebSocket) -> None:
            has = info.tls is not None and info.tls.peer_cert is not None
            sni = None if info.tls is None else info.tls.sni
            await ws.send(f"{has} {sni}")

        return tako.TakoWs(request, session)

    made.get("/who", who)
    return made


@asynccontextmanager
async def server(address: str, cert: TlsCert) -> AsyncGenerator[int, None]:
    listener = await tako.bind(address)
    async with tako.serve_tls(listener, router(), tls=cert):
        yield listener.port if ":0" in address else 0


@pytest.mark.parametrize("versions", VERSIONS)
def test_the_certificate_may_be_that_of_another_name(
    runtime: RuntimeName,
    versions: Any,
    files: tuple[Path, Path],
    trusting: ssl.SSLContext,
) -> None:
    async def main() -> None:
        async with server("127.0.0.1:0", TlsCert.pem_paths(*files)) as port:
            options: Any = {"ssl": trusting, "http_versions": versions}
            url = f"wss://127.0.0.1:{port}/who"
            async with tako.connect(url, server_hostname=NAME, **options) as ws:
                assert await ws.read(TIMEOUT) == f"False {NAME}"
            for wrong in (None, "other.test"):
                with pytest.raises(tako.TlsError, match="certificate") as caught:
                    await tako.connect(url, server_hostname=wrong, **options)
                cause = caught.value.__cause__
                assert isinstance(cause, ssl.SSLCertVerificationError)

    run_on(runtime, main)


@pytest.mark.parametrize("versions", VERSIONS)
def test_a_client_shows_the_certificate_of_its_context(
    runtime: RuntimeName,
    versions: Any,
    ca: trustme.CA,
    files: tuple[Path, Path],
    trusting: ssl.SSLContext,
) -> None:
    cert = TlsCert.pem_paths(*files, client_auth=client_auth(ca))
    known = ssl.create_default_context()
    ca.configure_trust(known)
    ca.issue_cert("me@names.test").configure_cert(known)
    before = open_sockets()

    async def main() -> None:
        async with server("127.0.0.1:0", cert) as port:
            url = f"wss://127.0.0.1:{port}/who"
            options: Any = {"server_hostname": NAME, "http_versions": versions}
            async with tako.connect(url, ssl=known, **options) as ws:
                assert await ws.read(TIMEOUT) == f"True {NAME}"
            with pytest.raises(tako.TlsError, match="certificate required"):
                await tako.connect(url, ssl=trusting, **options)

    run_on(runtime, main)
    assert open_sockets() <= before


@pytest.mark.parametrize("versions", VERSIONS)
def test_a_unix_socket_may_be_secured(
    runtime: RuntimeName,
    versions: Any,
    files: tuple[Path, Path],
    trusting: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    path = tmp_path / "app.sock"

    async def main() -> None:
        async with (
            server(f"unix:{path}", TlsCert.pem_paths(*files)),
            tako.connect(
                f"wss+unix:{path}:/who",
                ssl=trusting,
                server_hostname=NAME,
                http_versions=versions,
            ) as ws,
        ):
            assert ws.http_version == versions[0]
            assert await ws.read(TIMEOUT) == f"False {NAME}"

    run_on(runtime, main)


def test_a_unix_socket_speaks_http2_with_prior_knowledge(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    path = tmp_path / "app.sock"

    async def main() -> None:
        url = f"ws+unix:{path}:/echo"
        async with (
            tako.serve(f"unix:{path}", echo_router(), protocol="h2"),
            tako.connect(url, http_versions=("2",)) as ws,
        ):
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"

    run_on(runtime, main)


def test_a_unix_socket_that_is_not_there(runtime: RuntimeName, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(tako.DialError, match="No such file") as caught:
            await tako.connect(f"ws+unix:{tmp_path}/none.sock:/")
        assert caught.value.origin == f"ws+unix:{tmp_path}/none.sock"

    run_on(runtime, main)


@contextmanager
def black_hole(host: str, port: int) -> Iterator[None]:
    """Listen so that connections are neither taken nor refused."""
    listener = socket.socket()
    listener.bind((host, port))
    listener.listen(0)
    kept = [listener]
    try:
        for _ in range(8):  # more than the queue takes
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex((host, port))
            kept.append(sock)
        yield
    finally:
        for each in kept:
            each.close()


@pytest.mark.parametrize("hole", [False, True])
def test_an_address_that_does_not_answer_costs_a_moment(
    runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch, *, hole: bool
) -> None:
    before = open_sockets()

    async def main() -> None:
        listener = await tako.bind("127.0.0.1:0")
        port = listener.port
        first = (int(socket.AF_INET), ("127.0.0.2", port))
        second = (int(socket.AF_INET), ("127.0.0.1", port))

        async def resolve(_: object, host: str, port: int) -> list[Address]:
            assert host == "two.test"
            return [first, second]

        for loop in (asyncio_loop.AsyncioRuntime, trio_loop.TrioRuntime):
            monkeypatch.setattr(loop, "resolve", resolve)
        async with tako.serve(listener, echo_router()):
            url = f"ws://two.test:{port}/echo"
            if hole:
                with black_hole("127.0.0.2", port):
                    ws = await tako.connect(url, open_timeout=TIMEOUT)
            else:  # refused
                ws = await tako.connect(url, open_timeout=TIMEOUT)
            info = ws.request.conn_info
            assert info is not None
            assert isinstance(info.peer, tako.IpPeer)
            assert info.peer.host == "127.0.0.1"
            await ws.send("hello")
            assert await ws.read(TIMEOUT) == "hello"
            await ws.close()

    run_on(runtime, main)
    assert open_sockets() <= before


def test_all_addresses_that_fail_are_told(
    runtime: RuntimeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        addresses = [(int(socket.AF_INET), (f"127.0.0.{n}", 9)) for n in (1, 2, 3)]

        async def resolve(_: object, host: str, port: int) -> list[Address]:
            return addresses

        for loop in (asyncio_loop.AsyncioRuntime, trio_loop.TrioRuntime):
            monkeypatch.setattr(loop, "resolve", resolve)
        with pytest.raises(tako.DialError, match="refused") as caught:
            await tako.connect("ws://three.test:9/", open_timeout=TIMEOUT)
        assert len(caught.value.errors) == 3

    run_on(runtime, main)
