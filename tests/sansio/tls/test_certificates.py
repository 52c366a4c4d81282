"""Certificates, keys and contexts: what is accepted, and what is said otherwise."""

import contextlib
import os
import ssl
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import Encoding, PrivateFormat

from tako.errors import TlsConfigError
from tako.http.conn_info import TlsInfo
from tako.server.serve import certificate
from tako.tls.certificates import (
    ClientAuth,
    ReloadableResolver,
    TlsCert,
    TlsLike,
    TlsSettings,
    as_cert,
    build_ssl_context,
    default_cert,
    load_certs,
    load_key,
)
from tako.tls.server_pipe import ServerTlsPipe


COMMAND = "python certs/generate.py"


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def leaf(ca: trustme.CA) -> trustme.LeafCert:
    return ca.issue_cert("a.test")


@pytest.fixture
def files(tmp_path: Path, leaf: trustme.LeafCert) -> tuple[Path, Path]:
    return write(tmp_path, leaf)


def write(directory: Path, leaf: trustme.LeafCert) -> tuple[Path, Path]:
    cert, key = directory / "cert.pem", directory / "key.pem"
    cert.write_bytes(chain_pem(leaf))
    key.write_bytes(leaf.private_key_pem.bytes())
    return cert, key


def chain_pem(leaf: trustme.LeafCert) -> bytes:
    return b"".join(blob.bytes() for blob in leaf.cert_chain_pems)


def key_in(leaf: trustme.LeafCert, form: PrivateFormat, encoding: Encoding) -> bytes:
    key = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    return key.private_bytes(encoding, form, serialization.NoEncryption())


def shown_cert(ca: trustme.CA, tls: TlsSettings, host: str = "a.test") -> bytes | None:
    """Return the leaf that a handshake for ``host`` shows, in DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname=host)
    pipe = ServerTlsPipe(tls)
    while not pipe.established:
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        pipe.receive_data(outgoing.read())
        assert pipe.error is None
        incoming.write(pipe.data_to_send())
    return client.getpeercert(binary_form=True)


def shook_hands(tls: TlsSettings, sni: str | None) -> TlsInfo:
    """Return what a handshake that asked for ``sni`` settles."""
    answer = tls.answer(sni)
    assert answer is not None
    return TlsInfo("TLSv1.3", "any", sni=sni, answered_by=answer.by)


def der_of(leaf: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())


def problem(action: Callable[[], object]) -> TlsConfigError:
    with pytest.raises(TlsConfigError) as caught:
        action()
    return caught.value


class TestFiles:
    def test_pem_paths_are_served(
        self, ca: trustme.CA, leaf: trustme.LeafCert, files: tuple[Path, Path]
    ) -> None:
        for cert, key in (files, tuple(map(str, files))):
            tls = TlsSettings(TlsCert.pem_paths(cert, key))
            assert shown_cert(ca, tls) == der_of(leaf)

    def test_load_certs_returns_der_in_order(
        self, tmp_path: Path, ca: trustme.CA, leaf: trustme.LeafCert
    ) -> None:
        path = tmp_path / "chain.pem"
        path.write_bytes(b"subject=x\n" + chain_pem(leaf) + ca.cert_pem.bytes())
        ca_der = ssl.PEM_cert_to_DER_cert(ca.cert_pem.bytes().decode())
        assert load_certs(path) == [der_of(leaf), ca_der]

    @pytest.mark.parametrize(
        "form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL]
    )
    @pytest.mark.parametrize("kind", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
    def test_every_form_of_key_is_loaded(
        self,
        tmp_path: Path,
        ca: trustme.CA,
        form: PrivateFormat,
        kind: trustme.KeyType,
    ) -> None:
        leaf = ca.issue_cert("a.test", key_type=kind)
        cert, key = write(tmp_path, leaf)
        key.write_bytes(key_in(leaf, form, Encoding.PEM))
        assert load_key(key) == key_in(leaf, PrivateFormat.PKCS8, Encoding.DER)
        tls = TlsSettings(TlsCert.pem_paths(cert, key))
        assert shown_cert(ca, tls) == der_of(leaf)

    def test_first_key_wins(
        self, ca: trustme.CA, leaf: trustme.LeafCert, files: tuple[Path, Path]
    ) -> None:
        cert, key = files
        other = ca.issue_cert("b.test").private_key_pem.bytes()
        key.write_bytes(chain_pem(leaf) + key.read_bytes() + other)
        tls = TlsSettings(TlsCert.pem_paths(cert, key))
        assert shown_cert(ca, tls) == der_of(leaf)

    @pytest.mark.parametrize("password", ["s3cret", b"s3cret"])
    def test_encrypted_key_needs_its_password(
        self,
        ca: trustme.CA,
        leaf: trustme.LeafCert,
        files: tuple[Path, Path],
        password: str | bytes,
    ) -> None:
        cert, key = files
        plain = serialization.load_pem_private_key(key.read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(b"s3cret")
        key.write_bytes(
            plain.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)
        )
        tls = TlsSettings(TlsCert.pem_paths(cert, key, password=password))
        assert shown_cert(ca, tls) == der_of(leaf)
        for wrong in (None, "guess"):
            error = problem(lambda: load_key(key, wrong))  # noqa: B023
            assert str(error).startswith(f"bad private key in '{key}': ")

    def test_password_that_is_not_needed_does_no_harm(
        self, files: tuple[Path, Path]
    ) -> None:
        TlsSettings(TlsCert.pem_paths(*files, password="unused"))


class TestFileErrors:
    def test_missing_cert(self, tmp_path: Path, files: tuple[Path, Path]) -> None:
        path = tmp_path / "none.pem"
        error = problem(lambda: TlsSettings(TlsCert.pem_paths(path, files[1])))
        wanted = f"failed to open cert file '{path}': No such file or directory"
        assert str(error).startswith(wanted)
        assert COMMAND in str(error)
        assert isinstance(error.__cause__, FileNotFoundError)

    def test_missing_key(self, tmp_path: Path, files: tuple[Path, Path]) -> None:
        path = tmp_path / "none.pem"
        error = problem(lambda: TlsSettings(TlsCert.pem_paths(files[0], path)))
        wanted = f"failed to open key file '{path}': No such file or directory"
        assert str(error).startswith(wanted)
        assert COMMAND in str(error)
        assert isinstance(error.__cause__, FileNotFoundError)

    def test_file_that_is_a_directory(self, tmp_path: Path) -> None:
        error = problem(lambda: load_certs(tmp_path))
        assert str(error) == f"failed to open cert file '{tmp_path}': Is a directory"
        assert isinstance(error.__cause__, IsADirectoryError)

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"rubbish",
            b"0rubbish",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            b"-----BEGIN CERTIFICATE-----\n",
        ],
    )
    def test_file_without_a_certificate(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "cert.pem"
        path.write_bytes(content)
        error = problem(lambda: load_certs(path))
        assert str(error).startswith(f"failed to parse certs from '{path}': ")

    def test_file_without_a_key(
        self, tmp_path: Path, leaf: trustme.LeafCert, files: tuple[Path, Path]
    ) -> None:
        path = tmp_path / "key.pem"
        for content in (b"", chain_pem(leaf)):
            path.write_bytes(content)
            error = problem(lambda: TlsSettings(TlsCert.pem_paths(files[0], path)))
            wanted = "no PEM private key (PKCS#8, PKCS#1 or SEC1) found in"
            assert str(error).startswith(f"{wanted} '{path}'")

    def test_bad_key(self, tmp_path: Path) -> None:
        path = tmp_path / "key.pem"
        path.write_bytes(
            b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----"
        )
        error = problem(lambda: load_key(path))
        assert str(error).startswith(f"bad private key in '{path}': ")

    @pytest.mark.parametrize("kind", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
    def test_key_of_another_certificate_names_both_files(
        self, ca: trustme.CA, files: tuple[Path, Path], kind: trustme.KeyType
    ) -> None:
        cert, key = files
        other = ca.issue_cert("b.test", key_type=kind)
        key.write_bytes(other.private_key_pem.bytes())
        error = problem(lambda: TlsSettings(TlsCert.pem_paths(cert, key)))
        wanted = f"cert file '{cert}' and key file '{key}' do not match"
        assert str(error) == wanted

    def test_certificate_and_key_that_are_swapped_are_named_as_that(
        self, files: tuple[Path, Path]
    ) -> None:
        cert, key = files
        for swapped in (TlsCert.pem_paths(key, cert), as_cert((key, cert))):
            error = problem(lambda: TlsSettings(swapped))  # noqa: B023
            assert str(error) == (
                f"cert file '{key}' and key file '{cert}' are swapped: the certificate "
                "comes first, then its key"
            )
        error = problem(lambda: ReloadableResolver.from_pem(key, cert))
        assert "are swapped" in str(error)

    def test_a_key_in_the_place_of_the_certificate_is_named(
        self, files: tuple[Path, Path]
    ) -> None:
        _, key = files
        error = problem(lambda: TlsSettings(TlsCert.pem_paths(key, key)))
        assert str(error).startswith(f"failed to parse certs from '{key}': ")
        assert str(error).endswith("; there is a private key in it")

    def test_one_file_may_hold_both(
        self, ca: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
    ) -> None:
        path = tmp_path / "both.pem"
        path.write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
        assert shown_cert(ca, TlsSettings((path, path))) == der_of(leaf)

    def test_a_chain_in_wrong_order_is_named_as_that(
        self, ca: trustme.CA, leaf: trustme.LeafCert, files: tuple[Path, Path]
    ) -> None:
        cert, key = files
        cert.write_bytes(ca.cert_pem.bytes() + chain_pem(leaf))
        error = problem(lambda: TlsSettings((cert, key)))
        assert str(error) == (
            f"cert file '{cert}' and key file '{key}': the chain is in wrong order: "
            "the certificate of the key is number 2 and must be the first"
        )

    def test_an_encrypted_key_without_a_password_names_the_argument(
        self, files: tuple[Path, Path]
    ) -> None:
        cert, key = files
        plain = serialization.load_pem_private_key(key.read_bytes(), None)
        encryption = serialization.BestAvailableEncryption(b"s3cret")
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            key.write_bytes(plain.private_bytes(Encoding.PEM, form, encryption))
            error = problem(lambda: TlsSettings((cert, key)))
            assert "it is encrypted; give its password" in str(error)
            assert "password=" in str(error)

    def test_a_temporary_file_that_cannot_be_made_is_an_error_of_tls(
        self, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
        error = problem(lambda: TlsSettings(files))
        assert "temporary file" in str(error)


class TestForms:
    """Whatever stands for a certificate is taken wherever one is."""

    @pytest.fixture(params=["cert", "context", "leaf", "pair", "texts"])
    def form(
        self,
        request: pytest.FixtureRequest,
        leaf: trustme.LeafCert,
        files: tuple[Path, Path],
    ) -> TlsLike:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        forms: dict[str, TlsLike] = {
            "cert": TlsCert.pem_paths(*files),
            "context": context,
            "leaf": leaf,
            "pair": files,
            "texts": (str(files[0]), str(files[1])),
        }
        return forms[request.param]

    def test_it_is_served(
        self, ca: trustme.CA, leaf: trustme.LeafCert, form: TlsLike
    ) -> None:
        wanted = der_of(leaf)
        assert shown_cert(ca, TlsSettings(form)) == wanted
        assert shown_cert(ca, TlsSettings(TlsCert.sni({"a.test": form}))) == wanted
        default = TlsCert.sni({"b.test": form}, default=form)
        assert shown_cert(ca, TlsSettings(default)) == wanted
        resolved = TlsSettings(TlsCert.resolver(lambda _: form))
        assert shown_cert(ca, resolved) == wanted
        assert shown_cert(ca, resolved) == wanted
        assert isinstance(build_ssl_context(form), ssl.SSLContext)
        assert shown_cert(ca, TlsSettings(certificate(None, None, form))) == wanted

    @pytest.mark.parametrize(
        ("wrong", "advice"),
        [
            ("cert.pem", "write (cert, key)"),
            (Path("cert.pem"), "write (cert, key)"),
            (("cert.pem",), "not tuple"),
            ((b"PEM", b"PEM"), "not bytes"),
            ({"a.test": ("cert.pem", "key.pem")}, "TlsCert.sni(...)"),
            (trustme.CA(), "issue_cert(...)"),
            (TlsCert, "TlsCert.pem_paths(cert, key)"),
            (lambda _: None, "TlsCert.resolver(...)"),
            (7, "not int"),
        ],
    )
    def test_what_is_none_is_refused_at_once_with_advice(
        self, wrong: Any, advice: str, files: tuple[Path, Path]
    ) -> None:
        for use in (
            TlsSettings,
            build_ssl_context,
            lambda tls: certificate(None, None, tls),
            lambda tls: TlsCert.sni({"a.test": tls}),
            lambda tls: TlsCert.sni({"a.test": files}, default=tls),
            TlsSettings(TlsCert.resolver(lambda _: wrong)).answer,
        ):
            assert advice in str(problem(lambda: use(wrong)))  # noqa: B023

    def test_a_certificate_in_the_place_of_a_path_is_sent_to_its_argument(
        self, leaf: trustme.LeafCert
    ) -> None:
        error = problem(lambda: certificate(leaf, None, None))  # type: ignore[arg-type]
        assert str(error) == "cert is the path of a file: give this LeafCert as tls="

    def test_the_name_without_a_certificate_is_in_the_message(self) -> None:
        error = problem(lambda: TlsCert.sni({"b.test": None}))  # type: ignore[dict-item]
        assert str(error).startswith("'b.test' in TlsCert.sni takes a TlsCert, ")

    def test_a_context_that_chooses_by_itself_is_refused(
        self, leaf: trustme.LeafCert
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        context.sni_callback = lambda *_: None
        assert "TlsCert.sni(...)" in str(problem(lambda: as_cert(context)))


class TestDer:
    def test_swapped_der_is_named_as_that(self, leaf: trustme.LeafCert) -> None:
        key = key_in(leaf, PrivateFormat.PKCS8, Encoding.DER)
        error = problem(lambda: TlsSettings(TlsCert.der([key], der_of(leaf))))
        assert "are swapped" in str(error)

    def test_der_is_served_and_leaves_no_file(
        self,
        ca: trustme.CA,
        leaf: trustme.LeafCert,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        seen: list[tuple[int, bool]] = []
        load = ssl.SSLContext.load_cert_chain

        def spy(context: ssl.SSLContext, path: str, *, password: str) -> None:
            mode = stat.S_IMODE(os.stat(path).st_mode)
            encrypted = b"BEGIN ENCRYPTED PRIVATE KEY" in Path(path).read_bytes()
            seen.append((mode, encrypted))
            load(context, path, password=password)

        monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
        for form in (PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL):
            key = key_in(leaf, form, Encoding.DER)
            tls = TlsSettings(TlsCert.der([der_of(leaf)], key))
            assert shown_cert(ca, tls) == der_of(leaf)
        other = key_in(ca.issue_cert("b.test"), PrivateFormat.PKCS8, Encoding.DER)
        error = problem(lambda: TlsSettings(TlsCert.der([der_of(leaf)], other)))
        assert str(error) == "DER certificate and key do not match"
        assert seen == [(0o600, True)] * 3
        assert list(tmp_path.iterdir()) == []

    def test_bytes_that_are_not_der(self, leaf: trustme.LeafCert) -> None:
        key = key_in(leaf, PrivateFormat.PKCS8, Encoding.DER)
        wrong = [([], key), ([b"0?"], key), ([b""], key), ([der_of(leaf)], b"0?")]
        texts = [
            str(problem(lambda: TlsSettings(TlsCert.der(certs, key))))  # noqa: B023
            for certs, key in wrong
        ]
        assert texts[0] == "TlsCert.der takes at least one certificate"
        assert texts[1].startswith("failed to parse DER certs: ")
        assert texts[2].startswith("failed to parse DER certs: ")
        assert texts[3].startswith("bad DER private key: ")


class TestContexts:
    def test_context_of_tako(self, files: tuple[Path, Path]) -> None:
        context = build_ssl_context(TlsCert.pem_paths(*files), ("h2",))
        assert context.protocol is ssl.PROTOCOL_TLS_SERVER
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        assert context.options & ssl.OP_NO_COMPRESSION
        assert not context.post_handshake_auth
        assert context.verify_mode is ssl.CERT_NONE
        assert context.num_tickets == 1  # it resumes
        names = {suite["name"] for suite in context.get_ciphers()}
        assert "ECDHE-RSA-AES128-GCM-SHA256" in names  # RFC 9113 §9.2.2: mandatory
        for suite in context.get_ciphers():
            assert suite["aead"], suite
            assert suite["kea"] in {"kx-ecdhe", "kx-any"}, suite

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_context_of_the_application_is_narrowed(
        self, leaf: trustme.LeafCert
    ) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.set_ciphers(
            "ECDHE-ECDSA-CHACHA20-POLY1305:AES128-SHA:ECDHE-ECDSA-AES128-SHA256:"
            "ECDHE-ECDSA-AES256-GCM-SHA384"
        )
        leaf.configure_cert(context)
        assert build_ssl_context(TlsCert.context(context)) is context
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2
        assert context.options & ssl.OP_NO_RENEGOTIATION
        old = [it for it in context.get_ciphers() if it["protocol"] != "TLSv1.3"]
        assert [suite["name"] for suite in old] == [
            "ECDHE-ECDSA-CHACHA20-POLY1305",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
        ]

    def test_context_without_a_permitted_suite_is_refused(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("AES128-SHA")
        error = problem(lambda: TlsSettings(TlsCert.context(context)))
        assert "no cipher suite that HTTP/2 permits" in str(error)

    def test_context_for_clients_is_refused(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        assert "not one for servers" in str(problem(lambda: TlsCert.context(context)))

    def test_what_is_no_context_is_refused(self) -> None:
        error = problem(lambda: TlsCert.context("cert.pem"))  # type: ignore[arg-type]
        assert str(error) == "an ssl.SSLContext is needed, not str"

    def test_one_context_serves_listeners_with_different_alpn(
        self, leaf: trustme.LeafCert
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        one = TlsSettings(TlsCert.context(context), ("h2",))
        two = TlsSettings(TlsCert.context(context), ("http/1.1",))
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.set_alpn_protocols(["h2", "http/1.1"])
        for tls, wanted in ((one, "h2"), (two, "http/1.1"), (one, "h2")):
            outgoing = ssl.MemoryBIO()
            side = client.wrap_bio(ssl.MemoryBIO(), outgoing)
            with pytest.raises(ssl.SSLWantReadError):
                side.do_handshake()
            found = tls.answer(None)
            assert found is not None
            chosen = found.context
            assert chosen is context
            incoming, answer = ssl.MemoryBIO(), ssl.MemoryBIO()
            server = chosen.wrap_bio(incoming, answer, server_side=True)
            incoming.write(outgoing.read())
            with pytest.raises(ssl.SSLWantReadError):
                server.do_handshake()
            assert server.selected_alpn_protocol() == wanted

    def test_one_context_cannot_have_two_kinds_of_client_authentication(
        self, ca: trustme.CA, leaf: trustme.LeafCert
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        required = TlsCert.context(context, client_auth=ClientAuth.required(ca))
        TlsSettings(required)
        again = TlsCert.context(context, client_auth=ClientAuth.required(ca))
        TlsSettings(again)  # the same
        error = problem(lambda: TlsSettings(TlsCert.context(context)))
        assert "different client authentication" in str(error)

    @pytest.mark.parametrize("alpn", [(), ("h3",), ("h2", "foo"), "h2"])
    def test_alpn_is_checked(self, files: tuple[Path, Path], alpn: object) -> None:
        cert = TlsCert.pem_paths(*files)
        error = problem(lambda: TlsSettings(cert, alpn))  # type: ignore[arg-type]
        assert str(error).startswith('alpn takes "h2" and "http/1.1"')

    def test_cert_that_chooses_is_not_one_context(
        self, files: tuple[Path, Path]
    ) -> None:
        cert = TlsCert.sni({"a.test": TlsCert.pem_paths(*files)})
        for choosing in (cert, TlsCert.resolver(lambda _: None)):
            error = problem(lambda: build_ssl_context(choosing))  # noqa: B023
            assert "stands for one certificate" in str(error)

    def test_resolver_must_be_callable(self) -> None:
        error = problem(lambda: TlsCert.resolver("x"))  # type: ignore[arg-type]
        assert str(error) == "resolver takes a callable, not str"


class TestClientAuth:
    def test_roots_may_come_in_many_forms(self, tmp_path: Path, ca: trustme.CA) -> None:
        pem = ca.cert_pem.bytes()
        der = ssl.PEM_cert_to_DER_cert(pem.decode())
        path = tmp_path / "ca.pem"
        path.write_bytes(pem)
        for roots in (ca, pem, der, path, str(path), [path], [pem]):
            assert ClientAuth.required(roots).roots == der
        assert ClientAuth.optional([ca, path]).roots == der + der
        assert ClientAuth.optional(ca).mode is ssl.CERT_OPTIONAL
        assert ClientAuth.required(ca).mode is ssl.CERT_REQUIRED

    def test_roots_are_checked_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "none.pem"
        error = problem(lambda: ClientAuth.required(path))
        assert str(error).startswith(f"failed to open client CA file '{path}': ")
        assert isinstance(error.__cause__, FileNotFoundError)
        error = problem(lambda: ClientAuth.required(b"rubbish"))
        assert str(error).startswith("failed to parse client CA certs from bytes: ")
        error = problem(lambda: ClientAuth.required([]))
        assert "at least one" in str(error)


class TestKeylog:
    def test_the_secrets_of_every_handshake_are_appended(
        self,
        ca: trustme.CA,
        tmp_path: Path,
        leaf: trustme.LeafCert,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        keylog = tmp_path / "secrets"
        resolver = ReloadableResolver.from_pem(*write(tmp_path, leaf))
        tls = TlsSettings(TlsCert.resolver(resolver), keylog=str(keylog))
        assert keylog.stat().st_mode & 0o777 == 0o600
        assert f"are written to {keylog}: who can read it" in caplog.text
        lines = list[int]()
        for _ in range(2):
            shown_cert(ca, tls)
            secrets = keylog.read_text()
            assert "\nSERVER_TRAFFIC_SECRET_0 " in secrets
            lines.append(secrets.count("\nCLIENT_TRAFFIC_SECRET_0 "))
            write(tmp_path, ca.issue_cert("a.test"))
            resolver.reload_from_pem()  # makes another context
        assert lines == [1, 2]

    def test_without_one_the_context_of_the_application_keeps_its_own(
        self, ca: trustme.CA, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        leaf.configure_cert(context)
        context.keylog_filename = str(tmp_path / "own")
        shown_cert(ca, TlsSettings(context))
        assert "SECRET" in (tmp_path / "own").read_text()

    def test_one_that_cannot_be_written_is_an_error_at_once(
        self, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        error = problem(lambda: TlsSettings(as_cert(leaf), keylog=str(tmp_path)))
        assert str(error) == f"keylog '{tmp_path}' cannot be written: Is a directory"


class TestReload:
    """TL-17."""

    def test_new_files_are_used_by_new_handshakes(
        self, ca: trustme.CA, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        resolver = ReloadableResolver.from_pem(*write(tmp_path, leaf))
        tls = TlsSettings(TlsCert.resolver(resolver))
        assert shown_cert(ca, tls) == der_of(leaf)
        assert not resolver.changed()
        renewed = ca.issue_cert("a.test", common_name="renewed certificate")
        write(tmp_path, renewed)
        assert resolver.changed()
        assert shown_cert(ca, tls) == der_of(leaf)
        resolver.reload_from_pem()
        assert not resolver.changed()
        assert shown_cert(ca, tls) == der_of(renewed)

    def test_broken_file_keeps_the_old_certificate(
        self, ca: trustme.CA, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        cert, key = write(tmp_path, leaf)
        resolver = ReloadableResolver.from_pem(cert, key)
        tls = TlsSettings(TlsCert.resolver(resolver))
        cert.write_bytes(b"half a certif")
        assert resolver.changed()
        problem(resolver.reload_from_pem)
        assert shown_cert(ca, tls) == der_of(leaf)
        assert not resolver.changed()  # no need to try the same files again
        write(tmp_path, leaf)
        assert resolver.changed()
        resolver.reload_from_pem()
        assert not resolver.changed()

    def test_file_that_vanishes_is_a_change(
        self, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        cert, key = write(tmp_path, leaf)
        resolver = ReloadableResolver.from_pem(cert, key)
        key.unlink()
        assert resolver.changed()

    def test_other_files_are_used_from_then_on(
        self, ca: trustme.CA, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        resolver = ReloadableResolver.from_pem(*write(tmp_path, leaf))
        tls = TlsSettings(TlsCert.resolver(resolver))
        other = ca.issue_cert("a.test")
        (tmp_path / "other").mkdir()
        cert, key = write(tmp_path / "other", other)
        problem(lambda: resolver.reload_from_pem(tmp_path / "none", key))
        assert not resolver.changed()
        assert shown_cert(ca, tls) == der_of(leaf)
        resolver.reload_from_pem(cert, key)
        assert shown_cert(ca, tls) == der_of(other)
        key.unlink()
        assert resolver.changed()

    def test_context_of_the_application_is_swapped_in(
        self, ca: trustme.CA, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        resolver = ReloadableResolver(*write(tmp_path, leaf))
        tls = TlsSettings(TlsCert.resolver(resolver))
        problem(lambda: resolver.reload(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))
        assert shown_cert(ca, tls) == der_of(leaf)
        other = ca.issue_cert("a.test")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        other.configure_cert(context)
        resolver.reload(context)
        assert shown_cert(ca, tls) == der_of(other)


def reload_all(tls: TlsSettings) -> int:
    """Do what a listener does every second; return how many were loaded again."""
    changed = [each for each in tls.reloadables() if each.changed()]
    for each in changed:
        each.reload_from_pem()
    return len(changed)


def nested(cert: TlsCert) -> TlsCert:
    return TlsCert.sni({"*.test": TlsCert.sni({"x.test": cert}, default=cert)})


class TestReloadOfFiles:
    """TL-17 for every way to name files."""

    WAYS: tuple[Callable[[TlsCert], TlsCert], ...] = (
        lambda cert: cert,
        lambda cert: TlsCert.sni({"a.test": cert}),
        lambda cert: TlsCert.sni({"b.test": cert}, default=cert),
        nested,
        lambda cert: TlsCert.resolver(lambda _: cert),
    )

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize("auth", [False, True])
    def test_new_files_are_used_by_new_handshakes(
        self,
        ca: trustme.CA,
        tmp_path: Path,
        leaf: trustme.LeafCert,
        way: Callable[[TlsCert], TlsCert],
        auth: bool,
    ) -> None:
        client_auth = ClientAuth.optional(ca) if auth else None
        cert = TlsCert.pem_paths(*write(tmp_path, leaf), client_auth=client_auth)
        tls = TlsSettings(way(cert))
        assert shown_cert(ca, tls) == der_of(leaf)
        assert reload_all(tls) == 0
        renewed = ca.issue_cert("a.test", common_name="renewed certificate")
        write(tmp_path, renewed)
        assert shown_cert(ca, tls) == der_of(leaf)
        assert reload_all(tls) == 1
        assert shown_cert(ca, tls) == der_of(renewed)
        assert reload_all(tls) == 0

    def test_paths_from_a_resolver_are_loaded_once_and_watched(
        self, ca: trustme.CA, tmp_path: Path, leaf: trustme.LeafCert
    ) -> None:
        cert, key = write(tmp_path, leaf)
        tls = TlsSettings(TlsCert.resolver(lambda _: (str(cert), str(key))))
        assert shown_cert(ca, tls) == shown_cert(ca, tls) == der_of(leaf)
        renewed = ca.issue_cert("a.test", common_name="renewed certificate")
        write(tmp_path, renewed)
        assert shown_cert(ca, tls) == der_of(leaf)
        assert reload_all(tls) == 1
        assert shown_cert(ca, tls) == der_of(renewed)

    @pytest.mark.parametrize("way", WAYS)
    def test_broken_files_keep_the_old_certificate_and_are_tried_once(
        self,
        ca: trustme.CA,
        tmp_path: Path,
        leaf: trustme.LeafCert,
        way: Callable[[TlsCert], TlsCert],
    ) -> None:
        cert, _ = write(tmp_path, leaf)
        tls = TlsSettings(way(TlsCert.pem_paths(*write(tmp_path, leaf))))
        assert shown_cert(ca, tls) == der_of(leaf)
        for break_it in (lambda: cert.write_bytes(b"half"), cert.unlink):
            break_it()
            problem(lambda: reload_all(tls))
            assert shown_cert(ca, tls) == der_of(leaf)
            assert reload_all(tls) == 0  # no news until it changes
        renewed = ca.issue_cert("a.test", common_name="renewed certificate")
        write(tmp_path, renewed)
        assert reload_all(tls) == 1
        assert shown_cert(ca, tls) == der_of(renewed)

    @pytest.mark.parametrize("source", ["files", "leaf", "resolver"])
    def test_the_authorities_of_clients_are_read_again(
        self, ca: trustme.CA, tmp_path: Path, leaf: trustme.LeafCert, source: str
    ) -> None:
        old, new = trustme.CA(), trustme.CA()
        roots = tmp_path / "clients.pem"
        roots.write_bytes(old.cert_pem.bytes())
        auth, files = ClientAuth.required([roots]), write(tmp_path, leaf)
        cert = {
            "files": lambda: TlsCert.pem_paths(*files, client_auth=auth),
            "leaf": lambda: TlsCert.leaf(leaf, client_auth=auth),
            "resolver": lambda: TlsCert.resolver(
                ReloadableResolver(*files), client_auth=auth
            ),
        }[source]()
        tls = TlsSettings(cert)

        def accepted(client: trustme.CA) -> bool:
            return shakes_hands(ca, tls, client.issue_cert("c@a.test"))

        assert accepted(old)
        assert not accepted(new)
        roots.write_bytes(new.cert_pem.bytes())
        assert reload_all(tls) == 1
        assert not accepted(old)
        assert accepted(new)
        roots.write_bytes(b"rubbish")
        problem(lambda: reload_all(tls))
        assert accepted(new)
        assert not accepted(old)
        assert reload_all(tls) == 0

    def test_a_change_while_the_files_are_read_is_not_missed(
        self, tmp_path: Path, ca: trustme.CA
    ) -> None:
        roots = tmp_path / "clients.pem"
        roots.write_bytes(ca.cert_pem.bytes())
        auth = ClientAuth.required(roots)
        roots.write_bytes(ca.cert_pem.bytes() * 2)  # before the listener is made
        cert = TlsCert.leaf(ca.issue_cert("a.test"), client_auth=auth)
        assert reload_all(TlsSettings(cert)) == 1


def shakes_hands(ca: trustme.CA, tls: TlsSettings, shown: trustme.LeafCert) -> bool:
    """Tell whether a client that shows ``shown`` is accepted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ca.configure_trust(context)
    shown.configure_cert(context)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(incoming, outgoing, server_hostname="a.test")
    pipe = ServerTlsPipe(tls)
    while not (pipe.established or pipe.failed):
        with contextlib.suppress(ssl.SSLWantReadError):
            client.do_handshake()
        pipe.receive_data(outgoing.read())
        incoming.write(pipe.data_to_send())
    return pipe.established


@pytest.fixture(scope="module")
def leaves(ca: trustme.CA) -> dict[str, trustme.LeafCert]:
    return {name: ca.issue_cert(name) for name in ("a.test", "b.test", "*.b.test")}


@pytest.fixture(scope="module")
def tls(leaves: dict[str, trustme.LeafCert]) -> TlsSettings:
    key = PrivateFormat.PKCS8
    certs = {
        name: TlsCert.der([der_of(leaf)], key_in(leaf, key, Encoding.DER))
        for name, leaf in leaves.items()
    }
    names = {**certs, "A2.test.": certs["a.test"]}
    return TlsSettings(TlsCert.sni(names, default=certs["a.test"]))


class TestNames:
    @pytest.mark.parametrize(
        ("host", "answers"),
        [
            ("a.test", "a.test"),
            ("a2.test", "a.test"),
            ("b.test", "b.test"),
            ("b.test.", "b.test"),
            ("x.b.test", "*.b.test"),
            ("y.x.b.test", "a.test"),  # RFC 6125 §6.4.3: one label only
            ("unknown.test", "a.test"),
        ],
    )
    def test_name_picks_the_certificate(
        self,
        ca: trustme.CA,
        leaves: dict[str, trustme.LeafCert],
        tls: TlsSettings,
        host: str,
        answers: str,
    ) -> None:
        assert shown_cert(ca, tls, host) == der_of(leaves[answers])

    @pytest.mark.parametrize(
        ("sni", "authority", "allowed"),
        [
            ("a.test", "a.test", True),
            ("a.test", "A.Test:8443", True),
            ("a.test", "a2.test", True),  # the same certificate
            ("a.test", "unknown.test", True),  # the default is the same certificate
            ("a.test", "b.test", False),
            ("a.test", "b.test:443", False),
            ("a.test", "B.TEST.", False),
            ("b.test", "a.test", False),
            ("b.test", "x.b.test", False),
            ("x.b.test", "y.b.test", True),
            (None, "a.test", True),
            (None, "[::1]:8443", True),
            (None, "127.0.0.1:8443", True),
            (None, "b.test", False),
        ],
    )
    def test_authority_must_belong_to_the_chosen_certificate(
        self, tls: TlsSettings, sni: str | None, authority: str, allowed: bool
    ) -> None:
        # RFC 9110 §15.5.20; TL-16
        assert tls.authority_allowed(shook_hands(tls, sni), authority) is allowed

    def test_any_authority_is_allowed_with_one_certificate(
        self, files: tuple[Path, Path]
    ) -> None:
        tls = TlsSettings(TlsCert.pem_paths(*files))
        assert tls.authority_allowed(shook_hands(tls, "a.test"), "b.test")
        assert tls.authority_allowed(shook_hands(tls, None), "b.test")

    def test_a_request_without_an_authority_is_not_misdirected(
        self, tls: TlsSettings
    ) -> None:
        assert tls.authority_allowed(shook_hands(tls, "b.test"), None)  # HTTP/1.0

    def test_a_name_without_a_certificate_is_misdirected(
        self, files: tuple[Path, Path]
    ) -> None:
        tls = TlsSettings(TlsCert.sni({"a.test": files}))
        info = shook_hands(tls, "a.test")
        assert tls.authority_allowed(info, "a.test.")
        for unknown in ("b.test", "127.0.0.1", "[::1]:443", "x.a.test"):
            assert not tls.authority_allowed(info, unknown)

    def test_a_connection_in_the_clear_may_what_one_without_a_name_may(
        self, tls: TlsSettings
    ) -> None:
        assert tls.authority_allowed(None, "a.test")
        assert not tls.authority_allowed(None, "b.test")

    @pytest.mark.parametrize(
        "name", ["", "*", "*.", "a.*.test", "a b", "a.test:443", "ä.test", "."]
    )
    def test_what_cannot_be_a_server_name_is_refused(
        self, files: tuple[Path, Path], name: str
    ) -> None:
        cert = TlsCert.pem_paths(*files)
        assert repr(name) in str(problem(lambda: TlsCert.sni({name: cert})))

    def test_names_are_needed(self) -> None:
        problem(lambda: TlsCert.sni({}))

    def test_every_certificate_is_loaded_early(self, files: tuple[Path, Path]) -> None:
        good = TlsCert.pem_paths(*files)
        bad = TlsCert.pem_paths("none.pem", "none.pem")
        problem(lambda: TlsSettings(TlsCert.sni({"a.test": good, "b.test": bad})))
        problem(lambda: TlsSettings(TlsCert.sni({"a.test": good}, default=bad)))


def context_of(leaf: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    return context


class TestWhoMayBeAskedFor:
    """Whatever answered the handshake decides; RFC 9110 §15.5.20, TL-16."""

    @pytest.fixture
    def one(self, leaf: trustme.LeafCert) -> ssl.SSLContext:
        return context_of(leaf)

    @pytest.fixture
    def two(self, leaf: trustme.LeafCert) -> ssl.SSLContext:
        return context_of(leaf)

    def ways(self, one: ssl.SSLContext, two: ssl.SSLContext) -> dict[str, TlsCert]:
        """Return maps of a.test, a2.test (one context) and b.test (another)."""
        contexts = {"a.test": one, "a2.test": one, "b.test": two}
        certs = {name: TlsCert.context(each) for name, each in contexts.items()}
        inner = TlsCert.sni(contexts, default=one)

        def choose(sni: str | None) -> ssl.SSLContext | None:
            return one if sni is None else contexts.get(sni)

        return {
            "by name": TlsCert.sni(contexts, default=one),
            "nested": TlsCert.sni({"*.test": inner}, default=inner),
            "nested twice": TlsCert.sni(
                {"*.test": TlsCert.sni({"a.test": inner}, default=inner)}, default=inner
            ),
            "a resolver": TlsCert.resolver(choose),
            "a resolver of certificates": TlsCert.resolver(
                lambda sni: certs.get(sni or "a.test")
            ),
            "a resolver of a map": TlsCert.resolver(lambda _: inner),
            "a resolver in a map": TlsCert.sni(
                {"*.test": TlsCert.resolver(choose)}, default=TlsCert.resolver(choose)
            ),
        }

    @pytest.mark.parametrize(
        "way",
        [
            "by name",
            "nested",
            "nested twice",
            "a resolver",
            "a resolver of certificates",
            "a resolver of a map",
            "a resolver in a map",
        ],
    )
    def test_names_with_one_context_share_a_connection_others_do_not(
        self, way: str, one: ssl.SSLContext, two: ssl.SSLContext
    ) -> None:
        tls = TlsSettings(self.ways(one, two)[way])
        a, b = shook_hands(tls, "a.test"), shook_hands(tls, "b.test")
        nobody = shook_hands(tls, None)
        assert tls.several
        for allowed in ("a.test", "A.TEST:8443", "a.test.", "a2.test", "a2.test:1"):
            assert tls.authority_allowed(a, allowed), allowed
        for other in (
            "b.test",
            "B.Test",
            "b.test.",
            "b.test:443",
            "b.test..",
            "b.test:",
        ):
            assert not tls.authority_allowed(a, other), other
            assert not tls.authority_allowed(nobody, other), other
        for other in ("a.test", "a2.test"):
            assert not tls.authority_allowed(b, other)
            assert tls.authority_allowed(nobody, other)
        assert tls.authority_allowed(b, "B.test.:443")
        for address in ("127.0.0.1", "127.0.0.1:8443", "[::1]", "[::1]:8443"):
            # RFC 6066 §3: a client that asks for an address sends no name
            assert tls.authority_allowed(nobody, address), address
            assert not tls.authority_allowed(b, address), address

    def test_one_map_with_and_without_client_authentication_is_two(
        self, ca: trustme.CA, files: tuple[Path, Path]
    ) -> None:
        certs, auth = {"a.test": files, "b.test": files}, ClientAuth.required(ca)
        inner = TlsCert.sni(certs)
        closed = TlsCert.sni(certs, client_auth=auth)
        tls = TlsSettings(TlsCert.sni({"a.test": inner, "b.test": closed}))
        assert not tls.authority_allowed(shook_hands(tls, "a.test"), "b.test")
        assert not tls.authority_allowed(shook_hands(tls, "b.test"), "a.test")

    def test_one_resolver_with_and_without_client_authentication_is_two(
        self, ca: trustme.CA, files: tuple[Path, Path]
    ) -> None:
        auth = ClientAuth.required(ca)
        one = TlsCert.resolver(ReloadableResolver(*files))
        two = TlsCert.resolver(ReloadableResolver(*files), client_auth=auth)
        tls = TlsSettings(TlsCert.sni({"a.test": one, "b.test": two}))
        assert not tls.authority_allowed(shook_hands(tls, "a.test"), "b.test")

    def test_one_certificate_for_several_names_is_one_in_every_form(
        self, leaf: trustme.LeafCert, files: tuple[Path, Path]
    ) -> None:
        resolver = ReloadableResolver(*files)
        shared: list[TlsLike] = [leaf, files, TlsCert.pem_paths(*files)]
        for form in (*shared, TlsCert.resolver(resolver)):
            tls = TlsSettings(TlsCert.sni({"a.test": form, "b.test": form}))
            assert tls.authority_allowed(shook_hands(tls, "a.test"), "b.test")
        tls = TlsSettings(
            TlsCert.sni({name: TlsCert.resolver(resolver) for name in ("a.b", "c.d")})
        )
        assert tls.authority_allowed(shook_hands(tls, "a.b"), "c.d")

    @pytest.mark.parametrize("form", ["files", "paths", "leaf", "der"])
    def test_two_of_the_same_files_or_bytes_are_one(
        self,
        ca: trustme.CA,
        leaf: trustme.LeafCert,
        files: tuple[Path, Path],
        form: str,
    ) -> None:
        cert, key = files
        chain, der_key = load_certs(cert), load_key(key)
        ways: dict[str, Callable[[ClientAuth | None], TlsCert]] = {
            "files": lambda auth: TlsCert.pem_paths(*files, client_auth=auth),
            "paths": lambda auth: TlsCert.pem_paths(
                str(cert), str(key), client_auth=auth
            ),
            "leaf": lambda auth: TlsCert.leaf(leaf, client_auth=auth),
            "der": lambda auth: TlsCert.der(chain, der_key, client_auth=auth),
        }
        one, two, closed = map(ways[form], (None, None, ClientAuth.required(ca)))
        assert one == two
        assert hash(one) == hash(two)
        assert one != closed
        certs = {"a.test": one, "b.test": two, "c.test": closed}
        chosen = TlsCert.resolver(lambda sni: certs.get(sni or ""))
        for tls in (TlsSettings(TlsCert.sni(certs)), TlsSettings(chosen)):
            info = shook_hands(tls, "a.test")
            assert tls.authority_allowed(info, "b.test")
            assert not tls.authority_allowed(info, "c.test")

    def test_other_files_and_other_forms_are_others(
        self, leaf: trustme.LeafCert, files: tuple[Path, Path]
    ) -> None:
        cert = TlsCert.pem_paths(*files)
        assert cert == TlsCert.pem_paths(*map(str, files))
        assert cert != TlsCert.pem_paths("cert.pem", "key.pem")
        assert cert != TlsCert.pem_paths(*files, password="x")
        assert cert != TlsCert.leaf(leaf)
        assert cert != files

    def test_a_reload_does_not_part_a_connection_from_its_names(
        self, ca: trustme.CA, leaf: trustme.LeafCert, tmp_path: Path
    ) -> None:
        cert = TlsCert.pem_paths(*write(tmp_path, leaf))
        tls = TlsSettings(TlsCert.sni({"a.test": cert, "b.test": cert}))
        info = shook_hands(tls, "a.test")
        write(tmp_path, ca.issue_cert("a.test"))
        assert reload_all(tls) == 1
        assert tls.authority_allowed(info, "a.test")
        assert tls.authority_allowed(info, "b.test")

    def test_the_handshake_that_was_decides_not_one_of_today(
        self, ca: trustme.CA, one: ssl.SSLContext, two: ssl.SSLContext
    ) -> None:
        two.load_verify_locations(cadata=ca.cert_pem.bytes().decode())
        two.verify_mode = ssl.CERT_REQUIRED
        contexts = {"a.test": one, "b.test": two}
        tls = TlsSettings(TlsCert.resolver(lambda sni: contexts.get(sni or "")))
        info = shook_hands(tls, "a.test")  # and showed no certificate
        contexts["a.test"] = two
        assert tls.authority_allowed(info, "a.test")
        assert not tls.authority_allowed(info, "b.test")

    def test_a_resolver_that_fails_for_an_authority_misdirects(
        self, one: ssl.SSLContext
    ) -> None:
        def resolve(sni: str | None) -> ssl.SSLContext:
            return {"a.test": one}[sni or ""]

        tls = TlsSettings(TlsCert.resolver(resolve))
        assert not tls.authority_allowed(shook_hands(tls, "a.test"), "b.test")

    def test_a_plain_reloadable_resolver_answers_for_every_name(
        self, files: tuple[Path, Path]
    ) -> None:
        tls = TlsSettings(TlsCert.resolver(ReloadableResolver(*files)))
        assert not tls.several
        assert tls.authority_allowed(shook_hands(tls, "a.test"), "b.test")

    def test_a_reloadable_resolver_that_chooses_by_name_does_not(
        self, files: tuple[Path, Path], two: ssl.SSLContext
    ) -> None:
        class Choosing(ReloadableResolver):
            def __call__(self, sni: str | None) -> ssl.SSLContext:
                return two if sni == "b.test" else super().__call__(sni)

        tls = TlsSettings(TlsCert.resolver(Choosing(*files)))
        assert not tls.authority_allowed(shook_hands(tls, "a.test"), "b.test")
        assert tls.authority_allowed(shook_hands(tls, "a.test"), "c.test")
        assert len(list(tls.reloadables())) == 1


class TestDefaultCert:
    def test_directory_certs_goes_first(
        self,
        ca: trustme.CA,
        leaf: trustme.LeafCert,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(tmp_path)
        error = problem(default_cert)
        for part in ("certs/cert.pem", "key.pem", str(tmp_path), COMMAND):
            assert part in str(error)
        write(tmp_path, leaf)
        assert shown_cert(ca, TlsSettings(default_cert())) == der_of(leaf)
        preferred = ca.issue_cert("a.test")
        (tmp_path / "certs").mkdir()
        write(tmp_path / "certs", preferred)
        assert shown_cert(ca, TlsSettings(default_cert())) == der_of(preferred)
