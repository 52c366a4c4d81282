"""What tako imports is what it declares, with bounds; ``h2`` has what is borrowed."""

import ast
import re
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import h2.config
import h2.connection
import pytest

from tako.h2.h2_library import PRIVATE_NAMES
from tests.project.architecture import ROOT, TAKO, imports


PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = ("cli", "multipart", "trio", "uvloop")
LIBRARY = TAKO / "h2" / "h2_library.py"


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
    return found - set(sys.stdlib_module_names) - {"tako"}


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
    assert found - required == declared(sorted(optional))


@pytest.mark.parametrize(
    "requirement",
    [
        *PROJECT["dependencies"],
        *(r for name in EXTRAS for r in PROJECT["optional-dependencies"][name]),
    ],
)
def test_a_requirement_has_a_lower_bound(requirement: str) -> None:
    assert re.match(r"[\w-]+>=\d", requirement)


def test_the_library_whose_private_names_are_used_is_bounded_above() -> None:
    (requirement,) = (r for r in PROJECT["dependencies"] if r.startswith("h2>"))
    least, _, above = requirement.removeprefix("h2>=").partition(",<")
    here = tuple(map(int, version("h2").split(".")))
    assert tuple(map(int, least.split("."))) <= here < tuple(map(int, above.split(".")))


def test_every_private_name_of_h2_is_listed() -> None:
    tree = ast.parse(LIBRARY.read_bytes())
    named = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    named |= {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    theirs = {name for name in named if re.match(r"_[a-z]", name) and exists(name)}
    assert theirs == set(PRIVATE_NAMES)


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_h2_has_what_is_borrowed(name: str) -> None:
    assert exists(name)


def exists(name: str) -> bool:
    config = h2.config.H2Configuration(client_side=False)
    return hasattr(h2.connection.H2Connection(config), name)
