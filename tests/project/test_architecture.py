"""Imports go one way between folders, and each folder's README says which way."""

import re
import sys
from graphlib import CycleError
from pathlib import Path

import pytest

from tests.project import architecture
from tests.project.architecture import FOLDERS, GROUND, ROOT, TAKO


MODULES = sorted(path.relative_to(TAKO).as_posix() for path in TAKO.rglob("*.py"))

LOOPS = {"asyncio", "selectors", "signal", "trio", "uvloop"}
SOCKETS = {"socket", "subprocess"}
HUB = "topics/hub/"
LOOP_EDGE = (
    *("runtime/", "cli/", "testing/tcp_proxy.py"),
    *(HUB + "process.py", HUB + "__main__.py"),
)
SOCKET_EDGE = (
    *("runtime/", "cli/", "server/", "testing/", HUB),
    "tcp/address.py",  # names their families
)
SHARED = ("tako.testing.patience", "tako.testing.story")
CLOCKS = {"time", "sched"}
CLOCK_EDGE = (
    *("runtime/", "cli/", "testing/", HUB + "process.py"),
    "http/date.py",  # the wall clock of Date
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_what_its_readme_says(folder: str) -> None:
    found = architecture.imported(folder)
    assert set(found) == architecture.declared(folder), found


def test_there_are_no_circles() -> None:
    names = [name for row in architecture.levels() for name in row]
    assert sorted(names) == FOLDERS


def test_the_wires_the_tunnel_and_the_loops_do_not_know_each_other() -> None:
    apart = {"h1", "h2", "ws", "runtime"}
    assert {name: apart & set(architecture.imported(name)) for name in apart} == {
        name: set() for name in apart
    }


def test_the_peer_of_the_tests_shares_no_code_with_the_server() -> None:
    for path in (TAKO / "testing" / "peer").glob("*.py"):
        for line, name in architecture.imports(path):
            if name.partition(".")[0] == "tako":
                where = f"tako/testing/peer/{path.name}:{line}: imports {name}"
                assert name.startswith(("tako.testing.peer", *SHARED)), where


def test_the_top_has_its_four_files_only() -> None:
    names = {path.stem for path in TAKO.glob("*.py")}
    assert names == {"__init__", "__main__", *GROUND}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_readme_names_every_file_of_its_folder(folder: str) -> None:
    text = (TAKO / folder / "README.md").read_text()
    named = re.findall(r"^\| (`[^|]+`) \|", text, re.MULTILINE)
    # a row that names no file is of another table, such as one of states
    files = [name for cell in named for name in re.findall(r"`([^`]+\.pyx?)`", cell)]
    here = [
        path.relative_to(TAKO / folder).as_posix()
        for path in (TAKO / folder).rglob("*.py*")
        if path.suffix in {".py", ".pyx"} and path.name != "__init__.py"
    ]
    assert sorted(files) == sorted(here)


def test_the_picture_is_shown() -> None:
    text = (ROOT / "DESIGN.md").read_text()
    assert f"```text\n{architecture.picture()}\n```" in text, architecture.picture()


@pytest.mark.parametrize("module", MODULES)
def test_io_and_clocks_stay_at_the_edge(module: str) -> None:
    edges = ((LOOPS, LOOP_EDGE), (SOCKETS, SOCKET_EDGE), (CLOCKS, CLOCK_EDGE))
    for line, name in architecture.imports(TAKO / module):
        top = name.partition(".")[0]
        assert top, f"tako/{module}:{line}: a relative import"
        for names, edge in edges:
            where = f"tako/{module}:{line}: imports {top}; only {edge} may"
            assert top not in names or module.startswith(edge), where


def test_a_wrong_import_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tako = tmp_path / "tako"
    for folder, source in {
        "low": "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from tako.high import y\n",
        "high": "import tako.low.x\nfrom tako import errors, serve\n",
    }.items():
        (tako / folder).mkdir(parents=True)
        (tako / folder / "__init__.py").write_text(source)
    monkeypatch.setattr(architecture, "ROOT", tmp_path)
    monkeypatch.setattr(architecture, "TAKO", tako)
    monkeypatch.setattr(architecture, "FOLDERS", ["high", "low"])
    assert architecture.imported("low") == {"high": "tako/low/__init__.py:3"}
    assert architecture.imported("high") == {
        "low": "tako/high/__init__.py:1",
        "__init__": "tako/high/__init__.py:2",
    }
    with pytest.raises(CycleError):
        architecture.levels()


def test_nothing_of_the_standard_library_is_shadowed_by_path() -> None:
    # tako/http and tako/h2 have the names of other packages: imports are absolute, and
    # no folder of tako may stand on the path itself
    entries = [Path(entry or ".").resolve() for entry in sys.path]
    assert not [entry for entry in entries if entry.is_relative_to(TAKO)]
