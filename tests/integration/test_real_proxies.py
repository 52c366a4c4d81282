"""Behind nginx and HAProxy, as operators set them up: they name the client."""

import json
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tako
from tako import ServerConfig
from tako.testing.peer import PeerConnection, Wire
from tako.testing.peer.io import HeaderList
from tests.support.hosts import Host
from tests.support.listeners import ListeningServer
from tests.support.ports import free_port
from tests.support.proxies import (
    CLIENT,
    FOR,
    STANDARD,
    connect_to_proxy,
    haproxy,
    needs,
    nginx,
)
from tests.support.reporting import reporting_router
from tests.support.server import Credentials, RuntimeName


PROXIES = ServerConfig(forwarded_allow_ips=["127.0.0.1", "unix"])

SPOOFED = [
    ("x-forwarded-for", "9.9.9.9"),
    ("x-forwarded-proto", "gopher"),
    ("forwarded", "for=8.8.8.8;proto=gopher"),
]
"""What the client writes itself: no test shall see it."""

PATHS = ("native", "native/ws", "asgi/", "asgi/ws")


def report(
    connection: PeerConnection, path: str, fields: HeaderList = SPOOFED
) -> dict[str, Any]:
    """Return what the server behind the proxy knows of us."""
    if path.endswith("ws"):
        ws = connection.websocket(f"/{path}", headers=fields)
        text = ws.receive()
        assert isinstance(text, str)
        if path == "native/ws":
            ws.echo("through a proxy")
            ws.echo(b"x" * 100_000)
        ws.close(1000)
        ws.expect_close()
    else:
        response = connection.request("GET", f"/{path}", fields)
        assert response.status == 200, response
        text = response.body.decode()
    answer: dict[str, Any] = json.loads(text)
    return answer


def encrypted(answer: dict[str, Any]) -> bool:
    return answer["scheme"] in {"https", "wss"}


@pytest.fixture(params=PATHS)
def path(request: pytest.FixtureRequest) -> str:
    """A request or a WebSocket, of a tako route or of an ASGI app."""
    name: str = request.param
    return name


Behind = Callable[..., ListeningServer]


@pytest.fixture
def behind(runtime: RuntimeName, credentials: Credentials) -> Iterator[Behind]:
    """Start the server behind the proxy; stop and check it afterwards."""
    servers = []

    def start(where: str | None = None, **how: Any) -> ListeningServer:
        server = ListeningServer(
            reporting_router(),
            partial(tako.serve, **how),
            runtime=runtime,
            credentials=credentials,
            config=PROXIES,
            bind=None if where is None else lambda: tako.bind(where),
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in servers:
        server.stop()


# -- nginx ---------------------------------------------------------------------------


@needs("nginx")
@pytest.mark.parametrize("socket_of", ["tcp", "unix"])
@pytest.mark.parametrize("wire", ["h1s", "h2"])
def test_nginx_terminates_tls(
    behind: Behind,
    credentials: Credentials,
    tmp_path: Path,
    wire: Wire,
    path: str,
    socket_of: str,
) -> None:
    if wire == "h2" and path.endswith("ws"):
        wire = "h1s"  # nginx has no WebSockets over HTTP/2
    if socket_of == "unix":
        behind(f"unix:{tmp_path}/tako.sock")
        upstream = f"http://unix:{tmp_path}/tako.sock:"
    else:
        upstream = f"http://127.0.0.1:{behind().address[1]}"
    with (
        nginx(upstream, tmp_path, credentials) as proxy,
        connect_to_proxy(proxy.address, wire, credentials) as connection,
    ):
        answer = report(connection, path)
    assert answer["client"] == f"{CLIENT}:0"
    assert encrypted(answer)
    assert not answer["tls"]
    assert (answer["host"], answer["version"]) == ("localhost", "1.1")


# -- HAProxy -------------------------------------------------------------------------


@needs("haproxy")
@pytest.mark.parametrize("front", [FOR, STANDARD], ids=["x-forwarded", "forwarded"])
@pytest.mark.parametrize("wire", ["h1s", "h2"])
def test_haproxy_terminates_tls(
    behind: Behind,
    credentials: Credentials,
    tmp_path: Path,
    wire: Wire,
    path: str,
    front: str,
) -> None:
    port = behind().address[1]
    if wire == "h2" and path.endswith("ws"):
        wire = "h1s"  # see below
    with (
        haproxy(port, tmp_path, credentials, front=front, alpn="h2,http/1.1") as proxy,
        connect_to_proxy(proxy.address, wire, credentials) as connection,
    ):
        answer = report(connection, path)
    assert answer["client"] == f"{CLIENT}:0"
    assert encrypted(answer)
    assert not answer["tls"]
    assert answer["version"] == "1.1"


@needs("haproxy")
@pytest.mark.parametrize("wire", ["h1s", "h2"])
def test_haproxy_speaks_http_2_with_us_websockets_too(
    behind: Behind, credentials: Credentials, tmp_path: Path, wire: Wire, path: str
) -> None:
    """RFC 8441, at least on the way to us."""
    port = behind(protocol="h2").address[1]
    with (
        haproxy(
            port,
            tmp_path,
            credentials,
            front=FOR,
            alpn="h2,http/1.1",
            server="proto h2 ws h2",
        ) as proxy,
        connect_to_proxy(proxy.address, wire, credentials) as connection,
    ):
        answer = report(connection, path)
    assert answer["client"] == f"{CLIENT}:0"
    assert encrypted(answer)
    assert not answer["tls"]
    assert answer["version"] == "2"


def served(
    credentials: Credentials, runtime: RuntimeName, *options: str
) -> tuple[Host, int]:
    """Return the command that serves the reports over TLS, and its port."""
    port = free_port()
    loop = ["--runtime", "trio"] if runtime == "trio" else ["--loop", runtime]
    command = [
        *(sys.executable, "-m", "tako.cli", "serve"),
        *("tests.support.reporting:reporting_router", "--bind", f"127.0.0.1:{port}"),
        *("--cert", str(credentials.cert), "--key", str(credentials.key)),
        *("--access-log", "--log-level", "info"),
        *loop,
        *options,
    ]
    return Host(command, ("127.0.0.1", port), credentials), port


@needs("haproxy")
@pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])
@pytest.mark.parametrize("wire", ["h1s", "h2"])
def test_haproxy_passes_tls_on_with_a_proxy_header(
    runtime: RuntimeName,
    credentials: Credentials,
    tmp_path: Path,
    wire: Wire,
    path: str,
    version: str,
) -> None:
    """The command reads the header; what the client writes is not believed."""
    own = ("--proxy-protocol", "127.0.0.1", "--forwarded-allow-ips", "127.0.0.1")
    tako_serve, port = served(credentials, runtime, *own)
    passing = haproxy(port, tmp_path, credentials, mode="tcp", server=version)
    with tako_serve, passing as proxy:
        with connect_to_proxy(proxy.address, wire, credentials) as connection:
            answer = report(connection, path)
        assert answer["client"].startswith(f"{CLIENT}:")
        assert not answer["client"].endswith(":0")
        assert answer["tls"]
        assert answer["version"] == ("2" if wire == "h2" else "1.1")
        tako_serve.wait_output(f"{answer['client']} GET /{path} HTTP/")


@needs("haproxy")
@needs("nginx")
def test_nginx_behind_haproxy_with_a_proxy_header_in_front_of_us(
    runtime: RuntimeName, credentials: Credentials, tmp_path: Path, path: str
) -> None:
    """Client, nginx, HAProxy (TCP): the PROXY header names nginx, that the client."""
    trusted = ("--proxy-protocol", "127.0.0.1", "--forwarded-allow-ips", "127.0.0.1")
    tako_serve, port = served(credentials, runtime, *trusted)
    balancer = haproxy(port, tmp_path, credentials, mode="tcp", server="send-proxy-v2")
    upstream = f"https://127.0.0.1:{balancer.address[1]}"
    with (
        tako_serve,
        balancer,
        nginx(upstream, tmp_path, credentials) as proxy,
        connect_to_proxy(proxy.address, "h1s", credentials) as connection,
    ):
        answer = report(connection, path)
    assert answer["client"] == f"{CLIENT}:0"
    assert encrypted(answer)
    assert answer["tls"]
