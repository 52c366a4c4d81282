"""What the documents point at exists, and the README's example is a program."""

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

import tako
from tako.routing.access_format import FIELDS
from tako.testing import PeerWebSocket, serve
from tests.support.children import run_child
from tests.support.pytest_runs import said_by_pytest
from tests.support.shown import run_shown, served


ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path.name for path in ROOT.glob("*.md"))
README = (ROOT / "README.md").read_text()
DOCS = ROOT / "docs"
CLIENT = (DOCS / "reference" / "client.md").read_text()
KIT = (DOCS / "reference" / "testing.md").read_text()
LOGS = (DOCS / "how-to" / "logs.md").read_text()
MOVING = (DOCS / "how-to" / "moving.md").read_text()
SERVING = (DOCS / "how-to" / "serving.md").read_text()


def python_in(text: str) -> list[str]:
    """Return the Python of a text, block by block."""
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def python_of(heading: str) -> list[str]:
    """Return the Python of a section, block by block."""
    return python_in(README.partition(f"\n## {heading}\n")[2].partition("\n## ")[0])


def anchor(heading: str) -> str:
    """Return the fragment that a rendered heading is reached by."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_table_of_contents_is_the_list_of_headings() -> None:
    contents = re.findall(r"^- \[(.+)\]\(#(.+)\)$", README, re.MULTILINE)
    headings = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert contents == [(heading, anchor(heading)) for heading in headings]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_linked_and_named_files_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    linked = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
    named = re.findall(r"\b(?:tako|tests|examples|certs)/[\w/.]*\w", text)
    made = {"certs/cert.pem", "certs/key.pem", "certs/ca.pem", "tests/h2"}
    assert [n for n in {*linked, *named} - made if not (ROOT / n).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_named_make_targets_exist(document: str) -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^make (\w+)|`make (\w+)", (ROOT / document).read_text()))
    assert {name for pair in named for name in pair if name} <= targets


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_what_is_to_be_installed_is_called_tako_server() -> None:
    # `tako` on the package index is another project
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, timeout=60
    ).stdout.decode()
    wrong = re.compile(r"""\btako\[[a-z]|install\s+(-\S+\s+)*['"]?tako\b(?!-server)""")
    found = [
        f"{name}:{number}: {line.strip()}"
        for name in tracked.split("\0")
        if name and Path(name).suffix not in {".png", ".jsonl"}
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1)
        if wrong.search(line)
    ]
    assert found == []
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "tako-server"


def test_the_example_uses_what_there_is() -> None:
    source = "\n".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))
    tree = ast.parse(source)
    names = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "tako"
        for alias in node.names
    } | set(re.findall(r"\btako\.(?!(?:testing|topics)\b)(\w+)", source))
    assert {"TakoWs", "serve_tls", "run"} <= names <= set(tako.__all__)


def test_the_test_of_the_readme_passes_on_four_wires(tmp_path: Path) -> None:
    handler, test, _ = python_of("Example")
    assert len(test.split("\n\n\n")[1].splitlines()) <= 10
    (tmp_path / "app.py").write_text(handler)
    (tmp_path / "test_it.py").write_text(test)
    said = said_by_pytest(tmp_path, "test_it.py")
    assert "4 passed" in said, said


def test_the_handler_and_the_client_of_the_readme_meet(tmp_path: Path) -> None:
    handler, _, client = python_of("Example")
    programs = {"app.py": handler, "client.py": client}
    with served(tmp_path, programs, "app.py"):
        done = run_shown(tmp_path, "client.py")
    assert (done.stdout, done.stderr) == ("Echo over HTTP/2: hello\n", "")


def test_many_websockets_of_a_client_meet_the_handler(tmp_path: Path) -> None:
    (client,) = (each for each in python_in(CLIENT) if "tako.Client(" in each)
    programs = {"app.py": python_of("Example")[0], "client.py": client}
    with served(tmp_path, programs, "app.py"):
        done = run_shown(tmp_path, "client.py")
    assert (done.stdout, done.stderr) == ("Echo over HTTP/2: hello 49\n", "")


def test_the_block_on_the_kit_runs(tmp_path: Path) -> None:
    app = """
import tako

async def broken(request):
    return 1 / 0

app = tako.Router()
app.get("/broken", broken)
"""
    (tmp_path / "it.py").write_text(app + python_in(KIT)[0])
    done = run_child(
        [sys.executable, "it.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr


def test_what_is_said_of_a_server_for_tests_exists() -> None:
    table = KIT.partition("\n| `server.` |")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    named = {name for cell in cells for name in re.findall(r"`(\w+)", cell)}
    assert {"connect", "client", "expect_error", "ssl"} <= named
    there = {*dir(serve(tako.Router()))}
    assert named <= there
    kit = KIT + python_of("Example")[1]
    assert set(re.findall(r"\bws\.(\w+)\(", kit)) <= {*dir(PeerWebSocket)}
    assert set(re.findall(r"\bserver\.(\w+)", kit)) <= there


@pytest.mark.parametrize("function", [tako.serve, tako.serve_tls])
def test_the_arguments_of_serve_are_those_of_the_table(
    function: Callable[..., object],
) -> None:
    named = re.findall(r"^\| `(\w+)=?` \|", SERVING, re.MULTILINE)
    arguments = [*inspect.signature(function).parameters]
    assert named == [each for each in arguments if each not in {"cert", "key"}]


def test_what_is_asked_of_a_server_is_there() -> None:
    asked = set(re.findall(r"\bserver\.(\w+)", SERVING))
    assert {"addresses", "reload", "drain", "close", "statistics"} <= asked
    there = {*dir(tako.Server), *inspect.signature(tako.Server).parameters}
    assert asked - there == {"addresses"}  # which is an attribute


def test_the_fields_of_access_lines_are_those_of_the_table() -> None:
    table = LOGS.partition("| field | what | example |\n")[2].partition("\n\n")[0]
    cells = [line.split(" | ")[0] for line in table.splitlines()[1:]]
    named = re.findall(r"`([^`]+)`", " ".join(cells))
    assert named == [*FIELDS, "header[name]"]


def options(text: str) -> set[str]:
    """Return the options that ``text`` names."""
    return set(re.findall(r"(?<![\w-])--[a-z0-9][a-z0-9-]*", text))


def help_of(module: str, *arguments: str) -> set[str]:
    """Return the options that a command's help lists."""
    done = run_child(
        [sys.executable, "-m", module, *arguments, "--help"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},  # no option is broken at its hyphens
    )
    assert done.returncode == 0, done.stderr
    return options(done.stdout)


@pytest.mark.parametrize("other", ["uvicorn", "hypercorn"])
def test_the_options_of_the_tables_exist(other: str) -> None:
    table = MOVING.partition(f"## From {other}\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if " | " in line]
    theirs = options(" ".join(left for left, _ in rows))
    ours = options(" ".join(right for _, right in rows))
    assert len(rows) > 20
    assert ours <= help_of("tako.cli", "serve")
    pytest.importorskip(other)
    assert theirs <= help_of(other)


def test_the_version_is_the_one_of_the_package() -> None:
    assert f"Version {tako.__version__}:" in README
    project = (ROOT / "pyproject.toml").read_text()
    assert f'\nversion = "{tako.__version__}"\n' in project
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {tako.__version__}\n" in citation


def test_what_is_tested_is_said_alike() -> None:
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project, tool = configuration["project"], configuration["tool"]
    prefix = "Programming Language :: Python :: 3."
    minors = [
        each.removeprefix(prefix)
        for each in project["classifiers"]
        if each.startswith(prefix)
    ]
    *first, last = (f"3.{minor}" for minor in minors)
    said = f"CPython {', '.join(first)} and {last}"
    pages = [README, (ROOT / "CONTRIBUTING.md").read_text()]
    for page in (*pages, (DOCS / "index.md").read_text()):
        assert said in " ".join(page.split())
    assert tool["cibuildwheel"]["build"] == [f"cp3{minor}-*" for minor in minors]
    assert project["requires-python"] == f">={first[0]}"
