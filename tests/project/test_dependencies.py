"""What tako imports is what it declares, with bounds."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

from tests.project.architecture import ROOT, TAKO, imports


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = (
    *("acme", "cli", "metrics", "multipart", "otel", "redis", "socks"),
    *("testing", "trio", "uvloop"),
)
PACKAGES = {"opentelemetry": "opentelemetry-api"}
"""What is required for a name that is imported, where that is called otherwise."""


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[ ]", each)[0] for each in requirements}


def imported(path: Path, *, when: str) -> set[str]:
    """Return the packages that a module imports: at its ``top``, or ``inside``."""
    tree = ast.parse(path.read_bytes())
    top = {
        node.lineno
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    found = {
        name.partition(".")[0]
        for line, name in imports(path)
        if (line in top) == (when == "top")
    }
    found -= set(sys.stdlib_module_names) | {"tako"}
    return {PACKAGES.get(name, name) for name in found}


def test_what_is_imported_at_once_is_required() -> None:
    optional = declared(
        [r for name in EXTRAS for r in PROJECT["optional-dependencies"][name]]
    )
    found: set[str] = set()
    for path in TAKO.rglob("*.py"):
        found |= imported(path, when="top") - optional
    assert found == declared(PROJECT["dependencies"])


def test_what_is_imported_when_it_is_needed_is_an_extra() -> None:
    required = declared(PROJECT["dependencies"])
    optional = {r for name in EXTRAS for r in PROJECT["optional-dependencies"][name]}
    found: set[str] = set()
    for path in TAKO.rglob("*.py"):
        found |= imported(path, when="inside") | imported(path, when="top")
        found |= set(re.findall(r'import_module\("(\w+)', path.read_text())) - {"tako"}
    found.remove("mypy_extensions")  # for checkers only: tako/http/compiling.py
    assert found - required == declared(sorted(optional))


@pytest.mark.parametrize(
    "requirement",
    [
        *PROJECT["dependencies"],
        *(r for name in EXTRAS for r in PROJECT["optional-dependencies"][name]),
    ],
)
def test_a_requirement_has_a_lower_bound(requirement: str) -> None:
    assert re.match(r"[\w-]+(\[\w+\])?>=\d", requirement)
