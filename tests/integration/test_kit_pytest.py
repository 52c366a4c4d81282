"""The pytest plugin, in pytest runs of their own, as the tests of its users have it."""

import ast
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.pytest_runs import ROOT, said_by_pytest


PLUGIN = "tako_pytest"
HANDLERS = """
import pytest
import tako


async def hello(request):
    return "hello"


async def broken(request):
    raise ValueError("out of order")


async def echo(request):
    async def session(ws):
        async for message in ws:
            if isinstance(message, str):
                await ws.send(message)

    return tako.TakoWs(request, session)


router = tako.Router()
router.get("/", hello)
router.get("/broken", broken)
router.get("/echo", echo)
"""


def ran(folder: Path, tests: str, *options: str, handlers: str = HANDLERS) -> str:
    """Run ``tests`` under pytest with the plugin; return what it says."""
    (folder / "test_it.py").write_text(handlers + tests)
    return said_by_pytest(folder, *options, "test_it.py")


SYNC = """
def test_hello(tako_serve):
    assert tako_serve(router).client().get("/").text == "hello"
"""


def test_a_test_runs_on_four_wires(tmp_path: Path) -> None:
    said = ran(tmp_path, SYNC)
    for wire in ("h1", "h1s", "h2", "h2c"):
        assert f"test_hello[{wire}-asyncio] PASSED" in said
    assert "4 passed" in said


def test_wires_and_runtimes_are_chosen_on_the_command_line(tmp_path: Path) -> None:
    said = ran(tmp_path, SYNC, "--tako-wires=h1, h2", "--tako-runtimes=asyncio,trio")
    assert "test_hello[h2-trio] PASSED" in said
    assert "4 passed" in said


@pytest.mark.parametrize("option", ["--tako-wires", "--tako-runtimes"])
def test_a_choice_that_does_not_exist_is_named(tmp_path: Path, option: str) -> None:
    said = ran(tmp_path, SYNC, f"{option}=h3")
    assert f"{option} takes " in said
    assert "not 'h3'" in said


def test_a_test_may_say_which_wires_it_wants(tmp_path: Path) -> None:
    tests = """
@pytest.mark.parametrize("tako_wire", ["h2"])
def test_one(tako_serve, tako_wire):
    assert tako_serve(router).wire == tako_wire == "h2"


@pytest.mark.parametrize(("tako_wire", "tako_runtime"), [("h1", "trio")])
def test_both(tako_serve):
    server = tako_serve(router)
    assert (server.wire, server.runtime) == ("h1", "trio")


@pytest.mark.parametrize("tako_wire", ["h2"])
def test_another(tako_serve):
    assert tako_serve(router, wire="h1s", runtime="uvloop").wire == "h1s"
"""
    assert "3 passed" in ran(tmp_path, tests)


def test_a_conftest_may_say_where_all_its_tests_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(
        """
import pytest


@pytest.fixture(params=["h1", "h2"])
def tako_wire(request):
    return request.param


@pytest.fixture
def tako_runtime():
    return "trio"
"""
    )
    tests = """
def test_it(tako_serve):
    assert tako_serve(router).runtime == "trio"
"""
    said = ran(tmp_path, tests)
    assert "test_it[h1] PASSED" in said
    assert "test_it[h2] PASSED" in said
    assert "2 passed" in said


def test_the_authority_is_that_of_the_servers(tmp_path: Path) -> None:
    tests = """
def test_it(tako_ca, tako_serve):
    assert tako_serve(router).ca_pem == tako_ca.cert_pem.bytes()
"""
    assert "4 passed" in ran(tmp_path, tests)


def test_what_a_server_reports_fails_the_run(tmp_path: Path) -> None:
    tests = """
def test_it(tako_serve):
    assert tako_serve(router).client().get("/broken").status_code == 500
"""
    said = ran(tmp_path, tests, "--tako-wires=h2")
    assert "1 error" in said
    assert "ValueError: out of order" in said


def test_an_async_test_takes_the_same_fixture(tmp_path: Path) -> None:
    tests = """
@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_it(tako_serve, anyio_backend):
    server = tako_serve(router)
    async with server.async_client() as client:
        assert (await client.get("/")).text == "hello"
    async with server.async_connect("/echo") as ws:
        await ws.echo("hello")
"""
    said = ran(tmp_path, tests, "--tako-runtimes=asyncio,trio", "-p", "anyio")
    assert "16 passed" in said


@pytest.mark.parametrize("runner", ["asyncio", "trio"])
def test_whatever_runs_an_async_test_takes_it_too(tmp_path: Path, runner: str) -> None:
    plugin = f"pytest_{runner}"
    pytest.importorskip(plugin)
    tests = f"""
@pytest.mark.{runner}
async def test_it(tako_serve):
    async with tako_serve(router).async_connect("/echo") as ws:
        await ws.echo("hello")
"""
    assert "8 passed" in ran(tmp_path, tests, "--tako-runtimes=asyncio,trio")


def test_where_no_test_asks_nothing_of_tako_is_imported(tmp_path: Path) -> None:
    tests = """
import sys


def test_it():
    assert not [name for name in sys.modules if name.partition(".")[0] == "tako"]
"""
    assert "1 passed" in ran(tmp_path, tests, handlers="")


def test_it_names_everything_after_tako() -> None:
    found = find_spec(PLUGIN)
    assert found is not None
    tree = ast.parse(Path(str(found.origin)).read_text())
    functions = [each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef)]
    fixtures = {each.name for each in functions if each.decorator_list}
    assert fixtures == {"tako_ca", "tako_serve", "tako_wire", "tako_runtime"}
    names = {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
    assert all(name.startswith(("tako_", "pytest_", "_")) for name in names)


def test_it_is_installed_as_what_it_is_called() -> None:
    # else `-p tako_pytest` would register it a second time
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    plugins = project["project"]["entry-points"]["pytest11"]
    assert plugins == {PLUGIN: PLUGIN}
    assert project["tool"]["setuptools"]["py-modules"] == [PLUGIN]
