"""The how-tos below ``docs/``: what they show runs, and prints what they say."""

import importlib
import inspect
import itertools
import logging
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, get_args

import pytest
import websockets.asyncio.client

import tako
from tako.testing import serve
from tako.testing.peer.h1 import H1Connection
from tests.support.pytest_runs import ROOT, said_by_pytest
from tests.support.shown import run_shown, served


HOW_TOS = ROOT / "docs" / "how-to"
TESTING = HOW_TOS / "testing.md"
CONNECT = HOW_TOS / "connect.md"
BROADCAST = HOW_TOS / "broadcast.md"
INSPECTOR = HOW_TOS / "inspector.md"
_BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Block(NamedTuple):
    """A block of code: its language, its title, its text."""

    language: str
    title: str
    text: str


def blocks(path: Path) -> list[Block]:
    found = _BLOCK.findall(path.read_text())
    return [Block(language, _title(rest), text) for language, rest, text in found]


def _title(rest: str) -> str:
    return rest.partition('title="')[2].partition('"')[0]


def programs(path: Path) -> dict[str, str]:
    """Return the Python of a how-to: text by file name."""
    found = [each for each in blocks(path) if each.language == "python"]
    assert all(each.title for each in found), "a block of Python has no title"
    return {each.title: each.text for each in found}


def printed(path: Path) -> dict[str, str]:
    """Return what a how-to says that its programs print: the block behind each."""
    found = blocks(path)
    pairs = itertools.pairwise(found)
    return {one.title: two.text for one, two in pairs if two.language == "text"}


# -- testing.md ----------------------------------------------------------------------


@pytest.fixture
def logging_stays() -> Iterator[None]:
    """Undo what a framework does: Litestar configures the root logger."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a reader of ``testing.md`` has."""
    for name, text in programs(TESTING).items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_the_tests_of_the_how_to_pass(folder: Path) -> None:
    said = said_by_pytest(folder)
    files = {name for name in programs(TESTING) if name.startswith("test_")}
    assert len(files) > 5
    assert files <= set(re.findall(r"^(test_\w+\.py)::\S+ PASSED", said, re.MULTILINE))
    assert re.search(r"=+ \d+ passed in ", said), said


def test_the_commands_of_the_how_to_work(folder: Path) -> None:
    lines = [
        line
        for each in blocks(TESTING)
        if each.language == "sh"
        for line in each.text.splitlines()
        if not line.startswith("pip install ")
    ]
    assert len(lines) > 2
    for line in lines:
        command = shlex.split(line)
        if command[0] == "pytest":
            said = said_by_pytest(folder, *command[1:])
            assert re.search(r"\b\d+ passed in ", said), said
        else:
            assert command.pop(0) == "python"
            done = run_shown(folder, *command)
            assert done.returncode == 0, done.stderr


def test_the_faults_are_those_of_the_folder() -> None:
    head = "\n| fault | call | wires |\n"
    shown, held = (
        path.read_text().partition(head)[2].partition("\n\n")[0]
        for path in (TESTING, ROOT / "tako" / "testing" / "README.md")
    )
    assert shown == held != ""


# -- connect.md ----------------------------------------------------------------------


@pytest.fixture
def beside_the_server(tmp_path: Path) -> Iterator[Path]:
    """Have the programs of ``connect.md`` in a folder, and its server run."""
    with served(tmp_path, programs(CONNECT), "server.py"):
        yield tmp_path


@pytest.mark.parametrize("name", [*printed(CONNECT)])
def test_a_program_prints_what_the_how_to_says(
    beside_the_server: Path, name: str
) -> None:
    done = run_shown(beside_the_server, name)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed(CONNECT)[name]


def test_all_of_its_programs_are_run() -> None:
    assert {*programs(CONNECT)} == {*printed(CONNECT), "server.py"}


def parameters_of_tako() -> dict[str, object]:
    """Return the parameters of ``tako.connect``, and their defaults."""
    found: dict[str, object] = {}
    for name, each in inspect.signature(tako.connect).parameters.items():
        if each.kind is inspect.Parameter.VAR_KEYWORD:
            (keywords,) = get_args(each.annotation)
            found |= dict.fromkeys(keywords.__annotations__, inspect.Parameter.empty)
        else:
            found[name] = each.default
    return found


def test_the_table_has_every_parameter_of_both() -> None:
    theirs = inspect.signature(websockets.asyncio.client.connect).parameters
    ours = parameters_of_tako()
    text = CONNECT.read_text().partition("\n| `websockets` | `tako.connect` |\n")[2]
    rows = [line.split(" | ") for line in text.partition("\n\n")[0].splitlines()[1:]]
    left: dict[str, str] = {}
    only_ours: set[str] = set()
    for row in rows:
        one, other = row[0].strip("| "), " ".join(row[1:]).strip("| ")
        if one:
            left[one.strip("`")] = other
        else:
            only_ours |= set(re.findall(r"^`(\w+)`", other))
    through = {"ssl", "server_hostname"}  # of the keywords that the loop gets
    assert {*left} == {*theirs} - {"kwargs"} | through
    renamed = {"uri": "url"}
    taken = {renamed.get(name, name) for name in left if not gone(left[name])}
    assert taken | only_ours == {*ours}
    for name, said in left.items():
        if not said and name in theirs and ours[name] is not inspect.Parameter.empty:
            assert (ours[name] or None) == theirs[name].default, name


def gone(said: str) -> bool:
    """Tell whether a cell says that ``tako.connect`` has no such parameter."""
    return said.startswith("none")


# -- broadcast.md --------------------------------------------------------------------


def test_the_programs_of_broadcast_work(tmp_path: Path) -> None:
    for name, text in programs(BROADCAST).items():
        (tmp_path / name).write_text(text)
    for name, text in printed(BROADCAST).items():
        done = run_shown(tmp_path, name)
        assert (done.stdout, done.stderr, done.returncode) == (text, "", 0)
    said = said_by_pytest(tmp_path)
    assert "8 passed" in said, said


def test_other_programs_of_broadcast_have_a_router(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "events.py").write_text(programs(BROADCAST)["events.py"])
    router = importlib.import_module("events").router
    with serve(router, wire="h1") as server:
        connection = server.connection()
        assert isinstance(connection, H1Connection)
        connection.send_request("GET", "/events")
        assert connection.read_response(body=False).status == 200
        server.stop()
        assert connection.read_chunk() == b""


# -- frameworks.md -------------------------------------------------------------------


FRAMEWORKS = HOW_TOS / "frameworks.md"
IN_ONE_FILE = [each.title for each in blocks(FRAMEWORKS) if each.title[:5] == "with_"]


@pytest.mark.parametrize("name", IN_ONE_FILE)
@pytest.mark.usefixtures("logging_stays")
def test_an_app_of_a_framework_echoes_on_both_wires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    text = next(each.text for each in blocks(FRAMEWORKS) if each.title == name)
    (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    module = name.removesuffix(".py")
    assert f"`tako serve {module}:app`" in FRAMEWORKS.read_text()
    app = importlib.import_module(module).app
    for wire in ("h1s", "h2"):
        with serve(app, wire=wire) as server, server.connect("/ws") as ws:
            ws.send("hello")
            ws.expect("hello")


def test_there_are_programs_of_four_frameworks() -> None:
    assert len(IN_ONE_FILE) == 4


DJANGO = """
from project.asgi import app
from tako.testing import serve

for wire in ("h1s", "h2"):
    with serve(app, wire=wire) as server, server.connect("/ws") as ws:
        ws.send("hello")
        ws.expect("hello")
print("both wires")
"""


def test_the_project_of_django_echoes_on_both_wires(tmp_path: Path) -> None:
    pytest.importorskip("channels")
    project = tmp_path / "project"
    project.mkdir()
    settings = 'SECRET_KEY = "for tests"\nALLOWED_HOSTS = ["*"]\nROOT_URLCONF = ()\n'
    (project / "settings.py").write_text(settings)
    text = next(each.text for each in blocks(FRAMEWORKS) if each.title == "asgi.py")
    (project / "asgi.py").write_text(text)
    (tmp_path / "try.py").write_text(DJANGO)
    done = run_shown(tmp_path, "try.py")
    assert (done.stdout, done.returncode) == ("both wires\n", 0), done.stderr


# -- inspector.md --------------------------------------------------------------------


def test_the_program_of_the_inspector_works(tmp_path: Path) -> None:
    for name, text in programs(INSPECTOR).items():
        (tmp_path / name).write_text(text)
        done = run_shown(tmp_path, name)
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?\n", done.stdout), done.stderr
