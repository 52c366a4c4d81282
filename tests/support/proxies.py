"""nginx, HAProxy and nghttpx as subprocesses for tests, and how to connect to them."""

import shutil
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

from tako.testing.peer import ALPN, PeerConnection, Wire
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import STREAM_WINDOW, H2Connection
from tako.testing.peer.io import Address
from tests.support.hosts import Host
from tests.support.listeners import ConnectedSocket
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.server import Credentials


CLIENT = "127.0.0.2"  # the proxies connect from another address of this machine


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


NGINX = """
daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_max_body_size 0;
    keepalive_requests 1000000;
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


HAPROXY = """
global
    maxconn {maxconn}
    insecure-fork-wanted
    {tuning}
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
    {back}
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
    upstream: int | Sequence[int | Address],
    folder: Path,
    credentials: Credentials,
    *,
    mode: str = "http",
    front: str = "",
    server: str = "",
    back: str = "",
    alpn: str | None = None,
    maxconn: int = 64,
    tuning: str = "",
) -> Host:
    """Return HAProxy in front of one port of this machine, or of several addresses.

    ``front``, ``back``, ``server``, ``tuning``: lines and options of those sections.
    """
    port = free_port()
    several = [upstream] if isinstance(upstream, int) else upstream
    pairs = [("127.0.0.1", each) if isinstance(each, int) else each for each in several]
    lines = [f"server s{n} {at}:{to} {server}" for n, (at, to) in enumerate(pairs)]
    bind = ""
    if alpn is not None:
        pem = folder / "both.pem"
        pem.write_bytes(credentials.cert.read_bytes() + credentials.key.read_bytes())
        bind = f"ssl crt {pem} alpn {alpn}"
    text = HAPROXY.format(
        mode=mode,
        port=port,
        bind=bind,
        front=front,
        maxconn=maxconn,
        tuning=tuning,
        back="\n    ".join([back, *lines]),
    )
    (folder / "haproxy.cfg").write_text(text)
    command = ["haproxy", "-db", "-f", str(folder / "haproxy.cfg")]
    return Host(command, ("127.0.0.1", port), credentials)


def nghttpx(upstream: int, folder: Path, credentials: Credentials) -> Host:
    """Return nghttpx, with TLS and HTTP/2 in front of one port of this machine."""
    port = free_port()
    command = [
        "nghttpx",
        f"-f127.0.0.1,{port}",
        f"-b127.0.0.1,{upstream}",
        "--workers=1",
        "--no-ocsp",
        "--conf=/dev/null",
        f"--errorlog-file={folder / 'nghttpx.log'}",
        "--accesslog-file=/dev/null",
        str(credentials.key),
        str(credentials.cert),
    ]
    return Host(command, ("127.0.0.1", port), credentials)
