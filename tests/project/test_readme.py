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
from tests.support.children import run_child


ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted(path.name for path in ROOT.glob("*.md"))
README = (ROOT / "README.md").read_text()


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
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    } | set(re.findall(r"\btako\.(\w+)", source))
    assert {"TakoWs", "serve_tls", "run"} <= names <= set(tako.__all__)


@pytest.mark.parametrize("function", [tako.serve, tako.serve_tls])
def test_the_arguments_of_serve_are_those_of_the_table(
    function: Callable[..., object],
) -> None:
    table = README.partition("## Serving\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)=?` \|", table, re.MULTILINE)
    arguments = [*inspect.signature(function).parameters]
    assert named == [each for each in arguments if each not in {"cert", "key"}]


def test_what_is_asked_of_a_server_is_there() -> None:
    asked = set(re.findall(r"\bserver\.(\w+)", README))
    assert {"addresses", "reload", "drain", "close", "statistics"} <= asked
    there = {*dir(tako.Server), *inspect.signature(tako.Server).parameters}
    assert asked - there == {"addresses"}  # which is an attribute


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
    table = README.partition(f"## From {other}\n")[2].partition("\n## ")[0]
    rows = [line.split(" | ") for line in table.splitlines() if " | " in line]
    theirs = options(" ".join(left for left, _ in rows))
    ours = options(" ".join(right for _, right in rows))
    assert len(rows) > 20
    assert ours <= help_of("tako.cli", "serve")
    pytest.importorskip(other)
    assert theirs <= help_of(other)


def test_the_version_is_the_one_of_the_package() -> None:
    assert f"Version {tako.__version__}:" in README
    assert (
        f'\nversion = "{tako.__version__}"\n' in (ROOT / "pyproject.toml").read_text()
    )
