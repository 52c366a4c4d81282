"""Options in ``tako.toml`` and in ``pyproject.toml``."""

from pathlib import Path
from typing import Any

import click
import pytest


pytest.importorskip("click")

from tako.cli import config_file
from tako.cli.config_file import ConfigFile
from tako.cli.console import CliError
from tako.cli.options import SecondsOption, config_options


@click.command()
@click.argument("target")
@click.option("--bind", multiple=True)
@click.option("--cert")
@click.option("--plain", is_flag=True)
@click.option("--workers", type=int)
@click.option("--websockets/--no-websockets", default=True)
@click.option("--worker-timeout", cls=SecondsOption)
@config_options
def command(**_: Any) -> None: ...


def read(path: Path | None) -> ConfigFile | None:
    return config_file.read(path, command.params)


def file(folder: Path, text: str, name: str = "tako.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def error(folder: Path, text: str, name: str = "tako.toml") -> str:
    """Return what is wrong with a file, without its folder."""
    with pytest.raises(CliError) as caught:
        read(file(folder, text, name))
    return caught.value.message.replace(f"{folder}/", "")


def test_values_are_those_that_click_takes(tmp_path: Path) -> None:
    found = read(
        file(
            tmp_path,
            'target = "main:app"\nbind = ["a:1", "b:2"]\nplain = true\nworkers = 4\n'
            'websockets = false\ndrain-timeout = 2.5\nmax-connections = "none"\n'
            'alpn = ["h2", "http/1.1"]\nkeep-alive = false\nworker-timeout = 1.5\n',
        )
    )
    assert found is not None
    assert found.values == {
        "target": "main:app",
        "bind": ["a:1", "b:2"],
        "plain": True,
        "workers": 4,
        "websockets": False,
        "drain_timeout": "2.5",
        "max_connections": "none",
        "alpn": "h2,http/1.1",
        "keep_alive": False,
        "worker_timeout": "1.5",
    }


def test_one_address_needs_no_list(tmp_path: Path) -> None:
    found = read(file(tmp_path, 'bind = "a:1"'))
    assert found is not None
    assert found.values == {"bind": ["a:1"]}


def test_places_name_the_line(tmp_path: Path) -> None:
    path = file(tmp_path, '# mine\n\nbind = "a:1"\n"plain" = true # yes\n')
    found = read(path)
    assert found is not None
    assert found.place("bind") == f"{path}:3"
    assert found.place("plain") == f"{path}:4"
    assert found.place("workers") == str(path)


def test_in_a_pyproject_it_is_a_table(tmp_path: Path) -> None:
    text = '[project]\nbind = 1\n[tool.tako]\nbind = "a:1"\n[tool.other]\nworkers = 9\n'
    path = file(tmp_path, text, "pyproject.toml")
    found = read(path)
    assert found is not None
    assert found.values == {"bind": ["a:1"]}
    assert found.place("bind") == f"{path}:4"


def test_a_table_written_with_dots_has_no_line(tmp_path: Path) -> None:
    found = read(file(tmp_path, "tool.tako.workers = 2", "pyproject.toml"))
    assert found is not None
    assert found.values == {"workers": 2}
    assert found.place("workers") == str(found.path)


class TestWithoutAName:
    @pytest.fixture(autouse=True)
    def _inside(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)

    def test_there_may_be_none(self, tmp_path: Path) -> None:
        assert read(None) is None
        file(tmp_path, "[tool.ruff]\n", "pyproject.toml")
        assert read(None) is None

    def test_the_one_of_the_folder_is_read(self, tmp_path: Path) -> None:
        file(tmp_path, "[tool.tako]\nworkers = 2", "pyproject.toml")
        found = read(None)
        assert found is not None
        assert found.place("workers") == "pyproject.toml:2"

    def test_its_own_file_comes_first(self, tmp_path: Path) -> None:
        file(tmp_path, "[tool.tako]\nworkers = 2", "pyproject.toml")
        file(tmp_path, "workers = 3")
        found = read(None)
        assert found is not None
        assert found.values == {"workers": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nworker = 2", "tako.toml:2: there is no option 'worker'; perhaps workers"),
        (
            "drain_timeout = 2",
            "tako.toml:1: there is no option 'drain_timeout'; perhaps drain-timeout",
        ),
        ("zzz = 2", "tako.toml:1: there is no option 'zzz'"),
        ("[bind]\na = 1", "tako.toml:1: bind takes a text, or a list of texts"),
        ("[tool.tako]", "tako.toml: there is no option 'tool'"),
        ("plain = 1", "tako.toml:1: plain takes true or false"),
        ("bind = 8443", "tako.toml:1: bind takes a text, or a list of texts"),
        ('bind = ["a:1", 2]', "tako.toml:1: bind takes a text, or a list of texts"),
        ("cert = 5", "tako.toml:1: cert takes a text"),
        ("workers = true", "tako.toml:1: workers takes a whole number"),
        ("workers = 1.5", "tako.toml:1: workers takes a whole number"),
        (
            "drain-timeout = true",
            "tako.toml:1: drain-timeout takes a number, a text or a list of texts",
        ),
        (
            "drain-timeout = 2026-01-01",
            "tako.toml:1: drain-timeout takes a number, a text or a list of texts",
        ),
        ("\nplain = ", "tako.toml:2: Invalid value"),
        ("plain = true\nplain = true", "tako.toml:2: Cannot overwrite a value"),
    ],
)
def test_what_is_wrong_has_its_line(tmp_path: Path, text: str, said: str) -> None:
    assert error(tmp_path, text) == said


@pytest.mark.parametrize("value", ["1", '"x"', "[]"])
def test_in_a_pyproject_the_table_is_a_table(tmp_path: Path, value: str) -> None:
    said = error(tmp_path, f"[tool]\ntako = {value}", "pyproject.toml")
    assert said == "pyproject.toml: [tool.tako] is a table of options"


def test_a_pyproject_without_tables_is_not_ours(tmp_path: Path) -> None:
    assert read(file(tmp_path, "tool = 1", "pyproject.toml")) is None


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="cannot be read: No such file"):
        read(tmp_path / "missing.toml")
    (tmp_path / "latin.toml").write_bytes(b'cert = "\xe4"')
    with pytest.raises(CliError, match="is not text in UTF-8"):
        read(tmp_path / "latin.toml")
