"""``tako connect``: lines in, lines out, a terminal, and its exit status."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
import trustme

import tako
from tako import WebSocket
from tako.testing.peer import Wire
from tests.conftest import Serve
from tests.integration.test_cli import environment
from tests.integration.test_connect import url_of
from tests.support.apps import echo_router, ws_router
from tests.support.children import Child, run_child
from tests.support.forward_proxies import NAME, ForwardProxy
from tests.support.patience import TIMEOUT
from tests.support.server import RuntimeName


LOOPS = ["asyncio", "trio"]
Done = subprocess.CompletedProcess[str]


@pytest.fixture
def runtime() -> RuntimeName:
    """The server's: it is the client's loop that matters here."""
    return "asyncio"


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tako", "connect", *map(str, arguments)]


@pytest.fixture
def connect(tmp_path: Path) -> Callable[..., Done]:
    def run(*arguments: str | Path, **options: Any) -> Done:
        given = {"input": "", "env": environment(tmp_path), **options}
        return run_child(command(*arguments), cwd=tmp_path, **given)

    return run


def said(done: Done) -> list[str]:
    """Return the lines on stderr but that of the latency."""
    lines = done.stderr.splitlines()
    assert all(line.startswith("tako: ") for line in lines), done.stderr
    texts = [line.removeprefix("tako: ") for line in lines]
    return [text for text in texts if not re.fullmatch(r"latency: .* ms", text)]


def wire_options(wire: Wire, ca_file: Path) -> list[str]:
    options = {"h1": [], "h1s": ["--wire", "h1"], "h2": [], "h2c": ["--wire", "h2"]}
    return [*options[wire], *(["--ca", str(ca_file)] if wire in {"h1s", "h2"} else [])]


@pytest.mark.parametrize("loop", LOOPS)
def test_each_line_is_a_message_and_each_message_a_line(
    serve: Serve,
    wire: Wire,
    loop: str,
    connect: Callable[..., Done],
    ca_file: Path,
) -> None:
    server = serve(echo_router())
    url, options = url_of(server), wire_options(wire, ca_file)
    text = f'one\n\n{{"a": [1]}}\n\N{OCTOPUS}\n{"x" * 300_000}\nno line break'
    done = connect(url, "--runtime", loop, *options, input=text)
    assert (done.returncode, done.stdout) == (0, text + "\n")
    first, last = said(done)
    tls = ", TLSv1.3" if wire in {"h1s", "h2"} else ""
    version = "HTTP/2" if wire in {"h2", "h2c"} else "HTTP/1.1"
    assert first == f"connected to {url} over {version}{tls}"
    assert last == "closed: 1000"
    assert re.search(r"latency: [0-9.]+ ms", done.stderr)


class TestLines:
    @pytest.fixture
    def wire(self) -> Wire:
        return "h1"

    def test_a_binary_message_is_base64(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.send(b"\x00\x01\xff")
            await ws.send(b"")
            await ws.send("two\nlines")
            await ws.close(1000)

        done = connect(url_of(serve(ws_router(session))), "--wait", "none")
        expected = "data:;base64,AAH/\ndata:;base64,\ntwo\nlines\n"
        assert (done.returncode, done.stdout) == (0, expected)
        assert said(done)[-1] == "closed by the server: 1000"

    def test_what_comes_until_the_servers_close_is_written(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        async def session(ws: WebSocket) -> None:
            for number in range(2000):
                await ws.send(str(number))
            await ws.close()

        done = connect(url_of(serve(ws_router(session))), "--wait", "none")
        assert done.returncode == 0
        assert done.stdout.split() == [str(number) for number in range(2000)]

    @pytest.mark.parametrize(
        ("code", "status", "text"),
        [
            (1000, 0, "closed by the server: 1000 enough"),
            (1001, 0, "closed by the server: 1001 enough"),
            (4001, 1, "closed by the server: 4001 enough"),
            (1011, 1, "closed by the server: 1011 enough"),
        ],
    )
    def test_the_status_says_how_it_ended(
        self,
        serve: Serve,
        connect: Callable[..., Done],
        code: int,
        status: int,
        text: str,
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.close(code, "enough")

        done = connect(url_of(serve(ws_router(session))), "--wait", "none")
        assert (done.returncode, said(done)[-1]) == (status, text)

    def test_a_server_that_is_gone_is_an_error(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        async def session(ws: WebSocket) -> None:
            await ws.read()
            ws._tunnel.reset()

        done = connect(url_of(serve(ws_router(session))), "--wait", "none", input="x")
        assert done.returncode == 1
        assert said(done)[-1].startswith("the connection was lost (1006)")

    def test_a_message_that_is_too_large_is_an_error(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        url = url_of(serve(echo_router()))
        done = connect(url, "--max-size", "10", input="x" * 11)
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(r"failed: .* \(1009\)", said(done)[-1])

    def test_what_is_not_utf8_is_an_error(self, serve: Serve, tmp_path: Path) -> None:
        url = url_of(serve(echo_router()))
        (tmp_path / "in").write_bytes(b"good\nb\xffd\nlate\n")
        with (tmp_path / "in").open() as file:
            done = run_child(command(url), env=environment(tmp_path), stdin=file)
        assert done.returncode == 1
        assert "late" not in done.stdout
        assert said(done)[-2:] == ["closed: 1000", "stdin is not UTF-8"]

    def test_quiet_says_nothing_but_errors(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        server = serve(echo_router())
        done = connect(url_of(server), "--quiet", input="hello\n")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello\n", "")
        done = connect(url_of(server, "/nowhere"), "-q")
        assert done.returncode == 1
        assert "404" in done.stderr

    def test_verbose_says_more(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        done = connect(url_of(serve(echo_router())), "-v", input="hello\n")
        assert done.stdout == "hello\n"
        assert "is OPEN" in done.stderr

    def test_a_reader_that_leaves_ends_it_quietly(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        codes: list[int | None] = []
        ended = threading.Event()

        async def session(ws: WebSocket) -> None:
            try:
                while not ws.closed:
                    await ws.send("more")
            except tako.ConnectionClosed:
                async for _ in ws:
                    pass
            finally:
                codes.append(ws.close_code)
                ended.set()

        url = url_of(serve(ws_router(session)))
        stdin = subprocess.PIPE
        with Child(command(url), env=environment(tmp_path), stdin=stdin) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "more\n"
            child.stdout.close()
            assert child.wait(TIMEOUT) == 1
            assert "Traceback" not in child.error_text
        assert ended.wait(TIMEOUT)
        assert codes == [1001]

    @pytest.mark.parametrize("loop", LOOPS)
    def test_ctrl_c_closes(self, serve: Serve, tmp_path: Path, loop: str) -> None:
        codes: list[int | None] = []

        async def session(ws: WebSocket) -> None:
            await ws.send("hello")
            async for _ in ws:
                pass
            codes.append(ws.close_code)

        url = url_of(serve(ws_router(session)))
        with Child(
            command(url, "--runtime", loop),
            env=environment(tmp_path),
            stdin=subprocess.PIPE,
        ) as child:
            child.wait_line("hello")
            child.send_signal(signal.SIGINT)
            assert child.wait(TIMEOUT) == 130
            assert child.error_text.splitlines()[-1] == "tako: closed: 1001"
        assert codes == [1001]

    @pytest.mark.parametrize("loop", LOOPS)
    def test_ctrl_c_ends_what_does_not_open(
        self, serve: Serve, tmp_path: Path, loop: str
    ) -> None:
        asked, ended = threading.Event(), threading.Event()
        router = tako.Router()

        async def never(_: tako.Request) -> str:
            asked.set()
            while not ended.is_set():
                await tako.sleep(0.01)
            return "late"

        router.get("/ws", never)
        url = url_of(serve(router))
        with Child(
            command(url, "--runtime", loop),
            env=environment(tmp_path),
            stdin=subprocess.PIPE,
        ) as child:
            assert asked.wait(TIMEOUT)
            child.send_signal(signal.SIGINT)
            assert child.wait(TIMEOUT) == 130
            assert child.error_text == ""
            ended.set()

    def test_a_pipe_that_is_not_read_stops_the_server_and_not_ctrl_c(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        sent = 0

        async def session(ws: WebSocket) -> None:
            nonlocal sent
            with contextlib.suppress(tako.ConnectionClosed):
                while True:
                    await ws.send("x" * 65_535)
                    sent += 65_536

        url = url_of(serve(ws_router(session)))
        with Child(
            command(url, "--wait", "none", "--no-compression"),
            env=environment(tmp_path),
            stdin=subprocess.DEVNULL,
        ) as child:
            before, unchanged, end = 0, 0, time.monotonic() + TIMEOUT
            while unchanged < 20:  # the server stands still
                unchanged = unchanged + 1 if sent == before > 0 else 0
                before = sent
                assert sent < 64 << 20
                assert time.monotonic() < end
                time.sleep(0.05)
            child.send_signal(signal.SIGINT)
            assert child.wait(TIMEOUT) == 130

    def test_a_server_that_does_not_read_stops_stdin(
        self, serve: Serve, tmp_path: Path
    ) -> None:
        gate = threading.Event()
        taken = 0

        async def session(ws: WebSocket) -> None:
            nonlocal taken
            while not gate.is_set():
                await tako.sleep(0.01)
            async for message in ws:
                if isinstance(message, str):
                    taken += len(message) + 1

        url = url_of(serve(ws_router(session)))
        with Child(
            command(url, "--no-compression"),
            env=environment(tmp_path),
            stdin=subprocess.PIPE,
        ) as child:
            assert child.stdin is not None
            file = child.stdin.fileno()
            os.set_blocking(file, False)
            line, written, end = b"x" * 1023 + b"\n", 0, time.monotonic() + TIMEOUT
            full = 0
            while full < 20:  # a pipe that stays full
                try:
                    written += os.write(file, line * 32)
                    full = 0
                except BlockingIOError:
                    full += 1
                    time.sleep(0.05)
                assert written < 64 << 20
                assert time.monotonic() < end
            gate.set()
            os.set_blocking(file, True)
            written += os.write(file, b"y" * (1023 - written % 1024) + b"\n")
            child.stdin.close()
            assert child.wait(TIMEOUT) == 0
        assert taken == written


class TestOptions:
    @pytest.fixture
    def wire(self) -> Wire:
        return "h1"

    def test_the_handshake_is_what_was_asked_for(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        seen: list[tako.Request] = []
        router = tako.Router()

        async def session(ws: WebSocket) -> None:
            await ws.close(1000)

        async def handler(request: tako.Request) -> tako.TakoWs:
            seen.append(request)
            return tako.TakoWs(request, session, protocols=["chat"])

        router.get("/ws", handler)
        done = connect(
            url_of(serve(router)),
            *("-H", "X-One: 1", "--header", "x-two:2:3"),
            *("--subprotocol", "other", "--subprotocol", "chat"),
            *("--origin", "https://a.test", "--no-compression", "--wait", "none"),
        )
        assert done.returncode == 0, done.stderr
        headers = seen[0].headers
        assert (headers["x-one"], headers["x-two"]) == ("1", "2:3")
        assert headers["origin"] == "https://a.test"
        assert headers["sec-websocket-protocol"] == "other, chat"
        assert "sec-websocket-extensions" not in headers
        assert said(done)[0].endswith(", subprotocol chat")

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("http://a.test/",), r".*begins with ws:// or wss://"),
            (("ws://",), r".*has no host"),
            (("ws://a/", "-H", "x"), r"--header takes NAME:VALUE, not 'x'"),
            (("ws://a/", "-H", "host: b"), r".*host cannot be given"),
            (("ws://a/", "--proxy", "ftp://b"), r"the proxy 'ftp://b' is none of .*"),
            (("ws://a/", "--wait", "soon"), r"--wait takes SECONDS, not 'soon'"),
            (("ws://a/", "--open-timeout", "0"), r"--open-timeout must be a pos.*"),
            (("wss://a/", "--ca", "none.pem"), r"--ca none.pem: No such file.*"),
            (("wss://a/", "--cert", "none.pem"), r"--cert none.pem: No such file.*"),
            (("wss://a/", "--key", "none.pem"), r"--key is that of --cert"),
            (("ws://a/", "--wire", "h3"), r".*'h3' is not .*see tako connect --help."),
            ((), r"Missing argument 'URL'.*"),
        ],
    )
    def test_a_mistake_is_one_line_and_status_2(
        self, connect: Callable[..., Done], arguments: tuple[str, ...], text: str
    ) -> None:
        done = connect(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = said(done)
        assert re.fullmatch(text, line), line

    def test_a_refusal_is_one_line_and_status_1(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        router = tako.Router()
        router.get("/ws", lambda: tako.Response(403, {}, "keep\n\x1b[31mout"))
        url = url_of(serve(router))
        done = connect(url)
        assert (done.returncode, done.stdout) == (1, "")
        origin = url.removesuffix("/ws")
        assert said(done) == [
            f"{origin}: the server answers the handshake with 403: keep\\n\\x1b[31mout"
        ]

    def test_a_port_without_a_server(self, connect: Callable[..., Done]) -> None:
        done = connect("ws://127.0.0.1:9/")
        assert done.returncode == 1
        (line,) = said(done)
        assert line.startswith("ws://127.0.0.1:9: ")
        assert line.endswith("Connection refused")

    def test_it_goes_through_a_proxy(
        self, serve: Serve, connect: Callable[..., Done]
    ) -> None:
        url = url_of(serve(echo_router())).replace("localhost", NAME)
        with ForwardProxy("socks5h") as proxy:
            done = connect(url, "--proxy", proxy.url, input="hello\n")
        assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr

    @pytest.mark.parametrize("loop", LOOPS)
    def test_it_connects_again(self, serve: Serve, tmp_path: Path, loop: str) -> None:
        sessions = 0

        async def session(ws: WebSocket) -> None:
            nonlocal sessions
            sessions += 1
            await ws.send(f"session {sessions}")
            async for message in ws:
                if message == "restart":
                    await ws.close(1012)
                elif isinstance(message, str):
                    await ws.send(message)

        url = url_of(serve(ws_router(session)))
        with Child(
            command(url, "--reconnect", "--runtime", loop),
            env=environment(tmp_path),
            stdin=subprocess.PIPE,
        ) as child:
            assert child.stdin is not None
            child.wait_line("session 1")
            child.stdin.write("restart\n")
            child.stdin.flush()
            child.wait_line("session 2")
            child.stdin.write("hello\n")
            child.stdin.flush()
            child.wait_line("hello")
            child.stdin.close()
            assert child.wait(TIMEOUT) == 0, child.error_text
            assert "closed by the server: 1012" in child.error_text

    def test_help_is_in_groups(self, connect: Callable[..., Done]) -> None:
        text = connect("--help").stdout
        titles = re.findall(r"^(\w+):$", text, re.MULTILINE)
        assert titles == [
            "Connection",
            "TLS",
            "Handshake",
            "Messages",
            "Process",
            "Other",
        ]


class TestTls:
    @pytest.fixture(params=["h1s", "h2"])
    def wire(self, request: pytest.FixtureRequest) -> Wire:
        wire: Wire = request.param
        return wire

    def test_a_server_that_is_not_trusted_is_an_error_unless_told_otherwise(
        self, serve: Serve, connect: Callable[..., Done], tmp_path: Path
    ) -> None:
        url = url_of(serve(echo_router()))
        done = connect(url, input="hello\n")
        assert (done.returncode, done.stdout) == (1, "")
        assert "certificate refused" in done.stderr
        assert "--ca" not in done.stderr
        own = tmp_path / "data" / "tako" / "ca.pem"
        own.parent.mkdir(parents=True)
        own.touch()
        done = connect(url)
        assert done.stderr.endswith(f"to trust your own authority: --ca {own}\n")
        done = connect(url, "--insecure", input="hello\n")
        assert (done.returncode, done.stdout) == (0, "hello\n")

    def test_a_name_and_a_certificate_can_be_given(
        self,
        serve: Serve,
        connect: Callable[..., Done],
        ca_file: Path,
        ca: trustme.CA,
        tmp_path: Path,
    ) -> None:
        url = url_of(serve(echo_router()))
        ours = tmp_path / "me.pem"
        leaf = ca.issue_cert("me@a.test")
        leaf.private_key_and_cert_chain_pem.write_to_path(ours)
        options = ("--ca", ca_file, "--cert", ours, "--server-name")
        assert connect(url, *options, "localhost").returncode == 0
        done = connect(url, *options, "other.test")
        assert done.returncode == 1
        assert "Hostname mismatch" in done.stderr


class Terminal:
    """A pseudo-terminal with ``tako connect`` at it."""

    def __init__(self, url: str, tmp_path: Path, *options: str) -> None:
        self.ours, theirs = pty.openpty()
        attributes = termios.tcgetattr(theirs)
        attributes[3] &= ~termios.ECHO
        termios.tcsetattr(theirs, termios.TCSANOW, attributes)
        self.child = Child(
            command(url, *options),
            env=environment(tmp_path),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self.ours, text.encode())

    def until(self, pattern: str) -> str:
        """Read until ``pattern`` has come; return what matches, and forget it."""
        while (found := re.search(pattern, self.text, re.DOTALL)) is None:
            try:
                data = os.read(self.ours, 65_536)
            except OSError:  # the other side is closed
                data = b""
            assert data, self.text
            self.text += data.decode().replace("\r\n", "\n")
        self.text = self.text[found.end() :]
        return found[0]

    def __enter__(self) -> Self:
        self.child.__enter__()
        return self

    def __exit__(self, *details: Any) -> None:  # noqa: PYI036 - of a context manager
        self.child.__exit__(*details)
        os.close(self.ours)


@pytest.fixture
def terminal(
    serve: Serve, tmp_path: Path, wire: Wire, ca_file: Path
) -> Callable[..., Terminal]:
    def start(
        session: Callable[[WebSocket], Any] | None = None, *options: str
    ) -> Terminal:
        router = echo_router() if session is None else ws_router(session)
        server = serve(router)
        return Terminal(
            url_of(server), tmp_path, *wire_options(wire, ca_file), *options
        )

    return start


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("wire", ["h1", "h2"])
def test_a_terminal_is_for_people(
    terminal: Callable[..., Terminal], wire: Wire, loop: str
) -> None:
    with terminal(None, "--runtime", loop) as there:
        wires = {"h1": r"HTTP/1\.1", "h2": "HTTP/2"}
        there.until(f"connected to .* over {wires[wire]}")
        there.until("each line is a message; /ping, /close")
        there.until(r"latency: [0-9.]+ ms\n")
        there.type("hello\n")
        assert there.until("< .*?\n") == "< hello\n"
        there.type('{"a":["\N{OCTOPUS}"]}\n')
        expected = '< {\n    "a": [\n      "\N{OCTOPUS}"\n    ]\n  }\n'
        assert there.until("< .*  }\n") == expected
        there.type("\n//slash\n")
        assert there.until("< .*?\n") == "< /slash\n"
        there.type("/ping\n")
        there.until(r"latency: [0-9.]+ ms\n")
        there.type("/help\n")
        there.until("no such command")
        there.type("/close 999\n")
        there.until("999")
        there.type("/close 4000 well then\n")
        there.until("closed: 4000")
        assert there.child.wait(TIMEOUT) == 1


@pytest.mark.parametrize("wire", ["h1"])
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize(
    ("key", "code", "status"), [("\x04", 1000, 0), ("\x03", 1001, 130)]
)
def test_a_key_at_the_terminal_ends_it(
    terminal: Callable[..., Terminal], loop: str, key: str, code: int, status: int
) -> None:
    codes: list[int | None] = []

    async def session(ws: WebSocket) -> None:
        async for _ in ws:
            pass
        codes.append(ws.close_code)

    with terminal(session, "--runtime", loop) as there:
        there.until("latency")
        if status == 130:  # as a terminal does for its foreground
            there.child.send_signal(signal.SIGINT)
        else:
            there.type(key)
        there.until(f"closed: {code}")
        assert there.child.wait(TIMEOUT) == status
    assert codes == [code]


@pytest.mark.parametrize("wire", ["h1"])
def test_nothing_controls_the_terminal(terminal: Callable[..., Terminal]) -> None:
    async def session(ws: WebSocket) -> None:
        await ws.send("\x1b]0;title\x07\ta\u202eb\nc")
        await ws.send(bytes(range(100)))
        await ws.send('["\x1b"]')
        await ws.send('{"a": ')
        await ws.close(4000, "\x1b[2J")

    with terminal(session) as there:
        assert there.until("< .*?  c\n") == "< \\x1b]0;title\\x07\ta\\u202eb\n  c\n"
        shown = there.until(r"< .*?\n")
        assert shown == f"< (100 bytes) {bytes(range(64)).hex(' ')}...\n"
        assert there.until(r"< .*?\n") == '< ["\\x1b"]\n'
        assert there.until(r"< .*?\n") == '< {"a": \n'
        there.until(r"closed by the server: 4000 \\x1b\[2J")
        assert there.child.wait(TIMEOUT) == 1
