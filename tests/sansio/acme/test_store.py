"""What is kept on disk: modes, whole files, the lock, what a broken file is."""

import json
import logging
import stat
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tako.acme import proof
from tako.acme.renewal import Memory
from tako.acme.store import Store, read_memory, write_memory
from tako.tls.acme import Acme, AcmeFiles


NOW = datetime(2030, 1, 1, tzinfo=UTC)
FULL = Memory(
    failures=3,
    since=NOW,
    pause=7.5,
    order="https://ca.test/order/1",
    asked_for=2**159,
    renew_at=NOW,
    ask_at=NOW,
)


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    made = Acme("a.test", "b.test", folder=tmp_path / "acme")
    AcmeFiles(made).ready(("h2",), None)
    return made


def modes(folder: Path) -> set[tuple[bool, int]]:
    found = [folder, *folder.rglob("*")]
    return {(it.is_dir(), stat.S_IMODE(it.stat().st_mode)) for it in found}


def test_folders_and_files_are_for_their_owner_alone(acme: Acme) -> None:
    store = Store(acme.certificate.parent)
    with store.locked() as mine:
        assert mine
        store.account_key()
        store.order_key(fresh=True)
        store.show("a.test", b"x" * 32, NOW)
        store.remember(FULL)
        store.keep(proof.new_key(), b"chain")
    assert len(list(acme.folder.rglob("*"))) == 8
    assert modes(acme.folder) == {(True, 0o700), (False, 0o600)}


def test_only_one_has_the_lock_at_a_time(acme: Acme) -> None:
    with Store(acme.certificate.parent).locked() as mine:
        with Store(acme.certificate.parent).locked() as other:
            assert (mine, other) == (True, False)
        with Store(acme.certificate.parent).locked() as other:
            assert not other
    with Store(acme.certificate.parent).locked() as mine:
        assert mine


def test_keys_stay_until_another_is_wanted(acme: Acme) -> None:
    store = Store(acme.certificate.parent)
    assert not store.has_order_key()
    first = store.order_key(fresh=True)
    assert store.has_order_key()
    pem = proof.key_pem(first)
    assert proof.key_pem(Store(acme.certificate.parent).order_key(fresh=False)) == pem
    assert proof.key_pem(store.order_key(fresh=True)) != pem
    account = proof.key_pem(store.account_key())
    store.tidy(order=True)
    assert not store.has_order_key()
    assert proof.key_pem(Store(acme.certificate.parent).account_key()) == account


def test_challenges_go_and_the_certificate_stays(acme: Acme) -> None:
    store = Store(acme.certificate.parent)
    store.keep(proof.new_key(), proof.challenge_pem("a.test", b"x" * 32, NOW))
    for name in acme.names:
        store.show(name, b"x" * 32, NOW)
        assert acme.challenge(name).exists()
    store.tidy(order=False)
    assert not any(acme.challenge(name).exists() for name in acme.names)
    found = store.held()
    assert found is not None
    assert found[1].names == {"a.test"}


def test_what_is_broken_counts_as_missing_and_is_said(
    acme: Acme, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(acme.certificate.parent)
    assert store.held() is None
    assert store.memory() == Memory()
    assert not caplog.records
    acme.certificate.write_bytes(b"nothing")
    store.memory_path.write_bytes(b"{}")
    with caplog.at_level(logging.WARNING):
        assert store.held() is None
        assert store.memory() == Memory()
    assert [str(acme.certificate) in it.getMessage() for it in caplog.records] == [
        True,
        False,
    ]


def test_a_broken_account_is_not_replaced(acme: Acme) -> None:
    path = acme.authority_folder / "account.pem"
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"account\.pem"):
        Store(acme.certificate.parent).account_key()
    assert path.read_bytes() == b"nothing"


@pytest.mark.parametrize("memory", [Memory(), FULL])
def test_what_is_remembered_is_read_again(acme: Acme, memory: Memory) -> None:
    assert read_memory(write_memory(memory)) == memory
    Store(acme.certificate.parent).remember(memory)
    assert Store(acme.certificate.parent).memory() == memory


@pytest.mark.parametrize("name", [it.name for it in fields(Memory)])
def test_a_file_with_a_wrong_value_is_refused(name: str) -> None:
    good = json.loads(write_memory(FULL))
    values: list[object] = [True, [], {}]
    if name != "order":  # any text may be a URL
        values += ["x", "2030-01-01T00:00:00"]
    for value in values:
        with pytest.raises(ValueError, match=rf"{name}|isoformat"):
            read_memory(json.dumps(good | {name: value}).encode())


@pytest.mark.parametrize("pause", [b"NaN", b"Infinity", b"1e999"])
def test_a_pause_has_an_end(pause: bytes) -> None:
    with pytest.raises(ValueError, match="pause"):
        read_memory(write_memory(FULL).replace(b"7.5", pause))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"more": 1}', b"\xff"])
def test_another_file_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        read_memory(data)
