"""The inspector over sockets: who may look, what is seen, several workers, the browser.

What is shown, and how frames are read, is in ``sansio/inspect``.
"""

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

import tako
from tako import runtime as runtimes
from tako.errors import ConfigError, HandshakeRejected
from tests.conformance.clients.catalogue import NODE_SCRIPTS, no_chromium
from tests.integration.test_cli import APPS, serving
from tests.support.children import run_child
from tests.support.hosts import Host
from tests.support.loops import run_on
from tests.support.patience import NEVER, TIMEOUT
from tests.support.server import UNHURRIED, Credentials, RuntimeName


CONFIG = replace(
    UNHURRIED,
    header_read_timeout=None,
    tls_handshake_timeout=NEVER,
    ws_ping_interval=None,
)
View = dict[str, Any]
opened = partial(tako.connect, open_timeout=TIMEOUT, proxy=None)


async def echo(request: tako.Request) -> tako.TakoWs:
    async def session(ws: tako.WebSocket) -> None:
        async for message in ws:
            if isinstance(message, (str, bytes)):
                await ws.send(message)

    return tako.TakoWs(request, session)


def router() -> tako.Router:
    made = tako.Router()
    made.get("/ws/{room}", echo)
    return made


def port_of(server: tako.Server) -> int:
    (address,) = server.addresses
    assert isinstance(address, tako.IpPeer)
    return address.port


def live(url: str) -> str:
    """Return the URL of the WebSocket of an inspector's page."""
    return url.replace("http", "ws", 1).replace("/?", "/live?")


@asynccontextmanager
async def inspected(
    credentials: Credentials,
) -> AsyncGenerator[tuple[str, tako.Inspector], None]:
    """Serve, with an inspector; provide the URL of the server and the inspector."""
    tls = (credentials.cert, credentials.key)
    async with (
        tako.serve("127.0.0.1:0", router(), tls=tls, config=CONFIG) as server,
        tako.inspector(server, "127.0.0.1:0") as inspector,
    ):
        yield f"wss://localhost:{port_of(server)}", inspector


async def view_that(
    ws: tako.WebSocket, shows: Callable[[View], object], kind: str = "view"
) -> View:
    """Return the first message that shows something."""
    while True:
        message = await ws.read(timeout=TIMEOUT)
        assert isinstance(message, str)
        told: View = json.loads(message)
        if told["type"] == kind and shows(told):
            return told


# -- who may look --------------------------------------------------------------------


def status(url: str, **fields: str) -> int:
    with httpx.Client(trust_env=False, timeout=TIMEOUT) as client:
        return client.get(url, headers=fields).status_code


def test_only_who_knows_the_token_may_look(
    runtime: RuntimeName, credentials: Credentials
) -> None:
    async def main() -> None:
        async with inspected(credentials) as (_, inspector):
            page = inspector.url
            ask = runtimes.current().to_thread
            assert await ask(partial(status, page)) == 200
            bare = page.partition("?")[0]
            for url in (bare, f"{bare}?token=", f"{page}x", page[:-1]):
                assert await ask(partial(status, url)) == 403
                socket = url.replace("http", "ws", 1).replace(
                    bare[4:], f"{bare[4:]}live"
                )
                with pytest.raises(HandshakeRejected) as refused:
                    await opened(socket)
                assert refused.value.status == 403

    run_on(runtime, main)


def test_other_hosts_and_origins_are_refused(
    runtime: RuntimeName, credentials: Credentials
) -> None:
    async def main() -> None:
        async with inspected(credentials) as (_, inspector):
            page = inspector.url
            own = page.partition("/?")[0]
            ask = runtimes.current().to_thread
            assert await ask(partial(status, page, host="rebound.example")) == 421
            assert await ask(partial(status, page, origin="http://evil.example")) == 403
            assert await ask(partial(status, page, origin=own)) == 200
            for origin in ("http://evil.example", "null", own.replace("http", "https")):
                with pytest.raises(HandshakeRejected) as refused:
                    await opened(live(page), origin=origin)
                assert refused.value.status == 403
            async with opened(live(page), origin=own) as ws:
                await view_that(ws, lambda _: True)

    run_on(runtime, main)


def test_the_page_comes_with_what_protects_it(credentials: Credentials) -> None:
    async def main() -> None:
        async with inspected(credentials) as (_, inspector):
            get = partial(httpx.get, inspector.url, trust_env=False, timeout=TIMEOUT)
            answer = await runtimes.current().to_thread(get)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert not re.findall(r"(?:src|href)=.(?:https?:)?//", answer.text)

    run_on("asyncio", main)


@pytest.mark.parametrize(
    ("address", "token"), [("0.0.0.0:0", None), ("127.0.0.1:0", "")]
)
def test_an_inspector_that_others_could_reach_is_refused(
    address: str, token: str | None
) -> None:
    async def main() -> None:
        async with tako.serve("127.0.0.1:0", router()) as server:
            with pytest.raises(ConfigError, match=r"loopback|token"):
                async with tako.inspector(server, address, token=token):
                    pytest.fail("it serves")

    run_on("asyncio", main)


# -- what is seen --------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_websocket_is_seen_followed_and_noted_at_its_end(
    runtime: RuntimeName, credentials: Credentials, version: Literal["1.1", "2"]
) -> None:
    async def main() -> None:
        client = partial(opened, ssl=credentials.client, http_versions=[version])
        async with (
            inspected(credentials) as (base, inspector),
            opened(live(inspector.url)) as page,
        ):
            async with client(f"{base}/ws/7") as ws:
                await see(page, ws, version)
            ended = await view_that(page, lambda told: told["closed"])
            by_kind = {row["what"]: row for row in ended["closed"]}
            assert by_kind["websocket"]["code"] == 1000
            assert by_kind["websocket"]["path"] == "/ws/{room}"

    async def see(page: tako.WebSocket, ws: tako.WebSocket, version: str) -> None:
        view = await view_that(page, lambda told: told["sockets"])
        (row,) = view["sockets"]
        assert (row["wire"], row["route"]) == (f"HTTP/{version}", "/ws/{room}")
        (connection,) = view["connections"]
        assert connection["tls"] == "TLSv1.3"
        told = {"type": "follow", "worker": view["worker"], "payload": True}
        await page.send(json.dumps({**told, "connection": row["connection"]}))
        shown = {"type": "view", "worker": view["worker"]}
        await page.send(json.dumps({**shown, "connection": row["connection"]}))
        await view_that(page, lambda told: told.get("shown"))  # so it is followed
        await ws.send("hello")
        assert await ws.read(timeout=TIMEOUT) == "hello"
        seen = list[tuple[bool, str, str]]()
        while len(seen) < 2:
            frames = await view_that(page, lambda _: True, "frames")
            seen += [
                (it["received"], it["kind"], it["payload"])
                for it in frames["frames"]
                if it["kind"] == "text"
            ]
        assert seen == [(True, "text", "hello"), (False, "text", "hello")]

    run_on(runtime, main)


def test_the_end_of_a_connection_that_is_followed_is_told(
    runtime: RuntimeName, credentials: Credentials
) -> None:
    async def main() -> None:
        async with (
            inspected(credentials) as (base, inspector),
            opened(live(inspector.url)) as page,
        ):
            async with opened(f"{base}/ws/1", ssl=credentials.client):
                view = await view_that(page, lambda told: told["connections"])
                number = view["connections"][0]["number"]
                told = {"worker": view["worker"], "connection": number}
                await page.send(json.dumps({"type": "follow", **told}))
                await page.send(json.dumps({"type": "view", **told}))
                await view_that(page, lambda told: told.get("shown"))
            await view_that(page, lambda told: told["ended"], "frames")

    run_on(runtime, main)


def test_a_server_is_left_as_it_was(
    runtime: RuntimeName, credentials: Credentials
) -> None:
    async def main() -> None:
        tls = (credentials.cert, credentials.key)
        async with tako.serve(
            "127.0.0.1:0", router(), tls=tls, config=CONFIG
        ) as server:
            base = f"wss://localhost:{port_of(server)}"
            async with opened(f"{base}/ws/1", ssl=credentials.client) as ws:
                async with (
                    tako.inspector(server, "127.0.0.1:0") as inspector,
                    opened(live(inspector.url)) as page,
                ):
                    await page.send('{"type": "no such"}')
                    await page.send("not even JSON")
                    await view_that(page, lambda told: told["sockets"])
                await ws.send("still")
                assert await ws.read(timeout=TIMEOUT) == "still"

    run_on(runtime, main)


# -- the command ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "apps.py").write_text(APPS)
    return tmp_path


def url_of(host: Host) -> str:
    """Return the URL that the command has printed."""
    printed = host.wait_output("inspector: ")
    found = re.search(r"inspector: (https?://\S+)\n", printed)
    assert found is not None, printed
    return found[1]


def top(*arguments: str, ca: Path) -> str:
    """Return what ``tako top --once`` prints."""
    command = [sys.executable, "-m", "tako.cli", "top", "--once", "--ca", str(ca)]
    done = run_child([*command, *arguments], limit=3 * TIMEOUT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_all_workers_are_seen(
    folder: Path, credentials: Credentials, ca_file: Path
) -> None:
    inspect = ("--workers", "2", "--inspect-bind", "127.0.0.1:0")

    async def main(url: str) -> None:
        async with opened(live(url), ssl=credentials.client) as page:
            assert page.http_version == "2"
            first = await view_that(page, lambda _: True)
            other = await view_that(page, lambda it: it["worker"] != first["worker"])
            assert {first["place"], other["place"]} == {1, 2}
            os.kill(other["worker"], signal.SIGKILL)
            gone = await view_that(page, lambda _: True, "gone")
            assert gone["worker"] == other["worker"]
            known = {first["worker"], other["worker"]}
            new = await view_that(page, lambda it: it["worker"] not in known)
            assert new["place"] == other["place"]

    with serving(folder, credentials, "apps:router", *inspect) as host:
        url = url_of(host)
        assert url.startswith("https://localhost:")
        run_on("asyncio", main, url)
        shown = top(url, ca=ca_file)
        assert "connections" in shown.splitlines()[0]
        assert host.process is not None
        host.process.terminate()
        assert host.process.wait(TIMEOUT) == 0
        assert "stopped" in host.output()


def test_one_process_is_seen_without_tls(
    folder: Path, credentials: Credentials, ca_file: Path
) -> None:
    inspect = ("--plain", "--inspect-bind", "127.0.0.1:0")
    with serving(folder, credentials, "apps:router", *inspect) as host:
        url = url_of(host)
        assert url.startswith("http://127.0.0.1:")
        assert "tako" in top(url, ca=ca_file)
        command = [sys.executable, "-m", "tako.cli", "top", "--once", f"{url}x"]
        wrong = run_child(command, limit=3 * TIMEOUT)
        assert wrong.returncode == 1
        assert "the token in the URL is not that of the server" in wrong.stderr


# -- the browser ---------------------------------------------------------------------


def test_the_page_works_in_a_browser(
    folder: Path, credentials: Credentials, tmp_path: Path
) -> None:
    """On a phone, with the keyboard; a WebSocket of the server is followed."""
    if missing := no_chromium():
        pytest.skip(missing)
    inspect = ("--inspect-bind", "127.0.0.1:0")
    with serving(folder, credentials, "apps:router", *inspect) as host:
        url = url_of(host)
        shot = tmp_path / "inspector.png"
        program = shutil.which("chromium") or "chromium"
        script = str(NODE_SCRIPTS / "browser.mjs")
        server = f"wss://localhost:{host.address[1]}/ws"
        arguments = ["node", script, program, url, "inspector", str(shot), server]
        done = run_child(arguments, limit=3 * TIMEOUT)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["protocol"] == "h2"
    assert seen["width"] == 320
    assert not seen["faults"]
    assert "text" in seen["frames"]
    assert "over there" not in seen["hidden"]
    assert "over there" in seen["frames"]
    assert shot.stat().st_size > 5000
