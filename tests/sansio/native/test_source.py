"""``TAKO_PURE=1`` runs the source beside a shared object; ``status`` says what runs."""

import os
import pathlib
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES, SourceFileLoader

import pytest

import tako
from tako.native import SourceFinder, status
from tests.support.patience import TIMEOUT


SHARED = EXTENSION_SUFFIXES[0]


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> str:
    for name in ("both.py", f"both{SHARED}", f"shared{SHARED}", "source.py"):
        (tmp_path / name).touch()
    return str(tmp_path)


@pytest.mark.parametrize("name", ["both", "source"])
def test_the_source_of_a_module_is_found(folder: str, name: str) -> None:
    spec = SourceFinder.find_spec(f"tako.core.{name}", [folder])
    assert spec is not None
    assert isinstance(spec.loader, SourceFileLoader)
    assert spec.origin == str(pathlib.Path(folder, f"{name}.py"))


def test_a_shared_object_without_source_is_not_there(folder: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="TAKO_PURE=1") as caught:
        SourceFinder.find_spec("tako.native.shared", [folder])
    assert caught.value.name == "tako.native.shared"


def test_other_packages_are_as_ever(folder: str) -> None:
    assert SourceFinder.find_spec("both", [folder]) is None
    assert SourceFinder.find_spec("takotako.both", [folder]) is None
    assert SourceFinder.find_spec("tako.core.absent", [folder]) is None


def test_status_says_what_runs() -> None:
    script = "import tako, tako.core.turn as turn; print(turn.__file__)"
    root = str(pathlib.Path(tako.__file__).parents[1])
    result = subprocess.run(
        [sys.executable, "-c", f"{script}; print(tako.native.status())"],
        env={**os.environ, "TAKO_PURE": "1", "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=True,
    )
    file, said = result.stdout.splitlines()
    assert file.endswith("turn.py")
    assert said == "Python byte loops, interpreted modules"
    assert status().split(",")[0] in {"native byte loops", "Python byte loops"}
