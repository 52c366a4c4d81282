"""Common programs against the examples: curl, nghttp and httpx."""

import contextlib
import json
import os
import shutil
import signal
import ssl
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.conformance.clients.catalogue import (
    NODE_SCRIPTS,
    ROOT,
    no_chromium,
    no_program,
    wait_for_port,
)
from tests.support.children import Child, run_child
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.server import Credentials


Start = Callable[[str], int]

SECURE = pytest.mark.parametrize(
    ("option", "version"), [("--http1.1", "1.1"), ("--http2", "2")]
)


@pytest.fixture
def start(tmp_path: Path, credentials: Credentials) -> Iterator[Start]:
    """Start examples by name, with certificates where they look for them."""
    shutil.copy(credentials.cert, tmp_path / "cert.pem")
    shutil.copy(credentials.key, tmp_path / "key.pem")
    running = contextlib.ExitStack()
    processes: list[Child] = []

    def start(name: str) -> int:
        port = free_port()
        example = str(ROOT / "examples" / f"{name}.py")
        process = running.enter_context(
            Child(
                [sys.executable, example, f"127.0.0.1:{port}"],
                limit=3 * TIMEOUT,
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )
        )
        processes.append(process)
        wait_for_port(port, process)
        return port

    with running:
        yield start
        for process in processes:
            process.send_signal(signal.SIGTERM)
            assert process.wait() == 0


def output(program: str, *options: str, status: int = 0) -> str:
    """Return what ``program`` printed; skip the test where there is none."""
    if missing := no_program(program):
        pytest.skip(missing)
    done = run_child([program, *options])
    assert done.returncode == status, (done.stdout, done.stderr)
    return done.stdout


def curl(*options: str, status: int = 0) -> str:
    return output("curl", "-sS", "-q", "--noproxy", "*", *options, status=status)


def curl_with_http_2() -> None:
    if "HTTP2" not in curl("--version"):
        pytest.skip("this curl has no HTTP/2")


@SECURE
def test_curl(start: Start, ca_file: Path, option: str, version: str) -> None:
    curl_with_http_2()
    url = f"https://localhost:{start('demo')}"
    shown = "\n%{http_version} %{http_code} %{num_connects}\n"
    options = [option, "--cacert", str(ca_file), "-w", shown]
    page, facts = curl(*options, f"{url}/").rsplit("\n", 2)[:2]
    assert page.strip().endswith("</html>")
    assert facts == f"{version} 200 1"
    lines = curl(*options, f"{url}/none", f"{url}/none", f"{url}/none").split("\n")
    assert [line for line in lines if line] == [
        f"{version} 404 1",  # one connection for the three
        f"{version} 404 0",
        f"{version} 404 0",
    ]
    head = curl(option, "--cacert", str(ca_file), "--head", f"{url}/")
    assert head.startswith(f"HTTP/{version} 200")
    refused = curl(option, "--cacert", str(ca_file), "-i", "-d", "x", f"{url}/")
    assert refused.startswith(f"HTTP/{version} 405")
    assert "allow: GET, HEAD" in refused.lower().replace("get, head", "GET, HEAD")


def test_curl_over_a_clear_connection(start: Start) -> None:
    url = f"http://127.0.0.1:{start('hello_world')}/"
    assert curl("--http1.1", url) == "Hello, World!"
    assert curl("--http1.0", url) == "Hello, World!"
    # RFC 9113 §3.1: the upgrade to h2c is gone; such a client is answered on HTTP/1.1
    assert curl("--http2", "-w", " %{http_version}", url) == "Hello, World! 1.1"


def test_curl_sees_a_stream_that_is_cut_short(start: Start) -> None:
    url = f"http://127.0.0.1:{start('streams')}"
    partial_file, timed_out = 18, 28
    with ThreadPoolExecutor() as pool:  # they take their time
        ticks = pool.submit(curl, "--http1.1", f"{url}/json", status=partial_file)
        impatient = ("-N", "--max-time", "1.5", f"{url}/events")
        events = pool.submit(curl, *impatient, status=timed_out)
    assert ticks.result() == '{"tick":1}{"tick":2}{"tick":3}{"tick":4}'
    assert events.result() == "data: tick: 0\n\ndata: tick: 1\n\n"


def test_nghttp(start: Start) -> None:
    url = f"https://localhost:{start('demo')}/"
    said = output("nghttp", "-nv", "--no-verify-peer", "-m", "5", url)
    assert said.count(":status: 200") == 5
    assert said.count("; END_STREAM") >= 5
    assert "[ERROR]" not in said
    body = output("nghttp", "--no-verify-peer", url)
    assert body == (ROOT / "examples" / "demo.html").read_text()


def test_h2load(start: Start) -> None:
    url = f"https://localhost:{start('demo')}/"
    said = output("h2load", "-n", "500", "-c", "5", "-m", "20", url)
    assert "500 succeeded, 0 failed, 0 errored, 0 timeout" in said
    assert "status codes: 500 2xx, 0 3xx, 0 4xx, 0 5xx" in said


@pytest.mark.parametrize("http2", [False, True])
def test_httpx(start: Start, ca_file: Path, *, http2: bool) -> None:
    url = f"https://localhost:{start('demo')}/"
    context = ssl.create_default_context(cafile=str(ca_file))
    with httpx.Client(
        http2=http2, verify=context, trust_env=False, timeout=TIMEOUT
    ) as client:
        for _ in range(3):
            response = client.get(url)
            assert response.status_code == 200
            assert response.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
        assert client.post(url).status_code == 405
        assert client.head(url).headers["content-length"] == str(len(response.content))


def test_a_browser_reads_the_events_of_the_example(start: Start) -> None:
    if missing := no_chromium():
        pytest.skip(missing)
    base = f"http://127.0.0.1:{start('streams')}"
    script = str(NODE_SCRIPTS / "eventsource.mjs")
    program = shutil.which("chromium") or "chromium"
    done = run_child(["node", script, program, base, "/events", "3"])
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["events"] == [
        {"type": "message", "data": f"tick: {n}", "lastEventId": ""} for n in range(3)
    ]
