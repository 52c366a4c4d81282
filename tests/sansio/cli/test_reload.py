"""Which files ``--reload`` watches, and which it names."""

from pathlib import Path

import pytest

from tako.cli.reload import is_meant, shown


ROOTS = [Path("/srv/app"), Path("/srv/lib")]


@pytest.mark.parametrize(
    ("path", "include", "exclude", "meant"),
    [
        ("/srv/app/main.py", (), (), True),
        ("/srv/app/deep/fast.pyx", (), (), True),
        ("/srv/app/page.html", (), (), False),
        ("/srv/app/page.html", ("*.html",), (), True),
        ("/srv/app/main.py", ("*.html",), (), True),  # beside Python's, not for them
        ("/srv/app/deep/page.html", ("*.html",), (), True),
        ("/srv/app/pages/a.html", ("pages/*",), (), True),
        ("/srv/lib/pages/deep/a.html", ("pages/*",), (), True),
        ("/srv/app/other/pages/a.html", ("pages/*",), (), False),  # from the root on
        ("/srv/app/main_test.py", (), ("*_test.py",), False),
        ("/srv/app/generated/a.py", (), ("generated/*",), False),
        ("/srv/app/page.html", ("*.html",), ("page.*",), False),  # no goes before yes
        ("/srv/app/PAGE.HTML", ("*.html",), (), False),  # names are as they are
        ("/elsewhere/main.py", (), (), True),  # behind a link, say
    ],
)
def test_patterns_are_for_names_or_for_paths_below_a_folder(
    path: str, include: tuple[str, ...], exclude: tuple[str, ...], *, meant: bool
) -> None:
    assert is_meant(Path(path), ROOTS, include, exclude) is meant


def test_files_are_named_from_the_current_folder_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    inside = [str(here / "a" / f"{name}.py") for name in "dcba"]
    outside = str(tmp_path / "x.py")
    assert shown([inside[0]]) == "a/d.py"
    assert shown([inside[0], inside[0], outside]) == f"{outside}, a/d.py"
    assert shown(inside[:3]) == "a/b.py, a/c.py, a/d.py"
    assert shown(inside) == "a/a.py, a/b.py, a/c.py and 1 more"
