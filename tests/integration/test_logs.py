"""What ``tako serve`` says: text or JSON, request ids, terminals, start and end."""

import datetime
import json
import os
import pty
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from tako.testing.peer import connect
from tests.integration.test_cli import APPS, command, environment, run, serving
from tests.integration.test_workers import wait_until, workers_of
from tests.support.hosts import Host
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.server import Credentials


LOGGING = """
import asyncio, logging, sys
import tako
from tako import Request, Response, Router, TakoWs

log = logging.getLogger("shop")
log.setLevel("INFO")
router = Router()

async def later():
    await tako.sleep(0)
    log.info("in a task")

async def work():
    log.info("in a handler")
    if "trio" in sys.argv:
        import trio
        async with trio.open_nursery() as nursery:
            nursery.start_soon(later)
        await trio.to_thread.run_sync(log.info, "in a thread")
    else:
        await asyncio.create_task(later())
        await asyncio.to_thread(log.info, "in a thread")

async def body():
    log.info("in a body")
    yield b"made"

async def made(request: Request):
    await work()
    return Response(200, body=body())

async def broken():
    raise ValueError("one\\nforged\\x1b[31m")

async def session(ws):
    log.info("in a session")
    async for message in ws:
        pass

router.get("/made", made)
router.get("/broken", broken)
router.get("/ws", lambda request: TakoWs(request, session))

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("what is that?")
    told = [value for name, value in scope["headers"] if name == b"x-request-id"]
    log.info("told %s", told)
    await receive()
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] == "websocket.receive":
            log.info("in a session")
    elif scope["path"] == "/broken":
        raise ValueError("one\\nforged\\x1b[31m")
    else:
        await work()
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"made"})
        log.info("after the answer")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with things to serve."""
    (tmp_path / "apps.py").write_text(APPS)
    (tmp_path / "shop.py").write_text(LOGGING)
    return tmp_path


def records(host: Host) -> list[dict[str, Any]]:
    """Return what was logged: every line is an object of its own."""
    lines = host.output().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def messages(host: Host) -> list[str]:
    return [each["message"] for each in records(host)]


def stop(host: Host) -> int:
    """Send SIGTERM and wait for the end."""
    assert host.process is not None
    host.process.send_signal(signal.SIGTERM)
    return host.process.wait(TIMEOUT)


class TestRequestIds:
    """Whatever is logged for a request has its id."""

    @pytest.mark.parametrize(
        "loop",
        [("--loop", "asyncio"), ("--loop", "uvloop"), ("--runtime", "trio")],
        ids=" ".join,
    )
    @pytest.mark.parametrize("target", ["router", "app"])
    def test_every_record_of_a_request_has_its_id(
        self,
        folder: Path,
        credentials: Credentials,
        loop: tuple[str, str],
        target: str,
    ) -> None:
        pytest.importorskip(loop[1])
        options = ("--log-format", "json", "--access-log", *loop)
        ids = ("--request-id", "X-Request-Id")
        served = serving(folder, credentials, f"shop:{target}", *options, *ids)
        expected = dict[str, str]()
        with served as host:
            for wire in ("h1s", "h2"):
                with host.connect(wire) as connection:
                    sent = [("x-request-id", "the-clients")]
                    for path in ("/made", "/broken"):
                        response = connection.request("GET", path, sent)
                        own = response.header("x-request-id") or ""
                        assert re.fullmatch("[0-9a-f]{32}", own)
                        expected[own] = f"{path} {response.status}"
                with host.connect(wire) as connection:
                    ws = connection.websocket("/ws")
                    ws.send("told")
                    ws.close()
                    ws.expect_close()
                    expected[ws.response.header("x-request-id") or ""] = "/ws"
            host.wait_output('"logger": "tako.access"', times=6)
            assert stop(host) == 0
            found = records(host)
        assert len(expected) == 6
        of_requests = [each for each in found if each["logger"] != "tako"]
        assert {each["request_id"] for each in of_requests} == set(expected)
        assert all(
            "request_id" not in each for each in found if each not in of_requests
        )
        for own, what in expected.items():
            said = [each for each in of_requests if each["request_id"] == own]
            texts = [each["message"] for each in said]
            (access,) = [each for each in said if each["logger"] == "tako.access"]
            assert access["target"] == what.partition(" ")[0]
            if target == "app":
                assert f"told [{own.encode()!r}]" in texts
            if what == "/made 200":
                places = ["in a handler", "in a task", "in a thread"]
                places += ["in a body" if target == "router" else "after the answer"]
                assert set(places) <= set(texts)
            elif what == "/broken 500":
                (failure,) = [each for each in said if each["level"] == "ERROR"]
                assert failure["exception"].endswith("ValueError: one\nforged\x1b[31m")
            else:
                assert "in a session" in texts
                assert access["websocket"]["close_code"] == 1000
                assert access["websocket"]["messages_in"] == 1

    def test_ids_of_clients_are_taken_where_they_are_trusted(
        self, folder: Path, credentials: Credentials
    ) -> None:
        options = ("--request-id", "trace", "--request-id-trust", "--access-log")
        with serving(folder, credentials, "apps:router", *options) as host:
            with host.connect("h2") as connection:
                response = connection.request("GET", "/", [("trace", "abc.1")])
                assert response.header("trace") == "abc.1"
            host.wait_output("GET / HTTP/2 status=200")
            assert " id=abc.1\n" in host.output()

    def test_a_configuration_of_logging_has_them_too(
        self, folder: Path, credentials: Credentials
    ) -> None:
        config = {
            "version": 1,
            "formatters": {"own": {"format": "%(name)s [%(request_id)s] %(message)s"}},
            "handlers": {"own": {"class": "logging.StreamHandler", "formatter": "own"}},
            "loggers": {"shop": {"handlers": ["own"]}},
        }
        (folder / "log.json").write_text(json.dumps(config))
        options = ("--log-config", "log.json", "--request-id", "x-request-id")
        with serving(folder, credentials, "shop:router", *options) as host:
            with host.connect("h2") as connection:
                own = connection.request("GET", "/made").header("x-request-id")
            host.wait_output(f"shop [{own}] in a body")
            assert "listening on" in host.output()  # it silences no other logger


class TestStartAndEnd:
    """What is said by default, once each."""

    def test_one_process(self, folder: Path, credentials: Credentials) -> None:
        with serving(folder, credentials, "apps:router") as host:
            with host.connect("h2") as connection:
                connection.request("GET", "/")
                ws = connection.websocket("/ws")
                ws.echo("open")
                ws.answer_close = False
                assert host.process is not None
                host.process.send_signal(signal.SIGTERM)
                host.wait_output("draining: waiting for 1 connection, 1 session")
            assert host.process.wait(TIMEOUT) == 0
            lines = host.output().splitlines()
        prefix = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} "
        port = host.address[1]
        for line, text in zip(
            lines,
            (
                r"INFO     tako: tako .*: apps:router \(tako router\) on asyncio",
                rf"INFO     tako: listening on https://127.0.0.1:{port}: HTTP/2 and .*",
                r"INFO     tako: certificate .*: localhost, .*; expires .*",
                rf"INFO     tako: open https://localhost:{port}/",
                r"INFO     tako: stopping: clients have 30 s; a second signal .*",
                r"WARNING  tako.server: draining: waiting for 1 conn.*; a second .*",
                r"INFO     tako: stopped",
            ),
            strict=True,
        ):
            assert re.fullmatch(prefix + text, line), lines

    def test_workers(self, folder: Path, credentials: Credentials) -> None:
        options = ("--plain", "--workers", "2", "--log-format", "json")
        with serving(folder, credentials, "apps:router", *options) as host:
            wait_until(lambda: len(workers_of(host)) == 2, host)
            victim = max(workers_of(host))
            os.kill(victim, signal.SIGKILL)
            host.wait_output("was killed by SIGKILL")
            wait_until(lambda: len(workers_of(host) - {victim}) == 2, host)
            with host.connect("h1") as connection:
                assert connection.request("GET", "/").body == b"Hello"
            os.kill(host.pid, signal.SIGHUP)
            host.wait_output("ready again after")
            assert stop(host) == 0
            found = records(host)
        texts = [each["message"] for each in found]
        assert re.fullmatch(r"tako .*\(tako router\) on asyncio, 2 workers", texts[0])
        for text in ("listening on", "open http://localhost:", "stopping: ", "stopped"):
            assert len([each for each in texts if each.startswith(text)]) == 1, texts
        (killed,) = [each for each in found if "SIGKILL" in each["message"]]
        assert re.match(rf"worker \d \(pid {victim}\) was killed", killed["message"])
        assert (killed["level"], killed["logger"]) == ("WARNING", "tako")
        assert texts[-1] == "stopped"

    def test_reloading(self, folder: Path, credentials: Credentials) -> None:
        pytest.importorskip("watchfiles")
        options = ("--plain", "--reload", "--log-format", "json")
        with serving(folder, credentials, "apps:router", *options) as host:

            def noticed() -> bool:  # it may begin to watch later than to serve
                (folder / "apps.py").write_text(APPS.replace('"Hello"', '"Changed"'))
                return "apps.py changed, starting again" in messages(host)

            wait_until(noticed, host)
            host.wait_output("ready again after")
            with host.connect("h1") as connection:
                assert connection.request("GET", "/").body == b"Changed"
            host.wait_output('"logger": "tako.access"')  # on while developing
            (folder / "apps.py").write_text("raise RuntimeError('new bug')\n")
            host.wait_output("the old one stays until a file changes")
            (failure,) = [each for each in records(host) if "exception" in each]
            assert failure["message"].startswith("importing 'apps' failed: ")
            assert failure["level"] == "ERROR"
            assert failure["exception"].endswith("RuntimeError: new bug")
            times = host.output().count("ready again after")
            (folder / "apps.py").write_text(APPS)
            host.wait_output("ready again after", times=times + 1)
            assert stop(host) == 0

    @pytest.mark.parametrize(
        ("begins", "ends", "level", "text"),
        [
            (-20, 5, "WARNING", r"; expires .*, [45] days left"),
            (-20, -2, "WARNING", r"; EXPIRED on .*"),
            (2, 90, "WARNING", r"; NOT VALID before .* UTC"),
            (-20, 90, "INFO", r"; expires .*, (89|90) days left"),
        ],
    )
    def test_a_certificate_that_clients_refuse_is_a_warning(
        self,
        folder: Path,
        credentials: Credentials,
        begins: int,
        ends: int,
        level: str,
        text: str,
    ) -> None:
        now = datetime.datetime.now(datetime.UTC)
        leaf = trustme.CA().issue_cert(
            "a.test",
            not_before=now + datetime.timedelta(days=begins),
            not_after=now + datetime.timedelta(days=ends),
        )
        leaf.cert_chain_pems[0].write_to_path(folder / "a.pem")
        leaf.private_key_pem.write_to_path(folder / "a.key")
        files = ("--cert", "a.pem", "--key", "a.key", "--log-format", "json")
        with serving(folder, credentials, "apps:router", *files) as host:
            host.wait_output("open https://a.test:")
            (said,) = [it for it in records(host) if "certificate" in it["message"]]
        assert said["level"] == level
        assert re.fullmatch(r"certificate a\.pem: a\.test" + text, said["message"])


class Terminal:
    """The command with a terminal as its stderr."""

    def __init__(self, folder: Path, *options: str, **env: str) -> None:
        self.port = free_port()
        self._told, ours = pty.openpty()
        base = environment(folder, TERM="xterm", **env)
        for name in {"NO_COLOR", "FORCE_COLOR"} - set(env):
            base.pop(name, None)
        address = f"127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            command("serve", "apps:router", "--plain", "--bind", address, *options),
            cwd=folder,
            env=base,
            stdout=ours,
            stderr=ours,
        )
        os.close(ours)
        self.text = ""

    def wait(self, text: str) -> str:
        """Read until ``text`` was printed, or the end."""
        while text not in self.text:
            try:
                data = os.read(self._told, 4096)
            except OSError:  # Linux says so at the end of a terminal
                data = b""
            assert data, self.text
            self.text += data.decode()
        return self.text

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._told)


@contextmanager
def terminal(folder: Path, *options: str, **env: str) -> Iterator[Terminal]:
    shown = Terminal(folder, *options, **env)
    killer = threading.Timer(TIMEOUT, shown.process.kill)
    killer.start()
    try:
        yield shown
    finally:
        killer.cancel()
        shown.close()


class TestTerminals:
    @pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colours", "none"])
    def test_requests_are_logged_and_levels_coloured(
        self, folder: Path, env: dict[str, str]
    ) -> None:
        with terminal(folder, **env) as shown:
            shown.wait("open http://localhost:")
            with connect(("127.0.0.1", shown.port), "h1") as connection:
                connection.request("GET", "/")
            text = shown.wait("GET / HTTP/1.1 status=200")
        level = "INFO    " if env else "\x1b[32mINFO    \x1b[0m"
        assert f"{level} tako.access: 127.0.0.1:" in text
        assert ("\x1b" in text) is (not env)

    @pytest.mark.parametrize(
        ("options", "env", "chosen"),
        [
            ((), {}, "false"),
            (("--reload",), {}, "true"),
            (("--reload", "--no-access-log"), {}, "false"),
            (("--access-log",), {"TAKO_ACCESS_LOG": "0"}, "true"),
            ((), {"TAKO_ACCESS_LOG": "1"}, "true"),
            (("--config", "on.toml"), {}, "true"),
        ],
        ids=str,
    )
    def test_whether_requests_are_logged_can_be_seen(
        self, folder: Path, options: tuple[str, ...], env: dict[str, str], chosen: str
    ) -> None:
        (folder / "on.toml").write_text("access-log = true\n")
        arguments = ("serve", "apps:router", "--plain", "--print-config", *options)
        shown = run(folder, *arguments, **env).stdout
        assert re.search(rf"^access-log = {chosen} +# ", shown, re.MULTILINE), shown

    def test_at_a_terminal_they_are(self, folder: Path) -> None:
        with terminal(folder, "--print-config") as shown:
            shown.wait("access-log = true")


def test_access_lines_are_what_their_format_says(
    folder: Path, credentials: Credentials
) -> None:
    text = '{address} "{method} {target}{query}" {status:>4} {header[user-agent]}'
    options = ("--access-log", "--access-log-format", text)
    with serving(folder, credentials, "apps:router", *options) as host:
        with host.connect("h2") as connection:
            connection.request("GET", "/?a=1", [("user-agent", 'it"s')])
        printed = host.wait_output("127.0.0.1 ")
    assert '\n127.0.0.1 "GET /?a=1"  200 it\\"s\n' in printed


FIELDS = """
from tako import Request, Response, Router
from tako.asgi import AsgiApp

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("what is that?")
    await receive()
    headers = [(b"x-own", b"the app's")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"made"})

router = Router()
router.get("/", lambda: Response(200, {"x-own": "the app's"}))
router.get("/app/{*rest}", AsgiApp(app))
router.error_handler(lambda response: Response(500, body="sorry"))
router.get("/broken", lambda: 1 / 0)
"""


class TestFieldsOfResponses:
    OPTIONS = (
        *("--header", "X-Own: the command's"),
        *("--header", "x-more:one"),
        *("--header", "X-More: two, three"),
    )

    @pytest.mark.parametrize(
        ("target", "path", "status"),
        [
            ("router", "/", 200),
            ("router", "/app/", 200),
            ("router", "/missing", 404),
            ("router", "/broken", 500),
            ("app", "/", 200),
        ],
    )
    def test_each_has_those_that_it_lacks_on_both_wires(
        self,
        folder: Path,
        credentials: Credentials,
        target: str,
        path: str,
        status: int,
    ) -> None:
        (folder / "fields.py").write_text(FIELDS)
        with serving(folder, credentials, f"fields:{target}", *self.OPTIONS) as host:
            for wire in ("h1s", "h2"):
                with host.connect(wire) as connection:
                    response = connection.request("GET", path)
                assert response.status == status
                own = "the app's" if status == 200 else "the command's"
                found = [it for it in response.headers if it[0].startswith("x-")]
                assert sorted(found) == [
                    ("x-more", "one"),
                    ("x-more", "two, three"),
                    ("x-own", own),
                ]
