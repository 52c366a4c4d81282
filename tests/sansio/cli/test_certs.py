"""``tako certs``: what is kept is shown, and renewed."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme


pytest.importorskip("click")

from tako.acme.renewal import Memory, Renewal, RenewalState
from tako.acme.store import Store
from tako.cli import commands
from tako.tls.acme import Acme, AcmeFiles


@pytest.fixture
def acme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ca: trustme.CA) -> Acme:
    """One that has a certificate, in the folder that is usual."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    made = Acme("a.test", "b.test")
    AcmeFiles(made).ready(("h2",), None)
    leaf = ca.issue_cert(*made.names)
    made.certificate.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
    return made


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert commands.run(["certs", *words]) == code
    output = capsys.readouterr()
    return output.err if code else output.out


def test_what_is_kept_is_shown_with_names_expiry_and_place(
    acme: Acme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (line,) = said(capsys).splitlines()
    assert line.startswith(f"{acme.certificate}: a.test, b.test; expires ")
    assert "tako serve --dev-cert" in said(capsys, "--acme-dir", str(tmp_path / "no"))
    said(capsys, "renew")
    authority, own, ordered = said(capsys).splitlines()
    assert authority.startswith(f"{tmp_path}/tako/ca.pem: the local authority; ")
    assert own.startswith(f"{tmp_path}/tako/cert.pem: localhost, ")
    assert ordered == line


def test_the_certificate_of_this_machine_is_renewed_by_the_same_authority(
    acme: Acme, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said(capsys, "renew")
    before = [
        (tmp_path / "tako" / name).read_bytes() for name in ("ca.pem", "cert.pem")
    ]
    assert "cert.pem: localhost, " in said(capsys, "renew")
    after = [(tmp_path / "tako" / name).read_bytes() for name in ("ca.pem", "cert.pem")]
    assert [one == two for one, two in zip(before, after, strict=True)] == [True, False]


@pytest.mark.parametrize("there", [True, False])
def test_one_that_was_ordered_is_due_at_once(
    acme: Acme, capsys: pytest.CaptureFixture[str], *, there: bool
) -> None:
    if not there:
        acme.certificate.unlink()
    store, now = Store(acme.certificate.parent), datetime.now(UTC)
    store.remember(Memory(failures=5, since=now, pause=86400.0))
    assert "within a minute" in said(capsys, "renew", "a.test")
    renewal = Renewal(acme.names, lambda: 0.0)
    found = store.held()
    held = None if found is None else found[1]
    renewal.look(datetime.now(UTC), held, store.memory())
    assert renewal.state is RenewalState.DUE


def test_a_name_has_to_be_the_first_of_a_certificate(
    acme: Acme, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.test", "*", "../a.test"):
        assert f"whose first name is {name}" in said(capsys, "renew", name, code=2)


def test_an_order_is_not_disturbed(
    acme: Acme, capsys: pytest.CaptureFixture[str]
) -> None:
    with Store(acme.certificate.parent).locked():
        assert "an order is under way" in said(capsys, "renew", "a.test", code=2)
