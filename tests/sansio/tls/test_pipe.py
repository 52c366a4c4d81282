"""ServerTlsPipe and a client's SSLObject back to back over memory."""

import contextlib
import functools
import gc
import itertools
import random
import shutil
import socket
import ssl
import subprocess
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from tako.core.turn import Turn
from tako.errors import LocalProtocolError
from tako.tls.certificates import ClientAuth, TlsCert, TlsSettings
from tako.tls.client_hello import Alert
from tako.tls.client_pipe import ClientTlsPipe
from tako.tls.pipe import TlsPipe
from tako.tls.server_pipe import ServerTlsPipe
from tests.support.children import Child
from tests.support.patience import TIMEOUT
from tests.support.tls_records import TlsRecords


BOTH = ("h2", "http/1.1")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@functools.cache
def authority() -> trustme.CA:
    return trustme.CA()


def server_context(*names: str, ca: trustme.CA | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (ca or authority()).issue_cert(*names).configure_cert(context)
    return context


def settings(
    alpn: tuple[str, ...] = BOTH, auth: ClientAuth | None = None
) -> TlsSettings:
    cert = TlsCert.context(server_context("a.test"), client_auth=auth)
    return TlsSettings(cert, alpn)


def client_context(
    alpn: tuple[str, ...] = (), version: ssl.TLSVersion | None = None
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority().configure_trust(context)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


class Client:
    """A TLS client over memory."""

    def __init__(self, context: ssl.SSLContext, host: str | None = "a.test") -> None:
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        context.check_hostname = host is not None
        self.ssl = context.wrap_bio(self.incoming, self.outgoing, server_hostname=host)
        self.ended = False

    def step(self) -> bytes:
        """Go on with the handshake as far as it goes; return what there is to send."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.ssl.do_handshake()
        return self.outgoing.read()

    def receive(self, ciphertext: bytes) -> bytes:
        self.incoming.write(ciphertext)
        chunks = []
        try:
            while chunk := self.ssl.read(65536):
                chunks.append(chunk)
            self.ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:  # the same end, after our own close_notify
            self.ended = True
        return b"".join(chunks)

    def encrypt(self, plaintext: bytes) -> bytes:
        view = memoryview(plaintext)
        while view:
            view = view[self.ssl.write(view) :]
        return self.outgoing.read()

    def goodbye(self) -> bytes:
        with pytest.raises(ssl.SSLWantReadError):
            self.ssl.unwrap()
        return self.outgoing.read()


def shake_hands(pipe: ServerTlsPipe, client: Client) -> None:
    """Carry bytes until both sides are quiet; raises what the client raises."""
    while flight := client.step():
        assert pipe.receive_data(flight) == b""
        client.incoming.write(pipe.data_to_send())


def connect(
    tls: TlsSettings | None = None,
    context: ssl.SSLContext | None = None,
    host: str | None = "a.test",
) -> tuple[ServerTlsPipe, Client]:
    pipe = ServerTlsPipe(tls or settings())
    client = Client(context or client_context(BOTH), host)
    shake_hands(pipe, client)
    assert pipe.established, pipe.error
    assert client.receive(b"") == b""  # takes the session tickets
    return pipe, client


def refused(tls: TlsSettings, client: Client) -> tuple[ServerTlsPipe, str]:
    """Return the pipe and the reason that the client learns for being refused."""
    pipe = ServerTlsPipe(tls)

    def whole_handshake() -> None:
        shake_hands(pipe, client)
        client.receive(b"")  # RFC 8446 §4.4.4: a TLS 1.3 client may hear of it later

    with pytest.raises(ssl.SSLError) as caught:
        whole_handshake()
    assert pipe.failed
    return pipe, caught.value.reason or str(caught.value)


class TestBothRoles:
    """A client's pipe and a server's, end to end."""

    def carry(self, client: TlsPipe, server: ServerTlsPipe) -> list[tuple[bytes, str]]:
        """Carry bytes until both are quiet; return what arrived, and where."""
        arrived = list[tuple[bytes, str]]()
        while True:
            there, back = client.data_to_send(), server.data_to_send()
            if not there and not back:
                return arrived
            arrived.append((server.receive_data(there), "server"))
            arrived.append((client.receive_data(back), "client"))

    def pipes(
        self, context: ssl.SSLContext | None = None, auth: ClientAuth | None = None
    ) -> tuple[TlsPipe, ServerTlsPipe]:
        context = context or client_context()
        client = ClientTlsPipe(context, "a.test", BOTH)
        return client, ServerTlsPipe(settings(auth=auth))

    def test_each_client_offers_its_own_protocols_though_they_share_a_context(
        self,
    ) -> None:
        context = client_context()
        offered = [("h2",), ("http/1.1",), ("http/1.1", "h2")]
        clients = [ClientTlsPipe(context, "a.test", each) for each in offered]
        for client, protocols in zip(clients, offered, strict=True):
            server = ServerTlsPipe(settings())
            self.carry(client, server)
            assert client.alpn == ("h2" if "h2" in protocols else "http/1.1")

    def test_a_certificate_for_another_name_is_refused(self) -> None:
        client = ClientTlsPipe(client_context(), "b.test", BOTH)
        self.carry(client, ServerTlsPipe(settings()))
        assert isinstance(client.cause, ssl.SSLCertVerificationError)

    def test_a_client_shakes_hands_and_exchanges_data(self) -> None:
        client, server = self.pipes()
        assert not client.established
        self.carry(client, server)
        assert client.established
        assert server.established
        assert client.info is not None
        assert client.info.sni == "a.test"
        assert client.info.peer_cert
        assert (client.alpn, server.alpn) == ("h2", "h2")
        large = bytes(100_000)
        assert server.receive_data(client.data_to_send(b"ping")) == b"ping"
        assert client.receive_data(server.data_to_send(large)) == large
        client.close_notify()
        self.carry(client, server)
        assert server.peer_closed
        assert not server.failed
        server.close_notify()
        self.carry(client, server)
        assert client.peer_closed
        assert not client.failed

    def test_a_client_keeps_why_it_does_not_trust_the_server(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # knows no authority
        client, server = self.pipes(context)
        self.carry(client, server)
        assert isinstance(client.cause, ssl.SSLCertVerificationError)
        assert client.cause.__traceback__ is None
        assert client.error is not None
        assert client.error.startswith("server certificate refused: ")
        assert server.failed
        assert isinstance(server.cause, ssl.SSLError)
        assert server.complaint is None

    def test_a_server_keeps_why_it_does_not_trust_the_client(self) -> None:
        client, server = self.pipes(auth=ClientAuth.required(authority()))
        self.carry(client, server)
        assert server.error is not None
        assert server.error.startswith("client certificate refused: ")
        assert isinstance(server.cause, ssl.SSLError)
        assert server.complaint == server.error

    def test_a_context_for_the_other_role_is_refused(self) -> None:
        for server_side in (False, True):
            context = client_context() if server_side else server_context("a.test")
            with pytest.raises(ssl.SSLError):
                TlsPipe().begin(context, server_side=server_side, sni="a.test")

    def test_nothing_happens_before_it_begins(self) -> None:
        pipe = TlsPipe()
        assert pipe.receive_data(b"x") == b""
        assert pipe.data_to_send() == b""
        pipe.close_notify()
        assert not pipe.failed

    def test_what_a_resolver_raised_is_kept(self) -> None:
        mistake = LookupError("no such tenant")

        def resolve(_: str | None) -> ssl.SSLContext:
            raise mistake

        pipe, _ = refused(
            TlsSettings(TlsCert.resolver(resolve), BOTH), Client(client_context())
        )
        assert pipe.cause is mistake


class TestHandshake:
    @pytest.mark.parametrize("version", VERSIONS)
    def test_info_tells_what_was_agreed(self, version: ssl.TLSVersion) -> None:
        pipe, client = connect(context=client_context(BOTH, version))
        assert pipe.info is not None
        assert pipe.info.version == client.ssl.version()
        assert pipe.info.version == version.name.replace("_", ".")
        assert pipe.info.cipher == (client.ssl.cipher() or ("",))[0]
        assert pipe.info.alpn == pipe.alpn == "h2"
        assert pipe.info.sni == "a.test"
        assert pipe.info.peer_cert is None
        assert pipe.error is None

    def test_server_name_is_lower_case(self) -> None:
        pipe, _ = connect(host="A.TEST")
        assert pipe.info is not None
        assert pipe.info.sni == "a.test"

    def test_client_without_server_name_is_served(self) -> None:
        pipe, _ = connect(host=None)
        assert pipe.info is not None
        assert pipe.info.sni is None

    @pytest.mark.parametrize("version", VERSIONS)
    def test_bytes_may_come_one_by_one(self, version: ssl.TLSVersion) -> None:
        pipe = ServerTlsPipe(settings())
        client = Client(client_context(BOTH, version))
        while flight := client.step():
            for byte in flight:
                assert pipe.receive_data(bytes((byte,))) == b""
            client.incoming.write(pipe.data_to_send())
        assert pipe.established

    def test_first_flight_may_be_cut_anywhere(self) -> None:
        tls, context = settings(), client_context(BOTH)
        length = len(Client(context).step())
        for cut in range(length):
            pipe, client = ServerTlsPipe(tls), Client(context)
            flight = client.step()
            pipe.receive_data(flight[:cut])
            assert pipe.data_to_send() == b""
            pipe.receive_data(flight[cut:])
            client.incoming.write(pipe.data_to_send())
            shake_hands(pipe, client)
            assert pipe.established
            assert pipe.alpn == "h2"

    def test_data_in_the_last_flight_of_the_handshake_is_returned(self) -> None:
        pipe = ServerTlsPipe(settings())
        client = Client(client_context(BOTH, ssl.TLSVersion.TLSv1_3))
        pipe.receive_data(client.step())
        client.incoming.write(pipe.data_to_send())
        data = random.Random(1).randbytes(200_000)
        assert pipe.receive_data(client.step() + client.encrypt(data)) == data

    def test_nothing_can_be_sent_before_the_handshake_is_complete(self) -> None:
        with pytest.raises(LocalProtocolError):
            ServerTlsPipe(settings()).data_to_send(b"too early")

    def test_close_notify_before_the_handshake_is_complete_says_nothing(self) -> None:
        pipe = ServerTlsPipe(settings())
        pipe.close_notify()
        assert pipe.data_to_send() == b""

    def test_eof_during_the_handshake_is_an_error(self) -> None:
        pipe = ServerTlsPipe(settings())
        pipe.receive_data(Client(client_context()).step())
        pipe.receive_eof()
        assert pipe.error == "connection closed during the TLS handshake"
        assert not pipe.truncated


class TestAlpn:
    """RFC 7301; TL-01 to TL-04."""

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(
        ("offers", "ours", "wanted"),
        [
            (("h2",), BOTH, "h2"),
            (("http/1.1",), BOTH, "http/1.1"),
            (("http/1.1", "h2"), BOTH, "h2"),  # the server's order decides
            (("h2", "http/1.1"), ("http/1.1", "h2"), "http/1.1"),
            (("foo", "http/1.1"), BOTH, "http/1.1"),
            (("h2", "http/1.1"), ("http/1.1",), "http/1.1"),
            ((), BOTH, None),
            ((), ("h2",), None),
        ],
    )
    def test_agreement(
        self,
        version: ssl.TLSVersion,
        offers: tuple[str, ...],
        ours: tuple[str, ...],
        wanted: str | None,
    ) -> None:
        pipe, client = connect(settings(ours), client_context(offers, version))
        assert pipe.alpn == wanted
        assert client.ssl.selected_alpn_protocol() == wanted

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(
        ("offers", "ours"),
        [(("foo",), BOTH), (("h2c",), BOTH), (("h2",), ("http/1.1",))],
    )
    def test_no_overlap_is_refused_with_an_alert(
        self, version: ssl.TLSVersion, offers: tuple[str, ...], ours: tuple[str, ...]
    ) -> None:
        # RFC 7301 §3.2
        client = Client(client_context(offers, version))
        pipe, reason = refused(settings(ours), client)
        assert "no application protocol" in reason.lower().replace("_", " ")
        assert pipe.error is not None
        assert offers[0] in pipe.error

    def test_refusal_is_one_alert_and_nothing_else(self) -> None:
        pipe = ServerTlsPipe(settings())
        pipe.receive_data(Client(client_context(("foo",))).step())
        assert pipe.data_to_send() == Alert.NO_APPLICATION_PROTOCOL.record
        assert pipe.receive_data(b"more") == b""
        assert pipe.data_to_send(b"late") == b""
        pipe.close_notify()
        pipe.receive_eof()
        assert pipe.data_to_send() == b""


class TestVersionsAndSuites:
    """RFC 9113 §9.2; TL-05 to TL-08."""

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_tls_1_1_is_refused(self) -> None:
        context = client_context(BOTH)
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
        _, reason = refused(settings(), Client(context))
        assert reason == "TLSV1_ALERT_PROTOCOL_VERSION"

    @pytest.mark.parametrize(
        "suite",
        [
            "ECDHE-ECDSA-AES128-SHA256",
            "ECDHE-ECDSA-AES256-SHA384",
            "DHE-RSA-AES128-SHA256",
            "AES128-GCM-SHA256",
        ],
    )
    def test_suite_that_http2_prohibits_is_refused(self, suite: str) -> None:
        context = client_context(BOTH, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(suite)
        _, reason = refused(settings(), Client(context))
        assert reason == "SSLV3_ALERT_HANDSHAKE_FAILURE"

    @pytest.mark.parametrize(
        "suite", ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"]
    )
    def test_suite_that_http2_permits_is_agreed_on(self, suite: str) -> None:
        context = client_context(BOTH, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(suite)
        pipe, _ = connect(context=context)
        assert pipe.info is not None
        assert pipe.info.cipher == suite

    @pytest.mark.parametrize(
        "suites",
        list(
            itertools.permutations(
                [
                    "ECDHE-ECDSA-AES128-GCM-SHA256",
                    "ECDHE-ECDSA-AES256-GCM-SHA384",
                    "ECDHE-ECDSA-CHACHA20-POLY1305",
                ]
            )
        ),
        ids="-then-".join,
    )
    def test_the_client_s_order_of_suites_decides(
        self, suites: tuple[str, ...], tmp_path: Path
    ) -> None:
        leaf, file = authority().issue_cert("a.test"), tmp_path / "cert.pem"
        leaf.private_key_and_cert_chain_pem.write_to_path(str(file))
        context = client_context(BOTH, ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(":".join(suites))
        pipe, _ = connect(TlsSettings(TlsCert.pem_paths(file, file)), context)
        assert pipe.info is not None
        assert pipe.info.cipher == suites[0]

    @pytest.mark.parametrize("version", VERSIONS)
    def test_nothing_is_compressed(self, version: ssl.TLSVersion) -> None:
        _, client = connect(context=client_context(BOTH, version))
        assert client.ssl.compression() is None

    @pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
    def test_client_cannot_renegotiate(self) -> None:
        """RFC 9113 §9.2.1; TL-07, with the one client that can be told to ask."""
        pipe = ServerTlsPipe(settings())
        received: list[bytes] = []
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(TIMEOUT)
            port = listener.getsockname()[1]
            command = f"openssl s_client -connect 127.0.0.1:{port} -tls1_2"
            with (
                Child(
                    [*command.split(), "-servername", "a.test"],
                    stdin=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                ) as client,
                listener.accept()[0] as connection,
            ):
                connection.settimeout(TIMEOUT)
                assert client.stdin is not None
                client.stdin.write("hello\n")
                client.stdin.flush()
                asked = False
                while data := connection.recv(65536):
                    received.append(pipe.receive_data(data))
                    connection.sendall(pipe.data_to_send())
                    if b"hello\n" in received and not asked:
                        asked = True
                        client.stdin.write("R\n")
                        client.stdin.flush()
                output, _ = client.communicate()
        assert asked
        assert "RENEGOTIATING" in output
        assert "no renegotiation" in output
        assert b"".join(received) == b"hello\n"


class TestServerNames:
    def test_name_picks_the_certificate_and_keeps_alpn(self) -> None:
        # TL-09
        one, two = server_context("a.test"), server_context("b.test")
        tls = TlsSettings(
            TlsCert.sni(
                {"a.test": TlsCert.context(one), "b.test": TlsCert.context(two)},
                default=TlsCert.context(one),
            ),
            BOTH,
        )
        for host in ("a.test", "b.test"):
            pipe, client = connect(tls, client_context(("h2",)), host)
            cert = client.ssl.getpeercert()
            assert cert is not None
            assert cert["subjectAltName"] == (("DNS", host),)
            assert pipe.alpn == "h2"

    def test_unknown_name_without_default_is_refused(self) -> None:
        cert = TlsCert.sni({"a.test": TlsCert.context(server_context("a.test"))})
        tls = TlsSettings(cert, BOTH)
        pipe, reason = refused(tls, Client(client_context(), "c.test"))
        assert reason == "TLSV1_UNRECOGNIZED_NAME"
        assert pipe.error == "no certificate for the server name 'c.test'"

    def test_client_authentication_is_that_of_the_name(self) -> None:
        open_cert = TlsCert.context(server_context("a.test"))
        auth = ClientAuth.required(authority())
        closed = TlsCert.context(server_context("b.test"), client_auth=auth)
        tls = TlsSettings(TlsCert.sni({"a.test": open_cert, "b.test": closed}), BOTH)
        connect(tls, host="a.test")
        refused(tls, Client(client_context(), "b.test"))

    def test_resolver_is_asked_with_the_name(self) -> None:
        asked: list[str | None] = []
        context = server_context("a.test")

        def resolve(sni: str | None) -> ssl.SSLContext | None:
            asked.append(sni)
            return context if sni == "a.test" else None

        tls = TlsSettings(TlsCert.resolver(resolve), BOTH)
        pipe, _ = connect(tls, host="A.test")
        assert pipe.alpn == "h2"
        refused(tls, Client(client_context(), None))
        assert asked == ["a.test", None]

    @pytest.mark.parametrize("answer", [KeyError("x"), "not a context"])
    def test_resolver_that_fails_costs_one_connection(
        self, answer: object, caplog: pytest.LogCaptureFixture
    ) -> None:
        def resolve(sni: str | None) -> ssl.SSLContext | None:
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

        tls = TlsSettings(TlsCert.resolver(resolve), BOTH)
        pipe, reason = refused(tls, Client(client_context()))
        assert reason == "TLSV1_ALERT_INTERNAL_ERROR"
        assert pipe.error == "choosing a certificate failed"
        assert "choosing a certificate for 'a.test' failed" in caplog.text


class TestClientCertificates:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("make", [ClientAuth.optional, ClientAuth.required])
    def test_trusted_certificate_is_accepted_and_shown(
        self, version: ssl.TLSVersion, make: Callable[..., ClientAuth]
    ) -> None:
        context = client_context(BOTH, version)
        leaf = authority().issue_cert("alice@a.test")
        leaf.configure_cert(context)
        pipe, _ = connect(settings(auth=make(authority())), context)
        assert pipe.info is not None
        pem = leaf.cert_chain_pems[0].bytes().decode()
        assert pipe.info.peer_cert == ssl.PEM_cert_to_DER_cert(pem)

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("make", [ClientAuth.optional, ClientAuth.required])
    def test_untrusted_certificate_is_refused(
        self, version: ssl.TLSVersion, make: Callable[..., ClientAuth]
    ) -> None:
        context = client_context(BOTH, version)
        trustme.CA().issue_cert("mallory@a.test").configure_cert(context)
        pipe, reason = refused(settings(auth=make(authority())), Client(context))
        assert reason == "TLSV1_ALERT_UNKNOWN_CA"
        assert pipe.error is not None
        assert pipe.error.startswith("client certificate refused: ")
        assert pipe.complaint == pipe.error

    @pytest.mark.parametrize("version", VERSIONS)
    def test_no_certificate_is_fine_where_it_is_optional(
        self, version: ssl.TLSVersion
    ) -> None:
        auth = ClientAuth.optional(authority())
        pipe, _ = connect(settings(auth=auth), client_context(BOTH, version))
        assert pipe.info is not None
        assert pipe.info.peer_cert is None

    @pytest.mark.parametrize("version", VERSIONS)
    def test_no_certificate_is_refused_where_it_is_required(
        self, version: ssl.TLSVersion
    ) -> None:
        tls = settings(auth=ClientAuth.required(authority()))
        pipe, _ = refused(tls, Client(client_context(BOTH, version)))
        assert pipe.error == (
            "client certificate refused: peer did not return a certificate"
        )
        assert pipe.complaint == pipe.error
        assert pipe.info is None

    def test_a_client_that_refuses_ours_is_nothing_to_complain_of(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # trusts no authority
        pipe, client = ServerTlsPipe(settings()), Client(context)
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(pipe, client)
        pipe.receive_data(client.outgoing.read())
        assert pipe.failed
        assert pipe.complaint is None


class TestData:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(
        "size", [1, 70, 16_384, 16_385, 32_768, 100_000, 1_000_000]
    )
    def test_data_goes_both_ways(self, version: ssl.TLSVersion, size: int) -> None:
        pipe, client = connect(context=client_context(BOTH, version))
        data = random.Random(size).randbytes(size)
        assert pipe.receive_data(client.encrypt(data)) == data
        assert client.receive(pipe.data_to_send(data)) == data
        assert pipe.data_to_send() == b""

    def test_any_split_of_the_ciphertext_gives_the_same_plaintext(self) -> None:
        pipe, client = connect()
        choose = random.Random(5)
        for _ in range(100):
            sizes = [choose.choice((1, 70, 3000, 16_384)) for _ in range(5)]
            messages = [choose.randbytes(size) for size in sizes]
            sent = b"".join(map(client.encrypt, messages))
            received = b""
            while sent:
                cut = choose.choice((1, 5, 21, 1000, 20_000, 90_000))
                received += pipe.receive_data(sent[:cut])
                sent = sent[cut:]
            assert received == b"".join(messages)

    def test_record_cut_anywhere_comes_out_whole(self) -> None:
        pipe, client = connect()
        for cut in range(len(client.encrypt(b"x" * 40)) + 1):
            pipe, client = connect() if cut == 0 else (pipe, client)
            sent = client.encrypt(b"y" * 40)
            got = pipe.receive_data(sent[:cut]) + pipe.receive_data(sent[cut:])
            assert got == b"y" * 40

    def test_a_read_that_looks_like_a_record_but_goes_on_with_one(self) -> None:
        pipe, client = connect()
        data = random.Random(8).randbytes(5 * 16_384)
        sent = client.encrypt(data)
        start, rest = sent[:3], sent[3:]
        size = 5 + int.from_bytes(rest[3:5])  # what a record's head would promise there
        assert size <= len(rest)
        received = [pipe.receive_data(start), pipe.receive_data(rest[:size])]
        assert b"".join([*received, pipe.receive_data(rest[size:])]) == data

    def test_what_is_sent_comes_behind_what_is_queued(self) -> None:
        pipe, client = connect()
        sent = [pipe.data_to_send(data) for data in (b"one, ", b"", b"two")]
        pipe.close_notify()
        sent.append(pipe.data_to_send(b"too late"))
        assert client.receive(b"".join(sent)) == b"one, two"
        assert client.ended

    def test_large_send_leaves_the_memory_bio_small(self) -> None:
        # a BIO keeps its largest size, so this is what an idle connection costs
        pipe, client = connect()
        write, sizes = pipe._write, list[int]()

        def watched(data: bytes | memoryview) -> int:
            size = write(data)
            sizes.append(pipe._outgoing.pending)
            return size

        pipe._write = watched
        assert client.receive(pipe.data_to_send(bytes(1_000_000))) == bytes(1_000_000)
        assert 0 < max(sizes) < 40_000

    def test_pieces_are_what_is_queued_and_what_is_sent(self) -> None:
        pipe, client = connect()
        data = random.Random(9).randbytes(300_000)
        view = memoryview(data)
        pipe._write(b"first, ")
        pieces = pipe.pieces_to_send(view[:200_000])
        assert client.receive(b"".join(pieces)) == b"first, " + data[:200_000]
        assert max(map(len, pieces)) < 40_000
        assert client.receive(pipe.data_to_send(view[200_000:])) == data[200_000:]
        assert pipe.data_to_send() == b""

    def test_no_pieces_are_sent_behind_the_end(self) -> None:
        pipe, client = connect()
        pipe.close_notify()
        assert client.receive(b"".join(pipe.pieces_to_send(bytes(100_000)))) == b""
        assert client.ended
        assert pipe.pieces_to_send(bytes(100_000)) == []

    def test_no_pieces_are_made_before_the_handshake(self) -> None:
        with pytest.raises(LocalProtocolError):
            ServerTlsPipe(settings()).pieces_to_send(bytes(100_000))

    def test_empty_read_is_nothing(self) -> None:
        pipe, client = connect()
        assert pipe.receive_data(b"") == b""
        assert not pipe.peer_closed
        assert pipe.receive_data(client.encrypt(b"still here")) == b"still here"

    def test_damaged_record_fails_the_connection_with_an_alert(self) -> None:
        pipe, client = connect()
        good, bad = client.encrypt(b"good"), bytearray(client.encrypt(b"bad"))
        bad[-1] ^= 1
        assert pipe.receive_data(good + bytes(bad)) == b"good"
        assert pipe.error == "decryption failed or bad record mac"
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            client.receive(pipe.data_to_send())
        assert pipe.receive_data(client.outgoing.read()) == b""

    def test_encryption_that_fails_is_not_the_sender_s_concern(self) -> None:
        def broken(_: object) -> int:
            error = ssl.SSLError(1, "[SSL] internal error")
            error.reason = "INTERNAL_ERROR"  # OpenSSL's errors have one
            raise error

        pipe, _ = connect()
        pipe._write = broken
        assert pipe.data_to_send(b"x") == b""
        assert pipe.error == "internal error"

    def test_alert_of_the_peer_fails_the_connection(self) -> None:
        pipe, client = connect(context=client_context(BOTH, VERSIONS[0]))
        damaged = bytearray(pipe.data_to_send(b"x"))
        damaged[-1] ^= 1
        with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
            client.receive(bytes(damaged))
        assert pipe.receive_data(client.outgoing.read()) == b""
        assert pipe.error == "sslv3 alert bad record mac"


class TestEnd:
    """RFC 8446 §6.1; TL-13 to TL-15."""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_our_close_notify_is_a_clean_end_for_the_client(
        self, version: ssl.TLSVersion
    ) -> None:
        pipe, client = connect(context=client_context(BOTH, version))
        assert client.receive(pipe.data_to_send(b"bye")) == b"bye"
        pipe.close_notify()
        pipe.close_notify()
        assert client.receive(pipe.data_to_send()) == b""
        assert client.ended
        assert pipe.data_to_send(b"dropped") == b""
        pipe.close_notify()
        assert pipe.data_to_send() == b""
        assert pipe.error is None

    @pytest.mark.parametrize("version", VERSIONS)
    def test_close_notify_of_the_client_is_orderly(
        self, version: ssl.TLSVersion
    ) -> None:
        pipe, client = connect(context=client_context(BOTH, version))
        sent = client.encrypt(b"request") + client.goodbye()
        assert pipe.receive_data(sent) == b"request"
        assert pipe.peer_closed
        pipe.receive_eof()
        assert not pipe.truncated
        assert pipe.error is None

    def test_close_notify_alone_is_orderly(self) -> None:
        pipe, client = connect()
        assert pipe.receive_data(client.goodbye()) == b""
        assert pipe.peer_closed
        assert not pipe.failed

    def test_close_notify_in_a_long_read_is_orderly(self) -> None:
        pipe, client = connect()
        data = bytes(100_000)
        assert pipe.receive_data(client.encrypt(data) + client.goodbye()) == data
        assert pipe.peer_closed

    @pytest.mark.parametrize("size", [20, 200_000])
    def test_data_after_close_notify_is_ignored(self, size: int) -> None:
        pipe, client = connect()
        pipe.receive_data(client.goodbye())
        assert pipe.receive_data(bytes(size)) == b""
        assert pipe.error is None

    def test_close_notify_followed_by_much_is_orderly(self) -> None:
        pipe, client = connect()
        sent = client.encrypt(b"last") + client.goodbye() + bytes(100_000)
        assert pipe.receive_data(sent) == b"last"
        assert pipe.peer_closed
        assert pipe.error is None

    def test_answer_can_be_sent_after_the_client_closed_its_side(self) -> None:
        # RFC 8446 §6.1: each side closes its own direction
        pipe, client = connect(context=client_context(BOTH, VERSIONS[1]))
        pipe.receive_data(client.encrypt(b"request") + client.goodbye())
        assert client.receive(pipe.data_to_send(b"answer")) == b"answer"
        pipe.close_notify()

    @pytest.mark.parametrize("version", VERSIONS)
    def test_data_is_still_received_after_our_close_notify(
        self, version: ssl.TLSVersion
    ) -> None:
        pipe, client = connect(context=client_context(BOTH, version))
        late = client.encrypt(b"late")
        pipe.close_notify()
        assert pipe.receive_data(late) == b"late"
        assert client.receive(pipe.data_to_send()) == b""
        assert client.ended
        client.ssl.unwrap()
        assert pipe.receive_data(client.outgoing.read()) == b""
        assert pipe.peer_closed
        assert pipe.error is None

    def test_eof_without_close_notify_is_truncation(self) -> None:
        pipe, client = connect()
        sent = client.encrypt(b"half")
        assert pipe.receive_data(sent[:-3]) == b""
        pipe.receive_eof()
        assert pipe.truncated
        assert not pipe.peer_closed
        assert pipe.error is None


def count_pipes() -> int:
    return sum(isinstance(each, ServerTlsPipe) for each in gc.get_objects())


class TestHostilePeers:
    @pytest.mark.parametrize(
        "data",
        [
            b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
            b"G",
            b"options * HTTP/1.1\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ],
    )
    def test_plain_http_is_told_that_this_is_https(self, data: bytes) -> None:
        # TL-18
        pipe = ServerTlsPipe(settings())
        assert pipe.receive_data(data) == b""
        assert pipe.error == "plain HTTP instead of a TLS ClientHello"
        assert pipe.complaint is not None
        head, _, body = pipe.data_to_send().partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 400 Bad Request"
        assert b"connection: close" in lines
        assert b"content-length: %d" % len(body) in lines
        assert any(line.startswith(b"date: ") for line in lines)
        assert b"HTTPS" in body
        assert pipe.receive_data(b"more") == b""
        assert pipe.data_to_send() == b""

    def test_plain_head_is_answered_without_content(self) -> None:
        pipe = ServerTlsPipe(settings())
        pipe.receive_data(b"HEAD / HTTP/1.1\r\n\r\n")
        assert pipe.data_to_send().endswith(b"connection: close\r\n\r\n")

    @pytest.mark.parametrize(
        "data", [b"\x15\x03\x01\0\x02\x01\0", b"\x80\x2e\x01", b"\0"]
    )
    def test_other_bytes_are_refused_quietly(self, data: bytes) -> None:
        # TL-18
        pipe = ServerTlsPipe(settings())
        assert pipe.receive_data(data) == b""
        assert pipe.error is not None
        assert pipe.complaint is None
        assert pipe.data_to_send() == b""

    def test_plain_http_inside_a_handshake_is_not_answered_in_the_clear(self) -> None:
        pipe = ServerTlsPipe(settings())
        pipe.receive_data(Client(client_context(BOTH)).step())
        pipe.data_to_send()
        pipe.receive_data(b"GET / HTTP/1.1\r\n\r\n")
        assert pipe.failed
        assert b"HTTP" not in pipe.data_to_send()

    def test_hello_declared_as_16_megabytes_is_not_hoarded(self) -> None:
        # TL-19
        pipe = ServerTlsPipe(settings())
        tracemalloc.start()
        try:
            pipe.receive_data(b"\x16\x03\x01\x40\x00\x01\xff\xff\xff")
            for _ in range(100):
                pipe.receive_data(bytes(16_384))
            held, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert pipe.failed
        assert pipe.data_to_send() == Alert.DECODE_ERROR.record
        assert held < 16_384

    def test_refused_peer_leaves_no_garbage(self) -> None:
        tls = settings()
        gc.collect()
        gc.disable()
        before = count_pipes()
        try:
            for offers in (("foo",), BOTH):
                pipe = ServerTlsPipe(tls)
                pipe.receive_data(Client(client_context(offers)).step())
                del pipe
            assert count_pipes() == before
        finally:
            gc.enable()

    def test_changed_bytes_never_make_the_pipe_raise(self) -> None:
        choose = random.Random(9113)
        tls, context = settings(), client_context(BOTH)
        outcomes = set()
        for _ in range(300):
            pipe, client = ServerTlsPipe(tls), Client(context)
            plain = []
            for turn in range(6):
                try:
                    flight = client.step() if turn < 4 else client.encrypt(b"data")
                except ssl.SSLError:
                    break
                damaged = bytearray(flight)
                if damaged and choose.random() < 0.3:
                    damaged[choose.randrange(len(damaged))] ^= 1 << choose.randrange(8)
                plain.append(pipe.receive_data(bytes(damaged)))
                client.incoming.write(pipe.data_to_send())
            pipe.close_notify()
            pipe.receive_eof()
            assert b"".join(plain) in {b"", b"data", b"datadata"}
            outcomes.add((pipe.established, pipe.failed))
        assert outcomes >= {(True, False), (False, True), (True, True)}


def test_threads_share_settings() -> None:
    """Several loops in one process may use one listener's settings."""
    tls = settings()
    results: list[str | None] = []

    def many() -> None:
        results.extend(connect(tls)[0].alpn for _ in range(20))

    threads = [threading.Thread(target=many, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert results == ["h2"] * 80


class TestRecordsWithoutData:
    """RFC 8446 §5.1 and §4.6.3 allow any number of them; no client needs many."""

    def peer(self, turn: Turn | None = None) -> tuple[ServerTlsPipe, TlsRecords]:
        pipe = ServerTlsPipe(settings(), turn)

        def send(data: bytes) -> bytes:
            assert pipe.receive_data(data) == b""
            return pipe.data_to_send()

        return pipe, TlsRecords(send)

    @pytest.mark.parametrize("together", [True, False])
    def test_key_updates_without_end_close_the_connection(self, together: bool) -> None:
        pipe, tls = self.peer()
        records = [tls.key_update() for _ in range(33)]
        for read in [b"".join(records)] if together else records:
            assert not pipe.failed
            pipe.receive_data(read)
        assert pipe.failed
        assert pipe.ended
        assert pipe.data_to_send(), "an alert"

    def test_thirty_two_are_taken_and_data_makes_up_for_them(self) -> None:
        pipe, tls = self.peer()
        for _ in range(3):
            pipe.receive_data(b"".join(tls.key_update() for _ in range(32)))
            data = b"".join(tls.record(b"x") for _ in range(32))
            assert pipe.receive_data(data) == b"x" * 32

    def test_empty_records_without_end_close_the_connection(self) -> None:
        pipe, tls = self.peer()
        pipe.receive_data(b"".join(tls.record() for _ in range(40)))
        assert pipe.failed

    def test_empty_records_in_between_do_not_let_them_go_on(self) -> None:
        pipe, tls = self.peer()
        few = b"".join(tls.record() for _ in range(8))
        for _ in range(5):
            pipe.receive_data(few + tls.record(b"x"))
            few = b"".join(tls.record() for _ in range(8))
        assert pipe.failed


class TestTurns:
    def test_what_a_turn_has_no_time_for_waits(self) -> None:
        calls: list[Callable[[], None]] = []
        now = 0.0

        def clock() -> float:
            nonlocal now
            now += 0.001
            return now

        turn = Turn(clock, calls.append, lambda: None)
        pipe, tls = TestRecordsWithoutData().peer(turn)
        records = b"".join(tls.record(b"%03d" % n) for n in range(300))
        plain, turns = pipe.receive_data(records), 1
        assert pipe.backlog
        while pipe.backlog:
            assert turn.over
            calls.pop()()
            plain += pipe.receive_data(b"")
            turns += 1
        assert plain == b"".join(b"%03d" % n for n in range(300))
        assert turns > 3
