"""Certificates for development: the script's, the command's, and what is in a file."""

import contextlib
import datetime
import os
import runpy
import ssl
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tako.errors import TlsConfigError
from tako.tls import dev
from tako.tls.certificates import ClientAuth, TlsCert, TlsSettings
from tako.tls.server_pipe import ServerTlsPipe


GENERATE = Path(__file__).parents[3] / "certs" / "generate.py"


def write(folder: Path, leaf: trustme.LeafCert) -> Path:
    path = folder / "leaf.pem"
    path.write_bytes(leaf.cert_chain_pems[0].bytes())
    return path


class TestFacts:
    def test_names_issuer_key_and_expiry(self, tmp_path: Path) -> None:
        now = datetime.datetime.now(datetime.UTC)
        ca = trustme.CA(organization_name="the authority")
        leaf = ca.issue_cert(
            "a.test", "10.0.0.1", not_after=now + datetime.timedelta(days=5.5)
        )
        found = dev.facts(write(tmp_path, leaf))[0]
        assert found.names == ("a.test", "10.0.0.1")
        assert "the authority" in found.issuer
        assert found.key == "EC secp256r1"
        assert found.days_left == 5
        text = f"a.test, 10.0.0.1; expires {found.expires:%Y-%m-%d}, 5 days left"
        assert str(found) == text

    def test_one_that_is_over_says_so(self, tmp_path: Path) -> None:
        past = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=2)
        leaf = trustme.CA().issue_cert("a.test", not_after=past)
        found = dev.facts(write(tmp_path, leaf))[0]
        assert found.days_left < 0
        assert str(found) == f"a.test; EXPIRED on {past:%Y-%m-%d}"

    def test_one_that_is_not_valid_yet_says_so(self, tmp_path: Path) -> None:
        begins = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=2)
        leaf = trustme.CA().issue_cert("a.test", not_before=begins)
        found = dev.facts(write(tmp_path, leaf))[0]
        assert (found.begun, found.begins) == (False, begins.replace(microsecond=0))
        assert str(found) == f"a.test; NOT VALID before {begins:%Y-%m-%d %H:%M} UTC"

    def test_without_names_it_is_the_subject(self, tmp_path: Path) -> None:
        path = tmp_path / "ca.pem"
        path.write_bytes(trustme.CA(organization_name="an authority").cert_pem.bytes())
        assert "an authority" in dev.facts(path)[0].names[0]


class TestKeptAuthority:
    def test_it_is_made_once_and_signs_ever_after(self, tmp_path: Path) -> None:
        folder = tmp_path / "kept"
        first = dev.kept_authority(folder, "machine")
        again = dev.kept_authority(folder, "another")
        assert again.cert_pem.bytes() == first.cert_pem.bytes()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "ca-key.pem").stat().st_mode) == 0o600
        dev.write_server(again, tmp_path, ["a.test"])
        assert "machine" in dev.facts(tmp_path / "cert.pem")[0].issuer
        TlsSettings(TlsCert.pem_paths(tmp_path / "cert.pem", tmp_path / "key.pem"))

    def test_one_that_is_broken_is_not_replaced(self, tmp_path: Path) -> None:
        dev.kept_authority(tmp_path, "machine")
        (tmp_path / "ca-key.pem").write_bytes(b"broken")
        with pytest.raises(TlsConfigError, match=r"ca-key\.pem cannot be used: "):
            dev.kept_authority(tmp_path, "machine")

    def test_a_name_that_cannot_be_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(TlsConfigError, match="cannot issue a certificate for"):
            dev.write_server(trustme.CA(), tmp_path, ["\N{SNOWMAN}" * 100])
        assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def main() -> Callable[[list[str]], int]:
    found: Callable[[list[str]], int] = runpy.run_path(str(GENERATE))["main"]
    return found


class TestGenerate:
    def test_set_can_be_served_and_is_kept(
        self,
        main: Callable[[list[str]], int],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        directory = tmp_path / "certs"
        where = ["--dir", str(directory)]
        assert main(where) == 0
        assert f"wrote {directory / 'key.pem'}" in capsys.readouterr().out
        assert stat.S_IMODE((directory / "key.pem").stat().st_mode) == 0o600
        assert sorted(os.listdir(directory)) == ["ca.pem", "cert.pem", "key.pem"]
        TlsSettings(TlsCert.pem_paths(directory / "cert.pem", directory / "key.pem"))
        before = (directory / "cert.pem").read_bytes()
        assert main(where) == 0
        assert "has a valid set" in capsys.readouterr().out
        assert main([*where, "other.test"]) == 1
        assert "is not for other.test" in capsys.readouterr().out
        assert main([*where, "--client", "alice"]) == 1
        assert (directory / "cert.pem").read_bytes() == before
        assert main([*where, "--force", "other.test"]) == 0
        assert main([*where, "other.test"]) == 0
        assert (directory / "cert.pem").read_bytes() != before

    def test_names_and_clients_are_verified_by_the_authority(
        self, main: Callable[[list[str]], int], tmp_path: Path
    ) -> None:
        assert main(["--dir", str(tmp_path), "--client", "alice", "x.test"]) == 0
        files = tmp_path / "cert.pem", tmp_path / "key.pem"
        auth = ClientAuth.required(tmp_path / "ca.pem")
        tls = TlsSettings(TlsCert.pem_paths(*files, client_auth=auth))
        for host in ("localhost", "127.0.0.1", "::1", "x.test"):
            context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
            context.load_cert_chain(
                tmp_path / "client.pem", tmp_path / "client-key.pem"
            )
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = context.wrap_bio(incoming, outgoing, server_hostname=host)
            pipe = ServerTlsPipe(tls)
            for _ in range(2):
                with contextlib.suppress(ssl.SSLWantReadError):
                    client.do_handshake()
                pipe.receive_data(outgoing.read())
                incoming.write(pipe.data_to_send())
            assert pipe.established, pipe.error
            assert pipe.info is not None
            assert pipe.info.peer_cert is not None
        assert stat.S_IMODE((tmp_path / "client-key.pem").stat().st_mode) == 0o600
        assert main(["--dir", str(tmp_path), "--force"]) == 0
        assert not (tmp_path / "client.pem").exists()

    def test_broken_set_is_told_of(
        self,
        main: Callable[[list[str]], int],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        where = ["--dir", str(tmp_path)]
        assert main(where) == 0
        (tmp_path / "key.pem").write_bytes(b"broken")
        assert main(where) == 1
        assert "cannot be used" in capsys.readouterr().out
        (tmp_path / "key.pem").unlink()
        assert main(where) == 1
        assert "has no key.pem" in capsys.readouterr().out

    def test_expired_set_is_told_of(
        self,
        main: Callable[[list[str]], int],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(dev, "LIFETIME", -dev.LIFETIME)
            assert main(["--dir", str(tmp_path)]) == 0
        capsys.readouterr()
        assert main(["--dir", str(tmp_path)]) == 1
        assert "expired on" in capsys.readouterr().out
