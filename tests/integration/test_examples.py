"""Every example is started as its own process, driven by a client, and stopped.

The clients are common libraries (``websockets``, ``httpx``); the peer of
``tests.support`` speaks WebSocket over HTTP/2.
"""

import ast
import contextlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.typing import Subprotocol

from tako.testing.peer import connect as peer_connect
from tako.testing.peer.websocket import Close
from tests.support.children import Child, last_words, run_child
from tests.support.patience import TIMEOUT
from tests.support.peers import connect_h2
from tests.support.ports import free_port
from tests.support.pytest_runs import said_by_pytest
from tests.support.websockets_client import BlockingClient


ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
PATIENCE = TIMEOUT


class Program:
    """An example that runs on a port of its own."""

    def __init__(self, name: str, folder: Path) -> None:
        self.port = free_port()
        self.address = ("127.0.0.1", self.port)
        self._output = folder / f"{name}.out", folder / f"{name}.err"
        with self._output[0].open("wb") as out, self._output[1].open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, EXAMPLES / f"{name}.py", f"127.0.0.1:{self.port}"],
                cwd=folder,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=out,
                stderr=err,
            )

    def wait_until_it_listens(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(self.address, PATIENCE).close()
                return
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.05)
                break
        pytest.fail(f"it does not listen; it said: {self.output()}")

    def stop(self, by: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to drain; return its exit status."""
        self._process.send_signal(by)
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            pytest.fail(f"it does not stop:\n{last_words([self._process.pid])}")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE)

    def output(self) -> tuple[str, str]:
        out, err = (path.read_text() for path in self._output)
        return out, err

    def url(self, path: str, scheme: str = "http") -> str:
        return f"{scheme}://127.0.0.1:{self.port}{path}"

    def websocket(
        self, path: str, tls: ssl.SSLContext | None = None, *offer: str
    ) -> BlockingClient:
        """Connect over HTTP/1.1 with the ``websockets`` library."""
        return BlockingClient(
            self.url(path, "wss" if tls else "ws"),
            ssl=tls,
            subprotocols=[Subprotocol(name) for name in offer] or None,
            close_timeout=PATIENCE,
        )


class UnixProgram(Program):
    """An example that listens on a Unix socket, under the name that it is given."""

    @property
    def path(self) -> str:
        return str(self._output[0].parent / f"127.0.0.1:{self.port}")

    def wait_until_it_listens(self) -> None:
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and not Path(self.path).exists():
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=0.05)
                break
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(self.path)


Start = Callable[[str], Program]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start examples by name; those that a test did not stop are killed."""
    programs = []

    def start(name: str) -> Program:
        kind = UnixProgram if name == "unix_socket" else Program
        program = kind(name, tmp_path)
        programs.append(program)
        program.wait_until_it_listens()
        return program

    yield start
    for program in programs:
        program.kill()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """Put cert.pem and key.pem where the examples run; return a client's context."""
    authority = trustme.CA()
    leaf = authority.issue_cert("localhost", "127.0.0.1")
    leaf.private_key_pem.write_to_path(tmp_path / "key.pem")
    for index, blob in enumerate(leaf.cert_chain_pems):
        blob.write_to_path(tmp_path / "cert.pem", append=index > 0)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def assert_quiet_end(program: Program, prints: str = "") -> None:
    """Stop ``program``: it drains, and has said no more than ``prints``."""
    assert program.stop() == 0
    assert program.output() == (prints, "")


@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGINT])
def test_hello_world(start: Start, by: signal.Signals) -> None:
    program = start("hello_world")
    response = httpx.get(program.url("/"), trust_env=False, timeout=PATIENCE)
    assert (response.status_code, response.text) == (200, "Hello, World!")
    assert program.stop(by) == 0
    assert program.output() == (f"listening on {program.url('/')}\n", "")


@pytest.mark.parametrize("name", ["proxy_protocol", "unix_socket"])
def test_a_signal_drains_from_the_moment_on_that_it_says_it_runs(
    name: str, tmp_path: Path
) -> None:
    address = str(tmp_path / "sock") if name == "unix_socket" else "127.0.0.1:0"
    for _ in range(5):
        with Child(
            [sys.executable, str(EXAMPLES / f"{name}.py"), address],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline(), process.error_text
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0


def assert_echoes(ws: BlockingClient, welcome: str) -> None:
    assert ws.recv(PATIENCE) == welcome
    ws.send("hi")
    assert ws.recv(PATIENCE) == "Echo: hi"
    ws.send(b"\x00\xff")
    assert ws.recv(PATIENCE) == b"\x00\xff"
    ws.ping(b"payload")
    ws.close()
    assert ws.close_code == 1000


def assert_counts(ws: BlockingClient, word: str) -> None:
    """The first message comes at once, the next a second later, whatever we send."""
    assert ws.recv(PATIENCE) == f"{word}0"
    ws.send("ignored")
    assert ws.recv(PATIENCE) == f"{word}1"


def test_websocket(start: Start) -> None:
    program = start("websocket")
    with program.websocket("/ws/echo") as ws:
        assert_echoes(ws, "Welcome to Tako WS!")
    with program.websocket("/ws/tick") as ws:
        assert_counts(ws, "tick #")
    assert_quiet_end(program, f"listening on {program.url('/ws/echo', 'ws')}\n")


def test_websocket_http2_over_http_1(start: Start, tls: ssl.SSLContext) -> None:
    program = start("websocket_http2")
    with program.websocket("/ws/echo", tls) as ws:
        assert ws.subprotocol is None
        assert_echoes(ws, "Welcome to Tako WS!")
    with program.websocket("/ws/tick", tls) as ws:
        assert_counts(ws, "tick #")
    assert_quiet_end(program, f"listening on {program.url('/ws/echo', 'wss')}\n")


def test_websocket_http2_over_http_2(start: Start, tls: ssl.SSLContext) -> None:
    program = start("websocket_http2")
    with connect_h2(program.address, tls) as connection:
        echo = connection.websocket("/ws/echo")
        tick = connection.websocket("/ws/tick")
        echo.expect("Welcome to Tako WS!")
        tick.expect("tick #0")
        echo.send("hi")
        echo.expect("Echo: hi")
        tick.expect("tick #1")
        echo.close()
        assert echo.expect_close() == (1000, "")
    assert_quiet_end(program, f"listening on {program.url('/ws/echo', 'wss')}\n")


def test_demo_serves_its_page_and_its_source(start: Start, tls: ssl.SSLContext) -> None:
    program = start("demo")
    with httpx.Client(
        http2=True, verify=tls, trust_env=False, timeout=PATIENCE
    ) as client:
        response = client.get(program.url("/", "https"))
        source = client.get(program.url("/source", "https"))
        moved = client.get(program.url("/inspector", "https"))
        inspector = client.get(moved.headers["location"])
        stranger = client.get(moved.headers["location"].partition("?")[0])
    assert response.http_version == "HTTP/2"
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.text == (EXAMPLES / "demo.html").read_text()
    assert source.text == (EXAMPLES / "demo.py").read_text()
    assert (moved.status_code, stranger.status_code) == (303, 403)
    assert "<title>" in inspector.text
    assert program.stop() == 0
    out, err = program.output()
    assert out.startswith(f"listening on {program.url('/', 'https')}\n")
    assert f"https://localhost:{program.port}/ " in out
    assert not err


def test_demo_has_one_handler_on_two_wires(start: Start, tls: ssl.SSLContext) -> None:
    program = start("demo")
    with connect_h2(program.address, tls) as connection:
        first, second = (connection.websocket("/ws/lab") for _ in range(2))
        facts = [json.loads(str(ws.receive())) for ws in (first, second)]
        assert facts[0] == facts[1]  # one connection
        assert facts[0]["http"] == "2"
        beside = json.loads(connection.request("GET", "/ports").body)["http1"]
        first.echo("over HTTP/2")
    with peer_connect(("127.0.0.1", beside), "h1s", tls) as connection:
        ws = connection.websocket("/ws/lab")
        assert json.loads(str(ws.receive()))["http"] == "1.1"
        ws.echo("over HTTP/1.1")
    with socket.create_connection(("127.0.0.1", beside), PATIENCE) as raw:
        tls.set_alpn_protocols(["h2", "http/1.1"])
        with tls.wrap_socket(raw, server_hostname="localhost") as client:
            assert client.selected_alpn_protocol() == "http/1.1"
    assert program.stop() == 0


def test_demo_says_that_its_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = run_child(
            [sys.executable, str(EXAMPLES / "demo.py"), address],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 1
    what = rf"cannot listen on {re.escape(address)}: [^\n]*; choose another: [^\n]*\n"
    assert re.fullmatch(what, done.stderr)


def test_websocket_http2_has_the_handlers_of_websocket() -> None:
    handlers = []
    for name in ("websocket", "websocket_http2"):
        source = (EXAMPLES / f"{name}.py").read_text()
        nodes = {
            node.name: ast.get_source_segment(source, node)
            for node in ast.parse(source).body
            if isinstance(node, ast.AsyncFunctionDef)
        }
        handlers.append((nodes["ws_echo"], nodes["ws_tick"]))
    assert handlers[0] == handlers[1]


def test_websocket_trio(start: Start) -> None:
    pytest.importorskip("trio")
    program = start("websocket_trio")
    with program.websocket("/ws/echo") as ws:
        assert_echoes(ws, "Welcome to Tako WS (trio)!")
    with program.websocket("/ws/count") as ws:
        assert_counts(ws, "count: ")
        ws.close()
    assert program.stop() == 0
    base = f"ws://127.0.0.1:{program.port}/ws"
    out, err = program.output()
    assert out == f"WebSocket server running at:\n  - {base}/echo\n  - {base}/count\n"
    assert "Traceback" not in err


def test_websocket_trio_logs_how_a_conversation_broke(start: Start) -> None:
    pytest.importorskip("trio")
    program = start("websocket_trio")
    with peer_connect(program.address, "h1") as connection:
        ws = connection.websocket("/ws/echo")
        ws.expect("Welcome to Tako WS (trio)!")
        ws.end()
        ws.expect_end()
    assert program.stop() == 0
    assert program.output()[1] == "WebSocket error: 1006\n"


def test_autobahn_echo(start: Start) -> None:
    program = start("autobahn_echo")
    with program.websocket("/") as ws:
        for message in ("", "text", b"", b"\x00\xff", "x" * 100_000):
            ws.send(message)
            assert ws.recv(PATIENCE) == message
        ws.close(3001, "bye")
        assert ws.close_code == 3001
    url = f"ws://127.0.0.1:{program.port}"
    assert_quiet_end(program, f"autobahn-echo listening on {url}\n")


def test_tls_trio(start: Start, tls: ssl.SSLContext) -> None:
    pytest.importorskip("trio")
    program = start("tls_trio")
    versions = set()
    for http2 in (False, True):
        with httpx.Client(
            http2=http2, verify=tls, trust_env=False, timeout=PATIENCE
        ) as client:
            hello = client.get(program.url("/", "https"))
            health = client.get(program.url("/health", "https"))
        assert hello.text == "Hello, Secure Trio World!"
        assert (health.status_code, health.text) == (200, "OK")
        versions.add(hello.http_version)
    assert versions == {"HTTP/1.1", "HTTP/2"}
    url = f"https://127.0.0.1:{program.port}"
    assert_quiet_end(program, f"TLS (trio) server running at {url}\n")


def test_with_state(start: Start) -> None:
    program = start("with_state")
    answers = [
        httpx.get(program.url("/"), trust_env=False, timeout=PATIENCE).text
        for _ in range(2)
    ]
    for visitor, answer in enumerate(answers, 1):
        assert re.fullmatch(
            rf"Hello from Tako \d+\.\d+\.\d+! You are visitor {visitor}\.", answer
        )
    assert_quiet_end(program, f"listening on {program.url('/')}\n")


def first(response: httpx.Response, count: int) -> str:
    """Return the first ``count`` characters of a body that goes on."""
    text = ""
    for chunk in response.iter_text():
        text += chunk
        if len(text) >= count:
            break
    return text


def test_streams_digits_come_as_they_are_made(start: Start) -> None:
    program = start("streams")
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", program.url("/")) as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        assert first(response, 4) == "0\n1\n"
    assert_quiet_end(program, f"listening on {program.url('/')}\n")


def test_streams_events_are_server_sent_events(start: Start) -> None:
    program = start("streams")
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", program.url("/events")) as response,
    ):
        assert response.headers["content-type"] == "text/event-stream"
        expected = "data: tick: 0\n\ndata: tick: 1\n\n"
        assert first(response, len(expected)) == expected
    assert_quiet_end(program, f"listening on {program.url('/')}\n")


def test_streams_json_is_cut_short_at_the_fifth_tick(start: Start) -> None:
    program = start("streams")
    chunks: list[bytes] = []
    with (
        httpx.Client(trust_env=False, timeout=PATIENCE) as client,
        client.stream("GET", program.url("/json")) as response,
    ):
        assert response.headers["content-type"] == "application/json"
        with pytest.raises(httpx.RemoteProtocolError):
            chunks.extend(response.iter_bytes())  # keeps what came before
    assert b"".join(chunks) == b'{"tick":1}{"tick":2}{"tick":3}{"tick":4}'
    assert program.stop() == 0
    assert "every fifth tick fails" in program.output()[1]


def test_chat_between_http_1_and_http_2(start: Start, tls: ssl.SSLContext) -> None:
    program = start("chat")
    with connect_h2(program.address, tls) as connection:
        ada = connection.websocket("/ws/chat?name=Ada")
        ada.expect("* Ada joined")
        tls.set_alpn_protocols(["http/1.1"])
        with program.websocket("/ws/chat?name=Bob", tls) as bob:
            assert bob.recv(PATIENCE) == "* Bob joined"
            ada.expect("* Bob joined")
            bob.send("hello over h1")
            ada.expect("Bob: hello over h1")
            ada.send("hello over h2")
            assert bob.recv(PATIENCE) == "Bob: hello over h1"
            assert bob.recv(PATIENCE) == "Ada: hello over h2"
        ada.expect("Ada: hello over h2", "* Bob left")
        ada.close()
        assert ada.expect_close() == (1000, "")
    assert_quiet_end(program, f"listening on {program.url('/ws/chat', 'wss')}\n")


def test_chat_drops_a_client_that_cannot_keep_up(
    start: Start, tls: ssl.SSLContext
) -> None:
    program = start("chat")
    text = "x" * 64 * 1024
    with peer_connect(program.address, "h1s", tls, receive_buffer=4096) as connection:
        slow = connection.websocket("/ws/chat?name=slow")
        with program.websocket("/ws/chat?name=fast", tls) as fast:
            assert fast.recv(PATIENCE) == "* fast joined"
            for _ in range(256):  # more than an inbox and the kernel's buffers hold
                fast.send(text)
                assert fast.recv(PATIENCE) == f"fast: {text}"
            received = slow.receive()
            while isinstance(received, str):
                received = slow.receive()
            assert received == Close(1013, "too slow")
            assert fast.recv(PATIENCE) == "* slow left"
    assert_quiet_end(program, f"listening on {program.url('/ws/chat', 'wss')}\n")


def test_chat_client(start: Start, tls: ssl.SSLContext, tmp_path: Path) -> None:
    room = start("chat")
    with (
        Child(
            [
                *(sys.executable, str(EXAMPLES / "chat_client.py")),
                *("Bob & Co", room.url("", "wss")),
            ],
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            stdin=subprocess.PIPE,
        ) as client,
        connect_h2(room.address, tls) as connection,
    ):
        assert client.stdin is not None
        assert client.stdout is not None
        assert client.stdout.readline() == "* Bob & Co joined\n", client.error_text
        ada = connection.websocket("/ws/chat?name=Ada")
        ada.expect("* Ada joined")
        assert client.stdout.readline() == "* Ada joined\n"
        client.stdin.write("hello\n")
        client.stdin.flush()
        ada.expect("Bob & Co: hello")
        assert client.stdout.readline() == "Bob & Co: hello\n"
        client.stdin.close()
        ada.expect("* Bob & Co left")
        assert client.wait() == 0, client.error_text
        ada.close()
        assert ada.expect_close() == (1000, "")
    assert_quiet_end(room, f"listening on {room.url('/ws/chat', 'wss')}\n")


def test_unix_socket(start: Start) -> None:
    program = start("unix_socket")
    assert isinstance(program, UnixProgram)
    transport = httpx.HTTPTransport(uds=program.path)
    with httpx.Client(transport=transport, trust_env=False, timeout=PATIENCE) as client:
        assert client.get("http://localhost/").text == (
            "Hello from Unix socket! Peer: unix"
        )
        health = client.get("http://localhost/health")
    assert (health.status_code, health.text) == (200, "ok")
    name = f"127.0.0.1:{program.port}"
    assert_quiet_end(
        program,
        f"Starting HTTP server on Unix socket: {name}\n"
        f"  curl --unix-socket {name} http://localhost/\n"
        f"  curl --unix-socket {name} http://localhost/health\n",
    )
    assert not Path(program.path).exists()


def test_proxy_protocol(start: Start) -> None:
    program = start("proxy_protocol")
    out = ""
    end = time.monotonic() + PATIENCE
    while "nc" not in out:  # it may be buffered behind the first connection
        assert time.monotonic() < end, program.output()
        out = program.output()[0]
    hint = out.splitlines()[-1]
    found = re.fullmatch(r"  printf '(.*)' \| nc 127\.0\.0\.1 (\d+)", hint)
    assert found is not None
    assert int(found[2]) == program.port
    said = (
        found[1].replace(r"\r\n", "\r\n").encode()
    )  # what the hint tells the user to do
    with socket.create_connection(program.address, timeout=PATIENCE) as sock:
        sock.sendall(said)
        answer = sock.recv(65536)
        while b"dst=" not in answer:
            answer += sock.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body.decode() == (
        "Real client: 192.168.1.100:56324\n"
        "PROXY header: version=V1, transport=TCP, "
        f"src=192.168.1.100:56324, dst=10.0.0.1:{program.port}\n"
    )
    assert program.stop() == 0
    address = f"127.0.0.1:{program.port}"
    assert program.output()[0].startswith(
        f"PROXY protocol server running at {address}\nTry it:\n"
    )


def test_the_test_of_the_chat_passes() -> None:
    said = said_by_pytest(ROOT, "examples/test_chat.py")
    assert "57 passed" in said, said


def test_every_example_is_driven_here() -> None:
    source = Path(__file__).read_text()
    driven = set(re.findall(r'start\("(\w+)"\)', source))
    driven |= set(re.findall(r'"(?:examples/)?(\w+)\.py"', source))
    assert driven == {path.stem for path in EXAMPLES.glob("*.py")}
