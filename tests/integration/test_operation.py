"""An operator's days: a FastAPI app under ``tako serve``, behind nginx and HAProxy.

The clients are httpx and websockets. Each test counts: nothing is lost that a client
could not see coming.
"""

import hashlib
import json
import os
import shutil
import signal
import ssl
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
import psutil
import pytest
import trustme
from websockets.exceptions import ConnectionClosed

from tako.testing.peer import connect
from tests.support.children import Child
from tests.support.hosts import Host
from tests.support.patience import PATIENCE, TIMEOUT
from tests.support.ports import free_port
from tests.support.proxies import CLIENT, FOR, haproxy, needs, nginx
from tests.support.server import Credentials, RuntimeName
from tests.support.websockets_client import BlockingClient


pytest.importorskip("fastapi")
pytestmark = [needs("nginx"), needs("haproxy")]

PAUSE = 0.002  # seconds between two requests of a client
STOPPED = """
import asyncio, ssl, sys
from websockets import connect
async def main():
    context = ssl._create_unverified_context()
    async with connect(sys.argv[1], ssl=context, open_timeout=None) as ws:
        print(await ws.recv(), flush=True)
        await ws.recv()
asyncio.run(main())
"""


class Shop:
    """The app under the command, and what it has noted."""

    def __init__(
        self,
        folder: Path,
        credentials: Credentials,
        ca: trustme.CA,
        runtime: RuntimeName,
        *options: str,
        workers: int = 2,
    ) -> None:
        self.folder = folder
        self._ca = ca
        self.port, self.plain_port = free_port(), free_port()
        (folder / "files").mkdir(exist_ok=True)
        (folder / "files" / "page.html").write_bytes(b"<p>a file</p>" * 10_000)
        self._journal = folder / "journal"
        self._journal.touch()
        for name in ("cert", "key"):
            shutil.copy(getattr(credentials, name), folder / f"{name}.pem")
        loop = ["--runtime", "trio"] if runtime == "trio" else ["--loop", runtime]
        command = [
            *(sys.executable, "-m", "tako.cli", "serve", "tests.support.shop:app"),
            *("--bind", f"127.0.0.1:{self.port}", "--cert", folder / "cert.pem"),
            *("--bind-plain", f"127.0.0.1:{self.plain_port}"),
            *("--key", folder / "key.pem", "--workers", str(workers)),
            *("--health-path", "/healthz", "--forwarded-allow-ips", "127.0.0.1"),
            *("--ws-ping-interval", "1", "--ws-ping-timeout", str(2 * PATIENCE)),
            *(*loop, *options),
        ]
        self.host = Host(
            [*map(str, command)],
            ("127.0.0.1", self.port),
            credentials,
            env={
                "SHOP_JOURNAL": str(self._journal),
                "SHOP_FILES": str(folder / "files"),
            },
        )
        self._workers = workers

    def __enter__(self) -> Self:
        self.host.__enter__()
        self.wait(lambda: self.count("started") == self._workers)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.host.__exit__(kind, value, traceback)

    @property
    def client(self) -> ssl.SSLContext:
        """A context that trusts its certificate: clients change the one they get."""
        context = ssl.create_default_context()
        self._ca.configure_trust(context)
        return context

    def noted(self) -> list[str]:
        """Return the lines of the journal."""
        return self._journal.read_text().splitlines()

    def count(self, word: str) -> int:
        """Return how many lines begin with ``word``."""
        return sum(line.split()[0] == word for line in self.noted())

    def note(self, line: str) -> None:
        """Tell the app something."""
        with self._journal.open("a") as file:
            file.write(line + "\n")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait until ``condition`` holds."""
        end = time.monotonic() + TIMEOUT
        while not condition():
            assert time.monotonic() < end, (self.noted(), self.host.output())
            time.sleep(0.02)  # there is nothing to wait on in another process

    def signal(self, number: signal.Signals) -> None:
        """Send one to the command."""
        os.kill(self.host.pid, number)

    def ends(self) -> None:
        """Wait for its end, which is in order: every lifespan, too."""
        assert self.host.process is not None
        assert self.host.process.wait(TIMEOUT) == 0, self.host.output()
        assert self.count("stopped") == self.count("started")
        assert "Traceback" not in self.host.output()

    def workers(self) -> set[int]:
        """Return the process numbers of its workers."""
        return {child.pid for child in psutil.Process(self.host.pid).children()}


def browser(port: int, context: ssl.SSLContext, *, http2: bool) -> httpx.Client:
    """Return httpx, coming from ``CLIENT``."""
    transport = httpx.HTTPTransport(verify=context, http2=http2, local_address=CLIENT)
    base = f"https://localhost:{port}"
    return httpx.Client(transport=transport, base_url=base, timeout=TIMEOUT)


def open_room(port: int, name: str, context: ssl.SSLContext) -> BlockingClient:
    """Open a WebSocket, coming from ``CLIENT``."""
    return BlockingClient(
        f"wss://localhost:{port}/rooms/{name}",
        ssl=context,
        local_addr=(CLIENT, 0),
        ping_interval=None,
    )


class Load:
    """Clients that ask again and again through each of ``ports``; counts answers."""

    def __init__(self, ports: list[int], shop: Shop) -> None:
        self._shop = shop
        self.answers: Counter[str] = Counter()
        self.processes: set[int] = set()
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=args, daemon=True)
            for args in product(ports, (False, True))
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
            assert not thread.is_alive()

    def wait(self, count: int) -> None:
        """Wait for so many more good answers."""
        wanted = self.answers["good"] + count
        end = time.monotonic() + TIMEOUT
        while self.answers["good"] < wanted:
            assert time.monotonic() < end, self.answers
            time.sleep(0.01)

    def _ask(self, port: int, http2: bool) -> None:
        number = 0
        with browser(port, self._shop.client, http2=http2) as client:
            while not self._stop.wait(PAUSE):
                number += 1
                try:
                    response = client.get(f"/items/{number}")
                    answer = response.json() if response.status_code == 200 else {}
                except (httpx.HTTPError, ValueError) as error:
                    self.answers[repr(error)] += 1
                    continue
                right = {"number": number, "client": CLIENT, "scheme": "https"}
                if right.items() <= answer.items():
                    self.answers["good"] += 1
                    self.processes.add(answer["process"])
                else:
                    self.answers[f"{response.status_code} {answer}"] += 1


RETRIES = "retry-on all-retryable-errors"
""""For HAProxy: a stream that a GOAWAY refuses is asked for again (RFC 9113 §6.8)."""


class Front:
    """The shop with nginx (HTTP/1.1 behind it) and HAProxy (HTTP/2, RFC 8441)."""

    def __init__(self, shop: Shop, nginx_port: int, haproxy_port: int) -> None:
        self.shop = shop
        self.nginx = nginx_port
        self.haproxy = haproxy_port

    @property
    def ports(self) -> list[int]:
        """Those of the two proxies."""
        return [self.nginx, self.haproxy]


@pytest.fixture
def front(
    runtime: RuntimeName, credentials: Credentials, ca: trustme.CA, tmp_path: Path
) -> Iterator[Front]:
    """Two workers behind both proxies."""
    with ExitStack() as stack:
        shop = stack.enter_context(Shop(tmp_path, credentials, ca, runtime))
        one = nginx(f"http://127.0.0.1:{shop.plain_port}", tmp_path, credentials)
        two = haproxy(
            shop.port,
            tmp_path,
            credentials,
            front=FOR,
            back=RETRIES,
            server="ssl verify none alpn h2 ws h2",
            alpn="h2,http/1.1",
        )
        ports = [stack.enter_context(each).address[1] for each in (one, two)]
        yield Front(shop, *ports)


class TestThroughProxies:
    def test_everything_works_and_the_addresses_are_right(self, front: Front) -> None:
        shop = front.shop
        for port in front.ports:
            for http2 in (False, True):
                with browser(port, shop.client, http2=http2) as client:
                    self.ask(client, shop, port + http2)
            with open_room(port, f"room-{port}", shop.client) as ws:
                answer = json.loads(ws.recv(TIMEOUT))
                assert answer == {"client": CLIENT, "scheme": "wss"}
                for text in ("hello", "x" * 100_000):
                    ws.send(text)
                    assert ws.recv(TIMEOUT) == text
            shop.wait(lambda: f"left room-{port} 1000" in shop.noted())  # noqa: B023
        shop.signal(signal.SIGTERM)
        shop.ends()

    @staticmethod
    def ask(client: httpx.Client, shop: Shop, number: int) -> None:
        """Ask for one of each kind."""
        item = client.get("/items/7").json()
        assert (item["client"], item["scheme"]) == (CLIENT, "https")
        assert client.get("/items/seven").status_code == 422

        sold = {"number": number, "things": ["a", "b"]}
        response = client.post("/orders", json=sold)
        assert (response.status_code, response.json()) == (201, sold)
        shop.wait(lambda: f"mailed {number}: a, b" in shop.noted())

        data = os.urandom(1 << 20) * 3
        parts = (data[at : at + 100_000] for at in range(0, len(data), 100_000))
        sent = client.put("/uploads/big", content=parts).json()
        assert sent["size"] == len(data)
        assert sent["sha256"] == hashlib.sha256(data).hexdigest()

        page = client.get("/files/page.html")
        assert page.content == (shop.folder / "files" / "page.html").read_bytes()
        again = client.get(
            "/files/page.html", headers={"if-none-match": page.headers["etag"]}
        )
        assert again.status_code == 304
        some = client.get("/files/page.html", headers={"range": "bytes=3-9"})
        assert (some.status_code, some.content) == (206, page.content[3:10])

        with client.stream("GET", "/events") as stream:
            lines = [line for line in stream.iter_lines() if line.startswith("data")]
        assert lines == [f"data: event {each}" for each in range(5)]

    def test_rolling_and_renewing_lose_nothing(
        self, front: Front, ca: trustme.CA
    ) -> None:
        shop = front.shop
        before = shop.workers()
        with Load(front.ports, shop) as load:
            load.wait(40)
            leaf = ca.issue_cert("localhost", "127.0.0.1")
            (shop.folder / "key.pem").write_bytes(leaf.private_key_pem.bytes())
            chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
            (shop.folder / "cert.pem").write_bytes(chain)
            for number in (signal.SIGUSR1, signal.SIGHUP):
                shop.signal(number)
                load.wait(40)
            shop.wait(lambda: len(shop.workers()) == 2 and not shop.workers() & before)
            load.wait(40)
        assert set(load.answers) == {"good"}, load.answers
        assert load.processes & before
        assert load.processes - before
        shop.signal(signal.SIGTERM)
        shop.ends()

    def test_clients_that_are_gone_without_a_word_are_missed(
        self, front: Front
    ) -> None:
        """Through nginx, and without a proxy, where others answer in time."""
        shop = front.shop
        with ExitStack() as stack:
            for name, port in (("behind", front.nginx), ("direct", shop.port)):
                url = f"wss://localhost:{port}/rooms/{name}"
                program = [sys.executable, "-c", STOPPED, url]
                client = stack.enter_context(Child(program))
                client.wait_line("client")
                client.send_signal(signal.SIGSTOP)
            with open_room(front.nginx, "lively", shop.client) as ws:
                ws.recv(TIMEOUT)
                for name in ("behind", "direct"):
                    shop.wait(lambda: f"left {name} 1006" in shop.noted())  # noqa: B023
                ws.send("still here")
                assert ws.recv(TIMEOUT) == "still here"
        shop.signal(signal.SIGTERM)
        shop.ends()


class TestGoingDown:
    def test_a_balancer_notices_before_a_client_does(
        self,
        runtime: RuntimeName,
        credentials: Credentials,
        ca: trustme.CA,
        tmp_path: Path,
    ) -> None:
        """Of two servers one goes: requests go on, WebSockets end by themselves."""
        checks = "option httpchk GET /healthz\n    http-check expect status 200"
        options = ("--drain-delay", "15", "--drain-websockets", "end")
        with ExitStack() as stack:
            shops = []
            for name in ("one", "two"):
                (tmp_path / name).mkdir()
                shop = Shop(
                    tmp_path / name, credentials, ca, runtime, *options, workers=1
                )
                shops.append(stack.enter_context(shop))
            balancer = haproxy(
                [each.plain_port for each in shops],
                tmp_path,
                credentials,
                front=FOR,
                back=checks,
                server="check inter 100ms fall 1",
                alpn="h2,http/1.1",
            )
            (port,) = stack.enter_context(balancer).address[1:]
            first, second = shops
            with Load([port], first) as load, ExitStack() as sockets:
                load.wait(20)
                direct = open_room(first.port, "direct", first.client)
                ws = sockets.enter_context(direct)
                ws.recv(TIMEOUT)
                first.signal(signal.SIGTERM)
                with browser(first.port, first.client, http2=True) as client:
                    assert client.get("/healthz").status_code == 503
                    assert client.get("/items/1").status_code == 200
                balancer.wait_output("is DOWN")
                load.wait(20)
                ws.send("in the drain")
                assert ws.recv(TIMEOUT) == "in the drain"
                ws.close()
                first.ends()
                load.wait(20)
            assert set(load.answers) == {"good"}, load.answers
            assert "left direct 1000" in first.noted()
            second.signal(signal.SIGTERM)
            second.ends()

    def test_what_has_begun_is_finished(
        self,
        runtime: RuntimeName,
        credentials: Credentials,
        ca: trustme.CA,
        tmp_path: Path,
    ) -> None:
        with Shop(tmp_path, credentials, ca, runtime) as shop:
            answers: list[int] = []

            def ask(http2: bool) -> None:
                if http2:  # httpx gives up at a GOAWAY, which lets this request go on
                    with connect(shop.host.address, "h2", shop.client) as connection:
                        answers.append(connection.request("GET", "/slow").status)
                else:
                    with browser(shop.port, shop.client, http2=False) as client:
                        answers.append(client.get("/slow").status_code)

            asking = [
                threading.Thread(target=ask, args=(http2,), daemon=True)
                for http2 in (False, True)
            ]
            for thread in asking:
                thread.start()
            shop.wait(lambda: shop.count("slow") == 2)
            with open_room(shop.port, "open", shop.client) as ws:
                ws.recv(TIMEOUT)
                shop.signal(signal.SIGTERM)
                with pytest.raises(ConnectionClosed) as closed:
                    ws.recv(TIMEOUT)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1001
            shop.note("go on")
            for thread in asking:
                thread.join(TIMEOUT)
            assert answers == [200, 200]
            shop.ends()
