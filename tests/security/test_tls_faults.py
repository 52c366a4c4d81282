"""TLS from the outside: what is refused, what is bounded, how connections end.

The rows TL-01 to TL-19 of the security list, each under its number.
"""

import itertools
import ssl
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from tako import ServerConfig
from tako.testing.peer.frames import raw_frame
from tako.testing.peer.io import READ_SIZE
from tako.testing.peer.websocket import encode_frame
from tako.tls import ClientAuth, ReloadableResolver, TlsCert
from tests.support.attack import (
    CONTEXTS,
    HELLO,
    Attacker,
    RawH2,
    client_context,
    literal_block,
    parse_answers,
)
from tests.support.children import run_child
from tests.support.patience import NEVER, TIMEOUT
from tests.support.server import Credentials, RuntimeName, open_sockets
from tests.support.victim import Victim, eventually


GET = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
CLIENT_HELLO_START = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
HUGE_CLIENT_HELLO = b"\x16\x03\x01\x40\x00\x01\xff\xff\xff\x03\x03"


@pytest.fixture
def attack(runtime: RuntimeName, credentials: Credentials) -> Iterator["Attack"]:
    """Start victims over TLS and check them at the end."""
    found = Attack(runtime, credentials)
    yield found
    for victim in found.victims:
        victim.__exit__(None, None, None)


class Attack:
    """Makes victims on one runtime."""

    def __init__(self, runtime: RuntimeName, credentials: Credentials) -> None:
        self._runtime = runtime
        self._credentials = credentials
        self.victims: list[Victim] = []

    def __call__(
        self, config: ServerConfig | None = None, *, tls: TlsCert | None = None
    ) -> Victim:
        victim = Victim(self._credentials, self._runtime, "h2", config, tls=tls)
        self.victims.append(victim.__enter__())
        return victim


def _h1(victim: Victim) -> Attacker:
    return Attacker(victim.address, CONTEXTS["h1s"])


def _get_over_h2(peer: RawH2, authority: str = "localhost", stream: int = 1) -> int:
    pseudo = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", authority),
        (":path", "/x"),
    ]
    peer.send(raw_frame(1, 5, stream, literal_block(pseudo)))
    assert peer.pump(lambda: peer.gone(stream))
    return peer.statuses[stream][-1]


class TestNegotiation:
    def test_tl_01_alpn_h2_gets_http_2(self, attack: Attack) -> None:
        victim = attack()
        with victim.h2() as peer:
            assert isinstance(peer, RawH2)
            peer.send(HELLO)
            assert _get_over_h2(peer) == 200
        victim.settle()

    def test_tl_02_without_alpn_there_is_no_http_2(self, attack: Attack) -> None:
        victim = attack()
        with Attacker(victim.address, CONTEXTS["no-alpn"]) as peer:
            peer.send(HELLO)
            assert peer.read_to_end() == "eof"
            (answer,) = parse_answers(bytes(peer.received)).complete
            assert answer.status in {400, 505}
        victim.settle()

    @pytest.mark.parametrize("protocol", ["foo", "h2c", "h3"])
    def test_tl_03_no_common_protocol_is_an_alert(
        self, attack: Attack, protocol: str
    ) -> None:
        victim = attack()
        with pytest.raises(ssl.SSLError, match="no application protocol"):
            Attacker(victim.address, client_context([protocol]))
        victim.settle()

    def test_tl_04_the_server_prefers_h2(self, attack: Attack) -> None:
        victim = attack()
        with Attacker(victim.address, client_context(["http/1.1", "h2"])) as peer:
            assert isinstance(peer.socket, ssl.SSLSocket)
            assert peer.socket.selected_alpn_protocol() == "h2"
        victim.settle()

    def test_tl_05_tls_1_1_is_refused(self, attack: Attack) -> None:
        victim = attack()
        context = client_context(["h2"])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = ssl.TLSVersion.TLSv1_1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="protocol version"):
            Attacker(victim.address, context)
        victim.settle()

    @pytest.mark.parametrize(
        "suite",
        [
            "ECDHE-ECDSA-AES128-SHA256",
            "ECDHE-ECDSA-AES256-SHA384",
            "ECDHE-RSA-AES128-SHA256",
            "AES128-GCM-SHA256",
        ],
    )
    def test_tl_06_a_prohibited_suite_is_refused(
        self, attack: Attack, suite: str
    ) -> None:
        victim = attack()
        context = client_context(["h2"])
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(f"{suite}:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError, match="handshake failure"):
            Attacker(victim.address, context)
        victim.settle()

    def test_tl_07_a_client_cannot_renegotiate(self, attack: Attack) -> None:
        victim = attack()
        host, port = victim.address
        command = f"openssl s_client -connect {host}:{port} -tls1_2 -alpn http/1.1"
        asked = run_child(command.split(), input="R\n")
        output = asked.stdout + asked.stderr
        assert "RENEGOTIATING" in output
        assert "no renegotiation" in output
        victim.settle()

    @pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
    def test_tl_08_nothing_is_compressed(self, attack: Attack, version: str) -> None:
        victim = attack()
        context = client_context(["h2"])
        context.maximum_version = context.minimum_version = ssl.TLSVersion[version]
        with Attacker(victim.address, context) as peer:
            assert isinstance(peer.socket, ssl.SSLSocket)
            assert peer.socket.compression() is None
        victim.settle()


class TestNames:
    def test_tl_09_the_name_chooses_certificate_and_keeps_alpn(
        self, attack: Attack, ca: trustme.CA, tmp_path: Path
    ) -> None:
        victim = attack(tls=_two_names(ca, tmp_path))
        context = client_context(["h2"])
        ca.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = True
        with RawH2(victim.address, context) as peer:
            assert isinstance(peer, RawH2)
        with Attacker(victim.address, context, server_name="b.test") as peer:
            assert isinstance(peer.socket, ssl.SSLSocket)
            assert peer.socket.selected_alpn_protocol() == "h2"
        victim.settle()

    def test_tl_16_an_authority_of_another_certificate_is_misdirected(
        self, attack: Attack, ca: trustme.CA, tmp_path: Path
    ) -> None:
        victim = attack(tls=_two_names(ca, tmp_path))
        with victim.h2() as peer:
            assert isinstance(peer, RawH2)
            peer.send(HELLO)
            assert _get_over_h2(peer, "localhost") == 200
            assert _get_over_h2(peer, "b.test", 3) == 421
            assert _get_over_h2(peer, "localhost", 5) == 200
            assert not peer.goaways
        victim.settle()

    @pytest.mark.parametrize("way", ["by name", "nested", "resolver"])
    def test_tl_16_no_form_of_the_authority_gets_past_client_authentication(
        self, attack: Attack, ca: trustme.CA, tmp_path: Path, way: str
    ) -> None:
        victim = attack(tls=_one_closed_name(ca, tmp_path, way))
        with victim.h2() as peer:
            assert isinstance(peer, RawH2)
            peer.send(HELLO)
            wanted = {"b.test": 421, "B.test:443": 421, "b.test.": 421}
            wanted |= {"localhost": 200, "localhost.": 200, "alias.test": 200}
            for number, (authority, status) in enumerate(wanted.items()):
                assert _get_over_h2(peer, authority, 2 * number + 1) == status
            assert not peer.goaways
        for target, host, status in (
            ("/x", "b.test", 421),
            ("/x", "B.TEST.:1", 421),
            ("https://b.test/x", "localhost", 421),
            ("http://b.test/x", "localhost", 421),
            ("https://localhost/x", "b.test", 200),  # RFC 9112 §3.2.2: Host is ignored
            ("/x", "alias.test", 200),
        ):
            with _h1(victim) as peer:
                head = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n"
                peer.send(head.encode() + b"\r\n")
                peer.read_to_end()
                answers = parse_answers(bytes(peer.received)).final
                assert [answer.status for answer in answers] == [status], (target, host)
        for target in ("/ws", "https://b.test/ws"):
            with _h1(victim) as peer:
                request = UPGRADE.replace(b"/ws", target.encode(), 1)
                peer.send(request.replace(b"Host: localhost", b"Host: b.test"))
                assert peer.pump(lambda: b"\r\n\r\n" in peer.received)
                assert peer.received.startswith(b"HTTP/1.1 421 ")
        assert not victim.ledger.of("session")
        victim.settle()

    def test_tl_17_files_behind_names_and_client_authentication_are_watched(
        self, attack: Attack, ca: trustme.CA, tmp_path: Path
    ) -> None:
        files = _leaf(ca, tmp_path, "localhost")
        cert = TlsCert.pem_paths(*files)
        closed = TlsCert.pem_paths(*files, client_auth=ClientAuth.optional(ca))
        victim = attack(tls=TlsCert.sni({"*.test": cert}, default=closed))
        first = _certificate(victim)
        _leaf(ca, tmp_path, "localhost")
        eventually(lambda: _certificate(victim) != first, "the new certificate", 10)
        victim.settle()

    def test_tl_17_a_new_certificate_serves_new_handshakes_only(
        self, attack: Attack, ca: trustme.CA, tmp_path: Path
    ) -> None:
        cert, key = _leaf(ca, tmp_path, "localhost")
        victim = attack(tls=TlsCert.resolver(ReloadableResolver.from_pem(cert, key)))
        first = _certificate(victim)
        _leaf(ca, tmp_path, "localhost")
        eventually(lambda: _certificate(victim) != first, "the new certificate", 10)
        second = _certificate(victim)
        cert.write_text("no certificate")
        eventually(lambda: bool(victim.log.found), "the broken file is logged", 10)
        assert "keeping the old certificate" in victim.log.found.pop()
        assert "keeping" in victim.server.wait_error().getMessage()
        assert _certificate(victim) == second
        victim.settle()


def _leaf(ca: trustme.CA, folder: Path, *names: str) -> tuple[Path, Path]:
    leaf = ca.issue_cert(*names)
    cert, key = folder / f"{names[0]}.pem", folder / f"{names[0]}.key"
    for path, data in (
        (key, leaf.private_key_pem.bytes()),
        (cert, b"".join(blob.bytes() for blob in leaf.cert_chain_pems)),
    ):
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.replace(path)
    return cert, key


def _two_names(ca: trustme.CA, folder: Path) -> TlsCert:
    first = TlsCert.pem_paths(*_leaf(ca, folder, "localhost"))
    second = TlsCert.pem_paths(*_leaf(ca, folder, "b.test"))
    return TlsCert.sni({"localhost": first, "b.test": second})


def _one_closed_name(ca: trustme.CA, folder: Path, way: str) -> TlsCert:
    """Return certificates of which b.test's asks for those of clients."""
    first = TlsCert.pem_paths(*_leaf(ca, folder, "localhost"))
    files, auth = _leaf(ca, folder, "b.test"), ClientAuth.required(ca)
    second = TlsCert.pem_paths(*files, client_auth=auth)
    certs = {"localhost": first, "alias.test": first, "b.test": second}
    if way == "resolver":
        return TlsCert.resolver(lambda sni: certs.get(sni or "localhost"))
    names = TlsCert.sni(certs, default=first)
    return TlsCert.sni({"*.test": names}, default=names) if way == "nested" else names


def _certificate(victim: Victim) -> bytes:
    with _h1(victim) as peer:
        assert isinstance(peer.socket, ssl.SSLSocket)
        found = peer.socket.getpeercert(binary_form=True)
        assert found is not None
        return found


class TestHandshakesThatDoNotEnd:
    def test_tl_10_silence_and_dribble_are_closed_in_time(self, attack: Attack) -> None:
        victim = attack(ServerConfig(tls_handshake_timeout=2))
        peers = [Attacker(victim.address) for _ in range(300)]
        for number, peer in enumerate(peers):
            peer.send(CLIENT_HELLO_START[: number % 5])
        for peer in peers:
            with peer:
                assert peer.read_to_end() in {"eof", "reset"}
        victim.settle()

    def test_tl_10_a_byte_now_and_then_does_not_help(self, attack: Attack) -> None:
        victim = attack(ServerConfig(tls_handshake_timeout=2))
        with Attacker(victim.address) as peer:
            end = time.monotonic() + TIMEOUT
            for byte in itertools.cycle(CLIENT_HELLO_START):
                peer.send(bytes((byte,)))
                peer.pump(lambda: False, 0.05)
                if peer.ending is not None:
                    break
                assert time.monotonic() < end, "a byte now and then buys time"
        victim.settle()

    def test_tl_11_unfinished_handshakes_delay_no_client(self, attack: Attack) -> None:
        config = ServerConfig(max_tls_handshakes=100, tls_handshake_timeout=NEVER)
        victim = attack(config)
        peers = [Attacker(victim.address) for _ in range(200)]
        for peer in peers:
            peer.send(CLIENT_HELLO_START)
        with victim.server.connect("h1s") as newcomer:
            assert newcomer.request("GET", "/").status == 200
        for peer in peers:
            peer.pump(lambda: False, 0)
        # the oldest made room for the others
        assert sum(peer.ending is not None for peer in peers) >= 100
        for peer in peers:
            peer.socket.close()
        victim.settle()

    def test_tl_18_plain_http_is_told_so_and_costs_one_line(
        self, attack: Attack, caplog: pytest.LogCaptureFixture
    ) -> None:
        victim = attack()
        with caplog.at_level("INFO", "tako"):
            for number in range(200):
                with Attacker(victim.address) as peer:
                    peer.send(GET)
                    assert peer.read_to_end() == "eof"
                    assert peer.received.startswith(b"HTTP/1.1 400 "), number
                    assert b"HTTPS" in peer.received
        told = [r for r in caplog.records if "plain HTTP on a port" in r.getMessage()]
        assert len(told) == 1
        assert "127.0.0.1" in told[0].getMessage()
        victim.settle()

    def test_a_client_without_a_certificate_is_told_of_once(
        self, attack: Attack, ca: trustme.CA, tmp_path: Path, caplog: Any
    ) -> None:
        victim = attack(tls=_one_closed_name(ca, tmp_path, "by name"))
        with caplog.at_level("INFO", "tako"):
            for _ in range(5):
                with Attacker(
                    victim.address, CONTEXTS["h1s"], server_name="b.test"
                ) as peer:
                    assert peer.read_to_end() in {"eof", "ragged", "reset"}
        told = [r for r in caplog.records if "client certificate" in r.getMessage()]
        assert len(told) == 1
        assert "peer did not return a certificate" in told[0].getMessage()
        assert "127.0.0.1" in told[0].getMessage()
        victim.settle()

    def test_tl_19_a_huge_client_hello_is_not_kept(self, attack: Attack) -> None:
        victim = attack(ServerConfig(tls_handshake_timeout=5))
        with Attacker(victim.address) as peer:
            peer.send(HUGE_CLIENT_HELLO + bytes(16_379))
            record = b"\x16\x03\x01\x40\x00" + bytes(16_384)
            peer.send(record * 60)
            assert peer.read_to_end() in {"eof", "reset"}
        victim.settle()


class TestTheEnd:
    def test_tl_12_our_close_notify_needs_no_answer(self, attack: Attack) -> None:
        victim = attack(ServerConfig(tls_shutdown_timeout=0.3))
        before = open_sockets()
        with _h1(victim) as peer:
            peer.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            assert peer.pump(lambda: b"/x 0" in peer.received)
            # ours stays open, the server's must go
            eventually(lambda: len(open_sockets() - before) == 1, "the socket is freed")
        victim.settle()

    @pytest.mark.parametrize(
        "last_words",
        [
            GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
            b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
            UPGRADE + encode_frame(8, b"\x03\xe8"),
            UPGRADE + b"\x81\x02hi",
        ],
        ids=["response", "400", "close", "violation"],
    )
    def test_tl_13_every_end_is_a_close_notify(
        self, attack: Attack, last_words: bytes
    ) -> None:
        victim = attack()
        with _h1(victim) as peer:
            peer.send(last_words)
            assert peer.read_to_end() == "eof"
        victim.settle()

    @pytest.mark.parametrize("wire", ["h1s", "h2"])
    def test_tl_13_a_drain_is_a_close_notify(self, attack: Attack, wire: str) -> None:
        victim = attack()
        with Attacker(victim.address, CONTEXTS[wire]) as peer:
            peer.send(GET if wire == "h1s" else HELLO)
            peer.pump(lambda: bool(peer.received))
            victim.canary.stop()
            victim.server.shut_down()
            assert peer.read_to_end() == "eof"

    def test_tl_14_a_fin_inside_a_body_is_no_end(self, attack: Attack) -> None:
        victim = attack()
        with _h1(victim) as peer:
            peer.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
            eventually(lambda: bool(victim.ledger.entries), "the handler is entered")
            peer.half_close()
            peer.read_to_end()
        (entry,) = victim.ledger.of("handler")
        eventually(lambda: entry.ended, "the handler ends")
        assert entry.error is not None
        victim.settle()

    def test_tl_14_a_fin_inside_a_message_is_1006(self, attack: Attack) -> None:
        victim = attack()
        with _h1(victim) as peer:
            peer.send(UPGRADE + encode_frame(1, b"hello")[:8])
            assert peer.pump(lambda: b"101" in peer.received)
            peer.half_close()
            peer.read_to_end()
        (entry,) = victim.ledger.of("session")
        eventually(lambda: entry.ended, "the session ends")
        assert (entry.messages, entry.close_code) == ([], 1006)
        victim.settle()

    @pytest.mark.parametrize("wire", ["h1s", "h2"])
    def test_tl_15_close_notify_behind_the_request(
        self, attack: Attack, wire: str
    ) -> None:
        victim = attack()
        h2_get = HELLO + raw_frame(1, 5, 1, b"\x82\x87\x84\x01\x01a")
        received = _close_notify_behind(
            victim.address, CONTEXTS[wire], GET if wire == "h1s" else h2_get
        )
        if wire == "h1s":
            assert [a.status for a in parse_answers(received).complete] in ([], [200])
        victim.settle()


def _close_notify_behind(
    address: tuple[str, int], context: ssl.SSLContext, data: bytes
) -> bytes:
    """Send ``data`` and close_notify in one segment; return what still comes."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with Attacker(address) as peer:

        def exchange() -> None:
            peer.send(outgoing.read())
            peer.pump(lambda: bool(peer.received))
            incoming.write(bytes(peer.received))
            peer.received.clear()

        _again(tls.do_handshake, exchange)
        tls.write(data)
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        peer.send(outgoing.read())
        peer.read_to_end()
        incoming.write(bytes(peer.received))
        incoming.write_eof()
        received = b""
        try:
            while piece := tls.read(READ_SIZE):
                received += piece
        except ssl.SSLError:
            pass  # our own close_notify has ended this direction for OpenSSL
        return received


def _again(step: Callable[[], object], feed: Callable[[], object]) -> None:
    while True:
        try:
            step()
        except ssl.SSLWantReadError:
            feed()
        else:
            return
