"""The public API is ``tako.__all__`` and that of eight namespaces; a file shows it.

A change of ``public_api.txt`` is a change for users: it belongs into CHANGELOG.md.
"""

import ast
import inspect
import re
from pathlib import Path

import pytest

import tako
from tako import asgi, metrics, native, otel, proxy, testing, tls, topics


MODULES = (tako, asgi, metrics, native, otel, proxy, testing, tls, topics)
SNAPSHOT = Path(__file__).with_name("public_api.txt")
ROOT = Path(__file__).parents[2]
PUBLIC = {
    name if module is tako else f"{module.__name__}.{name}": (module, name)
    for module in MODULES
    for name in module.__all__
}
TESTING_SERVE = "tako.testing.serve"  # the same for a test, and called like that
OWN = [
    path
    for path, (module, name) in PUBLIC.items()
    if inspect.isclass(getattr(module, name))
    or inspect.isroutine(getattr(module, name))
]


def test_what_is_public_is_the_snapshot() -> None:
    expected = SNAPSHOT.read_text().split()
    missing = sorted(set(expected) - set(PUBLIC))
    unexpected = sorted(set(PUBLIC) - set(expected))
    assert (missing, unexpected) == ([], [])


def test_all_and_the_snapshot_name_everything_once() -> None:
    expected = SNAPSHOT.read_text().split()
    assert expected == sorted(set(expected))
    for module in MODULES:
        assert len(module.__all__) == len(set(module.__all__))
    names = [name for path, (_, name) in PUBLIC.items() if path != TESTING_SERVE]
    assert sorted(names) == sorted(set(names))


def test_the_names_at_the_top_are_grouped() -> None:
    source = (ROOT / "tako" / "__init__.py").read_text()
    (listed,) = re.findall(r"^__all__ = \[(.*?)^\]", source, re.DOTALL | re.MULTILINE)
    groups = re.split(r"^    # .*\n", listed, flags=re.MULTILINE)[1:]
    assert all(1 < len(group.splitlines()) < 20 for group in groups)
    assert sum(len(group.splitlines()) for group in groups) == len(tako.__all__)


def test_there_is_something_to_use() -> None:
    assert {"Router", "TakoWs", "serve_tls", "run", "tako.tls.TlsCert"} <= set(OWN)


@pytest.mark.parametrize("path", OWN)
def test_public_name_says_where_users_find_it(path: str) -> None:
    # so that tracebacks and reprs show the path that users import it by
    module, name = PUBLIC[path]
    assert getattr(module, name).__module__ == module.__name__


@pytest.mark.parametrize("path", OWN)
def test_public_name_is_documented(path: str) -> None:
    module, name = PUBLIC[path]
    assert inspect.getdoc(getattr(module, name))


def test_the_package_is_marked_as_typed() -> None:
    assert (ROOT / "tako" / "py.typed").exists()


def test_examples_use_public_names_only() -> None:
    used = {
        name
        for path in (ROOT / "examples").glob("*.py")
        for name in _names_of_tako(ast.parse(path.read_text()))
    }
    assert {"run", "bind", "Router", "tako.proxy.ProxyHeader"} <= used
    assert used - set(PUBLIC) == set()


def _names_of_tako(tree: ast.Module) -> set[str]:
    names = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="tako"), attr=name):
                names.add(name)
            case ast.ImportFrom(module="tako", names=aliases):
                names |= {alias.name for alias in aliases}
            case ast.ImportFrom(module=str(module), names=aliases):
                if module.startswith("tako."):
                    names |= {f"{module}.{alias.name}" for alias in aliases}
    return names
