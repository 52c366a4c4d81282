"""The ``tako`` command: its errors, its start, its signals."""

import os
import platform
import re
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from wsproto.extensions import PerMessageDeflate

from tako.testing.peer import Wire, connect
from tako.testing.peer.h1 import H1Connection
from tako.testing.peer.h2 import H2Connection
from tako.testing.peer.websocket import HandshakeRefusedError
from tests.support.children import Child, run_child
from tests.support.hosts import ROOT, Host
from tests.support.patience import PATIENCE, TIMEOUT
from tests.support.ports import free_port
from tests.support.server import Credentials


APPS = """
import functools
from tako import Request, Router, TakoWs

router = Router()
router.get("/", lambda: "Hello")

async def echo(ws):
    async for message in ws:
        if isinstance(message, (str, bytes)):
            await ws.send(message)

async def ws(request: Request):
    return TakoWs(request, echo)

router.get("/ws", ws)

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        raise RuntimeError("what is that?")
    await send({"type": "http.response.start", "status": 200})
    body = scope["root_path"].encode() + b"!"
    await send({"type": "http.response.body", "body": body})

async def listening(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        print((await receive()), flush=True)

def make():
    return app

def make_badly():
    raise KeyError("settings")

async def failing(scope, receive, send):
    await receive()
    text = "Traceback (most recent call last):\\n  File x\\nRuntimeError: no database"
    await send({"type": "lifespan.startup.failed", "message": text})

class Namespace:
    inner = router

class Variadic:
    async def __call__(self, *args):
        await app(*args)

class Anything:
    async def __call__(self, *args, **more):
        await app(*args, **more)

def decorated(function):
    def wrapper(*args, **more):
        return function(*args, **more)
    return wrapper

async def configured(settings, scope, receive, send):
    await app(scope, receive, send)

def make_with_defaults(one=1, two=2, three=3):
    return app

class Methods:
    async def serve(self, scope, receive, send):
        await app(scope, receive, send)

variadic = Variadic()
anything = Anything()
wrapped = decorated(app)
partial = functools.partial(configured, {})
method = Methods().serve

class Double:
    def __init__(self, scope):
        pass
    async def __call__(self, receive, send):
        pass

def double(scope):
    return Double(scope)

def wsgi(environ, start_response):
    return []

async def make_later():
    return app

def named_only(*, settings):
    return app

number = 7
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with things to serve."""
    (tmp_path / "apps.py").write_text(APPS)
    (tmp_path / "broken.py").write_text("def broken(:\n")
    (tmp_path / "needy.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "leaving.py").write_text("raise SystemExit('no settings')\n")
    (tmp_path / "deep.py").write_text("import inner\n\ninner.fail()\n")
    (tmp_path / "inner.py").write_text(
        "def fail():\n    raise RuntimeError('two\\nlines')\n"
    )
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    """The process environment with tako in it, and a data folder of its own."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TAKO_")}
    return {
        **clean,
        "PYTHONPATH": str(ROOT),
        "XDG_DATA_HOME": str(folder / "data"),
        **more,
    }


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "tako.cli", *map(str, arguments)]


def run(
    folder: Path, *arguments: str | Path, **env: str
) -> subprocess.CompletedProcess[str]:
    return run_child(command(*arguments), cwd=folder, env=environment(folder, **env))


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """Return the error, which is one line, with exit code 2."""
    details, error = blame_of(done)
    assert not details, done.stderr
    return error


def blame_of(done: subprocess.CompletedProcess[str]) -> tuple[str, str]:
    """Return the traceback and the error behind it, with exit code 2."""
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    *details, error = done.stderr.splitlines()
    assert error.startswith("tako: "), done.stderr
    return "\n".join(details), error.removeprefix("tako: ")


class TestErrors:
    """One line each, with the fix; exit code 2."""

    @pytest.mark.parametrize(
        ("target", "text"),
        [
            ("nowhere:app", r"there is no module 'nowhere' in .*"),
            ("apps:nothing", r".*has no attribute 'nothing'; perhaps .*router.*"),
            ("apps", r".*write module:attribute, as in main:app"),
            ("apps:number", r".*is no Router, no ASGI 3 app .* but int"),
            ("apps:named_only", r".*is no Router, no ASGI 3 app .* but function"),
            ("apps:Double", r"'apps:Double' is an ASGI 2 app, which is called twice.*"),
            ("apps:double", r"'apps:double' is an ASGI 2 app, .*guarantee_single_.*"),
            ("apps:wsgi", r"'apps:wsgi' is a WSGI app: serve a2wsgi.*"),
            ("apps:make_later", r".*is an async function that is to return an app.*"),
            ("apps:failing", r".*startup of apps:failing failed: .*: no database"),
        ],
    )
    def test_what_cannot_be_served(self, folder: Path, target: str, text: str) -> None:
        done = run(folder, "serve", target, "--plain", "--bind", "127.0.0.1:0")
        assert re.fullmatch(text, error_of(done))

    @pytest.mark.parametrize(
        "options", [(), ("--workers", "2"), ("--reload",)], ids=["one", "two", "reload"]
    )
    @pytest.mark.parametrize(
        ("target", "shown", "text"),
        [
            (
                "apps:make_badly",
                r".*apps.py., line \d+, in make_badly.*KeyError: 'settings'",
                r"calling 'apps:make_badly' failed: KeyError: .*apps.py, line \d+\)",
            ),
            (
                "broken:app",
                r".*broken.py., line 1\n.*def broken\(:.*SyntaxError: .*",
                r"importing 'broken' failed: SyntaxError: .* \(.*broken.py, line 1\)",
            ),
            (
                "needy:app",
                r".*needy.py., line 1.*ModuleNotFoundError: .*",
                r"'needy' imports 'not_installed_anywhere', which .*needy.py, line 1\)",
            ),
            (
                "deep:app",
                r"Trace.*deep.py., line 3.*inner.py., line 2.*RuntimeError: two\nlines",
                r"importing 'deep' failed: Runtime.*two lines .*inner.py, line 2\)",
            ),
            (
                "leaving:app",
                r".*leaving.py., line 1.*SystemExit: no settings",
                r"importing 'leaving' failed: SystemExit: no set.*leaving.py, line 1\)",
            ),
        ],
    )
    def test_an_app_that_fails_shows_its_own_traceback_once(
        self,
        folder: Path,
        target: str,
        shown: str,
        text: str,
        options: tuple[str, ...],
    ) -> None:
        if "--reload" in options:
            pytest.importorskip("watchfiles")
        plain = ("--plain", "--bind", "127.0.0.1:0")
        done = run(folder, "serve", target, *plain, *options)
        details, error = blame_of(done)
        assert re.fullmatch(text, error), error
        assert re.fullmatch(shown, details, re.DOTALL), details
        assert str(ROOT / "tako") not in details
        assert "importlib" not in details
        assert done.stderr.count("tako: ") == 1

    @pytest.mark.parametrize(
        ("name", "content", "text"),
        [
            ("none.ini", None, "No such file or directory"),
            ("none", None, "No such file or directory"),
            ("a.ini", "[formatters]\nkeys=a\n", ".*formatter.*"),
            ("a.ini", "no section", ".*line: 1.*no section.*"),
            ("a.json", "{", ".*line 1 column 2.*"),
            ("a.toml", "a = \n", "Invalid value .at line 1, column 5."),
            (
                "a.json",
                '{"version": 1, "handlers": {"x": {"class": "no.such"}}}',
                "Unable to configure handler 'x': Cannot resolve 'no.such': .*",
            ),
        ],
    )
    def test_a_logging_configuration_that_cannot_be_used(
        self, folder: Path, name: str, content: str | None, text: str
    ) -> None:
        path = folder / name
        if content is not None:
            path.write_text(content)
        for more in ((), ("--workers", "2")):
            options = ("--plain", "--bind", "127.0.0.1:0", "--log-config", path, *more)
            error = error_of(run(folder, "serve", "apps:router", *options))
            assert re.fullmatch(f"--log-config {path}: {text}", error), error

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            ((), r"no certificate: give --cert and --key, or --dev-cert .*"),
            (("--cert", "c.pem"), r"--cert and --key go together.*"),
            (
                ("--cert", "c.pem", "--key", "k.pem"),
                r"failed to open cert file 'c.pem': No such file .*tako certs make",
            ),
            (("--plain", "--cert", "c.pem"), r"--plain does without TLS.*"),
            (("--plain", "--h2c"), r"--plain is HTTP/1.1 and --h2c is HTTP/2.*"),
            (("--plain", "--bind", "nonsense"), r"--bind nonsense: .*fd://number.*"),
            (("--plain", "--bind", "a.invalid:80"), r"cannot listen on a.invalid:80.*"),
            (("--plain", "--bind", "fd://199"), r".*199 is no open socket; choose.*"),
            (
                ("--plain", "--bind", "unix:/no/such/x"),
                r"cannot listen on /no/such/x: .*",
            ),
            (("--plain", "--bind", "unix:apps.py"), r"apps.py exists but is not .*"),
            (("--plain", "--workers", "0"), r"--workers is at least 1, not 0"),
            (
                ("--plain", "--drain-timeout", "soon"),
                r"--drain-timeout takes SECONDS.*",
            ),
            (("--plain", "--max-headers", "0"), r"--max-headers must be from 1.*"),
            (
                ("--plain", "--ws-ping-interval", "0"),
                r"--ws-ping-interval must be a positive number of seconds, not 0.0",
            ),
            (
                ("--plain", "--ws-ping-timeout", "soon"),
                r"--ws-ping-timeout takes SECONDS, not 'soon'",
            ),
            (
                ("--plain", "--tcp-keep-alive-idle", "0"),
                r"--tcp-keep-alive-idle must be from 1 to 32767, not 0",
            ),
            (
                ("--plain", "--drain-delay", "0"),
                r"--drain-delay must be a positive number of seconds, not 0.0",
            ),
            (
                ("--plain", "--drain-websockets", "later"),
                r"Invalid value for '--drain-websockets': 'later' is not .*see tako.*",
            ),
            (
                ("--plain", "--health-path", "healthz"),
                r"--health-path begins with \"/\" and .*, say, not 'healthz'",
            ),
            (
                ("--plain", "--health-lag", "soon"),
                r"--health-lag takes SECONDS, not 'soon'",
            ),
            (("--plain", "--alpn", "h3"), r".*alpn.*h3.*"),
            (("--plain", "--accept-backoff", "1"), r"--accept-backoff takes INIT.*"),
            (
                ("--plain", "--forwarded-allow-ips", "10.0.0.1/8,unix"),
                r"--forwarded-allow-ips takes addresses, .*: 10.0.0.1/8 has host.*",
            ),
            (
                ("--plain", "--forwarded-allow-ips", "proxy.test"),
                r"--forwarded-allow-ips takes .*: 'proxy.test' does not appear to be.*",
            ),
            (
                ("--plain", "--proxy-protocol", "10.0.0.1/8"),
                r"--proxy-protocol takes .*: '10.0.0.1/8' is no network: .*",
            ),
            (
                ("--plain", "--proxy-protocol", "yes"),
                r"--proxy-protocol takes .*'yes'.*",
            ),
            (("--plain", "--workers", "513"), r"--workers is at most 512, not 513"),
            (
                ("--plain", "--worker-timeout", "0.5"),
                r"--worker-timeout is at least 1 s, not 0.5 s",
            ),
            (
                ("--plain", "--worker-timeout", "soon"),
                r"--worker-timeout takes SECONDS, not 'soon'",
            ),
            (
                ("--plain", "--worker-timeout", "inf"),
                r"--worker-timeout must be a positive number of seconds, not inf",
            ),
            (("--plain", "--max-requests", "0"), r".*'--max-requests': 0 is not in.*"),
            (
                ("--plain", "--max-requests", "many"),
                r".*'--max-requests': 'many' is not a valid integer range.*",
            ),
            (
                ("--plain", "--max-requests-jitter", "5"),
                r"--max-requests-jitter goes with --max-requests: give both",
            ),
            (
                ("--plain", "--max-requests", "5", "--max-requests-jitter", "-1"),
                r".*'--max-requests-jitter': -1 is not in.*",
            ),
            (
                ("--plain", "--max-worker-rss", "0"),
                r".*'--max-worker-rss': 0 is not in.*",
            ),
            (("--plain", "--runtime", "twisted"), r".*'twisted'.*see tako serve.*"),
            (("--plain", "--runtime", "trio", "--loop", "uvloop"), r"--loop uvloop.*"),
            (("--plain", "--log-config", "none.toml"), r"--log-config none.toml: .*"),
            (("--plain", "--reload-dir", "no-such"), r"--reload-dir no-such: .*"),
            (
                ("--plain", "--reload-include", "*.html"),
                "--reload-include needs --reload",
            ),
            (
                ("--plain", "--reload-exclude", "*.html"),
                "--reload-exclude needs --reload",
            ),
            (
                ("--plain", "--bind-plain", "127.0.0.1:0"),
                r"--bind-plain is beside TLS, which --plain does without: .*",
            ),
            (
                ("--redirect-http", "--dev-cert"),
                r"--redirect-http needs an address .*: --bind-plain ADDRESS",
            ),
            (("--https-port", "443", "--dev-cert"), r"--https-port .*redirect-http"),
            (
                ("--https-port", "0", "--dev-cert"),
                r"Invalid value for '--https-port': 0 is not in the range.*",
            ),
            (
                ("--bind-plain", "no-port", "--dev-cert", "--bind", "127.0.0.1:0"),
                r"--bind-plain no-port: an address is .*",
            ),
            (
                ("--plain", "--allowed-hosts", "https://a.test"),
                r"--allowed-hosts: 'https://a.test' is not a host",
            ),
            (("--plain", "--root-path", "x"), r"--root-path begins with '/'.*"),
            (
                ("--plain", "--access-log-format", "{stats}"),
                r"--access-log-format: there is no field 'stats', but peer, .*",
            ),
            (
                ("--plain", "--access-log-format", "{status:zz}"),
                r"--access-log-format: {status:zz}: .*",
            ),
            (("--plain", "--log-format", "xml"), r".*'--log-format': 'xml'.*"),
            (("--plain", "--log-level", "loud"), r".*'--log-level': 'loud'.*"),
            (
                ("--plain", "--request-id", "a b"),
                r"--request-id takes the name .*'a b'.*",
            ),
            (
                ("--plain", "--request-id", "Connection"),
                r"--request-id Connection: the server itself says .*",
            ),
            (
                ("--plain", "--request-id-trust"),
                r"--request-id-trust needs .*: --request-id NAME",
            ),
            (("--plain", "--header", "x"), r"--header takes NAME:VALUE, not 'x'"),
            (("--plain", "--header", "a b: c"), r"--header 'a b: c': .*header name.*"),
            (("--plain", "--header", "x: a\x01"), r"--header 'x: a.*': .*control .*"),
            (("--plain", "--header", "x: a\nb"), r"--header 'x: a.nb': .*"),
            (("--plain", "--header", "x: \u20ac"), r"--header .*: .*ISO-8859-1"),
            (
                ("--plain", "--header", "Content-Length: 1"),
                r"--header Content-Length: the server itself says .*",
            ),
            (
                ("--plain", "--header", "Sec-WebSocket-Accept: 1"),
                r"--header Sec-WebSocket-Accept: the server itself says .*",
            ),
            (("--bogus",), r"No such option.*--bogus.*"),
        ],
    )
    def test_options_that_cannot_work(
        self, folder: Path, arguments: tuple[str, ...], text: str
    ) -> None:
        target = "apps:app" if "--root-path" in arguments else "apps:router"
        error = error_of(run(folder, "serve", target, *arguments))
        assert re.fullmatch(text, error), error

    def test_a_missing_key(self, folder: Path, credentials: Credentials) -> None:
        files = ("--cert", credentials.cert, "--key", "k.pem")
        error = error_of(run(folder, "serve", "apps:router", *files))
        assert re.fullmatch(r"failed to open key file 'k.pem': .*certs make", error)

    @pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
    def test_a_key_that_does_not_match(
        self, folder: Path, credentials: Credentials, workers: tuple[str, ...]
    ) -> None:
        other = trustme.CA().issue_cert("localhost")
        key = folder / "other.pem"
        key.write_bytes(other.private_key_pem.bytes())
        options = ("--bind", "127.0.0.1:0", "--cert", credentials.cert, "--key", key)
        error = error_of(run(folder, "serve", "apps:router", *options, *workers))
        assert error.endswith("do not match")

    @pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
    def test_a_port_in_use(self, folder: Path, workers: tuple[str, ...]) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
            options = ("--plain", "--bind", address, *workers)
            done = run(folder, "serve", "apps:router", *options)
        assert re.fullmatch(
            rf"cannot listen on {address}: Address already in use; choose another.*",
            error_of(done),
        )

    @pytest.mark.parametrize("target", ["nowhere:app", "apps:failing"])
    def test_workers_that_cannot_start_say_so_once(
        self, folder: Path, target: str
    ) -> None:
        options = ("--plain", "--bind", "127.0.0.1:0", "--workers", "3")
        assert error_of(run(folder, "serve", target, *options))

    def test_click_missing_is_said_clearly(self, folder: Path) -> None:
        (folder / "click.py").write_text(
            "raise ModuleNotFoundError('no click', name='click')\n"
        )
        done = run(folder, "serve", "apps:router", PYTHONPATH=f"{folder}:{ROOT}")
        hint = "the command needs click: pip install 'tako-server[cli]'"
        assert error_of(done) == hint

    def test_help_and_version(self, folder: Path) -> None:
        assert run(folder, "--version").stdout.startswith("tako ")
        help_text = run(folder, "serve", "--help").stdout
        assert "--h2-max-concurrent-streams NUMBER" in help_text
        assert "--max-connections NUMBER" in help_text
        assert "none: no limit" in help_text
        assert "TAKO_" in help_text
        assert run(folder).returncode == 2


class TestConfigFile:
    """What ``tako.toml`` says, beside the command line and the environment."""

    @staticmethod
    def write(folder: Path, text: str) -> None:
        (folder / "tako.toml").write_text(text)

    def test_the_command_line_comes_first_then_the_environment(
        self, folder: Path
    ) -> None:
        self.write(
            folder,
            'target = "apps:router"\nplain = true\nmax-headers = 5\n'
            "max-target-bytes = 500\ndrain-timeout = 2\n"
            'drain-websockets = "end"\n',
        )
        done = run(
            folder,
            *("serve", "--print-config", "--max-headers", "7"),
            TAKO_MAX_HEADERS="6",
            TAKO_MAX_TARGET_BYTES="600",
        )
        assert done.returncode == 0, done.stderr
        said = {
            line.partition(" =")[0]: re.split(" +# ", line.partition("= ")[2])
            for line in done.stdout.splitlines()
        }
        assert said["target"] == ['"apps:router"', "tako.toml:1"]
        assert said["max-headers"] == ["7", "command line"]
        assert said["max-target-bytes"] == ["600", "TAKO_MAX_TARGET_BYTES"]
        assert said["drain-timeout"] == ["2", "tako.toml:5"]
        assert said["drain-websockets"] == ['"end"', "tako.toml:6"]
        assert said["health-path"] == ['"none"', "default"]
        assert said["bind"] == ['["127.0.0.1:8000"]', "default"]
        assert said["max-connections"] == ['"none"', "default"]
        assert said["cert"] == ["[]", "default"]
        assert "# log-config" in said

    def test_what_is_printed_is_such_a_file(self, folder: Path) -> None:
        options = ("serve", "apps:router", "--plain", "--alpn", "http/1.1")
        first = run(folder, *options, "--print-config").stdout
        (folder / "own.toml").write_text(first)
        second = run(folder, "serve", "--config", "own.toml", "--print-config").stdout
        assert [line.partition(" #")[0].rstrip() for line in second.splitlines()] == [
            line.partition(" #")[0].rstrip() for line in first.splitlines()
        ]
        assert re.search(r"alpn = .* # own\.toml:\d+\n", second)

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            (
                "plain = true\nworkers = 0",
                "tako.toml:3: --workers is at least 1, not 0",
            ),
            ("max-headers = 0", "tako.toml:2: --max-headers must be from 1 to 10000"),
            (
                "plain = true\nworker-timeout = 0.5",
                "tako.toml:3: --worker-timeout is at least 1 s, not 0.5 s",
            ),
            (
                "worker-timeout = true",
                "tako.toml:2: worker-timeout takes a number or a text",
            ),
            ("max-headers = 1.5", "tako.toml:2: --max-headers takes NUMBER, not '1.5'"),
            ('loop = "x"', "tako.toml:2: Invalid value for '--loop': 'x' is not"),
            ("plain = true\nh2c = true", "tako.toml:2: --plain is HTTP/1.1 and --h2c"),
            ('plain = true\nbind = "x"', "tako.toml:3: --bind x: "),
            (
                'drain-websockets = "x"',
                "tako.toml:2: Invalid value for '--drain-websockets': 'x' is not",
            ),
            ("drain-websockets = 5", "tako.toml:2: drain-websockets takes a text"),
            ('health-path = "x"', "tako.toml:2: --health-path begins with"),
            ("health-path = 5", "tako.toml:2: health-path takes a text"),
            ('cert = "no.pem"\nkey = "no.pem"', "tako.toml:2: failed to open cert "),
            ("plain = true\nworker = 2", "tako.toml:3: there is no option 'worker'"),
        ],
    )
    def test_what_is_wrong_has_its_line(
        self, folder: Path, text: str, said: str
    ) -> None:
        self.write(folder, f'target = "apps:router"\n{text}\n')
        assert error_of(run(folder, "serve", "--check")).startswith(said)

    def test_what_the_command_line_says_has_no_line(self, folder: Path) -> None:
        self.write(folder, "workers = 2")
        done = run(folder, "serve", "apps:router", "--plain", "--workers", "0")
        assert error_of(done) == "--workers is at least 1, not 0"

    def test_checks_and_serves_nothing(
        self, folder: Path, credentials: Credentials
    ) -> None:
        files = ("--cert", credentials.cert, "--key", credentials.key)
        for target, kind in (("apps:router", "tako router"), ("apps:app", "ASGI app")):
            done = run(folder, "serve", target, *files, "--check")
            assert done.returncode == 0, done.stderr
            assert done.stderr == f"tako: {target} ({kind}) can be served\n"

    def test_checks_the_certificate_and_the_app(
        self, folder: Path, credentials: Credentials
    ) -> None:
        key = folder / "other.pem"
        key.write_bytes(trustme.CA().issue_cert("localhost").private_key_pem.bytes())
        files = ("--cert", credentials.cert, "--key", key)
        done = run(folder, "serve", "apps:router", *files, "--check")
        assert error_of(done).endswith("do not match")
        done = run(folder, "serve", "missing:app", "--plain", "--check")
        assert error_of(done).startswith("there is no module 'missing'")

    @pytest.mark.parametrize("workers", [1, 2])
    def test_serves_what_the_file_says(
        self, folder: Path, credentials: Credentials, workers: int
    ) -> None:
        port = free_port()
        self.write(
            folder,
            f'target = "apps:router"\nplain = true\nworkers = {workers}\n'
            f'bind = ["127.0.0.1:{port}"]\n',
        )
        address = ("127.0.0.1", port)
        env = environment(folder)
        host = Host(command("serve"), address, credentials, folder=folder, env=env)
        with host, host.connect("h1") as connection:
            assert connection.request("GET", "/").body == b"Hello"


def serving(
    folder: Path, credentials: Credentials, *arguments: str | Path, **env: str
) -> Host:
    """Return a server of the folder's apps on a free port, over TLS unless --plain."""
    port = free_port()
    files: tuple[str | Path, ...] = ()
    if not {"--plain", "--h2c", "--dev-cert", "--cert"} & set(map(str, arguments)):
        files = ("--cert", credentials.cert, "--key", credentials.key)
    bind = ("--bind", f"127.0.0.1:{port}")
    return Host(
        command("serve", *arguments, *files, *bind),
        ("127.0.0.1", port),
        credentials,
        folder=folder,
        env=environment(folder, **env),
    )


class TestCertificates:
    """Several certificates, encrypted keys, certificates of clients."""

    @staticmethod
    def issued(folder: Path, ca: trustme.CA, name: str) -> tuple[str, Path, str, Path]:
        """Write a certificate and its key; return the options that name them."""
        leaf = ca.issue_cert(name)
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(cert)
        leaf.private_key_pem.write_to_path(key)
        return "--cert", cert, "--key", key

    @staticmethod
    def get(
        host: Host, context: ssl.SSLContext, name: str, other: str | None = None
    ) -> bytes:
        """Ask for ``other``, else ``name``, on a connection made for ``name``."""
        with (
            socket.create_connection(host.address, TIMEOUT) as raw,
            context.wrap_socket(raw, server_hostname=name) as tls,
        ):
            fields = f"Host: {other or name}\r\nConnection: close\r\n\r\n"
            tls.sendall(b"GET / HTTP/1.1\r\n" + fields.encode())
            with tls.makefile("rb") as answer:
                return answer.read().split(b"\r\n", 1)[0]

    def test_the_names_in_them_decide(
        self, folder: Path, credentials: Credentials
    ) -> None:
        ca = trustme.CA()
        context = ssl.create_default_context()
        ca.configure_trust(context)
        files = (
            *self.issued(folder, ca, "a.test"),
            *self.issued(folder, ca, "b.test"),
            *self.issued(folder, ca, "*.c.test"),
        )
        ok, elsewhere = b"HTTP/1.1 200 OK", b"HTTP/1.1 421 Misdirected Request"
        with serving(folder, credentials, "apps:router", *files) as host:
            for name in ("a.test", "b.test", "x.c.test"):
                assert self.get(host, context, name) == ok
            assert self.get(host, context, "a.test", "b.test") == elsewhere
            with pytest.raises(ssl.SSLCertVerificationError, match=r"d\.test"):
                self.get(host, context, "d.test")
            printed = host.output()
        assert re.findall(r"certificate .*\.pem: (\S+);", printed) == [
            *("a.test", "b.test", "*.c.test")
        ]

    @pytest.mark.parametrize("where", ["file", "environment"])
    def test_a_key_may_be_encrypted(
        self, folder: Path, credentials: Credentials, where: str
    ) -> None:
        key = load_pem_private_key(credentials.key.read_bytes(), None)
        encrypted = folder / "encrypted.pem"
        encrypted.write_bytes(
            key.private_bytes(
                Encoding.PEM,
                PrivateFormat.PKCS8,
                BestAvailableEncryption(b"a secret"),
            )
        )
        (folder / "password").write_text("a secret\nand a second line\n")
        files = ("--cert", credentials.cert, "--key", encrypted)
        env = {"TAKO_KEY_PASSWORD": "a secret"}
        options: tuple[str, ...] = ()
        if where == "file":
            options, env = ("--key-password-file", "password"), {}
        with (
            serving(
                folder, credentials, "apps:router", *files, *options, **env
            ) as host,
            host.connect("h2") as connection,
        ):
            assert connection.request("GET", "/").body == b"Hello"
        done = run(folder, "serve", "apps:router", *files, "--check")
        assert "password" in error_of(done)

    @pytest.mark.parametrize("mode", [None, "required", "optional", "none"])
    def test_clients_show_certificates(
        self, folder: Path, credentials: Credentials, ca: trustme.CA, mode: str | None
    ) -> None:
        clients = trustme.CA()
        clients.cert_pem.write_to_path(folder / "clients.pem")
        options: tuple[str, ...] = ("--client-ca", "clients.pem")
        if mode is not None:
            options += ("--client-cert", mode)
        files = ("--cert", credentials.cert, "--key", credentials.key)
        with serving(folder, credentials, "apps:router", *files, *options) as host:
            context = ssl.create_default_context()
            ca.configure_trust(context)
            if mode in {None, "required"}:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    assert self.get(host, context, "localhost")
            else:
                assert self.get(host, context, "localhost") == b"HTTP/1.1 200 OK"
            clients.issue_cert("me@client.test").configure_cert(context)
            assert self.get(host, context, "localhost") == b"HTTP/1.1 200 OK"

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (
                ("--cert", "a.pem", "--cert", "b.pem", "--key", "a.key"),
                "--cert and --key go together: .*, and a key for each certificate",
            ),
            (
                ("--dev-cert", "--client-cert", "required"),
                "--client-cert required needs the authorities .*: --client-ca FILE",
            ),
            (
                ("--dev-cert", "--client-ca", "no.pem"),
                "--client-ca no.pem: failed to open .*no.pem.*",
            ),
            (
                ("--plain", "--client-ca", "no.pem"),
                "--client-ca is for TLS, which --plain does without",
            ),
            (
                ("--dev-cert", "--key-password-file", "no.txt"),
                "--key-password-file no.txt: No such file or directory",
            ),
            (("--plain", "--backlog", "0"), "Invalid value for '--backlog': .*"),
            (
                ("--plain", "--uds-mode", "888"),
                "--uds-mode takes permissions in octal, as in 660, not '888'",
            ),
            (
                ("--plain", "--ws-max-message-size", "0"),
                "Invalid value for '--ws-max-message-size': .*",
            ),
        ],
    )
    def test_what_cannot_work_is_said(
        self, folder: Path, options: tuple[str, ...], said: str
    ) -> None:
        done = run(folder, "serve", "apps:router", *options, XDG_DATA_HOME=str(folder))
        assert re.fullmatch(said, error_of(done))


class TestSecurityOptions:
    def test_origins_that_may_open_websockets(
        self, folder: Path, credentials: Credentials
    ) -> None:
        options = ("--allowed-origins", "https://a.test, https://b.test")
        with serving(folder, credentials, "apps:listening", *options) as host:
            for wire in ("h1s", "h2"):
                with host.connect(wire) as connection:
                    origin = [("origin", "https://b.test")]
                    connection.websocket("/ws", headers=origin).close()
                with host.connect(wire) as connection:
                    origin = [("origin", "https://c.test")]
                    with pytest.raises(HandshakeRefusedError) as refused:
                        connection.websocket("/ws", headers=origin)
                    assert refused.value.response.status == 403

    def test_a_malformed_origin_is_said(self, folder: Path) -> None:
        options = ("--plain", "--bind", "127.0.0.1:0", "--allowed-origins", "a.test")
        error = error_of(run(folder, "serve", "apps:app", *options))
        assert error.startswith("--allowed-origins: 'a.test' is not an origin")

    @pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
    def test_the_permissions_of_a_unix_socket(
        self, folder: Path, credentials: Credentials, workers: tuple[str, ...]
    ) -> None:
        path = folder / "x.sock"
        options = ("--plain", "--bind", f"unix:{path}", "--uds-mode", "606", *workers)
        with serving(folder, credentials, "apps:router", *options) as host:
            host.wait_output(f"unix:{path}")
            assert stat.S_IMODE(path.stat().st_mode) == 0o606


class TestLimits:
    """What README's tables promise, of a started command."""

    @pytest.mark.parametrize("wire", ["h1s", "h2"])
    def test_messages_and_heads_have_limits(
        self, folder: Path, credentials: Credentials, wire: Wire
    ) -> None:
        options = ("--ws-max-message-size", "100", "--max-header-bytes", "4096")
        with serving(folder, credentials, "apps:listening", *options) as host:
            with host.connect(wire) as connection:
                ws = connection.websocket("/ws")
                ws.send(b"x" * 101)
                assert ws.expect_close()[0] == 1009
            with host.connect(wire) as connection:
                fields = [("x-large", "x" * 4096)]
                assert connection.request("GET", "/", fields).status == 431

    @pytest.mark.parametrize("wire", ["h1s", "h2"])
    def test_messages_are_compressed_for_clients_that_offer_it(
        self, folder: Path, credentials: Credentials, wire: Wire
    ) -> None:
        options = ("apps:listening", "--compression")
        with (
            serving(folder, credentials, *options) as host,
            host.connect(wire) as connection,
        ):
            ws = connection.websocket("/ws", extensions=[PerMessageDeflate()])
            agreed = ws.response.header("sec-websocket-extensions")
            assert agreed is not None
            assert agreed.startswith("permessage-deflate")

    def test_connections_beyond_the_limit_wait(
        self, folder: Path, credentials: Credentials
    ) -> None:
        options = ("apps:router", "--plain", "--max-connections", "1")
        with serving(folder, credentials, *options) as host, ExitStack() as stack:
            with host.connect("h1") as first:
                assert first.request("GET", "/").body == b"Hello"
                second = stack.enter_context(host.connect("h1"))
                assert isinstance(second, H1Connection)
                second.send_request("GET", "/")
                with pytest.raises(TimeoutError):
                    second.socket.receive(0.2)
            assert second.read_response().body == b"Hello"

    def test_idle_and_slow_clients_are_ended(
        self, folder: Path, credentials: Credentials
    ) -> None:
        options = (
            *("--keep-alive-timeout", str(PATIENCE)),
            *("--header-read-timeout", str(PATIENCE)),
            *("--tls-handshake-timeout", str(5 * PATIENCE)),
        )
        with (
            serving(folder, credentials, "apps:router", *options) as host,
            socket.create_connection(host.address, TIMEOUT) as silent,
        ):
            with host.connect("h1s") as connection:
                assert isinstance(connection, H1Connection)
                assert connection.request("GET", "/").body == b"Hello"
                connection.expect_closed()
            with host.connect("h1s") as connection:
                assert isinstance(connection, H1Connection)
                connection.send_raw(b"GET / HTTP/1.1\r\nhost")
                assert connection.read_response().status == 408
            assert silent.recv(1) == b""

    def test_streams_and_header_lists_have_limits(
        self, folder: Path, credentials: Credentials
    ) -> None:
        streams = ("--h2-max-concurrent-streams", "7")
        lists = ("--h2-max-header-list-size", "4096")
        with (
            serving(folder, credentials, "apps:router", *streams, *lists) as host,
            host.connect("h2") as connection,
        ):
            assert isinstance(connection, H2Connection)
            settings = connection.wait_settings()
            assert (settings[3], settings[6]) == (7, 4096)  # RFC 9113 section 6.5.2

    def test_alpn_offers_what_is_listed(
        self, folder: Path, credentials: Credentials
    ) -> None:
        with serving(folder, credentials, "apps:router", "--alpn", "h2") as host:
            with host.connect("h2") as connection:
                assert connection.request("GET", "/").body == b"Hello"
            with pytest.raises(ssl.SSLError):
                host.connect("h1s")

    @pytest.mark.parametrize("wire", ["h1s", "h2"])
    def test_only_hosts_that_are_named_are_served(
        self, folder: Path, credentials: Credentials, wire: Wire
    ) -> None:
        options = ("--allowed-hosts", "localhost,*.below.test")
        with serving(folder, credentials, "apps:app", *options) as host:
            for name, status in (
                ("localhost", 200),
                ("a.below.test", 200),
                ("other.test", 421),
            ):
                with host.connect(wire) as connection:
                    connection.authority = name
                    assert connection.request("GET", "/").status == status


class TestServing:
    @pytest.mark.parametrize("target", ["apps:router", "apps:Namespace.inner"])
    def test_a_router_on_both_wires(
        self, folder: Path, credentials: Credentials, target: str
    ) -> None:
        with serving(folder, credentials, target) as host:
            for wire in ("h1s", "h2"):
                with host.connect(wire) as connection:
                    assert connection.request("GET", "/").body == b"Hello"
                    connection.websocket("/ws").echo("over " + wire)
            printed = host.output()
        port = host.address[1]
        assert f"listening on https://127.0.0.1:{port}: HTTP/2 and HTTP/1.1" in printed
        assert re.search(
            r"certificate .*cert.pem: localhost, .*; expires \d{4}-", printed
        )
        assert "(tako router)" in printed
        assert "OpenSSL" not in printed

    def test_names_what_it_stands_on_when_asked(
        self, folder: Path, credentials: Credentials
    ) -> None:
        with serving(folder, credentials, "apps:router", "-v") as host:
            with host.connect("h2") as connection:
                assert connection.request("GET", "/").body == b"Hello"
            printed = host.output()
        said = f" CPython {platform.python_version()}, {ssl.OPENSSL_VERSION}\n"
        assert said in printed

    @pytest.mark.parametrize(
        "name",
        [
            "app",
            "make",
            "variadic",
            "anything",
            "wrapped",
            "partial",
            "method",
            "Variadic",
            "make_with_defaults",
        ],
    )
    def test_an_app_or_a_factory(
        self, folder: Path, credentials: Credentials, name: str
    ) -> None:
        options = (f"apps:{name}", "--plain", "--root-path", "/behind")
        with serving(folder, credentials, *options) as host, host.connect("h1") as peer:
            assert peer.request("GET", "/").body == b"/behind!"
            assert "ASGI app" in host.output()

    def test_trio_and_h2c(self, folder: Path, credentials: Credentials) -> None:
        pytest.importorskip("trio")
        options = ("apps:router", "--h2c", "--runtime", "trio")
        with serving(folder, credentials, *options) as host:
            with host.connect("h2c") as connection:
                connection.websocket("/ws").echo("on trio")
            assert "on trio" in host.output()

    @pytest.mark.parametrize("wire", ["h1s", "h2"])
    def test_a_client_that_vanishes_is_lost(
        self, folder: Path, credentials: Credentials, wire: Wire
    ) -> None:
        options = ("--ws-ping-interval", "0.1", "--ws-ping-timeout", "0.1")
        with (
            serving(folder, credentials, "apps:listening", *options) as host,
            host.connect(wire) as connection,
        ):
            connection.websocket("/ws")  # and reads nothing any more
            host.wait_output("'websocket.disconnect', 'code': 1006")

    def test_options_come_from_the_environment(
        self, folder: Path, credentials: Credentials
    ) -> None:
        env = {"TAKO_PLAIN": "1", "TAKO_ACCESS_LOG": "1", "TAKO_MAX_HEADERS": "5"}
        port = free_port()
        arguments = command("serve", "apps:router", "--bind", f"127.0.0.1:{port}")
        with Host(
            arguments,
            ("127.0.0.1", port),
            credentials,
            folder=folder,
            env=environment(folder, **env),
        ) as host:
            with host.connect("h1") as connection:
                assert connection.request("GET", "/").status == 200
            host.wait_output("GET / HTTP/1.1")
            with host.connect("h1") as connection:
                many = [(f"X-{number}", "1") for number in range(5)]
                assert connection.request("GET", "/", many).status == 431

    @pytest.mark.parametrize(
        "options",
        [(), ("--runtime", "trio"), ("--workers", "2")],
        ids=["asyncio", "trio", "workers"],
    )
    def test_a_plain_address_beside_tls(
        self, folder: Path, credentials: Credentials, options: tuple[str, ...]
    ) -> None:
        plain = ("127.0.0.1", free_port())
        beside = ("--bind-plain", f"127.0.0.1:{plain[1]}")
        with serving(folder, credentials, "apps:router", *beside, *options) as host:
            with host.connect("h2") as connection:
                connection.websocket("/ws").echo("over TLS")
            with connect(plain, "h1") as connection:
                connection.websocket("/ws").echo("without")
            printed = host.output()
        tls = f"https://127.0.0.1:{host.address[1]}"
        assert f"listening on {tls}: HTTP/2 and HTTP/1.1\n" in printed
        assert f"listening on http://127.0.0.1:{plain[1]}: HTTP/1.1\n" in printed

    @pytest.mark.parametrize(
        ("options", "suffix"), [((), None), (("--https-port", "443"), "")]
    )
    def test_that_redirects(
        self,
        folder: Path,
        credentials: Credentials,
        options: tuple[str, ...],
        suffix: str | None,
    ) -> None:
        plain = ("127.0.0.1", free_port())
        beside = ("--bind-plain", f"127.0.0.1:{plain[1]}", "--redirect-http")
        with serving(folder, credentials, "apps:app", *beside, *options) as host:
            where = f":{host.address[1]}" if suffix is None else suffix
            host.wait_output("HTTP/1.1, all redirected to https\n")
            with connect(plain, "h1") as connection:
                response = connection.request("GET", "/a?b=c")
            assert response.status == 308
            assert response.header("location") == f"https://localhost{where}/a?b=c"
            with host.connect("h2") as connection:
                assert connection.request("GET", "/a?b=c").status == 200

    def test_a_plain_address_that_is_taken(
        self, folder: Path, credentials: Credentials
    ) -> None:
        with serving(folder, credentials, "apps:router") as host:
            taken = f"127.0.0.1:{host.address[1]}"
            files = ("--cert", credentials.cert, "--key", credentials.key)
            free = ("--bind", "127.0.0.1:0")
            done = run(
                folder, "serve", "apps:router", *files, *free, "--bind-plain", taken
            )
        assert re.fullmatch(
            rf"cannot listen on {taken}: .*--bind-plain.*", error_of(done)
        )

    def test_unix_sockets(self, folder: Path, credentials: Credentials) -> None:
        path = folder / "sock"
        options = ("apps:app", "--plain", "--bind", f"unix:{path}")
        with serving(folder, credentials, *options) as host:
            host.wait_output(f"unix:{path}")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(TIMEOUT)
                client.connect(str(path))
                client.sendall(
                    b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
                )
                with client.makefile("rb") as answer:
                    assert answer.read().endswith(b"\r\n\r\n!")
            host.process.send_signal(signal.SIGTERM)  # type: ignore[union-attr]
            assert host.process.wait(TIMEOUT) == 0  # type: ignore[union-attr]
        assert not path.exists()

    def test_a_certificate_of_the_local_authority(
        self, folder: Path, credentials: Credentials
    ) -> None:
        import ssl

        from tako.testing.peer import connect

        with serving(folder, credentials, "apps:router", "--dev-cert") as host:
            authority = folder / "data" / "tako" / "ca.pem"
            context = ssl.create_default_context(cafile=str(authority))
            with connect(host.address, "h2", context) as connection:
                assert connection.request("GET", "/").body == b"Hello"
            assert str(authority) in host.output()
            key = folder / "data" / "tako" / "ca-key.pem"
            assert key.stat().st_mode & 0o777 == 0o600

    @pytest.mark.parametrize("how", ["option", "variable", "not in production"])
    def test_the_secrets_of_connections(
        self, folder: Path, credentials: Credentials, how: str
    ) -> None:
        keylog = folder / "secrets"
        options: tuple[str, ...] = ("--keylog", str(keylog))
        env = {}
        if how != "option":
            env = {"SSLKEYLOGFILE": str(keylog)}
            options = ("--dev-cert",) if how == "variable" else ()
        with serving(folder, credentials, "apps:router", *options, **env) as host:
            context = ssl._create_unverified_context()
            with connect(host.address, "h2", context) as connection:
                assert connection.request("GET", "/").body == b"Hello"
            told = f"are written to {keylog}" in host.output()
        if how == "not in production":
            assert not told
            assert not keylog.exists()
        else:
            assert told
            assert "SERVER_TRAFFIC_SECRET_0" in keylog.read_text()

    @pytest.mark.parametrize(
        "options", [("--loop", "asyncio"), ("--loop", "uvloop"), ("--runtime", "trio")]
    )
    def test_sigterm_drains_from_the_moment_on_that_it_says_it_listens(
        self, folder: Path, options: tuple[str, str]
    ) -> None:
        plain = ("--plain", "--bind", "127.0.0.1:0")
        for _ in range(5):
            with Child(
                command("serve", "apps:router", *plain, *options),
                cwd=folder,
                env=environment(folder),
                stderr=subprocess.STDOUT,
            ) as process:
                process.wait_line("listening on")
                process.send_signal(signal.SIGTERM)
                assert process.wait() == 0

    def test_sigterm_drains_and_a_second_one_ends(
        self, folder: Path, credentials: Credentials
    ) -> None:
        with serving(folder, credentials, "apps:router") as host:
            process = host.process
            assert process is not None
            with host.connect("h2") as connection:
                ws = connection.websocket("/ws")
                ws.echo("open")
                process.send_signal(signal.SIGTERM)
                assert ws.expect_close() == (1001, "server shutting down")
            assert process.wait(TIMEOUT) == 0
        with serving(folder, credentials, "apps:router") as host:
            process = host.process
            assert process is not None
            with host.connect("h1s") as connection:
                ws = connection.websocket("/ws")
                ws.echo("open")
                ws.answer_close = False
                process.send_signal(signal.SIGTERM)
                assert ws.expect_close()[0] == 1001
                process.send_signal(signal.SIGTERM)
                assert process.wait(TIMEOUT) == -signal.SIGTERM


ALONE: list[tuple[str, ...]] = [
    ("--loop", "asyncio"),
    ("--loop", "uvloop"),
    ("--runtime", "trio"),
]


class TestHealthAndDelay:
    @pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["one", "two"])
    def test_probes_are_answered_and_not_logged(
        self, folder: Path, credentials: Credentials, workers: tuple[str, ...]
    ) -> None:
        options = ("--health-path", "/healthz", "--access-log", *workers)
        with (
            serving(folder, credentials, "apps:app", *options) as host,
            host.connect("h2") as connection,
        ):
            assert connection.request("GET", "/healthz?a").body == b"ok\n"
            assert connection.request("GET", "//healthz").body == b"!"
            assert "/healthz?a" not in host.wait_output("GET //healthz HTTP/2")

    @pytest.mark.parametrize("options", ALONE, ids=" ".join)
    def test_readiness_fails_first_and_a_second_signal_ends_at_once(
        self, folder: Path, credentials: Credentials, options: tuple[str, ...]
    ) -> None:
        options += ("--health-path", "/healthz", "--drain-delay", "600")
        with serving(folder, credentials, "apps:router", *options) as host:
            process = host.process
            assert process is not None
            with host.connect("h1s") as prober:
                assert prober.request("GET", "/healthz").status == 200
                process.send_signal(signal.SIGTERM)
                while prober.request("GET", "/healthz").status == 200:
                    assert process.poll() is None
                with host.connect("h2") as late:
                    assert late.request("GET", "/").body == b"Hello"
                    late.websocket("/ws").echo("opened in the delay")
                    host.wait_output("draining; a second signal ends the process at")
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(TIMEOUT) == -signal.SIGTERM

    def test_websockets_may_run_on_until_the_end_of_the_drain(
        self, folder: Path, credentials: Credentials
    ) -> None:
        options = ("--drain-websockets", "end", "--drain-timeout", str(5 * PATIENCE))
        with serving(folder, credentials, "apps:router", *options) as host:
            process = host.process
            assert process is not None
            with host.connect("h2") as connection:
                ws = connection.websocket("/ws")
                process.send_signal(signal.SIGTERM)
                while host.listens():
                    assert process.poll() is None
                ws.echo("goes on")
                assert ws.expect_close() == (1001, "server shutting down")
            assert process.wait(TIMEOUT) == 0


HANGING = """
import sys, time
import tako

async def start(scope, receive, send):
    await receive()
    print("startup", file=sys.stderr)
    await tako.sleep(600)

async def stop(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await tako.sleep(600)

async def stubborn(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    while True:
        try:
            await tako.sleep(600)
        except BaseException:
            pass

async def blocking(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    time.sleep(600)
"""

SUPERVISED: list[tuple[str, ...]] = [("--workers", "2"), ("--reload",)]


class TestLifespansThatHang:
    """One SIGTERM ends the process within the drain's time, and some seconds."""

    @staticmethod
    def end_of(folder: Path, target: str, *options: str) -> tuple[int, str]:
        """Serve, send one signal, and return the exit code and what was printed."""
        if "--reload" in options:
            pytest.importorskip("watchfiles")
        (folder / "hanging.py").write_text(HANGING)
        plain = ("--plain", "--bind", "127.0.0.1:0", "--drain-timeout", "0.5")
        with subprocess.Popen(
            command("serve", f"hanging:{target}", *plain, *options),
            cwd=folder,
            env=environment(folder),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            killer = threading.Timer(TIMEOUT * 4, process.kill)
            killer.start()
            try:
                assert process.stderr is not None
                said = "startup" if target == "start" else "listening on"
                assert any(said in line for line in process.stderr)
                process.send_signal(signal.SIGTERM)
                printed = process.stderr.read()
                return process.wait(), printed
            finally:
                killer.cancel()

    @pytest.mark.parametrize("options", ALONE + SUPERVISED, ids=" ".join)
    def test_at_the_start(self, folder: Path, options: tuple[str, ...]) -> None:
        code, printed = self.end_of(folder, "start", *options)
        assert code == 0, printed
        assert "the start is cancelled" in printed

    @pytest.mark.parametrize("options", ALONE + SUPERVISED, ids=" ".join)
    def test_at_the_end(self, folder: Path, options: tuple[str, ...]) -> None:
        code, printed = self.end_of(folder, "stop", *options)
        assert code == 0, printed
        assert "the lifespan has not ended within" in printed

    @pytest.mark.parametrize("options", ALONE + SUPERVISED, ids=" ".join)
    def test_at_the_end_and_with_a_delay(
        self, folder: Path, options: tuple[str, ...]
    ) -> None:
        delay = ("--drain-delay", "0.5", "--log-level", "info")
        code, printed = self.end_of(folder, "stop", *delay, *options)
        assert code == 0, printed
        assert "the lifespan has not ended within" in printed
        assert printed.count("stopping: accepting for 0.5 s, then clients have") == 1

    @pytest.mark.parametrize("options", ALONE, ids=" ".join)
    def test_what_blocks_in_the_delay_is_ended_by_force(
        self, folder: Path, options: tuple[str, ...]
    ) -> None:
        delay = ("--drain-delay", "0.5")
        code, printed = self.end_of(folder, "blocking", *delay, *options)
        assert code == 1, printed
        assert "still running 6.5 s after the signal; exiting now" in printed

    @pytest.mark.parametrize("options", ALONE, ids=" ".join)
    def test_what_blocks_at_the_end_is_ended_by_force(
        self, folder: Path, options: tuple[str, ...]
    ) -> None:
        code, printed = self.end_of(folder, "blocking", *options)
        assert code == 1, printed
        assert "exiting now" in printed

    @pytest.mark.parametrize("options", ALONE, ids=" ".join)
    def test_what_ignores_its_cancellation_is_left_behind_or_ended_by_force(
        self, folder: Path, options: tuple[str, ...]
    ) -> None:
        code, printed = self.end_of(folder, "stubborn", *options)
        by_force = "trio" in options  # where no task can be left
        assert code == by_force, printed
        assert "go on though cancelled" in printed
        assert ("exiting now" in printed) is by_force


SPAWNING = """
import subprocess, sys
from tako import Router

PROGRAM = "import os; [print(os.path.realpath('/proc/self/fd/' + name))" \\
    " for name in os.listdir('/proc/self/fd')]"

def inherited():
    arguments = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(arguments, close_fds=False, stdout=subprocess.PIPE)
    return done.stdout.decode()

at_import = inherited()
router = Router()
router.get("/", lambda: at_import + inherited())
"""


@pytest.mark.parametrize("how", ["one", "workers", "fd", "fd and workers"])
def test_what_an_app_starts_inherits_no_socket(
    folder: Path, credentials: Credentials, how: str
) -> None:
    (folder / "spawning.py").write_text(SPAWNING)
    more = ("--workers", "2") if "workers" in how else ()
    arguments = command("serve", "spawning:router", "--plain", *more)
    with socket.create_server(("127.0.0.1", 0)) as ours:
        address = ours.getsockname()
        passed: tuple[int, ...] = ()
        if "fd" in how:
            number = ours.fileno()
            passed = (number,)
            # 3, as systemd does it
            shell = f'exec "$@" --bind fd://3 3<&{number} {number}<&-'
            arguments = ["bash", "-c", shell, "bash", *arguments]
        else:
            ours.close()
            arguments += ["--bind", f"127.0.0.1:{address[1]}"]
        with (
            Host(
                arguments,
                address,
                credentials,
                folder=folder,
                env=environment(folder),
                pass_fds=passed,
            ) as host,
            host.connect("h1") as connection,
        ):
            found = connection.request("GET", "/").body.decode()
    assert "/pipe:" in found, found
    assert "/socket:" not in found, found


class TestCerts:
    def test_make_and_show(self, folder: Path) -> None:
        made = run(folder, "certs", "make", "--out", "mine", "a.test", "10.0.0.1")
        assert made.returncode == 0, made.stderr
        assert "ca.pem" in made.stdout
        shown = run(folder, "certs", "show", "mine/cert.pem").stdout
        assert re.match(
            r"1\. a\.test, 10\.0\.0\.1; expires .*, 39\d days left\n", shown
        )
        assert "key, signed by" in shown
        assert (folder / "mine" / "key.pem").stat().st_mode & 0o777 == 0o600

    def test_the_authority_stays_the_same(self, folder: Path) -> None:
        authority = folder / "data" / "tako" / "ca.pem"
        run(folder, "certs", "make")
        first = authority.read_bytes()
        run(folder, "certs", "make", "--out", "again")
        assert authority.read_bytes() == first

    @pytest.mark.parametrize(
        ("arguments", "text"),
        [
            (("show", "none.pem"), r"failed to open cert file 'none.pem'.*"),
            (("show", "apps.py"), r"failed to parse certs from 'apps.py'.*"),
            (("make", "--out", "apps.py"), r"cannot write .*"),
        ],
    )
    def test_errors(self, folder: Path, arguments: tuple[str, ...], text: str) -> None:
        assert re.fullmatch(text, error_of(run(folder, "certs", *arguments)))
