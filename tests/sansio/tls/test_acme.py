"""``Acme``, the files that it stands for, and handshakes of an authority (RFC 8737)."""

import hashlib
import logging
import os
import ssl
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509

from tako.acme import proof
from tako.acme.store import Store
from tako.errors import TlsConfigError
from tako.tls import LETS_ENCRYPT, LETS_ENCRYPT_STAGING, Acme, TlsCert
from tako.tls.acme import CHALLENGE_ALPN, AcmeFiles, default_folder
from tako.tls.certificates import TlsSettings, as_cert, build_ssl_context
from tako.tls.client_hello import Alert
from tako.tls.context import ClientAuth
from tako.tls.server_pipe import ServerTlsPipe


DIGEST = hashlib.sha256(b"token.thumbprint").digest()
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture
def acme(tmp_path: Path) -> Acme:
    return Acme("a.test", "b.test", folder=tmp_path)


def issue(acme: Acme, ca: trustme.CA, *names: str) -> None:
    """Write what an authority would have issued."""
    pem = ca.issue_cert(*(names or acme.names)).private_key_and_cert_chain_pem.bytes()
    acme.certificate.write_bytes(pem)


class Talk:
    """A handshake over memory, as far as it goes."""

    def __init__(
        self,
        settings: TlsSettings,
        name: str | None,
        *alpn: str,
        version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        context.set_alpn_protocols(list(alpn))
        self.pipe = ServerTlsPipe(settings)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = context.wrap_bio(incoming, outgoing, server_hostname=name)
        self.answers: list[bytes] = []
        self.said: list[bytes] = []
        for _ in range(4):
            try:
                self.client.do_handshake()
                self.complete = True
            except ssl.SSLWantReadError:
                self.complete = False
            except ssl.SSLError as error:
                self.complete, self.error = False, error
                break
            self.said.append(self.pipe.receive_data(outgoing.read()))
            self.answers.append(self.pipe.data_to_send())
            incoming.write(self.answers[-1])

    def refusal(self) -> bytes:
        """Return the one thing that the server has sent."""
        return b"".join(self.answers)


# -- what is asked for -----------------------------------------------------------------


def test_names_are_as_they_are_looked_up(tmp_path: Path) -> None:
    acme = Acme("A.Test.", "a.test", "b.test", folder=str(tmp_path))
    assert acme.names == ("a.test", "b.test")
    assert acme.directory == LETS_ENCRYPT
    assert acme == Acme("a.test", "b.test", folder=tmp_path)
    assert hash(acme) == hash(Acme("a.test", "b.test", folder=tmp_path))


@pytest.mark.parametrize(
    ("names", "more", "text"),
    [
        ((), {}, "1 to 100 names, not 0"),
        ([f"{n}.test" for n in range(101)], {}, "not 101"),
        (("*.a.test",), {}, "wildcards cannot be ordered"),
        (("10.0.0.1",), {}, "host names"),
        (("a_b/..",), {}, "cannot be a server name"),
        (("a..b",), {}, "host names"),
        (("..",), {}, "cannot be a server name"),
        (("bücher.test",), {}, "IDNs"),
        (("a.test",), {"email": "a@b,c@d"}, "one address"),
        (("a.test",), {"email": "nobody"}, "one address"),
        (("a.test",), {"directory": "http://ca.test/"}, "https URL"),
        (("a.test",), {"directory": "ca.test"}, "https URL"),
    ],
)
def test_what_cannot_be_ordered_is_refused(
    names: tuple[str, ...], more: dict[str, Any], text: str
) -> None:
    with pytest.raises(TlsConfigError, match=text):
        Acme(*names, **more)


def test_each_authority_has_a_folder_of_its_own(tmp_path: Path) -> None:
    folders = {
        Acme("a.test", folder=tmp_path, directory=url).authority_folder
        for url in (
            LETS_ENCRYPT,
            LETS_ENCRYPT_STAGING,
            "https://ca.test/one",
            "https://ca.test/two",
        )
    }
    assert len(folders) == 4
    assert {folder.parent for folder in folders} == {tmp_path}


def test_systemd_or_the_user_has_the_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "tako" / "acme"
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/app:/var/lib/more")
    assert Acme("a.test").folder == Path("/var/lib/app/acme")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    acme = Acme("a.test", folder=tmp_path / "file")
    with pytest.raises(TlsConfigError, match=rf"{tmp_path}/file.* cannot be used"):
        TlsSettings(acme)


def test_without_its_client_the_extra_is_named(
    acme: Acme, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "aioacme", None)
    with pytest.raises(TlsConfigError, match=r"pip install 'tako-server\[acme\]'"):
        TlsSettings(acme)


# -- ordinary handshakes ---------------------------------------------------------------


def test_until_there_is_a_certificate_handshakes_are_refused(
    acme: Acme, ca: trustme.CA
) -> None:
    settings = TlsSettings(acme)
    refused = Talk(settings, "a.test", "h2")
    assert refused.refusal() == Alert.UNRECOGNIZED_NAME.record
    issue(acme, ca)
    (each,) = settings.reloadables()
    assert each.changed()
    each.reload_from_pem()
    assert not each.changed()
    talk = Talk(settings, "a.test", "h2")
    assert talk.complete
    assert talk.client.selected_alpn_protocol() == "h2"


def test_a_certificate_that_is_there_serves_at_once(acme: Acme, ca: trustme.CA) -> None:
    TlsSettings(acme)
    issue(acme, ca)
    assert Talk(TlsSettings(acme), "b.test", "h2").complete


def test_a_broken_file_changes_nothing(
    acme: Acme, ca: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    settings = TlsSettings(acme)
    issue(acme, ca)
    (each,) = settings.reloadables()
    each.reload_from_pem()
    acme.certificate.write_bytes(b"nothing")
    assert each.changed()
    with pytest.raises(TlsConfigError, match=r"certificate\.pem"):
        each.reload_from_pem()
    assert not each.changed()
    assert Talk(settings, "a.test", "h2").complete
    acme.certificate.unlink()
    each.reload_from_pem()
    assert Talk(settings, "a.test", "h2").complete
    acme.certificate.write_bytes(b"nothing")
    with caplog.at_level(logging.ERROR):
        anew = TlsSettings(acme)
    assert "going on without a certificate" in caplog.text
    assert not Talk(anew, "a.test", "h2").complete


def test_clients_may_have_to_show_a_certificate(tmp_path: Path, ca: trustme.CA) -> None:
    acme = Acme("a.test", folder=tmp_path, client_auth=ClientAuth.required(ca))
    TlsSettings(acme)
    issue(acme, ca)
    answer = TlsSettings(acme).answer("a.test")
    assert answer is not None
    assert answer.context.verify_mode is ssl.CERT_REQUIRED


def test_it_may_be_one_of_several_by_name(tmp_path: Path, ca: trustme.CA) -> None:
    a, b = (Acme(name, folder=tmp_path) for name in ("a.test", "b.test"))
    settings = TlsSettings(TlsCert.sni({"a.test": a, "b.test": b}))
    assert {each.acme for each in settings.ordered} == {a, b}
    issue(b, ca)
    for each in settings.reloadables():
        each.reload_from_pem()
    assert Talk(settings, "b.test", "h2").complete
    assert not Talk(settings, "a.test", "h2").complete


def test_a_resolver_cannot_return_one(acme: Acme) -> None:
    for found in (acme, TlsCert.sni({"a.test": acme})):
        settings = TlsSettings(TlsCert.resolver(partial(returned, found)))
        with pytest.raises(TlsConfigError, match="a resolver cannot return an Acme"):
            settings.answer("a.test")


def returned(found: TlsCert | Acme, _: str | None) -> TlsCert | Acme:
    return found


def test_it_is_no_single_context(acme: Acme) -> None:
    with pytest.raises(TlsConfigError, match="stands for one certificate"):
        build_ssl_context(acme)
    assert as_cert(acme) == as_cert(Acme(*acme.names, folder=acme.folder))


# -- handshakes of an authority --------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_a_challenge_is_answered_and_the_connection_ends(
    acme: Acme, ca: trustme.CA, version: ssl.TLSVersion
) -> None:
    settings = TlsSettings(acme)
    issue(acme, ca)
    Store(acme.certificate.parent).show("b.test", DIGEST, datetime.now(UTC))
    talk = Talk(settings, "b.test", CHALLENGE_ALPN, version=version)
    assert talk.complete
    assert talk.client.selected_alpn_protocol() == CHALLENGE_ALPN
    der = talk.client.getpeercert(binary_form=True)
    assert der is not None
    (proven,) = [
        it for it in x509.load_der_x509_certificate(der).extensions if it.critical
    ]
    assert proven.value.public_bytes().endswith(DIGEST)
    # nothing above ever has it: the pipe has failed, and close_notify has come
    assert talk.pipe.failed
    assert not talk.pipe.established
    assert talk.client.read(1) == b""


def test_what_the_authority_sends_behind_it_is_dropped(acme: Acme) -> None:
    settings = TlsSettings(acme)
    Store(acme.certificate.parent).show("a.test", DIGEST, datetime.now(UTC))
    talk = Talk(settings, "a.test", CHALLENGE_ALPN)
    assert talk.complete
    for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x17\x03\x03\x00\x02xx"):
        assert talk.pipe.receive_data(data) == b""
    assert talk.said == [b""] * len(talk.said)
    assert talk.pipe.data_to_send() == b""


@pytest.mark.parametrize("name", ["b.test", "c.test", "..", "../a.test", None])
def test_without_a_challenge_for_the_name_it_is_refused_before_a_key_is_used(
    acme: Acme, ca: trustme.CA, name: str | None
) -> None:
    TlsSettings(acme)
    issue(acme, ca)
    settings = TlsSettings(acme)
    Store(acme.certificate.parent).show("a.test", DIGEST, datetime.now(UTC))
    pipe = ServerTlsPipe(settings)
    # the name is as odd as it may be on the wire, which a client library does not allow
    pipe.receive_data(hello(name, CHALLENGE_ALPN))
    assert pipe.failed
    assert pipe.data_to_send() == Alert.NO_APPLICATION_PROTOCOL.record


def test_an_offer_beside_another_is_no_challenge(acme: Acme, ca: trustme.CA) -> None:
    """RFC 8737 §3: the authority offers the one protocol alone."""
    settings = TlsSettings(acme)
    issue(acme, ca)
    Store(acme.certificate.parent).show("a.test", DIGEST, datetime.now(UTC))
    for each in settings.reloadables():
        each.reload_from_pem()
    talk = Talk(settings, "a.test", CHALLENGE_ALPN, "h2")
    assert talk.complete
    assert talk.client.selected_alpn_protocol() == "h2"
    assert talk.pipe.established


def test_a_challenge_is_loaded_once_and_again_when_it_changes(acme: Acme) -> None:
    settings = TlsSettings(acme)
    assert settings.challenge("a.test") is None
    Store(acme.certificate.parent).show("a.test", DIGEST, datetime.now(UTC))
    first = settings.challenge("a.test")
    assert first is not None
    assert settings.challenge("a.test") is first
    Store(acme.certificate.parent).show("a.test", DIGEST, datetime.now(UTC))
    assert settings.challenge("a.test") not in {first, None}
    Store(acme.certificate.parent).tidy(order=False)
    assert settings.challenge("a.test") is None


def test_a_broken_challenge_is_said_and_refused(
    acme: Acme, caplog: pytest.LogCaptureFixture
) -> None:
    settings = TlsSettings(acme)
    acme.challenge("a.test").write_bytes(b"nothing")
    talk = Talk(settings, "a.test", CHALLENGE_ALPN)
    assert talk.refusal() == Alert.NO_APPLICATION_PROTOCOL.record
    assert "the ACME challenge for 'a.test'" in caplog.text


def test_a_server_without_acme_refuses_them(ca: trustme.CA) -> None:
    talk = Talk(TlsSettings(ca.issue_cert("a.test")), "a.test", CHALLENGE_ALPN)
    assert talk.refusal() == Alert.NO_APPLICATION_PROTOCOL.record


def test_the_mode_of_a_folder_that_was_there_is_not_changed(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir(mode=0o750)
    AcmeFiles(Acme("a.test", folder=folder)).ready(("h2",), None)
    assert os.stat(folder).st_mode & 0o777 == 0o750


def hello(name: str | None, *alpn: str) -> bytes:
    """Return a ClientHello in one record, with a server name of any form."""

    def vector(data: bytes, width: int) -> bytes:
        return len(data).to_bytes(width) + data

    def extension(kind: int, data: bytes) -> bytes:
        return kind.to_bytes(2) + vector(data, 2)

    listed = b"".join(vector(each.encode(), 1) for each in alpn)
    extensions = extension(16, vector(listed, 2))
    if name is not None:
        entry = b"\0" + vector(name.encode(), 2)
        extensions += extension(0, vector(entry, 2))
    body = b"\3\3" + bytes(32) + b"\0" + vector(b"\x13\x01", 2) + vector(b"\0", 1)
    message = b"\1" + vector(body + vector(extensions, 2), 3)
    return b"\x16\3\1" + vector(message, 2)


def test_the_account_of_an_authority_is_made_once(acme: Acme) -> None:
    TlsSettings(acme)
    other = Acme("c.test", folder=acme.folder)
    TlsSettings(other)
    one, two = (Store(it.certificate.parent).account_key() for it in (acme, other))
    assert proof.key_pem(one) == proof.key_pem(two)
