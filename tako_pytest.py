"""The pytest plugin of ``tako.testing``.

``tako_serve(app)`` serves for the length of a test; a test that takes it, or
``tako_wire``, runs once for each wire: ``h1``, ``h1s``, ``h2``, ``h2c``.

Every pytest run of an environment loads this module, also where nothing of tako is
tested. So it stands beside the package, imports nothing of it before a test asks, and
has ``tako`` in each of its names. It starts servers in threads: whether a test is sync,
or run by anyio, pytest-asyncio or pytest-trio makes no difference.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import pytest


if TYPE_CHECKING:
    import trustme

    import tako
    from tako.asgi.protocol import App
    from tako.testing import RunningServer, RuntimeName, Serve, Wire


_WIRES = ("h1", "h1s", "h2", "h2c")
_RUNTIMES = ("asyncio", "uvloop", "trio")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that say where tests run."""
    group = parser.getgroup("tako", "servers of tako.testing")
    group.addoption(
        "--tako-wires",
        metavar="WIRES",
        default=",".join(_WIRES),
        help="the wires that tests with tako_serve run on, separated by commas "
        "[default: %(default)s]",
    )
    group.addoption(
        "--tako-runtimes",
        metavar="RUNTIMES",
        default="asyncio",
        help="the event loops of their servers: asyncio, uvloop, trio "
        "[default: %(default)s]",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Add the fixtures that run a test once for each wire and each runtime.

    Their parameters are those of a fixture, so a conftest or a test can say otherwise.
    """
    wires = _chosen(config, "--tako-wires", _WIRES)
    runtimes = _chosen(config, "--tako-runtimes", _RUNTIMES)

    class Axes:
        @pytest.fixture(params=wires)
        def tako_wire(self, request: pytest.FixtureRequest) -> "Wire":
            """What the clients of the test speak: ``h1``, ``h1s``, ``h2``, ``h2c``."""
            wire: Wire = request.param
            return wire

        @pytest.fixture(params=runtimes)
        def tako_runtime(self, request: pytest.FixtureRequest) -> "RuntimeName":
            """The event loop of its servers: ``asyncio``, ``uvloop`` or ``trio``."""
            runtime: RuntimeName = request.param
            return runtime

    config.pluginmanager.register(Axes(), "tako_axes")


@pytest.fixture(scope="session")
def tako_ca() -> "trustme.CA":
    """The authority that signs the certificates of the servers."""
    from tako.testing.serving import shared_ca

    return shared_ca()


@pytest.fixture
def tako_serve(
    tako_wire: "Wire", tako_runtime: "RuntimeName", tako_ca: "trustme.CA"
) -> "Iterator[Serve]":
    """Serve a router or an ASGI app until the test ends; check what is left then.

    Example::

        def test_echo(tako_serve):
            server = tako_serve(router)
            with server.connect("/ws") as ws:
                ws.send("hello")
                ws.expect("hello")
    """
    from tako.testing import serve

    with contextlib.ExitStack() as servers:

        def begin(
            app: "tako.Router | tako.asgi.AsgiApp | App",
            *,
            wire: "Wire | None" = None,
            runtime: "RuntimeName | None" = None,
            config: "tako.ServerConfig | None" = None,
            ca: "trustme.CA | None" = None,
            check_sockets: bool = True,
        ) -> "RunningServer":
            return servers.enter_context(
                serve(
                    app,
                    wire=wire or tako_wire,
                    runtime=runtime or tako_runtime,
                    config=config,
                    ca=ca or tako_ca,
                    check_sockets=check_sockets,
                )
            )

        yield begin


def _chosen(config: pytest.Config, option: str, known: Sequence[str]) -> list[str]:
    """Return the values of an option.

    Raises:
        pytest.UsageError: one of them is unknown.
    """
    value = config.getoption(option)
    chosen = [each.strip() for each in str(value).split(",")]
    for each in chosen:
        if each not in known:
            msg = f"{option} takes {', '.join(known)}, not {each!r}"
            raise pytest.UsageError(msg)
    return chosen
