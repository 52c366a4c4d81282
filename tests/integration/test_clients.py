"""Other projects' clients: libraries, Node, proxies and a browser.

Each plays the scenarios of ``tests/conformance/clients`` against the same handlers:
echo of text, binary and 1 MiB; permessage-deflate; a close with 1000 from the client
and with 4001 from the server, neither of which may run into a timeout; and a client
that vanishes.
"""

import json
import shutil
import ssl
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

import tako
from tako import Request
from tako.testing import Serve
from tests.conformance.clients.catalogue import (
    CLIENTS,
    NODE_SCRIPTS,
    ROOT,
    Client,
    Place,
    no_chromium,
    wait_for_port,
)
from tests.conformance.clients.scenarios import Ending, scenario_router
from tests.support.children import Child, run_child
from tests.support.patience import TIMEOUT
from tests.support.ports import free_port
from tests.support.server import UNHURRIED, Credentials, Reports


CLIENTS_OWN_LIMIT = 10.0
"""Seconds that a client waits for a server that does not answer its Close, at least."""

MATRIX = [
    pytest.param(client, wire, scenario, id=f"{client.name}-{wire}-{scenario}")
    for client in CLIENTS
    for wire in client.wires
    for scenario in client.scenarios
]


@pytest.mark.parametrize("runtime", ["asyncio", "trio"], indirect=True)
@pytest.mark.parametrize(("client", "wire", "scenario"), MATRIX, indirect=["wire"])
def test_a_real_client(
    tako_serve: Serve,
    client: Client,
    wire: str,
    scenario: str,
    ca_file: Path,
    tmp_path: Path,
) -> None:
    if missing := client.missing():
        pytest.skip(missing)
    endings = Reports()
    server = tako_serve(scenario_router(endings), config=UNHURRIED)
    place = Place(server.address, ca_file)
    if client.front is None:
        outcome = client.play(wire, scenario, place)
    else:
        with client.front(place, tmp_path) as front:
            outcome = client.play(wire, scenario, front)
    ending: Ending = endings.get()
    assert ending.http_version == ("2" if wire == "h2" else "1.1")
    if scenario == "abort":
        assert outcome.aborted
        assert ending.code == 1006
        return
    assert outcome.seconds is not None
    assert outcome.seconds < CLIENTS_OWN_LIMIT
    code = 4001 if scenario == "bye" else 1000
    if client.shows_code:
        assert outcome.code == code
        assert ending.code == code
    if scenario == "deflate" and outcome.extensions is not None:
        assert outcome.extensions.startswith("permessage-deflate")


@pytest.mark.parametrize("wire", ["h1", "h1s", "h2"], indirect=True)
def test_httpx(tako_serve: Serve, wire: str, ca_file: Path) -> None:
    router = tako.Router()

    async def show(request: Request) -> dict[str, object]:
        body = await request.body()
        return {"version": request.http_version, "size": len(body)}

    router.post("/", show)
    server = tako_serve(router)
    scheme = "http" if wire == "h1" else "https"
    url = f"{scheme}://localhost:{server.address[1]}/"
    context = ssl.create_default_context(cafile=str(ca_file))
    with httpx.Client(
        http1=wire != "h2",
        http2=wire == "h2",
        verify=context,
        trust_env=False,
        timeout=TIMEOUT,
    ) as client:
        for size in (0, 10, 1 << 20):
            response = client.post(url, content=b"x" * size)
            version = "2" if wire == "h2" else "1.1"
            assert response.json() == {"version": version, "size": size}
            assert response.http_version == f"HTTP/{version}"


@pytest.mark.parametrize("runtime", ["asyncio"], indirect=True)
@pytest.mark.parametrize("wire", ["h2"], indirect=True)
def test_the_demo_page_shows_both_wires_in_a_browser(
    credentials: Credentials, runtime: str, wire: str, tmp_path: Path
) -> None:
    """The example as it is shipped, on a phone; the server is started anew."""
    if missing := no_chromium():
        pytest.skip(missing)
    folder = tmp_path / "certs"
    folder.mkdir()
    shutil.copy(credentials.cert, folder / "cert.pem")
    shutil.copy(credentials.key, folder / "key.pem")
    port, beside = free_port(), free_port()
    example = ROOT / "examples" / "demo.py"
    addresses = [f"127.0.0.1:{port}", f"127.0.0.1:{beside}"]

    def served() -> Child:
        return Child(
            [sys.executable, str(example), *addresses],
            limit=3 * TIMEOUT,
            cwd=tmp_path,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )

    program = shutil.which("chromium") or "chromium"
    shot = tmp_path / "demo.png"
    script = str(NODE_SCRIPTS / "browser.mjs")
    page = f"https://localhost:{port}/"
    with ThreadPoolExecutor(1) as pool:
        with served() as server:
            wait_for_port(port, server)
            arguments = ["node", script, program, page, "demo", str(shot)]
            browser = pool.submit(run_child, arguments, limit=3 * TIMEOUT)
            end = time.monotonic() + 3 * TIMEOUT
            while not (shot.exists() or browser.done()):
                assert time.monotonic() < end
                time.sleep(0.02)
            server.terminate()
            assert server.wait(TIMEOUT) == 0
        with served():
            done = browser.result()
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["protocol"] == "h2"
    assert seen["h1"][:2] == ["12", "12"]
    assert seen["h2"][:2] == ["12", "1"]  # sockets, TCP connections
    assert seen["width"] == 320
    # the browser's own line for each attempt to come back while there is no server
    assert not [each for each in seen["faults"] if "ERR_CONNECTION_" not in each]
    assert shot.stat().st_size > 5000
