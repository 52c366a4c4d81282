"""The public API is ``tako.__all__``; ``public_api.txt`` is its snapshot.

A change of the snapshot is a change for users: it belongs into CHANGELOG.md.
"""

import ast
import inspect
from pathlib import Path

import pytest

import tako


SNAPSHOT = Path(__file__).with_name("public_api.txt")
ROOT = Path(__file__).parents[2]
OWN = [
    name
    for name in tako.__all__
    if inspect.isclass(getattr(tako, name)) or inspect.isroutine(getattr(tako, name))
]


def test_all_is_the_snapshot() -> None:
    expected = SNAPSHOT.read_text().split()
    missing = sorted(set(expected) - set(tako.__all__))
    unexpected = sorted(set(tako.__all__) - set(expected))
    assert (missing, unexpected) == ([], [])


def test_all_and_the_snapshot_name_everything_once() -> None:
    expected = SNAPSHOT.read_text().split()
    assert expected == sorted(set(expected))
    assert len(tako.__all__) == len(set(tako.__all__))


def test_there_is_something_to_use() -> None:
    assert {"Router", "TakoWs", "serve_tls", "run"} <= set(OWN)


@pytest.mark.parametrize("name", OWN)
def test_public_name_says_that_it_lives_in_tako(name: str) -> None:
    # so that tracebacks and reprs show the path that users import it by
    assert getattr(tako, name).__module__ == "tako"


@pytest.mark.parametrize("name", OWN)
def test_public_name_is_documented(name: str) -> None:
    assert inspect.getdoc(getattr(tako, name))


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "tako" / "py.typed").exists()


def test_examples_use_public_names_only() -> None:
    used = {
        name
        for path in (ROOT / "examples").glob("*.py")
        for name in _names_of_tako(ast.parse(path.read_text()))
    }
    assert {"run", "bind", "Router"} <= used
    assert used - set(tako.__all__) == set()


def _names_of_tako(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="tako"), attr=name):
                names.add(name)
            case ast.ImportFrom(module="tako", names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module)) if module.startswith("tako."):
                names.add(module)
    return names
