"""The frameworks' examples under ``tako serve``, as their users start it.

One server process for each framework and runtime; both wires are asked in each.
"""

import signal
from collections.abc import Iterator

import pytest

from tako.testing.peer import Wire
from tako.testing.peer.websocket import PeerWebSocket
from tests.integration.test_cli import serving
from tests.support.framework_checks import RESPONSES, WEBSOCKETS
from tests.support.hosts import Host
from tests.support.patience import TIMEOUT
from tests.support.server import Credentials, RuntimeName


MODULES = {
    "starlette": "from tests.support.asgi_apps import starlette_app as make\n",
    "fastapi": "from tests.support.asgi_apps import fastapi_app as make\n",
    "quart": "from tests.support.asgi_apps import quart_app as make\n",
    "django": "from tests.support.asgi_apps import django_app as make\n",
    "litestar": "from tests.support.asgi_apps import litestar_app as make\n",
}
FACTORY = "app = make()\n"
ON_TRIO = "app = make(on_trio=True)\n"
ECHOES = dict.fromkeys(MODULES, "/ws") | {"fastapi": "/careless"}

CELLS: list[tuple[str, RuntimeName]] = [
    (name, runtime)
    for name in MODULES
    for runtime in ("asyncio", "trio")
    if (name, runtime) != ("django", "trio")  # it is written for asyncio
]
both_wires = pytest.mark.parametrize("over", ["h1s", "h2"])


@pytest.fixture(scope="module", params=CELLS, ids="-".join)
def framework(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    credentials: Credentials,
) -> Iterator[tuple[str, Host]]:
    """A framework's name and a server of its examples; how it ends is checked."""
    name, runtime = request.param
    pytest.importorskip(name)
    pytest.importorskip(runtime)
    on_trio = name == "quart" and runtime == "trio"
    if on_trio:
        pytest.importorskip("quart_trio", reason="quart needs quart-trio for trio")
    folder = tmp_path_factory.mktemp(name)
    (folder / "main.py").write_text(MODULES[name] + (ON_TRIO if on_trio else FACTORY))
    with serving(folder, credentials, "main:app", "--runtime", runtime) as host:
        assert f"main:app (ASGI app) on {runtime}" in host.wait_output("certificate")
        yield name, host
        assert host.process is not None
        with host.connect("h1s") as one, host.connect("h2") as two:
            open_ones = [one.websocket(ECHOES[name]), two.websocket(ECHOES[name])]
            for ws in open_ones:
                ws.send("its answer says that the app waits for more")
                ws.receive()
            host.process.send_signal(signal.SIGTERM)
            for ws in open_ones:
                assert ws.expect_close() == (1001, "server shutting down")
        assert host.process.wait(TIMEOUT) == 0
        printed = host.output()
        if on_trio:  # quart-trio logs that its client has gone, as an error of the app
            assert " ERROR tako" not in printed
        else:
            assert "Traceback" not in printed


@both_wires
def test_plain_and_streamed_responses(framework: tuple[str, Host], over: Wire) -> None:
    name, host = framework
    RESPONSES[name](lambda: host.connect(over))


@both_wires
def test_websockets(framework: tuple[str, Host], over: Wire) -> None:
    name, host = framework
    WEBSOCKETS[name](lambda: host.connect(over))


def test_both_wires_at_once(framework: tuple[str, Host]) -> None:
    name, host = framework
    with host.connect("h1s") as one, host.connect("h2") as two:
        if name == "fastapi":
            _chat(one.websocket("/ws/1"), two.websocket("/ws/2"))
            return
        prefix = "Message text was: " if name == "starlette" else "echo "
        sockets = [each.websocket("/ws") for each in (one, two, two)]
        for number in range(10):
            for ws in sockets:
                ws.send(str(number))
        for ws in sockets:
            ws.expect(*(f"{prefix}{number}" for number in range(10)))


def _chat(first: PeerWebSocket, second: PeerWebSocket) -> None:
    first.send("hello")
    first.expect("You wrote: hello", "Client #1 says: hello")
    second.expect("Client #1 says: hello")
    second.send("hi")
    second.expect("You wrote: hi", "Client #2 says: hi")
    first.expect("Client #2 says: hi")
    second.close(1000)
    first.expect("Client #2 left the chat")
