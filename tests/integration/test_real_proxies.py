"""Behind nginx and HAProxy, as operators set them up: they name the client."""

import json
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tako
from tako import ServerConfig
from tests.support.hosts import Host
from tests.support.listeners import ConnectedSocket, ListeningServer
from tests.support.peer import ALPN, PeerConnection, Wire
from tests.support.peer_h1 import H1Connection
from tests.support.peer_h2 import STREAM_WINDOW, H2Connection
from tests.support.peer_io import TIMEOUT, Address, HeaderList
from tests.support.ports import free_port
from tests.support.reporting import reporting_router
from tests.support.server import Credentials, RuntimeName


CLIENT = "127.0.0.2"  # the proxies connect from another address of this machine
PROXIES = ServerConfig(forwarded_allow_ips=["127.0.0.1", "unix"])

SPOOFED = [
    ("x-forwarded-for", "9.9.9.9"),
    ("x-forwarded-proto", "gopher"),
    ("forwarded", "for=8.8.8.8;proto=gopher"),
]
"""What the client writes itself: no test shall see it."""

PATHS = ("native", "native/ws", "asgi/", "asgi/ws")


def needs(program: str) -> pytest.MarkDecorator:
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"{program} is not installed")


def connect_to_proxy(address: Address, wire: Wire, host: Credentials) -> PeerConnection:
    """Connect as ``CLIENT``."""
    raw = socket.create_connection(address, TIMEOUT, (CLIENT, 0))
    encrypted = wire in ALPN
    sock = ConnectedSocket(raw, host.client if encrypted else None, b"", ALPN.get(wire))
    if wire in {"h1", "h1s"}:
        return H1Connection(sock, "localhost")
    return H2Connection(sock, "localhost", "https", stream_window=STREAM_WINDOW)


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

NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port} ssl http2;
        ssl_certificate {credentials.cert};
        ssl_certificate_key {credentials.key};
        location / {{
            proxy_pass {upstream};
            proxy_http_version 1.1;
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
        }}
    }}
}}
"""


def nginx(upstream: str, folder: Path, credentials: Credentials) -> Host:
    port = free_port()
    text = NGINX.format(port=port, credentials=credentials, upstream=upstream)
    (folder / "nginx.conf").write_text(text)
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    return Host(command, ("127.0.0.1", port), credentials)


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

HAPROXY = """
global
    maxconn 64
    insecure-fork-wanted
defaults
    mode {mode}
    timeout connect 30s
    timeout client 60s
    timeout server 60s
    timeout tunnel 60s
frontend front
    bind 127.0.0.1:{port} {bind}
    {front}
    default_backend back
backend back
    server one 127.0.0.1:{upstream} {server}
"""

FOR = """
    option forwardfor
    http-request set-header X-Forwarded-Proto https
"""
STANDARD = """
    http-request del-header X-Forwarded-For
    http-request set-header Forwarded for=%[src];proto=https
"""


def haproxy(
    upstream: int,
    folder: Path,
    credentials: Credentials,
    *,
    mode: str = "http",
    front: str = "",
    server: str = "",
    alpn: str | None = None,
) -> Host:
    port = free_port()
    bind = ""
    if alpn is not None:
        pem = folder / "both.pem"
        pem.write_bytes(credentials.cert.read_bytes() + credentials.key.read_bytes())
        bind = f"ssl crt {pem} alpn {alpn}"
    text = HAPROXY.format(
        mode=mode, port=port, bind=bind, front=front, upstream=upstream, server=server
    )
    (folder / "haproxy.cfg").write_text(text)
    command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    return Host(command, ("127.0.0.1", port), credentials)


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
