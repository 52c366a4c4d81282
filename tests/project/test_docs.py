"""The site in ``docs/``: it is complete, and its Python runs."""

import importlib
import json
import os
import re
import runpy
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import tako
from tako import asgi, metrics, native, otel, proxy, testing, tls, topics
from tests.support.children import Child, run_child
from tests.support.patience import TIMEOUT


ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
MODULES = (tako, asgi, metrics, native, otel, proxy, testing, tls, topics)
NOT_RUN = re.compile(r"<!-- not run: [^\n]+ -->\n+$")
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def named(page: Path) -> str:
    return str(page.relative_to(DOCS))


def public(module: ModuleType) -> set[str]:
    names = {name for name in module.__all__ if not name.startswith("__")}
    return {f"{module.__name__}.{name}" for name in names}


def test_every_public_name_is_on_one_page_of_the_reference() -> None:
    found = Counter(
        name
        for page in (DOCS / "reference").glob("*.md")
        for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
    )
    assert set(found) == set().union(*map(public, MODULES))
    assert set(found.values()) == {1}


def test_every_page_is_in_the_navigation() -> None:
    config = (ROOT / "mkdocs.yml").read_text()
    navigation = config.partition("\nnav:\n")[2]
    listed = re.findall(r"[\w/.-]+\.md$", navigation, re.MULTILINE)
    assert sorted(listed) == [named(page) for page in PAGES]


def test_every_table_that_a_page_asks_for_is_made() -> None:
    pytest.importorskip("click")
    tables = runpy.run_path(str(DOCS / "hooks.py"))["TABLES"]
    mark = re.compile(r"^<!-- table: (\w+) -->$", re.MULTILINE)
    asked = [name for page in PAGES for name in mark.findall(page.read_text())]
    assert sorted(asked) == sorted(tables)
    for name, make in tables.items():
        assert make().count("\n| ") > 5, name


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_the_python_of_a_page_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Each block runs behind those above it; ``main`` is defined, and not called."""
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    scope: dict[str, Any] = {"__name__": "page"}
    for block in BLOCK.finditer(text):
        if NOT_RUN.search(text[: block.start()]) is None:
            line = text.count("\n", 0, block.start()) + 1
            code = "\n" * line + block[1]
            exec(compile(code, str(page), "exec"), scope)


@pytest.fixture(scope="module")
def tutorial(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the files of the tutorial, as its reader ends with them."""
    folder = tmp_path_factory.mktemp("chat")
    text = (DOCS / "tutorial" / "index.md").read_text()
    file = re.compile(r'^```\w+ title="([\w.]+)"\n(.*?)^```', re.MULTILINE | re.DOTALL)
    for name, content in file.findall(text):
        (folder / name).write_text(content)
    return folder


def test_the_page_of_the_tutorial_can_read_what_each_step_answers(
    tmp_path: Path,
) -> None:
    text = (DOCS / "tutorial" / "index.md").read_text()
    steps = re.findall(
        r'^```python title="chat.py"\n(.*?)^```', text, re.MULTILINE | re.DOTALL
    )
    assert len(steps) == 2
    (tmp_path / "chat.html").write_text("the page")
    for step in steps:
        scope: dict[str, Any] = {"__name__": "chat", "__file__": tmp_path / "chat.py"}
        exec(compile(step, "chat.py", "exec"), scope)
        with testing.serve(scope["router"], wire="h2") as server:
            assert server.client().get("/").text == "the page"
            with server.connect("/ws/lobby") as ws:
                ws.send("hello")
                assert json.loads(str(ws.receive()))["text"] == "hello"


def test_the_tutorial_ends_with_tests_that_pass(tutorial: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", "--strict-markers"]
    done = run_child(
        [sys.executable, "-m", "pytest", *options],
        limit=3 * TIMEOUT,
        cwd=tutorial,
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tutorial}"},
    )
    assert done.returncode == 0, done.stdout
    assert " 8 passed" in f" {done.stdout.splitlines()[-1]}"


def test_the_client_of_the_tutorial_prints_what_is_said(tutorial: Path) -> None:
    sys.path.insert(0, str(tutorial))
    try:
        router = importlib.import_module("chat").router
    finally:
        sys.path.remove(str(tutorial))
    with testing.serve(router, wire="h2") as server:
        (tutorial / "ca.pem").write_bytes(server.ca_pem)
        with server.connect("/ws/lobby") as ws:
            ws.send("before")
            position = json.loads(str(ws.receive()))["position"]
            ws.send("hello")
            ws.receive()
        url = f"{server.ws_url}/ws/lobby?since={position}"
        with Child(
            [sys.executable, str(tutorial / "listen.py"), url, "ca.pem"],
            cwd=tutorial,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        ) as client:
            assert client.wait_line("hello") == "hello\n"
            client.terminate()
            client.wait(TIMEOUT)
