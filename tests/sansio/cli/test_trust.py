"""Which stores there are, and what is said before something is done."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme


pytest.importorskip("click")

from tako.cli import commands, trust
from tako.cli.console import CliError, RunError
from tako.cli.trust import Way, ways


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ca: trustme.CA) -> Path:
    """The certificate of an authority, and an empty home for its user, who is root."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    folder = tmp_path / "data" / "tako"
    folder.mkdir(parents=True)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    return folder / "ca.pem"


def database(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "cert9.db").touch()
    return folder


def test_chromium_gets_a_database_where_there_is_none(authority: Path) -> None:
    chromium, firefox = ways(authority, "browsers")
    made, emptied, added = chromium.commands
    path = Path.home() / ".pki" / "nssdb"
    assert made == ("mkdir", "-p", "-m", "700", str(path))
    assert emptied == ("certutil", "-d", f"sql:{path}", "-N", "--empty-password")
    assert added[:6] == ("certutil", "-d", f"sql:{path}", "-A", "-t", "C,,")
    assert added[-2:] == ("-i", str(authority))
    assert not firefox.commands
    assert str(authority) in str(firefox)


def test_each_database_that_is_there_gets_the_authority(authority: Path) -> None:
    home = Path.home()
    found = [
        database(home / ".pki" / "nssdb"),
        database(home / "data" / "pki" / "nssdb"),
        database(home / ".mozilla" / "firefox" / "x.default"),
    ]
    got = ways(authority, "browsers")
    assert [way.commands[0][2] for way in got] == [f"sql:{path}" for path in found]
    assert [way.who for way in got][-1] == "Firefox, x.default"
    assert all(len(way.commands) == 1 for way in got)


def test_the_system_has_its_own_place(
    authority: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = (str(tmp_path), "tako.crt", ("update",))
    monkeypatch.setattr(trust, "_SYSTEM", (("/none", "x", ("x",)), place))
    (way,) = ways(authority, "system")
    assert way.commands == (
        ("cp", str(authority), f"{tmp_path}/tako.crt"),
        ("update",),
    )
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    (way,) = ways(authority, "system")
    assert {command[0] for command in way.commands} == {"sudo"}
    monkeypatch.setattr(trust, "_SYSTEM", ())
    (way,) = ways(authority, "system")
    assert not way.commands
    assert str(authority) in str(way)


@pytest.mark.parametrize(
    ("platform", "begin"), [("darwin", "security"), ("win32", "certutil -addstore")]
)
def test_elsewhere_one_store_is_for_all(
    authority: Path, monkeypatch: pytest.MonkeyPatch, platform: str, begin: str
) -> None:
    monkeypatch.setattr(trust, "sys", SimpleNamespace(platform=platform))
    (way,) = ways(authority)
    assert f": {begin}" in str(way)
    assert str(authority) in str(way)


def test_what_fails_is_one_line(tmp_path: Path) -> None:
    Way("x", (("mkdir", str(tmp_path / "made")),)).take()
    assert (tmp_path / "made").is_dir()
    with pytest.raises(RunError, match=r"^mkdir \S+ failed: mkdir: \S+"):
        Way("x", (("mkdir", str(tmp_path)),)).take()
    missing = (("mkdir", str(tmp_path / "not")), ("no-such-program",))
    with pytest.raises(CliError, match=r"^no-such-program is not installed$"):
        Way("x", missing).take()
    assert not (tmp_path / "not").exists()


def test_certutil_is_in_a_package_that_is_named(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name != "certutil" or None)
    with pytest.raises(CliError, match=r"certutil .*apt install libnss3-tools"):
        ways(authority, "browsers")[0].take()


def test_nothing_is_done_before_it_is_said_and_agreed_to(
    authority: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    took: list[Way] = []
    monkeypatch.setattr(Way, "take", lambda way: took.append(way))  # noqa: PLW0108
    answers = iter([False, True])
    monkeypatch.setattr("click.confirm", lambda _: next(answers))
    assert commands.run(["certs", "trust"]) == 0
    said = capsys.readouterr().out
    assert all(str(way) in said for way in ways(authority))
    assert took == []
    assert commands.run(["certs", "trust", "--store", "browsers"]) == 0
    assert [way.who for way in took] == ["Chromium, Chrome and Edge"]
    took.clear()
    assert commands.run(["certs", "trust", "--yes", "--store", "browsers"]) == 0
    assert len(took) == 1


def test_without_an_authority_there_is_nothing_to_trust(
    authority: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority.unlink()
    assert commands.run(["certs", "trust", "--yes"]) == 2
    assert "tako serve --dev-cert makes one" in capsys.readouterr().err
