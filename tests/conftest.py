"""Fixtures: the certificate authority, the runtimes, the wires, a server for a test.

A test that takes ``tako_serve`` (of ``tako.testing``) or ``serve`` (for what the former
does not show: services, connections, buffers) runs once for each runtime and each wire:
that is the point of tako. One that is about a single wire says so with
``@pytest.mark.parametrize("wire", ...)``. ``TAKO_TEST_MATRIX=thin`` runs each test
on a few of the pairs only, ``once`` on one, and a property on half the examples: see
``tests/support/matrix.py``. ``TAKO_LANE=0`` runs the servers without the express lane:
``tests/support/lane.py``.
"""

import importlib.util
import os
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import hypothesis
import pytest
import trustme

import tako
from tako.server.service import Service
from tako.testing.peer import Wire
from tests.support import backstop, lane
from tests.support.matrix import matrix_of, thinned
from tests.support.server import Credentials, RunningServer, RuntimeName, watched


_MATRIX = os.environ.get("TAKO_TEST_MATRIX", "full")

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "tako",
    deadline=None,
    max_examples=50 if _MATRIX == "once" else 100,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("tako")

WIRES: tuple[Wire, ...] = ("h1", "h1s", "h2", "h2c")


def _runtimes() -> list[object]:
    installed = {
        "uvloop": importlib.util.find_spec("uvloop") is not None,
        "trio": importlib.util.find_spec("trio") is not None,
    }
    parameters: list[object] = ["asyncio"]
    for name, available in installed.items():
        if (
            name == "trio"
            and importlib.util.find_spec("tako.runtime.trio_loop") is None
        ):
            continue
        skip = pytest.mark.skipif(not available, reason=f"{name} is not installed")
        parameters.append(pytest.param(name, marks=skip))
    return parameters


def pytest_configure(config: pytest.Config) -> None:
    """Obey what the environment says about the servers; let no test hang."""
    lane.obey()
    backstop.pytest_configure(config)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Leave out what ``TAKO_TEST_MATRIX`` leaves out."""
    matrix = matrix_of(_MATRIX)
    if matrix != "full":
        kept = thinned(items, matrix)
        left_out = [item for item in items if item not in kept]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item in kept]


@pytest.fixture(scope="session")
def ca() -> trustme.CA:
    """The certificate authority that every test client trusts."""
    return trustme.CA()


@pytest.fixture(scope="session")
def credentials(
    ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory
) -> Credentials:
    """A certificate for localhost, as files, and a client context that trusts it."""
    folder = tmp_path_factory.mktemp("certificates")
    leaf = ca.issue_cert("localhost", "127.0.0.1", "::1")
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    key.write_bytes(leaf.private_key_pem.bytes())
    client = ssl.create_default_context()
    ca.configure_trust(client)
    return Credentials(cert, key, client)


@pytest.fixture(scope="session")
def ca_file(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate as a file, for clients that want one."""
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    ca.cert_pem.write_to_path(path)
    return path


@pytest.fixture(params=_runtimes())
def runtime(request: pytest.FixtureRequest) -> RuntimeName:
    """The event loop that the server runs on."""
    name: RuntimeName = request.param
    return name


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> Wire:
    """How the client talks to the server."""
    name: Wire = request.param
    return name


@pytest.fixture(scope="session", autouse=True)
def _services_are_watched() -> Iterator[None]:
    """Let each ``RunningServer`` know what it runs, to see what is left of it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Service, "run", watched(Service.run))
        yield


@pytest.fixture
def tako_wire(wire: Wire) -> Wire:
    """Let the plugin of ``tako.testing`` serve where the other tests are served."""
    return wire


@pytest.fixture
def tako_runtime(runtime: RuntimeName) -> RuntimeName:
    """The same."""
    return runtime


@pytest.fixture(scope="session")
def tako_ca(ca: trustme.CA) -> trustme.CA:
    """The same."""
    return ca


class Serve(Protocol):
    """What the ``serve`` fixture is."""

    def __call__(
        self, router: tako.Router, config: tako.ServerConfig | None = None
    ) -> RunningServer:
        """Start a server for ``router``; the fixture stops and checks it."""
        ...


@pytest.fixture
def serve(
    runtime: RuntimeName, wire: Wire, credentials: Credentials
) -> Iterator[Serve]:
    """Start servers on the test's runtime and wire; stop and check them afterwards."""
    servers: list[RunningServer] = []

    def start(
        router: tako.Router, config: tako.ServerConfig | None = None
    ) -> RunningServer:
        server = RunningServer(
            router, wire=wire, runtime=runtime, credentials=credentials, config=config
        )
        servers.append(server)
        server.start()
        return server

    yield start
    for server in reversed(servers):
        server.stop()
